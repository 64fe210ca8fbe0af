/* norm.cu - RMS norm and layer norm with their reverses: one warp a row of up to 256 packs, one block a longer one; the row stays in
 * registers where it fits.
 *
 * Gradients of the weights are sums over all rows: each of SLICES groups of rows leaves partial sums in the workspace, and a second
 * kernel adds them in order, so the bits do not depend on the schedule. */
#include "device/cuda/element.cuh"

enum { THREADS = 256, SLICES = 64 };

/* The threads of one row, and the packs that each holds. */
template <bool WARP> struct team {
    enum { LANES = WARP ? 32 : THREADS, HELD = WARP ? 8 : 4, ROWS = WARP ? THREADS / 32 : 1 };
    static __device__ __forceinline__ int     lane() { return WARP ? threadIdx.x & 31 : threadIdx.x; }
    static __device__ __forceinline__ int64_t row() { return WARP ? (int64_t)blockIdx.x * ROWS + threadIdx.x / 32 : blockIdx.x; }
    template <typename R> static __device__ __forceinline__ R sum(R v, R *cells) { return WARP ? warp_sum(v) : block_sum(v, cells); }
};

/* Element j of a weight that is T or f32; absent: `otherwise`. */
template <typename T> __device__ __forceinline__ real<T> weight_at(const void *w, bool wide, int64_t j, real<T> otherwise)
{
    if (!w) return otherwise;
    return wide ? (real<T>)((const float *)w)[j] : load(&((const T *)w)[j]);
}

/* Elements j .. j + N - 1 of a weight whose memory is aligned to 16 bytes. */
template <typename T, int N> __device__ __forceinline__ void weights_at(const void *w, bool wide, int64_t j, real<T> otherwise, real<T> *out)
{
    if (N > 1 && w && !wide) {
        pack<T> p;
        p.read((const T *)w + j);
#pragma unroll
        for (int e = 0; e < N; e++) out[e] = p.get(e);
    } else if (N >= 4 && w) {
#pragma unroll
        for (int e = 0; e < N; e += 4) {
            float4 four = *(const float4 *)((const float *)w + j + e);
            out[e] = four.x, out[e + 1 < N ? e + 1 : e] = four.y, out[e + 2 < N ? e + 2 : e] = four.z, out[e + 3 < N ? e + 3 : e] = four.w;
        }
    } else {
#pragma unroll
        for (int e = 0; e < N; e++) out[e] = weight_at<T>(w, wide, j + e, otherwise);
    }
}

typedef struct norm_call {
    const void *x, *residual, *w, *b; /* w, b: T, or f32 when w_wide / b_wide */
    void       *y, *sum, *mean, *rstd;
    int64_t     x_row, residual_row, y_row, sum_row, n, d;
    bool        w_wide, b_wide, packed;
    double      epsilon;
} norm_call;

/* y = (z - mean) rstd w + b, mean 0 for RMS; N elements a thread at a time, HELD packs a thread in registers, in T: z is rounded to it. All
 * loads of a row are under way before the first is used. */
