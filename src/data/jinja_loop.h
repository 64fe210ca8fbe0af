/* jinja_loop.h - for loops: the `loop` variable, and what the statements need of it. */
#ifndef CRANK_DATA_JINJA_LOOP_H
#define CRANK_DATA_JINJA_LOOP_H

#include "data/jinja_eval.h"

struct jinja_loop {
    const jinja_node *node;
    jinja_scope      *scope;      /* around the loop, for recursion and the test */
    jinja_scope      *test_scope; /* NULL: no test */
    jinja_list       *source;
    size_t            next, *cursor; /* position in source; cursor points at it, or into the iterator that is read */
    bool              filtered, has_after;
    int64_t           index0, length; /* length: -1 until it is known */
    int               depth0;
    jinja_value       current, before, after;
    jinja_list       *ready; /* items that asking for the length has read ahead */
    size_t            ready_next;
    jinja_list       *changed; /* arguments of the last loop.changed() */
};

jinja_loop *jinja_loop_new(jinja_state *state, const jinja_node *node, jinja_scope *scope, const jinja_value *items, int depth0);
bool        jinja_loop_advance(jinja_state *state, jinja_loop *loop); /* to the next item; false at the end */

/* Gives a value to a target (name, tuple, namespace attribute); names are set in `scope`. */
void jinja_assign(jinja_state *state, jinja_scope *scope, const jinja_node *target, jinja_value value);
#endif
