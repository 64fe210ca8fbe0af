/* jinja_expression.c - expressions of a template to trees, with Jinja's precedence, loosest first:
 * a if b else c; or; and; not; comparisons, in, not in; + -; ~; * / // %; ** (to the left, unlike Python); unary;
 * then .name [index] (call) |filter and `is` test. */
#include <stdlib.h>
#include <string.h>

#include "data/jinja_eval.h"

_Noreturn void jinja_unexpected(jinja_parser *parser, const char *wanted)
{
    const jinja_token *token = jinja_peek(parser, 0);
    parser->state->line = token->line;
    int length = token->kind >= TOKEN_NAME && token->value.kind == JINJA_STRING && token->value.length < 60 ? (int)token->value.length : 0;
    if (token->kind == TOKEN_END) jinja_fail(parser->state, "the template ends where %s is expected", wanted);
    if (token->kind == TOKEN_BLOCK_END || token->kind == TOKEN_PRINT_END)
        jinja_fail(parser->state, "expected %s before the end of the tag", wanted);
    jinja_fail(parser->state, "expected %s, got '%.*s'", wanted, length, length ? token->value.text : "");
}

jinja_node *jinja_node_new(jinja_parser *parser, jinja_node_kind kind, int line)
{
    jinja_node *node = jinja_alloc(parser->state, 1, sizeof *node);
    node->kind = kind;
    node->line = line;
    return node;
}

static jinja_node *pair(jinja_parser *parser, jinja_node_kind kind, int line, jinja_node *a, jinja_node *b)
{
    jinja_node *node = jinja_node_new(parser, kind, line);
    node->a = a;
    node->b = b;
    return node;
}

static int here(jinja_parser *parser) { return jinja_peek(parser, 0)->line; }

static jinja_node *constant(jinja_parser *parser, int line, jinja_value value)
{
    jinja_node *node = jinja_node_new(parser, NODE_CONST, line);
    node->value = value;
    return node;
}

static jinja_node *named(jinja_parser *parser, const jinja_token *token)
{
    jinja_node *node = jinja_node_new(parser, NODE_NAME, token->line);
    node->value = token->value;
    node->name = jinja_name_number(parser, token->value);
    parser->special |= jinja_is(&token->value, "caller")    ? JINJA_TAKES_CALLER
                       : jinja_is(&token->value, "varargs") ? JINJA_TAKES_VARARGS
                       : jinja_is(&token->value, "kwargs")  ? JINJA_TAKES_KWARGS
                                                            : 0;
    return node;
}

static bool is_tuple_end(jinja_parser *parser, const char *end)
{
    const jinja_token *token = jinja_peek(parser, 0);
    return token->kind == TOKEN_PRINT_END || token->kind == TOKEN_BLOCK_END || jinja_at_operator(parser, ")") ||
           (end && jinja_at_name(parser, end));
}

static jinja_node *parse_primary(jinja_parser *parser, bool with_member);

/* Items separated by commas; one without a comma is that item. */
static jinja_node *tuple_of(jinja_parser *parser, bool targets, bool with_member, bool with_choice, const char *end, bool parenthesised)
{
    int         line = here(parser);
    jinja_node *first = NULL, **next = &first;
    bool        is_tuple = false;
    for (;;) {
        if (first) jinja_expect_operator(parser, ",");
        if (is_tuple_end(parser, end)) break;
        *next = targets ? parse_primary(parser, with_member) : jinja_parse_expression(parser, with_choice);
        next = &(*next)->next;
        if (!jinja_at_operator(parser, ",")) break;
        is_tuple = true;
    }
    if (!is_tuple && first) return first;
    if (!is_tuple && !parenthesised) jinja_unexpected(parser, "an expression");
    return pair(parser, NODE_TUPLE, line, first, NULL);
}

jinja_node *jinja_parse_tuple(jinja_parser *parser, bool with_choice, const char *end)
{
    return tuple_of(parser, false, false, with_choice, end, false);
}

