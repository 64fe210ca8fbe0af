/* Model files. Own ones and C source keep every bit. XGBoost's: its models score here as there, ours there as here (scores and files made by tests/oracle/xgboost_models.py);
 * broken files are refused or can be used. */
#include "random_trees.h"

#include <dlfcn.h>

#include "base/crc32c.h"
#include "base/file.h"
#include "tree/ubjson.h"

static int setup(void **state)
{
    *state = crank_context_new();
    return 0;
}
static int teardown(void **state)
{
    crank_context_free(*state);
    return 0;
}

static crank_trees *load(crank_context *context, const char *path)
{
    crank_trees *trees = crank_trees_load(context, path);
    if (!trees) fail_msg("%s", crank_message(context));
    return trees;
}

/* Scores of n rows against a file of float32. */
static void compare(crank_context *context, const crank_trees *trees, int n, bool raw, bool no_categories, const char *scores_path)
{
    size_t  length, count = (size_t)n * (size_t)trees->outputs;
    char   *bytes = file_read(context, golden(scores_path), &length);
    float  *x = make_rows(n, 2), expected;
    double *scores = malloc(count * sizeof *scores);
    for (int i = 0; no_categories && i < n; i++) x[i * 8 + 5] = 0;
    crank_tree_data data = {.rows = n, .columns = 8, .dense = x};
    assert_non_null(bytes);
    assert_int_equal(length, count * sizeof expected);
    assert_ok(context, crank_trees_predict(context, trees, &data, raw, scores));
    for (size_t i = 0; i < count; i++) {
        memcpy(&expected, bytes + i * sizeof expected, sizeof expected);
        if (!(fabs(scores[i] - (double)expected) < 1e-6)) fail_msg("%s: score %zu: %.9g, not %.9g", scores_path, i, scores[i], (double)expected);
    }
    crank_free(bytes);
    free(x);
    free(scores);
}

static void models_of_xgboost_give_its_scores(void **state)
{
    crank_context *context = *state;
    crank_trees   *trees = load(context, golden("tree/xgboost.json"));
    compare(context, trees, 10000, true, false, "tree/xgboost.scores");
    crank_trees_free(trees);
    trees = load(context, golden("tree/xgboost-binary.ubj"));
    compare(context, trees, 2000, false, false, "tree/xgboost-binary.scores");
    crank_trees_free(trees);
    trees = load(context, golden("tree/xgboost-vector.json"));
    assert_int_equal(crank_trees_outputs(trees), 3);
    compare(context, trees, 2000, false, true, "tree/xgboost-vector.scores");
    crank_trees_free(trees);
}

static void exported_models_give_the_same_scores_in_xgboost(void **state)
{
    crank_context *context = *state;
    crank_trees   *trees = load(context, golden("tree/lightgbm.txt"));
    size_t         length;
    char          *expected = file_read(context, golden("tree/exported.json"), &length), *text = trees_write_xgboost(context, trees);
    assert_non_null(expected);
    assert_string_equal(text, expected);
    compare(context, trees, 2000, true, false, "tree/exported.scores");
    crank_free(expected);
    crank_free(text);
    crank_trees_free(trees);
}

/* Every kind of node but zeros as missing, which XGBoost does not have; leaves become float32. */
static void random_models_survive_xgboosts_format(void **state)
{
    crank_context *context = *state;
    float         *x = make_rows(500, 8);
    for (int outputs = 1; outputs < 4; outputs += 2) {
        crank_trees *trees = random_trees(context, 40 + (uint64_t)outputs, 12, outputs, 1, 60, 50);
        for (int64_t i = 0; i < trees->count; i++)
            for (int32_t n = 0; n < trees->trees[i].leaves - 1; n++) trees->trees[i].kind[n] &= (uint8_t)~NODE_MISSING_ZERO;
        char   *text = trees_write_xgboost(context, trees);
        if (!text) fail_msg("%s", crank_message(context));
        json_t *root = json_parse(context, text, strlen(text), "model.json");
        crank_trees *again = trees_read_xgboost(context, "model.json", root);
        if (!again) fail_msg("%s", crank_message(context));
        double a[1500], b[1500];
        walked_scores(trees, x, 500, a);
        walked_scores(again, x, 500, b);
        for (int i = 0; i < 500 * outputs; i++) assert_true(fabs(a[i] - b[i]) < 1e-6);
        json_decref(root);
        crank_free(text);
        crank_trees_free(again);
        crank_trees_free(trees);
    }
    free(x);
}

