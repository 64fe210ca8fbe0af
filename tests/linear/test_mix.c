/* Adapters that act together: mixing is the weighted sum of what each changes of the base weight, in any order, and switching leaves
 * nothing behind. */
#include "lowrank/checks.h"

typedef struct trio {
    world             w;
    crank_linear     *linear;
    crank_attachment *a[3];
} trio;

static const char *const names[] = {"one", "two", "three"};

static crank_attachment *put(world *w, const char *method, const char *settings, const char *name)
{
    crank_attachment *a = world_try(w, method, settings, &(crank_attach_options){.targets = "proj", .name = name});
    if (!a) fail_msg("%s", crank_message(w->context));
    return a;
}

/* Two LoRAs and a DoRA, all with random values. `order`: that of attaching. */
static trio open_trio(crank_dtype type, const int order[3])
{
    static const char *const methods[] = {"lora", "lora", "dora"}, *const settings[] = {"rank=2 alpha=3", "rank=3 alpha=2", "rank=2 alpha=4"};
    static const char *const values[3][3] = {{"A", "B", NULL}, {"A", "B", NULL}, {"A", "B", "magnitude"}};
    trio                     t = {.w = world_open(type)};
    t.linear = world_linear(&t.w, "proj", CRANK_LINEAR_DENSE, IN, OUT, true);
    for (int i = 0; i < 3; i++) t.a[order[i]] = put(&t.w, methods[order[i]], settings[order[i]], names[order[i]]);
    for (int i = 0; i < 3; i++)
        for (int k = 0; k < 3 && values[i][k]; k++) {
            char text[64];
            snprintf(text, sizeof text, "proj.%s.%s.%s", methods[i], names[i], values[i][k]);
            world_randomise(&t.w, text, 0.7);
        }
    return t;
}

static double *mixed(trio *t, const double *weights)
{
    assert_ok(t->w.context, crank_linears_mix(t->w.context, t->w.linears, names, weights, 3));
    return outputs(&t->w, t->linear, x, CRANK_F64, false);
}

static void mixing_is_the_weighted_sum_of_the_changes_in_any_order(void **state)
{
    (void)state;
    static const int orders[][3] = {{0, 1, 2}, {2, 1, 0}, {1, 2, 0}};
    for (size_t o = 0; o < 3; o++) {
        trio    t = open_trio(CRANK_F64, orders[o]);
        double *base = mixed(&t, (const double[]){0, 0, 0}), *sum = calloc(N * OUT, sizeof *sum);
        memcpy(sum, base, N * OUT * sizeof *sum);
        const double weights[] = {0.25, -0.5, 1};
        for (int k = 0; k < 3; k++) {
            double one[3] = {0}, *y;
            one[k] = 1;
            y = mixed(&t, one);
            for (int i = 0; i < N * OUT; i++) sum[i] += weights[k] * (y[i] - base[i]);
            free(y);
        }
        double *y = mixed(&t, weights);
        if (!(distance(y, sum, N * OUT) < 1e-12)) fail_msg("relative distance %g", distance(y, sum, N * OUT));
        free(y), free(sum), free(base);
        world_close(&t.w);
    }
}

static void a_merged_mix_is_the_mix(void **state)
{
    (void)state;
    trio    t = open_trio(CRANK_F32, (const int[]){0, 1, 2});
    double *y = mixed(&t, (const double[]){0.25, -0.5, 1});
    assert_ok(t.w.context, crank_linears_merge(t.w.context, t.w.linears, true, true));
    double *merged = outputs(&t.w, t.linear, x, CRANK_F64, false);
    if (!(distance(merged, y, N * OUT) < 1e-5)) fail_msg("relative distance %g", distance(merged, y, N * OUT));
    assert_int_equal(crank_linears_mix(t.w.context, t.w.linears, names, (const double[]){1, 1, 1}, 3), CRANK_USAGE);
    assert_non_null(strstr(crank_message(t.w.context), "merged"));
    free(y), free(merged);
    world_close(&t.w);
}

static void switching_leaves_nothing_behind(void **state)
{
    (void)state;
    trio    t = open_trio(CRANK_F32, (const int[]){0, 1, 2});
    double *base = mixed(&t, (const double[]){0, 0, 0}), *first, *again;
    assert_ok(t.w.context, crank_linears_mix(t.w.context, t.w.linears, &names[2], (const double[]){1}, 1));
    first = outputs(&t.w, t.linear, x, CRANK_F32, false);
    free(mixed(&t, (const double[]){1, 2, 3}));
    assert_ok(t.w.context, crank_linears_mix(t.w.context, t.w.linears, &names[2], (const double[]){1}, 1));
    again = outputs(&t.w, t.linear, x, CRANK_F32, false);
    assert_memory_equal(first, again, N * OUT * sizeof *first);
    free(again);
    assert_ok(t.w.context, crank_linears_mix(t.w.context, t.w.linears, NULL, NULL, 0));
    again = outputs(&t.w, t.linear, x, CRANK_F64, false);
    assert_memory_equal(base, again, N * OUT * sizeof *base);
    free(base), free(first), free(again);
    world_close(&t.w);
}

static void what_cannot_be_mixed_is_told(void **state)
{
    (void)state;
    trio t = open_trio(CRANK_F32, (const int[]){0, 1, 2});
    assert_int_equal(crank_linears_mix(t.w.context, t.w.linears, (const char *const[]){"thre"}, (const double[]){1}, 1), CRANK_USAGE);
    assert_non_null(strstr(crank_message(t.w.context), "did you mean `three`"));
    assert_int_equal(crank_linears_mix(t.w.context, t.w.linears, (const char *const[]){"one", "one"}, (const double[]){1, 2}, 2), CRANK_USAGE);
    assert_int_equal(crank_linears_mix(t.w.context, t.w.linears, names, (const double[]){1, NAN, 1}, 3), CRANK_USAGE);
    crank_attachment *biased = put(&t.w, "lora", "rank=1 bias=lora_only", "biased");
    assert_int_equal(crank_linears_mix(t.w.context, t.w.linears, (const char *const[]){"biased"}, (const double[]){0.5}, 1), CRANK_USAGE);
    assert_non_null(strstr(crank_message(t.w.context), "proj.bias"));
    assert_ok(t.w.context, crank_linears_mix(t.w.context, t.w.linears, (const char *const[]){"biased", "one"}, (const double[]){1, 0.5}, 2));
    assert_ptr_equal(crank_linears_adapter(t.w.linears, "biased"), biased);
    assert_null(crank_linears_adapter(t.w.linears, "nobody"));
    world_close(&t.w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mixing_is_the_weighted_sum_of_the_changes_in_any_order),
        cmocka_unit_test(a_merged_mix_is_the_mix),
        cmocka_unit_test(switching_leaves_nothing_behind),
        cmocka_unit_test(what_cannot_be_mixed_is_told),
    };
    return cmocka_run_group_tests(tests, checks_fill, NULL);
}
