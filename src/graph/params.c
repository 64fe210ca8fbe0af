/* params.c - sets of named persistent tensors: weights, what methods add, optimiser state, caches. */
#include <stdlib.h>
#include <string.h>

#include "crank/graph.h"
#include "graph/parked.h"

typedef struct param_record {
    crank_param public;
    char       *name;
    bool        owned; /* the memory is ours */
    parked_place  place; /* where it lies when it is parked */
} param_record;

struct crank_params {
    crank_context *context;
    crank_device  *device;
    param_record **items;
    size_t         count, capacity;
    size_t        *table; /* open addressing: 1 + index of an item, 0 empty, SIZE_MAX removed */
    size_t         table_size, table_used;
    bool           defer;
    parked_store     store;
};

crank_params *crank_params_new(crank_context *context, crank_device *device)
{
    crank_params *params = crank_alloc(context, 1, sizeof *params, "a parameter set");
    if (!params) return NULL;
    params->context = context;
    params->device = device;
    return params;
}

static void record_free(crank_params *params, param_record *record)
{
    if (record->owned && record->public.view.data) params->device->free(params->device, record->public.view.data);
    parked_drop(&record->place);
    crank_free(record->name);
    crank_free(record);
}

void crank_params_free(crank_params *params)
{
    if (!params) return;
    for (size_t i = 0; i < params->count; i++) record_free(params, params->items[i]);
    parked_close(&params->store);
    free(params->items);
    free(params->table);
    crank_free(params);
}

crank_device *crank_params_device(const crank_params *params) { return params->device; }

static size_t hash_text(const char *text)
{
    uint64_t hash = 0xcbf29ce484222325u;
    for (; *text; text++) hash = (hash ^ (uint8_t)*text) * 0x100000001b3u;
    return (size_t)hash;
}

static size_t *table_find(const crank_params *params, const char *name)
{
    if (!params->table_size) return NULL;
    for (size_t i = hash_text(name) & (params->table_size - 1);; i = (i + 1) & (params->table_size - 1)) {
        size_t entry = params->table[i];
        if (!entry) return NULL;
        if (entry != SIZE_MAX && !strcmp(params->items[entry - 1]->name, name)) return &params->table[i];
    }
}

static void table_insert(crank_params *params, size_t index)
{
    size_t i = hash_text(params->items[index]->name) & (params->table_size - 1);
    while (params->table[i] && params->table[i] != SIZE_MAX) i = (i + 1) & (params->table_size - 1);
    params->table[i] = index + 1;
    params->table_used++;
}

static bool grow(crank_params *params)
{
    if (params->count == params->capacity) {
        size_t         capacity = params->capacity ? 2 * params->capacity : 64;
        param_record **items = realloc(params->items, capacity * sizeof *items);
        if (!items) return false;
        params->items = items;
        params->capacity = capacity;
    }
    if (2 * (params->table_used + 1) > params->table_size) {
        size_t  size = params->table_size ? 2 * params->table_size : 128;
        size_t *table = calloc(size, sizeof *table);
        if (!table) return false;
        free(params->table);
        params->table = table;
        params->table_size = size;
        params->table_used = 0;
        for (size_t i = 0; i < params->count; i++) table_insert(params, i);
    }
    return true;
}

/* A record in the set, without memory. */
static param_record *add_record(crank_params *params, const char *name, crank_role role, crank_view view)
{
    crank_context *context = params->context;
    if (table_find(params, name)) {
        crank_fail(context, CRANK_USAGE, "parameter `%s` exists already", name);
        return NULL;
    }
    param_record *record = crank_alloc(context, 1, sizeof *record, "a parameter");
    if (!record) return NULL;
    record->name = crank_strdup(context, name);
    if (!record->name || !grow(params)) {
        if (record->name) crank_fail(context, CRANK_FAILED, "out of memory: the parameter table");
        crank_free(record->name);
        crank_free(record);
        return NULL;
    }
    record->public = (crank_param){.name = record->name, .role = role, .view = view, .owner = params, .rate_factor = 1};
    params->items[params->count] = record;
    table_insert(params, params->count++);
    return record;
}

size_t crank_param_bytes(const crank_param *param)
{
    if (!param->room) return crank_view_bytes(&param->view);
    return (size_t)((param->view.dims[0] + param->room) * param->view.strides[0]) * crank_dtype_bits(param->view.dtype) / 8;
}

static crank_status take_memory(crank_params *params, param_record *record)
{
    size_t bytes = crank_param_bytes(&record->public);
    if (record->public.parked) return parked_take(params->context, &params->store, &record->place, bytes, params->device->host);
    record->public.view.data = params->device->alloc(params->context, params->device, bytes ? bytes : 1, record->name);
    record->owned = record->public.view.data != NULL;
    return record->owned ? CRANK_OK : CRANK_FAILED;
}