static void check_target(jinja_parser *parser, const jinja_node *node)
{
    parser->state->line = node->line;
    if (node->kind == NODE_TUPLE)
        for (const jinja_node *item = node->a; item; item = item->next) check_target(parser, item);
    else if (node->kind != NODE_NAME && node->kind != NODE_MEMBER)
        jinja_fail(parser->state, "this cannot be assigned to");
}

jinja_node *jinja_parse_target(jinja_parser *parser, const char *end, bool with_member)
{
    jinja_node *target = tuple_of(parser, true, with_member, false, end, false);
    check_target(parser, target);
    return target;
}

static jinja_node *parse_list(jinja_parser *parser)
{
    jinja_node *node = jinja_node_new(parser, NODE_LIST, jinja_take(parser)->line), **next = &node->a;
    while (!jinja_at_operator(parser, "]")) {
        if (node->a) jinja_expect_operator(parser, ",");
        if (jinja_at_operator(parser, "]")) break;
        *next = jinja_parse_expression(parser, true);
        next = &(*next)->next;
    }
    jinja_expect_operator(parser, "]");
    return node;
}

static jinja_node *parse_dict(jinja_parser *parser)
{
    jinja_node *node = jinja_node_new(parser, NODE_DICT, jinja_take(parser)->line), **next = &node->a;
    while (!jinja_at_operator(parser, "}")) {
        if (node->a) jinja_expect_operator(parser, ",");
        if (jinja_at_operator(parser, "}")) break;
        *next = jinja_parse_expression(parser, true);
        jinja_expect_operator(parser, ":");
        (*next)->next = jinja_parse_expression(parser, true);
        next = &(*next)->next->next;
    }
    jinja_expect_operator(parser, "}");
    return node;
}

static jinja_node *parse_name(jinja_parser *parser, bool with_member)
{
    const jinja_token *token = jinja_take(parser);
    const jinja_value *name = &token->value;
    if (jinja_is(name, "true") || jinja_is(name, "True")) return constant(parser, token->line, jinja_bool(true));
    if (jinja_is(name, "false") || jinja_is(name, "False")) return constant(parser, token->line, jinja_bool(false));
    if (jinja_is(name, "none") || jinja_is(name, "None")) return constant(parser, token->line, jinja_none());
    jinja_node *node = named(parser, token);
    if (with_member && jinja_skip_operator(parser, ".")) {
        node->kind = NODE_MEMBER;
        node->value = jinja_expect_name(parser, "the name of a namespace's attribute");
    }
    return node;
}

static jinja_node *parse_strings(jinja_parser *parser) /* "a" 'b' is "ab" */
{
    const jinja_token *token = jinja_take(parser);
    jinja_value        text = token->value;
    if (jinja_peek(parser, 0)->kind == TOKEN_STRING) {
        jinja_buffer all = {0};
        jinja_append(parser->state, &all, text.text, text.length);
        while (jinja_peek(parser, 0)->kind == TOKEN_STRING) {
            jinja_value more = jinja_take(parser)->value;
            jinja_append(parser->state, &all, more.text, more.length);
        }
        text = jinja_finish(&all);
    }
    return constant(parser, token->line, text);
}

static jinja_node *parse_primary(jinja_parser *parser, bool with_member)
{
    jinja_token *token = jinja_peek(parser, 0);
    jinja_node  *node;
    switch (token->kind) {
    case TOKEN_NAME: return parse_name(parser, with_member);
    case TOKEN_STRING: return parse_strings(parser);
    case TOKEN_INTEGER:
    case TOKEN_FLOAT: return constant(parser, token->line, jinja_take(parser)->value);
    default: break;
    }
    jinja_enter(parser->state);
    if (jinja_skip_operator(parser, "(")) {
        node = tuple_of(parser, false, false, true, NULL, true);
        jinja_expect_operator(parser, ")");
    } else if (jinja_at_operator(parser, "[")) {
        node = parse_list(parser);
    } else if (jinja_at_operator(parser, "{")) {
        node = parse_dict(parser);
    } else {
        jinja_unexpected(parser, "an expression");
    }
    jinja_leave(parser->state);
    return node;
}

