/* elementwise.cu - operations that treat every element alike: copy, fill, binary, where, affine, unary, glu, their reverses, dropout. */
#include "base/philox.h"
#include "device/cuda/activation.cuh"
#include "device/cuda/spans.cuh"

#define SPANS(shape, ...)                                                                                                                   \
    spans_of(shape, (int)(sizeof((const crank_view *[]){__VA_ARGS__}) / sizeof(crank_view *)), view_list<sizeof((const crank_view *[]){__VA_ARGS__}) / sizeof(crank_view *)>{{__VA_ARGS__}}.items)

template <size_t K> struct view_list {
    const crank_view *items[K];
};

/* An absent operand takes part as a view without data. */
static crank_view absent_like(const crank_view *view, const crank_view *shape)
{
    if (cuda_present(view)) return *view;
    crank_view none = *shape;
    none.data = NULL;
    return none;
}

/* ---- copy and fill ---- */

/* Elements of one size moved as they are. */
template <typename S, int N> __global__ void move_kernel(spans s)
{
    int64_t first = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) * N, offset[2];
    if (first >= s.count) return;
    span_offsets<2>(s, first, offset);
    const S *from = (const S *)s.data[0] + offset[0];
    S       *to = (S *)s.data[1] + offset[1];
    if (N > 1) *(uint4 *)to = *(const uint4 *)from;
    else *to = *from;
}

template <typename S> static void move(cudaStream_t stream, const spans &s)
{
    enum { N = 16 / sizeof(S) };
    bool packed = spans_packed(&s, sizeof(S), N) && s.strides[0][s.axes - 1] == 1 && s.strides[1][s.axes - 1] == 1;
    if (packed) move_kernel<S, N><<<blocks_for(s.count / N, SPAN_THREADS), SPAN_THREADS, 0, stream>>>(s);
    else move_kernel<S, 1><<<blocks_for(s.count, SPAN_THREADS), SPAN_THREADS, 0, stream>>>(s);
}

/* [rows, columns] read along columns and written along rows, through a tile of shared memory. */
template <typename S> __global__ void turn_kernel(const S *from, S *to, int64_t rows, int64_t columns, int64_t from_row, int64_t to_column)
{
    __shared__ S tile[32][33];
    int64_t      r = (int64_t)blockIdx.y * 32, c = (int64_t)blockIdx.x * 32;
    for (int i = threadIdx.y; i < 32; i += 8)
        if (r + i < rows && c + threadIdx.x < columns) tile[i][threadIdx.x] = from[(r + i) * from_row + c + threadIdx.x];
    __syncthreads();
    for (int i = threadIdx.y; i < 32; i += 8)
        if (c + i < columns && r + threadIdx.x < rows) to[(c + i) * to_column + r + threadIdx.x] = tile[threadIdx.x][i];
}

/* y [a, b] with y contiguous along b and x contiguous along a. */
template <typename S> static bool turned(cudaStream_t stream, const spans &s)
{
    if (s.axes != 2 || s.strides[0][0] != 1 || s.strides[1][1] != 1 || s.dims[0] < 8 || s.dims[1] < 8) return false;
    int64_t rows = s.dims[1], columns = s.dims[0]; /* of x */
    if ((rows + 31) / 32 > 65535) return false;
    dim3 grid(blocks_for(columns, 32), blocks_for(rows, 32)), block(32, 8);
    turn_kernel<S><<<grid, block, 0, stream>>>((const S *)s.data[0], (S *)s.data[1], rows, columns, s.strides[0][1], s.strides[1][0]);
    return true;
}

template <typename S> static void move_any(cudaStream_t stream, const spans &s)
{
    if (!turned<S>(stream, s)) move<S>(stream, s);
}

template <typename A, typename B, int N> __global__ void cast_kernel(spans s)
{
    int64_t first = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) * N, offset[2];
    if (first >= s.count) return;
    span_offsets<2>(s, first, offset);
    const A *from = (const A *)s.data[0] + offset[0];
    B       *to = (B *)s.data[1] + offset[1];
    struct alignas(N * sizeof(A)) many_a { A item[N]; } a;
    struct alignas(N * sizeof(B)) many_b { B item[N]; } b;
    a = *(const many_a *)from;
#pragma unroll
    for (int e = 0; e < N; e++) store(&b.item[e], load(&a.item[e]));
    *(many_b *)to = b;
}

