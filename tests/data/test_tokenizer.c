/* Tokenizers give the ids, offsets and texts of the `tokenizers` library. */
#include "tokenizer_golden.h"

/* A line of KIND.ids against what we say about the text. */
static void check_line(crank_context *context, const crank_tokenizer *tokenizer, const char *kind, size_t row,
                       char *line, const char *text, size_t length)
{
    char *cursor = line, *bar = strchr(line, '|');
    crank_ids ids = encode(context, tokenizer, text, length, CRANK_ENCODE_SPECIAL | CRANK_ENCODE_OFFSETS);
    for (size_t i = 0; i < ids.count; i++) {
        long wanted = cursor < bar ? strtol(cursor, &cursor, 10) : -1;
        if (ids.ids[i] != wanted)
            fail_msg("%s, line %zu, token %zu: id %d, not %ld", kind, row + 1, i, ids.ids[i], wanted);
    }
    while (*cursor == ' ') cursor++;
    if (cursor != bar) fail_msg("%s, line %zu: fewer ids than the library gives", kind, row + 1);
    uint64_t wanted[3], found[3];
    assert_int_equal(sscanf(bar + 1, "%lx %lx %lx", &wanted[0], &wanted[1], &wanted[2]), 3);
    found[0] = fnv(ids.offsets, 2 * ids.count * sizeof *ids.offsets, FNV_START);
    for (int skip = 0; skip < 2; skip++) {
        size_t size;
        char *decoded = crank_decode(context, tokenizer, ids.ids, ids.count, skip, &size);
        if (!decoded) fail_msg("%s", crank_message(context));
        found[1 + skip] = fnv(decoded, size, FNV_START);
        crank_free(decoded);
    }
    static const char *const what[] = {"offsets", "decoded text", "decoded text without special tokens"};
    for (int i = 0; i < 3; i++)
        if (found[i] != wanted[i]) fail_msg("%s, line %zu: other %s than the library's", kind, row + 1, what[i]);
    crank_ids_free(&ids);
}

static void every_kind_agrees_on_mixed_text(void **state)
{
    (void)state;
    crank_context *context = crank_context_new();
    mixed_text mixed = read_mixed(context);
    for (size_t k = 0; k < KIND_COUNT; k++) {
        size_t length, row = 0;
        crank_tokenizer *tokenizer = golden_tokenizer(context, tokenizer_kinds[k]);
        char *text = golden_text(context, tokenizer_kinds[k], ".ids", &length), *cursor = text;
        for (char *line; (line = next_line(&cursor, &length)); row++)
            check_line(context, tokenizer, tokenizer_kinds[k], row, line, mixed.lines[row], mixed.lengths[row]);
        assert_int_equal(row, mixed.count);
        crank_free(text);
        crank_tokenizer_free(tokenizer);
    }
    crank_free(mixed.text);
    crank_context_free(context);
}

/* Chains of hashes of ids: without special tokens; special tokens of the text read as plain text; pairs. */
static void every_kind_agrees_on_bare_plain_and_pair_encoding(void **state)
{
    (void)state;
    crank_context *context = crank_context_new();
    mixed_text mixed = read_mixed(context);
    size_t length;
    char *text = golden_text(context, "variants", ".txt", &length), *cursor = text;
    for (char *line; (line = next_line(&cursor, &length));) {
        static const char *const what[] = {"bare", "plain", "pair"};
        static const unsigned flags[] = {0, CRANK_ENCODE_SPECIAL | CRANK_ENCODE_PLAIN, CRANK_ENCODE_SPECIAL};
        char kind[64];
        uint64_t wanted[3];
        assert_int_equal(sscanf(line, "%63s %lx %lx %lx", kind, &wanted[0], &wanted[1], &wanted[2]), 4);
        crank_tokenizer *tokenizer = golden_tokenizer(context, kind);
        for (int v = 0; v < 3; v++) {
            uint64_t hash = FNV_START;
            for (size_t i = 0; i < mixed.count; i++) {
                size_t next = (i + 1) % mixed.count;
                crank_ids ids;
                assert_ok(context,
                          crank_encode(context, tokenizer, mixed.lines[i], mixed.lengths[i],
                                       v == 2 ? mixed.lines[next] : NULL, mixed.lengths[next], flags[v], &ids));
                hash = fnv(ids.ids, ids.count * sizeof *ids.ids, hash);
                crank_ids_free(&ids);
            }
            if (hash != wanted[v]) fail_msg("%s: other %s ids than the library's", kind, what[v]);
        }
        crank_tokenizer_free(tokenizer);
    }
    crank_free(text);
    crank_free(mixed.text);
    crank_context_free(context);
}

