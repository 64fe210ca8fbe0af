/* subspace.c - bases of gradient subspaces: made, recorded, refreshed.
 *
 * A basis holds r leading singular vectors of the gradient G = U diag(s) V^T, in the order of s; the largest entry of
 * each is positive (with both sides: of the left one of a pair), so that runs on different machines agree. */
#include "optim/subspace.h"

#include <math.h>
#include <string.h>

#include "graph/ops/op.h"
#include "linalg/blas.h"

enum { OVERSAMPLE = 8 }; /* columns of a sketch beyond the rank */

crank_status subspace_attach(crank_context *context, crank_unit *unit, const char *side, int64_t rank, bool narrow, subspace *out)
{
    int64_t m = unit->param->view.dims[0], n = unit->param->view.dims[1], r = rank < m ? rank : m;
    if (r > n) r = n;
    bool wide = m < n, std = strcmp(side, "std") == 0, reverse = strcmp(side, "reverse") == 0, full = strcmp(side, "full") == 0;
    bool left = full || strcmp(side, "left") == 0 || (std && wide) || (reverse && !wide);
    bool right = full || strcmp(side, "right") == 0 || (std && !wide) || (reverse && wide);
    crank_dtype type = narrow && unit->param->view.dtype == CRANK_BF16 ? CRANK_BF16 : optim_wide(unit);
    *out = (subspace){ .m = m, .n = n, .r = r, .wide = optim_wide(unit) };
    if (left) out->left = crank_unit_param(context, unit, "left", type, 2, (const int64_t[]){ m, r });
    if (right) out->right = crank_unit_param(context, unit, "right", type, 2, (const int64_t[]){ r, n });
    return (left && !out->left) || (right && !out->right) ? crank_last_status(context) : CRANK_OK;
}

void subspace_dims(const subspace *space, int64_t dims[2])
{
    dims[0] = space->left ? space->r : space->m;
    dims[1] = space->right ? space->r : space->n;
}

/* The factors of a gradient G = alpha dY^T X that a product has just made: dY [tokens, m], X [tokens, n]. False: it is none. */
static bool product_of(const crank_tensor *G, crank_tensor **dY, crank_tensor **X, double *alpha)
{
    const crank_node *node = G->node;
    if (!node || node->op != &op_matmul || node->inputs[2] || node->inputs[3] || G->rank != 2 || G->base) return false;
    const crank_matmul_attributes *a = &((const matmul_attributes *)node->attributes)->matmul;
    *dY = node->inputs[0], *X = node->inputs[1], *alpha = a->alpha;
    return a->trans_a && !a->trans_b && (*dY)->rank == 2 && (*X)->rank == 2 && (*dY)->dtype == (*X)->dtype;
}

crank_dtype subspace_product_type(const crank_graph *graph, const subspace *space)
{
    crank_dtype wide = space->wide, compute = crank_graph_compute(graph);
    return crank_dtype_bits(compute) < 32 && wide == CRANK_F32 ? compute : wide;
}

static crank_tensor *basis(crank_graph *graph, crank_param *param, crank_dtype type) { return crank_cast(crank_use(graph, param), type); }

/* P^T dY^T X = (dY P)^T X and dY^T X P^T = dY^T (X P^T): the gradient itself is not formed where that costs less. */
static crank_tensor *down_from_factors(crank_graph *graph, const subspace *space, crank_tensor *G)
{
    crank_tensor *dY, *X;
    double        alpha, m = (double)space->m, n = (double)space->n, r = (double)space->r;
    if (crank_graph_status(graph) != CRANK_OK || !product_of(G, &dY, &X, &alpha) || dY->dtype != subspace_product_type(graph, space)) return NULL;
    double tokens = (double)dY->dims[0], formed = tokens * m * n + m * n * r, direct = tokens * r * (m + n);
    if (space->left && space->right) formed += r * r * n, direct = tokens * r * (m + n + r);
    if (direct >= formed) return NULL;
    if (space->left) dY = crank_matmul(dY, false, basis(graph, space->left, dY->dtype), false);
    if (space->right) X = crank_matmul(X, false, basis(graph, space->right, X->dtype), true);
    return crank_matmul_full(dY, true, X, false, alpha, NULL, NULL, space->wide);
}

crank_tensor *subspace_down(crank_graph *graph, const subspace *space, crank_tensor *G)
{
    crank_tensor *R = down_from_factors(graph, space, G);
    return R ? R : subspace_down_formed(graph, space, G);
}

