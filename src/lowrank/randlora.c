/* randlora.c - full-rank updates from sums of frozen random factors (Albert et al. 2025, arXiv:2502.00987).
 *
 *     D = max(out, in), d = min(out, in), n = ceil(d / r) terms
 *     dW = s P Q (transposed where out < in)     P [D, n r]: row of frozen B [D, n, r]
 *                                                Q [r n, d]: Q[(k, j), x] = lambda[k, j] A[k, x] gamma[j, x]
 *
 * Trained: lambda [r, n], zero at the start, and gamma [n, d], 1 / max(n, d) at the start: the adapted model starts equal to the base.
 * Bases A [r, 1, d_max] and B [D_max, n_max, r] are shared by all layers, which take their first columns, rows and terms. Index q of
 * the inner dimension pairs column q of P, (q div r, q mod r), with row q of Q, (q div n, q mod n), as PEFT does: the paper's pairing
 * differs by a permutation, and each row of Q meets a random column of its own in both.
 *
 *     variant   full (above), with terms = n / 2 RandLoRA-b of the paper; limited, RandLoRA-a: sums before the product, of rank r
 *                   P = sum_k B_k diag(lambda_k) [D, r],  Q = sum_k A_k diag(gamma_k) [r, d]
 *     distinct  every term has an A of its own, A [r, n_max, d_max]; limited always has
 *     dora      RandDoRA: y = mu / |W + dW|_row o (W + dW) x, mu [out] trained, the norms constants of the reverse pass
 *
 *
 *     scaling   s = alpha / r (PEFT), or alpha / (r sqrt(n)) (the authors' code; with alpha = 2 r the paper's 2 / sqrt(n))
 *     basis     uniform, normal, or ternary: -1 and 1 with probability 1 / sparsity each (2: binary; 6: two thirds zeros; 0: sqrt(D_max));
 *               each divided by its own standard deviation. Draws are Philox's (key, BASIS), so they are the same everywhere
 *     schedule  factored: y0 + s (x Q^T) P^T; materialised: y0 + s x (P Q)^T, or x (W + s P Q)^T (dense.h), cheaper where a step has more
 *               than d / 2 tokens
 *
 * The bases are written into PEFT's files (save_projection), whose own generator is another; without them (save_projection: false) the
 * adapter is written in crank's layout and the bases are drawn again when it is loaded. */
#include <math.h>
#include <string.h>

#include "base/json.h"
#include "lowrank/dense.h"
#include "lowrank/small.h"
#include "lowrank/start.h"

typedef struct {
    int64_t     rank, terms, key;
    double      alpha, dropout, sparsity;
    const char *scaling, *basis, *schedule;
    bool        save_projection, distinct, dora;
    const char *variant;
} options;

typedef struct {
    crank_param *lambda, *gamma; /* [r, n], [n, d] */
    crank_param *magnitude;      /* [out], with dora */
    int64_t      n, d, D;
    double       scale;
} state;

typedef struct {
    crank_param *A, *B; /* [r, 1 or n_max, d_max], [D_max, n_max, r] */
    int64_t      D, d, n;
} shared;

static const crank_option option_table[] = {
    CRANK_INT(options, rank, 32, 1, 65536, "rank of each random factor; parameters go down as it goes up"),
    CRANK_FLOAT(options, alpha, 640, 0, 1e9, "the update is scaled by alpha / rank"),
    CRANK_CHOICE(options, scaling, "rank", "rank|terms", "alpha / rank, or alpha / (rank sqrt(terms))"),
    CRANK_INT(options, terms, 0, 0, 1000000, "terms of the sum; 0: as many as give full rank, min(out, in) / rank"),
    CRANK_INT(options, key, 0, 0, 9007199254740991, "names the random bases: one key, one set of bases"),
    CRANK_CHOICE(options, basis, "uniform", "uniform|normal|ternary", "law of the entries of the bases, all of unit variance"),
    CRANK_FLOAT(options, sparsity, 6, 0, 1e9, "ternary: -1 and 1 have probability 1 / sparsity each (2: no zeros); 0: the root of the wider side"),
    CRANK_FLOAT(options, dropout, 0, 0, 0.999, "share of the inputs of the update's branch that is dropped in training"),
    CRANK_CHOICE(options, schedule, "auto", "auto|factored|materialised", "multiply the inputs by the factors in turn, or build the update once a graph"),
    CRANK_CHOICE(options, variant, "full", "full|limited", "products are summed (rank terms x rank), or factors are (rank)"),
    CRANK_BOOL(options, distinct, false, "every term has both random factors of its own, not the wider one alone"),
    CRANK_BOOL(options, dora, false, "the rows of the changed weight keep trained lengths"),
    CRANK_BOOL(options, save_projection, true, "write the bases with the adapter, as PEFT needs them; else they are drawn again"),
    CRANK_END
};

