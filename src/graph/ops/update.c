/* update.c - operations that change parameters: assignment, the clip of a step, and the updates of the base optimisers.
 *
 * They are state operations: in place, run once, never moved across a reader, and left out of graphs that are not for
 * training. Formulas: crank/operations.h. */
#include "graph/graph.h"
#include "graph/ops/op.h"

static bool is_parameter(const crank_tensor *x)
{
    return x && tensor_root(x)->param;
}

static bool training(const crank_tensor *x)
{
    return !op_failed(x) && crank_graph_training(x->graph);
}

static crank_status check_scalars(crank_graph *graph, const crank_node *node, const crank_tensor *scalars)
{
    if (op_is_vector(scalars, CRANK_SCALARS, CRANK_F32, CRANK_F32)) return CRANK_OK;
    return op_refuse(graph, "%s: scalars %s must be the step scalars, f32 [%d]", node->op->name, op_shape(scalars).text,
                     CRANK_SCALARS);
}

/* A state operand of an update: a parameter with the dims of w. */
static crank_status check_state(crank_graph *graph, const crank_node *node, const crank_tensor *state,
                                crank_dtype dtype)
{
    const crank_tensor *w = node->inputs[0];
    if (is_parameter(state) && state->dtype == dtype && op_same_dims(state, w)) return CRANK_OK;
    return op_refuse(graph, "%s: state %s must be a %s parameter with the dims of %s", node->op->name,
                     op_shape(state).text, crank_dtype_name(dtype), op_shape(w).text);
}

/* w a float parameter, g its gradient in its type or f32. */
static crank_status check_update(crank_graph *graph, const crank_node *node, const crank_tensor *scalars)
{
    const crank_tensor *w = node->inputs[0], *g = node->inputs[1];
    if (!is_parameter(w) || !op_is_float(w))
        return op_refuse(graph, "%s: %s is no float parameter or view of one", node->op->name, op_shape(w).text);
    if (!g || !op_same_dims(g, w) || (g->dtype != w->dtype && g->dtype != op_wide(w->dtype)))
        return op_refuse(graph, "%s: gradient %s must have the dims of %s, and its type or f32", node->op->name,
                         op_shape(g).text, op_shape(w).text);
    return check_scalars(graph, node, scalars);
}

/* Output i is input j after the update. */
static void set_updated(crank_node *node, int i, int j)
{
    const crank_tensor *x = node->inputs[j];
    if (x) crank_set_output(node, i, x->dtype, x->rank, x->dims);
}

static double update_flops(const crank_node *node)
{
    return 12.0 * (double)op_count(node->inputs[0]);
}

/* ---- updates by rows ---- */

/* Scalars [rows, CRANK_SCALARS]: row i of w, g and the state is updated by row i of the scalars, as a tensor of its own. A 16-bit
 * parameter is refused, since the draws of its rounding are counted from the start of a tensor. */
static bool has_rows(const crank_tensor *scalars) { return scalars && scalars->rank == 2; }

static bool rows_fit(const crank_tensor *w, const crank_tensor *scalars)
{
    if (w->rank >= 1 && w->dims[0] == scalars->dims[0] && scalars->dims[1] == CRANK_SCALARS && w->dtype == op_wide(w->dtype))
        return true;
    op_refuse(w->graph, "an update of %s by rows: scalars %s must have a row for each of its rows, and it must be f32 or f64",
              op_shape(w).text, op_shape(scalars).text);
    return false;
}

static crank_tensor *row_of(crank_tensor *x, int64_t i) { return x ? crank_slice(x, 0, i, 1) : NULL; }

static crank_tensor *row_scalars(crank_tensor *scalars, int64_t i)
{
    return crank_reshape(row_of(scalars, i), 1, (const int64_t[]){CRANK_SCALARS});
}

/* ---- adamw: w, g, m, v, scalars -> w, m, v ---- */

