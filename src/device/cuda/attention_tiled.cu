/* attention_tiled.cu - attention and its reverse for every float type, head size and mask, by fused multiply-adds.
 *
 * Forward: a block owns 64 queries of a head and up to 128 columns of o, and goes over the keys 64 at a time with running maximum m and sum l
 * (Milakov and Gimelshein 2018; Dao et al. 2022, arXiv:2205.14135, algorithm 1):
 *     m' = max(m, max_j s_ij);  l' = e^(m-m') l + sum_j e^(s_ij - m');  o' = e^(m-m') o + sum_j e^(s_ij - m') v_j;  lse = m + log l
 * Reverse: one pass whose blocks own keys (dk, dv) and one whose blocks own queries (dq): no atomics, the same bits every time. */
#include "device/cuda/attention_tiled.cuh"

__device__ __forceinline__ float  exp_of(float x) { return expf(x); }
__device__ __forceinline__ double exp_of(double x) { return exp(x); }
__device__ __forceinline__ float  log_of(float x) { return logf(x); }
__device__ __forceinline__ double log_of(double x) { return log(x); }

/* The 64 scores of each row, in room->scores: replaced by e^(s - m'). Four threads a row. row[0] m, row[1] l, row[2] e^(m-m'). */
template <typename R> __device__ void soften(tiled_room<R> *room)
{
    int row = (int)threadIdx.x / 4, part = (int)threadIdx.x % 4;
    R  *s = room->scores + row * PITCH, most = -(R)INFINITY, before = room->row[0][row], sum = 0;
    for (int j = part; j < TILE; j += 4) most = s[j] > most || s[j] != s[j] ? s[j] : most; /* NaN passes on */
    for (int step = 1; step < 4; step <<= 1) {
        R other = __shfl_xor_sync(0xffffffffu, most, step);
        most = other > most || other != other ? other : most;
    }
    most = before > most || before != before ? before : most;
    R base = most == -(R)INFINITY ? (R)0 : most; /* a row that has seen no key yet */
    for (int j = part; j < TILE; j += 4) sum += s[j] = exp_of(s[j] - base);
    for (int step = 1; step < 4; step <<= 1) sum += __shfl_xor_sync(0xffffffffu, sum, step);
    if (part == 0) {
        R factor = exp_of(before - base);
        room->row[0][row] = most;
        room->row[1][row] = room->row[1][row] * factor + sum;
        room->row[2][row] = factor;
    }
}

/* grid: tiles * hq, blocks of 16 J columns */
template <typename T, int J> __global__ void __launch_bounds__(THREADS) tiled_forward(attention a)
{
    typedef real<T> R;
    extern __shared__ __align__(16) unsigned char memory[];
    tiled_room<R> *room = reinterpret_cast<tiled_room<R> *>(memory);
    attention_tile t;
    int            head = (int)(blockIdx.x % a.hq), column = (int)blockIdx.y * 16 * J, from, to, y = threadIdx.x / 16, x = threadIdx.x % 16;
    if (!attention_tile_at(a, (int)(blockIdx.x / a.hq), a.causal, &t)) return;
    attention_span(a, t, false, &from, &to);
    R sum[4][J] = {}, s[4][4];
    if (threadIdx.x < TILE) room->row[0][threadIdx.x] = -(R)INFINITY, room->row[1][threadIdx.x] = 0;
    for (int j0 = from; j0 < to; j0 += TILE) {
        int keys = min(TILE, t.count - j0);
        product<T>(s, row_of<T>(a.q, t.first, head), a.q.token, t.rows, row_of<T>(a.k, t.other + (int64_t)j0, head / a.group), a.k.token, keys, a.d,
                   room);
#pragma unroll
        for (int i = 0; i < 4; i++)
#pragma unroll
            for (int j = 0; j < 4; j++) {
                int  row = y + 16 * i, key = x + 16 * j;
                bool seen = key < keys && attention_sees(a, t.origin + row, j0 + key);
                room->scores[row * PITCH + key] = seen ? s[i][j] * (R)a.scale : -(R)INFINITY;
            }
        __syncthreads();
        soften<R>(room);
        __syncthreads();
#pragma unroll
        for (int i = 0; i < 4; i++)
#pragma unroll
            for (int j = 0; j < J; j++) sum[i][j] *= room->row[2][y + 16 * i];
        accumulate<T, J, false>(sum, row_of<T>(a.v, t.other + (int64_t)j0, head / a.group), a.v.token, keys, column, a.d, room);
    }
    __syncthreads();
#pragma unroll
    for (int i = 0; i < 4; i++) {
        R total = room->row[1][y + 16 * i];
#pragma unroll
        for (int j = 0; j < J; j++) sum[i][j] = total == 0 ? (R)0 : sum[i][j] / total;
    }
    write_rows<T, J>(a.o, t.first, head, t.rows, column, a.d, sum);
    if (a.lse && blockIdx.y == 0 && threadIdx.x < t.rows)
        ((R *)a.lse)[head * a.lse_head + t.first + threadIdx.x] = room->row[0][threadIdx.x] + log_of(room->row[1][threadIdx.x]);
}

