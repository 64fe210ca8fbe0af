/* attention.cu - the table of attention's bodies, a call as the kernels see it, and the kernel that begins each call.
 *
 *     s_ij = scale q_i k_j over the keys j that i sees;  lse_i = log sum_j e^s_ij;  p_ij = e^(s_ij - lse_i)
 *     o_i = sum_j p_ij v_j
 *     D_i = do_i o_i;  ds_ij = p_ij (do_i v_j - D_i) scale;  dq_i = sum_j ds_ij k_j
 *     dk_j = sum_i ds_ij q_i,  dv_j = sum_i p_ij do_i, over the query heads that read the key head too
 *
 * Workspace: the number of tiles, the tiles, and for the reverse D [hq,n]. Segments that do not ascend within [0,n] touch no memory
 * outside of the operands; what they give is not defined (the host has no way to look at them here). */
#include <limits.h>

#include "device/cuda/attention.h"
#include "device/cuda/element.cuh"

enum { COUNT_BYTES = 256, BEGIN_THREADS = 256, CLEAR_BLOCKS = 64 };

static heads heads_of(const crank_view *x) { heads h = {x->data, x->strides[0], x->strides[1]}; return h; }

/* Most tiles of `rows` tokens that n tokens in `ends - 1` segments can make. */
static int64_t tile_limit(int64_t n, int64_t ends, int rows)
{
    int64_t filled = ends - 1 < n ? ends - 1 : n;
    return filled <= 0 ? 1 : (n + filled * (rows - 1)) / rows + 1;
}

static size_t tiles_bytes(int64_t limit) { return COUNT_BYTES + ((size_t)limit * sizeof(attention_tile) + 255) / 256 * 256; }

static attention shape_of(const crank_call *call, const crank_view *q, const crank_view *k, const crank_view *v)
{
    const crank_attention_attributes *attributes = (const crank_attention_attributes *)call->attributes;
    attention                         a = {};
    a.q = heads_of(q), a.k = heads_of(k), a.v = heads_of(v);
    a.n = (int)q->dims[0], a.capacity = (int)k->dims[0];
    a.hq = (int)q->dims[1], a.hk = (int)k->dims[1], a.group = a.hk ? a.hq / a.hk : 1, a.d = (int)q->dims[2];
    a.causal = attributes->mask == CRANK_MASK_CAUSAL;
    a.window = attributes->window > 0 && attributes->window < INT_MAX / 2 ? (int)attributes->window : 0;
    a.scale = attributes->scale;
    a.tile_count = (int *)call->workspace;
    a.tiles = (int *)((char *)call->workspace + COUNT_BYTES);
    return a;
}

static void segments_of(attention *a, const crank_view *segments, int rows)
{
    a->segments = (const int *)segments->data;
    a->segment_ends = (int)segments->dims[0];
    a->tile_rows = rows;
    a->tile_limit = (int)tile_limit(a->n, segments->dims[0], rows);
}

attention attention_of(const crank_call *call, int rows)
{
    attention a = shape_of(call, &call->in[0], &call->in[1], &call->in[2]);
    segments_of(&a, &call->in[3], rows);
    a.o = heads_of(&call->out[0]);
    a.lse = call->out[1].data, a.lse_head = call->out[1].strides[0];
    return a;
}

attention attention_backward_of(const crank_call *call, int rows)
{
    attention a = shape_of(call, &call->in[1], &call->in[2], &call->in[3]);
    segments_of(&a, &call->in[6], rows);
    a.dout = heads_of(&call->in[0]), a.o = heads_of(&call->in[4]);
    a.lse = call->in[5].data, a.lse_head = call->in[5].strides[0];
    a.dq = heads_of(&call->out[0]), a.dk = heads_of(&call->out[1]), a.dv = heads_of(&call->out[2]);
    a.delta = (char *)call->workspace + tiles_bytes(tile_limit(a.n, a.segment_ends, ATTENTION_ROWS));
    return a;
}

attention attention_cached_of(const crank_call *call, int rows)
{
    attention a = shape_of(call, &call->in[0], &call->in[1], &call->in[2]);
    a.position = (const int *)call->in[3].data;
    a.o = heads_of(&call->out[0]);
    a.causal = 1; /* the rows behind the present token are not written yet */
    a.tile_rows = rows;
    a.tile_limit = (int)tile_limit(a.n, 2, rows);
    return a;
}

