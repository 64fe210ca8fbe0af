/* crank encode and crank score against sentence-transformers and transformers (tests/oracle/encoders.py), in every format that is written. */
#include "../task/runs.h"

#include "base/file.h"
#include "base/json.h"
#include "crank/tensor.h"

static const char *in_encoders(const char *name)
{
    static char text[4][4200];
    static int  next;
    char       *out = text[next++ % 4];
    snprintf(out, sizeof text[0], CRANK_SOURCE_DIR "/tests/golden/encoders/%s", name);
    return out;
}

/* Runs `crank VERB FOLDER words.. -o OUT` and gives its standard error (free). */
static char *run_verb(const char *verb, const char *folder, const char *words, const char *rows_flag, const char *rows, const char *out, int wanted)
{
    run_words w = {.count = 0};
    words_add(&w, "%s", in_encoders(folder));
    words_add(&w, "%s", rows_flag);
    words_add(&w, "%s", rows);
    words_add(&w, "-o");
    words_add(&w, "%s", runs_path(out));
    words_split(&w, "--compute f32 --threads 1 --device cpu");
    words_split(&w, words);
    child_result r = child_run(verb, &w, 0);
    if (r.code != wanted) fail_msg("crank %s %s %s: %d %s", verb, folder, words, r.code, r.err);
    char *told = strdup(r.err);
    child_free(&r);
    return told;
}

/* Tensor `got` of a safetensors file that crank wrote against `name` of a golden file. */
static void assert_equals(const char *out, const char *got, const char *wanted_file, const char *name)
{
    crank_context     *context = crank_context_new();
    crank_safetensors *golden_file = crank_safetensors_open(context, in_encoders(wanted_file)), *file = crank_safetensors_open(context, runs_path(out));
    crank_view         wanted, view;
    if (!golden_file || !file) fail_msg("%s", crank_message(context));
    assert_true(crank_safetensors_find(golden_file, name, &wanted) && crank_safetensors_find(file, got, &view));
    assert_int_equal(view.dims[0], wanted.dims[0]);
    assert_int_equal(view.dims[1], wanted.dims[1]);
    const float *a = view.data, *b = wanted.data;
    for (int64_t i = 0; i < crank_view_count(&view); i++)
        if (!(fabs((double)a[i] - b[i]) <= 2e-5 * fmax(1, fabs((double)b[i])))) fail_msg("%s: place %d is %.8g, wanted %.8g", name, (int)i, (double)a[i], (double)b[i]);
    crank_safetensors_close(golden_file), crank_safetensors_close(file);
    crank_context_free(context);
}

static void assert_golden(const char *out, const char *got, const char *name) { assert_equals(out, got, "golden.safetensors", name); }

static void encode_is(const char *folder, const char *words, const char *name)
{
    free(run_verb("encode", folder, words, "--texts", in_encoders("texts.txt"), "v.safetensors", 0));
    assert_golden("v.safetensors", "embedding", name);
}

static void score_is(const char *folder, const char *words, const char *name)
{
    free(run_verb("score", folder, words, "--pairs", in_encoders("pairs.jsonl"), "s.safetensors", 0));
    assert_golden("s.safetensors", "score", name);
}

static void vectors_are_those_of_sentence_transformers(void **state)
{
    (void)state;
    encode_is("bi", "", "bi");
    encode_is("bi", "--prompt-name query", "bi.query");
    encode_is("bi", "--batch 40", "bi");
    encode_is("first", "", "first");
    encode_is("decoder", "", "decoder.last");
}

static void the_real_minilm_gives_its_vectors(void **state)
{
    (void)state;
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    bool        set = cache && *cache;
    char        folder[4200];
    snprintf(folder, sizeof folder, "%s%s/crank/all-MiniLM-L6-v2", set ? cache : home ? home : "", set ? "" : "/.cache");
    if (access(folder, R_OK)) {
        print_message("no MiniLM in the cache: run tests/oracle/fetch_minilm.sh: skipped\n");
        skip();
    }
    run_words w = {.count = 0};
    words_add(&w, "%s", folder);
    words_split(&w, "--compute f32 --device cpu --texts");
    words_add(&w, "%s", in_encoders("texts.txt"));
    words_add(&w, "-o");
    words_add(&w, "%s", runs_path("v.safetensors"));
    child_result r = child_run("encode", &w, 0);
    if (r.code) fail_msg("%s", r.err);
    child_free(&r);
    assert_equals("v.safetensors", "embedding", "minilm.safetensors", "embedding");
}

static void what_the_folder_says_is_told_and_can_be_left_aside(void **state)
{
    (void)state;
    char *told = run_verb("encode", "bi", "", "--texts", in_encoders("texts.txt"), "v.npy", 0);
    assert_non_null(strstr(told, "pooling mean, vectors of length 1, at most 24 tokens a row"));
    assert_non_null(strstr(told, "rows were longer than 24 tokens and were cut"));
    free(told);
    told = run_verb("encode", "first", "", "--texts", in_encoders("texts.txt"), "v.npy", 0);
    assert_non_null(strstr(told, "pooling cls, at most 30 tokens a row, prompt `the sea `"));
    free(told);
    told = run_verb("encode", "bi", "--plain --pooling cls --max-length 9", "--texts", in_encoders("texts.txt"), "v.npy", 0);
    assert_non_null(strstr(told, "pooling cls, at most 9 tokens a row\n"));
    free(told);
}

