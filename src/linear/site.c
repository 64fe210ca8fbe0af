/* site.c - what a method has at one linear: its parameters, the tensors that its `derive` made in a graph, and the gradients
 * that `before_step` reads and replaces.
 *
 * Tables of a graph hang in slots of the graph and die with it. */
#include <stdlib.h>
#include <string.h>

#include "linear/quantized.h"
#include "linear/stack.h"

crank_attachment *site_attachment(const crank_site *site)
{
    const crank_linears *linears = site->linear->owner;
    for (size_t i = 0; i < linears->attachment_count; i++) {
        crank_attachment *attachment = linears->attachments[i];
        if (site >= attachment->sites && site < attachment->sites + attachment->count) return attachment;
    }
    return NULL;
}

/* ---- parameters ---- */

/* "<linear>.<method>.<name>" or "<linear>.<method>.<adapter>.<name>"; crank_free. */
static char *param_name(crank_context *context, const crank_site *site, const char *name)
{
    const crank_attachment *attachment = site_attachment(site);
    const char             *linear = site->linear->name, *method = attachment->map->name, *adapter = attachment->where.name;
    if (strcmp(adapter, "default") == 0) return crank_format(context, "%s.%s.%s", linear, method, name);
    return crank_format(context, "%s.%s.%s.%s", linear, method, adapter, name);
}

crank_param *crank_site_param(crank_context *context, crank_site *site, const char *name, crank_dtype dtype, int rank,
                              const int64_t *dims, bool trainable)
{
    crank_attachment *attachment = site_attachment(site);
    crank_params     *params = site->linear->owner->params;
    /* A model held in f64 (references, finite differences) has its adapters in f64 as well. */
    const crank_linear *linear = site->linear;
    crank_dtype         base = linear->weight ? linear->weight->view.dtype : linear->quantized ? linear->quantized->spec.dense : CRANK_F32;
    if (dtype == CRANK_F32 && base == CRANK_F64) dtype = CRANK_F64;
    if (!stack_grow(context, &attachment->params, attachment->param_count, &attachment->param_capacity,
                    sizeof *attachment->params, "parameters of an adapter"))
        return NULL;
    char        *full = param_name(context, site, name);
    crank_param *param = full ? crank_params_add(params, full, CRANK_ROLE_METHOD, dtype, rank, dims) : NULL;
    crank_free(full);
    if (!param) return NULL;
    param->trainable = trainable;
    param->moved = trainable && attachment->map->update;
    param->user = site;
    attachment->params[attachment->param_count++] = param;
    return param;
}

crank_param *crank_site_state(crank_context *context, crank_site *site, const char *name, crank_role role, crank_dtype dtype,
                              int rank, const int64_t *dims)
{
    if (role != CRANK_ROLE_STATE && role != CRANK_ROLE_CACHE) {
        crank_fail(context, CRANK_USAGE, "%s: `%s` is state or cache; crank_site_param makes what an adapter holds", site->linear->name, name);
        return NULL;
    }
    crank_param *param = crank_site_param(context, site, name, dtype, rank, dims, false);
    if (param) param->role = role;
    return param;
}

crank_param *crank_site_find(const crank_site *site, const char *name)
{
    char        *full = param_name(site->linear->owner->context, site, name);
    crank_param *param = full ? crank_params_find(site->linear->owner->params, full) : NULL;
    crank_free(full);
    return param;
}

const char *site_param_name(const crank_site *site, const crank_param *param)
{
    const crank_attachment *attachment = site_attachment(site);
    size_t                  skip = strlen(site->linear->name) + 1 + strlen(attachment->map->name) + 1;
    if (strcmp(attachment->where.name, "default") != 0) skip += strlen(attachment->where.name) + 1;
    return param->name + skip;
}

