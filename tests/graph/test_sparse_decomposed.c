/* A device without bodies for products with a sparse matrix computes them by dense ones, to the same numbers. */
#include "crank/ops.h"
#include "crank/random.h"
#include "testing.h"

enum { N = 9, ROWS = 6, COLS = 7, PLACES = 12 };

static crank_device *whole;
static int           asked;

static bool find_others(crank_device *device, const char *operation, const crank_call *call, crank_body *body)
{
    (void)device;
    asked += !strncmp(operation, "sparse_", 7);
    return strncmp(operation, "sparse_", 7) != 0 && whole->find(whole, operation, call, body);
}

static void run(crank_context *context, crank_device *device, float *y, float *dx, float *dv)
{
    static const int32_t places[PLACES] = { 0, 3, 7, 8, 13, 14, 20, 27, 30, 33, 40, 41 };
    float                x[N * COLS], v[PLACES], dy[N * ROWS];
    int64_t              count = PLACES;
    crank_fill_normal(crank_stream_make(5, CRANK_RANDOM_TEST, 1), 0, 0, 1, x, N * COLS);
    crank_fill_normal(crank_stream_make(5, CRANK_RANDOM_TEST, 2), 0, 0, 1, v, PLACES);
    crank_fill_normal(crank_stream_make(5, CRANK_RANDOM_TEST, 3), 0, 0, 1, dy, N * ROWS);
    crank_graph  *graph = crank_graph_new(context, device);
    crank_tensor *X = crank_input(graph, "x", CRANK_F32, 2, (const int64_t[]){ N, COLS }), *V = crank_input(graph, "v", CRANK_F32, 1, &count);
    crank_tensor *index = crank_input(graph, "index", CRANK_I32, 1, &count), *dY = crank_input(graph, "dy", CRANK_F32, 2, (const int64_t[]){ N, ROWS });
    crank_mark_gradient(X), crank_mark_gradient(V);
    crank_tensor *Y = crank_keep(crank_sparse_matmul(X, V, index, ROWS, COLS, false)), *wrt[] = { X, V }, *grads[2];
    assert_ok(context, crank_gradients(graph, &Y, &dY, 1, wrt, 2, grads));
    for (int i = 0; i < 2; i++) grads[i] = crank_keep(crank_contiguous(grads[i]));
    assert_ok(context, crank_plan(graph, NULL, NULL));
    assert_ok(context, crank_write(X, x));
    assert_ok(context, crank_write(V, v));
    assert_ok(context, crank_write(index, places));
    assert_ok(context, crank_write(dY, dy));
    assert_ok(context, crank_run(graph));
    assert_ok(context, crank_read(Y, y));
    assert_ok(context, crank_read(grads[0], dx));
    assert_ok(context, crank_read(grads[1], dv));
    crank_graph_free(graph);
}

static void dense_products_stand_in_for_sparse_ones(void **state)
{
    (void)state;
    float          y[2][N * ROWS], dx[2][N * COLS], dv[2][PLACES];
    crank_context *context = crank_context_new();
    whole = crank_device_cpu(context, NULL);
    assert_non_null(whole);
    crank_device others = *whole;
    others.find = find_others;
    run(context, whole, y[0], dx[0], dv[0]);
    run(context, &others, y[1], dx[1], dv[1]);
    assert_true(asked > 0);
    assert_true(relative_error(y[1], y[0], N * ROWS) < 1e-6);
    assert_true(relative_error(dx[1], dx[0], N * COLS) < 1e-6);
    assert_true(relative_error(dv[1], dv[0], PLACES) < 1e-6);
    whole->close(whole);
    crank_context_free(context);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(dense_products_stand_in_for_sparse_ones) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
