/* Shares of outliers of a model's layers: planted ones are found, and the model is left as it was. */
#include "task/outliers.h"
#include "task/tiny.h"

static void planted_outliers_are_found(void **state)
{
    (void)state;
    tiny        *t = tiny_open("sgd", "cross_entropy", 1);
    int32_t      ids[200];
    int          layers;
    crank_param *weight = tiny_param(t, "model.layers.1.mlp.up_proj.weight");
    size_t       before = crank_params_count(crank_model_params(t->model));
    for (int i = 0; i < 200; i++) ids[i] = (i * 7 + i * i) % 23;
    double *plain = outliers_measure(t->context, t->model, ids, 200, 8, &layers);
    if (!plain) fail_msg("%s", crank_message(t->context));
    assert_int_equal(layers, 2);
    float *W = tiny_values(t, weight);
    for (int i = 0; i < 96; i += 24) W[i] *= 200;
    assert_ok(t->context, crank_param_write(t->context, weight, W, CRANK_F32));
    double *planted = outliers_measure(t->context, t->model, ids, 200, 8, &layers);
    assert_non_null(planted);
    assert_true(planted[1] > plain[1] && planted[1] > planted[0]);
    double *all = outliers_measure(t->context, t->model, ids, 200, 0, &layers), *none = outliers_measure(t->context, t->model, ids, 3, 1e9, &layers);
    assert_true(all[0] > 0.99 && all[1] > 0.99 && none[0] == 0 && none[1] == 0);
    assert_int_equal(crank_params_count(crank_model_params(t->model)), before + 1); /* the model's table of rotations stays */
    assert_null(outliers_measure(t->context, t->model, ids, 0, 8, &layers));
    free(W), crank_free(plain), crank_free(planted), crank_free(all), crank_free(none);
    tiny_close(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(planted_outliers_are_found) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
