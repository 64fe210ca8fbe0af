/* galore.c - the optimiser sees each layer's gradient in a low-rank subspace (Zhao et al. 2024, arXiv:2403.03507).
 *
 *     every T steps:  P from the leading r singular vectors of G               (subspace.h: sides, ways)
 *     R = P^T G  (or G P^T);   N = the inner optimiser's step along R, with state in R's shape
 *     W -= scale P N;   W -= rate decay W (behind the step)
 *
 * Weights stay dense and full; state is r-dimensional along one side. Sums over micro-batches are kept projected, which is exact since
 * the projection is linear. Applies to matrices inside of the model's layers (`targets: matrices`: to all); vectors and all else go
 * to the inner optimiser at the same rate, without `scale`. The basis is refreshed from the gradient of a step's first micro-batch,
 * before it is projected: by operations of the step itself (refresh: warm), or on the host by one of the decompositions.
 *
 * compat: official puts AdamW's epsilon, 1e-6, before the correction of the moments, as the published code does. */
#include <string.h>

#include "optim/inner.h"
#include "optim/subspace.h"

typedef struct {
    int64_t     rank, gap, passes;
    double      scale;
    const char *side, *refresh, *on_refresh, *targets, *inner, *inner_options, *compat;
    bool        stagger;
} options;

typedef struct {
    subspace     space; /* first; r 0: the inner optimiser has the unit as it is */
    crank_unit   inner;
    crank_param *clock; /* with on_refresh: reset, the steps since the last refresh */
} state;

typedef struct {
    inner_choice   inner;
    subspace_tally tally;
} model_state;

static const crank_option option_table[] = {
    CRANK_INT(options, rank, 128, 1, 65536, "rank r of the subspace, cut at the matrix's smaller side"),
    CRANK_INT(options, gap, 200, 1, 1e9, "steps T between refreshes of the subspace"),
    CRANK_FLOAT(options, scale, 0.25, 0, 1e6, "the step of a projected matrix is multiplied by it"),
    CRANK_CHOICE(options, side, "std", SUBSPACE_SIDES, "which side is projected: the shorter (std), the longer, or a fixed one"),
    CRANK_CHOICE(options, refresh, "warm", SUBSPACE_REFRESHES, "how the basis is found: by subspace iteration inside of the step, or on the host: exactly (svd), .."),
    CRANK_INT(options, passes, 1, 1, 16, "refresh: warm: passes of the iteration; the first refresh makes 3 at least"),
    CRANK_CHOICE(options, on_refresh, "keep", "keep|reset|rotate", "what becomes of the inner optimiser's state when the basis changes"),
    CRANK_BOOL(options, stagger, false, "refresh an eighth of the matrices at a time, spread over the gap, after a first refresh of all"),
    CRANK_CHOICE(options, targets, "layers", "layers|matrices", "matrices inside of the model's layers, or all"),
    CRANK_STRING(options, inner, "adamw", "the inner optimiser: adamw, adamw8bit, adafactor, sgd, lion, ..."),
    CRANK_MAP(options, inner_options, NULL, "its options"),
    CRANK_CHOICE(options, compat, "none", "none|official", "official: epsilon 1e-6 before the correction of AdamW's moments"),
    CRANK_END
};

static crank_status choose_inner(crank_context *context, const options *opt, model_state *model)
{
    bool official = strcmp(opt->compat, "official") == 0 && strcmp(opt->inner, "adamw") == 0;
    if (strcmp(opt->on_refresh, "rotate") == 0 && strcmp(opt->inner, "adamw") != 0)
        return crank_fail(context, CRANK_USAGE, "optimiser `galore`: on_refresh: rotate turns AdamW's moments; with inner: %s choose keep or reset", opt->inner);
    return inner_choose(context, "galore", opt->inner, opt->inner_options, official ? "placement=hf\nepsilon=1e-6" : NULL, &model->inner);
}

