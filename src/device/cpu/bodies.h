/* bodies.h - where the CPU device looks for a body: a list of finders, best first, the plain one last.
 *
 * A finder says whether its family serves an operation on these views. One family is one source compiled for several
 * instruction levels: rows_simd.h is included by rows_avx2.c and rows_avx512.c, which define the vector type. */
#ifndef CRANK_DEVICE_CPU_BODIES_H
#define CRANK_DEVICE_CPU_BODIES_H

#include "crank/device.h"
#include "crank/operations.h"

typedef enum cpu_level { CPU_PLAIN, CPU_AVX2, CPU_AVX512, CPU_AVX512BF16, CPU_AMX } cpu_level;
cpu_level cpu_best_level(void);

typedef bool cpu_finder(const char *operation, const crank_call *call, int threads, crank_body *body);

typedef struct cpu_family {
    cpu_level   level; /* the least level that it needs */
    cpu_finder *find;
} cpu_family;

/* Best first; ends with {0, NULL}. families.c is nothing but this list. */
extern const cpu_family cpu_families[];

/* Threads that a body may use: `#pragma omp parallel num_threads(cpu_threads(call))`. */
int cpu_threads(const crank_call *call);
/* Bytes of the largest cache: outputs beyond are better written past it. */
size_t cpu_cache(const crank_call *call);

/* The finders of the families. */
cpu_finder narrow_amx_find; /* products with a narrow side on tile registers */
cpu_finder rank_update_avx512bf16_find, rank_update_avx512_find, rank_update_avx2_find;
cpu_finder tall_avx512bf16_find, tall_avx512_find, tall_avx2_find;
cpu_finder skinny_avx512bf16_find, skinny_avx512_find, skinny_avx2_find, matmul_onednn_find, matmul_blas_find;
cpu_finder head_avx2_find, head_avx512_find, head_avx512bf16_find; /* the vocabulary head */
cpu_finder attention_amx_find, attention_avx512bf16_find, attention_avx512_find, attention_avx2_find;
cpu_finder plain_find;
cpu_finder elementwise_avx2_find, elementwise_avx512_find; /* copy, fill, binary, where, affine, dropout */
cpu_finder activation_avx2_find, activation_avx512_find;   /* unary, glu and their reverses */
cpu_finder rows_avx2_find, rows_avx512_find;               /* softmax and its reverse, rope */
cpu_finder norm_avx2_find, norm_avx512_find;               /* rmsnorm, layernorm and their reverses */
cpu_finder shape_avx2_find, shape_avx512_find;             /* reduce, gather, scatter, unpick */
cpu_finder activation_avx512bf16_find, rows_avx512bf16_find, norm_avx512bf16_find;
cpu_finder turn_avx2_find, turn_avx512_find;               /* copy of a transposed view */
cpu_finder move_find;                                      /* concat, pad, pick */
cpu_finder segment_avx2_find, segment_avx512_find;         /* segment_pool and its reverse */
cpu_finder select_avx2_find, select_avx512_find;           /* top_k */
cpu_finder sparse_avx2_find, sparse_avx512_find;           /* sparse_matmul, sparse_sample */
cpu_finder dequantize_avx2_find, dequantize_avx512_find;   /* dequantize */
cpu_finder scaled_find;                                    /* quantize_rows, scaled_matmul */
cpu_finder update_avx2_find, update_avx512_find;           /* adamw, sgd, lion, assign */
cpu_finder adam8bit_avx2_find, adam8bit_avx512_find;       /* adamw8bit */
#endif
