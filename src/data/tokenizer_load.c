/* tokenizer_load.c - a tokenizer from tokenizer.json or vocab.txt, with tokenizer_config.json and its like beside it.
 */
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "data/tokenizer_parts.h"

void crank_tokenizer_free(crank_tokenizer *t)
{
    if (!t) return;
    for (size_t i = 0; i < t->normalizer_count; i++) normalizer_clear(&t->normalizers[i]);
    for (size_t i = 0; i < t->pretokenizer_count; i++) pretokenizer_clear(&t->pretokenizers[i]);
    for (size_t i = 0; i < t->postprocessor_count; i++) postprocessor_clear(&t->postprocessors[i]);
    for (size_t i = 0; i < t->decoder_count; i++) decoder_clear(&t->decoders[i]);
    for (size_t i = 0; i < t->added_count; i++) {
        text_string_clear(&t->added[i].content);
        text_string_clear(&t->added[i].normalized_content);
    }
    crank_free(t->normalizers);
    crank_free(t->pretokenizers);
    crank_free(t->postprocessors);
    crank_free(t->decoders);
    crank_free(t->added);
    trie_clear(&t->added_trie);
    trie_clear(&t->added_normalized_trie);
    bpe_free(t->model.bpe);
    wordpiece_free(t->model.wordpiece);
    unigram_free(t->model.unigram);
    vocabulary_clear(&t->words);
    crank_free(t->chat_template);
    text_string_clear(&t->file);
    text_string_clear(&t->config_file);
    text_string_clear(&t->special_file);
    text_string_clear(&t->template_file);
    crank_free(t);
}

/* Files without a type are old: BPE has merges, WordPiece a prefix, Unigram a list of tokens. */
static const char *model_type_of(const json_t *object)
{
    const json_t *type = json_object_get(object, "type");
    if (json_is_string(type)) return json_string_value(type);
    if (json_object_get(object, "merges")) return "BPE";
    if (json_is_array(json_object_get(object, "vocab"))) return "Unigram";
    return json_object_get(object, "continuing_subword_prefix") ? "WordPiece" : "WordLevel";
}

static crank_status load_model(crank_context *context, crank_tokenizer *t, const json_t *object)
{
    if (!json_is_object(object)) return crank_fail(context, CRANK_BAD_DATA, "has no `model`");
    const char *type = model_type_of(object);
    crank_status status;
    if (!strcmp(type, "BPE")) {
        t->model.type = MODEL_BPE;
        status = bpe_load(context, t, object);
    } else if (!strcmp(type, "WordPiece") || !strcmp(type, "WordLevel")) {
        t->model.type = strcmp(type, "WordPiece") ? MODEL_WORDLEVEL : MODEL_WORDPIECE;
        status = wordpiece_load(context, t, object, t->model.type == MODEL_WORDLEVEL);
    } else if (!strcmp(type, "Unigram")) {
        t->model.type = MODEL_UNIGRAM;
        status = unigram_load(context, t, object);
    } else {
        return crank_fail(context, CRANK_BAD_DATA, "model %.80s: this type of model is not known", type);
    }
    return status ? crank_fail_in(context, "model %s", type) : CRANK_OK;
}

/* Metaspace's scheme "first" asks where in the source a piece began: spans are kept where a change may come before it.
 */
static bool needs_spans(const crank_tokenizer *t)
{
    bool changed = t->normalizer_count > 0;
    for (size_t i = 0; i < t->pretokenizer_count; i++) {
        const pretokenizer *p = &t->pretokenizers[i];
        if (p->type == PRETOKENIZER_METASPACE && p->scheme == PREPEND_FIRST && changed) return true;
        if (p->type == PRETOKENIZER_BYTE_LEVEL || p->type == PRETOKENIZER_METASPACE) changed = true;
    }
    return false;
}

