/* taylor.c - |w dL/dw| of coupled weights, by one graph with the gradients of all maps of the layers. */
#include "task/taylor.h"

#include <math.h>

#include "model/model.h"

/* One map of a layer: which unit each of its rows or columns belongs to. */
typedef struct watched {
    const crank_linear *linear;
    crank_tensor       *gradient;
    double             *scores;
    bool                columns;
    int64_t             each, first, count; /* units are `count` runs of `each` rows or columns from `first` on */
} watched;

enum { MAPS = 10 };

static int watch_layer(const nn_block *b, double *heads, double *neurons, watched *out)
{
    const nn_attention *a = &b->attention;
    int64_t             group = a->heads / a->kv_heads, d = a->head_dim, n = a->kv_heads;
    int                 count = 0;
    if (a->qkv) {
        out[count++] = (watched){a->qkv, NULL, heads, false, group * d, 0, n};
        out[count++] = (watched){a->qkv, NULL, heads, false, d, a->heads * d, n};
        out[count++] = (watched){a->qkv, NULL, heads, false, d, (a->heads + n) * d, n};
    } else {
        out[count++] = (watched){a->q, NULL, heads, false, group * d, 0, n};
        out[count++] = (watched){a->k, NULL, heads, false, d, 0, n};
        out[count++] = (watched){a->v, NULL, heads, false, d, 0, n};
    }
    out[count++] = (watched){a->out, NULL, heads, true, group * d, 0, n};
    if (b->mlp.gate) out[count++] = (watched){b->mlp.gate, NULL, neurons, false, 1, 0, b->mlp.up->out};
    out[count++] = (watched){b->mlp.up, NULL, neurons, false, 1, 0, b->mlp.up->out};
    out[count++] = (watched){b->mlp.down, NULL, neurons, true, 1, 0, b->mlp.up->out};
    return count;
}

static crank_status add_scores(crank_context *context, const watched *w)
{
    int64_t      in = w->linear->in, out = w->linear->out;
    float       *weight = crank_alloc(context, (size_t)(in * out), sizeof *weight, w->linear->name), *gradient = crank_alloc(context, (size_t)(in * out), sizeof *gradient, w->linear->name);
    crank_status status = weight && gradient ? crank_linear_rows(context, w->linear, 0, out, weight) : CRANK_FAILED;
    if (status == CRANK_OK) status = crank_read(w->gradient, gradient);
    for (int64_t i = 0; status == CRANK_OK && i < out; i++)
        for (int64_t j = 0; j < in; j++) {
            int64_t at = (w->columns ? j : i) - w->first;
            if (at >= 0 && at < w->count * w->each) w->scores[at / w->each] += fabs((double)weight[i * in + j] * (double)gradient[i * in + j]);
        }
    crank_free(weight), crank_free(gradient);
    return status;
}

/* Records the loss and the gradients; inputs in the order ids, positions, segments, targets, weights. */
static crank_status record(crank_graph *graph, crank_model *model, int64_t length, watched *maps, int count, crank_tensor *inputs[5])
{
    int64_t two = 2;
    for (int i = 0; i < 5; i++) {
        static const char *const names[] = {"ids", "positions", "segments", "targets", "weights"};
        inputs[i] = crank_input(graph, names[i], i == 4 ? CRANK_F32 : CRANK_I32, 1, i == 2 ? &two : &length);
    }
    crank_context *context = crank_graph_context(graph);
    crank_tensor **wrt = crank_alloc(context, (size_t)count, sizeof(crank_tensor *), "gradients"), **grads = crank_alloc(context, (size_t)count, sizeof(crank_tensor *), "gradients");
    crank_status   status = wrt && grads ? CRANK_OK : CRANK_FAILED;
    for (int i = 0; status == CRANK_OK && i < count; i++) crank_mark_gradient(wrt[i] = crank_use(graph, maps[i].linear->weight));
    if (status == CRANK_OK) {
        crank_model_inputs in = {.ids = inputs[0], .positions = inputs[1], .segments = inputs[2]};
        crank_tensor      *loss = crank_model_cross_entropy(graph, model, crank_model_features(graph, model, &in), inputs[3], inputs[4], NULL), *seed = NULL;
        status = crank_graph_status(graph);
        if (status == CRANK_OK) status = crank_gradients(graph, &loss, &seed, 1, wrt, count, grads);
    }
    for (int i = 0; status == CRANK_OK && i < count; i++) {
        if (!grads[i]) status = crank_fail(context, CRANK_FAILED, "%s has no gradient", maps[i].linear->name);
        else maps[i].gradient = crank_keep(crank_contiguous(grads[i]));
    }
    crank_free(wrt), crank_free(grads);
    return status == CRANK_OK ? crank_plan(graph, NULL, NULL) : status;
}

