/* unbiased_fit.c - learning from a click log, or from users who are simulated on the fly.
 *
 * Early stopping needs no labels: sessions of queries held out judge each epoch by the self-normalised DCG of click.h. Clicks are weighed by
 * the examination that is known; a method that learns it makes a first pass without stopping, whose curve then judges the second. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "crank/metric.h"
#include "rank/net.h"
#include "rank/online.h"

/* ---- simulated sessions ---- */

/* Rows of list q in the order in which they are shown, at most `depth`: [n]; returns n. */
static int64_t shown_order(const letor_set *set, int64_t q, const float *order, bool random, uint64_t session, const click_simulator *users, int32_t *by, int64_t *permutation, int32_t *rows)
{
    int64_t first = set->offsets[q], n = set->offsets[q + 1] - first, depth = n < users->depth ? n : users->depth;
    if (random) crank_permutation(crank_stream_make((uint64_t)users->seed, CRANK_RANDOM_SHUFFLE, (uint32_t)session), permutation, n);
    else if (order) crank_rank_order(order + first, by, by + n, n);
    for (int64_t i = 0; i < depth; i++) rows[i] = (int32_t)(first + (random ? permutation[i] : order ? by[i] : i));
    return depth;
}

click_log *unbiased_simulate(crank_context *context, const letor_set *set, const click_simulator *users, const float *order, bool random, uint64_t first, int64_t rounds)
{
    int64_t longest = 1;
    for (int64_t q = 0; q < set->queries; q++)
        if (set->offsets[q + 1] - set->offsets[q] > longest) longest = set->offsets[q + 1] - set->offsets[q];
    int32_t      *by = crank_alloc(context, 2 * (size_t)longest, sizeof *by, "an order"), rows[CLICK_MOST_PLACES], places[CLICK_MOST_PLACES];
    int64_t      *permutation = crank_alloc(context, (size_t)longest, sizeof *permutation, "an order");
    float         grades[CLICK_MOST_PLACES];
    uint8_t       clicks[CLICK_MOST_PLACES];
    click_log    *log = by && permutation ? click_log_new(context, set->queries, set->rows) : NULL;
    crank_status  status = log ? CRANK_OK : crank_last_status(context);
    for (int64_t r = 0; status == CRANK_OK && r < rounds; r++)
        for (int64_t q = 0; status == CRANK_OK && q < set->queries; q++) {
            uint64_t session = first + (uint64_t)(r * set->queries + q);
            int64_t  n = shown_order(set, q, order, random, session, users, by, permutation, rows);
            for (int64_t i = 0; i < n; i++) grades[i] = set->labels[rows[i]], places[i] = (int32_t)i;
            if (n) status = click_simulate(context, users, session, grades, n, clicks);
            if (n && status == CRANK_OK) status = click_log_add(context, log, q, 0, rows, places, clicks, n);
        }
    crank_free(by), crank_free(permutation);
    if (status == CRANK_OK) return log;
    click_log_free(log);
    return NULL;
}

/* ---- fits ---- */

typedef struct run {
    crank_context          *context;
    rank_fit               *how;
    const unbiased_options *options;
    const letor_set        *set;
    const click_simulator  *users; /* NULL: a log */
    const click_log        *log;
    click_log              *made;
    const float            *order;
    float                  *own_order;
    rank_net               *net;
    unbiased               *learner;
    rank_keeper             keeper;
    int64_t                *sessions, sessions_room;
    const int64_t          *chosen, *held; /* sessions of the log that are learnt from, lists held out; NULL: all, none */
    int64_t                 chosen_count, held_count;
    int64_t                 steps, all_steps;
} run;

static int64_t session_count(const run *r) { return r->chosen ? r->chosen_count : r->log->sessions; }

/* The sessions of an epoch: those of the log, or new ones of simulated users. */
static crank_status next_log(run *r, int64_t epoch)
{
    if (!r->users) return CRANK_OK;
    bool refresh = r->options->online && (epoch - 1) % r->options->refresh == 0;
    if (refresh) {
        crank_status status = rank_net_scores(r->net, r->set, r->own_order);
        if (status != CRANK_OK) return status;
        if (epoch > 1 || !r->order) r->order = r->own_order; /* the first order may be given */
    }
    click_log_free(r->made);
    r->log = r->made = unbiased_simulate(r->context, r->set, r->users, r->order, false, (uint64_t)((epoch - 1) * r->set->queries), 1);
    return r->made ? CRANK_OK : crank_last_status(r->context);
}

