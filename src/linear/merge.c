/* merge.c - merging: the maps that are on are run on unit rows, and what they give becomes the base weight.
 *
 * A stack of affine maps is y = f(x) with f(x) = x W'^T + c. Row j of the identity gives column j of W':
 *
 *     W'^T = f(I) - f(0),   c = f(0) (added to the bias)
 *
 * The rows of W^T go in as y0, so that the base costs no product; a dense linear takes blocks of unit rows, an embedding its
 * ids (id -1 is the zero row). All is computed in f32 (f64 for an f64 weight) and rounded once to the weight's type. Every
 * changed parameter is kept until the whole merge has succeeded: a failure, or a non-finite value when `safe`, puts all of them
 * back. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "linear/stack.h"

/* ---- parameters: change and put back ---- */

static crank_status download(crank_context *context, const crank_param *param, void *host)
{
    crank_device *device = crank_params_device(param->owner);
    return device->download(context, device, host, param->view.data, crank_view_bytes(&param->view));
}

static crank_status upload(crank_context *context, crank_param *param, const void *host)
{
    crank_device *device = crank_params_device(param->owner);
    param->version++;
    return device->upload(context, device, param->view.data, host, crank_view_bytes(&param->view));
}

/* Remembers what the parameter is now, unless an earlier merge did. */
static crank_status back_up(crank_context *context, crank_linears *linears, crank_param *param)
{
    for (size_t i = 0; i < linears->backup_count; i++)
        if (linears->backups[i].param == param) return CRANK_OK;
    if (!stack_grow(context, &linears->backups, linears->backup_count, &linears->backup_capacity, sizeof *linears->backups,
                    "weights before a merge"))
        return CRANK_FAILED;
    merge_backup kept = { .param = param };
    if (param->mapped) {
        kept.mapped = param->view.data;
        if (crank_param_own(context, param)) return crank_last_status(context);
    } else {
        if (!(kept.bytes = crank_alloc(context, 1, crank_view_bytes(&param->view), param->name))) return CRANK_FAILED;
        if (download(context, param, kept.bytes)) {
            crank_free(kept.bytes);
            return crank_last_status(context);
        }
    }
    linears->backups[linears->backup_count++] = kept;
    return CRANK_OK;
}

/* Puts back the backups from number `first` on and forgets them. */
static crank_status put_back(crank_context *context, crank_linears *linears, size_t first)
{
    crank_status status = CRANK_OK;
    while (linears->backup_count > first) {
        merge_backup *kept = &linears->backups[--linears->backup_count];
        if (upload(context, kept->param, kept->bytes ? kept->bytes : kept->mapped)) status = crank_last_status(context);
        crank_free(kept->bytes);
    }
    return status;
}

void linears_forget_merge(crank_linears *linears)
{
    while (linears->backup_count) crank_free(linears->backups[--linears->backup_count].bytes);
    linears->final = false;
}

/* ---- the graph that runs a stack on a block of unit rows ---- */

typedef struct block_run {
    crank_graph  *graph;
    crank_tensor *x, *y0, *y;
    int64_t       rows;           /* of a block */
    void         *x_host, *y_host; /* [rows, in] or ids [rows]; y0 and y [rows, out] */
    void         *zero;           /* f(0) [out] */
    crank_dtype   type;           /* f32 or f64 */
    size_t        size;           /* of an element */
} block_run;

static void block_close(block_run *run)
{
    crank_graph_free(run->graph);
    crank_free(run->x_host);
    crank_free(run->y_host);
    crank_free(run->zero);
}

