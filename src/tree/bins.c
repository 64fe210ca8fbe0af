/* bins.c - bounds of bins as LightGBM finds them: from a sample of rows, by equal counts, zero in a bin of its own.
 *
 * Distinct values (at most max_bin): a bound half way between neighbours, once a bin has min_data_in_bin rows. More: values that hold at
 * least the mean count get a bin each, the others are gathered until the mean of what is left is reached. Negative and positive values
 * get bins in proportion to their counts. Categories: in descending order of counts, until 99 of 100 rows are covered. */
#include <stdlib.h>

#include "crank/random.h"
#include "tree/bins.h"

enum { MOST_CATEGORY = 1 << 20 };

/* ---- bounds ---- */

static double half_way(double a, double b) { return nextafter((a + b) / 2, INFINITY); }

static void put_bound(double bound, double *upper, int32_t *count)
{
    if (*count == 0 || bound > nextafter(upper[*count - 1], INFINITY)) upper[(*count)++] = bound;
}

static void few_values(const double *values, const int64_t *counts, int64_t distinct, int64_t min_data, double *upper, int32_t *count)
{
    int64_t inside = 0;
    for (int64_t i = 0; i + 1 < distinct; i++) {
        int32_t before = *count;
        inside += counts[i];
        if (inside < min_data) continue;
        put_bound(half_way(values[i], values[i + 1]), upper, count);
        if (*count > before) inside = 0;
    }
    upper[(*count)++] = INFINITY;
}

static void many_values(const double *values, const int64_t *counts, int64_t distinct, int64_t max_bin, int64_t min_data, double *upper, int32_t *count)
{
    int64_t total = 0, rest, bins;
    for (int64_t i = 0; i < distinct; i++) total += counts[i];
    if (max_bin > total / min_data) max_bin = total / min_data;
    if (max_bin < 1) max_bin = 1;
    double mean = (double)total / (double)max_bin, heavy = mean;
    rest = total;
    bins = max_bin;
    for (int64_t i = 0; i < distinct; i++)
        if ((double)counts[i] >= heavy) bins--, rest -= counts[i];
    mean = (double)rest / (double)bins;
    int64_t inside = 0, made = 0;
    for (int64_t i = 0; i + 1 < distinct && made < max_bin - 1; i++) {
        bool own = (double)counts[i] >= heavy;
        if (!own) rest -= counts[i];
        inside += counts[i];
        if (!own && !((double)inside >= mean) && !((double)counts[i + 1] >= heavy && (double)inside >= fmax(1, mean * 0.5))) continue;
        put_bound(half_way(values[i], values[i + 1]), upper, count);
        made++;
        inside = 0;
        if (!own) mean = (double)rest / (double)--bins;
    }
    upper[(*count)++] = INFINITY;
}

static void side_bounds(const double *values, const int64_t *counts, int64_t distinct, int64_t max_bin, int64_t min_data, double *upper, int32_t *count)
{
    if (distinct <= max_bin) few_values(values, counts, distinct, min_data, upper, count);
    else many_values(values, counts, distinct, max_bin, min_data, upper, count);
}

void bounds_find(const double *values, const int64_t *counts, int64_t distinct, int64_t max_bin, int64_t min_data, double *upper, int32_t *count)
{
    const double zero = (double)ZERO_THRESHOLD;
    int64_t      left = 0, right, left_count = 0, other_count = 0;
    *count = 0;
    while (left < distinct && values[left] <= -zero) left_count += counts[left++];
    for (right = left; right < distinct && values[right] <= zero; right++) other_count += counts[right];
    int64_t right_count = 0;
    for (int64_t i = right; i < distinct; i++) right_count += counts[i];
    if (left > 0 && max_bin > 1) {
        int64_t bins = (int64_t)((double)left_count / (double)(left_count + right_count) * (double)(max_bin - 1));
        side_bounds(values, counts, left, bins < 1 ? 1 : bins, min_data, upper, count);
        upper[*count - 1] = -zero;
    }
    int64_t bins = max_bin - 1 - *count;
    if (right < distinct && bins > 0) {
        int32_t made = 0;
        upper[(*count)++] = zero;
        side_bounds(values + right, counts + right, distinct - right, bins, min_data, upper + *count, &made);
        *count += made;
    } else
        upper[(*count)++] = INFINITY;
}

/* ---- the sample of one feature ---- */

typedef struct sample {
    float  *values;             /* what is not zero and not missing */
    int64_t count, zeros, missing;
} sample;

