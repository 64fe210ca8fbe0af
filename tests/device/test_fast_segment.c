/* Vectorised pooling of segments and its reverse against the plain bodies: types, odd sizes, strided rows, empty
 * segments, rows outside of all segments, bounds outside of the rows. */
#include "fast_check.h"

static void check_pooling(levels *l, crank_dtype type, int64_t columns, int64_t gap, const int32_t *bounds,
                          int64_t count)
{
    enum { ROWS = 40 };
    crank_view x = draw_into(&l->b, fresh_rows(&l->b, type, gap, DIMS(ROWS, columns)), -3, 3);
    crank_view dy = draw_into(&l->b, fresh_rows(&l->b, type, gap, DIMS(count, columns)), -3, 3);
    crank_view segments = crank_view_make((void *)bounds, CRANK_I32, 1, (int64_t[]){count + 1});
    crank_view y = fresh_rows(&l->b, type, gap, DIMS(count, columns)),
               dx = fresh_rows(&l->b, type, gap, DIMS(ROWS, columns));
    for (int kind = CRANK_SEGMENT_MEAN; kind <= CRANK_SEGMENT_LAST; kind++) {
        crank_segment_attributes a = {(crank_segment_kind)kind};
        compare_levels(l, "segment_pool", VIEWS(x, segments), &y, 1, &a, NULL, tolerance_of(type), true);
        compare_levels(l, "segment_pool_backward", VIEWS(dy, segments), &dx, 1, &a, NULL, tolerance_of(type), true);
    }
}

static void pooling_of_segments_equals_the_plain_body(void **unused)
{
    static const int32_t all[] = {0, 1, 1, 17, 40}, inner[] = {3, 3, 9, 30}, outside[] = {-5, 7, 90}, none[] = {40, 40};
    static const crank_dtype types[] = {CRANK_F32, CRANK_BF16};
    levels                   l;
    (void)unused;
    levels_open(&l);
    for (int t = 0; t < 2; t++)
        for (int i = 0; i < SIZES; i++) {
            check_pooling(&l, types[t], sizes[i], 0, all, 4);
            check_pooling(&l, types[t], sizes[i], 3, inner, 3);
            check_pooling(&l, types[t], sizes[i], 0, outside, 2);
            check_pooling(&l, types[t], sizes[i], 1, none, 1);
        }
    levels_close(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(pooling_of_segments_equals_the_plain_body)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
