/* sst.c - the weight is kept as its singular value decomposition and trained a few pairs of vectors at a time (Zhao et al. 2024,
 * arXiv:2405.15481, "sparse spectral training").
 *
 *     W = U^T diag(S) V          U [k, out], V [k, in]: a pair of vectors in each row; k = min(out, in); G = dL/dW
 *     every T3 steps an iteration: r distinct pairs are drawn, p_i = (1 / k + S_i / sum S) / 2; moments and step count start anew
 *     each step:  dS_i = u_i G v_i^T for all pairs;  du_i = v_i G^T, dv_i = u_i G for the drawn ones (`enhanced`: without the factor S_i)
 *                 Adam at rate min(1, (t3 + 1) / warmup) times the run's;  S = max(S, 0);  drawn vectors back to length 1
 *     every T2 iterations a round: U, S, V = svd(U^T diag(S) V)
 *
 * The linear's weight is trained by this method alone: it is written as the product after each step, so the forward pass is dense.
 * Sleeping pairs (U, S, V) and drawn ones (UA, SA, VA) are parts of the adapter; `set` says which are drawn. */
#include <math.h>
#include <string.h>

#include "crank/linalg.h"
#include "crank/linear.h"

typedef struct {
    int64_t     rank, steps, iterations, warmup;
    const char *sampler, *sigma;
    bool        enhanced;
    double      beta1, beta2, epsilon, decay;
} options;

typedef struct {
    crank_param *U, *S, *V, *UA, *SA, *VA; /* [k,out] [k] [k,in] [r,out] [r] [r,in] */
    crank_param *set, *mask, *clock;       /* i32 [r], -1 before the first draw; [k], 0 at the drawn pairs; [3] */
    crank_param *mS, *vS, *mSA, *vSA, *mU, *vU, *mV, *vV;
    int64_t      k, r;
} state;

static const crank_option option_table[] = {
    CRANK_INT(options, rank, 64, 1, 65536, "pairs r that are trained at a time, cut at the weight's smaller side"),
    CRANK_INT(options, steps, 200, 1, 1e9, "steps T3 of an iteration"),
    CRANK_INT(options, iterations, 0, 0, 1e9, "iterations T2 between decompositions; 0: as many as pass over all pairs"),
    CRANK_INT(options, warmup, 20, 1, 1e9, "steps of an iteration in which the rate rises"),
    CRANK_CHOICE(options, sampler, "mixture", "mixture|uniform|sequential|top", "how pairs are drawn: half uniformly, half by S; uniformly; in turn; the largest"),
    CRANK_CHOICE(options, sigma, "all", "all|sampled", "which singular values are trained"),
    CRANK_BOOL(options, enhanced, true, "gradients of vectors leave out the singular value"),
    CRANK_FLOAT(options, beta1, 0.9, 0, 0.999999, "decay of the first moment"),
    CRANK_FLOAT(options, beta2, 0.999, 0, 0.9999999, "decay of the second moment"),
    CRANK_FLOAT(options, epsilon, 1e-8, 0, 1, "added to the root of the second moment"),
    CRANK_FLOAT(options, decay, 0, 0, 1e6, "decoupled decay of the singular values"),
    CRANK_END
};

static bool is(const char *choice, const char *name) { return strcmp(choice, name) == 0; }

/* ---- parameters ---- */

static crank_status make_params(crank_context *context, crank_site *site, state *st)
{
    int64_t k = st->k, r = st->r, out = site->linear->out, in = site->linear->in, three = 3;
    const struct {
        crank_param **place;
        const char   *name;
        crank_role    role;
        int64_t       rows, cols; /* cols 0: a vector */
    } all[] = { { &st->U, "U", CRANK_ROLE_METHOD, k, out },   { &st->S, "S", CRANK_ROLE_METHOD, k, 0 },    { &st->V, "V", CRANK_ROLE_METHOD, k, in },
                { &st->UA, "UA", CRANK_ROLE_METHOD, r, out }, { &st->SA, "SA", CRANK_ROLE_METHOD, r, 0 },  { &st->VA, "VA", CRANK_ROLE_METHOD, r, in },
                { &st->mask, "mask", CRANK_ROLE_STATE, k, 0 }, { &st->mS, "mS", CRANK_ROLE_STATE, k, 0 },   { &st->vS, "vS", CRANK_ROLE_STATE, k, 0 },
                { &st->mSA, "mSA", CRANK_ROLE_STATE, r, 0 },  { &st->vSA, "vSA", CRANK_ROLE_STATE, r, 0 }, { &st->mU, "mU", CRANK_ROLE_STATE, r, out },
                { &st->vU, "vU", CRANK_ROLE_STATE, r, out },  { &st->mV, "mV", CRANK_ROLE_STATE, r, in },  { &st->vV, "vV", CRANK_ROLE_STATE, r, in } };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        const int64_t dims[2] = { all[i].rows, all[i].cols };
        int           rank = all[i].cols ? 2 : 1;
        *all[i].place = all[i].role == CRANK_ROLE_METHOD ? crank_site_param(context, site, all[i].name, CRANK_F32, rank, dims, false)
                                                         : crank_site_state(context, site, all[i].name, all[i].role, CRANK_F32, rank, dims);
        if (!*all[i].place) return crank_last_status(context);
    }
    st->set = crank_site_state(context, site, "set", CRANK_ROLE_STATE, CRANK_I32, 1, &r);
    st->clock = crank_site_state(context, site, "clock", CRANK_ROLE_CACHE, CRANK_F32, 1, &three);
    if (st->clock) st->clock->view.dtype = CRANK_F32; /* with an f64 weight as well: its memory is large enough */
    return st->set && st->clock ? CRANK_OK : crank_last_status(context);
}

