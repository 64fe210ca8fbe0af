/* histogram.c - rounding of gradients, and sums by bin.
 *
 * Rows go through in tiles that fit the second-level cache: within a tile each block of features is added alone, so that its histogram
 * stays in the first-level cache while the rows' bins come from the second. */
#include "tree/histogram.h"

enum { TILE = 1024, CHUNK = 4096, AHEAD = 16 };

/* Sums of |g| and h over rows, in chunks whose size does not depend on the threads. */
static void sums(int threads, const float *g, const float *h, const int32_t *rows, int64_t n, double *sum_g, double *sum_h)
{
    int64_t chunks = (n + CHUNK - 1) / CHUNK;
    double  total_g = 0, total_h = 0;
    enum { BATCH = 256 };
    for (int64_t base = 0; base < chunks; base += BATCH) {
        double  part_g[BATCH], part_h[BATCH];
        int64_t count = chunks - base < BATCH ? chunks - base : BATCH;
#pragma omp parallel for num_threads(threads) schedule(static) if (count > 4)
        for (int64_t c = 0; c < count; c++) {
            int64_t first = (base + c) * CHUNK, last = first + CHUNK < n ? first + CHUNK : n;
            double  a[4] = {0}, b[4] = {0};
            for (int64_t i = first; i < last; i++) {
                int64_t r = rows ? rows[i] : i;
                a[i & 3] += fabs((double)g[r]);
                b[i & 3] += (double)h[r];
            }
            part_g[c] = (a[0] + a[1]) + (a[2] + a[3]);
            part_h[c] = (b[0] + b[1]) + (b[2] + b[3]);
        }
        for (int64_t c = 0; c < count; c++) total_g += part_g[c], total_h += part_h[c];
    }
    *sum_g = total_g;
    *sum_h = total_h;
}

bool quantise(int threads, const float *g, const float *h, const int32_t *rows, int64_t n, quantised *out)
{
    double sum_g, sum_h;
    sums(threads, g, h, rows, n, &sum_g, &sum_h);
    if (!(sum_g > 0) || !isfinite(sum_g) || !isfinite(sum_h)) return false;
    /* rounding adds at most half a level a row, sums in double a little */
    double g_scale = (0x1p31 - 16 - 0.5 * (double)n) * (1 - 1e-9) / sum_g;
    double h_scale = sum_h > 0 ? (0x1p32 - 16 - 0.5 * (double)n) * (1 - 1e-9) / sum_h : 1;
    bool   constant = true;
    float  first = n > 0 ? h[rows ? rows[0] : 0] : 0;
    for (int64_t i = 0; i < n && constant; i++) constant = h[rows ? rows[i] : i] == first;
    if (constant && first > 0) h_scale = floor(h_scale * (double)first) / (double)first; /* whole: counts of rows are exact */
    if (!isfinite(g_scale) || !isfinite(h_scale)) return false;
    out->g_unit = 1 / g_scale;
    out->h_unit = 1 / h_scale;
#pragma omp parallel for num_threads(threads) schedule(static) if (n > 16384)
    for (int64_t i = 0; i < n; i++) {
        int64_t r = rows ? rows[i] : i;
        int64_t a = (int64_t)rint((double)g[r] * g_scale), b = (int64_t)rint((double)h[r] * h_scale);
        out->row[r] = (int64_t)((uint64_t)a << 32) + b;
    }
    return true;
}

/* n rows whose bins begin at `bins` + rows[i] * slots */
static inline __attribute__((always_inline)) void add_rows(packed *restrict hist, const uint8_t *bins, int32_t slots, const int32_t *rows, const packed *gradients, int n, const int width, const int room, bool ahead)
{
    for (int i = 0; i < n; i++) {
        const uint8_t *b = bins + (int64_t)rows[i] * slots;
        packed         v = gradients[i];
        if (ahead && i + AHEAD < n)
            for (int32_t k = 0; k < slots; k += 64) __builtin_prefetch(bins + (int64_t)rows[i + AHEAD] * slots + k, 0, 2);
#pragma GCC unroll 16
        for (int f = 0; f < width; f++) hist[f * room + b[f]] += v;
    }
}

static void add_block(packed *hist, const uint8_t *bins, int32_t slots, const int32_t *rows, const packed *gradients, int n, const bin_block *block, bool ahead)
{
    switch (block->room * 32 + block->width) {
    case 256 * 32 + 16: add_rows(hist, bins, slots, rows, gradients, n, 16, 256, ahead); break;
    case 256 * 32 + 8: add_rows(hist, bins, slots, rows, gradients, n, 8, 256, ahead); break;
    case 64 * 32 + 16: add_rows(hist, bins, slots, rows, gradients, n, 16, 64, ahead); break;
    case 64 * 32 + 8: add_rows(hist, bins, slots, rows, gradients, n, 8, 64, ahead); break;
    case 16 * 32 + 16: add_rows(hist, bins, slots, rows, gradients, n, 16, 16, ahead); break;
    default: add_rows(hist, bins, slots, rows, gradients, n, 8, 16, ahead); break;
    }
}

void histogram_add(const bin_mapper *mapper, const bin_matrix *matrix, const packed *gradients, const int32_t *rows, int64_t n, const int32_t *wanted, int32_t count, packed *hist)
{
    packed  local[TILE];
    int32_t identity[TILE];
    for (int64_t first = 0; first < n; first += TILE) {
        int            m = (int)(n - first < TILE ? n - first : TILE);
        const int32_t *tile = rows ? rows + first : identity;
        if (!rows)
            for (int i = 0; i < m; i++) identity[i] = (int32_t)(first + i);
        for (int i = 0; i < m; i++) local[i] = gradients[tile[i]];
        for (int32_t k = 0; k < count; k++) {
            const bin_block *block = &mapper->block[wanted[k]];
            add_block(hist + block->offset, matrix->by_row + block->first, matrix->slots, tile, local, m, block, k == 0);
        }
    }
}

void histogram_add_plain(const bin_mapper *mapper, const bin_matrix *matrix, const packed *gradients, const int32_t *rows, int64_t n, packed *hist)
{
    for (int64_t i = 0; i < n; i++) {
        int64_t r = rows ? rows[i] : i;
        for (int32_t k = 0; k < mapper->blocks; k++) {
            const bin_block *block = &mapper->block[k];
            for (int32_t f = 0; f < block->width; f++) hist[block->offset + f * block->room + matrix->by_row[r * matrix->slots + block->first + f]] += gradients[r];
        }
    }
}
