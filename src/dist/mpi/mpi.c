/* mpi.c - the collectives of dist.h through MPI; becomes libcrank-mpi.so. Counts of MPI are ints: long buffers go in pieces. */
#include <mpi.h>
#include <stdio.h>

#include "dist/dist.h"

enum { PIECE = 1 << 26 }; /* elements of one call */

/* The place of this process among those that share the memory of its host. */
static int find_local(int *local_rank, int *local_size)
{
    MPI_Comm host;
    int      error = MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &host);
    if (error != MPI_SUCCESS) return error;
    error = MPI_Comm_rank(host, local_rank);
    if (error == MPI_SUCCESS) error = MPI_Comm_size(host, local_size);
    int freed = MPI_Comm_free(&host);
    return error == MPI_SUCCESS ? freed : error;
}

static int start(int *rank, int *size, int *local_rank, int *local_size)
{
    int given, error = MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &given);
    if (error == MPI_SUCCESS) error = MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    if (error == MPI_SUCCESS) error = MPI_Comm_rank(MPI_COMM_WORLD, rank);
    if (error == MPI_SUCCESS) error = MPI_Comm_size(MPI_COMM_WORLD, size);
    if (error == MPI_SUCCESS) error = find_local(local_rank, local_size);
    return error;
}

static int finish(void) { return MPI_Finalize(); }

static int sum(void *values, size_t count, bool wide, int root)
{
    MPI_Datatype type = wide ? MPI_DOUBLE : MPI_FLOAT;
    size_t       width = wide ? sizeof(double) : sizeof(float);
    int          rank, error = MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    for (size_t done = 0; done < count && error == MPI_SUCCESS; done += PIECE) {
        size_t piece = count - done < PIECE ? count - done : PIECE;
        char  *at = (char *)values + done * width;
        if (root < 0) error = MPI_Allreduce(MPI_IN_PLACE, at, (int)piece, type, MPI_SUM, MPI_COMM_WORLD);
        else if (rank == root) error = MPI_Reduce(MPI_IN_PLACE, at, (int)piece, type, MPI_SUM, root, MPI_COMM_WORLD);
        else error = MPI_Reduce(at, NULL, (int)piece, type, MPI_SUM, root, MPI_COMM_WORLD);
    }
    return error;
}

static int broadcast(void *bytes, size_t count, int root)
{
    int error = MPI_SUCCESS;
    for (size_t done = 0; done < count && error == MPI_SUCCESS; done += PIECE) {
        size_t piece = count - done < PIECE ? count - done : PIECE;
        error = MPI_Bcast((char *)bytes + done, (int)piece, MPI_BYTE, root, MPI_COMM_WORLD);
    }
    return error;
}

static int barrier(void) { return MPI_Barrier(MPI_COMM_WORLD); }

static void describe(int error, char *text, size_t size)
{
    char buffer[MPI_MAX_ERROR_STRING] = "";
    int  length = 0;
    MPI_Error_string(error, buffer, &length);
    snprintf(text, size, "%s", buffer);
}

CRANK_API const dist_table crank_dist_table;
const dist_table crank_dist_table = {
    .version = DIST_VERSION, .start = start, .finish = finish, .sum = sum, .broadcast = broadcast,
    .barrier = barrier, .describe = describe,
};
