/* attention_backward_simd.h - the reverse of attention over packed segments.
 *
 *     D_i = do_i o_i;  p_ij = e^(scale q_i k_j - lse_i);  ds_ij = scale p_ij (do_i v_j - D_i)
 *     dv_j = sum_i p_ij do_i;  dk_j = sum_i ds_ij q_i;  dq_i = sum_j ds_ij k_j
 *
 * The probabilities are computed again, tile by tile: a block of query rows meets a block of KEY_ROWS keys. Work is
 * shared out in one of two ways that give the same bits for any number of threads, because every sum has one owner and
 * one order: whole    a task is a segment and key head: five products a tile split    for fewer such tasks than
 * threads: first tasks of key blocks (dk, dv), then of query blocks (dq): seven products a tile, but many tasks */
#include "device/cpu/attention_simd.h"

enum { KEY_ROWS = 96 }; /* whole stripes and whole panels */

typedef struct reverse {
    attention a;
    const crank_view *dout, *o, *lse, *dq, *dk, *dv;
    float *delta;  /* D [hq][n] */
    float *dq_sum; /* [n][hq][padded] where dq is not f32 */
} reverse;

/* One thread's memory. */
typedef struct reverse_room {
    word *key_columns, *value_columns,
        *key_rows;            /* [KEY_ROWS / PANEL][words][PANEL] twice, [KEY_ROWS / PER_WORD][padded] */
    word *q, *dout;           /* [rows][padded], read along d */
    word *q_rows, *dout_rows; /* [rows / PER_WORD][padded], read along rows (f32: the same memory) */
    float *s, *dp;            /* [rows][KEY_ROWS]; f32: they become p and ds */
    word *p, *ds, *ds_rows;   /* pairs: [rows / 2][KEY_ROWS] twice along rows, [rows][KEY_ROWS / 2] along keys */
    float *dk, *dv, *dq;      /* [KEY_ROWS][padded] twice, [rows][padded] */
    float *lse, *delta;       /* [rows]; lse in units of log2 */
} reverse_room;

static int64_t reverse_room_floats(const attention *a, reverse_room *r, float *memory)
{
    int64_t at = 0, tile = a->rows * KEY_ROWS;
#define TAKE(field, type, count) (r->field = (type *)(void *)(memory + at), at += (count))
    TAKE(key_columns, word, KEY_ROWS * a->words);
    TAKE(value_columns, word, KEY_ROWS * a->words);
    TAKE(key_rows, word, KEY_ROWS / PER_WORD * a->padded);
    TAKE(q, word, a->rows * a->padded);
    TAKE(dout, word, a->rows * a->padded);
    TAKE(s, float, tile);
    TAKE(dp, float, tile);
#if defined(PAIRS)
    TAKE(q_rows, word, a->rows / 2 * a->padded);
    TAKE(dout_rows, word, a->rows / 2 * a->padded);
    TAKE(p, word, tile / 2);
    TAKE(ds, word, tile / 2);
    TAKE(ds_rows, word, tile / 2);
#else
    r->q_rows = r->q;
    r->dout_rows = r->dout;
    r->p = r->s;
    r->ds = r->ds_rows = r->dp;
#endif
    TAKE(dk, float, KEY_ROWS * a->padded);
    TAKE(dv, float, KEY_ROWS * a->padded);
    TAKE(dq, float, a->rows * a->padded);
    TAKE(lse, float, a->rows);
    TAKE(delta, float, a->rows);
#undef TAKE
    return round_up(at * 4, 4096) / 4 + 16; /* threads begin on different sets of the cache */
}

static void load_keys(const reverse *g, const reverse_room *r, int64_t token, int64_t count, int64_t head)
{
    pack_columns(&g->a, g->a.k, token, count, head, r->key_columns);
    pack_columns(&g->a, g->a.v, token, count, head, r->value_columns);
    pack_rows(&g->a, g->a.k, token, count, head, KEY_ROWS, r->key_rows);
}

