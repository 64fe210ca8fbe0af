/* scaled.cu - rows in eight bits, and products of them with a weight in eight bits.
 *
 *     quantize_rows   scale_i = max |x_i| / 448,  q_i = x_i / scale_i             one block of threads a row
 *     scaled_matmul   y_ij = scale_i w_scale_j sum_k q_ik w_jk + bias_j           cuBLASLt: e4m3 products, a scale for each row of both
 *
 * cuBLASLt has such products from compute capability 9.0, for sizes that are multiples of 16 and in one layout alone, both operands with
 * their k contiguous: why a weight is held as W and as W^T. Elsewhere the values, which bf16 holds exactly, go through a product in bf16
 * with f32 sums, and the scales are applied to the sums. */
#include <cuda_fp8.h>

#include "device/cuda/element.cuh"
#include "device/cuda/product.h"

enum { THREADS = 256, EACH = 8 };

/* ---- rows ---- */

__device__ __forceinline__ float scale_for(float amax) { return amax > 0 ? __fdiv_rn(amax, 448.0f) : amax == 0 ? 1.0f : amax; }
__device__ __forceinline__ float larger(float amax, float value)
{
    float magnitude = fabsf(value);
    return amax >= magnitude || amax != amax ? amax : magnitude;
}
__device__ __forceinline__ uint8_t eight_bits(float value, float scale) { return __nv_fp8_e4m3(__fdiv_rn(value, scale)).__x; }

/* The largest magnitude over the block, NaN when there is one. */
__device__ __forceinline__ float block_largest(float amax, float *cells)
{
    bool  nan = __syncthreads_or(amax != amax);
    float all = block_max(amax != amax ? 0.0f : amax, cells);
    return nan ? __int_as_float(0x7fc00000) : all;
}

template <typename T> __global__ void __launch_bounds__(THREADS) quantize_rows_kernel(const T *x, int64_t stride, int64_t k, bool eights, uint8_t *q, float *scales)
{
    __shared__ float cells[33];
    const T         *row = x + blockIdx.x * stride;
    uint8_t         *out = q + blockIdx.x * k;
    float            amax = 0;
    if (!eights) {
        for (int64_t j = threadIdx.x; j < k; j += THREADS) amax = larger(amax, (float)load(&row[j]));
        float scale = scale_for(block_largest(amax, cells));
        if (threadIdx.x == 0) scales[blockIdx.x] = scale;
        for (int64_t j = threadIdx.x; j < k; j += THREADS) out[j] = eight_bits((float)load(&row[j]), scale);
        return;
    }
    enum { N = pack<T>::N };
    for (int64_t j = (int64_t)threadIdx.x * EACH; j < k; j += THREADS * EACH)
#pragma unroll
        for (int i = 0; i < EACH; i += N) {
            pack<T> part;
            part.read(row + j + i);
#pragma unroll
            for (int n = 0; n < N; n++) amax = larger(amax, (float)part.get(n));
        }
    float scale = scale_for(block_largest(amax, cells));
    if (threadIdx.x == 0) scales[blockIdx.x] = scale;
    for (int64_t j = (int64_t)threadIdx.x * EACH; j < k; j += THREADS * EACH) {
        union {
            uint2   raw;
            uint8_t item[EACH];
        } codes;
#pragma unroll
        for (int i = 0; i < EACH; i += N) {
            pack<T> part;
            part.read(row + j + i);
#pragma unroll
            for (int n = 0; n < N; n++) codes.item[i + n] = eight_bits((float)part.get(n), scale);
        }
        *(uint2 *)(out + j) = codes.raw;
    }
}

template <typename T> static void quantize(const crank_call *call)
{
    const crank_view *x = &call->in[0];
    int64_t           k = x->dims[1], stride = x->dims[0] > 1 ? x->strides[0] : k;
    bool              eights = k % EACH == 0 && stride % EACH == 0 && cuda_aligned(x->data, 16) && cuda_aligned(call->out[0].data, 8);
    quantize_rows_kernel<T><<<(unsigned)x->dims[0], THREADS, 0, cuda_stream(call)>>>((const T *)x->data, stride, k, eights, (uint8_t *)call->out[0].data,
                                                                                     (float *)call->out[1].data);
}

