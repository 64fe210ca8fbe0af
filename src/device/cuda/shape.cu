/* shape.cu - operations that place elements elsewhere: concat, pad, gather_rows, scatter_rows, pick, unpick, pooling of segments. */
#include "device/cuda/spans.cuh"

/* x copied into y: same type, no shared memory. */
__global__ void place_kernel(spans s, int size)
{
    int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x, offset[2];
    if (i >= s.count) return;
    span_offsets<2>(s, i, offset);
    const char *from = s.data[0] + offset[0] * size;
    char       *to = s.data[1] + offset[1] * size;
    switch (size) {
    case 2: *(uint16_t *)to = *(const uint16_t *)from; break;
    case 4: *(uint32_t *)to = *(const uint32_t *)from; break;
    default: *(uint64_t *)to = *(const uint64_t *)from; break;
    }
}

/* 16 bytes at a time. */
__global__ void place_packs_kernel(spans s, int size)
{
    int     n = 16 / size;
    int64_t i = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) * n, offset[2];
    if (i >= s.count) return;
    span_offsets<2>(s, i, offset);
    *(uint4 *)(s.data[1] + offset[1] * size) = *(const uint4 *)(s.data[0] + offset[0] * size);
}

static void place(cudaStream_t stream, const crank_view *x, const crank_view *target)
{
    const crank_view *views[2] = {x, target};
    spans             s = spans_of(x, 2, views);
    int               size = (int)(crank_dtype_bits(x->dtype) / 8);
    if (s.count == 0) return;
    bool ones = s.strides[0][s.axes - 1] == 1 && s.strides[1][s.axes - 1] == 1;
    if (ones && spans_packed(&s, (size_t)size, 16 / size))
        place_packs_kernel<<<blocks_for(s.count * size / 16, SPAN_THREADS), SPAN_THREADS, 0, stream>>>(s, size);
    else place_kernel<<<blocks_for(s.count, SPAN_THREADS), SPAN_THREADS, 0, stream>>>(s, size);
}

/* The part of y along `axis` that starts at `start` and is as long as x. */
static crank_view part_of(const crank_view *y, const crank_view *x, int axis, int64_t start)
{
    crank_view part = *y;
    part.dims[axis] = x->dims[axis];
    part.data = (char *)y->data + start * y->strides[axis] * (int64_t)(crank_dtype_bits(y->dtype) / 8);
    return part;
}

static crank_status run_concat(crank_context *context, const crank_call *call)
{
    int     axis = ((const crank_concat_attributes *)call->attributes)->axis;
    int64_t at = 0;
    for (int k = 0; k < call->inputs; k++) {
        crank_view part = part_of(&call->out[0], &call->in[k], axis, at);
        place(cuda_stream(call), &call->in[k], &part);
        at += call->in[k].dims[axis];
    }
    return cuda_launched(context, "concat");
}

__global__ void zero_kernel(spans s, crank_dtype dtype)
{
    int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x, offset[1];
    if (i >= s.count) return;
    span_offsets<1>(s, i, offset);
    write_any(s.data[0], dtype, offset[0], 0);
}

static crank_status zero(crank_context *context, cudaStream_t stream, const crank_view *y)
{
    const crank_view *views[1] = {y};
    spans             s = spans_of(y, 1, views);
    if (s.count == 0) return CRANK_OK;
    if (s.axes == 1 && s.strides[0][0] == 1)
        return cuda_check(context, cudaMemsetAsync(y->data, 0, (size_t)s.count * crank_dtype_bits(y->dtype) / 8, stream), "zeros");
    zero_kernel<<<blocks_for(s.count, SPAN_THREADS), SPAN_THREADS, 0, stream>>>(s, y->dtype);
    return CRANK_OK;
}

static crank_status run_pad(crank_context *context, const crank_call *call)
{
    const crank_pad_attributes *a = (const crank_pad_attributes *)call->attributes;
    crank_view                  part = part_of(&call->out[0], &call->in[0], a->axis, a->start);
    crank_status                status = zero(context, cuda_stream(call), &call->out[0]);
    place(cuda_stream(call), &call->in[0], &part);
    return status == CRANK_OK ? cuda_launched(context, "pad") : status;
}