crank_tensor *subspace_down_formed(crank_graph *graph, const subspace *space, crank_tensor *G)
{
    crank_dtype   wide = space->wide, type = subspace_product_type(graph, space);
    crank_tensor *R = crank_cast(G, type);
    if (space->left) R = crank_matmul_full(basis(graph, space->left, type), true, R, false, 1, NULL, NULL, space->right ? type : wide);
    if (space->right) R = crank_matmul_full(R, false, basis(graph, space->right, type), true, 1, NULL, NULL, wide);
    return R;
}

crank_tensor *subspace_up(crank_graph *graph, const subspace *space, crank_tensor *N, double scale)
{
    crank_dtype   wide = N->dtype, type = subspace_product_type(graph, space);
    crank_tensor *step = crank_cast(N, type);
    if (space->left) step = crank_matmul_full(basis(graph, space->left, type), false, step, false, space->right ? 1 : scale, NULL, NULL, space->right ? type : wide);
    if (space->right) step = crank_matmul_full(step, false, basis(graph, space->right, type), false, scale, NULL, NULL, wide);
    return step;
}

/* ---- bases on the host: u [m,r] and vt [r,n], double, or NULL ---- */

typedef struct bases {
    double *u, *vt;
} bases;

static void release(bases *b)
{
    crank_free(b->u), crank_free(b->vt);
    *b = (bases){ 0 };
}

static crank_status make(crank_context *context, const subspace *space, bases *b)
{
    *b = (bases){ 0 };
    if (space->left) b->u = crank_alloc(context, (size_t)(space->m * space->r), sizeof *b->u, "a basis");
    if (space->right) b->vt = crank_alloc(context, (size_t)(space->r * space->n), sizeof *b->vt, "a basis");
    return (space->left && !b->u) || (space->right && !b->vt) ? CRANK_FAILED : CRANK_OK;
}

static crank_status read_bases(crank_context *context, const subspace *space, bases *b)
{
    crank_status status = make(context, space, b);
    if (status == CRANK_OK && b->u) status = crank_param_read(context, space->left, b->u, CRANK_F64);
    if (status == CRANK_OK && b->vt) status = crank_param_read(context, space->right, b->vt, CRANK_F64);
    return status;
}

static bool is_zero(const double *x, int64_t n)
{
    for (int64_t i = 0; x && i < n; i++)
        if (x[i] != 0) return false;
    return true;
}

static bool unset(const subspace *space, const bases *b) { return is_zero(b->u, space->m * space->r) && is_zero(b->vt, space->r * space->n); }

static void transpose(const double *from, int64_t rows, int64_t cols, double *to)
{
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < cols; j++) to[j * rows + i] = from[i * cols + j];
}

/* ---- ways to find them ---- */

/* The largest entry of each row of vt becomes positive: pairs come with the sign of the left vector. */
static void turn_rows(const subspace *space, double *vt)
{
    for (int64_t i = 0; i < space->r; i++) {
        double *row = vt + i * space->n, largest = 0;
        for (int64_t j = 0; j < space->n; j++)
            if (fabs(row[j]) > fabs(largest)) largest = row[j];
        for (int64_t j = 0; largest < 0 && j < space->n; j++) row[j] = -row[j];
    }
}

static crank_status by_svd(crank_context *context, const subspace *space, crank_matrix G, bases *b)
{
    return crank_svd(context, G, CRANK_INSIDE_F64, b->u ? crank_matrix_f64(b->u, space->m, space->r) : crank_matrix_none(), NULL,
                     b->vt ? crank_matrix_f64(b->vt, space->r, space->n) : crank_matrix_none());
}

static crank_status by_gram(crank_context *context, const subspace *space, crank_matrix G, bases *b)
{
    crank_status status = CRANK_OK;
    for (int side = 0; status == CRANK_OK && side < 2; side++) {
        double *out = side ? b->vt : b->u;
        int64_t k = side ? space->n : space->m, r = space->r;
        if (!out) continue;
        double *gram = crank_alloc(context, (size_t)(k * k), sizeof *gram, "a Gram matrix"), *columns = crank_alloc(context, (size_t)(k * r), sizeof *columns, "a basis");
        status = gram && columns ? crank_gram(context, G, side ? CRANK_RIGHT : CRANK_LEFT, crank_matrix_f64(gram, k, k)) : CRANK_FAILED;
        if (status == CRANK_OK) status = crank_eigen(context, crank_matrix_f64(gram, k, k), CRANK_INSIDE_F64, NULL, crank_matrix_f64(columns, k, r));
        if (status == CRANK_OK && side) transpose(columns, k, r, out);
        if (status == CRANK_OK && !side) memcpy(out, columns, (size_t)(k * r) * sizeof *out);
        crank_free(gram), crank_free(columns);
    }
    return status;
}

