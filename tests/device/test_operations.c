/* The table of operations: what fits and what is told about what does not. */
#include "check.h"

static void call_with_wrong_operands_is_refused_with_the_signature(void **state)
{
    (void)state;
    bench      b = bench_open("plain");
    crank_view x = drawn(&b, CRANK_F32, 0, 1, DIMS(2, 3)), y = fresh(&b, CRANK_F32, DIMS(2, 4)),
               z = fresh(&b, CRANK_F64, DIMS(2, 3));
    crank_unary_attributes unary = {CRANK_EXP};
    assert_int_equal(crank_run_once(b.context, b.device, "unary", &x, 1, &y, 1, &unary), CRANK_USAGE);
    assert_string_equal(crank_message(b.context),
                        "unary: output 0 does not fit \"f[.] -> f[.]\" in type, dims, stride or number");
    assert_int_equal(crank_run_once(b.context, b.device, "unary", &x, 1, &z, 1, &unary), CRANK_USAGE);
    assert_int_equal(crank_run_once(b.context, b.device, "unary", &x, 0, &x, 1, &unary), CRANK_USAGE);
    assert_int_equal(crank_run_once(b.context, b.device, "unary", &x, 1, &x, 1, NULL), CRANK_USAGE);
    assert_int_equal(crank_run_once(b.context, b.device, "sing", &x, 1, &x, 1, NULL), CRANK_USAGE);
    assert_string_equal(crank_message(b.context), "there is no operation \"sing\"");
    bench_close(&b);
}

static void sizes_that_disagree_are_refused(void **state)
{
    (void)state;
    bench                   b = bench_open("plain");
    crank_view              a = drawn(&b, CRANK_F32, 0, 1, DIMS(2, 3)), c = fresh(&b, CRANK_F32, DIMS(2, 5));
    crank_view              w = drawn(&b, CRANK_F32, 0, 1, DIMS(5, 4));
    crank_matmul_attributes product = {.trans_b = true, .alpha = 1};
    assert_int_equal(crank_run_once(b.context, b.device, "matmul", VIEWS(a, w, ABSENT, ABSENT), &c, 1, &product),
                     CRANK_USAGE);
    crank_reduce_attributes reduce = {CRANK_SUM, 4};
    assert_int_equal(crank_run_once(b.context, b.device, "reduce", &a, 1, &a, 1, &reduce), CRANK_USAGE);
    crank_pad_attributes pad = {1, INT64_MAX};
    assert_int_equal(crank_run_once(b.context, b.device, "pad", &a, 1, &c, 1, &pad), CRANK_USAGE);
    crank_concat_attributes concat = {2};
    assert_int_equal(crank_run_once(b.context, b.device, "concat", VIEWS(a, a), &c, 1, &concat), CRANK_USAGE);
    bench_close(&b);
}

static void unary_reverse_needs_x_or_y_but_never_both(void **state)
{
    (void)state;
    for (int kind = CRANK_NEG; kind <= CRANK_COS; kind++)
        assert_false(crank_unary_needs_x((crank_unary_kind)kind) && crank_unary_needs_y((crank_unary_kind)kind));
    assert_true(crank_unary_needs_x(CRANK_GELU));
    assert_true(crank_unary_needs_y(CRANK_EXP));
    assert_false(crank_unary_needs_x(CRANK_NEG));
}

static void every_operation_of_the_table_has_a_plain_body(void **state)
{
    (void)state;
    extern bool plain_find(const char *, const crank_call *, int, crank_body *);
    crank_view  view = crank_view_make(NULL, CRANK_F32, DIMS(1, 1, 1));
    crank_view  in[8] = {view, view, view, view, view, view, view, view};
    crank_call  call = {.in = in, .inputs = 8, .out = in, .outputs = 8};
    crank_body  body;
    for (int i = 0; operation_name(i); i++)
        if (!plain_find(operation_name(i), &call, 1, &body)) fail_msg("%s has no plain body", operation_name(i));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(call_with_wrong_operands_is_refused_with_the_signature),
        cmocka_unit_test(sizes_that_disagree_are_refused),
        cmocka_unit_test(unary_reverse_needs_x_or_y_but_never_both),
        cmocka_unit_test(every_operation_of_the_table_has_a_plain_body),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
