/* spans.cuh - operands of an elementwise call as rows of consecutive elements.
 *
 * Axes that lie behind one another in every operand are merged, so most calls become one long row. A thread handles N consecutive
 * elements of the innermost axis (16 bytes where every operand allows it); the outer axes give the offsets of its row. */
#ifndef CRANK_DEVICE_CUDA_SPANS_CUH
#define CRANK_DEVICE_CUDA_SPANS_CUH

#include "device/cuda/element.cuh"

enum { SPAN_OPERANDS = 6 };

typedef struct spans {
    int     axes, operands;
    int64_t dims[CRANK_MAX_RANK]; /* the last is the innermost */
    int64_t strides[SPAN_OPERANDS][CRANK_MAX_RANK];
    char   *data[SPAN_OPERANDS];
    int64_t count;
} spans;

/* Operands spread over `shape` as in NumPy. */
static inline spans spans_of(const crank_view *shape, int operands, const crank_view *const *views)
{
    spans   s = {0};
    int64_t dims[CRANK_MAX_RANK + 1], strides[SPAN_OPERANDS][CRANK_MAX_RANK + 1];
    int     axes = 0;
    s.operands = operands, s.count = 1;
    for (int axis = 0; axis < shape->rank; axis++) {
        int64_t dim = shape->dims[axis], step[SPAN_OPERANDS];
        s.count *= dim;
        if (dim == 1) continue;
        for (int k = 0; k < operands; k++) {
            int own = axis - (shape->rank - views[k]->rank);
            step[k] = own >= 0 && views[k]->dims[own] != 1 ? views[k]->strides[own] : 0;
        }
        bool merge = axes > 0; /* with the axis before */
        for (int k = 0; k < operands && merge; k++) merge = strides[k][axes - 1] == step[k] * dim;
        if (!merge) axes++;
        dims[axes - 1] = merge ? dims[axes - 1] * dim : dim;
        for (int k = 0; k < operands; k++) strides[k][axes - 1] = step[k];
    }
    if (axes == 0) {
        axes = 1, dims[0] = 1;
        for (int k = 0; k < operands; k++) strides[k][0] = 1;
    }
    s.axes = axes;
    for (int axis = 0; axis < axes; axis++) s.dims[axis] = dims[axis];
    for (int k = 0; k < operands; k++) {
        s.data[k] = (char *)views[k]->data;
        for (int axis = 0; axis < axes; axis++) s.strides[k][axis] = strides[k][axis];
    }
    return s;
}

/* Whether every operand can be read N elements of `size` bytes at a time: its innermost stride is 1 (or 0: one value), and rows start
 * at multiples of N. */
static inline bool spans_packed(const spans *s, size_t size, int n)
{
    if (s->dims[s->axes - 1] % n) return false;
    for (int k = 0; k < s->operands; k++) {
        int64_t inner = s->strides[k][s->axes - 1];
        if (inner != 0 && inner != 1) return false;
        if (inner == 0) continue;
        if ((uintptr_t)s->data[k] % (size * (size_t)n)) return false;
        for (int axis = 0; axis < s->axes - 1; axis++)
            if (s->strides[k][axis] % n) return false;
    }
    return true;
}

/* Offsets of element `i` (row-major) in each operand. */
template <int K> __device__ __forceinline__ void span_offsets(const spans &s, int64_t i, int64_t *offset)
{
#pragma unroll
    for (int k = 0; k < K; k++) offset[k] = 0;
    for (int axis = s.axes - 1; axis > 0; axis--) {
        int64_t dim = s.dims[axis], next, at;
        if (i >> 31) next = i / dim, at = i - next * dim;
        else next = (uint32_t)i / (uint32_t)dim, at = i - next * dim;
        i = next;
#pragma unroll
        for (int k = 0; k < K; k++) offset[k] += at * s.strides[k][axis];
    }
#pragma unroll
    for (int k = 0; k < K; k++) offset[k] += i * s.strides[k][0];
}

/* f(x[IN], y[OUT], i) for every element; operands are the inputs, then the outputs. A NULL operand (absent) is neither read nor
 * written. */
template <int IN, int OUT, int N, typename T, typename F> __global__ void span_kernel(spans s, F f)
{
    int64_t first = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) * N, offset[IN + OUT];
    if (first >= s.count) return;
    span_offsets<IN + OUT>(s, first, offset);
    pack<T> in[IN ? IN : 1], out[OUT];
    bool    one[IN ? IN : 1];