static crank_status run_all(crank_context *context, crank_graph *graph, crank_tensor *const inputs[5], const int32_t *ids, int64_t count, int64_t length, const watched *maps, int map_count)
{
    int32_t     *positions = crank_alloc(context, (size_t)length, sizeof *positions, "positions"), segments[2] = {0, (int32_t)length};
    float       *weights = crank_alloc(context, (size_t)length, sizeof *weights, "weights");
    crank_status status = positions && weights ? CRANK_OK : CRANK_FAILED;
    for (int64_t i = 0; status == CRANK_OK && i < length; i++) positions[i] = (int32_t)i, weights[i] = 1 / (float)length;
    if (status == CRANK_OK) status = crank_write(inputs[1], positions);
    if (status == CRANK_OK) status = crank_write(inputs[2], segments);
    if (status == CRANK_OK) status = crank_write(inputs[4], weights);
    for (int64_t at = 0; status == CRANK_OK && at + length + 1 <= count; at += length) {
        status = crank_write(inputs[0], ids + at);
        if (status == CRANK_OK) status = crank_write(inputs[3], ids + at + 1);
        if (status == CRANK_OK) status = crank_run(graph);
        for (int i = 0; status == CRANK_OK && i < map_count; i++) status = add_scores(context, &maps[i]);
        if (status == CRANK_OK && crank_stop_requested(context)) status = crank_fail(context, CRANK_STOPPED, "stopped");
    }
    crank_free(positions), crank_free(weights);
    return status;
}

crank_status taylor_scores(crank_context *context, crank_model *model, const int32_t *ids, int64_t count, int64_t length, double **heads, double **neurons)
{
    const crank_model_config *c = crank_model_config_of(model);
    if (!c->causal) return crank_fail(context, CRANK_USAGE, "importance by gradients needs the loss of a language model; take magnitude or random for %s", c->architecture);
    if (count < 2) return crank_fail(context, CRANK_USAGE, "there are no two tokens to take gradients on");
    if (length > count - 1) length = count - 1;
    if (length > c->context) length = c->context;
    watched     *maps = crank_alloc(context, (size_t)(MAPS * model->body.count), sizeof *maps, "maps");
    crank_graph *graph = crank_graph_new(context, crank_model_device(model));
    int          map_count = 0;
    crank_tensor *inputs[5];
    crank_status  status = maps && graph ? CRANK_OK : CRANK_FAILED;
    for (int i = 0; status == CRANK_OK && i < model->body.count; i++) map_count += watch_layer(&model->body.blocks[i], heads[i], neurons[i], maps + map_count);
    if (status == CRANK_OK) {
        crank_graph_set_compute(graph, crank_model_options_of(model)->compute);
        crank_graph_set_training(graph, true);
        status = record(graph, model, length, maps, map_count, inputs);
    }
    if (status == CRANK_OK) status = run_all(context, graph, inputs, ids, count, length, maps, map_count);
    crank_graph_free(graph);
    crank_free(maps);
    return status;
}
