/* owlore.c - a few layers at a time, drawn by their outliers, with projected gradients (Li et al. 2024, arXiv:2405.18380).
 *
 *     A_ij = |W_ij| sqrt(a_j)       a_j: squared norm of input feature j over calibration data            (outlier.h)
 *     D_l  = share of entries of layer l's linears with A > M mean(A);   p_l = D_l / sum D
 *     every K steps:  gamma distinct layers drawn by p; they train with GaLore, all else outside of the layers with AdamW
 *
 * Scores come from a file, one a layer, or follow depth. A layer counts the steps in which it was awake; its basis is refreshed every
 * `gap` of them. state: keep (the published code) holds projections and moments of all layers that were awake; drop holds those of gamma
 * layers and starts them anew; offload puts those of sleeping layers away and gives what keep gives. rank 0 trains the layers without projection. */
#include "optim/layers.h"

static const crank_option option_table[] = {
    CRANK_INT(layers_options, layers, 5, 0, 65536, "gamma: layers that train at a time"),
    CRANK_INT(layers_options, interval, 50, 1, 1e9, "steps K between draws"),
    CRANK_CHOICE(layers_options, sampling, "scores", "scores|uniform|decrease|increase|reverse",
                 "weights of the draw: scores, equal, falling or rising with depth, the largest score minus the layer's"),
    CRANK_STRING(layers_options, scores, NULL, "file of one score a layer"),
    CRANK_CHOICE(layers_options, state, "offload", "offload|keep|drop", "state of sleeping layers: as it was and put away (host memory, a file), as it was, or none"),
    CRANK_INT(layers_options, rank, 128, 0, 65536, "rank of the subspace; 0: no projection"),
    CRANK_INT(layers_options, gap, 100, 1, 1e9, "a layer's steps between refreshes of its subspace"),
    CRANK_FLOAT(layers_options, scale, 1, 0, 1e6, "the step of a projected matrix is multiplied by it"),
    CRANK_CHOICE(layers_options, side, "std", SUBSPACE_SIDES, "which side is projected: the shorter (std), the longer, or a fixed one"),
    CRANK_CHOICE(layers_options, refresh, "warm", SUBSPACE_REFRESHES, "how the basis is found"),
    CRANK_CHOICE(layers_options, on_wake, "keep", "keep|refresh", "the basis of a layer that wakes: as it was, or a new one"),
    CRANK_BOOL(layers_options, embeddings, true, "embedding, head and what else stands outside of the layers trains"),
    CRANK_STRING(layers_options, inner, "adamw", "the optimiser of what is awake"),
    CRANK_MAP(layers_options, inner_options, NULL, "its options"),
    CRANK_END
};

const crank_optimizer crank_optimizer_owlore =
    LAYERS_OPTIMIZER("owlore", "arXiv:2405.18380", "GaLore on a few layers at a time, drawn by their outliers", option_table);
