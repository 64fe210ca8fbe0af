/* Randomised and iterated bases against the exact decomposition: captured energy, error bounds, warm starts, equal bits. */
#include "linalg/worlds.h"

static const crank_dtype types[] = {CRANK_F32, CRANK_F64};

static crank_sketch sketch_of(int64_t rank, int64_t oversample, int64_t powers)
{
    return (crank_sketch){.rank = rank, .oversample = oversample, .powers = powers, .stream = crank_stream_make(3, CRANK_RANDOM_TEST, 50)};
}

/* The energy of the r largest of k values. */
static double best_energy(const double *s, int64_t k, int64_t r)
{
    double head = 0, all = 0;
    for (int64_t i = 0; i < k; i++) all += s[i] * s[i], head += i < r ? s[i] * s[i] : 0;
    return head / all;
}

static void decaying(double *s, int64_t k, double exponent)
{
    for (int64_t i = 0; i < k; i++) s[i] = pow(1 + (double)i / 4, -exponent);
}

/* The spectral norm of a - q q^T a, exactly. */
static double true_error(crank_context *context, crank_matrix a, crank_matrix q, bool right)
{
    crank_matrix projection = right ? times(a, false, q, false) : times(q, true, a, false);
    crank_matrix inside = right ? times(projection, false, q, true) : times(q, false, projection, false);
    double       s[128];
    for (int64_t i = 0; i < a.rows; i++)
        for (int64_t j = 0; j < a.cols; j++) set_element(inside, i, j, element(a, i, j) - element(inside, i, j));
    assert_ok(context, crank_svd(context, inside, CRANK_INSIDE_F64, crank_matrix_none(), s, crank_matrix_none()));
    free(projection.data), free(inside.data);
    return s[0];
}

static void the_range_finder_holds_nearly_what_is_possible_and_bounds_its_error(void **state)
{
    for (int type = 0; type < 2; type++)
        for (int right = 0; right < 2; right++)
            for (int decay = 1; decay <= 2; decay++) {
                double s[71];
                decaying(s, 71, decay);
                crank_matrix  a = with_spectrum(*state, types[type], right ? 71 : 110, right ? 110 : 71, s, (uint32_t)decay);
                crank_sketch  sketch = sketch_of(15, 8, 1);
                crank_matrix  q = zeros(types[type], 110, crank_sketch_columns(a, &sketch), 1);
                crank_capture capture;
                assert_int_equal(q.cols, 23);
                assert_ok(*state, crank_range_finder(*state, a, right ? CRANK_RIGHT : CRANK_LEFT, &sketch, q, &capture));
                assert_at_most(unorthonormal(q, false), types[type] == CRANK_F32 ? 1e-5 : 1e-12);
                assert_at_most(0.99 * best_energy(s, 71, 15), capture.energy);
                assert_at_most(capture.energy, best_energy(s, 71, 23) + 1e-6);
                assert_at_most(true_error(*state, a, q, right), capture.error);
                assert_at_most(fabs(capture.norm - norm_of(a)) / capture.norm, 1e-6);
                free(a.data), free(q.data);
            }
}

static void power_iterations_raise_the_captured_energy_of_a_flat_spectrum(void **state)
{
    double s[90], energy[3];
    decaying(s, 90, 0.5);
    crank_matrix a = with_spectrum(*state, CRANK_F64, 120, 90, s, 7), q = zeros(CRANK_F64, 120, 20, 0);
    for (int powers = 0; powers < 3; powers++) {
        crank_sketch  sketch = sketch_of(20, 0, powers * 3);
        crank_capture capture;
        assert_ok(*state, crank_range_finder(*state, a, CRANK_LEFT, &sketch, q, &capture));
        energy[powers] = capture.energy;
    }
    assert_true(energy[0] < energy[1] && energy[1] < energy[2]);
    assert_at_most(0.99 * best_energy(s, 90, 20), energy[2]);
    free(a.data), free(q.data);
}

