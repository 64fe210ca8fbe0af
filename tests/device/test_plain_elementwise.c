/* Plain bodies of element-wise operations, against values worked out by hand and central differences. */
#include "check.h"

static void copy_casts_and_follows_strides(void **state)
{
    (void)state;
    bench      b = bench_open("plain");
    crank_view x = GIVEN(&b, CRANK_F32, DIMS(2, 3), 1, 2.5, -3, 4, 1e30, NAN), y = fresh(&b, CRANK_I32, DIMS(3, 2));
    crank_view transposed = x;
    transposed.dims[0] = 3, transposed.dims[1] = 2, transposed.strides[0] = 1, transposed.strides[1] = 3;
    apply(&b, "copy", VIEWS(transposed), VIEWS(y), NULL);
    ASSERT_VALUES(&y, 0, 1, 4, 2, INT32_MAX, -3, 0);
    crank_view long_x = fresh(&b, CRANK_I64, DIMS(1)), long_y = fresh(&b, CRANK_I64, DIMS(1));
    *(int64_t *)long_x.data = INT64_MAX - 1;
    apply(&b, "copy", VIEWS(long_x), VIEWS(long_y), NULL);
    assert_true(*(int64_t *)long_y.data == INT64_MAX - 1);
    bench_close(&b);
}

static void narrow_floats_are_rounded_once(void **state)
{
    (void)state;
    bench b = bench_open("plain");
    /* just above the middle of two neighbours: rounding to f32 first would land on the tie and go down */
    crank_view x = GIVEN(&b, CRANK_F64, DIMS(3), 1 + 0x1p-8 + 0x1p-40, 1 + 0x1p-8 - 0x1p-40, 1 + 0x1p-8);
    crank_view y = fresh(&b, CRANK_BF16, DIMS(3));
    apply(&b, "copy", VIEWS(x), VIEWS(y), NULL);
    ASSERT_VALUES(&y, 0, 1 + 0x1p-7, 1, 1);
    crank_view h = GIVEN(&b, CRANK_F64, DIMS(3), 1 + 0x1p-11 + 0x1p-40, 1e6, -65519.99999),
               z = fresh(&b, CRANK_F16, DIMS(3));
    apply(&b, "copy", VIEWS(h), VIEWS(z), NULL);
    ASSERT_VALUES(&z, 0, 1 + 0x1p-10, INFINITY, -65504);
    bench_close(&b);
}

static void fill_writes_every_type(void **state)
{
    (void)state;
    bench                 b = bench_open("plain");
    crank_fill_attributes seven = {7};
    const crank_dtype     types[] = {CRANK_F32, CRANK_BF16, CRANK_F16, CRANK_F64, CRANK_I32, CRANK_I64, CRANK_U8};
    for (int k = 0; k < 7; k++) {
        crank_view y = fresh(&b, types[k], DIMS(2, 2));
        apply(&b, "fill", NULL, 0, VIEWS(y), &seven);
        ASSERT_VALUES(&y, 0, 7, 7, 7, 7);
    }
    bench_close(&b);
}

static void binary_broadcasts_as_numpy(void **state)
{
    (void)state;
    bench      b = bench_open("plain");
    crank_view row = GIVEN(&b, CRANK_F64, DIMS(3), 1, 2, 3), column = GIVEN(&b, CRANK_F64, DIMS(2, 1), 10, 20);
    crank_view y = fresh(&b, CRANK_F64, DIMS(2, 3));
    crank_binary_attributes add = {CRANK_ADD}, power = {CRANK_POW};
    apply(&b, "binary", VIEWS(row, column), VIEWS(y), &add);
    ASSERT_VALUES(&y, 0, 11, 12, 13, 21, 22, 23);
    apply(&b, "binary", VIEWS(column, row), VIEWS(y), &power);
    ASSERT_VALUES(&y, 0, 10, 100, 1000, 20, 400, 8000);
    crank_view spread = row;
    spread.rank = 2, spread.dims[0] = 2, spread.dims[1] = 3, spread.strides[0] = 0, spread.strides[1] = 1;
    apply(&b, "binary", VIEWS(spread, column), VIEWS(y), &add);
    ASSERT_VALUES(&y, 0, 11, 12, 13, 21, 22, 23);
    bench_close(&b);
}

