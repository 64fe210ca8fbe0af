/* Plain bodies on rows: softmax, norms, rotary positions. */
#include "check.h"

static void softmax_is_exact_and_stable(void **state)
{
    (void)state;
    bench      b = bench_open("plain");
    crank_view x = GIVEN(&b, CRANK_F64, DIMS(2, 3), 0, log(2), log(5), 1000, 1000, -INFINITY),
               y = fresh(&b, CRANK_F64, DIMS(2, 3));
    apply(&b, "softmax", VIEWS(x), VIEWS(y), &(crank_softmax_attributes){false});
    ASSERT_VALUES(&y, 1e-15, 0.125, 0.25, 0.625, 0.5, 0.5, 0);
    apply(&b, "softmax", VIEWS(x), VIEWS(x), &(crank_softmax_attributes){true});
    ASSERT_VALUES(&x, 1e-15, -log(8), -log(4), log(0.625), -log(2), -log(2), -INFINITY);
    bench_close(&b);
}

static void softmax_reverse_equals_central_differences(void **state)
{
    (void)state;
    bench b = bench_open("plain");
    for (int form = 0; form < 2; form++) {
        crank_softmax_attributes a = {form};
        crank_view x = drawn(&b, CRANK_F64, -2, 2, DIMS(2, 2, 5)), y = fresh(&b, CRANK_F64, DIMS(2, 2, 5));
        crank_view dy = drawn(&b, CRANK_F64, -1, 1, DIMS(2, 2, 5)), dx = copied(&b, &dy, CRANK_F64);
        apply(&b, "softmax", VIEWS(x), VIEWS(y), &a);
        apply(&b, "softmax_backward", VIEWS(y, dx), VIEWS(dx), &a); /* in place */
        assert_gradient(&b, "softmax", VIEWS(x), VIEWS(y), &a, &dy, 0, &dx);
    }
    bench_close(&b);
}

static void rmsnorm_of_a_known_row(void **state)
{
    (void)state;
    bench      b = bench_open("plain");
    crank_view x = GIVEN(&b, CRANK_F64, DIMS(1, 2), 1, 3), w = GIVEN(&b, CRANK_F64, DIMS(2), 2, 10),
               residual = GIVEN(&b, CRANK_F64, DIMS(1, 2), 2, 1);
    crank_view y = fresh(&b, CRANK_F64, DIMS(1, 2)), rstd = fresh(&b, CRANK_F64, DIMS(1)),
               sum = fresh(&b, CRANK_F64, DIMS(1, 2));
    apply(&b, "rmsnorm", VIEWS(x, w, residual), VIEWS(y, rstd, sum), &(crank_norm_attributes){3.5});
    ASSERT_VALUES(&rstd, 1e-15, 0.25); /* mean of 9 and 16 is 12.5 */
    ASSERT_VALUES(&sum, 0, 3, 4);
    ASSERT_VALUES(&y, 1e-15, 1.5, 10);
    bench_close(&b);
}

static void layernorm_of_a_known_row(void **state)
{
    (void)state;
    bench      b = bench_open("plain");
    crank_view x = GIVEN(&b, CRANK_F64, DIMS(1, 2), 1, 5), y = fresh(&b, CRANK_F64, DIMS(1, 2));
    crank_view mean = fresh(&b, CRANK_F64, DIMS(1)), rstd = fresh(&b, CRANK_F64, DIMS(1));
    apply(&b, "layernorm", VIEWS(x, ABSENT, ABSENT, ABSENT), VIEWS(y, mean, rstd, ABSENT),
          &(crank_norm_attributes){12});
    ASSERT_VALUES(&mean, 0, 3);
    ASSERT_VALUES(&rstd, 1e-15, 0.25);
    ASSERT_VALUES(&y, 1e-15, -0.5, 0.5);
    bench_close(&b);
}

/* Both outputs that depend on x, y and the sum, carry gradients: dres is the sum's. */
static void rmsnorm_reverse_equals_central_differences(void **state)
{
    (void)state;
    bench                 b = bench_open("plain");
    crank_norm_attributes a = {1e-3};
    crank_view            x = drawn(&b, CRANK_F64, -1, 1, DIMS(3, 5)), w = drawn(&b, CRANK_F64, 0.5, 2, DIMS(5)),
               residual = drawn(&b, CRANK_F64, -1, 1, DIMS(3, 5));
    crank_view y = fresh(&b, CRANK_F64, DIMS(3, 5)), rstd = fresh(&b, CRANK_F64, DIMS(3)),
               sum = fresh(&b, CRANK_F64, DIMS(3, 5));
    crank_view dy = drawn(&b, CRANK_F64, -1, 1, DIMS(3, 5)), dsum = drawn(&b, CRANK_F64, -1, 1, DIMS(3, 5));
    crank_view dx = fresh(&b, CRANK_F64, DIMS(3, 5)), dw = fresh(&b, CRANK_F64, DIMS(5)), seeds[] = {dy, ABSENT, dsum};
    apply(&b, "rmsnorm", VIEWS(x, w, residual), VIEWS(y, rstd, sum), &a);
    apply(&b, "rmsnorm_backward", VIEWS(dy, sum, w, rstd, dsum), VIEWS(dx, dw), &a);
    assert_gradient(&b, "rmsnorm", VIEWS(x, w, residual), VIEWS(y, rstd, sum), &a, seeds, 0, &dx);
    assert_gradient(&b, "rmsnorm", VIEWS(x, w, residual), VIEWS(y, rstd, sum), &a, seeds, 2, &dx);
    assert_gradient(&b, "rmsnorm", VIEWS(x, w, residual), VIEWS(y, rstd, sum), &a, seeds, 1, &dw);
    bench_close(&b);
}

