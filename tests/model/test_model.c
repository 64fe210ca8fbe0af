/* test_model.c - models as objects: saved folders come back bit for bit, generation over a cache equals the full pass,
 * planning without weights sees the same tensors, heads are made, names of other layouts are understood. */
#include "base/file.h"
#include "base/json.h"
#include "model/golden_model.h"
#include "model/model.h"

/* "saved_models/NAME" of the build folder: left there for tests/oracle/check_saved.py. */
static const char *saved_folder(const char *name)
{
    static char path[4096];
    snprintf(path, sizeof path, "%s/saved_models/%s", CRANK_BINARY_DIR, name);
    return path;
}

static crank_dtype file_type(const char *name)
{
    return strstr(name, "bf16") ? CRANK_BF16 : CRANK_F32;
}

static void assert_same_params(const char *name, const crank_model *a, const crank_model *b)
{
    crank_params *pa = crank_model_params(a), *pb = crank_model_params(b);
    assert_int_equal(crank_params_count(pa), crank_params_count(pb));
    for (size_t i = 0; i < crank_params_count(pa); i++) {
        const crank_param *x = crank_params_at(pa, i), *y = crank_params_at(pb, i);
        assert_string_equal(x->name, y->name);
        assert_int_equal(x->view.rank, y->view.rank);
        assert_memory_equal(x->view.dims, y->view.dims, (size_t)x->view.rank * sizeof *x->view.dims);
        if (x->view.data && y->view.data && memcmp(x->view.data, y->view.data, crank_view_bytes(&x->view)))
            fail_msg("%s: %s changed", name, x->name);
    }
}

static void saved_models_come_back_bit_for_bit(void **unused)
{
    (void)unused;
    for (int i = 0; i < GOLDEN_MODELS; i++) {
        const char *name = golden_models[i];
        crank_model_options options = {.weights = file_type(name)};
        golden_model g = golden_load(name, "plain", options);
        options.pooling = NULL;
        crank_context *context = g.context;
        file_folder_remove(context, saved_folder(name));
        assert_ok(context, crank_model_save(context, g.model, saved_folder(name), file_type(name)));
        crank_model *back = crank_model_load(context, g.device, saved_folder(name), &options);
        if (!back) fail_msg("%s: %s", name, crank_message(context));
        assert_same_params(name, g.model, back);
        assert_string_equal(crank_model_config_of(back)->architecture, crank_model_config_of(g.model)->architecture);
        char first[65];
        snprintf(first, sizeof first, "%s", crank_model_fingerprint(context, g.model));
        assert_string_equal(first, crank_model_fingerprint(context, back));
        assert_int_equal(back->pooling, g.model->pooling);
        crank_model_free(back);
        golden_close(&g);
    }
}

static void unknown_config_keys_are_kept(void **unused)
{
    (void)unused;
    crank_context *context = crank_context_new();
    crank_device *device = crank_device_cpu(context, "plain");
    const char text[] = "{\"model_type\": \"gpt2\", \"vocab_size\": 10, \"n_embd\": 8, \"n_layer\": 1, \"n_head\": 2, "
                        "\"n_positions\": 6,"
                        "\"private\": {\"a\": [1, 2.5, null]}, \"dtype\": \"float32\"}";
    crank_model *model = crank_model_new(context, device, text, &(crank_model_options){.labels = 3});
    if (!model) fail_msg("%s", crank_message(context));
    assert_ok(context, crank_model_save(context, model, saved_folder("new_gpt2"), CRANK_BF16));
    char path[4200];
    snprintf(path, sizeof path, "%s/config.json", saved_folder("new_gpt2"));
    json_t *config = json_read(context, path);
    assert_non_null(config);
    assert_int_equal(json_array_size(json_object_get(json_object_get(config, "private"), "a")), 3);
    assert_string_equal(json_string_value(json_object_get(config, "dtype")), "bfloat16");
    assert_string_equal(json_string_value(json_array_get(json_object_get(config, "architectures"), 0)),
                        "GPT2ForSequenceClassification");
    assert_int_equal(json_object_size(json_object_get(config, "id2label")), 3);
    json_decref(config);
    crank_model_free(model);
    device->close(device);
    crank_context_free(context);
}

