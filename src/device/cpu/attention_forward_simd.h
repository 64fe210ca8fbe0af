/* attention_forward_simd.h - attention over packed segments and, for more than a few tokens at once, over a cache.
 *
 * For each block of query rows: for each block of keys: pack keys as columns and values as rows; for each stripe of
 * rows: scores, running softmax, o = keep o + p v. */
#include "device/cpu/attention_simd.h"

enum { KEYS = 256 }; /* of a key block: a stripe of scores takes 24 to 32 KiB */

/* One thread's memory. */
typedef struct forward_room {
    word *q, *k, *v,
        *p; /* [rows][padded], [KEYS / PANEL][words][PANEL], [KEYS / PER_WORD][padded], [STRIPE][KEYS / PER_WORD] */
    float *s, *o, *max, *sum, *keep; /* [STRIPE][KEYS], [rows][padded], [rows]...; max in units of log2 */
} forward_room;

static size_t forward_room_bytes(const attention *a)
{
    int64_t words = a->rows * a->padded + KEYS * a->words + KEYS / PER_WORD * a->padded + STRIPE * KEYS +
                    STRIPE * KEYS + a->rows * a->padded + 3 * a->rows;
    return (size_t)round_up(words * 4, 4096) + 64; /* threads begin on different sets of the cache */
}

static forward_room forward_room_at(const attention *a, void *memory)
{
    forward_room r;
    float *at = memory;
    r.q = (word *)(void *)at;
    r.k = (word *)(void *)(at += a->rows * a->padded);
    r.v = (word *)(void *)(at += KEYS * a->words);
    r.p = (word *)(void *)(at += KEYS / PER_WORD * a->padded);
    r.s = at += STRIPE * KEYS;
    r.o = at += STRIPE * KEYS;
    r.max = at += a->rows * a->padded;
    r.sum = at += a->rows;
    r.keep = at + a->rows;
    return r;
}

ALWAYS_INLINE void put_numerators(float *s, word *p, int64_t j, vec e)
{
#if defined(PAIRS)
    (void)s;
    store_16bit((uint16_t *)(void *)p + j, vec_to_bf16(e));
#else
    (void)p;
    vec_store(s + j, e);
#endif
}

/* One row: scores s [first..last) become numerators e^(scale s - max), zeros around in columns begin .. end - 1.
 * `first` < `last`; both lie in that range. Returns what earlier sums must be multiplied by. */
ALWAYS_INLINE float soften(float *s, word *p, int64_t first, int64_t last, int64_t begin, int64_t end, float scale,
                           float *max, float *sum)
{
    vec lowest = vec_set(-INFINITY), highest[2] = {lowest, lowest}, total[2] = {vec_zero(), vec_zero()},
        factor = vec_set(scale);
    int64_t from = first / LANES * LANES, inner = (first + LANES - 1) / LANES * LANES, outer = last / LANES * LANES, j;
    if (from < inner) highest[0] = within(vec_load(s + from), first - from, last - from, lowest);
    if (outer < last && outer >= inner) highest[1] = vec_keep(vec_load(s + outer), (int)(last - outer), lowest);
    for (j = inner; j + LANES < outer; j += 2 * LANES)
        for (int k = 0; k < 2; k++) highest[k] = vec_max(highest[k], vec_load(s + j + k * LANES));
    if (j < outer) highest[0] = vec_max(highest[0], vec_load(s + j));
    float old = *max, now = vec_highest(vec_max(highest[0], highest[1])) * scale;
    if (!(now > old)) now = old;

    vec shift = vec_set(-now);
    for (j = begin; j < from; j += LANES) put_numerators(s, p, j, vec_zero());
    if (from < inner) {
        vec e = vec_exp2_softmax(vec_fma(vec_load(s + from), factor, shift));
        put_numerators(s, p, from, total[0] = within(e, first - from, last - from, vec_zero()));
    }
    for (j = inner; j + LANES < outer; j += 2 * LANES)
        for (int k = 0; k < 2; k++) {
            vec e = vec_exp2_softmax(vec_fma(vec_load(s + j + k * LANES), factor, shift));
            put_numerators(s, p, j + k * LANES, e);
            total[k] = vec_add(total[k], e);
        }
    for (; j < last; j += LANES) {
        vec e = vec_exp2_softmax(vec_fma(vec_load(s + j), factor, shift));
        e = j < outer ? e : vec_keep(e, (int)(last - j), vec_zero());
        put_numerators(s, p, j, e);
        total[0] = vec_add(total[0], e);
    }
    for (; j < end; j += LANES) put_numerators(s, p, j, vec_zero());
    float keep = now > old ? exp2f(old - now) : 1;
    *max = now;
    *sum = *sum * keep + vec_sum(vec_add(total[0], total[1]));
    return keep;
}

/* A row that sees nothing of the present keys. */
static void soften_nothing(float *s, word *p, int64_t begin, int64_t end)
{
    for (int64_t j = begin; j < end; j += LANES) put_numerators(s, p, j, vec_zero());
}

/* One stripe of rows from `row` on against the key block at keys k0 .. k0 + count - 1. i0: the key index of the block's
 * first query. `fresh`: the stripe has met no keys yet. Returns whether it met any. */
