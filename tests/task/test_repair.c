/* Repair of intruder dimensions: lambda 1 changes nothing, a scaled value is the only one that changes, controls take as much away. */
#include "task/intruders.h"
#include "testing.h"

enum { M = 48, N = 40, TOP = 6 };

typedef struct planted {
    crank_context        *context;
    float                 before[M * N], after[M * N];
    crank_spectral_change change;
} planted;

static void decompose(crank_context *context, const float *w, double *s) { assert_ok(context, crank_svd(context, crank_matrix_f32(w, M, N), CRANK_INSIDE_F64, crank_matrix_none(), s, crank_matrix_none())); }

/* A weight with spectrum i^-0.6 and two directions planted on top of it. */
static planted *make(void)
{
    planted       *p = calloc(1, sizeof *p);
    crank_spectrum spectrum;
    float          x[M * N], z[N * N];
    p->context = crank_context_new();
    crank_fill_normal(crank_stream_make(1, CRANK_RANDOM_TEST, 1), 0, 0, 1, x, M * N);
    crank_fill_normal(crank_stream_make(1, CRANK_RANDOM_TEST, 2), 0, 0, 1, z, N * N);
    assert_ok(p->context, crank_orthonormalise(p->context, crank_matrix_f32(x, M, N), CRANK_INSIDE_F64));
    assert_ok(p->context, crank_orthonormalise(p->context, crank_matrix_f32(z, N, N), CRANK_INSIDE_F64));
    for (int i = 0; i < M; i++)
        for (int j = 0; j < N; j++)
            for (int k = 0; k < N; k++) p->before[i * N + j] += (float)(pow(k + 1, -0.6) * (double)x[i * N + k] * (double)z[j * N + k]);
    memcpy(p->after, p->before, sizeof p->after);
    for (uint32_t t = 0; t < 2; t++) {
        float u[M], v[N];
        crank_fill_normal(crank_stream_make(2, CRANK_RANDOM_TEST, 2 * t), 0, 0, (float)(1 / sqrt(M)), u, M);
        crank_fill_normal(crank_stream_make(2, CRANK_RANDOM_TEST, 2 * t + 1), 0, 0, (float)(1 / sqrt(N)), v, N);
        for (int i = 0; i < M * N; i++) p->after[i] += (t ? 1.5f : 3) * u[i / N] * v[i % N];
    }
    assert_ok(p->context, crank_spectrum_of(p->context, crank_matrix_f32(p->before, M, N), &spectrum));
    assert_ok(p->context, crank_spectral_change_of(p->context, &spectrum, crank_matrix_f32(p->before, M, N), crank_matrix_f32(p->after, M, N), TOP, false, &p->change));
    crank_spectrum_free(&spectrum);
    return p;
}

static void done(planted *p)
{
    crank_spectral_change_free(&p->change);
    crank_context_free(p->context);
    free(p);
}

/* The square of |a - b|. */
static double squares(const float *a, const float *b)
{
    double sum = 0;
    for (int i = 0; i < M * N; i++) sum += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
    return sum;
}

static void a_factor_of_one_changes_no_bit(void **state)
{
    (void)state;
    planted *p = make();
    for (int kind = 0; kind < 4; kind++) {
        float w[M * N];
        bool  changed;
        memcpy(w, p->after, sizeof w);
        assert_ok(p->context, repair_weight(p->context, &p->change, &(repair_how){.kind = (repair_kind)kind, .lambda = 1, .all = true, .k = TOP, .epsilon = 0.6, .shrink = -1}, p->before, w, &changed));
        assert_false(changed);
        assert_memory_equal(w, p->after, sizeof w);
    }
    done(p);
}

static void only_the_scaled_singular_value_changes(void **state)
{
    (void)state;
    planted   *p = make();
    repair_how how = {.lambda = 0.3, .k = TOP, .epsilon = 0.6, .shrink = -1};
    double     s[N], repaired[N];
    float      w[M * N];
    bool       changed;
    assert_true(crank_intruders_of(&p->change, CRANK_LEFT, TOP, 0.6).count >= 2);
    memcpy(w, p->after, sizeof w);
    assert_ok(p->context, repair_weight(p->context, &p->change, &how, p->before, w, &changed));
    decompose(p->context, p->after, s);
    decompose(p->context, w, repaired);
    s[crank_intruders_of(&p->change, CRANK_LEFT, TOP, 0.6).first - 1] *= 0.3;
    for (int i = 0; i < N; i++) /* in order again */
        for (int j = i + 1; j < N; j++)
            if (s[j] > s[i]) {
                double t = s[i];
                s[i] = s[j], s[j] = t;
            }
    for (int i = 0; i < N; i++)
        if (!(fabs(s[i] - repaired[i]) < 1e-5 * s[0])) fail_msg("value %d: %.7f, expected %.7f", i, repaired[i], s[i]);
    done(p);
}

static void controls_take_as_much_away(void **state)
{
    (void)state;
    planted *p = make();
    double   moved[4];
    for (int kind = 0; kind < 4; kind++) {
        float w[M * N];
        bool  changed;
        memcpy(w, p->after, sizeof w);
        repair_how how = {.kind = (repair_kind)kind, .lambda = 0.5, .k = TOP, .epsilon = 0.6, .shrink = -1};
        assert_ok(p->context, repair_weight(p->context, &p->change, &how, p->before, w, &changed));
        assert_true(changed);
        moved[kind] = sqrt(squares(w, p->after));
    }
    assert_true(fabs(moved[REPAIR_RANDOM] / moved[REPAIR_INTRUDERS] - 1) < 1e-4);
    assert_true(fabs(moved[REPAIR_SHRINK] / moved[REPAIR_INTRUDERS] - 1) < 1e-4);
    assert_true(moved[REPAIR_NEIGHBOURS] > 0 && moved[REPAIR_NEIGHBOURS] <= moved[REPAIR_INTRUDERS]);
    done(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_factor_of_one_changes_no_bit),
        cmocka_unit_test(only_the_scaled_singular_value_changes),
        cmocka_unit_test(controls_take_as_much_away),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
