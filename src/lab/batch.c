/* batch.c - a network's forward pass and loss on a batch of samples: recorded, written, evaluated.
 *
 *     squares         numerator = sum over samples of mean over outputs of (output - y)^2
 *     cross_entropy   numerator = -sum over samples of log softmax(outputs)[label] */
#include <string.h>

#include "lab/net.h"

crank_tensor *lab_linear(crank_graph *graph, lab_net *net, crank_linear *linear, crank_tensor *x)
{
    crank_tensor *y = crank_linear_forward(graph, linear, x);
    lab_watch    *watch = net->watch;
    if (watch && watch->count < watch->room && linear->kind == CRANK_LINEAR_DENSE) watch->items[watch->count++] = (lab_watched){linear, x, y};
    return y;
}

static crank_tensor *record_loss(lab_net *net, lab_batch *batch)
{
    crank_tensor *out = crank_cast(batch->outputs, CRANK_F32);
    if (net->loss == LAB_SQUARES) {
        crank_tensor *difference = crank_sub(out, batch->target);
        return crank_scale(crank_reduce(CRANK_SUM_SQUARES, difference, 3, false), 1 / (double)net->outputs);
    }
    crank_tensor *picked = crank_pick(crank_softmax(out, true), crank_reshape(batch->target, 2, (const int64_t[]){batch->size, 1}));
    return crank_scale(crank_sum(picked), -1);
}

crank_status lab_batch_record(lab_net *net, const lab_data *data, int64_t size, bool training, lab_batch *out)
{
    *out = (lab_batch){.graph = crank_graph_new(net->context, net->device), .size = size};
    if (!out->graph) return CRANK_FAILED;
    crank_graph_set_training(out->graph, training);
    if (data->ids) out->x = crank_input(out->graph, "ids", CRANK_I32, 1, (const int64_t[]){size * data->width});
    else out->x = crank_input(out->graph, "x", CRANK_F32, 2, (const int64_t[]){size, data->width});
    if (data->y) out->target = crank_input(out->graph, "y", CRANK_F32, 2, (const int64_t[]){size, net->outputs});
    if (data->labels) out->target = crank_input(out->graph, "labels", CRANK_I32, 1, &size);
    if (net->watch && !data->ids) crank_mark_gradient(out->x);
    out->outputs = net->forward(out->graph, net, out->x);
    if (out->target) out->numerator = crank_keep(record_loss(net, out));
    return crank_graph_status(out->graph);
}

/* Rows of `row` elements of 4 bytes. */
static crank_status write_rows(lab_net *net, crank_tensor *input, const void *from, int64_t stride, int64_t row, const int64_t *order, int64_t first,
                               int64_t size)
{
    uint32_t *host = crank_alloc(net->context, (size_t)(size * row), sizeof *host, "a batch");
    if (!host) return CRANK_FAILED;
    for (int64_t i = 0; i < size; i++)
        memcpy(host + i * row, (const uint32_t *)from + (order ? order[i] : first + i) * stride, (size_t)row * sizeof *host);
    crank_status status = crank_write(input, host);
    crank_free(host);
    return status;
}

crank_status lab_batch_write(lab_net *net, const lab_batch *batch, const lab_data *data, const int64_t *order, int64_t first)
{
    int64_t      stride = data->stride ? data->stride : data->width;
    const void  *x = data->ids ? (const void *)data->ids : data->x;
    crank_status status = write_rows(net, batch->x, x, stride, data->width, order, first, batch->size);
    if (status != CRANK_OK || !batch->target) return status;
    if (net->loss == LAB_SQUARES) return write_rows(net, batch->target, data->y, net->outputs, net->outputs, order, first, batch->size);
    return write_rows(net, batch->target, data->labels, 1, 1, order, first, batch->size);
}

/* ---- evaluation ---- */

enum { ROWS = 500 };

/* Runs over all of the data; outputs [n, outputs]. */
static crank_status run_over(lab_net *net, const lab_data *data, float *outputs, double *loss)
{
    double       sum = 0;
    crank_status status = CRANK_OK;
    lab_batch    batch = {0};
    for (int64_t at = 0; status == CRANK_OK && at < data->n; at += batch.size) {
        int64_t size = data->n - at < ROWS ? data->n - at : ROWS;
        if (!batch.graph || batch.size != size) {
            crank_graph_free(batch.graph);
            status = lab_batch_record(net, data, size, false, &batch);
            if (status == CRANK_OK) crank_keep(batch.outputs = crank_contiguous(crank_cast(batch.outputs, CRANK_F32)));
            if (status == CRANK_OK) status = crank_plan(batch.graph, NULL, NULL);
        }
        if (status == CRANK_OK) status = lab_batch_write(net, &batch, data, NULL, at);
        if (status == CRANK_OK) status = crank_run(batch.graph);
        if (status == CRANK_OK) status = crank_read(batch.outputs, outputs + at * net->outputs);
        if (status == CRANK_OK && batch.numerator) sum += crank_read_scalar(batch.numerator);
    }
    crank_graph_free(batch.graph);
    if (loss) *loss = sum / (double)data->n;
    return status;
}

float *lab_outputs(lab_net *net, const lab_data *data)
{
    float *outputs = crank_alloc(net->context, (size_t)(data->n * net->outputs), sizeof *outputs, "outputs");
    if (outputs && run_over(net, data, outputs, NULL) == CRANK_OK) return outputs;
    crank_free(outputs);
    return NULL;
}

