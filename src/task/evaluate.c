/* evaluate.c - one forward pass over every batch of a set. */
#include "task/evaluate.h"

#include <math.h>

#include "base/clock.h"
#include "task/trainer_graph.h"

static int64_t correct(const float *outputs, const data_batch *batch, int64_t labels)
{
    int64_t right = 0;
    for (int64_t i = 0; i < batch->sequences; i++) {
        int64_t best = 0;
        if (batch->labels[i] < 0) continue;
        for (int64_t k = 1; k < labels; k++)
            if (outputs[i * labels + k] > outputs[i * labels + best]) best = k;
        right += best == batch->labels[i];
    }
    return right;
}

crank_status evaluate_set(crank_context *context, task_trainer *trainer, data_set *set, evaluation *out)
{
    int64_t labels = crank_model_config_of(trainer->model)->labels, batches = dataset_batches_per_epoch(set), right = 0;
    bool    classifies = trainer->recipe->objective->fields & CRANK_FIELD_LABELS;
    double  sum = 0, divisor = 0, start = clock_seconds();
    float  *outputs = NULL;
    *out = (evaluation){.classified = classifies, .accuracy = NAN};
    if (classifies) {
        outputs = crank_alloc(context, (size_t)(dataset_largest_sequences(set) * labels), sizeof *outputs, "outputs");
        if (!outputs) return CRANK_FAILED;
    }
    crank_status status = CRANK_OK;
    for (int64_t k = 0; k < batches && status == CRANK_OK; k++) {
        const data_batch *batch;
        double            numerator = 0, denominator = 0;
        if (crank_stop_requested(context)) {
            status = crank_fail(context, CRANK_STOPPED, "stopped during an evaluation; the same command goes on from the last checkpoint");
            break;
        }
        status = dataset_batch(context, set, k, 0, &batch);
        if (status == CRANK_OK) status = trainer_evaluate(context, trainer, batch, &numerator, &denominator, outputs);
        if (status != CRANK_OK) break;
        sum += numerator;
        divisor += denominator;
        out->counted += batch->trained;
        out->tokens += batch->tokens;
        out->sequences += batch->sequences;
        if (classifies) right += correct(outputs, batch, labels);
    }
    crank_free(outputs);
    if (status == CRANK_OK && out->counted < 1) status = crank_fail(context, CRANK_BAD_DATA, "the evaluation set has nothing that the loss counts");
    out->loss = divisor > 0 ? sum / divisor : 0;
    if (classifies && out->counted) out->accuracy = (double)right / (double)out->counted;
    out->seconds = clock_seconds() - start;
    return status;
}