/* p_ij and ds_ij of 64 queries from i0 and 64 keys from j0 (places in the segment) -> p and ds of this thread's scores. */
template <typename T>
__device__ void probabilities(const attention &a, int64_t segment, int head, int i0, int queries, int j0, int keys, tiled_room<real<T>> *room,
                              real<T> p[4][4], real<T> ds[4][4])
{
    typedef real<T> R;
    int             y = (int)threadIdx.x / 16, x = (int)threadIdx.x % 16;
    int64_t         i_token = segment + i0, j_token = segment + j0;
    product<T>(p, row_of<T>(a.q, i_token, head), a.q.token, queries, row_of<T>(a.k, j_token, head / a.group), a.k.token, keys, a.d, room);
    product<T>(ds, row_of<T>(a.dout, i_token, head), a.dout.token, queries, row_of<T>(a.v, j_token, head / a.group), a.v.token, keys, a.d, room);
#pragma unroll
    for (int i = 0; i < 4; i++) {
        int row = y + 16 * i;
        R   lse = row < queries ? ((const R *)a.lse)[head * a.lse_head + i_token + row] : (R)0;
        R   delta = row < queries ? ((const R *)a.delta)[head * (int64_t)a.n + i_token + row] : (R)0;
#pragma unroll
        for (int j = 0; j < 4; j++) {
            int  key = x + 16 * j;
            bool seen = row < queries && key < keys && attention_sees(a, i0 + row, j0 + key);
            p[i][j] = seen ? exp_of(p[i][j] * (R)a.scale - lse) : (R)0;
            ds[i][j] = seen ? p[i][j] * (ds[i][j] - delta) * (R)a.scale : (R)0;
        }
    }
}

/* This thread's scores into room->scores; all threads see all of them after it. */
template <typename R> __device__ void share(tiled_room<R> *room, R s[4][4])
{
    int y = (int)threadIdx.x / 16, x = (int)threadIdx.x % 16;
    __syncthreads();
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
        for (int j = 0; j < 4; j++) room->scores[(y + 16 * i) * PITCH + x + 16 * j] = s[i][j];
    __syncthreads();
}

