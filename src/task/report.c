/* report.c - the page of a run. Curves are drawn by gnuplot as SVG inside the page; where gnuplot is absent the page says so and
 * shows the evaluations as a table alone. */
#include "task/report.h"

#include <math.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"

typedef struct series {
    const char *key;
    double     *steps, *values;
    size_t      count, capacity;
} series;

typedef struct curves {
    series train, loss, accuracy, rate;
} curves;

static bool append(series *s, double step, double value)
{
    if (s->count == s->capacity) {
        size_t  capacity = s->capacity ? 2 * s->capacity : 256;
        double *steps = realloc(s->steps, capacity * sizeof *steps);
        if (steps) s->steps = steps;
        double *values = steps ? realloc(s->values, capacity * sizeof *values) : NULL;
        if (!values) return false;
        s->values = values;
        s->capacity = capacity;
    }
    s->steps[s->count] = step;
    s->values[s->count++] = value;
    return true;
}

static void curves_free(curves *c)
{
    series *const all[] = {&c->train, &c->loss, &c->accuracy, &c->rate};
    for (int i = 0; i < 4; i++) free(all[i]->steps), free(all[i]->values);
}

static crank_status read_curves(crank_context *context, const char *folder, curves *c)
{
    *c = (curves){{.key = "train/loss"}, {.key = "eval/loss"}, {.key = "eval/accuracy"}, {.key = "train/rate"}};
    char        *path = file_join(context, folder, "metrics.jsonl");
    file_lines  *lines = path ? file_lines_open(context, path) : NULL;
    crank_status status = lines ? CRANK_OK : crank_last_status(context);
    const char  *text;
    size_t       length;
    int          more;
    while (status == CRANK_OK && (more = file_lines_next(context, lines, &text, &length)) != 0) {
        json_t *row = more > 0 ? json_parse(context, text, length, path) : NULL;
        if (!row) {
            status = crank_last_status(context);
            break;
        }
        series *const all[] = {&c->train, &c->loss, &c->accuracy, &c->rate};
        double        step = json_number_value(json_object_get(row, "step"));
        for (int i = 0; i < 4; i++) {
            json_t *value = json_object_get(row, all[i]->key);
            if (json_is_number(value) && !append(all[i], step, json_number_value(value)))
                status = crank_fail(context, CRANK_FAILED, "out of memory: the report's curves");
        }
        json_decref(row);
    }
    if (lines) file_lines_close(lines);
    crank_free(path);
    return status;
}

crank_status report_first_evaluation(crank_context *context, const char *folder, double *loss, double *accuracy)
{
    curves       c;
    crank_status status = read_curves(context, folder, &c);
    *loss = c.loss.count && c.loss.steps[0] == 0 ? c.loss.values[0] : NAN;
    *accuracy = c.accuracy.count && c.accuracy.steps[0] == 0 ? c.accuracy.values[0] : NAN;
    curves_free(&c);
    return status;
}

/* ---- drawing ---- */

static void put_data(FILE *out, const series *s)
{
    for (size_t i = 0; i < s->count; i++) fprintf(out, "%.17g %.17g\n", s->steps[i], s->values[i]);
    fprintf(out, "e\n");
}

/* gnuplot's input for up to two series in one picture, which it writes to `svg`. */
static bool put_script(const char *path, const char *svg, const char *title, const series *a, const char *a_name, const series *b, const char *b_name)
{
    FILE *out = fopen(path, "w");
    if (!out) return false;
    fprintf(out, "set terminal svg size 720,360 dynamic background rgb 'white' font 'sans-serif,12'\nset output '%s'\nset title '%s'\nset xlabel 'step'\n"
                 "set grid\nset key top right\nplot ", svg, title);
    if (a->count) fprintf(out, "'-' with lines lw 1 lc rgb '#9db7d5' title '%s'", a_name);
    if (b && b->count) fprintf(out, "%s'-' with linespoints lw 2 pt 7 ps 0.5 lc rgb '#c0392b' title '%s'", a->count ? ", " : "", b_name);
    fprintf(out, "\n");
    if (a->count) put_data(out, a);
    if (b && b->count) put_data(out, b);
    return fclose(out) == 0;
}

/* Runs gnuplot on the script without a shell; false when it is absent or fails. */
static bool run_gnuplot(const char *script)
{
    char *const words[] = {"gnuplot", (char *)script, NULL};
    pid_t       child;
    int         state;
    if (posix_spawnp(&child, "gnuplot", NULL, NULL, words, environ) != 0) return false;
    return waitpid(child, &state, 0) == child && WIFEXITED(state) && WEXITSTATUS(state) == 0;
}

/* The picture as SVG text, or NULL. */
static char *draw(crank_context *context, const char *folder, const char *title, const series *a, const char *a_name, const series *b, const char *b_name)
{
    char *script = file_join(context, folder, "report.gnuplot"), *svg = file_join(context, folder, "report.svg"), *text = NULL;
    if (script && svg && put_script(script, svg, title, a, a_name, b, b_name) && run_gnuplot(script)) text = file_read(context, svg, NULL);
    if (script) unlink(script);
    if (svg) unlink(svg);
    crank_free(script), crank_free(svg);
    return text;
}

