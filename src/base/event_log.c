/* event_log.c - TensorBoard event files. */
#include "base/event_log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/crc32c.h"
#include "base/file.h"
#include "event.pb-c.h"

struct event_log {
    int   descriptor;
    char *path;
};

static void put_little_endian(uint8_t *out, uint64_t value, int bytes)
{
    for (int i = 0; i < bytes; i++) out[i] = (uint8_t)(value >> 8 * i);
}

static void put_record(text_buffer *out, const CrankEvent__Event *event)
{
    size_t   length = crank_event__event__get_packed_size(event);
    uint8_t *bytes = malloc(length + 16);
    if (!bytes) {
        out->failed = true;
        return;
    }
    put_little_endian(bytes, length, 8);
    put_little_endian(bytes + 8, crc32c_masked(bytes, 8), 4);
    crank_event__event__pack(event, bytes + 12);
    put_little_endian(bytes + 12 + length, crc32c_masked(bytes + 12, length), 4);
    text_add(out, (const char *)bytes, length + 16);
    free(bytes);
}

void event_put_version(text_buffer *out, double wall_time)
{
    CrankEvent__Event event = CRANK_EVENT__EVENT__INIT;
    event.wall_time = wall_time;
    event.what_case = CRANK_EVENT__EVENT__WHAT_FILE_VERSION;
    event.file_version = (char *)(uintptr_t) "brain.Event:2";
    put_record(out, &event);
}

void event_put_start(text_buffer *out, double wall_time, int64_t step)
{
    CrankEvent__Event      event = CRANK_EVENT__EVENT__INIT;
    CrankEvent__SessionLog session = CRANK_EVENT__SESSION_LOG__INIT;
    session.status = CRANK_EVENT__SESSION_LOG__STATUS__START;
    event.wall_time = wall_time;
    event.step = step;
    event.what_case = CRANK_EVENT__EVENT__WHAT_SESSION_LOG;
    event.session_log = &session;
    put_record(out, &event);
}

void event_put_metrics(text_buffer *out, double wall_time, int64_t step, const metric *metrics, size_t count)
{
    CrankEvent__Event           event = CRANK_EVENT__EVENT__INIT;
    CrankEvent__Summary         summary = CRANK_EVENT__SUMMARY__INIT;
    CrankEvent__Summary__Value *values = malloc((count + 1) * sizeof *values), **pointers = malloc((count + 1) * sizeof *pointers);
    out->failed |= !values || !pointers;
    for (size_t i = 0; i < count && !out->failed; i++) {
        crank_event__summary__value__init(&values[i]);
        values[i].tag = (char *)(uintptr_t)metrics[i].name;
        values[i].simple_value = (float)metrics[i].value;
        pointers[i] = &values[i];
    }
    summary.value = pointers;
    summary.n_value = count;
    event.wall_time = wall_time;
    event.step = step;
    event.what_case = CRANK_EVENT__EVENT__WHAT_SUMMARY;
    event.summary = &summary;
    if (!out->failed) put_record(out, &event);
    free(values);
    free(pointers);
}

static crank_status put(crank_context *context, event_log *log, text_buffer *records)
{
    size_t length = records->length;
    char  *bytes = text_take(context, records, "events");
    if (!bytes) return CRANK_FAILED;
    crank_status status = file_put(context, log->descriptor, log->path, bytes, length);
    crank_free(bytes);
    return status;
}

/* A name that no file has: TensorBoard sorts by the seconds. */
static crank_status open_new(crank_context *context, event_log *log, const char *folder, double now)
{
    char host[256] = "host";
    if (gethostname(host, sizeof host - 1) == 0) host[sizeof host - 1] = 0;
    for (int attempt = 0;; attempt++) {
        log->path = crank_format(context, "%s/events.out.tfevents.%010lld.%s.%ld.%d", folder, (long long)now, host,
                                 (long)getpid(), attempt);
        if (!log->path) return CRANK_FAILED;
        log->descriptor = open(log->path, O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0666);
        if (log->descriptor >= 0) return CRANK_OK;
        if (errno != EEXIST) return crank_fail(context, CRANK_FAILED, "%s: cannot be written: %s", log->path, strerror(errno));
        crank_free(log->path);
    }
}

event_log *event_log_open(crank_context *context, const char *folder, int64_t resume_step)
{
    double     now = clock_wall();
    event_log *log = file_make_folder(context, folder) == CRANK_OK ? crank_alloc(context, 1, sizeof *log, "an event log") : NULL;
    if (!log) return NULL;
    log->descriptor = -1;
    crank_status status = open_new(context, log, folder, now);
    text_buffer  records = {0};
    if (status == CRANK_OK) {
        event_put_version(&records, now);
        if (resume_step >= 0) event_put_start(&records, now, resume_step + 1);
        status = put(context, log, &records);
    }
    if (status == CRANK_OK) return log;
    event_log_close(log);
    return NULL;
}

crank_status event_log_write(crank_context *context, event_log *log, int64_t step, const metric *metrics, size_t count)
{
    text_buffer records = {0};
    event_put_metrics(&records, clock_wall(), step, metrics, count);
    return put(context, log, &records);
}

void event_log_close(event_log *log)
{
    if (!log) return;
    if (log->descriptor >= 0) close(log->descriptor);
    crank_free(log->path);
    crank_free(log);
}
