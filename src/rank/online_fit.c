/* online_fit.c - sessions of online learners: an order is shown, clicks come back, the ranker moves. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "crank/metric.h"
#include "rank/net.h"
#include "rank/online.h"

typedef struct run {
    crank_context          *context;
    rank_fit               *how;
    const unbiased_options *options;
    const letor_set        *set;
    const click_simulator  *users;
    rank_net               *net;
    rank_trainer           *trainer; /* pdgd */
    rank_feeder             feeder;
    rank_keeper             keeper;
    int64_t                *lists, longest;
    int32_t                *orders, *spare; /* [rankers, longest], [longest] */
    float                  *scores, *d1, *keys;
    double                 *e;
    bool                   *taken;
    float                  *weights, *direction, *moved, *sum; /* dbgd: [size] */
    int64_t                 steps, all_steps;
} run;

static crank_status answer(const run *r, uint64_t session, int64_t first, const int32_t *list, int64_t depth, uint8_t *clicks)
{
    float grades[CLICK_MOST_PLACES];
    for (int64_t i = 0; i < depth; i++) grades[i] = r->set->labels[first + list[i]];
    return click_simulate(r->context, r->users, session, grades, depth, clicks);
}

static int64_t shown(const run *r, int64_t n) { return n < r->users->depth ? n : r->users->depth; }

/* ---- pdgd: a batch of lists a step ---- */

static crank_status pdgd_batch(run *r, uint64_t session, const int64_t *lists, int64_t count, double *loss)
{
    rank_batch   batch = rank_feed(&r->feeder, lists, count);
    double       numerator = 0;
    uint8_t      clicks[CLICK_MOST_PLACES];
    crank_status status = batch.rows ? rank_trainer_forward(r->trainer, &batch, r->scores) : CRANK_OK;
    memset(r->d1, 0, (size_t)batch.rows * sizeof *r->d1);
    for (int64_t l = 0; status == CRANK_OK && l < count; l++) {
        int64_t      at = batch.offsets[l], n = batch.offsets[l + 1] - at, depth = shown(r, n);
        crank_stream stream = crank_stream_make((uint64_t)r->how->options->seed, CRANK_RANDOM_SAMPLE, (uint32_t)(session + (uint64_t)l));
        if (!n) continue;
        online_draw_order(stream, r->scores + at, r->options->temperature, n, r->keys, r->orders, r->spare);
        status = answer(r, session + (uint64_t)l, r->set->offsets[lists[l]], r->orders, depth, clicks);
        if (status == CRANK_OK) numerator += online_pairs(r->scores + at, r->options->temperature, n, r->orders, depth, clicks, r->e, r->d1 + at);
    }
    *loss = numerator / (double)count;
    if (status == CRANK_OK && !isfinite(numerator)) status = crank_fail(r->context, CRANK_FAILED, "step %lld: the scores are not finite; a lower fit.rate helps", (long long)r->steps + 1);
    return status == CRANK_OK && batch.rows ? rank_trainer_backward(r->trainer, r->d1, (double)count, rank_rate(r->how->options, ++r->steps, r->all_steps)) : status;
}

/* ---- dbgd: one list a step ---- */

/* direction <- drawn on the unit sphere, moved <- weights + delta direction. Draws of one session's candidate. */
static void draw_direction(run *r, uint64_t number)
{
    size_t size = rank_net_size(r->net);
    double norm = 0;
    crank_fill_normal(crank_stream_make((uint64_t)r->how->options->seed, CRANK_RANDOM_METHOD, (uint32_t)number), 0, 0, 1, r->direction, size);
    for (size_t k = 0; k < size; k++) norm += (double)r->direction[k] * (double)r->direction[k];
    norm = sqrt(fmax(norm, 1e-30));
    for (size_t k = 0; k < size; k++) {
        r->direction[k] = (float)((double)r->direction[k] / norm);
        r->moved[k] = (float)((double)r->weights[k] + r->options->delta * (double)r->direction[k]);
    }
}

static crank_status order_of(run *r, const float *weights, const rank_batch *batch, int32_t *order)
{
    crank_status status = rank_net_set(r->net, weights);
    if (status == CRANK_OK) status = rank_net_forward(r->net, batch, r->scores);
    if (status == CRANK_OK) crank_rank_order(r->scores, order, r->spare, batch->rows);
    return status;
}

