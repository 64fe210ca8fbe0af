/* reduce.cu - sums, means, largest values and sums of squares over any axes.
 *
 * Axes of one kind (kept or reduced) that lie behind one another are merged. What is left decides the kernel: rows (the innermost axis
 * is reduced), columns (it is kept), everything, or any. Long sums are cut into slices whose partial results a second kernel adds in
 * order. */
#include "device/cuda/element.cuh"

enum { AXES = CRANK_MAX_RANK, SLICES = 256 };

typedef struct folding {
    const void *x;
    void       *y;
    crank_dtype x_type, y_type;
    int         kept, reduced; /* numbers of axes */
    int64_t     kept_dims[AXES], kept_x[AXES], kept_y[AXES], reduced_dims[AXES], reduced_x[AXES];
    int64_t     outputs, items; /* products of the dims */
    crank_reduce_kind kind;
} folding;

static folding folding_of(const crank_call *call)
{
    const crank_reduce_attributes *a = (const crank_reduce_attributes *)call->attributes;
    const crank_view              *x = &call->in[0], *y = &call->out[0];
    folding                        f = {x->data, y->data, x->dtype, y->dtype};
    int                            last = -1; /* what the axis before was: 0 kept, 1 reduced */
    f.outputs = f.items = 1, f.kind = a->kind;
    for (int axis = 0; axis < x->rank; axis++) {
        int64_t dim = x->dims[axis];
        if (a->axes >> axis & 1) {
            f.items *= dim;
            if (last == 1 && f.reduced_x[f.reduced - 1] == x->strides[axis] * dim) f.reduced_dims[f.reduced - 1] *= dim;
            else f.reduced_dims[f.reduced++] = dim;
            f.reduced_x[f.reduced - 1] = x->strides[axis];
            last = 1;
        } else {
            f.outputs *= dim;
            if (last == 0 && f.kept_x[f.kept - 1] == x->strides[axis] * dim && f.kept_y[f.kept - 1] == y->strides[axis] * dim)
                f.kept_dims[f.kept - 1] *= dim;
            else f.kept_dims[f.kept++] = dim;
            f.kept_x[f.kept - 1] = x->strides[axis], f.kept_y[f.kept - 1] = y->strides[axis];
            last = 0;
        }
    }
    return f;
}

__device__ __forceinline__ int64_t offset_in(int axes, const int64_t *dims, const int64_t *strides, int64_t i)
{
    int64_t offset = 0;
    for (int axis = axes - 1; axis > 0; axis--) {
        offset += i % dims[axis] * strides[axis];
        i /= dims[axis];
    }
    return axes ? offset + i * strides[0] : 0;
}

template <typename R> __device__ __forceinline__ R start_of(crank_reduce_kind kind) { return kind == CRANK_AMAX ? -(R)INFINITY : (R)0; }
template <typename R> __device__ __forceinline__ R joined(crank_reduce_kind kind, R a, R b)
{
    return kind == CRANK_AMAX ? (a != a || a > b ? a : b) : a + b;
}
template <typename R> __device__ __forceinline__ R taken(crank_reduce_kind kind, R x) { return kind == CRANK_SUM_SQUARES ? x * x : x; }

template <typename R> __device__ __forceinline__ void put(const folding &f, int64_t output, R value)
{
    if (f.kind == CRANK_MEAN) value /= (R)f.items;
    write_any(f.y, f.y_type, offset_in(f.kept, f.kept_dims, f.kept_y, output), (double)value);
}

/* One block an output and slice; N elements at a time when the reduced items lie side by side. */
template <typename T, int N> __global__ void rows_kernel(folding f, int slices, real<T> *partial)
{
    typedef real<T> R;
    __shared__ R    cells[33];
    int64_t         output = blockIdx.x, packs = f.items / N, each = (packs + slices - 1) / slices, first = blockIdx.y * each;
    int64_t         last = first + each < packs ? first + each : packs;
    const T        *x = (const T *)f.x + offset_in(f.kept, f.kept_dims, f.kept_x, output);
    R               sum = start_of<R>(f.kind);
    for (int64_t p = first + threadIdx.x; p < last; p += blockDim.x) {
        if (N > 1) {
            pack<T> item;
            item.read(x + p * N);
#pragma unroll
            for (int e = 0; e < N; e++) sum = joined(f.kind, sum, taken(f.kind, item.get(e)));
        } else {
            sum = joined(f.kind, sum, taken(f.kind, load(&x[offset_in(f.reduced, f.reduced_dims, f.reduced_x, p)])));
        }
    }
    sum = f.kind == CRANK_AMAX ? block_max(sum, cells) : block_sum(sum, cells);
    if (threadIdx.x) return;
    if (partial) partial[output * slices + blockIdx.y] = sum;
    else put(f, output, sum);
}

