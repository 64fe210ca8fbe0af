/* checks.h - what every method promises, as checks on a world: gradients, merging, switching off. */
#ifndef CRANK_TESTS_LOWRANK_CHECKS_H
#define CRANK_TESTS_LOWRANK_CHECKS_H

#include "linear/world.h"

#ifndef CHECKS_IN /* a test of methods whose sizes must divide sets them */
#define CHECKS_IN 7
#define CHECKS_OUT 6
#endif
enum { N = 5, IN = CHECKS_IN, OUT = CHECKS_OUT };

static double x[N * IN], dy[N * OUT];

static inline int checks_fill(void **state)
{
    (void)state;
    world_fill(x, N * IN, 1, 1);
    world_fill(dy, N * OUT, 2, 1);
    return 0;
}

/* c [m, n] = op(a) op(b), all row-major; trans_a: a is [k, m], trans_b: b is [n, k]. */
static inline void product(const double *a, bool trans_a, const double *b, bool trans_b, size_t m, size_t k, size_t n, double *c)
{
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++) {
            double sum = 0;
            for (size_t l = 0; l < k; l++) sum += (trans_a ? a[l * m + i] : a[i * k + l]) * (trans_b ? b[j * k + l] : b[l * n + j]);
            c[i * n + j] = sum;
        }
}

static inline double *outputs(world *w, crank_linear *linear, const double *input, crank_dtype type, bool training)
{
    pass p = { .n = N, .x = input, .compute = type, .training = training, .step = 3 };
    world_run(w, linear, &p);
    return p.y;
}

static inline double inner(world *w, crank_linear *linear, const double *input)
{
    double *y = outputs(w, linear, input, CRANK_F64, true), sum = 0;
    for (size_t i = 0; i < (size_t)(N * linear->out); i++) sum += y[i] * dy[i];
    free(y);
    return sum;
}

/* Gradients of <dy, y> by the named parameters against central differences, in f64. */
static inline void check_differences(world *w, crank_linear *linear, const double *input, const char *const *wrt)
{
    pass p = { .n = N, .x = input, .dy = dy, .compute = CRANK_F64, .training = true, .step = 3, .wrt = wrt };
    world_run(w, linear, &p);
    for (int k = 0; wrt[k]; k++) {
        double *values = world_values(w, wrt[k]);
        size_t  n = world_count(world_param(w, wrt[k]));
        double *numeric = calloc(n, sizeof *numeric);
        for (size_t i = 0; i < n; i++) {
            double kept = values[i], h = 1e-5;
            values[i] = kept + h;
            world_write(w, wrt[k], values);
            numeric[i] = inner(w, linear, input);
            values[i] = kept - h;
            world_write(w, wrt[k], values);
            numeric[i] = (numeric[i] - inner(w, linear, input)) / (2 * h);
            values[i] = kept;
        }
        world_write(w, wrt[k], values);
        if (!p.grads[k]) fail_msg("no gradient for %s", wrt[k]);
        if (!(distance(p.grads[k], numeric, n) <= 1e-7)) fail_msg("%s: relative distance %g", wrt[k], distance(p.grads[k], numeric, n));
        free(values), free(numeric);
    }
    pass_free(&p);
}

/* dx against central differences. */
static inline void check_input_gradient(world *w, crank_linear *linear)
{
    pass   p = { .n = N, .x = x, .dy = dy, .compute = CRANK_F64, .training = true, .step = 3 };
    double moved[N * IN], numeric[N * IN];
    world_run(w, linear, &p);
    memcpy(moved, x, sizeof moved);
    for (int i = 0; i < N * IN; i++) {
        moved[i] = x[i] + 1e-5;
        numeric[i] = inner(w, linear, moved);
        moved[i] = x[i] - 1e-5;
        numeric[i] = (numeric[i] - inner(w, linear, moved)) / 2e-5;
        moved[i] = x[i];
    }
    assert_near(p.dx, numeric, N * IN, 1e-7);
    pass_free(&p);
}

