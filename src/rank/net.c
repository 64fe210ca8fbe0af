/* net.c - the layers of a ranker and their forward pass.
 *
 *     elu      max(x, 0) + e^min(x, 0) - 1
 *     layer    (x - mean) / sqrt(var + 1e-5) w + b over the columns of an item
 *     batch    the same over the items of a batch, for each column; running averages (momentum 0.1, unbiased variance) when scoring */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rank/net.h"

/* ---- making ---- */

static crank_param *new_param(rank_net *net, const char *prefix, const char *name, crank_role role, int64_t n, float value)
{
    char text[128];
    snprintf(text, sizeof text, "%s.%s", prefix, name);
    crank_param *param = crank_params_add(net->params, text, role, CRANK_F32, 1, &n);
    float       *values = param ? crank_alloc(net->context, (size_t)n, sizeof *values, text) : NULL;
    if (!values) return NULL;
    for (int64_t i = 0; i < n; i++) values[i] = value;
    crank_status status = crank_param_write(net->context, param, values, CRANK_F32);
    crank_free(values);
    param->trainable = role == CRANK_ROLE_WEIGHT;
    param->no_decay = true;
    return status == CRANK_OK ? param : NULL;
}

/* Weight and bias uniform in +-1/sqrt(in), as torch's Linear; zero for a linear model. */
static crank_linear *new_linear(rank_net *net, const char *name, int64_t in, int64_t out)
{
    char text[128];
    snprintf(text, sizeof text, "%s.weight", name);
    crank_param *weight = crank_params_add(net->params, text, CRANK_ROLE_WEIGHT, CRANK_F32, 2, (const int64_t[]){out, in});
    snprintf(text, sizeof text, "%s.bias", name);
    crank_param *bias = weight ? crank_params_add(net->params, text, CRANK_ROLE_WEIGHT, CRANK_F32, 1, &out) : NULL;
    if (!bias) return NULL;
    weight->trainable = bias->trainable = bias->no_decay = true;
    float  bound = net->model == RANK_LINEAR || net->model == RANK_ASCENT ? 0 : (float)(1 / sqrt((double)in));
    float *values = crank_alloc(net->context, (size_t)(in * out + out), sizeof *values, "initial weights");
    if (!values) return NULL;
    crank_fill_uniform(crank_stream_make((uint64_t)net->options->seed, CRANK_RANDOM_INIT, crank_hash_name(name)), 0, -bound, bound, values, (size_t)(in * out + out));
    crank_status status = crank_param_write(net->context, weight, values, CRANK_F32);
    if (status == CRANK_OK) status = crank_param_write(net->context, bias, values + in * out, CRANK_F32);
    crank_free(values);
    return status == CRANK_OK ? crank_linear_add(net->linears, name, CRANK_LINEAR_DENSE, in, out, weight, bias) : NULL;
}

static bool new_norm(rank_net *net, const char *prefix, int64_t n, nn_norm *norm)
{
    *norm = (nn_norm){.weight = new_param(net, prefix, "weight", CRANK_ROLE_WEIGHT, n, 1), .bias = new_param(net, prefix, "bias", CRANK_ROLE_WEIGHT, n, 0),
                      .epsilon = 1e-5, .centred = true};
    return norm->weight && norm->bias;
}

static bool new_layer(rank_net *net, int index, int64_t in, int64_t out)
{
    rank_layer *layer = net->layers + index;
    char        name[64], prefix[64];
    snprintf(name, sizeof name, "layers.%d", index);
    snprintf(prefix, sizeof prefix, "norms.%d", index);
    bool norms = net->model == RANK_MLP;
    if (norms && !strcmp(net->options->norm, "layer") && !new_norm(net, prefix, in, &layer->norm)) return false;
    if (norms && !strcmp(net->options->norm, "batch")) {
        layer->weight = new_param(net, prefix, "weight", CRANK_ROLE_WEIGHT, in, 1);
        layer->bias = new_param(net, prefix, "bias", CRANK_ROLE_WEIGHT, in, 0);
        layer->mean = new_param(net, prefix, "running_mean", CRANK_ROLE_STATE, in, 0);
        layer->variance = new_param(net, prefix, "running_var", CRANK_ROLE_STATE, in, 1);
        if (!layer->weight || !layer->bias || !layer->mean || !layer->variance) return false;
    }
    layer->linear = new_linear(net, name, in, out);
    return layer->linear != NULL;
}

