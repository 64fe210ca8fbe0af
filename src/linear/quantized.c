/* quantized.c - base weights in four bits (QLoRA: Dettmers et al. 2023, arXiv:2305.14314) or eight. */
#include "linear/quantized.h"

#include <string.h>

#include "crank/ops.h"
#include "tensor/fp8.h"
#include "tensor/nf4.h"

static crank_param *part(crank_context *context, crank_params *params, const char *weight, const char *name, crank_dtype dtype, int64_t count)
{
    char        *full = crank_format(context, "%s.%s", weight, name);
    crank_param *param = full ? crank_params_add(params, full, CRANK_ROLE_WEIGHT, dtype, 1, &count) : NULL;
    crank_free(full);
    if (param) param->no_decay = param->scales = true;
    return param;
}

crank_quantized *quantized_new(crank_context *context, crank_params *params, const char *weight, int64_t in, int64_t out, const quantized_spec *spec)
{
    crank_quantized *q = crank_alloc(context, 1, sizeof *q, weight);
    if (!q) return NULL;
    *q = (crank_quantized){.spec = *spec, .in = in, .out = out};
    bool    four = spec->dtype == CRANK_NF4, nested = four && spec->nested;
    int64_t scales = four ? nf4_blocks(in * out, spec->block) : out;
    q->codes = crank_params_add(params, weight, CRANK_ROLE_WEIGHT, spec->dtype, 2, (int64_t[]){out, in});
    if (q->codes) q->scales = part(context, params, weight, "absmax", nested ? CRANK_U8 : CRANK_F32, scales);
    if (nested && q->scales) q->map = part(context, params, weight, "quant_map", CRANK_F32, NF4_MAP);
    if (nested && q->map) q->second = part(context, params, weight, "nested_absmax", CRANK_F32, nf4_blocks(scales, NF4_NESTED_BLOCK));
    if (nested && q->second) q->offset = part(context, params, weight, "nested_offset", CRANK_F32, 1);
    if (q->scales && (!nested || q->offset)) return q;
    quantized_free(q);
    return NULL;
}

void quantized_free(crank_quantized *quantized)
{
    if (!quantized) return;
    crank_free(quantized->edges);
    crank_free(quantized);
}

/* ---- values ---- */

/* All bytes of a parameter, as they lie in memory. */
static crank_status upload(crank_context *context, crank_param *param, const void *bytes)
{
    crank_device *device = crank_params_device(param->owner);
    param->version++;
    return device->upload(context, device, param->view.data, bytes, crank_view_bytes(&param->view));
}

static crank_status keep_edges(crank_context *context, crank_quantized *q, const float *w)
{
    if (!q->edges && !(q->edges = crank_alloc(context, 2 * (size_t)q->in, sizeof *q->edges, "rows of a weight"))) return CRANK_FAILED;
    crank_convert(q->edges, CRANK_BF16, w, CRANK_F32, (size_t)q->in);
    crank_convert(q->edges + q->in, CRANK_BF16, w + (q->out - 1) * q->in, CRANK_F32, (size_t)q->in);
    return CRANK_OK;
}

/* Scales as codes with what they stand for. */
static crank_status fill_nested(crank_context *context, crank_quantized *q, const float *absmax, int64_t blocks)
{
    int64_t      nested = nf4_blocks(blocks, NF4_NESTED_BLOCK);
    uint8_t     *codes = crank_alloc(context, (size_t)blocks, 1, "scales of a weight");
    float       *second = crank_alloc(context, (size_t)nested, sizeof *second, "scales of a weight"), map[NF4_MAP], offset;
    crank_status status = codes && second ? CRANK_OK : CRANK_FAILED;
    if (status == CRANK_OK) {
        nf4_compress(absmax, blocks, codes, map, second, &offset);
        status = upload(context, q->scales, codes);
    }
    if (status == CRANK_OK) status = upload(context, q->map, map);
    if (status == CRANK_OK) status = upload(context, q->second, second);
    if (status == CRANK_OK) status = upload(context, q->offset, &offset);
    crank_free(codes);
    crank_free(second);
    return status;
}

