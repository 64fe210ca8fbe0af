/* A trained tokenizer has the library's merges, and is saved as a model folder's files. */
#include "tokenizer_golden.h"

#include "base/json.h"

/* Tokens in order of ids, then merges, each hashed as lines. */
static void hash_trained(const json_t *root, uint64_t *tokens, uint64_t *merges, size_t *token_count,
                         size_t *merge_count)
{
    const json_t *model = json_object_get(root, "model"), *list = json_object_get(model, "merges");
    json_t *vocab = json_object_get(model, "vocab");
    const char *text;
    json_t *id;
    *token_count = json_object_size(vocab);
    *merge_count = json_array_size(list);
    const char **ordered = calloc(*token_count, sizeof *ordered);
    json_object_foreach(vocab, text, id) ordered[json_integer_value(id)] = text;
    *tokens = *merges = FNV_START;
    for (size_t i = 0; i < *token_count; i++) {
        if (i) *tokens = fnv("\n", 1, *tokens);
        *tokens = fnv(ordered[i], strlen(ordered[i]), *tokens);
    }
    free(ordered);
    for (size_t i = 0; i < *merge_count; i++) {
        if (i) *merges = fnv("\n", 1, *merges);
        for (size_t k = 0; k < 2; k++) {
            const char *side = json_string_value(json_array_get(json_array_get(list, i), k));
            if (k) *merges = fnv(" ", 1, *merges);
            *merges = fnv(side, strlen(side), *merges);
        }
    }
}

static void check_row(crank_context *context, const char *row)
{
    char special[64];
    int size;
    size_t tokens, merges, found_tokens, found_merges;
    uint64_t token_hash, merge_hash, found_token_hash, found_merge_hash;
    assert_int_equal(sscanf(row, "%d %63s %zu %lx %zu %lx", &size, special, &tokens, &token_hash, &merges, &merge_hash),
                     6);
    const char *list[4], *file = real_data("text/tinyshakespeare.txt.gz");
    size_t count = 0;
    for (char *token = strtok(special, ","); token && strcmp(token, "-"); token = strtok(NULL, ","))
        list[count++] = token;
    crank_tokenizer *tokenizer = crank_tokenizer_train(context, &file, 1, size, list, count);
    if (!tokenizer) fail_msg("%s", crank_message(context));
    assert_int_equal(crank_tokenizer_size(tokenizer), tokens);
    char folder[] = "/tmp/crank-tokenizer-XXXXXX", path[64];
    assert_non_null(mkdtemp(folder));
    assert_ok(context, crank_tokenizer_save(context, tokenizer, folder));
    snprintf(path, sizeof path, "%s/tokenizer.json", folder);
    json_t *root = json_read(context, path);
    assert_non_null(root);
    hash_trained(root, &found_token_hash, &found_merge_hash, &found_tokens, &found_merges);
    json_decref(root);
    assert_ok(context, file_folder_remove(context, folder));
    crank_tokenizer_free(tokenizer);
    assert_int_equal(found_merges, merges);
    assert_true(found_merge_hash == merge_hash);
    assert_true(found_token_hash == token_hash);
}

static void training_gives_the_merges_of_the_library(void **state)
{
    (void)state;
    if (!real_data("text/tinyshakespeare.txt.gz")) skip();
    crank_context *context = crank_context_new();
    size_t length;
    char *text = golden_text(context, "trained", ".txt", &length), *cursor = text;
    for (char *line; (line = next_line(&cursor, &length));) check_row(context, line);
    crank_free(text);
    crank_context_free(context);
}

static crank_tokenizer *train_small(crank_context *context, const char *text, size_t length, int32_t size)
{
    char path[] = "/tmp/crank-text-XXXXXX";
    const char *file = path, *special[] = {"<eos>", "<pad>", "<eos>"};
    int descriptor = mkstemp(path);
    assert_int_equal(write(descriptor, text, length), length);
    close(descriptor);
    crank_tokenizer *tokenizer = crank_tokenizer_train(context, &file, 1, size, special, 3);
    unlink(path);
    return tokenizer;
}

