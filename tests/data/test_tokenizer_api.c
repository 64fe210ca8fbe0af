/* What a tokenizer tells about itself, the files beside it, offsets of broken text, and use by several threads. */
#include "tokenizer_golden.h"

static const char vocab_txt[] = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nhello\nHello\n##s\nworld\n,\n";

/* A folder with the given files (name, text, name, text, ..., NULL). */
static char *make_folder(crank_context *context, const char *const *files)
{
    char *folder = strdup("/tmp/crank-model-XXXXXX");
    assert_non_null(mkdtemp(folder));
    for (; *files; files += 2) {
        char path[256];
        snprintf(path, sizeof path, "%s/%s", folder, files[0]);
        assert_ok(context, file_write_text(context, path, files[1]));
    }
    return folder;
}

static crank_tokenizer *load_folder(crank_context *context, const char *const *files)
{
    char *folder = make_folder(context, files);
    crank_tokenizer *tokenizer = crank_tokenizer_load(context, folder);
    if (!tokenizer) fail_msg("%s", crank_message(context));
    assert_ok(context, file_folder_remove(context, folder));
    free(folder);
    return tokenizer;
}

static void assert_ids(crank_context *context, const crank_tokenizer *tokenizer, const char *text, unsigned flags,
                       size_t count, const int32_t *wanted)
{
    crank_ids ids = encode(context, tokenizer, text, strlen(text), flags);
    assert_int_equal(ids.count, count);
    for (size_t i = 0; i < count; i++) assert_int_equal(ids.ids[i], wanted[i]);
    crank_ids_free(&ids);
}

static void vocab_txt_is_uncased_bert_unless_the_config_says_otherwise(void **state)
{
    (void)state;
    crank_context *context = crank_context_new();
    const char *const plain[] = {"vocab.txt", vocab_txt, NULL};
    const char *const cased[] = {"vocab.txt", vocab_txt, "tokenizer_config.json", "{\"do_lower_case\": false}", NULL};
    crank_tokenizer *tokenizer = load_folder(context, plain);
    assert_ids(context, tokenizer, "Hello, worlds WORLD", CRANK_ENCODE_SPECIAL, 7, (int32_t[]){2, 5, 9, 8, 7, 8, 3});
    crank_tokenizer_free(tokenizer);
    tokenizer = load_folder(context, cased);
    assert_ids(context, tokenizer, "Hello, worlds WORLD", 0, 5, (int32_t[]){6, 9, 8, 7, 1});
    crank_tokenizer_free(tokenizer);
    crank_context_free(context);
}

static void tokens_are_found_both_ways(void **state)
{
    (void)state;
    crank_context *context = crank_context_new();
    crank_tokenizer *tokenizer = golden_tokenizer(context, "roberta");
    assert_int_equal(crank_tokenizer_size(tokenizer), 901);
    assert_int_equal(crank_token_id(tokenizer, "</s>"), 2);
    assert_int_equal(crank_token_id(tokenizer, "<mask>"), 900);
    assert_int_equal(crank_token_id(tokenizer, "no such token"), -1);
    assert_string_equal(crank_token_text(tokenizer, 900), "<mask>");
    assert_null(crank_token_text(tokenizer, 901));
    assert_null(crank_token_text(tokenizer, -1));
    for (int32_t id = 0; id < 901; id++)
        assert_int_equal(crank_token_id(tokenizer, crank_token_text(tokenizer, id)), id);
    crank_tokenizer_free(tokenizer);
    crank_context_free(context);
}

static void special_tokens_come_from_the_files_beside(void **state)
{
    (void)state;
    crank_context *context = crank_context_new();
    const char *const files[] = {
        "vocab.txt",
        vocab_txt,
        "tokenizer_config.json",
        "{\"bos_token\": \"[CLS]\", \"eos_token\": {\"content\": \"[SEP]\", \"lstrip\": false}, \"pad_token\": null,"
        " \"model_max_length\": 1000000000000000019884624838656}",
        "special_tokens_map.json",
        "{\"bos_token\": \"[UNK]\", \"pad_token\": \"[PAD]\"}",
        NULL};
    crank_tokenizer *tokenizer = load_folder(context, files);
    assert_int_equal(crank_tokenizer_bos(tokenizer), 2);
    assert_int_equal(crank_tokenizer_eos(tokenizer), 3);
    assert_int_equal(crank_tokenizer_pad(tokenizer), 0);
    assert_null(crank_tokenizer_chat_template(tokenizer));
    crank_tokenizer_free(tokenizer);
    crank_context_free(context);
}

