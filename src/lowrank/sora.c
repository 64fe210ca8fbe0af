/* sora.c - sparse low-rank adaptation (Ding et al. 2023, arXiv:2311.11696).
 *
 *     y = y0 + s (g o (x A^T)) B^T        A [r, in], g [r], B [out, r], s = alpha / r
 *
 * A gate g between the factors is trained with an L1 penalty lambda mean |g| (over all gates of the model) and a proximal step behind
 * each update, with a threshold t:
 *
 *     soft    g <- sign(g) max(|g| - t, 0)                          the paper's operator, t constant
 *     rate    the same with t = threshold * rate of the step        the textbook's proximal gradient: t falls with the schedule
 *     jump    g <- 0 where |g| < 2 t, else g - sign(g) t            what the authors' code does
 *
 * Gates become exactly zero; their ranks go when the adapter is written as LoRA, and a linear without gates left goes with them. The
 * threshold may rise in stages from `threshold` to `threshold_last`; a stage lasts `stage_steps` steps. B starts at zero, g normal. */
#include <math.h>
#include <string.h>

#include "lowrank/start.h"

typedef struct {
    int64_t     rank, stages, stage_steps;
    double      alpha, dropout, lambda, threshold, threshold_last, gate_rate;
    const char *prox, *gate, *spacing;
} options;

typedef struct {
    crank_param *A, *B, *g;
    double       scale;
} state;

typedef struct {
    crank_param *threshold; /* [1], of the current stage */
    double       written;
    bool         known;
    int64_t      gates; /* of the model */
    bool         warned;
} shared;

enum { REPORT = 100 };

static const crank_option option_table[] = {
    CRANK_INT(options, rank, 16, 1, 65536, "rank that training starts with"),
    CRANK_FLOAT(options, alpha, 16, 0, 1e9, "the update is scaled by alpha / rank, also once gates are gone"),
    CRANK_FLOAT(options, dropout, 0, 0, 0.999, "share of the inputs of the update's branch that is dropped in training"),
    CRANK_FLOAT(options, lambda, 0, 0, 1e6, "weight of the mean absolute gate in the loss"),
    CRANK_CHOICE(options, prox, "rate", "rate|soft|jump", "proximal step: threshold times the rate, a constant threshold, or the jump of the authors' code"),
    CRANK_FLOAT(options, threshold, 0.5, 0, 1e6, "threshold of the proximal step (for soft and jump near 1e-4, below the gates' rate)"),
    CRANK_FLOAT(options, gate_rate, 1, 1e-6, 1e6, "rate of the gates over the rate of the factors"),
    CRANK_CHOICE(options, gate, "normal", "normal|one", "how the gates start"),
    CRANK_INT(options, stages, 1, 1, 10000, "stages of a rising threshold"),
    CRANK_INT(options, stage_steps, 0, 0, 1000000000, "steps of a stage"),
    CRANK_FLOAT(options, threshold_last, 0, 0, 1e6, "threshold of the last stage"),
    CRANK_CHOICE(options, spacing, "linear", "linear|log|exp", "thresholds of the stages: even steps, even ratios, or steps that grow by e"),
    CRANK_END
};

static crank_status check(crank_context *context, const options *o, const char *where)
{
    if (o->stages > 1 && (!o->stage_steps || o->threshold_last <= o->threshold))
        return crank_fail(context, CRANK_USAGE, "%s: stages need `stage_steps` and a `threshold_last` above `threshold` (%g)", where, o->threshold);
    if (o->stages > 1 && strcmp(o->spacing, "log") == 0 && o->threshold <= 0)
        return crank_fail(context, CRANK_USAGE, "%s: spacing log needs a first threshold above 0: set `threshold`, or take linear", where);
    return CRANK_OK;
}

static crank_status attach(crank_context *context, crank_site *site)
{
    const options *o = site->options;
    state         *st = site->state;
    shared        *all = site->model;
    int64_t        r = o->rank;
    crank_status   status = check(context, o, site->linear->name);
    if (status) return status;
    st->scale = o->alpha / (double)r;
    st->A = crank_site_param(context, site, "A", CRANK_F32, 2, (const int64_t[]){ r, site->linear->in }, true);
    st->B = crank_site_param(context, site, "B", CRANK_F32, 2, (const int64_t[]){ site->linear->out, r }, true);
    st->g = crank_site_param(context, site, "gate", CRANK_F32, 1, &r, true);
    if (site->index == 0)
        all->threshold = crank_site_state(context, site, "threshold", CRANK_ROLE_CACHE, CRANK_F32, 1, (const int64_t[]){ 1 });
    if (!st->A || !st->B || !st->g || !all->threshold) return crank_last_status(context);
    st->g->no_decay = true;
    st->g->rate_factor = o->gate_rate;
    all->gates += r;
    status = start_factor(context, site, st->A, "kaiming", site->linear->in);
    if (status) return status;
    return strcmp(o->gate, "one") == 0 ? start_value(context, st->g, 1) : start_normal(context, site, st->g, 1);
}

