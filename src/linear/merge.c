/* merge.c - merging: the maps that are on are run on unit rows, and what they give becomes the base weight.
 *
 * A stack of affine maps is y = f(x) with f(x) = x W'^T + c. Row j of the identity gives column j of W':
 *
 *     W'^T = f(I) - f(0),   c = f(0) (added to the bias)
 *
 * The rows of W^T go in as y0, so that the base costs no product; a dense linear takes blocks of unit rows, an embedding its
 * ids. All is computed in f32 (f64 for an f64 weight) and rounded once to the weight's type. Every changed parameter is kept
 * until the whole merge has succeeded: a failure, or a non-finite value when `safe`, puts all of them back. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "linear/stack.h"

/* ---- parameters: change and put back ---- */

static size_t element_size(const crank_param *param) { return crank_dtype_bits(param->view.dtype) / 8; }

static crank_status download(crank_context *context, const crank_param *param, void *host)
{
    crank_device *device = crank_params_device(param->owner);
    return device->download(context, device, host, param->view.data, crank_view_bytes(&param->view));
}

static crank_status upload(crank_context *context, crank_param *param, const void *host)
{
    crank_device *device = crank_params_device(param->owner);
    param->version++;
    return device->upload(context, device, param->view.data, host, crank_view_bytes(&param->view));
}

/* Remembers what the parameter is now, unless an earlier merge did; a mapped one gets memory of its own. */
static crank_status back_up(crank_context *context, crank_linears *linears, crank_param *param)
{
    for (size_t i = 0; i < linears->backup_count; i++)
        if (linears->backups[i].param == param) return CRANK_OK;
    if (!stack_grow(context, &linears->backups, linears->backup_count, &linears->backup_capacity, sizeof *linears->backups,
                    "weights before a merge"))
        return CRANK_FAILED;
    merge_backup  kept = { .param = param };
    crank_device *device = crank_params_device(param->owner);
    if (param->mapped) {
        void *own = device->alloc(context, device, crank_view_bytes(&param->view), param->name);
        if (!own) return CRANK_FAILED;
        kept.mapped = param->view.data;
        param->view.data = own;
    } else {
        if (!(kept.bytes = crank_alloc(context, 1, crank_view_bytes(&param->view), param->name))) return CRANK_FAILED;
        if (download(context, param, kept.bytes)) {
            crank_free(kept.bytes);
            return crank_last_status(context);
        }
    }
    linears->backups[linears->backup_count++] = kept;
    return CRANK_OK;
}

static crank_status put_back(crank_context *context, const merge_backup *kept)
{
    crank_device *device = crank_params_device(kept->param->owner);
    if (!kept->mapped) return upload(context, kept->param, kept->bytes);
    device->free(device, kept->param->view.data);
    kept->param->view.data = kept->mapped;
    kept->param->version++;
    return CRANK_OK;
}

/* Puts back the backups from number `first` on and forgets them. */
static crank_status put_back_from(crank_context *context, crank_linears *linears, size_t first)
{
    crank_status status = CRANK_OK;
    while (linears->backup_count > first) {
        merge_backup *kept = &linears->backups[--linears->backup_count];
        if (put_back(context, kept)) status = crank_last_status(context);
        crank_free(kept->bytes);
    }
    return status;
}
