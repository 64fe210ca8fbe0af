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

/* Rows 0, 3 take the first adapter, 1 and 3 the second, 2 and 4 none: each is what it is alone, bit for bit; gradients come from own rows. */
static void rows_of_one_batch_take_their_own_adapters(void **state)
{
    (void)state;
    enum { ROWS = 5, WIDE = 7, TALL = 6 };
    static const float takes[2][ROWS] = { { 1, 0, 0, 1, 0 }, { 0, 1, 0, 1, 0 } };
    world             w = world_open(CRANK_F32);
    crank_linear     *linear = world_linear(&w, "proj", CRANK_LINEAR_DENSE, WIDE, TALL, false);
    crank_attachment *adapters[2];
    double            input[ROWS * WIDE], *alone[4];
    world_fill(input, ROWS * WIDE, 3, 1);
    for (int k = 0; k < 2; k++) adapters[k] = world_try(&w, "lora", "rank=2 alpha=4", &(crank_attach_options){ .name = names[k], .targets = "proj" });
    world_randomise(&w, "proj.lora.one.B", 0.5), world_randomise(&w, "proj.lora.two.B", 0.4);
    for (int k = 0; k < 4; k++) { /* bit 0: the first acts, bit 1: the second */
        for (int i = 0; i < 2; i++) crank_attachment_set(adapters[i], k >> i & 1, 1);
        pass p = { .n = ROWS, .x = input, .compute = CRANK_F32 };
        world_run(&w, linear, &p);
        alone[k] = p.y;
    }
    for (int i = 0; i < 2; i++) crank_attachment_set(adapters[i], true, 1), crank_attachment_by_row(adapters[i], true);
    crank_graph  *graph = crank_graph_new(w.context, w.device);
    crank_tensor *in = crank_input(graph, "x", CRANK_F32, 2, (const int64_t[]){ ROWS, WIDE }), *y = crank_keep(crank_linear_forward(graph, linear, in));
    crank_tensor *B = crank_use(graph, world_param(&w, "proj.lora.two.B")), *gradient, *sum = crank_sum(y);
    assert_ok(w.context, crank_gradients(graph, &sum, NULL, 1, &B, 1, &gradient));
    crank_keep(gradient = crank_contiguous(gradient));
    assert_ok(w.context, crank_plan(graph, NULL, NULL));
    world_to_input(w.context, in, input, ROWS * WIDE);
    double *got = NULL, *before = NULL, *after = NULL;
    for (int none = 1; none >= 0; none--) {
        for (int i = 0; i < 2; i++) {
            float zeros[ROWS] = { 0 };
            assert_ok(w.context, crank_write(crank_attachment_rows(graph, adapters[i]), none ? zeros : takes[i]));
        }
        assert_ok(w.context, crank_run(graph));
        free(got);
        got = world_from(w.context, y);
        if (none) assert_memory_equal(got, alone[0], sizeof(double) * ROWS * TALL);
        if (none) before = world_from(w.context, gradient);
        else after = world_from(w.context, gradient);
    }
    for (int r = 0; r < ROWS; r++) {
        const double *wanted = alone[(takes[0][r] != 0) + 2 * (takes[1][r] != 0)];
        assert_memory_equal(got + r * TALL, wanted + r * TALL, sizeof(double) * TALL);
    }
    for (int i = 0; i < TALL * 2; i++) assert_true(before[i] == 0);
    double size = 0;
    for (int i = 0; i < TALL * 2; i++) size += fabs(after[i]);
    assert_true(size > 0);
    crank_graph_free(graph);
    assert_int_equal(crank_linears_merge(w.context, w.linears, true, true), CRANK_USAGE);
    assert_non_null(strstr(crank_message(w.context), "row by row"));
    for (int k = 0; k < 4; k++) free(alone[k]);
    free(got), free(before), free(after);
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mixing_is_the_weighted_sum_of_the_changes_in_any_order),
        cmocka_unit_test(a_merged_mix_is_the_mix),
        cmocka_unit_test(switching_leaves_nothing_behind),
        cmocka_unit_test(what_cannot_be_mixed_is_told),
        cmocka_unit_test(rows_of_one_batch_take_their_own_adapters),
    };
    return cmocka_run_group_tests(tests, checks_fill, NULL);
}
