/* scan.c - splits whose leaf values are bounded or smoothed, and splits by sets of categories. */
#include "tree/scan.h"

#include <stdlib.h>

double leaf_output(const crank_tree_options *o, double g, double h, double l2, int64_t count, double parent)
{
    double value = -soft(g, o->lambda_l1) / (h + l2);
    if (!isfinite(value)) value = 0;
    if (o->max_delta_step > 0 && fabs(value) > o->max_delta_step) value = copysign(o->max_delta_step, value);
    if (o->path_smooth > 0) {
        double k = (double)count / o->path_smooth;
        value = value * k / (k + 1) + parent / (k + 1);
    }
    return value;
}

double leaf_score(const crank_tree_options *o, double g, double h, double l2, double value)
{
    return -(2 * soft(g, o->lambda_l1) * value + (h + l2) * value * value);
}

/* Rows of a side: exact, or estimated from its hessian. */
static int64_t rows_of(const scan_leaf *leaf, packed side, int64_t exact)
{
    if (leaf->counts) return exact;
    double h = packed_h(leaf->sum);
    return h > 0 ? (int64_t)(packed_h(side) * (double)leaf->count / h + 0.5) : 0;
}

typedef struct side {
    double  g, h, value;
    int64_t count;
} side;

static side side_of(const scan_leaf *leaf, packed sum, int64_t count, double l2)
{
    side s = {packed_g(sum) * leaf->g_unit, packed_h(sum) * leaf->h_unit, 0, count};
    s.value = fmin(fmax(leaf_output(leaf->options, s.g, s.h, l2, count, leaf->value), leaf->low), leaf->high);
    return s;
}

/* Gain of `left` against the rest in real units; < 0: not allowed. */
static double gain_of(const scan_leaf *leaf, packed left, int64_t left_count, int direction, double l2)
{
    const crank_tree_options *o = leaf->options;
    int64_t count = rows_of(leaf, left, left_count);
    side    l = side_of(leaf, left, count, l2), r = side_of(leaf, leaf->sum - left, leaf->count - count, l2), p = side_of(leaf, leaf->sum, leaf->count, o->lambda_l2);
    if (count < o->min_data_in_leaf || leaf->count - count < o->min_data_in_leaf || count < 1 || count == leaf->count) return -1;
    if (l.h < o->min_sum_hessian_in_leaf || r.h < o->min_sum_hessian_in_leaf || l.h <= 0 || r.h <= 0) return -1;
    if (direction * (r.value - l.value) < 0) return -1;
    return leaf_score(o, l.g, l.h, l2, l.value) + leaf_score(o, r.g, r.h, l2, r.value) - leaf_score(o, p.g, p.h, o->lambda_l2, p.value) - o->min_gain_to_split;
}

void scan_bounded(const packed *hist, int32_t bins, bool has_missing, const scan_leaf *leaf, int direction, split *best)
{
    int m = bins - 1 - has_missing;
    for (int way = 0; way < 1 + has_missing; way++) {
        packed  left = way == 0 && has_missing ? hist[bins - 1] : 0;
        int64_t rows = way == 0 && has_missing && leaf->counts ? leaf->counts[bins - 1] : 0;
        bool    mine = false; /* the best so far is of this way */
        for (int b = 0; b < m + way; b++) {
            left += hist[b];
            if (leaf->counts) rows += leaf->counts[b];
            double gain = gain_of(leaf, left, rows, direction, leaf->options->lambda_l2);
            if (gain <= 0 || !(gain > best->gain || (way == 0 && mine && gain == best->gain))) continue;
            mine = true;
            *best = (split){.gain = gain, .feature = best->feature, .bin = b, .default_left = way == 0, .left = left};
        }
    }
}

/* ---- categories ---- */

typedef struct category {
    int32_t bin;
    double  order;              /* G / (H + cat_smooth) */
    int64_t count;
} category;

static int by_order(const void *a, const void *b)
{
    const category *x = a, *y = b;
    return x->order != y->order ? (x->order > y->order) - (x->order < y->order) : (x->bin > y->bin) - (x->bin < y->bin);
}

static int64_t bin_rows(const scan_leaf *leaf, const packed *hist, int32_t b) { return rows_of(leaf, hist[b], leaf->counts ? leaf->counts[b] : 0); }

/* One category on the left. */
static void one_against_rest(const packed *hist, int32_t bins, const scan_leaf *leaf, split *best)
{
    for (int32_t b = 1; b < bins; b++) {
        double gain = gain_of(leaf, hist[b], bin_rows(leaf, hist, b), 0, leaf->options->lambda_l2);
        if (gain <= 0 || gain <= best->gain) continue;
        *best = (split){.gain = gain, .feature = best->feature, .left = hist[b], .categorical = true};
        best->set[b / 32] |= 1u << b % 32;
    }
}

/* Prefixes of the sorted categories, from either end; bin 0 (others and missing) stays on the right. */
void scan_categories(const packed *hist, int32_t bins, const scan_leaf *leaf, split *best)
{
    const crank_tree_options *o = leaf->options;
    if (bins <= o->max_cat_to_onehot) {
        one_against_rest(hist, bins, leaf, best);
        return;
    }
    category list[MOST_BINS];
    int32_t  used = 0;
    for (int32_t b = 1; b < bins; b++) {
        int64_t count = bin_rows(leaf, hist, b);
        if ((double)count < o->cat_smooth || count == 0) continue;
        list[used++] = (category){b, packed_g(hist[b]) * leaf->g_unit / (packed_h(hist[b]) * leaf->h_unit + o->cat_smooth), count};
    }
    qsort(list, (size_t)used, sizeof *list, by_order);
    int32_t most = (used + 1) / 2 < o->max_cat_threshold ? (used + 1) / 2 : (int32_t)o->max_cat_threshold;
    for (int way = 0; way < 2; way++) {
        packed  left = 0;
        int64_t rows = 0, group = 0;
        for (int32_t i = 0; i < used && i < most; i++) {
            const category *c = &list[way == 0 ? i : used - 1 - i];
            left += hist[c->bin];
            rows += c->count;
            group += c->count;
            if (group < o->min_data_per_group || leaf->count - rows < o->min_data_per_group) continue;
            double gain = gain_of(leaf, left, rows, 0, o->lambda_l2 + o->cat_l2);
            group = 0;
            if (gain <= 0 || gain <= best->gain) continue;
            *best = (split){.gain = gain, .feature = best->feature, .left = left, .categorical = true};
            for (int32_t k = 0; k <= i; k++) {
                int32_t b = list[way == 0 ? k : used - 1 - k].bin;
                best->set[b / 32] |= 1u << b % 32;
            }
        }
    }
}
