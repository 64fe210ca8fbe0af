/* spectra_watch.h - intruder dimensions while a model trains: the spectra before step 1 are kept, and each evaluation is held against them. */
#ifndef CRANK_TASK_SPECTRA_WATCH_H
#define CRANK_TASK_SPECTRA_WATCH_H

#include "crank/linalg.h"
#include "crank/model.h"

typedef struct spectra_watch spectra_watch;

/* Watches the `top` leading left vectors of every dense linear of a layer that a method stands on or whose weight is trained. Before a
 * checkpoint is read: the weights must be those of the base. NULL: message set. */
spectra_watch *spectra_watch_open(crank_context *context, crank_model *model, int64_t top);
void           spectra_watch_close(spectra_watch *watch);

typedef struct spectra_seen {
    double intruders;               /* of all watched linears, epsilon 0.5 */
    double cosine, energy, change;  /* means over linears: largest cosines, energy in intruders, |W - W0| / |W0| */
} spectra_seen;
crank_status spectra_watch_measure(crank_context *context, spectra_watch *watch, spectra_seen *out);
#endif
