/* tokenizer_train.c - trains a byte-level BPE: the same merges as the `tokenizers` library's BpeTrainer.
 *
 * Matched: ByteLevel pre-tokenizer with add_prefix_space false on each line with its end, all 256 bytes as the initial
 * alphabet, min_frequency 0, no limits of alphabet or token length. Words (distinct, with counts) start as bytes; then,
 * until the vocabulary is full, the pair of the highest count, of equals the one with the smaller ids, becomes a token.
 *
 * A heap holds (count, pair, words that have it). Counts change while entries wait: one whose count is not the pair's
 * present count goes back with that. A pair that comes up in new words gets a further entry with those words. Two
 * details decide about identity with the library: a pair's count is not reset when it is merged, and a text that is a
 * token already keeps its id. */
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "data/tokenizer_parts.h"

typedef struct train_word {
    uint64_t hash;
    size_t start; /* of its bytes in the arena of texts; later of its symbols in the arena of symbols */
    uint32_t length;
    int64_t count;
} train_word;

typedef struct word_list {
    uint32_t *items;
    size_t count, capacity;
} word_list;

typedef struct train_pair {
    uint64_t pair; /* left << 32 | right; UINT64_MAX: free slot */
    int64_t count;
    word_list fresh; /* words that got the pair since the heap was last told */
} train_pair;

typedef struct heap_entry {
    int64_t count;
    uint64_t pair;
    word_list words;
} heap_entry;

typedef struct trainer {
    crank_context *context;
    train_word *words;
    size_t word_count, word_capacity;
    uint32_t *word_slots; /* place of a word + 1, 0: free */
    size_t word_mask;
    char *texts;
    size_t texts_used, texts_capacity;
    int32_t *symbols; /* of all words */
    train_pair *pairs;
    size_t pair_mask, pair_count;
    uint64_t *touched; /* pairs with fresh words */
    size_t touched_count, touched_capacity;
    heap_entry *heap;
    size_t heap_count, heap_capacity;
    vocabulary tokens; /* texts in the byte-level alphabet */
    uint64_t *merges;
    size_t merge_count, merge_capacity;
} trainer;

/* ---- words and their counts */
static bool grow_word_slots(trainer *t)
{
    size_t size = t->word_slots ? 2 * (t->word_mask + 1) : 4096;
    uint32_t *slots = crank_alloc(t->context, size, sizeof *slots, "words of the training text");
    if (!slots) return false;
    for (size_t i = 0; i < t->word_count; i++) {
        size_t at = (t->words[i].hash ^ t->words[i].hash >> 29) & (size - 1);
        while (slots[at]) at = (at + 1) & (size - 1);
        slots[at] = (uint32_t)i + 1;
    }
    crank_free(t->word_slots);
    t->word_slots = slots;
    t->word_mask = size - 1;
    return true;
}

static bool count_word(trainer *t, const char *text, size_t length)
{
    if ((!t->word_slots || t->word_count * 2 > t->word_mask) && !grow_word_slots(t)) return false;
    uint64_t hash = text_hash(text, length);
    size_t at = (hash ^ hash >> 29) & t->word_mask;
    for (; t->word_slots[at]; at = (at + 1) & t->word_mask) {
        train_word *word = &t->words[t->word_slots[at] - 1];
        if (word->hash != hash || word->length != length || memcmp(t->texts + word->start, text, length)) continue;
        word->count++;
        return true;
    }
    if (t->word_count >= UINT32_MAX - 1) {
        crank_fail(t->context, CRANK_BAD_DATA, "the training text has more than 2^32 distinct words");
        return false;
    }
    if (!array_reserve(t->context, (void **)&t->words, &t->word_capacity, t->word_count + 1, sizeof *t->words,
                       "words of the training text") ||
        !array_reserve(t->context, (void **)&t->texts, &t->texts_capacity, t->texts_used + length, 1,
                       "words of the training text"))
        return false;
    memcpy(t->texts + t->texts_used, text, length);
    t->words[t->word_count++] = (train_word){hash, t->texts_used, (uint32_t)length, 1};
    t->word_slots[at] = (uint32_t)t->word_count;
    t->texts_used += length;
    return true;
}