static crank_status block_open(crank_context *context, crank_linear *linear, block_run *run)
{
    bool    ids = linear->kind == CRANK_LINEAR_EMBEDDING;
    int64_t widest = linear->in > linear->out ? linear->in : linear->out;
    int64_t rows = ((int64_t)1 << 22) / widest; /* about 16 MB a buffer in f32 */
    rows = rows < 16 ? 16 : rows;
    *run = (block_run){ .rows = rows < linear->in ? rows : linear->in };
    run->type = linear->weight->view.dtype == CRANK_F64 ? CRANK_F64 : CRANK_F32;
    run->size = crank_dtype_bits(run->type) / 8;
    run->x_host = ids ? crank_alloc(context, (size_t)run->rows, sizeof(int32_t), "ids of a merge")
                      : crank_alloc(context, (size_t)(run->rows * linear->in), run->size, "unit rows of a merge");
    run->y_host = crank_alloc(context, (size_t)(run->rows * linear->out), run->size, "rows of a merge");
    run->zero = crank_alloc(context, (size_t)linear->out, run->size, "rows of a merge");
    run->graph = crank_graph_new(context, crank_params_device(linear->owner->params));
    if (!run->x_host || !run->y_host || !run->zero || !run->graph) return CRANK_FAILED;
    crank_graph *graph = run->graph;
    crank_graph_set_training(graph, false);
    crank_graph_set_compute(graph, run->type);
    run->x = ids ? crank_input(graph, "ids", CRANK_I32, 1, &run->rows)
                 : crank_input(graph, "unit rows", run->type, 2, (const int64_t[]){ run->rows, linear->in });
    run->y0 = crank_input(graph, "rows of the weight", run->type, 2, (const int64_t[]){ run->rows, linear->out });
    run->y = crank_keep(stack_forward(graph, linear, run->x, run->y0, stack_of(linear)->count));
    if (crank_graph_status(graph)) return crank_graph_status(graph);
    return crank_plan(graph, &(crank_plan_options){ 0 }, &(crank_plan_summary){ 0 });
}

/* f of what stands in x_host and y_host; the result replaces y_host. */
static crank_status block_step(block_run *run)
{
    crank_status status = crank_write(run->x, run->x_host);
    if (status == CRANK_OK) status = crank_write(run->y0, run->y_host);
    if (status == CRANK_OK) status = crank_run(run->graph);
    return status == CRANK_OK ? crank_read(run->y, run->y_host) : status;
}

static void set_one(const block_run *run, void *array, int64_t i)
{
    if (run->type == CRANK_F64) ((double *)array)[i] = 1;
    else ((float *)array)[i] = 1;
}

/* x = rows first.. of the identity (rows past `in` are zero); first < 0: zeros. */
static void set_units(const block_run *run, const crank_linear *linear, int64_t first)
{
    if (linear->kind == CRANK_LINEAR_EMBEDDING) {
        int32_t *ids = run->x_host;
        for (int64_t i = 0; i < run->rows; i++) ids[i] = first >= 0 && first + i < linear->in ? (int32_t)(first + i) : -1;
        return;
    }
    memset(run->x_host, 0, (size_t)(run->rows * linear->in) * run->size);
    for (int64_t i = 0; first >= 0 && i < run->rows && first + i < linear->in; i++)
        set_one(run, run->x_host, i * linear->in + first + i);
}

/* Columns first.. of W (bytes of the weight's type, [out, in] or the table [in, out]) as rows of y_host. */
static void load_columns(const block_run *run, const crank_linear *linear, const char *weight, int64_t first, int64_t count,
                         void *segment)
{
    crank_dtype type = linear->weight->view.dtype;
    size_t      size = crank_dtype_bits(type) / 8;
    if (linear->kind == CRANK_LINEAR_EMBEDDING) {
        crank_convert(run->y_host, run->type, weight + (size_t)(first * linear->out) * size, type, (size_t)(count * linear->out));
        return;
    }
    for (int64_t o = 0; o < linear->out; o++) {
        crank_convert(segment, run->type, weight + (size_t)(o * linear->in + first) * size, type, (size_t)count);
        for (int64_t i = 0; i < count; i++)
            memcpy((char *)run->y_host + (size_t)(i * linear->out + o) * run->size, (char *)segment + (size_t)i * run->size,
                   run->size);
    }
}

static double value_at(const block_run *run, const void *array, int64_t i)
{
    return run->type == CRANK_F64 ? ((const double *)array)[i] : ((const float *)array)[i];
}

