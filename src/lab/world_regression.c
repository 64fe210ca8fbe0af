/* world_regression.c - regression by a network whose weights have a decaying spectrum, adapted to a teacher that differs by low rank.
 *
 *     W_l           128x64, 128x128, 16x128, ReLU between, no biases: normal N(0, 2/in), then its singular values become c i^-0.6 at
 *                   the same Frobenius norm
 *     teacher       W_l + D_l, D_l a product of normal factors of rank task_rank with |D_l| = strength |W_l|; or, with rescale, W_l with
 *                   singular values times e^(rescale z)
 *     x             x_j = sigma_j z_j, z normal, sigma_j ~ j^-1/2, sum sigma_j^2 = 64
 *     training      300 steps of 64 fresh samples; rate: 10 steps of warm-up, cosine; Adam
 *     metric        mean squares on 2,048 further samples
 *
 * A second task has a teacher of its own on the same base, inputs and factors (of its rank). Samples may be supported on a range of
 * coordinates alone: what lies outside is then nothing that training sees. */
#include <math.h>

#include "crank/linalg.h"
#include "lab/lab.h"

enum { WIDTH = 64, LAYERS = 3, STEPS = 300, BATCH = 64, TEST = 2048 };
static const int64_t sizes[LAYERS + 1] = {WIDTH, 128, 128, 16};

static lab_net *new_net(crank_context *context, uint64_t seed)
{
    return lab_mlp(context, sizes, LAYERS + 1, CRANK_RELU, false, sqrt(2), LAB_SQUARES, seed);
}

static double norm(const float *values, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += (double)values[i] * values[i];
    return sqrt(sum);
}

/* Singular values of w [m, n] become c i^-0.6, c by the norm. */
static crank_status decay_spectrum(crank_context *context, float *w, int64_t m, int64_t n)
{
    int64_t r = m < n ? m : n;
    float  *u = crank_alloc(context, (size_t)(m * r), sizeof *u, "a spectrum"), *vt = crank_alloc(context, (size_t)(r * n), sizeof *vt, "a spectrum");
    double  before = norm(w, m * n), sum = 0;
    crank_status status = u && vt ? crank_svd(context, crank_matrix_f32(w, m, n), CRANK_INSIDE_F64, crank_matrix_f32(u, m, r), NULL, crank_matrix_f32(vt, r, n))
                                  : CRANK_FAILED;
    for (int64_t k = 0; k < r; k++) sum += pow((double)(k + 1), -1.2);
    for (int64_t i = 0; status == CRANK_OK && i < m; i++)
        for (int64_t j = 0; j < n; j++) {
            double value = 0;
            for (int64_t k = 0; k < r; k++) value += (double)u[i * r + k] * pow((double)(k + 1), -0.6) * (double)vt[k * n + j];
            w[i * n + j] = (float)(value * before / sqrt(sum));
        }
    crank_free(u), crank_free(vt);
    return status;
}

/* w += strength |w| / |C D| C D, C [m, r], D [r, n] normal. */
static crank_status perturb(crank_context *context, float *w, int64_t m, int64_t n, int64_t r, double strength, crank_stream stream)
{
    float *c = crank_alloc(context, (size_t)(m * r), sizeof *c, "a teacher"), *d = crank_alloc(context, (size_t)(r * n), sizeof *d, "a teacher");
    float *product = crank_alloc(context, (size_t)(m * n), sizeof *product, "a teacher");
    bool   made = c && d && product;
    if (made) {
        crank_fill_normal(stream, 0, 0, 1, c, (size_t)(m * r));
        crank_fill_normal(stream, (uint64_t)(m * r), 0, 1, d, (size_t)(r * n));
        for (int64_t i = 0; i < m; i++)
            for (int64_t k = 0; k < r; k++)
                for (int64_t j = 0; j < n; j++) product[i * n + j] += c[i * r + k] * d[k * n + j];
        double factor = strength * norm(w, m * n) / norm(product, m * n);
        for (int64_t i = 0; i < m * n; i++) w[i] += (float)(factor * product[i]);
    }
    crank_free(c), crank_free(d), crank_free(product);
    return made ? CRANK_OK : CRANK_FAILED;
}

