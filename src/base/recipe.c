/* recipe.c - recipes: loading with overrides, reading through option tables, and telling what nobody read. */
#include "crank/recipe.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/recipe_entries.h"
#include "base/text.h"
#include "base/utf8.h"

/* Grows an array by one element when its count is a power of two (or 0). */
static bool grow(crank_context *context, void **array, size_t count, size_t size)
{
    if (count & (count - 1)) return true;
    void *grown = realloc(*array, (count ? 2 * count : 1) * size);
    if (!grown) {
        if (context) crank_fail(context, CRANK_FAILED, "out of memory: a recipe with %zu entries", count);
        return false;
    }
    *array = grown;
    return true;
}

bool recipe_find_section(const crank_recipe *recipe, const char *name, size_t *index)
{
    for (*index = 0; *index < recipe->section_count; ++*index)
        if (strcmp(recipe->sections[*index].name, name) == 0) return true;
    return false;
}

bool recipe_add_section(crank_context *context, crank_recipe *recipe, const char *name, int line, size_t *index)
{
    if (recipe_find_section(recipe, name, index)) return true;
    if (recipe->section_count == RECIPE_MOST_ENTRIES) {
        crank_fail(context, CRANK_BAD_DATA, "%s: more than %d sections", recipe->path, RECIPE_MOST_ENTRIES);
        return false;
    }
    if (!grow(context, (void **)&recipe->sections, recipe->section_count, sizeof *recipe->sections)) return false;
    char *copy = crank_strdup(context, name);
    if (!copy) return false;
    recipe->sections[recipe->section_count++] = (recipe_section){.name = copy, .line = line};
    return true;
}

recipe_entry *recipe_find(const crank_recipe *recipe, size_t section, const char *key)
{
    for (size_t i = 0; i < recipe->entry_count; i++)
        if (recipe->entries[i].section == section && strcmp(recipe->entries[i].key, key) == 0) return &recipe->entries[i];
    return NULL;
}

crank_status recipe_put(crank_context *context, crank_recipe *recipe, size_t section, const char *key, option_shape shape,
                        char *value, int line)
{
    recipe_entry *entry = recipe_find(recipe, section, key);
    char         *copy = entry ? NULL : crank_strdup(context, key);
    if (!entry && recipe->entry_count == RECIPE_MOST_ENTRIES)
        crank_fail(context, CRANK_BAD_DATA, "%s: more than %d keys", recipe->path, RECIPE_MOST_ENTRIES);
    else if (!entry && copy && grow(context, (void **)&recipe->entries, recipe->entry_count, sizeof *entry)) {
        entry = &recipe->entries[recipe->entry_count++];
        *entry = (recipe_entry){.section = section, .key = copy};
        copy = NULL;
    }
    crank_free(copy);
    if (!entry) {
        crank_free(value);
        return crank_last_status(context);
    }
    crank_free(entry->value);
    entry->value = value;
    entry->shape = shape;
    entry->line = line;
    return CRANK_OK;
}

/* The value of an override: a list or map in YAML's flow style, null, else the text as it stands */
static crank_status override_value(crank_context *context, const char *name, const char *given, option_shape *shape, char **value)
{
    *shape = OPTION_TEXT;
    *value = NULL;
    if (*given == '[' || *given == '{') return recipe_parse_value(context, name, given, shape, value);
    if (*given && recipe_is_null(given)) *shape = OPTION_NULL;
    else if (!(*value = crank_strdup(context, given))) return CRANK_FAILED;
    return CRANK_OK;
}

/* "section.key=value" */
static crank_status override(crank_context *context, crank_recipe *recipe, const char *text)
{
    const char  *equals = strchr(text, '='), *dot = equals ? memchr(text, '.', (size_t)(equals - text)) : NULL;
    char        *name = dot ? crank_format(context, "%.*s", (int)(equals - text), text) : NULL, *value;
    size_t       section, length = dot ? (size_t)(dot - text) : 0;
    option_shape shape;
    if (dot && !name) return CRANK_FAILED;
    if (name) name[length] = 0;
    if (!name || !recipe_is_name(name) || !recipe_is_name(name + length + 1) || !utf8_is_valid(text, strlen(text))) {
        crank_free(name);
        return crank_fail(context, CRANK_USAGE, "command line: `%.200s`: an override must look like section.key=value", text);
    }
    name[length] = '.';
    crank_status status = override_value(context, name, equals + 1, &shape, &value);
    name[length] = 0;
    if (status == CRANK_OK && !recipe_add_section(context, recipe, name, 0, &section)) {
        crank_free(value);
        status = crank_last_status(context);
    } else if (status == CRANK_OK)
        status = recipe_put(context, recipe, section, name + length + 1, shape, value, 0);
    crank_free(name);
    return status;
}

static crank_status load(crank_context *context, crank_recipe *recipe, const char *path)
{
    size_t length;
    char  *text = file_read(context, path, &length);
    if (!text) return crank_last_status(context);
    crank_status status = length <= RECIPE_LARGEST
                              ? recipe_parse(context, recipe, text, length)
                              : crank_fail(context, CRANK_BAD_DATA, "%s: %zu bytes; a recipe has at most %d", recipe->path,
                                           length, RECIPE_LARGEST);
    crank_free(text);
    return status;
}

crank_recipe *crank_recipe_load(crank_context *context, const char *path, const char *const *overrides, size_t count)
{
    crank_recipe *recipe = crank_alloc(context, 1, sizeof *recipe, "a recipe");
    if (!recipe) return NULL;
    recipe->path = crank_strdup(context, !path ? "command line" : strcmp(path, "-") == 0 ? "standard input" : path);
    crank_status status = recipe->path ? CRANK_OK : CRANK_FAILED;
    if (status == CRANK_OK && path) status = load(context, recipe, path);
    for (size_t i = 0; i < count && status == CRANK_OK; i++) status = override(context, recipe, overrides[i]);
    if (status == CRANK_OK) return recipe;
    crank_recipe_free(recipe);
    return NULL;
}