static crank_status by_sketch(crank_context *context, const subspace *space, crank_matrix G, crank_stream stream, uint64_t first, bases *b)
{
    crank_sketch sketch = { .rank = space->r, .oversample = OVERSAMPLE, .powers = 1, .stream = stream, .first = first };
    float       *u = b->u ? crank_alloc(context, (size_t)(space->m * space->r), sizeof *u, "singular vectors") : NULL;
    float       *vt = b->vt ? crank_alloc(context, (size_t)(space->r * space->n), sizeof *vt, "singular vectors") : NULL;
    crank_status status = (b->u && !u) || (b->vt && !vt) ? CRANK_FAILED : CRANK_OK;
    if (status == CRANK_OK)
        status = crank_randomised_svd(context, G, &sketch, u ? crank_matrix_f32(u, space->m, space->r) : crank_matrix_none(), NULL,
                                      vt ? crank_matrix_f32(vt, space->r, space->n) : crank_matrix_none(), NULL);
    for (int64_t i = 0; status == CRANK_OK && u && i < space->m * space->r; i++) b->u[i] = u[i];
    for (int64_t i = 0; status == CRANK_OK && vt && i < space->r * space->n; i++) b->vt[i] = vt[i];
    crank_free(u), crank_free(vt);
    return status;
}

/* Orthonormal columns of a Gaussian matrix, or r of the k unit vectors in ascending order. */
static crank_status by_draw(crank_context *context, const subspace *space, bool coordinates, crank_stream stream, uint64_t first, bases *b)
{
    crank_status status = CRANK_OK;
    for (int side = 0; status == CRANK_OK && side < 2; side++) {
        double *out = side ? b->vt : b->u;
        int64_t k = side ? space->n : space->m, r = space->r;
        if (!out) continue;
        double *q = crank_alloc(context, (size_t)(k * r), sizeof *q, "a basis");
        if (!q) return CRANK_FAILED;
        uint64_t at = first + (uint64_t)side * (uint64_t)(space->m * space->r);
        if (!coordinates) {
            for (int64_t i = 0; i < k * r; i++) q[i] = crank_draw_normal(stream, at + (uint64_t)i);
            status = crank_orthonormalise(context, crank_matrix_f64(q, k, r), CRANK_INSIDE_F64);
        } else {
            int64_t taken = 0; /* selection sampling: index i is taken with probability (wanted) / (left) */
            for (int64_t i = 0; i < k && taken < r; i++)
                if ((int64_t)crank_draw_below(stream, at + (uint64_t)i, (uint64_t)(k - i)) < r - taken) q[i * r + taken++] = 1;
        }
        if (status == CRANK_OK && side) transpose(q, k, r, out);
        if (status == CRANK_OK && !side) memcpy(out, q, (size_t)(k * r) * sizeof *out);
        crank_free(q);
    }
    return status;
}

static crank_status find(crank_context *context, const subspace *space, const char *refresh, crank_matrix G, crank_stream stream, uint64_t first, bases *b)
{
    if (strcmp(refresh, "gram") == 0) return by_gram(context, space, G, b);
    bool exact = strcmp(refresh, "svd") == 0;
    if (exact || strcmp(refresh, "random") == 0) {
        crank_status status = exact ? by_svd(context, space, G, b) : by_sketch(context, space, G, stream, first, b);
        if (status == CRANK_OK && !b->u) turn_rows(space, b->vt);
        return status;
    }
    return by_draw(context, space, strcmp(refresh, "coordinates") == 0, stream, first, b);
}

/* ---- refresh ---- */

static double squares_of(const float *x, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += (double)x[i] * x[i];
    return sum;
}

static float *narrowed(crank_context *context, const double *x, int64_t n)
{
    float *out = crank_alloc(context, (size_t)n, sizeof *out, "a basis");
    if (out) crank_convert(out, CRANK_F32, x, CRANK_F64, (size_t)n);
    return out;
}

