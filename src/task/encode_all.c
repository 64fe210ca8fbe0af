/* encode_all.c - windows of rows, the thread that tokenises the next one, and repeated runs for their time. */
#include "task/encode_all.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"

enum { WINDOW = 2048, WINDOW_AHEAD = 8192, REPEATED = 1 << 20, UNCOUNTED = 2 };

/* Tokenising of one window; on a thread of its own it has a context of its own. */
typedef struct window {
    const encode_job *job;
    crank_context    *context;
    size_t            from, to;
    id_rows           made;
    crank_status      status;
    pthread_t         thread;
    bool              running;
} window;

static void *tokenize(void *user)
{
    window *w = user;
    w->status = id_rows_make(w->context, w->job->tokenizer, w->job->texts, w->from, w->to, &w->job->format, &w->made);
    return NULL;
}

static crank_status start(crank_context *context, window *w)
{
    w->running = pthread_create(&w->thread, NULL, tokenize, w) == 0;
    return w->running ? CRANK_OK : crank_fail(context, CRANK_FAILED, "a thread for tokenising cannot be made");
}

static crank_status finish(crank_context *context, window *w)
{
    if (w->running) pthread_join(w->thread, NULL);
    else tokenize(w);
    w->running = false;
    if (w->status != CRANK_OK && w->context != context) crank_fail(context, w->status, "%s", crank_message(w->context));
    return w->status;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The median time of a run over rows that have run before. */
static crank_status repeat(crank_context *context, encoder *e, const encode_job *job, const id_rows *rows, float *values, encode_result *out)
{
    double      *times = crank_alloc(context, (size_t)job->repeat, sizeof *times, "times");
    crank_status status = times ? CRANK_OK : CRANK_FAILED;
    for (int64_t i = -UNCOUNTED; i < job->repeat && status == CRANK_OK; i++) {
        double begin = clock_seconds();
        status = encoder_run(context, e, rows, values);
        if (i >= 0) times[i] = clock_seconds() - begin;
    }
    if (status == CRANK_OK) {
        qsort(times, (size_t)job->repeat, sizeof *times, by_value);
        out->median_seconds = (times[(job->repeat - 1) / 2] + times[job->repeat / 2]) / 2;
    }
    crank_free(times);
    return status;
}

/* Rows [from, to) of ids as rows of their own: a view. */
static id_rows part_of(const id_rows *ids, int64_t from, int64_t to)
{
    return (id_rows){.ids = ids->ids, .second = ids->second, .starts = ids->starts + from, .count = to - from};
}

typedef struct driver {
    crank_context    *context;
    encoder          *e;
    const encode_job *job;
    encode_sink      *sink;
    void             *user;
    float            *values; /* [window, width] */
    progress         *line;
    encode_result    *out;
    int64_t           total;
} driver;

static crank_status compute(driver *d, const id_rows *rows)
{
    crank_status status = encoder_run(d->context, d->e, rows, d->values);
    if (status == CRANK_OK) status = d->sink(d->user, d->values, rows->count);
    d->out->rows += rows->count;
    d->out->cut += rows->cut;
    d->out->counts = encoder_counts(d->e);
    if (status == CRANK_OK && d->line) progress_update(d->line, d->out->rows, (double)d->out->counts.tokens, (double)NAN);
    if (status == CRANK_OK && d->job->repeat) status = repeat(d->context, d->e, d->job, rows, d->values, d->out);
    return status;
}

static crank_status compute_ids(driver *d, int64_t size)
{
    crank_status status = CRANK_OK;
    for (int64_t from = 0; from < d->total && status == CRANK_OK; from += size) {
        id_rows rows = part_of(d->job->ids, from, from + size < d->total ? from + size : d->total);
        status = compute(d, &rows);
    }
    return status;
}

/* `ahead`: the next window is tokenised while this one is computed. */
static crank_status compute_texts(driver *d, size_t size, bool ahead)
{
    crank_context *other = ahead ? crank_context_new() : d->context;
    if (!other) return crank_fail(d->context, CRANK_FAILED, "out of memory: a context for tokenising");
    if (ahead) crank_set_threads(other, crank_threads(d->context));
    window       w = {.job = d->job, .context = other, .to = (size_t)d->total < size ? (size_t)d->total : size};
    crank_status status = finish(d->context, &w);
    while (status == CRANK_OK && w.from < w.to) {
        id_rows rows = w.made;
        size_t  end = w.to;
        w = (window){.job = d->job, .context = other, .from = end, .to = (size_t)d->total - end < size ? (size_t)d->total : end + size};
        bool more = w.from < w.to;
        if (more && ahead) status = start(d->context, &w);
        if (status == CRANK_OK) status = compute(d, &rows);
        id_rows_free(&rows);
        if (w.running || (more && status == CRANK_OK)) {
            crank_status made = finish(d->context, &w);
            if (status == CRANK_OK) status = made;
        }
        if (status != CRANK_OK) id_rows_free(&w.made);
    }
    if (ahead) crank_context_free(other);
    return status;
}

crank_status encode_all(crank_context *context, encoder *e, const encode_job *job, encode_sink *sink, void *user, encode_result *out)
{
    driver  d = {.context = context, .e = e, .job = job, .sink = sink, .user = user, .out = out, .total = job->ids ? job->ids->count : (int64_t)job->texts->count};
    int64_t most = job->ahead ? WINDOW_AHEAD : WINDOW, size = job->repeat || d.total < most ? d.total : most;
    double  begin = clock_seconds();
    *out = (encode_result){0};
    if (job->repeat && d.total > REPEATED) return crank_fail(context, CRANK_USAGE, "a repeated run takes at most %d rows", REPEATED);
    d.values = crank_alloc(context, (size_t)(size * encoder_width(e)) + 1, sizeof *d.values, "results of a window");
    if (!d.values) return CRANK_FAILED;
    if (job->progress >= 0) d.line = progress_open(context, &(progress_options){.descriptor = job->progress, .label = "rows", .unit = "tokens", .last = d.total});
    crank_status status = job->ids ? compute_ids(&d, size) : compute_texts(&d, (size_t)size, job->ahead);
    out->seconds = clock_seconds() - begin;
    if (d.line) progress_close(d.line);
    crank_free(d.values);
    return status;
}