static crank_param *add_param(crank_params *params, const char *name, crank_role role, crank_dtype dtype, int rank, const int64_t *dims, bool parked)
{
    for (int i = 0; i < rank; i++)
        if (dims[i] < 0) {
            crank_fail(params->context, CRANK_USAGE, "parameter `%s` has a negative size", name);
            return NULL;
        }
    param_record *record = add_record(params, name, role, crank_view_make(NULL, dtype, rank, dims));
    if (!record) return NULL;
    record->public.parked = parked;
    if (!params->defer && take_memory(params, record) != CRANK_OK) {
        crank_params_remove(params, &record->public);
        return NULL;
    }
    return &record->public;
}

crank_param *crank_params_add(crank_params *params, const char *name, crank_role role, crank_dtype dtype, int rank, const int64_t *dims)
{
    return add_param(params, name, role, dtype, rank, dims, false);
}

crank_param *crank_params_add_parked(crank_params *params, const char *name, crank_role role, crank_dtype dtype, int rank, const int64_t *dims)
{
    return add_param(params, name, role, dtype, rank, dims, true);
}

crank_param *crank_params_add_view(crank_params *params, const char *name, crank_role role, crank_view view)
{
    param_record *record = add_record(params, name, role, view);
    if (!record) return NULL;
    record->public.mapped = true;
    return &record->public;
}

crank_status crank_param_own(crank_context *context, crank_param *param)
{
    if (!param->mapped) return CRANK_OK;
    param_record *record = (param_record *)param; /* `public` is its first member */
    const void   *file = param->view.data;
    if (take_memory(param->owner, record) != CRANK_OK) {
        param->view.data = (void *)file;
        return CRANK_FAILED;
    }
    param->mapped = false;
    param->version++;
    return param->owner->device->upload(context, param->owner->device, param->view.data, file, crank_view_bytes(&param->view));
}

crank_status crank_param_make_room(crank_context *context, crank_param *param, int64_t room)
{
    if (param->room >= room) return CRANK_OK;
    if (param->view.rank != 2 || param->mapped || param->parked || crank_dtype_bits(param->view.dtype) < 8)
        return crank_fail(context, CRANK_USAGE, "parameter `%s` cannot have room: it is no matrix of its own memory", param->name);
    param_record *record = (param_record *)param;
    crank_device *device = param->owner->device;
    crank_view    old = param->view;
    int64_t       had = param->room;
    param->room = room;
    param->view.strides[0] = param->view.dims[1] + room;
    if (!old.data) return CRANK_OK; /* planning without memory */
    crank_status status = take_memory(param->owner, record);
    if (status == CRANK_OK) status = crank_run_once(context, device, "copy", &old, 1, &param->view, 1, NULL);
    if (status == CRANK_OK) {
        device->free(device, old.data);
        return CRANK_OK;
    }
    if (param->view.data) device->free(device, param->view.data);
    param->view = old;
    param->room = had;
    record->owned = true;
    return status;
}

void crank_params_remove(crank_params *params, crank_param *param)
{
    size_t *entry = table_find(params, param->name);
    if (!entry) return;
    size_t index = *entry - 1;
    record_free(params, params->items[index]);
    memmove(&params->items[index], &params->items[index + 1], (params->count - index - 1) * sizeof *params->items);
    params->count--;
    memset(params->table, 0, params->table_size * sizeof *params->table); /* the items behind it have moved */
    params->table_used = 0;
    for (size_t i = 0; i < params->count; i++) table_insert(params, i);
}

crank_param *crank_params_find(const crank_params *params, const char *name)
{
    size_t *entry = table_find(params, name);
    return entry ? &params->items[*entry - 1]->public : NULL;
}

size_t       crank_params_count(const crank_params *params) { return params->count; }
crank_param *crank_params_at(const crank_params *params, size_t i) { return &params->items[i]->public; }
void         crank_params_defer(crank_params *params, bool defer) { params->defer = defer; }

bool         crank_params_deferred(const crank_params *params) { return params->defer; }

crank_status crank_params_commit(crank_params *params)
{
    params->defer = false;
    for (size_t i = 0; i < params->count; i++)
        if (!params->items[i]->public.view.data && !params->items[i]->public.away && !params->items[i]->place.taken && take_memory(params, params->items[i]) != CRANK_OK) return CRANK_FAILED;
    return CRANK_OK;
}

