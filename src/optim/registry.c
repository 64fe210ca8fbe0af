/* registry.c - the list of optimisers. */
#include "base/registry.h"
#include "crank/optim.h"

extern const crank_optimizer crank_optimizer_adamw, crank_optimizer_adamw8bit, crank_optimizer_sgd, crank_optimizer_lion;
extern const crank_optimizer crank_optimizer_adafactor, crank_optimizer_signsgd, crank_optimizer_muon;
extern const crank_optimizer crank_optimizer_galore, crank_optimizer_fira, crank_optimizer_frugal;
extern const crank_optimizer crank_optimizer_lisa, crank_optimizer_badam, crank_optimizer_owlore, crank_optimizer_gradnorm;

static const crank_optimizer *const built_in[] = { &crank_optimizer_adamw, &crank_optimizer_adamw8bit, &crank_optimizer_sgd,
                                                   &crank_optimizer_lion, &crank_optimizer_adafactor, &crank_optimizer_signsgd,
                                                   &crank_optimizer_muon,
                                                   &crank_optimizer_galore, &crank_optimizer_fira, &crank_optimizer_frugal,
                                                   &crank_optimizer_lisa, &crank_optimizer_badam, &crank_optimizer_owlore, &crank_optimizer_gradnorm,
                                                   NULL };

/* Process-wide and guarded by its own lock: optimisers that programs add are code, which the process shares. */
static registry optimizers = REGISTRY("optimiser", built_in);

const crank_optimizer *crank_optimizer_find(const char *name) { return registry_find(&optimizers, name); }
const crank_optimizer *crank_optimizer_at(size_t i) { return registry_at(&optimizers, i); }

crank_status crank_register_optimizer(crank_context *context, const crank_optimizer *optimizer)
{
    bool zeroth = optimizer->trials && optimizer->propose && optimizer->absorb;
    if (!optimizer->update == !zeroth)
        return crank_fail(context, CRANK_USAGE, "the optimiser %s needs either update, or trials, propose and absorb",
                          optimizer->name ? optimizer->name : "?");
    return registry_add(context, &optimizers, optimizer);
}
