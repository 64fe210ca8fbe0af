/* loram.c - LoRA on the kept weights of a sparse base (LoRAM's un- and semi-structured forms, Zhang et al. 2025, arXiv:2502.13533).
 *
 *     y = y0 + x D^T,   D = s (B A) o M          A [r, in], B [out, r], s = alpha / r; M [out, in]: 1 where the base weight is not zero
 *
 * So the adapted weight (W + s B A) o M keeps the base's zeros, and gradients come from kept places alone: with G = dy^T x,
 *
 *     gA = s B^T (G o M),   gB = s (G o M) A^T.
 *
 * D has no bounded rank: `crank adapter recover` gives the factors without the mask to the whole model as plain LoRA, or with --strict adds D to
 * the whole model's weights. */
#include "lowrank/loram.h"

typedef struct {
    pair factors;
} state;

static const crank_option option_table[] = {
    CRANK_INT(pair_options, rank, 16, 1, 65536, "rank r of the factors"),
    CRANK_FLOAT(pair_options, alpha, 32, 0, 1e9, "the update is scaled by alpha / rank"),
    CRANK_BOOL(pair_options, rslora, false, "scale by alpha / sqrt(rank) instead"),
    CRANK_FLOAT(pair_options, dropout, 0, 0, 0.999, "share of the inputs of the update's branch that is dropped in training"),
    CRANK_CHOICE(pair_options, init, "kaiming", "kaiming|gaussian", "how A starts: uniform in 1/sqrt(in), or normal with deviation 1/rank"),
    CRANK_END
};

static crank_status attach(crank_context *context, crank_site *site)
{
    pair_options plain = *(const pair_options *)site->options;
    plain.lora_plus = 1;
    plain.bias = "none";
    return pair_attach(context, site, &plain, &((state *)site->state)->factors);
}

/* D [out, in] in the compute type. */
static void derive(crank_graph *graph, crank_site *site)
{
    const pair   *factors = &((state *)site->state)->factors;
    crank_tensor *A = crank_use(graph, factors->A), *B = crank_use(graph, factors->B);
    crank_tensor *sign = crank_unary(CRANK_SIGN, crank_cast(crank_use(graph, site->linear->weight), A->dtype));
    crank_tensor *product = crank_matmul_full(B, false, A, false, factors->scale, NULL, NULL, CRANK_DTYPES);
    crank_site_put(graph, site, "D", crank_cast(crank_mul(product, crank_mul(sign, sign)), crank_graph_compute(graph)));
}

/* x [n, in], y0 [n, out] from what stands below -> y [n, out] */
static crank_tensor *forward(crank_graph *graph, crank_site *site, crank_tensor *x, crank_tensor *y0)
{
    crank_tensor *dropped = pair_drop(graph, site, site->options, x);
    return crank_matmul_full(dropped, false, crank_site_get(graph, site, "D"), true, 1, NULL, y0, CRANK_DTYPES);
}

/* The merged weight has the base's zeros still: less D. */
static crank_status unmerge(crank_context *context, crank_site *site, double *W, double *bias)
{
    int64_t      rank, in = site->linear->in;
    double       scale;
    float       *A, *B;
    crank_status status = loram_pair(context, site, &rank, &scale, &A, &B);
    (void)bias;
    if (status != CRANK_OK) return status;
    for (int64_t i = 0; i < site->linear->out; i++)
        for (int64_t j = 0; j < in; j++) {
            double sum = 0;
            for (int64_t k = 0; k < rank; k++) sum += (double)B[i * rank + k] * (double)A[k * in + j];
            if (W[i * in + j] != 0) W[i * in + j] -= scale * sum;
        }
    crank_free(A), crank_free(B);
    return CRANK_OK;
}

crank_status loram_pair(crank_context *context, const crank_site *site, int64_t *rank, double *scale, float **A, float **B)
{
    return pair_read(context, &((const state *)site->state)->factors, rank, scale, A, B);
}

const crank_map crank_map_loram = {
    .name         = "loram",
    .paper        = "arXiv:2502.13533",
    .summary      = "LoRA on the kept weights of a sparse base, whose zeros stay",
    .options      = option_table,
    .options_size = sizeof(pair_options),
    .state_size   = sizeof(state),
    .affine       = true,
    .needs_base   = "dense",
    .attach       = attach,
    .derive       = derive,
    .forward      = forward,
    .unmerge      = unmerge,
};
