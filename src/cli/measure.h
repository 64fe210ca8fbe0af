/* measure.h - the loss of a loaded model on a file, for the verbs that compare models. */
#ifndef CRANK_CLI_MEASURE_H
#define CRANK_CLI_MEASURE_H

#include "cli/load.h"
#include "task/evaluate.h"

typedef struct measure_request {
    const char *text, *data;  /* plain text, or rows; one of them */
    const char *objective;    /* "auto": by the model */
    int64_t     seq, batch;   /* 0: the model's context, at most 1024; 8 */
    char      **words;        /* data.key=value; may be NULL */
    int         word_count;
} measure_request;

/* `folder`: of the model, for messages. */
crank_status measure_set(cli_call *cli, const loaded *l, const char *folder, const measure_request *request, evaluation *out);
#endif