static uint32_t sort_key(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

/* Ascending, by three passes of 11 bits. */
static void radix_sort(float *values, float *spare, int64_t n)
{
    for (int shift = 0; shift < 33; shift += 11) {
        int64_t start[2049] = {0};
        for (int64_t i = 0; i < n; i++) start[(sort_key(values[i]) >> shift & 2047) + 1]++;
        for (int k = 0; k < 2048; k++) start[k + 1] += start[k];
        for (int64_t i = 0; i < n; i++) spare[start[sort_key(values[i]) >> shift & 2047]++] = values[i];
        float *swap = values;
        values = spare;
        spare = swap;
    }
    memcpy(spare, values, (size_t)n * sizeof *values); /* after three passes the result stands in the spare array */
}

typedef struct count_of {
    int32_t category;
    int64_t count;
} count_of;
static int by_count(const void *a, const void *b)
{
    const count_of *x = a, *y = b;
    return x->count != y->count ? (x->count < y->count ? 1 : -1) : (x->category > y->category) - (x->category < y->category);
}

/* Distinct values of a sorted sample with zero in its place. Returns their number. */
static int64_t distinct_values(const sample *s, double *values, int64_t *counts)
{
    int64_t n = 0, i = 0;
    bool    zero = s->zeros == 0;
    while (i < s->count || !zero) {
        if (!zero && (i == s->count || s->values[i] > 0)) {
            values[n] = 0;
            counts[n++] = s->zeros;
            zero = true;
            continue;
        }
        int64_t first = i;
        while (i < s->count && s->values[i] == s->values[first]) i++;
        values[n] = (double)s->values[first];
        counts[n++] = i - first;
    }
    return n;
}

static bool find_numbers(crank_context *context, const crank_tree_options *o, sample *s, float *spare, double *values, int64_t *counts, feature_bins *f)
{
    radix_sort(s->values, spare, s->count);
    int64_t distinct = distinct_values(s, values, counts);
    f->has_missing = s->missing > 0 && o->use_missing;
    f->low = distinct ? values[0] : 1;
    f->high = distinct ? values[distinct - 1] : 0;
    double  upper[2 * MOST_BINS + 4];
    int32_t count = 0;
    if (distinct) bounds_find(values, counts, distinct, o->max_bin - f->has_missing, o->min_data_in_bin, upper, &count);
    else upper[count++] = INFINITY;
    if (count > MOST_BINS - f->has_missing) count = MOST_BINS - f->has_missing, upper[count - 1] = INFINITY;
    f->bins = count + f->has_missing;
    f->upper = crank_alloc(context, (size_t)count, sizeof *f->upper, "bounds of bins");
    if (!f->upper) return false;
    for (int b = 0; b < MOST_BINS; b++) f->cut[b] = INFINITY;
    for (int b = 0; b < count; b++) {
        f->upper[b] = upper[b];
        f->cut[b] = b + 1 < count ? float_below(upper[b]) : INFINITY;
    }
    return true;
}

static bool find_categories(crank_context *context, const crank_tree_options *o, sample *s, float *spare, double *values, int64_t *counts, feature_bins *f)
{
    radix_sort(s->values, spare, s->count);
    int64_t   distinct = distinct_values(s, values, counts), kept = 0, total = 0, covered = 0;
    count_of *list = crank_alloc(context, (size_t)distinct + 1, sizeof *list, "categories");
    if (!list) return false;
    for (int64_t i = 0; i < distinct; i++) {
        if (!(values[i] > -1 && values[i] < MOST_CATEGORY)) continue;
        int32_t category = (int32_t)values[i];
        total += counts[i];
        if (kept > 0 && list[kept - 1].category == category) list[kept - 1].count += counts[i];
        else list[kept++] = (count_of){category, counts[i]};
    }
    qsort(list, (size_t)kept, sizeof *list, by_count);
    f->categorical = true;
    f->bins = 1;
    f->largest = -1;
    f->category = crank_alloc(context, MOST_BINS, sizeof *f->category, "categories");
    for (int64_t i = 0; f->category && i < kept && f->bins < o->max_bin && (double)covered < 0.99 * (double)total; i++) {
        covered += list[i].count;
        f->category[f->bins++] = list[i].category;
        if (list[i].category > f->largest) f->largest = list[i].category;
    }
    if (f->bins == 2 && covered == s->count + s->zeros + s->missing) f->bins = 1; /* one category alone */
    crank_free(list);
    f->bin_of = f->category ? crank_alloc(context, (size_t)f->largest + 1, sizeof *f->bin_of, "categories") : NULL;
    if (!f->bin_of) return false;
    for (int b = 1; b < f->bins; b++) f->bin_of[f->category[b]] = (int16_t)b;
    return true;
}

/* ---- samples of all features ---- */

static int64_t sample_row(int64_t i, int64_t n, int64_t rows, crank_stream stream)
{
    if (n == rows) return i;
    int64_t low = i * rows / n, high = (i + 1) * rows / n;
    return low + (int64_t)crank_draw_below(stream, (uint64_t)i, (uint64_t)(high - low));
}

static void take_value(sample *s, float x, bool use_missing)
{
    if (isnan(x) && use_missing) s->missing++;
    else if (isnan(x) || fabsf(x) <= ZERO_THRESHOLD) s->zeros++;
    else s->values[s->count++] = x;
}

typedef struct finder {
    crank_context            *context;
    const crank_tree_options *options;
    const crank_tree_data    *data;
    int64_t                   n;          /* rows of the sample */
    int64_t                  *row;
    int64_t                  *start;      /* compressed rows: [columns + 1] */
    float                    *value;      /* by column */
    feature_bins            **found;      /* [columns]: those with two bins at least, else NULL */
    bool                      failed;
} finder;

/* Compressed rows of the sample -> values by column. */
static bool transpose(finder *f)
{
    const crank_tree_data *d = f->data;
    f->start = crank_alloc(f->context, (size_t)d->columns + 2, sizeof *f->start, "a sample by column");
    if (!f->start) return false;
    for (int64_t i = 0; i < f->n; i++)
        for (int64_t k = d->starts[f->row[i]]; k < d->starts[f->row[i] + 1]; k++) f->start[d->indices[k] + 2]++;
    for (int64_t j = 0; j < d->columns; j++) f->start[j + 2] += f->start[j + 1];
    f->value = crank_alloc(f->context, (size_t)f->start[d->columns + 1] + 1, sizeof *f->value, "a sample by column");
    if (!f->value) return false;
    for (int64_t i = 0; i < f->n; i++)
        for (int64_t k = d->starts[f->row[i]]; k < d->starts[f->row[i] + 1]; k++) f->value[f->start[d->indices[k] + 1]++] = d->values[k];
    return true;
}

static void feature_free(feature_bins *f)
{
    crank_free(f->upper);
    crank_free(f->category);
    crank_free(f->bin_of);
}

static void find_group(finder *f, int64_t first, int64_t last, sample *s, float *spare, double *values, int64_t *counts)
{
    const crank_tree_data *d = f->data;
    bool                   use_missing = f->options->use_missing;
    for (int64_t j = first; j < last; j++) s[j - first].count = s[j - first].zeros = s[j - first].missing = 0;
    if (d->dense) {
        for (int64_t i = 0; i < f->n; i++)
            for (int64_t j = first; j < last; j++) take_value(&s[j - first], d->dense[f->row[i] * d->columns + j], use_missing);
    } else {
        for (int64_t j = first; j < last; j++) {
            for (int64_t k = f->start[j]; k < f->start[j + 1]; k++) take_value(&s[j - first], f->value[k], use_missing);
            int64_t absent = f->n - (f->start[j + 1] - f->start[j]);
            *(d->absent_missing && use_missing ? &s[j - first].missing : &s[j - first].zeros) += absent;
        }
    }
    for (int64_t j = first; j < last && !f->failed; j++) {
        feature_bins made = {.column = (int32_t)j};
        if (!d->dense && f->start[j] == f->start[j + 1]) continue; /* nothing but absent values: most of very many columns */
        bool good = d->categorical && d->categorical[j] ? find_categories(f->context, f->options, &s[j - first], spare, values, counts, &made)
                                                        : find_numbers(f->context, f->options, &s[j - first], spare, values, counts, &made);
        bool useful = good && made.bins > 1 && (f->found[j] = crank_alloc(f->context, 1, sizeof made, "bins"));
        if (useful) *f->found[j] = made;
        else feature_free(&made);
        if (!good || (made.bins > 1 && !useful)) f->failed = true;
    }
}

enum { GROUP = 16 };

/* Columns in groups of 16, so that dense rows are read by whole cache lines. */
static void find_all(finder *f)
{
    int64_t groups = (f->data->columns + GROUP - 1) / GROUP;
#pragma omp parallel num_threads(crank_threads(f->context))
    {
        sample   s[GROUP] = {{0}};
        float   *block = malloc((size_t)(f->n + 1) * (GROUP + 1) * sizeof *block);
        double  *values = malloc((size_t)(f->n + 2) * sizeof *values);
        int64_t *counts = malloc((size_t)(f->n + 2) * sizeof *counts);
        bool     good = block && values && counts;
        for (int j = 0; good && j < GROUP; j++) s[j].values = block + (size_t)j * (size_t)(f->n + 1);
#pragma omp for schedule(dynamic)
        for (int64_t g = 0; g < groups; g++) {
            int64_t first = g * GROUP, last = first + GROUP < f->data->columns ? first + GROUP : f->data->columns;
            if (!good) f->failed = true;
            else if (!f->failed) find_group(f, first, last, s, block + (size_t)GROUP * (size_t)(f->n + 1), values, counts);
        }
        free(block);
        free(values);
        free(counts);
    }
}

/* ---- slots ---- */

static int32_t room_of(int32_t bins) { return bins <= 16 ? 16 : bins <= 64 ? 64 : 256; }

/* Features by their room, each kind in blocks of 16 and at last 8. */
static bool lay_out(crank_context *context, bin_mapper *m)
{
    m->feature_of = crank_alloc(context, (size_t)m->features + 32, sizeof *m->feature_of, "slots");
    m->slot_of = crank_alloc(context, (size_t)m->features + 1, sizeof *m->slot_of, "slots");
    m->block = crank_alloc(context, (size_t)m->features / 8 + 8, sizeof *m->block, "blocks");
    if (!m->feature_of || !m->slot_of || !m->block) return false;
    for (int32_t room = 256; room >= 16; room /= 4) {
        int32_t first = m->slots;
        for (int32_t f = 0; f < m->features; f++)
            if (room_of(m->feature[f].bins) == room) m->slot_of[f] = m->slots, m->feature_of[m->slots++] = f;
        while (m->slots % 8) m->feature_of[m->slots++] = -1;
        for (int32_t slot = first; slot < m->slots;) {
            int32_t width = m->slots - slot >= 16 ? 16 : 8;
            m->block[m->blocks++] = (bin_block){slot, width, room, m->entries};
            m->entries += (int64_t)width * room;
            slot += width;
        }
    }
    return true;
}

/* Features with one bin tell nothing and are left out. */
static bool keep(crank_context *context, bin_mapper *m, finder *f)
{
    for (int64_t j = 0; j < m->columns; j++) m->features += f->found[j] != NULL;
    m->feature = crank_alloc(context, (size_t)m->features + 1, sizeof *m->feature, "features");
    m->of_column = crank_alloc(context, (size_t)m->columns + 1, sizeof *m->of_column, "features");
    if (!m->feature || !m->of_column) return false;
    int32_t n = 0;
    for (int64_t j = 0; j < m->columns; j++) {
        m->of_column[j] = -1;
        if (!f->found[j]) continue;
        m->of_column[j] = n;
        m->feature[n++] = *f->found[j];
        crank_free(f->found[j]);
        f->found[j] = NULL;
    }
    return lay_out(context, m);
}

bin_mapper *mapper_find(crank_context *context, const crank_tree_options *options, const crank_tree_data *data)
{
    int64_t      most = options->bin_construct_sample_cnt;
    finder       f = {.context = context, .options = options, .data = data, .n = data->rows < most ? data->rows : most};
    crank_stream stream = crank_stream_make((uint64_t)options->seed, CRANK_RANDOM_METHOD, crank_hash_name("bins"));
    bin_mapper  *m = crank_alloc(context, 1, sizeof *m, "bins");
    f.row = crank_alloc(context, (size_t)f.n, sizeof *f.row, "a sample");
    f.found = crank_alloc(context, (size_t)data->columns + 1, sizeof *f.found, "bins");
    bool good = m && f.row && f.found;
    for (int64_t i = 0; good && i < f.n; i++) f.row[i] = sample_row(i, f.n, data->rows, stream);
    if (good && !data->dense) good = transpose(&f);
    if (good) find_all(&f);
    if (f.failed) crank_fail(context, CRANK_FAILED, "out of memory for the bins of %lld columns", (long long)data->columns);
    if (good && !f.failed) {
        m->columns = data->columns;
        good = keep(context, m, &f);
    }
    for (int64_t j = 0; f.found && j < data->columns; j++) {
        if (f.found[j]) feature_free(f.found[j]);
        crank_free(f.found[j]);
    }
    crank_free(f.found);
    crank_free(f.row);
    crank_free(f.start);
    crank_free(f.value);
    if (good && !f.failed) return m;
    mapper_free(m);
    return NULL;
}

void mapper_free(bin_mapper *m)
{
    if (!m) return;
    for (int32_t f = 0; m->feature && f < m->features; f++) feature_free(&m->feature[f]);
    crank_free(m->feature);
    crank_free(m->feature_of);
    crank_free(m->slot_of);
    crank_free(m->of_column);
    crank_free(m->block);
    crank_free(m);
}
