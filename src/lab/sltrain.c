/* sltrain.c - experiment: a low-rank product plus a sparse matrix (arXiv:2406.02214). */
#include "lab/world_chars.h"

static const double grid[] = {2e-3, 4e-3, 6e-3, 8e-3, 1.6e-2, 0};

static const lab_method methods[] = {
    {.name = "full Adam", .rate = 1.6e-2},
    {.name = "SLTrain density .1", .map = "sltrain", .map_options = "rank=32 alpha=32 density=0.1", .rate = 8e-3},
    {.name = "SLTrain density .03", .map = "sltrain", .map_options = "rank=32 alpha=32 density=0.03", .rate = 8e-3},
    {.name = "W = B A, r=32", .map = "lora", .map_options = "rank=32 alpha=32", .rate = 8e-3, .number = LAB_CHARS_ALONE},
    {0},
};

static double loss(lab *run, const char *method) { return lab_mean(run, method, "loss"); }

static void judge(lab *run)
{
    double full = loss(run, "full Adam"), dense = loss(run, "SLTrain density .1"), sparse = loss(run, "SLTrain density .03"), alone = loss(run, "W = B A, r=32");
    lab_expect(run, "SLTrain density .1 minus full", dense - full, LAB_AT_LEAST, 0.04);
    lab_expect(run, "density .03 minus density .1", sparse - dense, LAB_AT_LEAST, 0.04);
    bool gain = lab_expect(run, "W = B A minus SLTrain density .03", alone - sparse, LAB_AT_LEAST, 0.04);
    lab_paper(run, gain && (alone - sparse) / (alone - full) >= 0.5,
              "a sparse part of 3 % at random places closes at least half of the gap between low-rank and full pre-training",
              "the sparse part closes less than half of the gap between low-rank and full pre-training");
}

const lab_experiment lab_sltrain = {
    .name = "sltrain",
    .paper = "arXiv:2406.02214",
    .claim = "a sparse matrix at random, fixed places beside the low-rank product closes much of low-rank pre-training's gap to full training",
    .setup = "a language model over characters is trained from scratch for 800 steps of 128; methods act on the eight matrices of its blocks; nats a character",
    .threshold = "full < SLTrain with density .1 < with density .03 < W = B A, each by at least 0.04",
    .reason = "the card's assertion at 800 steps; measured there on one seed: 1.866, 1.938, 2.007, 2.089",
    .world = &lab_world_chars,
    .methods = methods,
    .grid = grid,
    .metric = "loss",
    .lower = true,
    .judge = judge,
};
