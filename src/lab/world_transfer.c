/* world_transfer.c - a small classifier that is pre-trained on one teacher and adapted to a perturbed one.
 *
 *     teacher T     32-128-128-10, ReLU, weights N(0, 2/in), biases 0; x ~ N(0, I); label = argmax of the teacher's outputs
 *     base          a network of the same shape trained on 20,000 samples of T
 *     task          T' = T with each weight matrix W replaced by W + strength |W| / |N| N, N normal; 4,000 samples to learn it from
 *
 * With strength 0.42 the base's accuracy on T' is near 0.48 and full fine-tuning's near 0.72: set by these two numbers alone. */
#include <math.h>
#include <string.h>

#include "lab/lab.h"

enum { WIDTH = 32, CLASSES = 10, LAYERS = 3, PRETRAIN = 20000, PRETRAIN_STEPS = 3000, TRAIN = 4000, TEST = 10000 };
static const int64_t sizes[LAYERS + 1] = {WIDTH, 128, 128, CLASSES};
static const double  STRENGTH = 0.42;

/* Samples x of a stream with the teacher's labels. */
static crank_status draw(lab_net *teacher, int64_t n, uint64_t seed, uint32_t index, lab_data *data)
{
    crank_context *context = teacher->context;
    *data = (lab_data){.n = n, .width = WIDTH};
    data->x = crank_alloc(context, (size_t)(n * WIDTH), sizeof *data->x, "samples");
    data->labels = crank_alloc(context, (size_t)n, sizeof *data->labels, "labels");
    if (!data->x || !data->labels) return CRANK_FAILED;
    crank_fill_normal(crank_stream_make(seed, CRANK_RANDOM_DATA, index), 0, 0, 1, data->x, (size_t)(n * WIDTH));
    float *outputs = lab_outputs(teacher, data);
    if (!outputs) return crank_last_status(context);
    for (int64_t i = 0; i < n; i++) {
        const float *row = outputs + i * CLASSES;
        for (int32_t c = 1; c < CLASSES; c++)
            if (row[c] > row[data->labels[i]]) data->labels[i] = c;
    }
    crank_free(outputs);
    return CRANK_OK;
}

static lab_net *new_net(crank_context *context, uint64_t seed)
{
    return lab_mlp(context, sizes, LAYERS + 1, CRANK_RELU, true, sqrt(2), LAB_CROSS_ENTROPY, seed);
}

static double norm(const float *values, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += (double)values[i] * values[i];
    return sqrt(sum);
}

/* W + strength |W| / |N| N for each weight. */
static crank_status perturb(lab_net *net, uint64_t seed)
{
    crank_status status = CRANK_OK;
    for (size_t l = 0; status == CRANK_OK && l < crank_linears_count(net->linears); l++) {
        const crank_linear *linear = crank_linears_at(net->linears, l);
        size_t              n = (size_t)(linear->in * linear->out);
        float              *w = lab_weight(net, linear->name), *noise = crank_alloc(net->context, n, sizeof *noise, "a perturbation");
        status = w && noise ? CRANK_OK : crank_last_status(net->context);
        if (status == CRANK_OK) {
            crank_fill_normal(crank_stream_make(seed, CRANK_RANDOM_DATA, 100 + (uint32_t)l), 0, 0, 1, noise, n);
            double factor = STRENGTH * norm(w, n) / norm(noise, n);
            for (size_t i = 0; i < n; i++) w[i] += (float)(factor * noise[i]);
            status = lab_weight_set(net, linear->name, w);
        }
        crank_free(w), crank_free(noise);
    }
    return status;
}

static crank_status pretrain(lab_net *base, lab_net *teacher, uint64_t seed)
{
    lab_data     data;
    crank_status status = draw(teacher, PRETRAIN, seed, 1, &data);
    lab_method   adam = {.name = "pre-training"};
    lab_training how = {.data = &data, .steps = PRETRAIN_STEPS, .batch = 64, .rate = 2e-3, .schedule = CRANK_SCHEDULE_COSINE, .seed = seed};
    if (status == CRANK_OK) status = lab_attach(base, &adam, NULL, NULL, NULL);
    if (status == CRANK_OK) status = lab_train(base, &adam, &how, NULL);
    lab_data_free(&data);
    return status;
}

static crank_status prepare(lab_trial *trial)
{
    lab_transfer *world = trial->world;
    uint64_t      seed = trial->seed;
    lab_net      *teacher = new_net(trial->context, seed + 1000);
    world->base = new_net(trial->context, seed);
    crank_status status = teacher && world->base ? pretrain(world->base, teacher, seed) : crank_last_status(trial->context);
    if (status == CRANK_OK) status = perturb(teacher, seed);
    if (status == CRANK_OK) status = draw(teacher, TRAIN, seed, 2, &world->train);
    if (status == CRANK_OK) status = draw(teacher, TEST, seed, 3, &world->test);
    lab_net_free(teacher);
    return status;
}

lab_net *lab_transfer_net(lab_trial *trial)
{
    lab_transfer *world = trial->world;
    lab_net      *net = new_net(trial->context, trial->seed);
    if (net && lab_net_copy(net, world->base) == CRANK_OK) return net;
    lab_net_free(net);
    return NULL;
}

lab_training lab_transfer_training(const lab_trial *trial)
{
    const lab_transfer_settings *settings = trial->experiment->settings;
    const lab_transfer          *world = trial->world;
    lab_training how = {.data = &world->train, .steps = 2000, .batch = 64, .rate = trial->rate, .seed = trial->seed, .schedule = CRANK_SCHEDULE_CONSTANT};
    if (settings && settings->steps) how.steps = settings->steps;
    if (settings && settings->batch) how.batch = settings->batch;
    if (settings) how.schedule = settings->schedule;
    return how;
}

crank_status lab_transfer_adapt(lab_trial *trial, lab_net *net, const lab_training *how)
{
    const lab_transfer *world = trial->world;
    double              accuracy = 0;
    crank_status        status = net ? lab_adapt(trial, net, "layers.0\nlayers.1", how) : crank_last_status(trial->context);
    if (status == CRANK_OK) status = lab_evaluate(net, &world->test, NULL, &accuracy);
    return status == CRANK_OK ? lab_measure(trial, "accuracy", accuracy) : status;
}

static crank_status try_method(lab_trial *trial)
{
    lab_net      *net = lab_transfer_net(trial);
    lab_training  how = lab_transfer_training(trial);
    crank_status  status = lab_transfer_adapt(trial, net, &how);
    lab_net_free(net);
    return status;
}

static void release(void *room)
{
    lab_transfer *world = room;
    lab_net_free(world->base);
    lab_data_free(&world->train);
    lab_data_free(&world->test);
}

const lab_world lab_world_transfer = {.name = "transfer", .size = sizeof(lab_transfer), .prepare = prepare, .trial = try_method, .release = release};
