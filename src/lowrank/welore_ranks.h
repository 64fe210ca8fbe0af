/* welore_ranks.h - a rank for each matrix of a model from one threshold on normalised singular values (arXiv:2407.11239).
 *
 *     s = (sigma - min sigma) / (max sigma - min sigma),   pruned = #{s < tau},   k = d - pruned,   d = min(rows, cols)
 *     a matrix is low-rank where pruned / d > gate; the others stay whole and count as pruned = 0
 *     effective rank reduction (tau) = sum pruned / sum d;   parameters: 1 - sum min(rows cols, k (rows + cols)) / sum rows cols
 *
 * tau is the smallest one that reaches the target: found exactly, since both measures only change at the values themselves. */
#ifndef CRANK_LOWRANK_WELORE_RANKS_H
#define CRANK_LOWRANK_WELORE_RANKS_H

#include "crank/base.h"

typedef struct welore_matrix {
    const double *sigma; /* [d], descending */
    int64_t       rows, cols;
    int64_t       k;   /* given back: its rank, 1 .. d */
    bool          low; /* given back: it is factored */
} welore_matrix;

typedef enum welore_measure { WELORE_RANKS, WELORE_PARAMETERS } welore_measure;

/* Ranks at one threshold; returns the reduction. A flat spectrum (all values equal) is not pruned. */
double welore_at(welore_matrix *matrices, int count, double tau, double gate, welore_measure measure);
/* Ranks that reach `target` (0 .. 1), *tau and *reached (may be NULL). Where no threshold reaches it, the one that comes nearest. */
crank_status welore_choose(crank_context *context, welore_matrix *matrices, int count, double target, double gate, welore_measure measure, double *tau,
                           double *reached);
/* The same share of every matrix: pruned = floor(target d). */
double welore_uniform(welore_matrix *matrices, int count, double target, welore_measure measure);
#endif
