/* Weights in four and eight bits: bitsandbytes' and torch's codes, scales and values. */
#include "testing.h"

#include "tensor/fp8.h"
#include "tensor/nf4.h"

static crank_context     *context;
static crank_safetensors *file;

static const void *tensor(const char *name, const char *part, int64_t *count)
{
    char       key[100];
    crank_view view;
    snprintf(key, sizeof key, "%s.%s", name, part);
    if (!crank_safetensors_find(file, key, &view)) fail_msg("the golden file lacks %s", key);
    if (count) *count = crank_view_count(&view);
    return view.data;
}

static void open_file(const char *name)
{
    char path[300];
    snprintf(path, sizeof path, "%s/tests/golden/quantized/%s", CRANK_SOURCE_DIR, name);
    context = crank_context_new();
    file = crank_safetensors_open(context, path);
    if (!file) fail_msg("%s", crank_message(context));
}

static void close_file(void)
{
    crank_safetensors_close(file);
    crank_context_free(context);
}

static const char *const cases[] = {"normal", "tails", "zeros", "uneven"};

static void codes_and_scales_equal_bitsandbytes(void **state)
{
    (void)state;
    open_file("nf4.safetensors");
    for (int c = 0; c < 4; c++)
        for (int threads = 1; threads <= 2; threads++) {
            char    name[40];
            int64_t n = 0, bytes = 0, blocks = 0;
            float   absmax[200], map[256], second[4], offset = 0;
            uint8_t codes[5000], nested[200];
            const float *w = tensor(cases[c], "w", &n);
            nf4_quantize(w, n, NF4_BLOCK, threads, codes, absmax);
            snprintf(name, sizeof name, "%s.plain", cases[c]);
            assert_memory_equal(codes, tensor(name, "codes", &bytes), (size_t)bytes);
            assert_int_equal(bytes, (n + 1) / 2);
            assert_memory_equal(absmax, tensor(name, "scales", &blocks), (size_t)blocks * sizeof(float));
            assert_int_equal(blocks, nf4_blocks(n, NF4_BLOCK));
            nf4_compress(absmax, blocks, nested, map, second, &offset);
            snprintf(name, sizeof name, "%s.nested", cases[c]);
            for (int i = 0; i < 256; i++) { /* torch's own grid differs in the last bit from machine to machine */
                float theirs = ((const float *)tensor(name, "map", NULL))[i];
                assert_true(fabsf(map[i] - theirs) <= 3e-7f * fabsf(theirs));
            }
            assert_true(fabsf(offset - *(const float *)tensor(name, "offset", NULL)) <= 3e-7f * fabsf(offset)); /* torch's order of the sum */
            assert_true(relative_error(second, tensor(name, "second", NULL), (size_t)(blocks + 255) / 256) < 1e-4);
            int            other = 0;
            const uint8_t *theirs = tensor(name, "scales", NULL);
            for (int64_t j = 0; j < blocks; j++) { /* one that lies on the border of two codes may fall to either side */
                other += nested[j] != theirs[j];
                assert_true(abs(nested[j] - theirs[j]) <= 1);
            }
            assert_true(other <= blocks / 50);
        }
    close_file();
}

static void values_equal_bitsandbytes_bit_for_bit(void **state)
{
    (void)state;
    open_file("nf4.safetensors");
    for (int c = 0; c < 8; c++) {
        char       name[40];
        int64_t    n = 0;
        float      w[9216];
        uint16_t   rounded[9216];
        nf4_scales scales = {0};
        snprintf(name, sizeof name, "%s.%s", cases[c / 2], c % 2 ? "nested" : "plain");
        if (c % 2) scales = (nf4_scales){NULL, tensor(name, "scales", NULL), tensor(name, "map", NULL), tensor(name, "second", NULL), *(const float *)tensor(name, "offset", NULL)};
        else scales.plain = tensor(name, "scales", NULL);
        const float *expected = tensor(name, "f32", &n);
        const uint8_t *codes = tensor(name, "codes", NULL);
        nf4_dequantize(codes, &scales, NF4_BLOCK, 0, n, w);
        for (int64_t i = 0; i < n; i++)
            if (w[i] != expected[i]) fail_msg("%s: element %d is %.9g, not %.9g", name, (int)i, (double)w[i], (double)expected[i]);
        crank_convert(rounded, CRANK_BF16, w, CRANK_F32, (size_t)n);
        const uint16_t *half = tensor(name, "bf16", NULL);
        for (int64_t i = 0; i < n; i++) /* -0 and 0 */
            if ((rounded[i] & 0x7fff || half[i] & 0x7fff) && rounded[i] != half[i]) fail_msg("%s: element %d in bf16", name, (int)i);
        nf4_dequantize(codes + 16, &scales, NF4_BLOCK, 33, 40, w); /* from inside a byte */
        assert_memory_equal(w, expected + 33, 40 * sizeof(float));
    }
    close_file();
}

