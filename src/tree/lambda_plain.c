/* lambda_plain.c - the pairs of one query, for any processor. */
#include "tree/lambda_body.h"

double lambda_pairs_plain(const lambda_query *q) { return lambda_pairs_body(q); }
