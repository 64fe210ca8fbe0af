/* plan_augment.c - a product with a frozen weight and the low-rank term upon it become one product of longer rows.
 *
 *     y = x W^T + s t B^T + c0      ->   y = [x | t] [W | s B]^T + c0          W [out, in], t = x A^T [n, r], B [out, r]
 *     dx = dy W + s u A + c0        ->   dx = [dy | u] [W ; s A] + c0          u = dy B [n, r], A [r, in]
 *
 * so that y is not read and written again for a term of rank r. The weight has room for B and A (crank_param_make_room); here x and dy get
 * rows with room as well, if every body that touches them takes such rows. The device's body puts the term's operands into the room. */
#include <stdlib.h>
#include <string.h>

#include "graph/graph.h"

extern const crank_op op_matmul_augmented;

static bool plain_product(const crank_node *node)
{
    const crank_matmul_attributes *attributes = node->attributes;
    return !strcmp(node->op->name, "matmul") && node->outputs[0]->rank == 2 && node->inputs[0]->rank == 2 && node->inputs[1]->rank == 2 &&
           !attributes->trans_a && !(node->input_count > 2 && node->inputs[2]);
}

static bool trans_b(const crank_node *node) { return ((const crank_matmul_attributes *)node->attributes)->trans_b; }
static double alpha_of(const crank_node *node) { return ((const crank_matmul_attributes *)node->attributes)->alpha; }

static int uses_of(const crank_graph *graph, const crank_tensor *x)
{
    int uses = 0;
    for (int i = 0; i < graph->node_count; i++)
        for (int j = 0; graph->nodes[i] && j < graph->nodes[i]->input_count; j++) uses += graph->nodes[i]->inputs[j] == x;
    return uses;
}

static crank_tensor *start_of(const crank_node *node) { return node->input_count > 3 ? node->inputs[3] : NULL; }

/* May `term` be the low-rank term upon `product`? */
static bool belongs(const crank_node *product, const crank_node *term)
{
    const crank_tensor *weight = product->inputs[1], *t = term->inputs[0];
    const crank_param  *param = weight->param;
    if (weight->base || RECORD(weight)->home != HOME_PARAM || param->trainable || (t->dims[1] + 7) / 8 * 8 > param->room) return false;
    return alpha_of(product) == 1 && trans_b(product) == trans_b(term) && t->dtype == weight->dtype && product->inputs[0]->dtype == weight->dtype &&
           product->outputs[0]->dtype == weight->dtype && term->outputs[0]->dtype == weight->dtype;
}

/* A product that starts from another one, read by nobody else; NULL: it does not. */
static crank_node *inner_product(const crank_graph *graph, const crank_node *outer)
{
    crank_tensor *y = start_of(outer);
    if (!y || !plain_product(outer) || !y->node || y->base || RECORD(y)->kept || !plain_product(y->node)) return NULL;
    return uses_of(graph, y) == 1 ? y->node : NULL;
}

/* ---- rows with room ---- */

/* Strides and offset of a tensor that looks at rows of `columns` elements, when `room` more come behind each; false: it runs across rows. */
static bool stretch(crank_tensor *tensor, int64_t columns, int64_t room)
{
    int64_t inside = tensor->offset % columns;
    for (int axis = 0; axis < tensor->rank; axis++) {
        if (tensor->dims[axis] <= 1) continue;
        if (tensor->strides[axis] < columns) inside += (tensor->dims[axis] - 1) * tensor->strides[axis];
        else if (tensor->strides[axis] % columns) return false;
    }
    if (inside >= columns) return false;
    for (int axis = 0; axis < tensor->rank; axis++)
        if (tensor->strides[axis] >= columns) tensor->strides[axis] += tensor->strides[axis] / columns * room;
    tensor->offset += tensor->offset / columns * room;
    return true;
}

/* The device has a body for every node that touches memory of `root`. */
static bool all_served(crank_graph *graph, const crank_tensor *root)
{
    crank_view views[CRANK_MAX_INPUTS + CRANK_MAX_OUTPUTS];
    crank_body body;
    for (int i = 0; i < graph->node_count; i++) {
        const crank_node *node = graph->nodes[i];
        if (!node || node_is_view(node)) continue;
        bool touches = false;
        for (int j = 0; j < node->input_count; j++) touches |= node->inputs[j] && tensor_root(node->inputs[j]) == root;
        for (int j = 0; j < node->output_count; j++) touches |= node->outputs[j] && tensor_root(node->outputs[j]) == root;
        if (touches && !plan_find_body(graph, node, views, &body)) return false;
    }
    return true;
}

