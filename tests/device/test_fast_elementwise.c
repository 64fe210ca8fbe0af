/* Vectorised element-wise bodies against the plain ones: types, odd sizes, strided rows, broadcasts, operands in place.
 */
#include "fast_check.h"

static const crank_dtype types[] = {CRANK_F32, CRANK_BF16};

/* Calls `check` for shapes of odd sizes, contiguous and with gaps, and one that is worth two threads. */
static void for_shapes(levels *l,
                       void (*check)(levels *l, crank_dtype type, int64_t rows, int64_t columns, int64_t gap))
{
    for (int t = 0; t < 2; t++) {
        for (int i = 0; i < SIZES; i++) {
            check(l, types[t], 1, sizes[i], 0);
            check(l, types[t], 3, sizes[i], 0);
            check(l, types[t], 5, sizes[i], 3);
        }
        check(l, types[t], 34, 1001, 5);
    }
}

static crank_view operand(levels *l, crank_dtype type, int64_t rows, int64_t columns, int64_t gap)
{
    return draw_into(&l->b, fresh_rows(&l->b, type, gap, DIMS(rows, columns)), -3, 3);
}

static void check_copy(levels *l, crank_dtype type, int64_t rows, int64_t columns, int64_t gap)
{
    const crank_dtype others[] = {CRANK_F32, CRANK_BF16, CRANK_F16};
    crank_view        x = operand(l, type, rows, columns, gap);
    for (int k = 0; k < 3; k++) {
        crank_view y = fresh_rows(&l->b, others[k], gap, DIMS(rows, columns));
        compare_levels(l, "copy", &x, 1, &y, 1, NULL, NULL, 0, type == CRANK_F32 || others[k] != CRANK_F16);
        compare_levels(l, "copy", &y, 1, &x, 1, NULL, NULL, 0, type == CRANK_F32 || others[k] != CRANK_F16);
    }
}

static void check_fill(levels *l, crank_dtype type, int64_t rows, int64_t columns, int64_t gap)
{
    const crank_dtype others[] = {type, CRANK_F64, CRANK_U8, CRANK_I32};
    for (int k = 0; k < 4; k++) {
        crank_view y = fresh_rows(&l->b, others[k], gap, DIMS(rows, columns));
        compare_levels(l, "fill", NULL, 0, &y, 1, &(crank_fill_attributes){3.7}, NULL, 0, true);
    }
}

static void check_binary(levels *l, crank_dtype type, int64_t rows, int64_t columns, int64_t gap)
{
    crank_view y = fresh_rows(&l->b, type, gap, DIMS(rows, columns));
    for (int kind = CRANK_ADD; kind <= CRANK_EQ; kind++) {
        crank_binary_attributes a = {(crank_binary_kind)kind};
        bool                    fast = kind != CRANK_POW;
        crank_view full = operand(l, type, rows, columns, gap), other = operand(l, type, rows, columns, gap);
        crank_view row = drawn(&l->b, type, -3, 3, DIMS(columns)), column = drawn(&l->b, type, -3, 3, DIMS(rows, 1));
        crank_view scalar = drawn(&l->b, type, 1, 2, SCALAR), partners[] = {other, row, column, scalar};
        set(&other, 0, value(&full, 0)); /* for eq and ge */
        if (kind == CRANK_POW) draw_into(&l->b, full, 0.1, 2), draw_into(&l->b, row, 0.1, 2);
        for (int k = 0; k < 4; k++) {
            if (kind == CRANK_POW && k) continue;
            compare_levels(l, "binary", VIEWS(full, partners[k]), &y, 1, &a, NULL, tolerance_of(type), fast);
            if (kind != CRANK_POW)
                compare_levels(l, "binary", VIEWS(partners[k], full), &y, 1, &a, NULL, tolerance_of(type), fast);
        }
        if (kind != CRANK_POW)
            compare_levels(l, "binary", VIEWS(row, column), &y, 1, &a, NULL, tolerance_of(type), fast);
        compare_levels(l, "binary", VIEWS(full, other), &full, 1, &a, (const int[]){1}, tolerance_of(type), fast);
        compare_levels(l, "binary", VIEWS(full, other), &other, 1, &a, (const int[]){2}, tolerance_of(type), fast);
    }
}

static void check_where(levels *l, crank_dtype type, int64_t rows, int64_t columns, int64_t gap)
{
    crank_view c = operand(l, type, rows, columns, gap), y = fresh_rows(&l->b, type, gap, DIMS(rows, columns));
    crank_view a = operand(l, type, rows, columns, gap), row = drawn(&l->b, type, -3, 3, DIMS(columns));
    crank_view column = drawn(&l->b, type, -3, 3, DIMS(rows, 1));
    for (int64_t i = 0; i < rows * columns; i += 2) set(&c, i, 0);
    compare_levels(l, "where", VIEWS(c, a, row), &y, 1, NULL, NULL, 0, true);
    compare_levels(l, "where", VIEWS(column, row, a), &y, 1, NULL, NULL, 0, true);
}

