/* Plain bodies that sum over axes or move elements. */
#include "check.h"

static void reduce_takes_any_axes_and_strides(void **state)
{
    (void)state;
    bench      b = bench_open("plain");
    crank_view x = GIVEN(&b, CRANK_F64, DIMS(2, 3), 1, 2, 3, 4, 5, -6), row = fresh(&b, CRANK_F64, DIMS(1, 3));
    crank_view column = fresh(&b, CRANK_F64, DIMS(2, 1)), all = fresh(&b, CRANK_F64, DIMS(1, 1)),
               self = fresh(&b, CRANK_F64, DIMS(2, 3));
    apply(&b, "reduce", VIEWS(x), VIEWS(row), &(crank_reduce_attributes){CRANK_SUM, 1});
    ASSERT_VALUES(&row, 0, 5, 7, -3);
    apply(&b, "reduce", VIEWS(x), VIEWS(column), &(crank_reduce_attributes){CRANK_MEAN, 2});
    ASSERT_VALUES(&column, 1e-15, 2, 1);
    apply(&b, "reduce", VIEWS(x), VIEWS(all), &(crank_reduce_attributes){CRANK_SUM_SQUARES, 3});
    ASSERT_VALUES(&all, 0, 91);
    apply(&b, "reduce", VIEWS(x), VIEWS(all), &(crank_reduce_attributes){CRANK_AMAX, 3});
    ASSERT_VALUES(&all, 0, 5);
    apply(&b, "reduce", VIEWS(x), VIEWS(self), &(crank_reduce_attributes){CRANK_SUM, 0});
    ASSERT_VALUES(&self, 0, 1, 2, 3, 4, 5, -6);
    crank_view turned = x;
    turned.dims[0] = 3, turned.dims[1] = 2, turned.strides[0] = 1, turned.strides[1] = 3;
    crank_view pair = fresh(&b, CRANK_F64, DIMS(1, 2));
    apply(&b, "reduce", VIEWS(turned), VIEWS(pair), &(crank_reduce_attributes){CRANK_SUM, 1});
    ASSERT_VALUES(&pair, 0, 6, 3);
    bench_close(&b);
}

static void reduce_of_bf16_sums_into_f32(void **state)
{
    (void)state;
    bench      b = bench_open("plain");
    crank_view x = fresh(&b, CRANK_BF16, DIMS(1000)), y = fresh(&b, CRANK_F32, DIMS(1));
    for (int i = 0; i < 1000; i++) set(&x, i, 1 + 1 / 128.0);
    apply(&b, "reduce", VIEWS(x), VIEWS(y), &(crank_reduce_attributes){CRANK_SUM, 1});
    ASSERT_VALUES(&y, 0, 1007.8125);
    bench_close(&b);
}

static void reduce_of_nothing_is_the_neutral_element(void **state)
{
    (void)state;
    bench      b = bench_open("plain");
    crank_view x = fresh(&b, CRANK_F32, DIMS(2, 0)), y = fresh(&b, CRANK_F32, DIMS(2, 1));
    apply(&b, "reduce", VIEWS(x), VIEWS(y), &(crank_reduce_attributes){CRANK_SUM, 2});
    ASSERT_VALUES(&y, 0, 0, 0);
    apply(&b, "reduce", VIEWS(x), VIEWS(y), &(crank_reduce_attributes){CRANK_AMAX, 2});
    ASSERT_VALUES(&y, 0, -INFINITY, -INFINITY);
    bench_close(&b);
}

static void maximum_passes_on_nan(void **state)
{
    (void)state;
    bench      b = bench_open("plain");
    crank_view x = GIVEN(&b, CRANK_F32, DIMS(3), 1, NAN, 2), y = fresh(&b, CRANK_F32, DIMS(1));
    apply(&b, "reduce", VIEWS(x), VIEWS(y), &(crank_reduce_attributes){CRANK_AMAX, 1});
    ASSERT_VALUES(&y, 0, NAN);
    bench_close(&b);
}

