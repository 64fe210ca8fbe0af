/* wide.c - growth of trees with vectors in their leaves and of oblivious trees (wide.h).
 *
 * As in grow.c the histograms of the smaller child are summed and its sibling's are the parent's minus them, threads own blocks of
 * features, and processes exchange their best splits. Where histogram_pool_size has no room for a leaf's histograms they are summed anew
 * into a thread's scratch; the sums are whole numbers, so the tree is the same. */
#include "tree/wide.h"

enum { BLOCK_WIDTH = 16, TALLY = BLOCK_WIDTH * 2 * MOST_BINS };

/* The smaller child of a split, and the larger one, or -1. */
typedef struct pair {
    int32_t small, large;
} pair;

static size_t store_size(const wide *w) { return ((size_t)(w->outputs + w->counted) * (size_t)w->g->mapper->entries + 8) * sizeof(packed); }

static scan_output *best_scan(void)
{
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq"))
        return scan_output_avx512;
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? scan_output_avx2 : scan_output_plain;
}

bool wide_open(grower *g, int64_t outputs, bool oblivious, wide *w)
{
    size_t  leaves = (size_t)g->options->num_leaves + 1, K = (size_t)outputs, threads = (size_t)g->threads;
    *w = (wide){.g = g, .outputs = outputs, .oblivious = oblivious, .counted = g->options->min_data_in_leaf > 1, .scan = best_scan()};
    double most = (double)g->options->histogram_pool_size * 0x1p20 / (double)store_size(w);
    w->pool_size = (int32_t)fmin(fmax(most, 0), (double)leaves);
    w->levels = crank_alloc(g->context, K, sizeof *w->levels, "gradients in levels");
    w->leaf = crank_alloc(g->context, leaves, sizeof *w->leaf, "leaves");
    w->sum = crank_alloc(g->context, leaves, K * sizeof *w->sum, "leaves");
    w->node_value = crank_alloc(g->context, leaves, K * sizeof *w->node_value, "nodes");
    w->node_weight = crank_alloc(g->context, leaves, K * sizeof *w->node_weight, "nodes");
    w->node_gain = crank_alloc(g->context, leaves, K * sizeof *w->node_gain, "nodes");
    w->pool = crank_alloc(g->context, (size_t)w->pool_size + 1, sizeof *w->pool, "histograms");
    w->free = crank_alloc(g->context, (size_t)w->pool_size + 1, sizeof *w->free, "histograms");
    w->scratch = crank_alloc(g->context, threads, sizeof *w->scratch, "histograms");
    w->tally = crank_alloc(g->context, threads * 2, TALLY * sizeof *w->tally, "gains");
    bool good = w->levels && w->leaf && w->sum && w->node_value && w->node_weight && w->node_gain && w->pool && w->free && w->scratch && w->tally;
    for (size_t t = 0; good && t < threads; t++) good = (w->scratch[t] = crank_alloc(g->context, 1, store_size(w), "histograms")) != NULL;
    for (size_t k = 0; good && k < K; k++) good = (w->levels[k].row = crank_alloc(g->context, (size_t)g->matrix->rows + 1, sizeof(packed), "gradients in levels")) != NULL;
    if (good && w->counted) good = (w->ones = crank_alloc(g->context, (size_t)g->matrix->rows + 1, sizeof *w->ones, "rows to count")) != NULL;
    for (int64_t i = 0; good && w->counted && i < g->matrix->rows; i++) w->ones[i] = 1;
    return good;
}

void wide_close(wide *w)
{
    for (int64_t k = 0; w->levels && k < w->outputs; k++) crank_free(w->levels[k].row);
    for (int32_t i = 0; i < w->pool_made; i++) crank_free(w->pool[i]);
    for (int t = 0; w->scratch && t < w->g->threads; t++) crank_free(w->scratch[t]);
    void *arrays[] = {w->levels, w->leaf, w->sum, w->node_value, w->node_weight, w->node_gain, w->pool, w->free, w->ones, w->scratch, w->tally};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++) crank_free(arrays[i]);
    *w = (wide){0};
}

/* ---- histograms ---- */

static void give_store(wide *w, int32_t i)
{
    if (w->leaf[i].store) w->free[w->free_count++] = w->leaf[i].store;
    w->leaf[i].store = NULL;
    w->leaf[i].of_parent = false;
}

