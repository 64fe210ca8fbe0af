/* weights_write.c - writes a model folder's weights: one file, or shards and their index.
 *
 * Each file is replaced atomically; the index comes last, and only then files of an earlier, differently sharded version
 * go, so a reader that comes between finds the old single file or a complete new set. Whoever needs the whole folder to
 * change at once writes a new folder and renames it. */
#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "data/safetensors.h"

static const char *const metadata[] = {"format", "pt"}; /* transformers asks for it */

/* Shard number of each tensor, filled in order; a tensor larger than `limit` has a shard of its own. Returns the count. */
static size_t divide(const crank_named_view *tensors, size_t count, uint64_t limit, size_t *shard)
{
    size_t   current = 0;
    uint64_t held = 0;
    for (size_t i = 0; i < count; i++) {
        uint64_t bytes = crank_view_bytes(&tensors[i].view);
        if (held > 0 && limit > 0 && (bytes > limit || held > limit - bytes)) {
            current++;
            held = 0;
        }
        shard[i] = current;
        held += bytes;
    }
    return current + 1;
}

static void file_name(char *out, size_t size, size_t shard, size_t shards)
{
    if (shards == 1) snprintf(out, size, "model.safetensors");
    else snprintf(out, size, "model-%05zu-of-%05zu.safetensors", shard + 1, shards);
}

/* Writes the tensors of shard `which`; they stand next to each other. */
static crank_status write_shard(crank_context *context, const char *folder, const crank_named_view *tensors, size_t count,
                                const size_t *shard, size_t which, size_t shards, crank_fetch *fetch, void *user)
{
    char   name[64];
    size_t first = 0, last;
    while (first < count && shard[first] < which) first++;
    for (last = first; last < count && shard[last] == which;) last++;
    file_name(name, sizeof name, which, shards);
    char        *path = file_join(context, folder, name);
    crank_status status = path ? safetensors_write_from(context, path, tensors + first, last - first, metadata, 1, fetch, user, first) : CRANK_FAILED;
    crank_free(path);
    return status;
}

static int by_name(const void *a, const void *b)
{
    return strcmp((*(const crank_named_view *const *)a)->name, (*(const crank_named_view *const *)b)->name);
}

/* {"metadata": {"total_size": bytes}, "weight_map": {names in order: files}}; NULL with a message when a name comes twice */
static json_t *make_index(crank_context *context, const char *folder, const crank_named_view *tensors, size_t count,
                          const size_t *shard, size_t shards)
{
    const crank_named_view **sorted = crank_alloc(context, count, sizeof *sorted, "names of weights");
    json_t                  *map = sorted ? json_object() : NULL;
    char                     name[64];
    uint64_t                 total = 0;
    for (size_t i = 0; map && i < count; i++) {
        sorted[i] = &tensors[i];
        total += crank_view_bytes(&tensors[i].view);
    }
    if (map && count) qsort(sorted, count, sizeof *sorted, by_name);
    crank_status status = map ? CRANK_OK : crank_fail(context, CRANK_FAILED, "%s: out of memory for its index", folder);
    for (size_t i = 0; i < count && status == CRANK_OK; i++) {
        file_name(name, sizeof name, shard[sorted[i] - tensors], shards);
        if (json_object_get(map, sorted[i]->name))
            status = crank_fail(context, CRANK_USAGE, "%s: two tensors are named `%.200s`", folder, sorted[i]->name);
        else if (json_object_set_new(map, sorted[i]->name, json_string(name)) != 0)
            status = crank_fail(context, CRANK_USAGE, "%s: `%.200s` cannot be a tensor's name", folder, sorted[i]->name);
    }
    crank_free((void *)sorted);
    if (status == CRANK_OK) return json_pack("{s:{s:I},s:o}", "metadata", "total_size", (json_int_t)total, "weight_map", map);
    json_decref(map);
    return NULL;
}

static crank_status write_index(crank_context *context, const char *folder, const json_t *index)
{
    char        *path = file_join(context, folder, "model.safetensors.index.json");
    crank_status status = path ? json_write(context, path, index) : CRANK_FAILED;
    crank_free(path);
    return status;
}

/* True for names that this file writes but not for a model of `shards` shards. */
static bool is_stale(const char *name, size_t shards)
{
    unsigned which, of;
    int      end = 0;
    if (strcmp(name, "model.safetensors") == 0) return shards > 1;
    if (strcmp(name, "model.safetensors.index.json") == 0) return shards == 1;
    return sscanf(name, "model-%5u-of-%5u.safetensors%n", &which, &of, &end) == 2 && end > 0 && name[end] == 0 &&
           (shards == 1 || of != shards);
}

static crank_status remove_stale(crank_context *context, const char *folder, size_t shards)
{
    DIR           *listing = opendir(folder);
    struct dirent *each;
    crank_status   status = CRANK_OK;
    while (listing && status == CRANK_OK && (each = readdir(listing))) {
        if (!is_stale(each->d_name, shards)) continue;
        char *path = file_join(context, folder, each->d_name);
        if (!path) status = CRANK_FAILED;
        else if (unlink(path) != 0) status = crank_fail(context, CRANK_FAILED, "%s: cannot be removed", path);
        crank_free(path);
    }
    if (listing) closedir(listing);
    return status;
}

crank_status crank_weights_write(crank_context *context, const char *folder, const crank_named_view *tensors, size_t count,
                                 uint64_t shard_bytes)
{
    return crank_weights_write_from(context, folder, tensors, count, shard_bytes, NULL, NULL);
}

crank_status crank_weights_write_from(crank_context *context, const char *folder, const crank_named_view *tensors, size_t count,
                                      uint64_t shard_bytes, crank_fetch *fetch, void *user)
{
    crank_status status = file_make_folder(context, folder);
    size_t      *shard = status == CRANK_OK ? crank_alloc(context, count, sizeof *shard, "the order of shards") : NULL;
    if (!shard) return crank_last_status(context);
    size_t  shards = divide(tensors, count, shard_bytes, shard);
    json_t *index = shards > 1 ? make_index(context, folder, tensors, count, shard, shards) : NULL;
    if (shards > 99999) status = crank_fail(context, CRANK_USAGE, "%s: %zu shards; at most 99999 are written", folder, shards);
    else if (shards > 1 && !index) status = crank_last_status(context);
    for (size_t i = 0; i < shards && status == CRANK_OK; i++)
        status = write_shard(context, folder, tensors, count, shard, i, shards, fetch, user);
    if (status == CRANK_OK && index) status = write_index(context, folder, index);
    if (status == CRANK_OK) status = remove_stale(context, folder, shards);
    json_decref(index);
    crank_free(shard);
    return status;
}
