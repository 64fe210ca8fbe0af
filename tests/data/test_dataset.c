/* Data sets: what is trained of each schema, batches as a pure function of seed and number, overflow, real files. */
#include "data_file.h"

#include "data/tokens.h"

static crank_tokenizer *load_tokenizer(crank_context *context, const char *kind)
{
    char path[256];
    snprintf(path, sizeof path, "tokenizers/%s.json", kind);
    crank_tokenizer *tokenizer = crank_tokenizer_load(context, golden(path));
    if (!tokenizer) fail_msg("%s", crank_message(context));
    return tokenizer;
}

static crank_tokenizer *chat_model(crank_context *context, const char *tmpl_name)
{
    json_t          *specials = json_pack("{s:i,s:i}", "<s>", 904, "</s>", 905);
    char            *tmpl = template_text(context, tmpl_name);
    crank_tokenizer *tokenizer = make_model(context, "qwen2", specials, tmpl);
    crank_free(tmpl);
    json_decref(specials);
    return tokenizer;
}

typedef struct opened {
    crank_context   *context;
    crank_tokenizer *tokenizer;
    dataset_options *options;
    data_set        *set;
} opened;

/* A set of one file with options {key, value, ..., NULL}; fails the test when it cannot be opened. */
static opened open_set(crank_context *context, crank_tokenizer *tokenizer, const char *path, const char *const *pairs, unsigned fields, int64_t batch, uint64_t seed)
{
    opened          out = {context, tokenizer, options_with(context, path, pairs), NULL};
    dataset_request request = {.fields = fields, .batch = batch, .context = 1000000, .seed = seed, .slots = 2};
    out.set = dataset_open(context, tokenizer, out.options, &request, DATASET_TRAIN);
    if (!out.set) fail_msg("%s", crank_message(context));
    return out;
}

static void close_set(opened *set)
{
    dataset_close(set->set);
    crank_options_free(set->options);
    crank_tokenizer_free(set->tokenizer);
    crank_context_free(set->context);
}

static char *trained_text(const opened *set, int64_t row) /* trained tokens of a row, decoded */
{
    const int32_t *ids;
    const uint8_t *mask;
    int64_t        count;
    int32_t        label, kept[4096];
    size_t         n = 0;
    dataset_row(set->set, row, &ids, &mask, &count, &label);
    for (int64_t i = 0; i < count && n < 4096; i++)
        if (mask[i]) kept[n++] = ids[i];
    return crank_decode(set->context, set->tokenizer, kept, n, false, NULL);
}

static void expect_trained(const opened *set, int64_t row, const char *wanted)
{
    char *text = trained_text(set, row);
    assert_string_equal(text, wanted);
    crank_free(text);
}

/* --- schemas --- */

static void completions_and_their_end_are_trained(void **state)
{
    (void)state;
    static const char   rows[] = "{\"prompt\": \"2+2=\", \"completion\": \" 4\"}\n\n{\"prompt\": \"a\", \"completion\": \"b\", \"other\": 1}\n";
    crank_context      *context = crank_context_new();
    crank_tokenizer    *tokenizer = chat_model(context, "chatml");
    opened              set = open_set(context, tokenizer, write_file("a.jsonl", rows, strlen(rows)), NULL, DATASET_TARGETS, 1, 1);
    assert_int_equal(dataset_rows(set.set), 2);
    expect_trained(&set, 0, " 4</s>");
    expect_trained(&set, 1, "b</s>");
    close_set(&set);
}

static void conversations_train_their_assistant_turns(void **state)
{
    (void)state;
    static const char rows[] =
        "{\"messages\": [{\"role\": \"user\", \"content\": \"Hi\"}, {\"role\": \"assistant\", \"content\": \"Yo\"}, {\"role\": \"user\", \"content\": \"x\"},"
        "{\"role\": \"assistant\", \"content\": \"Bye\"}]}\n"
        "{\"messages\": [{\"role\": \"user\", \"content\": \"Hi\"}], \"tools\": null}\n"
        "{\"prompt\": [{\"role\": \"user\", \"content\": \"Hi\"}, {\"role\": \"assistant\", \"content\": \"Yo\"}, {\"role\": \"user\", \"content\": \"x\"}],"
        "\"completion\": [{\"role\": \"assistant\", \"content\": \"Bye\"}]}\n";
    static const char *const names[] = {"chatml", "chatml_generation", "qwen2_5", "qwen3"};
    for (size_t i = 0; i < 4; i++) {
        crank_context *context = crank_context_new();
        opened         set = open_set(context, chat_model(context, names[i]), write_file("m.jsonl", rows, strlen(rows)), NULL, DATASET_TARGETS, 1, 1);
        const char    *last = i == 3 ? "<think>\n\n</think>\n\nBye<|im_end|>" : "Bye<|im_end|>";
        char           both[128];
        snprintf(both, sizeof both, "Yo<|im_end|>%s", last);
        assert_int_equal(dataset_rows(set.set), 3);
        expect_trained(&set, 0, both);
        expect_trained(&set, 1, "");
        expect_trained(&set, 2, last);
        char *report = dataset_report(context, set.set);
        assert_non_null(strstr(report, "3 rows of messages"));
        crank_free(report);
        close_set(&set);
    }
}

