/* Sparse models: which weights stay by pattern, share and inputs; adapters of a sparse model come back as factors, or strictly on its kept
 * weights. */
#include "crank/adapter.h"
#include "model/model.h"
#include "model/prune.h"
#include "testing.h"
#include "test_device.h"

static const char config[] =
    "{\"architectures\":[\"LlamaForCausalLM\"],\"model_type\":\"llama\",\"vocab_size\":40,\"hidden_size\":32,\"num_hidden_layers\":3,\"num_attention_heads\":8,"
    "\"num_key_value_heads\":4,\"intermediate_size\":44,\"max_position_embeddings\":64,\"rms_norm_eps\":1e-5,\"hidden_act\":\"silu\",\"initializer_range\":0.3}";

typedef struct fixture {
    crank_context *context;
    crank_device  *device;
    crank_model   *large, *sparse;
} fixture;

static crank_model *make_model(fixture *f)
{
    crank_model *m = crank_model_new(f->context, f->device, config, &(crank_model_options){.compute = CRANK_F32, .weights = CRANK_F32, .seed = 3});
    if (!m) fail_msg("%s", crank_message(f->context));
    return m;
}

static fixture open_fixture(void)
{
    fixture f = {.context = crank_context_new()};
    f.device = test_device(f.context, NULL);
    f.large = make_model(&f);
    f.sparse = make_model(&f);
    return f;
}

static void close_fixture(fixture *f)
{
    crank_model_free(f->large), crank_model_free(f->sparse);
    f->device->close(f->device);
    crank_context_free(f->context);
}

static float *rows_of(fixture *f, crank_model *model, const char *name, int64_t *in, int64_t *out)
{
    crank_linear *linear = crank_linears_find(model->linears, name);
    float        *rows = malloc((size_t)(linear->in * linear->out) * sizeof *rows);
    *in = linear->in, *out = linear->out;
    assert_ok(f->context, crank_linear_rows(f->context, linear, 0, linear->out, rows));
    return rows;
}

/* Kept weights are the model's own and none that went is larger than one that stayed, among `run` places of a row. */
static void check_runs(const float *before, const float *after, int64_t in, int64_t out, int64_t run, int64_t keep)
{
    for (int64_t i = 0; i < out; i++)
        for (int64_t j = 0; j < in; j += run) {
            int64_t n = in - j < run ? in - j : run, kept = 0;
            float   least = 1e9f, most = 0;
            for (int64_t k = j; k < j + n; k++) {
                float w = before[i * in + k];
                if (after[i * in + k] != 0) {
                    assert_true(after[i * in + k] == w);
                    least = fminf(least, fabsf(w)), kept++;
                } else
                    most = fmaxf(most, fabsf(w));
            }
            assert_int_equal(kept, (keep * n + run - 1) / run);
            assert_true(most <= least);
        }
}

static void a_pattern_keeps_the_largest_of_each_run(void **state)
{
    (void)state;
    static const int64_t patterns[][2] = {{4, 8}, {2, 4}, {1, 3}};
    static const char *const names[] = {"model.layers.1.self_attn.q_proj", "model.layers.1.mlp.down_proj"}; /* 44 inputs: a run of 4 is left of 8 */
    for (int p = 0; p < 3; p++) {
        fixture f = open_fixture();
        int64_t zeros, all, in, out;
        assert_ok(f.context, prune_sparse(f.context, f.sparse, &(prune_mask){.keep = patterns[p][0], .of = patterns[p][1], .rule = PRUNE_MAGNITUDE, .first = 1}, &zeros, &all));
        for (int k = 0; k < 2; k++) {
            float *before = rows_of(&f, f.large, names[k], &in, &out), *after = rows_of(&f, f.sparse, names[k], &in, &out);
            check_runs(before, after, in, out, patterns[p][1], patterns[p][0]);
            free(before), free(after);
        }
        float *before = rows_of(&f, f.large, "model.layers.0.mlp.up_proj", &in, &out), *after = rows_of(&f, f.sparse, "model.layers.0.mlp.up_proj", &in, &out);
        assert_memory_equal(before, after, (size_t)(in * out) * sizeof *before); /* the first layer stays whole */
        free(before), free(after);
        close_fixture(&f);
    }
}

