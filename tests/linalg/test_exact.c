/* Exact decompositions: identities that define them, known spectra, every kind of shape, refusals. */
#include "linalg/worlds.h"

typedef struct kind {
    crank_dtype  dtype;
    crank_inside inside;
    double       bound;
} kind;
static const kind kinds[] = {{CRANK_F64, CRANK_INSIDE_F64, 1e-12}, {CRANK_F32, CRANK_INSIDE_F64, 1e-5}, {CRANK_F32, CRANK_INSIDE_F32, 1e-5}};
static const int64_t shapes[][2] = {{1, 1}, {1, 7}, {9, 1}, {5, 5}, {31, 17}, {17, 33}, {150, 3}, {3, 151}, {140, 133}};

#define EACH_KIND for (const kind *t = kinds; t < kinds + 3; t++)
#define EACH_SHAPE for (size_t shape = 0; shape < sizeof shapes / sizeof *shapes; shape++)

static void svd_rebuilds_from_orthonormal_vectors(void **state)
{
    EACH_KIND EACH_SHAPE {
        int64_t      m = shapes[shape][0], n = shapes[shape][1], k = m < n ? m : n;
        crank_matrix a = normals(t->dtype, m, n, (uint32_t)shape), u = zeros(t->dtype, m, k, 1), vt = zeros(t->dtype, k, n, 2);
        double       s[256];
        assert_ok(*state, crank_svd(*state, a, t->inside, u, s, vt));
        crank_matrix again = rebuilt(u, s, vt);
        assert_at_most(distance(a, again) / norm_of(a), t->bound);
        assert_at_most(unorthonormal(u, false), t->bound);
        assert_at_most(unorthonormal(vt, true), t->bound);
        for (int64_t i = 0; i + 1 < k; i++) assert_true(s[i] >= s[i + 1] && s[i + 1] >= 0);
        free(a.data), free(u.data), free(vt.data), free(again.data);
    }
}

static void svd_finds_a_planted_spectrum_and_leading_vectors_alone(void **state)
{
    double planted[20], s[20], again[20];
    for (int i = 0; i < 20; i++) planted[i] = i < 12 ? pow(2, -i) : 0; /* of rank 12 */
    crank_matrix a = with_spectrum(*state, CRANK_F64, 45, 20, planted, 0), u = zeros(CRANK_F64, 45, 20, 0), vt = zeros(CRANK_F64, 20, 20, 0);
    crank_matrix lead = zeros(CRANK_F64, 45, 3, 0);
    assert_ok(*state, crank_svd(*state, a, CRANK_INSIDE_F64, u, s, vt));
    for (int i = 0; i < 20; i++) assert_at_most(fabs(s[i] - planted[i]), 1e-14);
    assert_at_most(unorthonormal(u, false), 1e-12);
    assert_ok(*state, crank_svd(*state, a, CRANK_INSIDE_F64, lead, again, crank_matrix_none()));
    for (int64_t i = 0; i < 45; i++)
        for (int64_t j = 0; j < 3; j++) assert_true(element(lead, i, j) == element(u, i, j));
    assert_ok(*state, crank_svd(*state, a, CRANK_INSIDE_F64, crank_matrix_none(), again, crank_matrix_none()));
    for (int i = 0; i < 20; i++) assert_at_most(fabs(s[i] - again[i]), 1e-14);
    free(a.data), free(u.data), free(vt.data), free(lead.data);
}

static void svd_of_a_diagonal_is_the_diagonal(void **state)
{
    double       data[6] = {0, -3, 0, 2, 0, 0}, u[4], s[2], vt[6];
    assert_ok(*state, crank_svd(*state, crank_matrix_f64(data, 2, 3), CRANK_INSIDE_F64, crank_matrix_f64(u, 2, 2), s, crank_matrix_f64(vt, 2, 3)));
    assert_true(s[0] == 3 && s[1] == 2);
    assert_true(u[0] == 1 && u[3] == 1 && vt[1] == -1 && vt[3] == 1);
}

