/* attention_decode.cu - few queries against the rows of a cache, and the writing of those rows.
 *
 * Reading the cache is all the work, so the keys are split over blocks: block (split, key head) gives for each of its query rows (all
 * query heads of the key head, all queries) its maximum m_b, sum l_b and unscaled output u_b, and a second kernel joins them in order:
 *     m = max_b m_b;  o = sum_b e^(m_b - m) u_b / sum_b e^(m_b - m) l_b */
#include "device/cuda/attention.h"
#include "device/cuda/element.cuh"

enum { KEYS = 64, THREADS = 128, ROWS = 8, MOST_QUERIES = 8, MOST_SPLITS = 128, MOST_D = 256 };

__device__ __forceinline__ float  exp_of(float x) { return expf(x); }
__device__ __forceinline__ double exp_of(double x) { return exp(x); }

/* Elements a lane reads at once, as real<T>. */
template <typename T, int E> __device__ __forceinline__ void read(real<T> x[E], const T *from)
{
    if (E == 1) {
        x[0] = load(from);
        return;
    }
    pack<T> p;
    p.read(from);
#pragma unroll
    for (int e = 0; e < E; e++) x[e] = p.get(e);
}

/* Least power of two not below n. */
__host__ __device__ __forceinline__ int power_of_two(int n)
{
    int p = 1;
    while (p < n) p *= 2;
    return p;
}

template <typename T, int E> struct decode_room {
    real<T> q[ROWS * MOST_D]; /* element e of chunk c of a row at e * chunks + c: lanes read neighbours */
    real<T> p[ROWS][KEYS];
    real<T> most[ROWS], total[ROWS], factor[ROWS];
    real<T> sums[THREADS * ROWS * E];
};

/* Scores of KEYS keys from j0 -> room->p. Rows r0 .. of the key head's rows; row r is query r / group, head r % group of the group. */
template <typename T, int E>
__device__ void scores(const attention &a, decode_room<T, E> *room, int key_head, int r0, int rows, int position, int j0, int to)
{
    int chunks = a.d / E, lanes = min(power_of_two(chunks), 32), lane = (int)threadIdx.x % lanes;
    for (int key = (int)threadIdx.x / lanes; key < KEYS; key += THREADS / lanes) {
        int     j = j0 + key;
        real<T> dot[ROWS] = {};
        if (j < to) {
            const T *k = (const T *)a.k.data + j * a.k.token + key_head * a.k.head;
            for (int c = lane; c < chunks; c += lanes) {
                real<T> x[E];
                read<T, E>(x, k + c * E);
#pragma unroll
                for (int r = 0; r < ROWS; r++)
                    if (r < rows)
#pragma unroll
                        for (int e = 0; e < E; e++) dot[r] += x[e] * room->q[r * a.d + e * chunks + c];
            }
        }
#pragma unroll
        for (int r = 0; r < ROWS; r++) {
            for (int step = lanes / 2; step; step >>= 1) dot[r] += __shfl_xor_sync(0xffffffffu, dot[r], step);
            bool seen = j < to && r < rows && attention_sees(a, position + (r0 + r) / a.group, j);
            if (lane == 0) room->p[r][key] = seen ? dot[r] * (real<T>)a.scale : -(real<T>)INFINITY;
        }
    }
}

/* room->p -> e^(s - m'); a warp takes every fourth row. */
template <typename T, int E> __device__ void soften(decode_room<T, E> *room)
{
    int lane = (int)threadIdx.x % 32;
    for (int r = (int)threadIdx.x / 32; r < ROWS; r += THREADS / 32) {
        real<T> x = room->p[r][lane], y = room->p[r][lane + 32], before = room->most[r];
        real<T> most = warp_max(x != x || x > y ? x : y);
        most = before > most ? before : most;
        real<T> base = most == -(real<T>)INFINITY ? (real<T>)0 : most;
        x = exp_of(x - base), y = exp_of(y - base);
        room->p[r][lane] = x, room->p[r][lane + 32] = y;
        real<T> sum = warp_sum(x + y), factor = exp_of(before - base);
        __syncwarp();
        if (lane == 0) room->most[r] = most, room->factor[r] = factor, room->total[r] = room->total[r] * factor + sum;
    }
}

