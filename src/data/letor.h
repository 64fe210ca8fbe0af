/* letor.h - feature vectors of items in lists: SVMlight/LETOR, CSV and TSV files, their side files, and crank's binary form of them.
 *
 *     2 qid:10 1:0.03 3:1 46:0.007 # docid = GX000-00-0000000      SVMlight/LETOR: label, query, column:value pairs, comment
 *     label,query,price,clicks                                     CSV or TSV, with or without a header
 *     FILE.query .group .weight .init .position                    side files: one number a query, or one a row
 *
 * A pair's number is the column (as LightGBM reads it: a file that counts from 1 has an empty column 0). Values are float32, correctly
 * rounded from the text; "nan", "na" or an empty field is a missing value. Rows of a query stand together. Files may be gzip, lines may
 * end in CR LF. Every breach is told as "file:line: ...". */
#ifndef CRANK_DATA_LETOR_H
#define CRANK_DATA_LETOR_H

#include "crank/option.h"

typedef struct letor_options {
    const char *format;                    /* auto, svmlight, csv, tsv */
    const char *header;                    /* auto, yes, no */
    const char *label, *query, *weight;    /* columns of a table, by name or number; NULL: label is 0, the others are not there */
    const char *document;                  /* column of a table with the item's name */
    const char *ignore, *categorical;      /* lists of names or numbers */
    const char *absent;                    /* zero, missing: what a pair that is not written means */
    bool        regroup;                   /* rows of one query may be apart: they are brought together */
    int64_t     columns;                   /* the largest number of columns that is accepted */
} letor_options;
extern const crank_option letor_option_table[];

/* Items with features, labels and lists. Either `dense` or the three arrays of compressed rows hold the values. */
typedef struct letor_set {
    int64_t  rows, columns, queries;
    float   *dense;            /* [rows, columns], NaN: missing; or NULL */
    int64_t *starts;           /* [rows + 1] */
    int32_t *indices;          /* [starts[rows]], ascending in a row */
    float   *values;
    bool     absent_missing;   /* what is not in a compressed row: missing (true) or 0 */
    float   *labels;           /* [rows] */
    float   *weights;          /* [rows], or NULL */
    double  *init;             /* [rows * init_outputs]: scores to start from, or NULL */
    int64_t  init_outputs;
    int32_t *positions;        /* [rows]: where the item was shown, from 0; or NULL */
    int32_t *offsets;          /* [queries + 1]: first row of each query; NULL: no queries known */
    char   **query_names;      /* [queries]: as in the file; NULL: not named */
    char   **document_names;   /* [rows], or NULL */
    char   **names;            /* [columns]: from a header, or NULL */
    bool    *categorical;      /* [columns], or NULL */
    void    *arena[3];         /* texts of queries, documents, columns */
    void    *map;              /* of a binary file, whose arrays lie in it */
} letor_set;

/* Reads a file of any of the formats; `threads` of the context parse it. NULL: the message says what, in which line, and what to do. */
letor_set *letor_read(crank_context *context, const char *path, const letor_options *options);
void       letor_free(letor_set *set);

/* Binary form: read back equal, without parsing. letor_read knows it by its first bytes. */
crank_status letor_save(crank_context *context, const letor_set *set, const char *path);

/* One row of all columns; where compressed, absent ones are filled in. out [columns] */
void letor_row(const letor_set *set, int64_t row, float *out);
#endif