static crank_status infer_adamw(crank_graph *graph, crank_node *node)
{
    crank_dtype wide = node->inputs[0] ? op_wide(node->inputs[0]->dtype) : CRANK_F32;
    crank_status status = check_update(graph, node, node->inputs[4]);
    if (status == CRANK_OK) status = check_state(graph, node, node->inputs[2], wide);
    if (status == CRANK_OK) status = check_state(graph, node, node->inputs[3], wide);
    if (status != CRANK_OK) return status;
    set_updated(node, 0, 0);
    set_updated(node, 1, 2);
    set_updated(node, 2, 3);
    return CRANK_OK;
}

const crank_op op_adamw = {.name = "adamw",
                           .infer = infer_adamw,
                           .attributes_size = sizeof(crank_adam_attributes),
                           .inplace = {1 + 0, 1 + 2, 1 + 3},
                           .state = true,
                           .flops = update_flops};

void crank_adamw(crank_tensor *w, crank_tensor *g, crank_tensor *m, crank_tensor *v, crank_tensor *scalars,
                 const crank_adam_attributes *attributes)
{
    if (!training(w)) return;
    if (has_rows(scalars)) {
        for (int64_t i = 0, n = rows_fit(w, scalars) ? w->dims[0] : 0; i < n; i++)
            crank_adamw(row_of(w, i), row_of(g, i), row_of(m, i), row_of(v, i), row_scalars(scalars, i), attributes);
        return;
    }
    crank_tensor *inputs[5] = {w, op_rows(g), m, v, scalars};
    crank_record(w->graph, &op_adamw, inputs, 5, attributes, 3, 7);
}

/* ---- adamw8bit: w, g, codes_m, codes_v, amax_m, amax_v, scalars -> w, codes_m, codes_v, amax_m, amax_v ---- */

enum { BLOCK = 256 }; /* elements that share one amax */

static crank_status infer_adamw8bit(crank_graph *graph, crank_node *node)
{
    crank_status status = check_update(graph, node, node->inputs[6]);
    if (status == CRANK_OK) status = check_state(graph, node, node->inputs[2], CRANK_U8);
    if (status == CRANK_OK) status = check_state(graph, node, node->inputs[3], CRANK_U8);
    if (status != CRANK_OK) return status;
    const crank_tensor *w = node->inputs[0];
    int64_t blocks = (op_count(w) + BLOCK - 1) / BLOCK;
    for (int j = 4; j < 6; j++)
        if (!is_parameter(node->inputs[j]) ||
            !op_is_vector(node->inputs[j], blocks, op_wide(w->dtype), op_wide(w->dtype)))
            return op_refuse(graph, "adamw8bit: amax %s must be a %s parameter [%lld]: one for each %d elements of %s",
                             op_shape(node->inputs[j]).text, crank_dtype_name(op_wide(w->dtype)), (long long)blocks,
                             BLOCK, op_shape(w).text);
    for (int j = 0; j < 4; j++)
        if (!op_is_contiguous(node->inputs[j]))
            return op_refuse(graph, "adamw8bit: operand %d, %s, must be contiguous: its blocks run through rows", j,
                             op_shape(node->inputs[j]).text);
    set_updated(node, 0, 0);
    for (int i = 1; i < 5; i++) set_updated(node, i, i + 1);
    return CRANK_OK;
}

const crank_op op_adamw8bit = {.name = "adamw8bit",
                               .infer = infer_adamw8bit,
                               .attributes_size = sizeof(crank_adam_attributes),
                               .inplace = {1 + 0, 1 + 2, 1 + 3, 1 + 4, 1 + 5},
                               .state = true,
                               .flops = update_flops};

void crank_adamw8bit(crank_tensor *w, crank_tensor *g, crank_tensor *codes_m, crank_tensor *codes_v,
                     crank_tensor *amax_m, crank_tensor *amax_v, crank_tensor *scalars,
                     const crank_adam_attributes *attributes)
{
    if (!training(w)) return;
    crank_tensor *inputs[7] = {w, crank_contiguous(g), codes_m, codes_v, amax_m, amax_v, scalars};
    crank_record(w->graph, &op_adamw8bit, inputs, 7, attributes, 5, 31);
}

