/* Vectorised softmax, norms and rotary positions against the plain bodies. */
#include "fast_check.h"

static const crank_dtype types[] = {CRANK_F32, CRANK_BF16};

static crank_view operand(levels *l, crank_dtype type, int64_t rows, int64_t columns, int64_t gap)
{
    return draw_into(&l->b, fresh_rows(&l->b, type, gap, DIMS(rows, columns)), -3, 3);
}

typedef void shape_check(levels *l, crank_dtype type, int64_t rows, int64_t columns, int64_t gap);

static void for_shapes(shape_check *check)
{
    levels l;
    levels_open(&l);
    for (int t = 0; t < 2; t++) {
        for (int i = 0; i < SIZES; i++) {
            check(&l, types[t], 1, sizes[i], 0);
            check(&l, types[t], 19, sizes[i], 3);
        }
        check(&l, types[t], 600, 65, 0);
        check(&l, types[t], 37, 1000, 1);
    }
    levels_close(&l);
}

static void check_softmax(levels *l, crank_dtype type, int64_t rows, int64_t columns, int64_t gap)
{
    for (int form = 0; form < 2; form++) {
        crank_softmax_attributes a = {form};
        crank_view x = operand(l, type, rows, columns, gap), y = fresh_rows(&l->b, type, gap, DIMS(rows, columns));
        crank_view dy = operand(l, type, rows, columns, 0), dx = fresh_rows(&l->b, type, 2, DIMS(rows, columns));
        double     tolerance = tolerance_of(type),
               scale = columns == 1 ? 1e9 : 1; /* of one element log-softmax and dx are 0 */
        if (columns > 3) set(&x, 1, -INFINITY);
        compare_levels(l, "softmax", &x, 1, &y, 1, &a, NULL, tolerance * scale, true);
        compare_levels(l, "softmax", &x, 1, &x, 1, &a, (const int[]){1}, tolerance * scale, true);
        apply(&l->b, "softmax", &x, 1, &y, 1, &a);
        compare_levels(l, "softmax_backward", VIEWS(y, dy), &dx, 1, &a, NULL, 4 * tolerance * scale * scale * scale,
                       true);
        compare_levels(l, "softmax_backward", VIEWS(y, dy), &dy, 1, &a, (const int[]){2},
                       4 * tolerance * scale * scale * scale, true);
    }
}

static void softmax_and_its_reverse_equal_the_plain_bodies(void **state)
{
    (void)state;
    for_shapes(check_softmax);
}

static void softmax_follows_leading_axes_of_any_stride(void **state)
{
    levels l;
    (void)state;
    levels_open(&l);
    crank_softmax_attributes a = {false};
    crank_view x = drawn(&l.b, CRANK_F32, -3, 3, DIMS(4, 5, 33)), y = fresh(&l.b, CRANK_F32, DIMS(5, 4, 33));
    crank_view turned = x;
    turned.dims[0] = 5, turned.dims[1] = 4, turned.strides[0] = 33, turned.strides[1] = 5 * 33;
    compare_levels(&l, "softmax", &turned, 1, &y, 1, &a, NULL, 1e-6, true);
    levels_close(&l);
}

static void softmax_passes_nan_and_survives_large_values(void **state)
{
    levels l;
    (void)state;
    levels_open(&l);
    const double values[] = {1e30,      1e30,      -1e30,     5,         NAN, 1,  2,  3,
                             -INFINITY, -INFINITY, -INFINITY, -INFINITY, 88,  88, 88, INFINITY};
    crank_view   x = given(&l.b, CRANK_F32, values, DIMS(4, 4)), y = fresh(&l.b, CRANK_F32, DIMS(4, 4));
    for (int form = 0; form < 2; form++)
        compare_levels(&l, "softmax", &x, 1, &y, 1, &(crank_softmax_attributes){form}, NULL, 1e-6, true);
    levels_close(&l);
}

static void check_rmsnorm(levels *l, crank_dtype type, int64_t rows, int64_t columns, int64_t gap)
{
    crank_norm_attributes a = {1e-5};
    for (int form = 0; form < 4; form++) { /* with a residual; weights of f32 */
        crank_dtype w_type = form & 2 ? CRANK_F32 : type;
        crank_view  x = operand(l, type, rows, columns, gap), w = drawn(&l->b, w_type, 0.5, 2, DIMS(columns));
        crank_view  residual = form & 1 ? operand(l, type, rows, columns, 1) : ABSENT,
                   y = fresh_rows(&l->b, type, gap, DIMS(rows, columns));
        crank_view rstd = fresh(&l->b, CRANK_F32, DIMS(rows)),
                   sum = form & 1 ? fresh_rows(&l->b, type, 2, DIMS(rows, columns)) : ABSENT;
        crank_view dw = fresh(&l->b, w_type, DIMS(columns)),
                   dres = form & 1 ? operand(l, type, rows, columns, gap) : ABSENT;
        compare_levels(l, "rmsnorm", VIEWS(x, w, residual), VIEWS(y, rstd, sum), &a, NULL, tolerance_of(type), true);
        apply(&l->b, "rmsnorm", VIEWS(x, w, residual), VIEWS(y, rstd, sum), &a);
        crank_view in[] = {operand(l, type, rows, columns, 0), form & 1 ? sum : x, w, rstd, dres};
        /* a row of one element has no gradient but what cancellation leaves */
        double tolerance = columns == 1 ? 1e9 : 2 * tolerance_of(type);
        compare_levels(l, "rmsnorm_backward", in, 5, VIEWS(y, dw), &a, NULL, tolerance, true);
        compare_levels(l, "rmsnorm_backward", in, 5, VIEWS(y, ABSENT), &a, form & 1 ? (const int[]){5, 0} : NULL,
                       tolerance, true);
    }
}

