/* attention_flash.cu - attention in 16-bit floats on tensor cores (FlashAttention-2: Dao 2023, arXiv:2307.08691).
 *
 * A block owns 128 queries of one head; each warp owns 16 M of them, keeps their scores, probabilities and outputs in registers, and
 * shares the keys and values that the block reads, two tiles in flight. Exponentials are powers of two of scores in units of log2 e. */
#include "device/cuda/attention_mma.cuh"

/* Scores that the mask hides become -infinity. Rows i0 + g + 16 m + 8 h, keys j0 + 8 n + 2 t. */
template <int M, int N>
__device__ __forceinline__ void hide(const attention &a, float s[M][N][4], int i0, int j0, int count)
{
    int lane = (int)threadIdx.x & 31, g = lane >> 2, t = lane & 3;
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int n = 0; n < N; n++)
#pragma unroll
            for (int e = 0; e < 4; e++) {
                int i = i0 + 16 * m + g + 8 * (e >> 1), j = j0 + 8 * n + 2 * t + (e & 1);
                if (j >= count || !attention_sees(a, i, j)) s[m][n][e] = -INFINITY;
            }
}

template <typename T, int D, int M, int WARPS, int KEYS> struct flash_room {
    T q[WARPS * 16 * M * D];
    T k[2][KEYS * D], v[2][KEYS * D];
};

/* grid: tiles * hq */
template <typename T, int D, int M, int WARPS, int KEYS> __global__ void __launch_bounds__(WARPS * 32, BLOCKS_AT_ONCE(D, M, WARPS)) flash_forward(attention a)
{
    enum { ROWS = WARPS * 16 * M, LANES = WARPS * 32, N = KEYS / 8, C = D / 8 };
    extern __shared__ __align__(128) unsigned char memory[];
    flash_room<T, D, M, WARPS, KEYS> *room = reinterpret_cast<flash_room<T, D, M, WARPS, KEYS> *>(memory);
    attention_tile t;
    int            head = (int)(blockIdx.x % a.hq), from, to, row = (int)threadIdx.x / 32 * 16 * M;
    if (!attention_tile_at(a, (int)(blockIdx.x / a.hq), a.causal, &t)) return;
    attention_span(a, t, false, &from, &to);
    from = from / KEYS * KEYS;
    uint32_t q = shared_address(room->q), k = shared_address(room->k[0]), v = shared_address(room->v[0]); /* of this stage, and */
    uint32_t next = KEYS * D * sizeof(T);                                                                  /* where the other stands */
    float    unit = (float)a.scale * LOG2E, out[M][C][4] = {}, most[M][2], total[M][2] = {};
#pragma unroll
    for (int m = 0; m < M; m++) most[m][0] = most[m][1] = -INFINITY;
    read_tile<T, D, ROWS, LANES>(q, a.q, t.first, head, t.rows, a.d);
    if (from < to) {
        read_tile<T, D, KEYS, LANES>(k, a.k, t.other + (int64_t)from, head / a.group, t.count - from, a.d);
        read_tile<T, D, KEYS, LANES>(v, a.v, t.other + (int64_t)from, head / a.group, t.count - from, a.d);
    }
    copies_commit();
    for (int j0 = from; j0 < to; j0 += KEYS, k += next, v += next, next = 0 - next) {
        copies_wait<0>();
        __syncthreads(); /* this stage is here, and no warp still reads the other */
        if (j0 + KEYS < to) {
            read_tile<T, D, KEYS, LANES>(k + next, a.k, t.other + (int64_t)j0 + KEYS, head / a.group, t.count - j0 - KEYS, a.d);
            read_tile<T, D, KEYS, LANES>(v + next, a.v, t.other + (int64_t)j0 + KEYS, head / a.group, t.count - j0 - KEYS, a.d);
        }
        copies_commit();
        if (row >= t.rows || (a.causal && j0 > t.origin + row + 16 * M - 1)) continue;
        float s[M][N][4] = {};
        product<T, D, M, N>(s, q, row, k);
        if (j0 + KEYS > t.count || !attention_sees_all(a, t.origin + row, 16 * M, j0, KEYS)) hide<M, N>(a, s, t.origin + row, j0, t.count);
        soften<M, N, C>(s, most, total, out, unit);
        accumulate<T, D, M, N>(out, s, v);
    }
    copies_wait<0>();
    __syncthreads();
    int lane = (int)threadIdx.x & 31;
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int h = 0; h < 2; h++) {
            float sum = total[m][h];
            sum += __shfl_xor_sync(0xffffffffu, sum, 1);
            sum += __shfl_xor_sync(0xffffffffu, sum, 2);
            float inverse = sum == 0 ? 0.0f : 1 / sum;
            int   i = row + 16 * m + 8 * h + lane / 4;
#pragma unroll
            for (int c = 0; c < C; c++) out[m][c][2 * h] *= inverse, out[m][c][2 * h + 1] *= inverse;
            if (a.lse && lane % 4 == 0 && i < t.rows)
                ((float *)a.lse)[head * a.lse_head + t.first + i] = most[m][h] * (float)a.scale + logf(sum);
        }
    write_tile<T, D, M>(q, row, out, a.o, t.first, head, t.rows, a.d);
}

template <typename T, int D, int M, int WARPS, int KEYS> static crank_status launch(crank_context *context, const crank_call *call, const attention *a)
{
    size_t      bytes = sizeof(flash_room<T, D, M, WARPS, KEYS>);
    cudaError_t error = cudaFuncSetAttribute(flash_forward<T, D, M, WARPS, KEYS>, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)bytes);
    if (error != cudaSuccess) return cuda_check(context, error, "shared memory of attention");
    static_assert(WARPS * 16 * M == FLASH_ROWS, "a block owns one tile");
    flash_forward<T, D, M, WARPS, KEYS><<<(unsigned)((int64_t)a->tile_limit * a->hq), WARPS * 32, bytes, cuda_stream(call)>>>(*a);
    return cuda_launched(context, "attention");
}

bool attention_flash_serves(crank_dtype dtype, int64_t d, double scale)
{
    return (dtype == CRANK_BF16 || dtype == CRANK_F16) && d >= 8 && d <= 128 && d % 8 == 0 && scale > 0;
}

template <typename T> static crank_status forward(crank_context *context, const crank_call *call, const attention *a)
{
    if (a->d <= 32) return launch<T, 32, 2, 4, 64>(context, call, a);
    if (a->d <= 64) return launch<T, 64, 1, 8, 64>(context, call, a);
    if (a->d <= 96) return launch<T, 96, 2, 4, 64>(context, call, a);
    return launch<T, 128, 2, 4, 64>(context, call, a);
}

crank_status attention_flash(crank_context *context, const crank_call *call, const attention *a, crank_dtype dtype)
{
    return dtype == CRANK_BF16 ? forward<bf16>(context, call, a) : forward<f16>(context, call, a);
}