/* Short cuts that leave the ids as they are. */
static crank_status prepare(crank_context *context, crank_tokenizer *t)
{
    crank_status status = CRANK_OK;
    t->needs_spans = needs_spans(t);
    t->size = t->words.size;
    if (t->added_count && t->added[t->added_count - 1].id >= t->size) t->size = t->added[t->added_count - 1].id + 1;
    if (t->model.type != MODEL_BPE) return CRANK_OK;
    pretokenizer *last = t->pretokenizer_count ? &t->pretokenizers[t->pretokenizer_count - 1] : NULL;
    if (last && last->type == PRETOKENIZER_BYTE_LEVEL) status = bpe_read_bytes(context, t, &last->deferred);
    return status ? status : bpe_find_whole_words(context, t);
}

static crank_status load_parts(crank_context *context, crank_tokenizer *t, const json_t *root)
{
    if (!json_is_object(root)) return crank_fail(context, CRANK_BAD_DATA, "is not a JSON object");
    const json_t *version = json_object_get(root, "version");
    if (version && (!json_is_string(version) || strcmp(json_string_value(version), "1.0")))
        return crank_fail(context, CRANK_BAD_DATA, "`version` must be \"1.0\"");
    crank_status status = load_model(context, t, json_object_get(root, "model"));
    if (!status) status = normalizers_load(context, t, json_object_get(root, "normalizer"));
    if (!status) status = pretokenizers_load(context, t, json_object_get(root, "pre_tokenizer"));
    if (!status) status = postprocessors_load(context, t, json_object_get(root, "post_processor"));
    if (!status) status = decoders_load(context, t, json_object_get(root, "decoder"));
    if (!status) status = added_load(context, t, json_object_get(root, "added_tokens"));
    return status ? status : prepare(context, t);
}

static bool copy_text(crank_context *context, const char *text, size_t length, text_string *out)
{
    out->bytes = crank_alloc(context, length + 1, 1, "a file's text");
    if (!out->bytes) return false;
    memcpy(out->bytes, text, length);
    out->length = length;
    return true;
}

crank_tokenizer *tokenizer_parse(crank_context *context, const char *text, size_t length, const char *where)
{
    json_t *root = json_parse(context, text, length, where);
    crank_tokenizer *t = root ? crank_alloc(context, 1, sizeof *t, "a tokenizer") : NULL;
    bool good = t && copy_text(context, text, length, &t->file);
    if (t) t->bos = t->eos = t->pad = -1;
    if (good && load_parts(context, t, root)) {
        crank_fail_in(context, "%s", where);
        good = false;
    }
    json_decref(root);
    if (good) return t;
    crank_tokenizer_free(t);
    return NULL;
}

/* ---- files beside the tokenizer */
/* A token is named by its text or by an object with `content`. -1 where there is none, or no such token. */
static int32_t named_token(const crank_tokenizer *t, const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    if (json_is_object(value)) value = json_object_get(value, "content");
    return json_is_string(value) ? crank_token_id(t, json_string_value(value)) : -1;
}

static void take_named_tokens(crank_tokenizer *t, const json_t *object)
{
    if (t->bos < 0) t->bos = named_token(t, object, "bos_token");
    if (t->eos < 0) t->eos = named_token(t, object, "eos_token");
    if (t->pad < 0) t->pad = named_token(t, object, "pad_token");
}

/* A string, or a list of {name, template} of which "default" is taken. */
static crank_status take_template(crank_context *context, crank_tokenizer *t, const json_t *value)
{
    for (size_t i = 0; i < json_array_size(value); i++) {
        const json_t *name = json_object_get(json_array_get(value, i), "name");
        if (!json_is_string(name) || strcmp(json_string_value(name), "default")) continue;
        value = json_object_get(json_array_get(value, i), "template");
        break;
    }
    if (t->chat_template || !json_is_string(value)) return CRANK_OK;
    t->chat_template = crank_strdup(context, json_string_value(value));
    return t->chat_template ? CRANK_OK : CRANK_FAILED;
}

/* The text of folder/name into `out`; nothing where the file does not exist. */
static crank_status read_companion(crank_context *context, const char *folder, const char *name, text_string *out)
{
    char *path = file_join(context, folder, name);
    if (!path) return CRANK_FAILED;
    if (file_exists(path)) out->bytes = file_read(context, path, &out->length);
    bool failed = file_exists(path) && !out->bytes;
    crank_free(path);
    return failed ? crank_last_status(context) : CRANK_OK;
}

