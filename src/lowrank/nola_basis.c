/* nola_basis.c - the operation nola_combine, y = (1/sqrt k) sum_i c_i M_i, and its reverse nola_project, dc_i = (1/sqrt k) <dy, M_i>.
 *
 * Both draw the matrices tile by tile: memory does not depend on k. An entry's sum runs over i in order and a coefficient's over tiles in
 * order, so the bits do not depend on the number of threads. */
#include "lowrank/nola_basis.h"

#include <math.h>
#include <string.h>

#include "graph/ops/op.h"

enum { TILE = 1024, GROUP = 16, LANES = 16 };

typedef struct {
    crank_stream stream;
    int64_t      rows, columns, k, bits;
} attributes;

/* ---- tiles ---- */

/* sum += c M_i of one tile: in double, or in float into `part`. */
static void add_wide(double c, const float *drawn, int64_t count, double *sum)
{
#pragma omp simd
    for (int64_t e = 0; e < count; e++) sum[e] += c * (double)drawn[e];
}

static void add_narrow(float c, const float *drawn, int64_t count, float *part)
{
#pragma omp simd
    for (int64_t e = 0; e < count; e++) part[e] += c * drawn[e];
}

/* Entries first .. first + count - 1 of the sum, into `sum` [TILE]. `exact`: products in double; else sums of GROUP matrices are float. */
static void combine_tile(crank_stream stream, const double *c, int64_t k, bool exact, int64_t n, int64_t first, int64_t count, double *sum)
{
    float drawn[TILE], part[TILE];
    memset(sum, 0, sizeof *sum * (size_t)count);
    for (int64_t i = 0; i < k; i++) {
        crank_fill_uniform(stream, (uint64_t)(i * n + first), -1, 1, drawn, (size_t)count);
        if (exact) {
            add_wide(c[i], drawn, count, sum);
            continue;
        }
        if (i % GROUP == 0) memset(part, 0, sizeof *part * (size_t)count);
        add_narrow((float)c[i], drawn, count, part);
        if (i % GROUP == GROUP - 1 || i == k - 1) add_wide(1, part, count, sum);
    }
    double factor = 1 / sqrt((double)k);
    for (int64_t e = 0; e < count; e++) sum[e] *= factor;
}

static double dot_wide(const double *a, const float *drawn, int64_t count)
{
    double sum = 0;
    for (int64_t e = 0; e < count; e++) sum += a[e] * (double)drawn[e];
    return sum;
}

static double dot_narrow(const float *a, const float *drawn, int64_t count)
{
    float   lanes[LANES] = { 0 };
    double  sum = 0;
    int64_t e = 0;
    for (; e + LANES <= count; e += LANES)
#pragma omp simd
        for (int l = 0; l < LANES; l++) lanes[l] += a[e + l] * drawn[e + l];
    for (; e < count; e++) sum += (double)a[e] * (double)drawn[e];
    for (int l = 0; l < LANES; l++) sum += (double)lanes[l];
    return sum;
}

/* <dy, M_i>, dy of f32 or f64 */
static double project_one(crank_stream stream, const crank_view *dy, int64_t n, int64_t i)
{
    float  drawn[TILE];
    double sum = 0;
    for (int64_t first = 0; first < n; first += TILE) {
        int64_t count = n - first < TILE ? n - first : TILE;
        crank_fill_uniform(stream, (uint64_t)(i * n + first), -1, 1, drawn, (size_t)count);
        sum += dy->dtype == CRANK_F64 ? dot_wide((const double *)dy->data + first, drawn, count) : dot_narrow((const float *)dy->data + first, drawn, count);
    }
    return sum;
}

void nola_quantise(double *c, int64_t k, int64_t bits)
{
    double largest = 0, steps = (double)((1 << (bits - 1)) - 1);
    for (int64_t i = 0; i < k; i++) largest = fabs(c[i]) > largest ? fabs(c[i]) : largest;
    for (int64_t i = 0; largest > 0 && i < k; i++) c[i] = nearbyint(c[i] / largest * steps) * largest / steps;
}

crank_status nola_add_combination(crank_context *context, const float *c, int64_t k, crank_stream stream, float *out, int64_t n)
{
    double *wide = crank_alloc(context, (size_t)k, sizeof *wide, "coefficients");
    for (int64_t i = 0; wide && i < k; i++) wide[i] = (double)c[i];
    for (int64_t first = 0; wide && first < n; first += TILE) {
        double  sum[TILE];
        int64_t count = n - first < TILE ? n - first : TILE;
        combine_tile(stream, wide, k, true, n, first, count, sum);
        for (int64_t e = 0; e < count; e++) out[first + e] += (float)sum[e];
    }
    crank_free(wide);
    return wide ? CRANK_OK : CRANK_FAILED;
}

