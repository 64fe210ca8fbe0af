/* inspect_intruder.c - crank inspect intruder BASE TUNED: which leading singular vectors are new, by how much the spectra changed, and what the
 * model forgot. As a table, JSON, CSV, and a page with a picture of the cosines of every linear. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/chart.h"
#include "base/file.h"
#include "base/json.h"
#include "base/number.h"
#include "cli/inspect.h"
#include "cli/measure.h"
#include "task/choices.h"
#include "task/intruders.h"

enum { LISTED = 32 };

typedef struct study {
    const inspect_intruder_options *how;
    intruder_report                 report;
    int64_t                         tops[LISTED];
    double                          epsilons[LISTED];
    int                             top_count, epsilon_count, first_side, side_count;
    double                          loss[2], accuracy[2]; /* before and after; NAN: not measured */
} study;

static const char *side_name(int side) { return side == CRANK_LEFT ? "left" : "right"; }

/* ---- what is asked for ---- */

static crank_status read_lists(cli_call *cli, study *s)
{
    const char *cursor = s->how->top;
    char        word[64];
    while (crank_list_next(&cursor, word, sizeof word, NULL, 0)) {
        if (s->top_count == LISTED || !number_parse_int(word, &s->tops[s->top_count]) || s->tops[s->top_count] < 1)
            return crank_fail(cli->context, CRANK_USAGE, "--top is %s; it must be whole numbers from 1 on, at most %d of them", word, LISTED);
        s->top_count++;
    }
    cursor = s->how->epsilon;
    while (crank_list_next(&cursor, word, sizeof word, NULL, 0)) {
        double *e = &s->epsilons[s->epsilon_count];
        if (s->epsilon_count == LISTED || !number_parse(word, e) || !(*e > 0 && *e <= 1))
            return crank_fail(cli->context, CRANK_USAGE, "--epsilon is %s; it must be numbers above 0 and up to 1, at most %d of them", word, LISTED);
        s->epsilon_count++;
    }
    s->first_side = strcmp(s->how->side, "right") ? CRANK_LEFT : CRANK_RIGHT;
    s->side_count = strcmp(s->how->side, "both") ? 1 : 2;
    return CRANK_OK;
}

static int64_t largest_top(const study *s)
{
    int64_t top = 1;
    for (int i = 0; i < s->top_count; i++)
        if (s->tops[i] > top) top = s->tops[i];
    return top;
}

/* ---- forgetting ---- */

static crank_status measure_model(cli_call *cli, const loaded *l, const char *folder, study *s, int which)
{
    crank_status status = CRANK_OK;
    if (s->how->text) {
        evaluation      e = {0};
        measure_request request = {.text = s->how->text, .objective = "auto"};
        if (!crank_model_config_of(l->model)->causal)
            return crank_fail(cli->context, CRANK_USAGE, "--text measures forgetting by the loss of a language model, and %s is none", folder);
        status = measure_set(cli, l, folder, &request, &e);
        s->loss[which] = e.loss;
    }
    if (status == CRANK_OK && s->how->choices) {
        choices_result r;
        status = choices_evaluate(cli->context, l->model, l->tokenizer, s->how->choices, &r);
        if (status == CRANK_OK) s->accuracy[which] = (double)r.right / (double)r.rows;
    }
    return status;
}

/* ---- as JSON and CSV ---- */

static crank_intruders counted(const study *s, const intruder_linear *l, int side, int t, int e)
{
    return crank_intruders_of(&l->change, (crank_side)side, s->tops[t], s->epsilons[e]);
}

static json_t *side_json(const study *s, const intruder_linear *l, int side)
{
    json_t *list = json_array(), *best = json_array(), *cluster = json_array();
    for (int64_t j = 0; j < s->report.top; j++) {
        json_array_append_new(best, json_real(l->change.sides[side].best[j]));
        json_array_append_new(cluster, json_real(l->change.sides[side].cluster[j]));
    }
    for (int t = 0; t < s->top_count; t++)
        for (int e = 0; e < s->epsilon_count; e++) {
            crank_intruders i = counted(s, l, side, t, e);
            json_array_append_new(list, json_pack("{s:I, s:f, s:I, s:I, s:I, s:f, s:f, s:f}", "top", (json_int_t)s->tops[t], "epsilon", s->epsilons[e], "intruders",
                                                  (json_int_t)i.count, "clustered", (json_int_t)i.clustered, "first", (json_int_t)i.first, "mean_cosine", i.mean, "energy",
                                                  i.energy, "overlap", i.overlap));
        }
    return json_pack("{s:f, s:o, s:o, s:o}", "chance", l->change.sides[side].chance, "cosines", best, "clusters", cluster, "counts", list);
}

