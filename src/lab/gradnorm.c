/* gradnorm.c - experiment: GaLore on the directions of weight-normalised matrices (arXiv:2412.19616, optimiser mode). */
#include <math.h>

#include "lab/world_chars.h"

#define GALORE(more)   .optimizer = "galore", .optimizer_options = "rank=32 gap=200 scale=0.25 refresh=svd " more
#define GRADNORM(more) .optimizer = "gradnorm", .optimizer_options = "rank=32 gap=200 scale=0.25 refresh=svd " more
static const lab_method methods[] = {
    {.name = "GaLore at 1.6e-2", GALORE(""), .rate = 1.6e-2, .fixed = true},
    {.name = "gradnorm at 1.6e-2", GRADNORM(""), .rate = 1.6e-2, .fixed = true},
    {.name = "published at 1.6e-2", GRADNORM("compat=official"), .rate = 1.6e-2, .fixed = true},
    {.name = "gradnorm, 8 bits, at 1.6e-2", GRADNORM("inner=adamw8bit"), .rate = 1.6e-2, .fixed = true},
    {.name = "GaLore at 8e-3", GALORE(""), .rate = 8e-3, .fixed = true},
    {.name = "gradnorm at 8e-3", GRADNORM(""), .rate = 8e-3, .fixed = true},
    {.name = "published at 8e-3", GRADNORM("compat=official"), .rate = 8e-3, .fixed = true},
    {0},
};

static double less(lab *run, const char *a, const char *b) { return fabs(lab_mean(run, a, "loss") - lab_mean(run, b, "loss")); }

static void judge(lab *run)
{
    lab_expect(run, "gradnorm and GaLore at 1.6e-2 (difference)", less(run, "gradnorm at 1.6e-2", "GaLore at 1.6e-2"), LAB_AT_MOST, 0.02);
    lab_expect(run, "the published code and GaLore at 1.6e-2", less(run, "published at 1.6e-2", "GaLore at 1.6e-2"), LAB_AT_MOST, 0.02);
    lab_expect(run, "8 bits and 32 at 1.6e-2", less(run, "gradnorm, 8 bits, at 1.6e-2", "gradnorm at 1.6e-2"), LAB_AT_MOST, 0.02);
    lab_expect(run, "gradnorm and GaLore at 8e-3", less(run, "gradnorm at 8e-3", "GaLore at 8e-3"), LAB_AT_MOST, 0.02);
    lab_expect(run, "the published code and GaLore at 8e-3", less(run, "published at 8e-3", "GaLore at 8e-3"), LAB_AT_MOST, 0.02);
    bool better = true;
    for (int i = 0; i < lab_seeds(run); i++) better &= lab_value(run, "gradnorm at 1.6e-2", "loss", i) < lab_value(run, "GaLore at 1.6e-2", "loss", i);
    lab_paper(run, better, "better than GaLore at every seed", "no gain over GaLore beyond the seeds' noise");
}

const lab_experiment lab_gradnorm = {
    .name = "gradnorm",
    .paper = "arXiv:2412.19616",
    .claim = "projecting the gradients of the directions of weight-normalised matrices trains better than projecting those of the matrices",
    .setup = "a language model over characters is trained from scratch for 800 steps of 128; methods act on the eight matrices of its blocks; nats a character",
    .threshold = "the optimiser mode, corrected and as published, within 0.02 of GaLore at equal rates; 8-bit moments within 0.02",
    .reason = "the card's assertion; measured there on one seed: at 1.6e-2 GaLore 2.012, published 2.011, corrected 2.021; at 8e-3 2.078, 2.078, 2.077",
    .world = &lab_world_chars,
    .methods = methods,
    .metric = "loss",
    .lower = true,
    .judge = judge,
};
