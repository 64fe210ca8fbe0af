/* attention_flash_backward.cu - the reverse of attention in 16-bit floats on tensor cores.
 *
 * Two kernels, so that every gradient is summed by one block in a fixed order:
 * - keys: a block owns 16 M WARPS keys; each warp keeps dk and dv of its own and works on transposed scores
 *       s^T = k q^T, dp^T = v do^T, dv += p^T do, dk += ds^T q: p^T and ds^T go from one product to the next in registers;
 * - queries: a block owns 128 queries; s = q k^T, dp = do v^T, dq += ds k.
 * ds is kept without its factor `scale`, which the sums are multiplied by at the end. */
#include "device/cuda/attention_mma.cuh"

template <typename T, int D, int KEYS, int ROWS> struct keys_room {
    T     k[KEYS * D], v[KEYS * D];
    T     q[2][ROWS * D], dout[2][ROWS * D];
    float lse[2][ROWS], delta[2][ROWS];
};

/* grid: tiles * hk * (FLASH_ROWS / KEYS) */
template <typename T, int D, int M, int WARPS, int ROWS> __global__ void __launch_bounds__(WARPS * 32, BLOCKS_AT_ONCE(D, M, WARPS)) flash_keys(attention a)
{
    enum { KEYS = WARPS * 16 * M, LANES = WARPS * 32, N = ROWS / 8, C = D / 8, PARTS = FLASH_ROWS / KEYS };
    typedef keys_room<T, D, KEYS, ROWS> room_type;
    extern __shared__ __align__(128) unsigned char memory[];
    room_type     *room = reinterpret_cast<room_type *>(memory);
    attention_tile t;
    int            key_head = (int)(blockIdx.x % a.hk), index = (int)(blockIdx.x / a.hk), from, to, row = (int)threadIdx.x / 32 * 16 * M;
    if (!attention_tile_at(a, index / PARTS, false, &t)) return;
    int part = index % PARTS * KEYS;
    if (part >= t.rows) return;
    t.first += part, t.origin += part, t.rows = min(t.rows - part, (int)KEYS);
    attention_span(a, t, true, &from, &to);
    from = from / ROWS * ROWS;
    int      blocks = (to - from + ROWS - 1) / ROWS, steps = blocks * a.group;
    uint32_t k = shared_address(room->k), v = shared_address(room->v);
    float    dk[M][C][4] = {}, dv[M][C][4] = {}, unit = (float)a.scale * LOG2E;
    read_tile<T, D, KEYS, LANES>(k, a.k, t.first, key_head, t.rows, a.d);
    read_tile<T, D, KEYS, LANES>(v, a.v, t.first, key_head, t.rows, a.d);
    auto read = [&](int step) {
        int     head = key_head * a.group + step / blocks, i0 = from + step % blocks * ROWS, stage = step & 1, i = (int)threadIdx.x;
        int64_t token = t.other + (int64_t)i0;
        read_tile<T, D, ROWS, LANES>(shared_address(room->q[stage]), a.q, token, head, t.count - i0, a.d);
        read_tile<T, D, ROWS, LANES>(shared_address(room->dout[stage]), a.dout, token, head, t.count - i0, a.d);
        if (i < ROWS) {
            bool valid = i0 + i < t.count;
            int  at = valid ? i : 0;
            copy4(shared_address(&room->lse[stage][i]), (const float *)a.lse + head * a.lse_head + token + at, valid);
            copy4(shared_address(&room->delta[stage][i]), (const float *)a.delta + head * (int64_t)a.n + token + at, valid);
        }
    };
    if (steps > 0) read(0);
    copies_commit();
    for (int step = 0; step < steps; step++) {
        int stage = step & 1, i0 = from + step % blocks * ROWS, j = t.origin + row;
        copies_wait<0>();
        __syncthreads(); /* this stage is here, and no warp still reads the other */
        if (step + 1 < steps) read(step + 1);
        copies_commit();
        if (row >= t.rows || (a.causal && i0 + ROWS - 1 < j)) continue;
        float s[M][N][4] = {}, ds[M][N][4] = {};
        product<T, D, M, N>(s, k, row, shared_address(room->q[stage]));
        product<T, D, M, N>(ds, v, row, shared_address(room->dout[stage]));
        bool masked = !attention_sees_all(a, i0, ROWS, j, 16 * M);
        reverse_transposed<M, N>(a, s, ds, room->lse[stage], room->delta[stage], j, i0, t.count, masked, unit);
        accumulate<T, D, M, N>(dv, s, shared_address(room->dout[stage]));
        accumulate<T, D, M, N>(dk, ds, shared_address(room->q[stage]));
    }
    copies_wait<0>();
    __syncthreads();
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int c = 0; c < C; c++)
#pragma unroll
            for (int e = 0; e < 4; e++) dk[m][c][e] *= (float)a.scale;
    write_tile<T, D, M>(k, row, dk, a.dk, t.first, key_head, t.rows, a.d);
    write_tile<T, D, M>(v, row, dv, a.dv, t.first, key_head, t.rows, a.d);
}

