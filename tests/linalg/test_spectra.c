/* Sylvester equations, Gram matrices, spectra and principal angles: residuals, closed forms, planted subspaces. */
#include "linalg/worlds.h"

static double sylvester_residual(crank_matrix p, crank_matrix q, crank_matrix x, crank_matrix c)
{
    crank_matrix px = times(p, false, x, false), xq = times(x, false, q, false);
    for (int64_t i = 0; i < c.rows; i++)
        for (int64_t j = 0; j < c.cols; j++) set_element(px, i, j, element(px, i, j) + element(xq, i, j));
    double residual = distance(px, c) / fmax(norm_of(c), 1e-30);
    free(px.data), free(xq.data);
    return residual;
}

static void sylvester_equations_of_gram_matrices_are_solved(void **state)
{
    static const int64_t ranks[] = {1, 2, 8, 33};
    for (int i = 0; i < 4; i++)
        for (int single = 0; single < 2; single++) {
            int64_t      r = ranks[i];
            crank_dtype  dtype = single ? CRANK_F32 : CRANK_F64;
            crank_matrix b = normals(dtype, 50, r, 1), a = normals(dtype, r, 70, 2), c = normals(dtype, r, r, 3), x = zeros(dtype, r, r, 1);
            crank_matrix p = zeros(dtype, r, r, 0), q = zeros(dtype, r, r, 2);
            assert_ok(*state, crank_gram(*state, b, CRANK_RIGHT, p));
            assert_ok(*state, crank_gram(*state, a, CRANK_LEFT, q));
            assert_ok(*state, crank_sylvester(*state, p, q, c, single ? CRANK_INSIDE_F32 : CRANK_INSIDE_F64, 0, x, NULL));
            assert_at_most(sylvester_residual(p, q, x, c), single ? 2e-5 : 1e-12);
            free(b.data), free(a.data), free(c.data), free(x.data), free(p.data), free(q.data);
        }
}

static void sylvester_takes_two_sizes_and_works_in_place(void **state)
{
    crank_matrix b = normals(CRANK_F64, 9, 4, 5), a = normals(CRANK_F64, 7, 30, 6), p = zeros(CRANK_F64, 4, 4, 0), q = zeros(CRANK_F64, 7, 7, 0);
    crank_matrix c = normals(CRANK_F64, 4, 7, 7), x = normals(CRANK_F64, 4, 7, 7);
    assert_ok(*state, crank_gram(*state, b, CRANK_RIGHT, p));
    assert_ok(*state, crank_gram(*state, a, CRANK_LEFT, q));
    assert_ok(*state, crank_sylvester(*state, p, q, x, CRANK_INSIDE_F64, 0, x, NULL));
    assert_at_most(sylvester_residual(p, q, x, c), 1e-12);
    free(b.data), free(a.data), free(p.data), free(q.data), free(c.data), free(x.data);
}

static void a_singular_sylvester_equation_is_told_or_solved_with_least_norm(void **state)
{
    double  p[4] = {1, 0, 0, 0}, q[4] = {0, 0, 0, 2}, c[4] = {3, 6, 9, 8}, x[4] = {0};
    int64_t singular = 0;
    assert_refused(*state, CRANK_BAD_DATA,
                   crank_sylvester(*state, crank_matrix_f64(p, 2, 2), crank_matrix_f64(q, 2, 2), crank_matrix_f64(c, 2, 2), CRANK_INSIDE_F64, 0,
                                   crank_matrix_f64(x, 2, 2), NULL),
                   "1 of 4 sums");
    assert_ok(*state, crank_sylvester(*state, crank_matrix_f64(p, 2, 2), crank_matrix_f64(q, 2, 2), crank_matrix_f64(c, 2, 2), CRANK_INSIDE_F64, 0,
                                      crank_matrix_f64(x, 2, 2), &singular));
    assert_int_equal(singular, 1);
    const double wanted[4] = {3, 2, 0, 4};
    for (int i = 0; i < 4; i++) assert_at_most(fabs(x[i] - wanted[i]), 1e-14);
}

