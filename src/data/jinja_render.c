/* jinja_render.c - statements run: text written, loops, assignments, macros, blocks; and the entry point jinja_render. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "data/jinja_loop.h"
#include "data/jinja_text.h"

typedef enum jump { GO_ON, BREAK, CONTINUE } jump;

static jump run(jinja_state *state, const jinja_node *body);

static void write_text(jinja_state *state, jinja_value text)
{
    if (text.length > JINJA_MAX_OUTPUT - state->written)
        jinja_fail(state, "the template makes more than %zu MiB of text", JINJA_MAX_OUTPUT >> 20);
    state->written += text.length;
    jinja_append(state, state->output, text.text, text.length);
}

/* Runs a body into a text of its own, in a scope of its own; *jumped: a break or continue inside. */
static jinja_value capture(jinja_state *state, const jinja_node *body, jinja_scope *parent, jump *jumped)
{
    jinja_buffer  text = {0}, *output = state->output;
    jinja_scope  *scope = state->scope;
    jinja_scope_push(state, parent);
    state->output = &text;
    state->captures++;
    *jumped = run(state, body);
    state->captures--;
    state->output = output;
    state->scope = scope;
    return jinja_finish(&text);
}

/* --- assignment --- */

static void assign_member(jinja_state *state, const jinja_node *target, jinja_value value)
{
    jinja_value object = jinja_lookup(state, target->name);
    if (object.kind != JINJA_NAMESPACE) jinja_fail(state, "cannot assign attribute on non-namespace object");
    if (target->value.text[0] == '_')
        jinja_fail(state, "a namespace has no attributes that begin with an underscore: '%.*s'", (int)target->value.length, target->value.text);
    jinja_dict_set(state, object.dict, target->value, value);
}

void jinja_assign(jinja_state *state, jinja_scope *scope, const jinja_node *target, jinja_value value)
{
    if (target->kind == NODE_NAME) {
        jinja_scope_set(state, scope, target->name, value);
    } else if (target->kind == NODE_MEMBER) {
        assign_member(state, target, value);
    } else {
        jinja_list *items = jinja_items(state, &value);
        size_t      wanted = 0;
        for (const jinja_node *item = target->a; item; item = item->next) wanted++;
        if (items->count < wanted) jinja_fail(state, "not enough values to unpack (expected %zu, got %zu)", wanted, items->count);
        if (items->count > wanted) jinja_fail(state, "too many values to unpack (expected %zu)", wanted);
        size_t i = 0;
        for (const jinja_node *item = target->a; item; item = item->next) jinja_assign(state, scope, item, items->items[i++]);
    }
}

/* --- loops --- */

static jump run_loop(jinja_state *state, jinja_loop *loop)
{
    const jinja_node *node = loop->node;
    jinja_scope      *scope = jinja_scope_push(state, loop->scope);
    jinja_value       self = {.kind = JINJA_LOOP, .loop = loop};
    bool              empty = true;
    for (state->scope = loop->scope; jinja_loop_advance(state, loop); state->scope = loop->scope) {
        scope->count = 0;
        state->scope = scope;
        state->line = node->line;
        jinja_scope_set(state, scope, state->tmpl->loop, self);
        jinja_assign(state, scope, node->a, loop->current);
        jump jumped = run(state, node->body);
        if (jumped == GO_ON) empty = false; /* Jinja's mark is cleared at the end of the body only: not by a break */
        if (jumped == BREAK) break;
    }
    state->scope = loop->scope;
    jump jumped = GO_ON;
    if (empty && node->otherwise) {
        jinja_scope_push(state, loop->scope);
        jumped = run(state, node->otherwise);
        state->scope = loop->scope;
    }
    return jumped;
}

static jump run_for(jinja_state *state, const jinja_node *node)
{
    jinja_value  items = jinja_evaluate(state, node->b);
    jinja_scope *scope = state->scope;
    state->line = node->line;
    jump jumped = run_loop(state, jinja_loop_new(state, node, scope, &items, 0));
    state->scope = scope;
    return jumped;
}

jinja_value jinja_recurse_loop(jinja_state *state, jinja_loop *loop, const jinja_value *items)
{
    if (!loop->node->flag) jinja_fail(state, "the loop must have the 'recursive' marker to be called");
    jinja_buffer text = {0}, *output = state->output;
    jinja_scope *scope = state->scope;
    jinja_enter(state);
    state->output = &text;
    state->captures++;
    run_loop(state, jinja_loop_new(state, loop->node, loop->scope, items, loop->depth0 + 1));
    state->captures--;
    state->output = output;
    state->scope = scope;
    jinja_leave(state);
    return jinja_finish(&text);
}

/* --- macros --- */

