/* jinja_eval.h - evaluation: scopes, calls, operators, and the tables of filters, tests, methods and global functions. */
#ifndef CRANK_DATA_JINJA_EVAL_H
#define CRANK_DATA_JINJA_EVAL_H

#include "data/jinja_syntax.h"

#define JINJA_MAX_PARAMETERS 6

struct jinja_arguments {
    jinja_value *positional;
    size_t       count;
    jinja_value *names; /* keywords: strings */
    jinja_value *values;
    size_t       keyword_count;
};

/* A filter, test, method or function. `parameters` are names separated by spaces, the first `required` of them must be
 * given; NULL: any arguments, read from `all`. `slots` holds the bound ones, JINJA_ABSENT where not given. */
typedef jinja_value jinja_body(jinja_state *state, jinja_value self, jinja_value *slots, const jinja_arguments *all);
struct jinja_builtin {
    const char *name;
    const char *parameters;
    int         required;
    jinja_body *run; /* NULL: a method that Python's immutable sandbox refuses */
};

const jinja_builtin *jinja_find_filter(jinja_value name);
const jinja_builtin *jinja_find_test(jinja_value name);
const jinja_builtin *jinja_find_global(jinja_value name);
const jinja_builtin *jinja_find_method(const jinja_value *object, jinja_value name);
const jinja_builtin *jinja_find_in(const jinja_builtin *table, jinja_value name); /* table ends with a NULL name */

extern const jinja_builtin jinja_text_filters[], jinja_number_filters[], jinja_list_filters[], jinja_select_filters[];
extern const jinja_builtin jinja_string_methods[];

jinja_value jinja_run_builtin(jinja_state *state, const jinja_builtin *builtin, const char *what, jinja_value self,
                              const jinja_arguments *arguments);
jinja_value jinja_call(jinja_state *state, const jinja_value *callee, const jinja_arguments *arguments);

/* Operators. */
jinja_value jinja_arithmetic(jinja_state *state, jinja_operator operation, jinja_value a, jinja_value b);
bool        jinja_relation(jinja_state *state, jinja_operator operation, const jinja_value *a, const jinja_value *b);
bool        jinja_contains(jinja_state *state, const jinja_value *container, const jinja_value *item);
jinja_value jinja_get_attribute(jinja_state *state, const jinja_value *object, jinja_value name);
jinja_value jinja_get_item(jinja_state *state, const jinja_value *object, const jinja_value *index);
/* object[start:stop:step]; JINJA_NONE where left out. */
jinja_value jinja_get_slice(jinja_state *state, const jinja_value *object, const jinja_value *start, const jinja_value *stop,
                            const jinja_value *step);
jinja_value jinja_loop_attribute(jinja_state *state, jinja_loop *loop, jinja_value name);
/* "text" % value, and text.format(arguments). */
jinja_value jinja_percent(jinja_state *state, jinja_value format, const jinja_value *value);
jinja_value jinja_format_braces(jinja_state *state, jinja_value format, const jinja_arguments *arguments);

/* Attribute paths of filters: "a.b.0"; NULL or none: the item itself. */
jinja_value jinja_path(jinja_state *state, jinja_value item, const jinja_value *path);

/* Scopes. */
typedef struct jinja_variable {
    int         name;
    jinja_value value;
} jinja_variable;
struct jinja_scope {
    jinja_scope    *parent;
    jinja_variable *variables;
    size_t          count, capacity;
};
jinja_scope *jinja_scope_push(jinja_state *state, jinja_scope *parent); /* becomes state->scope */
void         jinja_scope_set(jinja_state *state, jinja_scope *scope, int name, jinja_value value);
jinja_value  jinja_lookup(jinja_state *state, int name);

struct jinja_macro {
    const jinja_node *node;  /* MACRO, CALL_BLOCK */
    jinja_scope      *scope; /* where it was defined */
};

jinja_value jinja_evaluate(jinja_state *state, const jinja_node *node);
void        jinja_collect_arguments(jinja_state *state, const jinja_node *args, jinja_arguments *out);
jinja_value jinja_apply_filter(jinja_state *state, const jinja_node *node, jinja_value subject);
jinja_value jinja_call_macro(jinja_state *state, jinja_macro *macro, const jinja_arguments *arguments);
jinja_value jinja_recurse_loop(jinja_state *state, jinja_loop *loop, const jinja_value *items);
#endif
