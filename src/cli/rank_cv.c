/* rank_cv.c - crank rank cv of rankers that are no trees, and of any ranker on clicks: folds by query, each held out once.
 *
 * A fold held out is judged by its labels, or, with --clicks, by SNIPS of DCG of its sessions. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "cli/rank.h"
#include "rank/net.h"

typedef struct folds {
    int64_t *lists, *train, *starts; /* a permutation, the lists of the other folds, [count + 1] */
    int64_t  count;
} folds;

typedef struct tree_learner {
    cli_call                 *cli;
    const crank_tree_options *options;
} tree_learner;

static crank_status deal(cli_call *cli, const letor_set *set, int64_t count, uint64_t seed, folds *f)
{
    if (!set->offsets || set->queries < count) return crank_fail(cli->context, CRANK_BAD_DATA, "cv deals queries to %lld folds: the data have %lld queries", (long long)count, (long long)(set->offsets ? set->queries : 0));
    f->count = count;
    f->lists = crank_alloc(cli->context, (size_t)set->queries, sizeof *f->lists, "folds");
    f->train = crank_alloc(cli->context, (size_t)set->queries, sizeof *f->train, "folds");
    f->starts = crank_alloc(cli->context, (size_t)count + 1, sizeof *f->starts, "folds");
    if (!f->lists || !f->train || !f->starts) return CRANK_FAILED;
    crank_permutation(crank_stream_make(seed, CRANK_RANDOM_SHUFFLE, 0xf01d), f->lists, set->queries);
    for (int64_t k = 0; k <= count; k++) f->starts[k] = set->queries * k / count;
    return CRANK_OK;
}

typedef struct fold_value { int64_t queries, clicks; double value, effective; } fold_value;

/* One fold: with clicks SNIPS of DCG of the sessions held out, else the measure of the labels held out. */
static crank_status one_fold(cli_call *cli, const letor_set *set, const click_log *log, const click_curve *known, const folds *f, int64_t k, rank_cv_fit *learn, void *user, const char *measure,
                             fold_value *out)
{
    const rank_flags *o = cli->options;
    int64_t           first = f->starts[k], count = f->starts[k + 1] - first, others = 0;
    for (int64_t i = 0; i < set->queries; i++)
        if (i < first || i >= first + count) f->train[others++] = f->lists[i];
    letor_set    *train = rank_take(cli->context, set, f->train, others, NULL), *held = train ? rank_take(cli->context, set, f->lists + first, count, NULL) : NULL;
    click_log    *train_log = held && log ? click_log_take(cli->context, log, set, f->train, others) : NULL;
    click_log    *held_log = train_log ? click_log_take(cli->context, log, set, f->lists + first, count) : NULL;
    float        *scores = held ? crank_alloc(cli->context, (size_t)held->rows + 1, sizeof *scores, "scores") : NULL;
    click_earned *earned = scores ? crank_alloc(cli->context, (size_t)count + 1, sizeof *earned, "clicks by query") : NULL;
    crank_status  status = earned && (held_log || !log) ? learn(user, &train, train_log, held, scores) : crank_last_status(cli->context);
    *out = (fold_value){.queries = count};
    if (status == CRANK_OK && !log) status = rank_measure(cli->context, measure, held, scores, &out->value);
    if (status == CRANK_OK && log) {
        click_estimate_options how = {.most = o->most, .at = o->at, .whole = o->whole};
        status = click_earn(cli->context, held_log, held, scores, known, &how, earned);
        click_estimate all = click_estimate_of(earned, NULL, count);
        out->value = all.snips, out->clicks = (int64_t)all.clicks, out->effective = all.effective;
    }
    crank_free(scores), crank_free(earned);
    click_log_free(train_log), click_log_free(held_log);
    letor_free(train), letor_free(held);
    return status;
}

