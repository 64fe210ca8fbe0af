/* lapack.c - LAPACK's routines for float and double, run on the transposes of row-major arrays.
 *
 *     a = u s v^T   <=>  a^T = v s u^T          a = q r  <=>  a^T = r^T q^T, an LQ decomposition
 *
 * OpenBLAS takes as many threads as OpenMP would in the calling thread, and keeps that number in a variable of the process.
 * Small problems run on one thread, which leaves the variable alone; larger ones hold a lock, so that a context in another
 * thread cannot change the number under them. */
#include <inttypes.h>
#include <lapacke.h>
#include <math.h>
#include <omp.h>
#include <pthread.h>

#include "linalg/blas.h"

enum { SMALL_MATRIX = 128 };

/* The routine of the type; void pointers become float or double ones. */
#define ROUTINE(dtype, name, ...) ((dtype) == CRANK_F32 ? LAPACKE_s##name(LAPACK_COL_MAJOR, __VA_ARGS__) : LAPACKE_d##name(LAPACK_COL_MAJOR, __VA_ARGS__))

static pthread_mutex_t team_lock = PTHREAD_MUTEX_INITIALIZER;

typedef struct thread_team {
    int  before;
    bool locked;
} thread_team;

static thread_team team_begin(const crank_context *context, int64_t size)
{
    int  threads = size < SMALL_MATRIX ? 1 : crank_threads(context);
    thread_team team = {.before = omp_get_max_threads(), .locked = threads > 1};
    if (team.locked) pthread_mutex_lock(&team_lock);
    omp_set_num_threads(threads);
    return team;
}

static void team_end(thread_team team)
{
    omp_set_num_threads(team.before);
    if (team.locked) pthread_mutex_unlock(&team_lock);
}

crank_status lapack_fits(crank_context *context, const char *function, crank_matrix a)
{
    if (smaller(a.rows, a.cols) <= EXACT_LIMIT) return CRANK_OK;
    return crank_fail(context, CRANK_USAGE, "%s: [%" PRId64 ",%" PRId64 "] is too large for an exact decomposition (smaller side at most %d); use crank_randomised_svd",
                      function, a.rows, a.cols, EXACT_LIMIT);
}

/* Workspace of the size that a query wrote; a float holds it rounded, so one step of rounding is added. */
static void *workspace(crank_context *context, crank_dtype dtype, const void *query, int *size)
{
    double wanted = ceil(get(query, dtype, 0) * (1 + (dtype == CRANK_F32 ? epsilon_of(dtype) : 0)));
    *size = wanted >= INT32_MAX ? INT32_MAX : wanted < 1 ? 1 : (int)wanted;
    return crank_alloc(context, (size_t)*size, size_of(dtype), "LAPACK's workspace");
}

crank_status lapack_svd(crank_context *context, crank_dtype dtype, bool iteration, int64_t m, int64_t n, void *a, void *s, void *u, void *vt,
                        int *info)
{
    int     M = (int)n, N = (int)m, k = (int)smaller(m, n), size = -1; /* of a^T, whose left vectors are vt */
    char    job = vt ? 'S' : 'N';
    double  query[1] = {0};
    void   *work = query, *vectors = vt ? vt : query, *others = u ? u : query;
    int     others_row = u ? k : 1;
    int    *indices = iteration ? NULL : crank_alloc(context, 8 * (size_t)k, sizeof(int), "LAPACK's workspace");
    if (!iteration && !indices) return CRANK_FAILED;
    thread_team team = team_begin(context, k);
    for (int pass = 0; pass < 2; pass++) {
        *info = iteration ? ROUTINE(dtype, gesvd_work, job, job, M, N, a, M, s, vectors, M, others, others_row, work, size)
                          : ROUTINE(dtype, gesdd_work, job, M, N, a, M, s, vectors, M, others, others_row, work, size, indices);
        if (pass == 0 && !(work = workspace(context, dtype, query, &size))) break;
    }
    team_end(team);
    crank_free(indices);
    if (!work) return CRANK_FAILED;
    crank_free(work);
    return CRANK_OK;
}

crank_status lapack_qr(crank_context *context, crank_dtype dtype, int64_t m, int64_t n, void *a, void *tau)
{
    int    size = -1;
    double query[1] = {0};
    void  *work = query;
    thread_team team = team_begin(context, smaller(m, n));
    for (int pass = 0; pass < 2; pass++) {
        ROUTINE(dtype, gelqf_work, (int)n, (int)m, a, (int)n, tau, work, size);
        if (pass == 0 && !(work = workspace(context, dtype, query, &size))) break;
    }
    team_end(team);
    if (!work) return CRANK_FAILED;
    crank_free(work);
    return CRANK_OK;
}

crank_status lapack_qr_vectors(crank_context *context, crank_dtype dtype, int64_t m, int64_t n, void *a, const void *tau)
{
    int    size = -1, k = (int)smaller(m, n);
    double query[1] = {0};
    void  *work = query;
    thread_team team = team_begin(context, k);
    for (int pass = 0; pass < 2; pass++) {
        ROUTINE(dtype, orglq_work, k, (int)m, k, a, (int)n, tau, work, size);
        if (pass == 0 && !(work = workspace(context, dtype, query, &size))) break;
    }
    team_end(team);
    if (!work) return CRANK_FAILED;
    crank_free(work);
    return CRANK_OK;
}

crank_status lapack_eigen(crank_context *context, crank_dtype dtype, int64_t n, void *a, void *values, int *info)
{
    int    size = -1, indices_size = -1, indices_query = 1;
    double query[1] = {0};
    void  *work = query;
    int   *indices = &indices_query;
    thread_team team = team_begin(context, n);
    for (int pass = 0; pass < 2; pass++) { /* the lower triangle of rows is the upper one of columns */
        *info = ROUTINE(dtype, syevd_work, 'V', 'U', (int)n, a, (int)n, values, work, size, indices, indices_size);
        if (pass == 1) break;
        indices_size = indices_query;
        indices = crank_alloc(context, (size_t)indices_size, sizeof(int), "LAPACK's workspace");
        work = workspace(context, dtype, query, &size);
        if (!indices || !work) break;
    }
    team_end(team);
    bool ready = indices && work;
    crank_free(indices);
    crank_free(work);
    return ready ? CRANK_OK : CRANK_FAILED;
}

void lapack_solve_spd(crank_context *context, crank_dtype dtype, int64_t n, int64_t c, void *a, void *b, int *info)
{
    thread_team team = team_begin(context, n);
    *info = ROUTINE(dtype, potrf_work, 'U', (int)n, a, (int)n);
    if (*info == 0) *info = ROUTINE(dtype, potrs_work, 'U', (int)n, (int)c, a, (int)n, b, (int)n);
    team_end(team);
}
