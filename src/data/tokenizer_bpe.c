/* tokenizer_bpe.c - encodes words by byte-pair merges (Sennrich et al. 2016, arXiv:1508.07909).
 *
 * A word starts as its characters (or bytes); of all neighbours that form a known pair, the pair of the lowest rank,
 * the leftmost first, becomes one symbol, until no pair is known. Short words look for that pair by a scan; long ones
 * keep a heap of (rank, place), which makes n symbols cost O(n log n). Words whose text is a token that merging gives
 * back are found in one look-up; other words are remembered for the rest of the call. */
#include "data/tokenizer_bpe.h"

#include <string.h>

#define SCAN_LIMIT       40
#define CACHE_WORD_LIMIT 256
#define NO_RANK          UINT32_MAX

static bool reserve_symbols(encoder *e, size_t count)
{
    return array_reserve(e->context, (void **)&e->symbols, &e->symbols_capacity, count, sizeof *e->symbols,
                         "symbols of a word") &&
           array_reserve(e->context, (void **)&e->sizes, &e->sizes_capacity, count, sizeof *e->sizes,
                         "symbols of a word");
}

/* Unknown characters wait here, since several may become one unknown token. */
typedef struct unknown_run {
    bool waits;
    uint32_t size;
} unknown_run;

static void add_symbol(encoder *e, size_t *count, int32_t id, size_t size)
{
    e->symbols[*count] = id;
    e->sizes[(*count)++] = (uint32_t)size;
}

static bool add_unknown(encoder *e, const bpe *model, unknown_run *run, size_t *count, size_t size)
{
    if (!model->unknown_text.bytes) { /* the character is dropped: its bytes go with the symbol before */
        if (*count) e->sizes[*count - 1] += (uint32_t)size;
        return true;
    }
    if (model->unknown < 0) {
        crank_fail(e->context, CRANK_BAD_DATA,
                   "the text has a character without a token, and the unknown token `%.80s` is not in the vocabulary",
                   model->unknown_text.bytes);
        return false;
    }
    if (run->waits && !model->fuse_unknown) add_symbol(e, count, model->unknown, run->size);
    run->size = run->waits && model->fuse_unknown ? run->size + (uint32_t)size : (uint32_t)size;
    run->waits = true;
    return true;
}

/* The id of one character with the prefix or suffix that its place asks for. */
static int32_t character_id(const encoder *e, const bpe *model, const char *text, size_t size, bool first, bool last)
{
    if (model->plain)
        return size == 1 ? model->byte_ids[(unsigned char)*text] : vocabulary_find(&e->tokenizer->words, text, size);
    char whole[4 + 2 * 64];
    size_t length = 0;
    if (!first && model->prefix.length) {
        length = model->prefix.length;
        memcpy(whole, model->prefix.bytes, length);
    }
    memcpy(whole + length, text, size);
    length += size;
    if (last && model->suffix.length) {
        memcpy(whole + length, model->suffix.bytes, model->suffix.length);
        length += model->suffix.length;
    }
    return vocabulary_find(&e->tokenizer->words, whole, length);
}

static bool add_fallback(encoder *e, const bpe *model, const char *text, size_t size, size_t *count)
{
    if (!model->byte_fallback) return false;
    for (size_t i = 0; i < size; i++)
        if (model->fallback_ids[(unsigned char)text[i]] < 0) return false;
    for (size_t i = 0; i < size; i++) add_symbol(e, count, model->fallback_ids[(unsigned char)text[i]], 1);
    return true;
}

bool bpe_symbols(encoder *e, const bpe *model, const char *word, size_t length, size_t *count)
{
    *count = 0;
    if (!reserve_symbols(e, length + 1)) return false;
    if (model->reads_bytes) {
        for (size_t i = 0; i < length; i++) add_symbol(e, count, model->byte_ids[(unsigned char)word[i]], 1);
        return true;
    }
    unknown_run run = {0};
    size_t size, dropped = 0; /* bytes of characters in front that gave no symbol */
    for (size_t at = 0; at < length; at += size) {
        size_t before = *count;
        size = utf8_size((unsigned char)word[at]);
        int32_t id = character_id(e, model, word + at, size, at == 0, at + size == length);
        if (id >= 0) {
            if (run.waits) add_symbol(e, count, model->unknown, run.size);
            run.waits = false;
            add_symbol(e, count, id, size);
        } else if (!add_fallback(e, model, word + at, size, count)) {
            if (!model->unknown_text.bytes && !before) dropped += size;
            if (!add_unknown(e, model, &run, count, size)) return false;
        }
        if (*count > before && !before) e->sizes[0] += (uint32_t)dropped;
    }
    if (run.waits) add_symbol(e, count, model->unknown, run.size);
    return true;
}

