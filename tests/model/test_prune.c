/* Pruned models: they compute what the large one does without the removed heads and neurons; adapters come back to exactly the kept rows
 * and columns; the index survives its file and is not believed. */
#include "crank/adapter.h"
#include "crank/linalg.h"
#include "model/model.h"
#include "model/prune.h"
#include "task/taylor.h"
#include "testing.h"
#include "test_device.h"

enum { LENGTH = 9, VOCAB = 40 };

typedef struct pruned {
    crank_context *context;
    crank_device  *device;
    crank_model   *large, *small;
    prune_plan     plan;
    char           folder[512];
} pruned;

static const char *const configs[] = {
    "{\"architectures\":[\"LlamaForCausalLM\"],\"model_type\":\"llama\",\"vocab_size\":40,\"hidden_size\":32,\"num_hidden_layers\":3,\"num_attention_heads\":8,"
    "\"num_key_value_heads\":4,\"intermediate_size\":48,\"max_position_embeddings\":64,\"rms_norm_eps\":1e-5,\"hidden_act\":\"silu\",\"initializer_range\":0.3}",
    "{\"architectures\":[\"Qwen2ForCausalLM\"],\"model_type\":\"qwen2\",\"vocab_size\":40,\"hidden_size\":32,\"num_hidden_layers\":3,\"num_attention_heads\":4,"
    "\"num_key_value_heads\":2,\"intermediate_size\":48,\"max_position_embeddings\":64,\"rms_norm_eps\":1e-5,\"hidden_act\":\"silu\",\"initializer_range\":0.3,\"tie_word_embeddings\":true}",
    "{\"architectures\":[\"GPT2LMHeadModel\"],\"model_type\":\"gpt2\",\"vocab_size\":40,\"n_embd\":32,\"n_layer\":3,\"n_head\":4,\"n_positions\":64,\"initializer_range\":0.3}",
    "{\"architectures\":[\"BertModel\"],\"model_type\":\"bert\",\"vocab_size\":40,\"hidden_size\":32,\"num_hidden_layers\":3,\"num_attention_heads\":4,\"intermediate_size\":48,"
    "\"max_position_embeddings\":64,\"type_vocab_size\":2,\"pad_token_id\":0,\"hidden_act\":\"gelu\",\"layer_norm_eps\":1e-12,\"initializer_range\":0.3}",
};
enum { FAMILIES = 4 };

static crank_model *make_model(pruned *p, int family)
{
    crank_model *m = crank_model_new(p->context, p->device, configs[family], &(crank_model_options){.compute = CRANK_F32, .weights = CRANK_F32, .seed = 3});
    if (!m) fail_msg("%s", crank_message(p->context));
    return m;
}

static pruned open_pair(int family, prune_how how)
{
    pruned p = {.context = crank_context_new()};
    p.device = test_device(p.context, NULL);
    p.large = make_model(&p, family);
    for (size_t i = 0; i < crank_params_count(p.large->params); i++) { /* biases, which start at zero, become random */
        crank_param *param = crank_params_at(p.large->params, i);
        size_t       n = (size_t)crank_view_count(&param->view), length = strlen(param->name);
        if (length < 5 || strcmp(param->name + length - 5, ".bias")) continue;
        float *values = malloc(n * sizeof *values);
        crank_fill_normal(crank_stream_make(9, CRANK_RANDOM_TEST, (uint32_t)i), 0, 0, 0.3f, values, n);
        assert_ok(p.context, crank_param_write(p.context, param, values, CRANK_F32));
        free(values);
    }
    assert_ok(p.context, prune_plan_make(p.context, p.large, &how, &p.plan));
    snprintf(p.folder, sizeof p.folder, "%s/pruned.XXXXXX", CRANK_BINARY_DIR);
    assert_non_null(mkdtemp(p.folder));
    assert_ok(p.context, prune_write(p.context, p.large, &p.plan, p.folder, CRANK_F32));
    p.small = crank_model_load(p.context, p.device, p.folder, &(crank_model_options){.compute = CRANK_F32, .weights = CRANK_F32});
    if (!p.small) fail_msg("%s", crank_message(p.context));
    return p;
}

