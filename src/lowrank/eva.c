/* eva.c - explained variance adaptation: LoRA that starts in the principal components of what each linear reads (Paischer et al. 2024,
 * arXiv:2410.07170).
 *
 *     y = y0 + s (x A^T) B^T          A = V[:r] of the centred inputs, B = 0
 *
 * Linears that read the same x share one decomposition. With rho > 1 up to rho r components of each linear compete: all (linear,
 * component) pairs are sorted by explained variance and the first sum of r keep a place; a linear without one loses its adapter.
 * Ratios are s_i^2 / (N total variance). With `adjust` s stays alpha / r of the recipe whatever rank a linear ends with. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "linear/stack.h"
#include "lowrank/dora.h"
#include "lowrank/pair.h"
#include "lowrank/pca.h"

typedef struct {
    int64_t     rank;
    double      alpha, rho, dropout;
    bool        rslora, whiten, adjust, dora;
    const char *metric, *components;
} options;

/* What linears with the same x share; freed by the last of them. */
typedef struct group {
    int     users;
    int64_t keep, n;
    pca    *data;     /* until the components are there */
    float  *V;        /* [keep, n] */
    double *variance; /* [keep] */
    double  total;
} group;

typedef struct {
    pair      factors;
    dora_part part;   /* with dora */
    group    *shared; /* NULL: not calibrated */
} state;

static const crank_option option_table[] = {
    CRANK_INT(options, rank, 16, 1, 65536, "mean rank: the budget is its sum over the linears"),
    CRANK_FLOAT(options, alpha, 16, 0, 1e9, "the update is scaled by alpha / rank"),
    CRANK_FLOAT(options, rho, 2, 1, 1000, "largest rank of a linear over its share of the budget; 1: ranks stay equal"),
    CRANK_BOOL(options, rslora, false, "scale by alpha / sqrt(rank) instead"),
    CRANK_FLOAT(options, dropout, 0, 0, 0.999, "share of the inputs of the update's branch that is dropped in training"),
    CRANK_CHOICE(options, metric, "ratio", "ratio|variance|sum|max", "what components compete by: share of the total variance, variance, or variance over the sum or largest of the kept ones"),
    CRANK_BOOL(options, whiten, false, "rows of A are divided by the root of their singular value"),
    CRANK_BOOL(options, adjust, true, "alpha follows the rank that a linear ends with, so that the scale stays"),
    CRANK_BOOL(options, dora, false, "the weight's rows keep trained lengths (DoRA); such adapters are written in crank's own layout"),
    CRANK_CHOICE(options, components, "largest", "largest|smallest", "components that A starts in (smallest: the paper's control)"),
    CRANK_END
};

/* ---- calibration ---- */

static const options *own_options(const crank_site *site) { return site->options; }

static bool smallest(const crank_site *site) { return strcmp(own_options(site)->components, "smallest") == 0; }

/* round(rank rho), at most the inputs. */
static int64_t most(const crank_site *site)
{
    const options *o = site->options;
    double         wanted = floor((double)o->rank * (smallest(site) ? 1 : o->rho) + 0.5);
    return wanted < (double)site->linear->in ? (int64_t)wanted : site->linear->in;
}

static void group_release(group *g)
{
    if (!g || --g->users) return;
    pca_free(g->data);
    crank_free(g->V), crank_free(g->variance);
    crank_free(g);
}

/* The group of the site's x, made by the first of its linears; `second`: it is shown x^T x, not x. */
static group *group_of(crank_context *context, crank_site *site, bool second)
{
    state            *st = site->state;
    crank_attachment *attachment = site_attachment(site);
    int64_t           keep = 0;
    if (st->shared) return st->shared;
    for (int i = 0; i < attachment->count; i++) {
        const crank_site *other = &attachment->sites[i];
        if (other->linear->reads != site->linear->reads) continue;
        if (((state *)other->state)->shared) {
            st->shared = ((state *)other->state)->shared;
            st->shared->users++;
            return st->shared;
        }
        if (most(other) > keep) keep = most(other);
    }
    group *g = crank_alloc(context, 1, sizeof *g, "a group of linears");
    if (!g) return NULL;
    g->users = 1;
    g->keep = keep;
    g->n = site->linear->in;
    g->data = pca_new(context, g->n, keep, smallest(site) || second ? PCA_COVARIANCE : PCA_AUTO);
    g->V = crank_alloc(context, (size_t)(keep * g->n), sizeof *g->V, "components");
    g->variance = crank_alloc(context, (size_t)keep, sizeof *g->variance, "components");
    if (!g->data || !g->V || !g->variance) {
        group_release(g);
        return NULL;
    }
    st->shared = g;
    return g;
}