static crank_status one_epoch(run *r, int64_t epoch, double *loss)
{
    const rank_options *o = r->how->options;
    crank_status        status = next_log(r, epoch);
    double              sum = 0;
    if (status != CRANK_OK) return status;
    int64_t n = session_count(r), batches = (n + o->batch - 1) / o->batch;
    if (n > r->sessions_room) {
        crank_free(r->sessions);
        r->sessions = crank_alloc(r->context, (size_t)n, sizeof *r->sessions, "the order of sessions");
        r->sessions_room = n;
        if (!r->sessions) return CRANK_FAILED;
    }
    crank_permutation(crank_stream_make((uint64_t)o->seed, CRANK_RANDOM_SHUFFLE, (uint32_t)epoch), r->sessions, n);
    for (int64_t i = 0; r->chosen && i < n; i++) r->sessions[i] = r->chosen[r->sessions[i]];
    for (int64_t at = 0; status == CRANK_OK && at < n; at += o->batch) {
        double here;
        status = unbiased_step(r->learner, r->set, r->log, r->sessions + at, n - at < o->batch ? n - at : o->batch, rank_rate(o, ++r->steps, r->all_steps), &here);
        sum += here;
    }
    *loss = sum / (double)batches;
    return status;
}

/* Whether users saw each item at one place only, and a column tells that place: then examination and relevance cannot be told apart. */
static void warn_of_one_order(crank_context *context, const letor_set *set, const click_log *log)
{
    int32_t *place = crank_alloc(context, (size_t)set->rows + 1, sizeof *place, "places");
    int64_t *falls = crank_alloc(context, 2 * (size_t)set->columns + 1, sizeof *falls, "columns"), *rises = falls ? falls + set->columns : NULL, pairs = 0;
    float   *rows = crank_alloc(context, 2 * (size_t)set->columns + 1, sizeof *rows, "rows");
    bool     one = place && falls && rows;
    for (int64_t i = 0; one && i < set->rows; i++) place[i] = -1;
    for (int64_t i = 0; one && i < log->shown; i++) {
        int32_t *at = place + log->item[i];
        one = *at < 0 || *at == log->place[i];
        *at = log->place[i];
    }
    for (int64_t s = 0; one && s < log->sessions; s++)
        for (int64_t i = log->starts[s]; i + 1 < log->starts[s + 1]; i++, pairs++) {
            letor_row(set, log->item[i], rows);
            letor_row(set, log->item[i + 1], rows + set->columns);
            for (int64_t j = 0; j < set->columns; j++) falls[j] += rows[j] > rows[set->columns + j], rises[j] += rows[j] < rows[set->columns + j];
        }
    for (int64_t j = 0; one && pairs && j < set->columns; j++)
        if ((double)(falls[j] > rises[j] ? falls[j] : rises[j]) >= 0.99 * (double)pairs) {
            crank_log(context, CRANK_WARNING,
                      "every item was shown at one place only, and column %lld orders items as they were shown: what users examine and what is relevant cannot be told apart; leave the column out (data.ignore) or vary the order",
                      (long long)j);
            break;
        }
    crank_free(place), crank_free(falls), crank_free(rows);
}

