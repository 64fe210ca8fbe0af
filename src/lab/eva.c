/* eva.c - experiment: LoRA that starts in the principal components of the inputs (arXiv:2410.07170). */
#include <stdio.h>

#include "lab/lab.h"

static const lab_regression_settings second = {.task_rank = 64, .strength = 0.3};
static const lab_regression_settings settings = {.task_rank = 8, .strength = 0.5, .second = &second};

static const double grid[] = {3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 0};

#define LORA .map = "lora", .map_options = "rank=4 alpha=8"
#define EVA .map = "eva", .map_options = "rank=4 alpha=8 rho=1"
#define LORA8 .map = "lora", .map_options = "rank=8 alpha=16"
#define EVA8 .map = "eva", .map_options = "rank=8 alpha=16 rho=1"
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
    {.name = "EVA r=4, whitened", .map = "eva", .map_options = "rank=4 alpha=8 rho=1 whiten=true", .rate = 3e-2},
    {.name = "second: LoRA r=8", LORA8, .rate = 0.01, .number = LAB_SECOND},
    {.name = "second: EVA r=8", EVA8, .rate = 1e-2, .number = LAB_SECOND},
    {.name = "second: LoRA at 3e-4", LORA8, .rate = 3e-4, .fixed = true, .number = LAB_SECOND},
    {.name = "second: LoRA at 1e-3", LORA8, .rate = 1e-3, .fixed = true, .number = LAB_SECOND},
    {.name = "second: LoRA at 3e-3", LORA8, .rate = 3e-3, .fixed = true, .number = LAB_SECOND},
    {.name = "second: LoRA at 1e-2", LORA8, .rate = 1e-2, .fixed = true, .number = LAB_SECOND},
    {.name = "second: LoRA at 3e-2", LORA8, .rate = 3e-2, .fixed = true, .number = LAB_SECOND},
    {.name = "second: EVA at 3e-4", EVA8, .rate = 3e-4, .fixed = true, .number = LAB_SECOND},
    {.name = "second: EVA at 1e-3", EVA8, .rate = 1e-3, .fixed = true, .number = LAB_SECOND},
    {.name = "second: EVA at 3e-3", EVA8, .rate = 3e-3, .fixed = true, .number = LAB_SECOND},
    {.name = "second: EVA at 1e-2", EVA8, .rate = 1e-2, .fixed = true, .number = LAB_SECOND},
    {.name = "second: EVA at 3e-2", EVA8, .rate = 3e-2, .fixed = true, .number = LAB_SECOND},
    {.name = "second: EVA-minor at 3e-4", .map = "eva", .map_options = "rank=8 alpha=16 rho=1 components=smallest", .rate = 3e-4, .fixed = true, .number = LAB_SECOND},
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
    for (int i = 0; i < 5; i++) {
        char lora[40], eva[40], what[64];
        snprintf(lora, sizeof lora, "second: LoRA at %s", rates[i]);
        snprintf(eva, sizeof eva, "second: EVA at %s", rates[i]);
        snprintf(what, sizeof what, "second task: EVA over LoRA at %s", rates[i]);
        lab_expect(run, what, loss(run, eva) / loss(run, lora), LAB_AT_MOST, i ? 1 : 0.8);
    }
    double second_best = loss(run, "second: EVA r=8") / loss(run, "second: LoRA r=8");
    lab_expect(run, "second task: each at its best rate", second_best, LAB_AT_MOST, 1.05);
    lab_expect(run, "the same, from below", second_best, LAB_AT_LEAST, 0.95);
    lab_expect(run, "second task: EVA-minor over EVA at 3e-4", loss(run, "second: EVA-minor at 3e-4") / loss(run, "second: EVA at 3e-4"), LAB_AT_LEAST, 1.3);
    lab_paper(run, loss(run, "EVA at 3e-4") < loss(run, "LoRA at 3e-4") && best < 1 && second_best < 1,
              "faster at small rates and better at the best one",
              "faster at small rates in both tasks; at the best rates ahead only where the task's change has full rank: where it has rank 8 and r is 4, EVA's longer rows "
              "turn too slowly towards what the principal components lack");
}

const lab_experiment lab_eva = {
    .name = "eva",
    .paper = "arXiv:2410.07170",
    .claim = "starting A in the principal components of the inputs converges faster than a random start and ends no worse",
    .setup = "a 64-128-128-16 ReLU network with decaying spectra is adapted to a teacher that differs by rank 8 in every weight; 300 steps of 64 samples; components of 512 "
             "calibration samples; alpha = 2 r. Second task: the teacher differs by rank 64 and 0.3 of each norm, r = 8",
    .threshold = "EVA <= LoRA at every rate up to 3e-2, 12 % lower at 3e-4; within 5 % at the best rates; the smallest components 12 % above EVA at 3e-4; second task: EVA <= LoRA at every rate up to 3e-2, 20 % lower at 3e-4, within 5 % at the best rates, the smallest "
                 "components 30 % above",
    .reason = "measured before on one seed: LoRA .846 .623 .429 .250 .194, EVA .720 .573 .413 .246 .190, EVA-minor .832 at 3e-4; second task LoRA .207 .141 .098 .073 .070, EVA .159 .111 .084 .069 .071, EVA-minor .234: at 3e-2 they are level",
    .analysis =
        "Ratios of losses, EVA over LoRA at the same rate:\n\n"
        "| rate | 3e-4 | 1e-3 | 3e-3 | 1e-2 | 3e-2 | best of each |\n|---|---|---|---|---|---|---|\n"
        "| first task, seeds 101 to 108 | 0.81 | 0.94 | 1.01 | 1.05 | 1.03 | 1.03 |\n| first task, seeds 1 to 12 | 0.829 | 0.945 | 1.015 | 1.014 | 1.025 | 1.025 |\n"
        "| whitened, seeds 101 to 108 | 0.97 | 0.95 | 0.94 | 0.97 | 1.02 | 1.02 |\n| rho = 2, seeds 1 to 12 | | | | | 1.021 | 1.021 |\n"
        "| second task, seeds 1 to 12 | 0.774 | 0.851 | 0.932 | 0.992 | 0.977 | 0.992 |\n\n"
        "The bound at rates of 3e-3 and more comes from one seed, on which EVA was 2 to 4 % ahead; losses of the two differ by 6 % from seed to seed, and over twelve seeds EVA is 1 to 3 % "
        "behind. At small rates the gradient of B counts, and it is largest in the principal components. At large ones A must leave its start: EVA's rows have length 1, LoRA's "
        "1/sqrt(3), and Adam's steps are as long for both, so EVA turns more slowly; where the teacher's change has rank 8 and lies anywhere (first task, r = 4) the components are not the "
        "rows that are needed. Tried: whitening, which shortens the rows: the loss at middle rates goes, and with it most of the gain at the smallest; and ranks by explained variance (rho = "
        "2), which changes nothing. In the second task the change has full rank, the best rows follow the inputs' covariance, and EVA is ahead at every rate.",
    .world = &lab_world_regression,
    .settings = &settings,
    .methods = methods,
    .grid = grid,
    .seeds = 12,
    .metric = "loss",
    .lower = true,
    .judge = judge,
};
