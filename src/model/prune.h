/* prune.h - a smaller model of kept heads and neurons, and the way back for adapters that were trained on it (LoRAM). */
#ifndef CRANK_MODEL_PRUNE_H
#define CRANK_MODEL_PRUNE_H

#include "crank/adapter.h"
#include "linear/subset.h"

typedef struct prune_layer {
    int64_t  heads, kv_heads, head_dim, inner; /* of the large model */
    int64_t  kept_heads, kept_neurons;         /* heads: of keys and values */
    int32_t *kept[2];                          /* heads, neurons; rising */
    int32_t *queries, *values;                 /* rows of q, k and v (columns of o: queries) that follow; [kept_heads * group * dim], [kept_heads * dim] */
    int32_t *fused;                            /* rows of a fused q, k, v map */
} prune_layer;

typedef struct prune_plan {
    prune_layer *layers;
    int64_t      count;
} prune_plan; /* freed with prune_plan_free */

typedef enum prune_rule { PRUNE_RANDOM, PRUNE_MAGNITUDE, PRUNE_GIVEN } prune_rule;

typedef struct prune_how {
    double     ratio;       /* of heads and neurons that go */
    int64_t    first, last; /* layers at both ends that stay whole */
    int64_t    round_to;    /* neurons that are kept: a multiple of this */
    prune_rule rule;
    uint64_t   seed;
    double   **heads, **neurons; /* GIVEN: scores [layers][kv_heads], [layers][inner] */
} prune_how;

/* Which units stay. Magnitude: the product of the norms of a unit's rows and columns over its coupled maps. */
crank_status prune_plan_make(crank_context *context, crank_model *model, const prune_how *how, prune_plan *out);
void         prune_plan_free(prune_plan *plan);
/* Makes the rows that follow from the kept heads of every layer. */
crank_status prune_plan_rows(crank_context *context, prune_plan *plan);
/* The kept rows and columns of a linear of the large model (all, outside of layers). */
void prune_rows_cols(const crank_model *model, const prune_plan *plan, const crank_linear *linear, subset *rows, subset *cols);

/* Writes the small model to `folder`, with the plan in pruned.safetensors. A config that other programs read where all layers are alike and the
 * family's config can say so; else `crank_layers` holds the sizes. */
crank_status prune_write(crank_context *context, crank_model *model, const prune_plan *plan, const char *folder, crank_dtype dtype);
/* ---- sparse models: the same shapes with zeros ---- */

typedef struct prune_mask {
    int64_t keep, of;      /* of each run of `of` inputs of a row `keep` stay (4:8); of 0: unstructured, by ratio */
    double  ratio;         /* unstructured: share of the weights that go, of a linear, or with `by_row` of each of its rows */
    bool    by_row;
    prune_rule rule;       /* RANDOM, or by |w|; with norms by |w| |x_j| (Wanda) */
    int64_t first, last;   /* layers at both ends that stay whole */
    uint64_t seed;
    double *const *norms;  /* [linears][in] by index of the linear; NULL: ones */
} prune_mask;
/* Zeros in the linears of the layers. *zeros, *all: weights there. */
crank_status prune_sparse(crank_context *context, crank_model *model, const prune_mask *mask, int64_t *zeros, int64_t *all);

/* The plan that stands in a folder, held against the large model. */
crank_status prune_read(crank_context *context, const crank_model *model, const char *folder, prune_plan *out);
/* Copies an adapter of the small model to the large one: A[:, C], B[R, :], zero elsewhere. Gives the new attachment, named `name`. */
crank_attachment *prune_recover(crank_context *context, crank_model *large, const prune_plan *plan, crank_attachment *small, const char *name);
/* Adds to the large model's weights what the adapter changes of the sparse one's kept weights: (W' - W) o M, nothing where the sparse model is
 * zero. Of equal shapes only. */
crank_status prune_recover_strict(crank_context *context, crank_model *large, crank_attachment *sparse);
#endif
