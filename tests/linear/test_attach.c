/* Attaching: PEFT's rules for targets, patterns, several adapters on one model, switches, and what is refused. */
#include "linear/world.h"

enum { N = 4, SIZE = 8 };

static double x[N * SIZE];

static int fill(void **state)
{
    (void)state;
    world_fill(x, N * SIZE, 1, 1);
    return 0;
}

/* Two layers of a small decoder, its embedding and its head. */
static world decoder(void)
{
    static const char *const names[] = { "q_proj", "k_proj", "v_proj" };
    world w = world_open(CRANK_F32);
    world_linear(&w, "model.embed_tokens", CRANK_LINEAR_EMBEDDING, 20, SIZE, false);
    for (int layer = 0; layer < 2; layer++)
        for (int i = 0; i < 3; i++) {
            char name[64];
            snprintf(name, sizeof name, "model.layers.%d.self_attn.%s", layer, names[i]);
            world_linear(&w, name, CRANK_LINEAR_DENSE, SIZE, SIZE, i == 2)->block = layer;
        }
    world_linear(&w, "lm_head", CRANK_LINEAR_DENSE, SIZE, 20, false)->is_head = true;
    return w;
}

/* The linears that an attachment stands on, "0q 1v": layer and first letter of the last part. */
static void check(crank_attach_options where, const char *expected)
{
    world w = decoder();
    char  text[256] = "";
    int   count;
    crank_attachment *attachment = world_try(&w, "lora", "rank=2", &where);
    if (!attachment) fail_msg("%s", crank_message(w.context));
    crank_site *sites = crank_attachment_sites(attachment, &count);
    for (int i = 0; i < count; i++) {
        const char *dot = strrchr(sites[i].linear->name, '.');
        size_t      used = strlen(text);
        snprintf(text + used, sizeof text - used, "%s%d%c", i ? " " : "", sites[i].linear->block, dot ? dot[1] : sites[i].linear->name[0]);
        assert_int_equal(sites[i].index, i);
        assert_int_equal(sites[i].count, count);
    }
    assert_string_equal(text, expected);
    world_close(&w);
}

static void targets_follow_the_rules_of_peft(void **state)
{
    (void)state;
    check((crank_attach_options){ .targets = NULL }, "0q 0k 0v 1q 1k 1v");
    check((crank_attach_options){ .targets = "all-linear" }, "0q 0k 0v 1q 1k 1v");
    check((crank_attach_options){ .targets = "q_proj\nv_proj" }, "0q 0v 1q 1v");
    check((crank_attach_options){ .targets = "self_attn.q_proj" }, "0q 1q");
    check((crank_attach_options){ .targets = "lm_head\nq_proj" }, "0q 1q -1l");
    check((crank_attach_options){ .targets = "embed_tokens" }, "-1e");
    check((crank_attach_options){ .targets = ".*\\.1\\..*_proj" }, "1q 1k 1v");
    check((crank_attach_options){ .targets = ".*[qk]_proj" }, "0q 0k 1q 1k");
    check((crank_attach_options){ .targets = "(?:model\\.layers\\.(0|1)\\..*((k|v)_proj))" }, "0k 0v 1k 1v");
    check((crank_attach_options){ .targets = "all-linear", .exclude = "k_proj" }, "0q 0v 1q 1v");
    check((crank_attach_options){ .targets = "all-linear", .exclude = ".*\\.0\\..*" }, "1q 1k 1v");
    check((crank_attach_options){ .targets = "q_proj", .layers = "1" }, "1q");
    check((crank_attach_options){ .targets = "q_proj\nk_proj", .layers = "0\n1" }, "0q 0k 1q 1k");
    check((crank_attach_options){ .targets = "q_proj\nlm_head", .modules = "lm_head" }, "0q 1q");
}

