/* score_make.c - a model -> its layout for scoring: inputs, planes of ranks, nodes parents first. */
#include <stdlib.h>

#include "tree/score.h"

typedef struct maker {
    crank_context     *context;
    const crank_trees *trees;
    scorer            *s;
    int32_t            inputs_room;
    int64_t           *cut_start;   /* [inputs + 1] */
    float             *cut;         /* thresholds of masked trees by input, ascending and distinct; cut_count[i] of them */
    int32_t           *cut_count, *first_plane;
    int32_t           *place, *queue; /* [most leaves of any tree * 2] */
    int32_t           *leaf_place;  /* [most leaves of any tree]: number of a leaf in the layout */
} maker;

static bool is_masked(const score_tree *t) { return t->levels || t->leaves <= MOST_MASKED; }

/* Levels of a tree all of whose nodes of a level ask the same of numbers, with leaves[bits] where its bits lead; 0: it is none. */
static int32_t levels_of(const tree *t, int32_t *leaves)
{
    int32_t levels = 0;
    while (levels < MOST_LEVELS && 1 << levels < t->leaves) levels++;
    if (levels < 1 || 1 << levels != t->leaves) return 0;
    for (int32_t bits = 0; bits < t->leaves; bits++) {
        int32_t node = 0, like = 0; /* like: the node of the level on the leftmost way */
        for (int32_t d = 0; d < levels; d++) {
            if (node < 0 || like < 0 || t->kind[node] & NODE_CATEGORICAL || t->feature[node] != t->feature[like] || t->cut[node] != t->cut[like] || t->kind[node] != t->kind[like]) return 0;
            node = bits >> d & 1 ? t->right[node] : t->left[node];
            like = t->left[like];
        }
        if (node >= 0) return 0;
        leaves[bits] = ~node;
    }
    return levels;
}

static bool same_nodes(const tree *a, const tree *b)
{
    size_t n = (size_t)a->leaves - 1;
    return a->leaves == b->leaves && a->sets == b->sets && !memcmp(a->feature, b->feature, n * sizeof *a->feature) && !memcmp(a->cut, b->cut, n * sizeof *a->cut) &&
           !memcmp(a->kind, b->kind, n * sizeof *a->kind) && !memcmp(a->left, b->left, n * sizeof *a->left) && !memcmp(a->right, b->right, n * sizeof *a->right) &&
           !memcmp(a->threshold, b->threshold, n * sizeof *a->threshold) && !memcmp(a->set_start, b->set_start, ((size_t)a->sets + 1) * sizeof *a->set_start) &&
           !memcmp(a->set_bits, b->set_bits, (size_t)a->set_start[a->sets] * sizeof *a->set_bits);
}

static score_missing treatment(uint8_t kind)
{
    if (kind & NODE_CATEGORICAL) return CATEGORY;
    if (kind & NODE_MISSING_ZERO) return kind & NODE_DEFAULT_LEFT ? ZERO_LEFT : ZERO_RIGHT;
    if (kind & NODE_MISSING_NAN) return kind & NODE_DEFAULT_LEFT ? NAN_LEFT : NAN_RIGHT;
    return MISSING_AS_ZERO;
}

/* The input of a column and treatment, made when first asked for; -1: memory is out. */
static int32_t input_of(maker *m, int32_t column, score_missing missing)
{
    scorer *s = m->s;
    for (int32_t i = s->of_column[column]; i >= 0; i = s->input[i].next)
        if (s->input[i].missing == missing) return i;
    if (s->inputs == m->inputs_room) {
        int32_t      room = 2 * m->inputs_room + 64;
        score_input *grown = crank_alloc(m->context, (size_t)room, sizeof *grown, "inputs of trees");
        if (!grown) return -1;
        if (s->inputs) memcpy(grown, s->input, (size_t)s->inputs * sizeof *grown);
        crank_free(s->input);
        s->input = grown;
        m->inputs_room = room;
    }
    s->input[s->inputs] = (score_input){column, missing, s->of_column[column]};
    return s->of_column[column] = s->inputs++;
}

