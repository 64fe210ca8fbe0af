/* signals.h - Ctrl-C and its kin as requests that long work reads between steps.
 *
 * Signals belong to the process, so one context at a time can be registered, by the program and never by the library.
 *     SIGINT, SIGTERM  crank_request_stop(context); a second SIGINT ends the process as if nothing were registered
 *     SIGUSR1          asks for a checkpoint now */
#ifndef CRANK_BASE_SIGNALS_H
#define CRANK_BASE_SIGNALS_H

#include "crank/base.h"

/* CRANK_USAGE when another context is registered. */
crank_status signals_watch(crank_context *context);
/* Restores the handlers that were there before. Must be called before the context is freed. */
void signals_unwatch(crank_context *context);
/* True once for each SIGUSR1, or several that came together, since the last call. */
bool signals_take_checkpoint(void);
#endif
