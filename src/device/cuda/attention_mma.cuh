/* attention_mma.cuh - tiles of 16-bit floats in shared memory and the tensor core's m16n8k16 products on them.
 *
 * A tile of D columns is kept in 16-byte chunks whose place in the row is exchanged by the row's number, so that the eight rows that one
 * ldmatrix reads fall into different banks. Fragments (g = lane / 4, t = lane % 4): A [16,16] holds rows g, g+8 and columns 2t, 2t+8;
 * B [16,8] holds rows 2t, 2t+8 of column g; C [16,8] holds rows g (values 0, 1) and g+8 (2, 3), columns 2t, 2t+1. */
#ifndef CRANK_DEVICE_CUDA_ATTENTION_MMA_CUH
#define CRANK_DEVICE_CUDA_ATTENTION_MMA_CUH

#include "device/cuda/attention.h"
#include "device/cuda/element.cuh"

/* Blocks of 8 warps with 16 rows each that a multiprocessor should hold: two where the registers of small heads allow it. */
#define BLOCKS_AT_ONCE(D, M, WARPS) ((M) == 1 && (D) <= 64 && (WARPS) == 8 ? 2 : 1)

#define LOG2E 1.4426950408889634f
#define LN2   0.6931471805599453f

__device__ __forceinline__ uint32_t shared_address(const void *p) { return (uint32_t)__cvta_generic_to_shared(p); }

/* 16 (4) bytes of global memory into shared memory, in the background; zeros where not `valid`. */
__device__ __forceinline__ void copy16(uint32_t to, const void *from, bool valid)
{
    int bytes = valid ? 16 : 0;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(to), "l"(from), "r"(bytes) : "memory");
}
__device__ __forceinline__ void copy4(uint32_t to, const void *from, bool valid)
{
    int bytes = valid ? 4 : 0;
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;\n" ::"r"(to), "l"(from), "r"(bytes) : "memory");
}
__device__ __forceinline__ void copies_commit() { asm volatile("cp.async.commit_group;\n" ::: "memory"); }
template <int LEFT> __device__ __forceinline__ void copies_wait() { asm volatile("cp.async.wait_group %0;\n" ::"n"(LEFT) : "memory"); }

__device__ __forceinline__ float exp2_of(float x)
{
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;\n" : "=f"(y) : "f"(x));
    return y;
}

__device__ __forceinline__ void matrices(uint32_t r[4], uint32_t address)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];\n"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
}
__device__ __forceinline__ void matrices_transposed(uint32_t r[4], uint32_t address)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];\n"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
}

template <typename T> __device__ __forceinline__ void mma(float c[4], const uint32_t a[4], const uint32_t b[2]);
template <> __device__ __forceinline__ void mma<bf16>(float c[4], const uint32_t a[4], const uint32_t b[2])
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};\n"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
template <> __device__ __forceinline__ void mma<f16>(float c[4], const uint32_t a[4], const uint32_t b[2])
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};\n"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

template <typename T> __device__ __forceinline__ uint32_t pair(float low, float high);
template <> __device__ __forceinline__ uint32_t pair<bf16>(float low, float high)
{
    __nv_bfloat162 v = __floats2bfloat162_rn(low, high);
    return *reinterpret_cast<uint32_t *>(&v);
}
template <> __device__ __forceinline__ uint32_t pair<f16>(float low, float high)
{
    __half2 v = __floats2half2_rn(low, high);
    return *reinterpret_cast<uint32_t *>(&v);
}

/* Byte offset of chunk c (8 values) of a row in a tile of D columns. */
template <int D> __device__ __forceinline__ uint32_t chunk_at(int row, int c)
{
    int place = D % 64 == 0 ? c ^ (row & 7) : c ^ ((row >> 1) & 3);
    return (uint32_t)(row * D * 2 + place * 16);
}