static crank_status start(run *r, const click_curve *known, const letor_set *valid)
{
    const rank_options *o = r->how->options;
    rank_scaler         scaler;
    int64_t             contexts = r->log ? r->log->contexts : 1, places = r->log ? r->log->places : r->users->depth, sessions = r->log ? session_count(r) : r->set->queries;
    if (!r->set->offsets || r->set->columns < 1) return crank_fail(r->context, CRANK_BAD_DATA, "clicks are joined with feature vectors that have queries");
    if (!strcmp(o->model, "coordinate-ascent")) return crank_fail(r->context, CRANK_USAGE, "coordinate ascent climbs a measure of labels: clicks train linear, mlp and attention");
    crank_status status = rank_scaler_fit(r->context, r->set, o->features, &scaler);
    if (status != CRANK_OK) return status;
    r->net = rank_net_new(r->context, o, &scaler);
    rank_scaler_free(&scaler);
    r->learner = r->net ? unbiased_new(r->net, r->options, r->how->optimizer, r->how->optimizer_options, known, contexts, places) : NULL;
    if (!r->learner) return crank_last_status(r->context);
    r->all_steps = o->epochs * ((sessions + o->batch - 1) / o->batch);
    r->own_order = crank_alloc(r->context, (size_t)r->set->rows + 1, sizeof *r->own_order, "scores");
    return r->own_order ? rank_keeper_open(&r->keeper, r->net, r->how, valid) : CRANK_FAILED;
}

static crank_status check_clicks(const run *r)
{
    for (int64_t k = 0; k < session_count(r); k++) {
        int64_t s = r->chosen ? r->chosen[k] : k;
        for (int64_t i = r->log->starts[s]; i < r->log->starts[s + 1]; i++)
            if (r->log->click[i]) return CRANK_OK;
    }
    return crank_fail(r->context, CRANK_BAD_DATA, "the log has no click in %lld sessions: there is nothing to learn from", (long long)session_count(r));
}

static rank_net *fit(run *r, const click_curve *known, const letor_set *valid, click_curve **curve)
{
    crank_status status = r->log ? check_clicks(r) : CRANK_OK;
    bool         stop = false;
    if (status == CRANK_OK) status = start(r, known, valid);
    if (status == CRANK_OK && r->log && !strcmp(r->options->method, "dla")) warn_of_one_order(r->context, r->set, r->log);
    for (int64_t e = 1; status == CRANK_OK && !stop && e <= r->how->options->epochs && !crank_stop_requested(r->context); e++) {
        double loss = 0;
        status = one_epoch(r, e, &loss);
        if (status == CRANK_OK) status = rank_keeper_judge(&r->keeper, e, loss, &stop);
    }
    if (status == CRANK_OK) status = rank_keeper_end(&r->keeper);
    if (status == CRANK_OK && curve && !(*curve = unbiased_curve(r->learner, r->context))) status = CRANK_FAILED;
    unbiased_free(r->learner);
    rank_keeper_close(&r->keeper);
    click_log_free(r->made);
    crank_free(r->own_order), crank_free(r->sessions);
    if (status == CRANK_OK) return r->net;
    rank_net_free(r->net);
    return NULL;
}

/* ---- judged by clicks ---- */

typedef struct judge {
    crank_context         *context;
    letor_set             *set; /* of the lists held out */
    click_log             *log;
    click_earned          *earned;
    const click_curve     *curve;
    click_estimate_options how;
} judge;

static crank_status judge_clicks(void *user, const float *scores, double *value)
{
    judge       *j = user;
    crank_status status = click_earn(j->context, j->log, j->set, scores, j->curve, &j->how, j->earned);
    *value = click_estimate_of(j->earned, NULL, j->log->queries).snips;
    return status;
}

static crank_status open_judge(const run *r, judge *j)
{
    const char *at = strchr(r->how->options->measure, '@');
    j->context = r->context;
    j->how = (click_estimate_options){.most = r->options->most, .at = at ? strtoll(at + 1, NULL, 10) : 0};
    j->set = rank_take(r->context, r->set, r->held, r->held_count, NULL);
    j->log = j->set ? click_log_take(r->context, r->log, r->set, r->held, r->held_count) : NULL;
    j->earned = j->log ? crank_alloc(r->context, (size_t)r->held_count + 1, sizeof *j->earned, "clicks by query") : NULL;
    if (!j->earned) return crank_last_status(r->context);
    return j->log->sessions ? CRANK_OK : crank_fail(r->context, CRANK_BAD_DATA, "none of the %lld queries held out has a session", (long long)r->held_count);
}