static int64_t least(const crank_linear *linear) { return linear->out < linear->in ? linear->out : linear->in; }
static int64_t most(const crank_linear *linear) { return linear->out < linear->in ? linear->in : linear->out; }

static bool limited(const options *o) { return strcmp(o->variant, "limited") == 0; }
static bool distinct(const options *o) { return o->distinct || limited(o); }

static int64_t terms_of(const options *o, int64_t d) { return o->terms ? o->terms : (d + o->rank - 1) / o->rank; }

/* Sizes of the shared bases. */
static crank_status allot(crank_context *context, crank_site *sites, int count)
{
    shared  *all = sites[0].model;
    int64_t  out = 0, in = 0;
    *all = (shared){0};
    for (int i = 0; i < count; i++) {
        const crank_linear *linear = sites[i].linear;
        const options      *o = sites[i].options, *first = sites[0].options;
        if (o->rank != first->rank)
            return crank_fail(context, CRANK_USAGE, "%s: all linears share the random bases, and these have one rank: %lld here, %lld at %s; leave rank_pattern out",
                              linear->name, (long long)o->rank, (long long)first->rank, sites[0].linear->name);
        if (linear->out > out) out = linear->out;
        if (linear->in > in) in = linear->in;
    }
    all->D = out > in ? out : in;
    all->d = out > in ? in : out;
    all->n = terms_of(sites[0].options, all->d);
    return CRANK_OK;
}

/* ---- bases ---- */

static void draw(const options *o, double sparsity, crank_stream stream, float *values, size_t count)
{
    if (strcmp(o->basis, "normal") == 0) crank_fill_normal(stream, 0, 0, 1, values, count);
    else crank_fill_uniform(stream, 0, -1, 1, values, count);
    for (size_t i = 0; strcmp(o->basis, "ternary") == 0 && i < count; i++)
        values[i] = values[i] < -1 + 2 / (float)sparsity ? -1 : values[i] >= 1 - 2 / (float)sparsity ? 1 : 0;
}

/* Divides by the (unbiased) standard deviation. */
static void normalise(float *values, size_t count)
{
    double mean = 0, squares = 0;
    for (size_t i = 0; i < count; i++) mean += (double)values[i];
    mean /= (double)count;
    for (size_t i = 0; i < count; i++) squares += ((double)values[i] - mean) * ((double)values[i] - mean);
    double deviation = count > 1 ? sqrt(squares / (double)(count - 1)) : 1;
    for (size_t i = 0; i < count; i++) values[i] = deviation > 0 ? (float)((double)values[i] / deviation) : values[i];
}

static crank_status fill_basis(crank_context *context, const options *o, const shared *all, crank_param *param, const char *name)
{
    size_t count = (size_t)crank_view_count(&param->view);
    double sparsity = o->sparsity > 0 ? o->sparsity : sqrt((double)all->D);
    if (!param->view.data) return CRANK_OK;
    if (strcmp(o->basis, "ternary") == 0 && sparsity < 2) return crank_fail(context, CRANK_USAGE, "sparsity %g: two values of probability 1 / sparsity need at least 2", o->sparsity);
    float *values = crank_alloc(context, count, sizeof *values, "a random basis");
    if (!values) return CRANK_FAILED;
    draw(o, sparsity, crank_stream_make((uint64_t)o->key, CRANK_RANDOM_BASIS, crank_hash_name(name)), values, count);
    normalise(values, count);
    crank_status status = crank_param_write(context, param, values, CRANK_F32);
    crank_free(values);
    return status;
}

