/* columns.cu - a factor for each column, alone and in front of gated linear units, and the sums over rows that their reverses need.
 *
 * A block is 32 threads wide and 8 rows high; each thread holds the factors (and sums) of N neighbouring columns and walks down a slice of
 * the rows. The slices' sums are added in a fixed order by a second kernel. */
#include "device/cuda/activation.cuh"

enum { WIDE = 32, HIGH = 8, SLICES_MOST = 128 };

typedef struct matrix {
    void   *data;
    int64_t row; /* elements from row to row */
} matrix;

typedef struct columns_call {
    int64_t     n, d;
    int         slices;
    matrix      x[3], y[2];
    const void *k[2];
    void       *partial; /* [2, slices, d] of R, or NULL: no sums */
} columns_call;

static matrix matrix_of(const crank_view *view)
{
    matrix m = {NULL, 0};
    if (cuda_present(view)) m.data = view->data, m.row = view->strides[0];
    return m;
}

/* Columns in steps of 16 bytes are read at once. */
static bool rows_of_packs(const columns_call &c, size_t size)
{
    int64_t each = (int64_t)(16 / size);
    bool    packed = c.d % each == 0;
    for (const matrix &m : c.x) packed = packed && (!m.data || (m.row % each == 0 && cuda_aligned(m.data, 16)));
    for (const matrix &m : c.y) packed = packed && (!m.data || (m.row % each == 0 && cuda_aligned(m.data, 16)));
    return packed;
}

template <typename T, int N> struct cells {
    pack<T> p;
    __device__ __forceinline__ void read(const matrix &m, int64_t i, int64_t j)
    {
        const T *at = (const T *)m.data + i * m.row + j;
        if (N > 1) p.read(at);
        else p.item[0] = *at;
    }
    __device__ __forceinline__ void write(const matrix &m, int64_t i, int64_t j) const
    {
        T *at = (T *)m.data + i * m.row + j;
        if (N > 1) p.write(at);
        else *at = p.item[0];
    }
};

/* F: x values of one element, factors, y values and sums; IN and OUT matrices, K factors, as many sums as factors. */
template <typename T, typename K, int N, int IN, int OUT, int KS, bool SUMS, typename F> __global__ void columns_kernel(columns_call c, F f)
{
    typedef real<T> R;
    int64_t j = ((int64_t)blockIdx.x * WIDE + threadIdx.x) * N;
    R       k[KS][N], sums[KS][N];
    for (int s = 0; s < KS; s++)
        for (int e = 0; e < N; e++) k[s][e] = j + e < c.d ? (R)load((const K *)c.k[s] + j + e) : (R)0, sums[s][e] = 0;
    if (j < c.d)
        for (int64_t i = (int64_t)blockIdx.y * HIGH + threadIdx.y; i < c.n; i += (int64_t)c.slices * HIGH) {
            cells<T, N> x[IN], y[OUT];
#pragma unroll
            for (int m = 0; m < IN; m++) x[m].read(c.x[m], i, j);
#pragma unroll
            for (int e = 0; e < N; e++) {
                R in[IN], factors[KS], out[OUT], add[KS];
                for (int m = 0; m < IN; m++) in[m] = x[m].p.get(e);
                for (int s = 0; s < KS; s++) factors[s] = k[s][e];
                f(in, factors, out, add);
                for (int m = 0; m < OUT; m++) y[m].p.set(e, out[m]);
                if (SUMS)
                    for (int s = 0; s < KS; s++) sums[s][e] += add[s];
            }
#pragma unroll
            for (int m = 0; m < OUT; m++) y[m].write(c.y[m], i, j);
        }
    if constexpr (SUMS) {
        if (!c.partial) return;
        __shared__ R held[HIGH][WIDE][N];
        for (int s = 0; s < KS; s++) {
            for (int e = 0; e < N; e++) held[threadIdx.y][threadIdx.x][e] = sums[s][e];
            __syncthreads();
            if (threadIdx.y == 0 && j < c.d)
                for (int e = 0; e < N; e++) {
                    R all = 0;
                    for (int h = 0; h < HIGH; h++) all += held[h][threadIdx.x][e];
                    if (j + e < c.d) ((R *)c.partial)[((int64_t)s * c.slices + blockIdx.y) * c.d + j + e] = all;
                }
            __syncthreads();
        }
    }
}

