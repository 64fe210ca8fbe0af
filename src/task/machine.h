/* machine.h - what this machine reaches: rates of products and of memory, measured on the device that a run would use. */
#ifndef CRANK_TASK_MACHINE_H
#define CRANK_TASK_MACHINE_H

#include "crank/device.h"

typedef struct machine_rates {
    double f32, bf16; /* FLOP/s of a large product; bf16 is 0 where the device has no native ones */
    double copy;      /* bytes read plus bytes written a second */
} machine_rates;

/* Takes about a second; the best of several repeats. */
crank_status machine_measure(crank_context *context, crank_device *device, machine_rates *rates);
#endif
