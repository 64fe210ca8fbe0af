/* memory.c - /proc/self/status, /proc/meminfo and control groups.
 *
 * The files are small and written by the kernel; nothing here allocates, so it works when memory is short. */
#include "base/memory.h"

#include <fcntl.h>
#include <inttypes.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The start of a file as text. False when it cannot be read. */
static bool read_text(const char *path, char *out, size_t size)
{
    int     descriptor = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t got, length = 0;
    if (descriptor < 0) return false;
    while ((size_t)length < size - 1 && (got = read(descriptor, out + length, size - 1 - (size_t)length)) > 0) length += got;
    close(descriptor);
    out[length] = 0;
    return length > 0;
}

/* The number behind "name" at the start of a line, times `unit`; -1: none */
static int64_t find_number(const char *text, const char *name, int64_t unit)
{
    size_t length = strlen(name);
    for (const char *line = text; line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL) {
        if (strncmp(line, name, length) != 0) continue;
        char   *end;
        int64_t value = strtoll(line + length, &end, 10);
        return end == line + length || value < 0 || value > INT64_MAX / unit ? -1 : value * unit;
    }
    return -1;
}

static int64_t status_number(const char *name)
{
    char text[8192];
    return read_text("/proc/self/status", text, sizeof text) ? find_number(text, name, 1024) : -1;
}

int64_t memory_resident(void) { return status_number("VmRSS:"); }
int64_t memory_peak(void) { return status_number("VmHWM:"); }

bool memory_reset_peak(void)
{
    int descriptor = open("/proc/self/clear_refs", O_WRONLY | O_CLOEXEC);
    if (descriptor < 0) return false;
    bool done = write(descriptor, "5", 1) == 1; /* 5: reset the peak (proc(5)) */
    close(descriptor);
    return done;
}

/* One folder of control groups: what is left and its limit. -1: no limit here. */
typedef struct {
    int64_t limit, left;
} allowance;

static int64_t file_number(const char *folder, const char *name)
{
    char path[4096], text[64];
    if (snprintf(path, sizeof path, "%s/%s", folder, name) >= (int)sizeof path || !read_text(path, text, sizeof text)) return -1;
    return find_number(text, "", 1); /* "max" is no number */
}

static void lower(int64_t *value, int64_t other)
{
    if (other >= 0 && (*value < 0 || other < *value)) *value = other;
}

/* Lowers `least` by the limit of one folder. version: 1 or 2 */
static void apply_folder(const char *folder, int version, allowance *least)
{
    char    path[4096], text[16384];
    int64_t limit = file_number(folder, version == 2 ? "memory.max" : "memory.limit_in_bytes");
    int64_t used = file_number(folder, version == 2 ? "memory.current" : "memory.usage_in_bytes"), cache = 0;
    if (limit < 0 || limit >= INT64_MAX - 0xfffff) return; /* v1 writes "none" as nearly 2^63 */
    if (snprintf(path, sizeof path, "%s/memory.stat", folder) < (int)sizeof path && read_text(path, text, sizeof text))
        cache = find_number(text, version == 2 ? "inactive_file " : "total_inactive_file ", 1);
    if (used >= 0 && cache > 0) used -= cache < used ? cache : used;
    lower(&least->limit, limit);
    if (used >= 0) lower(&least->left, used < limit ? limit - used : 0);
}

/* The group's folder and those above it, down to the mount point. In a container the path may not exist here: the mount
 * point is then the group's own folder. */
static void apply_path(const char *mount, const char *group, int version, allowance *least)
{
    char folder[4096];
    if (snprintf(folder, sizeof folder, "%s%s", mount, group) >= (int)sizeof folder) return;
    for (size_t base = strlen(mount); strlen(folder) >= base;) {
        apply_folder(folder, version, least);
        char *slash = strrchr(folder, '/');
        if (strlen(folder) == base || !slash || (size_t)(slash - folder) < base) break;
        *slash = 0;
    }
}

/* Lines of /proc/self/cgroup: "0::/path" (v2) and "4:memory:/path" (v1) */
static allowance group_allowance(const char *root)
{
    allowance least = {-1, -1};
    char      path[4096], text[8192], mount[4096];
    if (snprintf(path, sizeof path, "%s/proc/self/cgroup", root) >= (int)sizeof path || !read_text(path, text, sizeof text))
        return least;
    for (char *rest = text, *line; (line = strsep(&rest, "\n"));) {
        char *controllers = strchr(line, ':'), *group = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!group) continue;
        *group++ = 0;
        controllers++;
        if (!*controllers) {
            snprintf(mount, sizeof mount, "%s/sys/fs/cgroup", root);
            apply_path(mount, group, 2, &least);
        } else if (strcmp(controllers, "memory") == 0 || strstr(controllers, ",memory") || strncmp(controllers, "memory,", 7) == 0) {
            snprintf(mount, sizeof mount, "%s/sys/fs/cgroup/memory", root);
            apply_path(mount, group, 1, &least);
        }
    }
    return least;
}

static int64_t machine_number(const char *root, const char *name)
{
    char path[4096], text[8192];
    if (snprintf(path, sizeof path, "%s/proc/meminfo", root) >= (int)sizeof path || !read_text(path, text, sizeof text)) return -1;
    return find_number(text, name, 1024);
}

int64_t memory_available_under(const char *root)
{
    int64_t available = machine_number(root, "MemAvailable:");
    lower(&available, group_allowance(root).left);
    return available;
}

int64_t memory_total_under(const char *root)
{
    int64_t total = machine_number(root, "MemTotal:");
    lower(&total, group_allowance(root).limit);
    return total;
}

int64_t memory_available(void) { return memory_available_under(""); }
int64_t memory_total(void) { return memory_total_under(""); }

void memory_give_back(void)
{
#ifdef __GLIBC__
    malloc_trim(0);
#endif
}
