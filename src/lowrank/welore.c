/* welore.c - compression with a rank for each matrix, and training of the low-rank ones alone (Jaiswal et al. 2024, arXiv:2407.11239).
 *
 *     W ~ A B,   A = U_k diag(s_k)^1/2 [out, k],   B = diag(s_k)^1/2 V_k^T [k, in];   y = (x B^T) A^T instead of x W^T
 *
 * One threshold on normalised singular values gives every matrix its rank (welore_ranks.h): data-free and at once. Matrices that lose more
 * than `gate` of their rank become factors, the others stay as they are. train: low trains the factors and leaves the rest frozen (the
 * paper's way), rest the other matrices (its contrast), none compresses alone. Merging writes A B. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "crank/linalg.h"
#include "crank/linear.h"
#include "lowrank/welore_ranks.h"

typedef struct {
    double      target, gate;
    const char *measure, *choice, *train;
} options;

typedef struct {
    crank_param *A, *B; /* NULL: the matrix stays as it is */
    int64_t      k;
    bool         low;
} state;

static const crank_option option_table[] = {
    CRANK_FLOAT(options, target, 0.5, 0, 0.999, "reduction that the ranks must reach"),
    CRANK_CHOICE(options, measure, "ranks", "ranks|parameters", "reduction of what: the sum of ranks, or the number of parameters"),
    CRANK_FLOAT(options, gate, 0.4999, 0, 1, "a matrix is factored where it loses more than this share of its rank; 0: wherever it loses any"),
    CRANK_CHOICE(options, choice, "adaptive", "adaptive|uniform", "one threshold for all matrices, or the same share of each"),
    CRANK_CHOICE(options, train, "low", "low|rest|none", "what is trained: the factors, the matrices that were not factored, or nothing"),
    CRANK_END
};

static bool is(const char *choice, const char *name) { return strcmp(choice, name) == 0; }

/* W [out, in] on the host, f32; crank_free. */
static float *weight_of(crank_context *context, const crank_site *site)
{
    float *W = crank_alloc(context, (size_t)(site->linear->out * site->linear->in), sizeof *W, "a weight");
    if (W && crank_linear_rows(context, site->linear, 0, site->linear->out, W) == CRANK_OK) return W;
    crank_free(W);
    return NULL;
}

static crank_status values_of(crank_context *context, const crank_site *site, double *sigma)
{
    float *W = weight_of(context, site);
    if (!W) return crank_last_status(context);
    crank_status status = crank_svd(context, crank_matrix_f32(W, site->linear->out, site->linear->in), CRANK_INSIDE_F64, crank_matrix_none(), sigma,
                                    crank_matrix_none());
    crank_free(W);
    return status;
}

static void tell(crank_context *context, const crank_site *sites, int count, const options *opt, double tau, double reached)
{
    int    low = 0;
    double before = 0, after = 0;
    for (int i = 0; i < count; i++) {
        const state *st = sites[i].state;
        double       size = (double)sites[i].linear->out * (double)sites[i].linear->in;
        low += st->low;
        before += size;
        after += st->low ? (double)st->k * (double)(sites[i].linear->out + sites[i].linear->in) : size;
        crank_log(context, CRANK_DEBUG, "welore: %s: rank %" PRId64 "%s", sites[i].linear->name, st->k, st->low ? "" : ", not factored");
    }
    crank_log(context, CRANK_INFO, "welore: %d of %d matrices are factored at a threshold of %.4f: %.1f %% fewer %s, %.1f %% fewer parameters", low, count, tau,
              100 * reached, is(opt->measure, "ranks") ? "ranks" : "parameters", 100 * (1 - after / before));
    if (reached < opt->target - 1e-9 && is(opt->choice, "adaptive"))
        crank_log(context, CRANK_WARNING, "welore: no threshold reaches a reduction of %g with a gate of %g; lower the gate", opt->target, opt->gate);
}

