/* effective.c - the weight that a linear acts with: its maps run on unit rows (merge.c), without a change of the model. */
#include <string.h>

#include "linear/merge_block.h"
#include "linear/stack.h"

static crank_status through_maps(crank_context *context, crank_linear *linear, float *rows)
{
    size_t        bytes = crank_view_bytes(&linear->weight->view);
    bool          finite;
    merge_block   block;
    char         *before = crank_alloc(context, 1, bytes, linear->name), *after = crank_alloc(context, 1, bytes, linear->name);
    crank_status  status = merge_block_open(context, linear, &block);
    if (!before || !after) status = CRANK_FAILED;
    if (status == CRANK_OK) status = crank_param_read(context, linear->weight, before, linear->weight->view.dtype);
    if (status == CRANK_OK) status = merge_block_run(&block, before, after, &finite);
    if (status == CRANK_OK) crank_convert(rows, CRANK_F32, after, linear->weight->view.dtype, (size_t)(linear->out * linear->in));
    merge_block_close(&block);
    crank_free(before), crank_free(after);
    return status;
}

crank_status crank_linear_effective(crank_context *context, crank_linear *linear, float *rows)
{
    const linear_stack *stack = stack_of(linear);
    for (int i = 0; i < stack->count; i++)
        if (attachment_acts(stack->attachments[i]) && !stack->attachments[i]->map->affine)
            return crank_fail(context, CRANK_USAGE, "%s: the method %s is not affine in x: there is no weight that acts as it does", linear->name,
                              stack->attachments[i]->map->name);
    if (linear->kind != CRANK_LINEAR_DENSE) return crank_fail(context, CRANK_USAGE, "%s is an embedding: its table is its weight", linear->name);
    if (!crank_linear_has_maps(linear)) return crank_linear_rows(context, linear, 0, linear->out, rows);
    return through_maps(context, linear, rows);
}
