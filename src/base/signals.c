/* signals.c - handlers that set flags. The state is the process's: a handler has no other way to find it. */
#include "base/signals.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>

enum { WATCHED = 3 };
static const int numbers[WATCHED] = {SIGINT, SIGTERM, SIGUSR1};

static struct {
    _Atomic(crank_context *) context;
    atomic_int               interrupts, checkpoint; /* lock-free: safe in a handler */
    struct sigaction         before[WATCHED];
} process;

static void handle(int number)
{
    int saved = errno;
    if (number == SIGUSR1) atomic_store(&process.checkpoint, 1);
    else {
        crank_context *context = atomic_load(&process.context);
        if (context) crank_request_stop(context);
        if (number == SIGINT && atomic_fetch_add(&process.interrupts, 1) > 0) {
            signal(SIGINT, SIG_DFL);
            raise(SIGINT); /* delivered when this handler returns */
        }
    }
    errno = saved;
}

crank_status signals_watch(crank_context *context)
{
    crank_context *none = NULL;
    if (!atomic_compare_exchange_strong(&process.context, &none, context))
        return crank_fail(context, CRANK_USAGE, "signals are watched for another context already");
    atomic_store(&process.interrupts, 0);
    atomic_store(&process.checkpoint, 0);
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = handle;
    action.sa_flags = SA_RESTART;
    sigemptyset(&action.sa_mask);
    for (int i = 0; i < WATCHED; i++) sigaction(numbers[i], &action, &process.before[i]);
    return CRANK_OK;
}

void signals_unwatch(crank_context *context)
{
    if (atomic_load(&process.context) != context) return;
    for (int i = 0; i < WATCHED; i++) sigaction(numbers[i], &process.before[i], NULL);
    atomic_store(&process.context, NULL);
}

bool signals_take_checkpoint(void) { return atomic_exchange(&process.checkpoint, 0) != 0; }