static void scores_are_those_of_a_cross_encoder(void **state)
{
    (void)state;
    score_is("cross", "", "cross");
    score_is("cross", "--activation none", "cross.none");
}

static void answers_are_those_of_the_last_token(void **state)
{
    (void)state;
    for (int vocabulary = 0; vocabulary < 2; vocabulary++) {
        run_words w = {.count = 0};
        words_add(&w, "%s", in_encoders("decoder"));
        words_add(&w, "--pairs");
        words_add(&w, "%s", in_encoders("pairs.jsonl"));
        words_add(&w, "--template");
        words_add(&w, "Query: {text}\nDocument: {pair}\nRelevant:");
        words_add(&w, "--answers");
        words_add(&w, " yes, no");
        words_add(&w, "--among=%s", vocabulary ? "vocabulary" : "answers");
        words_split(&w, "--compute f32 --threads 1 --device cpu -o");
        words_add(&w, "%s", runs_path("s.safetensors"));
        child_result r = child_run("score", &w, 0);
        if (r.code) fail_msg("%s", r.err);
        child_free(&r);
        assert_golden("s.safetensors", "score", vocabulary ? "decoder.vocabulary" : "decoder");
    }
}

/* .npy, .jsonl and .safetensors hold the same numbers. */
static void formats_hold_the_same_numbers(void **state)
{
    (void)state;
    static const char *const outs[] = {"v.safetensors", "v.npy", "v.jsonl"};
    crank_context           *context = crank_context_new();
    for (int i = 0; i < 3; i++) free(run_verb("encode", "bi", "", "--texts", in_encoders("texts.txt"), outs[i], 0));
    crank_safetensors *file = crank_safetensors_open(context, runs_path("v.safetensors"));
    crank_view         view;
    assert_true(file && crank_safetensors_find(file, "embedding", &view));
    size_t bytes = (size_t)crank_view_bytes(&view), length;
    char  *npy = file_read(context, runs_path("v.npy"), &length);
    assert_non_null(npy);
    assert_memory_equal(npy, "\x93NUMPY\x01\x00", 8);
    size_t header = 10 + (size_t)(unsigned char)npy[8] + 256 * (size_t)(unsigned char)npy[9];
    assert_int_equal(header % 64, 0);
    assert_non_null(strstr(npy + 10, "'descr': '<f4', 'fortran_order': False, 'shape': (8, 32)"));
    assert_int_equal(length, header + bytes);
    assert_memory_equal(npy + header, view.data, bytes);
    file_lines *lines = file_lines_open(context, runs_path("v.jsonl"));
    const char *text;
    for (int64_t r = 0; file_lines_next(context, lines, &text, &length) > 0; r++) {
        json_t *row = json_parse(context, text, length, "v.jsonl");
        for (int64_t k = 0; k < view.dims[1]; k++)
            assert_true((float)json_number_value(json_array_get(json_object_get(row, "embedding"), (size_t)k)) == ((const float *)view.data)[r * view.dims[1] + k]);
        json_decref(row);
    }
    file_lines_close(lines);
    crank_free(npy);
    crank_safetensors_close(file);
    crank_context_free(context);
}

static void bad_rows_and_words_are_told(void **state)
{
    (void)state;
    static const struct {
        const char *verb, *folder, *words, *rows, *flag;
        int         code;
        const char *says;
    } cases[] = {
        {"encode", "bi", "", "{\"txt\": \"a\"}\n", "--texts", 3, "wanted a text `text`"},
        {"encode", "bi", "", "{\"text\": \"a\"}\n[1]\n", "--texts", 3, ":2"},
        {"encode", "bi", "--prompt-name other", "{\"text\": \"a\"}\n", "--texts", 2, "no prompt named `other`"},
        {"encode", "bi", "--max-length 2", "{\"text\": \"dog dog\"}\n", "--texts", 2, "leave no room"},
        {"score", "cross", "", "{\"text\": \"a\"}\n", "--pairs", 3, "`text_pair`"},
        {"score", "bi", "", "{\"text\": \"a\", \"text_pair\": \"b\"}\n", "--pairs", 2, "crank encode makes vectors"},
        {"score", "decoder", "--answers fox,dog", "{\"text\": \"a\", \"text_pair\": \"b\"}\n", "--pairs", 2, "an answer is one token"},
        {"encode", "bi", "", "[[1, 2], [3, 96]]", "--ids", 3, "sequence 1, place 1"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        FILE *f = fopen(runs_path("rows.jsonl"), "w");
        fputs(cases[i].rows, f);
        fclose(f);
        char *told = run_verb(cases[i].verb, cases[i].folder, cases[i].words, cases[i].flag, runs_path("rows.jsonl"), "v.npy", cases[i].code);
        if (!strstr(told, cases[i].says)) fail_msg("case %d: %s", (int)i, told);
        free(told);
    }
    free(run_verb("encode", "bi", "", "--texts", in_encoders("texts.txt"), "v.bin", 2));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vectors_are_those_of_sentence_transformers),
        cmocka_unit_test(the_real_minilm_gives_its_vectors),
        cmocka_unit_test(what_the_folder_says_is_told_and_can_be_left_aside),
        cmocka_unit_test(scores_are_those_of_a_cross_encoder),
        cmocka_unit_test(answers_are_those_of_the_last_token),
        cmocka_unit_test(formats_hold_the_same_numbers),
        cmocka_unit_test(bad_rows_and_words_are_told),
    };
    return cmocka_run_group_tests(tests, runs_setup, runs_teardown);
}
