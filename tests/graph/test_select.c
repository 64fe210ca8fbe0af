/* top_k and eigh: ties, the eigenvalue equation, signs, what is not finite, refusals. */
#include "linear/world.h"

static crank_tensor *ready(crank_graph *graph, const char *name, int64_t rows, int64_t columns)
{
    return crank_input(graph, name, crank_graph_compute(graph), 2, (const int64_t[]){ rows, columns });
}

static void the_largest_of_each_row_are_marked_and_ties_go_to_the_lowest(void **state)
{
    (void)state;
    world         w = world_open(CRANK_F64);
    crank_graph  *graph = crank_graph_new(w.context, w.device);
    crank_graph_set_compute(graph, CRANK_F64);
    crank_tensor *c = ready(graph, "c", 4, 4), *mask = crank_keep(crank_top_k(c, 2));
    assert_ok(w.context, crank_plan(graph, NULL, NULL));
    static const double values[16] = { 3, 1, 2, 0, 1, 1, 1, 1, -1, -2, -3, -1, NAN, 0, NAN, NAN }, expected[16] = { 1, 0, 1, 0, 1, 1, 0, 0, 1, 0, 0, 1, 1, 1, 0, 0 };
    world_to_input(w.context, c, values, 16);
    assert_ok(w.context, crank_run(graph));
    double *got = world_from(w.context, mask);
    for (int i = 0; i < 16; i++) assert_true(got[i] == expected[i]);
    free(got);
    crank_graph_free(graph);
    world_close(&w);
}

/* Widths with rests of vectors; values that repeat, zeros of both signs, infinities and NaN. */
static void every_body_marks_the_same_entries(void **state)
{
    (void)state;
    enum { ROWS = 37 };
    static const int64_t widths[] = { 1, 7, 64, 101 }, counts[] = { 1, 3, 8, 100 };
    static const float   special[] = { 0.0f, -0.0f, 1, -1, INFINITY, -INFINITY, NAN, 2 };
    for (int k = 0; k < 4; k++) {
        int64_t width = widths[k], n = ROWS * width;
        float  *values = calloc((size_t)n, sizeof *values), *masks[2];
        for (int64_t i = 0; i < n; i++) values[i] = i % 3 ? (float)world_normal(9, (uint64_t)i) : special[i / 3 % 8];
        for (int body = 0; body < 2; body++) {
            crank_context *context = crank_context_new();
            crank_device  *device = crank_device_cpu(context, body ? NULL : "plain");
            masks[body] = calloc((size_t)n, sizeof(float));
            crank_view in = crank_view_make(values, CRANK_F32, 2, (const int64_t[]){ ROWS, width }), out = crank_view_make(masks[body], CRANK_F32, 2, in.dims);
            assert_ok(context, crank_run_once(context, device, "top_k", &in, 1, &out, 1, &(crank_top_k_attributes){ counts[k] }));
            device->close(device);
            crank_context_free(context);
        }
        assert_memory_equal(masks[0], masks[1], (size_t)n * sizeof(float));
        free(values), free(masks[0]), free(masks[1]);
    }
}

static void eigenvectors_solve_their_equation_in_ascending_order(void **state)
{
    (void)state;
    static const int sizes[] = { 1, 2, 5, 16 };
    for (int s = 0; s < 4; s++) {
        int           r = sizes[s];
        world         w = world_open(CRANK_F64);
        crank_graph  *graph = crank_graph_new(w.context, w.device);
        crank_graph_set_compute(graph, CRANK_F64);
        crank_tensor *a = ready(graph, "a", r, r), *vectors, *values = crank_keep(crank_eigh(a, &vectors));
        crank_keep(vectors);
        double *A = calloc((size_t)(r * r), sizeof *A), *half = calloc((size_t)(r * r), sizeof *half);
        world_fill(half, (size_t)(r * r), 5, 1);
        for (int i = 0; i < r; i++)
            for (int j = 0; j < r; j++) A[i * r + j] = half[i * r + j] + half[j * r + i];
        assert_ok(w.context, crank_plan(graph, NULL, NULL));
        world_to_input(w.context, a, A, (size_t)(r * r));
        assert_ok(w.context, crank_run(graph));
        double *l = world_from(w.context, values), *Q = world_from(w.context, vectors);
        for (int k = 0; k < r; k++) {
            assert_true(k == 0 || l[k] >= l[k - 1]);
            int largest = 0;
            for (int i = 0; i < r; i++) {
                double sum = 0;
                for (int j = 0; j < r; j++) sum += A[i * r + j] * Q[j * r + k];
                assert_true(fabs(sum - l[k] * Q[i * r + k]) < 1e-12 * (1 + fabs(l[k])) * r);
                if (fabs(Q[i * r + k]) > fabs(Q[largest * r + k])) largest = i;
            }
            assert_true(Q[largest * r + k] > 0);
            for (int m = 0; m < r; m++) {
                double dot = 0;
                for (int i = 0; i < r; i++) dot += Q[i * r + k] * Q[i * r + m];
                assert_true(fabs(dot - (k == m)) < 1e-12);
            }
        }
        A[0] = NAN;
        world_to_input(w.context, a, A, (size_t)(r * r));
        assert_ok(w.context, crank_run(graph));
        free(l);
        l = world_from(w.context, values);
        assert_true(isnan(l[0]));
        free(A), free(half), free(l), free(Q);
        crank_graph_free(graph);
        world_close(&w);
    }
}

static void wrong_shapes_are_told(void **state)
{
    (void)state;
    world         w = world_open(CRANK_F32);
    crank_tensor *vectors;
    for (int i = 0; i < 3; i++) {
        crank_graph *graph = crank_graph_new(w.context, w.device);
        crank_tensor *a = ready(graph, "a", 3, 4);
        if (i == 0) crank_top_k(a, 5);
        if (i == 1) crank_top_k(a, 0);
        if (i == 2) crank_eigh(a, &vectors);
        assert_int_equal(crank_graph_status(graph), CRANK_USAGE);
        crank_graph_free(graph);
    }
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_largest_of_each_row_are_marked_and_ties_go_to_the_lowest),
        cmocka_unit_test(every_body_marks_the_same_entries),
        cmocka_unit_test(eigenvectors_solve_their_equation_in_ascending_order),
        cmocka_unit_test(wrong_shapes_are_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
