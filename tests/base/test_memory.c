/* Memory as the system reports it: this process's own, and limits of control groups from made-up files. */
#include "testing.h"

#include <sys/mman.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/memory.h"

enum { MIB = 1 << 20 };

static void peak_follows_what_is_touched_and_can_be_reset(void **state)
{
    (void)state;
    int64_t before = memory_resident();
    assert_true(before > 0 && memory_peak() >= before);
    volatile char *block = mmap(NULL, 64 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(block != MAP_FAILED);
    for (size_t i = 0; i < 64 * MIB; i += 1024) block[i] = 1;
    assert_true(memory_resident() >= before + 60 * MIB);
    munmap((void *)block, 64 * MIB);
    assert_true(memory_peak() >= before + 60 * MIB);
    if (!memory_reset_peak()) skip();
    assert_true(memory_peak() < before + 32 * MIB);
}

static void the_machine_has_some_memory(void **state)
{
    (void)state;
    assert_true(memory_total() > 0 && memory_available() > 0 && memory_available() <= memory_total());
}

static crank_context *context;
static char           root[64];

static int setup(void **state)
{
    (void)state;
    context = crank_context_new();
    snprintf(root, sizeof root, "/tmp/crank_memory_XXXXXX");
    return mkdtemp(root) ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    assert_ok(context, file_folder_remove(context, root));
    crank_context_free(context);
    return 0;
}

static void put(const char *name, const char *text)
{
    char path[512], folder[512];
    snprintf(path, sizeof path, "%s/%s", root, name);
    snprintf(folder, sizeof folder, "%.*s", (int)(strrchr(path, '/') - path), path);
    assert_ok(context, file_make_folder(context, folder));
    assert_ok(context, file_write_text(context, path, text));
}

static void put_machine(const char *groups)
{
    put("proc/meminfo", "MemTotal:       16000 kB\nMemFree:         1000 kB\nMemAvailable:   10000 kB\n");
    put("proc/self/cgroup", groups);
}

static void without_groups_the_machine_counts(void **state)
{
    (void)state;
    assert_int_equal(memory_available_under(root), -1);
    put_machine("0::/\n");
    assert_int_equal(memory_available_under(root), 10000 * 1024);
    assert_int_equal(memory_total_under(root), 16000 * 1024);
}

static void the_tightest_group_on_the_way_up_counts(void **state)
{
    (void)state;
    put_machine("0::/user/job\n");
    put("sys/fs/cgroup/user/job/memory.max", "max\n");
    put("sys/fs/cgroup/user/job/memory.current", "1000000\n");
    put("sys/fs/cgroup/user/memory.max", "8000000\n");
    put("sys/fs/cgroup/user/memory.current", "3000000\n");
    assert_int_equal(memory_available_under(root), 5000000);
    assert_int_equal(memory_total_under(root), 8000000);
    put("sys/fs/cgroup/user/memory.stat", "anon 5\ninactive_file 500000\nactive_file 7\n");
    assert_int_equal(memory_available_under(root), 5500000); /* page cache that can go */
    put("sys/fs/cgroup/user/job/memory.max", "900000\n");
    assert_int_equal(memory_available_under(root), 0); /* over its limit */
    assert_int_equal(memory_total_under(root), 900000);
}

static void a_container_sees_its_own_group_at_the_mount(void **state)
{
    (void)state;
    put_machine("12:cpu,cpuacct:/docker/abc\n4:memory:/docker/abc\n0::/docker/abc\n");
    put("sys/fs/cgroup/memory/memory.limit_in_bytes", "4000000\n");
    put("sys/fs/cgroup/memory/memory.usage_in_bytes", "1500000\n");
    put("sys/fs/cgroup/memory/memory.stat", "inactive_file 1\ntotal_inactive_file 500000\n");
    assert_int_equal(memory_available_under(root), 3000000);
    put("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"); /* v1's word for none */
    assert_int_equal(memory_available_under(root), 10000 * 1024);
}

static void strange_files_are_no_limits(void **state)
{
    (void)state;
    put_machine("\n::\n0\nx:y\n0::relative/../..\n");
    put("sys/fs/cgroup/memory.max", "-5\n");
    put("sys/fs/cgroup/memory.current", "99999999999999999999999\n");
    assert_int_equal(memory_available_under(root), 10000 * 1024);
}

static void time_goes_forward(void **state)
{
    (void)state;
    double a = clock_seconds(), b = clock_seconds();
    assert_true(b >= a);
    assert_true(clock_wall() > 1.6e9);
}

int main(void)
{
#define test(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(peak_follows_what_is_touched_and_can_be_reset),
        cmocka_unit_test(the_machine_has_some_memory),
        test(without_groups_the_machine_counts),
        test(the_tightest_group_on_the_way_up_counts),
        test(a_container_sees_its_own_group_at_the_mount),
        test(strange_files_are_no_limits),
        cmocka_unit_test(time_goes_forward),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
