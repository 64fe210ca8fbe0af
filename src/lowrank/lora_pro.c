/* lora_pro.c - LoRA whose update is the best low-rank stand-in for the full one (Wang et al. 2024, arXiv:2407.18242).
 *
 * A change (gA, gB) of the factors acts on the weight like g = s B gA + s gB A. With gA_l = s B^T G and gB_l = s G A^T the ordinary
 * gradients, the pair whose g is nearest to G is, for any X [r, r],
 *
 *     gA = (B^T B)^-1 gA_l / s^2 + X A
 *     gB = (I - B (B^T B)^-1 B^T) gB_l (A A^T)^-1 / s^2 - B X
 *
 * X is chosen to stay nearest to the ordinary gradients: B^T B X + X A A^T = -(B^T B)^-1 gA_l A^T / s^2 (Sylvester), solved with the
 * eigenvectors of both Gram matrices, which give the inverses as well. Directions below 1e-7 of the largest eigenvalue are left out: with
 * B = 0 nothing of (B^T B)^-1 stays, which is the first step's formula.
 *
 *     full        Adam's moments of g [out, in]; with D the step that they give, (s B^T D, s D A^T) is adjusted again and taken as it is
 *     efficient   Adam's moments of the adjusted pair
 *     sgd         the adjusted pair itself
 *
 * `limit` clips |g| of each linear, which the r x r products give without g: s^2 (<B^T B gA + 2 B^T gB A, gA> + <gB^T gB A, A>); the norm of
 * the ordinary gradients, which train.clip reads, says little about g where B is small.
 *
 * Moments in bf16 halve the memory of mode full. They are rounded stochastically, as 1 - beta2 of the second moment is below half a step of
 * bf16: rounding to the nearest would let it stand still.
 *
 * The method moves A and B itself. With `compat` s = 2 and Adam's step count runs one ahead, as in the authors' code. */
#include <math.h>
#include <string.h>

#include "lowrank/pair.h"

typedef struct {
    int64_t     rank;
    double      alpha, dropout, beta1, beta2, epsilon, decay, delta, limit;
    bool        rslora, compat;
    const char *mode, *x, *moments;
} options;

typedef struct {
    pair         factors;
    crank_param *M, *V;             /* full: [out, in] */
    crank_param *mA, *vA, *mB, *vB; /* efficient */
} state;

static const crank_option option_table[] = {
    CRANK_INT(options, rank, 8, 1, 4096, "rank r of the update"),
    CRANK_FLOAT(options, alpha, 16, 0, 1e9, "the update is scaled by alpha / sqrt(rank), or by alpha / rank without rslora"),
    CRANK_BOOL(options, rslora, true, "scale by alpha / sqrt(rank)"),
    CRANK_FLOAT(options, dropout, 0, 0, 0.999, "share of the inputs of the update's branch that is dropped (the gradient is then not that of the weight)"),
    CRANK_CHOICE(options, mode, "full", "full|efficient|sgd", "moments of the equivalent gradient (as large as the weight), of the adjusted pair, or none"),
    CRANK_CHOICE(options, x, "sylvester", "sylvester|zero|symmetry", "how the free matrix X is chosen"),
    CRANK_CHOICE(options, moments, "f32", "f32|bf16", "type of the moments; bf16 is rounded stochastically"),
    CRANK_FLOAT(options, beta1, 0.9, 0, 0.9999, "decay of the first moment"),
    CRANK_FLOAT(options, beta2, 0.999, 0, 0.999999, "decay of the second moment"),
    CRANK_FLOAT(options, epsilon, 1e-8, 0, 1, "added to the root of the second moment"),
    CRANK_FLOAT(options, decay, 0, 0, 1e6, "weight decay of the factors"),
    CRANK_FLOAT(options, delta, 1e-8, 0, 1, "added to eigenvalues, as a share of their mean"),
    CRANK_FLOAT(options, limit, 0, 0, 1e9, "largest norm of a linear's stand-in for the gradient; 0: none"),
    CRANK_BOOL(options, compat, false, "s = 2 in the adjustment and a step count that is one ahead, as in the authors' code"),
    CRANK_END
};

