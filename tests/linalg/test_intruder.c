/* Intruder dimensions: planted ones are found, turned and flipped vectors are understood, the fast way counts as the full one. */
#include "crank/linalg.h"
#include "testing.h"

enum { SIZE = 256, TOP = 10 };

typedef struct pair_of {
    crank_context        *context;
    int64_t               m, n;
    float                *before, *after;
    crank_spectrum        spectrum;
    crank_spectral_change change;
} pair_of;

static void fill(float *out, size_t n, uint32_t index) { crank_fill_normal(crank_stream_make(5, CRANK_RANDOM_TEST, index), 0, 0, 1, out, n); }

/* Random orthonormal columns [m, r]. */
static float *orthonormal(crank_context *context, int64_t m, int64_t r, uint32_t index)
{
    float *q = malloc((size_t)(m * r) * sizeof *q);
    fill(q, (size_t)(m * r), index);
    assert_ok(context, crank_orthonormalise(context, crank_matrix_f32(q, m, r), CRANK_INSIDE_F64));
    return q;
}

/* out = x diag(s) z^T, x [m, q], z [n, q] */
static void assemble(const float *x, const double *s, const float *z, int64_t m, int64_t n, int64_t q, float *out)
{
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++) {
            double sum = 0;
            for (int64_t k = 0; k < q; k++) sum += (double)x[i * q + k] * s[k] * (double)z[j * q + k];
            out[i * n + j] = (float)sum;
        }
}

/* A weight with spectrum i^-0.6, copied to `after`. */
static pair_of make_pair(int64_t m, int64_t n)
{
    pair_of p = {.context = crank_context_new(), .m = m, .n = n};
    int64_t q = m < n ? m : n;
    double *s = malloc((size_t)q * sizeof *s);
    for (int64_t i = 0; i < q; i++) s[i] = pow((double)(i + 1), -0.6);
    float *x = orthonormal(p.context, m, q, 1), *z = orthonormal(p.context, n, q, 2);
    p.before = malloc((size_t)(m * n) * sizeof *p.before), p.after = malloc((size_t)(m * n) * sizeof *p.after);
    assemble(x, s, z, m, n, q, p.before);
    memcpy(p.after, p.before, (size_t)(m * n) * sizeof *p.after);
    assert_ok(p.context, crank_spectrum_of(p.context, crank_matrix_f32(p.before, m, n), &p.spectrum));
    free(s), free(x), free(z);
    return p;
}

static crank_intruders count(pair_of *p, crank_side side, bool fast)
{
    crank_spectral_change_free(&p->change);
    assert_ok(p->context, crank_spectral_change_of(p->context, &p->spectrum, crank_matrix_f32(p->before, p->m, p->n), crank_matrix_f32(p->after, p->m, p->n), TOP,
                                                   fast, &p->change));
    return crank_intruders_of(&p->change, side, TOP, 0.5);
}

static void done(pair_of *p)
{
    crank_spectral_change_free(&p->change);
    crank_spectrum_free(&p->spectrum);
    free(p->before), free(p->after);
    crank_context_free(p->context);
}

/* after += c u v^T, u and v random of length 1 */
static void plant(pair_of *p, double c, uint32_t index)
{
    float *u = orthonormal(p->context, p->m, 1, index), *v = orthonormal(p->context, p->n, 1, index + 1);
    for (int64_t i = 0; i < p->m; i++)
        for (int64_t j = 0; j < p->n; j++) p->after[i * p->n + j] += (float)(c * (double)u[i] * (double)v[j]);
    free(u), free(v);
}

static void the_same_weight_has_none(void **state)
{
    (void)state;
    pair_of         p = make_pair(SIZE, SIZE);
    crank_intruders found = count(&p, CRANK_LEFT, false);
    assert_true(found.count == 0 && found.first == 0 && found.energy == 0 && p.change.change == 0 && p.change.effective_rank == 0);
    assert_true(found.mean > 0.9999 && found.overlap > 0.9999);
    done(&p);
}