static bool count_line(trainer *t, const regex *words, regex_scratch *scratch, const char *line, size_t length)
{
    regex_walk walk = {0};
    size_t start, end, done = 0;
    int found;
    while ((found = regex_next(t->context, words, scratch, line, length, &walk, &start, &end)) > 0) {
        if ((start > done && !count_word(t, line + done, start - done)) || !count_word(t, line + start, end - start))
            return false;
        done = end;
    }
    return found == 0 && (done == length || count_word(t, line + done, length - done));
}

/* A line with its end; invalid bytes read as U+FFFD. */
static bool count_any_line(trainer *t, const regex *words, regex_scratch *scratch, const char *line, size_t length)
{
    if (utf8_valid_length(line, length) == length) return count_line(t, words, scratch, line, length);
    text_buffer repaired = {0};
    while (length) {
        size_t good = utf8_valid_length(line, length);
        text_add(&repaired, line, good);
        line += good;
        length -= good;
        if (!length) break;
        text_puts(&repaired, "\xEF\xBF\xBD");
        size_t bad = utf8_invalid_length(line, length);
        line += bad;
        length -= bad;
    }
    size_t whole = repaired.length;
    char *text = text_take(t->context, &repaired, "a line of the training text");
    bool good = text && count_line(t, words, scratch, text, whole);
    crank_free(text);
    return good;
}

static bool count_file(trainer *t, const regex *words, regex_scratch *scratch, const char *path)
{
    size_t length;
    char *text = file_read(t->context, path, &length);
    bool good = text != NULL;
    for (size_t at = 0; good && at < length;) {
        const char *end = memchr(text + at, '\n', length - at);
        size_t line = end ? (size_t)(end - text) + 1 - at : length - at;
        good = count_any_line(t, words, scratch, text + at, line);
        if (!good) crank_fail_in(t->context, "%s", path);
        at += line;
    }
    crank_free(text);
    return good;
}

/* ---- pairs and the heap */
static size_t pair_slot(const trainer *t, uint64_t pair)
{
    size_t at = (pair ^ pair >> 32) * UINT64_C(0x9E3779B97F4A7C15) >> 24 & t->pair_mask;
    while (t->pairs[at].pair != UINT64_MAX && t->pairs[at].pair != pair) at = (at + 1) & t->pair_mask;
    return at;
}

static bool grow_pairs(trainer *t)
{
    train_pair *old = t->pairs;
    size_t old_size = old ? t->pair_mask + 1 : 0, size = old ? 2 * old_size : 8192;
    train_pair *grown = crank_alloc(t->context, size, sizeof *grown, "pairs of the training text");
    if (!grown) return false;
    for (size_t i = 0; i < size; i++) grown[i].pair = UINT64_MAX;
    t->pairs = grown;
    t->pair_mask = size - 1;
    for (size_t i = 0; i < old_size; i++)
        if (old[i].pair != UINT64_MAX) grown[pair_slot(t, old[i].pair)] = old[i];
    crank_free(old);
    return true;
}

/* The pair's count changes by `change` because of a word. */
static bool change_pair(trainer *t, int32_t left, int32_t right, int64_t change, uint32_t word)
{
    uint64_t pair = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    if ((!t->pairs || t->pair_count * 2 > t->pair_mask) && !grow_pairs(t)) return false;
    train_pair *entry = &t->pairs[pair_slot(t, pair)];
    if (entry->pair == UINT64_MAX) {
        entry->pair = pair;
        t->pair_count++;
    }
    entry->count += change;
    if (change < 0) return true;
    word_list *fresh = &entry->fresh;
    if (!fresh->count) {
        if (!array_reserve(t->context, (void **)&t->touched, &t->touched_capacity, t->touched_count + 1,
                           sizeof *t->touched, "pairs of the training text"))
            return false;
        t->touched[t->touched_count++] = pair;
    } else if (fresh->items[fresh->count - 1] == word) { /* words come one after the other */
        return true;
    }
    if (!array_reserve(t->context, (void **)&fresh->items, &fresh->capacity, fresh->count + 1, sizeof *fresh->items,
                       "pairs of the training text"))
        return false;
    fresh->items[fresh->count++] = word;
    return true;
}

