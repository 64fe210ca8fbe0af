/* wide_scan.c - gains of the candidates of a block of features, over several outputs and leaves. */
#include "tree/wide.h"

typedef struct side_options {
    double l1, l2, most;        /* most: max_delta_step, 0: none */
} side_options;

/* -2 (T(G) w + (H + l2) w^2 / 2) at the best w in reach; T(G)^2 / (H + l2) where nothing bounds it */
static inline double side(side_options o, double g, double h)
{
    double t = soft(g, o.l1), below = h + o.l2;
    if (!(below > 0)) return 0;
    if (o.most > 0 && fabs(t) > o.most * below) return 2 * fabs(t) * o.most - below * o.most * o.most;
    return t * t / below;
}

static side_options side_of(const wide *w)
{
    const crank_tree_options *o = w->g->options;
    return (side_options){o->lambda_l1, o->lambda_l2, o->max_delta_step};
}

double wide_score(const wide *w, int64_t k, packed sum) { return side(side_of(w), packed_g(sum) * w->levels[k].g_unit, packed_h(sum) * w->levels[k].h_unit); }

static int64_t fewest(const wide *w) { return w->g->options->min_data_in_leaf > 1 ? w->g->options->min_data_in_leaf : 1; }

bool wide_allows(const wide *w, const packed *left, const packed *both, int64_t left_count, int64_t count)
{
    double l = 0, r = 0, least = w->g->options->min_sum_hessian_in_leaf * (double)w->outputs;
    for (int64_t k = 0; k < w->outputs; k++) {
        l += packed_h(left[k]) * w->levels[k].h_unit;
        r += packed_h(both[k] - left[k]) * w->levels[k].h_unit;
    }
    return left_count >= fewest(w) && count - left_count >= fewest(w) && l >= least && r >= least && l > 0 && r > 0;
}

/* What a scan must know of the leaf. */
typedef struct view {
    const wide   *w;
    const packed *sum;          /* [outputs] */
    int64_t       count;
    double        parent;       /* its score */
    double        none;         /* added for a side that is too small: 0 in an oblivious tree, else minus infinity */
} view;

/* Candidates 0 .. m - 1 with left sums by candidate: gains and hessians of both sides are added up output by output. */
typedef struct candidates {
    double  gain[MOST_BINS], left[MOST_BINS], right[MOST_BINS];
    int64_t rows[MOST_BINS];
} candidates;

static void add_output(const view *v, int64_t k, const packed *left, int m, candidates *c)
{
    const quantised *q = &v->w->levels[k];
    side_options     o = side_of(v->w);
    double           G = packed_g(v->sum[k]), H = packed_h(v->sum[k]);
    for (int b = 0; b < m; b++) {
        double gl = packed_g(left[b]), hl = packed_h(left[b]);
        c->gain[b] += side(o, gl * q->g_unit, hl * q->h_unit) + side(o, (G - gl) * q->g_unit, (H - hl) * q->h_unit);
        c->left[b] += hl * q->h_unit;
        c->right[b] += (H - hl) * q->h_unit;
    }
}

static void add_to(const view *v, const candidates *c, int m, double *tally)
{
    double  least = v->w->g->options->min_sum_hessian_in_leaf * (double)v->w->outputs;
    int64_t few = fewest(v->w);
    for (int b = 0; b < m; b++) {
        bool good = c->rows[b] >= few && v->count - c->rows[b] >= few && c->left[b] >= least && c->right[b] >= least && c->left[b] > 0 && c->right[b] > 0;
        tally[b] += good ? c->gain[b] - v->parent : v->none;
    }
}

/* stride: from one output's histogram to the next */
static void scan_numbers_of(const view *v, const feature_bins *f, const packed *hist, int64_t stride, const uint32_t *rows, double *tally)
{
    int missing = f->has_missing, m = f->bins - 1 - missing;
    for (int way = 0; way < 1 + missing; way++) { /* 0: missing values go left */
        candidates c = {.gain = {0}};
        packed     left[MOST_BINS];
        int        count = m + way;
        for (int64_t k = 0; k < v->w->outputs; k++) {
            const packed *h = hist + k * stride;
            packed        running = way == 0 && missing ? h[f->bins - 1] : 0;
            for (int b = 0; b < count; b++) left[b] = running += h[b];
            add_output(v, k, left, count, &c);
        }
        int64_t running = way == 0 && missing ? rows[f->bins - 1] : 0;
        for (int b = 0; b < count; b++) c.rows[b] = running += rows[b];
        add_to(v, &c, count, tally + way * MOST_BINS);
    }
}

/* Bin 0 holds other and missing categories, which go right. */
static void scan_categories_of(const view *v, const feature_bins *f, const packed *hist, int64_t stride, const uint32_t *rows, double *tally)
{
    candidates c = {.gain = {0}};
    for (int64_t k = 0; k < v->w->outputs; k++) add_output(v, k, hist + k * stride, f->bins, &c);
    for (int b = 0; b < f->bins; b++) c.rows[b] = b ? rows[b] : 0;
    add_to(v, &c, f->bins, tally);
    tally[0] = -INFINITY;
}

void wide_scan(const wide *w, int32_t i, const bin_block *block, const packed *store, double *tally)
{
    const bin_mapper *m = w->g->mapper;
    const uint32_t   *counts = (const uint32_t *)(const void *)(store + w->outputs * m->entries);
    view v = {.w = w, .sum = w->sum + i * w->outputs, .count = w->g->leaf[i].count, .none = w->oblivious ? 0 : -INFINITY};
    for (int64_t k = 0; k < w->outputs; k++) v.parent += wide_score(w, k, v.sum[k]);
    for (int32_t s = 0; s < block->width; s++) {
        int32_t f = m->feature_of[block->first + s];
        if (f < 0 || !w->g->wanted[f]) continue;
        int64_t at = block->offset + s * block->room;
        (m->feature[f].categorical ? scan_categories_of : scan_numbers_of)(&v, &m->feature[f], store + at, m->entries, counts + at, tally + s * 2 * MOST_BINS);
    }
}

void wide_pick(const wide *w, const bin_block *block, const double *tally, split *found)
{
    const bin_mapper *m = w->g->mapper;
    for (int32_t s = 0; s < block->width; s++) {
        int32_t f = m->feature_of[block->first + s];
        if (f < 0) continue;
        const feature_bins *bins = &m->feature[f];
        const double       *t = tally + s * 2 * MOST_BINS;
        found[f] = (split){.feature = f, .categorical = bins->categorical};
        if (!w->g->wanted[f]) continue;
        for (int way = 0; way < 1 + (!bins->categorical && bins->has_missing); way++)
            for (int b = 0, last = bins->categorical ? bins->bins : bins->bins - 1 - bins->has_missing + way; b < last; b++) {
                double gain = t[way * MOST_BINS + b] - w->g->options->min_gain_to_split;
                if (!(gain > found[f].gain)) continue;
                found[f].gain = gain;
                found[f].bin = b;
                found[f].default_left = way == 0 && !bins->categorical;
            }
        if (bins->categorical && found[f].gain > 0) found[f].set[found[f].bin / 32] |= 1u << found[f].bin % 32;
    }
}