/* ---- sgd: w, g, [buffer], scalars -> w, [buffer] ---- */

static crank_status infer_sgd(crank_graph *graph, crank_node *node)
{
    const crank_sgd_attributes *sgd = node->attributes;
    const crank_tensor *buffer = node->inputs[2];
    crank_status status = check_update(graph, node, node->inputs[3]);
    if (status != CRANK_OK) return status;
    if (!buffer && sgd->momentum != 0) return op_refuse(graph, "sgd: momentum %g needs a buffer", sgd->momentum);
    if (buffer && check_state(graph, node, buffer, op_wide(node->inputs[0]->dtype)) != CRANK_OK) return CRANK_USAGE;
    set_updated(node, 0, 0);
    set_updated(node, 1, 2);
    return CRANK_OK;
}

const crank_op op_sgd = {.name = "sgd",
                         .infer = infer_sgd,
                         .attributes_size = sizeof(crank_sgd_attributes),
                         .inplace = {1 + 0, 1 + 2},
                         .state = true};

void crank_sgd(crank_tensor *w, crank_tensor *g, crank_tensor *buffer, crank_tensor *scalars,
               const crank_sgd_attributes *attributes)
{
    if (!training(w)) return;
    if (has_rows(scalars)) {
        for (int64_t i = 0, n = rows_fit(w, scalars) ? w->dims[0] : 0; i < n; i++)
            crank_sgd(row_of(w, i), row_of(g, i), row_of(buffer, i), row_scalars(scalars, i), attributes);
        return;
    }
    crank_tensor *inputs[4] = {w, op_rows(g), buffer, scalars};
    crank_record(w->graph, &op_sgd, inputs, 4, attributes, 2, buffer ? 3 : 1);
}

/* ---- lion: w, g, m, scalars -> w, m ---- */

static crank_status infer_lion(crank_graph *graph, crank_node *node)
{
    crank_status status = check_update(graph, node, node->inputs[3]);
    if (status == CRANK_OK) status = check_state(graph, node, node->inputs[2], op_wide(node->inputs[0]->dtype));
    if (status != CRANK_OK) return status;
    set_updated(node, 0, 0);
    set_updated(node, 1, 2);
    return CRANK_OK;
}

const crank_op op_lion = {.name = "lion",
                          .infer = infer_lion,
                          .attributes_size = sizeof(crank_lion_attributes),
                          .inplace = {1 + 0, 1 + 2},
                          .state = true,
                          .flops = update_flops};

void crank_lion(crank_tensor *w, crank_tensor *g, crank_tensor *m, crank_tensor *scalars,
                const crank_lion_attributes *attributes)
{
    if (!training(w)) return;
    if (has_rows(scalars)) {
        for (int64_t i = 0, n = rows_fit(w, scalars) ? w->dims[0] : 0; i < n; i++)
            crank_lion(row_of(w, i), row_of(g, i), row_of(m, i), row_scalars(scalars, i), attributes);
        return;
    }
    crank_tensor *inputs[4] = {w, op_rows(g), m, scalars};
    crank_record(w->graph, &op_lion, inputs, 4, attributes, 2, 3);
}

/* ---- assign: x, target -> target ---- */

static crank_status infer_assign(crank_graph *graph, crank_node *node)
{
    const crank_tensor *x = node->inputs[0], *target = node->inputs[1];
    if (!is_parameter(target))
        return op_refuse(graph, "assign: the target %s is no parameter or view of one", op_shape(target).text);
    if (!op_is_float(x) || !op_is_float(target) || !op_same_dims(x, target))
        return op_refuse(graph, "assign: %s does not go into %s", op_shape(x).text, op_shape(target).text);
    set_updated(node, 0, 1);
    return CRANK_OK;
}

const crank_op op_assign = {.name = "assign",
                            .infer = infer_assign,
                            .attributes_size = sizeof(crank_assign_attributes),
                            .inplace = {1 + 1},
                            .state = true};

