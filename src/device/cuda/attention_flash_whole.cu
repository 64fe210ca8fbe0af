/* attention_flash_whole.cu - the reverse of attention for short segments: one block does all of a segment for one key head.
 *
 * With all keys of a segment in one block, dq of a few queries is complete as soon as their ds is known, so that the scores are made once
 * instead of twice: s^T = k q^T, dp^T = v do^T, dv += p^T do, dk += ds^T q as in attention_flash_backward.cu, and with ds^T shared by the
 * warps dq = ds k. The caller tells that no segment is longer than a tile. */
#include "device/cuda/attention_mma.cuh"

template <typename T, int D, int KEYS, int ROWS> struct whole_room {
    T     k[KEYS * D], v[KEYS * D];
    T     q[2][ROWS * D], dout[2][ROWS * D];
    T     ds[KEYS * ROWS]; /* [key, query] */
    float lse[2][ROWS], delta[2][ROWS];
};

/* C fragments w [16 M keys, 8 N queries] into rows row.. of ds */
template <typename T, int M, int N> __device__ __forceinline__ void share(uint32_t ds, int row, const float w[M][N][4])
{
    int lane = (int)threadIdx.x & 31, g = lane >> 2, t = lane & 3;
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int n = 0; n < N; n++)
#pragma unroll
            for (int h = 0; h < 2; h++)
                asm volatile("st.shared.b32 [%0], %1;\n" ::"r"(ds + chunk_at<8 * N>(row + 16 * m + 8 * h + g, n) + 4 * t),
                             "r"(pair<T>(w[m][n][2 * h], w[m][n][2 * h + 1]))
                             : "memory");
}

/* dq of 16 queries (from `query` of the ROWS) and the columns column .. column + 8 C - 1: ds k over `keys` keys */
template <typename T, int D, int ROWS, int C>
__device__ __forceinline__ void query_gradient(float sum[C][4], uint32_t ds, uint32_t k, int query, int column, int keys)
{
    int lane = (int)threadIdx.x & 31;
    for (int j = 0; j < keys; j += 16) {
        uint32_t fa[4];
        matrices_transposed(fa, ds + chunk_at<ROWS>(j + (lane & 7) + (lane >> 4) * 8, query / 8 + (lane >> 3 & 1)));
#pragma unroll
        for (int n = 0; n < C; n += 2) {
            uint32_t fb[4];
            read_b_rows<D>(fb, k, j, column / 8 + n);
            mma<T>(sum[n], fa, fb);
            if (n + 1 < C) mma<T>(sum[n + 1 < C ? n + 1 : n], fa, fb + 2); /* of a single group of 8 columns the second half is not used */
        }
    }
}

