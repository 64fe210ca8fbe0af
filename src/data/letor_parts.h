/* letor_parts.h - what the parts of the LETOR reader share. */
#ifndef CRANK_DATA_LETOR_PARTS_H
#define CRANK_DATA_LETOR_PARTS_H

#include <string.h>

#include "data/letor.h"

/* A piece of the text; it lives as long as the block that is parsed. */
typedef struct letor_token {
    const char *text;
    uint32_t    length;
} letor_token;

/* What one thread made of its lines. Errors stay here until all threads are done: a context belongs to one thread. */
typedef struct letor_chunk {
    float       *labels, *weights;
    letor_token *queries, *documents; /* [rows] */
    int64_t     *ends;                /* [rows]: values up to the end of the row */
    int64_t     *line_of;             /* [rows]: line of the row, from 1 in this chunk */
    int64_t      rows, row_capacity;
    int32_t     *indices;
    float       *values;
    int64_t      count, capacity;
    int32_t      largest;             /* column; -1: none */
    int64_t      lines;               /* read, with the one that failed */
    crank_status status;
    char         message[400];
} letor_chunk;

/* Column roles of a table. */
typedef struct letor_table {
    char     separator;
    int64_t  fields;         /* of each line */
    int32_t *feature;        /* [fields]: column of the field, or one of the negative roles below */
    bool    *categorical;    /* [columns] */
    int64_t  columns;
} letor_table;
enum { LETOR_LABEL = -1, LETOR_QUERY = -2, LETOR_WEIGHT = -3, LETOR_DOCUMENT = -4, LETOR_IGNORE = -5 };

void letor_chunk_fail(letor_chunk *chunk, crank_status status, const char *format, ...) CRANK_PRINTF(3, 4);
bool letor_chunk_row(letor_chunk *chunk);                                  /* room for one more row; false: out of memory */
bool letor_chunk_value(letor_chunk *chunk, int32_t column, float value);   /* appends */
void letor_chunk_clear(letor_chunk *chunk);                                /* for the next block, keeping memory */
void letor_chunk_free(letor_chunk *chunk);

/* Lines text .. end -> rows of the chunk; stops at the first error. */
void letor_parse_svmlight(letor_chunk *chunk, const char *text, const char *end, int64_t most_columns);
void letor_parse_table(letor_chunk *chunk, const char *text, const char *end, const letor_table *table);

/* Roles of the columns from the first line (a header or not). *skip: the first line is a header. */
crank_status letor_table_open(crank_context *context, const char *path, const char *line, size_t length, const letor_options *options,
                              char separator, letor_table *table, letor_set *set, bool *skip);
void letor_table_close(letor_table *table);

/* [text, end) is one number -> correctly rounded float32. False: it is none. Too large: infinity. "nan" and "na" are missing. */
bool letor_number(const char *text, const char *end, float *value);

/* Brings the rows of each query together, stably; query_of [rows], set->queries known, offsets [queries + 1] are written. */
crank_status letor_regroup(crank_context *context, letor_set *set, const int32_t *query_of);

/* Query sizes, weights, initial scores and positions beside the file. */
crank_status letor_side_files(crank_context *context, const char *path, letor_set *set);

bool       letor_is_binary(const uint8_t *data, size_t length);
letor_set *letor_load(crank_context *context, const char *path);
#endif
