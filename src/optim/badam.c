/* badam.c - block coordinate descent with Adam: one layer after the other (Luo et al. 2024, arXiv:2404.02827).
 *
 * The blocks are the model's layers. One is awake for K steps of Adam with state from zero, then the next: in a fresh random order each
 * round, ascending or descending. `embeddings` trains what stands outside of the layers at all times (`active_modules` there). */
#include "optim/layers.h"

static const crank_option option_table[] = {
    CRANK_INT(layers_options, layers, 1, 1, 65536, "layers that train at a time"),
    CRANK_INT(layers_options, interval, 100, 1, 1e9, "steps K of a block"),
    CRANK_CHOICE(layers_options, sampling, "shuffle", "shuffle|ascending|descending", "order of the blocks"),
    CRANK_BOOL(layers_options, embeddings, false, "embedding, head and what else stands outside of the layers trains"),
    CRANK_STRING(layers_options, inner, "adamw", "the optimiser of what is awake"),
    CRANK_MAP(layers_options, inner_options, NULL, "its options"),
    CRANK_END
};

const crank_optimizer crank_optimizer_badam =
    LAYERS_OPTIMIZER("badam", "arXiv:2404.02827", "Adam on one layer after the other, with state of one layer", option_table);
