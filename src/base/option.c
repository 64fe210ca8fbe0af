/* option.c - options objects and setting one option from text, with range checks and messages made from the table.
 *
 * In memory a record of what was set stands before the caller's struct: a chain of nodes that own the strings and say
 * which fields were given. */
#include "crank/option.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/number.h"
#include "base/option_value.h"
#include "base/text.h"

/* One value that was set; its text follows. */
typedef struct node {
    struct node *next;
    size_t       offset; /* of the field */
    char         text[];
} node;

/* Stands in the 64 bytes before the struct, which keeps the struct aligned. */
typedef struct {
    node *nodes;
} record;
enum { RECORD_SIZE = 64 };

static record *record_of(const void *options) { return (record *)((char *)(uintptr_t)options - RECORD_SIZE); }
static void   *field_of(void *options, const crank_option *option) { return (char *)options + option->offset; }

static void set_initial(const crank_option *option, void *field)
{
    switch (option->type) {
    case CRANK_OPTION_INT: *(int64_t *)field = (int64_t)option->initial; break;
    case CRANK_OPTION_FLOAT: *(double *)field = option->initial; break;
    case CRANK_OPTION_BOOL: *(bool *)field = option->initial != 0; break;
    default: *(const char **)field = option->text; break;
    }
}

void *crank_options_new(crank_context *context, const crank_option *table, size_t size)
{
    char *memory = crank_alloc(context, 1, RECORD_SIZE + (size ? size : 1), "options");
    if (!memory) return NULL;
    void *options = memory + RECORD_SIZE;
    for (const crank_option *option = table; option->type != CRANK_OPTION_END; option++)
        set_initial(option, field_of(options, option));
    return options;
}

void crank_options_free(void *options)
{
    if (!options) return;
    for (node *each = record_of(options)->nodes, *next; each; each = next) {
        next = each->next;
        free(each);
    }
    crank_free(record_of(options));
}

const crank_option *option_find(const crank_option *table, const char *key)
{
    for (const crank_option *option = table; option->type != CRANK_OPTION_END; option++)
        if (strcmp(option->name, key) == 0) return option;
    return NULL;
}

bool crank_options_given(const void *options, const crank_option *table, const char *key)
{
    const crank_option *option = option_find(table, key);
    for (const node *each = record_of(options)->nodes; option && each; each = each->next)
        if (each->offset == option->offset) return true;
    return false;
}

/* "where: " or nothing */
static int where_length(const char *where) { return where && *where ? (int)strlen(where) : 0; }
#define WHERE(where) where_length(where), where ? where : "", where_length(where) ? ": " : ""

static crank_status unknown(crank_context *context, const crank_option *table, const char *key, const char *where)
{
    const char *names[256];
    size_t      count = 0;
    text_buffer list = {0};
    for (const crank_option *option = table; option->type != CRANK_OPTION_END; option++) {
        if (count < sizeof names / sizeof *names) names[count++] = option->name;
        text_printf(&list, "%s%s", list.length ? ", " : "", option->name);
    }
    const char *near = crank_closest(key, names, count);
    crank_status status =
        near ? crank_fail(context, CRANK_USAGE, "%.*s%sunknown key `%s`; did you mean `%s`?", WHERE(where), key, near)
             : crank_fail(context, CRANK_USAGE, "%.*s%sunknown key `%s`; the keys are: %s", WHERE(where), key,
                          list.length ? list.bytes : "none");
    text_clear(&list);
    return status;
}