static void check_layernorm(levels *l, crank_dtype type, int64_t rows, int64_t columns, int64_t gap)
{
    crank_norm_attributes a = {1e-5};
    for (int form = 0; form < 6; form++) { /* with a residual; without weights, of own type, of f32 */
        bool        weighted = form >> 1;
        crank_dtype w_type = form >> 1 == 2 ? CRANK_F32 : type;
        crank_view  x = operand(l, type, rows, columns, gap),
                   w = weighted ? drawn(&l->b, w_type, 0.5, 2, DIMS(columns)) : ABSENT;
        crank_view b = weighted ? drawn(&l->b, w_type, -1, 1, DIMS(columns)) : ABSENT;
        crank_view residual = form & 1 ? operand(l, type, rows, columns, 1) : ABSENT,
                   y = fresh_rows(&l->b, type, gap, DIMS(rows, columns));
        crank_view mean = fresh(&l->b, CRANK_F32, DIMS(rows)), rstd = fresh(&l->b, CRANK_F32, DIMS(rows));
        crank_view sum = form & 1 ? fresh_rows(&l->b, type, 2, DIMS(rows, columns)) : ABSENT;
        crank_view dw = weighted ? fresh(&l->b, w_type, DIMS(columns)) : ABSENT,
                   db = weighted ? fresh(&l->b, w_type, DIMS(columns)) : ABSENT;
        crank_view dres = form & 1 ? operand(l, type, rows, columns, gap) : ABSENT;
        double     tolerance = columns == 1 ? 1e9 : 2 * tolerance_of(type);
        compare_levels(l, "layernorm", VIEWS(x, w, b, residual), VIEWS(y, mean, rstd, sum), &a, NULL, tolerance, true);
        apply(&l->b, "layernorm", VIEWS(x, w, b, residual), VIEWS(y, mean, rstd, sum), &a);
        crank_view in[] = {operand(l, type, rows, columns, 0), form & 1 ? sum : x, w, mean, rstd, dres};
        compare_levels(l, "layernorm_backward", in, 6, VIEWS(y, dw, db), &a, NULL, tolerance, true);
        compare_levels(l, "layernorm_backward", in, 6, VIEWS(y, ABSENT, db), &a,
                       form & 1 ? (const int[]){6, 0, 0} : NULL, tolerance, true);
    }
}

static void rmsnorm_and_its_reverse_equal_the_plain_bodies(void **state)
{
    (void)state;
    for_shapes(check_rmsnorm);
}

static void layernorm_and_its_reverse_equal_the_plain_bodies(void **state)
{
    (void)state;
    for_shapes(check_layernorm);
}

static void norm_gradients_have_the_same_bits_in_every_run(void **state)
{
    levels l;
    (void)state;
    levels_open(&l);
    crank_norm_attributes a = {1e-5};
    crank_view            x = operand(&l, CRANK_F32, 700, 65, 0), dy = operand(&l, CRANK_F32, 700, 65, 0),
               w = drawn(&l.b, CRANK_F32, 0.5, 2, DIMS(65));
    crank_view y = fresh(&l.b, CRANK_F32, DIMS(700, 65)), rstd = fresh(&l.b, CRANK_F32, DIMS(700)), dw[2];
    apply(&l.b, "rmsnorm", VIEWS(x, w, ABSENT), VIEWS(y, rstd, ABSENT), &a);
    for (int level = 1; level < l.count; level++) {
        for (int k = 0; k < 2; k++) {
            dw[k] = fresh(&l.b, CRANK_F32, DIMS(65));
            apply(&l.device[level], "rmsnorm_backward", VIEWS(dy, x, w, rstd, ABSENT), VIEWS(y, dw[k]), &a);
        }
        assert_memory_equal(dw[0].data, dw[1].data, 65 * sizeof(float));
    }
    levels_close(&l);
}

