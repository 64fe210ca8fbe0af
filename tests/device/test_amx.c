/* Products of a narrow side on tile registers equal the plain body. The registers are those of tiles.h. */
#include <stdbool.h>
#include <stdlib.h>

#include "tiles.h"

#include "check.h"
#include "device/cpu/rows_product_amx.h"
#include "device/cpu/shrink_amx.h"

typedef struct shape {
    int64_t     m, n, k, gap;
    crank_dtype out;
    bool        lines, start; /* lines: b is [n, k]; start: from c0, at the place of c */
    double      alpha;
    int         threads;
} shape;

static bool has_avx512(void)
{
    return __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
}

/* a [m, k], or [k, m] when `turned` */
static void check(const shape *s, bool turned)
{
    bench       b = bench_open("plain");
    crank_view  a = draw_into(&b, fresh_rows(&b, CRANK_BF16, s->gap, 2, turned ? (int64_t[]){s->k, s->m} : (int64_t[]){s->m, s->k}), -1, 1);
    crank_view  w = draw_into(&b, fresh_rows(&b, CRANK_BF16, s->gap, 2, s->lines ? (int64_t[]){s->n, s->k} : (int64_t[]){s->k, s->n}), -1, 1);
    crank_view  c0 = draw_into(&b, fresh_rows(&b, s->out, s->gap, DIMS(s->m, s->n)), -1, 1), want = fresh(&b, s->out, DIMS(s->m, s->n));
    crank_matmul_attributes attributes = {turned, s->lines, s->alpha};
    apply(&b, "matmul", VIEWS(a, w, ABSENT, s->start ? c0 : ABSENT), &want, 1, &attributes);
    crank_view   in[4] = {a, w, ABSENT, s->start ? c0 : ABSENT}, out[1] = {c0};
    crank_call   call = {.in = in, .inputs = 4, .out = out, .outputs = 1, .attributes = &attributes};
    shrink       narrow;
    rows_product tall;
    if (turned) {
        assert_true(rows_describe(&call, &tall));
        call.workspace = bench_memory(&b, rows_bytes(&tall));
        rows_run(&call, s->threads);
    } else {
        assert_true(shrink_describe(&call, &narrow));
        call.workspace = bench_memory(&b, shrink_bytes(&narrow));
        shrink_run(&call, s->threads);
    }
    double off = distance(&c0, &want), limit = s->out == CRANK_F32 ? 1e-6 : 4e-3;
    if (!(off <= limit)) fail_msg("[%d x %d] over %d: off by %g", (int)s->m, (int)s->n, (int)s->k, off);
    bench_close(&b);
}

static void few_columns_equal_the_plain_product(void **state)
{
    (void)state;
    if (!has_avx512()) skip();
    const shape shapes[] = {
        {64, 8, 64, 0, CRANK_BF16, true, false, 1, 1},   {2048, 8, 96, 0, CRANK_BF16, true, true, 1, 2},
        {100, 16, 200, 5, CRANK_F32, false, true, 0.5, 1}, {77, 24, 129, 3, CRANK_BF16, true, false, 2, 1},
        {515, 32, 384, 0, CRANK_F32, false, false, 1, 2},  {70, 17, 95, 1, CRANK_F32, true, true, -1, 1},
        {130, 1, 768, 8, CRANK_BF16, false, true, 1, 2},
    };
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) check(&shapes[i], false);
}

static void sums_over_rows_equal_the_plain_product(void **state)
{
    (void)state;
    if (!has_avx512()) skip();
    const shape shapes[] = {
        {128, 8, 64, 0, CRANK_F32, false, false, 1, 1},    {8, 384, 1024, 0, CRANK_F32, false, false, 1, 2},
        {24, 200, 77, 5, CRANK_F32, false, true, 0.5, 1},  {209, 24, 65, 3, CRANK_BF16, false, true, 2, 1},
        {16, 1000, 128, 1, CRANK_BF16, false, false, 1, 2}, {1, 160, 100, 0, CRANK_F32, false, true, -1, 1},
        {777, 32, 200, 4, CRANK_F32, false, true, 1, 2},   {131, 3, 64, 0, CRANK_F32, false, false, 1, 1},
    };
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) check(&shapes[i], true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(few_columns_equal_the_plain_product),
        cmocka_unit_test(sums_over_rows_equal_the_plain_product),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