/* The ranks of all matrices. Without weights (planning) the same share of each stands for them. */
static crank_status allot(crank_context *context, crank_site *sites, int count)
{
    const options *opt = sites[0].options;
    bool           known = is(opt->choice, "adaptive");
    welore_measure measure = is(opt->measure, "ranks") ? WELORE_RANKS : WELORE_PARAMETERS;
    welore_matrix *matrices = crank_alloc(context, (size_t)count, sizeof *matrices, "ranks of matrices");
    double        *sigma = NULL, tau = 0, reached;
    size_t         all = 0;
    crank_status   status = matrices ? CRANK_OK : CRANK_FAILED;
    for (int i = 0; status == CRANK_OK && i < count; i++) {
        const crank_linear *linear = sites[i].linear;
        if (!linear->weight) status = crank_fail(context, CRANK_USAGE, "%s: welore factors a dense weight, and it has none", linear->name);
        else known &= linear->weight->view.data != NULL;
        matrices[i] = (welore_matrix){ .rows = linear->out, .cols = linear->in };
        all += (size_t)(linear->out < linear->in ? linear->out : linear->in);
    }
    if (status == CRANK_OK && known && !(sigma = crank_alloc(context, all, sizeof *sigma, "singular values"))) status = CRANK_FAILED;
    double *at = sigma;
    for (int i = 0; status == CRANK_OK && known && i < count; i++) {
        matrices[i].sigma = at;
        status = values_of(context, &sites[i], at);
        at += matrices[i].rows < matrices[i].cols ? matrices[i].rows : matrices[i].cols;
    }
    if (status == CRANK_OK && known) status = welore_choose(context, matrices, count, opt->target, opt->gate, measure, &tau, &reached);
    if (status == CRANK_OK && !known) reached = welore_uniform(matrices, count, opt->target, measure);
    for (int i = 0; status == CRANK_OK && i < count; i++) {
        state *st = sites[i].state;
        st->k = matrices[i].k;
        st->low = matrices[i].low;
    }
    if (status == CRANK_OK) tell(context, sites, count, opt, tau, reached);
    crank_free(matrices), crank_free(sigma);
    return status;
}

static crank_status write_factors(crank_context *context, const crank_site *site, const state *st)
{
    int64_t out = site->linear->out, in = site->linear->in, k = st->k, d = out < in ? out : in;
    float  *W = weight_of(context, site);
    double *U = crank_alloc(context, (size_t)(out * k), sizeof *U, "a factor"), *V = crank_alloc(context, (size_t)(k * in), sizeof *V, "a factor");
    double *s = crank_alloc(context, (size_t)d, sizeof *s, "singular values");
    crank_status status = W && U && V && s ? CRANK_OK : CRANK_FAILED;
    if (status == CRANK_OK) status = crank_svd(context, crank_matrix_f32(W, out, in), CRANK_INSIDE_F64, crank_matrix_f64(U, out, k), s, crank_matrix_f64(V, k, in));
    for (int64_t j = 0; status == CRANK_OK && j < k; j++) {
        double root = sqrt(s[j]);
        for (int64_t o = 0; o < out; o++) U[o * k + j] *= root;
        for (int64_t i = 0; i < in; i++) V[j * in + i] *= root;
    }
    if (status == CRANK_OK) status = crank_param_write(context, st->A, U, CRANK_F64);
    if (status == CRANK_OK) status = crank_param_write(context, st->B, V, CRANK_F64);
    crank_free(W), crank_free(U), crank_free(V), crank_free(s);
    return status;
}

static crank_status attach(crank_context *context, crank_site *site)
{
    const options *opt = site->options;
    state         *st = site->state;
    bool           trained = is(opt->train, "low");
    if (!st->low) return is(opt->train, "rest") ? crank_site_train(context, site, site->linear->weight) : CRANK_OK;
    st->A = crank_site_param(context, site, "A", CRANK_F32, 2, (const int64_t[]){ site->linear->out, st->k }, trained);
    st->B = crank_site_param(context, site, "B", CRANK_F32, 2, (const int64_t[]){ st->k, site->linear->in }, trained);
    if (!st->A || !st->B) return crank_last_status(context);
    if (!st->A->view.data || !site->linear->weight->view.data) return CRANK_OK; /* planning without memory */
    return write_factors(context, site, st);
}

/* x [n, in], y0 [n, out] from what stands below -> y [n, out]; with factors y0 is not read. */
static crank_tensor *forward(crank_graph *graph, crank_site *site, crank_tensor *x, crank_tensor *y0)
{
    const state *st = site->state;
    if (!st->A) return y0;
    crank_tensor *down = crank_linear_down(graph, site->linear, x, crank_use(graph, st->B));
    return crank_matmul(down, false, crank_cast(crank_use(graph, st->A), crank_graph_compute(graph)), true);
}

const crank_map crank_map_welore = {
    .name         = "welore",
    .paper        = "arXiv:2407.11239",
    .summary      = "factors of each weight with a rank of its own, of which the low-rank ones are trained",
    .options      = option_table,
    .options_size = sizeof(options),
    .state_size   = sizeof(state),
    .affine       = true,
    .needs_base   = "dense",
    .allot        = allot,
    .attach       = attach,
    .forward      = forward,
};