static crank_param *add_basis(crank_context *context, crank_site *site, const char *name, const int64_t dims[3])
{
    const options *o = site->options;
    crank_param   *made = o->save_projection ? crank_site_param(context, site, name, CRANK_F32, 3, dims, false)
                                             : crank_site_state(context, site, name, CRANK_ROLE_CACHE, CRANK_F32, 3, dims);
    return made && fill_basis(context, o, site->model, made, name) == CRANK_OK ? made : NULL;
}

/* mu = |w_i|, row after row on the host. */
static crank_status attach_magnitude(crank_context *context, crank_site *site, state *st)
{
    const crank_linear *linear = site->linear;
    if (((const options *)site->options)->dropout > 0) return crank_fail(context, CRANK_USAGE, "randlora: dropout would leave out part of the weight itself with dora: set dropout to 0");
    if (!linear->weight) return crank_fail(context, CRANK_USAGE, "randlora: %s has no dense weight whose rows dora could measure", linear->name);
    st->magnitude = crank_site_param(context, site, "magnitude", CRANK_F32, 1, &linear->out, true);
    if (!st->magnitude) return crank_last_status(context);
    st->magnitude->no_decay = true;
    if (!st->magnitude->view.data || !linear->weight->view.data) return CRANK_OK; /* planning without memory */
    float       *row = crank_alloc(context, (size_t)linear->in, sizeof *row, "a row of the weight");
    double      *norms = crank_alloc(context, (size_t)linear->out, sizeof *norms, "row norms");
    crank_status status = row && norms ? CRANK_OK : CRANK_FAILED;
    for (int64_t i = 0; status == CRANK_OK && i < linear->out; i++) {
        status = crank_linear_rows(context, linear, i, 1, row);
        for (int64_t j = 0; j < linear->in; j++) norms[i] += (double)row[j] * (double)row[j];
        norms[i] = sqrt(norms[i]);
    }
    if (status == CRANK_OK) status = crank_param_write(context, st->magnitude, norms, CRANK_F64);
    crank_free(row), crank_free(norms);
    return status;
}

static crank_status attach(crank_context *context, crank_site *site)
{
    const options *o = site->options;
    state         *st = site->state;
    shared        *all = site->model;
    if (site->index == 0) {
        all->A = add_basis(context, site, "basis_A", (const int64_t[]){o->rank, distinct(o) ? all->n : 1, all->d});
        all->B = all->A ? add_basis(context, site, "basis_B", (const int64_t[]){all->D, all->n, o->rank}) : NULL;
        if (!all->B) return crank_last_status(context);
    }
    st->d = least(site->linear), st->D = most(site->linear);
    st->n = terms_of(o, st->d);
    st->scale = o->alpha / (double)o->rank / (strcmp(o->scaling, "terms") == 0 ? sqrt((double)st->n) : 1);
    st->lambda = crank_site_param(context, site, "lambda", CRANK_F32, 2, (const int64_t[]){o->rank, st->n}, true);
    st->gamma = crank_site_param(context, site, "gamma", CRANK_F32, 2, (const int64_t[]){st->n, st->d}, true);
    if (!st->lambda || !st->gamma) return crank_last_status(context);
    crank_status status = start_value(context, st->gamma, 1 / (double)(st->n > st->d ? st->n : st->d));
    return status == CRANK_OK && o->dora ? attach_magnitude(context, site, st) : status;
}

/* ---- recording ---- */

