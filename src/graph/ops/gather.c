/* gather.c - rows of a table and elements of rows, by integer ids; each is the reverse of its partner.
 *
 *     gather_rows  y_i = table[ids_i]            reverse: scatter_rows (sums rows of the same id)
 *     pick         y_ij = x[i, ids_ij]           reverse: unpick
 *
 * An id outside the table gives zeros and takes no gradient. */
#include <string.h>

#include "graph/ops/op.h"

static crank_status infer_gather_rows(crank_graph *graph, crank_node *node)
{
    const crank_tensor *table = node->inputs[0], *ids = node->inputs[1];
    if (!op_is_float(table) || table->rank != 2 || !op_is(ids, CRANK_I32, 1))
        return op_refuse(graph, "gather_rows: table %s must be a float matrix, ids %s i32", op_shape(table).text,
                         op_shape(ids).text);
    const copy_attributes *type = node->attributes;
    crank_set_output(node, 0, type->dtype, 2, (int64_t[]){ids->dims[0], table->dims[1]});
    return CRANK_OK;
}

static void gradient_gather_rows(crank_graph *graph, crank_node *node, crank_tensor *const *dy, crank_tensor **dx)
{
    (void)graph;
    crank_tensor *table = node->inputs[0], *inputs[2] = {op_rows(dy[0]), node->inputs[1]};
    dx[0] = op_gradient_for(op_one(&op_scatter_rows, inputs, 2, &(extent_attributes){table->dims[0]}), table);
}

const crank_op op_gather_rows = {.name = "gather_rows",
                                 .infer = infer_gather_rows,
                                 .gradient = gradient_gather_rows,
                                 .attributes_size = sizeof(copy_attributes),
                                 .cheap = true};

/* The sum over rows of one id is told in f32. */
static crank_status infer_scatter_rows(crank_graph *graph, crank_node *node)
{
    const crank_tensor *dy = node->inputs[0], *ids = node->inputs[1];
    int64_t extent = ((const extent_attributes *)node->attributes)->extent;
    if (!op_is_float(dy) || dy->rank != 2 || !op_is_vector(ids, dy->dims[0], CRANK_I32, CRANK_I32))
        return op_refuse(graph, "scatter_rows: rows %s and ids %s do not go together", op_shape(dy).text,
                         op_shape(ids).text);
    crank_set_output(node, 0, op_wide(dy->dtype), 2, (int64_t[]){extent, dy->dims[1]});
    return CRANK_OK;
}

static void gradient_scatter_rows(crank_graph *graph, crank_node *node, crank_tensor *const *dy, crank_tensor **dx)
{
    (void)graph;
    dx[0] = op_gradient_for(crank_gather_rows(dy[0], node->inputs[1]), node->inputs[0]);
}

const crank_op op_scatter_rows = {.name = "scatter_rows",
                                  .infer = infer_scatter_rows,
                                  .gradient = gradient_scatter_rows,
                                  .attributes_size = sizeof(extent_attributes)};

crank_tensor *crank_gather_rows(crank_tensor *table, crank_tensor *ids) { return crank_gather_rows_as(table, ids, table->dtype); }

crank_tensor *crank_gather_rows_as(crank_tensor *table, crank_tensor *ids, crank_dtype dtype)
{
    if (op_failed(table)) return table;
    int rank = ids->rank;
    if (rank >= CRANK_MAX_RANK) {
        op_refuse(table->graph, "gather_rows: ids %s have too many dims", op_shape(ids).text);
        return table;
    }
    int64_t dims[CRANK_MAX_RANK];
    memcpy(dims, ids->dims, sizeof dims);
    dims[rank] = table->rank == 2 ? table->dims[1] : 1;
    crank_tensor *inputs[2] = {op_rows(table), op_rows(op_reshaped(ids, 1, (int64_t[]){op_count(ids)}))};
    crank_tensor *y = op_one(&op_gather_rows, inputs, 2, &(copy_attributes){dtype});
    return rank == 1 ? y : op_reshaped(y, rank + 1, dims);
}

static crank_status infer_pick(crank_graph *graph, crank_node *node)
{
    const crank_tensor *x = node->inputs[0], *ids = node->inputs[1];
    if (!op_is_float(x) || x->rank != 2 || !op_is(ids, CRANK_I32, 2) || ids->dims[0] != x->dims[0])
        return op_refuse(graph, "pick: x %s must be float [n, c], ids %s i32 [n, k]", op_shape(x).text,
                         op_shape(ids).text);
    crank_set_output(node, 0, x->dtype, 2, ids->dims);
    return CRANK_OK;
}

static void gradient_pick(crank_graph *graph, crank_node *node, crank_tensor *const *dy, crank_tensor **dx)
{
    (void)graph;
    crank_tensor *x = node->inputs[0], *inputs[2] = {op_rows(dy[0]), node->inputs[1]};
    dx[0] = op_gradient_for(op_one(&op_unpick, inputs, 2, &(extent_attributes){x->dims[1]}), x);
}

const crank_op op_pick = {.name = "pick", .infer = infer_pick, .gradient = gradient_pick, .cheap = true};

static crank_status infer_unpick(crank_graph *graph, crank_node *node)
{
    const crank_tensor *dy = node->inputs[0], *ids = node->inputs[1];
    if (!op_is_float(dy) || !op_is(ids, CRANK_I32, 2) || !op_same_dims(dy, ids))
        return op_refuse(graph, "unpick: %s and ids %s do not go together", op_shape(dy).text, op_shape(ids).text);
    crank_set_output(node, 0, dy->dtype, 2,
                     (int64_t[]){dy->dims[0], ((const extent_attributes *)node->attributes)->extent});
    return CRANK_OK;
}

static void gradient_unpick(crank_graph *graph, crank_node *node, crank_tensor *const *dy, crank_tensor **dx)
{
    (void)graph;
    dx[0] = op_gradient_for(crank_pick(dy[0], node->inputs[1]), node->inputs[0]);
}

const crank_op op_unpick = {
    .name = "unpick", .infer = infer_unpick, .gradient = gradient_unpick, .attributes_size = sizeof(extent_attributes)};

crank_tensor *crank_pick(crank_tensor *x, crank_tensor *ids)
{
    if (op_failed(x)) return x;
    return op_one(&op_pick, (crank_tensor *[]){op_rows(x), op_rows(ids)}, 2, NULL);
}
