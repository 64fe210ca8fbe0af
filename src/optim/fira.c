/* fira.c - GaLore with the rest of the gradient added back, scaled as the inner optimiser scaled its part (Chen et al. 2024,
 * arXiv:2410.01623).
 *
 * P orthonormal, near the leading r singular vectors of G, refreshed every T steps (subspace.h); left case, R = P^T G:
 *     N        = Adam's (or RMSProp's) direction along R
 *     phi_j    = |N_j| / (|R_j| + 1e-8)                          for each column j (right case: each row); `matrix`: one for all
 *     S        = (G - a P R) diag(phi)
 *     limit    l = max(|S| / (s + 1e-8), gamma) / gamma, S /= l, s = |S|     where s, the norm of the step before, is known
 *     W       -= rate (scale P N + b S);   W -= rate decay W
 *
 * mode: paper     a = 1, b = scale; the corrections of Adam's moments count in N, and so in s.
 * mode: official  a = scale, b = 1, epsilon before the corrections and 1e-6, s without the corrections: the published code, which gave
 *                 the paper's numbers.
 *
 * S is never formed: P is orthonormal and P^T G = R, so |G_j - a P R_j|^2 = |G_j|^2 - (2a - a^2) |R_j|^2, and with c = phi / l
 *     scale P N + b (G - a P R) diag(c) = P (scale N - a b R diag(c)) + b G diag(c):
 * two products and two passes over G. Applies to matrices inside of the model's layers (`targets: matrices`: to all, so also to the
 * factors of a low-rank method); all else goes to `others` at the same rate. */
#include <stdio.h>
#include <string.h>

#include "optim/inner.h"
#include "optim/subspace.h"

typedef struct {
    int64_t     rank, gap, passes;
    double      scale, growth, beta1, beta2, epsilon;
    const char *mode, *scaling, *moments, *side, *refresh, *targets;
    bool        stagger;
} options;

typedef struct {
    subspace     space; /* first; r 0: AdamW has the unit as it is */
    crank_param *m, *v, *norm; /* m NULL with rmsprop; norm [1]: s, 0 while it is not known */
    crank_param *delta;        /* what the fused update of m and v leaves alone */
    crank_unit   inner;        /* AdamW of the others, or 8-bit AdamW on a delta */
} state;

typedef struct {
    inner_choice   others, bits8;
    subspace_tally tally;
} model_state;

static const crank_option option_table[] = {
    CRANK_INT(options, rank, 128, 1, 65536, "rank r of the subspace, cut at the matrix's smaller side"),
    CRANK_INT(options, gap, 200, 1, 1e9, "steps T between refreshes of the subspace"),
    CRANK_FLOAT(options, scale, 0.25, 0, 1e6, "the step of a projected matrix is multiplied by it"),
    CRANK_FLOAT(options, growth, 1.01, 0, 1e6, "gamma: how much the norm of the rest may grow in a step; 0: without limit"),
    CRANK_CHOICE(options, mode, "official", "official|paper", "the published code's step, or the paper's"),
    CRANK_CHOICE(options, scaling, "column", "column|matrix|none", "the rest is scaled column by column, by one factor, or not"),
    CRANK_CHOICE(options, moments, "adam", "adam|adam8bit|rmsprop", "what is kept in the subspace"),
    CRANK_FLOAT(options, beta1, 0.9, 0, 0.999999, "decay of the first moment"),
    CRANK_FLOAT(options, beta2, 0.999, 0, 0.9999999, "decay of the second moment (rmsprop: 0.9 is usual)"),
    CRANK_FLOAT(options, epsilon, 1e-6, 0, 1, "added to the root of the second moment"),
    CRANK_CHOICE(options, side, "std", "std|reverse|left|right", "which side is projected: the shorter (std), the longer, or a fixed one"),
    CRANK_CHOICE(options, refresh, "warm", SUBSPACE_REFRESHES, "how the basis is found: by subspace iteration inside of the step, or on the host: exactly (svd), .."),
    CRANK_INT(options, passes, 1, 1, 16, "refresh: warm: passes of the iteration; the first refresh makes 3 at least"),
    CRANK_BOOL(options, stagger, false, "refresh an eighth of the matrices at a time, spread over the gap, after a first refresh of all"),
    CRANK_CHOICE(options, targets, "layers", "layers|matrices", "matrices inside of the model's layers, or all"),
    CRANK_END
};

