/* logits.c - forward passes over given ids, written row chunk by row chunk. */
#include "task/logits.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/id_rows.h"
#include "data/safetensors_stream.h"

enum { CHUNK = 64 };

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
static size_t name_tensors(const crank_model_config *config, const id_rows *s, crank_named_view *views, char (*names)[32])
{
    size_t count = 0;
    for (int64_t i = 0; i < s->count; i++) {
        const char *const kinds[] = {config->causal ? "logits" : "hidden", "outputs"};
        for (int k = 0; k < (!config->causal && config->labels ? 2 : 1); k++) {
            int64_t dims[2] = {s->starts[i + 1] - s->starts[i], config->causal ? config->vocab : config->hidden};
            if (s->count == 1)
                snprintf(names[count], sizeof *names, "%s", kinds[k]);
            else
                snprintf(names[count], sizeof *names, "%s.%lld", kinds[k], (long long)i);
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
    id_rows                   s;
    crank_status              status = id_rows_read(context, ids_path, config->vocab, config->context, &s);
    crank_named_view         *views = status == CRANK_OK ? crank_alloc(context, 2 * (size_t)s.count, sizeof *views, "tensor names") : NULL;
    char(*names)[32] = status == CRANK_OK ? crank_alloc(context, 2 * (size_t)s.count, sizeof *names, "tensor names") : NULL;
    safetensors_stream *stream = NULL;
    if (views && names) {
        stream = safetensors_stream_open(context, out_path, views, name_tensors(config, &s, views, names));
        status = stream ? CRANK_OK : crank_last_status(context);
    } else if (status == CRANK_OK) {
        status = CRANK_FAILED;
    }
    for (int64_t i = 0; i < s.count && status == CRANK_OK; i++) status = write_sequence(context, model, s.ids + s.starts[i], s.starts[i + 1] - s.starts[i], stream);
    if (status == CRANK_OK)
        status = safetensors_stream_commit(context, stream);
    else
        safetensors_stream_abort(stream);
    crank_free(views), crank_free(names);
    id_rows_free(&s);
    return status;
}