template <typename T, int N, bool LAYER, bool WARP, int HELD> __global__ void __launch_bounds__(THREADS) norm_kernel(norm_call c)
{
    typedef real<T>    R;
    typedef team<WARP> G;
    enum { LANES = G::LANES };
    __shared__ R    cells[33];
    int64_t         i = G::row();
    int             lane = G::lane();
    if (WARP && i >= c.n) return;
    const T        *x = (const T *)c.x + i * c.x_row, *residual = c.residual ? (const T *)c.residual + i * c.residual_row : NULL;
    T              *y = (T *)c.y + i * c.y_row, *sum = c.sum ? (T *)c.sum + i * c.sum_row : NULL;
    pack<T>         z[HELD];
    R               total = 0;
    /* rows that are longer than what is held are read again */
    bool held = c.d <= (int64_t)LANES * HELD * N;
    auto inside = [&](int p) { return ((int64_t)p * LANES + lane) * N < c.d; };
    auto fetch = [&](pack<T> &to, const T *from) {
        if (N > 1) to.read(from);
        else to.item[0] = *from;
    };
    auto get = [&](int64_t j, R *out) {
        pack<T> a, r;
        fetch(a, x + j);
        if (residual) fetch(r, residual + j);
#pragma unroll
        for (int e = 0; e < N; e++) out[e] = residual ? rounded<T>(a.get(e) + r.get(e)) : a.get(e);
    };
#pragma unroll
    for (int p = 0; p < HELD; p++)
        if (inside(p)) fetch(z[p], x + ((int64_t)p * LANES + lane) * N);
    if (residual) {
        pack<T> r[HELD];
#pragma unroll
        for (int p = 0; p < HELD; p++)
            if (inside(p)) fetch(r[p], residual + ((int64_t)p * LANES + lane) * N);
#pragma unroll
        for (int p = 0; p < HELD; p++)
#pragma unroll
            for (int e = 0; e < N; e++)
                if (inside(p)) z[p].set(e, z[p].get(e) + r[p].get(e));
    }
#pragma unroll
    for (int p = 0; p < HELD; p++) {
        if (!inside(p)) continue;
        if (sum && N > 1) z[p].write(sum + ((int64_t)p * LANES + lane) * N);
        else if (sum) sum[(int64_t)p * LANES + lane] = z[p].item[0];
#pragma unroll
        for (int e = 0; e < N; e++) total += LAYER ? z[p].get(e) : z[p].get(e) * z[p].get(e);
    }
    for (int64_t j = (int64_t)LANES * HELD * N + (int64_t)lane * N; j < c.d; j += (int64_t)LANES * N) {
        R more[N];
        get(j, more);
#pragma unroll
        for (int e = 0; e < N; e++) {
            if (sum) store(&sum[j + e], more[e]);
            total += LAYER ? more[e] : more[e] * more[e];
        }
    }
    total = G::sum(total, cells) / (R)c.d;
    R mean = LAYER ? total : (R)0, rstd;
    if (LAYER) {
        R squares = 0;
#pragma unroll
        for (int p = 0; p < HELD; p++)
#pragma unroll
            for (int e = 0; e < N; e++)
                if (inside(p)) squares += (z[p].get(e) - mean) * (z[p].get(e) - mean);
        for (int64_t j = (int64_t)LANES * HELD * N + (int64_t)lane * N; j < c.d; j += (int64_t)LANES * N) {
            R more[N];
            get(j, more);
#pragma unroll
            for (int e = 0; e < N; e++) squares += (more[e] - mean) * (more[e] - mean);
        }
        total = G::sum(squares, cells) / (R)c.d;
    }
    rstd = 1 / sqrt(total + (R)c.epsilon);
    auto put = [&](int64_t j, const R *values) {
        pack<T> out;
        R       w[N], b[N];
        weights_at<T, N>(c.w, c.w_wide, j, (R)1, w);
        if (LAYER) weights_at<T, N>(c.b, c.b_wide, j, (R)0, b);
#pragma unroll
        for (int e = 0; e < N; e++) {
            R value = (values[e] - mean) * rstd * w[e];
            if (LAYER) value += b[e];
            if (N > 1) out.set(e, value);
            else store(&y[j], value);
        }
        if (N > 1) out.write(y + j);
    };
#pragma unroll
    for (int p = 0; p < HELD; p++) {
        if (!inside(p)) continue;
        R values[N];
#pragma unroll
        for (int e = 0; e < N; e++) values[e] = z[p].get(e);
        put(((int64_t)p * LANES + lane) * N, values);
    }
    if (!held)
        for (int64_t j = (int64_t)LANES * HELD * N + (int64_t)lane * N; j < c.d; j += (int64_t)LANES * N) {
            R more[N];
            get(j, more);
            put(j, more);
        }
    if (lane == 0) {
        ((R *)c.rstd)[i] = rstd;
        if (LAYER) ((R *)c.mean)[i] = mean;
    }
}

static int64_t row_stride(const crank_view *view) { return cuda_present(view) ? view->strides[0] : 0; }
static void   *data_of(const crank_view *view) { return cuda_present(view) ? view->data : NULL; }

/* Whether rows of all these [n,d] views can be read 16 bytes at a time. */
static bool rows_packed(int64_t d, int count, const crank_view *const *views)
{
    for (int k = 0; k < count; k++) {
        if (!cuda_present(views[k])) continue;
        int n = (int)(128 / crank_dtype_bits(views[k]->dtype));
        if (d % n || views[k]->strides[0] % n || !cuda_aligned(views[k]->data, 16)) return false;
    }
    return true;
}

/* Whether a weight can be read 16 bytes at a time. */
static bool weight_packed(const crank_view *w) { return !cuda_present(w) || cuda_aligned(w->data, 16); }