static void new_models_start_from_their_seed(void **unused)
{
    (void)unused;
    crank_context *context = crank_context_new();
    crank_device *device = crank_device_cpu(context, "plain");
    size_t length;
    char path[4200];
    snprintf(path, sizeof path, "%s/config.json", golden_folder("qwen2"));
    char *text = file_read(context, path, &length);
    crank_model *a = crank_model_new(context, device, text, &(crank_model_options){.seed = 5});
    crank_model *b = crank_model_new(context, device, text, &(crank_model_options){.seed = 5});
    crank_model *c = crank_model_new(context, device, text, &(crank_model_options){.seed = 6});
    if (!a || !b || !c) fail_msg("%s", crank_message(context));
    assert_same_params("qwen2", a, b);
    const crank_param *wa = crank_params_find(a->params, "model.layers.1.mlp.up_proj.weight");
    const crank_param *wc = crank_params_find(c->params, "model.layers.1.mlp.up_proj.weight");
    const float *values = wa->view.data;
    size_t count = (size_t)crank_view_count(&wa->view);
    double sum = 0, squares = 0;
    for (size_t i = 0; i < count; i++) sum += values[i], squares += values[i] * values[i];
    assert_true(memcmp(values, wc->view.data, count * sizeof *values) != 0);
    assert_true(fabs(sum / (double)count) < 0.002 && fabs(sqrt(squares / (double)count) - 0.02) < 0.002);
    assert_true(*(const float *)crank_params_find(a->params, "model.norm.weight")->view.data == 1);
    assert_true(*(const float *)crank_params_find(a->params, "model.layers.0.self_attn.q_proj.bias")->view.data == 0);
    crank_model_free(a);
    crank_model_free(b);
    crank_model_free(c);
    crank_free(text);
    device->close(device);
    crank_context_free(context);
}

static void planning_without_weights_sees_the_same_tensors(void **unused)
{
    (void)unused;
    for (int i = 0; i < GOLDEN_MODELS; i++) {
        golden_model g = golden_load(golden_models[i], "plain", (crank_model_options){0});
        crank_model_options dry = {.dry = true, .pooling = crank_model_options_of(g.model)->pooling};
        crank_model *planned = crank_model_load(g.context, g.device, golden_folder(golden_models[i]), &dry);
        if (!planned) fail_msg("%s: %s", golden_models[i], crank_message(g.context));
        assert_same_params(golden_models[i], g.model, planned);
        for (size_t k = 0; k < crank_params_count(crank_model_params(planned)); k++)
            assert_null(crank_params_at(crank_model_params(planned), k)->view.data);
        crank_model_free(planned);
        golden_close(&g);
    }
}

/* A folder that holds nothing but config.json can be planned. */
static void planning_works_from_the_config_alone(void **unused)
{
    (void)unused;
    golden_model g = golden_load("qwen3", "plain", (crank_model_options){0});
    char path[4200];
    snprintf(path, sizeof path, "%s/config.json", golden_folder("qwen3"));
    json_t *config = json_read(g.context, path);
    const char *folder = CRANK_BINARY_DIR "/config_only";
    assert_ok(g.context, file_make_folder(g.context, folder));
    snprintf(path, sizeof path, "%s/config.json", folder);
    assert_ok(g.context, json_write(g.context, path, config));
    json_decref(config);
    assert_null(crank_model_load(g.context, g.device, folder, &(crank_model_options){0}));
    crank_model *planned = crank_model_load(g.context, g.device, folder, &(crank_model_options){.dry = true});
    if (!planned) fail_msg("%s", crank_message(g.context));
    assert_same_params("qwen3", g.model, planned);
    assert_null(crank_model_fingerprint(g.context, planned));
    assert_int_equal(crank_model_save(g.context, planned, folder, CRANK_F32), CRANK_USAGE);
    crank_model_free(planned);
    golden_close(&g);
}

