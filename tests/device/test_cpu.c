/* The CPU device: levels, their choice, memory. */
#include "check.h"

static void levels_start_plain_and_each_can_be_chosen(void **state)
{
    (void)state;
    const char    *names[8];
    int            count = crank_cpu_levels(names, 8);
    crank_context *context = crank_context_new();
    assert_in_range(count, 1, 5);
    assert_string_equal(names[0], "plain");
    for (int i = 0; i < count; i++) {
        crank_device *device = crank_device_cpu(context, names[i]);
        assert_non_null(device);
        device->close(device);
    }
    crank_context_free(context);
}

static void unknown_level_is_an_error_that_names_the_levels(void **state)
{
    (void)state;
    crank_context *context = crank_context_new();
    assert_null(crank_device_cpu(context, "avx1024"));
    assert_int_equal(crank_last_status(context), CRANK_USAGE);
    assert_non_null(strstr(crank_message(context), "avx512bf16"));
    setenv("CRANK_BODIES", "abacus", 1);
    assert_null(crank_device_cpu(context, NULL));
    setenv("CRANK_BODIES", "", 1);
    crank_device *device = crank_device_cpu(context, NULL);
    assert_non_null(device);
    device->close(device);
    unsetenv("CRANK_BODIES");
    crank_context_free(context);
}

static void plain_level_uses_plain_bodies_only(void **state)
{
    (void)state;
    bench                  b = bench_open("plain");
    crank_view             x = drawn(&b, CRANK_F32, 0, 1, DIMS(64));
    crank_unary_attributes attributes = {CRANK_EXP};
    crank_call call = {.device = b.device, .in = &x, .inputs = 1, .out = &x, .outputs = 1, .attributes = &attributes};
    crank_body body;
    assert_true(b.device->find(b.device, "unary", &call, &body));
    assert_string_equal(body.name, "plain");
    bench_close(&b);
}

static void memory_is_zeroed_and_aligned(void **state)
{
    (void)state;
    bench        b = bench_open(NULL);
    const size_t sizes[] = {1, 1000, (size_t)9 << 20};
    for (size_t k = 0; k < 3; k++) {
        unsigned char *memory = b.device->alloc(b.context, b.device, sizes[k], "a test");
        assert_non_null(memory);
        assert_int_equal((uintptr_t)memory % 64, 0);
        for (size_t i = 0; i < sizes[k]; i += 997) assert_int_equal(memory[i], 0);
        b.device->free(b.device, memory);
    }
    assert_null(b.device->alloc(b.context, b.device, SIZE_MAX - 5, "a test"));
    assert_int_equal(crank_last_status(b.context), CRANK_FAILED);
    bench_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(levels_start_plain_and_each_can_be_chosen),
        cmocka_unit_test(unknown_level_is_an_error_that_names_the_levels),
        cmocka_unit_test(plain_level_uses_plain_bodies_only),
        cmocka_unit_test(memory_is_zeroed_and_aligned),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