static void layernorm_reverse_equals_central_differences(void **state)
{
    (void)state;
    bench                 b = bench_open("plain");
    crank_norm_attributes a = {1e-3};
    crank_view            x = drawn(&b, CRANK_F64, -1, 1, DIMS(3, 5)), w = drawn(&b, CRANK_F64, 0.5, 2, DIMS(5)),
               bias = drawn(&b, CRANK_F64, -1, 1, DIMS(5));
    crank_view residual = drawn(&b, CRANK_F64, -1, 1, DIMS(3, 5)), y = fresh(&b, CRANK_F64, DIMS(3, 5)),
               sum = fresh(&b, CRANK_F64, DIMS(3, 5));
    crank_view mean = fresh(&b, CRANK_F64, DIMS(3)), rstd = fresh(&b, CRANK_F64, DIMS(3));
    crank_view dy = drawn(&b, CRANK_F64, -1, 1, DIMS(3, 5)), dsum = drawn(&b, CRANK_F64, -1, 1, DIMS(3, 5));
    crank_view dx = fresh(&b, CRANK_F64, DIMS(3, 5)), dw = fresh(&b, CRANK_F64, DIMS(5)),
               db = fresh(&b, CRANK_F64, DIMS(5));
    const crank_view in[] = {x, w, bias, residual}, out[] = {y, mean, rstd, sum}, seeds[] = {dy, ABSENT, ABSENT, dsum};
    apply(&b, "layernorm", in, 4, out, 4, &a);
    apply(&b, "layernorm_backward", VIEWS(dy, sum, w, mean, rstd, dsum), VIEWS(dx, dw, db), &a);
    assert_gradient(&b, "layernorm", in, 4, out, 4, &a, seeds, 0, &dx);
    assert_gradient(&b, "layernorm", in, 4, out, 4, &a, seeds, 1, &dw);
    assert_gradient(&b, "layernorm", in, 4, out, 4, &a, seeds, 2, &db);
    assert_gradient(&b, "layernorm", in, 4, out, 4, &a, seeds, 3, &dx);
    bench_close(&b);
}

/* One position whose angles are 90 and 180 degrees. */
static void rope_rotates_each_pair_by_its_angle(void **state)
{
    (void)state;
    bench      b = bench_open("plain");
    crank_view x = GIVEN(&b, CRANK_F64, DIMS(1, 1, 5), 1, 2, 3, 4, 5), y = fresh(&b, CRANK_F64, DIMS(1, 1, 5));
    crank_view positions = GIVEN(&b, CRANK_I32, DIMS(1), 1);
    crank_view table = GIVEN(&b, CRANK_F64, DIMS(2, 4), 9, 9, 9, 9, 0, -1, 1, 0);
    apply(&b, "rope", VIEWS(x, positions, table), VIEWS(y), &(crank_rope_attributes){false, false});
    ASSERT_VALUES(&y, 0, -3, -2, 1, -4, 5); /* pairs (1,3) and (2,4) */
    apply(&b, "rope", VIEWS(y, positions, table), VIEWS(y), &(crank_rope_attributes){false, true});
    ASSERT_VALUES(&y, 0, 1, 2, 3, 4, 5);
    apply(&b, "rope", VIEWS(x, positions, table), VIEWS(y), &(crank_rope_attributes){true, false});
    ASSERT_VALUES(&y, 0, -2, 1, -3, -4, 5); /* pairs (1,2) and (3,4) */
    bench_close(&b);
}

static void rope_refuses_a_position_beyond_its_table(void **state)
{
    (void)state;
    bench      b = bench_open("plain");
    crank_view x = drawn(&b, CRANK_F32, 0, 1, DIMS(2, 1, 4)), table = drawn(&b, CRANK_F32, 0, 1, DIMS(3, 4));
    for (int wrong = -1; wrong <= 3; wrong += 4) {
        crank_view positions = GIVEN(&b, CRANK_I32, DIMS(2), 0, wrong);
        assert_int_equal(
            crank_run_once(b.context, b.device, "rope", VIEWS(x, positions, table), &x, 1, &(crank_rope_attributes){0}),
            CRANK_USAGE);
    }
    assert_string_equal(crank_message(b.context), "rope: token 1 has position 3, the table ends at 3");
    bench_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(softmax_is_exact_and_stable),
        cmocka_unit_test(softmax_reverse_equals_central_differences),
        cmocka_unit_test(rmsnorm_of_a_known_row),
        cmocka_unit_test(layernorm_of_a_known_row),
        cmocka_unit_test(rmsnorm_reverse_equals_central_differences),
        cmocka_unit_test(layernorm_reverse_equals_central_differences),
        cmocka_unit_test(rope_rotates_each_pair_by_its_angle),
        cmocka_unit_test(rope_refuses_a_position_beyond_its_table),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