/* Only the linear that made the group hands its rows on: the others read the same. */
static bool leads(const crank_site *site)
{
    const crank_attachment *attachment = site_attachment(site);
    for (const crank_site *other = attachment->sites; other < site; other++)
        if (other->linear->reads == site->linear->reads) return false;
    return true;
}

/* Of the group: its first linear holds them. */
static size_t calibrate_bytes(const crank_site *site, size_t *last)
{
    pca_way way = smallest(site) ? PCA_COVARIANCE : PCA_AUTO;
    *last = leads(site) ? pca_work_bytes(site->linear->in, most(site), way) : 0;
    return leads(site) ? pca_bytes(site->linear->in, most(site), way) : 0;
}

static crank_status finish_group(crank_context *context, const crank_site *site, group *g)
{
    int64_t rows = pca_rows(g->data);
    if (rows <= g->keep)
        return crank_fail(context, CRANK_BAD_DATA,
                          "eva: %s has read %lld tokens in calibration, and %lld components (rank %lld times rho %g) need more: raise "
                          "lowrank.calibration.batches, or lower lowrank.rank or lowrank.rho",
                          site->linear->name, (long long)rows, (long long)g->keep, (long long)own_options(site)->rank, own_options(site)->rho);
    crank_status status = pca_components(context, g->data, smallest(site), g->V, g->variance, &g->total);
    pca_free(g->data);
    g->data = NULL;
    return status;
}

static crank_status calibrate(crank_context *context, crank_site *site, const crank_observation *batch)
{
    state *st = site->state;
    if (!batch && !st->shared) return CRANK_OK; /* nothing was seen: values come from a file */
    group *g = group_of(context, site, batch && batch->second);
    if (!g) return crank_last_status(context);
    if (!leads(site)) return CRANK_OK;
    if (!batch) return finish_group(context, site, g);
    return batch->second ? pca_add_second(context, g->data, batch->second, batch->sum, batch->n) : pca_add(context, g->data, batch->x, batch->n);
}

/* ---- ranks ---- */

typedef struct entry {
    double value;
    int    site;
    int    component;
} entry;

static int by_value(const void *a, const void *b)
{
    const entry *x = a, *y = b;
    if (x->value != y->value) return x->value < y->value ? 1 : -1;
    if (x->site != y->site) return x->site - y->site;
    return x->component - y->component;
}

static double score(const options *o, const group *g, int64_t i, int64_t cap)
{
    double value = g->variance[i], sum = 0;
    if (strcmp(o->metric, "ratio") == 0) return g->total > 0 ? value / g->total : 0;
    if (strcmp(o->metric, "max") == 0) return g->variance[0] > 0 ? value / g->variance[0] : 0;
    if (strcmp(o->metric, "variance") == 0) return value;
    for (int64_t k = 0; k < cap; k++) sum += g->variance[k];
    return sum > 0 ? value / sum : 0;
}

static crank_status give_ranks(crank_context *context, crank_site *sites, int count, entry *list, int64_t entries, int64_t budget)
{
    int64_t *ranks = crank_alloc(context, (size_t)count, sizeof *ranks, "ranks");
    if (!ranks) return CRANK_FAILED;
    qsort(list, (size_t)entries, sizeof *list, by_value);
    for (int64_t k = 0; k < entries && k < budget; k++) ranks[list[k].site]++;
    crank_status status = CRANK_OK;
    for (int i = 0; i < count && status == CRANK_OK; i++) status = crank_site_rank(context, &sites[i], ranks[i]);
    crank_free(ranks);
    return status;
}

static crank_status allot(crank_context *context, crank_site *sites, int count)
{
    int64_t entries = 0, room = 0, budget = 0;
    for (int i = 0; i < count; i++) {
        if (!((state *)sites[i].state)->shared) return CRANK_OK;
        room += most(&sites[i]);
        budget += own_options(&sites[i])->rank;
    }
    if (own_options(&sites[0])->rho <= 1 || smallest(&sites[0])) return CRANK_OK;
    entry *list = crank_alloc(context, (size_t)room, sizeof *list, "components of all linears");
    if (!list) return CRANK_FAILED;
    for (int i = 0; i < count; i++) {
        const group *g = ((state *)sites[i].state)->shared;
        int64_t      cap = most(&sites[i]);
        for (int64_t k = 0; k < cap; k++) /* rounding leaves about 1e-16 of the total where the inputs span less */
            if (g->variance[k] > 1e-12 * g->total) list[entries++] = (entry){ score(own_options(&sites[i]), g, k, cap), i, (int)k };
    }
    crank_status status = give_ranks(context, sites, count, list, entries, budget);
    crank_free(list);
    return status;
}

/* ---- the pair ---- */

