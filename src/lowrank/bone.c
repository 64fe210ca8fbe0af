/* bone.c - Bat, the block affine transformation that first was called Bone (Kang 2024, arXiv:2409.15371).
 *
 * W is cut into shards W_ac [r, r], a = 0..out/r-1, c = 0..in/r-1; a small tensor, zero at the start, multiplies each and is added:
 *
 *     dW_ac = W_ac B + B          B = B_a          col    out r parameters (PEFT's)
 *                                     B_c          row    in r
 *                                     B_(a%p)(c%q) free   p q r^2
 *     dW_ac = W_ac A_c + B_c                       ab     2 in r
 *     y     = y0 + x dW^T                          scale 1; dW may have full rank
 *
 * side=out multiplies from the other side, with tensors of the output shards: dW_ac = B_a W_ac + B_a.
 *
 * row, ab and side=out never build dW and never read W: with x~_c = B_c x_c and s = sum_c x_c
 *
 *     row       y = y0 + below(x~) + tile(sum_c x~_c)           ab: below(A_c x_c) + tile(sum_c B_c x_c)
 *     out       y_a = y0_a + B_a (y0_a + s)
 *
 * col and free build dW once a graph from the weight below: the base's, or, where other maps stand there, what they make of unit rows. */
#include <string.h>

#include "linear/stack.h"
#include "lowrank/dense.h"
#include "lowrank/miss_peft.h"
#include "lowrank/small.h"

typedef struct {
    int64_t     rank, rows, columns;
    const char *mode, *side;
} options;

typedef struct {
    crank_param *B;     /* [out/r, r, r], [in/r, r, r] or [p q, r, r] */
    crank_param *A;     /* [in/r, r, r] of ab */
    crank_param *count; /* [in]: 0, 1, .., for unit rows */
} state;

static const crank_option option_table[] = {
    CRANK_INT(options, rank, 4, 1, 65536, "width r of the shards; divides inputs and outputs"),
    CRANK_CHOICE(options, mode, "col", "col|row|free|ab", "which shards share a tensor: those of one output block, of one input block, a periodic pattern; ab: input blocks with two tensors"),
    CRANK_CHOICE(options, side, "in", "in|out", "the tensor multiplies a shard from its input or its output side (out: mode col)"),
    CRANK_INT(options, rows, 1, 1, 1000000000, "free: period over output blocks"),
    CRANK_INT(options, columns, 1, 1, 1000000000, "free: period over input blocks"),
    CRANK_END
};

static bool is_mode(const options *o, const char *mode) { return strcmp(o->mode, mode) == 0; }
static bool is_out(const options *o) { return strcmp(o->side, "out") == 0; }

static crank_param *tensors(crank_context *context, crank_site *site, const char *name, int64_t count)
{
    int64_t r = ((const options *)site->options)->rank;
    return crank_site_param(context, site, name, CRANK_F32, 3, (const int64_t[]){count, r, r}, true);
}

static crank_status make_count(crank_context *context, crank_site *site, state *st)
{
    int64_t in = site->linear->in;
    st->count = crank_site_state(context, site, "count", CRANK_ROLE_CACHE, CRANK_F32, 1, &in);
    if (!st->count) return crank_last_status(context);
    if (!st->count->view.data) return CRANK_OK;
    float *values = crank_alloc(context, (size_t)in, sizeof *values, "unit rows");
    for (int64_t i = 0; values && i < in; i++) values[i] = (float)i;
    crank_status status = values ? crank_param_write(context, st->count, values, CRANK_F32) : CRANK_FAILED;
    crank_free(values);
    return status;
}