/* grid: tiles * hk, blocks of 16 J columns */
template <typename T, int J> __global__ void __launch_bounds__(THREADS) tiled_keys(attention a)
{
    typedef real<T> R;
    extern __shared__ __align__(16) unsigned char memory[];
    tiled_room<R> *room = reinterpret_cast<tiled_room<R> *>(memory);
    attention_tile t;
    int            key_head = (int)(blockIdx.x % a.hk), column = (int)blockIdx.y * 16 * J, from, to;
    if (!attention_tile_at(a, (int)(blockIdx.x / a.hk), false, &t)) return;
    attention_span(a, t, true, &from, &to);
    R dk[4][J] = {}, dv[4][J] = {}, p[4][4], ds[4][4];
    for (int head = key_head * a.group; head < (key_head + 1) * a.group; head++)
        for (int i0 = from; i0 < to; i0 += TILE) {
            int queries = min(TILE, t.count - i0);
            probabilities<T>(a, t.other, head, i0, queries, t.origin, t.rows, room, p, ds);
            share<R>(room, p);
            accumulate<T, J, true>(dv, row_of<T>(a.dout, t.other + (int64_t)i0, head), a.dout.token, queries, column, a.d, room);
            share<R>(room, ds);
            accumulate<T, J, true>(dk, row_of<T>(a.q, t.other + (int64_t)i0, head), a.q.token, queries, column, a.d, room);
        }
    write_rows<T, J>(a.dk, t.first, key_head, t.rows, column, a.d, dk);
    write_rows<T, J>(a.dv, t.first, key_head, t.rows, column, a.d, dv);
}

/* grid: tiles * hq, blocks of 16 J columns */
template <typename T, int J> __global__ void __launch_bounds__(THREADS) tiled_queries(attention a)
{
    typedef real<T> R;
    extern __shared__ __align__(16) unsigned char memory[];
    tiled_room<R> *room = reinterpret_cast<tiled_room<R> *>(memory);
    attention_tile t;
    int            head = (int)(blockIdx.x % a.hq), column = (int)blockIdx.y * 16 * J, from, to;
    if (!attention_tile_at(a, (int)(blockIdx.x / a.hq), a.causal, &t)) return;
    attention_span(a, t, false, &from, &to);
    R dq[4][J] = {}, p[4][4], ds[4][4];
    for (int j0 = from; j0 < to; j0 += TILE) {
        int keys = min(TILE, t.count - j0);
        probabilities<T>(a, t.other, head, t.origin, t.rows, j0, keys, room, p, ds);
        share<R>(room, ds);
        accumulate<T, J, false>(dq, row_of<T>(a.k, t.other + (int64_t)j0, head / a.group), a.k.token, keys, column, a.d, room);
    }
    write_rows<T, J>(a.dq, t.first, head, t.rows, column, a.d, dq);
}

template <typename T>
static crank_status launch(crank_context *context, const crank_call *call, const attention *a, void (*kernel)(attention), int heads, int columns)
{
    size_t      bytes = sizeof(tiled_room<real<T>>);
    cudaError_t error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)bytes);
    if (error != cudaSuccess) return cuda_check(context, error, "shared memory of attention");
    dim3 grid((unsigned)((int64_t)a->tile_limit * heads), blocks_for(a->d, columns));
    kernel<<<grid, THREADS, bytes, cuda_stream(call)>>>(*a);
    return cuda_launched(context, "attention");
}

template <typename T, int J> static crank_status forward(crank_context *context, const crank_call *call, const attention *a)
{
    return launch<T>(context, call, a, tiled_forward<T, J>, a->hq, 16 * J);
}

template <typename T, int J> static crank_status backward(crank_context *context, const crank_call *call, const attention *a)
{
    crank_status status = launch<T>(context, call, a, tiled_keys<T, J>, a->hk, 16 * J);
    return status == CRANK_OK ? launch<T>(context, call, a, tiled_queries<T, J>, a->hq, 16 * J) : status;
}

crank_status attention_tiled(crank_context *context, const crank_call *call, const attention *a, crank_dtype dtype)
{
    WITH_FLOAT_TYPE(dtype, T, return a->d <= 32   ? forward<T, 2>(context, call, a)
                                     : a->d <= 64 ? forward<T, 4>(context, call, a)
                                                  : forward<T, 8>(context, call, a);)
    return CRANK_OK;
}

crank_status attention_tiled_backward(crank_context *context, const crank_call *call, const attention *a, crank_dtype dtype)
{
    WITH_FLOAT_TYPE(dtype, T, return a->d <= 32   ? backward<T, 2>(context, call, a)
                                     : a->d <= 64 ? backward<T, 4>(context, call, a)
                                                  : backward<T, 8>(context, call, a);)
    return CRANK_OK;
}