static void tools_reach_the_template(void **state)
{
    (void)state;
    static const char rows[] = "{\"messages\": [{\"role\": \"user\", \"content\": \"Hi\"}, {\"role\": \"assistant\", \"content\": \"Yo\"}], \"tools\": \"[{\\\"name\\\": \\\"f\\\"}]\"}\n"
                               "{\"messages\": [{\"role\": \"user\", \"content\": \"Hi\"}, {\"role\": \"assistant\", \"content\": \"Yo\"}], \"tools\": [{\"name\": \"f\"}]}\n";
    crank_context    *context = crank_context_new();
    opened            set = open_set(context, chat_model(context, "qwen2_5"), write_file("t.jsonl", rows, strlen(rows)), NULL, DATASET_TARGETS, 1, 1);
    const int32_t    *ids[2];
    const uint8_t    *mask;
    int64_t           count[2];
    int32_t           label;
    for (int i = 0; i < 2; i++) dataset_row(set.set, i, &ids[i], &mask, &count[i], &label);
    assert_int_equal(count[0], count[1]);
    assert_memory_equal(ids[0], ids[1], (size_t)count[0] * sizeof **ids);
    char *text = crank_decode(context, set.tokenizer, ids[0], (size_t)count[0], false, NULL);
    assert_non_null(strstr(text, "<tools>\n{\"name\": \"f\"}\n</tools>"));
    crank_free(text);
    close_set(&set);
}

/* Each schema of a table gives the same rows from TSV, CSV and jsonl. */
static void tables_give_the_rows_of_jsonl(void **state)
{
    (void)state;
    static const struct {
        const char *name, *text;
        const char *pairs[8];
    } files[] = {
        {"a.jsonl", "{\"text\": \"good, \\\"very\\\" film\", \"label\": \"pos\"}\n{\"label\": \"neg\", \"text\": \"bad\"}\n", {"labels", "neg,pos", NULL}},
        {"b.tsv", "label\ttext\npos\tgood, \"very\" film\r\nneg\tbad\n", {"labels", "neg,pos", NULL}},
        {"c.csv", "label,text\r\npos,\"good, \"\"very\"\" film\"\r\n\r\nneg,bad", {"labels", "neg,pos", NULL}},
        {"d.tsv", "1\tgood, \"very\" film\n0\tbad\n", {"text_field", "1", "label_field", "0", NULL}},
        {"e.csv", "\"1\",\"good, \"\"very\"\" film\"\n0,bad\n", {"text_field", "1", "label_field", "0", NULL}},
    };
    int32_t first_ids[64];
    int64_t first_count = 0;
    for (size_t f = 0; f < sizeof files / sizeof *files; f++) {
        crank_context *context = crank_context_new();
        opened         set = open_set(context, load_tokenizer(context, "bert"), write_file(files[f].name, files[f].text, strlen(files[f].text)), files[f].pairs, DATASET_LABELS, 2, 1);
        const int32_t *ids;
        const uint8_t *mask;
        int64_t        count;
        int32_t        label;
        assert_int_equal(dataset_rows(set.set), 2);
        dataset_row(set.set, 1, &ids, &mask, &count, &label);
        assert_int_equal(label, 0);
        dataset_row(set.set, 0, &ids, &mask, &count, &label);
        assert_int_equal(label, 1);
        if (!f) memcpy(first_ids, ids, (size_t)(first_count = count) * sizeof *ids);
        assert_int_equal(count, first_count);
        assert_memory_equal(ids, first_ids, (size_t)count * sizeof *ids);
        close_set(&set);
    }
}