/* [i], [a:b], [a:b:c]; several by commas are a tuple. */
static jinja_node *parse_subscript(jinja_parser *parser)
{
    int         line = here(parser);
    jinja_node *start = NULL, *stop = NULL, *step = NULL;
    if (!jinja_at_operator(parser, ":")) start = jinja_parse_expression(parser, true);
    if (!jinja_skip_operator(parser, ":")) return start;
    if (!jinja_at_operator(parser, ":") && !jinja_at_operator(parser, "]") && !jinja_at_operator(parser, ","))
        stop = jinja_parse_expression(parser, true);
    if (jinja_skip_operator(parser, ":") && !jinja_at_operator(parser, "]") && !jinja_at_operator(parser, ","))
        step = jinja_parse_expression(parser, true);
    jinja_node *node = pair(parser, NODE_SLICE, line, start, stop);
    node->c = step;
    return node;
}

static jinja_node *parse_index(jinja_parser *parser, jinja_node *object)
{
    int         line = jinja_take(parser)->line;
    jinja_node *first = NULL, **next = &first;
    while (!jinja_at_operator(parser, "]")) {
        if (first) jinja_expect_operator(parser, ",");
        *next = parse_subscript(parser);
        next = &(*next)->next;
    }
    if (!first || first->next) first = pair(parser, NODE_TUPLE, line, first, NULL);
    jinja_expect_operator(parser, "]");
    return pair(parser, NODE_ITEM, line, object, first);
}

static jinja_node *parse_dot(jinja_parser *parser, jinja_node *object)
{
    int                line = jinja_take(parser)->line;
    const jinja_token *token = jinja_peek(parser, 0);
    if (token->kind == TOKEN_INTEGER)
        return pair(parser, NODE_ITEM, line, object, constant(parser, line, jinja_take(parser)->value));
    jinja_node *node = pair(parser, NODE_ATTRIBUTE, line, object, NULL);
    node->value = jinja_expect_name(parser, "the name of an attribute");
    return node;
}

static jinja_node *parse_arguments(jinja_parser *parser)
{
    jinja_node *first = NULL, **next = &first;
    int         stage = 0; /* positional, keywords, *, **: an earlier one may not follow a later one */
    jinja_expect_operator(parser, "(");
    while (!jinja_at_operator(parser, ")")) {
        if (first) jinja_expect_operator(parser, ",");
        if (jinja_at_operator(parser, ")")) break;
        int line = here(parser), wanted = 0;
        if (jinja_skip_operator(parser, "*")) wanted = 2;
        else if (jinja_skip_operator(parser, "**")) wanted = 3;
        else if (jinja_peek(parser, 0)->kind == TOKEN_NAME && jinja_peek(parser, 1)->kind == TOKEN_OPERATOR &&
                 jinja_is(&jinja_peek(parser, 1)->value, "="))
            wanted = 1;
        if (wanted < stage && !(wanted == 1 && stage == 2)) jinja_fail(parser->state, "arguments of a call are out of order");
        if (wanted >= 2 && wanted == stage) jinja_fail(parser->state, "a call has two * or ** arguments");
        if (wanted > stage) stage = wanted;
        jinja_node *node = NULL;
        if (wanted) {
            node = jinja_node_new(parser, wanted == 1 ? NODE_KEYWORD : wanted == 2 ? NODE_STAR : NODE_STARS, line);
            if (wanted == 1) {
                node->value = jinja_take(parser)->value;
                jinja_take(parser);
            }
            node->a = jinja_parse_expression(parser, true);
        } else {
            node = jinja_parse_expression(parser, true);
        }
        *next = node;
        next = &node->next;
    }
    jinja_expect_operator(parser, ")");
    return first;
}

static jinja_node *parse_call(jinja_parser *parser, jinja_node *callee)
{
    jinja_node *node = pair(parser, NODE_CALL, here(parser), callee, NULL);
    node->args = parse_arguments(parser);
    return node;
}

static jinja_node *parse_postfix(jinja_parser *parser, jinja_node *node)
{
    for (;;) {
        if (jinja_at_operator(parser, ".")) node = parse_dot(parser, node);
        else if (jinja_at_operator(parser, "[")) node = parse_index(parser, node);
        else if (jinja_at_operator(parser, "(")) node = parse_call(parser, node);
        else return node;
    }
}

