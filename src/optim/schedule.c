/* schedule.c - learning-rate schedules: a linear warm-up, then constant, linear or cosine.
 *
 *     step <= warmup:  step / warmup        (the first step already moves)
 *     later:           p = (step - 1 - warmup) / (total - warmup), in [0, 1]
 *                      linear  floor + (1 - floor) (1 - p)
 *                      cosine  floor + (1 - floor) (1 + cos(pi p)) / 2
 *
 * The decay is that of transformers' schedules, whose steps count from 0: the peak stands once more behind the warm-up, and the
 * last step still moves, by one step's share above the floor. */
#include <math.h>

#include "crank/optim.h"

double crank_schedule_factor(const crank_schedule *schedule, int64_t step)
{
    if (schedule->warmup > 0 && step <= schedule->warmup) return step > 0 ? (double)step / (double)schedule->warmup : 0;
    if (schedule->kind == CRANK_SCHEDULE_CONSTANT) return 1;
    int64_t span = schedule->total - schedule->warmup;
    double  progress = span > 0 ? (double)(step - 1 - schedule->warmup) / (double)span : 1;
    progress = progress < 0 ? 0 : progress > 1 ? 1 : progress;
    double share = schedule->kind == CRANK_SCHEDULE_LINEAR ? 1 - progress : (1 + cos(3.14159265358979323846 * progress)) / 2;
    return schedule->floor + (1 - schedule->floor) * share;
}
