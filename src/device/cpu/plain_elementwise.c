/* plain_elementwise.c - plain bodies of the operations that treat every element alike: copy, fill, binary, where,
 * affine, unary and its reverse, glu and its reverse, dropout.
 *
 * NaN: max, min and relu pass it on, sign(NaN) is NaN, a comparison with it is 0. */
#include "device/cpu/plain.h"

crank_status plain_copy(crank_context *context, const crank_call *call)
{
    (void)context;
    const crank_view *x = &call->in[0], *y = &call->out[0];
    size_t            bytes = crank_dtype_bits(x->dtype) / 8;
    WALK (w, y, y->rank, x, y) {
        if (x->dtype == y->dtype) /* as it is: a 64-bit integer does not fit a double */
            memmove((char *)y->data + (size_t)w.offset[1] * bytes, (char *)x->data + (size_t)w.offset[0] * bytes,
                    bytes);
        else put(y, w.offset[1], get(x, w.offset[0]));
    }
    return CRANK_OK;
}

crank_status plain_fill(crank_context *context, const crank_call *call)
{
    (void)context;
    const crank_view *y = &call->out[0];
    double            value = ((const crank_fill_attributes *)call->attributes)->value;
    WALK (w, y, y->rank, y) put(y, w.offset[0], value);
    return CRANK_OK;
}

static double binary(crank_binary_kind kind, double a, double b)
{
    switch (kind) {
    case CRANK_ADD: return a + b;
    case CRANK_SUB: return a - b;
    case CRANK_MUL: return a * b;
    case CRANK_DIV: return a / b;
    case CRANK_MAX: return a != a || a > b ? a : b;
    case CRANK_MIN: return a != a || a < b ? a : b;
    case CRANK_POW: return pow(a, b);
    case CRANK_GT: return a > b;
    case CRANK_GE: return a >= b;
    case CRANK_EQ: return a == b;
    }
    return NAN;
}

crank_status plain_binary(crank_context *context, const crank_call *call)
{
    (void)context;
    const crank_view *a = &call->in[0], *b = &call->in[1], *y = &call->out[0];
    crank_binary_kind kind = ((const crank_binary_attributes *)call->attributes)->kind;
    WALK (w, y, y->rank, a, b, y) put(y, w.offset[2], binary(kind, get(a, w.offset[0]), get(b, w.offset[1])));
    return CRANK_OK;
}

crank_status plain_where(crank_context *context, const crank_call *call)
{
    (void)context;
    const crank_view *c = &call->in[0], *a = &call->in[1], *b = &call->in[2], *y = &call->out[0];
    WALK (w, y, y->rank, c, a, b, y)
        put(y, w.offset[3], get(c, w.offset[0]) != 0 ? get(a, w.offset[1]) : get(b, w.offset[2]));
    return CRANK_OK;
}

crank_status plain_affine(crank_context *context, const crank_call *call)
{
    (void)context;
    const crank_view              *x = &call->in[0], *y = &call->out[0];
    const crank_affine_attributes *a = call->attributes;
    WALK (w, y, y->rank, x, y) put(y, w.offset[1], a->scale * get(x, w.offset[0]) + a->shift);
    return CRANK_OK;
}

static double sigmoid(double x) { return x >= 0 ? 1 / (1 + exp(-x)) : exp(x) / (1 + exp(x)); }

static const double SQRT_2_OVER_PI = 0.79788456080286535588, SQRT_HALF = 0.70710678118654752440;
static const double GELU_CUBIC = 0.044715;

double plain_activation(crank_unary_kind kind, double x)
{
    switch (kind) {
    case CRANK_NEG: return -x;
    case CRANK_EXP: return exp(x);
    case CRANK_LOG: return log(x);
    case CRANK_SQRT: return sqrt(x);
    case CRANK_RSQRT: return 1 / sqrt(x);
    case CRANK_RECIPROCAL: return 1 / x;
    case CRANK_SQUARE: return x * x;
    case CRANK_ABS: return fabs(x);
    case CRANK_SIGN: return x > 0 ? 1 : x < 0 ? -1 : x;
    case CRANK_TANH: return tanh(x);
    case CRANK_SIGMOID: return sigmoid(x);
    case CRANK_SOFTPLUS: return x > 0 ? x + log1p(exp(-x)) : log1p(exp(x));
    case CRANK_RELU: return x < 0 ? 0 : x;
    case CRANK_SILU: return x == -INFINITY ? 0 : x * sigmoid(x);
    case CRANK_GELU: return x == -INFINITY ? 0 : 0.5 * x * erfc(-x * SQRT_HALF);
    case CRANK_GELU_TANH: /* (1 + tanh u) / 2 = sigmoid(2u), without cancellation on the left */
        return x == -INFINITY ? 0 : x * sigmoid(2 * SQRT_2_OVER_PI * (x + GELU_CUBIC * x * x * x));
    case CRANK_SIN: return sin(x);
    case CRANK_COS: return cos(x);
    }
    return NAN;
}

