/* plain_quantized.c - plain body of weights in four and eight bits. Equations: operations.h. */
#include "device/cpu/plain.h"
#include "tensor/fp8.h"
#include "tensor/nf4.h"

crank_status plain_dequantize(crank_context *context, const crank_call *call)
{
    (void)context;
    const crank_dequantize_attributes *a = call->attributes;
    const crank_view *w = &call->in[0], *s = &call->in[1], *y = &call->out[0];
    bool              coded = view_present(&call->in[2]);
    nf4_scales        scales = {.plain = coded ? NULL : s->data, .codes = s->data};
    if (coded) scales.map = call->in[2].data, scales.second = call->in[3].data, scales.offset = *(const float *)call->in[4].data;
    for (int64_t i = 0; i < w->dims[0]; i++)
        for (int64_t j = 0; j < w->dims[1]; j++) {
            int64_t at = i * w->dims[1] + j;
            float   value = 0;
            if (w->dtype == CRANK_F8E4M3) value = fp8_to_float(((const uint8_t *)w->data)[at]) * ((const float *)s->data)[i];
            else nf4_dequantize((const uint8_t *)w->data + at / 2, &scales, a->block, at, 1, &value);
            put(y, at2(y, i, j), (double)value);
        }
    return CRANK_OK;
}

crank_status plain_quantize_rows(crank_context *context, const crank_call *call)
{
    (void)context;
    const crank_view *x = &call->in[0];
    uint8_t          *q = call->out[0].data;
    for (int64_t i = 0; i < x->dims[0]; i++) {
        float amax = 0;
        for (int64_t j = 0; j < x->dims[1]; j++) amax = fp8_larger(amax, (float)get(x, at2(x, i, j)));
        float scale = ((float *)call->out[1].data)[i] = fp8_scale(amax);
        for (int64_t j = 0; j < x->dims[1]; j++) q[i * x->dims[1] + j] = fp8_from_float((float)get(x, at2(x, i, j)) / scale);
    }
    return CRANK_OK;
}

crank_status plain_scaled_matmul(crank_context *context, const crank_call *call)
{
    (void)context;
    const crank_view *q = &call->in[0], *w = &call->in[2], *bias = &call->in[6], *y = &call->out[0];
    const uint8_t    *a = q->data, *b = w->data;
    const float      *scale = call->in[1].data, *w_scale = call->in[3].data;
    int64_t           k = q->dims[1];
    for (int64_t i = 0; i < y->dims[0]; i++)
        for (int64_t j = 0; j < y->dims[1]; j++) {
            double sum = 0;
            for (int64_t l = 0; l < k; l++) sum += (double)fp8_to_float(a[i * k + l]) * (double)fp8_to_float(b[j * k + l]);
            put(y, at2(y, i, j), sum * (double)scale[i] * (double)w_scale[j] + (view_present(bias) ? get(bias, at1(bias, j)) : 0));
        }
    return CRANK_OK;
}