static bool is(const char *text, const char *other) { return strcmp(text, other) == 0; }

static crank_param *moment(crank_context *context, crank_site *site, const char *name, int64_t rows, int64_t columns)
{
    crank_dtype dtype = is(((const options *)site->options)->moments, "bf16") ? CRANK_BF16 : CRANK_F32;
    return crank_site_state(context, site, name, CRANK_ROLE_STATE, dtype, 2, (const int64_t[]){ rows, columns });
}

static crank_status attach(crank_context *context, crank_site *site)
{
    const options *o = site->options;
    state         *st = site->state;
    int64_t        r = o->rank, in = site->linear->in, out = site->linear->out;
    if (r > (in < out ? in : out))
        return crank_fail(context, CRANK_USAGE, "%s is a %lld x %lld map: a rank of %lld is more than it has; lower lowrank.rank, or give it one by rank_pattern",
                          site->linear->name, (long long)out, (long long)in, (long long)r);
    pair_options plain = { .rank = r, .alpha = o->alpha, .rslora = o->rslora, .init = "kaiming", .lora_plus = 1, .bias = "none" };
    crank_status status = pair_attach(context, site, &plain, &st->factors);
    if (status) return status;
    if (is(o->mode, "full")) {
        st->M = moment(context, site, "M", out, in);
        st->V = moment(context, site, "V", out, in);
        return st->M && st->V ? CRANK_OK : crank_last_status(context);
    }
    if (is(o->mode, "sgd")) return CRANK_OK;
    st->mA = moment(context, site, "mA", r, in);
    st->vA = moment(context, site, "vA", r, in);
    st->mB = moment(context, site, "mB", out, r);
    st->vB = moment(context, site, "vB", out, r);
    return st->mA && st->vA && st->mB && st->vB ? CRANK_OK : crank_last_status(context);
}

/* x [n, in], y0 [n, out] from what stands below -> y [n, out] */
static crank_tensor *forward(crank_graph *graph, crank_site *site, crank_tensor *x, crank_tensor *y0)
{
    pair_options plain = { .dropout = ((const options *)site->options)->dropout };
    return crank_add(y0, pair_delta(graph, site, &((state *)site->state)->factors, pair_drop(graph, site, &plain, x)));
}

/* ---- the adjustment ---- */

/* A Gram matrix [r, r] by its eigenvectors, and its inverse without the directions that it lacks. */
typedef struct gram {
    crank_tensor *values, *vectors, *inverse;
} gram;

static gram gram_of(crank_graph *graph, crank_tensor *matrix, double delta)
{
    gram          g;
    int64_t       r = matrix->dims[0];
    g.values = crank_eigh(matrix, &g.vectors);
    crank_tensor *largest = crank_reduce(CRANK_AMAX, g.values, 1u, true), *zero = crank_fill(graph, matrix->dtype, 0, NULL, 0);
    crank_tensor *floor = crank_binary(CRANK_MAX, crank_scale(largest, 1e-7), zero);
    crank_tensor *stays = crank_binary(CRANK_GT, g.values, floor);
    crank_tensor *shifted = crank_add(g.values, crank_scale(crank_reduce(CRANK_MEAN, g.values, 1u, true), delta));
    crank_tensor *safe = crank_where(stays, shifted, crank_fill(graph, matrix->dtype, 0, NULL, 1));
    crank_tensor *inverse = crank_where(stays, crank_unary(CRANK_RECIPROCAL, safe), zero);
    crank_tensor *scaled = crank_mul(g.vectors, crank_reshape(inverse, 2, (const int64_t[]){ 1, r }));
    g.inverse = crank_matmul(scaled, false, g.vectors, true);
    return g;
}