static crank_status attach(crank_context *context, crank_site *site)
{
    const options      *o = site->options;
    state              *st = site->state;
    const crank_linear *linear = site->linear;
    int64_t             r = o->rank, a = linear->out / r, c = linear->in / r;
    if (linear->in % r || linear->out % r)
        return crank_fail(context, CRANK_USAGE, "%s: rank %lld must divide its %lld inputs and %lld outputs", linear->name, (long long)r, (long long)linear->in,
                          (long long)linear->out);
    if (is_out(o) && !is_mode(o, "col")) return crank_fail(context, CRANK_USAGE, "side: out has one tensor an output block: mode must be col, not %s", o->mode);
    if (is_mode(o, "free") && (a % o->rows || c % o->columns))
        return crank_fail(context, CRANK_USAGE, "%s: periods %lld and %lld must divide its %lld and %lld blocks", linear->name, (long long)o->rows,
                          (long long)o->columns, (long long)a, (long long)c);
    st->B = tensors(context, site, "B", is_mode(o, "col") ? a : is_mode(o, "free") ? o->rows * o->columns : c);
    if (is_mode(o, "ab")) st->A = tensors(context, site, "A", c);
    if (!st->B || (is_mode(o, "ab") && !st->A)) return crank_last_status(context);
    return is_mode(o, "free") || (is_mode(o, "col") && !is_out(o)) ? make_count(context, site, st) : CRANK_OK;
}

/* ---- the weight below ---- */

static bool alone(const crank_site *site)
{
    const linear_stack *stack = stack_of(site->linear);
    for (int i = 0; i < stack->count && stack->sites[i] != site; i++)
        if (attachment_acts(stack->attachments[i])) return false;
    return site->linear->weight != NULL;
}

/* W [out, in] in f32 (f64 in an f64 graph), contiguous. */
static crank_tensor *weight_below(crank_graph *graph, const crank_site *site, crank_dtype wide)
{
    const state *st = site->state;
    int64_t      in = site->linear->in;
    if (alone(site)) return crank_cast(crank_use(graph, site->linear->weight), wide);
    crank_tensor *count = crank_use(graph, st->count);
    crank_tensor *unit = crank_binary(CRANK_EQ, crank_reshape(count, 2, (const int64_t[]){in, 1}), crank_reshape(count, 2, (const int64_t[]){1, in}));
    crank_tensor *rows = crank_linear_below(graph, site, crank_cast(unit, crank_graph_compute(graph))); /* [in, out] */
    return crank_contiguous(crank_cast(crank_transpose(rows, 0, 1), wide));
}

/* dW of col: W seen as [out/r, r in/r, r] times B_a. */
static crank_tensor *change_of_columns(crank_tensor *W, crank_tensor *B, int64_t a, int64_t c, int64_t r)
{
    crank_tensor *shards = crank_reshape(W, 3, (const int64_t[]){a, r * c, r});
    crank_tensor *product = crank_reshape(crank_matmul(shards, false, B, false), 4, (const int64_t[]){a, r, c, r});
    return crank_add(product, crank_reshape(B, 4, (const int64_t[]){a, r, 1, r}));
}

/* dW of free: shards [out/r in/r, r, r] times the tensors, repeated with periods p and q. */
static crank_tensor *change_of_periods(crank_tensor *W, crank_tensor *B, const options *o, int64_t a, int64_t c, int64_t r)
{
    int64_t       p = o->rows, q = o->columns;
    crank_tensor *shards = crank_contiguous(crank_transpose(crank_reshape(W, 4, (const int64_t[]){a, r, c, r}), 1, 2)); /* [a, c, r, r] */
    crank_tensor *wide = crank_broadcast(crank_reshape(B, 5, (const int64_t[]){p, q, 1, r, r}), 5, (const int64_t[]){p, q, c / q, r, r});
    wide = crank_reshape(crank_contiguous(crank_transpose(wide, 1, 2)), 4, (const int64_t[]){1, p, c * r, r}); /* row (c' q + j) of block i */
    wide = crank_contiguous(crank_broadcast(wide, 4, (const int64_t[]){a / p, p, c * r, r}));
    wide = crank_reshape(wide, 3, (const int64_t[]){a * c, r, r});
    crank_tensor *product = crank_add(crank_matmul(crank_reshape(shards, 3, (const int64_t[]){a * c, r, r}), false, wide, false), wide);
    return crank_transpose(crank_reshape(product, 4, (const int64_t[]){a, c, r, r}), 1, 2); /* [a, r, c, r] */
}

