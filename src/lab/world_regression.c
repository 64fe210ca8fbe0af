/* world_regression.c - regression by a network whose weights have a decaying spectrum, adapted to a teacher that differs by low rank.
 *
 *     W_l           128x64, 128x128, 16x128, ReLU between, no biases: normal N(0, 2/in), then its singular values become c i^-0.6 at
 *                   the same Frobenius norm
 *     teacher       W_l + D_l, D_l a product of normal factors of rank task_rank with |D_l| = strength |W_l|; or, with rescale, W_l with
 *                   singular values times e^(rescale z)
 *     x             x_j = sigma_j z_j, z normal, sigma_j ~ j^-1/2, sum sigma_j^2 = 64
 *     training      300 steps of 64 fresh samples; rate: 10 steps of warm-up, cosine; Adam
 *     metric        mean squares on 2,048 further samples */
#include <math.h>

#include "crank/linalg.h"
#include "lab/lab.h"

enum { WIDTH = 64, LAYERS = 3, STEPS = 300, BATCH = 64, TEST = 2048 };
static const int64_t sizes[LAYERS + 1] = {WIDTH, 128, 128, 16};

typedef struct world {
    lab_net *base;
    lab_data train, test;
} world;

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

static crank_status make_weights(lab_trial *trial, lab_net *base, lab_net *teacher)
{
    const lab_regression_settings *settings = trial->experiment->settings;
    crank_status                   status = CRANK_OK;
    for (int l = 0; status == CRANK_OK && l < LAYERS; l++) {
        const crank_linear *linear = crank_linears_at(base->linears, (size_t)l);
        int64_t             m = linear->out, n = linear->in;
        crank_stream        stream = crank_stream_make(trial->seed, CRANK_RANDOM_DATA, 100 + (uint32_t)l);
        float              *w = lab_weight(base, linear->name);
        status = w ? decay_spectrum(trial->context, w, m, n) : crank_last_status(trial->context);
        if (status == CRANK_OK) status = lab_weight_set(base, linear->name, w);
        if (status == CRANK_OK)
            status = settings->rescale != 0 ? rescale(trial->context, w, m, n, settings->rescale, stream)
                                            : perturb(trial->context, w, m, n, settings->task_rank, settings->strength, stream);
        if (status == CRANK_OK) status = lab_weight_set(teacher, linear->name, w);
        crank_free(w);
    }
    return status;
}

static crank_status draw(lab_net *teacher, int64_t n, uint64_t seed, uint32_t index, lab_data *data)
{
    crank_context *context = teacher->context;
    double         sum = 0;
    *data = (lab_data){.n = n, .width = WIDTH};
    data->x = crank_alloc(context, (size_t)(n * WIDTH), sizeof *data->x, "samples");
    if (!data->x) return CRANK_FAILED;
    crank_fill_normal(crank_stream_make(seed, CRANK_RANDOM_DATA, index), 0, 0, 1, data->x, (size_t)(n * WIDTH));
    for (int j = 0; j < WIDTH; j++) sum += 1 / (double)(j + 1);
    for (int64_t i = 0; i < n * WIDTH; i++) data->x[i] *= (float)sqrt(WIDTH / sum / (double)(i % WIDTH + 1));
    data->y = lab_outputs(teacher, data);
    return data->y ? CRANK_OK : crank_last_status(context);
}

static crank_status prepare(lab_trial *trial)
{
    world   *made = trial->world;
    lab_net *teacher = new_net(trial->context, trial->seed);
    made->base = new_net(trial->context, trial->seed);
    crank_status status = teacher && made->base ? make_weights(trial, made->base, teacher) : crank_last_status(trial->context);
    if (status == CRANK_OK) status = draw(teacher, STEPS * BATCH, trial->seed, 1, &made->train);
    if (status == CRANK_OK) status = draw(teacher, TEST, trial->seed, 2, &made->test);
    lab_net_free(teacher);
    return status;
}

static crank_status try_method(lab_trial *trial)
{
    world       *made = trial->world;
    lab_net     *net = new_net(trial->context, trial->seed);
    double       loss = 0;
    lab_training how = {.data = &made->train, .steps = STEPS, .batch = BATCH, .schedule = CRANK_SCHEDULE_COSINE, .warmup = 10, .seed = trial->seed};
    crank_status status = net ? lab_net_copy(net, made->base) : crank_last_status(trial->context);
    if (status == CRANK_OK) status = lab_adapt(trial, net, "all-linear", &how);
    if (status == CRANK_OK) status = lab_evaluate(net, &made->test, &loss, NULL);
    if (status == CRANK_OK) status = lab_measure(trial, "loss", loss);
    lab_net_free(net);
    return status;
}

static void release(void *room)
{
    world *made = room;
    lab_net_free(made->base);
    lab_data_free(&made->train);
    lab_data_free(&made->test);
}

const lab_world lab_world_regression = {.name = "regression", .size = sizeof(world), .prepare = prepare, .trial = try_method, .release = release};
