/* tokenizer_parts.h - a tokenizer: its components in the order in which they run.
 *
 *     text -> added tokens cut out -> normalisers -> added tokens that match normalised text cut out -> pre-tokenizers
 *          -> model (BPE, WordPiece, Unigram, WordLevel) -> post-processors (special tokens, offsets) -> ids
 *
 * A Sequence of the file is written out flat: its members run one after the other over all pieces. */
#ifndef CRANK_DATA_TOKENIZER_PARTS_H
#define CRANK_DATA_TOKENIZER_PARTS_H

#include <jansson.h>

#include "data/tokenizer_work.h"

typedef struct text_string {
    char *bytes;
    size_t length;
} text_string;

/* A pattern is a text or a regular expression. */
typedef struct text_pattern {
    text_string text; /* when expression is NULL */
    regex *expression;
} text_pattern;

/* ---- normalisers: tokenizer_normalizer.c */
typedef struct charsmap charsmap;
typedef enum normalizer_type {
    NORMALIZER_BERT,
    NORMALIZER_FORM,
    NORMALIZER_LOWERCASE,
    NORMALIZER_STRIP,
    NORMALIZER_STRIP_ACCENTS,
    NORMALIZER_REPLACE,
    NORMALIZER_PREPEND,
    NORMALIZER_NMT,
    NORMALIZER_BYTE_LEVEL,
    NORMALIZER_PRECOMPILED
} normalizer_type;
typedef struct normalizer {
    normalizer_type type;
    bool clean_text, ideographs, strip_accents, lowercase; /* BERT */
    bool compose, compatibility;                           /* FORM: NFC, NFD, NFKC, NFKD */
    bool left, right;                                      /* STRIP */
    text_pattern pattern;                                  /* REPLACE */
    text_string content;                                   /* REPLACE, PREPEND */
    charsmap *map;                                         /* PRECOMPILED */
} normalizer;
bool normalizer_run(encoder *e, const normalizer *part);
void normalizer_clear(normalizer *part);

/* The change of one piece, for use inside other stages. */
bool change_form(encoder *e, const piece *old, bool compose, bool compatibility);
bool change_to_byte_level(encoder *e, const void *part, const piece *old);
bool charsmap_change(encoder *e, const void *part, const piece *old); /* part: const charsmap * */
charsmap *charsmap_new(crank_context *context, const char *base64, size_t length);
void charsmap_free(charsmap *map);

/* ---- pre-tokenizers: tokenizer_pretokenizer.c */
typedef enum pretokenizer_type {
    PRETOKENIZER_BYTE_LEVEL,
    PRETOKENIZER_SPLIT,
    PRETOKENIZER_METASPACE,
    PRETOKENIZER_BERT,
    PRETOKENIZER_WHITESPACE,
    PRETOKENIZER_WHITESPACE_SPLIT,
    PRETOKENIZER_PUNCTUATION,
    PRETOKENIZER_DIGITS,
    PRETOKENIZER_DELIMITER,
    PRETOKENIZER_FIXED
} pretokenizer_type;
typedef enum prepend_scheme { PREPEND_ALWAYS, PREPEND_FIRST, PREPEND_NEVER } prepend_scheme;
typedef struct pretokenizer {
    pretokenizer_type type;
    bool add_prefix_space, use_regex; /* BYTE_LEVEL; the expression is GPT-2's */
    bool deferred;                    /* BYTE_LEVEL: the model reads bytes, the alphabet is skipped */
    text_pattern pattern;             /* SPLIT, BYTE_LEVEL */
    bool invert;                      /* SPLIT */
    split_behavior behavior;          /* SPLIT, PUNCTUATION */
    bool individual;                  /* DIGITS */
    uint32_t character;               /* METASPACE: the replacement; DELIMITER */
    prepend_scheme scheme;            /* METASPACE */
    bool split;                       /* METASPACE */
    size_t length;                    /* FIXED: characters of a piece */
} pretokenizer;
bool pretokenizer_run(encoder *e, const pretokenizer *part);
void pretokenizer_clear(pretokenizer *part);
extern const char gpt2_pattern[];
/* Cuts a piece at a pattern. */
bool cut_at_pattern(encoder *e, const piece *old, const text_pattern *pattern, bool invert, split_behavior behavior);

