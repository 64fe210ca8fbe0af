/* frugal_select.c - which columns, rows, entries or whole tensors have state, and how a gradient is taken apart by them.
 *
 * Choices are draws of (seed, METHOD, number of the period), so a resumed run and every rank choose the same. */
#include <stdlib.h>
#include <string.h>

#include "graph/ops/op.h"
#include "optim/frugal.h"

static bool is(const char *choice, const char *name) { return strcmp(choice, name) == 0; }

/* ---- index lists ---- */

/* The table of rows that indices choose from: G^T [n,m] of columns, G [m,n] of rows, [m n, 1] of entries. */
crank_tensor *frugal_gather(crank_graph *graph, const crank_unit *unit, crank_tensor *G)
{
    const frugal_options *opt = unit->options;
    const frugal_state   *st = unit->state;
    if (crank_graph_status(graph) != CRANK_OK) return G;
    crank_tensor *table = crank_contiguous(is(opt->select, "columns") ? crank_transpose(G, 0, 1) : G);
    if (is(opt->select, "entries")) table = crank_reshape(table, 2, (const int64_t[]){ st->from, 1 });
    return crank_gather_rows(table, crank_use(graph, st->index));
}

static crank_tensor *scattered(crank_graph *graph, const crank_unit *unit, crank_tensor *rows)
{
    const frugal_state *st = unit->state;
    crank_tensor       *inputs[2] = { rows, crank_use(graph, st->index) };
    return op_one(&op_scatter_rows, inputs, 2, &(extent_attributes){ st->from });
}

crank_tensor *frugal_scatter(crank_graph *graph, const crank_unit *unit, crank_tensor *R)
{
    const frugal_options *opt = unit->options;
    crank_tensor         *all = scattered(graph, unit, R);
    if (crank_graph_status(graph) != CRANK_OK) return all;
    if (is(opt->select, "columns")) return crank_transpose(all, 0, 1);
    return is(opt->select, "entries") ? crank_reshape(all, 2, unit->param->view.dims) : all;
}

crank_tensor *frugal_rest(crank_graph *graph, const crank_unit *unit)
{
    const frugal_options *opt = unit->options;
    const frugal_state   *st = unit->state;
    int64_t               ones[2] = { st->index->view.dims[0], 1 }, row[2] = { 1, st->from };
    crank_tensor         *rest = crank_affine(scattered(graph, unit, crank_fill(graph, optim_wide(unit), 2, ones, 1)), -1, 1); /* [from, 1] */
    if (crank_graph_status(graph) != CRANK_OK || is(opt->select, "rows")) return rest;
    return crank_reshape(rest, 2, is(opt->select, "columns") ? row : unit->param->view.dims);
}

/* c of `from` indices, ascending: index i is taken with probability (wanted) / (left). */
static void draw_indices(crank_stream stream, uint64_t first, int64_t from, int64_t count, int32_t *out)
{
    int64_t taken = 0;
    for (int64_t i = 0; i < from && taken < count; i++)
        if ((int64_t)crank_draw_below(stream, first + (uint64_t)i, (uint64_t)(from - i)) < count - taken) out[taken++] = (int32_t)i;
}

/* Rows of a state [c, ..] move from their place in `old` to their place in `fresh`; rows of new indices start at zero. */
static crank_status carry(crank_context *context, crank_param *param, const int32_t *old, const int32_t *fresh, int64_t count)
{
    int64_t      width = crank_view_count(&param->view) / count;
    double      *from = crank_alloc(context, (size_t)(count * width), sizeof *from, "moments");
    double      *to = crank_alloc(context, (size_t)(count * width), sizeof *to, "moments");
    crank_status status = from && to ? crank_param_read(context, param, from, CRANK_F64) : CRANK_FAILED;
    for (int64_t i = 0, k = 0; status == CRANK_OK && i < count; i++) {
        while (k < count && old[k] < fresh[i]) k++;
        if (k < count && old[k] == fresh[i]) memcpy(to + i * width, from + k * width, (size_t)width * sizeof *to);
    }
    if (status == CRANK_OK) status = crank_param_write(context, param, to, CRANK_F64);
    crank_free(from), crank_free(to);
    return status;
}

static crank_status carry_all(crank_context *context, const crank_unit *unit, const int32_t *old, const int32_t *fresh, int64_t count)
{
    static const char *const names[] = { "m", "v", "buffer" };
    const frugal_state      *st = unit->state;
    crank_status             status = CRANK_OK;
    for (int k = 0; status == CRANK_OK && k < 3; k++) {
        crank_param *param = inner_state(&st->inner, names[k]);
        if (param && param->view.rank > 0 && param->view.dims[0] == count) status = carry(context, param, old, fresh, count);
    }
    return status;
}

crank_status frugal_draw(crank_context *context, crank_unit *unit, int64_t step)
{
    const frugal_options *opt = unit->options;
    const frugal_state   *st = unit->state;
    int64_t               count = st->index->view.dims[0];
    crank_stream          stream = crank_stream_make(unit->seed, CRANK_RANDOM_METHOD, (uint32_t)((step - 1) / opt->gap));
    int32_t              *fresh = crank_alloc(context, (size_t)count, sizeof *fresh, "an index list");
    int32_t              *old = crank_alloc(context, (size_t)count, sizeof *old, "an index list");
    crank_status          status = fresh && old ? crank_param_read(context, st->index, old, CRANK_I32) : CRANK_FAILED;
    if (status == CRANK_OK) draw_indices(stream, (uint64_t)unit->index << 40, st->from, count, fresh);
    if (status == CRANK_OK && !opt->reset && step > 1) status = carry_all(context, unit, old, fresh, count);
    if (status == CRANK_OK) status = crank_param_write(context, st->index, fresh, CRANK_I32);
    crank_free(fresh), crank_free(old);
    return status;
}

