/* nola.c - LoRA's factors as combinations of frozen random matrices (Koohpayegani et al. 2024, arXiv:2310.02556).
 *
 *     A = A0 + (1/sqrt k) sum_i a_i A_i     [r, in]       y = y0 + s (x A^T) B^T, s = alpha / r
 *     B =      (1/sqrt l) sum_j b_j B_j     [out, r]
 *
 * Trained: a [k] and b [l], both zero at the start, so B is zero and the adapted model starts equal to the base; their number depends
 * on neither the rank nor the size of the layer. Entries of A_i and B_j are U(-1, 1), A0 is U(-1/sqrt in, 1/sqrt in), all drawn from
 * Philox (seed, BASIS, hash of what they are): an adapter is its coefficients and the seed. share: linears of one size use one set of A_i and
 * B_j. Memory of the matrices:
 *
 *     streamed   none: they are drawn again, tile by tile, for each combination and each gradient (nola_basis.h)
 *     stored     k r in + l out r numbers a linear (with share: once a size); a combination is one product [1, k] [k, r in]
 *     auto       streamed where the device has the operation (the CPU), else stored
 *
 * Both combine the same matrices, once a step. With `bits` the coefficients of a factor act as whole steps of their largest one. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "crank/random.h"
#include "linear/stack.h"
#include "lowrank/nola_basis.h"
#include "lowrank/pair.h"
#include "lowrank/start.h"

typedef struct {
    int64_t rank, basis, basis_b, seed, bits;
    double  alpha, dropout;
    bool    share;
    const char *matrices;
} options;

typedef struct {
    crank_param *a, *b;                    /* [k], [l] */
    crank_param *start, *basis_A, *basis_B; /* A0 [r, in], [k, r in], [l, out r]; streamed: NULL */
    int64_t      k, l;
} state;

static const crank_option option_table[] = {
    CRANK_INT(options, rank, 16, 1, 65536, "rank r of the update; the number of trained parameters does not depend on it"),
    CRANK_FLOAT(options, alpha, 1, 0, 1e9, "the update is scaled by alpha / rank"),
    CRANK_INT(options, basis, 128, 1, 1000000, "random matrices, and coefficients, of the factor A"),
    CRANK_INT(options, basis_b, 0, 0, 1000000, "of the factor B; 0: as many as of A"),
    CRANK_INT(options, seed, 1, 0, 9007199254740991, "names the random matrices"),
    CRANK_INT(options, bits, 0, 0, 8, "4 or 8: coefficients act as numbers of so many bits, in training too (their gradient goes straight through); 0: f32"),
    CRANK_BOOL(options, share, false, "linears of one size use one set of random matrices"),
    CRANK_CHOICE(options, matrices, "auto", "auto|streamed|stored", "random matrices are drawn again where they are read, or kept in memory; auto: drawn again on the CPU"),
    CRANK_FLOAT(options, dropout, 0, 0, 0.999, "share of the inputs of the update's branch that is dropped in training"),
    CRANK_END
};

/* ---- random matrices ---- */

/* The stream of a site's matrices: by the linear's name, or by its size where linears of one size share. */
static crank_stream stream_of(const crank_site *site, const char *what, bool shared)
{
    const options *o = site->options;
    char           text[512];
    if (shared) snprintf(text, sizeof text, "nola.%s.%lld.%lld.%lld", what, (long long)site->linear->out, (long long)site->linear->in, (long long)o->rank);
    else snprintf(text, sizeof text, "nola.%s.%s", what, site->linear->name);
    return crank_stream_make((uint64_t)o->seed, CRANK_RANDOM_BASIS, crank_hash_name(text));
}

