/* What is recorded: products of trained weights alone, no multiplication by 1, f32 for the gradients of 16-bit
 * parameters, no copies of transposed operands, one concat for slices that partition, nothing behind stop_gradient. */
#include "graph/gradcheck.h"
#include "graph/ops/op.h"

static int nodes_of(const crank_graph *graph, const char *op)
{
    int count = 0;
    for (int i = 0; i < graph->node_count; i++) count += !strcmp(graph->nodes[i]->op->name, op);
    return count;
}

static crank_param *add_param(gradcheck *check, const char *name, crank_dtype dtype, bool trainable, int rank,
                              const int64_t *dims)
{
    crank_param *param = crank_params_add(check->params, name, CRANK_ROLE_WEIGHT, dtype, rank, dims);
    assert_non_null(param);
    param->trainable = trainable;
    return param;
}

static crank_tensor *gradient_of(gradcheck *check, crank_tensor *target, crank_tensor *leaf)
{
    crank_tensor *gradient = NULL;
    if (crank_gradients(check->graph, &target, NULL, 1, &leaf, 1, &gradient) != CRANK_OK)
        fail_msg("%s", crank_message(check->context));
    assert_non_null(gradient);
    return gradient;
}

static void a_frozen_weight_costs_no_product(void **state)
{
    (void)state;
    gradcheck check;
    gradcheck_open(&check, 0);
    crank_tensor *x = gradcheck_input(&check, -1, 1, DIMS(4, 3)), *w1 = gradcheck_param(&check, -1, 1, DIMS(5, 3));
    crank_tensor *w2 = crank_use(check.graph, add_param(&check, "frozen", CRANK_F64, false, DIMS(2, 5)));
    crank_tensor *y = crank_matmul(crank_matmul(x, false, w1, true), false, w2, true);
    gradient_of(&check, crank_sum(y), w1);
    assert_int_equal(nodes_of(check.graph, "matmul"),
                     4); /* two forward; dy w2 and the gradient of w1: neither dx nor dw2 */
    gradcheck_close(&check);
}

static void a_transposed_operand_is_not_copied(void **state)
{
    (void)state;
    gradcheck check;
    gradcheck_open(&check, 0);
    crank_tensor *x = gradcheck_param(&check, -1, 1, DIMS(4, 3)), *w = gradcheck_param(&check, -1, 1, DIMS(5, 3));
    crank_tensor *y = crank_matmul(x, false, crank_transpose(w, 0, 1), false);
    crank_tensor *dw = gradient_of(&check, crank_reduce(CRANK_SUM_SQUARES, y, 3, false), w);
    assert_int_equal(nodes_of(check.graph, "copy"), 0);
    assert_ptr_equal(dw->node->op, &op_matmul);
    gradcheck_close(&check);
}

static void the_gradient_of_a_rounded_parameter_is_f32(void **state)
{
    (void)state;
    gradcheck check;
    gradcheck_open(&check, 0);
    crank_graph_set_compute(check.graph, CRANK_BF16);
    crank_tensor *master = crank_use(check.graph, add_param(&check, "w", CRANK_F32, true, DIMS(5, 3)));
    crank_tensor *plain = crank_use(check.graph, add_param(&check, "b", CRANK_BF16, true, DIMS(5)));
    crank_tensor *x = crank_input(check.graph, "x", CRANK_BF16, DIMS(4, 3));
    crank_mark_gradient(x);
    crank_tensor *y = crank_matmul_full(x, false, crank_cast(master, CRANK_BF16), true, 1, plain, NULL, CRANK_DTYPES);
    crank_tensor *target = crank_sum(y), *leaf[3] = {master, plain, x}, *gradient[3];
    assert_ok(check.context, crank_gradients(check.graph, &target, NULL, 1, leaf, 3, gradient));
    assert_int_equal(gradient[0]->dtype, CRANK_F32);
    assert_ptr_equal(gradient[0]->node->op, &op_matmul); /* straight from the product, never rounded to 16 bits */
    assert_int_equal(gradient[1]->dtype, CRANK_F32);
    assert_int_equal(gradient[2]->dtype, CRANK_BF16);
    gradcheck_close(&check);
}

static void a_loss_as_target_passes_its_gradients_through(void **state)
{
    (void)state;
    gradcheck check;
    gradcheck_open(&check, 0);
    crank_tensor *x = gradcheck_input(&check, -1, 1, DIMS(4, 3)), *w = gradcheck_param(&check, -1, 1, DIMS(5, 3));
    crank_tensor *targets = gradcheck_ids(&check, 0, 5, DIMS(4)), *weights = gradcheck_input(&check, 0, 1, DIMS(4));
    crank_tensor *loss = crank_head_cross_entropy(x, w, NULL, targets, weights, NULL);
    assert_null(loss->node->outputs[2]); /* x needs no gradient: its dx is not asked for */
    crank_tensor *dw = gradient_of(&check, loss, w);
    assert_ptr_equal(dw, loss->node->outputs[3]);
    assert_int_equal(nodes_of(check.graph, "affine") + nodes_of(check.graph, "binary"), 0);
    dw = gradient_of(&check, crank_scale(loss, 0.5), w); /* a known factor is one affine */
    assert_ptr_equal(dw->node->op, op_find("affine"));
    assert_int_equal(nodes_of(check.graph, "binary"), 0);
    gradcheck_close(&check);
}