/* The byte-level alphabet: each byte is written as a printable character (GPT-2). tokenizer_alphabet.c */
uint32_t byte_to_character(unsigned char byte);
int character_to_byte(uint32_t character); /* -1: not in the alphabet */

/* ---- models */
typedef struct bpe bpe;             /* tokenizer_bpe.c */
typedef struct wordpiece wordpiece; /* tokenizer_wordpiece.c */
typedef struct unigram unigram;     /* tokenizer_unigram.c */
typedef enum model_type { MODEL_BPE, MODEL_WORDPIECE, MODEL_UNIGRAM, MODEL_WORDLEVEL } model_type;
typedef struct token_model {
    model_type type;
    bpe *bpe;
    wordpiece *wordpiece; /* WordLevel too: a word is one token or unknown */
    unigram *unigram;
} token_model;
/* Adds the tokens of one piece. */
bool bpe_encode(encoder *e, const bpe *model, const piece *old);
bool wordpiece_encode(encoder *e, const wordpiece *model, const piece *old);
bool unigram_encode(encoder *e, const unigram *model, const piece *old);
/* Read the "model" object; they fill tokenizer->words too. */
crank_status bpe_load(crank_context *context, crank_tokenizer *tokenizer, const json_t *object);
crank_status wordpiece_load(crank_context *context, crank_tokenizer *tokenizer, const json_t *object, bool word_level);
crank_status unigram_load(crank_context *context, crank_tokenizer *tokenizer, const json_t *object);
/* A vocabulary object {"text": id, ...}, checked as a whole. */
crank_status vocabulary_load(crank_context *context, vocabulary *words, const json_t *object);
void bpe_free(bpe *model);
void wordpiece_free(wordpiece *model);
void unigram_free(unigram *model);
/* Lets the model read raw bytes behind a byte-level splitter when all 256 bytes are tokens; false: it stays as it was.
 */
crank_status bpe_read_bytes(crank_context *context, crank_tokenizer *tokenizer, bool *done);
/* Finds which tokens a text equal to the token gives: those words need no merging. */
crank_status bpe_find_whole_words(crank_context *context, crank_tokenizer *tokenizer);

/* ---- added tokens: tokenizer_added.c */
typedef struct added_token {
    int32_t id;
    text_string content;
    text_string normalized_content; /* what it looks like in normalised text; NULL when that is the content */
    bool single_word, left, right, normalized, special;
} added_token;
crank_status added_load(crank_context *context, crank_tokenizer *tokenizer, const json_t *array);
/* Cuts out the added tokens that match source text (normalized: normalised text). */
bool added_cut(encoder *e, bool normalized);
const added_token *added_find(const crank_tokenizer *tokenizer, int32_t id);

/* ---- post-processors: tokenizer_postprocessor.c */
typedef struct template_piece {
    int sequence; /* 0, 1: that sequence; -1: special ids */
    int32_t *ids;
    size_t count;
} template_piece;
typedef enum postprocessor_type { POST_TEMPLATE, POST_BERT, POST_ROBERTA, POST_BYTE_LEVEL } postprocessor_type;
typedef struct postprocessor {
    postprocessor_type type;
    template_piece *single, *pair; /* TEMPLATE */
    size_t single_count, pair_count;
    int32_t cls, sep;                    /* BERT, ROBERTA */
    bool trim_offsets, add_prefix_space; /* ROBERTA, BYTE_LEVEL */
} postprocessor;
/* The tokens of one or two sequences through the post-processors into `out`. Spans become byte offsets of the source.
 */
typedef struct sequence_tokens {
    const int32_t *ids;
    source_span *spans;
    const token_trim *trims;
    size_t count;
    const char *source;     /* what the spans count in: valid UTF-8 */
    const uint32_t *origin; /* where each of its bytes was in the caller's text; NULL: at the same place */
} sequence_tokens;
crank_status postprocess(crank_context *context, const crank_tokenizer *tokenizer, sequence_tokens *sequences,
                         size_t count, unsigned flags, crank_ids *out);
