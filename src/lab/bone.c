/* bone.c - experiment: Bat (Bone) against its additive successor MiSS and LoRA (arXiv:2409.15371). */
#include "lab/lab.h"

static const lab_transfer_settings settings = {.schedule = CRANK_SCHEDULE_COSINE};

static const double grid[] = {3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0};

#define MISS(parameters, r, tuned) {.name = "MiSS " parameters, .map = "miss", .map_options = "rank=" r, .rate = tuned}
#define BAT(parameters, r, tuned) {.name = "Bat " parameters, .map = "bone", .map_options = "rank=" r, .rate = tuned}
#define LORA(parameters, r, twice, tuned) {.name = "LoRA " parameters, .map = "lora", .map_options = "rank=" r " alpha=" twice, .rate = tuned}

/* The number behind a name is that of its parameters. */
static const lab_method methods[] = {
    {.name = "zero-shot"},
    {.name = "full", .rate = 0.001},
    MISS("512", "2", 0.003), MISS("1024", "4", 0.003), MISS("2048", "8", 0.003), MISS("4096", "16", 0.003), MISS("8192", "32", 0.003),
    BAT("512", "2", 0.01), BAT("1024", "4", 0.003), BAT("2048", "8", 0.003), BAT("4096", "16", 0.001), BAT("8192", "32", 0.001),
    LORA("416", "1", "2", 0.01), LORA("832", "2", "4", 0.003), LORA("1664", "4", "8", 0.003), LORA("3328", "8", "16", 0.003), LORA("6656", "16", "32", 0.001),
    {0},
};

static double accuracy(lab *run, const char *method) { return lab_mean(run, method, "accuracy"); }

static void judge(lab *run)
{
    lab_expect(run, "Bat over MiSS at 1,024 parameters", accuracy(run, "Bat 1024") - accuracy(run, "MiSS 1024"), LAB_AT_LEAST, 0.005);
    lab_expect(run, "Bat over MiSS at 2,048 parameters", accuracy(run, "Bat 2048") - accuracy(run, "MiSS 2048"), LAB_AT_LEAST, 0.005);
    bool beats = accuracy(run, "Bat 1024") >= accuracy(run, "LoRA 832") && accuracy(run, "Bat 2048") >= accuracy(run, "LoRA 1664");
    lab_paper(run, beats, "Bat is above LoRA at similar parameters", "Bat is above LoRA in the paper; at tuned rates and few parameters it is not here");
}

const lab_experiment lab_bone = {
    .name = "bone",
    .paper = "arXiv:2409.15371",
    .claim = "small tensors that multiply the shards of the frozen weight (Bat) do more with the same parameters than the same tensors added alone (MiSS)",
    .setup = "a pre-trained 32-128-128-10 classifier is adapted to a perturbed teacher with 4,000 samples; 2,000 steps, both hidden layers adapted, each method at "
             "its best rate",
    .threshold = "accuracy of Bat is above that of MiSS by 0.005 at least at 1,024 and at 2,048 parameters",
    .reason = "measured before: 0.678 against 0.655 at 1,024 and 0.701 against 0.674 at 2,048; a fifth of the difference is asked for",
    .world = &lab_world_transfer,
    .settings = &settings,
    .methods = methods,
    .grid = grid,
    .metric = "accuracy",
    .judge = judge,
};
