/* trec_cases.h - the generated judgments and runs of tests/oracle/metrics.py, step by step the same. */
#ifndef CRANK_TESTS_TREC_CASES_H
#define CRANK_TESTS_TREC_CASES_H

#include <stdint.h>
#include <stdio.h>

typedef struct draws { uint64_t made, count; } draws;

static int64_t below(draws *d, uint64_t bound)
{
    uint64_t x = (d->made * UINT64_C(0x100000000) + d->count++) * UINT64_C(0x9E3779B97F4A7C15) + UINT64_C(0x9E3779B97F4A7C15);
    x = (x ^ x >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    x = (x ^ x >> 27) * UINT64_C(0x94D049BB133111EB);
    return (int64_t)((x ^ x >> 31) % bound);
}

static void score_text(draws *d, int64_t style, char out[64])
{
    long        whole = (long)below(d, 1000);
    const char *sign = below(d, 2) ? "-" : "";
    if (style == 0) snprintf(out, 64, "%ld", whole % 4);
    else if (style == 1) snprintf(out, 64, "%s%ld.%03ld", sign, whole, (long)below(d, 1000));
    else if (style == 2) snprintf(out, 64, "%s%lde%ld", sign, whole, (long)below(d, 60));
    else if (style == 3) snprintf(out, 64, "1.00000000%03ld", whole);
    else if (style == 4) snprintf(out, 64, "%s0.%06ld", sign, (long)below(d, 1000000));
    else snprintf(out, 64, "7.5");
}

static int64_t grade(draws *d, int64_t style)
{
    int64_t x = below(d, 100);
    return style == 0 ? x < 30 : style == 1 ? x % 4 : style == 2 ? x % 5 - 2 : style == 3 ? x < 3 : style == 4 ? x % 13 : 0;
}

/* Returns the relevance level. */
static int64_t make_case(uint64_t number, FILE *qrels, FILE *run)
{
    draws   d = { number, 0 };
    int64_t level = 1 + below(&d, 2), topics = 1 + below(&d, 5);
    for (int64_t t = 0; t < topics; t++) {
        int64_t fate = below(&d, 8), pool = 1 + below(&d, number % 16 ? 40 : 1300), grades = below(&d, 6), scores = below(&d, 6), judged = 0;
        for (int64_t doc = 0; doc < pool; doc++) {
            int64_t where = below(&d, 4);
            if (fate != 0 && where != 1) {
                int64_t g = grade(&d, grades);
                fprintf(qrels, "%ld 0 D%ld %ld\n", (long)(t * 7 % 11), (long)doc, judged++ == 0 && g < 0 ? 0L : (long)g);
            }
            if (fate != 1 && where != 0) {
                char text[64];
                score_text(&d, scores, text);
                fprintf(run, "%ld Q0 D%ld %ld %s tag\n", (long)(t * 7 % 11), (long)doc, (long)doc, text);
            }
        }
    }
    return level;
}
#endif
