/* open.c - finds the launcher and its processes; collectives of one process do nothing. */
#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "dist/dist.h"

#include "crank/tensor.h"

#define PLUGIN "libcrank-mpi.so"

/* How many processes mpirun (Open MPI, or a PMI launcher) started; 1 without one. */
static long launched(void)
{
    static const char *const names[] = {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const char *value = getenv(names[i]);
        if (value && *value) return strtol(value, NULL, 10);
    }
    return 1;
}

/* The plugin beside the program, in the library folders of an installation, or where the system's loader finds it. */
static void *load(char *why, size_t size)
{
    static const char *const beside[] = {"", "/../lib/crank", "/../lib", "/../lib/x86_64-linux-gnu/crank"};
    const char *named = getenv("CRANK_MPI_PLUGIN");
    char        folder[PATH_MAX], path[PATH_MAX + 64];
    ssize_t     length = readlink("/proc/self/exe", folder, sizeof folder - 1);
    snprintf(path, sizeof path, "%s", named && *named ? named : PLUGIN);
    if (!(named && *named) && length > 0) {
        folder[length] = '\0';
        char *slash = strrchr(folder, '/');
        if (slash) *slash = '\0';
        for (size_t i = 0; i < sizeof beside / sizeof *beside; i++) {
            snprintf(path, sizeof path, "%s%s/" PLUGIN, folder, beside[i]);
            if (access(path, R_OK) == 0) break;
            snprintf(path, sizeof path, PLUGIN);
        }
    }
    void *library = dlopen(path, RTLD_NOW | RTLD_GLOBAL); /* MPI's own plugins look for its symbols */
    if (!library) snprintf(why, size, "%s", dlerror());
    return library;
}

static crank_status check(crank_context *context, const dist_group *group, int error, const char *what)
{
    char text[256] = "";
    if (!error) return CRANK_OK;
    group->table->describe(error, text, sizeof text);
    return crank_fail(context, CRANK_FAILED, "process %d of %d: %s: %s", group->rank, group->size, what, text);
}

crank_status dist_open(crank_context *context, dist_group *group)
{
    char why[512] = "";
    *group = (dist_group){.size = 1, .local_size = 1};
    if (launched() < 2) return CRANK_OK;
    group->library = load(why, sizeof why);
    const dist_table *table = group->library ? dlsym(group->library, DIST_TABLE_SYMBOL) : NULL;
    if (!group->library)
        return crank_fail(context, CRANK_USAGE, "%ld processes were started together, and " PLUGIN " cannot be loaded: %s. Build crank with libopenmpi-dev, or start one process",
                          launched(), why);
    if (!table || table->version != DIST_VERSION) return crank_fail(context, CRANK_USAGE, PLUGIN " is of another version than this program: install both together");
    group->table = table;
    crank_status status = check(context, group, table->start(&group->rank, &group->size, &group->local_rank, &group->local_size), "MPI does not start");
    if (status == CRANK_OK && group->size != launched())
        return crank_fail(context, CRANK_USAGE, "%ld processes were started together, and MPI sees %d: " PLUGIN " belongs to another MPI than the launcher", launched(), group->size);
    return status;
}

crank_status dist_close(crank_context *context, dist_group *group)
{
    if (!group->table) return CRANK_OK;
    crank_status status = check(context, group, group->table->finish(), "MPI does not end");
    group->table = NULL; /* the library stays: MPI leaves handlers of its own behind */
    return status;
}

crank_status dist_sum_f32(crank_context *context, const dist_group *group, float *values, size_t count)
{
    return group->table ? check(context, group, group->table->sum(values, count, false, -1), "a sum over processes") : CRANK_OK;
}

crank_status dist_sum_f64(crank_context *context, const dist_group *group, double *values, size_t count)
{
    return group->table ? check(context, group, group->table->sum(values, count, true, -1), "a sum over processes") : CRANK_OK;
}

crank_status dist_broadcast_from(crank_context *context, const dist_group *group, void *bytes, size_t count, int root)
{
    return group->table ? check(context, group, group->table->broadcast(bytes, count, root), "a broadcast") : CRANK_OK;
}

crank_status dist_broadcast(crank_context *context, const dist_group *group, void *bytes, size_t count)
{
    return dist_broadcast_from(context, group, bytes, count, 0);
}

crank_status dist_barrier(crank_context *context, const dist_group *group)
{
    return group->table ? check(context, group, group->table->barrier(), "a barrier") : CRANK_OK;
}

/* ---- as devices see it ---- */

static dist_group group_of(const crank_group *group) { return (dist_group){.rank = group->rank, .size = group->size, .table = group->table}; }

static crank_status sum_values(crank_context *context, const crank_group *group, void *values, size_t count, crank_dtype dtype, int root)
{
    const dist_group  own = group_of(group);
    const dist_table *table = own.table;
    if (!table || !count) return CRANK_OK;
    if (dtype == CRANK_F32 || dtype == CRANK_F64) return check(context, &own, table->sum(values, count, dtype == CRANK_F64, root), "a sum over processes");
    if (!crank_dtype_is_float(dtype)) return crank_fail(context, CRANK_USAGE, "a sum over processes of %s: only float types are summed", crank_dtype_name(dtype));
    float *wide = crank_alloc(context, count, sizeof *wide, "a sum over processes");
    if (!wide) return CRANK_FAILED;
    crank_convert(wide, CRANK_F32, values, dtype, count);
    crank_status status = check(context, &own, table->sum(wide, count, false, root), "a sum over processes");
    if (status == CRANK_OK) crank_convert(values, dtype, wide, CRANK_F32, count);
    crank_free(wide);
    return status;
}

static crank_status broadcast_bytes(crank_context *context, const crank_group *group, void *bytes, size_t count, int root)
{
    const dist_group own = group_of(group);
    return dist_broadcast_from(context, &own, bytes, count, root);
}

crank_group dist_device_group(const dist_group *group, double patience)
{
    return (crank_group){.rank = group->rank, .size = group->size > 1 ? group->size : 1, .patience = patience, .table = group->table,
                         .sum = sum_values, .broadcast = broadcast_bytes};
}
