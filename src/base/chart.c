/* chart.c - lines, bars and heat maps as SVG. Numbers are printed in the C locale whatever the process has. */
#include "base/chart.h"

#include <math.h>
#include <stdio.h>

#include "base/number.h"

enum { WIDTH = 640, HEIGHT = 320, LEFT = 64, RIGHT = 170, TOP = 34, BOTTOM = 44, TICKS = 5, COLOURS = 8, BAR = 22, CELL = 5, COLUMNS = 128 };

static const char *const colours[COLOURS] = {"#1f5fa8", "#c0392b", "#2e8b57", "#8e44ad", "#d68910", "#16a3a3", "#7f5539", "#555555"};

void html_text(text_buffer *out, const char *text)
{
    for (; *text; text++)
        switch (*text) {
        case '<': text_puts(out, "&lt;"); break;
        case '>': text_puts(out, "&gt;"); break;
        case '&': text_puts(out, "&amp;"); break;
        case '"': text_puts(out, "&quot;"); break;
        default: text_putc(out, *text);
        }
}

void html_open(text_buffer *out, const char *title)
{
    text_puts(out, "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>");
    html_text(out, title);
    text_puts(out, "</title>\n<style>body{font:15px/1.5 sans-serif;max-width:64em;margin:2em auto;padding:0 1em}table{border-collapse:collapse;margin:1em 0}"
                   "td,th{border:1px solid #ccc;padding:.2em .6em;text-align:right}td:first-child,th:first-child{text-align:left}svg{max-width:100%;height:auto}"
                   ".good{color:#1e7b3c}.bad{color:#b03a2e}pre{background:#f4f4f4;padding:1em;overflow:auto}figure{margin:1em 0}</style>\n<h1>");
    html_text(out, title);
    text_puts(out, "</h1>\n");
}

void html_close(text_buffer *out) { text_puts(out, "</html>\n"); }

/* At most `digits` significant digits. */
static void put_number(text_buffer *out, double value, int digits)
{
    char text[NUMBER_SIZE];
    number_print_digits(value, digits, text);
    text_puts(out, text);
}

/* ---- axes ---- */

typedef struct axis {
    bool   log;
    double low, high; /* of log10 where log */
    double from, to;  /* in pixels */
} axis;

static bool visible(const axis *a, double value) { return isfinite(value) && (!a->log || value > 0); }
static double place(const axis *a, double value)
{
    double at = a->log ? log10(value) : value;
    return a->from + (at - a->low) / (a->high - a->low) * (a->to - a->from);
}

static void widen(axis *a, double value)
{
    if (!visible(a, value)) return;
    double at = a->log ? log10(value) : value;
    if (at < a->low) a->low = at;
    if (at > a->high) a->high = at;
}

static void settle(axis *a)
{
    if (a->low > a->high) a->low = 0, a->high = 1;
    double room = a->high - a->low;
    if (room <= 0) room = fabs(a->high) > 0 ? fabs(a->high) : 1;
    a->low -= 0.03 * room;
    a->high += 0.03 * room;
}

static double tick(const axis *a, int i)
{
    double at = a->low + (a->high - a->low) * i / (TICKS - 1);
    return a->log ? pow(10, at) : at;
}

static void put_open(text_buffer *out, const char *title, int width, int height)
{
    text_printf(out, "<figure><svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" width=\"%d\" height=\"%d\" font-family=\"sans-serif\" font-size=\"12\">"
                     "<rect width=\"%d\" height=\"%d\" fill=\"white\"/><text x=\"8\" y=\"20\" font-size=\"14\">", width, height, width, height, width, height);
    html_text(out, title);
    text_puts(out, "</text>\n");
}

static void put_close(text_buffer *out) { text_puts(out, "</svg></figure>\n"); }

