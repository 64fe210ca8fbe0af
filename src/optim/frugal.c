/* frugal.c - a part of each matrix has moments, the rest follows the sign of its gradient (Zmushko et al. 2024, arXiv:2411.07837).
 *
 *     every K steps:  another part of G is chosen; its state starts from zero and its steps are counted from 1 (`reset`)
 *     W *= 1 - rate decay
 *     g = down(G)            u = the inner optimiser's step on g;  W += s_p up(u)
 *     h = G - up(g)          sign:  W -= rate s_p s_f sign(h);   sgd:  W -= rate s_p s_f h;   none:  nothing
 *
 * select: block        whole tensors, round(density * tensors) at a time, in random, ascending, descending or mirrored order
 *         columns, rows, entries   a random subset, floor(density * n) of them
 *         svd, random, orthonormal, coordinates   a projection of rank round(density * shorter side), as in subspace.h
 *
 * Density 0 is signSGD. Applies to matrices inside of the model's layers (`targets: matrices`: to all); vectors and all else go to the
 * inner optimiser. Blocks keep AdamW's moments in pools as large as the largest set of blocks. With `reset: false` the moments of columns
 * that stay chosen go with their index (the published code leaves them at their place in an unsorted list). */
#include <string.h>

#include "optim/frugal.h"

static const crank_option option_table[] = {
    CRANK_FLOAT(frugal_options, density, 0.25, 0, 1, "share of the matrices that has state"),
    CRANK_INT(frugal_options, gap, 200, 1, 1e9, "steps K between choices"),
    CRANK_FLOAT(frugal_options, rate_scale, 1, 0, 1e6, "rate of matrices over the run's"),
    CRANK_FLOAT(frugal_options, free_scale, 1, 0, 1e6, "rate of the part without state over that of matrices"),
    CRANK_CHOICE(frugal_options, select, "block", "block|columns|rows|entries|svd|random|orthonormal|coordinates", "what is chosen"),
    CRANK_CHOICE(frugal_options, order, "random", "random|ascending|descending|mirror", "in which order blocks are chosen"),
    CRANK_CHOICE(frugal_options, rule, "sign", "sign|sgd|none", "how the part without state moves"),
    CRANK_BOOL(frugal_options, reset, true, "state starts anew with each choice"),
    CRANK_CHOICE(frugal_options, targets, "layers", "layers|matrices", "matrices inside of the model's layers, or all"),
    CRANK_STRING(frugal_options, inner, "adamw", "the optimiser of the part with state: adamw, lion, sgd, ..."),
    CRANK_MAP(frugal_options, inner_options, NULL, "its options"),
    CRANK_END
};

static bool is(const char *choice, const char *name) { return strcmp(choice, name) == 0; }

static frugal_kind kind_of(const frugal_options *opt, const crank_unit *unit)
{
    if (unit->param->view.rank != 2 || (unit->block < 0 && is(opt->targets, "layers"))) return FRUGAL_REGULAR;
    if (opt->density == 0) return FRUGAL_FREE;
    if (is(opt->select, "block")) return FRUGAL_BLOCK;
    return is(opt->select, "columns") || is(opt->select, "rows") || is(opt->select, "entries") ? FRUGAL_INDEX : FRUGAL_SUBSPACE;
}

/* A number of the inner optimiser's options by name. */
static double number_of(const inner_choice *inner, const char *name)
{
    for (const crank_option *option = inner->optimizer->options; option && option->type != CRANK_OPTION_END; option++)
        if (strcmp(option->name, name) == 0 && option->type == CRANK_OPTION_FLOAT) return *(const double *)((const char *)inner->options + option->offset);
    return 0;
}

static crank_status choose(crank_context *context, const frugal_options *opt, frugal_model *model)
{
    crank_status status = inner_choose(context, "frugal", opt->inner, opt->inner_options, NULL, &model->inner);
    if (status != CRANK_OK) return status;
    bool block = is(opt->select, "block");
    if (block && !is(opt->inner, "adamw"))
        return crank_fail(context, CRANK_USAGE, "optimiser `frugal`: select: block has AdamW's moments; with inner: %s choose columns", opt->inner);
    if (block && !opt->reset) return crank_fail(context, CRANK_USAGE, "optimiser `frugal`: select: block starts state anew; with reset: false choose columns");
    if (!opt->reset && is(opt->inner, "adamw8bit"))
        return crank_fail(context, CRANK_USAGE, "optimiser `frugal`: reset: false carries moments by their index, and those of adamw8bit have none; choose adamw");
    model->beta1 = number_of(&model->inner, "beta1");
    model->beta2 = number_of(&model->inner, "beta2");
    model->epsilon = number_of(&model->inner, "epsilon");
    return CRANK_OK;
}