static void chat_template_is_the_file_then_the_default_of_the_config(void **state)
{
    (void)state;
    crank_context *context = crank_context_new();
    const char *config = "{\"chat_template\": [{\"name\": \"rag\", \"template\": \"no\"}, {\"name\": \"default\", "
                         "\"template\": \"yes\"}]}";
    const char *const listed[] = {"vocab.txt", vocab_txt, "tokenizer_config.json", config, NULL};
    const char *const own[] = {"vocab.txt", vocab_txt, "tokenizer_config.json", config, "chat_template.jinja",
                               "own",       NULL};
    crank_tokenizer *tokenizer = load_folder(context, listed);
    assert_string_equal(crank_tokenizer_chat_template(tokenizer), "yes");
    crank_tokenizer_free(tokenizer);
    tokenizer = load_folder(context, own);
    assert_string_equal(crank_tokenizer_chat_template(tokenizer), "own");
    crank_tokenizer_free(tokenizer);
    crank_context_free(context);
}

static void missing_files_are_told(void **state)
{
    (void)state;
    crank_context *context = crank_context_new();
    assert_null(crank_tokenizer_load(context, "/tmp/no/such/tokenizer.json"));
    assert_non_null(strstr(crank_message(context), "/tmp/no/such/tokenizer.json"));
    const char *const files[] = {"other.txt", "x", NULL};
    char *folder = make_folder(context, files);
    assert_null(crank_tokenizer_load(context, folder));
    assert_non_null(strstr(crank_message(context), folder));
    assert_non_null(strstr(crank_message(context), "neither tokenizer.json nor vocab.txt"));
    assert_ok(context, file_folder_remove(context, folder));
    free(folder);
    crank_context_free(context);
}

static void special_tokens_are_plain_text_when_asked(void **state)
{
    (void)state;
    crank_context *context = crank_context_new();
    crank_tokenizer *tokenizer = golden_tokenizer(context, "llama3");
    static const char text[] = "a<|eot_id|>b";
    crank_ids special = encode(context, tokenizer, text, sizeof text - 1, 0),
              plain = encode(context, tokenizer, text, sizeof text - 1, CRANK_ENCODE_PLAIN);
    int32_t id = crank_token_id(tokenizer, "<|eot_id|>");
    assert_int_equal(special.count, 3);
    assert_int_equal(special.ids[1], id);
    assert_true(plain.count > 3);
    for (size_t i = 0; i < plain.count; i++) assert_int_not_equal(plain.ids[i], id);
    crank_ids_free(&special);
    crank_ids_free(&plain);
    crank_tokenizer_free(tokenizer);
    crank_context_free(context);
}

static void offsets_count_bytes_of_the_broken_source(void **state)
{
    (void)state;
    crank_context *context = crank_context_new();
    crank_tokenizer *tokenizer = golden_tokenizer(context, "word_level");
    static const char text[] = "\xff\xfe the \xe4\xb8 the";
    crank_ids ids = encode(context, tokenizer, text, sizeof text - 1, CRANK_ENCODE_OFFSETS);
    int32_t the = crank_token_id(tokenizer, "the");
    assert_int_equal(ids.count, 4);
    assert_int_equal(ids.ids[1], the);
    assert_int_equal(ids.ids[3], the);
    const int64_t wanted[] = {0, 2, 3, 6, 7, 9, 10, 13};
    for (int i = 0; i < 8; i++) assert_int_equal(ids.offsets[i], wanted[i]);
    crank_ids_free(&ids);
    crank_tokenizer_free(tokenizer);
    crank_context_free(context);
}

