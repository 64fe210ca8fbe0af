/* jinja_value.h - the values of a template: Python's types as far as chat templates see them, and the memory they live in.
 *
 * A value is a small struct passed by copy. What it points to lives in the arena of the state that made it, or (text of
 * the template, text of the JSON variables) outlives that state. Lists, tuples and dicts do not change once a template
 * can see them; only namespaces do. All text is valid UTF-8, with its length, and is indexed by code point as in Python.
 *
 * Errors leave through jinja_fail, which does not return: it stores the message and jumps to the entry point (parse or
 * render), which frees the arena. Nothing here owns memory outside the arena. */
#ifndef CRANK_DATA_JINJA_VALUE_H
#define CRANK_DATA_JINJA_VALUE_H

#include <setjmp.h>

#include "data/jinja.h"

#define JINJA_MAX_STEPS  10000000u
#define JINJA_MAX_OUTPUT ((size_t)64 << 20)  /* bytes of text written */
#define JINJA_MAX_MEMORY ((size_t)256 << 20) /* bytes of values and intermediate text */
#define JINJA_MAX_DEPTH  800                 /* nested evaluation, macro calls and nested values */
#define JINJA_MAX_RANGE  100000              /* Jinja's sandbox: longest range */

typedef enum jinja_kind {
    JINJA_ABSENT, /* an argument that was not given; templates never see it */
    JINJA_UNDEFINED,
    JINJA_NONE,
    JINJA_BOOL,
    JINJA_INT,
    JINJA_FLOAT,
    JINJA_STRING,
    JINJA_LIST,
    JINJA_TUPLE,
    JINJA_DICT,
    JINJA_RANGE,
    JINJA_VIEW,     /* dict.keys(), dict.values(), dict.items() */
    JINJA_ITERATOR, /* what map, select, unique... give: read once, no length, always true */
    JINJA_NAMESPACE,
    JINJA_LOOP,
    JINJA_MACRO,
    JINJA_FUNCTION,
    JINJA_METHOD
} jinja_kind;

typedef struct jinja_list      jinja_list;
typedef struct jinja_dict      jinja_dict;
typedef struct jinja_range     jinja_range;
typedef struct jinja_iterator  jinja_iterator;
typedef struct jinja_loop      jinja_loop;
typedef struct jinja_macro     jinja_macro;
typedef struct jinja_method    jinja_method;
typedef struct jinja_builtin   jinja_builtin;
typedef struct jinja_state     jinja_state;
typedef struct jinja_arguments jinja_arguments;

typedef struct jinja_value {
    uint8_t kind;
    uint8_t flag; /* STRING: 1 is marked safe. UNDEFINED: a jinja_reason. VIEW: a jinja_view_kind. TUPLE: 1 is a group */
    uint8_t owner; /* UNDEFINED: kind of the object that lacks the attribute */
    union {
        bool    boolean;
        int64_t integer;
        double  real;
        struct {
            const char *text; /* STRING; UNDEFINED: the name, or the whole message */
            size_t      length;
        };
        jinja_list          *list;
        jinja_dict          *dict;
        jinja_range         *range;
        jinja_iterator      *iterator;
        jinja_loop          *loop;
        jinja_macro         *macro;
        jinja_method        *method;
        const jinja_builtin *function;
    };
} jinja_value;

typedef enum jinja_reason { JINJA_NO_NAME, JINJA_NO_ATTRIBUTE, JINJA_HINT } jinja_reason;
typedef enum jinja_view_kind { JINJA_KEYS, JINJA_VALUES, JINJA_ITEMS } jinja_view_kind;

struct jinja_list {
    size_t       count, capacity;
    jinja_value *items;
};

typedef struct jinja_entry {
    jinja_value key, value;
    uint64_t    hash;
} jinja_entry;

struct jinja_dict { /* insertion order; an open-addressing index of entry numbers from 16 entries on */
    size_t       count, capacity;
    jinja_entry *entries;
    uint32_t    *index;      /* entry + 1, 0 is free */
    size_t       index_size; /* a power of two, or 0 */
};

struct jinja_range {
    int64_t start, stop, step, length;
};

struct jinja_iterator {
    jinja_list *list;
    size_t      next;
    const char *type; /* Python's type name, for messages */
};

struct jinja_method {
    jinja_value          self;
    const jinja_builtin *builtin;
};

/* Text that grows in the arena. */
typedef struct jinja_buffer {
    char  *text;
    size_t length, capacity;
} jinja_buffer;

typedef struct jinja_scope jinja_scope;
typedef struct jinja_chunk jinja_chunk;

/* One parse or one rendering: its memory, its way out and its limits. */
struct jinja_state {
    crank_context *context;
    const char    *name; /* of the template, for messages */
    int            line;
    jmp_buf        exit;
    jinja_chunk   *chunks;
    size_t         memory;
    uint64_t       steps;
    int            depth;
    char          *tail; /* end of the text last put together, and the room behind it: text that grows piece by */
    size_t         tail_room; /* piece is extended in place */
    /* rendering only */
    const jinja_template *tmpl;
    jinja_dict           *variables; /* the caller's */
    jinja_scope          *scope;
    jinja_buffer         *output; /* where text goes now */
    size_t                written;
    int                   captures; /* output buffers between here and the document */
    int64_t               now;
    jinja_list           *spans; /* of integers, or NULL: not wanted */
};

