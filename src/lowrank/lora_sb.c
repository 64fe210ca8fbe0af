/* lora_sb.c - a trained r x r core between two frozen factors: LoRA-XS (Balazy et al. 2024, arXiv:2405.17604) and LoRA-SB (Ponkshe et al.
 * 2024, arXiv:2411.19557).
 *
 *     y = y0 + s ((x A^T) R^T) B^T          A [r, in], R [r, r], B [out, r], s = alpha / r
 *
 *     lora-xs   B = U_r, A = diag(S_r) V_r^T of the weight W = U S V^T, R normal with a deviation of 1e-5
 *     lora-sb   D = -eta sign(G) (start raw: -eta G), the first step that AdamW would take, G the gradient over the calibration batches;
 *               B = U_r, A = V_r^T of D, R = diag(S_r) / s: the model starts at W + the best rank-r approximation of that step
 *
 * With orthonormal factors and s = 1 the gradient s B^T G A^T of R is the projection of the full one: nothing is left to adjust. With
 * `keep` the start is subtracted in the forward pass, so that the model starts as the base. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "lowrank/pair.h"
#include "lowrank/spectrum.h"
#include "lowrank/start.h"

typedef struct {
    int64_t     rank;
    double      alpha, step, dropout;
    const char *start;
    bool        keep;
} options;

typedef struct {
    crank_param *A, *B, *R, *R0; /* R0: with keep */
    double       scale;
    float       *G;     /* [out, in] while calibration runs */
    int64_t      rows;
    spectrum     top;   /* of the step; s times eta */
    bool         found;
} state;

#define COMMON_OPTIONS                                                                                                                 \
    CRANK_INT(options, rank, 16, 1, 65536, "size of the trained core"),                                                                \
    CRANK_FLOAT(options, alpha, 0, 0, 1e9, "the update is scaled by alpha / rank; 0: alpha = rank, a scale of 1"),                     \
    CRANK_FLOAT(options, dropout, 0, 0, 0.999, "share of the inputs of the update's branch that is dropped in training")

static const crank_option xs_table[] = { COMMON_OPTIONS, CRANK_END };
static const crank_option sb_table[] = {
    COMMON_OPTIONS,
    CRANK_FLOAT(options, step, 1e-5, 0, 1e3, "eta, the length of the first step that the start is made of: the rate of the first warm-up step"),
    CRANK_CHOICE(options, start, "sign", "sign|raw", "the step is the gradient's sign (AdamW's) or the gradient itself"),
    CRANK_BOOL(options, keep, false, "subtract the start, so that the model starts as the base"),
    CRANK_END
};

/* ---- calibration (lora-sb) ---- */

static size_t calibrate_bytes(const crank_site *site, size_t *last)
{
    *last = spectrum_bytes(site->linear->out, site->linear->in, ((const options *)site->options)->rank);
    return (size_t)(site->linear->in * site->linear->out) * sizeof(float);
}

static crank_status check_rank(crank_context *context, const crank_site *site)
{
    const options      *o = site->options;
    const crank_linear *linear = site->linear;
    if (o->rank <= (linear->in < linear->out ? linear->in : linear->out)) return CRANK_OK;
    return crank_fail(context, CRANK_USAGE, "%s is a %lld x %lld map: a core of %lld is more than it has; lower lowrank.rank, or give it one by rank_pattern",
                      linear->name, (long long)linear->out, (long long)linear->in, (long long)o->rank);
}

static crank_status decompose(crank_context *context, crank_site *site, state *st)
{
    const options      *o = site->options;
    const crank_linear *linear = site->linear;
    bool                sign = strcmp(o->start, "sign") == 0;
    crank_status        status = check_rank(context, site);
    if (status) return status;
    if (st->rows < o->rank)
        return crank_fail(context, CRANK_BAD_DATA,
                          "lora-sb: %s has seen %lld tokens in calibration, too few for a core of %lld directions: raise lowrank.calibration.batches, or lower lowrank.rank",
                          linear->name, (long long)st->rows, (long long)o->rank);
    if (gradient_is_zero(linear, st->G)) {
        crank_log(context, CRANK_WARNING, "lora-sb: the gradient of %s is zero: it starts in the weight's own directions, as LoRA-XS", linear->name);
        return CRANK_OK;
    }
    for (int64_t i = 0; i < linear->in * linear->out; i++) st->G[i] = !sign ? -st->G[i] : st->G[i] > 0 ? -1.0f : st->G[i] < 0 ? 1.0f : 0.0f;
    crank_stream stream = crank_stream_make(site->seed, CRANK_RANDOM_INIT, crank_hash_name(linear->name));
    status = spectrum_of(context, st->G, linear->out, linear->in, o->rank, stream, &st->top);
    st->found = status == CRANK_OK;
    return status;
}

