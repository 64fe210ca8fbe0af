/* world_fit.c - a matrix is fitted by the change that a method makes to a zero weight.
 *
 *     loss = sum of (dW - T)^2, all of the identity's rows in each step; Adam with a linearly falling rate
 *     T     orthogonal (the q of a normal matrix), normal, or a product of rank 4; metric: residual = |dW - T|^2 / |T|^2 */
#include <math.h>
#include <string.h>

#include "crank/linalg.h"
#include "lab/lab.h"

enum { TARGET_RANK = 4 };

typedef struct world {
    lab_data data;
    double   squares; /* of T */
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

/* Sample j is row j of the identity, and its y is column j of T, scaled to |T|^2 = n: entries of an orthogonal matrix's size. */
static crank_status prepare(lab_trial *trial)
{
    const lab_fit_settings *settings = trial->experiment->settings;
    world                  *made = trial->world;
    int64_t                 n = settings->size;
    made->data = (lab_data){.n = n, .width = n};
    made->data.x = crank_alloc(trial->context, (size_t)(n * n), sizeof *made->data.x, "the identity");
    made->data.y = crank_alloc(trial->context, (size_t)(n * n), sizeof *made->data.y, "a target");
    if (!made->data.x || !made->data.y) return CRANK_FAILED;
    crank_status status = make_target(trial->context, settings->target, crank_stream_make(trial->seed, CRANK_RANDOM_DATA, 1), n, made->data.y);
    double       sum = 0;
    for (int64_t i = 0; i < n * n; i++) sum += (double)made->data.y[i] * made->data.y[i];
    for (int64_t i = 0; i < n * n; i++) made->data.y[i] *= (float)sqrt((double)n / sum);
    for (int64_t i = 0; i < n; i++) made->data.x[i * n + i] = 1;
    made->squares = (double)n;
    return status;
}

static crank_status try_method(lab_trial *trial)
{
    const lab_fit_settings *settings = trial->experiment->settings;
    world                  *made = trial->world;
    int64_t                 n = settings->size;
    double                  loss = 0;
    lab_net                *net = lab_mlp(trial->context, (const int64_t[]){n, n}, 2, CRANK_RELU, false, 0, LAB_SQUARES, trial->seed);
    lab_training how = {.data = &made->data, .steps = settings->steps, .batch = n, .schedule = CRANK_SCHEDULE_LINEAR, .seed = trial->seed};
    crank_status status = net ? lab_adapt(trial, net, "layers.0", &how) : crank_last_status(trial->context);
    if (status == CRANK_OK) status = lab_evaluate(net, &made->data, &loss, NULL); /* mean over n samples of the mean over n outputs */
    if (status == CRANK_OK) status = lab_measure(trial, "residual", loss * (double)(n * n) / made->squares);
    lab_net_free(net);
    return status;
}

static void release(void *room) { lab_data_free(&((world *)room)->data); }

const lab_world lab_world_fit = {.name = "fit", .size = sizeof(world), .prepare = prepare, .trial = try_method, .release = release};