/* The rows of y_host less f(0) go into columns first.. of the new weight. False: a non-finite value (after rounding). */
static bool store_columns(const block_run *run, const crank_linear *linear, char *weight, int64_t first, int64_t count,
                          double *line)
{
    crank_dtype type = linear->weight->view.dtype;
    size_t      size = crank_dtype_bits(type) / 8;
    bool        embedding = linear->kind == CRANK_LINEAR_EMBEDDING, finite = true;
    int64_t     lines = embedding ? count : linear->out, length = embedding ? linear->out : count;
    for (int64_t a = 0; a < lines; a++) {
        for (int64_t b = 0; b < length; b++) {
            int64_t o = embedding ? b : a, i = embedding ? a : b;
            line[b] = value_at(run, run->y_host, i * linear->out + o) - value_at(run, run->zero, o);
            if (run->type == CRANK_F32) line[b] = (float)line[b];
        }
        char *to = weight + (size_t)(embedding ? (first + a) * linear->out : a * linear->in + first) * size;
        crank_convert(to, type, line, CRANK_F64, (size_t)length);
        crank_convert(line, CRANK_F64, to, type, (size_t)length);
        for (int64_t b = 0; b < length; b++) finite = finite && isfinite(line[b]);
    }
    return finite;
}

/* ---- one linear ---- */

/* The new weight from the old one, both in host bytes of the weight's type. *finite: whether all of it is. */
static crank_status merged_weight(crank_context *context, crank_linear *linear, block_run *run, const char *before, char *after,
                                  bool *finite)
{
    int64_t longest = run->rows > linear->out ? run->rows : linear->out;
    double *line = crank_alloc(context, (size_t)longest, sizeof *line, "a line of a merge");
    if (!line) return CRANK_FAILED;
    set_units(run, linear, -1);
    memset(run->y_host, 0, (size_t)(run->rows * linear->out) * run->size);
    crank_status status = block_step(run);
    memcpy(run->zero, run->y_host, (size_t)linear->out * run->size);
    *finite = true;
    for (int64_t first = 0; status == CRANK_OK && first < linear->in; first += run->rows) {
        int64_t count = linear->in - first < run->rows ? linear->in - first : run->rows;
        set_units(run, linear, first);
        load_columns(run, linear, before, first, count, line);
        status = block_step(run);
        if (status == CRANK_OK && !store_columns(run, linear, after, first, count, line)) *finite = false;
    }
    crank_free(line);
    return status;
}

/* Adds f(0) to the bias. Nothing is added where a value is not finite: the weight is not finite then either. */
static crank_status merge_bias(crank_context *context, crank_linear *linear, const block_run *run, bool *finite)
{
    bool any = false;
    for (int64_t o = 0; o < linear->out; o++) {
        any = any || value_at(run, run->zero, o) != 0;
        *finite = *finite && isfinite(value_at(run, run->zero, o));
    }
    if (!any || !*finite) return CRANK_OK;
    if (!linear->bias)
        return crank_fail(context, CRANK_USAGE, "%s has no bias, but its maps add a constant to every output: it cannot be merged",
                          linear->name);
    double *bias = crank_alloc(context, (size_t)linear->out, sizeof *bias, "a bias");
    if (!bias) return CRANK_FAILED;
    crank_status status = crank_param_read(context, linear->bias, bias, CRANK_F64);
    for (int64_t o = 0; o < linear->out; o++) {
        bias[o] += value_at(run, run->zero, o);
        *finite = *finite && isfinite(bias[o]);
    }
    if (status == CRANK_OK) status = back_up(context, linear->owner, linear->bias);
    if (status == CRANK_OK) status = crank_param_write(context, linear->bias, bias, CRANK_F64);
    crank_free(bias);
    return status;
}

static crank_status merge_linear(crank_context *context, crank_linear *linear, bool safe)
{
    size_t       bytes = crank_view_bytes(&linear->weight->view);
    bool         finite;
    block_run    run;
    char        *before = crank_alloc(context, 1, bytes, linear->name), *after = crank_alloc(context, 1, bytes, linear->name);
    crank_status status = block_open(context, linear, &run);
    if (!before || !after) status = CRANK_FAILED;
    if (status == CRANK_OK) status = download(context, linear->weight, before);
    if (status == CRANK_OK) status = merged_weight(context, linear, &run, before, after, &finite);
    crank_free(before);
    if (status == CRANK_OK) status = merge_bias(context, linear, &run, &finite);
    if (status == CRANK_OK && safe && !finite)
        status = crank_fail(context, CRANK_BAD_DATA, "%s: merging gives values that are not finite; nothing was changed",
                            linear->name);
    if (status == CRANK_OK) status = back_up(context, linear->owner, linear->weight);
    if (status == CRANK_OK) status = upload(context, linear->weight, after);
    block_close(&run);
    crank_free(after);
    return status;
}

