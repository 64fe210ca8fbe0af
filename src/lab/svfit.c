/* svfit.c - experiment: singular values alone, on a task that only rescales them (arXiv:2409.05926). */
#include "lab/lab.h"

static const lab_regression_settings second = {.task_rank = 8, .strength = 0.5};
static const lab_regression_settings settings = {.rescale = 0.5, .second = &second};

static const double grid[] = {3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 0};

static const lab_method methods[] = {
    {.name = "zero-shot"},
    {.name = "full", .rate = 1e-2},
    {.name = "LoRA r=1", .map = "lora", .map_options = "rank=1 alpha=2", .rate = 3e-2},
    {.name = "LoRA r=8", .map = "lora", .map_options = "rank=8 alpha=16", .rate = 3e-2},
    {.name = "LoRA-XS r=8", .map = "lora-xs", .map_options = "rank=8", .rate = 1e-1},
    {.name = "SVFit", .map = "svfit", .map_options = "rank=0", .rate = 1e-1},
    {.name = "new directions: LoRA r=1", .map = "lora", .map_options = "rank=1 alpha=2", .rate = 3e-2, .number = LAB_SECOND},
    {.name = "new directions: LoRA-XS r=8", .map = "lora-xs", .map_options = "rank=8", .rate = 1e-1, .number = LAB_SECOND},
    {.name = "new directions: SVFit", .map = "svfit", .map_options = "rank=0", .rate = 1e-1, .number = LAB_SECOND},
    {0},
};

static double loss(lab *run, const char *method) { return lab_mean(run, method, "loss"); }

static void judge(lab *run)
{
    double svfit = loss(run, "SVFit");
    lab_expect(run, "SVFit (loss)", svfit, LAB_AT_MOST, 1e-3);
    lab_expect(run, "full fine-tuning over SVFit", loss(run, "full") / svfit, LAB_AT_LEAST, 100);
    lab_expect(run, "LoRA r=8 over SVFit", loss(run, "LoRA r=8") / svfit, LAB_AT_LEAST, 100);
    lab_expect(run, "new directions: SVFit over LoRA r=1", loss(run, "new directions: SVFit") / loss(run, "new directions: LoRA r=1"), LAB_AT_LEAST, 1);
    lab_untestable(run, "the paper's tables are on pre-trained models; a task of rescalings is the one where singular values alone must win");
}

const lab_experiment lab_svfit = {
    .name = "svfit",
    .paper = "arXiv:2409.05926",
    .claim = "training singular values alone is enough, with far fewer parameters than LoRA, where the task rescales what the model has",
    .setup = "a 64-128-128-16 ReLU network with decaying spectra is adapted to a teacher whose singular values are multiplied by e^(z/2), z normal; 208 trained numbers; 300 "
             "steps of 64 samples. New directions: a teacher that differs by rank 8 in every weight",
    .threshold = "SVFit's loss < 1e-3, at least 100 times below full fine-tuning and LoRA r=8 at their best rates; where the teacher has new directions it is above LoRA r=1",
    .reason = "measured before on one seed: SVFit 8e-6 at 1e-1; full .0875, LoRA r=8 .112, r=1 .340, LoRA-XS r=8 .380; new directions: SVFit .846, LoRA-XS r=8 .884, LoRA r=1 .557",
    .world = &lab_world_regression,
    .settings = &settings,
    .methods = methods,
    .grid = grid,
    .metric = "loss",
    .lower = true,
    .judge = judge,
};