template <typename A, typename B> static void cast(cudaStream_t stream, const spans &s)
{
    enum { N = 4 };
    bool packed = s.strides[0][s.axes - 1] == 1 && s.strides[1][s.axes - 1] == 1 && s.dims[s.axes - 1] % N == 0 &&
                  (uintptr_t)s.data[0] % (N * sizeof(A)) == 0 && (uintptr_t)s.data[1] % (N * sizeof(B)) == 0;
    for (int axis = 0; axis < s.axes - 1; axis++) packed = packed && s.strides[0][axis] % N == 0 && s.strides[1][axis] % N == 0;
    if (packed) cast_kernel<A, B, N><<<blocks_for(s.count / N, SPAN_THREADS), SPAN_THREADS, 0, stream>>>(s);
    else cast_kernel<A, B, 1><<<blocks_for(s.count, SPAN_THREADS), SPAN_THREADS, 0, stream>>>(s);
}

__global__ void convert_kernel(spans s, crank_dtype from, crank_dtype to)
{
    int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x, offset[2];
    if (i >= s.count) return;
    span_offsets<2>(s, i, offset);
    write_any(s.data[1], to, offset[1], read_any(s.data[0], from, offset[0]));
}

static crank_status run_copy(crank_context *context, const crank_call *call)
{
    const crank_view *x = &call->in[0], *y = &call->out[0];
    spans             s = SPANS(y, x, y);
    cudaStream_t      stream = cuda_stream(call);
    if (s.count == 0) return CRANK_OK;
    if (x->dtype == y->dtype) {
        switch (crank_dtype_bits(x->dtype)) {
        case 8: move_any<uint8_t>(stream, s); break;
        case 16: move_any<uint16_t>(stream, s); break;
        case 32: move_any<uint32_t>(stream, s); break;
        default: move_any<uint64_t>(stream, s); break;
        }
    } else if (cuda_is(x, CRANK_F32) && cuda_is(y, CRANK_BF16)) cast<float, bf16>(stream, s);
    else if (cuda_is(x, CRANK_BF16) && cuda_is(y, CRANK_F32)) cast<bf16, float>(stream, s);
    else convert_kernel<<<blocks_for(s.count, SPAN_THREADS), SPAN_THREADS, 0, stream>>>(s, x->dtype, y->dtype);
    return cuda_launched(context, "copy");
}

__global__ void fill_kernel(spans s, crank_dtype dtype, double value)
{
    int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x, offset[1];
    if (i >= s.count) return;
    span_offsets<1>(s, i, offset);
    write_any(s.data[0], dtype, offset[0], value);
}

static crank_status run_fill(crank_context *context, const crank_call *call)
{
    const crank_view *y = &call->out[0];
    double            value = ((const crank_fill_attributes *)call->attributes)->value;
    spans             s = SPANS(y, y);
    if (s.count == 0) return CRANK_OK;
    if (value == 0 && s.axes == 1 && s.strides[0][0] == 1)
        return cuda_check(context, cudaMemsetAsync(y->data, 0, (size_t)s.count * crank_dtype_bits(y->dtype) / 8, cuda_stream(call)), "fill");
    fill_kernel<<<blocks_for(s.count, SPAN_THREADS), SPAN_THREADS, 0, cuda_stream(call)>>>(s, y->dtype, value);
    return cuda_launched(context, "fill");
}

/* ---- binary, where, affine ---- */

template <typename R> struct binary_op {
    crank_binary_kind kind;
    __device__ __forceinline__ void operator()(const R *x, R *y, int64_t) const
    {
        R a = x[0], b = x[1];
        switch (kind) {
        case CRANK_ADD: y[0] = a + b; break;
        case CRANK_SUB: y[0] = a - b; break;
        case CRANK_MUL: y[0] = a * b; break;
        case CRANK_DIV: y[0] = a / b; break;
        case CRANK_MAX: y[0] = a != a || a > b ? a : b; break;
        case CRANK_MIN: y[0] = a != a || a < b ? a : b; break;
        case CRANK_POW: y[0] = fn_pow(a, b); break;
        case CRANK_GT: y[0] = (R)(a > b); break;
        case CRANK_GE: y[0] = (R)(a >= b); break;
        default: y[0] = (R)(a == b); break;
        }
    }
};

static crank_status run_binary(crank_context *context, const crank_call *call)
{
    crank_binary_kind kind = ((const crank_binary_attributes *)call->attributes)->kind;
    spans             s = SPANS(&call->out[0], &call->in[0], &call->in[1], &call->out[0]);
    WITH_FLOAT_TYPE(call->out[0].dtype, T, (spans_run<2, 1, T>(cuda_stream(call), s, binary_op<real<T>>{kind}));)
    return cuda_launched(context, "binary");
}

