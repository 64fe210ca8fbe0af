/* dylora.c - LoRA that may be cut to any smaller rank afterwards (Valipour et al. 2023, arXiv:2210.07558).
 *
 *     y = y0 + (alpha / b) (x A[:b]^T) B[:b]       A [r, in], B [r, out] (transposed: rank i is row i of both)
 *
 * A step draws one b from rank_min..rank for all layers, so what matters most gathers in the first ranks. mode full trains ranks 1..b,
 * frozen the last `unit` of them alone, with the others' contribution in the forward pass. At evaluation, in merges and exports b is
 * evaluate_rank, which dylora_set_rank changes.
 *
 * The draw is a value, not a shape: `mask` [r] holds alpha / b for ranks below b and 0 behind, so ranks behind b get exactly no
 * gradient, and nothing is recorded again. state dense is the official behaviour: the optimiser's moments and decay go on moving ranks
 * that got no gradient. masked gives each rank a clock of its own, and sleeping ranks stay bit for bit, moments included.
 *
 *     uniform     P(b) equal over rank_min, rank_min + unit, .., rank
 *     geometric   P(b) ~ (1 - p)^(b - 1) p
 *     list        probabilities: one weight for each of these b
 */
#include "lowrank/dylora.h"

#include <math.h>
#include <string.h>

#include "base/number.h"
#include "crank/random.h"
#include "lowrank/start.h"

typedef struct {
    int64_t     rank, rank_min, unit, evaluate_rank;
    double      alpha, dropout, p;
    const char *distribution, *probabilities, *mode, *state;
} options;

typedef struct {
    crank_param *A, *B, *evaluate; /* [r, in], [r, out], [r] */
} state;

typedef struct {
    crank_param *mask, *last, *clock; /* [r], [r, 1], [r, 3] or NULL */
    double      *weights;             /* of the possible b */
    int64_t      choices;
    bool         read; /* the clock's counts were taken from a checkpoint */
    float       *counts;
} shared;

static const crank_option option_table[] = {
    CRANK_INT(options, rank, 8, 1, 65536, "largest rank"),
    CRANK_FLOAT(options, alpha, 16, 0, 1e9, "the update at rank b is scaled by alpha / b"),
    CRANK_INT(options, rank_min, 0, 0, 65536, "smallest rank that is drawn; 0: unit"),
    CRANK_INT(options, unit, 1, 1, 65536, "ranks that come and go together; divides rank and rank_min"),
    CRANK_CHOICE(options, distribution, "uniform", "uniform|geometric|list", "how a step's rank is drawn"),
    CRANK_FLOAT(options, p, 0.15, 1e-6, 0.999999, "parameter of the geometric distribution"),
    CRANK_LIST(options, probabilities, NULL, "list: a weight for each of rank_min, rank_min + unit, .., rank"),
    CRANK_CHOICE(options, mode, "full", "full|frozen", "train all ranks up to the drawn one, or its last unit alone"),
    CRANK_CHOICE(options, state, "dense", "dense|masked", "the optimiser moves ranks that got no gradient too (moments, decay), or leaves them bit for bit"),
    CRANK_INT(options, evaluate_rank, 0, 0, 65536, "rank of evaluation, merge and export; 0: rank"),
    CRANK_FLOAT(options, dropout, 0, 0, 0.999, "share of the inputs of the update's branch that is dropped in training"),
    CRANK_END
};

static int64_t lowest(const options *o) { return o->rank_min ? o->rank_min : o->unit; }

/* ---- attaching ---- */

static crank_status check(crank_context *context, const crank_site *site)
{
    const options *o = site->options;
    const char    *name = site->linear->name;
    if (o->rank % o->unit || lowest(o) % o->unit)
        return crank_fail(context, CRANK_USAGE, "%s: unit %lld must divide rank %lld and rank_min %lld", name, (long long)o->unit, (long long)o->rank, (long long)lowest(o));
    if (lowest(o) > o->rank) return crank_fail(context, CRANK_USAGE, "%s: rank_min %lld is above rank %lld", name, (long long)lowest(o), (long long)o->rank);
    return CRANK_OK;
}