static crank_status run_quantize_rows(crank_context *context, const crank_call *call)
{
    if (call->in[0].dims[0] == 0) return CRANK_OK;
    switch (call->in[0].dtype) {
    case CRANK_F32: quantize<float>(call); break;
    case CRANK_F64: quantize<double>(call); break;
    case CRANK_F16: quantize<f16>(call); break;
    default: quantize<bf16>(call); break;
    }
    return cuda_launched(context, "quantize_rows");
}

/* ---- products in eight bits ---- */

/* What a node keeps: descriptors and the algorithm, made at its first call. */
typedef struct scaled_plan {
    cublasLtMatmulDesc_t   operation;
    cublasLtMatrixLayout_t w, q, y;
    cublasLtMatmulAlgo_t   algorithm;
} scaled_plan;

static void plan_free(void *slot)
{
    scaled_plan *p = (scaled_plan *)slot;
    if (!p) return;
    if (p->operation) cublasLtMatmulDescDestroy(p->operation);
    cublasLtMatrixLayout_t layouts[3] = {p->w, p->q, p->y};
    for (int i = 0; i < 3; i++)
        if (layouts[i]) cublasLtMatrixLayoutDestroy(layouts[i]);
    crank_free(p);
}

static cudaDataType_t result_type(crank_dtype dtype) { return dtype == CRANK_F32 ? CUDA_R_32F : dtype == CRANK_F16 ? CUDA_R_16F : CUDA_R_16BF; }

static bool set(cublasLtMatmulDesc_t operation, cublasLtMatmulDescAttributes_t name, const void *value, size_t size)
{
    return cublasLtMatmulDescSetAttribute(operation, name, value, size) == CUBLAS_STATUS_SUCCESS;
}

static bool set_pointers(const scaled_plan *p, const crank_call *call)
{
    const void *scale = call->in[1].data, *w_scale = call->in[3].data, *bias = call->in[6].data;
    return set(p->operation, CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, &w_scale, sizeof w_scale) && set(p->operation, CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, &scale, sizeof scale) &&
           (!cuda_present(&call->in[6]) || set(p->operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias, sizeof bias));
}

/* Column-major: y^T [m, n] = w^T transposed [m, k] times q^T [k, n]. */
static bool describe(scaled_plan *p, const crank_call *call)
{
    int64_t           n = call->in[0].dims[0], k = call->in[0].dims[1], m = call->in[2].dims[0], y_row = n > 1 ? call->out[0].strides[0] : m;
    cublasOperation_t turn = CUBLAS_OP_T, plain = CUBLAS_OP_N;
    int32_t           vectors = CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F;
    int8_t            fast = 1;
    cudaDataType_t    type = result_type(call->out[0].dtype);
    if (cublasLtMatmulDescCreate(&p->operation, CUBLAS_COMPUTE_32F, CUDA_R_32F) != CUBLAS_STATUS_SUCCESS) return false;
    bool good = set(p->operation, CUBLASLT_MATMUL_DESC_TRANSA, &turn, sizeof turn) && set(p->operation, CUBLASLT_MATMUL_DESC_TRANSB, &plain, sizeof plain) &&
                set(p->operation, CUBLASLT_MATMUL_DESC_A_SCALE_MODE, &vectors, sizeof vectors) && set(p->operation, CUBLASLT_MATMUL_DESC_B_SCALE_MODE, &vectors, sizeof vectors) &&
                set(p->operation, CUBLASLT_MATMUL_DESC_FAST_ACCUM, &fast, sizeof fast);
    if (good && cuda_present(&call->in[6])) {
        cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_BIAS;
        good = set(p->operation, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof epilogue) && set(p->operation, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &type, sizeof type);
    }
    return good && cublasLtMatrixLayoutCreate(&p->w, CUDA_R_8F_E4M3, (uint64_t)k, (uint64_t)m, k) == CUBLAS_STATUS_SUCCESS &&
           cublasLtMatrixLayoutCreate(&p->q, CUDA_R_8F_E4M3, (uint64_t)k, (uint64_t)n, k) == CUBLAS_STATUS_SUCCESS &&
           cublasLtMatrixLayoutCreate(&p->y, type, (uint64_t)m, (uint64_t)n, y_row) == CUBLAS_STATUS_SUCCESS && set_pointers(p, call);
}