static json_t *study_json(const study *s)
{
    json_t *linears = json_array(), *root = json_object();
    for (size_t i = 0; i < s->report.count; i++) {
        const intruder_linear *l = &s->report.linears[i];
        json_t *row = json_pack("{s:s, s:I, s:I, s:f, s:f}", "name", l->name, "out", (json_int_t)l->change.m, "in", (json_int_t)l->change.n, "change", l->change.change,
                                "effective_rank", l->change.effective_rank);
        json_t *values = json_array();
        for (int64_t j = 0; j < s->report.top; j++) json_array_append_new(values, json_real(l->change.s[j]));
        json_object_set_new(row, "singular_values", values);
        for (int k = 0; k < s->side_count; k++) json_object_set_new(row, side_name(s->first_side + k), side_json(s, l, s->first_side + k));
        json_array_append_new(linears, row);
    }
    json_object_set_new(root, "same", json_boolean(s->report.same));
    json_object_set_new(root, "linears", linears);
    if (s->how->text) json_object_set_new(root, "forgetting", json_pack("{s:f, s:f, s:f}", "loss_before", s->loss[0], "loss_after", s->loss[1], "change", s->loss[1] - s->loss[0]));
    if (s->how->choices)
        json_object_set_new(root, "choices", json_pack("{s:f, s:f, s:f}", "accuracy_before", s->accuracy[0], "accuracy_after", s->accuracy[1], "change", s->accuracy[1] - s->accuracy[0]));
    return root;
}

static crank_status write_csv(cli_call *cli, const study *s)
{
    text_buffer text = {0};
    text_puts(&text, "linear,side,top,epsilon,intruders,clustered,first,mean_cosine,energy,overlap,chance,change,effective_rank\n");
    for (size_t i = 0; i < s->report.count; i++)
        for (int k = 0; k < s->side_count; k++)
            for (int t = 0; t < s->top_count; t++)
                for (int e = 0; e < s->epsilon_count; e++) {
                    const intruder_linear *l = &s->report.linears[i];
                    int                    side = s->first_side + k;
                    crank_intruders        n = counted(s, l, side, t, e);
                    const double           values[] = {s->epsilons[e], (double)n.count, (double)n.clustered, (double)n.first, n.mean, n.energy, n.overlap, l->change.sides[side].chance,
                                                       l->change.change, l->change.effective_rank};
                    text_printf(&text, "%s,%s,%lld", l->name, side_name(side), (long long)s->tops[t]);
                    for (size_t v = 0; v < sizeof values / sizeof *values; v++) {
                        char number[NUMBER_SIZE];
                        number_print_digits(values[v], 9, number);
                        text_printf(&text, ",%s", number);
                    }
                    text_putc(&text, '\n');
                }
    char        *whole = text_take(cli->context, &text, s->how->csv);
    crank_status status = whole ? file_write_text(cli->context, s->how->csv, whole) : CRANK_FAILED;
    crank_free(whole);
    return status;
}

/* ---- as a table and a page ---- */

/* Rows of (linear, side) at the first k and epsilon, then totals for all. */
static void put_table(const study *s, text_buffer *out)
{
    size_t width = 6;
    for (size_t i = 0; i < s->report.count; i++)
        if (strlen(s->report.linears[i].name) > width) width = strlen(s->report.linears[i].name);
    text_printf(out, "%-*s  %-5s %9s %9s %5s %7s %7s %7s %7s %8s %7s\n", (int)width, "linear", "side", "intruders", "clustered", "first", "cosine", "energy", "overlap", "chance",
                "change", "rank");
    for (size_t i = 0; i < s->report.count; i++)
        for (int k = 0; k < s->side_count; k++) {
            const intruder_linear *l = &s->report.linears[i];
            int                    side = s->first_side + k;
            crank_intruders        n = counted(s, l, side, 0, 0);
            text_printf(out, "%-*s  %-5s %9lld %9lld %5lld %7.3f %7.3f %7.3f %7.3f %8.4f %7.2f\n", (int)width, l->name, side_name(side), (long long)n.count, (long long)n.clustered,
                        (long long)n.first, n.mean, n.energy, n.overlap, l->change.sides[side].chance, l->change.change, l->change.effective_rank);
        }
}

static void put_totals(const study *s, text_buffer *out)
{
    for (int k = 0; k < s->side_count; k++)
        for (int t = 0; t < s->top_count; t++)
            for (int e = 0; e < s->epsilon_count; e++) {
                int64_t found = 0, clustered = 0;
                double  mean = 0, energy = 0;
                for (size_t i = 0; i < s->report.count; i++) {
                    crank_intruders n = counted(s, &s->report.linears[i], s->first_side + k, t, e);
                    found += n.count, clustered += n.clustered;
                    mean += n.mean / (double)s->report.count, energy += n.energy / (double)s->report.count;
                }
                text_printf(out, "%s vectors, k = %lld, epsilon = %g: %lld intruders in %zu linears (%lld by clusters), mean cosine %.4f, mean energy %.4f\n", side_name(s->first_side + k),
                            (long long)s->tops[t], s->epsilons[e], (long long)found, s->report.count, (long long)clustered, mean, energy);
            }
    if (s->how->text) text_printf(out, "forgetting: loss %.4f before, %.4f after (%+.4f nats a token)\n", s->loss[0], s->loss[1], s->loss[1] - s->loss[0]);
    if (s->how->choices) text_printf(out, "forgetting: accuracy %.2f %% before, %.2f %% after (%+.2f)\n", 100 * s->accuracy[0], 100 * s->accuracy[1], 100 * (s->accuracy[1] - s->accuracy[0]));
}