/* "`rank` is 0; it must be a whole number from 1 to 65536" */
static crank_status refuse(crank_context *context, const crank_option *option, const char *value, const char *where)
{
    char low[NUMBER_SIZE], high[NUMBER_SIZE];
    number_print(option->low, low);
    number_print(option->high, high);
    switch (option->type) {
    case CRANK_OPTION_INT:
        number_print_digits(option->low, 17, low);
        number_print_digits(option->high, 17, high);
        return crank_fail(context, CRANK_USAGE, "%.*s%s`%s` is %.200s; it must be a whole number from %s to %s", WHERE(where),
                          option->name, value, low, high);
    case CRANK_OPTION_FLOAT:
        return crank_fail(context, CRANK_USAGE, "%.*s%s`%s` is %.200s; it must be a number from %s to %s", WHERE(where),
                          option->name, value, low, high);
    case CRANK_OPTION_BOOL:
        return crank_fail(context, CRANK_USAGE, "%.*s%s`%s` is %.200s; it must be true or false", WHERE(where), option->name,
                          value);
    default: break;
    }
    const char *names[64], *near = NULL;
    char        choices[1024];
    size_t      count = 0;
    snprintf(choices, sizeof choices, "%s", option->choices ? option->choices : "");
    for (char *rest = choices, *choice; count < 64 && (choice = strsep(&rest, "|"));) names[count++] = choice;
    near = crank_closest(value, names, count);
    return crank_fail(context, CRANK_USAGE, "%.*s%s`%s` is %.200s; it must be one of %s%s%s%s", WHERE(where), option->name,
                      value, option->choices, near ? "; did you mean `" : "", near ? near : "", near ? "`?" : "");
}

static bool is_choice(const char *choices, const char *value)
{
    size_t length = strlen(value);
    if (length == 0 || strchr(value, '|')) return false;
    for (const char *at = choices; at;) {
        const char *end = strchr(at, '|');
        if ((end ? (size_t)(end - at) : strlen(at)) == length && memcmp(at, value, length) == 0) return true;
        at = end ? end + 1 : NULL;
    }
    return false;
}

/* Parses number types and bool into the field. False: not of the type or out of range. */
static bool set_number(const crank_option *option, void *field, const char *value)
{
    int64_t whole;
    double  number;
    switch (option->type) {
    case CRANK_OPTION_INT:
        if (!number_parse_int(value, &whole) || (double)whole < option->low || (double)whole > option->high) return false;
        *(int64_t *)field = whole;
        return true;
    case CRANK_OPTION_FLOAT:
        if (!number_parse(value, &number) || !(number >= option->low && number <= option->high)) return false;
        *(double *)field = number;
        return true;
    default:
        if (strcmp(value, "true") == 0 || strcmp(value, "True") == 0 || strcmp(value, "TRUE") == 0) *(bool *)field = true;
        else if (strcmp(value, "false") == 0 || strcmp(value, "False") == 0 || strcmp(value, "FALSE") == 0)
            *(bool *)field = false;
        else return false;
        return true;
    }
}

static const char *trim(const char *start, const char **end)
{
    while (start < *end && (*start == ' ' || *start == '\t')) start++;
    while (*end > start && ((*end)[-1] == ' ' || (*end)[-1] == '\t')) (*end)--;
    return start;
}

/* "a, b" or "[a, b]" -> "a\nb"; "k=v, k: v" or "{k: v}" -> "k=v\nk=v". False: an empty element, a pair without value. */
static bool split_typed(const char *value, bool pairs, text_buffer *out)
{
    const char *end = value + strlen(value), *start = trim(value, &end);
    if (end - start >= 2 && *start == (pairs ? '{' : '[') && end[-1] == (pairs ? '}' : ']')) {
        end--;
        start = trim(start + 1, &end);
    }
    while (start < end) {
        const char *comma = memchr(start, ',', (size_t)(end - start)), *stop = comma ? comma : end;
        const char *item = trim(start, &stop), *mark = item;
        if (item == stop || (comma && comma + 1 == end)) return false;
        if (out->length) text_putc(out, '\n');
        if (pairs) {
            while (mark < stop && *mark != '=' && !(*mark == ':' && (mark + 1 == stop || mark[1] == ' '))) mark++;
            const char *key_end = mark, *content = mark + 1;
            if (mark == item || mark == stop) return false;
            item = trim(item, &key_end);
            text_add(out, item, (size_t)(key_end - item));
            text_putc(out, '=');
            item = content < stop ? trim(content, &stop) : stop;
        }
        text_add(out, item, (size_t)(stop - item));
        start = stop;
        while (start < end && *start != ',') start++;
        start += start < end;
    }
    return true;
}

