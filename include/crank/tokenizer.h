/* tokenizer.h - `tokenizer.json` executed literally, and the chat template of a model.
 *
 * A tokenizer is read from a Hugging Face `tokenizer.json` (normaliser, pre-tokenizer, model, post-processor, decoder and
 * added tokens are run as written; a component that crank does not know is refused by name), from a BERT `vocab.txt`, or
 * trained (byte-level BPE). Encoding is thread-safe on a const tokenizer. */
#ifndef CRANK_TOKENIZER_H
#define CRANK_TOKENIZER_H

#include "crank/base.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct crank_tokenizer crank_tokenizer;

/* Token ids of a text; `ids` is malloc'd by the encoder and freed by crank_ids_free. `offsets` (two per token: first and
 * one-past-last byte of the source text that the token covers) is filled only when asked for. */
typedef struct crank_ids {
    int32_t *ids;
    int64_t *offsets; /* [2 * count] bytes, or NULL */
    size_t   count, capacity;
} crank_ids;
CRANK_API void crank_ids_free(crank_ids *ids);

typedef enum crank_encode_flags {
    CRANK_ENCODE_SPECIAL = 1, /* run the post-processor: BOS, [CLS] ... [SEP] */
    CRANK_ENCODE_PLAIN   = 2, /* special added tokens in the text are ordinary text (never matched) */
    CRANK_ENCODE_OFFSETS = 4
} crank_encode_flags;

/* `path` is a tokenizer.json, a BERT vocab.txt, or a model folder that holds one. NULL on error. */
CRANK_API crank_tokenizer *crank_tokenizer_load(crank_context *context, const char *path);
CRANK_API void             crank_tokenizer_free(crank_tokenizer *tokenizer);

/* Text need not be valid UTF-8: like the `tokenizers` library behind Python, invalid bytes read as U+FFFD first. `pair`
 * may be NULL. Appends nothing: out is overwritten. A text has at most (2^31 - 1) / 3 bytes (CRANK_USAGE). */
CRANK_API crank_status crank_encode(crank_context *context, const crank_tokenizer *tokenizer, const char *text, size_t length,
                                    const char *pair, size_t pair_length, unsigned flags, crank_ids *out);
/* Text of ids through the decoder, special tokens left out when asked. malloc'd; crank_free. */
CRANK_API char *crank_decode(crank_context *context, const crank_tokenizer *tokenizer, const int32_t *ids, size_t count,
                             bool skip_special, size_t *length);

CRANK_API int32_t     crank_tokenizer_size(const crank_tokenizer *tokenizer);                  /* highest id + 1 */
CRANK_API int32_t     crank_token_id(const crank_tokenizer *tokenizer, const char *token);     /* -1: none */
CRANK_API const char *crank_token_text(const crank_tokenizer *tokenizer, int32_t id);          /* as stored; NULL: none */
/* Special ids from tokenizer_config.json / special_tokens_map.json beside it, -1 when not defined. */
CRANK_API int32_t crank_tokenizer_bos(const crank_tokenizer *tokenizer);
CRANK_API int32_t crank_tokenizer_eos(const crank_tokenizer *tokenizer);
CRANK_API int32_t crank_tokenizer_pad(const crank_tokenizer *tokenizer);
/* The Jinja chat template from chat_template.jinja or tokenizer_config.json; NULL when the model has none. */
CRANK_API const char *crank_tokenizer_chat_template(const crank_tokenizer *tokenizer);

/* Writes tokenizer.json, tokenizer_config.json and special_tokens_map.json into a folder (byte-exact copies of what was
 * read, or made from what was trained). */
CRANK_API crank_status crank_tokenizer_save(crank_context *context, const crank_tokenizer *tokenizer, const char *folder);

/* Trains a byte-level BPE (GPT-2's pre-tokenizer) on text files, the same merges as the `tokenizers` library's BpeTrainer
 * for the same input: highest count first, ties by the smaller pair of ids. `special` are added first (ids 0..). */
CRANK_API crank_tokenizer *crank_tokenizer_train(crank_context *context, const char *const *files, size_t file_count,
                                                 int32_t vocab_size, const char *const *special, size_t special_count);

/* Chat. `messages` is JSON text: [{"role":..., "content":...}, ...]; `extra` JSON text of further template variables
 * (tools, ...) or NULL. Renders the model's own Jinja template. malloc'd; crank_free. CRANK_BAD_DATA with template line
 * on an error or on raise_exception(...). */
CRANK_API char *crank_chat_render(crank_context *context, const crank_tokenizer *tokenizer, const char *messages,
                                  const char *extra, bool add_generation_prompt);
/* Ids of a conversation (no extra special tokens) and a mask, 1 where the loss counts: tokens of assistant turns
 * including the turn's end token, found by {% generation %} where the template has it, else by rendering prefixes.
 * `mask` is malloc'd (crank_free), [out->count]. CRANK_BAD_DATA when the template does not render prefixes consistently. */
CRANK_API crank_status crank_chat_encode(crank_context *context, const crank_tokenizer *tokenizer, const char *messages,
                                         const char *extra, crank_ids *out, uint8_t **mask);

#ifdef __cplusplus
}
#endif
#endif