/* Rows of one head, from token `first`, into a tile [ROWS][D]; rows from `rows` on and columns from d on are zeros. */
template <typename T, int D, int ROWS, int THREADS>
__device__ __forceinline__ void read_tile(uint32_t tile, const heads &x, int64_t first, int head, int rows, int d)
{
    const T *base = (const T *)x.data + first * x.token + head * x.head;
#pragma unroll
    for (int i0 = 0; i0 < ROWS * D / 8; i0 += THREADS) {
        int  i = i0 + (int)threadIdx.x, row = i / (D / 8), c = i % (D / 8);
        bool valid = row < rows && c * 8 < d;
        if (ROWS * D / 8 % THREADS == 0 || row < ROWS) copy16(tile + chunk_at<D>(row, c), valid ? base + row * x.token + c * 8 : base, valid);
    }
}

/* A fragment: rows row .. row+15, columns 16 k .. 16 k + 15 of a tile. */
template <int D> __device__ __forceinline__ void read_a(uint32_t a[4], uint32_t tile, int row, int k)
{
    int lane = (int)threadIdx.x & 31;
    matrices(a, tile + chunk_at<D>(row + (lane & 15), 2 * k + (lane >> 4)));
}

/* B fragments b[0..1], b[2..3] of the transposed tile: its rows row..row+7 and row+8..row+15 are the 8 columns of each, its columns
 * 16 k .. 16 k + 15 the rows. */
template <int D> __device__ __forceinline__ void read_b(uint32_t b[4], uint32_t tile, int row, int k)
{
    int lane = (int)threadIdx.x & 31;
    matrices(b, tile + chunk_at<D>(row + (lane & 7) + (lane >> 4) * 8, 2 * k + (lane >> 3 & 1)));
}

/* B fragments of the tile as it stands: rows row..row+15, columns 8 c .. 8 c + 7 and 8 c + 8 .. 8 c + 15. */
template <int D> __device__ __forceinline__ void read_b_rows(uint32_t b[4], uint32_t tile, int row, int c)
{
    int lane = (int)threadIdx.x & 31;
    matrices_transposed(b, tile + chunk_at<D>(row + (lane & 15), c + (lane >> 4)));
}

/* sum[m][n] += rows (row + 16 m ..) of a . rows (8 n ..) of b, over D columns: N groups of 8 rows of b. */
template <typename T, int D, int M, int N>
__device__ __forceinline__ void product(float sum[M][N][4], uint32_t a, int row, uint32_t b)
{
#pragma unroll
    for (int k = 0; k < D / 16; k++) {
        uint32_t fa[M][4];
#pragma unroll
        for (int m = 0; m < M; m++) read_a<D>(fa[m], a, row + 16 * m, k);
#pragma unroll
        for (int n = 0; n < N; n += 2) {
            uint32_t fb[4];
            read_b<D>(fb, b, 8 * n, k);
#pragma unroll
            for (int m = 0; m < M; m++) {
                mma<T>(sum[m][n], fa[m], fb);
                mma<T>(sum[m][n + 1], fa[m], fb + 2);
            }
        }
    }
}

/* sum[m][n] += w [16 M, 8 N] (C fragments, rounded to T) . rows 0 .. 8 N - 1 of b [8 N, D] */
template <typename T, int D, int M, int N>
__device__ __forceinline__ void accumulate(float sum[M][D / 8][4], const float w[M][N][4], uint32_t b)
{
#pragma unroll
    for (int k = 0; k < N / 2; k++) {
        uint32_t fa[M][4];
#pragma unroll
        for (int m = 0; m < M; m++) {
            fa[m][0] = pair<T>(w[m][2 * k][0], w[m][2 * k][1]);
            fa[m][1] = pair<T>(w[m][2 * k][2], w[m][2 * k][3]);
            fa[m][2] = pair<T>(w[m][2 * k + 1][0], w[m][2 * k + 1][1]);
            fa[m][3] = pair<T>(w[m][2 * k + 1][2], w[m][2 * k + 1][3]);
        }
#pragma unroll
        for (int n = 0; n < D / 8; n += 2) {
            uint32_t fb[4];
            read_b_rows<D>(fb, b, 16 * k, n);
#pragma unroll
            for (int m = 0; m < M; m++) {
                mma<T>(sum[m][n], fa[m], fb);
                mma<T>(sum[m][n + 1], fa[m], fb + 2);
            }
        }
    }
}

