/* tokenizer_work.c - the text under work: changes that keep source spans, cuts, tokens. */
#include "data/tokenizer_work.h"

#include <string.h>

#include "data/tokenizer_parts.h"

static bool reserve_text(encoder *e, work_text *buffer, size_t more)
{
    size_t needed = buffer->length + more;
    if (needed > INT32_MAX) {
        crank_fail(e->context, CRANK_USAGE, "the text grows beyond 2 GiB while it is normalised");
        return false;
    }
    if (needed > buffer->capacity &&
        !array_reserve(e->context, (void **)&buffer->bytes, &buffer->capacity, needed, 1, "a text"))
        return false;
    return !e->keeps_spans || needed <= buffer->span_capacity ||
           array_reserve(e->context, (void **)&buffer->spans, &buffer->span_capacity, buffer->capacity,
                         sizeof *buffer->spans, "source offsets");
}

bool work_start(encoder *e, const char *source, size_t length)
{
    e->source = e->text = source;
    e->source_length = e->text_length = length;
    e->spans = NULL;
    e->pieces.count = e->tokens.count = e->cache_used = 0;
    if (e->cache) memset(e->cache, 0, (e->cache_mask + 1) * sizeof *e->cache);
    if (e->keeps_spans) {
        work_text *buffer = &e->buffers[e->next];
        buffer->length = 0;
        if (!reserve_text(e, buffer, length ? length : 1)) return false;
        for (size_t at = 0; at < length;) {
            size_t size = utf8_size((unsigned char)source[at]);
            for (size_t i = 0; i < size; i++)
                buffer->spans[at + i] = (source_span){(uint32_t)at, (uint32_t)(at + size)};
            at += size;
        }
        if (length) memcpy(buffer->bytes, source, length);
        buffer->length = length;
        e->text = buffer->bytes;
        e->spans = buffer->spans;
        e->next = !e->next;
    }
    if (!length) return true;
    if (!array_reserve(e->context, (void **)&e->pieces.items, &e->pieces.capacity, 1, sizeof(piece),
                       "pieces of a text"))
        return false;
    e->pieces.items[e->pieces.count++] = (piece){0, (uint32_t)length, -1};
    return true;
}

void work_clear(encoder *e)
{
    for (int i = 0; i < 2; i++) {
        crank_free(e->buffers[i].bytes);
        crank_free(e->buffers[i].spans);
    }
    crank_free(e->pieces.items);
    crank_free(e->next_pieces.items);
    crank_free(e->tokens.ids);
    crank_free(e->tokens.spans);
    crank_free(e->tokens.trims);
    regex_scratch_clear(&e->regex);
    crank_free(e->edits);
    crank_free(e->sorted);
    crank_free(e->symbols);
    crank_free(e->links);
    crank_free(e->sizes);
    crank_free(e->heap);
    crank_free(e->cache);
    crank_free(e->cache_ids);
    crank_free(e->cache_sizes);
    crank_free(e->lattice);
}

bool work_add_piece(encoder *e, size_t start, size_t end, int32_t token)
{
    if (start == end) return true;
    piece_list *list = &e->next_pieces;
    if (list->count == list->capacity && !array_reserve(e->context, (void **)&list->items, &list->capacity,
                                                        list->count + 1, sizeof(piece), "pieces of a text"))
        return false;
    list->items[list->count++] = (piece){(uint32_t)start, (uint32_t)end, token};
    return true;
}

static void swap_pieces(encoder *e)
{
    piece_list old = e->pieces;
    e->pieces = e->next_pieces;
    e->next_pieces = old;
}

bool work_copy(encoder *e, size_t start, size_t length)
{
    work_text *to = &e->buffers[e->next];
    if (!reserve_text(e, to, length)) return false;
    memcpy(to->bytes + to->length, e->text + start, length);
    if (e->keeps_spans) memcpy(to->spans + to->length, e->spans + start, length * sizeof *to->spans);
    to->length += length;
    return true;
}

bool work_append(encoder *e, const char *bytes, size_t length, source_span span)
{
    work_text *to = &e->buffers[e->next];
    if (!reserve_text(e, to, length)) return false;
    memcpy(to->bytes + to->length, bytes, length);
    if (e->keeps_spans)
        for (size_t i = 0; i < length; i++) to->spans[to->length + i] = span;
    to->length += length;
    return true;
}

bool work_put(encoder *e, work_editor *editor, unicode_edit edit)
{
    char bytes[4];
    size_t length = utf8_put(edit.character, bytes), size;
    source_span span = {0, 0};
    if (e->keeps_spans) {
        if (edit.change <= 0)
            span = e->spans[editor->at];
        else if (editor->at > editor->start)
            span = e->spans[editor->at - 1]; /* a new character belongs to the one before */
        else
            span = (source_span){e->spans[editor->start].start, e->spans[editor->start].start};
    }
    for (int32_t i = edit.change; i <= 0; i++) {
        utf8_get(e->text + editor->at, &size);
        editor->at += size;
    }
    return work_append(e, bytes, length, span);
}