static void load_queries(const reverse *g, const reverse_room *r, int64_t token, int64_t count, int64_t head)
{
    const attention *a = &g->a;
    pack_queries(a, a->q, token, count, head, r->q);
    pack_queries(a, g->dout, token, count, head, r->dout);
#if defined(PAIRS)
    pair_rows(a, r->q, count * a->group, r->q_rows);
    pair_rows(a, r->dout, count * a->group, r->dout_rows);
#endif
    for (int64_t row = 0; row < count * a->group; row++) {
        int64_t i = token + row / a->group, h = head * a->group + row % a->group;
        r->lse[row] = ((const float *)g->lse->data)[h * g->lse->strides[0] + i] * LOG2_E;
        r->delta[row] = g->delta[h * a->q->dims[0] + i];
    }
}

/* p and ds of LANES keys from j on of one row that sees columns first .. last - 1. */
ALWAYS_INLINE void tile_lanes(const reverse *g, const reverse_room *r, int64_t row, int64_t j, int64_t first,
                              int64_t last, vec *p, vec *ds)
{
    int64_t at = row * KEY_ROWS + j;
    if (j + LANES <= first || j >= last) {
        *p = *ds = vec_zero();
        return;
    }
    vec e = vec_exp2_softmax(vec_fma(vec_load(r->s + at), vec_set(g->a.scale * LOG2_E), vec_set(-r->lse[row])));
    vec d = vec_mul(vec_mul(e, vec_set(g->a.scale)), vec_sub(vec_load(r->dp + at), vec_set(r->delta[row])));
    *p = within(e, first - j, last - j, vec_zero());
    *ds = within(d, first - j, last - j, vec_zero());
}

/* Rows row .. row + PER_WORD - 1 of p and ds. */
ALWAYS_INLINE void tile_rows(const reverse *g, const reverse_room *r, int64_t row, const range *see)
{
    for (int64_t j = 0; j < KEY_ROWS; j += LANES) {
        vec p[2], ds[2];
        for (int i = 0; i < PER_WORD; i++) tile_lanes(g, r, row + i, j, see[i].first, see[i].last, &p[i], &ds[i]);
#if defined(PAIRS)
        __m256i d0 = vec_to_bf16(ds[0]), d1 = vec_to_bf16(ds[1]);
        int64_t at = row / 2 * KEY_ROWS + j;
        _mm512_storeu_si512(r->p + at, interleave(vec_to_bf16(p[0]), vec_to_bf16(p[1])));
        _mm512_storeu_si512(r->ds + at, interleave(d0, d1));
        store_16bit((uint16_t *)(void *)r->ds_rows + row * KEY_ROWS + j, d0);
        store_16bit((uint16_t *)(void *)r->ds_rows + (row + 1) * KEY_ROWS + j, d1);
#else
        vec_store(r->s + row * KEY_ROWS + j, p[0]);
        vec_store(r->dp + row * KEY_ROWS + j, ds[0]);
#endif
    }
}

/* Where the loaded blocks stand: query token number i0 of the segment is row 0, key number k0 is column 0. */
typedef struct place {
    int64_t i0, queries, k0, keys, segment; /* segment: its length */
} place;

static range columns_seen(const attention *a, const place *at, int64_t row)
{
    range see = {0, 0};
    if (row >= at->queries * a->group) return see;
    see = seen(a, at->i0 + row / a->group, at->segment);
    see.first = see.first > at->k0 ? see.first - at->k0 : 0;
    see.last = see.last - at->k0 < at->keys ? see.last - at->k0 : at->keys;
    return see;
}

/* p and ds of all rows. Columns of a stripe that none of its rows sees are not multiplied. */
static void probabilities(const reverse *g, const reverse_room *r, const place *at)
{
    const attention *a = &g->a;
    int64_t rows = at->queries * a->group;
    for (int64_t row = 0; row < rows; row += STRIPE) {
        int64_t last_row = row + STRIPE < rows ? row + STRIPE : rows;
        range first = columns_seen(a, at, row), last = columns_seen(a, at, last_row - 1);
        for (int64_t j = first.first / PANEL * PANEL; j < last.last; j += PANEL) {
            tile_product p = {.a = r->q + row * a->padded,
                              .a_row = a->padded,
                              .a_k = 1,
                              .b = r->key_columns + j * a->words,
                              .b_k = PANEL,
                              .c = r->s + row * KEY_ROWS + j,
                              .c_row = KEY_ROWS,
                              .k = a->words,
                              .start = TILE_SET};
            multiply_tiles(&p, last_row - row, PANEL / LANES);
            p.a = r->dout + row * a->padded;
            p.b = r->value_columns + j * a->words;
            p.c = r->dp + row * KEY_ROWS + j;
            multiply_tiles(&p, last_row - row, PANEL / LANES);
        }
        for (int64_t i = row; i < last_row; i += PER_WORD)
            tile_rows(g, r, i, (range[2]){columns_seen(a, at, i), columns_seen(a, at, i + 1)});
    }
}

