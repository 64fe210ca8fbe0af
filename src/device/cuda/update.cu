/* update.cu - operations that change parameters and step scalars: adamw, adamw8bit, sgd, lion, assign, clip_scale, check_finite.
 *
 * The step's scalars are read on the device, so a captured run sees those of each step. */
#include "base/philox.h"
#include "device/cuda/spans.cuh"
extern "C" {
#include "tensor/dynamic_map.h"
}

/* Stochastic rounding of a bf16 parameter: element i uses the high 16 bits of draw step * 2^34 + i of (seed, ROUNDING, index). */
typedef struct rounding {
    uint32_t key0, key1, index;
} rounding;

__device__ __forceinline__ uint32_t draw_bits(const rounding &r, uint64_t draw)
{
    uint64_t block = draw >> 2;
    uint32_t c0 = (uint32_t)block, c1 = (uint32_t)(block >> 32), c2 = CRANK_RANDOM_ROUNDING, c3 = r.index;
    philox_rounds(&c0, &c1, &c2, &c3, r.key0, r.key1);
    return (draw & 2) ? (draw & 1 ? c3 : c2) : (draw & 1 ? c1 : c0);
}

__device__ __forceinline__ void put_weight(float *w, float v, const rounding &, uint64_t, int64_t) { *w = v; }
__device__ __forceinline__ void put_weight(double *w, double v, const rounding &, uint64_t, int64_t) { *w = v; }
__device__ __forceinline__ void put_weight(f16 *w, float v, const rounding &, uint64_t, int64_t) { store(w, v); }
__device__ __forceinline__ void put_weight(bf16 *w, float v, const rounding &r, uint64_t step, int64_t i)
{
    if (!isfinite(v)) {
        store(w, v);
        return;
    }
    uint32_t bits = __float_as_uint(v) + (draw_bits(r, (step << 34) + (uint64_t)i) >> 16);
    *(uint16_t *)w = (uint16_t)(bits >> 16);
}

static rounding rounding_of(uint64_t seed, uint32_t index) { return (rounding){(uint32_t)seed, (uint32_t)(seed >> 32), index}; }

/* ---- adamw, sgd, lion: operands w, g, states; all strides ---- */

typedef struct adam_call {
    double   beta1, beta2, epsilon, decay, rate_factor;
    bool     l2;
    rounding draws;
    const float *scalars;
} adam_call;

template <typename W, typename G> __global__ void adamw_kernel(spans s, adam_call c)
{
    typedef real<W> R;
    __shared__ R    shared[2];
    if (c.scalars[CRANK_SCALAR_SKIP] != 0) return;
    if (threadIdx.x == 0) {
        double count = c.scalars[CRANK_SCALAR_STEP];
        shared[0] = (R)(1 - pow(c.beta1, count));
        shared[1] = (R)(1 - pow(c.beta2, count));
    }
    __syncthreads();
    int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x, at[4];
    if (i >= s.count) return;
    span_offsets<4>(s, i, at);
    W *w = (W *)s.data[0] + at[0];
    R *m = (R *)s.data[2] + at[2], *v = (R *)s.data[3] + at[3];
    R  rate = (R)((double)c.scalars[CRANK_SCALAR_RATE] * c.rate_factor), weight = load(w);
    R  g = (R)c.scalars[CRANK_SCALAR_CLIP] * (R)load((const G *)s.data[1] + at[1]);
    if (c.l2) g += (R)c.decay * weight;
    else weight -= rate * (R)c.decay * weight;
    R first = (R)c.beta1 * *m + (R)(1 - c.beta1) * g, second = (R)c.beta2 * *v + (R)(1 - c.beta2) * g * g;
    *m = first, *v = second;
    weight -= rate * (first / shared[0]) / (sqrt(second / shared[1]) + (R)c.epsilon);
    put_weight(w, weight, c.draws, (uint64_t)c.scalars[CRANK_SCALAR_STEP], i);
}

