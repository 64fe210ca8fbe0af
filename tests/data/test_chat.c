/* Conversations give transformers' text, ids and assistant masks; turns are found without {% generation %}; what cannot be
 * found is refused. */
#include "chat_model.h"

#include "data/chat.h"

/* Runs of trained tokens, decoded, against the texts in `wanted`. */
static void check_runs(crank_context *context, const crank_tokenizer *tokenizer, const crank_ids *ids, const uint8_t *mask, const json_t *wanted,
                       const char *name)
{
    size_t run = 0;
    for (size_t i = 0; i < ids->count;) {
        size_t end = i + 1;
        while (end < ids->count && mask[end] == mask[i]) end++;
        if (mask[i]) {
            char       *text = crank_decode(context, tokenizer, ids->ids + i, end - i, false, NULL);
            const char *expected = json_string_value(json_array_get(wanted, run++));
            if (!expected || strcmp(text, expected)) fail_msg("%s: run %zu is '%s', not '%s'", name, run, text, expected ? expected : "(none)");
            crank_free(text);
        }
        i = end;
    }
    if (run != json_array_size(wanted)) fail_msg("%s: %zu runs of trained tokens, not %zu", name, run, json_array_size(wanted));
}

static void check_conversation(const json_t *entry)
{
    const char      *name = json_string_value(json_object_get(entry, "name"));
    crank_context   *context = crank_context_new();
    char            *tmpl = template_text(context, json_string_value(json_object_get(entry, "template")));
    crank_tokenizer *tokenizer = make_model(context, json_string_value(json_object_get(entry, "tokenizer")), json_object_get(entry, "specials"), tmpl);
    char            *messages = json_dumps(json_object_get(entry, "messages"), 0);
    crank_ids        ids;
    uint8_t         *mask;
    for (int prompt = 0; prompt < 2; prompt++) {
        char       *text = crank_chat_render(context, tokenizer, messages, NULL, prompt);
        const char *wanted = json_string_value(json_object_get(entry, prompt ? "prompt" : "text"));
        if (!text || strcmp(text, wanted)) fail_msg("%s: '%s', not '%s'", name, text ? text : crank_message(context), wanted);
        crank_free(text);
    }
    if (crank_chat_encode(context, tokenizer, messages, NULL, &ids, &mask) != CRANK_OK) fail_msg("%s: %s", name, crank_message(context));
    const json_t *wanted = json_object_get(entry, "ids"), *wanted_mask = json_object_get(entry, "mask");
    if (ids.count != json_array_size(wanted)) fail_msg("%s: %zu ids, not %zu", name, ids.count, json_array_size(wanted));
    for (size_t i = 0; i < ids.count; i++) {
        assert_int_equal(ids.ids[i], json_integer_value(json_array_get(wanted, i)));
        if (json_is_array(wanted_mask) && mask[i] != json_integer_value(json_array_get(wanted_mask, i))) fail_msg("%s: mask of token %zu", name, i);
    }
    if (json_is_array(json_object_get(entry, "trained"))) check_runs(context, tokenizer, &ids, mask, json_object_get(entry, "trained"), name);
    crank_ids_free(&ids);
    crank_free(mask);
    free(messages);
    crank_free(tmpl);
    crank_tokenizer_free(tokenizer);
    crank_context_free(context);
}

static void conversations_agree_with_transformers(void **state)
{
    (void)state;
    json_error_t error;
    json_t      *cases = json_load_file(golden("jinja/chat.json"), 0, &error), *entry;
    size_t       i;
    assert_true(json_array_size(cases) > 10);
    json_array_foreach(cases, i, entry) check_conversation(entry);
    json_decref(cases);
}

/* Encodes with a template given as text; the status, and the message in *told (static). */
static crank_status encode_with(const char *tmpl, const char *messages, const char *extra, const char **told)
{
    static char      message[512];
    crank_context   *context = crank_context_new();
    json_t          *specials = json_pack("{s:i}", "</s>", 904);
    crank_tokenizer *tokenizer = make_model(context, "qwen2", specials, tmpl);
    crank_ids        ids;
    uint8_t         *mask;
    crank_status     status = crank_chat_encode(context, tokenizer, messages, extra, &ids, &mask);
    snprintf(message, sizeof message, "%s", crank_message(context));
    *told = message;
    if (status == CRANK_OK) crank_ids_free(&ids), crank_free(mask);
    else assert_null(mask);
    json_decref(specials);
    crank_tokenizer_free(tokenizer);
    crank_context_free(context);
    return status;
}

static const char two_turns[] = "[{\"role\": \"user\", \"content\": \"a\"}, {\"role\": \"assistant\", \"content\": \"b\"}, {\"role\": \"user\", \"content\": \"c\"}]";

