/* dtype.c - element types and views. */
#include <string.h>

#include "crank/tensor.h"

static const struct {
    const char *name, *safetensors;
    size_t      bits;
    bool        is_float;
} types[CRANK_DTYPES] = {
    [CRANK_F32] = {"f32", "F32", 32, true},
    [CRANK_BF16] = {"bf16", "BF16", 16, true},
    [CRANK_F16] = {"f16", "F16", 16, true},
    [CRANK_F64] = {"f64", "F64", 64, true},
    [CRANK_I32] = {"i32", "I32", 32, false},
    [CRANK_I64] = {"i64", "I64", 64, false},
    [CRANK_U8] = {"u8", "U8", 8, false},
    [CRANK_F8E4M3] = {"f8e4m3", "F8_E4M3", 8, true},
    [CRANK_NF4] = {"nf4", NULL, 4, true},
};

static bool is_known(crank_dtype dtype) { return (unsigned)dtype < CRANK_DTYPES; }

const char *crank_dtype_name(crank_dtype dtype) { return is_known(dtype) ? types[dtype].name : "other"; }
size_t      crank_dtype_bits(crank_dtype dtype) { return is_known(dtype) ? types[dtype].bits : 0; }
bool        crank_dtype_is_float(crank_dtype dtype) { return is_known(dtype) && types[dtype].is_float; }

bool crank_dtype_parse(const char *name, crank_dtype *dtype)
{
    for (int i = 0; i < CRANK_DTYPES; i++)
        if (strcmp(name, types[i].name) == 0 || (types[i].safetensors && strcmp(name, types[i].safetensors) == 0)) {
            *dtype = (crank_dtype)i;
            return true;
        }
    return false;
}

crank_view crank_view_make(void *data, crank_dtype dtype, int rank, const int64_t *dims)
{
    crank_view view = {.data = data, .dtype = dtype, .rank = rank};
    int64_t    stride = 1;
    for (int i = rank - 1; i >= 0; i--) {
        view.dims[i] = dims[i];
        view.strides[i] = stride;
        stride *= dims[i];
    }
    return view;
}

int64_t crank_view_count(const crank_view *view)
{
    int64_t count = 1;
    for (int i = 0; i < view->rank; i++) count *= view->dims[i];
    return count;
}

size_t crank_view_bytes(const crank_view *view)
{
    return ((size_t)crank_view_count(view) * crank_dtype_bits(view->dtype) + 7) / 8;
}

bool crank_view_is_contiguous(const crank_view *view)
{
    int64_t stride = 1;
    if (crank_view_count(view) == 0) return true;
    for (int i = view->rank - 1; i >= 0; i--) {
        if (view->dims[i] != 1 && view->strides[i] != stride) return false;
        stride *= view->dims[i];
    }
    return true;
}