static void refuse(crank_attach_options where, const char *method, const char *settings, const char *part)
{
    world w = decoder();
    assert_null(world_try(&w, method, settings, &where));
    if (!strstr(crank_message(w.context), part)) fail_msg("`%s` is not in: %s", part, crank_message(w.context));
    assert_int_equal(crank_linears_attachments(w.linears), 0);
    assert_null(crank_params_find(w.params, "model.layers.0.self_attn.q_proj.lora.A"));
    world_close(&w);
}

static void wrong_targets_are_told_with_what_exists(void **state)
{
    (void)state;
    refuse((crank_attach_options){ .targets = "qproj" }, "lora", "", "did you mean `q_proj`?");
    refuse((crank_attach_options){ .targets = "qproj" }, "lora", "", "embed_tokens, q_proj, k_proj, v_proj, lm_head");
    refuse((crank_attach_options){ .targets = "proj" }, "lora", "", "no linear map");      /* not a whole part of the path */
    refuse((crank_attach_options){ .targets = "[qk]_proj" }, "lora", "", "no linear map"); /* not the whole path */
    refuse((crank_attach_options){ .targets = "q_proj", .layers = "7" }, "lora", "", "once `exclude` and `layers`");
    refuse((crank_attach_options){ .targets = ".*(q_proj" }, "lora", "", "regex");
    refuse((crank_attach_options){ .targets = ".*q_proj", .layers = "1" }, "lora", "", "regex of targets");
    refuse((crank_attach_options){ .targets = "q_proj", .layers = "one" }, "lora", "", "not the number of a layer");
    refuse((crank_attach_options){ .targets = "q_proj", .name = "a.b" }, "lora", "", "cannot name an adapter");
    refuse((crank_attach_options){ .targets = "q_proj", .rank_pattern = "q_proj=0" }, "lora", "", "from 1 to 65536");
    refuse((crank_attach_options){ .targets = "q_proj", .rank_pattern = "q_proj=2.5" }, "lora", "", "whole number");
    refuse((crank_attach_options){ .targets = "q_proj", .rank_pattern = "q_proj" }, "lora", "", "regex=number");
    refuse((crank_attach_options){ .targets = "q_proj", .alpha_pattern = "(=3" }, "lora", "", "alpha_pattern");
    refuse((crank_attach_options){ .targets = "q_proj", .modules = "classifier" }, "lora", "", "no parameter of the model");
    refuse((crank_attach_options){ .targets = "embed_tokens" }, "lora", "lora_bias=true", "is an embedding");
}

static void patterns_set_rank_and_alpha_first_hit_wins(void **state)
{
    (void)state;
    world w = decoder();
    crank_attach_options where = { .targets = "all-linear",
                                   .rank_pattern = "layers.1.self_attn.q_proj=5\nq_proj=3\n.*v_pro.=4",
                                   .alpha_pattern = "k_proj=1.5" };
    crank_attachment *attachment = world_try(&w, "lora", "rank=2 alpha=8", &where);
    assert_non_null(attachment);
    static const int64_t expected[] = { 3, 2, 4, 5, 2, 4 };
    int         count;
    crank_site *sites = crank_attachment_sites(attachment, &count);
    for (int i = 0; i < count; i++) {
        char name[128];
        snprintf(name, sizeof name, "%s.lora.A", sites[i].linear->name);
        assert_int_equal(world_param(&w, name)->view.dims[0], expected[i]);
    }
    int64_t rank;
    double  scale;
    float  *A, *B;
    assert_ok(w.context, crank_map_find("lora")->as_lora(w.context, &sites[1], &rank, &scale, &A, &B));
    assert_true(rank == 2 && scale == 0.75);
    crank_free(A);
    crank_free(B);
    world_close(&w);
}

static double *run(world *w, crank_linear *linear)
{
    pass p = { .n = N, .x = x, .compute = CRANK_F32 };
    world_run(w, linear, &p);
    return p.y;
}

