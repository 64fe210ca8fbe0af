/* trainer_zeroth.c - a step of an optimiser that sees losses instead of gradients.
 *
 *     round 0, 1, ..:   for each trial j:  propose(j) writes the parameters,  loss_j = forward pass over the window
 *                       absorb(losses) leaves the parameters where the step has come to, and may ask for another round
 *
 * The graphs are those of evaluation: no dropout, nothing kept for a reverse pass. The step's loss is the least of its first
 * round. */
#include "task/trainer_graph.h"

#include <math.h>

static crank_status window_loss(crank_context *context, task_trainer *trainer, const data_batch *const *window, int count, double *loss)
{
    double sum = 0, divisor = 0;
    for (int i = 0; i < count; i++) {
        double       numerator, denominator;
        crank_status status = trainer_evaluate(context, trainer, window[i], &numerator, &denominator, NULL);
        if (status != CRANK_OK) return status;
        sum += numerator;
        divisor += denominator;
    }
    *loss = divisor > 0 ? sum / divisor : 0;
    return CRANK_OK;
}

/* One round; *best: the least finite loss, NAN when there is none. */
static crank_status one_round(crank_context *context, task_trainer *trainer, int64_t step, int round, const data_batch *const *window,
                              int count, double rate, double *best, bool *more)
{
    const crank_optimizer *optimizer = trainer->recipe->optimizer;
    int                    trials = optimizer->trials(trainer->units, trainer->unit_count, trainer->model_state, round);
    if (trials < 1) return crank_fail(context, CRANK_FAILED, "%s asks for a round of %d trials", optimizer->name, trials);
    double *losses = crank_alloc(context, (size_t)trials, sizeof *losses, "losses of trials");
    if (!losses) return CRANK_FAILED;
    crank_status status = CRANK_OK;
    *best = NAN;
    *more = false;
    for (int j = 0; j < trials && status == CRANK_OK; j++) {
        status = optimizer->propose(context, trainer->units, trainer->unit_count, trainer->model_state, step, round, j);
        if (status == CRANK_OK) status = window_loss(context, trainer, window, count, &losses[j]);
        if (status == CRANK_OK && isfinite(losses[j]) && !(losses[j] >= *best)) *best = losses[j];
    }
    if (status == CRANK_OK)
        status = optimizer->absorb(context, trainer->units, trainer->unit_count, trainer->model_state, step, round, losses, rate, more);
    crank_free(losses);
    return status;
}

crank_status trainer_zeroth_step(crank_context *context, task_trainer *trainer, int64_t step, const data_batch *const *window, int count,
                                 trainer_result *result)
{
    bool more = true;
    for (int round = 0; more; round++) {
        double       best = NAN;
        crank_status status = one_round(context, trainer, step, round, window, count, result->rate, &best, &more);
        if (status != CRANK_OK) return status;
        if (round == 0) result->loss = best;
    }
    result->numerator = result->loss * result->denominator;
    result->skipped = !isfinite(result->loss);
    return CRANK_OK;
}
