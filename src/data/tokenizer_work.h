/* tokenizer_work.h - a text on its way to ids: the text, cut into pieces, each stage giving the next text or cut.
 *
 * Stages either change the text (normalisers, the byte-level alphabet) or only cut it (splitters). When source spans
 * are asked for, every byte knows the span of the source that it came from; otherwise nothing is kept about that. */
#ifndef CRANK_DATA_TOKENIZER_WORK_H
#define CRANK_DATA_TOKENIZER_WORK_H

#include "crank/tokenizer.h"
#include "data/tokenizer_regex.h"
#include "data/tokenizer_vocabulary.h"
#include "data/unicode.h"

typedef struct source_span {
    uint32_t start, end;
} source_span;

typedef struct work_text {
    char *bytes;
    source_span *spans; /* [length] of each byte, NULL: not kept */
    size_t length, capacity, span_capacity;
} work_text;

typedef struct piece {
    uint32_t start, end; /* in the text */
    int32_t token;       /* id of the added token that it is, -1: still text */
} piece;

typedef struct piece_list {
    piece *items;
    size_t count, capacity;
} piece_list;

/* Tokens of one sequence. trims counts the white space that a token begins and ends with, where the post-processor cuts
 * it off offsets. */
typedef struct token_trim {
    uint16_t leading, trailing;
} token_trim;
typedef struct token_list {
    int32_t *ids;
    source_span *spans;
    token_trim *trims;
    size_t count, capacity, span_capacity, trim_capacity;
} token_list;

typedef struct bpe_merge_entry {
    uint32_t rank, at;
    int32_t id;
} bpe_merge_entry;

typedef struct word_cache_entry {
    uint64_t hash;
    uint32_t start, length; /* of the word in the text of the first sequence that had it */
    uint32_t tokens, count; /* place of its ids and lengths */
} word_cache_entry;

/* What one call of crank_encode works with. */
typedef struct encoder {
    crank_context *context;
    const crank_tokenizer *tokenizer;
    unsigned flags;
    bool keeps_spans;
    bool in_added; /* the token that comes is an added one, found in the text */
    /* the source: valid UTF-8; and the text as it is now (the source itself until a stage changes it) */
    const char *source, *text;
    size_t source_length, text_length;
    const source_span *spans;
    work_text buffers[2];
    int next; /* the buffer that the next change writes */
    piece_list pieces, next_pieces;
    token_list tokens;
    /* scratch */
    regex_scratch regex;
    unicode_edit *edits, *sorted;
    size_t edits_capacity, sorted_capacity;
    int32_t *symbols, *links; /* [symbols], [2 * symbols] */
    uint32_t *sizes;
    size_t symbols_capacity, links_capacity, sizes_capacity;
    bpe_merge_entry *heap;
    size_t heap_capacity;
    word_cache_entry *cache;
    uint64_t cache_mask;
    int32_t *cache_ids;
    uint32_t *cache_sizes;
    size_t cache_used, cache_ids_capacity, cache_sizes_capacity;
    void *lattice;
    size_t lattice_capacity;
} encoder;

/* Starts on a text that is valid UTF-8 and shorter than 2^31 bytes: one piece. */
bool work_start(encoder *e, const char *source, size_t length);
void work_clear(encoder *e);

/* A change of the text: for every piece of text `change` appends its new bytes; added tokens are copied. Pieces that
 * became empty vanish. */
typedef bool work_change(encoder *e, const void *part, const piece *old);
bool work_edit(encoder *e, work_change *change, const void *part);
/* For use in a work_change. Copies bytes of the old text with their spans. */
bool work_copy(encoder *e, size_t start, size_t length);
/* Appends bytes that all carry one span. */
bool work_append(encoder *e, const char *bytes, size_t length, source_span span);

/* Writes edits over a stretch of old text: `at` walks over the old characters as unicode_edit's change says. */
typedef struct work_editor {
    size_t at, start;
} work_editor;
bool work_put(encoder *e, work_editor *editor, unicode_edit edit);

/* A cut of the pieces: for every piece of text `cut` adds its parts; empty ones vanish. */
typedef bool work_cut(encoder *e, const void *part, const piece *old);
bool work_split(encoder *e, work_cut *cut, const void *part);
bool work_add_piece(encoder *e, size_t start, size_t end, int32_t token);

/* What becomes of the delimiters, on "the-final--countdown" and "-":
 *     removed             the | final | countdown
 *     isolated            the | - | final | - | - | countdown
 *     merged with previous  the- | final- | - | countdown
 *     merged with next    the | -final | - | -countdown
 *     contiguous          the | - | final | -- | countdown */
typedef enum split_behavior {
    SPLIT_REMOVED,
    SPLIT_ISOLATED,
    SPLIT_PREVIOUS,
    SPLIT_NEXT,
    SPLIT_CONTIGUOUS
} split_behavior;
bool split_behavior_parse(const char *name, split_behavior *behavior);

/* Takes delimiters and what stands between them from left to right; zero at first, but for the behaviour. */
typedef struct splitter {
    split_behavior behavior;
    bool pending, pending_match, previous_match;
    size_t start, end;
} splitter;
bool splitter_take(encoder *e, splitter *s, size_t start, size_t end, bool match);
bool splitter_finish(encoder *e, splitter *s);

/* The span of the source that bytes [start, end) of the text came from. */
source_span work_span(const encoder *e, size_t start, size_t end);
/* Adds a token that covers bytes [start, end) of the text. */
bool work_add_token(encoder *e, int32_t id, size_t start, size_t end);
#endif