crank_status quantized_fill(crank_context *context, crank_quantized *q, const float *w)
{
    bool         four = q->spec.dtype == CRANK_NF4;
    int64_t      scales = four ? nf4_blocks(q->in * q->out, q->spec.block) : q->out;
    uint8_t     *codes = crank_alloc(context, crank_view_bytes(&q->codes->view), 1, q->codes->name);
    float       *absmax = crank_alloc(context, (size_t)scales, sizeof *absmax, "scales of a weight");
    crank_status status = codes && absmax ? keep_edges(context, q, w) : CRANK_FAILED;
    if (status == CRANK_OK) {
        if (four) nf4_quantize(w, q->in * q->out, q->spec.block, crank_threads(context), codes, absmax);
        else fp8_quantize_rows(w, q->out, q->in, q->in, crank_threads(context), codes, absmax);
        status = upload(context, q->codes, codes);
    }
    if (status == CRANK_OK) status = q->map ? fill_nested(context, q, absmax, scales) : upload(context, q->scales, absmax);
    crank_free(codes);
    crank_free(absmax);
    return status;
}

crank_status quantized_take(crank_context *context, crank_quantized *q, const nf4_file *file)
{
    crank_status status = upload(context, q->codes, file->codes);
    if (status == CRANK_OK) status = upload(context, q->scales, file->coded_scales ? (const void *)file->coded_scales : (const void *)file->scales);
    if (status != CRANK_OK || !q->map) return status;
    status = upload(context, q->map, file->map);
    if (status == CRANK_OK) status = upload(context, q->second, file->second);
    return status == CRANK_OK ? upload(context, q->offset, &file->offset) : status;
}

/* ---- dense again ---- */

/* Bytes first .. first + bytes - 1 of a parameter on the host: its own memory, or a copy in *own. */
static const void *bytes_of(crank_context *context, const crank_param *param, size_t first, size_t bytes, void **own)
{
    crank_device *device = crank_params_device(param->owner);
    const char   *from = (const char *)param->view.data + first;
    *own = NULL;
    if (device->host) return from;
    if (!(*own = crank_alloc(context, bytes, 1, param->name))) return NULL;
    return device->download(context, device, *own, from, bytes) == CRANK_OK ? *own : NULL;
}

static const void *whole(crank_context *context, const crank_param *param, void **own)
{
    *own = NULL;
    return param ? bytes_of(context, param, 0, crank_view_bytes(&param->view), own) : NULL;
}

crank_status quantized_rows(crank_context *context, const crank_quantized *q, int64_t first, int64_t count, float *rows)
{
    void          *own[5] = {NULL};
    int64_t        begin = first * q->in, n = count * q->in, shift = q->spec.dtype == CRANK_NF4 ? 1 : 0, from = begin >> shift;
    const uint8_t *codes = bytes_of(context, q->codes, (size_t)from, (size_t)(((begin + n + shift) >> shift) - from), &own[0]);
    const void    *scales = whole(context, q->scales, &own[1]);
    const float   *map = whole(context, q->map, &own[2]), *second = whole(context, q->second, &own[3]), *offset = whole(context, q->offset, &own[4]);
    crank_status   status = codes && scales && (!q->map || (map && second && offset)) ? CRANK_OK : crank_last_status(context);
    if (status == CRANK_OK && q->spec.dtype == CRANK_NF4) {
        nf4_scales s = {.plain = map ? NULL : scales, .codes = scales, .map = map, .second = second, .offset = map ? *offset : 0};
        nf4_dequantize(codes, &s, q->spec.block, begin, n, rows);
    } else if (status == CRANK_OK)
        for (int64_t i = 0; i < n; i++) rows[i] = fp8_to_float(codes[i]) * ((const float *)scales)[first + i / q->in];
    for (int i = 0; i < 5; i++) crank_free(own[i]);
    return status;
}

crank_tensor *quantized_weight(crank_graph *graph, const crank_quantized *q)
{
    crank_tensor *map = q->map ? crank_use(graph, q->map) : NULL, *second = q->map ? crank_use(graph, q->second) : NULL;
    return crank_dequantize(crank_use(graph, q->codes), crank_use(graph, q->scales), map, second, q->map ? crank_use(graph, q->offset) : NULL, q->spec.block,
                            crank_graph_compute(graph));
}
