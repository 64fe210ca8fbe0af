/* lora_vs_full.c - experiment: intruder dimensions in LoRA and in full fine-tuning, what they forget, and their repair (arXiv:2410.21228).
 *
 * The sweep's rates lie a factor of three apart. LoRA's loss on the diffuse change is least between two of them, at 1.5e-2 (seeds 101 to 104);
 * at 1e-2 and at 3e-2, which are 5 % above it, one or two of twelve seeds hold a single intruder, at the tuned rate none does. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "lab/lab.h"
#include "task/intruders.h"

/* Three tasks on one base: a concentrated change, a diffuse one, and one that is seen on half of the inputs alone. */
enum { CONCENTRATED, DIFFUSE, HALF, TASKS, TOP = 10, RATES = 6, OLD = 2048 };
static const double EPSILON = 0.5;
static const lab_regression_settings settings[TASKS] = {
    {.task_rank = 8, .strength = 0.5}, {.task_rank = 64, .strength = 0.3}, {.task_rank = 8, .strength = 0.5, .first = 32, .count = 32}};

/* Every family is trained at every rate: what rates do to the count is part of the claim. */
#define SWEEP(text, task, ...)                                                                                                        \
    {.name = text " 3e-4", .rate = 3e-4, .fixed = true, .number = task, __VA_ARGS__},                                                 \
        {.name = text " 1e-3", .rate = 1e-3, .fixed = true, .number = task, __VA_ARGS__},                                             \
        {.name = text " 3e-3", .rate = 3e-3, .fixed = true, .number = task, __VA_ARGS__},                                             \
        {.name = text " 1e-2", .rate = 1e-2, .fixed = true, .number = task, __VA_ARGS__},                                             \
        {.name = text " 3e-2", .rate = 3e-2, .fixed = true, .number = task, __VA_ARGS__},                                             \
        {.name = text " 1e-1", .rate = 1e-1, .fixed = true, .number = task, __VA_ARGS__}
static const char *const rates[RATES] = {"3e-4", "1e-3", "3e-3", "1e-2", "3e-2", "1e-1"};

/* For the diffuse change, where the best rates must show no intruder at all. */
static const double grid[] = {1e-3, 1.5e-3, 2e-3, 3e-3, 4e-3, 6e-3, 8e-3, 1e-2, 1.5e-2, 2e-2, 2.5e-2, 3e-2, 0};

static const lab_method methods[] = {
    SWEEP("full", CONCENTRATED, .map = NULL),
    SWEEP("LoRA r=1", CONCENTRATED, .map = "lora", .map_options = "rank=1 alpha=2"),
    SWEEP("LoRA r=4", CONCENTRATED, .map = "lora", .map_options = "rank=4 alpha=8"),
    SWEEP("LoRA r=16", CONCENTRATED, .map = "lora", .map_options = "rank=16 alpha=32"),
    SWEEP("full, diffuse", DIFFUSE, .map = NULL),
    SWEEP("LoRA r=8, diffuse", DIFFUSE, .map = "lora", .map_options = "rank=8 alpha=16"),
    {.name = "full, diffuse, tuned", .rate = 6e-3, .number = DIFFUSE},
    {.name = "LoRA r=8, diffuse, tuned", .rate = 1.5e-2, .number = DIFFUSE, .map = "lora", .map_options = "rank=8 alpha=16"},
    {.name = "full, half 1e-2", .rate = 1e-2, .fixed = true, .number = HALF},
    {.name = "LoRA r=4, half 1e-2", .rate = 1e-2, .fixed = true, .number = HALF, .map = "lora", .map_options = "rank=4 alpha=8"},
    {.name = "LoRA r=4, half 3e-2", .rate = 3e-2, .fixed = true, .number = HALF, .map = "lora", .map_options = "rank=4 alpha=8"},
    {0},
};

typedef struct world {
    lab_regression tasks[TASKS];
    lab_data       old; /* inputs on the other half, with the base's own outputs */
} world;

static crank_status prepare(lab_trial *trial)
{
    world       *w = trial->world;
    crank_status status = CRANK_OK;
    for (int t = 0; status == CRANK_OK && t < TASKS; t++) status = lab_regression_make(trial->context, trial->seed, &settings[t], &w->tasks[t]);
    return status == CRANK_OK ? lab_regression_draw(w->tasks[HALF].base, OLD, trial->seed, 3, 0, 32, &w->old) : status;
}

static void release(void *room)
{
    world *w = room;
    for (int t = 0; t < TASKS; t++) lab_regression_free(&w->tasks[t]);
    lab_data_free(&w->old);
}

/* ---- spectra of the two hidden layers ---- */

static const char *const layers[2] = {"layers.0", "layers.1"};

typedef struct layer {
    float                *before, *after; /* [out, in] */
    crank_spectral_change change;
} layer;

