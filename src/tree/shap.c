/* shap.c - Shapley values of columns for a row's score (Lundberg, Erion, Lee 2018, arXiv:1802.03888, algorithm 2).
 *
 * A column that is not known sends the row down both children, in proportion to the training rows that went there. Going down a tree the
 * path holds, for each column on it, the share of rows that follow the row's way when the column is not known (zero) and when it is
 * (one), and the summed weights of all subsets of each size. At a leaf each column gets (one - zero) * value * the weights of the
 * subsets without it. Models without counts of rows (XGBoost's) are weighted by hessians, as XGBoost does. */
#include "tree/score.h"

enum { MOST_DEPTH = 2048 };

typedef struct step {
    int32_t column;
    double  zero, one, weight;
} step;

typedef struct walker {
    const tree  *t;
    const float *row;
    double      *phi;           /* [columns + 1] */
    bool         by_count;
} walker;

/* Adds a column to a path of `length` columns. */
static void extend(step *path, int32_t length, double zero, double one, int32_t column)
{
    path[length] = (step){column, zero, one, length == 0 ? 1 : 0};
    for (int32_t i = length - 1; i >= 0; i--) {
        path[i + 1].weight += one * path[i].weight * (i + 1) / (length + 1);
        path[i].weight *= zero * (length - i) / (length + 1);
    }
}

/* Takes column `at` out of a path whose last place is `last`. */
static void unwind(step *path, int32_t last, int32_t at)
{
    double one = path[at].one, zero = path[at].zero, next = path[last].weight;
    for (int32_t i = last - 1; i >= 0; i--) {
        double before = path[i].weight;
        if (one != 0) {
            path[i].weight = next * (last + 1) / ((i + 1) * one);
            next = before - path[i].weight * zero * (last - i) / (last + 1);
        } else
            path[i].weight = before * (last + 1) / (zero * (last - i));
    }
    for (int32_t i = at; i < last; i++) path[i].column = path[i + 1].column, path[i].zero = path[i + 1].zero, path[i].one = path[i + 1].one;
}

/* The sum of the weights that unwind would leave. */
static double unwound_sum(const step *path, int32_t last, int32_t at)
{
    double one = path[at].one, zero = path[at].zero, next = path[last].weight, total = 0;
    for (int32_t i = last - 1; i >= 0; i--) {
        if (one != 0) {
            double weight = next * (last + 1) / ((i + 1) * one);
            total += weight;
            next = path[i].weight - weight * zero * (last - i) / (last + 1);
        } else
            total += path[i].weight * (last + 1) / (zero * (last - i));
    }
    return total;
}

static double rows_of(const walker *w, int32_t child)
{
    const tree *t = w->t;
    double      rows = w->by_count ? (double)(child >= 0 ? t->internal_count[child] : t->leaf_count[~child]) : child >= 0 ? t->internal_weight[child] : t->leaf_weight[~child];
    return rows > 1e-9 ? rows : 1e-9; /* no child is without rows: a share of 0 could not be unwound */
}

/* parent: the path above, of `length` columns; the own one stands behind it. */
static void descend(const walker *w, int32_t node, const step *parent, int32_t length, double zero, double one, int32_t column)
{
    step *path = (step *)parent + length;
    memcpy(path, parent, (size_t)length * sizeof *path);
    extend(path, length, zero, one, column);
    if (node < 0) {
        for (int32_t i = 1; i <= length; i++) w->phi[path[i].column] += unwound_sum(path, length, i) * (path[i].one - path[i].zero) * w->t->leaf_value[~node];
        return;
    }
    const tree *t = w->t;
    bool        goes_left = node_decides(t, node, w->row[t->feature[node]]);
    int32_t     hot = goes_left ? t->left[node] : t->right[node], cold = goes_left ? t->right[node] : t->left[node];
    double      hot_rows = rows_of(w, hot), cold_rows = rows_of(w, cold), zero_before = 1, one_before = 1;
    for (int32_t i = 1; i <= length; i++)
        if (path[i].column == t->feature[node]) { /* a column counts once */
            zero_before = path[i].zero;
            one_before = path[i].one;
            unwind(path, length--, i);
            break;
        }
    descend(w, hot, path, length + 1, zero_before * hot_rows / (hot_rows + cold_rows), one_before, t->feature[node]);
    descend(w, cold, path, length + 1, zero_before * cold_rows / (hot_rows + cold_rows), 0, t->feature[node]);
}

