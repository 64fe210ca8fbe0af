/* plain_attention.c - plain bodies of attention over packed rows, its reverse, and attention over a cache.
 *
 *     s_ij = scale q_i k_j over the keys j that i sees;  lse_i = log sum_j e^s_ij;  p_ij = e^(s_ij - lse_i)
 *     o_i = sum_j p_ij v_j
 *     D_i = do_i o_i;  ds_ij = p_ij (do_i v_j - D_i) scale;  dq_i = sum_j ds_ij k_j
 *     dk_j = sum_i ds_ij q_i,  dv_j = sum_i p_ij do_i, over the query heads that read the key head too
 *
 * Tokens that stand in no segment give zeros. */
#include "device/cpu/plain.h"

/* Two rows of sums over a head. */
size_t plain_attention_workspace(const crank_call *call) { return 2 * (size_t)call->in[0].dims[2] * sizeof(double); }

/* Rows h of token i of q, k, v... [n,h,d] */
static double row_dot(const crank_view *a, int64_t from_a, const crank_view *b, int64_t from_b, int64_t d)
{
    double sum = 0;
    for (int64_t k = 0; k < d; k++) sum += get(a, from_a + k * a->strides[2]) * get(b, from_b + k * b->strides[2]);
    return sum;
}

static void row_add(double *sum, double factor, const crank_view *x, int64_t from, int64_t d)
{
    for (int64_t k = 0; k < d; k++) sum[k] += factor * get(x, from + k * x->strides[2]);
}

static void row_put(const crank_view *y, int64_t from, const double *sum, int64_t d)
{
    for (int64_t k = 0; k < d; k++) put(y, from + k * y->strides[2], sum[k]);
}

static bool sees(const crank_attention_attributes *a, int64_t i, int64_t j)
{
    if (a->mask == CRANK_MASK_CAUSAL) return j <= i && (a->window == 0 || i - j < a->window);
    return a->window == 0 || (i - j < a->window && j - i < a->window);
}

/* o_i of query token i, head h, over keys first..last-1 -> sum [d]; returns lse. `origin` is the key index of query 0.
 */
static double attend(const crank_call *call, int64_t i, int64_t h, int64_t first, int64_t last, int64_t origin,
                     double *sum)
{
    const crank_attention_attributes *a = call->attributes;
    const crank_view                 *q = &call->in[0], *k = &call->in[1], *v = &call->in[2];
    int64_t                           d = q->dims[2], key_head = h / (q->dims[1] / k->dims[1]);
    double                            max = -INFINITY, total = 0;
    for (int64_t c = 0; c < d; c++) sum[c] = 0;
    for (int64_t j = first; j < last; j++)
        if (sees(a, i + origin, j))
            max = fmax(max, a->scale * row_dot(q, at3(q, i, h, 0), k, at3(k, j, key_head, 0), d));
    for (int64_t j = first; j < last; j++) {
        if (!sees(a, i + origin, j)) continue;
        double p = exp(a->scale * row_dot(q, at3(q, i, h, 0), k, at3(k, j, key_head, 0), d) - max);
        total += p;
        row_add(sum, p, v, at3(v, j, key_head, 0), d);
    }
    for (int64_t c = 0; c < d; c++) sum[c] /= total;
    return max + log(total);
}

/* Segments must ascend within [0, n]; each call reads them once before it touches anything. */
static crank_status check_segments(crank_context *context, const crank_view *segments, int64_t n)
{
    int64_t before = 0;
    for (int64_t s = 0; s < segments->dims[0]; s++) {
        int64_t token = id_at(segments, at1(segments, s));
        if (token < before || token > n)
            return crank_fail(context, CRANK_USAGE,
                              "attention: segment %lld starts at token %lld; they must ascend from 0 to %lld tokens",
                              (long long)s, (long long)token, (long long)n);
        before = token;
    }
    return CRANK_OK;
}

static void put_zeros(const crank_view *view)
{
    WALK (w, view, view->rank, view) put(view, w.offset[0], 0);
}

crank_status plain_attention(crank_context *context, const crank_call *call)
{
    const crank_view *q = &call->in[0], *segments = &call->in[3], *o = &call->out[0], *lse = &call->out[1];
    if (check_segments(context, segments, q->dims[0]) != CRANK_OK) return CRANK_USAGE;
    put_zeros(o);
    put_zeros(lse);
    for (int64_t s = 0; s + 1 < segments->dims[0]; s++) {
        int64_t first = id_at(segments, at1(segments, s)), last = id_at(segments, at1(segments, s + 1));
        for (int64_t i = first; i < last; i++)
            for (int64_t h = 0; h < q->dims[1]; h++) {
                double *sum = call->workspace;
                put(lse, at2(lse, h, i), attend(call, i, h, first, last, 0, sum));
                row_put(o, at3(o, i, h, 0), sum, q->dims[2]);
            }
    }
    return CRANK_OK;
}

typedef struct reverse {
    const crank_view                 *dout, *q, *k, *v, *o, *lse;
    const crank_attention_attributes *attributes;
    int64_t                           d, group; /* query heads that read one key head */
} reverse;

