/* histogram.c - rounding of gradients, and sums by bin.
 *
 * Rows go through in tiles that fit the second-level cache: within a tile each block of features is added alone, so that its histogram
 * stays in the first-level cache while the rows' bins come from the second. */
#include "tree/histogram.h"

#include "crank/random.h"

enum { TILE = 1024, CHUNK = 4096, AHEAD = 16 };

typedef struct sizes {
    double g, h, squares_g, squares_h; /* sums of |g|, h, g^2, h^2 */
} sizes;

/* Over rows, in chunks whose size does not depend on the threads. */
static sizes sizes_of(int threads, const float *g, const float *h, const int32_t *rows, int64_t n)
{
    int64_t chunks = (n + CHUNK - 1) / CHUNK;
    sizes   total = {0};
    enum { BATCH = 256 };
    for (int64_t base = 0; base < chunks; base += BATCH) {
        sizes   part[BATCH];
        int64_t count = chunks - base < BATCH ? chunks - base : BATCH;
#pragma omp parallel for num_threads(threads) schedule(static) if (count > 4)
        for (int64_t c = 0; c < count; c++) {
            int64_t first = (base + c) * CHUNK, last = first + CHUNK < n ? first + CHUNK : n;
            double  a[4] = {0}, b[4] = {0}, c2[4] = {0}, d2[4] = {0};
            for (int64_t i = first; i < last; i++) {
                int64_t r = rows ? rows[i] : i;
                double  gr = (double)g[r], hr = (double)h[r];
                a[i & 3] += fabs(gr);
                b[i & 3] += hr;
                c2[i & 3] += gr * gr;
                d2[i & 3] += hr * hr;
            }
            part[c] = (sizes){(a[0] + a[1]) + (a[2] + a[3]), (b[0] + b[1]) + (b[2] + b[3]), (c2[0] + c2[1]) + (c2[2] + c2[3]), (d2[0] + d2[1]) + (d2[2] + d2[3])};
        }
        for (int64_t c = 0; c < count; c++) total.g += part[c].g, total.h += part[c].h, total.squares_g += part[c].squares_g, total.squares_h += part[c].squares_h;
    }
    return total;
}

/* x up or down to a whole number; u in [0, 1): x + u rounded down is right on average */
static int64_t round_by_chance(double x, double u) { return (int64_t)floor(x + u); }

static void round_rows(int threads, const float *g, const float *h, const int32_t *rows, int64_t n, double g_scale, double h_scale, const crank_stream *chance, packed *out)
{
#pragma omp parallel for num_threads(threads) schedule(static) if (n > 16384)
    for (int64_t i = 0; i < n; i++) {
        int64_t r = rows ? rows[i] : i;
        double  x = (double)g[r] * g_scale, y = (double)h[r] * h_scale;
        if (!chance) out[r] = (int64_t)((uint64_t)(int64_t)rint(x) << 32) + (int64_t)rint(y);
        else {
            uint32_t bits = crank_draw_bits(*chance, (uint64_t)r);
            out[r] = (int64_t)((uint64_t)round_by_chance(x, (bits >> 16) / 65536.0) << 32) + round_by_chance(y, (bits & 65535) / 65536.0);
        }
    }
}

bool quantise(crank_context *context, const crank_tree_options *o, int64_t number, const float *g, const float *h, const int32_t *rows, int64_t n, quantised *out)
{
    int   threads = crank_threads(context);
    sizes s = sizes_of(threads, g, h, rows, n);
    if (!(s.g > 0) || !isfinite(s.g) || !isfinite(s.h)) return false;
    bool few = o->use_quantized_grad && n < 1 << 30, constant = true;
    /* rounding adds at most half a level a row, or one by chance, sums in double a little */
    double most = (few ? 1 : 0.5) * (double)n + 16, g_scale = (0x1p31 - most) * (1 - 1e-9) / s.g, h_scale = s.h > 0 ? (0x1p32 - most) * (1 - 1e-9) / s.h : 1;
    if (few) {
        g_scale = fmin(g_scale, (double)o->num_grad_quant_bins / 2 / sqrt(3 * s.squares_g / (double)n));
        if (s.h > 0) h_scale = fmin(h_scale, (double)o->num_grad_quant_bins / sqrt(3 * s.squares_h / (double)n));
    }
    float first = n > 0 ? h[rows ? rows[0] : 0] : 0;
    for (int64_t i = 0; i < n && constant; i++) constant = h[rows ? rows[i] : i] == first;
    if (constant && first > 0) h_scale = fmax(floor(h_scale * (double)first), 1) / (double)first; /* whole: counts of rows are exact */
    if (!isfinite(g_scale) || !isfinite(h_scale)) return false;
    out->g_unit = 1 / g_scale;
    out->h_unit = 1 / h_scale;
    crank_stream chance = crank_stream_make((uint64_t)o->seed ^ (uint64_t)crank_hash_name("levels") << 32, CRANK_RANDOM_METHOD, (uint32_t)number);
    round_rows(threads, g, h, rows, n, g_scale, h_scale, few && o->stochastic_rounding ? &chance : NULL, out->row);
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
