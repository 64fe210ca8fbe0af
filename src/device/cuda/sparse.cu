/* sparse.cu - products with a sparse matrix at fixed places, and samples of a product at such places.
 *
 * A slice of the matrix (rows, or columns for the transposed product) is made dense in the workspace and consumed at once by a product;
 * the dense matrix never exists as a whole. Values of one place are added by atomic operations on zeros: up to two of them give the same
 * bits every time; of more the order is not fixed, on a deterministic device neither. */
#include "device/cuda/element.cuh"
#include "device/cuda/product.h"

enum { SLICE_ELEMENTS = 4 << 20, THREADS = 256 };

typedef struct sparse {
    int64_t     rows, cols, k, each, slices; /* rows (columns) of a slice; number of slices */
    bool        transpose;
    crank_dtype type;
} sparse;

static size_t size_of(crank_dtype dtype) { return crank_dtype_bits(dtype) / 8; }
static crank_dtype wide_of(crank_dtype dtype) { return dtype == CRANK_F64 ? CRANK_F64 : CRANK_F32; }

static sparse sparse_of(int64_t rows, int64_t cols, bool transpose, crank_dtype type, int64_t k)
{
    sparse  s = {rows, cols, k, 0, 0, transpose, type};
    int64_t along = s.transpose ? s.cols : s.rows, across = s.transpose ? s.rows : s.cols;
    s.each = across > 0 ? SLICE_ELEMENTS / across : along;
    s.each = s.each >= 64 ? s.each / 64 * 64 : 64;
    if (s.each > along) s.each = along > 0 ? along : 1;
    s.slices = (along + s.each - 1) / s.each;
    return s;
}

/* The product's workspace, the slice in f32 (f64), and in the operands' type. */
static size_t slice_bytes(const sparse *s)
{
    size_t elements = (size_t)s->each * (size_t)(s->transpose ? s->rows : s->cols);
    return (elements * size_of(wide_of(s->type)) + 255) / 256 * 256;
}
static size_t area(const sparse *s) { return PRODUCT_WORKSPACE + 2 * slice_bytes(s); }

/* The value at place i of the slice that starts at `first`: its offset there, or -1. A slice of columns has rows of `each` elements. */
__device__ __forceinline__ int64_t slot_of(const sparse &s, int64_t first, int64_t count, int64_t place)
{
    if (place < 0 || place >= s.rows * s.cols) return -1;
    int64_t row = place / s.cols, column = place - row * s.cols;
    if (s.transpose) return column >= first && column < first + count ? row * count + column - first : -1;
    return row >= first && row < first + count ? (row - first) * s.cols + column : -1;
}

template <typename T> __global__ void fill_kernel(sparse s, int64_t first, int64_t count, const T *v, int64_t v_step, const int32_t *index, int64_t step, real<T> *slice)
{
    int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= s.k) return;
    int64_t at = slot_of(s, first, count, index[i * step]);
    if (at >= 0) atomicAdd(&slice[at], load(&v[i * v_step]));
}

template <typename T> __global__ void narrow_kernel(const real<T> *from, T *to, int64_t n)
{
    int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) store(&to[i], from[i]);
}

template <typename T>
static void dense_slice(cudaStream_t stream, const sparse &s, int64_t first, int64_t count, const crank_view *v, const crank_view *index, void *wide, void *narrow)
{
    int64_t elements = count * (s.transpose ? s.rows : s.cols);
    cudaMemsetAsync(wide, 0, (size_t)elements * sizeof(real<T>), stream);
    if (s.k)
        fill_kernel<T><<<blocks_for(s.k, THREADS), THREADS, 0, stream>>>(s, first, count, (const T *)v->data, v->strides[0], (const int32_t *)index->data,
                                                                        index->strides[0], (real<T> *)wide);
    if (narrow != wide)
        narrow_kernel<T><<<blocks_for(elements, THREADS), THREADS, 0, stream>>>((const real<T> *)wide, (T *)narrow, elements);
}

static const crank_view absent = {NULL, CRANK_F32, -1, {0}, {0}};

/* Columns first.. of a matrix. */
static crank_view columns_of(const crank_view *view, int64_t first, int64_t count)
{
    crank_view part = *view;
    part.dims[1] = count;
    part.data = (char *)view->data + first * (int64_t)size_of(view->dtype);
    return part;
}

static crank_status multiply(crank_context *context, const crank_call *call, const crank_view *a, bool trans_a, const crank_view *b, bool trans_b, const crank_view *c)
{
    product      p = product_make(a, trans_a, b, trans_b, &absent, &absent, c);
    product_data data = {a->data, b->data, NULL, NULL, c->data, call->workspace, 1};
    return product_run(context, cuda_of(call), &p, &data);
}