/* grid: tiles * hk */
template <typename T, int D, int M, int WARPS, int ROWS> __global__ void __launch_bounds__(WARPS * 32, BLOCKS_AT_ONCE(D, M, WARPS)) flash_whole(attention a)
{
    enum { KEYS = WARPS * 16 * M, LANES = WARPS * 32, N = ROWS / 8, C = D / 8, GROUPS = ROWS / 16, COLUMNS = D * GROUPS / WARPS };
    static_assert(WARPS % GROUPS == 0 && COLUMNS % 8 == 0, "each warp makes dq of 16 queries and some columns");
    typedef whole_room<T, D, KEYS, ROWS> room_type;
    extern __shared__ __align__(128) unsigned char memory[];
    room_type     *room = reinterpret_cast<room_type *>(memory);
    attention_tile t;
    int            key_head = (int)(blockIdx.x % a.hk), warp = (int)threadIdx.x / 32, row = warp * 16 * M, lane = (int)threadIdx.x & 31;
    if (!attention_tile_at(a, (int)(blockIdx.x / a.hk), false, &t)) return;
    int      blocks = (t.rows + ROWS - 1) / ROWS, steps = blocks * a.group;
    uint32_t k = shared_address(room->k), v = shared_address(room->v), ds_tile = shared_address(room->ds);
    float    dk[M][C][4] = {}, dv[M][C][4] = {}, unit = (float)a.scale * LOG2E;
    read_tile<T, D, KEYS, LANES>(k, a.k, t.first, key_head, t.rows, a.d);
    read_tile<T, D, KEYS, LANES>(v, a.v, t.first, key_head, t.rows, a.d);
    auto read = [&](int step) {
        int     head = key_head * a.group + step / blocks, i0 = step % blocks * ROWS, stage = step & 1, i = (int)threadIdx.x;
        int64_t token = t.first + (int64_t)i0;
        read_tile<T, D, ROWS, LANES>(shared_address(room->q[stage]), a.q, token, head, t.rows - i0, a.d);
        read_tile<T, D, ROWS, LANES>(shared_address(room->dout[stage]), a.dout, token, head, t.rows - i0, a.d);
        if (i < ROWS) {
            bool valid = i0 + i < t.rows;
            int  at = valid ? i : 0;
            copy4(shared_address(&room->lse[stage][i]), (const float *)a.lse + head * a.lse_head + token + at, valid);
            copy4(shared_address(&room->delta[stage][i]), (const float *)a.delta + head * (int64_t)a.n + token + at, valid);
        }
    };
    read(0);
    copies_commit();
    for (int step = 0; step < steps; step++) {
        int  stage = step & 1, i0 = step % blocks * ROWS, head = key_head * a.group + step / blocks;
        bool active = row < t.rows && !(a.causal && i0 + ROWS - 1 < row);
        copies_wait<0>();
        __syncthreads(); /* this stage is here, no warp still reads the other, and ds is free */
        if (step + 1 < steps) read(step + 1);
        copies_commit();
        float ds[M][N][4] = {};
        if (active) {
            float s[M][N][4] = {};
            product<T, D, M, N>(s, k, row, shared_address(room->q[stage]));
            product<T, D, M, N>(ds, v, row, shared_address(room->dout[stage]));
            bool masked = row + 16 * M > t.rows || !attention_sees_all(a, i0, ROWS, row, 16 * M);
            reverse_transposed<M, N>(a, s, ds, room->lse[stage], room->delta[stage], row, i0, t.rows, masked, unit);
            accumulate<T, D, M, N>(dv, s, shared_address(room->dout[stage]));
            accumulate<T, D, M, N>(dk, ds, shared_address(room->q[stage]));
        }
        share<T, M, N>(ds_tile, row, ds);
        __syncthreads(); /* ds of all keys is here */
        float dq[COLUMNS / 8][4] = {};
        int   query = warp % GROUPS * 16, column = warp / GROUPS * COLUMNS;
        if (i0 + query >= t.rows) continue;
        query_gradient<T, D, ROWS, COLUMNS / 8>(dq, ds_tile, k, query, column, a.causal ? min(t.rows, i0 + query + 16) : t.rows);
        T *to = (T *)a.dq.data + (t.first + (int64_t)i0 + query) * a.dq.token + head * a.dq.head + column;
#pragma unroll
        for (int n = 0; n < COLUMNS / 8; n++)
#pragma unroll
            for (int h = 0; h < 2; h++) {
                int i = lane / 4 + 8 * h, c = 8 * n + lane % 4 * 2;
                if (i0 + query + i < t.rows && column + c < a.d)
                    *reinterpret_cast<uint32_t *>(to + i * a.dq.token + c) = pair<T>(dq[n][2 * h] * (float)a.scale, dq[n][2 * h + 1] * (float)a.scale);
            }
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

template <typename T, int D, int M, int WARPS, int ROWS> static crank_status launch(crank_context *context, const crank_call *call, const attention *a)
{
    size_t      bytes = sizeof(whole_room<T, D, WARPS * 16 * M, ROWS>);
    cudaError_t error = cudaFuncSetAttribute(flash_whole<T, D, M, WARPS, ROWS>, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)bytes);
    if (error != cudaSuccess) return cuda_check(context, error, "shared memory of attention's reverse");
    flash_whole<T, D, M, WARPS, ROWS><<<(unsigned)((int64_t)a->tile_limit * a->hk), WARPS * 32, bytes, cuda_stream(call)>>>(*a);
    return cuda_launched(context, "reverse of attention");
}

enum { SHORT = 128, MIDDLE = 256 };

/* Enough segments must be there to fill the card, and a segment of MIDDLE tokens must fit a block's memory. */
int attention_whole_rows(const crank_call *call)
{
    const crank_attention_attributes *attributes = (const crank_attention_attributes *)call->attributes;
    int64_t                           blocks = (call->in[6].dims[0] - 1) * call->in[2].dims[1], d = call->in[1].dims[2], longest = attributes->longest;
    cuda_device                      *device = cuda_of(call);
    if (longest <= 0 || blocks < device->processors) return 0;
    if (longest <= SHORT) return d <= 64 || device->shared >= 112 * 1024 ? SHORT : 0;
    return longest <= MIDDLE && d <= 64 && device->shared >= 128 * 1024 ? MIDDLE : 0;
}

template <typename T> static crank_status whole(crank_context *context, const crank_call *call, const attention *a)
{
    if (a->tile_rows == MIDDLE) return a->d <= 32 ? launch<T, 32, 1, 16, 64>(context, call, a) : launch<T, 64, 2, 8, 32>(context, call, a);
    if (a->d <= 32) return launch<T, 32, 1, 8, 64>(context, call, a);
    if (a->d <= 64) return launch<T, 64, 1, 8, 32>(context, call, a);
    if (a->d <= 96) return launch<T, 96, 1, 8, 64>(context, call, a);
    return launch<T, 128, 1, 8, 32>(context, call, a);
}

crank_status attention_flash_whole(crank_context *context, const crank_call *call, const attention *a, crank_dtype dtype)
{
    return dtype == CRANK_BF16 ? whole<bf16>(context, call, a) : whole<f16>(context, call, a);
}
