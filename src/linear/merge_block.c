/* merge_block.c - W'^T = f(I) - f(0), block by block.
 *
 * A block of unit rows (or ids of an embedding) and the rows of W^T that belong to it go through the stack of maps as x and y0.
 * For a dense weight the rows of W^T are columns of W: both ways between them are taken in tiles of LINES columns, which stay in
 * cache, by all threads. */
#include "linear/merge_block.h"

#include <math.h>
#include <omp.h>
#include <string.h>

#include "linear/stack.h"

enum { LINES = 32 };

static int64_t longest(const merge_block *block)
{
    return block->rows > block->linear->out ? block->rows : block->linear->out;
}

void merge_block_close(merge_block *block)
{
    crank_graph_free(block->graph);
    crank_free(block->x_host);
    crank_free(block->y_host);
    crank_free(block->zero);
    crank_free(block->lines);
}

static crank_status take_memory(merge_block *block)
{
    crank_context      *context = block->context;
    const crank_linear *linear = block->linear;
    size_t              threads = (size_t)crank_threads(context);
    block->x_host = linear->kind == CRANK_LINEAR_EMBEDDING
                        ? crank_alloc(context, (size_t)block->rows, sizeof(int32_t), "ids of a merge")
                        : crank_alloc(context, (size_t)(block->rows * linear->in), block->size, "unit rows of a merge");
    block->y_host = crank_alloc(context, (size_t)(block->rows * linear->out), block->size, "rows of a merge");
    block->zero = crank_alloc(context, (size_t)linear->out, block->size, "rows of a merge");
    block->lines = crank_alloc(context, threads * LINES * (size_t)longest(block), block->size, "rows of a merge");
    return block->x_host && block->y_host && block->zero && block->lines ? CRANK_OK : CRANK_FAILED;
}

crank_status merge_block_open(crank_context *context, crank_linear *linear, merge_block *block)
{
    bool    ids = linear->kind == CRANK_LINEAR_EMBEDDING;
    int64_t widest = linear->in > linear->out ? linear->in : linear->out;
    int64_t rows = ((int64_t)1 << 22) / widest; /* about 16 MB a buffer in f32 */
    rows = rows < 16 ? 16 : rows;
    *block = (merge_block){ .context = context, .linear = linear, .rows = rows < linear->in ? rows : linear->in };
    block->type = linear->weight->view.dtype == CRANK_F64 ? CRANK_F64 : CRANK_F32;
    block->size = crank_dtype_bits(block->type) / 8;
    block->graph = crank_graph_new(context, crank_params_device(linear->owner->params));
    if (!block->graph || take_memory(block)) return CRANK_FAILED;
    crank_graph *graph = block->graph;
    crank_graph_set_training(graph, false);
    crank_graph_set_compute(graph, block->type);
    block->x = ids ? crank_input(graph, "ids", CRANK_I32, 1, &block->rows)
                   : crank_input(graph, "unit rows", block->type, 2, (const int64_t[]){ block->rows, linear->in });
    block->y0 = crank_input(graph, "rows of the weight", block->type, 2, (const int64_t[]){ block->rows, linear->out });
    block->y = crank_keep(stack_forward(graph, linear, block->x, block->y0, stack_of(linear)->count));
    return crank_graph_status(graph) ? crank_graph_status(graph) : crank_plan(graph, NULL, NULL);
}

/* ---- what goes in and out ---- */

/* x = rows first.. of the identity (rows past `in` are zero); first < 0: zeros. */
static void set_units(const merge_block *block, int64_t first)
{
    int64_t in = block->linear->in;
    if (block->linear->kind == CRANK_LINEAR_EMBEDDING) {
        int32_t *ids = block->x_host;
        for (int64_t i = 0; i < block->rows; i++) ids[i] = first >= 0 && first + i < in ? (int32_t)(first + i) : -1;
        return;
    }
    memset(block->x_host, 0, (size_t)(block->rows * in) * block->size);
    for (int64_t i = 0; first >= 0 && i < block->rows && first + i < in; i++) {
        if (block->type == CRANK_F64) ((double *)block->x_host)[i * in + first + i] = 1;
        else ((float *)block->x_host)[i * in + first + i] = 1;
    }
}

/* to[i, k] = from[k, i]: `lines` rows of `from`, `rows` of `to`, strides in elements. */
static void turn(void *to, int64_t to_stride, const void *from, int64_t from_stride, int64_t rows, int64_t lines, size_t size)
{
    if (size == sizeof(double)) {
        for (int64_t i = 0; i < rows; i++)
            for (int64_t k = 0; k < lines; k++) ((double *)to)[i * to_stride + k] = ((const double *)from)[k * from_stride + i];
        return;
    }
    for (int64_t i = 0; i < rows; i++)
        for (int64_t k = 0; k < lines; k++) ((float *)to)[i * to_stride + k] = ((const float *)from)[k * from_stride + i];
}

