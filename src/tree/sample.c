/* sample.c - bagging of rows or queries, gradient-based one-side sampling (Ke et al. 2017, LightGBM), and sampling of features.
 *
 * Draws are keyed by (seed, iteration, row), so they depend on nothing else. GOSS keeps the top_rate rows of largest |g h| (summed over outputs), draws
 * other_rate of all rows from the rest, and multiplies what it drew by (1 - top_rate) / other_rate. */
#include "tree/sample.h"

#include "crank/random.h"

static crank_stream stream_of(const crank_tree_options *o, const char *what, int64_t it)
{
    return crank_stream_make((uint64_t)o->seed ^ (uint64_t)crank_hash_name(what) << 32, CRANK_RANDOM_METHOD, (uint32_t)it);
}

static bool is_goss(const crank_tree_options *o) { return strcmp(o->data_sample_strategy, "goss") == 0; }
static bool is_bagging(const crank_tree_options *o) { return !is_goss(o) && o->bagging_freq > 0 && o->bagging_fraction < 1; }

bool sample_open(crank_context *context, const crank_tree_options *o, int64_t rows, row_sample *s)
{
    *s = (row_sample){.rows = crank_alloc(context, (size_t)rows + 1, sizeof *s->rows, "a sample of rows"), .count = rows};
    if (!s->rows) return false;
    for (int64_t i = 0; i < rows; i++) s->rows[i] = (int32_t)i;
    if (is_goss(o) && !(s->key = crank_alloc(context, 2 * (size_t)rows + 1, sizeof *s->key, "a sample of rows"))) return false;
    if (is_goss(o) || is_bagging(o)) s->taken = crank_alloc(context, (size_t)rows + 1, 1, "a sample of rows");
    if (s->taken) memset(s->taken, 1, (size_t)rows);
    return s->taken || !(is_goss(o) || is_bagging(o));
}

void sample_close(row_sample *s)
{
    crank_free(s->rows);
    crank_free(s->taken);
    crank_free(s->key);
}

static void collect(row_sample *s, int64_t rows)
{
    s->count = 0;
    for (int64_t i = 0; i < rows; i++) {
        s->rows[s->count] = (int32_t)i;
        s->count += s->taken[i];
    }
}

/* The k-th largest (from 0) of n values that are not negative, by their bits, eight at a time. */
static float kth_largest(const float *key, int64_t n, int64_t k)
{
    uint32_t prefix = 0, mask = 0;
    for (int shift = 24; shift >= 0; shift -= 8) {
        int64_t count[256] = {0};
        for (int64_t i = 0; i < n; i++) {
            uint32_t bits;
            memcpy(&bits, &key[i], sizeof bits);
            if ((bits & mask) == prefix) count[bits >> shift & 255]++;
        }
        int digit = 255;
        while (digit > 0 && k >= count[digit]) k -= count[digit--];
        prefix |= (uint32_t)digit << shift;
        mask |= 255u << shift;
    }
    float value;
    memcpy(&value, &prefix, sizeof value);
    return value;
}

static void goss(const crank_tree_options *o, int64_t rows, int64_t it, int64_t outputs, float *g, float *h, row_sample *s)
{
    if ((double)it < 1 / fmax(o->learning_rate, 1e-6)) { /* the first trees see all rows */
        memset(s->taken, 1, (size_t)rows);
        collect(s, rows);
        return;
    }
    crank_stream stream = stream_of(o, "goss", it);
    int64_t      top = (int64_t)(o->top_rate * (double)rows), ties = top;
    for (int64_t i = 0; i < rows; i++) s->key[i] = fabsf(g[i] * h[i]);
    for (int64_t i = rows; i < rows * outputs; i++) s->key[i % rows] += fabsf(g[i] * h[i]);
    float bound = top > 0 && top <= rows ? kth_largest(s->key, rows, top - 1) : INFINITY;
    for (int64_t i = 0; i < rows; i++) ties -= s->key[i] > bound;
    float chance = (float)fmin(1, o->other_rate / fmax(1 - o->top_rate, 1e-12)), factor = 1 / chance;
    for (int64_t i = 0; i < rows; i++) {
        bool large = s->key[i] > bound || (s->key[i] == bound && ties-- > 0);
        s->taken[i] = large || crank_draw_uniform(stream, (uint64_t)i) < chance;
        if (large || !s->taken[i]) continue;
        for (int64_t k = i; k < rows * outputs; k += rows) {
            g[k] *= factor;
            h[k] *= factor;
        }
    }
    collect(s, rows);
}

void sample_rows(const crank_tree_options *o, const crank_tree_data *data, int64_t it, int64_t outputs, float *g, float *h, row_sample *s)
{
    if (is_goss(o)) goss(o, data->rows, it, outputs, g, h, s);
    if (!is_bagging(o) || it % o->bagging_freq != 0) return;
    crank_stream stream = stream_of(o, "bagging", it);
    bool         by_query = o->bagging_by_query && data->offsets;
    for (int64_t q = 0, units = by_query ? data->queries : data->rows; q < units; q++) {
        uint8_t taken = (double)crank_draw_uniform(stream, (uint64_t)q) < o->bagging_fraction;
        if (by_query) memset(s->taken + data->offsets[q], taken, (size_t)(data->offsets[q + 1] - data->offsets[q]));
        else s->taken[q] = taken;
    }
    collect(s, data->rows);
}

bool sample_features(crank_context *context, const crank_tree_options *o, int64_t it, int32_t features, uint8_t *wanted)
{
    if (o->feature_fraction >= 1 || features == 0) return true;
    int64_t *order = crank_alloc(context, (size_t)features, sizeof *order, "a sample of features");
    if (!order) return false;
    crank_permutation(stream_of(o, "features", it), order, features);
    int64_t count = (int64_t)ceil(o->feature_fraction * features);
    memset(wanted, 0, (size_t)features);
    for (int64_t i = 0; i < count; i++) wanted[order[i]] = 1;
    crank_free(order);
    return true;
}