static void a_planted_direction_is_found_where_it_stands(void **state)
{
    (void)state;
    for (int fast = 0; fast < 2; fast++) {
        pair_of p = make_pair(SIZE, SIZE);
        plant(&p, 2, 10); /* twice the largest singular value */
        for (int side = 0; side < 2; side++) {
            crank_intruders found = count(&p, side ? CRANK_RIGHT : CRANK_LEFT, fast);
            if (found.count != 1 || found.first != 1) fail_msg("side %d, fast %d: %d intruders, first %d", side, fast, (int)found.count, (int)found.first);
            assert_true(found.energy > 0.5 && found.energy < 0.8);
        }
        assert_true(fabs(p.change.effective_rank - 1) < 1e-3);
        done(&p);
        p = make_pair(SIZE, SIZE);
        plant(&p, 0.02, 10);
        assert_int_equal(count(&p, CRANK_LEFT, fast).count, 0);
        done(&p);
    }
}

static void the_fast_way_counts_as_the_full_decomposition(void **state)
{
    (void)state;
    for (int shape = 0; shape < 2; shape++) {
        pair_of p = make_pair(shape ? 96 : 200, shape ? 200 : 96);
        for (uint32_t i = 0; i < 4; i++) plant(&p, 0.3 + 0.25 * i, 20 + 2 * i);
        crank_intruders full = count(&p, CRANK_LEFT, false);
        double          s[TOP];
        memcpy(s, p.change.s, sizeof s);
        crank_intruders fast = count(&p, CRANK_LEFT, true);
        assert_int_equal(full.count, fast.count);
        assert_int_equal(full.first, fast.first);
        for (int i = 0; i < TOP; i++) assert_true(fabs(p.change.s[i] - s[i]) < 1e-4 * s[0]);
        assert_true(fabs(full.mean - fast.mean) < 1e-2);
        done(&p);
    }
}

/* Left vectors of R W0 are R x_j: the cosines are |x_j . R^T x_i|, whatever signs the decomposition chose. */
static void a_rotation_on_the_left_changes_cosines_as_predicted(void **state)
{
    (void)state;
    enum { M = 64, Q = 64 };
    pair_of p = make_pair(M, M);
    float  *r = orthonormal(p.context, M, M, 30);
    for (int i = 0; i < M; i++)
        for (int j = 0; j < M; j++) {
            double sum = 0;
            for (int k = 0; k < M; k++) sum += (double)r[i * M + k] * (double)p.before[k * M + j];
            p.after[i * M + j] = (float)-sum; /* the sign must not matter */
        }
    count(&p, CRANK_LEFT, false);
    for (int j = 0; j < TOP; j++)
        for (int i = 0; i < Q; i++) {
            double predicted = 0;
            for (int a = 0; a < M; a++)
                for (int b = 0; b < M; b++) predicted += (double)p.spectrum.ut[i * M + a] * (double)r[a * M + b] * (double)p.spectrum.ut[j * M + b];
            assert_true(fabs(fabs(predicted) - (double)p.change.sides[CRANK_LEFT].cosines[j * Q + i]) < 1e-4);
        }
    for (int j = 0; j < TOP; j++) assert_true(p.change.sides[CRANK_RIGHT].best[j] > 0.999);
    free(r);
    done(&p);
}