/* partial: [splits][n * hq rows][d + 2]: u, m, l. Row of query i and head h: i * hq + h. grid: splits, hk, blocks of ROWS rows */
template <typename T, int E> __global__ void __launch_bounds__(THREADS) decode_parts(attention a, real<T> *partial)
{
    __shared__ decode_room<T, E> room;
    int key_head = (int)blockIdx.y, r0 = (int)blockIdx.z * ROWS, rows = min((int)ROWS, a.n * a.group - r0), from, to, tid = (int)threadIdx.x;
    int chunks = a.d / E, lanes = power_of_two(chunks), groups = THREADS / lanes, c = tid % lanes, part = tid / lanes;
    attention_share(a, (int)blockIdx.x, (int)gridDim.x, KEYS, &from, &to);
    for (int i = tid; i < rows * a.d; i += THREADS) {
        int r = r0 + i / a.d, head = key_head * a.group + r % a.group;
        room.q[i / a.d * a.d + i % E * chunks + i % a.d / E] = load((const T *)a.q.data + r / a.group * a.q.token + head * a.q.head + i % a.d);
    }
    if (tid < ROWS) room.most[tid] = -(real<T>)INFINITY, room.total[tid] = 0;
    real<T> sum[ROWS][E] = {};
    for (int j0 = from; j0 < to; j0 += KEYS) {
        __syncthreads();
        scores<T, E>(a, &room, key_head, r0, rows, *a.position, j0, to);
        __syncthreads();
        soften<T, E>(&room);
        __syncthreads();
#pragma unroll
        for (int r = 0; r < ROWS; r++)
#pragma unroll
            for (int e = 0; e < E; e++) sum[r][e] *= room.factor[r];
        if (c >= chunks) continue;
        for (int key = part; key < KEYS && j0 + key < to; key += groups) {
            real<T> x[E];
            read<T, E>(x, (const T *)a.v.data + (j0 + key) * a.v.token + key_head * a.v.head + c * E);
#pragma unroll
            for (int r = 0; r < ROWS; r++)
#pragma unroll
                for (int e = 0; e < E; e++) sum[r][e] += room.p[r][key] * x[e];
        }
    }
    __syncthreads();
#pragma unroll
    for (int r = 0; r < ROWS; r++)
#pragma unroll
        for (int e = 0; e < E; e++) room.sums[(r * E + e) * THREADS + tid] = sum[r][e];
    __syncthreads();
    for (int i = tid; i < rows * a.d; i += THREADS) {
        int     r = i / a.d, column = i % a.d, head = key_head * a.group + (r0 + r) % a.group;
        real<T> all = 0;
        for (int g = 0; g < groups; g++) all += room.sums[(r * E + column % E) * THREADS + g * lanes + column / E];
        int64_t row = (int64_t)blockIdx.x * a.n * a.hq + (int64_t)((r0 + r) / a.group) * a.hq + head;
        partial[row * (a.d + 2) + column] = all;
        if (column == 0) partial[row * (a.d + 2) + a.d] = room.most[r], partial[row * (a.d + 2) + a.d + 1] = room.total[r];
    }
}

/* grid: n * hq. Each thread weighs one split, then sums its columns over all. */
template <typename T> __global__ void __launch_bounds__(THREADS) decode_join(attention a, const real<T> *partial, int splits)
{
    static_assert(MOST_SPLITS <= THREADS, "a thread weighs one split");
    __shared__ real<T> weights[MOST_SPLITS], cells[33];
    int64_t            row = blockIdx.x, step = (int64_t)a.n * a.hq * (a.d + 2);
    const real<T>     *p = partial + row * (a.d + 2);
    int                s = (int)threadIdx.x;
    real<T>            l = s < splits ? p[s * step + a.d + 1] : (real<T>)0, m = l != 0 ? p[s * step + a.d] : -(real<T>)INFINITY;
    real<T>            most = block_max(m, cells), weight = l != 0 ? exp_of(m - most) : (real<T>)0, total = block_sum(weight * l, cells);
    if (s < splits) weights[s] = weight;
    __syncthreads();
    T *o = (T *)a.o.data + row / a.hq * a.o.token + row % a.hq * a.o.head;
    for (int c = (int)threadIdx.x; c < a.d; c += THREADS) {
        real<T> sum = 0;
#pragma unroll 8
        for (int k = 0; k < splits; k++) sum += weights[k] * p[k * step + c];
        store(o + c, total == 0 ? (real<T>)0 : sum / total);
    }
}

static int splits_of(const crank_call *call)
{
    int64_t blocks = call->in[1].dims[1] * ((call->in[0].dims[0] * (call->in[0].dims[1] / call->in[1].dims[1]) + ROWS - 1) / ROWS);
    int64_t wanted = 3 * (int64_t)cuda_of(call)->processors / (blocks > 0 ? blocks : 1), most = (call->in[1].dims[0] + KEYS - 1) / KEYS;
    if (wanted > most) wanted = most;
    if (wanted > MOST_SPLITS) wanted = MOST_SPLITS;
    return wanted < 1 ? 1 : (int)wanted;
}

bool attention_decode_serves(const crank_call *call)
{
    const crank_view *q = &call->in[0];
    return q->dims[0] <= MOST_QUERIES && q->dims[2] <= MOST_D && call->in[1].dims[1] <= 65535 && q->dims[1] < 65536;
}

size_t attention_decode_workspace(const crank_call *call)
{
    const crank_view *q = &call->in[0];
    size_t            width = q->dtype == CRANK_F64 ? sizeof(double) : sizeof(float), general = attention_cached_workspace(call);
    size_t            parts = (size_t)splits_of(call) * (size_t)(q->dims[0] * q->dims[1] * (q->dims[2] + 2)) * width;
    return parts > general ? parts : general;
}