/* p_ij, and ds_ij through `ds` */
static double probability(const reverse *r, int64_t i, int64_t j, int64_t h, double *ds)
{
    int64_t key = h / r->group, d = r->d;
    double  s = r->attributes->scale * row_dot(r->q, at3(r->q, i, h, 0), r->k, at3(r->k, j, key, 0), d);
    double  p = exp(s - get(r->lse, at2(r->lse, h, i)));
    double  D = row_dot(r->dout, at3(r->dout, i, h, 0), r->o, at3(r->o, i, h, 0), d);
    *ds = p * (row_dot(r->dout, at3(r->dout, i, h, 0), r->v, at3(r->v, j, key, 0), d) - D) * r->attributes->scale;
    return p;
}

crank_status plain_attention_backward(crank_context *context, const crank_call *call)
{
    const crank_view *in = call->in, *dq = &call->out[0], *dk = &call->out[1], *dv = &call->out[2], *segments = &in[6];
    reverse           r = {&in[0], &in[1], &in[2], &in[3], &in[4], &in[5], call->attributes, in[1].dims[2], 0};
    double           *sum = call->workspace, *sum_v = sum + r.d, ds;
    if (check_segments(context, segments, r.q->dims[0]) != CRANK_OK) return CRANK_USAGE;
    put_zeros(dq);
    put_zeros(dk);
    put_zeros(dv);
    for (int64_t s = 0; s + 1 < segments->dims[0] && r.k->dims[1] > 0; s++) {
        int64_t first = id_at(segments, at1(segments, s)), last = id_at(segments, at1(segments, s + 1));
        r.group = r.q->dims[1] / r.k->dims[1];
        for (int64_t i = first; i < last; i++)
            for (int64_t h = 0; h < r.q->dims[1]; h++) {
                memset(sum, 0, (size_t)r.d * sizeof *sum);
                for (int64_t j = first; j < last; j++) {
                    if (!sees(r.attributes, i, j)) continue;
                    probability(&r, i, j, h, &ds);
                    row_add(sum, ds, r.k, at3(r.k, j, h / r.group, 0), r.d);
                }
                row_put(dq, at3(dq, i, h, 0), sum, r.d);
            }
        for (int64_t j = first; j < last; j++)
            for (int64_t key = 0; key < r.k->dims[1]; key++) {
                memset(sum, 0, 2 * (size_t)r.d * sizeof *sum);
                for (int64_t h = key * r.group; h < (key + 1) * r.group; h++)
                    for (int64_t i = first; i < last; i++) {
                        if (!sees(r.attributes, i, j)) continue;
                        double p = probability(&r, i, j, h, &ds);
                        row_add(sum, ds, r.q, at3(r.q, i, h, 0), r.d);
                        row_add(sum_v, p, r.dout, at3(r.dout, i, h, 0), r.d);
                    }
                row_put(dk, at3(dk, j, key, 0), sum, r.d);
                row_put(dv, at3(dv, j, key, 0), sum_v, r.d);
            }
    }
    return CRANK_OK;
}

/* The first cache row of this call's tokens, or -1 with a message when they do not fit. */
static int64_t cache_position(crank_context *context, const crank_view *position, int64_t n, int64_t capacity)
{
    int64_t first = id_at(position, 0);
    if (first >= 0 && first <= capacity - n) return first;
    crank_fail(context, CRANK_USAGE, "attention cache: %lld tokens at position %lld, the cache holds %lld",
               (long long)n, (long long)first, (long long)capacity);
    return -1;
}

crank_status plain_cache_write(crank_context *context, const crank_call *call)
{
    const crank_view *x = &call->in[0], *old = &call->in[2], *cache = &call->out[0];
    int64_t           first = cache_position(context, &call->in[1], x->dims[0], cache->dims[0]);
    if (first < 0) return CRANK_USAGE;
    if (old->data != cache->data)
        WALK (w, cache, 3, old, cache) put(cache, w.offset[1], get(old, w.offset[0]));
    WALK (w, x, 3, x, cache) put(cache, w.offset[1] + first * cache->strides[0], get(x, w.offset[0]));
    return CRANK_OK;
}

crank_status plain_attention_cached(crank_context *context, const crank_call *call)
{
    const crank_view          *q = &call->in[0], *k = &call->in[1], *o = &call->out[0];
    crank_attention_attributes causal = *(const crank_attention_attributes *)call->attributes;
    crank_call                 call_causal = *call;
    int64_t                    origin = cache_position(context, &call->in[3], q->dims[0], k->dims[0]);
    if (origin < 0) return CRANK_USAGE;
    causal.mask = CRANK_MASK_CAUSAL; /* the rows behind the present token are not written yet */
    call_causal.attributes = &causal;
    for (int64_t i = 0; i < q->dims[0]; i++)
        for (int64_t h = 0; h < q->dims[1]; h++) {
            attend(&call_causal, i, h, 0, origin + i + 1, origin, call->workspace);
            row_put(o, at3(o, i, h, 0), call->workspace, q->dims[2]);
        }
    return CRANK_OK;
}
