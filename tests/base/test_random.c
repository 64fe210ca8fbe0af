/* Random numbers: Random123's known answers, exact definitions of the draws, the normal's error, equal bits of all bodies. */
#include "testing.h"

#include "base/random_fill.h"
#include "crank/random.h"

/* kat_vectors of Random123 (Salmon et al. 2011), philox4x32 10 */
static void philox_gives_the_known_answers(void **state)
{
    (void)state;
    static const uint32_t vectors[3][10] = {
        {0, 0, 0, 0, 0, 0, 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8},
        {0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd},
        {0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344, 0xa4093822, 0x299f31d0, 0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1},
    };
    for (int i = 0; i < 3; i++) {
        uint32_t out[4];
        crank_philox(vectors[i], vectors[i] + 4, out);
        assert_memory_equal(out, vectors[i] + 6, sizeof out);
    }
}

static void draws_are_words_of_counted_blocks(void **state)
{
    (void)state;
    crank_stream   stream = crank_stream_make(0x0123456789abcdefu, CRANK_RANDOM_TEST, 77);
    uint64_t       i = 0x100000000u * 4 + 6; /* the block's high word is used */
    const uint32_t counter[4] = {1, 1, CRANK_RANDOM_TEST, 77}, key[2] = {0x89abcdefu, 0x01234567u};
    uint32_t       words[4];
    crank_philox(counter, key, words);
    assert_int_equal(crank_draw_bits(stream, i), words[2]);
    assert_true(crank_draw_uniform(stream, i) == (float)(words[2] >> 8) / 16777216.0f);
    assert_true(crank_draw_normal(stream, i) == philox_normal(words[2]));
    uint64_t wide = words[2] | (uint64_t)words[3] << 32;
    assert_int_equal(crank_draw_below(stream, i / 2, 1000), (uint64_t)(((unsigned __int128)wide * 1000) >> 64));
}

static void names_hash_as_fnv_1a(void **state)
{
    (void)state;
    assert_int_equal(crank_hash_name(""), 0x811c9dc5u);
    assert_int_equal(crank_hash_name("a"), 0xe40c292cu);
    assert_int_equal(crank_hash_name("foobar"), 0xbf9cf968u);
}

/* Error of z relative to the exact inverse at u = (b + 1/2) / 2^32, by one Newton step in double from z. */
static double normal_error(uint32_t b)
{
    double z = -fabs((double)philox_normal(b)), u = (b + 0.5) / 4294967296.0, tail = u < 0.5 ? u : 1 - u;
    double off = (erfc(-z / sqrt(2)) / 2 - tail) / (exp(-z * z / 2) / sqrt(2 * M_PI));
    return fabs(off / (z - off));
}

static void normal_is_the_inverse_cdf_within_4e_7(void **state)
{
    (void)state;
    double worst = 0;
    for (uint64_t b = 0; b < 0x100000000u; b += b < 40000 ? 1 : 40009) worst = fmax(worst, normal_error((uint32_t)b));
    for (uint32_t i = 0; i < 40000; i++) { /* both sides of the middle, and the upper end */
        worst = fmax(worst, normal_error(0x80000000u - 20000 + i));
        worst = fmax(worst, normal_error(0xffffffffu - i));
    }
    if (worst > 4e-7) fail_msg("relative error %g", worst);
}

static void normal_is_odd_and_never_falls(void **state)
{
    (void)state;
    for (uint32_t b = 0; b < 0x80000000u - 65521; b += 65521) {
        assert_true(philox_normal(b) == -philox_normal(~b));
        assert_true(philox_normal(b) <= philox_normal(b + 65521));
    }
    assert_true(philox_normal(0) < -6.3f && philox_normal(0) > -6.4f);
    assert_true(philox_normal(0x7fffffffu) < 0 && philox_normal(0x80000000u) > 0);
}

static void filled_arrays_equal_single_draws(void **state)
{
    (void)state;
    crank_stream stream = crank_stream_make(5, CRANK_RANDOM_TEST, 1);
    float        out[1000];
    for (size_t skip = 0; skip < 5; skip++) {
        uint64_t first = 0x400000000u - 500 + skip; /* crosses a carry into the block's high word */
        crank_fill_uniform(stream, first, -2, 3, out, 1000 - skip);
        for (size_t i = 0; i < 1000 - skip; i++) assert_true(out[i] == fmaf(crank_draw_uniform(stream, first + i), 5, -2));
        crank_fill_normal(stream, first, 1, 0.5f, out, 1000 - skip);
        for (size_t i = 0; i < 1000 - skip; i++) assert_true(out[i] == fmaf(crank_draw_normal(stream, first + i), 0.5f, 1));
    }
}

