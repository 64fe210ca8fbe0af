/* report.c - reads kept results and writes them as pages. */
#include "lab/report.h"

#include <math.h>
#include <string.h>

#include "base/chart.h"
#include "base/file.h"
#include "base/number.h"

enum { POINTS = 64, LINES = 48 };

/* ---- reading ---- */

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "";
}

static double number_of(const json_t *value) { return json_is_number(value) ? json_number_value(value) : NAN; }

static crank_status read_one(crank_context *context, const char *folder, const lab_experiment *e, const char *key, json_t **out)
{
    char *name = crank_format(context, "%s.json", e->name), *path = name ? file_join(context, folder, name) : NULL;
    crank_status status = path ? CRANK_OK : CRANK_FAILED;
    if (status == CRANK_OK && file_exists(path)) {
        *out = json_read(context, path);
        if (!*out) status = crank_last_status(context);
        else if (!json_is_object(*out) || strcmp(text_of(*out, key), e->name))
            status = crank_fail(context, CRANK_BAD_DATA, "%s: is no file of the experiment %s: its `%s` must say so", path, e->name, key);
    }
    crank_free(name), crank_free(path);
    return status;
}

crank_status lab_report_read(crank_context *context, const char *results, const char *rates, lab_report *out)
{
    *out = (lab_report){0};
    while (lab_at(out->count)) out->count++;
    out->results = crank_alloc(context, out->count, sizeof(json_t *), "results of experiments");
    out->rates = crank_alloc(context, out->count, sizeof(json_t *), "rates of experiments");
    crank_status status = out->results && out->rates ? CRANK_OK : CRANK_FAILED;
    for (size_t i = 0; status == CRANK_OK && i < out->count; i++) {
        status = read_one(context, results, lab_at(i), "name", &out->results[i]);
        if (status == CRANK_OK) status = read_one(context, rates, lab_at(i), "experiment", &out->rates[i]);
        out->kept += out->results[i] != NULL;
        out->shown += !strcmp(text_of(out->results[i], "verdict"), "shown");
        out->reproduced += !strcmp(text_of(out->results[i], "paper_claim"), "reproduced");
    }
    if (status != CRANK_OK) lab_report_free(out);
    return status;
}

void lab_report_free(lab_report *report)
{
    for (size_t i = 0; i < report->count; i++) {
        if (report->results) json_decref(report->results[i]);
        if (report->rates) json_decref(report->rates[i]);
    }
    crank_free(report->results), crank_free(report->rates);
    *report = (lab_report){0};
}

static void put_digits(text_buffer *out, double value)
{
    char text[NUMBER_SIZE];
    if (!isfinite(value)) text_puts(out, "-");
    else {
        number_print_digits(value, 4, text);
        text_puts(out, text);
    }
}

/* ---- pictures ---- */

/* Means of the experiment's first metric, or of the one that tune looks at. */
static void put_bars(text_buffer *out, const lab_experiment *e, const json_t *result)
{
    const char   *names[LINES], *metric = e->metric ? e->metric : "";
    double        values[LINES], spreads[LINES];
    size_t        count = 0, i;
    const json_t *rows = json_object_get(result, "rows"), *row;
    json_array_foreach((json_t *)(uintptr_t)rows, i, row)
    {
        if (!*metric) metric = text_of(row, "metric");
        if (count == LINES || strcmp(text_of(row, "metric"), metric)) continue;
        names[count] = text_of(row, "method");
        values[count] = number_of(json_object_get(row, "mean"));
        spreads[count++] = number_of(json_object_get(row, "spread"));
    }
    if (count) chart_bars(out, metric, names, values, spreads, count);
}

/* The metric of every method at every rate that tune tried. */
static void put_rates(text_buffer *out, const json_t *rates)
{
    double        x[POINTS], y[LINES][POINTS];
    chart_series  series[LINES];
    size_t        points = 0, count = 0, i;
    const json_t *grid = json_object_get(rates, "grid"), *value;
    const char   *name;
    json_t       *method;
    json_array_foreach((json_t *)(uintptr_t)grid, i, value)
    {
        if (points < POINTS) x[points++] = number_of(value);
    }
    json_object_foreach(json_object_get(rates, "methods"), name, method)
    {
        const json_t *list = json_object_get(method, "values");
        if (count == LINES) break;
        for (size_t k = 0; k < points; k++) y[count][k] = number_of(json_array_get(list, k));
        series[count] = (chart_series){name, x, y[count], points};
        count++;
    }
    if (count && points > 1) chart_lines(out, &(chart){"rates that were searched", "rate", text_of(rates, "metric"), true, false, series, count});
}