/* divide: by the factor, 0 where that is 0 */
template <typename R, typename K> __global__ void slices_sum_kernel(const R *partial, int64_t d, int slices, R *out, int64_t step, const K *divide)
{
    int64_t j = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (j >= d) return;
    R sum = 0;
    for (int s = 0; s < slices; s++) sum += partial[(int64_t)s * d + j];
    if (divide) {
        R k = (R)load(divide + j);
        sum = k != 0 ? sum / k : (R)0;
    }
    out[j * step] = sum;
}

static int slices_for(const crank_view *x)
{
    int64_t slices = (x->dims[0] + 4 * HIGH - 1) / (4 * HIGH);
    return slices < 1 ? 1 : slices > SLICES_MOST ? SLICES_MOST : (int)slices;
}

static size_t sums_workspace(const crank_call *call)
{
    const crank_view *x = &call->in[0];
    return (size_t)slices_for(x) * (size_t)x->dims[1] * 2 * sizeof(double);
}

static columns_call call_of(const crank_call *call, int in, const int *x, int out, int factors, const int *k)
{
    columns_call c = {};
    c.n = call->out[0].dims[0], c.d = call->out[0].dims[1], c.slices = slices_for(&call->out[0]);
    for (int m = 0; m < in; m++) c.x[m] = matrix_of(&call->in[x[m]]);
    for (int m = 0; m < out; m++) c.y[m] = matrix_of(&call->out[m]);
    for (int s = 0; s < factors; s++) c.k[s] = call->in[k[s]].data;
    return c;
}

template <typename T, typename K, int IN, int OUT, int KS, bool SUMS, typename F> static void columns_run(cudaStream_t stream, const columns_call &c, const F &f)
{
    if (c.n == 0 || c.d == 0) return;
    enum { N = 16 / sizeof(T) };
    dim3 block(WIDE, HIGH);
    if (rows_of_packs(c, sizeof(T))) {
        dim3 grid(blocks_for(c.d, WIDE * N), (unsigned)c.slices);
        columns_kernel<T, K, N, IN, OUT, KS, SUMS><<<grid, block, 0, stream>>>(c, f);
    } else {
        dim3 grid(blocks_for(c.d, WIDE), (unsigned)c.slices);
        columns_kernel<T, K, 1, IN, OUT, KS, SUMS><<<grid, block, 0, stream>>>(c, f);
    }
}

/* T: the matrices' type; K: the factors', which is T or that of its sums. */
#define WITH_FACTOR_TYPE(x, k, T, K, ...)                                                                                                  \
    WITH_FLOAT_TYPE((x)->dtype, T,                                                                                                         \
                    if ((k)->dtype == (x)->dtype) { typedef T K; __VA_ARGS__ } else { typedef float K; __VA_ARGS__ })

template <typename R> struct scale_op {
    __device__ __forceinline__ void operator()(const R *x, const R *k, R *y, R *) const { y[0] = x[0] * k[0]; }
};
template <typename R> struct scale_backward_op { /* dy, y */
    __device__ __forceinline__ void operator()(const R *x, const R *k, R *y, R *add) const { y[0] = x[0] * k[0], add[0] = x[0] * x[1]; }
};
template <typename T, crank_unary_kind KIND> struct glu_scaled_op { /* gate, up */
    typedef real<T> R;
    __device__ __forceinline__ void operator()(const R *x, const R *k, R *y, R *) const
    {
        R both[2] = {x[0] * k[0], x[1] * k[1]};
        glu_op<T, KIND>{}(both, y, 0);
    }
};
template <typename T, crank_unary_kind KIND> struct glu_scaled_backward_op { /* dh, gate, up */
    typedef real<T> R;
    __device__ __forceinline__ void operator()(const R *x, const R *k, R *y, R *add) const
    {
        R three[3] = {x[0], x[1] * k[0], x[2] * k[1]};
        glu_backward_op<T, KIND>{}(three, y, 0);
        add[0] = y[0] * x[1], add[1] = y[1] * x[2];
        y[0] *= k[0], y[1] *= k[1];
    }
};

static crank_status run_scale(crank_context *context, const crank_call *call)
{
    const int    x[] = {0}, k[] = {1};
    columns_call c = call_of(call, 1, x, 1, 1, k);
    WITH_FACTOR_TYPE(&call->in[0], &call->in[1], T, K, (columns_run<T, K, 1, 1, 1, false>(cuda_stream(call), c, scale_op<real<T>>{}));)
    return cuda_launched(context, "scale_columns");
}

