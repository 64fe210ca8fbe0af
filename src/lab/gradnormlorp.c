/* gradnormlorp.c - experiment: weight-normalised low-rank adaptation (arXiv:2412.19616). */
#include "lab/world_chars.h"

static const lab_chars_settings settings = {.steps = 400, .adapt = true};

static const double grid[] = {1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2, 0};

/* gradients of the factors projected to rank 4, every 50 steps */
#define PROJECTED "rank=8", .optimizer = "galore", .optimizer_options = "rank=4 gap=50 scale=1 refresh=svd"
static const lab_method methods[] = {
    {.name = "LoRA r=8", .map = "lora", .map_options = "rank=8 alpha=8", .rate = 8e-3},
    {.name = "DoRA r=8", .map = "dora", .map_options = "rank=8 alpha=8", .rate = 8e-3},
    {.name = "GradNormLoRP r=8", .map = "gradnormlorp", .map_options = "rank=8", .rate = 8e-3},
    {.name = "GradNormLoRP r=8, projected", .map = "gradnormlorp", .map_options = PROJECTED, .rate = 1.6e-2},
    {0},
};

static double loss(lab *run, const char *method) { return lab_mean(run, method, "loss"); }

static void judge(lab *run)
{
    double own = loss(run, "GradNormLoRP r=8"), dora = loss(run, "DoRA r=8") / own - 1, lora = loss(run, "LoRA r=8") / own - 1;
    lab_expect(run, "DoRA over GradNormLoRP, minus 1", dora, LAB_AT_MOST, 0.01);
    lab_expect(run, "DoRA over GradNormLoRP, minus 1", dora, LAB_AT_LEAST, -0.01);
    lab_expect(run, "LoRA over GradNormLoRP, minus 1", lora, LAB_AT_MOST, 0.01);
    lab_expect(run, "LoRA over GradNormLoRP, minus 1", lora, LAB_AT_LEAST, -0.01);
    bool better = true;
    for (int i = 0; i < lab_seeds(run); i++) better &= lab_value(run, "GradNormLoRP r=8", "loss", i) < lab_value(run, "LoRA r=8", "loss", i);
    lab_paper(run, better, "better than LoRA at every seed", "no gain over LoRA beyond the seeds' noise");
}

const lab_experiment lab_gradnormlorp = {
    .name = "gradnormlorp",
    .paper = "arXiv:2412.19616",
    .claim = "normalising the weight's rows around a low-rank change adapts better than LoRA, and its factors' gradients may be projected further",
    .setup = "a language model over characters, pre-trained on one text, learns another in 400 steps of 128; adapters on the eight matrices of its blocks, Adam on the rest; "
             "nats a character",
    .threshold = "GradNormLoRP within 1 % of DoRA's and of LoRA's loss",
    .reason = "the card's expectation: parity with DoRA and LoRA, the paper's gain (1.4 points of GLUE) being inside of seed noise at this scale. "
              "The optimiser mode is the experiment gradnorm",
    .world = &lab_world_chars,
    .settings = &settings,
    .methods = methods,
    .grid = grid,
    .metric = "loss",
    .lower = true,
    .judge = judge,
};