static crank_status dbgd_session(run *r, uint64_t session, const int64_t *list, double *loss)
{
    int64_t      rankers = r->options->candidates + 1, winners = 0, credit[ONLINE_MOST_RANKERS] = {0};
    rank_batch   batch = rank_feed(&r->feeder, list, 1);
    int64_t      n = batch.rows, depth = shown(r, n);
    int32_t      items[CLICK_MOST_PLACES], team[CLICK_MOST_PLACES];
    uint8_t      clicks[CLICK_MOST_PLACES];
    size_t       size = rank_net_size(r->net);
    crank_status status = n ? order_of(r, r->weights, &batch, r->orders) : CRANK_OK;
    *loss = 0;
    if (!n) return CRANK_OK;
    for (int64_t c = 1; status == CRANK_OK && c < rankers; c++) {
        draw_direction(r, session * (ONLINE_MOST_RANKERS - 1) + (uint64_t)c);
        status = order_of(r, r->moved, &batch, r->orders + c * n);
    }
    if (status != CRANK_OK) return status;
    online_team_draft(crank_stream_make((uint64_t)r->how->options->seed, CRANK_RANDOM_SAMPLE, (uint32_t)session), r->orders, rankers, n, depth, r->taken, items, team);
    status = answer(r, session, r->set->offsets[*list], items, depth, clicks);
    for (int64_t i = 0; status == CRANK_OK && i < depth; i++) credit[team[i]] += clicks[i];
    memset(r->sum, 0, size * sizeof *r->sum);
    for (int64_t c = 1; status == CRANK_OK && c < rankers; c++) {
        if (credit[c] <= credit[0]) continue;
        winners++;
        draw_direction(r, session * (ONLINE_MOST_RANKERS - 1) + (uint64_t)c);
        for (size_t k = 0; k < size; k++) r->sum[k] += r->direction[k];
    }
    double rate = rank_rate(r->how->options, ++r->steps, r->all_steps);
    for (size_t k = 0; winners && k < size; k++) r->weights[k] = (float)((double)r->weights[k] + rate * (double)r->sum[k] / (double)winners);
    *loss = winners ? 0 : 1; /* share of sessions that no candidate wins */
    return status;
}

static crank_status dbgd_batch(run *r, uint64_t session, const int64_t *lists, int64_t count, double *loss)
{
    double       sum = 0, here;
    crank_status status = rank_net_get(r->net, r->weights);
    for (int64_t l = 0; status == CRANK_OK && l < count; l++) {
        status = dbgd_session(r, session + (uint64_t)l, lists + l, &here);
        sum += here;
    }
    *loss = sum / (double)count;
    return status == CRANK_OK ? rank_net_set(r->net, r->weights) : status;
}

/* ---- epochs ---- */

static crank_status one_epoch(run *r, int64_t epoch, double *loss)
{
    const rank_options *o = r->how->options;
    int64_t             queries = r->set->queries, batches = 0;
    bool                pairs = r->trainer != NULL;
    crank_status        status = CRANK_OK;
    double              sum = 0;
    crank_permutation(crank_stream_make((uint64_t)o->seed, CRANK_RANDOM_SHUFFLE, (uint32_t)epoch), r->lists, queries);
    for (int64_t at = 0; status == CRANK_OK && at < queries; at += o->batch, batches++) {
        double   here;
        int64_t  count = queries - at < o->batch ? queries - at : o->batch;
        uint64_t session = (uint64_t)((epoch - 1) * queries + at);
        status = pairs ? pdgd_batch(r, session, r->lists + at, count, &here) : dbgd_batch(r, session, r->lists + at, count, &here);
        sum += here;
    }
    *loss = batches ? sum / (double)batches : 0;
    return status;
}