size_t attention_workspace(const crank_call *call)
{
    return tiles_bytes(tile_limit(call->in[0].dims[0], call->in[3].dims[0], ATTENTION_ROWS));
}

size_t attention_backward_workspace(const crank_call *call)
{
    const crank_view *q = &call->in[1];
    size_t            width = q->dtype == CRANK_F64 ? sizeof(double) : sizeof(float);
    return tiles_bytes(tile_limit(q->dims[0], call->in[6].dims[0], ATTENTION_ROWS)) + (size_t)(q->dims[0] * q->dims[1]) * width;
}

size_t attention_cached_workspace(const crank_call *call) { return tiles_bytes(tile_limit(call->in[0].dims[0], 2, ATTENTION_ROWS)); }

bool attention_aligned(const attention *a, size_t element)
{
    const heads *all[8] = {&a->q, &a->k, &a->v, &a->o, &a->dout, &a->dq, &a->dk, &a->dv};
    int64_t      items = (int64_t)(16 / element);
    bool         aligned = a->d % items == 0;
    for (int i = 0; i < 8; i++)
        aligned = aligned && cuda_aligned(all[i]->data, 16) && all[i]->token % items == 0 && all[i]->head % items == 0;
    return aligned;
}

/* ---- the kernel that begins a call ---- */

__device__ __forceinline__ int segment_end(const attention &a, int s) { return min(max(a.segments[s], 0), a.n); }

__device__ void put_tile(const attention &a, int at, int first, int rows, int origin, int other, int count)
{
    if (at >= a.tile_limit) return;
    int4 *p = reinterpret_cast<int4 *>(a.tiles) + 2 * (int64_t)at;
    p[0] = make_int4(first, rows, origin, other);
    p[1] = make_int4(count, 0, 0, 0);
}

/* Sum of the values of the threads before this one; *total: of all. `cells` holds 9 values. */
__device__ int sum_before(int value, int *cells, int *total)
{
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, sum = value;
    for (int step = 1; step < 32; step <<= 1) {
        int other = __shfl_up_sync(0xffffffffu, sum, step);
        if (lane >= step) sum += other;
    }
    if (lane == 31) cells[warp] = sum;
    __syncthreads();
    int before = 0, all = 0;
    for (int w = 0; w < BEGIN_THREADS / 32; w++) {
        before += w < warp ? cells[w] : 0;
        all += cells[w];
    }
    __syncthreads();
    *total = all;
    return before + sum - value;
}

/* One block: the tiles of all segments in their order. */
__device__ void make_tiles(const attention &a)
{
    __shared__ int cells[BEGIN_THREADS / 32];
    int            made = 0;
    for (int s0 = 0; s0 < a.segment_ends - 1; s0 += BEGIN_THREADS) {
        int s = s0 + (int)threadIdx.x, begin = 0, length = 0, total;
        if (s < a.segment_ends - 1) {
            begin = segment_end(a, s);
            length = max(segment_end(a, s + 1) - begin, 0);
        }
        int tiles = (length + a.tile_rows - 1) / a.tile_rows, at = made + sum_before(tiles, cells, &total);
        for (int i = 0; i < tiles; i++) {
            int row = i * a.tile_rows;
            put_tile(a, at + i, begin + row, min(a.tile_rows, length - row), row, begin, length);
        }
        made += total;
    }
    if (threadIdx.x == 0) *a.tile_count = min(made, a.tile_limit);
}

/* One block: what cuDNN is told of the segments; sequences past the last are empty. */
__device__ void make_offsets(const attention &a)
{
    for (int b = (int)threadIdx.x; b <= a.batch; b += BEGIN_THREADS) {
        int begin = segment_end(a, min(b, a.segment_ends - 1)), end = segment_end(a, min(b + 1, a.segment_ends - 1));
        if (b < a.batch) a.lengths[b] = min(max(end - begin, 0), a.longest);
        for (int s = 0; s < a.slots; s++) a.offsets[(int64_t)s * (a.batch + 1) + b] = begin * a.slot_strides[s];
    }
}

