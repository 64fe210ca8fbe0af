/* Merging: merged forward equals adapted forward, unmerging restores every bit, failures change nothing. */
#include "linear/world.h"

enum { N = 5, IN = 37, OUT = 26 };

static double x[N * IN];

static int fill(void **state)
{
    (void)state;
    world_fill(x, N * IN, 1, 1);
    return 0;
}

static double *run(world *w, crank_linear *linear, const double *input, crank_dtype compute)
{
    pass p = { .n = N, .x = input, .compute = compute };
    world_run(w, linear, &p);
    return p.y;
}

/* Attaches and moves every factor away from its start. */
static void adapt(world *w, const char *method, const char *settings)
{
    crank_attachment *attachment = world_attach(w, method, settings, "proj");
    (void)attachment;
    char name[64];
    for (int i = 0; i < 2; i++) {
        snprintf(name, sizeof name, "proj.%s.%c", method, "AB"[i]);
        world_randomise(w, name, 0.3);
    }
    snprintf(name, sizeof name, "proj.%s.bias", method);
    if (crank_params_find(w->params, name)) world_randomise(w, name, 0.3);
}

static void check_merge(const char *method, const char *settings, crank_linear_kind kind, bool bias, crank_dtype type, double bound)
{
    static const double ids[N] = { 3, 0, 36, 3, 5 };
    world         w = world_open(type);
    crank_dtype   compute = type == CRANK_F64 ? CRANK_F64 : CRANK_F32;
    crank_linear *linear = world_linear(&w, "proj", kind, IN, OUT, bias);
    const double *input = kind == CRANK_LINEAR_EMBEDDING ? ids : x;
    adapt(&w, method, settings);
    double *before = world_values(&w, "proj.weight"), *bias_before = bias ? world_values(&w, "proj.bias") : NULL;
    double *adapted = run(&w, linear, input, compute);
    assert_ok(w.context, crank_linears_merge(w.context, w.linears, true, true));
    assert_false(crank_linear_has_maps(linear));
    double *merged = run(&w, linear, input, compute);
    assert_near(merged, adapted, N * OUT, bound);
    assert_ok(w.context, crank_linears_unmerge(w.context, w.linears));
    double *after = world_values(&w, "proj.weight"), *bias_after = bias ? world_values(&w, "proj.bias") : NULL;
    double *again = run(&w, linear, input, compute);
    assert_memory_equal(before, after, sizeof(double) * IN * OUT);
    if (bias) assert_memory_equal(bias_before, bias_after, sizeof(double) * OUT);
    assert_memory_equal(adapted, again, sizeof(double) * N * OUT);
    free(before), free(after), free(bias_before), free(bias_after), free(adapted), free(merged), free(again);
    world_close(&w);
}

static void merged_forward_equals_adapted_forward(void **state)
{
    (void)state;
    check_merge("lora", "rank=4 alpha=8", CRANK_LINEAR_DENSE, true, CRANK_F32, 1e-5);
    check_merge("lora", "rank=4 alpha=8 lora_bias=true", CRANK_LINEAR_DENSE, true, CRANK_F32, 1e-5);
    check_merge("lora", "rank=4 alpha=8 dropout=0.5", CRANK_LINEAR_DENSE, false, CRANK_F64, 1e-13);
    check_merge("lora", "rank=4 alpha=8", CRANK_LINEAR_EMBEDDING, false, CRANK_F32, 1e-6);
    check_merge("dora", "rank=4 alpha=8", CRANK_LINEAR_DENSE, true, CRANK_F32, 1e-5);
    check_merge("dora", "rank=4 alpha=8", CRANK_LINEAR_EMBEDDING, false, CRANK_F64, 1e-13);
    check_merge("lora", "rank=4 alpha=8", CRANK_LINEAR_DENSE, true, CRANK_BF16, 5e-3);
    check_merge("dora", "rank=4 alpha=8", CRANK_LINEAR_DENSE, false, CRANK_F16, 1e-3);
}

