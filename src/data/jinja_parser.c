/* jinja_parser.c - statements of a template to trees, and the entry points jinja_parse, jinja_free, jinja_has_generation. */
#include <stdlib.h>
#include <string.h>

#include "data/jinja_eval.h"
#include "data/jinja_text.h"

/* --- tokens --- */

jinja_token *jinja_peek(jinja_parser *parser, size_t ahead)
{
    size_t at = parser->at + ahead;
    return &parser->tokens.items[at < parser->tokens.count ? at : parser->tokens.count - 1];
}

jinja_token *jinja_take(jinja_parser *parser)
{
    jinja_token *token = jinja_peek(parser, 0);
    if (parser->at + 1 < parser->tokens.count) parser->at++;
    parser->state->line = token->line;
    return token;
}

static bool at_token(jinja_parser *parser, jinja_token_kind kind, const char *text)
{
    const jinja_token *token = jinja_peek(parser, 0);
    return token->kind == kind && jinja_is(&token->value, text);
}

bool jinja_at_operator(jinja_parser *parser, const char *text) { return at_token(parser, TOKEN_OPERATOR, text); }
bool jinja_at_name(jinja_parser *parser, const char *text) { return at_token(parser, TOKEN_NAME, text); }

bool jinja_skip_operator(jinja_parser *parser, const char *text)
{
    bool there = jinja_at_operator(parser, text);
    if (there) jinja_take(parser);
    return there;
}

bool jinja_skip_name(jinja_parser *parser, const char *text)
{
    bool there = jinja_at_name(parser, text);
    if (there) jinja_take(parser);
    return there;
}

void jinja_expect_operator(jinja_parser *parser, const char *text)
{
    char wanted[8] = {'\'', text[0], '\'', 0};
    if (!jinja_skip_operator(parser, text)) jinja_unexpected(parser, wanted);
}

jinja_value jinja_expect_name(jinja_parser *parser, const char *what)
{
    if (jinja_peek(parser, 0)->kind != TOKEN_NAME) jinja_unexpected(parser, what);
    return jinja_take(parser)->value;
}

static void expect(jinja_parser *parser, jinja_token_kind kind, const char *what)
{
    if (jinja_peek(parser, 0)->kind != kind) jinja_unexpected(parser, what);
    jinja_take(parser);
}

/* --- names --- */

static uint32_t name_hash(const jinja_value *name)
{
    uint32_t hash = 2166136261u; /* FNV-1a */
    for (size_t i = 0; i < name->length; i++) hash = (hash ^ (uint8_t)name->text[i]) * 16777619u;
    return hash;
}

static void grow_names(jinja_parser *parser)
{
    jinja_template *tmpl = parser->tmpl;
    int             capacity = parser->name_capacity ? parser->name_capacity * 2 : 64;
    jinja_value    *names = jinja_alloc(parser->state, (size_t)capacity, sizeof *names);
    if (tmpl->name_count) memcpy(names, tmpl->names, (size_t)tmpl->name_count * sizeof *names);
    tmpl->names = names;
    parser->name_capacity = capacity;
    parser->name_index_size = (size_t)capacity * 4;
    parser->name_index = jinja_alloc(parser->state, parser->name_index_size, sizeof *parser->name_index);
    for (int i = 0; i < tmpl->name_count; i++) {
        size_t slot = name_hash(&names[i]) & (parser->name_index_size - 1);
        while (parser->name_index[slot]) slot = (slot + 1) & (parser->name_index_size - 1);
        parser->name_index[slot] = (uint32_t)i + 1;
    }
}

int jinja_name_number(jinja_parser *parser, jinja_value name)
{
    jinja_template *tmpl = parser->tmpl;
    if (tmpl->name_count == parser->name_capacity) grow_names(parser);
    size_t slot = name_hash(&name) & (parser->name_index_size - 1);
    for (; parser->name_index[slot]; slot = (slot + 1) & (parser->name_index_size - 1)) {
        const jinja_value *known = &tmpl->names[parser->name_index[slot] - 1];
        if (known->length == name.length && memcmp(known->text, name.text, name.length) == 0) return (int)parser->name_index[slot] - 1;
    }
    tmpl->names[tmpl->name_count] = name;
    parser->name_index[slot] = (uint32_t)++tmpl->name_count;
    return tmpl->name_count - 1;
}

/* --- statements --- */

static jinja_node *parse_body(jinja_parser *parser, const char *const *ends);

static int tag_line(jinja_parser *parser) { return jinja_peek(parser, 0)->line; }

static void end_tag(jinja_parser *parser) { expect(parser, TOKEN_BLOCK_END, "the end of the tag, '%}'"); }

