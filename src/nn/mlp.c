/* mlp.c - feed-forward blocks: gated (SwiGLU, Shazeer 2020, arXiv:2002.05202) and two-layer.
 *
 *     gated:  y = W_down (act(W_gate x) * W_up x)          two-layer:  y = W_down act(W_up x) */
#include "nn/nn.h"

crank_tensor *nn_mlp_forward(crank_graph *graph, const nn_mlp *mlp, crank_tensor *x)
{
    crank_tensor *hidden;
    if (mlp->gate) {
        crank_tensor *gate = crank_linear_forward(graph, mlp->gate, x);
        hidden = crank_glu(gate, crank_linear_forward(graph, mlp->up, x), mlp->activation);
    } else {
        hidden = crank_unary(mlp->activation, crank_linear_forward(graph, mlp->up, x));
    }
    return crank_linear_forward(graph, mlp->down, hidden);
}
