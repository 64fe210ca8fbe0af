/* lamda.c - low-dimensional adaptation between spectral projections (Azizi et al. 2024, arXiv:2406.12832), and LaMDA++.
 *
 *     y = y0 + s (x PMA^T) (PMB LDA - B0)^T          PMA [r, in] frozen, LDA [r, r] trained, PMB [out, r] trained until it freezes
 *
 *     svd      PMA = V_r^T, PMB = U_r, LDA = diag(S_r) of W, B0 = U_r diag(S_r) frozen, s = 1: the model starts as W + 0
 *     zero     the same projections, LDA = 0, no B0
 *     random   PMA Kaiming-uniform, LDA in 1/sqrt(r), PMB = 0, no B0, s = alpha / r: what the authors' code does
 *
 * With eta the share of the run in which PMB freezes, its first f(t) = min(r, floor(r t / (eta T))) columns keep their values at step t, and
 * from eta T on only LDA moves. eta 0: PMB never moves; eta > 1: it is never wholly frozen. The columns' values before the step are kept, so
 * momentum and decay of the optimiser move nothing that is frozen, and the gradient of frozen columns is zero before the clip.
 *
 * LaMDA++: with `candidates` r_1 < .. < r_K each linear gets one of them: by the gain E(r_K) - E(r_1) of spectral energy, linears are parted
 * into K groups of equal size, the larger gain the larger rank; ranks are then moved by one from the largest gain on until their mean is `rank`. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "lowrank/pair.h"
#include "lowrank/spectrum.h"
#include "lowrank/start.h"

typedef struct {
    int64_t     rank;
    double      alpha, eta, dropout;
    const char *init, *order, *candidates;
} options;

typedef struct {
    crank_param *PMA, *LDA, *PMB, *B0, *held; /* B0: with svd; held: PMB before the step, while it may move */
    double       scale;
} state;

static const crank_option option_table[] = {
    CRANK_INT(options, rank, 16, 1, 65536, "rank of the adapter; with candidates the mean rank"),
    CRANK_FLOAT(options, eta, 0.3, 0, 1e9, "share of the run in which the output projection freezes, column by column; 0: frozen from the start"),
    CRANK_CHOICE(options, init, "svd", "svd|zero|random", "projections of the weight's spectrum with its singular values as the core, with a core of zero, or random"),
    CRANK_FLOAT(options, alpha, 16, 0, 1e9, "random: the update is scaled by alpha / rank"),
    CRANK_CHOICE(options, order, "largest", "largest|smallest", "columns of the largest or of the smallest singular values freeze first"),
    CRANK_FLOAT(options, dropout, 0, 0, 0.999, "share of the inputs of the update's branch that is dropped in training (not with svd)"),
    CRANK_LIST(options, candidates, NULL, "ranks that linears choose from by their spectra (LaMDA++)"),
    CRANK_END
};

/* ---- ranks (LaMDA++) ---- */

enum { CANDIDATES = 64 };

typedef struct ranked {
    int     site;
    double  gain;
    int64_t rank, limit;
} ranked;

static int by_gain(const void *a, const void *b)
{
    const ranked *x = a, *y = b;
    if (x->gain != y->gain) return x->gain < y->gain ? -1 : 1;
    return y->site - x->site; /* of equal ones the first stands higher */
}

static crank_status read_candidates(crank_context *context, const char *text, int64_t *ranks, int *count)
{
    char key[32];
    *count = 0;
    for (const char *cursor = text; crank_list_next(&cursor, key, sizeof key, NULL, 0);) {
        char     *end;
        long long rank = strtoll(key, &end, 10);
        if (*end || end == key || rank < 1 || (*count && rank <= ranks[*count - 1]) || *count == CANDIDATES)
            return crank_fail(context, CRANK_USAGE, "lamda: candidates are at most %d rising ranks, not `%s`", CANDIDATES, key);
        ranks[(*count)++] = rank;
    }
    return CRANK_OK;
}

