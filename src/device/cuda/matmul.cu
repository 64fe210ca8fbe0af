/* matmul.cu - products through cuBLASLt.
 *
 * A row-major C = op(A) op(B) is the column-major C^T = op(B)^T op(A)^T, so B is cuBLASLt's first operand and A its second. f32 is
 * computed in f32 (no TF32), bf16 and f16 with f32 sums, f64 in f64. The candidates that the library names for a shape are timed at
 * its first run on the real operands, outside of captures (a deterministic device takes the first candidate); a product that adds onto itself is timed into memory taken for the while. */
#include <stdlib.h>
#include <string.h>

#include "device/cuda/element.cuh"
#include "device/cuda/product.h"

typedef struct plan {
    product                 key;
    cublasLtMatmulDesc_t    operation;
    cublasLtMatrixLayout_t  a, b, c, d;
    cublasLtMatmulAlgo_t    algorithm;
    bool                    served; /* cuBLASLt has an algorithm */
    struct plan            *next;
} plan;

enum { BUCKETS = 256, CANDIDATES = 8 };
struct cuda_plans {
    plan *buckets[BUCKETS];
};

static int alignment_of(const void *data, int64_t row, int64_t batch, size_t size)
{
    uintptr_t bits = (uintptr_t)data | (uintptr_t)row * size | (uintptr_t)batch * size | 128;
    return (int)(bits & (~bits + 1));
}

product product_make(const crank_view *a, bool trans_a, const crank_view *b, bool trans_b, const crank_view *bias, const crank_view *c0,
                     const crank_view *c)
{
    product p;
    memset(&p, 0, sizeof p);
    p.m = c->dims[c->rank - 2], p.n = c->dims[c->rank - 1], p.k = a->dims[a->rank - (trans_a ? 2 : 1)];
    p.batch = c->rank == 3 ? c->dims[0] : 1;
    const crank_view *views[4] = {a, b, c, c0};
    int64_t          *rows[4] = {&p.a_row, &p.b_row, &p.c_row, &p.c0_row}, *batches[4] = {&p.a_batch, &p.b_batch, &p.c_batch, &p.c0_batch};
    int32_t          *aligns[4] = {&p.a_align, &p.b_align, &p.c_align, &p.c0_align};
    for (int i = 0; i < 4; i++) {
        const crank_view *v = views[i];
        if (!v || !cuda_present(v)) continue;
        /* the stride of a single row is whatever its maker left there: no row is shorter than its elements */
        int64_t width = v->dims[v->rank - 1];
        *rows[i] = v->dims[v->rank - 2] > 1 ? v->strides[v->rank - 2] : width;
        *batches[i] = v->rank == 3 && v->dims[0] > 1 ? v->strides[0] : 0;
        *aligns[i] = alignment_of(v->data, *rows[i], *batches[i], crank_dtype_bits(v->dtype) / 8);
    }
    p.type = a->dtype, p.c_type = c->dtype, p.trans_a = trans_a, p.trans_b = trans_b;
    p.bias = bias && cuda_present(bias), p.c0 = c0 && cuda_present(c0);
    p.inplace = p.c0 && c0->data == c->data;
    return p;
}

static cudaDataType cuda_type(int dtype)
{
    return dtype == CRANK_F64 ? CUDA_R_64F : dtype == CRANK_BF16 ? CUDA_R_16BF : dtype == CRANK_F16 ? CUDA_R_16F : CUDA_R_32F;
}

static void plan_free(plan *p)
{
    if (p->operation) cublasLtMatmulDescDestroy(p->operation);
    cublasLtMatrixLayout_t layouts[4] = {p->a, p->b, p->c, p->d};
    for (int i = 0; i < 4; i++)
        if (layouts[i]) cublasLtMatrixLayoutDestroy(layouts[i]);
    free(p);
}

void cuda_plans_free(struct cuda_plans *plans)
{
    for (int i = 0; plans && i < BUCKETS; i++)
        while (plans->buckets[i]) {
            plan *next = plans->buckets[i]->next;
            plan_free(plans->buckets[i]);
            plans->buckets[i] = next;
        }
    free(plans);
}