static void asking_for_offsets_never_changes_ids(void **state)
{
    (void)state;
    crank_context *context = crank_context_new();
    mixed_text mixed = read_mixed(context);
    for (size_t k = 0; k < KIND_COUNT; k++) {
        crank_tokenizer *tokenizer = golden_tokenizer(context, tokenizer_kinds[k]);
        for (size_t i = 0; i < mixed.count; i++) {
            crank_ids with = encode(context, tokenizer, mixed.lines[i], mixed.lengths[i], CRANK_ENCODE_OFFSETS);
            crank_ids without = encode(context, tokenizer, mixed.lines[i], mixed.lengths[i], 0);
            assert_int_equal(with.count, without.count);
            assert_memory_equal(with.ids, without.ids, with.count * sizeof *with.ids);
            crank_ids_free(&with);
            crank_ids_free(&without);
        }
        crank_tokenizer_free(tokenizer);
    }
    crank_free(mixed.text);
    crank_context_free(context);
}

/* The tokenizer that a row of real.txt names: of the real data, of the golden files, or of the oracle's cache folder.
 */
static crank_tokenizer *named_tokenizer(crank_context *context, const char *name)
{
    char path[256], cached[1024];
    const char *cache = getenv("CRANK_ORACLE_CACHE"), *found = NULL;
    snprintf(path, sizeof path, "tokenizers/%s", strchr(name, '/') ? strchr(name, '/') + 1 : name);
    if (!strncmp(name, "golden/", 7)) {
        found = golden(path);
    } else if (strncmp(name, "cache/", 6)) {
        found = real_data(path);
    } else if (cache) {
        snprintf(cached, sizeof cached, "%s/%s", cache, name + 6);
        found = cached;
    }
    if (!found || access(found, R_OK)) return NULL;
    crank_tokenizer *tokenizer = crank_tokenizer_load(context, found);
    if (!tokenizer) fail_msg("%s", crank_message(context));
    return tokenizer;
}

static void check_set(crank_context *context, const crank_tokenizer *tokenizer, const char *name, const char *set,
                      size_t lines, char *hashes)
{
    char path[256];
    size_t length;
    snprintf(path, sizeof path, "text/%s", set);
    char *text = read_text(context, real_data(path), &length), *at = text;
    uint64_t hash = FNV_START;
    for (size_t i = 0; i < lines; i++) {
        char *end = memchr(at, '\n', length - (size_t)(at - text));
        if (!end) end = text + length;
        crank_ids ids = encode(context, tokenizer, at, (size_t)(end - at), CRANK_ENCODE_SPECIAL);
        hash = fnv(ids.ids, ids.count * sizeof *ids.ids, hash);
        crank_ids_free(&ids);
        at = end + (end < text + length);
        if (i % 100 != 99 && i != lines - 1) continue;
        if (strtoull(hashes, &hashes, 16) != hash)
            fail_msg("%s, %s: other ids than the library's in the 100 lines up to %zu", name, set, i + 1);
    }
    crank_free(text);
}

static void every_kind_agrees_on_real_text(void **state)
{
    (void)state;
    if (!real_data("text")) skip();
    crank_context *context = crank_context_new();
    crank_tokenizer *tokenizer = NULL;
    char held[128] = "", name[128], set[128];
    size_t length, lines, checked = 0;
    char *text = golden_text(context, "real", ".txt", &length), *cursor = text;
    for (char *line; (line = next_line(&cursor, &length));) {
        int used;
        line[length] = 0;
        assert_int_equal(sscanf(line, "%127s %127s %zu%n", name, set, &lines, &used), 3);
        if (strcmp(name, held)) {
            crank_tokenizer_free(tokenizer);
            tokenizer = named_tokenizer(context, name);
            strcpy(held, name);
        }
        if (!tokenizer) continue;
        check_set(context, tokenizer, name, set, lines, line + used);
        checked += lines;
    }
    assert_true(checked >= 20000);
    crank_tokenizer_free(tokenizer);
    crank_free(text);
    crank_context_free(context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_agrees_on_mixed_text),
        cmocka_unit_test(every_kind_agrees_on_bare_plain_and_pair_encoding),
        cmocka_unit_test(asking_for_offsets_never_changes_ids),
        cmocka_unit_test(every_kind_agrees_on_real_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
