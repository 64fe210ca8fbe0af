/* grow.c - a tree grows by splitting the leaf of largest gain (or level by level) until no split gains or the leaves are used up.
 *
 * The histogram of the child with fewer rows is summed, its sibling's is their parent's minus it. One parallel region a split: each
 * thread owns blocks of features, sums their histograms, subtracts, and scans both children; the winner is chosen in the order of
 * features afterwards, so the number of threads changes nothing. Several processes hold the same rows and take blocks of features in the
 * same way: they exchange only their best splits. */
#include "tree/grow.h"

#include <stdlib.h>

enum { SPLIT_WORDS = 7 + MOST_BINS / 32 }; /* doubles that hold a split */

static scan_numbers *best_scan(void)
{
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq"))
        return scan_numbers_avx512;
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? scan_numbers_avx2 : scan_numbers_plain;
}

bool grower_open(crank_context *context, const crank_tree_options *o, const bin_mapper *mapper, const bin_matrix *matrix, const int8_t *monotone, const dist_group *group, grower *g)
{
    size_t leaves = (size_t)o->num_leaves, features = (size_t)mapper->features + 1, blocks = (size_t)mapper->blocks + 1;
    *g = (grower){.context = context, .options = o, .mapper = mapper, .matrix = matrix, .monotone = monotone, .group = group && group->size > 1 ? group : NULL, .threads = crank_threads(context)};
    if (g->threads > mapper->blocks) g->threads = mapper->blocks > 0 ? mapper->blocks : 1;
    double  bytes = (double)mapper->entries * sizeof(packed);
    int64_t most = (int64_t)((double)o->histogram_pool_size * 0x1p20 / (bytes > 1 ? bytes : 1));
    g->pool_size = (int32_t)(most < 3 ? 3 : most < (int64_t)leaves + 1 ? most : (int64_t)leaves + 1);
    g->levels.row = crank_alloc(context, (size_t)matrix->rows, sizeof *g->levels.row, "gradients in levels");
    g->rows = crank_alloc(context, (size_t)matrix->rows + 1, sizeof *g->rows, "rows of leaves");
    g->spare = crank_alloc(context, (size_t)matrix->rows + 1, sizeof *g->spare, "rows of leaves");
    g->leaf = crank_alloc(context, leaves, sizeof *g->leaf, "leaves");
    g->node = crank_alloc(context, leaves, sizeof *g->node, "nodes");
    g->goes_left = crank_alloc(context, leaves, MOST_BINS, "nodes");
    g->pool = crank_alloc(context, (size_t)g->pool_size, sizeof *g->pool, "histograms");
    g->free_slot = crank_alloc(context, (size_t)g->pool_size, sizeof *g->free_slot, "histograms");
    g->found[0] = crank_alloc(context, features, sizeof *g->found[0], "splits");
    g->found[1] = crank_alloc(context, features, sizeof *g->found[1], "splits");
    g->wanted = crank_alloc(context, features, 1, "features");
    g->blocks_of = crank_alloc(context, blocks * (size_t)g->threads, sizeof *g->blocks_of, "blocks");
    g->block_count = crank_alloc(context, (size_t)g->threads, sizeof *g->block_count, "blocks");
    if (!g->levels.row || !g->rows || !g->spare || !g->leaf || !g->node || !g->goes_left || !g->pool || !g->free_slot || !g->found[0] || !g->found[1] || !g->wanted ||
        !g->blocks_of || !g->block_count)
        return false;
    if (g->group && !(g->exchange = crank_alloc(context, (size_t)g->group->size, 2 * SPLIT_WORDS * sizeof *g->exchange, "splits of processes"))) return false;
    memset(g->wanted, 1, features);
    return true;
}

void grower_close(grower *g)
{
    for (int32_t i = 0; g->pool && i < g->pool_made; i++) crank_free(g->pool[i]);
    void *arrays[] = {g->levels.row, g->rows, g->spare, g->leaf, g->node, g->goes_left, g->pool, g->free_slot, g->found[0], g->found[1], g->wanted, g->blocks_of, g->block_count, g->counts, g->exchange};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++) crank_free(arrays[i]);
}

static int least_loaded(const int64_t *load, int count)
{
    int least = 0;
    for (int t = 1; t < count; t++)
        if (load[t] < load[least]) least = t;
    return least;
}