typedef struct factors {
    crank_tensor *A, *B;
    gram          AA, BB;
    double        s;
} factors;

/* BB X + X AA = C */
static crank_tensor *sylvester(crank_graph *graph, const factors *f, crank_tensor *C)
{
    int64_t       r = C->dims[0];
    crank_tensor *inner = crank_matmul(crank_matmul(f->BB.vectors, true, C, false), false, f->AA.vectors, false);
    crank_tensor *zero = crank_fill(graph, C->dtype, 0, NULL, 0), *one = crank_fill(graph, C->dtype, 0, NULL, 1);
    crank_tensor *rows = crank_binary(CRANK_MAX, crank_reshape(f->BB.values, 2, (const int64_t[]){ r, 1 }), zero);
    crank_tensor *columns = crank_binary(CRANK_MAX, crank_reshape(f->AA.values, 2, (const int64_t[]){ 1, r }), zero);
    crank_tensor *sum = crank_add(rows, columns), *solved = crank_binary(CRANK_GT, sum, zero);
    inner = crank_where(solved, crank_div(inner, crank_where(solved, sum, one)), zero);
    return crank_matmul(crank_matmul(f->BB.vectors, false, inner, false), false, f->AA.vectors, true);
}

/* The nearest pair to ordinary gradients (gA, gB), with X where `x` is not "zero". */
static void adjust(crank_graph *graph, const factors *f, const char *x, crank_tensor **gA, crank_tensor **gB)
{
    double        q = 1 / (f->s * f->s);
    crank_tensor *hA = crank_scale(crank_matmul(f->BB.inverse, false, *gA, false), q);
    crank_tensor *along = crank_matmul(f->BB.inverse, false, crank_matmul(f->B, true, *gB, false), false); /* [r, r] */
    crank_tensor *rest = crank_sub(*gB, crank_matmul(f->B, false, along, false));
    crank_tensor *hB = crank_scale(crank_matmul(rest, false, f->AA.inverse, false), q), *X = NULL;
    if (is(x, "sylvester")) X = sylvester(graph, f, crank_scale(crank_matmul(hA, false, f->A, true), -1));
    if (is(x, "symmetry")) X = crank_scale(crank_matmul(along, false, f->AA.inverse, false), -q / 2);
    if (X) {
        hA = crank_add(hA, crank_matmul(X, false, f->A, false));
        hB = crank_sub(hB, crank_matmul(f->B, false, X, false));
    }
    *gA = hA;
    *gB = hB;
}

/* ---- the update ---- */

static crank_tensor *scalar(crank_graph *graph, crank_scalar_index i, crank_dtype type) { return crank_cast(crank_step_scalar(graph, i), type); }

/* 1 / (1 - beta^t) */
static crank_tensor *correction(crank_tensor *t, double beta)
{
    if (beta <= 0) return crank_affine(t, 0, 1);
    return crank_unary(CRANK_RECIPROCAL, crank_affine(crank_unary(CRANK_EXP, crank_scale(t, log(beta))), -1, 1));
}

/* The direction that Adam gives for g; the moments' new values are told, not stored. */
static crank_tensor *adam(crank_graph *graph, const options *o, crank_tensor *g, crank_tensor **m, crank_tensor **v)
{
    crank_tensor *t = crank_affine(scalar(graph, CRANK_SCALAR_STEP, g->dtype), 1, o->compat);
    *m = crank_add(crank_scale(*m, o->beta1), crank_scale(g, 1 - o->beta1));
    *v = crank_add(crank_scale(*v, o->beta2), crank_scale(crank_mul(g, g), 1 - o->beta2));
    crank_tensor *root = crank_unary(CRANK_SQRT, crank_mul(*v, correction(t, o->beta2)));
    return crank_div(crank_mul(*m, correction(t, o->beta1)), crank_affine(root, 1, o->epsilon));
}

