/* lora_ga.c - LoRA that starts in the singular directions of the first gradient (Wang et al. 2024, arXiv:2407.05000).
 *
 *     y = y0 + s [ (x A^T) B^T - (x A0^T) B0^T ]      A [r, in], B [out, r]; (A0, B0) their start, frozen; s = alpha / sqrt(r)
 *
 * The gradient G of the base weight over the calibration batches is U S V^T. With style `paper` and scale `stable`
 *
 *     A0 = f V[:, 0:r]^T,  B0 = f U[:, r:2r],   f = out^(1/4) / sqrt(gamma)
 *
 * so the first step of SGD moves s B A along the best rank-2r approximation of G. Subtracting the start in the forward pass leaves the
 * base weight as it is, on any base, and off is the original model; what is written is a plain LoRA of rank 2r, [A; A0], [B, -B0].
 *
 *     directions   ArB2r (above); A2rBr: A from r:2r, B from 0:r; ArBr: B from even, A from odd indices; random: 2r drawn indices
 *     scales       stable; gd: f = 1 / s; unit: 1; weights: f^2 = mean of the top r singular values of W over s
 *     style peft   what PEFT's lora_ga does: A unit rows, B times out^(1/4) / sqrt(gamma) and the gradient's singular values */
#include <math.h>
#include <string.h>

#include "lowrank/pair.h"
#include "lowrank/spectrum.h"
#include "lowrank/start.h"

typedef struct {
    int64_t     rank;
    double      alpha, gamma, dropout;
    bool        rslora;
    const char *direction, *scale, *style;
} options;

typedef struct {
    pair         factors;
    crank_param *A0, *B0;
    float       *G;      /* [out, in] while calibration runs */
    int64_t      batches, rows;
    spectrum     top;    /* of G, 2r triplets; then unused */
    bool         found;
} state;

static const crank_option option_table[] = {
    CRANK_INT(options, rank, 8, 1, 32768, "rank r of the update: the start uses 2r singular directions"),
    CRANK_FLOAT(options, alpha, 16, 0, 1e9, "the update is scaled by alpha / sqrt(rank), or by alpha / rank without rslora"),
    CRANK_BOOL(options, rslora, true, "scale by alpha / sqrt(rank)"),
    CRANK_FLOAT(options, gamma, 16, 1e-6, 1e9, "stability: the start's singular values are s sqrt(out) / gamma"),
    CRANK_FLOAT(options, dropout, 0, 0, 0.999, "share of the inputs of the update's branch that is dropped in training"),
    CRANK_CHOICE(options, direction, "ArB2r", "ArB2r|A2rBr|ArBr|random", "which singular directions start A and which B"),
    CRANK_CHOICE(options, scale, "stable", "stable|gd|unit|weights", "length of the start"),
    CRANK_CHOICE(options, style, "paper", "paper|peft", "both factors scaled alike, or B alone by the gradient's singular values"),
    CRANK_END
};

static double scale_of(const options *o) { return o->alpha / (o->rslora ? sqrt((double)o->rank) : (double)o->rank); }

/* ---- calibration ---- */

static size_t calibrate_bytes(const crank_site *site, size_t *last)
{
    *last = spectrum_bytes(site->linear->out, site->linear->in, 2 * ((const options *)site->options)->rank);
    return (size_t)(site->linear->in * site->linear->out) * sizeof(float);
}

static crank_status decompose(crank_context *context, crank_site *site, state *st)
{
    const options      *o = site->options;
    const crank_linear *linear = site->linear;
    int64_t             small = linear->in < linear->out ? linear->in : linear->out;
    if (2 * o->rank > small)
        return crank_fail(context, CRANK_USAGE,
                          "lora-ga: %s is a %lld x %lld map with %lld singular directions, and rank %lld starts in %lld: lower lowrank.rank, give this linear a rank by "
                          "rank_pattern, or exclude it",
                          linear->name, (long long)linear->out, (long long)linear->in, (long long)small, (long long)o->rank, (long long)(2 * o->rank));
    if (st->rows < 2 * o->rank)
        return crank_fail(context, CRANK_BAD_DATA,
                          "lora-ga: %s has seen %lld tokens in calibration, whose gradient has no %lld directions (2 x rank %lld): raise lowrank.calibration.batches, or lower "
                          "lowrank.rank",
                          linear->name, (long long)st->rows, (long long)(2 * o->rank), (long long)o->rank);
    if (gradient_is_zero(linear, st->G)) {
        crank_log(context, CRANK_WARNING, "lora-ga: the gradient of %s is zero: it starts as plain LoRA", linear->name);
        return CRANK_OK;
    }
    int64_t      r = strcmp(o->direction, "random") == 0 ? small : 2 * o->rank;
    crank_stream stream = crank_stream_make(site->seed, CRANK_RANDOM_INIT, crank_hash_name(linear->name));
    crank_status status = spectrum_of(context, st->G, linear->out, linear->in, r, stream, &st->top);
    st->found = status == CRANK_OK;
    for (int64_t i = 0; st->found && i < r; i++) st->top.s[i] /= (double)st->batches;
    return status;
}