static jinja_value take_keyword(jinja_arguments *arguments, jinja_value name)
{
    for (size_t i = 0; i < arguments->keyword_count; i++) {
        if (arguments->names[i].length != name.length || memcmp(arguments->names[i].text, name.text, name.length) != 0) continue;
        jinja_value value = arguments->values[i];
        arguments->keyword_count--;
        memmove(&arguments->names[i], &arguments->names[i + 1], (arguments->keyword_count - i) * sizeof name);
        memmove(&arguments->values[i], &arguments->values[i + 1], (arguments->keyword_count - i) * sizeof name);
        return value;
    }
    return (jinja_value){.kind = JINJA_ABSENT};
}

static void bind_parameters(jinja_state *state, const jinja_node *node, jinja_arguments *arguments, jinja_scope *scope)
{
    size_t used = 0;
    for (const jinja_node *parameter = node->args; parameter; parameter = parameter->next) {
        jinja_value value = used < arguments->count ? arguments->positional[used] : take_keyword(arguments, parameter->value);
        used++;
        if (value.kind == JINJA_ABSENT && parameter->a) value = jinja_evaluate(state, parameter->a);
        if (value.kind == JINJA_ABSENT) {
            jinja_buffer hint = {0};
            jinja_append_format(state, &hint, "parameter '%.*s' was not provided", (int)parameter->value.length, parameter->value.text);
            value = jinja_finish(&hint);
            value.kind = JINJA_UNDEFINED;
            value.flag = JINJA_HINT;
        }
        jinja_scope_set(state, scope, parameter->name, value);
    }
    if (node->flag & JINJA_TAKES_CALLER) {
        jinja_value caller = take_keyword(arguments, jinja_static("caller"));
        if (caller.kind == JINJA_ABSENT) caller = jinja_hint("No caller defined");
        jinja_scope_set(state, scope, state->tmpl->caller, caller);
    }
    if (node->flag & JINJA_TAKES_VARARGS) {
        jinja_list *rest = jinja_list_new(state, 0);
        for (; used < arguments->count; used++) jinja_list_add(state, rest, arguments->positional[used]);
        jinja_scope_set(state, scope, state->tmpl->varargs, jinja_tuple_value(rest));
    }
    if (node->flag & JINJA_TAKES_KWARGS) {
        jinja_dict *rest = jinja_dict_new(state, 0);
        for (size_t i = 0; i < arguments->keyword_count; i++) jinja_dict_set(state, rest, arguments->names[i], arguments->values[i]);
        arguments->keyword_count = 0;
        jinja_scope_set(state, scope, state->tmpl->kwargs, (jinja_value){.kind = JINJA_DICT, .dict = rest});
    }
    if (used < arguments->count) jinja_fail(state, "the macro takes not more than %zu argument(s)", used);
    if (arguments->keyword_count)
        jinja_fail(state, "the macro takes no keyword argument '%.*s'",
                   (int)(arguments->names[0].length < 60 ? arguments->names[0].length : 60), arguments->names[0].text);
}

jinja_value jinja_call_macro(jinja_state *state, jinja_macro *macro, const jinja_arguments *arguments)
{
    jinja_scope    *saved = state->scope, *scope = jinja_scope_push(state, macro->scope);
    jinja_arguments rest = *arguments;
    jump            jumped;
    rest.names = jinja_alloc(state, rest.keyword_count + 1, sizeof *rest.names);
    rest.values = jinja_alloc(state, rest.keyword_count + 1, sizeof *rest.values);
    if (rest.keyword_count) {
        memcpy(rest.names, arguments->names, rest.keyword_count * sizeof *rest.names);
        memcpy(rest.values, arguments->values, rest.keyword_count * sizeof *rest.values);
    }
    jinja_enter(state);
    bind_parameters(state, macro->node, &rest, scope);
    jinja_value text = capture(state, macro->node->body, scope, &jumped);
    jinja_leave(state);
    state->scope = saved;
    return text;
}

static jinja_value make_macro(jinja_state *state, const jinja_node *node)
{
    jinja_macro *macro = jinja_alloc(state, 1, sizeof *macro);
    *macro = (jinja_macro){node, state->scope};
    return (jinja_value){.kind = JINJA_MACRO, .macro = macro};
}

static void run_call_block(jinja_state *state, const jinja_node *node)
{
    jinja_arguments arguments;
    jinja_value     callee = jinja_evaluate(state, node->a->a);
    jinja_collect_arguments(state, node->a->args, &arguments);
    arguments.names[arguments.keyword_count] = jinja_static("caller");
    arguments.values[arguments.keyword_count++] = make_macro(state, node);
    state->line = node->line;
    jinja_value result = jinja_call(state, &callee, &arguments);
    write_text(state, jinja_str(state, &result));
}

/* --- other statements --- */

static jump run_with(jinja_state *state, const jinja_node *node)
{
    jinja_scope *outer = state->scope, *scope = jinja_scope_push(state, outer);
    for (const jinja_node *set = node->args; set; set = set->next) {
        state->scope = outer;
        jinja_assign(state, scope, set->a, jinja_evaluate(state, set->b));
    }
    state->scope = scope;
    jump jumped = run(state, node->body);
    state->scope = outer;
    return jumped;
}

