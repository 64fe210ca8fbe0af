/* linalg.h - decompositions, range finders and spectra of matrices in host memory.
 *
 * A matrix is a view of an array that the caller owns: row-major, float or double, any row stride. Inputs are only read.
 * Outputs are written by the caller's choice: one whose data is NULL is not computed. An output may share memory with an
 * input only where this is said.
 *
 * Arithmetic. Exact decompositions copy their input and compute in double (CRANK_INSIDE_F64), or in float where asked
 * (CRANK_INSIDE_F32, then all matrices must be float). Randomised ones multiply in the type of the matrix; panels are made
 * orthonormal in double, and sums of squares are added in double. Each function gives the same bits on every run with the
 * same thread count (crank_threads), signs included: singular and eigenvectors are turned so that the entry of largest
 * magnitude of each left vector is positive.
 *
 * Errors. CRANK_USAGE: a shape, type, stride or range that does not fit; CRANK_BAD_DATA: a value that is not finite, a
 * matrix that is not positive definite, an iteration that does not converge; CRANK_FAILED: memory. The message names the
 * function, the matrix and its sizes. Outputs are unspecified after an error. */
#ifndef CRANK_LINALG_H
#define CRANK_LINALG_H

#include "crank/random.h"
#include "crank/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Element (i,j) is data[i * stride + j]; stride >= cols. rows and cols are in 1 .. 2^31 - 1. */
typedef struct crank_matrix {
    void       *data;
    int64_t     rows, cols, stride;
    crank_dtype dtype; /* CRANK_F32 or CRANK_F64 */
} crank_matrix;

static inline crank_matrix crank_matrix_make(const void *data, crank_dtype dtype, int64_t rows, int64_t cols, int64_t stride)
{
    crank_matrix matrix;
    matrix.data = (void *)(uintptr_t)data;
    matrix.rows = rows;
    matrix.cols = cols;
    matrix.stride = stride;
    matrix.dtype = dtype;
    return matrix;
}
static inline crank_matrix crank_matrix_f32(const float *data, int64_t rows, int64_t cols) { return crank_matrix_make(data, CRANK_F32, rows, cols, cols); }
static inline crank_matrix crank_matrix_f64(const double *data, int64_t rows, int64_t cols) { return crank_matrix_make(data, CRANK_F64, rows, cols, cols); }
static inline crank_matrix crank_matrix_none(void) { return crank_matrix_make(0, CRANK_F32, 0, 0, 0); } /* an output that is not wanted */

typedef enum crank_inside { CRANK_INSIDE_F64 = 0, CRANK_INSIDE_F32 } crank_inside;
typedef enum crank_side {
    CRANK_LEFT = 0, /* the column space of a [m,n]: vectors of m, a a^T */
    CRANK_RIGHT     /* the row space: vectors of n, a^T a */
} crank_side;

/* ---- exact decompositions (LAPACK) ----------------------------------------------------------------------------------
 * The smaller dimension is at most 20,000 (indices of workspaces are 32 bits). */

/* a = u diag(s) vt, k = min(m,n).   a [m,n]; u [m,r], s [k] or NULL, descending, vt [r,n]; r <= k leading vectors, the two r equal
 * where both are given. Divide and conquer (gesdd); where that does not converge, QR iteration (gesvd). */
CRANK_API crank_status crank_svd(crank_context *context, crank_matrix a, crank_inside inside, crank_matrix u, double *s, crank_matrix vt);

/* a = q r, k = min(m,n).   a [m,n]; q [m,k] orthonormal columns, r [k,n] upper trapezoidal with a diagonal >= 0, which makes it
 * unique where a has full rank. q may be a when n <= m. */
CRANK_API crank_status crank_qr(crank_context *context, crank_matrix a, crank_inside inside, crank_matrix q, crank_matrix r);

/* The columns of a [m,n], n <= m, are replaced by an orthonormal basis of a space that holds theirs (the q of crank_qr). */
CRANK_API crank_status crank_orthonormalise(crank_context *context, crank_matrix a, crank_inside inside);

/* a = vectors diag(values) vectors^T of a symmetric a [n,n], whose lower triangle is read.
 * values [n] or NULL, descending; vectors [n,r], r <= n leading columns (syevd). */
CRANK_API crank_status crank_eigen(crank_context *context, crank_matrix a, crank_inside inside, double *values, crank_matrix vectors);

/* out [n,m] = the Moore-Penrose inverse of a [m,n]. Singular values <= tolerance * largest count as zero; tolerance 0 means
 * max(m,n) times the machine epsilon of the type computed in. *rank (or NULL): how many are kept. */
CRANK_API crank_status crank_pseudo_inverse(crank_context *context, crank_matrix a, crank_inside inside, double tolerance, crank_matrix out,
                                            int64_t *rank);

/* a x = b for a symmetric positive definite a [n,n], whose lower triangle is read (potrf, potrs). b, x [n,c]; x may be b.
 * CRANK_BAD_DATA names the leading minor that is not positive. */