static void a_share_goes_of_each_linear_and_inputs_weigh(void **state)
{
    (void)state;
    fixture  f = open_fixture();
    int64_t  zeros, all, in, out, count = 0;
    double **norms = calloc(crank_linears_count(f.sparse->linears), sizeof *norms);
    for (size_t i = 0; i < crank_linears_count(f.sparse->linears); i++) {
        const crank_linear *linear = crank_linears_at(f.sparse->linears, i);
        norms[i] = calloc((size_t)linear->in, sizeof **norms);
        for (int64_t j = 0; j < linear->in; j++) norms[i][j] = j < linear->in / 2 ? 1e6 : 1; /* the first half always wins */
    }
    assert_ok(f.context, prune_sparse(f.context, f.sparse, &(prune_mask){.ratio = 0.5, .by_row = true, .rule = PRUNE_MAGNITUDE, .norms = norms}, &zeros, &all));
    assert_int_equal(2 * zeros, all);
    float *after = rows_of(&f, f.sparse, "model.layers.2.self_attn.o_proj", &in, &out);
    for (int64_t i = 0; i < in * out; i++) assert_true((after[i] != 0) == (i % in < in / 2));
    free(after);
    crank_model_free(f.sparse);
    f.sparse = make_model(&f);
    assert_ok(f.context, prune_sparse(f.context, f.sparse, &(prune_mask){.ratio = 0.75, .rule = PRUNE_RANDOM, .seed = 5}, &zeros, &all));
    after = rows_of(&f, f.sparse, "model.layers.2.mlp.gate_proj", &in, &out);
    for (int64_t i = 0; i < in * out; i++) count += after[i] == 0;
    assert_int_equal(4 * count, 3 * in * out);
    free(after);
    for (size_t i = 0; i < crank_linears_count(f.sparse->linears); i++) free(norms[i]);
    free(norms);
    close_fixture(&f);
}

static crank_attachment *attach(fixture *f, const char *method)
{
    const crank_map *map = crank_map_find(method);
    void            *options = crank_options_new(f->context, map->options, map->options_size);
    assert_ok(f->context, crank_options_set(f->context, map->options, options, "rank", "2", "test"));
    assert_ok(f->context, crank_options_set(f->context, map->options, options, "alpha", "4", "test"));
    crank_attachment *a = crank_attachment_new(f->context, f->sparse->linears, map, options, &(crank_attach_options){.targets = "q_proj\ndown_proj"});
    if (!a) fail_msg("%s", crank_message(f->context));
    assert_ok(f->context, crank_attachment_finish(f->context, a));
    crank_options_free(options);
    int         count;
    crank_site *sites = crank_attachment_sites(a, &count);
    for (int i = 0; i < count; i++) {
        crank_param *B = crank_site_find(&sites[i], "B");
        size_t       n = (size_t)crank_view_count(&B->view);
        float       *values = malloc(n * sizeof *values);
        crank_fill_normal(crank_stream_make(11, CRANK_RANDOM_TEST, (uint32_t)i), 0, 0, 0.3f, values, n);
        assert_ok(f->context, crank_param_write(f->context, B, values, CRANK_F32));
        free(values);
    }
    return a;
}

/* s B A of a site. */
static double *product_of(fixture *f, crank_site *site)
{
    crank_param *A = crank_site_find(site, "A"), *B = crank_site_find(site, "B");
    int64_t      r = A->view.dims[0], in = site->linear->in, out = site->linear->out;
    float       *a = malloc((size_t)(r * in) * sizeof *a), *b = malloc((size_t)(out * r) * sizeof *b);
    double      *d = calloc((size_t)(in * out), sizeof *d);
    assert_ok(f->context, crank_param_read(f->context, A, a, CRANK_F32));
    assert_ok(f->context, crank_param_read(f->context, B, b, CRANK_F32));
    for (int64_t i = 0; i < out; i++)
        for (int64_t k = 0; k < r; k++)
            for (int64_t j = 0; j < in; j++) d[i * in + j] += 2.0 * (double)b[i * r + k] * (double)a[k * in + j];
    free(a), free(b);
    return d;
}

