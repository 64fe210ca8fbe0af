/* pca.c - principal components of rows that arrive in batches. */
#include "lowrank/pca.h"

#include <math.h>
#include <string.h>

#include "crank/linalg.h"
#include "linalg/blas.h"
#include "lowrank/spectrum.h"

enum { WIDE = 4096, CHUNK = 512, EXACT = 1024 };

struct pca {
    int64_t n, keep, rows, held; /* held: components so far, incremental */
    bool    incremental;
    double *mean;                /* [n]: sums of columns (covariance), mean (incremental) */
    double *C;                   /* covariance: [n, n] X^T X */
    double *M;                   /* incremental: [keep + CHUNK + 1, n]; its first `held` rows are diag(s) V */
    double  squares;             /* sum of squares of all entries */
};

static bool goes_incremental(int64_t n, pca_way way) { return way == PCA_INCREMENTAL || (way == PCA_AUTO && n > WIDE); }

size_t pca_bytes(int64_t n, int64_t keep, pca_way way)
{
    int64_t lines = goes_incremental(n, way) ? keep + CHUNK + 2 : n + 1;
    return (size_t)(lines * n) * sizeof(double);
}

size_t pca_work_bytes(int64_t n, int64_t keep, pca_way way)
{
    int64_t lines = keep + CHUNK + 1; /* incremental: a decomposition with copies of both sides; covariance: copies of eigenvectors */
    int64_t numbers = goes_incremental(n, way) ? CHUNK * n + 3 * lines * n + 8 * lines * lines : CHUNK * n > 2 * n * n ? CHUNK * n : 2 * n * n;
    return (size_t)numbers * sizeof(double);
}

void pca_free(pca *p)
{
    if (!p) return;
    crank_free(p->mean), crank_free(p->C), crank_free(p->M);
    crank_free(p);
}

pca *pca_new(crank_context *context, int64_t n, int64_t keep, pca_way way)
{
    pca *p = crank_alloc(context, 1, sizeof *p, "principal components");
    if (!p) return NULL;
    p->n = n;
    p->keep = keep;
    p->incremental = goes_incremental(n, way);
    p->mean = crank_alloc(context, (size_t)n, sizeof *p->mean, "principal components");
    if (p->incremental) p->M = crank_alloc(context, (size_t)((keep + CHUNK + 1) * n), sizeof *p->M, "principal components");
    else p->C = crank_alloc(context, (size_t)(n * n), sizeof *p->C, "principal components");
    if (p->mean && (p->M || p->C)) return p;
    pca_free(p);
    return NULL;
}

int64_t pca_rows(const pca *p) { return p->rows; }

/* ---- incremental ---- */

/* The rows behind `held` in M are CHUNK-sized news: M's leading components stand for all of it. */
static crank_status compress(crank_context *context, pca *p, int64_t lines)
{
    int64_t      k = lines < p->n ? lines : p->n, kept = p->keep < k ? p->keep : k;
    double      *vt = crank_alloc(context, (size_t)(kept * p->n), sizeof *vt, "components"), *s = crank_alloc(context, (size_t)k, sizeof *s, "components");
    crank_status status = vt && s ? CRANK_OK : CRANK_FAILED;
    if (status == CRANK_OK)
        status = crank_svd(context, crank_matrix_f64(p->M, lines, p->n), CRANK_INSIDE_F64, crank_matrix_none(), s, crank_matrix_f64(vt, kept, p->n));
    for (int64_t i = 0; status == CRANK_OK && i < kept; i++)
        for (int64_t j = 0; j < p->n; j++) p->M[i * p->n + j] = s[i] * vt[i * p->n + j];
    if (status == CRANK_OK) p->held = kept;
    crank_free(vt), crank_free(s);
    return status;
}

/* wide [k, n] */
static crank_status add_incremental(crank_context *context, pca *p, const double *wide, int64_t k)
{
    int64_t n = p->n;
    double *news = p->M + p->held * n, *step = news + k * n, N = (double)p->rows, K = (double)k;
    for (int64_t j = 0; j < n; j++) {
        double mean = 0;
        for (int64_t i = 0; i < k; i++) mean += wide[i * n + j];
        mean /= K;
        for (int64_t i = 0; i < k; i++) news[i * n + j] = wide[i * n + j] - mean;
        step[j] = sqrt(N * K / (N + K)) * (p->mean[j] - mean);
        p->mean[j] += (mean - p->mean[j]) * K / (N + K);
    }
    return compress(context, p, p->held + k + 1);
}

/* ---- both ---- */

static crank_status add_chunk(crank_context *context, pca *p, const double *wide, int64_t count)
{
    if (p->incremental) return add_incremental(context, p, wide, count);
    for (int64_t i = 0; i < count; i++)
        for (int64_t j = 0; j < p->n; j++) p->mean[j] += wide[i * p->n + j];
    multiply(context, (product){ .dtype = CRANK_F64, .trans_a = true, .m = p->n, .n = p->n, .k = count, .alpha = 1, .beta = 1, .a = wide, .b = wide,
                                 .c = p->C, .a_row = p->n, .b_row = p->n, .c_row = p->n });
    return CRANK_OK;
}

