/* wide_scan.c - gains of the candidates of a block of features, over several outputs and leaves. */
#include "tree/wide.h"

/* Loss that the best value in reach takes away: T(G)^2 / (H + l2), or with |value| bounded by max_delta_step */
double wide_score(const wide *w, int64_t k, packed sum)
{
    const crank_tree_options *o = w->g->options;
    double t = fabs(soft(packed_g(sum) * w->levels[k].g_unit, o->lambda_l1)), below = packed_h(sum) * w->levels[k].h_unit + o->lambda_l2, most = o->max_delta_step;
    if (!(below > 0)) return 0;
    return most > 0 && t > most * below ? 2 * t * most - below * most * most : t * t / below;
}

static int64_t fewest(const wide *w) { return w->g->options->min_data_in_leaf > 1 ? w->g->options->min_data_in_leaf : 1; }

bool wide_allows(const wide *w, const packed *left, const packed *both, int64_t left_count, int64_t count)
{
    double l = 0, r = 0, least = w->g->options->min_sum_hessian_in_leaf * (double)w->outputs;
    for (int64_t k = 0; k < w->outputs; k++) {
        l += packed_h(left[k]) * w->levels[k].h_unit;
        r += packed_h(both[k] - left[k]) * w->levels[k].h_unit;
    }
    return left_count >= fewest(w) && count - left_count >= fewest(w) && l >= fmax(least, 1e-300) && r >= fmax(least, 1e-300);
}

/* What a scan must know of the leaf. */
typedef struct view {
    const wide   *w;
    const packed *sum;          /* [outputs] */
    int64_t       count;
    double        parent;       /* its score */
    double        none;         /* added for a side that is too small: 0 in an oblivious tree, else minus infinity */
} view;

static void add_output(const view *v, int64_t k, const packed *left, int m, scan_wide *c)
{
    const crank_tree_options *o = v->w->g->options;
    v->w->scan(left, m, v->sum[k], v->w->levels[k].g_unit, v->w->levels[k].h_unit, o->lambda_l1, o->lambda_l2, o->max_delta_step, c);
}

/* rows [m]: of the left side, NULL: not counted */
static void add_to(const view *v, const scan_wide *c, const int64_t *rows, int m, double *tally)
{
    double  least = fmax(v->w->g->options->min_sum_hessian_in_leaf * (double)v->w->outputs, 1e-300);
    int64_t few = fewest(v->w);
    for (int b = 0; b < m; b++) {
        bool good = c->left[b] >= least && c->right[b] >= least && (!rows || (rows[b] >= few && v->count - rows[b] >= few));
        tally[b] += good ? c->gain[b] - v->parent : v->none;
    }
}

/* stride: from one output's histogram to the next */
static void scan_numbers_of(const view *v, const feature_bins *f, const packed *hist, int64_t stride, const packed *rows, double *tally)
{
    int missing = f->has_missing, m = f->bins - 1 - missing;
    for (int way = 0; way < 1 + missing; way++) { /* 0: missing values go left */
        int       count = m + way;
        scan_wide c;
        packed    left[MOST_BINS];
        int64_t   left_rows[MOST_BINS], running_rows = v->w->counted && way == 0 && missing ? rows[f->bins - 1] : 0;
        for (int b = 0; b < count; b++) c.gain[b] = c.left[b] = c.right[b] = 0;
        for (int64_t k = 0; k < v->w->outputs; k++) {
            const packed *h = hist + k * stride;
            packed        running = way == 0 && missing ? h[f->bins - 1] : 0;
            for (int b = 0; b < count; b++) left[b] = running += h[b];
            add_output(v, k, left, count, &c);
        }
        for (int b = 0; v->w->counted && b < count; b++) left_rows[b] = running_rows += rows[b];
        add_to(v, &c, v->w->counted ? left_rows : NULL, count, tally + way * MOST_BINS);
    }
}

/* Bin 0 holds other and missing categories, which go right. */
static void scan_categories_of(const view *v, const feature_bins *f, const packed *hist, int64_t stride, const packed *rows, double *tally)
{
    scan_wide c = {.gain = {0}};
    int64_t   left_rows[MOST_BINS];
    for (int64_t k = 0; k < v->w->outputs; k++) add_output(v, k, hist + k * stride, f->bins, &c);
    for (int b = 0; v->w->counted && b < f->bins; b++) left_rows[b] = rows[b];
    add_to(v, &c, v->w->counted ? left_rows : NULL, f->bins, tally);
    tally[0] = -INFINITY;
}

void wide_scan(const wide *w, int32_t i, const bin_block *block, const packed *store, double *tally)
{
    const bin_mapper *m = w->g->mapper;
    const packed     *counts = store + (w->counted ? w->outputs * m->entries : 0);
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
