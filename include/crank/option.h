/* option.h - typed option tables: one table drives recipe parsing, range checks, help, man page, completion and docs.
 *
 * A method has a plain struct of options and a `const` table of them:
 *
 *     typedef struct { int64_t rank; double alpha; bool rslora; const char *init; } options;
 *     static const crank_option option_table[] = {
 *         CRANK_INT   (options, rank, 16, 1, 65536, "rank of the update"),
 *         CRANK_FLOAT (options, alpha, 32, 0, 1e9, "the update is scaled by alpha / rank"),
 *         CRANK_BOOL  (options, rslora, false, "scale by alpha / sqrt(rank) instead"),
 *         CRANK_CHOICE(options, init, "kaiming", "kaiming|gaussian", "how A starts"),
 *         CRANK_END
 *     };
 *
 * The struct's fields are int64_t, double, bool and const char *. Strings belong to the options object that
 * crank_options_new made. */
#ifndef CRANK_OPTION_H
#define CRANK_OPTION_H

#include "crank/base.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum crank_option_type {
    CRANK_OPTION_END = 0,
    CRANK_OPTION_INT,
    CRANK_OPTION_FLOAT,
    CRANK_OPTION_BOOL,
    CRANK_OPTION_STRING, /* default may be NULL: not given */
    CRANK_OPTION_CHOICE, /* one of choices, separated by '|' */
    CRANK_OPTION_LIST,   /* several strings: a YAML list, or commas on the command line; stored joined by '\n' */
    CRANK_OPTION_MAP     /* pattern -> value: a YAML mapping; stored as "key=value" lines joined by '\n' */
} crank_option_type;

typedef struct crank_option {
    const char       *name;
    crank_option_type type;
    size_t            offset;  /* of the field in the options struct */
    double            initial; /* number types and bool */
    double            low, high;
    const char       *text;    /* string types: the default; may be NULL */
    const char       *choices; /* CHOICE: "a|b|c" */
    const char       *help;    /* one line, no full stop */
} crank_option;

#define CRANK_INT(s, field, initial, low, high, help)                                                                  \
    { #field, CRANK_OPTION_INT, offsetof(s, field), initial, low, high, NULL, NULL, help }
#define CRANK_FLOAT(s, field, initial, low, high, help)                                                                \
    { #field, CRANK_OPTION_FLOAT, offsetof(s, field), initial, low, high, NULL, NULL, help }
#define CRANK_BOOL(s, field, initial, help) { #field, CRANK_OPTION_BOOL, offsetof(s, field), initial, 0, 1, NULL, NULL, help }
#define CRANK_STRING(s, field, initial, help)                                                                          \
    { #field, CRANK_OPTION_STRING, offsetof(s, field), 0, 0, 0, initial, NULL, help }
#define CRANK_CHOICE(s, field, initial, choices, help)                                                                 \
    { #field, CRANK_OPTION_CHOICE, offsetof(s, field), 0, 0, 0, initial, choices, help }
#define CRANK_LIST(s, field, initial, help) { #field, CRANK_OPTION_LIST, offsetof(s, field), 0, 0, 0, initial, NULL, help }
#define CRANK_MAP(s, field, initial, help) { #field, CRANK_OPTION_MAP, offsetof(s, field), 0, 0, 0, initial, NULL, help }
#define CRANK_END { NULL, CRANK_OPTION_END, 0, 0, 0, 0, NULL, NULL, NULL }

/* An options struct of `size` bytes filled with the table's defaults; strings set later live and die with it.
 * Freed with crank_options_free. NULL: out of memory (message set). */
CRANK_API void *crank_options_new(crank_context *context, const crank_option *table, size_t size);
CRANK_API void  crank_options_free(void *options);

/* Sets one option from text: a number, true or false, a text; for a LIST "a,b" or "[a, b]", for a MAP "k=v,k=v" or
 * "{k: v, k: v}" (or the stored forms, lines joined by '\n'). Whole numbers may be written as 1e6. `where` is "file:line" or "command line" and stands in the message. Wrong type, out of
 * range or unknown key: CRANK_USAGE, naming the key, the allowed range or choices, and the closest valid key. */
CRANK_API crank_status crank_options_set(crank_context *context, const crank_option *table, void *options, const char *key,
                                         const char *value, const char *where);
/* True when the option was set by a call rather than left at its default. */
CRANK_API bool crank_options_given(const void *options, const crank_option *table, const char *key);

/* The closest of `count` names to `name` by edit distance, or NULL when none is near (distance > 1/3 of the length + 1,
 * or nothing in common). Swapped neighbours count as one edit. */
CRANK_API const char *crank_closest(const char *name, const char *const *names, size_t count);

/* Lines of a table as help text: "  name  default  range  help". malloc'd; crank_free. */
CRANK_API char *crank_options_help(crank_context *context, const crank_option *table);

/* The next line of a LIST or MAP value; *cursor starts at the stored string. False at the end. value is NULL for a LIST.
 * key and value point into buffers of the caller, cut at their size. */
CRANK_API bool crank_list_next(const char **cursor, char *key, size_t key_size, char *value, size_t value_size);

#ifdef __cplusplus
}
#endif
#endif