static crank_status make_room(run *r)
{
    size_t rankers = r->trainer ? 1 : (size_t)r->options->candidates + 1, size = r->trainer ? 1 : rank_net_size(r->net) + 1;
    for (int64_t q = 0; q < r->set->queries; q++)
        if (r->set->offsets[q + 1] - r->set->offsets[q] > r->longest) r->longest = r->set->offsets[q + 1] - r->set->offsets[q];
    size_t longest = (size_t)r->longest + 1;
    r->lists = crank_alloc(r->context, (size_t)r->set->queries + 1, sizeof *r->lists, "the order of lists");
    r->orders = crank_alloc(r->context, rankers * longest, sizeof *r->orders, "orders");
    r->spare = crank_alloc(r->context, longest, sizeof *r->spare, "orders");
    r->keys = crank_alloc(r->context, longest, sizeof *r->keys, "orders");
    r->e = crank_alloc(r->context, longest, sizeof *r->e, "orders");
    r->taken = crank_alloc(r->context, longest, sizeof *r->taken, "orders");
    r->scores = crank_alloc(r->context, (size_t)r->feeder.row_room + 1, sizeof *r->scores, "scores");
    r->d1 = crank_alloc(r->context, (size_t)r->feeder.row_room + 1, sizeof *r->d1, "gradients of scores");
    r->weights = crank_alloc(r->context, 4 * size, sizeof *r->weights, "weights of candidates");
    r->direction = r->weights + size, r->moved = r->direction + size, r->sum = r->moved + size;
    return r->lists && r->orders && r->spare && r->keys && r->e && r->taken && r->scores && r->d1 && r->weights ? CRANK_OK : CRANK_FAILED;
}

static crank_status start(run *r, const letor_set *valid)
{
    const rank_options *o = r->how->options;
    bool                pairs = !strcmp(r->options->method, "pdgd");
    rank_scaler         scaler;
    if (!r->set->offsets || r->set->queries < 1 || r->set->columns < 1) return crank_fail(r->context, CRANK_BAD_DATA, "online learning needs feature vectors that have queries");
    if (!strcmp(o->model, "coordinate-ascent")) return crank_fail(r->context, CRANK_USAGE, "coordinate ascent climbs a measure of labels: clicks train linear, mlp and attention");
    if (!pairs && !strcmp(o->model, "mlp") && !strcmp(o->norm, "batch")) return crank_fail(r->context, CRANK_USAGE, "dbgd moves weights at random, which running averages do not bear: fit.norm=layer or none");
    crank_status status = rank_scaler_fit(r->context, r->set, o->features, &scaler);
    if (status != CRANK_OK) return status;
    r->net = rank_net_new(r->context, o, &scaler);
    rank_scaler_free(&scaler);
    if (r->net && pairs) r->trainer = rank_trainer_new(r->net, r->how->optimizer, r->how->optimizer_options);
    if (!r->net || (pairs && !r->trainer)) return crank_last_status(r->context);
    r->all_steps = o->epochs * (pairs ? (r->set->queries + o->batch - 1) / o->batch : r->set->queries);
    status = rank_feeder_open(r->context, r->set, rank_net_scaler(r->net), o->batch, &r->feeder);
    if (status == CRANK_OK) status = make_room(r);
    return status == CRANK_OK ? rank_keeper_open(&r->keeper, r->net, r->how, valid) : status;
}

rank_net *online_fit(crank_context *context, rank_fit *how, const unbiased_options *options, const letor_set *set, const click_simulator *users, const letor_set *valid)
{
    run          r = {.context = context, .how = how, .options = options, .set = set, .users = users};
    crank_status status = start(&r, valid);
    bool         stop = false;
    for (int64_t e = 1; status == CRANK_OK && !stop && e <= how->options->epochs && !crank_stop_requested(context); e++) {
        double loss = 0;
        status = one_epoch(&r, e, &loss);
        if (status == CRANK_OK) status = rank_keeper_judge(&r.keeper, e, loss, &stop);
    }
    if (status == CRANK_OK) status = rank_keeper_end(&r.keeper);
    rank_trainer_free(r.trainer);
    rank_keeper_close(&r.keeper);
    rank_feeder_close(&r.feeder);
    crank_free(r.lists), crank_free(r.orders), crank_free(r.spare), crank_free(r.keys), crank_free(r.e), crank_free(r.taken);
    crank_free(r.scores), crank_free(r.d1), crank_free(r.weights);
    if (status == CRANK_OK) return r.net;
    rank_net_free(r.net);
    return NULL;
}