static void *own_lines(const merge_block *block)
{
    return (char *)block->lines + (size_t)omp_get_thread_num() * LINES * (size_t)longest(block) * block->size;
}

/* Columns first.. of W (the table's rows, for an embedding) become the rows of y_host. */
static void load(const merge_block *block, const char *weight, int64_t first, int64_t count)
{
    const crank_linear *linear = block->linear;
    crank_dtype         type = linear->weight->view.dtype;
    size_t              size = crank_dtype_bits(type) / 8;
    int64_t             in = linear->in, out = linear->out;
    if (linear->kind == CRANK_LINEAR_EMBEDDING) {
        crank_convert(block->y_host, block->type, weight + (size_t)(first * out) * size, type, (size_t)(count * out));
        return;
    }
#pragma omp parallel for num_threads(crank_threads(block->context)) schedule(static)
    for (int64_t o = 0; o < out; o += LINES) {
        int64_t lines = out - o < LINES ? out - o : LINES;
        char   *buffer = own_lines(block);
        for (int64_t k = 0; k < lines; k++)
            crank_convert(buffer + (size_t)(k * count) * block->size, block->type, weight + (size_t)((o + k) * in + first) * size,
                          type, (size_t)count);
        turn((char *)block->y_host + (size_t)o * block->size, out, buffer, count, count, lines, block->size);
    }
}

/* Takes f(0) from a line of results, writes it in the weight's type, and says whether what was written is finite. Element b of
 * the line belongs to output o + b * step. */
static bool finish_line(const merge_block *block, void *line, int64_t length, int64_t o, int64_t step, char *to)
{
    crank_dtype type = block->linear->weight->view.dtype;
    bool        finite = true;
    if (block->type == CRANK_F64) {
        for (int64_t b = 0; b < length; b++) ((double *)line)[b] -= ((const double *)block->zero)[o + b * step];
    } else {
        for (int64_t b = 0; b < length; b++) ((float *)line)[b] -= ((const float *)block->zero)[o + b * step];
    }
    crank_convert(to, type, line, block->type, (size_t)length);
    if (type != block->type) crank_convert(line, block->type, to, type, (size_t)length);
    if (block->type == CRANK_F64)
        for (int64_t b = 0; b < length; b++) finite = finite && isfinite(((const double *)line)[b]);
    else
        for (int64_t b = 0; b < length; b++) finite = finite && isfinite(((const float *)line)[b]);
    return finite;
}

/* The rows of y_host less f(0) become columns first.. of the new weight. False: a value that is not finite. */
static bool store(const merge_block *block, char *weight, int64_t first, int64_t count)
{
    const crank_linear *linear = block->linear;
    size_t              size = crank_dtype_bits(linear->weight->view.dtype) / 8;
    int64_t             in = linear->in, out = linear->out;
    bool                finite = true;
    if (linear->kind == CRANK_LINEAR_EMBEDDING) {
        for (int64_t i = 0; i < count; i++)
            finite &= finish_line(block, (char *)block->y_host + (size_t)(i * out) * block->size, out, 0, 1,
                                  weight + (size_t)((first + i) * out) * size);
        return finite;
    }
#pragma omp parallel for num_threads(crank_threads(block->context)) schedule(static) reduction(&& : finite)
    for (int64_t o = 0; o < out; o += LINES) {
        int64_t lines = out - o < LINES ? out - o : LINES;
        char   *buffer = own_lines(block);
        turn(buffer, count, (char *)block->y_host + (size_t)o * block->size, out, lines, count, block->size);
        for (int64_t k = 0; k < lines; k++)
            finite = finish_line(block, buffer + (size_t)(k * count) * block->size, count, o + k, 0,
                                 weight + (size_t)((o + k) * in + first) * size) && finite;
    }
    return finite;
}

/* ---- run ---- */

/* f of what stands in x_host and y_host; the result replaces y_host. */
static crank_status step(merge_block *block)
{
    crank_status status = crank_write(block->x, block->x_host);
    if (status == CRANK_OK) status = crank_write(block->y0, block->y_host);
    if (status == CRANK_OK) status = crank_run(block->graph);
    return status == CRANK_OK ? crank_read(block->y, block->y_host) : status;
}

crank_status merge_block_run(merge_block *block, const char *before, char *after, bool *finite)
{
    int64_t in = block->linear->in;
    set_units(block, -1);
    memset(block->y_host, 0, (size_t)(block->rows * block->linear->out) * block->size);
    crank_status status = step(block);
    memcpy(block->zero, block->y_host, (size_t)block->linear->out * block->size);
    *finite = true;
    for (int64_t first = 0; status == CRANK_OK && first < in; first += block->rows) {
        int64_t count = in - first < block->rows ? in - first : block->rows;
        set_units(block, first);
        load(block, before, first, count);
        status = step(block);
        if (status == CRANK_OK && !store(block, after, first, count)) *finite = false;
    }
    return status;
}
