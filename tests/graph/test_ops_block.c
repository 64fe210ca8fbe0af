/* Composition: a two-layer decoder with low-rank pairs on its projections, checked as a whole: in f64 against
 * differences, and in f32 and bf16, on the best bodies of this machine, against f64. */
#include "graph/gradcheck.h"

enum { N = 6, D = 8, HEADS = 4, KEY_HEADS = 2, HEAD = 2, FFN = 12, VOCABULARY = 11, RANK = 2, LAYERS = 2 };

/* What a variant trains: everything, the low-rank pairs alone (weights frozen), or everything but the head. */
enum { ALL, PAIRS, NO_HEAD, VARIANTS };

/* Elements in [-bound, bound): wide for the table, so that the first norm does not amplify roundings. */
static crank_tensor *weight(gradcheck *check, double bound, int64_t out, int64_t in)
{
    if (check->kind == PAIRS) return gradcheck_input(check, -bound, bound, DIMS(out, in));
    return gradcheck_param(check, -bound, bound, DIMS(out, in));
}

/* A parameter in the compute type. */
static crank_tensor *rounded(crank_tensor *x)
{
    return crank_cast(x, crank_graph_compute(x->graph));
}

/* y = x W^T + (alpha / r) (x A^T) B^T */
static crank_tensor *linear(gradcheck *check, crank_tensor *x, int64_t out, bool pair)
{
    crank_tensor *y = crank_matmul(x, false, rounded(weight(check, 0.5, out, x->dims[1])), true);
    if (!pair) return y;
    crank_tensor *A = gradcheck_param(check, -0.5, 0.5, DIMS(RANK, x->dims[1])),
                 *B = gradcheck_param(check, -0.5, 0.5, DIMS(out, RANK));
    return crank_add(y,
                     crank_scale(crank_matmul(crank_matmul(x, false, rounded(A), true), false, rounded(B), true), 1.5));
}

static crank_tensor *gain(gradcheck *check)
{
    return check->kind == PAIRS ? gradcheck_input(check, 0.5, 1.5, DIMS(D)) : gradcheck_param(check, 0.5, 1.5, DIMS(D));
}

typedef struct packed {
    crank_tensor *positions, *table, *segments;
} packed;

static packed pack(gradcheck *check)
{
    double angles[N][HEAD];
    int32_t positions[N] = {0, 1, 2, 3, 0, 1}, segments[3] = {0, 4, N};
    for (int p = 0; p < N; p++) angles[p][0] = cos(p), angles[p][1] = sin(p);
    return (packed){gradcheck_given(check, CRANK_I32, positions, DIMS(N)),
                    gradcheck_given(check, CRANK_F64, angles, DIMS(N, HEAD)),
                    gradcheck_given(check, CRANK_I32, segments, DIMS(3))};
}

/* One layer; the residual stream x [n, d] -> [n, d]. */
static crank_tensor *layer(gradcheck *check, const packed *rows, crank_tensor *x)
{
    crank_attention_attributes causal = {CRANK_MASK_CAUSAL, 0, 0.7, 0};
    crank_tensor *h = crank_rmsnorm(x, gain(check), 1e-6);
    crank_tensor *q = crank_reshape(linear(check, h, HEADS * HEAD, true), DIMS(N, HEADS, HEAD));
    crank_tensor *k = crank_reshape(linear(check, h, KEY_HEADS * HEAD, false), DIMS(N, KEY_HEADS, HEAD));
    crank_tensor *v = crank_reshape(linear(check, h, KEY_HEADS * HEAD, true), DIMS(N, KEY_HEADS, HEAD));
    q = crank_rope(q, rows->positions, rows->table, false);
    k = crank_rope(k, rows->positions, rows->table, false);
    crank_tensor *o = crank_reshape(crank_attention(q, k, v, rows->segments, &causal), DIMS(N, HEADS * HEAD));
    x = crank_add(x, linear(check, o, D, true));
    h = crank_rmsnorm(x, gain(check), 1e-6);
    crank_tensor *gate = linear(check, h, FFN, false), *up = linear(check, h, FFN, true);
    return crank_add(x, linear(check, crank_glu(gate, up, CRANK_SILU), D, true));
}

static crank_tensor *decoder(gradcheck *check)
{
    packed rows = pack(check);
    bool frozen_head = check->kind != ALL;
    crank_tensor *table = weight(check, 1.5, VOCABULARY, D);
    crank_tensor *x = rounded(crank_gather_rows(table, gradcheck_ids(check, 0, VOCABULARY, DIMS(N))));
    for (int i = 0; i < LAYERS; i++) {
        crank_block_begin(check->graph);
        x = layer(check, &rows, x);
        crank_block_end(check->graph);
    }
    x = crank_rmsnorm(x, gain(check), 1e-6);
    crank_tensor *head = frozen_head ? gradcheck_input(check, -1.5, 1.5, DIMS(VOCABULARY, D)) : table; /* ALL: tied */
    crank_tensor *weights = gradcheck_input(check, 0, 1, DIMS(N)),
                 *targets = gradcheck_ids(check, -1, VOCABULARY, DIMS(N));
    return crank_div(crank_head_cross_entropy(x, rounded(head), NULL, targets, weights, NULL), crank_sum(weights));
}

static void a_decoder_with_low_rank_pairs_has_the_right_gradient(void **state)
{
    (void)state;
    for (int kind = 0; kind < VARIANTS; kind++) gradcheck_run("decoder", decoder, kind, NULL, NULL);
}

/* All gradients of a variant one behind the other, as float; the loss in front. Returns their number. */
static size_t gradients_in(int kind, const char *bodies, crank_dtype dtype, crank_dtype compute, float *all)
{
    gradcheck check;
    gradcheck_open_in(&check, kind, bodies, dtype, compute);
    crank_tensor *target = crank_keep(decoder(&check)), *gradient[GRADCHECK_LEAVES];
    crank_gradients(check.graph, &target, NULL, 1, check.leaf, check.count, gradient);
    for (int k = 0; k < check.count && crank_graph_status(check.graph) == CRANK_OK; k++) {
        assert_int_equal(gradient[k]->dtype, dtype);
        gradient[k] = crank_keep(crank_contiguous(gradient[k]));
    }
    if (crank_plan(check.graph, NULL, NULL) != CRANK_OK) fail_msg("%s", crank_message(check.context));
    gradcheck_write(&check);
    size_t n = 0;
    all[n++] = (float)gradcheck_value(&check, target);
    for (int k = 0; k < check.count; k++) {
        void *values = malloc(tensor_bytes(gradient[k]));
        assert_ok(check.context, crank_read(gradient[k], values));
        crank_convert(all + n, CRANK_F32, values, dtype, (size_t)tensor_count(gradient[k]));
        n += (size_t)tensor_count(gradient[k]);
        free(values);
    }
    gradcheck_close(&check);
    return n;
}

static void other_types_agree_with_f64(void **state)
{
    (void)state;
    static float exact[8192], rounded_values[8192];
    for (int kind = 0; kind < VARIANTS; kind++) {
        size_t n = gradients_in(kind, "plain", CRANK_F64, CRANK_F64, exact);
        assert_int_equal(gradients_in(kind, NULL, CRANK_F32, CRANK_F32, rounded_values), n);
        assert_true(relative_error(rounded_values, exact, n) < 1e-5);
        assert_int_equal(gradients_in(kind, NULL, CRANK_F32, CRANK_BF16, rounded_values), n);
        assert_true(relative_error(rounded_values, exact, n) < 3e-2);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_decoder_with_low_rank_pairs_has_the_right_gradient),
        cmocka_unit_test(other_types_agree_with_f64),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
