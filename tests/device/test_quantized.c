/* Weights of four and eight bits: every level gives the bits of the plain body, for rows of any length, gaps between the rows of the
 * result, plain and coded scales; and what does not fit together is refused. */
#include "fast_check.h"

#include "tensor/fp8.h"
#include "tensor/nf4.h"

typedef struct weight {
    crank_view in[5];
} weight;

static uint8_t byte(bench *b) { return (uint8_t)crank_draw_below(crank_stream_make(3, CRANK_RANDOM_TEST, 2), b->draw += 2, 256); }

/* A view over bytes of memory. */
static crank_view bytes_view(bench *b, crank_dtype type, int64_t rows, int64_t columns)
{
    crank_view view = crank_view_make(NULL, type, DIMS(rows, columns));
    view.data = bench_memory(b, crank_view_bytes(&view));
    for (size_t i = 0; i < crank_view_bytes(&view); i++) ((uint8_t *)view.data)[i] = byte(b);
    return view;
}

static weight four_bits(bench *b, int64_t rows, int64_t columns, int64_t block, bool coded)
{
    int64_t blocks = nf4_blocks(rows * columns, block);
    weight  w = {{bytes_view(b, CRANK_NF4, rows, columns), drawn(b, CRANK_F32, 0.1, 2, DIMS(blocks)), ABSENT, ABSENT, ABSENT}};
    if (!coded) return w;
    uint8_t   *codes = bench_memory(b, (size_t)blocks);
    float     *map = bench_memory(b, 1024);
    int64_t    nested = nf4_blocks(blocks, NF4_NESTED_BLOCK);
    crank_view second = fresh(b, CRANK_F32, DIMS(nested)), offset = fresh(b, CRANK_F32, DIMS(1));
    nf4_compress(w.in[1].data, blocks, codes, map, second.data, offset.data);
    w.in[1] = crank_view_make(codes, CRANK_U8, DIMS(blocks));
    w.in[2] = crank_view_make(map, CRANK_F32, DIMS(256));
    w.in[3] = second, w.in[4] = offset;
    return w;
}

static void every_level_gives_the_bits_of_the_plain_body(void **state)
{
    (void)state;
    static const crank_dtype types[] = {CRANK_F32, CRANK_BF16, CRANK_F16};
    static const int64_t     rows[] = {1, 3, 17, 300}, columns[] = {1, 2, 7, 63, 64, 130, 512};
    levels                   l;
    levels_open(&l);
    for (int t = 0; t < 3; t++)
        for (int r = 0; r < 4; r++)
            for (int c = 0; c < 7; c++)
                for (int kind = 0; kind < 4; kind++) {
                    crank_view                  y = fresh_rows(&l.b, types[t], kind == 1 ? 5 : 0, DIMS(rows[r], columns[c]));
                    crank_dequantize_attributes a = {kind == 2 ? 32 : 64};
                    int                         mark = l.b.count;
                    weight                      w;
                    if (kind == 3) w = (weight){{bytes_view(&l.b, CRANK_F8E4M3, rows[r], columns[c]), drawn(&l.b, CRANK_F32, 0.1, 2, DIMS(rows[r])), ABSENT, ABSENT, ABSENT}};
                    else w = four_bits(&l.b, rows[r], columns[c], a.block, kind != 1);
                    compare_levels(&l, "dequantize", w.in, 5, &y, 1, &a, NULL, 0, true);
                    while (l.b.count > mark) free(l.b.blocks[--l.b.count]);
                    free(l.b.blocks[--l.b.count]);
                }
    levels_close(&l);
}

static void every_byte_of_eight_bits_has_its_value(void **state)
{
    (void)state;
    levels     l;
    levels_open(&l);
    crank_view w = bytes_view(&l.b, CRANK_F8E4M3, 1, 256), scale = GIVEN(&l.b, CRANK_F32, DIMS(1), 1), y = fresh(&l.b, CRANK_F32, DIMS(1, 256));
    for (int i = 0; i < 256; i++) ((uint8_t *)w.data)[i] = (uint8_t)i;
    for (int level = 0; level < l.count; level++) {
        crank_device *device = level ? l.device[level].device : l.b.device;
        assert_ok(l.b.context, crank_run_once(l.b.context, device, "dequantize", VIEWS(w, scale, ABSENT, ABSENT, ABSENT), &y, 1, &(crank_dequantize_attributes){0}));
        for (int i = 0; i < 256; i++) {
            float expected = fp8_to_float((uint8_t)i), got = ((const float *)y.data)[i];
            assert_true(got == expected || (got != got && expected != expected));
        }
    }
    levels_close(&l);
}