/* A file in the type that is asked for is mapped: nothing is copied, except what is turned. */
static void weights_of_the_same_type_are_mapped(void **unused)
{
    (void)unused;
    const char *names[] = {"llama", "smollm_bf16_sharded", "bert", "gpt2"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        golden_model g = golden_load(names[i], "plain", (crank_model_options){.weights = file_type(names[i])});
        crank_params *params = crank_model_params(g.model);
        for (size_t k = 0; k < crank_params_count(params); k++) {
            const crank_param *param = crank_params_at(params, k);
            bool turned = !strcmp(names[i], "gpt2") && param->view.rank == 2 && strstr(param->name, ".h.");
            assert_int_equal(param->mapped, !turned);
        }
        golden_close(&g);
    }
}

/* A mapped weight that is to be trained takes memory of its own; the file stays as it was. */
static void a_mapped_weight_can_be_owned_and_trained(void **unused)
{
    (void)unused;
    for (int again = 0; again < 2; again++) { /* the second time sees the file as the first one did */
        golden_model g = golden_load("bert_classify", "plain", (crank_model_options){0});
        crank_param *weight = crank_params_find(crank_model_params(g.model), "classifier.weight");
        float before[3 * 32], after[3 * 32], ones[3 * 32];
        for (int i = 0; i < 3 * 32; i++) ones[i] = 1;
        assert_ok(g.context, crank_param_read(g.context, weight, before, CRANK_F32));
        assert_true(weight->mapped);
        assert_true(before[0] != 1);
        assert_int_not_equal(crank_param_write(g.context, weight, ones, CRANK_F32), CRANK_OK);
        assert_ok(g.context, crank_param_own(g.context, weight));
        assert_false(weight->mapped);
        assert_ok(g.context, crank_param_read(g.context, weight, after, CRANK_F32));
        assert_memory_equal(before, after, sizeof before);
        assert_ok(g.context, crank_param_write(g.context, weight, ones, CRANK_F32));
        golden_close(&g);
    }
}

/* ---- generation ---- */

typedef struct step {
    crank_graph *graph;
    crank_tensor *ids, *positions, *position, *features;
} step;

static step record_step(golden_model *g, crank_model_cache *cache, int64_t n)
{
    int64_t one = 1;
    step s = {.graph = crank_graph_new(g->context, g->device)};
    crank_graph_set_training(s.graph, false);
    crank_graph_set_compute(s.graph, crank_model_options_of(g->model)->compute);
    s.ids = crank_input(s.graph, "ids", CRANK_I32, 1, &n);
    s.positions = crank_input(s.graph, "positions", CRANK_I32, 1, &n);
    s.position = crank_input(s.graph, "position", CRANK_I32, 1, &one);
    crank_model_inputs inputs = {.ids = s.ids, .positions = s.positions, .cache = cache, .position = s.position};
    s.features = crank_keep(crank_model_features(s.graph, g->model, &inputs));
    assert_ok(g->context, crank_graph_status(s.graph));
    assert_ok(g->context, crank_plan(s.graph, NULL, NULL));
    return s;
}

static void assert_generation(const char *name, const char *bodies)
{
    golden_model g = golden_load(name, bodies, (crank_model_options){0});
    const int32_t *ids = golden_view(&g, "ids").data, *segments = golden_view(&g, "segments").data;
    crank_view features = golden_view(&g, "features");
    int32_t begin = segments[2], length = segments[3] - begin, prefill = 5; /* the longest sequence */
    int64_t hidden = features.dims[1];
    crank_model_cache *cache = crank_model_cache_new(g.context, g.model, 16);
    assert_non_null(cache);
    step steps[2] = {record_step(&g, cache, prefill), record_step(&g, cache, 1)};
    for (int32_t at = 0; at < length;) {
        step *s = &steps[at > 0];
        int32_t n = at ? 1 : prefill, positions[8];
        for (int32_t i = 0; i < n; i++) positions[i] = at + i;
        assert_ok(g.context, crank_write(s->ids, ids + begin + at));
        assert_ok(g.context, crank_write(s->positions, positions));
        assert_ok(g.context, crank_write(s->position, &at));
        assert_ok(g.context, crank_run(s->graph));
        size_t count;
        float *row = read_floats(g.context, s->features, &count);
        double error = relative_error(row, (const float *)features.data + (begin + at) * hidden, (size_t)(n * hidden));
        if (!(error <= 1e-5)) fail_msg("%s: token %d is off by %.3g", name, (int)at, error);
        free(row);
        at += n;
    }
    crank_graph_free(steps[0].graph);
    crank_graph_free(steps[1].graph);
    crank_model_cache_free(cache);
    golden_close(&g);
}