static void close_pair(pruned *p)
{
    static const char *const files[] = {"config.json", "model.safetensors", "pruned.safetensors"};
    for (int i = 0; i < 3; i++) {
        char path[600];
        snprintf(path, sizeof path, "%s/%s", p->folder, files[i]);
        unlink(path);
    }
    rmdir(p->folder);
    prune_plan_free(&p->plan);
    crank_model_free(p->small);
    crank_model_free(p->large);
    p->device->close(p->device);
    crank_context_free(p->context);
}

static float *features(pruned *p, crank_model *model)
{
    int64_t        n = LENGTH, two = 2;
    int32_t        ids[LENGTH], positions[LENGTH], segments[2] = {0, LENGTH};
    crank_graph   *graph = crank_graph_new(p->context, p->device);
    float         *out = calloc(LENGTH * 32, sizeof *out);
    for (int i = 0; i < LENGTH; i++) ids[i] = (i * 7 + 3) % VOCAB, positions[i] = i;
    crank_graph_set_compute(graph, CRANK_F32);
    crank_model_inputs in = {.ids = crank_input(graph, "ids", CRANK_I32, 1, &n), .positions = crank_input(graph, "positions", CRANK_I32, 1, &n),
                             .segments = crank_input(graph, "segments", CRANK_I32, 1, &two)};
    crank_tensor      *h = crank_keep(crank_model_features(graph, model, &in));
    assert_ok(p->context, crank_plan(graph, NULL, NULL));
    assert_ok(p->context, crank_write(in.ids, ids));
    assert_ok(p->context, crank_write(in.positions, positions));
    assert_ok(p->context, crank_write(in.segments, segments));
    assert_ok(p->context, crank_run(graph));
    assert_ok(p->context, crank_read(h, out));
    crank_graph_free(graph);
    return out;
}

/* Columns of `linear` that are not kept become zero: what the removed units would add. */
static void silence(pruned *p, crank_linear *linear, const int32_t *kept, int64_t count)
{
    float *w = malloc((size_t)(linear->in * linear->out) * sizeof *w);
    assert_ok(p->context, crank_linear_rows(p->context, linear, 0, linear->out, w));
    for (int64_t j = 0; j < linear->in; j++) {
        bool stays = false;
        for (int64_t k = 0; k < count; k++) stays |= kept[k] == j;
        for (int64_t i = 0; i < linear->out && !stays; i++) w[i * linear->in + j] = 0;
    }
    assert_ok(p->context, crank_param_write(p->context, linear->weight, w, CRANK_F32));
    free(w);
}

static void the_small_model_is_the_large_one_with_units_silenced(void **state)
{
    (void)state;
    static const prune_rule rules[] = {PRUNE_RANDOM, PRUNE_MAGNITUDE};
    for (int family = 0; family < FAMILIES; family++)
        for (int ragged = 0; ragged < 2; ragged++) {
            pruned p = open_pair(family, (prune_how){.ratio = 0.5, .first = ragged, .rule = rules[ragged], .seed = 4});
            for (int64_t i = 0; i < p.plan.count; i++) {
                const prune_layer *l = &p.plan.layers[i];
                const nn_block    *b = &p.large->body.blocks[i];
                silence(&p, b->attention.out, l->queries, l->kept_heads * (l->heads / l->kv_heads) * l->head_dim);
                silence(&p, b->mlp.down, l->kept[1], l->kept_neurons);
                assert_int_equal(p.small->body.blocks[i].mlp.up->out, i < ragged ? l->inner : l->inner / 2);
            }
            float *large = features(&p, p.large), *small = features(&p, p.small);
            if (!(relative_error(small, large, LENGTH * 32) < 2e-6)) fail_msg("family %d: relative distance %g", family, relative_error(small, large, LENGTH * 32));
            free(large), free(small);
            close_pair(&p);
        }
}

