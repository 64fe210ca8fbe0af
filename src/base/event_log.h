/* event_log.h - one record of an event file as bytes, for the log and its tests.
 *
 *     u64 length | u32 masked crc32c of the length | length bytes: an Event | u32 masked crc32c of them     little-endian */
#ifndef CRANK_BASE_EVENT_LOG_H
#define CRANK_BASE_EVENT_LOG_H

#include "base/log.h"
#include "base/text.h"

/* Each appends one record. */
void event_put_version(text_buffer *out, double wall_time);
void event_put_start(text_buffer *out, double wall_time, int64_t step);
void event_put_metrics(text_buffer *out, double wall_time, int64_t step, const metric *metrics, size_t count);
#endif