static sparse matmul_of(const crank_call *call)
{
    const crank_sparse_attributes *a = (const crank_sparse_attributes *)call->attributes;
    return sparse_of(a->rows, a->cols, a->transpose, call->in[0].dtype, call->in[1].dims[0]);
}

static size_t matmul_workspace(const crank_call *call)
{
    sparse s = matmul_of(call);
    return area(&s);
}

static crank_status run_sparse_matmul(crank_context *context, const crank_call *call)
{
    const crank_view *x = &call->in[0], *v = &call->in[1], *index = &call->in[2], *y = &call->out[0];
    sparse            s = matmul_of(call);
    char             *wide = (char *)call->workspace + PRODUCT_WORKSPACE, *narrow = x->dtype == CRANK_F32 || x->dtype == CRANK_F64 ? wide : wide + slice_bytes(&s);
    int64_t           along = s.transpose ? s.cols : s.rows;
    if (crank_view_count(y) == 0) return CRANK_OK;
    for (int64_t first = 0; first < along; first += s.each) {
        int64_t    count = along - first < s.each ? along - first : s.each;
        crank_view part = columns_of(y, first, count);
        int64_t    dims[2] = {s.transpose ? s.rows : count, s.transpose ? count : s.cols};
        crank_view slice = crank_view_make(narrow, x->dtype, 2, dims);
        WITH_FLOAT_TYPE(x->dtype, T, dense_slice<T>(cuda_stream(call), s, first, count, v, index, wide, narrow);)
        crank_status status = cuda_launched(context, "a slice of a sparse matrix");
        if (status == CRANK_OK) status = multiply(context, call, x, false, &slice, !s.transpose, &part);
        if (status != CRANK_OK) return status;
    }
    return CRANK_OK;
}

/* ---- sparse_sample: v_i = (a^T b) at place i ---- */

template <typename R> __global__ void sample_kernel(sparse s, int64_t first, int64_t count, const R *slice, const int32_t *index, int64_t step, void *v, crank_dtype type, int64_t v_step)
{
    int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= s.k) return;
    int64_t at = slot_of(s, first, count, index[i * step]);
    if (at >= 0) write_any(v, type, i * v_step, (double)slice[at]);
}

__global__ void outside_kernel(sparse s, const int32_t *index, int64_t step, void *v, crank_dtype type, int64_t v_step)
{
    int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < s.k && (index[i * step] < 0 || index[i * step] >= s.rows * s.cols)) write_any(v, type, i * v_step, 0);
}

static sparse sample_of(const crank_call *call)
{
    return sparse_of(call->in[0].dims[1], call->in[1].dims[1], false, call->in[0].dtype, call->out[0].dims[0]);
}

static size_t sample_workspace(const crank_call *call)
{
    sparse s = sample_of(call);
    return area(&s);
}

static crank_status run_sparse_sample(crank_context *context, const crank_call *call)
{
    const crank_view *a = &call->in[0], *b = &call->in[1], *index = &call->in[2], *v = &call->out[0];
    sparse            s = sample_of(call);
    cudaStream_t      stream = cuda_stream(call);
    void             *slice = (char *)call->workspace + PRODUCT_WORKSPACE;
    if (s.k == 0) return CRANK_OK;
    outside_kernel<<<blocks_for(s.k, THREADS), THREADS, 0, stream>>>(s, (const int32_t *)index->data, index->strides[0], v->data, v->dtype, v->strides[0]);
    for (int64_t first = 0; first < s.rows; first += s.each) {
        int64_t      count = s.rows - first < s.each ? s.rows - first : s.each, dims[2] = {count, s.cols};
        crank_view   part = columns_of(a, first, count), product = crank_view_make(slice, wide_of(s.type), 2, dims);
        crank_status status = multiply(context, call, &part, true, b, false, &product);
        if (status != CRANK_OK) return status;
        if (s.type == CRANK_F64)
            sample_kernel<double><<<blocks_for(s.k, THREADS), THREADS, 0, stream>>>(s, first, count, (const double *)slice, (const int32_t *)index->data, index->strides[0], v->data, v->dtype, v->strides[0]);
        else
            sample_kernel<float><<<blocks_for(s.k, THREADS), THREADS, 0, stream>>>(s, first, count, (const float *)slice, (const int32_t *)index->data, index->strides[0], v->data, v->dtype, v->strides[0]);
    }
    return cuda_launched(context, "sparse_sample");
}

const cuda_entry cuda_sparse[] = {
    {"sparse_matmul", "cuda", run_sparse_matmul, NULL, matmul_workspace},
    {"sparse_sample", "cuda", run_sparse_sample, NULL, sample_workspace},
    {NULL, NULL, NULL, NULL, NULL},
};