static int rank_of(double *a, int rows, int columns)
{
    int rank = 0;
    for (int c = 0; c < columns && rank < rows; c++) {
        int best = rank;
        for (int r = rank; r < rows; r++)
            if (fabs(a[r * columns + c]) > fabs(a[best * columns + c])) best = r;
        if (fabs(a[best * columns + c]) < 1e-9) continue;
        for (int k = 0; k < columns; k++) {
            double kept = a[best * columns + k];
            a[best * columns + k] = a[rank * columns + k];
            a[rank * columns + k] = kept;
        }
        for (int r = rank + 1; r < rows; r++) {
            double f = a[r * columns + c] / a[rank * columns + c];
            for (int k = c; k < columns; k++) a[r * columns + k] -= f * a[rank * columns + k];
        }
        rank++;
    }
    return rank;
}

static void the_change_of_the_weight_has_the_rank_of_the_factors(void **state)
{
    (void)state;
    world w = world_open(CRANK_F64);
    world_linear(&w, "proj", CRANK_LINEAR_DENSE, IN, OUT, false);
    adapt(&w, "lora", "rank=4");
    double *before = world_values(&w, "proj.weight");
    assert_ok(w.context, crank_linears_merge(w.context, w.linears, false, false));
    double *after = world_values(&w, "proj.weight");
    for (int i = 0; i < IN * OUT; i++) after[i] -= before[i];
    assert_int_equal(rank_of(after, OUT, IN), 4);
    free(before), free(after);
    world_close(&w);
}

static void an_untrained_adapter_merges_to_the_same_bits(void **state)
{
    (void)state;
    world w = world_open(CRANK_BF16);
    world_linear(&w, "proj", CRANK_LINEAR_DENSE, IN, OUT, false);
    world_attach(&w, "lora", "rank=4", "proj");
    double *before = world_values(&w, "proj.weight");
    assert_ok(w.context, crank_linears_merge(w.context, w.linears, true, false));
    double *after = world_values(&w, "proj.weight");
    assert_memory_equal(before, after, sizeof(double) * IN * OUT);
    free(before), free(after);
    world_close(&w);
}

static void a_safe_merge_refuses_non_finite_values_and_changes_nothing(void **state)
{
    (void)state;
    world w = world_open(CRANK_F32);
    world_linear(&w, "first", CRANK_LINEAR_DENSE, IN, OUT, false);
    world_linear(&w, "second", CRANK_LINEAR_DENSE, IN, OUT, false);
    world_attach(&w, "lora", "rank=2", "all-linear");
    world_randomise(&w, "first.lora.B", 0.3);
    world_randomise(&w, "second.lora.B", 0.3);
    double *B = world_values(&w, "second.lora.B"), *before = world_values(&w, "first.weight");
    B[3] = INFINITY;
    world_write(&w, "second.lora.B", B);
    assert_int_equal(crank_linears_merge(w.context, w.linears, true, false), CRANK_BAD_DATA);
    assert_non_null(strstr(crank_message(w.context), "second"));
    double *after = world_values(&w, "first.weight");
    assert_memory_equal(before, after, sizeof(double) * IN * OUT);
    assert_true(crank_linear_has_maps(crank_linears_at(w.linears, 0)));
    free(B), free(before), free(after);
    world_close(&w);
}

static void a_mapped_weight_is_merged_in_memory_of_its_own(void **state)
{
    (void)state;
    world         w = world_open(CRANK_F32);
    if (!w.device->host) skip(); /* a GPU reads no mapped file */
    static const float file[OUT * IN] = { 0.5f, -0.25f };
    crank_view    view = crank_view_make((void *)(uintptr_t)file, CRANK_F32, 2, (const int64_t[]){ OUT, IN });
    crank_param  *weight = crank_params_add_view(w.params, "proj.weight", CRANK_ROLE_WEIGHT, view);
    crank_linear *linear = crank_linear_add(w.linears, "proj", CRANK_LINEAR_DENSE, IN, OUT, weight, NULL);
    adapt(&w, "lora", "rank=4");
    double *adapted = run(&w, linear, x, CRANK_F32);
    assert_ok(w.context, crank_linears_merge(w.context, w.linears, true, true));
    double *merged = run(&w, linear, x, CRANK_F32);
    assert_near(merged, adapted, N * OUT, 1e-5);
    assert_false(weight->mapped);
    assert_ok(w.context, crank_linears_unmerge(w.context, w.linears));
    assert_memory_equal(weight->view.data, file, sizeof file);
    free(adapted), free(merged);
    world_close(&w);
}

