/* The vocabulary head's fast bodies against the plain ones: every operation, level, type and optional operand, odd sizes, chunks
 * that do not divide the rows, rows without targets. */
#include "testing.h"

#include "crank/device.h"
#include "crank/operations.h"
#include "crank/random.h"

typedef struct shape {
    int64_t n, d, vocab, chunk, gap;
    bool    bias, ignored;
} shape;

static const shape shapes[] = {
    {1, 1, 1, 0, 0, false, false},  {7, 63, 65, 0, 0, true, false},   {65, 8, 1000, 16, 0, false, true}, {33, 17, 257, 5, 3, true, true},
    {40, 32, 300, 40, 0, true, true}, {12, 24, 48, 4, 0, false, false}, {9, 16, 40, 2, 1, false, true},
};

typedef struct operands {
    crank_view x, w, bias, targets, weights, dlogp, lse;
} operands;

static crank_view drawn(crank_dtype type, int rank, const int64_t *dims, int64_t gap, uint32_t stream, float scale)
{
    crank_view view = crank_view_make(NULL, type, rank, dims);
    size_t     rows = rank > 1 ? (size_t)dims[0] : 1, columns = (size_t)dims[rank - 1], width = columns + (size_t)gap;
    size_t     element = crank_dtype_bits(type) / 8;
    float     *values = malloc(columns * sizeof *values);
    view.data = calloc(rows * width + 1, element);
    if (rank > 1) view.strides[0] = (int64_t)width;
    for (size_t r = 0; r < rows; r++) {
        crank_fill_normal(crank_stream_make(3, CRANK_RANDOM_TEST, stream), r * columns, 0, scale, values, columns);
        crank_convert((char *)view.data + r * width * element, type, values, CRANK_F32, columns);
    }
    free(values);
    return view;
}

static crank_view poisoned(crank_dtype type, int rank, const int64_t *dims)
{
    crank_view view = crank_view_make(NULL, type, rank, dims);
    size_t     bytes = crank_view_bytes(&view);
    view.data = malloc(bytes);
    memset(view.data, 0xff, bytes);
    return view;
}

static void compare(const crank_view *got, const crank_view *expected, double tolerance, const char *what, const char *level, size_t s)
{
    size_t count = (size_t)crank_view_count(got);
    float *a = malloc(count * sizeof *a), *b = malloc(count * sizeof *b);
    crank_convert(a, CRANK_F32, got->data, got->dtype, count);
    crank_convert(b, CRANK_F32, expected->data, expected->dtype, count);
    double error = relative_error(a, b, count), norm = 0;
    for (size_t i = 0; i < count; i++) norm += fabs((double)b[i]);
    if (!(error <= tolerance) && norm > 1e-6) fail_msg("%s, %s, shape %zu: error %g", what, level, s, error);
    free(a), free(b);
}

/* Runs an operation on both devices with the outputs whose bit is set; compares them. */
static void check(crank_context *context, crank_device *plain, crank_device *fast, const char *operation, const crank_view *in, int inputs,
                  const crank_view *like, int outputs, unsigned which, const crank_head_attributes *attributes, double tolerance, size_t s)
{
    crank_view got[5], expected[5];
    for (int i = 0; i < outputs; i++) {
        crank_view absent = {.rank = -1};
        got[i] = which >> i & 1 ? poisoned(like[i].dtype, like[i].rank, like[i].dims) : absent;
        expected[i] = which >> i & 1 ? poisoned(like[i].dtype, like[i].rank, like[i].dims) : absent;
    }
    assert_ok(context, crank_run_once(context, plain, operation, in, inputs, expected, outputs, attributes));
    assert_ok(context, crank_run_once(context, fast, operation, in, inputs, got, outputs, attributes));
    for (int i = 0; i < outputs; i++) {
        if (!(which >> i & 1)) continue;
        compare(&got[i], &expected[i], tolerance, operation, fast->level, s);
        free(got[i].data), free(expected[i].data);
    }
}

