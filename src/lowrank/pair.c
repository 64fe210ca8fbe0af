/* pair.c - the factors A and B: creation, initial values, and what they add to a linear map.
 *
 * Initial values (delta = 0 in each):
 *   kaiming     A ~ U(-1/sqrt(in), 1/sqrt(in)), B = 0            (the code of Hu et al. and PEFT's default)
 *   gaussian    A ~ N(0, 1/r^2), B = 0
 *   orthogonal  Q [r, r] orthogonal, Q_o and Q_e its rows 0, 2, .. and 1, 3, ..: A = (R_1 Q_o)^T / 10, B = R_2 Q_e / 10 with
 *               normal R_1 [in, r/2], R_2 [out, r/2]: B A = R_2 Q_e Q_o^T R_1^T / 100 = 0 up to rounding
 *   embedding   A = 0, B ~ N(0, 1)
 * Every value is a counter-based draw keyed by the seed and the parameter's name. */
#include "lowrank/pair.h"

#include <math.h>
#include <string.h>

#include "crank/random.h"

static crank_stream init_stream(const crank_site *site, const crank_param *param)
{
    return crank_stream_make(site->seed, CRANK_RANDOM_INIT, crank_hash_name(param->name));
}

/* ---- orthogonal start ---- */

/* Rows of q [r, r] become orthonormal: modified Gram-Schmidt, twice. Normal rows are independent with probability one. */
static void orthonormalise(double *q, int64_t r)
{
    for (int64_t i = 0; i < r; i++)
        for (int pass = 0; pass < 2; pass++) {
            for (int64_t j = 0; j < i; j++) {
                double dot = 0;
                for (int64_t k = 0; k < r; k++) dot += q[i * r + k] * q[j * r + k];
                for (int64_t k = 0; k < r; k++) q[i * r + k] -= dot * q[j * r + k];
            }
            double norm = 0;
            for (int64_t k = 0; k < r; k++) norm += q[i * r + k] * q[i * r + k];
            norm = sqrt(norm);
            for (int64_t k = 0; k < r; k++) q[i * r + k] /= norm > 0 ? norm : 1;
        }
}

/* value(line, k) = sum_t R[line, t] Q[2t + parity, k] / 10, R normal from the stream; written as [n, r] or, transposed, [r, n]. */
static void mix(crank_stream stream, const double *q, int64_t r, int64_t parity, int64_t n, bool transposed, float *out)
{
    for (int64_t line = 0; line < n; line++)
        for (int64_t k = 0; k < r; k++) {
            double sum = 0;
            for (int64_t t = 0; t < r / 2; t++)
                sum += (double)crank_draw_normal(stream, (uint64_t)(line * (r / 2) + t)) * q[(2 * t + parity) * r + k];
            out[transposed ? k * n + line : line * r + k] = (float)(sum / 10);
        }
}

static crank_status orthogonal(crank_context *context, const crank_site *site, const pair *factors, int64_t r, float *host)
{
    int64_t in = site->linear->in, out = site->linear->out;
    if (r % 2)
        return crank_fail(context, CRANK_USAGE, "%s: the orthogonal start needs an even rank, not %lld", site->linear->name,
                          (long long)r);
    double *q = crank_alloc(context, (size_t)(r * r), sizeof *q, "an orthogonal matrix");
    if (!q) return CRANK_FAILED;
    crank_stream stream = init_stream(site, factors->A);
    uint64_t     first = (uint64_t)(in * (r / 2)); /* behind the draws of R_1 */
    for (int64_t i = 0; i < r * r; i++) q[i] = crank_draw_normal(stream, first + (uint64_t)i);
    orthonormalise(q, r);
    mix(stream, q, r, 0, in, true, host);
    crank_status status = crank_param_write(context, factors->A, host, CRANK_F32);
    mix(init_stream(site, factors->B), q, r, 1, out, false, host);
    if (status == CRANK_OK) status = crank_param_write(context, factors->B, host, CRANK_F32);
    crank_free(q);
    return status;
}

/* ---- creation ---- */

