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
