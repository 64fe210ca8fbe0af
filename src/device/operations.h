/* operations.h - the shapes and types that each operation takes, as data: every device checks a call by this one table.
 */
#ifndef CRANK_DEVICE_OPERATIONS_H
#define CRANK_DEVICE_OPERATIONS_H

#include "crank/device.h"
#include "crank/operations.h"

/* Whether `call` is one that operations.h describes: number of operands, types, dims, strides of the last axis,
 * attributes present. Data pointers are not looked at. False writes a sentence to `why` (which may be NULL). */
bool operation_fits(const char *operation, const crank_call *call, char *why, size_t size);

/* The i-th operation of the table, NULL after the last. */
const char *operation_name(int i);

/* An optional operand that is there. */
static inline bool view_present(const crank_view *view) { return view->rank >= 0; }

#endif