/* x [n, in], y0 [n, out] from what stands below -> y [n, out] */
static crank_tensor *forward(crank_graph *graph, crank_site *site, crank_tensor *x, crank_tensor *y0)
{
    const options *o = site->options;
    const state   *st = site->state;
    crank_dtype    compute = crank_graph_compute(graph);
    bool           drops = o->dropout > 0 && crank_graph_training(graph) && site->linear->kind == CRANK_LINEAR_DENSE;
    crank_tensor  *u = crank_linear_down(graph, site->linear, drops ? crank_dropout(x, o->dropout) : x, crank_use(graph, st->A)); /* [n, r] */
    crank_tensor  *v = crank_mul(u, crank_cast(crank_use(graph, st->g), compute));
    crank_tensor  *B = crank_cast(crank_use(graph, st->B), compute);
    return crank_add(y0, crank_matmul_full(v, false, B, true, st->scale, NULL, NULL, CRANK_DTYPES));
}

/* lambda mean |g| */
static crank_tensor *penalty(crank_graph *graph, crank_site *sites, int count)
{
    const options *o = sites[0].options;
    const shared  *all = sites[0].model;
    crank_tensor  *sum = NULL;
    if (o->lambda == 0) return NULL;
    for (int i = 0; i < count; i++) {
        crank_tensor *each = crank_sum(crank_unary(CRANK_ABS, crank_use(graph, ((state *)sites[i].state)->g)));
        sum = sum ? crank_add(sum, each) : each;
    }
    return crank_scale(sum, o->lambda / (double)all->gates);
}

/* The proximal step behind the update; nothing changes in a step that is skipped. */
static void after_step(crank_graph *graph, crank_site *site)
{
    const options *o = site->options;
    const state   *st = site->state;
    const shared  *all = site->model;
    crank_tensor  *g = crank_use(graph, st->g), *t = crank_cast(crank_use(graph, all->threshold), g->dtype);
    if (strcmp(o->prox, "rate") == 0) t = crank_scale(crank_mul(t, crank_cast(crank_step_scalar(graph, CRANK_SCALAR_RATE), g->dtype)), o->gate_rate);
    crank_tensor *size = crank_unary(CRANK_ABS, g), *zero = crank_fill(graph, g->dtype, 0, NULL, 0);
    crank_tensor *stays = strcmp(o->prox, "jump") == 0 ? crank_binary(CRANK_GE, size, crank_scale(t, 2)) : crank_binary(CRANK_GT, size, t);
    crank_tensor *moved = crank_where(stays, crank_sub(g, crank_mul(crank_unary(CRANK_SIGN, g), t)), zero);
    crank_assign(g, crank_where(crank_cast(crank_step_scalar(graph, CRANK_SCALAR_SKIP), g->dtype), g, moved), false);
}

/* ---- stages ---- */

static double threshold_at(const options *o, int64_t step)
{
    int64_t stage = o->stages > 1 && step > 0 ? (step - 1) / o->stage_steps : 0, last = o->stages - 1;
    if (stage > last) stage = last;
    if (last < 1) return o->threshold;
    double share = (double)stage / (double)last;
    if (strcmp(o->spacing, "log") == 0) return o->threshold * pow(o->threshold_last / o->threshold, share);
    if (strcmp(o->spacing, "exp") == 0) share = expm1((double)stage) / expm1((double)last);
    return o->threshold + share * (o->threshold_last - o->threshold);
}

static int64_t gates_left(crank_context *context, const state *st, float *room)
{
    int64_t left = 0, r = st->g->view.dims[0];
    if (crank_param_read(context, st->g, room, CRANK_F32)) return -1;
    for (int64_t i = 0; i < r; i++) left += room[i] != 0;
    return left;
}