/* Nothing changes in a step that is skipped. */
static void store(crank_graph *graph, crank_param *param, crank_tensor *value)
{
    crank_tensor *old = crank_use(graph, param);
    crank_assign(old, crank_where(scalar(graph, CRANK_SCALAR_SKIP, old->dtype), old, value), false);
}

static crank_tensor *load(crank_graph *graph, const crank_param *like, crank_param *moment) { return crank_cast(crank_use(graph, moment), like->view.dtype); }

/* Step scalars of an update that moves by its gradient alone: rate 1, clip 1. */
static crank_tensor *unit_scalars(crank_graph *graph)
{
    crank_tensor *parts[CRANK_SCALARS], *one = crank_fill(graph, CRANK_F32, 1, (const int64_t[]){ 1 }, 1);
    for (int i = 0; i < CRANK_SCALARS; i++) {
        bool fixed = i == CRANK_SCALAR_RATE || i == CRANK_SCALAR_CLIP;
        parts[i] = fixed ? one : crank_reshape(crank_contiguous(crank_step_scalar(graph, (crank_scalar_index)i)), 1, (const int64_t[]){ 1 });
    }
    return crank_concat(parts, CRANK_SCALARS, 0);
}

/* A moment of another type than f32 is moved by the difference, which rounds it stochastically. */
static void store_moment(crank_graph *graph, const crank_site *site, crank_param *moment, crank_tensor *value)
{
    if (moment->view.dtype != CRANK_BF16) {
        store(graph, moment, value);
        return;
    }
    crank_tensor *old = crank_use(graph, moment), *back = crank_sub(crank_cast(old, value->dtype), value);
    crank_sgd(old, back, NULL, unit_scalars(graph), &(crank_sgd_attributes){ .rate_factor = 1, .seed = site->seed, .index = crank_hash_name(moment->name) });
}

static void step(crank_graph *graph, const options *o, crank_param *param, crank_tensor *direction)
{
    crank_tensor *w = crank_use(graph, param), *rate = scalar(graph, CRANK_SCALAR_RATE, w->dtype);
    crank_tensor *kept = o->decay > 0 ? crank_mul(w, crank_affine(rate, -o->decay, 1)) : w;
    store(graph, param, crank_sub(kept, crank_mul(direction, rate)));
}

/* min(1, limit / |g|) of the adjusted pair's g. */
static crank_tensor *limit_factor(crank_graph *graph, const factors *f, double limit, crank_tensor *gA, crank_tensor *gB)
{
    crank_dtype   type = f->A->dtype;
    crank_tensor *BB = crank_matmul(f->B, true, f->B, false), *BgB = crank_matmul(f->B, true, gB, false), *gBB = crank_matmul(gB, true, gB, false);
    crank_tensor *mixed = crank_add(crank_matmul(BB, false, gA, false), crank_scale(crank_matmul(BgB, false, f->A, false), 2));
    crank_tensor *square = crank_add(crank_sum(crank_mul(mixed, gA)), crank_sum(crank_mul(crank_matmul(gBB, false, f->A, false), f->A)));
    crank_tensor *tiny = crank_fill(graph, type, 0, NULL, 1e-30), *one = crank_fill(graph, type, 0, NULL, 1);
    crank_tensor *norm = crank_unary(CRANK_SQRT, crank_binary(CRANK_MAX, crank_scale(crank_cast(square, type), f->s * f->s), tiny));
    return crank_binary(CRANK_MIN, crank_scale(crank_unary(CRANK_RECIPROCAL, norm), limit), one);
}

static void clip_pair(crank_graph *graph, const options *o, const factors *f, crank_tensor **gA, crank_tensor **gB)
{
    if (o->limit <= 0) return;
    crank_tensor *factor = limit_factor(graph, f, o->limit, *gA, *gB);
    *gA = crank_mul(*gA, factor);
    *gB = crank_mul(*gB, factor);
}

