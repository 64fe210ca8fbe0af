/* gradcases_transformer.h - gradient cases of norms, rotation, attention, gates, heads and dropout. */
#ifndef CRANK_TESTS_GRADCASES_TRANSFORMER_H
#define CRANK_TESTS_GRADCASES_TRANSFORMER_H

#include "graph/gradcheck.h"

/* What a norm reads: rows, a tensor of rank 3, a strided view, a single row; also used beside the norm (the residual
 * stream). */
static crank_tensor *norm_input(gradcheck *check, int way)
{
    switch (way) {
    case 0:
        return gradcheck_param(check, -2, 2, DIMS(5, 7));
    case 1:
        return gradcheck_param(check, -2, 2, DIMS(2, 3, 7));
    case 2:
        return crank_slice(gradcheck_param(check, -2, 2, DIMS(4, 9)), 1, 1, 7);
    case 3:
        return gradcheck_param(check, -2, 2, DIMS(7));
    default:
        return crank_add(gradcheck_param(check, -2, 2, DIMS(5, 7)), gradcheck_param(check, -2, 2, DIMS(5, 7)));
    }
}

static crank_tensor *rmsnorm_case(gradcheck *check)
{
    crank_tensor *x = norm_input(check, check->kind), *w = gradcheck_param(check, 0.5, 1.5, DIMS(7));
    crank_tensor *y = crank_rmsnorm(x, w, 1e-5);
    return check->kind == 4 ? crank_add(crank_unary(CRANK_EXP, y), x) : y;
}

/* kind: input (5) x w present x b present */
static crank_tensor *layernorm_case(gradcheck *check)
{
    crank_tensor *x = norm_input(check, check->kind % 5);
    crank_tensor *w = check->kind / 5 & 1 ? gradcheck_param(check, 0.5, 1.5, DIMS(7)) : NULL;
    crank_tensor *b = check->kind / 10 & 1 ? gradcheck_param(check, -1, 1, DIMS(7)) : NULL;
    crank_tensor *y = crank_layernorm(x, w, b, 1e-5);
    return check->kind % 5 == 4 ? crank_add(crank_unary(CRANK_EXP, y), x) : y;
}

/* A norm that was recorded with its residual, with gradients that arrive at both the norm and the sum, or at one of
 * them. */
static crank_tensor *residual_norm_case(gradcheck *check)
{
    bool layer = check->kind >= 3;
    crank_tensor *x = gradcheck_param(check, -2, 2, DIMS(4, 6)), *residual = gradcheck_param(check, -2, 2, DIMS(4, 6));
    crank_tensor *w = gradcheck_param(check, 0.5, 1.5, DIMS(6));
    crank_tensor *rms[3] = {x, w, residual}, *ln[4] = {x, w, NULL, residual};
    crank_node *node =
        crank_record(check->graph, op_find(layer ? "layernorm" : "rmsnorm"), layer ? ln : rms, layer ? 4 : 3,
                     &(layernorm_attributes){{1e-5}, CRANK_F64}, layer ? 4 : 3, layer ? 15 : 7);
    assert_non_null(node);
    crank_tensor *y = node->outputs[0], *sum = crank_unary(CRANK_SIN, node->outputs[layer ? 3 : 2]);
    if (check->kind % 3 == 0) return crank_add(y, sum);
    if (check->kind % 3 == 1) return y;
    return crank_add(sum, w); /* w is reached, but not through the norm */
}

static crank_tensor *rope_table(gradcheck *check, int64_t positions, int64_t r)
{
    double *table = malloc((size_t)(positions * r) * sizeof *table);
    for (int64_t p = 0; p < positions; p++)
        for (int64_t i = 0; i < r / 2; i++) {
            double angle = (double)p * pow(100, -2.0 * (double)i / (double)r);
            table[p * r + i] = cos(angle);
            table[p * r + r / 2 + i] = sin(angle);
        }
    crank_tensor *input = gradcheck_given(check, CRANK_F64, table, DIMS(positions, r));
    free(table);
    return input;
}

/* kind: interleaved + 2 * (only a part of each head is rotated) + 4 * (a slice of a wider buffer) */
static crank_tensor *rope_case(gradcheck *check)
{
    crank_tensor *x = check->kind & 4 ? crank_reshape(crank_slice(gradcheck_param(check, -1, 1, DIMS(5, 20)), 1, 4, 12),
                                                      DIMS(5, 2, 6))
                                      : gradcheck_param(check, -1, 1, DIMS(5, 2, 6));
    crank_tensor *positions = gradcheck_ids(check, 0, 8, DIMS(5)),
                 *table = rope_table(check, 8, check->kind & 2 ? 4 : 6);
    return crank_unary(CRANK_EXP, crank_rope(x, positions, table, check->kind & 1));
}

/* kind: mask (2) x window (0 or 2) x heads (equal, grouped, slices of one buffer) */
static crank_tensor *attention_case(gradcheck *check)
{
    crank_attention_attributes attributes = {check->kind & 1 ? CRANK_MASK_CAUSAL : CRANK_MASK_NONE,
                                             check->kind & 2 ? 2 : 0, 0.5, 0};
    crank_tensor *segments = gradcheck_given(check, CRANK_I32, (int32_t[]){0, 3, 3, 7}, DIMS(4)), *q, *k, *v;
    int heads = check->kind / 4;
    if (heads < 2) {
        q = gradcheck_param(check, -1, 1, DIMS(7, 4, 3));
        k = gradcheck_param(check, -1, 1, DIMS(7, heads ? 2 : 4, 3));
        v = gradcheck_param(check, -1, 1, DIMS(7, heads ? 2 : 4, 3));
    } else { /* [7, (4 + 2 + 2) * 3] */
        crank_tensor *all = gradcheck_param(check, -1, 1, DIMS(7, 24));
        q = crank_reshape(crank_slice(all, 1, 0, 12), DIMS(7, 4, 3));
        k = crank_reshape(crank_slice(all, 1, 12, 6), DIMS(7, 2, 3));
        v = crank_reshape(crank_slice(all, 1, 18, 6), DIMS(7, 2, 3));
    }
    return crank_attention(q, k, v, segments, &attributes);
}

