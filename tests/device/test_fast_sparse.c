/* Vectorised products with a sparse matrix and samples of a product against the plain bodies: types, odd numbers of rows, strided rows,
 * places in any order, repeated and outside; and the plain bodies against dense products. */
#include "fast_check.h"

enum { R = 9, C = 21, PLACES = 40 };

static void fill_places(int32_t *places, bool ascending)
{
    for (int k = 0; k < PLACES; k++) places[k] = ascending ? k * 4 + k * k % 4 : (k * 73 + k * k) % (R * C + 10) - 5;
}

static void check_products(levels *l, crank_dtype type, int64_t n, int64_t gap, const int32_t *places)
{
    crank_view index = crank_view_make((void *)(uintptr_t)places, CRANK_I32, 1, (int64_t[]){PLACES});
    crank_view v = draw_into(&l->b, fresh_rows(&l->b, type, 0, DIMS(PLACES)), -2, 2);
    crank_view a = draw_into(&l->b, fresh_rows(&l->b, type, gap, DIMS(n, R)), -2, 2), b = draw_into(&l->b, fresh_rows(&l->b, type, gap, DIMS(n, C)), -2, 2);
    crank_view wide = fresh_rows(&l->b, type, gap, DIMS(n, C)), narrow = fresh_rows(&l->b, type, gap, DIMS(n, R)), dv = fresh_rows(&l->b, CRANK_F32, 0, DIMS(PLACES));
    crank_sparse_attributes forward = {R, C, false}, turned = {R, C, true};
    compare_levels(l, "sparse_matmul", VIEWS(b, v, index), &narrow, 1, &forward, NULL, tolerance_of(type), true);
    compare_levels(l, "sparse_matmul", VIEWS(a, v, index), &wide, 1, &turned, NULL, tolerance_of(type), true);
    compare_levels(l, "sparse_sample", VIEWS(a, b, index), &dv, 1, NULL, NULL, tolerance_of(CRANK_F32), true);
}

static void products_equal_the_plain_body(void **unused)
{
    static const crank_dtype types[] = {CRANK_F32, CRANK_BF16};
    int32_t                  places[2][PLACES];
    levels                   l;
    (void)unused;
    levels_open(&l);
    for (int k = 0; k < 2; k++) fill_places(places[k], k);
    for (int t = 0; t < 2; t++)
        for (int64_t n = 1; n < 300; n = 3 * n + 1) {
            check_products(&l, types[t], n, 0, places[0]);
            check_products(&l, types[t], n, 3, places[1]);
        }
    levels_close(&l);
}

static void the_plain_body_is_the_dense_product(void **unused)
{
    (void)unused;
    bench      b = bench_open("plain");
    crank_view x = GIVEN(&b, CRANK_F64, DIMS(2, 3), 1, 2, 3, 4, 5, 6), v = GIVEN(&b, CRANK_F64, DIMS(4), 10, 1, 100, 7);
    crank_view index = GIVEN(&b, CRANK_I32, DIMS(4), 0, 2, 4, 6); /* S = [10 0 1; 0 100 0], the last lies outside */
    crank_view y = fresh(&b, CRANK_F64, DIMS(2, 2)), z = fresh(&b, CRANK_F64, DIMS(2, 3)), dv = fresh(&b, CRANK_F64, DIMS(4));
    crank_sparse_attributes forward = {2, 3, false}, turned = {2, 3, true};
    apply(&b, "sparse_matmul", VIEWS(x, v, index), VIEWS(y), &forward);
    ASSERT_VALUES(&y, 0, 13, 200, 46, 500);
    apply(&b, "sparse_matmul", VIEWS(y, v, index), VIEWS(z), &turned);
    ASSERT_VALUES(&z, 0, 130, 20000, 13, 460, 50000, 46);
    apply(&b, "sparse_sample", VIEWS(y, x, index), VIEWS(dv), NULL);
    ASSERT_VALUES(&dv, 0, 13 * 1 + 46 * 4, 13 * 3 + 46 * 6, 200 * 2 + 500 * 5, 0);
    bench_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(products_equal_the_plain_body), cmocka_unit_test(the_plain_body_is_the_dense_product)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