/* A threshold at or below what chance gives means nothing. */
static void warn_of_chance(cli_call *cli, const study *s)
{
    double worst = 0;
    for (size_t i = 0; i < s->report.count; i++)
        for (int k = 0; k < s->side_count; k++) worst = fmax(worst, s->report.linears[i].change.sides[s->first_side + k].chance);
    for (int e = 0; e < s->epsilon_count; e++)
        if (s->epsilons[e] <= worst)
            crank_log(cli->context, CRANK_WARNING, "epsilon %g is not above the cosine that a random direction has by chance in the smallest linear (%.2f): read the means, not the count",
                      s->epsilons[e], worst);
}

static crank_status write_page(cli_call *cli, const study *s)
{
    text_buffer page = {0}, table = {0};
    put_table(s, &table);
    put_totals(s, &table);
    html_open(&page, "Intruder dimensions");
    html_text(&page, cli->words[1]);
    text_puts(&page, " beside ");
    html_text(&page, cli->words[2]);
    text_puts(&page, "\n<pre>");
    html_text(&page, table.bytes ? table.bytes : "");
    text_puts(&page, "</pre>\n<p>Each picture: cosines of the leading singular vectors after training (rows, the largest value first) with those before (columns). A dark "
                     "diagonal was preserved; a row without a dark cell is an intruder.</p>\n");
    for (size_t i = 0; i < s->report.count; i++)
        for (int k = 0; k < s->side_count; k++) {
            const intruder_linear *l = &s->report.linears[i];
            char                  *title = crank_format(cli->context, "%s, %s", l->name, side_name(s->first_side + k));
            if (title) chart_heat(&page, title, l->change.sides[s->first_side + k].cosines, s->report.top, l->change.q);
            crank_free(title);
        }
    html_close(&page);
    text_clear(&table);
    char        *whole = text_take(cli->context, &page, s->how->html);
    crank_status status = whole ? file_write_text(cli->context, s->how->html, whole) : CRANK_FAILED;
    crank_free(whole);
    return status;
}

static crank_status print_study(cli_call *cli, const study *s)
{
    char *text;
    if (cli->common.json) {
        json_t *root = study_json(s);
        text = json_text(cli->context, root, 0);
        json_decref(root);
    } else {
        text_buffer out = {0};
        put_table(s, &out);
        text_putc(&out, '\n');
        put_totals(s, &out);
        text = text_take(cli->context, &out, "a table");
    }
    if (!text) return crank_last_status(cli->context);
    fputs(text, stdout);
    if (cli->common.json) putchar('\n');
    crank_free(text);
    return CRANK_OK;
}

/* ---- the verb's action ---- */

static crank_status measure_and_compare(cli_call *cli, study *s)
{
    const char *base = cli->words[1], *tuned = cli->words[2];
    bool        adapter = load_is_adapter(cli, tuned), texts = s->how->text || s->how->choices;
    loaded      before, after = {0};
    crank_status status = load_model(cli, base, NULL, "f32", texts, &before);
    if (status != CRANK_OK) return status;
    status = load_model(cli, adapter ? base : tuned, adapter ? tuned : NULL, "f32", texts, &after);
    if (status == CRANK_OK) status = intruders_compare(cli->context, before.model, after.model, s->how->targets, largest_top(s), s->how->fast, &s->report);
    if (status == CRANK_OK) status = measure_model(cli, &before, base, s, 0);
    if (status == CRANK_OK) status = measure_model(cli, &after, tuned, s, 1);
    load_free(&before);
    load_free(&after);
    return status;
}

crank_status inspect_intruder(cli_call *cli, const inspect_intruder_options *how)
{
    study        s = {.how = how, .loss = {NAN, NAN}, .accuracy = {NAN, NAN}};
    crank_status status = read_lists(cli, &s);
    if (status == CRANK_OK) status = measure_and_compare(cli, &s);
    if (status == CRANK_OK) warn_of_chance(cli, &s);
    if (status == CRANK_OK && how->csv) status = write_csv(cli, &s);
    if (status == CRANK_OK && how->html) status = write_page(cli, &s);
    if (status == CRANK_OK) status = print_study(cli, &s);
    intruder_report_free(&s.report);
    return status;
}