template <typename T, int N, bool LAYER> static void norm_launch(cudaStream_t stream, const norm_call &c)
{
    int64_t  packs = (c.d + 32 * N - 1) / (32 * N); /* of each lane of a warp */
    unsigned warps = blocks_for(c.n, team<true>::ROWS);
    if constexpr (N > 1 && sizeof(T) < 8) {
        if (packs <= 2) norm_kernel<T, N, LAYER, true, 2><<<warps, THREADS, 0, stream>>>(c);
        else if (packs <= 4) norm_kernel<T, N, LAYER, true, 4><<<warps, THREADS, 0, stream>>>(c);
        if (packs <= 4) return;
    }
    if (packs <= 8) norm_kernel<T, N, LAYER, true, 8><<<warps, THREADS, 0, stream>>>(c);
    else norm_kernel<T, N, LAYER, false, team<false>::HELD><<<(unsigned)c.n, THREADS, 0, stream>>>(c);
}

template <typename T, bool LAYER> static void norm_start(cudaStream_t stream, const norm_call &c)
{
    if (c.packed) norm_launch<T, pack<T>::N, LAYER>(stream, c);
    else norm_launch<T, 1, LAYER>(stream, c);
}

static crank_status run_norm(crank_context *context, const crank_call *call, bool layer)
{
    static const crank_view none = {NULL, CRANK_F32, -1, {0}, {0}};
    const crank_view *x = &call->in[0], *w = &call->in[1], *b = layer ? &call->in[2] : &none, *residual = &call->in[layer ? 3 : 2];
    const crank_view *y = &call->out[0], *mean = layer ? &call->out[1] : &none, *rstd = &call->out[layer ? 2 : 1], *sum = &call->out[layer ? 3 : 2];
    const crank_view *rows[4] = {x, residual, y, sum};
    norm_call         c = {data_of(x), data_of(residual), data_of(w), data_of(b), data_of(y), data_of(sum), data_of(mean), data_of(rstd),
                           row_stride(x), row_stride(residual), row_stride(y), row_stride(sum), x->dims[0], x->dims[1],
                           x->dtype != CRANK_F32 && w->dtype == CRANK_F32, x->dtype != CRANK_F32 && b->dtype == CRANK_F32,
                           rows_packed(x->dims[1], 4, rows) && weight_packed(w) && weight_packed(b), ((const crank_norm_attributes *)call->attributes)->epsilon};
    if (c.n == 0) return CRANK_OK;
    if (layer) {
        WITH_FLOAT_TYPE(x->dtype, T, (norm_start<T, true>(cuda_stream(call), c));)
    } else {
        WITH_FLOAT_TYPE(x->dtype, T, (norm_start<T, false>(cuda_stream(call), c));)
    }
    return cuda_launched(context, "norm");
}

static crank_status run_rmsnorm(crank_context *context, const crank_call *call) { return run_norm(context, call, false); }
static crank_status run_layernorm(crank_context *context, const crank_call *call) { return run_norm(context, call, true); }

/* ---- reverse ---- */

typedef struct norm_back {
    const void *dy, *z, *w, *mean, *rstd, *dres;
    void       *dx;
    int64_t     dy_row, z_row, dres_row, dx_row, n, d;
    bool        w_wide, packed;
} norm_back;

