/* gradnorm.c - GaLore on the direction of a weight-normalised matrix (Huang et al. 2025, arXiv:2412.19616, optimiser mode; the adapter of the
 * paper is src/lowrank/gradnormlorp.c).
 *
 *     W_i = g_i v_i / |v_i|        row by row: magnitude g [out], direction v [out, in]
 *     dg_i = <G_i, v_i> / |v_i|,   dv_i = (g_i / |v_i|) (G_i - <G_i, v_i> v_i / |v_i|^2)
 *     R = project(dv);   v -= rate scale P N(R),   g -= rate N(dg)       N: the inner optimiser's step; one rate, no scale on g
 *     both decay behind their step;   W = g v / |v|
 *
 * v is not held: v = rho W with rho_i = |v_i| / g_i, so state is GaLore's and 2 floats a row (and the moments of g). Rows whose norm or magnitude
 * comes below 1e-12 stay finite. norm: detached leaves the second term of dv out, as the published code does.
 *
 * compat: official is the published optimiser: g starts every step as |v|, so that what was learned about it lives for one forward pass, and
 * dv = G; epsilon 1e-6 before the correction of AdamW's moments. */
#include <string.h>

#include "optim/inner.h"
#include "optim/subspace.h"

typedef struct {
    int64_t     rank, gap, passes;
    double      scale;
    const char *norm, *side, *refresh, *targets, *inner, *inner_options, *compat;
    bool        stagger;
} options;

typedef struct {
    subspace     space; /* first; r 0: the inner optimiser has the unit as it is */
    crank_param *magnitude, *ratio; /* g and rho [out]; 0 in ratio: not started */
    crank_unit   owner, direction, norm; /* the magnitude as a unit; inner optimisers of R and of the magnitude */
} state;

typedef struct {
    inner_choice   inner;
    subspace_tally tally;
} model_state;

static const crank_option option_table[] = {
    CRANK_INT(options, rank, 128, 1, 65536, "rank r of the subspace, cut at the matrix's smaller side"),
    CRANK_INT(options, gap, 250, 1, 1e9, "steps K between refreshes of the subspace"),
    CRANK_FLOAT(options, scale, 0.25, 0, 1e6, "the step of a direction is multiplied by it"),
    CRANK_CHOICE(options, norm, "full", "full|detached", "the direction's norm has a gradient, or is a constant"),
    CRANK_CHOICE(options, side, "std", SUBSPACE_SIDES, "which side is projected: the shorter (std), the longer, or a fixed one"),
    CRANK_CHOICE(options, refresh, "warm", SUBSPACE_REFRESHES, "how the basis is found: by subspace iteration inside of the step, or on the host: exactly (svd), .."),
    CRANK_INT(options, passes, 1, 1, 16, "refresh: warm: passes of the iteration; the first refresh makes 3 at least"),
    CRANK_BOOL(options, stagger, false, "refresh an eighth of the matrices at a time, spread over the gap, after a first refresh of all"),
    CRANK_CHOICE(options, targets, "layers", "layers|matrices", "matrices inside of the model's layers, or all"),
    CRANK_STRING(options, inner, "adamw", "the inner optimiser: adamw, adamw8bit, ..."),
    CRANK_MAP(options, inner_options, NULL, "its options"),
    CRANK_CHOICE(options, compat, "none", "none|official", "official: the published optimiser, which forgets the magnitude in every step"),
    CRANK_END
};

static bool is(const char *choice, const char *name) { return strcmp(choice, name) == 0; }

