/* repair.c - scales intruder dimensions down (Shuttleworth et al. 2024, section 5), and the controls that a repair must beat.
 *
 *     intruders    W_l = W + (l - 1) sum_j s_j y_j q_j^T
 *     neighbours   the same for the nearest vectors that are no intruders
 *     random       the same values along random directions
 *     shrink       W0 + c (W - W0),   (1 - c) |W - W0| = |W - W_l|, Frobenius */
#include <math.h>
#include <string.h>

#include "crank/random.h"
#include "task/intruders.h"

const char *repair_name(repair_kind kind)
{
    static const char *const names[] = {"intruders", "neighbours", "random", "shrink"};
    return names[kind];
}

static bool intrudes(const crank_spectral_change *c, int64_t j, double epsilon) { return c->change != 0 && c->sides[CRANK_LEFT].best[j] < epsilon; }

/* Ranks (from 0) of the intruders that the repair takes; returns their number. */
static size_t chosen(const crank_spectral_change *c, const repair_how *how, int64_t *ranks)
{
    size_t count = 0;
    for (int64_t j = 0; j < how->k && j < c->top && (how->all || !count); j++)
        if (intrudes(c, j, how->epsilon)) ranks[count++] = j;
    return count;
}

/* The nearest rank that is neither an intruder nor taken: below first, then above; -1: none. */
static int64_t neighbour(const crank_spectral_change *c, double epsilon, int64_t rank, const bool *taken)
{
    for (int64_t far = 1; far < c->top; far++)
        for (int side = 0; side < 2; side++) {
            int64_t j = side ? rank - far : rank + far;
            if (j >= 0 && j < c->top && !taken[j] && !intrudes(c, j, epsilon)) return j;
        }
    return -1;
}

static void draw_unit(crank_stream stream, int64_t n, float *out)
{
    double squares = 0;
    crank_fill_normal(stream, 0, 0, 1, out, (size_t)n);
    for (int64_t i = 0; i < n; i++) squares += (double)out[i] * (double)out[i];
    for (int64_t i = 0; i < n; i++) out[i] = (float)((double)out[i] / sqrt(squares));
}

void repair_terms_free(repair_terms *terms)
{
    crank_free(terms->weights), crank_free(terms->left), crank_free(terms->right);
    *terms = (repair_terms){0};
}

crank_status repair_terms_of(crank_context *context, const crank_spectral_change *c, const repair_how *how, repair_terms *out)
{
    *out = (repair_terms){0};
    int64_t *ranks = crank_alloc(context, (size_t)c->top, sizeof *ranks, "intruders");
    bool    *taken = crank_alloc(context, (size_t)c->top, sizeof *taken, "intruders");
    size_t   count = ranks && taken ? chosen(c, how, ranks) : 0;
    out->weights = crank_alloc(context, count + 1, sizeof *out->weights, "a repair");
    out->left = crank_alloc(context, (count + 1) * (size_t)c->m, sizeof *out->left, "a repair");
    out->right = crank_alloc(context, (count + 1) * (size_t)c->n, sizeof *out->right, "a repair");
    bool made = ranks && taken && out->weights && out->left && out->right;
    for (size_t t = 0; made && how->lambda != 1 && t < count; t++) {
        int64_t rank = how->kind == REPAIR_NEIGHBOURS ? neighbour(c, how->epsilon, ranks[t], taken) : ranks[t];
        if (rank < 0) continue;
        taken[rank] = true;
        float *left = out->left + (int64_t)out->count * c->m, *right = out->right + (int64_t)out->count * c->n;
        out->weights[out->count++] = (how->lambda - 1) * c->s[rank];
        memcpy(left, c->left + rank * c->m, (size_t)c->m * sizeof *left);
        memcpy(right, c->right + rank * c->n, (size_t)c->n * sizeof *right);
        if (how->kind != REPAIR_RANDOM) continue;
        uint64_t seed = (uint64_t)(c->m * 1000003 + c->n);
        draw_unit(crank_stream_make(seed, CRANK_RANDOM_METHOD, (uint32_t)(2 * rank)), c->m, left);
        draw_unit(crank_stream_make(seed, CRANK_RANDOM_METHOD, (uint32_t)(2 * rank + 1)), c->n, right);
    }
    crank_free(ranks), crank_free(taken);
    if (!made) repair_terms_free(out);
    return made ? CRANK_OK : CRANK_FAILED;
}

double repair_shrink_of(const crank_spectral_change *c, const repair_how *how)
{
    double squares = 0;
    bool   found = false;
    if (how->shrink >= 0) return how->shrink;
    for (int64_t j = 0; j < how->k && j < c->top && (how->all || !found); j++)
        if (intrudes(c, j, how->epsilon)) {
            squares += (1 - how->lambda) * c->s[j] * (1 - how->lambda) * c->s[j];
            found = true;
        }
    return found ? 1 - sqrt(squares) / c->distance : 1;
}

crank_status repair_weight(crank_context *context, const crank_spectral_change *c, const repair_how *how, const float *before, float *after,
                           bool *changed)
{
    *changed = false;
    if (how->kind == REPAIR_SHRINK) {
        double factor = repair_shrink_of(c, how);
        *changed = factor != 1;
        for (int64_t i = 0; *changed && i < c->m * c->n; i++) after[i] = (float)((double)before[i] + factor * ((double)after[i] - (double)before[i]));
        return CRANK_OK;
    }
    repair_terms terms;
    crank_status status = repair_terms_of(context, c, how, &terms);
    *changed = terms.count > 0;
    for (int64_t i = 0; status == CRANK_OK && *changed && i < c->m; i++)
        for (int64_t j = 0; j < c->n; j++) {
            double sum = (double)after[i * c->n + j];
            for (size_t t = 0; t < terms.count; t++)
                sum += terms.weights[t] * (double)terms.left[(int64_t)t * c->m + i] * (double)terms.right[(int64_t)t * c->n + j];
            after[i * c->n + j] = (float)sum;
        }
    repair_terms_free(&terms);
    return status;
}
