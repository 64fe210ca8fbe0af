/* hub_pull.c - a model's files from a hub into the cache.
 *
 *     GET  /api/models/ORG/NAME/revision/REVISION    {"sha": COMMIT, "siblings": [{"rfilename": FILE}]}
 *     HEAD /ORG/NAME/resolve/COMMIT/FILE             the file's etag and size
 *     GET  the same                                  its bytes, from where an earlier try broke
 *
 * Bytes go to blobs/ETAG.incomplete, are hashed as they come, and get their name when they are whole and (large files) have the SHA-256
 * that their name says. The reference of the revision is written last: a name resolves only to a snapshot that is whole. */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/sha256.h"
#include "data/hub.h"
#include "data/hub_http.h"

enum { TRIES = 5, LIST_BYTES = 64 << 20, FILES = 4096 };

typedef struct wanted_file {
    char      *name; /* path in the repository */
    char      *url;
    hub_answer at;   /* etag, size */
    char      *blob;
} wanted_file;

typedef struct pull {
    crank_context  *context;
    hub_http       *http;
    const hub_name *name;
    char           *folder; /* of the repository in the cache */
    char            commit[HUB_COMMIT + 1];
    wanted_file    *files;
    size_t          count;
    progress       *line;
    int64_t         done; /* bytes of finished and running files, for the progress line */
    hub_pulled     *out;
} pull;

/* ---- which files ---- */

static bool ends_with(const char *text, const char *end)
{
    size_t a = strlen(text), b = strlen(end);
    return a >= b && !strcmp(text + a - b, end);
}

/* A relative path of plain names. */
static bool safe_path(const char *path)
{
    if (!*path || strlen(path) > 512) return false;
    for (const char *at = path;; at++) {
        size_t length = strcspn(at, "/");
        if (!length || (at[0] == '.' && (length == 1 || (length == 2 && at[1] == '.')))) return false;
        for (size_t i = 0; i < length; i++)
            if ((unsigned char)at[i] < 32 || at[i] == '\\') return false;
        at += length;
        if (!*at) return true;
    }
}

static bool has_file(const json_t *siblings, const char *name)
{
    size_t  i;
    json_t *item;
    json_array_foreach(siblings, i, item)
    {
        const char *file = json_string_value(json_object_get(item, "rfilename"));
        if (file && !strcmp(file, name)) return true;
    }
    return false;
}

/* What crank reads. Weights are model.safetensors, or the shards of its index, or an adapter's: copies in other layouts and precisions
 * that repositories also hold are left. */
