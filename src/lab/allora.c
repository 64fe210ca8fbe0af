/* allora.c - experiment: LoRA with gradients scaled row by row, over learning rates (arXiv:2410.09692), and two of the flaws of LoRA that it
 * is meant for, on linear maps:
 *
 *     dropout   the mean loss under N masks differs from its expectation
 *                   on x:      |y - W x|^2 + p / (1 - p) sum_j x_j^2 |w_j|^2
 *                   on x A^T:  |y - B A x|^2 + p / (1 - p) sum_k (a_k x)^2 |b_k|^2
 *               by a root mean square that falls as N^-1/2: slope of its logarithm over N = 10, 100, 1000, 10000
 *     depth     L layers of I + eta B A, |B A| = 1, make outputs grow as (1 + eta)^L: growth of the logarithm a layer over log(1 + eta) */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "lab/lab.h"

static const lab_regression_settings settings = {.task_rank = 8, .strength = 0.5};

static const double grid[] = {3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 0};

#define SGD "momentum=0.9"
#define LORA4 .map = "lora", .map_options = "rank=4 alpha=8"
#define ALLORA4 .map = "allora", .map_options = "rank=4 eta=2"

/* LoRA has s = 2, ALLoRA eta = 2: equal gains while B is zero. The rows of SGD are a sweep of rates, which is the claim itself. */
static const lab_method methods[] = {
    {.name = "zero-shot"},
    {.name = "LoRA r=4", LORA4, .rate = 3e-2},
    {.name = "ALLoRA r=4", ALLORA4, .rate = 3e-2},
    {.name = "LoRA r=4 at 1e-1", LORA4, .rate = 1e-1, .fixed = true},
    {.name = "ALLoRA r=4 at 1e-1", ALLORA4, .rate = 1e-1, .fixed = true},
    {.name = "LoRA r=8 at 1e-1", .map = "lora", .map_options = "rank=8 alpha=16", .rate = 1e-1, .fixed = true},
    {.name = "ALLoRA r=8 at 1e-1", .map = "allora", .map_options = "rank=8 eta=2", .rate = 1e-1, .fixed = true},
    {.name = "LoRA SGD 0.01", LORA4, .optimizer = "sgd", .optimizer_options = SGD, .rate = 0.01, .fixed = true},
    {.name = "LoRA SGD 0.02", LORA4, .optimizer = "sgd", .optimizer_options = SGD, .rate = 0.02, .fixed = true},
    {.name = "LoRA SGD 0.05", LORA4, .optimizer = "sgd", .optimizer_options = SGD, .rate = 0.05, .fixed = true},
    {.name = "LoRA SGD 0.1", LORA4, .optimizer = "sgd", .optimizer_options = SGD, .rate = 0.1, .fixed = true},
    {.name = "LoRA SGD 0.2", LORA4, .optimizer = "sgd", .optimizer_options = SGD, .rate = 0.2, .fixed = true},
    {.name = "LoRA SGD 0.5", LORA4, .optimizer = "sgd", .optimizer_options = SGD, .rate = 0.5, .fixed = true},
    {.name = "LoRA SGD 1", LORA4, .optimizer = "sgd", .optimizer_options = SGD, .rate = 1, .fixed = true},
    {.name = "ALLoRA SGD 0.01", ALLORA4, .optimizer = "sgd", .optimizer_options = SGD, .rate = 0.01, .fixed = true},
    {.name = "ALLoRA SGD 0.02", ALLORA4, .optimizer = "sgd", .optimizer_options = SGD, .rate = 0.02, .fixed = true},
    {.name = "ALLoRA SGD 0.05", ALLORA4, .optimizer = "sgd", .optimizer_options = SGD, .rate = 0.05, .fixed = true},
    {.name = "ALLoRA SGD 0.1", ALLORA4, .optimizer = "sgd", .optimizer_options = SGD, .rate = 0.1, .fixed = true},
    {.name = "ALLoRA SGD 0.2", ALLORA4, .optimizer = "sgd", .optimizer_options = SGD, .rate = 0.2, .fixed = true},
    {.name = "ALLoRA SGD 0.5", ALLORA4, .optimizer = "sgd", .optimizer_options = SGD, .rate = 0.5, .fixed = true},
    {.name = "ALLoRA SGD 1", ALLORA4, .optimizer = "sgd", .optimizer_options = SGD, .rate = 1, .fixed = true},
    {.name = "dropout on x"},
    {.name = "dropout on x A^T"},
    {.name = "depth"},
    {0},
};

