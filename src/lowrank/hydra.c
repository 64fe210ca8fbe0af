/* hydra.c - a parallel and a sequential low-rank branch (Kim et al. 2023, arXiv:2309.06922).
 *
 *     f0 = W0 x + b0
 *     y  = f0 + s (B_p (A_p x + a_p) + d_p) + s (B_s (A_s f0 + a_s) + d_s)       A_p [rp, in], A_s [rs, out], B_p, B_s [out, r]
 *
 * The parallel branch learns new features, the sequential one recombines those that the layer gives. Both up-projections and all
 * biases start at zero. Without a non-linearity it merges into W0 and b0.
 *
 * Two forms give the same numbers. `folded` makes K = A_s W0 [rs, in] once a step, so that one pair of rank rp + rs acts on x, f0
 * need not be kept for the reverse pass, and the gradient of A_s comes from K's:
 *
 *     A_s f0 = K x + A_s b0
 *
 * `direct` reads f0. It is taken where K would cost more than it saves (embeddings), or where other maps stand below, whose change f0
 * has and W0 has not. */
#include <string.h>

#include "lowrank/pair.h"
#include "lowrank/small.h"
#include "linear/stack.h"
#include "lowrank/start.h"

typedef struct {
    int64_t     rank, sequential;
    double      scale, dropout;
    const char *init, *form;
    bool        biases, learn_scale;
} options;

typedef struct {
    crank_param *A, *B, *As, *Bs;     /* absent (NULL) where their rank is 0 */
    crank_param *a, *as, *d, *ds;     /* biases of the projections, or NULL */
    crank_param *scale;               /* [1] when it is learned */
} state;

static const crank_option option_table[] = {
    CRANK_INT(options, rank, 2, 0, 65536, "rank of the parallel branch, which reads the layer's input; 0: none"),
    CRANK_INT(options, sequential, 2, 0, 65536, "rank of the sequential branch, which reads the layer's output; 0: none"),
    CRANK_FLOAT(options, scale, 1, 0, 1e6, "both branches are multiplied by it"),
    CRANK_BOOL(options, learn_scale, false, "the scale is trained"),
    CRANK_FLOAT(options, dropout, 0, 0, 0.999, "share of the values between down- and up-projection that is dropped in training"),
    CRANK_CHOICE(options, init, "kaiming", "kaiming|xavier|normal", "how the down-projections start: uniform in 1/sqrt(in), Xavier-uniform, or normal of deviation 0.02"),
    CRANK_BOOL(options, biases, false, "all four projections have a bias"),
    CRANK_CHOICE(options, form, "folded", "folded|direct", "read the layer's output through A_s W0, made once a step, or itself"),
    CRANK_END
};

static crank_param *factor(crank_context *context, crank_site *site, const char *name, int64_t rows, int64_t columns)
{
    return crank_site_param(context, site, name, CRANK_F32, 2, (const int64_t[]){ rows, columns }, true);
}

static crank_param *vector(crank_context *context, crank_site *site, const char *name, int64_t n)
{
    crank_param *param = crank_site_param(context, site, name, CRANK_F32, 1, &n, true);
    if (param) param->no_decay = true;
    return param;
}

/* One branch of rank r that reads `in` values: down- and up-projection, and their biases. */
static crank_status add_branch(crank_context *context, crank_site *site, const char *const names[4], int64_t r, int64_t in, crank_param **down,
                               crank_param **up, crank_param **down_bias, crank_param **up_bias)
{
    const options *o = site->options;
    int64_t        out = site->linear->out;
    if (!r) return CRANK_OK;
    if (!(*down = factor(context, site, names[0], r, in)) || !(*up = factor(context, site, names[1], out, r))) return crank_last_status(context);
    if (o->biases && (!(*down_bias = vector(context, site, names[2], r)) || !(*up_bias = vector(context, site, names[3], out))))
        return crank_last_status(context);
    return start_factor(context, site, *down, o->init, in);
}

static crank_status attach(crank_context *context, crank_site *site)
{
    static const char *const parallel[] = { "A", "B", "A.bias", "B.bias" }, *const sequential[] = { "As", "Bs", "As.bias", "Bs.bias" };
    const options           *o = site->options;
    state                   *st = site->state;
    const crank_linear      *linear = site->linear;
    if (o->rank + o->sequential == 0)
        return crank_fail(context, CRANK_USAGE, "%s: hydra needs a branch: set `rank` or `sequential` to at least 1", linear->name);
    crank_status status = add_branch(context, site, parallel, o->rank, linear->in, &st->A, &st->B, &st->a, &st->d);
    if (status == CRANK_OK) status = add_branch(context, site, sequential, o->sequential, linear->out, &st->As, &st->Bs, &st->as, &st->ds);
    if (status || !o->learn_scale) return status;
    if (!(st->scale = vector(context, site, "scale", 1))) return crank_last_status(context);
    return start_value(context, st->scale, o->scale);
}

