/* Metrics logs: whole lines after a kill, cut back on resume; event files equal to TensorBoard's own. */
#include "testing.h"

#include <dirent.h>
#include <jansson.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/crc32c.h"
#include "base/event_log.h"
#include "base/file.h"
#include "base/json.h"

static crank_context *context;
static char           folder[64], path[256];

static int setup(void **state)
{
    (void)state;
    context = crank_context_new();
    snprintf(folder, sizeof folder, "/tmp/crank_metrics_XXXXXX");
    if (!mkdtemp(folder)) return -1;
    snprintf(path, sizeof path, "%s/metrics.jsonl", folder);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    assert_ok(context, file_folder_remove(context, folder));
    crank_context_free(context);
    return 0;
}

static void write_steps(metrics_log *log, int64_t first, int64_t last)
{
    for (int64_t step = first; step <= last; step++) {
        metric metrics[] = {{"loss", 1.0 / (double)step}, {"grad \"norm\"", 0.1 * (double)step}};
        assert_ok(context, metrics_log_write(context, log, step, metrics, 2));
    }
}

/* Every line is an object; returns their count, and the last step. */
static size_t count_lines(int64_t *last)
{
    file_lines *lines = file_lines_open(context, path);
    const char *text;
    size_t      length, count = 0;
    *last = -1;
    while (file_lines_next(context, lines, &text, &length) == 1) {
        json_t *line = json_parse(context, text, length, path);
        assert_non_null(line);
        assert_ok(context, json_need_int(context, line, "step", 0, 1000000, last, path));
        json_decref(line);
        count++;
    }
    file_lines_close(lines);
    return count;
}

static void lines_hold_step_time_and_exact_numbers(void **state)
{
    (void)state;
    metrics_log *log = metrics_log_open(context, path, -1);
    metric       metrics[] = {{"loss", 1.0 / 3}, {"a\"b", INFINITY}, {"n", NAN}, {"one", 1}};
    assert_ok(context, metrics_log_write(context, log, 7, metrics, 4));
    assert_ok(context, metrics_log_note(context, log, 8, "note", "line\n\"quoted\""));
    metrics_log_close(log);
    char *text = file_read(context, path, NULL);
    assert_int_equal(strncmp(text, "{\"step\":7,\"time\":1", 18), 0);
    assert_non_null(strstr(text, ",\"loss\":0.3333333333333333,\"a\\\"b\":null,\"n\":null,\"one\":1}\n{\"step\":8,\"time\":1"));
    assert_non_null(strstr(text, ",\"note\":\"line\\n\\\"quoted\\\"\"}\n"));
    crank_free(text);
}

static void resuming_cuts_back_to_its_step_and_goes_on(void **state)
{
    (void)state;
    int64_t      last;
    metrics_log *log = metrics_log_open(context, path, -1);
    write_steps(log, 1, 50);
    metrics_log_close(log);
    assert_int_equal(truncate(path, 3000), 0); /* a kill in the middle of a line */
    log = metrics_log_open(context, path, 20);
    write_steps(log, 21, 30);
    metrics_log_close(log);
    assert_int_equal(count_lines(&last), 30);
    assert_int_equal(last, 30);
    log = metrics_log_open(context, path, 100); /* nothing to cut */
    metrics_log_close(log);
    assert_int_equal(count_lines(&last), 30);
    log = metrics_log_open(context, path, -1);
    metrics_log_close(log);
    assert_int_equal(count_lines(&last), 0);
    unlink(path);
    log = metrics_log_open(context, path, 5); /* there is no file yet */
    write_steps(log, 6, 6);
    metrics_log_close(log);
    assert_int_equal(count_lines(&last), 1);
}

static void foreign_files_are_not_cut(void **state)
{
    (void)state;
    static const char text[] = "{\"step\":1}\nmy notes\n{\"step\":2}\n";
    assert_ok(context, file_write_text(context, path, text));
    assert_null(metrics_log_open(context, path, 1));
    assert_int_equal(crank_last_status(context), CRANK_BAD_DATA);
    assert_non_null(strstr(crank_message(context), "/metrics.jsonl: line 2:"));
    char *read = file_read(context, path, NULL);
    assert_string_equal(read, text);
    crank_free(read);
    assert_null(metrics_log_open(context, folder, -1));
    assert_null(metrics_log_open(context, "/no/such/folder/x", -1));
}

