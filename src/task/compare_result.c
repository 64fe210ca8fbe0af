/* compare_result.c - what a comparison found: means, paired intervals, JSON, a page with every rate curve. */
#include <math.h>

#include "base/chart.h"
#include "base/number.h"
#include "task/compare.h"

double compare_quality(const comparison *c, const compare_trial *t) { return t->diverged ? NAN : c->classified ? t->accuracy : t->loss; }

double compare_mean(const comparison *c, int i)
{
    const compare_method *m = &c->methods[i];
    double                sum = 0;
    for (int s = 0; s < m->seeded; s++) sum += compare_quality(c, &m->seeds[s]);
    return m->seeded ? sum / m->seeded : NAN;
}

/* The 97.5 % point of Student's distribution. */
static double student_point(int freedom)
{
    static const double points[] = {12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
                                    2.120,  2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042, 2.040};
    int                 count = (int)(sizeof points / sizeof *points);
    return points[freedom > count ? count - 1 : freedom - 1];
}

void compare_difference(const comparison *c, int i, double *mean, double *half)
{
    const compare_method *a = &c->methods[0], *b = &c->methods[i];
    int                   n = a->seeded < b->seeded ? a->seeded : b->seeded;
    double                sum = 0, squares = 0;
    *mean = *half = NAN;
    if (!n) return;
    for (int s = 0; s < n; s++) sum += compare_quality(c, &b->seeds[s]) - compare_quality(c, &a->seeds[s]);
    *mean = sum / n;
    for (int s = 0; s < n; s++) {
        double d = compare_quality(c, &b->seeds[s]) - compare_quality(c, &a->seeds[s]) - *mean;
        squares += d * d;
    }
    if (n > 1) *half = student_point(n - 1) * sqrt(squares / (n - 1) / n);
}

static json_t *number(double value) { return isfinite(value) ? json_real(value) : json_null(); }

static json_t *trials_json(const compare_trial *trials, int count)
{
    json_t *list = json_array();
    for (int i = 0; i < count; i++)
        json_array_append_new(list, json_pack("{s:f, s:I, s:b, s:o, s:o, s:o, s:I}", "rate", trials[i].rate, "seed", (json_int_t)trials[i].seed, "diverged", trials[i].diverged, "loss",
                                              number(trials[i].loss), "accuracy", number(trials[i].accuracy), "seconds", number(trials[i].seconds), "steps", (json_int_t)trials[i].steps));
    return list;
}

/* Of the trials at the best rate; the last of them where there are several. */
static const compare_trial *shown(const compare_method *m) { return m->seeded ? &m->seeds[m->seeded - 1] : m->best >= 0 ? &m->tune[m->best] : &m->tune[0]; }

json_t *compare_json(const comparison *c)
{
    json_t *list = json_array();
    for (int i = 0; i < c->count; i++) {
        const compare_method *m = &c->methods[i];
        const compare_trial  *t = shown(m);
        double                mean, half;
        compare_difference(c, i, &mean, &half);
        json_array_append_new(list, json_pack("{s:s, s:o, s:o, s:o, s:o, s:o, s:b, s:I, s:I, s:I, s:I, s:o, s:o}", "method", m->spec, "rate", m->best < 0 ? json_null() : json_real(m->tune[m->best].rate),
                                              "quality", number(compare_mean(c, i)), "difference", number(mean), "half_width", number(half), "seconds", number(t->seconds), "edge", m->edge,
                                              "rank", (json_int_t)m->rank, "trainable", (json_int_t)t->trainable, "planned_bytes", (json_int_t)t->planned, "measured_bytes", (json_int_t)t->measured,
                                              "tune", trials_json(m->tune, m->tuned), "seeds", trials_json(m->seeds, m->seeded)));
    }
    return json_pack("{s:s, s:o}", "quality", c->classified ? "accuracy" : "loss", "methods", list);
}

/* ---- the page ---- */

static void put_digits(text_buffer *out, double value, int digits)
{
    char text[NUMBER_SIZE];
    if (!isfinite(value)) text_puts(out, "-");
    else {
        number_print_digits(value, digits, text);
        text_puts(out, text);
    }
}

static void put_table(text_buffer *out, const comparison *c)
{
    text_printf(out, "<table><tr><th>method</th><th>best rate</th><th>%s</th><th>less %s</th><th>95 %% interval</th><th>seconds</th><th>planned MiB</th><th>trained</th></tr>\n",
                c->classified ? "accuracy" : "held-out loss", "the first");
    for (int i = 0; i < c->count; i++) {
        const compare_method *m = &c->methods[i];
        const compare_trial  *t = shown(m);
        double                mean, half;
        compare_difference(c, i, &mean, &half);
        text_puts(out, "<tr><td>");
        html_text(out, m->spec);
        if (m->rank) text_printf(out, " (rank %lld)", (long long)m->rank);
        text_puts(out, "</td><td>");
        put_digits(out, m->best < 0 ? NAN : m->tune[m->best].rate, 3);
        if (m->edge) text_puts(out, " (edge)");
        text_puts(out, "</td><td>");
        put_digits(out, compare_mean(c, i), 5);
        text_puts(out, "</td><td>");
        put_digits(out, i ? mean : NAN, 4);
        text_puts(out, "</td><td>");
        if (i && isfinite(half)) put_digits(out, mean - half, 4), text_puts(out, " .. "), put_digits(out, mean + half, 4);
        text_puts(out, "</td><td>");
        put_digits(out, t->seconds, 4);
        text_puts(out, "</td><td>");
        put_digits(out, (double)t->planned / 1048576, 4);
        text_printf(out, "</td><td>%lld</td></tr>\n", (long long)t->trainable);
    }
    text_puts(out, "</table>\n");
}

char *compare_page(crank_context *context, const comparison *c)
{
    text_buffer  out = {0};
    double       x[COMPARE_METHODS][COMPARE_TRIALS], y[COMPARE_METHODS][COMPARE_TRIALS], means[COMPARE_METHODS], halves[COMPARE_METHODS];
    chart_series series[COMPARE_METHODS];
    const char  *names[COMPARE_METHODS];
    html_open(&out, "Methods compared");
    text_puts(&out, "<p>Each method at its own best rate out of as many trials; then the same seeds for all, so that differences from the first are paired.</p>\n");
    put_table(&out, c);
    for (int i = 0; i < c->count; i++) {
        const compare_method *m = &c->methods[i];
        double                mean;
        for (int k = 0; k < m->tuned; k++) x[i][k] = m->tune[k].rate, y[i][k] = compare_quality(c, &m->tune[k]);
        series[i] = (chart_series){m->spec, x[i], y[i], (size_t)m->tuned};
        names[i] = m->spec;
        means[i] = compare_mean(c, i);
        compare_difference(c, i, &mean, &halves[i]);
    }
    const char *quality = c->classified ? "accuracy" : "held-out loss";
    chart_lines(&out, &(chart){"every rate that was tried", "rate", quality, true, false, series, (size_t)c->count});
    chart_bars(&out, quality, names, means, halves, (size_t)c->count);
    html_close(&out);
    return text_take(context, &out, "a page");
}