/* ---- dropout ---- */

enum { WIDTH = 16, OUTPUTS = 8, RANK = 4, REPEATS = 64, POWERS = 4 };
static const double DROPPED = 0.25;

/* u [width] is masked and scaled, then multiplied by M [outputs, width]. */
typedef struct masked {
    float u[WIDTH], M[OUTPUTS * WIDTH], y[OUTPUTS];
    int   width;
} masked;

static double squares(const masked *m, const float *factors)
{
    double sum = 0;
    for (int o = 0; o < OUTPUTS; o++) {
        double out = 0;
        for (int j = 0; j < m->width; j++) out += (double)(m->M[o * m->width + j] * m->u[j]) * (factors ? (double)factors[j] : 1);
        sum += (out - (double)m->y[o]) * (out - (double)m->y[o]);
    }
    return sum;
}

static double expectation(const masked *m)
{
    double extra = 0;
    for (int j = 0; j < m->width; j++)
        for (int o = 0; o < OUTPUTS; o++) extra += pow((double)m->u[j] * (double)m->M[o * m->width + j], 2);
    return squares(m, NULL) + DROPPED / (1 - DROPPED) * extra;
}

static double mean_loss(const masked *m, crank_stream stream, uint64_t *at, int masks)
{
    double sum = 0;
    for (int i = 0; i < masks; i++, *at += WIDTH) {
        float factors[WIDTH];
        crank_fill_uniform(stream, *at, 0, 1, factors, WIDTH);
        for (int j = 0; j < WIDTH; j++) factors[j] = (double)factors[j] < DROPPED ? 0 : (float)(1 / (1 - DROPPED));
        sum += squares(m, factors);
    }
    return sum / masks;
}

/* Least squares of log deviation over log N. */
static double slope_of(const masked *m, crank_stream stream)
{
    double   sx = 0, sy = 0, sxx = 0, sxy = 0, expected = expectation(m);
    uint64_t at = 0;
    int      masks = 10;
    for (int k = 0; k < POWERS; k++, masks *= 10) {
        double square = 0;
        for (int i = 0; i < REPEATS; i++) square += pow(mean_loss(m, stream, &at, masks) - expected, 2);
        double x = log(masks), y = 0.5 * log(square / REPEATS);
        sx += x, sy += y, sxx += x * x, sxy += x * y;
    }
    return (POWERS * sxy - sx * sy) / (POWERS * sxx - sx * sx);
}

static crank_status try_dropout(lab_trial *trial, bool inside)
{
    masked m = {.width = inside ? RANK : WIDTH};
    float  x[WIDTH], A[RANK * WIDTH];
    crank_fill_normal(crank_stream_make(trial->seed, CRANK_RANDOM_DATA, 900), 0, 0, 1, x, WIDTH);
    crank_fill_normal(crank_stream_make(trial->seed, CRANK_RANDOM_DATA, 901), 0, 0, 1, m.M, (size_t)(OUTPUTS * m.width));
    crank_fill_normal(crank_stream_make(trial->seed, CRANK_RANDOM_DATA, 902), 0, 0, 1, m.y, OUTPUTS);
    crank_fill_normal(crank_stream_make(trial->seed, CRANK_RANDOM_DATA, 903), 0, 0, 1, A, RANK * WIDTH);
    for (int k = 0; k < m.width; k++)
        for (int j = 0; j < WIDTH; j++) m.u[k] += inside ? A[k * WIDTH + j] * x[j] : j == k ? x[j] : 0;
    return lab_measure(trial, "slope", slope_of(&m, crank_stream_make(trial->seed, CRANK_RANDOM_DROPOUT, 904)));
}

/* ---- depth ---- */

static const double ETA = 0.2;