static void the_randomised_svd_is_the_exact_one_where_the_spectrum_decays(void **state)
{
    for (int type = 0; type < 2; type++)
        for (int wide = 0; wide < 2; wide++) {
            double s[60], found[10], exact[60];
            for (int i = 0; i < 60; i++) s[i] = pow(0.7, i);
            crank_matrix  a = with_spectrum(*state, types[type], wide ? 60 : 101, wide ? 101 : 60, s, 9);
            crank_matrix  u = zeros(types[type], a.rows, 10, 2), vt = zeros(types[type], 10, a.cols, 1), lead = zeros(types[type], a.rows, 10, 0);
            crank_sketch  sketch = sketch_of(10, 10, 2);
            crank_capture capture;
            double        bound = types[type] == CRANK_F32 ? 2e-5 : 1e-6;
            assert_ok(*state, crank_randomised_svd(*state, a, &sketch, u, found, vt, &capture));
            assert_ok(*state, crank_svd(*state, a, CRANK_INSIDE_F64, lead, exact, crank_matrix_none()));
            for (int i = 0; i < 10; i++) assert_at_most(fabs(found[i] - exact[i]), bound);
            assert_at_most(distance(u, lead), 100 * bound); /* signs agree too */
            assert_at_most(unorthonormal(u, false), types[type] == CRANK_F32 ? 1e-5 : 1e-12);
            assert_at_most(unorthonormal(vt, true), types[type] == CRANK_F32 ? 1e-5 : 1e-12);
            assert_at_most(exact[10] * 0.999, capture.error);
            assert_at_most(capture.error, 3 * exact[10]);
            assert_at_most(fabs(capture.energy - best_energy(s, 60, 10)), 1e-5);
            free(a.data), free(u.data), free(vt.data), free(lead.data);
        }
}

static void a_sketch_as_wide_as_the_matrix_is_exact(void **state)
{
    crank_matrix  a = normals(CRANK_F64, 9, 5, 60), u = zeros(CRANK_F64, 9, 5, 0), vt = zeros(CRANK_F64, 5, 5, 0);
    crank_sketch  sketch = sketch_of(5, 100, 0);
    crank_capture capture;
    double        s[5];
    assert_ok(*state, crank_randomised_svd(*state, a, &sketch, u, s, vt, &capture));
    crank_matrix again = rebuilt(u, s, vt);
    assert_at_most(distance(a, again), 1e-13);
    assert_at_most(capture.error, 1e-13);
    assert_at_most(distance(a, again), capture.error + 1e-14);
    free(a.data), free(u.data), free(vt.data), free(again.data);
}

static void one_by_one_rows_columns_and_zeros_have_bases_too(void **state)
{
    static const int64_t shapes[][2] = {{1, 1}, {1, 8}, {8, 1}, {6, 6}};
    for (int shape = 0; shape < 4; shape++) {
        int64_t       m = shapes[shape][0], n = shapes[shape][1];
        crank_matrix  a = shape == 3 ? zeros(CRANK_F32, m, n, 0) : normals(CRANK_F32, m, n, 70), q = zeros(CRANK_F32, m, 1, 0);
        crank_sketch  sketch = sketch_of(1, 0, 1);
        crank_capture capture;
        double        energy;
        assert_ok(*state, crank_range_finder(*state, a, CRANK_LEFT, &sketch, q, &capture));
        assert_at_most(unorthonormal(q, false), 1e-6);
        assert_at_most(fabs(capture.energy - 1), 1e-6);
        assert_ok(*state, crank_subspace_refine(*state, a, CRANK_LEFT, 1, true, q, &energy));
        assert_at_most(fabs(energy - 1), 1e-6);
        free(a.data), free(q.data);
    }
}

static void a_warm_start_converges_to_the_leading_subspace(void **state)
{
    for (int type = 0; type < 2; type++)
        for (int right = 0; right < 2; right++) {
            double s[50], angles[8], last = 10, energy;
            for (int i = 0; i < 50; i++) s[i] = i < 8 ? 1 : 0.5; /* each step shrinks tangents by 4 */
            crank_matrix a = with_spectrum(*state, types[type], right ? 50 : 64, right ? 64 : 50, s, 12), q = normals(types[type], 64, 8, 80);
            crank_matrix u = zeros(types[type], a.rows, 8, 0), vt = zeros(types[type], 8, a.cols, 0), lead = zeros(types[type], 64, 8, 0);
            assert_ok(*state, crank_svd(*state, a, CRANK_INSIDE_F64, u, NULL, vt));
            for (int64_t i = 0; i < 64; i++)
                for (int64_t j = 0; j < 8; j++) set_element(lead, i, j, right ? element(vt, j, i) : element(u, i, j));
            for (int round = 0; round < 6; round++) {
                assert_ok(*state, crank_subspace_refine(*state, a, right ? CRANK_RIGHT : CRANK_LEFT, 2, round % 2, q, &energy));
                assert_ok(*state, crank_principal_angles(*state, q, lead, angles));
                assert_true(angles[7] < last);
                if (round) assert_at_most(tan(angles[7]), tan(last) / 15 + 1e-5);
                last = angles[7];
            }
            assert_at_most(fabs(energy - best_energy(s, 50, 8)), 1e-6);
            assert_at_most(unorthonormal(q, false), types[type] == CRANK_F32 ? 1e-5 : 1e-12);
            free(a.data), free(q.data), free(u.data), free(vt.data), free(lead.data);
        }
}

