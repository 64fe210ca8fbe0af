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

static crank_param *add_turned(crank_context *context, crank_params *params, const char *weight, int64_t in, int64_t out)
{
    char        *full = crank_format(context, "%s.turned", weight);
    crank_param *param = full ? crank_params_add(params, full, CRANK_ROLE_WEIGHT, CRANK_F8E4M3, 2, (int64_t[]){in, out}) : NULL;
    crank_free(full);
    if (param) param->scales = true; /* the same parameters once more */
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
    if (!four && q->scales && (q->turned = add_turned(context, params, weight, in, out)))
        q->turned_scales = part(context, params, weight, "turned_absmax", CRANK_F32, in);
    if (q->scales && (!nested || q->offset) && (four || q->turned_scales)) return q;
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

/* W^T [in, out] by its own rows. */
static crank_status fill_turned(crank_context *context, crank_quantized *q, const float *w)
{
    enum { TILE = 32 };
    int64_t      in = q->in, out = q->out;
    float       *turned = crank_alloc(context, (size_t)(in * out), sizeof *turned, q->turned->name);
    uint8_t     *codes = crank_alloc(context, (size_t)(in * out), 1, q->turned->name);
    float       *scales = crank_alloc(context, (size_t)in, sizeof *scales, "scales of a weight");
    crank_status status = turned && codes && scales ? CRANK_OK : CRANK_FAILED;
    if (status == CRANK_OK) {
#pragma omp parallel for num_threads(crank_threads(context)) schedule(static)
        for (int64_t i0 = 0; i0 < in; i0 += TILE)
            for (int64_t o = 0; o < out; o++)
                for (int64_t i = i0; i < in && i < i0 + TILE; i++) turned[i * out + o] = w[o * in + i];
        fp8_quantize_rows(turned, in, out, out, crank_threads(context), codes, scales);
        status = upload(context, q->turned, codes);
    }
    if (status == CRANK_OK) status = upload(context, q->turned_scales, scales);
    crank_free(turned);
    crank_free(codes);
    crank_free(scales);
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
    return status == CRANK_OK && q->turned ? fill_turned(context, q, w) : status;
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

/* The last inputs that a graph has quantised: linears that read the same x share its eight bits. */
enum { INPUTS = 4 };
typedef struct quantized_inputs {
    crank_tensor *x[INPUTS], *q[INPUTS], *scale[INPUTS];
    unsigned      next;
} quantized_inputs;

static const char inputs_key;

static crank_tensor *in_eight_bits(crank_graph *graph, crank_tensor *x, crank_tensor **scale)
{
    quantized_inputs *kept = crank_graph_slot(graph, &inputs_key, sizeof *kept, NULL);
    for (int i = 0; kept && i < INPUTS; i++)
        if (kept->x[i] == x) {
            *scale = kept->scale[i];
            return kept->q[i];
        }
    crank_tensor *q = crank_quantize_rows(x, scale);
    if (kept) kept->x[kept->next % INPUTS] = x, kept->scale[kept->next % INPUTS] = *scale, kept->q[kept->next++ % INPUTS] = q;
    return q;
}

crank_tensor *quantized_product(crank_graph *graph, const crank_quantized *q, crank_tensor *x, crank_tensor *bias)
{
    if (!q->turned) return crank_matmul_full(x, false, quantized_weight(graph, q), true, 1, bias, NULL, CRANK_DTYPES);
    crank_tensor *scale, *rows = in_eight_bits(graph, x, &scale);
    return crank_scaled_matmul(rows, scale, crank_use(graph, q->codes), crank_use(graph, q->scales), crank_use(graph, q->turned),
                               crank_use(graph, q->turned_scales), bias, crank_graph_compute(graph));
}
