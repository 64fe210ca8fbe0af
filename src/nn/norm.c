/* norm.c - layer norm and root mean square norm with their parameters, and parameters as operands.
 *
 *     centred:  y = (x - mean x) / sqrt(var x + epsilon) * w + b        else:  y = x / sqrt(mean x^2 + epsilon) * w */
#include "nn/nn.h"

crank_tensor *nn_weight(crank_graph *graph, crank_param *param)
{
    crank_tensor *weight = crank_use(graph, param);
    return weight->dtype == CRANK_F32 && crank_graph_compute(graph) != CRANK_F64
               ? weight
               : crank_cast(weight, crank_graph_compute(graph));
}

crank_tensor *nn_norm_forward(crank_graph *graph, const nn_norm *norm, crank_tensor *x)
{
    if (!norm->weight) return x;
    crank_tensor *weight = nn_weight(graph, norm->weight);
    if (!norm->centred) return crank_rmsnorm(x, weight, norm->epsilon);
    return crank_layernorm(x, weight, norm->bias ? nn_weight(graph, norm->bias) : NULL, norm->epsilon);
}
