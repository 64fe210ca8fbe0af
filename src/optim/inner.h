/* inner.h - an optimiser that works for another one: on a parameter as it is, or on a *delta*, the step in a smaller space.
 *
 * A method that projects gradients hands the projection to its inner optimiser as the gradient of a delta that starts at 0 in every
 * step: what the inner one leaves there is its step, in the smaller space. Deltas of equal dims share one buffer. The inner
 * optimiser's state has names of its own, so it is in every checkpoint. */
#ifndef CRANK_OPTIM_INNER_H
#define CRANK_OPTIM_INNER_H

#include "optim/optim.h"

/* Which optimiser, and its options: one for all units of a run. */
typedef struct inner_choice {
    const crank_optimizer *optimizer;
    void                  *options;
} inner_choice;

/* `name` of a registered optimiser, `settings` a MAP of its options; `preset` "key=value" lines that settings may override, or NULL. Does
 * nothing when the choice is made. Optimisers that act between runs or keep gradients in another shape are refused. */
crank_status inner_choose(crank_context *context, const char *outer, const char *name, const char *settings, const char *preset,
                          inner_choice *choice);
void inner_forget(inner_choice *choice);

/* A unit of the inner optimiser that stands for `unit`: on its parameter (delta NULL), or on a delta. Its state is attached. */
crank_status inner_attach(crank_context *context, const inner_choice *choice, const crank_unit *unit, crank_param *delta, crank_unit *inner);
void inner_release(crank_unit *inner);
/* The buffer [dims] in the unit's type of moments that all units of its set share. */
crank_param *inner_delta(crank_context *context, const crank_unit *unit, int rank, const int64_t *dims);

/* The inner optimiser moves the unit's parameter itself. */
void inner_update(crank_graph *graph, const crank_unit *unit, crank_unit *inner, crank_tensor *gradient);
/* The inner optimiser's step on a delta: minus what it would subtract, [dims of the delta]; 0 in a skipped step. */
crank_tensor *inner_step(crank_graph *graph, const crank_unit *unit, crank_unit *inner, crank_tensor *gradient);
/* State `name` ("m", "v") of an inner unit; NULL: it has none. */
crank_param *inner_state(const crank_unit *inner, const char *name);
/* Zeroes all state of an inner unit. */
crank_status inner_reset(crank_context *context, const crank_unit *inner);
#endif
