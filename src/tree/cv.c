/* cv.c - cross-validation: the queries (rows where there are none) are permuted and dealt to folds; each fold is held out once, with
 * early stopping on it where the options ask. */
#include <stdlib.h>

#include "crank/random.h"
#include "tree/tree.h"

/* The rows of the data that a part holds, as data of their own. */
typedef struct part {
    crank_tree_data data;
    float   *dense, *values, *labels, *weights;
    double  *init;
    int64_t *starts;
    int32_t *indices, *offsets;
} part;

static void part_free(part *p)
{
    void *all[] = {p->dense, p->values, p->labels, p->weights, p->init, p->starts, p->indices, p->offsets};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) crank_free(all[i]);
}

static int64_t unit_first(const crank_tree_data *d, int64_t u) { return d->offsets ? d->offsets[u] : u; }

static int64_t init_width(const crank_tree_data *d) { return d->init_outputs > 0 ? d->init_outputs : 1; }

static bool part_alloc(crank_context *context, const crank_tree_data *d, int64_t rows, int64_t units, int64_t pairs, part *p)
{
    size_t n = (size_t)rows + 1;
    if (d->dense) p->dense = crank_alloc(context, n, (size_t)d->columns * sizeof *p->dense, "rows of a fold");
    else {
        p->starts = crank_alloc(context, n + 1, sizeof *p->starts, "rows of a fold");
        p->indices = crank_alloc(context, (size_t)pairs + 1, sizeof *p->indices, "rows of a fold");
        p->values = crank_alloc(context, (size_t)pairs + 1, sizeof *p->values, "rows of a fold");
    }
    p->labels = crank_alloc(context, n, sizeof *p->labels, "rows of a fold");
    p->offsets = crank_alloc(context, (size_t)units + 1, sizeof *p->offsets, "rows of a fold");
    if (d->weights) p->weights = crank_alloc(context, n, sizeof *p->weights, "rows of a fold");
    if (d->init) p->init = crank_alloc(context, n, (size_t)init_width(d) * sizeof *p->init, "rows of a fold");
    return (p->dense || (p->starts && p->indices && p->values)) && p->labels && p->offsets && (p->weights || !d->weights) && (p->init || !d->init);
}

/* Units whose fold is (held) or is not `fold`, in their order. */
static bool part_take(crank_context *context, const crank_tree_data *d, int64_t units, const int32_t *fold_of, int32_t fold, bool held, part *p)
{
    int64_t rows = 0, taken = 0, pairs = 0;
    for (int64_t u = 0; u < units; u++)
        if ((fold_of[u] == fold) == held) {
            rows += unit_first(d, u + 1) - unit_first(d, u);
            if (!d->dense) pairs += d->starts[unit_first(d, u + 1)] - d->starts[unit_first(d, u)];
            taken++;
        }
    *p = (part){0};
    if (!part_alloc(context, d, rows, taken, pairs, p)) return false;
    int64_t n = 0, q = 0, at = 0;
    for (int64_t u = 0; u < units; u++) {
        if ((fold_of[u] == fold) != held) continue;
        for (int64_t i = unit_first(d, u); i < unit_first(d, u + 1); i++, n++) {
            if (d->dense) memcpy(p->dense + n * d->columns, d->dense + i * d->columns, (size_t)d->columns * sizeof *p->dense);
            for (int64_t k = d->dense ? 0 : d->starts[i]; !d->dense && k < d->starts[i + 1]; k++, at++) p->indices[at] = d->indices[k], p->values[at] = d->values[k];
            if (!d->dense) p->starts[n + 1] = at;
            p->labels[n] = d->labels[i];
            if (d->weights) p->weights[n] = d->weights[i];
            for (int64_t k = 0, K = init_width(d); d->init && k < K; k++) p->init[n * K + k] = d->init[i * K + k];
        }
        p->offsets[++q] = (int32_t)n;
    }
    p->data = *d;
    p->data.rows = n;
    p->data.dense = p->dense;
    p->data.starts = p->starts;
    p->data.indices = p->indices;
    p->data.values = p->values;
    p->data.labels = p->labels;
    p->data.weights = p->weights;
    p->data.init = p->init;
    p->data.queries = d->offsets ? q : 0;
    p->data.offsets = d->offsets ? p->offsets : NULL;
    return true;
}

static crank_status run_fold(crank_context *context, const crank_tree_options *options, const crank_tree_data *d, int64_t units, const int32_t *fold_of, int32_t fold, crank_tree_fold *out)
{
    part         train = {0}, held = {0};
    crank_trees *trees = NULL;
    bool         good = part_take(context, d, units, fold_of, fold, false, &train) && part_take(context, d, units, fold_of, fold, true, &held);
    if (good) trees = crank_trees_fit(context, options, &train.data, &held.data, NULL, NULL, NULL);
    if (trees) *out = (crank_tree_fold){.rows = held.data.rows, .queries = held.data.queries, .trees = crank_trees_count(trees), .measure = crank_trees_best(trees)};
    crank_trees_free(trees);
    part_free(&train);
    part_free(&held);
    return trees ? CRANK_OK : crank_last_status(context);
}

crank_status crank_trees_cv(crank_context *context, const crank_tree_options *options, const crank_tree_data *data, int64_t folds, crank_tree_fold *out)
{
    crank_status status = data_check(context, data, true);
    int64_t      units = data->offsets ? data->queries : data->rows;
    if (status == CRANK_OK && (folds < 2 || folds > units))
        status = crank_fail(context, CRANK_USAGE, "%lld folds of %lld %s: there must be at least 2, and no more than that", (long long)folds, (long long)units, data->offsets ? "queries" : "rows");
    if (status != CRANK_OK) return status;
    int64_t *order = crank_alloc(context, (size_t)units, sizeof *order, "folds");
    int32_t *fold_of = crank_alloc(context, (size_t)units, sizeof *fold_of, "folds");
    status = order && fold_of ? CRANK_OK : CRANK_FAILED;
    if (status == CRANK_OK) {
        crank_permutation(crank_stream_make((uint64_t)options->seed ^ (uint64_t)crank_hash_name("folds") << 32, CRANK_RANDOM_METHOD, 0), order, units);
        for (int64_t i = 0; i < units; i++) fold_of[order[i]] = (int32_t)(i % folds);
    }
    for (int64_t f = 0; status == CRANK_OK && f < folds; f++) status = run_fold(context, options, data, units, fold_of, (int32_t)f, &out[f]);
    crank_free(order);
    crank_free(fold_of);
    return status;
}
