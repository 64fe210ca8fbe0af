/* linear.c - linear maps and their forward pass through the stack of maps.
 *
 *     y0 = x W^T                       dense: W [out, in], x [n, in]
 *     y0 = table[ids]                  embedding: W = table^T, table [V, d], x = ids [n]
 *     y_k = y_{k-1} + scale_k (f_k(x, y_{k-1}) - y_{k-1})       each map that is on, lowest first
 *     y_k = y_{k-1} + scale_k (f_k(x, y_0) - y_0)               the same while adapters are mixed: each changes the base alone
 *     y = y_last + b
 *
 * With no map on, the bias goes into the product, so that a model without adapters and one with all adapters off record the
 * same operations. Parameters are cast to the compute type once a graph. */
#include <stdlib.h>
#include <stdio.h>
#include <string.h>

#include "linear/quantized.h"
#include "linear/stack.h"

bool stack_grow(crank_context *context, void *array, size_t count, size_t *capacity, size_t size, const char *what)
{
    if (count < *capacity) return true;
    void **memory = array;
    size_t wanted = *capacity ? 2 * *capacity : 8, bytes;
    void  *grown = __builtin_mul_overflow(wanted, size, &bytes) ? NULL : realloc(*memory, bytes);
    if (!grown) {
        crank_fail(context, CRANK_FAILED, "out of memory: %zu %s", wanted, what);
        return false;
    }
    memset((char *)grown + count * size, 0, bytes - count * size);
    *memory = grown;
    *capacity = wanted;
    return true;
}

/* ---- the set of linears ---- */

crank_linears *crank_linears_new(crank_context *context, crank_params *params, uint64_t seed)
{
    crank_linears *linears = crank_alloc(context, 1, sizeof *linears, "the linears of a model");
    if (!linears) return NULL;
    linears->context = context;
    linears->params = params;
    linears->seed = seed;
    return linears;
}

void crank_linears_free(crank_linears *linears)
{
    if (!linears) return;
    while (linears->attachment_count) crank_attachment_remove(linears->attachments[linears->attachment_count - 1]);
    linears_forget_merge(linears);
    for (size_t i = 0; i < linears->count; i++) {
        linear_stack *stack = stack_of(linears->items[i]);
        free(stack->sites);
        free(stack->attachments);
        crank_free(stack);
        quantized_free(linears->items[i]->quantized);
        crank_free((void *)(uintptr_t)linears->items[i]->name);
        crank_free(linears->items[i]);
    }
    free(linears->items);
    free(linears->attachments);
    free(linears->backups);
    crank_free(linears);
}

size_t        crank_linears_count(const crank_linears *linears) { return linears->count; }
crank_linear *crank_linears_at(const crank_linears *linears, size_t i) { return i < linears->count ? linears->items[i] : NULL; }
crank_params *crank_linears_params(const crank_linears *linears) { return linears->params; }

crank_linear *crank_linears_find(const crank_linears *linears, const char *name)
{
    for (size_t i = 0; i < linears->count; i++)
        if (strcmp(linears->items[i]->name, name) == 0) return linears->items[i];
    return NULL;
}

/* The weight is [out, in], or [in, out] for an embedding (in = V rows). */
static crank_status check_shapes(crank_context *context, const char *name, crank_linear_kind kind, int64_t in, int64_t out,
                                 const crank_param *weight, const crank_param *bias)
{
    int64_t rows = kind == CRANK_LINEAR_DENSE ? out : in, columns = kind == CRANK_LINEAR_DENSE ? in : out;
    if (in < 1 || out < 1)
        return crank_fail(context, CRANK_USAGE, "%s: a linear map needs in and out of at least 1, got %lld and %lld", name,
                          (long long)in, (long long)out);
    if (weight && (weight->view.rank != 2 || weight->view.dims[0] != rows || weight->view.dims[1] != columns))
        return crank_fail(context, CRANK_USAGE, "%s: the weight must be [%lld, %lld]", name, (long long)rows,
                          (long long)columns);
    if (bias && (bias->view.rank != 1 || bias->view.dims[0] != out))
        return crank_fail(context, CRANK_USAGE, "%s: the bias must be [%lld]", name, (long long)out);
    return CRANK_OK;
}

