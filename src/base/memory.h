/* memory.h - what the system reports about memory. Bytes; -1 where the system does not tell. */
#ifndef CRANK_BASE_MEMORY_H
#define CRANK_BASE_MEMORY_H

#include "crank/base.h"

int64_t memory_resident(void); /* of this process now (VmRSS), mapped files included */
int64_t memory_peak(void);     /* the largest so far (VmHWM) */
/* Makes the peak start again from now. False where the system does not allow it. */
bool memory_reset_peak(void);
void memory_give_back(void); /* what was freed and is kept by the allocator goes back to the system, where the C library can do that */

/* What this process may still take without swapping: the machine's available memory, or less where a control group's limit
 * (v1 or v2, this one or any above it) leaves less. Page cache that the group could give back counts as available. */
int64_t memory_available(void);
int64_t memory_total(void); /* the machine's memory or the group's limit, whichever is less */

/* The same with "/proc" and "/sys" looked for under `root`: for tests. */
int64_t memory_available_under(const char *root);
int64_t memory_total_under(const char *root);
#endif
