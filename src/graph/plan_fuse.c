/* plan_fuse.c - patterns that one body serves better than several.
 *
 *   affine(matmul(a, b))            -> matmul with alpha                          (LoRA's scale)
 *   add(matmul(a, b), r)            -> matmul that starts from c0 = r, at the place of the add (r exists there); of two products
 *                                      the one of fewer terms starts from the other: bodies of long sums lose a tenth by it
 *   add(matmul(c0 = matmul(..)), r) -> the inner matmul starts from r            (a linear with a map, plus the residual)
 *   add(matmul(a, b), row)          -> matmul with a bias
 *   rmsnorm(add(x, r))              -> rmsnorm that also writes the sum           (when the add found no product)
 *   add(rmsnorm_backward(..), r)    -> rmsnorm_backward with the residual's gradient
 *
 * A producer is fused only when the pattern is its single use; layernorm goes as rmsnorm. */
#include <stdlib.h>
#include <string.h>

#include "graph/graph.h"

typedef struct fusion {
    crank_graph *graph;
    int         *uses;     /* of each tensor, by id */
    int         *position; /* of each node's place in the list, by node id */
} fusion;

static bool same_shape(const crank_tensor *a, const crank_tensor *b)
{
    return a->dtype == b->dtype && a->rank == b->rank && !memcmp(a->dims, b->dims, (size_t)a->rank * sizeof *a->dims);
}

static bool is(const crank_node *node, const char *name) { return node && !strcmp(node->op->name, name); }

/* The node that makes x, when it is `name` and x is its first output, used once and not kept. */
static crank_node *sole_producer(const fusion *pass, const crank_tensor *x, const char *name)
{
    if (!x->node || x->base || !is(x->node, name) || x->node->outputs[0] != x) return NULL;
    return pass->uses[x->id] == 1 && !RECORD(x)->kept ? x->node : NULL;
}

static int place_of(const fusion *pass, const crank_tensor *x) { return x->node ? pass->position[x->node->id] : -1; }

/* Moves `producer` into the place of `user` (list index i): it now makes the user's result. */
static void take_place(fusion *pass, crank_node *producer, int i)
{
    crank_node *user = pass->graph->nodes[i];
    int         old = pass->position[producer->id];
    crank_tensor *lost = producer->outputs[0];
    producer->outputs[0] = user->outputs[0];
    producer->outputs[0]->node = producer;
    lost->node = NULL;
    producer->backward = user->backward;
    producer->segment = user->segment;
    producer->id = user->id; /* it is as free to move as what it replaces */
    pass->graph->nodes[old] = NULL;
    pass->graph->nodes[i] = producer;
    pass->position[producer->id] = i;
    free(user->attributes);
    free(user);
    pass->graph->summary.fused++;
}

static bool is_row(const crank_tensor *row, const crank_tensor *matrix)
{
    if (row->dtype != matrix->dtype || row->rank < 1 || matrix->rank < 1) return false;
    for (int i = 0; i < row->rank - 1; i++)
        if (row->dims[i] != 1) return false;
    return row->dims[row->rank - 1] == matrix->dims[matrix->rank - 1] && row->strides[row->rank - 1] == 1;
}

static void set_operand(crank_node *node, int i, crank_tensor *tensor)
{
    node->inputs[i] = tensor;
    if (node->input_count <= i) node->input_count = i + 1;
}

static crank_tensor *operand(const crank_node *node, int i) { return i < node->input_count ? node->inputs[i] : NULL; }

/* add(product, other) at list index i, product being operand `which`. */
static bool fuse_add_product(fusion *pass, int i, int which)
{
    crank_node   *add = pass->graph->nodes[i];
    crank_tensor *product = add->inputs[which], *other = add->inputs[1 - which], *result = add->outputs[0];
    crank_node   *matmul = sole_producer(pass, product, "matmul");
    if (!matmul || !same_shape(product, result) || other == product) return false;
    if (same_shape(other, result) && (other->rank == 0 || other->strides[other->rank - 1] == 1)) {
        crank_tensor *inner = operand(matmul, 3);
        if (!inner) {
            set_operand(matmul, 3, other);
            take_place(pass, matmul, i);
            return true;
        }
        crank_node *first = sole_producer(pass, inner, "matmul");
        if (!first || operand(first, 3) || place_of(pass, tensor_root(other)) >= pass->position[first->id]) return false;
        set_operand(first, 3, other);
        take_place(pass, matmul, i);
        return true;
    }
    if (is_row(other, result) && !operand(matmul, 2)) {
        if (other->rank != 1) return false;
        set_operand(matmul, 2, other);
        take_place(pass, matmul, i);
        return true;
    }
    return false;
}

static bool fuse_scale(fusion *pass, int i)
{
    crank_node                    *affine = pass->graph->nodes[i];
    const crank_affine_attributes *attributes = affine->attributes;
    crank_node                    *matmul = sole_producer(pass, affine->inputs[0], "matmul");
    if (!matmul || attributes->shift != 0 || operand(matmul, 2) || operand(matmul, 3)) return false;
    ((crank_matmul_attributes *)matmul->attributes)->alpha *= attributes->scale;
    take_place(pass, matmul, i);
    return true;
}

