/* jinja_eval.c - expressions evaluated, names looked up, functions and macros called. */
#include <string.h>

#include "data/jinja_eval.h"
#include "data/jinja_text.h"

/* --- scopes --- */

jinja_scope *jinja_scope_push(jinja_state *state, jinja_scope *parent)
{
    jinja_scope *scope = jinja_alloc(state, 1, sizeof *scope);
    scope->parent = parent;
    state->scope = scope;
    return scope;
}

void jinja_scope_set(jinja_state *state, jinja_scope *scope, int name, jinja_value value)
{
    for (size_t i = 0; i < scope->count; i++)
        if (scope->variables[i].name == name) {
            scope->variables[i].value = value;
            return;
        }
    jinja_work(state, 1);
    if (scope->count == scope->capacity) {
        size_t          capacity = scope->capacity ? scope->capacity * 2 : 4;
        jinja_variable *variables = jinja_alloc(state, capacity, sizeof *variables);
        if (scope->count) memcpy(variables, scope->variables, scope->count * sizeof *variables);
        scope->variables = variables;
        scope->capacity = capacity;
    }
    scope->variables[scope->count++] = (jinja_variable){name, value};
}

jinja_value jinja_lookup(jinja_state *state, int name)
{
    for (const jinja_scope *scope = state->scope; scope; scope = scope->parent) {
        jinja_work(state, scope->count / 16);
        for (size_t i = 0; i < scope->count; i++)
            if (scope->variables[i].name == name) return scope->variables[i].value;
    }
    jinja_value          text = state->tmpl->names[name];
    const jinja_value   *variable = jinja_dict_get(state, state->variables, &text);
    const jinja_builtin *function = variable ? NULL : jinja_find_global(text);
    if (variable) return *variable;
    if (function) return (jinja_value){.kind = JINJA_FUNCTION, .function = function};
    text.kind = JINJA_UNDEFINED;
    text.flag = JINJA_NO_NAME;
    return text;
}

/* --- calls --- */

const jinja_builtin *jinja_find_in(const jinja_builtin *table, jinja_value name)
{
    for (; table->name; table++)
        if (jinja_is(&name, table->name)) return table;
    return NULL;
}

static void add_keyword(jinja_state *state, jinja_arguments *out, jinja_value name, jinja_value value)
{
    jinja_work(state, 1 + out->keyword_count / 8);
    for (size_t i = 0; i < out->keyword_count; i++)
        if (out->names[i].length == name.length && memcmp(out->names[i].text, name.text, name.length) == 0)
            jinja_fail(state, "argument '%.*s' is given twice", (int)(name.length < 60 ? name.length : 60), name.text);
    out->names[out->keyword_count] = name;
    out->values[out->keyword_count++] = value;
}

static void add_keywords(jinja_state *state, jinja_arguments *out, const jinja_value *mapping)
{
    jinja_need_defined(state, mapping);
    if (mapping->kind != JINJA_DICT) jinja_fail(state, "argument after ** must be a mapping, not %s", jinja_type(mapping));
    for (size_t i = 0; i < mapping->dict->count; i++) {
        if (mapping->dict->entries[i].key.kind != JINJA_STRING) jinja_fail(state, "keywords must be strings");
        add_keyword(state, out, mapping->dict->entries[i].key, mapping->dict->entries[i].value);
    }
}

void jinja_collect_arguments(jinja_state *state, const jinja_node *args, jinja_arguments *out)
{
    jinja_list *positional = jinja_list_new(state, 0);
    size_t      keywords = 1; /* one is left for `caller` */
    jinja_value stars = {.kind = JINJA_ABSENT};
    *out = (jinja_arguments){0};
    for (const jinja_node *node = args; node; node = node->next) {
        if (node->kind == NODE_KEYWORD) {
            keywords++;
        } else if (node->kind == NODE_STAR) {
            jinja_value value = jinja_evaluate(state, node->a);
            jinja_list *items = jinja_items(state, &value);
            for (size_t i = 0; i < items->count; i++) jinja_list_add(state, positional, items->items[i]);
        } else if (node->kind == NODE_STARS) {
            stars = jinja_evaluate(state, node->a);
            if (stars.kind == JINJA_DICT) keywords += stars.dict->count;
        } else {
            jinja_list_add(state, positional, jinja_evaluate(state, node));
        }
    }
    out->names = jinja_alloc(state, keywords, sizeof *out->names);
    out->values = jinja_alloc(state, keywords, sizeof *out->values);
    for (const jinja_node *node = args; node; node = node->next)
        if (node->kind == NODE_KEYWORD) add_keyword(state, out, node->value, jinja_evaluate(state, node->a));
    if (stars.kind != JINJA_ABSENT) add_keywords(state, out, &stars);
    out->positional = positional->items;
    out->count = positional->count;
}

