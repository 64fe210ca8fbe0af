/* Element types and conversions: every 16-bit value, rounding to nearest even against a search, equal loops. */
#include "testing.h"

#include "crank/random.h"
#include "crank/tensor.h"
#include "tensor/convert.h"

static void names_read_back(void **state)
{
    (void)state;
    crank_dtype dtype;
    for (int i = 0; i < CRANK_DTYPES; i++) {
        assert_true(crank_dtype_parse(crank_dtype_name((crank_dtype)i), &dtype));
        assert_int_equal(dtype, i);
    }
    assert_true(crank_dtype_parse("BF16", &dtype) && dtype == CRANK_BF16);
    assert_false(crank_dtype_parse("int4", &dtype));
    assert_int_equal(crank_dtype_bits(CRANK_NF4), 4);
    assert_true(crank_dtype_is_float(CRANK_F8E4M3) && !crank_dtype_is_float(CRANK_U8));
}

static void views_count_elements_and_bytes(void **state)
{
    (void)state;
    int64_t    dims[5] = {2, 1, 3, 1, 5};
    crank_view view = crank_view_make(NULL, CRANK_NF4, 5, dims);
    assert_int_equal(crank_view_count(&view), 30);
    assert_int_equal(crank_view_bytes(&view), 15);
    assert_int_equal(view.strides[0], 15);
    view.strides[1] = 99; /* no second element along it */
    assert_true(crank_view_is_contiguous(&view));
    view.strides[2] = 6;
    assert_false(crank_view_is_contiguous(&view));
    view.dims[0] = 0;
    assert_true(crank_view_is_contiguous(&view));
    crank_view scalar = crank_view_make(NULL, CRANK_F64, 0, NULL);
    assert_int_equal(crank_view_bytes(&scalar), 8);
    assert_true(crank_view_is_contiguous(&scalar));
}

static double value_of_f16(uint16_t bits)
{
    int    exponent = bits >> 10 & 31, fraction = bits & 1023;
    double magnitude = exponent == 31 ? (fraction ? NAN : INFINITY)
                       : exponent     ? ldexp(1024 + fraction, exponent - 25)
                                      : ldexp(fraction, -24);
    return bits & 0x8000 ? -magnitude : magnitude;
}

static void every_half_is_widened_exactly_and_narrows_back(void **state)
{
    (void)state;
    for (uint32_t bits = 0; bits < 65536; bits++) {
        float  half = crank_from_f16((uint16_t)bits), brain = crank_from_bf16((uint16_t)bits);
        double exact = value_of_f16((uint16_t)bits);
        if (isnan(exact)) assert_true(isnan(half) && isnan(crank_from_f16(crank_to_f16(half))));
        else assert_true(half == exact && !signbit(half) == !signbit(exact) && crank_to_f16(half) == bits);
        if (isnan(brain)) assert_true(isnan(crank_from_bf16(crank_to_bf16(brain))));
        else assert_int_equal(crank_to_bf16(brain), bits);
    }
}

/* The nearest of two neighbouring 16-bit values (one ulp apart towards infinity), ties to the even one. */
static uint16_t nearest(double value, uint16_t guess, double (*value_of)(uint16_t), double overflow)
{
    uint16_t sign = guess & 0x8000, best = sign;
    double   magnitude = fabs(value), best_distance = INFINITY;
    for (int step = -2; step <= 2; step++) {
        int candidate = (guess & 0x7fff) + step;
        if (candidate < 0) continue;
        double there = fabs(value_of((uint16_t)candidate));
        if (isnan(there)) continue;
        double distance = fabs(magnitude - (isinf(there) ? overflow : there));
        if (distance < best_distance || (distance == best_distance && candidate % 2 == 0)) {
            best_distance = distance;
            best = (uint16_t)(sign | candidate);
        }
    }
    return best;
}

static double value_of_bf16(uint16_t bits) { return crank_from_bf16(bits); }

static void narrowing_takes_the_nearest_and_ties_to_even(void **state)
{
    (void)state;
    crank_stream stream = crank_stream_make(3, CRANK_RANDOM_TEST, 0);
    for (uint64_t i = 0; i < 400000; i++) {
        uint32_t bits = crank_draw_bits(stream, i);
        if (i % 4 == 1) bits = (bits & 0xfffff000u) | 0x1000u; /* ties of f16 */
        if (i % 4 == 2) bits = (bits & 0xffff0000u) | 0x8000u; /* ties of bf16 */
        if (i % 4 == 3) bits = (bits & 0x8fffffffu) | 0x30000000u | (bits & 0x08000000u); /* around f16's small values */
        float value = convert_float(bits);
        if (isnan(value) || isinf(value)) continue;
        uint16_t half = crank_to_f16(value), brain = crank_to_bf16(value);
        assert_int_equal(half, fabsf(value) >= 65536 ? ((bits >> 16 & 0x8000) | 0x7c00)
                                                     : nearest(value, half, value_of_f16, 65536));
        assert_int_equal(brain, nearest(value, brain, value_of_bf16, 0x1p128));
    }
    assert_int_equal(crank_to_f16(65519.996f), 0x7bff);
    assert_int_equal(crank_to_f16(65520), 0x7c00);
    assert_int_equal(crank_to_f16(0x1p-25f), 0);
    assert_int_equal(crank_to_f16(0x1.000002p-25f), 1);
}

