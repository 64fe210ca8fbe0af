/* ascent.c - coordinate ascent on the measure itself (Metzler & Croft 2007; the schedule is RankLib's, with random starting points).
 *
 *     restart 0: w = 1/F; restart r: w uniform in [-1, 1], divided by sum |w|
 *     sweep: for each column f in random order, for each direction d in +, -, 0:
 *         delta = step d, or 0.05 |w_f| d where |w_f| > 0 and step > 0.5 |w_f|; total = delta; `trials` times: try w_f + total; delta *= 2;
 *         total += delta.  d = 0: try w_f = 0 once
 *         the best total that beats the measure so far is taken, w is divided by sum |w|, and the other directions are left out
 *     a restart ends after F - 1 columns in a row without success, or a sweep that gains less than the tolerance
 *
 * Scores are kept, s + total x_f is tried, and only lists in which column f differs are ranked again. The best of all restarts on the
 * training lists is the ranker, or on validation data where they are given. */
#include <math.h>
#include <string.h>

#include "crank/metric.h"
#include "rank/net.h"

typedef struct climber {
    crank_context      *context;
    const rank_options *o;
    const letor_set    *set;
    int64_t             columns;
    float  *x;              /* [columns, rows] scaled */
    double *w, *best_w;     /* [columns] */
    double *s;              /* [rows] */
    double *value;          /* [queries]: the measure of each list at w */
    double *tried;          /* [queries] */
    int64_t *order;
    /* lists in which the column differs, packed */
    int64_t *lists, list_count, rows;
    int32_t *offsets;
    float   *scores, *labels;
    double  *base, *along;  /* s and x_f of the packed rows */
} climber;

static bool allocate(climber *c)
{
    size_t rows = (size_t)c->set->rows + 1, columns = (size_t)c->columns + 1, queries = (size_t)c->set->queries + 1;
    c->x = crank_alloc(c->context, columns, rows * sizeof *c->x, "columns of features");
    c->w = crank_alloc(c->context, 2 * columns, sizeof *c->w, "weights");
    c->best_w = c->w ? c->w + columns : NULL;
    c->s = crank_alloc(c->context, 3 * rows, sizeof *c->s, "scores");
    c->value = crank_alloc(c->context, 2 * queries, sizeof *c->value, "measures of lists");
    c->order = crank_alloc(c->context, columns + queries, sizeof *c->order, "the order of columns");
    c->offsets = crank_alloc(c->context, queries, sizeof *c->offsets, "lists");
    c->scores = crank_alloc(c->context, 2 * rows, sizeof *c->scores, "scores");
    if (!c->x || !c->w || !c->s || !c->value || !c->order || !c->offsets || !c->scores) return false;
    c->base = c->s + rows;
    c->along = c->base + rows;
    c->tried = c->value + queries;
    c->lists = c->order + columns;
    c->labels = c->scores + rows;
    return true;
}

static void release(climber *c)
{
    crank_free(c->x), crank_free(c->w), crank_free(c->s), crank_free(c->value), crank_free(c->order), crank_free(c->offsets), crank_free(c->scores);
}

static crank_status fill(climber *c, const rank_scaler *scaler)
{
    size_t n = (size_t)c->columns;
    float *row = crank_alloc(c->context, 2 * n + 1, sizeof *row, "a row");
    if (!row) return CRANK_FAILED;
    for (int64_t i = 0; i < c->set->rows; i++) {
        rank_row(scaler, c->set, i, row + n, row);
        for (int64_t f = 0; f < c->columns; f++) c->x[f * c->set->rows + i] = row[f];
    }
    crank_free(row);
    return CRANK_OK;
}

static double mean(const climber *c, const double *values)
{
    double sum = 0;
    for (int64_t q = 0; q < c->set->queries; q++) sum += values[q];
    return sum / (double)c->set->queries;
}