/* The merged weight gives the adapted outputs, within 1e-5 in f32; unmerged, the old ones bit for bit. */
static inline void check_merge(world *w, crank_linear *linear)
{
    double *adapted = outputs(w, linear, x, CRANK_F32, false);
    assert_ok(w->context, crank_linears_merge(w->context, w->linears, true, true));
    double *merged = outputs(w, linear, x, CRANK_F32, false);
    assert_near(merged, adapted, (size_t)(N * linear->out), 1e-5);
    assert_ok(w->context, crank_linears_unmerge(w->context, w->linears));
    double *again = outputs(w, linear, x, CRANK_F32, false);
    assert_memory_equal(again, adapted, sizeof(double) * (size_t)(N * linear->out));
    free(adapted), free(merged), free(again);
}

/* A merge that kept nothing: unmerging solves for the weight and bias, to 1e-5 in f32. */
static inline void check_unmerge(world *w, crank_linear *linear)
{
    size_t  n = (size_t)(linear->in * linear->out);
    double *before = calloc(n, sizeof *before), *after = calloc(n, sizeof *after), *adapted = outputs(w, linear, x, CRANK_F32, false);
    double *bias = linear->bias ? calloc((size_t)linear->out, sizeof *bias) : NULL;
    assert_ok(w->context, crank_param_read(w->context, linear->weight, before, CRANK_F64));
    if (bias) assert_ok(w->context, crank_param_read(w->context, linear->bias, bias, CRANK_F64));
    assert_ok(w->context, crank_linears_merge(w->context, w->linears, true, false));
    assert_ok(w->context, crank_param_read(w->context, linear->weight, after, CRANK_F64));
    assert_true(distance(after, before, n) > 1e-3);
    if (crank_linears_unmerge(w->context, w->linears)) fail_msg("%s", crank_message(w->context));
    assert_ok(w->context, crank_param_read(w->context, linear->weight, after, CRANK_F64));
    assert_near(after, before, n, 1e-5);
    double *again = outputs(w, linear, x, CRANK_F32, false);
    assert_near(again, adapted, (size_t)(N * linear->out), 1e-5);
    assert_ok(w->context, crank_param_write(w->context, linear->weight, before, CRANK_F64)); /* the bits that other checks compare */
    if (bias) assert_ok(w->context, crank_param_write(w->context, linear->bias, bias, CRANK_F64));
    free(bias), free(before), free(after), free(adapted), free(again);
}

/* Off is the model below bit for bit; on again is what it was. `base`: outputs before the method was attached. */
static inline void check_off(world *w, crank_linear *linear, crank_attachment *attachment, const double *base)
{
    size_t  bytes = sizeof(double) * (size_t)(N * linear->out);
    double *on = outputs(w, linear, x, CRANK_F32, false);
    crank_attachment_set(attachment, false, 1);
    double *off = outputs(w, linear, x, CRANK_F32, false);
    crank_attachment_set(attachment, true, 1);
    double *again = outputs(w, linear, x, CRANK_F32, false);
    assert_memory_equal(off, base, bytes);
    assert_memory_equal(on, again, bytes);
    assert_memory_not_equal(on, off, bytes);
    free(on), free(off), free(again);
}

/* The pair that the method exports as plain LoRA gives the method's own outputs: W x + s B (A x) + b. */
static inline void check_export(world *w, crank_linear *linear, const crank_map *map, crank_attachment *attachment, int64_t expected_rank)
{
    int64_t rank;
    double  scale;
    float  *A, *B;
    int     count;
    crank_site *site = &crank_attachment_sites(attachment, &count)[0];
    assert_ok(w->context, map->as_lora(w->context, site, &rank, &scale, &A, &B));
    assert_int_equal(rank, expected_rank);
    double *adapted = outputs(w, linear, x, CRANK_F32, false);
    crank_attachment_set(attachment, false, 1);
    double *y = outputs(w, linear, x, CRANK_F32, false);
    crank_attachment_set(attachment, true, 1);
    for (int64_t n = 0; n < N; n++)
        for (int64_t k = 0; k < rank; k++) {
            double u = 0;
            for (int64_t i = 0; i < linear->in; i++) u += (double)A[k * linear->in + i] * x[n * linear->in + i];
            for (int64_t o = 0; o < linear->out; o++) y[n * linear->out + o] += scale * u * (double)B[o * rank + k];
        }
    assert_near(y, adapted, (size_t)(N * linear->out), 1e-5);
    free(y), free(adapted);
    crank_free(A), crank_free(B);
}
#endif