static crank_status plan_make(crank_context *context, const crank_call *call, scaled_plan **out)
{
    cublasLtMatmulPreference_t      preference = NULL;
    cublasLtMatmulHeuristicResult_t result;
    size_t                          workspace = PRODUCT_WORKSPACE;
    int                             found = 0;
    scaled_plan                    *p = (scaled_plan *)crank_alloc(context, 1, sizeof *p, "a product in eight bits");
    if (!p) return CRANK_FAILED;
    if (describe(p, call) && cublasLtMatmulPreferenceCreate(&preference) == CUBLAS_STATUS_SUCCESS) {
        cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace, sizeof workspace);
        cublasLtMatmulAlgoGetHeuristic(cuda_of(call)->lt, p->operation, p->w, p->q, p->y, p->y, preference, 1, &result, &found);
        cublasLtMatmulPreferenceDestroy(preference);
    }
    if (!found) {
        plan_free(p);
        return crank_fail(context, CRANK_FAILED, "cuBLASLt has no product in eight bits for %lld x %lld x %lld on this card", (long long)call->in[0].dims[0],
                          (long long)call->in[2].dims[0], (long long)call->in[0].dims[1]);
    }
    p->algorithm = result.algo;
    *out = p;
    return CRANK_OK;
}

static crank_status run_scaled(crank_context *context, const crank_call *call)
{
    scaled_plan *p = call->slot ? (scaled_plan *)*call->slot : NULL;
    crank_status status = p ? CRANK_OK : plan_make(context, call, &p);
    float        one = 1, zero = 0;
    if (status != CRANK_OK) return status;
    if (call->slot && !*call->slot) *call->slot = p, *call->slot_free = plan_free;
    cublasStatus_t done = set_pointers(p, call) ? cublasLtMatmul(cuda_of(call)->lt, p->operation, &one, call->in[2].data, p->w, call->in[0].data, p->q, &zero,
                                                                 call->out[0].data, p->y, call->out[0].data, p->y, &p->algorithm, call->workspace, PRODUCT_WORKSPACE,
                                                                 cuda_stream(call))
                                                : CUBLAS_STATUS_INVALID_VALUE;
    if (!call->slot) plan_free(p);
    if (done == CUBLAS_STATUS_SUCCESS) return CRANK_OK;
    return crank_fail(context, CRANK_FAILED, "a product in eight bits failed: %s", cublasLtGetStatusString(done));
}

static bool serves_scaled(const crank_call *call)
{
    int64_t n = call->in[0].dims[0], k = call->in[0].dims[1], m = call->in[2].dims[0];
    return cuda_of(call)->major >= 9 && call->out[0].dtype != CRANK_F64 && n % 16 == 0 && k % 16 == 0 && m % 16 == 0 && n > 0 && k > 0 && m > 0 &&
           (n == 1 || call->out[0].strides[0] % 16 == 0) && (!cuda_present(&call->in[6]) || call->out[0].dtype == CRANK_BF16 || call->out[0].dtype == CRANK_F16);
}
static size_t scaled_workspace(const crank_call *) { return PRODUCT_WORKSPACE; }

/* ---- elsewhere ---- */

__global__ void widen_kernel(const uint8_t *codes, bf16 *to, int64_t n)
{
    int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= n) return;
    __nv_fp8_e4m3 value;
    value.__x = codes[i];
    to[i] = __float2bfloat16_rn((float)value);
}