static bool counts_rows(const tree *t)
{
    for (int32_t n = 0; n < t->leaves - 1; n++)
        if (t->internal_count[n] <= 0) return false;
    for (int32_t k = 0; k < t->leaves; k++)
        if (t->leaf_count[k] <= 0) return false;
    return true;
}

/* The mean of the leaves over the rows that each node was made of. */
static double expected_value(const walker *w)
{
    double sum = 0, rows = 0;
    for (int32_t k = 0; k < w->t->leaves; k++) sum += rows_of(w, ~k) * w->t->leaf_value[k], rows += rows_of(w, ~k);
    return sum / rows;
}

typedef struct prepared {
    int32_t depth;
    bool    by_count;
    double  expected;
} prepared;

static bool prepare(crank_context *context, const crank_trees *trees, prepared *p, int32_t *deepest)
{
    for (int64_t i = 0; i < trees->count; i++) {
        walker w = {.t = &trees->trees[i], .by_count = counts_rows(&trees->trees[i])};
        p[i] = (prepared){trees->scorer->tree[i].depth, w.by_count, expected_value(&w)};
        if (p[i].depth > *deepest) *deepest = p[i].depth;
        if (p[i].depth > MOST_DEPTH)
            return crank_fail(context, CRANK_USAGE, "tree %lld is %d nodes deep; contributions are told for trees of depth %d at most", (long long)i, p[i].depth, MOST_DEPTH), false;
    }
    return true;
}

static void one_row(const crank_trees *trees, const prepared *p, const float *row, step *path, double *out)
{
    int64_t width = trees->columns + 1;
    memset(out, 0, (size_t)(trees->outputs * width) * sizeof *out);
    for (int64_t i = 0; i < trees->count; i++) {
        double *phi = out + i % trees->outputs * width;
        walker  w = {.t = &trees->trees[i], .row = row, .phi = phi, .by_count = p[i].by_count};
        phi[trees->columns] += p[i].expected;
        if (w.t->leaves > 1) descend(&w, 0, path, 0, 1, 1, -1);
    }
    for (int64_t k = 0; k < trees->outputs; k++) {
        double *phi = out + k * width;
        for (int64_t j = 0; trees->average && trees->count > 0 && j < width; j++) phi[j] /= (double)(trees->count / trees->outputs);
        phi[trees->columns] += trees->base[k];
    }
}

crank_status crank_trees_contributions(crank_context *context, const crank_trees *trees, const crank_tree_data *data, double *out)
{
    crank_status status = data_check(context, data, false);
    int          threads = crank_threads(context);
    int32_t      deepest = 0;
    if (status != CRANK_OK) return status;
    if (!trees->scorer) return crank_fail(context, CRANK_USAGE, "contributions are told for finished models");
    prepared *p = crank_alloc(context, (size_t)trees->count + 1, sizeof *p, "expected values of trees");
    bool      good = p && prepare(context, trees, p, &deepest);
    size_t    steps = ((size_t)deepest + 3) * ((size_t)deepest + 4) / 2;
    float    *row = good ? crank_alloc(context, (size_t)threads, ((size_t)trees->columns + 1) * sizeof *row, "rows to explain") : NULL;
    step     *path = good ? crank_alloc(context, (size_t)threads, steps * sizeof *path, "paths of trees") : NULL;
    good = row && path;
    if (good)
#pragma omp parallel for num_threads(threads) schedule(static, 1)
        for (int t = 0; t < threads; t++)
            for (int64_t i = data->rows * t / threads; i < data->rows * (t + 1) / threads; i++) {
                float *own = row + (size_t)t * ((size_t)trees->columns + 1);
                data_row(data, i, trees->columns, own);
                one_row(trees, p, own, path + (size_t)t * steps, out + i * trees->outputs * (trees->columns + 1));
            }
    crank_free(p);
    crank_free(row);
    crank_free(path);
    return good ? CRANK_OK : crank_last_status(context);
}