bool work_edit(encoder *e, work_change *change, const void *part)
{
    work_text *to = &e->buffers[e->next];
    to->length = e->next_pieces.count = 0;
    if (!reserve_text(e, to, e->text_length + 16)) return false;
    for (size_t i = 0; i < e->pieces.count; i++) {
        piece old = e->pieces.items[i];
        size_t start = to->length;
        if (old.token >= 0 ? !work_copy(e, old.start, old.end - old.start) : !change(e, part, &old)) return false;
        if (!work_add_piece(e, start, to->length, old.token)) return false;
    }
    e->text = to->bytes;
    e->text_length = to->length;
    e->spans = e->keeps_spans ? to->spans : NULL;
    e->next = !e->next;
    swap_pieces(e);
    return true;
}

bool work_split(encoder *e, work_cut *cut, const void *part)
{
    e->next_pieces.count = 0;
    for (size_t i = 0; i < e->pieces.count; i++) {
        piece old = e->pieces.items[i];
        if (old.token >= 0 ? !work_add_piece(e, old.start, old.end, old.token) : !cut(e, part, &old)) return false;
    }
    swap_pieces(e);
    return true;
}

bool split_behavior_parse(const char *name, split_behavior *behavior)
{
    static const char *const names[] = {"Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"};
    for (int i = 0; i < 5; i++) {
        if (strcmp(name, names[i])) continue;
        *behavior = (split_behavior)i;
        return true;
    }
    return false;
}

/* True when a part joins the one that is held back. */
static bool joins(const splitter *s, bool match)
{
    switch (s->behavior) {
    case SPLIT_CONTIGUOUS:
        return match == s->previous_match;
    case SPLIT_PREVIOUS:
        return match && !s->previous_match;
    case SPLIT_NEXT:
        return !match && s->pending_match;
    default:
        return false;
    }
}

bool splitter_take(encoder *e, splitter *s, size_t start, size_t end, bool match)
{
    if (s->behavior == SPLIT_ISOLATED) return work_add_piece(e, start, end, -1);
    if (s->behavior == SPLIT_REMOVED) return match || work_add_piece(e, start, end, -1);
    if (s->pending && joins(s, match)) {
        s->end = end;
    } else {
        if (!splitter_finish(e, s)) return false;
        s->pending = true;
        s->start = start;
        s->end = end;
    }
    s->previous_match = s->pending_match = match;
    return true;
}

bool splitter_finish(encoder *e, splitter *s)
{
    if (s->pending && !work_add_piece(e, s->start, s->end, -1)) return false;
    s->pending = false;
    return true;
}

source_span work_span(const encoder *e, size_t start, size_t end)
{
    if (start >= end) return (source_span){0, 0};
    return (source_span){e->spans[start].start, e->spans[end - 1].end};
}

/* White space that a token begins or ends with, in characters; the byte-level alphabet's U+0120 stands for a space. */
static token_trim count_trim(const encoder *e, int32_t id, size_t start, size_t end, bool added)
{
    size_t length = end - start, at = 0, size;
    const char *text = added ? e->text + start : vocabulary_text(&e->tokenizer->words, id, &length);
    uint32_t c, trim[2] = {0, 0};
    while (text && at < length && trim[0] < UINT16_MAX) {
        c = utf8_get(text + at, &size);
        if (c != 0x120 && !unicode_is_whitespace(c)) break;
        trim[0]++;
        at += size;
    }
    while (text && length && trim[1] < UINT16_MAX) {
        size = utf8_last(text, length, &c);
        if (c != 0x120 && !unicode_is_whitespace(c)) break;
        trim[1]++;
        length -= size;
    }
    return (token_trim){(uint16_t)trim[0], (uint16_t)trim[1]};
}

bool work_add_token(encoder *e, int32_t id, size_t start, size_t end)
{
    token_list *list = &e->tokens;
    if (list->count == list->capacity && !array_reserve(e->context, (void **)&list->ids, &list->capacity,
                                                        list->count + 1, sizeof *list->ids, "ids of a text"))
        return false;
    list->ids[list->count] = id;
    if (e->flags & CRANK_ENCODE_OFFSETS) {
        if (!array_reserve(e->context, (void **)&list->spans, &list->span_capacity, list->count + 1,
                           sizeof *list->spans, "offsets"))
            return false;
        list->spans[list->count] = work_span(e, start, end);
        if (e->tokenizer->trims_offsets) {
            if (!array_reserve(e->context, (void **)&list->trims, &list->trim_capacity, list->count + 1,
                               sizeof *list->trims, "offsets"))
                return false;
            list->trims[list->count] = count_trim(e, id, start, end, e->in_added);
        }
    }
    list->count++;
    return true;
}