/* ---- the model ---- */

static crank_status check(crank_context *context, const crank_linears *linears, const crank_linear *linear)
{
    const linear_stack *stack = stack_of(linear);
    for (int i = 0; i < stack->count; i++)
        if (attachment_acts(stack->attachments[i]) && !stack->attachments[i]->map->affine)
            return crank_fail(context, CRANK_USAGE, "%s: the method %s is not affine in x and cannot be merged", linear->name,
                              stack->attachments[i]->map->name);
    if (!linear->weight || !crank_dtype_is_float(linear->weight->view.dtype) || crank_dtype_bits(linear->weight->view.dtype) < 16)
        return crank_fail(context, CRANK_USAGE, "%s: merging needs a dense base weight in a float type", linear->name);
    if (!linear->weight->view.data) return crank_fail(context, CRANK_USAGE, "%s: the weight has no memory (a dry model)", linear->name);
    for (size_t i = 0; i < linears->count; i++)
        if (linears->items[i] != linear && linears->items[i]->weight == linear->weight)
            return crank_fail(context, CRANK_USAGE, "%s shares its weight with %s: merging one would change the other; untie them "
                                                    "first",
                              linear->name, linears->items[i]->name);
    return CRANK_OK;
}

crank_status crank_linears_merge(crank_context *context, crank_linears *linears, bool safe, bool keep_original)
{
    size_t       first = linears->backup_count;
    crank_status status = CRANK_OK;
    bool         any = false;
    for (size_t i = 0; status == CRANK_OK && i < linears->count; i++)
        if (crank_linear_has_maps(linears->items[i])) {
            any = true;
            status = check(context, linears, linears->items[i]);
        }
    if (status == CRANK_OK && !any) {
        crank_log(context, CRANK_WARNING, "merge: no adapter is on; nothing to do");
        return CRANK_OK;
    }
    /* A second merge on top of a kept one starts from weights that no backup holds. */
    bool merged = false;
    for (size_t i = 0; i < linears->attachment_count; i++) merged = merged || linears->attachments[i]->merged;
    if (status == CRANK_OK && merged)
        status = crank_fail(context, CRANK_USAGE, "an adapter is merged already: unmerge it, or remove it to make its merge "
                                                  "permanent, before another is merged");
    for (size_t i = 0; status == CRANK_OK && i < linears->count; i++)
        if (crank_linear_has_maps(linears->items[i])) status = merge_linear(context, linears->items[i], safe);
    if (status) {
        char *message = crank_strdup(context, crank_message(context));
        put_back(context, linears, first);
        if (message) crank_fail(context, status, "%s", message);
        crank_free(message);
        return status;
    }
    for (size_t i = 0; i < linears->attachment_count; i++)
        if (attachment_acts(linears->attachments[i])) linears->attachments[i]->merged = true;
    if (!keep_original) {
        linears_forget_merge(linears);
        linears->final = true;
    }
    return CRANK_OK;
}

crank_status crank_linears_unmerge(crank_context *context, crank_linears *linears)
{
    bool merged = false;
    for (size_t i = 0; i < linears->attachment_count; i++) merged = merged || linears->attachments[i]->merged;
    if (!merged) {
        crank_log(context, CRANK_WARNING, "unmerge: no adapter is merged; nothing to do");
        return CRANK_OK;
    }
    if (linears->final)
        return crank_fail(context, CRANK_USAGE, "the weights before the merge were not kept: merge with keep_original to be able "
                                                "to unmerge");
    crank_status status = put_back(context, linears, 0);
    for (size_t i = 0; i < linears->attachment_count; i++) linears->attachments[i]->merged = false;
    return status;
}