static bool is_wanted(const json_t *siblings, const char *file)
{
    static const char *const names[] = {"config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
                                        "added_tokens.json", "vocab.json", "vocab.txt", "merges.txt", "chat_template.jinja", "modules.json",
                                        "1_Pooling/config.json", "sentence_bert_config.json", "config_sentence_transformers.json", "adapter_config.json", "adapter_model.safetensors",
                                        "crank.json", "model.safetensors"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (!strcmp(file, names[i])) return true;
    if (has_file(siblings, "model.safetensors")) return false;
    return !strcmp(file, "model.safetensors.index.json") || (!strncmp(file, "model-", 6) && strstr(file, "-of-") && !strchr(file, '/') && ends_with(file, ".safetensors"));
}

static bool take_text(void *user, const hub_answer *answer, const void *bytes, size_t length)
{
    text_buffer *text = user;
    (void)answer;
    if (text->length + length > LIST_BYTES) text->failed = true;
    if (!text->failed) text_add(text, bytes, length);
    return !text->failed;
}

static crank_status add_file(pull *p, const char *name)
{
    wanted_file *file = &p->files[p->count++];
    file->name = crank_strdup(p->context, name);
    char *escaped = hub_http_escape(p->http, name);
    if (escaped) file->url = crank_format(p->context, "%s/%s/resolve/%s/%s", hub_http_endpoint(p->http), p->name->repository, p->commit, escaped);
    crank_free(escaped);
    return file->name && file->url ? CRANK_OK : CRANK_FAILED;
}

static crank_status choose_files(pull *p, const json_t *root)
{
    const char *commit = json_string_value(json_object_get(root, "sha")), *name = p->name->repository;
    json_t     *siblings = json_object_get(root, "siblings"), *item;
    size_t      i, weights = 0;
    bool        pickled = false;
    if (!commit || !hub_is_commit(commit) || !json_is_array(siblings))
        return crank_fail(p->context, CRANK_BAD_DATA, "%s does not answer as a hub does: no list of files for %s", hub_http_endpoint(p->http), name);
    strcpy(p->commit, commit);
    p->files = crank_alloc(p->context, FILES, sizeof *p->files, "a list of files");
    if (!p->files) return CRANK_FAILED;
    json_array_foreach(siblings, i, item)
    {
        const char *file = json_string_value(json_object_get(item, "rfilename"));
        if (!file) continue;
        pickled |= ends_with(file, ".bin") || ends_with(file, ".pt") || ends_with(file, ".pth") || ends_with(file, ".ckpt");
        if (!is_wanted(siblings, file) || !safe_path(file)) continue;
        weights += ends_with(file, ".safetensors");
        if (p->count == FILES) return crank_fail(p->context, CRANK_BAD_DATA, "%s names more than %d files of one model", name, FILES);
        if (add_file(p, file) != CRANK_OK) return CRANK_FAILED;
    }
    if (!weights)
        return crank_fail(p->context, CRANK_BAD_DATA, "%s holds no model in safetensors%s", name,
                          pickled ? ", only pickled weights, which can run code when they are read: look for a safetensors revision" : "");
    if (!has_file(siblings, "config.json") && !has_file(siblings, "adapter_config.json") && !has_file(siblings, "crank.json"))
        return crank_fail(p->context, CRANK_BAD_DATA, "%s has neither config.json nor adapter_config.json: it is no model that can be loaded", name);
    return CRANK_OK;
}

static crank_status list_files(pull *p)
{
    hub_answer   answer;
    text_buffer  text = {0};
    bool         broken;
    char        *revision = hub_http_escape(p->http, p->name->revision), *url = NULL;
    crank_status status = CRANK_FAILED;
    if (revision) { /* one path segment: a slash in a revision is escaped too */
        text_buffer one = {0};
        for (const char *c = revision; *c; c++) text_puts(&one, *c == '/' ? "%2F" : (char[]){*c, 0});
        char *segment = text_take(p->context, &one, "a URL");
        if (segment) url = crank_format(p->context, "%s/api/models/%s/revision/%s", hub_http_endpoint(p->http), p->name->repository, segment);
        crank_free(segment);
    }
    if (url) status = hub_http_get(p->http, url, 0, take_text, &text, &answer, &broken);
    if (url && status != CRANK_OK && text.failed)
        crank_fail(p->context, CRANK_BAD_DATA, "the list of files of %s is larger than %d MiB", p->name->repository, LIST_BYTES >> 20), status = CRANK_BAD_DATA;
    else if (url && status != CRANK_OK && answer.code >= 400) status = hub_http_refused(p->http, &answer, p->name->repository);
    json_t *root = status == CRANK_OK ? json_parse(p->context, text.bytes ? text.bytes : "", text.length, url) : NULL;
    if (status == CRANK_OK) status = root ? choose_files(p, root) : crank_last_status(p->context);
    json_decref(root);
    text_clear(&text);
    crank_free(url), crank_free(revision);
    return status;
}

/* ---- one blob ---- */

static bool is_sha256(const char *etag) { return strspn(etag, "0123456789abcdef") == 64 && !etag[64]; }

/* An etag names a file. */
static bool good_etag(const char *etag) { return *etag && *etag != '.' && !etag[strspn(etag, "0123456789abcdefABCDEFghijklmnopqrstuvwxyzGHIJKLMNOPQRSTUVWXYZ._-")]; }

static crank_status ask_file(pull *p, wanted_file *file)
{
    crank_status status = hub_http_head(p->http, file->url, &file->at);
    if (status != CRANK_OK) return status;
    if (file->at.code >= 400) return hub_http_refused(p->http, &file->at, file->name);
    if (!good_etag(file->at.etag) || file->at.size < 0)
        return crank_fail(p->context, CRANK_BAD_DATA, "%s does not answer as a hub does: no etag or no size of %s", hub_http_endpoint(p->http), file->name);
    file->blob = crank_format(p->context, "%s/blobs/%s", p->folder, file->at.etag);
    return file->blob ? CRANK_OK : CRANK_FAILED;
}

static bool is_there(const wanted_file *file)
{
    struct stat s;
    return stat(file->blob, &s) == 0 && S_ISREG(s.st_mode) && s.st_size == file->at.size;
}

typedef struct download {
    pull              *p;
    const wanted_file *file;
    int                descriptor;
    const char        *path; /* of the incomplete blob */
    int64_t            have; /* bytes in it */
    sha256             hash;
    bool               placed; /* the answer's first byte was compared with `have` */
} download;

static crank_status restart(download *d)
{
    d->p->done -= d->have;
    d->have = 0;
    sha256_start(&d->hash);
    if (ftruncate(d->descriptor, 0) || lseek(d->descriptor, 0, SEEK_SET) < 0)
        return crank_fail(d->p->context, CRANK_FAILED, "%s: %s", d->path, strerror(errno));
    return CRANK_OK;
}

static bool take_bytes(void *user, const hub_answer *answer, const void *bytes, size_t length)
{
    download *d = user;
    pull     *p = d->p;
    if (!d->placed) {
        int64_t first = answer->code == 206 ? answer->range_first : 0;
        if (first != d->have && first != 0) return crank_fail(p->context, CRANK_BAD_DATA, "%s: the server sends another part of %s than was asked for", d->file->url, d->file->name), false;
        if (first != d->have && restart(d) != CRANK_OK) return false;
        d->placed = true;
    }
    if (d->have + (int64_t)length > d->file->at.size)
        return crank_fail(p->context, CRANK_BAD_DATA, "%s: more bytes come than its size of %lld", d->file->name, (long long)d->file->at.size), false;
    if (file_put(p->context, d->descriptor, d->path, bytes, length) != CRANK_OK) return false;
    sha256_add(&d->hash, bytes, length);
    d->have += (int64_t)length;
    p->out->bytes += (int64_t)length;
    p->done += (int64_t)length;
    if (p->line) progress_update(p->line, p->done >> 20, (double)p->out->bytes, NAN);
    return true;
}

/* Hashes what an earlier try has left. */
static crank_status read_start(download *d)
{
    char    bytes[1 << 16];
    ssize_t length;
    sha256_start(&d->hash);
    while ((length = read(d->descriptor, bytes, sizeof bytes)) > 0) {
        sha256_add(&d->hash, bytes, (size_t)length);
        d->have += length;
    }
    if (length < 0) return crank_fail(d->p->context, CRANK_FAILED, "%s: %s", d->path, strerror(errno));
    d->p->done += d->have;
    return d->have > d->file->at.size ? restart(d) : CRANK_OK;
}

static crank_status check_space(const download *d)
{
    struct statvfs space;
    int64_t        need = d->file->at.size - d->have;
    if (fstatvfs(d->descriptor, &space)) return CRANK_OK;
    double left = (double)space.f_bavail * (double)space.f_frsize;
    if (left >= (double)need) return CRANK_OK;
    return crank_fail(d->p->context, CRANK_FAILED, "%s needs %.1f MiB more and the disk of %s has %.1f MiB left: free some, or set HF_HUB_CACHE to a folder on a larger one",
                      d->file->name, (double)need / 1048576, d->p->folder, left / 1048576);
}

/* Waits before try number `tries`: 0, 1, 2, 4 seconds. False: stopped. */
static bool wait_before(pull *p, int tries)
{
    for (int tenth = 0; tries > 1 && tenth < 10 << (tries - 2); tenth++) {
        if (crank_stop_requested(p->context)) return false;
        nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
    }
    return true;
}

static crank_status receive(download *d)
{
    hub_answer   answer;
    crank_status status = CRANK_OK;
    for (int tries = 0; d->have < d->file->at.size;) {
        int64_t before = d->have;
        bool    broken = false;
        d->placed = false;
        status = hub_http_get(d->p->http, d->file->url, d->have, take_bytes, d, &answer, &broken);
        if (status != CRANK_OK && answer.code == 416 && d->have) { /* what is there is no beginning of the file */
            if ((status = restart(d)) != CRANK_OK) return status;
            broken = true;
        }
        if (status == CRANK_OK && d->have < d->file->at.size && !broken) /* the body ended early, without an error */
            status = crank_fail(d->p->context, CRANK_FAILED, "%s: the connection ended at byte %lld of %lld", d->file->name, (long long)d->have, (long long)d->file->at.size), broken = true;
        if (status == CRANK_OK && !broken) break;
        if (!broken) return status;
        tries = d->have > before ? 1 : tries + 1;
        if (tries == TRIES) return crank_fail_in(d->p->context, "after %d tries, the same command goes on from byte %lld", TRIES, (long long)d->have);
        if (status != CRANK_OK) crank_log(d->p->context, CRANK_INFO, "%s; trying again from byte %lld", crank_message(d->p->context), (long long)d->have);
        if (!wait_before(d->p, tries)) return crank_fail(d->p->context, CRANK_STOPPED, "stopped; the same command goes on where it was");
    }
    return CRANK_OK;
}

static crank_status finish(download *d)
{
    char digest[65];
    sha256_hex(&d->hash, digest);
    if (is_sha256(d->file->at.etag) && strcmp(digest, d->file->at.etag)) {
        unlink(d->path);
        return crank_fail(d->p->context, CRANK_BAD_DATA, "%s: the bytes that came have SHA-256 %s and should have %s; they are deleted, try again", d->file->name, digest,
                          d->file->at.etag);
    }
    if (fsync(d->descriptor) || rename(d->path, d->file->blob))
        return crank_fail(d->p->context, CRANK_FAILED, "%s: %s", d->file->blob, strerror(errno));
    return CRANK_OK;
}

/* The lock of a blob: an open descriptor, or -1 with a message. Other programs that fill the cache take the same one. */
static int lock_blob(pull *p, const wanted_file *file)
{
    const char *slash = strrchr(p->folder, '/');
    char       *folder = crank_format(p->context, "%.*s/.locks%s", (int)(slash - p->folder), p->folder, slash), *path = NULL;
    int         descriptor = -1;
    if (folder && file_make_folder(p->context, folder) == CRANK_OK) path = crank_format(p->context, "%s/%s.lock", folder, file->at.etag);
    if (path && (descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644)) < 0) crank_fail(p->context, CRANK_FAILED, "%s: %s", path, strerror(errno));
    for (bool told = false; descriptor >= 0 && flock(descriptor, LOCK_EX | LOCK_NB); told = true) {
        if (errno == EWOULDBLOCK && !told) crank_log(p->context, CRANK_INFO, "%s is being fetched by another program: waiting for it", file->name);
        bool stopped = crank_stop_requested(p->context);
        if (!stopped && (errno == EWOULDBLOCK || errno == EINTR)) {
            nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
            continue;
        }
        if (stopped) crank_fail(p->context, CRANK_STOPPED, "stopped; the same command goes on where it was");
        else crank_fail(p->context, CRANK_FAILED, "%s: %s", path, strerror(errno));
        close(descriptor);
        descriptor = -1;
    }
    crank_free(path), crank_free(folder);
    return descriptor;
}

