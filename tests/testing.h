/* testing.h - what every test includes: cmocka, the place of the real data, and norms. */
#ifndef CRANK_TESTING_H
#define CRANK_TESTING_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* Path of a real data file, or NULL where the folder is absent (the test then calls skip()). Static buffer. */
static inline const char *real_data(const char *name)
{
    static char path[4096];
    const char *root = getenv("CRANK_DATA");
    snprintf(path, sizeof path, "%s/%s", root && *root ? root : CRANK_SOURCE_DIR "/../shared/data", name);
    return access(path, R_OK) == 0 ? path : NULL;
}

/* Path of a committed golden file. Static buffer. */
static inline const char *golden(const char *name)
{
    static char path[4096];
    snprintf(path, sizeof path, "%s/tests/golden/%s", CRANK_SOURCE_DIR, name);
    return path;
}

/* |a - b| / |b|, both of n values. */
static inline double relative_error(const float *a, const float *b, size_t n)
{
    double difference = 0, norm = 0;
    for (size_t i = 0; i < n; i++) {
        difference += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
        norm += (double)b[i] * b[i];
    }
    return sqrt(difference) / fmax(sqrt(norm), 1e-30);
}

/* What the system reports of a sanitized program's memory is not the program's: tests of it skip there. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { SANITIZED = 1 };
#else
enum { SANITIZED = 0 };
#endif

#define assert_ok(context, status)                                                                                     \
    do {                                                                                                               \
        if ((status) != CRANK_OK) fail_msg("%s", crank_message(context));                                              \
    } while (0)
#endif
