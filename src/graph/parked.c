/* parked.c - memory and one file for parameters that no graph uses for now. */
#include "graph/parked.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *folder(void)
{
    const char *named = getenv("TMPDIR");
    return named && *named ? named : "/tmp";
}

static crank_status failed(crank_context *context, const char *what)
{
    return crank_fail(context, CRANK_FAILED, "%s: parked state cannot be %s: %s; set TMPDIR to a folder with room", folder(), what, strerror(errno));
}

static crank_status open_file(crank_context *context, parked_store *store)
{
    char path[4096];
    if (store->file) return CRANK_OK;
    snprintf(path, sizeof path, "%s/crank-parked-XXXXXX", folder());
    int descriptor = mkstemp(path);
    if (descriptor < 0) return failed(context, "written");
    unlink(path);
    store->file = descriptor + 1;
    return CRANK_OK;
}

crank_status parked_take(crank_context *context, parked_store *store, parked_place *place, size_t bytes, bool in_file)
{
    if (place->taken) return CRANK_OK;
    if (!in_file) {
        place->memory = crank_alloc(context, bytes + 1, 1, "parked state");
        place->taken = place->memory != NULL;
        return place->taken ? CRANK_OK : CRANK_FAILED;
    }
    crank_status status = open_file(context, store);
    if (status != CRANK_OK) return status;
    if (ftruncate(store->file - 1, (off_t)(store->end + bytes)) != 0) return failed(context, "written");
    *place = (parked_place){.offset = store->end, .taken = true};
    store->end += bytes;
    return CRANK_OK;
}

crank_status parked_put(crank_context *context, const parked_store *store, parked_place *place, const void *from, size_t bytes)
{
    if (place->memory) memcpy(place->memory, from, bytes);
    for (size_t done = 0; !place->memory && done < bytes;) {
        ssize_t n = pwrite(store->file - 1, (const char *)from + done, bytes - done, (off_t)(place->offset + done));
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return failed(context, "written");
        done += (size_t)n;
    }
    return CRANK_OK;
}

crank_status parked_get(crank_context *context, const parked_store *store, const parked_place *place, void *to, size_t bytes)
{
    if (place->memory) memcpy(to, place->memory, bytes);
    for (size_t done = 0; !place->memory && done < bytes;) {
        ssize_t n = pread(store->file - 1, (char *)to + done, bytes - done, (off_t)(place->offset + done));
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return failed(context, "read");
        done += (size_t)n;
    }
    return CRANK_OK;
}

void parked_drop(parked_place *place)
{
    crank_free(place->memory);
    *place = (parked_place){0};
}

void parked_close(parked_store *store)
{
    if (store->file) close(store->file - 1);
    *store = (parked_store){0};
}
