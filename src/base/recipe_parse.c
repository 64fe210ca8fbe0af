/* recipe_parse.c - libyaml's events -> sections and entries.
 *
 * Only what a recipe needs is taken: one document, a mapping of sections, each a mapping of keys to scalars, lists of
 * scalars or mappings of scalars. Anchors, aliases, tags and deeper nesting are refused where they stand, so no text can
 * unfold into more than it is. */
#include <string.h>
#include <yaml.h>

#include "base/recipe_entries.h"
#include "base/text.h"

typedef struct {
    crank_context *context;
    const char    *where; /* file, or "command line: `section.key`" */
    yaml_parser_t  yaml;
    yaml_event_t   event; /* the last one read */
    bool           holds; /* an event is there to be deleted */
} reader;

static crank_status refuse_at(reader *in, yaml_mark_t mark, const char *problem)
{
    return crank_fail(in->context, CRANK_BAD_DATA, "%s:%zu:%zu: %s", in->where, mark.line + 1, mark.column + 1, problem);
}
static crank_status refuse(reader *in, const char *problem) { return refuse_at(in, in->event.start_mark, problem); }

/* The next event, without anchors, aliases and tags */
static crank_status next(reader *in)
{
    if (in->holds) yaml_event_delete(&in->event);
    in->holds = yaml_parser_parse(&in->yaml, &in->event);
    if (!in->holds) {
        if (in->yaml.error == YAML_MEMORY_ERROR) return crank_fail(in->context, CRANK_FAILED, "%s: out of memory", in->where);
        return refuse_at(in, in->yaml.problem_mark, in->yaml.problem ? in->yaml.problem : "not valid YAML");
    }
    const yaml_char_t *anchor = NULL, *tag = NULL;
    switch (in->event.type) {
    case YAML_ALIAS_EVENT: return refuse(in, "aliases are not taken in recipes; write the value again");
    case YAML_SCALAR_EVENT:
        anchor = in->event.data.scalar.anchor;
        tag = in->event.data.scalar.tag;
        if (strlen((const char *)in->event.data.scalar.value) != in->event.data.scalar.length)
            return refuse(in, "a zero byte in a value");
        break;
    case YAML_SEQUENCE_START_EVENT:
        anchor = in->event.data.sequence_start.anchor;
        tag = in->event.data.sequence_start.tag;
        break;
    case YAML_MAPPING_START_EVENT:
        anchor = in->event.data.mapping_start.anchor;
        tag = in->event.data.mapping_start.tag;
        break;
    default: break;
    }
    if (anchor) return refuse(in, "anchors are not taken in recipes; write the value again");
    if (tag) return refuse(in, "tags are not taken in recipes");
    return CRANK_OK;
}

static const char *scalar(const reader *in) { return (const char *)in->event.data.scalar.value; }
static bool        is_plain(const reader *in) { return in->event.data.scalar.style == YAML_PLAIN_SCALAR_STYLE; }
static int         line_of(const reader *in) { return (int)in->event.start_mark.line + 1; }

bool recipe_is_null(const char *plain)
{
    return !*plain || strcmp(plain, "~") == 0 || strcmp(plain, "null") == 0 || strcmp(plain, "Null") == 0 ||
           strcmp(plain, "NULL") == 0;
}

/* Bytes below a space, and DEL: text that is written again would hold them as escapes of six characters. */
static bool has_control(const char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text < ' ' || *text == 0x7f) return true;
    return false;
}

bool recipe_is_name(const char *name)
{
    return *name && !strpbrk(name, " =") && !has_control(name) && strlen(name) <= RECIPE_LONGEST_NAME;
}

/* The event must be a scalar with a value on one line, for an element of a list or map. */
static crank_status need_element(reader *in, bool may_be_empty)
{
    if (in->event.type != YAML_SCALAR_EVENT) return refuse(in, "a list or mapping holds plain values here, no further nesting");
    if (strchr(scalar(in), '\n')) return refuse(in, "an element of a list or mapping must be one line");
    if ((is_plain(in) && recipe_is_null(scalar(in))) || (!may_be_empty && !*scalar(in)))
        return refuse(in, "an element of a list or mapping has no value");
    return CRANK_OK;
}