/* Blocks with a wanted feature, shared out so that each process, and each of its threads, has about the same number of features. */
void grower_share_blocks(grower *g)
{
    enum { MOST = 1024 };
    int64_t load[MOST] = {0}, process_load[MOST] = {0};
    int     processes = g->group ? g->group->size : 1;
    for (int t = 0; t < g->threads; t++) g->block_count[t] = 0;
    for (int32_t k = 0; k < g->mapper->blocks; k++) {
        const bin_block *block = &g->mapper->block[k];
        bool             wanted = false;
        for (int32_t s = 0; s < block->width; s++) {
            int32_t f = g->mapper->feature_of[block->first + s];
            wanted |= f >= 0 && g->wanted[f];
        }
        if (!wanted) continue;
        int64_t work = block->width * (block->room + 64);
        int     process = least_loaded(process_load, processes < MOST ? processes : MOST);
        process_load[process] += work;
        if (g->group && process != g->group->rank) continue;
        int least = least_loaded(load, g->threads < MOST ? g->threads : MOST);
        load[least] += work;
        g->blocks_of[least * g->mapper->blocks + g->block_count[least]++] = k;
    }
}

/* ---- histograms ---- */

/* A slot for a leaf's histogram; when all are taken, the least promising leaf loses its own. -1: memory is out. */
static int32_t take_slot(grower *g, const grow_leaf *spare_a, const grow_leaf *spare_b)
{
    if (g->free_count > 0) return g->free_slot[--g->free_count];
    if (g->pool_made < g->pool_size) {
        packed *made = crank_alloc(g->context, (size_t)g->mapper->entries + 8, sizeof *made, "a histogram");
        if (!made) return -1;
        g->pool[g->pool_made] = made;
        return g->pool_made++;
    }
    grow_leaf *loser = NULL;
    for (int32_t i = 0; i < g->leaves; i++) {
        grow_leaf *each = &g->leaf[i];
        if (each->slot >= 0 && each != spare_a && each != spare_b && (!loser || each->best.gain < loser->best.gain)) loser = each;
    }
    if (!loser) {
        crank_fail(g->context, CRANK_FAILED, "no room for the histograms of two leaves; raise histogram_pool_size");
        return -1;
    }
    int32_t slot = loser->slot;
    loser->slot = -1;
    return slot;
}

static void give_slot(grower *g, grow_leaf *leaf)
{
    if (leaf->slot >= 0) g->free_slot[g->free_count++] = leaf->slot;
    leaf->slot = -1;
}

/* ---- scans ---- */

static scan_leaf scan_of(const grower *g, const grow_leaf *leaf)
{
    const crank_tree_options *o = g->options;
    scan_leaf s = {.sum = leaf->sum, .count = leaf->count, .g_unit = g->levels.g_unit, .h_unit = g->levels.h_unit, .l1 = o->lambda_l1 / g->levels.g_unit,
                   .l2 = o->lambda_l2 / g->levels.h_unit, .value = leaf->value, .low = leaf->low, .high = leaf->high, .options = o};
    double H = packed_h(leaf->sum), by_count = leaf->count > 0 ? ((double)o->min_data_in_leaf - 0.5) * H / (double)leaf->count : 0;
    s.least = fmax(fmax(o->min_sum_hessian_in_leaf / g->levels.h_unit, by_count), 1);
    return s;
}

static bool is_bounded(const grower *g) { return g->monotone || g->options->max_delta_step > 0 || g->options->path_smooth > 0; }

/* The best split of one leaf by each wanted feature of a block; counts: exact, laid out as the histogram, or NULL */
static void scan_block(const grower *g, const bin_block *block, const packed *hist, const uint32_t *counts, scan_leaf *leaf, scan_numbers *scan, split *found)
{
    bool   bounded = is_bounded(g);
    double G = soft(packed_g(leaf->sum), leaf->l1), parent = G * G / (packed_h(leaf->sum) + leaf->l2);
    for (int32_t s = 0; s < block->width; s++) {
        int32_t k = g->mapper->feature_of[block->first + s];
        if (k < 0) continue;
        const feature_bins *f = &g->mapper->feature[k];
        const packed       *h = hist + block->offset + s * block->room;
        found[k].gain = 0;
        found[k].feature = k;
        if (!g->wanted[k]) continue;
        leaf->counts = counts ? counts + block->offset + s * block->room : NULL;
        if (f->categorical) scan_categories(h, f->bins, leaf, &found[k]);
        else if (bounded) scan_bounded(h, f->bins, f->has_missing, leaf, g->monotone ? g->monotone[k] : 0, &found[k]);
        else scan(h, f->bins, f->has_missing, leaf, parent, &found[k]);
    }
}

