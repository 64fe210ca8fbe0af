/* packs.h - rows of different lengths brought into packs of about the same number of tokens: nothing is padded.
 *
 * Rows are taken longest first; where the next does not fit, the longest one that does fills the gap. Packs are therefore nearly full, few
 * rows in one pack differ much in length, and the result is a function of the lengths alone. */
#ifndef CRANK_TASK_PACKS_H
#define CRANK_TASK_PACKS_H

#include "crank/base.h"

typedef struct pack {
    int64_t first, rows;     /* rows order[first .. first + rows) */
    int64_t tokens, longest; /* of these rows */
} pack;

typedef struct pack_list {
    int64_t *order; /* every row once */
    pack    *packs;
    int64_t  count;
} pack_list;

/* lengths [rows], each at least 1. A pack has at most `tokens` tokens; a row longer than that is a pack of its own. */
crank_status packs_make(crank_context *context, const int64_t *lengths, int64_t rows, int64_t tokens, pack_list *out);
void         packs_free(pack_list *list);

/* Few shapes serve many packs: sizes that are recorded for a pack of a list made with `tokens`. The tokens that a pack leaves empty stand
 * in fillers, sequences of at most `longest` tokens behind the rows. */
typedef struct pack_shape {
    int64_t tokens, sequences, longest;
} pack_shape;
pack_shape packs_shape(const pack *one, int64_t tokens);
#endif