/* Random models, each its own file: the same scores after it, bit for bit. */
static void own_files_keep_every_bit(void **state)
{
    crank_context *context = *state;
    float         *x = make_rows(500, 8);
    char           path[96];
    snprintf(path, sizeof path, "/tmp/crank_model_%ld.trees", (long)getpid());
    for (int outputs = 1; outputs < 4; outputs++) {
        crank_trees *trees = random_trees(context, 60 + (uint64_t)outputs, 6 * outputs, outputs, 1, 60, 50);
        double       a[1500], b[1500], gain[2][8];
        trees->average = outputs == 2;
        trees->sigmoid = 0.7;
        assert_ok(context, crank_trees_save(context, trees, path));
        crank_trees *again = load(context, path);
        walked_scores(trees, x, 500, a);
        walked_scores(again, x, 500, b);
        assert_memory_equal(a, b, (size_t)(500 * outputs) * sizeof *a);
        crank_trees_importance(trees, gain[0], NULL);
        crank_trees_importance(again, gain[1], NULL);
        assert_memory_equal(gain[0], gain[1], sizeof gain[0]);
        assert_true(again->sigmoid == 0.7 && again->average == trees->average && strcmp(again->objective, trees->objective) == 0);
        crank_trees_free(again);
        crank_trees_free(trees);
    }
    crank_trees *named = load(context, golden("tree/lightgbm.txt")), *again;
    assert_ok(context, crank_trees_save(context, named, path));
    again = load(context, path);
    assert_string_equal(crank_trees_column(again, 3), crank_trees_column(named, 3));
    compare(context, again, 2000, true, false, "tree/exported.scores");
    crank_trees_free(named);
    crank_trees_free(again);
    unlink(path);
    free(x);
}

/* The compiled source scores as crank does. */
static void c_source_keeps_every_bit(void **state)
{
    crank_context *context = *state;
    char           path[96], library[96], command[300];
    if (system("cc --version > /dev/null 2>&1")) skip();
    snprintf(path, sizeof path, "/tmp/crank_model_%ld.c", (long)getpid());
    snprintf(library, sizeof library, "/tmp/crank_model_%ld.so", (long)getpid());
    snprintf(command, sizeof command, "cc -std=c99 -Wall -Werror -O1 -fPIC -shared -o %s %s -lm", library, path);
    float *x = make_rows(500, 8);
    for (int which = 0; which < 2; which++) {
        crank_trees *trees = random_trees(context, 70, 12, which ? 3 : 1, 1, 60, 50);
        double       expected[1500], got[3];
        trees->average = which;
        strcpy(trees->objective, which ? "multiclass" : "binary");
        crank_tree_data data = {.rows = 500, .columns = 8, .dense = x};
        assert_ok(context, crank_trees_predict(context, trees, &data, false, expected));
        assert_ok(context, crank_trees_save(context, trees, path));
        assert_int_equal(system(command), 0);
        void *handle = dlopen(library, RTLD_NOW);
        if (!handle) fail_msg("%s", dlerror());
        void (*predict)(const float *, double *) = NULL;
        *(void **)&predict = dlsym(handle, "crank_model_predict");
        assert_non_null(predict);
        for (int i = 0; i < 500; i++) {
            predict(x + i * 8, got);
            assert_memory_equal(got, expected + i * trees->outputs, (size_t)trees->outputs * sizeof *got);
        }
        dlclose(handle);
        crank_trees_free(trees);
    }
    unlink(path);
    unlink(library);
    free(x);
}