CRANK_API crank_status crank_solve_spd(crank_context *context, crank_matrix a, crank_inside inside, crank_matrix b, crank_matrix x);

/* p x + x q = c for symmetric p [m,m] and q [n,n] (lower triangles are read); c, x [m,n]; x may be c.
 *     p = U diag(l) U^T, q = V diag(h) V^T:    x = U [ (U^T c V)_ij / (l_i + h_j) ] V^T
 * LoRA-Pro (Wang et al. 2024, arXiv:2407.18242) has p = b^T b and q = a a^T. Terms with |l_i + h_j| <= tolerance * (|l|max + |h|max)
 * cannot be solved for (tolerance 0: (m + n) times the epsilon of the type computed in): with `singular` they are left out, which
 * gives the solution or least-squares solution of least norm, and *singular is their number; with NULL one is an error, CRANK_BAD_DATA. */
CRANK_API crank_status crank_sylvester(crank_context *context, crank_matrix p, crank_matrix q, crank_matrix c, crank_inside inside,
                                       double tolerance, crank_matrix x, int64_t *singular);

/* Polar decomposition: a = q h for m >= n, a = h q for m < n; q [m,n] is the nearest matrix with orthonormal columns (rows),
 * u vt of the singular value decomposition; h [k,k], k = min(m,n), symmetric positive semi-definite. q may be a.
 * Where a lacks full rank q is still orthonormal, but not the only nearest one. */
CRANK_API crank_status crank_polar(crank_context *context, crank_matrix a, crank_inside inside, crank_matrix q, crank_matrix h);

/* ---- Gram matrices ---------------------------------------------------------------------------------------------------- */

/* CRANK_LEFT: out [m,m] = a a^T; CRANK_RIGHT: out [n,n] = a^T a. Products and sums in double, rounded once to out's type.
 * Blocks of a float a are widened one after another: workspace is small beside a. */
CRANK_API crank_status crank_gram(crank_context *context, crank_matrix a, crank_side side, crank_matrix out);

/* crank_svd of a very wide or tall matrix by the eigenvectors of its smaller Gram matrix in double; much faster where one dimension is
 * far smaller. Squaring loses small values: those <= largest * sqrt(longer dimension * epsilon of double) (about 1e-6 of the largest)
 * count as zero, s and the vectors of the longer side are then zero; *rank (or NULL) counts the others. The vectors of
 * the longer side are one product in a's type. */
CRANK_API crank_status crank_gram_svd(crank_context *context, crank_matrix a, crank_matrix u, double *s, crank_matrix vt, int64_t *rank);

/* ---- randomised range finder (Halko, Martinsson, Tropp 2011, arXiv:0909.4061) -------------------------------------------- */

typedef struct crank_sketch {
    int64_t      rank;       /* wanted, 1 .. min(m,n) */
    int64_t      oversample; /* extra columns, >= 0 (5 to 32 are usual); rank + oversample is cut at min(m,n) */
    int64_t      powers;     /* power iterations, >= 0; both halves of each are made orthonormal (algorithm 4.4) */
    crank_stream stream;     /* the Gaussian test matrix: crank_fill_normal from draw `first`, row by row */
    uint64_t     first;
} crank_sketch;

/* What a basis holds of a matrix. */
typedef struct crank_capture {
    double norm;   /* |a|, Frobenius */
    double energy; /* |projection of a|^2 / |a|^2, 1 for a zero matrix */
    double error;  /* >= |a - approximation| in the spectral norm with probability 1 - 1e-10 (lemma 4.1 with 10 new vectors) */
} crank_capture;

/* l = min(rank + oversample, m, n).
 * CRANK_LEFT: q [m,l] = an orthonormal basis of (a a^T)^powers a test[n,l]; capture is of q q^T a.
 * CRANK_RIGHT: q [n,l], the same of a^T; capture is of a q q^T.      capture may be NULL, which saves its two products. */
CRANK_API crank_status crank_range_finder(crank_context *context, crank_matrix a, crank_side side, const crank_sketch *sketch, crank_matrix q,
                                          crank_capture *capture);
CRANK_API int64_t crank_sketch_columns(crank_matrix a, const crank_sketch *sketch); /* l, the columns of q */

/* The leading `rank` triplets of q (q^T a), q by crank_range_finder: u [m,rank], s [rank] or NULL, vt [rank,n]. capture->error bounds
 * |a - u diag(s) vt|: the range finder's bound plus the first singular value that is left out. */
CRANK_API crank_status crank_randomised_svd(crank_context *context, crank_matrix a, const crank_sketch *sketch, crank_matrix u, double *s,
                                            crank_matrix vt, crank_capture *capture);

/* Block subspace iteration from an earlier basis: `steps` >= 0 times q <- orthonormal(a orthonormal(a^T q)), for CRANK_RIGHT with a^T.
 * a [m,n]; q [m,r] (CRANK_LEFT) or [n,r], r <= min(m,n), of a's type, in place. The q that comes in is made orthonormal first. With `align`
 * the new basis is turned within its space to lie nearest to the one that came in (orthogonal Procrustes, Schoenemann 1966), so that
 * what is stored along its columns keeps its meaning. A zero matrix leaves the basis as it came, made orthonormal.
 * *energy (or NULL) = |q^T a|^2 / |a|^2 of the new basis, 1 for a zero matrix. */