/* g = w dy, h = (z - mean) rstd:  dx = dres + rstd (g - mean(g) - h mean(g h)); for RMS without mean(g). */
template <typename T, int N, bool LAYER, bool WARP> __global__ void __launch_bounds__(THREADS) norm_backward_kernel(norm_back c)
{
    typedef real<T>    R;
    typedef team<WARP> G;
    enum { LANES = G::LANES, HELD = G::HELD };
    __shared__ R cells[33];
    int64_t      i = G::row();
    int          lane = G::lane();
    if (WARP && i >= c.n) return;
    const T *dy = (const T *)c.dy + i * c.dy_row, *z = (const T *)c.z + i * c.z_row, *dres = c.dres ? (const T *)c.dres + i * c.dres_row : NULL;
    T       *dx = (T *)c.dx + i * c.dx_row;
    R        mean = LAYER ? ((const R *)c.mean)[i] : (R)0, rstd = ((const R *)c.rstd)[i], sum_g = 0, sum_gh = 0;
    pack<T>  held_dy[HELD], held_z[HELD];
    auto     get = [&](int64_t j, pack<T> &a, pack<T> &b) {
        if (N > 1) a.read(dy + j), b.read(z + j);
        else a.item[0] = dy[j], b.item[0] = z[j];
    };
    auto add = [&](int64_t j, const pack<T> &a, const pack<T> &b) {
        R w[N];
        weights_at<T, N>(c.w, c.w_wide, j, (R)1, w);
#pragma unroll
        for (int e = 0; e < N; e++) {
            R g = a.get(e) * w[e];
            sum_g += g, sum_gh += g * ((b.get(e) - mean) * rstd);
        }
    };
#pragma unroll
    for (int p = 0; p < HELD; p++) {
        int64_t j = ((int64_t)p * LANES + lane) * N;
        if (j < c.d) get(j, held_dy[p], held_z[p]);
    }
#pragma unroll
    for (int p = 0; p < HELD; p++) {
        int64_t j = ((int64_t)p * LANES + lane) * N;
        if (j < c.d) add(j, held_dy[p], held_z[p]);
    }
    for (int64_t j = (int64_t)LANES * HELD * N + (int64_t)lane * N; j < c.d; j += (int64_t)LANES * N) {
        pack<T> a, b;
        get(j, a, b);
        add(j, a, b);
    }
    R    mean_g = LAYER ? G::sum(sum_g, cells) / (R)c.d : (R)0, mean_gh = G::sum(sum_gh, cells) / (R)c.d;
    auto put = [&](int64_t j, const pack<T> &a, const pack<T> &b) {
        pack<T> out, r;
        R       w[N];
        weights_at<T, N>(c.w, c.w_wide, j, (R)1, w);
        if (dres) {
            if (N > 1) r.read(dres + j);
            else r.item[0] = dres[j];
        }
#pragma unroll
        for (int e = 0; e < N; e++) {
            R g = a.get(e) * w[e], value = rstd * (g - mean_g - (b.get(e) - mean) * rstd * mean_gh);
            out.set(e, dres ? value + r.get(e) : value);
        }
        if (N > 1) out.write(dx + j);
        else dx[j] = out.item[0];
    };
#pragma unroll
    for (int p = 0; p < HELD; p++) {
        int64_t j = ((int64_t)p * LANES + lane) * N;
        if (j < c.d) put(j, held_dy[p], held_z[p]);
    }
    for (int64_t j = (int64_t)LANES * HELD * N + (int64_t)lane * N; j < c.d; j += (int64_t)LANES * N) {
        pack<T> a, b;
        get(j, a, b);
        put(j, a, b);
    }
}

/* Partial sums over rows of slice blockIdx.y for 32 columns: dw += dy h, db += dy. partial [2][SLICES][d] */
template <typename T> __global__ void weights_kernel(norm_back c, real<T> *partial)
{
    typedef real<T> R;
    __shared__ R    sums[2][8][33];
    int64_t         j = (int64_t)blockIdx.x * 32 + threadIdx.x, each = (c.n + SLICES - 1) / SLICES, first = blockIdx.y * each;
    int64_t         last = first + each < c.n ? first + each : c.n;
    R               dw = 0, db = 0;
    for (int64_t i = first + threadIdx.y; i < last && j < c.d; i += 8) {
        R mean = c.mean ? ((const R *)c.mean)[i] : (R)0, dy = load(&((const T *)c.dy)[i * c.dy_row + j]);
        dw += dy * (load(&((const T *)c.z)[i * c.z_row + j]) - mean) * ((const R *)c.rstd)[i];
        db += dy;
    }
    sums[0][threadIdx.y][threadIdx.x] = dw, sums[1][threadIdx.y][threadIdx.x] = db;
    __syncthreads();
    if (threadIdx.y > 1 || j >= c.d) return;
    R sum = 0;
    for (int k = 0; k < 8; k++) sum += sums[threadIdx.y][k][threadIdx.x];
    partial[((int64_t)threadIdx.y * SLICES + blockIdx.y) * c.d + j] = sum;
}

template <typename R> __global__ void weights_sum_kernel(const R *partial, int64_t d, void *out, crank_dtype dtype, int64_t step)
{
    int64_t j = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (j >= d) return;
    R sum = 0;
    for (int k = 0; k < SLICES; k++) sum += partial[(int64_t)k * d + j];
    write_any(out, dtype, j * step, (double)sum);
}

