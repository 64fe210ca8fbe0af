/* significance.h - does one run differ from another? Tests on paired values of topics. */
#ifndef CRANK_METRIC_SIGNIFICANCE_H
#define CRANK_METRIC_SIGNIFICANCE_H

#include "crank/base.h"

typedef struct paired_tests {
    double difference; /* mean of b - a */
    double t, student; /* t statistic and two-sided p of Student's paired test; 1 where all differences are equal to 0 */
    double wilcoxon;   /* two-sided p of the signed rank test */
    double fisher;     /* two-sided p of the randomisation test */
} paired_tests;

/* a, b [n]. `rounds` sign patterns are drawn (Philox, seed) unless all 2^n are fewer: then all are counted. */
crank_status paired_compare(crank_context *context, const double *a, const double *b, int64_t n, int64_t rounds, uint64_t seed, paired_tests *result);
/* Holm's step-down correction: p [n] become adjusted values, in place. */
crank_status holm(crank_context *context, double *p, int64_t n);
#endif
