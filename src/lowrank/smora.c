/* smora.c - a mixture whose experts are single ranks (Zhao et al. 2025, arXiv:2501.15103).
 *
 *     u = x A^T [n, R],  q = sigmoid(x router^T) [n, R / p],  c = q + bias
 *     T = the k / p largest c of each row,  g = c / sum_T c on T, else 0, each entry repeated p times
 *     y = y0 + (alpha / p) (g o u) B^T
 *
 * p = `partition` ranks make one expert; p = 1 is the paper's. k gates sum to k times alpha / k. The choice has no gradient. `bias` evens
 * the load without a loss: behind each step an expert that more rows chose than the mean loses mu, one that fewer chose gains it. With
 * `gate_uses_bias` false the weights are q on T (the choice still follows c); gate `softmax` with p = r makes MoE-LoRA with experts of rank
 * r. Loads are those of the real rows of all micro-batches and processes of a step. The gates depend on the row, so the method cannot be
 * merged; the router works in f32. */
#include <math.h>
#include <string.h>

#include "linear/stack.h"
#include "lowrank/start.h"

typedef struct {
    int64_t     rank, active, partition;
    double      alpha, mu, dropout;
    bool        gate_uses_bias;
    const char *gate;
} options;

typedef struct {
    crank_param *A, *B, *router, *bias, *counts, *load;
} state;

static const crank_option option_table[] = {
    CRANK_INT(options, rank, 64, 1, 65536, "ranks in all"),
    CRANK_INT(options, active, 0, 0, 65536, "ranks that act on a row; 0: an eighth of all, whole experts"),
    CRANK_INT(options, partition, 1, 1, 65536, "ranks of one expert: divides rank and active"),
    CRANK_FLOAT(options, alpha, 16, 0, 1e9, "the update is scaled by alpha over the active ranks"),
    CRANK_FLOAT(options, mu, 1e-5, 0, 1, "step of the bias that evens the load; 0: none"),
    CRANK_BOOL(options, gate_uses_bias, true, "gates hold the bias too, not the choice alone"),
    CRANK_CHOICE(options, gate, "sigmoid", "sigmoid|softmax", "what the router's values become"),
    CRANK_FLOAT(options, dropout, 0, 0, 0.999, "share of the inputs of the update's branch that is dropped in training"),
    CRANK_END
};

static int64_t active_of(const options *o)
{
    int64_t experts = o->rank / o->partition / 8;
    return o->active ? o->active : (experts ? experts : 1) * o->partition;
}

static crank_status check(crank_context *context, const options *o, const char *where)
{
    if (o->active > o->rank) return crank_fail(context, CRANK_USAGE, "%s: %lld of %lld ranks cannot be active: lower lowrank.active", where, (long long)o->active, (long long)o->rank);
    if (o->rank % o->partition || o->active % o->partition)
        return crank_fail(context, CRANK_USAGE, "%s: partition %lld must divide rank %lld and active %lld", where, (long long)o->partition, (long long)o->rank,
                          (long long)o->active);
    return CRANK_OK;
}

static crank_status attach(crank_context *context, crank_site *site)
{
    const options      *o = site->options;
    state              *st = site->state;
    const crank_linear *linear = site->linear;
    int64_t             experts = o->rank / o->partition;
    crank_status        status = check(context, o, linear->name);
    if (status) return status;
    st->A = crank_site_param(context, site, "A", CRANK_F32, 2, (const int64_t[]){ o->rank, linear->in }, true);
    st->B = crank_site_param(context, site, "B", CRANK_F32, 2, (const int64_t[]){ linear->out, o->rank }, true);
    st->router = crank_site_param(context, site, "router", CRANK_F32, 2, (const int64_t[]){ experts, linear->in }, true);
    st->bias = crank_site_param(context, site, "bias", CRANK_F32, 1, &experts, false);
    st->counts = crank_site_state(context, site, "counts", CRANK_ROLE_CACHE, CRANK_F32, 1, &experts);
    st->load = crank_site_state(context, site, "load", CRANK_ROLE_CACHE, CRANK_F32, 1, &experts);
    if (!st->A || !st->B || !st->router || !st->bias || !st->counts || !st->load) return crank_last_status(context);
    st->counts->summed = true;
    status = start_factor(context, site, st->A, "kaiming", linear->in);
    return status ? status : start_factor(context, site, st->router, "kaiming", linear->in);
}

/* Gates [n, experts] in the router's type, and the mask of the choice. */
static crank_tensor *gates(crank_graph *graph, const crank_site *site, crank_tensor *x, crank_tensor **mask)
{
    const options *o = site->options;
    const state   *st = site->state;
    crank_tensor  *router = crank_use(graph, st->router), *tiny = crank_fill(graph, router->dtype, 0, NULL, 1e-9);
    crank_tensor  *z = crank_matmul(crank_cast(x, router->dtype), false, router, true);
    crank_tensor  *q = strcmp(o->gate, "softmax") == 0 ? crank_softmax(z, false) : crank_unary(CRANK_SIGMOID, z);
    crank_tensor  *c = crank_add(q, crank_use(graph, st->bias));
    *mask = crank_top_k(c, active_of(o) / o->partition);
    crank_tensor *w = crank_mul(o->gate_uses_bias ? c : q, *mask);
    crank_tensor *S = crank_binary(CRANK_MAX, crank_reduce(CRANK_SUM, w, 2u, true), tiny); /* a very negative bias */
    return crank_div(w, S);
}

