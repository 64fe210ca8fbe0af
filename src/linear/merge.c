/* merge.c - merging: the maps that are on are run on unit rows, and what they give becomes the base weight.
 *
 * A stack of affine maps is y = f(x) with f(x) = x W'^T + c. Row j of the identity gives column j of W':
 *
 *     W'^T = f(I) - f(0),   c = f(0) (added to the bias)
 *
 * The rows of W^T go in as y0, so that the base costs no product; a dense linear takes blocks of unit rows, an embedding its
 * ids (id -1 is the zero row). All is computed in f32 (f64 for an f64 weight) and rounded once to the weight's type. Every
 * changed parameter is kept until the whole merge has succeeded: a failure, or a non-finite value when `safe`, puts all of them
 * back. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "linear/merge_block.h"
#include "linear/stack.h"

/* ---- parameters: change and put back ---- */

/* Remembers what the parameter is now, unless an earlier merge did. */
static crank_status back_up(crank_context *context, crank_linears *linears, crank_param *param)
{
    for (size_t i = 0; i < linears->backup_count; i++)
        if (linears->backups[i].param == param) return CRANK_OK;
    if (!stack_grow(context, &linears->backups, linears->backup_count, &linears->backup_capacity, sizeof *linears->backups,
                    "weights before a merge"))
        return CRANK_FAILED;
    merge_backup kept = { .param = param };
    if (param->mapped) {
        kept.mapped = param->view.data;
        if (crank_param_own(context, param)) return crank_last_status(context);
    } else {
        if (!(kept.bytes = crank_alloc(context, 1, crank_view_bytes(&param->view), param->name))) return CRANK_FAILED;
        if (crank_param_read(context, param, kept.bytes, param->view.dtype)) {
            crank_free(kept.bytes);
            return crank_last_status(context);
        }
    }
    linears->backups[linears->backup_count++] = kept;
    return CRANK_OK;
}

/* Puts back the backups from number `first` on and forgets them. */
crank_status linears_put_back(crank_context *context, crank_linears *linears, size_t first)
{
    crank_status status = CRANK_OK;
    while (linears->backup_count > first) {
        merge_backup *kept = &linears->backups[--linears->backup_count];
        if (crank_param_write(context, kept->param, kept->bytes ? kept->bytes : kept->mapped, kept->param->view.dtype)) status = crank_last_status(context);
        crank_free(kept->bytes);
    }
    return status;
}

void linears_forget_merge(crank_linears *linears)
{
    while (linears->backup_count) crank_free(linears->backups[--linears->backup_count].bytes);
    linears->final = false;
}

/* ---- one linear ---- */

static double constant_at(const merge_block *block, int64_t o)
{
    return block->type == CRANK_F64 ? ((const double *)block->zero)[o] : ((const float *)block->zero)[o];
}

/* Adds f(0) to the bias. Nothing is added where a value is not finite: the weight is not finite then either. */
static crank_status merge_bias(crank_context *context, crank_linear *linear, const merge_block *block, bool *finite)
{
    bool any = false;
    for (int64_t o = 0; o < linear->out; o++) {
        any = any || constant_at(block, o) != 0;
        *finite = *finite && isfinite(constant_at(block, o));
    }
    if (!any || !*finite) return CRANK_OK;
    if (!linear->bias)
        return crank_fail(context, CRANK_USAGE, "%s has no bias, but its maps add a constant to every output: it cannot be merged",
                          linear->name);
    double *bias = crank_alloc(context, (size_t)linear->out, sizeof *bias, "a bias");
    if (!bias) return CRANK_FAILED;
    crank_status status = crank_param_read(context, linear->bias, bias, CRANK_F64);
    for (int64_t o = 0; o < linear->out; o++) {
        bias[o] += constant_at(block, o);
        *finite = *finite && isfinite(bias[o]);
    }
    if (status == CRANK_OK) status = back_up(context, linear->owner, linear->bias);
    if (status == CRANK_OK) status = crank_param_write(context, linear->bias, bias, CRANK_F64);
    crank_free(bias);
    return status;
}

