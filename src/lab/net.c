/* net.c - small networks of linears on the CPU, and their data. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "lab/net.h"

void lab_data_free(lab_data *data)
{
    crank_free(data->x), crank_free(data->ids), crank_free(data->y), crank_free(data->labels);
    *data = (lab_data){0};
}

lab_net *lab_net_new(crank_context *context, uint64_t seed)
{
    lab_net *net = crank_alloc(context, 1, sizeof *net, "a network");
    if (!net) return NULL;
    net->context = context;
    net->activation = -1;
    net->device = crank_device_cpu(context, NULL);
    net->params = net->device ? crank_params_new(context, net->device) : NULL;
    net->linears = net->params ? crank_linears_new(context, net->params, seed) : NULL;
    if (net->linears) return net;
    lab_net_free(net);
    return NULL;
}

void lab_net_free(lab_net *net)
{
    if (!net) return;
    crank_linears_free(net->linears);
    crank_params_free(net->params);
    if (net->device) net->device->close(net->device);
    crank_free(net->own);
    crank_free(net);
}

crank_linear *lab_net_linear(lab_net *net, const char *name, int64_t in, int64_t out, bool bias)
{
    char         text[128];
    crank_param *b = NULL;
    snprintf(text, sizeof text, "%s.weight", name);
    crank_param *weight = crank_params_add(net->params, text, CRANK_ROLE_WEIGHT, CRANK_F32, 2, (const int64_t[]){out, in});
    snprintf(text, sizeof text, "%s.bias", name);
    if (weight && bias) b = crank_params_add(net->params, text, CRANK_ROLE_WEIGHT, CRANK_F32, 1, &out);
    if (!weight || (bias && !b)) return NULL;
    return crank_linear_add(net->linears, name, CRANK_LINEAR_DENSE, in, out, weight, b);
}

/* ---- multi-layer perceptron ---- */

static crank_tensor *mlp_forward(crank_graph *graph, lab_net *net, crank_tensor *x)
{
    size_t count = crank_linears_count(net->linears);
    for (size_t i = 0; i < count; i++) {
        x = lab_linear(graph, net, crank_linears_at(net->linears, i), x);
        if (i + 1 < count && net->activation >= 0) x = crank_unary((crank_unary_kind)net->activation, x);
    }
    return x;
}

static crank_status fill_normal(lab_net *net, crank_param *param, double deviation, crank_stream stream)
{
    size_t n = (size_t)crank_view_count(&param->view);
    float *values = crank_alloc(net->context, n, sizeof *values, "initial weights");
    if (!values) return CRANK_FAILED;
    crank_fill_normal(stream, 0, 0, (float)deviation, values, n);
    crank_status status = crank_param_write(net->context, param, values, CRANK_F32);
    crank_free(values);
    return status;
}

lab_net *lab_mlp(crank_context *context, const int64_t *sizes, int count, crank_unary_kind activation, bool bias, double gain, lab_loss loss,
                 uint64_t seed)
{
    lab_net     *net = lab_net_new(context, seed);
    crank_status status = net ? CRANK_OK : crank_last_status(context);
    for (int i = 0; status == CRANK_OK && i + 1 < count; i++) {
        char name[32];
        snprintf(name, sizeof name, "layers.%d", i);
        crank_linear *linear = lab_net_linear(net, name, sizes[i], sizes[i + 1], bias);
        status = linear ? fill_normal(net, linear->weight, gain / sqrt((double)sizes[i]), crank_stream_make(seed, CRANK_RANDOM_INIT, crank_hash_name(name)))
                        : crank_last_status(context);
    }
    if (status != CRANK_OK) {
        lab_net_free(net);
        return NULL;
    }
    net->forward = mlp_forward;
    net->activation = (int)activation;
    net->loss = loss;
    net->outputs = sizes[count - 1];
    return net;
}

/* ---- values ---- */

static float *read_param(lab_net *net, const crank_param *param)
{
    float *values = crank_alloc(net->context, (size_t)crank_view_count(&param->view), sizeof *values, param->name);
    if (values && crank_param_read(net->context, param, values, CRANK_F32) == CRANK_OK) return values;
    crank_free(values);
    return NULL;
}

crank_status lab_net_copy(lab_net *to, const lab_net *from)
{
    for (size_t i = 0; i < crank_params_count(from->params); i++) {
        const crank_param *source = crank_params_at(from->params, i);
        crank_param       *target = source->role == CRANK_ROLE_WEIGHT ? crank_params_find(to->params, source->name) : NULL;
        if (!target) continue;
        float       *values = read_param(to, source);
        crank_status status = values ? crank_param_write(to->context, target, values, CRANK_F32) : crank_last_status(to->context);
        crank_free(values);
        if (status != CRANK_OK) return status;
    }
    return CRANK_OK;
}

float *lab_weight(lab_net *net, const char *linear)
{
    const crank_linear *found = crank_linears_find(net->linears, linear);
    if (found) return read_param(net, found->weight);
    crank_fail(net->context, CRANK_USAGE, "the network has no linear %s", linear);
    return NULL;
}

crank_status lab_weight_set(lab_net *net, const char *linear, const float *values)
{
    const crank_linear *found = crank_linears_find(net->linears, linear);
    if (!found) return crank_fail(net->context, CRANK_USAGE, "the network has no linear %s", linear);
    return crank_param_write(net->context, found->weight, values, CRANK_F32);
}
