/* Refusals: a bad call fails the graph with a message that names the operation and what does not fit; later calls do
 * nothing. */
#include "graph/gradcheck.h"
#include "graph/ops/op.h"

typedef struct bad_call {
    const char *says; /* part of the message */
    void (*record)(gradcheck *check);
} bad_call;

static crank_tensor *f64(gradcheck *check, int rank, const int64_t *dims)
{
    return gradcheck_input(check, -1, 1, rank, dims);
}
static crank_tensor *f32(gradcheck *check, int rank, const int64_t *dims)
{
    return crank_fill(check->graph, CRANK_F32, rank, dims, 1);
}
static crank_tensor *i32(gradcheck *check, int rank, const int64_t *dims)
{
    return gradcheck_ids(check, 0, 2, rank, dims);
}
static crank_tensor *param(gradcheck *check, int rank, const int64_t *dims)
{
    return gradcheck_param(check, -1, 1, rank, dims);
}

static void reshape_count(gradcheck *c)
{
    crank_reshape(f64(c, DIMS(3, 4)), DIMS(5, 2));
}
static void reshape_unknown(gradcheck *c)
{
    crank_reshape(f64(c, DIMS(3, 4)), DIMS(-1, -1));
}
static void reshape_multiple(gradcheck *c)
{
    crank_reshape(f64(c, DIMS(3, 4)), DIMS(5, -1));
}
static void reshape_strided(gradcheck *c)
{
    crank_reshape(crank_transpose(f64(c, DIMS(3, 4)), 0, 1), DIMS(12));
}
static void reshape_rank(gradcheck *c)
{
    crank_reshape(f64(c, DIMS(1)), DIMS(1, 1, 1, 1, 1, 1));
}
static void slice_axis(gradcheck *c)
{
    crank_slice(f64(c, DIMS(3, 4)), 2, 0, 1);
}
static void slice_range(gradcheck *c)
{
    crank_slice(f64(c, DIMS(3, 4)), 1, 2, 3);
}
static void slice_overflow(gradcheck *c)
{
    crank_slice(f64(c, DIMS(3, 4)), 1, INT64_MAX, 2);
}
static void slice_empty(gradcheck *c)
{
    crank_slice(f64(c, DIMS(3, 4)), 1, 2, 0);
}
static void transpose_axes(gradcheck *c)
{
    crank_transpose(f64(c, DIMS(3, 4)), 0, 2);
}
static void broadcast_dims(gradcheck *c)
{
    crank_broadcast(f64(c, DIMS(3, 4)), DIMS(3, 5));
}
static void broadcast_rank(gradcheck *c)
{
    crank_broadcast(f64(c, DIMS(3, 4)), DIMS(4));
}
static void cast_ids(gradcheck *c)
{
    crank_cast(i32(c, DIMS(3)), CRANK_F32);
}
static void concat_axis(gradcheck *c)
{
    crank_concat((crank_tensor *[]){f64(c, DIMS(3)), f64(c, DIMS(3))}, 2, 1);
}
static void concat_dims(gradcheck *c)
{
    crank_concat((crank_tensor *[]){f64(c, DIMS(3, 4)), f64(c, DIMS(2, 4))}, 2, 1);
}
static void concat_types(gradcheck *c)
{
    crank_concat((crank_tensor *[]){f64(c, DIMS(3)), f32(c, DIMS(3))}, 2, 0);
}
static void fill_dim(gradcheck *c)
{
    crank_fill(c->graph, CRANK_F32, DIMS(2, 0), 1);
}
static void fill_type(gradcheck *c)
{
    crank_fill(c->graph, CRANK_I32, DIMS(2), 1);
}
static void binary_types(gradcheck *c)
{
    crank_add(f64(c, DIMS(3)), f32(c, DIMS(3)));
}
static void binary_dims(gradcheck *c)
{
    crank_mul(f64(c, DIMS(3, 4)), f64(c, DIMS(3)));
}
static void binary_kind(gradcheck *c)
{
    crank_binary((crank_binary_kind)99, f64(c, DIMS(3)), f64(c, DIMS(3)));
}
static void binary_ids(gradcheck *c)
{
    crank_add(i32(c, DIMS(3)), i32(c, DIMS(3)));
}
static void where_dims(gradcheck *c)
{
    crank_where(f64(c, DIMS(3)), f64(c, DIMS(4)), f64(c, DIMS(4)));
}
static void where_types(gradcheck *c)
{
    crank_where(f32(c, DIMS(4)), f64(c, DIMS(4)), f64(c, DIMS(4)));
}
static void affine_ids(gradcheck *c)
{
    crank_scale(i32(c, DIMS(3)), 2);
}
static void unary_kind(gradcheck *c)
{
    crank_unary((crank_unary_kind)99, f64(c, DIMS(3)));
}
static void reduce_axes(gradcheck *c)
{
    crank_reduce(CRANK_SUM, f64(c, DIMS(3, 4)), 4, true);
}
static void softmax_scalar(gradcheck *c)
{
    crank_softmax(crank_constant(c->graph, 1), false);
}
static void matmul_inner(gradcheck *c)
{
    crank_matmul(f64(c, DIMS(3, 4)), false, f64(c, DIMS(3, 4)), false);
}
static void matmul_types(gradcheck *c)
{
    crank_matmul(f64(c, DIMS(3, 4)), false, f32(c, DIMS(4, 3)), false);
}
static void matmul_batch(gradcheck *c)
{
    crank_matmul(f64(c, DIMS(2, 3, 4)), false, f64(c, DIMS(3, 4, 3)), false);
}
static void matmul_lead(gradcheck *c)
{
    crank_matmul(f64(c, DIMS(2, 3, 3, 4)), false, f64(c, DIMS(3, 2, 4, 3)), false);
}
static void matmul_vector(gradcheck *c)
{
    crank_matmul(f64(c, DIMS(3, 4)), false, f64(c, DIMS(4)), false);
}
static void matmul_with(gradcheck *c, crank_tensor *bias, crank_tensor *c0, crank_dtype out)
{
    crank_matmul_full(f64(c, DIMS(3, 4)), false, f64(c, DIMS(4, 5)), false, 1, bias, c0, out);
}
static void matmul_bias(gradcheck *c)
{
    matmul_with(c, f64(c, DIMS(3)), NULL, CRANK_DTYPES);
}
static void matmul_c0(gradcheck *c)
{
    matmul_with(c, NULL, f64(c, DIMS(5, 3)), CRANK_DTYPES);
}
static void matmul_c0_type(gradcheck *c)
{
    matmul_with(c, NULL, f32(c, DIMS(3, 5)), CRANK_DTYPES);
}
static void matmul_out(gradcheck *c)
{
    matmul_with(c, NULL, NULL, CRANK_F32);
}
static void gather_ids(gradcheck *c)
{
    crank_gather_rows(f64(c, DIMS(3, 4)), f64(c, DIMS(3)));
}
static void gather_table(gradcheck *c)
{
    crank_gather_rows(f64(c, DIMS(3)), i32(c, DIMS(3)));
}
static void pick_rows(gradcheck *c)
{
    crank_pick(f64(c, DIMS(3, 4)), i32(c, DIMS(2, 1)));
}
static void rmsnorm_missing(gradcheck *c)
{
    crank_rmsnorm(f64(c, DIMS(3, 4)), NULL, 1e-5);
}
static void rmsnorm_gain(gradcheck *c)
{
    crank_rmsnorm(f64(c, DIMS(3, 4)), f64(c, DIMS(3)), 1e-5);
}
static void layernorm_shift(gradcheck *c)
{
    crank_layernorm(f64(c, DIMS(3, 4)), NULL, f64(c, DIMS(3)), 1e-5);
}
static void layernorm_types(gradcheck *c)
{
    crank_layernorm(crank_fill(c->graph, CRANK_BF16, DIMS(3, 4), 1), f32(c, DIMS(4)),
                    crank_fill(c->graph, CRANK_BF16, DIMS(4), 1), 1e-5);
}
static void rope_table(gradcheck *c)
{
    crank_rope(f64(c, DIMS(3, 2, 4)), i32(c, DIMS(3)), f64(c, DIMS(9, 6)), false);
}
static void rope_positions(gradcheck *c)
{
    crank_rope(f64(c, DIMS(3, 2, 4)), i32(c, DIMS(2)), f64(c, DIMS(9, 4)), false);
}
static void rope_trained(gradcheck *c)
{
    crank_rope(f64(c, DIMS(3, 2, 4)), i32(c, DIMS(3)), param(c, DIMS(9, 4)), false);
}