static bool layout(cublasLtMatrixLayout_t *out, int dtype, int64_t rows, int64_t columns, int64_t ld, int64_t batch, int64_t step)
{
    int32_t count = (int32_t)batch;
    if (cublasLtMatrixLayoutCreate(out, cuda_type(dtype), (uint64_t)rows, (uint64_t)columns, ld) != CUBLAS_STATUS_SUCCESS) return false;
    return batch == 1 || (cublasLtMatrixLayoutSetAttribute(*out, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &count, sizeof count) == CUBLAS_STATUS_SUCCESS &&
                          cublasLtMatrixLayoutSetAttribute(*out, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &step, sizeof step) == CUBLAS_STATUS_SUCCESS);
}

static bool describe(plan *p)
{
    const product      *k = &p->key;
    cublasComputeType_t compute = k->type == CRANK_F64 ? CUBLAS_COMPUTE_64F : CUBLAS_COMPUTE_32F;
    cudaDataType        scale = k->type == CRANK_F64 ? CUDA_R_64F : CUDA_R_32F;
    cublasOperation_t   first = k->trans_b ? CUBLAS_OP_T : CUBLAS_OP_N, second = k->trans_a ? CUBLAS_OP_T : CUBLAS_OP_N;
    if (cublasLtMatmulDescCreate(&p->operation, compute, scale) != CUBLAS_STATUS_SUCCESS) return false;
    bool set = cublasLtMatmulDescSetAttribute(p->operation, CUBLASLT_MATMUL_DESC_TRANSA, &first, sizeof first) == CUBLAS_STATUS_SUCCESS &&
               cublasLtMatmulDescSetAttribute(p->operation, CUBLASLT_MATMUL_DESC_TRANSB, &second, sizeof second) == CUBLAS_STATUS_SUCCESS;
    if (k->bias) {
        cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_BIAS;
        cudaDataType       type = cuda_type(k->c_type);
        set = set && cublasLtMatmulDescSetAttribute(p->operation, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof epilogue) == CUBLAS_STATUS_SUCCESS &&
              cublasLtMatmulDescSetAttribute(p->operation, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &type, sizeof type) == CUBLAS_STATUS_SUCCESS;
    }
    int64_t b_rows = k->trans_b ? k->k : k->n, b_columns = k->trans_b ? k->n : k->k, a_rows = k->trans_a ? k->m : k->k, a_columns = k->trans_a ? k->k : k->m;
    return set && layout(&p->a, k->type, b_rows, b_columns, k->b_row, k->batch, k->b_batch) && layout(&p->b, k->type, a_rows, a_columns, k->a_row, k->batch, k->a_batch) &&
           layout(&p->c, k->c_type, k->n, k->m, k->c0 ? k->c0_row : k->c_row, k->batch, k->c0 ? k->c0_batch : k->c_batch) &&
           layout(&p->d, k->c_type, k->n, k->m, k->c_row, k->batch, k->c_batch);
}

static cublasStatus_t multiply(cuda_device *device, plan *p, const product_data *data, const cublasLtMatmulAlgo_t *algorithm)
{
    float       alpha32 = (float)data->alpha, beta32 = p->key.c0 ? 1.0f : 0.0f;
    double      alpha64 = data->alpha, beta64 = p->key.c0 ? 1.0 : 0.0;
    bool        wide = p->key.type == CRANK_F64;
    const void *alpha = wide ? (void *)&alpha64 : (void *)&alpha32, *beta = wide ? (void *)&beta64 : (void *)&beta32;
    if (p->key.bias) cublasLtMatmulDescSetAttribute(p->operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &data->bias, sizeof data->bias);
    return cublasLtMatmul(device->lt, p->operation, alpha, data->b, p->a, data->a, p->b, beta, p->key.c0 ? data->c0 : data->c, p->c, data->c, p->d,
                          algorithm, data->workspace, PRODUCT_WORKSPACE, device->stream);
}

