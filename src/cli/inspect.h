/* inspect.h - parts of crank inspect. */
#ifndef CRANK_CLI_INSPECT_H
#define CRANK_CLI_INSPECT_H

#include "cli/cli.h"

/* The table of bytes under many ways of training; rank 0: the size's own, or 128. */
crank_status inspect_plan(cli_call *cli, const char *model, const char *weights, int64_t rank);
/* Shares of outliers, one a layer, over the first `tokens` tokens of a text. */
crank_status inspect_outliers(cli_call *cli, const char *model, const char *path, double threshold, int64_t tokens);

typedef struct inspect_intruder_options {
    const char *top, *epsilon; /* lines */
    const char *side;          /* left, right, both */
    const char *targets, *text, *choices, *csv, *html;
    bool        fast;
} inspect_intruder_options;
/* crank inspect intruder BASE TUNED: what training changed in the spectra. */
crank_status inspect_intruder(cli_call *cli, const inspect_intruder_options *how);
#endif
