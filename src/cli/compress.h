/* compress.h - parts of crank compress. */
#ifndef CRANK_CLI_COMPRESS_H
#define CRANK_CLI_COMPRESS_H

#include "cli/load.h"

typedef struct compress_welore_options {
    double      target, gate;
    const char *measure, *choice;
} compress_welore_options;
/* OUT as a plain model, OUT/factors as its adapter. */
crank_status compress_welore(cli_call *cli, const char *out, crank_dtype dtype, const compress_welore_options *how);
#endif
