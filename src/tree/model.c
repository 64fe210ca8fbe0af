/* model.c - trees and models: making, copying, checking, importance. */
#include <float.h>
#include <stdlib.h>

#include "tree/score.h"

/* Allocates one array of the tree; sticky. */
static bool take(crank_context *context, void *field, int64_t count, size_t size)
{
    void *made = crank_alloc(context, (size_t)(count > 0 ? count : 1), size, "a tree");
    memcpy(field, &made, sizeof made);
    return made != NULL;
}

bool tree_alloc(crank_context *context, tree *t, int32_t leaves, int32_t sets, int32_t words)
{
    int64_t nodes = leaves - 1;
    *t = (tree){.leaves = leaves, .sets = sets, .shrinkage = 1};
    bool good = take(context, &t->feature, nodes, sizeof *t->feature) && take(context, &t->threshold, nodes, sizeof *t->threshold) &&
                take(context, &t->cut, nodes, sizeof *t->cut) && take(context, &t->kind, nodes, sizeof *t->kind) &&
                take(context, &t->left, nodes, sizeof *t->left) && take(context, &t->right, nodes, sizeof *t->right) &&
                take(context, &t->gain, nodes, sizeof *t->gain) && take(context, &t->internal_value, nodes, sizeof *t->internal_value) &&
                take(context, &t->internal_weight, nodes, sizeof *t->internal_weight) &&
                take(context, &t->internal_count, nodes, sizeof *t->internal_count) &&
                take(context, &t->leaf_value, leaves, sizeof *t->leaf_value) && take(context, &t->leaf_weight, leaves, sizeof *t->leaf_weight) &&
                take(context, &t->leaf_count, leaves, sizeof *t->leaf_count) && take(context, &t->set_start, sets + 1, sizeof *t->set_start) &&
                take(context, &t->set_bits, words, sizeof *t->set_bits);
    if (!good) tree_free(t);
    return good;
}

void tree_free(tree *t)
{
    void *arrays[] = {t->feature, t->threshold, t->cut, t->kind, t->left, t->right, t->gain, t->internal_value, t->internal_weight,
                      t->internal_count, t->leaf_value, t->leaf_weight, t->leaf_count, t->set_start, t->set_bits};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++) crank_free(arrays[i]);
    *t = (tree){0};
}

bool tree_copy(crank_context *context, tree *to, const tree *from)
{
    int32_t words = from->set_start[from->sets];
    size_t  nodes = (size_t)from->leaves - 1, leaves = (size_t)from->leaves;
    if (!tree_alloc(context, to, from->leaves, from->sets, words)) return false;
#define COPY(field, count) memcpy(to->field, from->field, (count) * sizeof *to->field)
    COPY(feature, nodes);
    COPY(threshold, nodes);
    COPY(cut, nodes);
    COPY(kind, nodes);
    COPY(left, nodes);
    COPY(right, nodes);
    COPY(gain, nodes);
    COPY(internal_value, nodes);
    COPY(internal_weight, nodes);
    COPY(internal_count, nodes);
    COPY(leaf_value, leaves);
    COPY(leaf_weight, leaves);
    COPY(leaf_count, leaves);
    COPY(set_start, (size_t)from->sets + 1);
    COPY(set_bits, (size_t)words);
#undef COPY
    to->shrinkage = from->shrinkage;
    return true;
}

float float_below(double t)
{
    if (t >= FLT_MAX) return isinf(t) ? INFINITY : FLT_MAX;
    float f = (float)t;
    return (double)f > t ? nextafterf(f, -INFINITY) : f;
}

/* A child may be any node but the root, or a leaf; `seen` counts each once. */
static bool check_child(const tree *t, int32_t child, uint8_t *seen)
{
    if (child >= 0 ? child == 0 || child >= t->leaves - 1 : ~child >= t->leaves) return false;
    return !seen[child >= 0 ? child : t->leaves - 1 + ~child]++;
}

/* With n - 1 nodes, n leaves and each child reached once, no path can come back to itself except in a part cut off from the root:
 * following the root's part must find every node. */
static bool is_connected(const tree *t, int32_t *stack)
{
    int32_t depth = 0, found = 0;
    stack[depth++] = 0;
    while (depth > 0) {
        int32_t node = stack[--depth];
        found++;
        if (t->left[node] > 0) stack[depth++] = t->left[node];
        if (t->right[node] > 0) stack[depth++] = t->right[node];
    }
    return found == t->leaves - 1;
}

static bool check_set(const tree *t, int32_t node)
{
    double k = t->threshold[node];
    return k >= 0 && k < t->sets && k == (int32_t)k;
}

crank_status tree_check(crank_context *context, tree *t, int64_t columns, const char *where, int64_t number)
{
    const char *wrong = NULL;
    int32_t     nodes = t->leaves - 1;
    uint8_t    *seen = crank_alloc(context, 2 * (size_t)t->leaves, 1, "a tree's check");
    int32_t    *stack = crank_alloc(context, (size_t)t->leaves + 1, sizeof *stack, "a tree's check");
    if (!seen || !stack) wrong = "out of memory";
    if (t->set_start[0] != 0) wrong = "its sets of categories do not begin at 0";
    for (int32_t k = 0; k < t->sets && !wrong; k++)
        if (t->set_start[k] > t->set_start[k + 1]) wrong = "its sets of categories run backwards";
    for (int32_t i = 0; i < nodes && !wrong; i++) {
        if (!check_child(t, t->left[i], seen) || !check_child(t, t->right[i], seen)) wrong = "its children do not make a tree";
        else if (t->feature[i] < 0 || t->feature[i] >= columns) wrong = "a node splits a column that the model does not have";
        else if (t->kind[i] & NODE_CATEGORICAL ? !check_set(t, i) : isnan(t->threshold[i])) wrong = "a threshold is no number, or no set of categories";
        t->cut[i] = t->kind[i] & NODE_CATEGORICAL ? 0 : float_below(t->threshold[i]);
    }
    if (!wrong && nodes > 0 && !is_connected(t, stack)) wrong = "its children do not make a tree";
    for (int32_t i = 0; i < t->leaves && !wrong; i++)
        if (!isfinite(t->leaf_value[i])) wrong = "a leaf is not finite";
    crank_free(seen);
    crank_free(stack);
    return wrong ? crank_fail(context, CRANK_BAD_DATA, "%s: tree %lld: %s", where, (long long)number, wrong) : CRANK_OK;
}

