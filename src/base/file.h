/* file.h - files in and out: whole files, mapped files, lines (gzip seen by its magic), atomic writes. */
#ifndef CRANK_BASE_FILE_H
#define CRANK_BASE_FILE_H

#include <stdio.h>

#include "crank/base.h"

/* The whole file (decompressed when gzip), NUL-terminated; crank_free. NULL: message names path and reason. */
char *file_read(crank_context *context, const char *path, size_t *length);
bool  file_exists(const char *path);
bool  file_is_folder(const char *path);
/* "folder/name"; crank_free. */
char        *file_join(crank_context *context, const char *folder, const char *name);
crank_status file_make_folder(crank_context *context, const char *path); /* with parents */

/* Read-only mapping. */
typedef struct file_map {
    const uint8_t *data;
    size_t         length;
} file_map;
crank_status file_map_open(crank_context *context, const char *path, file_map *map);
void         file_map_close(file_map *map);

/* Lines of a file ("-": standard input), gzip transparently, any length, CR LF or LF; the line has no end mark. */
typedef struct file_lines file_lines;
file_lines *file_lines_open(crank_context *context, const char *path);
/* 1: a line; 0: end; -1: error (message with path and line). The text lives until the next call. */
int    file_lines_next(crank_context *context, file_lines *lines, const char **text, size_t *length);
size_t file_lines_number(const file_lines *lines); /* 1-based number of the line last given */
void   file_lines_close(file_lines *lines);

/* Atomic write: bytes go to "path.tmp.PID" beside the target; commit syncs and renames; abort removes. Every write error
 * (disk full included) is told by write or commit as CRANK_FAILED, and the old file stays as it was. */
typedef struct file_writer file_writer;
file_writer *file_writer_open(crank_context *context, const char *path);
crank_status file_writer_write(crank_context *context, file_writer *writer, const void *data, size_t length);
crank_status file_writer_commit(crank_context *context, file_writer *writer); /* frees the writer, also on failure */
void         file_writer_abort(file_writer *writer);
crank_status file_write_text(crank_context *context, const char *path, const char *text);
/* All bytes to an open descriptor, in one call of the system where it takes them; `path` is for the message. */
crank_status file_put(crank_context *context, int descriptor, const char *path, const void *bytes, size_t length);

/* Replaces folder `to` by folder `from` so that at every instant one whole version of `to` exists (or is found again by
 * file_folder_recover): to -> to.old, from -> to, remove to.old. */
crank_status file_folder_replace(crank_context *context, const char *from, const char *to);
crank_status file_folder_recover(crank_context *context, const char *to);
crank_status file_folder_remove(crank_context *context, const char *path);
/* Removes what killed programs left in the folder: files and folders "NAME.tmp.PID" whose process is gone. A missing folder is empty. */
crank_status file_folder_sweep(crank_context *context, const char *path);
#endif