/* |R|^2 / |G|^2 with R the projection by b, multiplied in float */
static crank_status captured_energy(crank_context *context, const subspace *space, const float *G, const bases *b, double *energy)
{
    int64_t m = space->m, n = space->n, r = space->r, rows = b->u ? r : m, cols = b->vt ? r : n;
    float  *u = b->u ? narrowed(context, b->u, m * r) : NULL, *vt = b->vt ? narrowed(context, b->vt, r * n) : NULL;
    float  *half = b->u ? crank_alloc(context, (size_t)(r * n), sizeof *half, "a projection") : NULL;
    float  *R = b->vt ? crank_alloc(context, (size_t)(rows * r), sizeof *R, "a projection") : NULL;
    bool    good = (!b->u || (u && half)) && (!b->vt || (vt && R));
    if (good) {
        if (u)
            multiply(context, (product){ .dtype = CRANK_F32, .trans_a = true, .m = r, .n = n, .k = m, .alpha = 1, .a = u, .a_row = r, .b = G, .b_row = n, .c = half,
                                         .c_row = n });
        if (vt)
            multiply(context, (product){ .dtype = CRANK_F32, .trans_b = true, .m = rows, .n = r, .k = n, .alpha = 1, .a = u ? half : G, .a_row = n, .b = vt, .b_row = n,
                                         .c = R, .c_row = r });
        double all = squares_of(G, m * n), kept = squares_of(vt ? R : half, rows * cols);
        *energy = all > 0 ? fmin(1, kept / all) : 1;
    }
    crank_free(u), crank_free(vt), crank_free(half), crank_free(R);
    return good ? CRANK_OK : CRANK_FAILED;
}

/* new^T old of the left bases, new old^T of the right ones */
static crank_status overlaps(crank_context *context, const subspace *space, const bases *fresh, const bases *old, subspace_news *news)
{
    int64_t m = space->m, n = space->n, r = space->r;
    if (fresh->u) news->left = crank_alloc(context, (size_t)(r * r), sizeof *news->left, "an overlap of bases");
    if (fresh->vt) news->right = crank_alloc(context, (size_t)(r * r), sizeof *news->right, "an overlap of bases");
    if ((fresh->u && !news->left) || (fresh->vt && !news->right)) return CRANK_FAILED;
    if (fresh->u)
        multiply(context, (product){ .dtype = CRANK_F64, .trans_a = true, .m = r, .n = r, .k = m, .alpha = 1, .a = fresh->u, .a_row = r, .b = old->u, .b_row = r,
                                     .c = news->left, .c_row = r });
    if (fresh->vt)
        multiply(context, (product){ .dtype = CRANK_F64, .trans_b = true, .m = r, .n = r, .k = n, .alpha = 1, .a = fresh->vt, .a_row = n, .b = old->vt,
                                     .b_row = n, .c = news->right, .c_row = r });
    return CRANK_OK;
}

static bool is_finite(const float *x, int64_t n)
{
    bool finite = true;
    for (int64_t i = 0; i < n; i++) finite &= fabsf(x[i]) <= 0x1.fffffep127f;
    return finite;
}

crank_status subspace_refresh(crank_context *context, const subspace *space, const char *refresh, const float *gradient, crank_stream stream,
                              uint64_t first, bool overlap, subspace_news *news)
{
    bases        old = { 0 }, fresh = { 0 };
    crank_matrix G = crank_matrix_f32(gradient, space->m, space->n);
    *news = (subspace_news){ 0 };
    crank_status status = read_bases(context, space, &old);
    bool         first_time = status == CRANK_OK && unset(space, &old), finite = is_finite(gradient, space->m * space->n);
    news->kept = !finite;
    if (status != CRANK_OK || (!finite && !first_time)) {
        release(&old);
        return status;
    }
    status = make(context, space, &fresh);
    if (status == CRANK_OK && fresh.u) memcpy(fresh.u, old.u, (size_t)(space->m * space->r) * sizeof *old.u);
    if (status == CRANK_OK && fresh.vt) memcpy(fresh.vt, old.vt, (size_t)(space->r * space->n) * sizeof *old.vt);
    if (status == CRANK_OK) status = find(context, space, finite ? refresh : "orthonormal", G, stream, first, &fresh);
    if (status == CRANK_OK && finite) status = captured_energy(context, space, gradient, &fresh, &news->energy);
    if (status == CRANK_OK && overlap && !first_time) status = overlaps(context, space, &fresh, &old, news);
    if (status == CRANK_OK && fresh.u) status = crank_param_write(context, space->left, fresh.u, CRANK_F64);
    if (status == CRANK_OK && fresh.vt) status = crank_param_write(context, space->right, fresh.vt, CRANK_F64);
    release(&old), release(&fresh);
    return status;
}

