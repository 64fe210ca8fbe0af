/* owlore.c - experiment: layers drawn by their outliers, with projected gradients (arXiv:2405.18380). */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "lab/net.h"
#include "lab/world_chars.h"
#include "optim/layers.h"
#include "optim/outlier.h"

static const lab_chars_settings settings = {.steps = 400, .adapt = true};

static const double grid[] = {1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2, 0};

enum { BLOCKS = 4, BY_SCORES = 1, BY_REVERSE = 2, BY_NOTHING = 3 };

#define OWLORE "layers=1 interval=20 rank=32 gap=20 scale=1 refresh=svd state=drop "
static const lab_method methods[] = {
    {.name = "full Adam", .rate = 4e-3, .number = BY_NOTHING},
    {.name = "LISA 1 of 4", .optimizer = "lisa", .optimizer_options = "layers=1 interval=20", .rate = 4e-3, .number = BY_NOTHING},
    {.name = "OwLore, by outliers", .optimizer = "owlore", .optimizer_options = OWLORE "sampling=scores scores=", .rate = 1.6e-2, .number = BY_SCORES},
    {.name = "OwLore, uniform", .optimizer = "owlore", .optimizer_options = OWLORE "sampling=uniform", .rate = 8e-3, .number = BY_NOTHING},
    {.name = "OwLore, reversed", .optimizer = "owlore", .optimizer_options = OWLORE "sampling=reverse scores=", .rate = 1.6e-2, .number = BY_REVERSE},
    {0},
};

/* The factor of the paper's fine-tuning runs, and one at which a small network has outliers by nature. */
static const double OFFICIAL = 13, NATURAL = 3;

/* ---- scores: inputs seen by a map that changes nothing ---- */

typedef struct seen {
    double *squares; /* [in] */
} seen;

static crank_status look(crank_context *context, crank_site *site, const crank_observation *batch)
{
    seen *s = site->state;
    if (!batch) return CRANK_OK;
    if (!s->squares && !(s->squares = crank_alloc(context, (size_t)site->linear->in, sizeof *s->squares, "norms of inputs"))) return CRANK_FAILED;
    outlier_observe(batch->x, batch->n, site->linear->in, s->squares);
    return CRANK_OK;
}

static crank_status attach_nothing(crank_context *context, crank_site *site)
{
    (void)context, (void)site;
    return CRANK_OK;
}

static crank_tensor *pass_on(crank_graph *graph, crank_site *site, crank_tensor *x, crank_tensor *y0)
{
    (void)graph, (void)site, (void)x;
    return y0;
}

static void forget(crank_site *site) { crank_free(((seen *)site->state)->squares); }

static const crank_option no_options[] = {CRANK_END};
static const crank_map    looker = {.name = "outlier_inputs", .options = no_options, .options_size = 1, .state_size = sizeof(seen), .observes = CRANK_OBSERVE_X,
                                    .calibrate = look, .attach = attach_nothing, .forward = pass_on, .release = forget};

/* Shares of outliers of the four blocks: entries above `factor` times the mean. */
static crank_status block_scores(lab_net *net, crank_site *sites, int count, double factor, double *scores)
{
    float         *weights[2 * BLOCKS] = {0};
    crank_status   status = CRANK_OK;
    for (int b = 0; status == CRANK_OK && b < BLOCKS; b++) {
        outlier_matrix matrices[2];
        int            n = 0;
        for (int i = 0; status == CRANK_OK && i < count && n < 2; i++) {
            const crank_linear *linear = sites[i].linear;
            if (linear->block != b || !((seen *)sites[i].state)->squares) continue;
            weights[2 * b + n] = lab_weight(net, linear->name);
            if (!weights[2 * b + n]) status = crank_last_status(net->context);
            matrices[n] = (outlier_matrix){weights[2 * b + n], ((seen *)sites[i].state)->squares, linear->out, linear->in};
            n++;
        }
        if (status == CRANK_OK) status = outlier_share(net->context, matrices, n, factor, &scores[b]);
    }
    for (int i = 0; i < 2 * BLOCKS; i++) crank_free(weights[i]);
    return status;
}

