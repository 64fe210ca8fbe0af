/* graphs.c - graphs of a ranker, one for each size of batch (rounded up), and scores of batches and sets. */
#include <string.h>

#include "crank/metric.h"
#include "rank/net.h"

/* Up to an eighth more: few sizes, little waste. */
static int64_t round_up(int64_t n)
{
    int64_t step = 16;
    while (step * 16 < n) step *= 2;
    return (n + step - 1) / step * step;
}

static crank_status record_inputs(rank_net *net, rank_graph *g, bool training)
{
    int64_t columns = net->scaler.columns, ends = g->lists + 2, two = 2;
    crank_graph_set_training(g->graph, training);
    crank_graph_set_seed(g->graph, (uint64_t)net->options->seed);
    g->x = crank_input(g->graph, "x", CRANK_F32, 2, (const int64_t[]){g->rows, columns});
    if (net->model == RANK_ATTENTION) g->segments = crank_input(g->graph, "segments", CRANK_I32, 1, &ends);
    if (training && net->layers[0].mean) {
        g->valid = crank_input(g->graph, "valid", CRANK_F32, 2, (const int64_t[]){g->rows, 1});
        g->counts = crank_input(g->graph, "counts", CRANK_F32, 1, &two);
    }
    g->scores = crank_keep(crank_contiguous(rank_net_record(net, g)));
    return crank_graph_status(g->graph);
}

rank_graph *rank_graphs_get(rank_net *net, rank_graphs *graphs, const rank_batch *batch, bool training, crank_status (*record)(void *user, rank_graph *graph), void *user)
{
    int64_t rows = round_up(batch->rows), lists = net->model == RANK_ATTENTION ? round_up(batch->lists) : 0;
    for (size_t i = 0; i < graphs->count; i++)
        if (graphs->items[i].rows == rows && graphs->items[i].lists == lists) return graphs->items + i;
    if (!graphs->pool && !(graphs->pool = crank_pool_new(net->context, net->device))) return NULL;
    if (graphs->count == graphs->room) {
        size_t      room = graphs->room ? 2 * graphs->room : 8;
        rank_graph *items = crank_alloc(net->context, room, sizeof *items, "graphs");
        if (!items) return NULL;
        if (graphs->count) memcpy(items, graphs->items, graphs->count * sizeof *items);
        crank_free(graphs->items);
        graphs->items = items;
        graphs->room = room;
    }
    rank_graph *g = graphs->items + graphs->count;
    *g = (rank_graph){.graph = crank_graph_new(net->context, net->device), .rows = rows, .lists = lists};
    crank_status status = g->graph ? record_inputs(net, g, training) : CRANK_FAILED;
    if (status == CRANK_OK && record) status = record(user, g);
    if (status == CRANK_OK) status = crank_graph_status(g->graph);
    if (status == CRANK_OK) {
        crank_graph_set_pool(g->graph, graphs->pool);
        status = crank_plan(g->graph, NULL, NULL);
    }
    if (status == CRANK_OK) return graphs->count++, g;
    crank_graph_free(g->graph);
    return NULL;
}

static void *room_for(crank_context *context, void *old, size_t *room, size_t wanted, size_t size)
{
    if (old && *room >= wanted) return old;
    crank_free(old);
    *room = wanted;
    return crank_alloc(context, wanted, size, "a batch");
}

static crank_status write_counts(rank_net *net, rank_graphs *graphs, rank_graph *g, int64_t rows)
{
    float n = (float)rows, counts[2] = {1 / n, rows > 1 ? n / (n - 1) : 1};
    graphs->one = room_for(net->context, graphs->one, &graphs->one_room, (size_t)g->rows, sizeof *graphs->one);
    if (!graphs->one) return CRANK_FAILED;
    for (int64_t i = 0; i < g->rows; i++) graphs->one[i] = i < rows;
    crank_status status = crank_write(g->valid, graphs->one);
    return status == CRANK_OK ? crank_write(g->counts, counts) : status;
}

crank_status rank_graphs_write(rank_net *net, rank_graphs *graphs, rank_graph *g, const rank_batch *batch)
{
    int64_t columns = net->scaler.columns;
    graphs->x = room_for(net->context, graphs->x, &graphs->x_room, (size_t)(g->rows * columns), sizeof *graphs->x);
    if (!graphs->x) return CRANK_FAILED;
    memcpy(graphs->x, batch->x, (size_t)(batch->rows * columns) * sizeof *graphs->x);
    memset(graphs->x + batch->rows * columns, 0, (size_t)((g->rows - batch->rows) * columns) * sizeof *graphs->x);
    crank_status status = crank_write(g->x, graphs->x);
    if (status == CRANK_OK && g->valid) status = write_counts(net, graphs, g, batch->rows);
    if (status != CRANK_OK || !g->segments) return status;
    graphs->segments = room_for(net->context, graphs->segments, &graphs->segment_room, (size_t)g->lists + 2, sizeof *graphs->segments);
    if (!graphs->segments) return CRANK_FAILED;
    for (int64_t l = 0; l <= g->lists; l++) graphs->segments[l] = batch->offsets[l < batch->lists ? l : batch->lists];
    graphs->segments[g->lists + 1] = (int32_t)g->rows; /* the padding is a list of its own */
    return crank_write(g->segments, graphs->segments);
}

