/* rank_net.c - crank rank fit|predict|explain of rankers that are no trees: linear, mlp, attention, coordinate-ascent. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/log.h"
#include "cli/rank.h"
#include "crank/metric.h"
#include "rank/rank.h"

/* Options of a thing that has a name of its own: "loss.objective=NAME loss.KEY=VALUE". */
static void *named_options(cli_call *cli, const char *section, const char *chooser, const crank_option *table, size_t size)
{
    void  *options = crank_options_new(cli->context, table, size);
    size_t length = strlen(section);
    for (int i = 2; options && i < cli->word_count; i++) {
        const char *word = cli->words[i], *equals = strchr(word, '=');
        char        key[128];
        if (strncmp(word, section, length) || !equals) continue;
        snprintf(key, sizeof key, "%.*s", (int)(equals - word - (int)length), word + length);
        if (!strcmp(key, chooser)) continue;
        if (crank_options_set(cli->context, table, options, key, equals + 1, "command line") == CRANK_OK) continue;
        crank_options_free(options);
        return NULL;
    }
    return options;
}

typedef struct job {
    cli_call      *cli;
    letor_options *data;
    rank_options  *options;
    unbiased_options *clicks;
    click_simulator  *users;
    void          *objective_options, *optimizer_options;
    rank_fit       how;
    letor_set     *train, *valid;
    progress      *line;
} job;

static void on_epoch(void *user, int64_t epoch, double loss, double measure)
{
    job *j = user;
    (void)measure;
    progress_update(j->line, epoch, 0, loss);
}

/* What the validation value is: the measure of labels, or of clicks where sessions are held out. */
static const char *judged_by(const job *j)
{
    const rank_flags *o = j->cli->options;
    bool              clicks = o->clicks && !j->valid && !strcmp(o->relevance, "none") && strcmp(j->clicks->method, "labels");
    return clicks ? "SNIPS of DCG" : j->options->measure;
}

static crank_status print_fit(const job *j, const rank_net *net)
{
    const rank_flags *o = j->cli->options;
    double            best = j->how.best;
    if (!j->cli->common.json) {
        printf("%s: %s, %zu weights, %lld %s", o->out, j->options->model, rank_net_size(net), (long long)j->how.epochs, strcmp(j->options->model, "coordinate-ascent") ? "epochs" : "sweeps");
        if (best == best) printf(", validation %s %.6f", judged_by(j), best);
        puts("");
        return CRANK_OK;
    }
    json_t *root = json_pack("{s:s, s:s, s:s, s:I, s:I, s:s, s:o}", "model", o->out, "kind", j->options->model, "objective", j->how.objective->name, "weights",
                             (json_int_t)rank_net_size(net), "epochs", (json_int_t)j->how.epochs, "measure", judged_by(j), "valid", best == best ? json_real(best) : json_null());
    char   *text = root ? json_text(j->cli->context, root, 0) : NULL;
    json_decref(root);
    if (!text) return crank_fail(j->cli->context, CRANK_FAILED, "out of memory: the result");
    puts(text);
    crank_free(text);
    return CRANK_OK;
}

static crank_status open_job(job *j)
{
    static const char *const skip[] = {"loss.", "optim.", NULL};
    cli_call         *cli = j->cli;
    const rank_flags *o = cli->options;
    j->options = crank_options_new(cli->context, rank_option_table, sizeof *j->options);
    j->data = crank_options_new(cli->context, letor_option_table, sizeof *j->data);
    j->clicks = crank_options_new(cli->context, unbiased_option_table, sizeof *j->clicks);
    j->users = crank_options_new(cli->context, click_simulator_table, sizeof *j->users);
    if (!j->options || !j->data || !j->clicks || !j->users) return CRANK_FAILED;
    const rank_section sections[] = {{"data", letor_option_table, j->data}, {"fit", rank_option_table, j->options}, {"clicks", unbiased_option_table, j->clicks},
                                     {"user", click_simulator_table, j->users}};
    crank_status       status = crank_options_set(cli->context, rank_option_table, j->options, "model", rank_word(cli, 2, "model"), "command line");
    if (status == CRANK_OK) status = rank_read_words(cli, 2, sections, 4, skip);
    if (status != CRANK_OK) return status;
    if (!o->out && !strcmp(cli->words[0], "fit")) return crank_fail(cli->context, CRANK_USAGE, "crank rank fit needs --out MODEL");
    if (o->init) return crank_fail(cli->context, CRANK_USAGE, "--init belongs to model=tree");
    if (o->html) return crank_fail(cli->context, CRANK_USAGE, "--html belongs to model=tree");
    const char *objective = rank_word(cli, 2, "loss.objective"), *optimizer = rank_word(cli, 2, "optim.method");
    j->how = (rank_fit){.options = j->options, .objective = crank_list_objective_find(objective ? objective : "lambdarank"), .optimizer = optimizer ? optimizer : "adamw",
                        .progress = on_epoch, .user = j};
    const crank_optimizer *found = crank_optimizer_find(j->how.optimizer);
    if (!j->how.objective) return crank_fail(cli->context, CRANK_USAGE, "`%s` is no objective of scored lists (crank help objectives)", objective);
    if (!found) return crank_fail(cli->context, CRANK_USAGE, "there is no optimiser `%s` (crank help optimizers)", optimizer);
    j->objective_options = named_options(cli, "loss.", "objective", j->how.objective->options, j->how.objective->options_size);
    j->optimizer_options = j->objective_options ? named_options(cli, "optim.", "method", found->options, found->options_size) : NULL;
    j->how.objective_options = j->objective_options;
    j->how.optimizer_options = j->optimizer_options;
    return j->optimizer_options ? CRANK_OK : crank_last_status(cli->context);
}

