/* main.c - crank VERB [options] [words]: finds the verb, reads its options, runs it, and turns a status into an exit code. */
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/number.h"
#include "cli/cli.h"
#include "base/signals.h"
#include "crank/plugin.h"

const crank_option cli_common_options[] = {
    CRANK_BOOL(cli_common, json, false, "print the result as one JSON object"),
    CRANK_BOOL(cli_common, quiet, false, "no log lines and no progress"),
    CRANK_BOOL(cli_common, verbose, false, "more log lines"),
    CRANK_BOOL(cli_common, help, false, "show this help"),
    CRANK_INT(cli_common, threads, 0, 0, 1024, "threads; 0: all cores"),
    CRANK_STRING(cli_common, device, NULL, "cpu, cuda, cuda:N or auto: where models run; auto takes a GPU when there is one"),
    CRANK_STRING(cli_common, plugin, NULL, "shared object with methods to register (built against the installed headers)"),
    CRANK_END
};

static void print_log(void *user, crank_level level, const char *line)
{
    const cli_call *cli = user;
    if (cli->common.quiet || (level == CRANK_DEBUG && !cli->common.verbose)) return;
    fprintf(stderr, "%s%s\n", level == CRANK_WARNING ? "warning: " : "", line);
}

const cli_verb *cli_find(const char *name)
{
    for (size_t i = 0; cli_verbs[i]; i++)
        if (!strcmp(cli_verbs[i]->name, name)) return cli_verbs[i];
    return NULL;
}

static const crank_option *find_option(const crank_option *table, const char *name)
{
    for (; table && table->name; table++)
        if (!strcmp(table->name, name)) return table;
    return NULL;
}

/* "max-new" on the command line is the option max_new. */
static void option_name(const char *word, size_t length, char *name, size_t size)
{
    size_t i = 0;
    for (; i < length && i + 1 < size; i++) name[i] = word[i] == '-' ? '_' : word[i];
    name[i] = 0;
}

static const char *letter_name(const cli_verb *verb, char letter)
{
    static const char common[] = "q=quiet v=verbose h=help ";
    const char *const lists[] = {verb->letters ? verb->letters : "", common};
    for (int k = 0; k < 2; k++)
        for (const char *at = lists[k]; *at; at++)
            if (at[0] == letter && at[1] == '=' && (at == lists[k] || at[-1] == ' ')) return at + 2;
    return NULL;
}

static crank_status unknown_option(crank_context *context, const cli_verb *verb, const char *name)
{
    const char *names[256];
    size_t      count = 0;
    const crank_option *const tables[] = {verb->options, cli_common_options};
    for (int k = 0; k < 2; k++)
        for (const crank_option *o = tables[k]; o && o->name && count < 256; o++) names[count++] = o->name;
    const char *closest = crank_closest(name, names, count);
    char        text[128] = "";
    if (closest) {
        option_name("", 0, text, sizeof text);
        size_t i = 0;
        for (; closest[i] && i + 1 < sizeof text; i++) text[i] = closest[i] == '_' ? '-' : closest[i];
        text[i] = 0;
    }
    return crank_fail(context, CRANK_USAGE, "crank %s has no option `--%s`%s%s%s; see `crank help %s`", verb->name, name,
                      closest ? "; did you mean `--" : "", text, closest ? "`?" : "", verb->name);
}

static crank_status add_to_list(crank_context *context, const crank_option *table, const crank_option *option, void *options, const char *value)
{
    const char  *before = *(const char **)(void *)((char *)options + option->offset);
    char        *old = crank_strdup(context, before ? before : "");
    crank_status status = old ? crank_options_set(context, table, options, option->name, value, "command line") : CRANK_FAILED;
    const char  *added = *(const char **)(void *)((char *)options + option->offset);
    char        *both = status == CRANK_OK ? crank_format(context, "%s%s%s", old, *old ? "\n" : "", added ? added : "") : NULL;
    if (status == CRANK_OK) status = both ? crank_options_set(context, table, options, option->name, both, "command line") : CRANK_FAILED;
    crank_free(both);
    crank_free(old);
    return status;
}

/* Sets one option; *used tells whether the next word was its value. */
static crank_status set_option(cli_call *cli, const cli_verb *verb, const char *name, const char *value, const char *next, bool *used)
{
    const crank_option *table = verb->options, *option = find_option(table, name);
    void               *options = cli->options;
    if (!option) {
        table = cli_common_options;
        option = find_option(table, name);
        options = &cli->common;
    }
    *used = false;
    if (!option) return unknown_option(cli->context, verb, name);
    if (table == cli_common_options) { /* a plain struct: three kinds of fields */
        char *field = (char *)options + option->offset;
        if (option->type == CRANK_OPTION_BOOL) {
            if (value && strcmp(value, "true") && strcmp(value, "false"))
                return crank_fail(cli->context, CRANK_USAGE, "command line: `%s` is %s; it must be true or false", name, value);
            *(bool *)(void *)field = !value || !strcmp(value, "true");
            return CRANK_OK;
        }
        *used = !value;
        value = value ? value : next;
        if (!value) return crank_fail(cli->context, CRANK_USAGE, "option --%s needs a value", name);
        if (option->type == CRANK_OPTION_INT) {
            int64_t n;
            if (!number_parse_int(value, &n) || (double)n < option->low || (double)n > option->high)
                return crank_fail(cli->context, CRANK_USAGE, "command line: `%s` is %s; it must be a whole number from %.0f to %.0f", name, value, option->low, option->high);
            *(int64_t *)(void *)field = n;
        } else
            *(const char **)(void *)field = value;
        return CRANK_OK;
    }
    if (!value && option->type == CRANK_OPTION_BOOL) return crank_options_set(cli->context, table, options, name, "true", "command line");
    if (!value) {
        value = next;
        *used = true;
    }
    if (!value) return crank_fail(cli->context, CRANK_USAGE, "option --%s needs a value", name);
    if (option->type == CRANK_OPTION_LIST && crank_options_given(options, table, name)) /* a list grows where it is given again */
        return add_to_list(cli->context, table, option, options, value);
    return crank_options_set(cli->context, table, options, name, value, "command line");
}