/* The packed lists, ranked by base + total along. */
static crank_status evaluate(climber *c, double total, double *value)
{
    double here;
    for (int64_t i = 0; i < c->rows; i++) c->scores[i] = (float)(c->base[i] + total * c->along[i]);
    crank_status status = crank_metric(c->context, c->o->measure, NULL, c->list_count, c->offsets, c->scores, c->labels, NULL, &here, NULL, c->tried);
    if (status != CRANK_OK) return status;
    double sum = 0;
    for (int64_t q = 0, k = 0; q < c->set->queries; q++) sum += k < c->list_count && c->lists[k] == q ? c->tried[k++] : c->value[q];
    *value = sum / (double)c->set->queries;
    return CRANK_OK;
}

/* Packs the lists in which column f (-1: any) differs. */
static void pack(climber *c, int64_t f)
{
    const float *x = f < 0 ? NULL : c->x + f * c->set->rows;
    c->list_count = c->rows = 0;
    for (int64_t q = 0; q < c->set->queries; q++) {
        int64_t first = c->set->offsets[q], end = c->set->offsets[q + 1];
        bool    differs = f < 0;
        for (int64_t i = first + 1; !differs && i < end; i++) differs = x[i] != x[first];
        if (!differs) continue;
        c->lists[c->list_count] = q;
        c->offsets[c->list_count++] = (int32_t)c->rows;
        for (int64_t i = first; i < end; i++, c->rows++) {
            c->base[c->rows] = c->s[i];
            c->along[c->rows] = x ? (double)x[i] : 0;
            c->labels[c->rows] = c->set->labels[i];
        }
    }
    c->offsets[c->list_count] = (int32_t)c->rows;
}

/* s and the measures of all lists from w. */
static crank_status refresh(climber *c, double *value)
{
    int64_t rows = c->set->rows;
    memset(c->s, 0, (size_t)rows * sizeof *c->s);
    for (int64_t f = 0; f < c->columns; f++)
        for (int64_t i = 0; c->w[f] != 0 && i < rows; i++) c->s[i] += c->w[f] * (double)c->x[f * rows + i];
    pack(c, -1);
    crank_status status = evaluate(c, 0, value);
    for (int64_t k = 0; status == CRANK_OK && k < c->list_count; k++) c->value[c->lists[k]] = c->tried[k];
    *value = mean(c, c->value);
    return status;
}

/* The best total of one direction that beats *best. */
static crank_status try_direction(climber *c, int64_t f, int direction, double *best, double *taken, bool *found)
{
    double w = c->w[f], delta = c->o->step * direction, total;
    if (w != 0 && fabs(delta) > 0.5 * fabs(w)) delta = 0.05 * fabs(w) * direction;
    total = direction ? delta : -w;
    for (int64_t i = 0; i < (direction ? c->o->trials : 1); i++) {
        double       value;
        crank_status status = evaluate(c, total, &value);
        if (status != CRANK_OK) return status;
        if (value > *best) *best = value, *taken = total, *found = true;
        delta *= 2;
        total += delta;
    }
    return CRANK_OK;
}

static crank_status move(climber *c, int64_t f, double total)
{
    double       sum = 0, value;
    crank_status status = evaluate(c, total, &value);
    for (int64_t k = 0; status == CRANK_OK && k < c->list_count; k++) c->value[c->lists[k]] = c->tried[k];
    c->w[f] += total;
    for (int64_t j = 0; j < c->columns; j++) sum += fabs(c->w[j]);
    if (!(sum > 0)) sum = 1;
    for (int64_t j = 0; j < c->columns; j++) c->w[j] /= sum;
    for (int64_t i = 0; i < c->set->rows; i++) c->s[i] = (c->s[i] + total * (double)c->x[f * c->set->rows + i]) / sum;
    return status;
}

static crank_status sweep(climber *c, uint32_t number, int64_t *failures, double *best)
{
    static const int directions[] = {1, -1, 0};
    crank_status     status = CRANK_OK;
    crank_permutation(crank_stream_make((uint64_t)c->o->seed, CRANK_RANDOM_SHUFFLE, number), c->order, c->columns);
    for (int64_t k = 0; status == CRANK_OK && k < c->columns && *failures < c->columns - 1 + (c->columns == 1); k++) {
        int64_t f = c->order[k];
        bool    found = false;
        double  taken = 0;
        pack(c, f);
        for (int d = 0; status == CRANK_OK && c->list_count && d < 3 && !found; d++) status = try_direction(c, f, directions[d], best, &taken, &found);
        if (status == CRANK_OK && found) status = move(c, f, taken);
        *failures = found ? 0 : *failures + 1;
    }
    return status;
}

