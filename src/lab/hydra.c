/* hydra.c - experiment: a parallel and a sequential branch against one branch of the same rank (arXiv:2309.06922). */
#include "lab/lab.h"

static const double grid[] = {2.5e-4, 5e-4, 1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2, 0};

/* LoRA is the parallel branch alone, with the same scale of 1. */
static const lab_method methods[] = {
    {.name = "zero-shot"},
    {.name = "full", .rate = 0.004},
    {.name = "parallel r=4 (LoRA)", .map = "hydra", .map_options = "rank=4 sequential=0", .rate = 0.002},
    {.name = "sequential r=4", .map = "hydra", .map_options = "rank=0 sequential=4", .rate = 0.001},
    {.name = "Hydra 2+2", .map = "hydra", .map_options = "rank=2 sequential=2", .rate = 0.002},
    {0},
};

static void judge(lab *run)
{
    double both = lab_mean(run, "Hydra 2+2", "accuracy"), parallel = lab_mean(run, "parallel r=4 (LoRA)", "accuracy");
    double sequential = lab_mean(run, "sequential r=4", "accuracy");
    lab_expect(run, "Hydra 2+2 less parallel r=4 (accuracy)", both - parallel, LAB_AT_LEAST, -0.015);
    lab_expect(run, "parallel r=4 less Hydra 2+2", parallel - both, LAB_AT_LEAST, -0.015);
    lab_expect(run, "Hydra 2+2 less zero-shot (accuracy)", both - lab_mean(run, "zero-shot", "accuracy"), LAB_AT_LEAST, 0.1);
    lab_paper(run, both >= parallel + 0.005 && both >= sequential + 0.005,
              "half a point or more over either branch alone",
              "the paper's gain of half a point to two points over either branch alone was seen on few-shot tasks of a pre-trained CLIP");
}

const lab_experiment lab_hydra = {
    .name = "hydra",
    .paper = "arXiv:2309.06922",
    .claim = "a parallel and a sequential branch of rank 2 each do better than one branch of rank 4",
    .setup = "a 32-128-128-10 ReLU classifier is adapted to a perturbed teacher with 4,000 samples; branches on both hidden layers, scale 1, 2,000 steps of 64",
    .threshold = "accuracy of Hydra 2+2 within 0.015 of parallel r=4, and >= zero-shot + 0.1",
    .reason = "measured before: Hydra 2+2 0.698, parallel 0.702, sequential 0.689: on a shift that favours no branch the two forms are equal within noise",
    .world = &lab_world_transfer,
    .methods = methods,
    .grid = grid,
    .metric = "accuracy",
    .judge = judge,
};
