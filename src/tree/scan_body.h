/* scan_body.h - the body of scan_numbers, compiled for several instruction sets. All work element by element in double, so every
 * instruction set gives the same bits.
 *
 * Both directions of missing values are tried: with the left side (the largest bin of equal gains wins), and, where the feature has
 * missing values, with the right side (the smallest wins, and only with a larger gain). */
#include "tree/scan.h"

enum { LANES = 8 };

/* sums [m] of the left side up to each bin -> score of both sides; -1: a side is too small. l: as scan_leaf, H and G the totals */
static inline __attribute__((always_inline)) void scores(const packed *sum, int m, double G, double H, double l1, double l2, double least, double *out)
{
    for (int b = 0; b < m; b++) {
        double gl = (double)(int32_t)(sum[b] >> 32), hl = (double)(sum[b] & 0xffffffff), gr = G - gl, hr = H - hl;
        double a = fabs(gl) - l1, c = fabs(gr) - l1;
        a = a > 0 ? a : 0;
        c = c > 0 ? c : 0;
        double dl = hl + l2, dr = hr + l2, score = (a * a * dr + c * c * dl) / (dl * dr);
        out[b] = (hl >= least) & (hr >= least) ? score : -1;
    }
    for (int b = m; b % LANES; b++) out[b] = -1;
}

/* Where the rows of each bin are known: -1 for sides of fewer than `fewest` rows. rows [m]: of the left side, `all` of both. */
static inline __attribute__((always_inline)) void forbid(const int64_t *rows, int m, int64_t fewest, int64_t all, double *out)
{
    for (int b = 0; b < m; b++) out[b] = (rows[b] >= fewest) & (all - rows[b] >= fewest) ? out[b] : -1;
}

static inline __attribute__((always_inline)) double largest(const double *score, int m)
{
    double best[LANES];
    for (int k = 0; k < LANES; k++) best[k] = -1;
    for (int b = 0; b < m; b += LANES)
        for (int k = 0; k < LANES; k++) best[k] = score[b + k] > best[k] ? score[b + k] : best[k];
    for (int k = 1; k < LANES; k++) best[0] = best[k] > best[0] ? best[k] : best[0];
    return best[0];
}

/* T(G)^2 / (H + l2), 0 where nothing is below; with `most` > 0 the loss at the best value in reach. No branches. */
static inline __attribute__((always_inline)) double side_score(double g, double h, double l1, double l2, double most)
{
    double t = fabs(g) - l1, below = h + l2, some = below > 0 ? 1.0 : 0.0;
    t = t > 0 ? t : 0;
    below = below + (1 - some);
    double free = t * t / below, bound = 2 * t * most - below * most * most;
    return some * ((most > 0) & (t > most * below) ? bound : free);
}

static inline __attribute__((always_inline)) void scan_output_body(const packed *left, int m, packed both, double g_unit, double h_unit, double l1, double l2, double most, scan_wide *out)
{
    double G = (double)(int32_t)(both >> 32), H = (double)(both & 0xffffffff);
    for (int b = 0; b < m; b++) {
        double gl = (double)(int32_t)(left[b] >> 32), hl = (double)(left[b] & 0xffffffff), hr = H - hl;
        out->gain[b] += side_score(gl * g_unit, hl * h_unit, l1, l2, most) + side_score((G - gl) * g_unit, hr * h_unit, l1, l2, most);
        out->left[b] += hl * h_unit;
        out->right[b] += hr * h_unit;
    }
}

static inline __attribute__((always_inline)) void scan_body(const packed *hist, int32_t bins, bool has_missing, const scan_leaf *leaf, double parent, split *best)
{
    packed  sum[MOST_BINS] __attribute__((aligned(64)));
    double  score[MOST_BINS + LANES] __attribute__((aligned(64)));
    double  G = packed_g(leaf->sum), H = packed_h(leaf->sum), unit = leaf->g_unit * leaf->g_unit / leaf->h_unit;
    double  enough = leaf->options->min_gain_to_split;
    int     m = bins - 1 - has_missing; /* bounds between the bins of numbers */
    packed  start = has_missing ? hist[bins - 1] : 0;
    int64_t rows[MOST_BINS], fewest = leaf->options->min_data_in_leaf > 1 ? leaf->options->min_data_in_leaf : 1;
    for (int way = 0; way < 1 + has_missing; way++) {
        packed running = way == 0 ? start : 0;
        int    count = way == 0 ? m : m + 1; /* missing alone may stand on the right */
        for (int b = 0; b < count; b++) sum[b] = running += hist[b];
        scores(sum, count, G, H, leaf->l1, leaf->l2, leaf->least, score);
        if (leaf->counts) {
            int64_t left = way == 0 && has_missing ? leaf->counts[bins - 1] : 0;
            for (int b = 0; b < count; b++) rows[b] = left += leaf->counts[b];
            forbid(rows, count, fewest, leaf->count, score);
        }
        double top = largest(score, count), gain = (top - parent) * unit - enough;
        if (top < 0 || !(gain > 0) || !(gain > best->gain)) continue;
        int at = 0;
        if (way == 0)
            for (at = count - 1; score[at] != top; at--) {}
        else
            while (score[at] != top) at++;
        best->gain = gain;
        best->bin = at;
        best->default_left = way == 0;
        best->left = sum[at];
        best->categorical = false;
    }
}
