/* subset.c - kept rows and columns (LoRAM, Zhang et al. 2025, arXiv:2502.13533: W^P = W0[R, C]). */
#include "linear/subset.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "crank/random.h"

void subset_gather(const float *from, subset rows, subset cols, float *to)
{
    for (int64_t i = 0; i < rows.count; i++)
        for (int64_t j = 0; j < cols.count; j++) to[i * cols.count + j] = from[subset_at(&rows, i) * cols.whole + subset_at(&cols, j)];
}

void subset_scatter(const float *from, subset rows, subset cols, float *to)
{
    memset(to, 0, (size_t)(rows.whole * cols.whole) * sizeof *to);
    for (int64_t i = 0; i < rows.count; i++)
        for (int64_t j = 0; j < cols.count; j++) to[subset_at(&rows, i) * cols.whole + subset_at(&cols, j)] = from[i * cols.count + j];
}

int64_t subset_neurons(int64_t whole, double ratio, int64_t round_to)
{
    int64_t keep = whole - (int64_t)ceil((double)whole * ratio - 1e-9);
    if (round_to > 1) keep = (keep + round_to / 2) / round_to * round_to;
    if (round_to > 1 && keep == 0 && ratio < 1) keep = round_to;
    return keep > whole ? whole : keep;
}

int64_t subset_heads(int64_t whole, double ratio) { return whole - (int64_t)((double)whole * ratio + 1e-9); }

typedef struct scored {
    double  score;
    int32_t place;
} scored;

static int by_score(const void *a, const void *b)
{
    const scored *x = a, *y = b;
    if (x->score != y->score) return x->score < y->score ? 1 : -1;
    return (x->place > y->place) - (x->place < y->place);
}

static int by_place(const void *a, const void *b)
{
    const int32_t *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

crank_status subset_best(crank_context *context, const double *scores, int64_t whole, int64_t keep, int32_t *places)
{
    scored *list = crank_alloc(context, (size_t)whole, sizeof *list, "scores of units");
    if (!list) return CRANK_FAILED;
    for (int64_t i = 0; i < whole; i++) list[i] = (scored){isfinite(scores[i]) ? scores[i] : -INFINITY, (int32_t)i};
    qsort(list, (size_t)whole, sizeof *list, by_score);
    for (int64_t i = 0; i < keep; i++) places[i] = list[i].place;
    qsort(places, (size_t)keep, sizeof *places, by_place);
    crank_free(list);
    return CRANK_OK;
}

crank_status subset_draw(crank_context *context, uint64_t seed, uint32_t index, int64_t whole, int64_t keep, int32_t *places)
{
    double      *scores = crank_alloc(context, (size_t)whole, sizeof *scores, "draws of units");
    crank_stream stream = crank_stream_make(seed, CRANK_RANDOM_METHOD, index);
    for (int64_t i = 0; scores && i < whole; i++) scores[i] = (double)crank_draw_uniform(stream, (uint64_t)i);
    crank_status status = scores ? subset_best(context, scores, whole, keep, places) : CRANK_FAILED;
    crank_free(scores);
    return status;
}