crank_linear *crank_linear_add(crank_linears *linears, const char *name, crank_linear_kind kind, int64_t in, int64_t out,
                               crank_param *weight, crank_param *bias)
{
    crank_context *context = linears->context;
    if (check_shapes(context, name, kind, in, out, weight, bias)) return NULL;
    if (crank_linears_find(linears, name)) {
        crank_fail(context, CRANK_USAGE, "a linear named %s exists already", name);
        return NULL;
    }
    if (!stack_grow(context, &linears->items, linears->count, &linears->capacity, sizeof *linears->items, "linears"))
        return NULL;
    crank_linear *linear = crank_alloc(context, 1, sizeof *linear, name);
    linear_stack *stack = crank_alloc(context, 1, sizeof *stack, name);
    char         *copy = crank_strdup(context, name);
    if (!linear || !stack || !copy) {
        crank_free(linear);
        crank_free(stack);
        crank_free(copy);
        return NULL;
    }
    *linear = (crank_linear){ .name = copy,
                              .kind = kind,
                              .in = in,
                              .out = out,
                              .weight = weight,
                              .bias = bias,
                              .block = -1,
                              .reads = -1 - (int)linears->count, /* its own x until the model says what it shares */
                              .owner = linears,
                              .index = (int)linears->count,
                              .stack = stack };
    linears->items[linears->count++] = linear;
    return linear;
}

/* ---- forward ---- */

bool crank_linear_has_maps(const crank_linear *linear)
{
    const linear_stack *stack = stack_of(linear);
    for (int i = 0; i < stack->count; i++)
        if (attachment_acts(stack->attachments[i])) return true;
    return false;
}

/* A training graph on merged weights would train nothing of the maps, or train around them. */
static bool refuse_merged(crank_graph *graph, const crank_linear *linear)
{
    const linear_stack *stack = stack_of(linear);
    for (int i = 0; crank_graph_training(graph) && i < stack->count; i++)
        if (stack->attachments[i]->merged) {
            crank_graph_error(graph, CRANK_USAGE,
                              "%s: the adapter `%s` is merged; unmerge it or remove it before a training graph is recorded",
                              linear->name, stack->attachments[i]->where.name);
            return true;
        }
    return false;
}

static crank_tensor *no_weight(crank_graph *graph, const crank_linear *linear)
{
    return crank_graph_error(graph, CRANK_USAGE, "%s has no dense base weight", linear->name);
}

/* Rows in two dimensions and the compute type: [.., in] -> [n, in]; ids stay as they are. */
static crank_tensor *as_rows(crank_graph *graph, const crank_linear *linear, crank_tensor *x)
{
    if (linear->kind == CRANK_LINEAR_EMBEDDING) {
        if (x->rank != 1) return crank_graph_error(graph, CRANK_USAGE, "%s takes ids [n], got rank %d", linear->name, x->rank);
        return x;
    }
    if (x->rank < 2 || x->dims[x->rank - 1] != linear->in)
        return crank_graph_error(graph, CRANK_USAGE, "%s takes x [.., %lld], got %lld columns in rank %d", linear->name,
                                 (long long)linear->in, (long long)(x->rank ? x->dims[x->rank - 1] : 1), x->rank);
    x = crank_cast(x, crank_graph_compute(graph));
    return x->rank == 2 ? x : crank_reshape(crank_contiguous(x), 2, (const int64_t[]){ -1, linear->in });
}

/* x W^T [n, out] of the base, plus the bias when it is given. */
static crank_tensor *base_product(crank_graph *graph, crank_linear *linear, crank_tensor *x, crank_tensor *bias)
{
    if (linear->quantized) return quantized_product(graph, linear->quantized, x, bias);
    if (!linear->weight) return no_weight(graph, linear);
    if (linear->kind == CRANK_LINEAR_DENSE)
        return crank_matmul_full(x, false, linear_use(graph, linear, linear->weight), true, 1, bias, NULL, CRANK_DTYPES);
    crank_tensor *rows = crank_gather_rows_as(crank_use(graph, linear->weight), x, crank_graph_compute(graph));
    return bias ? crank_add(rows, bias) : rows;
}

/* ---- rows that choose their adapters ---- */

crank_tensor *crank_attachment_rows(crank_graph *graph, const crank_attachment *attachment)
{
    crank_tensor **slot = crank_graph_slot(graph, &attachment->by_row, sizeof *slot, NULL);
    return slot ? *slot : NULL;
}

/* y where the row takes the attachment, else y0. */
static crank_tensor *chosen_rows(crank_graph *graph, const crank_attachment *attachment, const crank_linear *linear, crank_tensor *y, crank_tensor *y0)
{
    int64_t        n = y0->dims[0];
    crank_tensor **slot = crank_graph_slot(graph, &attachment->by_row, sizeof *slot, NULL);
    if (!slot) return y0;
    if (!*slot) {
        char name[96];
        snprintf(name, sizeof name, "rows of %s", attachment->where.name);
        *slot = crank_input(graph, name, CRANK_F32, 1, &n);
    }
    if (crank_graph_status(graph) != CRANK_OK) return y0;
    if ((*slot)->dims[0] != n)
        return crank_graph_error(graph, CRANK_USAGE, "%s reads %lld rows and other linears %lld: the adapter `%s` cannot be chosen row by row on both", linear->name,
                                 (long long)n, (long long)(*slot)->dims[0], attachment->where.name);
    return crank_where(crank_reshape(crank_cast(*slot, y->dtype), 2, (const int64_t[]){ n, 1 }), y, y0);
}