/* All queries against the rows of the cache that are written; none where they do not fit. */
__device__ void make_cached_tiles(const attention &a)
{
    int position = *a.position, tiles = (a.n + a.tile_rows - 1) / a.tile_rows;
    int count = position >= 0 && position <= a.capacity - a.n ? position + a.n : 0;
    for (int i = (int)threadIdx.x; i < tiles; i += BEGIN_THREADS) {
        int row = i * a.tile_rows;
        put_tile(a, i, row, min(a.tile_rows, a.n - row), count ? position + row : 0, 0, count);
    }
    if (threadIdx.x == 0) *a.tile_count = tiles;
}

/* Zeros in heads `count` of x for the tokens that stand in no segment. */
template <typename T> __device__ void clear(const attention &a, const heads &x, int count, int64_t worker, int64_t workers)
{
    int     first = a.segment_ends > 1 ? segment_end(a, 0) : 0, last = a.segment_ends > 1 ? segment_end(a, a.segment_ends - 1) : 0;
    int64_t row = (int64_t)count * a.d, cells = row * (first + max(a.n - max(last, first), 0));
    for (int64_t i = worker; i < cells; i += workers) {
        int64_t token = i / row, c = i % row;
        if (token >= first) token += max(last, first) - first;
        store((T *)x.data + token * x.token + c / a.d * x.head + c % a.d, 0.0f);
    }
}

template <typename T> __device__ void clear_lse(const attention &a, int64_t worker, int64_t workers)
{
    int     first = a.segment_ends > 1 ? segment_end(a, 0) : 0, last = a.segment_ends > 1 ? segment_end(a, a.segment_ends - 1) : 0;
    int64_t outside = first + max(a.n - max(last, first), 0);
    for (int64_t i = worker; i < outside * a.hq; i += workers) {
        int64_t token = i % outside;
        if (token >= first) token += max(last, first) - first;
        ((real<T> *)a.lse)[i / outside * a.lse_head + token] = 0;
    }
}

template <typename T> __global__ void __launch_bounds__(BEGIN_THREADS) begin_forward(attention a)
{
    if (blockIdx.x == 0) {
        if (a.position) make_cached_tiles(a);
        else if (a.offsets) make_offsets(a);
        else make_tiles(a);
        return;
    }
    if (a.position) return;
    int64_t worker = (int64_t)(blockIdx.x - 1) * BEGIN_THREADS + threadIdx.x, workers = (int64_t)(gridDim.x - 1) * BEGIN_THREADS;
    clear<T>(a, a.o, a.hq, worker, workers);
    if (a.lse) clear_lse<T>(a, worker, workers);
}

/* delta: LANES lanes a row of d values. With 16-byte reads where VECTOR. */
template <typename T, bool VECTOR> __global__ void __launch_bounds__(BEGIN_THREADS) begin_backward(attention a)
{
    enum { LANES = VECTOR ? 8 : 32 };
    if (blockIdx.x == 0) {
        if (a.offsets) make_offsets(a);
        else make_tiles(a);
        return;
    }
    int64_t block = (int64_t)blockIdx.x - 1;
    if (block < CLEAR_BLOCKS) {
        int64_t worker = block * BEGIN_THREADS + threadIdx.x, workers = (int64_t)CLEAR_BLOCKS * BEGIN_THREADS;
        clear<T>(a, a.dq, a.hq, worker, workers);
        clear<T>(a, a.dk, a.hk, worker, workers);
        clear<T>(a, a.dv, a.hk, worker, workers);
        return;
    }
    int64_t rows = (int64_t)a.n * a.hq;
    if (a.stats) { /* cuDNN makes its own delta */
        int64_t i = (block - CLEAR_BLOCKS) * BEGIN_THREADS + threadIdx.x;
        if (i < rows) a.stats[i] = ((const float *)a.lse)[i % a.hq * a.lse_head + i / a.hq];
        return;
    }
    int64_t row = ((block - CLEAR_BLOCKS) * BEGIN_THREADS + threadIdx.x) / LANES;
    int     lane = threadIdx.x % LANES;
    real<T> sum = 0;
    if (row < rows) {
        int64_t  token = row / a.hq, head = row % a.hq;
        const T *x = (const T *)a.dout.data + token * a.dout.token + head * a.dout.head;
        const T *y = (const T *)a.o.data + token * a.o.token + head * a.o.head;
        if (VECTOR) {
            for (int c = lane * pack<T>::N; c < a.d; c += LANES * pack<T>::N) {
                pack<T> px, py;
                px.read(x + c);
                py.read(y + c);
                for (int k = 0; k < pack<T>::N; k++) sum += px.get(k) * py.get(k);
            }
        } else
            for (int c = lane; c < a.d; c += LANES) sum += load(x + c) * load(y + c);
    }
    for (int step = LANES / 2; step; step >>= 1) sum += __shfl_xor_sync(0xffffffffu, sum, step);
    if (lane == 0 && row < rows) ((real<T> *)a.delta)[row % a.hq * a.n + row / a.hq] = sum;
}