static crank_status allot(crank_context *context, crank_site *sites, int count)
{
    const options *first = sites[0].options;
    for (int i = 0; i < count; i++) {
        const options *o = sites[i].options;
        if (o->rank != first->rank || o->alpha != first->alpha)
            return crank_fail(context, CRANK_USAGE, "%s: one rank is drawn for all layers: leave rank_pattern and alpha_pattern out", sites[i].linear->name);
    }
    return check(context, &sites[0]);
}

/* Weights of the possible ranks. */
static crank_status read_weights(crank_context *context, const options *o, shared *all)
{
    const char *cursor = o->probabilities;
    char        text[64];
    double      sum = 0;
    all->choices = (o->rank - lowest(o)) / o->unit + 1;
    all->weights = crank_alloc(context, (size_t)all->choices, sizeof *all->weights, "weights of ranks");
    if (!all->weights) return CRANK_FAILED;
    bool list = strcmp(o->distribution, "list") == 0, geometric = strcmp(o->distribution, "geometric") == 0;
    for (int64_t i = 0; i < all->choices; i++) {
        double weight = geometric ? pow(1 - o->p, (double)(i * o->unit)) : 1;
        if (list && (!cursor || !crank_list_next(&cursor, text, sizeof text, NULL, 0) || !number_parse(text, &weight) || !(weight >= 0 && weight < 1e18)))
            return crank_fail(context, CRANK_USAGE, "probabilities: %lld weights are needed, numbers from 0 on, one for each rank", (long long)all->choices);
        sum += all->weights[i] = weight;
    }
    if (list && crank_list_next(&cursor, text, sizeof text, NULL, 0)) return crank_fail(context, CRANK_USAGE, "probabilities: more than %lld weights", (long long)all->choices);
    return sum > 0 ? CRANK_OK : crank_fail(context, CRANK_USAGE, "probabilities: all are zero");
}

static crank_status attach_shared(crank_context *context, crank_site *site)
{
    const options *o = site->options;
    shared        *all = site->model;
    crank_status   status = read_weights(context, o, all);
    if (status != CRANK_OK) return status;
    all->mask = crank_site_state(context, site, "mask", CRANK_ROLE_CACHE, CRANK_F32, 1, &o->rank);
    all->last = crank_site_state(context, site, "last", CRANK_ROLE_CACHE, CRANK_F32, 2, (const int64_t[]){o->rank, 1});
    if (!all->mask || !all->last) return crank_last_status(context);
    if (strcmp(o->state, "masked") != 0) return CRANK_OK;
    all->clock = crank_site_state(context, site, "clock", CRANK_ROLE_STATE, CRANK_F32, 2, (const int64_t[]){o->rank, 3});
    all->counts = crank_alloc(context, (size_t)(3 * o->rank), sizeof *all->counts, "counts of ranks");
    return all->clock && all->counts ? CRANK_OK : crank_last_status(context);
}

crank_status dylora_set_rank(crank_context *context, crank_site *site, int64_t rank)
{
    const options *o = site->options;
    crank_param   *evaluate = crank_site_find(site, "evaluate");
    if (!evaluate) return crank_fail(context, CRANK_USAGE, "%s: only a dylora adapter can be cut to a lower rank", site->linear->name);
    if (rank < lowest(o) || rank > o->rank)
        return crank_fail(context, CRANK_USAGE, "%s: rank %lld was not trained: %lld to %lld were", site->linear->name, (long long)rank, (long long)lowest(o), (long long)o->rank);
    if (rank % o->unit)
        return crank_fail(context, CRANK_USAGE, "%s: rank %lld was not trained: ranks come in units of %lld", site->linear->name, (long long)rank, (long long)o->unit);
    if (!evaluate->view.data) return CRANK_OK;
    float *mask = crank_alloc(context, (size_t)o->rank, sizeof *mask, "a mask of ranks");
    for (int64_t i = 0; mask && i < rank; i++) mask[i] = (float)(o->alpha / (double)rank);
    crank_status status = mask ? crank_param_write(context, evaluate, mask, CRANK_F32) : CRANK_FAILED;
    crank_free(mask);
    return status;
}

