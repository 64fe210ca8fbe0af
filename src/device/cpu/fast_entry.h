/* fast_entry.h - how a family lists its bodies. */
#ifndef CRANK_DEVICE_CPU_FAST_ENTRY_H
#define CRANK_DEVICE_CPU_FAST_ENTRY_H

#include <string.h>

#include "device/cpu/bodies.h"
#include "device/operations.h"

/* An operation and the test whether it is served; a finder is a search in such a list. */
typedef struct fast_entry {
    const char   *operation;
    crank_kernel *run;
    bool (*serves)(const crank_call *call);                   /* NULL: always */
    size_t (*workspace)(const crank_call *call, int threads); /* NULL: none */
} fast_entry;

static inline bool fast_find(const char *name, const fast_entry *entries, size_t count, const char *operation,
                             const crank_call *call, int threads, crank_body *body)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(entries[i].operation, operation) != 0) continue;
        if (entries[i].serves && !entries[i].serves(call)) continue;
        size_t bytes = entries[i].workspace ? entries[i].workspace(call, threads) : 0;
        *body = (crank_body){.name = name, .run = entries[i].run, .workspace = bytes};
        return true;
    }
    return false;
}
#endif