static crank_status make_layers(rank_net *net)
{
    enum { MOST = 32 };
    int64_t     sizes[MOST + 2] = {net->scaler.columns};
    const char *cursor = net->options->hidden;
    char        item[32];
    int         count = 1;
    while (net->model == RANK_MLP && cursor && crank_list_next(&cursor, item, sizeof item, NULL, 0)) {
        char *end;
        long  size = strtol(item, &end, 10);
        if (count > MOST || size < 1 || size > 65536 || *end) return crank_fail(net->context, CRANK_USAGE, "hidden: `%s`: at most %d layers of 1 to 65536 outputs", item, MOST);
        sizes[count++] = size;
    }
    sizes[count] = 1;
    net->layers = crank_alloc(net->context, (size_t)count, sizeof *net->layers, "layers");
    if (!net->layers) return CRANK_FAILED;
    for (net->layer_count = 0; net->layer_count < count; net->layer_count++)
        if (!new_layer(net, net->layer_count, sizes[net->layer_count], sizes[net->layer_count + 1])) return crank_last_status(net->context);
    return CRANK_OK;
}

static bool make_block(rank_net *net, int index)
{
    const rank_options *o = net->options;
    nn_block           *block = net->blocks + index;
    crank_linear      **linears[] = {&block->attention.q, &block->attention.k, &block->attention.v, &block->attention.out, &block->mlp.up, &block->mlp.down};
    static const char *const names[] = {"q", "k", "v", "out", "up", "down"};
    char                name[64];
    for (int i = 0; i < 6; i++) {
        snprintf(name, sizeof name, "blocks.%d.%s", index, names[i]);
        *linears[i] = new_linear(net, name, i == 5 ? o->feed : o->width, i == 4 ? o->feed : o->width);
        if (!*linears[i]) return false;
    }
    block->attention.heads = block->attention.kv_heads = o->heads;
    block->attention.head_dim = o->width / o->heads;
    block->attention.attributes = (crank_attention_attributes){.mask = CRANK_MASK_NONE, .scale = 1 / sqrt((double)block->attention.head_dim)};
    block->mlp.activation = CRANK_RELU;
    snprintf(name, sizeof name, "blocks.%d.attention_norm", index);
    if (!new_norm(net, name, o->width, &block->attention_norm)) return false;
    snprintf(name, sizeof name, "blocks.%d.mlp_norm", index);
    return new_norm(net, name, o->width, &block->mlp_norm);
}

static crank_status make_attention(rank_net *net)
{
    const rank_options *o = net->options;
    if (o->width % o->heads) return crank_fail(net->context, CRANK_USAGE, "heads: %lld do not divide the width %lld", (long long)o->heads, (long long)o->width);
    net->blocks = crank_alloc(net->context, (size_t)o->blocks, sizeof *net->blocks, "blocks");
    net->layers = crank_alloc(net->context, 1, sizeof *net->layers, "layers");
    net->input = net->blocks && net->layers ? new_linear(net, "input", net->scaler.columns, o->width) : NULL;
    if (!net->input) return crank_last_status(net->context);
    for (int i = 0; i < (int)o->blocks; i++)
        if (!make_block(net, i)) return crank_last_status(net->context);
    net->layer_count = 1;
    return new_norm(net, "norm", o->width, &net->last_norm) && new_layer(net, 0, o->width, 1) ? CRANK_OK : crank_last_status(net->context);
}

/* Every option as text into a copy of its own. */
static rank_options *copy_options(crank_context *context, const rank_options *from)
{
    rank_options *to = crank_options_new(context, rank_option_table, sizeof *to);
    for (const crank_option *o = rank_option_table; to && o->name; o++) {
        const char  *field = (const char *)from + o->offset;
        char        *to_field = (char *)to + o->offset;
        crank_status status = CRANK_OK;
        if (o->type == CRANK_OPTION_INT) *(int64_t *)(void *)to_field = *(const int64_t *)(const void *)field;
        else if (o->type == CRANK_OPTION_FLOAT) *(double *)(void *)to_field = *(const double *)(const void *)field;
        else status = crank_options_set(context, rank_option_table, to, o->name, *(const char *const *)(const void *)field, "ranker");
        if (status == CRANK_OK) continue;
        crank_options_free(to);
        to = NULL;
    }
    return to;
}

rank_net *rank_net_new(crank_context *context, const rank_options *options, rank_scaler *scaler)
{
    static const char *const models[] = {"linear", "mlp", "attention", "coordinate-ascent"};
    rank_net *net = crank_alloc(context, 1, sizeof *net, "a ranker");
    if (!net) return NULL;
    net->context = context;
    net->options = copy_options(context, options);
    for (int i = 0; net->options && i < 4; i++)
        if (!strcmp(options->model, models[i])) net->model = (rank_model)i;
    net->scaler = *scaler;
    net->device = net->options ? crank_device_cpu(context, NULL) : NULL;
    net->params = net->device ? crank_params_new(context, net->device) : NULL;
    net->linears = net->params ? crank_linears_new(context, net->params, (uint64_t)options->seed) : NULL;
    crank_status status = !net->linears ? crank_last_status(context) : net->model == RANK_ATTENTION ? make_attention(net) : make_layers(net);
    if (status == CRANK_OK) {
        *scaler = (rank_scaler){0};
        return net;
    }
    net->scaler = (rank_scaler){0}; /* stays the caller's */
    rank_net_free(net);
    return NULL;
}

