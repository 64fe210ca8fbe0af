/* Broken and hostile data files end with CRANK_BAD_DATA that names file and line, never with a crash or a silent skip. */
#include "data_file.h"

typedef struct hostile {
    const char *name, *text, *told; /* told: part of the message; NULL: the file is good */
    unsigned    fields;
    const char *pairs[8];
} hostile;

#define T DATASET_TARGETS
#define L DATASET_LABELS
#define V DATASET_VALUES

static const hostile cases[] = {
    /* jsonl that is no JSON */
    {"a.jsonl", "{", "a.jsonl:1", T, {NULL}},
    {"a.jsonl", "}", "a.jsonl:1", T, {NULL}},
    {"a.jsonl", "{\"text\": \"a\"}\n{\"text\": ", "a.jsonl:2", T, {NULL}},
    {"a.jsonl", "{\"text\": \"a\"} {\"text\": \"b\"}", "a.jsonl:1", T, {NULL}},
    {"a.jsonl", "{\"text\": \"a\"},", "a.jsonl:1", T, {NULL}},
    {"a.jsonl", "{'text': 'a'}", "a.jsonl:1", T, {NULL}},
    {"a.jsonl", "{text: \"a\"}", "a.jsonl:1", T, {NULL}},
    {"a.jsonl", "{\"text\": \"a\",}", "a.jsonl:1", T, {NULL}},
    {"a.jsonl", "{\"text\": \"\xff\"}", "a.jsonl:1", T, {NULL}},
    {"a.jsonl", "{\"text\": \"\xed\xa0\x80\"}", "a.jsonl:1", T, {NULL}},
    {"a.jsonl", "{\"text\": \"\\ud800\"}", "a.jsonl:1", T, {NULL}},
    {"a.jsonl", "{\"text\": \"\\u0000\"}", "a.jsonl:1", T, {NULL}},
    {"a.jsonl", "{\"text\": \"a\tb\"}", "a.jsonl:1", T, {NULL}},
    {"a.jsonl", "{\"text\": \"\\x41\"}", "a.jsonl:1", T, {NULL}},
    {"a.jsonl", "{\"text\": \"a\", \"text\": \"b\"}", "a.jsonl:1", T, {NULL}},
    {"a.jsonl", "{\"text\": NaN}", "a.jsonl:1", T, {NULL}},
    {"a.jsonl", "{\"text\": 1e999}", "a.jsonl:1", T, {NULL}},
    {"a.jsonl", "{\"text\": 01}", "a.jsonl:1", T, {NULL}},
    {"a.jsonl", "[1, 2]", "a.jsonl:1: a row must be a JSON object", T, {NULL}},
    {"a.jsonl", "\"text\"", "a.jsonl:1: a row must be a JSON object", T, {NULL}},
    {"a.jsonl", "null", "a.jsonl:1: a row must be a JSON object", T, {NULL}},
    {"a.jsonl", "\n\n\n5", "a.jsonl:4: a row must be a JSON object", T, {NULL}},
    {"a.jsonl", "text\n", "a.jsonl:1", T, {NULL}},
    {"a.jsonl", "\x1f\x8b garbage", "a.jsonl", T, {NULL}},
    {"a.jsonl", "", "no row", T, {NULL}},
    {"a.jsonl", "\n  \n\t\r\n", "no row", T, {NULL}},
    {"a.jsonl", "\xef\xbb\xbf{\"text\": \"a b\"}", NULL, T, {NULL}},
    {"a.jsonl", "{\"text\": \"a b\"}\r\n\r\n{\"text\": \"c d\"}\r\n", NULL, T, {NULL}},
    {"a.jsonl", "{\"text\": \"a b\"}\n{\"text\": \"c d\"}", NULL, T, {NULL}},
    /* JSON that is no row */
    {"a.jsonl", "{}", "a.jsonl:1: no known schema", T, {NULL}},
    {"a.jsonl", "{\"texts\": \"a\"}", "the row has texts", T, {NULL}},
    {"a.jsonl", "{\"text\": 5}", "a.jsonl:1: no known schema", T, {NULL}},
    {"a.jsonl", "{\"text\": null}", "a.jsonl:1: no known schema", T, {NULL}},
    {"a.jsonl", "{\"text\": [\"a\"]}", "a.jsonl:1: no known schema", T, {NULL}},
    {"a.jsonl", "{\"prompt\": \"a\"}", "a.jsonl:1: no known schema", T, {NULL}},
    {"a.jsonl", "{\"completion\": \"a\"}", "a.jsonl:1: no known schema", T, {NULL}},
    {"a.jsonl", "{\"prompt\": \"a\", \"completion\": null}", "a.jsonl:1: no known schema", T, {NULL}},
    {"a.jsonl", "{\"prompt\": [], \"completion\": \"b\"}", "a.jsonl:1: no known schema", T, {NULL}},
    {"a.jsonl", "{\"prompt\": {}, \"completion\": {}}", "a.jsonl:1: no known schema", T, {NULL}},
    {"a.jsonl", "{\"messages\": \"a\"}", "a.jsonl:1: no known schema", T, {NULL}},
    {"a.jsonl", "{\"question\": \"a\", \"answer\": \"b\"}", "the row has question, answer", T, {NULL}},
    {"a.jsonl", "{\"question\": \"a\", \"answer\": \"b\"}", NULL, T, {"prompt_field", "question", "completion_field", "answer", NULL}},
    {"a.jsonl", "{\"text\": \"a b\"}\n{\"prompt\": \"a\", \"completion\": \"b\"}", "a.jsonl:2: this row is prompt + completion and those before it are text", T, {NULL}},
    {"a.jsonl", "{\"prompt\": \"a\", \"completion\": \"b\"}\n{\"text\": \"a\"}", "a.jsonl:2", T, {NULL}},
    {"a.jsonl", "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}]}\n{\"text\": \"a\"}", "a.jsonl:2", T, {NULL}},
    {"a.jsonl", "{\"prompt\": \"a\", \"completion\": \"\"}", "no token counts", T, {"eos", "false", NULL}},
    {"a.jsonl", "{\"text\": \"\"}", "no token counts", T, {NULL}},
    {"a.jsonl", "{\"text\": \"\"}", "no row is left", T, {"eos", "false", NULL}},
    {"a.jsonl", "{\"text\": \"a b c d e f g h\"}", "a.jsonl:1: the row has", T, {"context", "4", "overflow", "error", NULL}},
    {"a.jsonl", "{\"text\": \"a b c d e f g h\"}", "no row is left", T, {"context", "4", "overflow", "drop", NULL}},
    {"a.jsonl", "{\"prompt\": \"a\", \"completion\": \"b\"}\n{\"prompt\": \"a b c d e f g h\", \"completion\": \"i\"}", "a.jsonl:2: the row has", T, {"context", "4", NULL}},
    /* conversations */
    {"a.jsonl", "{\"messages\": []}", "a.jsonl:1: a conversation must be", T, {NULL}},
    {"a.jsonl", "{\"messages\": [5]}", "a.jsonl:1: message 1", T, {NULL}},
    {"a.jsonl", "{\"messages\": [[]]}", "a.jsonl:1: message 1", T, {NULL}},
    {"a.jsonl", "{\"messages\": [null]}", "a.jsonl:1: message 1", T, {NULL}},
    {"a.jsonl", "{\"messages\": [{}]}", "a.jsonl:1: chat template:", T, {NULL}},
    {"a.jsonl", "{\"messages\": [{\"role\": \"user\"}]}", "a.jsonl:1: chat template:", T, {NULL}},
    {"a.jsonl", "{\"messages\": [{\"role\": \"user\", \"content\": 5}]}", "a.jsonl:1: chat template:", T, {NULL}},
    {"a.jsonl", "{\"messages\": [{\"role\": 5, \"content\": \"a\"}]}", "a.jsonl:1: chat template:", T, {NULL}},
    {"a.jsonl", "{\"messages\": [{\"role\": \"user\", \"content\": [{\"type\": \"text\"}]}]}", "a.jsonl:1: chat template:", T, {NULL}},
    {"a.jsonl", "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}]}", "no token counts", T, {NULL}},
    {"a.jsonl", "{\"messages\": [{\"role\": \"assistant\", \"content\": \"a\"}]}", NULL, T, {NULL}},
    {"a.jsonl", "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}, {\"role\": \"assistant\", \"content\": \"b\"}], \"tools\": \"[\"}", "a.jsonl:1: tools", T, {NULL}},
    {"a.jsonl", "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}, {\"role\": \"assistant\", \"content\": \"b\"}], \"chat_template_kwargs\": {\"messages\": 5}}", NULL, T, {NULL}},
    {"a.jsonl", "{\"prompt\": [], \"completion\": []}", "a.jsonl:1: a conversation must be", T, {NULL}},
    {"a.jsonl", "{\"prompt\": [], \"completion\": [{\"role\": \"assistant\", \"content\": \"b\"}]}", NULL, T, {NULL}},
    {"a.jsonl", "{\"prompt\": [{\"role\": \"assistant\", \"content\": \"b\"}], \"completion\": []}", "no token counts", T, {NULL}},
    /* labels of jsonl */
    {"a.jsonl", "{\"text\": \"a\"}", "a.jsonl:1: wanted a text `text` and a label `label`", L, {NULL}},
    {"a.jsonl", "{\"label\": 1}", "a.jsonl:1: wanted a text", L, {NULL}},
    {"a.jsonl", "{\"text\": \"a\", \"label\": null}", "neither a number nor a class name", L, {NULL}},
    {"a.jsonl", "{\"text\": \"a\", \"label\": [1]}", "neither a number nor a class name", L, {NULL}},
    {"a.jsonl", "{\"text\": \"a\", \"label\": \"x\"}", "label `x` is no number", L, {NULL}},
    {"a.jsonl", "{\"text\": \"a\", \"label\": \"x\"}", "label `x` is not among data.labels", L, {"labels", "neg,pos", NULL}},
    {"a.jsonl", "{\"text\": \"a\", \"label\": \"nan\"}", "is no number", L, {NULL}},
    {"a.jsonl", "{\"text\": \"a\", \"label\": \"1e300\"}", "is no number", V, {NULL}},
    {"a.jsonl", "{\"text\": \"a\", \"label\": 1e300}", "out of range", V, {NULL}},
    {"a.jsonl", "{\"text\": \"a\", \"label\": -1}", "no number of a class", L, {NULL}},
    {"a.jsonl", "{\"text\": \"a\", \"label\": 0.5}", "no number of a class", L, {NULL}},
    {"a.jsonl", "{\"text\": \"a\", \"label\": 1e30}", "no number of a class", L, {NULL}},
    {"a.jsonl", "{\"text\": \"a\", \"label\": 99999999999999999999999}", "no number of a class", L, {NULL}},
    {"a.jsonl", "{\"text\": \"a\", \"label\": 7}", "the head has classes 0 to 2", L, {NULL}},
    {"a.jsonl", "{\"text\": \"a\", \"label\": true}", NULL, L, {NULL}},
    {"a.jsonl", "{\"text\": \"a\", \"label\": 1}", "no text `b`", L, {"pair_field", "b", NULL}},
    {"a.jsonl", "{\"text\": \"a\", \"b\": \"c\", \"label\": 1}", NULL, L, {"pair_field", "b", NULL}},
    {"a.jsonl", "{\"text\": \"\", \"label\": 1}", "no row is left", L, {NULL}},
    /* tables */
    {"a.tsv", "", "no row", L, {NULL}},
    {"a.tsv", "text\tlabel\n", "no row", L, {NULL}},
    {"a.tsv", "a\t1\n", "a.tsv:1: no column `text`", L, {NULL}},
    {"a.tsv", "text\tclass\na\t1\n", "a.tsv:1: no column `label`", L, {NULL}},
    {"a.tsv", "text\tlabel\na\n", "a.tsv:2: the row has 1 columns", L, {NULL}},
    {"a.tsv", "text\tlabel\na\t1\nb\n", "a.tsv:3: the row has 1 columns", L, {NULL}},
    {"a.tsv", "text\tlabel\na\t\n", "label `` is no number", L, {NULL}},
    {"a.tsv", "text\tlabel\na\t1x\n", "label `1x` is no number", L, {NULL}},
    {"a.tsv", "text\tlabel\na\t1\n", "no column `b`", L, {"pair_field", "b", NULL}},
    {"a.tsv", "a\t1\n", "a.tsv:1: the row has 2 columns and column 9", L, {"text_field", "9", "label_field", "1", NULL}},
    {"a.tsv", "a\t1\n", "no column `-1`", L, {"text_field", "-1", "label_field", "1", NULL}},
    {"a.tsv", "a\t1\n", "no column `999999999999999999999`", L, {"text_field", "999999999999999999999", "label_field", "1", NULL}},
    {"a.tsv", "\t\t\t\n", "no row", L, {"text_field", "0", "label_field", "1", NULL}},
    {"a.tsv", "1\ta\n0\tb\n", NULL, L, {"text_field", "1", "label_field", "0", NULL}},
    {"a.csv", "\"a", "a.csv:1: a quoted field is not closed", L, {NULL}},
    {"a.csv", "text,label\n\"a\nb,1\nc,1\n", "a.csv:2: a quoted field is not closed", L, {NULL}},
    {"a.csv", "text,label\n\"a\"b,1\n", "a.csv:2: text stands behind a closing quote", L, {NULL}},
    {"a.csv", "text,label\na\n", "a.csv:2: the row has 1 columns", L, {NULL}},
    {"a.csv", "text,label\n\"\n\n\n\",1\nb\n", "a.csv:6: the row has 1 columns", L, {NULL}},
    {"a.csv", ",,,\n", "no column", L, {NULL}},
    {"a.csv", "text,label\r\n\"a\"\"\",1\r", NULL, L, {NULL}},
    {"a.csv", "\xef\xbb\xbf" "text,label\na,1\n", NULL, L, {NULL}},
    /* plain text */
    {"a.txt", "", "no row", T, {NULL}},
    {"a.txt", "\n\n \t\n", "no row", T, {"document", "paragraph", NULL}},
    {"a.txt", "some text", "plain text and the objective needs labels", L, {NULL}},
    {"a.txt", "\xff\xfe bytes \x80", NULL, T, {NULL}},
};

