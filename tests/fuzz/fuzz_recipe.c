/* Any text as a recipe, and as an override: refused with a message, or its text loads to the same recipe. */
#include <string.h>

#include "crank/recipe.h"
#include "memory_file.h"

typedef struct {
    int64_t     rank;
    double      alpha;
    bool        rslora;
    const char *init, *targets, *groups, *name;
} options;

static const crank_option table[] = {
    CRANK_INT(options, rank, 16, 1, 65536, "rank"),
    CRANK_FLOAT(options, alpha, 32, 0, 1e9, "scale"),
    CRANK_BOOL(options, rslora, false, "other scale"),
    CRANK_CHOICE(options, init, "kaiming", "kaiming|gaussian", "start"),
    CRANK_LIST(options, targets, NULL, "linears"),
    CRANK_MAP(options, groups, NULL, "groups"),
    CRANK_STRING(options, name, NULL, "name"),
    CRANK_END,
};

static void read_options(crank_context *context, crank_recipe *recipe)
{
    static const char *const sections[] = {"lowrank", "optim", "data", "run"};
    for (size_t i = 0; i < sizeof sections / sizeof *sections; i++) {
        options *opt = crank_options_new(context, table, sizeof *opt);
        char     key[16], value[16];
        if (crank_recipe_read(context, recipe, sections[i], table, opt) != CRANK_OK && !*crank_message(context)) abort();
        for (const char *cursor = opt->targets; crank_list_next(&cursor, key, sizeof key, NULL, 0);) {}
        for (const char *cursor = opt->groups; crank_list_next(&cursor, key, sizeof key, value, sizeof value);) {}
        crank_options_free(opt);
    }
    if (crank_recipe_finish(context, recipe) != CRANK_OK && !*crank_message(context)) abort();
}

static void load_again(crank_context *context, const crank_recipe *recipe)
{
    char         *text = crank_recipe_text(context, recipe);
    memory_file   file = memory_file_open((const uint8_t *)text, strlen(text));
    crank_recipe *again = crank_recipe_load(context, file.path, NULL, 0);
    char         *second = again ? crank_recipe_text(context, again) : NULL;
    if (!second || strcmp(text, second) != 0) {
        fprintf(stderr, "%s\n%s\n%s\n", crank_message(context), text, second ? second : "-");
        abort();
    }
    crank_free(text);
    crank_free(second);
    crank_recipe_free(again);
    memory_file_close(&file);
}

static void check(crank_context *context, crank_recipe *recipe)
{
    if (recipe) {
        load_again(context, recipe);
        read_options(context, recipe);
    } else if (!*crank_message(context)) abort();
    crank_recipe_free(recipe);
    crank_clear(context);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    crank_context *context = crank_context_new();
    memory_file    file = memory_file_open(data, size);
    char          *text = strndup((const char *)data, size);
    char          *typed = malloc(size + 32);
    sprintf(typed, "lowrank.targets=%s", text);
    const char *const overrides[] = {text, typed};
    check(context, crank_recipe_load(context, file.path, NULL, 0));
    check(context, crank_recipe_load(context, NULL, overrides, 1));
    check(context, crank_recipe_load(context, NULL, overrides + 1, 1));
    free(typed);
    free(text);
    memory_file_close(&file);
    crank_context_free(context);
    return 0;
}
