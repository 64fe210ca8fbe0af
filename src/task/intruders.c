/* intruders.c - compares the linears of a model before and after training, one after another. */
#include "task/intruders.h"

#include <string.h>

#include "linear/stack.h"

static crank_status find_pair(crank_context *context, const crank_linear *linear, crank_linears *tuned, crank_linear **out)
{
    *out = crank_linears_find(tuned, linear->name);
    if (!*out) return crank_fail(context, CRANK_BAD_DATA, "the tuned model has no linear %s: it is no model of this base", linear->name);
    if ((*out)->in == linear->in && (*out)->out == linear->out) return CRANK_OK;
    return crank_fail(context, CRANK_BAD_DATA, "%s is [%lld, %lld] in the base and [%lld, %lld] in the tuned model: it is no model of this base", linear->name,
                      (long long)linear->out, (long long)linear->in, (long long)(*out)->out, (long long)(*out)->in);
}

static crank_status compare_one(crank_context *context, crank_linear *before, crank_linear *after, int64_t top, bool fast, intruder_linear *out)
{
    int64_t        m = before->out, n = before->in, q = m < n ? m : n;
    crank_spectrum spectrum = {0};
    float         *w0 = crank_alloc(context, (size_t)(m * n), sizeof *w0, before->name), *w = crank_alloc(context, (size_t)(m * n), sizeof *w, before->name);
    crank_status   status = w0 && w ? crank_linear_rows(context, before, 0, m, w0) : CRANK_FAILED;
    if (status == CRANK_OK) status = crank_linear_effective(context, after, w);
    if (status == CRANK_OK) status = crank_spectrum_of(context, crank_matrix_f32(w0, m, n), &spectrum);
    if (status == CRANK_OK && top > q)
        status = crank_fail(context, CRANK_USAGE, "%s is [%lld, %lld]: it has no %lld singular vectors; lower the number of leading ones", before->name, (long long)m,
                            (long long)n, (long long)top);
    int64_t held = top < q ? top + 1 : top; /* the last one's neighbour, for the controls of a repair */
    if (status == CRANK_OK)
        status = crank_spectral_change_of(context, &spectrum, crank_matrix_f32(w0, m, n), crank_matrix_f32(w, m, n), held, fast, &out->change);
    if (status == CRANK_OK && !(out->name = crank_strdup(context, before->name))) {
        crank_spectral_change_free(&out->change);
        status = CRANK_FAILED;
    }
    crank_spectrum_free(&spectrum);
    crank_free(w0), crank_free(w);
    return status == CRANK_OK || status == CRANK_USAGE ? status : crank_fail_in(context, "%s", before->name);
}

crank_status intruders_compare(crank_context *context, crank_model *base, crank_model *tuned, const char *targets, int64_t top, bool fast,
                               intruder_report *out)
{
    crank_linears *linears = crank_model_linears(base);
    target_rule   *rule = target_rule_new(context, targets, "targets");
    *out = (intruder_report){.top = top, .same = true};
    if (!rule) return crank_last_status(context);
    out->linears = crank_alloc(context, crank_linears_count(linears) + 1, sizeof *out->linears, "linears of a comparison");
    crank_status status = out->linears ? CRANK_OK : CRANK_FAILED;
    for (size_t i = 0; status == CRANK_OK && i < crank_linears_count(linears); i++) {
        crank_linear *linear = crank_linears_at(linears, i), *other;
        if (linear->kind != CRANK_LINEAR_DENSE || !target_rule_hits_linear(rule, linear)) continue;
        if (crank_stop_requested(context)) status = crank_fail(context, CRANK_STOPPED, "stopped");
        if (status == CRANK_OK) status = find_pair(context, linear, crank_model_linears(tuned), &other);
        if (status == CRANK_OK) status = compare_one(context, linear, other, top, fast, &out->linears[out->count]);
        if (status == CRANK_OK && out->linears[out->count++].change.change != 0) out->same = false;
    }
    if (status == CRANK_OK && !out->count) status = target_nothing(context, linears, targets, "");
    target_rule_free(rule);
    if (status != CRANK_OK) intruder_report_free(out);
    else if (out->same) crank_log(context, CRANK_WARNING, "the weights of both models are the same: there is no intruder to find");
    return status;
}

void intruder_report_free(intruder_report *report)
{
    for (size_t i = 0; i < report->count; i++) {
        crank_spectral_change_free(&report->linears[i].change);
        crank_free(report->linears[i].name);
    }
    crank_free(report->linears);
    *report = (intruder_report){0};
}
