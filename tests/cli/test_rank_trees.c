/* crank rank with trees: fit, predict, explain, cv and export from the command line, in every kind of model file. */
#include "../task/runs.h"

static child_result rank(const char *words)
{
    run_words w = {.count = 0};
    words_split(&w, words);
    return child_run("rank", &w, 0);
}

static char *must(const char *format, const char *a, const char *b, const char *c)
{
    char words[1200];
    snprintf(words, sizeof words, format, a, b, c);
    child_result r = rank(words);
    if (r.code) fail_msg("rank %s: %s", words, r.err);
    char *out = strdup(r.out);
    child_free(&r);
    return out;
}

/* 60 queries of 10 items: the label follows column 2. */
static const char *write_data(void)
{
    static char path[512];
    snprintf(path, sizeof path, "%s", runs_path("rank.svm"));
    FILE    *f = fopen(path, "w");
    unsigned state = 7;
    for (int i = 0; i < 600; i++) {
        int v[4];
        for (int j = 0; j < 4; j++) v[j] = (int)((state = state * 1103515245u + 12345u) >> 16) % 1000;
        fprintf(f, "%d qid:%d 0:%d 1:%d 2:%d 3:%d # docid = D%d\n", v[2] / 350, i / 10 + 1, v[0], v[1], v[2], v[3], i);
    }
    fclose(f);
    return path;
}

static void every_kind_of_file_gives_the_same_scores(void **state)
{
    (void)state;
    const char *data = write_data();
    char        model[512], other[512];
    snprintf(model, sizeof model, "%s", runs_path("model.trees"));
    free(must("fit %s --out %s tree.num_iterations=10 tree.num_leaves=7 --quiet --html %s", data, model, runs_path("fit.html")));
    assert_int_equal(access(runs_path("fit.html"), R_OK), 0);
    char *scores = must("predict %s %s%s", model, data, "");
    static const char *const kinds[] = {"model.txt", "model.json"};
    for (int i = 0; i < 2; i++) {
        snprintf(other, sizeof other, "%s", runs_path(kinds[i]));
        free(must("export %s --out %s%s", model, other, ""));
        char *again = must("predict %s %s%s", other, data, ""), *a = scores, *b = again;
        for (int row = 0; row < 600; row++) assert_true(fabs(strtod(a, &a) - strtod(b, &b)) < 1e-5);
        free(again);
    }
    free(must("export %s --out %s%s", model, runs_path("model.c"), ""));
    assert_int_equal(access(runs_path("model.c"), R_OK), 0);
    char *lines = must("predict %s %s --json%s", model, data, "");
    assert_non_null(strstr(lines, "{\"query\":\"1\",\"document\":\"D0\",\"row\":1,\"score\":"));
    free(lines);
    lines = must("predict %s %s --trec%s", model, data, "");
    assert_int_equal(strncmp(lines, "1 Q0 D", 6), 0);
    free(lines);
    free(scores);
}

static void the_column_that_makes_the_label_is_told(void **state)
{
    (void)state;
    const char *data = write_data();
    char        model[512];
    snprintf(model, sizeof model, "%s", runs_path("model.txt"));
    free(must("fit %s --out %s tree.num_iterations=10 --quiet%s", data, model, ""));
    char *gain = must("explain %s --json%s%s", model, "", ""), *shap = must("explain %s %s --shap --json --out=%s", model, data, runs_path("rows.tsv"));
    assert_non_null(strstr(gain, "Column_2"));
    assert_true(strstr(gain, "Column_2") < strstr(gain, "gain") + 40);
    assert_int_equal(strncmp(shap, "[{\"column\":\"Column_2\"", 21), 0);
    assert_int_equal(access(runs_path("rows.tsv"), R_OK), 0);
    free(gain);
    free(shap);
    char *cv = must("cv %s --folds=3 --json tree.num_iterations=10%s%s", data, "", "");
    assert_non_null(strstr(cv, "\"measure\":\"ndcg@10\""));
    free(cv);
}

static void classes_and_oblivious_trees_are_learned_and_scored(void **state)
{
    (void)state;
    static const char *const words[] = {"tree.multi_strategy=multi_output_tree", "tree.growth=oblivious tree.num_leaves=8", "tree.use_quantized_grad=true"};
    const char *data = write_data();
    char        model[512];
    snprintf(model, sizeof model, "%s", runs_path("classes.json"));
    for (int i = 0; i < 3; i++) {
        char *out = must("fit %s --out %s tree.objective=multiclass tree.num_class=3 tree.num_iterations=5 --json --quiet %s", data, model, words[i]);
        assert_non_null(strstr(out, "\"trees\":15"));
        free(out);
        char *lines = must("predict %s %s%s", model, data, ""), *at = lines;
        for (int row = 0; row < 600; row++) {
            double sum = 0;
            for (int k = 0; k < 3; k++) sum += strtod(at, &at);
            assert_true(fabs(sum - 1) < 1e-9);
        }
        free(lines);
        lines = must("predict %s %s --json%s", model, data, "");
        assert_non_null(strstr(lines, "\"scores\":["));
        free(lines);
    }
    char *cv = must("cv %s --folds=3 --json tree.objective=multiclass tree.num_class=3 tree.num_iterations=5%s%s", data, "", "");
    assert_non_null(strstr(cv, "\"measure\":\"loss\""));
    free(cv);
}

static void wrong_words_are_told_with_their_remedy(void **state)
{
    (void)state;
    static const char *const cases[][2] = {{"export none.txt", "usage: crank rank export"}, {"explain none.txt none.svm", "--shap"}, {"cv none.svm tree.num_leafs=3", "num_leaves"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        child_result r = rank(cases[i][0]);
        assert_int_equal(r.code, 2);
        if (!strstr(r.err, cases[i][1])) fail_msg("%s: %s", cases[i][0], r.err);
        child_free(&r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_kind_of_file_gives_the_same_scores), cmocka_unit_test(the_column_that_makes_the_label_is_told), cmocka_unit_test(classes_and_oblivious_trees_are_learned_and_scored), cmocka_unit_test(wrong_words_are_told_with_their_remedy)};
    return cmocka_run_group_tests(tests, runs_setup, runs_teardown);
}