static void several_adapters_add_and_each_can_be_off_or_scaled(void **state)
{
    (void)state;
    world         w = decoder();
    crank_linear *linear = crank_linears_find(w.linears, "model.layers.0.self_attn.v_proj");
    double       *base = run(&w, linear), *y[4];
    crank_attachment *a = world_try(&w, "lora", "rank=2", &(crank_attach_options){ .name = "first", .targets = "v_proj" });
    crank_attachment *b = world_try(&w, "lora", "rank=3", &(crank_attach_options){ .name = "second", .targets = "all-linear" });
    assert_non_null(a);
    assert_non_null(b);
    world_randomise(&w, "model.layers.0.self_attn.v_proj.lora.first.B", 0.3);
    world_randomise(&w, "model.layers.0.self_attn.v_proj.lora.second.B", 0.3);
    for (int i = 0; i < 4; i++) {
        crank_attachment_set(a, i & 1, 1);
        crank_attachment_set(b, i & 2, 1);
        y[i] = run(&w, linear);
    }
    assert_memory_equal(y[0], base, sizeof(double) * N * SIZE); /* all off: the base, bit for bit */
    double sum[N * SIZE], scaled[N * SIZE];
    for (int i = 0; i < N * SIZE; i++) {
        sum[i] = y[1][i] + y[2][i] - base[i];
        scaled[i] = base[i] + 0.5 * (y[1][i] - base[i]) - 2 * (y[2][i] - base[i]);
    }
    assert_near(y[3], sum, N * SIZE, 1e-6);
    crank_attachment_set(a, true, 0.5);
    crank_attachment_set(b, true, -2);
    double *mixed = run(&w, linear);
    assert_near(mixed, scaled, N * SIZE, 1e-6);
    crank_attachment_set(a, true, 0);
    crank_attachment_set(b, true, 0);
    double *zero = run(&w, linear);
    assert_memory_equal(zero, base, sizeof(double) * N * SIZE);
    assert_null(world_try(&w, "lora", "", &(crank_attach_options){ .name = "first", .targets = "q_proj" }));
    assert_non_null(strstr(crank_message(w.context), "attached already"));
    crank_attachment_set(b, true, 1);
    crank_attachment_remove(a);
    double *left = run(&w, linear);
    assert_memory_equal(left, y[2], sizeof(double) * N * SIZE);
    for (int i = 0; i < 4; i++) free(y[i]);
    free(base), free(mixed), free(zero), free(left);
    world_close(&w);
}

static void stacked_adapters_merge_together(void **state)
{
    (void)state;
    world         w = decoder();
    crank_linear *linear = crank_linears_find(w.linears, "model.layers.0.self_attn.v_proj");
    world_try(&w, "lora", "rank=2", &(crank_attach_options){ .name = "first", .targets = "v_proj" });
    crank_attachment *b = world_try(&w, "lora", "rank=3", &(crank_attach_options){ .name = "second", .targets = "v_proj" });
    world_randomise(&w, "model.layers.0.self_attn.v_proj.lora.first.B", 0.3);
    world_randomise(&w, "model.layers.0.self_attn.v_proj.lora.second.B", 0.3);
    crank_attachment_set(b, true, 0.25);
    double *adapted = run(&w, linear);
    assert_ok(w.context, crank_linears_merge(w.context, w.linears, true, false));
    double *merged = run(&w, linear);
    assert_near(merged, adapted, N * SIZE, 1e-6);
    free(adapted), free(merged);
    world_close(&w);
}

static void modules_are_trained_in_full_while_attached(void **state)
{
    (void)state;
    world w = decoder();
    crank_attachment *attachment = world_try(&w, "lora", "", &(crank_attach_options){ .targets = "q_proj", .modules = "lm_head" });
    assert_non_null(attachment);
    assert_true(world_param(&w, "lm_head.weight")->trainable);
    crank_attachment_remove(attachment);
    assert_false(world_param(&w, "lm_head.weight")->trainable);
    world_close(&w);
}