static crank_status check_host_type(crank_context *context, const crank_param *param, crank_dtype dtype)
{
    crank_dtype own = param->view.dtype;
    if (param->parked ? !((const param_record *)param)->place.taken : !param->view.data) return crank_fail(context, CRANK_USAGE, "parameter `%s` has no memory yet", param->name);
    if (own == dtype || (crank_dtype_is_float(own) && crank_dtype_is_float(dtype))) return CRANK_OK;
    return crank_fail(context, CRANK_USAGE, "parameter `%s` is %s and cannot be seen as %s", param->name, crank_dtype_name(own),
                      crank_dtype_name(dtype));
}

/* A parked parameter in its own type, through a copy where the host has another. */
static crank_status write_parked(crank_context *context, crank_param *param, const void *host, crank_dtype dtype)
{
    size_t       bytes = crank_view_bytes(&param->view);
    bool         same = dtype == param->view.dtype;
    void        *own = same ? NULL : crank_alloc(context, bytes + 1, 1, param->name);
    if (!same && !own) return CRANK_FAILED;
    if (!same) crank_convert(own, param->view.dtype, host, dtype, (size_t)crank_view_count(&param->view));
    crank_status status = parked_put(context, &param->owner->store, &((param_record *)param)->place, same ? host : own, bytes);
    param->version++;
    crank_free(own);
    return status;
}

static crank_status read_parked(crank_context *context, const crank_param *param, void *host, crank_dtype dtype)
{
    size_t       bytes = crank_view_bytes(&param->view);
    bool         same = dtype == param->view.dtype;
    void        *own = same ? NULL : crank_alloc(context, bytes + 1, 1, param->name);
    if (!same && !own) return CRANK_FAILED;
    crank_status status = parked_get(context, &param->owner->store, &((const param_record *)param)->place, same ? host : own, bytes);
    if (status == CRANK_OK && !same) crank_convert(host, dtype, own, param->view.dtype, (size_t)crank_view_count(&param->view));
    crank_free(own);
    return status;
}

/* The parameter's values to or from dense host memory of its own type. */
static crank_status transfer(crank_context *context, const crank_param *param, void *host, bool up)
{
    crank_device *device = param->owner->device;
    crank_view    dense = crank_view_make(NULL, param->view.dtype, param->view.rank, param->view.dims);
    size_t        bytes = crank_view_bytes(&dense);
    if (!param->room)
        return up ? device->upload(context, device, param->view.data, host, bytes) : device->download(context, device, host, param->view.data, bytes);
    dense.data = device->alloc(context, device, bytes, param->name);
    crank_status status = dense.data ? CRANK_OK : CRANK_FAILED;
    if (status == CRANK_OK && up) status = device->upload(context, device, dense.data, host, bytes);
    if (status == CRANK_OK) status = crank_run_once(context, device, "copy", up ? &dense : &param->view, 1, up ? &param->view : &dense, 1, NULL);
    if (status == CRANK_OK && !up) status = device->download(context, device, host, dense.data, bytes);
    if (dense.data) device->free(device, dense.data);
    return status;
}

crank_status crank_param_write(crank_context *context, crank_param *param, const void *host, crank_dtype dtype)
{
    crank_status status = check_host_type(context, param, dtype);
    if (status != CRANK_OK) return status;
    if (param->parked) return write_parked(context, param, host, dtype);
    if (param->mapped) return crank_fail(context, CRANK_USAGE, "parameter `%s` is mapped read-only from its file", param->name);
    size_t bytes = crank_view_bytes(&param->view), count = (size_t)crank_view_count(&param->view);
    param->version++;
    if (dtype == param->view.dtype) return transfer(context, param, (void *)(uintptr_t)host, true);
    if (param->owner->device->host && !param->room) {
        crank_convert(param->view.data, param->view.dtype, host, dtype, count);
        return CRANK_OK;
    }
    void *converted = crank_alloc(context, bytes, 1, param->name);
    if (!converted) return CRANK_FAILED;
    crank_convert(converted, param->view.dtype, host, dtype, count);
    status = transfer(context, param, converted, true);
    crank_free(converted);
    return status;
}

crank_status crank_param_read(crank_context *context, const crank_param *param, void *host, crank_dtype dtype)
{
    crank_status status = check_host_type(context, param, dtype);
    if (status != CRANK_OK) return status;
    if (param->parked) return read_parked(context, param, host, dtype);
    size_t bytes = crank_view_bytes(&param->view), count = (size_t)crank_view_count(&param->view);
    if (dtype == param->view.dtype) return transfer(context, param, host, false);
    if (param->owner->device->host && !param->room) {
        crank_convert(host, dtype, param->view.data, param->view.dtype, count);
        return CRANK_OK;
    }
    void *own = crank_alloc(context, bytes, 1, param->name);
    if (!own) return CRANK_FAILED;
    status = transfer(context, param, own, false);
    if (status == CRANK_OK) crank_convert(host, dtype, own, param->view.dtype, count);
    crank_free(own);
    return status;
}
