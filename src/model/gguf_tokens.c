/* gguf_tokens.c - a tokenizer as the keys of a GGUF file.
 *
 *   byte-level BPE       model gpt2, tokens, merges "a b", pre: the name by which readers know the pre-tokenizer
 *   BPE with bytes       model llama (SentencePiece): tokens and scores, - the rank of the merge that makes a token
 *   WordPiece            model bert: "##x" becomes x, x becomes U+2581 x, [SPECIAL] stays
 *   kinds                1 normal, 2 unknown, 3 control (special), 4 added, 5 a hole in the ids, 6 a byte */
#include <stdlib.h>
#include <string.h>

#include "data/tokenizer_parts.h"
#include "model/gguf.h"

enum { NORMAL = 1, UNKNOWN, CONTROL, ADDED, HOLE, BYTE };

/* Pre-tokenizers by what is written in their rule; the longest that fits counts. */
static const char *pre_name(const char *rule)
{
    if (strstr(rule, "\\\\p{N}{1,3}") && strstr(rule, "(?i:'s|'t|'re")) return "llama-bpe";
    if (strstr(rule, "[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|\\\\p{N}|") && strstr(rule, "(?i:'s|'t|'re")) return "qwen2";
    if (strstr(rule, "\"ByteLevel\"") && strstr(rule, "\"use_regex\":true") && !strstr(rule, "\"Split\"")) return "gpt-2";
    return NULL;
}

static int kind_of(const crank_tokenizer *t, const json_t *model, int32_t id, const char *text)
{
    const char *unknown = json_string_value(json_object_get(model, "unk_token"));
    if (!text) return HOLE;
    if (unknown && !strcmp(unknown, text) && json_is_true(json_object_get(model, "byte_fallback"))) return UNKNOWN;
    for (size_t i = 0; i < t->added_count; i++)
        if (t->added[i].id == id) return t->added[i].special ? CONTROL : ADDED;
    bool byte = json_is_true(json_object_get(model, "byte_fallback")) && strlen(text) == 6 && !strncmp(text, "<0x", 3) && text[5] == '>';
    return byte ? BYTE : NORMAL;
}

/* WordPiece's "##" marks what goes on; readers mark what begins. */
static void put_piece(gguf_writer *w, const char *text)
{
    char   word[1024];
    size_t length = strlen(text);
    if (*text == '[' && text[length - 1] == ']') gguf_element_text(w, text, length);
    else if (!strncmp(text, "##", 2)) gguf_element_text(w, text + 2, length - 2);
    else {
        int n = snprintf(word, sizeof word, "\xE2\x96\x81%s", text);
        gguf_element_text(w, word, n < (int)sizeof word ? (size_t)n : sizeof word - 1);
    }
}

static void put_tokens(gguf_writer *w, const crank_tokenizer *t, const json_t *model, bool pieces, int32_t size)
{
    gguf_array(w, "tokenizer.ggml.tokens", GGUF_STRING, (uint64_t)size);
    for (int32_t id = 0; id < size; id++) {
        const char *text = crank_token_text(t, id);
        char        hole[32];
        if (!text) snprintf(hole, sizeof hole, "[PAD%d]", id);
        if (pieces && text) put_piece(w, text);
        else gguf_element_text(w, text ? text : hole, strlen(text ? text : hole));
    }
    gguf_array(w, "tokenizer.ggml.token_type", GGUF_I32, (uint64_t)size);
    for (int32_t id = 0; id < size; id++) gguf_element_i32(w, kind_of(t, model, id, crank_token_text(t, id)));
}

/* The two sides of a merge: ["a", "b"], or "a b". */
static bool merge_sides(const json_t *merge, char *out, size_t size, const char *between)
{
    const char *a = json_string_value(json_array_get(merge, 0)), *b = json_string_value(json_array_get(merge, 1)), *both = json_string_value(merge);
    int         n;
    if (a && b) n = snprintf(out, size, "%s%s%s", a, between, b);
    else if (both && strchr(both, ' ')) n = snprintf(out, size, "%.*s%s%s", (int)(strchr(both, ' ') - both), both, between, strchr(both, ' ') + 1);
    else return false;
    return n > 0 && (size_t)n < size;
}

static crank_status bad_merge(crank_context *context, size_t i)
{
    return crank_fail(context, CRANK_BAD_DATA, "tokenizer.json: merge %zu is no pair of texts that a GGUF file holds", i);
}

static crank_status put_merges(crank_context *context, gguf_writer *w, const json_t *merges)
{
    char text[4096];
    gguf_array(w, "tokenizer.ggml.merges", GGUF_STRING, json_array_size(merges));
    for (size_t i = 0; i < json_array_size(merges); i++) {
        if (!merge_sides(json_array_get(merges, i), text, sizeof text, " ")) return bad_merge(context, i);
        gguf_element_text(w, text, strlen(text));
    }
    return CRANK_OK;
}

