/* help.c - crank help [NAME]: verbs, methods, optimisers, objectives and recipe sections, all from their option tables. */
#include "cli/help.h"
#include "crank/tree.h"
#include "data/letor.h"
#include "rank/unbiased.h"

#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "data/dataset.h"
#include "task/recipe.h"
#include "task/rules.h"

#include "crank/model.h"

const help_section help_sections[] = {
    {"model", "the base model", model_options},
    {"data", "training and held-out rows", dataset_option_table},
    {"lowrank", "where a low-rank method stands (its own options: crank help METHOD)", lowrank_options},
    {"optim", "the optimiser (its own options: crank help OPTIMIZER)", optim_options},
    {"loss", "the objective (its own options: crank help OBJECTIVE)", NULL},
    {"train", "the run", train_options},
    {"memory", "limits", memory_options},
    {"output", "what is written", output_options},
    {NULL, NULL, NULL},
};

#define ENTRY_OF(function, type, next)                                                                                                     \
    static bool function(size_t i, help_entry *entry)                                                                                      \
    {                                                                                                                                      \
        const type *d = next(i);                                                                                                           \
        if (d) *entry = (help_entry){d->name, d->paper, d->summary, d->options};                                                           \
        return d != NULL;                                                                                                                  \
    }
ENTRY_OF(method_at, crank_map, crank_map_at)
ENTRY_OF(optimizer_at, crank_optimizer, crank_optimizer_at)
ENTRY_OF(objective_at, crank_objective, crank_objective_at)

static bool family_at(size_t i, help_entry *entry)
{
    *entry = (help_entry){.name = crank_family_name(i)};
    if (entry->name) entry->summary = crank_family_summary(i);
    return entry->name != NULL;
}

const help_kind help_kinds[] = {
    {"methods", "method", "low-rank methods", "lowrank.method", method_at},
    {"optimizers", "optimizer", "optimisers", "optim.method", optimizer_at},
    {"objectives", "objective", "objectives", "loss.objective", objective_at},
    {"families", "family", "model families", NULL, family_at},
    {NULL, NULL, NULL, NULL, NULL},
};

typedef struct options {
    bool        man;
    const char *completion;
} options;

static const crank_option option_table[] = {
    CRANK_BOOL(options, man, false, "print the man page (roff)"),
    CRANK_CHOICE(options, completion, NULL, "bash|zsh|fish", "print the completion script of a shell"),
    CRANK_END
};

const char *help_flag(const char *name, char *out, size_t size)
{
    size_t i = 0;
    for (; name[i] && i + 1 < size; i++) out[i] = name[i] == '_' ? '-' : name[i];
    out[i] = 0;
    return out;
}

static crank_status print_text(char *text)
{
    if (!text) return CRANK_FAILED;
    fputs(text, stdout);
    crank_free(text);
    return CRANK_OK;
}

static crank_status print_table(cli_call *cli, const crank_option *table) { return table ? print_text(crank_options_help(cli->context, table)) : CRANK_OK; }

char *cli_verb_help(crank_context *context, const cli_verb *verb)
{
    char       *own = verb->options ? crank_options_help(context, verb->options) : NULL, *common = crank_options_help(context, cli_common_options);
    text_buffer text = {0};
    bool        whole = common && (!verb->options || own);
    text_printf(&text, "crank %s - %s\n\nusage: crank %s %s\n", verb->name, verb->summary, verb->name, verb->usage);
    if (verb->details) text_printf(&text, "\n%s\n", verb->details);
    if (own) {
        text_puts(&text, "\noptions (--name value; `_` is written `-`)");
        if (verb->letters) text_printf(&text, "; short forms %s", verb->letters);
        text_printf(&text, ":\n%s", own);
    }
    if (common) text_printf(&text, "\nfor every verb:\n%s", common);
    crank_free(own), crank_free(common);
    if (whole) return text_take(context, &text, "a help text");
    text_clear(&text);
    return NULL;
}

static void print_list(const help_kind *kind)
{
    help_entry e;
    for (size_t i = 0; kind->at(i, &e); i++) {
        if (kind->recipe) printf("  %-16s %-22s %s\n", e.name, e.paper ? e.paper : "", e.summary);
        else printf("  %-16s %s\n", e.name, e.summary);
    }
}

static crank_status print_entry(cli_call *cli, const help_kind *kind, const help_entry *e)
{
    printf("%s %s - %s\n", kind->one, e->name, e->summary);
    if (e->paper) printf("source: %s\n", e->paper);
    if (kind->recipe) printf("recipe: %s\n", kind->recipe);
    if (e->options) printf("\noptions in the same section:\n");
    return print_table(cli, e->options);
}