/* ---- the page ---- */

static void put_paragraph(text_buffer *out, const char *name, const char *text)
{
    text_printf(out, "<p><b>%s</b> ", name);
    html_text(out, text);
    text_puts(out, "</p>\n");
}

static void put_checks(text_buffer *out, const json_t *result)
{
    size_t        i;
    const json_t *check;
    text_puts(out, "<table><tr><th>check</th><th>value</th><th></th><th>bound</th><th></th></tr>\n");
    json_array_foreach(json_object_get(result, "checks"), i, check)
    {
        bool holds = json_is_true(json_object_get(check, "holds"));
        text_puts(out, "<tr><td>");
        html_text(out, text_of(check, "what"));
        text_puts(out, "</td><td>");
        put_digits(out, number_of(json_object_get(check, "value")));
        text_puts(out, "</td><td>");
        html_text(out, text_of(check, "relation"));
        text_puts(out, "</td><td>");
        put_digits(out, number_of(json_object_get(check, "bound")));
        text_printf(out, "</td><td class=\"%s\">%s</td></tr>\n", holds ? "good" : "bad", holds ? "holds" : "fails");
    }
    text_puts(out, "</table>\n");
}

static void put_rows(text_buffer *out, const json_t *result)
{
    size_t        i;
    const json_t *row;
    text_puts(out, "<details><summary>every row</summary><table><tr><th>method</th><th>metric</th><th>seeds</th><th>mean</th><th>spread</th><th>seconds</th><th>MiB</th></tr>\n");
    json_array_foreach(json_object_get(result, "rows"), i, row)
    {
        text_puts(out, "<tr><td>");
        html_text(out, text_of(row, "method"));
        text_puts(out, "</td><td>");
        html_text(out, text_of(row, "metric"));
        text_printf(out, "</td><td>%lld</td><td>", (long long)json_integer_value(json_object_get(row, "seeds")));
        put_digits(out, number_of(json_object_get(row, "mean")));
        text_puts(out, "</td><td>");
        put_digits(out, number_of(json_object_get(row, "spread")));
        text_puts(out, "</td><td>");
        put_digits(out, number_of(json_object_get(row, "seconds")));
        text_puts(out, "</td><td>");
        put_digits(out, number_of(json_object_get(row, "bytes")) / 1048576);
        text_puts(out, "</td></tr>\n");
    }
    text_puts(out, "</table></details>\n");
}

static void put_experiment(text_buffer *out, const lab_experiment *e, const json_t *result, const json_t *rates)
{
    bool shown = !strcmp(text_of(result, "verdict"), "shown");
    text_printf(out, "<h2 id=\"%s\">%s <small>%s</small></h2>\n", e->name, e->name, e->paper);
    text_printf(out, "<p class=\"%s\"><b>%s</b>", shown ? "good" : "bad", text_of(result, "verdict"));
    text_printf(out, "; the paper's claim: %s", text_of(result, "paper_claim"));
    if (*text_of(result, "why")) text_puts(out, ": "), html_text(out, text_of(result, "why"));
    text_puts(out, "</p>\n");
    put_paragraph(out, "Claim.", text_of(result, "claim"));
    put_paragraph(out, "Set-up.", text_of(result, "setup"));
    put_paragraph(out, "Threshold.", text_of(result, "threshold"));
    put_paragraph(out, "Why this threshold.", text_of(result, "reason"));
    put_checks(out, result);
    put_bars(out, e, result);
    if (e->analysis && !shown) {
        text_puts(out, "<pre>");
        html_text(out, e->analysis);
        text_puts(out, "</pre>\n");
    }
    if (rates) put_rates(out, rates);
    put_rows(out, result);
}

