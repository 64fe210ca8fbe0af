/* families.c - the list of body families of the CPU device, best first; the plain one serves whatever is left. */
#include "device/cpu/bodies.h"

const cpu_family cpu_families[] = {
    {CPU_PLAIN, plain_find},
    {CPU_PLAIN, NULL},
};