static void binary_kinds_match_their_names(void **state)
{
    (void)state;
    bench        b = bench_open("plain");
    crank_view   x = GIVEN(&b, CRANK_F64, DIMS(4), 2, -1, NAN, 3), z = GIVEN(&b, CRANK_F64, DIMS(4), 4, -2, 1, 3);
    crank_view   y = fresh(&b, CRANK_F64, DIMS(4));
    const double expected[][4] = {
        {6, -3, NAN, 6}, {-2, 1, NAN, 0},  {8, 2, NAN, 9}, {0.5, 0.5, NAN, 1}, {4, -1, NAN, 3},
        {2, -2, NAN, 3}, {16, 1, NAN, 27}, {0, 1, 0, 0},   {0, 1, 0, 1},       {0, 0, 0, 1},
    };
    for (int kind = CRANK_ADD; kind <= CRANK_EQ; kind++) {
        crank_binary_attributes a = {(crank_binary_kind)kind};
        apply(&b, "binary", VIEWS(x, z), VIEWS(y), &a);
        assert_values(&y, expected[kind], 0);
    }
    crank_binary_attributes max = {CRANK_MAX};
    apply(&b, "binary", VIEWS(z, x), VIEWS(y), &max);
    ASSERT_VALUES(&y, 0, 4, -1, NAN, 3);
    bench_close(&b);
}

static void where_and_affine(void **state)
{
    (void)state;
    bench      b = bench_open("plain");
    crank_view c = GIVEN(&b, CRANK_F32, DIMS(2, 1), 0, -1), p = GIVEN(&b, CRANK_F32, DIMS(2), 1, 2);
    crank_view q = GIVEN(&b, CRANK_F32, SCALAR, 9), y = fresh(&b, CRANK_F32, DIMS(2, 2));
    apply(&b, "where", VIEWS(c, p, q), VIEWS(y), NULL);
    ASSERT_VALUES(&y, 0, 9, 9, 1, 2);
    crank_affine_attributes affine = {-2, 0.5};
    apply(&b, "affine", VIEWS(y), VIEWS(y), &affine);
    ASSERT_VALUES(&y, 0, -17.5, -17.5, -1.5, -3.5);
    bench_close(&b);
}

static void unary_kinds_match_their_names(void **state)
{
    (void)state;
    bench        b = bench_open("plain");
    crank_view   x = GIVEN(&b, CRANK_F64, DIMS(2), 0.7, 2.25), y = fresh(&b, CRANK_F64, DIMS(2));
    const double expected[][2] = {
        {-0.7, -2.25},
        {2.01375270747048, 9.48773583635853},
        {-0.356674943938732, 0.810930216216329},
        {0.836660026534076, 1.5},
        {1.19522860933439, 0.666666666666667},
        {1.42857142857143, 0.444444444444444},
        {0.49, 5.0625},
        {0.7, 2.25},
        {1, 1},
        {0.604367777117164, 0.978026114738814},
        {0.668187772168166, 0.904650535100891},
        {1.10318604888546, 2.35020655891675},
        {0.7, 2.25},
        {0.467731440517716, 2.035463703977},
        {0.530625443443849, 2.22249493652615},
        {0.530570134705117, 2.22279867010271},
        {0.644217687237691, 0.778073196887921},
        {0.764842187284488, -0.628173622722739},
    };
    for (int kind = CRANK_NEG; kind <= CRANK_COS; kind++) {
        crank_unary_attributes a = {(crank_unary_kind)kind};
        apply(&b, "unary", VIEWS(x), VIEWS(y), &a);
        for (int i = 0; i < 2; i++)
            if (fabs(value(&y, i) - expected[kind][i]) > 1e-11) fail_msg("kind %d gives %.15g", kind, value(&y, i));
    }
    bench_close(&b);
}

static void unary_is_stable_at_the_ends(void **state)
{
    (void)state;
    bench      b = bench_open("plain");
    crank_view x = GIVEN(&b, CRANK_F64, DIMS(5), -INFINITY, -800, 800, INFINITY, NAN),
               y = fresh(&b, CRANK_F64, DIMS(5));
    crank_view dy = GIVEN(&b, CRANK_F64, DIMS(5), 1, 1, 1, 1, 1);
    const struct {
        crank_unary_kind kind;
        double           y[5], slope[5];
    } cases[] = {
        {CRANK_SIGMOID, {0, 0, 1, 1, NAN}, {0, 0, 0, 0, NAN}},
        {CRANK_SOFTPLUS, {0, 0, 800, INFINITY, NAN}, {0, 0, 1, 1, NAN}},
        {CRANK_SILU, {0, 0, 800, INFINITY, NAN}, {0, 0, 1, 1, NAN}},
        {CRANK_GELU, {0, 0, 800, INFINITY, NAN}, {0, 0, 1, 1, NAN}},
        {CRANK_GELU_TANH, {0, 0, 800, INFINITY, NAN}, {0, 0, 1, 1, NAN}},
        {CRANK_RELU, {0, 0, 800, INFINITY, NAN}, {0, 0, 1, 1, NAN}},
        {CRANK_SIGN, {-1, -1, 1, 1, NAN}, {0, 0, 0, 0, 0}},
        {CRANK_TANH, {-1, -1, 1, 1, NAN}, {0, 0, 0, 0, NAN}},
    };
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        crank_unary_attributes a = {cases[k].kind};
        crank_view             dx = fresh(&b, CRANK_F64, DIMS(5));
        apply(&b, "unary", VIEWS(x), VIEWS(y), &a);
        assert_values(&y, cases[k].y, 1e-300);
        apply(&b, "unary_backward", VIEWS(x, y, dy), VIEWS(dx), &a);
        assert_values(&dx, cases[k].slope, 1e-300);
    }
    bench_close(&b);
}

