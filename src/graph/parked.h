/* parked.h - where parameters lie that no graph uses for now: host memory beside a card; beside a host device a file without a name in TMPDIR, so
 * that they are not resident. */
#ifndef CRANK_GRAPH_PARKED_H
#define CRANK_GRAPH_PARKED_H

#include "crank/base.h"

typedef struct parked_store {
    int      file; /* descriptor + 1; 0: not opened */
    uint64_t end;
} parked_store;

typedef struct parked_place {
    void    *memory; /* NULL: in the file */
    uint64_t offset;
    bool     taken;
} parked_place;

/* Room for `bytes` zero bytes; in_file: in the store's file. */
crank_status parked_take(crank_context *context, parked_store *store, parked_place *place, size_t bytes, bool in_file);
crank_status parked_put(crank_context *context, const parked_store *store, parked_place *place, const void *from, size_t bytes);
crank_status parked_get(crank_context *context, const parked_store *store, const parked_place *place, void *to, size_t bytes);
void         parked_drop(parked_place *place); /* a place in the file stays empty until the store is closed */
void         parked_close(parked_store *store);
#endif