static crank_status fetch(pull *p, const wanted_file *file)
{
    char *path = crank_format(p->context, "%s.incomplete", file->blob);
    int   lock = path ? lock_blob(p, file) : -1;
    if (lock < 0) {
        crank_free(path);
        return crank_last_status(p->context);
    }
    crank_status status = CRANK_OK;
    if (is_there(file)) {
        p->done += file->at.size;
    } else {
        download d = {.p = p, .file = file, .path = path, .descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644)};
        status = d.descriptor < 0 ? crank_fail(p->context, CRANK_FAILED, "%s: %s", path, strerror(errno)) : read_start(&d);
        if (status == CRANK_OK) status = check_space(&d);
        if (status == CRANK_OK) status = receive(&d);
        if (status == CRANK_OK) status = finish(&d);
        if (d.descriptor >= 0) close(d.descriptor);
        p->out->fetched += status == CRANK_OK;
    }
    close(lock);
    crank_free(path);
    return status;
}

/* ---- the snapshot ---- */

static crank_status link_file(pull *p, const wanted_file *file)
{
    char        *path = crank_format(p->context, "%s/snapshots/%s/%s", p->folder, p->commit, file->name), *beside = NULL;
    text_buffer  up = {0};
    crank_status status = path ? CRANK_OK : CRANK_FAILED;
    text_puts(&up, "../../");
    for (const char *c = file->name; *c; c++)
        if (*c == '/') text_puts(&up, "../");
    text_printf(&up, "blobs/%s", file->at.etag);
    char *target = text_take(p->context, &up, "a link");
    if (path && target) {
        char *slash = strrchr(path, '/');
        *slash = 0;
        status = file_make_folder(p->context, path);
        *slash = '/';
        beside = crank_format(p->context, "%s.tmp.%ld", path, (long)getpid());
    }
    if (!target || !beside) status = CRANK_FAILED;
    if (status == CRANK_OK) {
        unlink(beside);
        if (symlink(target, beside) || rename(beside, path)) status = crank_fail(p->context, CRANK_FAILED, "%s: %s", path, strerror(errno));
    }
    crank_free(beside), crank_free(target), crank_free(path);
    return status;
}

