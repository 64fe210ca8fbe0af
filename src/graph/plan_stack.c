/* plan_stack.c - narrow products that share an operand become one wide product.
 *
 * Linears that read the same x (q, k, v; gate, up) carry one low-rank pair each. With a_i [r_i, in] in [n, in] and u_i [n, r_i]:
 *
 *     t_i = x a_i^T            ->  t = x [a_1; a_2; ..]^T,                t_i = columns of t       (x is read once)
 *     g_i = u_i^T x            ->  g = [u_1 u_2 ..]^T x,                  g_i = rows of g
 *     d_i = d_{i-1} + u_i a_i  ->  d = d_0 + [u_1 u_2 ..] [a_1; a_2; ..]  (d is read and written once)
 *
 * The stacked operands are small copies. A product whose result is kept, or looked at by a view, stays as it is. */
#include <stdlib.h>
#include <string.h>

#include "graph/graph.h"
#include "crank/ops.h"

enum { MEMBERS = 8, NARROW = 128 };

/* Products of one x; index by member. */
typedef struct stack {
    crank_graph  *graph;
    crank_tensor *x, *a[MEMBERS];
    crank_node   *down[MEMBERS];                                     /* t_i */
    crank_node   *weight[MEMBERS], *back[MEMBERS]; /* g_i and d_i; NULL: none */
    int           count;
} stack;

static bool plain_product(const crank_node *node, bool trans_a, bool trans_b)
{
    if (strcmp(node->op->name, "matmul") != 0 || node->outputs[0]->rank != 2 || (node->input_count > 2 && node->inputs[2])) return false;
    const crank_matmul_attributes *m = node->attributes;
    return m->trans_a == trans_a && m->trans_b == trans_b && m->alpha == 1;
}

static crank_tensor *start_of(const crank_node *node) { return node->input_count > 3 ? node->inputs[3] : NULL; }

/* Nothing but nodes reads it, and as a whole. */
static bool replaceable(const crank_graph *graph, const crank_tensor *tensor)
{
    if (RECORD(tensor)->kept || tensor->base) return false;
    for (int i = 0; i < graph->tensor_count; i++)
        if (graph->tensors[i]->public.base == tensor) return false;
    return true;
}

static void read_instead(crank_graph *graph, const crank_tensor *old, crank_tensor *now)
{
    for (int i = 0; i < graph->node_count; i++)
        for (int j = 0; j < graph->nodes[i]->input_count; j++)
            if (graph->nodes[i]->inputs[j] == old) graph->nodes[i]->inputs[j] = now;
}

static int place_of(const crank_graph *graph, const crank_node *node)
{
    for (int i = 0; i < graph->node_count; i++)
        if (graph->nodes[i] == node) return i;
    return -1;
}

static void remove_node(crank_graph *graph, crank_node *node)
{
    int at = place_of(graph, node);
    memmove(&graph->nodes[at], &graph->nodes[at + 1], (size_t)(graph->node_count - at - 1) * sizeof *graph->nodes);
    graph->node_count--;
    free(node->attributes);
    free(node);
}

/* Moves the nodes from list index `from` on to `place`; they take the block, segment and direction of `like`. */
static bool settle(crank_graph *graph, int from, int place, const crank_node *like)
{
    int          added = graph->node_count - from;
    crank_node **moved = malloc(((size_t)added + 1) * sizeof *moved);
    if (!moved || graph->status != CRANK_OK) {
        free(moved);
        return false;
    }
    memcpy(moved, &graph->nodes[from], (size_t)added * sizeof *moved);
    memmove(&graph->nodes[place + added], &graph->nodes[place], (size_t)(from - place) * sizeof *moved);
    memcpy(&graph->nodes[place], moved, (size_t)added * sizeof *moved);
    for (int k = 0; k < added; k++) {
        moved[k]->block = like->block, moved[k]->segment = like->segment, moved[k]->backward = like->backward, moved[k]->id = like->id;
    }
    free(moved);
    graph->summary.fused++;
    return true;
}

/* ---- t ---- */