static void bad_conversations_are_refused(void **state)
{
    (void)state;
    static const char plain[] = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}";
    static const struct {
        const char *tmpl, *messages, *extra, *part;
    } cases[] = {
        {plain, "[]", NULL, "at least one message"},
        {plain, "{}", NULL, "list"},
        {plain, "5", NULL, "list"},
        {plain, "[1]", NULL, "message 1"},
        {plain, "[{\"role\": \"user\"}, \"x\"]", NULL, "message 2"},
        {plain, "[{", NULL, "messages:"},
        {plain, two_turns, "[1]", "JSON object"},
        {plain, two_turns, "{", "template variables"},
        {"{{ messages[0].x.y }}", two_turns, NULL, "chat template:1"},
        {"a\n{% nope %}", two_turns, NULL, "chat template:2: unknown tag 'nope'"},
        {"{{ raise_exception('roles must alternate') }}", two_turns, NULL, "roles must alternate"},
        /* the order is turned around; the content is not written, or written twice */
        {"{% for m in messages|reverse %}{{ m.role }}: {{ m.content }}|{% endfor %}", two_turns, NULL, "message 2"},
        {"{{ messages|length }}", two_turns, NULL, "message 2"},
        {"{{ messages|length }}{% for m in messages %}{{ m.content }}{{ m.content }}{% endfor %}", two_turns, NULL, "message 2"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char  *told;
        crank_status status = encode_with(cases[i].tmpl, cases[i].messages, cases[i].extra, &told);
        if (status != CRANK_BAD_DATA || !strstr(told, cases[i].part)) fail_msg("case %zu: status %d, '%s'", i, status, told);
    }
}

static void variables_of_the_caller_win(void **state)
{
    (void)state;
    crank_context   *context = crank_context_new();
    json_t          *specials = json_object();
    crank_tokenizer *tokenizer = make_model(context, "qwen2", specials, "{{ bos_token }}{{ eos_token }}{{ tools }}{{ documents }}{{ date }}{{ add_generation_prompt }}{{ add_bos_token is defined }}");
    char *text = crank_chat_render(context, tokenizer, "[{\"role\": \"user\", \"content\": \"a\"}]", "{\"date\": \"today\", \"eos_token\": \"E\", \"tools\": [1]}", true);
    assert_string_equal(text, "<s>E[1]NonetodayTrueFalse");
    crank_free(text);
    json_decref(specials);
    crank_tokenizer_free(tokenizer);
    crank_context_free(context);
}

static void a_tokenizer_without_template_is_told(void **state)
{
    (void)state;
    crank_context   *context = crank_context_new();
    crank_tokenizer *tokenizer = crank_tokenizer_load(context, golden("tokenizers/qwen2.json"));
    assert_null(crank_chat_render(context, tokenizer, two_turns, NULL, false));
    assert_non_null(strstr(crank_message(context), "no chat template"));
    crank_tokenizer_free(tokenizer);
    crank_context_free(context);
}

/* The prompt's own assistant turns are not trained, with {% generation %} and without. */
static void turns_before_the_completion_are_not_trained(void **state)
{
    (void)state;
    static const char *const names[] = {"chatml", "chatml_generation"};
    for (size_t i = 0; i < 2; i++) {
        crank_context   *context = crank_context_new();
        json_t          *specials = json_object(), *wanted = json_pack("[s]", "second<|im_end|>");
        char            *tmpl = template_text(context, names[i]);
        crank_tokenizer *tokenizer = make_model(context, "qwen2", specials, tmpl);
        chat_template   *chat = chat_template_new(context, tokenizer);
        json_t          *messages = json_pack("[{s:s,s:s},{s:s,s:s},{s:s,s:s},{s:s,s:s}]", "role", "user", "content", "a", "role", "assistant", "content",
                                              "first", "role", "user", "content", "b", "role", "assistant", "content", "second");
        crank_ids        ids;
        uint8_t         *mask;
        assert_ok(context, chat_encode(context, chat, messages, NULL, 3, &ids, &mask));
        check_runs(context, tokenizer, &ids, mask, wanted, names[i]);
        crank_ids_free(&ids);
        crank_free(mask);
        json_decref(messages);
        json_decref(wanted);
        json_decref(specials);
        chat_template_free(chat);
        crank_tokenizer_free(tokenizer);
        crank_free(tmpl);
        crank_context_free(context);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(conversations_agree_with_transformers),
        cmocka_unit_test(bad_conversations_are_refused),
        cmocka_unit_test(variables_of_the_caller_win),
        cmocka_unit_test(a_tokenizer_without_template_is_told),
        cmocka_unit_test(turns_before_the_completion_are_not_trained),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