static crank_status take_json(crank_context *context, crank_tokenizer *t, const text_string *file, const char *name)
{
    if (!file->bytes) return CRANK_OK;
    json_t *root = json_parse(context, file->bytes, file->length, name);
    if (!root) return crank_last_status(context);
    take_named_tokens(t, root);
    crank_status status = take_template(context, t, json_object_get(root, "chat_template"));
    json_decref(root);
    return status;
}

crank_status tokenizer_load_companions(crank_context *context, crank_tokenizer *t, const char *folder)
{
    crank_status status = read_companion(context, folder, "tokenizer_config.json", &t->config_file);
    if (!status) status = read_companion(context, folder, "special_tokens_map.json", &t->special_file);
    if (!status) status = read_companion(context, folder, "chat_template.jinja", &t->template_file);
    if (!status && t->template_file.bytes) {
        t->chat_template = crank_strdup(context, t->template_file.bytes);
        if (!t->chat_template) status = CRANK_FAILED;
    }
    if (!status) status = take_json(context, t, &t->config_file, "tokenizer_config.json");
    if (!status) status = take_json(context, t, &t->special_file, "special_tokens_map.json");
    return status ? crank_fail_in(context, "%s", folder) : CRANK_OK;
}

/* ---- vocab.txt */
/* What tokenizer_config.json says about case; uncased where it says nothing. */
static crank_status reads_lower_case(crank_context *context, const char *folder, bool *lower)
{
    text_string file = {0};
    *lower = true;
    crank_status status = read_companion(context, folder, "tokenizer_config.json", &file);
    json_t *root = !status && file.bytes ? json_parse(context, file.bytes, file.length, "tokenizer_config.json") : NULL;
    if (!status && file.bytes && !root) status = crank_last_status(context);
    if (root) status = json_get_bool(context, root, "do_lower_case", true, lower, "tokenizer_config.json");
    json_decref(root);
    text_string_clear(&file);
    return status;
}

static crank_tokenizer *parse_vocabulary_text(crank_context *context, const char *text, size_t length,
                                              const char *folder, const char *where)
{
    bool lower;
    if (reads_lower_case(context, folder, &lower)) {
        crank_fail_in(context, "%s", folder);
        return NULL;
    }
    json_t *root = tokenizer_from_vocabulary_text(context, text, length, lower, where);
    char *json = root ? json_text(context, root, 2) : NULL;
    json_decref(root);
    crank_tokenizer *t = json ? tokenizer_parse(context, json, strlen(json), where) : NULL;
    crank_free(json);
    return t;
}

static bool ends_with(const char *text, const char *end)
{
    size_t length = strlen(text), part = strlen(end);
    return length >= part && !strcmp(text + length - part, end);
}

/* tokenizer.json or vocab.txt of a model folder. */
static char *find_in_folder(crank_context *context, const char *folder)
{
    static const char *const names[] = {"tokenizer.json", "vocab.txt"};
    for (int i = 0; i < 2; i++) {
        char *path = file_join(context, folder, names[i]);
        if (!path || file_exists(path)) return path;
        crank_free(path);
    }
    crank_fail(context, CRANK_BAD_DATA, "%s: has neither tokenizer.json nor vocab.txt", folder);
    return NULL;
}

crank_tokenizer *crank_tokenizer_load(crank_context *context, const char *path)
{
    size_t length;
    char *file = file_is_folder(path) ? find_in_folder(context, path) : crank_strdup(context, path);
    char *text = file ? file_read(context, file, &length) : NULL;
    const char *slash = file ? strrchr(file, '/') : NULL;
    char *folder =
        text ? crank_format(context, "%.*s", slash ? (int)(slash - file) + (slash == file) : 1, slash ? file : ".")
             : NULL;
    crank_tokenizer *t = NULL;
    if (folder && ends_with(file, ".txt"))
        t = parse_vocabulary_text(context, text, length, folder, file);
    else if (folder)
        t = tokenizer_parse(context, text, length, file);
    if (t && tokenizer_load_companions(context, t, folder)) {
        crank_tokenizer_free(t);
        t = NULL;
    }
    crank_free(folder);
    crank_free(text);
    crank_free(file);
    return t;
}