crank_status crank_site_train(crank_context *context, crank_site *site, crank_param *param)
{
    crank_attachment *attachment = site_attachment(site);
    for (size_t i = 0; i < attachment->trained_count; i++)
        if (attachment->trained[i].param == param) return CRANK_OK;
    if (param->view.dtype == CRANK_NF4 || param->view.dtype == CRANK_F8E4M3)
        return crank_fail(context, CRANK_USAGE, "%s is held in %s, which no step can move: train it in a model with model.weights f32 or bf16, or leave it frozen",
                          param->name, crank_dtype_name(param->view.dtype));
    if (!stack_grow(context, &attachment->trained, attachment->trained_count, &attachment->trained_capacity,
                    sizeof *attachment->trained, "trained parameters"))
        return CRANK_FAILED;
    if (crank_param_own(context, param) != CRANK_OK) return CRANK_FAILED; /* a mapped file cannot be written */
    attachment->trained[attachment->trained_count++] = (trained_param){ param, param->trainable };
    param->trainable = true;
    return CRANK_OK;
}

/* ---- tensors of a graph ---- */

typedef struct put {
    const crank_site *site;
    char             *name; /* NULL: marks that derive was recorded */
    crank_tensor     *tensor;
} put;

/* Of one linear in one graph. */
typedef struct linear_entry {
    crank_tensor *weight, *bias; /* in the compute type */
    put          *puts;
    size_t        count, capacity;
} linear_entry;

typedef struct linears_table {
    linear_entry *linears; /* by index */
    size_t        count;
} linears_table;

static void table_release(void *slot)
{
    linears_table *table = slot;
    for (size_t i = 0; i < table->count; i++) {
        for (size_t j = 0; j < table->linears[i].count; j++) free(table->linears[i].puts[j].name);
        free(table->linears[i].puts);
    }
    free(table->linears);
}

/* The graph's entry of a linear, or NULL (the graph has failed). */
static linear_entry *entry_of(crank_graph *graph, const crank_linear *linear)
{
    linears_table *table = crank_graph_slot(graph, linear->owner, sizeof *table, table_release);
    if (!table) return NULL;
    if ((size_t)linear->index >= table->count) {
        size_t        count = linear->owner->count;
        linear_entry *grown = realloc(table->linears, count * sizeof *grown);
        if (!grown) {
            crank_graph_error(graph, CRANK_FAILED, "out of memory: a table of %zu linears", count);
            return NULL;
        }
        memset(grown + table->count, 0, (count - table->count) * sizeof *grown);
        table->linears = grown;
        table->count = count;
    }
    return &table->linears[linear->index];
}

crank_tensor *linear_use(crank_graph *graph, const crank_linear *linear, crank_param *param)
{
    linear_entry  *entry = entry_of(graph, linear);
    crank_tensor **kept = !entry ? NULL : param == linear->weight ? &entry->weight : &entry->bias;
    if (!kept) return crank_use(graph, param);
    if (!*kept) *kept = crank_cast(crank_use(graph, param), crank_graph_compute(graph));
    return *kept;
}

static put *find_put(linear_entry *entry, const crank_site *site, const char *name)
{
    for (size_t i = 0; i < entry->count; i++) {
        put *each = &entry->puts[i];
        if (each->site == site && (name ? each->name && strcmp(each->name, name) == 0 : !each->name)) return each;
    }
    return NULL;
}

/* Adds or replaces; false: out of memory (the graph has failed). */
static bool set_put(crank_graph *graph, linear_entry *entry, const crank_site *site, const char *name, crank_tensor *tensor)
{
    put *old = find_put(entry, site, name);
    if (old) {
        old->tensor = tensor;
        return true;
    }
    char *copy = name ? strdup(name) : NULL;
    if ((name && !copy) || !stack_grow(crank_graph_context(graph), &entry->puts, entry->count, &entry->capacity,
                                       sizeof *entry->puts, "derived tensors")) {
        free(copy);
        crank_graph_error(graph, CRANK_FAILED, "out of memory: a derived tensor of %s", site->linear->name);
        return false;
    }
    entry->puts[entry->count++] = (put){ site, copy, tensor };
    return true;
}

