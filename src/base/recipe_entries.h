/* recipe_entries.h - what a recipe holds: sections, and entries in the order in which they were written. */
#ifndef CRANK_BASE_RECIPE_ENTRIES_H
#define CRANK_BASE_RECIPE_ENTRIES_H

#include "base/option_value.h"
#include "crank/recipe.h"

enum {
    RECIPE_LARGEST      = 1 << 20, /* bytes of a recipe */
    RECIPE_MOST_ENTRIES = 4096,    /* entries of a recipe, elements of a list or map */
    RECIPE_LONGEST_NAME = 400      /* bytes of a key: written with escapes it must stay under the 1024 characters that YAML reads */
};

typedef struct recipe_section {
    char *name;
    int   line;  /* 0: command line */
    bool  asked; /* read by somebody, though it may have no keys */
} recipe_section;

typedef struct recipe_entry {
    size_t       section; /* index */
    char        *key, *value; /* value: as option_shape says; NULL for OPTION_NULL */
    option_shape shape;
    int          line; /* 0: command line */
    bool         was_read;
} recipe_entry;

struct crank_recipe {
    char           *path; /* as given; "-" reads "standard input" */
    recipe_section *sections;
    recipe_entry   *entries;
    char          **asked; /* "section.key" of each key that some table knows */
    size_t          section_count, entry_count, asked_count;
};

/* Index of a section, made when it is new. False: out of memory or too many (message set). */
bool recipe_add_section(crank_context *context, crank_recipe *recipe, const char *name, int line, size_t *index);
bool recipe_find_section(const crank_recipe *recipe, const char *name, size_t *index);
recipe_entry *recipe_find(const crank_recipe *recipe, size_t section, const char *key); /* NULL: none */
/* Sets (or adds) an entry; takes over `value`, also on failure. */
crank_status recipe_put(crank_context *context, crank_recipe *recipe, size_t section, const char *key, option_shape shape,
                        char *value, int line);

/* YAML text -> sections and entries */
crank_status recipe_parse(crank_context *context, crank_recipe *recipe, const char *text, size_t length);
/* A flow list or map ("[a, b]", "{k: v}") -> shape and value (crank_free) */
crank_status recipe_parse_value(crank_context *context, const char *name, const char *text, option_shape *shape, char **value);
bool recipe_is_name(const char *name);         /* of a section or key: one word without =, not too long */
bool recipe_is_null(const char *plain_scalar); /* YAML 1.2 core: empty, ~, null */
#endif