static const crank_attention_attributes causal = {CRANK_MASK_CAUSAL, 0, 1, 0};
static void attention_heads(gradcheck *c)
{
    crank_attention(f64(c, DIMS(3, 3, 4)), f64(c, DIMS(3, 2, 4)), f64(c, DIMS(3, 2, 4)), i32(c, DIMS(2)), &causal);
}
static void attention_tokens(gradcheck *c)
{
    crank_attention(f64(c, DIMS(3, 2, 4)), f64(c, DIMS(5, 2, 4)), f64(c, DIMS(5, 2, 4)), i32(c, DIMS(2)), &causal);
}
static void attention_segments(gradcheck *c)
{
    crank_attention(f64(c, DIMS(3, 2, 4)), f64(c, DIMS(3, 2, 4)), f64(c, DIMS(3, 2, 4)), i32(c, DIMS(1)), &causal);
}
static void cached_position(gradcheck *c)
{
    crank_attention_cached(f64(c, DIMS(3, 2, 4)), f64(c, DIMS(9, 2, 4)), f64(c, DIMS(9, 2, 4)), i32(c, DIMS(2)),
                           &causal);
}
static void cache_too_small(gradcheck *c)
{
    crank_cache_write(f64(c, DIMS(3, 2, 4)), i32(c, DIMS(1)), param(c, DIMS(2, 2, 4)));
}
static void glu_dims(gradcheck *c)
{
    crank_glu(f64(c, DIMS(3, 4)), f64(c, DIMS(4, 3)), CRANK_SILU);
}
static void glu_activation(gradcheck *c)
{
    crank_glu(f64(c, DIMS(3, 4)), f64(c, DIMS(3, 4)), CRANK_TANH);
}
static void head_width(gradcheck *c)
{
    crank_head_logprob(f64(c, DIMS(3, 4)), f64(c, DIMS(9, 5)), NULL, i32(c, DIMS(3)), NULL);
}
static void head_targets(gradcheck *c)
{
    crank_head_logprob(f64(c, DIMS(3, 4)), f64(c, DIMS(9, 4)), NULL, i32(c, DIMS(4)), NULL);
}
static void head_bias(gradcheck *c)
{
    crank_head_logprob(f64(c, DIMS(3, 4)), f64(c, DIMS(9, 4)), f64(c, DIMS(4)), i32(c, DIMS(3)), NULL);
}
static void head_weights(gradcheck *c)
{
    crank_head_cross_entropy(f64(c, DIMS(3, 4)), f64(c, DIMS(9, 4)), NULL, i32(c, DIMS(3)), f64(c, DIMS(2)), NULL);
}
static void head_unmarked(gradcheck *c) /* x needed no gradient when the loss was recorded */
{
    crank_tensor *x = f64(c, DIMS(3, 4)), *w = param(c, DIMS(9, 4)), *gradient;
    crank_tensor *loss = crank_head_cross_entropy(x, w, NULL, i32(c, DIMS(3)), f64(c, DIMS(3)), NULL);
    crank_gradients(c->graph, &loss, NULL, 1, &x, 1, &gradient);
}
static void dropout_range(gradcheck *c)
{
    crank_dropout(f64(c, DIMS(3)), 1);
}
static void second_gradient(gradcheck *c)
{
    crank_tensor *x = param(c, DIMS(3)), *loss = crank_sum(crank_unary(CRANK_EXP, crank_unary(CRANK_EXP, x))),
                 *gradient, *second;
    crank_gradients(c->graph, &loss, NULL, 1, &x, 1, &gradient);
    if (!gradient) return;
    loss = crank_reduce(CRANK_SUM_SQUARES, gradient, 1, false);
    crank_gradients(c->graph, &loss, NULL, 1, &x, 1, &second);
}