/* ---- blocks ---- */

typedef struct block {
    int     unit;
    int64_t elements;
} block;

static int larger_first(const void *a, const void *b)
{
    const block *x = a, *y = b;
    if (x->elements != y->elements) return x->elements < y->elements ? 1 : -1;
    return x->unit - y->unit;
}

/* Which of n blocks are chosen in a period: order[0 .. active-1]. */
static void order_blocks(const frugal_options *opt, uint64_t seed, int64_t number, int64_t n, int64_t active, int64_t *order)
{
    int64_t start = number * active % n;
    if (is(opt->order, "random")) {
        crank_permutation(crank_stream_make(seed, CRANK_RANDOM_METHOD, (uint32_t)number), order, n);
        return;
    }
    if (is(opt->order, "mirror")) { /* half from each end, both moving inwards */
        start = number * (active / 2) % n;
        for (int64_t i = 0; i < active; i++) {
            int64_t at = (start + i / 2) % n;
            order[i] = i % 2 ? n - 1 - at : at;
        }
        return;
    }
    for (int64_t i = 0; i < active; i++) {
        int64_t at = (start + i) % n;
        order[i] = is(opt->order, "descending") ? n - 1 - at : at;
    }
}

static crank_status place(crank_context *context, crank_unit *units, const block *blocks, int64_t n, int64_t active, frugal_model *model, int64_t step)
{
    const frugal_options *opt = units[blocks[0].unit].options;
    int64_t              *order = crank_alloc(context, (size_t)n, sizeof *order, "an order of blocks"), offset = 0;
    if (!order) return CRANK_FAILED;
    for (int64_t i = 0; i < n; i++) ((frugal_state *)units[blocks[i].unit].state)->offset = -1;
    if (step == 0)
        for (int64_t i = 0; i < n; i++) order[i] = i; /* the caller has put the largest first */
    else
        order_blocks(opt, units[blocks[0].unit].seed, (step - 1) / opt->gap, n, active, order);
    for (int64_t i = 0; i < active; i++) {
        frugal_state *st = units[blocks[order[i]].unit].state;
        if (st->offset >= 0) continue; /* both ends of a mirrored order have met */
        st->offset = offset;
        offset += blocks[order[i]].elements;
    }
    for (int64_t i = 0; i < n; i++) { /* without a rule for the others they have no gradient */
        crank_unit *unit = &units[blocks[i].unit];
        unit->active = !is(opt->rule, "none") || ((frugal_state *)unit->state)->offset >= 0;
    }
    model->chosen = step ? 1 + (step - 1) / opt->gap : 0;
    crank_free(order);
    return CRANK_OK;
}

static crank_status make_room(crank_context *context, crank_unit *units, block *blocks, int64_t n, int64_t active, frugal_model *model)
{
    int64_t elements = 0;
    if (model->clock) return CRANK_OK;
    for (int64_t i = 0; i < active; i++) elements += blocks[i].elements;
    const crank_unit *first = &units[blocks[0].unit];
    for (int64_t i = 0; i < n; i++)
        if (optim_wide(&units[blocks[i].unit]) != optim_wide(first))
            return crank_fail(context, CRANK_USAGE, "optimiser `frugal`: select: block keeps all moments in one type, and %s has another; choose columns",
                              units[blocks[i].unit].param->name);
    crank_status status = slots_make(context, &model->pools, first, elements);
    if (status == CRANK_OK) model->clock = optim_clock(context, first->param->owner, "frugal.slots");
    return model->clock ? status : crank_last_status(context);
}

crank_status frugal_blocks(crank_context *context, crank_unit *units, int count, frugal_model *model, int64_t step, bool *changed)
{
    block  *blocks = crank_alloc(context, (size_t)count, sizeof *blocks, "blocks");
    int64_t n = 0;
    if (!blocks) return CRANK_FAILED;
    for (int i = 0; i < count; i++)
        if (!units[i].param->moved && ((frugal_state *)units[i].state)->kind == FRUGAL_BLOCK) blocks[n++] = (block){ i, optim_elements(&units[i]) };
    const frugal_options *opt = units[blocks[0].unit].options;
    int64_t               active = (int64_t)(opt->density * (double)n + 0.5), since = step ? (step - 1) % opt->gap : 0;
    crank_status          status = CRANK_OK;
    if (is(opt->order, "mirror") && active % 2)
        status = crank_fail(context, CRANK_USAGE, "optimiser `frugal`: order: mirror takes blocks from both ends, and density %g of %lld tensors makes %lld, an odd number",
                            opt->density, (long long)n, (long long)active);
    if (status == CRANK_OK && (step == 0 || !model->clock)) {
        block *by_size = crank_alloc(context, (size_t)n, sizeof *by_size, "blocks");
        status = by_size ? CRANK_OK : CRANK_FAILED;
        if (status == CRANK_OK) memcpy(by_size, blocks, (size_t)n * sizeof *by_size), qsort(by_size, (size_t)n, sizeof *by_size, larger_first);
        if (status == CRANK_OK) status = make_room(context, units, by_size, n, active, model);
        if (status == CRANK_OK && step == 0) status = place(context, units, by_size, n, active, model, 0);
        crank_free(by_size);
    }
    if (status == CRANK_OK && step && model->chosen != 1 + (step - 1) / opt->gap) {
        *changed = true;
        status = place(context, units, blocks, n, active, model, step);
    }
    if (status == CRANK_OK && step && since == 0) status = slots_clear(context, &model->pools, 0, model->pools.elements);
    if (status == CRANK_OK) status = optim_clock_write(context, model->clock, since + 1);
    crank_free(blocks);
    return status;
}
