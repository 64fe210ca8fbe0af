/* svfit.c - trained singular values between frozen singular vectors (Sun et al. 2024, arXiv:2409.05926).
 *
 *     W = U diag(sigma) V^T;   y = y0 + ((x V) o d) U^T        V^T [r, in], U [out, r], d [r] = the change of the singular values
 *
 * in the delta form: W stays whole and d starts at zero, which is the same function and gradient as training sigma beside the frozen rest,
 * with a bit-exact start on any base. The trained parameter t gives
 *
 *     absolute   d = t          relative   d = sigma t          exp   d = sigma (e^t - 1)
 *
 * Where many singular values are trained on many tokens, W + U diag(d) V^T is built once a step and the layer is one product (dense.h).
 *
 * Weight decay pulls towards the pre-trained value. rank 0 takes all singular values; `energy` takes for each linear the fewest whose
 * squares hold that share. U, sigma and V stand in the adapter's files, since singular vectors are not
 * unique: signs do not matter, a rotation among equal singular values does. With save_vectors false the files hold t alone, a few numbers a
 * linear, and the decomposition, which gives the same vectors for the same bits, is made again from a base whose fingerprint is checked. */
#include <math.h>
#include <string.h>

#include "lowrank/dense.h"
#include "lowrank/pair.h"
#include "lowrank/spectrum.h"
#include "lowrank/start.h"

typedef struct {
    int64_t     rank;
    double      energy;
    const char *form;
    bool        nonnegative, save_vectors;
    const char *schedule;
} options;

typedef struct {
    crank_param *U, *V, *sigma, *t;
} state;

static const crank_option option_table[] = {
    CRANK_INT(options, rank, 0, 0, 65536, "trained singular values, largest first; 0: all"),
    CRANK_FLOAT(options, energy, 0, 0, 1, "share of the squared singular values that the trained ones hold, instead of rank; 0: off"),
    CRANK_CHOICE(options, form, "absolute", "absolute|relative|exp", "the trained number is added to the singular value, or its relative or logarithmic change"),
    CRANK_BOOL(options, save_vectors, true, "singular vectors and values stand in the adapter's files; else they are computed again from the weight when it is loaded"),
    CRANK_CHOICE(options, schedule, "auto", "auto|factored|dense", "two products by singular vectors, or one with the changed weight, built once a graph; auto: the cheaper"),
    CRANK_BOOL(options, nonnegative, false, "singular values do not fall below zero"),
    CRANK_END
};

static int64_t smaller_side(const crank_linear *linear) { return linear->in < linear->out ? linear->in : linear->out; }
static int64_t rank_of(const crank_site *site)
{
    const options *o = site->options;
    return o->rank ? o->rank : smaller_side(site->linear);
}

/* The fewest singular values that hold the share. */
static crank_status by_energy(crank_context *context, crank_site *site, double share)
{
    spectrum     w;
    int64_t      all = smaller_side(site->linear), r = 0;
    double       sum = 0, held = 0;
    crank_status status = spectrum_of_weight(context, site, all, &w);
    if (status) return status;
    for (int64_t i = 0; i < all; i++) sum += w.s[i] * w.s[i];
    while (r < all && held < share * sum) held += w.s[r] * w.s[r], r++;
    spectrum_free(&w);
    return crank_site_rank(context, site, r ? r : 1);
}

static crank_status allot(crank_context *context, crank_site *sites, int count)
{
    for (int i = 0; i < count; i++) {
        const options *o = sites[i].options;
        if (o->energy <= 0 || o->rank > 0 || !sites[i].linear->weight->view.data) continue;
        crank_status status = by_energy(context, &sites[i], o->energy);
        if (status) return status;
    }
    return CRANK_OK;
}

/* Rotations among nearly equal singular values change the meaning of each: worth knowing before adapters are compared. */
static void warn_clusters(crank_context *context, const crank_site *site, const spectrum *w)
{
    bool saved = ((const options *)site->options)->save_vectors;
    int64_t close = 0;
    for (int64_t i = 0; i + 1 < w->r; i++) close += w->s[i] - w->s[i + 1] < 1e-6 * w->s[0];
    if (close)
        crank_log(context, saved ? CRANK_DEBUG : CRANK_WARNING, "svfit: %s has %lld gaps between singular values below 1e-6 of the largest%s", site->linear->name, (long long)close,
                  saved ? "" : ": another decomposition may turn their vectors, set lowrank.save_vectors to true");
}

static crank_status write_start(crank_context *context, crank_site *site, const state *st)
{
    spectrum     w;
    crank_status status = spectrum_of_weight(context, site, rank_of(site), &w);
    if (status) return status;
    warn_clusters(context, site, &w);
    status = crank_param_write(context, st->U, w.U, CRANK_F32);
    if (status == CRANK_OK) status = crank_param_write(context, st->V, w.Vt, CRANK_F32);
    if (status == CRANK_OK) status = crank_param_write(context, st->sigma, w.s, CRANK_F64);
    spectrum_free(&w);
    return status;
}

/* A frozen part of the decomposition: in the adapter's files, or a cache. */
static crank_param *frozen(crank_context *context, crank_site *site, const char *name, int rank, const int64_t *dims)
{
    const options *o = site->options;
    return o->save_vectors ? crank_site_param(context, site, name, CRANK_F32, rank, dims, false) : crank_site_state(context, site, name, CRANK_ROLE_CACHE, CRANK_F32, rank, dims);
}