typedef struct layout {
    crank_tensor *tensor;
    int64_t       strides[CRANK_MAX_RANK], offset;
} layout;

/* Room behind the rows of x [n, columns], which is the whole of its root. */
static bool give_room(crank_graph *graph, crank_tensor *x, int64_t room)
{
    crank_tensor *root = tensor_root(x);
    int64_t       columns = x->dims[1];
    if (x->strides[1] != 1) return false;
    if (RECORD(root)->home != HOME_ARENA || !root->node || root->node->op->state || root->rank < 2 || tensor_count(root) != tensor_count(x)) return false;
    if (x->strides[0] == columns + room) return true; /* by an earlier pattern */
    if (x->strides[0] != columns || x->offset || columns % 64) return false;
    layout *old = malloc((size_t)graph->tensor_count * sizeof *old);
    int     count = 0;
    bool    done = old != NULL;
    for (int i = 0; i < graph->tensor_count && done; i++) {
        crank_tensor *tensor = &graph->tensors[i]->public;
        if (tensor_root(tensor) != root) continue;
        old[count].tensor = tensor;
        old[count].offset = tensor->offset;
        memcpy(old[count++].strides, tensor->strides, sizeof tensor->strides);
        done = !graph->tensors[i]->kept && stretch(tensor, columns, room);
    }
    done = done && all_served(graph, root);
    for (int i = 0; i < count && !done; i++) {
        old[i].tensor->offset = old[i].offset;
        memcpy(old[i].tensor->strides, old[i].strides, sizeof old[i].strides);
    }
    free(old);
    return done;
}

/* ---- the pattern ---- */

static bool served(crank_graph *graph, crank_tensor *const *inputs, crank_tensor *output, crank_augmented_attributes *attributes)
{
    crank_view views[6];
    crank_body body;
    crank_node node = {.op = &op_matmul_augmented, .input_count = 5, .outputs = {output}, .output_count = 1, .attributes = attributes};
    memcpy(node.inputs, inputs, 5 * sizeof *inputs);
    return plan_find_body(graph, &node, views, &body);
}

/* The product and its term, in whichever order they come, at list index `at`. */
static bool augment(crank_graph *graph, int at)
{
    crank_node *outer = graph->nodes[at], *inner = inner_product(graph, outer);
    bool        term_last = inner && belongs(inner, outer);
    crank_node *product = term_last ? inner : outer, *term = term_last ? outer : inner;
    if (!inner || (!term_last && !belongs(outer, inner)) || !give_room(graph, product->inputs[0], product->inputs[1]->param->room)) return true;
    crank_augmented_attributes attributes = {trans_b(term), alpha_of(term)}, *kept;
    crank_tensor              *inputs[5] = {product->inputs[0], product->inputs[1], term->inputs[0], term->inputs[1], start_of(inner)};
    if (!served(graph, inputs, outer->outputs[0], &attributes)) return true;
    if (!(kept = malloc(sizeof *kept))) {
        crank_fail(graph->context, CRANK_FAILED, "out of memory: planning a graph");
        return false;
    }
    *kept = attributes;
    for (int i = 0; i < graph->node_count; i++)
        if (graph->nodes[i] == inner) graph->nodes[i] = NULL;
    inner->outputs[0]->node = NULL;
    free(inner->attributes), free(inner), free(outer->attributes);
    outer->op = &op_matmul_augmented;
    outer->attributes = kept;
    outer->input_count = 5;
    memcpy(outer->inputs, inputs, sizeof inputs);
    graph->summary.fused++;
    return true;
}

bool plan_augment(crank_graph *graph)
{
    bool done = true;
    if (!graph->device->room) return true;
    for (int i = 0; i < graph->node_count && done; i++)
        if (graph->nodes[i] && !strcmp(graph->nodes[i]->op->name, "matmul")) done = augment(graph, i);
    int count = 0;
    for (int i = 0; i < graph->node_count; i++)
        if (graph->nodes[i]) graph->nodes[count++] = graph->nodes[i];
    graph->node_count = count;
    return done;
}