/* Singular value k of w [m, n] times e^(deviation z_k). */
static crank_status rescale(crank_context *context, float *w, int64_t m, int64_t n, double deviation, crank_stream stream)
{
    int64_t r = m < n ? m : n;
    float  *u = crank_alloc(context, (size_t)(m * r), sizeof *u, "a spectrum"), *vt = crank_alloc(context, (size_t)(r * n), sizeof *vt, "a spectrum");
    double *s = crank_alloc(context, (size_t)r, sizeof *s, "a spectrum");
    crank_status status = u && vt && s ? crank_svd(context, crank_matrix_f32(w, m, n), CRANK_INSIDE_F64, crank_matrix_f32(u, m, r), s, crank_matrix_f32(vt, r, n))
                                       : CRANK_FAILED;
    for (int64_t k = 0; status == CRANK_OK && k < r; k++) s[k] *= exp(deviation * (double)crank_draw_normal(stream, (uint64_t)k));
    for (int64_t i = 0; status == CRANK_OK && i < m; i++)
        for (int64_t j = 0; j < n; j++) {
            double value = 0;
            for (int64_t k = 0; k < r; k++) value += (double)u[i * r + k] * s[k] * (double)vt[k * n + j];
            w[i * n + j] = (float)value;
        }
    crank_free(u), crank_free(vt), crank_free(s);
    return status;
}

/* Row i of a hidden layer's w [m, n] times gain e^(uneven z_i). */
static void make_uneven(float *w, int64_t m, int64_t n, const lab_regression_settings *settings, crank_stream stream)
{
    for (int64_t i = 0; i < m; i++) {
        double gain = settings->gain * exp(settings->uneven * (double)crank_draw_normal(stream, (uint64_t)i));
        for (int64_t j = 0; j < n; j++) w[i * n + j] = (float)(gain * (double)w[i * n + j]);
    }
}

static crank_status make_base(lab_net *base, const lab_regression_settings *settings, uint64_t seed)
{
    crank_status status = CRANK_OK;
    for (int l = 0; status == CRANK_OK && l < LAYERS; l++) {
        const crank_linear *linear = crank_linears_at(base->linears, (size_t)l);
        float              *w = lab_weight(base, linear->name);
        status = w ? decay_spectrum(base->context, w, linear->out, linear->in) : crank_last_status(base->context);
        if (status == CRANK_OK && settings->gain != 0 && l + 1 < LAYERS)
            make_uneven(w, linear->out, linear->in, settings, crank_stream_make(seed, CRANK_RANDOM_DATA, 200 + (uint32_t)l));
        if (status == CRANK_OK) status = lab_weight_set(base, linear->name, w);
        crank_free(w);
    }
    return status;
}

static crank_status make_teacher(lab_net *teacher, const lab_net *base, const lab_regression_settings *settings, uint64_t seed)
{
    crank_status status = lab_net_copy(teacher, base);
    for (int l = 0; status == CRANK_OK && l < LAYERS; l++) {
        const crank_linear *linear = crank_linears_at(teacher->linears, (size_t)l);
        int64_t             m = linear->out, n = linear->in;
        crank_stream        stream = crank_stream_make(seed, CRANK_RANDOM_DATA, 100 + (uint32_t)l);
        float              *w = lab_weight(teacher, linear->name);
        if (!w) status = crank_last_status(teacher->context);
        else if (settings->rescale != 0) status = rescale(teacher->context, w, m, n, settings->rescale, stream);
        else status = perturb(teacher->context, w, m, n, settings->task_rank, settings->strength, stream);
        if (status == CRANK_OK) status = lab_weight_set(teacher, linear->name, w);
        crank_free(w);
    }
    return status;
}