static crank_status print_overview(void)
{
    printf("crank VERB [options] [words]\n\nverbs:\n");
    for (size_t i = 0; cli_verbs[i]; i++) printf("  %-12s %s\n", cli_verbs[i]->name, cli_verbs[i]->summary);
    printf("\nlists:\n");
    for (const help_kind *kind = help_kinds; kind->name; kind++) {
        printf("  crank help %-12s %s%s%s%s\n", kind->name, kind->summary, kind->recipe ? " (recipe: " : "", kind->recipe ? kind->recipe : "",
               kind->recipe ? ")" : "");
    }
    printf("  crank help %-12s what excludes each other, and why\n", "matrix");
    printf("\nrecipe sections (crank help NAME):\n");
    for (const help_section *section = help_sections; section->name; section++) printf("  %-12s %s\n", section->name, section->summary);
    return CRANK_OK;
}

static crank_status print_matrix(void)
{
    printf("base weights, methods, optimisers, objectives, families and precisions combine freely, but for these rules:\n");
    for (size_t i = 0; rules_at(i); i++) {
        const combination_rule *rule = rules_at(i);
        printf("\n%s (%s)\n  %s\n  instead: %s\n", rule->name, rule->pair, rule->because, rule->instead);
    }
    return CRANK_OK;
}

static crank_status unknown_name(cli_call *cli, const char *name)
{
    const char *names[1024];
    size_t      count = 0;
    help_entry  e;
    for (size_t i = 0; cli_verbs[i] && count < 1024; i++) names[count++] = cli_verbs[i]->name;
    for (const help_kind *kind = help_kinds; kind->name; kind++)
        for (size_t i = 0; count < 1024 && kind->at(i, &e); i++) names[count++] = e.name;
    const char *closest = crank_closest(name, names, count);
    return crank_fail(cli->context, CRANK_USAGE, "nothing is called `%s`%s%s%s", name, closest ? "; did you mean `" : "", closest ? closest : "",
                      closest ? "`?" : "");
}

static crank_status run(cli_call *cli)
{
    const options *o = cli->options;
    if (o->man) return print_text(help_man(cli->context));
    if (o->completion) return print_text(help_completion(cli->context, o->completion));
    if (!cli->word_count) return print_overview();
    const char     *name = cli->words[0];
    if (!strcmp(name, "matrix")) return print_matrix();
    const cli_verb *verb = cli_find(name);
    bool            found = verb != NULL;
    crank_status    status = verb ? print_text(cli_verb_help(cli->context, verb)) : CRANK_OK;
    if (verb && !strcmp(name, "rank")) { /* its words are keys of these tables */
        puts("\ntree.KEY=VALUE:");
        status = print_table(cli, crank_trees_options());
        if (status == CRANK_OK) puts("\nfit.KEY=VALUE (model=linear, mlp, attention, coordinate-ascent):"), status = print_table(cli, rank_option_table);
        if (status == CRANK_OK) puts("\nclicks.KEY=VALUE (fit --clicks, propensity):"), status = print_table(cli, unbiased_option_table);
        if (status == CRANK_OK) puts("\nuser.KEY=VALUE (simulate):"), status = print_table(cli, click_simulator_table);
        if (status == CRANK_OK) puts("\ndata.KEY=VALUE:"), status = print_table(cli, letor_option_table);
    }
    for (const help_section *section = help_sections; section->name && status == CRANK_OK; section++) {
        if (strcmp(section->name, name)) continue;
        printf("section %s: %s\n", name, section->summary);
        status = print_table(cli, section->options);
        found = true;
    }
    for (const help_kind *kind = help_kinds; kind->name; kind++) {
        help_entry e;
        if (!strcmp(kind->name, name)) print_list(kind), found = true;
        for (size_t i = 0; status == CRANK_OK && kind->at(i, &e); i++)
            if (!strcmp(e.name, name)) status = print_entry(cli, kind, &e), found = true;
    }
    return found ? status : unknown_name(cli, name);
}

const cli_verb verb_help = {
    .name = "help",
    .usage = "[VERB | METHOD | OPTIMIZER | OBJECTIVE | SECTION | methods | optimizers | objectives | families | matrix]",
    .summary = "what there is, and the options of everything",
    .options = option_table,
    .options_size = sizeof(options),
    .words_high = 1,
    .brief = true,
    .run = run,
};
