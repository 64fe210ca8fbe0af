/* crank rank with clicks from the command line: the chain of docs/unbiased.md, and input that is refused. */
#include "../task/runs.h"

static child_result rank(const char *format, const char *a, const char *b, const char *c)
{
    char      words[2600];
    run_words w = {.count = 0};
    snprintf(words, sizeof words, format, a, b, c);
    words_split(&w, words);
    return child_run("rank", &w, 0);
}

static char *must(const char *format, const char *a, const char *b, const char *c)
{
    child_result r = rank(format, a, b, c);
    if (r.code) fail_msg("rank %s: %s", format, r.err);
    char *out = strdup(r.out);
    child_free(&r);
    return out;
}

/* Refused with `code`, and the message holds `told`. */
static void refused(int code, const char *told, const char *format, const char *a, const char *b)
{
    child_result r = rank(format, a, b, "");
    if (r.code != code || !strstr(r.err, told)) fail_msg("rank %s: code %d, %s; wanted code %d and `%s`", format, r.code, r.err, code, told);
    child_free(&r);
}

static char data[512], first[512], log_file[512], curve[512], model[512];

/* 200 queries of 6 items: the label follows column 0, and column 1 does a little. */
static int write_data(void **state)
{
    unsigned draw = 7;
    int      status = runs_setup(state);
    char    *paths[] = {data, first, log_file, curve, model};
    const char *names[] = {"clicks.svm", "first.st", "log.tsv", "curve.json", "model.st"};
    for (int i = 0; i < 5; i++) snprintf(paths[i], sizeof data, "%s", runs_path(names[i]));
    FILE *f = fopen(data, "w");
    for (int i = 0; i < 1200; i++) {
        int v[2];
        for (int j = 0; j < 2; j++) v[j] = (int)((draw = draw * 1103515245u + 12345u) >> 16) % 1000;
        fprintf(f, "%d qid:q%d 0:%d 1:%d # docid = D%d\n", v[0] / 250, i / 6 + 1, v[0], v[1] + v[0] / 4, i);
    }
    fclose(f);
    free(must("fit %s --out %s model=linear fit.epochs=2 --quiet%s", data, first, ""));
    free(must("simulate %s --init %s --rounds 20 user.user=pbm --quiet --out %s", data, first, log_file));
    return status;
}

static void the_examination_of_users_is_found_in_their_log(void **state)
{
    (void)state;
    free(must("propensity %s %s --quiet --out %s", log_file, data, curve));
    char *lines = must("propensity %s --quiet%s%s", log_file, "", ""), *at = lines;
    double value = 2;
    for (int place = 1; place <= 6; place++) {
        assert_int_equal(strtol(at, &at, 10), place);
        double found = strtod(at, &at);
        assert_true(found < value + 0.05);
        if (place == 1) assert_true(found == 1);
        value = found;
    }
    assert_true(value < 0.6); /* users of pbm seldom examine the sixth place */
    free(lines);
}

static void rankers_and_trees_learn_from_the_log(void **state)
{
    (void)state;
    free(must("propensity %s --quiet --out %s%s", log_file, curve, ""));
    static const char *const ways[] = {"clicks.method=dla", "clicks.method=ipw --propensity "};
    for (int i = 0; i < 2; i++) {
        char more[700];
        snprintf(more, sizeof more, "%s%s", ways[i], i ? curve : "");
        char words[900];
        snprintf(words, sizeof words, "fit %%s --clicks %%s --out %%s model=mlp fit.epochs=3 --quiet %s", more);
        free(must(words, data, log_file, model));
        char *scores = must("predict %s %s%s", model, data, ""), *at = scores;
        for (int row = 0; row < 1200; row++) assert_true(isfinite(strtod(at, &at)));
        free(scores);
    }
    static const char *const estimates[] = {"rate", "ipw", "regression-em", "trust", "pbm"};
    for (int i = 0; i < 5; i++) { /* trees on estimated labels order column 0 as the labels do */
        char words[1600];
        snprintf(words, sizeof words, "fit %%s --clicks %%s --relevance %s --propensity %s tree.objective=pair_logistic tree.num_iterations=5 --quiet --out %%s", estimates[i], curve);
        free(must(words, data, log_file, runs_path("trees.txt")));
        snprintf(words, sizeof words, "eval --json --clicks %s --propensity %s %%s %%s%%s", log_file, curve);
        char *out = must(words, runs_path("trees.txt"), data, "");
        if (!strstr(out, "\"difference\":") || strtod(strstr(out, "\"difference\":") + 13, NULL) < 0.02) fail_msg("%s: %s", estimates[i], out);
        free(out);
    }
    assert_int_equal(access(runs_path("trees.txt"), R_OK), 0);
}

static double number_behind(const char *text, const char *key)
{
    const char *at = strstr(text, key);
    if (!at) fail_msg("no %s in %s", key, text);
    return strtod(at + strlen(key), NULL);
}

