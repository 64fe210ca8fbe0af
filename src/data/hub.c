/* hub.c - names of models on a hub, and where the cache keeps them. */
#include "data/hub.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "base/file.h"

static const char *set(const char *variable)
{
    const char *value = getenv(variable);
    return value && *value ? value : NULL;
}

bool hub_offline(void)
{
    static const char *const yes[] = {"1", "ON", "YES", "TRUE"};
    const char              *value = set("HF_HUB_OFFLINE");
    for (size_t i = 0; value && i < sizeof yes / sizeof yes[0]; i++)
        if (!strcasecmp(value, yes[i])) return true;
    return false;
}

bool hub_is_commit(const char *text) { return strspn(text, "0123456789abcdef") == HUB_COMMIT && !text[HUB_COMMIT]; }

/* A part of a name or of a revision: letters, digits, '-', '_', '.'; no "..", and neither '.' nor '-' at its ends. */
static bool good_part(const char *part, size_t length)
{
    if (!length || strchr(".-", part[0]) || strchr(".-", part[length - 1])) return false;
    for (size_t i = 0; i < length; i++) {
        char c = part[i];
        bool word = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-' || c == '.';
        if (!word || (c == '.' && i + 1 < length && part[i + 1] == '.')) return false;
    }
    return true;
}

/* Good parts between slashes; their number, or 0. */
static size_t good_parts(const char *text)
{
    for (size_t count = 1;; count++) {
        size_t length = strcspn(text, "/");
        if (!good_part(text, length)) return 0;
        if (!text[length]) return count;
        text += length + 1;
    }
}

bool hub_parse(const char *text, hub_name *name)
{
    size_t      length = strcspn(text, "@");
    const char *revision = text[length] ? text + length + 1 : "main";
    *name = (hub_name){.repository = ""};
    if (length >= sizeof name->repository || strlen(revision) >= sizeof name->revision) return false;
    memcpy(name->repository, text, length);
    strcpy(name->revision, revision);
    size_t parts = good_parts(name->repository);
    return (parts == 1 || parts == 2) && !strstr(name->repository, "--") && good_parts(revision) > 0;
}

char *hub_cache(crank_context *context)
{
    const char *folder;
    if ((folder = set("HF_HUB_CACHE"))) return crank_strdup(context, folder);
    if ((folder = set("HF_HOME"))) return file_join(context, folder, "hub");
    if ((folder = set("XDG_CACHE_HOME"))) return file_join(context, folder, "huggingface/hub");
    if ((folder = set("HOME"))) return file_join(context, folder, ".cache/huggingface/hub");
    crank_fail(context, CRANK_USAGE, "there is no place for downloaded models: set HF_HUB_CACHE, HF_HOME or HOME");
    return NULL;
}

char *hub_repository_folder(crank_context *context, const hub_name *name)
{
    char       *cache = hub_cache(context), *folder = NULL;
    const char *slash = strchr(name->repository, '/');
    int         first = (int)(slash ? slash - name->repository : (ptrdiff_t)strlen(name->repository));
    if (cache) folder = crank_format(context, "%s/models--%.*s%s%s", cache, first, name->repository, slash ? "--" : "", slash ? slash + 1 : "");
    crank_free(cache);
    return folder;
}

/* The commit that the cache knows for a revision, or "". */
static crank_status known_commit(crank_context *context, const char *folder, const char *revision, char commit[HUB_COMMIT + 1])
{
    commit[0] = 0;
    if (hub_is_commit(revision)) {
        strcpy(commit, revision);
        return CRANK_OK;
    }
    char  *path = crank_format(context, "%s/refs/%s", folder, revision);
    size_t length = 0;
    if (!path) return CRANK_FAILED;
    char *text = file_exists(path) ? file_read(context, path, &length) : NULL;
    if (text) {
        text[strcspn(text, " \r\n")] = 0;
        if (hub_is_commit(text)) strcpy(commit, text);
    }
    crank_free(text), crank_free(path);
    return CRANK_OK;
}

char *hub_resolve(crank_context *context, const char *path)
{
    hub_name    name;
    char        commit[HUB_COMMIT + 1];
    struct stat there;
    if (stat(path, &there) == 0 || !hub_parse(path, &name)) return crank_strdup(context, path);
    char *folder = hub_repository_folder(context, &name), *snapshot = NULL;
    if (!folder) return NULL;
    crank_status status = known_commit(context, folder, name.revision, commit);
    if (status == CRANK_OK && commit[0]) snapshot = crank_format(context, "%s/snapshots/%s", folder, commit);
    if (snapshot && !file_is_folder(snapshot)) {
        crank_free(snapshot);
        snapshot = NULL;
    }
    if (!snapshot && status == CRANK_OK && !strchr(name.repository, '/')) snapshot = crank_strdup(context, path);
    else if (!snapshot && status == CRANK_OK)
        crank_fail(context, CRANK_USAGE, "there is no folder %s, and %s is not in the cache (%s): fetch it with `crank pull %s`", path, path, folder, path);
    crank_free(folder);
    return snapshot;
}
