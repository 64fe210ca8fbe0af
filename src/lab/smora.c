/* smora.c - experiment: a router over single ranks on eight tasks at once (arXiv:2501.15103).
 *
 * Its own world: a 40-128-128-10 ReLU network whose last 8 inputs name the task (8 in its place) is pre-trained on one teacher; eight teachers,
 * each perturbed in every layer by a normal matrix 0.7 times as long as the weight, label the samples of their task: the base alone reaches .30 there.
 * Mean accuracy over the tasks is measured.
 *
 * Rates are tuned on seeds 101 to 104, and three seeds are judged at a scale of 2 on both sides: SMoRA is .008 above LoRA r=8, where .01 is asked.
 * Six seeds give .0107; and on the tuning seeds LoRA r=8 has .6478 at a scale of 2 and .6496 at 1, SMoRA .6564, .6576 and .6582 at 2, 1 and 1/2.
 * With the task named by a 1 instead of an 8, and a perturbation as long as the weight, SMoRA is .023 below LoRA: the router must see the task. */
#include <math.h>

#include "lab/lab.h"

enum { SIGNAL = 8, TASKS = 8, INPUTS = 32, WIDTH = INPUTS + TASKS, CLASSES = 10, PRETRAIN = 16000, SAMPLES = 32000, TEST = 8000 };

static const double  STRENGTH = 0.7;
static const int64_t sizes[] = {WIDTH, 128, 128, CLASSES};

typedef struct world {
    lab_net *base;
    lab_data train, test;
} world;

static lab_net *new_net(crank_context *context, uint64_t seed) { return lab_mlp(context, sizes, 4, CRANK_RELU, true, sqrt(2), LAB_CROSS_ENTROPY, seed); }

/* Normal inputs; sample i belongs to task i mod 8, which the last inputs name once `labels` are there. */
static crank_status draw(crank_context *context, int64_t n, uint64_t seed, uint32_t index, lab_data *data)
{
    *data = (lab_data){.n = n, .width = WIDTH, .stride = WIDTH};
    data->x = crank_alloc(context, (size_t)(n * WIDTH), sizeof *data->x, "samples");
    data->labels = crank_alloc(context, (size_t)n, sizeof *data->labels, "labels");
    if (!data->x || !data->labels) return CRANK_FAILED;
    for (int64_t i = 0; i < n; i++)
        crank_fill_normal(crank_stream_make(seed, CRANK_RANDOM_DATA, index), (uint64_t)(i * INPUTS), 0, 1, data->x + i * WIDTH, INPUTS);
    return CRANK_OK;
}

/* The teacher names the class of samples of one task (-1: of all); teachers do not see the task's name. */
static crank_status label(lab_net *teacher, lab_data *data, int task)
{
    float *scores = lab_outputs(teacher, data);
    if (!scores) return crank_last_status(teacher->context);
    for (int64_t i = 0; i < data->n; i++) {
        if (task >= 0 && i % TASKS != task) continue;
        int best = 0;
        for (int c = 1; c < CLASSES; c++)
            if (scores[i * CLASSES + c] > scores[i * CLASSES + best]) best = c;
        data->labels[i] = best;
    }
    crank_free(scores);
    return CRANK_OK;
}

static void name_tasks(lab_data *data)
{
    for (int64_t i = 0; i < data->n; i++) data->x[i * WIDTH + INPUTS + i % TASKS] = SIGNAL;
}

static double norm(const float *values, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += (double)values[i] * values[i];
    return sqrt(sum);
}

/* Each weight of `to` is that of `from` plus noise of STRENGTH times its length. */
static crank_status perturb(lab_net *to, const lab_net *from, uint64_t seed, int task)
{
    crank_status status = lab_net_copy(to, from);
    for (size_t l = 0; status == CRANK_OK && l < crank_linears_count(to->linears); l++) {
        const crank_linear *linear = crank_linears_at(to->linears, l);
        int64_t             n = linear->in * linear->out;
        float              *w = lab_weight(to, linear->name), *noise = crank_alloc(to->context, (size_t)n, sizeof *noise, "a teacher");
        status = w && noise ? CRANK_OK : CRANK_FAILED;
        if (status == CRANK_OK) {
            crank_fill_normal(crank_stream_make(seed, CRANK_RANDOM_DATA, 50 + (uint32_t)(task * 8) + (uint32_t)l), 0, 0, 1, noise, (size_t)n);
            double factor = STRENGTH * norm(w, n) / norm(noise, n);
            for (int64_t i = 0; i < n; i++) w[i] += (float)(factor * noise[i]);
            status = lab_weight_set(to, linear->name, w);
        }
        crank_free(w), crank_free(noise);
    }
    return status;
}

static crank_status pretrain(lab_net *base, lab_net *teacher, uint64_t seed)
{
    lab_data     data;
    crank_status status = draw(teacher->context, PRETRAIN, seed, 1, &data);
    lab_method   adam = {.name = "pre-training"};
    lab_training how = {.data = &data, .steps = 2000, .batch = 64, .rate = 2e-3, .schedule = CRANK_SCHEDULE_COSINE, .seed = seed};
    if (status == CRANK_OK) status = label(teacher, &data, -1);
    if (status == CRANK_OK) name_tasks(&data);
    if (status == CRANK_OK) status = lab_attach(base, &adam, NULL, NULL, NULL);
    if (status == CRANK_OK) status = lab_train(base, &adam, &how, NULL);
    lab_data_free(&data);
    return status;
}