static crank_param *add_random(crank_context *context, crank_site *site, const char *name, int64_t rows, int64_t columns, double bound, bool shared)
{
    crank_param *param = crank_site_state(context, site, name, CRANK_ROLE_CACHE, CRANK_F32, 2, (const int64_t[]){rows, columns});
    if (!param || !param->view.data) return param;
    float *values = crank_alloc(context, (size_t)(rows * columns), sizeof *values, "random matrices");
    if (!values) return NULL;
    crank_fill_uniform(stream_of(site, name, shared), 0, (float)-bound, (float)bound, values, (size_t)(rows * columns));
    crank_status status = crank_param_write(context, param, values, CRANK_F32);
    crank_free(values);
    return status == CRANK_OK ? param : NULL;
}

/* An earlier site of the attachment with the same matrices. */
static const state *sharing(const crank_site *site)
{
    const options *o = site->options;
    for (int i = 1; o->share && i <= site->index; i++) {
        const crank_site *other = site - i;
        const options    *its = other->options;
        if (other->linear->in == site->linear->in && other->linear->out == site->linear->out && its->rank == o->rank && its->basis == o->basis &&
            its->basis_b == o->basis_b)
            return other->state;
    }
    return NULL;
}

static bool host_device(const crank_site *site) { return crank_params_device(crank_linears_params(site->linear->owner))->host; }

static bool streams(const crank_site *site)
{
    const options *o = site->options;
    return strcmp(o->matrices, "auto") == 0 ? host_device(site) : strcmp(o->matrices, "streamed") == 0;
}

static crank_status attach(crank_context *context, crank_site *site)
{
    const options *o = site->options;
    state         *st = site->state;
    int64_t        r = o->rank, in = site->linear->in, out = site->linear->out;
    const state   *like = sharing(site);
    st->k = o->basis, st->l = o->basis_b ? o->basis_b : o->basis;
    st->a = crank_site_param(context, site, "a", CRANK_F32, 1, &st->k, true);
    st->b = crank_site_param(context, site, "b", CRANK_F32, 1, &st->l, true);
    if (!st->a || !st->b) return crank_last_status(context);
    st->start = add_random(context, site, "start", r, in, 1 / sqrt((double)in), false);
    if (o->bits && o->bits != 4 && o->bits != 8) return crank_fail(context, CRANK_USAGE, "nola: bits %lld: coefficients have 4 or 8 bits, or 0 for f32", (long long)o->bits);
    if (o->bits && !streams(site)) return crank_fail(context, CRANK_USAGE, "nola: bits need matrices: streamed, which the CPU has");
    if (streams(site) && !host_device(site))
        return crank_fail(context, CRANK_USAGE, "nola: matrices are drawn again on the CPU alone: set lowrank.matrices to stored or auto on this device");
    if (streams(site)) return st->start ? CRANK_OK : crank_last_status(context);
    st->basis_A = like ? like->basis_A : add_random(context, site, "basis_A", st->k, r * in, 1, o->share);
    st->basis_B = like ? like->basis_B : add_random(context, site, "basis_B", st->l, out * r, 1, o->share);
    return st->start && st->basis_A && st->basis_B ? CRANK_OK : crank_last_status(context);
}

/* ---- recording ---- */

/* (1/sqrt k) sum of coefficients times matrices, as [rows, columns]. */
static crank_tensor *combine(crank_graph *graph, const crank_site *site, crank_param *coefficients, crank_param *basis, const char *name, int64_t rows, int64_t columns,
                             crank_dtype wide)
{
    int64_t k = coefficients->view.dims[0];
    if (!basis) return nola_combination(graph, crank_cast(crank_use(graph, coefficients), wide), stream_of(site, name, ((const options *)site->options)->share), rows, columns, ((const options *)site->options)->bits);
    crank_tensor *c = crank_reshape(crank_cast(crank_use(graph, coefficients), wide), 2, (const int64_t[]){1, k});
    crank_tensor *sum = crank_matmul_full(c, false, crank_cast(crank_use(graph, basis), wide), false, 1 / sqrt((double)k), NULL, NULL, CRANK_DTYPES);
    return crank_reshape(sum, 2, (const int64_t[]){rows, columns});
}

