/* dense.c - one product with the changed weight. */
#include "lowrank/dense.h"

#include "linear/stack.h"

bool dense_serves(crank_graph *graph, const crank_site *site)
{
    const crank_linear *linear = site->linear;
    const linear_stack *stack = stack_of(linear);
    crank_dtype         compute = crank_graph_compute(graph);
    if (compute != CRANK_F32 && compute != CRANK_F64) return false;
    if (linear->kind != CRANK_LINEAR_DENSE || !linear->weight || !crank_dtype_is_float(linear->weight->view.dtype) || crank_dtype_bits(linear->weight->view.dtype) < 16) return false;
    for (int i = 0; i < stack->count && stack->sites[i] != site; i++)
        if (attachment_acts(stack->attachments[i])) return false;
    return true;
}

crank_tensor *dense_forward(crank_graph *graph, const crank_site *site, crank_tensor *x, crank_tensor *dW)
{
    crank_tensor *W = linear_use(graph, site->linear, site->linear->weight);
    return crank_matmul(x, false, crank_add(W, dW), true);
}
