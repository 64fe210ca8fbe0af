/* rows.h - what the verbs that run a model on rows of texts share: where rows come from, how they become tokens, what is told at the end. */
#ifndef CRANK_CLI_ROWS_H
#define CRANK_CLI_ROWS_H

#include "cli/load.h"
#include "model/sentence_folder.h"
#include "task/encode_all.h"

/* Options that are the same in both verbs. */
typedef struct rows_options {
    const char *adapter, *texts, *pairs, *ids, *text_field, *pair_field, *format, *output, *compute, *name;
    int64_t     batch, max_length, repeat;
    bool        profile;
} rows_options;

typedef struct rows_run {
    sentence_folder folder; /* of MODEL, where it is a sentence-transformers folder */
    loaded          l;
    raw_rows        raw;
    id_rows         ids;
    encode_job      job;
    encoder        *e;
    encode_result   result;
} rows_run;

/* MODEL's own files; an empty `folder` for a config with random weights. */
crank_status rows_read_folder(cli_call *cli, const char *model, rows_run *run);
/* Loads the model as `how` says and reads the rows of one of texts, pairs, ids. */
crank_status rows_open(cli_call *cli, const rows_options *o, const crank_model_options *how, rows_run *run);
/* Runs all rows; what `after` (may be NULL) makes of a window goes to o->output, or where it is NULL (and not repeated) to standard output. */
typedef void rows_after(void *user, float *values, int64_t rows, int64_t width);
crank_status rows_go(cli_call *cli, const rows_options *o, rows_run *run, rows_after *after, void *user);
/* A JSON object of the figures; NULL: message set. json_decref. */
json_t      *rows_figures(cli_call *cli, const rows_options *o, rows_run *run);
crank_status rows_print_figures(cli_call *cli, const rows_options *o, rows_run *run, json_t *figures);
void         rows_close(rows_run *run);
#endif