static crank_status calibrate(crank_context *context, crank_site *site, const crank_observation *batch)
{
    state *st = site->state;
    if (batch) {
        st->rows += batch->n;
        return gradient_add(context, site->linear, batch, &st->G);
    }
    if (!st->G) return CRANK_OK; /* nothing was seen: values come from a file */
    crank_status status = decompose(context, site, st);
    crank_free(st->G);
    st->G = NULL;
    return status;
}

/* ---- start ---- */

/* B = U, A = diag(a) V^T */
static crank_status write_factors(crank_context *context, const state *st, const spectrum *from, bool scaled)
{
    for (int64_t k = 0; scaled && k < from->r; k++)
        for (int64_t i = 0; i < from->n; i++) from->Vt[k * from->n + i] = (float)(from->s[k] * (double)from->Vt[k * from->n + i]);
    crank_status status = crank_param_write(context, st->A, from->Vt, CRANK_F32);
    return status ? status : crank_param_write(context, st->B, from->U, CRANK_F32);
}

static crank_status write_core(crank_context *context, const options *o, const state *st)
{
    int64_t r = o->rank;
    float  *R = crank_alloc(context, (size_t)(r * r), sizeof *R, "a core");
    if (!R) return CRANK_FAILED;
    for (int64_t k = 0; k < r; k++) R[k * r + k] = (float)(o->step * st->top.s[k] / st->scale);
    crank_status status = crank_param_write(context, st->R, R, CRANK_F32);
    if (status == CRANK_OK && st->R0) status = crank_param_write(context, st->R0, R, CRANK_F32);
    crank_free(R);
    return status;
}

static crank_status start_from_weight(crank_context *context, crank_site *site, const state *st)
{
    spectrum     w;
    crank_status status = spectrum_of_weight(context, site, ((const options *)site->options)->rank, &w);
    if (status) return status;
    status = write_factors(context, st, &w, true);
    spectrum_free(&w);
    return status ? status : start_normal(context, site, st->R, 1e-5);
}

static crank_status add_params(crank_context *context, crank_site *site, bool keep)
{
    const options *o = site->options;
    state         *st = site->state;
    int64_t        r = o->rank;
    crank_status   status = check_rank(context, site);
    if (status) return status;
    st->scale = o->alpha > 0 ? o->alpha / (double)r : 1;
    st->A = crank_site_param(context, site, "A", CRANK_F32, 2, (const int64_t[]){ r, site->linear->in }, false);
    st->B = crank_site_param(context, site, "B", CRANK_F32, 2, (const int64_t[]){ site->linear->out, r }, false);
    st->R = crank_site_param(context, site, "R", CRANK_F32, 2, (const int64_t[]){ r, r }, true);
    if (keep) st->R0 = crank_site_param(context, site, "R0", CRANK_F32, 2, (const int64_t[]){ r, r }, false);
    return st->A && st->B && st->R && (!keep || st->R0) ? CRANK_OK : crank_last_status(context);
}

static bool no_values(const crank_site *site, const state *st) { return !st->A->view.data || !site->linear->weight->view.data; }

static crank_status attach_xs(crank_context *context, crank_site *site)
{
    state       *st = site->state;
    crank_status status = add_params(context, site, false);
    return status || no_values(site, st) ? status : start_from_weight(context, site, st);
}

static crank_status attach_sb(crank_context *context, crank_site *site)
{
    const options *o = site->options;
    state         *st = site->state;
    crank_status   status = add_params(context, site, o->keep);
    if (status || no_values(site, st)) return status;
    if (!st->found) return start_from_weight(context, site, st);
    status = write_factors(context, st, &st->top, false);
    if (status == CRANK_OK) status = write_core(context, o, st);
    spectrum_free(&st->top);
    st->found = false;
    return status;
}

/* ---- recording ---- */

/* x [n, in], y0 [n, out] from what stands below -> y [n, out] */
static crank_tensor *forward(crank_graph *graph, crank_site *site, crank_tensor *x, crank_tensor *y0)
{
    const options *o = site->options;
    const state   *st = site->state;
    crank_dtype    compute = crank_graph_compute(graph);
    crank_tensor  *R = crank_use(graph, st->R), *B = crank_cast(crank_use(graph, st->B), compute);
    if (st->R0) R = crank_sub(R, crank_use(graph, st->R0));
    if (o->dropout > 0 && crank_graph_training(graph)) x = crank_dropout(x, o->dropout);
    crank_tensor *u = crank_linear_down(graph, site->linear, x, crank_use(graph, st->A)); /* [n, r] */
    crank_tensor *v = crank_matmul(u, false, crank_cast(R, compute), true);
    return crank_add(y0, crank_matmul_full(v, false, B, true, st->scale, NULL, NULL, CRANK_DTYPES));
}