template <typename T, int D, int ROWS, int KEYS> struct queries_room {
    T q[ROWS * D], dout[ROWS * D];
    T k[2][KEYS * D], v[2][KEYS * D];
};

/* grid: tiles * hq * (FLASH_ROWS / ROWS) */
template <typename T, int D, int M, int WARPS, int KEYS> __global__ void __launch_bounds__(WARPS * 32, BLOCKS_AT_ONCE(D, M, WARPS)) flash_queries(attention a)
{
    enum { ROWS = WARPS * 16 * M, LANES = WARPS * 32, N = KEYS / 8, C = D / 8, PARTS = FLASH_ROWS / ROWS };
    typedef queries_room<T, D, ROWS, KEYS> room_type;
    extern __shared__ __align__(128) unsigned char memory[];
    room_type     *room = reinterpret_cast<room_type *>(memory);
    attention_tile t;
    int            head = (int)(blockIdx.x % a.hq), index = (int)(blockIdx.x / a.hq), from, to, row = (int)threadIdx.x / 32 * 16 * M;
    int            lane = (int)threadIdx.x & 31, key_head = head / a.group;
    if (!attention_tile_at(a, index / PARTS, a.causal, &t)) return;
    int part = (a.causal ? PARTS - 1 - index % PARTS : index % PARTS) * ROWS;
    if (part >= t.rows) return;
    t.first += part, t.origin += part, t.rows = min(t.rows - part, (int)ROWS);
    attention_span(a, t, false, &from, &to);
    from = from / KEYS * KEYS;
    uint32_t q = shared_address(room->q), dout = shared_address(room->dout);
    float    dq[M][C][4] = {}, unit = (float)a.scale * LOG2E, lse[M][2], delta[M][2];
    read_tile<T, D, ROWS, LANES>(q, a.q, t.first, head, t.rows, a.d);
    read_tile<T, D, ROWS, LANES>(dout, a.dout, t.first, head, t.rows, a.d);
    auto read = [&](int j0, int stage) {
        read_tile<T, D, KEYS, LANES>(shared_address(room->k[stage]), a.k, t.other + (int64_t)j0, key_head, t.count - j0, a.d);
        read_tile<T, D, KEYS, LANES>(shared_address(room->v[stage]), a.v, t.other + (int64_t)j0, key_head, t.count - j0, a.d);
    };
    if (from < to) read(from, 0);
    copies_commit();
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int h = 0; h < 2; h++) {
            int  i = row + 16 * m + 8 * h + lane / 4;
            bool valid = i < t.rows;
            lse[m][h] = valid ? ((const float *)a.lse)[head * a.lse_head + t.first + i] * LOG2E : 0.0f;
            delta[m][h] = valid ? ((const float *)a.delta)[head * (int64_t)a.n + t.first + i] : 0.0f;
        }
    for (int j0 = from, stage = 0; j0 < to; j0 += KEYS, stage ^= 1) {
        int i = t.origin + row;
        copies_wait<0>();
        __syncthreads(); /* this stage is here, and no warp still reads the other */
        if (j0 + KEYS < to) read(j0 + KEYS, stage ^ 1);
        copies_commit();
        if (row >= t.rows || (a.causal && j0 > i + 16 * M - 1)) continue;
        float s[M][N][4] = {}, ds[M][N][4] = {};
        product<T, D, M, N>(s, q, row, shared_address(room->k[stage]));
        product<T, D, M, N>(ds, dout, row, shared_address(room->v[stage]));
        bool masked = j0 + KEYS > t.count || !attention_sees_all(a, i, 16 * M, j0, KEYS);
#pragma unroll
        for (int m = 0; m < M; m++)
#pragma unroll
            for (int n = 0; n < N; n++)
#pragma unroll
                for (int e = 0; e < 4; e++) {
                    float p = exp2_of(fmaf(s[m][n][e], unit, -lse[m][e >> 1]));
                    int   key = j0 + 8 * n + lane % 4 * 2 + (e & 1);
                    if (masked && (key >= t.count || !attention_sees(a, i + 16 * m + lane / 4 + 8 * (e >> 1), key))) p = 0;
                    ds[m][n][e] = p * (ds[m][n][e] - delta[m][e >> 1]);
                }
        accumulate<T, D, M, N>(dq, ds, shared_address(room->k[stage]));
    }
    copies_wait<0>();
    __syncthreads();
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int c = 0; c < C; c++)
#pragma unroll
            for (int e = 0; e < 4; e++) dq[m][c][e] *= (float)a.scale;
    write_tile<T, D, M>(q, row, dq, a.dq, t.first, head, t.rows, a.d);
}