static void an_adapter_comes_back_as_factors_or_on_kept_weights_alone(void **state)
{
    (void)state;
    static const char *const methods[] = {"loram", "lora"};
    for (int m = 0; m < 2; m++) {
        fixture     f = open_fixture();
        prune_plan  plan;
        int64_t     zeros, all, in, out;
        int         count;
        assert_ok(f.context, prune_sparse(f.context, f.sparse, &(prune_mask){.keep = 4, .of = 8, .rule = PRUNE_MAGNITUDE}, &zeros, &all));
        crank_attachment *a = attach(&f, methods[m]);
        crank_site       *sites = crank_attachment_sites(a, &count);
        assert_ok(f.context, prune_plan_make(f.context, f.large, &(prune_how){.round_to = 1}, &plan));
        crank_attachment *plain = prune_recover(f.context, f.large, &plan, a, "default");
        if (!plain) fail_msg("%s", crank_message(f.context));
        for (int i = 0; i < count; i++) { /* the whole product, without a mask */
            crank_linear *linear = crank_linears_find(f.large->linears, sites[i].linear->name);
            double       *d = product_of(&f, &sites[i]);
            float        *before = rows_of(&f, f.large, linear->name, &in, &out), *after = malloc((size_t)(in * out) * sizeof *after);
            assert_ok(f.context, crank_linear_effective(f.context, linear, after));
            for (int64_t k = 0; k < in * out; k++) assert_true(fabs((double)after[k] - (double)before[k] - d[k]) < 1e-5);
            free(d), free(before), free(after);
        }
        crank_attachment_remove(plain);
        float *before[8];
        for (int i = 0; i < count; i++) before[i] = rows_of(&f, f.large, sites[i].linear->name, &in, &out);
        assert_ok(f.context, prune_recover_strict(f.context, f.large, a));
        for (int i = 0; i < count; i++) {
            double *d = product_of(&f, &sites[i]);
            float  *after = rows_of(&f, f.large, sites[i].linear->name, &in, &out), *base = rows_of(&f, f.sparse, sites[i].linear->name, &in, &out);
            for (int64_t k = 0; k < in * out; k++) assert_true(base[k] == 0 ? after[k] == before[i][k] : fabs((double)after[k] - (double)before[i][k] - d[k]) < 1e-5);
            free(d), free(after), free(base), free(before[i]);
        }
        prune_plan_free(&plan);
        close_fixture(&f);
    }
}

static void patterns_that_keep_nothing_are_refused(void **state)
{
    (void)state;
    fixture f = open_fixture();
    int64_t zeros, all;
    assert_int_equal(prune_sparse(f.context, f.sparse, &(prune_mask){.keep = 0, .of = 8}, &zeros, &all), CRANK_USAGE);
    assert_int_equal(prune_sparse(f.context, f.sparse, &(prune_mask){.keep = 9, .of = 8}, &zeros, &all), CRANK_USAGE);
    assert_int_equal(prune_sparse(f.context, f.sparse, &(prune_mask){.ratio = 1}, &zeros, &all), CRANK_USAGE);
    assert_int_equal(prune_sparse(f.context, f.sparse, &(prune_mask){.ratio = 0.5, .first = 2, .last = 1}, &zeros, &all), CRANK_USAGE);
    assert_non_null(strstr(crank_message(f.context), "stay whole"));
    close_fixture(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_pattern_keeps_the_largest_of_each_run),
        cmocka_unit_test(a_share_goes_of_each_linear_and_inputs_weigh),
        cmocka_unit_test(an_adapter_comes_back_as_factors_or_on_kept_weights_alone),
        cmocka_unit_test(patterns_that_keep_nothing_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