/* Q [r n, d] and P [D, n r] in the compute type; limited: Q [r, d] and P [D, r]. */
static void derive(crank_graph *graph, crank_site *site)
{
    const options *o = site->options;
    const state   *st = site->state;
    const shared  *all = site->model;
    crank_dtype    compute = crank_graph_compute(graph), wide = compute == CRANK_F64 ? CRANK_F64 : CRANK_F32;
    int64_t        r = o->rank, n = st->n, d = st->d;
    crank_tensor  *A = crank_cast(crank_slice(crank_use(graph, all->A), 2, 0, d), wide); /* [r, 1 or n, d] */
    if (distinct(o)) A = crank_slice(A, 1, 0, n);
    crank_tensor  *lambda = crank_reshape(crank_cast(crank_use(graph, st->lambda), wide), 3, (const int64_t[]){r, n, 1});
    crank_tensor  *gamma = crank_reshape(crank_cast(crank_use(graph, st->gamma), wide), 3, (const int64_t[]){1, n, d});
    crank_tensor  *rows = crank_slice(crank_slice(crank_use(graph, all->B), 0, 0, st->D), 1, 0, n); /* [D, n, r] */
    if (limited(o)) {
        crank_tensor *by_term = crank_transpose(crank_reshape(lambda, 2, (const int64_t[]){r, n}), 0, 1); /* [n, r] */
        crank_tensor *P = crank_reduce(CRANK_SUM, crank_mul(crank_cast(rows, wide), crank_reshape(crank_contiguous(by_term), 3, (const int64_t[]){1, n, r})), 1u << 1, false);
        crank_site_put(graph, site, "Q", crank_cast(crank_reduce(CRANK_SUM, crank_mul(A, gamma), 1u << 1, false), compute));
        crank_site_put(graph, site, "P", crank_cast(P, compute));
        return;
    }
    crank_tensor  *Q = crank_reshape(crank_mul(crank_mul(A, lambda), gamma), 2, (const int64_t[]){r * n, d});
    crank_tensor  *P = crank_reshape(crank_contiguous(rows), 2, (const int64_t[]){st->D, n * r});
    crank_site_put(graph, site, "Q", crank_cast(Q, compute));
    crank_site_put(graph, site, "P", crank_cast(P, compute));
}

static bool materialises(const options *o, int64_t tokens, int64_t d)
{
    if (strcmp(o->schedule, "auto") != 0) return strcmp(o->schedule, "materialised") == 0;
    return !limited(o) && tokens > d / 2;
}

/* s P Q as [out, in], in the compute type. */
static crank_tensor *update_of(const state *st, crank_tensor *P, crank_tensor *Q, bool turned)
{
    return turned ? crank_matmul_full(Q, true, P, true, st->scale, NULL, NULL, CRANK_DTYPES) : crank_matmul_full(P, false, Q, false, st->scale, NULL, NULL, CRANK_DTYPES);
}

/* k = mu / |W + dW|_row on z [n, out] = (W + dW) x */
static crank_tensor *scale_rows(crank_graph *graph, const crank_site *site, crank_tensor *z, crank_tensor *dW)
{
    const state  *st = site->state;
    crank_dtype   compute = crank_graph_compute(graph), wide = compute == CRANK_F64 ? CRANK_F64 : CRANK_F32;
    crank_tensor *W = crank_stop_gradient(crank_add(crank_cast(crank_use(graph, site->linear->weight), wide), crank_cast(dW, wide)));
    crank_tensor *square = crank_reduce(CRANK_SUM_SQUARES, W, 2u, false), *tiny = crank_fill(graph, wide, 0, NULL, 1e-30);
    crank_tensor *k = crank_div(crank_cast(crank_use(graph, st->magnitude), wide), crank_unary(CRANK_SQRT, crank_binary(CRANK_MAX, square, tiny)));
    return crank_mul(z, crank_cast(k, compute));
}