/* ---- rows by id ---- */

template <typename A, typename B>
__global__ void gather_kernel(const A *table, int64_t table_row, int64_t V, const int32_t *ids, int64_t id_step, B *y, int64_t y_row, int64_t d)
{
    int64_t i = blockIdx.x, id = ids[i * id_step];
    bool    inside = id >= 0 && id < V;
    for (int64_t j = (int64_t)blockIdx.y * blockDim.x + threadIdx.x; j < d; j += (int64_t)gridDim.y * blockDim.x)
        store(&y[i * y_row + j], inside ? load(&table[id * table_row + j]) : (real<A>)0);
}

static crank_status run_gather_rows(crank_context *context, const crank_call *call)
{
    const crank_view *table = &call->in[0], *ids = &call->in[1], *y = &call->out[0];
    int64_t           n = y->dims[0], d = y->dims[1];
    if (n * d == 0) return CRANK_OK;
    dim3 grid((unsigned)n, blocks_for(d, 1024) < 16 ? blocks_for(d, 1024) : 16);
    WITH_FLOAT_TYPE(table->dtype, A,
                    WITH_FLOAT_TYPE(y->dtype, B,
                                    (gather_kernel<A, B><<<grid, 256, 0, cuda_stream(call)>>>(
                                        (const A *)table->data, table->strides[0], table->dims[0], (const int32_t *)ids->data, ids->strides[0],
                                        (B *)y->data, y->strides[0], d));))
    return cuda_launched(context, "gather_rows");
}

/* Rows of one id are summed by the block of the first of them, in the order of rows: the same bits every time. */
template <typename A, typename B>
__global__ void scatter_kernel(const A *dy, int64_t dy_row, const int32_t *ids, int64_t id_step, int64_t n, int64_t V, B *table, int64_t table_row,
                               int64_t d)
{
    enum { COLUMNS = 4 };
    __shared__ int32_t found[256];
    __shared__ int     count;
    int64_t            i = blockIdx.x, id = ids[i * id_step], column = (int64_t)blockIdx.y * blockDim.x * COLUMNS + threadIdx.x;
    if (id < 0 || id >= V) return;
    bool earlier = false;
    for (int64_t j = threadIdx.x; j < i && !earlier; j += blockDim.x) earlier = ids[j * id_step] == id;
    if (__syncthreads_or(earlier)) return;
    real<A> sum[COLUMNS] = {0};
    for (int64_t start = i; start < n; start += blockDim.x) {
        int64_t j = start + threadIdx.x;
        bool    match = j < n && ids[j * id_step] == id;
        if (threadIdx.x == 0) count = 0;
        if (!__syncthreads_or(match)) continue;
        unsigned votes = __ballot_sync(0xffffffffu, match);
        for (int warp = 0; warp < (int)blockDim.x / 32; warp++) { /* the list in ascending order */
            if ((int)threadIdx.x / 32 == warp) {
                int base = count;
                if (match) found[base + __popc(votes & ((1u << (threadIdx.x & 31)) - 1))] = (int32_t)(j - start);
                __syncwarp();
                if ((threadIdx.x & 31) == 0) count = base + __popc(votes);
            }
            __syncthreads();
        }
        for (int k = 0; k < count; k++)
#pragma unroll
            for (int c = 0; c < COLUMNS; c++)
                if (column + c * blockDim.x < d) sum[c] += load(&dy[(start + found[k]) * dy_row + column + c * blockDim.x]);
        __syncthreads();
    }
#pragma unroll
    for (int c = 0; c < COLUMNS; c++)
        if (column + c * blockDim.x < d) store(&table[id * table_row + column + c * blockDim.x], sum[c]);
}