static void put_escaped(FILE *out, const char *text)
{
    for (; *text; text++)
        switch (*text) {
        case '<': fputs("&lt;", out); break;
        case '>': fputs("&gt;", out); break;
        case '&': fputs("&amp;", out); break;
        default: fputc(*text, out);
        }
}

static void put_picture(crank_context *context, FILE *out, const char *folder, const char *title, const series *a, const char *a_name, const series *b,
                        const char *b_name)
{
    if (!a->count && !(b && b->count)) return;
    char *svg = draw(context, folder, title, a, a_name, b, b_name);
    if (svg) {
        const char *start = strstr(svg, "<svg");
        fprintf(out, "<figure>%s</figure>\n", start ? start : svg);
    } else {
        fprintf(out, "<p>(no picture of %s: gnuplot is not installed)</p>\n", title);
    }
    crank_free(svg);
}

static void put_row(FILE *out, const char *name, const char *format, double before, double after)
{
    fprintf(out, "<tr><td>%s</td><td>", name);
    if (isfinite(before)) fprintf(out, format, before);
    fprintf(out, "</td><td>");
    if (isfinite(after)) fprintf(out, format, after);
    fprintf(out, "</td></tr>\n");
}

static void put_page(crank_context *context, FILE *out, const task_recipe *recipe, const train_outcome *o, const curves *c, const char *recipe_text)
{
    const char *folder = recipe->output->path;
    fprintf(out, "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>crank: %s</title>\n<style>body{font:15px/1.5 sans-serif;max-width:60em;"
                 "margin:2em auto;padding:0 1em}table{border-collapse:collapse}td,th{border:1px solid #ccc;padding:.25em .7em;text-align:right}"
                 "td:first-child{text-align:left}pre{background:#f4f4f4;padding:1em;overflow:auto}</style>\n", recipe->map ? recipe->map->name : "full training");
    fprintf(out, "<h1>%s with %s</h1>\n<p>crank %s. %lld steps, %lld tokens in %.1f s (%.0f tokens/s); %lld of %lld parameters trained; peak memory %.0f MiB planned, "
                 "%.0f MiB measured.</p>\n", recipe->map ? recipe->map->summary : "full training", recipe->optimizer->name, crank_version(), (long long)o->steps,
            (long long)o->tokens, o->seconds, o->tokens_per_second, (long long)o->trainable, (long long)o->parameters, (double)o->planned / 1048576.0,
            (double)o->measured / 1048576.0);
    fprintf(out, "<table><tr><th>held-out</th><th>before</th><th>after</th></tr>\n");
    put_row(out, "loss (nats)", "%.4f", o->loss_before, o->loss_after);
    if (isfinite(o->accuracy_after)) put_row(out, "accuracy (%)", "%.2f", 100 * o->accuracy_before, 100 * o->accuracy_after);
    else put_row(out, "perplexity", "%.2f", exp(o->loss_before), exp(o->loss_after));
    fprintf(out, "</table>\n");
    put_picture(context, out, folder, "loss", &c->train, "training", &c->loss, "held-out");
    put_picture(context, out, folder, "accuracy", &c->accuracy, "held-out", NULL, NULL);
    put_picture(context, out, folder, "learning rate", &c->rate, "rate", NULL, NULL);
    fprintf(out, "<h2>Evaluations</h2>\n<table><tr><th>step</th><th>loss</th><th>accuracy</th></tr>\n");
    for (size_t i = 0; i < c->loss.count; i++) {
        fprintf(out, "<tr><td>%.0f</td><td>%.4f</td><td>", c->loss.steps[i], c->loss.values[i]);
        if (i < c->accuracy.count) fprintf(out, "%.2f %%", 100 * c->accuracy.values[i]);
        fprintf(out, "</td></tr>\n");
    }
    fprintf(out, "</table>\n<h2>Recipe</h2>\n<pre>");
    put_escaped(out, recipe_text);
    fprintf(out, "</pre>\n</html>\n");
}

crank_status report_write(crank_context *context, const task_recipe *recipe, const train_outcome *outcome)
{
    curves       c;
    char        *page = NULL, *recipe_text = crank_recipe_text(context, recipe->file), *path = file_join(context, recipe->output->path, "report.html");
    size_t       length;
    crank_status status = recipe_text && path ? read_curves(context, recipe->output->path, &c) : CRANK_FAILED;
    if (recipe_text && path) {
        FILE *out = status == CRANK_OK ? open_memstream(&page, &length) : NULL;
        if (out) {
            put_page(context, out, recipe, outcome, &c, recipe_text);
            fclose(out);
            status = file_write_text(context, path, page);
        }
        curves_free(&c);
    }
    free(page);
    crank_free(recipe_text), crank_free(path);
    return status;
}