static void doubles_are_rounded_once(void **state)
{
    (void)state;
    /* Half an ulp and a little more: rounding to f32 first would make a tie and round down. */
    double         values[] = {1 + 0x1p-11 + 0x1p-40, -(1 + 0x1p-11 + 0x1p-40), 1 + 0x1p-8 + 0x1p-45, 1e300, NAN, 0x1p-25 + 0x1p-70,
                               65520 - 0x1p-30};
    uint16_t       half[7], brain[7];
    const uint16_t expected_half[] = {0x3c01, 0xbc01, 0x3c04, 0x7c00, 0x7e00, 0x0001, 0x7bff};
    crank_convert(half, CRANK_F16, values, CRANK_F64, 7);
    crank_convert(brain, CRANK_BF16, values, CRANK_F64, 7);
    for (int i = 0; i < 7; i++) assert_int_equal(half[i] & (i == 4 ? 0x7e00 : 0xffff), expected_half[i]);
    assert_int_equal(brain[2], 0x3f81);
    assert_int_equal(brain[3], 0x7f80);
    assert_true(isnan(crank_from_bf16(brain[4])));
}

static void arrays_convert_between_any_two_types(void **state)
{
    (void)state;
    enum { N = 5001 };
    static double                  source[N], back[N];
    static uint8_t                 middle[N * 8], last[N * 8];
    static const crank_dtype types[] = {CRANK_F32, CRANK_BF16, CRANK_F16, CRANK_F64};
    for (int i = 0; i < N; i++) source[i] = (i % 511 - 255) / 128.0; /* exact in none but with few bits: bf16 rounds some */
    for (int i = 0; i < N; i++) source[i] = crank_from_bf16(crank_to_bf16((float)source[i])); /* now exact in all four */
    for (int a = 0; a < 4; a++)
        for (int b = 0; b < 4; b++) {
            crank_convert(middle, types[a], source, CRANK_F64, N);
            crank_convert(last, types[b], middle, types[a], N);
            crank_convert(back, CRANK_F64, last, types[b], N);
            assert_memory_equal(back, source, sizeof source);
        }
}

static void loops_of_each_instruction_set_agree(void **state)
{
    (void)state;
#if defined(__x86_64__)
    if (!__builtin_cpu_supports("avx2")) skip(); /* all processors with AVX2 have F16C */
    enum { N = 65536 + 5 };
    static float    values[N], plain[N], fast[N];
    static uint16_t halves[N], narrow[N], fast_narrow[N];
    crank_stream    stream = crank_stream_make(8, CRANK_RANDOM_TEST, 0);
    for (size_t i = 0; i < N; i++) {
        values[i] = convert_float(crank_draw_bits(stream, i));
        if (i % 3 == 0) values[i] = (float)ldexp(crank_draw_normal(stream, i), (int)(i % 40) - 26);
        halves[i] = (uint16_t)i;
    }
    convert_loops_plain.from_bf16(plain, halves, N);
    convert_loops_avx2.from_bf16(fast, halves, N);
    assert_memory_equal(plain, fast, sizeof plain);
    convert_loops_plain.from_f16(plain, halves, N);
    convert_loops_avx2.from_f16(fast, halves, N);
    assert_memory_equal(plain, fast, sizeof plain);
    convert_loops_plain.to_bf16(narrow, values, N);
    convert_loops_avx2.to_bf16(fast_narrow, values, N);
    assert_memory_equal(narrow, fast_narrow, sizeof narrow);
    convert_loops_plain.to_f16(narrow, values, N);
    convert_loops_avx2.to_f16(fast_narrow, values, N);
    assert_memory_equal(narrow, fast_narrow, sizeof narrow);
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_read_back),
        cmocka_unit_test(views_count_elements_and_bytes),
        cmocka_unit_test(every_half_is_widened_exactly_and_narrows_back),
        cmocka_unit_test(narrowing_takes_the_nearest_and_ties_to_even),
        cmocka_unit_test(doubles_are_rounded_once),
        cmocka_unit_test(arrays_convert_between_any_two_types),
        cmocka_unit_test(loops_of_each_instruction_set_agree),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