static void check_affine(levels *l, crank_dtype type, int64_t rows, int64_t columns, int64_t gap)
{
    crank_view x = operand(l, type, rows, columns, gap), y = fresh_rows(&l->b, type, gap, DIMS(rows, columns));
    crank_affine_attributes a = {0.3, -1.7};
    compare_levels(l, "affine", &x, 1, &y, 1, &a, NULL, tolerance_of(type), true);
    compare_levels(l, "affine", &x, 1, &x, 1, &a, (const int[]){1}, tolerance_of(type), true);
    if (rows != 1) return;
    crank_view flat = operand(l, type, 1, 33001 + columns, 0), y_flat = fresh(&l->b, type, DIMS(1, 33001 + columns));
    compare_levels(l, "affine", &flat, 1, &y_flat, 1, &a, NULL, tolerance_of(type), true);
}

static void check_dropout(levels *l, crank_dtype type, int64_t rows, int64_t columns, int64_t gap)
{
    crank_view x = operand(l, type, rows, columns, gap), y = fresh_rows(&l->b, type, gap, DIMS(rows, columns));
    crank_view step = GIVEN(&l->b, CRANK_I64, DIMS(1), 12345);
    crank_dropout_attributes a = {0.3, 77, 5};
    compare_levels(l, "dropout", VIEWS(x, step), &y, 1, &a, NULL, tolerance_of(type), true);
}

static void check_unary(levels *l, crank_dtype type, int64_t rows, int64_t columns, int64_t gap)
{
    for (int kind = CRANK_NEG; kind <= CRANK_COS; kind++) {
        crank_unary_attributes a = {(crank_unary_kind)kind};
        bool                   fast = kind != CRANK_SIN && kind != CRANK_COS;
        bool                   positive = kind == CRANK_LOG || kind == CRANK_SQRT || kind == CRANK_RSQRT;
        crank_view x = operand(l, type, rows, columns, gap), y = fresh_rows(&l->b, type, gap, DIMS(rows, columns));
        crank_view dy = operand(l, type, rows, columns, gap);
        if (positive) draw_into(&l->b, x, 0.2, 5);
        compare_levels(l, "unary", &x, 1, &y, 1, &a, NULL, tolerance_of(type), fast);
        apply(&l->b, "unary", &x, 1, &y, 1, &a);
        crank_view dx = fresh_rows(&l->b, type, gap, DIMS(rows, columns));
        crank_view in[] = {crank_unary_needs_x(a.kind) ? x : ABSENT, crank_unary_needs_y(a.kind) ? y : ABSENT, dy};
        compare_levels(l, "unary_backward", in, 3, &dx, 1, &a, NULL, tolerance_of(type), fast);
        compare_levels(l, "unary_backward", in, 3, &dx, 1, &a, (const int[]){3}, tolerance_of(type), fast);
    }
}

static void check_glu(levels *l, crank_dtype type, int64_t rows, int64_t columns, int64_t gap)
{
    const crank_unary_kind kinds[] = {CRANK_SILU, CRANK_GELU, CRANK_GELU_TANH};
    for (int k = 0; k < 3; k++) {
        crank_glu_attributes a = {kinds[k]};
        crank_view           gate = operand(l, type, rows, columns, gap), up = operand(l, type, rows, columns, gap),
                   dh = operand(l, type, rows, columns, 0);
        crank_view h = fresh_rows(&l->b, type, gap, DIMS(rows, columns)), d = fresh(&l->b, type, DIMS(rows, columns));
        compare_levels(l, "glu", VIEWS(gate, up), &h, 1, &a, NULL, tolerance_of(type), true);
        compare_levels(l, "glu", VIEWS(gate, up), &h, 1, &a, (const int[]){2}, tolerance_of(type), true);
        compare_levels(l, "glu_backward", VIEWS(dh, gate, up), VIEWS(d, h), &a, NULL, tolerance_of(type), true);
        compare_levels(l, "glu_backward", VIEWS(dh, gate, up), VIEWS(d, h), &a, (const int[]){2, 3}, tolerance_of(type),
                       true);
    }
}

#define SHAPE_TEST(name, check)                                                                                        \
    static void name(void **state)                                                                                     \
    {                                                                                                                  \
        levels l;                                                                                                      \
        (void)state;                                                                                                   \
        levels_open(&l);                                                                                               \
        for_shapes(&l, check);                                                                                         \
        levels_close(&l);                                                                                              \
    }