/* The body of a block up to one of the end names, which is left to be taken. A colon before the tag's end is allowed. */
static jinja_node *block_body(jinja_parser *parser, const char *const *ends)
{
    jinja_skip_operator(parser, ":");
    end_tag(parser);
    return parse_body(parser, ends);
}

static jinja_node *whole_body(jinja_parser *parser, const char *end)
{
    const char *ends[] = {end, NULL};
    jinja_node *body = block_body(parser, ends);
    jinja_take(parser);
    return body;
}

/* What Jinja makes a function or a scope of: its loops and its softness are its own. */
static jinja_node *inner_body(jinja_parser *parser, const char *end, bool function)
{
    bool soft = parser->soft;
    int  loops = parser->loops;
    parser->soft = false;
    if (function) parser->loops = 0;
    jinja_node *body = whole_body(parser, end);
    parser->soft = soft;
    parser->loops = loops;
    return body;
}

static jinja_node *parse_if(jinja_parser *parser)
{
    static const char *const ends[] = {"elif", "else", "endif", NULL};
    jinja_node              *node = jinja_node_new(parser, NODE_IF, tag_line(parser));
    bool                     soft = parser->soft;
    jinja_take(parser);
    parser->soft = true;
    node->a = jinja_parse_tuple(parser, false, NULL);
    node->body = block_body(parser, ends);
    if (jinja_at_name(parser, "elif")) {
        jinja_enter(parser->state);
        node->otherwise = parse_if(parser); /* takes elif as its own if, up to endif */
        jinja_leave(parser->state);
    } else if (jinja_skip_name(parser, "else")) {
        node->otherwise = whole_body(parser, "endif");
    } else {
        jinja_take(parser);
    }
    parser->soft = soft;
    return node;
}

static void refuse_loop_target(jinja_parser *parser, const jinja_node *target)
{
    if (target->kind == NODE_TUPLE)
        for (const jinja_node *item = target->a; item; item = item->next) refuse_loop_target(parser, item);
    else if (target->kind == NODE_NAME && target->name == parser->tmpl->loop)
        jinja_fail(parser->state, "the name `loop` cannot be assigned to in a for loop");
}

static jinja_node *parse_for(jinja_parser *parser)
{
    static const char *const ends[] = {"endfor", "else", NULL};
    jinja_node              *node = jinja_node_new(parser, NODE_FOR, tag_line(parser));
    bool                     soft = parser->soft;
    jinja_take(parser);
    node->a = jinja_parse_target(parser, "in", false);
    refuse_loop_target(parser, node->a);
    if (!jinja_skip_name(parser, "in")) jinja_unexpected(parser, "'in'");
    node->b = jinja_parse_tuple(parser, false, "recursive");
    parser->soft = false;
    if (jinja_skip_name(parser, "if")) node->c = jinja_parse_expression(parser, true);
    node->flag = jinja_skip_name(parser, "recursive");
    parser->loops++;
    node->body = block_body(parser, ends);
    parser->loops--;
    if (jinja_skip_name(parser, "else")) node->otherwise = whole_body(parser, "endfor");
    else jinja_take(parser);
    parser->soft = soft;
    return node;
}

static jinja_node *parse_set(jinja_parser *parser)
{
    jinja_node *node = jinja_node_new(parser, NODE_SET, jinja_take(parser)->line);
    node->a = jinja_parse_target(parser, NULL, true);
    if (jinja_skip_operator(parser, "=")) {
        node->b = jinja_parse_tuple(parser, true, NULL);
        return node;
    }
    node->kind = NODE_SET_BLOCK;
    node->c = jinja_parse_filters(parser, NULL, false);
    node->body = inner_body(parser, "endset", false);
    return node;
}

static jinja_node *parse_parameters(jinja_parser *parser)
{
    jinja_node *first = NULL, **next = &first;
    bool        defaults = false;
    jinja_expect_operator(parser, "(");
    while (!jinja_at_operator(parser, ")")) {
        if (first) jinja_expect_operator(parser, ",");
        int         line = tag_line(parser);
        jinja_node *parameter = jinja_node_new(parser, NODE_PARAMETER, line);
        parameter->value = jinja_expect_name(parser, "the name of a parameter");
        parameter->name = jinja_name_number(parser, parameter->value);
        if (jinja_skip_operator(parser, "=")) {
            parameter->a = jinja_parse_expression(parser, true);
            defaults = true;
        } else if (defaults) {
            jinja_fail(parser->state, "a parameter without default follows one with a default");
        }
        *next = parameter;
        next = &parameter->next;
    }
    jinja_expect_operator(parser, ")");
    return first;
}

