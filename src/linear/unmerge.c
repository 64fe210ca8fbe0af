/* unmerge.c - the weights before a merge: those that were kept, or the solution of what the merge did.
 *
 * Maps are taken off from the top of the stack down. A map with `unmerge` solves for the weight below itself; of one that adds a pair which
 * does not depend on the weight, s B A is subtracted. All in f64, rounded once to the weight's type. Nothing changes where one cannot. */
#include <math.h>

#include "linear/stack.h"

/* W and bias of one linear while maps are taken off. */
typedef struct solved {
    double *W, *bias;
} solved;

static bool merged_here(const crank_attachment *attachment) { return attachment->merged; }

static crank_status subtract_pair(crank_context *context, crank_site *site, double factor, double *W)
{
    const crank_linear *linear = site->linear;
    int64_t             r, in = linear->in;
    double              scale;
    float              *A, *B;
    crank_status        status = site_attachment(site)->map->as_lora(context, site, &r, &scale, &A, &B);
    if (status) return status;
#pragma omp parallel for num_threads(crank_threads(context)) schedule(static)
    for (int64_t o = 0; o < linear->out; o++)
        for (int64_t k = 0; k < r; k++) {
            double b = factor * scale * (double)B[o * r + k];
            for (int64_t i = 0; b != 0 && i < in; i++) W[o * in + i] -= b * (double)A[k * in + i];
        }
    crank_free(A), crank_free(B);
    return CRANK_OK;
}

static crank_status take_off(crank_context *context, crank_site *site, const solved *s)
{
    const crank_attachment *attachment = site_attachment(site);
    const crank_map        *map = attachment->map;
    if (map->unmerge && attachment->scale == 1) return map->unmerge(context, site, s->W, s->bias);
    if (!map->unmerge && map->as_lora) return subtract_pair(context, site, attachment->scale, s->W);
    return crank_fail(context, CRANK_USAGE, "%s: the weight before the merge of %s was not kept and does not follow from the merged one%s: merge with keep_original to be able to unmerge",
                      site->linear->name, map->name, map->unmerge ? " at another scale than 1" : "");
}

static crank_status solve_linear(crank_context *context, crank_linear *linear, solved *s)
{
    linear_stack *stack = stack_of(linear);
    size_t        n = (size_t)(linear->in * linear->out);
    if (linear->kind != CRANK_LINEAR_DENSE)
        return crank_fail(context, CRANK_USAGE, "%s: the table before the merge was not kept: merge with keep_original to be able to unmerge", linear->name);
    s->W = crank_alloc(context, n, sizeof *s->W, linear->name);
    s->bias = linear->bias ? crank_alloc(context, (size_t)linear->out, sizeof *s->bias, linear->name) : NULL;
    if (!s->W || (linear->bias && !s->bias)) return CRANK_FAILED;
    crank_status status = crank_param_read(context, linear->weight, s->W, CRANK_F64);
    if (status == CRANK_OK && s->bias) status = crank_param_read(context, linear->bias, s->bias, CRANK_F64);
    for (int i = stack->count - 1; status == CRANK_OK && i >= 0; i--)
        if (merged_here(stack->attachments[i])) status = take_off(context, stack->sites[i], s);
    bool finite = true;
    for (size_t i = 0; i < n; i++) finite = finite && isfinite(s->W[i]);
    if (status == CRANK_OK && !finite) status = crank_fail(context, CRANK_BAD_DATA, "%s: unmerging gives values that are not finite; nothing was changed", linear->name);
    return status;
}

static bool has_merged(const crank_linear *linear)
{
    const linear_stack *stack = stack_of(linear);
    for (int i = 0; i < stack->count; i++)
        if (merged_here(stack->attachments[i])) return true;
    return false;
}

/* Solves for all linears before the first is changed. */
static crank_status solve_all(crank_context *context, crank_linears *linears)
{
    solved      *all = crank_alloc(context, linears->count + 1, sizeof *all, "weights before a merge");
    crank_status status = all ? CRANK_OK : CRANK_FAILED;
    for (size_t i = 0; status == CRANK_OK && i < linears->count; i++)
        if (has_merged(linears->items[i])) status = solve_linear(context, linears->items[i], &all[i]);
    for (size_t i = 0; status == CRANK_OK && i < linears->count; i++) {
        if (!all[i].W) continue;
        status = crank_param_write(context, linears->items[i]->weight, all[i].W, CRANK_F64);
        if (status == CRANK_OK && all[i].bias) status = crank_param_write(context, linears->items[i]->bias, all[i].bias, CRANK_F64);
    }
    for (size_t i = 0; all && i < linears->count; i++) crank_free(all[i].W), crank_free(all[i].bias);
    crank_free(all);
    return status;
}

crank_status crank_linears_unmerge(crank_context *context, crank_linears *linears)
{
    bool merged = false;
    for (size_t i = 0; i < linears->attachment_count; i++) merged = merged || merged_here(linears->attachments[i]);
    if (!merged) {
        crank_log(context, CRANK_WARNING, "unmerge: no adapter is merged; nothing to do");
        return CRANK_OK;
    }
    crank_status status = linears->final ? solve_all(context, linears) : linears_put_back(context, linears, 0);
    if (status && linears->final) return status;
    linears->final = false;
    for (size_t i = 0; i < linears->attachment_count; i++) linears->attachments[i]->merged = false;
    return status;
}