static crank_status measure_scores(lab_trial *trial, lab_net *net, double factor, double *scores)
{
    const lab_chars *world = trial->world;
    void            *options = crank_options_new(net->context, no_options, 1);
    crank_attachment *watching = options ? crank_attachment_new(net->context, net->linears, &looker, options, &(crank_attach_options){.targets = "up\ndown"}) : NULL;
    crank_options_free(options);
    if (!watching) return crank_last_status(net->context);
    int          count;
    crank_status status = lab_calibrate(net, watching, &world->other_train);
    crank_site  *sites = crank_attachment_sites(watching, &count);
    if (status == CRANK_OK) status = block_scores(net, sites, count, factor, scores);
    crank_attachment_remove(watching);
    return status;
}

/* One number a line, in a file of the temporary folder. */
static crank_status write_scores(crank_context *context, const double *scores, const char *path)
{
    char text[BLOCKS * 32] = "";
    for (int b = 0; b < BLOCKS; b++) snprintf(text + strlen(text), sizeof text - strlen(text), "%.17g\n", scores[b]);
    return file_write_text(context, path, text);
}

/* ---- the checks that hold whatever the loss: a planted layer, frequencies of draws, bytes of state ---- */

enum { PLANTED = 2, DRAWS = 400000 };

/* Every hundredth entry of the planted block's matrices times 20. */
static crank_status plant(lab_net *net)
{
    crank_status status = CRANK_OK;
    for (size_t i = 0; status == CRANK_OK && i < crank_linears_count(net->linears); i++) {
        const crank_linear *linear = crank_linears_at(net->linears, i);
        if (linear->block != PLANTED) continue;
        float *weight = lab_weight(net, linear->name);
        for (int64_t k = 0; weight && k < linear->in * linear->out; k += 100) weight[k] *= 20;
        status = weight ? lab_weight_set(net, linear->name, weight) : crank_last_status(net->context);
        crank_free(weight);
    }
    return status;
}

/* How much the planted block's score stands above the largest other one, and how many sigmas its draws are from its share. */
static crank_status measure_planted(lab_trial *trial)
{
    double       scores[BLOCKS] = {0}, other = 0, sum = 0;
    int          hits = 0, awake[BLOCKS];
    lab_net     *net = lab_chars_net(trial);
    crank_status status = net ? plant(net) : crank_last_status(trial->context);
    if (status == CRANK_OK) status = measure_scores(trial, net, OFFICIAL, scores);
    lab_net_free(net);
    if (status != CRANK_OK) return status;
    for (int b = 0; b < BLOCKS; b++) {
        sum += scores[b];
        if (b != PLANTED) other = fmax(other, scores[b]);
    }
    layers_options options = {.layers = 1};
    for (int d = 0; d < DRAWS; d++) {
        layers_awake(&options, scores, BLOCKS, trial->seed, d, awake);
        hits += awake[0] == PLANTED;
    }
    if (other == 0) other = 1.0 / (1 << 20); /* no other block has an outlier: less than one entry in a block */
    double p = scores[PLANTED] / sum, sigma = sqrt(DRAWS * p * (1 - p));
    status = lab_measure(trial, "planted over the next score", scores[PLANTED] / other);
    return status == CRANK_OK ? lab_measure(trial, "sigmas of its draws", sigma > 0 ? fabs(hits - DRAWS * p) / sigma : hits == DRAWS ? 0 : INFINITY) : status;
}

/* Bytes of the optimiser's state over those of two f32 moments of one block and of all that always trains. */
static crank_status measure_state(lab_trial *trial, const lab_net *net)
{
    double  always = 0, block[BLOCKS] = {0}, largest = 0;
    int64_t all = 0;
    for (size_t i = 0; i < crank_params_count(net->params); i++) {
        const crank_param *param = crank_params_at(net->params, i);
        if (param->trainable) all += crank_view_count(&param->view);
    }
    always = (double)all;
    for (size_t i = 0; i < crank_linears_count(net->linears); i++) {
        const crank_linear *linear = crank_linears_at(net->linears, i);
        if (linear->block < 0 || linear->block >= BLOCKS) continue;
        block[linear->block] += (double)(linear->in * linear->out);
        always -= (double)(linear->in * linear->out);
    }
    for (int b = 0; b < BLOCKS; b++) largest = fmax(largest, block[b]);
    return lab_measure(trial, "state over its bound", (double)trial->state / (8 * (largest + always)));
}