/* U, S, V on the host, in double: u [k,out], s [k], v [k,in]. */
typedef struct factors {
    double *u, *s, *v;
} factors;

static void factors_free(factors *f)
{
    crank_free(f->u), crank_free(f->s), crank_free(f->v);
    *f = (factors){ 0 };
}

static crank_status factors_new(crank_context *context, const crank_site *site, factors *f)
{
    const state *st = site->state;
    *f = (factors){ .u = crank_alloc(context, (size_t)(st->k * site->linear->out), sizeof *f->u, "singular vectors"),
                    .s = crank_alloc(context, (size_t)st->k, sizeof *f->s, "singular values"),
                    .v = crank_alloc(context, (size_t)(st->k * site->linear->in), sizeof *f->v, "singular vectors") };
    return f->u && f->s && f->v ? CRANK_OK : CRANK_FAILED;
}

static crank_status factors_write(crank_context *context, const state *st, const factors *f)
{
    crank_status status = crank_param_write(context, st->U, f->u, CRANK_F64);
    if (status == CRANK_OK) status = crank_param_write(context, st->S, f->s, CRANK_F64);
    return status == CRANK_OK ? crank_param_write(context, st->V, f->v, CRANK_F64) : status;
}

/* f of W [out,in], double. */
static crank_status decompose(crank_context *context, const crank_site *site, const double *W, factors *f)
{
    const state *st = site->state;
    int64_t      out = site->linear->out, in = site->linear->in, k = st->k;
    double      *columns = crank_alloc(context, (size_t)(out * k), sizeof *columns, "singular vectors");
    if (!columns) return CRANK_FAILED;
    crank_status status = crank_svd(context, crank_matrix_f64(W, out, in), CRANK_INSIDE_F64, crank_matrix_f64(columns, out, k), f->s, crank_matrix_f64(f->v, k, in));
    for (int64_t i = 0; status == CRANK_OK && i < k; i++)
        for (int64_t o = 0; o < out; o++) f->u[i * out + o] = columns[o * k + i];
    crank_free(columns);
    return status;
}

static crank_status attach(crank_context *context, crank_site *site)
{
    const options *opt = site->options;
    crank_linear  *linear = site->linear;
    state         *st = site->state;
    if (!linear->weight) return crank_fail(context, CRANK_USAGE, "%s: sst trains a dense weight, and it has none", linear->name);
    st->k = linear->out < linear->in ? linear->out : linear->in;
    st->r = opt->rank < st->k ? opt->rank : st->k;
    crank_status status = crank_site_train(context, site, linear->weight);
    if (status == CRANK_OK) status = make_params(context, site, st);
    linear->weight->moved = true;
    if (status != CRANK_OK || !st->U->view.data || !linear->weight->view.data) return status; /* planning without memory */
    double *W = crank_alloc(context, (size_t)(linear->out * linear->in), sizeof *W, "a weight");
    factors f;
    status = factors_new(context, site, &f);
    if (!W) status = CRANK_FAILED;
    if (status == CRANK_OK) status = crank_param_read(context, linear->weight, W, CRANK_F64);
    if (status == CRANK_OK) status = decompose(context, site, W, &f);
    if (status == CRANK_OK) status = factors_write(context, st, &f);
    factors_free(&f), crank_free(W);
    int32_t *set = crank_alloc(context, (size_t)st->r, sizeof *set, "drawn pairs");
    for (int64_t i = 0; set && i < st->r; i++) set[i] = -1;
    if (status == CRANK_OK) status = set ? crank_param_write(context, st->set, set, CRANK_I32) : CRANK_FAILED;
    crank_free(set);
    return status;
}

