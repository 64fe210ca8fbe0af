/* partition.c - rows of a leaf into those of its children, in their order; in chunks of fixed size, so that threads change nothing. */
#include "tree/grow.h"

enum { CHUNK = 1 << 14, MOST_CHUNKS = 512 };

/* Without branches: both ends are written, one of them counts. */
static int64_t part(const int32_t *rows, int64_t n, const uint8_t *bins, const uint8_t *goes_left, int32_t *left, int32_t *right)
{
    int64_t nl = 0, nr = 0;
    for (int64_t i = 0; i < n; i++) {
        int32_t row = rows[i];
        int64_t yes = goes_left[bins[row]];
        left[nl] = row;
        right[nr] = row;
        nl += yes;
        nr += 1 - yes;
    }
    return nl;
}

/* Left rows go to their place at once, right ones through the spare array. */
static int64_t partition_alone(int32_t *rows, int32_t *spare, int64_t n, const uint8_t *bins, const uint8_t *goes_left)
{
    int64_t left = part(rows, n, bins, goes_left, rows, spare);
    memcpy(rows + left, spare, (size_t)(n - left) * sizeof *rows);
    return left;
}

int64_t partition(int threads, int32_t *rows, int32_t *spare, int64_t n, const uint8_t *bins, const uint8_t *goes_left)
{
    int64_t size = n / MOST_CHUNKS > CHUNK ? n / MOST_CHUNKS : CHUNK, chunks = (n + size - 1) / size;
    if (threads == 1 || chunks < 2) return partition_alone(rows, spare, n, bins, goes_left);
    int64_t count[MOST_CHUNKS + 2], left_at[MOST_CHUNKS + 2], right_at[MOST_CHUNKS + 2], left = 0, right = 0;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t c = 0; c < chunks; c++) {
        int64_t first = c * size, m = n - first < size ? n - first : size;
        count[c] = partition_alone(rows + first, spare + first, m, bins, goes_left);
    }
    for (int64_t c = 0; c < chunks; c++) {
        int64_t m = n - c * size < size ? n - c * size : size;
        left_at[c] = left;
        right_at[c] = right;
        left += count[c];
        right += m - count[c];
    }
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t c = 0; c < chunks; c++) {
        int64_t first = c * size, m = n - first < size ? n - first : size;
        memcpy(spare + left_at[c], rows + first, (size_t)count[c] * sizeof *rows);
        memcpy(spare + left + right_at[c], rows + first + count[c], (size_t)(m - count[c]) * sizeof *rows);
    }
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t c = 0; c < chunks; c++) {
        int64_t first = c * size, m = n - first < size ? n - first : size;
        memcpy(rows + first, spare + first, (size_t)m * sizeof *rows);
    }
    return left;
}
