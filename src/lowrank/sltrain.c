/* sltrain.c - the weight is a low-rank product plus a sparse matrix at random, fixed places (Han et al. 2024, arXiv:2406.02214).
 *
 *     W = s B A + S        A [r, in], B [out, r], s = alpha / r;  S [out, in] has floor(density * out * in) values v at fixed places
 *     y = s (x A^T) B^T + x S^T
 *
 * base: none replaces the linear's weight, which is then not read at all (pre-training: a model from model.config); base: keep adds to
 * it (fine-tuning). A and v start uniform in 1/sqrt(in), B at zero, so the new weight starts as S. Places are a uniform random subset,
 * drawn once (Floyd's algorithm) and kept in the adapter. Neither a dense W nor its gradient is formed: S is applied place by place
 * (operation sparse_matmul), and v's gradient is that of the places alone. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "crank/linear.h"

typedef struct {
    int64_t     rank;
    double      alpha, density;
    const char *base;
    bool        train_scale;
} options;

typedef struct {
    crank_param *A, *B;     /* NULL with rank 0 */
    crank_param *v, *index; /* f32 [k], i32 [k] ascending; NULL with density 0 */
    crank_param *theta;     /* [1], or NULL */
    double       scale;     /* s */
} state;

static const crank_option option_table[] = {
    CRANK_INT(options, rank, 128, 0, 65536, "rank r of the product; 0: the sparse part alone"),
    CRANK_FLOAT(options, alpha, 32, 0, 1e9, "the product is scaled by alpha / rank"),
    CRANK_FLOAT(options, density, 0.03, 0, 0.999, "share of the weight's places that the sparse part has"),
    CRANK_CHOICE(options, base, "none", "none|keep", "the linear's own weight: replaced, or added to"),
    CRANK_BOOL(options, train_scale, false, "the scale is tanh of a trained number that starts at 1, instead of alpha / rank"),
    CRANK_END
};

/* ---- places ---- */

static int ascending(const void *a, const void *b) { return (*(const int32_t *)a > *(const int32_t *)b) - (*(const int32_t *)a < *(const int32_t *)b); }

/* A set of places by open addressing; -1 is free. Returns whether the place is new. */
static bool insert(int32_t *table, uint64_t mask, int32_t place)
{
    uint64_t at = (uint64_t)place * 0x9E3779B97F4A7C15u >> 20 & mask;
    while (table[at] >= 0 && table[at] != place) at = (at + 1) & mask;
    if (table[at] == place) return false;
    table[at] = place;
    return true;
}

/* Floyd: for j = all - count .. all - 1 take a place of 0..j, or j itself where that is taken: every subset is equally likely. */
static crank_status draw_places(crank_context *context, crank_stream stream, int64_t all, int64_t count, int32_t *places)
{
    uint64_t size = 16;
    while (size < 2 * (uint64_t)count) size *= 2;
    int32_t *table = crank_alloc(context, size, sizeof *table, "places of a sparse weight");
    if (!table) return CRANK_FAILED;
    memset(table, -1, size * sizeof *table);
    for (int64_t k = 0; k < count; k++) {
        int64_t j = all - count + k;
        int32_t place = (int32_t)crank_draw_below(stream, (uint64_t)k, (uint64_t)(j + 1));
        if (!insert(table, size - 1, place)) insert(table, size - 1, place = (int32_t)j);
        places[k] = place;
    }
    crank_free(table);
    qsort(places, (size_t)count, sizeof *places, ascending);
    return CRANK_OK;
}

static crank_status write_places(crank_context *context, const crank_site *site, crank_param *index)
{
    int64_t  count = index->view.dims[0];
    int32_t *places = crank_alloc(context, (size_t)count, sizeof *places, "places of a sparse weight");
    if (!places) return CRANK_FAILED;
    crank_stream stream = crank_stream_make(site->seed, CRANK_RANDOM_BASIS, crank_hash_name(site->linear->name));
    crank_status status = draw_places(context, stream, site->linear->in * site->linear->out, count, places);
    if (status == CRANK_OK) status = crank_param_write(context, index, places, CRANK_I32);
    crank_free(places);
    return status;
}

/* ---- parameters ---- */

static crank_status write_uniform(crank_context *context, const crank_site *site, crank_param *param, double bound)
{
    size_t n = (size_t)crank_view_count(&param->view);
    float *values = crank_alloc(context, n, sizeof *values, "initial values");
    if (!values) return CRANK_FAILED;
    crank_fill_uniform(crank_stream_make(site->seed, CRANK_RANDOM_INIT, crank_hash_name(param->name)), 0, (float)-bound, (float)bound, values, n);
    crank_status status = crank_param_write(context, param, values, CRANK_F32);
    crank_free(values);
    return status;
}