crank_tensor *stack_forward(crank_graph *graph, crank_linear *linear, crank_tensor *x, crank_tensor *y0, int count)
{
    linear_stack *stack = stack_of(linear);
    crank_tensor *base = y0;
    for (int i = 0; i < count && crank_graph_status(graph) == CRANK_OK; i++) {
        crank_attachment *attachment = stack->attachments[i];
        if (!attachment_acts(attachment)) continue;
        const crank_map *map = attachment->map;
        crank_tensor    *below = linear->owner->mixed ? base : y0;
        if (map->derive && site_derive_once(graph, stack->sites[i])) map->derive(graph, stack->sites[i]);
        crank_tensor *y = map->forward(graph, stack->sites[i], x, below);
        if (crank_graph_status(graph) != CRANK_OK) return y0;
        if (!y || y->dtype != y0->dtype || y->rank != 2 || y->dims[0] != y0->dims[0] || y->dims[1] != y0->dims[1])
            return crank_graph_error(graph, CRANK_FAILED, "%s: the method %s gave another type or shape than [%lld, %lld] %s",
                                     linear->name, map->name, (long long)y0->dims[0], (long long)y0->dims[1],
                                     crank_dtype_name(y0->dtype));
        if (attachment->by_row && below != y0)
            return crank_graph_error(graph, CRANK_USAGE, "the adapter `%s` is chosen row by row: adapters that are mixed act on all rows", attachment->where.name);
        if (attachment->scale != 1 || below != y0) y = crank_add(y0, crank_scale(crank_sub(y, below), attachment->scale));
        y0 = attachment->by_row ? chosen_rows(graph, attachment, linear, y, y0) : y;
    }
    return y0;
}

/* True when the recording shows the linear to a calibration pass. */
static bool watched(const crank_linear *linear)
{
    const linear_watch *watch = linear->owner->watch;
    return watch && linear->kind == CRANK_LINEAR_DENSE && watch->wanted[linear->index];
}

static void show(crank_graph *graph, crank_linear *linear, crank_tensor *x, crank_tensor *y)
{
    linear_watch *watch = linear->owner->watch;
    if (!stack_grow(crank_graph_context(graph), &watch->items, watch->count, &watch->capacity, sizeof *watch->items, "linears that are shown")) {
        crank_graph_error(graph, CRANK_FAILED, "out of memory: calibration");
        return;
    }
    crank_mark_gradient(y);
    watch->items[watch->count++] = (linear_seen){ linear, x, y };
}

crank_tensor *crank_linear_forward(crank_graph *graph, crank_linear *linear, crank_tensor *x)
{
    if (crank_graph_status(graph) != CRANK_OK || refuse_merged(graph, linear)) return x;
    crank_tensor *rows = as_rows(graph, linear, x), *y;
    crank_tensor *bias = linear->bias ? linear_use(graph, linear, linear->bias) : NULL;
    if (crank_graph_status(graph) != CRANK_OK) return x;
    if (!crank_linear_has_maps(linear) && !watched(linear)) y = base_product(graph, linear, rows, bias);
    else {
        y = stack_forward(graph, linear, rows, base_product(graph, linear, rows, NULL), stack_of(linear)->count);
        if (watched(linear)) show(graph, linear, rows, y);
        if (bias) y = crank_add(y, bias);
    }
    if (crank_graph_status(graph) != CRANK_OK || x->rank <= 2) return y;
    int64_t dims[CRANK_MAX_RANK];
    memcpy(dims, x->dims, sizeof dims);
    dims[x->rank - 1] = linear->out;
    return crank_reshape(y, x->rank, dims);
}

crank_tensor *crank_linear_weight(crank_graph *graph, crank_linear *linear)
{
    if (linear->quantized && !crank_linear_has_maps(linear)) return quantized_weight(graph, linear->quantized);
    if (!linear->weight) return no_weight(graph, linear);
    if (crank_linear_has_maps(linear))
        return crank_graph_error(graph, CRANK_USAGE, "%s: the base weight was asked for, but a method stands on it; go through "
                                                     "crank_linear_forward",
                                 linear->name);
    if (refuse_merged(graph, linear)) return crank_use(graph, linear->weight);
    return linear_use(graph, linear, linear->weight);
}

/* ---- what methods record ---- */

crank_tensor *crank_linear_down(crank_graph *graph, crank_linear *linear, crank_tensor *x, crank_tensor *A)
{
    A = crank_cast(A, crank_graph_compute(graph));
    if (linear->kind == CRANK_LINEAR_DENSE) return crank_matmul(x, false, A, true);
    return crank_gather_rows(crank_contiguous(crank_transpose(A, 0, 1)), x);
}

