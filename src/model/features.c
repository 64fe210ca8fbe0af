/* features.c - the body in a graph: inputs are checked, the table of rotary angles is made as long as this graph can
 * need. */
#include "model/model.h"

enum { LEAST_TABLE = 8192 };

/* Rows of the table: positions reach the context, or, where the context is long, what n tokens can reach. */
static int64_t table_rows(const crank_model *model, int64_t n)
{
    int64_t rows = LEAST_TABLE;
    while (rows < n) rows *= 2;
    return rows < model->config.context ? rows : model->config.context;
}

/* [rows, head_dim] as a parameter that is never saved; tables of several lengths may stand side by side, because graphs
 * that were recorded earlier hold theirs. */
static crank_tensor *rope_table(crank_graph *graph, crank_model *model, int64_t rows)
{
    char name[48];
    snprintf(name, sizeof name, "rope.%lld", (long long)rows);
    crank_param *param = crank_params_find(model->params, name);
    if (param) return crank_use(graph, param);
    crank_context *context = crank_graph_context(graph);
    int64_t dims[2] = {rows, model->body.rope.dims};
    if (!(param = crank_params_add(model->params, name, CRANK_ROLE_CACHE, CRANK_F32, 2, dims)))
        return crank_graph_error(graph, CRANK_FAILED, "%s", crank_message(context));
    if (!param->view.data) return crank_use(graph, param); /* planning: shapes only */
    float *table = crank_alloc(context, (size_t)(dims[0] * dims[1]), sizeof *table, "rotary angles");
    crank_status status = table ? CRANK_OK : CRANK_FAILED;
    if (table) {
        nn_rope_fill(&model->body.rope, rows, table);
        status = crank_param_write(context, param, table, CRANK_F32);
    }
    crank_free(table);
    return status == CRANK_OK ? crank_use(graph, param)
                              : crank_graph_error(graph, status, "%s", crank_message(context));
}

static bool is_index(const crank_tensor *x, int64_t n)
{
    return x && x->dtype == CRANK_I32 && x->rank == 1 && (n < 0 || x->dims[0] == n);
}

static const char *what_is_wrong(const crank_model *model, const crank_model_inputs *inputs)
{
    if (!is_index(inputs->ids, -1)) return "ids must be i32 [n]";
    int64_t n = inputs->ids->dims[0];
    if (!is_index(inputs->positions, n)) return "positions must be i32 [n], one for each id";
    if (inputs->types && !is_index(inputs->types, n)) return "types must be i32 [n], one for each id";
    if (inputs->types && !model->body.types) return "this model has no token types";
    if (inputs->rows && !is_index(inputs->rows, -1)) return "rows must be i32 [r]";
    if (!inputs->cache)
        return is_index(inputs->segments, -1) && inputs->segments->dims[0] >= 2 ? NULL : "segments must be i32 [s+1]";
    if (!model->family->decoder) return "an encoder does not generate: it has no cache";
    if (inputs->segments) return "a cache holds one sequence: leave segments out";
    if (n > inputs->cache->cache.capacity) return "more tokens than the cache can hold";
    return is_index(inputs->position, 1) ? NULL : "position must be i32 [1]: the tokens in the cache before this run";
}

crank_tensor *crank_model_features(crank_graph *graph, crank_model *model, const crank_model_inputs *inputs)
{
    const char *wrong = crank_graph_status(graph) == CRANK_OK ? what_is_wrong(model, inputs) : NULL;
    if (wrong) return crank_graph_error(graph, CRANK_USAGE, "%s: %s", model->config.architecture, wrong);
    nn_tokens tokens = {.ids = inputs->ids,
                        .positions = inputs->positions,
                        .types = inputs->types,
                        .segments = inputs->segments,
                        .position = inputs->position,
                        .longest = inputs->longest,
                        .rows = inputs->rows,
                        .cache = inputs->cache ? &inputs->cache->cache : NULL};
    if (model->body.rope.kind != NN_ROPE_NONE) {
        int64_t n = inputs->cache ? inputs->cache->cache.capacity : inputs->ids->dims[0];
        tokens.rope = rope_table(graph, model, table_rows(model, n));
    }
    return nn_transformer_forward(graph, &model->body, &tokens);
}
