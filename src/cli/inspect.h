/* inspect.h - parts of crank inspect. */
#ifndef CRANK_CLI_INSPECT_H
#define CRANK_CLI_INSPECT_H

#include "cli/cli.h"

/* The table of bytes under many ways of training; rank 0: the size's own, or 128. */
crank_status inspect_plan(cli_call *cli, const char *model, const char *weights, int64_t rank);
/* Shares of outliers, one a layer, over the first `tokens` tokens of a text. */
crank_status inspect_outliers(cli_call *cli, const char *model, const char *path, double threshold, int64_t tokens);
#endif