static bool is(const char *choice, const char *name) { return strcmp(choice, name) == 0; }

static crank_status choose(crank_context *context, const options *opt, model_state *model)
{
    char adam[256];
    snprintf(adam, sizeof adam, "beta1=%.17g\nbeta2=%.17g\nepsilon=%.17g\n", opt->beta1, is(opt->moments, "rmsprop") ? 0.999 : opt->beta2, opt->epsilon);
    crank_status status = inner_choose(context, "fira", "adamw8bit", adam, "min_size=0", &model->bits8);
    if (is(opt->mode, "official")) strcat(adam, "placement=hf\n");
    return status == CRANK_OK ? inner_choose(context, "fira", "adamw", adam, NULL, &model->others) : status;
}

static crank_status attach(crank_context *context, crank_unit *unit)
{
    const options *opt = unit->options;
    state         *st = unit->state;
    model_state   *model = unit->model;
    int64_t        dims[2], one = 1;
    crank_status   status = choose(context, opt, model);
    if (status != CRANK_OK) return status;
    if (unit->param->view.rank != 2 || (unit->block < 0 && is(opt->targets, "layers"))) return inner_attach(context, &model->others, unit, NULL, &st->inner);
    status = subspace_attach(context, unit, opt->side, opt->rank, false, &st->space);
    if (status == CRANK_OK && subspace_is_warm(opt->refresh)) status = subspace_warm_attach(context, unit, &st->space);
    if (status != CRANK_OK) return status;
    subspace_dims(&st->space, dims);
    st->norm = crank_unit_param(context, unit, "norm", optim_wide(unit), 1, &one);
    if (!st->norm) return crank_last_status(context);
    if (is(opt->moments, "adam8bit")) {
        crank_param *delta = inner_delta(context, unit, 2, dims);
        return delta ? inner_attach(context, &model->bits8, unit, delta, &st->inner) : crank_last_status(context);
    }
    if (is(opt->moments, "adam")) {
        st->delta = inner_delta(context, unit, 2, dims);
        st->m = st->delta ? crank_unit_param(context, unit, "m", optim_wide(unit), 2, dims) : NULL;
        if (!st->m) return crank_last_status(context);
    }
    st->v = crank_unit_param(context, unit, "v", optim_wide(unit), 2, dims);
    return st->v ? CRANK_OK : crank_last_status(context);
}

/* m and v of the projection R (divided and clipped: R = clip raw), and what stands above the root in N. Adam's are moved by its fused operation at
 * a rate of 0, as long as no row of the weight lives by a clock of its own. */
static crank_tensor *moments(crank_graph *graph, const crank_unit *unit, crank_tensor *raw, crank_tensor *R)
{
    const options *opt = unit->options;
    state         *st = unit->state;
    crank_tensor  *v = crank_use(graph, st->v), *m = st->m ? crank_use(graph, st->m) : NULL, *first = R;
    if (m && !(unit->clock && unit->clock->view.rank > 1)) {
        const crank_adam_attributes still = { .beta1 = opt->beta1, .beta2 = opt->beta2, .epsilon = 1, .rate_factor = 0 };
        crank_adamw(crank_use(graph, st->delta), raw, m, v, crank_unit_scalars(graph, unit), &still);
        return m;
    }
    if (m) {
        first = crank_add(crank_scale(m, opt->beta1), crank_scale(R, 1 - opt->beta1));
        optim_set(graph, unit, m, first);
    }
    optim_set(graph, unit, v, crank_add(crank_scale(v, opt->beta2), crank_scale(crank_unary(CRANK_SQUARE, R), 1 - opt->beta2)));
    return first;
}