static size_t backward_workspace(const crank_call *call)
{
    bool wanted = false;
    for (int k = 1; k < call->outputs; k++) wanted = wanted || cuda_present(&call->out[k]);
    return wanted ? (size_t)2 * SLICES * (size_t)call->in[0].dims[1] * (call->in[0].dtype == CRANK_F64 ? 8 : 4) : 0;
}

template <typename T, bool LAYER> static void backward_launch(cudaStream_t stream, const norm_back &c)
{
    enum { N = pack<T>::N };
    bool     warp = c.d <= 32 * team<true>::HELD * (c.packed ? N : 1);
    unsigned blocks = warp ? blocks_for(c.n, team<true>::ROWS) : (unsigned)c.n;
    if (c.packed && warp) norm_backward_kernel<T, N, LAYER, true><<<blocks, THREADS, 0, stream>>>(c);
    else if (c.packed) norm_backward_kernel<T, N, LAYER, false><<<blocks, THREADS, 0, stream>>>(c);
    else if (warp) norm_backward_kernel<T, 1, LAYER, true><<<blocks, THREADS, 0, stream>>>(c);
    else norm_backward_kernel<T, 1, LAYER, false><<<blocks, THREADS, 0, stream>>>(c);
}

template <typename T> static void weights_launch(cudaStream_t stream, const norm_back &c, const crank_view *dw, const crank_view *db, void *workspace)
{
    real<T> *partial = (real<T> *)workspace;
    dim3     grid(blocks_for(c.d, 32), SLICES), block(32, 8);
    weights_kernel<T><<<grid, block, 0, stream>>>(c, partial);
    if (cuda_present(dw)) weights_sum_kernel<<<blocks_for(c.d, 128), 128, 0, stream>>>(partial, c.d, dw->data, dw->dtype, dw->strides[0]);
    if (cuda_present(db))
        weights_sum_kernel<<<blocks_for(c.d, 128), 128, 0, stream>>>(partial + (int64_t)SLICES * c.d, c.d, db->data, db->dtype, db->strides[0]);
}

static crank_status run_norm_backward(crank_context *context, const crank_call *call, bool layer)
{
    static const crank_view none = {NULL, CRANK_F32, -1, {0}, {0}};
    const crank_view *dy = &call->in[0], *z = &call->in[1], *w = &call->in[2], *mean = layer ? &call->in[3] : &none, *rstd = &call->in[layer ? 4 : 3];
    const crank_view *dres = &call->in[layer ? 5 : 4], *dx = &call->out[0], *dw = &call->out[1], *db = layer ? &call->out[2] : &none;
    const crank_view *rows[4] = {dy, z, dres, dx};
    norm_back         c = {data_of(dy), data_of(z), data_of(w), data_of(mean), data_of(rstd), data_of(dres), data_of(dx), row_stride(dy), row_stride(z),
                           row_stride(dres), row_stride(dx), z->dims[0], z->dims[1], z->dtype != CRANK_F32 && w->dtype == CRANK_F32,
                           rows_packed(z->dims[1], 4, rows) && weight_packed(w)};
    if (cuda_present(dw) || cuda_present(db)) { /* before dx, which may take the place of dres but never of dy or z */
        WITH_FLOAT_TYPE(z->dtype, T, (weights_launch<T>(cuda_stream(call), c, dw, db, call->workspace));)
    }
    if (c.n && layer) {
        WITH_FLOAT_TYPE(z->dtype, T, (backward_launch<T, true>(cuda_stream(call), c));)
    } else if (c.n) {
        WITH_FLOAT_TYPE(z->dtype, T, (backward_launch<T, false>(cuda_stream(call), c));)
    }
    return cuda_launched(context, "norm_backward");
}

static crank_status run_rmsnorm_backward(crank_context *context, const crank_call *call) { return run_norm_backward(context, call, false); }
static crank_status run_layernorm_backward(crank_context *context, const crank_call *call) { return run_norm_backward(context, call, true); }

const cuda_entry cuda_norm[] = {
    {"rmsnorm", "cuda", run_rmsnorm, NULL, NULL},
    {"layernorm", "cuda", run_layernorm, NULL, NULL},
    {"rmsnorm_backward", "cuda", run_rmsnorm_backward, NULL, backward_workspace},
    {"layernorm_backward", "cuda", run_layernorm_backward, NULL, backward_workspace},
    {NULL, NULL, NULL, NULL, NULL},
};
