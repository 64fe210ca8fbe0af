/* 8-bit AdamW: 50 steps against a float32 transcription of bitsandbytes' kernel, state sizes, small tensors. */
#include "optim/run.h"

enum { COUNT = 5000, BLOCKS = (COUNT + 255) / 256, STEPS = 50 };

/* The same integers as in tests/oracle/optimizers.py. */
static void gradient(int64_t t, float *g)
{
    for (int64_t i = 0; i < COUNT; i++) {
        int64_t k = (i * 7919 + t * 104729 + i * i % 613 * t) % 2003 - 1001;
        g[i] = (float)k / 1024.0f * powf(0.5f, (float)(i / 256 % 6));
    }
}

static void fifty_steps_equal_bitsandbytes(void **state)
{
    (void)state;
    static float   start[COUNT], g[COUNT], w[COUNT], amax[2][BLOCKS];
    static uint8_t codes[2][COUNT];
    int64_t        dims[2] = { 50, 100 };
    for (int i = 0; i < COUNT; i++) start[i] = (float)(i * 31 % 257 - 128) / 256;
    runner r = runner_open("adamw8bit", "", CRANK_F32, 2, dims, start, 0.0625);
    for (int t = 1; t <= STEPS; t++) {
        gradient(t, g);
        runner_step(&r, g, 0x1p-7, t, 1, false);
    }
    runner_read(&r, "w", w, CRANK_F32);
    runner_read(&r, "w.adamw8bit.codes_m", codes[0], CRANK_U8);
    runner_read(&r, "w.adamw8bit.codes_v", codes[1], CRANK_U8);
    runner_read(&r, "w.adamw8bit.amax_m", amax[0], CRANK_F32);
    runner_read(&r, "w.adamw8bit.amax_v", amax[1], CRANK_F32);
    crank_safetensors *file = crank_safetensors_open(r.context, golden("optim/adam8bit.safetensors"));
    if (!file) fail_msg("%s", crank_message(r.context));
    static const char *const names[] = { "w", "codes_m", "codes_v", "amax_m", "amax_v" };
    crank_view               view[5];
    for (int i = 0; i < 5; i++) assert_true(crank_safetensors_find(file, names[i], &view[i]));
    /* A moment that lies on the boundary of two codes may fall to either side; everything else agrees to rounding. */
    const float *expected = view[0].data;
    int          far = 0, other[2] = { 0 };
    double       largest = 0;
    for (int i = 0; i < COUNT; i++) {
        double error = fabs((double)w[i] - expected[i]);
        far += error > 1e-6;
        largest = fmax(largest, error);
        for (int k = 0; k < 2; k++) {
            int distance = abs(codes[k][i] - ((const uint8_t *)view[1 + k].data)[i]);
            other[k] += distance != 0;
            assert_true(distance <= 1);
        }
    }
    print_message("w: %d of %d elements differ by more than 1e-6, largest %g; codes that differ: m %d, v %d\n", far, COUNT, largest,
                  other[0], other[1]);
    assert_true(far < COUNT / 100 && largest < 0x1p-7 / 10);
    assert_true(other[0] < COUNT / 100 && other[1] < COUNT / 100);
    assert_true(relative_error(amax[0], view[3].data, BLOCKS) < 1e-3);
    assert_true(relative_error(amax[1], view[4].data, BLOCKS) < 1e-3);
    crank_safetensors_close(file);
    runner_close(&r);
}

static size_t state_bytes(const runner *r)
{
    size_t bytes = 0;
    for (size_t i = 0; i < crank_params_count(r->params); i++)
        if (crank_params_at(r->params, i)->role == CRANK_ROLE_STATE) bytes += crank_view_bytes(&crank_params_at(r->params, i)->view);
    return bytes;
}

static void states_take_two_bytes_and_a_scale_a_block(void **state)
{
    (void)state;
    static float start[4096];
    int64_t      large = 4096, small = 4095;
    runner       r = runner_open("adamw8bit", "", CRANK_F32, 1, &large, start, 0);
    assert_int_equal(state_bytes(&r), 2 * 4096 + 8 * 16);
    runner_close(&r);
    r = runner_open("adamw8bit", "", CRANK_F32, 1, &small, start, 0);
    assert_int_equal(state_bytes(&r), 8 * 4095);
    runner_close(&r);
}

static void small_tensors_step_as_adamw_does(void **state)
{
    (void)state;
    static float start[COUNT], g[COUNT], w[2][200];
    int64_t      small = 200;
    for (int i = 0; i < 200; i++) start[i] = (float)i / 64;
    for (int k = 0; k < 2; k++) {
        runner r = runner_open(k ? "adamw8bit" : "adamw", "", CRANK_F32, 1, &small, start, 0.1);
        for (int t = 1; t <= 5; t++) {
            gradient(t, g);
            runner_step(&r, g, 1e-2, t, 1, false);
        }
        runner_read(&r, "w", w[k], CRANK_F32);
        runner_close(&r);
    }
    assert_memory_equal(w[0], w[1], sizeof w[0]);
}

static void elements_with_broken_gradients_stay_and_forget(void **state)
{
    (void)state;
    static float start[COUNT], g[COUNT], w[COUNT];
    int64_t      count = COUNT;
    for (int i = 0; i < COUNT; i++) start[i] = 1;
    runner r = runner_open("adamw8bit", "", CRANK_F32, 1, &count, start, 0);
    gradient(1, g);
    g[7] = NAN;
    g[300] = INFINITY;
    runner_step(&r, g, 1e-2, 1, 1, false);
    runner_read(&r, "w", w, CRANK_F32);
    for (int i = 0; i < COUNT; i++) assert_true(isfinite(w[i]));
    assert_true(w[7] == 1 && w[300] == 1 && w[8] != 1);
    runner_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fifty_steps_equal_bitsandbytes),
        cmocka_unit_test(states_take_two_bytes_and_a_scale_a_block),
        cmocka_unit_test(small_tensors_step_as_adamw_does),
        cmocka_unit_test(elements_with_broken_gradients_stay_and_forget),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
