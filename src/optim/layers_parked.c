/* layers_parked.c - state of sleeping layers is put away: each state parameter of a slot has a place for every layer, "<unit's param><rest of
 * the state's name>.asleep", which checkpoints hold and no graph uses. */
#include <string.h>

#include "optim/layers.h"

/* The next parameter behind *i that is state of the unit: "<param>.<..>", made by it or by its inner optimiser. */
static crank_param *next_state(const crank_unit *unit, size_t *i)
{
    const crank_params *params = unit->param->owner;
    size_t              length = strlen(unit->param->name);
    for (; *i < crank_params_count(params); ++*i) {
        crank_param *param = crank_params_at(params, *i);
        if (param->role != CRANK_ROLE_STATE || param->parked || strncmp(param->name, unit->param->name, length) != 0 || param->name[length] != '.') continue;
        ++*i;
        return param;
    }
    return NULL;
}

static char *place_name(crank_context *context, const crank_unit *unit, const crank_unit *owner, const crank_param *state)
{
    return crank_format(context, "%s%s.asleep", unit->param->name, state->name + strlen(owner->param->name));
}

static crank_status make_places(crank_context *context, const crank_unit *unit, const crank_unit *owner)
{
    crank_param *state;
    for (size_t i = 0; (state = next_state(owner, &i));) {
        char        *name = place_name(context, unit, owner, state);
        crank_param *place = name ? crank_params_add_parked(state->owner, name, CRANK_ROLE_STATE, state->view.dtype, state->view.rank, state->view.dims) : NULL;
        crank_free(name);
        if (!place) return crank_last_status(context);
    }
    return CRANK_OK;
}

crank_status layers_park_make(crank_context *context, crank_unit *units, int count)
{
    crank_status status = CRANK_OK;
    for (int i = 0; status == CRANK_OK && i < count; i++) {
        const crank_unit *owner = units[i].block < 0 || units[i].param->moved ? NULL : layers_twin(units, count, &units[i], 0);
        if (owner) status = make_places(context, &units[i], owner);
    }
    return status;
}

static crank_status copy(crank_context *context, crank_param *to, const crank_param *from)
{
    void        *bytes = crank_alloc(context, crank_view_bytes(&from->view) + 1, 1, from->name);
    crank_status status = bytes ? crank_param_read(context, from, bytes, from->view.dtype) : CRANK_FAILED;
    if (status == CRANK_OK) status = crank_param_write(context, to, bytes, from->view.dtype);
    crank_free(bytes);
    return status;
}

static crank_status move_unit(crank_context *context, const crank_unit *unit, const crank_unit *owner, bool out)
{
    crank_status status = CRANK_OK;
    crank_param *state;
    for (size_t i = 0; status == CRANK_OK && (state = next_state(owner, &i));) {
        char        *name = place_name(context, unit, owner, state);
        crank_param *place = name ? crank_params_find(state->owner, name) : NULL;
        if (name && !place) status = crank_fail(context, CRANK_FAILED, "there is no place for %s", name);
        else if (!name) status = CRANK_FAILED;
        else status = copy(context, out ? place : state, out ? state : place);
        crank_free(name);
    }
    return status;
}

crank_status layers_park_move(crank_context *context, crank_unit *units, int count, int slot, int layer, bool out)
{
    crank_status status = CRANK_OK;
    for (int i = 0; status == CRANK_OK && i < count; i++) {
        const crank_unit *owner = units[i].block != layer || units[i].param->moved ? NULL : layers_twin(units, count, &units[i], slot);
        if (owner) status = move_unit(context, &units[i], owner, out);
    }
    return status;
}