/* x [n, in], y0 [n, out] from what stands below -> y [n, out] */
static crank_tensor *forward(crank_graph *graph, crank_site *site, crank_tensor *x, crank_tensor *y0)
{
    const options *o = site->options;
    const state   *st = site->state;
    crank_tensor  *P = crank_site_get(graph, site, "P"), *Q = crank_site_get(graph, site, "Q");
    bool           turned = st->d < site->linear->in; /* out is the small side: dW = s (P Q)^T */
    if (crank_graph_status(graph) != CRANK_OK) return y0;
    if (o->dora) {
        crank_tensor *dW = update_of(st, P, Q, turned);
        return scale_rows(graph, site, dense_serves(graph, site) ? dense_forward(graph, site, x, dW) : crank_matmul_full(x, false, dW, true, 1, NULL, y0, CRANK_DTYPES), dW);
    }
    crank_tensor *dropped = o->dropout > 0 && crank_graph_training(graph) ? crank_dropout(x, o->dropout) : x;
    if (materialises(o, x->dims[0], st->d) && dropped == x && dense_serves(graph, site)) return dense_forward(graph, site, x, update_of(st, P, Q, turned));
    x = dropped;
    if (materialises(o, x->dims[0], st->d)) return crank_matmul_full(x, false, crank_matmul(P, false, Q, false), !turned, st->scale, NULL, y0, CRANK_DTYPES);
    crank_tensor *inner = turned ? crank_matmul(x, false, P, false) : crank_matmul(x, false, Q, true); /* [tokens, n r] */
    return crank_matmul_full(inner, false, turned ? Q : P, !turned, st->scale, NULL, y0, CRANK_DTYPES);
}

/* ---- the way back from a merge: W -= s P Q, transposed where out < in ---- */

typedef struct host_bases {
    double *A, *B, *lambda, *gamma;
} host_bases;

/* P [D, inner] and Q [inner, d] as derive makes them. */
static void host_factors(const options *o, const state *st, const shared *all, const host_bases *h, double *P, double *Q)
{
    int64_t r = o->rank, n = st->n, d = st->d, terms = all->A->view.dims[1], dmax = all->A->view.dims[2], nmax = all->B->view.dims[1], inner = limited(o) ? r : r * n;
    for (int64_t q = 0; q < r * n; q++) { /* of A: (q div n, q mod n); of B: (q mod r, q div r) */
        int64_t row = q / n, term = q % n, to = limited(o) ? row : q;
        for (int64_t j = 0; j < d; j++)
            Q[to * d + j] += h->A[(row * terms + (terms > 1 ? term : 0)) * dmax + j] * h->gamma[term * d + j] * (limited(o) ? 1 : h->lambda[q]);
        for (int64_t i = 0; i < st->D; i++)
            P[i * inner + (limited(o) ? q % r : q)] += h->B[(i * nmax + q / r) * r + q % r] * (limited(o) ? h->lambda[q % r * n + q / r] : 1);
    }
}

static void subtract_update(const options *o, const state *st, const double *P, const double *Q, bool turned, double *W)
{
    int64_t d = st->d, inner = limited(o) ? o->rank : o->rank * st->n;
    for (int64_t i = 0; i < st->D; i++)
        for (int64_t q = 0; q < inner; q++)
            for (int64_t j = 0; j < d; j++) W[turned ? j * st->D + i : i * d + j] -= st->scale * P[i * inner + q] * Q[q * d + j];
}

static crank_status unmerge(crank_context *context, crank_site *site, double *W, double *bias)
{
    const options *o = site->options;
    const state   *st = site->state;
    const shared  *all = site->model;
    host_bases     h = {small_read(context, all->A), small_read(context, all->B), small_read(context, st->lambda), small_read(context, st->gamma)};
    double        *P = crank_alloc(context, (size_t)(st->D * o->rank * st->n), sizeof *P, "a factor"), *Q = crank_alloc(context, (size_t)(o->rank * st->n * st->d), sizeof *Q, "a factor");
    bool           read = h.A && h.B && h.lambda && h.gamma && P && Q;
    (void)bias;
    if (o->dora) read = false, crank_fail(context, CRANK_USAGE, "%s: the lengths of the rows before the merge are not known: merge with keep_original to be able to unmerge", site->linear->name);
    if (read) host_factors(o, st, all, &h, P, Q), subtract_update(o, st, P, Q, st->d < site->linear->in, W);
    crank_free(h.A), crank_free(h.B), crank_free(h.lambda), crank_free(h.gamma), crank_free(P), crank_free(Q);
    return read ? CRANK_OK : crank_last_status(context);
}

/* ---- PEFT ---- */

