/* tokenizer_added.c - added tokens: texts that are one token wherever they stand, special ones among them.
 *
 * Of the added tokens that match at a place the longest is taken, from left to right. Then single_word refuses a match
 * that touches a word character, lstrip and rstrip let it swallow white space. Tokens with `normalized` are looked for
 * in the normalised text, in their own normalised form; the others in the source. */
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "data/tokenizer_parts.h"

#define CONTENT_LIMIT 4096

/* The longest added token at `at`; -1 when there is none. */
static int32_t longest_at(const trie *tree, const char *text, size_t at, size_t end, size_t *length)
{
    int32_t best = -1;
    uint32_t node = 0;
    for (size_t i = at; i < end; i++) {
        node = trie_step(tree, node, text[i]);
        if (!node) break;
        if (tree->values[node] < 0) continue;
        best = tree->values[node];
        *length = i + 1 - at;
    }
    return best;
}

static bool is_single_word(const char *text, size_t start, size_t end, size_t piece_start, size_t piece_end)
{
    uint32_t c;
    size_t size;
    if (start > piece_start && utf8_last(text + piece_start, start - piece_start, &c) && unicode_is_word(c))
        return false;
    return end == piece_end || !unicode_is_word(utf8_get(text + end, &size));
}

static bool cut(encoder *e, const piece *old, const trie *tree)
{
    const char *text = e->text;
    size_t done = old->start, length, size;
    for (size_t at = old->start; at < old->end;) {
        int32_t found = tree->roots[(unsigned char)text[at]] ? longest_at(tree, text, at, old->end, &length) : -1;
        if (found < 0) {
            at++;
            continue;
        }
        const added_token *token = &e->tokenizer->added[found];
        size_t start = at, end = at + length;
        at = end;
        if (token->special && (e->flags & CRANK_ENCODE_PLAIN)) continue;
        if (token->single_word && !is_single_word(text, start, end, old->start, old->end)) continue;
        uint32_t c;
        if (token->left) {
            while (start > old->start &&
                   (size = utf8_last(text + old->start, start - old->start, &c), unicode_is_whitespace(c)))
                start -= size;
            if (start < done) start = done;
        }
        if (token->right)
            while (end < old->end && unicode_is_whitespace(utf8_get(text + end, &size))) end += size;
        /* the next match may begin inside white space that this one swallowed: both then cover it */
        if ((start > done && !work_add_piece(e, done, start, -1)) || !work_add_piece(e, start, end, token->id))
            return false;
        done = end;
    }
    return work_add_piece(e, done, old->end, -1);
}

static bool cut_source(encoder *e, const void *part, const piece *old)
{
    (void)part;
    return cut(e, old, &e->tokenizer->added_trie);
}

static bool cut_normalized(encoder *e, const void *part, const piece *old)
{
    (void)part;
    return cut(e, old, &e->tokenizer->added_normalized_trie);
}

bool added_cut(encoder *e, bool normalized)
{
    if (normalized) return !e->tokenizer->has_added_normalized || work_split(e, cut_normalized, NULL);
    return !e->tokenizer->has_added || work_split(e, cut_source, NULL);
}

const added_token *added_find(const crank_tokenizer *tokenizer, int32_t id)
{
    size_t low = 0, high = tokenizer->added_count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (tokenizer->added[middle].id < id)
            low = middle + 1;
        else
            high = middle;
    }
    return low < tokenizer->added_count && tokenizer->added[low].id == id ? &tokenizer->added[low] : NULL;
}

/* What a normalised token looks like in normalised text. */
static crank_status normalize_content(crank_context *context, crank_tokenizer *tokenizer, added_token *token)
{
    encoder e = {.context = context, .tokenizer = tokenizer};
    bool good = work_start(&e, token->content.bytes, token->content.length);
    for (size_t i = 0; good && i < tokenizer->normalizer_count; i++)
        good = normalizer_run(&e, &tokenizer->normalizers[i]);
    size_t length = e.pieces.count ? e.text_length : 0;
    if (good && (length != token->content.length || memcmp(e.text, token->content.bytes, length))) {
        token->normalized_content.bytes = crank_alloc(context, length + 1, 1, "an added token");
        token->normalized_content.length = length;
        good = token->normalized_content.bytes != NULL;
        if (good && length) memcpy(token->normalized_content.bytes, e.text, length);
    }
    work_clear(&e);
    return good ? CRANK_OK : crank_last_status(context);
}

/* The id that a text has already, among the added tokens read so far or in the model. */
static int32_t known_id(const crank_tokenizer *tokenizer, const vocabulary *seen, const char *content, size_t length)
{
    int32_t id = vocabulary_find(seen, content, length);
    return id >= 0 ? id : vocabulary_find(&tokenizer->words, content, length);
}

static crank_status load_fields(crank_context *context, const json_t *object, added_token *token)
{
    int64_t id;
    crank_status status = json_need_int(context, object, "id", 0, INT32_MAX, &id, "an added token");
    if (!status) status = json_need_text(context, object, "content", &token->content);
    if (!status && token->content.length > CONTENT_LIMIT)
        status = crank_fail(context, CRANK_BAD_DATA, "its content has %zu bytes; at most %d are read",
                            token->content.length, CONTENT_LIMIT);
    if (!status) status = json_need_bool(context, object, "single_word", &token->single_word);
    if (!status) status = json_need_bool(context, object, "lstrip", &token->left);
    if (!status) status = json_need_bool(context, object, "rstrip", &token->right);
    if (!status) status = json_need_bool(context, object, "normalized", &token->normalized);
    if (!status) status = json_need_bool(context, object, "special", &token->special);
    token->id = (int32_t)id;
    return status;
}