template <typename T>
__global__ void finish_kernel(const float *sums, const float *scale, const float *w_scale, const T *bias, int64_t bias_step, T *y, int64_t n, int64_t m, int64_t stride)
{
    int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= n * m) return;
    real<T> value = (real<T>)sums[i] * (real<T>)scale[i / m] * (real<T>)w_scale[i % m];
    store(&y[i / m * stride + i % m], bias ? value + load(&bias[i % m * bias_step]) : value);
}

static size_t rounded_up(size_t bytes) { return (bytes + 255) / 256 * 256; }

static size_t wide_workspace(const crank_call *call)
{
    size_t n = (size_t)call->in[0].dims[0], k = (size_t)call->in[0].dims[1], m = (size_t)call->in[2].dims[0];
    return PRODUCT_WORKSPACE + rounded_up(2 * n * k) + rounded_up(2 * m * k) + rounded_up(4 * n * m);
}

template <typename T> static void finish(const crank_call *call, const float *sums)
{
    const crank_view *y = &call->out[0], *bias = &call->in[6];
    int64_t           n = y->dims[0], m = y->dims[1];
    finish_kernel<T><<<blocks_for(n * m, THREADS), THREADS, 0, cuda_stream(call)>>>(sums, (const float *)call->in[1].data, (const float *)call->in[3].data,
                                                                                   cuda_present(bias) ? (const T *)bias->data : NULL,
                                                                                   cuda_present(bias) ? bias->strides[0] : 0, (T *)y->data, n, m, n > 1 ? y->strides[0] : m);
}

static crank_status run_wide(crank_context *context, const crank_call *call)
{
    static const crank_view absent = {NULL, CRANK_F32, -1, {0}, {0}};
    int64_t                 n = call->in[0].dims[0], k = call->in[0].dims[1], m = call->in[2].dims[0], q_dims[2] = {n, k}, w_dims[2] = {m, k}, y_dims[2] = {n, m};
    if (n == 0 || m == 0 || k == 0) return CRANK_OK;
    char      *at = (char *)call->workspace + PRODUCT_WORKSPACE;
    crank_view q = crank_view_make(at, CRANK_BF16, 2, q_dims), w = crank_view_make(at + rounded_up(2 * (size_t)(n * k)), CRANK_BF16, 2, w_dims);
    crank_view sums = crank_view_make((char *)w.data + rounded_up(2 * (size_t)(m * k)), CRANK_F32, 2, y_dims);
    widen_kernel<<<blocks_for(n * k, THREADS), THREADS, 0, cuda_stream(call)>>>((const uint8_t *)call->in[0].data, (bf16 *)q.data, n * k);
    widen_kernel<<<blocks_for(m * k, THREADS), THREADS, 0, cuda_stream(call)>>>((const uint8_t *)call->in[2].data, (bf16 *)w.data, m * k);
    product      p = product_make(&q, false, &w, true, &absent, &absent, &sums);
    product_data data = {q.data, w.data, NULL, NULL, sums.data, call->workspace, 1};
    crank_status status = product_run(context, cuda_of(call), &p, &data);
    if (status != CRANK_OK) return status;
    switch (call->out[0].dtype) {
    case CRANK_F32: finish<float>(call, (const float *)sums.data); break;
    case CRANK_F64: finish<double>(call, (const float *)sums.data); break;
    case CRANK_F16: finish<f16>(call, (const float *)sums.data); break;
    default: finish<bf16>(call, (const float *)sums.data); break;
    }
    return cuda_launched(context, "scaled_matmul");
}

const cuda_entry cuda_scaled[] = {
    {"quantize_rows", "cuda", run_quantize_rows, NULL, NULL},
    {"scaled_matmul", "cublaslt", run_scaled, serves_scaled, scaled_workspace},
    {"scaled_matmul", "cublaslt-bf16", run_wide, NULL, wide_workspace},
    {NULL, NULL, NULL, NULL, NULL},
};
