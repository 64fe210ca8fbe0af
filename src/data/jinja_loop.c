/* jinja_loop.c - the `loop` variable and the order in which a for loop reads its items.
 *
 * Items are read one at a time, as Jinja's generators do: the `if` of a loop sees what the body of earlier iterations
 * changed in a namespace, loop.last and loop.nextitem read one item ahead, loop.length reads all that are left. */
#include "data/jinja_loop.h"

static bool passes_test(jinja_state *state, jinja_loop *loop, jinja_value item)
{
    if (!loop->filtered) return true;
    jinja_scope *saved = state->scope;
    loop->test_scope->count = 0;
    state->scope = loop->test_scope;
    jinja_assign(state, loop->test_scope, loop->node->a, item);
    jinja_value result = jinja_evaluate(state, loop->node->c);
    state->scope = saved;
    return jinja_truth(&result);
}

static bool pull(jinja_state *state, jinja_loop *loop, jinja_value *item)
{
    if (loop->ready) {
        if (loop->ready_next == loop->ready->count) return false;
        *item = loop->ready->items[loop->ready_next++];
        return true;
    }
    while (*loop->cursor < loop->source->count) {
        *item = loop->source->items[(*loop->cursor)++];
        jinja_work(state, 1);
        if (passes_test(state, loop, *item)) return true;
    }
    return false;
}

static bool peek(jinja_state *state, jinja_loop *loop)
{
    if (!loop->has_after) loop->has_after = pull(state, loop, &loop->after);
    return loop->has_after;
}

static int64_t length(jinja_state *state, jinja_loop *loop)
{
    if (loop->length >= 0) return loop->length;
    jinja_list *rest = jinja_list_new(state, 0);
    jinja_value item;
    while (pull(state, loop, &item)) jinja_list_add(state, rest, item);
    loop->ready = rest;
    loop->ready_next = 0;
    return loop->length = (int64_t)rest->count + loop->index0 + 1 + loop->has_after;
}

jinja_loop *jinja_loop_new(jinja_state *state, const jinja_node *node, jinja_scope *scope, const jinja_value *items, int depth0)
{
    jinja_loop *loop = jinja_alloc(state, 1, sizeof *loop);
    loop->node = node;
    loop->scope = scope;
    loop->depth0 = depth0;
    loop->index0 = -1;
    loop->filtered = node->c != NULL;
    loop->length = -1;
    if (items->kind == JINJA_ITERATOR) {
        loop->source = items->iterator->list;
        loop->cursor = &items->iterator->next; /* what a break leaves stays in the iterator */
    } else {
        loop->source = jinja_items(state, items);
        loop->cursor = &loop->next;
        if (!loop->filtered) loop->length = (int64_t)loop->source->count;
    }
    if (loop->filtered) {
        loop->test_scope = jinja_scope_push(state, scope);
        state->scope = scope;
    }
    return loop;
}

bool jinja_loop_advance(jinja_state *state, jinja_loop *loop)
{
    jinja_value item = loop->after;
    if (loop->has_after) loop->has_after = false;
    else if (!pull(state, loop, &item)) return false;
    loop->index0++;
    loop->before = loop->current;
    loop->current = item;
    return true;
}

static jinja_value cycle(jinja_state *state, jinja_value self, jinja_value *slots, const jinja_arguments *all)
{
    (void)slots;
    if (!all->count) jinja_fail(state, "no items for cycling given");
    return all->positional[(size_t)self.loop->index0 % all->count];
}

static jinja_value changed(jinja_state *state, jinja_value self, jinja_value *slots, const jinja_arguments *all)
{
    (void)slots;
    jinja_list *values = jinja_list_new(state, all->count);
    for (size_t i = 0; i < all->count; i++) jinja_list_add(state, values, all->positional[i]);
    jinja_value now = jinja_tuple_value(values), before = {.kind = JINJA_TUPLE, .list = self.loop->changed};
    if (self.loop->changed && jinja_equal(state, &now, &before)) return jinja_bool(false);
    self.loop->changed = values;
    return jinja_bool(true);
}

static const jinja_builtin methods[] = {{"cycle", NULL, 0, cycle}, {"changed", NULL, 0, changed}, {0}};

jinja_value jinja_loop_attribute(jinja_state *state, jinja_loop *loop, jinja_value name)
{
    jinja_value          self = {.kind = JINJA_LOOP, .loop = loop};
    const jinja_builtin *method = jinja_find_in(methods, name);
    if (method) {
        jinja_method *bound = jinja_alloc(state, 1, sizeof *bound);
        *bound = (jinja_method){self, method};
        return (jinja_value){.kind = JINJA_METHOD, .method = bound};
    }
    if (jinja_is(&name, "index")) return jinja_int(loop->index0 + 1);
    if (jinja_is(&name, "index0")) return jinja_int(loop->index0);
    if (jinja_is(&name, "first")) return jinja_bool(loop->index0 == 0);
    if (jinja_is(&name, "last")) return jinja_bool(!peek(state, loop));
    if (jinja_is(&name, "length")) return jinja_int(length(state, loop));
    if (jinja_is(&name, "revindex")) return jinja_int(length(state, loop) - loop->index0);
    if (jinja_is(&name, "revindex0")) return jinja_int(length(state, loop) - loop->index0 - 1);
    if (jinja_is(&name, "depth")) return jinja_int(loop->depth0 + 1);
    if (jinja_is(&name, "depth0")) return jinja_int(loop->depth0);
    if (jinja_is(&name, "previtem")) return loop->index0 > 0 ? loop->before : jinja_hint("there is no previous item");
    if (jinja_is(&name, "nextitem")) return peek(state, loop) ? loop->after : jinja_hint("there is no next item");
    return jinja_no_attribute(&self, name);
}