CRANK_API crank_status crank_subspace_refine(crank_context *context, crank_matrix a, crank_side side, int64_t steps, bool align, crank_matrix q,
                                             double *energy);

/* ---- spectra ------------------------------------------------------------------------------------------------------------- */

/* Of singular values s [n] >= 0 in any order; a spectrum of zeros gives 0. */
CRANK_API double  crank_effective_rank(const double *s, int64_t n); /* exp(-sum p log p), p = s / sum s (Roy and Vetterli 2007) */
CRANK_API double  crank_stable_rank(const double *s, int64_t n);    /* sum s^2 / max s^2 (Rudelson and Vershynin 2007) */
CRANK_API double  crank_nuclear_norm(const double *s, int64_t n);   /* sum s */
CRANK_API int64_t crank_numerical_rank(const double *s, int64_t n, double tolerance); /* how many exceed tolerance * max s */

/* *norm = the largest singular value of a, by power iteration of a^T a from a Gaussian vector of `stream`, in a's type: it is reached
 * from below. Ends when one step changes it by at most tolerance * itself; tolerance is at least 1e-6 for float and 1e-14 for double.
 * CRANK_BAD_DATA when `limit` steps do not suffice. */
CRANK_API crank_status crank_spectral_norm(crank_context *context, crank_matrix a, crank_stream stream, double tolerance, int64_t limit,
                                           double *norm);

/* Principal angles between the column spaces of p [m,a] and q [m,b], a and b <= m: angles [min(a,b)], radians, ascending in
 * 0 .. pi/2 (Bjoerck and Golub 1973: cosines for large, sines for small angles). The columns need not be orthonormal, but
 * independent. In double. */
CRANK_API crank_status crank_principal_angles(crank_context *context, crank_matrix p, crank_matrix q, double *angles);

/* ---- what training changed in a spectrum (Shuttleworth et al. 2024, arXiv:2410.21228) --------------------------------------- */

/* The thin decomposition of a weight before training: made once, compared with many later weights. */
typedef struct crank_spectrum {
    int64_t m, n, q; /* q = min(m, n) */
    float  *ut, *vt; /* [q, m] left vectors and [q, n] right vectors, a vector a row */
    double *s;       /* [q] */
    double  norm;    /* Frobenius */
} crank_spectrum;
CRANK_API crank_status crank_spectrum_of(crank_context *context, crank_matrix a, crank_spectrum *out);
CRANK_API void         crank_spectrum_free(crank_spectrum *spectrum);

/* The `top` leading triplets (y_j, s_j, q_j) of the weight after training beside the triplets (x_i, z_i) before. `best` is the largest
 * cosine of a vector with any one before: below epsilon it is an *intruder dimension*. Vectors whose singular values lie close together
 * turn freely among themselves, so `cluster` is the largest projection on the span of a chain of values each within 1 % of the next. */
typedef struct crank_spectral_side {
    float  *cosines; /* [top, q]: |y_j . x_i| */
    double *best;    /* [top] */
    double *cluster; /* [top], >= best */
    double  chance;  /* sqrt(2 ln q / length): about what `best` of a random direction is; epsilon below it means nothing */
} crank_spectral_side;
typedef struct crank_spectral_change {
    int64_t m, n, q, top;
    double *s;           /* [top] after */
    float  *left, *right; /* [top, m] y_j and [top, n] q_j, a vector a row */
    crank_spectral_side sides[2]; /* by crank_side */
    double  distance, change; /* |after - before| and |after - before| / |before|, Frobenius; 0: the same weight */
    double  effective_rank; /* of after - before */
} crank_spectral_change;

/* after [m,n] is of the spectrum's sizes; top in 1 .. q. `fast`: the leading triplets by block subspace iteration from those before, to 1e-6
 * of the largest value, where a full decomposition is too slow; the effective rank is then of after - before all the same. */
CRANK_API crank_status crank_spectral_change_of(crank_context *context, const crank_spectrum *before, crank_matrix a, crank_matrix after, int64_t top,
                                                bool fast, crank_spectral_change *out);
CRANK_API void         crank_spectral_change_free(crank_spectral_change *change);

/* Of the k leading vectors (k <= top): what the paper counts, and measures that do not depend on a threshold. */
typedef struct crank_intruders {
    int64_t count, clustered; /* best < epsilon; cluster < epsilon */
    int64_t first;            /* rank at which the highest intruder sits, from 1; 0: none */
    double  mean;             /* of best */
    double  energy;           /* sum of s_j^2 over intruders / over the k */
    double  overlap;          /* |Y_k^T X_k|^2 / k: 1 where the leading subspace is the same */
} crank_intruders;
CRANK_API crank_intruders crank_intruders_of(const crank_spectral_change *change, crank_side side, int64_t k, double epsilon);

#ifdef __cplusplus
}
#endif
#endif
