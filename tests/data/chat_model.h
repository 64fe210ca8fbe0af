/* chat_model.h - model folders for tests: a golden tokenizer with further special tokens and a chat template. */
#ifndef CRANK_TESTS_CHAT_MODEL_H
#define CRANK_TESTS_CHAT_MODEL_H

#include "testing.h"

#include <jansson.h>

#include "base/file.h"
#include "base/json.h"
#include "crank/tokenizer.h"

static inline const char *work_folder(void)
{
    static char path[512];
    snprintf(path, sizeof path, "%s/chat_test_%d", CRANK_BINARY_DIR, (int)getpid());
    return path;
}

static inline void write_part(crank_context *context, const char *name, const char *text)
{
    char *path = file_join(context, work_folder(), name);
    assert_ok(context, file_write_text(context, path, text));
    crank_free(path);
}

/* A golden tokenizer with further special tokens {text: id} and a template, as a model folder. */
static inline crank_tokenizer *make_model(crank_context *context, const char *base, const json_t *specials, const char *tmpl)
{
    char        path[256];
    const char *text;
    json_t     *id;
    snprintf(path, sizeof path, "tokenizers/%s.json", base);
    json_t *root = json_read(context, golden(path)), *added = json_object_get(root, "added_tokens");
    if (!root) fail_msg("%s", crank_message(context));
    json_object_foreach((json_t *)specials, text, id)
    {
        size_t  i;
        json_t *known;
        bool    there = false;
        json_array_foreach(added, i, known) there |= !strcmp(json_string_value(json_object_get(known, "content")), text);
        if (there) continue;
        json_array_append_new(added, json_pack("{s:O,s:s,s:b,s:b,s:b,s:b,s:b}", "id", id, "content", text, "single_word", 0, "lstrip", 0,
                                               "rstrip", 0, "normalized", 0, "special", 1));
    }
    char *json = json_dumps(root, 0);
    assert_ok(context, file_make_folder(context, work_folder()));
    write_part(context, "tokenizer.json", json);
    write_part(context, "chat_template.jinja", tmpl);
    write_part(context, "tokenizer_config.json", "{\"bos_token\": \"<s>\", \"eos_token\": {\"content\": \"</s>\"}, \"add_bos_token\": true}");
    free(json);
    json_decref(root);
    crank_tokenizer *tokenizer = crank_tokenizer_load(context, work_folder());
    if (!tokenizer) fail_msg("%s", crank_message(context));
    assert_ok(context, file_folder_remove(context, work_folder()));
    return tokenizer;
}

static inline char *template_text(crank_context *context, const char *name)
{
    char path[256];
    snprintf(path, sizeof path, "jinja/templates/%s.jinja", name);
    char *text = file_read(context, golden(path), NULL);
    if (!text) fail_msg("%s", crank_message(context));
    return text;
}
#endif
