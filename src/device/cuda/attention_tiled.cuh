/* attention_tiled.cuh - products of tiles in shared memory for attention at any type and head size.
 *
 * A block of 256 threads works on 64 x 64 scores. Thread (y, x) of 16 x 16 owns the rows y + 16 i and the columns x + 16 j of every
 * product (J of them for outputs of 16 J columns), so that a warp reads few rows (broadcast) and neighbouring columns (no bank conflicts: rows are one element longer). */
#ifndef CRANK_DEVICE_CUDA_ATTENTION_TILED_CUH
#define CRANK_DEVICE_CUDA_ATTENTION_TILED_CUH

#include "device/cuda/attention.h"
#include "device/cuda/element.cuh"

enum {
    TILE = ATTENTION_ROWS,
    THREADS = 256,
    DEPTH = 32,      /* columns of q and k at a time */
    ROWS_AT_ONCE = 16,
    CHUNK = TILE * (DEPTH + 1),
    PITCH = TILE + 1
};

/* Shared memory of a block: two chunks of operands, the scores. */
template <typename R> struct tiled_room {
    R left[CHUNK], right[CHUNK];
    R scores[TILE * PITCH];
    R row[3][TILE];
};

/* Rows 0..TILE-1 (zeros from `rows` on), columns c .. c+DEPTH-1 (zeros from d on) of x into cells [TILE][DEPTH+1]. */
template <typename T> __device__ __forceinline__ void read_chunk(real<T> *cells, const T *x, int64_t stride, int rows, int c, int d)
{
    for (int i = (int)threadIdx.x; i < TILE * DEPTH; i += THREADS) {
        int row = i / DEPTH, column = i % DEPTH;
        cells[row * (DEPTH + 1) + column] = row < rows && c + column < d ? load(x + row * stride + c + column) : (real<T>)0;
    }
}

/* sum[i][j] = row y+16i of a . row x+16j of b, over d columns. */
template <typename T>
__device__ void product(real<T> sum[4][4], const T *a, int64_t a_stride, int a_rows, const T *b, int64_t b_stride, int b_rows, int d,
                        tiled_room<real<T>> *room)
{
    int y = (int)threadIdx.x / 16, x = (int)threadIdx.x % 16;
#pragma unroll
    for (int i = 0; i < 16; i++) sum[i / 4][i % 4] = 0;
    for (int c = 0; c < d; c += DEPTH) {
        __syncthreads();
        read_chunk<T>(room->left, a, a_stride, a_rows, c, d);
        read_chunk<T>(room->right, b, b_stride, b_rows, c, d);
        __syncthreads();
#pragma unroll 8
        for (int k = 0; k < DEPTH; k++) {
            real<T> left[4], right[4];
#pragma unroll
            for (int i = 0; i < 4; i++) left[i] = room->left[(y + 16 * i) * (DEPTH + 1) + k];
#pragma unroll
            for (int j = 0; j < 4; j++) right[j] = room->right[(x + 16 * j) * (DEPTH + 1) + k];
#pragma unroll
            for (int i = 0; i < 4; i++)
#pragma unroll
                for (int j = 0; j < 4; j++) sum[i][j] += left[i] * right[j];
        }
    }
}

/* sum[i][j] += over r: w(y+16i, r) b[r][column + x + 16j], r over `rows` rows of b; w is room->scores, or its transpose. b passes through
 * room->left and room->right, which stand one behind the other. */
template <typename T, int J, bool TRANSPOSED>
__device__ void accumulate(real<T> sum[4][J], const T *b, int64_t b_stride, int rows, int column, int d, tiled_room<real<T>> *room)
{
    int      y = (int)threadIdx.x / 16, x = (int)threadIdx.x % 16;
    real<T> *cells = room->left;
    const int columns = 16 * J;
    for (int r0 = 0; r0 < rows; r0 += ROWS_AT_ONCE) {
        __syncthreads();
        for (int i = (int)threadIdx.x; i < ROWS_AT_ONCE * columns; i += THREADS) {
            int row = i / columns, c = column + i % columns;
            cells[i] = r0 + row < rows && c < d ? load(b + (r0 + row) * b_stride + c) : (real<T>)0;
        }
        __syncthreads();
#pragma unroll 4
        for (int k = 0; k < ROWS_AT_ONCE; k++) {
            real<T> w[4], v[J];
#pragma unroll
            for (int i = 0; i < 4; i++)
                w[i] = room->scores[TRANSPOSED ? (r0 + k) * PITCH + y + 16 * i : (y + 16 * i) * PITCH + r0 + k];
#pragma unroll
            for (int j = 0; j < J; j++) v[j] = cells[k * columns + x + 16 * j];
#pragma unroll
            for (int i = 0; i < 4; i++)
#pragma unroll
                for (int j = 0; j < J; j++) sum[i][j] += w[i] * v[j];
        }
    }
}

template <typename T> __device__ __forceinline__ const T *row_of(const heads &x, int64_t token, int head)
{
    return (const T *)x.data + token * x.token + head * x.head;
}

/* sum[i][j] -> rows y+16i < rows, columns column + x + 16j < d of x */
template <typename T, int J>
__device__ __forceinline__ void write_rows(const heads &to, int64_t token, int head, int rows, int column, int d, real<T> sum[4][J])
{
    int y = (int)threadIdx.x / 16, x = (int)threadIdx.x % 16;
    T  *base = (T *)to.data + token * to.token + head * to.head;
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
        for (int j = 0; j < J; j++) {
            int row = y + 16 * i, c = column + x + 16 * j;
            if (row < rows && c < d) store(base + row * to.token + c, sum[i][j]);
        }
}

#endif