/* The body of a macro, and which special names it reads, functions inside it included. A parameter of that name is an
 * ordinary one; `caller` must then have a default. */
static void function_body(jinja_parser *parser, jinja_node *node, const char *end)
{
    int special = parser->special;
    parser->special = 0;
    node->body = inner_body(parser, end, true);
    node->flag = parser->special;
    parser->special |= special;
    for (const jinja_node *parameter = node->args; parameter; parameter = parameter->next) {
        if (jinja_is(&parameter->value, "varargs")) node->flag &= ~JINJA_TAKES_VARARGS;
        if (jinja_is(&parameter->value, "kwargs")) node->flag &= ~JINJA_TAKES_KWARGS;
        if (!jinja_is(&parameter->value, "caller")) continue;
        parser->state->line = parameter->line;
        if (!parameter->a) jinja_fail(parser->state, "a parameter 'caller' needs a default");
        node->flag &= ~JINJA_TAKES_CALLER;
    }
}

static jinja_node *parse_macro(jinja_parser *parser)
{
    jinja_node *node = jinja_node_new(parser, NODE_MACRO, jinja_take(parser)->line);
    node->name = jinja_name_number(parser, jinja_expect_name(parser, "the name of the macro"));
    node->args = parse_parameters(parser);
    function_body(parser, node, "endmacro");
    return node;
}

static jinja_node *parse_call_block(jinja_parser *parser)
{
    jinja_node *node = jinja_node_new(parser, NODE_CALL_BLOCK, jinja_take(parser)->line);
    if (jinja_at_operator(parser, "(")) node->args = parse_parameters(parser);
    node->a = jinja_parse_expression(parser, true);
    if (node->a->kind != NODE_CALL) jinja_fail(parser->state, "a call block needs a call");
    function_body(parser, node, "endcall");
    return node;
}

static jinja_node *parse_filter_block(jinja_parser *parser)
{
    jinja_node *node = jinja_node_new(parser, NODE_FILTER_BLOCK, jinja_take(parser)->line);
    node->a = jinja_parse_filters(parser, NULL, true);
    node->body = inner_body(parser, "endfilter", false);
    return node;
}

static jinja_node *parse_with(jinja_parser *parser)
{
    jinja_node *node = jinja_node_new(parser, NODE_WITH, jinja_take(parser)->line), **next = &node->args;
    while (jinja_peek(parser, 0)->kind != TOKEN_BLOCK_END && !jinja_at_operator(parser, ":")) {
        if (node->args) jinja_expect_operator(parser, ",");
        jinja_node *set = jinja_node_new(parser, NODE_SET, tag_line(parser));
        set->a = jinja_parse_target(parser, NULL, false);
        jinja_expect_operator(parser, "=");
        set->b = jinja_parse_expression(parser, true);
        *next = set;
        next = &set->next;
    }
    node->body = inner_body(parser, "endwith", false);
    return node;
}

static jinja_node *parse_generation(jinja_parser *parser)
{
    jinja_node *node = jinja_node_new(parser, NODE_GENERATION, jinja_take(parser)->line);
    parser->tmpl->generation = true;
    node->body = inner_body(parser, "endgeneration", true);
    return node;
}

static jinja_node *parse_jump(jinja_parser *parser, jinja_node_kind kind)
{
    jinja_node *node = jinja_node_new(parser, kind, jinja_take(parser)->line);
    if (!parser->loops) jinja_fail(parser->state, "'%s' outside of a for loop", kind == NODE_BREAK ? "break" : "continue");
    return node;
}

static jinja_node *parse_statement(jinja_parser *parser)
{
    if (jinja_at_name(parser, "if")) return parse_if(parser);
    if (jinja_at_name(parser, "for")) return parse_for(parser);
    if (jinja_at_name(parser, "set")) return parse_set(parser);
    if (jinja_at_name(parser, "macro")) return parse_macro(parser);
    if (jinja_at_name(parser, "call")) return parse_call_block(parser);
    if (jinja_at_name(parser, "filter")) return parse_filter_block(parser);
    if (jinja_at_name(parser, "with")) return parse_with(parser);
    if (jinja_at_name(parser, "generation")) return parse_generation(parser);
    if (jinja_at_name(parser, "break")) return parse_jump(parser, NODE_BREAK);
    if (jinja_at_name(parser, "continue")) return parse_jump(parser, NODE_CONTINUE);
    jinja_value name = jinja_expect_name(parser, "the name of a tag");
    int         length = (int)(name.length < 60 ? name.length : 60);
    if (jinja_is(&name, "include") || jinja_is(&name, "import") || jinja_is(&name, "from") || jinja_is(&name, "extends") ||
        jinja_is(&name, "block"))
        jinja_fail(parser->state, "tag '%.*s': a chat template stands alone, it has no other templates to use", length, name.text);
    jinja_fail(parser->state, "unknown tag '%.*s'", length, name.text);
}