static int ascending(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* Counts what there is, numbers the inputs, and takes room for all. */
static bool measure_model(maker *m)
{
    scorer *s = m->s;
    int64_t nodes = 0, walks = 0, values = 0, sets = 0, bits = 0;
    int32_t longest = 1;
    for (int64_t i = 0; i < s->count; i++)
        if (m->trees->trees[i].leaves > longest) longest = m->trees->trees[i].leaves;
    if (!(m->leaf_place = crank_alloc(m->context, (size_t)longest, sizeof *m->leaf_place, "leaves of trees"))) return false;
    for (int64_t i = 0; i < s->count; i++) {
        const tree *t = &m->trees->trees[i];
        s->tree[i] = (score_tree){.leaves = t->leaves, .node = nodes, .walk = walks, .value = values, .same = i > 0 && same_nodes(t, t - 1)};
        for (int32_t n = 0; n < t->leaves - 1; n++) {
            if (input_of(m, t->feature[n], treatment(t->kind[n])) < 0) return false;
            s->tree[i].by_sets |= t->kind[n] & NODE_CATEGORICAL;
            sets += t->kind[n] & NODE_CATEGORICAL ? 1 : 0;
        }
        if (t->leaves <= 1 << MOST_LEVELS) s->tree[i].levels = levels_of(t, m->leaf_place);
        if (is_masked(&s->tree[i])) nodes += s->tree[i].levels ? s->tree[i].levels : t->leaves - 1;
        if (is_masked(&s->tree[i]) && !s->tree[i].levels && t->leaves > s->most_leaves) s->most_leaves = t->leaves;
        walks += 2 * (int64_t)t->leaves - 1;
        values += t->leaves;
        bits += t->set_start[t->sets];
    }
    if (sets > INT32_MAX / 2) return crank_fail(m->context, CRANK_FAILED, "%lld nodes split by categories: too many to score", (long long)sets), false;
    s->node = crank_alloc(m->context, (size_t)nodes + 1, sizeof *s->node, "nodes of trees");
    s->set_of = crank_alloc(m->context, (size_t)nodes + 1, sizeof *s->set_of, "nodes of trees");
    s->walk = crank_alloc(m->context, (size_t)walks + 1, sizeof *s->walk, "nodes of trees");
    s->value = crank_alloc(m->context, (size_t)values + 1, sizeof *s->value, "leaves of trees");
    s->set = crank_alloc(m->context, (size_t)sets + 1, sizeof *s->set, "sets of categories");
    s->bits = crank_alloc(m->context, (size_t)bits + 1, sizeof *s->bits, "sets of categories");
    m->place = crank_alloc(m->context, 2 * (size_t)longest, sizeof *m->place, "nodes of trees");
    m->queue = crank_alloc(m->context, 2 * (size_t)longest, sizeof *m->queue, "nodes of trees");
    return s->node && s->set_of && s->walk && s->value && s->set && s->bits && m->place && m->queue;
}

/* Distinct thresholds of each input. */
static bool find_cuts(maker *m)
{
    scorer *s = m->s;
    size_t  inputs = (size_t)s->inputs + 2;
    m->cut_start = crank_alloc(m->context, inputs + 1, sizeof *m->cut_start, "thresholds");
    m->cut_count = crank_alloc(m->context, inputs, sizeof *m->cut_count, "thresholds");
    m->first_plane = crank_alloc(m->context, inputs, sizeof *m->first_plane, "thresholds");
    if (!m->cut_start || !m->cut_count || !m->first_plane) return false;
    for (int pass = 0; pass < 2; pass++) {
        for (int64_t i = 0; i < s->count; i++) {
            const tree *t = &m->trees->trees[i];
            for (int32_t n = 0; is_masked(&s->tree[i]) && n < t->leaves - 1; n++) {
                if (t->kind[n] & NODE_CATEGORICAL) continue;
                int32_t k = input_of(m, t->feature[n], treatment(t->kind[n]));
                if (pass == 0) m->cut_start[k + 1]++;
                else m->cut[m->cut_start[k] + m->cut_count[k]++] = t->cut[n];
            }
        }
        for (int32_t k = 0; pass == 0 && k < s->inputs; k++) m->cut_start[k + 1] += m->cut_start[k];
        if (pass == 0 && !(m->cut = crank_alloc(m->context, (size_t)m->cut_start[s->inputs] + 1, sizeof *m->cut, "thresholds"))) return false;
    }
    for (int32_t k = 0; k < s->inputs; k++) {
        float  *cut = m->cut + m->cut_start[k];
        int32_t all = m->cut_count[k], kept = 0;
        qsort(cut, (size_t)all, sizeof *cut, ascending);
        for (int32_t i = 0; i < all; i++)
            if (kept == 0 || cut[i] != cut[kept - 1]) cut[kept++] = cut[i];
        m->cut_count[k] = kept;
        m->first_plane[k] = s->planes;
        s->planes += (kept + MOST_RANKS - 1) / MOST_RANKS;
    }
    return true;
}

static bool make_planes(maker *m)
{
    scorer *s = m->s;
    if (s->planes >= 1 << 24) return crank_fail(m->context, CRANK_FAILED, "the trees have too many different thresholds to score"), false;
    if (!(s->plane = crank_alloc(m->context, (size_t)s->planes + 1, sizeof *s->plane, "thresholds"))) return false;
    for (int32_t k = 0, p = 0; k < s->inputs; k++)
        for (int32_t first = 0; first < m->cut_count[k]; first += MOST_RANKS, p++) {
            int32_t count = m->cut_count[k] - first < MOST_RANKS ? m->cut_count[k] - first : MOST_RANKS;
            s->plane[p].input = k;
            s->plane[p].cuts = count;
            for (int i = 0; i < 256; i++) s->plane[p].cut[i] = i < count ? m->cut[m->cut_start[k] + first + i] : INFINITY;
        }
    return true;
}

/* Nodes in the order of their depth -> m->queue, their numbers -> m->place. Returns the depth of the tree. */
static int32_t order_nodes(maker *m, const tree *t)
{
    int32_t done = 0, made = 0, depth = 0;
    if (t->leaves > 1) m->queue[made++] = 0;
    for (int32_t level_end = made; done < made; depth++, level_end = made)
        for (; done < level_end; done++) {
            int32_t n = m->queue[done];
            m->place[n] = done;
            if (t->left[n] >= 0) m->queue[made++] = t->left[n];
            if (t->right[n] >= 0) m->queue[made++] = t->right[n];
        }
    return depth;
}

/* The byte and rank of a threshold */
static uint32_t plane_of(const maker *m, int32_t input, float cut)
{
    const float *first = m->cut + m->cut_start[input], *found = bsearch(&cut, first, (size_t)m->cut_count[input], sizeof cut, ascending);
    int32_t      at = (int32_t)(found - first);
    return (uint32_t)(m->first_plane[input] + at / MOST_RANKS) << 8 | (uint32_t)(at % MOST_RANKS);
}

static void put_set(maker *m, const tree *t, int32_t n, int32_t input, int64_t bits)
{
    int32_t k = (int32_t)t->threshold[n];
    m->s->set[m->s->sets++] = (score_set){input, t->kind[n] & NODE_DEFAULT_LEFT, t->set_start[k + 1] - t->set_start[k], bits + t->set_start[k]};
}

static int32_t place_of(const maker *m, const tree *t, int32_t child) { return child >= 0 ? m->place[child] : t->leaves - 1 + m->leaf_place[~child]; }

/* Leaves in their order, or by the bits that lead to them -> m->leaf_place, and their values. */
static void put_leaves(maker *m, const tree *t, const score_tree *to)
{
    double *value = m->s->value + to->value;
    int32_t *of_bits = m->queue;
    if (to->levels) levels_of(t, of_bits);
    for (int32_t k = 0; k < t->leaves; k++) {
        int32_t leaf = to->levels ? of_bits[k] : k;
        m->leaf_place[leaf] = k;
        value[k] = t->leaf_value[leaf];
    }
}

/* One node a level, all on the leftmost way. */
static void put_levels(maker *m, const tree *t, const score_tree *to)
{
    for (int32_t d = 0, n = 0; d < to->levels; d++, n = t->left[n])
        m->s->node[to->node + d].plane = plane_of(m, input_of(m, t->feature[n], treatment(t->kind[n])), t->cut[n]);
}

static void put_tree(maker *m, int64_t i, int64_t bits)
{
    scorer     *s = m->s;
    const tree *t = &m->trees->trees[i];
    score_tree *to = &s->tree[i];
    put_leaves(m, t, to);
    put_levels(m, t, to);
    to->depth = order_nodes(m, t);
    memcpy(s->bits + bits, t->set_bits, (size_t)t->set_start[t->sets] * sizeof *s->bits);
    for (int32_t p = 0; p < t->leaves - 1; p++) {
        int32_t    n = m->queue[p], left = place_of(m, t, t->left[n]), right = place_of(m, t, t->right[n]), input = input_of(m, t->feature[n], treatment(t->kind[n]));
        bool       by_set = t->kind[n] & NODE_CATEGORICAL;
        walk_node *walk = &s->walk[to->walk + p];
        if (by_set) put_set(m, t, n, input, bits);
        *walk = (walk_node){t->cut[n], by_set ? NODE_IS_SET - (s->sets - 1) : input, left, right};
        if (to->levels || !is_masked(to)) continue;
        s->node[to->node + p] = (score_node){by_set ? (uint32_t)s->planes << 8 : plane_of(m, input, t->cut[n]), (uint16_t)left, (uint16_t)right};
        if (by_set) s->set_of[to->node + p] = s->sets - 1;
    }
    for (int32_t p = t->leaves - 1; p < 2 * t->leaves - 1; p++) s->walk[to->walk + p] = (walk_node){0, 0, p, p};
}

static bool make(maker *m)
{
    scorer *s = m->s;
    int64_t bits = 0;
    s->tree = crank_alloc(m->context, (size_t)s->count + 1, sizeof *s->tree, "trees");
    s->of_column = crank_alloc(m->context, (size_t)s->columns + 1, sizeof *s->of_column, "inputs of trees");
    if (!s->tree || !s->of_column) return false;
    for (int64_t j = 0; j < s->columns; j++) s->of_column[j] = -1;
    if (!measure_model(m) || !find_cuts(m) || !make_planes(m)) return false;
    for (int64_t i = 0; i < s->count; i++) {
        put_tree(m, i, bits);
        bits += m->trees->trees[i].set_start[m->trees->trees[i].sets];
    }
    return true;
}

scorer *scorer_make(crank_context *context, const crank_trees *trees)
{
    maker m = {.context = context, .trees = trees, .s = crank_alloc(context, 1, sizeof *m.s, "a model to score with")};
    if (!m.s) return NULL;
    m.s->count = trees->count;
    m.s->outputs = trees->outputs;
    m.s->columns = trees->columns;
    bool  good = make(&m);
    void *arrays[] = {m.cut_start, m.cut, m.cut_count, m.first_plane, m.place, m.queue, m.leaf_place};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++) crank_free(arrays[i]);
    if (good) return m.s;
    scorer_free(m.s);
    return NULL;
}

void scorer_free(scorer *s)
{
    if (!s) return;
    void *arrays[] = {s->input, s->of_column, s->plane, s->set, s->bits, s->tree, s->node, s->set_of, s->walk, s->value};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++) crank_free(arrays[i]);
    crank_free(s);
}
