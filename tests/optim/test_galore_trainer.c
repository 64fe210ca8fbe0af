/* GaLore in the trainer: windows of micro-batches, updates inside the backward pass, and what a run's memory holds. */
#include "optim/run.h"
#include "task/accounts.h"
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

/* R from the factors of the gradient is P^T (dY^T X), and costs less than half. */
static void the_gradient_is_not_formed(void **state)
{
    (void)state;
    enum { TOKENS = 64, OUT = 24, IN = 40, R = 4 };
    static const char *const sides[] = { "left", "right", "full" };
    for (int k = 0; k < 3; k++) {
        crank_context         *context = crank_context_new();
        crank_device          *device = crank_device_cpu(context, NULL);
        crank_params          *params = crank_params_new(context, device);
        crank_param           *param = crank_params_add(params, "w", CRANK_ROLE_WEIGHT, CRANK_F32, 2, (const int64_t[]){ OUT, IN });
        const crank_optimizer *galore = crank_optimizer_find("galore");
        char                  *st = calloc(1, galore->state_size), *model = calloc(1, galore->model_state_size);
        void                  *options = crank_options_new(context, galore->options, galore->options_size);
        assert_ok(context, crank_options_set(context, galore->options, options, "rank", "4", "test"));
        assert_ok(context, crank_options_set(context, galore->options, options, "side", sides[k], "test"));
        assert_ok(context, crank_options_set(context, galore->options, options, "refresh", "svd", "test"));
        crank_unit unit = { .optimizer = galore, .param = param, .options = options, .state = st, .model = model, .rate_factor = 1 };
        assert_ok(context, galore->attach(context, &unit));
        static float       x[TOKENS * IN], dy[TOKENS * OUT], seen[OUT * IN], out[2][OUT * IN];
        crank_plan_summary plans[2];
        crank_fill_normal(crank_stream_make(5, CRANK_RANDOM_TEST, 1), 0, 0, 1, x, TOKENS * IN);
        crank_fill_normal(crank_stream_make(5, CRANK_RANDOM_TEST, 2), 0, 0, 1, dy, TOKENS * OUT);
        crank_fill_normal(crank_stream_make(5, CRANK_RANDOM_TEST, 3), 0, 0, 1, seen, OUT * IN);
        assert_ok(context, galore->observe(context, &unit, seen));
        size_t n = 0;
        for (int formed = 0; formed < 2; formed++) {
            crank_graph  *graph = crank_graph_new(context, device);
            crank_tensor *X = crank_input(graph, "x", CRANK_F32, 2, (const int64_t[]){ TOKENS, IN }), *dY = crank_input(graph, "dy", CRANK_F32, 2, (const int64_t[]){ TOKENS, OUT });
            crank_tensor *G = crank_matmul(dY, true, X, false), *kept;
            if (formed) kept = crank_scale(galore->accumulate(graph, &unit, crank_scale(G, 2)), 0.5);
            else kept = galore->accumulate(graph, &unit, G);
            crank_keep(kept);
            assert_ok(context, crank_plan(graph, NULL, &plans[formed]));
            assert_ok(context, crank_write(X, x));
            assert_ok(context, crank_write(dY, dy));
            assert_ok(context, crank_run(graph));
            assert_ok(context, crank_read(kept, out[formed]));
            n = (size_t)(kept->dims[0] * kept->dims[1]);
            crank_graph_free(graph);
        }
        assert_true(relative_error(out[0], out[1], n) < 1e-5);
        assert_true(plans[0].flops < 0.5 * plans[1].flops);
        crank_unit all = { .optimizer = galore, .model = model };
        galore->release(&unit), galore->release(&all);
        free(st), free(model);
        crank_options_free(options);
        crank_params_free(params);
        device->close(device);
        crank_context_free(context);
    }
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

/* Each update stands behind its gradient in the reverse pass: what is kept of the gradients never lies side by side. */
static void updates_inside_the_backward_pass_free_what_is_kept_of_each_gradient(void **state)
{
    (void)state;
    crank_context     *context = crank_context_new();
    crank_device      *device = crank_device_cpu(context, NULL);
    int64_t            rank;
    char              *config = accounts_config(context, "60m", &rank);
    account            way = { "GaLore", NULL, NULL, "galore", "rank=128 inner=adamw8bit" };
    account_plan       inside, behind;
    account_bytes      b;
    assert_ok(context, accounts_measure(context, device, config, CRANK_BF16, &way, &b));
    assert_ok(context, accounts_plan(context, device, config, CRANK_BF16, &way, &(account_step){ 32, 1, true }, &inside));
    assert_ok(context, accounts_plan(context, device, config, CRANK_BF16, &way, &(account_step){ 32, 1, false }, &behind));
    if (inside.step > 2 * b.largest) fail_msg("%lld bytes a step; the largest gradient has %lld", (long long)inside.step, (long long)b.largest);
    assert_true(behind.step > b.gradients);
    crank_free(config);
    device->close(device);
    crank_context_free(context);
}

/* Bases of bf16 weights are bf16; what is kept of a gradient is f32. */
static void bases_are_as_wide_as_the_weight(void **state)
{
    (void)state;
    static const int64_t dims[2] = { 12, 20 };
    static const char   *settings = "rank=4 gap=2";
    float                w[240], g[240], P[48];
    crank_fill_normal(crank_stream_make(3, CRANK_RANDOM_TEST, 0), 0, 0, 1, w, 240);
    for (int narrow = 0; narrow < 2; narrow++) {
        runner r = runner_open("galore", settings, narrow ? CRANK_BF16 : CRANK_F32, 2, dims, w, 0);
        assert_int_equal(crank_params_find(r.params, "w.galore.left")->view.dtype, narrow ? CRANK_BF16 : CRANK_F32);
        for (int t = 1; t <= 5; t++) {
            crank_fill_normal(crank_stream_make(3, CRANK_RANDOM_TEST, (uint32_t)t), 0, 0, 1, g, 240);
            runner_step(&r, g, 0.01, t, 1, false);
        }
        runner_read(&r, "w.galore.left", P, CRANK_F32);
        for (int a = 0; a < 4; a++)
            for (int b = 0; b < 4; b++) {
                double dot = 0;
                for (int i = 0; i < 12; i++) dot += (double)P[i * 4 + a] * P[i * 4 + b];
                assert_true(fabs(dot - (a == b)) < (narrow ? 1e-2 : 1e-5));
            }
        runner_close(&r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_micro_batches_summed_in_the_subspace_equal_one_batch),
        cmocka_unit_test(updates_inside_the_backward_pass_change_no_bit),
        cmocka_unit_test(the_gradient_is_not_formed),
        cmocka_unit_test(matrices_outside_of_layers_keep_whole_moments),
        cmocka_unit_test(updates_inside_the_backward_pass_free_what_is_kept_of_each_gradient),
        cmocka_unit_test(bases_are_as_wide_as_the_weight),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