static void products_in_eight_bits_equal_the_plain_body(void **state)
{
    (void)state;
    static const crank_dtype types[] = {CRANK_F32, CRANK_BF16, CRANK_F16};
    static const int64_t     shapes[][3] = {{1, 1, 1}, {7, 33, 5}, {130, 64, 70}, {65, 200, 16}};
    levels                   l;
    levels_open(&l);
    for (int t = 0; t < 3; t++)
        for (int s = 0; s < 4; s++)
            for (int with_bias = 0; with_bias < 2; with_bias++) {
                int64_t    n = shapes[s][0], k = shapes[s][1], m = shapes[s][2];
                crank_view from[3] = {draw_into(&l.b, fresh_rows(&l.b, types[t], 3, DIMS(n, k)), -3, 3), drawn(&l.b, types[t], -1, 1, DIMS(m, k)), drawn(&l.b, types[t], -1, 1, DIMS(k, m))}, in[7];
                for (int i = 0; i < 3; i++) {
                    in[2 * i] = fresh(&l.b, CRANK_F8E4M3, from[i].rank, from[i].dims), in[2 * i + 1] = fresh(&l.b, CRANK_F32, DIMS(from[i].dims[0]));
                    compare_levels(&l, "quantize_rows", &from[i], 1, &in[2 * i], 2, NULL, NULL, 0, true);
                    in[2 * i] = fresh(&l.b, CRANK_F8E4M3, from[i].rank, from[i].dims), in[2 * i + 1] = fresh(&l.b, CRANK_F32, DIMS(from[i].dims[0]));
                    apply(&l.b, "quantize_rows", &from[i], 1, &in[2 * i], 2, NULL);
                }
                in[6] = with_bias ? drawn(&l.b, types[t], -1, 1, DIMS(m)) : ABSENT;
                crank_view y = fresh_rows(&l.b, types[t], with_bias ? 5 : 0, DIMS(n, m));
                compare_levels(&l, "scaled_matmul", in, 7, &y, 1, NULL, NULL, tolerance_of(types[t]), true);
            }
    levels_close(&l);
}

static void what_does_not_fit_together_is_refused(void **state)
{
    (void)state;
    bench                       b = bench_open("plain");
    weight                      w = four_bits(&b, 4, 64, 64, true), few = four_bits(&b, 3, 64, 64, true);
    crank_view                  y = fresh(&b, CRANK_F32, DIMS(4, 64));
    crank_dequantize_attributes good = {64}, odd = {63}, zero = {0};
    assert_int_equal(crank_run_once(b.context, b.device, "dequantize", w.in, 5, &y, 1, &good), CRANK_OK);
    assert_int_equal(crank_run_once(b.context, b.device, "dequantize", w.in, 5, &y, 1, &odd), CRANK_USAGE);
    assert_int_equal(crank_run_once(b.context, b.device, "dequantize", w.in, 5, &y, 1, &zero), CRANK_USAGE);
    crank_view wrong[5];
    for (int k = 1; k < 5; k++) { /* an operand too short, or absent */
        memcpy(wrong, w.in, sizeof wrong);
        wrong[k] = k == 1 ? few.in[1] : ABSENT;
        assert_int_equal(crank_run_once(b.context, b.device, "dequantize", wrong, 5, &y, 1, &good), CRANK_USAGE);
    }
    memcpy(wrong, w.in, sizeof wrong);
    wrong[0].dtype = CRANK_F32;
    assert_int_equal(crank_run_once(b.context, b.device, "dequantize", wrong, 5, &y, 1, &good), CRANK_USAGE);
    memcpy(wrong, w.in, sizeof wrong);
    wrong[0].strides[0] = 128;
    assert_int_equal(crank_run_once(b.context, b.device, "dequantize", wrong, 5, &y, 1, &good), CRANK_USAGE);
    bench_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_level_gives_the_bits_of_the_plain_body), cmocka_unit_test(every_byte_of_eight_bits_has_its_value), cmocka_unit_test(products_in_eight_bits_equal_the_plain_body),
                                       cmocka_unit_test(what_does_not_fit_together_is_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
