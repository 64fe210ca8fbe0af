/* start.h - initial values of a method's parameters. Every value is a counter-based draw keyed by the seed and the parameter's name,
 * so it does not depend on the order in which parameters are made. While memory is deferred the functions do nothing. */
#ifndef CRANK_LOWRANK_START_H
#define CRANK_LOWRANK_START_H

#include "crank/linear.h"

crank_stream start_stream(const crank_site *site, const crank_param *param);
/* U(-bound, bound); N(0, deviation^2); one value everywhere. */
crank_status start_uniform(crank_context *context, const crank_site *site, crank_param *param, double bound);
crank_status start_normal(crank_context *context, const crank_site *site, crank_param *param, double deviation);
crank_status start_value(crank_context *context, crank_param *param, double value);
/* A factor [r, fan_in] or [fan_out, r] by the name of its law: "kaiming" U(+-1/sqrt(fan_in)), "xavier" U(+-sqrt(6/(fan_in + r))),
 * "normal" N(0, 0.02^2). */
crank_status start_factor(crank_context *context, const crank_site *site, crank_param *param, const char *law, int64_t fan_in);
#endif
