/* load.h - a device, a model and an adapter as the verbs that only use a model want them. */
#ifndef CRANK_CLI_LOAD_H
#define CRANK_CLI_LOAD_H

#include "cli/cli.h"

#include "crank/adapter.h"
#include "crank/tokenizer.h"

typedef struct loaded {
    crank_device    *device;
    crank_model     *model;
    crank_tokenizer *tokenizer; /* NULL when not asked for */
} loaded;

/* Loads `folder` (or ORG/NAME that `crank pull` has fetched) with `compute` (auto, f32, bf16, f64), puts the adapter on it when given. */
crank_status load_model(cli_call *cli, const char *folder, const char *adapter, const char *compute, bool tokenizer, loaded *out);
void         load_free(loaded *l);
#endif