/* Users who are made up click on what the ranker shows, epoch after epoch. */
static rank_net *fit_online(job *j)
{
    const rank_flags *o = j->cli->options;
    const char       *wrong = o->clicks ? "--clicks is a log of the past" : j->options->held_out > 0 ? "fit.held_out holds out labels or logged clicks; --valid DATA judges" : NULL;
    if (wrong) return crank_fail(j->cli->context, CRANK_USAGE, "--online: users answer what the ranker shows; %s", wrong), NULL;
    click_curve *known = rank_clicks_known(j->cli);
    j->clicks->online = true;
    rank_net *net = known || !o->propensity ? unbiased_fit_simulated(j->cli->context, &j->how, j->clicks, j->train, j->users, NULL, known, j->valid, NULL) : NULL;
    click_curve_free(known);
    return net;
}

static crank_status fit_sets(job *j)
{
    cli_call         *cli = j->cli;
    const rank_flags *o = cli->options;
    progress_options  how = {.descriptor = 2, .silent = cli->common.quiet, .label = "epochs", .last = strcmp(j->options->model, "coordinate-ascent") ? j->options->epochs : 0};
    if (!(j->train = letor_read(cli->context, cli->words[1], j->data))) return crank_last_status(cli->context);
    if (o->valid && !(j->valid = letor_read(cli->context, o->valid, j->data))) return crank_last_status(cli->context);
    if (o->clicks && strcmp(o->relevance, "none") && rank_clicks_relevance(cli, &j->train) != CRANK_OK) return crank_last_status(cli->context);
    if (!(j->line = progress_open(cli->context, &how))) return CRANK_FAILED;
    bool      estimated = strcmp(o->relevance, "none") != 0;
    rank_net *net = o->online ? fit_online(j) : o->clicks && !estimated ? rank_clicks_fit(cli, &j->how, j->clicks, j->train, j->valid) : rank_net_fit(cli->context, &j->how, j->train, j->valid);
    progress_close(j->line);
    crank_status status = net ? rank_net_save(cli->context, net, o->out) : crank_last_status(cli->context);
    if (status == CRANK_OK) status = print_fit(j, net);
    rank_net_free(net);
    return status;
}

static void close_job(job *j)
{
    letor_free(j->train), letor_free(j->valid);
    crank_options_free(j->options), crank_options_free(j->clicks), crank_options_free(j->users), crank_options_free(j->data), crank_options_free(j->objective_options), crank_options_free(j->optimizer_options);
}

crank_status rank_net_verb_fit(cli_call *cli)
{
    job          j = {.cli = cli};
    crank_status status = open_job(&j);
    if (status == CRANK_OK) status = fit_sets(&j);
    close_job(&j);
    return status;
}

/* One fold of cv: labels, clicks, or labels estimated from clicks. */
static crank_status learn_fold(void *user, letor_set **train, const click_log *log, const letor_set *held, float *scores)
{
    job              *j = user;
    const rank_flags *o = j->cli->options;
    rank_fit          how = j->how;
    bool              estimated = strcmp(o->relevance, "none") != 0;
    click_curve      *known = log && !estimated ? rank_clicks_known(j->cli) : NULL;
    crank_status      status = log && estimated ? rank_relevance_of(j->cli, train, log) : CRANK_OK;
    how.progress = NULL;
    if (status != CRANK_OK) return status;
    rank_net *net = log && !estimated ? unbiased_fit(j->cli->context, &how, j->clicks, *train, log, known, NULL, NULL) : rank_net_fit(j->cli->context, &how, *train, NULL);
    status = net ? rank_net_scores(net, held, scores) : crank_last_status(j->cli->context);
    rank_net_free(net);
    click_curve_free(known);
    return status;
}

