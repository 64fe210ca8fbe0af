/* lambda_avx512.c - the pairs of one query, compiled for AVX-512. */
#include "tree/lambda_body.h"

double lambda_pairs_avx512(const lambda_query *q) { return lambda_pairs_body(q); }