static bool is_down(const crank_graph *graph, const crank_node *node)
{
    if (node->backward || !plain_product(node, false, true) || start_of(node) || node->inputs[0]->rank != 2) return false;
    const crank_tensor *a = node->inputs[1], *t = node->outputs[0];
    return t->dims[1] <= NARROW && 4 * t->dims[1] <= node->inputs[0]->dims[1] && t->dtype == node->inputs[0]->dtype && a->strides[1] == 1 &&
           replaceable(graph, t);
}

/* What makes a_i reads leaves only, so that it may stand at the first product. */
static bool early(const crank_tensor *a)
{
    const crank_node *node = tensor_root(a)->node;
    if (a->node && a->base) return false;
    if (!node) return true;
    for (int j = 0; j < node->input_count; j++)
        if (node->inputs[j] && tensor_root(node->inputs[j])->node) return false;
    return !node->op->state;
}

static void gather(crank_graph *graph, int first, stack *s)
{
    const crank_node *node = graph->nodes[first];
    *s = (stack){.graph = graph, .x = node->inputs[0]};
    for (int i = first; i < graph->node_count && s->count < MEMBERS; i++) {
        crank_node *other = graph->nodes[i];
        if (other->inputs[0] != s->x || other->block != node->block || other->segment != node->segment || !is_down(graph, other) || !early(other->inputs[1]))
            continue;
        s->down[s->count] = other;
        s->a[s->count++] = other->inputs[1];
    }
}

/* The stacked a, or NULL when the graph has failed. */
static crank_tensor *stack_down(stack *s)
{
    crank_graph *graph = s->graph;
    for (int i = 1; i < s->count; i++) { /* a_i before the first product */
        crank_node *maker = tensor_root(s->a[i])->node;
        int         place = place_of(graph, s->down[0]), at = maker ? place_of(graph, maker) : -1;
        if (at <= place) continue;
        memmove(&graph->nodes[place + 1], &graph->nodes[place], (size_t)(at - place) * sizeof *graph->nodes);
        graph->nodes[place] = maker;
    }
    int           from = graph->node_count;
    crank_tensor *a = crank_concat(s->a, s->count, 0), *t = crank_matmul(s->x, false, a, true), *part[MEMBERS];
    int64_t       start = 0;
    for (int i = 0; i < s->count; i++) {
        part[i] = crank_slice(t, 1, start, s->a[i]->dims[0]);
        start += s->a[i]->dims[0];
    }
    if (!settle(graph, from, place_of(graph, s->down[0]), s->down[0])) return NULL;
    for (int i = 0; i < s->count; i++) {
        read_instead(graph, s->down[i]->outputs[0], part[i]);
        remove_node(graph, s->down[i]);
    }
    return a;
}

/* ---- g and d ---- */

/* Fills `back` (d_i = .. + u_i a_i) and `weight` (g_i = u_i^T x) by member. */
static void find_reverse(stack *s)
{
    crank_graph *graph = s->graph;
    for (int i = 0; i < graph->node_count; i++) {
        crank_node *node = graph->nodes[i];
        if (!node->backward || strcmp(node->op->name, "matmul") != 0) continue;
        for (int k = 0; k < s->count; k++)
            if (node->inputs[1] == s->a[k] && plain_product(node, false, false)) s->back[k] = s->back[k] ? s->back[k] : node;
    }
    for (int i = 0; i < graph->node_count; i++) {
        crank_node *node = graph->nodes[i];
        if (!node->backward || node->inputs[1] != s->x || !plain_product(node, true, false) || start_of(node)) continue;
        int k = 0;
        while (k < s->count && !(s->back[k] ? s->back[k]->inputs[0] == node->inputs[0] : !s->weight[k])) k++;
        if (k < s->count && node->outputs[0]->dims[0] == s->a[k]->dims[0]) s->weight[k] = node;
    }
}

/* The list index of the first node that reads the tensor; the list's end: none. */
static int first_reader(const crank_graph *graph, const crank_tensor *tensor)
{
    for (int i = 0; i < graph->node_count; i++)
        for (int j = 0; j < graph->nodes[i]->input_count; j++)
            if (graph->nodes[i]->inputs[j] == tensor) return i;
    return graph->node_count;
}

