/* The progress line: rewritten in place on a terminal, plain or silent elsewhere; rates and time to go from given times. */
#include "testing.h"

#include <fcntl.h>
#include <sys/ioctl.h>

#include "base/clock.h"
#include "base/log.h"

static crank_context *context;
static char           seen[65536];
static unsigned short columns; /* of the terminal */

static int setup(void **state)
{
    (void)state;
    context = crank_context_new();
    columns = 100;
    setenv("TERM", "xterm", 1);
    unsetenv("NO_COLOR");
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    crank_context_free(context);
    return 0;
}

/* A terminal: what is written to *inner is read from the returned descriptor. */
static int open_terminal(int *inner)
{
    struct winsize size = {.ws_row = 24, .ws_col = columns};
    int            outer = posix_openpt(O_RDWR | O_NOCTTY);
    if (outer < 0 || grantpt(outer) != 0 || unlockpt(outer) != 0) {
        print_message("no pseudo-terminals here (/dev/pts is not mounted)\n");
        skip();
    }
    *inner = open(ptsname(outer), O_RDWR | O_NOCTTY);
    assert_true(*inner >= 0);
    ioctl(*inner, TIOCSWINSZ, &size);
    return outer;
}

/* Runs ten seconds of 100 steps a second; fills `seen` with what stands on the other end. */
static void run(bool terminal, progress_options options, double loss)
{
    int    ends[2];
    size_t length = 0;
    if (terminal) ends[0] = open_terminal(&ends[1]);
    else assert_int_equal(pipe(ends), 0);
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
    options.descriptor = ends[1];
    progress *line = progress_open(context, &options);
    double    start = clock_seconds();
    for (int i = 1; i <= 1000; i++) {
        progress_update_at(line, start + 1 + i * 0.01, options.first + i, i * 512.0, loss);
        ssize_t got = read(ends[0], seen + length, sizeof seen - 1 - length);
        if (got > 0) length += (size_t)got;
    }
    progress_close(line);
    ssize_t got = read(ends[0], seen + length, sizeof seen - 1 - length);
    if (got > 0) length += (size_t)got;
    seen[length] = 0;
    close(ends[1]);
    close(ends[0]);
}

static size_t count(const char *part)
{
    size_t found = 0;
    for (const char *at = seen; (at = strstr(at, part)); at += strlen(part)) found++;
    return found;
}

static const progress_options train = {.label = "train", .unit = "tokens", .last = 5000};

static void a_terminals_line_is_rewritten_in_place(void **state)
{
    (void)state;
    run(true, train, 2.125);
    assert_int_equal(count("\n"), 1);
    assert_in_range(count("\r\x1b[1mtrain\x1b[0m  "), 45, 55); /* five times a second */
    assert_int_equal(count("  1000/5000  20%  loss 2.125  "), 1);
    assert_true(count(" to go") > 40);
}

static void rates_are_units_a_second(void **state)
{
    (void)state;
    progress_options options = train;
    options.last = 200000;
    run(true, options, NAN);
    assert_true(count("tokens/s") > 40);
    assert_int_equal(count("loss"), 0);
    assert_non_null(strstr(seen, "k tokens/s  0:3")); /* (200000 - step) / 100 steps a second: under 40 minutes */
}

static void no_color_leaves_only_the_rewriting(void **state)
{
    (void)state;
    setenv("NO_COLOR", "1", 1);
    run(true, train, 2.125);
    assert_int_equal(count("\x1b[1m"), 0);
    assert_true(count("\rtrain  ") > 40);
}

static void lines_fit_the_window(void **state)
{
    (void)state;
    progress_options options = train;
    columns = 60;
    options.unit = "a very long unit that does not fit into sixty columns of text";
    run(true, options, 2.125);
    for (char *line = strchr(seen, '\r'); line; line = strchr(line + 1, '\r')) {
        size_t visible = 0;
        for (const char *at = line + 1; *at && *at != '\r' && *at != '\n'; at++) {
            if (*at == '\x1b')
                while (*at != 'm' && *at != 'K') at++;
            else visible++;
        }
        assert_in_range(visible, 0, 59);
    }
}

static void a_pipe_and_a_dumb_terminal_are_silent(void **state)
{
    (void)state;
    run(false, train, 2.125);
    assert_string_equal(seen, "");
    setenv("TERM", "dumb", 1);
    run(true, train, 2.125);
    assert_string_equal(seen, "");
    unsetenv("TERM");
    run(true, train, 2.125);
    assert_string_equal(seen, "");
}

static void plain_lines_come_at_intervals_where_asked(void **state)
{
    (void)state;
    progress_options options = train;
    options.interval = 2;
    run(false, options, 2.125);
    assert_in_range(count("\n"), 5, 7);
    assert_int_equal(count("\r") + count("\x1b"), 0);
    assert_int_equal(count("train  1000/5000  20%  loss 2.125  "), 1);
}

static void silence_is_kept_when_asked(void **state)
{
    (void)state;
    progress_options options = train;
    options.silent = true;
    options.interval = 1;
    run(true, options, 2.125);
    assert_string_equal(seen, "");
}

static void a_resumed_run_counts_its_own_steps_for_the_rate(void **state)
{
    (void)state;
    progress_options options = {.label = "train", .first = 4000, .last = 9000};
    run(true, options, 1);
    assert_non_null(strstr(seen, "steps/s"));
    assert_null(strstr(seen, "k steps/s"));
    assert_non_null(strstr(seen, "5000/9000  55%"));
    assert_non_null(strstr(seen, "0:00:4")); /* about 4,000 steps at 100 a second */
}

static void unknown_ends_have_no_percent(void **state)
{
    (void)state;
    progress_options options = {.label = "index"};
    run(true, options, NAN);
    assert_non_null(strstr(seen, "  step 1000  "));
    assert_int_equal(count("%") + count("to go"), 0);
}

int main(void)
{
#define test(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        test(a_terminals_line_is_rewritten_in_place),
        test(rates_are_units_a_second),
        test(no_color_leaves_only_the_rewriting),
        test(lines_fit_the_window),
        test(a_pipe_and_a_dumb_terminal_are_silent),
        test(plain_lines_come_at_intervals_where_asked),
        test(silence_is_kept_when_asked),
        test(a_resumed_run_counts_its_own_steps_for_the_rate),
        test(unknown_ends_have_no_percent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