static crank_attachment *adapt(pruned *p, crank_model *model, const char *name)
{
    const crank_map  *map = crank_map_find("lora");
    void             *options = crank_options_new(p->context, map->options, map->options_size);
    assert_ok(p->context, crank_options_set(p->context, map->options, options, "rank", "3", "test"));
    crank_attachment *a = crank_attachment_new(p->context, model->linears, map, options, &(crank_attach_options){.targets = "all-linear", .name = name, .rank_pattern = "v_proj=2"});
    if (!a) fail_msg("%s", crank_message(p->context));
    assert_ok(p->context, crank_attachment_finish(p->context, a));
    crank_options_free(options);
    int         count;
    crank_site *sites = crank_attachment_sites(a, &count);
    for (int i = 0; i < count; i++) {
        crank_param *B = crank_site_find(&sites[i], "B");
        size_t       n = (size_t)crank_view_count(&B->view);
        float       *values = malloc(n * sizeof *values);
        crank_fill_normal(crank_stream_make(8, CRANK_RANDOM_TEST, (uint32_t)i), 0, 0, 0.2f, values, n);
        assert_ok(p->context, crank_param_write(p->context, B, values, CRANK_F32));
        free(values);
    }
    return a;
}

static float *effective(pruned *p, crank_model *model, const char *name, bool base)
{
    crank_linear *linear = crank_linears_find(model->linears, name);
    float        *w = malloc((size_t)(linear->in * linear->out) * sizeof *w);
    if (base) assert_ok(p->context, crank_linear_rows(p->context, linear, 0, linear->out, w));
    else assert_ok(p->context, crank_linear_effective(p->context, linear, w));
    return w;
}

/* change[R, C] of the large model is that of the small one bit for bit, and zero elsewhere. */
static void a_recovered_change_stands_on_kept_rows_and_columns_alone(void **state)
{
    (void)state;
    for (int family = 0; family < FAMILIES; family++) {
        pruned            p = open_pair(family, (prune_how){.ratio = 0.5, .first = 1, .rule = PRUNE_RANDOM, .seed = 6});
        crank_attachment *small = adapt(&p, p.small, "default"), *large = prune_recover(p.context, p.large, &p.plan, small, "back");
        if (!large) fail_msg("%s", crank_message(p.context));
        int         count, small_count;
        crank_site *sites = crank_attachment_sites(large, &count), *own = crank_attachment_sites(small, &small_count);
        assert_int_equal(count, small_count);
        for (int i = 0; i < count; i++) {
            int64_t ranks[2];
            double  scales[2];
            float  *A[2], *B[2];
            subset  rows, cols;
            assert_ok(p.context, crank_attachment_map(small)->as_lora(p.context, &own[i], &ranks[0], &scales[0], &A[0], &B[0]));
            assert_ok(p.context, crank_attachment_map(large)->as_lora(p.context, &sites[i], &ranks[1], &scales[1], &A[1], &B[1]));
            assert_string_equal(sites[i].linear->name, own[i].linear->name);
            assert_int_equal(ranks[0], ranks[1]);
            assert_true(fabs(scales[0] - scales[1]) < 1e-12);
            prune_rows_cols(p.large, &p.plan, sites[i].linear, &rows, &cols);
            float  *a = malloc((size_t)(ranks[0] * cols.count) * sizeof *a), *b = malloc((size_t)(rows.count * ranks[0]) * sizeof *b);
            double  all[2] = {0}, kept[2] = {0};
            subset_gather(A[1], subset_all(ranks[0]), cols, a);
            subset_gather(B[1], rows, subset_all(ranks[0]), b);
            assert_memory_equal(a, A[0], (size_t)(ranks[0] * cols.count) * sizeof *a);
            assert_memory_equal(b, B[0], (size_t)(rows.count * ranks[0]) * sizeof *b);
            for (int64_t k = 0; k < ranks[0] * cols.whole; k++) all[0] += fabs((double)A[1][k]);
            for (int64_t k = 0; k < ranks[0] * cols.count; k++) kept[0] += fabs((double)a[k]);
            for (int64_t k = 0; k < ranks[0] * rows.whole; k++) all[1] += fabs((double)B[1][k]);
            for (int64_t k = 0; k < ranks[0] * rows.count; k++) kept[1] += fabs((double)b[k]);
            assert_true(fabs(all[0] - kept[0]) < 1e-12 * all[0] && fabs(all[1] - kept[1]) < 1e-12 * all[1]);
            for (int k = 0; k < 2; k++) crank_free(A[k]), crank_free(B[k]);
            free(a), free(b);
        }
        close_pair(&p);
    }
}

