/* log.h - what a run writes about itself: metrics as JSON lines and as TensorBoard events, and a progress line. */
#ifndef CRANK_BASE_LOG_H
#define CRANK_BASE_LOG_H

#include "crank/base.h"

typedef struct metric {
    const char *name;
    double      value;
} metric;

/* JSON lines {"step":12,"time":1764000000.5,"loss":2.25}: one write a line, so a kill leaves whole lines (and at most one
 * cut line, which resuming removes). time is seconds since 1970. A value that is not finite is null.
 *
 * resume_step < 0 starts the file anew; else the lines of steps up to resume_step are kept, what follows is cut away, and
 * writing goes on behind them. A line in the middle that is no object with a step: CRANK_BAD_DATA, nothing is cut. */
typedef struct metrics_log metrics_log;
metrics_log *metrics_log_open(crank_context *context, const char *path, int64_t resume_step);
crank_status metrics_log_write(crank_context *context, metrics_log *log, int64_t step, const metric *metrics, size_t count);
/* {"step":12,"time":...,"KEY":"TEXT"} */
crank_status metrics_log_note(crank_context *context, metrics_log *log, int64_t step, const char *key, const char *text);
void         metrics_log_close(metrics_log *log);

/* TensorBoard events in a new file "events.out.tfevents.SECONDS.HOST.PID" of the folder (made if need be). Resuming tells
 * TensorBoard to forget what earlier files hold of later steps. */
typedef struct event_log event_log;
event_log   *event_log_open(crank_context *context, const char *folder, int64_t resume_step);
crank_status event_log_write(crank_context *context, event_log *log, int64_t step, const metric *metrics, size_t count);
void         event_log_close(event_log *log);

/* A progress line. On a terminal it is rewritten in place, at most five times a second, cut at the window's width, without
 * colour where NO_COLOR is set. Elsewhere (a pipe, TERM=dumb) nothing is written, or with `interval` > 0 one plain line
 * each `interval` seconds and one at the end. */
typedef struct progress_options {
    int         descriptor;  /* standard error: 2 */
    bool        silent;      /* write nothing at all */
    double      interval;    /* seconds between plain lines; 0: none */
    const char *label;       /* "train" */
    const char *unit;        /* what `units` counts: "tokens"; NULL: steps are counted alone */
    int64_t     first, last; /* steps: where this run begins (0, or where it resumed), and its end; last 0: unknown */
} progress_options;
typedef struct progress progress;
progress *progress_open(crank_context *context, const progress_options *options);
/* After `step` steps (counted from the run's very start) and `units` since progress_open. loss NAN: not shown. */
void progress_update(progress *progress, int64_t step, double units, double loss);
void progress_update_at(progress *progress, double now, int64_t step, double units, double loss); /* now: clock_seconds */
void progress_clear(progress *progress); /* takes the line away, so that another text can stand there */
void progress_close(progress *progress); /* the last line stays; frees */
#endif
