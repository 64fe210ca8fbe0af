/* csv.c - comma-separated values, read whole and cut in place. */
#include "data/csv.h"

#include <string.h>

#include "base/file.h"

crank_status csv_open(crank_context *context, csv_reader *reader, const char *path)
{
    *reader = (csv_reader){.path = path, .line = 1, .next_line = 1};
    reader->text = file_read(context, path, &reader->length);
    if (!reader->text) return crank_last_status(context);
    if (reader->length >= 3 && !memcmp(reader->text, "\xef\xbb\xbf", 3)) reader->at = 3; /* a byte order mark */
    if (!memchr(reader->text, 0, reader->length)) return CRANK_OK;
    csv_close(reader);
    return crank_fail(context, CRANK_BAD_DATA, "%s holds zero bytes and is no text file", path);
}

void csv_close(csv_reader *reader)
{
    crank_free(reader->text);
    reader->text = NULL;
}

/* Reads a quoted field whose opening quote is at reader->at; moves behind the closing quote. */
static crank_status quoted(crank_context *context, csv_reader *reader, char **field, char **end)
{
    char *text = reader->text, *to = text + reader->at;
    *field = to;
    for (size_t at = reader->at + 1; at < reader->length; at++) {
        if (text[at] == '\n') reader->next_line++;
        if (text[at] == '"' && text[at + 1] == '"') { /* the text is closed by a zero */
            at++;
        } else if (text[at] == '"') {
            *end = to;
            reader->at = at + 1;
            return CRANK_OK;
        }
        *to++ = text[at];
    }
    return crank_fail(context, CRANK_BAD_DATA, "%s:%zu: a quoted field is not closed", reader->path, reader->line);
}

static crank_status one_field(crank_context *context, csv_reader *reader, char **field, bool *last)
{
    char        *text = reader->text, *end = NULL;
    crank_status status = CRANK_OK;
    if (text[reader->at] == '"') {
        status = quoted(context, reader, field, &end);
        if (status != CRANK_OK) return status;
    } else {
        *field = text + reader->at;
        reader->at += strcspn(*field, ",\n");
        end = text + reader->at;
        if (text[reader->at] != ',' && end > *field && end[-1] == '\r') end--;
    }
    if (text[reader->at] == '\r' && (text[reader->at + 1] == '\n' || !text[reader->at + 1])) reader->at++;
    char behind = text[reader->at];
    if (behind && behind != ',' && behind != '\n')
        return crank_fail(context, CRANK_BAD_DATA, "%s:%zu: text stands behind a closing quote", reader->path, reader->line);
    *last = behind != ',';
    if (behind == '\n') reader->next_line++;
    if (behind) reader->at++;
    *end = 0; /* after `behind` was read: they may be one byte */
    return CRANK_OK;
}

crank_status csv_next(crank_context *context, csv_reader *reader, char **fields, int limit, int *count)
{
    *count = 0;
    while (reader->at < reader->length && (reader->text[reader->at] == '\n' || (reader->text[reader->at] == '\r' && reader->text[reader->at + 1] == '\n')))
        if (reader->text[reader->at++] == '\n') reader->next_line++;
    reader->line = reader->next_line;
    if (reader->at >= reader->length) return CRANK_OK;
    for (bool last = false; !last;) {
        if (*count == limit) return crank_fail(context, CRANK_BAD_DATA, "%s:%zu: the row has more than %d columns", reader->path, reader->line, limit);
        crank_status status = one_field(context, reader, &fields[(*count)++], &last);
        if (status != CRANK_OK) return status;
    }
    return CRANK_OK;
}