static void choose(const grower *g, const split *found, grow_leaf *leaf)
{
    leaf->best = (split){.gain = 0};
    for (int32_t k = 0; k < g->mapper->features; k++)
        if (found[k].gain > leaf->best.gain) leaf->best = found[k];
}

/* The best splits of one or two leaves over all processes, each of which knows those of its features: sums of words that only their
 * owner sets. The larger gain wins, of equal ones the lower feature, as in one process. */
bool grower_agree(grower *g, grow_leaf *const *leaves, int count)
{
    if (!g->group) return true;
    size_t  words = (size_t)g->group->size * 2 * SPLIT_WORDS;
    memset(g->exchange, 0, words * sizeof *g->exchange);
    for (int l = 0; l < count; l++) {
        double      *w = g->exchange + (g->group->rank * 2 + l) * SPLIT_WORDS;
        const split *s = &leaves[l]->best;
        double       head[] = {s->gain, s->feature, s->bin, s->default_left, (double)(int32_t)(s->left >> 32), (double)(uint32_t)s->left, s->categorical};
        memcpy(w, head, sizeof head);
        for (int i = 0; i < MOST_BINS / 32; i++) w[7 + i] = s->set[i];
    }
    if (dist_sum_f64(g->context, g->group, g->exchange, words) != CRANK_OK) return false;
    for (int l = 0; l < count; l++) {
        split *best = &leaves[l]->best;
        *best = (split){.gain = 0};
        for (int r = 0; r < g->group->size; r++) {
            const double *w = g->exchange + (r * 2 + l) * SPLIT_WORDS;
            if (!(w[0] > best->gain || (w[0] == best->gain && w[0] > 0 && (int32_t)w[1] < best->feature))) continue;
            *best = (split){.gain = w[0], .feature = (int32_t)w[1], .bin = (int32_t)w[2], .default_left = w[3] != 0, .categorical = w[6] != 0,
                            .left = (int64_t)((uint64_t)(int64_t)w[4] << 32) + (int64_t)w[5]};
            for (int i = 0; i < MOST_BINS / 32; i++) best->set[i] = (uint32_t)w[7 + i];
        }
    }
    return true;
}

static bool may_split(const grower *g, const grow_leaf *leaf)
{
    const crank_tree_options *o = g->options;
    return (o->max_depth <= 0 || leaf->depth < o->max_depth) && leaf->count >= 2 * o->min_data_in_leaf && leaf->count >= 2;
}

/* Histograms and best splits of `small` and `large`. large NULL: of one leaf alone. large->slot holds their parent's histogram, or -1:
 * then both are summed. */
static bool study(grower *g, grow_leaf *small, grow_leaf *large)
{
    bool subtract = large && large->slot >= 0, both = large && !subtract;
    small->slot = take_slot(g, small, large);
    if (both && small->slot >= 0) large->slot = take_slot(g, small, large);
    if (small->slot < 0 || (large && large->slot < 0)) return false;
    packed       *hist = g->pool[small->slot], *other = large ? g->pool[large->slot] : NULL;
    bool          scan_small = may_split(g, small), scan_large = large && may_split(g, large);
    scan_leaf     leaf[2] = {scan_of(g, small), large ? scan_of(g, large) : scan_of(g, small)};
    scan_numbers *scan = best_scan();
    /* little work is done sooner than other threads wake up; scanning a leaf costs as much as adding some thousand rows */
    bool wake = (small->count + (both ? large->count : 0) + 4096) * g->mapper->slots > 1 << 18;
#pragma omp parallel for num_threads(g->threads) schedule(static, 1) if (wake)
    for (int t = 0; t < g->threads; t++) {
        const int32_t *mine = g->blocks_of + t * g->mapper->blocks;
        int32_t        count = g->block_count[t];
        scan_leaf      own[2] = {leaf[0], leaf[1]};
        for (int32_t k = 0; k < count; k++) {
            const bin_block *block = &g->mapper->block[mine[k]];
            memset(hist + block->offset, 0, (size_t)(block->width * block->room) * sizeof *hist);
            if (both) memset(other + block->offset, 0, (size_t)(block->width * block->room) * sizeof *hist);
        }
        histogram_add(g->mapper, g->matrix, g->levels.row, g->rows + small->first, small->count, mine, count, hist);
        if (both) histogram_add(g->mapper, g->matrix, g->levels.row, g->rows + large->first, large->count, mine, count, other);
        for (int32_t k = 0; k < count; k++) {
            const bin_block *block = &g->mapper->block[mine[k]];
            for (int64_t i = block->offset; subtract && i < block->offset + block->width * block->room; i++) other[i] -= hist[i];
            if (scan_small) scan_block(g, block, hist, NULL, &own[0], scan, g->found[0]);
            if (scan_large) scan_block(g, block, other, NULL, &own[1], scan, g->found[1]);
        }
    }
    small->best = (split){.gain = 0};
    if (large) large->best = (split){.gain = 0};
    if (scan_small) choose(g, g->found[0], small);
    if (scan_large) choose(g, g->found[1], large);
    return grower_agree(g, (grow_leaf *const[]){small, large}, large ? 2 : 1);
}