static crank_tokenizer *chat_tokenizer(crank_context *context)
{
    json_t          *specials = json_pack("{s:i,s:i}", "<s>", 904, "</s>", 905);
    char            *tmpl = template_text(context, "chatml");
    crank_tokenizer *tokenizer = make_model(context, "qwen2", specials, tmpl);
    crank_free(tmpl);
    json_decref(specials);
    return tokenizer;
}

/* Opens the file, and where it is good reads two batches. */
static crank_status open_and_read(crank_context *context, const crank_tokenizer *tokenizer, const char *path, const char *const *pairs, unsigned fields)
{
    dataset_options  *options = options_with(context, path, pairs);
    dataset_request   request = {.fields = fields, .batch = 2, .context = 1000, .labels = 3, .seed = 1, .slots = 1};
    const data_batch *batch;
    data_set         *set = dataset_open(context, tokenizer, options, &request, DATASET_TRAIN);
    crank_status      status = set ? CRANK_OK : crank_last_status(context);
    for (int64_t k = 0; set && k < 2 && status == CRANK_OK; k++) status = dataset_batch(context, set, k, 0, &batch);
    dataset_close(set);
    crank_options_free(options);
    return status;
}

static void broken_files_are_refused_with_their_line(void **state)
{
    (void)state;
    crank_context   *context = crank_context_new();
    crank_tokenizer *tokenizer = chat_tokenizer(context);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const hostile *c = &cases[i];
        crank_clear(context);
        crank_status status = open_and_read(context, tokenizer, write_file(c->name, c->text, strlen(c->text)), c->pairs, c->fields);
        if (!c->told && status != CRANK_OK) fail_msg("case %zu, '%.60s': %s", i, c->text, crank_message(context));
        if (c->told && status != CRANK_BAD_DATA) fail_msg("case %zu, '%.60s': status %d, '%s'", i, c->text, status, crank_message(context));
        if (c->told && !strstr(crank_message(context), c->told)) fail_msg("case %zu, '%.60s': '%s' tells not '%s'", i, c->text, crank_message(context), c->told);
    }
    crank_tokenizer_free(tokenizer);
    crank_context_free(context);
}