/* The choices of filler rows do not count: they would pull the load to what the first token picks. */
static crank_tensor *of_real_rows(crank_graph *graph, crank_tensor *mask)
{
    crank_tensor *filler = linear_filler(graph, mask->dims[0]);
    if (!filler) return mask;
    return crank_mul(mask, crank_cast(crank_reshape(crank_affine(filler, -1, 1), 2, (const int64_t[]){ -1, 1 }), mask->dtype));
}

/* [n, experts] -> [n, R]: each entry p times. */
static crank_tensor *repeated(crank_tensor *g, int64_t p)
{
    if (p == 1) return g;
    int64_t n = g->dims[0], experts = g->dims[1];
    crank_tensor *wide = crank_broadcast(crank_reshape(crank_contiguous(g), 3, (const int64_t[]){ n, experts, 1 }), 3, (const int64_t[]){ n, experts, p });
    return crank_reshape(crank_contiguous(wide), 2, (const int64_t[]){ n, experts * p });
}

/* x [n, in], y0 [n, out] from what stands below -> y [n, out] */
static crank_tensor *forward(crank_graph *graph, crank_site *site, crank_tensor *x, crank_tensor *y0)
{
    const options *o = site->options;
    const state   *st = site->state;
    crank_dtype    compute = crank_graph_compute(graph);
    bool           training = crank_graph_training(graph);
    crank_tensor  *mask, *g = gates(graph, site, x, &mask);
    if (training) crank_assign(crank_use(graph, st->counts), crank_reduce(CRANK_SUM, of_real_rows(graph, mask), 1u, false), true); /* sums over micro-batches */
    if (o->dropout > 0 && training) x = crank_dropout(x, o->dropout);
    crank_tensor *u = crank_linear_down(graph, site->linear, x, crank_use(graph, st->A));
    crank_tensor *v = crank_mul(u, crank_cast(repeated(g, o->partition), compute));
    crank_tensor *B = crank_cast(crank_use(graph, st->B), compute);
    return crank_add(y0, crank_matmul_full(v, false, B, true, o->alpha / (double)o->partition, NULL, NULL, CRANK_DTYPES));
}

/* bias += mu sign(mean load - load); counts of the step are kept as `load` and start again. */
static void after_step(crank_graph *graph, crank_site *site)
{
    const options *o = site->options;
    const state   *st = site->state;
    crank_tensor  *counts = crank_use(graph, st->counts), *bias = crank_use(graph, st->bias);
    crank_tensor  *skip = crank_cast(crank_step_scalar(graph, CRANK_SCALAR_SKIP), bias->dtype);
    crank_tensor  *mean = crank_reduce(CRANK_MEAN, counts, 1u, true);
    crank_tensor  *moved = crank_add(bias, crank_scale(crank_unary(CRANK_SIGN, crank_sub(mean, counts)), o->mu));
    crank_tensor  *next = crank_where(skip, bias, moved), *seen = crank_scale(counts, 1);
    crank_assign(crank_use(graph, st->load), seen, false);
    if (o->mu > 0) crank_assign(bias, next, false);
    crank_assign(counts, crank_fill(graph, counts->dtype, 1, counts->dims, 0), false);
}

/* ---- statistics ---- */

enum { REPORT = 100 };

/* Entropy of the step's load over its largest value, log(experts): 1 is even, 0 one expert for all rows. */
static crank_status load_entropy(crank_context *context, const state *st, double *entropy)
{
    int64_t      n = st->load->view.dims[0];
    double      *load = crank_alloc(context, (size_t)n, sizeof *load, "loads"), sum = 0;
    crank_status status = load ? crank_param_read(context, st->load, load, CRANK_F64) : CRANK_FAILED;
    *entropy = 0;
    for (int64_t i = 0; status == CRANK_OK && i < n; i++) sum += load[i];
    for (int64_t i = 0; status == CRANK_OK && i < n && sum > 0 && n > 1; i++)
        if (load[i] > 0) *entropy -= load[i] / sum * log(load[i] / sum) / log((double)n);
    crank_free(load);
    return status;
}

/* Every REPORT steps: how even the last step's load was. */
static crank_status period(crank_context *context, crank_site *sites, int count, int64_t step, bool *changed)
{
    double mean = 0, least = 1;
    int    worst = 0;
    (void)changed;
    if (step <= 1 || (step - 1) % REPORT || !((state *)sites[0].state)->load->view.data) return CRANK_OK;
    for (int i = 0; i < count; i++) {
        double       entropy;
        crank_status status = load_entropy(context, sites[i].state, &entropy);
        if (status) return status;
        mean += entropy / count;
        if (entropy < least) least = entropy, worst = i;
    }
    crank_log(context, CRANK_DEBUG, "smora: in step %lld the load's entropy was %.3f of its largest on average, least %.3f at %s", (long long)(step - 1), mean, least,
              sites[worst].linear->name);
    return CRANK_OK;
}

const crank_map crank_map_smora = {
    .name         = "smora",
    .paper        = "arXiv:2501.15103",
    .summary      = "a mixture whose experts are single ranks: a router picks a few of them for every row",
    .options      = option_table,
    .options_size = sizeof(options),
    .state_size   = sizeof(state),
    .attach       = attach,
    .forward      = forward,
    .after_step   = after_step,
    .period       = period,
};
