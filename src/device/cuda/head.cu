/* head.cu - log-probabilities and cross-entropy over a vocabulary, and their reverses, a chunk of rows at a time.
 *
 *     z = x w^T + bias;  lse_i = log sum_v e^z_iv;  logp_i = z_i,target - lse_i;  c_iv = [v = target_i] - e^(z_iv - lse_i)
 *     dx_i = a_i sum_v c_iv w_v;  dw_v = sum_i a_i c_iv x_i;  dbias_v = sum_i a_i c_iv
 *
 * a_i is -weight_i for the cross-entropy, d logp_i for the reverse of log-probabilities and 1 for `unit`. A chunk's logits are one
 * product, one kernel turns them into a c in place, two more products give the gradients. head_logprob keeps its logits in f32; where a
 * gradient is wanted from 16-bit operands the logits are 16-bit too, as the products that follow read them. */
#include "device/cuda/activation.cuh"
#include "device/cuda/product.h"

enum { THREADS = 512 };

typedef struct head {
    const crank_view *x, *w, *bias, *targets; /* [n,d], [V,d], [V] or absent, [n] */
    int64_t           n, d, V, stride, rows;  /* elements from row to row of the logits, rows of a chunk */
} head;

static size_t size_of(crank_dtype dtype) { return crank_dtype_bits(dtype) / 8; }
static size_t rounded_up(size_t bytes) { return (bytes + 255) / 256 * 256; }

static int64_t rows_of_chunk(const crank_call *call, int64_t n, int64_t V, size_t size)
{
    int64_t chunk = ((const crank_head_attributes *)call->attributes)->chunk;
    if (chunk <= 0) {
        chunk = (int64_t)((size_t)512 << 20) / (V > 0 ? V * (int64_t)size : 1);
        chunk = chunk >= 256 ? chunk / 256 * 256 : chunk < 1 ? 1 : chunk;
    }
    return chunk < n ? chunk : n ? n : 1;
}

static head head_of(const crank_call *call, int x, size_t size)
{
    head h = {&call->in[x], &call->in[x + 1], &call->in[x + 2], &call->in[x + 3]};
    h.n = h.x->dims[0], h.d = h.x->dims[1], h.V = h.w->dims[0], h.stride = (h.V + 63) / 64 * 64;
    h.rows = rows_of_chunk(call, h.n, h.stride, size);
    return h;
}

/* What the kernel of one chunk reads and writes; pointers to row 0 of the chunk. */
typedef struct rows_call {
    const void    *logits;
    void          *coefficients; /* NULL: none wanted; may be the logits */
    const int32_t *targets;
    int64_t        target_step, V, stride;
    const void    *factors; /* a_i; NULL: 1 */
    int64_t        factor_step;
    void          *lse, *logp; /* written when lse_given is false; lse may be NULL */
    int64_t        lse_step, logp_step;
    bool           lse_given;
    double         sign;
} rows_call;

