/* clock.h - seconds. */
#ifndef CRANK_BASE_CLOCK_H
#define CRANK_BASE_CLOCK_H

double clock_seconds(void); /* monotonic, from an arbitrary start: for durations */
double clock_wall(void);    /* since 1970, UTC: for dates in files */
#endif
