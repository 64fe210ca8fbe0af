/* base.h - contexts, errors, logging, memory and files: what every other header stands on.
 *
 * The library never exits and never prints. A function that can fail returns a `crank_status`, and the context keeps
 * one message that says what went wrong, where, and what to do. Two contexts may be used by two threads at once; one
 * context belongs to one thread at a time. */
#ifndef CRANK_BASE_H
#define CRANK_BASE_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define CRANK_PRINTF(text, first) __attribute__((format(printf, text, first)))
#define CRANK_API __attribute__((visibility("default")))
#else
#define CRANK_PRINTF(text, first)
#define CRANK_API
#endif

/* The values are also the exit codes of the command line. */
typedef enum crank_status {
    CRANK_OK       = 0,
    CRANK_FAILED   = 1,  /* the system said no: memory, disk, device */
    CRANK_USAGE    = 2,  /* the caller asked for something that does not exist or is out of range */
    CRANK_BAD_DATA = 3,  /* a file or its content is not what its format promises */
    CRANK_GATE     = 4,  /* it ran, but the claim or gate does not hold */
    CRANK_STOPPED  = 130 /* stopped on request, with a checkpoint where the task writes them */
} crank_status;

typedef struct crank_context crank_context;

CRANK_API const char *crank_version(void); /* "major.minor.patch" */

/* A new context, or NULL when memory is out. Freed with crank_context_free. */
CRANK_API crank_context *crank_context_new(void);
CRANK_API void           crank_context_free(crank_context *context);

/* Errors. crank_fail stores the message (replacing an older one) and returns `status`, so that a caller writes
 * `return crank_fail(context, CRANK_BAD_DATA, "...")`. crank_fail_in puts "where: " before the stored message and
 * returns its status: an outer function adds the file or section that an inner one did not know. */
CRANK_API crank_status crank_fail(crank_context *context, crank_status status, const char *format, ...) CRANK_PRINTF(3, 4);
CRANK_API crank_status crank_fail_in(crank_context *context, const char *format, ...) CRANK_PRINTF(2, 3);
CRANK_API const char  *crank_message(const crank_context *context); /* "" when nothing failed */
CRANK_API crank_status crank_last_status(const crank_context *context);
CRANK_API void         crank_clear(crank_context *context);

/* Log lines go to the sink that the caller sets; without one they are dropped. */
typedef enum crank_level { CRANK_DEBUG, CRANK_INFO, CRANK_WARNING } crank_level;
typedef void crank_log_sink(void *user, crank_level level, const char *line);
CRANK_API void crank_set_log(crank_context *context, crank_log_sink *sink, void *user);
CRANK_API void crank_log(crank_context *context, crank_level level, const char *format, ...) CRANK_PRINTF(3, 4);

/* A request to stop is a flag that long work reads between steps; setting it is async-signal-safe. */
CRANK_API void crank_request_stop(crank_context *context);
CRANK_API bool crank_stop_requested(const crank_context *context);

/* Threads of the one OpenMP team: at least 1. 0 restores the default (OMP_NUM_THREADS or the cores we may use). */
CRANK_API void crank_set_threads(crank_context *context, int threads);
CRANK_API int  crank_threads(const crank_context *context);

/* Memory. NULL sets the message ("out of memory: N bytes for WHAT"). count * size is checked for overflow; the memory
 * is zeroed and 64-byte aligned, and is freed with crank_free. */
CRANK_API void *crank_alloc(crank_context *context, size_t count, size_t size, const char *what);
CRANK_API void  crank_free(void *memory);
CRANK_API char *crank_strdup(crank_context *context, const char *text);
CRANK_API char *crank_format(crank_context *context, const char *format, ...) CRANK_PRINTF(2, 3); /* malloc'd text; crank_free */

#ifdef __cplusplus
}
#endif
#endif
