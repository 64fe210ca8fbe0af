/* lisa.c - a few layers at a time, drawn uniformly (Pan et al. 2024, arXiv:2403.17919).
 *
 *     every K steps:  gamma of L layers are drawn without replacement; they, the embedding, the head and the final norm train
 *
 * with AdamW under one schedule. state: drop frees a layer's moments when it falls asleep and starts them from zero, steps counted from
 * 1, when it wakes: this is what the memory claim needs. state: keep holds the moments of every layer that was awake, as the published
 * code does; state: offload has the same moments, those of sleeping layers put away in host memory beside a card, else in a file. */
#include "optim/layers.h"

static const crank_option option_table[] = {
    CRANK_INT(layers_options, layers, 2, 0, 65536, "gamma: layers that train at a time"),
    CRANK_INT(layers_options, interval, 20, 1, 1e9, "steps K between draws"),
    CRANK_CHOICE(layers_options, state, "drop", "drop|keep|offload", "moments of sleeping layers: none, as they were, or as they were and put away (host memory, a file)"),
    CRANK_BOOL(layers_options, embeddings, true, "embedding, head and what else stands outside of the layers trains"),
    CRANK_STRING(layers_options, inner, "adamw", "the optimiser of what is awake"),
    CRANK_MAP(layers_options, inner_options, NULL, "its options"),
    CRANK_END
};

const crank_optimizer crank_optimizer_lisa =
    LAYERS_OPTIMIZER("lisa", "arXiv:2403.17919", "AdamW on a few layers at a time, drawn anew every few steps", option_table);