static uint32_t pair_rank(const bpe *model, const int32_t *symbols, size_t at, int32_t *id)
{
    const bpe_merge *merge = bpe_find(model, symbols[at], symbols[at + 1]);
    if (!merge) return NO_RANK;
    *id = merge->id;
    return merge->rank;
}

/* The plain algorithm: scan for the lowest rank, merge, close the gap. */
static size_t merge_by_scan(const bpe *model, int32_t *symbols, uint32_t *sizes, size_t count)
{
    uint32_t ranks[SCAN_LIMIT];
    int32_t ids[SCAN_LIMIT];
    for (size_t i = 0; i + 1 < count; i++) ranks[i] = pair_rank(model, symbols, i, &ids[i]);
    while (count > 1) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < count; i++)
            if (ranks[i] < ranks[best]) best = i;
        if (ranks[best] == NO_RANK) break;
        symbols[best] = ids[best];
        sizes[best] += sizes[best + 1];
        count--;
        memmove(symbols + best + 1, symbols + best + 2, (count - best - 1) * sizeof *symbols);
        memmove(sizes + best + 1, sizes + best + 2, (count - best - 1) * sizeof *sizes);
        if (best + 1 < count) {
            memmove(ranks + best + 1, ranks + best + 2, (count - best - 2) * sizeof *ranks);
            memmove(ids + best + 1, ids + best + 2, (count - best - 2) * sizeof *ids);
            ranks[best] = pair_rank(model, symbols, best, &ids[best]);
        }
        if (best) ranks[best - 1] = pair_rank(model, symbols, best - 1, &ids[best - 1]);
    }
    return count;
}

static bool is_before(bpe_merge_entry a, bpe_merge_entry b)
{
    return a.rank != b.rank ? a.rank < b.rank : a.at < b.at;
}

static bool heap_push(encoder *e, size_t *count, bpe_merge_entry entry)
{
    if (*count == e->heap_capacity && !array_reserve(e->context, (void **)&e->heap, &e->heap_capacity, *count + 1,
                                                     sizeof *e->heap, "merges of a word"))
        return false;
    size_t at = (*count)++;
    for (; at && is_before(entry, e->heap[(at - 1) / 2]); at = (at - 1) / 2) e->heap[at] = e->heap[(at - 1) / 2];
    e->heap[at] = entry;
    return true;
}

static bpe_merge_entry heap_pop(bpe_merge_entry *heap, size_t *count)
{
    bpe_merge_entry top = heap[0], last = heap[--*count];
    size_t at = 0;
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= *count) break;
        if (child + 1 < *count && is_before(heap[child + 1], heap[child])) child++;
        if (!is_before(heap[child], last)) break;
        heap[at] = heap[child];
        at = child;
    }
    if (*count) heap[at] = last;
    return top;
}

static bool push_pair(encoder *e, const bpe *model, size_t *heap_count, int32_t left, int32_t right)
{
    if (left < 0 || right < 0) return true;
    const bpe_merge *merge = bpe_find(model, e->symbols[left], e->symbols[right]);
    return !merge || heap_push(e, heap_count, (bpe_merge_entry){merge->rank, (uint32_t)left, merge->id});
}

/* Symbols stay where they are, linked to both sides; a swallowed one has id -1. An entry of the heap counts only while
 * its pair still stands there. */
static size_t merge_by_heap(encoder *e, const bpe *model, size_t count)
{
    if (!array_reserve(e->context, (void **)&e->links, &e->links_capacity, 2 * count, sizeof *e->links,
                       "merges of a word"))
        return SIZE_MAX;
    int32_t *before = e->links, *behind = e->links + count;
    size_t heap_count = 0;
    for (size_t i = 0; i < count; i++) {
        before[i] = (int32_t)i - 1;
        behind[i] = i + 1 < count ? (int32_t)i + 1 : -1;
    }
    for (size_t i = 0; i + 1 < count; i++)
        if (!push_pair(e, model, &heap_count, (int32_t)i, (int32_t)i + 1)) return SIZE_MAX;
    while (heap_count) {
        bpe_merge_entry top = heap_pop(e->heap, &heap_count);
        int32_t left = (int32_t)top.at, right = e->symbols[left] < 0 ? -1 : behind[left];
        if (right < 0) continue;
        const bpe_merge *merge = bpe_find(model, e->symbols[left], e->symbols[right]);
        if (!merge || merge->id != top.id) continue;
        e->symbols[left] = top.id;
        e->sizes[left] += e->sizes[right];
        e->symbols[right] = -1;
        behind[left] = behind[right];
        if (behind[left] >= 0) before[behind[left]] = left;
        if (!push_pair(e, model, &heap_count, before[left], left) ||
            !push_pair(e, model, &heap_count, left, behind[left]))
            return SIZE_MAX;
    }
    size_t kept = 0;
    for (size_t i = 0; i < count; i++) {
        if (e->symbols[i] < 0) continue;
        e->symbols[kept] = e->symbols[i];
        e->sizes[kept++] = e->sizes[i];
    }
    return kept;
}