crank_trees *trees_new(crank_context *context, int64_t columns, int64_t outputs, const char *objective)
{
    crank_trees *trees = crank_alloc(context, 1, sizeof *trees, "a model of trees");
    if (!trees) return NULL;
    *trees = (crank_trees){.columns = columns, .outputs = outputs, .sigmoid = 1, .best = NAN};
    trees->objective = crank_strdup(context, objective);
    trees->base = crank_alloc(context, (size_t)outputs, sizeof *trees->base, "a model of trees");
    if (trees->objective && trees->base) return trees;
    crank_trees_free(trees);
    return NULL;
}

tree *trees_add(crank_context *context, crank_trees *trees)
{
    if (trees->count == trees->capacity) {
        int64_t capacity = trees->capacity ? 2 * trees->capacity : 64;
        tree   *grown = realloc(trees->trees, (size_t)capacity * sizeof *grown);
        if (!grown) {
            crank_fail(context, CRANK_FAILED, "out of memory for %lld trees", (long long)capacity);
            return NULL;
        }
        trees->trees = grown;
        trees->capacity = capacity;
    }
    trees->trees[trees->count] = (tree){0};
    return &trees->trees[trees->count];
}

void crank_trees_free(crank_trees *trees)
{
    if (!trees) return;
    for (int64_t i = 0; i < trees->count; i++) tree_free(&trees->trees[i]);
    for (int64_t i = 0; trees->names && i < trees->columns; i++) crank_free(trees->names[i]);
    free(trees->trees);
    scorer_free(trees->scorer);
    crank_free(trees->names);
    crank_free(trees->base);
    crank_free(trees->low);
    crank_free(trees->high);
    crank_free(trees->objective);
    crank_free(trees);
}

void crank_trees_importance(const crank_trees *trees, double *gain, double *splits)
{
    if (gain) memset(gain, 0, (size_t)trees->columns * sizeof *gain);
    if (splits) memset(splits, 0, (size_t)trees->columns * sizeof *splits);
    for (int64_t i = 0; i < trees->count; i++) {
        const tree *t = &trees->trees[i];
        for (int32_t n = 0; n < t->leaves - 1; n++) {
            if (gain && t->gain[n] > 0) gain[t->feature[n]] += t->gain[n];
            if (splits) splits[t->feature[n]]++;
        }
    }
}

int64_t     crank_trees_count(const crank_trees *trees) { return trees->count; }
int64_t     crank_trees_outputs(const crank_trees *trees) { return trees->outputs; }
int64_t     crank_trees_columns(const crank_trees *trees) { return trees->columns; }
const char *crank_trees_column(const crank_trees *trees, int64_t column) { return trees->names ? trees->names[column] : NULL; }
const char *crank_trees_objective(const crank_trees *trees) { return trees->objective; }
double      crank_trees_best(const crank_trees *trees) { return trees->best; }

/* ---- rows ---- */

void data_row(const crank_tree_data *data, int64_t row, int64_t columns, float *out)
{
    int64_t common = data->columns < columns ? data->columns : columns;
    if (data->dense) {
        memcpy(out, data->dense + row * data->columns, (size_t)common * sizeof *out);
    } else {
        for (int64_t j = 0; j < common; j++) out[j] = data->absent_missing ? NAN : 0;
        for (int64_t k = data->starts[row]; k < data->starts[row + 1] && data->indices[k] < common; k++) out[data->indices[k]] = data->values[k];
    }
    for (int64_t j = common; j < columns; j++) out[j] = data->dense || data->absent_missing ? NAN : 0;
}

crank_status data_check(crank_context *context, const crank_tree_data *data, bool labels)
{
    if (data->rows < 0 || data->columns < 0 || data->rows >= INT32_MAX || data->columns >= INT32_MAX)
        return crank_fail(context, CRANK_USAGE, "%lld rows of %lld columns: both must be from 0 to 2147483646", (long long)data->rows, (long long)data->columns);
    if (!data->dense && !(data->starts && data->indices && data->values) && data->rows > 0 && data->columns > 0)
        return crank_fail(context, CRANK_USAGE, "data of trees need dense values or compressed rows");
    if (!labels) return CRANK_OK;
    if (!data->labels || data->rows == 0) return crank_fail(context, CRANK_USAGE, "no rows with labels to learn from");
    for (int64_t i = 0; i < data->rows; i++)
        if (!isfinite(data->labels[i]) || (data->weights && !(data->weights[i] >= 0 && isfinite(data->weights[i]))))
            return crank_fail(context, CRANK_BAD_DATA, "row %lld: the label must be finite, the weight finite and not negative", (long long)i + 1);
    if (!data->offsets) return CRANK_OK;
    for (int64_t q = 0; q < data->queries; q++)
        if (data->offsets[q] > data->offsets[q + 1] || data->offsets[0] != 0 || data->offsets[data->queries] != data->rows)
            return crank_fail(context, CRANK_BAD_DATA, "the offsets of the queries must ascend from 0 to the %lld rows", (long long)data->rows);
    return CRANK_OK;
}