crank_status rank_net_verb_cv(cli_call *cli)
{
    job          j = {.cli = cli};
    crank_status status = open_job(&j);
    if (status == CRANK_OK && !(j.train = letor_read(cli->context, cli->words[1], j.data))) status = crank_last_status(cli->context);
    if (status == CRANK_OK) status = rank_cv(cli, j.train, (uint64_t)j.options->seed, j.options->measure, learn_fold, &j);
    close_job(&j);
    return status;
}

crank_status rank_net_verb_predict(cli_call *cli, letor_options *data)
{
    const rank_flags  *o = cli->options;
    const rank_section section = {"data", letor_option_table, data};
    crank_status       status = rank_read_words(cli, 3, &section, 1, NULL);
    rank_net  *net = status == CRANK_OK ? rank_net_load(cli->context, cli->words[1]) : NULL;
    letor_set *set = net ? letor_read(cli->context, cli->words[2], data) : NULL;
    double    *scores = set ? crank_alloc(cli->context, (size_t)set->rows + 1, sizeof *scores, "scores") : NULL;
    float     *values = scores ? crank_alloc(cli->context, (size_t)set->rows + 1, sizeof *values, "scores") : NULL;
    status = values ? rank_net_scores(net, set, values) : crank_last_status(cli->context);
    if (status == CRANK_OK && o->trec && !set->offsets) status = crank_fail(cli->context, CRANK_USAGE, "--trec needs data with queries");
    for (int64_t i = 0; status == CRANK_OK && i < set->rows; i++) scores[i] = (double)values[i];
    if (status == CRANK_OK) status = rank_write_scores(cli, set, scores, 1);
    crank_free(scores), crank_free(values);
    letor_free(set);
    rank_net_free(net);
    return status;
}

/* ---- explain ---- */

typedef struct entry { double size, weight; int64_t column; } entry;
static int by_size(const void *a, const void *b)
{
    const entry *x = a, *y = b;
    return x->size != y->size ? (x->size < y->size ? 1 : -1) : (x->column > y->column) - (x->column < y->column);
}

static crank_status print_weights(cli_call *cli, const entry *entries, int64_t columns)
{
    json_t *list = json_array();
    for (int64_t f = 0; list && f < columns; f++) {
        if (entries[f].weight == 0) continue;
        if (cli->common.json) json_array_append_new(list, json_pack("{s:I, s:f}", "column", (json_int_t)entries[f].column, "weight", entries[f].weight));
        else printf("%-12lld %16.6g\n", (long long)entries[f].column, entries[f].weight);
    }
    char *text = list && cli->common.json ? json_text(cli->context, list, 0) : NULL;
    if (text) puts(text);
    crank_status status = list && (text || !cli->common.json) ? CRANK_OK : crank_fail(cli->context, CRANK_FAILED, "out of memory: the result");
    crank_free(text);
    json_decref(list);
    return status;
}

/* Columns of a linear ranker by the size of their weight on the scaled values. */
crank_status rank_net_verb_explain(cli_call *cli)
{
    rank_net *net = rank_net_load(cli->context, cli->words[1]);
    if (!net) return crank_last_status(cli->context);
    const char        *model = rank_net_options(net)->model;
    int64_t            columns = rank_net_scaler(net)->columns;
    const crank_param *weight = crank_params_find(rank_net_params(net), "layers.0.weight");
    float             *values = crank_alloc(cli->context, (size_t)columns + 1, sizeof *values, "weights");
    entry             *entries = crank_alloc(cli->context, (size_t)columns + 1, sizeof *entries, "weights");
    crank_status       status = values && entries ? CRANK_OK : CRANK_FAILED;
    if (status == CRANK_OK && strcmp(model, "linear") && strcmp(model, "coordinate-ascent"))
        status = crank_fail(cli->context, CRANK_USAGE, "an %s ranker has no weight for each column; explain takes trees, linear and coordinate-ascent", model);
    if (status == CRANK_OK) status = crank_param_read(cli->context, weight, values, CRANK_F32);
    for (int64_t f = 0; status == CRANK_OK && f < columns; f++) entries[f] = (entry){values[f] < 0 ? -(double)values[f] : (double)values[f], (double)values[f], f};
    if (status == CRANK_OK) {
        qsort(entries, (size_t)columns, sizeof *entries, by_size);
        status = print_weights(cli, entries, columns);
    }
    crank_free(values), crank_free(entries);
    rank_net_free(net);
    return status;
}
