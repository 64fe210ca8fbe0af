/* file_folder.c - making, removing and replacing folders. */
#include "base/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { DEEPEST = 64 };

crank_status file_make_folder(crank_context *context, const char *path)
{
    char *partial = crank_strdup(context, path);
    if (!partial) return CRANK_FAILED;
    for (char *at = partial + (*partial != 0);; at++) {
        char here = *at;
        if (here != '/' && here != 0) continue;
        *at = 0;
        if (mkdir(partial, 0777) != 0 && !(errno == EEXIST && file_is_folder(partial))) {
            crank_status status = crank_fail(context, CRANK_FAILED, "%s: the folder cannot be made: %s", partial,
                                             strerror(errno == EEXIST ? ENOTDIR : errno));
            crank_free(partial);
            return status;
        }
        *at = here;
        if (here == 0) break;
        while (at[1] == '/') at++;
    }
    crank_free(partial);
    return CRANK_OK;
}

/* Removes what is inside the folder `descriptor` (closed here), never following a link. Returns an errno, 0 when done. */
static int empty_folder(int descriptor, int depth)
{
    DIR *folder = depth > DEEPEST ? NULL : fdopendir(descriptor);
    if (!folder) {
        int reason = depth > DEEPEST ? ELOOP : errno;
        close(descriptor);
        return reason;
    }
    int            failure = 0;
    struct dirent *entry;
    while (failure == 0 && (entry = readdir(folder))) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        if (unlinkat(dirfd(folder), entry->d_name, 0) == 0) continue;
        int inner = openat(dirfd(folder), entry->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        failure = inner < 0 ? errno : empty_folder(inner, depth + 1);
        if (failure == 0 && unlinkat(dirfd(folder), entry->d_name, AT_REMOVEDIR) != 0) failure = errno;
    }
    closedir(folder);
    return failure;
}

crank_status file_folder_remove(crank_context *context, const char *path)
{
    int descriptor = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (descriptor < 0 && errno == ENOENT) return CRANK_OK;
    int failure = descriptor < 0 ? errno : empty_folder(descriptor, 0);
    if (failure == 0 && rmdir(path) != 0) failure = errno;
    return failure ? crank_fail(context, CRANK_FAILED, "%s: the folder cannot be removed: %s", path, strerror(failure)) : CRANK_OK;
}

/* "NAME.tmp.PID" of a process that is no more */
static bool is_left_over(const char *name)
{
    const char *at = NULL, *mark = ".tmp.";
    for (const char *next = strstr(name, mark); next; next = strstr(next + 1, mark)) at = next + strlen(mark);
    if (!at || !*at || at[strspn(at, "0123456789")]) return false;
    long number = strtol(at, NULL, 10);
    return number > 0 && kill((pid_t)number, 0) != 0 && errno == ESRCH;
}

crank_status file_folder_sweep(crank_context *context, const char *path)
{
    DIR           *folder = opendir(path);
    crank_status   status = CRANK_OK;
    struct dirent *entry;
    if (!folder) return errno == ENOENT ? CRANK_OK : crank_fail(context, CRANK_FAILED, "%s: cannot be read: %s", path, strerror(errno));
    while (status == CRANK_OK && (entry = readdir(folder))) {
        if (!is_left_over(entry->d_name) || unlinkat(dirfd(folder), entry->d_name, 0) == 0) continue;
        char *inner = file_join(context, path, entry->d_name);
        status = inner ? file_folder_remove(context, inner) : CRANK_FAILED;
        crank_free(inner);
    }
    closedir(folder);
    return status;
}

/* "path" without slashes at its end, then ".old" */
static char *old_name(crank_context *context, const char *path)
{
    size_t length = strlen(path);
    while (length > 1 && path[length - 1] == '/') length--;
    return crank_format(context, "%.*s.old", (int)length, path);
}

static crank_status move(crank_context *context, const char *from, const char *to)
{
    if (rename(from, to) == 0) return CRANK_OK;
    return crank_fail(context, CRANK_FAILED, "%s: cannot be renamed to %s: %s", from, to, strerror(errno));
}

crank_status file_folder_recover(crank_context *context, const char *to)
{
    char        *old = old_name(context, to);
    crank_status status = old ? CRANK_OK : CRANK_FAILED;
    if (old && file_is_folder(old)) status = file_is_folder(to) ? file_folder_remove(context, old) : move(context, old, to);
    crank_free(old);
    return status;
}

static void sync_folder(const char *path)
{
    int descriptor = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (descriptor < 0) return;
    fsync(descriptor);
    close(descriptor);
}

crank_status file_folder_replace(crank_context *context, const char *from, const char *to)
{
    if (!file_is_folder(from)) return crank_fail(context, CRANK_FAILED, "%s: is not a folder", from);
    crank_status status = file_folder_recover(context, to);
    char        *old = status == CRANK_OK ? old_name(context, to) : NULL;
    if (!old) return crank_last_status(context);
    sync_folder(from);
    bool replaces = file_is_folder(to);
    if (replaces) status = move(context, to, old);
    if (status == CRANK_OK) {
        status = move(context, from, to);
        if (status != CRANK_OK && replaces) (void)!rename(old, to); /* the message tells the first failure */
        else if (status == CRANK_OK) {
            char *parent = file_join(context, to, "..");
            if (parent) sync_folder(parent);
            crank_free(parent);
            status = replaces ? file_folder_remove(context, old) : CRANK_OK;
        }
    }
    crank_free(old);
    return status;
}
