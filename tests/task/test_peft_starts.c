/* From the model's weights and the same eight batches, EVA and LoRA-GA start where PEFT's start: tests/oracle/peft_curves.py. */
#include "testing.h"

#include "crank/model.h"
#include "crank/tensor.h"
#include "linear/stack.h"
#include "test_device.h"

enum { BATCHES = 8, ROWS = 12, LENGTH = 12, TOKENS = ROWS * LENGTH };

typedef struct fixture {
    crank_context     *context;
    crank_device      *device;
    crank_model       *model;
    crank_safetensors *curves, *start;
} fixture;

static fixture fixture_open(const char *start)
{
    fixture f = {.context = crank_context_new()};
    char    path[96];
    f.device = crank_device_cpu(f.context, NULL);
    f.model = crank_model_load(f.context, f.device, golden("models/llama"), &(crank_model_options){.compute = CRANK_F32, .weights = CRANK_F32});
    if (!f.model) fail_msg("%s", crank_message(f.context));
    f.curves = crank_safetensors_open(f.context, golden("train/peft/curves.safetensors"));
    snprintf(path, sizeof path, "train/peft/%s/adapter_model.safetensors", start);
    f.start = crank_safetensors_open(f.context, golden(path));
    if (!f.curves || !f.start) fail_msg("%s", crank_message(f.context));
    return f;
}

static void fixture_close(fixture *f)
{
    crank_safetensors_close(f->curves), crank_safetensors_close(f->start);
    crank_model_free(f->model);
    f->device->close(f->device);
    crank_context_free(f->context);
}

/* ---- the batches ---- */

typedef struct recorded {
    crank_graph        *graph;
    crank_model_inputs  inputs;
    crank_tensor       *targets, *weights, *dy[64];
    linear_watch        watch;
} recorded;

static recorded record(fixture *f)
{
    recorded     r = {.graph = crank_graph_new(f->context, f->device)};
    int64_t      n = TOKENS, s = ROWS + 1;
    crank_linears *linears = crank_model_linears(f->model);
    static bool  wanted[64];
    for (int i = 0; i < 64; i++) wanted[i] = true;
    r.watch.wanted = wanted;
    r.inputs = (crank_model_inputs){.ids = crank_input(r.graph, "ids", CRANK_I32, 1, &n), .positions = crank_input(r.graph, "positions", CRANK_I32, 1, &n),
                                    .segments = crank_input(r.graph, "segments", CRANK_I32, 1, &s)};
    r.targets = crank_input(r.graph, "targets", CRANK_I32, 1, &n);
    r.weights = crank_input(r.graph, "weights", CRANK_F32, 1, &n);
    linears->watch = &r.watch;
    crank_tensor *features = crank_model_features(r.graph, f->model, &r.inputs);
    crank_tensor *loss = crank_model_cross_entropy(r.graph, f->model, features, r.targets, r.weights, NULL), *ys[64];
    linears->watch = NULL;
    for (size_t i = 0; i < r.watch.count; i++) {
        r.watch.items[i].x = crank_keep(crank_contiguous(r.watch.items[i].x));
        ys[i] = crank_keep(r.watch.items[i].y);
    }
    assert_ok(f->context, crank_gradients(r.graph, &loss, NULL, 1, ys, (int)r.watch.count, r.dy));
    for (size_t i = 0; i < r.watch.count; i++)
        if (r.dy[i]) r.dy[i] = crank_keep(crank_contiguous(r.dy[i]));
    assert_ok(f->context, crank_plan(r.graph, NULL, NULL));
    return r;
}

static void run_batch(fixture *f, recorded *r, const int32_t *ids)
{
    int32_t positions[TOKENS], targets[TOKENS], segments[ROWS + 1];
    float   weights[TOKENS];
    for (int i = 0; i < TOKENS; i++) {
        bool last = i % LENGTH == LENGTH - 1;
        positions[i] = i % LENGTH;
        targets[i] = last ? -1 : ids[i + 1];
        weights[i] = last ? 0 : 1;
    }
    for (int i = 0; i <= ROWS; i++) segments[i] = i * LENGTH;
    assert_ok(f->context, crank_write(r->inputs.ids, ids));
    assert_ok(f->context, crank_write(r->inputs.positions, positions));
    assert_ok(f->context, crank_write(r->inputs.segments, segments));
    assert_ok(f->context, crank_write(r->targets, targets));
    assert_ok(f->context, crank_write(r->weights, weights));
    assert_ok(f->context, crank_run(r->graph));
}

static bool stands_on(crank_attachment *attachment, const crank_linear *linear)
{
    int         count;
    crank_site *sites = crank_attachment_sites(attachment, &count);
    for (int i = 0; i < count; i++)
        if (sites[i].linear == linear) return true;
    return false;
}