/* After SEQUENCE-START: elements joined by '\n' */
static crank_status read_list(reader *in, text_buffer *out)
{
    for (size_t count = 0;; count++) {
        crank_status status = next(in);
        if (status != CRANK_OK || in->event.type == YAML_SEQUENCE_END_EVENT) return status;
        if (count == RECIPE_MOST_ENTRIES) return refuse(in, "more than 4096 elements");
        if ((status = need_element(in, false)) != CRANK_OK) return status;
        if (count) text_putc(out, '\n');
        text_puts(out, scalar(in));
    }
}

/* True when a line of `pairs` begins with "key=" */
static bool has_pair(const text_buffer *pairs, const char *key)
{
    size_t length = strlen(key);
    for (const char *line = pairs->bytes; line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL)
        if (strncmp(line, key, length) == 0 && line[length] == '=') return true;
    return false;
}

/* After MAPPING-START: "key=value" joined by '\n' */
static crank_status read_map(reader *in, text_buffer *out)
{
    for (size_t count = 0;; count++) {
        crank_status status = next(in);
        if (status != CRANK_OK || in->event.type == YAML_MAPPING_END_EVENT) return status;
        if (count == RECIPE_MOST_ENTRIES) return refuse(in, "more than 4096 elements");
        if ((status = need_element(in, false)) != CRANK_OK) return status;
        if (strchr(scalar(in), '=')) return refuse(in, "a key of a mapping must not hold =");
        if (in->event.data.scalar.length > RECIPE_LONGEST_NAME) return refuse(in, "a key of more than 400 bytes");
        if (has_control(scalar(in))) return refuse(in, "a key with a control character");
        if (has_pair(out, scalar(in))) return refuse(in, "the key stands twice in this mapping");
        if (count) text_putc(out, '\n');
        text_puts(out, scalar(in));
        text_putc(out, '=');
        if ((status = next(in)) != CRANK_OK || (status = need_element(in, true)) != CRANK_OK) return status;
        text_puts(out, scalar(in));
    }
}

/* The value whose first event was read -> shape, text (crank_free; NULL for null) */
static crank_status read_value(reader *in, option_shape *shape, char **value)
{
    text_buffer  text = {0};
    crank_status status = CRANK_OK;
    *value = NULL;
    if (in->event.type == YAML_SCALAR_EVENT) {
        *shape = is_plain(in) && recipe_is_null(scalar(in)) ? OPTION_NULL : OPTION_TEXT;
        if (*shape == OPTION_NULL) return CRANK_OK;
        text_puts(&text, scalar(in));
    } else if (in->event.type == YAML_SEQUENCE_START_EVENT) {
        *shape = OPTION_ITEMS;
        status = read_list(in, &text);
    } else {
        *shape = OPTION_PAIRS;
        status = read_map(in, &text);
    }
    if (status != CRANK_OK) {
        text_clear(&text);
        return status;
    }
    *value = text_take(in->context, &text, "a recipe's value");
    return *value ? CRANK_OK : CRANK_FAILED;
}

/* A key's event -> its name */
static crank_status read_name(reader *in, const char *kind, char **name)
{
    if (in->event.type != YAML_SCALAR_EVENT || !recipe_is_name(scalar(in))) {
        yaml_mark_t mark = in->event.start_mark;
        return crank_fail(in->context, CRANK_BAD_DATA, "%s:%zu:%zu: the name of a %s must be one word of at most %d bytes without control characters", in->where, mark.line + 1,
                          mark.column + 1, kind, RECIPE_LONGEST_NAME);
    }
    *name = crank_strdup(in->context, scalar(in));
    return *name ? CRANK_OK : CRANK_FAILED;
}

static crank_status read_entry(reader *in, crank_recipe *recipe, size_t section)
{
    char        *key = NULL, *value = NULL;
    option_shape shape = OPTION_NULL;
    int          line = line_of(in);
    yaml_mark_t  mark = in->event.start_mark;
    crank_status status = read_name(in, "key", &key);
    const recipe_entry *before = key ? recipe_find(recipe, section, key) : NULL;
    if (before)
        status = crank_fail(in->context, CRANK_BAD_DATA, "%s:%zu:%zu: key `%s.%s` was given on line %d already", in->where,
                            mark.line + 1, mark.column + 1, recipe->sections[section].name, key, before->line);
    if (status == CRANK_OK) status = next(in);
    if (status == CRANK_OK) status = read_value(in, &shape, &value);
    if (status == CRANK_OK) status = recipe_put(in->context, recipe, section, key, shape, value, line);
    crank_free(key);
    return status;
}

