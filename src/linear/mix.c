/* mix.c - which adapters of a model act, and how strongly.
 *
 *     W' = W + sum_k weight_k (f_k(W) - W)
 *
 * An adapter may also train weights of the model itself: those were written when it was loaded and know neither a weight nor an off. */
#include <math.h>
#include <string.h>

#include "linear/stack.h"

crank_attachment *crank_linears_adapter(const crank_linears *linears, const char *name)
{
    for (size_t i = 0; i < linears->attachment_count; i++)
        if (!strcmp(linears->attachments[i]->where.name, name)) return linears->attachments[i];
    return NULL;
}

static crank_status unknown(crank_context *context, const crank_linears *linears, const char *name)
{
    const char *names[64];
    size_t      count = 0;
    for (; count < linears->attachment_count && count < 64; count++) names[count] = linears->attachments[count]->where.name;
    const char *closest = crank_closest(name, names, count);
    return crank_fail(context, CRANK_USAGE, "no adapter on the model is named `%s`%s%s%s", name, closest ? "; did you mean `" : "", closest ? closest : "",
                      closest ? "`?" : "");
}

/* The weight that is asked for: 0 where the adapter is not named. */
static double weight_of(const crank_attachment *attachment, const char *const *names, const double *weights, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (!strcmp(names[i], attachment->where.name)) return weights[i];
    return 0;
}

static crank_status check(crank_context *context, const crank_linears *linears, const char *const *names, const double *weights, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (!crank_linears_adapter(linears, names[i])) return unknown(context, linears, names[i]);
        if (!isfinite(weights[i])) return crank_fail(context, CRANK_USAGE, "the weight of the adapter `%s` is not a finite number", names[i]);
        for (size_t j = 0; j < i; j++)
            if (!strcmp(names[i], names[j])) return crank_fail(context, CRANK_USAGE, "the adapter `%s` is named twice: give it one weight", names[i]);
    }
    for (size_t i = 0; i < linears->attachment_count; i++) {
        const crank_attachment *a = linears->attachments[i];
        if (a->merged) return crank_fail(context, CRANK_USAGE, "the adapter `%s` is merged: unmerge it before adapters are mixed", a->where.name);
        if (a->trained_count && weight_of(a, names, weights, count) != 1)
            return crank_fail(context, CRANK_USAGE, "the adapter `%s` brought %s of the model itself, which knows no weight: it acts whole (weight 1) or goes",
                              a->where.name, a->trained[0].param->name);
    }
    return CRANK_OK;
}

crank_status crank_linears_mix(crank_context *context, crank_linears *linears, const char *const *names, const double *weights, size_t count)
{
    crank_status status = check(context, linears, names, weights, count);
    if (status != CRANK_OK) return status;
    for (size_t i = 0; i < linears->attachment_count; i++) {
        double weight = weight_of(linears->attachments[i], names, weights, count);
        crank_attachment_set(linears->attachments[i], weight != 0, weight);
    }
    linears->mixed = count > 1;
    return CRANK_OK;
}