static void release(crank_site *site)
{
    if (site->linear->weight) site->linear->weight->moved = false;
}

/* ---- recording ---- */

/* x [n, in], y0 [n, out] from what stands below -> y [n, out]: the weight is the product. */
static crank_tensor *forward(crank_graph *graph, crank_site *site, crank_tensor *x, crank_tensor *y0)
{
    (void)graph, (void)site, (void)x;
    return y0;
}

/* The step scalars with the iteration's own count, and its warm-up on the rate. */
static crank_tensor *iteration_scalars(crank_graph *graph, const state *st)
{
    crank_tensor *scalars = crank_step_scalars(graph), *clock = crank_use(graph, st->clock);
    crank_tensor *parts[] = { crank_mul(crank_slice(scalars, 0, CRANK_SCALAR_RATE, 1), crank_slice(clock, 0, 1, 1)), crank_slice(clock, 0, 0, 1),
                              crank_slice(scalars, 0, CRANK_SCALAR_CLIP, CRANK_SCALARS - CRANK_SCALAR_CLIP) };
    return crank_concat(parts, 3, 0);
}

static void adam(crank_graph *graph, const crank_site *site, crank_param *param, crank_tensor *gradient, crank_param *m, crank_param *v, double decay)
{
    const options        *opt = site->options;
    const state          *st = site->state;
    crank_adam_attributes attributes = { .beta1 = opt->beta1, .beta2 = opt->beta2, .epsilon = opt->epsilon, .decay = decay, .rate_factor = 1, .seed = site->seed };
    crank_adamw(crank_use(graph, param), crank_contiguous(gradient), crank_use(graph, m), crank_use(graph, v), iteration_scalars(graph, st), &attributes);
}

/* Sum over the columns of a * b: [rows] */
static crank_tensor *row_dots(crank_tensor *a, crank_tensor *b) { return crank_reduce(CRANK_SUM, crank_mul(a, b), 2u, false); }

static void update(crank_graph *graph, crank_site *site)
{
    const options *opt = site->options;
    const state   *st = site->state;
    crank_tensor  *G = crank_gradient_of(graph, site->linear->weight);
    if (!G) return;
    G = crank_cast(G, st->U->view.dtype);
    crank_tensor *UA = crank_use(graph, st->UA), *VA = crank_use(graph, st->VA), *SA = crank_use(graph, st->SA);
    crank_tensor *UAG = crank_matmul(UA, false, G, false), *dUA = crank_matmul(VA, false, G, true), *dVA = UAG;
    crank_tensor *dSA = row_dots(UAG, VA);
    if (!opt->enhanced) {
        crank_tensor *factor = crank_reshape(SA, 2, (const int64_t[]){ st->r, 1 });
        dUA = crank_mul(dUA, factor), dVA = crank_mul(dVA, factor);
    }
    if (is(opt->sigma, "all")) {
        crank_tensor *U = crank_use(graph, st->U), *V = crank_use(graph, st->V);
        crank_tensor *dS = crank_mul(row_dots(crank_matmul(U, false, G, false), V), crank_use(graph, st->mask));
        adam(graph, site, st->S, dS, st->mS, st->vS, opt->decay);
    }
    adam(graph, site, st->SA, dSA, st->mSA, st->vSA, opt->decay);
    adam(graph, site, st->UA, dUA, st->mU, st->vU, 0);
    adam(graph, site, st->VA, dVA, st->mV, st->vV, 0);
}

/* Rows of length 1; a row of zeros stays. */
static crank_tensor *normalised(crank_tensor *rows)
{
    crank_tensor *length = crank_unary(CRANK_SQRT, crank_reduce(CRANK_SUM_SQUARES, rows, 2u, true));
    return crank_div(rows, crank_where(crank_binary(CRANK_GT, length, crank_affine(length, 0, 0)), length, crank_affine(length, 0, 1)));
}

static crank_tensor *column(crank_tensor *values) { return crank_reshape(values, 2, (const int64_t[]){ -1, 1 }); }

