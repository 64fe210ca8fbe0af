/* attention_decode_simd.h - attention of one new token over a cache, and writing the cache.
 *
 * The cache is read once, as it lies: scores are dot products along d, and each value row is added to the sums of all
 * query heads that read it. Chunks of CHUNK keys are separate tasks whose partial results are merged in order, so that
 * the bits do not depend on the number of threads. */
#include "device/cpu/attention_cached_simd.h"

enum { CHUNK = 512, ROWS_AT_ONCE = 4 };

/* Per (head, chunk): unnormalised o [rows][padded], maxima (in log2) and sums [rows]. rows: the group, rounded up. */
typedef struct partial {
    float *o, *max, *sum;
} partial;

static int64_t decode_rows(const attention *a)
{
    return round_up(a->group, ROWS_AT_ONCE);
}
static int64_t decode_chunks(const attention *a)
{
    return a->k->dims[0] / CHUNK + 2;
}
static int64_t partial_floats(const attention *a)
{
    return decode_rows(a) * (a->padded + LANES);
}
static int64_t decode_room_floats(const attention *a)
{
    return decode_rows(a) * (a->padded + CHUNK);
}

static partial partial_at(const attention *a, float *memory, int64_t i)
{
    partial p = {.o = memory + i * partial_floats(a)};
    p.max = p.o + decode_rows(a) * a->padded;
    p.sum = p.max + decode_rows(a);
    return p;
}

/* s[j] = q key_j for `count` keys, LANES at a time; those behind the last repeat it. */
ALWAYS_INLINE void decode_scores(const attention *a, crank_dtype type, const float *q, int64_t token, int64_t count,
                                 int64_t head, float *s)
{
    for (int64_t j = 0; j < count; j += LANES) {
        const void *key[LANES];
        vec sum[LANES];
#pragma GCC unroll 16
        for (int l = 0; l < LANES; l++) {
            key[l] = element(a->k, token + (j + l < count ? j + l : count - 1), head);
            sum[l] = vec_zero();
        }
        int64_t c = 0;
        for (; c + LANES <= a->d; c += LANES)
#pragma GCC unroll 16
            for (int l = 0; l < LANES; l++) sum[l] = vec_fma(vec_read(key[l], type, c), vec_load(q + c), sum[l]);
        if (c < a->d)
#pragma GCC unroll 16
            for (int l = 0; l < LANES; l++)
                sum[l] = vec_fma(vec_read_part(key[l], type, c, (int)(a->d - c)), vec_load(q + c), sum[l]);
        vec_store(s + j, vec_gather_sums(sum));
    }
}

/* o [rows][padded] += p [rows][CHUNK] v, for nv vectors from column c on. */
ALWAYS_INLINE void add_values(const attention *a, crank_dtype type, int rows, int nv, const float *p, int64_t token,
                              int64_t count, int64_t head, int64_t c, float *o)
{
    vec sum[ROWS_AT_ONCE][4];
#pragma GCC unroll 4
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
        for (int x = 0; x < nv; x++) sum[i][x] = vec_zero();
    for (int64_t j = 0; j < count; j++) {
        const void *value = element(a->v, token + j, head);
#pragma GCC unroll 4
        for (int x = 0; x < nv; x++) {
            vec v = nv > 1 || c + LANES <= a->d ? vec_read(value, type, c + x * LANES)
                                                : vec_read_part(value, type, c, (int)(a->d - c));
#pragma GCC unroll 4
            for (int i = 0; i < rows; i++) sum[i][x] = vec_fma(vec_set(p[i * CHUNK + j]), v, sum[i][x]);
        }
    }
#pragma GCC unroll 4
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
        for (int x = 0; x < nv; x++) vec_store(o + i * a->padded + c + x * LANES, sum[i][x]);
}

ALWAYS_INLINE void decode_values(const attention *a, crank_dtype type, const float *p, int64_t token, int64_t count,
                                 int64_t head, float *o)
{
    for (int64_t row = 0; row < a->group; row += ROWS_AT_ONCE) {
        bool one = a->group - row == 1;
        const float *pr = p + row * CHUNK;
        float * or = o + row * a->padded;
        for (int64_t c = 0; c < a->padded;) {
            bool four = c + 4 * LANES <= a->d;
            if (one && four)
                add_values(a, type, 1, 4, pr, token, count, head, c, or);
            else if (one)
                add_values(a, type, 1, 1, pr, token, count, head, c, or);
            else if (four)
                add_values(a, type, ROWS_AT_ONCE, 4, pr, token, count, head, c, or);
            else
                add_values(a, type, ROWS_AT_ONCE, 1, pr, token, count, head, c, or);
            c += four ? 4 * LANES : LANES;
        }
    }
}