/* 32 outputs that lie side by side (the innermost kept axis) and the slice's items, eight at a time. */
template <typename T> __global__ void columns_kernel(folding f, int slices, real<T> *partial)
{
    typedef real<T> R;
    __shared__ R    sums[8][33];
    int64_t         output = (int64_t)blockIdx.x * 32 + threadIdx.x, each = (f.items + slices - 1) / slices, first = blockIdx.y * each;
    int64_t         last = first + each < f.items ? first + each : f.items;
    R               sum = start_of<R>(f.kind);
    if (output < f.outputs) {
        const T *x = (const T *)f.x + offset_in(f.kept, f.kept_dims, f.kept_x, output);
        for (int64_t p = first + threadIdx.y; p < last; p += 8)
            sum = joined(f.kind, sum, taken(f.kind, load(&x[offset_in(f.reduced, f.reduced_dims, f.reduced_x, p)])));
    }
    sums[threadIdx.y][threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.y || output >= f.outputs) return;
    for (int k = 1; k < 8; k++) sum = joined(f.kind, sum, sums[k][threadIdx.x]);
    if (partial) partial[output * slices + blockIdx.y] = sum;
    else put(f, output, sum);
}

template <typename R> __global__ void join_kernel(folding f, int slices, const R *partial)
{
    int64_t output = (int64_t)blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
    int     lane = threadIdx.x & 31;
    if (output >= f.outputs) return;
    R sum = start_of<R>(f.kind);
    for (int k = lane; k < slices; k += 32) sum = joined(f.kind, sum, partial[output * slices + k]);
    sum = f.kind == CRANK_AMAX ? warp_max(sum) : warp_sum(sum);
    if (lane == 0) put(f, output, sum);
}

__global__ void empty_kernel(folding f)
{
    int64_t output = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (output < f.outputs) put(f, output, start_of<double>(f.kind));
}

static bool by_columns(const folding *f)
{
    return f->kept > 0 && f->kept_x[f->kept - 1] == 1 && f->kept_dims[f->kept - 1] >= 8 && !(f->reduced == 1 && f->reduced_x[0] == 1);
}

/* Enough blocks to fill the card, and enough work for each. */
static int slices_of(const folding *f)
{
    int64_t blocks = by_columns(f) ? (f->outputs + 31) / 32 : f->outputs, room = 1056 / (blocks ? blocks : 1), most = f->items / 4096;
    if (by_columns(f)) most = f->items / 64;
    if (most > room) most = room;
    return most < 2 ? 1 : most > SLICES ? SLICES : (int)most;
}

static size_t workspace(const crank_call *call)
{
    folding f = folding_of(call);
    int     slices = slices_of(&f);
    return slices > 1 ? (size_t)f.outputs * (size_t)slices * (call->in[0].dtype == CRANK_F64 ? 8 : 4) : 0;
}

template <typename T> static void launch(cudaStream_t stream, const folding &f, void *memory)
{
    enum { N = pack<T>::N };
    int      slices = slices_of(&f);
    real<T> *partial = slices > 1 ? (real<T> *)memory : NULL;
    bool     packed = f.reduced == 1 && f.reduced_x[0] == 1 && f.items % N == 0 && cuda_aligned(f.x, 16);
    for (int axis = 0; axis < f.kept; axis++) packed = packed && f.kept_x[axis] % N == 0;
    if (by_columns(&f)) columns_kernel<T><<<dim3(blocks_for(f.outputs, 32), (unsigned)slices), dim3(32, 8), 0, stream>>>(f, slices, partial);
    else if (packed) rows_kernel<T, N><<<dim3((unsigned)f.outputs, (unsigned)slices), f.items / N < 128 ? 32 : 256, 0, stream>>>(f, slices, partial);
    else rows_kernel<T, 1><<<dim3((unsigned)f.outputs, (unsigned)slices), f.items < 128 ? 32 : 256, 0, stream>>>(f, slices, partial);
    if (partial) join_kernel<<<blocks_for(f.outputs, 4), 128, 0, stream>>>(f, slices, partial);
}

static crank_status run_reduce(crank_context *context, const crank_call *call)
{
    folding f = folding_of(call);
    if (f.outputs == 0) return CRANK_OK;
    if (f.items == 0) empty_kernel<<<blocks_for(f.outputs, 256), 256, 0, cuda_stream(call)>>>(f);
    else {
        WITH_FLOAT_TYPE(call->in[0].dtype, T, launch<T>(cuda_stream(call), f, call->workspace);)
    }
    return cuda_launched(context, "reduce");
}

const cuda_entry cuda_reduce[] = {
    {"reduce", "cuda", run_reduce, NULL, workspace},
    {NULL, NULL, NULL, NULL, NULL},
};