/* ---- forward ---- */

/* True when f0 is read through A_s W0: nothing acts between the base weight and this map. */
static bool folded(const crank_site *site)
{
    const options      *o = site->options;
    const linear_stack *stack = stack_of(site->linear);
    if (strcmp(o->form, "folded") != 0 || site->linear->kind != CRANK_LINEAR_DENSE || !site->linear->weight) return false;
    for (int i = 0; i < stack->count && stack->sites[i] != site; i++)
        if (attachment_acts(stack->attachments[i])) return false;
    return true;
}

static crank_tensor *use_as(crank_graph *graph, crank_param *param, crank_dtype type) { return crank_cast(crank_use(graph, param), type); }

/* A_s W0 [rs, in], and A_s b0 [rs] where there is a bias. */
static void derive(crank_graph *graph, crank_site *site)
{
    const state *st = site->state;
    crank_dtype  compute = crank_graph_compute(graph), wide = compute == CRANK_F64 ? CRANK_F64 : CRANK_F32;
    if (!st->As || !folded(site)) return;
    crank_tensor *As = use_as(graph, st->As, compute), *W = linear_use(graph, site->linear, site->linear->weight);
    crank_site_put(graph, site, "K", crank_matmul_full(As, false, W, false, 1, NULL, NULL, wide));
}

/* Sum of what is there. */
static crank_tensor *plus(crank_tensor *a, crank_tensor *b) { return !a ? b : !b ? a : crank_add(a, b); }

/* A_s b0 [rs], or NULL. */
static crank_tensor *bias_through(crank_graph *graph, const crank_site *site)
{
    const state *st = site->state;
    crank_dtype  compute = crank_graph_compute(graph);
    if (!site->linear->bias) return NULL;
    crank_tensor *b0 = crank_reshape(linear_use(graph, site->linear, site->linear->bias), 2, (const int64_t[]){ 1, -1 });
    return crank_reshape(crank_matmul(b0, false, use_as(graph, st->As, compute), true), 1, (const int64_t[]){ -1 });
}

/* The values between the projections [n, rp + rs], and the up-projections side by side. */
static crank_tensor *narrow(crank_graph *graph, crank_site *site, crank_tensor *x, crank_tensor *y0)
{
    const state  *st = site->state;
    crank_linear *linear = site->linear;
    crank_dtype   compute = crank_graph_compute(graph);
    bool          fold = st->As && folded(site);
    crank_tensor *parts[2] = { NULL, NULL }, *bias[2] = { NULL, NULL };
    if (st->a) bias[0] = use_as(graph, st->a, compute);
    if (st->as) bias[1] = use_as(graph, st->as, compute);
    if (fold) {
        crank_tensor *K = crank_site_get(graph, site, "K");
        crank_tensor *rows[2] = { st->A ? crank_use(graph, st->A) : NULL, K };
        bias[1] = plus(bias[1], bias_through(graph, site));
        if (st->A && bias[1] && !bias[0]) bias[0] = crank_fill(graph, compute, 1, &st->A->view.dims[0], 0);
        crank_tensor *u = crank_linear_down(graph, linear, x, st->A ? crank_concat(rows, 2, 0) : K);
        if (!bias[1]) return u;
        return crank_add(u, st->A ? crank_concat(bias, 2, 0) : bias[1]);
    }
    if (st->A) {
        parts[0] = crank_linear_down(graph, linear, x, crank_use(graph, st->A));
        if (bias[0]) parts[0] = crank_add(parts[0], bias[0]);
    }
    if (!st->As) return parts[0];
    crank_tensor *f0 = linear->bias ? crank_add(y0, linear_use(graph, linear, linear->bias)) : y0;
    parts[1] = crank_matmul(f0, false, use_as(graph, st->As, compute), true);
    if (bias[1]) parts[1] = crank_add(parts[1], bias[1]);
    return st->A ? crank_concat(parts, 2, 1) : parts[1];
}