/* Any byte changed is seen by the checksum; with the checksum made right again, counts, children and sets are checked. */
static void broken_own_files_are_refused_or_can_be_used(void **state)
{
    crank_context *context = *state;
    crank_trees   *trees = random_trees(context, 61, 6, 2, 1, 30, 50);
    char           path[96];
    size_t         length;
    float         *x = make_rows(50, 3);
    double         scores[100];
    uint64_t       random = 11;
    int            refused = 0;
    crank_tree_data data = {.rows = 50, .columns = 8, .dense = x};
    snprintf(path, sizeof path, "/tmp/crank_broken_%ld.trees", (long)getpid());
    assert_ok(context, crank_trees_save(context, trees, path));
    uint8_t *bytes = (uint8_t *)file_read(context, path, &length), *copy = malloc(length);
    for (int trial = 0; trial < 1500; trial++) {
        size_t size = trial < 100 ? sizeof(uint64_t) * 13 + (length - 104) * (size_t)trial / 100 : length;
        memcpy(copy, bytes, length);
        for (int k = 0; trial >= 100 && k < 2; k++) copy[16 + next_random(&random) % (trial % 2 ? 88 : length - 16)] = (uint8_t)(next_random(&random) % (trial % 3 ? 256 : 4));
        if (trial < 100) memcpy(copy + 16, &(uint64_t){size}, 8);
        uint32_t sum = crc32c(copy + 16, size - 16) + (trial % 10 == 9);
        memcpy(copy + 12, &sum, 4);
        crank_trees *again = trees_read_binary(context, path, copy, size);
        if (again && again->outputs <= 2) assert_ok(context, crank_trees_predict(context, again, &data, true, scores));
        refused += !again;
        assert_true(!again || trial % 10 != 9);
        crank_trees_free(again);
    }
    assert_true(refused > 200);
    unlink(path);
    crank_free(bytes);
    free(copy);
    free(x);
    crank_trees_free(trees);
}

static void refuse(crank_context *context, const char *text, const char *because)
{
    json_t *root = json_parse(context, text, strlen(text), "m.json");
    if (!root) fail_msg("%s", crank_message(context));
    assert_null(trees_read_xgboost(context, "m.json", root));
    if (!strstr(crank_message(context), because)) fail_msg("%s", crank_message(context));
    json_decref(root);
}

static void what_xgboost_has_and_crank_not_is_refused_with_the_reason(void **state)
{
    crank_context *context = *state;
    refuse(context, "{\"learner\":{\"gradient_booster\":{\"name\":\"dart\"}}}", "dart");
    refuse(context, "{\"learner\":{\"gradient_booster\":{\"name\":\"gblinear\"}}}", "booster=gbtree");
    refuse(context, "{\"learner\":{\"gradient_booster\":{\"name\":\"gbtree\"},\"objective\":{\"name\":\"survival:cox\"}}}", "survival:cox");
    refuse(context, "{\"trees\":[]}", "no model of XGBoost");
    crank_trees *trees = random_trees(context, 3, 5, 1, 20, 30, 50);
    trees->trees[0].kind[0] = NODE_MISSING_ZERO, trees->trees[0].feature[0] = 0, trees->trees[0].cut[0] = 1;
    assert_null(trees_write_xgboost(context, trees));
    assert_non_null(strstr(crank_message(context), "zeros as missing"));
    assert_int_equal(crank_trees_save(context, trees, "/tmp/model.ubj"), CRANK_USAGE);
    assert_non_null(strstr(crank_message(context), ".json"));
    crank_trees_free(trees);
}