static bool builds(const options *o) { return is_mode(o, "free") || (is_mode(o, "col") && !is_out(o)); }

/* dW [out, in], rounded once to the compute type. */
static void derive(crank_graph *graph, crank_site *site)
{
    const options *o = site->options;
    const state   *st = site->state;
    crank_dtype    compute = crank_graph_compute(graph), wide = compute == CRANK_F64 ? CRANK_F64 : CRANK_F32;
    int64_t        r = o->rank, a = site->linear->out / r, c = site->linear->in / r;
    if (!builds(o)) return;
    crank_tensor *W = weight_below(graph, site, wide), *B = crank_cast(crank_use(graph, st->B), wide);
    if (crank_graph_status(graph) != CRANK_OK) return;
    crank_tensor *change = is_mode(o, "col") ? change_of_columns(W, B, a, c, r) : change_of_periods(W, B, o, a, c, r);
    change = crank_reshape(crank_contiguous(change), 2, (const int64_t[]){site->linear->out, site->linear->in});
    crank_site_put(graph, site, "dW", crank_cast(change, compute));
}

/* ---- forward ---- */

/* v [n, k r] -> the tensors on its blocks: [n, k, r] of B_k v_k */
static crank_tensor *on_blocks(crank_graph *graph, crank_param *tensor, crank_tensor *v, int64_t r)
{
    int64_t       n = v->dims[0], k = v->dims[1] / r;
    crank_tensor *blocks = crank_transpose(crank_reshape(crank_contiguous(v), 3, (const int64_t[]){n, k, r}), 0, 1); /* [k, n, r] */
    crank_tensor *B = crank_cast(crank_use(graph, tensor), crank_graph_compute(graph));
    return crank_contiguous(crank_transpose(crank_matmul(crank_contiguous(blocks), false, B, true), 0, 1));
}

/* [n, k, r] -> the sum over k, once for each of `copies` blocks: [n, copies r] */
static crank_tensor *tiled_sum(crank_graph *graph, crank_tensor *blocks, int64_t copies)
{
    int64_t       n = blocks->dims[0], r = blocks->dims[2];
    crank_tensor *sum = crank_cast(crank_reduce(CRANK_SUM, blocks, 1u << 1, true), crank_graph_compute(graph)); /* [n, 1, r] */
    return crank_reshape(crank_contiguous(crank_broadcast(sum, 3, (const int64_t[]){n, copies, r})), 2, (const int64_t[]){n, copies * r});
}

static crank_tensor *flat(crank_tensor *blocks)
{
    return crank_reshape(blocks, 2, (const int64_t[]){blocks->dims[0], blocks->dims[1] * blocks->dims[2]});
}

/* x [n, in], y0 [n, out] from what stands below -> y [n, out] */
static crank_tensor *forward(crank_graph *graph, crank_site *site, crank_tensor *x, crank_tensor *y0)
{
    const options *o = site->options;
    const state   *st = site->state;
    int64_t        r = o->rank, a = site->linear->out / r;
    if (crank_graph_status(graph) != CRANK_OK) return y0;
    if (builds(o) && dense_serves(graph, site)) return dense_forward(graph, site, x, crank_site_get(graph, site, "dW"));
    if (builds(o)) return crank_matmul_full(x, false, crank_site_get(graph, site, "dW"), true, 1, NULL, y0, CRANK_DTYPES);
    if (is_out(o)) {
        crank_tensor *shards = crank_reshape(crank_contiguous(x), 3, (const int64_t[]){x->dims[0], x->dims[1] / r, r});
        return crank_add(y0, flat(on_blocks(graph, st->B, crank_add(y0, tiled_sum(graph, shards, a)), r)));
    }
    crank_tensor *added = on_blocks(graph, st->B, x, r), *moved = st->A ? on_blocks(graph, st->A, x, r) : added;
    return crank_add(y0, crank_add(crank_linear_below(graph, site, flat(moved)), tiled_sum(graph, added, a)));
}