crank_status rank_graphs_read(rank_graphs *graphs, const rank_graph *g, const rank_batch *batch, float *scores)
{
    crank_status status = crank_read(g->scores, graphs->x); /* x is in the graph's input by now */
    if (status == CRANK_OK) memcpy(scores, graphs->x, (size_t)batch->rows * sizeof *scores);
    return status;
}

void rank_graphs_free(rank_graphs *graphs)
{
    for (size_t i = 0; i < graphs->count; i++) crank_graph_free(graphs->items[i].graph);
    crank_pool_free(graphs->pool);
    crank_free(graphs->items), crank_free(graphs->x), crank_free(graphs->one), crank_free(graphs->segments);
    *graphs = (rank_graphs){0};
}

/* ---- scores ---- */

crank_status rank_net_forward(rank_net *net, const rank_batch *batch, float *scores)
{
    if (!batch->rows) return CRANK_OK;
    rank_graph  *g = rank_graphs_get(net, &net->graphs, batch, false, NULL, NULL);
    crank_status status = g ? rank_graphs_write(net, &net->graphs, g, batch) : crank_last_status(net->context);
    if (status == CRANK_OK) status = crank_run(g->graph);
    return status == CRANK_OK ? rank_graphs_read(&net->graphs, g, batch, scores) : status;
}

/* Lists are taken until they have this many rows together. */
enum { ROWS_AT_ONCE = 2048, LISTS_AT_ONCE = 256 };

crank_status rank_net_scores(rank_net *net, const letor_set *set, float *scores)
{
    int32_t      whole[2] = {0, (int32_t)set->rows};
    letor_set    lists = *set;
    rank_feeder  feeder;
    int64_t      chosen[LISTS_AT_ONCE];
    if (!set->offsets && net->model == RANK_ATTENTION) lists.offsets = whole, lists.queries = 1;
    int32_t *pieces = NULL; /* items do not see each other: rows without queries are taken piece by piece */
    if (!lists.offsets) {
        lists.queries = (set->rows + ROWS_AT_ONCE - 1) / ROWS_AT_ONCE;
        pieces = lists.offsets = crank_alloc(net->context, (size_t)lists.queries + 1, sizeof *pieces, "pieces of the rows");
        if (!pieces) return CRANK_FAILED;
        for (int64_t i = 0; i <= lists.queries; i++) pieces[i] = (int32_t)(i < lists.queries ? i * ROWS_AT_ONCE : set->rows);
    }
    crank_status status = rank_feeder_open(net->context, &lists, &net->scaler, LISTS_AT_ONCE, &feeder);
    for (int64_t at = 0; status == CRANK_OK && at < lists.queries;) {
        int64_t n = 0, first = at;
        while (at < lists.queries && n < LISTS_AT_ONCE && (n == 0 || lists.offsets[at + 1] - lists.offsets[first] <= ROWS_AT_ONCE)) chosen[n++] = at++;
        rank_batch batch = rank_feed(&feeder, chosen, n);
        status = rank_net_forward(net, &batch, scores + lists.offsets[first]);
    }
    rank_feeder_close(&feeder);
    crank_free(pieces);
    return status;
}

crank_status rank_measure(crank_context *context, const char *measure, const letor_set *set, const float *scores, double *value)
{
    return crank_metric(context, measure, NULL, set->queries, set->offsets, scores, set->labels, NULL, value, NULL, NULL);
}

/* ---- values ---- */

static bool holds(const crank_param *param) { return param->role == CRANK_ROLE_WEIGHT || strstr(param->name, ".running_"); }

size_t rank_net_size(const rank_net *net)
{
    size_t n = 0;
    for (size_t i = 0; i < crank_params_count(net->params); i++)
        if (holds(crank_params_at(net->params, i))) n += (size_t)crank_view_count(&crank_params_at(net->params, i)->view);
    return n;
}

static crank_status each_param(rank_net *net, float *get, const float *set)
{
    crank_status status = CRANK_OK;
    size_t       at = 0;
    for (size_t i = 0; status == CRANK_OK && i < crank_params_count(net->params); i++) {
        crank_param *param = crank_params_at(net->params, i);
        if (!holds(param)) continue;
        status = get ? crank_param_read(net->context, param, get + at, CRANK_F32) : crank_param_write(net->context, param, set + at, CRANK_F32);
        at += (size_t)crank_view_count(&param->view);
    }
    return status;
}

crank_status rank_net_get(rank_net *net, float *values) { return each_param(net, values, NULL); }
crank_status rank_net_set(rank_net *net, const float *values) { return each_param(net, NULL, values); }