static void wrong_uses_are_told(void **state)
{
    (void)state;
    world         w = world_open(CRANK_F32);
    crank_linear *linear = world_linear(&w, "proj", CRANK_LINEAR_DENSE, IN, OUT, false);
    crank_attachment *attachment = world_attach(&w, "dora", "rank=2", "proj"); /* its norms are not known any more */
    world_randomise(&w, "proj.dora.B", 0.3);
    assert_ok(w.context, crank_linears_merge(w.context, w.linears, true, false));
    assert_ok(w.context, crank_linears_merge(w.context, w.linears, true, false)); /* nothing is on: a warning */
    assert_int_equal(crank_linears_unmerge(w.context, w.linears), CRANK_USAGE);
    assert_non_null(strstr(crank_message(w.context), "keep_original"));
    crank_graph *graph = crank_graph_new(w.context, w.device); /* training on merged weights */
    crank_linear_forward(graph, linear, crank_input(graph, "x", CRANK_F32, 2, (const int64_t[]){ N, IN }));
    assert_int_equal(crank_graph_status(graph), CRANK_USAGE);
    assert_non_null(strstr(crank_message(w.context), "merged"));
    crank_graph_free(graph);
    crank_attachment_remove(attachment); /* the merge is permanent now */
    assert_ok(w.context, crank_linears_unmerge(w.context, w.linears));
    world_close(&w);

    w = world_open(CRANK_F32);
    linear = world_linear(&w, "head", CRANK_LINEAR_DENSE, IN, OUT, false);
    assert_non_null(crank_linear_add(w.linears, "table", CRANK_LINEAR_EMBEDDING, OUT, IN, linear->weight, NULL));
    world_attach(&w, "lora", "rank=2", "head");
    assert_int_equal(crank_linears_merge(w.context, w.linears, true, true), CRANK_USAGE);
    assert_non_null(strstr(crank_message(w.context), "shares its weight"));
    crank_attachment_remove(crank_linears_attachment(w.linears, 0));
    world_close(&w);

    w = world_open(CRANK_F32);
    world_linear(&w, "proj", CRANK_LINEAR_DENSE, IN, OUT, false);
    adapt(&w, "lora", "rank=4 lora_bias=true");
    assert_int_equal(crank_linears_merge(w.context, w.linears, true, true), CRANK_USAGE);
    assert_non_null(strstr(crank_message(w.context), "no bias"));
    world_close(&w);
}

static void blocks_of_unit_rows_cover_a_wide_linear(void **state)
{
    (void)state;
    enum { WIDE = 70000, NARROW = 3 };
    world         w = world_open(CRANK_F32);
    crank_linear *linear = world_linear(&w, "proj", CRANK_LINEAR_DENSE, WIDE, NARROW, false);
    adapt(&w, "lora", "rank=1");
    double *W = world_values(&w, "proj.weight"), *A = world_values(&w, "proj.lora.A"), *B = world_values(&w, "proj.lora.B");
    assert_ok(w.context, crank_linears_merge(w.context, w.linears, true, false));
    double *merged = world_values(&w, "proj.weight");
    for (int o = 0; o < NARROW; o++)
        for (int i = 0; i < WIDE; i++) W[o * WIDE + i] += 32 * B[o] * A[i];
    assert_near(merged, W, WIDE * NARROW, 1e-6);
    free(W), free(A), free(B), free(merged);
    (void)linear;
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(merged_forward_equals_adapted_forward),
        cmocka_unit_test(the_change_of_the_weight_has_the_rank_of_the_factors),
        cmocka_unit_test(an_untrained_adapter_merges_to_the_same_bits),
        cmocka_unit_test(a_safe_merge_refuses_non_finite_values_and_changes_nothing),
        cmocka_unit_test(a_mapped_weight_is_merged_in_memory_of_its_own),
        cmocka_unit_test(wrong_uses_are_told),
        cmocka_unit_test(blocks_of_unit_rows_cover_a_wide_linear),
    };
    return cmocka_run_group_tests(tests, fill, NULL);
}
