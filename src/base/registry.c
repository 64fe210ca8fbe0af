/* registry.c - lists of named descriptors: built-in ones first, then added ones, under a lock. */
#include "base/registry.h"

#include <stdlib.h>
#include <string.h>

static const char *name_of(const void *descriptor) { return *(const char *const *)descriptor; }

static const void *at(const registry *list, size_t i)
{
    size_t built_in = 0;
    while (list->built_in[built_in]) {
        if (built_in == i) return list->built_in[i];
        built_in++;
    }
    return i - built_in < list->count ? list->added[i - built_in] : NULL;
}

static const void *find(const registry *list, const char *name)
{
    const void *each;
    for (size_t i = 0; (each = at(list, i)); i++)
        if (strcmp(name_of(each), name) == 0) return each;
    return NULL;
}

const void *registry_at(registry *list, size_t i)
{
    pthread_mutex_lock(&list->lock);
    const void *found = at(list, i);
    pthread_mutex_unlock(&list->lock);
    return found;
}

const void *registry_find(registry *list, const char *name)
{
    pthread_mutex_lock(&list->lock);
    const void *found = find(list, name);
    pthread_mutex_unlock(&list->lock);
    return found;
}

static crank_status add(crank_context *context, registry *list, const void *descriptor)
{
    const char *name = name_of(descriptor);
    if (!name || !*name) return crank_fail(context, CRANK_USAGE, "a %s needs a name", list->what);
    if (find(list, name)) return crank_fail(context, CRANK_USAGE, "a %s named `%s` is registered already", list->what, name);
    if (list->count == list->capacity) {
        size_t       capacity = list->capacity ? 2 * list->capacity : 8;
        const void **grown = realloc(list->added, capacity * sizeof *grown);
        if (!grown) return crank_fail(context, CRANK_FAILED, "out of memory: the list of %ss", list->what);
        list->added = grown;
        list->capacity = capacity;
    }
    list->added[list->count++] = descriptor;
    return CRANK_OK;
}

crank_status registry_add(crank_context *context, registry *list, const void *descriptor)
{
    pthread_mutex_lock(&list->lock);
    crank_status status = add(context, list, descriptor);
    pthread_mutex_unlock(&list->lock);
    return status;
}
