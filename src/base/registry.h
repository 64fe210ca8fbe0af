/* registry.h - a list of built-in descriptors followed by those that programs and plugins added.
 *
 * A descriptor is a const struct whose first member is `const char *name`. One registry serves the whole process; its lock makes
 * adding and reading safe from any thread. A descriptor stays valid for the life of the process, as its registrant promises. */
#ifndef CRANK_BASE_REGISTRY_H
#define CRANK_BASE_REGISTRY_H

#include <pthread.h>

#include "crank/base.h"

typedef struct registry {
    const char        *what;     /* "low-rank method": for messages */
    const void *const *built_in; /* ends with NULL */
    const void       **added;
    size_t             count, capacity;
    pthread_mutex_t    lock;
} registry;

#define REGISTRY(what, built_in) { what, (const void *const *)(built_in), NULL, 0, 0, PTHREAD_MUTEX_INITIALIZER }

const void  *registry_at(registry *list, size_t i); /* NULL past the end */
const void  *registry_find(registry *list, const char *name); /* NULL: unknown */
/* CRANK_USAGE when the name is taken or empty. */
crank_status registry_add(crank_context *context, registry *list, const void *descriptor);
#endif