/* Pruning the adapted large model again gives the adapted small one; ratio 0 gives the model itself. */
static void pruning_the_recovered_model_gives_the_small_one_back(void **state)
{
    (void)state;
    for (int whole = 0; whole < 2; whole++) {
        pruned p = open_pair(0, (prune_how){.ratio = whole ? 0 : 0.5, .rule = PRUNE_MAGNITUDE});
        assert_non_null(prune_recover(p.context, p.large, &p.plan, adapt(&p, p.small, "default"), "back"));
        for (size_t i = 0; i < crank_linears_count(p.small->linears); i++) {
            const crank_linear *linear = crank_linears_at(p.small->linears, i);
            const crank_linear *other = crank_linears_find(p.large->linears, linear->name);
            subset              rows, cols;
            if (linear->kind != CRANK_LINEAR_DENSE) continue;
            float *large = effective(&p, p.large, linear->name, false), *small = effective(&p, p.small, linear->name, false), *again = malloc((size_t)(linear->in * linear->out) * sizeof *again);
            prune_rows_cols(p.large, &p.plan, other, &rows, &cols);
            subset_gather(large, rows, cols, again);
            assert_true(relative_error(again, small, (size_t)(linear->in * linear->out)) < 1e-6);
            free(large), free(small), free(again);
        }
        if (whole) {
            float *x = features(&p, p.large), *y = features(&p, p.small);
            assert_true(relative_error(x, y, LENGTH * 32) < 1e-6);
            free(x), free(y);
        }
        close_pair(&p);
    }
}

static void grouped_queries_go_with_their_keys(void **state)
{
    (void)state;
    /* H = 8, H_kv = 2, h = 4: head 1 of keys is rows 4..7 of k and v, rows 16..31 of q and columns 16..31 of o */
    pruned p = {.context = crank_context_new()};
    p.device = test_device(p.context, NULL);
    p.large = crank_model_new(p.context, p.device,
                              "{\"architectures\":[\"LlamaForCausalLM\"],\"model_type\":\"llama\",\"vocab_size\":40,\"hidden_size\":32,\"num_hidden_layers\":1,\"num_attention_heads\":8,"
                              "\"num_key_value_heads\":2,\"intermediate_size\":16,\"max_position_embeddings\":64,\"rms_norm_eps\":1e-5,\"hidden_act\":\"silu\"}",
                              &(crank_model_options){.compute = CRANK_F32, .weights = CRANK_F32});
    assert_non_null(p.large);
    double heads[2] = {0, 1}, neurons[16] = {0}, *h = heads, *n = neurons;
    for (int i = 0; i < 16; i++) neurons[i] = i % 2;
    assert_ok(p.context, prune_plan_make(p.context, p.large, &(prune_how){.ratio = 0.5, .rule = PRUNE_GIVEN, .heads = &h, .neurons = &n}, &p.plan));
    const prune_layer *l = &p.plan.layers[0];
    assert_int_equal(l->kept_heads, 1);
    for (int i = 0; i < 16; i++) assert_int_equal(l->queries[i], 16 + i);
    for (int i = 0; i < 4; i++) assert_int_equal(l->values[i], 4 + i);
    for (int i = 0; i < 8; i++) assert_int_equal(l->kept[1][i], 2 * i + 1);
    prune_plan_free(&p.plan);
    assert_int_equal(prune_plan_make(p.context, p.large, &(prune_how){.ratio = 0.99}, &p.plan), CRANK_USAGE);
    assert_non_null(strstr(crank_message(p.context), "at least one"));
    assert_int_equal(prune_plan_make(p.context, p.large, &(prune_how){.ratio = 0.5, .first = 1}, &p.plan), CRANK_USAGE);
    crank_model_free(p.large);
    p.device->close(p.device);
    crank_context_free(p.context);
}

static void numbers_that_stay_follow_the_published_rounding(void **state)
{
    (void)state;
    static const struct {
        int64_t whole, neurons, heads;
        double  ratio;
    } table[] = {{100, 100, 100, 0}, {10, 3, 4, 0.65}, {28672, 10035, 10036, 0.65}, {8, 2, 3, 0.7}, {8, 2, 2, 0.75}, {7, 3, 4, 0.5}, {28672, 1433, 1434, 0.95}};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        assert_int_equal(subset_neurons(table[i].whole, table[i].ratio, 1), table[i].neurons);
        assert_int_equal(subset_heads(table[i].whole, table[i].ratio), table[i].heads);
    }
    assert_int_equal(subset_neurons(1000, 0.5, 64), 512);
    assert_int_equal(subset_neurons(100, 0.95, 64), 64);
}