/* Milliseconds of the fastest of a few runs; negative: it does not run. */
static float time_of(cuda_device *device, plan *p, const product_data *data, const cublasLtMatmulAlgo_t *algorithm, cudaEvent_t *events)
{
    float best = -1;
    for (int i = 0; i < 4; i++) {
        float ms = 0;
        cudaEventRecord(events[0], device->stream);
        if (multiply(device, p, data, algorithm) != CUBLAS_STATUS_SUCCESS) return -1;
        cudaEventRecord(events[1], device->stream);
        if (cudaEventSynchronize(events[1]) != cudaSuccess) return -1;
        cudaEventElapsedTime(&ms, events[0], events[1]);
        if (i && (best < 0 || ms < best)) best = ms;
    }
    return best;
}

static void tune(cuda_device *device, plan *p, const product_data *data, const cublasLtMatmulHeuristicResult_t *results, int count)
{
    cudaEvent_t  events[2];
    float        best = -1;
    product_data aside = *data;
    void        *scratch = NULL;
    if (p->key.inplace) {
        size_t size = crank_dtype_bits((crank_dtype)p->key.c_type) / 8, elements = (size_t)((p->key.batch - 1) * p->key.c_batch + p->key.m * p->key.c_row);
        if (cudaMalloc(&scratch, elements * size) != cudaSuccess) {
            (void)cudaGetLastError();
            return;
        }
        aside.c = scratch;
    }
    if (cudaEventCreate(&events[0]) != cudaSuccess) {
        cudaFree(scratch);
        return;
    }
    if (cudaEventCreate(&events[1]) != cudaSuccess) {
        cudaEventDestroy(events[0]);
        cudaFree(scratch);
        return;
    }
    for (int i = 0; i < count; i++) {
        float ms = time_of(device, p, &aside, &results[i].algo, events);
        if (ms >= 0 && (best < 0 || ms < 0.98f * best)) best = ms, p->algorithm = results[i].algo;
    }
    cudaEventDestroy(events[0]), cudaEventDestroy(events[1]);
    cudaFree(scratch);
}

static void choose(cuda_device *device, plan *p, const product_data *data)
{
    cublasLtMatmulPreference_t       preference = NULL;
    cublasLtMatmulHeuristicResult_t  results[CANDIDATES];
    size_t                           workspace = PRODUCT_WORKSPACE;
    uint32_t                         aligns[4] = {(uint32_t)p->key.b_align, (uint32_t)p->key.a_align, (uint32_t)(p->key.c0 ? p->key.c0_align : p->key.c_align),
                                                  (uint32_t)p->key.c_align};
    cublasLtMatmulPreferenceAttributes_t names[4] = {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
                                                     CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES};
    int count = 0;
    if (!describe(p) || cublasLtMatmulPreferenceCreate(&preference) != CUBLAS_STATUS_SUCCESS) return;
    cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace, sizeof workspace);
    for (int i = 0; i < 4; i++) cublasLtMatmulPreferenceSetAttribute(preference, names[i], &aligns[i], sizeof aligns[i]);
    if (p->key.bias) cublasLtMatmulDescSetAttribute(p->operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &data->bias, sizeof data->bias);
    cublasLtMatmulAlgoGetHeuristic(device->lt, p->operation, p->a, p->b, p->c, p->d, preference, CANDIDATES, results, &count);
    cublasLtMatmulPreferenceDestroy(preference);
    p->served = count > 0;
    if (!p->served) return;
    p->algorithm = results[0].algo;
    cudaStreamCaptureStatus capturing = cudaStreamCaptureStatusNone;
    cudaStreamIsCapturing(device->stream, &capturing);
    bool large = !device->deterministic && 2.0 * (double)p->key.m * (double)p->key.n * (double)p->key.k * (double)p->key.batch > 1e8;
    if (large && capturing == cudaStreamCaptureStatusNone) tune(device, p, data, results, count);
}

static plan *plan_for(crank_context *context, cuda_device *device, const product *key, const product_data *data)
{
    if (!device->plans) device->plans = (struct cuda_plans *)calloc(1, sizeof *device->plans);
    uint64_t hash = 0xcbf29ce484222325u;
    for (size_t i = 0; i < sizeof *key; i++) hash = (hash ^ ((const uint8_t *)key)[i]) * 0x100000001b3u;
    plan **bucket = device->plans ? &device->plans->buckets[hash >> 32 & (BUCKETS - 1)] : NULL;
    for (plan *p = bucket ? *bucket : NULL; p; p = p->next)
        if (!memcmp(&p->key, key, sizeof *key)) return p;
    plan *p = bucket ? (plan *)calloc(1, sizeof *p) : NULL;
    if (!p) {
        crank_fail(context, CRANK_FAILED, "out of memory: a plan of a product");
        return NULL;
    }
    p->key = *key;
    choose(device, p, data);
    p->next = *bucket;
    return *bucket = p;
}