static void an_evaluation_computes_no_gradient_of_the_head(void **state)
{
    (void)state;
    gradcheck check;
    gradcheck_open(&check, 0);
    crank_tensor *x = gradcheck_param(&check, -1, 1, DIMS(4, 3)), *w = gradcheck_param(&check, -1, 1, DIMS(5, 3));
    crank_tensor *targets = gradcheck_ids(&check, 0, 5, DIMS(4)), *weights = gradcheck_input(&check, 0, 1, DIMS(4));
    crank_tensor *loss = crank_keep(crank_head_cross_entropy(x, w, NULL, targets, weights, NULL));
    assert_non_null(loss->node->outputs[3]);
    assert_ok(check.context, crank_plan(check.graph, NULL, NULL));
    assert_null(loss->node->outputs[2]);
    assert_null(loss->node->outputs[3]);
    gradcheck_write(&check);
    assert_true(isfinite(gradcheck_value(&check, loss)));
    gradcheck_close(&check);
}

static void log_probabilities_of_a_frozen_head_need_one_pass(void **state)
{
    (void)state;
    gradcheck check;
    gradcheck_open(&check, 0);
    crank_tensor *x = gradcheck_param(&check, -1, 1, DIMS(4, 3)), *w = gradcheck_input(&check, -1, 1, DIMS(5, 3));
    crank_tensor *logp = crank_head_logprob(x, w, NULL, gradcheck_ids(&check, 0, 5, DIMS(4)), NULL);
    gradient_of(&check, crank_sum(logp), x);
    assert_int_equal(nodes_of(check.graph, "head_logprob_backward"), 0);
    gradcheck_close(&check);
}

static void slices_that_partition_become_one_concat(void **state)
{
    (void)state;
    gradcheck check;
    gradcheck_open(&check, 0);
    crank_tensor *x = gradcheck_param(&check, -1, 1, DIMS(4, 6)), *part[3];
    for (int i = 0; i < 3; i++) part[i] = crank_unary((crank_unary_kind)(CRANK_EXP + i), crank_slice(x, 1, 2 * i, 2));
    gradient_of(&check, crank_sum(crank_mul(crank_mul(part[0], part[1]), part[2])), x);
    assert_int_equal(nodes_of(check.graph, "pad"), 0);
    assert_int_equal(nodes_of(check.graph, "concat"), 1);
    gradcheck_close(&check);
}

static void stop_gradient_keeps_the_value_alone(void **state)
{
    (void)state;
    gradcheck check;
    gradcheck_open(&check, 0);
    crank_tensor *x = gradcheck_param(&check, -1, 1, DIMS(4)), *y = crank_unary(CRANK_EXP, x);
    crank_tensor *target =
        crank_keep(crank_sum(crank_mul(x, crank_stop_gradient(y)))); /* d/dx = e^x, not e^x (1 + x) */
    crank_tensor *gradient = crank_keep(gradient_of(&check, target, x));
    double values[4];
    assert_ok(check.context, crank_plan(check.graph, NULL, NULL));
    gradcheck_write(&check);
    gradcheck_value(&check, target);
    assert_ok(check.context, crank_read(gradient, values));
    for (int i = 0; i < 4; i++) assert_true(fabs(values[i] - exp(check.value[0][i])) < 1e-12);
    gradcheck_close(&check);
}

static void an_evaluation_neither_drops_nor_changes(void **state)
{
    (void)state;
    gradcheck check;
    gradcheck_open(&check, 0);
    crank_graph_set_training(check.graph, false);
    crank_tensor *x = gradcheck_param(&check, -1, 1, DIMS(4, 3));
    assert_ptr_equal(crank_dropout(x, 0.5), x);
    crank_assign(x, crank_scale(x, 2), false);
    crank_check_finite(crank_sum(x));
    crank_sgd(x, x, NULL, crank_step_scalars(check.graph), &(crank_sgd_attributes){0});
    for (int i = 0; i < check.graph->node_count; i++) assert_false(check.graph->nodes[i]->op->state);
    assert_ok(check.context, crank_graph_status(check.graph));
    gradcheck_close(&check);
}

static void many_parts_join_in_their_order(void **state)
{
    (void)state;
    gradcheck check;
    gradcheck_open(&check, 0);
    enum { PARTS = 300 };
    crank_tensor *x = gradcheck_param(&check, -1, 1, DIMS(PARTS)), *part[PARTS];
    for (int i = 0; i < PARTS; i++) part[i] = crank_slice(x, 0, PARTS - 1 - i, 1);
    crank_tensor *y = crank_keep(crank_concat(part, PARTS, 0));
    double values[PARTS];
    assert_ok(check.context, crank_plan(check.graph, NULL, NULL));
    gradcheck_write(&check);
    assert_ok(check.context, crank_run(check.graph));
    assert_ok(check.context, crank_read(y, values));
    for (int i = 0; i < PARTS; i++) assert_true(values[i] == check.value[0][PARTS - 1 - i]);
    gradcheck_close(&check);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_frozen_weight_costs_no_product),
        cmocka_unit_test(a_transposed_operand_is_not_copied),
        cmocka_unit_test(the_gradient_of_a_rounded_parameter_is_f32),
        cmocka_unit_test(a_loss_as_target_passes_its_gradients_through),
        cmocka_unit_test(an_evaluation_computes_no_gradient_of_the_head),
        cmocka_unit_test(log_probabilities_of_a_frozen_head_need_one_pass),
        cmocka_unit_test(slices_that_partition_become_one_concat),
        cmocka_unit_test(stop_gradient_keeps_the_value_alone),
        cmocka_unit_test(an_evaluation_neither_drops_nor_changes),
        cmocka_unit_test(many_parts_join_in_their_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