void postprocessor_clear(postprocessor *part);

/* ---- decoders: tokenizer_decoder.c */
typedef enum decoder_type {
    DECODER_BYTE_LEVEL,
    DECODER_WORDPIECE,
    DECODER_METASPACE,
    DECODER_REPLACE,
    DECODER_BYTE_FALLBACK,
    DECODER_FUSE,
    DECODER_STRIP,
    DECODER_BPE,
    DECODER_CTC
} decoder_type;
typedef struct decoder {
    decoder_type type;
    text_string text;     /* WORDPIECE: prefix; BPE: suffix; REPLACE: content; CTC: word delimiter */
    text_string pad;      /* CTC */
    text_pattern pattern; /* REPLACE */
    bool cleanup;         /* WORDPIECE, CTC */
    bool keeps_first;     /* METASPACE: the first replacement character becomes a space too */
    uint32_t character;   /* METASPACE, STRIP */
    size_t start, stop;   /* STRIP */
} decoder;
void decoder_clear(decoder *part);

/* ---- the whole */
struct crank_tokenizer {
    normalizer *normalizers;
    size_t normalizer_count;
    pretokenizer *pretokenizers;
    size_t pretokenizer_count;
    token_model model;
    vocabulary words; /* of the model, texts as the file has them */
    postprocessor *postprocessors;
    size_t postprocessor_count;
    decoder *decoders;
    size_t decoder_count;
    bool has_decoder;   /* without one, tokens are joined by spaces */
    added_token *added; /* by rising id */
    size_t added_count;
    trie added_trie, added_normalized_trie; /* values are places in `added` */
    bool has_added, has_added_normalized;   /* anything in those tries */
    bool needs_spans;                       /* a component asks where in the source a piece began */
    bool trims_offsets;
    int32_t size; /* highest id + 1 */
    int32_t bos, eos, pad;
    char *chat_template;
    /* what crank_tokenizer_save writes; NULL where there was no such file */
    text_string file, config_file, special_file, template_file;
};

crank_status normalizers_load(crank_context *context, crank_tokenizer *tokenizer, const json_t *value);
crank_status pretokenizers_load(crank_context *context, crank_tokenizer *tokenizer, const json_t *value);
crank_status postprocessors_load(crank_context *context, crank_tokenizer *tokenizer, const json_t *value);
crank_status decoders_load(crank_context *context, crank_tokenizer *tokenizer, const json_t *value);

/* A tokenizer from the text of a tokenizer.json; `where` names it in messages. */
crank_tokenizer *tokenizer_parse(crank_context *context, const char *text, size_t length, const char *where);
/* tokenizer_config.json and its like beside the tokenizer. */
crank_status tokenizer_load_companions(crank_context *context, crank_tokenizer *tokenizer, const char *folder);
/* The tokenizer.json that stands for a BERT vocab.txt; a new reference. */
json_t *tokenizer_from_vocabulary_text(crank_context *context, const char *text, size_t length, bool lowercase,
                                       const char *where);

/* ---- reading JSON: tokenizer_json.c */
/* Strings of a component, copied. Absent: CRANK_BAD_DATA. */
crank_status json_need_text(crank_context *context, const json_t *object, const char *key, text_string *out);
/* One character. */
crank_status json_need_character(crank_context *context, const json_t *object, const char *key, uint32_t *out);
/* {"String": ...} or {"Regex": ...} */
crank_status json_need_pattern(crank_context *context, const json_t *object, const char *key, text_pattern *out);
crank_status json_need_bool(crank_context *context, const json_t *object, const char *key, bool *out);
void text_string_clear(text_string *text);
void text_pattern_clear(text_pattern *pattern);
/* Calls `load` for each member of a component, opening Sequences (member list `members`) wherever they stand. */
typedef crank_status component_load(crank_context *context, crank_tokenizer *tokenizer, const json_t *object,
                                    const char *type);
crank_status components_load(crank_context *context, crank_tokenizer *tokenizer, const json_t *value,
                             const char *members, const char *kind, component_load *load);
#endif
