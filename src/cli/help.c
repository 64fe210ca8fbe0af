/* help.c - crank help [NAME]: verbs, methods, optimisers, objectives and recipe sections, all from their option tables. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "task/recipe.h"

#include "crank/model.h"

static crank_status print_table(cli_call *cli, const crank_option *table)
{
    char *text = table ? crank_options_help(cli->context, table) : NULL;
    if (table && !text) return CRANK_FAILED;
    if (text) fputs(text, stdout);
    crank_free(text);
    return CRANK_OK;
}

char *cli_verb_help(crank_context *context, const cli_verb *verb)
{
    char  *text = NULL, *own = verb->options ? crank_options_help(context, verb->options) : NULL;
    char  *common = crank_options_help(context, cli_common_options);
    size_t length = 0;
    FILE  *out = open_memstream(&text, &length);
    if (!out || !common || (verb->options && !own)) {
        if (out) fclose(out);
        free(text);
        crank_free(own), crank_free(common);
        crank_fail(context, CRANK_FAILED, "out of memory: a help text");
        return NULL;
    }
    fprintf(out, "crank %s - %s\n\nusage: crank %s %s\n", verb->name, verb->summary, verb->name, verb->usage);
    if (verb->details) fprintf(out, "\n%s\n", verb->details);
    if (own) fprintf(out, "\noptions (--name value; `_` is written `-`)%s%s%s:\n%s", verb->letters ? "; short forms " : "", verb->letters ? verb->letters : "", "", own);
    fprintf(out, "\nfor every verb:\n%s", common);
    fclose(out);
    crank_free(own), crank_free(common);
    return text;
}

typedef struct section {
    const char         *name, *summary;
    const crank_option *table;
} section;

static const section sections[] = {
    {"model", "the base model", model_options},
    {"lowrank", "where a low-rank method stands (its own options: crank help METHOD)", lowrank_options},
    {"optim", "the optimiser (its own options: crank help OPTIMIZER)", optim_options},
    {"train", "the run", train_options},
    {"memory", "limits", memory_options},
    {"output", "what is written", output_options},
};

static void list_methods(void)
{
    const crank_map *map;
    for (size_t i = 0; (map = crank_map_at(i)); i++) printf("  %-16s %-22s %s\n", map->name, map->paper ? map->paper : "", map->summary);
}

static void list_optimizers(void)
{
    const crank_optimizer *optimizer;
    for (size_t i = 0; (optimizer = crank_optimizer_at(i)); i++)
        printf("  %-16s %-22s %s\n", optimizer->name, optimizer->paper ? optimizer->paper : "", optimizer->summary);
}

static void list_objectives(void)
{
    const crank_objective *objective;
    for (size_t i = 0; (objective = crank_objective_at(i)); i++)
        printf("  %-16s %-22s %s\n", objective->name, objective->paper ? objective->paper : "", objective->summary);
}

static void list_families(void)
{
    for (size_t i = 0; crank_family_name(i); i++) printf("  %-16s %s\n", crank_family_name(i), crank_family_summary(i));
}

static const struct {
    const char *name, *summary;
    void (*print)(void);
} lists[] = {{"methods", "low-rank methods (recipe: lowrank.method)", list_methods},
             {"optimizers", "optimisers (recipe: optim.method)", list_optimizers},
             {"objectives", "objectives (recipe: loss.objective)", list_objectives},
             {"families", "model families", list_families}};

static crank_status print_named(cli_call *cli, const char *kind, const char *name, const char *paper, const char *summary, const char *in, const crank_option *table)
{
    printf("%s %s - %s\n", kind, name, summary);
    if (paper) printf("source: %s\n", paper);
    printf("recipe: %s\n", in);
    if (table) printf("\noptions in the same section:\n");
    return print_table(cli, table);
}

static crank_status print_overview(void)
{
    printf("crank VERB [options] [words]\n\nverbs:\n");
    for (size_t i = 0; cli_verbs[i]; i++) printf("  %-12s %s\n", cli_verbs[i]->name, cli_verbs[i]->summary);
    printf("\nlists:\n");
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) printf("  crank help %-12s %s\n", lists[i].name, lists[i].summary);
    printf("\nrecipe sections (crank help NAME):\n");
    for (size_t i = 0; i < sizeof sections / sizeof sections[0]; i++) printf("  %-12s %s\n", sections[i].name, sections[i].summary);
    return CRANK_OK;
}

static crank_status run(cli_call *cli)
{
    if (!cli->word_count) return print_overview();
    const char     *name = cli->words[0];
    const cli_verb *verb = cli_find(name);
    bool            found = false;
    crank_status    status = CRANK_OK;
    if (verb) {
        char *text = cli_verb_help(cli->context, verb);
        if (!text) return CRANK_FAILED;
        fputs(text, stdout);
        crank_free(text);
        found = true;
    }
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++)
        if (!strcmp(lists[i].name, name)) lists[i].print(), found = true;
    for (size_t i = 0; i < sizeof sections / sizeof sections[0]; i++)
        if (!strcmp(sections[i].name, name)) {
            printf("section %s: %s\n", name, sections[i].summary);
            status = print_table(cli, sections[i].table);
            found = true;
        }
    const crank_map       *map = crank_map_find(name);
    const crank_optimizer *optimizer = crank_optimizer_find(name);
    const crank_objective *objective = crank_objective_find(name);
    if (map) status = print_named(cli, "method", name, map->paper, map->summary, "lowrank.method", map->options), found = true;
    if (optimizer) status = print_named(cli, "optimizer", name, optimizer->paper, optimizer->summary, "optim.method", optimizer->options), found = true;
    if (objective) status = print_named(cli, "objective", name, objective->paper, objective->summary, "loss.objective", objective->options), found = true;
    if (found) return status;
    const char *names[512];
    size_t      count = 0;
    for (size_t i = 0; cli_verbs[i] && count < 512; i++) names[count++] = cli_verbs[i]->name;
    for (size_t i = 0; (map = crank_map_at(i)) && count < 512; i++) names[count++] = map->name;
    for (size_t i = 0; (optimizer = crank_optimizer_at(i)) && count < 512; i++) names[count++] = optimizer->name;
    for (size_t i = 0; (objective = crank_objective_at(i)) && count < 512; i++) names[count++] = objective->name;
    const char *closest = crank_closest(name, names, count);
    return crank_fail(cli->context, CRANK_USAGE, "nothing is called `%s`%s%s%s", name, closest ? "; did you mean `" : "", closest ? closest : "",
                      closest ? "`?" : "");
}

const cli_verb verb_help = {
    .name = "help",
    .usage = "[VERB | METHOD | OPTIMIZER | OBJECTIVE | SECTION | methods | optimizers | objectives | families]",
    .summary = "what there is, and the options of everything",
    .words_high = 1,
    .run = run,
};
