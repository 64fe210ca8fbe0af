/* Rows cut to a length as the `tokenizers` library cuts them (tests/oracle/encoders.py), prompts whose text gives way, and ids of files. */
#include "testing.h"

#include "base/file.h"
#include "base/json.h"
#include "data/id_rows.h"

static crank_tokenizer *load(crank_context *context, const char *folder)
{
    crank_tokenizer *tokenizer = crank_tokenizer_load(context, golden(folder));
    if (!tokenizer) fail_msg("%s", crank_message(context));
    return tokenizer;
}

static raw_rows one_pair(raw_row *row, const char *text, const char *pair)
{
    static char *files[] = {(char *)(uintptr_t)"rows"};
    *row = (raw_row){.text = (char *)(uintptr_t)text, .second = (char *)(uintptr_t)pair, .line = 1};
    return (raw_rows){.rows = row, .count = 1, .files = files, .file_count = 1};
}

static void assert_row(const id_rows *made, const json_t *ids, const json_t *types, int number)
{
    assert_int_equal(made->count, 1);
    if (made->starts[1] != (int64_t)json_array_size(ids)) fail_msg("case %d has %d tokens, wanted %d", number, (int)made->starts[1], (int)json_array_size(ids));
    for (size_t i = 0; i < json_array_size(ids); i++) {
        if (made->ids[i] != json_integer_value(json_array_get(ids, i))) fail_msg("case %d, token %d", number, (int)i);
        if (types && made->second[i] != json_integer_value(json_array_get(types, i))) fail_msg("case %d, type of token %d", number, (int)i);
    }
}

static void rows_are_cut_as_tokenizers_cuts_them(void **state)
{
    (void)state;
    crank_context   *context = crank_context_new();
    crank_tokenizer *tokenizer = load(context, "encoders/cross");
    json_t          *cases = json_read(context, golden("encoders/cut.json"));
    assert_true(json_array_size(cases) > 20);
    for (size_t i = 0; i < json_array_size(cases); i++) {
        const json_t  *one = json_array_get(cases, i);
        id_rows_format format = {.limit = json_integer_value(json_object_get(one, "limit"))};
        const char    *text = json_string_value(json_object_get(one, "text"));
        id_rows        made;
        raw_row        row;
        raw_rows       rows = one_pair(&row, text, json_string_value(json_object_get(one, "pair")));
        assert_ok(context, id_rows_make(context, tokenizer, &rows, 0, 1, &format, &made));
        assert_row(&made, json_object_get(one, "ids"), json_object_get(one, "types"), (int)i);
        id_rows_free(&made);
        rows = one_pair(&row, text, NULL);
        assert_ok(context, id_rows_make(context, tokenizer, &rows, 0, 1, &format, &made));
        assert_row(&made, json_object_get(one, "single"), NULL, (int)i);
        id_rows_free(&made);
    }
    json_decref(cases);
    crank_tokenizer_free(tokenizer);
    crank_context_free(context);
}

static void the_pair_gives_way_in_a_prompt(void **state)
{
    (void)state;
    crank_context   *context = crank_context_new();
    crank_tokenizer *tokenizer = load(context, "encoders/decoder");
    const char      *pair = "The quick brown fox \xC3\xA9\xC3\xA9\xC3\xA9 jumps over the lazy dog, and the dog was lazy and said nothing at all, said the wind.";
    raw_row          row;
    raw_rows         rows = one_pair(&row, "dog", pair);
    for (int64_t limit = 200; limit >= 16; limit -= 7) {
        id_rows_format format = {.form = "Q: {text} D: {pair} R:", .limit = limit};
        id_rows        made;
        assert_ok(context, id_rows_make(context, tokenizer, &rows, 0, 1, &format, &made));
        assert_true(made.starts[1] <= limit && made.starts[1] + 12 > (limit < 60 ? limit : 0));
        char  *text = crank_decode(context, tokenizer, made.ids, (size_t)made.starts[1], true, NULL);
        size_t length = strlen(text);
        assert_true(!strncmp(text, "Q: dog D: ", 10) && !strcmp(text + length - 3, " R:"));
        assert_true(length - 13 <= strlen(pair) && !strncmp(text + 10, pair, length - 13) && made.cut == (length - 13 < strlen(pair)));
        crank_free(text);
        id_rows_free(&made);
    }
    id_rows_format narrow = {.form = "Q: {text} D: {pair} R:", .limit = 4};
    id_rows        made;
    assert_int_equal(id_rows_make(context, tokenizer, &rows, 0, 1, &narrow, &made), CRANK_BAD_DATA);
    assert_non_null(strstr(crank_message(context), "rows:1"));
    crank_tokenizer_free(tokenizer);
    crank_context_free(context);
}

static void an_empty_text_is_the_token_that_begins_one(void **state)
{
    (void)state;
    crank_context   *context = crank_context_new();
    crank_tokenizer *tokenizer = crank_tokenizer_load(context, CRANK_SOURCE_DIR "/assets/base");
    if (!tokenizer) fail_msg("%s", crank_message(context));
    int32_t        first = crank_tokenizer_bos(tokenizer) >= 0 ? crank_tokenizer_bos(tokenizer) : crank_tokenizer_eos(tokenizer);
    raw_row        row;
    raw_rows       rows = one_pair(&row, "", NULL);
    id_rows_format format = {.limit = 10};
    id_rows        made;
    assert_ok(context, id_rows_make(context, tokenizer, &rows, 0, 1, &format, &made));
    assert_true(made.starts[1] == 1 && made.ids[0] == first);
    id_rows_free(&made);
    crank_tokenizer_free(tokenizer);
    crank_context_free(context);
}

static void bad_id_files_are_told(void **state)
{
    (void)state;
    static const char *const texts[] = {"{}", "[]", "[[]]", "[[1, \"2\"]]", "[[1], 2]", "[[-1]]", "[[10]]", "[[1,2,3,4,5]]", "[1.5]", "[[1]"};
    crank_context           *context = crank_context_new();
    id_rows                  rows;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        assert_ok(context, file_write_text(context, "id-rows-test.json", texts[i]));
        assert_int_equal(id_rows_read(context, "id-rows-test.json", 10, 4, &rows), CRANK_BAD_DATA);
        assert_true(!rows.ids && !rows.starts);
    }
    assert_ok(context, file_write_text(context, "id-rows-test.json", "[[9, 0], [3, 3, 3, 3]]"));
    assert_ok(context, id_rows_read(context, "id-rows-test.json", 10, 4, &rows));
    assert_true(rows.count == 2 && rows.starts[1] == 2 && rows.starts[2] == 6 && rows.ids[0] == 9);
    id_rows_free(&rows);
    unlink("id-rows-test.json");
    crank_context_free(context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_are_cut_as_tokenizers_cuts_them),
        cmocka_unit_test(the_pair_gives_way_in_a_prompt),
        cmocka_unit_test(an_empty_text_is_the_token_that_begins_one),
        cmocka_unit_test(bad_id_files_are_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
