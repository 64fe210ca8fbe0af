/* jinja_syntax.h - tokens and the tree of a template.
 *
 * A parsed template owns one arena with its text, tokens' strings, names and nodes; it is read-only afterwards, so several
 * threads may render one template at once. */
#ifndef CRANK_DATA_JINJA_SYNTAX_H
#define CRANK_DATA_JINJA_SYNTAX_H

#include "data/jinja_value.h"

typedef enum jinja_token_kind {
    TOKEN_END,
    TOKEN_TEXT,
    TOKEN_BLOCK_BEGIN,
    TOKEN_BLOCK_END,
    TOKEN_PRINT_BEGIN,
    TOKEN_PRINT_END,
    TOKEN_NAME,
    TOKEN_STRING,
    TOKEN_INTEGER,
    TOKEN_FLOAT,
    TOKEN_OPERATOR
} jinja_token_kind;

typedef struct jinja_token {
    jinja_token_kind kind;
    int              line;
    jinja_value      value; /* TEXT, NAME, STRING: text; INTEGER, FLOAT: number; OPERATOR: its characters */
} jinja_token;

typedef struct jinja_tokens {
    jinja_token *items;
    size_t       count, capacity;
} jinja_tokens;

/* All tokens of a template, white space control applied, closed by TOKEN_END. */
jinja_tokens jinja_lex(jinja_state *state, const char *text, size_t length);

typedef enum jinja_node_kind {
    /* expressions */
    NODE_CONST, /* value */
    NODE_NAME,  /* name */
    NODE_LIST,  /* a: items linked by next */
    NODE_TUPLE,
    NODE_DICT,      /* a: key, value, key, value... */
    NODE_ATTRIBUTE, /* a . value */
    NODE_ITEM,      /* a [ b ]; b may be a SLICE */
    NODE_SLICE,     /* a : b : c, each may be NULL */
    NODE_CALL,      /* a ( args ) */
    NODE_FILTER,    /* a | builtin ( args ); a NULL: the text of a filter block */
    NODE_TEST,      /* a is builtin ( args ) */
    NODE_NOT,
    NODE_NEGATIVE,
    NODE_POSITIVE,
    NODE_AND,
    NODE_OR,
    NODE_BINARY,  /* a operator b */
    NODE_CONCAT,  /* a: parts joined by ~ */
    NODE_COMPARE, /* a, then b: OPERANDs */
    NODE_OPERAND, /* operator a */
    NODE_CHOICE,  /* b if a else c; c may be NULL */
    NODE_KEYWORD, /* value = a, in args */
    NODE_STAR,    /* * a, in args */
    NODE_STARS,   /* ** a, in args */
    /* statements */
    NODE_TEXT,       /* value */
    NODE_PRINT,      /* {{ a }} */
    NODE_IF,         /* a, body, otherwise */
    NODE_FOR,        /* a target in b if c, body, otherwise; flag: recursive */
    NODE_SET,        /* a target = b */
    NODE_SET_BLOCK,  /* a target, c filters, body */
    NODE_MACRO,      /* name, args: PARAMETERs, body; flag: JINJA_TAKES_* */
    NODE_PARAMETER,  /* name, a: default or NULL */
    NODE_CALL_BLOCK, /* a: CALL, args: PARAMETERs, body */
    NODE_FILTER_BLOCK, /* a: FILTER, body */
    NODE_WITH,       /* args: SETs, body */
    NODE_MEMBER,     /* target: namespace name . value */
    NODE_BREAK,
    NODE_CONTINUE,
    NODE_GENERATION /* body */
} jinja_node_kind;

typedef enum jinja_operator {
    OP_ADD, OP_SUBTRACT, OP_MULTIPLY, OP_DIVIDE, OP_FLOOR_DIVIDE, OP_MODULO, OP_POWER,
    OP_EQUAL, OP_NOT_EQUAL, OP_LESS, OP_LESS_EQUAL, OP_GREATER, OP_GREATER_EQUAL, OP_IN, OP_NOT_IN
} jinja_operator;

/* Special names that a macro's body reads. */
enum { JINJA_TAKES_CALLER = 1, JINJA_TAKES_VARARGS = 2, JINJA_TAKES_KWARGS = 4 };

typedef struct jinja_node jinja_node;
struct jinja_node {
    jinja_node_kind      kind;
    int                  line;
    int                  name; /* number of a name in the template */
    int                  flag;
    jinja_operator       operation;
    jinja_value          value;
    const jinja_builtin *builtin; /* FILTER, TEST: NULL: unknown, told when it runs; value is its name */
    jinja_node          *a, *b, *c, *args, *body, *otherwise, *next;
};

struct jinja_template {
    jinja_chunk *chunks;
    char        *name;
    jinja_node  *body;
    jinja_value *names; /* [name_count] by number */
    int          name_count;
    bool         generation;
    /* numbers of the names that the engine itself sets */
    int loop, caller, varargs, kwargs;
};

/* What the two halves of the parser share. */
typedef struct jinja_parser {
    jinja_state    *state;
    jinja_template *tmpl;
    jinja_tokens    tokens;
    size_t          at;
    int             name_capacity;
    uint32_t       *name_index; /* hash index of names: number + 1 */
    size_t          name_index_size;
    bool              soft;    /* inside an if: unknown filters and tests are told when they run */
    const jinja_node *unknown; /* the first unknown one that is told at the end */
    int               loops;   /* for loops around, inside this function */
    int               special; /* JINJA_TAKES_* seen since the macro began */
} jinja_parser;

jinja_token *jinja_peek(jinja_parser *parser, size_t ahead);
jinja_token *jinja_take(jinja_parser *parser);
bool         jinja_at_operator(jinja_parser *parser, const char *text);
bool         jinja_at_name(jinja_parser *parser, const char *text);
bool         jinja_skip_operator(jinja_parser *parser, const char *text);
bool         jinja_skip_name(jinja_parser *parser, const char *text);
void         jinja_expect_operator(jinja_parser *parser, const char *text);
jinja_value  jinja_expect_name(jinja_parser *parser, const char *what); /* any name */
_Noreturn void jinja_unexpected(jinja_parser *parser, const char *wanted);
int          jinja_name_number(jinja_parser *parser, jinja_value name);
jinja_node  *jinja_node_new(jinja_parser *parser, jinja_node_kind kind, int line);

/* end: a name that ends the tuple as well ("in", "recursive"), or NULL. */
jinja_node *jinja_parse_expression(jinja_parser *parser, bool with_choice);
jinja_node *jinja_parse_tuple(jinja_parser *parser, bool with_choice, const char *end);
jinja_node *jinja_parse_target(jinja_parser *parser, const char *end, bool with_member);
jinja_node *jinja_parse_filters(jinja_parser *parser, jinja_node *subject, bool inline_first);
jinja_node *jinja_parse_template(jinja_parser *parser);
#endif