/* E(last) - E(first) of the linear's weight. */
static crank_status energy_gain(crank_context *context, const crank_site *site, int64_t first, int64_t last, double *gain)
{
    const crank_linear *linear = site->linear;
    int64_t             all = linear->in < linear->out ? linear->in : linear->out;
    spectrum            w;
    double              sum = 0, between = 0;
    crank_status        status = spectrum_of_weight(context, site, all, &w);
    if (status) return status;
    for (int64_t i = 0; i < all; i++) {
        sum += w.s[i] * w.s[i];
        if (i >= first && i < last) between += w.s[i] * w.s[i];
    }
    spectrum_free(&w);
    *gain = sum > 0 ? between / sum : 0;
    return CRANK_OK;
}

/* Ranks by group, then by one from the top until they sum to the budget. */
static void share_out(ranked *list, int count, const int64_t *candidates, int choices, int64_t mean)
{
    int64_t missing = mean * count;
    bool    equal = list[count - 1].gain - list[0].gain <= 1e-9;
    for (int i = 0; i < count; i++) {
        int64_t wanted = equal ? mean : candidates[(int64_t)i * choices / count];
        list[i].rank = wanted < list[i].limit ? wanted : list[i].limit;
        missing -= list[i].rank;
    }
    for (bool moved = true; missing != 0 && moved;) {
        moved = false;
        for (int i = count - 1; i >= 0 && missing != 0; i--) {
            ranked *each = &list[missing > 0 ? i : count - 1 - i];
            int64_t next = each->rank + (missing > 0 ? 1 : -1);
            if (next < 1 || next > each->limit) continue;
            each->rank = next;
            missing += missing > 0 ? -1 : 1;
            moved = true;
        }
    }
}

static crank_status allot(crank_context *context, crank_site *sites, int count)
{
    const options *o = sites[0].options;
    int64_t        candidates[CANDIDATES];
    int            choices;
    if (!o->candidates || !*o->candidates) return CRANK_OK;
    for (int i = 0; i < count; i++) /* ranks of their own stand in a file, or there is no memory to look at */
        if (((const options *)sites[i].options)->rank != o->rank || !sites[i].linear->weight->view.data) return CRANK_OK;
    crank_status status = read_candidates(context, o->candidates, candidates, &choices);
    ranked      *list = status == CRANK_OK ? crank_alloc(context, (size_t)count, sizeof *list, "ranks") : NULL;
    if (!list) return crank_last_status(context);
    for (int i = 0; i < count && status == CRANK_OK; i++) {
        const crank_linear *linear = sites[i].linear;
        list[i] = (ranked){ .site = i, .limit = linear->in < linear->out ? linear->in : linear->out };
        status = energy_gain(context, &sites[i], candidates[0], candidates[choices - 1], &list[i].gain);
    }
    if (status == CRANK_OK) {
        qsort(list, (size_t)count, sizeof *list, by_gain);
        share_out(list, count, candidates, choices, o->rank);
    }
    for (int i = 0; i < count && status == CRANK_OK; i++) {
        crank_log(context, CRANK_DEBUG, "lamda: %s gets rank %lld, energy gain %.4f", sites[list[i].site].linear->name, (long long)list[i].rank, list[i].gain);
        status = crank_site_rank(context, &sites[list[i].site], list[i].rank);
    }
    crank_free(list);
    return status;
}

/* ---- start ---- */

static bool is(const char *text, const char *other) { return strcmp(text, other) == 0; }

static crank_status write_spectral(crank_context *context, crank_site *site, const state *st)
{
    int64_t      r = st->LDA->view.dims[0], out = site->linear->out;
    spectrum     w;
    crank_status status = spectrum_of_weight(context, site, r, &w);
    if (status) return status;
    float *core = crank_alloc(context, (size_t)(r * r), sizeof *core, "a core");
    if (!core) status = CRANK_FAILED;
    if (status == CRANK_OK) status = crank_param_write(context, st->PMA, w.Vt, CRANK_F32);
    if (status == CRANK_OK) status = crank_param_write(context, st->PMB, w.U, CRANK_F32);
    for (int64_t k = 0; status == CRANK_OK && k < r; k++) core[k * r + k] = (float)w.s[k];
    if (status == CRANK_OK && st->B0) status = crank_param_write(context, st->LDA, core, CRANK_F32);
    /* One rounding each, as in the product PMB LDA with a diagonal LDA: their difference is zero. */
    for (int64_t i = 0; status == CRANK_OK && i < out * r; i++) w.U[i] *= core[(i % r) * r + i % r];
    if (status == CRANK_OK && st->B0) status = crank_param_write(context, st->B0, w.U, CRANK_F32);
    crank_free(core);
    spectrum_free(&w);
    return status;
}

