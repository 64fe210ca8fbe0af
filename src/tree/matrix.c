/* matrix.c - rows as bins: by row for histograms, and by slot for splitting rows. */
#include "base/memory.h"
#include "tree/bins.h"

enum { TILE = 256 };

bins_search *bins_search_best(void)
{
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq"))
        return bins_search_avx512;
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? bins_search_avx2 : bins_search_plain;
}

static int32_t category_bin(const feature_bins *f, float x) { return x > -1 && x < (float)f->largest + 1 ? f->bin_of[(int32_t)x] : 0; }

int32_t feature_bin(const feature_bins *f, float x)
{
    uint8_t out;
    if (f->categorical) return category_bin(f, x);
    if (isnan(x) && !f->has_missing) x = 0;
    bins_search_plain(&x, 1, 1, f->cut, f->bins - f->has_missing, (uint8_t)(f->bins - 1), &out);
    return out;
}

/* Rows first .. first + n of dense data. */
static void fill_dense(const bin_mapper *m, const crank_tree_data *data, bins_search *search, int64_t first, int n, bin_matrix *matrix)
{
    uint8_t out[TILE];
    for (int32_t s = 0; s < m->slots; s++) {
        int32_t k = m->feature_of[s];
        if (k < 0) continue; /* the memory is zeroed */
        const feature_bins *f = &m->feature[k];
        const float        *x = data->dense + first * data->columns + f->column;
        if (f->categorical)
            for (int i = 0; i < n; i++) out[i] = (uint8_t)category_bin(f, x[i * data->columns]);
        else search(x, data->columns, n, f->cut, f->bins - f->has_missing, (uint8_t)(f->has_missing ? f->bins - 1 : feature_bin(f, 0)), out);
        for (int i = 0; i < n; i++) matrix->by_row[(first + i) * m->slots + s] = out[i];
        if (matrix->by_slot) memcpy(matrix->by_slot + s * matrix->rows + first, out, (size_t)n);
    }
}

/* absent [slots]: the bins of a row without any value */
static void fill_compressed(const bin_mapper *m, const crank_tree_data *data, const uint8_t *absent, int64_t first, int n, bin_matrix *matrix)
{
    for (int64_t row = first; row < first + n; row++) {
        uint8_t *out = matrix->by_row + row * m->slots;
        memcpy(out, absent, (size_t)m->slots);
        for (int64_t k = data->starts[row]; k < data->starts[row + 1]; k++) {
            int32_t f = data->indices[k] < m->columns ? m->of_column[data->indices[k]] : -1;
            if (f >= 0) out[m->slot_of[f]] = (uint8_t)feature_bin(&m->feature[f], data->values[k]);
        }
        for (int32_t s = 0; matrix->by_slot && s < m->slots; s++) matrix->by_slot[s * matrix->rows + row] = out[s];
    }
}

crank_status matrix_fill(crank_context *context, const bin_mapper *m, const crank_tree_data *data, bool by_slot, bin_matrix *matrix)
{
    double  bytes = (double)data->rows * m->slots * (by_slot ? 2 : 1);
    int64_t available = memory_available();
    *matrix = (bin_matrix){.rows = data->rows, .slots = m->slots};
    if (available >= 0 && bytes > (double)available)
        return crank_fail(context, CRANK_FAILED, "%lld rows of %d features take %.0f MiB as bins, and %.0f MiB are free: leave columns or rows out", (long long)data->rows,
                          (int)m->features, bytes / 0x1p20, (double)available / 0x1p20);
    if (data->dense && data->columns < m->columns)
        return crank_fail(context, CRANK_BAD_DATA, "the data have %lld columns; the trees are made of %lld", (long long)data->columns, (long long)m->columns);
    matrix->by_row = crank_alloc(context, (size_t)data->rows * (size_t)m->slots + 64, 1, "rows as bins");
    if (by_slot) matrix->by_slot = crank_alloc(context, (size_t)data->rows * (size_t)m->slots + 64, 1, "rows as bins");
    uint8_t *absent = crank_alloc(context, (size_t)m->slots + 1, 1, "rows as bins");
    if (!matrix->by_row || (by_slot && !matrix->by_slot) || !absent) {
        crank_free(absent);
        return CRANK_FAILED;
    }
    for (int32_t f = 0; f < m->features; f++) absent[m->slot_of[f]] = (uint8_t)feature_bin(&m->feature[f], data->absent_missing ? NAN : 0);
    bins_search *search = bins_search_best();
    int64_t      tiles = (data->rows + TILE - 1) / TILE;
#pragma omp parallel for num_threads(crank_threads(context)) schedule(dynamic, 8)
    for (int64_t t = 0; t < tiles; t++) {
        int64_t first = t * TILE;
        int     n = (int)(data->rows - first < TILE ? data->rows - first : TILE);
        if (data->dense) fill_dense(m, data, search, first, n, matrix);
        else fill_compressed(m, data, absent, first, n, matrix);
    }
    crank_free(absent);
    return CRANK_OK;
}

void matrix_free(bin_matrix *matrix)
{
    crank_free(matrix->by_row);
    crank_free(matrix->by_slot);
    *matrix = (bin_matrix){0};
}