static void update_full(crank_graph *graph, const crank_site *site, const options *o, const state *st, const factors *f, crank_tensor *gA, crank_tensor *gB)
{
    adjust(graph, f, "zero", &gA, &gB);
    clip_pair(graph, o, f, &gA, &gB);
    crank_tensor *g = crank_matmul_full(f->B, false, gA, false, f->s, NULL, NULL, CRANK_DTYPES); /* [out, in] */
    g = crank_matmul_full(gB, false, f->A, false, f->s, NULL, g, CRANK_DTYPES);
    crank_tensor *m = load(graph, st->factors.A, st->M), *v = load(graph, st->factors.A, st->V), *D = adam(graph, o, g, &m, &v);
    gA = crank_matmul_full(f->B, true, D, false, f->s, NULL, NULL, CRANK_DTYPES);
    gB = crank_matmul_full(D, false, f->A, true, f->s, NULL, NULL, CRANK_DTYPES);
    adjust(graph, f, o->x, &gA, &gB);
    store_moment(graph, site, st->M, m);
    store_moment(graph, site, st->V, v);
    step(graph, o, st->factors.A, gA);
    step(graph, o, st->factors.B, gB);
}

static void update_pair(crank_graph *graph, const crank_site *site, const options *o, const state *st, const factors *f, crank_tensor *gA, crank_tensor *gB)
{
    adjust(graph, f, o->x, &gA, &gB);
    clip_pair(graph, o, f, &gA, &gB);
    if (is(o->mode, "efficient")) {
        const crank_param *like = st->factors.A;
        crank_tensor *mA = load(graph, like, st->mA), *vA = load(graph, like, st->vA), *mB = load(graph, like, st->mB), *vB = load(graph, like, st->vB);
        gA = adam(graph, o, gA, &mA, &vA);
        gB = adam(graph, o, gB, &mB, &vB);
        store_moment(graph, site, st->mA, mA), store_moment(graph, site, st->vA, vA), store_moment(graph, site, st->mB, mB), store_moment(graph, site, st->vB, vB);
    }
    step(graph, o, st->factors.A, gA);
    step(graph, o, st->factors.B, gB);
}

static void update(crank_graph *graph, crank_site *site)
{
    const options *o = site->options;
    const state   *st = site->state;
    crank_tensor  *gA = crank_gradient_of(graph, st->factors.A), *gB = crank_gradient_of(graph, st->factors.B);
    if (!gA || !gB) return; /* nothing reaches the linear */
    factors       f = { .A = crank_use(graph, st->factors.A), .B = crank_use(graph, st->factors.B), .s = o->compat ? 2 : st->factors.scale };
    crank_tensor *clip = scalar(graph, CRANK_SCALAR_CLIP, f.A->dtype);
    f.AA = gram_of(graph, crank_matmul(f.A, false, f.A, true), o->delta);
    f.BB = gram_of(graph, crank_matmul(f.B, true, f.B, false), o->delta);
    gA = crank_mul(crank_cast(gA, f.A->dtype), clip);
    gB = crank_mul(crank_cast(gB, f.B->dtype), clip);
    if (is(o->mode, "full")) update_full(graph, site, o, st, &f, gA, gB);
    else update_pair(graph, site, o, st, &f, gA, gB);
}

static crank_status as_lora(crank_context *context, crank_site *site, int64_t *rank, double *scale, float **A, float **B)
{
    return pair_read(context, &((state *)site->state)->factors, rank, scale, A, B);
}

const crank_map crank_map_lora_pro = {
    .name         = "lora-pro",
    .paper        = "arXiv:2407.18242",
    .summary      = "LoRA moved along the nearest low-rank stand-in for the full gradient",
    .options      = option_table,
    .options_size = sizeof(options),
    .state_size   = sizeof(state),
    .affine       = true,
    .attach       = attach,
    .forward      = forward,
    .update       = update,
    .as_lora      = as_lora,
    .peft_type    = "LORA",
};