/* A leaf without a store goes without where the pool is used up. False: memory is out. */
static bool take_store(wide *w, int32_t i)
{
    if (w->leaf[i].store) return true;
    if (w->free_count > 0) w->leaf[i].store = w->free[--w->free_count];
    else if (w->pool_made < w->pool_size) {
        if (!(w->pool[w->pool_made] = crank_alloc(w->g->context, 1, store_size(w), "histograms"))) return false;
        w->leaf[i].store = w->pool[w->pool_made++];
    }
    return true;
}

/* Sums, and rows where they are counted, of leaf i in one block. */
static void sum_block(const wide *w, int32_t i, int32_t number, packed *store)
{
    const grower    *g = w->g;
    const bin_block *block = &g->mapper->block[number];
    for (int64_t k = 0; k < w->outputs + w->counted; k++) {
        packed *hist = store + k * g->mapper->entries;
        memset(hist + block->offset, 0, (size_t)(block->width * block->room) * sizeof *hist);
        histogram_add(g->mapper, g->matrix, k < w->outputs ? w->levels[k].row : w->ones, g->rows + g->leaf[i].first, g->leaf[i].count, &number, 1, hist);
    }
}

/* large (the parent's) -= small, in one block. */
static void subtract_block(const wide *w, const bin_block *block, const packed *small, packed *large)
{
    int64_t count = block->width * block->room;
    for (int64_t k = 0; k < w->outputs + w->counted; k++) {
        const packed *from = small + k * w->g->mapper->entries + block->offset;
        packed       *to = large + k * w->g->mapper->entries + block->offset;
        for (int64_t i = 0; i < count; i++) to[i] -= from[i];
    }
}

/* ---- scans ---- */

static bool may_split(const wide *w, int32_t i)
{
    const crank_tree_options *o = w->g->options;
    const grow_leaf          *leaf = &w->g->leaf[i];
    return (o->max_depth <= 0 || leaf->depth < o->max_depth) && leaf->count >= 2 * o->min_data_in_leaf && leaf->count >= 2;
}

/* One thread's block: of an oblivious tree all pairs tell of one split, else there is one pair and each leaf has its own. */
static void study_block(wide *w, const pair *pairs, int32_t count, int32_t number, int thread)
{
    const bin_block *block = &w->g->mapper->block[number];
    packed          *scratch = w->scratch[thread];
    double          *tally = w->tally + (size_t)thread * 2 * TALLY, *second = w->oblivious ? tally : tally + TALLY;
    memset(tally, 0, 2 * TALLY * sizeof *tally);
    for (int32_t p = 0; p < count; p++) {
        int32_t s = pairs[p].small, l = pairs[p].large;
        packed *small = w->leaf[s].store ? w->leaf[s].store : scratch;
        sum_block(w, s, number, small);
        wide_scan(w, s, block, small, tally);
        if (l < 0) continue;
        packed *large = w->leaf[l].store ? w->leaf[l].store : scratch;
        if (w->leaf[l].of_parent && small != scratch) subtract_block(w, block, small, large);
        else sum_block(w, l, number, large);
        wide_scan(w, l, block, large, second);
    }
    wide_pick(w, block, tally, w->g->found[0]);
    if (!w->oblivious && pairs[0].large >= 0) wide_pick(w, block, second, w->g->found[1]);
}

static void choose(const grower *g, const split *found, grow_leaf *leaf)
{
    leaf->best = (split){.gain = 0};
    for (int32_t k = 0; k < g->mapper->features; k++)
        if (found[k].gain > leaf->best.gain) leaf->best = found[k];
}

/* Histograms and best splits: of an oblivious tree that of the level, at leaf 0. */
static bool study(wide *w, const pair *pairs, int32_t count)
{
    grower *g = w->g;
    for (int32_t p = 0; p < count; p++)
        if (!take_store(w, pairs[p].small) || (pairs[p].large >= 0 && !take_store(w, pairs[p].large))) return false;
#pragma omp parallel for num_threads(g->threads) schedule(static, 1)
    for (int t = 0; t < g->threads; t++)
        for (int32_t k = 0; k < g->block_count[t]; k++) study_block(w, pairs, count, g->blocks_of[t * g->mapper->blocks + k], t);
    for (int32_t p = 0; p < count; p++) {
        w->leaf[pairs[p].small].of_parent = false;
        if (pairs[p].large >= 0) w->leaf[pairs[p].large].of_parent = false;
    }
    int32_t    first = w->oblivious ? 0 : pairs[0].small, other = w->oblivious ? -1 : pairs[0].large;
    grow_leaf *leaves[2] = {&g->leaf[first], other >= 0 ? &g->leaf[other] : NULL};
    choose(g, g->found[0], leaves[0]);
    if (other >= 0) choose(g, g->found[1], leaves[1]);
    return grower_agree(g, leaves, other >= 0 ? 2 : 1);
}

