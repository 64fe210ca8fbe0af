/* rows.h - rows of files before tokenising: what each schema keeps of a line. */
#ifndef CRANK_DATA_ROWS_H
#define CRANK_DATA_ROWS_H

#include "data/dataset.h"

typedef enum row_schema {
    ROWS_NONE,
    ROWS_TEXT,       /* text: all of it is trained */
    ROWS_COMPLETION, /* prompt + completion: the completion is trained */
    ROWS_MESSAGES,   /* a conversation (JSON text in `text`): assistant turns are trained */
    ROWS_LABELLED    /* text [+ pair] with a label or value */
} row_schema;

typedef struct raw_row {
    char  *text, *second; /* text or prompt; completion or pair (NULL: none) */
    double label;         /* class or value; NAN: none */
    size_t line;          /* of its file */
    int    file;          /* index in raw_rows.files */
} raw_row;

typedef struct raw_rows {
    raw_row   *rows;
    size_t     count, capacity;
    char     **files;
    int        file_count;
    row_schema schema;
} raw_rows;

/* Reads the files of a part ("path" lines). All rows must have one schema. */
crank_status rows_read(crank_context *context, const dataset_options *options, const char *paths, unsigned fields, raw_rows *out);
void         rows_free(raw_rows *rows);
const char  *rows_schema_name(row_schema schema);
/* Adds a row; text and second are taken over. */
crank_status rows_add(crank_context *context, raw_rows *rows, raw_row row);
#endif