/* Which parameter of "one two three" a name is; -1: none. */
static int parameter_number(const char *parameters, const jinja_value *name)
{
    for (int number = 0; *parameters; number++) {
        size_t length = strcspn(parameters, " ");
        if (length == name->length && memcmp(parameters, name->text, length) == 0) return number;
        parameters += length + (parameters[length] == ' ');
    }
    return -1;
}

static size_t parameter_count(const char *parameters)
{
    size_t count = *parameters != 0;
    for (; *parameters; parameters++) count += *parameters == ' ';
    return count;
}

jinja_value jinja_run_builtin(jinja_state *state, const jinja_builtin *builtin, const char *what, jinja_value self,
                              const jinja_arguments *arguments)
{
    jinja_value slots[JINJA_MAX_PARAMETERS] = {0};
    jinja_work(state, 1);
    if (!builtin->parameters) return builtin->run(state, self, slots, arguments);
    size_t limit = parameter_count(builtin->parameters);
    if (arguments->count > limit)
        jinja_fail(state, "%s '%s' takes at most %zu arguments, got %zu", what, builtin->name, limit, arguments->count);
    if (arguments->count) memcpy(slots, arguments->positional, arguments->count * sizeof *slots);
    for (size_t i = 0; i < arguments->keyword_count; i++) {
        const jinja_value *name = &arguments->names[i];
        int                number = parameter_number(builtin->parameters, name), length = (int)(name->length < 60 ? name->length : 60);
        if (number < 0) jinja_fail(state, "%s '%s' has no argument '%.*s'", what, builtin->name, length, name->text);
        if (slots[number].kind != JINJA_ABSENT)
            jinja_fail(state, "%s '%s' got two values for '%.*s'", what, builtin->name, length, name->text);
        slots[number] = arguments->values[i];
    }
    for (int i = 0; i < builtin->required; i++)
        if (slots[i].kind == JINJA_ABSENT) jinja_fail(state, "%s '%s' needs %d argument%s", what, builtin->name, builtin->required, builtin->required > 1 ? "s" : "");
    return builtin->run(state, self, slots, arguments);
}

jinja_value jinja_call(jinja_state *state, const jinja_value *callee, const jinja_arguments *arguments)
{
    switch (callee->kind) {
    case JINJA_FUNCTION: return jinja_run_builtin(state, callee->function, "function", jinja_none(), arguments);
    case JINJA_METHOD: return jinja_run_builtin(state, callee->method->builtin, "method", callee->method->self, arguments);
    case JINJA_MACRO: return jinja_call_macro(state, callee->macro, arguments);
    case JINJA_LOOP:
        if (arguments->count != 1 || arguments->keyword_count) jinja_fail(state, "loop(...) takes one argument");
        return jinja_recurse_loop(state, callee->loop, &arguments->positional[0]);
    default: jinja_need_defined(state, callee); jinja_fail(state, "'%s' object is not callable", jinja_type(callee));
    }
}

jinja_value jinja_apply_filter(jinja_state *state, const jinja_node *node, jinja_value subject)
{
    jinja_arguments arguments;
    jinja_enter(state);
    if (node->a) subject = node->a->kind == NODE_FILTER ? jinja_apply_filter(state, node->a, subject) : jinja_evaluate(state, node->a);
    jinja_leave(state);
    jinja_collect_arguments(state, node->args, &arguments);
    state->line = node->line;
    if (!node->builtin)
        jinja_fail(state, "unknown filter '%.*s'", (int)(node->value.length < 60 ? node->value.length : 60), node->value.text);
    return jinja_run_builtin(state, node->builtin, "filter", subject, &arguments);
}

static jinja_value apply_test(jinja_state *state, const jinja_node *node)
{
    jinja_arguments arguments;
    jinja_value     subject = jinja_evaluate(state, node->a);
    jinja_collect_arguments(state, node->args, &arguments);
    state->line = node->line;
    if (!node->builtin)
        jinja_fail(state, "unknown test '%.*s'", (int)(node->value.length < 60 ? node->value.length : 60), node->value.text);
    return jinja_run_builtin(state, node->builtin, "test", subject, &arguments);
}

static jinja_value call_node(jinja_state *state, const jinja_node *node)
{
    jinja_arguments arguments;
    jinja_value     callee = jinja_evaluate(state, node->a);
    jinja_collect_arguments(state, node->args, &arguments);
    state->line = node->line;
    return jinja_call(state, &callee, &arguments);
}

/* --- expressions --- */

static jinja_value make_list(jinja_state *state, const jinja_node *node)
{
    jinja_list *list = jinja_list_new(state, 0);
    for (const jinja_node *item = node->a; item; item = item->next) jinja_list_add(state, list, jinja_evaluate(state, item));
    return node->kind == NODE_LIST ? jinja_list_value(list) : jinja_tuple_value(list);
}

static jinja_value make_dict(jinja_state *state, const jinja_node *node)
{
    jinja_dict *dict = jinja_dict_new(state, 0);
    for (const jinja_node *key = node->a; key; key = key->next->next) {
        jinja_value name = jinja_evaluate(state, key), value = jinja_evaluate(state, key->next);
        jinja_dict_set(state, dict, name, value);
    }
    return (jinja_value){.kind = JINJA_DICT, .dict = dict};
}