/* List index behind the last of the u_i, or -1 when g or d cannot be formed there. */
static int place_of_reverse(const stack *s, crank_tensor **u)
{
    const crank_graph *graph = s->graph;
    int                place = -1;
    for (int i = 0; i < s->count; i++) {
        if (!s->weight[i] || u[i]->rank != 2 || u[i]->dtype != s->x->dtype || !u[i]->node || !replaceable(graph, s->weight[i]->outputs[0])) return -1;
        int at = place_of(graph, u[i]->node);
        place = at + 1 > place ? at + 1 : place;
    }
    for (int i = 0; i < s->count; i++)
        if (first_reader(graph, s->weight[i]->outputs[0]) < place || s->weight[i]->segment != s->weight[0]->segment) return -1;
    return place;
}

/* d_1 .. d_k follow one another: each is read once, as the start of a product behind it. */
static bool chained(const stack *s, int *last)
{
    const crank_graph *graph = s->graph;
    *last = -1;
    for (int i = 0; i < s->count; i++) {
        if (!s->back[i] || s->back[i]->inputs[0] != s->weight[i]->inputs[0]) return false;
        int at = place_of(graph, s->back[i]);
        if (*last < 0 || at > place_of(graph, s->back[*last])) *last = i;
    }
    for (int i = 0; i < s->count; i++) {
        const crank_tensor *d = s->back[i]->outputs[0];
        int                 readers = 0;
        if (i == *last) continue;
        if (!replaceable(graph, d)) return false;
        for (int k = 0; k < graph->node_count; k++)
            for (int j = 0; j < graph->nodes[k]->input_count; j++)
                if (graph->nodes[k]->inputs[j] == d) {
                    if (j != 3 || strcmp(graph->nodes[k]->op->name, "matmul") != 0) return false;
                    readers++;
                }
        if (readers != 1) return false;
    }
    return true;
}

static bool stack_reverse(stack *s, crank_tensor *a)
{
    crank_graph  *graph = s->graph;
    crank_tensor *u[MEMBERS], *part[MEMBERS];
    find_reverse(s);
    for (int i = 0; i < s->count; i++) u[i] = s->weight[i] ? s->weight[i]->inputs[0] : NULL;
    for (int i = 0; i < s->count; i++)
        if (!u[i]) return true;
    int place = place_of_reverse(s, u), last;
    if (place < 0) return true;
    bool          chain = chained(s, &last);
    int           from = graph->node_count;
    int64_t       start = 0;
    crank_tensor *joined = crank_concat(u, s->count, 1);
    crank_tensor *g = crank_matmul_full(joined, true, s->x, false, 1, NULL, NULL, s->weight[0]->outputs[0]->dtype);
    for (int i = 0; i < s->count; i++) {
        part[i] = crank_slice(g, 0, start, s->a[i]->dims[0]);
        start += s->a[i]->dims[0];
    }
    if (!settle(graph, from, place, s->weight[0])) return false;
    for (int i = 0; i < s->count; i++) {
        read_instead(graph, s->weight[i]->outputs[0], part[i]);
        remove_node(graph, s->weight[i]);
    }
    if (!chain) return true;
    from = graph->node_count;
    crank_node   *end = s->back[last];
    crank_tensor *d = crank_matmul_full(joined, false, a, false, 1, NULL, start_of(end), end->outputs[0]->dtype);
    if (!settle(graph, from, place_of(graph, end), end)) return false;
    crank_node *wide = d->node; /* it makes what the last one made */
    wide->outputs[0] = end->outputs[0];
    wide->outputs[0]->node = wide;
    d->node = NULL;
    end->outputs[0] = NULL;
    for (int i = 0; i < s->count; i++) {
        if (i != last) read_instead(graph, s->back[i]->outputs[0], start_of(s->back[i]));
        remove_node(graph, s->back[i]);
    }
    return true;
}

bool plan_stack(crank_graph *graph)
{
    bool reverse = graph->reverse;
    graph->reverse = false;
    for (int i = 0; i < graph->node_count; i++) {
        stack s;
        if (!is_down(graph, graph->nodes[i])) continue;
        gather(graph, i, &s);
        if (s.count < 2) continue;
        crank_tensor *a = stack_down(&s);
        if (!a || !stack_reverse(&s, a)) {
            graph->reverse = reverse;
            if (graph->status == CRANK_OK) crank_fail(graph->context, CRANK_FAILED, "out of memory: planning a graph");
            return false;
        }
    }
    graph->reverse = reverse;
    return true;
}