/* Importance by gradients: what the loss cannot see has none, all else has some. */
static void gradients_rank_units_that_matter(void **state)
{
    (void)state;
    int32_t ids[33];
    for (int i = 0; i < 33; i++) ids[i] = (i * 5 + 1) % VOCAB;
    for (int family = 0; family < 3; family++) {
        pruned  p = open_pair(family, (prune_how){0});
        double *heads[3], *neurons[3];
        for (int i = 0; i < 3; i++) heads[i] = calloc(8, sizeof **heads), neurons[i] = calloc(128, sizeof **neurons);
        /* a neuron whose output goes nowhere does not matter */
        const crank_linear *down = p.large->body.blocks[1].mlp.down;
        float              *w = effective(&p, p.large, down->name, true);
        for (int64_t i = 0; i < down->out; i++) w[i * down->in + 5] = 0;
        assert_ok(p.context, crank_param_write(p.context, down->weight, w, CRANK_F32));
        assert_ok(p.context, taylor_scores(p.context, p.large, ids, 33, 16, heads, neurons));
        assert_true(neurons[1][5] == 0);
        for (int j = 0; j < 40; j++)
            if (j != 5) assert_true(neurons[1][j] > 0);
        for (int j = 0; j < p.large->body.blocks[0].attention.kv_heads; j++) assert_true(heads[0][j] > 0);
        free(w);
        for (int i = 0; i < 3; i++) free(heads[i]), free(neurons[i]);
        close_pair(&p);
    }
}

static void write_index(pruned *p, const int32_t *places, int64_t count)
{
    char                   path[600];
    const crank_named_view views[] = {{"layers.0.heads", crank_view_make((void *)(uintptr_t)places, CRANK_I32, 1, &count)}};
    snprintf(path, sizeof path, "%s/pruned.safetensors", p->folder);
    assert_ok(p->context, crank_safetensors_write(p->context, path, views, 1, NULL, 0));
}

static void the_index_survives_its_file_and_is_not_believed(void **state)
{
    (void)state;
    pruned     p = open_pair(0, (prune_how){.ratio = 0.5, .last = 1, .rule = PRUNE_RANDOM, .seed = 2});
    prune_plan read;
    assert_ok(p.context, prune_read(p.context, p.large, p.folder, &read));
    for (int64_t i = 0; i < read.count; i++) {
        assert_int_equal(read.layers[i].kept_neurons, p.plan.layers[i].kept_neurons);
        assert_memory_equal(read.layers[i].kept[1], p.plan.layers[i].kept[1], (size_t)read.layers[i].kept_neurons * 4);
        assert_memory_equal(read.layers[i].kept[0], p.plan.layers[i].kept[0], (size_t)read.layers[i].kept_heads * 4);
    }
    prune_plan_free(&read);
    static const int32_t wrong[][2] = {{1, 1}, {1, 0}, {-1, 2}, {0, 4}};
    for (size_t i = 0; i < 4; i++) {
        write_index(&p, wrong[i], 2);
        assert_int_equal(prune_read(p.context, p.large, p.folder, &read), CRANK_BAD_DATA);
    }
    close_pair(&p);
    p = open_pair(2, (prune_how){.ratio = 0.5});
    for (int family = 0; family < FAMILIES; family++) { /* others have fewer neurons than it keeps */
        crank_model *other = make_model(&p, family);
        assert_int_equal(prune_read(p.context, other, p.folder, &read), family == 2 ? CRANK_OK : CRANK_BAD_DATA);
        if (family == 2) prune_plan_free(&read);
        crank_model_free(other);
    }
    close_pair(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_small_model_is_the_large_one_with_units_silenced),
        cmocka_unit_test(a_recovered_change_stands_on_kept_rows_and_columns_alone),
        cmocka_unit_test(pruning_the_recovered_model_gives_the_small_one_back),
        cmocka_unit_test(grouped_queries_go_with_their_keys),
        cmocka_unit_test(numbers_that_stay_follow_the_published_rounding),
        cmocka_unit_test(gradients_rank_units_that_matter),
        cmocka_unit_test(the_index_survives_its_file_and_is_not_believed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
