/* Fast bodies that sum over axes or move elements, against the plain ones. */
#include "fast_check.h"

static const crank_dtype types[] = {CRANK_F32, CRANK_BF16};

static crank_view reduced(levels *l, crank_dtype type, const crank_view *x, unsigned axes)
{
    int64_t dims[CRANK_MAX_RANK];
    for (int axis = 0; axis < x->rank; axis++) dims[axis] = axes >> axis & 1 ? 1 : x->dims[axis];
    return fresh(&l->b, type, x->rank, dims);
}

/* Every kind over the axes, into f32 and into the type of x. Sums of one sign: no cancellation hides an error. */
static void check_reduce(levels *l, const crank_view *x, unsigned axes)
{
    for (int kind = CRANK_SUM; kind <= CRANK_SUM_SQUARES; kind++) {
        crank_reduce_attributes a = {(crank_reduce_kind)kind, axes};
        crank_view              wide = reduced(l, CRANK_F32, x, axes), own = reduced(l, x->dtype, x, axes);
        compare_levels(l, "reduce", x, 1, &wide, 1, &a, NULL, 1e-6, true);
        compare_levels(l, "reduce", x, 1, &own, 1, &a, NULL, tolerance_of(x->dtype), true);
    }
}

static void reduce_equals_the_plain_body_over_any_axes(void **state)
{
    levels l;
    (void)state;
    levels_open(&l);
    for (int t = 0; t < 2; t++) {
        for (int i = 0; i < SIZES; i++)
            for (int j = 0; j < SIZES; j++) {
                if (sizes[i] * sizes[j] > 70000) continue;
                crank_view x =
                    draw_into(&l.b, fresh_rows(&l.b, types[t], i % 2 ? 3 : 0, DIMS(sizes[i], sizes[j])), -1, 3);
                for (unsigned axes = 0; axes < 4; axes++) check_reduce(&l, &x, axes);
            }
        crank_view cube = draw_into(&l.b, fresh_rows(&l.b, types[t], 1, DIMS(3, 7, 5, 33)), -1, 3), turned = cube;
        for (unsigned axes = 0; axes < 16; axes++) check_reduce(&l, &cube, axes);
        turned.dims[0] = 5, turned.dims[2] = 3, turned.strides[0] = cube.strides[2],
        turned.strides[2] = cube.strides[0];
        for (unsigned axes = 0; axes < 16; axes++) check_reduce(&l, &turned, axes);
    }
    levels_close(&l);
}

static void long_sums_keep_their_precision_and_their_bits(void **state)
{
    levels l;
    (void)state;
    levels_open(&l);
    crank_view x = drawn(&l.b, CRANK_F32, 0, 1, DIMS(700, 150)), total = fresh(&l.b, CRANK_F32, DIMS(1, 1)),
               columns = fresh(&l.b, CRANK_F32, DIMS(1, 150));
    compare_levels(&l, "reduce", &x, 1, &total, 1, &(crank_reduce_attributes){CRANK_SUM, 3}, NULL, 2e-7, true);
    compare_levels(&l, "reduce", &x, 1, &columns, 1, &(crank_reduce_attributes){CRANK_SUM, 1}, NULL, 5e-7, true);
    for (int level = 1; level < l.count; level++) { /* one thread gives the bits of two */
        bench      one = bench_open(l.names[level]);
        crank_view again = fresh(&l.b, CRANK_F32, DIMS(1, 150));
        crank_set_threads(one.context, 1);
        crank_device *device = crank_device_cpu(one.context, l.names[level]);
        apply(&l.device[level], "reduce", &x, 1, &columns, 1, &(crank_reduce_attributes){CRANK_SUM, 1});
        assert_ok(one.context, crank_run_once(one.context, device, "reduce", &x, 1, &again, 1,
                                              &(crank_reduce_attributes){CRANK_SUM, 1}));
        assert_memory_equal(again.data, columns.data, 150 * sizeof(float));
        device->close(device);
        bench_close(&one);
    }
    levels_close(&l);
}