static void after_step(crank_graph *graph, crank_site *site)
{
    const state  *st = site->state;
    crank_param  *weight = site->linear->weight;
    crank_tensor *S = crank_use(graph, st->S), *SA = crank_use(graph, st->SA), *W = crank_use(graph, weight);
    crank_tensor *skip = crank_cast(crank_step_scalar(graph, CRANK_SCALAR_SKIP), st->U->view.dtype);
    struct {
        crank_tensor *target, *value;
    } sets[] = { { S, crank_unary(CRANK_RELU, S) }, { SA, crank_unary(CRANK_RELU, SA) }, { crank_use(graph, st->UA), NULL }, { crank_use(graph, st->VA), NULL } };
    for (int i = 0; i < 4; i++) {
        crank_tensor *value = sets[i].value ? sets[i].value : normalised(sets[i].target);
        crank_assign(sets[i].target, crank_where(skip, sets[i].target, value), false);
    }
    crank_tensor *asleep = crank_mul(crank_use(graph, st->U), column(crank_mul(S, crank_use(graph, st->mask))));
    crank_tensor *drawn = crank_mul(crank_use(graph, st->UA), column(SA));
    crank_tensor *sum = crank_matmul(asleep, true, crank_use(graph, st->V), false);
    sum = crank_matmul_full(drawn, true, crank_use(graph, st->VA), false, 1, NULL, sum, CRANK_DTYPES);
    crank_assign(W, crank_where(skip, crank_cast(W, sum->dtype), sum), false);
}

/* ---- iterations ---- */

static crank_status copy_rows(crank_context *context, crank_param *param, double *rows, bool write)
{
    return write ? crank_param_write(context, param, rows, CRANK_F64) : crank_param_read(context, param, rows, CRANK_F64);
}

/* Moves the drawn pairs into f (put) or out of it. */
static crank_status exchange(crank_context *context, const crank_site *site, factors *f, const int32_t *set, bool put)
{
    const state *st = site->state;
    int64_t      out = site->linear->out, in = site->linear->in;
    const struct {
        crank_param *drawn;
        double      *all;
        int64_t      width;
    } parts[] = { { st->UA, f->u, out }, { st->SA, f->s, 1 }, { st->VA, f->v, in } };
    crank_status status = CRANK_OK;
    for (int p = 0; status == CRANK_OK && p < 3; p++) {
        double *rows = crank_alloc(context, (size_t)(st->r * parts[p].width), sizeof *rows, "drawn pairs");
        status = rows ? CRANK_OK : CRANK_FAILED;
        if (status == CRANK_OK && put) status = copy_rows(context, parts[p].drawn, rows, false);
        for (int64_t i = 0; status == CRANK_OK && i < st->r; i++) {
            double *row = parts[p].all + (int64_t)set[i] * parts[p].width, *own = rows + i * parts[p].width;
            memcpy(put ? row : own, put ? own : row, (size_t)parts[p].width * sizeof *row);
        }
        if (status == CRANK_OK && !put) status = copy_rows(context, parts[p].drawn, rows, true);
        crank_free(rows);
    }
    return status;
}

/* W = U^T diag(S) V, decomposed again. */
static crank_status decompose_again(crank_context *context, const crank_site *site, factors *f)
{
    const state *st = site->state;
    int64_t      out = site->linear->out, in = site->linear->in;
    double      *W = crank_alloc(context, (size_t)(out * in), sizeof *W, "a weight");
    if (!W) return CRANK_FAILED;
    for (int64_t i = 0; i < st->k; i++)
        for (int64_t o = 0; o < out; o++) {
            double factor = f->s[i] * f->u[i * out + o];
            for (int64_t j = 0; factor != 0 && j < in; j++) W[o * in + j] += factor * f->v[i * in + j];
        }
    crank_status status = decompose(context, site, W, f);
    crank_free(W);
    return status;
}

/* r distinct of k pairs in ascending order; `weight` [k] is scratch. */
static void draw_set(const options *opt, const crank_site *site, int64_t number, const double *s, double *weight, int32_t *set)
{
    const state *st = site->state;
    crank_stream stream = crank_stream_make(site->seed, CRANK_RANDOM_METHOD, (uint32_t)number);
    double       sum = 0;
    for (int64_t i = 0; i < st->k; i++) sum += s[i];
    bool mixture = is(opt->sampler, "mixture") && sum > 0;
    for (int64_t i = 0; i < st->k; i++) weight[i] = mixture ? 0.5 * (1.0 / (double)st->k + s[i] / sum) : 1;
    for (int64_t n = 0; n < st->r; n++) {
        int64_t chosen = -1;
        if (is(opt->sampler, "sequential")) chosen = (number * st->r + n) % st->k;
        else if (is(opt->sampler, "top")) {
            for (int64_t i = 0; i < st->k; i++)
                if (weight[i] > 0 && (chosen < 0 || s[i] > s[chosen])) chosen = i;
        } else {
            double left = 0, passed = 0;
            for (int64_t i = 0; i < st->k; i++) left += weight[i];
            double u = (double)crank_draw_uniform(stream, ((uint64_t)site->index << 32) + (uint64_t)n) * left;
            for (int64_t i = 0; i < st->k && !(passed > u); i++)
                if (weight[i] > 0) chosen = i, passed += weight[i];
        }
        weight[chosen] = 0;
    }
    int64_t n = 0;
    for (int64_t i = 0; i < st->k && n < st->r; i++)
        if (weight[i] == 0) set[n++] = (int32_t)i;
}