/* Z: type of the logits, C: of the coefficients. One block a row; N logits a thread at a time. */
template <typename Z, typename C, int N> __global__ void __launch_bounds__(THREADS) rows_kernel(rows_call c)
{
    typedef real<Z> R;
    __shared__ R    cells[33];
    int64_t         i = blockIdx.x, target = c.targets[i * c.target_step];
    const Z        *z = (const Z *)c.logits + i * c.stride;
    bool            aimed = target >= 0 && target < c.V;
    R               lse;
    if (c.lse_given) {
        lse = ((const R *)c.lse)[i * c.lse_step];
    } else {
        R most = -(R)INFINITY, sum = 0;
        for (int64_t j = (int64_t)threadIdx.x * N; j < c.V; j += (int64_t)THREADS * N) {
            pack<Z> p;
            if (N > 1) p.read(z + j);
            else p.item[0] = z[j];
            R top = p.get(0);
#pragma unroll
            for (int e = 1; e < N; e++) top = p.get(e) > top ? p.get(e) : top;
            if (top > most) sum *= fn_exp(most - top), most = top;
#pragma unroll
            for (int e = 0; e < N; e++) sum += p.get(e) == -(R)INFINITY ? (R)0 : fn_exp(p.get(e) - most);
        }
        R all = block_max(most, cells);
        sum = block_sum(most == -(R)INFINITY ? sum : sum * fn_exp(most - all), cells);
        lse = all + fn_log(sum);
        if (threadIdx.x == 0) {
            ((R *)c.logp)[i * c.logp_step] = aimed ? load(&z[target]) - lse : (R)0;
            if (c.lse) ((R *)c.lse)[i * c.lse_step] = lse;
        }
        __syncthreads(); /* the target's logit is read before it is written over */
    }
    if (!c.coefficients) return;
    C *out = (C *)c.coefficients + i * c.stride;
    R  factor = aimed ? (R)c.sign * (c.factors ? ((const R *)c.factors)[i * c.factor_step] : (R)1) : (R)0;
    for (int64_t j = (int64_t)threadIdx.x * N; j < c.V; j += (int64_t)THREADS * N) {
        pack<Z> p;
        pack<C> q[sizeof(C) * N > 16 ? 2 : 1];
        if (N > 1) p.read(z + j);
        else p.item[0] = z[j];
#pragma unroll
        for (int e = 0; e < N; e++) {
            R value = factor == 0 ? (R)0 : factor * ((R)(j + e == target) - fn_exp(p.get(e) - lse));
            if (N > 1) q[e / pack<C>::N].set(e % pack<C>::N, value);
            else store(&out[j], value);
        }
        if (sizeof(C) == sizeof(Z) && N > 1) q[0].write(out + j);
        else if (N > 1)
#pragma unroll
            for (int e = 0; e < N; e++) out[j + e] = q[e / pack<C>::N].item[e % pack<C>::N];
    }
}

template <typename Z, typename C> static void rows_launch(cudaStream_t stream, int64_t rows, const rows_call &c)
{
    enum { N = pack<Z>::N };
    if (c.V % N == 0) rows_kernel<Z, C, N><<<(unsigned)rows, THREADS, 0, stream>>>(c);
    else rows_kernel<Z, C, 1><<<(unsigned)rows, THREADS, 0, stream>>>(c);
}

static void rows_run(cudaStream_t stream, int64_t rows, crank_dtype z, crank_dtype c, const rows_call *call)
{
    if (z == CRANK_F32 && c == CRANK_BF16) rows_launch<float, bf16>(stream, rows, *call);
    else if (z == CRANK_F32 && c == CRANK_F16) rows_launch<float, f16>(stream, rows, *call);
    else {
        WITH_FLOAT_TYPE(z, T, (rows_launch<T, T>(stream, rows, *call));)
    }
}

static crank_view rows_of(const crank_view *view, int64_t first, int64_t rows)
{
    crank_view part = *view;
    part.dims[0] = rows;
    part.data = (char *)view->data + first * view->strides[0] * (int64_t)size_of(view->dtype);
    return part;
}

/* Rows of logits start at multiples of 64 elements, so that any vocabulary is multiplied at full speed. */
static crank_view logits_view(void *data, crank_dtype dtype, const int64_t *dims, int64_t stride)
{
    crank_view view = crank_view_make(data, dtype, 2, dims);
    view.strides[0] = stride;
    return view;
}

static const crank_view absent = {NULL, CRANK_F32, -1, {0}, {0}};

static crank_status multiply(crank_context *context, const crank_call *call, void *workspace, const crank_view *a, bool trans_a, const crank_view *b,
                             bool trans_b, const crank_view *bias, const crank_view *c, bool add)
{
    product      p = product_make(a, trans_a, b, trans_b, bias, add ? c : &absent, c);
    product_data data = {a->data, b->data, cuda_present(bias) ? bias->data : NULL, add ? c->data : NULL, c->data, workspace, 1};
    return product_run(context, cuda_of(call), &p, &data);
}