static bool is_before(const heap_entry *a, const heap_entry *b)
{
    return a->count != b->count ? a->count > b->count : a->pair < b->pair;
}

static bool heap_push(trainer *t, heap_entry entry)
{
    if (!array_reserve(t->context, (void **)&t->heap, &t->heap_capacity, t->heap_count + 1, sizeof *t->heap,
                       "pairs of the training text"))
        return false;
    size_t at = t->heap_count++;
    for (; at && is_before(&entry, &t->heap[(at - 1) / 2]); at = (at - 1) / 2) t->heap[at] = t->heap[(at - 1) / 2];
    t->heap[at] = entry;
    return true;
}

static heap_entry heap_pop(trainer *t)
{
    heap_entry top = t->heap[0], last = t->heap[--t->heap_count];
    size_t at = 0;
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= t->heap_count) break;
        if (child + 1 < t->heap_count && is_before(&t->heap[child + 1], &t->heap[child])) child++;
        if (!is_before(&t->heap[child], &last)) break;
        t->heap[at] = t->heap[child];
        at = child;
    }
    if (t->heap_count) t->heap[at] = last;
    return top;
}

/* Pairs with fresh words enter the heap. */
static bool tell_heap(trainer *t)
{
    for (size_t i = 0; i < t->touched_count; i++) {
        train_pair *pair = &t->pairs[pair_slot(t, t->touched[i])];
        if (pair->count > 0) {
            if (!heap_push(t, (heap_entry){pair->count, pair->pair, pair->fresh})) return false;
        } else {
            crank_free(pair->fresh.items);
        }
        pair->fresh = (word_list){0};
    }
    t->touched_count = 0;
    return true;
}

/* ---- training */
static bool start_tokens(trainer *t, int32_t vocab_size, const char *const *special, size_t special_count,
                         int32_t byte_ids[256])
{
    if (vocabulary_init(t->context, &t->tokens, vocab_size, (size_t)vocab_size)) return false;
    int32_t next = 0;
    for (size_t i = 0; i < special_count; i++) {
        if (vocabulary_find(&t->tokens, special[i], strlen(special[i])) >= 0) continue;
        if (vocabulary_add(t->context, &t->tokens, special[i], strlen(special[i]), next++, false)) return false;
    }
    for (uint32_t c = 0; c < 0x200; c++) { /* the alphabet by rising code */
        char text[4];
        int byte = character_to_byte(c);
        if (byte < 0) continue;
        size_t length = utf8_put(c, text);
        byte_ids[byte] = vocabulary_find(&t->tokens, text, length);
        if (byte_ids[byte] >= 0) continue;
        byte_ids[byte] = next;
        if (vocabulary_add(t->context, &t->tokens, text, length, next++, false)) return false;
    }
    return true;
}

static bool start_words(trainer *t, const int32_t byte_ids[256])
{
    t->symbols = crank_alloc(t->context, t->texts_used, sizeof *t->symbols, "words of the training text");
    if (!t->symbols) return false;
    for (size_t i = 0; i < t->texts_used; i++) t->symbols[i] = byte_ids[(unsigned char)t->texts[i]];
    for (size_t w = 0; w < t->word_count; w++) {
        const train_word *word = &t->words[w];
        const int32_t *s = t->symbols + word->start;
        for (uint32_t i = 0; i + 1 < word->length; i++)
            if (!change_pair(t, s[i], s[i + 1], word->count, (uint32_t)w)) return false;
    }
    return tell_heap(t);
}