static void empty_text_has_only_special_tokens(void **state)
{
    (void)state;
    crank_context *context = crank_context_new();
    for (size_t k = 0; k < KIND_COUNT; k++) {
        crank_tokenizer *tokenizer = golden_tokenizer(context, tokenizer_kinds[k]);
        crank_ids ids = encode(context, tokenizer, "", 0, CRANK_ENCODE_OFFSETS);
        size_t length;
        assert_int_equal(ids.count, 0);
        char *text = crank_decode(context, tokenizer, ids.ids, 0, false, &length);
        assert_string_equal(text, "");
        crank_free(text);
        crank_ids_free(&ids);
        crank_tokenizer_free(tokenizer);
    }
    crank_context_free(context);
}

static void too_long_a_text_is_refused_before_it_is_read(void **state)
{
    (void)state;
    crank_context *context = crank_context_new();
    crank_tokenizer *tokenizer = golden_tokenizer(context, "gpt2");
    crank_ids ids;
    assert_int_equal(crank_encode(context, tokenizer, "", INT32_MAX, NULL, 0, 0, &ids), CRANK_USAGE);
    assert_null(ids.ids);
    crank_tokenizer_free(tokenizer);
    crank_context_free(context);
}

/* Ids outside the vocabulary have no text; others are not disturbed by them. */
static void unknown_ids_decode_to_nothing(void **state)
{
    (void)state;
    crank_context *context = crank_context_new();
    crank_tokenizer *tokenizer = golden_tokenizer(context, "gpt2");
    crank_ids ids = encode(context, tokenizer, "the", 3, 0);
    int32_t mixed[] = {-1, ids.ids[0], 1 << 30, INT32_MIN};
    size_t length;
    char *alone = crank_decode(context, tokenizer, ids.ids, 1, false, &length),
         *text = crank_decode(context, tokenizer, mixed, 4, false, &length);
    assert_string_equal(text, alone);
    crank_free(alone);
    crank_free(text);
    crank_ids_free(&ids);
    crank_tokenizer_free(tokenizer);
    crank_context_free(context);
}

static void threads_share_one_tokenizer(void **state)
{
    (void)state;
    crank_context *context = crank_context_new();
    mixed_text mixed = read_mixed(context);
    for (size_t k = 0; k < KIND_COUNT; k++) {
        crank_tokenizer *tokenizer = golden_tokenizer(context, tokenizer_kinds[k]);
        uint64_t hashes[4] = {0};
#pragma omp parallel for num_threads(4)
        for (int t = 0; t < 4; t++) {
            crank_context *own = crank_context_new();
            hashes[t] = FNV_START;
            for (size_t i = 0; i < mixed.count; i++) {
                crank_ids ids;
                if (crank_encode(own, tokenizer, mixed.lines[i], mixed.lengths[i], NULL, 0, CRANK_ENCODE_SPECIAL, &ids))
                    continue;
                hashes[t] = fnv(ids.ids, ids.count * sizeof *ids.ids, hashes[t]);
                crank_ids_free(&ids);
            }
            crank_context_free(own);
        }
        for (int t = 1; t < 4; t++) assert_true(hashes[t] == hashes[0]);
        crank_tokenizer_free(tokenizer);
    }
    crank_free(mixed.text);
    crank_context_free(context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vocab_txt_is_uncased_bert_unless_the_config_says_otherwise),
        cmocka_unit_test(tokens_are_found_both_ways),
        cmocka_unit_test(special_tokens_come_from_the_files_beside),
        cmocka_unit_test(chat_template_is_the_file_then_the_default_of_the_config),
        cmocka_unit_test(missing_files_are_told),
        cmocka_unit_test(special_tokens_are_plain_text_when_asked),
        cmocka_unit_test(offsets_count_bytes_of_the_broken_source),
        cmocka_unit_test(empty_text_has_only_special_tokens),
        cmocka_unit_test(too_long_a_text_is_refused_before_it_is_read),
        cmocka_unit_test(unknown_ids_decode_to_nothing),
        cmocka_unit_test(threads_share_one_tokenizer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
