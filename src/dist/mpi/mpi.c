/* mpi.c - the collectives of dist.h through MPI; becomes libcrank-mpi.so. Counts of MPI are ints: long buffers go in pieces. */
#include <mpi.h>
#include <stdio.h>

#include "dist/dist.h"

enum { PIECE = 1 << 26 }; /* elements of one call */

static int start(int *rank, int *size)
{
    int given, error = MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &given);
    if (error == MPI_SUCCESS) error = MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    if (error == MPI_SUCCESS) error = MPI_Comm_rank(MPI_COMM_WORLD, rank);
    if (error == MPI_SUCCESS) error = MPI_Comm_size(MPI_COMM_WORLD, size);
    return error;
}

static int finish(void) { return MPI_Finalize(); }

static int sum(char *values, size_t count, size_t width, MPI_Datatype type)
{
    int error = MPI_SUCCESS;
    for (size_t done = 0; done < count && error == MPI_SUCCESS; done += PIECE) {
        size_t piece = count - done < PIECE ? count - done : PIECE;
        error = MPI_Allreduce(MPI_IN_PLACE, values + done * width, (int)piece, type, MPI_SUM, MPI_COMM_WORLD);
    }
    return error;
}

static int sum_f32(float *values, size_t count) { return sum((char *)values, count, sizeof *values, MPI_FLOAT); }

static int sum_f64(double *values, size_t count) { return sum((char *)values, count, sizeof *values, MPI_DOUBLE); }

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
    .version = DIST_VERSION, .start = start, .finish = finish, .sum_f32 = sum_f32, .sum_f64 = sum_f64, .broadcast = broadcast,
    .barrier = barrier, .describe = describe,
};