/* Gates left, linear by linear, every REPORT steps. */
static crank_status report(crank_context *context, crank_site *sites, int count, int64_t step)
{
    int64_t all = 0, left = 0;
    for (int i = 0; i < count; i++) {
        const state *st = sites[i].state;
        int64_t      r = st->g->view.dims[0];
        float       *room = crank_alloc(context, (size_t)r, sizeof *room, "gates");
        int64_t      here = room ? gates_left(context, st, room) : -1;
        crank_free(room);
        if (here < 0) return crank_last_status(context);
        crank_log(context, CRANK_DEBUG, "sora: %s has %lld of %lld ranks left", sites[i].linear->name, (long long)here, (long long)r);
        left += here, all += r;
    }
    crank_log(context, CRANK_DEBUG, "sora: before step %lld the model has %lld of %lld ranks left", (long long)step, (long long)left, (long long)all);
    return CRANK_OK;
}

/* A threshold that takes every gate at once trains nothing: told once, behind the first step. */
static crank_status warn_when_empty(crank_context *context, crank_site *sites, int count)
{
    int64_t left = 0;
    for (int i = 0; i < count && left == 0; i++) {
        const state *st = sites[i].state;
        float       *room = crank_alloc(context, (size_t)st->g->view.dims[0], sizeof *room, "gates");
        int64_t      here = room ? gates_left(context, st, room) : -1;
        crank_free(room);
        if (here < 0) return crank_last_status(context);
        left += here;
    }
    if (!left) crank_log(context, CRANK_WARNING, "sora: every gate is zero: lower lowrank.threshold, or raise lowrank.gate_rate");
    return CRANK_OK;
}

static crank_status period(crank_context *context, crank_site *sites, int count, int64_t step, bool *changed)
{
    shared *all = sites[0].model;
    float   now = (float)threshold_at(sites[0].options, step);
    (void)changed;
    if (!all->threshold->view.data) return CRANK_OK;
    if (step == 2 && !all->warned) {
        all->warned = true;
        if (warn_when_empty(context, sites, count)) return crank_last_status(context);
    }
    if (step > 1 && (step - 1) % REPORT == 0 && report(context, sites, count, step)) return crank_last_status(context);
    if (all->known && all->written == (double)now) return CRANK_OK;
    all->known = true;
    all->written = (double)now;
    return crank_param_write(context, all->threshold, &now, CRANK_F32);
}

/* ---- export: the ranks whose gates are not zero, with the gate in A ---- */

static crank_status as_lora(crank_context *context, crank_site *site, int64_t *rank, double *scale, float **A, float **B)
{
    const state *st = site->state;
    int64_t      r = st->g->view.dims[0], in = site->linear->in, out = site->linear->out, kept = 0;
    float       *a = crank_alloc(context, (size_t)(r * in), sizeof *a, "a factor"), *b = crank_alloc(context, (size_t)(r * out), sizeof *b, "a factor");
    float       *g = crank_alloc(context, (size_t)r, sizeof *g, "gates");
    crank_status status = a && b && g ? CRANK_OK : CRANK_FAILED;
    if (status == CRANK_OK) status = crank_param_read(context, st->A, a, CRANK_F32);
    if (status == CRANK_OK) status = crank_param_read(context, st->B, b, CRANK_F32);
    if (status == CRANK_OK) status = crank_param_read(context, st->g, g, CRANK_F32);
    for (int64_t k = 0; status == CRANK_OK && k < r; k++) kept += g[k] != 0;
    for (int64_t k = 0, to = 0; status == CRANK_OK && k < r; k++) {
        if (g[k] == 0) continue;
        for (int64_t i = 0; i < in; i++) a[to * in + i] = g[k] * a[k * in + i];
        to++;
    }
    for (int64_t o = 0; status == CRANK_OK && o < out; o++) /* to the left, in place: a row's new place is never behind its old one */
        for (int64_t k = 0, to = o * kept; k < r; k++)
            if (g[k] != 0) b[to++] = b[o * r + k];
    crank_free(g);
    if (status) {
        crank_free(a);
        crank_free(b);
        return status;
    }
    *rank = kept;
    *scale = st->scale;
    *A = a;
    *B = b;
    return CRANK_OK;
}

const crank_map crank_map_sora = {
    .name             = "sora",
    .paper            = "arXiv:2311.11696",
    .summary          = "LoRA with a gate for every rank that a proximal step drives to exactly zero",
    .options          = option_table,
    .options_size     = sizeof(options),
    .state_size       = sizeof(state),
    .model_state_size = sizeof(shared),
    .affine           = true,
    .embeddings       = true,
    .attach           = attach,
    .forward          = forward,
    .penalty          = penalty,
    .after_step       = after_step,
    .period           = period,
    .as_lora          = as_lora,
};