static void layers_free(layer *l)
{
    for (int i = 0; i < 2; i++) {
        crank_free(l[i].before), crank_free(l[i].after);
        crank_spectral_change_free(&l[i].change);
    }
}

static crank_status compare(lab_net *base, lab_net *net, const char *name, layer *l)
{
    crank_linear  *linear = crank_linears_find(net->linears, name);
    int64_t        m = linear->out, n = linear->in;
    crank_spectrum spectrum = {0};
    l->before = lab_weight(base, name);
    l->after = crank_alloc(net->context, (size_t)(m * n), sizeof *l->after, name);
    crank_status status = l->before && l->after ? crank_linear_effective(net->context, linear, l->after) : crank_last_status(net->context);
    if (status == CRANK_OK) status = crank_spectrum_of(net->context, crank_matrix_f32(l->before, m, n), &spectrum);
    if (status == CRANK_OK)
        status = crank_spectral_change_of(net->context, &spectrum, crank_matrix_f32(l->before, m, n), crank_matrix_f32(l->after, m, n), TOP + 1, false, &l->change);
    crank_spectrum_free(&spectrum);
    return status;
}

/* ---- forgetting and repair ---- */

static crank_status measure_half(lab_trial *trial, lab_net *net, const char *name, double loss)
{
    world       *w = trial->world;
    double       forgotten;
    crank_status status = lab_evaluate(net, &w->old, &forgotten, NULL);
    if (status == CRANK_OK) status = lab_measure_as(trial, name, "loss", loss);
    return status == CRANK_OK ? lab_measure_as(trial, name, "forgetting", forgotten) : status;
}

/* The base with repaired weights in the hidden layers and the trained one in the last. */
static crank_status try_repair(lab_trial *trial, lab_net *trained, const layer *l, const char *name, const repair_how *how)
{
    world        *w = trial->world;
    lab_net      *net = lab_regression_copy(&w->tasks[HALF], trial->seed);
    crank_linear *last = crank_linears_find(trained->linears, "layers.2");
    float        *values = crank_alloc(trial->context, (size_t)(128 * 128), sizeof *values, "a repaired weight");
    double        loss;
    bool          changed;
    crank_status  status = net && values ? crank_linear_effective(trial->context, last, values) : crank_last_status(trial->context);
    if (status == CRANK_OK) status = lab_weight_set(net, "layers.2", values);
    for (int i = 0; status == CRANK_OK && i < 2; i++) {
        memcpy(values, l[i].after, (size_t)(l[i].change.m * l[i].change.n) * sizeof *values);
        status = repair_weight(trial->context, &l[i].change, how, l[i].before, values, &changed);
        if (status == CRANK_OK) status = lab_weight_set(net, layers[i], values);
    }
    if (status == CRANK_OK) status = lab_evaluate(net, &w->tasks[HALF].test[0], &loss, NULL);
    if (status == CRANK_OK) status = measure_half(trial, net, name, loss);
    crank_free(values);
    lab_net_free(net);
    return status;
}

static crank_status try_repairs(lab_trial *trial, lab_net *net, const layer *l)
{
    const repair_how at = {.lambda = 0.75, .k = TOP, .epsilon = EPSILON, .shrink = -1};
    repair_how       neighbours = at, shrink = at, tenth = at;
    neighbours.kind = REPAIR_NEIGHBOURS;
    shrink.kind = tenth.kind = REPAIR_SHRINK;
    tenth.shrink = 0.9;
    crank_status status = try_repair(trial, net, l, "repaired, 0.75", &at);
    if (status == CRANK_OK) status = try_repair(trial, net, l, "neighbours, 0.75", &neighbours);
    if (status == CRANK_OK) status = try_repair(trial, net, l, "shrunk as far", &shrink);
    return status == CRANK_OK ? try_repair(trial, net, l, "shrunk to 0.9", &tenth) : status;
}

static crank_status try_method(lab_trial *trial)
{
    world                *w = trial->world;
    const lab_regression *task = &w->tasks[trial->method->number];
    lab_net              *net = lab_regression_copy(task, trial->seed);
    lab_training          how = {.data = &task->train[0], .steps = 300, .batch = 64, .schedule = CRANK_SCHEDULE_COSINE, .warmup = 10, .seed = trial->seed};
    layer                 l[2] = {0};
    double                loss = 0, intruders = 0, clustered = 0, energy = 0;
    crank_status          status = net ? lab_adapt(trial, net, "all-linear", &how) : crank_last_status(trial->context);
    if (status == CRANK_OK) status = lab_evaluate(net, &task->test[0], &loss, NULL);
    for (int i = 0; status == CRANK_OK && i < 2; i++) {
        status = compare(task->base, net, layers[i], &l[i]);
        if (status != CRANK_OK) break;
        crank_intruders found = crank_intruders_of(&l[i].change, CRANK_LEFT, TOP, EPSILON);
        intruders += (double)found.count;
        clustered += (double)found.clustered;
        energy += found.energy / 2;
    }
    if (status == CRANK_OK && trial->method->number == HALF) status = measure_half(trial, net, trial->method->name, loss);
    else if (status == CRANK_OK) status = lab_measure(trial, "loss", loss);
    if (status == CRANK_OK) status = lab_measure(trial, "intruders", intruders);
    if (status == CRANK_OK) status = lab_measure(trial, "clustered", clustered);
    if (status == CRANK_OK) status = lab_measure(trial, "energy", energy);
    if (status == CRANK_OK && !strcmp(trial->method->name, "LoRA r=4, half 3e-2")) status = try_repairs(trial, net, l);
    layers_free(l);
    lab_net_free(net);
    return status;
}