/* Again, with exact rows of every bin: the estimate let through a side that is too small. */
static bool study_exactly(grower *g, grow_leaf *leaf)
{
    if (!g->counts && !(g->counts = crank_alloc(g->context, (size_t)g->mapper->entries + 8, sizeof *g->counts, "exact counts"))) return false;
    scan_leaf s = scan_of(g, leaf);
    s.least = fmax(g->options->min_sum_hessian_in_leaf / g->levels.h_unit, 1); /* rows are counted, not estimated */
    scan_numbers *scan = best_scan();
    if (leaf->slot < 0 && !study(g, leaf, NULL)) return false;
    const packed *hist = g->pool[leaf->slot];
#pragma omp parallel for num_threads(g->threads) schedule(static, 1) if ((leaf->count + 4096) * g->mapper->slots > 1 << 18)
    for (int t = 0; t < g->threads; t++) {
        scan_leaf own = s;
        for (int32_t k = 0; k < g->block_count[t]; k++) {
            const bin_block *block = &g->mapper->block[g->blocks_of[t * g->mapper->blocks + k]];
            uint32_t        *counts = g->counts + block->offset;
            memset(counts, 0, (size_t)(block->width * block->room) * sizeof *counts);
            for (int64_t i = 0; i < leaf->count; i++) {
                const uint8_t *b = g->matrix->by_row + (int64_t)g->rows[leaf->first + i] * g->matrix->slots + block->first;
                for (int32_t f = 0; f < block->width; f++) counts[f * block->room + b[f]]++;
            }
            scan_block(g, block, hist, g->counts, &own, scan, g->found[0]);
        }
    }
    choose(g, g->found[0], leaf);
    return grower_agree(g, &leaf, 1);
}

/* ---- splits ---- */

void split_goes_left(const grower *g, const split *s, uint8_t *goes_left)
{
    const feature_bins *f = &g->mapper->feature[s->feature];
    memset(goes_left, 0, MOST_BINS);
    for (int32_t b = 0; b < f->bins; b++) goes_left[b] = s->categorical ? s->set[b / 32] >> b % 32 & 1 : b <= s->bin;
    if (!s->categorical && f->has_missing) goes_left[f->bins - 1] = s->default_left;
}

static double value_of(const grower *g, packed sum, int64_t count, double parent)
{
    return leaf_output(g->options, packed_g(sum) * g->levels.g_unit, packed_h(sum) * g->levels.h_unit, g->options->lambda_l2, count, parent);
}

/* A child of `parent`: values kept inside the parent's bounds, which a monotone split tightens. */
static grow_leaf child_of(const grower *g, const grow_leaf *parent, packed sum, int64_t first, int64_t count)
{
    grow_leaf c = {.first = first, .count = count, .sum = sum, .depth = parent->depth + 1, .slot = -1, .low = parent->low, .high = parent->high};
    c.value = fmin(fmax(value_of(g, sum, count, parent->value), c.low), c.high);
    return c;
}

static void tighten(const grower *g, int32_t feature, grow_leaf *left, grow_leaf *right)
{
    int direction = g->monotone ? g->monotone[feature] : 0;
    if (!direction) return;
    double middle = (left->value + right->value) / 2;
    (direction > 0 ? left : right)->high = middle;
    (direction > 0 ? right : left)->low = middle;
}