static crank_status write_reference(pull *p)
{
    if (hub_is_commit(p->name->revision)) return CRANK_OK;
    char        *path = crank_format(p->context, "%s/refs/%s", p->folder, p->name->revision);
    char        *slash = path ? strrchr(path, '/') : NULL;
    crank_status status = CRANK_FAILED;
    if (slash) {
        *slash = 0;
        status = file_make_folder(p->context, path);
        *slash = '/';
        if (status == CRANK_OK) status = file_write_text(p->context, path, p->commit);
    }
    crank_free(path);
    return status;
}

static crank_status fill_cache(pull *p, int descriptor)
{
    int64_t      total = 0;
    char        *blobs = crank_format(p->context, "%s/blobs", p->folder);
    crank_status status = blobs ? file_make_folder(p->context, blobs) : CRANK_FAILED;
    crank_free(blobs);
    for (size_t i = 0; i < p->count && status == CRANK_OK; i++) {
        status = ask_file(p, &p->files[i]);
        total += p->files[i].at.size;
    }
    progress_options options = {.descriptor = descriptor, .label = "pull", .unit = "B", .last = (total >> 20) + 1};
    if (status == CRANK_OK && descriptor >= 0 && !(p->line = progress_open(p->context, &options))) status = CRANK_FAILED;
    for (size_t i = 0; i < p->count && status == CRANK_OK; i++) {
        status = fetch(p, &p->files[i]);
        if (status == CRANK_OK) status = link_file(p, &p->files[i]);
    }
    if (p->line) progress_close(p->line);
    return status == CRANK_OK ? write_reference(p) : status;
}