/* z[i, :] += bias, where the bias is of another type than the logits */
template <typename Z> __global__ void add_bias_kernel(Z *z, const void *bias, crank_dtype type, int64_t step, int64_t V, int64_t stride)
{
    int64_t j = (int64_t)blockIdx.y * blockDim.x + threadIdx.x;
    if (j >= V) return;
    Z *at = z + (int64_t)blockIdx.x * stride + j;
    store(at, load(at) + (real<Z>)read_any(bias, type, j * step));
}

static crank_status logits_of(crank_context *context, const crank_call *call, const head *h, int64_t first, int64_t rows, const crank_view *z, void *workspace)
{
    crank_view   x = rows_of(h->x, first, rows);
    bool         own = cuda_present(h->bias) && h->bias->dtype == z->dtype && h->bias->strides[0] == 1;
    crank_status status = multiply(context, call, workspace, &x, false, h->w, true, own ? h->bias : &absent, z, false);
    if (status == CRANK_OK && cuda_present(h->bias) && !own) {
        dim3 grid((unsigned)rows, blocks_for(h->V, 256));
        WITH_FLOAT_TYPE(z->dtype, T,
                        (add_bias_kernel<T><<<grid, 256, 0, cuda_stream(call)>>>((T *)z->data, h->bias->data, h->bias->dtype, h->bias->strides[0], h->V, h->stride));)
        status = cuda_launched(context, "head bias");
    }
    return status;
}

/* sums[v] (+)= sum_i c[i, v]; the last chunk writes dbias. */
template <typename C> __global__ void bias_kernel(const C *c, int64_t rows, int64_t V, int64_t stride, real<C> *sums, bool first, bool last, void *out, crank_dtype type, int64_t step)
{
    typedef real<C> R;
    __shared__ R    cells[8][33];
    int64_t         j = (int64_t)blockIdx.x * 32 + threadIdx.x;
    R               sum = 0;
    for (int64_t i = threadIdx.y; i < rows && j < V; i += 8) sum += load(&c[i * stride + j]);
    cells[threadIdx.y][threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.y || j >= V) return;
    for (int k = 1; k < 8; k++) sum += cells[k][threadIdx.x];
    if (!first) sum += sums[j];
    sums[j] = sum;
    if (last) write_any(out, type, j * step, (double)sum);
}

/* dx, dw, dbias of one chunk from its coefficients. */
static crank_status gradients(crank_context *context, const crank_call *call, const head *h, int64_t first, int64_t rows, const crank_view *c,
                              const crank_view *dx, const crank_view *dw, const crank_view *dbias, void *sums, void *workspace)
{
    crank_status status = CRANK_OK;
    if (cuda_present(dx)) {
        crank_view part = rows_of(dx, first, rows);
        status = multiply(context, call, workspace, c, false, h->w, false, &absent, &part, false);
    }
    if (status == CRANK_OK && cuda_present(dw)) {
        crank_view x = rows_of(h->x, first, rows);
        status = multiply(context, call, workspace, c, true, &x, false, &absent, dw, first > 0);
    }
    if (status == CRANK_OK && cuda_present(dbias)) {
        dim3 block(32, 8);
        WITH_FLOAT_TYPE(c->dtype, T,
                        (bias_kernel<T><<<blocks_for(h->V, 32), block, 0, cuda_stream(call)>>>((const T *)c->data, rows, h->V, h->stride, (real<T> *)sums, first == 0,
                                                                                              first + rows >= h->n, dbias->data, dbias->dtype, dbias->strides[0]));)
        status = cuda_launched(context, "head bias gradient");
    }
    return status;
}

typedef struct areas {
    char *product, *logits, *coefficients, *sums;
} areas;

