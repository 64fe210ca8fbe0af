/* adafactor.c - second moments kept as one number a row and a column (Shazeer & Stern 2018, arXiv:1804.04235).
 *
 *     b2t = 1 - t^decay_rate;   u = g^2 + epsilon
 *     matrix:  row = b2t row + (1 - b2t) mean_columns(u);   col = b2t col + (1 - b2t) mean_rows(u)
 *              U = g rsqrt(row / mean(row)) rsqrt(col)
 *     vector:  v = b2t v + (1 - b2t) u;   U = g rsqrt(v)
 *     U /= max(1, RMS(U) / clip_threshold);   U *= rate_t;   with beta1: m = b1 m + (1 - b1) U, U = m
 *     w -= rate_t decay w;   w -= U
 *
 * as in transformers' implementation. rate_t is the run's rate; `relative_step` replaces it by min(1e-2, 1 / sqrt(t)), and
 * `scale_parameter` multiplies it by max(1e-3, RMS(w)). State of [m, n]: m + n numbers. Tensors of higher rank are factored in their
 * last two dims. */
#include "optim/optim.h"

typedef struct {
    double decay_rate, epsilon, clip_threshold, beta1;
    bool   relative_step, scale_parameter;
} options;

typedef struct {
    crank_param *row, *col; /* [.., m, 1], [.., 1, n]; NULL for a vector */
    crank_param *v;         /* of a vector, like it */
    crank_param *m;         /* with beta1, like the parameter */
} state;

static const crank_option option_table[] = {
    CRANK_FLOAT(options, decay_rate, -0.8, -10, 0, "the second moments' decay at step t is 1 - t^decay_rate"),
    CRANK_FLOAT(options, epsilon, 1e-30, 0, 1, "added to the squared gradient"),
    CRANK_FLOAT(options, clip_threshold, 1, 1e-6, 1e9, "largest root mean square of an update before the rate"),
    CRANK_FLOAT(options, beta1, 0, 0, 0.999999, "decay of a first moment; 0 keeps none"),
    CRANK_BOOL(options, relative_step, false, "rate min(1e-2, 1 / sqrt(t)) instead of the run's"),
    CRANK_BOOL(options, scale_parameter, false, "rate times max(1e-3, root mean square of the weight)"),
    CRANK_END
};

static crank_status attach(crank_context *context, crank_unit *unit)
{
    const options    *opt = unit->options;
    const crank_view *view = &unit->param->view;
    state            *st = unit->state;
    if (view->rank >= 2) {
        int64_t row[CRANK_MAX_RANK], col[CRANK_MAX_RANK];
        for (int i = 0; i < view->rank; i++) row[i] = col[i] = view->dims[i];
        row[view->rank - 1] = col[view->rank - 2] = 1;
        st->row = crank_unit_param(context, unit, "row", optim_wide(unit), view->rank, row);
        st->col = crank_unit_param(context, unit, "col", optim_wide(unit), view->rank, col);
        if (!st->row || !st->col) return crank_last_status(context);
    } else if (!(st->v = optim_like(context, unit, "v"))) {
        return crank_last_status(context);
    }
    if (opt->beta1 > 0 && !(st->m = optim_like(context, unit, "m"))) return crank_last_status(context);
    return CRANK_OK;
}

/* old += (1 - b2t) (now - old) */
static crank_tensor *blend(crank_graph *graph, const crank_unit *unit, crank_param *kept, crank_tensor *now, crank_tensor *share)
{
    crank_tensor *old = crank_use(graph, kept), *fresh = crank_add(old, crank_mul(crank_sub(now, old), share));
    optim_set(graph, unit, old, fresh);
    return fresh;
}

static crank_tensor *root_mean_square(crank_tensor *x)
{
    int64_t n = 1;
    for (int i = 0; i < x->rank; i++) n *= x->dims[i];
    return crank_unary(CRANK_SQRT, crank_scale(crank_reduce(CRANK_SUM_SQUARES, x, (1u << x->rank) - 1, false), 1.0 / (double)(n > 0 ? n : 1)));
}

/* g over the root of the second moments */
static crank_tensor *direction(crank_graph *graph, const crank_unit *unit, crank_tensor *g, crank_tensor *t)
{
    const options *opt = unit->options;
    const state   *st = unit->state;
    int            rank = g->rank;
    crank_tensor  *share = crank_unary(CRANK_EXP, crank_scale(crank_unary(CRANK_LOG, t), opt->decay_rate)); /* t^decay_rate = 1 - b2t */
    crank_tensor  *u = crank_affine(crank_unary(CRANK_SQUARE, g), 1, opt->epsilon);
    if (st->v) return crank_mul(g, crank_unary(CRANK_RSQRT, blend(graph, unit, st->v, u, share)));
    crank_tensor *row = blend(graph, unit, st->row, crank_reduce(CRANK_MEAN, u, 1u << (rank - 1), true), share);
    crank_tensor *col = blend(graph, unit, st->col, crank_reduce(CRANK_MEAN, u, 1u << (rank - 2), true), share);
    crank_tensor *mean = crank_reduce(CRANK_MEAN, row, 1u << (rank - 2), true);
    return crank_mul(crank_mul(g, crank_unary(CRANK_RSQRT, crank_div(row, mean))), crank_unary(CRANK_RSQRT, col));
}

static crank_tensor *rate_of(crank_graph *graph, const crank_unit *unit, crank_tensor *t)
{
    const options *opt = unit->options;
    crank_tensor  *rate = optim_rate(graph, unit);
    if (opt->relative_step) {
        crank_tensor *falling = crank_unary(CRANK_RSQRT, t);
        rate = crank_binary(CRANK_MIN, falling, crank_affine(falling, 0, 1e-2));
    }
    if (!opt->scale_parameter) return rate;
    crank_tensor *size = root_mean_square(crank_cast(crank_use(graph, unit->param), optim_wide(unit)));
    return crank_mul(rate, crank_binary(CRANK_MAX, size, crank_affine(size, 0, 1e-3)));
}

static void update(crank_graph *graph, crank_unit *unit, crank_tensor *gradient)
{
    const options *opt = unit->options;
    const state   *st = unit->state;
    crank_tensor  *t = optim_scalar(graph, unit, CRANK_SCALAR_STEP), *rate = rate_of(graph, unit, t);
    crank_tensor  *U = direction(graph, unit, optim_gradient(graph, unit, gradient), t);
    crank_tensor  *size = crank_scale(root_mean_square(U), 1 / opt->clip_threshold);
    crank_tensor  *step = crank_mul(crank_div(U, crank_binary(CRANK_MAX, size, crank_affine(size, 0, 1))), rate);
    if (st->m) {
        crank_tensor *m = crank_use(graph, st->m);
        step = crank_add(crank_scale(m, opt->beta1), crank_scale(step, 1 - opt->beta1));
        optim_set(graph, unit, m, step);
    }
    if (unit->decay != 0) {
        crank_tensor *w = crank_cast(crank_use(graph, unit->param), optim_wide(unit));
        step = crank_add(step, crank_mul(w, crank_scale(rate, unit->decay)));
    }
    optim_move(graph, unit, step);
}

const crank_optimizer crank_optimizer_adafactor = {
    .name         = "adafactor",
    .paper        = "arXiv:1804.04235",
    .summary      = "second moments factored into rows and columns",
    .options      = option_table,
    .options_size = sizeof(options),
    .state_size   = sizeof(state),
    .attach       = attach,
    .update       = update,
};