SHAPE_TEST(copy_equals_the_plain_body_bit_for_bit, check_copy)
SHAPE_TEST(fill_equals_the_plain_body, check_fill)
SHAPE_TEST(binary_equals_the_plain_body, check_binary)
SHAPE_TEST(where_equals_the_plain_body, check_where)
SHAPE_TEST(affine_equals_the_plain_body, check_affine)
SHAPE_TEST(dropout_keeps_the_same_elements_as_the_plain_body, check_dropout)
SHAPE_TEST(unary_and_its_reverse_equal_the_plain_bodies, check_unary)
SHAPE_TEST(glu_and_its_reverse_equal_the_plain_bodies, check_glu)

static const double specials[] = {NAN,   INFINITY, -INFINITY, 0,     -0.0, 1,   -1, 1e38, -1e38,
                                  1e-38, -1e-38,   88.8,      -88.8, 20,   -20, 3,  -3};
enum { SPECIALS = sizeof specials / sizeof *specials };

/* Equal, or both NaN, or within 1e-6 (1e-2 in bf16), or almost nothing. */
static void assert_alike(const crank_view *got, const crank_view *want, const char *what, int kind, const char *level)
{
    double close = got->dtype == CRANK_F32 ? 2e-6 : 1e-2;
    for (int64_t i = 0; i < crank_view_count(got); i++) {
        double a = value(got, i), b = value(want, i);
        if (a == b || (a != a && b != b) || fabs(a - b) <= close * fabs(b) + 1e-36) continue;
        fail_msg("%s, kind %d at level %s: element %d is %g, not %g", what, kind, level, (int)i, a, b);
    }
}

static void nan_and_infinities_pass_as_in_the_plain_bodies(void **state)
{
    levels l;
    (void)state;
    levels_open(&l);
    for (int t = 0; t < 2; t++) {
        crank_view x = given(&l.b, types[t], specials, DIMS(SPECIALS)), y = fresh(&l.b, types[t], DIMS(SPECIALS));
        crank_view a = fresh(&l.b, types[t], DIMS(SPECIALS, SPECIALS)),
                   b = fresh(&l.b, types[t], DIMS(SPECIALS, SPECIALS));
        crank_view c = fresh(&l.b, types[t], DIMS(SPECIALS, SPECIALS)),
                   d = fresh(&l.b, types[t], DIMS(SPECIALS, SPECIALS));
        for (int i = 0; i < SPECIALS * SPECIALS; i++)
            set(&a, i, specials[i / SPECIALS]), set(&b, i, specials[i % SPECIALS]);
        for (int level = 1; level < l.count; level++) {
            for (int kind = CRANK_NEG; kind < CRANK_SIN; kind++) {
                crank_unary_attributes attributes = {(crank_unary_kind)kind};
                crank_view             z = fresh(&l.b, types[t], DIMS(SPECIALS));
                apply(&l.b, "unary", &x, 1, &y, 1, &attributes);
                apply(&l.device[level], "unary", &x, 1, &z, 1, &attributes);
                assert_alike(&z, &y, "unary", kind, l.names[level]);
            }
            for (int kind = CRANK_ADD; kind <= CRANK_EQ; kind++) {
                crank_binary_attributes attributes = {(crank_binary_kind)kind};
                apply(&l.b, "binary", VIEWS(a, b), &c, 1, &attributes);
                apply(&l.device[level], "binary", VIEWS(a, b), &d, 1, &attributes);
                assert_alike(&d, &c, "binary", kind, l.names[level]);
            }
        }
    }
    levels_close(&l);
}