static void quoted_fields_may_hold_line_ends(void **state)
{
    (void)state;
    static const char rows[] = "text,label\n\"one\ntwo, \"\"three\"\"\",0\n\"\",1\n";
    crank_context    *context = crank_context_new();
    dataset_options  *options = options_with(context, write_file("q.csv", rows, strlen(rows)), NULL);
    raw_rows          out;
    assert_ok(context, rows_read(context, options, options->train, DATASET_LABELS, &out));
    assert_int_equal(out.count, 2);
    assert_string_equal(out.rows[0].text, "one\ntwo, \"three\"");
    assert_string_equal(out.rows[1].text, "");
    assert_int_equal(out.rows[1].line, 4);
    rows_free(&out);
    crank_options_free(options);
    crank_context_free(context);
}

/* --- batches --- */

/* Words of many lengths, one row a line. */
static const char *many_lines(int rows)
{
    size_t length = 0;
    char  *text = malloc((size_t)rows * 400);
    for (int i = 0; i < rows; i++) {
        for (int k = 0; k <= i * 7 % 23; k++) length += (size_t)sprintf(text + length, "w%d ", (i * 31 + k) % 97);
        text[length++] = '\n';
    }
    const char *path = write_file("lines.txt", text, length);
    free(text);
    return path;
}

static uint64_t batch_hash(const data_batch *batch)
{
    uint64_t hash = 14695981039346656037u;
    for (int64_t i = 0; i < batch->tokens; i++) hash = (hash ^ (uint32_t)batch->ids[i]) * 1099511628211u ^ (uint32_t)batch->targets[i] ^ (uint64_t)batch->positions[i] << 40;
    for (int64_t i = 0; i <= batch->sequences; i++) hash = (hash ^ (uint32_t)batch->segments[i]) * 1099511628211u;
    return hash;
}

static const char *const by_line[] = {"document", "line", "context", "64", NULL};

static void a_batch_depends_on_seed_and_number_alone(void **state)
{
    (void)state;
    enum { BATCHES = 40 };
    uint64_t       hash[BATCHES];
    crank_context *context = crank_context_new();
    opened         set = open_set(context, load_tokenizer(context, "gpt2"), many_lines(300), by_line, DATASET_TARGETS, 4, 11);
    const data_batch *batch;
    for (int64_t k = 0; k < BATCHES; k++) {
        assert_ok(context, dataset_batch(context, set.set, k, (int)(k % 2), &batch));
        hash[k] = batch_hash(batch);
    }
    close_set(&set);
    for (int threads = 1; threads <= 5; threads += 4) { /* another process that begins somewhere else, with other threads */
        context = crank_context_new();
        crank_set_threads(context, threads);
        set = open_set(context, load_tokenizer(context, "gpt2"), many_lines(300), by_line, DATASET_TARGETS, 4, 11);
        for (int64_t i = 0; i < BATCHES; i++) {
            int64_t k = (i * 17 + 5) % BATCHES;
            assert_ok(context, dataset_batch(context, set.set, k, 0, &batch));
            assert_true(batch_hash(batch) == hash[k]);
        }
        close_set(&set);
    }
    context = crank_context_new();
    set = open_set(context, load_tokenizer(context, "gpt2"), many_lines(300), by_line, DATASET_TARGETS, 4, 12);
    assert_ok(context, dataset_batch(context, set.set, 0, 0, &batch));
    assert_true(batch_hash(batch) != hash[0]); /* another seed, another order */
    close_set(&set);
}

/* Each row whole, once an epoch; positions and targets inside of rows; a batch no larger than promised. */
static void packed_rows_stay_whole(void **state)
{
    (void)state;
    crank_context    *context = crank_context_new();
    opened            set = open_set(context, load_tokenizer(context, "gpt2"), many_lines(300), by_line, DATASET_TARGETS, 4, 3);
    const data_batch *batch;
    int64_t           sequences = 0, tokens = 0, all = 0, rows = dataset_rows(set.set);
    for (int64_t r = 0; r < rows; r++) {
        const int32_t *ids;
        const uint8_t *mask;
        int64_t        count;
        int32_t        label;
        dataset_row(set.set, r, &ids, &mask, &count, &label);
        all += count;
    }
    for (int64_t k = 0; sequences < 2 * rows; k++) {
        assert_ok(context, dataset_batch(context, set.set, k, 0, &batch));
        assert_in_range(batch->tokens, 1, 4 * 64);
        assert_in_range(batch->tokens, 1, dataset_largest_tokens(set.set));
        assert_in_range(batch->sequences, 1, dataset_largest_sequences(set.set));
        assert_int_equal(batch->segments[batch->sequences], batch->tokens);
        for (int64_t s = 0; s < batch->sequences && sequences < 2 * rows; s++, sequences++) {
            for (int64_t i = batch->segments[s]; i < batch->segments[s + 1]; i++, tokens++) {
                bool last = i + 1 == batch->segments[s + 1];
                assert_int_equal(batch->positions[i], i - batch->segments[s]);
                assert_int_equal(batch->targets[i], last ? -1 : batch->ids[i + 1]);
                assert_true(batch->weights[i] == (last ? 0 : 1));
            }
        }
    }
    assert_int_equal(tokens, 2 * all);
    close_set(&set);
}

