/* lambda_avx2.c - the pairs of one query, compiled for AVX2. */
#include "tree/lambda_body.h"

double lambda_pairs_avx2(const lambda_query *q) { return lambda_pairs_body(q); }