/* The rank that the recipe gave the linear. */
static crank_status asked_rank(crank_context *context, const crank_site *site, double *rank)
{
    const crank_attachment *attachment = site_attachment(site);
    bool                    found;
    *rank = (double)((const options *)attachment->options)->rank;
    double       value = 0;
    crank_status status = target_pattern(context, attachment->where.rank_pattern, site->linear->name, "rank_pattern", &found, &value);
    if (status == CRANK_OK && found) *rank = value;
    return status;
}

static crank_status write_start(crank_context *context, const crank_site *site, const group *g, const pair *factors)
{
    const options *o = site->options;
    int64_t        r = o->rank, n = g->n, first = smallest(site) ? g->keep - r : 0;
    float         *A = crank_alloc(context, (size_t)(r * n), sizeof *A, "a factor");
    if (!A) return CRANK_FAILED;
    for (int64_t i = 0; i < r; i++) {
        double root = o->whiten && g->variance[first + i] > 0 ? pow(g->variance[first + i], 0.25) : 1;
        for (int64_t j = 0; j < n; j++) A[i * n + j] = (float)((double)g->V[(first + i) * n + j] / root);
    }
    crank_status status = crank_param_write(context, factors->A, A, CRANK_F32);
    crank_free(A);
    return status;
}

static crank_status attach(crank_context *context, crank_site *site)
{
    const options *o = site->options;
    state         *st = site->state;
    double         asked, alpha = o->alpha;
    crank_status   status = asked_rank(context, site, &asked);
    if (status) return status;
    if (o->rank > site->linear->in)
        return crank_fail(context, CRANK_USAGE, "eva: %s reads %lld inputs, which have no %lld components: lower lowrank.rank, or give it a rank by rank_pattern",
                          site->linear->name, (long long)site->linear->in, (long long)o->rank);
    if (o->dora && !site->linear->weight) return crank_fail(context, CRANK_USAGE, "eva: %s has no dense weight whose rows dora could measure", site->linear->name);
    if (o->adjust) alpha *= (double)o->rank / asked;
    pair_options plain = { .rank = o->rank, .alpha = alpha, .rslora = o->rslora, .init = "kaiming", .lora_plus = 1, .bias = "none" };
    status = pair_attach(context, site, &plain, &st->factors);
    if (status == CRANK_OK && o->dora) status = dora_attach(context, site, &st->part); /* B is zero: whatever A becomes, the rows are the weight's */
    if (status || !st->shared || !st->factors.A->view.data) return status;
    status = write_start(context, site, st->shared, &st->factors);
    group_release(st->shared);
    st->shared = NULL;
    return status;
}

static void derive(crank_graph *graph, crank_site *site)
{
    state *st = site->state;
    if (own_options(site)->dora) dora_derive(graph, site, &st->factors, &st->part);
}

/* x [n, in], y0 [n, out] from what stands below -> y [n, out] */
static crank_tensor *forward(crank_graph *graph, crank_site *site, crank_tensor *x, crank_tensor *y0)
{
    pair_options  plain = { .dropout = own_options(site)->dropout };
    const pair   *factors = &((state *)site->state)->factors;
    crank_tensor *dropped = pair_drop(graph, site, &plain, x);
    return own_options(site)->dora ? dora_forward(graph, site, factors, x, dropped, y0) : crank_add(y0, pair_delta(graph, site, factors, dropped));
}

static crank_status as_lora(crank_context *context, crank_site *site, int64_t *rank, double *scale, float **A, float **B)
{
    if (own_options(site)->dora) return crank_fail(context, CRANK_USAGE, "%s: with dora the update is no plain pair", site->linear->name);
    return pair_read(context, &((state *)site->state)->factors, rank, scale, A, B);
}

static bool peft_holds(const crank_site *site) { return !own_options(site)->dora; }

static void release(crank_site *site)
{
    state *st = site->state;
    if (st) group_release(st->shared);
    if (st) st->shared = NULL;
}

const crank_map crank_map_eva = {
    .name            = "eva",
    .paper           = "arXiv:2410.07170",
    .summary         = "LoRA that starts in the principal components of what each linear reads, with ranks by explained variance",
    .options         = option_table,
    .options_size    = sizeof(options),
    .state_size      = sizeof(state),
    .affine          = true,
    .observes        = CRANK_OBSERVE_X | CRANK_OBSERVE_SECOND,
    .calibrate       = calibrate,
    .calibrate_bytes = calibrate_bytes,
    .allot           = allot,
    .attach          = attach,
    .derive          = derive,
    .forward         = forward,
    .as_lora         = as_lora,
    .peft_holds      = peft_holds,
    .peft_type       = "LORA",
    .release         = release,
};