static void zero_matrices_have_zero_spectra_and_orthonormal_vectors(void **state)
{
    EACH_KIND {
        crank_matrix a = zeros(t->dtype, 6, 4, 0), u = zeros(t->dtype, 6, 4, 0), vt = zeros(t->dtype, 4, 4, 0), q = zeros(t->dtype, 6, 4, 0);
        crank_matrix inverse = zeros(t->dtype, 4, 6, 0);
        double       s[4];
        int64_t      rank = -1;
        assert_ok(*state, crank_svd(*state, a, t->inside, u, s, vt));
        assert_ok(*state, crank_qr(*state, a, t->inside, q, crank_matrix_none()));
        assert_ok(*state, crank_pseudo_inverse(*state, a, t->inside, 0, inverse, &rank));
        for (int i = 0; i < 4; i++) assert_true(s[i] == 0);
        assert_at_most(unorthonormal(u, false), 1e-12);
        assert_at_most(unorthonormal(q, false), 1e-12);
        assert_int_equal(rank, 0);
        assert_true(norm_of(inverse) == 0);
        free(a.data), free(u.data), free(vt.data), free(q.data), free(inverse.data);
    }
}

static void qr_rebuilds_with_a_diagonal_that_is_not_negative(void **state)
{
    EACH_KIND EACH_SHAPE {
        int64_t      m = shapes[shape][0], n = shapes[shape][1], k = m < n ? m : n;
        crank_matrix a = normals(t->dtype, m, n, (uint32_t)shape), q = zeros(t->dtype, m, k, 1), r = zeros(t->dtype, k, n, 2);
        assert_ok(*state, crank_qr(*state, a, t->inside, q, r));
        crank_matrix again = times(q, false, r, false);
        assert_at_most(distance(a, again) / norm_of(a), t->bound);
        assert_at_most(unorthonormal(q, false), t->bound);
        for (int64_t i = 0; i < k; i++) {
            assert_true(element(r, i, i) >= 0);
            for (int64_t j = 0; j < i; j++) assert_true(element(r, i, j) == 0);
        }
        free(a.data), free(q.data), free(r.data), free(again.data);
    }
}

static void dependent_columns_are_completed_to_an_orthonormal_basis(void **state)
{
    crank_matrix a = normals(CRANK_F64, 30, 6, 5);
    for (int64_t i = 0; i < 30; i++) set_element(a, i, 3, element(a, i, 0) - 2 * element(a, i, 1));
    assert_ok(*state, crank_orthonormalise(*state, a, CRANK_INSIDE_F64));
    assert_at_most(unorthonormal(a, false), 1e-12);
    free(a.data);
}

static void eigenvectors_diagonalise_a_symmetric_matrix(void **state)
{
    static const int64_t sizes[] = {1, 2, 13, 140};
    EACH_KIND for (int size = 0; size < 4; size++) {
        int64_t      n = sizes[size];
        crank_matrix half = normals(t->dtype, n, n, 40), a = zeros(t->dtype, n, n, 1), v = zeros(t->dtype, n, n, 2), vt = zeros(t->dtype, n, n, 0);
        double       values[140];
        for (int64_t i = 0; i < n; i++)
            for (int64_t j = 0; j < n; j++) set_element(a, i, j, element(half, i, j) + element(half, j, i));
        assert_ok(*state, crank_eigen(*state, a, t->inside, values, v));
        for (int64_t i = 0; i < n; i++)
            for (int64_t j = 0; j < n; j++) set_element(vt, i, j, element(v, j, i));
        crank_matrix again = rebuilt(v, values, vt);
        assert_at_most(distance(a, again) / norm_of(a), t->bound);
        assert_at_most(unorthonormal(v, false), t->bound);
        for (int64_t i = 0; i + 1 < n; i++) assert_true(values[i] >= values[i + 1]);
        free(half.data), free(a.data), free(v.data), free(vt.data), free(again.data);
    }
}

static void eigen_reads_the_lower_triangle(void **state)
{
    double a[4] = {2, 99, 1, 2}, values[2], v[2];
    assert_ok(*state, crank_eigen(*state, crank_matrix_f64(a, 2, 2), CRANK_INSIDE_F64, values, crank_matrix_f64(v, 2, 1)));
    assert_at_most(fabs(values[0] - 3) + fabs(values[1] - 1), 1e-14);
    assert_at_most(fabs(v[0] - sqrt(0.5)) + fabs(v[1] - sqrt(0.5)), 1e-14);
}

