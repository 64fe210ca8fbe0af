/* pool.c - one arena and one workspace for graphs that never run at the same time. */
#include "graph/graph.h"

struct crank_pool {
    crank_context *context;
    crank_device  *device;
    void          *arena, *workspace;
    size_t         arena_bytes, workspace_bytes;   /* taken */
    size_t         arena_needed, workspace_needed; /* by the graphs planned so far */
};

crank_pool *crank_pool_new(crank_context *context, crank_device *device)
{
    crank_pool *pool = crank_alloc(context, 1, sizeof *pool, "an arena");
    if (!pool) return NULL;
    pool->context = context;
    pool->device = device;
    return pool;
}

void crank_pool_free(crank_pool *pool)
{
    if (!pool) return;
    crank_pool_release(pool);
    crank_free(pool);
}

void crank_pool_release(crank_pool *pool)
{
    if (pool->arena) pool->device->free(pool->device, pool->arena);
    if (pool->workspace) pool->device->free(pool->device, pool->workspace);
    pool->arena = pool->workspace = NULL;
    pool->arena_bytes = pool->workspace_bytes = 0;
}

size_t crank_pool_bytes(const crank_pool *pool)
{
    size_t arena = pool->arena_bytes > pool->arena_needed ? pool->arena_bytes : pool->arena_needed;
    size_t workspace = pool->workspace_bytes > pool->workspace_needed ? pool->workspace_bytes : pool->workspace_needed;
    return arena + workspace;
}

void pool_need(crank_pool *pool, size_t arena, size_t workspace)
{
    if (arena > pool->arena_needed) pool->arena_needed = arena;
    if (workspace > pool->workspace_needed) pool->workspace_needed = workspace;
}

static crank_status enlarge(crank_context *context, crank_pool *pool, void **memory, size_t *have, size_t want, const char *what)
{
    if (*have >= want && *memory) return CRANK_OK;
    if (*memory) pool->device->free(pool->device, *memory);
    *memory = pool->device->alloc(context, pool->device, want ? want : 1, what);
    *have = *memory ? want : 0;
    return *memory ? CRANK_OK : CRANK_FAILED;
}

crank_status pool_reserve(crank_context *context, crank_pool *pool, size_t arena, size_t workspace)
{
    pool_need(pool, arena, workspace);
    crank_status status = enlarge(context, pool, &pool->arena, &pool->arena_bytes, pool->arena_needed, "the step arena");
    if (status != CRANK_OK) return status;
    return enlarge(context, pool, &pool->workspace, &pool->workspace_bytes, pool->workspace_needed, "the workspace");
}

void *pool_arena(const crank_pool *pool) { return pool->arena; }
void *pool_workspace(const crank_pool *pool) { return pool->workspace; }