static void generation_over_a_cache_equals_the_full_pass(void **unused)
{
    (void)unused;
    static const char *const decoders[] = {"llama", "llama_linear", "llama3", "mistral",
                                           "qwen2", "qwen2_window", "qwen3",  "gpt2"};
    for (size_t i = 0; i < sizeof decoders / sizeof *decoders; i++) {
        assert_generation(decoders[i], "plain");
        assert_generation(decoders[i], NULL);
    }
}

/* ---- heads ---- */

static void a_classification_head_is_made_on_any_model(void **unused)
{
    (void)unused;
    static const char *const names[][2] = {{"llama", "LlamaForSequenceClassification"},
                                           {"gpt2", "GPT2ForSequenceClassification"},
                                           {"bert", "BertForSequenceClassification"},
                                           {"bert_mlm", "BertForSequenceClassification"},
                                           {"roberta_mlm", "RobertaForSequenceClassification"},
                                           {"roberta_classify", "RobertaForSequenceClassification"},
                                           {"distilbert", "DistilBertForSequenceClassification"}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        golden_model g = golden_load(names[i][0], "plain", (crank_model_options){.labels = 7});
        assert_string_equal(crank_model_config_of(g.model)->architecture, names[i][1]);
        assert_int_equal(crank_model_config_of(g.model)->labels, 7);
        assert_int_equal(g.model->heads.classifier->out, 7);
        assert_true(g.model->heads.classifier->is_head);
        const float *weight = g.model->heads.classifier->weight->view.data;
        double squares = 0;
        for (int k = 0; k < 7 * 32; k++) squares += weight[k] * weight[k];
        assert_true(fabs(sqrt(squares / (7 * 32)) - 0.02) < 0.004);
        golden_close(&g);
    }
}

static void a_head_of_the_same_size_is_kept(void **unused)
{
    (void)unused;
    golden_model a = golden_load("roberta_classify", "plain", (crank_model_options){0});
    golden_model b = golden_load("roberta_classify", "plain", (crank_model_options){.labels = 2});
    assert_same_params("roberta_classify", a.model, b.model);
    golden_close(&a);
    golden_close(&b);
}

/* Log-probabilities, their normaliser, cross-entropy and its gradient in the features, of a graph over given features.
 */
typedef struct head_results {
    float *values[5];
    size_t counts[5];
} head_results;

static head_results run_head(golden_model *g)
{
    head_results results;
    crank_graph *graph = crank_graph_new(g->context, g->device);
    crank_tensor *features = golden_input(g, graph, "features"), *targets = golden_input(g, graph, "targets");
    crank_tensor *weights = golden_input(g, graph, "weights"), *lse, *ce_logp, *gradient = NULL, *none = NULL;
    crank_mark_gradient(features);
    crank_tensor *logp = crank_model_logprob(graph, g->model, features, targets, &lse);
    crank_tensor *loss = crank_model_cross_entropy(graph, g->model, features, targets, weights, &ce_logp);
    assert_ok(g->context, crank_gradients(graph, &loss, &none, 1, &features, 1, &gradient));
    crank_tensor *kept[5] = {logp, lse, loss, ce_logp, gradient};
    for (int i = 0; i < 5; i++) crank_keep(kept[i]);
    assert_ok(g->context, crank_plan(graph, NULL, NULL));
    golden_write(g, features);
    golden_write(g, targets);
    golden_write(g, weights);
    assert_ok(g->context, crank_run(graph));
    for (int i = 0; i < 5; i++) results.values[i] = read_floats(g->context, kept[i], &results.counts[i]);
    crank_graph_free(graph);
    return results;
}