static crank_tensor *glu_case(gradcheck *check)
{
    static const crank_unary_kind activations[] = {CRANK_SILU, CRANK_GELU, CRANK_GELU_TANH};
    if (check->kind < 3)
        return crank_glu(gradcheck_param(check, -2, 2, DIMS(2, 3, 4)), gradcheck_param(check, -2, 2, DIMS(2, 3, 4)),
                         activations[check->kind]);
    crank_tensor *both = gradcheck_param(check, -2, 2, DIMS(5, 8)); /* gate and up in one buffer */
    return crank_glu(crank_slice(both, 1, 0, 4), crank_slice(both, 1, 4, 4), CRANK_SILU);
}

static crank_tensor *scale_columns_case(gradcheck *check)
{
    crank_tensor *x = check->kind == 1 ? gradcheck_input(check, -2, 2, DIMS(2, 3, 4)) : gradcheck_param(check, -2, 2, DIMS(2, 3, 4));
    crank_tensor *k = check->kind == 2 ? gradcheck_input(check, 0.5, 2, DIMS(4)) : gradcheck_param(check, 0.5, 2, DIMS(4));
    return crank_scale_columns(x, k);
}

static crank_tensor *glu_scaled_case(gradcheck *check)
{
    static const crank_unary_kind activations[] = {CRANK_SILU, CRANK_GELU, CRANK_GELU_TANH};
    crank_tensor *gate = gradcheck_param(check, -2, 2, DIMS(3, 4)), *up = gradcheck_param(check, -2, 2, DIMS(3, 4));
    crank_tensor *kg = gradcheck_param(check, 0.5, 2, DIMS(4)), *ku = gradcheck_param(check, -2, -0.5, DIMS(4));
    return crank_glu(crank_scale_columns(gate, kg), crank_scale_columns(up, ku), activations[check->kind]);
}

static crank_tensor *frozen(gradcheck *check, bool is_frozen, int rank, const int64_t *dims)
{
    return is_frozen ? gradcheck_input(check, -1, 1, rank, dims) : gradcheck_param(check, -1, 1, rank, dims);
}

/* kind: bits say what is frozen (x, w, bias), and whether the bias is missing. Target -1 and one past the end are
 * ignored. */
enum { HEADS = 13 };
static const struct {
    bool x, w, bias, missing;
} heads[HEADS] = {{0, 0, 0, 0}, {0, 0, 1, 0}, {0, 1, 0, 0}, {0, 1, 1, 0}, {1, 0, 0, 0}, {1, 0, 1, 0}, {1, 1, 0, 0},
                  {0, 0, 0, 1}, {0, 1, 0, 1}, {1, 0, 0, 1}, {0, 0, 0, 0}, {0, 1, 0, 1}, {0, 0, 0, 1}};

static void head_operands(gradcheck *check, crank_tensor **x, crank_tensor **w, crank_tensor **bias,
                          crank_tensor **targets)
{
    int kind = check->kind;
    *x = frozen(check, heads[kind].x, DIMS(6, 4));
    *w = frozen(check, heads[kind].w, DIMS(9, 4));
    *bias = heads[kind].missing ? NULL : frozen(check, heads[kind].bias, DIMS(9));
    *targets = gradcheck_ids(check, -1, 10, DIMS(6));
    if (kind < 10) return;
    *x = crank_slice(crank_concat((crank_tensor *[]){*x, crank_unary(CRANK_EXP, *x)}, 2, 1), 1, 2,
                     4); /* a strided view */
    *w = crank_transpose(crank_contiguous(crank_transpose(*w, 0, 1)), 0, 1);
    *targets = crank_reshape(*targets, DIMS(2, 3));
}

static crank_tensor *head_logprob_case(gradcheck *check)
{
    crank_tensor *x, *w, *bias, *targets, *lse;
    head_operands(check, &x, &w, &bias, &targets);
    crank_tensor *logp = crank_head_logprob(x, w, bias, targets, check->kind % 2 ? &lse : NULL);
    return crank_unary(CRANK_EXP, logp); /* a nonlinear objective of log-probabilities */
}

/* The numerator as a target, scaled by a constant, by a value of the run, and with weights that have a gradient. */
static crank_tensor *head_cross_entropy_case(gradcheck *check)
{
    int way = check->kind / HEADS;
    crank_tensor *x, *w, *bias, *targets, *logp;
    check->kind %= HEADS;
    head_operands(check, &x, &w, &bias, &targets);
    crank_tensor *weights = frozen(check, way < 3, DIMS(6));
    crank_tensor *loss = crank_head_cross_entropy(x, w, bias, targets, weights, way ? &logp : NULL);
    if (way == 1) return crank_scale(loss, 0.125);
    if (way == 2) return crank_div(loss, crank_sum(weights));
    return loss;
}

static crank_tensor *dropout_case(gradcheck *check)
{
    crank_graph_set_seed(check->graph, 11);
    crank_tensor *x = gradcheck_param(check, -1, 1, DIMS(9, 8));
    return crank_unary(CRANK_EXP, crank_dropout(check->kind ? crank_transpose(x, 0, 1) : x, 0.3));
}
#endif