char *lab_report_html(crank_context *context, const lab_report *report)
{
    text_buffer out = {0};
    html_open(&out, "What the papers claim, shown or not");
    text_printf(&out, "<p>crank %s. %zu of %zu experiments have a result; %zu thresholds hold, %zu claims are reproduced. A verdict is a threshold that stood before the first run; "
                      "whether the paper's own effect is seen at this scale is told beside it.</p>\n<table><tr><th>experiment</th><th>paper</th><th>verdict</th><th>paper's claim</th><th>seconds</th></tr>\n",
                crank_version(), report->kept, report->count, report->shown, report->reproduced);
    for (size_t i = 0; i < report->count; i++) {
        const lab_experiment *e = lab_at(i);
        const json_t         *r = report->results[i];
        text_printf(&out, "<tr><td><a href=\"#%s\">%s</a></td><td>%s</td><td>%s</td><td>%s</td><td>", e->name, e->name, e->paper, r ? text_of(r, "verdict") : "not run", text_of(r, "paper_claim"));
        if (r) put_digits(&out, number_of(json_object_get(r, "seconds")));
        text_puts(&out, "</td></tr>\n");
    }
    text_puts(&out, "</table>\n");
    for (size_t i = 0; i < report->count; i++)
        if (report->results[i]) put_experiment(&out, lab_at(i), report->results[i], report->rates[i]);
    html_close(&out);
    return text_take(context, &out, "the page of experiments");
}

/* ---- Markdown ---- */

/* A cell: bars would end it. */
static void put_cell(text_buffer *out, const char *text)
{
    for (; *text; text++) text_puts(out, *text == '|' ? "\\|" : (const char[]){*text, 0});
}

static void put_section(text_buffer *out, const lab_experiment *e, const json_t *result)
{
    size_t        i;
    const json_t *check;
    text_printf(out, "\n## %s\n\n%s. %s\n\n**Threshold:** %s. %s.\n\n", e->name, text_of(result, "claim"), text_of(result, "setup"), text_of(result, "threshold"), text_of(result, "reason"));
    text_puts(out, "| check | value | | bound | |\n|---|---|---|---|---|\n");
    json_array_foreach(json_object_get(result, "checks"), i, check)
    {
        text_puts(out, "| ");
        put_cell(out, text_of(check, "what"));
        text_puts(out, " | ");
        put_digits(out, number_of(json_object_get(check, "value")));
        text_printf(out, " | %s | ", text_of(check, "relation"));
        put_digits(out, number_of(json_object_get(check, "bound")));
        text_printf(out, " | %s |\n", json_is_true(json_object_get(check, "holds")) ? "holds" : "**fails**");
    }
    text_printf(out, "\n**%s.** The paper's claim: %s%s%s.\n", text_of(result, "verdict"), text_of(result, "paper_claim"), *text_of(result, "why") ? ": " : "", text_of(result, "why"));
    if (e->analysis && strcmp(text_of(result, "verdict"), "shown")) text_printf(out, "\n%s\n", e->analysis);
}

char *lab_report_markdown(crank_context *context, const lab_report *report)
{
    text_buffer out = {0};
    text_printf(&out, "# What the papers claim, shown or not\n\nMade by `crank lab report --markdown` from the results in `bench/lab` (`crank lab run --all --results bench/lab`). A verdict is a threshold that "
                      "stood before the first run and decides alone; whether the paper's own effect is seen at this scale is told beside it. %zu of %zu experiments have a result: %zu thresholds hold, %zu "
                      "claims are reproduced.\n\n| experiment | paper | verdict | paper's claim | seconds |\n|---|---|---|---|---|\n",
                report->kept, report->count, report->shown, report->reproduced);
    for (size_t i = 0; i < report->count; i++) {
        const lab_experiment *e = lab_at(i);
        const json_t         *r = report->results[i];
        text_printf(&out, "| [%s](#%s) | %s | %s | %s | ", e->name, e->name, e->paper, r ? text_of(r, "verdict") : "not run", text_of(r, "paper_claim"));
        if (r) put_digits(&out, number_of(json_object_get(r, "seconds")));
        text_puts(&out, " |\n");
    }
    for (size_t i = 0; i < report->count; i++)
        if (report->results[i]) put_section(&out, lab_at(i), report->results[i]);
    return text_take(context, &out, "the page of experiments");
}