/* x [rows,cols] <- L x R^T, L [rows,rows] and R [cols,cols] or NULL, their entries squared where `squared` */
static crank_status turn(crank_context *context, const double *left, const double *right, bool squared, int64_t rows, int64_t cols, crank_param *param)
{
    size_t       count = (size_t)(rows * cols), most = (size_t)(left ? rows * rows : 0) + (size_t)(right ? cols * cols : 0);
    double      *x = crank_alloc(context, count, sizeof *x, "moments"), *y = crank_alloc(context, count, sizeof *y, "moments");
    double      *C = crank_alloc(context, most + 1, sizeof *C, "a rotation");
    crank_status status = x && y && C ? crank_param_read(context, param, x, CRANK_F64) : CRANK_FAILED;
    for (int side = 0; status == CRANK_OK && side < 2; side++) {
        const double *from = side ? right : left;
        int64_t       k = side ? cols : rows;
        if (!from) continue;
        for (int64_t i = 0; i < k * k; i++) C[i] = squared ? from[i] * from[i] : from[i];
        multiply(context, (product){ .dtype = CRANK_F64, .trans_b = side == 1, .m = rows, .n = cols, .k = k, .alpha = 1, .a = side ? x : C,
                                     .a_row = side ? cols : k, .b = side ? C : x, .b_row = side ? k : cols, .c = y, .c_row = cols });
        memcpy(x, y, count * sizeof *x);
    }
    if (status == CRANK_OK) status = crank_param_write(context, param, x, CRANK_F64);
    crank_free(x), crank_free(y), crank_free(C);
    return status;
}

crank_status subspace_rotate(crank_context *context, const subspace *space, const subspace_news *news, crank_param *M, crank_param *V)
{
    int64_t dims[2];
    subspace_dims(space, dims);
    if (!news->left && !news->right) return CRANK_OK;
    crank_status status = turn(context, news->left, news->right, false, dims[0], dims[1], M);
    return status == CRANK_OK ? turn(context, news->left, news->right, true, dims[0], dims[1], V) : status;
}

int64_t subspace_last_refresh(int64_t gap, bool stagger, int index, int64_t step)
{
    int64_t waves = gap < SUBSPACE_WAVES ? gap : SUBSPACE_WAVES, place = stagger ? index % waves * gap / waves : 0;
    return step - 1 < place ? 1 : place + (step - 1 - place) / gap * gap + 1;
}

/* ---- the log ---- */

void subspace_count(subspace_tally *tally, const subspace_news *news)
{
    if (news->kept) {
        tally->kept++;
        return;
    }
    tally->least = tally->count ? fmin(tally->least, news->energy) : news->energy;
    tally->sum += news->energy;
    tally->count++;
}

void subspace_tell(crank_context *context, const char *optimizer, subspace_tally *tally)
{
    if (tally->count)
        crank_log(context, CRANK_DEBUG, "%s: step %lld: new bases of %d matrices hold %.1f %% of the gradients' energy (the least %.1f %%)", optimizer,
                  (long long)tally->step, tally->count, 100 * tally->sum / tally->count, 100 * tally->least);
    if (tally->kept)
        crank_log(context, CRANK_WARNING, "%s: step %lld: the gradients of %d matrices are not finite; their bases stay", optimizer, (long long)tally->step,
                  tally->kept);
    *tally = (subspace_tally){ 0 };
}

/* ---- period and observe ---- */

crank_status subspace_period(crank_context *context, const char *optimizer, crank_unit *units, int count, subspace_tally *tally, int64_t step)
{
    crank_status status = CRANK_OK;
    for (int i = 0; status == CRANK_OK && i < count; i++)
        if (!units[i].param->moved) status = subspace_warm_hear(context, units[i].state, tally);
    subspace_tell(context, optimizer, tally);
    tally->step = step;
    return status;
}

bool subspace_ask(crank_unit *unit, const char *refresh, int64_t gap, bool stagger, int64_t step)
{
    bool due = !step || subspace_last_refresh(gap, stagger, unit->index, step) == step, warm = subspace_is_warm(refresh);
    unit->probe = due && !warm;
    if (warm) subspace_warm_ask(unit, unit->state, due, step <= 1);
    return due;
}

crank_status subspace_observe(crank_context *context, const crank_unit *unit, const char *refresh, const float *gradient, bool overlap,
                              subspace_tally *tally, subspace_news *news)
{
    crank_stream stream = crank_stream_make(unit->seed, CRANK_RANDOM_METHOD, (uint32_t)tally->step);
    crank_status status = subspace_refresh(context, unit->state, refresh, gradient, stream, (uint64_t)unit->index << 40, overlap, news);
    if (status == CRANK_OK) subspace_count(tally, news);
    return status;
}
