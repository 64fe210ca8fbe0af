/* world_fit.c - a matrix is fitted by the change that a method makes to a zero weight.
 *
 *     loss = sum of (dW - T)^2, all of the identity's rows in each step; Adam with a linearly falling rate
 *     T     orthogonal (the q of a normal matrix), normal, or a product of rank 4: lab_method.number says which; metric:
 *           residual = |dW - T|^2 / |T|^2 */
#include <math.h>
#include <string.h>

#include "crank/linalg.h"
#include "lab/lab.h"

enum { TARGET_RANK = 4, TARGETS = 3 };

typedef struct world {
    lab_data data[TARGETS];
} world;

/* t [n, n] */
static crank_status make_target(crank_context *context, lab_target kind, crank_stream stream, int64_t n, float *t)
{
    if (kind != LAB_LOW_RANK) {
        crank_fill_normal(stream, 0, 0, 1, t, (size_t)(n * n));
        crank_matrix m = crank_matrix_f32(t, n, n);
        return kind == LAB_ORTHOGONAL ? crank_qr(context, m, CRANK_INSIDE_F64, m, crank_matrix_none()) : CRANK_OK;
    }
    float *factors = crank_alloc(context, (size_t)(2 * n * TARGET_RANK), sizeof *factors, "a target");
    if (!factors) return CRANK_FAILED;
    crank_fill_normal(stream, 0, 0, 1, factors, (size_t)(2 * n * TARGET_RANK));
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < n; j++)
            for (int64_t k = 0; k < TARGET_RANK; k++) t[i * n + j] += factors[i * TARGET_RANK + k] * factors[(n + j) * TARGET_RANK + k];
    crank_free(factors);
    return CRANK_OK;
}

/* Sample j is row j of the identity, and its y is row j of T: the map is T^T, of the same kind. |T|^2 = n: entries of an orthogonal
 * matrix's size. */
static crank_status prepare_target(lab_trial *trial, lab_target kind, lab_data *data)
{
    int64_t n = ((const lab_fit_settings *)trial->experiment->settings)->size;
    *data = (lab_data){.n = n, .width = n};
    data->x = crank_alloc(trial->context, (size_t)(n * n), sizeof *data->x, "the identity");
    data->y = crank_alloc(trial->context, (size_t)(n * n), sizeof *data->y, "a target");
    if (!data->x || !data->y) return CRANK_FAILED;
    crank_status status = make_target(trial->context, kind, crank_stream_make(trial->seed, CRANK_RANDOM_DATA, 1 + (uint32_t)kind), n, data->y);
    double       sum = 0;
    for (int64_t i = 0; i < n * n; i++) sum += (double)data->y[i] * data->y[i];
    for (int64_t i = 0; i < n * n; i++) data->y[i] *= (float)sqrt((double)n / sum);
    for (int64_t i = 0; i < n; i++) data->x[i * n + i] = 1;
    return status;
}

static crank_status prepare(lab_trial *trial)
{
    world       *made = trial->world;
    crank_status status = CRANK_OK;
    for (int kind = 0; status == CRANK_OK && kind < TARGETS; kind++) status = prepare_target(trial, (lab_target)kind, &made->data[kind]);
    return status;
}

static crank_status try_method(lab_trial *trial)
{
    const lab_fit_settings *settings = trial->experiment->settings;
    const lab_data         *data = &((world *)trial->world)->data[trial->method->number];
    int64_t                 n = settings->size;
    double                  loss = 0;
    lab_net                *net = lab_mlp(trial->context, (const int64_t[]){n, n}, 2, CRANK_RELU, false, 0, LAB_SQUARES, trial->seed);
    lab_training how = {.data = data, .steps = settings->steps, .batch = n, .schedule = CRANK_SCHEDULE_LINEAR, .seed = trial->seed};
    crank_status status = net ? lab_adapt(trial, net, "layers.0", &how) : crank_last_status(trial->context);
    if (status == CRANK_OK) status = lab_evaluate(net, data, &loss, NULL); /* mean over n samples of the mean over n outputs */
    if (status == CRANK_OK) status = lab_measure(trial, "residual", loss * (double)n);
    lab_net_free(net);
    return status;
}

static void release(void *room)
{
    for (int kind = 0; kind < TARGETS; kind++) lab_data_free(&((world *)room)->data[kind]);
}

const lab_world lab_world_fit = {.name = "fit", .size = sizeof(world), .prepare = prepare, .trial = try_method, .release = release};