double plain_activation_slope(crank_unary_kind kind, double x, double y)
{
    switch (kind) {
    case CRANK_NEG: return -1;
    case CRANK_EXP: return y;
    case CRANK_LOG: return 1 / x;
    case CRANK_SQRT: return 0.5 / y;
    case CRANK_RSQRT: return -0.5 * y * y * y;
    case CRANK_RECIPROCAL: return -y * y;
    case CRANK_SQUARE: return 2 * x;
    case CRANK_ABS: return x > 0 ? 1 : x < 0 ? -1 : x;
    case CRANK_SIGN: return 0;
    case CRANK_TANH: return 1 - y * y;
    case CRANK_SIGMOID: return y * (1 - y);
    case CRANK_SOFTPLUS: return sigmoid(x);
    case CRANK_RELU: return y > 0 ? 1 : y != y ? y : 0;
    case CRANK_SILU: return isinf(x) ? x > 0 : sigmoid(x) * (1 + x * sigmoid(-x));
    case CRANK_GELU: /* Phi(x) + x phi(x) */
        return isinf(x) ? x > 0 : 0.5 * erfc(-x * SQRT_HALF) + x * 0.5 * SQRT_2_OVER_PI * exp(-0.5 * x * x);
    case CRANK_GELU_TANH: {
        if (fabs(x) > 1e3) return x > 0; /* u would overflow; also for infinities */
        double s = sigmoid(2 * SQRT_2_OVER_PI * (x + GELU_CUBIC * x * x * x));
        double slope = 2 * SQRT_2_OVER_PI * (1 + 3 * GELU_CUBIC * x * x);
        return s + x * s * (1 - s) * slope;
    }
    case CRANK_SIN: return cos(x);
    case CRANK_COS: return -sin(x);
    }
    return NAN;
}

crank_status plain_unary(crank_context *context, const crank_call *call)
{
    (void)context;
    const crank_view *x = &call->in[0], *y = &call->out[0];
    crank_unary_kind  kind = ((const crank_unary_attributes *)call->attributes)->kind;
    WALK (w, y, y->rank, x, y) put(y, w.offset[1], plain_activation(kind, get(x, w.offset[0])));
    return CRANK_OK;
}

crank_status plain_unary_backward(crank_context *context, const crank_call *call)
{
    (void)context;
    crank_unary_kind  kind = ((const crank_unary_attributes *)call->attributes)->kind;
    const crank_view *dy = &call->in[2], *dx = &call->out[0];
    bool              reads_x = crank_unary_needs_x(kind), reads_y = crank_unary_needs_y(kind);
    const crank_view *x = reads_x ? &call->in[0] : dy, *y = reads_y ? &call->in[1] : dy;
    WALK (w, dx, dx->rank, x, y, dy, dx) {
        double slope =
            plain_activation_slope(kind, reads_x ? get(x, w.offset[0]) : 0, reads_y ? get(y, w.offset[1]) : 0);
        put(dx, w.offset[3], slope * get(dy, w.offset[2]));
    }
    return CRANK_OK;
}

crank_status plain_glu(crank_context *context, const crank_call *call)
{
    (void)context;
    const crank_view *gate = &call->in[0], *up = &call->in[1], *h = &call->out[0];
    crank_unary_kind  kind = ((const crank_glu_attributes *)call->attributes)->activation;
    WALK (w, h, h->rank, gate, up, h)
        put(h, w.offset[2], plain_activation(kind, get(gate, w.offset[0])) * get(up, w.offset[1]));
    return CRANK_OK;
}

crank_status plain_glu_backward(crank_context *context, const crank_call *call)
{
    (void)context;
    const crank_view *dh = &call->in[0], *gate = &call->in[1], *up = &call->in[2], *dgate = &call->out[0],
                     *dup = &call->out[1];
    crank_unary_kind kind = ((const crank_glu_attributes *)call->attributes)->activation;
    WALK (w, dh, dh->rank, dh, gate, up, dgate, dup) {
        double d = get(dh, w.offset[0]), g = get(gate, w.offset[1]), u = get(up, w.offset[2]);
        put(dgate, w.offset[3], d * u * plain_activation_slope(kind, g, 0));
        put(dup, w.offset[4], d * plain_activation(kind, g));
    }
    return CRANK_OK;
}

crank_status plain_dropout(crank_context *context, const crank_call *call)
{
    (void)context;
    const crank_view               *x = &call->in[0], *y = &call->out[0];
    const crank_dropout_attributes *a = call->attributes;
    crank_stream                    stream = crank_stream_make(a->seed, CRANK_RANDOM_DROPOUT, a->index);
    uint64_t                        draw = *(const uint64_t *)call->in[1].data << 34;
    WALK (w, y, y->rank, x, y)
        put(y, w.offset[1], crank_draw_uniform(stream, draw++) >= a->p ? get(x, w.offset[0]) / (1 - a->p) : 0);
    return CRANK_OK;
}