/* "NAME:LINE: ..." as CRANK_BAD_DATA; does not return. */
_Noreturn void jinja_fail(jinja_state *state, const char *format, ...) CRANK_PRINTF(2, 3);
void           jinja_work(jinja_state *state, size_t steps); /* counts steps, fails past the limit */
void           jinja_enter(jinja_state *state);              /* one level deeper, fails past the limit */
void           jinja_leave(jinja_state *state);

void *jinja_alloc(jinja_state *state, size_t count, size_t size); /* zeroed, aligned for any type; never NULL */
void  jinja_arena_free(jinja_chunk *chunks);

void        jinja_append(jinja_state *state, jinja_buffer *buffer, const char *text, size_t length);
void        jinja_append_text(jinja_state *state, jinja_buffer *buffer, const char *text);
void        jinja_append_code(jinja_state *state, jinja_buffer *buffer, uint32_t code); /* one code point as UTF-8 */
void        jinja_append_format(jinja_state *state, jinja_buffer *buffer, const char *format, ...) CRANK_PRINTF(3, 4);
jinja_value jinja_finish(const jinja_buffer *buffer); /* the buffer as a string value */

static inline jinja_value jinja_none(void) { return (jinja_value){.kind = JINJA_NONE}; }
static inline jinja_value jinja_bool(bool value) { return (jinja_value){.kind = JINJA_BOOL, .boolean = value}; }
static inline jinja_value jinja_int(int64_t value) { return (jinja_value){.kind = JINJA_INT, .integer = value}; }
static inline jinja_value jinja_float(double value) { return (jinja_value){.kind = JINJA_FLOAT, .real = value}; }
static inline jinja_value jinja_string(const char *text, size_t length)
{
    jinja_value value = {.kind = JINJA_STRING};
    value.text = text;
    value.length = length;
    return value;
}
jinja_value jinja_static(const char *text); /* a string value of constant text */
jinja_value jinja_hint(const char *message); /* undefined that tells `message` when used */
jinja_value jinja_no_attribute(const jinja_value *object, jinja_value name);
bool        jinja_is(const jinja_value *value, const char *text); /* a string equal to text */

jinja_list *jinja_list_new(jinja_state *state, size_t capacity);
void        jinja_list_add(jinja_state *state, jinja_list *list, jinja_value value);
jinja_value jinja_list_value(jinja_list *list);
jinja_value jinja_tuple_value(jinja_list *list);
jinja_value jinja_iterator_value(jinja_state *state, jinja_list *list, const char *type);
jinja_value jinja_pair(jinja_state *state, jinja_value first, jinja_value second);

jinja_dict *jinja_dict_new(jinja_state *state, size_t capacity);
/* Sets or replaces; fails for a key that Python cannot hash. */
void               jinja_dict_set(jinja_state *state, jinja_dict *dict, jinja_value key, jinja_value value);
const jinja_value *jinja_dict_get(jinja_state *state, const jinja_dict *dict, const jinja_value *key); /* NULL: none */
const jinja_value *jinja_dict_text(jinja_state *state, const jinja_dict *dict, const char *text, size_t length);
bool               jinja_hashable(const jinja_value *value);

bool        jinja_truth(const jinja_value *value);
bool        jinja_equal(jinja_state *state, const jinja_value *a, const jinja_value *b);
int         jinja_compare(jinja_state *state, const jinja_value *a, const jinja_value *b, const char *operator_name);
const char *jinja_type(const jinja_value *value); /* Python's name of its type */
/* Fails with Python's words for an undefined value, else does nothing. */
void    jinja_need_defined(jinja_state *state, const jinja_value *value);
int64_t jinja_need_int(jinja_state *state, const jinja_value *value, const char *what);
/* Length as len() gives it; -1: the type has none. */
int64_t jinja_length(const jinja_value *value);
/* All items of an iterable as a list (an iterator is used up); fails for what cannot be iterated. */
jinja_list *jinja_items(jinja_state *state, const jinja_value *value);
bool        jinja_iterable(const jinja_value *value);
jinja_value jinja_from_json(jinja_state *state, const json_t *json);

/* str(value); repr(value) appended; shortest text of a double that reads back the same, as Python writes it. */
jinja_value jinja_str(jinja_state *state, const jinja_value *value);
void        jinja_repr(jinja_state *state, jinja_buffer *out, const jinja_value *value);
void        jinja_write_float(jinja_state *state, jinja_buffer *out, double value);

/* json.dumps(value, ensure_ascii, indent, separators, sort_keys); indent NULL: one line. */
typedef struct jinja_json_style {
    bool               ascii, sort_keys;
    const jinja_value *indent;           /* string put once a level, or NULL */
    jinja_value        item, key;        /* separators */
} jinja_json_style;
void jinja_write_json(jinja_state *state, jinja_buffer *out, const jinja_value *value, const jinja_json_style *style);
#endif
