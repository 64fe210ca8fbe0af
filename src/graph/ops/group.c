/* group.c - collectives over the processes that share a run, as operations of the graph.
 *
 * What is begun runs beside the nodes that follow until it is waited for. Orders tie them down: each collective takes the order of the one
 * before it, so that all processes begin them alike; a wait takes the order of what it shall stand behind. A wait whose results nobody reads
 * must stay, since the memory of its operands is in use until then: the last wait's order is settled on something that lives. */
#include <string.h>

#include "graph/graph.h"
#include "graph/ops/op.h"

static crank_status infer_group(crank_graph *graph, crank_node *node)
{
    int k = node->output_count - 1;
    if (k < 0 || k > CRANK_GROUP_MOST || node->input_count <= k)
        return op_refuse(graph, "%s: %d tensors with %d operands: at most %d, and an order behind them", node->op->name, k, node->input_count, CRANK_GROUP_MOST);
    for (int i = 0; i < k; i++) {
        const crank_tensor *x = node->inputs[i];
        if (!x) return op_refuse(graph, "%s: operand %d is missing", node->op->name, i);
        if (node->op->state && !op_is_contiguous(x)) return op_refuse(graph, "%s: %s must be contiguous", node->op->name, op_shape(x).text);
        crank_set_output(node, i, x->dtype, x->rank, x->dims);
    }
    crank_set_output(node, k, CRANK_F32, 1, (const int64_t[]){1});
    return CRANK_OK;
}

static double no_flops(const crank_node *node)
{
    (void)node;
    return 0;
}

#define EACH_IN_PLACE {1, 2, 3, 4, 5, 6, 7, 8}
#define GROUP(label, ...) {.name = label, .infer = infer_group, .attributes_size = sizeof(crank_group_attributes), .inplace = EACH_IN_PLACE, .flops = no_flops, __VA_ARGS__}
const crank_op op_group_sum = GROUP("group_sum", );
const crank_op op_group_broadcast = GROUP("group_broadcast", .state = true);
const crank_op op_group_wait = GROUP("group_wait", .optional_outputs = (1u << CRANK_GROUP_MOST) - 1);
const crank_op op_group_settle = GROUP("group_settle", .state = true);

/* One node over `count` tensors behind two orders (the second may be NULL); *order: its own. NULL: the graph has failed. */
static crank_node *record(const crank_op *op, crank_tensor *const *tensors, int count, const int *roots, int bucket, crank_tensor *behind, crank_tensor **order)
{
    crank_graph           *graph = (*order)->graph;
    crank_group_attributes attributes = {.bucket = bucket};
    crank_tensor          *inputs[CRANK_GROUP_MOST + 2] = {0};
    if (crank_graph_status(graph) != CRANK_OK) return NULL;
    if (count < 0 || count > CRANK_GROUP_MOST) {
        op_refuse(graph, "%s: %d tensors are not between 0 and %d", op->name, count, CRANK_GROUP_MOST);
        return NULL;
    }
    for (int i = 0; i < count; i++) {
        inputs[i] = op->state ? tensors[i] : crank_contiguous(tensors[i]);
        attributes.root[i] = roots ? roots[i] : -1;
    }
    inputs[count] = *order;
    if (behind) inputs[count + 1] = behind;
    crank_node *node = crank_record(graph, op, inputs, count + 1 + (behind != NULL), &attributes, count + 1, (1u << (count + 1)) - 1);
    if (node) *order = node->outputs[count];
    return node;
}

crank_tensor *crank_group_order(crank_graph *graph) { return crank_fill(graph, CRANK_F32, 1, (const int64_t[]){1}, 0); }

void crank_group_sum(crank_tensor **tensors, int count, const int *roots, int bucket, crank_tensor *behind, crank_tensor **order)
{
    crank_node *node = record(&op_group_sum, tensors, count, roots, bucket, behind, order);
    for (int i = 0; node && i < count; i++) tensors[i] = node->outputs[i];
}

void crank_group_wait(crank_tensor **tensors, int count, int bucket, crank_tensor *behind, crank_tensor **order)
{
    crank_node *node = record(&op_group_wait, tensors, count, NULL, bucket, behind, order);
    for (int i = 0; node && i < count; i++) tensors[i] = node->outputs[i];
}

void crank_group_broadcast(crank_tensor *const *targets, int count, const int *roots, int bucket, crank_tensor **order)
{
    record(&op_group_broadcast, targets, count, roots, bucket, NULL, order);
}

void crank_group_settle(crank_tensor *const *targets, int count, int bucket, crank_tensor *behind, crank_tensor **order)
{
    record(&op_group_settle, targets, count, NULL, bucket, behind, order);
}
