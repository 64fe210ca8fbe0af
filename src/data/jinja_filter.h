/* jinja_filter.h - what the files of filters and tests share. A filter's `self` is the value that it is applied to. */
#ifndef CRANK_DATA_JINJA_FILTER_H
#define CRANK_DATA_JINJA_FILTER_H

#include "data/jinja_eval.h"
#include "data/jinja_text.h"

#define FILTER(function)                                                                                               \
    static jinja_value filter_##function(jinja_state *state, jinja_value self, jinja_value *slots, const jinja_arguments *all)
#define UNUSED (void)state, (void)self, (void)slots, (void)all

/* int() and float() of text: false when it is no number. */
bool jinja_parse_int(jinja_value text, int64_t base, int64_t *out);
bool jinja_parse_float(jinja_state *state, jinja_value text, double *out);

static inline const jinja_value *given(const jinja_value *slot) { return slot->kind == JINJA_ABSENT ? NULL : slot; }
static inline bool flag_or(const jinja_value *slot, bool initial) { return slot->kind == JINJA_ABSENT ? initial : jinja_truth(slot); }
static inline int64_t int_or(jinja_state *state, const jinja_value *slot, int64_t initial, const char *what)
{
    return slot->kind == JINJA_ABSENT || slot->kind == JINJA_NONE ? initial : jinja_need_int(state, slot, what);
}
/* Text in lower case, other values as they are. */
static inline jinja_value fold_case(jinja_state *state, jinja_value value)
{
    return value.kind == JINJA_STRING ? jinja_change_case(state, value, JINJA_LOWER) : value;
}
#endif
