/* select.cu - the k largest of a row, and eigenvalues of a small symmetric matrix (one block, in f64; jacobi.h). */
#include "device/cuda/element.cuh"

#define JACOBI_INLINE    static __device__
#define JACOBI_THREAD    ((int)threadIdx.x)
#define JACOBI_THREADS   ((int)blockDim.x)
#define JACOBI_BARRIER() __syncthreads()
#include "device/cuda/jacobi.h"

/* ---- top_k: an entry is chosen when fewer than k stand before it ---- */

template <typename R> __device__ __forceinline__ bool beats(R a, R b) { return a > b || (a == a && b != b); }

template <typename T> __global__ void top_k_kernel(const T *c, int64_t c_row, T *mask, int64_t mask_row, int64_t width, int64_t k)
{
    const T *row = c + (int64_t)blockIdx.x * c_row;
    for (int64_t j = threadIdx.x; j < width; j += blockDim.x) {
        real<T> value = load(&row[j]);
        int64_t before = 0;
        for (int64_t m = 0; m < width; m++) {
            real<T> other = load(&row[m]);
            before += beats(other, value) || (m < j && !beats(value, other));
        }
        store(&mask[(int64_t)blockIdx.x * mask_row + j], (real<T>)(before < k));
    }
}

static crank_status run_top_k(crank_context *context, const crank_call *call)
{
    const crank_view *c = &call->in[0], *mask = &call->out[0];
    int64_t           k = ((const crank_top_k_attributes *)call->attributes)->k;
    if (crank_view_count(c) == 0) return CRANK_OK;
    WITH_FLOAT_TYPE(c->dtype, T,
                    (top_k_kernel<T><<<(unsigned)c->dims[0], 128, 0, cuda_stream(call)>>>((const T *)c->data, c->strides[0], (T *)mask->data,
                                                                                        mask->strides[0], c->dims[1], k));)
    return cuda_launched(context, "top_k");
}

/* ---- eigh ---- */

typedef struct eigh_call {
    const void *a;
    void       *values, *vectors;
    double     *memory; /* a, v [n,n], cosines, sines [n/2], signs [n], off, places [n] */
    int64_t     a_row, vectors_row, values_step;
    int         r, n;
} eigh_call;

template <typename T> __global__ void eigh_kernel(eigh_call c)
{
    int     n = c.n, r = c.r;
    double *a = c.memory, *v = a + n * n, *cosines = v + n * n, *sines = cosines + n / 2, *sign = sines + n / 2, *off = sign + n;
    int    *place = (int *)(off + 1);
    const T *from = (const T *)c.a;
    for (int at = threadIdx.x; at < n * n; at += blockDim.x) {
        int i = at / n, j = at % n;
        a[at] = i < r && j < r ? 0.5 * ((double)load(&from[i * c.a_row + j]) + (double)load(&from[j * c.a_row + i])) : 0;
        v[at] = i == j;
    }
    jacobi_run(a, v, n, cosines, sines, off);
    if (*off < 0) { /* as the plain body: no values, the identity */
        for (int at = threadIdx.x; at < r * r; at += blockDim.x) {
            int i = at / r, j = at % r;
            store((T *)c.vectors + i * c.vectors_row + j, (double)(i == j));
            if (i == 0) store((T *)c.values + j * c.values_step, (double)NAN);
        }
        return;
    }
    jacobi_order(a, v, n, r, place, sign);
    for (int at = threadIdx.x; at < r * r; at += blockDim.x) {
        int i = at / r, j = at % r;
        store((T *)c.vectors + i * c.vectors_row + place[j], sign[j] * v[i * n + j]);
        if (i == 0) store((T *)c.values + place[j] * c.values_step, a[j * n + j]);
    }
}

static int even(int64_t r) { return (int)(r < 2 ? 2 : r + (r & 1)); }

static size_t eigh_workspace(const crank_call *call)
{
    size_t n = (size_t)even(call->in[0].dims[0]);
    return (2 * n * n + 2 * n + 1) * sizeof(double) + n * sizeof(int);
}

static crank_status run_eigh(crank_context *context, const crank_call *call)
{
    const crank_view *a = &call->in[0], *values = &call->out[0], *vectors = &call->out[1];
    eigh_call c = {a->data, values->data, vectors->data, (double *)call->workspace, a->strides[0], vectors->strides[0], values->strides[0], (int)a->dims[0], even(a->dims[0])};
    if (c.r == 0) return CRANK_OK;
    WITH_FLOAT_TYPE(a->dtype, T, (eigh_kernel<T><<<1, c.n < 32 ? 64 : 512, 0, cuda_stream(call)>>>(c));)
    return cuda_launched(context, "eigh");
}

const cuda_entry cuda_select[] = {
    {"top_k", "cuda", run_top_k, NULL, NULL},
    {"eigh", "cuda", run_eigh, NULL, eigh_workspace},
    {NULL, NULL, NULL, NULL, NULL},
};
