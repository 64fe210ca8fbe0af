/* element.cuh - elements of any float type read and written by kernels, as float, or as double for f64.
 *
 * real<T> is the type in which a kernel computes for elements of type T: float for f32, bf16 and f16, double for f64. Rounding is to
 * nearest even. */
#ifndef CRANK_DEVICE_CUDA_ELEMENT_CUH
#define CRANK_DEVICE_CUDA_ELEMENT_CUH

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "device/cuda/cuda.h"

typedef __nv_bfloat16 bf16;
typedef __half        f16;

template <typename T> struct real_of { typedef float type; };
template <> struct real_of<double> { typedef double type; };
template <typename T> using real = typename real_of<T>::type;

__device__ __forceinline__ float  load(const float *p) { return *p; }
__device__ __forceinline__ double load(const double *p) { return *p; }
__device__ __forceinline__ float  load(const bf16 *p) { return __bfloat162float(*p); }
__device__ __forceinline__ float  load(const f16 *p) { return __half2float(*p); }
__device__ __forceinline__ void   store(float *p, double v) { *p = (float)v; }
__device__ __forceinline__ void   store(float *p, float v) { *p = v; }
__device__ __forceinline__ void   store(double *p, double v) { *p = v; }
__device__ __forceinline__ void   store(double *p, float v) { *p = v; }
__device__ __forceinline__ void   store(bf16 *p, float v) { *p = __float2bfloat16_rn(v); }
__device__ __forceinline__ void   store(bf16 *p, double v) { *p = __double2bfloat16(v); }
__device__ __forceinline__ void   store(f16 *p, float v) { *p = __float2half_rn(v); }
__device__ __forceinline__ void   store(f16 *p, double v) { *p = __double2half(v); }

/* What is left of a value after it was stored as T. */
template <typename T> __device__ __forceinline__ real<T> rounded(real<T> v)
{
    T cell;
    store(&cell, v);
    return load(&cell);
}

/* 16 bytes of T at once: N values as real<T>. The address must be a multiple of 16. */
template <typename T> struct pack {
    enum { N = 16 / sizeof(T) };
    union {
        uint4 raw;
        T     item[N];
    };
    __device__ __forceinline__ pack() {}
    __device__ __forceinline__ void    read(const T *p) { raw = *reinterpret_cast<const uint4 *>(p); }
    __device__ __forceinline__ void    write(T *p) const { *reinterpret_cast<uint4 *>(p) = raw; }
    __device__ __forceinline__ real<T> get(int i) const { return load(&item[i]); }
    __device__ __forceinline__ void    set(int i, real<T> v) { store(&item[i], v); }
};

/* Any type as double or float, chosen at run time: for shapes that no fast kernel serves. */
__device__ __forceinline__ double read_any(const void *data, crank_dtype dtype, int64_t i)
{
    switch (dtype) {
    case CRANK_F32: return ((const float *)data)[i];
    case CRANK_F64: return ((const double *)data)[i];
    case CRANK_BF16: return __bfloat162float(((const bf16 *)data)[i]);
    case CRANK_F16: return __half2float(((const f16 *)data)[i]);
    case CRANK_I32: return ((const int32_t *)data)[i];
    case CRANK_I64: return (double)((const int64_t *)data)[i];
    default: return ((const uint8_t *)data)[i];
    }
}

/* Truncated towards zero, held within the limits of the type; NaN gives 0 (as CUDA's conversions do, but for NaN in 64 bits). */
__device__ __forceinline__ void write_any(void *data, crank_dtype dtype, int64_t i, double v)
{
    switch (dtype) {
    case CRANK_F32: ((float *)data)[i] = (float)v; break;
    case CRANK_F64: ((double *)data)[i] = v; break;
    case CRANK_BF16: ((bf16 *)data)[i] = __double2bfloat16(v); break;
    case CRANK_F16: ((f16 *)data)[i] = __double2half(v); break;
    case CRANK_I32: ((int32_t *)data)[i] = isnan(v) ? 0 : __double2int_rz(v); break;
    case CRANK_I64: ((int64_t *)data)[i] = isnan(v) ? 0 : __double2ll_rz(v); break;
    default: ((uint8_t *)data)[i] = (uint8_t)(isnan(v) || v <= 0 ? 0 : v >= 255 ? 255 : (int)v); break;
    }
}

/* Runs `body` with T bound to the C++ type of a float dtype. */
#define WITH_FLOAT_TYPE(dtype, T, ...)                                                                                                      \
    switch (dtype) {                                                                                                                        \
    case CRANK_F64: { typedef double T; __VA_ARGS__ } break;                                                                                \
    case CRANK_BF16: { typedef bf16 T; __VA_ARGS__ } break;                                                                                 \
    case CRANK_F16: { typedef f16 T; __VA_ARGS__ } break;                                                                                   \
    default: { typedef float T; __VA_ARGS__ } break;                                                                                        \
    }

/* ---- sums over a warp and a block ---- */

template <typename R> __device__ __forceinline__ R warp_sum(R v)
{
    for (int step = 16; step; step >>= 1) v += __shfl_xor_sync(0xffffffffu, v, step);
    return v;
}
template <typename R> __device__ __forceinline__ R warp_max(R v)
{
    for (int step = 16; step; step >>= 1) {
        R other = __shfl_xor_sync(0xffffffffu, v, step);
        v = v != v || v > other ? v : other; /* NaN passes on */
    }
    return v;
}

/* The sum of v over a block of at most 1024 threads, in every thread. `cells` holds 33 values of shared memory and may be used again
 * at once. The order is fixed by the block's size. */
template <typename R> __device__ __forceinline__ R block_sum(R v, R *cells)
{
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = (blockDim.x + 31) >> 5;
    v = warp_sum(v);
    if (lane == 0) cells[warp] = v;
    __syncthreads();
    if (warp == 0) {
        R all = lane < warps ? cells[lane] : (R)0;
        all = warp_sum(all);
        if (lane == 0) cells[32] = all;
    }
    __syncthreads();
    R sum = cells[32];
    __syncthreads();
    return sum;
}
template <typename R> __device__ __forceinline__ R block_max(R v, R *cells)
{
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = (blockDim.x + 31) >> 5;
    v = warp_max(v);
    if (lane == 0) cells[warp] = v;
    __syncthreads();
    if (warp == 0) {
        R all = lane < warps ? cells[lane] : (R)-INFINITY;
        all = warp_max(all);
        if (lane == 0) cells[32] = all;
    }
    __syncthreads();
    R most = cells[32];
    __syncthreads();
    return most;
}

static inline unsigned blocks_for(int64_t items, int64_t each) { return (unsigned)((items + each - 1) / each); }

#endif