static void run_generation(jinja_state *state, const jinja_node *node)
{
    jinja_scope *outer = state->scope;
    size_t       start = state->output->length;
    if (state->spans && state->captures)
        jinja_fail(state, "{%% generation %%} stands inside a macro, a filter or a set block, where its place in the text is unknown");
    jinja_scope_push(state, outer);
    run(state, node->body);
    state->scope = outer;
    if (!state->spans) return;
    jinja_list_add(state, state->spans, jinja_int((int64_t)start));
    jinja_list_add(state, state->spans, jinja_int((int64_t)state->output->length));
}

static jump run_captured(jinja_state *state, const jinja_node *node) /* SET_BLOCK, FILTER_BLOCK */
{
    jump        jumped;
    jinja_value text = capture(state, node->body, state->scope, &jumped);
    if (jumped != GO_ON) return jumped;
    const jinja_node *filters = node->kind == NODE_SET_BLOCK ? node->c : node->a;
    if (filters) text = jinja_apply_filter(state, filters, text);
    if (node->kind == NODE_SET_BLOCK) jinja_assign(state, state->scope, node->a, text);
    else write_text(state, jinja_str(state, &text));
    return GO_ON;
}

static jump run_one(jinja_state *state, const jinja_node *node)
{
    jinja_value value;
    state->line = node->line;
    switch (node->kind) {
    case NODE_TEXT: write_text(state, node->value); return GO_ON;
    case NODE_PRINT:
        value = jinja_evaluate(state, node->a);
        write_text(state, jinja_str(state, &value));
        return GO_ON;
    case NODE_IF:
        value = jinja_evaluate(state, node->a);
        return run(state, jinja_truth(&value) ? node->body : node->otherwise);
    case NODE_FOR: return run_for(state, node);
    case NODE_SET:
        value = jinja_evaluate(state, node->b);
        state->line = node->line;
        jinja_assign(state, state->scope, node->a, value);
        return GO_ON;
    case NODE_SET_BLOCK:
    case NODE_FILTER_BLOCK: return run_captured(state, node);
    case NODE_MACRO: jinja_scope_set(state, state->scope, node->name, make_macro(state, node)); return GO_ON;
    case NODE_CALL_BLOCK: run_call_block(state, node); return GO_ON;
    case NODE_WITH: return run_with(state, node);
    case NODE_BREAK: return BREAK;
    case NODE_CONTINUE: return CONTINUE;
    case NODE_GENERATION: run_generation(state, node); return GO_ON;
    default: jinja_fail(state, "an expression stands where a statement is expected");
    }
}

static jump run(jinja_state *state, const jinja_node *body)
{
    jump jumped = GO_ON;
    jinja_enter(state);
    for (; body && jumped == GO_ON; body = body->next) {
        jinja_work(state, 1);
        jumped = run_one(state, body);
    }
    jinja_leave(state);
    return jumped;
}

/* --- entry point --- */

typedef struct render_job { /* on the heap: it changes between setjmp and longjmp */
    jinja_state  state;
    jinja_buffer output;
} render_job;

static bool run_job(render_job *job, const json_t *variables, bool want_spans)
{
    jinja_state *state = &job->state;
    if (setjmp(state->exit)) return false;
    if (!json_is_object(variables)) jinja_fail(state, "the variables of a template must be a JSON object");
    state->variables = jinja_from_json(state, variables).dict;
    if (want_spans) state->spans = jinja_list_new(state, 0);
    jinja_scope_push(state, NULL);
    run(state, state->tmpl->body);
    return true;
}

static bool copy_spans(crank_context *context, const jinja_list *list, jinja_spans *spans)
{
    *spans = (jinja_spans){crank_alloc(context, list->count + 1, sizeof *spans->ranges, "the spans of a chat"), list->count / 2};
    if (!spans->ranges) return false;
    for (size_t i = 0; i < list->count; i++) spans->ranges[i] = (size_t)list->items[i].integer;
    return true;
}

char *jinja_render(crank_context *context, const jinja_template *tmpl, const json_t *variables, int64_t now,
                   jinja_spans *spans, size_t *length)
{
    render_job *job = crank_alloc(context, 1, sizeof *job, "rendering a chat template");
    char       *text = NULL;
    if (!job) return NULL;
    job->state = (jinja_state){.context = context, .name = tmpl->name, .line = 1, .tmpl = tmpl, .output = &job->output,
                               .now = now == -1 ? (int64_t)time(NULL) : now};
    if (run_job(job, variables, spans != NULL)) text = crank_alloc(context, job->output.length + 1, 1, "a rendered chat");
    if (text && job->output.length) memcpy(text, job->output.text, job->output.length);
    if (text && length) *length = job->output.length;
    if (text && spans && !copy_spans(context, job->state.spans, spans)) {
        crank_free(text);
        text = NULL;
    }
    jinja_arena_free(job->state.chunks);
    crank_free(job);
    return text;
}