/* The tokenizers library gives a new text the next free id, whatever the file says; a file that says otherwise is
 * refused, since both sides would then disagree about ids. */
static crank_status check_id(crank_context *context, const crank_tokenizer *tokenizer, const vocabulary *seen,
                             const added_token *token, int64_t next_id)
{
    int64_t id = known_id(tokenizer, seen, token->content.bytes, token->content.length);
    if (id < 0) {
        const char *taken = vocabulary_text(&tokenizer->words, token->id, NULL);
        if (taken)
            return crank_fail(context, CRANK_BAD_DATA, "`%.80s` has id %d of token `%.80s`", token->content.bytes,
                              token->id, taken);
        id = next_id;
    }
    if (id == token->id) return CRANK_OK;
    return crank_fail(context, CRANK_BAD_DATA, "`%.80s` says id %d, but its place in the vocabulary makes it %lld",
                      token->content.bytes, token->id, (long long)id);
}

static int by_id(const void *a, const void *b)
{
    int32_t left = ((const added_token *)a)->id, right = ((const added_token *)b)->id;
    return (left > right) - (left < right);
}

/* A text that stands twice keeps its id, and the later entry's properties count. */
static crank_status keep(crank_context *context, crank_tokenizer *tokenizer, vocabulary *seen, const added_token *token)
{
    for (size_t i = 0;
         vocabulary_find(seen, token->content.bytes, token->content.length) >= 0 && i < tokenizer->added_count; i++) {
        if (tokenizer->added[i].id != token->id) continue;
        text_string_clear(&tokenizer->added[i].content);
        tokenizer->added[i] = *token;
        return CRANK_OK;
    }
    crank_status status = vocabulary_add(context, seen, token->content.bytes, token->content.length, token->id, false);
    if (!status) tokenizer->added[tokenizer->added_count++] = *token;
    return status;
}

static crank_status read_list(crank_context *context, crank_tokenizer *tokenizer, const json_t *array, vocabulary *seen)
{
    int64_t next_id =
        (int64_t)tokenizer->words.count; /* as the library counts: holes in the vocabulary do not matter */
    for (size_t i = 0; i < json_array_size(array); i++) {
        added_token token = {0};
        crank_status status = load_fields(context, json_array_get(array, i), &token);
        if (!status && !token.content.length) { /* an empty text is no token */
            text_string_clear(&token.content);
            continue;
        }
        bool new_text = !status && known_id(tokenizer, seen, token.content.bytes, token.content.length) < 0;
        if (!status) status = check_id(context, tokenizer, seen, &token, next_id);
        if (!status && token.id >= seen->size)
            status = crank_fail(context, CRANK_BAD_DATA, "id %d is out of range", token.id);
        if (!status) status = keep(context, tokenizer, seen, &token);
        if (status) {
            text_string_clear(&token.content);
            return crank_fail_in(context, "added token %zu", i);
        }
        next_id += new_text;
    }
    qsort(tokenizer->added, tokenizer->added_count, sizeof *tokenizer->added, by_id);
    return CRANK_OK;
}

static crank_status build_tries(crank_context *context, crank_tokenizer *tokenizer)
{
    crank_status status = trie_init(context, &tokenizer->added_trie);
    if (!status) status = trie_init(context, &tokenizer->added_normalized_trie);
    for (size_t i = 0; !status && i < tokenizer->added_count; i++) {
        added_token *token = &tokenizer->added[i];
        if (token->normalized) status = normalize_content(context, tokenizer, token);
        const text_string *text = token->normalized_content.bytes ? &token->normalized_content : &token->content;
        if (!status)
            status = trie_add(context, token->normalized ? &tokenizer->added_normalized_trie : &tokenizer->added_trie,
                              text->bytes, text->length, (int32_t)i, false);
        *(token->normalized ? &tokenizer->has_added_normalized : &tokenizer->has_added) = true;
    }
    return status;
}

crank_status added_load(crank_context *context, crank_tokenizer *tokenizer, const json_t *array)
{
    if (!array || json_is_null(array)) return CRANK_OK;
    if (!json_is_array(array)) return crank_fail(context, CRANK_BAD_DATA, "`added_tokens` must be an array");
    size_t count = json_array_size(array);
    if (!count) return CRANK_OK;
    if (count > INT32_MAX / 8) return crank_fail(context, CRANK_BAD_DATA, "`added_tokens` has %zu entries", count);
    vocabulary seen = {0};
    tokenizer->added = crank_alloc(context, count, sizeof *tokenizer->added, "added tokens");
    if (!tokenizer->added) return CRANK_FAILED;
    int32_t base = tokenizer->words.size;
    crank_status status = vocabulary_init(context, &seen, base + (int32_t)count + 1, count);
    if (!status) status = read_list(context, tokenizer, array, &seen);
    vocabulary_clear(&seen);
    return status ? status : build_tries(context, tokenizer);
}