static crank_status run_scatter_rows(crank_context *context, const crank_call *call)
{
    const crank_view *dy = &call->in[0], *ids = &call->in[1], *table = &call->out[0];
    int64_t           n = dy->dims[0], d = dy->dims[1];
    crank_status      status = zero(context, cuda_stream(call), table);
    if (status != CRANK_OK || n * d == 0) return status;
    dim3 grid((unsigned)n, blocks_for(d, 1024));
    WITH_FLOAT_TYPE(dy->dtype, A,
                    WITH_FLOAT_TYPE(table->dtype, B,
                                    (scatter_kernel<A, B><<<grid, 256, 0, cuda_stream(call)>>>(
                                        (const A *)dy->data, dy->strides[0], (const int32_t *)ids->data, ids->strides[0], n, table->dims[0],
                                        (B *)table->data, table->strides[0], d));))
    return cuda_launched(context, "scatter_rows");
}

/* ---- elements by id ---- */

typedef struct chosen {
    const int32_t *ids;
    int64_t        row, step, n, k, c;
} chosen;

static chosen chosen_of(const crank_view *ids, int64_t c)
{
    return (chosen){(const int32_t *)ids->data, ids->strides[0], ids->strides[1], ids->dims[0], ids->dims[1], c};
}

template <typename T> __global__ void pick_kernel(const T *x, int64_t x_row, chosen ids, T *y, int64_t y_row)
{
    int64_t at = (int64_t)blockIdx.x * blockDim.x + threadIdx.x, i = at / ids.k, j = at % ids.k;
    if (i >= ids.n) return;
    int64_t id = ids.ids[i * ids.row + j * ids.step];
    store(&y[i * y_row + j], id >= 0 && id < ids.c ? load(&x[i * x_row + id]) : (real<T>)0);
}

static crank_status run_pick(crank_context *context, const crank_call *call)
{
    const crank_view *x = &call->in[0], *y = &call->out[0];
    chosen            ids = chosen_of(&call->in[1], x->dims[1]);
    if (ids.n * ids.k == 0) return CRANK_OK;
    WITH_FLOAT_TYPE(x->dtype, T,
                    (pick_kernel<T><<<blocks_for(ids.n * ids.k, 256), 256, 0, cuda_stream(call)>>>((const T *)x->data, x->strides[0], ids,
                                                                                                  (T *)y->data, y->strides[0]));)
    return cuda_launched(context, "pick");
}

template <typename T> __global__ void unpick_kernel(const T *dy, int64_t dy_row, chosen ids, T *dx, int64_t dx_row)
{
    int64_t at = (int64_t)blockIdx.x * blockDim.x + threadIdx.x, i = at / ids.k, j = at % ids.k;
    if (i >= ids.n) return;
    const int32_t *row = ids.ids + i * ids.row;
    int64_t        id = row[j * ids.step];
    if (id < 0 || id >= ids.c) return;
    for (int64_t k = 0; k < j; k++)
        if (row[k * ids.step] == id) return; /* the first place of an id sums all of its places */
    real<T> sum = 0;
    for (int64_t k = j; k < ids.k; k++)
        if (row[k * ids.step] == id) sum += load(&dy[i * dy_row + k]);
    store(&dx[i * dx_row + id], sum);
}

static crank_status run_unpick(crank_context *context, const crank_call *call)
{
    const crank_view *dy = &call->in[0], *dx = &call->out[0];
    chosen            ids = chosen_of(&call->in[1], dx->dims[1]);
    crank_status      status = zero(context, cuda_stream(call), dx);
    if (status != CRANK_OK || ids.n * ids.k == 0) return status;
    WITH_FLOAT_TYPE(dx->dtype, T,
                    (unpick_kernel<T><<<blocks_for(ids.n * ids.k, 256), 256, 0, cuda_stream(call)>>>((const T *)dy->data, dy->strides[0], ids,
                                                                                                    (T *)dx->data, dx->strides[0]));)
    return cuda_launched(context, "unpick");
}

/* ---- segments ---- */

