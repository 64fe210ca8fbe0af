/* file_writer.c - atomic writes: a file beside the target, synced, then renamed over it.
 *
 * What stands at the target and is no plain file (a terminal, a pipe, /dev/null) cannot be replaced: it is written to
 * directly. */
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BUFFER_SIZE = 1 << 18 };

struct file_writer {
    int    descriptor;
    bool   direct; /* no temporary file */
    bool   failed; /* a write failed: commit refuses */
    size_t held;
    char  *path, *temporary, *buffer;
};

file_writer *file_writer_open(crank_context *context, const char *path)
{
    struct stat  about;
    bool         exists = stat(path, &about) == 0, direct = exists && !S_ISREG(about.st_mode);
    file_writer *writer = crank_alloc(context, 1, sizeof *writer, "a file writer");
    if (!writer) return NULL;
    writer->descriptor = -1;
    writer->direct = direct;
    writer->path = crank_strdup(context, path);
    writer->temporary = crank_format(context, "%s.tmp.%ld", path, (long)getpid());
    writer->buffer = crank_alloc(context, 1, BUFFER_SIZE, "a write buffer");
    if (!writer->path || !writer->temporary || !writer->buffer) {
        file_writer_abort(writer);
        return NULL;
    }
    if (direct) writer->descriptor = open(path, O_WRONLY | O_CLOEXEC);
    else writer->descriptor = open(writer->temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (writer->descriptor < 0) {
        crank_fail(context, CRANK_FAILED, "%s: cannot be written: %s", path, strerror(errno));
        file_writer_abort(writer);
        return NULL;
    }
    if (exists && !direct) (void)!fchmod(writer->descriptor, about.st_mode & 0777); /* the old file's permissions stay */
    return writer;
}

crank_status file_put(crank_context *context, int descriptor, const char *path, const void *bytes, size_t length)
{
    const char *at = bytes;
    while (length > 0) {
        ssize_t done = write(descriptor, at, length < (size_t)1 << 30 ? length : (size_t)1 << 30);
        if (done < 0 && errno == EINTR) continue;
        if (done < 0) return crank_fail(context, CRANK_FAILED, "%s: cannot be written: %s", path, strerror(errno));
        at += done;
        length -= (size_t)done;
    }
    return CRANK_OK;
}

static crank_status write_out(crank_context *context, file_writer *writer, const void *bytes, size_t length)
{
    if (writer->failed) return crank_fail(context, CRANK_FAILED, "%s: an earlier write failed", writer->path);
    crank_status status = file_put(context, writer->descriptor, writer->path, bytes, length);
    writer->failed = status != CRANK_OK;
    return status;
}

static crank_status flush(crank_context *context, file_writer *writer)
{
    size_t held = writer->held;
    writer->held = 0;
    return write_out(context, writer, writer->buffer, held);
}

crank_status file_writer_write(crank_context *context, file_writer *writer, const void *data, size_t length)
{
    if (length > BUFFER_SIZE - writer->held) {
        crank_status status = flush(context, writer);
        if (status != CRANK_OK) return status;
    }
    if (length >= BUFFER_SIZE) return write_out(context, writer, data, length);
    if (length) memcpy(writer->buffer + writer->held, data, length);
    writer->held += length;
    return CRANK_OK;
}

/* Makes the new name last through a power cut: the folder's entry is synced too. */
static void sync_folder_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    char       *folder = slash ? strndup(path, slash == path ? 1 : (size_t)(slash - path)) : strdup(".");
    int         descriptor = folder ? open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (descriptor >= 0) {
        fsync(descriptor); /* some file systems refuse this for folders: the rename itself is done */
        close(descriptor);
    }
    free(folder);
}

crank_status file_writer_commit(crank_context *context, file_writer *writer)
{
    crank_status status = flush(context, writer);
    bool         synced = writer->direct || status != CRANK_OK || fsync(writer->descriptor) == 0;
    int          reason = errno;
    if (close(writer->descriptor) != 0 && synced) {
        synced = false; /* network file systems tell a full disk here */
        reason = errno;
    }
    writer->descriptor = -1;
    if (status == CRANK_OK && !synced)
        status = crank_fail(context, CRANK_FAILED, "%s: cannot be written: %s", writer->path, strerror(reason));
    if (status == CRANK_OK && !writer->direct) {
        if (rename(writer->temporary, writer->path) != 0)
            status = crank_fail(context, CRANK_FAILED, "%s: cannot be replaced: %s", writer->path, strerror(errno));
        else {
            sync_folder_of(writer->path);
            writer->direct = true; /* nothing is left to remove */
        }
    }
    file_writer_abort(writer);
    return status;
}

void file_writer_abort(file_writer *writer)
{
    if (!writer) return;
    if (writer->descriptor >= 0) close(writer->descriptor);
    if (writer->temporary && !writer->direct) unlink(writer->temporary);
    crank_free(writer->path);
    crank_free(writer->temporary);
    crank_free(writer->buffer);
    crank_free(writer);
}

crank_status file_write_text(crank_context *context, const char *path, const char *text)
{
    file_writer *writer = file_writer_open(context, path);
    if (!writer) return crank_last_status(context);
    file_writer_write(context, writer, text, strlen(text)); /* a failure is told by commit */
    return file_writer_commit(context, writer);
}
