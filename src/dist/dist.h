/* dist.h - the processes that share a run, and their collectives on host memory.
 *
 * One process is the table whose collectives do nothing. Under mpirun the table of libcrank-mpi.so is loaded (dist/open.c), so that
 * the program does not depend on MPI. All processes call the same collectives in the same order. */
#ifndef CRANK_DIST_DIST_H
#define CRANK_DIST_DIST_H

#include <stdbool.h>
#include <stddef.h>

#include "crank/device.h"

/* What the plugin exports: every function gives 0, or a number that `describe` puts into words. */
typedef struct dist_table {
    int version;
    int (*start)(int *rank, int *size, int *local_rank, int *local_size);
    int (*finish)(void);
    int (*sum)(void *values, size_t count, bool wide, int root); /* f32, or wide: f64; root < 0: in all */
    int (*broadcast)(void *bytes, size_t count, int root);
    int (*barrier)(void);
    void (*describe)(int error, char *text, size_t size);
} dist_table;

enum { DIST_VERSION = 2 };
#define DIST_TABLE_SYMBOL "crank_dist_table"

typedef struct dist_group {
    int               rank, size;
    int               local_rank, local_size; /* among the processes of this host */
    const dist_table *table; /* NULL: one process */
    void             *library;
} dist_group;

/* The processes that a launcher started together with this one; one process where no launcher is. A launcher without the plugin is an
 * error: every process would train alone. */
crank_status dist_open(crank_context *context, dist_group *group);
/* Waits for the others. After a failure the process must leave without it: the launcher then ends the others. */
crank_status dist_close(crank_context *context, dist_group *group);

/* The same group for a device to join: sums of 16-bit values are made in f32. */
crank_group dist_device_group(const dist_group *group, double patience);

/* Sums over the processes, in place. */
crank_status dist_sum_f32(crank_context *context, const dist_group *group, float *values, size_t count);
crank_status dist_sum_f64(crank_context *context, const dist_group *group, double *values, size_t count);
/* The bytes of process 0, or of `root`, on all. */
crank_status dist_broadcast(crank_context *context, const dist_group *group, void *bytes, size_t count);
crank_status dist_broadcast_from(crank_context *context, const dist_group *group, void *bytes, size_t count, int root);
crank_status dist_barrier(crank_context *context, const dist_group *group);
#endif
