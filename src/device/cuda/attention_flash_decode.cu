/* attention_flash_decode.cu - few queries against a cache in 16-bit floats on tensor cores.
 *
 * The query rows of a key head (all queries, all query heads of its group) are the 16 rows of one product, so that a key is read once for
 * all of them. A block owns a split of the keys and reads 64 at a time, two tiles in flight; each of its four warps takes 16 of the 64 keys,
 * with maximum, sum and output of its own, which are joined at the end. */
#include "device/cuda/attention_mma.cuh"

enum { KEYS = 64, WARPS = 4, ROWS = 16, LANES = WARPS * 32 };

template <typename T, int D> struct decode_room {
    T q[ROWS * D];
    union {
        struct {
            T k[2][KEYS * D], v[2][KEYS * D];
        };
        struct {
            float out[WARPS][ROWS][D], most[WARPS][ROWS], total[WARPS][ROWS];
        };
    };
};

/* Query rows r0 .. of a key head into a tile; row r is query r / group, head r % group of the group. */
template <typename T, int D> __device__ __forceinline__ void read_queries(const attention &a, uint32_t tile, int key_head, int r0, int rows)
{
    for (int i = (int)threadIdx.x; i < ROWS * D / 8; i += LANES) {
        int      row = i / (D / 8), c = i % (D / 8), r = r0 + row;
        bool     valid = row < rows && c * 8 < a.d;
        const T *from = (const T *)a.q.data + r / a.group * a.q.token + (key_head * a.group + r % a.group) * a.q.head + c * 8;
        copy16(tile + chunk_at<D>(row, c), valid ? from : (const T *)a.q.data, valid);
    }
}

/* The warps' parts of each row, in their order -> partial */
template <typename T, int D> __device__ void join(const attention &a, const decode_room<T, D> *room, int key_head, int r0, int rows, float *partial)
{
    for (int i = (int)threadIdx.x; i < rows * a.d; i += LANES) {
        int   row = i / a.d, c = i % a.d, r = r0 + row;
        float most = -INFINITY, sum = 0, total = 0;
        for (int w = 0; w < WARPS; w++) most = fmaxf(most, room->most[w][row]);
        for (int w = 0; w < WARPS; w++) {
            float weight = room->total[w][row] != 0 ? expf(room->most[w][row] - most) : 0.0f;
            sum += weight * room->out[w][row][c];
            total += weight * room->total[w][row];
        }
        float *to = partial + (((int64_t)blockIdx.x * a.n + r / a.group) * a.hq + key_head * a.group + r % a.group) * (a.d + 2);
        to[c] = sum;
        if (c == 0) to[a.d] = most, to[a.d + 1] = total;
    }
}

/* grid: splits, hk, blocks of ROWS rows */
template <typename T, int D> __global__ void __launch_bounds__(LANES) flash_decode(attention a, float *partial)
{
    enum { C = D / 8 };
    extern __shared__ __align__(128) unsigned char memory[];
    decode_room<T, D> *room = reinterpret_cast<decode_room<T, D> *>(memory);
    int      key_head = (int)blockIdx.y, r0 = (int)blockIdx.z * ROWS, rows = min((int)ROWS, a.n * a.group - r0), position = *a.position, from, to;
    int      warp = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32, g = lane / 4, t = lane % 4;
    uint32_t q = shared_address(room->q), k = shared_address(room->k[0]), v = shared_address(room->v[0]), next = KEYS * D * sizeof(T);
    uint32_t part = warp * 16 * D * sizeof(T); /* this warp's keys in a tile */
    float    unit = (float)a.scale * LOG2E, out[1][C][4] = {}, most[1][2] = {{-INFINITY, -INFINITY}}, total[1][2] = {};
    attention_share(a, (int)blockIdx.x, (int)gridDim.x, KEYS, &from, &to);
    read_queries<T, D>(a, q, key_head, r0, rows);
    if (from < to) {
        read_tile<T, D, KEYS, LANES>(k, a.k, from, key_head, to - from, a.d);
        read_tile<T, D, KEYS, LANES>(v, a.v, from, key_head, to - from, a.d);
    }
    copies_commit();
    for (int j0 = from; j0 < to; j0 += KEYS, k += next, v += next, next = 0 - next) {
        copies_wait<0>();
        __syncthreads(); /* this stage is here, and no warp still reads the other */
        if (j0 + KEYS < to) {
            read_tile<T, D, KEYS, LANES>(k + next, a.k, (int64_t)j0 + KEYS, key_head, to - j0 - KEYS, a.d);
            read_tile<T, D, KEYS, LANES>(v + next, a.v, (int64_t)j0 + KEYS, key_head, to - j0 - KEYS, a.d);
        }
        copies_commit();
        float s[1][2][4] = {};
        product<T, D, 1, 2>(s, q, 0, k + part);
        if (j0 + KEYS > min(to, position + 1) || a.window > 0)
#pragma unroll
            for (int n = 0; n < 2; n++)
#pragma unroll
                for (int e = 0; e < 4; e++) {
                    int j = j0 + 16 * warp + 8 * n + 2 * t + (e & 1), i = position + (r0 + g + 8 * (e >> 1)) / a.group;
                    if (j >= to || !attention_sees(a, i, j)) s[0][n][e] = -INFINITY;
                }
        soften<1, 2, C>(s, most, total, out, unit);
        accumulate<T, D, 1, 2>(out, s, v + part);
    }
    copies_wait<0>();
    __syncthreads(); /* the stages become the room of the sums */
#pragma unroll
    for (int h = 0; h < 2; h++) {
        float sum = total[0][h];
        sum += __shfl_xor_sync(0xffffffffu, sum, 1);
        sum += __shfl_xor_sync(0xffffffffu, sum, 2);
        if (t == 0) room->most[warp][g + 8 * h] = most[0][h] * (float)a.scale, room->total[warp][g + 8 * h] = sum;
#pragma unroll
        for (int c = 0; c < C; c++) room->out[warp][g + 8 * h][8 * c + 2 * t] = out[0][c][2 * h], room->out[warp][g + 8 * h][8 * c + 2 * t + 1] = out[0][c][2 * h + 1];
    }
    __syncthreads();
    join<T, D>(a, room, key_head, r0, rows, partial);
}

template <typename T, int D> static crank_status launch(crank_context *context, const crank_call *call, const attention *a, float *partial, int splits)
{
    size_t      bytes = sizeof(decode_room<T, D>);
    cudaError_t error = cudaFuncSetAttribute(flash_decode<T, D>, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)bytes);
    if (error != cudaSuccess) return cuda_check(context, error, "shared memory of attention");
    dim3 grid((unsigned)splits, (unsigned)a->hk, blocks_for((int64_t)a->n * a->group, ROWS));
    flash_decode<T, D><<<grid, LANES, bytes, cuda_stream(call)>>>(*a, partial);
    return cuda_launched(context, "attention against a cache");
}

template <typename T> static crank_status decode(crank_context *context, const crank_call *call, const attention *a, float *partial, int splits)
{
    if (a->d <= 32) return launch<T, 32>(context, call, a, partial, splits);
    if (a->d <= 64) return launch<T, 64>(context, call, a, partial, splits);
    if (a->d <= 96) return launch<T, 96>(context, call, a, partial, splits);
    return launch<T, 128>(context, call, a, partial, splits);
}

crank_status attention_flash_decode(crank_context *context, const crank_call *call, const attention *a, crank_dtype dtype, float *partial, int splits)
{
    return dtype == CRANK_BF16 ? decode<bf16>(context, call, a, partial, splits) : decode<f16>(context, call, a, partial, splits);
}