static crank_status write_zero(crank_context *context, crank_param *param)
{
    crank_fill_attributes attributes = { 0 };
    return crank_run_once(context, crank_params_device(param->owner), "fill", NULL, 0, &param->view, 1, &attributes);
}

static crank_status reset_moments(crank_context *context, const state *st)
{
    crank_param *const all[] = { st->mS, st->vS, st->mSA, st->vSA, st->mU, st->vU, st->mV, st->vV };
    crank_status       status = CRANK_OK;
    for (size_t i = 0; status == CRANK_OK && i < sizeof all / sizeof *all; i++) status = write_zero(context, all[i]);
    return status;
}

static crank_status new_iteration(crank_context *context, crank_site *site, int64_t number)
{
    const options *opt = site->options;
    const state   *st = site->state;
    int64_t        rounds = opt->iterations ? opt->iterations : (st->k + st->r - 1) / st->r;
    factors        f;
    crank_status   status = factors_new(context, site, &f);
    int32_t       *set = crank_alloc(context, (size_t)st->r, sizeof *set, "drawn pairs");
    double        *weight = crank_alloc(context, (size_t)st->k, sizeof *weight, "weights of pairs");
    if (!set || !weight) status = CRANK_FAILED;
    if (status == CRANK_OK) status = copy_rows(context, st->U, f.u, false);
    if (status == CRANK_OK) status = copy_rows(context, st->S, f.s, false);
    if (status == CRANK_OK) status = copy_rows(context, st->V, f.v, false);
    if (status == CRANK_OK) status = crank_param_read(context, st->set, set, CRANK_I32);
    for (int64_t i = 0; status == CRANK_OK && i < st->r; i++)
        if (set[i] >= st->k) status = crank_fail(context, CRANK_BAD_DATA, "%s: pair %d of %lld is drawn", site->linear->name, set[i], (long long)st->k);
    if (status == CRANK_OK && set[0] >= 0) status = exchange(context, site, &f, set, true);
    if (status == CRANK_OK && number > 0 && number % rounds == 0) status = decompose_again(context, site, &f);
    if (status == CRANK_OK) draw_set(opt, site, number, f.s, weight, set);
    if (status == CRANK_OK) status = exchange(context, site, &f, set, false);
    for (int64_t i = 0; status == CRANK_OK && i < st->k; i++) weight[i] = 1;
    for (int64_t i = 0; status == CRANK_OK && i < st->r; i++) weight[set[i]] = 0;
    if (status == CRANK_OK) status = crank_param_write(context, st->mask, weight, CRANK_F64);
    if (status == CRANK_OK) status = crank_param_write(context, st->set, set, CRANK_I32);
    if (status == CRANK_OK) status = factors_write(context, st, &f);
    if (status == CRANK_OK) status = reset_moments(context, st);
    crank_free(set), crank_free(weight), factors_free(&f);
    return status;
}

static crank_status period(crank_context *context, crank_site *sites, int count, int64_t step, bool *changed)
{
    (void)changed;
    for (int i = 0; step && i < count; i++) {
        const options *opt = sites[i].options;
        const state   *st = sites[i].state;
        int64_t        t = (step - 1) % opt->steps;
        if (!st->clock->view.data) continue;
        crank_status status = t == 0 ? new_iteration(context, &sites[i], (step - 1) / opt->steps) : CRANK_OK;
        const float  now[3] = { (float)(t + 1), (float)fmin(1, (double)(t + 1) / (double)opt->warmup), 0 };
        if (status == CRANK_OK) status = crank_param_write(context, st->clock, now, CRANK_F32);
        if (status != CRANK_OK) return status;
    }
    return CRANK_OK;
}

const crank_map crank_map_sst = {
    .name         = "sst",
    .paper        = "arXiv:2405.15481",
    .summary      = "trains all singular values and a few drawn pairs of singular vectors of the weight",
    .options      = option_table,
    .options_size = sizeof(options),
    .state_size   = sizeof(state),
    .affine       = true,
    .needs_base   = "dense",
    .attach       = attach,
    .forward      = forward,
    .update       = update,
    .after_step   = after_step,
    .period       = period,
    .release      = release,
};