static bool at_end(jinja_parser *parser, const char *const *ends)
{
    for (; ends && *ends; ends++)
        if (jinja_at_name(parser, *ends)) return true;
    return false;
}

/* Text, prints and statements up to an end name inside a tag (not taken), or the end of the template. */
static jinja_node *parse_body(jinja_parser *parser, const char *const *ends)
{
    jinja_node *first = NULL, **next = &first;
    int         line = parser->state->line;
    jinja_enter(parser->state);
    for (;;) {
        jinja_token *token = jinja_take(parser);
        jinja_node  *node;
        if (token->kind == TOKEN_END) {
            if (!ends) break;
            parser->state->line = line;
            jinja_fail(parser->state, "a block that begins here has no '%s'", ends[1] && ends[2] ? ends[2] : ends[0]);
        } else if (token->kind == TOKEN_TEXT) {
            node = jinja_node_new(parser, NODE_TEXT, token->line);
            node->value = token->value;
        } else if (token->kind == TOKEN_PRINT_BEGIN) {
            node = jinja_node_new(parser, NODE_PRINT, token->line);
            node->a = jinja_parse_tuple(parser, true, NULL);
            expect(parser, TOKEN_PRINT_END, "the end of the tag, '}}'");
        } else {
            if (at_end(parser, ends)) break;
            node = parse_statement(parser);
            end_tag(parser);
        }
        *next = node;
        next = &node->next;
    }
    jinja_leave(parser->state);
    return first;
}

jinja_node *jinja_parse_template(jinja_parser *parser)
{
    parser->tmpl->loop = jinja_name_number(parser, jinja_static("loop"));
    parser->tmpl->caller = jinja_name_number(parser, jinja_static("caller"));
    parser->tmpl->varargs = jinja_name_number(parser, jinja_static("varargs"));
    parser->tmpl->kwargs = jinja_name_number(parser, jinja_static("kwargs"));
    jinja_node *body = parse_body(parser, NULL);
    if (parser->unknown) {
        const jinja_node *node = parser->unknown;
        parser->state->line = node->line;
        jinja_fail(parser->state, "unknown %s '%.*s'", node->kind == NODE_FILTER ? "filter" : "test",
                   (int)(node->value.length < 60 ? node->value.length : 60), node->value.text);
    }
    return body;
}

/* --- entry points --- */

typedef struct parse_job { /* on the heap: it changes between setjmp and longjmp */
    jinja_state  state;
    jinja_parser parser;
} parse_job;

static bool run_job(parse_job *job, jinja_template *tmpl, const char *text, size_t length)
{
    job->parser = (jinja_parser){.state = &job->state, .tmpl = tmpl};
    if (setjmp(job->state.exit)) {
        jinja_arena_free(job->state.chunks);
        return false;
    }
    job->parser.tokens = jinja_lex(&job->state, text, length);
    job->state.line = 1;
    tmpl->body = jinja_parse_template(&job->parser);
    tmpl->chunks = job->state.chunks;
    return true;
}

jinja_template *jinja_parse(crank_context *context, const char *text, size_t length, const char *name)
{
    size_t valid = jinja_valid_utf8(text, length);
    if (valid < length) {
        crank_fail(context, CRANK_BAD_DATA, "%s: the template is not valid UTF-8 at byte %zu", name, valid);
        return NULL;
    }
    parse_job      *job = crank_alloc(context, 1, sizeof *job, "reading a chat template");
    jinja_template *tmpl = job ? crank_alloc(context, 1, sizeof *tmpl, "a chat template") : NULL;
    char           *copy = tmpl ? crank_strdup(context, name) : NULL;
    bool            done = false;
    if (copy) {
        job->state = (jinja_state){.context = context, .name = copy, .line = 1};
        tmpl->name = copy;
        done = run_job(job, tmpl, text, length);
    }
    crank_free(job);
    if (done) return tmpl;
    crank_free(copy);
    crank_free(tmpl);
    return NULL;
}

void jinja_free(jinja_template *tmpl)
{
    if (!tmpl) return;
    jinja_arena_free(tmpl->chunks);
    crank_free(tmpl->name);
    crank_free(tmpl);
}

bool jinja_has_generation(const jinja_template *tmpl) { return tmpl->generation; }
