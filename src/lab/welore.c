/* welore.c - experiment: a rank for each matrix from one threshold (arXiv:2407.11239). */
#include <stdio.h>

#include "lab/world_chars.h"

static const lab_chars_settings settings = {.adapt = true};

#define AT(percent, share)                                                                                                                \
    {.name = "uniform " percent " %", .map = "welore", .map_options = "train=none gate=0 choice=uniform target=" share, .rate = 1, .fixed = true}, \
    {.name = "adaptive " percent " %", .map = "welore", .map_options = "train=none gate=0 choice=adaptive target=" share, .rate = 1, .fixed = true}
static const lab_method methods[] = {
    {.name = "dense"},
    AT("30", "0.3"), AT("40", "0.4"), AT("50", "0.5"), AT("60", "0.6"), AT("70", "0.7"), AT("80", "0.8"), AT("90", "0.9"),
    {0},
};

/* The pre-trained model, compressed; its loss on the text that it was trained on. */
static crank_status trial(lab_trial *trial)
{
    lab_net     *net = lab_chars_net(trial);
    double       loss = 0;
    crank_status status = net ? CRANK_OK : crank_last_status(trial->context);
    if (status == CRANK_OK && trial->method->map) status = lab_attach(net, trial->method, "up\ndown", NULL, NULL);
    if (status == CRANK_OK) status = lab_evaluate(net, &((lab_chars *)trial->world)->test, &loss, NULL);
    if (status == CRANK_OK) status = lab_measure(trial, "loss", loss);
    lab_net_free(net);
    return status;
}

static double loss(lab *run, const char *method) { return lab_mean(run, method, "loss"); }

static void judge(lab *run)
{
    static const char *const shares[] = {"40 %", "50 %", "60 %", "70 %"};
    for (int i = 0; i < 4; i++) {
        char what[64], adaptive[32], uniform[32];
        snprintf(what, sizeof what, "adaptive minus uniform at %s", shares[i]);
        snprintf(adaptive, sizeof adaptive, "adaptive %s", shares[i]);
        snprintf(uniform, sizeof uniform, "uniform %s", shares[i]);
        lab_expect(run, what, loss(run, adaptive) - loss(run, uniform), LAB_AT_MOST, 0);
    }
    lab_untestable(run, "the paper's gap comes from heavy-tailed spectra of a model of 7 billion parameters");
}

const lab_experiment lab_welore = {
    .name = "welore",
    .paper = "arXiv:2407.11239",
    .claim = "at the same sum of ranks, ranks from one threshold on normalised singular values lose less than equal ranks",
    .setup = "a language model over characters, trained for 800 steps, is compressed at once without data; eight matrices; nats a character",
    .threshold = "adaptive <= uniform at reductions of 40, 50, 60 and 70 %",
    .reason = "the card's assertion; measured there on one model: 1.908 / 1.904, 1.918 / 1.909, 1.926 / 1.918, 1.952 / 1.940; at 80 and 90 % uniform wins",
    .world = &lab_world_chars,
    .settings = &settings,
    .methods = methods,
    .metric = "loss",
    .lower = true,
    .trial = trial,
    .judge = judge,
};