static void derive(crank_graph *graph, crank_site *site)
{
    const options *o = site->options;
    const state   *st = site->state;
    crank_dtype    compute = crank_graph_compute(graph), wide = compute == CRANK_F64 ? CRANK_F64 : CRANK_F32;
    crank_tensor  *A = combine(graph, site, st->a, st->basis_A, "basis_A", o->rank, site->linear->in, wide);
    crank_tensor  *B = combine(graph, site, st->b, st->basis_B, "basis_B", site->linear->out, o->rank, wide);
    crank_site_put(graph, site, "A", crank_add(A, crank_cast(crank_use(graph, st->start), wide)));
    crank_site_put(graph, site, "B", crank_cast(B, compute));
}

/* x [n, in], y0 [n, out] from what stands below -> y [n, out] */
static crank_tensor *forward(crank_graph *graph, crank_site *site, crank_tensor *x, crank_tensor *y0)
{
    const options *o = site->options;
    if (o->dropout > 0 && crank_graph_training(graph)) x = crank_dropout(x, o->dropout);
    crank_tensor *P = crank_linear_down(graph, site->linear, x, crank_site_get(graph, site, "A")); /* [n, r] */
    return crank_matmul_full(P, false, crank_site_get(graph, site, "B"), true, o->alpha / (double)o->rank, NULL, y0, CRANK_DTYPES);
}

/* ---- export ---- */

/* out [n] += (1/sqrt k) sum of coefficients times matrices. */
static crank_status add_combination(crank_context *context, const crank_site *site, const crank_param *coefficients, const char *name, float *out, int64_t n)
{
    int64_t      k = coefficients->view.dims[0];
    float       *c = crank_alloc(context, (size_t)k, sizeof *c, "coefficients");
    crank_status status = c ? crank_param_read(context, coefficients, c, CRANK_F32) : CRANK_FAILED;
    int64_t      bits = ((const options *)site->options)->bits;
    double      *wide = status == CRANK_OK && bits ? crank_alloc(context, (size_t)k, sizeof *wide, "coefficients") : NULL;
    if (status == CRANK_OK && bits && !wide) status = CRANK_FAILED;
    for (int64_t i = 0; wide && i < k; i++) wide[i] = (double)c[i];
    if (wide) nola_quantise(wide, k, bits);
    for (int64_t i = 0; wide && i < k; i++) c[i] = (float)wide[i];
    crank_free(wide);
    if (status == CRANK_OK) status = nola_add_combination(context, c, k, stream_of(site, name, ((const options *)site->options)->share), out, n);
    crank_free(c);
    return status;
}

static crank_status as_lora(crank_context *context, crank_site *site, int64_t *rank, double *scale, float **A, float **B)
{
    const options *o = site->options;
    const state   *st = site->state;
    int64_t        r = o->rank, in = site->linear->in, out = site->linear->out;
    *A = crank_alloc(context, (size_t)(r * in), sizeof **A, "a factor");
    *B = crank_alloc(context, (size_t)(out * r), sizeof **B, "a factor");
    crank_status status = *A && *B ? crank_param_read(context, st->start, *A, CRANK_F32) : CRANK_FAILED;
    if (status == CRANK_OK) status = add_combination(context, site, st->a, "basis_A", *A, r * in);
    if (status == CRANK_OK) status = add_combination(context, site, st->b, "basis_B", *B, out * r);
    if (status != CRANK_OK) crank_free(*A), crank_free(*B);
    *rank = r;
    *scale = o->alpha / (double)r;
    return status;
}

const crank_map crank_map_nola = {
    .name         = "nola",
    .paper        = "arXiv:2310.02556",
    .summary      = "trains the coefficients of LoRA's factors over frozen random matrices",
    .options      = option_table,
    .options_size = sizeof(options),
    .state_size   = sizeof(state),
    .affine       = true,
    .attach       = attach,
    .derive       = derive,
    .forward      = forward,
    .as_lora      = as_lora,
};
