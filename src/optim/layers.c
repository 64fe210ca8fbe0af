/* layers.c - training of a few layers at a time: binding of layers to state, and the updates of those that are awake. */
#include "optim/layers.h"

#include <string.h>

static bool is(const char *choice, const char *name) { return choice && strcmp(choice, name) == 0; }
static bool drops(const layers_options *options) { return !is(options->state, "keep"); } /* slots */
static bool offloads(const layers_options *options) { return is(options->state, "offload"); }

/* ---- state ---- */

crank_status layers_attach(crank_context *context, crank_unit *unit)
{
    const layers_options *opt = unit->options;
    layers_unit          *st = unit->state;
    layers_model         *model = unit->model;
    int64_t               dims[2];
    crank_status          status = inner_choose(context, unit->optimizer->name, opt->inner, opt->inner_options, NULL, &model->inner);
    if (status != CRANK_OK) return status;
    if (unit->block < 0) return opt->embeddings ? inner_attach(context, &model->inner, unit, NULL, &st->inner) : CRANK_OK;
    if (unit->clock)
        return crank_fail(context, CRANK_USAGE, "%s counts its own steps, and optimiser `%s` counts those of its layer: choose another optimiser",
                          unit->param->name, unit->optimizer->name);
    if (drops(opt) && unit->block >= opt->layers) return CRANK_OK; /* it uses the slot that it is bound to */
    if (!opt->rank || unit->param->view.rank != 2) return inner_attach(context, &model->inner, unit, NULL, &st->inner);
    status = subspace_attach(context, unit, opt->side ? opt->side : "std", opt->rank, true, &st->space);
    if (status == CRANK_OK && subspace_is_warm(opt->refresh)) status = subspace_warm_attach(context, unit, &st->space);
    if (status != CRANK_OK) return status;
    subspace_dims(&st->space, dims);
    crank_param *delta = inner_delta(context, unit, 2, dims);
    return delta ? inner_attach(context, &model->inner, unit, delta, &st->inner) : crank_last_status(context);
}

void layers_release(crank_unit *unit)
{
    layers_model *model = unit->model;
    if (unit->param) {
        inner_release(&((layers_unit *)unit->state)->inner);
        return;
    }
    inner_forget(&model->inner);
    void *const rooms[] = { model->weights, model->bound, model->recorded, model->fresh, model->count, model->clocks, model->total, model->held };
    for (size_t i = 0; i < sizeof rooms / sizeof *rooms; i++) crank_free(rooms[i]);
    *model = (layers_model){ 0 };
}

/* ---- recording ---- */

crank_tensor *layers_accumulate(crank_graph *graph, crank_unit *unit, crank_tensor *gradient)
{
    const layers_unit *use = ((layers_unit *)unit->state)->use;
    if (!use || !use->space.r) return NULL;
    return unit->refresh ? subspace_down_formed(graph, &use->space, gradient) : subspace_down(graph, &use->space, gradient);
}

void layers_update(crank_graph *graph, crank_unit *unit, crank_tensor *gradient)
{
    const layers_options *opt = unit->options;
    layers_unit          *use = ((layers_unit *)unit->state)->use;
    if (!use) return;
    if (!use->space.r) { /* the state of the slot, on this unit's parameter */
        crank_unit own = use->inner;
        own.param = unit->param;
        own.decay = unit->decay;
        own.seed = unit->seed;
        own.index = unit->index;
        inner_update(graph, unit, &own, gradient);
        return;
    }
    crank_tensor *delta = inner_step(graph, unit, &use->inner, gradient);
    optim_move(graph, unit, optim_decayed(graph, unit, subspace_up(graph, &use->space, delta, -opt->scale), true));
}

/* ---- binding ---- */