static void start(climber *c, int64_t restart)
{
    double sum = 0;
    for (int64_t f = 0; f < c->columns; f++) {
        c->w[f] = restart ? 2 * (double)crank_draw_uniform(crank_stream_make((uint64_t)c->o->seed, CRANK_RANDOM_INIT, (uint32_t)restart), (uint64_t)f) - 1 : 1;
        sum += fabs(c->w[f]);
    }
    for (int64_t f = 0; f < c->columns; f++) c->w[f] /= sum > 0 ? sum : 1;
}

static crank_status put_weights(rank_net *net, const double *w)
{
    crank_param *weight = crank_params_find(net->params, "layers.0.weight");
    float       *values = crank_alloc(net->context, (size_t)net->scaler.columns + 1, sizeof *values, "weights");
    if (!values) return CRANK_FAILED;
    for (int64_t f = 0; f < net->scaler.columns; f++) values[f] = (float)w[f];
    crank_status status = crank_param_write(net->context, weight, values, CRANK_F32);
    crank_free(values);
    return status;
}

static crank_status measure_valid(climber *c, rank_net *net, const letor_set *valid, double *value)
{
    float       *scores = crank_alloc(c->context, (size_t)valid->rows + 1, sizeof *scores, "scores");
    crank_status status = scores ? put_weights(net, c->w) : CRANK_FAILED;
    if (status == CRANK_OK) status = rank_net_scores(net, valid, scores);
    if (status == CRANK_OK) status = rank_measure(c->context, c->o->measure, valid, scores, value);
    crank_free(scores);
    return status;
}

static crank_status climb(climber *c, rank_net *net, rank_fit *how, const letor_set *valid)
{
    crank_status status = CRANK_OK;
    double       best_of_all = -INFINITY;
    int64_t      sweeps = 0;
    how->best = NAN;
    for (int64_t r = 0; status == CRANK_OK && r < c->o->restarts && !crank_stop_requested(c->context); r++) {
        double  here, before = -INFINITY, chosen;
        int64_t failures = 0;
        start(c, r);
        status = refresh(c, &here);
        while (status == CRANK_OK && here - before >= c->o->tolerance && failures < c->columns - 1 + (c->columns == 1) && !crank_stop_requested(c->context)) {
            before = here;
            status = sweep(c, (uint32_t)++sweeps, &failures, &here);
            if (status == CRANK_OK) status = refresh(c, &here); /* rounding does not add up */
            if (how->progress) how->progress(how->user, sweeps, 1 - here, here);
        }
        chosen = here;
        if (status == CRANK_OK && valid) status = measure_valid(c, net, valid, &chosen);
        if (status != CRANK_OK || !(chosen > best_of_all)) continue;
        best_of_all = chosen;
        memcpy(c->best_w, c->w, (size_t)c->columns * sizeof *c->w);
        how->epochs = sweeps;
        how->best = valid ? chosen : NAN;
    }
    return status == CRANK_OK ? put_weights(net, c->best_w) : status;
}

rank_net *rank_ascent_fit(crank_context *context, rank_fit *how, const letor_set *train, const letor_set *valid)
{
    climber      c = {.context = context, .o = how->options, .set = train, .columns = train->columns};
    rank_scaler  scaler = {0};
    rank_net    *net = NULL;
    crank_status status = rank_scaler_fit(context, train, how->options->features, &scaler);
    if (status == CRANK_OK && !allocate(&c)) status = CRANK_FAILED;
    if (status == CRANK_OK) status = fill(&c, &scaler);
    if (status == CRANK_OK) status = (net = rank_net_new(context, how->options, &scaler)) ? CRANK_OK : crank_last_status(context);
    if (status == CRANK_OK) status = climb(&c, net, how, valid);
    rank_scaler_free(&scaler);
    release(&c);
    if (status == CRANK_OK) return net;
    rank_net_free(net);
    return NULL;
}