/* A LoRA on the head starts at zero change: its logits go through the linear as a whole and say the same as the head
 * operations. */
static void a_head_with_a_method_on_it_gives_the_same_log_probabilities(void **unused)
{
    (void)unused;
    static const char *const names[][2] = {
        {"llama", "lm_head"}, {"qwen2", "lm_head"}, {"gpt2", "lm_head"}, {"roberta_mlm", "decoder"}};
    for (size_t k = 0; k < sizeof names / sizeof *names; k++) {
        golden_model g = golden_load(names[k][0], NULL, (crank_model_options){0});
        head_results plain = run_head(&g);
        const crank_map *lora = crank_map_find("lora");
        void *options = crank_options_new(g.context, lora->options, lora->options_size);
        crank_attach_options where = {.name = "default", .targets = names[k][1]};
        crank_attachment *attachment =
            crank_attachment_new(g.context, crank_model_linears(g.model), lora, options, &where);
        if (!attachment) fail_msg("%s", crank_message(g.context));
        assert_ok(g.context, crank_attachment_finish(g.context, attachment));
        head_results mapped = run_head(&g);
        for (int i = 0; i < 5; i++) {
            assert_int_equal(plain.counts[i], mapped.counts[i]);
            double error = relative_error(mapped.values[i], plain.values[i], plain.counts[i]);
            if (!(error <= 1e-5)) fail_msg("%s: result %d is off by %.3g", names[k][0], i, error);
            free(plain.values[i]);
            free(mapped.values[i]);
        }
        crank_options_free(options);
        golden_close(&g);
    }
}

/* ---- other layouts ---- */

/* Writes a golden model's tensors under other names: `rename` gives the new name, or NULL to leave a tensor out. */
static const char *rewritten(golden_model *g, const char *name, const char *(*rename)(const char *name))
{
    static char folder[4096];
    char path[4200];
    crank_named_view tensors[128];
    snprintf(folder, sizeof folder, "%s/rewritten_models/%s", CRANK_BINARY_DIR, name);
    assert_ok(g->context, file_make_folder(g->context, folder));
    crank_weights *weights = crank_weights_open(g->context, golden_folder(name));
    size_t count = 0;
    for (size_t i = 0; i < crank_weights_count(weights); i++) {
        const char *new = rename(crank_weights_name(weights, i));
        if (!new) continue;
        tensors[count].name = strdup(new);
        crank_weights_find(weights, crank_weights_name(weights, i), &tensors[count++].view);
    }
    assert_ok(g->context, crank_weights_write(g->context, folder, tensors, count, 0));
    for (size_t i = 0; i < count; i++) free((char *)tensors[i].name);
    crank_weights_close(weights);
    snprintf(path, sizeof path, "%s/config.json", golden_folder(name));
    json_t *config = json_read(g->context, path);
    snprintf(path, sizeof path, "%s/config.json", folder);
    assert_ok(g->context, json_write(g->context, path, config));
    json_decref(config);
    return folder;
}

static const char *without_prefix(const char *name)
{
    static const char *const prefixes[] = {"model.", "transformer.", "bert."};
    for (size_t i = 0; i < 3; i++)
        if (!strncmp(name, prefixes[i], strlen(prefixes[i]))) return name + strlen(prefixes[i]);
    return name;
}

static const char *with_prefix(const char *name)
{
    static char text[256];
    snprintf(text, sizeof text, "bert.%s", name);
    return text;
}

static const char *old_norm_names(const char *name)
{
    static char text[256];
    char *norm;
    snprintf(text, sizeof text, "%s", name);
    if (!(norm = strstr(text, "LayerNorm."))) return name;
    snprintf(norm + 10, sizeof text - (size_t)(norm + 10 - text), "%s", strstr(name, "weight") ? "gamma" : "beta");
    return text;
}