static void each_instruction_set_gives_the_same_bits(void **state)
{
    (void)state;
    crank_stream stream = crank_stream_make(99, CRANK_RANDOM_TEST, 3);
    enum { N = 50000 };
    float *plain = malloc(N * sizeof *plain), *other = malloc(N * sizeof *other);
    for (int normal = 0; normal < 2; normal++) {
        random_fill_plain(stream, 3, 0.25f, 1.5f, normal, plain, N);
#if defined(__x86_64__)
        if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
            random_fill_avx2(stream, 3, 0.25f, 1.5f, normal, other, N);
            assert_memory_equal(plain, other, N * sizeof *plain);
        }
        if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
            random_fill_avx512(stream, 3, 0.25f, 1.5f, normal, other, N);
            assert_memory_equal(plain, other, N * sizeof *plain);
        }
#endif
    }
    free(plain);
    free(other);
}

static void moments_of_a_million_draws_are_the_distributions(void **state)
{
    (void)state;
    enum { N = 1000000 };
    float *values = malloc(N * sizeof *values);
    double sum[5] = {0};
    crank_fill_normal(crank_stream_make(1, CRANK_RANDOM_TEST, 0), 0, 0, 1, values, N);
    for (int i = 0; i < N; i++)
        for (int power = 1; power <= 4; power++) sum[power] += pow(values[i], power) / N;
    assert_true(fabs(sum[1]) < 0.005 && fabs(sum[2] - 1) < 0.008 && fabs(sum[3]) < 0.02 && fabs(sum[4] - 3) < 0.06);
    free(values);
}

static void permutation_holds_each_number_once_and_reaches_every_order(void **state)
{
    (void)state;
    int64_t out[1000], seen[1000] = {0};
    crank_permutation(crank_stream_make(4, CRANK_RANDOM_SHUFFLE, 0), out, 1000);
    for (int i = 0; i < 1000; i++) seen[out[i]]++;
    for (int i = 0; i < 1000; i++) assert_int_equal(seen[i], 1);
    int orders[64] = {0}, found = 0;
    for (uint32_t epoch = 0; epoch < 600; epoch++) {
        crank_permutation(crank_stream_make(4, CRANK_RANDOM_SHUFFLE, epoch), out, 3);
        orders[out[0] * 9 + out[1] * 3 + out[2]]++;
    }
    for (int i = 0; i < 64; i++) {
        found += orders[i] > 0;
        assert_true(orders[i] == 0 || (orders[i] > 60 && orders[i] < 140));
    }
    assert_int_equal(found, 6);
    crank_permutation(crank_stream_make(4, CRANK_RANDOM_SHUFFLE, 0), out, 0);
}

static void draws_below_stay_below(void **state)
{
    (void)state;
    crank_stream stream = crank_stream_make(4, CRANK_RANDOM_TEST, 0);
    for (uint64_t i = 0; i < 1000; i++) {
        assert_int_equal(crank_draw_below(stream, i, 1), 0);
        assert_true(crank_draw_below(stream, i, 7) < 7);
        assert_true(crank_draw_below(stream, i, UINT64_MAX) < UINT64_MAX);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(philox_gives_the_known_answers),
        cmocka_unit_test(draws_are_words_of_counted_blocks),
        cmocka_unit_test(names_hash_as_fnv_1a),
        cmocka_unit_test(normal_is_the_inverse_cdf_within_4e_7),
        cmocka_unit_test(normal_is_odd_and_never_falls),
        cmocka_unit_test(filled_arrays_equal_single_draws),
        cmocka_unit_test(each_instruction_set_gives_the_same_bits),
        cmocka_unit_test(moments_of_a_million_draws_are_the_distributions),
        cmocka_unit_test(permutation_holds_each_number_once_and_reaches_every_order),
        cmocka_unit_test(draws_below_stay_below),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