static jinja_value get_index(jinja_state *state, const jinja_node *node)
{
    jinja_value object = jinja_evaluate(state, node->a), parts[3];
    if (node->b->kind != NODE_SLICE) {
        parts[0] = jinja_evaluate(state, node->b);
        state->line = node->line;
        return jinja_get_item(state, &object, &parts[0]);
    }
    parts[0] = node->b->a ? jinja_evaluate(state, node->b->a) : jinja_none();
    parts[1] = node->b->b ? jinja_evaluate(state, node->b->b) : jinja_none();
    parts[2] = node->b->c ? jinja_evaluate(state, node->b->c) : jinja_none();
    state->line = node->line;
    return jinja_get_slice(state, &object, &parts[0], &parts[1], &parts[2]);
}

static jinja_value concatenate(jinja_state *state, const jinja_node *node)
{
    jinja_value value = jinja_evaluate(state, node->a), all = jinja_str(state, &value);
    for (const jinja_node *part = node->a->next; part; part = part->next) {
        value = jinja_evaluate(state, part);
        all = jinja_concat(state, all, jinja_str(state, &value));
    }
    all.flag = 0;
    return all;
}

static jinja_value compare(jinja_state *state, const jinja_node *node)
{
    jinja_value left = jinja_evaluate(state, node->a);
    for (const jinja_node *operand = node->b; operand; operand = operand->next) {
        jinja_value right = jinja_evaluate(state, operand->a);
        state->line = node->line;
        if (!jinja_relation(state, operand->operation, &left, &right)) return jinja_bool(false);
        left = right;
    }
    return jinja_bool(true);
}

static jinja_value negate(jinja_state *state, const jinja_node *node)
{
    jinja_value value = jinja_evaluate(state, node->a);
    state->line = node->line;
    jinja_need_defined(state, &value);
    if (value.kind == JINJA_FLOAT) return jinja_float(node->kind == NODE_NEGATIVE ? -value.real : value.real);
    if (value.kind != JINJA_INT && value.kind != JINJA_BOOL)
        jinja_fail(state, "bad operand type for unary %c: '%s'", node->kind == NODE_NEGATIVE ? '-' : '+', jinja_type(&value));
    int64_t integer = value.kind == JINJA_BOOL ? (int64_t)value.boolean : value.integer;
    if (node->kind == NODE_NEGATIVE && __builtin_sub_overflow(0, integer, &integer)) jinja_fail(state, "an integer does not fit 64 bits");
    return jinja_int(integer);
}

static jinja_value choose(jinja_state *state, const jinja_node *node)
{
    jinja_value condition = jinja_evaluate(state, node->a);
    if (jinja_truth(&condition)) return jinja_evaluate(state, node->b);
    if (node->c) return jinja_evaluate(state, node->c);
    return jinja_hint("the inline if-expression evaluated to false and no else section was defined");
}

static jinja_value evaluate(jinja_state *state, const jinja_node *node)
{
    jinja_value a, b;
    switch (node->kind) {
    case NODE_CONST: return node->value;
    case NODE_NAME: return jinja_lookup(state, node->name);
    case NODE_LIST:
    case NODE_TUPLE: return make_list(state, node);
    case NODE_DICT: return make_dict(state, node);
    case NODE_ATTRIBUTE:
        a = jinja_evaluate(state, node->a);
        state->line = node->line;
        return jinja_get_attribute(state, &a, node->value);
    case NODE_ITEM: return get_index(state, node);
    case NODE_CALL: return call_node(state, node);
    case NODE_FILTER: return jinja_apply_filter(state, node, jinja_none());
    case NODE_TEST: return apply_test(state, node);
    case NODE_NOT: a = jinja_evaluate(state, node->a); return jinja_bool(!jinja_truth(&a));
    case NODE_NEGATIVE:
    case NODE_POSITIVE: return negate(state, node);
    case NODE_AND: a = jinja_evaluate(state, node->a); return jinja_truth(&a) ? jinja_evaluate(state, node->b) : a;
    case NODE_OR: a = jinja_evaluate(state, node->a); return jinja_truth(&a) ? a : jinja_evaluate(state, node->b);
    case NODE_BINARY:
        a = jinja_evaluate(state, node->a);
        b = jinja_evaluate(state, node->b);
        state->line = node->line;
        return jinja_arithmetic(state, node->operation, a, b);
    case NODE_CONCAT: return concatenate(state, node);
    case NODE_COMPARE: return compare(state, node);
    case NODE_CHOICE: return choose(state, node);
    default: jinja_fail(state, "a slice stands outside of an index");
    }
}

jinja_value jinja_evaluate(jinja_state *state, const jinja_node *node)
{
    jinja_work(state, 1);
    jinja_enter(state);
    state->line = node->line;
    jinja_value value = evaluate(state, node);
    jinja_leave(state);
    return value;
}