/* N. Corrected in paper mode; officially the corrections go into the step's size. */
static crank_tensor *direction(crank_graph *graph, const crank_unit *unit, crank_tensor *raw, crank_tensor *R)
{
    const options *opt = unit->options;
    crank_tensor  *first = moments(graph, unit, raw, R), *root = crank_unary(CRANK_SQRT, crank_use(graph, ((state *)unit->state)->v));
    if (is(opt->moments, "rmsprop") || is(opt->mode, "official")) return crank_div(first, crank_affine(root, 1, opt->epsilon));
    crank_tensor *t = optim_scalar(graph, unit, CRANK_SCALAR_STEP);
    root = crank_div(root, crank_unary(CRANK_SQRT, optim_correction(t, opt->beta2)));
    return crank_div(crank_div(first, optim_correction(t, opt->beta1)), crank_affine(root, 1, opt->epsilon));
}

/* The 8-bit optimiser's corrected step on a delta over the rate; the projection arrives undivided. */
static crank_tensor *direction_8bit(crank_graph *graph, const crank_unit *unit, crank_tensor *undivided)
{
    state        *st = unit->state;
    crank_tensor *delta = inner_step(graph, unit, &st->inner, undivided), *rate = optim_rate(graph, unit);
    return crank_div(crank_scale(delta, -1), crank_binary(CRANK_MAX, rate, optim_number(graph, rate->dtype, 1e-30)));
}

static crank_tensor *squares(crank_tensor *x, unsigned axes) { return crank_reduce(CRANK_SUM_SQUARES, x, axes, true); }

/* phi: one for each column (left) or row (right) of R = clip raw, or one for all; sR: squares of raw along axes */
static crank_tensor *factors(const options *opt, crank_tensor *N, crank_tensor *raw, crank_tensor *clip, crank_tensor *sR, unsigned axes)
{
    if (is(opt->scaling, "none")) return crank_affine(sR, 0, 1);
    if (is(opt->scaling, "matrix")) axes = 3, sR = squares(raw, 3);
    return crank_div(crank_unary(CRANK_SQRT, squares(N, axes)), crank_affine(crank_mul(crank_unary(CRANK_SQRT, sR), clip), 1, 1e-8));
}

/* 1 / l [1], and s for the next step. `size` [1]: |S| as s counts it. 1 / l = min(1, gamma (s + 1e-8) / |S|), 1 while s is not known. */
static crank_tensor *limited(crank_graph *graph, const crank_unit *unit, crank_tensor *size)
{
    const options *opt = unit->options;
    const state   *st = unit->state;
    crank_tensor  *s = crank_use(graph, st->norm), *one = optim_number(graph, size->dtype, 1);
    if (opt->growth == 0) {
        optim_set(graph, unit, s, size);
        return one;
    }
    crank_tensor *inverse = crank_binary(CRANK_MIN, one, crank_div(crank_affine(s, opt->growth, opt->growth * 1e-8), size));
    inverse = crank_where(crank_binary(CRANK_GT, s, optim_number(graph, size->dtype, 0)), inverse, one);
    optim_set(graph, unit, s, crank_mul(size, inverse));
    return inverse;
}

/* |G_j - a P R_j|^2 = |G_j|^2 - (2 a - a^2) |R_j|^2, of the undivided gradient */
static crank_tensor *rest_squares(crank_graph *graph, crank_tensor *gradient, crank_tensor *sR, unsigned axes, double a)
{
    return crank_binary(CRANK_MAX, crank_sub(squares(gradient, axes), crank_scale(sR, 2 * a - a * a)), optim_number(graph, sR->dtype, 0));
}

