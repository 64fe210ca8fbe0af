/* compare.c - crank compare METHOD METHOD ... --recipe R: which method is best on the user's own data. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/text.h"
#include "cli/cli.h"
#include "task/compare.h"

typedef struct options {
    const char *recipe, *match, *out;
    int64_t     tune, seeds;
} options;

static const crank_option option_table[] = {
    CRANK_STRING(options, recipe, NULL, "the recipe that all share; what belongs to one method stands behind its name"),
    CRANK_CHOICE(options, match, "none", "none|params|memory|time", "choose ranks so that all train as many values, or plan as much memory, as the first; or steps, so that all take as long"),
    CRANK_INT(options, tune, 3, 1, COMPARE_TRIALS, "rates that every method is tried at: half decades around train.lr"),
    CRANK_INT(options, seeds, 3, 1, COMPARE_TRIALS, "runs of each at its best rate"),
    CRANK_STRING(options, out, "compare", "folder of the trials and of compare.html"),
    CRANK_END
};

static void show(void *user, const char *line)
{
    (void)user;
    fprintf(stderr, "\r\033[K%s\n", line);
}

static void print_table(const comparison *c)
{
    printf("%-28s %10s %12s %12s %25s %9s %9s %12s\n", "method", "best rate", c->classified ? "accuracy" : "loss", "less first", "95 % interval", "seconds", "MiB", "trained");
    for (int i = 0; i < c->count; i++) {
        const compare_method *m = &c->methods[i];
        const compare_trial  *t = m->seeded ? &m->seeds[m->seeded - 1] : &m->tune[0];
        char                  name[64], interval[64] = "";
        double                mean, half;
        compare_difference(c, i, &mean, &half);
        snprintf(name, sizeof name, m->rank ? "%.40s (rank %lld)" : "%.40s", m->spec, (long long)m->rank);
        if (m->best < 0) {
            printf("%-28s every rate diverged\n", name);
            continue;
        }
        if (i && isfinite(half)) snprintf(interval, sizeof interval, "%+.5f .. %+.5f", mean - half, mean + half);
        printf("%-28s %9.3g%s %12.5f ", name, m->tune[m->best].rate, m->edge ? "*" : " ", compare_mean(c, i));
        if (i) printf("%+12.5f %25s", mean, interval);
        else printf("%12s %25s", "", "");
        printf(" %9.2f %9.1f %12lld\n", t->seconds, (double)t->planned / 1048576, (long long)t->trainable);
    }
    for (int i = 0; i < c->count; i++)
        if (c->methods[i].edge) {
            printf("* the best rate is at the end of the grid: try more rates (--tune), or another train.lr\n");
            break;
        }
}

static crank_status finish(cli_call *cli, const options *o, const comparison *c)
{
    char        *page = compare_page(cli->context, c), *path = file_join(cli->context, o->out, "compare.html");
    crank_status status = page && path ? file_write_text(cli->context, path, page) : CRANK_FAILED;
    if (status == CRANK_OK && cli->common.json) {
        json_t *root = compare_json(c);
        char   *text = root ? json_text(cli->context, root, 0) : NULL;
        json_decref(root);
        if (text) puts(text);
        else status = crank_fail(cli->context, CRANK_FAILED, "out of memory: the result");
        crank_free(text);
    } else if (status == CRANK_OK) {
        print_table(c);
        printf("page: %s\n", path);
    }
    crank_free(page), crank_free(path);
    return status;
}

static crank_status run(cli_call *cli)
{
    static const char *const matches[] = {"none", "params", "memory", "time"};
    const options           *o = cli->options;
    const char              *specs[COMPARE_METHODS + 1], *words[256];
    int                      count = 0, word_count = 0;
    comparison               c;
    for (int i = 0; i < cli->word_count; i++) {
        const char *word = cli->words[i], *equals = strchr(word, '='), *colon = strchr(word, ':');
        bool        recipe_word = equals && memchr(word, '.', (size_t)(equals - word)) && (!colon || colon > equals);
        if (recipe_word && word_count < 200) words[word_count++] = word;
        else if (!recipe_word && count <= COMPARE_METHODS) specs[count++] = word;
        else return crank_fail(cli->context, CRANK_USAGE, "too many words: at most %d methods and 200 section.key=value", COMPARE_METHODS);
    }
    bool        quiet = cli->common.quiet || !isatty(2);
    compare_how how = {.recipe = o->recipe, .folder = o->out, .words = words, .word_count = word_count, .tune = (int)o->tune, .seeds = (int)o->seeds, .progress = quiet ? -1 : 2,
                       .told = quiet ? NULL : show};
    for (int k = 0; k < 4; k++)
        if (!strcmp(o->match, matches[k])) how.match = (compare_match)k;
    crank_status status = compare_open(cli->context, specs, count, &c);
    if (status != CRANK_OK) return status;
    status = compare_run(cli->context, &how, &c);
    if (status == CRANK_STOPPED) status = crank_fail(cli->context, CRANK_STOPPED, "stopped; the same command goes on: trials that have ended stay as they are");
    if (status == CRANK_OK) status = finish(cli, o, &c);
    compare_free(&c);
    return status;
}

const cli_verb verb_compare = {
    .name = "compare",
    .usage = "METHOD[:key=value,...] METHOD ... --recipe R [section.key=value ...] [--match params|memory|time] [--tune N] [--seeds S] [-o DIR]",
    .summary = "train several methods on your own data, each at its own best rate from as many trials",
    .details = "A METHOD is a low-rank method, an optimiser (of full training) or none, with options behind a colon: lora:rank=8 dora:rank=8 galore:rank=64 none. "
               "Every method is tried at the same number of rates, then trained at its best one with the same seeds: quality on held-out data (data.eval) with the paired 95 % interval of its "
               "difference from the first, time, memory and trained values. DIR/compare.html has every rate curve. After Ctrl-C or a kill the same command goes on.",
    .letters = "r=recipe o=out",
    .options = option_table,
    .options_size = sizeof(options),
    .words_low = 1,
    .words_high = -1,
    .run = run,
};