static void names_with_and_without_prefix_and_old_norm_names_are_understood(void **unused)
{
    (void)unused;
    static const struct {
        const char *name;
        const char *(*rename)(const char *);
    } cases[] = {{"llama", without_prefix},
                 {"gpt2", without_prefix},
                 {"bert_classify", without_prefix},
                 {"bert", with_prefix},
                 {"bert_mlm", old_norm_names}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        golden_model g = golden_load(cases[i].name, "plain", (crank_model_options){0});
        crank_model_options options = {.pooling = crank_model_options_of(g.model)->pooling};
        crank_model *other =
            crank_model_load(g.context, g.device, rewritten(&g, cases[i].name, cases[i].rename), &options);
        if (!other) fail_msg("%s: %s", cases[i].name, crank_message(g.context));
        assert_same_params(cases[i].name, g.model, other);
        crank_model_free(other);
        golden_close(&g);
    }
}

static void linears_have_the_names_that_peft_targets(void **unused)
{
    (void)unused;
    static const char *const names[][2] = {{"llama", "model.layers.0.self_attn.q_proj"},
                                           {"llama", "lm_head"},
                                           {"gpt2", "transformer.h.1.attn.c_attn"},
                                           {"bert_classify", "bert.encoder.layer.0.attention.self.query"},
                                           {"bert", "encoder.layer.1.intermediate.dense"},
                                           {"roberta_classify", "classifier.out_proj"},
                                           {"distilbert", "transformer.layer.0.ffn.lin1"},
                                           {"qwen2", "model.embed_tokens"},
                                           {"roberta_mlm", "roberta.encoder.layer.1.output.dense"}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        golden_model g = golden_load(names[i][0], "plain", (crank_model_options){0});
        if (!crank_linears_find(crank_model_linears(g.model), names[i][1]))
            fail_msg("%s lacks %s", names[i][0], names[i][1]);
        golden_close(&g);
    }
}

static void linears_that_read_the_same_x_are_one_group(void **unused)
{
    (void)unused;
    golden_model g = golden_load("llama", "plain", (crank_model_options){0});
    crank_linears *all = crank_model_linears(g.model);
    const crank_linear *q = crank_linears_find(all, "model.layers.1.self_attn.q_proj");
    const crank_linear *v = crank_linears_find(all, "model.layers.1.self_attn.v_proj");
    const crank_linear *o = crank_linears_find(all, "model.layers.1.self_attn.o_proj");
    const crank_linear *gate = crank_linears_find(all, "model.layers.1.mlp.gate_proj");
    const crank_linear *up = crank_linears_find(all, "model.layers.1.mlp.up_proj");
    assert_int_equal(q->reads, v->reads);
    assert_int_equal(gate->reads, up->reads);
    assert_int_not_equal(q->reads, o->reads);
    assert_int_not_equal(q->reads, gate->reads);
    assert_int_equal(q->block, 1);
    golden_close(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(saved_models_come_back_bit_for_bit),
        cmocka_unit_test(unknown_config_keys_are_kept),
        cmocka_unit_test(new_models_start_from_their_seed),
        cmocka_unit_test(planning_without_weights_sees_the_same_tensors),
        cmocka_unit_test(planning_works_from_the_config_alone),
        cmocka_unit_test(weights_of_the_same_type_are_mapped),
        cmocka_unit_test(a_mapped_weight_can_be_owned_and_trained),
        cmocka_unit_test(generation_over_a_cache_equals_the_full_pass),
        cmocka_unit_test(a_classification_head_is_made_on_any_model),
        cmocka_unit_test(a_head_of_the_same_size_is_kept),
        cmocka_unit_test(a_head_with_a_method_on_it_gives_the_same_log_probabilities),
        cmocka_unit_test(names_with_and_without_prefix_and_old_norm_names_are_understood),
        cmocka_unit_test(linears_have_the_names_that_peft_targets),
        cmocka_unit_test(linears_that_read_the_same_x_are_one_group),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