static void maximum_passes_nan_from_any_place(void **state)
{
    levels l;
    (void)state;
    levels_open(&l);
    for (int place = 0; place < 40; place++) {
        crank_view x = drawn(&l.b, CRANK_F32, 0, 1, DIMS(2, 20)), row = fresh(&l.b, CRANK_F32, DIMS(2, 1)),
                   column = fresh(&l.b, CRANK_F32, DIMS(1, 20));
        set(&x, place, NAN);
        compare_levels(&l, "reduce", &x, 1, &row, 1, &(crank_reduce_attributes){CRANK_AMAX, 2}, NULL, 0, true);
        compare_levels(&l, "reduce", &x, 1, &column, 1, &(crank_reduce_attributes){CRANK_AMAX, 1}, NULL, 0, true);
        for (int level = 1; level < l.count; level++) {
            apply(&l.device[level], "reduce", &x, 1, &row, 1, &(crank_reduce_attributes){CRANK_AMAX, 2});
            assert_true(isnan(value(&row, place / 20)) && !isnan(value(&row, 1 - place / 20)));
        }
    }
    levels_close(&l);
}

static void concat_and_pad_equal_the_plain_bodies(void **state)
{
    levels l;
    (void)state;
    levels_open(&l);
    const crank_dtype all[] = {CRANK_F32, CRANK_BF16, CRANK_F64, CRANK_F16};
    for (int t = 0; t < 4; t++)
        for (int axis = 0; axis < 3; axis++)
            for (int64_t gap = 0; gap < 3; gap += 2) {
                int64_t    dims[3] = {4, 5, 65}, parts[3] = {1, 7, 3}, total[3] = {4, 5, 65};
                crank_view x[3];
                total[axis] = 11;
                for (int k = 0; k < 3; k++) {
                    dims[axis] = parts[k];
                    x[k] = draw_into(&l.b, fresh_rows(&l.b, all[t], k, 3, dims), -1, 1);
                }
                crank_view y = fresh_rows(&l.b, all[t], gap, 3, total);
                compare_levels(&l, "concat", x, 3, &y, 1, &(crank_concat_attributes){axis}, NULL, 0, true);
                compare_levels(&l, "pad", &x[1], 1, &y, 1, &(crank_pad_attributes){axis, 3}, NULL, 0, true);
            }
    crank_view big = drawn(&l.b, CRANK_F32, -1, 1, DIMS(50, 700)), y = fresh(&l.b, CRANK_F32, DIMS(50, 1400)),
               z = fresh(&l.b, CRANK_F32, DIMS(150, 700));
    compare_levels(&l, "concat", VIEWS(big, big), &y, 1, &(crank_concat_attributes){1}, NULL, 0, true);
    compare_levels(&l, "pad", &big, 1, &z, 1, &(crank_pad_attributes){0, 70}, NULL, 0, true);
    levels_close(&l);
}

static void gather_and_scatter_equal_the_plain_bodies(void **state)
{
    levels l;
    (void)state;
    levels_open(&l);
    const int64_t shapes[][3] = {{1, 1, 1}, {10, 7, 65}, {40, 300, 63}, {3, 500, 130}, {1000, 65, 64}};
    for (int t = 0; t < 2; t++)
        for (int other = 0; other < 2; other++)
            for (int k = 0; k < 5; k++) {
                int64_t    V = shapes[k][0], n = shapes[k][1], d = shapes[k][2];
                crank_view table = draw_into(&l.b, fresh_rows(&l.b, types[other], k % 3, DIMS(V, d)), -1, 1);
                crank_view ids = drawn(&l.b, CRANK_I32, -2, (double)V + 2, DIMS(n)),
                           y = fresh_rows(&l.b, types[t], 1, DIMS(n, d));
                crank_view dy = draw_into(&l.b, fresh_rows(&l.b, types[t], 2, DIMS(n, d)), -1, 2);
                crank_view dtable = fresh_rows(&l.b, types[t] == CRANK_F32 ? CRANK_F32 : types[other], 1, DIMS(V, d));
                compare_levels(&l, "gather_rows", VIEWS(table, ids), &y, 1, NULL, NULL, 0, true);
                compare_levels(&l, "scatter_rows", VIEWS(dy, ids), &dtable, 1, NULL, NULL, tolerance_of(dtable.dtype),
                               true);
            }
    levels_close(&l);
}

