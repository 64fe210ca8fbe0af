/* Multiple choice by likelihood with the bundled model, and rows that are refused. */
#include "testing.h"

#include "base/file.h"
#include "task/choices.h"
#include "test_device.h"

static const char path[] = "choices-test.jsonl";

static crank_status judge(const char *rows, choices_result *result, char *message, size_t size)
{
    crank_context      *context = crank_context_new();
    crank_device       *device = test_device(context, NULL);
    crank_model_options options = {.compute = CRANK_F32, .weights = CRANK_F32};
    crank_model        *model = crank_model_load(context, device, CRANK_SOURCE_DIR "/assets/base", &options);
    if (!model) fail_msg("%s", crank_message(context));
    crank_tokenizer *tokenizer = crank_tokenizer_load(context, CRANK_SOURCE_DIR "/assets/base");
    if (!tokenizer) fail_msg("%s", crank_message(context));
    assert_ok(context, file_write_text(context, path, rows));
    crank_status status = choices_evaluate(context, model, tokenizer, path, result);
    snprintf(message, size, "%s", crank_message(context));
    unlink(path);
    crank_tokenizer_free(tokenizer);
    crank_model_free(model);
    device->close(device);
    crank_context_free(context);
    return status;
}

static void likely_choices_win(void **state)
{
    (void)state;
    choices_result result;
    char           message[1024];
    const char    *rows = "{\"prompt\": \"Question: Tom has 3 apples and buys 4 more. How many apples does he have?\\nAnswer: Tom has\", "
                          "\"choices\": [\" purple Rosaline shire\", \" 3 + 4 = 7 apples.\"], \"answer\": 1}\n"
                          "{\"prompt\": \"KING RICHARD III:\\nMy\", \"choices\": [\" lord, I\", \" Alimentum | area\", \"zzqj xx\"], \"answer\": 0}\n"
                          "{\"prompt\": \"name : Alimentum | area : city\", \"choices\": [\" centre\", \" of the clips sold\"], \"answer\": 0}\n";
    assert_int_equal(judge(rows, &result, message, sizeof message), CRANK_OK);
    assert_int_equal(result.rows, 3);
    assert_int_equal(result.right_per_token, 3);
}

static void broken_rows_are_told_by_line(void **state)
{
    (void)state;
    static const char *const rows[] = {
        "{\"prompt\": \"a\", \"choices\": [\"b\", \"c\"], \"answer\": 2}\n", "{\"prompt\": \"a\", \"choices\": [\"b\"], \"answer\": 0}\n",
        "{\"prompt\": \"a\", \"choices\": [\"b\", 7], \"answer\": 0}\n",      "{\"choices\": [\"b\", \"c\"], \"answer\": 0}\n",
        "{\"prompt\": \"a\", \"choices\": [\"b\", \"\"], \"answer\": 0}\n",   "[1]\n",
        "{\"prompt\": \"a\", \"choices\": [\"b\", \"c\"]}\n",                  "\n",
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        choices_result result;
        char           message[1024];
        assert_int_equal(judge(rows[i], &result, message, sizeof message), CRANK_BAD_DATA);
        assert_non_null(strstr(message, path));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(likely_choices_win), cmocka_unit_test(broken_rows_are_told_by_line)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
