/* packed.c - weights that bitsandbytes has quantised to nf4, as transformers saves them in a checkpoint:
 *
 *     NAME                                        u8 [elements / 2, 1]: codes, the first element of a pair in the high half
 *     NAME.absmax                                 f32 [blocks], or u8 [blocks] with double quantisation
 *     NAME.quant_map                              f32 [16]: the levels
 *     NAME.nested_absmax, NAME.nested_quant_map   f32 [blocks / 256], f32 [256]
 *     NAME.quant_state.bitsandbytes__nf4          u8: JSON text with quant_type, blocksize, shape, nested_blocksize, nested_offset
 *
 * What does not fit together becomes a line in the table of problems. */
#include "model/packed.h"

#include <string.h>

#include "tensor/nf4.h"

static bool companion(crank_model *model, const char *name, const char *part, crank_view *view)
{
    char text[600];
    snprintf(text, sizeof text, "%s.%s", name, part);
    return weights_lookup(model, text, view) != NULL;
}

static bool is(const crank_view *view, crank_dtype dtype, int64_t count) { return view->dtype == dtype && crank_view_count(view) == count; }

static bool refuse(crank_model *model, const char *name, const char *why)
{
    weights_problem(model, "nf4      %s: %s", name, why);
    return false;
}

/* The JSON text: block, nested, offset. */
static bool read_state(crank_model *model, const char *name, const crank_view *text, int64_t rows, int64_t columns, packed_weight *out)
{
    crank_context *context = model->context;
    crank_status   status = CRANK_OK;
    double         offset = 0;
    int64_t        nested = 0;
    json_t        *state = json_parse(context, text->data, (size_t)crank_view_count(text), name);
    if (!state) return refuse(model, name, "its quant_state is no JSON text");
    const char *type = json_get_string(context, state, "quant_type", name, &status);
    bool        nf4 = status == CRANK_OK && type && !strcmp(type, "nf4");
    if (status == CRANK_OK) status = json_need_int(context, state, "blocksize", 2, 1 << 20, &out->block, name);
    if (status == CRANK_OK) status = json_get_int(context, state, "nested_blocksize", NF4_NESTED_BLOCK, NF4_NESTED_BLOCK, 0, &nested, name);
    if (status == CRANK_OK) status = json_get_number(context, state, "nested_offset", 0, &offset, name);
    json_t *shape = json_object_get(state, "shape");
    bool    same = json_is_array(shape) && json_array_size(shape) == 2 && json_integer_value(json_array_get(shape, 0)) == rows &&
                json_integer_value(json_array_get(shape, 1)) == columns;
    json_decref(state);
    out->nested = nested != 0;
    out->offset = (float)offset;
    if (status != CRANK_OK) return refuse(model, name, crank_message(context));
    if (!nf4) return refuse(model, name, "quant_type is not nf4; crank reads nf4 alone");
    if (out->block % 2) return refuse(model, name, "its blocks are of odd length");
    if (!(fabs(offset) < 3e38)) return refuse(model, name, "nested_offset is no finite number");
    return same || refuse(model, name, "its shape in quant_state is not the one that the config says");
}

bool packed_there(crank_model *model, const char *name)
{
    crank_view view;
    return model->weights && (companion(model, name, "quant_state.bitsandbytes__nf4", &view) || companion(model, name, "quant_state.bitsandbytes__fp4", &view));
}

bool packed_read(crank_model *model, const char *name, const crank_view *codes, int64_t rows, int64_t columns, packed_weight *out)
{
    crank_view state, levels, absmax;
    *out = (packed_weight){.rows = rows, .columns = columns, .codes = *codes};
    if (!companion(model, name, "quant_state.bitsandbytes__nf4", &state)) return refuse(model, name, "it is held in fp4; crank reads nf4 alone");
    if (!companion(model, name, "absmax", &absmax) || !companion(model, name, "quant_map", &levels)) return refuse(model, name, "absmax or quant_map is missing");
    if (!read_state(model, name, &state, rows, columns, out)) return false;
    if (!is(&levels, CRANK_F32, 16) || memcmp(levels.data, nf4_levels, sizeof nf4_levels) != 0) return refuse(model, name, "quant_map does not hold the levels of nf4");
    int64_t blocks = nf4_blocks(rows * columns, out->block);
    if (!is(codes, CRANK_U8, (rows * columns + 1) / 2)) return refuse(model, name, "it does not hold a byte for two elements");
    out->scales = absmax;
    if (!is(&absmax, out->nested ? CRANK_U8 : CRANK_F32, blocks)) return refuse(model, name, "absmax does not hold one scale a block");
    if (!out->nested) return true;
    if (!companion(model, name, "nested_absmax", &out->second) || !companion(model, name, "nested_quant_map", &out->map))
        return refuse(model, name, "nested_absmax or nested_quant_map is missing");
    if (!is(&out->map, CRANK_F32, NF4_MAP) || !is(&out->second, CRANK_F32, nf4_blocks(blocks, NF4_NESTED_BLOCK)))
        return refuse(model, name, "nested_absmax or nested_quant_map has the wrong type or size");
    return true;
}

/* A copy that is aligned for its type, as views of a file need not be; crank_free. */
static void *aligned(crank_context *context, const crank_view *view)
{
    void *copy = view->data ? crank_alloc(context, crank_view_bytes(view), 1, "scales of a weight") : NULL;
    return copy ? memcpy(copy, view->data, crank_view_bytes(view)) : NULL;
}

crank_status packed_open(crank_context *context, const packed_weight *packed, nf4_file *file)
{
    *file = (nf4_file){.codes = packed->codes.data, .offset = packed->offset, .rows = packed->rows, .columns = packed->columns, .block = packed->block};
    if (packed->nested) file->coded_scales = packed->scales.data;
    else file->scales = aligned(context, &packed->scales);
    file->map = aligned(context, &packed->map);
    file->second = aligned(context, &packed->second);
    if ((packed->nested || file->scales) && (!packed->nested || (file->map && file->second))) return CRANK_OK;
    packed_close(file);
    return CRANK_FAILED;
}

void packed_close(nf4_file *file)
{
    crank_free((void *)(uintptr_t)file->scales);
    crank_free((void *)(uintptr_t)file->map);
    crank_free((void *)(uintptr_t)file->second);
    *file = (nf4_file){0};
}