/* Workspace: the product's, logits, coefficients of another type, sums of dbias. */
static size_t layout_areas(const head *h, crank_dtype z, crank_dtype c, bool sums, void *memory, areas *out)
{
    size_t at = PRODUCT_WORKSPACE, logits = rounded_up((size_t)(h->rows * h->stride) * size_of(z));
    areas  a;
    a.product = (char *)memory;
    a.logits = (char *)memory + at;
    at += logits;
    a.coefficients = c == z ? a.logits : (char *)memory + at;
    if (c != z) at += rounded_up((size_t)(h->rows * h->stride) * size_of(c));
    a.sums = (char *)memory + at;
    if (sums) at += (size_t)h->V * 8;
    if (out) *out = a;
    return at;
}

/* ---- head_logprob ---- */

static crank_dtype wide_of(crank_dtype dtype) { return dtype == CRANK_F64 ? CRANK_F64 : CRANK_F32; }

static size_t logprob_workspace(const crank_call *call)
{
    crank_dtype type = call->in[0].dtype, z = wide_of(type);
    head        h = head_of(call, 0, size_of(z));
    return layout_areas(&h, z, cuda_present(&call->out[2]) ? type : z, false, NULL, NULL);
}

static void *step_in(const crank_view *view, int64_t first)
{
    return cuda_present(view) ? (char *)view->data + first * view->strides[0] * (int64_t)size_of(view->dtype) : NULL;
}

static crank_status run_logprob(crank_context *context, const crank_call *call)
{
    const crank_view *logp = &call->out[0], *lse = &call->out[1], *unit = &call->out[2];
    crank_dtype       type = call->in[0].dtype, z_type = wide_of(type), c_type = cuda_present(unit) ? type : z_type;
    head              h = head_of(call, 0, size_of(z_type));
    areas             a;
    layout_areas(&h, z_type, c_type, false, call->workspace, &a);
    for (int64_t first = 0; first < h.n; first += h.rows) {
        int64_t      rows = h.n - first < h.rows ? h.n - first : h.rows, dims[2] = {rows, h.V};
        crank_view   z = logits_view(a.logits, z_type, dims, h.stride), c = logits_view(a.coefficients, c_type, dims, h.stride);
        crank_status status = logits_of(context, call, &h, first, rows, &z, a.product);
        if (status != CRANK_OK) return status;
        rows_call r = {z.data, cuda_present(unit) ? c.data : NULL, (const int32_t *)step_in(h.targets, first), h.targets->strides[0], h.V, h.stride, NULL, 0,
                       step_in(lse, first), step_in(logp, first), lse->strides[0], logp->strides[0], false, 1};
        rows_run(cuda_stream(call), rows, z_type, c_type, &r);
        status = cuda_launched(context, "log-probabilities");
        if (status == CRANK_OK) status = gradients(context, call, &h, first, rows, &c, unit, &absent, &absent, NULL, a.product);
        if (status != CRANK_OK) return status;
    }
    return CRANK_OK;
}

/* ---- head_logprob_backward and head_cross_entropy ---- */

static size_t gradient_workspace(const crank_call *call, int x, const crank_view *dbias)
{
    crank_dtype type = call->in[x].dtype;
    head        h = head_of(call, x, size_of(type));
    return layout_areas(&h, type, type, cuda_present(dbias), NULL, NULL);
}
static size_t logprob_backward_workspace(const crank_call *call) { return gradient_workspace(call, 1, &call->out[2]); }
static size_t cross_entropy_workspace(const crank_call *call) { return gradient_workspace(call, 0, &call->out[4]); }