static void gram_matrices_of_floats_are_summed_in_double(void **state)
{
    for (int side = 0; side < 2; side++) {
        crank_matrix a = normals(CRANK_F32, side ? 1300 : 5, side ? 5 : 1300, 11), out = zeros(CRANK_F64, 5, 5, 1);
        assert_ok(*state, crank_gram(*state, a, side ? CRANK_RIGHT : CRANK_LEFT, out));
        crank_matrix wanted = times(a, side, a, !side);
        assert_at_most(distance(out, wanted) / norm_of(wanted), 1e-13); /* float sums would leave 1e-7 */
        for (int64_t i = 0; i < 5; i++)
            for (int64_t j = 0; j < i; j++) assert_true(element(out, i, j) == element(out, j, i));
        free(a.data), free(out.data), free(wanted.data);
    }
}

static void wide_and_tall_matrices_decompose_through_their_gram_matrix(void **state)
{
    for (int wide = 0; wide < 2; wide++)
        for (int single = 0; single < 2; single++) {
            double       s[9] = {4, 3, 2, 1, 0.5, 0.25, 0.125, 0, 0}, found[9], bound = single ? 2e-6 : 1e-10;
            crank_dtype  dtype = single ? CRANK_F32 : CRANK_F64;
            crank_matrix a = with_spectrum(*state, dtype, wide ? 9 : 800, wide ? 800 : 9, s, 20);
            crank_matrix u = zeros(dtype, a.rows, 7, 1), vt = zeros(dtype, 7, a.cols, 0);
            int64_t      rank;
            assert_ok(*state, crank_gram_svd(*state, a, u, found, vt, &rank));
            if (!single) assert_int_equal(rank, 7); /* rounding to float fills the null space to about 1e-7 */
            for (int i = 0; i < 7; i++) assert_at_most(fabs(found[i] - s[i]), bound);
            crank_matrix again = rebuilt(u, found, vt);
            assert_at_most(distance(a, again), 4 * bound);
            assert_at_most(unorthonormal(u, false), 1e-5);
            assert_at_most(unorthonormal(vt, true), 1e-5);
            free(a.data), free(u.data), free(vt.data), free(again.data);
        }
}

static void vectors_of_lost_values_are_zero(void **state)
{
    crank_matrix a = zeros(CRANK_F64, 2, 50, 0), u = zeros(CRANK_F64, 2, 2, 0), vt = zeros(CRANK_F64, 2, 50, 0);
    double       s[2];
    int64_t      rank;
    for (int64_t j = 0; j < 50; j++) set_element(a, 0, j, 1);
    assert_ok(*state, crank_gram_svd(*state, a, u, s, vt, &rank));
    assert_int_equal(rank, 1);
    assert_at_most(fabs(s[0] - sqrt(50)), 1e-13);
    assert_true(s[1] == 0);
    for (int64_t j = 0; j < 50; j++) assert_true(element(vt, 1, j) == 0);
    assert_at_most(unorthonormal(u, false), 1e-14);
    free(a.data), free(u.data), free(vt.data);
}

static void ranks_and_norms_have_their_closed_forms(void **state)
{
    (void)state;
    const double flat[5] = {2, 2, 2, 2, 2}, one[4] = {0, 7, 0, 0}, mixed[3] = {1, 2, 1}, none[2] = {0, 0}, huge[2] = {1e300, 1e300};
    assert_at_most(fabs(crank_effective_rank(flat, 5) - 5), 1e-12);
    assert_at_most(fabs(crank_effective_rank(one, 4) - 1), 1e-12);
    assert_at_most(fabs(crank_effective_rank(mixed, 3) - pow(2, 1.5)), 1e-12); /* -(2/4 log 1/4 + 1/2 log 1/2) = 1.5 log 2 */
    assert_at_most(fabs(crank_effective_rank(huge, 2) - 2), 1e-12);
    assert_at_most(fabs(crank_stable_rank(flat, 5) - 5), 1e-12);
    assert_at_most(fabs(crank_stable_rank(mixed, 3) - 1.5), 1e-12);
    assert_at_most(fabs(crank_stable_rank(huge, 2) - 2), 1e-12);
    assert_true(crank_nuclear_norm(mixed, 3) == 4);
    assert_int_equal(crank_numerical_rank(mixed, 3, 0.5), 1);
    assert_int_equal(crank_numerical_rank(mixed, 3, 0.49), 3);
    assert_true(crank_effective_rank(none, 2) == 0 && crank_stable_rank(none, 2) == 0 && crank_numerical_rank(none, 2, 0) == 0);
}

