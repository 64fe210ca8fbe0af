/* logits.c - forward passes over given ids, written row chunk by row chunk. */
#include "task/logits.h"

#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "data/safetensors_stream.h"

enum { CHUNK = 64, MAX_SEQUENCES = 1 << 20 };

typedef struct sequences {
    int32_t **ids;
    int64_t  *lengths;
    size_t    count;
} sequences;

static void sequences_free(sequences *s)
{
    for (size_t i = 0; s->ids && i < s->count; i++) crank_free(s->ids[i]);
    crank_free(s->ids);
    crank_free(s->lengths);
}

static crank_status read_one(crank_context *context, const json_t *list, size_t number, const crank_model_config *config, sequences *out, const char *path)
{
    size_t n = json_array_size(list);
    if (!n) return crank_fail(context, CRANK_BAD_DATA, "%s: sequence %zu is empty", path, number);
    if ((int64_t)n > config->context)
        return crank_fail(context, CRANK_BAD_DATA, "%s: sequence %zu has %zu tokens and the model's context is %lld", path, number, n, (long long)config->context);
    int32_t *ids = out->ids[number] = crank_alloc(context, n, sizeof *ids, "token ids");
    if (!ids) return CRANK_FAILED;
    for (size_t i = 0; i < n; i++) {
        const json_t *id = json_array_get(list, i);
        if (!json_is_integer(id) || json_integer_value(id) < 0 || json_integer_value(id) >= config->vocab)
            return crank_fail(context, CRANK_BAD_DATA, "%s: sequence %zu, place %zu is no token id in 0..%lld", path, number, i, (long long)config->vocab - 1);
        ids[i] = (int32_t)json_integer_value(id);
    }
    out->lengths[number] = (int64_t)n;
    return CRANK_OK;
}

static crank_status read_sequences(crank_context *context, const char *path, const crank_model_config *config, sequences *out)
{
    json_t *root = json_read(context, path);
    if (!root) return crank_last_status(context);
    bool         single = json_is_array(root) && !json_is_array(json_array_get(root, 0));
    crank_status status = CRANK_OK;
    size_t       count = single ? 1 : json_array_size(root);
    if (!json_is_array(root) || !json_array_size(root) || count > MAX_SEQUENCES)
        status = crank_fail(context, CRANK_BAD_DATA, "%s: wanted a list of token ids, or a list of such lists", path);
    out->ids = crank_alloc(context, count + 1, sizeof *out->ids, "token ids");
    out->lengths = crank_alloc(context, count + 1, sizeof *out->lengths, "token ids");
    out->count = count;
    if (!out->ids || !out->lengths) status = CRANK_FAILED;
    for (size_t i = 0; i < count && status == CRANK_OK; i++) {
        const json_t *list = single ? root : json_array_get(root, i);
        status = json_is_array(list) ? read_one(context, list, i, config, out, path)
                                     : crank_fail(context, CRANK_BAD_DATA, "%s: entry %zu is no list of token ids", path, i);
    }
    json_decref(root);
    return status;
}

/* features [n, hidden] f32 on the host, and outputs [labels] where the model has a classification head. */
static crank_status run_features(crank_context *context, crank_model *model, const int32_t *ids, int64_t n, float *features, float *outputs)
{
    int64_t      two = 2;
    crank_graph *graph = crank_graph_new(context, crank_model_device(model));
    if (!graph) return CRANK_FAILED;
    crank_graph_set_training(graph, false);
    crank_graph_set_compute(graph, crank_model_options_of(model)->compute);
    crank_model_inputs inputs = {.ids = crank_input(graph, "ids", CRANK_I32, 1, &n), .positions = crank_input(graph, "positions", CRANK_I32, 1, &n),
                                 .segments = crank_input(graph, "segments", CRANK_I32, 1, &two)};
    crank_tensor *hidden = crank_model_features(graph, model, &inputs);
    crank_tensor *kept = crank_keep(crank_cast(hidden, CRANK_F32));
    crank_tensor *head = outputs ? crank_keep(crank_cast(crank_model_classify(graph, model, hidden, inputs.segments), CRANK_F32)) : NULL;
    int32_t       segments[2] = {0, (int32_t)n}, *positions = crank_alloc(context, (size_t)n, sizeof *positions, "positions");
    crank_status  status = positions ? crank_plan(graph, NULL, NULL) : CRANK_FAILED;
    for (int64_t i = 0; status == CRANK_OK && i < n; i++) positions[i] = (int32_t)i;
    if (status == CRANK_OK) status = crank_write(inputs.ids, ids);
    if (status == CRANK_OK) status = crank_write(inputs.positions, positions);
    if (status == CRANK_OK) status = crank_write(inputs.segments, segments);
    if (status == CRANK_OK) status = crank_run(graph);
    if (status == CRANK_OK) status = crank_read(kept, features);
    if (status == CRANK_OK && head) status = crank_read(head, outputs);
    crank_free(positions);
    crank_graph_free(graph);
    return status;
}

