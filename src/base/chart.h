/* chart.h - pages of HTML with pictures in SVG, as text: nothing outside the page is needed to see it. */
#ifndef CRANK_BASE_CHART_H
#define CRANK_BASE_CHART_H

#include "base/text.h"

void html_open(text_buffer *out, const char *title); /* head, style and <h1> */
void html_close(text_buffer *out);
void html_text(text_buffer *out, const char *text); /* escaped */

/* Values that are not finite, or not above 0 on a logarithmic axis, leave a gap. */
typedef struct chart_series {
    const char   *name;
    const double *x, *y;
    size_t        count;
} chart_series;

typedef struct chart {
    const char         *title, *x_label, *y_label;
    bool                log_x, log_y;
    const chart_series *series; /* lines with dots, in up to eight colours that then repeat */
    size_t              count;
} chart;
void chart_lines(text_buffer *out, const chart *c);

/* Horizontal bars from 0; error [count] half-widths or NULL. Values that are not finite have no bar. */
void chart_bars(text_buffer *out, const char *title, const char *const *names, const double *values, const double *error, size_t count);

/* values [rows, cols] in 0..1, white to dark; more than 128 columns are shown as the largest of each of 128 runs. */
void chart_heat(text_buffer *out, const char *title, const float *values, int64_t rows, int64_t cols);
#endif