/* Splits leaf i by its best split; the right child becomes leaf g->leaves. *done false: the split was found to be too small and the
 * leaf has another best one now. */
static bool split_leaf(grower *g, int32_t i, bool *done)
{
    grow_leaf *leaf = &g->leaf[i], parent = *leaf;
    int32_t    number = g->leaves - 1, f = parent.best.feature;
    uint8_t   *goes_left = g->goes_left + (size_t)number * MOST_BINS;
    *done = false;
    split_goes_left(g, &parent.best, goes_left);
    int64_t left = partition(g->threads, g->rows + parent.first, g->spare + parent.first, parent.count, g->matrix->by_slot + (int64_t)g->mapper->slot_of[f] * g->matrix->rows, goes_left);
    int64_t least = strcmp(g->options->count, "exact") == 0 ? g->options->min_data_in_leaf : 0;
    if (left < (least > 1 ? least : 1) || parent.count - left < (least > 1 ? least : 1)) {
        return study_exactly(g, leaf); /* the rows stay parted: their order within a leaf tells nothing */
    }
    g->node[number] = (grow_node){.split = parent.best, .left = ~i, .right = ~g->leaves, .value = parent.value, .weight = packed_h(parent.sum) * g->levels.h_unit, .count = parent.count};
    if (parent.parent >= 0) *(parent.is_left ? &g->node[parent.parent].left : &g->node[parent.parent].right) = number;
    grow_leaf *other = &g->leaf[g->leaves++];
    *leaf = child_of(g, &parent, parent.best.left, parent.first, left);
    *other = child_of(g, &parent, parent.sum - parent.best.left, parent.first + left, parent.count - left);
    leaf->parent = other->parent = number;
    leaf->is_left = true;
    tighten(g, f, leaf, other);
    *done = true;
    grow_leaf *small = leaf->count <= other->count ? leaf : other, *large = small == leaf ? other : leaf;
    large->slot = parent.slot;
    if (g->leaves == g->options->num_leaves || (!may_split(g, leaf) && !may_split(g, other))) {
        give_slot(g, large);
        return true;
    }
    if (!study(g, small, large)) return false;
    if (!(small->best.gain > 0)) give_slot(g, small);
    if (!(large->best.gain > 0)) give_slot(g, large);
    return true;
}

int32_t grower_next_leaf(const grower *g)
{
    bool    by_level = strcmp(g->options->grow_policy, "depthwise") == 0;
    int32_t best = -1;
    for (int32_t i = 0; i < g->leaves; i++) {
        const grow_leaf *leaf = &g->leaf[i], *top = best >= 0 ? &g->leaf[best] : NULL;
        if (!(leaf->best.gain > 0)) continue;
        bool better = !top || (by_level && leaf->depth != top->depth ? leaf->depth < top->depth : leaf->best.gain > top->best.gain);
        if (better) best = i;
    }
    return best;
}

bool grower_grow(grower *g, const float *gradient, const float *hessian, int64_t n)
{
    crank_clear(g->context);
    g->leaves = 1;
    g->free_count = 0;
    for (int32_t i = 0; i < g->pool_made; i++) g->free_slot[g->free_count++] = i;
    if (n < 1 || g->mapper->features == 0 || !quantise(g->context, g->options, g->number, gradient, hessian, g->rows, n, &g->levels)) return false;
    grower_share_blocks(g);
    for (int32_t k = 0; k < g->mapper->features; k++) g->found[0][k].gain = g->found[1][k].gain = 0; /* blocks without a wanted feature are not scanned */
    packed sum = 0;
    for (int64_t i = 0; i < n; i++) sum += g->levels.row[g->rows[i]];
    g->leaf[0] = (grow_leaf){.count = n, .sum = sum, .slot = -1, .parent = -1, .low = -INFINITY, .high = INFINITY};
    g->leaf[0].value = value_of(g, sum, n, 0);
    if (!may_split(g, &g->leaf[0])) return false;
    if (!study(g, &g->leaf[0], NULL)) return false;
    for (int32_t i; g->leaves < g->options->num_leaves && (i = grower_next_leaf(g)) >= 0;) {
        bool done;
        if (!split_leaf(g, i, &done)) return false;
    }
    return g->leaves > 1;
}

