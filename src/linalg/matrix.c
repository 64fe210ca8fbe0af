/* matrix.c - checks of matrices that a caller hands in, and dense copies of them. */
#include "linalg/matrix.h"

#include <inttypes.h>
#include <math.h>

crank_status matrix_shape(crank_context *context, const char *function, const char *name, crank_matrix matrix, int64_t rows, int64_t cols)
{
    if (!matrix.data) return crank_fail(context, CRANK_USAGE, "%s: %s is missing (its data is NULL)", function, name);
    if (matrix.dtype != CRANK_F32 && matrix.dtype != CRANK_F64)
        return crank_fail(context, CRANK_USAGE, "%s: %s must hold float or double (CRANK_F32, CRANK_F64)", function, name);
    if (matrix.rows < 1 || matrix.cols < 1 || matrix.rows > INT32_MAX || matrix.stride > INT32_MAX || matrix.stride < matrix.cols)
        return crank_fail(context, CRANK_USAGE,
                          "%s: %s is [%" PRId64 ",%" PRId64 "] with rows %" PRId64 " apart; sizes are 1 to 2^31 - 1, and a stride covers a row",
                          function, name, matrix.rows, matrix.cols, matrix.stride);
    if ((rows != ANY && rows != matrix.rows) || (cols != ANY && cols != matrix.cols))
        return crank_fail(context, CRANK_USAGE, "%s: %s is [%" PRId64 ",%" PRId64 "], but [%" PRId64 ",%" PRId64 "] is needed", function, name,
                          matrix.rows, matrix.cols, rows == ANY ? matrix.rows : rows, cols == ANY ? matrix.cols : cols);
    return CRANK_OK;
}

/* A row is first judged as a whole, which is a vector loop; the place is searched for only in a row that fails. */
crank_status matrix_input(crank_context *context, const char *function, const char *name, crank_matrix matrix, int64_t rows, int64_t cols)
{
    crank_status status = matrix_shape(context, function, name, matrix, rows, cols);
    for (int64_t i = 0; status == CRANK_OK && i < matrix.rows; i++) {
        bool finite = true;
        if (matrix.dtype == CRANK_F32) {
            const float *row = (const float *)matrix.data + i * matrix.stride;
            for (int64_t j = 0; j < matrix.cols; j++) finite &= fabsf(row[j]) <= 0x1.fffffep127f;
        } else {
            const double *row = (const double *)matrix.data + i * matrix.stride;
            for (int64_t j = 0; j < matrix.cols; j++) finite &= fabs(row[j]) <= 0x1.fffffffffffffp1023;
        }
        if (finite) continue;
        int64_t j = 0;
        while (isfinite(get(matrix.data, matrix.dtype, i * matrix.stride + j))) j++;
        status = crank_fail(context, CRANK_BAD_DATA, "%s: %s [%" PRId64 ",%" PRId64 "] holds %g at row %" PRId64 ", column %" PRId64 "; it must be finite",
                            function, name, matrix.rows, matrix.cols, get(matrix.data, matrix.dtype, i * matrix.stride + j), i, j);
    }
    return status;
}

crank_status matrix_inside(crank_context *context, const char *function, crank_inside inside, const crank_matrix *matrices, int count,
                           crank_dtype *dtype)
{
    if (inside != CRANK_INSIDE_F64 && inside != CRANK_INSIDE_F32)
        return crank_fail(context, CRANK_USAGE, "%s: no arithmetic has the number %d", function, (int)inside);
    *dtype = inside == CRANK_INSIDE_F32 ? CRANK_F32 : CRANK_F64;
    for (int i = 0; i < count; i++)
        if (inside == CRANK_INSIDE_F32 && given(matrices[i]) && matrices[i].dtype != CRANK_F32)
            return crank_fail(context, CRANK_USAGE, "%s: CRANK_INSIDE_F32 takes float matrices only; double ones need CRANK_INSIDE_F64", function);
    return CRANK_OK;
}

void *dense_new(crank_context *context, crank_dtype dtype, int64_t rows, int64_t cols, const char *what)
{
    return crank_alloc(context, (size_t)rows * (size_t)cols, size_of(dtype), what);
}

void dense_load(crank_matrix matrix, crank_dtype dtype, bool transposed, void *out)
{
    for (int64_t i = 0; i < matrix.rows; i++)
        for (int64_t j = 0; j < matrix.cols; j++)
            put(out, dtype, transposed ? j * matrix.rows + i : i * matrix.cols + j, get(matrix.data, matrix.dtype, i * matrix.stride + j));
}

void dense_store(crank_matrix matrix, crank_dtype dtype, const void *from, int64_t stride, bool transposed)
{
    if (!given(matrix)) return;
    for (int64_t i = 0; i < matrix.rows; i++)
        for (int64_t j = 0; j < matrix.cols; j++)
            put(matrix.data, matrix.dtype, i * matrix.stride + j, get(from, dtype, transposed ? j * stride + i : i * stride + j));
}

double matrix_squares(crank_matrix matrix)
{
    double sum = 0;
    for (int64_t i = 0; i < matrix.rows; i++) {
        double row = 0;
        for (int64_t j = 0; j < matrix.cols; j++) {
            double value = get(matrix.data, matrix.dtype, i * matrix.stride + j);
            row += value * value;
        }
        sum += row;
    }
    return sum;
}