static crank_status read_section(reader *in, crank_recipe *recipe)
{
    char        *name = NULL;
    size_t       section = 0;
    yaml_mark_t  mark = in->event.start_mark;
    crank_status status = read_name(in, "section", &name);
    if (status == CRANK_OK && strchr(name, '.')) status = refuse(in, "the name of a section must not hold a dot");
    if (status == CRANK_OK && recipe_find_section(recipe, name, &section))
        status = crank_fail(in->context, CRANK_BAD_DATA, "%s:%zu:%zu: section `%s` was given on line %d already", in->where,
                            mark.line + 1, mark.column + 1, name, recipe->sections[section].line);
    if (status == CRANK_OK && !recipe_add_section(in->context, recipe, name, line_of(in), &section)) status = CRANK_FAILED;
    if (status == CRANK_OK) status = next(in);
    if (status == CRANK_OK && in->event.type == YAML_MAPPING_START_EVENT) {
        while ((status = next(in)) == CRANK_OK && in->event.type != YAML_MAPPING_END_EVENT)
            if ((status = read_entry(in, recipe, section)) != CRANK_OK) break;
    } else if (status == CRANK_OK && !(in->event.type == YAML_SCALAR_EVENT && is_plain(in) && recipe_is_null(scalar(in))))
        status = crank_fail(in->context, CRANK_BAD_DATA, "%s:%zu:%zu: `%s` must be a section: keys and values below it",
                            in->where, mark.line + 1, mark.column + 1, name);
    crank_free(name);
    return status;
}

/* The root's event was read. */
static crank_status read_root(reader *in, crank_recipe *recipe)
{
    if (in->event.type == YAML_SCALAR_EVENT && is_plain(in) && recipe_is_null(scalar(in))) return CRANK_OK;
    if (in->event.type != YAML_MAPPING_START_EVENT) return refuse(in, "a recipe must be a mapping of sections");
    for (;;) {
        crank_status status = next(in);
        if (status != CRANK_OK || in->event.type == YAML_MAPPING_END_EVENT) return status;
        if ((status = read_section(in, recipe)) != CRANK_OK) return status;
    }
}

/* Stream and document start. *empty: there is no document. */
static crank_status begin(reader *in, const char *text, size_t length, bool *empty)
{
    *empty = false;
    if (!yaml_parser_initialize(&in->yaml)) return crank_fail(in->context, CRANK_FAILED, "%s: out of memory", in->where);
    yaml_parser_set_input_string(&in->yaml, (const unsigned char *)text, length);
    yaml_parser_set_encoding(&in->yaml, YAML_UTF8_ENCODING);
    crank_status status = next(in);
    if (status == CRANK_OK) status = next(in);
    if (status != CRANK_OK) return status;
    *empty = in->event.type == YAML_STREAM_END_EVENT;
    return *empty ? CRANK_OK : next(in);
}

/* Document end, and no further document */
static crank_status finish(reader *in)
{
    crank_status status = next(in);
    if (status == CRANK_OK) status = next(in);
    if (status == CRANK_OK && in->event.type != YAML_STREAM_END_EVENT) return refuse(in, "a second document in one recipe");
    return status;
}

static void end(reader *in)
{
    if (in->holds) yaml_event_delete(&in->event);
    yaml_parser_delete(&in->yaml);
}

crank_status recipe_parse(crank_context *context, crank_recipe *recipe, const char *text, size_t length)
{
    reader       in = {.context = context, .where = recipe->path};
    bool         empty;
    crank_status status = begin(&in, text, length, &empty);
    if (status == CRANK_OK && !empty) status = read_root(&in, recipe);
    if (status == CRANK_OK && !empty) status = finish(&in);
    end(&in);
    return status;
}

crank_status recipe_parse_value(crank_context *context, const char *name, const char *text, option_shape *shape, char **value)
{
    char        *where = crank_format(context, "command line: `%s`", name);
    reader       in = {.context = context, .where = where};
    bool         empty = true;
    crank_status status = where ? begin(&in, text, strlen(text), &empty) : CRANK_FAILED;
    *value = NULL;
    if (status == CRANK_OK && !empty) status = read_value(&in, shape, value);
    if (status == CRANK_OK && !empty) status = finish(&in);
    if (where) end(&in);
    if (status != CRANK_OK) {
        crank_free(*value);
        *value = NULL;
    }
    crank_free(where);
    return status;
}