crank_status lab_regression_draw(lab_net *teacher, int64_t n, uint64_t seed, uint32_t index, int64_t first, int64_t count, lab_data *data)
{
    crank_context *context = teacher->context;
    double         sum = 0;
    *data = (lab_data){.n = n, .width = WIDTH};
    data->x = crank_alloc(context, (size_t)(n * WIDTH), sizeof *data->x, "samples");
    if (!data->x) return CRANK_FAILED;
    crank_fill_normal(crank_stream_make(seed, CRANK_RANDOM_DATA, index), 0, 0, 1, data->x, (size_t)(n * WIDTH));
    for (int j = 0; j < WIDTH; j++) sum += 1 / (double)(j + 1);
    for (int64_t i = 0; i < n * WIDTH; i++) {
        int64_t j = i % WIDTH;
        bool    inside = !count || (j >= first && j < first + count);
        data->x[i] *= inside ? (float)sqrt(WIDTH / sum / (double)(j + 1)) : 0;
    }
    data->y = lab_outputs(teacher, data);
    return data->y ? CRANK_OK : crank_last_status(context);
}

crank_status lab_regression_make(crank_context *context, uint64_t seed, const lab_regression_settings *settings, lab_regression *out)
{
    lab_net *teacher = new_net(context, seed);
    *out = (lab_regression){.base = new_net(context, seed)};
    crank_status status = teacher && out->base ? make_base(out->base, settings, seed) : crank_last_status(context);
    for (int task = 0; status == CRANK_OK && task < 2 && settings; task++, settings = settings->second) {
        status = make_teacher(teacher, out->base, settings, seed);
        if (status == CRANK_OK) status = lab_regression_draw(teacher, STEPS * BATCH, seed, 1, settings->first, settings->count, &out->train[task]);
        if (status == CRANK_OK) status = lab_regression_draw(teacher, TEST, seed, 2, settings->first, settings->count, &out->test[task]);
    }
    lab_net_free(teacher);
    return status;
}

void lab_regression_free(lab_regression *world)
{
    lab_net_free(world->base);
    for (int task = 0; task < 2; task++) {
        lab_data_free(&world->train[task]);
        lab_data_free(&world->test[task]);
    }
}

lab_net *lab_regression_copy(const lab_regression *world, uint64_t seed)
{
    lab_net *net = new_net(world->base->context, seed);
    if (net && lab_net_copy(net, world->base) == CRANK_OK) return net;
    lab_net_free(net);
    return NULL;
}

static crank_status prepare(lab_trial *trial) { return lab_regression_make(trial->context, trial->seed, trial->experiment->settings, trial->world); }

static int task_of(const lab_trial *trial) { return (int)(trial->method->number & LAB_SECOND); }

lab_net *lab_regression_net(lab_trial *trial) { return lab_regression_copy(trial->world, trial->seed); }

lab_training lab_regression_training(const lab_trial *trial)
{
    const lab_regression *made = trial->world;
    int64_t      stop = trial->method->number / LAB_STOP(1);
    return (lab_training){.data = &made->train[task_of(trial)], .steps = stop ? stop : STEPS, .total = STEPS, .batch = BATCH, .rate = trial->rate,
                          .schedule = CRANK_SCHEDULE_COSINE, .warmup = 10, .seed = trial->seed};
}

const lab_data *lab_regression_test(const lab_trial *trial) { return &((const lab_regression *)trial->world)->test[task_of(trial)]; }

crank_status lab_regression_loss(lab_trial *trial, lab_net *net)
{
    double       loss = 0;
    crank_status status = lab_evaluate(net, lab_regression_test(trial), &loss, NULL);
    return status ? status : lab_measure(trial, "loss", loss);
}

static crank_status try_method(lab_trial *trial)
{
    lab_net     *net = lab_regression_net(trial);
    lab_training how = lab_regression_training(trial);
    crank_status status = net ? lab_adapt(trial, net, "all-linear", &how) : crank_last_status(trial->context);
    if (status == CRANK_OK) status = lab_regression_loss(trial, net);
    lab_net_free(net);
    return status;
}

static void release(void *world) { lab_regression_free(world); }

const lab_world lab_world_regression = {.name = "regression", .size = sizeof(lab_regression), .prepare = prepare, .trial = try_method, .release = release};