template <typename T> static void begin(cudaStream_t stream, const attention *a)
{
    bool    vector = attention_aligned(a, sizeof(T));
    int64_t rows = (int64_t)a->n * a->hq;
    if (!a->dout.data) begin_forward<T><<<a->position ? 1 : 1 + CLEAR_BLOCKS, BEGIN_THREADS, 0, stream>>>(*a);
    else if (a->stats) begin_backward<T, true><<<1 + CLEAR_BLOCKS + blocks_for(rows, BEGIN_THREADS), BEGIN_THREADS, 0, stream>>>(*a);
    else if (vector) begin_backward<T, true><<<1 + CLEAR_BLOCKS + blocks_for(rows * 8, BEGIN_THREADS), BEGIN_THREADS, 0, stream>>>(*a);
    else begin_backward<T, false><<<1 + CLEAR_BLOCKS + blocks_for(rows * 32, BEGIN_THREADS), BEGIN_THREADS, 0, stream>>>(*a);
}

crank_status attention_begin(crank_context *context, const crank_call *call, const attention *a, crank_dtype dtype)
{
    WITH_FLOAT_TYPE(dtype, T, begin<T>(cuda_stream(call), a);)
    return cuda_launched(context, "tiles of attention");
}

/* ---- bodies ---- */

static bool nothing(const attention *a) { return a->n == 0 || a->hq == 0 || a->d == 0; }

static crank_status run_forward(crank_context *context, const crank_call *call)
{
    attention a = attention_of(call, ATTENTION_ROWS);
    if (nothing(&a)) return CRANK_OK;
    crank_status status = attention_begin(context, call, &a, call->in[0].dtype);
    return status == CRANK_OK ? attention_tiled(context, call, &a, call->in[0].dtype) : status;
}

static crank_status run_flash(crank_context *context, const crank_call *call)
{
    attention a = attention_of(call, FLASH_ROWS);
    if (!attention_aligned(&a, 2)) return run_forward(context, call);
    if (nothing(&a)) return CRANK_OK;
    crank_status status = attention_begin(context, call, &a, call->in[0].dtype);
    return status == CRANK_OK ? attention_flash(context, call, &a, call->in[0].dtype) : status;
}

static crank_status run_backward(crank_context *context, const crank_call *call)
{
    attention a = attention_backward_of(call, ATTENTION_ROWS);
    if (nothing(&a)) return CRANK_OK;
    crank_status status = attention_begin(context, call, &a, call->in[0].dtype);
    return status == CRANK_OK ? attention_tiled_backward(context, call, &a, call->in[0].dtype) : status;
}

/* The best of our own kernels that the memory's alignment allows. */
crank_status attention_general(crank_context *context, const crank_call *call)
{
    return attention_flash_serves(call->in[0].dtype, call->in[0].dims[2], ((const crank_attention_attributes *)call->attributes)->scale)
               ? run_flash(context, call)
               : run_forward(context, call);
}

static crank_status run_flash_backward(crank_context *context, const crank_call *call)
{
    int       whole = attention_whole_rows(call);
    attention a = attention_backward_of(call, whole ? whole : FLASH_ROWS);
    if (!attention_aligned(&a, 2)) return run_backward(context, call);
    if (nothing(&a)) return CRANK_OK;
    crank_status status = attention_begin(context, call, &a, call->in[0].dtype);
    if (status != CRANK_OK) return status;
    return whole ? attention_flash_whole(context, call, &a, call->in[0].dtype) : attention_flash_backward(context, call, &a, call->in[0].dtype);
}