/* ---- the way back from a merge ----
 *
 * W'_ac = W_ac (I + M) + B with M = B, or A of ab, so W_ac = (W'_ac - B) (I + M)^-1; side=out: W_ac = (I + B)^-1 (W'_ac - B). */

static int64_t tensor_of(const options *o, int64_t a, int64_t c)
{
    return is_mode(o, "col") ? a : is_mode(o, "free") ? a % o->rows * o->columns + c % o->columns : c;
}

/* The shard of W [.., in] at (a, c). */
static void unmerge_shard(double *W, int64_t in, int64_t r, const double *B, const double *inverse, bool left, double *spare)
{
    for (int64_t i = 0; i < r; i++)
        for (int64_t j = 0; j < r; j++) spare[i * r + j] = W[i * in + j] - B[i * r + j];
    for (int64_t i = 0; i < r; i++)
        for (int64_t j = 0; j < r; j++) {
            double sum = 0;
            for (int64_t k = 0; k < r; k++) sum += left ? inverse[i * r + k] * spare[k * r + j] : spare[i * r + k] * inverse[k * r + j];
            W[i * in + j] = sum;
        }
}

static crank_status unmerge(crank_context *context, crank_site *site, double *W, double *bias)
{
    const options *o = site->options;
    const state   *st = site->state;
    int64_t        r = o->rank, in = site->linear->in, count = st->B->view.dims[0];
    double        *B = small_read(context, st->B), *inverse = small_read(context, st->A ? st->A : st->B);
    double        *spare = crank_alloc(context, (size_t)(r * r), sizeof *spare, "a shard");
    crank_status   status = B && inverse && spare ? CRANK_OK : crank_last_status(context);
    (void)bias;
    for (int64_t t = 0; status == CRANK_OK && t < count; t++) status = small_inverse_plus(context, site->linear, inverse + t * r * r, r, inverse + t * r * r);
    for (int64_t a = 0; status == CRANK_OK && a < site->linear->out / r; a++)
        for (int64_t c = 0; c < in / r; c++) {
            int64_t t = tensor_of(o, a, c) * r * r;
            unmerge_shard(W + a * r * in + c * r, in, r, B + t, inverse + t, is_out(o), spare);
        }
    crank_free(B), crank_free(inverse), crank_free(spare);
    return status;
}

/* ---- PEFT: mode col, side in ---- */

static bool peft_holds(const crank_site *site)
{
    const options *o = site->options;
    return is_mode(o, "col") && !is_out(o);
}

static char *peft_config(crank_context *context, const crank_site *site)
{
    return miss_peft_config(context, ((const options *)site->options)->rank, 0, "bat", 1);
}

static crank_status peft_options(crank_context *context, const char *config, void *out) { return miss_peft_options(context, config, option_table, out); }

static const char *peft_name(const crank_site *site, const char *name)
{
    (void)site, (void)name;
    return "miss_block";
}

const crank_map crank_map_bone = {
    .name         = "bone",
    .paper        = "arXiv:2409.15371",
    .summary      = "multiplies the shards of a frozen weight by small tensors and adds these (Bat)",
    .options      = option_table,
    .options_size = sizeof(options),
    .state_size   = sizeof(state),
    .affine       = true,
    .attach       = attach,
    .derive       = derive,
    .forward      = forward,
    .unmerge      = unmerge,
    .peft_type    = "MISS",
    .peft_holds   = peft_holds,
    .peft_config  = peft_config,
    .peft_options = peft_options,
    .peft_name    = peft_name,
};