void rank_net_free(rank_net *net)
{
    if (!net) return;
    rank_graphs_free(&net->graphs);
    crank_linears_free(net->linears);
    crank_params_free(net->params);
    if (net->device) net->device->close(net->device);
    crank_options_free(net->options);
    rank_scaler_free(&net->scaler);
    crank_free(net->layers);
    crank_free(net->blocks);
    crank_free(net);
}

const rank_options *rank_net_options(const rank_net *net) { return net->options; }
const rank_scaler  *rank_net_scaler(const rank_net *net) { return &net->scaler; }
crank_params       *rank_net_params(const rank_net *net) { return net->params; }
crank_context      *rank_net_context(const rank_net *net) { return net->context; }

/* ---- forward ---- */

static crank_tensor *activate(const char *name, crank_tensor *x)
{
    static const char *const      names[] = {"relu", "tanh", "sigmoid", "gelu", "silu"};
    static const crank_unary_kind kinds[] = {CRANK_RELU, CRANK_TANH, CRANK_SIGMOID, CRANK_GELU, CRANK_SILU};
    for (int i = 0; i < 5; i++)
        if (!strcmp(name, names[i])) return crank_unary(kinds[i], x);
    crank_tensor *below = crank_sub(x, crank_unary(CRANK_RELU, x)); /* min(x, 0) */
    return crank_add(crank_unary(CRANK_RELU, x), crank_affine(crank_unary(CRANK_EXP, below), 1, -1));
}

static crank_tensor *batch_norm(rank_graph *g, const rank_layer *layer, crank_tensor *x)
{
    crank_tensor *mean = crank_use(g->graph, layer->mean), *variance = crank_use(g->graph, layer->variance);
    if (crank_graph_training(g->graph)) {
        crank_tensor *inverse = crank_slice(g->counts, 0, 0, 1), *unbiased = crank_slice(g->counts, 0, 1, 1);
        crank_tensor *now = crank_mul(crank_reduce(CRANK_SUM, crank_mul(x, g->valid), 1, false), inverse);
        crank_tensor *centred = crank_mul(crank_sub(x, now), g->valid);
        crank_tensor *spread = crank_mul(crank_reduce(CRANK_SUM_SQUARES, centred, 1, false), inverse);
        crank_assign(mean, crank_add(crank_scale(mean, 0.9), crank_scale(crank_stop_gradient(now), 0.1)), false);
        crank_assign(variance, crank_add(crank_scale(variance, 0.9), crank_scale(crank_mul(crank_stop_gradient(spread), unbiased), 0.1)), false);
        mean = now;
        variance = spread;
    }
    crank_tensor *y = crank_mul(crank_sub(x, mean), crank_unary(CRANK_RSQRT, crank_affine(variance, 1, 1e-5)));
    return crank_add(crank_mul(y, crank_use(g->graph, layer->weight)), crank_use(g->graph, layer->bias));
}

static crank_tensor *run_layers(rank_net *net, rank_graph *g, crank_tensor *x)
{
    for (int i = 0; i < net->layer_count; i++) {
        const rank_layer *layer = net->layers + i;
        x = layer->mean ? batch_norm(g, layer, x) : nn_norm_forward(g->graph, &layer->norm, x);
        x = crank_linear_forward(g->graph, layer->linear, x);
        if (i + 1 < net->layer_count) x = crank_dropout(activate(net->options->activation, x), net->options->dropout);
    }
    return x;
}

static crank_tensor *run_blocks(rank_net *net, rank_graph *g)
{
    nn_tokens     lists = {.segments = g->segments};
    double        p = net->options->dropout;
    crank_tensor *h = crank_linear_forward(g->graph, net->input, g->x);
    for (int i = 0; i < (int)net->options->blocks; i++) {
        const nn_block *block = net->blocks + i;
        crank_tensor   *seen = nn_attention_forward(g->graph, &block->attention, nn_norm_forward(g->graph, &block->attention_norm, h), &lists, i, NULL);
        h = crank_add(h, crank_dropout(seen, p));
        h = crank_add(h, crank_dropout(nn_mlp_forward(g->graph, &block->mlp, nn_norm_forward(g->graph, &block->mlp_norm, h)), p));
    }
    return nn_norm_forward(g->graph, &net->last_norm, h);
}

crank_tensor *rank_net_record(rank_net *net, rank_graph *g)
{
    crank_tensor *out = run_layers(net, g, net->model == RANK_ATTENTION ? run_blocks(net, g) : g->x);
    return crank_reshape(out, 1, (const int64_t[]){g->rows});
}