static crank_status print_folds(cli_call *cli, const char *measure, bool clicks, const fold_value *values, int64_t count)
{
    double  mean = 0, squares = 0;
    json_t *list = json_array();
    for (int64_t k = 0; k < count; k++) mean += values[k].value / (double)count;
    for (int64_t k = 0; k < count; k++) squares += (values[k].value - mean) * (values[k].value - mean);
    double spread = sqrt(squares / (double)(count - 1));
    for (int64_t k = 0; list && k < count; k++) {
        const fold_value *v = values + k;
        json_array_append_new(list, clicks ? json_pack("{s:I, s:I, s:f, s:f}", "queries", (json_int_t)v->queries, "clicks", (json_int_t)v->clicks, "effective_sample_size", v->effective, measure, v->value)
                                           : json_pack("{s:I, s:f}", "queries", (json_int_t)v->queries, measure, v->value));
        if (!cli->common.json && clicks) printf("fold %-3lld %8lld queries %8lld clicks, effective %10.1f   %s %.6f\n", (long long)k + 1, (long long)v->queries, (long long)v->clicks, v->effective, measure, v->value);
        else if (!cli->common.json) printf("fold %-3lld %8lld queries   %s %.6f\n", (long long)k + 1, (long long)v->queries, measure, v->value);
    }
    if (!cli->common.json) printf("mean %.6f, deviation over folds %.6f\n", mean, spread);
    json_t *root = json_pack("{s:s, s:f, s:f, s:o}", "measure", measure, "mean", mean, "deviation", spread, "folds", list);
    char   *text = root && cli->common.json ? json_text(cli->context, root, 0) : NULL;
    json_decref(root);
    if (text) puts(text);
    crank_status status = root && (text || !cli->common.json) ? CRANK_OK : crank_fail(cli->context, CRANK_FAILED, "out of memory: the result");
    crank_free(text);
    return status;
}

crank_status rank_cv(cli_call *cli, const letor_set *set, uint64_t seed, const char *measure, rank_cv_fit *learn, void *user)
{
    const rank_flags *o = cli->options;
    char              name[64] = "snips dcg";
    folds             f = {0};
    click_curve      *known = NULL;
    click_log        *log = NULL;
    if (o->clicks && !o->propensity) return crank_fail(cli->context, CRANK_USAGE, "cv on clicks weighs those held out by the examination of their places: --propensity FILE (crank rank propensity makes one)");
    if (o->at) snprintf(name, sizeof name, "snips dcg@%lld", (long long)o->at);
    bool         good = !o->clicks || ((known = rank_clicks_known(cli)) && (log = click_log_read(cli->context, o->clicks, set)));
    fold_value  *values = good ? crank_alloc(cli->context, (size_t)o->folds, sizeof *values, "folds") : NULL;
    crank_status status = values ? deal(cli, set, o->folds, seed, &f) : crank_last_status(cli->context);
    for (int64_t k = 0; status == CRANK_OK && k < o->folds; k++) status = one_fold(cli, set, log, known, &f, k, learn, user, measure, values + k);
    if (status == CRANK_OK) status = print_folds(cli, log ? name : measure, log != NULL, values, o->folds);
    crank_free(values), crank_free(f.lists), crank_free(f.train), crank_free(f.starts);
    click_curve_free(known);
    click_log_free(log);
    return status;
}

/* ---- trees on clicks ---- */

/* Labels estimated from the sessions of the other folds (--relevance), trees on them. */
static crank_status learn_trees(void *user, letor_set **train, const click_log *log, const letor_set *held, float *scores)
{
    tree_learner   *l = user;
    crank_tree_data rows, others;
    crank_status    status = rank_relevance_of(l->cli, train, log);
    if (status == CRANK_OK) status = rank_tree_data(l->cli->context, *train, l->cli->words[1], &rows);
    if (status == CRANK_OK) status = rank_tree_data(l->cli->context, held, l->cli->words[1], &others);
    crank_trees *trees = status == CRANK_OK ? crank_trees_fit(l->cli->context, l->options, &rows, NULL, NULL, NULL, NULL) : NULL;
    double      *values = trees ? crank_alloc(l->cli->context, (size_t)held->rows + 1, (size_t)crank_trees_outputs(trees) * sizeof *values, "scores") : NULL;
    if (status == CRANK_OK) status = values ? crank_trees_predict(l->cli->context, trees, &others, true, values) : crank_last_status(l->cli->context);
    for (int64_t i = 0; status == CRANK_OK && i < held->rows; i++) scores[i] = (float)values[i * crank_trees_outputs(trees)];
    crank_free(values);
    crank_trees_free(trees);
    return status;
}

crank_status rank_cv_trees(cli_call *cli, crank_tree_options *tree, letor_options *data)
{
    const rank_flags *o = cli->options;
    tree_learner      learner = {cli, tree};
    crank_status      status = rank_tree_words(cli, 2, tree, data);
    if (status == CRANK_OK && !strcmp(o->relevance, "none"))
        status = crank_fail(cli->context, CRANK_USAGE, "trees learn from labels: --relevance pbm (or ipw, dcm, ...) estimates them from --clicks; tree.objective=pair_logistic takes real labels");
    letor_set *set = status == CRANK_OK ? letor_read(cli->context, cli->words[1], data) : NULL;
    if (status == CRANK_OK) status = set ? rank_cv(cli, set, (uint64_t)tree->seed, NULL, learn_trees, &learner) : crank_last_status(cli->context);
    letor_free(set);
    return status;
}