/* One thread an element: for shapes that cuBLASLt refuses. */
__global__ void product_kernel(product p, product_data data)
{
    int64_t at = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= p.m * p.n * p.batch) return;
    int64_t     batch = at / (p.m * p.n), i = at / p.n % p.m, j = at % p.n, a = batch * p.a_batch, b = batch * p.b_batch;
    crank_dtype type = (crank_dtype)p.type, c_type = (crank_dtype)p.c_type;
    double      sum = 0;
    for (int64_t k = 0; k < p.k; k++)
        sum += read_any(data.a, type, a + (p.trans_a ? k * p.a_row + i : i * p.a_row + k)) * read_any(data.b, type, b + (p.trans_b ? j * p.b_row + k : k * p.b_row + j));
    sum *= data.alpha;
    if (p.bias) sum += read_any(data.bias, c_type, j);
    if (p.c0) sum += read_any(data.c0, c_type, batch * p.c0_batch + i * p.c0_row + j);
    write_any(data.c, c_type, batch * p.c_batch + i * p.c_row + j, sum);
}

crank_status product_run(crank_context *context, cuda_device *device, const product *key, const product_data *data)
{
    int64_t outputs = key->m * key->n * key->batch;
    if (outputs == 0) return CRANK_OK;
    plan *p = NULL;
    if (key->k > 0 && !(key->batch > 1 && key->c0 && key->c0_batch == 0)) {
        p = plan_for(context, device, key, data);
        if (!p) return CRANK_FAILED;
    }
    if (!p || !p->served) {
        product_kernel<<<blocks_for(outputs, 256), 256, 0, device->stream>>>(*key, *data);
        return cuda_launched(context, "matmul");
    }
    cublasStatus_t status = multiply(device, p, data, &p->algorithm);
    if (status == CUBLAS_STATUS_SUCCESS) return CRANK_OK;
    return crank_fail(context, CRANK_FAILED, "cuBLASLt: a product of %lld x %lld x %lld: %s", (long long)key->m, (long long)key->n, (long long)key->k,
                      cublasLtGetStatusString(status));
}

static crank_status run_matmul(crank_context *context, const crank_call *call)
{
    const crank_matmul_attributes *attributes = (const crank_matmul_attributes *)call->attributes;
    const crank_view              *a = &call->in[0], *b = &call->in[1], *bias = &call->in[2], *c0 = &call->in[3], *c = &call->out[0];
    product                        p = product_make(a, attributes->trans_a, b, attributes->trans_b, bias, c0, c);
    product_data data = {a->data, b->data, cuda_present(bias) ? bias->data : NULL, cuda_present(c0) ? c0->data : NULL, c->data, call->workspace, attributes->alpha};
    return product_run(context, cuda_of(call), &p, &data);
}

/* ---- one product of longer rows ---- */

typedef struct room_call {
    void       *rows, *weight;                          /* where room begins: behind the rows of a; behind the rows of b, or below them */
    const void *t, *s;
    int64_t     n, m, r, width;                         /* width: r and zeros behind */
    int64_t     row, weight_row, t_row, s_row;          /* elements from row to row */
    float       scale;
    bool        below;
} room_call;

static int64_t rounded_up(int64_t value, int64_t step) { return (value + step - 1) / step * step; }

/* Terms that the product gets: whole tiles of 64 where both have the room, else a multiple of 8. 0: there is no room. */
static int64_t width_of(const crank_call *call, bool turned)
{
    const crank_view *a = &call->in[0], *b = &call->in[1];
    int64_t           r = call->in[2].dims[1], room = a->strides[0] - a->dims[1], beside = b->strides[0] - b->dims[1];
    if (turned || beside > 0) room = beside < room ? beside : room;
    return rounded_up(r, 64) <= room ? rounded_up(r, 64) : rounded_up(r, 8) <= room ? rounded_up(r, 8) : 0;
}