static crank_status attach(crank_context *context, crank_site *site)
{
    const options *o = site->options;
    state         *st = site->state;
    shared        *all = site->model;
    crank_status   status = site->index == 0 ? attach_shared(context, site) : CRANK_OK;
    if (status != CRANK_OK) return status;
    st->A = crank_site_param(context, site, "A", CRANK_F32, 2, (const int64_t[]){o->rank, site->linear->in}, true);
    st->B = crank_site_param(context, site, "B", CRANK_F32, 2, (const int64_t[]){o->rank, site->linear->out}, true);
    st->evaluate = crank_site_state(context, site, "evaluate", CRANK_ROLE_CACHE, CRANK_F32, 1, &o->rank);
    if (!st->A || !st->B || !st->evaluate) return crank_last_status(context);
    st->A->clock = st->B->clock = all->clock;
    status = dylora_set_rank(context, site, o->evaluate_rank ? o->evaluate_rank : o->rank);
    return status == CRANK_OK ? start_uniform(context, site, st->A, 1 / sqrt((double)site->linear->in)) : status;
}

/* ---- recording ---- */

/* x [n, in], y0 [n, out] from what stands below -> y [n, out] */
static crank_tensor *forward(crank_graph *graph, crank_site *site, crank_tensor *x, crank_tensor *y0)
{
    const options *o = site->options;
    const state   *st = site->state;
    const shared  *all = site->model;
    crank_dtype    compute = crank_graph_compute(graph);
    bool           training = crank_graph_training(graph);
    if (training && o->dropout > 0) x = crank_dropout(x, o->dropout);
    crank_tensor *P = crank_linear_down(graph, site->linear, x, crank_use(graph, st->A)); /* [n, r] */
    crank_tensor *mask = crank_cast(crank_use(graph, training ? all->mask : st->evaluate), compute);
    return crank_matmul_full(crank_mul(P, mask), false, crank_cast(crank_use(graph, st->B), compute), false, 1, NULL, y0, CRANK_DTYPES);
}

static void keep_last(crank_graph *graph, crank_param *param, crank_param *last)
{
    crank_tensor *gradient = crank_gradient_of(graph, param);
    if (gradient) crank_gradient_set(graph, param, crank_mul(gradient, crank_cast(crank_use(graph, last), gradient->dtype)));
}

/* frozen: x has its gradient through all ranks, the factors only that of the last unit. */
static void before_step(crank_graph *graph, crank_site *site)
{
    const options *o = site->options;
    const state   *st = site->state;
    const shared  *all = site->model;
    if (strcmp(o->mode, "frozen") != 0) return;
    keep_last(graph, st->A, all->last);
    keep_last(graph, st->B, all->last);
}

/* ---- between steps ---- */

static int64_t draw_rank(const options *o, const shared *all, uint64_t seed, int64_t step)
{
    double sum = 0, at;
    for (int64_t i = 0; i < all->choices; i++) sum += all->weights[i];
    at = (double)crank_draw_uniform(crank_stream_make(seed, CRANK_RANDOM_METHOD, (uint32_t)step), 0) * sum;
    for (int64_t i = 0; i < all->choices; i++)
        if (all->weights[i] > 0 && (at -= all->weights[i]) < 0) return lowest(o) + i * o->unit;
    return o->rank;
}