static void pick_and_unpick_equal_the_plain_bodies(void **state)
{
    levels l;
    (void)state;
    levels_open(&l);
    const int64_t shapes[][3] = {{1, 1, 1}, {5, 65, 3}, {70, 1000, 7}, {3, 9, 40}};
    for (int t = 0; t < 2; t++)
        for (int k = 0; k < 4; k++) {
            int64_t    n = shapes[k][0], c = shapes[k][1], m = shapes[k][2];
            crank_view x = draw_into(&l.b, fresh_rows(&l.b, types[t], 2, DIMS(n, c)), -1, 1),
                       ids = drawn(&l.b, CRANK_I32, -1, (double)c + 1, DIMS(n, m));
            crank_view y = fresh_rows(&l.b, types[t], 1, DIMS(n, m)), dy = drawn(&l.b, types[t], 0, 1, DIMS(n, m)),
                       dx = fresh_rows(&l.b, types[t], 1, DIMS(n, c));
            compare_levels(&l, "pick", VIEWS(x, ids), &y, 1, NULL, NULL, 0, true);
            compare_levels(&l, "unpick", VIEWS(dy, ids), &dx, 1, NULL, NULL, tolerance_of(types[t]), true);
        }
    levels_close(&l);
}

static void transposed_copies_equal_the_plain_body(void **state)
{
    levels l;
    (void)state;
    levels_open(&l);
    const crank_dtype all[] = {CRANK_F32, CRANK_BF16, CRANK_F64};
    const int64_t     shapes[][3] = {{1, 7, 5}, {3, 65, 63}, {2, 17, 1000}, {4, 130, 70}};
    for (int t = 0; t < 3; t++)
        for (int k = 0; k < 4; k++) {
            int64_t    p = shapes[k][0], m = shapes[k][1], n = shapes[k][2];
            crank_view x = draw_into(&l.b, fresh_rows(&l.b, all[t], 1, DIMS(p, m, n)), -1, 1), turned = x;
            crank_view y = fresh_rows(&l.b, all[t], 2, DIMS(p, n, m)), outer = x,
                       z = fresh(&l.b, all[t], DIMS(n, p, m));
            turned.dims[1] = n, turned.dims[2] = m, turned.strides[1] = 1, turned.strides[2] = x.strides[1];
            outer.dims[0] = n, outer.dims[1] = p, outer.dims[2] = m;
            outer.strides[0] = 1, outer.strides[1] = x.strides[0], outer.strides[2] = x.strides[1];
            compare_levels(&l, "copy", &turned, 1, &y, 1, NULL, NULL, 0, all[t] != CRANK_F64);
            compare_levels(&l, "copy", &outer, 1, &z, 1, NULL, NULL, 0, all[t] != CRANK_F64);
        }
    levels_close(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reduce_equals_the_plain_body_over_any_axes),
        cmocka_unit_test(long_sums_keep_their_precision_and_their_bits),
        cmocka_unit_test(maximum_passes_nan_from_any_place),
        cmocka_unit_test(concat_and_pad_equal_the_plain_bodies),
        cmocka_unit_test(gather_and_scatter_equal_the_plain_bodies),
        cmocka_unit_test(pick_and_unpick_equal_the_plain_bodies),
        cmocka_unit_test(transposed_copies_equal_the_plain_body),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