int32_t grower_leaf(const grower *g, const uint8_t *bins)
{
    int32_t node = 0;
    while (node >= 0) {
        const grow_node *n = &g->node[node];
        node = g->goes_left[(size_t)node * MOST_BINS + bins[g->mapper->slot_of[n->split.feature]]] ? n->left : n->right;
    }
    return ~node;
}

/* ---- the finished tree ---- */

void grower_sums(const grower *g, int64_t first, int64_t count, const float *gradient, const float *hessian, double *G, double *H)
{
    double a[4] = {0}, b[4] = {0};
    for (int64_t i = 0; i < count; i++) {
        int32_t r = g->rows[first + i];
        a[i & 3] += (double)gradient[r];
        b[i & 3] += (double)hessian[r];
    }
    *G = (a[0] + a[1]) + (a[2] + a[3]);
    *H = (b[0] + b[1]) + (b[2] + b[3]);
}

static int32_t set_words(const grower *g, const split *s)
{
    const feature_bins *f = &g->mapper->feature[s->feature];
    int32_t             largest = 0;
    for (int32_t b = 1; b < f->bins; b++)
        if ((s->set[b / 32] >> b % 32 & 1) && f->category[b] > largest) largest = f->category[b];
    return largest / 32 + 1;
}

static void put_node(const grower *g, int32_t i, tree *t, int32_t *set)
{
    const grow_node    *n = &g->node[i];
    const feature_bins *f = &g->mapper->feature[n->split.feature];
    t->feature[i] = f->column;
    t->left[i] = n->left;
    t->right[i] = n->right;
    t->gain[i] = n->split.gain;
    t->internal_value[i] = n->value;
    t->internal_weight[i] = n->weight;
    t->internal_count[i] = n->count;
    if (!n->split.categorical) {
        t->threshold[i] = f->upper[n->split.bin];
        t->cut[i] = f->cut[n->split.bin];
        t->kind[i] = (uint8_t)((n->split.default_left ? NODE_DEFAULT_LEFT : 0) | (f->has_missing ? NODE_MISSING_NAN : 0));
        return;
    }
    t->kind[i] = NODE_CATEGORICAL;
    t->threshold[i] = *set;
    t->set_start[*set + 1] = t->set_start[*set] + set_words(g, &n->split);
    uint32_t *bits = t->set_bits + t->set_start[(*set)++];
    for (int32_t b = 1; b < f->bins; b++)
        if (n->split.set[b / 32] >> b % 32 & 1) bits[f->category[b] / 32] |= 1u << f->category[b] % 32;
}

bool grower_shape(const grower *g, double rate, tree *out)
{
    int32_t sets = 0;
    int64_t words = 0;
    for (int32_t i = 0; i < g->leaves - 1; i++)
        if (g->node[i].split.categorical) sets++, words += set_words(g, &g->node[i].split);
    if (words > INT32_MAX) return crank_fail(g->context, CRANK_FAILED, "the sets of categories of one tree take too much memory: number categories from 0"), false;
    if (!tree_alloc(g->context, out, g->leaves, sets, (int32_t)words)) return false;
    for (int32_t i = 0, set = 0; i < g->leaves - 1; i++) put_node(g, i, out, &set);
    for (int32_t i = 0; i < g->leaves - 1; i++) out->internal_value[i] *= rate;
    out->shrinkage = rate;
    return true;
}

bool grower_tree(grower *g, const float *gradient, const float *hessian, double rate, tree *out)
{
    if (!grower_shape(g, rate, out)) return false;
    bool renew = !g->options->use_quantized_grad || g->options->quant_train_renew_leaf;
#pragma omp parallel for num_threads(crank_threads(g->context)) schedule(dynamic, 4)
    for (int32_t i = 0; i < g->leaves; i++) {
        const grow_leaf *leaf = &g->leaf[i];
        double           G, H, parent = leaf->parent >= 0 ? g->node[leaf->parent].value : 0;
        grower_sums(g, leaf->first, leaf->count, gradient, hessian, &G, &H);
        out->leaf_value[i] = rate * (renew ? fmin(fmax(leaf_output(g->options, G, H, g->options->lambda_l2, leaf->count, parent), leaf->low), leaf->high) : leaf->value);
        out->leaf_weight[i] = H;
        out->leaf_count[i] = leaf->count;
    }
    return true;
}
