/* 8-bit optimiser states: facts about the code map, and steps of block-wise Adam. */
#include "check.h"

#include "tensor/dynamic_map.h"

static void signed_map_has_its_known_values(void **state)
{
    (void)state;
    float  map[256];
    double sum = 0;
    dynamic_map(true, map);
    for (int i = 0; i < 256; i++) {
        sum += (double)map[i];
        if (i) assert_true(map[i] > map[i - 1]);
    }
    assert_true(map[127] == 0 && map[255] == 1);
    assert_near(map[0], -0.99296875, 1e-7);
    assert_near(map[254], 0.99296875, 1e-7);
    assert_near(map[128], 5.5e-7, 1e-13);
    assert_near(map[126], -5.5e-7, 1e-13);
    assert_near(map[129], 3.25e-6, 1e-12);
    assert_near(map[130], 7.75e-6, 1e-12);
    assert_near(sum, 1, 1e-6);
}

static void unsigned_map_has_its_known_values(void **state)
{
    (void)state;
    float  map[256];
    double sum = 0;
    dynamic_map(false, map);
    for (int i = 0; i < 256; i++) {
        sum += (double)map[i];
        if (i) assert_true(map[i] > map[i - 1]);
    }
    assert_true(map[0] == 0 && map[255] == 1);
    const double known[][2] = {{1, 3.25e-7},       {2, 7.75e-7},       {3, 2.125e-6},
                               {127, 0.103515625}, {128, 0.110546875}, {254, 0.996484375}};
    for (int k = 0; k < 6; k++) assert_near(map[(int)known[k][0]] / known[k][1], 1, 1e-6);
    assert_near(sum, 75.1052631, 1e-5);
}

static void nearest_code_is_nearest_and_keeps_the_sign(void **state)
{
    (void)state;
    float map[256];
    dynamic_map(true, map);
    for (int i = 0; i <= 20000; i++) {
        float   x = -1 + (float)i * 1e-4f;
        uint8_t code = dynamic_nearest(map, x);
        for (int other = 0; other < 256; other++) assert_true(fabsf(map[code] - x) <= fabsf(map[other] - x) + 1e-7f);
    }
    for (int i = 0; i < 256; i++) assert_int_equal(dynamic_nearest_signed(map, map[i]), i);
    assert_int_equal(dynamic_nearest_signed(map, -1e-9f), 126); /* a negative moment never becomes 0 */
    assert_int_equal(dynamic_nearest_signed(map, 1e-9f), 127);
    assert_int_equal(dynamic_nearest_signed(map, -0.0f), 127);
    assert_int_equal(dynamic_nearest_signed(map, NAN), 127);
}

enum { N = 600, BLOCKS = 3 };
typedef struct adam_state {
    crank_view w, g, codes_m, codes_v, amax_m, amax_v;
} adam_state;

static adam_state adam_make(bench *b, crank_dtype dtype)
{
    adam_state s = {.w = drawn(b, dtype, -1, 1, DIMS(N)),
                    .g = drawn(b, CRANK_F32, -1, 1, DIMS(N)),
                    .codes_m = drawn(b, CRANK_U8, 0, 0, DIMS(N)),
                    .codes_v = drawn(b, CRANK_U8, 0, 0, DIMS(N)),
                    .amax_m = drawn(b, CRANK_F32, 0, 0, DIMS(BLOCKS)),
                    .amax_v = drawn(b, CRANK_F32, 0, 0, DIMS(BLOCKS))};
    return s;
}

static void adam_step(bench *b, adam_state *s, const crank_adam_attributes *a, double count)
{
    crank_view scalars = GIVEN(b, CRANK_F32, DIMS(8), 0.125, count, 1, 0, 1, 0, 0, 0);
    apply(b, "adamw8bit", VIEWS(s->w, s->g, s->codes_m, s->codes_v, s->amax_m, s->amax_v, scalars),
          VIEWS(s->w, s->codes_m, s->codes_v, s->amax_m, s->amax_v), a);
}

