/* start.c - initial values of a method's parameters. */
#include "lowrank/start.h"

#include <math.h>
#include <string.h>

#include "crank/random.h"

crank_stream start_stream(const crank_site *site, const crank_param *param)
{
    return crank_stream_make(site->seed, CRANK_RANDOM_INIT, crank_hash_name(param->name));
}

typedef enum law { UNIFORM, NORMAL, VALUE } law;

static crank_status fill(crank_context *context, const crank_site *site, crank_param *param, law kind, double size)
{
    if (!param->view.data) return CRANK_OK; /* planning without memory */
    size_t n = (size_t)crank_view_count(&param->view);
    float *host = crank_alloc(context, n ? n : 1, sizeof *host, param->name);
    if (!host) return CRANK_FAILED;
    if (kind == UNIFORM) crank_fill_uniform(start_stream(site, param), 0, (float)-size, (float)size, host, n);
    else if (kind == NORMAL) crank_fill_normal(start_stream(site, param), 0, 0, (float)size, host, n);
    else
        for (size_t i = 0; i < n; i++) host[i] = (float)size;
    crank_status status = crank_param_write(context, param, host, CRANK_F32);
    crank_free(host);
    return status;
}

crank_status start_uniform(crank_context *context, const crank_site *site, crank_param *param, double bound)
{
    return fill(context, site, param, UNIFORM, bound);
}

crank_status start_normal(crank_context *context, const crank_site *site, crank_param *param, double deviation)
{
    return fill(context, site, param, NORMAL, deviation);
}

crank_status start_value(crank_context *context, crank_param *param, double value) { return fill(context, NULL, param, VALUE, value); }

crank_status start_factor(crank_context *context, const crank_site *site, crank_param *param, const char *name, int64_t fan_in)
{
    int64_t r = param->view.dims[0];
    if (strcmp(name, "normal") == 0) return start_normal(context, site, param, 0.02);
    if (strcmp(name, "xavier") == 0) return start_uniform(context, site, param, sqrt(6 / (double)(fan_in + r)));
    return start_uniform(context, site, param, 1 / sqrt((double)fan_in));
}
