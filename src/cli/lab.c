/* lab.c - crank lab: the proof that each method does what its paper says. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "cli/cli.h"
#include "lab/lab.h"
#include "lab/report.h"

typedef struct options {
    bool        all;
    int64_t     seeds;
    const char *scale, *method, *results, *rates, *html, *markdown;
} options;

static const crank_option option_table[] = {
    CRANK_BOOL(options, all, false, "run: every experiment"),
    CRANK_INT(options, seeds, 0, 0, 1000, "seeds; 0: what the experiment says for run (three, or more), one for tune"),
    CRANK_CHOICE(options, scale, "cpu", "cpu|gpu", "cpu: at most three minutes on two cores; gpu: the larger setting"),
    CRANK_STRING(options, method, NULL, "tune, and run of an experiment that keeps its trials in --results: only methods whose name holds this text"),
    CRANK_STRING(options, results, NULL, "run: folder in which NAME.json keeps each result, and trials where an experiment keeps them; report: where they are (bench/lab)"),
    CRANK_STRING(options, rates, "recipes/lab", "report: folder with what tune found"),
    CRANK_STRING(options, html, "lab.html", "report: the page to write"),
    CRANK_STRING(options, markdown, NULL, "report: a page of Markdown to write, too"),
    CRANK_END
};

static void show_progress(void *user, const char *text)
{
    (void)user;
    fprintf(stderr, "\r\033[K%s", text);
    fflush(stderr);
}

static lab_how how_of(const cli_call *cli)
{
    const options *o = cli->options;
    bool           quiet = cli->common.quiet || !isatty(2);
    return (lab_how){.seeds = (int)o->seeds, .large = !strcmp(o->scale, "gpu"), .folder = o->results, .progress = quiet ? NULL : show_progress};
}

static crank_status list(cli_call *cli)
{
    if (cli->word_count != 1) return crank_fail(cli->context, CRANK_USAGE, "usage: crank lab list");
    for (size_t i = 0; lab_at(i); i++) {
        const lab_experiment *e = lab_at(i);
        if (cli->common.json) printf("%s{\"name\": \"%s\", \"paper\": \"%s\"}%s", i ? ", " : "[", e->name, e->paper, lab_at(i + 1) ? "" : "]\n");
        else printf("%-14s %-24s %s\n", e->name, e->paper, e->claim);
    }
    return CRANK_OK;
}

static crank_status unknown(cli_call *cli, const char *name)
{
    const char *names[256];
    size_t      count = 0;
    for (; count < 256 && lab_at(count); count++) names[count] = lab_at(count)->name;
    const char *closest = crank_closest(name, names, count);
    return crank_fail(cli->context, CRANK_USAGE, "there is no experiment `%s`%s%s%s; crank lab list names them", name, closest ? "; did you mean `" : "",
                      closest ? closest : "", closest ? "`?" : "");
}

/* RESULTS/NAME.json, for reports. */
static crank_status keep(cli_call *cli, const char *folder, const lab *found)
{
    char        *json = lab_json(found), *name = crank_format(cli->context, found->large ? "%s-gpu.json" : "%s.json", found->experiment->name), *path = name ? file_join(cli->context, folder, name) : NULL;
    json_t      *value = json ? json_parse(cli->context, json, strlen(json), found->experiment->name) : NULL;
    crank_status status = value && path ? file_make_folder(cli->context, folder) : crank_last_status(cli->context);
    if (status == CRANK_OK) status = json_write(cli->context, path, value);
    json_decref(value);
    crank_free(json), crank_free(name), crank_free(path);
    return status;
}

/* *shown: whether the threshold holds. */
static crank_status run_one(cli_call *cli, const lab_experiment *experiment, bool *shown)
{
    const options *options_of = cli->options;
    lab            found;
    lab_how        how = how_of(cli);
    how.only = options_of->method;
    crank_status   status = lab_run(cli->context, experiment, &how, &found);
    if (how.progress) fputs("\r\033[K", stderr);
    if (status != CRANK_OK) return status;
    char *text = cli->common.json ? lab_json(&found) : lab_text(&found);
    *shown = found.shown;
    if (text) puts(text);
    fflush(stdout);
    status = text ? CRANK_OK : CRANK_FAILED;
    if (status == CRANK_OK && options_of->results && !found.missing) status = keep(cli, options_of->results, &found);
    if (status == CRANK_OK && found.missing)
        status = crank_fail(cli->context, CRANK_STOPPED, "%d trials of %s are still to run: the same command without --method, or with another, goes on", found.missing, experiment->name);
    crank_free(text);
    lab_free(&found);
    return status;
}