bool site_derive_once(crank_graph *graph, const crank_site *site)
{
    linear_entry *entry = entry_of(graph, site->linear);
    if (!entry || find_put(entry, site, NULL)) return false;
    return set_put(graph, entry, site, NULL, NULL);
}

void crank_site_put(crank_graph *graph, const crank_site *site, const char *name, crank_tensor *tensor)
{
    linear_entry *entry = entry_of(graph, site->linear);
    if (entry) set_put(graph, entry, site, name, tensor);
}

crank_tensor *crank_site_get(crank_graph *graph, const crank_site *site, const char *name)
{
    linear_entry *entry = entry_of(graph, site->linear);
    put          *found = entry ? find_put(entry, site, name) : NULL;
    if (found) return found->tensor;
    return crank_graph_error(graph, CRANK_FAILED, "%s: `%s` was read before derive made it", site->linear->name, name);
}

/* ---- gradients ---- */

typedef struct gradient_entry {
    crank_param  *param;
    crank_tensor *gradient;
} gradient_entry;

/* Open addressing by the parameter's address; capacity is a power of two, at most half full. */
typedef struct gradient_table {
    gradient_entry *entries;
    size_t          count, capacity;
} gradient_table;

static const char gradient_key;

static void gradients_release(void *slot) { free(((gradient_table *)slot)->entries); }

static gradient_entry *gradient_place(gradient_entry *entries, size_t capacity, const crank_param *param)
{
    size_t at = (size_t)(((uintptr_t)param >> 4) * 0x9E3779B97F4A7C15u) & (capacity - 1);
    while (entries[at].param && entries[at].param != param) at = (at + 1) & (capacity - 1);
    return &entries[at];
}

static bool gradients_double(crank_graph *graph, gradient_table *table)
{
    size_t          capacity = table->capacity ? 2 * table->capacity : 64;
    gradient_entry *grown = calloc(capacity, sizeof *grown);
    if (!grown) {
        crank_graph_error(graph, CRANK_FAILED, "out of memory: a table of %zu gradients", capacity);
        return false;
    }
    for (size_t i = 0; i < table->capacity; i++)
        if (table->entries[i].param) *gradient_place(grown, capacity, table->entries[i].param) = table->entries[i];
    free(table->entries);
    table->entries = grown;
    table->capacity = capacity;
    return true;
}

crank_tensor *crank_gradient_of(crank_graph *graph, crank_param *param)
{
    gradient_table *table = crank_graph_slot(graph, &gradient_key, sizeof *table, gradients_release);
    return table && table->capacity ? gradient_place(table->entries, table->capacity, param)->gradient : NULL;
}

void crank_gradient_set(crank_graph *graph, crank_param *param, crank_tensor *gradient)
{
    gradient_table *table = crank_graph_slot(graph, &gradient_key, sizeof *table, gradients_release);
    if (!table || (2 * (table->count + 1) > table->capacity && !gradients_double(graph, table))) return;
    gradient_entry *entry = gradient_place(table->entries, table->capacity, param);
    table->count += !entry->param;
    *entry = (gradient_entry){ param, gradient };
}

/* ---- filler ---- */

static const char filler_key = 0;

crank_tensor *linear_filler_input(crank_graph *graph)
{
    crank_tensor **slot = crank_graph_slot(graph, &filler_key, sizeof *slot, NULL);
    return slot ? *slot : NULL;
}

crank_tensor *linear_filler(crank_graph *graph, int64_t n)
{
    crank_tensor **slot = crank_graph_slot(graph, &filler_key, sizeof *slot, NULL);
    if (!slot) return NULL;
    if (!*slot) *slot = crank_input(graph, "filler rows", CRANK_F32, 1, &n);
    return *slot && (*slot)->dims[0] == n ? *slot : NULL;
}