static crank_status write_start(crank_context *context, crank_site *site, const state *st)
{
    const options *o = site->options;
    crank_status   status;
    if (is(o->init, "random")) {
        status = start_factor(context, site, st->PMA, "kaiming", site->linear->in);
        if (status == CRANK_OK) status = start_uniform(context, site, st->LDA, 1 / sqrt((double)o->rank));
    } else status = write_spectral(context, site, st);
    if (status || !st->held) return status;
    size_t n = (size_t)crank_view_count(&st->PMB->view);
    float *host = crank_alloc(context, n, sizeof *host, "a projection");
    if (!host) return CRANK_FAILED;
    status = crank_param_read(context, st->PMB, host, CRANK_F32);
    if (status == CRANK_OK) status = crank_param_write(context, st->held, host, CRANK_F32);
    crank_free(host);
    return status;
}

static crank_status attach(crank_context *context, crank_site *site)
{
    const options      *o = site->options;
    state              *st = site->state;
    const crank_linear *linear = site->linear;
    int64_t             r = o->rank, all = linear->in < linear->out ? linear->in : linear->out;
    bool                moves = o->eta > 0, spectral = !is(o->init, "random");
    if (r > all)
        return crank_fail(context, CRANK_USAGE, "%s is a %lld x %lld map: an adapter of rank %lld is more than it has; lower lowrank.rank, or give it one by rank_pattern",
                          linear->name, (long long)linear->out, (long long)linear->in, (long long)r);
    if (o->dropout > 0 && is(o->init, "svd"))
        return crank_fail(context, CRANK_USAGE, "lamda: dropout would leave out part of the weight itself with init svd: set dropout to 0, or init to zero or random");
    st->scale = spectral ? 1 : o->alpha / (double)r;
    st->PMA = crank_site_param(context, site, "PMA", CRANK_F32, 2, (const int64_t[]){ r, linear->in }, false);
    st->LDA = crank_site_param(context, site, "LDA", CRANK_F32, 2, (const int64_t[]){ r, r }, true);
    st->PMB = crank_site_param(context, site, "PMB", CRANK_F32, 2, (const int64_t[]){ linear->out, r }, moves);
    if (is(o->init, "svd")) st->B0 = crank_site_param(context, site, "B0", CRANK_F32, 2, (const int64_t[]){ linear->out, r }, false);
    if (moves) st->held = crank_site_state(context, site, "held", CRANK_ROLE_STATE, CRANK_F32, 2, (const int64_t[]){ linear->out, r });
    if (!st->PMA || !st->LDA || !st->PMB || (is(o->init, "svd") && !st->B0) || (moves && !st->held)) return crank_last_status(context);
    if (!st->PMA->view.data || !linear->weight->view.data) return CRANK_OK; /* planning without memory */
    return write_start(context, site, st);
}

/* ---- recording ---- */

/* D = PMB LDA - B0 [out, r] */
static void derive(crank_graph *graph, crank_site *site)
{
    const state  *st = site->state;
    crank_tensor *D = crank_matmul(crank_use(graph, st->PMB), false, crank_use(graph, st->LDA), false);
    crank_site_put(graph, site, "D", st->B0 ? crank_sub(D, crank_use(graph, st->B0)) : D);
}

/* x [n, in], y0 [n, out] from what stands below -> y [n, out]. Of the inputs only x PMA^T [n, r] is kept for the reverse pass. */
static crank_tensor *forward(crank_graph *graph, crank_site *site, crank_tensor *x, crank_tensor *y0)
{
    const options *o = site->options;
    const state   *st = site->state;
    if (o->dropout > 0 && crank_graph_training(graph)) x = crank_dropout(x, o->dropout);
    crank_tensor *u = crank_linear_down(graph, site->linear, x, crank_use(graph, st->PMA));
    crank_tensor *D = crank_cast(crank_site_get(graph, site, "D"), crank_graph_compute(graph));
    return crank_add(y0, crank_matmul_full(u, false, D, true, st->scale, NULL, NULL, CRANK_DTYPES));
}