/* Keys first .. first + count - 1 against the heads of one group. */
ALWAYS_INLINE void decode_chunk_as(const attention *a, crank_dtype type, int64_t first, int64_t count, int64_t head,
                                   float *room, const partial *out)
{
    float *q = room, *s = room + decode_rows(a) * a->padded;
    pack_queries(a, a->q, 0, 1, head, (word *)(void *)q);
    for (int64_t i = 0; i < decode_rows(a); i++) {
        float *row = s + i * CHUNK;
        out->max[i] = -INFINITY;
        out->sum[i] = 0;
        if (i < a->group) {
            decode_scores(a, type, q + i * a->padded, first, count, head, row);
            soften(row, NULL, 0, count, 0, round_up(count, LANES), a->scale * LOG2_E, &out->max[i], &out->sum[i]);
        } else
            memset(row, 0, CHUNK * sizeof *row);
    }
    decode_values(a, type, s, first, count, head, out->o);
}

static void decode_chunk(const attention *a, int64_t first, int64_t count, int64_t head, float *room,
                         const partial *out)
{
    BY_TYPE(decode_chunk_as, first, count, head, room, out);
}

/* The partial results of all chunks of one key head -> o */
static void merge(const attention *a, float *partials, int64_t chunks, int64_t head, const crank_view *o)
{
    for (int64_t i = 0; i < a->group; i++) {
        partial all = partial_at(a, partials, head * chunks);
        float *total = all.o + i * a->padded;
        for (int64_t c = 1; c < chunks; c++) {
            partial part = partial_at(a, partials, head * chunks + c);
            float max = fmaxf(all.max[i], part.max[i]), keep = exp2f(all.max[i] - max), take = exp2f(part.max[i] - max);
            for (int64_t x = 0; x < a->padded; x++) total[x] = total[x] * keep + part.o[i * a->padded + x] * take;
            all.sum[i] = all.sum[i] * keep + part.sum[i] * take;
            all.max[i] = max;
        }
        write_row(a, (void *)(uintptr_t)element(o, 0, head * a->group + i), total, 1 / all.sum[i]);
    }
}

static crank_status run_decode(crank_context *context, const crank_call *call)
{
    attention a = cached_attention_of(call);
    int64_t position = cache_position(context, &call->in[3], 1, a.k->dims[0]);
    if (position < 0) return CRANK_USAGE;
    range see = seen(&a, position, position + 1);
    int64_t chunks = (see.last - see.first + CHUNK - 1) / CHUNK;
    float *partials = call->workspace, *rooms = partials + decode_chunks(&a) * a.hk * partial_floats(&a);
    int threads = cpu_threads(call);
    if (chunks * a.hk * CHUNK * a.d < 100000) threads = 1;
#pragma omp parallel num_threads(threads)
    {
        float *room = rooms + omp_get_thread_num() * decode_room_floats(&a);
#pragma omp for schedule(static)
        for (int64_t task = 0; task < chunks * a.hk; task++) {
            int64_t first = see.first + task % chunks * CHUNK,
                    count = see.last - first < CHUNK ? see.last - first : CHUNK;
            partial out = partial_at(&a, partials, task);
            decode_chunk(&a, first, count, task / chunks, room, &out);
        }
#pragma omp for schedule(static)
        for (int64_t head = 0; head < a.hk; head++) merge(&a, partials, chunks, head, &call->out[0]);
    }
    return CRANK_OK;
}

static size_t decode_workspace(const attention *a, int threads)
{
    return (size_t)(decode_chunks(a) * a->hk * partial_floats(a) + threads * decode_room_floats(a)) * sizeof(float);
}

/* Rows position .. of the cache; the others stay, or are copied where the output is another memory. */
static crank_status run_cache_write(crank_context *context, const crank_call *call)
{
    const crank_view *x = &call->in[0], *old = &call->in[2], *cache = &call->out[0];
    int64_t first = cache_position(context, &call->in[1], x->dims[0], cache->dims[0]);
    size_t bytes = (size_t)x->dims[2] * crank_dtype_bits(x->dtype) / 8;
    if (first < 0) return CRANK_USAGE;
    for (int64_t i = 0; i < cache->dims[0] && old->data != cache->data; i++)
        for (int64_t h = 0; h < x->dims[1]; h++)
            memcpy((void *)(uintptr_t)element(cache, i, h), element(old, i, h), bytes);
    for (int64_t i = 0; i < x->dims[0]; i++)
        for (int64_t h = 0; h < x->dims[1]; h++)
            memcpy((void *)(uintptr_t)element(cache, first + i, h), element(x, i, h), bytes);
    return CRANK_OK;
}