static crank_status attach_index(crank_context *context, crank_unit *unit, int64_t dims[2])
{
    const frugal_options *opt = unit->options;
    frugal_state         *st = unit->state;
    int64_t               m = unit->param->view.dims[0], n = unit->param->view.dims[1];
    bool                  entries = is(opt->select, "entries"), rows = is(opt->select, "rows");
    st->from = entries ? m * n : rows ? m : n;
    if (st->from > INT32_MAX)
        return crank_fail(context, CRANK_USAGE, "optimiser `frugal`: select: entries: %s has more than 2^31 - 1 of them; choose columns", unit->param->name);
    int64_t count = (int64_t)(opt->density * (double)st->from);
    if (count < 1) { /* nothing is chosen */
        st->kind = FRUGAL_FREE;
        return CRANK_OK;
    }
    st->index = crank_unit_param(context, unit, "index", CRANK_I32, 1, &count);
    dims[0] = count;
    dims[1] = entries ? 1 : rows ? n : m;
    return st->index ? CRANK_OK : crank_last_status(context);
}

static crank_status attach_subspace(crank_context *context, crank_unit *unit, int64_t dims[2])
{
    const frugal_options *opt = unit->options;
    frugal_state         *st = unit->state;
    int64_t               m = unit->param->view.dims[0], n = unit->param->view.dims[1], shorter = m < n ? m : n;
    int64_t               rank = (int64_t)(opt->density * (double)shorter + 0.5);
    crank_status          status = subspace_attach(context, unit, "std", rank < 1 ? 1 : rank, false, &st->space);
    subspace_dims(&st->space, dims);
    return status;
}

static crank_status attach(crank_context *context, crank_unit *unit)
{
    const frugal_options *opt = unit->options;
    frugal_state         *st = unit->state;
    frugal_model         *model = unit->model;
    int64_t               dims[2] = { 0 };
    crank_status          status = choose(context, opt, model);
    if (status != CRANK_OK) return status;
    st->kind = kind_of(opt, unit);
    st->offset = -1;
    if (st->kind == FRUGAL_REGULAR) return inner_attach(context, &model->inner, unit, NULL, &st->inner);
    if (st->kind == FRUGAL_INDEX) status = attach_index(context, unit, dims);
    if (st->kind == FRUGAL_SUBSPACE) status = attach_subspace(context, unit, dims);
    if (status != CRANK_OK || st->kind == FRUGAL_FREE || st->kind == FRUGAL_BLOCK) return status;
    if (opt->reset) {
        if (unit->clock) return crank_fail(context, CRANK_USAGE, "%s counts its own steps, and so does frugal: set optim.reset to false", unit->param->name);
        st->clock = optim_clock(context, unit->param->owner, unit->param->name);
        if (!st->clock) return crank_last_status(context);
    }
    crank_param *delta = inner_delta(context, unit, 2, dims);
    return delta ? inner_attach(context, &model->inner, unit, delta, &st->inner) : crank_last_status(context);
}

/* rate s_p s_f times the rule on the part without state */
static crank_tensor *free_step(crank_graph *graph, const crank_unit *unit, crank_tensor *h)
{
    const frugal_options *opt = unit->options;
    crank_tensor         *rate = crank_scale(optim_rate(graph, unit), opt->rate_scale * opt->free_scale);
    return crank_mul(is(opt->rule, "sign") ? crank_unary(CRANK_SIGN, h) : h, rate);
}

/* Minus the step of the part with state, and what is left of G for the other. */
static crank_tensor *state_step(crank_graph *graph, crank_unit *unit, crank_tensor *gradient, crank_tensor **h)
{
    frugal_state *st = unit->state;
    crank_unit    counted = *unit;
    counted.clock = st->clock ? st->clock : unit->clock;
    crank_tensor *G = optim_gradient(graph, unit, gradient), *wide = crank_cast(gradient, optim_wide(unit));
    if (st->kind == FRUGAL_INDEX) {
        crank_tensor *u = inner_step(graph, &counted, &st->inner, frugal_gather(graph, unit, wide));
        *h = crank_mul(G, frugal_rest(graph, unit));
        return frugal_scatter(graph, unit, u);
    }
    crank_tensor *R = subspace_down(graph, &st->space, G);
    crank_tensor *u = inner_step(graph, &counted, &st->inner, subspace_down(graph, &st->space, wide));
    *h = crank_sub(G, subspace_up(graph, &st->space, R, 1));
    return subspace_up(graph, &st->space, u, 1);
}

