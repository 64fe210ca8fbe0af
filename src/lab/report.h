/* report.h - what experiments found, from the results that `crank lab run --results` keeps: one page with pictures, and a page of Markdown. */
#ifndef CRANK_LAB_REPORT_H
#define CRANK_LAB_REPORT_H

#include "base/json.h"
#include "lab/lab.h"

typedef struct lab_report {
    json_t **results; /* of each experiment of the registry, in its order; NULL: none is kept */
    json_t **rates;   /* of each, what tune found; NULL: none */
    size_t   count, kept, shown, reproduced;
} lab_report;

/* Reads RESULTS/NAME.json and RATES/NAME.json of every experiment. CRANK_BAD_DATA: a file that is no result of its experiment. */
crank_status lab_report_read(crank_context *context, const char *results, const char *rates, lab_report *out);
void         lab_report_free(lab_report *report);
char        *lab_report_html(crank_context *context, const lab_report *report);     /* crank_free */
char        *lab_report_markdown(crank_context *context, const lab_report *report); /* crank_free */
#endif
