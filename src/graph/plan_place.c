/* plan_place.c - liveness and the arena: every tensor gets an offset such that no two that live at once overlap.
 *
 * A result may take over the memory of an operand that dies at its node (the operation says which). Tensors are placed largest
 * first, each at the lowest offset that is free during its life. */
#include <stdlib.h>
#include <string.h>

#include "graph/graph.h"

#define ALIGNMENT 256

typedef struct storage {
    int    id;          /* of the root tensor that leads it */
    int    first, last; /* list indices: made at, last read at */
    size_t bytes;
    size_t offset;
} storage;

typedef struct lives {
    int    *leader; /* by tensor id: the tensor whose memory it lives in (itself, or what it took over) */
    int    *first, *last;
    size_t *bytes;
} lives;

static int leader_of(lives *pass, int id)
{
    while (pass->leader[id] != id) id = pass->leader[id] = pass->leader[pass->leader[id]];
    return id;
}

static bool in_arena(const crank_tensor *root) { return ((const tensor_record *)root)->home == HOME_ARENA; }

static void find_lives(crank_graph *graph, lives *pass)
{
    for (int i = 0; i < graph->tensor_count; i++) {
        pass->leader[i] = i;
        pass->first[i] = pass->last[i] = -1;
        pass->bytes[i] = tensor_bytes(&graph->tensors[i]->public);
    }
    for (int i = 0; i < graph->node_count; i++) {
        crank_node *node = graph->nodes[i];
        for (int j = 0; j < node->input_count; j++)
            if (node->inputs[j] && in_arena(tensor_root(node->inputs[j]))) pass->last[tensor_root(node->inputs[j])->id] = i;
        for (int j = 0; j < node->output_count; j++) {
            crank_tensor *output = node->outputs[j];
            if (!output || !in_arena(tensor_root(output))) continue;
            int id = tensor_root(output)->id;
            if (pass->first[id] < 0) pass->first[id] = i;
            if (pass->last[id] < i) pass->last[id] = i;
        }
    }
    for (int i = 0; i < graph->tensor_count; i++)
        if (graph->tensors[i]->kept) {
            int id = tensor_root(&graph->tensors[i]->public)->id;
            if (pass->first[id] >= 0) pass->last[id] = graph->node_count;
        }
}

static bool whole_and_contiguous(const crank_tensor *tensor)
{
    const crank_tensor *root = tensor_root(tensor);
    if (tensor == root) return true;
    int64_t stride = 1;
    for (int i = tensor->rank - 1; i >= 0; i--) {
        if (tensor->dims[i] != 1 && tensor->strides[i] != stride) return false;
        stride *= tensor->dims[i];
    }
    return tensor->offset == 0 && stride == tensor_count(root);
}

/* Both dense, or both with the same room behind their rows. */
static bool same_rows(const crank_tensor *a, const crank_tensor *b)
{
    int64_t size = (int64_t)crank_dtype_bits(a->dtype);
    bool    dense = (int64_t)tensor_bytes(a) == (tensor_count(a) * size + 7) / 8 && (int64_t)tensor_bytes(b) == (tensor_count(b) * size + 7) / 8;
    return dense || (a->rank == b->rank && !memcmp(a->strides, b->strides, (size_t)a->rank * sizeof *a->strides));
}

/* Lets results live in the memory of operands that die at the node. */
static void take_over(crank_graph *graph, lives *pass)
{
    for (int i = 0; i < graph->node_count; i++) {
        crank_node *node = graph->nodes[i];
        if (node->op->state || node_is_view(node)) continue;
        for (int k = 0; k < node->output_count; k++) {
            int           from = node->op->inplace[k] - 1;
            crank_tensor *output = node->outputs[k];
            if (from < 0 || !output || from >= node->input_count || !node->inputs[from] || output->base) continue;
            crank_tensor *input = node->inputs[from], *root = tensor_root(input);
            if (!in_arena(root) || !whole_and_contiguous(input) || input->dtype != output->dtype || !same_rows(root, output)) continue;
            int old = leader_of(pass, root->id), now = output->id;
            if (pass->last[old] != i || pass->bytes[old] != pass->bytes[now] || pass->leader[now] != now) continue;
            bool shared = false; /* with another operand, or with a result that took it already */
            for (int j = 0; j < node->input_count; j++)
                shared |= j != from && node->inputs[j] && in_arena(tensor_root(node->inputs[j])) &&
                          leader_of(pass, tensor_root(node->inputs[j])->id) == old;
            if (shared) continue;
            pass->leader[now] = old;
            pass->last[old] = pass->last[now];
        }
    }
}

