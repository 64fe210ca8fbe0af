/* sylvester.c - p x + x q = c with symmetric p [m,m] and q [n,n], by two eigendecompositions (Bartels and Stewart 1972, the symmetric
 * case):
 *
 *     p = U diag(l) U^T, q = V diag(h) V^T,  c' = U^T c V,  x'_ij = c'_ij / (l_i + h_j),  x = U x' V^T */
#include "linalg/decompose.h"

#include <inttypes.h>
#include <math.h>

typedef struct pencil {
    crank_dtype dtype;
    int64_t     m, n;
    void       *l, *u, *h, *v; /* values, and vectors in rows */
    void       *middle, *half; /* [m,n] */
} pencil;

static double largest_magnitude(crank_dtype dtype, const void *values, int64_t n)
{
    return fmax(fabs(get(values, dtype, 0)), fabs(get(values, dtype, n - 1))); /* they descend */
}

/* to [m,n] = op(u) from op(v), with u and v as they are stored: rows are eigenvectors */
static void turn(const crank_context *context, const pencil *p, bool back, void *from, void *to)
{
    multiply(context, (product){.dtype = p->dtype, .trans_a = back, .m = p->m, .n = p->n, .k = p->m, .alpha = 1, .a = p->u, .a_row = p->m,
                                .b = from, .b_row = p->n, .c = p->half, .c_row = p->n});
    multiply(context, (product){.dtype = p->dtype, .trans_b = !back, .m = p->m, .n = p->n, .k = p->n, .alpha = 1, .a = p->half, .a_row = p->n,
                                .b = p->v, .b_row = p->n, .c = to, .c_row = p->n});
}

/* Divides `middle` by the sums of eigenvalues, or leaves a term out; how many were left out. */
static int64_t divide(const pencil *p, double cut)
{
    int64_t left_out = 0;
    for (int64_t i = 0; i < p->m; i++)
        for (int64_t j = 0; j < p->n; j++) {
            double sum = get(p->l, p->dtype, i) + get(p->h, p->dtype, j);
            bool   solvable = fabs(sum) > cut;
            left_out += !solvable;
            put(p->middle, p->dtype, i * p->n + j, solvable ? get(p->middle, p->dtype, i * p->n + j) / sum : 0);
        }
    return left_out;
}

static crank_status solve(crank_context *context, const pencil *p, double tolerance, crank_matrix c, crank_matrix x, int64_t *singular)
{
    double scale = largest_magnitude(p->dtype, p->l, p->m) + largest_magnitude(p->dtype, p->h, p->n);
    double cut = (tolerance > 0 ? tolerance : (double)(p->m + p->n) * epsilon_of(p->dtype)) * scale;
    dense_load(c, p->dtype, false, p->middle);
    turn(context, p, false, p->middle, p->middle);
    int64_t left_out = divide(p, cut);
    if (left_out && !singular)
        return crank_fail(context, CRANK_BAD_DATA,
                          "crank_sylvester: %" PRId64 " of %" PRId64 " sums of eigenvalues of p [%" PRId64 ",%" PRId64 "] and q [%" PRId64 ",%" PRId64
                          "] are zero (at most %g): the equation is singular; ask for the least solution or add a multiple of the identity",
                          left_out, p->m * p->n, p->m, p->m, p->n, p->n, cut);
    if (singular) *singular = left_out;
    turn(context, p, true, p->middle, p->middle);
    dense_store(x, p->dtype, p->middle, p->n, false);
    return CRANK_OK;
}

crank_status crank_sylvester(crank_context *context, crank_matrix p, crank_matrix q, crank_matrix c, crank_inside inside, double tolerance,
                             crank_matrix x, int64_t *singular)
{
    const crank_matrix all[] = {p, q, c, x};
    pencil             made = {.m = p.rows, .n = q.rows};
    crank_status       status = matrix_input(context, "crank_sylvester", "p", p, ANY, p.rows);
    if (status == CRANK_OK) status = matrix_input(context, "crank_sylvester", "q", q, ANY, q.rows);
    if (status == CRANK_OK) status = matrix_input(context, "crank_sylvester", "c", c, p.rows, q.rows);
    if (status == CRANK_OK) status = matrix_shape(context, "crank_sylvester", "x", x, p.rows, q.rows);
    if (status == CRANK_OK) status = matrix_inside(context, "crank_sylvester", inside, all, 4, &made.dtype);
    if (status == CRANK_OK && !(tolerance >= 0 && tolerance < 1))
        status = crank_fail(context, CRANK_USAGE, "crank_sylvester: tolerance %g is not in [0,1)", tolerance);
    if (status == CRANK_OK) status = lapack_fits(context, "crank_sylvester", p);
    if (status == CRANK_OK) status = lapack_fits(context, "crank_sylvester", q);
    if (status != CRANK_OK) return status;
    made.l = dense_new(context, made.dtype, 1, made.m, "eigenvalues");
    made.h = dense_new(context, made.dtype, 1, made.n, "eigenvalues");
    made.u = dense_new(context, made.dtype, made.m, made.m, "eigenvectors");
    made.v = dense_new(context, made.dtype, made.n, made.n, "eigenvectors");
    made.middle = dense_new(context, made.dtype, made.m, made.n, "a turned right side");
    made.half = dense_new(context, made.dtype, made.m, made.n, "a turned right side");
    status = made.l && made.h && made.u && made.v && made.middle && made.half ? CRANK_OK : CRANK_FAILED;
    if (status == CRANK_OK) status = eigen_rows(context, "crank_sylvester", p, made.dtype, made.l, made.u);
    if (status == CRANK_OK) status = eigen_rows(context, "crank_sylvester", q, made.dtype, made.h, made.v);
    if (status == CRANK_OK) status = solve(context, &made, tolerance, c, x, singular);
    void *const owned[] = {made.l, made.h, made.u, made.v, made.middle, made.half};
    for (size_t i = 0; i < sizeof owned / sizeof *owned; i++) crank_free(owned[i]);
    return status;
}