/* An unknown filter or test is told at the end of parsing; inside an if (statement or expression) only when it runs, as in
 * Jinja: templates probe for engines this way. */
static void need_known(jinja_parser *parser, const jinja_node *node)
{
    if (!node->builtin && !parser->soft && !parser->unknown) parser->unknown = node;
}

jinja_node *jinja_parse_filters(jinja_parser *parser, jinja_node *subject, bool inline_first)
{
    while (inline_first || jinja_skip_operator(parser, "|")) {
        jinja_node *node = pair(parser, NODE_FILTER, here(parser), subject, NULL);
        node->value = jinja_expect_name(parser, "the name of a filter");
        node->builtin = jinja_find_filter(node->value);
        need_known(parser, node);
        if (jinja_at_operator(parser, "(")) node->args = parse_arguments(parser);
        subject = node;
        inline_first = false;
    }
    return subject;
}

/* `is name`, `is name arg`, `is name(args)`, each with not. */
static jinja_node *parse_test(jinja_parser *parser, jinja_node *subject)
{
    int         line = jinja_take(parser)->line;
    bool        negated = jinja_skip_name(parser, "not");
    jinja_node *node = pair(parser, NODE_TEST, line, subject, NULL);
    node->value = jinja_expect_name(parser, "the name of a test");
    node->builtin = jinja_find_test(node->value);
    need_known(parser, node);
    const jinja_token *token = jinja_peek(parser, 0);
    bool starts_value = (token->kind >= TOKEN_NAME && token->kind <= TOKEN_FLOAT) || jinja_at_operator(parser, "[") || jinja_at_operator(parser, "{");
    if (jinja_at_operator(parser, "(")) {
        node->args = parse_arguments(parser);
    } else if (starts_value && !jinja_at_name(parser, "else") && !jinja_at_name(parser, "or") && !jinja_at_name(parser, "and")) {
        if (jinja_at_name(parser, "is")) jinja_fail(parser->state, "tests with `is` cannot be chained");
        node->args = parse_postfix(parser, parse_primary(parser, false));
    }
    return negated ? pair(parser, NODE_NOT, line, node, NULL) : node;
}

static jinja_node *parse_unary(jinja_parser *parser, bool with_filters)
{
    int         line = here(parser);
    jinja_node *node;
    if (jinja_at_operator(parser, "-") || jinja_at_operator(parser, "+")) {
        jinja_node_kind kind = jinja_is(&jinja_take(parser)->value, "-") ? NODE_NEGATIVE : NODE_POSITIVE;
        jinja_enter(parser->state);
        node = pair(parser, kind, line, parse_unary(parser, false), NULL);
        jinja_leave(parser->state);
    } else {
        node = parse_primary(parser, false);
    }
    node = parse_postfix(parser, node);
    while (with_filters) {
        if (jinja_at_operator(parser, "|")) node = jinja_parse_filters(parser, node, false);
        else if (jinja_at_name(parser, "is")) node = parse_test(parser, node);
        else if (jinja_at_operator(parser, "(")) node = parse_call(parser, node);
        else break;
    }
    return node;
}

static jinja_node *binary(jinja_parser *parser, int line, jinja_operator operation, jinja_node *a, jinja_node *b)
{
    jinja_node *node = pair(parser, NODE_BINARY, line, a, b);
    node->operation = operation;
    return node;
}

static jinja_node *parse_power(jinja_parser *parser)
{
    int         line = here(parser);
    jinja_node *left = parse_unary(parser, true);
    while (jinja_skip_operator(parser, "**")) left = binary(parser, line, OP_POWER, left, parse_unary(parser, true));
    return left;
}

static jinja_node *parse_product(jinja_parser *parser)
{
    int         line = here(parser);
    jinja_node *left = parse_power(parser);
    for (;;) {
        jinja_operator operation;
        if (jinja_skip_operator(parser, "*")) operation = OP_MULTIPLY;
        else if (jinja_skip_operator(parser, "/")) operation = OP_DIVIDE;
        else if (jinja_skip_operator(parser, "//")) operation = OP_FLOOR_DIVIDE;
        else if (jinja_skip_operator(parser, "%")) operation = OP_MODULO;
        else return left;
        left = binary(parser, line, operation, left, parse_power(parser));
    }
}