/* x [n, in], y0 [n, out] from what stands below -> y [n, out] */
static crank_tensor *forward(crank_graph *graph, crank_site *site, crank_tensor *x, crank_tensor *y0)
{
    const options *o = site->options;
    const state   *st = site->state;
    crank_dtype    compute = crank_graph_compute(graph);
    crank_tensor  *u = narrow(graph, site, x, y0);
    if (o->dropout > 0 && crank_graph_training(graph)) u = crank_dropout(u, o->dropout);
    crank_tensor *ups[2] = { st->B ? use_as(graph, st->B, compute) : NULL, st->Bs ? use_as(graph, st->Bs, compute) : NULL };
    crank_tensor *up = ups[0] && ups[1] ? crank_concat(ups, 2, 1) : ups[0] ? ups[0] : ups[1];
    crank_tensor *d = st->d ? use_as(graph, st->d, compute) : NULL;
    if (st->ds) d = plus(d, use_as(graph, st->ds, compute));
    double        s = st->scale ? 1 : o->scale;
    crank_tensor *change = crank_matmul_full(u, false, up, true, s, NULL, NULL, CRANK_DTYPES);
    if (d) change = crank_add(change, s == 1 ? d : crank_scale(d, s));
    if (st->scale) change = crank_mul(change, use_as(graph, st->scale, compute));
    return crank_add(y0, change);
}

/* ---- export: A = [A_p; A_s W0], B = [B_p | B_s] ---- */

/* Rows of K = A_s W0 into out [rs, in], one row of W0 at a time. */
static crank_status fold_rows(crank_context *context, const crank_linear *linear, const float *As, int64_t rs, float *out)
{
    double      *sum = crank_alloc(context, (size_t)(rs * linear->in), sizeof *sum, "A_s W0");
    float       *row = crank_alloc(context, (size_t)linear->in, sizeof *row, "a row of the weight");
    crank_status status = sum && row ? CRANK_OK : CRANK_FAILED;
    for (int64_t o = 0; o < linear->out && status == CRANK_OK; o++) {
        status = crank_linear_rows(context, linear, o, 1, row);
        for (int64_t k = 0; k < rs && status == CRANK_OK; k++)
            for (int64_t i = 0; i < linear->in; i++) sum[k * linear->in + i] += (double)As[k * linear->out + o] * (double)row[i];
    }
    for (int64_t i = 0; i < rs * linear->in && status == CRANK_OK; i++) out[i] = (float)sum[i];
    crank_free(sum);
    crank_free(row);
    return status;
}

/* Columns of src [rows, n] into dst [rows, all] from column `first` on. */
static void put_columns(float *dst, int64_t all, int64_t first, const float *src, int64_t n, int64_t rows)
{
    for (int64_t i = 0; i < rows; i++) memcpy(dst + i * all + first, src + i * n, (size_t)n * sizeof *dst);
}

static crank_status fill_pair(crank_context *context, crank_site *site, float *A, float *B, float *spare)
{
    const state        *st = site->state;
    const crank_linear *linear = site->linear;
    int64_t             rp = st->A ? st->A->view.dims[0] : 0, rs = st->As ? st->As->view.dims[0] : 0, r = rp + rs;
    crank_status        status = CRANK_OK;
    if (rp) {
        status = crank_param_read(context, st->A, A, CRANK_F32);
        if (status == CRANK_OK) status = crank_param_read(context, st->B, spare, CRANK_F32);
        if (status == CRANK_OK) put_columns(B, r, 0, spare, rp, linear->out);
    }
    if (status || !rs) return status;
    status = crank_param_read(context, st->Bs, spare, CRANK_F32);
    if (status == CRANK_OK) put_columns(B, r, rp, spare, rs, linear->out);
    if (status == CRANK_OK) status = crank_param_read(context, st->As, spare, CRANK_F32);
    return status ? status : fold_rows(context, linear, spare, rs, A + rp * linear->in);
}

static crank_status as_lora(crank_context *context, crank_site *site, int64_t *rank, double *scale, float **A, float **B)
{
    const options      *o = site->options;
    const state        *st = site->state;
    const crank_linear *linear = site->linear;
    if (o->biases || (linear->bias && st->As))
        return crank_fail(context, CRANK_USAGE, "%s: hydra changes the bias as well, which a plain pair cannot hold: merge it instead", linear->name);
    int64_t r = o->rank + o->sequential;
    float  *a = crank_alloc(context, (size_t)(r * linear->in), sizeof *a, "a factor"), *b = crank_alloc(context, (size_t)(r * linear->out), sizeof *b, "a factor");
    float  *spare = crank_alloc(context, (size_t)(r * linear->out), sizeof *spare, "a factor");
    float   s = (float)o->scale;
    crank_status status = a && b && spare ? fill_pair(context, site, a, b, spare) : CRANK_FAILED;
    if (status == CRANK_OK && st->scale) status = crank_param_read(context, st->scale, &s, CRANK_F32);
    crank_free(spare);
    return pair_give(status, r, (double)s, a, b, rank, scale, A, B);
}

/* ---- the way back from a merge ----
 *
 *     W  <- W' - s B_p A_p,   W0 = W - s B_s (I + s A_s B_s)^-1 (A_s W)          (Woodbury)
 *     b  <- b' - s (B_p a_p + d_p + B_s a_s + d_s),   b0 the same way */