/* dk += ds^T q, dv += p^T do: for each stripe of keys over the rows that see any of it. */
static void add_key_gradients(const reverse *g, const reverse_room *r, const place *at)
{
    const attention *a = &g->a;
    for (int64_t j = 0; j < at->keys; j += STRIPE) {
        int64_t first = at->k0 + j, last = first + STRIPE, from = 0,
                to = at->queries; /* queries that see a key of them */
        if (a->causal)
            from = first - at->i0;
        else if (a->window)
            from = first - a->window + 1 - at->i0;
        if (a->window) to = last - 1 + a->window - at->i0;
        from = from < 0 ? 0 : from * a->group / PER_WORD;
        to = (to < at->queries ? to : at->queries) * a->group;
        to = (to + PER_WORD - 1) / PER_WORD;
        if (from >= to) continue;
        tile_product p = {.a = r->ds + from * KEY_ROWS + j,
                          .a_row = 1,
                          .a_k = KEY_ROWS,
                          .b = r->q_rows + from * a->padded,
                          .b_k = a->padded,
                          .c = r->dk + j * a->padded,
                          .c_row = a->padded,
                          .k = to - from,
                          .start = TILE_ADD};
        multiply_tiles(&p, STRIPE, a->padded / LANES);
        p.a = r->p + from * KEY_ROWS + j;
        p.b = r->dout_rows + from * a->padded;
        p.c = r->dv + j * a->padded;
        multiply_tiles(&p, STRIPE, a->padded / LANES);
    }
}

static float *dq_row(const reverse *g, int64_t token, int64_t h)
{
    if (g->a.type == CRANK_F32) return (float *)g->dq->data + token * g->dq->strides[0] + h * g->dq->strides[1];
    return g->dq_sum + (token * g->a.q->dims[1] + h) * g->a.padded;
}

/* dq += ds k, through a tile of whole vectors. */
static void add_query_gradients(const reverse *g, const reverse_room *r, const place *at, int64_t token, int64_t head)
{
    const attention *a = &g->a;
    int64_t rows = at->queries * a->group;
    for (int64_t row = 0; row < rows; row += STRIPE) {
        int64_t last_row = row + STRIPE < rows ? row + STRIPE : rows;
        int64_t begin = columns_seen(a, at, row).first / PANEL * PANEL,
                end = round_up(columns_seen(a, at, last_row - 1).last, PANEL);
        if (begin >= end) continue;
        tile_product p = {.a = r->ds_rows + (row * KEY_ROWS + begin) / PER_WORD,
                          .a_row = KEY_ROWS / PER_WORD,
                          .a_k = 1,
                          .b = r->key_rows + begin / PER_WORD * a->padded,
                          .b_k = a->padded,
                          .c = r->dq,
                          .c_row = a->padded,
                          .k = (end - begin) / PER_WORD,
                          .start = TILE_SET};
        multiply_tiles(&p, last_row - row, a->padded / LANES);
        for (int64_t i = row; i < last_row; i++) {
            float *to = dq_row(g, token + i / a->group, head * a->group + i % a->group);
            const float *from = r->dq + (i - row) * a->padded;
            int64_t c = 0;
            for (; c + LANES <= a->d; c += LANES) vec_store(to + c, vec_add(vec_load(to + c), vec_load(from + c)));
            int rest = (int)(a->d - c);
            if (rest) vec_store_part(to + c, vec_add(vec_load_part(to + c, rest), vec_load_part(from + c, rest)), rest);
        }
    }
}

/* ---- tasks ---- */