static void rows_of_an_epoch_are_a_permutation(void **state)
{
    (void)state;
    static const char *const pairs[] = {"document", "line", "context", "256", "packing", "false", NULL};
    crank_context    *context = crank_context_new();
    opened            set = open_set(context, load_tokenizer(context, "gpt2"), many_lines(101), pairs, DATASET_TARGETS, 7, 3);
    const data_batch *batch;
    uint64_t          order[2] = {0, 0}, sum[2] = {0, 0};
    assert_int_equal(dataset_batches_per_epoch(set.set), 15);
    for (int64_t k = 0; k < 30; k++) {
        assert_ok(context, dataset_batch(context, set.set, k, 0, &batch));
        assert_int_equal(batch->sequences, k % 15 == 14 ? 3 : 7);
        for (int64_t s = 0; s < batch->sequences; s++) {
            uint64_t row = 1469;
            for (int64_t i = batch->segments[s]; i < batch->segments[s + 1]; i++) row = row * 1099511628211u + (uint64_t)batch->ids[i];
            sum[k / 15] += row;
            order[k / 15] = order[k / 15] * 31 + row;
        }
    }
    assert_true(sum[0] == sum[1] && order[0] != order[1]);
    close_set(&set);
}

/* --- overflow --- */

static void rows_longer_than_the_context_follow_the_rule(void **state)
{
    (void)state;
    static const struct {
        const char *rule;
        int64_t     rows, first_count;
        const char *told;
    } rules[] = {{"drop", 1, 6, "left out"}, {"left", 2, 8, "cut"}, {"right", 2, 8, "cut"}, {"split", 3, 8, "split"}};
    static const char text[] = "{\"text\": \"a b c d e f g h i j k\"}\n{\"text\": \"a b c d e\"}\n";
    for (size_t i = 0; i < 4; i++) {
        const char    *pairs[] = {"context", "8", "overflow", rules[i].rule, NULL};
        crank_context *context = crank_context_new();
        opened         set = open_set(context, chat_model(context, "chatml"), write_file("o.jsonl", text, strlen(text)), pairs, DATASET_TARGETS, 1, 1);
        const int32_t *ids;
        const uint8_t *mask;
        int64_t        count;
        int32_t        label;
        assert_int_equal(dataset_rows(set.set), rules[i].rows);
        dataset_row(set.set, 0, &ids, &mask, &count, &label);
        assert_int_equal(count, rules[i].first_count);
        if (!strcmp(rules[i].rule, "left")) assert_int_equal(ids[7], crank_tokenizer_eos(set.tokenizer));
        char *report = dataset_report(context, set.set);
        assert_non_null(strstr(report, rules[i].told));
        assert_non_null(strstr(report, "1 rows were longer than 8 tokens (the longest 14)"));
        crank_free(report);
        close_set(&set);
    }
}

static void rows_without_a_token_are_counted(void **state)
{
    (void)state;
    static const char text[] = "{\"text\": \"\", \"label\": 1}\n{\"text\": \"a\", \"label\": 0}\n";
    crank_context    *context = crank_context_new();
    opened            set = open_set(context, load_tokenizer(context, "gpt2"), write_file("e.jsonl", text, strlen(text)), NULL, DATASET_LABELS, 1, 1);
    char             *report = dataset_report(context, set.set);
    assert_int_equal(dataset_rows(set.set), 1);
    assert_non_null(strstr(report, "1 rows without a token were left out"));
    crank_free(report);
    close_set(&set);
}

/* --- real files --- */

