/* result.c - what an experiment found: as a table for people, and as one JSON object. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "base/number.h"
#include "base/text.h"
#include "lab/lab.h"

static const char *relation_text(lab_relation relation) { return relation == LAB_AT_LEAST ? ">=" : "<="; }

static void put_rows(const lab *run, text_buffer *out)
{
    int width = 6;
    for (size_t i = 0; i < run->row_count; i++)
        if ((int)strlen(run->rows[i].method) > width) width = (int)strlen(run->rows[i].method);
    text_printf(out, "%-*s  %-12s %5s %10s %10s %9s %9s %9s\n", width, "method", "metric", "seeds", "mean", "spread", "trained", "seconds", "MiB");
    for (size_t i = 0; i < run->row_count; i++) {
        const lab_row *row = &run->rows[i];
        text_printf(out, "%-*s  %-12s %5d %10.4f %10.4f %9lld %9.2f ", width, row->method, row->metric, row->count, row->mean, row->spread,
                    (long long)row->trained, row->seconds);
        if (row->bytes) text_printf(out, "%9.2f\n", (double)row->bytes / 1048576.0);
        else text_printf(out, "%9s\n", "-");
    }
}

char *lab_text(const lab *run)
{
    const lab_experiment *e = run->experiment;
    text_buffer           out = {0};
    text_printf(&out, "%s (%s)\nclaim      %s\nset-up     %s\nthreshold  %s\n           %s\n\n", e->name, e->paper, e->claim, e->setup, e->threshold, e->reason);
    put_rows(run, &out);
    text_puts(&out, "\n");
    for (size_t i = 0; i < run->check_count; i++) {
        const lab_check *c = &run->checks[i];
        text_printf(&out, "%-6s %s: %.4f %s %.4f\n", c->holds ? "holds" : "FAILS", c->what, c->value, relation_text(c->relation), c->bound);
    }
    text_printf(&out, "\nverdict      %s\npaper claim  %s%s%s\n%.0f s\n", run->shown ? "shown" : "not shown", lab_claim_name(run->claim), run->why ? ": " : "",
                run->why ? run->why : "", run->seconds);
    return text_take(run->context, &out, "the result of an experiment");
}

static json_t *number(double value) { return isfinite(value) ? json_real(value) : json_null(); }

static json_t *rows_of(const lab *run)
{
    json_t *rows = json_array();
    for (size_t i = 0; i < run->row_count; i++) {
        const lab_row *row = &run->rows[i];
        json_t        *values = json_array();
        for (int s = 0; s < row->count; s++) json_array_append_new(values, number(row->values[s]));
        json_array_append_new(rows, json_pack("{s:s, s:s, s:i, s:o, s:o, s:f, s:o, s:I, s:o}", "method", row->method, "metric", row->metric, "seeds",
                                              row->count, "mean", number(row->mean), "spread", number(row->spread), "seconds", row->seconds, "bytes",
                                              row->bytes ? json_integer((json_int_t)row->bytes) : json_null(), "trained", (json_int_t)row->trained, "values", values));
    }
    return rows;
}

static json_t *checks_of(const lab *run)
{
    json_t *checks = json_array();
    for (size_t i = 0; i < run->check_count; i++) {
        const lab_check *c = &run->checks[i];
        json_array_append_new(checks, json_pack("{s:s, s:o, s:s, s:f, s:b}", "what", c->what, "value", number(c->value), "relation",
                                                relation_text(c->relation), "bound", c->bound, "holds", c->holds));
    }
    return checks;
}

char *lab_json(const lab *run)
{
    const lab_experiment *e = run->experiment;
    json_t *root = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:o, s:o, s:s, s:s, s:s?, s:f}", "name", e->name, "paper", e->paper, "claim", e->claim, "setup",
                             e->setup, "threshold", e->threshold, "reason", e->reason, "scale", run->large ? "gpu" : "cpu", "rows", rows_of(run), "checks",
                             checks_of(run), "verdict", run->shown ? "shown" : "not shown", "paper_claim", lab_claim_name(run->claim), "why", run->why,
                             "seconds", run->seconds);
    char *text = root ? json_text(run->context, root, 0) : NULL;
    json_decref(root);
    if (!text) crank_fail(run->context, CRANK_FAILED, "out of memory: the result of an experiment");
    return text;
}