static const crank_adam_attributes adam = {.beta1 = 0.9, .beta2 = 0.99};
static void adamw_target(gradcheck *c)
{
    crank_adamw(f64(c, DIMS(3)), f64(c, DIMS(3)), param(c, DIMS(3)), param(c, DIMS(3)), crank_step_scalars(c->graph),
                &adam);
}
static void adamw_gradient(gradcheck *c)
{
    crank_adamw(param(c, DIMS(3)), f64(c, DIMS(4)), param(c, DIMS(3)), param(c, DIMS(3)), crank_step_scalars(c->graph),
                &adam);
}
static void adamw_state(gradcheck *c)
{
    crank_adamw(param(c, DIMS(3)), f64(c, DIMS(3)), param(c, DIMS(4)), param(c, DIMS(3)), crank_step_scalars(c->graph),
                &adam);
}
static void adamw_scalars(gradcheck *c)
{
    crank_adamw(param(c, DIMS(3)), f64(c, DIMS(3)), param(c, DIMS(3)), param(c, DIMS(3)), f32(c, DIMS(3)), &adam);
}
static void adamw8bit_codes(gradcheck *c)
{
    crank_adamw8bit(param(c, DIMS(3)), f64(c, DIMS(3)), param(c, DIMS(3)), param(c, DIMS(3)), param(c, DIMS(1)),
                    param(c, DIMS(1)), crank_step_scalars(c->graph), &adam);
}
static void sgd_buffer(gradcheck *c)
{
    crank_sgd(param(c, DIMS(3)), f64(c, DIMS(3)), NULL, crank_step_scalars(c->graph),
              &(crank_sgd_attributes){.momentum = 0.9});
}
static void lion_state(gradcheck *c)
{
    crank_lion(param(c, DIMS(3)), f64(c, DIMS(3)), f64(c, DIMS(3)), crank_step_scalars(c->graph),
               &(crank_lion_attributes){0});
}
static void assign_target(gradcheck *c)
{
    crank_assign(f64(c, DIMS(3)), f64(c, DIMS(3)), false);
}
static void assign_dims(gradcheck *c)
{
    crank_assign(param(c, DIMS(3)), f64(c, DIMS(4)), false);
}
static void check_vector(gradcheck *c)
{
    crank_check_finite(f64(c, DIMS(3)));
}
static void clip_evaluation(gradcheck *c)
{
    crank_graph_set_training(c->graph, false);
    crank_clip_scale((crank_tensor *[]){f64(c, DIMS(3))}, 1, 1, c->graph);
}

