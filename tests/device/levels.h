/* levels.h - a test program that runs once for each level of this processor, each in a process of its own: oneDNN binds
 * itself to a level at its first product. */
#ifndef CRANK_TESTS_DEVICE_LEVELS_H
#define CRANK_TESTS_DEVICE_LEVELS_H

#include <sys/wait.h>

#include "check.h"

/* The exit code of this program started again with CRANK_BODIES=level. */
static inline int run_level(const char *level)
{
    int status = 0;
    pid_t child = fork();
    if (child == 0) {
        setenv("CRANK_BODIES", level, 1);
        execl("/proc/self/exe", "test", (char *)NULL);
        _exit(127);
    }
    if (child < 0 || waitpid(child, &status, 0) != child) return 1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

/* Main of such a program: the tests themselves where CRANK_BODIES names a level, else all levels above "plain". */
#define LEVELS_MAIN(tests)                                                                                             \
    int main(void)                                                                                                     \
    {                                                                                                                  \
        const char *names[8], *level = getenv("CRANK_BODIES");                                                         \
        int count = crank_cpu_levels(names, 8), failed = 0;                                                            \
        if (level && *level) return cmocka_run_group_tests_name(level, tests, NULL, NULL);                             \
        for (int i = 1; i < count; i++) failed |= run_level(names[i]);                                                 \
        return failed;                                                                                                 \
    }
#endif
