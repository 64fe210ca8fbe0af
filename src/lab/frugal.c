/* frugal.c - experiment: Adam on a part of the matrices, signs on the rest (arXiv:2411.07837). */
#include "lab/world_chars.h"

static const double grid[] = {1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2, 3.2e-2, 0};

#define FRUGAL(more) .optimizer = "frugal", .optimizer_options = "gap=200 " more
static const lab_method methods[] = {
    {.name = "Adam", .rate = 1.6e-2},
    {.name = "FRUGAL 1/4 of tensors", FRUGAL("density=0.25"), .rate = 4e-3},
    {.name = "FRUGAL 1/4 of columns", FRUGAL("density=0.25 select=columns"), .rate = 3.2e-2},
    {.name = "FRUGAL density 0", FRUGAL("density=0"), .rate = 4e-3},
    {.name = "Adam on 1/4, rest frozen", FRUGAL("density=0.25 rule=none"), .rate = 1.6e-2},
    /* told, not judged: the paper's common rate */
    {.name = "Adam at 1e-3", .rate = 1e-3, .fixed = true},
    {.name = "1/4 at 1e-3", FRUGAL("density=0.25"), .rate = 1e-3, .fixed = true},
    {.name = "density 0 at 1e-3", FRUGAL("density=0"), .rate = 1e-3, .fixed = true},
    {.name = "rest frozen at 1e-3", FRUGAL("density=0.25 rule=none"), .rate = 1e-3, .fixed = true},
    /* told, not judged: what might part signs from a frozen rest. Signs at a quarter of Adam's rate, and a new choice of tensors four times as often */
    {.name = "1/4 at 1.6e-2, signs at 4e-3", FRUGAL("density=0.25 free_scale=0.25"), .rate = 1.6e-2, .fixed = true},
    {.name = "density 0 at 1.6e-2, signs at 4e-3", FRUGAL("density=0 free_scale=0.25"), .rate = 1.6e-2, .fixed = true},
    {.name = "1/4 of tensors, gap 50", .optimizer = "frugal", .optimizer_options = "gap=50 density=0.25", .rate = 4e-3, .fixed = true},
    {.name = "rest frozen, gap 50", .optimizer = "frugal", .optimizer_options = "gap=50 density=0.25 rule=none", .rate = 1.6e-2, .fixed = true},
    {0},
};

static double loss(lab *run, const char *method) { return lab_mean(run, method, "loss"); }

static void judge(lab *run)
{
    double adam = loss(run, "Adam"), quarter = loss(run, "FRUGAL 1/4 of tensors"), zero = loss(run, "FRUGAL density 0"), frozen = loss(run, "Adam on 1/4, rest frozen");
    lab_expect(run, "a quarter of tensors minus Adam", quarter - adam, LAB_AT_LEAST, 0);
    lab_expect(run, "density 0 minus a quarter", zero - quarter, LAB_AT_LEAST, -0.02);
    lab_expect(run, "frozen rest minus density 0", frozen - zero, LAB_AT_LEAST, 0.1);
    lab_expect(run, "a quarter of columns minus a quarter of tensors", loss(run, "FRUGAL 1/4 of columns") - quarter, LAB_AT_MOST, 0.02);
    bool rest = frozen - zero >= 0.02; /* beyond seed noise */
    lab_paper(run, rest,
              "signs on the part without state beat leaving it out, and state on a quarter helps further",
              "at Adam's rate signs on the part without state gain much; with a rate of its own, four times as high, a frozen rest does as well as density 0. Told beside it: signs at a quarter "
              "of Adam's rate (free_scale) are ahead of the frozen rest by more than the seeds' noise; choosing tensors four times as often (gap 50) leaves a quarter as it is");
}

const lab_experiment lab_frugal = {
    .name = "frugal",
    .paper = "arXiv:2411.07837",
    .claim = "moving the part without state by the sign of its gradient makes a quarter of Adam's state nearly as good as all of it",
    .setup = "a language model over characters is trained from scratch for 800 steps of 128; methods act on the eight matrices of its blocks; nats a character",
    .threshold = "each at its own rate: Adam < a quarter of the tensors <= density 0 (within seed noise, 0.02) < a quarter with the rest frozen, by more than 0.1; columns "
                 "within 0.02 of tensors",
    .reason = "the card's assertion; measured there on one seed: 1.866, 1.906, 1.937, frozen 2.071, columns 1.910",
    .world = &lab_world_chars,
    .methods = methods,
    .grid = grid,
    .metric = "loss",
    .lower = true,
    .judge = judge,
};
