/* random_trees.h - rows and models for tests of trees: all kinds of nodes, missing and categorical values. */
#ifndef CRANK_TEST_RANDOM_TREES_H
#define CRANK_TEST_RANDOM_TREES_H

#include "testing.h"

#include "tree/score.h"

/* The rows of tests/oracle/gbdt.py and xgboost_models.py: 8 columns, 3 missing at times, 5 categorical. */
static inline float *make_rows(int n, uint64_t seed)
{
    float *x = malloc((size_t)n * 8 * sizeof *x);
    for (int i = 0; i < n; i++)
        for (int j = 0; j < 8; j++) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            uint32_t u = (uint32_t)(seed >> 40);
            float    v = (float)u / (float)(1 << 23) - 1;
            if (j == 1 && u % 3 == 0) v = 0;
            if (j == 3 && u % 5 == 0) v = NAN;
            if (j == 5) v = u % 31 == 0 ? NAN : u % 29 == 0 ? 25 : (float)(u % 20);
            x[i * 8 + j] = v;
        }
    return x;
}

/* The sum of leaves by walking the trees as they are read: what every faster way must give, bit for bit. */
static inline void walked_scores(const crank_trees *trees, const float *x, int n, double *out)
{
    for (int i = 0; i < n; i++) {
        double *o = out + i * trees->outputs;
        for (int64_t k = 0; k < trees->outputs; k++) o[k] = 0;
        for (int64_t t = 0; t < trees->count; t++) o[t % trees->outputs] += trees->trees[t].leaf_value[tree_leaf(&trees->trees[t], x + i * trees->columns)];
        for (int64_t k = 0; k < trees->outputs; k++) {
            if (trees->average) o[k] /= (double)(trees->count / trees->outputs);
            o[k] += trees->base[k];
        }
    }
}

static inline uint32_t next_random(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*state >> 33);
}

/* A tree of random shape on 8 columns; levels: different thresholds a column. Column 5 is split by sets. */
static inline void random_tree(crank_context *context, uint64_t *state, tree *t, int32_t leaves, uint32_t levels)
{
    int32_t *parent = calloc((size_t)leaves, sizeof *parent); /* node * 2 + is right + 1 */
    assert_true(tree_alloc(context, t, leaves, leaves, 2 * leaves));
    t->sets = 0;
    for (int32_t n = 0; n < leaves - 1; n++) {
        int32_t leaf = (int32_t)(next_random(state) % (uint32_t)(n + 1)), column = (int32_t)(next_random(state) % 8);
        if (parent[leaf]) *((parent[leaf] - 1) % 2 ? &t->right[(parent[leaf] - 1) / 2] : &t->left[(parent[leaf] - 1) / 2]) = n;
        t->feature[n] = column;
        t->left[n] = ~leaf;
        t->right[n] = ~(n + 1);
        parent[leaf] = 2 * n + 1;
        parent[n + 1] = 2 * n + 2;
        t->kind[n] = (uint8_t)(next_random(state) % 2 * NODE_DEFAULT_LEFT);
        if (column == 5) {
            t->kind[n] |= NODE_CATEGORICAL;
            t->threshold[n] = t->sets;
            t->set_start[t->sets + 1] = t->set_start[t->sets] + 1;
            t->set_bits[t->set_start[t->sets++]] = next_random(state) & 0xfffff;
        } else {
            t->kind[n] |= (uint8_t[]){0, NODE_MISSING_ZERO, NODE_MISSING_NAN}[next_random(state) % 3];
            t->threshold[n] = (double)(next_random(state) % levels) / levels * 2 - 1;
        }
        t->gain[n] = 1 + next_random(state) % 100;
    }
    for (int32_t k = 0; k < leaves; k++) t->leaf_value[k] = (double)next_random(state) / 0x1p31 - 0.5;
    /* counts: every leaf a few rows, sums upwards (children have larger numbers) */
    for (int32_t k = 0; k < leaves; k++) t->leaf_weight[k] = (double)(t->leaf_count[k] = 1 + next_random(state) % 50);
    for (int32_t n = leaves - 2; n >= 0; n--) {
        t->internal_count[n] = (t->left[n] >= 0 ? t->internal_count[t->left[n]] : t->leaf_count[~t->left[n]]) + (t->right[n] >= 0 ? t->internal_count[t->right[n]] : t->leaf_count[~t->right[n]]);
        t->internal_weight[n] = (double)t->internal_count[n];
    }
    assert_ok(context, tree_check(context, t, 8, "random", 0));
    free(parent);
}

static inline crank_trees *random_trees(crank_context *context, uint64_t seed, int count, int outputs, int32_t least, int32_t most, uint32_t levels)
{
    crank_trees *trees = trees_new(context, 8, outputs, "regression");
    assert_non_null(trees);
    for (int i = 0; i < count; i++) {
        random_tree(context, &seed, trees_add(context, trees), least + (int32_t)(next_random(&seed) % (uint32_t)(most - least + 1)), levels);
        trees->count++;
    }
    for (int k = 0; k < outputs; k++) trees->base[k] = 0.25 * (k + 1);
    trees->scorer = scorer_make(context, trees);
    assert_non_null(trees->scorer);
    return trees;
}
#endif