static void update(crank_graph *graph, crank_unit *unit, crank_tensor *gradient)
{
    const frugal_options *opt = unit->options;
    frugal_state         *st = unit->state;
    frugal_model         *model = unit->model;
    bool                  still = is(opt->rule, "none");
    if (st->kind == FRUGAL_REGULAR) {
        inner_update(graph, unit, &st->inner, gradient);
        return;
    }
    if (st->kind == FRUGAL_BLOCK && st->offset >= 0) {
        crank_unit chosen = *unit;
        chosen.rate_factor *= opt->rate_scale;
        chosen.decay = opt->rate_scale > 0 ? unit->decay / opt->rate_scale : unit->decay; /* decays with the run's rate */
        chosen.clock = model->clock;
        slots_adamw(graph, &chosen, &model->pools, st->offset, model->beta1, model->beta2, model->epsilon, gradient);
        return;
    }
    crank_tensor *step = NULL, *h = optim_gradient(graph, unit, gradient);
    if (st->kind == FRUGAL_INDEX || st->kind == FRUGAL_SUBSPACE) step = crank_scale(state_step(graph, unit, gradient, &h), -opt->rate_scale);
    if (!still) step = step ? crank_add(step, free_step(graph, unit, h)) : free_step(graph, unit, h);
    if (!step) step = crank_scale(h, 0);
    optim_move(graph, unit, optim_decayed(graph, unit, step, false));
}

/* ---- between runs ---- */

static crank_status renew(crank_context *context, crank_unit *unit, int64_t step)
{
    const frugal_options *opt = unit->options;
    frugal_state         *st = unit->state;
    int64_t               since = (step - 1) % opt->gap;
    if (since == 0 && st->kind == FRUGAL_INDEX) {
        crank_status status = frugal_draw(context, unit, step);
        if (status != CRANK_OK) return status;
    }
    if (since == 0 && opt->reset) {
        crank_status status = inner_reset(context, &st->inner);
        if (status != CRANK_OK) return status;
    }
    unit->probe = st->kind == FRUGAL_SUBSPACE && since == 0;
    return optim_clock_write(context, st->clock, since + 1);
}

static crank_status period(crank_context *context, crank_unit *units, int count, void *model_of_units, int64_t step, bool *changed)
{
    frugal_model *model = model_of_units;
    bool          blocks = false;
    crank_status  status = CRANK_OK;
    subspace_tell(context, "frugal", &model->tally);
    model->step = model->tally.step = step;
    for (int i = 0; status == CRANK_OK && i < count; i++) {
        frugal_state *st = units[i].state;
        if (units[i].param->moved) continue;
        blocks |= st->kind == FRUGAL_BLOCK;
        if (st->kind != FRUGAL_INDEX && st->kind != FRUGAL_SUBSPACE) continue;
        if (step)
            status = renew(context, &units[i], step);
        else
            units[i].probe = st->kind == FRUGAL_SUBSPACE;
    }
    return status == CRANK_OK && blocks ? frugal_blocks(context, units, count, model, step, changed) : status;
}

static crank_status observe(crank_context *context, crank_unit *unit, const float *gradient)
{
    const frugal_options *opt = unit->options;
    const frugal_state   *st = unit->state;
    frugal_model         *model = unit->model;
    subspace_news         news;
    crank_stream          stream = crank_stream_make(unit->seed, CRANK_RANDOM_METHOD, (uint32_t)model->step);
    crank_status status = subspace_refresh(context, &st->space, opt->select, gradient, stream, (uint64_t)unit->index << 40, false, &news);
    if (status == CRANK_OK) subspace_count(&model->tally, &news);
    return status;
}

static void release(crank_unit *unit)
{
    if (unit->param)
        inner_release(&((frugal_state *)unit->state)->inner);
    else
        inner_forget(&((frugal_model *)unit->model)->inner);
}

const crank_optimizer crank_optimizer_frugal = {
    .name             = "frugal",
    .paper            = "arXiv:2411.07837",
    .summary          = "AdamW on a changing part of the matrices, signSGD on the rest",
    .options          = option_table,
    .options_size     = sizeof(frugal_options),
    .state_size       = sizeof(frugal_state),
    .model_state_size = sizeof(frugal_model),
    .attach           = attach,
    .update           = update,
    .period           = period,
    .observe          = observe,
    .release          = release,
};
