/* file_lines.c - the lines of a plain or gzip file, through one buffer that grows to the longest line. */
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

enum { READ_SIZE = 1 << 16 };
/* No text data have such a line; a compressed file of a few megabytes without a line end would take all memory. */
#define LONGEST_LINE ((size_t)1 << 30)

struct file_lines {
    gzFile file;
    char  *path;
    char  *buffer;                     /* bytes start .. end are read and not yet given */
    size_t start, end, scanned, capacity; /* no line end in start .. scanned */
    size_t number;
    bool   ended;
};

file_lines *file_lines_open(crank_context *context, const char *path)
{
    if (strcmp(path, "-") != 0 && file_is_folder(path)) {
        crank_fail(context, CRANK_USAGE, "%s: is a folder, not a file", path);
        return NULL;
    }
    int descriptor = strcmp(path, "-") == 0 ? dup(0) : open(path, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0) {
        crank_fail(context, errno == ENOENT || errno == ENOTDIR ? CRANK_USAGE : CRANK_FAILED, "%s: cannot be read: %s", path, strerror(errno));
        return NULL;
    }
    file_lines *lines = crank_alloc(context, 1, sizeof *lines, "a line reader");
    if (lines) {
        lines->path = crank_strdup(context, path);
        lines->file = lines->path ? gzdopen(descriptor, "rb") : NULL; /* reads a plain file as it is */
    }
    if (lines && lines->file) {
        gzbuffer(lines->file, READ_SIZE);
        return lines;
    }
    close(descriptor);
    if (lines) crank_fail(context, CRANK_FAILED, "%s: out of memory", path);
    file_lines_close(lines);
    return NULL;
}

/* Reads more bytes behind `end`. Sets `ended` at the end of the file. */
static crank_status fill(crank_context *context, file_lines *lines)
{
    if (lines->start > 0) {
        memmove(lines->buffer, lines->buffer + lines->start, lines->end - lines->start);
        lines->end -= lines->start;
        lines->scanned -= lines->start;
        lines->start = 0;
    }
    if (lines->capacity - lines->end < READ_SIZE + 1) { /* one more for the NUL */
        size_t capacity = lines->capacity * 2 + READ_SIZE + 1;
        char  *grown = lines->end <= LONGEST_LINE ? realloc(lines->buffer, capacity) : NULL;
        if (!grown)
            return crank_fail(context, lines->end > LONGEST_LINE ? CRANK_BAD_DATA : CRANK_FAILED,
                              "%s:%zu: a line of more than %zu bytes does not fit", lines->path, lines->number + 1, lines->end);
        lines->buffer = grown;
        lines->capacity = capacity;
    }
    int got = gzread(lines->file, lines->buffer + lines->end, READ_SIZE), code = Z_OK;
    if (got > 0) lines->end += (size_t)got;
    if (got == READ_SIZE) return CRANK_OK;
    const char *reason = gzerror(lines->file, &code);
    if (code != Z_OK && code != Z_STREAM_END)
        return crank_fail(context, code == Z_ERRNO ? CRANK_FAILED : CRANK_BAD_DATA, "%s:%zu: cannot be read: %s", lines->path,
                          lines->number + 1, code == Z_ERRNO ? strerror(errno) : reason);
    lines->ended = got == 0 || gzeof(lines->file);
    return CRANK_OK;
}

int file_lines_next(crank_context *context, file_lines *lines, const char **text, size_t *length)
{
    char *mark;
    for (;;) {
        mark = lines->end > lines->scanned ? memchr(lines->buffer + lines->scanned, '\n', lines->end - lines->scanned) : NULL;
        if (mark || lines->ended) break;
        lines->scanned = lines->end;
        if (fill(context, lines) != CRANK_OK) return -1;
    }
    if (!mark && lines->start == lines->end) return 0;
    char  *line = lines->buffer + lines->start;
    size_t stop = mark ? (size_t)(mark - lines->buffer) : lines->end, size = stop - lines->start;
    if (mark && size > 0 && line[size - 1] == '\r') size--;
    line[size] = 0;
    lines->start = lines->scanned = mark ? stop + 1 : stop;
    lines->number++;
    *text = line;
    *length = size;
    return 1;
}

size_t file_lines_number(const file_lines *lines) { return lines->number; }

void file_lines_close(file_lines *lines)
{
    if (!lines) return;
    if (lines->file) gzclose(lines->file);
    free(lines->buffer);
    crank_free(lines->path);
    crank_free(lines);
}
