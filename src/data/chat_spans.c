/* chat_spans.c - where an assistant turn stands in a rendered conversation whose template has no {% generation %}.
 *
 * With R(m, g) the rendering of messages m, g: with the generation prompt, and F = R(all, no):
 *
 *     by beginnings   start = |R(before, yes)|, end = |R(up to and with the turn, no)|, both beginnings of F;
 *     by a mark       F' = F with the turn's content replaced by a mark = U mark V, where U begins and V ends F: the content
 *                     stands between them. The turn's closing text is what V shares with what follows the mark when the
 *                     conversation ends there, so that neither the next turn's header nor a final end-of-text counts.
 *     by end token    a turn without content: from |R(before, yes)| to the one end token before the next message's content.
 *
 * A beginning that is cut short never ends inside a special token: "<|end|>" and "<|user|>" share "<|". */
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "data/chat_spans.h"
#include "data/tokenizer_parts.h"

typedef struct rendering {
    char  *text;
    size_t length;
} rendering;

/* Messages [0, count), message `marked` (< count) with `mark` in place of its content. New reference; NULL: out of memory. */
static json_t *part_of(const chat_job *job, size_t count, size_t marked, const char *mark)
{
    json_t *list = json_array();
    bool    good = list != NULL;
    for (size_t i = 0; good && i < count; i++) {
        json_t *message = json_array_get(job->messages, i);
        json_t *used = i == marked ? json_copy(message) : json_incref(message);
        if (i == marked) good = json_object_set_new(used, "content", json_string(mark)) == 0;
        good = json_array_append_new(list, used) == 0 && good;
    }
    if (good) return list;
    json_decref(list);
    return NULL;
}

/* A rendering of a part; templates may refuse parts of a conversation, which is no failure: text is NULL then. */
static rendering render_part(const chat_job *job, size_t count, size_t marked, const char *mark, bool prompt)
{
    rendering out = {0};
    json_t   *list = count ? part_of(job, count, marked, mark) : NULL;
    if (list) out.text = chat_render(job->context, job->chat, list, job->extra, prompt, job->now, &out.length);
    if (!out.text) crank_clear(job->context);
    json_decref(list);
    return out;
}

/* Length that two texts share, cut back to the start of a special token that it would end inside of. */
static size_t shared(const chat_job *job, const char *a, size_t a_length, const char *b, size_t b_length)
{
    const crank_tokenizer *tokenizer = job->chat->tokenizer;
    size_t                 length = 0, cut;
    while (length < a_length && length < b_length && a[length] == b[length]) length++;
    cut = length;
    if (length == a_length || length == b_length) return length;
    while (cut > 0 && ((unsigned char)a[cut] & 0xC0) == 0x80) cut--; /* nor inside a character */
    for (size_t i = 0; i < tokenizer->added_count; i++) {
        const text_string *token = &tokenizer->added[i].content;
        if (!tokenizer->added[i].special) continue;
        for (size_t back = 1; back < token->length && back <= length; back++) {
            size_t at = length - back;
            bool   in_a = a_length - at >= token->length && !memcmp(a + at, token->bytes, token->length);
            bool   in_b = b_length - at >= token->length && !memcmp(b + at, token->bytes, token->length);
            if ((in_a || in_b) && at < cut) cut = at;
        }
    }
    return cut;
}

static bool begins(const chat_job *job, const rendering *part)
{
    return part->text && part->length <= job->length && !memcmp(job->full, part->text, part->length);
}

/* A word that stands nowhere in the conversation. */
static void choose_mark(const chat_job *job, char *mark, size_t size)
{
    for (unsigned number = 7; snprintf(mark, size, "crankmarksthisturn%u", number), strstr(job->full, mark); number += 4) {}
}

static const char *find_once(const rendering *part, const char *mark)
{
    const char *found = part->text ? memmem(part->text, part->length, mark, strlen(mark)) : NULL;
    size_t      behind = found ? (size_t)(found - part->text) + strlen(mark) : 0;
    return found && !memmem(part->text + behind, part->length - behind, mark, strlen(mark)) ? found : NULL;
}

/* Whether the message before stands behind byte `start` of the conversation: then no text behind the turn closes it. */
static bool is_turned_around(const chat_job *job, size_t index, size_t start)
{
    char mark[64];
    if (!index || !json_is_string(json_object_get(json_array_get(job->messages, index - 1), "content"))) return false;
    choose_mark(job, mark, sizeof mark);
    rendering   whole = render_part(job, json_array_size(job->messages), index - 1, mark, false);
    const char *found = find_once(&whole, mark);
    bool        behind = found && (size_t)(found - whole.text) > start;
    crank_free(whole.text);
    return behind;
}

