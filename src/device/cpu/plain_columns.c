/* plain_columns.c - plain bodies of operations with a factor for each column. */
#include "device/cpu/plain.h"

crank_status plain_scale_columns(crank_context *context, const crank_call *call)
{
    (void)context;
    const crank_view *x = &call->in[0], *k = &call->in[1], *y = &call->out[0];
    for (int64_t i = 0; i < x->dims[0]; i++)
        for (int64_t j = 0; j < x->dims[1]; j++) put(y, at2(y, i, j), get(x, at2(x, i, j)) * get(k, at1(k, j)));
    return CRANK_OK;
}

crank_status plain_scale_columns_backward(crank_context *context, const crank_call *call)
{
    (void)context;
    const crank_view *dy = &call->in[0], *y = &call->in[1], *k = &call->in[2], *dx = &call->out[0], *dk = &call->out[1];
    for (int64_t j = 0; j < dy->dims[1]; j++) {
        double factor = get(k, at1(k, j)), sum = 0;
        for (int64_t i = 0; i < dy->dims[0]; i++) {
            double d = get(dy, at2(dy, i, j));
            sum += d * get(y, at2(y, i, j));
            put(dx, at2(dx, i, j), d * factor);
        }
        if (view_present(dk)) put(dk, at1(dk, j), factor != 0 ? sum / factor : 0);
    }
    return CRANK_OK;
}

crank_status plain_glu_scaled(crank_context *context, const crank_call *call)
{
    (void)context;
    const crank_view *gate = &call->in[0], *kg = &call->in[1], *up = &call->in[2], *ku = &call->in[3], *h = &call->out[0];
    crank_unary_kind  kind = ((const crank_glu_attributes *)call->attributes)->activation;
    for (int64_t i = 0; i < h->dims[0]; i++)
        for (int64_t j = 0; j < h->dims[1]; j++)
            put(h, at2(h, i, j), plain_activation(kind, get(gate, at2(gate, i, j)) * get(kg, at1(kg, j))) * get(up, at2(up, i, j)) * get(ku, at1(ku, j)));
    return CRANK_OK;
}

crank_status plain_glu_scaled_backward(crank_context *context, const crank_call *call)
{
    (void)context;
    const crank_view *dh = &call->in[0], *gate = &call->in[1], *kg = &call->in[2], *up = &call->in[3], *ku = &call->in[4];
    const crank_view *dgate = &call->out[0], *dup = &call->out[1], *dkg = &call->out[2], *dku = &call->out[3];
    crank_unary_kind  kind = ((const crank_glu_attributes *)call->attributes)->activation;
    for (int64_t j = 0; j < dh->dims[1]; j++) {
        double scale_gate = get(kg, at1(kg, j)), scale_up = get(ku, at1(ku, j)), sums[2] = {0, 0};
        for (int64_t i = 0; i < dh->dims[0]; i++) {
            double d = get(dh, at2(dh, i, j)), g = get(gate, at2(gate, i, j)), u = get(up, at2(up, i, j));
            double to_gate = d * u * scale_up * plain_activation_slope(kind, g * scale_gate, 0), to_up = d * plain_activation(kind, g * scale_gate);
            sums[0] += to_gate * g, sums[1] += to_up * u;
            put(dgate, at2(dgate, i, j), to_gate * scale_gate);
            put(dup, at2(dup, i, j), to_up * scale_up);
        }
        if (view_present(dkg)) put(dkg, at1(dkg, j), sums[0]);
        if (view_present(dku)) put(dku, at1(dku, j), sums[1]);
    }
    return CRANK_OK;
}
