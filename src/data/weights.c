/* weights.c - a model folder's weights as one set of names.
 *
 *     model.safetensors                                          where it is there, else
 *     model.safetensors.index.json {"weight_map": {NAME: FILE}}  and the files that it names, in the same folder */
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "crank/tensor.h"

static const char single_name[] = "model.safetensors", index_name[] = "model.safetensors.index.json";

typedef struct {
    const char *name; /* of a single file's tensor, or of the index */
    crank_view  view;
    size_t      file;
} entry;

struct crank_weights {
    crank_safetensors **files;
    char              **file_names;
    size_t              file_count, count;
    entry              *entries; /* sorted by name */
    json_t             *index;   /* owns the names of sharded weights */
};

static int by_name(const void *a, const void *b) { return strcmp(((const entry *)a)->name, ((const entry *)b)->name); }

/* Opens `name` of the folder as the next file (room for it is there) unless it is open. *place is its number. */
static crank_status open_file(crank_context *context, crank_weights *weights, const char *folder, const char *name,
                              size_t *place)
{
    for (*place = 0; *place < weights->file_count; ++*place)
        if (strcmp(weights->file_names[*place], name) == 0) return CRANK_OK;
    char *path = file_join(context, folder, name), *kept = crank_strdup(context, name);
    crank_safetensors *file = path && kept ? crank_safetensors_open(context, path) : NULL;
    crank_free(path);
    if (!file) {
        crank_free(kept);
        return crank_last_status(context);
    }
    weights->files[*place] = file;
    weights->file_names[*place] = kept;
    weights->file_count++;
    return CRANK_OK;
}

static crank_status make_room(crank_context *context, crank_weights *weights, size_t files, size_t entries)
{
    weights->files = crank_alloc(context, files, sizeof *weights->files, "the list of weight files");
    weights->file_names = crank_alloc(context, files, sizeof *weights->file_names, "the list of weight files");
    weights->entries = crank_alloc(context, entries, sizeof *weights->entries, "the list of weights");
    return weights->files && weights->file_names && weights->entries ? CRANK_OK : CRANK_FAILED;
}

static crank_status read_single(crank_context *context, crank_weights *weights, const char *path)
{
    crank_safetensors *file = crank_safetensors_open(context, path);
    if (!file) return crank_last_status(context);
    if (make_room(context, weights, 1, crank_safetensors_count(file)) != CRANK_OK ||
        !(weights->file_names[0] = crank_strdup(context, path))) {
        crank_safetensors_close(file);
        return CRANK_FAILED;
    }
    weights->files[weights->file_count++] = file;
    for (size_t i = 0; i < crank_safetensors_count(file); i++)
        weights->entries[weights->count++] = (entry){crank_safetensors_name(file, i), crank_safetensors_view(file, i), 0};
    return CRANK_OK;
}

/* A plain name in the same folder: an index must not reach other places of the disk. */
static bool is_plain_name(const char *name)
{
    return name && *name && !strchr(name, '/') && strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

static crank_status read_map(crank_context *context, crank_weights *weights, const char *folder, const char *index,
                             json_t *map)
{
    const char *key;
    json_t     *value;
    size_t      held = 0;
    if (!json_is_object(map)) return crank_fail(context, CRANK_BAD_DATA, "%s: `weight_map` is missing or no object", index);
    if (make_room(context, weights, json_object_size(map), json_object_size(map)) != CRANK_OK) return CRANK_FAILED;
    json_object_foreach(map, key, value) {
        const char *name = json_string_value(value);
        entry      *each = &weights->entries[weights->count];
        if (!is_plain_name(name))
            return crank_fail(context, CRANK_BAD_DATA, "%s: weight `%.200s`: its file must be a plain name in this folder",
                              index, key);
        if (open_file(context, weights, folder, name, &each->file) != CRANK_OK) return crank_fail_in(context, "%s", index);
        if (!crank_safetensors_find(weights->files[each->file], key, &each->view))
            return crank_fail(context, CRANK_BAD_DATA, "%s: weight `%.200s` is not in %s", index, key, name);
        each->name = key; /* lives in the index */
        weights->count++;
    }
    for (size_t i = 0; i < weights->file_count; i++) held += crank_safetensors_count(weights->files[i]);
    if (held != weights->count)
        crank_log(context, CRANK_WARNING, "%s: %zu tensors of its files are not in its `weight_map` and are not read", index,
                  held - weights->count);
    return CRANK_OK;
}

static crank_status read_index(crank_context *context, crank_weights *weights, const char *folder, const char *path)
{
    weights->index = json_read(context, path);
    return weights->index ? read_map(context, weights, folder, path, json_object_get(weights->index, "weight_map"))
                          : crank_last_status(context);
}

crank_weights *crank_weights_open(crank_context *context, const char *folder)
{
    crank_weights *weights = crank_alloc(context, 1, sizeof *weights, "weights");
    char          *single = file_join(context, folder, single_name), *index = file_join(context, folder, index_name);
    crank_status   status = CRANK_FAILED;
    if (weights && single && index) {
        if (file_exists(folder) && !file_is_folder(folder)) status = read_single(context, weights, folder);
        else if (file_exists(single)) status = read_single(context, weights, single);
        else if (file_exists(index)) status = read_index(context, weights, folder, index);
        else status = crank_fail(context, CRANK_USAGE, "%s: holds neither %s nor %s", folder, single_name, index_name);
    }
    crank_free(single);
    crank_free(index);
    if (status != CRANK_OK) {
        crank_weights_close(weights);
        return NULL;
    }
    if (weights->count) qsort(weights->entries, weights->count, sizeof *weights->entries, by_name);
    return weights;
}

void crank_weights_close(crank_weights *weights)
{
    if (!weights) return;
    for (size_t i = 0; i < weights->file_count; i++) {
        crank_safetensors_close(weights->files[i]);
        crank_free(weights->file_names[i]);
    }
    crank_free(weights->files);
    crank_free(weights->file_names);
    crank_free(weights->entries);
    json_decref(weights->index);
    crank_free(weights);
}

size_t      crank_weights_count(const crank_weights *weights) { return weights->count; }
const char *crank_weights_name(const crank_weights *weights, size_t i) { return weights->entries[i].name; }

static const entry *find(const crank_weights *weights, const char *name)
{
    entry key = {.name = name};
    return weights->count ? bsearch(&key, weights->entries, weights->count, sizeof key, by_name) : NULL;
}

bool crank_weights_find(const crank_weights *weights, const char *name, crank_view *view)
{
    const entry *found = find(weights, name);
    if (found) *view = found->view;
    return found != NULL;
}

const char *crank_weights_metadata(const crank_weights *weights, const char *key)
{
    const char *value = NULL;
    for (size_t i = 0; i < weights->file_count && !value; i++) value = crank_safetensors_metadata(weights->files[i], key);
    return value;
}

void crank_weights_release(const crank_weights *weights, const char *name)
{
    const entry *found = find(weights, name);
    if (found) crank_safetensors_release(weights->files[found->file], &found->view);
}