/* Merges a pair in one word, from left to right. */
static bool merge_word(trainer *t, uint32_t w, int32_t left, int32_t right, int32_t id)
{
    train_word *word = &t->words[w];
    int32_t *s = t->symbols + word->start;
    uint32_t out = 0;
    for (uint32_t i = 0; i < word->length; i++, out++) {
        if (s[i] != left || i + 1 == word->length || s[i + 1] != right) {
            s[out] = s[i];
            continue;
        }
        if (out &&
            (!change_pair(t, s[out - 1], left, -word->count, w) || !change_pair(t, s[out - 1], id, word->count, w)))
            return false;
        s[out] = id;
        i++;
        if (i + 1 < word->length &&
            (!change_pair(t, right, s[i + 1], -word->count, w) || !change_pair(t, id, s[i + 1], word->count, w)))
            return false;
    }
    word->length = out;
    return true;
}

/* The id of left + right: a new token unless that text is one. */
static int32_t joined_token(trainer *t, int32_t left, int32_t right)
{
    text_buffer text = {0};
    text_puts(&text, vocabulary_text(&t->tokens, left, NULL));
    text_puts(&text, vocabulary_text(&t->tokens, right, NULL));
    size_t length = text.length;
    char *joined = text_take(t->context, &text, "a token");
    if (!joined) return -1;
    int32_t id = vocabulary_find(&t->tokens, joined, length);
    if (id < 0) {
        id = (int32_t)t->tokens.count;
        if (vocabulary_add(t->context, &t->tokens, joined, length, id, false)) id = -1;
    }
    crank_free(joined);
    return id;
}

static bool merge_top(trainer *t, const heap_entry *top)
{
    int32_t left = (int32_t)(top->pair >> 32), right = (int32_t)(uint32_t)top->pair, id = joined_token(t, left, right);
    if (id < 0 || !array_reserve(t->context, (void **)&t->merges, &t->merge_capacity, t->merge_count + 1,
                                 sizeof *t->merges, "merges"))
        return false;
    t->merges[t->merge_count++] = top->pair;
    for (size_t i = 0; i < top->words.count; i++)
        if (!merge_word(t, top->words.items[i], left, right, id)) return false;
    return tell_heap(t);
}

static bool train(trainer *t, int32_t vocab_size)
{
    while (t->tokens.count < (size_t)vocab_size && t->heap_count) {
        if (crank_stop_requested(t->context)) {
            crank_fail(t->context, CRANK_STOPPED, "training of a tokenizer was stopped");
            return false;
        }
        heap_entry top = heap_pop(t);
        int64_t count = t->pairs[pair_slot(t, top.pair)].count;
        bool good, stale = top.count != count, done = !stale && count < 1;
        if (stale) {
            top.count = count;
            good = heap_push(t, top);
        } else {
            good = done || merge_top(t, &top);
        }
        if (!stale || !good) crank_free(top.words.items);
        if (!good || done) return good;
    }
    return true;
}

static void trainer_clear(trainer *t)
{
    for (size_t i = 0; i < t->heap_count; i++) crank_free(t->heap[i].words.items);
    for (size_t i = 0; t->pairs && i <= t->pair_mask; i++) crank_free(t->pairs[i].fresh.items);
    crank_free(t->words);
    crank_free(t->word_slots);
    crank_free(t->texts);
    crank_free(t->symbols);
    crank_free(t->pairs);
    crank_free(t->touched);
    crank_free(t->heap);
    crank_free(t->merges);
    vocabulary_clear(&t->tokens);
}