/* Lines as they are stored, without empty ones. False: a pair without "=". */
static bool take_lines(const char *value, bool pairs, text_buffer *out)
{
    for (const char *line = value; *line;) {
        const char *end = strchrnul(line, '\n');
        if (pairs && end > line && !memchr(line, '=', (size_t)(end - line))) return false;
        if (end > line && out->length) text_putc(out, '\n');
        text_add(out, line, (size_t)(end - line));
        line = *end ? end + 1 : end;
    }
    return true;
}

/* A node at the head of the chain that owns a copy of `text`: NULL when memory is out (message set). */
static node *remember(crank_context *context, void *options, const crank_option *option, const char *text)
{
    size_t length = strlen(text);
    node  *made = malloc(sizeof *made + length + 1);
    if (!made) {
        crank_fail(context, CRANK_FAILED, "out of memory: %zu bytes for option `%s`", length, option->name);
        return NULL;
    }
    made->offset = option->offset;
    made->next = record_of(options)->nodes;
    memcpy(made->text, text, length + 1);
    record_of(options)->nodes = made;
    return made;
}

static crank_status set_text(crank_context *context, const crank_option *option, void *options, const char *value,
                             const char *where)
{
    node *kept;
    bool  map = option->type == CRANK_OPTION_MAP, list = map || option->type == CRANK_OPTION_LIST;
    if (option->type == CRANK_OPTION_CHOICE && !is_choice(option->choices, value))
        return refuse(context, option, value, where);
    if (list) {
        text_buffer split = {0};
        bool        good = strchr(value, '\n') ? take_lines(value, map, &split) : split_typed(value, map, &split);
        if (!good || split.failed) {
            text_clear(&split);
            return crank_fail(context, CRANK_USAGE, "%.*s%s`%s` is %.200s; it must be %s", WHERE(where), option->name, value,
                              map ? "pairs like {key: value, key: value}" : "a list like [a, b] or a,b without empty elements");
        }
        kept = remember(context, options, option, split.length ? split.bytes : "");
        text_clear(&split);
    } else kept = remember(context, options, option, value);
    if (!kept) return CRANK_FAILED;
    *(const char **)field_of(options, option) = kept->text;
    return CRANK_OK;
}

crank_status option_set(crank_context *context, const crank_option *table, void *options, const char *key,
                        option_shape shape, const char *value, const char *where)
{
    const crank_option *option = option_find(table, key);
    if (!option) return unknown(context, table, key, where);
    bool text = option->type >= CRANK_OPTION_STRING;
    if (shape == OPTION_NULL) {
        if (!text || option->text)
            return crank_fail(context, CRANK_USAGE, "%.*s%s`%s` has no value; leave the key out for the default", WHERE(where),
                              key);
        if (!remember(context, options, option, "")) return CRANK_FAILED;
        *(const char **)field_of(options, option) = NULL;
        return CRANK_OK;
    }
    if ((shape == OPTION_ITEMS && option->type != CRANK_OPTION_LIST) ||
        (shape == OPTION_PAIRS && option->type != CRANK_OPTION_MAP))
        return crank_fail(context, CRANK_USAGE, "%.*s%s`%s` takes %s, not a %s", WHERE(where), key,
                          option->type == CRANK_OPTION_LIST  ? "a list"
                          : option->type == CRANK_OPTION_MAP ? "a mapping of keys to values"
                                                             : "one value",
                          shape == OPTION_ITEMS ? "list" : "mapping");
    if (shape != OPTION_TEXT) {
        node *kept = remember(context, options, option, value);
        if (kept) *(const char **)field_of(options, option) = kept->text;
        return kept ? CRANK_OK : CRANK_FAILED;
    }
    if (text) return set_text(context, option, options, value, where);
    if (!set_number(option, field_of(options, option), value)) return refuse(context, option, value, where);
    return remember(context, options, option, "") ? CRANK_OK : CRANK_FAILED;
}

crank_status crank_options_set(crank_context *context, const crank_option *table, void *options, const char *key,
                               const char *value, const char *where)
{
    return option_set(context, table, options, key, OPTION_TEXT, value, where);
}
