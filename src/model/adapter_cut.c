/* adapter_cut.c - plain LoRA of a lower rank, from an adapter of any method of bounded rank.
 *
 *   in the trained order   DyLoRA orders its ranks while it trains: the first R rows and columns, scaled as they were trained, alpha / R
 *   by the product         the leading R singular triplets of each linear's B A: the nearest change of that rank */
#include <string.h>

#include "linear/stack.h"
#include "lowrank/dylora.h"
#include "lowrank/pair_cut.h"
#include "model/adapter.h"

/* The rank of a linear: that of the pattern that hits it, else the cut's; 0: none was asked for. */
static crank_status rank_of(crank_context *context, const crank_cut *cut, const crank_linear *linear, int64_t *rank)
{
    bool   found = false;
    double value = 0;
    *rank = cut->rank;
    crank_status status = cut->patterns ? target_pattern(context, cut->patterns, linear->name, "rank pattern", &found, &value) : CRANK_OK;
    if (status != CRANK_OK || !found) return status;
    if (!(value >= 1 && value <= 65536) || value != (double)(int64_t)value)
        return crank_fail(context, CRANK_USAGE, "%s: the pattern's rank %g must be a whole number from 1 to 65536", linear->name, value);
    *rank = (int64_t)value;
    return CRANK_OK;
}

static crank_status edit(crank_context *context, const crank_linear *linear, void *user, int64_t *rank, double *scale, float **A, float **B)
{
    crank_cut   *cut = user;
    int64_t      wanted;
    double       lost = 0;
    crank_status status = rank_of(context, cut, linear, &wanted);
    (void)scale;
    if (status == CRANK_OK && wanted && wanted < *rank) status = pair_cut(context, linear->in, linear->out, wanted, rank, A, B, &lost);
    if (lost > cut->lost) cut->lost = lost;
    return status;
}

/* A rank that no linear has is a mistake; a linear of lower rank than asked for stays as it is. */
static crank_status check_svd(crank_context *context, crank_attachment *attachment, const crank_cut *cut)
{
    int64_t largest = 0, wanted = 0, rank;
    double  scale;
    float  *A, *B;
    for (int i = 0; i < attachment->count; i++) {
        crank_status status = rank_of(context, cut, attachment->sites[i].linear, &wanted);
        if (status == CRANK_OK) status = attachment->map->as_lora(context, &attachment->sites[i], &rank, &scale, &A, &B);
        if (status != CRANK_OK) return status;
        crank_free(A), crank_free(B);
        if (rank > largest) largest = rank;
        if (wanted && wanted <= rank) return CRANK_OK;
    }
    return crank_fail(context, CRANK_USAGE, "rank %lld is above the adapter's: its linears have ranks up to %lld", (long long)cut->rank, (long long)largest);
}

crank_status crank_adapter_save_cut(crank_context *context, crank_model *model, crank_attachment *attachment, const char *folder, const char *base,
                                    crank_cut *cut)
{
    bool         ordered = !strcmp(attachment->map->name, "dylora");
    crank_status status = CRANK_OK;
    cut->lost = 0;
    if (!attachment->map->as_lora)
        return crank_fail(context, CRANK_USAGE, "the change that %s makes has no bounded rank: it cannot be cut to one", attachment->map->name);
    if (!ordered && !cut->svd)
        return crank_fail(context, CRANK_USAGE, "%s does not order its ranks as it trains, so its first ranks are no smaller adapter: cut it by the "
                                                "singular values of the product (--svd), or train with method dylora",
                          attachment->map->name);
    for (int i = 0; status == CRANK_OK && !cut->svd && i < attachment->count; i++) {
        int64_t rank;
        status = rank_of(context, cut, attachment->sites[i].linear, &rank);
        if (status == CRANK_OK && rank) status = dylora_set_rank(context, &attachment->sites[i], rank);
    }
    if (status == CRANK_OK && cut->svd) status = check_svd(context, attachment, cut);
    return status == CRANK_OK ? adapter_save_pairs(context, model, attachment, folder, base, cut->svd ? edit : NULL, cut) : status;
}