static void broken_models_are_refused_or_can_be_used(void **state)
{
    static const char *const files[] = {"tree/xgboost.json", "tree/xgboost-binary.ubj", "tree/xgboost-vector.json"};
    crank_context *context = *state;
    float         *x = make_rows(50, 3);
    double         scores[150];
    crank_tree_data data = {.rows = 50, .columns = 8, .dense = x};
    for (int f = 0; f < 3; f++) {
        size_t   length;
        char    *text = file_read(context, golden(files[f]), &length), *copy = malloc(length + 1);
        int      refused = 0;
        uint64_t random = 5;
        for (int trial = 0; trial < 400; trial++) {
            size_t size = trial < 60 ? length * (size_t)trial / 60 : length;
            memcpy(copy, text, length + 1);
            for (int k = 0; trial >= 60 && k < 3; k++) copy[next_random(&random) % length] = f == 1 ? (char)next_random(&random) : "0123456789-.,[]\"e"[next_random(&random) % 17];
            crank_clear(context);
            json_t      *root = f == 1 ? ubjson_parse(context, copy, size, files[f]) : json_parse(context, copy, size, files[f]);
            crank_trees *trees = root ? trees_read_xgboost(context, files[f], root) : NULL;
            if (!trees) {
                assert_true(*crank_message(context));
                refused++;
            } else if (trees->outputs <= 3)
                assert_ok(context, crank_trees_predict(context, trees, &data, true, scores));
            crank_trees_free(trees);
            json_decref(root);
        }
        assert_true(refused >= 60);
        crank_free(text);
        free(copy);
    }
    free(x);
}

#define BYTES(text) text, sizeof(text) - 1

static void binary_json_is_read_as_it_is_defined(void **state)
{
    static const struct {
        const char *bytes;
        size_t      length;
        const char *text; /* NULL: refused */
    } cases[] = {
        {BYTES("Z"), "null"}, {BYTES("i\xff"), "-1"}, {BYTES("U\xff"), "255"}, {BYTES("I\x80\x00"), "-32768"}, {BYTES("l\x7f\xff\xff\xff"), "2147483647"},
        {BYTES("d\x3f\xc0\x00\x00"), "1.5"}, {BYTES("D\x3f\xf8\x00\x00\x00\x00\x00\x00"), "1.5"}, {BYTES("Si\x02hi"), "\"hi\""}, {BYTES("Cx"), "\"x\""}, {BYTES("[NTNF]"), "[true,false]"},
        {BYTES("[$i#i\x03\x01\x02\x03"), "[1,2,3]"}, {BYTES("[#i\x02Ti\x05"), "[true,5]"}, {BYTES("{i\x01" "aT}"), "{\"a\":true}"}, {BYTES("{#i\x01i\x01" "aZ"), "{\"a\":null}"}, {BYTES("{$U#i\x01i\x01" "a\x07"), "{\"a\":7}"},
        {BYTES(""), NULL}, {BYTES("i"), NULL}, {BYTES("["), NULL}, {BYTES("[$Z#i\x7f"), NULL}, {BYTES("[$i#i\x09\x01"), NULL}, {BYTES("[$i]"), NULL}, {BYTES("{i\x05" "a"), NULL}, {BYTES("Si\x7fx"), NULL}, {BYTES("?"), NULL},
        {BYTES("[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[["), NULL}, {BYTES("[#L\x7f\xff\xff\xff\xff\xff\xff\xff"), NULL}, {BYTES("[#i\xff"), NULL}, {BYTES("Si\x02\xff\xfe"), NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        json_t *value = ubjson_parse(*state, cases[i].bytes, cases[i].length, "x.ubj");
        if (!value != !cases[i].text) fail_msg("case %zu: %s", i, value ? "read" : crank_message(*state));
        char *text = value ? json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
        if (text) assert_string_equal(text, cases[i].text);
        free(text);
        json_decref(value);
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(models_of_xgboost_give_its_scores), TEST(exported_models_give_the_same_scores_in_xgboost), TEST(random_models_survive_xgboosts_format),
        TEST(what_xgboost_has_and_crank_not_is_refused_with_the_reason), TEST(broken_models_are_refused_or_can_be_used), TEST(binary_json_is_read_as_it_is_defined), TEST(own_files_keep_every_bit),
        TEST(c_source_keeps_every_bit), TEST(broken_own_files_are_refused_or_can_be_used),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