static crank_status run_logprob_backward(crank_context *context, const crank_call *call)
{
    const crank_view *dlogp = &call->in[0], *lse = &call->in[5];
    crank_dtype       type = call->in[1].dtype;
    head              h = head_of(call, 1, size_of(type));
    areas             a;
    layout_areas(&h, type, type, true, call->workspace, &a);
    for (int64_t first = 0; first < h.n; first += h.rows) {
        int64_t      rows = h.n - first < h.rows ? h.n - first : h.rows, dims[2] = {rows, h.V};
        crank_view   z = logits_view(a.logits, type, dims, h.stride);
        crank_status status = logits_of(context, call, &h, first, rows, &z, a.product);
        if (status != CRANK_OK) return status;
        rows_call r = {z.data, z.data, (const int32_t *)step_in(h.targets, first), h.targets->strides[0], h.V, h.stride, step_in(dlogp, first), dlogp->strides[0],
                       step_in(lse, first), NULL, lse->strides[0], 0, true, 1};
        rows_run(cuda_stream(call), rows, type, type, &r);
        status = cuda_launched(context, "log-probabilities");
        if (status == CRANK_OK) status = gradients(context, call, &h, first, rows, &z, &call->out[0], &call->out[1], &call->out[2], a.sums, a.product);
        if (status != CRANK_OK) return status;
    }
    return CRANK_OK;
}

template <typename R> __global__ void numerator_kernel(const R *logp, int64_t logp_step, const R *weights, int64_t step, int64_t n, R *out)
{
    __shared__ double cells[33];
    double            sum = 0;
    for (int64_t i = threadIdx.x; i < n; i += blockDim.x) {
        double weight = weights[i * step];
        if (weight != 0) sum -= weight * logp[i * logp_step];
    }
    sum = block_sum(sum, cells);
    if (threadIdx.x == 0) *out = (R)sum;
}

static crank_status run_cross_entropy(crank_context *context, const crank_call *call)
{
    const crank_view *weights = &call->in[4], *numerator = &call->out[0], *logp = &call->out[1], *dx = &call->out[2], *dw = &call->out[3], *dbias = &call->out[4];
    crank_dtype       type = call->in[0].dtype;
    head              h = head_of(call, 0, size_of(type));
    bool              reverse = cuda_present(dx) || cuda_present(dw) || cuda_present(dbias);
    areas             a;
    layout_areas(&h, type, type, true, call->workspace, &a);
    for (int64_t first = 0; first < h.n; first += h.rows) {
        int64_t      rows = h.n - first < h.rows ? h.n - first : h.rows, dims[2] = {rows, h.V};
        crank_view   z = logits_view(a.logits, type, dims, h.stride);
        crank_status status = logits_of(context, call, &h, first, rows, &z, a.product);
        if (status != CRANK_OK) return status;
        rows_call r = {z.data, reverse ? z.data : NULL, (const int32_t *)step_in(h.targets, first), h.targets->strides[0], h.V, h.stride, step_in(weights, first),
                       weights->strides[0], NULL, step_in(logp, first), 0, logp->strides[0], false, -1};
        rows_run(cuda_stream(call), rows, type, type, &r);
        status = cuda_launched(context, "cross-entropy");
        if (status == CRANK_OK && reverse) status = gradients(context, call, &h, first, rows, &z, dx, dw, dbias, a.sums, a.product);
        if (status != CRANK_OK) return status;
    }
    if (type == CRANK_F64)
        numerator_kernel<double><<<1, 1024, 0, cuda_stream(call)>>>((const double *)logp->data, logp->strides[0], (const double *)weights->data, weights->strides[0],
                                                                   h.n, (double *)numerator->data);
    else
        numerator_kernel<float><<<1, 1024, 0, cuda_stream(call)>>>((const float *)logp->data, logp->strides[0], (const float *)weights->data, weights->strides[0],
                                                                  h.n, (float *)numerator->data);
    return cuda_launched(context, "cross-entropy");
}

const cuda_entry cuda_head[] = {
    {"head_logprob", "cuda", run_logprob, NULL, logprob_workspace},
    {"head_logprob_backward", "cuda", run_logprob_backward, NULL, logprob_backward_workspace},
    {"head_cross_entropy", "cuda", run_cross_entropy, NULL, cross_entropy_workspace},
    {NULL, NULL, NULL, NULL, NULL},
};