/* Four neighbours at a time: f32 moments, all operands contiguous. */
template <typename W, typename G> __global__ void adamw_packed_kernel(W *w, const G *g, float *m, float *v, int64_t count, adam_call c)
{
    __shared__ float shared[2];
    if (c.scalars[CRANK_SCALAR_SKIP] != 0) return;
    if (threadIdx.x == 0) {
        double step = c.scalars[CRANK_SCALAR_STEP];
        shared[0] = (float)(1 - pow(c.beta1, step));
        shared[1] = (float)(1 - pow(c.beta2, step));
    }
    __syncthreads();
    int64_t i = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) * 4;
    if (i >= count) return;
    struct alignas(4 * sizeof(W)) four_w { W item[4]; } weights = *(const four_w *)(w + i);
    struct alignas(4 * sizeof(G)) four_g { G item[4]; } gradients = *(const four_g *)(g + i);
    float4 ms = *(const float4 *)(m + i), vs = *(const float4 *)(v + i);
    float  rate = (float)((double)c.scalars[CRANK_SCALAR_RATE] * c.rate_factor), clip = c.scalars[CRANK_SCALAR_CLIP];
    float  correct1 = shared[0], correct2 = shared[1], *pm = &ms.x, *pv = &vs.x;
    uint64_t step = (uint64_t)c.scalars[CRANK_SCALAR_STEP];
#pragma unroll
    for (int e = 0; e < 4; e++) {
        float weight = load(&weights.item[e]), gradient = clip * load(&gradients.item[e]);
        if (c.l2) gradient += (float)c.decay * weight;
        else weight -= rate * (float)c.decay * weight;
        pm[e] = (float)c.beta1 * pm[e] + (float)(1 - c.beta1) * gradient;
        pv[e] = (float)c.beta2 * pv[e] + (float)(1 - c.beta2) * gradient * gradient;
        weight -= rate * (pm[e] / correct1) / (sqrtf(pv[e] / correct2) + (float)c.epsilon);
        put_weight(&weights.item[e], weight, c.draws, step, i + e);
    }
    *(four_w *)(w + i) = weights;
    *(float4 *)(m + i) = ms, *(float4 *)(v + i) = vs;
}