__device__ __forceinline__ void rows_of(const int32_t *segments, int64_t step, int64_t i, int64_t n, crank_segment_kind kind, int64_t *first, int64_t *last)
{
    int64_t begin = segments[i * step], end = segments[(i + 1) * step];
    if (begin < 0) begin = 0;
    if (end > n) end = n;
    if (begin >= end) begin = end = 0;
    else if (kind == CRANK_SEGMENT_FIRST) end = begin + 1;
    else if (kind == CRANK_SEGMENT_LAST) begin = end - 1;
    *first = begin, *last = end;
}

template <typename T>
__global__ void pool_kernel(const T *x, int64_t x_row, int64_t n, const int32_t *segments, int64_t step, crank_segment_kind kind, T *y, int64_t y_row,
                            int64_t d)
{
    int64_t i = blockIdx.x, j = (int64_t)blockIdx.y * blockDim.x + threadIdx.x, first, last;
    if (j >= d) return;
    rows_of(segments, step, i, n, kind, &first, &last);
    real<T> sum = 0;
    for (int64_t row = first; row < last; row++) sum += load(&x[row * x_row + j]);
    store(&y[i * y_row + j], last > first ? sum / (real<T>)(last - first) : (real<T>)0);
}

static crank_status run_segment_pool(crank_context *context, const crank_call *call)
{
    const crank_view  *x = &call->in[0], *segments = &call->in[1], *y = &call->out[0];
    crank_segment_kind kind = ((const crank_segment_attributes *)call->attributes)->kind;
    int64_t            s = y->dims[0], d = y->dims[1];
    if (s * d == 0) return CRANK_OK;
    dim3 grid((unsigned)s, blocks_for(d, 128));
    WITH_FLOAT_TYPE(x->dtype, T,
                    (pool_kernel<T><<<grid, 128, 0, cuda_stream(call)>>>((const T *)x->data, x->strides[0], x->dims[0], (const int32_t *)segments->data,
                                                                        segments->strides[0], kind, (T *)y->data, y->strides[0], d));)
    return cuda_launched(context, "segment_pool");
}

template <typename T>
__global__ void spread_kernel(const T *dy, int64_t dy_row, const int32_t *segments, int64_t step, crank_segment_kind kind, T *dx, int64_t dx_row,
                              int64_t n, int64_t d)
{
    int64_t i = blockIdx.x, j = (int64_t)blockIdx.y * blockDim.x + threadIdx.x, first, last;
    if (j >= d) return;
    rows_of(segments, step, i, n, kind, &first, &last);
    real<T> share = load(&dy[i * dy_row + j]) / (real<T>)(last - first);
    for (int64_t row = first; row < last; row++) store(&dx[row * dx_row + j], share);
}

static crank_status run_segment_pool_backward(crank_context *context, const crank_call *call)
{
    const crank_view  *dy = &call->in[0], *segments = &call->in[1], *dx = &call->out[0];
    crank_segment_kind kind = ((const crank_segment_attributes *)call->attributes)->kind;
    int64_t            s = dy->dims[0], d = dy->dims[1];
    crank_status       status = zero(context, cuda_stream(call), dx);
    if (status != CRANK_OK || s * d == 0) return status;
    dim3 grid((unsigned)s, blocks_for(d, 128));
    WITH_FLOAT_TYPE(dx->dtype, T,
                    (spread_kernel<T><<<grid, 128, 0, cuda_stream(call)>>>((const T *)dy->data, dy->strides[0], (const int32_t *)segments->data,
                                                                          segments->strides[0], kind, (T *)dx->data, dx->strides[0], dx->dims[0], d));)
    return cuda_launched(context, "segment_pool_backward");
}

const cuda_entry cuda_shape[] = {
    {"concat", "cuda", run_concat, NULL, NULL},
    {"pad", "cuda", run_pad, NULL, NULL},
    {"gather_rows", "cuda", run_gather_rows, NULL, NULL},
    {"scatter_rows", "cuda", run_scatter_rows, NULL, NULL},
    {"pick", "cuda", run_pick, NULL, NULL},
    {"unpick", "cuda", run_unpick, NULL, NULL},
    {"segment_pool", "cuda", run_segment_pool, NULL, NULL},
    {"segment_pool_backward", "cuda", run_segment_pool_backward, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};