static void zero_bytes_are_refused(void **state)
{
    (void)state;
    static const char *const names[] = {"z.txt", "z.tsv", "z.csv", "z.jsonl"};
    static const char        text[] = "text\tlabel\na\0b\t1\n";
    crank_context           *context = crank_context_new();
    crank_tokenizer         *tokenizer = chat_tokenizer(context);
    for (size_t i = 0; i < 4; i++) {
        unsigned fields = i == 0 || i == 3 ? T : L;
        assert_int_equal(open_and_read(context, tokenizer, write_file(names[i], text, sizeof text - 1), NULL, fields), CRANK_BAD_DATA);
    }
    crank_tokenizer_free(tokenizer);
    crank_context_free(context);
}

static void a_row_nested_without_end_is_refused(void **state)
{
    (void)state;
    enum { DEPTH = 100000 };
    crank_context   *context = crank_context_new();
    crank_tokenizer *tokenizer = chat_tokenizer(context);
    char            *text = malloc(2 * DEPTH + 100);
    size_t           length = (size_t)sprintf(text, "{\"text\": ");
    memset(text + length, '[', DEPTH);
    memset(text + length + DEPTH, ']', DEPTH);
    length += 2 * DEPTH;
    text[length++] = '}';
    assert_int_equal(open_and_read(context, tokenizer, write_file("deep.jsonl", text, length), NULL, T), CRANK_BAD_DATA);
    free(text);
    crank_tokenizer_free(tokenizer);
    crank_context_free(context);
}