/* From zero states the first step is that of AdamW, with decay behind it; the states are within half a code. */
static void first_step_equals_adamw_and_states_are_nearest(void **state)
{
    (void)state;
    bench                 b = bench_open("plain");
    crank_adam_attributes a = {.beta1 = 0.9, .beta2 = 0.99, .epsilon = 1e-8, .decay = 0.2, .rate_factor = 1};
    adam_state            s = adam_make(&b, CRANK_F32);
    crank_view            before = copied(&b, &s.w, CRANK_F32);
    float                 map[256], map_v[256];
    dynamic_map(true, map);
    dynamic_map(false, map_v);
    adam_step(&b, &s, &a, 1);
    for (int i = 0; i < N; i++) {
        double g = value(&s.g, i), amax_m = value(&s.amax_m, i / 256), amax_v = value(&s.amax_v, i / 256);
        double expected = (value(&before, i) - 0.125 * g / (fabs(g) + 1e-8)) * (1 - 0.125 * 0.2);
        assert_near(value(&s.w, i), expected, 1e-6);
        assert_near((double)map[(int)value(&s.codes_m, i)] * amax_m, 0.1 * g, 0.008 * amax_m);
        assert_near((double)map_v[(int)value(&s.codes_v, i)] * amax_v, 0.01 * g * g, 0.004 * amax_v);
    }
    for (int block = 0; block < BLOCKS; block++) {
        double most = 0;
        for (int i = block * 256; i < N && i < block * 256 + 256; i++) most = fmax(most, fabs(value(&s.g, i)));
        assert_near(value(&s.amax_m, block), 0.1 * most, 1e-7);
        assert_near(value(&s.amax_v, block), 0.01 * most * most, 1e-8);
    }
    bench_close(&b);
}

static void non_finite_gradient_forgets_one_element_and_leaves_its_weight(void **state)
{
    (void)state;
    bench                 b = bench_open("plain");
    crank_adam_attributes a = {.beta1 = 0.9, .beta2 = 0.99, .epsilon = 1e-8, .rate_factor = 1};
    adam_state            s = adam_make(&b, CRANK_F32);
    adam_step(&b, &s, &a, 1);
    double weight = value(&s.w, 300), neighbour = value(&s.w, 301);
    set(&s.g, 300, NAN);
    adam_step(&b, &s, &a, 2);
    assert_true(value(&s.w, 300) == weight && value(&s.w, 301) != neighbour);
    assert_int_equal(value(&s.codes_m, 300), 127);
    assert_int_equal(value(&s.codes_v, 300), 0);
    assert_true(isfinite(value(&s.amax_m, 1)));
    bench_close(&b);
}

static void block_of_zeros_stays_zero(void **state)
{
    (void)state;
    bench                 b = bench_open("plain");
    crank_adam_attributes a = {.beta1 = 0.9, .beta2 = 0.99, .epsilon = 1e-8, .rate_factor = 1};
    adam_state            s = adam_make(&b, CRANK_BF16);
    draw_into(&b, s.g, 0, 0);
    crank_view before = copied(&b, &s.w, CRANK_BF16);
    for (int t = 1; t <= 3; t++) adam_step(&b, &s, &a, t);
    assert_true(distance(&s.w, &before) == 0);
    assert_true(value(&s.amax_m, 0) == 0 && value(&s.amax_v, 2) == 0);
    bench_close(&b);
}

/* On a quadratic bowl with noise both optimisers come to the same loss. */
static void quantised_states_train_like_full_ones(void **state)
{
    (void)state;
    bench                 b = bench_open("plain");
    crank_adam_attributes a = {.beta1 = 0.9, .beta2 = 0.99, .epsilon = 1e-8, .rate_factor = 0.1};
    adam_state            s = adam_make(&b, CRANK_F32);
    crank_view            w = copied(&b, &s.w, CRANK_F32), m = drawn(&b, CRANK_F32, 0, 0, DIMS(N)),
               v = drawn(&b, CRANK_F32, 0, 0, DIMS(N));
    double loss[2] = {0, 0}, start = 0;
    for (int i = 0; i < N; i++) start += value(&w, i) * value(&w, i);
    for (int t = 1; t <= 60; t++) {
        crank_view scalars = GIVEN(&b, CRANK_F32, DIMS(8), 0.125, t, 1, 0, 1, 0, 0, 0),
                   g = fresh(&b, CRANK_F32, DIMS(N));
        for (int i = 0; i < N; i++) set(&s.g, i, value(&s.w, i)), set(&g, i, value(&w, i));
        adam_step(&b, &s, &a, t);
        apply(&b, "adamw", VIEWS(w, g, m, v, scalars), VIEWS(w, m, v), &a);
    }
    for (int i = 0; i < N; i++) loss[0] += value(&w, i) * value(&w, i), loss[1] += value(&s.w, i) * value(&s.w, i);
    assert_true(loss[0] < 0.2 * start && loss[1] < 1.1 * loss[0]);
    bench_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(signed_map_has_its_known_values),
        cmocka_unit_test(unsigned_map_has_its_known_values),
        cmocka_unit_test(nearest_code_is_nearest_and_keeps_the_sign),
        cmocka_unit_test(first_step_equals_adamw_and_states_are_nearest),
        cmocka_unit_test(non_finite_gradient_forgets_one_element_and_leaves_its_weight),
        cmocka_unit_test(block_of_zeros_stays_zero),
        cmocka_unit_test(quantised_states_train_like_full_ones),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