static crank_status initialise(crank_context *context, const crank_site *site, const pair_options *options, const pair *factors)
{
    if (!factors->A->view.data) return CRANK_OK; /* planning without memory */
    int64_t r = options->rank, in = site->linear->in, out = site->linear->out, longest = in > out ? in : out;
    bool    embedding = site->linear->kind == CRANK_LINEAR_EMBEDDING;
    float  *host = crank_alloc(context, (size_t)(r * longest), sizeof *host, "initial values of an adapter");
    if (!host) return CRANK_FAILED;
    crank_status status = CRANK_OK;
    if (embedding) {
        crank_fill_normal(init_stream(site, factors->B), 0, 0, 1, host, (size_t)(out * r));
        status = crank_param_write(context, factors->B, host, CRANK_F32);
    } else if (strcmp(options->init, "orthogonal") == 0) {
        status = orthogonal(context, site, factors, r, host);
    } else {
        float bound = (float)(1 / sqrt((double)in));
        if (strcmp(options->init, "gaussian") == 0)
            crank_fill_normal(init_stream(site, factors->A), 0, 0, (float)(1 / (double)r), host, (size_t)(r * in));
        else crank_fill_uniform(init_stream(site, factors->A), 0, -bound, bound, host, (size_t)(r * in));
        status = crank_param_write(context, factors->A, host, CRANK_F32);
    }
    crank_free(host);
    return status;
}

static bool is_bias(const crank_param *param)
{
    size_t length = strlen(param->name);
    return param->role == CRANK_ROLE_WEIGHT && length > 5 && strcmp(param->name + length - 5, ".bias") == 0;
}

/* bias: all trains every bias of the model, lora_only those of the adapted linears. */
static crank_status train_biases(crank_context *context, crank_site *site, const char *which)
{
    if (strcmp(which, "lora_only") == 0)
        return site->linear->bias ? crank_site_train(context, site, site->linear->bias) : CRANK_OK;
    if (strcmp(which, "all") != 0 || site->index != 0) return CRANK_OK;
    crank_params *params = crank_linears_params(site->linear->owner);
    for (size_t i = 0; i < crank_params_count(params); i++)
        if (is_bias(crank_params_at(params, i)) && crank_site_train(context, site, crank_params_at(params, i)))
            return CRANK_FAILED;
    return CRANK_OK;
}

crank_status pair_attach(crank_context *context, crank_site *site, const pair_options *options, pair *out)
{
    int64_t r = options->rank;
    out->scale = options->alpha / (options->rslora ? sqrt((double)r) : (double)r);
    out->A = crank_site_param(context, site, "A", CRANK_F32, 2, (const int64_t[]){ r, site->linear->in }, true);
    out->B = crank_site_param(context, site, "B", CRANK_F32, 2, (const int64_t[]){ site->linear->out, r }, true);
    if (!out->A || !out->B) return crank_last_status(context);
    out->B->rate_factor = options->lora_plus;
    crank_status status = train_biases(context, site, options->bias);
    if (status == CRANK_OK) status = crank_linear_make_room(context, site->linear, r);
    return status ? status : initialise(context, site, options, out);
}

/* ---- recording ---- */

crank_tensor *pair_delta(crank_graph *graph, const crank_site *site, const pair *factors, crank_tensor *x)
{
    crank_tensor *P = crank_linear_down(graph, site->linear, x, crank_use(graph, factors->A)); /* [n, r] */
    crank_tensor *B = crank_cast(crank_use(graph, factors->B), crank_graph_compute(graph));
    return crank_matmul_full(P, false, B, true, factors->scale, NULL, NULL, CRANK_DTYPES);
}

crank_tensor *pair_drop(crank_graph *graph, const crank_site *site, const pair_options *options, crank_tensor *x)
{
    bool drops = options->dropout > 0 && crank_graph_training(graph) && site->linear->kind == CRANK_LINEAR_DENSE;
    return drops ? crank_dropout(x, options->dropout) : x;
}

crank_status pair_give(crank_status status, int64_t r, double s, float *a, float *b, int64_t *rank, double *scale, float **A, float **B)
{
    if (status != CRANK_OK) {
        crank_free(a);
        crank_free(b);
        return status;
    }
    *rank = r;
    *scale = s;
    *A = a;
    *B = b;
    return CRANK_OK;
}

crank_status pair_read(crank_context *context, const pair *factors, int64_t *rank, double *scale, float **A, float **B)
{
    float *a = crank_alloc(context, (size_t)crank_view_count(&factors->A->view), sizeof *a, factors->A->name);
    float *b = crank_alloc(context, (size_t)crank_view_count(&factors->B->view), sizeof *b, factors->B->name);
    crank_status status = a && b ? CRANK_OK : CRANK_FAILED;
    if (status == CRANK_OK) status = crank_param_read(context, factors->A, a, CRANK_F32);
    if (status == CRANK_OK) status = crank_param_read(context, factors->B, b, CRANK_F32);
    return pair_give(status, factors->A->view.dims[0], factors->scale, a, b, rank, scale, A, B);
}
