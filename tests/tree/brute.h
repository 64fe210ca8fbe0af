/* brute.h - trees by exhaustive search in double, for small data of whole numbers 0 .. 9: what the engine must find. */
#ifndef CRANK_TEST_BRUTE_H
#define CRANK_TEST_BRUTE_H

#include "random_trees.h"

enum { BRUTE_ROWS = 400, BRUTE_COLUMNS = 5, BRUTE_OUTPUTS = 3, BRUTE_LEAVES = 64 };

/* Column 1 is missing in one row of six; column 4 may be categorical. Gradients are random, so no two splits gain the same. */
typedef struct brute_data {
    float           x[BRUTE_ROWS * BRUTE_COLUMNS], g[BRUTE_ROWS * BRUTE_OUTPUTS], h[BRUTE_ROWS * BRUTE_OUTPUTS];
    bool            categorical[BRUTE_COLUMNS];
    crank_tree_data data;
} brute_data;

static inline brute_data *brute_open(uint64_t seed, int outputs)
{
    brute_data *d = calloc(1, sizeof *d);
    for (int i = 0; i < BRUTE_ROWS; i++) {
        for (int j = 0; j < BRUTE_COLUMNS; j++) d->x[i * BRUTE_COLUMNS + j] = j == 1 && next_random(&seed) % 6 == 0 ? NAN : (float)(next_random(&seed) % 10);
        for (int k = 0; k < outputs; k++) {
            float v = d->x[i * BRUTE_COLUMNS + k] - 4.5f, u = (float)(next_random(&seed) % 10000) / 10000 - 0.5f;
            d->g[i * outputs + k] = u + (isnan(v) ? 0.4f : 0.1f * v);
            d->h[i * outputs + k] = 0.5f + (float)(next_random(&seed) % 1000) / 1000;
        }
    }
    d->data = (crank_tree_data){.rows = BRUTE_ROWS, .columns = BRUTE_COLUMNS, .dense = d->x, .categorical = d->categorical};
    return d;
}

typedef struct brute_split {
    int    column, cut;      /* numbers: values up to cut go left; categories: the value `cut` */
    bool   missing_left;
    double gain;
} brute_split;

static inline bool brute_left(const brute_data *d, const brute_split *s, int row)
{
    float v = d->x[row * BRUTE_COLUMNS + s->column];
    return isnan(v) ? s->missing_left : d->categorical[s->column] ? (int)v == s->cut : v <= (float)s->cut + 0.5f;
}

/* Gain of a split of the rows that are in `leaf`; `none` where a side is too small. */
static inline double brute_gain(const brute_data *d, const int *leaf_of, int leaf, const brute_split *s, int outputs, double l2, int least, double none)
{
    double gain = 0;
    for (int k = 0; k < outputs; k++) {
        double G[2] = {0}, H[2] = {0};
        int    n[2] = {0};
        for (int i = 0; i < BRUTE_ROWS; i++) {
            if (leaf_of[i] != leaf) continue;
            int side = !brute_left(d, s, i);
            n[side]++;
            G[side] += (double)d->g[i * outputs + k];
            H[side] += (double)d->h[i * outputs + k];
        }
        if (n[0] < least || n[1] < least) return none;
        gain += G[0] * G[0] / (H[0] + l2) + G[1] * G[1] / (H[1] + l2) - (G[0] + G[1]) * (G[0] + G[1]) / (H[0] + H[1] + l2);
    }
    return gain;
}

/* The split of largest gain summed over `leaves` leaves from `first` on. */
static inline brute_split brute_best(const brute_data *d, const int *leaf_of, int first, int leaves, int outputs, double l2, int least, double none)
{
    brute_split best = {.gain = 0};
    for (int j = 0; j < BRUTE_COLUMNS; j++)
        for (int way = 0; way < (j == 1 ? 2 : 1); way++)
            for (int cut = 0; cut < (d->categorical[j] || way == 1 ? 10 : 9); cut++) {
                brute_split s = {j, cut, way == 0, 0};
                for (int l = first; l < first + leaves; l++) s.gain += brute_gain(d, leaf_of, l, &s, outputs, l2, least, none);
                if (s.gain > best.gain) best = s;
            }
    return best;
}

static inline double brute_value(const brute_data *d, const int *leaf_of, int leaf, int outputs, int k, double l2)
{
    double G = 0, H = 0;
    for (int i = 0; i < BRUTE_ROWS; i++)
        if (leaf_of[i] == leaf) G += (double)d->g[i * outputs + k], H += (double)d->h[i * outputs + k];
    return -G / (H + l2);
}

/* The node's test is that split. */
static inline void brute_same(const brute_data *d, const tree *t, int node, const brute_split *s)
{
    assert_int_equal(t->feature[node], s->column);
    for (int v = 0; v < 10; v++) assert_int_equal(node_decides(t, node, (float)v), d->categorical[s->column] ? v == s->cut : v <= s->cut);
    if (s->column == 1) assert_int_equal(node_decides(t, node, NAN), s->missing_left);
}
#endif