static void rows_and_products_of_the_weight_agree_in_both_geometries(void **state)
{
    (void)state;
    for (int kind = 0; kind < 2; kind++) {
        world         w = world_open(CRANK_F64);
        crank_linear *linear = world_linear(&w, "m", kind ? CRANK_LINEAR_EMBEDDING : CRANK_LINEAR_DENSE, 9, SIZE, false);
        float         rows[3 * 9];
        double       *weight = world_values(&w, "m.weight"), P[9 * 2], WP[3 * 2], reference[3 * 2];
        assert_ok(w.context, crank_linear_rows(w.context, linear, 2, 3, rows));
        for (int o = 0; o < 3; o++)
            for (int i = 0; i < 9; i++)
                assert_true(rows[o * 9 + i] == (float)(kind ? weight[i * SIZE + o + 2] : weight[(o + 2) * 9 + i]));
        assert_int_equal(crank_linear_rows(w.context, linear, 6, 3, rows), CRANK_USAGE);
        world_fill(P, 18, 3, 1);
        crank_graph *graph = crank_graph_new(w.context, w.device);
        crank_graph_set_compute(graph, CRANK_F64);
        crank_tensor *input = crank_input(graph, "P", CRANK_F64, 2, (const int64_t[]){ 9, 2 });
        crank_tensor *product = crank_keep(crank_linear_times(graph, linear, input));
        assert_ok(w.context, crank_plan(graph, NULL, NULL));
        assert_ok(w.context, crank_write(input, P));
        assert_ok(w.context, crank_run(graph));
        double *all = world_from(w.context, product);
        for (int o = 0; o < 3; o++)
            for (int k = 0; k < 2; k++) {
                reference[o * 2 + k] = 0;
                for (int i = 0; i < 9; i++)
                    reference[o * 2 + k] += (kind ? weight[i * SIZE + o + 2] : weight[(o + 2) * 9 + i]) * P[i * 2 + k];
                WP[o * 2 + k] = all[(o + 2) * 2 + k];
            }
        assert_near(WP, reference, 6, 1e-13);
        crank_graph_free(graph);
        free(weight), free(all);
        world_close(&w);
    }
}

static void more_dimensions_than_two_are_rows(void **state)
{
    (void)state;
    world         w = decoder();
    crank_linear *linear = crank_linears_find(w.linears, "model.layers.0.self_attn.v_proj");
    double       *flat = run(&w, linear);
    crank_graph  *graph = crank_graph_new(w.context, w.device);
    crank_tensor *input = crank_input(graph, "x", CRANK_F32, 3, (const int64_t[]){ 2, N / 2, SIZE });
    crank_tensor *y = crank_keep(crank_linear_forward(graph, linear, input));
    assert_int_equal(y->rank, 3);
    assert_ok(w.context, crank_plan(graph, NULL, NULL));
    world_to_input(w.context, input, x, N * SIZE);
    assert_ok(w.context, crank_run(graph));
    double *deep = world_from(w.context, y);
    assert_memory_equal(flat, deep, sizeof(double) * N * SIZE);
    crank_graph_free(graph);
    graph = crank_graph_new(w.context, w.device);
    crank_linear_forward(graph, linear, crank_input(graph, "x", CRANK_F32, 2, (const int64_t[]){ N, SIZE + 1 }));
    assert_int_equal(crank_graph_status(graph), CRANK_USAGE);
    assert_non_null(strstr(crank_message(w.context), "v_proj takes x"));
    crank_graph_free(graph);
    free(flat), free(deep);
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(targets_follow_the_rules_of_peft),
        cmocka_unit_test(wrong_targets_are_told_with_what_exists),
        cmocka_unit_test(patterns_set_rank_and_alpha_first_hit_wins),
        cmocka_unit_test(several_adapters_add_and_each_can_be_off_or_scaled),
        cmocka_unit_test(stacked_adapters_merge_together),
        cmocka_unit_test(modules_are_trained_in_full_while_attached),
        cmocka_unit_test(rows_and_products_of_the_weight_agree_in_both_geometries),
        cmocka_unit_test(more_dimensions_than_two_are_rows),
    };
    return cmocka_run_group_tests(tests, fill, NULL);
}