static void pull_free(pull *p)
{
    for (size_t i = 0; p->files && i < p->count; i++) crank_free(p->files[i].name), crank_free(p->files[i].url), crank_free(p->files[i].blob);
    crank_free(p->files);
    crank_free(p->folder);
    hub_http_close(p->http);
}

static crank_status from_cache(crank_context *context, const hub_name *name, hub_pulled *out)
{
    char *text = crank_format(context, "%s@%s", name->repository, name->revision);
    out->folder = text ? hub_resolve(context, text) : NULL;
    crank_free(text);
    const char *slash = out->folder ? strrchr(out->folder, '/') : NULL;
    if (!slash || !hub_is_commit(slash + 1)) {
        crank_free(out->folder);
        out->folder = NULL;
        return crank_fail(context, CRANK_FAILED, "HF_HUB_OFFLINE is set, and %s@%s is not in the cache", name->repository, name->revision);
    }
    strcpy(out->commit, slash + 1);
    return CRANK_OK;
}

crank_status hub_pull(crank_context *context, const hub_name *name, int descriptor, hub_pulled *out)
{
    *out = (hub_pulled){0};
    if (hub_offline()) return from_cache(context, name, out);
    pull         p = {.context = context, .name = name, .out = out, .folder = hub_repository_folder(context, name)};
    crank_status status = p.folder && (p.http = hub_http_open(context)) ? list_files(&p) : crank_last_status(context);
    if (status == CRANK_OK) status = fill_cache(&p, descriptor);
    if (status == CRANK_OK) {
        out->folder = crank_format(context, "%s/snapshots/%s", p.folder, p.commit);
        out->files = p.count;
        memcpy(out->commit, p.commit, sizeof out->commit);
        if (!out->folder) status = CRANK_FAILED;
    }
    pull_free(&p);
    return status;
}