static crank_status make_room(crank_context *context, crank_unit *units, int count, layers_model *model)
{
    const layers_options *opt = units[0].options;
    const char           *name = units[0].optimizer->name;
    crank_status          status;
    if (model->bound) return CRANK_OK;
    for (int i = 0; i < count; i++)
        if (units[i].block >= model->layers) model->layers = units[i].block + 1;
    if (!model->layers) return crank_fail(context, CRANK_USAGE, "optimiser `%s` chooses among the model's layers, and nothing that trains lies in one", name);
    model->slots = drops(opt) && opt->layers < model->layers ? (int)opt->layers : model->layers;
    model->number = -1;
    model->weights = layers_weights(context, opt, name, model->layers, &status);
    if (status != CRANK_OK) return status;
    model->recorded = crank_alloc(context, (size_t)model->layers, sizeof *model->recorded, "layers");
    model->fresh = crank_alloc(context, (size_t)model->slots + 1, sizeof *model->fresh, "layers");
    model->count = crank_alloc(context, (size_t)model->slots + 1, sizeof *model->count, "layers");
    model->clocks = crank_alloc(context, (size_t)model->slots + 1, sizeof *model->clocks, "layers");
    model->total = crank_alloc(context, (size_t)model->layers, sizeof *model->total, "layers");
    model->held = crank_alloc(context, (size_t)model->slots + 1, sizeof *model->held, "layers");
    if (!model->recorded || !model->fresh || !model->count || !model->clocks || !model->total || !model->held) return CRANK_FAILED;
    for (int j = 0; j < model->slots; j++) model->held[j] = -1;
    if (offloads(opt) && (status = layers_park_make(context, units, count)) != CRANK_OK) return status;
    for (int j = 0; j < model->slots; j++) {
        char *owner = crank_format(context, "%s.slot.%d", name, j);
        model->clocks[j] = owner ? optim_clock(context, units[0].param->owner, owner) : NULL;
        crank_free(owner);
        if (!model->clocks[j]) return crank_last_status(context);
    }
    model->bound = crank_alloc(context, (size_t)model->layers, sizeof *model->bound, "layers");
    for (int l = 0; model->bound && l < model->layers; l++) model->bound[l] = model->recorded[l] = -1;
    return model->bound ? CRANK_OK : CRANK_FAILED;
}

/* From the period before to period `number`: layers that stay keep their slot and go on counting; new ones take the lowest free slot. */
static void bind_next(layers_model *model, const layers_options *opt, uint64_t seed, int64_t number, int *awake)
{
    int n = layers_awake(opt, model->weights, model->layers, seed, number, awake);
    for (int l = 0; l < model->layers; l++) {
        bool stays = false;
        for (int k = 0; k < n; k++) stays |= awake[k] == l;
        if (model->bound[l] >= 0) model->total[l] = model->count[model->bound[l]] += opt->interval;
        if (!stays) model->bound[l] = -1;
    }
    for (int j = 0; j < model->slots; j++) model->fresh[j] = false;
    for (int k = 0; k < n; k++) {
        int slot = drops(opt) ? 0 : awake[k];
        if (model->bound[awake[k]] >= 0) continue;
        for (int l = 0; drops(opt) && l < model->layers; l++)
            if (model->bound[l] == slot) slot++, l = -1; /* taken: look through all layers again */
        model->bound[awake[k]] = slot;
        model->fresh[slot] = true;
        if (drops(opt)) model->count[slot] = offloads(opt) ? model->total[awake[k]] : 0;
    }
    model->number = number;
}

static crank_status bind_period(crank_context *context, layers_model *model, const layers_options *opt, uint64_t seed, int64_t number)
{
    if (model->number == number) return CRANK_OK;
    int *awake = crank_alloc(context, (size_t)model->layers, sizeof *awake, "layers");
    if (!awake) return CRANK_FAILED;
    if (model->number < 0 || model->number > number) {
        model->number = -1;
        for (int l = 0; l < model->layers; l++) model->bound[l] = -1;
        for (int j = 0; j < model->slots; j++) model->count[j] = 0;
        for (int l = 0; l < model->layers; l++) model->total[l] = 0;
    }
    while (model->number < number) bind_next(model, opt, seed, model->number + 1, awake);
    crank_free(awake);
    return CRANK_OK;
}