static crank_status trial(lab_trial *trial)
{
    const char  *folder = getenv("TMPDIR");
    char         path[256], options[512];
    double       scores[BLOCKS] = {0};
    lab_method   method = *trial->method;
    lab_net     *net = lab_chars_net(trial);
    crank_status status = net ? CRANK_OK : crank_last_status(trial->context);
    bool         scored = method.number != BY_NOTHING;
    snprintf(path, sizeof path, "%.200s/crank-owlore-%ld.txt", folder && *folder ? folder : "/tmp", (long)getpid());
    if (status == CRANK_OK && scored) status = measure_scores(trial, net, NATURAL, scores);
    if (status == CRANK_OK && scored) status = write_scores(trial->context, scores, path);
    if (scored) {
        snprintf(options, sizeof options, "%s%s", method.optimizer_options, path);
        method.optimizer_options = options;
    }
    const lab_method *listed = trial->method;
    trial->method = &method;
    if (status == CRANK_OK) status = lab_chars_run(trial, net);
    if (status == CRANK_OK) status = lab_measure(trial, "MiB", (double)trial->bytes / 1048576);
    double sum = scores[0] + scores[1] + scores[2] + scores[3];
    for (int b = 0; status == CRANK_OK && method.number == BY_SCORES && b < BLOCKS; b++) {
        char name[32];
        snprintf(name, sizeof name, "p of layer %d", b);
        status = lab_measure(trial, name, sum > 0 ? scores[b] / sum : 0.25);
    }
    if (status == CRANK_OK && method.number == BY_SCORES) status = measure_state(trial, net);
    if (status == CRANK_OK && method.number == BY_SCORES) status = measure_planted(trial);
    trial->method = listed;
    if (scored) unlink(path);
    lab_net_free(net);
    return status;
}

/* ---- judging ---- */

static double loss(lab *run, const char *method) { return lab_mean(run, method, "loss"); }

static void judge(lab *run)
{
    double outliers = loss(run, "OwLore, by outliers"), uniform = loss(run, "OwLore, uniform"), far = 0;
    for (int b = 0; b < BLOCKS; b++) {
        char name[32];
        snprintf(name, sizeof name, "p of layer %d", b);
        far = fmax(far, fabs(lab_mean(run, "OwLore, by outliers", name) - 0.25));
    }
    lab_expect(run, "by outliers over uniform", outliers / uniform, LAB_AT_MOST, 1.02);
    lab_expect(run, "uniform over by outliers", uniform / outliers, LAB_AT_MOST, 1.02);
    for (int i = 0; i < lab_seeds(run); i++) {
        lab_expect(run, "planted block's score over the largest other one", lab_value(run, "OwLore, by outliers", "planted over the next score", i), LAB_AT_LEAST, 1);
        lab_expect(run, "sigmas between its draws and its share", lab_value(run, "OwLore, by outliers", "sigmas of its draws", i), LAB_AT_MOST, 3);
    }
    lab_expect(run, "bytes of state over moments of one block and of what always trains", lab_mean(run, "OwLore, by outliers", "state over its bound"), LAB_AT_MOST, 1);
    lab_expect(run, "memory of OwLore over that of full Adam", lab_mean(run, "OwLore, by outliers", "MiB") / lab_mean(run, "full Adam", "MiB"), LAB_AT_MOST, 0.5);
    lab_expect(run, "the largest distance of a layer's probability from 1/4", far, LAB_AT_LEAST, 0.02);
    bool better = outliers <= loss(run, "LISA 1 of 4") && outliers <= loss(run, "full Adam");
    lab_paper(run, better,
              "better than LISA and than full training",
              outliers <= loss(run, "LISA 1 of 4") ? "better than LISA, but not than full training" : "not better than LISA");
}

const lab_experiment lab_owlore = {
    .name = "owlore",
    .paper = "arXiv:2405.18380",
    .claim = "drawing layers by their outliers and training them with projected gradients beats uniform draws and full-rank layers in the same memory",
    .setup = "a language model over characters, pre-trained on one text, learns another in 400 steps of 128; one of four blocks at a time, redrawn every 20 steps, rank 32; "
             "nats a character",
    .threshold = "a block with planted outliers has the largest score and is drawn by its share within 3 sigmas; state takes at most the moments of one block and of what "
                 "always trains; draws by outliers and uniform ones within 2 % of each other's loss; less than half of full training's memory; probabilities that differ from 1/4 by 0.02 "
                 "at least",
    .reason = "the card expects differences of 1 to 2 % and calls memory and frequencies the robust checks; weights, one block's gradients and small moments are about 0.4 "
              "of weights, gradients and moments of all",
    .world = &lab_world_chars,
    .settings = &settings,
    .methods = methods,
    .grid = grid,
    .metric = "loss",
    .lower = true,
    .trial = trial,
    .judge = judge,
};