static const bad_call calls[] = {
    {"reshape: f64 [3, 4] has 12 elements, f64 [5, 2] has 10", reshape_count},
    {"only one may be -1", reshape_unknown},
    {"reshape: the 12 elements of f64 [3, 4] are no multiple of 5", reshape_multiple},
    {"copy it with crank_contiguous first", reshape_strided},
    {"reshape: rank 6 is not in 0..5", reshape_rank},
    {"slice: f64 [3, 4] has no axis 2", slice_axis},
    {"slice: 3 elements from 2 on are not inside axis 1 of f64 [3, 4]", slice_range},
    {"are not inside axis 1 of f64 [3, 4]", slice_overflow},
    {"slice: 0 elements", slice_empty},
    {"transpose: f64 [3, 4] has no axes 0 and 2", transpose_axes},
    {"broadcast: f64 [3, 4] does not spread over f64 [3, 5]", broadcast_dims},
    {"broadcast: f64 [3, 4] does not spread over f64 [4]", broadcast_rank},
    {"cast: i32 [3] does not become f32", cast_ids},
    {"concat: f64 [3] has no axis 1", concat_axis},
    {"concat along axis 1: f64 [2, 4] does not go with f64 [3, 4]", concat_dims},
    {"concat along axis 0: f32 [3] does not go with f64 [3]", concat_types},
    {"fill: dim 1 is 0", fill_dim},
    {"fill: i32 is no float type", fill_type},
    {"add: f64 [3] and f32 [3] must have one float type", binary_types},
    {"mul: f64 [3, 4] and f64 [3] do not broadcast", binary_dims},
    {"binary: 99 is no kind", binary_kind},
    {"add: i32 [3] and i32 [3] must have one float type", binary_ids},
    {"where: condition f64 [3]", where_dims},
    {"where: condition f32 [4]", where_types},
    {"affine: i32 [3] is not of a float type", affine_ids},
    {"unary: 99 is no kind", unary_kind},
    {"reduce: f64 [3, 4] lacks axes of the mask 0x4", reduce_axes},
    {"softmax: f64 [] is no float tensor with a last axis", softmax_scalar},
    {"matmul: f64 [3, 4] and f64 [3, 4] do not multiply: 4 columns against 3 rows", matmul_inner},
    {"matmul: f64 [3, 4] and f32 [4, 3] must have one float type", matmul_types},
    {"matmul: f64 [2, 3, 4] and f64 [3, 4, 3] do not multiply", matmul_batch},
    {"matmul: f64 [2, 3, 3, 4] and f64 [3, 2, 4, 3] must be matrices with the same leading dims", matmul_lead},
    {"matmul: f64 [3, 4] and f64 [4] must be matrices", matmul_vector},
    {"matmul: bias f64 [3] must be [5]", matmul_bias},
    {"matmul: c0 f64 [5, 3] must have the dims of the product", matmul_c0},
    {"matmul: bias nothing and c0 f32 [3, 5] must have the type of the result, f64", matmul_c0_type},
    {"matmul: a product of f64 does not come out as f32", matmul_out},
    {"gather_rows: table f64 [3, 4] must be a float matrix, ids f64 [3] i32", gather_ids},
    {"gather_rows: table f64 [3]", gather_table},
    {"pick: x f64 [3, 4]", pick_rows},
    {"rmsnorm: w is missing", rmsnorm_missing},
    {"rmsnorm: w f64 [3] must be [4]", rmsnorm_gain},
    {"layernorm: b f64 [3] must be [4]", layernorm_shift},
    {"layernorm: w f32 [4] and b bf16 [4] must have one type", layernorm_types},
    {"rope: table f64 [9, 6]", rope_table},
    {"rope: positions i32 [2] must be i32 [3]", rope_positions},
    {"rope: the table of angles is no parameter", rope_trained},
    {"attention: q f64 [3, 3, 4], k f64 [3, 2, 4]", attention_heads},
    {"attention: q f64 [3, 2, 4] and k f64 [5, 2, 4] must have as many tokens", attention_tokens},
    {"attention: segments i32 [1]", attention_segments},
    {"attention_cached: position i32 [2] must be i32 [1]", cached_position},
    {"cache_write: f64 [3, 2, 4] is no part of the cache f64 [2, 2, 4]", cache_too_small},
    {"glu: gate f64 [3, 4] and up f64 [4, 3]", glu_dims},
    {"glu: the activation is silu, gelu or gelu_tanh", glu_activation},
    {"head_logprob: x f64 [3, 4] and w f64 [9, 5]", head_width},
    {"head_logprob: targets i32 [4] must be i32 [3]", head_targets},
    {"head_logprob: bias f64 [4] must be [9]", head_bias},
    {"head_cross_entropy: weights f64 [2] must be f64 [3]", head_weights},
    {"head_cross_entropy: the gradient of x is asked for", head_unmarked},
    {"dropout: p = 1 is not in [0, 1)", dropout_range},
    {"a gradient of a gradient", second_gradient},
    {"adamw: f64 [3] is no float parameter", adamw_target},
    {"adamw: gradient f64 [4] must have the dims of f64 [3]", adamw_gradient},
    {"adamw: state f64 [4] must be a f64 parameter", adamw_state},
    {"adamw: scalars f32 [3] must be the step scalars", adamw_scalars},
    {"adamw8bit: state f64 [3] must be a u8 parameter", adamw8bit_codes},
    {"sgd: momentum 0.9 needs a buffer", sgd_buffer},
    {"lion: state f64 [3] must be a f64 parameter", lion_state},
    {"assign: the target f64 [3] is no parameter", assign_target},
    {"assign: f64 [4] does not go into f64 [3]", assign_dims},
    {"check_finite: f64 [3] is no float scalar", check_vector},
    {"clip_scale: the graph is not recorded for training", clip_evaluation},
};