static crank_status attach(crank_context *context, crank_site *site)
{
    state              *st = site->state;
    const crank_linear *linear = site->linear;
    int64_t             r = rank_of(site);
    if (r > smaller_side(linear))
        return crank_fail(context, CRANK_USAGE, "%s is a %lld x %lld map with %lld singular values, not %lld: lower lowrank.rank, or set it to 0 for all", linear->name,
                          (long long)linear->out, (long long)linear->in, (long long)smaller_side(linear), (long long)r);
    st->U = frozen(context, site, "U", 2, (const int64_t[]){ linear->out, r });
    st->V = frozen(context, site, "V", 2, (const int64_t[]){ r, linear->in });
    st->sigma = frozen(context, site, "sigma", 1, &r);
    st->t = crank_site_param(context, site, "t", CRANK_F32, 1, &r, true);
    if (!st->U || !st->V || !st->sigma || !st->t) return crank_last_status(context);
    if (!st->U->view.data || !linear->weight->view.data) return CRANK_OK; /* planning without memory */
    return write_start(context, site, st);
}

/* d [r], in the type of the parameters */
static void derive(crank_graph *graph, crank_site *site)
{
    const options *o = site->options;
    const state   *st = site->state;
    crank_tensor  *t = crank_use(graph, st->t), *sigma = crank_use(graph, st->sigma), *d = t;
    if (strcmp(o->form, "relative") == 0) d = crank_mul(sigma, t);
    if (strcmp(o->form, "exp") == 0) d = crank_mul(sigma, crank_affine(crank_unary(CRANK_EXP, t), 1, -1));
    crank_site_put(graph, site, "d", d);
}

/* Whether one dense product and U diag(d) V^T cost less than the products by V and U: 2 N m n + 4 m n r < 4 N r (m + n). */
static bool dense_is_cheaper(const crank_site *site, int64_t tokens, int64_t r)
{
    double N = (double)tokens, m = (double)site->linear->out, n = (double)site->linear->in;
    return 2 * N * m * n + 4 * m * n * (double)r < 4 * N * (double)r * (m + n);
}

/* x [n, in], y0 [n, out] from what stands below -> y [n, out] */
static crank_tensor *forward(crank_graph *graph, crank_site *site, crank_tensor *x, crank_tensor *y0)
{
    const options *o = site->options;
    const state   *st = site->state;
    crank_dtype    compute = crank_graph_compute(graph);
    bool           dense = strcmp(o->schedule, "auto") == 0 ? dense_is_cheaper(site, x->dims[0], st->t->view.dims[0]) : strcmp(o->schedule, "dense") == 0;
    if (dense && dense_serves(graph, site)) {
        crank_tensor *U = crank_cast(crank_use(graph, st->U), compute), *V = crank_cast(crank_use(graph, st->V), compute);
        return dense_forward(graph, site, x, crank_matmul(crank_mul(U, crank_cast(crank_site_get(graph, site, "d"), compute)), false, V, false));
    }
    crank_tensor *z = crank_linear_down(graph, site->linear, x, crank_use(graph, st->V)); /* [n, r] */
    crank_tensor *scaled = crank_mul(z, crank_cast(crank_site_get(graph, site, "d"), compute));
    return crank_add(y0, crank_matmul(scaled, false, crank_cast(crank_use(graph, st->U), compute), true));
}

/* sigma + d >= 0 */
static void after_step(crank_graph *graph, crank_site *site)
{
    const options *o = site->options;
    const state   *st = site->state;
    if (!o->nonnegative || strcmp(o->form, "exp") == 0) return;
    crank_tensor *t = crank_use(graph, st->t), *sigma = crank_use(graph, st->sigma);
    crank_tensor *floor = strcmp(o->form, "relative") == 0 ? crank_fill(graph, t->dtype, 0, NULL, -1) : crank_scale(sigma, -1);
    crank_assign(t, crank_binary(CRANK_MAX, t, floor), false);
}

static double change(const options *o, double sigma, double t)
{
    if (strcmp(o->form, "relative") == 0) return sigma * t;
    return strcmp(o->form, "exp") == 0 ? sigma * expm1(t) : t;
}

/* A' = V^T, B' = U diag(d) */
static crank_status as_lora(crank_context *context, crank_site *site, int64_t *rank, double *scale, float **A, float **B)
{
    const state *st = site->state;
    int64_t      r = st->t->view.dims[0], in = site->linear->in, out = site->linear->out;
    float       *a = crank_alloc(context, (size_t)(r * in), sizeof *a, "a factor"), *b = crank_alloc(context, (size_t)(r * out), sizeof *b, "a factor");
    float       *t = crank_alloc(context, (size_t)(2 * r), sizeof *t, "singular values");
    crank_status status = a && b && t ? CRANK_OK : CRANK_FAILED;
    if (status == CRANK_OK) status = crank_param_read(context, st->V, a, CRANK_F32);
    if (status == CRANK_OK) status = crank_param_read(context, st->U, b, CRANK_F32);
    if (status == CRANK_OK) status = crank_param_read(context, st->t, t, CRANK_F32);
    if (status == CRANK_OK) status = crank_param_read(context, st->sigma, t + r, CRANK_F32);
    for (int64_t i = 0; status == CRANK_OK && i < out; i++)
        for (int64_t k = 0; k < r; k++) b[i * r + k] = (float)((double)b[i * r + k] * change(site->options, (double)t[r + k], (double)t[k]));
    crank_free(t);
    return pair_give(status, r, 1, a, b, rank, scale, A, B);
}

const crank_map crank_map_svfit = {
    .name         = "svfit",
    .paper        = "arXiv:2409.05926",
    .summary      = "trains singular values of the weight, its singular vectors stay",
    .options      = option_table,
    .options_size = sizeof(options),
    .state_size   = sizeof(state),
    .affine       = true,
    .needs_base   = "dense",
    .allot        = allot,
    .attach       = attach,
    .derive       = derive,
    .forward      = forward,
    .after_step   = after_step,
    .as_lora      = as_lora,
};