static crank_status run_action(cli_call *cli)
{
    const options *o = cli->options;
    bool           shown = true;
    if (cli->word_count != (o->all ? 1 : 2)) return crank_fail(cli->context, CRANK_USAGE, "usage: crank lab run NAME, or crank lab run --all");
    if (o->method && o->all) return crank_fail(cli->context, CRANK_USAGE, "--method needs the name of an experiment");
    if (!cli->common.threads) crank_set_threads(cli->context, 1); /* the networks are small: more threads would wait for each other */
    if (!o->all) {
        const lab_experiment *experiment = lab_find(cli->words[1]);
        if (!experiment) return unknown(cli, cli->words[1]);
        crank_status status = run_one(cli, experiment, &shown);
        if (status != CRANK_OK || shown) return status;
        return crank_fail(cli->context, CRANK_GATE, "the threshold of %s does not hold", experiment->name);
    }
    int failed = 0;
    for (size_t i = 0; lab_at(i); i++) {
        if (crank_stop_requested(cli->context)) return crank_fail(cli->context, CRANK_STOPPED, "stopped before %s; --results keeps what was done", lab_at(i)->name);
        crank_status status = run_one(cli, lab_at(i), &shown);
        if (status != CRANK_OK) return status;
        failed += !shown;
    }
    return failed ? crank_fail(cli->context, CRANK_GATE, "the thresholds of %d experiments do not hold", failed) : CRANK_OK;
}

static crank_status tune(cli_call *cli)
{
    const options *o = cli->options;
    if (cli->word_count != 2) return crank_fail(cli->context, CRANK_USAGE, "usage: crank lab tune NAME");
    const lab_experiment *experiment = lab_find(cli->words[1]);
    if (!experiment) return unknown(cli, cli->words[1]);
    if (!cli->common.threads) crank_set_threads(cli->context, 1);
    lab_how how = how_of(cli);
    char   *text = lab_tune(cli->context, experiment, o->method, &how);
    if (how.progress) fputs("\r\033[K", stderr);
    if (!text) return crank_last_status(cli->context);
    puts(text);
    crank_free(text);
    return CRANK_OK;
}

static crank_status report(cli_call *cli)
{
    const options *o = cli->options;
    lab_report     r;
    if (cli->word_count != 1) return crank_fail(cli->context, CRANK_USAGE, "usage: crank lab report [--results DIR] [--html FILE] [--markdown FILE]");
    const char  *folder = o->results ? o->results : "bench/lab";
    crank_status status = file_is_folder(folder) ? lab_report_read(cli->context, folder, o->rates, &r)
                                                 : crank_fail(cli->context, CRANK_USAGE, "%s: there is no folder of results; crank lab run --all --results DIR makes one", folder);
    if (status != CRANK_OK) return status;
    char *page = lab_report_html(cli->context, &r), *text = o->markdown ? lab_report_markdown(cli->context, &r) : NULL;
    status = page && (text || !o->markdown) ? file_write_text(cli->context, o->html, page) : CRANK_FAILED;
    if (status == CRANK_OK && text) status = file_write_text(cli->context, o->markdown, text);
    if (status == CRANK_OK && cli->common.json)
        printf("{\"result\": \"%s\", \"experiments\": %zu, \"kept\": %zu, \"shown\": %zu, \"reproduced\": %zu}\n", o->html, r.count, r.kept, r.shown, r.reproduced);
    else if (status == CRANK_OK) printf("%s: %zu of %zu experiments, %zu thresholds hold, %zu claims reproduced\n", o->html, r.kept, r.count, r.shown, r.reproduced);
    crank_free(page), crank_free(text);
    lab_report_free(&r);
    return status;
}

static crank_status run(cli_call *cli)
{
    static const char *const actions[] = {"list", "run", "tune", "report"};
    if (!strcmp(cli->words[0], "list")) return list(cli);
    if (!strcmp(cli->words[0], "run")) return run_action(cli);
    if (!strcmp(cli->words[0], "tune")) return tune(cli);
    if (!strcmp(cli->words[0], "report")) return report(cli);
    const char *closest = crank_closest(cli->words[0], actions, sizeof actions / sizeof *actions);
    return crank_fail(cli->context, CRANK_USAGE, "crank lab has no action `%s`%s%s%s: there are list, run, tune and report", cli->words[0], closest ? "; did you mean `" : "", closest ? closest : "",
                      closest ? "`?" : "");
}

const cli_verb verb_lab = {
    .name = "lab",
    .usage = "list | run NAME [--scale cpu|gpu] [--seeds N] [--json] [--results DIR] [--method TEXT] | run --all | tune NAME [--method TEXT] [--seeds N] | "
             "report [--results DIR] [--html FILE] [--markdown FILE]",
    .summary = "experiments that show what each method's paper claims, against its baselines",
    .details = "Each experiment compares methods at tuned rates over several seeds and holds the result against a threshold that stood before the first run. "
               "Exit status: 0 when the threshold holds, 4 when it does not.",
    .options = option_table,
    .options_size = sizeof(options),
    .words_low = 1,
    .words_high = 2,
    .run = run,
};
