/* lora_pro.c - experiment: LoRA moved along the nearest low-rank stand-in for the full gradient (arXiv:2407.18242). */
#include <math.h>

#include "lab/lab.h"

static const lab_regression_settings settings = {.task_rank = 8, .strength = 0.5};

static const double grid[] = {3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 0};

#define RSLORA .map = "lora", .map_options = "rank=4 alpha=8 rslora=true"
#define PRO .map = "lora-pro", .map_options = "rank=4 alpha=8"

static const lab_method methods[] = {
    {.name = "zero-shot"},
    {.name = "LoRA r=4", .map = "lora", .map_options = "rank=4 alpha=8", .rate = 3e-2},
    {.name = "LoRA-Pro r=4", PRO, .rate = 1e-2},
    {.name = "LoRA-Pro r=4, efficient", .map = "lora-pro", .map_options = "rank=4 alpha=8 mode=efficient", .rate = 1e-2},
    {.name = "full at 3e-4", .rate = 3e-4, .fixed = true},
    {.name = "rsLoRA at 3e-4", RSLORA, .rate = 3e-4, .fixed = true},
    {.name = "LoRA-Pro at 3e-4", PRO, .rate = 3e-4, .fixed = true},
    {.name = "rsLoRA at 1e-1", RSLORA, .rate = 1e-1, .fixed = true},
    {.name = "LoRA-Pro at 1e-1", PRO, .rate = 1e-1, .fixed = true},
    {0},
};

static double loss(lab *run, const char *method) { return lab_mean(run, method, "loss"); }

static void judge(lab *run)
{
    double small = loss(run, "LoRA-Pro at 3e-4"), best = loss(run, "LoRA-Pro r=4") / loss(run, "LoRA r=4");
    bool   fast = lab_expect(run, "LoRA-Pro over rsLoRA at 3e-4 (ratio of losses)", small / loss(run, "rsLoRA at 3e-4"), LAB_AT_MOST, 0.75);
    bool   near = lab_expect(run, "LoRA-Pro over full fine-tuning at 3e-4", small / loss(run, "full at 3e-4"), LAB_AT_MOST, 1.25);
    lab_expect(run, "LoRA-Pro over rsLoRA at 1e-1", loss(run, "LoRA-Pro at 1e-1") / loss(run, "rsLoRA at 1e-1"), LAB_AT_MOST, 1);
    lab_expect(run, "LoRA-Pro over LoRA, each at its best rate", best, LAB_AT_MOST, 1.25);
    lab_paper(run, fast && near && best < 1,
              "near full fine-tuning at one small rate and better at the best one",
              "the paper also ends better; each at its best rate, or nearness to full fine-tuning, is not seen here");
}

const lab_experiment lab_lora_pro = {
    .name = "lora-pro",
    .paper = "arXiv:2407.18242",
    .claim = "moving the factors so that the weight follows the nearest low-rank stand-in for its gradient brings LoRA close to full fine-tuning",
    .setup = "a 64-128-128-16 ReLU network with decaying spectra is adapted to a teacher that differs by rank 8 in every weight; 300 steps of 64 samples; alpha = 2 r, scaled by "
             "alpha / sqrt(r)",
    .threshold = "at a rate of 3e-4 LoRA-Pro's loss is at most 0.75 times rsLoRA's and 1.25 times full fine-tuning's; at 1e-1 it is below rsLoRA's; at the best rates at most 1.25 "
                 "times LoRA's",
    .reason = "measured before on one seed at 3e-4: full .442, rsLoRA .779, LoRA-Pro .530; at 1e-1 rsLoRA 4.2, LoRA-Pro .879; best LoRA .194, LoRA-Pro .235, efficient .496",
    .world = &lab_world_regression,
    .settings = &settings,
    .methods = methods,
    .grid = grid,
    .metric = "loss",
    .lower = true,
    .judge = judge,
};
