/* Parameters that are parked: values go out and come back as they were, no device memory is taken, and a folder that cannot be written is told. */
#include "crank/graph.h"
#include "test_device.h"
#include "testing.h"

static void values_come_back_as_they_were(void **state)
{
    (void)state;
    enum { N = 3000 };
    static float   x[N], y[N];
    static double  wide[N];
    crank_context *context = crank_context_new();
    crank_device  *device = test_device(context, NULL);
    crank_params  *params = crank_params_new(context, device);
    const int64_t  dims[2] = { 3, 1000 };
    crank_param   *a = crank_params_add_parked(params, "a", CRANK_ROLE_STATE, CRANK_F32, 2, dims), *b = crank_params_add_parked(params, "b", CRANK_ROLE_STATE, CRANK_BF16, 2, dims);
    assert_non_null(a), assert_non_null(b);
    assert_null(a->view.data);
    assert_ok(context, crank_param_read(context, a, y, CRANK_F32));
    for (int i = 0; i < N; i++) assert_true(y[i] == 0);
    for (int i = 0; i < N; i++) x[i] = (float)(i % 97) / 8;
    assert_ok(context, crank_param_write(context, a, x, CRANK_F32));
    assert_ok(context, crank_param_write(context, b, x, CRANK_F32));
    assert_ok(context, crank_param_read(context, a, wide, CRANK_F64));
    assert_ok(context, crank_param_read(context, b, y, CRANK_F32));
    for (int i = 0; i < N; i++) {
        assert_true(wide[i] == (double)x[i]);
        assert_true(y[i] == crank_from_bf16(crank_to_bf16(x[i])));
    }
    crank_params_free(params);
    device->close(device);
    crank_context_free(context);
}

static void planning_takes_no_place(void **state)
{
    (void)state;
    crank_context *context = crank_context_new();
    crank_device  *device = test_device(context, NULL);
    crank_params  *params = crank_params_new(context, device);
    const int64_t  n = 4;
    float          x[4];
    crank_params_defer(params, true);
    crank_param *a = crank_params_add_parked(params, "a", CRANK_ROLE_STATE, CRANK_F32, 1, &n);
    assert_int_equal(crank_param_read(context, a, x, CRANK_F32), CRANK_USAGE);
    assert_ok(context, crank_params_commit(params));
    assert_ok(context, crank_param_read(context, a, x, CRANK_F32));
    crank_params_free(params);
    device->close(device);
    crank_context_free(context);
}

static void a_folder_that_cannot_be_written_is_told(void **state)
{
    (void)state;
    crank_context *context = crank_context_new();
    crank_device  *device = crank_device_cpu(context, NULL);
    crank_params  *params = crank_params_new(context, device);
    const int64_t  n = 4;
    char          *before = getenv("TMPDIR") ? strdup(getenv("TMPDIR")) : NULL;
    setenv("TMPDIR", "/there/is/no/such/folder", 1);
    assert_null(crank_params_add_parked(params, "a", CRANK_ROLE_STATE, CRANK_F32, 1, &n));
    assert_non_null(strstr(crank_message(context), "/there/is/no/such/folder"));
    assert_non_null(strstr(crank_message(context), "TMPDIR"));
    assert_int_equal(crank_params_count(params), 0);
    if (before) setenv("TMPDIR", before, 1);
    else unsetenv("TMPDIR");
    free(before);
    crank_params_free(params);
    device->close(device);
    crank_context_free(context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_come_back_as_they_were),
        cmocka_unit_test(planning_takes_no_place),
        cmocka_unit_test(a_folder_that_cannot_be_written_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
