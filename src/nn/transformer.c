/* transformer.c - embeddings, layers, last norm: the body that decoders and encoders share (Vaswani et al. 2017).
 *
 *     x = norm(tokens[ids] + positions[p + offset] + types[t]);   layers;   norm x          (what a family lacks is
 * left out) */
#include "nn/nn.h"

static crank_tensor *embed(crank_graph *graph, const nn_transformer *t, const nn_tokens *tokens)
{
    crank_dtype compute = crank_graph_compute(graph);
    crank_tensor *x = crank_linear_forward(graph, t->tokens, tokens->ids);
    if (t->positions) {
        crank_tensor *table = crank_use(graph, t->positions);
        if (t->position_offset)
            table = crank_slice(table, 0, t->position_offset, t->positions->view.dims[0] - t->position_offset);
        x = crank_add(x, crank_gather_rows_as(table, tokens->positions, compute));
    }
    if (t->types) {
        crank_tensor *table = crank_use(graph, t->types);
        x = crank_add(x, tokens->types ? crank_gather_rows_as(table, tokens->types, compute)
                                       : crank_cast(crank_slice(table, 0, 0, 1), compute));
    }
    return nn_norm_forward(graph, &t->embedding_norm, x);
}

static crank_tensor *only(crank_tensor *x, crank_tensor *rows) { return rows ? crank_gather_rows(x, rows) : x; }

/* With `rows` the layer gives these tokens' states alone: [r, hidden]. */
static crank_tensor *layer_forward(crank_graph *graph, const nn_block *block, crank_tensor *x, const nn_tokens *tokens,
                                   int layer, crank_tensor *rows)
{
    if (block->norms_last) {
        x = crank_add(only(x, rows), nn_attention_forward(graph, &block->attention, x, tokens, layer, rows));
        x = nn_norm_forward(graph, &block->attention_norm, x);
        x = crank_add(x, nn_mlp_forward(graph, &block->mlp, x));
        return nn_norm_forward(graph, &block->mlp_norm, x);
    }
    crank_tensor *y = nn_norm_forward(graph, &block->attention_norm, x);
    x = crank_add(only(x, rows), nn_attention_forward(graph, &block->attention, y, tokens, layer, rows));
    y = nn_norm_forward(graph, &block->mlp_norm, x);
    return crank_add(x, nn_mlp_forward(graph, &block->mlp, y));
}

crank_tensor *nn_transformer_forward(crank_graph *graph, const nn_transformer *transformer, const nn_tokens *tokens)
{
    crank_tensor *x = embed(graph, transformer, tokens);
    for (int i = 0; i < transformer->count; i++) {
        crank_block_begin(graph);
        x = layer_forward(graph, &transformer->blocks[i], x, tokens, i, i + 1 == transformer->count ? tokens->rows : NULL);
        crank_block_end(graph);
    }
    return nn_norm_forward(graph, &transformer->last_norm, x);
}