/* ---- the result as tokenizer.json */
static json_t *trained_model(const trainer *t)
{
    json_t *words = json_object(), *merges = json_array();
    for (int32_t id = 0; id < (int32_t)t->tokens.count; id++)
        json_object_set_new(words, vocabulary_text(&t->tokens, id, NULL), json_integer(id));
    for (size_t i = 0; i < t->merge_count; i++)
        json_array_append_new(merges,
                              json_pack("[s,s]", vocabulary_text(&t->tokens, (int32_t)(t->merges[i] >> 32), NULL),
                                        vocabulary_text(&t->tokens, (int32_t)(uint32_t)t->merges[i], NULL)));
    return json_pack("{s:s,s:n,s:n,s:n,s:n,s:b,s:b,s:b,s:o,s:o}", "type", "BPE", "dropout", "unk_token",
                     "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk", 0, "byte_fallback", 0,
                     "ignore_merges", 0, "vocab", words, "merges", merges);
}

static crank_tokenizer *finish(const trainer *t, const char *const *special, size_t special_count)
{
    json_t *added = json_array();
    for (size_t i = 0; i < special_count; i++) {
        int32_t id = vocabulary_find(&t->tokens, special[i], strlen(special[i]));
        if ((size_t)id != json_array_size(added)) continue; /* given twice */
        json_array_append_new(added,
                              json_pack("{s:i,s:s,s:b,s:b,s:b,s:b,s:b}", "id", id, "content", special[i], "single_word",
                                        0, "lstrip", 0, "rstrip", 0, "normalized", 0, "special", 1));
    }
    json_t *root =
        json_pack("{s:s,s:n,s:n,s:o,s:n,s:{s:s,s:b,s:b,s:b},s:n,s:{s:s,s:b,s:b,s:b},s:o}", "version", "1.0",
                  "truncation", "padding", "added_tokens", added, "normalizer", "pre_tokenizer", "type", "ByteLevel",
                  "add_prefix_space", 0, "trim_offsets", 1, "use_regex", 1, "post_processor", "decoder", "type",
                  "ByteLevel", "add_prefix_space", 1, "trim_offsets", 1, "use_regex", 1, "model", trained_model(t));
    if (!root) crank_fail(t->context, CRANK_BAD_DATA, "a special token is not UTF-8, or memory is out");
    char *text = root ? json_text(t->context, root, 2) : NULL;
    json_decref(root);
    crank_tokenizer *made = text ? tokenizer_parse(t->context, text, strlen(text), "trained tokenizer") : NULL;
    crank_free(text);
    return made;
}

crank_tokenizer *crank_tokenizer_train(crank_context *context, const char *const *files, size_t file_count,
                                       int32_t vocab_size, const char *const *special, size_t special_count)
{
    trainer t = {.context = context};
    int32_t byte_ids[256];
    if (special_count > INT32_MAX / 4 || vocab_size < 256 + (int32_t)special_count || vocab_size > INT32_MAX / 4) {
        crank_fail(context, CRANK_USAGE,
                   "a vocabulary of %d tokens; from %zu (256 bytes and %zu special tokens) to %d are possible",
                   vocab_size, 256 + special_count, special_count, INT32_MAX / 4);
        return NULL;
    }
    for (size_t i = 0; i < special_count; i++) {
        if (special[i][0] && utf8_valid_length(special[i], strlen(special[i])) == strlen(special[i])) continue;
        crank_fail(context, CRANK_USAGE, "special token %zu is empty or not UTF-8", i + 1);
        return NULL;
    }
    regex *words = regex_new(context, gpt2_pattern, strlen(gpt2_pattern));
    regex_scratch scratch = {0};
    bool good = words != NULL;
    for (size_t i = 0; good && i < file_count; i++) good = count_file(&t, words, &scratch, files[i]);
    good = good && start_tokens(&t, vocab_size, special, special_count, byte_ids) && start_words(&t, byte_ids) &&
           train(&t, vocab_size);
    crank_tokenizer *made = good ? finish(&t, special, special_count) : NULL;
    regex_scratch_clear(&scratch);
    regex_free(words);
    trainer_clear(&t);
    return made;
}