/* x [out, columns] -= factor up [out, r] down [r, columns] */
static void subtract(double *x, int64_t out, int64_t columns, double factor, const double *up, const double *down, int64_t r)
{
    for (int64_t o = 0; o < out; o++)
        for (int64_t k = 0; k < r; k++) {
            double u = factor * up[o * r + k];
            for (int64_t i = 0; i < columns; i++) x[o * columns + i] -= u * down[k * columns + i];
        }
}

/* x [out, columns] -= s B_s inverse (A_s x) */
static crank_status solve_sequential(crank_context *context, const double *As, const double *Bs, const double *inverse, double s, int64_t r, int64_t out, int64_t columns,
                                     double *x)
{
    double *u = crank_alloc(context, (size_t)(2 * r * columns), sizeof *u, "a product"), *v = u + r * columns;
    if (!u) return CRANK_FAILED;
    for (int64_t k = 0; k < r; k++)
        for (int64_t o = 0; o < out; o++)
            for (int64_t i = 0; i < columns; i++) u[k * columns + i] += As[k * out + o] * x[o * columns + i];
    for (int64_t k = 0; k < r; k++)
        for (int64_t l = 0; l < r; l++)
            for (int64_t i = 0; i < columns; i++) v[k * columns + i] += inverse[k * r + l] * u[l * columns + i];
    subtract(x, out, columns, s, Bs, v, r);
    crank_free(u);
    return CRANK_OK;
}

/* bias -= s (up a + d) */
static crank_status subtract_biases(crank_context *context, const crank_param *up, const crank_param *a, const crank_param *d, double s, int64_t out, double *bias)
{
    if (!a) return CRANK_OK;
    double *U = small_read(context, up), *down = small_read(context, a), *added = small_read(context, d);
    if (U && down && added) {
        subtract(bias, out, 1, s, U, down, a->view.dims[0]);
        for (int64_t o = 0; o < out; o++) bias[o] -= s * added[o];
    }
    bool read = U && down && added;
    crank_free(U), crank_free(down), crank_free(added);
    return read ? CRANK_OK : crank_last_status(context);
}

static crank_status unmerge_sequential(crank_context *context, crank_site *site, double s, double *W, double *bias)
{
    const state *st = site->state;
    int64_t      r = st->As->view.dims[0], out = site->linear->out;
    double      *As = small_read(context, st->As), *Bs = small_read(context, st->Bs), *M = crank_alloc(context, (size_t)(r * r), sizeof *M, "a small matrix");
    crank_status status = As && Bs && M ? CRANK_OK : crank_last_status(context);
    for (int64_t k = 0; status == CRANK_OK && k < r; k++)
        for (int64_t o = 0; o < out; o++)
            for (int64_t l = 0; l < r; l++) M[k * r + l] += s * As[k * out + o] * Bs[o * r + l];
    if (status == CRANK_OK) status = small_inverse_plus(context, site->linear, M, r, M);
    if (status == CRANK_OK) status = solve_sequential(context, As, Bs, M, s, r, out, site->linear->in, W);
    if (status == CRANK_OK && bias) status = solve_sequential(context, As, Bs, M, s, r, out, 1, bias);
    crank_free(As), crank_free(Bs), crank_free(M);
    return status;
}

static crank_status unmerge(crank_context *context, crank_site *site, double *W, double *bias)
{
    const options *o = site->options;
    const state   *st = site->state;
    int64_t        out = site->linear->out;
    double         s = o->scale;
    crank_status   status = st->scale ? crank_param_read(context, st->scale, &s, CRANK_F64) : CRANK_OK;
    if (status == CRANK_OK && bias) status = subtract_biases(context, st->B, st->a, st->d, s, out, bias);
    if (status == CRANK_OK && bias) status = subtract_biases(context, st->Bs, st->as, st->ds, s, out, bias);
    if (status == CRANK_OK && st->A) {
        double *A = small_read(context, st->A), *B = small_read(context, st->B);
        if (A && B) subtract(W, out, site->linear->in, s, B, A, st->A->view.dims[0]);
        else status = crank_last_status(context);
        crank_free(A), crank_free(B);
    }
    return status == CRANK_OK && st->As ? unmerge_sequential(context, site, s, W, bias) : status;
}

const crank_map crank_map_hydra = {
    .name         = "hydra",
    .paper        = "arXiv:2309.06922",
    .summary      = "a low-rank branch on the layer's input and one on its output",
    .options      = option_table,
    .options_size = sizeof(options),
    .state_size   = sizeof(state),
    .affine       = true,
    .embeddings   = true,
    .attach       = attach,
    .derive       = derive,
    .forward      = forward,
    .as_lora      = as_lora,
    .unmerge      = unmerge,
};
