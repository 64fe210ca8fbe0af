/* allora.c - experiment: LoRA with gradients scaled row by row, over learning rates (arXiv:2410.09692). */
#include <math.h>
#include <stdio.h>

#include "lab/lab.h"

static const lab_regression_settings settings = {.task_rank = 8, .strength = 0.5};

static const double grid[] = {3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 0};

#define SGD "momentum=0.9"
#define LORA4 .map = "lora", .map_options = "rank=4 alpha=8"
#define ALLORA4 .map = "allora", .map_options = "rank=4 eta=2"

/* LoRA has s = 2, ALLoRA eta = 2: equal gains while B is zero. The rows of SGD are a sweep of rates, which is the claim itself. */
static const lab_method methods[] = {
    {.name = "zero-shot"},
    {.name = "LoRA r=4", LORA4, .rate = 3e-2},
    {.name = "ALLoRA r=4", ALLORA4, .rate = 3e-2},
    {.name = "LoRA r=4 at 1e-1", LORA4, .rate = 1e-1, .fixed = true},
    {.name = "ALLoRA r=4 at 1e-1", ALLORA4, .rate = 1e-1, .fixed = true},
    {.name = "LoRA r=8 at 1e-1", .map = "lora", .map_options = "rank=8 alpha=16", .rate = 1e-1, .fixed = true},
    {.name = "ALLoRA r=8 at 1e-1", .map = "allora", .map_options = "rank=8 eta=2", .rate = 1e-1, .fixed = true},
    {.name = "LoRA SGD 0.01", LORA4, .optimizer = "sgd", .optimizer_options = SGD, .rate = 0.01, .fixed = true},
    {.name = "LoRA SGD 0.02", LORA4, .optimizer = "sgd", .optimizer_options = SGD, .rate = 0.02, .fixed = true},
    {.name = "LoRA SGD 0.05", LORA4, .optimizer = "sgd", .optimizer_options = SGD, .rate = 0.05, .fixed = true},
    {.name = "LoRA SGD 0.1", LORA4, .optimizer = "sgd", .optimizer_options = SGD, .rate = 0.1, .fixed = true},
    {.name = "LoRA SGD 0.2", LORA4, .optimizer = "sgd", .optimizer_options = SGD, .rate = 0.2, .fixed = true},
    {.name = "LoRA SGD 0.5", LORA4, .optimizer = "sgd", .optimizer_options = SGD, .rate = 0.5, .fixed = true},
    {.name = "LoRA SGD 1", LORA4, .optimizer = "sgd", .optimizer_options = SGD, .rate = 1, .fixed = true},
    {.name = "ALLoRA SGD 0.01", ALLORA4, .optimizer = "sgd", .optimizer_options = SGD, .rate = 0.01, .fixed = true},
    {.name = "ALLoRA SGD 0.02", ALLORA4, .optimizer = "sgd", .optimizer_options = SGD, .rate = 0.02, .fixed = true},
    {.name = "ALLoRA SGD 0.05", ALLORA4, .optimizer = "sgd", .optimizer_options = SGD, .rate = 0.05, .fixed = true},
    {.name = "ALLoRA SGD 0.1", ALLORA4, .optimizer = "sgd", .optimizer_options = SGD, .rate = 0.1, .fixed = true},
    {.name = "ALLoRA SGD 0.2", ALLORA4, .optimizer = "sgd", .optimizer_options = SGD, .rate = 0.2, .fixed = true},
    {.name = "ALLoRA SGD 0.5", ALLORA4, .optimizer = "sgd", .optimizer_options = SGD, .rate = 0.5, .fixed = true},
    {.name = "ALLoRA SGD 1", ALLORA4, .optimizer = "sgd", .optimizer_options = SGD, .rate = 1, .fixed = true},
    {0},
};

static double loss(lab *run, const char *method) { return lab_mean(run, method, "loss"); }

/* Largest over smallest rate whose loss is within 1.2 times the best of the sweep. */
static double range(lab *run, const char *method)
{
    static const char *const names[] = {"0.01", "0.02", "0.05", "0.1", "0.2", "0.5", "1"};
    static const double      rates[] = {0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1};
    double                   losses[7], best = INFINITY, low = 0, high = 0;
    for (int i = 0; i < 7; i++) {
        char name[64];
        snprintf(name, sizeof name, "%s SGD %s", method, names[i]);
        losses[i] = loss(run, name);
        if (losses[i] < best) best = losses[i];
    }
    for (int i = 0; i < 7; i++) {
        if (!(losses[i] <= 1.2 * best)) continue;
        if (low == 0) low = rates[i];
        high = rates[i];
    }
    return high / low;
}

static void judge(lab *run)
{
    double ratio = loss(run, "ALLoRA r=4") / loss(run, "LoRA r=4");
    lab_expect(run, "ALLoRA over LoRA, each at its best rate (ratio of losses)", ratio, LAB_AT_MOST, 1.15);
    lab_expect(run, "the same, from below", ratio, LAB_AT_LEAST, 0.85);
    lab_expect(run, "LoRA over ALLoRA at 1e-1, r=4", loss(run, "LoRA r=4 at 1e-1") / loss(run, "ALLoRA r=4 at 1e-1"), LAB_AT_LEAST, 3);
    lab_expect(run, "LoRA over ALLoRA at 1e-1, r=8", loss(run, "LoRA r=8 at 1e-1") / loss(run, "ALLoRA r=8 at 1e-1"), LAB_AT_LEAST, 3);
    lab_expect(run, "range of good SGD rates, ALLoRA over LoRA", range(run, "ALLoRA") / range(run, "LoRA"), LAB_AT_LEAST, 1);
    lab_paper(run, ratio <= 0.997, "ahead of LoRA at the best rates, and tolerant of large ones", "not ahead of LoRA at the best rates; the paper has 0.3 points of accuracy on average");
}

const lab_experiment lab_allora = {
    .name = "allora",
    .paper = "arXiv:2410.09692",
    .claim = "scaling each row's gradient by the length that the row has reached replaces alpha and dropout: as good as LoRA at the best rate, and tolerant of large ones",
    .setup = "a 64-128-128-16 ReLU network with decaying spectra is adapted to a teacher that differs by rank 8 in every weight; 300 steps of 64 samples with AdamW, and "
             "with SGD of momentum 0.9 at seven rates",
    .threshold = "best losses within 15 % of each other; at a rate of 1e-1 ALLoRA's loss is at least 3 times lower for r=4 and r=8; with SGD the factor between the largest "
                 "and smallest rate within 1.2 times the best loss is at least LoRA's",
    .reason = "measured before on one seed: best .194 and .208; at 1e-1 .718 and .226 (r=4), 4.23 and .344 (r=8)",
    .world = &lab_world_regression,
    .settings = &settings,
    .methods = methods,
    .grid = grid,
    .metric = "loss",
    .lower = true,
    .judge = judge,
};