/* The reverse pass is longest with the lowest layer awake, and holds most where it begins with the others at the top. */
static void bind_heaviest(layers_model *model, const layers_options *opt)
{
    int awake = opt->layers < model->layers ? (int)opt->layers : model->layers, top = model->layers - awake; /* those above it, and layer 0 */
    for (int l = 0; l < model->layers; l++) {
        bool chosen = awake && (l == 0 || l > top);
        model->bound[l] = !chosen ? -1 : drops(opt) && l ? l - top : l;
    }
}

crank_unit *layers_twin(crank_unit *units, int count, const crank_unit *unit, int layer)
{
    int place = 0;
    for (int i = 0; i < count && &units[i] != unit; i++) place += units[i].block == unit->block && !units[i].param->moved;
    for (int i = 0; i < count; i++)
        if (units[i].block == layer && !units[i].param->moved && place-- == 0) return &units[i];
    return NULL;
}

static bool alike(const crank_unit *a, const crank_unit *b)
{
    const crank_view *x = &a->param->view, *y = &b->param->view;
    return x->rank == y->rank && x->dtype == y->dtype && !memcmp(x->dims, y->dims, (size_t)x->rank * sizeof *x->dims);
}

/* Who is awake, with which state; which gradients a basis is waiting for. */
static crank_status set_units(crank_context *context, crank_unit *units, int count, layers_model *model, int64_t step, int64_t since)
{
    for (int i = 0; i < count; i++) {
        const layers_options *opt = units[i].options;
        layers_unit          *st = units[i].state;
        if (units[i].param->moved) continue;
        if (units[i].block < 0) {
            units[i].active = opt->embeddings;
            st->use = opt->embeddings ? st : NULL;
            continue;
        }
        int         slot = model->bound[units[i].block];
        crank_unit *owner = slot < 0 ? NULL : drops(opt) ? layers_twin(units, count, &units[i], slot) : &units[i];
        if (slot >= 0 && (!owner || !alike(owner, &units[i])))
            return crank_fail(context, CRANK_USAGE, "optimiser `%s`: state: %s lends one layer's state to others, and %s has no like in layer %d: set optim.state to keep",
                              units[i].optimizer->name, offloads(opt) ? "offload" : "drop", units[i].param->name, slot);
        units[i].active = slot >= 0;
        units[i].clock = slot >= 0 ? model->clocks[slot] : NULL;
        st->use = owner ? owner->state : NULL;
        if (!st->use || !st->use->space.r) continue;
        int64_t awake = model->count[slot] + since;
        bool due = step == 0 || awake % opt->gap == 0 || (since == 0 && model->fresh[slot] && is(opt->on_wake, "refresh")), warm = subspace_is_warm(opt->refresh);
        units[i].probe = due && !warm;
        if (warm) subspace_warm_ask(&units[i], &st->use->space, due, awake == 0);
    }
    return CRANK_OK;
}

/* State goes with its layer: what lay in a slot is put away, and what the slot's layer had left comes back. */
static crank_status exchange(crank_context *context, crank_unit *units, int count, layers_model *model)
{
    crank_status status = CRANK_OK;
    for (int j = 0; status == CRANK_OK && j < model->slots; j++) {
        int l = model->held[j];
        if (l < 0 || model->bound[l] == j) continue;
        status = layers_park_move(context, units, count, j, l, true);
        model->held[j] = -1;
    }
    for (int l = 0; status == CRANK_OK && l < model->layers; l++) {
        int slot = model->bound[l];
        if (slot < 0 || model->held[slot] == l) continue;
        status = layers_park_move(context, units, count, slot, l, false);
        model->held[slot] = l;
    }
    return status;
}

