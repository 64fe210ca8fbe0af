/* ReLoRA: folds leave the function, lift the rank, and begin each cycle anew. */
#include "task/tiny.h"

#include "crank/linalg.h"

#define Q "model.layers.0.self_attn.q_proj"

static void option(const crank_map *map, crank_context *context, void *options, const char *key, const char *value)
{
    assert_ok(context, crank_options_set(context, map->options, options, key, value, "test"));
}

static tiny *open_relora(const char *prune, const char *optimizer)
{
    tiny            *t = tiny_open(optimizer, "cross_entropy", 1);
    const crank_map *map = crank_map_find("relora");
    void            *options = crank_options_new(t->context, map->options, map->options_size);
    option(map, t->context, options, "rank", "1"), option(map, t->context, options, "alpha", "2");
    option(map, t->context, options, "every", "3"), option(map, t->context, options, "restart", "1"), option(map, t->context, options, "prune", prune);
    crank_attachment *attachment = crank_attachment_new(t->context, crank_model_linears(t->model), map, options, &(crank_attach_options){ .targets = "q_proj" });
    if (!attachment) fail_msg("%s", crank_message(t->context));
    assert_ok(t->context, crank_attachment_finish(t->context, attachment));
    crank_options_free(options);
    tiny_start(t);
    return t;
}

/* W + s B A [8, 8] */
static void effective(const tiny *t, double *out)
{
    float *W = tiny_values(t, tiny_param(t, Q ".weight")), *A = tiny_values(t, tiny_param(t, Q ".relora.A")), *B = tiny_values(t, tiny_param(t, Q ".relora.B"));
    for (int i = 0; i < 8; i++)
        for (int j = 0; j < 8; j++) out[i * 8 + j] = W[i * 8 + j] + 2.0 * B[i] * A[j];
    free(W), free(A), free(B);
}

static void a_fold_leaves_the_weight_in_effect(void **state)
{
    (void)state;
    tiny  *t = open_relora("1", "adamw");
    double before[64], after[64];
    for (int step = 1; step <= 3; step++) tiny_step(t, step, 1);
    float *old = tiny_values(t, tiny_param(t, Q ".weight"));
    effective(t, before);
    assert_ok(t->context, trainer_period(t->context, t->trainer, 4));
    effective(t, after);
    for (int i = 0; i < 64; i++) assert_true(fabs(after[i] - before[i]) < 1e-6);
    float *B = tiny_values(t, tiny_param(t, Q ".relora.B")), *A = tiny_values(t, tiny_param(t, Q ".relora.A")), *W = tiny_values(t, tiny_param(t, Q ".weight"));
    double size = 0;
    for (int i = 0; i < 8; i++) {
        assert_true(B[i] == 0);
        size += fabs(A[i]);
    }
    assert_true(size > 0.1);
    assert_memory_not_equal(old, W, 64 * sizeof *W);
    free(old), free(B), free(A), free(W);
    tiny_close(t);
}

static void cycles_lift_the_rank_of_the_update(void **state)
{
    (void)state;
    tiny  *t = open_relora("1", "adamw");
    double start[64], now[64], s[8];
    effective(t, start);
    for (int step = 1; step <= 9; step++) {
        tiny_step(t, step, 1);
        effective(t, now);
        for (int i = 0; i < 64; i++) now[i] -= start[i];
        assert_ok(t->context, crank_svd(t->context, crank_matrix_f64(now, 8, 8), CRANK_INSIDE_F64, crank_matrix_none(), s, crank_matrix_none()));
        assert_int_equal(crank_numerical_rank(s, 8, 1e-4), (step - 1) / 3 + 1);
    }
    tiny_close(t);
}

static int zeros(const tiny *t, const char *name)
{
    const crank_param *param = tiny_param(t, name);
    float             *values = tiny_values(t, param);
    int                count = 0;
    for (int64_t i = 0; i < crank_view_count(&param->view); i++) count += values[i] == 0;
    free(values);
    return count;
}

static void a_fold_prunes_the_moments(void **state)
{
    (void)state;
    static const char *const shares[] = { "0", "0.5", "1" };
    for (int k = 0; k < 3; k++) {
        tiny *t = open_relora(shares[k], "adamw");
        for (int step = 1; step <= 3; step++) tiny_step(t, step, 1);
        assert_int_equal(zeros(t, Q ".relora.A.adamw.v"), 0);
        assert_ok(t->context, trainer_period(t->context, t->trainer, 4));
        int all = zeros(t, Q ".relora.A.adamw.v") + zeros(t, Q ".relora.B.adamw.v") + zeros(t, Q ".relora.A.adamw.m") + zeros(t, Q ".relora.B.adamw.m");
        if (k == 1) assert_true(all > 4 && all < 28);
        else assert_int_equal(all, k ? 32 : 0);
        tiny_close(t);
    }
}

static void the_folded_weight_has_no_gradient_and_is_saved(void **state)
{
    (void)state;
    tiny        *t = open_relora("1", "sgd");
    crank_param *weight = tiny_param(t, Q ".weight");
    assert_false(weight->trainable);
    assert_true(trainer_saves(t->trainer, weight));
    assert_false(trainer_saves(t->trainer, tiny_param(t, "lm_head.weight")));
    for (int i = 0; i < t->trainer->unit_count; i++) assert_ptr_not_equal(t->trainer->units[i].param, weight);
    tiny_close(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_fold_leaves_the_weight_in_effect),
        cmocka_unit_test(cycles_lift_the_rank_of_the_update),
        cmocka_unit_test(a_fold_prunes_the_moments),
        cmocka_unit_test(the_folded_weight_has_no_gradient_and_is_saved),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