/* The next query block from token i of a segment on that meets keys k0 .. k0 + count - 1; false when there is none. */
static bool next_queries(const attention *a, place *at, int64_t i)
{
    for (; i < at->segment; i += a->queries) {
        at->i0 = i;
        at->queries = at->segment - i < a->queries ? at->segment - i : a->queries;
        if (seen(a, i + at->queries - 1, at->segment).last > at->k0 &&
            seen(a, i, at->segment).first < at->k0 + at->keys)
            return true;
    }
    return false;
}

static void zero_queries(const reverse *g, int64_t first, int64_t last, int64_t head)
{
    for (int64_t i = first; i < last; i++)
        for (int64_t h = head * g->a.group; h < (head + 1) * g->a.group; h++)
            memset(dq_row(g, i, h), 0, (size_t)g->a.d * sizeof(float));
}

static void write_queries(const reverse *g, int64_t first, int64_t last, int64_t head)
{
    for (int64_t i = first; i < last && g->a.type != CRANK_F32; i++)
        for (int64_t h = head * g->a.group; h < (head + 1) * g->a.group; h++)
            write_row(&g->a, (void *)(uintptr_t)element(g->dq, i, h), dq_row(g, i, h), 1);
}

/* dk and dv of keys k0 .. of the segment at `start`, and with `queries` their part of dq. */
static void reverse_keys(const reverse *g, const reverse_room *r, int64_t start, int64_t segment, int64_t k0,
                         int64_t head, bool queries)
{
    const attention *a = &g->a;
    place at = {.k0 = k0, .keys = segment - k0 < KEY_ROWS ? segment - k0 : KEY_ROWS, .segment = segment};
    load_keys(g, r, start + k0, at.keys, head);
    memset(r->dk, 0, (size_t)(KEY_ROWS * a->padded) * sizeof(float));
    memset(r->dv, 0, (size_t)(KEY_ROWS * a->padded) * sizeof(float));
    for (int64_t i = 0; next_queries(a, &at, i); i = at.i0 + a->queries) {
        load_queries(g, r, start + at.i0, at.queries, head);
        probabilities(g, r, &at);
        add_key_gradients(g, r, &at);
        if (queries) add_query_gradients(g, r, &at, start + at.i0, head);
    }
    for (int64_t j = 0; j < at.keys; j++) {
        write_row(a, (void *)(uintptr_t)element(g->dk, start + k0 + j, head), r->dk + j * a->padded, 1);
        write_row(a, (void *)(uintptr_t)element(g->dv, start + k0 + j, head), r->dv + j * a->padded, 1);
    }
}

static void reverse_whole(const reverse *g, const reverse_room *r, int64_t start, int64_t segment, int64_t head)
{
    zero_queries(g, start, start + segment, head);
    for (int64_t k0 = 0; k0 < segment; k0 += KEY_ROWS) reverse_keys(g, r, start, segment, k0, head, true);
    write_queries(g, start, start + segment, head);
}

static void reverse_queries(const reverse *g, const reverse_room *r, const block *b, int64_t head)
{
    place at = {.i0 = b->first - b->start, .queries = b->last - b->first, .segment = b->end - b->start};
    zero_queries(g, b->first, b->last, head);
    load_queries(g, r, b->first, at.queries, head);
    int64_t from = seen(&g->a, at.i0, at.segment).first / KEY_ROWS * KEY_ROWS,
            to = seen(&g->a, at.i0 + at.queries - 1, at.segment).last;
    for (at.k0 = from; at.k0 < to; at.k0 += KEY_ROWS) {
        at.keys = at.segment - at.k0 < KEY_ROWS ? at.segment - at.k0 : KEY_ROWS;
        load_keys(g, r, b->start + at.k0, at.keys, head);
        probabilities(g, r, &at);
        add_query_gradients(g, r, &at, b->first, head);
    }
    write_queries(g, b->first, b->last, head);
}

/* D of token i, all heads. */
static void row_products(const reverse *g, int64_t i)
{
    const attention *a = &g->a;
    for (int64_t h = 0; h < a->q->dims[1]; h++) {
        const void *x = element(g->dout, i, h), *y = element(g->o, i, h);
        vec sum = vec_zero();
        for (int64_t c = 0; c < a->d; c += LANES) sum = vec_fma(read_lanes(a, x, c), read_lanes(a, y, c), sum);
        g->delta[h * a->q->dims[0] + i] = vec_sum(sum);
    }
}