/* Ranks that train at this step wake for it; each counts the steps in which it was awake. */
static crank_status write_clock(crank_context *context, const options *o, shared *all, int64_t first, int64_t b)
{
    crank_status status = all->read ? CRANK_OK : crank_param_read(context, all->clock, all->counts, CRANK_F32);
    all->read = true;
    for (int64_t i = 0; i < o->rank; i++) {
        bool awake = i >= first && i < b;
        all->counts[3 * i] += awake;
        all->counts[3 * i + 1] = 1;
        all->counts[3 * i + 2] = !awake;
    }
    return status == CRANK_OK ? crank_param_write(context, all->clock, all->counts, CRANK_F32) : status;
}

static crank_status period(crank_context *context, crank_site *sites, int count, int64_t step, bool *changed)
{
    const options *o = sites[0].options;
    shared        *all = sites[0].model;
    int64_t        b = step > 0 ? draw_rank(o, all, sites[0].seed, step) : o->rank;
    (void)count, (void)changed;
    if (!all->mask->view.data) return CRANK_OK;
    float *values = crank_alloc(context, (size_t)(2 * o->rank), sizeof *values, "a mask of ranks");
    if (!values) return CRANK_FAILED;
    for (int64_t i = 0; i < b; i++) values[i] = (float)(o->alpha / (double)b);
    for (int64_t i = b - o->unit; i < b; i++) values[o->rank + i] = 1;
    crank_status status = crank_param_write(context, all->mask, values, CRANK_F32);
    if (status == CRANK_OK) status = crank_param_write(context, all->last, values + o->rank, CRANK_F32);
    if (status == CRANK_OK && all->clock && step > 0) status = write_clock(context, o, all, strcmp(o->mode, "frozen") == 0 ? b - o->unit : 0, b);
    crank_free(values);
    return status;
}

/* ---- export ---- */

static crank_status as_lora(crank_context *context, crank_site *site, int64_t *rank, double *scale, float **A, float **B)
{
    const options *o = site->options;
    const state   *st = site->state;
    int64_t        r = o->rank, in = site->linear->in, out = site->linear->out, c = 0;
    float         *mask = crank_alloc(context, (size_t)r, sizeof *mask, "a mask of ranks"), *rows = crank_alloc(context, (size_t)(r * out), sizeof *rows, st->B->name);
    *A = crank_alloc(context, (size_t)(r * in), sizeof **A, "a factor");
    *B = crank_alloc(context, (size_t)(out * r), sizeof **B, "a factor");
    crank_status status = mask && rows && *A && *B ? crank_param_read(context, st->evaluate, mask, CRANK_F32) : CRANK_FAILED;
    if (status == CRANK_OK) status = crank_param_read(context, st->A, *A, CRANK_F32);
    if (status == CRANK_OK) status = crank_param_read(context, st->B, rows, CRANK_F32);
    while (status == CRANK_OK && c < r && mask[c] != 0) c++;
    for (int64_t i = 0; status == CRANK_OK && i < out; i++)
        for (int64_t k = 0; k < c; k++) (*B)[i * c + k] = rows[k * out + i];
    crank_free(mask), crank_free(rows);
    if (status != CRANK_OK) crank_free(*A), crank_free(*B);
    *rank = c;
    *scale = c ? o->alpha / (double)c : 0;
    return status;
}

static void release(crank_site *site)
{
    shared *all = site->model;
    if (site->index != 0) return;
    crank_free(all->weights), crank_free(all->counts);
    all->weights = NULL, all->counts = NULL;
}

const crank_map crank_map_dylora = {
    .name             = "dylora",
    .paper            = "arXiv:2210.07558",
    .summary          = "LoRA trained at a rank drawn anew each step, which may be cut to any of them afterwards",
    .options          = option_table,
    .options_size     = sizeof(options),
    .state_size       = sizeof(state),
    .model_state_size = sizeof(shared),
    .affine           = true,
    .allot            = allot,
    .attach           = attach,
    .forward          = forward,
    .before_step      = before_step,
    .period           = period,
    .as_lora          = as_lora,
    .release          = release,
};