static void unary_reverse_equals_central_differences(void **state)
{
    (void)state;
    bench b = bench_open("plain");
    for (int kind = CRANK_NEG; kind <= CRANK_COS; kind++) {
        crank_unary_attributes a = {(crank_unary_kind)kind};
        bool                   positive = kind == CRANK_LOG || kind == CRANK_SQRT || kind == CRANK_RSQRT;
        crank_view             x = drawn(&b, CRANK_F64, positive ? 0.2 : -3, 3, DIMS(3, 7));
        crank_view             y = fresh(&b, CRANK_F64, DIMS(3, 7)), dx = fresh(&b, CRANK_F64, DIMS(3, 7));
        crank_view             dy = drawn(&b, CRANK_F64, -1, 1, DIMS(3, 7));
        if (kind == CRANK_RECIPROCAL) draw_into(&b, x, 0.3, 2);
        apply(&b, "unary", VIEWS(x), VIEWS(y), &a);
        apply(&b, "unary_backward",
              VIEWS(crank_unary_needs_x(a.kind) ? x : ABSENT, crank_unary_needs_y(a.kind) ? y : ABSENT, dy), VIEWS(dx),
              &a);
        assert_gradient(&b, "unary", VIEWS(x), VIEWS(y), &a, &dy, 0, &dx);
    }
    bench_close(&b);
}

static void glu_reverse_equals_central_differences(void **state)
{
    (void)state;
    bench                  b = bench_open("plain");
    const crank_unary_kind kinds[] = {CRANK_SILU, CRANK_GELU, CRANK_GELU_TANH};
    for (int k = 0; k < 3; k++) {
        crank_glu_attributes a = {kinds[k]};
        crank_view gate = drawn(&b, CRANK_F64, -3, 3, DIMS(4, 5)), up = drawn(&b, CRANK_F64, -3, 3, DIMS(4, 5));
        crank_view h = fresh(&b, CRANK_F64, DIMS(4, 5)), dh = drawn(&b, CRANK_F64, -1, 1, DIMS(4, 5));
        crank_view dgate = fresh(&b, CRANK_F64, DIMS(4, 5)), dup = fresh(&b, CRANK_F64, DIMS(4, 5));
        apply(&b, "glu_backward", VIEWS(dh, gate, up), VIEWS(dgate, dup), &a);
        assert_gradient(&b, "glu", VIEWS(gate, up), VIEWS(h), &a, &dh, 0, &dgate);
        assert_gradient(&b, "glu", VIEWS(gate, up), VIEWS(h), &a, &dh, 1, &dup);
    }
    bench_close(&b);
}

static void dropout_keeps_what_its_stream_says(void **state)
{
    (void)state;
    bench b = bench_open("plain");
    enum { N = 4000 };
    crank_dropout_attributes a = {.p = 0.25, .seed = 5, .index = 9};
    crank_view               x = drawn(&b, CRANK_F32, 1, 2, DIMS(N)), y = fresh(&b, CRANK_F32, DIMS(N)),
               again = fresh(&b, CRANK_F32, DIMS(N));
    crank_view step = GIVEN(&b, CRANK_I64, DIMS(1), 3);
    int        kept = 0;
    apply(&b, "dropout", VIEWS(x, step), VIEWS(y), &a);
    apply(&b, "dropout", VIEWS(x, step), VIEWS(again), &a);
    assert_memory_equal(y.data, again.data, N * sizeof(float));
    crank_stream stream = crank_stream_make(5, CRANK_RANDOM_DROPOUT, 9);
    for (int i = 0; i < N; i++) {
        bool keep = crank_draw_uniform(stream, ((uint64_t)3 << 34) + (uint64_t)i) >= 0.25f;
        assert_float_equal(value(&y, i), keep ? value(&x, i) / 0.75 : 0, 1e-6);
        kept += keep;
    }
    assert_in_range(kept, 2880, 3120); /* 3000, deviation 27 */
    bench_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(copy_casts_and_follows_strides),
        cmocka_unit_test(narrow_floats_are_rounded_once),
        cmocka_unit_test(fill_writes_every_type),
        cmocka_unit_test(binary_broadcasts_as_numpy),
        cmocka_unit_test(binary_kinds_match_their_names),
        cmocka_unit_test(where_and_affine),
        cmocka_unit_test(unary_kinds_match_their_names),
        cmocka_unit_test(unary_is_stable_at_the_ends),
        cmocka_unit_test(unary_reverse_equals_central_differences),
        cmocka_unit_test(glu_reverse_equals_central_differences),
        cmocka_unit_test(dropout_keeps_what_its_stream_says),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
