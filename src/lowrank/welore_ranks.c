/* welore_ranks.c - a rank for each matrix of a model from one threshold on normalised singular values. */
#include "lowrank/welore_ranks.h"

#include <math.h>
#include <stdlib.h>

static int64_t smaller_side(const welore_matrix *a) { return a->rows < a->cols ? a->rows : a->cols; }

/* Normalised value i; 1 for a flat spectrum. */
static double normalised(const welore_matrix *a, int64_t i)
{
    double high = a->sigma[0], low = a->sigma[smaller_side(a) - 1];
    return high > low ? (a->sigma[i] - low) / (high - low) : 1;
}

static double reduction(const welore_matrix *matrices, int count, welore_measure measure)
{
    double pruned = 0, all = 0, kept = 0, whole = 0;
    for (int i = 0; i < count; i++) {
        const welore_matrix *a = &matrices[i];
        double               d = (double)smaller_side(a), size = (double)a->rows * (double)a->cols;
        double               factored = (double)a->k * (double)(a->rows + a->cols);
        all += d, whole += size;
        pruned += a->low ? d - (double)a->k : 0;
        kept += a->low ? fmin(size, factored) : size;
    }
    return measure == WELORE_RANKS ? (all > 0 ? pruned / all : 0) : (whole > 0 ? 1 - kept / whole : 0);
}

double welore_at(welore_matrix *matrices, int count, double tau, double gate, welore_measure measure)
{
    for (int i = 0; i < count; i++) {
        welore_matrix *a = &matrices[i];
        int64_t        d = smaller_side(a), k = d;
        while (k > 0 && normalised(a, k - 1) < tau) k--; /* values descend */
        a->low = (double)(d - k) > gate * (double)d;
        a->k = !a->low ? d : k < 1 ? 1 : k;
    }
    return reduction(matrices, count, measure);
}

static int rising(const void *a, const void *b) { return (*(const double *)a > *(const double *)b) - (*(const double *)a < *(const double *)b); }

crank_status welore_choose(crank_context *context, welore_matrix *matrices, int count, double target, double gate, welore_measure measure, double *tau,
                           double *reached)
{
    size_t all = 0, n = 0;
    for (int i = 0; i < count; i++) all += (size_t)smaller_side(&matrices[i]);
    double *pool = crank_alloc(context, all + 2, sizeof *pool, "singular values");
    if (!pool) return CRANK_FAILED;
    for (int i = 0; i < count; i++)
        for (int64_t k = 0; k < smaller_side(&matrices[i]); k++) pool[n++] = normalised(&matrices[i], k);
    pool[n++] = 0; /* nothing is pruned */
    pool[n++] = nextafter(1, 2); /* all is */
    qsort(pool, n, sizeof *pool, rising);
    size_t low = 0, high = n - 1; /* the first place whose reduction is at least the target */
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (welore_at(matrices, count, pool[middle], gate, measure) >= target - 1e-12) high = middle;
        else low = middle + 1;
    }
    double found = pool[low], got = welore_at(matrices, count, found, gate, measure);
    if (tau) *tau = found;
    if (reached) *reached = got;
    crank_free(pool);
    return CRANK_OK;
}

double welore_uniform(welore_matrix *matrices, int count, double target, welore_measure measure)
{
    for (int i = 0; i < count; i++) {
        int64_t d = smaller_side(&matrices[i]), k = d - (int64_t)(target * (double)d);
        matrices[i].k = k < 1 ? 1 : k;
        matrices[i].low = k < d;
    }
    return reduction(matrices, count, measure);
}
