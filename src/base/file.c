/* file.c - whole files and mappings. */
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "base/text.h"

/* A compressed file may not unfold to more than this when it is read whole: a few kilobytes can ask for any memory. */
#define LARGEST_UNCOMPRESSED ((size_t)1 << 30)

bool file_exists(const char *path) { return access(path, F_OK) == 0; }

bool file_is_folder(const char *path)
{
    struct stat about;
    return stat(path, &about) == 0 && S_ISDIR(about.st_mode);
}

char *file_join(crank_context *context, const char *folder, const char *name)
{
    size_t length = strlen(folder);
    return crank_format(context, "%s%s%s", folder, length && folder[length - 1] == '/' ? "" : "/", name);
}

/* An open descriptor for reading, or -1 with a message. "-" is standard input. */
static int open_to_read(crank_context *context, const char *path, struct stat *about)
{
    int descriptor = strcmp(path, "-") == 0 ? dup(0) : open(path, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0 || fstat(descriptor, about) != 0) {
        int reason = errno;
        if (descriptor >= 0) close(descriptor);
        crank_fail(context, reason == ENOENT || reason == ENOTDIR ? CRANK_USAGE : CRANK_FAILED, "%s: cannot be read: %s", path, strerror(reason));
        return -1;
    }
    if (S_ISDIR(about->st_mode)) {
        close(descriptor);
        crank_fail(context, CRANK_USAGE, "%s: is a folder, not a file", path);
        return -1;
    }
    return descriptor;
}

/* Everything that the descriptor gives, after room for `expected` bytes. */
static crank_status read_all(crank_context *context, const char *path, int descriptor, text_buffer *out)
{
    char chunk[65536];
    for (;;) {
        ssize_t got = read(descriptor, chunk, sizeof chunk);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return crank_fail(context, CRANK_FAILED, "%s: cannot be read: %s", path, strerror(errno));
        if (got == 0) return CRANK_OK;
        text_add(out, chunk, (size_t)got);
        if (out->failed) return crank_fail(context, CRANK_FAILED, "%s: out of memory after %zu bytes", path, out->length);
    }
}

/* gzip members one after another; what follows the last and is no member is ignored, as gunzip does */
static crank_status inflate_all(crank_context *context, const char *path, const text_buffer *in, text_buffer *out)
{
    z_stream stream = {0};
    char     chunk[65536];
    int      result = inflateInit2(&stream, 15 + 16);
    if (result != Z_OK) return crank_fail(context, CRANK_FAILED, "%s: out of memory for decompression", path);
    size_t       at = 0;
    crank_status status = CRANK_OK;
    while (status == CRANK_OK) {
        size_t left = in->length - at;
        stream.next_in = (Bytef *)(in->bytes + at);
        stream.avail_in = left > 1u << 30 ? 1u << 30 : (uInt)left;
        stream.next_out = (Bytef *)chunk;
        stream.avail_out = sizeof chunk;
        result = inflate(&stream, Z_NO_FLUSH);
        at = (size_t)((char *)stream.next_in - in->bytes);
        text_add(out, chunk, sizeof chunk - stream.avail_out);
        if (out->failed) status = crank_fail(context, CRANK_FAILED, "%s: out of memory after %zu bytes", path, out->length);
        else if (out->length > LARGEST_UNCOMPRESSED)
            status = crank_fail(context, CRANK_BAD_DATA, "%s: more than %zu bytes when decompressed", path,
                                LARGEST_UNCOMPRESSED);
        else if (result == Z_STREAM_END) {
            if (in->length - at < 2 || memcmp(in->bytes + at, "\x1f\x8b", 2) != 0) break;
            inflateReset(&stream);
        } else if (result != Z_OK || (at == in->length && stream.avail_out))
            status = crank_fail(context, CRANK_BAD_DATA, "%s: gzip data are damaged or cut at byte %zu: %s", path, at,
                                stream.msg ? stream.msg : "the end is missing");
    }
    inflateEnd(&stream);
    return status;
}

char *file_read(crank_context *context, const char *path, size_t *length)
{
    struct stat about;
    text_buffer raw = {0}, unpacked = {0};
    int         descriptor = open_to_read(context, path, &about);
    if (descriptor < 0) return NULL;
    crank_status status = read_all(context, path, descriptor, &raw);
    close(descriptor);
    if (status == CRANK_OK && raw.length >= 2 && memcmp(raw.bytes, "\x1f\x8b", 2) == 0) {
        status = inflate_all(context, path, &raw, &unpacked);
        text_clear(&raw);
        raw = unpacked;
    }
    if (status != CRANK_OK) {
        text_clear(&raw);
        return NULL;
    }
    if (length) *length = raw.length;
    return text_take(context, &raw, path);
}

crank_status file_map_open(crank_context *context, const char *path, file_map *map)
{
    struct stat about;
    *map = (file_map){0};
    int descriptor = open_to_read(context, path, &about);
    if (descriptor < 0) return crank_last_status(context);
    if (!S_ISREG(about.st_mode)) {
        close(descriptor);
        return crank_fail(context, CRANK_USAGE, "%s: only a plain file can be mapped", path);
    }
    if (about.st_size == 0) { /* mmap refuses length 0 */
        close(descriptor);
        map->data = (const uint8_t *)"";
        return CRANK_OK;
    }
    void *data = mmap(NULL, (size_t)about.st_size, PROT_READ, MAP_PRIVATE, descriptor, 0);
    int   reason = errno;
    close(descriptor);
    if (data == MAP_FAILED)
        return crank_fail(context, CRANK_FAILED, "%s: %lld bytes cannot be mapped: %s", path, (long long)about.st_size,
                          strerror(reason));
    map->data = data;
    map->length = (size_t)about.st_size;
    return CRANK_OK;
}

void file_map_close(file_map *map)
{
    if (map->length) munmap((void *)(uintptr_t)map->data, map->length);
    *map = (file_map){0};
}