static crank_tensor *chain(crank_graph *graph, lab_net *net, crank_tensor *x)
{
    for (size_t l = 0; l < crank_linears_count(net->linears); l++) x = lab_linear(graph, net, crank_linears_at(net->linears, l), x);
    return x;
}

/* Identities with a pair B A = q q^T, |q| = 1, at the scale eta. */
static crank_status fill_chain(lab_net *net, uint64_t seed)
{
    float            eye[WIDTH * WIDTH] = {0}, q[WIDTH], norm = 0;
    crank_attachment *made;
    char              options[48];
    snprintf(options, sizeof options, "rank=1 alpha=%g", ETA);
    crank_fill_normal(crank_stream_make(seed, CRANK_RANDOM_DATA, 905), 0, 0, 1, q, WIDTH);
    for (int j = 0; j < WIDTH; j++) norm += q[j] * q[j], eye[j * WIDTH + j] = 1;
    for (int j = 0; j < WIDTH; j++) q[j] /= sqrtf(norm);
    lab_method   lora = {.name = "LoRA", .map = "lora", .map_options = options};
    crank_status status = lab_attach(net, &lora, "all-linear", NULL, &made);
    int          count = 0;
    crank_site  *sites = status == CRANK_OK ? crank_attachment_sites(made, &count) : NULL;
    for (int i = 0; status == CRANK_OK && i < count; i++) {
        status = lab_weight_set(net, sites[i].linear->name, eye);
        if (status == CRANK_OK) status = crank_param_write(net->context, crank_site_find(&sites[i], "A"), q, CRANK_F32);
        if (status == CRANK_OK) status = crank_param_write(net->context, crank_site_find(&sites[i], "B"), q, CRANK_F32);
    }
    return status;
}

/* |outputs| over |inputs| of one normal sample behind `layers` layers. */
static crank_status growth(lab_trial *trial, int layers, double *ratio)
{
    lab_net     *net = lab_net_new(trial->context, trial->seed);
    float        x[WIDTH];
    lab_data     data = {.n = 1, .width = WIDTH, .x = x};
    double       in = 0, out = 0;
    crank_status status = net ? CRANK_OK : crank_last_status(trial->context);
    for (int l = 0; status == CRANK_OK && l < layers; l++) {
        char name[32];
        snprintf(name, sizeof name, "layers.%d", l);
        if (!lab_net_linear(net, name, WIDTH, WIDTH, false)) status = crank_last_status(trial->context);
    }
    if (net) net->forward = chain, net->outputs = WIDTH;
    if (status == CRANK_OK) status = fill_chain(net, trial->seed);
    crank_fill_normal(crank_stream_make(trial->seed, CRANK_RANDOM_DATA, 906), 0, 0, 1, x, WIDTH);
    float *y = status == CRANK_OK ? lab_outputs(net, &data) : NULL;
    for (int j = 0; y && j < WIDTH; j++) in += (double)x[j] * (double)x[j], out += (double)y[j] * (double)y[j];
    if (status == CRANK_OK && !y) status = crank_last_status(trial->context);
    *ratio = sqrt(out / in);
    crank_free(y);
    lab_net_free(net);
    return status;
}

static crank_status try_depth(lab_trial *trial)
{
    double       shallow, deep;
    crank_status status = growth(trial, 24, &shallow);
    if (status == CRANK_OK) status = growth(trial, 48, &deep);
    return status ? status : lab_measure(trial, "growth", log(deep / shallow) / 24 / log(1 + ETA));
}

static crank_status try_method(lab_trial *trial)
{
    if (strcmp(trial->method->name, "depth") == 0) return try_depth(trial);
    if (strncmp(trial->method->name, "dropout", 7) == 0) return try_dropout(trial, strlen(trial->method->name) > 12);
    lab_net     *net = lab_regression_net(trial);
    lab_training how = lab_regression_training(trial);
    crank_status status = net ? lab_adapt(trial, net, "all-linear", &how) : crank_last_status(trial->context);
    if (status == CRANK_OK) status = lab_regression_loss(trial, net);
    lab_net_free(net);
    return status;
}

/* ---- judging ---- */

static double loss(lab *run, const char *method) { return lab_mean(run, method, "loss"); }

