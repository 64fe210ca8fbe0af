/* eva.c - experiment: LoRA that starts in the principal components of the inputs (arXiv:2410.07170). */
#include <stdio.h>

#include "lab/lab.h"

static const lab_regression_settings settings = {.task_rank = 8, .strength = 0.5};

static const double grid[] = {3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 0};

#define LORA .map = "lora", .map_options = "rank=4 alpha=8"
#define EVA .map = "eva", .map_options = "rank=4 alpha=8 rho=1"
#define MINOR .map = "eva", .map_options = "rank=4 alpha=8 rho=1 components=smallest"

/* The claim is over rates: both at each of them. */
static const lab_method methods[] = {
    {.name = "zero-shot"},
    {.name = "LoRA r=4", LORA, .rate = 3e-2},
    {.name = "EVA r=4", EVA, .rate = 3e-2},
    {.name = "EVA r=4, rho=2", .map = "eva", .map_options = "rank=4 alpha=8 rho=2", .rate = 3e-2},
    {.name = "LoRA at 3e-4", LORA, .rate = 3e-4, .fixed = true},
    {.name = "LoRA at 1e-3", LORA, .rate = 1e-3, .fixed = true},
    {.name = "LoRA at 3e-3", LORA, .rate = 3e-3, .fixed = true},
    {.name = "LoRA at 1e-2", LORA, .rate = 1e-2, .fixed = true},
    {.name = "LoRA at 3e-2", LORA, .rate = 3e-2, .fixed = true},
    {.name = "EVA at 3e-4", EVA, .rate = 3e-4, .fixed = true},
    {.name = "EVA at 1e-3", EVA, .rate = 1e-3, .fixed = true},
    {.name = "EVA at 3e-3", EVA, .rate = 3e-3, .fixed = true},
    {.name = "EVA at 1e-2", EVA, .rate = 1e-2, .fixed = true},
    {.name = "EVA at 3e-2", EVA, .rate = 3e-2, .fixed = true},
    {.name = "EVA-minor at 3e-4", MINOR, .rate = 3e-4, .fixed = true},
    {0},
};

static double loss(lab *run, const char *method) { return lab_mean(run, method, "loss"); }

static void judge(lab *run)
{
    static const char *const rates[] = {"3e-4", "1e-3", "3e-3", "1e-2", "3e-2"};
    for (int i = 0; i < 5; i++) {
        char lora[32], eva[32], what[64];
        snprintf(lora, sizeof lora, "LoRA at %s", rates[i]);
        snprintf(eva, sizeof eva, "EVA at %s", rates[i]);
        snprintf(what, sizeof what, "EVA over LoRA at %s (ratio of losses)", rates[i]);
        lab_expect(run, what, loss(run, eva) / loss(run, lora), LAB_AT_MOST, i ? 1 : 0.88);
    }
    double best = loss(run, "EVA r=4") / loss(run, "LoRA r=4");
    lab_expect(run, "each at its best rate", best, LAB_AT_MOST, 1.05);
    lab_expect(run, "the same, from below", best, LAB_AT_LEAST, 0.95);
    lab_expect(run, "EVA-minor over EVA at 3e-4", loss(run, "EVA-minor at 3e-4") / loss(run, "EVA at 3e-4"), LAB_AT_LEAST, 1.12);
    lab_paper(run, loss(run, "EVA at 3e-4") < loss(run, "LoRA at 3e-4") && best < 1,
              "faster at small rates and better at the best one",
              "not better than LoRA, each at its best rate");
}

const lab_experiment lab_eva = {
    .name = "eva",
    .paper = "arXiv:2410.07170",
    .claim = "starting A in the principal components of the inputs converges faster than a random start and ends no worse",
    .setup = "a 64-128-128-16 ReLU network with decaying spectra is adapted to a teacher that differs by rank 8 in every weight; 300 steps of 64 samples; components of 512 "
             "calibration samples; alpha = 2 r",
    .threshold = "EVA <= LoRA at every rate up to 3e-2, 12 % lower at 3e-4; within 5 % at the best rates; the smallest components 12 % above EVA at 3e-4",
    .reason = "measured before on one seed: LoRA .846 .623 .429 .250 .194, EVA .720 .573 .413 .246 .190, EVA-minor .832 at 3e-4",
    .world = &lab_world_regression,
    .settings = &settings,
    .methods = methods,
    .grid = grid,
    .metric = "loss",
    .lower = true,
    .judge = judge,
};