crank_status lab_evaluate(lab_net *net, const lab_data *data, double *loss, double *accuracy)
{
    float *outputs = crank_alloc(net->context, (size_t)(data->n * net->outputs), sizeof *outputs, "outputs");
    if (!outputs) return CRANK_FAILED;
    crank_status status = run_over(net, data, outputs, loss);
    if (status == CRANK_OK && accuracy) {
        int64_t right = 0, classes = net->outputs;
        for (int64_t i = 0; data->labels && i < data->n; i++) {
            int64_t best = 0;
            for (int64_t c = 1; c < classes; c++)
                if (outputs[i * classes + c] > outputs[i * classes + best]) best = c;
            right += best == data->labels[i];
        }
        *accuracy = (double)right / (double)data->n;
    }
    crank_free(outputs);
    return status;
}

/* ---- calibration ---- */

enum { BATCHES = 4, SAMPLES = 128 };

static float *read_all(lab_net *net, const crank_tensor *tensor)
{
    float *values = tensor ? crank_alloc(net->context, (size_t)(tensor->dims[0] * tensor->dims[1]), sizeof *values, "what a linear saw") : NULL;
    if (values && crank_read(tensor, values) == CRANK_OK) return values;
    crank_free(values);
    return NULL;
}

/* dy: the gradient there, g: dy^T x. */
static crank_status observe(lab_net *net, crank_attachment *attachment, const lab_watched *watched, const crank_tensor *dy, const crank_tensor *g, unsigned wanted)
{
    crank_observation seen = {.n = watched->x->dims[0]};
    float            *x = wanted & CRANK_OBSERVE_X ? read_all(net, watched->x) : NULL;
    float            *y = wanted & CRANK_OBSERVE_Y0 ? read_all(net, watched->y) : NULL;
    float            *d = wanted & CRANK_OBSERVE_DY ? read_all(net, dy) : NULL;
    float            *G = wanted & CRANK_OBSERVE_GRADIENT ? read_all(net, g) : NULL;
    for (int64_t i = 0; d && i < seen.n * dy->dims[1]; i++) d[i] /= (float)seen.n; /* the numerator is a sum over the samples */
    for (int64_t i = 0; G && i < g->dims[0] * g->dims[1]; i++) G[i] /= (float)seen.n;
    seen.x = x, seen.y0 = y, seen.dy = d, seen.g = G;
    bool missing = (wanted & CRANK_OBSERVE_X && !x) || (wanted & CRANK_OBSERVE_Y0 && !y) || (wanted & CRANK_OBSERVE_DY && !d) || (wanted & CRANK_OBSERVE_GRADIENT && !G);
    crank_status status = missing ? crank_fail(net->context, CRANK_FAILED, "%s: nothing was seen of it", watched->linear->name)
                                  : crank_attachment_observe(net->context, attachment, watched->linear, &seen);
    crank_free(x), crank_free(y), crank_free(d), crank_free(G);
    return status;
}

/* The attachment's own linears: others are not shown to it. */
static bool stands_on(crank_attachment *attachment, const crank_linear *linear)
{
    int         count;
    crank_site *sites = crank_attachment_sites(attachment, &count);
    for (int i = 0; i < count; i++)
        if (sites[i].linear == linear) return true;
    return false;
}

static crank_status calibrate_with(lab_net *net, crank_attachment *attachment, const lab_data *data, lab_watch *watch, crank_tensor **wrt)
{
    unsigned      wanted = crank_attachment_map(attachment)->observes;
    crank_tensor **grads = wrt + watch->room, **products = grads + watch->room;
    int64_t       size = data->n < SAMPLES ? data->n : SAMPLES;
    lab_batch     batch;
    net->watch = watch;
    crank_status status = lab_batch_record(net, data, size, true, &batch);
    net->watch = NULL;
    for (size_t i = 0; i < watch->count; i++) {
        watch->items[i].x = crank_keep(crank_contiguous(watch->items[i].x));
        wrt[i] = crank_keep(watch->items[i].y);
    }
    if (status == CRANK_OK && (wanted & (CRANK_OBSERVE_DY | CRANK_OBSERVE_GRADIENT))) {
        status = crank_gradients(batch.graph, &batch.numerator, NULL, 1, wrt, (int)watch->count, grads);
        for (size_t i = 0; status == CRANK_OK && i < watch->count; i++)
            if (grads[i]) {
                grads[i] = crank_keep(crank_contiguous(grads[i]));
                products[i] = crank_keep(crank_matmul(grads[i], true, watch->items[i].x, false));
            }
    }
    if (status == CRANK_OK) status = crank_plan(batch.graph, NULL, NULL);
    for (int64_t b = 0; status == CRANK_OK && b < BATCHES && (b + 1) * size <= data->n; b++) {
        status = lab_batch_write(net, &batch, data, NULL, b * size);
        if (status == CRANK_OK) status = crank_run(batch.graph);
        for (size_t i = 0; status == CRANK_OK && i < watch->count; i++)
            if (stands_on(attachment, watch->items[i].linear)) status = observe(net, attachment, &watch->items[i], grads[i], products[i], wanted);
    }
    crank_graph_free(batch.graph);
    return status;
}

crank_status lab_calibrate(lab_net *net, crank_attachment *attachment, const lab_data *data)
{
    size_t         room = crank_linears_count(net->linears);
    lab_watch      watch = {.items = crank_alloc(net->context, room, sizeof *watch.items, "calibration"), .room = room};
    crank_tensor **tensors = crank_alloc(net->context, 3 * room, sizeof *tensors, "calibration");
    crank_status   status = watch.items && tensors ? calibrate_with(net, attachment, data, &watch, tensors) : CRANK_FAILED;
    crank_free(watch.items), crank_free(tensors);
    return status;
}