static void quantising_again_changes_nothing(void **state)
{
    (void)state;
    float   w[256], absmax[4], again[4];
    uint8_t codes[128], second[128];
    for (int i = 0; i < 256; i++) w[i] = nf4_levels[i * 7 % 16] * (float)(1 << i / 64);
    w[0] = 1, w[70] = 2, w[130] = -4, w[200] = 8;
    nf4_quantize(w, 256, NF4_BLOCK, 1, codes, absmax);
    nf4_scales scales = {.plain = absmax};
    float      back[256];
    nf4_dequantize(codes, &scales, NF4_BLOCK, 0, 256, back);
    assert_memory_equal(w, back, sizeof w); /* levels times the largest come back exactly */
    nf4_quantize(back, 256, NF4_BLOCK, 1, second, again);
    assert_memory_equal(codes, second, sizeof codes);
    assert_memory_equal(absmax, again, sizeof absmax);
}

static void a_block_of_zeros_comes_back_as_zeros(void **state)
{
    (void)state;
    float   w[64] = {0}, absmax, back[64];
    uint8_t codes[32];
    nf4_quantize(w, 64, NF4_BLOCK, 1, codes, &absmax);
    assert_int_equal(codes[0], 0x77);
    nf4_dequantize(codes, &(nf4_scales){.plain = &absmax}, NF4_BLOCK, 0, 64, back);
    for (int i = 0; i < 64; i++) assert_true(back[i] == 0);
}

static void eight_bit_floats_equal_torch(void **state)
{
    (void)state;
    open_file("fp8.safetensors");
    crank_view x, codes, every;
    assert_true(crank_safetensors_find(file, "x", &x) && crank_safetensors_find(file, "codes", &codes) && crank_safetensors_find(file, "every", &every));
    for (int64_t i = 0; i < crank_view_count(&x); i++)
        if (fp8_from_float(((const float *)x.data)[i]) != ((const uint8_t *)codes.data)[i]) fail_msg("%.9g", (double)((const float *)x.data)[i]);
    for (int i = 0; i < 256; i++) {
        float value = fp8_to_float((uint8_t)i), expected = ((const float *)every.data)[i];
        assert_true(value == expected || (value != value && expected != expected));
        if (value == value) assert_int_equal(fp8_from_float(value), i);
    }
    assert_int_equal(fp8_from_float(1e9f), 0x7e);
    assert_int_equal(fp8_from_float(-INFINITY), 0xfe);
    assert_int_equal(fp8_from_float(NAN) & 0x7f, 0x7f);
    close_file();
}

static void a_row_keeps_its_largest_value(void **state)
{
    (void)state;
    float   w[3][5] = {{1, -2, 0.5f, 0, 3}, {0}, {1e-30f, 2e-30f, -7e-30f, 0, 1e-31f}}, scales[3];
    uint8_t codes[15];
    fp8_quantize_rows(w[0], 3, 5, 5, 1, codes, scales);
    assert_true(fabsf(fp8_to_float(codes[4]) * scales[0] - 3) < 1e-6f);
    assert_true(scales[1] == 1 && codes[5] == 0);
    assert_int_equal(codes[12], 0xfe);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(codes_and_scales_equal_bitsandbytes),  cmocka_unit_test(values_equal_bitsandbytes_bit_for_bit),
        cmocka_unit_test(quantising_again_changes_nothing),     cmocka_unit_test(a_block_of_zeros_comes_back_as_zeros),
        cmocka_unit_test(eight_bit_floats_equal_torch),         cmocka_unit_test(a_row_keeps_its_largest_value),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