/* With c = phi / l, times the rate and, officially, the corrections:   step = P (scale N - a b R c) + b G c.
 * The gradient arrives undivided: R = clip R', and R' c and G' c take the clip with c. */
static void update(crank_graph *graph, crank_unit *unit, crank_tensor *gradient)
{
    const options *opt = unit->options;
    state         *st = unit->state;
    if (!st->space.r) {
        inner_update(graph, unit, &st->inner, gradient);
        return;
    }
    bool          official = is(opt->mode, "official"), corrects = official && !is(opt->moments, "rmsprop");
    double        a = official ? opt->scale : 1, b = official ? 1 : opt->scale;
    unsigned      axes = st->space.left ? 1u : 2u; /* of the sums over a column (left) or a row */
    crank_tensor *clip = optim_scalar(graph, unit, CRANK_SCALAR_CLIP), *factor = optim_rate(graph, unit);
    crank_tensor *raw = subspace_down_formed(graph, &st->space, gradient), *R = crank_mul(raw, clip), *sR = squares(raw, axes);
    crank_tensor *N = st->v ? direction(graph, unit, raw, R) : direction_8bit(graph, unit, raw), *phi = factors(opt, N, raw, clip, sR, axes);
    crank_tensor *S = crank_mul(rest_squares(graph, gradient, sR, axes, a), crank_unary(CRANK_SQUARE, phi));
    crank_tensor *size = crank_mul(crank_reshape(crank_unary(CRANK_SQRT, crank_reduce(CRANK_SUM, S, 3, true)), 1, (const int64_t[]){ 1 }), clip);
    if (corrects) {
        crank_tensor *corrections = optim_corrections(optim_scalar(graph, unit, CRANK_SCALAR_STEP), opt->beta1, opt->beta2);
        if (st->v) factor = optim_product(factor, corrections);
        else size = crank_div(size, corrections); /* those of N are in it */
    }
    crank_tensor *inverse = limited(graph, unit, size);
    crank_tensor *c = crank_mul(crank_mul(phi, crank_mul(inverse, factor)), clip);
    crank_tensor *Z = crank_sub(crank_mul(N, optim_multiple(factor, opt->scale)), crank_mul(raw, crank_scale(c, a * b)));
    crank_tensor *rest = crank_mul(crank_cast(gradient, Z->dtype), b == 1 ? c : crank_scale(c, b));
    optim_move(graph, unit, optim_decayed(graph, unit, crank_add(subspace_up(graph, &st->space, Z, 1), rest), true));
}

static crank_status period(crank_context *context, crank_unit *units, int count, void *model_of_units, int64_t step, bool *changed)
{
    crank_status status = subspace_period(context, "fira", units, count, &((model_state *)model_of_units)->tally, step);
    (void)changed;
    for (int i = 0; i < count; i++) {
        const options *opt = units[i].options;
        const state   *st = units[i].state;
        if (!units[i].param->moved && st->space.r) subspace_ask(&units[i], opt->refresh, opt->gap, opt->stagger, step);
    }
    return status;
}

static void refresh(crank_graph *graph, crank_unit *unit, crank_tensor *gradient)
{
    subspace_warm(graph, unit, &((state *)unit->state)->space, ((const options *)unit->options)->passes, gradient, NULL, NULL);
}

static crank_status observe(crank_context *context, crank_unit *unit, const float *gradient)
{
    subspace_news news;
    return subspace_observe(context, unit, ((const options *)unit->options)->refresh, gradient, false, &((model_state *)unit->model)->tally, &news);
}

static void release(crank_unit *unit)
{
    model_state *model = unit->model;
    if (unit->param)
        inner_release(&((state *)unit->state)->inner);
    else
        inner_forget(&model->others), inner_forget(&model->bits8);
}

const crank_optimizer crank_optimizer_fira = {
    .name             = "fira",
    .paper            = "arXiv:2410.01623",
    .summary          = "Adam in a subspace of the gradient, and the rest scaled as Adam scaled its part",
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
