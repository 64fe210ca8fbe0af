/* Composition: a two-layer decoder with low-rank pairs on its projections, checked as a whole. */
#include "graph/gradcheck.h"

enum { N = 6, D = 8, HEADS = 4, KEY_HEADS = 2, HEAD = 2, FFN = 12, VOCABULARY = 11, RANK = 2, LAYERS = 2 };

/* What a variant trains: everything, the low-rank pairs alone (weights frozen), or everything but the head. */
enum { ALL, PAIRS, NO_HEAD, VARIANTS };

static crank_tensor *weight(gradcheck *check, int64_t out, int64_t in)
{
    if (check->kind == PAIRS) return gradcheck_input(check, -0.6, 0.6, DIMS(out, in));
    return gradcheck_param(check, -0.6, 0.6, DIMS(out, in));
}

/* y = x W^T + (alpha / r) (x A^T) B^T */
static crank_tensor *linear(gradcheck *check, crank_tensor *x, int64_t out, bool pair)
{
    crank_tensor *y = crank_matmul(x, false, weight(check, out, x->dims[1]), true);
    if (!pair) return y;
    crank_tensor *A = gradcheck_param(check, -0.5, 0.5, DIMS(RANK, x->dims[1])),
                 *B = gradcheck_param(check, -0.5, 0.5, DIMS(out, RANK));
    return crank_add(y, crank_scale(crank_matmul(crank_matmul(x, false, A, true), false, B, true), 1.5));
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
    crank_attention_attributes causal = {CRANK_MASK_CAUSAL, 0, 0.7};
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
    crank_tensor *table = weight(check, VOCABULARY, D);
    crank_tensor *x = crank_gather_rows(table, gradcheck_ids(check, 0, VOCABULARY, DIMS(N)));
    for (int i = 0; i < LAYERS; i++) {
        crank_block_begin(check->graph);
        x = layer(check, &rows, x);
        crank_block_end(check->graph);
    }
    x = crank_rmsnorm(x, gain(check), 1e-6);
    crank_tensor *head = frozen_head ? gradcheck_input(check, -0.6, 0.6, DIMS(VOCABULARY, D)) : table; /* ALL: tied */
    crank_tensor *weights = gradcheck_input(check, 0, 1, DIMS(N)),
                 *targets = gradcheck_ids(check, -1, VOCABULARY, DIMS(N));
    return crank_div(crank_head_cross_entropy(x, head, NULL, targets, weights, NULL), crank_sum(weights));
}

static void a_decoder_with_low_rank_pairs_has_the_right_gradient(void **state)
{
    (void)state;
    for (int kind = 0; kind < VARIANTS; kind++) gradcheck_run("decoder", decoder, kind, NULL, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_decoder_with_low_rank_pairs_has_the_right_gradient)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
