/* bone.c - experiment: Bat (Bone) against its additive successor MiSS and LoRA (arXiv:2409.15371).
 *
 * Two comparisons: each at its best rate to the end, and all at equal small rates for 300 steps, where the order is the paper's. The reason
 * of the second: at one rate the first step of Adam moves every entry of the weight by the rate under MiSS, but by s rate sqrt(r / (3 in)) in
 * the root mean square under LoRA, whose A is U(-1/sqrt(in), 1/sqrt(in)). */
#include <stdio.h>

#include "lab/lab.h"

enum { SHORT = 300 };

static const lab_transfer_settings settings = {.schedule = CRANK_SCHEDULE_COSINE};

static const double grid[] = {3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0};

#define MISS(parameters, r, tuned) {.name = "MiSS " parameters, .map = "miss", .map_options = "rank=" r, .rate = tuned}
#define BAT(parameters, r, tuned) {.name = "Bat " parameters, .map = "bone", .map_options = "rank=" r, .rate = tuned}
#define LORA(parameters, r, twice, tuned) {.name = "LoRA " parameters, .map = "lora", .map_options = "rank=" r " alpha=" twice, .rate = tuned}

#define EARLY(kind, map_, options_, text, value) {.name = kind " at " text, .map = map_, .map_options = options_, .rate = value, .fixed = true, .number = SHORT}
#define EARLY_ALL(text, value) \
    EARLY("LoRA", "lora", "rank=4 alpha=8", text, value), EARLY("MiSS", "miss", "rank=8", text, value), EARLY("Bat", "bone", "rank=8", text, value)

/* The number behind a name is that of its parameters. */
static const lab_method methods[] = {
    {.name = "zero-shot"},
    {.name = "full", .rate = 0.001},
    MISS("512", "2", 0.003), MISS("1024", "4", 0.003), MISS("2048", "8", 0.003), MISS("4096", "16", 0.003), MISS("8192", "32", 0.003),
    BAT("512", "2", 0.01), BAT("1024", "4", 0.003), BAT("2048", "8", 0.003), BAT("4096", "16", 0.001), BAT("8192", "32", 0.001),
    LORA("416", "1", "2", 0.01), LORA("832", "2", "4", 0.003), LORA("1664", "4", "8", 0.003), LORA("3328", "8", "16", 0.003), LORA("6656", "16", "32", 0.001),
    EARLY_ALL("3e-5", 3e-5), EARLY_ALL("1e-4", 1e-4), EARLY_ALL("3e-4", 3e-4),
    {0},
};

/* The experiment's schedule to the end, or the first SHORT steps of its own. */
static crank_status try_method(lab_trial *trial)
{
    lab_net      *net = lab_transfer_net(trial);
    lab_training  how = lab_transfer_training(trial);
    if (trial->method->number) how.steps = trial->method->number, how.schedule = CRANK_SCHEDULE_CONSTANT;
    crank_status status = lab_transfer_adapt(trial, net, &how);
    lab_net_free(net);
    return status;
}

static double accuracy(lab *run, const char *method) { return lab_mean(run, method, "accuracy"); }

static void judge(lab *run)
{
    lab_expect(run, "Bat over MiSS at 1,024 parameters", accuracy(run, "Bat 1024") - accuracy(run, "MiSS 1024"), LAB_AT_LEAST, 0.005);
    lab_expect(run, "Bat over MiSS at 2,048 parameters", accuracy(run, "Bat 2048") - accuracy(run, "MiSS 2048"), LAB_AT_LEAST, 0.005);
    static const char *const rates[] = {"3e-5", "1e-4", "3e-4"};
    for (int i = 0; i < 3; i++) {
        char lora[32], miss[32], bat[32], what[64];
        snprintf(lora, sizeof lora, "LoRA at %s", rates[i]);
        snprintf(miss, sizeof miss, "MiSS at %s", rates[i]);
        snprintf(bat, sizeof bat, "Bat at %s", rates[i]);
        snprintf(what, sizeof what, "300 steps at %s: MiSS less LoRA (accuracy)", rates[i]);
        lab_expect(run, what, accuracy(run, miss) - accuracy(run, lora), LAB_AT_LEAST, 0);
        snprintf(what, sizeof what, "300 steps at %s: Bat less MiSS", rates[i]);
        lab_expect(run, what, accuracy(run, bat) - accuracy(run, miss), LAB_AT_LEAST, -0.005);
    }
    bool beats = accuracy(run, "Bat 1024") >= accuracy(run, "LoRA 832") && accuracy(run, "Bat 2048") >= accuracy(run, "LoRA 1664");
    lab_paper(run, beats, "Bat is above LoRA at similar parameters", "behind 300 steps at equal small rates Bat and MiSS are ahead of LoRA as in the paper; each at its best rate and with few parameters they are not");
}

const lab_experiment lab_bone = {
    .name = "bone",
    .paper = "arXiv:2409.15371",
    .claim = "small tensors that multiply the shards of the frozen weight (Bat) do more with the same parameters than the same tensors added alone (MiSS)",
    .setup = "a pre-trained 32-128-128-10 classifier is adapted to a perturbed teacher with 4,000 samples; 2,000 steps, both hidden layers adapted, each method at "
             "its best rate; LoRA r=4, MiSS r=8 and Bat r=8 (near 2,000 parameters) also for 300 steps at 3e-5, 1e-4 and 3e-4",
    .threshold = "accuracy of Bat is above that of MiSS by 0.005 at least at 1,024 and at 2,048 parameters; behind 300 steps at equal small rates MiSS is above LoRA, and Bat at most 0.005 below MiSS",
    .reason = "measured before: 0.678 against 0.655 at 1,024 and 0.701 against 0.674 at 2,048; a fifth of the difference is asked for; 300 steps (LoRA, MiSS, Bat): 3e-5 .495 .547 .550, 1e-4 .544 .588 .591, 3e-4 .600 .615 .622",
    .world = &lab_world_transfer,
    .settings = &settings,
    .methods = methods,
    .grid = grid,
    .metric = "accuracy",
    .trial = try_method,
    .judge = judge,
};