static crank_status attach(crank_context *context, crank_unit *unit)
{
    const options *opt = unit->options;
    state         *st = unit->state;
    model_state   *model = unit->model;
    int64_t        dims[2], rows = unit->param->view.dims[0];
    bool           adam = is(opt->compat, "official") && is(opt->inner, "adamw");
    crank_status   status = inner_choose(context, "gradnorm", opt->inner, opt->inner_options, adam ? "placement=hf\nepsilon=1e-6" : NULL, &model->inner);
    if (status != CRANK_OK) return status;
    if (unit->param->view.rank != 2 || (unit->block < 0 && is(opt->targets, "layers"))) return inner_attach(context, &model->inner, unit, NULL, &st->direction);
    status = subspace_attach(context, unit, opt->side, opt->rank, true, &st->space);
    if (status == CRANK_OK && subspace_is_warm(opt->refresh)) status = subspace_warm_attach(context, unit, &st->space);
    if (status != CRANK_OK) return status;
    st->magnitude = crank_unit_param(context, unit, "magnitude", optim_wide(unit), 1, &rows);
    st->ratio = crank_unit_param(context, unit, "ratio", optim_wide(unit), 1, &rows);
    subspace_dims(&st->space, dims);
    crank_param *delta = inner_delta(context, unit, 2, dims);
    if (!st->magnitude || !st->ratio || !delta) return crank_last_status(context);
    status = inner_attach(context, &model->inner, unit, delta, &st->direction);
    st->owner = *unit;
    st->owner.param = st->magnitude;
    return status == CRANK_OK ? inner_attach(context, &model->inner, &st->owner, NULL, &st->norm) : status;
}

/* ---- rows ---- */

static crank_tensor *column(crank_graph *graph, crank_param *param) { return crank_reshape(crank_use(graph, param), 2, (const int64_t[]){ param->view.dims[0], 1 }); }

static crank_tensor *row_norms(crank_tensor *x)
{
    crank_tensor *norm = crank_unary(CRANK_SQRT, crank_reduce(CRANK_SUM_SQUARES, x, 2u, true));
    return crank_binary(CRANK_MAX, norm, optim_number(x->graph, norm->dtype, 1e-12));
}

typedef struct rows {
    crank_tensor *W, *g, *rho, *inner; /* [m,n], [m,1] each; inner: <G_i, W_i> */
} rows;

/* Before the first step g = |W| and rho = 1. Officially g is |v| = rho |W| in every step. */
static rows rows_of(crank_graph *graph, const crank_unit *unit, crank_tensor *G)
{
    const options *opt = unit->options;
    const state   *st = unit->state;
    rows           r = { .W = crank_cast(crank_use(graph, unit->param), optim_wide(unit)), .g = column(graph, st->magnitude), .rho = column(graph, st->ratio) };
    crank_tensor  *zero = optim_number(graph, r.W->dtype, 0), *fresh = crank_binary(CRANK_EQ, r.rho, zero), *norm = row_norms(r.W);
    r.rho = crank_where(fresh, optim_number(graph, r.W->dtype, 1), r.rho);
    r.g = is(opt->compat, "official") ? crank_mul(norm, crank_binary(CRANK_MAX, r.rho, crank_scale(r.rho, -1))) : crank_where(fresh, norm, r.g);
    r.inner = crank_reduce(CRANK_SUM, crank_mul(G, r.W), 2u, true);
    return r;
}

/* dv: official G; else (G - <G, W> W / |W|^2) / rho, or without the second term */
static crank_tensor *direction_gradient(const crank_unit *unit, crank_tensor *G, const rows *r)
{
    const options *opt = unit->options;
    if (is(opt->compat, "official")) return G;
    if (is(opt->norm, "detached")) return crank_div(G, r->rho);
    crank_tensor *norm = row_norms(r->W), *share = crank_div(r->inner, crank_unary(CRANK_SQUARE, norm));
    return crank_div(crank_sub(G, crank_mul(r->W, share)), r->rho);
}

/* dg = <G, v> / |v| = <G, W> / |W|, with the sign of rho: v = rho W */
static crank_tensor *magnitude_gradient(const rows *r)
{
    crank_tensor *dg = crank_mul(crank_div(r->inner, row_norms(r->W)), crank_unary(CRANK_SIGN, r->rho));
    return crank_reshape(dg, 1, (const int64_t[]){ dg->dims[0] });
}