static crank_tokenizer *real_tokenizer(crank_context *context, const char *name)
{
    const char      *path = real_data(name);
    crank_tokenizer *tokenizer = path ? crank_tokenizer_load(context, path) : NULL;
    if (path && !tokenizer) fail_msg("%s", crank_message(context));
    return tokenizer;
}

static void sst2_is_read(void **state)
{
    (void)state;
    static const char *const pairs[] = {NULL}; /* its header names the text `content`, which is among the usual names */
    crank_context           *context = crank_context_new();
    crank_tokenizer         *tokenizer = real_tokenizer(context, "tokenizers/bert-base-uncased-vocab.txt");
    const char              *path = real_data("text/sst2-dev.tsv.gz");
    if (!tokenizer || !path) {
        crank_tokenizer_free(tokenizer);
        crank_context_free(context);
        skip();
    }
    opened            set = open_set(context, tokenizer, path, pairs, DATASET_LABELS, 16, 5);
    const data_batch *batch;
    int64_t           ones = 0, rows = 0;
    for (int64_t k = 0; k < dataset_batches_per_epoch(set.set); k++) {
        assert_ok(context, dataset_batch(context, set.set, k, 0, &batch));
        for (int64_t i = 0; i < batch->sequences; i++) {
            assert_int_equal(batch->ids[batch->segments[i]], 101);
            assert_int_equal(batch->ids[batch->segments[i + 1] - 1], 102);
            ones += batch->labels[i];
        }
        rows += batch->sequences;
    }
    assert_int_equal(rows, 872);
    assert_true(ones > rows / 3 && ones < 2 * rows / 3);
    close_set(&set);
}

static void gsm8k_is_read_by_field_names(void **state)
{
    (void)state;
    static const char *const pairs[] = {"prompt_field", "question", "completion_field", "answer", "separator", "\n", "rows", "200", NULL};
    crank_context           *context = crank_context_new();
    crank_tokenizer         *tokenizer = real_tokenizer(context, "tokenizers/gpt2-tokenizer.json");
    const char              *path = real_data("text/gsm8k-test.jsonl.gz");
    if (!tokenizer || !path) {
        crank_tokenizer_free(tokenizer);
        crank_context_free(context);
        skip();
    }
    opened set = open_set(context, tokenizer, path, pairs, DATASET_TARGETS, 4, 5);
    assert_int_equal(dataset_rows(set.set), 200);
    for (int64_t r = 0; r < 200; r++) {
        char *text = trained_text(&set, r);
        assert_non_null(strstr(text, "#### "));
        crank_free(text);
    }
    close_set(&set);
}

static void plain_text_is_split_into_documents(void **state)
{
    (void)state;
    static const char *const pairs[] = {"document", "paragraph", "context", "128", NULL};
    crank_context           *context = crank_context_new();
    crank_tokenizer         *tokenizer = real_tokenizer(context, "tokenizers/gpt2-tokenizer.json");
    const char              *path = real_data("text/tinyshakespeare.txt.gz");
    if (!tokenizer || !path) {
        crank_tokenizer_free(tokenizer);
        crank_context_free(context);
        skip();
    }
    opened            set = open_set(context, tokenizer, path, pairs, DATASET_TARGETS, 8, 5);
    const data_batch *batch;
    assert_true(dataset_rows(set.set) > 7000);
    for (int64_t k = 0; k < 20; k++) {
        assert_ok(context, dataset_batch(context, set.set, k, 0, &batch));
        assert_true(batch->tokens > 8 * 128 - 128 && batch->tokens <= 8 * 128);
    }
    close_set(&set);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(completions_and_their_end_are_trained),
        cmocka_unit_test(conversations_train_their_assistant_turns),
        cmocka_unit_test(tools_reach_the_template),
        cmocka_unit_test(tables_give_the_rows_of_jsonl),
        cmocka_unit_test(quoted_fields_may_hold_line_ends),
        cmocka_unit_test(a_batch_depends_on_seed_and_number_alone),
        cmocka_unit_test(packed_rows_stay_whole),
        cmocka_unit_test(rows_of_an_epoch_are_a_permutation),
        cmocka_unit_test(rows_longer_than_the_context_follow_the_rule),
        cmocka_unit_test(rows_without_a_token_are_counted),
        cmocka_unit_test(sst2_is_read),
        cmocka_unit_test(gsm8k_is_read_by_field_names),
        cmocka_unit_test(plain_text_is_split_into_documents),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
