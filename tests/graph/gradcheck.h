/* gradcheck.h - holds the recorded reverse pass of a function against central finite differences, in f64 on the plain
 * bodies.
 *
 * A case is a function that records: it takes parameters and inputs from the checker (random, from a seed) and returns
 * a tensor. What is differentiated is the sum of its elements times random numbers, or the tensor itself when it is a
 * scalar. */
#ifndef CRANK_TESTS_GRADCHECK_H
#define CRANK_TESTS_GRADCHECK_H

#include "testing.h"

#include "crank/ops.h"
#include "crank/random.h"
#include "graph/graph.h"
#include "test_device.h"

enum { GRADCHECK_LEAVES = 48, GRADCHECK_SAMPLES = 150 /* elements of one parameter that are varied, at most */ };

typedef struct gradcheck {
    crank_context *context;
    crank_device *device;
    crank_params *params;
    crank_graph *graph;
    int kind; /* of the case: which variant is recorded */
    uint64_t draws;
    crank_dtype dtype; /* of random parameters and inputs */
    crank_param *param[GRADCHECK_LEAVES];
    double *value[GRADCHECK_LEAVES]; /* of each parameter */
    crank_tensor *leaf[GRADCHECK_LEAVES];
    int count;
    crank_tensor *input[GRADCHECK_LEAVES];
    void *data[GRADCHECK_LEAVES]; /* of each input */
    int inputs;
} gradcheck;

typedef crank_tensor *gradcheck_record(gradcheck *check);