#define SPANS_OF(s, shape, ...)                                                                                                             \
    const crank_view *s##_views[] = {__VA_ARGS__};                                                                                          \
    spans             s = spans_of(shape, (int)(sizeof s##_views / sizeof *s##_views), s##_views)

/* Kernels for W and a gradient that is W or f32. */
#define WITH_WEIGHT_TYPES(w, g, W, G, ...)                                                                                                  \
    if ((g)->dtype == (w)->dtype) {                                                                                                         \
        WITH_FLOAT_TYPE((w)->dtype, W, { typedef W G; __VA_ARGS__ })                                                                        \
    } else {                                                                                                                                \
        WITH_FLOAT_TYPE((w)->dtype, W, { typedef float G; __VA_ARGS__ })                                                                    \
    }

static bool contiguous(int count, const crank_view *const *views)
{
    for (int k = 0; k < count; k++)
        if (!crank_view_is_contiguous(views[k]) || !cuda_aligned(views[k]->data, 4 * crank_dtype_bits(views[k]->dtype) / 8)) return false;
    return crank_view_count(views[0]) % 4 == 0;
}

template <typename W, typename G> static void adamw_packed(cudaStream_t stream, const spans &s, const adam_call &c)
{
    adamw_packed_kernel<W, G><<<blocks_for(s.count / 4, 256), 256, 0, stream>>>((W *)s.data[0], (const G *)s.data[1], (float *)s.data[2],
                                                                               (float *)s.data[3], s.count, c);
}

static crank_status run_adamw(crank_context *context, const crank_call *call)
{
    const crank_adam_attributes *a = (const crank_adam_attributes *)call->attributes;
    const crank_view            *w = &call->in[0], *g = &call->in[1];
    adam_call c = {a->beta1, a->beta2, a->epsilon, a->decay, a->rate_factor, a->l2, rounding_of(a->seed, a->index), (const float *)call->in[4].data};
    SPANS_OF(s, w, w, g, &call->in[2], &call->in[3]);
    if (s.count == 0) return CRANK_OK;
    cudaStream_t stream = cuda_stream(call);
    bool         packed = w->dtype != CRANK_F64 && w->dtype != CRANK_F16 && contiguous(4, s_views);
    if (packed && w->dtype == CRANK_F32) adamw_packed<float, float>(stream, s, c);
    else if (packed && g->dtype == CRANK_F32) adamw_packed<bf16, float>(stream, s, c);
    else if (packed) adamw_packed<bf16, bf16>(stream, s, c);
    else {
        WITH_WEIGHT_TYPES(w, g, W, G, adamw_kernel<W, G><<<blocks_for(s.count, 256), 256, 0, stream>>>(s, c);)
    }
    return cuda_launched(context, "adamw");
}

typedef struct sgd_call {
    double   momentum, dampening, decay, rate_factor;
    bool     nesterov;
    rounding draws;
    const float *scalars;
} sgd_call;

template <typename W, typename G> __global__ void sgd_kernel(spans s, sgd_call c)
{
    typedef real<W> R;
    int64_t         i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x, at[3];
    if (i >= s.count || c.scalars[CRANK_SCALAR_SKIP] != 0) return;
    span_offsets<3>(s, i, at);
    W *w = (W *)s.data[0] + at[0];
    R  weight = load(w), move = (R)c.scalars[CRANK_SCALAR_CLIP] * (R)load((const G *)s.data[1] + at[1]) + (R)c.decay * weight;
    if (s.data[2]) {
        R *buffer = (R *)s.data[2] + at[2], kept = move;
        if (c.scalars[CRANK_SCALAR_STEP] > 1) kept = (R)c.momentum * *buffer + (R)(1 - c.dampening) * move;
        *buffer = kept;
        move = c.nesterov ? move + (R)c.momentum * kept : kept;
    }
    R rate = (R)((double)c.scalars[CRANK_SCALAR_RATE] * c.rate_factor);
    put_weight(w, weight - rate * move, c.draws, (uint64_t)c.scalars[CRANK_SCALAR_STEP], i);
}

static crank_status run_sgd(crank_context *context, const crank_call *call)
{
    const crank_sgd_attributes *a = (const crank_sgd_attributes *)call->attributes;
    const crank_view           *w = &call->in[0], *g = &call->in[1];
    crank_view                  buffer = call->in[2];
    sgd_call c = {a->momentum, a->dampening, a->decay, a->rate_factor, a->nesterov, rounding_of(a->seed, a->index), (const float *)call->in[3].data};
    if (!cuda_present(&buffer)) buffer = *w, buffer.data = NULL;
    SPANS_OF(s, w, w, g, &buffer);
    if (s.count == 0) return CRANK_OK;
    WITH_WEIGHT_TYPES(w, g, W, G, sgd_kernel<W, G><<<blocks_for(s.count, 256), 256, 0, cuda_stream(call)>>>(s, c);)
    return cuda_launched(context, "sgd");
}

typedef struct lion_call {
    double   beta1, beta2, decay, rate_factor;
    rounding draws;
    const float *scalars;
} lion_call;

template <typename W, typename G> __global__ void lion_kernel(spans s, lion_call c)
{
    typedef real<W> R;
    int64_t         i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x, at[3];
    if (i >= s.count || c.scalars[CRANK_SCALAR_SKIP] != 0) return;
    span_offsets<3>(s, i, at);
    W *w = (W *)s.data[0] + at[0];
    R *m = (R *)s.data[2] + at[2], weight = load(w), g = (R)c.scalars[CRANK_SCALAR_CLIP] * (R)load((const G *)s.data[1] + at[1]), moment = *m;
    R  direction = (R)c.beta1 * moment + (R)(1 - c.beta1) * g, sign = direction > 0 ? (R)1 : direction < 0 ? (R)-1 : direction;
    R  rate = (R)((double)c.scalars[CRANK_SCALAR_RATE] * c.rate_factor);
    *m = (R)c.beta2 * moment + (R)(1 - c.beta2) * g;
    put_weight(w, weight - rate * ((R)c.decay * weight + sign), c.draws, (uint64_t)c.scalars[CRANK_SCALAR_STEP], i);
}

static crank_status run_lion(crank_context *context, const crank_call *call)
{
    const crank_lion_attributes *a = (const crank_lion_attributes *)call->attributes;
    const crank_view            *w = &call->in[0], *g = &call->in[1];
    lion_call                    c = {a->beta1, a->beta2, a->decay, a->rate_factor, rounding_of(a->seed, a->index), (const float *)call->in[3].data};
    SPANS_OF(s, w, w, g, &call->in[2]);
    if (s.count == 0) return CRANK_OK;
    WITH_WEIGHT_TYPES(w, g, W, G, lion_kernel<W, G><<<blocks_for(s.count, 256), 256, 0, cuda_stream(call)>>>(s, c);)
    return cuda_launched(context, "lion");
}

/* ---- 8-bit AdamW: one block of threads for 256 elements ---- */

typedef struct code_maps {
    float map[2][256]; /* signed for m, unsigned for v */
} code_maps;
__constant__ code_maps device_maps;

/* The code whose value is nearest; the lower of a tie; NaN gives the code of 0. */
__device__ __forceinline__ int nearest(const float *map, float x)
{
    int below = 0, above = 255;
    if (x != x) x = 0;
    while (above - below > 1) {
        int middle = (below + above) / 2;
        if (map[middle] <= x) below = middle;
        else above = middle;
    }
    return x > 0.5f * (map[below] + map[above]) ? above : below;
}
__device__ __forceinline__ int nearest_signed(const float *map, float x)
{
    int code = nearest(map, x);
    if (x == 0 || x != x || !signbit(map[code]) == !signbit(x)) return code;
    return x > 0 ? code + 1 : code - 1;
}

typedef struct adam8_call {
    adam_call adam;
    uint8_t  *codes_m, *codes_v;
    void     *amax_m, *amax_v;
    int64_t   amax_m_step, amax_v_step, n;
} adam8_call;

template <typename W, typename G> __global__ void adamw8bit_kernel(W *w, const G *gradients, adam8_call c)
{
    typedef real<W>  R;
    __shared__ float maps[2][256];
    __shared__ R     cells[33], correct[2];
    const adam_call &a = c.adam;
    if (a.scalars[CRANK_SCALAR_SKIP] != 0) return;
    int     t = threadIdx.x;
    int64_t block = blockIdx.x, i = block * 256 + t;
    maps[0][t] = device_maps.map[0][t], maps[1][t] = device_maps.map[1][t];
    if (t == 0) {
        double step = a.scalars[CRANK_SCALAR_STEP];
        correct[0] = (R)(1 - pow(a.beta1, step)), correct[1] = (R)(1 - pow(a.beta2, step));
    }
    __syncthreads();
    R  m = 0, v = 0, *amax_m = (R *)c.amax_m + block * c.amax_m_step, *amax_v = (R *)c.amax_v + block * c.amax_v_step, old_m = *amax_m, old_v = *amax_v;
    if (i < c.n) {
        R weight = load(&w[i]), g = (R)a.scalars[CRANK_SCALAR_CLIP] * (R)load(&gradients[i]);
        if (isfinite((float)g)) { /* else this element forgets and stays where it is */
            R rate = (R)((double)a.scalars[CRANK_SCALAR_RATE] * a.rate_factor);
            if (a.l2) g += (R)a.decay * weight;
            m = (R)a.beta1 * maps[0][c.codes_m[i]] * old_m + (R)(1 - a.beta1) * g;
            v = (R)a.beta2 * maps[1][c.codes_v[i]] * old_v + (R)(1 - a.beta2) * g * g;
            weight -= rate * (m / correct[0]) / (sqrt(v / correct[1]) + (R)a.epsilon);
            if (!a.l2) weight *= 1 - rate * (R)a.decay;
            put_weight(&w[i], weight, a.draws, (uint64_t)a.scalars[CRANK_SCALAR_STEP], i);
        }
    }
    R most_m = block_max(m < 0 ? -m : m, cells), most_v = block_max(v, cells);
    if (t == 0) *amax_m = most_m, *amax_v = most_v;
    if (i < c.n) {
        c.codes_m[i] = (uint8_t)(most_m > 0 ? nearest_signed(maps[0], (float)(m / most_m)) : 127);
        c.codes_v[i] = (uint8_t)(most_v > 0 ? nearest(maps[1], (float)(v / most_v)) : 0);
    }
}

static crank_status run_adamw8bit(crank_context *context, const crank_call *call)
{
    const crank_adam_attributes *a = (const crank_adam_attributes *)call->attributes;
    const crank_view            *w = &call->in[0], *g = &call->in[1];
    adam8_call c = {{a->beta1, a->beta2, a->epsilon, a->decay, a->rate_factor, a->l2, rounding_of(a->seed, a->index), (const float *)call->in[6].data},
                    (uint8_t *)call->in[2].data, (uint8_t *)call->in[3].data, call->in[4].data, call->in[5].data, call->in[4].strides[0],
                    call->in[5].strides[0], crank_view_count(w)};
    if (c.n == 0) return CRANK_OK;
    if (!call->slot || !*call->slot) { /* the maps go to the card at the first call of a node */
        code_maps maps;
        dynamic_map(true, maps.map[0]);
        dynamic_map(false, maps.map[1]);
        crank_status status = cuda_check(context, cudaMemcpyToSymbolAsync(device_maps, &maps, sizeof maps, 0, cudaMemcpyHostToDevice, cuda_stream(call)), "code maps");
        if (status == CRANK_OK) status = cuda_check(context, cudaStreamSynchronize(cuda_stream(call)), "code maps");
        if (status != CRANK_OK) return status;
        if (call->slot) *call->slot = &device_maps;
    }
    WITH_WEIGHT_TYPES(w, g, W, G, adamw8bit_kernel<W, G><<<blocks_for(c.n, 256), 256, 0, cuda_stream(call)>>>((W *)w->data, (const G *)g->data, c);)
    return cuda_launched(context, "adamw8bit");
}

/* ---- assignments and scalars ---- */

__global__ void assign_kernel(spans s, crank_dtype x_type, crank_dtype type, bool add)
{
    int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x, at[3];
    if (i >= s.count) return;
    span_offsets<3>(s, i, at);
    double value = read_any(s.data[0], x_type, at[0]);
    write_any(s.data[2], type, at[2], add ? value + read_any(s.data[1], type, at[1]) : value);
}

static crank_status run_assign(crank_context *context, const crank_call *call)
{
    bool              add = ((const crank_assign_attributes *)call->attributes)->add;
    const crank_view *x = &call->in[0], *old = cuda_present(&call->in[1]) ? &call->in[1] : &call->out[0], *target = &call->out[0];
    SPANS_OF(s, target, x, old, target);
    if (s.count == 0) return CRANK_OK;
    assign_kernel<<<blocks_for(s.count, 256), 256, 0, cuda_stream(call)>>>(s, x->dtype, target->dtype, add);
    return cuda_launched(context, "assign");
}

__global__ void clip_kernel(const void *squares, crank_dtype type, int64_t step, int64_t count, const float *scalars, float *out, void *norm, double limit)
{
    __shared__ double cells[33];
    double            sum = 0;
    for (int64_t i = threadIdx.x; i < count; i += blockDim.x) sum += read_any(squares, type, i * step);
    sum = block_sum(sum, cells);
    if (threadIdx.x) return;
    double denominator = scalars[CRANK_SCALAR_DENOMINATOR], size = sqrt(sum) / denominator;
    if (out != scalars)
        for (int k = 0; k < CRANK_SCALARS; k++) out[k] = scalars[k];
    if (!isfinite(size)) out[CRANK_SCALAR_SKIP] = 1;
    out[CRANK_SCALAR_CLIP] = (float)((limit > 0 && size > limit ? limit / size : 1) / denominator);
    write_any(norm, type, 0, size);
}

static crank_status run_clip_scale(crank_context *context, const crank_call *call)
{
    const crank_view *squares = &call->in[0];
    clip_kernel<<<1, 256, 0, cuda_stream(call)>>>(squares->data, squares->dtype, squares->strides[0], squares->dims[0], (const float *)call->in[1].data,
                                                  (float *)call->out[0].data, call->out[1].data, ((const crank_clip_attributes *)call->attributes)->limit);
    return cuda_launched(context, "clip_scale");
}

__global__ void finite_kernel(const void *x, crank_dtype type, const float *scalars, float *out)
{
    if (out != scalars)
        for (int k = 0; k < CRANK_SCALARS; k++) out[k] = scalars[k];
    if (!isfinite(read_any(x, type, 0))) out[CRANK_SCALAR_SKIP] = 1;
}

static crank_status run_check_finite(crank_context *context, const crank_call *call)
{
    finite_kernel<<<1, 1, 0, cuda_stream(call)>>>(call->in[0].data, call->in[0].dtype, (const float *)call->in[1].data, (float *)call->out[0].data);
    return cuda_launched(context, "check_finite");
}

const cuda_entry cuda_update[] = {
    {"adamw", "cuda", run_adamw, NULL, NULL},
    {"adamw8bit", "cuda", run_adamw8bit, NULL, NULL},
    {"sgd", "cuda", run_sgd, NULL, NULL},
    {"lion", "cuda", run_lion, NULL, NULL},
    {"assign", "cuda", run_assign, NULL, NULL},
    {"clip_scale", "cuda", run_clip_scale, NULL, NULL},
    {"check_finite", "cuda", run_check_finite, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};