static crank_status prepare(lab_trial *trial)
{
    world   *made = trial->world;
    uint64_t seed = trial->seed;
    lab_net *first = new_net(trial->context, seed + 1000), *teacher = new_net(trial->context, seed + 1000);
    made->base = new_net(trial->context, seed);
    crank_status status = first && teacher && made->base ? pretrain(made->base, first, seed) : crank_last_status(trial->context);
    if (status == CRANK_OK) status = draw(trial->context, SAMPLES, seed, 2, &made->train);
    if (status == CRANK_OK) status = draw(trial->context, TEST, seed, 3, &made->test);
    for (int task = 0; status == CRANK_OK && task < TASKS; task++) {
        status = perturb(teacher, first, seed, task);
        if (status == CRANK_OK) status = label(teacher, &made->train, task);
        if (status == CRANK_OK) status = label(teacher, &made->test, task);
    }
    if (status == CRANK_OK) name_tasks(&made->train), name_tasks(&made->test);
    lab_net_free(first), lab_net_free(teacher);
    return status;
}

static crank_status try_method(lab_trial *trial)
{
    world       *made = trial->world;
    lab_net     *net = new_net(trial->context, trial->seed);
    lab_training how = {.data = &made->train, .steps = 2500, .batch = 256, .rate = trial->rate, .seed = trial->seed, .schedule = CRANK_SCHEDULE_COSINE};
    double       accuracy = 0;
    crank_status status = net ? lab_net_copy(net, made->base) : crank_last_status(trial->context);
    if (status == CRANK_OK) status = lab_adapt(trial, net, "layers.0\nlayers.1", &how);
    if (status == CRANK_OK) status = lab_evaluate(net, &made->test, NULL, &accuracy);
    if (status == CRANK_OK) status = lab_measure(trial, "accuracy", accuracy);
    lab_net_free(net);
    return status;
}

static void release(void *room)
{
    world *made = room;
    lab_net_free(made->base);
    lab_data_free(&made->train);
    lab_data_free(&made->test);
}

static const lab_world tasks = {.name = "tasks", .size = sizeof(world), .prepare = prepare, .trial = try_method, .release = release};

static const double grid[] = {2.5e-4, 5e-4, 1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2, 3.2e-2, 0};

static const lab_method methods[] = {
    {.name = "zero-shot"},
    {.name = "LoRA r=8", .map = "lora", .map_options = "rank=8 alpha=16", .rate = 0.016},
    {.name = "LoRA r=64", .map = "lora", .map_options = "rank=64 alpha=128", .rate = 0.002},
    {.name = "SMoRA 8 of 64", .map = "smora", .map_options = "rank=64 active=8 alpha=16", .rate = 0.001},
    {.name = "LoRA r=8, half scale", .map = "lora", .map_options = "rank=8 alpha=8", .rate = 0.008},
    {.name = "SMoRA 8 of 64, half scale", .map = "smora", .map_options = "rank=64 active=8 alpha=8", .rate = 0.001},
    {.name = "SMoRA 8 of 64, quarter scale", .map = "smora", .map_options = "rank=64 active=8 alpha=4", .rate = 0.002},
    {.name = "MoE-LoRA, 2 of 8 experts of rank 8", .map = "smora", .map_options = "rank=64 active=16 partition=8 gate=softmax mu=0 alpha=16", .rate = 0.002},
    {0},
};

static void judge(lab *run)
{
    double smora = lab_mean(run, "SMoRA 8 of 64", "accuracy"), small = lab_mean(run, "LoRA r=8", "accuracy"), large = lab_mean(run, "LoRA r=64", "accuracy");
    lab_expect(run, "SMoRA 8 of 64 less LoRA r=8 (accuracy)", smora - small, LAB_AT_LEAST, 0.01);
    lab_paper(run, smora > large && smora > lab_mean(run, "MoE-LoRA, 2 of 8 experts of rank 8", "accuracy"),
              "above LoRA of all ranks and above a mixture of larger experts",
              "above LoRA with as many active ranks, below LoRA of all ranks and below a mixture of larger experts, which do better with these 32,000 samples");
}

const lab_experiment lab_smora = {
    .name = "smora",
    .paper = "arXiv:2501.15103",
    .claim = "picking 8 of 64 single ranks for each input beats LoRA with 8 ranks on many tasks at once, and LoRA with 64",
    .setup = "a 40-128-128-10 ReLU classifier is adapted to eight perturbed teachers, the task named in the input, with 32,000 samples; adapters on both hidden layers, 2,500 steps "
             "of 256; rates are tuned, at a scale of 2; rows at smaller scales are told",
    .threshold = "mean accuracy of SMoRA with 8 of 64 ranks >= LoRA r=8 + 0.01",
    .reason = "measured before: LoRA r=8 .631, SMoRA 8 of 64 .651, LoRA r=64 .661, MoE-LoRA 8 x 8 top-2 .673: above LoRA at equal active rank, not above the others",
    .world = &tasks,
    .methods = methods,
    .grid = grid,
    .metric = "accuracy",
    .judge = judge,
};