static void trained_tokenizer_gives_every_text_back(void **state)
{
    (void)state;
    crank_context *context = crank_context_new();
    static const char text[] = "low lower lowest\nnewer newest\r\n\xff\xfe widest low low\n";
    crank_tokenizer *tokenizer = train_small(context, text, sizeof text - 1, 270);
    if (!tokenizer) fail_msg("%s", crank_message(context));
    assert_int_equal(crank_token_id(tokenizer, "<eos>"), 0);
    assert_int_equal(crank_token_id(tokenizer, "<pad>"), 1);
    mixed_text mixed = read_mixed(context);
    for (size_t i = 0; i < mixed.count; i++) {
        size_t length;
        crank_ids ids = encode(context, tokenizer, mixed.lines[i], mixed.lengths[i], 0), again;
        char *decoded = crank_decode(context, tokenizer, ids.ids, ids.count, false, &length);
        again = encode(context, tokenizer, decoded, length, 0);
        assert_int_equal(again.count, ids.count);
        assert_memory_equal(again.ids, ids.ids, ids.count * sizeof *ids.ids);
        crank_free(decoded);
        crank_ids_free(&ids);
        crank_ids_free(&again);
    }
    crank_free(mixed.text);
    crank_tokenizer_free(tokenizer);
    crank_context_free(context);
}

static void too_small_a_vocabulary_is_refused(void **state)
{
    (void)state;
    crank_context *context = crank_context_new();
    assert_null(train_small(context, "a", 1, 258));
    assert_int_equal(crank_last_status(context), CRANK_USAGE);
    assert_non_null(strstr(crank_message(context), "259"));
    crank_context_free(context);
}

static void saved_folder_loads_as_the_same_tokenizer(void **state)
{
    (void)state;
    crank_context *context = crank_context_new();
    char folder[] = "/tmp/crank-tokenizer-XXXXXX", again[] = "/tmp/crank-tokenizer-XXXXXX", path[64];
    assert_non_null(mkdtemp(folder));
    assert_non_null(mkdtemp(again));
    crank_tokenizer *first = train_small(context, "low low lower lowest", 20, 265);
    assert_ok(context, crank_tokenizer_save(context, first, folder));
    snprintf(path, sizeof path, "%s/tokenizer_config.json", folder);
    assert_ok(
        context,
        file_write_text(
            context, path,
            "{\"eos_token\": {\"content\": \"<eos>\"}, \"pad_token\": \"<pad>\",  \"chat_template\": \"{{ 1 }}\"}\n"));
    crank_tokenizer *second = crank_tokenizer_load(context, folder);
    if (!second) fail_msg("%s", crank_message(context));
    assert_int_equal(crank_tokenizer_eos(second), 0);
    assert_int_equal(crank_tokenizer_pad(second), 1);
    assert_int_equal(crank_tokenizer_bos(second), -1);
    assert_string_equal(crank_tokenizer_chat_template(second), "{{ 1 }}");
    assert_ok(context, crank_tokenizer_save(context, second, again));
    static const char *const names[] = {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"};
    for (int i = 0; i < 3; i++) { /* what was read is written byte for byte */
        char left[128], right[128];
        size_t length[2];
        snprintf(left, sizeof left, "%s/%s", folder, names[i]);
        snprintf(right, sizeof right, "%s/%s", again, names[i]);
        char *a = read_text(context, left, &length[0]), *b = read_text(context, right, &length[1]);
        assert_int_equal(length[0], length[1]);
        assert_memory_equal(a, b, length[0]);
        crank_free(a);
        crank_free(b);
    }
    assert_ok(context, file_folder_remove(context, folder));
    assert_ok(context, file_folder_remove(context, again));
    crank_tokenizer_free(first);
    crank_tokenizer_free(second);
    crank_context_free(context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(training_gives_the_merges_of_the_library),
        cmocka_unit_test(trained_tokenizer_gives_every_text_back),
        cmocka_unit_test(too_small_a_vocabulary_is_refused),
        cmocka_unit_test(saved_folder_loads_as_the_same_tokenizer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