#define DIMS(...)                                                                                                      \
    (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (const int64_t[])                                       \
    {                                                                                                                  \
        __VA_ARGS__                                                                                                    \
    }

static inline double gradcheck_uniform(gradcheck *check, double low, double high)
{
    crank_stream stream = crank_stream_make(7, CRANK_RANDOM_TEST, 1);
    return low + (high - low) * (double)crank_draw_uniform(stream, check->draws++);
}

static inline size_t gradcheck_size(int rank, const int64_t *dims)
{
    size_t n = 1;
    for (int i = 0; i < rank; i++) n *= (size_t)dims[i];
    return n;
}

/* A trainable parameter with elements in [low, high). */
static inline crank_tensor *gradcheck_param(gradcheck *check, double low, double high, int rank, const int64_t *dims)
{
    char name[16];
    int k = check->count++;
    size_t n = gradcheck_size(rank, dims);
    assert_in_range(k, 0, GRADCHECK_LEAVES - 1);
    snprintf(name, sizeof name, "p%d", k);
    check->param[k] = crank_params_add(check->params, name, CRANK_ROLE_WEIGHT, check->dtype, rank, dims);
    assert_non_null(check->param[k]);
    check->param[k]->trainable = true;
    check->value[k] = malloc(n * sizeof(double));
    for (size_t i = 0; i < n; i++) check->value[k][i] = gradcheck_uniform(check, low, high);
    return check->leaf[k] = crank_use(check->graph, check->param[k]);
}

static inline crank_tensor *gradcheck_given(gradcheck *check, crank_dtype dtype, const void *data, int rank,
                                            const int64_t *dims)
{
    char name[16];
    int k = check->inputs++;
    size_t bytes = gradcheck_size(rank, dims) * crank_dtype_bits(dtype) / 8;
    assert_in_range(k, 0, GRADCHECK_LEAVES - 1);
    snprintf(name, sizeof name, "i%d", k);
    check->data[k] = malloc(bytes);
    memcpy(check->data[k], data, bytes);
    return check->input[k] = crank_input(check->graph, name, dtype, rank, dims);
}

/* An input of random numbers. */
static inline crank_tensor *gradcheck_input(gradcheck *check, double low, double high, int rank, const int64_t *dims)
{
    size_t n = gradcheck_size(rank, dims);
    double *data = malloc(n * sizeof *data);
    for (size_t i = 0; i < n; i++) data[i] = gradcheck_uniform(check, low, high);
    void *converted = malloc(n * sizeof *data);
    crank_convert(converted, check->dtype, data, CRANK_F64, n);
    crank_tensor *input = gradcheck_given(check, check->dtype, converted, rank, dims);
    free(converted);
    free(data);
    return input;
}

/* An input of random integers in [low, high). */
static inline crank_tensor *gradcheck_ids(gradcheck *check, int low, int high, int rank, const int64_t *dims)
{
    size_t n = gradcheck_size(rank, dims);
    int32_t *data = malloc(n * sizeof *data);
    for (size_t i = 0; i < n; i++) data[i] = (int32_t)floor(gradcheck_uniform(check, low, high));
    crank_tensor *input = gradcheck_given(check, CRANK_I32, data, rank, dims);
    free(data);
    return input;
}

static inline double gradcheck_value(gradcheck *check, const crank_tensor *target)
{
    assert_ok(check->context, crank_run(check->graph));
    return crank_read_scalar(target);
}

/* Differences of the target in the elements of parameter k, against its gradient. */
static inline void gradcheck_compare(gradcheck *check, const char *name, const crank_tensor *target, int k,
                                     const double *gradient)
{
    size_t n = gradcheck_size(check->param[k]->view.rank, check->param[k]->view.dims);
    size_t step = n > GRADCHECK_SAMPLES ? n / GRADCHECK_SAMPLES : 1;
    double error = 0, norm = 0;
    for (size_t i = 0; i < n; i += step) {
        double *x = &check->value[k][i], old = *x, h = 1e-5 * fmax(1, fabs(old)), side[2];
        for (int s = 0; s < 2; s++) {
            *x = s ? old + h : old - h;
            assert_ok(check->context, crank_param_write(check->context, check->param[k], check->value[k], CRANK_F64));
            side[s] = gradcheck_value(check, target);
        }
        *x = old;
        double difference = (side[1] - side[0]) / (2 * h);
        error += (difference - gradient[i]) * (difference - gradient[i]);
        norm += difference * difference;
    }
    assert_ok(check->context, crank_param_write(check->context, check->param[k], check->value[k], CRANK_F64));
    if (!(sqrt(error) <= 1e-6 * fmax(sqrt(norm), 1e-3)))
        fail_msg("%s (variant %d): the gradient of parameter %d is off by %.3g, its norm is %.3g", name, check->kind, k,
                 sqrt(error), sqrt(norm));
}

/* bodies: as of crank_device_cpu. */
static inline void gradcheck_open_in(gradcheck *check, int kind, const char *bodies, crank_dtype dtype,
                                     crank_dtype compute)
{
    *check = (gradcheck){.kind = kind, .dtype = dtype, .context = crank_context_new()};
    check->device = test_device(check->context, bodies);
    assert_non_null(check->device);
    check->params = crank_params_new(check->context, check->device);
    check->graph = crank_graph_new(check->context, check->device);
    crank_graph_set_compute(check->graph, compute);
}

static inline void gradcheck_open(gradcheck *check, int kind)
{
    gradcheck_open_in(check, kind, "plain", CRANK_F64, CRANK_F64);
}

static inline void gradcheck_close(gradcheck *check)
{
    for (int k = 0; k < check->count; k++) free(check->value[k]);
    for (int k = 0; k < check->inputs; k++) free(check->data[k]);
    crank_graph_free(check->graph);
    crank_params_free(check->params);
    check->device->close(check->device);
    crank_context_free(check->context);
}

/* A scalar of what a case returned. */
static inline crank_tensor *gradcheck_target(gradcheck *check, crank_tensor *y)
{
    if (y->rank == 0) return crank_keep(y);
    crank_tensor *weights = gradcheck_input(check, -1, 1, y->rank, y->dims);
    return crank_keep(crank_sum(crank_mul(y, weights)));
}

/* Writes all leaves of a planned graph. */
static inline void gradcheck_write(gradcheck *check)
{
    for (int k = 0; k < check->count; k++)
        assert_ok(check->context, crank_param_write(check->context, check->param[k], check->value[k], CRANK_F64));
    for (int k = 0; k < check->inputs; k++) assert_ok(check->context, crank_write(check->input[k], check->data[k]));
}

/* Checks one variant of a case. `visit`, where given, sees the graph after recording and before the plan. */
static inline void gradcheck_run(const char *name, gradcheck_record *record, int kind,
                                 void (*visit)(const crank_graph *graph, void *user), void *user)
{
    gradcheck check;
    gradcheck_open(&check, kind);
    crank_tensor *target = gradcheck_target(&check, record(&check)), *gradient[GRADCHECK_LEAVES] = {0};
    crank_gradients(check.graph, &target, NULL, 1, check.leaf, check.count, gradient);
    for (int k = 0; k < check.count; k++) {
        if (crank_graph_status(check.graph) != CRANK_OK) break;
        if (!gradient[k]) fail_msg("%s (variant %d): parameter %d has no gradient", name, kind, k);
        gradient[k] = crank_keep(crank_contiguous(gradient[k]));
        assert_int_equal(gradient[k]->rank, check.leaf[k]->rank);
        assert_memory_equal(gradient[k]->dims, check.leaf[k]->dims, (size_t)gradient[k]->rank * sizeof(int64_t));
    }
    if (crank_graph_status(check.graph) != CRANK_OK)
        fail_msg("%s (variant %d): %s", name, kind, crank_message(check.context));
    if (visit) visit(check.graph, user);
    if (crank_plan(check.graph, NULL, NULL) != CRANK_OK)
        fail_msg("%s (variant %d): %s", name, kind, crank_message(check.context));
    gradcheck_write(&check);
    assert_true(isfinite(gradcheck_value(&check, target)));
    double *values[GRADCHECK_LEAVES];
    for (int k = 0; k < check.count; k++) {
        values[k] = malloc(tensor_bytes(gradient[k]));
        assert_ok(check.context, crank_read(gradient[k], values[k]));
    }
    for (int k = 0; k < check.count; k++) gradcheck_compare(&check, name, target, k, values[k]);
    for (int k = 0; k < check.count; k++) free(values[k]);
    gradcheck_close(&check);
}
#endif