crank_status pca_add(crank_context *context, pca *p, const float *x, int64_t k)
{
    double      *wide = crank_alloc(context, (size_t)((k < CHUNK ? k : CHUNK) * p->n), sizeof *wide, "rows in f64");
    crank_status status = wide || k == 0 ? CRANK_OK : CRANK_FAILED;
    for (int64_t first = 0; status == CRANK_OK && first < k; first += CHUNK) {
        int64_t count = k - first < CHUNK ? k - first : CHUNK;
        for (int64_t i = 0; i < count * p->n; i++) {
            wide[i] = (double)x[first * p->n + i];
            p->squares += wide[i] * wide[i];
        }
        status = add_chunk(context, p, wide, count);
        p->rows += count;
    }
    crank_free(wide);
    return status;
}

crank_status pca_add_second(crank_context *context, pca *p, const float *second, const float *sum, int64_t k)
{
    if (p->incremental) return crank_fail(context, CRANK_USAGE, "principal components by increments need the rows themselves");
    for (int64_t i = 0; i < p->n * p->n; i++) p->C[i] += (double)second[i];
    for (int64_t j = 0; j < p->n; j++) {
        p->mean[j] += (double)sum[j];
        p->squares += (double)second[j * p->n + j];
    }
    p->rows += k;
    return CRANK_OK;
}

/* Largest entry positive. */
static void turn(float *row, int64_t n)
{
    int64_t at = 0;
    for (int64_t j = 1; j < n; j++)
        if (fabsf(row[j]) > fabsf(row[at])) at = j;
    if (row[at] >= 0) return;
    for (int64_t j = 0; j < n; j++) row[j] = -row[j];
}

/* The leading ones of a large C, in f32. */
static crank_status from_range(crank_context *context, pca *p, float *V, double *variance)
{
    int64_t      n = p->n;
    spectrum     top = {.r = 0};
    float       *narrow = crank_alloc(context, (size_t)(n * n), sizeof *narrow, "a covariance");
    for (int64_t i = 0; narrow && i < n * n; i++) narrow[i] = (float)p->C[i];
    crank_status status = narrow ? spectrum_of(context, narrow, n, n, p->keep, crank_stream_make(0, CRANK_RANDOM_INIT, (uint32_t)n), &top) : CRANK_FAILED;
    for (int64_t i = 0; status == CRANK_OK && i < p->keep; i++) {
        variance[i] = top.s[i];
        for (int64_t j = 0; j < n; j++) V[i * n + j] = top.U[j * p->keep + i];
    }
    spectrum_free(&top);
    crank_free(narrow);
    return status;
}

static crank_status from_covariance(crank_context *context, pca *p, bool smallest, float *V, double *variance)
{
    int64_t n = p->n, taken = smallest ? n : p->keep;
    bool    range = n > EXACT && !smallest;
    for (int64_t i = 0; range && i < n; i++)
        for (int64_t j = 0; j < n; j++) p->C[i * n + j] -= p->mean[i] * p->mean[j] / (double)(p->rows ? p->rows : 1);
    if (range) return from_range(context, p, V, variance);
    double  N = p->rows ? (double)p->rows : 1, *vectors = crank_alloc(context, (size_t)(n * taken), sizeof *vectors, "components");
    double *values = crank_alloc(context, (size_t)n, sizeof *values, "components");
    crank_status status = vectors && values ? CRANK_OK : CRANK_FAILED;
    for (int64_t i = 0; status == CRANK_OK && i < n; i++)
        for (int64_t j = 0; j < n; j++) p->C[i * n + j] -= p->mean[i] * p->mean[j] / N;
    if (status == CRANK_OK) status = crank_eigen(context, crank_matrix_f64(p->C, n, n), CRANK_INSIDE_F64, values, crank_matrix_f64(vectors, n, taken));
    for (int64_t i = 0; status == CRANK_OK && i < p->keep; i++) {
        int64_t from = smallest ? n - p->keep + i : i;
        variance[i] = fmax(values[from], 0);
        for (int64_t j = 0; j < n; j++) V[i * n + j] = (float)vectors[j * taken + from];
    }
    crank_free(vectors), crank_free(values);
    return status;
}

static crank_status from_incremental(crank_context *context, pca *p, float *V, double *variance)
{
    if (p->held < p->keep)
        return crank_fail(context, CRANK_BAD_DATA, "%lld rows have no %lld components", (long long)p->rows, (long long)p->keep);
    for (int64_t i = 0; i < p->keep; i++) {
        double square = 0;
        for (int64_t j = 0; j < p->n; j++) square += p->M[i * p->n + j] * p->M[i * p->n + j];
        variance[i] = square;
        for (int64_t j = 0; j < p->n; j++) V[i * p->n + j] = square > 0 ? (float)(p->M[i * p->n + j] / sqrt(square)) : 0;
    }
    return CRANK_OK;
}

crank_status pca_components(crank_context *context, pca *p, bool smallest, float *V, double *variance, double *total)
{
    double middle = 0, N = p->rows ? (double)p->rows : 1;
    for (int64_t j = 0; j < p->n; j++) middle += p->incremental ? p->mean[j] * p->mean[j] * N : p->mean[j] * p->mean[j] / N;
    *total = fmax(p->squares - middle, 0);
    if (p->incremental && smallest) return crank_fail(context, CRANK_USAGE, "the smallest components need the whole covariance: at most %d inputs", WIDE);
    crank_status status = p->incremental ? from_incremental(context, p, V, variance) : from_covariance(context, p, smallest, V, variance);
    for (int64_t i = 0; status == CRANK_OK && i < p->keep; i++) turn(V + i * p->n, p->n);
    return status;
}
