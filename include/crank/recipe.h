/* recipe.h - YAML recipes with `section.key=value` overrides.
 *
 * A recipe is two levels deep: sections of keys. Every key remembers where it was written, and every key must be read
 * by somebody: crank_recipe_finish names the ones nobody asked for, with file, line and the closest valid key. */
#ifndef CRANK_RECIPE_H
#define CRANK_RECIPE_H

#include "crank/option.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct crank_recipe crank_recipe;

/* Reads `path` ("-" is standard input; NULL an empty recipe), then applies the overrides "section.key=value".
 * A value may be a scalar, a list of scalars or a mapping of scalars. YAML 1.2 core scalars: `no` is a string, `1e-4` a
 * number, `null` "not given". An override's value is a list or map where it begins with [ or {, and the text as it stands
 * else; the last override of a key wins. Duplicate keys, anchors, aliases, tags, deeper nesting and a second document are
 * errors with file:line:column. NULL on error. */
CRANK_API crank_recipe *crank_recipe_load(crank_context *context, const char *path, const char *const *overrides, size_t count);
CRANK_API void          crank_recipe_free(crank_recipe *recipe);

/* Fills options from a section; each key of the section that the table knows is marked as read. A section may be read
 * through several tables (the engine's keys and a method's): unknown keys are told by crank_recipe_finish. */
CRANK_API crank_status crank_recipe_read(crank_context *context, crank_recipe *recipe, const char *section,
                                         const crank_option *table, void *options);
/* One raw value (lists joined by '\n'), or NULL; marks it as read. */
CRANK_API const char *crank_recipe_get(crank_recipe *recipe, const char *section, const char *key);
CRANK_API bool        crank_recipe_has(const crank_recipe *recipe, const char *section);

/* CRANK_USAGE when a key was never read: "recipe.yaml:7: unknown key `lowrnak.rank`; did you mean `lowrank.rank`?" */
CRANK_API crank_status crank_recipe_finish(crank_context *context, const crank_recipe *recipe);

/* The effective recipe as YAML text, keys in order, overrides applied. malloc'd; crank_free. */
CRANK_API char *crank_recipe_text(crank_context *context, const crank_recipe *recipe);

#ifdef __cplusplus
}
#endif
#endif
