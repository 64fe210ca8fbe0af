/* product.h - one matrix product of oneDNN, prepared once and run many times.
 *
 *     c [m, n] = alpha a [m, k] b [k, n] + bias [n] + c0         batched: each operand has `batch` matrices, or one for
 * all
 *
 * Types: a, b both f32 or, where product_has_bf16(), both bf16; c is of their type or f32; bias and c0 are of c's type.
 * Any strides of rows or of columns for a and b (a transposed operand has its strides exchanged); columns of c and c0
 * are contiguous. Scratch memory is the caller's; a run takes none of its own beyond a few small blocks of oneDNN's. */
#ifndef CRANK_DEVICE_CPU_PRODUCT_H
#define CRANK_DEVICE_CPU_PRODUCT_H

#include "device/cpu/bodies.h"

typedef struct product_matrix {
    crank_dtype type;
    int64_t batch, batch_stride;
    int64_t rows, columns, row_stride, column_stride;
} product_matrix;

typedef enum product_start {
    PRODUCT_SET, /* c = ... */
    PRODUCT_SUM, /* c += ...: c0 is c itself */
    PRODUCT_ADD  /* c = ... + c0 */
} product_start;

typedef struct product_spec {
    product_matrix a, b, c, c0; /* c0 with PRODUCT_ADD */
    product_start start;
    bool bias;
    double alpha;
    int threads; /* that one run uses */
    int lanes;   /* runs that may be under way at once, each with its own lane and scratch: at least 1 */
} product_spec;

typedef struct product product;

/* Whether products of bf16 run at the processor's rate for them: else they are slower than in f32, or lacking. */
bool product_has_bf16(void);
bool product_has_avx512(void);

/* Holds all products of the process to the instructions of `level`. oneDNN obeys only before its first product. */
void product_limit(cpu_level level);

/* Whether a fast implementation exists; `scratch` gets the bytes that a run needs. */
bool product_serves(const product_spec *spec, size_t *scratch);

product *product_new(crank_context *context, const product_spec *spec); /* NULL: message set */
void product_free(product *p);
size_t product_scratch(const product *p);
/* Absent operands are NULL. False when oneDNN refuses, which it does not once a product was prepared; may be called by
 * several threads at once, each with its lane. */
bool product_run(product *p, int lane, const void *a, const void *b, const void *bias, const void *c0, void *c,
                 void *scratch);
#endif