static void update(crank_graph *graph, crank_unit *unit, crank_tensor *gradient)
{
    const options *opt = unit->options;
    state         *st = unit->state;
    if (!st->space.r) {
        inner_update(graph, unit, &st->direction, gradient);
        return;
    }
    int64_t       m = unit->param->view.dims[0];
    crank_tensor *G = crank_cast(gradient, optim_wide(unit)); /* undivided: the inner optimisers divide and clip */
    rows          r = rows_of(graph, unit, G);
    crank_tensor *R = subspace_down_formed(graph, &st->space, direction_gradient(unit, G, &r)), *dg = magnitude_gradient(&r);
    crank_tensor *v = crank_mul(r.W, r.rho), *shrink = NULL;
    optim_set(graph, unit, crank_use(graph, st->magnitude), crank_reshape(r.g, 1, &m));
    crank_unit owner = st->owner;
    owner.decay = unit->decay, owner.rate_factor = unit->rate_factor, owner.clock = unit->clock;
    inner_update(graph, &owner, &st->norm, dg);
    crank_tensor *moved = crank_add(v, subspace_up(graph, &st->space, inner_step(graph, unit, &st->direction, R), opt->scale));
    if (unit->decay != 0) {
        shrink = crank_affine(optim_rate(graph, unit), -unit->decay, 1);
        moved = crank_mul(moved, shrink);
    }
    crank_tensor *tiny = optim_number(graph, moved->dtype, 1e-12), *g = column(graph, st->magnitude), *norm = row_norms(moved);
    g = crank_where(crank_binary(CRANK_GT, crank_binary(CRANK_MAX, g, crank_scale(g, -1)), tiny), g, tiny);
    crank_tensor *rho = crank_div(norm, g);
    optim_move(graph, unit, crank_sub(r.W, crank_div(moved, rho)));
    optim_set(graph, unit, crank_use(graph, st->ratio), crank_reshape(rho, 1, &m));
}

/* ---- refreshes: of the direction's gradient ---- */

static void refresh(crank_graph *graph, crank_unit *unit, crank_tensor *gradient)
{
    state        *st = unit->state;
    crank_tensor *G = crank_cast(gradient, optim_wide(unit));
    rows          r = rows_of(graph, unit, G);
    subspace_warm(graph, unit, &st->space, ((const options *)unit->options)->passes, direction_gradient(unit, G, &r), NULL, NULL);
}

static crank_status period(crank_context *context, crank_unit *units, int count, void *model_of_units, int64_t step, bool *changed)
{
    crank_status status = subspace_period(context, "gradnorm", units, count, &((model_state *)model_of_units)->tally, step);
    (void)changed;
    for (int i = 0; i < count; i++) {
        const options *opt = units[i].options;
        const state   *st = units[i].state;
        if (!units[i].param->moved && st->space.r) subspace_ask(&units[i], opt->refresh, opt->gap, opt->stagger, step);
    }
    return status;
}

/* On the host the basis is that of the weight's gradient, of which the direction's differs by factors of rows and one column of W. */
static crank_status observe(crank_context *context, crank_unit *unit, const float *gradient)
{
    subspace_news news;
    return subspace_observe(context, unit, ((const options *)unit->options)->refresh, gradient, false, &((model_state *)unit->model)->tally, &news);
}

static void release(crank_unit *unit)
{
    state *st = unit->state;
    if (unit->param)
        inner_release(&st->direction), inner_release(&st->norm);
    else
        inner_forget(&((model_state *)unit->model)->inner);
}

const crank_optimizer crank_optimizer_gradnorm = {
    .name             = "gradnorm",
    .paper            = "arXiv:2412.19616",
    .summary          = "GaLore on the directions of weight-normalised matrices, and their magnitudes beside them",
    .options          = option_table,
    .options_size     = sizeof(options),
    .state_size       = sizeof(state),
    .model_state_size = sizeof(model_state),
    .attach           = attach,
    .update           = update,
    .period           = period,
    .observe          = observe,
    .refresh          = refresh,
    .release          = release,
};