/* By a mark: the content, and with it the closing text. False: not found. */
static bool find_by_mark(const chat_job *job, size_t index, chat_span *content, size_t *closing)
{
    char mark[64];
    if (!json_is_string(json_object_get(json_array_get(job->messages, index), "content"))) return false;
    choose_mark(job, mark, sizeof mark);
    rendering   whole = render_part(job, json_array_size(job->messages), index, mark, false);
    const char *found = find_once(&whole, mark);
    bool        good = found != NULL;
    if (good) {
        size_t before = (size_t)(found - whole.text), after = whole.length - before - strlen(mark);
        good = before + after <= job->length && !memcmp(job->full, whole.text, before) &&
               !memcmp(job->full + job->length - after, found + strlen(mark), after);
        *content = (chat_span){before, job->length - after};
        rendering   last = render_part(job, index + 1, index, mark, false);
        const char *end = find_once(&last, mark);
        good = good && end;
        if (good) {
            end += strlen(mark);
            *closing = content->end + shared(job, found + strlen(mark), after, end, last.length - (size_t)(end - last.text));
        }
        crank_free(last.text);
    }
    crank_free(whole.text);
    return good && !is_turned_around(job, index, content->start);
}

/* The last special token of a rendering, the one that ends its last turn; NULL: none. */
static const text_string *end_token(const chat_job *job, const rendering *closed)
{
    const crank_tokenizer *tokenizer = job->chat->tokenizer;
    const text_string     *last = NULL;
    for (size_t at = closed->length; at-- > 0 && !last;)
        for (size_t i = 0; i < tokenizer->added_count; i++) {
            const text_string *token = &tokenizer->added[i].content;
            bool here = tokenizer->added[i].special && token->length && token->length <= closed->length - at && !memcmp(closed->text + at, token->bytes, token->length);
            if (here && (!last || token->length > last->length)) last = token;
        }
    return last;
}

/* A turn without content (a call of tools) that starts at `start`: it ends with the only end token between there and the
 * content of the next message. */
static bool find_by_end_token(const chat_job *job, size_t index, size_t start, const rendering *closed, size_t *end)
{
    char               mark[64];
    const text_string *token = closed->text ? end_token(job, closed) : NULL;
    if (!token || !json_is_string(json_object_get(json_array_get(job->messages, index + 1), "content"))) return false;
    choose_mark(job, mark, sizeof mark);
    rendering   whole = render_part(job, json_array_size(job->messages), index + 1, mark, false);
    const char *found = find_once(&whole, mark);
    size_t      next = found ? (size_t)(found - whole.text) : 0;
    bool        good = found && next > start && next <= job->length && !memcmp(job->full, whole.text, next);
    crank_free(whole.text);
    if (!good) return false;
    const char *first = memmem(job->full + start, next - start, token->bytes, token->length);
    if (!first) return false;
    *end = (size_t)(first - job->full) + token->length;
    return !memmem(job->full + *end, next - *end, token->bytes, token->length);
}

static crank_status not_found(const chat_job *job, size_t index)
{
    return crank_fail(job->context, CRANK_BAD_DATA, "message %zu: the template does not render the conversation up to this assistant turn as a "
                      "beginning of the whole, so its tokens cannot be told apart: mark assistant turns with {%% generation %%} in the template", index + 1);
}

crank_status chat_find_turn(const chat_job *job, size_t index, chat_span *out)
{
    rendering prompt = render_part(job, index, index, NULL, true), closed = render_part(job, index + 1, index + 1, NULL, false);
    bool      starts = index && begins(job, &prompt), ends = begins(job, &closed), found = true;
    chat_span content = {0};
    size_t    closing = 0;
    *out = (chat_span){prompt.length, closed.length};
    if (!starts || !ends || out->end < out->start) {
        if (find_by_mark(job, index, &content, &closing)) {
            if (!starts || out->start > content.start) out->start = content.start;
            if (!ends || out->end < content.end) out->end = closing;
        } else {
            found = starts && find_by_end_token(job, index, out->start, &closed, &out->end);
        }
    }
    crank_free(prompt.text);
    crank_free(closed.text);
    return found ? CRANK_OK : not_found(job, index);
}
