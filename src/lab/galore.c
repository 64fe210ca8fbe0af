/* galore.c - experiment: gradients in a low-rank subspace (arXiv:2403.03507). */
#include <math.h>

#include "lab/world_chars.h"

static const double grid[] = {2e-3, 4e-3, 8e-3, 1.6e-2, 3.2e-2, 6.4e-2, 0};

#define GALORE(more) .optimizer = "galore", .optimizer_options = "gap=200 scale=0.25 refresh=svd " more
static const lab_method methods[] = {
    {.name = "Adam", .rate = 1.6e-2},
    {.name = "GaLore r=32", GALORE("rank=32"), .rate = 3.2e-2},
    {.name = "GaLore r=8", GALORE("rank=8"), .rate = 3.2e-2},
    {.name = "GaLore r=32, 8 bits", GALORE("rank=32 inner=adamw8bit"), .rate = 3.2e-2, .fixed = true},
    {.name = "W = B A, r=32", .map = "lora", .map_options = "rank=32 alpha=32", .rate = 8e-3, .number = LAB_CHARS_ALONE},
    {.name = "LoRA r=32 on random W", .map = "lora", .map_options = "rank=32 alpha=32", .rate = 4e-3},
    {0},
};

static double loss(lab *run, const char *method) { return lab_mean(run, method, "loss"); }

static void judge(lab *run)
{
    double galore = loss(run, "GaLore r=32"), small = loss(run, "GaLore r=8"), alone = loss(run, "W = B A, r=32"), lora = loss(run, "LoRA r=32 on random W");
    lab_expect(run, "GaLore r=32 minus Adam", galore - loss(run, "Adam"), LAB_AT_LEAST, 0);
    lab_expect(run, "GaLore r=8 minus GaLore r=32", small - galore, LAB_AT_LEAST, 0);
    lab_expect(run, "W = B A minus GaLore r=8", alone - small, LAB_AT_LEAST, 0);
    lab_expect(run, "LoRA minus GaLore r=32", lora - galore, LAB_AT_LEAST, 0);
    lab_expect(run, "W = B A minus LoRA", alone - lora, LAB_AT_LEAST, 0);
    lab_expect(run, "8 bits minus 32 bits", loss(run, "GaLore r=32, 8 bits") - galore, LAB_AT_MOST, 0.005);
    lab_expect(run, "32 bits minus 8 bits", galore - loss(run, "GaLore r=32, 8 bits"), LAB_AT_MOST, 0.005);
    lab_paper(run, alone > galore && lora > galore && galore - loss(run, "Adam") <= log(1.04),
              "at equal rank better than low-rank weights, and within 4 % of Adam's perplexity",
              "not better than low-rank weights at equal rank, or more than 4 % above Adam's perplexity");
}

const lab_experiment lab_galore = {
    .name = "galore",
    .paper = "arXiv:2403.03507",
    .claim = "an optimiser whose state is the gradient's projection to rank r trains full-rank weights better than a low-rank parametrisation of that rank does",
    .setup = "a language model over characters is trained from scratch for 800 steps of 128; methods act on the eight matrices of its blocks; nats a character",
    .threshold = "Adam <= GaLore r=32 <= GaLore r=8 <= W = B A; LoRA on frozen random weights between GaLore r=32 and W = B A; 8-bit moments within 0.005",
    .reason = "the card's order; measured there on one seed: 1.866, 1.974, 2.063, 2.089, LoRA 2.043; at equal rates 2.078 with 32 and with 8 bits",
    .world = &lab_world_chars,
    .methods = methods,
    .grid = grid,
    .metric = "loss",
    .lower = true,
    .judge = judge,
};