void crank_assign(crank_tensor *target, crank_tensor *value, bool add)
{
    if (!training(target)) return;
    crank_tensor *inputs[2] = {op_rows(value), target};
    crank_record(target->graph, &op_assign, inputs, 2, &(crank_assign_attributes){add}, 1, 1);
}

/* ---- check_finite: x [], scalars -> scalars ---- */

static crank_status infer_check_finite(crank_graph *graph, crank_node *node)
{
    const crank_tensor *x = node->inputs[0];
    if (!op_is_float(x) || x->rank != 0)
        return op_refuse(graph, "check_finite: %s is no float scalar", op_shape(x).text);
    if (check_scalars(graph, node, node->inputs[1]) != CRANK_OK) return CRANK_USAGE;
    set_updated(node, 0, 1);
    return CRANK_OK;
}

const crank_op op_check_finite = {
    .name = "check_finite", .infer = infer_check_finite, .inplace = {1 + 1}, .state = true};

void crank_check_finite(crank_tensor *scalar)
{
    if (!training(scalar)) return;
    crank_tensor *inputs[2] = {scalar, crank_step_scalars(scalar->graph)};
    crank_record(scalar->graph, &op_check_finite, inputs, 2, NULL, 1, 1);
}

/* ---- clip_scale: squares [k], scalars -> scalars, norm [] ---- */

static crank_status infer_clip_scale(crank_graph *graph, crank_node *node)
{
    const crank_tensor *squares = node->inputs[0];
    if (!op_is(squares, CRANK_F32, 1))
        return op_refuse(graph, "clip_scale: squares %s must be f32 [k]", op_shape(squares).text);
    if (check_scalars(graph, node, node->inputs[1]) != CRANK_OK) return CRANK_USAGE;
    set_updated(node, 0, 1);
    crank_set_output(node, 1, CRANK_F32, 0, NULL);
    return CRANK_OK;
}

const crank_op op_clip_scale = {.name = "clip_scale",
                                .infer = infer_clip_scale,
                                .attributes_size = sizeof(crank_clip_attributes),
                                .inplace = {1 + 1},
                                .state = true};

/* The sum of squares of a gradient, f32 [1]. */
static crank_tensor *square_norm(crank_tensor *gradient)
{
    unsigned all = (1u << gradient->rank) - 1;
    crank_tensor *sum = crank_cast(crank_reduce(CRANK_SUM_SQUARES, gradient, all, false), CRANK_F32);
    return crank_reshape(sum, 1, (int64_t[]){1});
}

/* Squares of more gradients than a node has inputs are joined level by level, see crank_concat. */
crank_tensor *crank_square_sums(crank_tensor *const *gradients, int count, crank_graph *graph)
{
    crank_tensor **squares =
        crank_alloc(crank_graph_context(graph), (size_t)count + 1, sizeof *squares, "a clip of gradients");
    if (!squares)
        return crank_graph_error(graph, CRANK_FAILED, "out of memory: recording a clip of %d gradients", count);
    int present = 0;
    for (int i = 0; i < count; i++)
        if (gradients[i]) squares[present++] = square_norm(gradients[i]);
    if (!present) squares[present++] = crank_fill(graph, CRANK_F32, 1, (int64_t[]){1}, 0);
    crank_tensor *joined = crank_concat(squares, present, 0);
    crank_free(squares);
    return joined;
}

crank_tensor *crank_clip_squares(crank_tensor *squares, double limit, crank_graph *graph)
{
    if (crank_graph_status(graph) == CRANK_OK && !crank_graph_training(graph))
        return crank_graph_error(graph, CRANK_USAGE, "clip_scale: the graph is not recorded for training");
    crank_tensor *inputs[2] = {squares, crank_step_scalars(graph)};
    crank_node   *node = crank_record(graph, &op_clip_scale, inputs, 2, &(crank_clip_attributes){limit}, 2, 3);
    return node ? node->outputs[1] : squares;
}

crank_tensor *crank_clip_scale(crank_tensor *const *gradients, int count, double limit, crank_graph *graph)
{
    return crank_clip_squares(crank_square_sums(gradients, count, graph), limit, graph);
}