/* Units in the last place of f32 between the exact value and what a level gives, at a million numbers of all sizes. */
static void functions_stay_within_a_few_units_in_the_last_place(void **state)
{
    levels l;
    (void)state;
    levels_open(&l);
    enum { COUNT = 1 << 19 };
    crank_view x = fresh(&l.b, CRANK_F32, DIMS(COUNT)), y = fresh(&l.b, CRANK_F32, DIMS(COUNT)),
               wide = fresh(&l.b, CRANK_F64, DIMS(COUNT));
    crank_view exact = fresh(&l.b, CRANK_F64, DIMS(COUNT));
    for (uint32_t i = 0; i < COUNT; i++) ((uint32_t *)x.data)[i] = i * 8191u; /* odd step: all exponents and signs */
    apply(&l.b, "copy", &x, 1, &wide, 1, NULL);
    const int    kinds[] = {CRANK_EXP,     CRANK_LOG,      CRANK_SQRT, CRANK_RSQRT, CRANK_RECIPROCAL, CRANK_TANH,
                            CRANK_SIGMOID, CRANK_SOFTPLUS, CRANK_SILU, CRANK_GELU,  CRANK_GELU_TANH};
    const double limit[] = {2, 2, 1, 2, 1, 3, 3, 4, 4, 6, 200}; /* tanh form: the rounding of u grows with u */
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        crank_unary_attributes a = {(crank_unary_kind)kinds[k]};
        apply(&l.b, "unary", &wide, 1, &exact, 1, &a);
        for (int level = 1; level < l.count; level++) {
            double worst = 0, worst_x = 0;
            apply(&l.device[level], "unary", &x, 1, &y, 1, &a);
            for (int i = 0; i < COUNT; i++) {
                double want = value(&exact, i), got = value(&y, i);
                if (want != want ? got != got : (float)want == (float)got) continue;
                int exponent;
                frexp(want, &exponent);
                double unit = ldexp(1, (exponent < -125 ? -125 : exponent) - 24), off = fabs(got - want) / unit;
                if (fabs(want) < 1e-36 && fabs(got) < 1e-36) continue; /* what is almost nothing may be 0 */
                if (!(off <= worst)) worst = off, worst_x = value(&x, i);
            }
            if (!(worst <= limit[k]))
                fail_msg("kind %d at level %s: %.3g units at %.9g", kinds[k], l.names[level], worst, worst_x);
        }
    }
    levels_close(&l);
}

/* Every number of bf16: the rounding to bf16 is 1 / 256 of a value, the functions may add 1 / 3300. */
static void activations_of_bf16_are_as_exact_as_their_type(void **state)
{
    levels l;
    (void)state;
    levels_open(&l);
    enum { COUNT = 1 << 16 };
    crank_view x = fresh(&l.b, CRANK_BF16, DIMS(COUNT)), y = fresh(&l.b, CRANK_BF16, DIMS(COUNT)),
               one = fresh(&l.b, CRANK_BF16, DIMS(COUNT)), wide = fresh(&l.b, CRANK_F64, DIMS(COUNT)),
               wide_one = fresh(&l.b, CRANK_F64, DIMS(COUNT)), exact = fresh(&l.b, CRANK_F64, DIMS(COUNT));
    for (uint32_t i = 0; i < COUNT; i++) ((uint16_t *)x.data)[i] = (uint16_t)i, set(&one, i, 1), set(&wide_one, i, 1);
    apply(&l.b, "copy", &x, 1, &wide, 1, NULL);
    const crank_unary_kind kinds[] = {CRANK_SILU, CRANK_GELU, CRANK_GELU_TANH};
    for (int k = 0; k < 6; k++) {
        crank_unary_attributes a = {kinds[k % 3]};
        bool                   slope = k >= 3;
        if (slope) apply(&l.b, "unary_backward", VIEWS(wide, ABSENT, wide_one), &exact, 1, &a);
        else apply(&l.b, "unary", &wide, 1, &exact, 1, &a);
        for (int level = 1; level < l.count; level++) {
            if (slope) apply(&l.device[level], "unary_backward", VIEWS(x, ABSENT, one), &y, 1, &a);
            else apply(&l.device[level], "unary", &x, 1, &y, 1, &a);
            for (int i = 0; i < COUNT; i++) {
                double want = value(&exact, i), got = value(&y, i), floor = slope ? 1e-5 : 1e-36;
                if (want != want ? got != got : want == got) continue;
                if (!(fabs(got - want) <= (1.0 / 256 + 1.0 / 3300) * fabs(want) + floor))
                    fail_msg("kind %d%s at level %s: %.9g at %.9g, not %.9g", kinds[k % 3], slope ? "'s slope" : "",
                             l.names[level], got, value(&x, i), want);
            }
        }
    }
    levels_close(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(copy_equals_the_plain_body_bit_for_bit),
        cmocka_unit_test(fill_equals_the_plain_body),
        cmocka_unit_test(binary_equals_the_plain_body),
        cmocka_unit_test(where_equals_the_plain_body),
        cmocka_unit_test(affine_equals_the_plain_body),
        cmocka_unit_test(dropout_keeps_the_same_elements_as_the_plain_body),
        cmocka_unit_test(unary_and_its_reverse_equal_the_plain_bodies),
        cmocka_unit_test(glu_and_its_reverse_equal_the_plain_bodies),
        cmocka_unit_test(nan_and_infinities_pass_as_in_the_plain_bodies),
        cmocka_unit_test(functions_stay_within_a_few_units_in_the_last_place),
        cmocka_unit_test(activations_of_bf16_are_as_exact_as_their_type),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