static void the_first_bad_row_is_told_by_any_number_of_threads(void **state)
{
    (void)state;
    static const char good[] = "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}, {\"role\": \"assistant\", \"content\": \"b\"}]}\n";
    static const char bad[] = "{\"messages\": [{\"role\": \"user\"}]}\n";
    char             *text = malloc(400 * sizeof good);
    size_t            length = 0;
    for (int i = 0; i < 300; i++) length += (size_t)sprintf(text + length, "%s", i == 123 || i == 222 || i == 124 ? bad : good);
    for (int threads = 1; threads <= 4; threads++) {
        crank_context   *context = crank_context_new();
        crank_tokenizer *tokenizer = chat_tokenizer(context);
        crank_set_threads(context, threads);
        assert_int_equal(open_and_read(context, tokenizer, write_file("rows.jsonl", text, length), NULL, T), CRANK_BAD_DATA);
        assert_non_null(strstr(crank_message(context), "rows.jsonl:124: chat template"));
        crank_tokenizer_free(tokenizer);
        crank_context_free(context);
    }
    free(text);
}

static void a_missing_file_is_told(void **state)
{
    (void)state;
    crank_context   *context = crank_context_new();
    crank_tokenizer *tokenizer = chat_tokenizer(context);
    static const char *const names[] = {"/nonexistent/a.jsonl", "/nonexistent/a.tsv", "/nonexistent/a.csv", "/nonexistent/a.txt"};
    for (size_t i = 0; i < 4; i++) {
        assert_true(open_and_read(context, tokenizer, names[i], NULL, T) != CRANK_OK);
        assert_non_null(strstr(crank_message(context), names[i]));
    }
    crank_tokenizer_free(tokenizer);
    crank_context_free(context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(broken_files_are_refused_with_their_line),
        cmocka_unit_test(zero_bytes_are_refused),
        cmocka_unit_test(a_row_nested_without_end_is_refused),
        cmocka_unit_test(the_first_bad_row_is_told_by_any_number_of_threads),
        cmocka_unit_test(a_missing_file_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