/* The method calibrated on the golden batches: the mean over tokens is each batch's loss. */
static crank_attachment *started(fixture *f, const char *method, const char *settings)
{
    const crank_map *map = crank_map_find(method);
    void            *options = crank_options_new(f->context, map->options, map->options_size);
    char             text[128];
    crank_view       ids;
    snprintf(text, sizeof text, "%s", settings);
    for (char *rest = text, *item; (item = strtok_r(rest, " ", &rest));) {
        char *mark = strchr(item, '=');
        *mark = 0;
        assert_ok(f->context, crank_options_set(f->context, map->options, options, item, mark + 1, "test"));
    }
    crank_attachment *attachment = crank_attachment_new(f->context, crank_model_linears(f->model), map, options, &(crank_attach_options){.targets = "all-linear"});
    crank_options_free(options);
    assert_true(crank_safetensors_find(f->curves, "calibration", &ids));
    recorded r = record(f);
    static float x[TOKENS * 96], dy[TOKENS * 96];
    for (int b = 0; b < BATCHES; b++) {
        run_batch(f, &r, (const int32_t *)ids.data + b * TOKENS);
        for (size_t i = 0; i < r.watch.count; i++) {
            crank_linear *linear = r.watch.items[i].linear;
            if (!stands_on(attachment, linear)) continue;
            assert_ok(f->context, crank_read(r.watch.items[i].x, x));
            assert_ok(f->context, crank_read(r.dy[i], dy));
            for (int64_t k = 0; k < TOKENS * linear->out; k++) dy[k] /= ROWS * (LENGTH - 1);
            assert_ok(f->context, crank_attachment_observe(f->context, attachment, linear, &(crank_observation){.x = x, .dy = dy, .n = TOKENS}));
        }
    }
    free(r.watch.items);
    crank_graph_free(r.graph);
    if (crank_attachment_finish(f->context, attachment)) fail_msg("%s", crank_message(f->context));
    return attachment;
}

/* ---- comparing ---- */

static crank_view theirs(fixture *f, const crank_linear *linear, const char *suffix)
{
    char       key[256];
    crank_view view;
    snprintf(key, sizeof key, "base_model.model.%s.%s", linear->name, suffix);
    if (!crank_safetensors_find(f->start, key, &view)) fail_msg("no %s", key);
    return view;
}

/* |cos| of two vectors with strides, and the ratio of their lengths. */
static double cosine(const float *a, int64_t sa, const float *b, int64_t sb, int64_t n, double *ratio)
{
    double dot = 0, aa = 0, bb = 0;
    for (int64_t i = 0; i < n; i++) {
        dot += (double)a[i * sa] * (double)b[i * sb];
        aa += (double)a[i * sa] * (double)a[i * sa], bb += (double)b[i * sb] * (double)b[i * sb];
    }
    *ratio = sqrt(aa / bb);
    return fabs(dot) / sqrt(aa * bb);
}

/* Rows of A and columns of B up to signs: directions and lengths. */
static void lora_ga_starts_in_pefts_directions_with_its_lengths(void **state)
{
    (void)state;
    fixture           f = fixture_open("lora_ga");
    crank_attachment *attachment = started(&f, "lora-ga", "rank=4 alpha=8 rslora=false gamma=16 style=peft");
    int               count;
    crank_site       *sites = crank_attachment_sites(attachment, &count);
    double            worst = 1, length = 0;
    assert_int_equal(count, 14);
    for (int i = 0; i < count; i++) {
        const crank_linear *linear = sites[i].linear;
        const float        *A = crank_site_find(&sites[i], "A")->view.data, *B = crank_site_find(&sites[i], "B")->view.data;
        const float        *tA = theirs(&f, linear, "lora_A.weight").data, *tB = theirs(&f, linear, "lora_B.weight").data;
        for (int k = 0; k < 4; k++) {
            double ratio, a = cosine(A + k * linear->in, 1, tA + k * linear->in, 1, linear->in, &ratio);
            if (fabs(log(ratio)) > length) length = fabs(log(ratio));
            double b = cosine(B + k, 4, tB + k, 4, linear->out, &ratio);
            if (fabs(log(ratio)) > length) length = fabs(log(ratio));
            worst = fmin(worst, fmin(a, b));
        }
    }
    assert_true(worst > 0.999);
    assert_true(length < 1e-3);
    fixture_close(&f);
}

/* Ranks by explained variance are the same. PEFT follows the components by increments until they hold still to a cosine of 0.999; crank's are
 * those of all rows. */
static void eva_starts_in_pefts_components_with_its_ranks(void **state)
{
    (void)state;
    fixture           f = fixture_open("eva");
    crank_attachment *attachment = started(&f, "eva", "rank=4 alpha=8 rho=2");
    int               count;
    crank_site       *sites = crank_attachment_sites(attachment, &count);
    for (int i = 0; i < count; i++) {
        const crank_linear *linear = sites[i].linear;
        const crank_param  *A = crank_site_find(&sites[i], "A");
        crank_view          t = theirs(&f, linear, "lora_A.weight");
        double              ratio, first = cosine(A->view.data, 1, t.data, 1, linear->in, &ratio);
        if (A->view.dims[0] != t.dims[0]) fail_msg("%s: rank %d, PEFT's %d", linear->name, (int)A->view.dims[0], (int)t.dims[0]);
        if (!(first > 0.995) || !(fabs(ratio - 1) < 1e-5)) fail_msg("%s: cosine %g, length %g of the first component", linear->name, first, ratio);
    }
    fixture_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(lora_ga_starts_in_pefts_directions_with_its_lengths), cmocka_unit_test(eva_starts_in_pefts_components_with_its_ranks)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
