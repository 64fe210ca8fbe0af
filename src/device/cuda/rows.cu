/* rows.cu - softmax and log-softmax over the last axis with their reverse, and rotary positions. */
#include "device/cuda/activation.cuh"
#include "device/cuda/spans.cuh"

/* ---- softmax: one block a row; rows of up to 256 elements take one warp ---- */

typedef struct row_call {
    spans   rows; /* over the leading axes: offsets of each row */
    int64_t c, steps[3];
} row_call;

static row_call rows_of_call(int count, const crank_view *const *views)
{
    row_call   r;
    crank_view heads[3];
    const crank_view *list[3];
    for (int k = 0; k < count; k++) {
        heads[k] = *views[k];
        int axis = heads[k].rank - 1;
        r.c = axis >= 0 ? heads[k].dims[axis] : 1;
        r.steps[k] = axis >= 0 ? heads[k].strides[axis] : 1;
        if (axis >= 0) heads[k].rank = axis;
        list[k] = &heads[k];
    }
    r.rows = spans_of(&heads[0], count, list);
    return r;
}

/* The team of one row: a warp or the block. */
template <typename R, bool WARP> struct team {
    R *cells;
    __device__ __forceinline__ int lane() const { return WARP ? threadIdx.x & 31 : threadIdx.x; }
    __device__ __forceinline__ int size() const { return WARP ? 32 : blockDim.x; }
    __device__ __forceinline__ R   sum(R v) const { return WARP ? warp_sum(v) : block_sum(v, cells); }
    __device__ __forceinline__ R   max(R v) const { return WARP ? warp_max(v) : block_max(v, cells); }
};

template <typename T, bool WARP> __global__ void softmax_kernel(row_call call, bool log_form)
{
    typedef real<T>           R;
    __shared__ R              cells[33];
    team<R, WARP>             t = {cells};
    int64_t                   row = WARP ? (int64_t)blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32 : blockIdx.x, at[2];
    if (row >= call.rows.count) return;
    span_offsets<2>(call.rows, row, at);
    const T *x = (const T *)call.rows.data[0] + at[0];
    T       *y = (T *)call.rows.data[1] + at[1];
    R        most = -(R)INFINITY, sum = 0;
    for (int64_t j = t.lane(); j < call.c; j += t.size()) {
        R v = load(&x[j * call.steps[0]]);
        most = v > most ? v : most;
    }
    most = t.max(most);
    for (int64_t j = t.lane(); j < call.c; j += t.size()) sum += fn_exp(load(&x[j * call.steps[0]]) - most);
    sum = t.sum(sum);
    R shift = log_form ? fn_log(sum) : (R)0, scale = 1 / sum;
    for (int64_t j = t.lane(); j < call.c; j += t.size()) {
        R z = load(&x[j * call.steps[0]]) - most;
        store(&y[j * call.steps[1]], log_form ? z - shift : fn_exp(z) * scale);
    }
}

template <typename T, bool WARP> __global__ void softmax_backward_kernel(row_call call, bool log_form)
{
    typedef real<T> R;
    __shared__ R    cells[33];
    team<R, WARP>   t = {cells};
    int64_t         row = WARP ? (int64_t)blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32 : blockIdx.x, at[3];
    if (row >= call.rows.count) return;
    span_offsets<3>(call.rows, row, at);
    const T *y = (const T *)call.rows.data[0] + at[0], *dy = (const T *)call.rows.data[1] + at[1];
    T       *dx = (T *)call.rows.data[2] + at[2];
    R        sum = 0;
    for (int64_t j = t.lane(); j < call.c; j += t.size()) {
        R d = load(&dy[j * call.steps[1]]);
        sum += log_form ? d : d * load(&y[j * call.steps[0]]);
    }
    sum = t.sum(sum);
    for (int64_t j = t.lane(); j < call.c; j += t.size()) {
        R out = load(&y[j * call.steps[0]]), d = load(&dy[j * call.steps[1]]);
        store(&dx[j * call.steps[2]], log_form ? d - fn_exp(out) * sum : out * (d - sum));
    }
}

static crank_status run_softmax(crank_context *context, const crank_call *call)
{
    bool              log_form = ((const crank_softmax_attributes *)call->attributes)->log;
    const crank_view *views[2] = {&call->in[0], &call->out[0]};
    row_call          r = rows_of_call(2, views);
    if (r.rows.count * r.c == 0) return CRANK_OK;
    WITH_FLOAT_TYPE(call->in[0].dtype, T,
                    if (r.c <= 256) softmax_kernel<T, true><<<blocks_for(r.rows.count, 4), 128, 0, cuda_stream(call)>>>(r, log_form);
                    else softmax_kernel<T, false><<<(unsigned)r.rows.count, 256, 0, cuda_stream(call)>>>(r, log_form);)
    return cuda_launched(context, "softmax");
}