size_t bpe_merge_symbols(encoder *e, const bpe *model, size_t count)
{
    return count <= SCAN_LIMIT ? merge_by_scan(model, e->symbols, e->sizes, count) : merge_by_heap(e, model, count);
}

static bool add_tokens(encoder *e, const int32_t *ids, const uint32_t *sizes, size_t count, size_t start)
{
    for (size_t i = 0; i < count; i++) {
        if (!work_add_token(e, ids[i], start, start + sizes[i])) return false;
        start += sizes[i];
    }
    return true;
}

/* The cache is direct-mapped and as large as the text promises. */
static bool cache_reserve(encoder *e)
{
    if (e->cache) return true;
    size_t size = 64;
    while (size < 65536 && size * 32 < e->text_length) size *= 2;
    e->cache = crank_alloc(e->context, size, sizeof *e->cache, "a cache of words");
    e->cache_mask = size - 1;
    return e->cache != NULL;
}

/* Keeps a merged word; ids and sizes are appended to the cache's own arrays. */
static bool cache_keep(encoder *e, word_cache_entry *entry, uint64_t hash, size_t start, size_t length, size_t count)
{
    if (!count || e->cache_used + count > UINT32_MAX) return true;
    if (!array_reserve(e->context, (void **)&e->cache_ids, &e->cache_ids_capacity, e->cache_used + count,
                       sizeof *e->cache_ids, "a cache of words") ||
        !array_reserve(e->context, (void **)&e->cache_sizes, &e->cache_sizes_capacity, e->cache_used + count,
                       sizeof *e->cache_sizes, "a cache of words"))
        return false;
    memcpy(e->cache_ids + e->cache_used, e->symbols, count * sizeof *e->symbols);
    memcpy(e->cache_sizes + e->cache_used, e->sizes, count * sizeof *e->sizes);
    *entry = (word_cache_entry){hash, (uint32_t)start, (uint32_t)length, (uint32_t)e->cache_used, (uint32_t)count};
    e->cache_used += count;
    return true;
}

static bool encode_word(encoder *e, const bpe *model, size_t start, size_t end)
{
    const char *word = e->text + start;
    size_t length = end - start, count;
    uint64_t hash = text_hash(word, length);
    if (model->ignore_merges || model->whole) {
        int32_t id =
            vocabulary_find_hashed(model->reads_bytes ? &model->raw : &e->tokenizer->words, hash, word, length);
        if (id >= 0 && (model->ignore_merges || bpe_is_whole(model, id))) return work_add_token(e, id, start, end);
    }
    word_cache_entry *entry = NULL;
    if (length < CACHE_WORD_LIMIT) {
        if (!cache_reserve(e)) return false;
        entry = &e->cache[(hash ^ hash >> 32) & e->cache_mask];
        if (entry->hash == hash && entry->length == length && !memcmp(e->text + entry->start, word, length))
            return add_tokens(e, e->cache_ids + entry->tokens, e->cache_sizes + entry->tokens, entry->count, start);
    }
    if (!bpe_symbols(e, model, word, length, &count)) return false;
    count = bpe_merge_symbols(e, model, count);
    if (count == SIZE_MAX || !add_tokens(e, e->symbols, e->sizes, count, start)) return false;
    return !entry || cache_keep(e, entry, hash, start, length, count);
}

bool bpe_encode(encoder *e, const bpe *model, const piece *old)
{
    if (!model->words_at_metaspace) return encode_word(e, model, old->start, old->end);
    size_t start = old->start;
    bool word = false; /* something else than U+2581 stood there */
    for (size_t at = old->start; at < old->end;) {
        bool mark = old->end - at >= 3 && !memcmp(e->text + at, "\xE2\x96\x81", 3);
        if (mark && word) {
            if (!encode_word(e, model, start, at)) return false;
            start = at;
        }
        word = !mark;
        at += mark ? 3 : 1;
    }
    return encode_word(e, model, start, old->end);
}
