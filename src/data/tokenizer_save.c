/* tokenizer_save.c - a tokenizer as the files of a model folder, and vocab.txt as the tokenizer.json that it stands
 * for. */
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "data/tokenizer_parts.h"

static crank_status write_file(crank_context *context, const char *folder, const char *name, const text_string *file)
{
    char *path = file_join(context, folder, name);
    if (!path) return CRANK_FAILED;
    file_writer *writer = file_writer_open(context, path);
    crank_free(path);
    if (!writer) return crank_last_status(context);
    crank_status status = file_writer_write(context, writer, file->bytes, file->length);
    if (!status) return file_writer_commit(context, writer);
    file_writer_abort(writer);
    return status;
}

/* {"bos_token": text, ...} of the tokens that are known. */
static json_t *named_tokens(const crank_tokenizer *t)
{
    json_t *object = json_object();
    const struct {
        const char *key;
        int32_t id;
    } tokens[] = {{"bos_token", t->bos}, {"eos_token", t->eos}, {"pad_token", t->pad}};
    for (int i = 0; i < 3; i++)
        if (tokens[i].id >= 0)
            json_object_set_new(object, tokens[i].key, json_string(crank_token_text(t, tokens[i].id)));
    return object;
}

static crank_status write_made(crank_context *context, const char *folder, const char *name, json_t *object)
{
    char *path = file_join(context, folder, name);
    crank_status status = !object ? crank_fail(context, CRANK_FAILED, "out of memory: %s", name)
                          : path  ? json_write(context, path, object)
                                  : CRANK_FAILED;
    crank_free(path);
    json_decref(object);
    return status;
}

crank_status crank_tokenizer_save(crank_context *context, const crank_tokenizer *t, const char *folder)
{
    crank_status status = file_make_folder(context, folder);
    if (!status) status = write_file(context, folder, "tokenizer.json", &t->file);
    if (!status && t->template_file.bytes)
        status = write_file(context, folder, "chat_template.jinja", &t->template_file);
    if (!status && t->config_file.bytes) status = write_file(context, folder, "tokenizer_config.json", &t->config_file);
    if (!status && t->special_file.bytes)
        status = write_file(context, folder, "special_tokens_map.json", &t->special_file);
    if (!status && !t->special_file.bytes)
        status = write_made(context, folder, "special_tokens_map.json", named_tokens(t));
    if (status || t->config_file.bytes) return status;
    json_t *config = named_tokens(t);
    if (config) json_object_set_new(config, "tokenizer_class", json_string("PreTrainedTokenizerFast"));
    return write_made(context, folder, "tokenizer_config.json", config);
}

/* ---- vocab.txt: one token a line, the line's number is its id */
static json_t *read_lines(crank_context *context, const char *text, size_t length, const char *where)
{
    json_t *words = json_object();
    size_t line = 0;
    for (size_t at = 0; words && at < length; line++) {
        const char *end = memchr(text + at, '\n', length - at);
        size_t stop = end ? (size_t)(end - text) : length, next = stop + 1;
        uint32_t c;
        if (utf8_valid_length(text + at, stop - at) != stop - at || memchr(text + at, 0, stop - at)) {
            crank_fail(context, CRANK_BAD_DATA, "%s:%zu: not UTF-8 text", where, line + 1);
            json_decref(words);
            return NULL;
        }
        for (size_t size; stop > at && (size = utf8_last(text + at, stop - at, &c), unicode_is_whitespace(c));)
            stop -= size;
        char *token = crank_format(context, "%.*s", (int)(stop - at), text + at);
        bool good = token && stop - at < INT32_MAX, twice = good && json_object_get(words, token);
        if (twice) crank_fail(context, CRANK_BAD_DATA, "%s:%zu: `%.80s` stands twice", where, line + 1, token);
        if (good && !twice) json_object_set_new(words, token, json_integer((json_int_t)line));
        crank_free(token);
        if (!good || twice) {
            json_decref(words);
            return NULL;
        }
        at = next;
    }
    return words;
}

json_t *tokenizer_from_vocabulary_text(crank_context *context, const char *text, size_t length, bool lowercase,
                                       const char *where)
{
    static const char *const specials[] = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"};
    json_t *words = read_lines(context, text, length, where);
    if (!words) return NULL;
    json_int_t ids[5];
    json_t *added = json_array();
    for (int i = 0; i < 5; i++) {
        const json_t *id = json_object_get(words, specials[i]);
        if (!id && i != 0 && i != 4) {
            crank_fail(context, CRANK_BAD_DATA, "%s: has no `%s`, so it is no BERT vocabulary", where, specials[i]);
            json_decref(words);
            json_decref(added);
            return NULL;
        }
        ids[i] = json_integer_value(id);
        if (id)
            json_array_append_new(added,
                                  json_pack("{s:I,s:s,s:b,s:b,s:b,s:b,s:b}", "id", ids[i], "content", specials[i],
                                            "single_word", 0, "lstrip", 0, "rstrip", 0, "normalized", 0, "special", 1));
    }
    json_t *root = json_pack("{s:s,s:n,s:n,s:o,s:{s:s,s:b,s:b,s:n,s:b},s:{s:s}}", "version", "1.0", "truncation",
                             "padding", "added_tokens", added, "normalizer", "type", "BertNormalizer", "clean_text", 1,
                             "handle_chinese_chars", 1, "strip_accents", "lowercase", (int)lowercase, "pre_tokenizer",
                             "type", "BertPreTokenizer");
    if (root) {
        json_object_set_new(root, "post_processor",
                            json_pack("{s:s,s:[s,I],s:[s,I]}", "type", "BertProcessing", "sep", "[SEP]", ids[3], "cls",
                                      "[CLS]", ids[2]));
        json_object_set_new(root, "decoder",
                            json_pack("{s:s,s:s,s:b}", "type", "WordPiece", "prefix", "##", "cleanup", 1));
        json_object_set_new(root, "model",
                            json_pack("{s:s,s:s,s:s,s:i,s:o}", "type", "WordPiece", "unk_token", "[UNK]",
                                      "continuing_subword_prefix", "##", "max_input_chars_per_word", 100, "vocab",
                                      words));
    } else {
        json_decref(words);
        crank_fail(context, CRANK_FAILED, "out of memory: %s", where);
    }
    return root;
}