/* A run that goes on, or has gone back to a checkpoint, finds in its slots what the step before left there. */
static crank_status remember(crank_context *context, layers_model *model, const layers_options *opt, uint64_t seed, int64_t step)
{
    if (model->number >= 0 && step > model->step) return CRANK_OK;
    model->number = -1;
    for (int j = 0; j < model->slots; j++) model->held[j] = -1;
    if (step < 2) return CRANK_OK;
    crank_status status = bind_period(context, model, opt, seed, (step - 2) / opt->interval);
    for (int l = 0; status == CRANK_OK && l < model->layers; l++)
        if (model->bound[l] >= 0) model->held[model->bound[l]] = l;
    return status;
}

/* The state of slots that have changed their layer starts anew. */
static crank_status empty_slots(crank_context *context, crank_unit *units, int count, const layers_model *model)
{
    crank_status status = CRANK_OK;
    for (int i = 0; status == CRANK_OK && i < count; i++) {
        layers_unit *st = units[i].state;
        if (units[i].block < 0 || units[i].block >= model->slots || !model->fresh[units[i].block] || !st->inner.optimizer) continue;
        status = inner_reset(context, &st->inner);
        if (status == CRANK_OK && st->space.left) status = optim_zero(context, st->space.left, 0, -1);
        if (status == CRANK_OK && st->space.right) status = optim_zero(context, st->space.right, 0, -1);
    }
    return status;
}

crank_status layers_period(crank_context *context, crank_unit *units, int count, void *model_of_units, int64_t step, bool *changed)
{
    layers_model         *model = model_of_units;
    const layers_options *opt = units[0].options;
    crank_status          status = make_room(context, units, count, model);
    int64_t               since = step ? (step - 1) % opt->interval : 0;
    for (int i = 0; status == CRANK_OK && i < count; i++)
        if (!units[i].param->moved) status = subspace_warm_hear(context, &((layers_unit *)units[i].state)->space, &model->tally);
    subspace_tell(context, units[0].optimizer->name, &model->tally);
    if (status == CRANK_OK && offloads(opt)) status = remember(context, model, opt, units[0].seed, step);
    model->step = model->tally.step = step;
    if (status == CRANK_OK && step) status = bind_period(context, model, opt, units[0].seed, (step - 1) / opt->interval);
    if (status == CRANK_OK && !step) bind_heaviest(model, opt);
    if (status == CRANK_OK) status = set_units(context, units, count, model, step, since);
    if (status == CRANK_OK && step && offloads(opt)) status = exchange(context, units, count, model);
    else if (status == CRANK_OK && step && since == 0 && drops(opt)) status = empty_slots(context, units, count, model);
    if (status != CRANK_OK) return status;
    if (memcmp(model->bound, model->recorded, (size_t)model->layers * sizeof *model->bound) != 0) {
        memcpy(model->recorded, model->bound, (size_t)model->layers * sizeof *model->bound);
        *changed = true;
    }
    for (int l = 0; status == CRANK_OK && step && l < model->layers; l++)
        if (model->bound[l] >= 0) status = optim_clock_write(context, model->clocks[model->bound[l]], model->count[model->bound[l]] + since + 1);
    return status;
}

void layers_refresh(crank_graph *graph, crank_unit *unit, crank_tensor *gradient)
{
    const layers_unit *use = ((layers_unit *)unit->state)->use;
    if (use && use->space.r) subspace_warm(graph, unit, &use->space, 1, gradient, NULL, NULL);
}

crank_status layers_observe(crank_context *context, crank_unit *unit, const float *gradient)
{
    const layers_options *opt = unit->options;
    layers_model         *model = unit->model;
    const layers_unit    *use = ((layers_unit *)unit->state)->use;
    subspace_news         news;
    crank_stream          stream = crank_stream_make(unit->seed, CRANK_RANDOM_METHOD, (uint32_t)model->step);
    crank_status          status = subspace_refresh(context, &use->space, opt->refresh ? opt->refresh : "svd", gradient, stream,
                                                    (uint64_t)unit->index << 40, false, &news);
    if (status == CRANK_OK) subspace_count(&model->tally, &news);
    return status;
}