static crank_status queue(crank_context *context, const crank_call *call, const attention *a, void (*kernel)(attention), size_t bytes, int heads,
                          int rows, int threads)
{
    cudaError_t error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)bytes);
    if (error != cudaSuccess) return cuda_check(context, error, "shared memory of attention's reverse");
    kernel<<<(unsigned)((int64_t)a->tile_limit * heads * (FLASH_ROWS / rows)), threads, bytes, cuda_stream(call)>>>(*a);
    return cuda_launched(context, "reverse of attention");
}

template <typename T, int D, int M, int WARPS, int ROWS> static crank_status keys(crank_context *context, const crank_call *call, const attention *a)
{
    enum { KEYS = WARPS * 16 * M };
    return queue(context, call, a, flash_keys<T, D, M, WARPS, ROWS>, sizeof(keys_room<T, D, KEYS, ROWS>), a->hk, KEYS, WARPS * 32);
}

template <typename T, int D, int M, int WARPS, int KEYS> static crank_status queries(crank_context *context, const crank_call *call, const attention *a)
{
    enum { ROWS = WARPS * 16 * M };
    return queue(context, call, a, flash_queries<T, D, M, WARPS, KEYS>, sizeof(queries_room<T, D, ROWS, KEYS>), a->hq, ROWS, WARPS * 32);
}

template <typename T> static crank_status backward(crank_context *context, const crank_call *call, const attention *a)
{
    crank_status status;
    bool         small = cuda_of(call)->shared < 132 * 1024; /* cards other than A100 and H100 */
    if (a->d <= 32) {
        status = keys<T, 32, 2, 4, 32>(context, call, a);
        return status == CRANK_OK ? queries<T, 32, 2, 4, 64>(context, call, a) : status;
    }
    if (a->d <= 64) {
        status = keys<T, 64, 1, 8, 32>(context, call, a);
        return status == CRANK_OK ? queries<T, 64, 1, 8, 64>(context, call, a) : status;
    }
    if (a->d <= 96) {
        status = small ? keys<T, 96, 1, 4, 32>(context, call, a) : keys<T, 96, 1, 8, 64>(context, call, a);
        return status == CRANK_OK ? queries<T, 96, 2, 4, 32>(context, call, a) : status;
    }
    status = small ? keys<T, 128, 1, 4, 32>(context, call, a) : keys<T, 128, 1, 8, 64>(context, call, a);
    return status == CRANK_OK ? queries<T, 128, 2, 4, 32>(context, call, a) : status;
}

crank_status attention_flash_backward(crank_context *context, const crank_call *call, const attention *a, crank_dtype dtype)
{
    return dtype == CRANK_BF16 ? backward<bf16>(context, call, a) : backward<f16>(context, call, a);
}
