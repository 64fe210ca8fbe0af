/* keeper.c - the best epoch: measured on validation data after each one, kept, and come back to at the end.
 *
 * The weights with the best validation measure are kept (the first of equal ones); without validation data, or with patience 0, the last. */
#include <math.h>
#include <string.h>

#include "rank/net.h"

double rank_rate(const rank_options *o, int64_t step, int64_t steps)
{
    crank_schedule s = {.total = steps, .warmup = o->warmup, .kind = !strcmp(o->schedule, "linear") ? CRANK_SCHEDULE_LINEAR
                                                                  : !strcmp(o->schedule, "cosine") ? CRANK_SCHEDULE_COSINE : CRANK_SCHEDULE_CONSTANT};
    return o->rate * crank_schedule_factor(&s, step);
}

crank_status rank_keeper_open(rank_keeper *k, rank_net *net, rank_fit *how, const letor_set *valid)
{
    *k = (rank_keeper){.net = net, .how = how, .valid = valid};
    how->best = NAN;
    how->epochs = 0;
    k->scores = crank_alloc(net->context, valid ? (size_t)valid->rows + 1 : 1, sizeof *k->scores, "scores");
    k->best = crank_alloc(net->context, rank_net_size(net) + 1, sizeof *k->best, "the best weights");
    return k->scores && k->best ? CRANK_OK : CRANK_FAILED;
}

void rank_keeper_close(rank_keeper *k) { crank_free(k->scores), crank_free(k->best); }

static crank_status measure(rank_keeper *k, double *value)
{
    *value = NAN;
    if (!k->valid) return CRANK_OK;
    crank_status status = rank_net_scores(k->net, k->valid, k->scores);
    if (status != CRANK_OK) return status;
    return k->how->judge ? k->how->judge(k->how->judge_user, k->scores, value) : rank_measure(k->net->context, k->how->options->measure, k->valid, k->scores, value);
}

crank_status rank_keeper_judge(rank_keeper *k, int64_t epoch, double loss, bool *stop)
{
    rank_fit    *how = k->how;
    double       value;
    crank_status status = measure(k, &value);
    k->keeps = k->valid && how->options->patience > 0;
    if (status != CRANK_OK) return status;
    if (how->progress) how->progress(how->user, epoch, loss, value);
    if (!k->keeps || isnan(how->best) || value > how->best) {
        how->best = value;
        how->epochs = epoch;
        return k->keeps ? rank_net_get(k->net, k->best) : CRANK_OK;
    }
    *stop = epoch - how->epochs >= how->options->patience;
    if (*stop) crank_log(k->net->context, CRANK_INFO, "%s has not improved for %lld epochs: those of epoch %lld are kept", how->judge ? "the measure of clicks" : how->options->measure, (long long)how->options->patience, (long long)how->epochs);
    return CRANK_OK;
}

crank_status rank_keeper_end(rank_keeper *k) { return k->keeps && k->how->epochs ? rank_net_set(k->net, k->best) : CRANK_OK; }
