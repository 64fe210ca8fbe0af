/* The context's promises: one message, told from the inside out; checked allocation. */
#include "testing.h"

#include "crank/base.h"

static void outer_function_adds_where_it_failed(void **state)
{
    (void)state;
    crank_context *context = crank_context_new();
    assert_int_equal(crank_fail(context, CRANK_BAD_DATA, "byte %d is wrong", 7), CRANK_BAD_DATA);
    assert_int_equal(crank_fail_in(context, "file.bin"), CRANK_BAD_DATA);
    assert_string_equal(crank_message(context), "file.bin: byte 7 is wrong");
    crank_fail(context, CRANK_FAILED, "again: %s", crank_message(context)); /* an argument may be the old message */
    assert_string_equal(crank_message(context), "again: file.bin: byte 7 is wrong");
    crank_context_free(context);
}

static void allocation_refuses_an_overflow(void **state)
{
    (void)state;
    crank_context *context = crank_context_new();
    assert_null(crank_alloc(context, SIZE_MAX / 2, 3, "a test"));
    assert_int_equal(crank_last_status(context), CRANK_FAILED);
    float *memory = crank_alloc(context, 3, sizeof *memory, "a test");
    assert_int_equal((uintptr_t)memory % 64, 0);
    crank_free(memory);
    crank_context_free(context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(outer_function_adds_where_it_failed),
        cmocka_unit_test(allocation_refuses_an_overflow),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