/* The label follows column 0: a ranker of it beats one of column 1 by clicks alone, and the order shown is behind it as well. */
static void rankers_are_judged_by_clicks(void **state)
{
    (void)state;
    char good[400], bad[400];
    snprintf(good, sizeof good, "%s", runs_path("good.st")), snprintf(bad, sizeof bad, "%s", runs_path("bad.st"));
    free(must("propensity %s %s --quiet --out %s", log_file, data, curve));
    free(must("fit %s --out %s model=linear fit.epochs=20 --quiet%s", data, good, ""));
    free(must("fit %s --out %s model=linear fit.epochs=1 fit.rate=0 --quiet%s", data, bad, "")); /* file order */
    char words[2400];
    snprintf(words, sizeof words, "eval --json --clicks %s --propensity %s --against %s %%s %%s%%s", log_file, curve, bad);
    char *out = must(words, good, data, "");
    assert_true(number_behind(out, "\"difference\":") > 0);
    assert_true(number_behind(out, "\"difference_interval\":[") > 0);
    assert_true(number_behind(out, "\"effective_sample_size\":") > 100);
    free(out);
    snprintf(words, sizeof words, "eval --clicks %s --propensity %s --at 3 --most 5 --whole %%s %%s%%s", log_file, curve);
    out = must(words, good, data, "");
    assert_non_null(strstr(out, "SNIPS DCG@3"));
    free(out);
    free(must("fit %s --clicks %s --relevance pbm tree.objective=pair_logistic tree.num_iterations=5 --quiet --out %s", data, log_file, runs_path("trees.txt")));
    snprintf(words, sizeof words, "eval --clicks %s --propensity %s %s %%s%%s%%s", log_file, curve, runs_path("trees.txt"));
    free(must(words, data, "", ""));
}

static void cross_validation_runs_on_labels_and_on_clicks(void **state)
{
    (void)state;
    char words[2400];
    free(must("propensity %s --quiet --out %s%s", log_file, curve, ""));
    char *labels = must("cv %s model=linear fit.epochs=3 --folds 3 --json --quiet%s%s", data, "", "");
    assert_true(number_behind(labels, "\"mean\":") > 0.8);
    free(labels);
    static const char *const ways[] = {"model=linear clicks.method=dla fit.epochs=2", "model=linear --relevance ipw fit.epochs=2 loss.objective=pair_logistic",
                                       "--relevance pbm tree.objective=pair_logistic tree.num_iterations=5"};
    for (int i = 0; i < 3; i++) {
        snprintf(words, sizeof words, "cv %%s --clicks %%s --propensity %%s --folds 3 --json --quiet %s", ways[i]);
        char *clicks = must(words, data, log_file, curve);
        assert_true(number_behind(clicks, "\"mean\":") > 0.5);
        assert_non_null(strstr(clicks, "snips dcg@10"));
        free(clicks);
    }
    free(must("fit %s --clicks %s --out %s model=linear fit.held_out=0.2 fit.epochs=4 --quiet", data, log_file, model));
}

static void rankers_learn_from_users_online(void **state)
{
    (void)state;
    static const char *const ways[] = {"clicks.method=pdgd fit.rate=0.05", "clicks.method=dbgd clicks.candidates=4 fit.rate=0.3", "clicks.method=dla", "clicks.method=naive"};
    for (int i = 0; i < 4; i++) {
        char words[600];
        snprintf(words, sizeof words, "fit %%s --online --valid %%s --out %%s model=linear fit.epochs=12 fit.patience=0 user.user=pbm --json --quiet %s", ways[i]);
        char  *out = must(words, data, data, model);
        double found = number_behind(out, "\"valid\":");
        if (found < 0.9) fail_msg("%s: ndcg@10 %g", ways[i], found);
        free(out);
    }
    refused(2, "--online", "fit %s --clicks %s --out x.st model=linear clicks.method=pdgd", data, log_file);
    refused(2, "log of the past", "fit %s --clicks %s --out x.st model=linear --online", data, log_file);
    refused(2, "--valid", "fit %s --out %s model=linear fit.held_out=0.5 --online", data, model);
}

static void what_does_not_fit_is_refused(void **state)
{
    (void)state;
    char broken[512];
    snprintf(broken, sizeof broken, "%s", runs_path("broken.tsv"));
    FILE *f = fopen(broken, "w");
    fputs("q1\tD0\t1\t1\nq1\tD1\tzero\t0\n", f);
    fclose(f);
    refused(2, "tree, linear, mlp, attention and coordinate-ascent", "fit %s --out %s model=nosuch", data, model);
    refused(2, "there are fit, predict", "nosuch %s%s", data, "");
    refused(3, "broken.tsv:2", "propensity %s%s", broken, "");
    refused(3, "broken.tsv:2", "fit %s --clicks %s --out x.st model=mlp", data, broken);
    refused(2, "cannot be read", "propensity %s%s", "/no/such/log.tsv", "");
    refused(2, "--propensity", "eval --clicks %s model.st %s", log_file, data);
    refused(2, "--propensity", "cv %s --clicks %s model=linear", data, log_file);
    refused(2, "--relevance", "cv %s --clicks %s --propensity x.json", data, log_file);
    refused(2, "usage: crank rank eval", "eval %s%s", data, "");
    refused(2, "html", "fit %s --out %s model=linear --html page.html", data, model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_examination_of_users_is_found_in_their_log),
        cmocka_unit_test(rankers_and_trees_learn_from_the_log),
        cmocka_unit_test(rankers_are_judged_by_clicks),
        cmocka_unit_test(cross_validation_runs_on_labels_and_on_clicks),
        cmocka_unit_test(rankers_learn_from_users_online),
        cmocka_unit_test(what_does_not_fit_is_refused),
    };
    return cmocka_run_group_tests(tests, write_data, runs_teardown);
}
