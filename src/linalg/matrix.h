/* matrix.h - checks of matrices that a caller hands in, and dense copies of them. */
#ifndef CRANK_LINALG_MATRIX_H
#define CRANK_LINALG_MATRIX_H

#include "crank/linalg.h"

enum { ANY = -1 };

static inline bool   given(crank_matrix matrix) { return matrix.data != NULL; }
static inline size_t size_of(crank_dtype dtype) { return dtype == CRANK_F32 ? sizeof(float) : sizeof(double); }
static inline double epsilon_of(crank_dtype dtype) { return dtype == CRANK_F32 ? 0x1p-23 : 0x1p-52; }
static inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t larger(int64_t a, int64_t b) { return a < b ? b : a; }

static inline void *offset(const void *data, crank_dtype dtype, int64_t i) { return (char *)(uintptr_t)data + i * (int64_t)size_of(dtype); }
static inline double get(const void *data, crank_dtype dtype, int64_t i)
{
    return dtype == CRANK_F32 ? (double)((const float *)data)[i] : ((const double *)data)[i];
}
static inline void put(void *data, crank_dtype dtype, int64_t i, double value)
{
    if (dtype == CRANK_F32)
        ((float *)data)[i] = (float)value;
    else
        ((double *)data)[i] = value;
}

/* Type, stride, size and, unless ANY, the shape. `function` and `name` go into the message. */
crank_status matrix_shape(crank_context *context, const char *function, const char *name, crank_matrix matrix, int64_t rows, int64_t cols);
/* The same, and every element is finite. */
crank_status matrix_input(crank_context *context, const char *function, const char *name, crank_matrix matrix, int64_t rows, int64_t cols);
/* The type to compute in; an error where float is asked for and a given matrix is double. */
crank_status matrix_inside(crank_context *context, const char *function, crank_inside inside, const crank_matrix *matrices, int count,
                           crank_dtype *dtype);

/* A dense array of rows * cols in `dtype`, zeroed; NULL sets the message. crank_free */
void *dense_new(crank_context *context, crank_dtype dtype, int64_t rows, int64_t cols, const char *what);
void  dense_load(crank_matrix matrix, crank_dtype dtype, bool transposed, void *out); /* out [rows,cols] or, transposed, [cols,rows] */
void  dense_store(crank_matrix matrix, crank_dtype dtype, const void *from, int64_t stride, bool transposed);
double matrix_squares(crank_matrix matrix); /* |a|^2 in double, rows in order */
#endif
