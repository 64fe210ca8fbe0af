/* csv.h - records of comma-separated values (RFC 4180): fields in double quotes may hold commas, line ends and doubled quotes. */
#ifndef CRANK_DATA_CSV_H
#define CRANK_DATA_CSV_H

#include "crank/base.h"

typedef struct csv_reader {
    const char *path;
    char       *text; /* the whole file; fields are unquoted in place */
    size_t      length, at, line, next_line;
} csv_reader;

/* Reads a file (gzip or not). A zero byte is refused. */
crank_status csv_open(crank_context *context, csv_reader *reader, const char *path);
void         csv_close(csv_reader *reader);
/* The fields of the next record that is no empty line; they live until csv_close. *count 0: the end. Line reader->line is
 * where the record begins. More than `limit` fields, an open quote, or text behind a closing quote: CRANK_BAD_DATA. */
crank_status csv_next(crank_context *context, csv_reader *reader, char **fields, int limit, int *count);
#endif