static crank_status run_softmax_backward(crank_context *context, const crank_call *call)
{
    bool              log_form = ((const crank_softmax_attributes *)call->attributes)->log;
    const crank_view *views[3] = {&call->in[0], &call->in[1], &call->out[0]};
    row_call          r = rows_of_call(3, views);
    if (r.rows.count * r.c == 0) return CRANK_OK;
    WITH_FLOAT_TYPE(call->in[0].dtype, T,
                    if (r.c <= 256) softmax_backward_kernel<T, true><<<blocks_for(r.rows.count, 4), 128, 0, cuda_stream(call)>>>(r, log_form);
                    else softmax_backward_kernel<T, false><<<(unsigned)r.rows.count, 256, 0, cuda_stream(call)>>>(r, log_form);)
    return cuda_launched(context, "softmax_backward");
}

/* ---- rope ---- */

typedef struct rope_call {
    const void    *x, *table;
    void          *y;
    const int32_t *positions;
    int64_t        x_token, x_head, y_token, y_head, position_step, table_row, table_rows;
    int            n, heads, d, half;
    bool           interleaved, inverse;
} rope_call;

/* A thread turns N neighbouring pairs of a head, or (past the rotated part) copies N elements. A position outside of the table gives
 * NaN, which the loss check reports. */
template <typename T, int N> __global__ void rope_kernel(rope_call c)
{
    typedef real<T> R;
    int             groups = (c.half + (c.d - 2 * c.half)) / N;
    int64_t         at = (int64_t)blockIdx.x * blockDim.x + threadIdx.x, item = at / groups;
    int             group = (int)(at - item * groups), i = (int)(item / c.heads), h = (int)(item - (int64_t)i * c.heads);
    if (i >= c.n) return;
    const T *x = (const T *)c.x + i * c.x_token + h * c.x_head;
    T       *y = (T *)c.y + i * c.y_token + h * c.y_head;
    int      k = group * N;
    if (k >= c.half) { /* the rest passes */
        int j = 2 * c.half + (k - c.half);
        pack<T> p;
        if (N > 1) p.read(x + j), p.write(y + j);
        else y[j] = x[j];
        return;
    }
    int64_t  position = c.positions[i * c.position_step];
    bool     inside = position >= 0 && position < c.table_rows;
    const R *cosines = (const R *)c.table + (inside ? position : 0) * c.table_row, *sines = cosines + c.half;
    if (c.interleaved) { /* N == 1 */
        R a = load(&x[2 * k]), b = load(&x[2 * k + 1]), cosine = inside ? cosines[k] : (R)NAN, sine = c.inverse ? -sines[k] : sines[k];
        store(&y[2 * k], a * cosine - b * sine);
        store(&y[2 * k + 1], a * sine + b * cosine);
        return;
    }
    pack<T> a, b;
    if (N > 1) a.read(x + k), b.read(x + k + c.half);
    else a.item[0] = x[k], b.item[0] = x[k + c.half];
#pragma unroll
    for (int e = 0; e < N; e++) {
        R first = a.get(e), second = b.get(e), cosine = inside ? cosines[k + e] : (R)NAN, sine = c.inverse ? -sines[k + e] : sines[k + e];
        a.set(e, first * cosine - second * sine);
        b.set(e, first * sine + second * cosine);
    }
    if (N > 1) a.write(y + k), b.write(y + k + c.half);
    else y[k] = a.item[0], y[k + c.half] = b.item[0];
}

template <typename T> static void rope_launch(cudaStream_t stream, const rope_call &c)
{
    enum { N = pack<T>::N };
    bool packed = !c.interleaved && c.half % N == 0 && c.d % N == 0 && c.x_token % N == 0 && c.x_head % N == 0 && c.y_token % N == 0 &&
                  c.y_head % N == 0 && cuda_aligned(c.x, 16) && cuda_aligned(c.y, 16);
    int64_t elements = (int64_t)c.n * c.heads * (c.d - c.half);
    if (packed) rope_kernel<T, N><<<blocks_for(elements / N, 256), 256, 0, stream>>>(c);
    else rope_kernel<T, 1><<<blocks_for(elements, 256), 256, 0, stream>>>(c);
}

static crank_status run_rope(crank_context *context, const crank_call *call)
{
    const crank_rope_attributes *a = (const crank_rope_attributes *)call->attributes;
    const crank_view            *x = &call->in[0], *positions = &call->in[1], *table = &call->in[2], *y = &call->out[0];
    rope_call                    c = {x->data, table->data, y->data, (const int32_t *)positions->data, x->strides[0], x->strides[1], y->strides[0],
                                      y->strides[1], positions->strides[0], table->strides[0], table->dims[0], (int)x->dims[0], (int)x->dims[1],
                                      (int)x->dims[2], (int)(table->dims[1] / 2), a->interleaved, a->inverse};
    if (crank_view_count(x) == 0) return CRANK_OK;
    WITH_FLOAT_TYPE(x->dtype, T, rope_launch<T>(cuda_stream(call), c);)
    return cuda_launched(context, "rope");
}

const cuda_entry cuda_rows[] = {
    {"softmax", "cuda", run_softmax, NULL, NULL},
    {"softmax_backward", "cuda", run_softmax_backward, NULL, NULL},
    {"rope", "cuda", run_rope, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};
