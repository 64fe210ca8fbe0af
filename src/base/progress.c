/* progress.c - a line that tells how far long work is: step, percent, loss, rate, time to go.
 *
 *     train  1200/5000  24%  loss 2.134  18.3k tokens/s  0:12:31 to go
 *
 * Rates are of the last seconds: sums of steps, units and time, each forgotten with e^(-t / 15 s). */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/number.h"
#include "base/text.h"

static const double memory_seconds = 15, refresh_seconds = 0.2;

struct progress {
    crank_context   *context;
    progress_options options;
    bool             live, colour; /* live: a terminal that can rewrite its line */
    bool             shown;        /* live: a line stands on the terminal */
    double           start, updated, written;
    int64_t          step;
    double           units, loss;
    double           steps_sum, units_sum, seconds_sum;
};

static bool is_set(const char *name)
{
    const char *value = getenv(name);
    return value && *value;
}

progress *progress_open(crank_context *context, const progress_options *options)
{
    progress *made = crank_alloc(context, 1, sizeof *made, "a progress line");
    if (!made) return NULL;
    const char *terminal = getenv("TERM");
    made->context = context;
    made->options = *options;
    made->live = isatty(options->descriptor) && terminal && *terminal && strcmp(terminal, "dumb") != 0;
    made->colour = made->live && !is_set("NO_COLOR");
    made->start = made->updated = clock_seconds();
    made->written = -INFINITY;
    made->step = options->first;
    made->loss = NAN;
    return made;
}

/* "18.3k": three digits and a factor of a thousand */
static void put_count(text_buffer *out, double value)
{
    static const char *const factors[] = {"", "k", "M", "G", "T"};
    char                     number[NUMBER_SIZE];
    int                      factor = 0;
    for (; factor < 4 && fabs(value) >= 999.5; factor++) value /= 1000;
    number_print_digits(value, 3, number);
    text_printf(out, "%s%s", number, factors[factor]);
}

static void put_duration(text_buffer *out, double seconds)
{
    long long whole = seconds < 1e9 ? (long long)(seconds + 0.5) : 1000000000;
    text_printf(out, "%lld:%02lld:%02lld", whole / 3600, whole / 60 % 60, whole % 60);
}

/* The text without its label */
static void put_state(const progress *p, text_buffer *out, bool last)
{
    char    number[NUMBER_SIZE];
    int64_t total = p->options.last;
    double  steps = p->seconds_sum > 0 ? p->steps_sum / p->seconds_sum : 0; /* a second */
    double  units = p->seconds_sum > 0 ? p->units_sum / p->seconds_sum : 0;
    if (total > 0)
        text_printf(out, "  %lld/%lld  %d%%", (long long)p->step, (long long)total, (int)(100.0 * (double)p->step / (double)total));
    else text_printf(out, "  step %lld", (long long)p->step);
    if (!isnan(p->loss)) {
        number_print_digits(p->loss, 4, number);
        text_printf(out, "  loss %s", number);
    }
    if (p->options.unit ? units > 0 : steps > 0) {
        text_puts(out, "  ");
        put_count(out, p->options.unit ? units : steps);
        text_printf(out, " %s/s", p->options.unit ? p->options.unit : "steps");
    }
    if (!last && total > 0 && steps > 0 && p->step < total) {
        text_puts(out, "  ");
        put_duration(out, (double)(total - p->step) / steps);
        text_puts(out, " to go");
    }
    if (last) {
        text_puts(out, "  ");
        put_duration(out, p->updated - p->start);
    }
}

static size_t window_width(int descriptor)
{
    struct winsize size;
    return ioctl(descriptor, TIOCGWINSZ, &size) == 0 && size.ws_col > 1 ? size.ws_col : 80;
}

/* A failed write is no failure of the run: the terminal may be gone. */
static void write_line(progress *p, bool last)
{
    text_buffer line = {0}, out = {0};
    const char *label = p->options.label ? p->options.label : "";
    text_puts(&line, label);
    put_state(p, &line, last);
    if (p->live) {
        size_t width = window_width(p->options.descriptor) - 1, head = strlen(label);
        if (line.length > width) line.length = width; /* a wrapped line could not be rewritten */
        if (head > line.length) head = line.length;
        text_puts(&out, p->colour ? "\r\x1b[1m" : "\r");
        text_add(&out, line.bytes ? line.bytes : "", line.bytes ? head : 0);
        if (p->colour) text_puts(&out, "\x1b[0m");
        if (line.bytes) text_add(&out, line.bytes + head, line.length - head);
        text_puts(&out, last ? "\x1b[K\n" : "\x1b[K");
        p->shown = !last;
    } else {
        text_add(&out, line.bytes ? line.bytes : "", line.bytes ? line.length : 0);
        text_putc(&out, '\n');
    }
    if (!line.failed && !out.failed) (void)!write(p->options.descriptor, out.bytes, out.length);
    text_clear(&line);
    text_clear(&out);
    p->written = p->updated;
}

void progress_update_at(progress *p, double now, int64_t step, double units, double loss)
{
    double passed = now - p->updated, keep = passed > 0 ? exp(-passed / memory_seconds) : 1;
    p->steps_sum = p->steps_sum * keep + (double)(step - p->step);
    p->units_sum = p->units_sum * keep + (units - p->units);
    p->seconds_sum = p->seconds_sum * keep + (passed > 0 ? passed : 0);
    p->updated = now;
    p->step = step;
    p->units = units;
    p->loss = loss;
    if (p->options.silent || (!p->live && p->options.interval <= 0)) return;
    double wait = p->live ? refresh_seconds : p->options.interval;
    if (now - (isinf(p->written) && !p->live ? p->start : p->written) >= wait) write_line(p, false);
}

void progress_update(progress *p, int64_t step, double units, double loss)
{
    progress_update_at(p, clock_seconds(), step, units, loss);
}

void progress_clear(progress *p)
{
    if (!p->shown) return;
    (void)!write(p->options.descriptor, "\r\x1b[K", 4);
    p->shown = false;
    p->written = -INFINITY;
}

void progress_close(progress *p)
{
    if (!p) return;
    if (!p->options.silent && (p->live || p->options.interval > 0) && p->step > p->options.first) write_line(p, true);
    crank_free(p);
}