/* The curve that judges: what is known, what a first pass learns, or a flat one for naive clicks. NULL: message set. */
static click_curve *judging_curve(const run *r, const click_curve *known)
{
    click_curve *curve = NULL;
    if (!known && strcmp(r->options->method, "naive")) {
        run          first = *r;
        rank_fit     how = *r->how;
        rank_options options = *r->how->options;
        options.patience = 0;
        how.options = &options;
        first.how = &how;
        crank_log(r->context, CRANK_INFO, "no --propensity: a first pass learns the examination that judges clicks of the queries held out");
        rank_net_free(fit(&first, NULL, NULL, &curve));
        return curve;
    }
    curve = click_curve_new(r->context, known ? known->contexts : 1, known ? known->places : 1);
    for (int64_t k = 0; curve && k < curve->contexts * curve->places; k++) curve->value[k] = known ? known->value[k] : 1;
    return curve;
}

static rank_net *fit_judged(run *r, const click_curve *known, click_curve **curve)
{
    judge        j = {.context = r->context};
    rank_net    *net = NULL;
    bool         labels = !strcmp(r->options->method, "labels");
    crank_status status = open_judge(r, &j);
    click_curve *weighs = status == CRANK_OK && !labels ? judging_curve(r, known) : NULL;
    j.curve = weighs;
    if (status == CRANK_OK && (weighs || labels)) {
        rank_fit how = *r->how, *given = r->how;
        if (!labels) how.judge = judge_clicks, how.judge_user = &j;
        r->how = &how;
        net = fit(r, known, j.set, curve);
        given->best = how.best, given->epochs = how.epochs;
    }
    click_curve_free(weighs);
    letor_free(j.set);
    click_log_free(j.log);
    crank_free(j.earned);
    return net;
}

/* options->held_out of the queries, drawn as rank_net_fit draws them; what is learnt from are the sessions of the others. */
static crank_status hold_out(run *r, int64_t **lists, int64_t **sessions)
{
    const rank_options *o = r->how->options;
    int64_t             queries = r->set->queries, count = 0;
    bool               *out = crank_alloc(r->context, (size_t)queries + 1, sizeof *out, "lists held out");
    r->held_count = (int64_t)(o->held_out * (double)queries);
    *lists = crank_alloc(r->context, (size_t)queries + 1, sizeof **lists, "lists");
    *sessions = crank_alloc(r->context, (size_t)r->log->sessions + 1, sizeof **sessions, "sessions");
    if (out && *lists && *sessions) {
        crank_permutation(crank_stream_make((uint64_t)o->seed, CRANK_RANDOM_SHUFFLE, 0), *lists, queries);
        r->held = *lists + queries - r->held_count;
        for (int64_t l = 0; l < r->held_count; l++) out[r->held[l]] = true;
        for (int64_t s = 0; s < r->log->sessions; s++)
            if (!out[r->log->query[s]]) (*sessions)[count++] = s;
        r->chosen = *sessions, r->chosen_count = count;
    }
    crank_free(out);
    return r->chosen ? CRANK_OK : CRANK_FAILED;
}

rank_net *unbiased_fit(crank_context *context, rank_fit *how, const unbiased_options *options, const letor_set *set, const click_log *log, const click_curve *known,
                       const letor_set *valid, click_curve **curve)
{
    run      r = {.context = context, .how = how, .options = options, .set = set, .log = log};
    int64_t *lists = NULL, *sessions = NULL;
    if (valid || (int64_t)(how->options->held_out * (double)set->queries) == 0 || !set->offsets) return fit(&r, known, valid, curve);
    rank_net *net = hold_out(&r, &lists, &sessions) == CRANK_OK ? fit_judged(&r, known, curve) : NULL;
    crank_free(lists), crank_free(sessions);
    return net;
}

rank_net *unbiased_fit_simulated(crank_context *context, rank_fit *how, const unbiased_options *options, const letor_set *set, const click_simulator *users, const float *order,
                                 const click_curve *known, const letor_set *valid, click_curve **curve)
{
    if (online_is(options->method)) return online_fit(context, how, options, set, users, valid);
    run r = {.context = context, .how = how, .options = options, .set = set, .users = users, .order = order};
    return fit(&r, known, valid, curve);
}