/* Two equal singular values: their vectors turned by 60 degrees look like intruders one by one, not as a cluster. */
static void turned_vectors_of_equal_values_are_no_clustered_intruders(void **state)
{
    (void)state;
    enum { M = 40 };
    pair_of p = {.context = crank_context_new(), .m = M, .n = M};
    float  *x = orthonormal(p.context, M, M, 1), *z = orthonormal(p.context, M, M, 2);
    double  s[M];
    for (int i = 0; i < M; i++) s[i] = i < 3 ? 4 : 1.0 / (i + 1);
    p.before = malloc(M * M * sizeof *p.before), p.after = malloc(M * M * sizeof *p.after);
    assemble(x, s, z, M, M, M, p.before);
    s[0] = 4.3, s[1] = 4.2, s[2] = 4.1;
    for (int i = 0; i < M; i++) { /* the first three on both sides, by a matrix whose entries are all below 0.7 */
        float a = x[i * M], b = x[i * M + 1], c = x[i * M + 2], d = z[i * M], e = z[i * M + 1], f = z[i * M + 2];
        const float turn[3][3] = {{2 / 3.f, 2 / 3.f, 1 / 3.f}, {-2 / 3.f, 1 / 3.f, 2 / 3.f}, {1 / 3.f, -2 / 3.f, 2 / 3.f}};
        for (int k = 0; k < 3; k++) {
            x[i * M + k] = turn[k][0] * a + turn[k][1] * b + turn[k][2] * c;
            z[i * M + k] = turn[k][0] * d + turn[k][1] * e + turn[k][2] * f;
        }
    }
    assemble(x, s, z, M, M, M, p.after);
    assert_ok(p.context, crank_spectrum_of(p.context, crank_matrix_f32(p.before, M, M), &p.spectrum));
    assert_ok(p.context, crank_spectral_change_of(p.context, &p.spectrum, crank_matrix_f32(p.before, M, M), crank_matrix_f32(p.after, M, M), 3, false, &p.change));
    for (int j = 0; j < 3; j++) assert_true(p.change.sides[CRANK_LEFT].cluster[j] > 0.999);
    crank_intruders found = crank_intruders_of(&p.change, CRANK_LEFT, 3, 0.99);
    assert_int_equal(found.clustered, 0);
    assert_true(found.overlap > 0.999);
    free(x), free(z);
    done(&p);
}

static void a_random_direction_has_the_cosine_of_chance(void **state)
{
    (void)state;
    enum { M = 768 };
    pair_of p = {.context = crank_context_new(), .m = M, .n = M};
    float  *x = orthonormal(p.context, M, M, 1), *y = orthonormal(p.context, M, 32, 3);
    double  mean = 0;
    for (int j = 0; j < 32; j++) {
        double best = 0;
        for (int i = 0; i < M; i++) {
            double dot = 0;
            for (int k = 0; k < M; k++) dot += (double)x[k * M + i] * (double)y[k * 32 + j];
            best = fmax(best, fabs(dot));
        }
        mean += best / 32;
    }
    double chance = sqrt(2 * log((double)M) / M);
    if (!(fabs(mean / chance - 1) < 0.1)) fail_msg("mean of the largest cosine %.4f, chance %.4f", mean, chance);
    free(x), free(y);
    crank_context_free(p.context);
}

static void what_does_not_fit_is_told(void **state)
{
    (void)state;
    pair_of               p = make_pair(12, 8);
    crank_spectral_change c;
    crank_matrix          before = crank_matrix_f32(p.before, 12, 8);
    assert_int_equal(crank_spectral_change_of(p.context, &p.spectrum, before, before, 9, false, &c), CRANK_USAGE);
    assert_non_null(strstr(crank_message(p.context), "that has 8"));
    assert_int_equal(crank_spectral_change_of(p.context, &p.spectrum, before, crank_matrix_f32(p.after, 8, 12), 2, false, &c), CRANK_USAGE);
    p.after[7] = NAN;
    assert_int_equal(crank_spectral_change_of(p.context, &p.spectrum, before, crank_matrix_f32(p.after, 12, 8), 2, false, &c), CRANK_BAD_DATA);
    done(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_same_weight_has_none),
        cmocka_unit_test(a_planted_direction_is_found_where_it_stands),
        cmocka_unit_test(the_fast_way_counts_as_the_full_decomposition),
        cmocka_unit_test(a_rotation_on_the_left_changes_cosines_as_predicted),
        cmocka_unit_test(turned_vectors_of_equal_values_are_no_clustered_intruders),
        cmocka_unit_test(a_random_direction_has_the_cosine_of_chance),
        cmocka_unit_test(what_does_not_fit_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