static void put_axes(text_buffer *out, const chart *c, const axis *x, const axis *y)
{
    for (int i = 0; i < TICKS; i++) {
        double at = place(y, tick(y, i));
        text_printf(out, "<line x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\" stroke=\"#ddd\"/><text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">", LEFT, WIDTH - RIGHT, at, at, LEFT - 6,
                    at + 4);
        put_number(out, tick(y, i), 3);
        text_puts(out, "</text>");
        at = place(x, tick(x, i));
        text_printf(out, "<line x1=\"%.1f\" x2=\"%.1f\" y1=\"%d\" y2=\"%d\" stroke=\"#ddd\"/><text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">", at, at, TOP, HEIGHT - BOTTOM, at,
                    HEIGHT - BOTTOM + 16);
        put_number(out, tick(x, i), 3);
        text_puts(out, "</text>\n");
    }
    text_printf(out, "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">", (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 10);
    html_text(out, c->x_label ? c->x_label : "");
    text_printf(out, "</text><text x=\"%d\" y=\"%d\">", LEFT, TOP - 4);
    html_text(out, c->y_label ? c->y_label : "");
    text_puts(out, "</text>\n");
}

static void put_series(text_buffer *out, const chart_series *s, const char *colour, const axis *x, const axis *y)
{
    bool open = false;
    for (size_t i = 0; i < s->count; i++) {
        bool shown = visible(x, s->x[i]) && visible(y, s->y[i]);
        if (shown) text_printf(out, "%s%.1f,%.1f ", open ? "" : "<polyline points=\"", place(x, s->x[i]), place(y, s->y[i]));
        if (open && !shown) text_printf(out, "\" fill=\"none\" stroke=\"%s\" stroke-width=\"1.5\"/>", colour);
        open = shown;
    }
    if (open) text_printf(out, "\" fill=\"none\" stroke=\"%s\" stroke-width=\"1.5\"/>", colour);
    for (size_t i = 0; s->count <= 64 && i < s->count; i++)
        if (visible(x, s->x[i]) && visible(y, s->y[i])) text_printf(out, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"2.5\" fill=\"%s\"/>", place(x, s->x[i]), place(y, s->y[i]), colour);
    text_puts(out, "\n");
}

void chart_lines(text_buffer *out, const chart *c)
{
    axis x = {c->log_x, INFINITY, -INFINITY, LEFT, WIDTH - RIGHT}, y = {c->log_y, INFINITY, -INFINITY, HEIGHT - BOTTOM, TOP};
    for (size_t k = 0; k < c->count; k++)
        for (size_t i = 0; i < c->series[k].count; i++)
            if (visible(&x, c->series[k].x[i]) && visible(&y, c->series[k].y[i])) widen(&x, c->series[k].x[i]), widen(&y, c->series[k].y[i]);
    settle(&x), settle(&y);
    put_open(out, c->title, WIDTH, HEIGHT);
    put_axes(out, c, &x, &y);
    for (size_t k = 0; k < c->count; k++) {
        const char *colour = colours[k % COLOURS];
        put_series(out, &c->series[k], colour, &x, &y);
        text_printf(out, "<text x=\"%d\" y=\"%zu\" fill=\"%s\">", WIDTH - RIGHT + 8, TOP + 12 + 15 * k, colour);
        html_text(out, c->series[k].name ? c->series[k].name : "");
        text_puts(out, "</text>\n");
    }
    put_close(out);
}

/* ---- bars ---- */

void chart_bars(text_buffer *out, const char *title, const char *const *names, const double *values, const double *error, size_t count)
{
    enum { NAMES = 200 };
    axis x = {.low = 0, .high = 0, .from = NAMES, .to = WIDTH - 80};
    for (size_t i = 0; i < count; i++) {
        double e = error && isfinite(error[i]) ? error[i] : 0;
        widen(&x, values[i] - e), widen(&x, values[i] + e);
    }
    if (x.low == x.high) x.high = 1;
    put_open(out, title, WIDTH, (int)(TOP + count * BAR + 12));
    for (size_t i = 0; i < count; i++) {
        double top = TOP + (double)i * BAR, zero = place(&x, 0);
        text_printf(out, "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">", NAMES - 6, top + 14);
        html_text(out, names[i]);
        text_puts(out, "</text>");
        if (!isfinite(values[i])) {
            text_puts(out, "\n");
            continue;
        }
        double at = place(&x, values[i]);
        text_printf(out, "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%d\" fill=\"%s\"/>", fmin(at, zero), top + 3, fabs(at - zero), BAR - 8, colours[0]);
        if (error && isfinite(error[i]) && error[i] > 0)
            text_printf(out, "<line x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\" stroke=\"black\"/>", place(&x, values[i] - error[i]), place(&x, values[i] + error[i]), top + 10, top + 10);
        text_printf(out, "<text x=\"%d\" y=\"%.1f\">", WIDTH - 74, top + 14);
        put_number(out, values[i], 4);
        text_puts(out, "</text>\n");
    }
    put_close(out);
}

/* ---- heat maps ---- */

void chart_heat(text_buffer *out, const char *title, const float *values, int64_t rows, int64_t cols)
{
    int64_t shown = cols < COLUMNS ? cols : COLUMNS;
    put_open(out, title, (int)(16 + CELL * shown), (int)(TOP + CELL * rows + 8));
    text_printf(out, "<rect x=\"8\" y=\"%d\" width=\"%d\" height=\"%d\" fill=\"none\" stroke=\"#bbb\"/>", TOP - 4, (int)(CELL * shown), (int)(CELL * rows));
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < shown; j++) {
            float   value = 0;
            int64_t end = (j + 1) * cols / shown;
            for (int64_t k = j * cols / shown; k < end; k++)
                if (values[i * cols + k] > value) value = values[i * cols + k];
            int level = (int)(255 * (1 - (double)(value < 1 ? value : 1)));
            if (level < 235) /* what is nearly white is left to the background */
                text_printf(out, "<rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" fill=\"#%02x%02x%02x\"/>", (int)(8 + CELL * j), (int)(TOP - 4 + CELL * i), CELL, CELL, level, level,
                            level < 200 ? level + 55 : 255);
        }
    put_close(out);
}