/* 1 for the columns of PMB that are frozen in this step: [1, r]. */
static crank_tensor *frozen(crank_graph *graph, const crank_site *site)
{
    const options *o = site->options;
    const state   *st = site->state;
    crank_dtype    type = st->PMB->view.dtype;
    int64_t        r = st->PMB->view.dims[1], dims[2] = { 1, 1 };
    crank_tensor  *columns[CRANK_MAX_INPUTS], *row = NULL;
    crank_tensor  *progress = crank_reshape(crank_cast(crank_step_scalar(graph, CRANK_SCALAR_PROGRESS), type), 2, dims);
    crank_tensor  *f = crank_affine(progress, (double)r / o->eta, 1e-4); /* column k is frozen where k + 1 <= f; PROGRESS is rounded */
    int            count = 0;
    for (int64_t k = 0; k < r; k++) {
        int64_t place = is(o->order, "largest") ? k + 1 : r - k;
        columns[count++] = crank_binary(CRANK_GE, f, crank_fill(graph, type, 2, dims, (double)place));
        if (count < CRANK_MAX_INPUTS && k + 1 < r) continue;
        row = crank_concat(columns, count, 1);
        columns[0] = row;
        count = 1;
    }
    return row ? row : columns[0];
}

static void before_step(crank_graph *graph, crank_site *site)
{
    const state  *st = site->state;
    crank_tensor *g = st->held ? crank_gradient_of(graph, st->PMB) : NULL;
    if (g) crank_gradient_set(graph, st->PMB, crank_mul(g, crank_cast(crank_affine(frozen(graph, site), -1, 1), g->dtype)));
}

static void after_step(crank_graph *graph, crank_site *site)
{
    const state *st = site->state;
    if (!st->held) return;
    crank_tensor *PMB = crank_use(graph, st->PMB), *held = crank_use(graph, st->held);
    crank_tensor *now = crank_where(frozen(graph, site), held, PMB);
    crank_assign(PMB, now, false);
    crank_assign(held, now, false);
}

/* A' = PMA, B' = PMB LDA - B0 */
static crank_status as_lora(crank_context *context, crank_site *site, int64_t *rank, double *scale, float **A, float **B)
{
    const state *st = site->state;
    int64_t      r = st->LDA->view.dims[0], in = site->linear->in, out = site->linear->out;
    float       *a = crank_alloc(context, (size_t)(r * in), sizeof *a, "a factor"), *b = crank_alloc(context, (size_t)(r * out), sizeof *b, "a factor");
    float       *P = crank_alloc(context, (size_t)(r * out), sizeof *P, "a factor"), *L = crank_alloc(context, (size_t)(r * r), sizeof *L, "a core");
    crank_status status = a && b && P && L ? CRANK_OK : CRANK_FAILED;
    if (status == CRANK_OK) status = crank_param_read(context, st->PMA, a, CRANK_F32);
    if (status == CRANK_OK) status = crank_param_read(context, st->PMB, P, CRANK_F32);
    if (status == CRANK_OK) status = crank_param_read(context, st->LDA, L, CRANK_F32);
    if (status == CRANK_OK && st->B0) status = crank_param_read(context, st->B0, b, CRANK_F32);
    for (int64_t i = 0; status == CRANK_OK && i < out; i++)
        for (int64_t k = 0; k < r; k++) {
            double sum = -(double)b[i * r + k];
            for (int64_t j = 0; j < r; j++) sum += (double)P[i * r + j] * (double)L[j * r + k];
            b[i * r + k] = (float)sum;
        }
    crank_free(P), crank_free(L);
    return pair_give(status, r, st->scale, a, b, rank, scale, A, B);
}

const crank_map crank_map_lamda = {
    .name         = "lamda",
    .paper        = "arXiv:2406.12832",
    .summary      = "a trained core between the weight's spectral projections; the output projection freezes column by column",
    .options      = option_table,
    .options_size = sizeof(options),
    .state_size   = sizeof(state),
    .affine       = true,
    .needs_base   = "dense",
    .allot        = allot,
    .attach       = attach,
    .derive       = derive,
    .forward      = forward,
    .before_step  = before_step,
    .after_step   = after_step,
    .as_lora      = as_lora,
};