/* ---- bodies ---- */

static double load(const crank_view *view, int64_t i) { return view->dtype == CRANK_F64 ? ((const double *)view->data)[i] : (double)((const float *)view->data)[i]; }

static void store(const crank_view *view, int64_t i, double value)
{
    if (view->dtype == CRANK_F64) ((double *)view->data)[i] = value;
    else ((float *)view->data)[i] = (float)value;
}

static double *load_all(crank_context *context, const crank_view *view)
{
    int64_t n = crank_view_count(view);
    double *values = crank_alloc(context, (size_t)n, sizeof *values, "a combination of random matrices");
    for (int64_t i = 0; values && i < n; i++) values[i] = load(view, i);
    return values;
}

static crank_status run_combine(crank_context *context, const crank_call *call)
{
    const attributes *a = call->attributes;
    const crank_view *y = &call->out[0];
    int64_t           n = a->rows * a->columns;
    double           *c = load_all(context, &call->in[0]);
    if (!c) return CRANK_FAILED;
    if (a->bits) nola_quantise(c, a->k, a->bits);
#pragma omp parallel for num_threads(crank_threads(context)) schedule(static)
    for (int64_t first = 0; first < n; first += TILE) {
        double  sum[TILE];
        int64_t count = n - first < TILE ? n - first : TILE;
        combine_tile(a->stream, c, a->k, y->dtype == CRANK_F64, n, first, count, sum);
        for (int64_t e = 0; e < count; e++) store(y, first + e, sum[e]);
    }
    crank_free(c);
    return CRANK_OK;
}

static crank_status run_project(crank_context *context, const crank_call *call)
{
    const attributes *a = call->attributes;
    const crank_view *dc = &call->out[0];
    int64_t           n = a->rows * a->columns;
    double            factor = 1 / sqrt((double)a->k);
#pragma omp parallel for num_threads(crank_threads(context)) schedule(static)
    for (int64_t i = 0; i < a->k; i++) store(dc, i, factor * project_one(a->stream, &call->in[0], n, i));
    return CRANK_OK;
}

/* ---- operations ---- */

static double flops(const crank_node *node)
{
    const attributes *a = node->attributes;
    return 2 * (double)a->k * (double)a->rows * (double)a->columns;
}

static bool wide_type(const crank_tensor *x) { return x->dtype == CRANK_F32 || x->dtype == CRANK_F64; }

static crank_status infer_combine(crank_graph *graph, crank_node *node)
{
    const attributes   *a = node->attributes;
    const crank_tensor *c = node->inputs[0];
    if (c->rank != 1 || c->dims[0] != a->k || !wide_type(c)) return op_refuse(graph, "nola_combine: coefficients %s, not f32 or f64 [%lld]", op_shape(c).text, (long long)a->k);
    crank_set_output(node, 0, c->dtype, 2, (const int64_t[]){ a->rows, a->columns });
    return CRANK_OK;
}

static crank_status infer_project(crank_graph *graph, crank_node *node)
{
    const attributes   *a = node->attributes;
    const crank_tensor *dy = node->inputs[0];
    if (op_count(dy) != a->rows * a->columns || !wide_type(dy)) return op_refuse(graph, "nola_project: a gradient %s of other sizes", op_shape(dy).text);
    crank_set_output(node, 0, dy->dtype, 1, &a->k);
    return CRANK_OK;
}

static const crank_op op_project = { .name = "nola_project", .infer = infer_project, .run_cpu = run_project, .attributes_size = sizeof(attributes), .flops = flops };

static void gradient_combine(crank_graph *graph, crank_node *node, crank_tensor *const *dy, crank_tensor **dx)
{
    crank_tensor *c = node->inputs[0], *d = crank_contiguous(crank_cast(dy[0], c->dtype));
    (void)graph;
    if (op_wants(c)) dx[0] = op_gradient_for(op_one(&op_project, &d, 1, node->attributes), c);
}

static const crank_op op_combine = { .name = "nola_combine", .infer = infer_combine, .gradient = gradient_combine, .run_cpu = run_combine,
                                     .attributes_size = sizeof(attributes), .flops = flops };

crank_tensor *nola_combination(crank_graph *graph, crank_tensor *c, crank_stream stream, int64_t rows, int64_t columns, int64_t bits)
{
    if (crank_graph_status(graph) != CRANK_OK) return c;
    crank_tensor *dense = crank_contiguous(c);
    return op_one(&op_combine, &dense, 1, &(attributes){ stream, rows, columns, c->dims[0], bits });
}