static void concat_and_pad_place_along_an_axis(void **state)
{
    (void)state;
    bench      b = bench_open("plain");
    crank_view p = GIVEN(&b, CRANK_F32, DIMS(2, 1), 1, 2), q = GIVEN(&b, CRANK_F32, DIMS(2, 2), 3, 4, 5, 6);
    crank_view empty = fresh(&b, CRANK_F32, DIMS(2, 0));
    crank_view y = fresh_rows(&b, CRANK_F32, 3, DIMS(2, 3)), z = fresh(&b, CRANK_F32, DIMS(4, 3));
    apply(&b, "concat", VIEWS(p, empty, q), VIEWS(y), &(crank_concat_attributes){1});
    ASSERT_VALUES(&y, 0, 1, 3, 4, 2, 5, 6);
    apply(&b, "pad", VIEWS(y), VIEWS(z), &(crank_pad_attributes){0, 1});
    ASSERT_VALUES(&z, 0, 0, 0, 0, 1, 3, 4, 2, 5, 6, 0, 0, 0);
    bench_close(&b);
}

static void gather_and_scatter_are_each_others_reverse(void **state)
{
    (void)state;
    bench      b = bench_open("plain");
    crank_view table = GIVEN(&b, CRANK_F64, DIMS(3, 2), 1, 2, 3, 4, 5, 6),
               ids = GIVEN(&b, CRANK_I32, DIMS(5), 2, 0, 2, -1, 3);
    crank_view y = fresh(&b, CRANK_F64, DIMS(5, 2)), dtable = fresh(&b, CRANK_F64, DIMS(3, 2));
    apply(&b, "gather_rows", VIEWS(table, ids), VIEWS(y), NULL);
    ASSERT_VALUES(&y, 0, 5, 6, 1, 2, 5, 6, 0, 0, 0, 0);
    crank_view dy = drawn(&b, CRANK_F64, -1, 1, DIMS(5, 2));
    apply(&b, "scatter_rows", VIEWS(dy, ids), VIEWS(dtable), NULL);
    assert_gradient(&b, "gather_rows", VIEWS(table, ids), VIEWS(y), NULL, &dy, 0, &dtable);
    bench_close(&b);
}

static void pick_and_unpick_are_each_others_reverse(void **state)
{
    (void)state;
    bench      b = bench_open("plain");
    crank_view x = GIVEN(&b, CRANK_F64, DIMS(2, 3), 1, 2, 3, 4, 5, 6);
    crank_view ids = GIVEN(&b, CRANK_I32, DIMS(2, 4), 1, 1, 0, 7, 2, -1, 2, 2);
    crank_view y = fresh(&b, CRANK_F64, DIMS(2, 4)), dx = fresh(&b, CRANK_F64, DIMS(2, 3));
    apply(&b, "pick", VIEWS(x, ids), VIEWS(y), NULL);
    ASSERT_VALUES(&y, 0, 2, 2, 1, 0, 6, 0, 6, 6);
    crank_view dy = drawn(&b, CRANK_F64, -1, 1, DIMS(2, 4));
    apply(&b, "unpick", VIEWS(dy, ids), VIEWS(dx), NULL);
    assert_gradient(&b, "pick", VIEWS(x, ids), VIEWS(y), NULL, &dy, 0, &dx);
    bench_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reduce_takes_any_axes_and_strides),
        cmocka_unit_test(reduce_of_bf16_sums_into_f32),
        cmocka_unit_test(reduce_of_nothing_is_the_neutral_element),
        cmocka_unit_test(maximum_passes_on_nan),
        cmocka_unit_test(concat_and_pad_place_along_an_axis),
        cmocka_unit_test(gather_and_scatter_are_each_others_reverse),
        cmocka_unit_test(pick_and_unpick_are_each_others_reverse),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