crank_status attention_backward_general(crank_context *context, const crank_call *call)
{
    return attention_flash_serves(call->in[1].dtype, call->in[1].dims[2], ((const crank_attention_attributes *)call->attributes)->scale)
               ? run_flash_backward(context, call)
               : run_backward(context, call);
}

crank_status attention_cached(crank_context *context, const crank_call *call)
{
    crank_dtype dtype = call->in[0].dtype;
    bool        flash = attention_flash_serves(dtype, call->in[0].dims[2], ((const crank_attention_attributes *)call->attributes)->scale);
    attention   a = attention_cached_of(call, flash ? FLASH_ROWS : ATTENTION_ROWS);
    if (flash && !attention_aligned(&a, 2)) {
        flash = false;
        a = attention_cached_of(call, ATTENTION_ROWS);
    }
    if (nothing(&a)) return CRANK_OK;
    crank_status status = attention_begin(context, call, &a, dtype);
    if (status != CRANK_OK) return status;
    return flash ? attention_flash(context, call, &a, dtype) : attention_tiled(context, call, &a, dtype);
}

/* Rows of the last axis are dense; query heads divide evenly among key heads; token numbers fit 32 bits. */
static bool heads_serve(const crank_view *q, const crank_view *k)
{
    return q->dims[0] < INT_MAX / 2 && k->dims[0] < INT_MAX / 2 && k->dims[1] > 0 && q->dims[1] % k->dims[1] == 0;
}
static bool serves(const crank_call *call) { return heads_serve(&call->in[0], &call->in[1]); }
static bool backward_serves(const crank_call *call) { return heads_serve(&call->in[1], &call->in[2]); }

static bool views_aligned(const crank_view *views, int count)
{
    bool aligned = true;
    for (int i = 0; i < count; i++)
        if (views[i].rank == 3) aligned = aligned && views[i].strides[0] % 8 == 0 && views[i].strides[1] % 8 == 0;
    return aligned;
}
static bool flash_serves_any(const crank_call *call, const crank_view *q, const crank_view *k)
{
    return heads_serve(q, k) && views_aligned(call->in, call->inputs) && views_aligned(call->out, call->outputs) &&
           attention_flash_serves(q->dtype, q->dims[2], ((const crank_attention_attributes *)call->attributes)->scale);
}
static bool decode_serves(const crank_call *call) { return serves(call) && attention_decode_serves(call); }
static bool flash_serves(const crank_call *call) { return flash_serves_any(call, &call->in[0], &call->in[1]); }
static bool flash_backward_serves(const crank_call *call) { return flash_serves_any(call, &call->in[1], &call->in[2]); }

#ifdef CRANK_HAVE_CUDNN
static bool dnn_serves_any(const crank_call *call, const crank_view *q, const crank_view *k, bool backward)
{
    return heads_serve(q, k) && views_aligned(call->in, call->inputs) && views_aligned(call->out, call->outputs) &&
           attention_dnn_serves(call, backward);
}
static bool dnn_serves(const crank_call *call) { return dnn_serves_any(call, &call->in[0], &call->in[1], false); }
static bool dnn_backward_serves(const crank_call *call) { return dnn_serves_any(call, &call->in[1], &call->in[2], true); }
#endif

const cuda_entry cuda_attention[] = {
#ifdef CRANK_HAVE_CUDNN
    {"attention", "cudnn", attention_dnn, dnn_serves, attention_dnn_workspace},
    {"attention_backward", "cudnn", attention_dnn_backward, dnn_backward_serves, attention_dnn_backward_workspace},
#endif
    {"attention", "flash", run_flash, flash_serves, attention_workspace},
    {"attention", "cuda", run_forward, serves, attention_workspace},
    {"attention_backward", "flash", run_flash_backward, flash_backward_serves, attention_backward_workspace},
    {"attention_backward", "cuda", run_backward, backward_serves, attention_backward_workspace},
    {"attention_cached", "decode", attention_decode, decode_serves, attention_decode_workspace},
    {"attention_cached", "cuda", attention_cached, serves, attention_cached_workspace},
    {"cache_write", "cuda", attention_cache_write, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

#ifndef CRANK_HAVE_CUDNN
void cuda_dnn_close(cuda_device *device) { device->dnn = NULL; }
#endif
