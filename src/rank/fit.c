/* fit.c - epochs over the lists with any list objective, and early stopping by a measure on lists held out.
 *
 * Every epoch is a permutation of the lists, `batch` of them a step. */
#include <math.h>
#include <string.h>

#include "rank/net.h"

typedef struct fitter {
    crank_context   *context;
    rank_fit        *how;
    const letor_set *train, *valid;
    rank_net        *net;
    rank_trainer    *trainer;
    rank_feeder      feeder;
    int64_t         *order, *picked;  /* permutation of places, lists of a batch */
    int64_t         *lists, list_count; /* that are trained on */
    float           *scores, *d1;
    rank_keeper      keeper;
    int64_t          steps, all_steps;
} fitter;

static crank_status one_batch(fitter *f, const int64_t *places, int64_t count, double *numerator, double *denominator)
{
    for (int64_t l = 0; l < count; l++) f->picked[l] = f->lists[places[l]];
    rank_batch        batch = rank_feed(&f->feeder, f->picked, count);
    crank_lists       lists = {.lists = count, .outputs = 1, .offsets = batch.offsets, .scores = f->scores, .labels = f->feeder.labels, .weights = f->train->weights ? f->feeder.weights : NULL};
    crank_list_result result = {.d1 = f->d1};
    f->steps++;
    if (!batch.rows) return CRANK_OK;
    crank_status status = rank_trainer_forward(f->trainer, &batch, f->scores);
    if (status == CRANK_OK) status = f->how->objective->run(f->context, &lists, f->how->objective_options, &result);
    if (status == CRANK_OK && !isfinite(result.numerator))
        status = crank_fail(f->context, CRANK_FAILED, "step %lld: the loss is not finite; a lower fit.rate or features=zscore helps", (long long)f->steps);
    if (status == CRANK_OK) status = rank_trainer_backward(f->trainer, f->d1, result.denominator, rank_rate(f->how->options, f->steps, f->all_steps));
    *numerator += result.numerator;
    *denominator += result.denominator;
    return status;
}

static crank_status epoch(fitter *f, int64_t number, double *loss)
{
    const rank_options *o = f->how->options;
    double              numerator = 0, denominator = 0;
    crank_status        status = CRANK_OK;
    crank_permutation(crank_stream_make((uint64_t)o->seed, CRANK_RANDOM_SHUFFLE, (uint32_t)number), f->order, f->list_count);
    for (int64_t at = 0; status == CRANK_OK && at < f->list_count; at += o->batch) {
        int64_t count = f->list_count - at < o->batch ? f->list_count - at : o->batch;
        status = one_batch(f, f->order + at, count, &numerator, &denominator);
    }
    if (status == CRANK_OK && number == 1 && denominator == 0)
        crank_log(f->context, CRANK_WARNING, "no list teaches %s anything: labels that differ inside a list are needed", f->how->objective->name);
    *loss = denominator > 0 ? numerator / denominator : 0;
    return status;
}

static crank_status run_epochs(fitter *f)
{
    crank_status status = CRANK_OK;
    bool         stop = false;
    for (int64_t e = 1; status == CRANK_OK && !stop && e <= f->how->options->epochs && !crank_stop_requested(f->context); e++) {
        double loss = 0;
        status = epoch(f, e, &loss);
        if (status == CRANK_OK) status = rank_keeper_judge(&f->keeper, e, loss, &stop);
    }
    return status == CRANK_OK ? rank_keeper_end(&f->keeper) : status;
}

static crank_status open(fitter *f)
{
    const rank_options *o = f->how->options;
    rank_scaler         scaler;
    crank_status        status = rank_scaler_fit(f->context, f->train, o->features, &scaler);
    if (status != CRANK_OK) return status;
    f->net = rank_net_new(f->context, o, &scaler);
    rank_scaler_free(&scaler);
    f->trainer = f->net ? rank_trainer_new(f->net, f->how->optimizer, f->how->optimizer_options) : NULL;
    if (!f->trainer) return crank_last_status(f->context);
    status = rank_feeder_open(f->context, f->train, rank_net_scaler(f->net), o->batch, &f->feeder);
    if (status != CRANK_OK) return status;
    f->all_steps = o->epochs * ((f->list_count + o->batch - 1) / o->batch);
    f->order = crank_alloc(f->context, (size_t)f->list_count + 1, sizeof *f->order, "the order of lists");
    f->picked = crank_alloc(f->context, (size_t)o->batch + 1, sizeof *f->picked, "lists of a batch");
    f->scores = crank_alloc(f->context, (size_t)f->feeder.row_room + 1, sizeof *f->scores, "scores");
    f->d1 = crank_alloc(f->context, (size_t)f->feeder.row_room + 1, sizeof *f->d1, "gradients of scores");
    return f->order && f->picked && f->scores && f->d1 ? rank_keeper_open(&f->keeper, f->net, f->how, f->valid) : CRANK_FAILED;
}

static void close(fitter *f)
{
    rank_trainer_free(f->trainer);
    rank_feeder_close(&f->feeder);
    crank_free(f->order), crank_free(f->picked), crank_free(f->lists), crank_free(f->scores), crank_free(f->d1);
    rank_keeper_close(&f->keeper);
}

/* ---- held-out lists ---- */

/* f->lists: what is trained on. *held: a copy of the others, or NULL. */
static crank_status split(fitter *f, letor_set **held)
{
    const rank_options *o = f->how->options;
    int64_t             queries = f->train->queries, count = f->valid ? 0 : (int64_t)(o->held_out * (double)queries);
    f->lists = crank_alloc(f->context, (size_t)queries + 1, sizeof *f->lists, "lists");
    if (!f->lists) return CRANK_FAILED;
    crank_permutation(crank_stream_make((uint64_t)o->seed, CRANK_RANDOM_SHUFFLE, 0), f->lists, queries);
    f->list_count = queries - count;
    if (!count) return CRANK_OK;
    *held = rank_take(f->context, f->train, f->lists + f->list_count, count, NULL);
    f->valid = *held;
    return *held ? CRANK_OK : CRANK_FAILED;
}

rank_net *rank_net_fit(crank_context *context, rank_fit *how, const letor_set *train, const letor_set *valid)
{
    fitter     f = {.context = context, .how = how, .train = train, .valid = valid};
    letor_set *held = NULL;
    if (!train->offsets || train->queries < 1 || train->columns < 1) {
        crank_fail(context, CRANK_BAD_DATA, "a ranker needs data with columns and queries: qid:, a column (data.query) or a .query file name them");
        return NULL;
    }
    if (valid && !valid->offsets) {
        crank_fail(context, CRANK_BAD_DATA, "the validation data have no queries");
        return NULL;
    }
    if (!strcmp(how->options->model, "coordinate-ascent")) return rank_ascent_fit(context, how, train, valid);
    crank_status status = split(&f, &held);
    if (status == CRANK_OK) status = open(&f);
    if (status == CRANK_OK) status = run_epochs(&f);
    close(&f);
    letor_free(held);
    if (status == CRANK_OK) return f.net;
    rank_net_free(f.net);
    return NULL;
}
