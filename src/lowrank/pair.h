/* pair.h - the pair of factors that LoRA and its relatives train, their common options, and their place in PEFT's files.
 *
 *     delta(x) = s (x A^T) B^T        A [r, in], B [out, r] */
#ifndef CRANK_LOWRANK_PAIR_H
#define CRANK_LOWRANK_PAIR_H

#include "crank/linear.h"

/* Options of LoRA and DoRA. */
typedef struct pair_options {
    int64_t     rank;
    double      alpha;
    bool        rslora;
    double      dropout;
    const char *init;
    double      lora_plus;
    const char *bias;
    bool        lora_bias; /* LoRA only */
} pair_options;

#define PAIR_OPTIONS                                                                                                         \
    CRANK_INT(pair_options, rank, 16, 1, 65536, "rank r of the update"),                                                     \
    CRANK_FLOAT(pair_options, alpha, 32, 0, 1e9, "the update is scaled by alpha / rank"),                                    \
    CRANK_BOOL(pair_options, rslora, false, "scale by alpha / sqrt(rank) instead (Kalajdzievski 2023, arXiv:2312.03732)"),   \
    CRANK_FLOAT(pair_options, dropout, 0, 0, 0.999, "share of the inputs of the update's branch that is dropped in training"),\
    CRANK_CHOICE(pair_options, init, "kaiming", "kaiming|gaussian|orthogonal",                                               \
                 "how A starts: uniform in 1/sqrt(in), normal with deviation 1/rank, or A and B orthogonal to each other"),  \
    CRANK_FLOAT(pair_options, lora_plus, 1, 1e-3, 1e6, "rate of B over rate of A (LoRA+, arXiv:2402.12354)"),                \
    CRANK_CHOICE(pair_options, bias, "none", "none|all|lora_only", "biases of the model that are trained with the adapter")

typedef struct pair {
    crank_param *A, *B; /* [r, in], [out, r] */
    double       scale; /* s */
} pair;

/* Makes and initialises A and B (trainable), sets the rate of B and the trained biases. On an embedding A is zero and B normal. */
crank_status pair_attach(crank_context *context, crank_site *site, const pair_options *options, pair *out);
/* s (x A^T) B^T [n, out] */
crank_tensor *pair_delta(crank_graph *graph, const crank_site *site, const pair *factors, crank_tensor *x);
/* x after the branch's dropout: x itself outside of training, at p = 0 and on an embedding. */
crank_tensor *pair_drop(crank_graph *graph, const crank_site *site, const pair_options *options, crank_tensor *x);
/* The end of an as_lora: hands a [r, in] and b [out, r] over, or frees both when `status` is a failure; gives the status back. */
crank_status pair_give(crank_status status, int64_t r, double s, float *a, float *b, int64_t *rank, double *scale, float **A, float **B);

/* The factors on the host, as crank_map's as_lora gives them: f32 [r, in] and [out, r], crank_free. */
crank_status pair_read(crank_context *context, const pair *factors, int64_t *rank, double *scale, float **A, float **B);

/* ---- PEFT ---- */

/* "lora_A.weight", ... for "A", "B", "bias", "magnitude"; NULL for others. */
const char *pair_peft_name(const crank_site *site, const char *name);
/* The json text of the keys of a LoRA config. */
char        *pair_peft_config(crank_context *context, const pair_options *options, bool dora);
crank_status pair_peft_options(crank_context *context, const char *config, const crank_option *table, void *options);
#endif
