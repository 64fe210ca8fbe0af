/* metrics_log.c - metrics as JSON lines that outlive a kill, and are cut back to a step when a run resumes. */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/number.h"

struct metrics_log {
    int   descriptor;
    char *path;
};

/* Bytes of the file to keep: the lines of steps up to `step`; a last line without its end is not kept. */
static crank_status find_cut(crank_context *context, const char *path, int64_t step, size_t *keep)
{
    file_map     map;
    char         where[64];
    crank_status status = file_map_open(context, path, &map);
    size_t       at = 0, number = 1;
    for (; status == CRANK_OK && at < map.length; number++) {
        const uint8_t *end = memchr(map.data + at, '\n', map.length - at);
        int64_t        here;
        if (!end) break;
        size_t length = (size_t)(end - map.data) - at;
        snprintf(where, sizeof where, "line %zu", number);
        json_t *line = json_parse(context, (const char *)map.data + at, length, where);
        status = line ? json_need_int(context, line, "step", INT64_MIN, INT64_MAX, &here, where) : CRANK_BAD_DATA;
        json_decref(line);
        if (status != CRANK_OK) crank_fail_in(context, "%s", path);
        else if (here > step) break;
        else at += length + 1;
    }
    *keep = at;
    file_map_close(&map);
    return status;
}

metrics_log *metrics_log_open(crank_context *context, const char *path, int64_t resume_step)
{
    size_t keep = 0;
    if (resume_step >= 0 && file_exists(path) && find_cut(context, path, resume_step, &keep) != CRANK_OK) return NULL;
    metrics_log *log = crank_alloc(context, 1, sizeof *log, "a metrics log");
    if (!log) return NULL;
    log->path = crank_strdup(context, path);
    log->descriptor = log->path ? open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666) : -1;
    if (log->descriptor >= 0 && (ftruncate(log->descriptor, (off_t)keep) == 0 || errno == EINVAL)) return log; /* EINVAL: a pipe */
    if (log->path) crank_fail(context, CRANK_FAILED, "%s: cannot be written: %s", path, strerror(errno));
    metrics_log_close(log);
    return NULL;
}

static void begin(text_buffer *line, int64_t step)
{
    char now[NUMBER_SIZE];
    number_print_digits(clock_wall(), 13, now); /* milliseconds */
    text_printf(line, "{\"step\":%lld,\"time\":%s", (long long)step, now);
}

/* Ends the line and writes it with one call, so that a kill cannot part it. */
static crank_status put(crank_context *context, metrics_log *log, text_buffer *line)
{
    text_puts(line, "}\n");
    size_t length = line->length;
    char  *bytes = text_take(context, line, "a line of metrics");
    if (!bytes) return CRANK_FAILED;
    crank_status status = file_put(context, log->descriptor, log->path, bytes, length);
    crank_free(bytes);
    return status;
}

crank_status metrics_log_write(crank_context *context, metrics_log *log, int64_t step, const metric *metrics, size_t count)
{
    text_buffer line = {0};
    char        number[NUMBER_SIZE];
    begin(&line, step);
    for (size_t i = 0; i < count; i++) {
        text_putc(&line, ',');
        json_put_string(&line, metrics[i].name, strlen(metrics[i].name));
        number_print(metrics[i].value, number);
        text_printf(&line, ":%s", isfinite(metrics[i].value) ? number : "null");
    }
    return put(context, log, &line);
}

crank_status metrics_log_note(crank_context *context, metrics_log *log, int64_t step, const char *key, const char *text)
{
    text_buffer line = {0};
    begin(&line, step);
    text_putc(&line, ',');
    json_put_string(&line, key, strlen(key));
    text_putc(&line, ':');
    json_put_string(&line, text, strlen(text));
    return put(context, log, &line);
}

void metrics_log_close(metrics_log *log)
{
    if (!log) return;
    if (log->descriptor >= 0) close(log->descriptor);
    crank_free(log->path);
    crank_free(log);
}