static void a_killed_writer_leaves_whole_lines(void **state)
{
    (void)state;
    int64_t last;
    int     ready[2];
    char    byte;
    assert_int_equal(pipe(ready), 0);
    pid_t child = fork();
    if (child == 0) {
        metrics_log *log = metrics_log_open(context, path, -1);
        for (int64_t step = 1;; step++) {
            metric metrics[] = {{"loss", 1.0 / (double)step}};
            if (metrics_log_write(context, log, step, metrics, 1) != CRANK_OK) _exit(1);
            if (step == 100) (void)!write(ready[1], "x", 1);
        }
    }
    assert_int_equal(read(ready[0], &byte, 1), 1);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    close(ready[0]);
    close(ready[1]);
    size_t count = count_lines(&last);
    assert_true(count >= 100 && (int64_t)count == last);
}

static void a_full_disk_is_told(void **state)
{
    (void)state;
    metric       metrics[] = {{"loss", 1}};
    metrics_log *log = metrics_log_open(context, "/dev/full", -1);
    assert_non_null(log);
    assert_int_equal(metrics_log_write(context, log, 1, metrics, 1), CRANK_FAILED);
    assert_non_null(strstr(crank_message(context), "/dev/full: cannot be written: No space"));
    metrics_log_close(log);
}

/* RFC 3720, B.4 */
static void checksums_are_castagnolis(void **state)
{
    (void)state;
    uint8_t bytes[32] = {0};
    assert_int_equal(crc32c(bytes, 32), 0x8a9136aau);
    for (int i = 0; i < 32; i++) bytes[i] = 0xff;
    assert_int_equal(crc32c(bytes, 32), 0x62a8ab43u);
    for (int i = 0; i < 32; i++) bytes[i] = (uint8_t)i;
    assert_int_equal(crc32c(bytes, 32), 0x46dd794eu);
    assert_int_equal(crc32c("123456789", 9), 0xe3069283u);
    assert_int_equal(crc32c("", 0), 0);
}

static void records_equal_tensorboards(void **state)
{
    (void)state;
    text_buffer out = {0};
    size_t      length;
    char       *expected = file_read(context, golden("events/events.bin"), &length);
    event_put_version(&out, 1764000000.5);
    event_put_start(&out, 1764000000.5, 8);
    static const int64_t steps[] = {8, (int64_t)1 << 40};
    for (int i = 0; i < 2; i++) {
        metric metrics[] = {{"train/loss", 2.25 / (double)steps[i]}, {"r\xc3\xa4te", 1e-4}};
        event_put_metrics(&out, 1764000001.25, steps[i], metrics, 2);
    }
    assert_int_equal(out.length, length);
    assert_memory_equal(out.bytes, expected, length);
    crank_free(expected);
    text_clear(&out);
}

static void each_run_has_an_event_file_of_its_own(void **state)
{
    (void)state;
    char runs[128];
    snprintf(runs, sizeof runs, "%s/runs/one", folder);
    metric     metrics[] = {{"loss", 1}};
    event_log *first = event_log_open(context, runs, -1), *second = event_log_open(context, runs, 12);
    assert_non_null(first);
    assert_non_null(second);
    assert_ok(context, event_log_write(context, first, 1, metrics, 1));
    assert_ok(context, event_log_write(context, second, 13, metrics, 1));
    event_log_close(first);
    event_log_close(second);
    int            files = 0;
    DIR           *listing = opendir(runs);
    struct dirent *each;
    while ((each = readdir(listing))) files += strncmp(each->d_name, "events.out.tfevents.", 20) == 0;
    closedir(listing);
    assert_int_equal(files, 2);
    assert_null(event_log_open(context, "/dev/null/x", -1));
}

int main(void)
{
#define test(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        test(lines_hold_step_time_and_exact_numbers),
        test(resuming_cuts_back_to_its_step_and_goes_on),
        test(foreign_files_are_not_cut),
        test(a_killed_writer_leaves_whole_lines),
        test(a_full_disk_is_told),
        test(checksums_are_castagnolis),
        test(records_equal_tensorboards),
        test(each_run_has_an_event_file_of_its_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