static void pseudo_inverse_meets_penroses_conditions_without_full_rank(void **state)
{
    double  planted[7] = {5, 3, 1, 0.5, 0, 0, 0};
    int64_t rank = 0, wanted = 4;
    for (int tall = 0; tall < 2; tall++) {
        crank_matrix a = with_spectrum(*state, CRANK_F64, tall ? 12 : 7, tall ? 7 : 12, planted, 3), b = zeros(CRANK_F64, a.cols, a.rows, 1);
        assert_ok(*state, crank_pseudo_inverse(*state, a, CRANK_INSIDE_F64, 1e-10, b, &rank));
        assert_int_equal(rank, wanted);
        crank_matrix ab = times(a, false, b, false), ba = times(b, false, a, false), aba = times(ab, false, a, false), bab = times(ba, false, b, false);
        assert_at_most(distance(a, aba), 1e-12);
        assert_at_most(distance(b, bab), 1e-12);
        for (int64_t i = 0; i < ab.rows; i++)
            for (int64_t j = 0; j < i; j++) assert_at_most(fabs(element(ab, i, j) - element(ab, j, i)), 1e-13);
        free(a.data), free(b.data), free(ab.data), free(ba.data), free(aba.data), free(bab.data);
    }
}

static void positive_definite_systems_are_solved_in_place_too(void **state)
{
    EACH_KIND {
        crank_matrix half = normals(t->dtype, 40, 23, 8), a = zeros(t->dtype, 23, 23, 0), x = normals(t->dtype, 23, 5, 9), b = zeros(t->dtype, 23, 5, 1);
        assert_ok(*state, crank_gram(*state, half, CRANK_RIGHT, a));
        crank_matrix product = times(a, false, x, false);
        for (int64_t i = 0; i < 23; i++)
            for (int64_t j = 0; j < 5; j++) set_element(b, i, j, element(product, i, j));
        assert_ok(*state, crank_solve_spd(*state, a, t->inside, b, b));
        assert_at_most(distance(b, x) / norm_of(x), t->bound * 50);
        free(half.data), free(a.data), free(x.data), free(b.data), free(product.data);
    }
}

static void an_indefinite_matrix_names_its_minor(void **state)
{
    double a[9] = {1, 0, 0, 0, 1, 0, 0, 0, -1}, b[3] = {1, 1, 1};
    assert_refused(*state, CRANK_BAD_DATA,
                   crank_solve_spd(*state, crank_matrix_f64(a, 3, 3), CRANK_INSIDE_F64, crank_matrix_f64(b, 3, 1), crank_matrix_f64(b, 3, 1)), "minor of order 3");
}

static void polar_factors_rebuild_and_are_nearest(void **state)
{
    EACH_KIND EACH_SHAPE {
        int64_t      m = shapes[shape][0], n = shapes[shape][1], k = m < n ? m : n;
        crank_matrix a = normals(t->dtype, m, n, (uint32_t)shape), q = zeros(t->dtype, m, n, 1), h = zeros(t->dtype, k, k, 2);
        double       s[256], nuclear = 0, trace = 0;
        assert_ok(*state, crank_polar(*state, a, t->inside, q, h));
        crank_matrix again = m >= n ? times(q, false, h, false) : times(h, false, q, false);
        assert_at_most(distance(a, again) / norm_of(a), t->bound * 4);
        assert_at_most(unorthonormal(q, m < n), t->bound * 4);
        assert_ok(*state, crank_svd(*state, a, CRANK_INSIDE_F64, crank_matrix_none(), s, crank_matrix_none()));
        for (int64_t i = 0; i < k; i++) nuclear += s[i], trace += element(h, i, i);
        assert_at_most(fabs(nuclear - trace) / nuclear, t->bound); /* <a,q> = |a|nuclear is the largest there is */
        free(a.data), free(q.data), free(h.data), free(again.data);
    }
}

static void what_is_not_finite_is_named_with_its_place(void **state)
{
    float        data[12] = {0}, out[16];
    crank_matrix a = crank_matrix_f32(data, 3, 4), none = crank_matrix_none();
    data[6] = NAN;
    assert_refused(*state, CRANK_BAD_DATA, crank_svd(*state, a, CRANK_INSIDE_F64, none, NULL, none), "a [3,4] holds nan at row 1, column 2");
    data[6] = -INFINITY;
    assert_refused(*state, CRANK_BAD_DATA, crank_qr(*state, a, CRANK_INSIDE_F64, none, none), "-inf at row 1, column 2");
    assert_refused(*state, CRANK_BAD_DATA, crank_pseudo_inverse(*state, a, CRANK_INSIDE_F64, 0, crank_matrix_f32(out, 4, 3), NULL), "finite");
    assert_refused(*state, CRANK_BAD_DATA, crank_polar(*state, a, CRANK_INSIDE_F64, none, none), "finite");
}

