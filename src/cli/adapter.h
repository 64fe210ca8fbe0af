/* adapter.h - parts of crank adapter. */
#ifndef CRANK_CLI_ADAPTER_H
#define CRANK_CLI_ADAPTER_H

#include "cli/load.h"

typedef struct adapter_options {
    const char *dtype, *to, *out, *model, *rank_pattern;
    const char *lambda, *which, *control, *form, *text, *data, *forget, *targets, *index, *gguf;
    int64_t     rank, top;
    double      epsilon;
    bool        unsafe, svd, controls, strict;
} adapter_options;

/* repair BASE TUNED: scales intruder dimensions down, in a sweep of factors or in what is written. */
crank_status adapter_repair(cli_call *cli);
/* recover LARGE SMALL ADAPTER: an adapter of a pruned model for the model that it was pruned from. */
crank_status adapter_recover(cli_call *cli);
#endif
