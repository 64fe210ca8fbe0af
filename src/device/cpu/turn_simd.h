/* turn_simd.h - copies of transposed views with elements of two or four bytes, in squares turned in registers.
 *
 * y has stride 1 along its last axis, x along another one ("row" below). A square reads and writes whole cache lines;
 * four squares side by side along x's contiguous axis follow each other, so that neither side jumps at every line. */
#include "device/cpu/fast.h"
#include "device/cpu/transpose_simd.h"

enum { STRIP = 4 * LANES };

typedef struct turn_job {
    const crank_view *x, *y;
    int     row, axes, outer[CRANK_MAX_RANK]; /* row: x's axis of stride 1; outer: the other axes but the last */
    int64_t strips;                           /* of the row axis */
    int     width;
} turn_job;

static bool turn_make(const crank_call *call, turn_job *job)
{
    const crank_view *x = &call->in[0], *y = &call->out[0];
    int               last = y->rank - 1;
    *job = (turn_job){.x = x, .y = y, .row = -1, .width = (int)crank_dtype_bits(x->dtype) / 8};
    if (last < 1 || x->dtype != y->dtype || (job->width != 4 && job->width != 2)) return false;
    if (y->strides[last] != 1 || x->strides[last] == 1) return false;
    for (int axis = 0; axis < last; axis++) {
        if (job->row < 0 && x->strides[axis] == 1 && x->dims[axis] > 1) job->row = axis;
        else job->outer[job->axes++] = axis;
    }
    if (job->row < 0) return false;
    job->strips = (x->dims[job->row] + STRIP - 1) / STRIP;
    return true;
}

/* LANES elements as they are, one in each lane */
ALWAYS_INLINE vec raw_load(const char *p, int width)
{
    if (width == 4) return vec_load((const float *)p);
#if defined(__AVX512F__)
    return _mm512_castsi512_ps(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p)));
#else
    return _mm256_castsi256_ps(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p)));
#endif
}
ALWAYS_INLINE void raw_store(char *p, vec x, int width)
{
    if (width == 4) vec_store((float *)p, x);
#if defined(__AVX512F__)
    else _mm256_storeu_si256((__m256i *)p, _mm512_cvtepi32_epi16(_mm512_castps_si512(x)));
#else
    else {
        __m256i bits = _mm256_castps_si256(x);
        _mm_storeu_si128((__m128i *)p,
                         _mm_packus_epi32(_mm256_castsi256_si128(bits), _mm256_extracti128_si256(bits, 1)));
    }
#endif
}

/* y[r, c] = x[c, r] for a square of r and c; x_row is the stride of c in x, y_row that of r in y, both in elements */
ALWAYS_INLINE void turn_square(char *y, const char *x, int64_t y_row, int64_t x_row, int width)
{
    vec tile[LANES];
#pragma GCC unroll 16
    for (int c = 0; c < LANES; c++) tile[c] = raw_load(x + c * x_row * width, width);
    transpose(tile);
#pragma GCC unroll 16
    for (int r = 0; r < LANES; r++) raw_store(y + r * y_row * width, tile[r], width);
}

ALWAYS_INLINE void turn_edge(char *y, const char *x, int64_t y_row, int64_t x_row, int64_t rows, int64_t columns,
                             int width)
{
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < columns; c++)
            memcpy(y + (r * y_row + c) * width, x + (c * x_row + r) * width, (size_t)width);
}

ALWAYS_INLINE void turn_strip(char *y, const char *x, int64_t y_row, int64_t x_row, int64_t rows, int64_t columns,
                              int width)
{
    for (int64_t c = 0; c < columns; c += LANES)
        for (int64_t r = 0; r < rows; r += LANES) {
            char       *to = y + (r * y_row + c) * width;
            const char *from = x + (c * x_row + r) * width;
            int64_t     tall = rows - r < LANES ? rows - r : LANES, wide = columns - c < LANES ? columns - c : LANES;
            if (tall == LANES && wide == LANES) turn_square(to, from, y_row, x_row, width);
            else turn_edge(to, from, y_row, x_row, tall, wide, width);
        }
}

static void turn_kernel(const void *data, int64_t first, int64_t last, int worker)
{
    const turn_job   *job = data;
    const crank_view *x = job->x, *y = job->y;
    int64_t           columns = y->dims[y->rank - 1], x_row = x->strides[x->rank - 1], y_row = y->strides[job->row];
    (void)worker;
    for (int64_t i = first; i < last; i++) {
        int64_t start = i % job->strips * STRIP, rest = i / job->strips, rows = x->dims[job->row] - start;
        int64_t from = start, to = start * y_row;
        for (int k = job->axes - 1; k >= 0; k--) {
            int64_t index = rest % y->dims[job->outer[k]];
            rest /= y->dims[job->outer[k]];
            from += index * x->strides[job->outer[k]];
            to += index * y->strides[job->outer[k]];
        }
        const char *source = (const char *)x->data + from * job->width;
        char       *target = (char *)y->data + to * job->width;
        if (rows > STRIP) rows = STRIP;
        if (job->width == 4) turn_strip(target, source, y_row, x_row, rows, columns, 4);
        else turn_strip(target, source, y_row, x_row, rows, columns, 2);
    }
}

static bool turn_serves(const crank_call *call)
{
    turn_job job;
    return turn_make(call, &job);
}

static crank_status turn_run(crank_context *context, const crank_call *call)
{
    turn_job job;
    (void)context;
    turn_make(call, &job);
    int64_t items = job.strips, columns = job.y->dims[job.y->rank - 1];
    for (int k = 0; k < job.axes; k++) items *= job.y->dims[job.outer[k]];
    rows_run(items, STRIP * columns, 1, cpu_threads(call), turn_kernel, &job);
    return CRANK_OK;
}

bool FINDER(turn)(const char *operation, const crank_call *call, int threads, crank_body *body)
{
    static const fast_entry entries[] = {{"copy", turn_run, turn_serves, NULL}};
    return fast_find(LEVEL_NAME, entries, 1, operation, call, threads, body);
}