static void a_bad_call_names_the_operation_and_its_operands(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        gradcheck check;
        gradcheck_open(&check, 0);
        calls[i].record(&check);
        if (crank_graph_status(check.graph) != CRANK_USAGE) fail_msg("not refused: %s", calls[i].says);
        if (!strstr(crank_message(check.context), calls[i].says))
            fail_msg("\"%s\" does not say \"%s\"", crank_message(check.context), calls[i].says);
        gradcheck_close(&check);
    }
}

/* All recording functions, on a graph that has failed: nothing is appended, tensors can be passed on, the message
 * stays. */
static void a_failed_graph_records_nothing(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        gradcheck check;
        gradcheck_open(&check, 0);
        crank_tensor *x = f64(&check, DIMS(3, 4));
        crank_add(x, f64(&check, DIMS(5)));
        int nodes = check.graph->node_count;
        char message[512];
        snprintf(message, sizeof message, "%s", crank_message(check.context));
        calls[i].record(&check);
        assert_int_equal(check.graph->node_count, nodes);
        assert_int_equal(crank_graph_status(check.graph), CRANK_USAGE);
        assert_string_equal(crank_message(check.context), message);
        gradcheck_close(&check);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_bad_call_names_the_operation_and_its_operands),
        cmocka_unit_test(a_failed_graph_records_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