static void an_aligned_basis_stays_where_the_subspace_does(void **state)
{
    double s[30];
    for (int i = 0; i < 30; i++) s[i] = i < 6 ? 1 : 0; /* q already spans the range: only a turn could change it */
    crank_matrix a = with_spectrum(*state, CRANK_F64, 40, 30, s, 14), q = zeros(CRANK_F64, 40, 6, 0), before = zeros(CRANK_F64, 40, 6, 0);
    crank_sketch sketch = sketch_of(6, 0, 0);
    assert_ok(*state, crank_range_finder(*state, a, CRANK_LEFT, &sketch, q, NULL));
    memcpy(before.data, q.data, 40 * 6 * 8);
    assert_ok(*state, crank_subspace_refine(*state, a, CRANK_LEFT, 3, true, q, NULL));
    assert_at_most(distance(q, before), 1e-12);
    free(a.data), free(q.data), free(before.data);
}

static void no_steps_and_zero_matrices_leave_a_basis_as_it_is(void **state)
{
    crank_matrix a = zeros(CRANK_F64, 12, 7, 0), q = normals(CRANK_F64, 12, 3, 90), before = zeros(CRANK_F64, 12, 3, 0);
    double       energy = 0;
    assert_ok(*state, crank_orthonormalise(*state, q, CRANK_INSIDE_F64));
    for (int64_t i = 0; i < 12; i++)
        for (int64_t j = 0; j < 3; j++) set_element(before, i, j, element(q, i, j));
    assert_ok(*state, crank_subspace_refine(*state, a, CRANK_LEFT, 4, false, q, &energy));
    assert_at_most(distance(q, before), 1e-14);
    assert_true(energy == 1);
    free(a.data), free(q.data), free(before.data);
}

static void bases_have_the_same_bits_twice(void **state)
{
    crank_set_threads(*state, 2);
    crank_matrix a = normals(CRANK_F32, 300, 170, 95), q[2];
    crank_sketch sketch = sketch_of(20, 4, 1);
    for (int run = 0; run < 2; run++) {
        q[run] = zeros(CRANK_F32, 300, 24, 0);
        assert_ok(*state, crank_range_finder(*state, a, CRANK_LEFT, &sketch, q[run], NULL));
        assert_ok(*state, crank_subspace_refine(*state, a, CRANK_LEFT, 1, true, q[run], NULL));
    }
    assert_memory_equal(q[0].data, q[1].data, 300 * 24 * 4);
    free(a.data), free(q[0].data), free(q[1].data);
}

static void sketches_that_do_not_fit_are_refused(void **state)
{
    float        data[12] = {1}, out[12];
    crank_matrix a = crank_matrix_f32(data, 4, 3), q = crank_matrix_f32(out, 4, 3);
    crank_sketch wide = sketch_of(4, 0, 0), negative = sketch_of(1, -1, 0), good = sketch_of(2, 0, 0);
    assert_refused(*state, CRANK_USAGE, crank_range_finder(*state, a, CRANK_LEFT, &wide, q, NULL), "rank is 1 to 3");
    assert_refused(*state, CRANK_USAGE, crank_range_finder(*state, a, CRANK_LEFT, &negative, q, NULL), "oversample -1");
    assert_refused(*state, CRANK_USAGE, crank_range_finder(*state, a, CRANK_LEFT, &good, q, NULL), "[4,2] is needed");
    assert_refused(*state, CRANK_USAGE, crank_subspace_refine(*state, a, CRANK_LEFT, -1, false, q, NULL), "-1 steps");
    data[5] = NAN;
    assert_refused(*state, CRANK_BAD_DATA, crank_subspace_refine(*state, a, CRANK_RIGHT, 1, false, q, NULL), "row 1, column 2");
    assert_refused(*state, CRANK_BAD_DATA, crank_randomised_svd(*state, a, &good, crank_matrix_none(), NULL, crank_matrix_none(), NULL), "nan");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_range_finder_holds_nearly_what_is_possible_and_bounds_its_error),
        cmocka_unit_test(power_iterations_raise_the_captured_energy_of_a_flat_spectrum),
        cmocka_unit_test(the_randomised_svd_is_the_exact_one_where_the_spectrum_decays),
        cmocka_unit_test(a_sketch_as_wide_as_the_matrix_is_exact),
        cmocka_unit_test(one_by_one_rows_columns_and_zeros_have_bases_too),
        cmocka_unit_test(a_warm_start_converges_to_the_leading_subspace),
        cmocka_unit_test(an_aligned_basis_stays_where_the_subspace_does),
        cmocka_unit_test(no_steps_and_zero_matrices_leave_a_basis_as_it_is),
        cmocka_unit_test(bases_have_the_same_bits_twice),
        cmocka_unit_test(sketches_that_do_not_fit_are_refused),
    };
    return cmocka_run_group_tests(tests, fresh_context, end_context);
}