/* ---- judging ---- */

static double at_rate(lab *run, const char *family, int rate, const char *metric)
{
    char name[64];
    snprintf(name, sizeof name, "%s %s", family, rates[rate]);
    return lab_mean(run, name, metric);
}

static int best_rate(lab *run, const char *family)
{
    int best = 0;
    for (int r = 1; r < RATES; r++)
        if (at_rate(run, family, r, "loss") < at_rate(run, family, best, "loss")) best = r;
    return best;
}

static double at_best(lab *run, const char *family) { return at_rate(run, family, best_rate(run, family), "intruders"); }

static void expect_rising(lab *run, const char *family)
{
    char   what[96];
    double least = INFINITY;
    for (int r = 1; r < RATES; r++) least = fmin(least, at_rate(run, family, r, "intruders") - at_rate(run, family, r - 1, "intruders"));
    snprintf(what, sizeof what, "%s: the smallest rise of the count from a rate to the next", family);
    lab_expect(run, what, least, LAB_AT_LEAST, 0);
}

static void judge(lab *run)
{
    expect_rising(run, "full");
    expect_rising(run, "LoRA r=4");
    expect_rising(run, "LoRA r=16");
    bool more = lab_expect(run, "intruders of LoRA r=4 less those of full, each at its best rate", at_best(run, "LoRA r=4") - at_best(run, "full"), LAB_AT_LEAST, 1e-9);
    more &= lab_expect(run, "intruders of LoRA r=16 less those of full, each at its best rate", at_best(run, "LoRA r=16") - at_best(run, "full"), LAB_AT_LEAST, 1e-9);
    lab_expect(run, "a diffuse change: intruders of full at its best rate", lab_mean(run, "full, diffuse, tuned", "intruders"), LAB_AT_MOST, 0);
    lab_expect(run, "a diffuse change: intruders of LoRA r=8 at its best rate", lab_mean(run, "LoRA r=8, diffuse, tuned", "intruders"), LAB_AT_MOST, 0);
    bool forgets = lab_mean(run, "LoRA r=4, half 3e-2", "forgetting") > lab_mean(run, "full, half 1e-2", "forgetting");
    lab_paper(run, more && forgets, "LoRA holds more intruder dimensions than full fine-tuning at each one's best rate, and forgets more",
              more ? "LoRA holds more intruder dimensions than full fine-tuning at each one's best rate, but does not forget more"
                   : "LoRA does not hold more intruder dimensions than full fine-tuning at each one's best rate");
}

static const lab_world spectra = {.name = "spectra", .size = sizeof(world), .prepare = prepare, .trial = try_method, .release = release};

const lab_experiment lab_lora_vs_full = {
    .name = "lora-vs-full",
    .paper = "arXiv:2410.21228",
    .claim = "LoRA adds leading singular vectors that resemble none of the pre-trained ones, full fine-tuning hardly does; they grow with the rate and go with forgetting",
    .setup = "a 64-128-128-16 ReLU network with decaying spectra is adapted to a teacher that differs by rank 8 and half of each weight's norm, or by full rank and 0.3 of it, at six rates; intruders among 10 leading left "
             "vectors of both hidden layers, epsilon 0.5. Then on inputs of 32 coordinates alone: loss against the old teacher on the others, with repair and controls",
    .threshold = "the mean count never falls with the rate for full and for LoRA r = 4, 16; at each one's best rate LoRA r = 4 and 16 have more than full; a change of full rank "
                 "gives none at the best rates",
    .reason = "measured before on one seed, rates 3e-4 .. 1e-1: full 0 0 0 1 8 18, LoRA r=4 0 0 0 3 5 7, r=16 0 0 0 3 7 12; at the best rates 1, 5, 7; a uniform shrink was the better "
              "repair there, so curves of repair are told and not judged",
    .world = &spectra,
    .methods = methods,
    .grid = grid,
    .metric = "loss",
    .lower = true,
    .judge = judge,
};
