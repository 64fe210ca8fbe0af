/* GaLore in the trainer: windows of micro-batches, updates inside the backward pass, and what a run's memory holds. */
#include "task/tiny.h"

#define Q0 "model.layers.0.self_attn.q_proj.weight"

static void option(tiny *t, const char *key, const char *value)
{
    const crank_optimizer *optimizer = t->recipe.optimizer;
    assert_ok(t->context, crank_options_set(t->context, optimizer->options, t->recipe.optimizer_options, key, value, "test"));
}

static tiny *open_galore(int64_t accumulate, bool inside)
{
    tiny *t = tiny_open("galore", "cross_entropy", accumulate);
    option(t, "rank", "3"), option(t, "gap", "2");
    t->train.inside = inside;
    tiny_train_all(t), tiny_start(t);
    return t;
}

static void two_micro_batches_summed_in_the_subspace_equal_one_batch(void **state)
{
    (void)state;
    tiny             *one = open_galore(1, false), *two = open_galore(2, false);
    tiny_batch        same[2];
    const data_batch *window[2] = { &same[0].batch, &same[1].batch };
    trainer_result    result;
    crank_param      *buffer = tiny_param(two, Q0 ".gradient");
    assert_int_equal(buffer->view.dims[0], 8);
    assert_int_equal(buffer->view.dims[1], 3);
    for (int i = 0; i < 2; i++) tiny_fill(&same[i], 3, true);
    for (int step = 1; step <= 3; step++) {
        assert_ok(one->context, trainer_period(one->context, one->trainer, step));
        assert_ok(two->context, trainer_period(two->context, two->trainer, step));
        assert_ok(one->context, trainer_step(one->context, one->trainer, step, window, 1, &result));
        assert_ok(two->context, trainer_step(two->context, two->trainer, step, window, 2, &result));
    }
    assert_true(tiny_distance(one, two, Q0) < 1e-5);
    tiny_close(one), tiny_close(two);
}

static void updates_inside_the_backward_pass_change_no_bit(void **state)
{
    (void)state;
    tiny *after = open_galore(2, false), *inside = open_galore(2, true);
    for (int step = 1; step <= 4; step++) tiny_step(after, step, 2), tiny_step(inside, step, 2);
    const crank_params *params = crank_model_params(after->model);
    for (size_t i = 0; i < crank_params_count(params); i++) {
        const crank_param *param = crank_params_at(params, i);
        if (param->role != CRANK_ROLE_WEIGHT) continue;
        float *a = tiny_values(after, param), *b = tiny_values(inside, tiny_param(inside, param->name));
        assert_memory_equal(a, b, (size_t)crank_view_count(&param->view) * sizeof *a);
        free(a), free(b);
    }
    tiny_close(after), tiny_close(inside);
}

static void matrices_outside_of_layers_keep_whole_moments(void **state)
{
    (void)state;
    tiny *t = open_galore(1, false);
    assert_non_null(tiny_param(t, Q0 ".galore.right"));
    assert_int_equal(tiny_param(t, Q0 ".galore.adamw.m")->view.dims[1], 3);
    assert_int_equal(tiny_param(t, "model.embed_tokens.weight.adamw.m")->view.dims[1], 8);
    assert_non_null(tiny_param(t, "model.layers.0.input_layernorm.weight.adamw.m"));
    tiny_close(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_micro_batches_summed_in_the_subspace_equal_one_batch),
        cmocka_unit_test(updates_inside_the_backward_pass_change_no_bit),
        cmocka_unit_test(matrices_outside_of_layers_keep_whole_moments),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