static void shapes_and_types_that_do_not_fit_are_refused(void **state)
{
    double       data[16] = {1}, out[16];
    crank_matrix a = crank_matrix_f64(data, 3, 4), none = crank_matrix_none();
    assert_refused(*state, CRANK_USAGE, crank_svd(*state, a, CRANK_INSIDE_F64, crank_matrix_f64(out, 4, 3), NULL, none), "u is [4,3], but [3,3] is needed");
    assert_refused(*state, CRANK_USAGE, crank_svd(*state, a, CRANK_INSIDE_F64, crank_matrix_f64(out, 3, 4), NULL, none), "4 singular vectors");
    assert_refused(*state, CRANK_USAGE, crank_svd(*state, a, CRANK_INSIDE_F32, none, NULL, none), "float matrices only");
    assert_refused(*state, CRANK_USAGE, crank_svd(*state, none, CRANK_INSIDE_F64, none, NULL, none), "missing");
    assert_refused(*state, CRANK_USAGE, crank_svd(*state, crank_matrix_make(data, CRANK_F64, 2, 4, 3), CRANK_INSIDE_F64, none, NULL, none), "stride");
    assert_refused(*state, CRANK_USAGE, crank_svd(*state, crank_matrix_make(data, CRANK_F64, 0, 4, 4), CRANK_INSIDE_F64, none, NULL, none), "sizes");
    assert_refused(*state, CRANK_USAGE, crank_svd(*state, crank_matrix_make(data, CRANK_BF16, 2, 4, 4), CRANK_INSIDE_F64, none, NULL, none), "float or double");
    assert_refused(*state, CRANK_USAGE, crank_eigen(*state, a, CRANK_INSIDE_F64, NULL, none), "[3,3] is needed");
    assert_refused(*state, CRANK_USAGE, crank_orthonormalise(*state, a, CRANK_INSIDE_F64), "cannot be orthogonal");
    assert_refused(*state, CRANK_USAGE, crank_pseudo_inverse(*state, a, CRANK_INSIDE_F64, -1, crank_matrix_f64(out, 4, 3), NULL), "tolerance");
}

static void large_problems_give_the_same_bits_twice(void **state)
{
    crank_set_threads(*state, 2);
    crank_matrix a = normals(CRANK_F64, 210, 180, 2);
    crank_matrix u[2], vt[2], q[2];
    for (int run = 0; run < 2; run++) {
        u[run] = zeros(CRANK_F64, 210, 180, 0), vt[run] = zeros(CRANK_F64, 180, 180, 0), q[run] = zeros(CRANK_F64, 210, 180, 0);
        assert_ok(*state, crank_svd(*state, a, CRANK_INSIDE_F64, u[run], NULL, vt[run]));
        assert_ok(*state, crank_qr(*state, a, CRANK_INSIDE_F64, q[run], crank_matrix_none()));
    }
    assert_memory_equal(u[0].data, u[1].data, 210 * 180 * 8);
    assert_memory_equal(vt[0].data, vt[1].data, 180 * 180 * 8);
    assert_memory_equal(q[0].data, q[1].data, 210 * 180 * 8);
    for (int run = 0; run < 2; run++) free(u[run].data), free(vt[run].data), free(q[run].data);
    free(a.data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(svd_rebuilds_from_orthonormal_vectors),
        cmocka_unit_test(svd_finds_a_planted_spectrum_and_leading_vectors_alone),
        cmocka_unit_test(svd_of_a_diagonal_is_the_diagonal),
        cmocka_unit_test(zero_matrices_have_zero_spectra_and_orthonormal_vectors),
        cmocka_unit_test(qr_rebuilds_with_a_diagonal_that_is_not_negative),
        cmocka_unit_test(dependent_columns_are_completed_to_an_orthonormal_basis),
        cmocka_unit_test(eigenvectors_diagonalise_a_symmetric_matrix),
        cmocka_unit_test(eigen_reads_the_lower_triangle),
        cmocka_unit_test(pseudo_inverse_meets_penroses_conditions_without_full_rank),
        cmocka_unit_test(positive_definite_systems_are_solved_in_place_too),
        cmocka_unit_test(an_indefinite_matrix_names_its_minor),
        cmocka_unit_test(polar_factors_rebuild_and_are_nearest),
        cmocka_unit_test(what_is_not_finite_is_named_with_its_place),
        cmocka_unit_test(shapes_and_types_that_do_not_fit_are_refused),
        cmocka_unit_test(large_problems_give_the_same_bits_twice),
    };
    return cmocka_run_group_tests(tests, fresh_context, end_context);
}
