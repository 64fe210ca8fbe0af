/* nola.c - experiment: NOLA's coefficients against LoRA's factors (arXiv:2310.02556). */
#include "lab/lab.h"

static const lab_transfer_settings settings = {.schedule = CRANK_SCHEDULE_COSINE};

static const double grid[] = {1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 0};

#define NOLA(parameters, k, tuned) {.name = "NOLA " parameters, .map = "nola", .map_options = "rank=8 alpha=8 matrices=stored basis=" k, .rate = tuned}
#define LORA(parameters, r, twice, tuned) {.name = "LoRA " parameters, .map = "lora", .map_options = "rank=" r " alpha=" twice, .rate = tuned}

/* The number behind a name is that of its parameters: two factors of two layers have 4 k coefficients. */
static const lab_method methods[] = {
    {.name = "zero-shot"},
    {.name = "full", .rate = 0.001},
    NOLA("128", "32", 0.003), NOLA("256", "64", 0.03), NOLA("512", "128", 0.003), NOLA("1024", "256", 0.003), NOLA("2048", "512", 0.003),
    LORA("416", "1", "2", 0.01), LORA("832", "2", "4", 0.003), LORA("1664", "4", "8", 0.003),
    {0},
};

static double accuracy(lab *run, const char *method) { return lab_mean(run, method, "accuracy"); }

static void judge(lab *run)
{
    bool same = lab_expect(run, "NOLA with 2,048 parameters over LoRA r=4", accuracy(run, "NOLA 2048") - accuracy(run, "LoRA 1664"), LAB_AT_LEAST, -0.01);
    bool below = lab_expect(run, "NOLA with 128 parameters over zero-shot", accuracy(run, "NOLA 128") - accuracy(run, "zero-shot"), LAB_AT_LEAST, 0.08);
    lab_paper(run, same && below,
              "on LoRA's curve of quality by parameters, and below LoRA's smallest size",
              "not on LoRA's curve of quality by parameters");
}

const lab_experiment lab_nola = {
    .name = "nola",
    .paper = "arXiv:2310.02556",
    .claim = "factors that are trained combinations of frozen random matrices reach LoRA's quality at equal parameters and go on below the size of rank 1",
    .setup = "a pre-trained 32-128-128-10 classifier is adapted to a perturbed teacher with 4,000 samples; 2,000 steps, both hidden layers adapted, rank 8, each "
             "method at its best rate",
    .threshold = "accuracy with 2,048 coefficients is at most 0.01 below LoRA r=4 (1,664 parameters); with 128 it is 0.08 above zero-shot at least",
    .reason = "measured before: 0.699 against 0.697 of LoRA r=4, and 0.620 against 0.484 of zero-shot",
    .world = &lab_world_transfer,
    .settings = &settings,
    .methods = methods,
    .grid = grid,
    .metric = "accuracy",
    .judge = judge,
};