static crank_status merge_linear(crank_context *context, crank_linear *linear, bool safe)
{
    size_t       bytes = crank_view_bytes(&linear->weight->view);
    bool         finite;
    merge_block  block;
    char        *before = crank_alloc(context, 1, bytes, linear->name), *after = crank_alloc(context, 1, bytes, linear->name);
    crank_status status = merge_block_open(context, linear, &block);
    if (!before || !after) status = CRANK_FAILED;
    if (status == CRANK_OK) status = crank_param_read(context, linear->weight, before, linear->weight->view.dtype);
    if (status == CRANK_OK) status = merge_block_run(&block, before, after, &finite);
    crank_free(before);
    if (status == CRANK_OK) status = merge_bias(context, linear, &block, &finite);
    if (status == CRANK_OK && safe && !finite)
        status = crank_fail(context, CRANK_BAD_DATA, "%s: merging gives values that are not finite; nothing was changed",
                            linear->name);
    if (status == CRANK_OK) status = back_up(context, linear->owner, linear->weight);
    if (status == CRANK_OK) status = crank_param_write(context, linear->weight, after, linear->weight->view.dtype);
    merge_block_close(&block);
    crank_free(after);
    return status;
}

/* ---- the model ---- */

static crank_status check(crank_context *context, const crank_linears *linears, const crank_linear *linear)
{
    const linear_stack *stack = stack_of(linear);
    for (int i = 0; i < stack->count; i++)
        if (attachment_acts(stack->attachments[i]) && stack->attachments[i]->by_row)
            return crank_fail(context, CRANK_USAGE, "%s: the adapter `%s` is chosen row by row: let it act on all rows (crank_attachment_by_row) before it is merged",
                              linear->name, stack->attachments[i]->where.name);
    for (int i = 0; i < stack->count; i++)
        if (attachment_acts(stack->attachments[i]) && !stack->attachments[i]->map->affine)
            return crank_fail(context, CRANK_USAGE, "%s: the method %s is not affine in x and cannot be merged", linear->name,
                              stack->attachments[i]->map->name);
    if (linear->quantized)
        return crank_fail(context, CRANK_USAGE, "%s is held quantised, and what a merge gives is no quantised weight: load the model with dense weights "
                                                "(model.weights f32 or bf16) and merge there; the result is then dense",
                          linear->name);
    if (!linear->weight || !crank_dtype_is_float(linear->weight->view.dtype) || crank_dtype_bits(linear->weight->view.dtype) < 16)
        return crank_fail(context, CRANK_USAGE, "%s: merging needs a dense base weight in a float type", linear->name);
    if (!linear->weight->view.data) return crank_fail(context, CRANK_USAGE, "%s: the weight has no memory (a dry model)", linear->name);
    for (size_t i = 0; i < linears->count; i++)
        if (linears->items[i] != linear && linears->items[i]->weight == linear->weight)
            return crank_fail(context, CRANK_USAGE, "%s shares its weight with %s: merging one would change the other; untie them "
                                                    "first",
                              linear->name, linears->items[i]->name);
    return CRANK_OK;
}

crank_status crank_linears_merge(crank_context *context, crank_linears *linears, bool safe, bool keep_original)
{
    size_t       first = linears->backup_count;
    crank_status status = CRANK_OK;
    bool         any = false;
    for (size_t i = 0; status == CRANK_OK && i < linears->count; i++)
        if (crank_linear_has_maps(linears->items[i])) {
            any = true;
            status = check(context, linears, linears->items[i]);
        }
    if (status == CRANK_OK && !any) {
        crank_log(context, CRANK_WARNING, "merge: no adapter is on; nothing to do");
        return CRANK_OK;
    }
    /* A second merge on top of a kept one starts from weights that no backup holds. */
    bool merged = false;
    for (size_t i = 0; i < linears->attachment_count; i++) merged = merged || linears->attachments[i]->merged;
    if (status == CRANK_OK && merged)
        status = crank_fail(context, CRANK_USAGE, "an adapter is merged already: unmerge it, or remove it to make its merge "
                                                  "permanent, before another is merged");
    for (size_t i = 0; status == CRANK_OK && i < linears->count; i++)
        if (crank_linear_has_maps(linears->items[i])) status = merge_linear(context, linears->items[i], safe);
    if (status) {
        char *message = crank_strdup(context, crank_message(context));
        linears_put_back(context, linears, first);
        if (message) crank_fail(context, status, "%s", message);
        crank_free(message);
        return status;
    }
    for (size_t i = 0; i < linears->attachment_count; i++)
        if (attachment_acts(linears->attachments[i])) linears->attachments[i]->merged = true;
    if (!keep_original) {
        linears_forget_merge(linears);
        linears->final = true;
    }
    return CRANK_OK;
}