static crank_status attach(crank_context *context, crank_unit *unit)
{
    const options *opt = unit->options;
    state         *st = unit->state;
    model_state   *model = unit->model;
    int64_t        dims[2];
    crank_status   status = choose_inner(context, opt, model);
    if (status != CRANK_OK) return status;
    if (unit->param->view.rank != 2 || (unit->block < 0 && strcmp(opt->targets, "layers") == 0))
        return inner_attach(context, &model->inner, unit, NULL, &st->inner);
    status = subspace_attach(context, unit, opt->side, opt->rank, true, &st->space);
    if (status == CRANK_OK && subspace_is_warm(opt->refresh)) status = subspace_warm_attach(context, unit, &st->space);
    if (status != CRANK_OK) return status;
    if (strcmp(opt->on_refresh, "reset") == 0) {
        if (unit->clock)
            return crank_fail(context, CRANK_USAGE, "%s counts its own steps, and so does on_refresh: reset; choose keep or rotate", unit->param->name);
        unit->clock = st->clock = optim_clock(context, unit->param->owner, unit->param->name);
        if (!st->clock) return crank_last_status(context);
    }
    subspace_dims(&st->space, dims);
    crank_param *delta = inner_delta(context, unit, 2, dims);
    return delta ? inner_attach(context, &model->inner, unit, delta, &st->inner) : crank_last_status(context);
}

static crank_tensor *accumulate(crank_graph *graph, crank_unit *unit, crank_tensor *gradient)
{
    const state *st = unit->state;
    if (!st->space.r) return NULL;
    return unit->refresh ? subspace_down_formed(graph, &st->space, gradient) : subspace_down(graph, &st->space, gradient);
}

static void update(crank_graph *graph, crank_unit *unit, crank_tensor *gradient)
{
    const options *opt = unit->options;
    state         *st = unit->state;
    if (!st->space.r) {
        inner_update(graph, unit, &st->inner, gradient);
        return;
    }
    crank_tensor *delta = inner_step(graph, unit, &st->inner, gradient); /* minus the step */
    optim_move(graph, unit, optim_decayed(graph, unit, subspace_up(graph, &st->space, delta, -opt->scale), true));
}

/* ---- refreshes ---- */

static void refresh(crank_graph *graph, crank_unit *unit, crank_tensor *gradient)
{
    const options *opt = unit->options;
    state         *st = unit->state;
    bool           rotates = strcmp(opt->on_refresh, "rotate") == 0;
    subspace_warm(graph, unit, &st->space, opt->passes, gradient, rotates ? inner_state(&st->inner, "m") : NULL, rotates ? inner_state(&st->inner, "v") : NULL);
}

static crank_status period(crank_context *context, crank_unit *units, int count, void *model_of_units, int64_t step, bool *changed)
{
    crank_status status = subspace_period(context, "galore", units, count, &((model_state *)model_of_units)->tally, step);
    (void)changed;
    for (int i = 0; status == CRANK_OK && i < count; i++) {
        const options *opt = units[i].options;
        state         *st = units[i].state;
        if (units[i].param->moved || !st->space.r) continue;
        int64_t last = step ? subspace_last_refresh(opt->gap, opt->stagger, units[i].index, step) : 0;
        bool    due = subspace_ask(&units[i], opt->refresh, opt->gap, opt->stagger, step);
        if (due && subspace_is_warm(opt->refresh) && step && st->clock) status = inner_reset(context, &st->inner);
        if (status == CRANK_OK) status = optim_clock_write(context, st->clock, step - last + 1);
    }
    return status;
}

static crank_status observe(crank_context *context, crank_unit *unit, const float *gradient)
{
    const options *opt = unit->options;
    state         *st = unit->state;
    bool           rotate = strcmp(opt->on_refresh, "rotate") == 0;
    subspace_news  news;
    crank_status   status = subspace_observe(context, unit, opt->refresh, gradient, rotate, &((model_state *)unit->model)->tally, &news);
    if (status != CRANK_OK) return status;
    if (rotate) {
        crank_param *m = inner_state(&st->inner, "m"), *v = inner_state(&st->inner, "v");
        if (m && v) status = subspace_rotate(context, &st->space, &news, m, v);
    }
    if (st->clock && !news.kept) status = inner_reset(context, &st->inner);
    crank_free(news.left), crank_free(news.right);
    return status;
}

static void release(crank_unit *unit)
{
    if (unit->param)
        inner_release(&((state *)unit->state)->inner);
    else
        inner_forget(&((model_state *)unit->model)->inner);
}

const crank_optimizer crank_optimizer_galore = {
    .name             = "galore",
    .paper            = "arXiv:2403.03507",
    .summary          = "AdamW or another optimiser on gradients projected to a low-rank subspace",
    .options          = option_table,
    .options_size     = sizeof(options),
    .state_size       = sizeof(state),
    .model_state_size = sizeof(model_state),
    .attach           = attach,
    .accumulate       = accumulate,
    .update           = update,
    .period           = period,
    .observe          = observe,
    .refresh          = refresh,
    .release          = release,
};
