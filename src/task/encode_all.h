/* encode_all.h - all rows of a file through an encoder: texts are tokenised a window at a time, while the window before is computed where that is
 * worth a thread. */
#ifndef CRANK_TASK_ENCODE_ALL_H
#define CRANK_TASK_ENCODE_ALL_H

#include "task/encode.h"

typedef struct encode_job {
    const raw_rows        *texts; /* with a tokenizer and format; or */
    const crank_tokenizer *tokenizer;
    id_rows_format         format;
    const id_rows         *ids;   /* rows that are tokens already */
    int64_t                repeat; /* > 0: all rows are one window, run again so many times behind two runs that are not counted */
    bool                   ahead;  /* texts: the next window is tokenised by a thread of its own while this one is computed */
    int                    progress; /* descriptor of the progress line, -1: none */
} encode_job;

typedef struct encode_result {
    int64_t       rows, cut;
    double        seconds;        /* of the one pass that gives the results, reading of results included */
    double        median_seconds; /* of a repeated run from token ids to results; 0: not repeated */
    encode_counts counts;         /* of the first pass */
} encode_result;

/* Takes the results of the next rows [rows, width]. */
typedef crank_status encode_sink(void *user, const float *values, int64_t rows);

crank_status encode_all(crank_context *context, encoder *e, const encode_job *job, encode_sink *sink, void *user, encode_result *out);
#endif
