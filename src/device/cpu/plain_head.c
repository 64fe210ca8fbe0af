/* plain_head.c - plain bodies of the output head: log-probabilities and cross-entropy over a vocabulary, and their
 * reverse.
 *
 *     z_iv = w_v x_i + bias_v;  lse_i = log sum_v e^z_iv;  logp_i = z_i,target - lse_i;  p_iv = e^(z_iv - lse_i)
 *     with c_iv = [v = target_i] - p_iv (0 for a row without target) and a factor a_i a row
 *     dx_i = a_i sum_v c_iv w_v;   dw_v = sum_i a_i c_iv x_i;   dbias_v = sum_i a_i c_iv
 *
 * a_i is d logp_i for log-probabilities and -weight_i for cross-entropy. Logits are computed each time they are read.
 */
#include "device/cpu/plain.h"

typedef struct head {
    const crank_view *x, *w, *bias, *targets; /* [n,d], [V,d], [V] or absent, [n] */
    int64_t           n, d, V;
    double           *lse; /* [n] */
    double           *sum; /* [d] */
} head;

/* lse [n], then one row of sums [d] */
size_t plain_head_workspace(const crank_call *call)
{
    const crank_view *x = call->in[0].rank == 2 ? &call->in[0] : &call->in[1];
    return (size_t)(x->dims[0] + x->dims[1]) * sizeof(double);
}

static head head_of(const crank_call *call, int x)
{
    head h = {.x = &call->in[x], .w = &call->in[x + 1], .bias = &call->in[x + 2], .targets = &call->in[x + 3]};
    h.n = h.x->dims[0];
    h.d = h.x->dims[1];
    h.V = h.w->dims[0];
    h.lse = call->workspace;
    h.sum = h.lse + h.n;
    return h;
}

static double logit(const head *h, int64_t i, int64_t v)
{
    double z = view_present(h->bias) ? get(h->bias, at1(h->bias, v)) : 0;
    for (int64_t k = 0; k < h->d; k++) z += get(h->x, at2(h->x, i, k)) * get(h->w, at2(h->w, v, k));
    return z;
}

/* The target of row i, -1 when it has none. */
static int64_t target(const head *h, int64_t i)
{
    int64_t id = id_at(h->targets, at1(h->targets, i));
    return id >= 0 && id < h->V ? id : -1;
}

static double log_sum_exp(const head *h, int64_t i)
{
    double max = -INFINITY, sum = 0;
    for (int64_t v = 0; v < h->V; v++) {
        double z = logit(h, i, v);
        if (z > max) {
            sum *= exp(max - z);
            max = z;
        }
        sum += exp(z - max);
    }
    return max + log(sum);
}

static double coefficient(const head *h, int64_t i, int64_t v)
{
    int64_t t = target(h, i);
    return t < 0 ? 0 : (v == t) - exp(logit(h, i, v) - h->lse[i]);
}

/* dx_i / a_i -> h->sum */
static void row_gradient(const head *h, int64_t i)
{
    memset(h->sum, 0, (size_t)h->d * sizeof *h->sum);
    for (int64_t v = 0; v < h->V; v++) {
        double c = coefficient(h, i, v);
        for (int64_t k = 0; k < h->d; k++) h->sum[k] += c * get(h->w, at2(h->w, v, k));
    }
}

/* Gradients for row factors sign * factors[i]. */
static void head_gradients(const head *h, const crank_view *factors, double sign, const crank_view *dx,
                           const crank_view *dw, const crank_view *dbias)
{
    for (int64_t i = 0; i < h->n && view_present(dx); i++) {
        row_gradient(h, i);
        for (int64_t k = 0; k < h->d; k++) put(dx, at2(dx, i, k), sign * get(factors, at1(factors, i)) * h->sum[k]);
    }
    if (!view_present(dw) && !view_present(dbias)) return;
    for (int64_t v = 0; v < h->V; v++) {
        double sum_bias = 0;
        memset(h->sum, 0, (size_t)h->d * sizeof *h->sum);
        for (int64_t i = 0; i < h->n; i++) {
            double c = sign * get(factors, at1(factors, i)) * coefficient(h, i, v);
            sum_bias += c;
            for (int64_t k = 0; k < h->d; k++) h->sum[k] += c * get(h->x, at2(h->x, i, k));
        }
        for (int64_t k = 0; k < h->d && view_present(dw); k++) put(dw, at2(dw, v, k), h->sum[k]);
        if (view_present(dbias)) put(dbias, at1(dbias, v), sum_bias);
    }
}

/* lse of every row -> h->lse; log-probabilities -> logp */
static void head_forward(const head *h, const crank_view *logp)
{
    for (int64_t i = 0; i < h->n; i++) {
        int64_t t = target(h, i);
        h->lse[i] = log_sum_exp(h, i);
        put(logp, at1(logp, i), t < 0 ? 0 : logit(h, i, t) - h->lse[i]);
    }
}

crank_status plain_head_logprob(crank_context *context, const crank_call *call)
{
    (void)context;
    const crank_view *logp = &call->out[0], *lse = &call->out[1], *unit = &call->out[2];
    head              h = head_of(call, 0);
    head_forward(&h, logp);
    for (int64_t i = 0; i < h.n; i++) {
        put(lse, at1(lse, i), h.lse[i]);
        if (!view_present(unit)) continue;
        row_gradient(&h, i);
        for (int64_t k = 0; k < h.d; k++) put(unit, at2(unit, i, k), h.sum[k]);
    }
    return CRANK_OK;
}

crank_status plain_head_logprob_backward(crank_context *context, const crank_call *call)
{
    (void)context;
    head h = head_of(call, 1);
    for (int64_t i = 0; i < h.n; i++) h.lse[i] = get(&call->in[5], at1(&call->in[5], i));
    head_gradients(&h, &call->in[0], 1, &call->out[0], &call->out[1], &call->out[2]);
    return CRANK_OK;
}

crank_status plain_head_cross_entropy(crank_context *context, const crank_call *call)
{
    (void)context;
    const crank_view *weights = &call->in[4], *numerator = &call->out[0], *logp = &call->out[1];
    head              h = head_of(call, 0);
    double            sum = 0;
    head_forward(&h, logp);
    for (int64_t i = 0; i < h.n; i++) {
        int64_t t = target(&h, i);
        if (t >= 0) sum -= get(weights, at1(weights, i)) * (logit(&h, i, t) - h.lse[i]);
    }
    put(numerator, 0, sum);
    head_gradients(&h, weights, -1, &call->out[2], &call->out[3], &call->out[4]);
    return CRANK_OK;
}
