/* scalars.c - numbers that the updates of a graph share: elements of the step scalars, rates, corrections of moments, constants.
 *
 * Hundreds of units read the same few numbers. Each is recorded once a graph and found again by what it is made of. SKIP and CLIP are
 * written inside of a step: what holds one of them is forgotten when a node that writes the step scalars has been recorded since. */
#include <math.h>

#include "graph/graph.h"
#include "graph/ops/op.h"
#include "optim/optim.h"

extern const crank_op op_check_finite, op_clip_scale; /* the nodes that write step scalars */

enum { MOST = 48 };

typedef struct shared_scalar {
    scalar_key    key;
    crank_tensor *tensor;
} shared_scalar;

typedef struct shared_scalars {
    int           seen, segment, count;
    shared_scalar items[MOST];
} shared_scalars;

static const char slot_key;

static bool same(const scalar_key *a, const scalar_key *b)
{
    return a->what == b->what && a->index == b->index && a->from == b->from && a->type == b->type && a->value == b->value && a->second == b->second && a->passing == b->passing;
}

/* What is still true; NULL: out of memory. */
static shared_scalars *valid(crank_graph *graph)
{
    shared_scalars *all = crank_graph_slot(graph, &slot_key, sizeof *all, NULL);
    if (!all) return NULL;
    bool written = false;
    for (int i = all->seen; i < graph->node_count; i++) written |= graph->nodes[i]->op == &op_check_finite || graph->nodes[i]->op == &op_clip_scale;
    all->seen = graph->node_count;
    if (all->segment != graph->segment) all->count = 0;
    all->segment = graph->segment;
    int kept = 0;
    for (int i = 0; i < all->count; i++)
        if (!written || !all->items[i].key.passing) all->items[kept++] = all->items[i];
    all->count = kept;
    return all;
}

crank_tensor *optim_shared(crank_graph *graph, const scalar_key *key)
{
    shared_scalars *all = crank_graph_status(graph) == CRANK_OK ? valid(graph) : NULL;
    for (int i = 0; all && i < all->count; i++)
        if (same(&all->items[i].key, key)) return all->items[i].tensor;
    return NULL;
}

crank_tensor *optim_share(crank_graph *graph, const scalar_key *key, crank_tensor *tensor)
{
    shared_scalars *all = crank_graph_status(graph) == CRANK_OK ? valid(graph) : NULL;
    if (all && all->count < MOST) all->items[all->count++] = (shared_scalar){ *key, tensor };
    return tensor;
}

crank_tensor *optim_scalar(crank_graph *graph, const crank_unit *unit, crank_scalar_index i)
{
    scalar_key    key = { .what = SCALAR_ELEMENT, .index = i, .from = unit->clock, .type = optim_wide(unit), .passing = i == CRANK_SCALAR_SKIP || i == CRANK_SCALAR_CLIP };
    bool          rows = unit->clock && unit->clock->view.rank > 1; /* shaped for one parameter */
    crank_tensor *found = rows ? NULL : optim_shared(graph, &key);
    if (found) return found;
    crank_tensor *made = crank_cast(unit->clock ? crank_unit_scalar(graph, unit, i) : crank_step_scalar(graph, i), optim_wide(unit));
    return rows ? made : optim_share(graph, &key, made);
}

crank_tensor *optim_rate(crank_graph *graph, const crank_unit *unit)
{
    return optim_multiple(optim_scalar(graph, unit, CRANK_SCALAR_RATE), unit->rate_factor);
}

crank_tensor *optim_multiple(crank_tensor *a, double value)
{
    if (value == 1) return a;
    scalar_key    key = { .what = SCALAR_RATE, .from = a, .value = value };
    crank_tensor *found = optim_shared(a->graph, &key);
    return found ? found : optim_share(a->graph, &key, crank_scale(a, value));
}

crank_tensor *optim_product(crank_tensor *a, crank_tensor *b)
{
    scalar_key    key = { .what = SCALAR_PRODUCT, .from = a, .index = b->id };
    crank_tensor *found = optim_shared(a->graph, &key);
    return found ? found : optim_share(a->graph, &key, crank_mul(a, b));
}

/* 1 - b^t = -expm1(t ln b) = -2 T / (1 - T) with T = tanh(t ln(b) / 2): no digits are lost where b^t is near 1. */
crank_tensor *optim_correction(crank_tensor *t, double b)
{
    if (b == 0) return crank_affine(t, 0, 1);
    scalar_key    key = { .what = SCALAR_CORRECTION, .from = t, .value = b };
    crank_tensor *found = optim_shared(t->graph, &key);
    if (found) return found;
    crank_tensor *T = crank_unary(CRANK_TANH, crank_scale(t, log(b) / 2));
    return optim_share(t->graph, &key, crank_div(crank_scale(T, -2), crank_affine(T, -1, 1)));
}

crank_tensor *optim_corrections(crank_tensor *t, double b1, double b2)
{
    scalar_key    key = { .what = SCALAR_CORRECTIONS, .from = t, .value = b1, .second = b2 };
    crank_tensor *found = optim_shared(t->graph, &key);
    return found ? found : optim_share(t->graph, &key, crank_div(crank_unary(CRANK_SQRT, optim_correction(t, b2)), optim_correction(t, b1)));
}

crank_tensor *optim_number(crank_graph *graph, crank_dtype type, double value)
{
    scalar_key    key = { .what = SCALAR_NUMBER, .type = type, .value = value };
    crank_tensor *found = optim_shared(graph, &key);
    return found ? found : optim_share(graph, &key, crank_fill(graph, type, 1, (const int64_t[]){ 1 }, value));
}
