/* predict.c - scores of rows: by walking trees, and through the objective's link. */
#include "tree/tree.h"

enum { TILE = 64 };

void crank_trees_score(const crank_trees *trees, const float *row, double *out)
{
    int64_t outputs = trees->outputs;
    for (int64_t k = 0; k < outputs; k++) out[k] = 0;
    for (int64_t i = 0; i < trees->count; i++) out[i % outputs] += trees->trees[i].leaf_value[tree_leaf(&trees->trees[i], row)];
    for (int64_t k = 0; k < outputs; k++) {
        if (trees->average && trees->count > 0) out[k] /= (double)(trees->count / outputs);
        out[k] += trees->base[k];
    }
}

static bool is(const crank_trees *trees, const char *name) { return strcmp(trees->objective, name) == 0; }

void trees_link(const crank_trees *trees, double *scores, int64_t rows)
{
    int64_t n = trees->outputs;
    bool    logistic = is(trees, "binary") || is(trees, "cross_entropy") || is(trees, "multiclassova");
    bool    exponent = is(trees, "poisson") || is(trees, "gamma") || is(trees, "tweedie");
    for (int64_t i = 0; (logistic || exponent) && i < rows * n; i++) scores[i] = logistic ? 1 / (1 + exp(-trees->sigmoid * scores[i])) : exp(scores[i]);
    if (!is(trees, "multiclass")) return;
    for (double *s = scores; s < scores + rows * n; s += n) {
        double top = s[0], sum = 0;
        for (int64_t k = 1; k < n; k++) top = fmax(top, s[k]);
        for (int64_t k = 0; k < n; k++) sum += s[k] = exp(s[k] - top);
        for (int64_t k = 0; k < n; k++) s[k] /= sum;
    }
}

/* Rows in tiles that stay in the first-level cache, each tree over a whole tile: a tree's nodes are read once a tile. */
static void score_tile(const crank_trees *trees, const crank_tree_data *data, int64_t first, int n, float *rows, double *out)
{
    int64_t outputs = trees->outputs, columns = trees->columns;
    for (int i = 0; i < n; i++) data_row(data, first + i, columns, rows + i * columns);
    memset(out, 0, (size_t)(n * outputs) * sizeof *out);
    for (int64_t k = 0; k < trees->count; k++)
        for (int i = 0; i < n; i++) out[i * outputs + k % outputs] += trees->trees[k].leaf_value[tree_leaf(&trees->trees[k], rows + i * columns)];
    for (int64_t i = 0; i < n * outputs; i++) {
        if (trees->average && trees->count > 0) out[i] /= (double)(trees->count / outputs);
        out[i] += trees->base[i % outputs];
    }
}

crank_status crank_trees_predict(crank_context *context, const crank_trees *trees, const crank_tree_data *data, bool raw, double *out)
{
    int     threads = crank_threads(context);
    int64_t tiles = (data->rows + TILE - 1) / TILE;
    crank_status status = data_check(context, data, false);
    float  *work = status == CRANK_OK ? crank_alloc(context, (size_t)threads, TILE * ((size_t)trees->columns + 1) * sizeof *work, "rows to score") : NULL;
    if (!work) return crank_last_status(context);
#pragma omp parallel for num_threads(threads) schedule(static, 1)
    for (int t = 0; t < threads; t++)
        for (int64_t k = tiles * t / threads; k < tiles * (t + 1) / threads; k++) {
            int64_t first = k * TILE, left = data->rows - first;
            score_tile(trees, data, first, (int)(left < TILE ? left : TILE), work + t * TILE * (trees->columns + 1), out + first * trees->outputs);
        }
    crank_free(work);
    if (!raw) trees_link(trees, out, data->rows);
    return CRANK_OK;
}
