/* quantized.cu - frozen weights of four and eight bits become rows of a float type.
 *
 *     nf4: y = level(code) a_j, a_j = scales_j, or map[scales_j] second_{j / 256} + offset;   f8e4m3: y = code scales_row
 *
 * A pass over memory: a thread takes eight elements at a time (one load of 4 or 8 bytes, stores of 16), four such loads under way; the
 * levels and the map of coded scales lie in shared memory, where sixteen levels meet no bank conflict. Products and sums are rounded one by
 * one, as on the CPU, so the bits are the same. Rows that are no multiple of eight elements, or of blocks that are none, go one by one. */
#include <cuda_fp8.h>

#include "device/cuda/element.cuh"

enum { THREADS = 256, EACH = 8, UNROLL = 4, NESTED = 256 };

typedef struct quantized_weight {
    const uint8_t *codes;
    const float   *scales, *map, *second, *offset;
    const uint8_t *coded; /* scales as codes; NULL: plain */
    int64_t        rows, columns, block, stride; /* stride: elements from row to row of y */
    int            shift; /* block = 2^shift; -1: no power of two */
    bool           four;
} quantized_weight;

__constant__ float nf4_level[16] = {-1.0f, -0.6961928009986877f, -0.5250730514526367f, -0.39491748809814453f, -0.28444138169288635f, -0.18477343022823334f,
                                    -0.09105003625154495f, 0.0f, 0.07958029955625534f, 0.16093020141124725f, 0.24611230194568634f, 0.33791524171829224f,
                                    0.44070982933044434f, 0.5626170039176941f, 0.7229568362236023f, 1.0f};

/* The scale of element `at` of row `row`. */
__device__ __forceinline__ float scale_of(const quantized_weight &w, const float *map, int64_t row, int64_t at)
{
    if (!w.four) return __ldg(&w.scales[row]);
    int64_t j = w.shift >= 0 ? at >> w.shift : at / w.block;
    if (!w.coded) return __ldg(&w.scales[j]);
    return __fadd_rn(__fmul_rn(map[__ldg(&w.coded[j])], __ldg(&w.second[j / NESTED])), __ldg(w.offset));
}

__device__ __forceinline__ float eight_bits(uint8_t code)
{
    __nv_fp8_e4m3 value;
    value.__x = code;
    return (float)value;
}

/* Eight elements of one scale; `codes` holds 32 bits of nf4, or 64 of f8e4m3. */
template <typename T> __device__ __forceinline__ void write_eight(const quantized_weight &w, const float *levels, uint2 codes, float scale, T *y)
{
    enum { N = pack<T>::N };
    float value[EACH];
#pragma unroll
    for (int i = 0; i < EACH; i++)
        value[i] = w.four ? levels[codes.x >> (i * 4 ^ 4) & 15] : eight_bits((uint8_t)((i < 4 ? codes.x : codes.y) >> (i % 4 * 8)));
#pragma unroll
    for (int i = 0; i < EACH; i += N) {
        pack<T> out;
#pragma unroll
        for (int k = 0; k < N; k++) out.set(k, (real<T>)__fmul_rn(value[i + k], scale));
        out.write(y + i);
    }
}

template <typename T> __global__ void __launch_bounds__(THREADS) eights_kernel(quantized_weight w, T *y)
{
    __shared__ float levels[16], map[256];
    unsigned         eights = (unsigned)(w.columns / EACH); /* in a row */
    int64_t          count = w.rows * w.columns / EACH, step = (int64_t)gridDim.x * THREADS;
    if (threadIdx.x < 16) levels[threadIdx.x] = nf4_level[threadIdx.x];
    if (w.coded) map[threadIdx.x] = w.map[threadIdx.x];
    __syncthreads();
    for (int64_t first = (int64_t)blockIdx.x * THREADS + threadIdx.x; first < count; first += UNROLL * step) {
        uint2 codes[UNROLL];
        float scales[UNROLL];
#pragma unroll
        for (int u = 0; u < UNROLL; u++) {
            int64_t i = first + u * step;
            if (i >= count) break;
            codes[u] = w.four ? make_uint2(__ldg((const unsigned *)w.codes + i), 0) : __ldg((const uint2 *)w.codes + i);
            scales[u] = scale_of(w, map, w.four ? 0 : (unsigned)i / eights, i * EACH);
        }
#pragma unroll
        for (int u = 0; u < UNROLL; u++) {
            int64_t i = first + u * step, at = i * EACH;
            if (i >= count) break;
            if (w.stride != w.columns) at = (unsigned)i / eights * w.stride + (unsigned)i % eights * EACH;
            write_eight(w, levels, codes[u], scales[u], y + at);
        }
    }
}

template <typename T> __global__ void single_kernel(quantized_weight w, T *y)
{
    int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= w.rows * w.columns) return;
    int64_t row = i / w.columns;
    float   value = w.four ? nf4_level[w.codes[i / 2] >> (i % 2 ? 0 : 4) & 15] : eight_bits(w.codes[i]);
    store(&y[row * w.stride + i % w.columns], __fmul_rn(value, scale_of(w, w.map, row, i)));
}

template <typename T> static void launch(const crank_call *call, const quantized_weight &w)
{
    T      *y = (T *)call->out[0].data;
    int64_t count = w.rows * w.columns;
    bool    eights = w.columns % EACH == 0 && w.stride % EACH == 0 && cuda_aligned(y, 16) && cuda_aligned(w.codes, 8) && (!w.four || w.block % EACH == 0) &&
                     count / EACH <= UINT32_MAX;
    if (!eights) {
        single_kernel<T><<<blocks_for(count, THREADS), THREADS, 0, cuda_stream(call)>>>(w, y);
        return;
    }
    int64_t blocks = (count / EACH + THREADS * UNROLL - 1) / (THREADS * UNROLL), most = (int64_t)cuda_of(call)->processors * 32;
    eights_kernel<T><<<(unsigned)(blocks < most ? blocks : most), THREADS, 0, cuda_stream(call)>>>(w, y);
}

static crank_status run_dequantize(crank_context *context, const crank_call *call)
{
    const crank_view *codes = &call->in[0], *y = &call->out[0];
    bool              coded = cuda_present(&call->in[2]);
    quantized_weight  w = {(const uint8_t *)codes->data, coded ? NULL : (const float *)call->in[1].data, NULL, NULL, NULL,
                           coded ? (const uint8_t *)call->in[1].data : NULL, codes->dims[0], codes->dims[1],
                           ((const crank_dequantize_attributes *)call->attributes)->block, y->dims[0] > 1 ? y->strides[0] : codes->dims[1], -1, cuda_is(codes, CRANK_NF4)};
    for (int s = 1; s < 32; s++)
        if (w.block == (int64_t)1 << s) w.shift = s;
    if (coded) w.map = (const float *)call->in[2].data, w.second = (const float *)call->in[3].data, w.offset = (const float *)call->in[4].data;
    if (w.rows == 0 || w.columns == 0) return CRANK_OK;
    switch (y->dtype) {
    case CRANK_F32: launch<float>(call, w); break;
    case CRANK_F64: launch<double>(call, w); break;
    case CRANK_F16: launch<f16>(call, w); break;
    default: launch<bf16>(call, w); break;
    }
    return cuda_launched(context, "dequantize");
}

const cuda_entry cuda_quantized[] = {
    {"dequantize", "cuda", run_dequantize, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};