/* Streams logits of features [n, hidden], CHUNK rows at a time. */
static crank_status stream_logits(crank_context *context, crank_model *model, const float *features, int64_t n, safetensors_stream *stream)
{
    const crank_model_config *config = crank_model_config_of(model);
    int64_t                   dims[2] = {CHUNK, config->hidden};
    crank_dtype               compute = crank_model_options_of(model)->compute;
    crank_graph              *graph = crank_graph_new(context, crank_model_device(model));
    float *rows = crank_alloc(context, (size_t)(CHUNK * config->hidden), sizeof *rows, "features");
    float *logits = crank_alloc(context, (size_t)(CHUNK * config->vocab), sizeof *logits, "a chunk of logits");
    crank_status status = graph && rows && logits ? CRANK_OK : CRANK_FAILED;
    crank_tensor *x = NULL, *y = NULL;
    if (status == CRANK_OK) {
        crank_graph_set_training(graph, false);
        crank_graph_set_compute(graph, compute);
        x = crank_input(graph, "features", CRANK_F32, 2, dims);
        y = crank_keep(crank_cast(crank_model_logits(graph, model, crank_cast(x, compute)), CRANK_F32));
        status = crank_plan(graph, NULL, NULL);
    }
    for (int64_t start = 0; start < n && status == CRANK_OK; start += CHUNK) {
        int64_t count = n - start < CHUNK ? n - start : CHUNK;
        memcpy(rows, features + start * config->hidden, (size_t)(count * config->hidden) * sizeof *rows);
        status = crank_write(x, rows);
        if (status == CRANK_OK) status = crank_run(graph);
        if (status == CRANK_OK) status = crank_read(y, logits);
        if (status == CRANK_OK) status = safetensors_stream_write(context, stream, logits, (size_t)(count * config->vocab) * sizeof *logits);
    }
    crank_graph_free(graph);
    crank_free(rows), crank_free(logits);
    return status;
}

/* The file's tensors in order: for each sequence logits, or hidden and outputs. */
static size_t name_tensors(const crank_model_config *config, const sequences *s, crank_named_view *views, char (*names)[32])
{
    size_t count = 0;
    for (size_t i = 0; i < s->count; i++) {
        const char *const kinds[] = {config->causal ? "logits" : "hidden", "outputs"};
        for (int k = 0; k < (!config->causal && config->labels ? 2 : 1); k++) {
            int64_t dims[2] = {s->lengths[i], config->causal ? config->vocab : config->hidden};
            if (s->count == 1)
                snprintf(names[count], sizeof *names, "%s", kinds[k]);
            else
                snprintf(names[count], sizeof *names, "%s.%zu", kinds[k], i);
            views[count] = (crank_named_view){names[count], k ? crank_view_make(NULL, CRANK_F32, 1, &config->labels) : crank_view_make(NULL, CRANK_F32, 2, dims)};
            count++;
        }
    }
    return count;
}

static crank_status write_sequence(crank_context *context, crank_model *model, const int32_t *ids, int64_t n, safetensors_stream *stream)
{
    const crank_model_config *config = crank_model_config_of(model);
    size_t                    hidden = (size_t)(n * config->hidden);
    bool                      head = !config->causal && config->labels > 0;
    float                    *features = crank_alloc(context, hidden, sizeof *features, "features");
    float                    *outputs = head ? crank_alloc(context, (size_t)config->labels, sizeof *outputs, "outputs") : NULL;
    crank_status              status = features && (!head || outputs) ? run_features(context, model, ids, n, features, outputs) : CRANK_FAILED;
    if (status == CRANK_OK && config->causal) status = stream_logits(context, model, features, n, stream);
    if (status == CRANK_OK && !config->causal) status = safetensors_stream_write(context, stream, features, hidden * sizeof *features);
    if (status == CRANK_OK && head) status = safetensors_stream_write(context, stream, outputs, (size_t)config->labels * sizeof *outputs);
    crank_free(features), crank_free(outputs);
    return status;
}

crank_status logits_write(crank_context *context, crank_model *model, const char *ids_path, const char *out_path)
{
    const crank_model_config *config = crank_model_config_of(model);
    sequences                 s = {0};
    crank_status              status = read_sequences(context, ids_path, config, &s);
    crank_named_view         *views = status == CRANK_OK ? crank_alloc(context, 2 * s.count, sizeof *views, "tensor names") : NULL;
    char(*names)[32] = status == CRANK_OK ? crank_alloc(context, 2 * s.count, sizeof *names, "tensor names") : NULL;
    safetensors_stream *stream = NULL;
    if (views && names) {
        stream = safetensors_stream_open(context, out_path, views, name_tensors(config, &s, views, names));
        status = stream ? CRANK_OK : crank_last_status(context);
    } else if (status == CRANK_OK) {
        status = CRANK_FAILED;
    }
    for (size_t i = 0; i < s.count && status == CRANK_OK; i++) status = write_sequence(context, model, s.ids[i], s.lengths[i], stream);
    if (status == CRANK_OK)
        status = safetensors_stream_commit(context, stream);
    else
        safetensors_stream_abort(stream);
    crank_free(views), crank_free(names);
    sequences_free(&s);
    return status;
}