/* ---- splits ---- */

static void sum_rows(const wide *w, int64_t first, int64_t count, packed *out)
{
    for (int64_t k = 0; k < w->outputs; k++) {
        packed sum = 0;
        for (int64_t r = first; r < first + count; r++) sum += w->levels[k].row[w->g->rows[r]];
        out[k] = sum;
    }
}

static double value_of(const wide *w, int64_t k, packed sum, int64_t count)
{
    return leaf_output(w->g->options, packed_g(sum) * w->levels[k].g_unit, packed_h(sum) * w->levels[k].h_unit, w->g->options->lambda_l2, count, 0);
}

/* Values, hessians and gains of the node that parts `both` into `left` and the rest; a node of sides too small has no gain. */
static void put_node(wide *w, int32_t number, const packed *left, const packed *both, int64_t count, bool allowed)
{
    for (int64_t k = 0; k < w->outputs; k++) {
        int64_t at = (int64_t)number * w->outputs + k;
        w->node_value[at] = value_of(w, k, both[k], count);
        w->node_weight[at] = packed_h(both[k]) * w->levels[k].h_unit;
        w->node_gain[at] = allowed ? wide_score(w, k, left[k]) + wide_score(w, k, both[k] - left[k]) - wide_score(w, k, both[k]) : 0;
    }
}

/* Leaf i is parted by s: its right side becomes leaf g->leaves. */
static pair part_leaf(wide *w, int32_t i, const split *s)
{
    grower    *g = w->g;
    grow_leaf  parent = g->leaf[i];
    wide_leaf  above = w->leaf[i];
    int32_t    number = g->leaves - 1, j = g->leaves++;
    int64_t    K = w->outputs;
    uint8_t   *goes_left = g->goes_left + (size_t)number * MOST_BINS;
    packed    *both = w->sum + i * K, *other = w->sum + j * K; /* other: first of the left side */
    split_goes_left(g, s, goes_left);
    int64_t left = partition(g->threads, g->rows + parent.first, g->spare + parent.first, parent.count, g->matrix->by_slot + (int64_t)g->mapper->slot_of[s->feature] * g->matrix->rows, goes_left);
    int64_t right = parent.count - left;
    sum_rows(w, parent.first, left, other);
    bool allowed = wide_allows(w, other, both, left, parent.count);
    put_node(w, number, other, both, parent.count, allowed);
    for (int64_t k = 0; k < K; k++) {
        packed mine = other[k];
        other[k] = both[k] - mine;
        both[k] = mine;
    }
    g->node[number] = (grow_node){.split = *s, .left = ~i, .right = ~j, .count = parent.count};
    if (parent.parent >= 0) *(parent.is_left ? &g->node[parent.parent].left : &g->node[parent.parent].right) = number;
    g->leaf[i] = (grow_leaf){.first = parent.first, .count = left, .depth = parent.depth + 1, .parent = number, .is_left = true, .slot = -1};
    g->leaf[j] = (grow_leaf){.first = parent.first + left, .count = right, .depth = parent.depth + 1, .parent = number, .slot = -1};
    w->leaf[i] = allowed ? (wide_leaf){.value_first = parent.first, .value_count = left} : (wide_leaf){.value_first = above.value_first, .value_count = above.value_count};
    w->leaf[j] = allowed ? (wide_leaf){.value_first = parent.first + left, .value_count = right} : w->leaf[i];
    pair made = left <= right ? (pair){i, j} : (pair){j, i};
    w->leaf[made.large].store = above.store;
    w->leaf[made.large].of_parent = above.store != NULL;
    return made;
}

static int32_t deepest(const crank_tree_options *o)
{
    int32_t depth = 0;
    while (depth < 30 && (int64_t)2 << depth <= o->num_leaves) depth++;
    return o->max_depth > 0 && o->max_depth < depth ? (int32_t)o->max_depth : depth;
}

