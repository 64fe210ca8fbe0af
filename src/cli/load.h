/* load.h - a device, a model and adapters as the verbs that only use a model want them. */
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

enum { LOAD_ADAPTERS = 64 };

/* Loads `folder` (or ORG/NAME that `crank pull` has fetched) with `compute` (auto, f32, bf16, f64) and puts `adapters` on it: NULL, or
 * lines "FOLDER" or "FOLDER:WEIGHT". The first is named "default", others "adapter2", ..; several are mixed (crank_linears_mix). */
crank_status load_model(cli_call *cli, const char *folder, const char *adapters, const char *compute, bool tokenizer, loaded *out);
/* The same with more of the model said: pooling, body and seed of `how` (an adapter's own pooling stands where `how` has none). A file
 * `folder`.json is the config of a model with random weights, which has no tokenizer. */
crank_status load_model_as(cli_call *cli, const char *folder, const char *adapters, const char *compute, bool tokenizer, const crank_model_options *how,
                           loaded *out);
/* True when `folder` (or what it names in the cache) holds an adapter, not a model. */
bool         load_is_adapter(cli_call *cli, const char *folder);
void         load_free(loaded *l);
#endif