static bool peft_holds(const crank_site *site)
{
    const options *o = site->options;
    return o->save_projection && !distinct(o) && !o->dora && !o->terms && strcmp(o->scaling, "rank") == 0 && o->alpha == floor(o->alpha);
}

static char *peft_config(crank_context *context, const crank_site *site)
{
    const options *o = site->options;
    json_t        *config = json_pack("{s:I, s:I, s:f, s:I, s:b, s:b, s:b, s:b, s:s}", "r", (json_int_t)o->rank, "randlora_alpha", (json_int_t)o->alpha,
                                      "randlora_dropout", o->dropout, "projection_prng_key", (json_int_t)o->key, "save_projection", 1, "sparse", 0,
                                      "very_sparse", 0, "init_weights", 1, "bias", "none");
    char          *text = config ? json_dumps(config, JSON_COMPACT) : NULL;
    json_decref(config);
    if (!text) crank_fail(context, CRANK_FAILED, "out of memory: the config of an adapter");
    return text;
}

static crank_status set_number(crank_context *context, void *options_, const char *key, double value)
{
    char       *text = crank_format(context, "%.17g", value);
    crank_status status = text ? crank_options_set(context, option_table, options_, key, text, "adapter_config.json") : CRANK_FAILED;
    crank_free(text);
    return status;
}

static crank_status read_keys(crank_context *context, const json_t *config, void *out)
{
    static const char where[] = "adapter_config.json";
    int64_t           rank, key;
    double            alpha, dropout;
    bool              saved;
    crank_status      status = json_get_int(context, config, "r", 1, 65536, 32, &rank, where);
    if (status == CRANK_OK) status = json_get_int(context, config, "projection_prng_key", 0, 9007199254740991, 0, &key, where);
    if (status == CRANK_OK) status = json_get_number(context, config, "randlora_alpha", 640, &alpha, where);
    if (status == CRANK_OK) status = json_get_number(context, config, "randlora_dropout", 0, &dropout, where);
    if (status == CRANK_OK) status = json_get_bool(context, config, "save_projection", true, &saved, where);
    if (status != CRANK_OK) return status;
    const char *bias = json_string_value(json_object_get(config, "bias"));
    if (bias && strcmp(bias, "none") != 0) return crank_fail(context, CRANK_BAD_DATA, "%s: `bias` is `%s`: trained biases are not read", where, bias);
    if (!saved)
        return crank_fail(context, CRANK_BAD_DATA, "%s: `save_projection` is false: the random bases are PEFT's own and not in the file; save the adapter with them", where);
    status = set_number(context, out, "rank", (double)rank);
    if (status == CRANK_OK) status = set_number(context, out, "key", (double)key);
    if (status == CRANK_OK) status = set_number(context, out, "alpha", alpha);
    return status == CRANK_OK ? set_number(context, out, "dropout", dropout) : status;
}

static crank_status peft_options(crank_context *context, const char *text, void *out)
{
    json_t *config = json_parse(context, text, strlen(text), "adapter_config.json");
    if (!config) return crank_last_status(context);
    crank_status status = read_keys(context, config, out);
    json_decref(config);
    return status;
}

static const char *peft_name(const crank_site *site, const char *name)
{
    static const char *const names[][2] = {{"lambda", "randlora_lambda"}, {"gamma", "randlora_gamma"}, {"basis_A", "base_model.randlora_A"},
                                           {"basis_B", "base_model.randlora_B"}};
    (void)site;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(names[i][0], name) == 0) return names[i][1];
    return NULL;
}

const crank_map crank_map_randlora = {
    .name             = "randlora",
    .paper            = "arXiv:2502.00987",
    .summary          = "adds a trained combination of frozen random factors, of full rank",
    .options          = option_table,
    .options_size     = sizeof(options),
    .state_size       = sizeof(state),
    .model_state_size = sizeof(shared),
    .affine           = true,
    .allot            = allot,
    .attach           = attach,
    .derive           = derive,
    .forward          = forward,
    .unmerge          = unmerge,
    .peft_type        = "RANDLORA",
    .peft_holds       = peft_holds,
    .peft_config      = peft_config,
    .peft_options     = peft_options,
    .peft_name        = peft_name,
};
