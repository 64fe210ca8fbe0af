/* muon.c - momentum made nearly orthogonal (Jordan et al. 2024, "Muon: an optimizer for hidden layers").
 *
 *     b += (1 - mu) (g - b);   u = g + mu (b - g)                       (nesterov: false: u = b)
 *     X = u / (|u|_F + 1e-7), transposed where rows > columns
 *     5 times:  A = X X^T;  X = a X + (b A + c A A) X                   a, b, c = 3.4445, -4.7750, 2.0315
 *     w *= 1 - rate decay;   w -= rate sqrt(max(1, rows / columns)) X
 *
 * for the matrices of layers; all other parameters are moved by `inner` at `inner_rate` times the rate. The iteration is computed in
 * the type of moments (the reference computes it in bf16), and brings singular values into about 0.5 .. 1.5. */
#include <math.h>

#include "optim/inner.h"

typedef struct {
    double      momentum;
    bool        nesterov;
    int64_t     iterations;
    const char *targets, *inner, *inner_options;
    double      inner_rate;
} options;

typedef struct {
    crank_param *buffer; /* NULL: the inner optimiser has the unit */
    crank_unit   inner;
} state;

static const crank_option option_table[] = {
    CRANK_FLOAT(options, momentum, 0.95, 0, 0.999999, "mu of the moving mean of gradients"),
    CRANK_BOOL(options, nesterov, true, "look ahead by one step of momentum"),
    CRANK_INT(options, iterations, 5, 1, 50, "steps of the Newton-Schulz iteration"),
    CRANK_CHOICE(options, targets, "layers", "layers|matrices", "matrices inside of the model's layers, or all"),
    CRANK_STRING(options, inner, "adamw", "optimiser of all other parameters"),
    CRANK_MAP(options, inner_options, "beta2=0.95\nepsilon=1e-10", "its options"),
    CRANK_FLOAT(options, inner_rate, 0.015, 0, 1e6, "its rate over the run's"),
    CRANK_END
};

static crank_status attach(crank_context *context, crank_unit *unit)
{
    const options *opt = unit->options;
    state         *st = unit->state;
    crank_status   status = inner_choose(context, "muon", opt->inner, opt->inner_options, NULL, unit->model);
    if (status != CRANK_OK) return status;
    if (unit->param->view.rank != 2 || (unit->block < 0 && opt->targets[0] == 'l')) return inner_attach(context, unit->model, unit, NULL, &st->inner);
    st->buffer = optim_like(context, unit, "buffer");
    return st->buffer ? CRANK_OK : crank_last_status(context);
}

/* u [m,n], m <= n, near to the nearest matrix with orthonormal rows */
static crank_tensor *orthogonalised(crank_tensor *u, int64_t iterations)
{
    crank_tensor *norm = crank_unary(CRANK_SQRT, crank_reduce(CRANK_SUM_SQUARES, u, 3, true));
    crank_tensor *X = crank_div(u, crank_affine(norm, 1, 1e-7));
    for (int64_t i = 0; i < iterations; i++) {
        crank_tensor *A = crank_matmul(X, false, X, true);
        crank_tensor *B = crank_matmul_full(A, false, A, false, 2.0315, NULL, crank_scale(A, -4.7750), CRANK_DTYPES);
        X = crank_matmul_full(B, false, X, false, 1, NULL, crank_scale(X, 3.4445), CRANK_DTYPES);
    }
    return X;
}

static void update(crank_graph *graph, crank_unit *unit, crank_tensor *gradient)
{
    const options *opt = unit->options;
    state         *st = unit->state;
    if (!st->buffer) {
        crank_unit scaled = *unit;
        scaled.rate_factor *= opt->inner_rate;
        inner_update(graph, &scaled, &st->inner, gradient);
        return;
    }
    crank_tensor *g = optim_gradient(graph, unit, gradient), *buffer = crank_use(graph, st->buffer);
    crank_tensor *b = crank_add(buffer, crank_scale(crank_sub(g, buffer), 1 - opt->momentum));
    crank_tensor *u = opt->nesterov ? crank_add(g, crank_scale(crank_sub(b, g), opt->momentum)) : b;
    bool          tall = u->rank == 2 && u->dims[0] > u->dims[1];
    crank_tensor *X = orthogonalised(tall ? crank_contiguous(crank_transpose(u, 0, 1)) : u, opt->iterations);
    if (tall) X = crank_transpose(X, 0, 1);
    crank_tensor *size = crank_scale(optim_rate(graph, unit), tall ? sqrt((double)u->dims[0] / (double)u->dims[1]) : 1);
    optim_move(graph, unit, optim_decayed(graph, unit, crank_mul(X, size), false));
    optim_set(graph, unit, buffer, b);
}

static void release(crank_unit *unit)
{
    if (unit->param)
        inner_release(&((state *)unit->state)->inner);
    else
        inner_forget(unit->model);
}

const crank_optimizer crank_optimizer_muon = {
    .name             = "muon",
    .paper            = "kellerjordan.github.io/posts/muon",
    .summary          = "momentum of each layer's matrices, made nearly orthogonal",
    .options          = option_table,
    .options_size     = sizeof(options),
    .state_size       = sizeof(state),
    .model_state_size = sizeof(inner_choice),
    .attach           = attach,
    .update           = update,
    .release          = release,
};
