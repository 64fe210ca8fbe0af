/* context.c - the context: its message, log, stop flag, threads and memory. */
#include <omp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "crank/base.h"

#define MESSAGE_SIZE 4096

struct crank_context {
    char                  message[MESSAGE_SIZE];
    crank_status          status;
    crank_log_sink       *sink;
    void                 *sink_user;
    int                   threads;
    volatile sig_atomic_t stop;
};

const char *crank_version(void) { return CRANK_VERSION; }

crank_context *crank_context_new(void)
{
    crank_context *context = calloc(1, sizeof *context);
    if (context) crank_set_threads(context, 0);
    return context;
}

void crank_context_free(crank_context *context) { free(context); }

crank_status crank_fail(crank_context *context, crank_status status, const char *format, ...)
{
    char    text[MESSAGE_SIZE]; /* arguments may point into the old message */
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    memcpy(context->message, text, sizeof text);
    context->status = status;
    return status;
}

crank_status crank_fail_in(crank_context *context, const char *format, ...)
{
    char    where[512], text[MESSAGE_SIZE];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(where, sizeof where, format, arguments);
    va_end(arguments);
    size_t length = strlen(where);
    memcpy(text, where, length);
    snprintf(text + length, sizeof text - length, ": %.*s", (int)(sizeof text - length - 3), context->message);
    memcpy(context->message, text, sizeof text);
    return context->status;
}

const char  *crank_message(const crank_context *context) { return context->message; }
crank_status crank_last_status(const crank_context *context) { return context->status; }

void crank_clear(crank_context *context)
{
    context->message[0] = 0;
    context->status = CRANK_OK;
}

void crank_set_log(crank_context *context, crank_log_sink *sink, void *user)
{
    context->sink = sink;
    context->sink_user = user;
}

void crank_log(crank_context *context, crank_level level, const char *format, ...)
{
    if (!context->sink) return;
    char    line[MESSAGE_SIZE];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    context->sink(context->sink_user, level, line);
}

void crank_request_stop(crank_context *context) { context->stop = 1; }
bool crank_stop_requested(const crank_context *context) { return context->stop != 0; }

void crank_set_threads(crank_context *context, int threads)
{
    int limit = omp_get_num_procs(), wanted = threads > 0 ? threads : omp_get_max_threads();
    context->threads = wanted < 1 ? 1 : threads > 0 ? wanted : wanted < limit ? wanted : limit;
}

int crank_threads(const crank_context *context) { return context->threads; }

void *crank_alloc(crank_context *context, size_t count, size_t size, const char *what)
{
    size_t bytes;
    void  *memory = NULL;
    if (!__builtin_mul_overflow(count, size, &bytes) && bytes <= SIZE_MAX - 63) {
        size_t rounded = bytes ? (bytes + 63) & ~(size_t)63 : 64;
        memory = aligned_alloc(64, rounded);
        if (memory) memset(memory, 0, rounded);
    }
    if (!memory) crank_fail(context, CRANK_FAILED, "out of memory: %zu x %zu bytes for %s", count, size, what);
    return memory;
}

void crank_free(void *memory) { free(memory); }

char *crank_strdup(crank_context *context, const char *text)
{
    char *copy = strdup(text);
    if (!copy) crank_fail(context, CRANK_FAILED, "out of memory: a text of %zu bytes", strlen(text));
    return copy;
}

char *crank_format(crank_context *context, const char *format, ...)
{
    char   *text = NULL;
    va_list arguments;
    va_start(arguments, format);
    if (vasprintf(&text, format, arguments) < 0) {
        text = NULL;
        crank_fail(context, CRANK_FAILED, "out of memory: a text");
    }
    va_end(arguments);
    return text;
}
