/* test_device.h - the device that a test runs on: the CPU, or the one that CRANK_TEST_DEVICE names ("cuda": `make test-gpu` runs the
 * suites that hold for every device once more on a GPU). */
#ifndef CRANK_TEST_DEVICE_H
#define CRANK_TEST_DEVICE_H

#include <stdlib.h>

#include "crank/device.h"

/* bodies: as of crank_device_cpu */
static inline crank_device *test_device(crank_context *context, const char *bodies)
{
    const char *name = getenv("CRANK_TEST_DEVICE");
    return crank_device_open(context, &(crank_device_options){.name = name && *name ? name : "cpu", .bodies = bodies});
}

#endif