static jinja_node *parse_concat(jinja_parser *parser)
{
    int         line = here(parser);
    jinja_node *first = parse_product(parser), **next = &first->next;
    if (!jinja_at_operator(parser, "~")) return first;
    while (jinja_skip_operator(parser, "~")) {
        *next = parse_product(parser);
        next = &(*next)->next;
    }
    return pair(parser, NODE_CONCAT, line, first, NULL);
}

static jinja_node *parse_sum(jinja_parser *parser)
{
    int         line = here(parser);
    jinja_node *left = parse_concat(parser);
    for (;;) {
        if (jinja_skip_operator(parser, "+")) left = binary(parser, line, OP_ADD, left, parse_concat(parser));
        else if (jinja_skip_operator(parser, "-")) left = binary(parser, line, OP_SUBTRACT, left, parse_concat(parser));
        else return left;
    }
}

static bool take_comparison(jinja_parser *parser, jinja_operator *operation)
{
    static const char *const names[] = {"==", "!=", "<", "<=", ">", ">="};
    for (int i = 0; i < 6; i++)
        if (jinja_skip_operator(parser, names[i])) {
            *operation = (jinja_operator)(OP_EQUAL + i);
            return true;
        }
    *operation = OP_IN;
    if (jinja_skip_name(parser, "in")) return true;
    const jinja_token *next = jinja_peek(parser, 1);
    if (!jinja_at_name(parser, "not") || next->kind != TOKEN_NAME || !jinja_is(&next->value, "in")) return false;
    jinja_take(parser);
    jinja_take(parser);
    *operation = OP_NOT_IN;
    return true;
}

static jinja_node *parse_comparison(jinja_parser *parser)
{
    int            line = here(parser);
    jinja_node    *first = parse_sum(parser), *operands = NULL, **next = &operands;
    jinja_operator operation;
    while (take_comparison(parser, &operation)) {
        jinja_node *operand = jinja_node_new(parser, NODE_OPERAND, line);
        operand->operation = operation;
        operand->a = parse_sum(parser);
        *next = operand;
        next = &operand->next;
    }
    return operands ? pair(parser, NODE_COMPARE, line, first, operands) : first;
}

static jinja_node *parse_not(jinja_parser *parser)
{
    int line = here(parser);
    if (!jinja_skip_name(parser, "not")) return parse_comparison(parser);
    jinja_enter(parser->state);
    jinja_node *node = pair(parser, NODE_NOT, line, parse_not(parser), NULL);
    jinja_leave(parser->state);
    return node;
}

static jinja_node *parse_and(jinja_parser *parser)
{
    int         line = here(parser);
    jinja_node *left = parse_not(parser);
    while (jinja_skip_name(parser, "and")) left = pair(parser, NODE_AND, line, left, parse_not(parser));
    return left;
}

static jinja_node *parse_or(jinja_parser *parser)
{
    int         line = here(parser);
    jinja_node *left = parse_and(parser);
    while (jinja_skip_name(parser, "or")) left = pair(parser, NODE_OR, line, left, parse_and(parser));
    return left;
}

static jinja_node *parse_choice(jinja_parser *parser)
{
    int               line = here(parser);
    const jinja_node *unknown = parser->unknown;
    jinja_node       *node = parse_or(parser);
    while (jinja_skip_name(parser, "if")) {
        jinja_node *choice = pair(parser, NODE_CHOICE, line, parse_or(parser), node);
        if (jinja_skip_name(parser, "else")) {
            jinja_enter(parser->state);
            choice->c = parse_choice(parser);
            jinja_leave(parser->state);
        }
        node = choice;
        parser->unknown = unknown;
    }
    return node;
}

jinja_node *jinja_parse_expression(jinja_parser *parser, bool with_choice)
{
    jinja_enter(parser->state);
    jinja_node *node = with_choice ? parse_choice(parser) : parse_or(parser);
    jinja_leave(parser->state);
    return node;
}
