/* perceptron.c - one pass over the rows gives margins, loss and direction together.
 *
 * log w = -softplus(m) never underflows; the normalised direction is the softmax average of the rows under log w, kept with a running
 * maximum, so it is never 0/0 when all margins are large. */
#include "rank/perceptron.h"

#include <math.h>
#include <string.h>

enum { BLOCK = 256 };

/* What one block of rows adds up to: sums are relative to e^high. */
typedef struct sums {
    double  high, weights, loss, least;
    int64_t violated;
} sums;

typedef struct pass {
    const perceptron_rows    *rows;
    const perceptron_options *o;
    const double             *theta;
    bool                      first; /* no update was made yet */
    double                   *parts; /* [blocks, d] */
    sums                     *sums;  /* [blocks] */
    int64_t                   blocks;
} pass;

static double softplus(double x) { return (x > 0 ? x : 0) + log1p(exp(-fabs(x))); }

static double dot(const perceptron_rows *r, int64_t i, const double *theta)
{
    double sum = 0;
    if (r->dense)
        for (int64_t j = 0; j < r->d; j++) sum += r->dense[i * r->d + j] * theta[j];
    else
        for (int64_t k = r->starts[i]; k < r->starts[i + 1]; k++) sum += r->values[k] * theta[r->indices[k]];
    return r->sign ? sum * r->sign[i] : sum;
}

static void add_row(const perceptron_rows *r, int64_t i, double factor, double *to)
{
    if (r->sign) factor *= r->sign[i];
    if (r->dense)
        for (int64_t j = 0; j < r->d; j++) to[j] += factor * r->dense[i * r->d + j];
    else
        for (int64_t k = r->starts[i]; k < r->starts[i + 1]; k++) to[r->indices[k]] += factor * r->values[k];
}

/* log of the row's weight in the direction, -inf: none. */
static double log_weight(const pass *p, double m)
{
    switch (p->o->rule) {
    case PERCEPTRON_LR:
    case PERCEPTRON_NORMALIZED_LR: return -softplus(m);
    case PERCEPTRON_BATCH: return m <= 0 ? (p->first ? -log(2) : 0) : -INFINITY;
    case PERCEPTRON_NORMALIZED_BATCH: return m <= 0 ? 0 : -INFINITY;
    case PERCEPTRON_ONE: break; /* its row is chosen apart; the loss's gradient is of no use to it */
    }
    return -INFINITY;
}

static void run_block(pass *p, int64_t b)
{
    double *to = p->parts + b * p->rows->d;
    sums    s = {.high = -INFINITY, .least = INFINITY};
    int64_t end = (b + 1) * BLOCK < p->rows->n ? (b + 1) * BLOCK : p->rows->n;
    memset(to, 0, (size_t)p->rows->d * sizeof *to);
    for (int64_t i = b * BLOCK; i < end; i++) {
        double m = dot(p->rows, i, p->theta), weight = log_weight(p, m);
        s.violated += m <= 0;
        s.loss += softplus(-m);
        s.least = fmin(s.least, m);
        if (weight == -INFINITY) continue;
        if (weight > s.high) { /* what was added so far is scaled down */
            double down = exp(s.high - weight);
            for (int64_t j = 0; j < p->rows->d; j++) to[j] *= down;
            s.weights *= down;
            s.high = weight;
        }
        double share = exp(weight - s.high);
        add_row(p->rows, i, share, to);
        s.weights += share;
    }
    p->sums[b] = s;
}

/* The blocks in their order: direction [d] relative to e^high. */
static sums run_pass(pass *p, int threads, double *direction)
{
    sums all = {.high = -INFINITY, .least = INFINITY};
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1)
    for (int64_t b = 0; b < p->blocks; b++) run_block(p, b);
    for (int64_t b = 0; b < p->blocks; b++) all.high = fmax(all.high, p->sums[b].high);
    memset(direction, 0, (size_t)p->rows->d * sizeof *direction);
    for (int64_t b = 0; b < p->blocks; b++) {
        const sums *s = p->sums + b;
        double      scale = s->high == -INFINITY ? 0 : exp(s->high - all.high);
        all.violated += s->violated;
        all.loss += s->loss;
        all.least = fmin(all.least, s->least);
        all.weights += scale * s->weights;
        for (int64_t j = 0; scale > 0 && j < p->rows->d; j++) direction[j] += scale * p->parts[b * p->rows->d + j];
    }
    return all;
}

/* A row with m <= 0, by the rule. There is one. */
static int64_t choose(const pass *p, int64_t updates, int64_t violated, int64_t *next)
{
    int64_t n = p->rows->n, from = p->o->pick == PERCEPTRON_CYCLIC ? *next % n : 0;
    int64_t skip = p->o->pick == PERCEPTRON_RANDOM ? (int64_t)crank_draw_below(crank_stream_make(p->o->seed, CRANK_RANDOM_METHOD, 0), (uint64_t)updates, (uint64_t)violated) : 0;
    for (int64_t k = 0; k < n; k++) {
        int64_t i = (from + k) % n;
        if (dot(p->rows, i, p->theta) <= 0 && skip-- == 0) return *next = i + 1, i;
    }
    return 0;
}

static double norm(const double *x, int64_t n)
{
    double sum = 0;
    for (int64_t j = 0; j < n; j++) sum += x[j] * x[j];
    return sqrt(sum);
}

