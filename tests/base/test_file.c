/* Files: whole, mapped, by lines, gzip; writes that leave the old file or the new one; folders replaced. */
#include "testing.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <zlib.h>

#include "base/file.h"
#include "crank/random.h"

static crank_context *context;
static char           folder[64], path[256];

static int setup(void **state)
{
    (void)state;
    context = crank_context_new();
    snprintf(folder, sizeof folder, "/tmp/crank_file_XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    assert_ok(context, file_folder_remove(context, folder));
    crank_context_free(context);
    return 0;
}

static const char *inside(const char *name)
{
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static void put(const char *name, const void *bytes, size_t length)
{
    FILE *file = fopen(inside(name), "wb");
    assert_int_equal(fwrite(bytes, 1, length, file), length);
    fclose(file);
}

static void put_gzip(const char *name, const void *bytes, size_t length)
{
    gzFile file = gzopen(inside(name), "wb");
    assert_int_equal(gzwrite(file, bytes, (unsigned)length), (int)length);
    gzclose(file);
}

static void whole_file_is_read_plain_or_gzip(void **state)
{
    (void)state;
    static const char text[] = "one\0two\n";
    size_t            length;
    put("plain", text, sizeof text);
    char *read = file_read(context, inside("plain"), &length);
    assert_int_equal(length, sizeof text);
    assert_memory_equal(read, text, sizeof text);
    crank_free(read);
    put_gzip("packed", text, sizeof text);
    read = file_read(context, inside("packed"), &length);
    assert_int_equal(length, sizeof text);
    assert_memory_equal(read, text, sizeof text);
    crank_free(read);
    put("empty", "", 0);
    read = file_read(context, inside("empty"), &length);
    assert_int_equal(length, 0);
    assert_string_equal(read, "");
    crank_free(read);
}

static void missing_files_and_folders_are_told_by_name(void **state)
{
    (void)state;
    file_map map;
    assert_null(file_read(context, inside("none"), NULL));
    assert_int_equal(crank_last_status(context), CRANK_USAGE);
    assert_non_null(strstr(crank_message(context), "/none: cannot be read: No such file"));
    assert_null(file_read(context, folder, NULL));
    assert_non_null(strstr(crank_message(context), "is a folder"));
    assert_null(file_lines_open(context, inside("none")));
    assert_null(file_lines_open(context, folder));
    assert_int_equal(file_map_open(context, inside("none"), &map), CRANK_USAGE);
    assert_int_equal(file_map_open(context, folder, &map), CRANK_USAGE);
    assert_int_equal(file_map_open(context, "/dev/zero", &map), CRANK_USAGE);
}

static void cut_gzip_is_bad_data(void **state)
{
    (void)state;
    crank_stream stream = crank_stream_make(1, CRANK_RANDOM_TEST, 0);
    char         text[100000];
    const char *line;
    size_t      length;
    for (size_t i = 0; i < sizeof text; i++) text[i] = (char)('a' + crank_draw_below(stream, i, 26));
    for (size_t i = 99; i < sizeof text; i += 100) text[i] = '\n';
    put_gzip("whole", text, sizeof text);
    char *packed = file_read(context, inside("whole"), NULL);
    assert_memory_equal(packed, text, sizeof text);
    crank_free(packed);
    assert_int_equal(truncate(inside("whole"), 9000), 0);
    assert_null(file_read(context, inside("whole"), NULL));
    assert_int_equal(crank_last_status(context), CRANK_BAD_DATA);
    file_lines *lines = file_lines_open(context, inside("whole"));
    int         result;
    while ((result = file_lines_next(context, lines, &line, &length)) == 1) assert_int_equal(length, 99);
    assert_int_equal(result, -1);
    assert_int_equal(crank_last_status(context), CRANK_BAD_DATA);
    file_lines_close(lines);
}

static void lines_end_with_lf_or_crlf_and_may_be_long(void **state)
{
    (void)state;
    size_t long_length = 300000;
    char  *text = malloc(long_length + 64);
    size_t total = (size_t)sprintf(text, "first\r\n\nth\rird\n");
    memset(text + total, 'x', long_length);
    memcpy(text + total + long_length, "\nlast", 5);
    total += long_length + 5;
    put("plain", text, total);
    put_gzip("packed", text, total);
    for (int packed = 0; packed < 2; packed++) {
        static const char *const expected[] = {"first", "", "th\rird", NULL, "last"};
        const char              *line;
        size_t                   length;
        file_lines              *lines = file_lines_open(context, inside(packed ? "packed" : "plain"));
        for (size_t i = 0; i < 5; i++) {
            assert_int_equal(file_lines_next(context, lines, &line, &length), 1);
            assert_int_equal(file_lines_number(lines), i + 1);
            assert_int_equal(length, expected[i] ? strlen(expected[i]) : long_length);
            if (expected[i]) assert_string_equal(line, expected[i]);
        }
        assert_int_equal(file_lines_next(context, lines, &line, &length), 0);
        assert_int_equal(file_lines_next(context, lines, &line, &length), 0);
        file_lines_close(lines);
    }
    free(text);
}

static void a_real_gzip_file_has_its_lines(void **state)
{
    (void)state;
    const char *real = real_data("text/tinyshakespeare.txt.gz"), *line;
    size_t      length, total = 0, whole;
    if (!real) skip();
    file_lines *lines = file_lines_open(context, real);
    while (file_lines_next(context, lines, &line, &length) == 1) total += length + 1;
    char *text = file_read(context, real, &whole);
    assert_int_equal(total, whole);
    assert_int_equal(file_lines_number(lines), 40000);
    crank_free(text);
    file_lines_close(lines);
}

static void mapping_shows_the_bytes(void **state)
{
    (void)state;
    file_map map;
    put("bytes", "abc", 3);
    assert_ok(context, file_map_open(context, inside("bytes"), &map));
    assert_int_equal(map.length, 3);
    assert_memory_equal(map.data, "abc", 3);
    file_map_close(&map);
    put("empty", "", 0);
    assert_ok(context, file_map_open(context, inside("empty"), &map));
    assert_int_equal(map.length, 0);
    file_map_close(&map);
}

static void assert_content(const char *name, const char *expected)
{
    char *read = file_read(context, inside(name), NULL);
    assert_non_null(read);
    assert_string_equal(read, expected);
    crank_free(read);
}

static void commit_replaces_and_abort_keeps(void **state)
{
    (void)state;
    assert_ok(context, file_write_text(context, inside("target"), "old"));
    file_writer *writer = file_writer_open(context, inside("target"));
    assert_ok(context, file_writer_write(context, writer, "new", 3));
    assert_content("target", "old");
    file_writer_abort(writer);
    assert_content("target", "old");
    char *large = malloc(1000001);
    memset(large, 'z', 1000000);
    large[1000000] = 0;
    writer = file_writer_open(context, inside("target"));
    assert_ok(context, file_writer_write(context, writer, large, 10));
    assert_ok(context, file_writer_write(context, writer, large + 10, 999990));
    assert_ok(context, file_writer_commit(context, writer));
    assert_content("target", large);
    free(large);
}

static void a_full_disk_keeps_the_old_file(void **state)
{
    (void)state;
    assert_ok(context, file_write_text(context, inside("target"), "old"));
    struct rlimit before, small = {.rlim_cur = 100000};
    getrlimit(RLIMIT_FSIZE, &before);
    small.rlim_max = before.rlim_max;
    signal(SIGXFSZ, SIG_IGN); /* the write then fails with EFBIG, as a full disk does with ENOSPC */
    setrlimit(RLIMIT_FSIZE, &small);
    char *large = calloc(1, 1000000);
    file_writer *writer = file_writer_open(context, inside("target"));
    crank_status written = file_writer_write(context, writer, large, 1000000);
    crank_status committed = file_writer_commit(context, writer);
    setrlimit(RLIMIT_FSIZE, &before);
    free(large);
    assert_int_equal(written, CRANK_FAILED);
    assert_int_equal(committed, CRANK_FAILED);
    assert_content("target", "old");
    char *left = crank_format(context, "%s/target.tmp.%ld", folder, (long)getpid());
    assert_false(file_exists(left));
    crank_free(left);
    assert_int_equal(file_write_text(context, inside("no/such/folder"), "x"), CRANK_FAILED);
}

static void a_device_is_written_to_and_not_replaced(void **state)
{
    (void)state;
    struct stat about;
    assert_ok(context, file_write_text(context, "/dev/null", "gone"));
    assert_int_equal(stat("/dev/null", &about), 0);
    assert_true(S_ISCHR(about.st_mode));
    assert_int_equal(file_write_text(context, "/dev/full", "x"), CRANK_FAILED);
}

static void folders_are_made_with_parents_and_removed_without_following_links(void **state)
{
    (void)state;
    assert_ok(context, file_make_folder(context, inside("a/b//c/")));
    assert_true(file_is_folder(inside("a/b/c")));
    assert_ok(context, file_make_folder(context, inside("a/b/c")));
    put("keep", "kept", 4);
    char *link = crank_format(context, "%s/a/b/link", folder);
    assert_int_equal(symlink("..", link), 0);
    crank_free(link);
    assert_ok(context, file_folder_remove(context, inside("a/b")));
    assert_false(file_exists(inside("a/b")));
    assert_true(file_exists(inside("a")));
    assert_content("keep", "kept");
    assert_ok(context, file_folder_remove(context, inside("absent")));
    assert_int_equal(file_make_folder(context, inside("keep/x")), CRANK_FAILED);
    assert_int_equal(file_make_folder(context, inside("keep")), CRANK_FAILED);
}

static void version(const char *name, const char *content)
{
    char file[64];
    assert_ok(context, file_make_folder(context, inside(name)));
    snprintf(file, sizeof file, "%s/v", name);
    put(file, content, strlen(content));
}

static void replaced_folder_is_found_after_a_kill_between_the_renames(void **state)
{
    (void)state;
    char *from = crank_format(context, "%s/new", folder), *to = crank_format(context, "%s/to", folder);
    version("new", "1");
    assert_ok(context, file_folder_replace(context, from, to));
    assert_content("to/v", "1");
    version("new", "2");
    assert_ok(context, file_folder_replace(context, from, to));
    assert_content("to/v", "2");
    assert_false(file_exists(inside("to.old")) || file_exists(inside("new")));

    version("to.old", "2"); /* killed after to -> to.old: */
    assert_ok(context, file_folder_remove(context, to));
    assert_ok(context, file_folder_recover(context, to));
    assert_content("to/v", "2");
    version("to.old", "1"); /* killed before to.old was removed: */
    assert_ok(context, file_folder_recover(context, to));
    assert_content("to/v", "2");
    assert_false(file_exists(inside("to.old")));
    assert_int_equal(file_folder_replace(context, from, to), CRANK_FAILED); /* there is no new one */
    assert_content("to/v", "2");
    crank_free(from);
    crank_free(to);
}

static void names_are_joined_with_one_slash(void **state)
{
    (void)state;
    char *a = file_join(context, "x", "y"), *b = file_join(context, "x/", "y");
    assert_string_equal(a, "x/y");
    assert_string_equal(b, "x/y");
    crank_free(a);
    crank_free(b);
}

int main(void)
{
#define test(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        test(whole_file_is_read_plain_or_gzip),
        test(missing_files_and_folders_are_told_by_name),
        test(cut_gzip_is_bad_data),
        test(lines_end_with_lf_or_crlf_and_may_be_long),
        test(a_real_gzip_file_has_its_lines),
        test(mapping_shows_the_bytes),
        test(commit_replaces_and_abort_keeps),
        test(a_full_disk_keeps_the_old_file),
        test(a_device_is_written_to_and_not_replaced),
        test(folders_are_made_with_parents_and_removed_without_following_links),
        test(replaced_folder_is_found_after_a_kill_between_the_renames),
        test(names_are_joined_with_one_slash),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