static int by_size(const void *a, const void *b)
{
    const storage *x = a, *y = b;
    if (x->bytes != y->bytes) return x->bytes < y->bytes ? 1 : -1;
    return (x->first > y->first) - (x->first < y->first);
}

/* The lowest offset free for `item` among the `count` placed ones, which are sorted by offset. */
static size_t lowest_free(const storage *item, const storage *const *placed, int count)
{
    size_t offset = 0;
    for (int i = 0; i < count; i++) {
        const storage *other = placed[i];
        if (other->last < item->first || other->first > item->last) continue;
        if (other->offset >= offset + item->bytes) break;
        if (other->offset + other->bytes > offset) offset = other->offset + other->bytes;
    }
    return offset;
}

static size_t place_all(storage *items, int count, const storage **placed)
{
    size_t arena = 0;
    qsort(items, (size_t)count, sizeof *items, by_size);
    for (int i = 0; i < count; i++) {
        items[i].offset = lowest_free(&items[i], placed, i);
        int at = i;
        while (at > 0 && placed[at - 1]->offset > items[i].offset) at--;
        memmove(&placed[at + 1], &placed[at], (size_t)(i - at) * sizeof *placed);
        placed[at] = &items[i];
        if (items[i].offset + items[i].bytes > arena) arena = items[i].offset + items[i].bytes;
    }
    return arena;
}

/* Bytes that live across the border between the forward and the reverse pass. */
static size_t bytes_kept(const crank_graph *graph, const storage *items, int count)
{
    int    border = 0;
    size_t bytes = 0;
    while (border < graph->node_count && !graph->nodes[border]->backward) border++;
    if (border == graph->node_count) return 0;
    for (int i = 0; i < count; i++)
        if (items[i].first < border && items[i].last >= border) bytes += items[i].bytes;
    return bytes;
}

bool plan_place(crank_graph *graph)
{
    size_t n = (size_t)graph->tensor_count + 1;
    lives  pass = {malloc(n * sizeof(int)), malloc(n * sizeof(int)), malloc(n * sizeof(int)), malloc(n * sizeof(size_t))};
    storage        *items = malloc(n * sizeof *items);
    const storage **placed = malloc(n * sizeof *placed);
    bool            good = pass.leader && pass.first && pass.last && pass.bytes && items && placed;
    if (good) {
        find_lives(graph, &pass);
        take_over(graph, &pass);
        int count = 0;
        graph->summary.unshared = 0;
        for (int i = 0; i < graph->tensor_count; i++) {
            if (pass.first[i] < 0) continue;
            graph->summary.unshared += pass.bytes[i];
            if (pass.leader[i] != i) continue;
            size_t bytes = (pass.bytes[i] + ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1);
            items[count++] = (storage){i, pass.first[i], pass.last[i], bytes ? bytes : ALIGNMENT, 0};
        }
        graph->arena = graph->summary.arena = place_all(items, count, placed);
        graph->summary.kept = bytes_kept(graph, items, count);
        for (int i = 0; i < graph->tensor_count; i++) graph->tensors[i]->place = -1;
        for (int i = 0; i < count; i++) graph->tensors[items[i].id]->place = (int64_t)items[i].offset;
        for (int i = 0; i < graph->tensor_count; i++)
            if (pass.first[i] >= 0) graph->tensors[i]->place = graph->tensors[leader_of(&pass, i)]->place;
    } else {
        crank_fail(graph->context, CRANK_FAILED, "out of memory: placing a graph's tensors");
    }
    free(pass.leader), free(pass.first), free(pass.last), free(pass.bytes), free(items), free(placed);
    return good;
}