template <typename R> struct where_op {
    __device__ __forceinline__ void operator()(const R *x, R *y, int64_t) const { y[0] = x[0] != 0 ? x[1] : x[2]; }
};

static crank_status run_where(crank_context *context, const crank_call *call)
{
    spans s = SPANS(&call->out[0], &call->in[0], &call->in[1], &call->in[2], &call->out[0]);
    WITH_FLOAT_TYPE(call->out[0].dtype, T, (spans_run<3, 1, T>(cuda_stream(call), s, where_op<real<T>>{}));)
    return cuda_launched(context, "where");
}

template <typename R> struct affine_op {
    R scale, shift;
    __device__ __forceinline__ void operator()(const R *x, R *y, int64_t) const { y[0] = scale * x[0] + shift; }
};

static crank_status run_affine(crank_context *context, const crank_call *call)
{
    const crank_affine_attributes *a = (const crank_affine_attributes *)call->attributes;
    spans                          s = SPANS(&call->out[0], &call->in[0], &call->out[0]);
    WITH_FLOAT_TYPE(call->out[0].dtype, T, (spans_run<1, 1, T>(cuda_stream(call), s, affine_op<real<T>>{(real<T>)a->scale, (real<T>)a->shift}));)
    return cuda_launched(context, "affine");
}

/* ---- unary functions and gated units ---- */

template <typename R> struct unary_op {
    crank_unary_kind kind;
    __device__ __forceinline__ void operator()(const R *x, R *y, int64_t) const { y[0] = activation(kind, x[0]); }
};

/* What transformers apply to whole hidden layers. */
template <typename T, crank_unary_kind KIND> struct gate_op {
    __device__ __forceinline__ void operator()(const real<T> *x, real<T> *y, int64_t) const { y[0] = gate_value<T, KIND>(x[0]); }
};
template <typename T, crank_unary_kind KIND> struct gate_slope_op {
    __device__ __forceinline__ void operator()(const real<T> *x, real<T> *y, int64_t) const { y[0] = gate_slope<T, KIND>(x[0]) * x[1]; }
};

template <typename T> static void unary(cudaStream_t stream, const spans &s, crank_unary_kind kind)
{
    if (kind == CRANK_GELU) spans_run<1, 1, T>(stream, s, gate_op<T, CRANK_GELU>{});
    else if (kind == CRANK_GELU_TANH) spans_run<1, 1, T>(stream, s, gate_op<T, CRANK_GELU_TANH>{});
    else if (kind == CRANK_SILU) spans_run<1, 1, T>(stream, s, gate_op<T, CRANK_SILU>{});
    else spans_run<1, 1, T>(stream, s, unary_op<real<T>>{kind});
}

static crank_status run_unary(crank_context *context, const crank_call *call)
{
    spans s = SPANS(&call->out[0], &call->in[0], &call->out[0]);
    WITH_FLOAT_TYPE(call->out[0].dtype, T, unary<T>(cuda_stream(call), s, ((const crank_unary_attributes *)call->attributes)->kind);)
    return cuda_launched(context, "unary");
}

template <typename R> struct slope_op {
    crank_unary_kind kind;
    __device__ __forceinline__ void operator()(const R *x, R *y, int64_t) const { y[0] = slope(kind, x[0], x[1]) * x[2]; }
};

static crank_status run_unary_backward(crank_context *context, const crank_call *call)
{
    crank_unary_kind kind = ((const crank_unary_attributes *)call->attributes)->kind;
    crank_view       x = absent_like(&call->in[0], &call->out[0]), y = absent_like(&call->in[1], &call->out[0]);
    if (!crank_unary_needs_x(kind)) x = call->out[0], x.data = NULL;
    if (!crank_unary_needs_y(kind)) y = call->out[0], y.data = NULL;
    if (kind == CRANK_GELU) {
        spans two = SPANS(&call->out[0], &x, &call->in[2], &call->out[0]);
        WITH_FLOAT_TYPE(call->out[0].dtype, T, (spans_run<2, 1, T>(cuda_stream(call), two, gate_slope_op<T, CRANK_GELU>{}));)
        return cuda_launched(context, "unary_backward");
    }
    spans s = SPANS(&call->out[0], &x, &y, &call->in[2], &call->out[0]);
    WITH_FLOAT_TYPE(call->out[0].dtype, T, (spans_run<3, 1, T>(cuda_stream(call), s, slope_op<real<T>>{kind}));)
    return cuda_launched(context, "unary_backward");
}