/* s [16 M, 8 N] -> e^(s - m'); sum and output are brought to the new maximum. */
template <int M, int N, int C>
__device__ __forceinline__ void soften(float s[M][N][4], float most[M][2], float total[M][2], float out[M][C][4], float unit)
{
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int h = 0; h < 2; h++) {
            float top = most[m][h], before = top, sum = 0;
#pragma unroll
            for (int n = 0; n < N; n++) top = fmaxf(top, fmaxf(s[m][n][2 * h], s[m][n][2 * h + 1]));
            top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 1));
            top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 2));
            float base = top == -INFINITY ? 0.0f : top * unit, factor = exp2_of(before * unit - base);
            most[m][h] = top;
#pragma unroll
            for (int n = 0; n < N; n++)
#pragma unroll
                for (int e = 2 * h; e < 2 * h + 2; e++) sum += s[m][n][e] = exp2_of(fmaf(s[m][n][e], unit, -base));
            total[m][h] = total[m][h] * factor + sum;
#pragma unroll
            for (int c = 0; c < C; c++) out[m][c][2 * h] *= factor, out[m][c][2 * h + 1] *= factor;
        }
}

/* s^T [16 M keys, 8 N queries] and dp^T -> p^T and ds^T / scale. Keys j0 + .. < count, queries i0 + .., of which lse and delta tell. */
template <int M, int N>
__device__ __forceinline__ void reverse_transposed(const attention &a, float s[M][N][4], float ds[M][N][4], const float *lse, const float *delta,
                                                   int j0, int i0, int count, bool masked, float unit)
{
    int lane = (int)threadIdx.x & 31, g = lane >> 2, t = lane & 3;
#pragma unroll
    for (int n = 0; n < N; n++) {
        float2 l = *reinterpret_cast<const float2 *>(lse + 8 * n + 2 * t), d = *reinterpret_cast<const float2 *>(delta + 8 * n + 2 * t);
        float  base[2] = {l.x * LOG2E, l.y * LOG2E}, D[2] = {d.x, d.y};
#pragma unroll
        for (int m = 0; m < M; m++)
#pragma unroll
            for (int e = 0; e < 4; e++) {
                int   j = j0 + 16 * m + g + 8 * (e >> 1);
                float p = exp2_of(fmaf(s[m][n][e], unit, -base[e & 1]));
                if (masked && (j >= count || !attention_sees(a, i0 + 8 * n + 2 * t + (e & 1), j))) p = 0;
                s[m][n][e] = p;
                ds[m][n][e] = p * (ds[m][n][e] - D[e & 1]);
            }
    }
}

/* Rows row .. row + 16 M - 1 of a tile: sum in T through this warp's own rows of `tile`, then to global memory in 16-byte pieces. */
template <typename T, int D, int M>
__device__ __forceinline__ void write_tile(uint32_t tile, int row, float sum[M][D / 8][4], const heads &to, int64_t first, int head, int rows, int d)
{
    int lane = (int)threadIdx.x & 31, g = lane >> 2, t = lane & 3;
    __syncwarp();
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int n = 0; n < D / 8; n++)
#pragma unroll
            for (int half = 0; half < 2; half++)
                asm volatile("st.shared.b32 [%0], %1;\n" ::"r"(tile + chunk_at<D>(row + 16 * m + 8 * half + g, n) + 4 * t),
                             "r"(pair<T>(sum[m][n][2 * half], sum[m][n][2 * half + 1]))
                             : "memory");
    __syncwarp();
    T *base = (T *)to.data + first * to.token + head * to.head;
    for (int i = lane; i < 16 * M * (D / 8); i += 32) {
        int r = row + i / (D / 8), c = i % (D / 8);
        if (r >= rows || c * 8 >= d) continue;
        uint4 v;
        asm volatile("ld.shared.v4.b32 {%0,%1,%2,%3}, [%4];\n" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "r"(tile + chunk_at<D>(r, c)) : "memory");
        *reinterpret_cast<uint4 *>(base + r * to.token + c * 8) = v;
    }
}

#endif