static void power_iteration_finds_the_spectral_norm(void **state)
{
    crank_stream stream = crank_stream_make(1, CRANK_RANDOM_TEST, 1);
    double       s[20], norm = -1, one = -3;
    for (int i = 0; i < 20; i++) s[i] = 5 * pow(0.8, i);
    crank_matrix a = with_spectrum(*state, CRANK_F64, 20, 31, s, 30), f = with_spectrum(*state, CRANK_F32, 31, 20, s, 31), z = zeros(CRANK_F32, 3, 2, 0);
    assert_ok(*state, crank_spectral_norm(*state, a, stream, 1e-12, 500, &norm));
    assert_at_most(fabs(norm - 5), 1e-10);
    assert_ok(*state, crank_spectral_norm(*state, f, stream, 1e-6, 500, &norm));
    assert_at_most(fabs(norm - 5), 1e-4);
    assert_ok(*state, crank_spectral_norm(*state, z, stream, 1e-6, 5, &norm));
    assert_true(norm == 0);
    assert_ok(*state, crank_spectral_norm(*state, crank_matrix_f64(&one, 1, 1), stream, 1e-12, 5, &norm));
    assert_at_most(fabs(norm - 3), 1e-14);
    assert_refused(*state, CRANK_BAD_DATA, crank_spectral_norm(*state, a, stream, 1e-12, 2, &norm), "does not settle");
    assert_refused(*state, CRANK_USAGE, crank_spectral_norm(*state, f, stream, 1e-9, 500, &norm), "tolerance");
    free(a.data), free(f.data), free(z.data);
}

static void planted_angles_are_found_small_and_large(void **state)
{
    const double planted[4] = {1e-9, 0.3, 1.2, M_PI / 2};
    crank_matrix base = normals(CRANK_F64, 40, 8, 41), p = zeros(CRANK_F64, 40, 4, 1), q = zeros(CRANK_F64, 40, 4, 0);
    double       angles[4];
    assert_ok(*state, crank_orthonormalise(*state, base, CRANK_INSIDE_F64));
    for (int64_t i = 0; i < 40; i++)
        for (int64_t j = 0; j < 4; j++) {
            double x = element(base, i, j), y = element(base, i, 4 + j);
            set_element(p, i, j, 3 * x + (j ? element(base, i, j - 1) : 0)); /* any basis of the same space */
            set_element(q, i, j, cos(planted[j]) * x + sin(planted[j]) * y);
        }
    assert_ok(*state, crank_principal_angles(*state, p, q, angles));
    for (int i = 0; i < 4; i++) assert_at_most(fabs(angles[i] - planted[i]), 1e-14);
    q.cols = 2;
    assert_ok(*state, crank_principal_angles(*state, q, p, angles)); /* of two sizes: min(a,b) angles */
    for (int i = 0; i < 2; i++) assert_at_most(fabs(angles[i] - planted[i]), 1e-14);
    assert_ok(*state, crank_principal_angles(*state, p, p, angles));
    for (int i = 0; i < 4; i++) assert_at_most(angles[i], 1e-14);
    free(base.data), free(p.data), free(q.data);
}

static void more_columns_than_rows_span_no_subspace(void **state)
{
    double p[6] = {1, 2, 3, 4, 5, 6}, angles[3];
    assert_refused(*state, CRANK_USAGE, crank_principal_angles(*state, crank_matrix_f64(p, 2, 3), crank_matrix_f64(p, 2, 2), angles), "independent");
    assert_refused(*state, CRANK_USAGE, crank_principal_angles(*state, crank_matrix_f64(p, 3, 2), crank_matrix_f64(p, 2, 2), angles), "[3,2] is needed");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sylvester_equations_of_gram_matrices_are_solved),
        cmocka_unit_test(sylvester_takes_two_sizes_and_works_in_place),
        cmocka_unit_test(a_singular_sylvester_equation_is_told_or_solved_with_least_norm),
        cmocka_unit_test(gram_matrices_of_floats_are_summed_in_double),
        cmocka_unit_test(wide_and_tall_matrices_decompose_through_their_gram_matrix),
        cmocka_unit_test(vectors_of_lost_values_are_zero),
        cmocka_unit_test(ranks_and_norms_have_their_closed_forms),
        cmocka_unit_test(power_iteration_finds_the_spectral_norm),
        cmocka_unit_test(planted_angles_are_found_small_and_large),
        cmocka_unit_test(more_columns_than_rows_span_no_subspace),
    };
    return cmocka_run_group_tests(tests, fresh_context, end_context);
}