#pragma unroll
    for (int k = 0; k < IN; k++) {
        const T *p = (const T *)s.data[k];
        one[k] = s.strides[k][s.axes - 1] == 0;
        if (!p) continue;
        if (N > 1 && !one[k]) in[k].read(p + offset[k]);
        else in[k].item[0] = p[offset[k]];
    }
#pragma unroll
    for (int e = 0; e < N; e++) {
        real<T> x[IN ? IN : 1], y[OUT];
#pragma unroll
        for (int k = 0; k < IN; k++) x[k] = s.data[k] ? in[k].get(N > 1 && one[k] ? 0 : e) : (real<T>)0;
        f(x, y, first + e);
#pragma unroll
        for (int k = 0; k < OUT; k++) out[k].set(e, y[k]);
    }
#pragma unroll
    for (int k = 0; k < OUT; k++) {
        T *p = (T *)s.data[IN + k];
        if (!p) continue;
        if (N > 1) out[k].write(p + offset[IN + k]);
        else p[offset[IN + k]] = out[k].item[0];
    }
}

/* The same for a matrix of dense rows: a block is 32 threads wide and 8 rows high, a thread walks down its columns. */
template <int IN, int OUT, int N, typename T, typename F> __global__ void span_rows_kernel(spans s, int64_t rows, int64_t columns, F f)
{
    int64_t j = ((int64_t)blockIdx.x * 32 + threadIdx.x) * N;
    if (j >= columns) return;
    for (int64_t i = (int64_t)blockIdx.y * 8 + threadIdx.y; i < rows; i += (int64_t)gridDim.y * 8) {
        pack<T> in[IN ? IN : 1], out[OUT];
#pragma unroll
        for (int k = 0; k < IN; k++)
            if (s.data[k]) in[k].read((const T *)s.data[k] + i * s.strides[k][0] + j);
#pragma unroll
        for (int e = 0; e < N; e++) {
            real<T> x[IN ? IN : 1], y[OUT];
#pragma unroll
            for (int k = 0; k < IN; k++) x[k] = s.data[k] ? in[k].get(e) : (real<T>)0;
            f(x, y, i * columns + j + e);
#pragma unroll
            for (int k = 0; k < OUT; k++) out[k].set(e, y[k]);
        }
#pragma unroll
        for (int k = 0; k < OUT; k++)
            if (s.data[IN + k]) out[k].write((T *)s.data[IN + k] + i * s.strides[IN + k][0] + j);
    }
}

/* Large packed operands whose rows are dense, as a matrix; one long row is cut into many. */
static inline bool spans_rows(spans *s, int64_t *rows, int64_t *columns)
{
    enum { LARGE = 1 << 20, CUT = 2048 };
    if (s->count < LARGE || s->axes > 2 || (s->axes == 1 && s->count % CUT)) return false;
    for (int k = 0; k < s->operands; k++)
        if (s->data[k] && s->strides[k][s->axes - 1] != 1) return false;
    *columns = s->axes == 2 ? s->dims[1] : CUT;
    *rows = s->count / *columns;
    for (int k = 0; s->axes == 1 && k < s->operands; k++) s->strides[k][0] = CUT;
    return true;
}

enum { SPAN_THREADS = 256, SPAN_SLICES = 128 };

template <int IN, int OUT, typename T, typename F> static void spans_run(cudaStream_t stream, const spans &s, F f)
{
    enum { N = pack<T>::N };
    if (s.count == 0) return;
    spans   matrix = s;
    int64_t rows, columns;
    bool    packed = spans_packed(&s, sizeof(T), N);
    if constexpr (sizeof(T) < 8) {
        if (packed && spans_rows(&matrix, &rows, &columns)) {
            dim3 grid((unsigned)((columns + 32 * N - 1) / (32 * N)), (unsigned)(rows / 8 < SPAN_SLICES ? (rows + 7) / 8 : SPAN_SLICES)), block(32, 8);
            span_rows_kernel<IN, OUT, N, T, F><<<grid, block, 0, stream>>>(matrix, rows, columns, f);
            return;
        }
    }
    if (packed)
        span_kernel<IN, OUT, N, T, F><<<blocks_for(s.count / N, SPAN_THREADS), SPAN_THREADS, 0, stream>>>(s, f);
    else span_kernel<IN, OUT, 1, T, F><<<blocks_for(s.count, SPAN_THREADS), SPAN_THREADS, 0, stream>>>(s, f);
}

#endif