void crank_recipe_free(crank_recipe *recipe)
{
    if (!recipe) return;
    for (size_t i = 0; i < recipe->entry_count; i++) {
        crank_free(recipe->entries[i].key);
        crank_free(recipe->entries[i].value);
    }
    for (size_t i = 0; i < recipe->section_count; i++) crank_free(recipe->sections[i].name);
    for (size_t i = 0; i < recipe->asked_count; i++) crank_free(recipe->asked[i]);
    free(recipe->entries);
    free(recipe->sections);
    free(recipe->asked);
    crank_free(recipe->path);
    crank_free(recipe);
}

/* Notes that somebody knows "section.key": names to suggest. Without memory there is one suggestion less. */
static void note_asked(crank_recipe *recipe, const char *section, const char *key)
{
    char *name = NULL;
    if (asprintf(&name, "%s.%s", section, key) < 0) return;
    for (size_t i = 0; i < recipe->asked_count; i++)
        if (strcmp(recipe->asked[i], name) == 0) {
            free(name);
            return;
        }
    if (grow(NULL, (void **)&recipe->asked, recipe->asked_count, sizeof *recipe->asked)) recipe->asked[recipe->asked_count++] = name;
    else free(name);
}

/* "path:line" or "command line" */
static char *where_of(crank_context *context, const crank_recipe *recipe, int line)
{
    return line ? crank_format(context, "%s:%d", recipe->path, line) : crank_strdup(context, "command line");
}

crank_status crank_recipe_read(crank_context *context, crank_recipe *recipe, const char *section, const crank_option *table,
                               void *options)
{
    size_t       index;
    crank_status status = CRANK_OK;
    bool         there = recipe_find_section(recipe, section, &index);
    for (const crank_option *option = table; option->type != CRANK_OPTION_END; option++)
        note_asked(recipe, section, option->name);
    if (there) recipe->sections[index].asked = true;
    for (size_t i = 0; there && i < recipe->entry_count && status == CRANK_OK; i++) {
        recipe_entry *entry = &recipe->entries[i];
        if (entry->section != index || !option_find(table, entry->key)) continue;
        char *where = where_of(context, recipe, entry->line);
        status = where ? option_set(context, table, options, entry->key, entry->shape, entry->value, where) : CRANK_FAILED;
        entry->was_read = true;
        crank_free(where);
    }
    return status;
}

const char *crank_recipe_get(crank_recipe *recipe, const char *section, const char *key)
{
    size_t index;
    note_asked(recipe, section, key);
    if (!recipe_find_section(recipe, section, &index)) return NULL;
    recipe->sections[index].asked = true;
    recipe_entry *entry = recipe_find(recipe, index, key);
    if (entry) entry->was_read = true;
    return entry ? entry->value : NULL;
}

bool crank_recipe_has(const crank_recipe *recipe, const char *section)
{
    size_t index;
    return recipe_find_section(recipe, section, &index);
}

/* Adds "; did you mean `...`?", or the keys that the section has. */
static void suggest(const crank_recipe *recipe, const char *section, const char *name, text_buffer *out)
{
    const char *near = crank_closest(name, (const char *const *)recipe->asked, recipe->asked_count);
    size_t      length = strlen(section), listed = 0;
    if (near) {
        text_printf(out, "; did you mean `%s`?", near);
        return;
    }
    for (size_t i = 0; i < recipe->asked_count && listed < 64; i++)
        if (strncmp(recipe->asked[i], section, length) == 0 && recipe->asked[i][length] == '.')
            text_printf(out, "%s%s", listed++ ? ", " : "; the section's keys are: ", recipe->asked[i] + length + 1);
    if (!listed) text_puts(out, "; nothing here reads that section");
}

crank_status crank_recipe_finish(crank_context *context, const crank_recipe *recipe)
{
    enum { MOST_TOLD = 8 };
    text_buffer told = {0};
    size_t      count = 0;
    for (size_t i = 0; i < recipe->section_count; i++) {
        size_t keys = 0;
        for (size_t j = 0; j < recipe->entry_count; j++) keys += recipe->entries[j].section == i;
        if (keys || recipe->sections[i].asked || count++ >= MOST_TOLD) continue;
        text_printf(&told, "%s%s:%d: unknown section `%s`", told.length ? "\n" : "", recipe->path, recipe->sections[i].line,
                    recipe->sections[i].name);
    }
    for (size_t i = 0; i < recipe->entry_count; i++) {
        const recipe_entry *entry = &recipe->entries[i];
        if (entry->was_read || count++ >= MOST_TOLD) continue;
        const char *section = recipe->sections[entry->section].name;
        char       *where = where_of(context, recipe, entry->line), *name = crank_format(context, "%s.%s", section, entry->key);
        if (where && name) {
            text_printf(&told, "%s%s: unknown key `%s`", told.length ? "\n" : "", where, name);
            suggest(recipe, section, name, &told);
        } else told.failed = true;
        crank_free(where);
        crank_free(name);
    }
    if (count > MOST_TOLD) text_printf(&told, "\nand %zu more", count - MOST_TOLD);
    if (count == 0) return CRANK_OK;
    char *text = text_take(context, &told, "a message");
    if (!text) return CRANK_FAILED;
    crank_status status = crank_fail(context, CRANK_USAGE, "%s", text);
    crank_free(text);
    return status;
}