/* Is every use of x after list index i? Uses before it would need the sum before the norm makes it. */
static bool used_only_after(const fusion *pass, const crank_tensor *x, int i)
{
    for (int k = place_of(pass, x) + 1; k < i; k++) {
        const crank_node *node = pass->graph->nodes[k];
        for (int j = 0; node && j < node->input_count; j++)
            if (node->inputs[j] && tensor_root(node->inputs[j]) == x) return false;
    }
    return true;
}

/* norm(add(x, r)): `residual` and `sum` are the places of those operands in the norm's lists. */
static bool fuse_norm(fusion *pass, int i, int residual, int sum)
{
    crank_node   *norm = pass->graph->nodes[i];
    crank_tensor *total = norm->inputs[0];
    crank_node   *add = total->node;
    if (operand(norm, residual) || total->base || !is(add, "binary") || add->block != norm->block || add->segment != norm->segment)
        return false;
    if (((crank_binary_attributes *)add->attributes)->kind != CRANK_ADD || !same_shape(add->inputs[0], total) ||
        !same_shape(add->inputs[1], total) || !used_only_after(pass, total, i))
        return false;
    norm->inputs[0] = add->inputs[0];
    set_operand(norm, residual, add->inputs[1]);
    norm->outputs[sum] = total;
    if (norm->output_count <= sum) norm->output_count = sum + 1;
    total->node = norm;
    pass->graph->nodes[pass->position[add->id]] = NULL;
    free(add->attributes);
    free(add);
    pass->graph->summary.fused++;
    return true;
}

/* add(norm_backward(..), r) */
static bool fuse_norm_backward(fusion *pass, int i, int which, const char *name, int place)
{
    crank_node   *add = pass->graph->nodes[i];
    crank_tensor *other = add->inputs[1 - which];
    crank_node   *norm = sole_producer(pass, add->inputs[which], name);
    if (!norm || operand(norm, place) || !same_shape(other, add->outputs[0]) || !same_shape(add->inputs[which], other)) return false;
    for (int j = 1; j < norm->output_count; j++) /* its other results must not be needed before the add's place */
        if (norm->outputs[j] && !used_only_after(pass, norm->outputs[j], i)) return false;
    set_operand(norm, place, other);
    take_place(pass, norm, i);
    return true;
}

/* Terms of a sum of the product that makes x; none: INT64_MAX */
static int64_t terms(const fusion *pass, const crank_tensor *x)
{
    const crank_node *matmul = sole_producer(pass, x, "matmul");
    if (!matmul) return INT64_MAX;
    const crank_tensor *a = matmul->inputs[0];
    return a->dims[a->rank - (((const crank_matmul_attributes *)matmul->attributes)->trans_a ? 2 : 1)];
}

static void fuse_node(fusion *pass, int i)
{
    crank_node *node = pass->graph->nodes[i];
    if (is(node, "affine")) {
        fuse_scale(pass, i);
    } else if (is(node, "binary") && ((crank_binary_attributes *)node->attributes)->kind == CRANK_ADD) {
        int first = terms(pass, node->inputs[1]) < terms(pass, node->inputs[0]);
        for (int k = 0, which = first; k < 2; k++, which = 1 - first)
            if (fuse_add_product(pass, i, which) || fuse_norm_backward(pass, i, which, "rmsnorm_backward", 4) ||
                fuse_norm_backward(pass, i, which, "layernorm_backward", 5))
                return;
    } else if (is(node, "rmsnorm")) {
        fuse_norm(pass, i, 2, 2);
    } else if (is(node, "layernorm")) {
        fuse_norm(pass, i, 3, 3);
    }
}

bool plan_fuse(crank_graph *graph)
{
    int highest = 0;
    for (int i = 0; i < graph->node_count; i++) highest = graph->nodes[i]->id > highest ? graph->nodes[i]->id : highest;
    fusion pass = {graph, calloc((size_t)graph->tensor_count + 1, sizeof(int)), calloc((size_t)highest + 1, sizeof(int))};
    if (!pass.uses || !pass.position) {
        free(pass.uses);
        free(pass.position);
        crank_fail(graph->context, CRANK_FAILED, "out of memory: planning a graph");
        return false;
    }
    for (int i = 0; i < graph->node_count; i++) {
        pass.position[graph->nodes[i]->id] = i;
        for (int j = 0; j < graph->nodes[i]->input_count; j++)
            if (graph->nodes[i]->inputs[j]) pass.uses[graph->nodes[i]->inputs[j]->id]++;
    }
    for (int i = 0; i < graph->node_count; i++)
        if (graph->nodes[i]) fuse_node(&pass, i);
    int count = 0;
    for (int i = 0; i < graph->node_count; i++)
        if (graph->nodes[i]) graph->nodes[count++] = graph->nodes[i];
    graph->node_count = count;
    free(pass.uses);
    free(pass.position);
    return true;
}