/* On tensor cores where they serve: 16-bit types. */
static bool decode_fast(const attention *a, crank_dtype dtype)
{
    return attention_flash_serves(dtype, a->d, a->scale) && attention_aligned(a, 2);
}

template <typename T> static crank_status decode(crank_context *context, const crank_call *call, const attention *a)
{
    enum { E = 16 / sizeof(T) };
    real<T>     *partial = (real<T> *)call->workspace;
    int          splits = splits_of(call);
    cudaStream_t stream = cuda_stream(call);
    dim3         grid((unsigned)splits, (unsigned)a->hk, blocks_for((int64_t)a->n * a->group, ROWS));
    if (decode_fast(a, call->in[0].dtype)) {
        crank_status status = attention_flash_decode(context, call, a, call->in[0].dtype, (float *)partial, splits);
        if (status != CRANK_OK) return status;
    } else if (attention_aligned(a, sizeof(T))) decode_parts<T, E><<<grid, THREADS, 0, stream>>>(*a, partial);
    else decode_parts<T, 1><<<grid, THREADS, 0, stream>>>(*a, partial);
    decode_join<T><<<(unsigned)(a->n * a->hq), THREADS, 0, stream>>>(*a, partial, splits);
    return cuda_launched(context, "attention against a cache");
}

crank_status attention_decode(crank_context *context, const crank_call *call)
{
    crank_dtype dtype = call->in[0].dtype;
    attention   a = attention_cached_of(call, ATTENTION_ROWS);
    if (a.n == 0 || a.hq == 0 || a.d == 0) return CRANK_OK;
    if (a.d > THREADS && !attention_aligned(&a, crank_dtype_bits(dtype) / 8)) return attention_cached(context, call);
    WITH_FLOAT_TYPE(dtype, T, return decode<T>(context, call, &a);)
    return CRANK_OK;
}

/* ---- cache_write ---- */

/* cache[shift + i] = x[i] for rows of h heads of d; nothing where the rows do not fit. Chunks of E elements, moved as they are. */
template <typename U> __global__ void __launch_bounds__(256) write_rows(heads to, heads from, const int *position, int rows, int capacity, int h, int chunks)
{
    int     shift = position ? *position : 0;
    int64_t cells = (int64_t)rows * h * chunks;
    if (shift < 0 || shift > capacity - rows) return;
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < cells; i += (int64_t)gridDim.x * blockDim.x) {
        int64_t row = i / chunks / h, head = i / chunks % h, c = i % chunks;
        ((U *)to.data)[(shift + row) * to.token + head * to.head + c] = ((const U *)from.data)[row * from.token + head * from.head + c];
    }
}

/* Rows of x [n,h,d] to rows position.. of y [P,h,d]; all of y where position is NULL. */
static crank_status write(crank_context *context, const crank_call *call, const crank_view *x, const crank_view *y, const int *position)
{
    size_t  width = crank_dtype_bits(x->dtype) / 8;
    heads   from = {x->data, x->strides[0], x->strides[1]}, to = {y->data, y->strides[0], y->strides[1]};
    int64_t d = x->dims[2], per = (int64_t)(16 / width), count = crank_view_count(x);
    int     rows = (int)x->dims[0], capacity = (int)y->dims[0], h = (int)x->dims[1];
    if (count == 0) return CRANK_OK;
    bool wide = d % per == 0 && from.token % per == 0 && from.head % per == 0 && to.token % per == 0 && to.head % per == 0 &&
                cuda_aligned(from.data, 16) && cuda_aligned(to.data, 16);
    if (wide) from.token /= per, from.head /= per, to.token /= per, to.head /= per, d /= per, count /= per;
    unsigned blocks = blocks_for(count, 256);
    if (blocks > 4096) blocks = 4096;
    cudaStream_t stream = cuda_stream(call);
    if (wide) write_rows<uint4><<<blocks, 256, 0, stream>>>(to, from, position, rows, capacity, h, (int)d);
    else if (width == 2) write_rows<uint16_t><<<blocks, 256, 0, stream>>>(to, from, position, rows, capacity, h, (int)d);
    else if (width == 4) write_rows<uint32_t><<<blocks, 256, 0, stream>>>(to, from, position, rows, capacity, h, (int)d);
    else write_rows<uint64_t><<<blocks, 256, 0, stream>>>(to, from, position, rows, capacity, h, (int)d);
    return cuda_launched(context, "rows of a cache");
}

crank_status attention_cache_write(crank_context *context, const crank_call *call)
{
    const crank_view *old = &call->in[2], *cache = &call->out[0];
    if (old->data != cache->data) {
        crank_status status = write(context, call, old, cache, NULL);
        if (status != CRANK_OK) return status;
    }
    return write(context, call, &call->in[0], cache, (const int *)call->in[1].data);
}