/* Both operations for one type and one gate. */
template <typename T> static void glu_forward(cudaStream_t stream, const spans &s, crank_unary_kind kind)
{
    if (kind == CRANK_SILU) spans_run<2, 1, T>(stream, s, glu_op<T, CRANK_SILU>{});
    else if (kind == CRANK_GELU) spans_run<2, 1, T>(stream, s, glu_op<T, CRANK_GELU>{});
    else spans_run<2, 1, T>(stream, s, glu_op<T, CRANK_GELU_TANH>{});
}
template <typename T> static void glu_reverse(cudaStream_t stream, const spans &s, crank_unary_kind kind)
{
    if (kind == CRANK_SILU) spans_run<3, 2, T>(stream, s, glu_backward_op<T, CRANK_SILU>{});
    else if (kind == CRANK_GELU) spans_run<3, 2, T>(stream, s, glu_backward_op<T, CRANK_GELU>{});
    else spans_run<3, 2, T>(stream, s, glu_backward_op<T, CRANK_GELU_TANH>{});
}

static crank_status run_glu(crank_context *context, const crank_call *call)
{
    crank_unary_kind kind = ((const crank_glu_attributes *)call->attributes)->activation;
    spans            s = SPANS(&call->out[0], &call->in[0], &call->in[1], &call->out[0]);
    WITH_FLOAT_TYPE(call->out[0].dtype, T, glu_forward<T>(cuda_stream(call), s, kind);)
    return cuda_launched(context, "glu");
}

static crank_status run_glu_backward(crank_context *context, const crank_call *call)
{
    crank_unary_kind kind = ((const crank_glu_attributes *)call->attributes)->activation;
    spans            s = SPANS(&call->out[0], &call->in[0], &call->in[1], &call->in[2], &call->out[0], &call->out[1]);
    WITH_FLOAT_TYPE(call->out[0].dtype, T, glu_reverse<T>(cuda_stream(call), s, kind);)
    return cuda_launched(context, "glu_backward");
}

/* ---- dropout: element i of the call uses draw step * 2^34 + i ---- */

template <typename R> struct dropout_op {
    uint32_t       key0, key1, index;
    double         p;
    const int64_t *step;
    __device__ __forceinline__ void operator()(const R *x, R *y, int64_t i) const
    {
        uint64_t draw = ((uint64_t)*step << 34) + (uint64_t)i, block = draw >> 2;
        uint32_t c0 = (uint32_t)block, c1 = (uint32_t)(block >> 32), c2 = CRANK_RANDOM_DROPOUT, c3 = index;
        philox_rounds(&c0, &c1, &c2, &c3, key0, key1);
        uint32_t bits = (draw & 2) ? (draw & 1 ? c3 : c2) : (draw & 1 ? c1 : c0);
        y[0] = (double)philox_uniform(bits) >= p ? x[0] / (R)(1 - p) : (R)0;
    }
};

static crank_status run_dropout(crank_context *context, const crank_call *call)
{
    const crank_dropout_attributes *a = (const crank_dropout_attributes *)call->attributes;
    spans                           s = SPANS(&call->out[0], &call->in[0], &call->out[0]);
    WITH_FLOAT_TYPE(call->out[0].dtype, T,
                    (spans_run<1, 1, T>(cuda_stream(call), s,
                                        dropout_op<real<T>>{(uint32_t)a->seed, (uint32_t)(a->seed >> 32), a->index, a->p,
                                                            (const int64_t *)call->in[1].data}));)
    return cuda_launched(context, "dropout");
}

const cuda_entry cuda_elementwise[] = {
    {"copy", "cuda", run_copy, NULL, NULL},
    {"fill", "cuda", run_fill, NULL, NULL},
    {"binary", "cuda", run_binary, NULL, NULL},
    {"where", "cuda", run_where, NULL, NULL},
    {"affine", "cuda", run_affine, NULL, NULL},
    {"unary", "cuda", run_unary, NULL, NULL},
    {"unary_backward", "cuda", run_unary_backward, NULL, NULL},
    {"glu", "cuda", run_glu, NULL, NULL},
    {"glu_backward", "cuda", run_glu_backward, NULL, NULL},
    {"dropout", "cuda", run_dropout, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};
