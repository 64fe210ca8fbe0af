/* plugin.c - loading methods from shared objects. */
#include "crank/plugin.h"

#include <dlfcn.h>
#include <pthread.h>
#include <string.h>

#include "base/file.h"

enum { MAX_PLUGINS = 64 };

static struct {
    char    *name;
    uint64_t hash;
} loaded[MAX_PLUGINS]; /* process-wide, like the code itself */
static size_t          loaded_count;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static uint64_t hash_bytes(const uint8_t *bytes, size_t length)
{
    uint64_t hash = 0xcbf29ce484222325u;
    for (size_t i = 0; i < length; i++) hash = (hash ^ bytes[i]) * 0x100000001b3u;
    return hash;
}

static crank_status note(crank_context *context, const char *path, uint64_t hash)
{
    const char  *slash = strrchr(path, '/');
    crank_status status = CRANK_OK;
    char        *name = crank_strdup(context, slash ? slash + 1 : path);
    if (!name) return CRANK_FAILED;
    pthread_mutex_lock(&lock);
    if (loaded_count == MAX_PLUGINS) {
        status = crank_fail(context, CRANK_FAILED, "%s: %d plugins are loaded and no more fit", path, MAX_PLUGINS);
        crank_free(name);
    } else {
        loaded[loaded_count].name = name;
        loaded[loaded_count++].hash = hash;
    }
    pthread_mutex_unlock(&lock);
    return status;
}

crank_status crank_plugin_load(crank_context *context, const char *path)
{
    file_map map;
    if (file_map_open(context, path, &map) != CRANK_OK) return crank_last_status(context);
    uint64_t hash = hash_bytes(map.data, map.length);
    file_map_close(&map);
    void *object = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!object) return crank_fail(context, CRANK_USAGE, "plugin %s does not load: %s", path, dlerror());
    crank_plugin_entry *entry;
    *(void **)&entry = dlsym(object, "crank_plugin");
    if (!entry) {
        dlclose(object);
        return crank_fail(context, CRANK_USAGE, "plugin %s has no function crank_plugin(crank_context *)", path);
    }
    crank_status status = entry(context);
    if (status != CRANK_OK) return crank_fail_in(context, "plugin %s", path);
    return note(context, path, hash);
}

bool crank_plugin_at(size_t i, const char **name, uint64_t *hash)
{
    pthread_mutex_lock(&lock);
    bool there = i < loaded_count;
    if (there) {
        *name = loaded[i].name;
        *hash = loaded[i].hash;
    }
    pthread_mutex_unlock(&lock);
    return there;
}