static crank_status attach_product(crank_context *context, crank_site *site, int64_t r)
{
    const options      *opt = site->options;
    state              *st = site->state;
    const crank_linear *linear = site->linear;
    int64_t             one = 1;
    st->scale = opt->alpha / (double)r;
    st->A = crank_site_param(context, site, "A", CRANK_F32, 2, (const int64_t[]){ r, linear->in }, true);
    st->B = crank_site_param(context, site, "B", CRANK_F32, 2, (const int64_t[]){ linear->out, r }, true);
    if (!st->A || !st->B) return crank_last_status(context);
    if (opt->train_scale) {
        const float start = 1;
        st->theta = crank_site_param(context, site, "theta", CRANK_F32, 1, &one, true);
        if (!st->theta) return crank_last_status(context);
        st->theta->no_decay = true;
        if (st->theta->view.data && crank_param_write(context, st->theta, &start, CRANK_F32)) return crank_last_status(context);
    }
    return st->A->view.data ? write_uniform(context, site, st->A, 1 / sqrt((double)linear->in)) : CRANK_OK;
}

static crank_status attach(crank_context *context, crank_site *site)
{
    const options      *opt = site->options;
    state              *st = site->state;
    const crank_linear *linear = site->linear;
    int64_t             all = linear->in * linear->out, count;
    crank_status        status = CRANK_OK;
    if (linear->out > INT32_MAX / linear->in)
        return crank_fail(context, CRANK_USAGE, "%s has more than 2^31 - 1 places: sltrain numbers them with 32 bits", linear->name);
    count = (int64_t)(opt->density * (double)all);
    if (!opt->rank && !count) return crank_fail(context, CRANK_USAGE, "%s: with rank 0 and a density of %g nothing is left", linear->name, opt->density);
    if (opt->rank > linear->in || opt->rank > linear->out)
        crank_log(context, CRANK_WARNING, "%s: rank %lld is more than the weight [%lld, %lld] can have", linear->name, (long long)opt->rank,
                  (long long)linear->out, (long long)linear->in);
    if (opt->rank) status = attach_product(context, site, opt->rank);
    if (status != CRANK_OK || !count) return status;
    st->v = crank_site_param(context, site, "v", CRANK_F32, 1, &count, true);
    st->index = crank_site_param(context, site, "index", CRANK_I32, 1, &count, false);
    if (!st->v || !st->index) return crank_last_status(context);
    if (!st->v->view.data) return CRANK_OK; /* planning without memory */
    status = write_uniform(context, site, st->v, 1 / sqrt((double)linear->in));
    return status == CRANK_OK ? write_places(context, site, st->index) : status;
}

/* ---- forward ---- */

/* s (x A^T) B^T [n, out] */
static crank_tensor *product(crank_graph *graph, const crank_site *site, crank_tensor *x)
{
    const state  *st = site->state;
    crank_dtype   compute = crank_graph_compute(graph);
    crank_tensor *B = crank_cast(crank_use(graph, st->B), compute), *down = crank_linear_down(graph, site->linear, x, crank_use(graph, st->A));
    if (!st->theta) return crank_matmul_full(down, false, B, true, st->scale, NULL, NULL, CRANK_DTYPES);
    return crank_mul(crank_matmul(down, false, B, true), crank_cast(crank_unary(CRANK_TANH, crank_use(graph, st->theta)), compute));
}

/* x [n, in], y0 [n, out] from what stands below -> y [n, out] */
static crank_tensor *forward(crank_graph *graph, crank_site *site, crank_tensor *x, crank_tensor *y0)
{
    const options      *opt = site->options;
    const state        *st = site->state;
    const crank_linear *linear = site->linear;
    crank_tensor       *y = opt->base[0] == 'k' ? y0 : NULL;
    if (st->A) {
        crank_tensor *low = product(graph, site, x);
        y = y ? crank_add(y, low) : low;
    }
    if (!st->v) return y;
    crank_tensor *sparse = crank_sparse_matmul(x, crank_use(graph, st->v), crank_use(graph, st->index), linear->out, linear->in, false);
    return y ? crank_add(y, sparse) : sparse;
}

const crank_map crank_map_sltrain = {
    .name         = "sltrain",
    .paper        = "arXiv:2406.02214",
    .summary      = "a low-rank product plus a sparse matrix at random, fixed places instead of the weight",
    .options      = option_table,
    .options_size = sizeof(options),
    .state_size   = sizeof(state),
    .affine       = true,
    .attach       = attach,
    .forward      = forward,
};
