/* unit.c - named state of optimiser units. */
#include "crank/optim.h"

crank_param *crank_unit_param(crank_context *context, crank_unit *unit, const char *name, crank_dtype dtype, int rank,
                              const int64_t *dims)
{
    char *full = crank_format(context, "%s.%s.%s", unit->param->name, unit->optimizer->name, name);
    if (!full) return NULL;
    crank_param *param = crank_params_add(unit->param->owner, full, CRANK_ROLE_STATE, dtype, rank, dims);
    crank_free(full);
    return param;
}
