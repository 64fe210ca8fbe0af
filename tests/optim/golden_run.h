/* golden_run.h - 50 steps of an optimiser on the matrices of tests/golden/optim/subspaces.safetensors (tests/oracle/subspaces.py). */
#ifndef CRANK_TESTS_OPTIM_GOLDEN_RUN_H
#define CRANK_TESTS_OPTIM_GOLDEN_RUN_H

#include "optim/run.h"

enum { STEPS = 50, MOST = 81 };

static crank_safetensors *file;

static inline crank_view tensor(const char *name)
{
    crank_view view;
    if (!crank_safetensors_find(file, name, &view)) fail_msg("no tensor %s", name);
    return view;
}

static inline int open_golden(void **state)
{
    crank_context *context = crank_context_new();
    *state = context;
    file = crank_safetensors_open(context, golden("optim/subspaces.safetensors"));
    return !file;
}

static inline int close_golden(void **state)
{
    crank_safetensors_close(file);
    crank_context_free(*state);
    return 0;
}

static inline double rate_of(double rate, int t) { return rate * (0.5 + 0.5 * cos((double)t / STEPS)); }

static inline crank_view of(const char *shape, const char *what)
{
    char name[64];
    snprintf(name, sizeof name, "%s.%s", shape, what);
    return tensor(name);
}

static const char *const shapes[] = { "wide", "tall", "square" };

/* |w - golden| / |golden - w0| after 50 steps, in f64 or f32 */
static inline double distance(const char *shape, const char *name, const char *method, const char *settings, double rate, double decay, bool wide)
{
    crank_view    w0 = of(shape, "w0"), g = of(shape, "g"), golden_w = of(shape, name);
    int64_t       n = crank_view_count(&w0);
    double        gradient[MOST], w[MOST], error = 0, norm = 0;
    const double *expected = golden_w.data;
    runner        r = runner_open(method, settings, wide ? CRANK_F64 : CRANK_F32, 2, w0.dims, w0.data, decay);
    for (int t = 1; t <= STEPS; t++) {
        const float *now = (const float *)g.data + (t - 1) * n;
        for (int64_t i = 0; i < n; i++) gradient[i] = now[i];
        runner_step(&r, wide ? (const void *)gradient : now, rate_of(rate, t), t, 1, false);
    }
    runner_read(&r, "w", w, CRANK_F64);
    for (int64_t i = 0; i < n; i++) {
        double moved = expected[i] - ((const float *)w0.data)[i];
        error += (w[i] - expected[i]) * (w[i] - expected[i]);
        norm += moved * moved;
    }
    runner_close(&r);
    return sqrt(error / norm);
}

typedef struct golden_case {
    const char *name, *method, *settings;
    double      rate, decay;
} golden_case;

/* In f64 and in f32, on a wide, a tall and a square matrix. Rates reach a step as f32. */
static inline void check_cases(const golden_case *cases, size_t count)
{
    for (size_t c = 0; c < count; c++)
        for (int s = 0; s < 3; s++)
            for (int wide = 0; wide < 2; wide++) {
                double error = distance(shapes[s], cases[c].name, cases[c].method, cases[c].settings, cases[c].rate, cases[c].decay, wide);
                if (!(error < (wide ? 1e-7 : 1e-5))) fail_msg("%s, %s, %s: relative error %g", cases[c].name, shapes[s], wide ? "f64" : "f32", error);
            }
}

/* Against what published code left, in f32 (tests/oracle/published.py). */
static inline void check_published(crank_context *context, const golden_case *cases, int count)
{
    crank_safetensors *results = crank_safetensors_open(context, golden("optim/published.safetensors"));
    if (!results) fail_msg("%s", crank_message(context));
    for (int c = 0; c < count; c++)
        for (int s = 0; s < 3; s++) {
            crank_view w0 = of(shapes[s], "w0"), g = of(shapes[s], "g"), expected;
            int64_t    n = crank_view_count(&w0);
            float      w[MOST];
            char       name[64];
            double     error = 0, norm = 0;
            snprintf(name, sizeof name, "%s.%s", shapes[s], cases[c].name);
            assert_true(crank_safetensors_find(results, name, &expected));
            runner r = runner_open(cases[c].method, cases[c].settings, CRANK_F32, 2, w0.dims, w0.data, cases[c].decay);
            for (int t = 1; t <= STEPS; t++) runner_step(&r, (const float *)g.data + (t - 1) * n, rate_of(cases[c].rate, t), t, 1, false);
            runner_read(&r, "w", w, CRANK_F32);
            for (int64_t i = 0; i < n; i++) {
                double to = ((const float *)expected.data)[i], moved = to - ((const float *)w0.data)[i];
                error += (w[i] - to) * (w[i] - to), norm += moved * moved;
            }
            if (!(sqrt(error / norm) < 1e-5)) fail_msg("%s: relative error %g", name, sqrt(error / norm));
            runner_close(&r);
        }
    crank_safetensors_close(results);
}

/* Normal draws for exact properties. */
static inline void draw(float *out, size_t n, uint32_t index) { crank_fill_normal(crank_stream_make(5, CRANK_RANDOM_TEST, index), 0, 0, 1, out, n); }
#endif
