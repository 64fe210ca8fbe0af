/* dylora.c - experiment: one DyLoRA cut to every rank, against a LoRA that is cut, and LoRAs trained at each rank (arXiv:2210.07558). */
#include <stdio.h>

#include "lab/lab.h"
#include "lowrank/dylora.h"

enum { RANK = 8 };
enum { DYNAMIC, CUT, SEPARATE };

static const lab_transfer_settings settings = {.schedule = CRANK_SCHEDULE_COSINE};

static const double grid[] = {1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2, 0};

static const lab_method methods[] = {
    {.name = "zero-shot", .number = SEPARATE},
    {.name = "DyLoRA", .map = "dylora", .map_options = "rank=8 alpha=16", .rate = 0.002, .number = DYNAMIC},
    {.name = "DyLoRA frozen", .map = "dylora", .map_options = "rank=8 alpha=16 mode=frozen", .rate = 0.004, .number = DYNAMIC},
    {.name = "LoRA r=8, cut", .map = "lora", .map_options = "rank=8 alpha=16", .rate = 0.002, .number = CUT},
    {.name = "LoRA r=1", .map = "lora", .map_options = "rank=1 alpha=16", .rate = 0.004, .number = SEPARATE},
    {.name = "LoRA r=2", .map = "lora", .map_options = "rank=2 alpha=16", .rate = 0.002, .number = SEPARATE},
    {.name = "LoRA r=4", .map = "lora", .map_options = "rank=4 alpha=16", .rate = 0.001, .number = SEPARATE},
    {.name = "LoRA r=8", .map = "lora", .map_options = "rank=8 alpha=16", .rate = 0.002, .number = SEPARATE},
    {0},
};

/* Columns from c on of B [out, r] become zero: the scale stays the one that was trained. */
static crank_status cut_pair(crank_context *context, crank_param *B, int64_t c)
{
    int64_t      out = B->view.dims[0], r = B->view.dims[1];
    float       *values = crank_alloc(context, (size_t)(out * r), sizeof *values, B->name);
    crank_status status = values ? crank_param_read(context, B, values, CRANK_F32) : CRANK_FAILED;
    for (int64_t i = 0; status == CRANK_OK && i < out * r; i++)
        if (i % r >= c) values[i] = 0;
    if (status == CRANK_OK) status = crank_param_write(context, B, values, CRANK_F32);
    crank_free(values);
    return status;
}

static crank_status set_rank(lab_trial *trial, lab_net *net, int64_t c)
{
    int          count;
    crank_site  *sites = crank_attachment_sites(crank_linears_attachment(net->linears, 0), &count);
    crank_status status = CRANK_OK;
    for (int i = 0; status == CRANK_OK && i < count; i++)
        status = trial->method->number == DYNAMIC ? dylora_set_rank(trial->context, &sites[i], c) : cut_pair(trial->context, crank_site_find(&sites[i], "B"), c);
    return status;
}

/* Accuracy at every rank from the largest down, and the mean over ranks; a method of one rank has its own alone. */
static crank_status measure(lab_trial *trial, lab_net *net)
{
    lab_transfer *world = trial->world;
    double        accuracy = 0, sum = 0;
    crank_status  status = CRANK_OK;
    int64_t       lowest = trial->method->number == SEPARATE ? RANK : 1;
    for (int64_t c = RANK; status == CRANK_OK && c >= lowest; c--) {
        char metric[16];
        if (trial->method->number != SEPARATE) status = set_rank(trial, net, c);
        if (status == CRANK_OK) status = lab_evaluate(net, &world->test, NULL, &accuracy);
        sum += accuracy;
        snprintf(metric, sizeof metric, "c=%d", (int)c);
        if (status == CRANK_OK && trial->method->number != SEPARATE) status = lab_measure(trial, metric, accuracy);
    }
    return status == CRANK_OK ? lab_measure(trial, "accuracy", sum / (double)(RANK - lowest + 1)) : status;
}

static crank_status try_method(lab_trial *trial)
{
    lab_net     *net = lab_transfer_net(trial);
    lab_training how = lab_transfer_training(trial);
    crank_status status = net ? lab_adapt(trial, net, "layers.0\nlayers.1", &how) : crank_last_status(trial->context);
    if (status == CRANK_OK) status = measure(trial, net);
    lab_net_free(net);
    return status;
}

static void judge(lab *run)
{
    bool holds = lab_expect(run, "DyLoRA over LoRA cut to rank 1", lab_mean(run, "DyLoRA", "c=1") - lab_mean(run, "LoRA r=8, cut", "c=1"), LAB_AT_LEAST, 0.06);
    static const char *const separate[][2] = {{"LoRA r=1", "c=1"}, {"LoRA r=2", "c=2"}, {"LoRA r=4", "c=4"}, {"LoRA r=8", "c=8"}};
    for (int i = 0; i < 4; i++) {
        char what[64];
        snprintf(what, sizeof what, "DyLoRA at %s over %s trained alone", separate[i][1], separate[i][0]);
        holds &= lab_expect(run, what, lab_mean(run, "DyLoRA", separate[i][1]) - lab_mean(run, separate[i][0], "accuracy"), LAB_AT_LEAST, -0.03);
    }
    lab_paper(run, holds,
              "one run serves every rank, where a LoRA that is cut does not",
              "one run does not serve every rank as a LoRA of that rank does");
}

const lab_experiment lab_dylora = {
    .name = "dylora",
    .paper = "arXiv:2210.07558",
    .claim = "one training run whose rank is drawn anew each step gives an adapter that may be cut to any smaller rank",
    .setup = "a pre-trained 32-128-128-10 classifier is adapted to a perturbed teacher with 4,000 samples; 2,000 steps, rank 8, alpha 16, both hidden layers adapted; "
             "accuracy at c = 1..8, against a LoRA of rank 8 cut to its first c ranks and LoRAs trained at c = 1, 2, 4, 8",
    .threshold = "at c = 1 DyLoRA is 0.06 above the LoRA that is cut at least; at c = 1, 2, 4, 8 it is at most 0.03 below the LoRA trained at that rank",
    .reason = "measured before: at c = 1 0.651 against 0.532; at c = 1, 2, 4, 8 0.651 0.675 0.695 0.704 against 0.678 0.691 0.694 0.699",
    .world = &lab_world_transfer,
    .settings = &settings,
    .methods = methods,
    .grid = grid,
    .metric = "accuracy",
    .trial = try_method,
    .judge = judge,
};