/* Level by level: leaf i of 2^level becomes leaves i and 2^level + i, so a leaf's number tells by its bits where its rows went. */
static bool grow_levels(wide *w)
{
    grower *g = w->g;
    int32_t most = deepest(g->options), level = 0;
    pair   *pairs = crank_alloc(g->context, ((size_t)1 << most) + 1, sizeof *pairs, "leaves of a level");
    bool    good = pairs != NULL;
    if (good) pairs[0] = (pair){0, -1};
    for (int32_t count = 1; good && level < most; level++) {
        good = study(w, pairs, count);
        split s = g->leaf[0].best;
        if (!good || !(s.gain > 0)) break;
        count = 1 << level;
        for (int32_t i = 0; i < count; i++) pairs[i] = part_leaf(w, i, &s);
    }
    crank_free(pairs);
    return good;
}

static bool grow_leaves(wide *w)
{
    grower *g = w->g;
    if (!may_split(w, 0)) return true;
    if (!study(w, &(pair){0, -1}, 1)) return false;
    for (int32_t i; g->leaves < g->options->num_leaves && (i = grower_next_leaf(g)) >= 0;) {
        split s = g->leaf[i].best;
        pair  made = part_leaf(w, i, &s);
        bool  small = may_split(w, made.small), large = may_split(w, made.large);
        if (g->leaves < g->options->num_leaves && (small || large) && !study(w, &made, 1)) return false;
        if (!small) g->leaf[made.small].best.gain = 0;
        if (!large) g->leaf[made.large].best.gain = 0;
        if (!(g->leaf[made.small].best.gain > 0)) give_store(w, made.small);
        if (!(g->leaf[made.large].best.gain > 0)) give_store(w, made.large);
    }
    return true;
}

/* An output whose gradients are all 0 counts for nothing. */
static bool quantise_outputs(wide *w, const float *gradient, const float *hessian, int64_t stride, int64_t n)
{
    bool any = false;
    for (int64_t k = 0; k < w->outputs; k++) {
        quantised *q = &w->levels[k];
        if (quantise(w->g->context, w->g->options, w->g->number + k, gradient + k * stride, hessian + k * stride, w->g->rows, n, q)) {
            any = true;
            continue;
        }
        q->g_unit = q->h_unit = 1;
        memset(q->row, 0, (size_t)w->g->matrix->rows * sizeof *q->row);
    }
    return any;
}

bool wide_grow(wide *w, const float *gradient, const float *hessian, int64_t stride, int64_t n)
{
    grower *g = w->g;
    crank_clear(g->context);
    g->leaves = 1;
    if (n < 1 || g->mapper->features == 0 || !quantise_outputs(w, gradient, hessian, stride, n)) return false;
    grower_share_blocks(g);
    for (int32_t k = 0; k < g->mapper->features; k++) g->found[0][k].gain = g->found[1][k].gain = 0; /* blocks without a wanted feature are not scanned */
    g->leaf[0] = (grow_leaf){.count = n, .slot = -1, .parent = -1};
    w->leaf[0] = (wide_leaf){.value_count = n};
    sum_rows(w, 0, n, w->sum);
    bool good = w->oblivious ? grow_levels(w) : grow_leaves(w);
    for (int32_t i = 0; i < g->leaves; i++) give_store(w, i);
    return good && g->leaves > 1;
}

/* ---- the finished tree ---- */

bool wide_tree(wide *w, int64_t output, const float *gradient, const float *hessian, double rate, tree *out)
{
    grower *g = w->g;
    for (int32_t i = 0; i < g->leaves - 1; i++) {
        int64_t at = (int64_t)i * w->outputs + output;
        g->node[i].value = w->node_value[at];
        g->node[i].weight = w->node_weight[at];
        g->node[i].split.gain = w->node_gain[at];
    }
    if (!grower_shape(g, rate, out)) return false;
#pragma omp parallel for num_threads(crank_threads(g->context)) schedule(dynamic, 4)
    for (int32_t i = 0; i < g->leaves; i++) {
        const wide_leaf *leaf = &w->leaf[i];
        double           G, H, own_G, own_H;
        grower_sums(g, leaf->value_first, leaf->value_count, gradient, hessian, &G, &H);
        grower_sums(g, g->leaf[i].first, g->leaf[i].count, gradient, hessian, &own_G, &own_H);
        out->leaf_value[i] = rate * leaf_output(g->options, G, H, g->options->lambda_l2, leaf->value_count, 0);
        out->leaf_weight[i] = own_H;
        out->leaf_count[i] = g->leaf[i].count;
    }
    return true;
}