static crank_status read_arguments(cli_call *cli, const cli_verb *verb, int argc, char **argv)
{
    bool only_words = false;
    for (int i = 0; i < argc; i++) {
        char        *word = argv[i], name[128];
        const char  *value = NULL, *next = i + 1 < argc ? argv[i + 1] : NULL;
        bool         used;
        crank_status status = CRANK_OK;
        if (only_words || word[0] != '-' || !word[1]) {
            cli->words[cli->word_count++] = word;
            continue;
        }
        if (!strcmp(word, "--")) {
            only_words = true;
            continue;
        }
        if (word[1] == '-') {
            const char *equals = strchr(word + 2, '=');
            option_name(word + 2, equals ? (size_t)(equals - word - 2) : strlen(word + 2), name, sizeof name);
            value = equals ? equals + 1 : NULL;
        } else {
            const char *full = letter_name(verb, word[1]);
            if (!full) return unknown_option(cli->context, verb, word + 1);
            option_name(full, strcspn(full, " "), name, sizeof name);
            if (word[2]) value = word + 2;
        }
        status = set_option(cli, verb, name, value, next, &used);
        if (status != CRANK_OK) return status;
        i += used;
    }
    if (!cli->common.help && (cli->word_count < verb->words_low || (verb->words_high >= 0 && cli->word_count > verb->words_high)))
        return crank_fail(cli->context, CRANK_USAGE, "usage: crank %s %s", verb->name, verb->usage);
    return CRANK_OK;
}

static crank_status run_verb(cli_call *cli, const cli_verb *verb, int argc, char **argv)
{
    crank_status status = read_arguments(cli, verb, argc, argv);
    if (status != CRANK_OK) return status;
    if (cli->common.help) {
        char *text = cli_verb_help(cli->context, verb);
        if (!text) return CRANK_FAILED;
        fputs(text, stdout);
        crank_free(text);
        return CRANK_OK;
    }
    if (cli->common.threads) crank_set_threads(cli->context, (int)cli->common.threads);
    if (cli->common.plugin && crank_plugin_load(cli->context, cli->common.plugin) != CRANK_OK) return crank_last_status(cli->context);
    return verb->run(cli);
}

static int usage(FILE *out, int code)
{
    fprintf(out, "crank %s: low-rank training of neural networks and learning to rank\n\nusage: crank VERB [options] [words]\n\n", crank_version());
    for (size_t i = 0; cli_verbs[i]; i++) fprintf(out, "  %-10s %s\n", cli_verbs[i]->name, cli_verbs[i]->summary);
    fprintf(out, "\n`crank help VERB` shows a verb's options, `crank help METHOD` a method's.\n");
    return code;
}

/* By default threads of libgomp that wait spin for milliseconds, which makes a program on a busy machine several times slower. The
 * library reads the limit when it is loaded, so the program starts itself once more with a limit of some tens of microseconds;
 * what the user has set stays. Verbs that are done in about the time of a second start do without. */
static void limit_spinning(char **argv, const cli_verb *verb)
{
    if (!verb || verb->brief || getenv("GOMP_SPINCOUNT") || getenv("OMP_WAIT_POLICY") || setenv("GOMP_SPINCOUNT", "20000", 1) != 0) return;
    execv("/proc/self/exe", argv); /* where it fails, the program goes on as it is */
}

int main(int argc, char **argv)
{
    if (argc < 2) return usage(stderr, CRANK_USAGE);
    if (!strcmp(argv[1], "--version") || !strcmp(argv[1], "-V")) {
        printf("crank %s\n", crank_version());
        return 0;
    }
    if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h")) return usage(stdout, 0);
    const cli_verb *verb = cli_find(argv[1]);
    limit_spinning(argv, verb);
    cli_call cli = {.context = crank_context_new()};
    if (!cli.context) return CRANK_FAILED;
    if (!verb) {
        const char *names[64];
        size_t      count = 0;
        while (cli_verbs[count] && count < 64) names[count] = cli_verbs[count]->name, count++;
        const char *closest = crank_closest(argv[1], names, count);
        fprintf(stderr, "crank: there is no verb `%s`%s%s%s\n", argv[1], closest ? "; did you mean `" : "", closest ? closest : "", closest ? "`?" : "");
        crank_context_free(cli.context);
        return CRANK_USAGE;
    }
    crank_set_log(cli.context, print_log, &cli);
    signals_watch(cli.context);
    cli.words = calloc((size_t)argc, sizeof *cli.words);
    cli.options = verb->options ? crank_options_new(cli.context, verb->options, verb->options_size) : NULL;
    crank_status status = cli.words && (!verb->options || cli.options) ? run_verb(&cli, verb, argc - 2, argv + 2) : CRANK_FAILED;
    if (status != CRANK_OK && crank_message(cli.context)[0]) fprintf(stderr, "crank: %s\n", crank_message(cli.context));
    if (fflush(stdout) || ferror(stdout)) {
        perror("crank: writing the result");
        if (status == CRANK_OK) status = CRANK_FAILED;
    }
    if (cli.options) crank_options_free(cli.options);
    free(cli.words);
    signals_unwatch(cli.context);
    crank_context_free(cli.context);
    return (int)status;
}