/* Angles of many positions; some heads rotate only in part. */
static void rope_equals_the_plain_body(void **state)
{
    levels l;
    (void)state;
    levels_open(&l);
    const int64_t shapes[][4] = {{1, 1, 2, 2},     {3, 2, 6, 4},    {5, 3, 64, 64}, {4, 2, 80, 32},
                                 {9, 2, 130, 130}, {70, 8, 64, 64}, {7, 1, 34, 18}};
    for (int t = 0; t < 2; t++)
        for (int k = 0; k < 7; k++)
            for (int form = 0; form < 4; form++) {
                int64_t    n = shapes[k][0], h = shapes[k][1], d = shapes[k][2], r = shapes[k][3];
                crank_view x = draw_into(&l.b, fresh_rows(&l.b, types[t], k % 2, DIMS(n, h, d)), -3, 3),
                           y = fresh_rows(&l.b, types[t], 3, DIMS(n, h, d));
                crank_view positions = drawn(&l.b, CRANK_I32, 0, 100, DIMS(n)),
                           table = fresh(&l.b, CRANK_F32, DIMS(100, r));
                for (int i = 0; i < 100 * r; i++) {
                    double angle = i / r * pow(10000, -(double)(i % (r / 2)) / (double)(r / 2));
                    set(&table, i, i % r < r / 2 ? cos(angle) : sin(angle));
                }
                crank_rope_attributes a = {form & 1, form >> 1};
                compare_levels(&l, "rope", VIEWS(x, positions, table), &y, 1, &a, NULL, tolerance_of(types[t]), true);
                compare_levels(&l, "rope", VIEWS(x, positions, table), &x, 1, &a, (const int[]){1},
                               tolerance_of(types[t]), true);
            }
    crank_view x = drawn(&l.b, CRANK_F32, -3, 3, DIMS(2, 1, 4)), table = drawn(&l.b, CRANK_F32, -1, 1, DIMS(3, 4)),
               positions = GIVEN(&l.b, CRANK_I32, DIMS(2), 0, 3);
    for (int level = 1; level < l.count; level++)
        assert_int_equal(crank_run_once(l.device[level].context, l.device[level].device, "rope",
                                        VIEWS(x, positions, table), &x, 1, &(crank_rope_attributes){0}),
                         CRANK_USAGE);
    levels_close(&l);
}

/* Outputs larger than the caches are written past them. */
static void large_outputs_equal_the_plain_bodies(void **state)
{
    levels l;
    (void)state;
    levels_open(&l);
    enum { ROWS = 8800, WIDTH = 1024 };                        /* 36 MB */
    for (int64_t width = WIDTH; width >= WIDTH - 1; width--) { /* rows that start on a cache line, and that do not */
        crank_view x = drawn(&l.b, CRANK_F32, -3, 3, DIMS(ROWS, width)), y = fresh(&l.b, CRANK_F32, DIMS(ROWS, width)),
                   w = drawn(&l.b, CRANK_F32, 0.5, 2, DIMS(width));
        crank_view rstd = fresh(&l.b, CRANK_F32, DIMS(ROWS)), ids = drawn(&l.b, CRANK_I32, 0, ROWS, DIMS(ROWS)),
                   z = fresh(&l.b, CRANK_F32, DIMS(ROWS, width));
        compare_levels(&l, "rmsnorm", VIEWS(x, w, ABSENT), VIEWS(y, rstd, ABSENT), &(crank_norm_attributes){1e-5}, NULL,
                       1e-6, true);
        compare_levels(&l, "gather_rows", VIEWS(x, ids), &y, 1, NULL, NULL, 0, true);
        if (width == WIDTH) continue;
        compare_levels(&l, "copy", &x, 1, &y, 1, NULL, NULL, 0, true);
        compare_levels(&l, "fill", NULL, 0, &y, 1, &(crank_fill_attributes){1.5}, NULL, 0, true);
        compare_levels(&l, "binary", VIEWS(x, w), &y, 1, &(crank_binary_attributes){CRANK_MUL}, NULL, 1e-6, true);
        compare_levels(&l, "glu_backward", VIEWS(x, x, x), VIEWS(y, z), &(crank_glu_attributes){CRANK_SILU}, NULL, 1e-6,
                       true);
    }
    levels_close(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(softmax_and_its_reverse_equal_the_plain_bodies),
        cmocka_unit_test(softmax_follows_leading_axes_of_any_stride),
        cmocka_unit_test(softmax_passes_nan_and_survives_large_values),
        cmocka_unit_test(rmsnorm_and_its_reverse_equal_the_plain_bodies),
        cmocka_unit_test(layernorm_and_its_reverse_equal_the_plain_bodies),
        cmocka_unit_test(norm_gradients_have_the_same_bits_in_every_run),
        cmocka_unit_test(rope_equals_the_plain_body),
        cmocka_unit_test(large_outputs_equal_the_plain_bodies),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