/* Largest over smallest rate whose loss is within 1.2 times the best of the sweep. */
static double range(lab *run, const char *method)
{
    static const char *const names[] = {"0.01", "0.02", "0.05", "0.1", "0.2", "0.5", "1"};
    static const double      rates[] = {0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1};
    double                   losses[7], best = INFINITY, low = 0, high = 0;
    for (int i = 0; i < 7; i++) {
        char name[64];
        snprintf(name, sizeof name, "%s SGD %s", method, names[i]);
        losses[i] = loss(run, name);
        if (losses[i] < best) best = losses[i];
    }
    for (int i = 0; i < 7; i++) {
        if (!(losses[i] <= 1.2 * best)) continue;
        if (low == 0) low = rates[i];
        high = rates[i];
    }
    return high / low;
}

static void judge(lab *run)
{
    double ratio = loss(run, "ALLoRA r=4") / loss(run, "LoRA r=4");
    lab_expect(run, "ALLoRA over LoRA, each at its best rate (ratio of losses)", ratio, LAB_AT_MOST, 1.15);
    lab_expect(run, "the same, from below", ratio, LAB_AT_LEAST, 0.85);
    lab_expect(run, "LoRA over ALLoRA at 1e-1, r=4", loss(run, "LoRA r=4 at 1e-1") / loss(run, "ALLoRA r=4 at 1e-1"), LAB_AT_LEAST, 3);
    lab_expect(run, "LoRA over ALLoRA at 1e-1, r=8", loss(run, "LoRA r=8 at 1e-1") / loss(run, "ALLoRA r=8 at 1e-1"), LAB_AT_LEAST, 3);
    lab_expect(run, "range of good SGD rates, ALLoRA over LoRA", range(run, "ALLoRA") / range(run, "LoRA"), LAB_AT_LEAST, 1);
    const char *const dropped[] = {"dropout on x", "dropout on x A^T"};
    for (int i = 0; i < 2; i++) {
        double slope = lab_mean(run, dropped[i], "slope");
        lab_expect(run, i ? "masks on x A^T: slope of the deviation from the expected loss" : "masks on x: slope of the deviation from the expected loss", slope, LAB_AT_MOST, -0.45);
        lab_expect(run, "the same, from below", slope, LAB_AT_LEAST, -0.55);
    }
    lab_expect(run, "growth a layer over log(1 + eta)", lab_mean(run, "depth", "growth"), LAB_AT_LEAST, 0.95);
    lab_expect(run, "the same, from above", lab_mean(run, "depth", "growth"), LAB_AT_MOST, 1.0001);
    lab_paper(run, ratio <= 0.997, "ahead of LoRA at the best rates, and tolerant of large ones", "not ahead of LoRA at the best rates; the paper has 0.3 points of accuracy on average");
}

const lab_experiment lab_allora = {
    .name = "allora",
    .paper = "arXiv:2410.09692",
    .claim = "scaling each row's gradient by the length that the row has reached replaces alpha and dropout: as good as LoRA at the best rate, and tolerant of large ones",
    .setup = "a 64-128-128-16 ReLU network with decaying spectra is adapted to a teacher that differs by rank 8 in every weight; 300 steps of 64 samples with AdamW, and "
             "with SGD of momentum 0.9 at seven rates. Dropout of a quarter on a linear map, 64 repeats of up to 10,000 masks; 24 and 48 layers of I + 0.2 B A",
    .threshold = "best losses within 15 % of each other; at a rate of 1e-1 ALLoRA's loss is at least 3 times lower for r=4 and r=8; with SGD the factor between the largest "
                 "and smallest rate within 1.2 times the best loss is at least LoRA's; the loss under dropout nears its expectation with a slope of -0.5 +- 0.05; outputs grow as (1 + eta)^L",
    .reason = "measured before on one seed: best .194 and .208; at 1e-1 .718 and .226 (r=4), 4.23 and .344 (r=8)",
    .world = &lab_world_regression,
    .settings = &settings,
    .methods = methods,
    .grid = grid,
    .metric = "loss",
    .lower = true,
    .trial = try_method,
    .judge = judge,
};