static void check_shape(crank_context *context, crank_device *plain, crank_device *fast, crank_dtype type, size_t s)
{
    const shape *h = &shapes[s];
    int64_t      xd[2] = {h->n, h->d}, wd[2] = {h->vocab, h->d};
    crank_view   x = drawn(type, 2, xd, h->gap, 1, 1), w = drawn(type, 2, wd, 0, 2, 0.5f), bias = drawn(type, 1, &h->vocab, 0, 3, 1);
    crank_view   weights = drawn(CRANK_F32, 1, &h->n, 0, 4, 1), targets = crank_view_make(calloc((size_t)h->n, 4), CRANK_I32, 1, &h->n);
    crank_view   absent = {.rank = -1}, scalar = crank_view_make(NULL, CRANK_F32, 0, NULL), rows = crank_view_make(NULL, CRANK_F32, 1, &h->n);
    crank_view   dx = crank_view_make(NULL, type, 2, xd), dw = crank_view_make(NULL, CRANK_F32, 2, wd), db = crank_view_make(NULL, type, 1, &h->vocab);
    double       tolerance = type == CRANK_F32 ? 1e-5 : 1e-2;
    crank_head_attributes attributes = {h->chunk};
    for (int64_t i = 0; i < h->n; i++)
        ((int32_t *)targets.data)[i] = h->ignored && i % 3 != 1 ? -1 : (int32_t)(crank_draw_bits(crank_stream_make(3, CRANK_RANDOM_TEST, 9), (uint64_t)i) % (uint32_t)h->vocab);
    crank_view b = h->bias ? bias : absent;
    unsigned   bias_bit = h->bias && type == CRANK_F32;
    crank_view ce[] = {x, w, b, targets, weights}, ce_out[] = {scalar, rows, dx, dw, db};
    for (unsigned mask = 0; mask < 4; mask++)
        check(context, plain, fast, "head_cross_entropy", ce, 5, ce_out, 5, 3 | mask << 2 | (mask & bias_bit) << 4, &attributes, tolerance, s);
    crank_view lp[] = {x, w, b, targets}, lp_out[] = {rows, rows, dx};
    check(context, plain, fast, "head_logprob", lp, 4, lp_out, 3, 3, &attributes, tolerance, s);
    check(context, plain, fast, "head_logprob", lp, 4, lp_out, 3, 7, &attributes, tolerance, s);
    crank_view lse = poisoned(CRANK_F32, 1, &h->n), logp = poisoned(CRANK_F32, 1, &h->n), out[] = {logp, lse, absent};
    assert_ok(context, crank_run_once(context, plain, "head_logprob", lp, 4, out, 3, &attributes));
    crank_view back[] = {weights, x, w, b, targets, lse}, back_out[] = {dx, dw, db};
    for (unsigned mask = 1; mask < 4; mask++)
        check(context, plain, fast, "head_logprob_backward", back, 6, back_out, 3, mask | (mask & bias_bit) << 2, &attributes, tolerance, s);
    free(x.data), free(w.data), free(bias.data), free(weights.data), free(targets.data), free(lse.data), free(logp.data);
}

static void fast_heads_equal_the_plain_ones(void **state)
{
    (void)state;
    crank_context *context = crank_context_new();
    const char    *levels[8];
    int            count = crank_cpu_levels(levels, 8);
    crank_device  *plain = crank_device_cpu(context, "plain");
    for (int l = 1; l < count; l++) {
        crank_device *fast = crank_device_cpu(context, levels[l]);
        if (!fast) fail_msg("%s", crank_message(context));
        for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++) {
            check_shape(context, plain, fast, CRANK_F32, s);
            check_shape(context, plain, fast, CRANK_BF16, s);
        }
        fast->close(fast);
    }
    plain->close(plain);
    crank_context_free(context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(fast_heads_equal_the_plain_ones)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