/* A' = R A, B' = B */
static crank_status as_lora(crank_context *context, crank_site *site, int64_t *rank, double *scale, float **A, float **B)
{
    const state *st = site->state;
    int64_t      r = st->R->view.dims[0], in = site->linear->in;
    float       *a = crank_alloc(context, (size_t)(r * in), sizeof *a, "a factor"), *b = crank_alloc(context, (size_t)(site->linear->out * r), sizeof *b, "a factor");
    float       *old = crank_alloc(context, (size_t)(r * in), sizeof *old, "a factor"), *R = crank_alloc(context, (size_t)(2 * r * r), sizeof *R, "a core");
    crank_status status = a && b && old && R ? CRANK_OK : CRANK_FAILED;
    if (status == CRANK_OK) status = crank_param_read(context, st->A, old, CRANK_F32);
    if (status == CRANK_OK) status = crank_param_read(context, st->B, b, CRANK_F32);
    if (status == CRANK_OK) status = crank_param_read(context, st->R, R, CRANK_F32);
    if (status == CRANK_OK && st->R0) status = crank_param_read(context, st->R0, R + r * r, CRANK_F32);
    for (int64_t k = 0; status == CRANK_OK && k < r; k++)
        for (int64_t i = 0; i < in; i++) {
            double sum = 0;
            for (int64_t j = 0; j < r; j++) sum += ((double)R[k * r + j] - (double)R[r * r + k * r + j]) * (double)old[j * in + i];
            a[k * in + i] = (float)sum;
        }
    crank_free(old), crank_free(R);
    return pair_give(status, r, st->scale, a, b, rank, scale, A, B);
}

/* ---- files of the authors: a LoRA of PEFT with a core beside its factors ---- */

static crank_status read_keys(crank_context *context, const json_t *config, void *out)
{
    static const char where[] = "adapter_config.json";
    int64_t           rank;
    double            alpha, dropout;
    bool              root, dora;
    crank_status      status = json_get_int(context, config, "r", 1, 65536, 8, &rank, where);
    if (status == CRANK_OK) status = json_get_number(context, config, "lora_alpha", 8, &alpha, where);
    if (status == CRANK_OK) status = json_get_number(context, config, "lora_dropout", 0, &dropout, where);
    if (status == CRANK_OK) status = json_get_bool(context, config, "use_rslora", false, &root, where);
    if (status == CRANK_OK) status = json_get_bool(context, config, "use_dora", false, &dora, where);
    if (status == CRANK_OK && (dora || !(alpha > 0)))
        status = crank_fail(context, CRANK_BAD_DATA, "%s: a core between the factors goes with neither `use_dora` nor a `lora_alpha` of 0", where);
    if (status) return status;
    const struct {
        const char *key;
        double      value;
    } values[] = { { "rank", (double)rank }, { "alpha", root ? alpha * sqrt((double)rank) : alpha }, { "dropout", dropout } };
    for (int i = 0; status == CRANK_OK && i < 3; i++) {
        char text[40];
        snprintf(text, sizeof text, "%.17g", values[i].value);
        status = crank_options_set(context, xs_table, out, values[i].key, text, where);
    }
    return status;
}

static crank_status peft_options(crank_context *context, const char *text, void *out)
{
    json_t *config = json_parse(context, text, strlen(text), "adapter_config.json");
    if (!config) return crank_last_status(context);
    crank_status status = read_keys(context, config, out);
    json_decref(config);
    return status;
}

static const char *peft_name(const crank_site *site, const char *name)
{
    (void)site;
    return strcmp(name, "A") == 0 ? "lora_A.weight" : strcmp(name, "B") == 0 ? "lora_B.weight" : "_lora_latent_mapping.weight";
}

static void release(crank_site *site)
{
    state *st = site->state;
    if (!st) return;
    crank_free(st->G);
    st->G = NULL;
    spectrum_free(&st->top);
}

const crank_map crank_map_lora_xs = {
    .name         = "lora-xs",
    .paper        = "arXiv:2405.17604",
    .summary      = "a trained r x r core between frozen singular vectors of the weight",
    .options      = xs_table,
    .options_size = sizeof(options),
    .state_size   = sizeof(state),
    .affine       = true,
    .needs_base   = "dense",
    .attach       = attach_xs,
    .forward      = forward,
    .as_lora      = as_lora,
    .peft_options = peft_options,
    .peft_name    = peft_name,
};

const crank_map crank_map_lora_sb = {
    .name            = "lora-sb",
    .paper           = "arXiv:2411.19557",
    .summary         = "a trained r x r core between frozen singular vectors of the first full step",
    .options         = sb_table,
    .options_size    = sizeof(options),
    .state_size      = sizeof(state),
    .affine          = true,
    .needs_base      = "dense",
    .observes        = CRANK_OBSERVE_GRADIENT,
    .calibrate       = calibrate,
    .calibrate_bytes = calibrate_bytes,
    .attach          = attach_sb,
    .forward         = forward,
    .as_lora         = as_lora,
    .release         = release,
};