static crank_status put_scores(crank_context *context, gguf_writer *w, const crank_tokenizer *t, const json_t *merges, int32_t size)
{
    char         text[4096];
    float       *scores = crank_alloc(context, (size_t)size, sizeof *scores, "scores of tokens");
    crank_status status = scores ? CRANK_OK : CRANK_FAILED;
    for (size_t i = 0; status == CRANK_OK && i < json_array_size(merges); i++) {
        if (!merge_sides(json_array_get(merges, i), text, sizeof text, "")) status = bad_merge(context, i);
        int32_t id = status == CRANK_OK ? crank_token_id(t, text) : -1;
        if (id >= 0 && id < size && scores[id] == 0) scores[id] = -(float)(i + 1);
    }
    gguf_array(w, "tokenizer.ggml.scores", GGUF_F32, (uint64_t)size);
    for (int32_t id = 0; status == CRANK_OK && id < size; id++) gguf_element_f32(w, scores[id]);
    crank_free(scores);
    return status;
}

static void put_special(gguf_writer *w, const char *key, int32_t id)
{
    if (id >= 0) gguf_u32(w, key, (uint32_t)id);
}

static void put_specials(gguf_writer *w, const crank_tokenizer *t, bool pieces)
{
    put_special(w, "tokenizer.ggml.bos_token_id", pieces ? crank_token_id(t, "[CLS]") : t->bos);
    put_special(w, "tokenizer.ggml.eos_token_id", pieces ? -1 : t->eos);
    put_special(w, "tokenizer.ggml.padding_token_id", t->pad >= 0 ? t->pad : pieces ? crank_token_id(t, "[PAD]") : -1);
    if (pieces) {
        put_special(w, "tokenizer.ggml.unknown_token_id", crank_token_id(t, "[UNK]"));
        put_special(w, "tokenizer.ggml.seperator_token_id", crank_token_id(t, "[SEP]"));
        put_special(w, "tokenizer.ggml.mask_token_id", crank_token_id(t, "[MASK]"));
    }
    if (t->chat_template) gguf_text(w, "tokenizer.chat_template", t->chat_template);
}

/* Does an empty text get the beginning-of-text token? */
static crank_status put_add_bos(crank_context *context, gguf_writer *w, const crank_tokenizer *t)
{
    crank_ids    ids = {0};
    crank_status status = crank_encode(context, t, "a", 1, NULL, 0, CRANK_ENCODE_SPECIAL, &ids);
    if (status == CRANK_OK && t->bos >= 0) gguf_bool(w, "tokenizer.ggml.add_bos_token", ids.count && ids.ids[0] == t->bos);
    crank_ids_free(&ids);
    return status;
}

crank_status gguf_tokens(crank_context *context, gguf_writer *w, const crank_model *model, const crank_tokenizer *t, text_buffer *left_out)
{
    int32_t size = (int32_t)model->config.vocab;
    json_t *root = json_parse(context, t->file.bytes, t->file.length, "tokenizer.json");
    if (!root) return crank_last_status(context);
    const json_t *words = json_object_get(root, "model"), *merges = json_object_get(words, "merges");
    const char   *type = json_string_value(json_object_get(words, "type"));
    bool          pieces = type && !strcmp(type, "WordPiece"), merged = (!type || !strcmp(type, "BPE")) && merges, bytes = json_is_true(json_object_get(words, "byte_fallback"));
    crank_status  status = CRANK_OK;
    if (!pieces && !merged) status = crank_fail(context, CRANK_USAGE, "a tokenizer of the kind %s is not written as GGUF: BPE and WordPiece are", type ? type : "without a name");
    else if (crank_tokenizer_size(t) > size)
        status = crank_fail(context, CRANK_BAD_DATA, "the tokenizer has %d tokens and the model %d: they do not belong together", crank_tokenizer_size(t), size);
    if (status == CRANK_OK) {
        gguf_text(w, "tokenizer.ggml.model", pieces ? "bert" : bytes ? "llama" : "gpt2");
        char       *rule = json_dumps(json_object_get(root, "pre_tokenizer"), JSON_COMPACT | JSON_ENCODE_ANY);
        const char *pre = pieces || bytes ? "default" : pre_name(rule ? rule : "");
        if (!pre) text_puts(left_out, "tokenizer: readers have no name for its pre-tokenizer; `default` is written, and texts may be cut into other tokens\n");
        gguf_text(w, "tokenizer.ggml.pre", pre ? pre : "default");
        free(rule);
        put_tokens(w, t, words, pieces, size);
    }
    if (status == CRANK_OK && bytes && merged) status = put_scores(context, w, t, merges, size);
    else if (status == CRANK_OK && merged) status = put_merges(context, w, merges);
    if (status == CRANK_OK && pieces) gguf_u32(w, "tokenizer.ggml.token_type_count", (uint32_t)(model->config.types ? model->config.types : 1));
    if (status == CRANK_OK) put_specials(w, t, pieces);
    if (status == CRANK_OK && !pieces) status = put_add_bos(context, w, t);
    json_decref(root);
    return status;
}