/* Rows of t go behind those of a; s, scaled, goes behind the rows of b, or as rows below b. N elements a thread. */
template <typename T, int N> __global__ void room_kernel(room_call c)
{
    int64_t at = (int64_t)blockIdx.x * blockDim.x + threadIdx.x, parts = c.width / N, across = c.m / N;
    pack<T> p;
    T      *to;
    bool    first = at < c.n * parts;
    if (!first && (at -= c.n * parts) >= c.m * parts) return;
    int64_t i = !first && c.below ? at / across : at / parts, k = (!first && c.below ? at % across : at % parts) * N;
    bool    zero = !first && c.below ? i >= c.r : k >= c.r;
    const T *from = first ? (const T *)c.t + i * c.t_row + k : (const T *)c.s + i * c.s_row + k;
    to = first ? (T *)c.rows + i * c.row + k : (T *)c.weight + i * c.weight_row + k;
    if (N > 1 && !zero) p.read(from);
    if (N == 1 && !zero) p.item[0] = *from;
    for (int e = 0; e < N; e++)
        if (zero) p.set(e, 0.0f);
        else if (!first) p.set(e, c.scale * p.get(e));
    if (N > 1) p.write(to);
    else *to = p.item[0];
}

static bool augmented_serves(const crank_call *call)
{
    const crank_view *b = &call->in[1];
    bool              turned = ((const crank_augmented_attributes *)call->attributes)->trans_b;
    return crank_dtype_bits(b->dtype) == 16 && width_of(call, turned) > 0;
}

static crank_status run_augmented(crank_context *context, const crank_call *call)
{
    const crank_augmented_attributes *attributes = (const crank_augmented_attributes *)call->attributes;
    const crank_view                 *t = &call->in[2], *s = &call->in[3], *c0 = &call->in[4], *c = &call->out[0];
    crank_view                        a = call->in[0], b = call->in[1];
    bool      turned = attributes->trans_b;
    int64_t   k = a.dims[1], m = c->dims[1], width = width_of(call, turned);
    room_call room = {(char *)a.data + 2 * k, (char *)b.data + 2 * (turned ? k : k * b.strides[0]), t->data, s->data, a.dims[0], m, t->dims[1], width,
                      a.strides[0], b.strides[0], t->strides[0], s->strides[0], (float)attributes->scale, !turned};
    if (!room.n || !room.m) return CRANK_OK;
    bool packed = (k | t->dims[1] | m | a.strides[0] | b.strides[0] | t->strides[0] | s->strides[0]) % 8 == 0 && cuda_aligned(a.data, 16) && cuda_aligned(b.data, 16) &&
                  cuda_aligned(t->data, 16) && cuda_aligned(s->data, 16);
    unsigned blocks = blocks_for((room.n + room.m) * width / (packed ? 8 : 1), 256);
    if (a.dtype == CRANK_BF16 && packed) room_kernel<bf16, 8><<<blocks, 256, 0, cuda_stream(call)>>>(room);
    else if (a.dtype == CRANK_BF16) room_kernel<bf16, 1><<<blocks, 256, 0, cuda_stream(call)>>>(room);
    else if (packed) room_kernel<f16, 8><<<blocks, 256, 0, cuda_stream(call)>>>(room);
    else room_kernel<f16, 1><<<blocks, 256, 0, cuda_stream(call)>>>(room);
    a.dims[1] += width, b.dims[attributes->trans_b ? 1 : 0] += width;
    product      p = product_make(&a, false, &b, attributes->trans_b, NULL, c0, c);
    product_data data = {a.data, b.data, NULL, cuda_present(c0) ? c0->data : NULL, c->data, call->workspace, 1};
    crank_status status = cuda_launched(context, "matmul_augmented");
    return status ? status : product_run(context, cuda_of(call), &p, &data);
}

static size_t workspace(const crank_call *call)
{
    (void)call;
    return PRODUCT_WORKSPACE;
}

const cuda_entry cuda_matmul[] = {
    {"matmul", "cublaslt", run_matmul, NULL, workspace},
    {"matmul_augmented", "cublaslt", run_augmented, augmented_serves, workspace},
    {NULL, NULL, NULL, NULL, NULL},
};