/* Whether key blocks and query blocks apart finish earlier than whole segments: work is counted in pairs of tokens. */
static bool splits(const crank_view *segments, int64_t heads, int threads)
{
    const int32_t *at = segments->data;
    double total = 0, largest = 0, tasks = 0;
    for (int64_t s = 1; s < segments->dims[0]; s++) {
        double length = at[s * segments->strides[0]] - at[(s - 1) * segments->strides[0]];
        total += length * length * (double)heads;
        largest = fmax(largest, length * length);
        tasks += length > 0 ? (double)heads : 0;
    }
    double whole = fmin(ceil(tasks / threads) * largest, total / threads + largest);
    return threads > 1 && whole > 1.4 * total / threads;
}

static crank_status run_backward(crank_context *context, const crank_call *call)
{
    reverse g = {.a = attention_of(call, 1),
                 .dout = &call->in[0],
                 .o = &call->in[4],
                 .lse = &call->in[5],
                 .dq = &call->out[0],
                 .dk = &call->out[1],
                 .dv = &call->out[2]};
    const crank_view *segments = &call->in[6];
    reverse_room unused;
    int threads = cpu_threads(call);
    int64_t n = g.a.q->dims[0], hk = g.a.hk, room = reverse_room_floats(&g.a, &unused, NULL);
    g.delta = (float *)call->workspace + threads * room;
    g.dq_sum = g.delta + round_up(n * g.a.q->dims[1], 16);
    block *keys = (block *)(void *)(g.dq_sum + (g.a.type == CRANK_F32 ? 0 : n * g.a.q->dims[1] * g.a.padded));
    block *queries = keys + most_blocks(n, KEY_ROWS, segments->dims[0]);
    int64_t key_blocks = list_blocks(context, segments, n, KEY_ROWS, keys);
    if (key_blocks < 0) return CRANK_USAGE;
    int64_t query_blocks = list_blocks(context, segments, n, g.a.queries, queries);
    bool split = splits(segments, hk, threads);
    for (int i = 0; i < 3; i++) zero_outside(segments, &call->out[i]);
#pragma omp parallel num_threads(threads)
    {
        reverse_room r;
        reverse_room_floats(&g.a, &r, (float *)call->workspace + omp_get_thread_num() * room);
#pragma omp for schedule(static)
        for (int64_t i = 0; i < n; i++) row_products(&g, i);
        tiles_begin();
        if (split) {
#pragma omp for schedule(dynamic)
            for (int64_t task = 0; task < key_blocks * hk; task++) { /* early keys are seen most */
                const block *b = &keys[task / hk];
                reverse_keys(&g, &r, b->start, b->end - b->start, b->first - b->start, task % hk, false);
            }
#pragma omp for schedule(dynamic)
            for (int64_t task = query_blocks * hk - 1; task >= 0; task--)
                reverse_queries(&g, &r, &queries[task / hk], task % hk);
        } else {
#pragma omp for schedule(dynamic, heads_in_a_row((segments->dims[0] - 1) * hk, threads))
            for (int64_t task = 0; task < (segments->dims[0] - 1) * hk; task++) {
                const int32_t *at = (const int32_t *)segments->data + task / hk * segments->strides[0];
                reverse_whole(&g, &r, at[0], at[segments->strides[0]] - at[0], task % hk);
            }
        }
        tiles_end();
    }
    return CRANK_OK;
}

static size_t backward_workspace(const crank_call *call, const attention *a, int threads)
{
    reverse_room unused;
    int64_t n = a->q->dims[0], hq = a->q->dims[1], segments = call->in[6].dims[0];
    int64_t floats = threads * reverse_room_floats(a, &unused, NULL) + round_up(n * hq, 16) +
                     (a->type == CRANK_F32 ? 0 : n * hq * a->padded);
    int64_t blocks = most_blocks(n, KEY_ROWS, segments) + most_blocks(n, a->queries, segments);
    return (size_t)floats * sizeof(float) + (size_t)blocks * sizeof(block);
}