static bool forward_stripe(const attention *a, const forward_room *r, int64_t row, int64_t rows, int64_t i0,
                           int64_t keys, int64_t k0, int64_t count, bool fresh)
{
    int64_t last_row = row + STRIPE < rows ? row + STRIPE : rows;
    int64_t first = seen(a, i0 + row / a->group, keys).first - k0,
            last = seen(a, i0 + (last_row - 1) / a->group, keys).last - k0;
    if (first < 0) first = 0;
    if (last > count) last = count;
    if (first >= last) return false;
    int64_t begin = first / PANEL * PANEL, end = round_up(last, PANEL), here = last_row - row;
    for (int64_t panel = begin; panel < end; panel += PANEL) {
        tile_product scores = {.a = r->q + row * a->padded,
                               .a_row = a->padded,
                               .a_k = 1,
                               .b = r->k + panel * a->words,
                               .b_k = PANEL,
                               .c = r->s + panel,
                               .c_row = KEYS,
                               .k = a->words,
                               .start = TILE_SET};
        multiply_tiles(&scores, here, PANEL / LANES);
    }
    for (int64_t i = row; i < last_row; i++) {
        range see = seen(a, i0 + i / a->group, keys);
        float *s = r->s + (i - row) * KEYS;
        word *p = r->p + (i - row) * (KEYS / PER_WORD);
        see.first = see.first > k0 ? see.first - k0 : 0;
        see.last = see.last - k0 < count ? see.last - k0 : count;
        r->keep[i] = 1;
        if (see.first < see.last)
            r->keep[i] = soften(s, p, see.first, see.last, begin, end, a->scale * LOG2_E, &r->max[i], &r->sum[i]);
        else
            soften_nothing(s, p, begin, end);
    }
    tile_product add = {.a_row = KEYS / PER_WORD,
                        .a_k = 1,
                        .b = r->v + begin / PER_WORD * a->padded,
                        .b_k = a->padded,
                        .c = r->o + row * a->padded,
                        .c_row = a->padded,
                        .k = (end - begin) / PER_WORD,
                        .start = fresh ? TILE_SET : TILE_SCALE,
                        .scale = r->keep + row};
#if defined(PAIRS)
    add.a = r->p + begin / PER_WORD;
#else
    add.a = r->s + begin;
#endif
    multiply_tiles(&add, here, a->padded / LANES);
    return true;
}

/* Where queries and keys of one block stand: query tokens token .. token + count - 1, of which the first is key number
 * i0 of the `keys` keys from key token `key_token` on. */
typedef struct meeting {
    int64_t token, count, i0, key_token, keys;
} meeting;

static void forward_block(const attention *a, const forward_room *r, const meeting *m, int64_t head,
                          const crank_view *o, const crank_view *lse)
{
    int64_t rows = m->count * a->group, from = seen(a, m->i0, m->keys).first,
            to = seen(a, m->i0 + m->count - 1, m->keys).last;
    uint32_t met = 0; /* a bit a stripe: MOST_GROUP keeps them below 32 */
    pack_queries(a, a->q, m->token, m->count, head, r->q);
    for (int64_t i = 0; i < rows; i++) {
        r->max[i] = -INFINITY;
        r->sum[i] = 0;
    }
    for (int64_t k0 = from / PANEL * PANEL; k0 < to; k0 += KEYS) {
        int64_t count = to - k0 < KEYS ? to - k0 : KEYS;
        pack_columns(a, a->k, m->key_token + k0, count, head, r->k);
        pack_rows(a, a->v, m->key_token + k0, count, head, round_up(count, PANEL), r->v);
        for (int64_t row = 0; row < rows; row += STRIPE)
            if (forward_stripe(a, r, row, rows, m->i0, m->keys, k0, count, !(met >> row / STRIPE & 1)))
                met |= 1u << row / STRIPE;
    }
    for (int64_t i = 0; i < rows; i++) {
        int64_t token = m->token + i / a->group, h = head * a->group + i % a->group;
        write_row(a, (void *)(uintptr_t)element(o, token, h), r->o + i * a->padded, 1 / r->sum[i]);
        if (lse) ((float *)lse->data)[h * lse->strides[0] + token] = r->max[i] * LN_2 + logf(r->sum[i]);
    }
}

static crank_status run_attention(crank_context *context, const crank_call *call)
{
    attention a = attention_of(call, 0);
    const crank_view *segments = &call->in[3], *o = &call->out[0], *lse = &call->out[1];
    int threads = cpu_threads(call);
    size_t room = forward_room_bytes(&a);
    block *blocks = (block *)(void *)((char *)call->workspace + (size_t)threads * room);
    int64_t count = list_blocks(context, segments, a.q->dims[0], a.queries, blocks), tasks = count * a.hk;
    if (count < 0) return CRANK_USAGE;
    zero_outside(segments, o);
    for (int64_t i = outside(segments, 0, a.q->dims[0]); i < a.q->dims[0]; i = outside(segments, i + 1, a.q->dims[0]))
        for (int64_t h = 0; h < a.q->dims[1]; h++) ((float *)lse->data)[h * lse->strides[0] + i] = 0;
#pragma omp parallel for num_threads(threads) schedule(dynamic, heads_in_a_row(tasks, threads))
    for (int64_t task = 0; task < tasks; task++) {
        const block *b = &blocks[count - 1 - task / a.hk]; /* late blocks see more keys: the long ones first */
        meeting m = {b->first, b->last - b->first, b->first - b->start, b->start, b->end - b->start};
        forward_room r = forward_room_at(&a, (char *)call->workspace + (size_t)omp_get_thread_num() * room);
        tiles_begin();
        forward_block(&a, &r, &m, task % a.hk, o, lse);
        tiles_end();
    }
    return CRANK_OK;
}

static size_t attention_workspace(const crank_call *call, const attention *a, int threads)
{
    int64_t blocks = most_blocks(a->q->dims[0], a->queries, call->in[3].dims[0]);
    return (size_t)threads * forward_room_bytes(a) + (size_t)blocks * sizeof(block);
}