static crank_status calibrate(crank_context *context, crank_site *site, const crank_observation *batch)
{
    state *st = site->state;
    if (batch) {
        st->batches++;
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

/* Indices of A's and B's singular directions. */
static crank_status choose(crank_context *context, const crank_site *site, int64_t all, int64_t *a, int64_t *b)
{
    const options *o = site->options;
    int64_t        r = o->rank;
    int64_t       *order = crank_alloc(context, (size_t)all, sizeof *order, "directions");
    if (!order) return CRANK_FAILED;
    crank_permutation(crank_stream_make(site->seed, CRANK_RANDOM_METHOD, crank_hash_name(site->linear->name)), order, all);
    for (int64_t i = 0; i < r; i++) {
        if (strcmp(o->direction, "A2rBr") == 0) a[i] = r + i, b[i] = i;
        else if (strcmp(o->direction, "ArBr") == 0) b[i] = 2 * i, a[i] = 2 * i + 1;
        else if (strcmp(o->direction, "random") == 0) a[i] = order[i], b[i] = order[r + i];
        else a[i] = i, b[i] = r + i;
    }
    crank_free(order);
    return CRANK_OK;
}

/* Lengths of A's rows and B's columns. */
static crank_status lengths(crank_context *context, const crank_site *site, double *a, double *b)
{
    const options *o = site->options;
    double         s = scale_of(o), stable = pow((double)site->linear->out, 0.25) / sqrt(o->gamma);
    bool           peft = strcmp(o->style, "peft") == 0;
    *a = *b = 1;
    if (strcmp(o->scale, "stable") == 0) *a = peft ? 1 : stable, *b = stable;
    else if (strcmp(o->scale, "gd") == 0) *a = *b = 1 / s;
    else if (strcmp(o->scale, "weights") == 0) {
        spectrum     w;
        double       mean = 0;
        crank_status status = spectrum_of_weight(context, site, o->rank, &w);
        if (status) return status;
        for (int64_t i = 0; i < o->rank; i++) mean += sqrt(w.s[i] / s) / (double)o->rank;
        spectrum_free(&w);
        *a = *b = mean;
    }
    return CRANK_OK;
}

static crank_status fill(crank_context *context, const crank_site *site, const state *st, float *A, float *B, int64_t *ia, int64_t *ib)
{
    const options  *o = site->options;
    const spectrum *g = &st->top;
    int64_t         r = o->rank;
    bool            values = strcmp(o->style, "peft") == 0 && strcmp(o->scale, "stable") == 0;
    double          a, b;
    crank_status    status = choose(context, site, g->r, ia, ib);
    if (status == CRANK_OK) status = lengths(context, site, &a, &b);
    for (int64_t k = 0; status == CRANK_OK && k < r; k++) {
        for (int64_t i = 0; i < g->n; i++) A[k * g->n + i] = (float)(a * (double)g->Vt[ia[k] * g->n + i]);
        double length = values ? b * g->s[ib[k]] : b;
        for (int64_t i = 0; i < g->m; i++) B[i * r + k] = (float)(length * (double)g->U[i * g->r + ib[k]]);
    }
    return status;
}

static crank_status write_start(crank_context *context, const crank_site *site, const state *st)
{
    const options *o = site->options;
    size_t         r = (size_t)o->rank;
    float         *A = crank_alloc(context, r * (size_t)site->linear->in, sizeof *A, "a factor"), *B = crank_alloc(context, r * (size_t)site->linear->out, sizeof *B, "a factor");
    int64_t       *ia = crank_alloc(context, r, sizeof *ia, "directions"), *ib = crank_alloc(context, r, sizeof *ib, "directions");
    crank_status   status = A && B && ia && ib ? fill(context, site, st, A, B, ia, ib) : CRANK_FAILED;
    crank_param *const to_a[] = { st->factors.A, st->A0 }, *const to_b[] = { st->factors.B, st->B0 };
    for (int i = 0; i < 2 && status == CRANK_OK; i++) {
        status = crank_param_write(context, to_a[i], A, CRANK_F32);
        if (status == CRANK_OK) status = crank_param_write(context, to_b[i], B, CRANK_F32);
    }
    crank_free(A), crank_free(B), crank_free(ia), crank_free(ib);
    return status;
}

static crank_status attach(crank_context *context, crank_site *site)
{
    const options *o = site->options;
    state         *st = site->state;
    pair_options   plain = { .rank = o->rank, .alpha = o->alpha, .rslora = o->rslora, .init = "kaiming", .lora_plus = 1, .bias = "none" };
    crank_status   status = pair_attach(context, site, &plain, &st->factors);
    if (status) return status;
    st->A0 = crank_site_param(context, site, "A0", CRANK_F32, 2, (const int64_t[]){ o->rank, site->linear->in }, false);
    st->B0 = crank_site_param(context, site, "B0", CRANK_F32, 2, (const int64_t[]){ site->linear->out, o->rank }, false);
    if (!st->A0 || !st->B0) return crank_last_status(context);
    if (!st->found || !st->A0->view.data) return CRANK_OK; /* B and B0 are zero: the start of LoRA */
    status = write_start(context, site, st);
    spectrum_free(&st->top);
    st->found = false;
    return status;
}

/* x [n, in], y0 [n, out] from what stands below -> y [n, out] */
static crank_tensor *forward(crank_graph *graph, crank_site *site, crank_tensor *x, crank_tensor *y0)
{
    const options *o = site->options;
    const state   *st = site->state;
    crank_dtype    compute = crank_graph_compute(graph);
    pair_options   plain = { .dropout = o->dropout };
    crank_tensor  *rows[2] = { crank_use(graph, st->factors.A), crank_use(graph, st->A0) };
    crank_tensor  *columns[2] = { crank_cast(crank_use(graph, st->factors.B), compute), crank_cast(crank_scale(crank_use(graph, st->B0), -1), compute) };
    crank_tensor  *dropped = pair_drop(graph, site, &plain, x);
    if (dropped == x) {
        crank_tensor *u = crank_linear_down(graph, site->linear, x, crank_concat(rows, 2, 0)); /* [n, 2r] */
        return crank_add(y0, crank_matmul_full(u, false, crank_concat(columns, 2, 1), true, st->factors.scale, NULL, NULL, CRANK_DTYPES));
    }
    crank_tensor *start = crank_matmul_full(crank_linear_down(graph, site->linear, x, rows[1]), false, columns[1], true, st->factors.scale, NULL, y0, CRANK_DTYPES);
    return crank_add(start, pair_delta(graph, site, &st->factors, dropped));
}

/* [A; A0], [B, -B0] */
static crank_status as_lora(crank_context *context, crank_site *site, int64_t *rank, double *scale, float **A, float **B)
{
    const state *st = site->state;
    int64_t      r = st->A0->view.dims[0], in = site->linear->in, out = site->linear->out;
    float       *a = crank_alloc(context, (size_t)(2 * r * in), sizeof *a, "a factor"), *b = crank_alloc(context, (size_t)(2 * r * out), sizeof *b, "a factor");
    float       *half = crank_alloc(context, (size_t)(2 * r * out), sizeof *half, "a factor");
    crank_status status = a && b && half ? CRANK_OK : CRANK_FAILED;
    if (status == CRANK_OK) status = crank_param_read(context, st->factors.A, a, CRANK_F32);
    if (status == CRANK_OK) status = crank_param_read(context, st->A0, a + r * in, CRANK_F32);
    if (status == CRANK_OK) status = crank_param_read(context, st->factors.B, half, CRANK_F32);
    if (status == CRANK_OK) status = crank_param_read(context, st->B0, half + r * out, CRANK_F32);
    for (int64_t i = 0; status == CRANK_OK && i < out; i++)
        for (int64_t k = 0; k < r; k++) {
            b[i * 2 * r + k] = half[i * r + k];
            b[i * 2 * r + r + k] = -half[r * out + i * r + k];
        }
    crank_free(half);
    return pair_give(status, 2 * r, st->factors.scale, a, b, rank, scale, A, B);
}

static void release(crank_site *site)
{
    state *st = site->state;
    if (!st) return;
    crank_free(st->G);
    st->G = NULL;
    spectrum_free(&st->top);
}

const crank_map crank_map_lora_ga = {
    .name            = "lora-ga",
    .paper           = "arXiv:2407.05000",
    .summary         = "LoRA that starts in the singular directions of the first gradient; written as LoRA of rank 2r",
    .options         = option_table,
    .options_size    = sizeof(options),
    .state_size      = sizeof(state),
    .affine          = true,
    .observes        = CRANK_OBSERVE_GRADIENT,
    .calibrate       = calibrate,
    .calibrate_bytes = calibrate_bytes,
    .attach          = attach,
    .forward         = forward,
    .as_lora         = as_lora,
    .peft_type       = "LORA",
    .release         = release,
};