template <typename R, typename K> static void finish(cudaStream_t stream, const columns_call &c, int which, const crank_view *out, const K *divide)
{
    if (cuda_present(out) && c.d)
        slices_sum_kernel<R, K><<<blocks_for(c.d, 128), 128, 0, stream>>>((const R *)c.partial + (int64_t)which * c.slices * c.d, c.d, c.slices, (R *)out->data,
                                                                        out->strides[0], divide);
}

static crank_status run_scale_backward(crank_context *context, const crank_call *call)
{
    const int    x[] = {0, 1}, k[] = {2};
    columns_call c = call_of(call, 2, x, 1, 1, k);
    c.partial = cuda_present(&call->out[1]) ? call->workspace : NULL;
    if (c.n == 0) c.slices = 0;
    WITH_FACTOR_TYPE(&call->in[0], &call->in[2], T, K,
                     (columns_run<T, K, 2, 1, 1, true>(cuda_stream(call), c, scale_backward_op<real<T>>{}));
                     (finish<real<T>, K>(cuda_stream(call), c, 0, &call->out[1], (const K *)c.k[0]));)
    return cuda_launched(context, "scale_columns_backward");
}

template <typename T, typename K> static void forward(cudaStream_t stream, const columns_call &c, crank_unary_kind kind)
{
    if (kind == CRANK_SILU) columns_run<T, K, 2, 1, 2, false>(stream, c, glu_scaled_op<T, CRANK_SILU>{});
    else if (kind == CRANK_GELU) columns_run<T, K, 2, 1, 2, false>(stream, c, glu_scaled_op<T, CRANK_GELU>{});
    else columns_run<T, K, 2, 1, 2, false>(stream, c, glu_scaled_op<T, CRANK_GELU_TANH>{});
}
template <typename T, typename K> static void reverse(cudaStream_t stream, const columns_call &c, crank_unary_kind kind)
{
    if (kind == CRANK_SILU) columns_run<T, K, 3, 2, 2, true>(stream, c, glu_scaled_backward_op<T, CRANK_SILU>{});
    else if (kind == CRANK_GELU) columns_run<T, K, 3, 2, 2, true>(stream, c, glu_scaled_backward_op<T, CRANK_GELU>{});
    else columns_run<T, K, 3, 2, 2, true>(stream, c, glu_scaled_backward_op<T, CRANK_GELU_TANH>{});
}

static crank_status run_glu_scaled(crank_context *context, const crank_call *call)
{
    const int        x[] = {0, 2}, k[] = {1, 3};
    crank_unary_kind kind = ((const crank_glu_attributes *)call->attributes)->activation;
    columns_call     c = call_of(call, 2, x, 1, 2, k);
    WITH_FACTOR_TYPE(&call->in[0], &call->in[1], T, K, (forward<T, K>(cuda_stream(call), c, kind));)
    return cuda_launched(context, "glu_scaled");
}

static crank_status run_glu_scaled_backward(crank_context *context, const crank_call *call)
{
    const int        x[] = {0, 1, 3}, k[] = {2, 4};
    crank_unary_kind kind = ((const crank_glu_attributes *)call->attributes)->activation;
    columns_call     c = call_of(call, 3, x, 2, 2, k);
    c.partial = cuda_present(&call->out[2]) || cuda_present(&call->out[3]) ? call->workspace : NULL;
    if (c.n == 0) c.slices = 0;
    WITH_FACTOR_TYPE(&call->in[0], &call->in[2], T, K, (reverse<T, K>(cuda_stream(call), c, kind));
                     (finish<real<T>, K>(cuda_stream(call), c, 0, &call->out[2], NULL)); (finish<real<T>, K>(cuda_stream(call), c, 1, &call->out[3], NULL));)
    return cuda_launched(context, "glu_scaled_backward");
}

/* Factors lie one beside the other; both of a pair have one type (the table sees to it). */
static bool dense_factors(const crank_call *call)
{
    for (int i = 0; i < call->inputs; i++)
        if (call->in[i].rank == 1 && call->in[i].dims[0] > 1 && call->in[i].strides[0] != 1) return false;
    return true;
}

const cuda_entry cuda_columns[] = {
    {"scale_columns", "cuda", run_scale, dense_factors, NULL},
    {"scale_columns_backward", "cuda", run_scale_backward, dense_factors, sums_workspace},
    {"glu_scaled", "cuda", run_glu_scaled, dense_factors, NULL},
    {"glu_scaled_backward", "cuda", run_glu_scaled_backward, dense_factors, sums_workspace},
    {NULL, NULL, NULL, NULL, NULL},
};