crank_tensor *crank_linear_below(crank_graph *graph, const crank_site *site, crank_tensor *x)
{
    linear_stack *stack = stack_of(site->linear);
    int           position = 0;
    while (!site->linear->owner->mixed && position < stack->count && stack->sites[position] != site) position++;
    return stack_forward(graph, site->linear, x, base_product(graph, site->linear, x, NULL), position);
}

crank_tensor *crank_linear_times(crank_graph *graph, crank_linear *linear, crank_tensor *P)
{
    if (!linear->weight && !linear->quantized) return no_weight(graph, linear);
    crank_dtype   compute = crank_graph_compute(graph);
    crank_tensor *weight = linear->quantized ? quantized_weight(graph, linear->quantized) : linear_use(graph, linear, linear->weight);
    return crank_matmul_full(weight, linear->kind == CRANK_LINEAR_EMBEDDING, crank_cast(P, compute), false, 1, NULL, NULL,
                             compute == CRANK_F64 ? CRANK_F64 : CRANK_F32);
}

crank_status crank_linear_make_room(crank_context *context, crank_linear *linear, int64_t rank)
{
    crank_param *weight = linear->weight;
    if (!weight || linear->quantized || linear->kind != CRANK_LINEAR_DENSE || weight->mapped) return CRANK_OK;
    int64_t room = crank_params_device(weight->owner)->room;
    if (rank > room || crank_dtype_bits(weight->view.dtype) != 16 || !crank_dtype_is_float(weight->view.dtype)) return CRANK_OK;
    return crank_param_make_room(context, weight, room);
}

/* ---- host access to the weight ---- */

/* Elements [first, first + n) of a parameter's memory as f32; `raw` holds n of its elements. */
static crank_status read_elements(crank_context *context, const crank_param *param, int64_t first, int64_t n, void *raw,
                                  float *out)
{
    crank_device *device = crank_params_device(param->owner);
    size_t        size = crank_dtype_bits(param->view.dtype) / 8;
    const char   *from = (const char *)param->view.data + (size_t)first * size;
    if (device->host) {
        crank_convert(out, CRANK_F32, from, param->view.dtype, (size_t)n);
        return CRANK_OK;
    }
    if (device->download(context, device, raw, from, (size_t)n * size)) return crank_last_status(context);
    crank_convert(out, CRANK_F32, raw, param->view.dtype, (size_t)n);
    return CRANK_OK;
}

/* Columns first.. of the table [V, d] as rows [count, V]: read row by row of the table. */
static crank_status embedding_rows(crank_context *context, const crank_linear *linear, int64_t first, int64_t count,
                                   float *rows)
{
    int64_t      d = linear->out, V = linear->in;
    float       *line = crank_alloc(context, (size_t)d, sizeof *line, "a row of the embedding");
    double      *raw = crank_alloc(context, (size_t)d, sizeof *raw, "a row of the embedding");
    crank_status status = line && raw ? CRANK_OK : CRANK_FAILED;
    for (int64_t v = 0; v < V && status == CRANK_OK; v++) {
        status = read_elements(context, linear->weight, v * linear->weight->view.strides[0], d, raw, line);
        for (int64_t i = 0; i < count && status == CRANK_OK; i++) rows[i * V + v] = line[first + i];
    }
    crank_free(line);
    crank_free(raw);
    return status;
}

crank_status crank_linear_rows(crank_context *context, const crank_linear *linear, int64_t first, int64_t count, float *rows)
{
    const crank_param *weight = linear->quantized ? linear->quantized->codes : linear->weight;
    if (!weight || !crank_dtype_is_float(weight->view.dtype))
        return crank_fail(context, CRANK_USAGE, "%s: rows of a base weight that is not dense", linear->name);
    if (!weight->view.data) return crank_fail(context, CRANK_USAGE, "%s: the weight has no memory (a dry model)", linear->name);
    if (first < 0 || count < 0 || first > linear->out - count)
        return crank_fail(context, CRANK_USAGE, "%s: rows %lld to %lld of %lld", linear->name, (long long)first,
                          (long long)(first + count), (long long)linear->out);
    if (linear->quantized) return quantized_rows(context, linear->quantized, first, count, rows);
    if (linear->kind == CRANK_LINEAR_EMBEDDING) return embedding_rows(context, linear, first, count, rows);
    double      *raw = crank_params_device(weight->owner)->host
                           ? NULL
                           : crank_alloc(context, (size_t)linear->in, sizeof *raw, "a row of the weight");
    crank_status status = raw || crank_params_device(weight->owner)->host ? CRANK_OK : CRANK_FAILED;
    for (int64_t i = 0; i < count && status == CRANK_OK; i++)
        status = read_elements(context, weight, (first + i) * weight->view.strides[0], linear->in, raw, rows + i * linear->in);
    crank_free(raw);
    return status;
}
