/* lisa.c - experiment: a few layers at a time (arXiv:2403.17919), with BAdam (arXiv:2404.02827). */
#include "lab/world_chars.h"

static const lab_chars_settings settings = {.steps = 400, .adapt = true};

static const double grid[] = {1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2, 3.2e-2, 6.4e-2, 0};

#define LISA(more) .optimizer = "lisa", .optimizer_options = "interval=20 " more
static const lab_method methods[] = {
    {.name = "full Adam", .rate = 0.004},
    {.name = "LISA 2 of 4", LISA("layers=2"), .rate = 0.004},
    {.name = "LISA 1 of 4", LISA("layers=1"), .rate = 0.004},
    {.name = "LISA 1 of 4 at 1e-3", LISA("layers=1"), .rate = 1e-3, .fixed = true},
    {.name = "LISA 1 of 4 at 1e-3, state kept", LISA("layers=1 state=keep"), .rate = 1e-3, .fixed = true},
    {.name = "BAdam", .optimizer = "badam", .optimizer_options = "interval=20 embeddings=true", .rate = 0.004},
    {.name = "LoRA r=8", .map = "lora", .map_options = "rank=8 alpha=16", .rate = 0.008},
    {.name = "embedding and head", LISA("layers=0"), .rate = 0.032},
    {0},
};

static double loss(lab *run, const char *method) { return lab_mean(run, method, "loss"); }

static void judge(lab *run)
{
    double full = loss(run, "full Adam"), two = loss(run, "LISA 2 of 4"), one = loss(run, "LISA 1 of 4"), none = loss(run, "embedding and head");
    double kept = loss(run, "LISA 1 of 4 at 1e-3, state kept") - loss(run, "LISA 1 of 4 at 1e-3");
    lab_expect(run, "LISA 2 of 4 minus full Adam", two - full, LAB_AT_LEAST, 0);
    lab_expect(run, "LISA 1 of 4 minus LISA 2 of 4", one - two, LAB_AT_LEAST, 0);
    lab_expect(run, "embedding and head minus LISA 1 of 4", none - one, LAB_AT_LEAST, 0);
    lab_expect(run, "state kept minus dropped at 1e-3", kept, LAB_AT_MOST, 0.01);
    lab_expect(run, "state dropped minus kept at 1e-3", -kept, LAB_AT_MOST, 0.01);
    bool paper = two <= full && two <= loss(run, "LoRA r=8");
    lab_paper(run, paper,
              "at least as good as LoRA and as full training",
              two <= loss(run, "LoRA r=8") ? "better than LoRA, but not than full training" : "not better than LoRA");
}

const lab_experiment lab_lisa = {
    .name = "lisa",
    .paper = "arXiv:2403.17919",
    .claim = "training a few randomly drawn layers at a time beats LoRA and often full fine-tuning, with the optimiser state of those layers",
    .setup = "a language model over characters, pre-trained on one text, learns another in 400 steps of 128; four blocks, redrawn every 20 steps; nats a character",
    .threshold = "full <= LISA with 2 of 4 layers <= with 1 of 4 <= embedding and head alone; dropped and kept moments within 0.01 at a rate of 1e-3",
    .reason = "the card's assertion; measured there on one seed and another second text, at a rate of 1e-3: 2.199, 2.251, 2.304, 2.396; kept 2.299; LoRA 2.322",
    .world = &lab_world_chars,
    .settings = &settings,
    .methods = methods,
    .grid = grid,
    .metric = "loss",
    .lower = true,
    .judge = judge,
};
