/* fingerprint.c - recognises the base model of an adapter: SHA-256 over each tensor's name, dims, first and last row
 * (as f32). */
#include "base/sha256.h"
#include "model/model.h"

#include <string.h>

/* The first or last row of a weight, f32; the parameter may live on a device or be quantised. */
static crank_status add_row(crank_context *context, sha256 *hash, const model_weight *weight, int64_t row,
                            int64_t width)
{
    float *values = crank_alloc(context, (size_t)width, sizeof *values, "a row of a weight");
    crank_status status = values ? CRANK_OK : CRANK_FAILED;
    if (status == CRANK_OK && weight->linear && weight->linear->kind == CRANK_LINEAR_DENSE)
        status = crank_linear_rows(context, weight->linear, row, 1, values);
    else if (status == CRANK_OK) {
        crank_param whole = *weight->param;
        size_t bytes = crank_dtype_bits(whole.view.dtype) / 8 * (size_t)width;
        whole.view = crank_view_make((char *)whole.view.data + (size_t)row * bytes, whole.view.dtype, 1, &width);
        status = crank_param_read(context, &whole, values, CRANK_F32);
    }
    if (status == CRANK_OK) sha256_add(hash, values, (size_t)width * sizeof *values);
    crank_free(values);
    return status;
}

const char *crank_model_fingerprint(crank_context *context, crank_model *model)
{
    sha256 hash;
    if (model->options.dry) {
        crank_fail(context, CRANK_USAGE, "a model without weights has no fingerprint");
        return NULL;
    }
    sha256_start(&hash);
    for (size_t i = 0; i < model->count; i++) {
        const model_weight *weight = &model->list[i];
        const crank_linear *linear = weight->linear;
        bool dense = linear && linear->kind == CRANK_LINEAR_DENSE;
        int64_t shape[2] = {dense ? linear->out : weight->param->view.dims[0], 1};
        if (dense)
            shape[1] = linear->in;
        else if (weight->param->view.rank == 2)
            shape[1] = weight->param->view.dims[1];
        bool vector = !dense && weight->param->view.rank == 1;
        int64_t rows = vector ? 1 : shape[0], width = vector ? shape[0] : shape[1];
        sha256_add(&hash, weight->name, strlen(weight->name) + 1);
        sha256_add(&hash, shape, sizeof shape);
        if (add_row(context, &hash, weight, 0, width) != CRANK_OK) return NULL;
        if (rows > 1 && add_row(context, &hash, weight, rows - 1, width) != CRANK_OK) return NULL;
    }
    sha256_hex(&hash, model->fingerprint);
    return model->fingerprint;
}