static crank_status check(crank_context *context, const perceptron_rows *r, const perceptron_options *o)
{
    if (r->n < 1 || r->d < 1) return crank_fail(context, CRANK_BAD_DATA, "there are no rows to separate");
    if (!(o->gamma > 0) || !isfinite(o->gamma)) return crank_fail(context, CRANK_USAGE, "gamma is a step size above 0, not %g", o->gamma);
    int64_t count = r->dense ? r->n * r->d : r->starts[r->n];
    for (int64_t k = 0; k < count; k++)
        if (!isfinite(r->dense ? r->dense[k] : r->values[k])) return crank_fail(context, CRANK_BAD_DATA, "value %lld of the rows is not finite", (long long)k);
    for (int64_t i = 0; r->sign && i < r->n; i++)
        if (r->sign[i] != 1 && r->sign[i] != -1) return crank_fail(context, CRANK_BAD_DATA, "row %lld: a label is 1 or -1, not %g", (long long)i, r->sign[i]);
    return CRANK_OK;
}

static void update(const pass *p, const sums *s, const double *direction, int64_t updates, int64_t *next, double *theta)
{
    const perceptron_rows *r = p->rows;
    if (p->o->rule == PERCEPTRON_ONE) {
        add_row(r, choose(p, updates, s->violated, next), 1, theta);
        return;
    }
    double factor = p->o->rule == PERCEPTRON_LR      ? p->o->gamma / (double)r->n * exp(s->high)
                    : p->o->rule == PERCEPTRON_BATCH ? exp(s->high) / (double)r->n
                                                     : (p->o->rule == PERCEPTRON_NORMALIZED_LR ? p->o->gamma : 1) / s->weights;
    for (int64_t j = 0; j < r->d; j++) theta[j] += factor * direction[j];
}

crank_status perceptron_run(crank_context *context, const perceptron_rows *r, const perceptron_options *o, double *theta, perceptron_result *result)
{
    crank_status status = check(context, r, o);
    if (status != CRANK_OK) return status;
    pass     p = {.rows = r, .o = o, .theta = theta, .blocks = (r->n + BLOCK - 1) / BLOCK};
    int      threads = crank_threads(context) < p.blocks ? crank_threads(context) : (int)p.blocks;
    int64_t  next = 0;
    double  *direction = crank_alloc(context, (size_t)r->d, sizeof *direction, "a direction");
    p.parts = crank_alloc(context, (size_t)p.blocks, (size_t)r->d * sizeof *p.parts, "directions of blocks");
    p.sums = crank_alloc(context, (size_t)p.blocks, sizeof *p.sums, "sums of blocks");
    if (!direction || !p.parts || !p.sums) status = CRANK_FAILED;
    int64_t updates = o->resume ? result->updates : 0;
    if (!o->resume) memset(theta, 0, (size_t)r->d * sizeof *theta);
    *result = (perceptron_result){.updates = updates, .best_violated = r->n};
    while (status == CRANK_OK) {
        p.first = result->updates == 0;
        sums   s = run_pass(&p, threads, direction);
        double loss = s.loss / (double)r->n, length = norm(theta, r->d);
        result->violated = s.violated;
        if (s.violated < result->best_violated) result->best_violated = s.violated;
        if (loss > result->largest_loss) result->largest_loss = loss;
        result->separated = !s.violated;
        double gradient = o->rule <= PERCEPTRON_NORMALIZED_LR ? norm(direction, r->d) * exp(s.high) / (double)r->n : NAN;
        perceptron_step step = {result->updates, s.violated, loss, gradient, length, length > 0 ? s.least / length : 0};
        bool            on = !o->trace || o->trace(o->user, &step, theta);
        if (!s.violated || !on || result->updates >= o->most || crank_stop_requested(context)) break;
        update(&p, &s, direction, result->updates, &next, theta);
        result->updates++;
    }
    crank_free(direction), crank_free(p.parts), crank_free(p.sums);
    return status;
}

/* ---- ordered pairs ---- */

crank_status perceptron_pairs(crank_context *context, const letor_set *set, perceptron_rows *rows)
{
    int64_t pairs = 0;
    *rows = (perceptron_rows){.d = set->columns};
    if (!set->offsets) return crank_fail(context, CRANK_BAD_DATA, "pairs are of one query: the data have no queries");
    for (int64_t q = 0; q < set->queries; q++)
        for (int64_t i = set->offsets[q]; i < set->offsets[q + 1]; i++)
            for (int64_t j = set->offsets[q]; j < set->offsets[q + 1]; j++) pairs += set->labels[i] > set->labels[j];
    double *dense = crank_alloc(context, (size_t)pairs + 1, (size_t)set->columns * sizeof *dense, "differences of pairs");
    float  *a = crank_alloc(context, 2 * (size_t)set->columns + 1, sizeof *a, "a row"), *b = a ? a + set->columns : NULL;
    for (int64_t q = 0; dense && a && q < set->queries; q++)
        for (int64_t i = set->offsets[q]; i < set->offsets[q + 1]; i++) {
            letor_row(set, i, a);
            for (int64_t j = set->offsets[q]; j < set->offsets[q + 1]; j++) {
                if (!(set->labels[i] > set->labels[j])) continue;
                letor_row(set, j, b);
                for (int64_t f = 0; f < set->columns; f++) dense[rows->n * set->columns + f] = (double)a[f] - (double)b[f];
                rows->n++;
            }
        }
    rows->dense = dense;
    crank_free(a);
    if (dense && a) return CRANK_OK;
    perceptron_pairs_free(rows);
    return CRANK_FAILED;
}

void perceptron_pairs_free(perceptron_rows *rows)
{
    crank_free((void *)(uintptr_t)rows->dense);
    *rows = (perceptron_rows){0};
}
