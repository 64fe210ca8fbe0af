/* tokenizer_decoder.c - ids back to text: the texts of the tokens go through the decoders, then are joined. */
#include <string.h>

#include "base/json.h"
#include "base/text.h"
#include "data/tokenizer_parts.h"

/* Token texts, one behind the other in `bytes`. */
typedef struct text_list {
    text_buffer bytes;
    size_t *ends;
    size_t count, capacity;
} text_list;

typedef struct decoding {
    crank_context *context;
    regex_scratch regex;
    text_list now, next;
} decoding;

static bool end_text(decoding *d, text_list *list)
{
    if (list->bytes.failed || !array_reserve(d->context, (void **)&list->ends, &list->capacity, list->count + 1,
                                             sizeof *list->ends, "a decoder")) {
        if (list->bytes.failed) crank_fail(d->context, CRANK_FAILED, "out of memory: decoded text");
        return false;
    }
    list->ends[list->count++] = list->bytes.length;
    return true;
}

static bool add_text(decoding *d, text_list *list, const char *text, size_t length)
{
    text_add(&list->bytes, text, length);
    return end_text(d, list);
}

/* The text of a list's i-th token. */
static const char *text_at(const text_list *list, size_t i, size_t *length)
{
    size_t start = i ? list->ends[i - 1] : 0;
    *length = list->ends[i] - start;
    return list->bytes.bytes ? list->bytes.bytes + start : "";
}

/* Invalid UTF-8 becomes U+FFFD. */
static void add_repaired(text_buffer *out, const char *text, size_t length)
{
    while (length) {
        size_t good = utf8_valid_length(text, length);
        text_add(out, text, good);
        text += good;
        length -= good;
        if (!length) break;
        size_t bad = utf8_invalid_length(text, length);
        text_puts(out, "\xEF\xBF\xBD");
        text += bad;
        length -= bad;
    }
}

/* All tokens become one text; a token with a character outside the byte-level alphabet is taken as it is. */
static bool decode_byte_level(decoding *d, const decoder *part)
{
    (void)part;
    text_buffer raw = {0};
    for (size_t i = 0; i < d->now.count; i++) {
        size_t length, size, start = raw.length;
        const char *text = text_at(&d->now, i, &length);
        for (size_t at = 0; at < length; at += size) {
            int byte = character_to_byte(utf8_get(text + at, &size));
            if (byte < 0) {
                raw.length = start;
                text_add(&raw, text, length);
                break;
            }
            text_putc(&raw, (char)byte);
        }
    }
    d->next.bytes.failed |= raw.failed;
    if (raw.bytes) add_repaired(&d->next.bytes, raw.bytes, raw.length);
    text_clear(&raw);
    return end_text(d, &d->next);
}

/* Removes the spaces that a word-wise decoding leaves before English punctuation and short forms. Each rule runs over
 * the whole text before the next. */
static bool clean_up(decoding *d, const char *text, size_t length, text_buffer *out)
{
    static const char *const rules[][2] = {{" .", "."},   {" ?", "?"},     {" !", "!"},    {" ,", ","},
                                           {" ' ", "'"},  {" n't", "n't"}, {" 'm", "'m"},  {" do not", " don't"},
                                           {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"}};
    text_buffer now = {0}, next = {0};
    text_add(&now, text, length);
    for (size_t i = 0; i < sizeof rules / sizeof rules[0] && !now.failed && !next.failed; i++) {
        size_t done = 0, taken = strlen(rules[i][0]);
        next.length = 0;
        const char *found;
        while ((found = memmem(now.bytes + done, now.length - done, rules[i][0], taken))) {
            text_add(&next, now.bytes + done, (size_t)(found - now.bytes) - done);
            text_puts(&next, rules[i][1]);
            done = (size_t)(found - now.bytes) + taken;
        }
        text_add(&next, now.bytes + done, now.length - done);
        text_buffer swap = now;
        now = next;
        next = swap;
    }
    bool good = !now.failed && !next.failed;
    if (good)
        text_add(out, now.bytes, now.length);
    else
        crank_fail(d->context, CRANK_FAILED, "out of memory: decoded text");
    text_clear(&now);
    text_clear(&next);
    return good;
}

static bool decode_wordpiece(decoding *d, const decoder *part)
{
    for (size_t i = 0; i < d->now.count; i++) {
        size_t length;
        const char *text = text_at(&d->now, i, &length);
        text_buffer word = {0};
        bool inside = i && length >= part->text.length && !memcmp(text, part->text.bytes, part->text.length);
        if (i && !inside) text_putc(&word, ' ');
        if (inside)
            text_add(&word, text + part->text.length, length - part->text.length);
        else
            text_add(&word, text, length);
        bool good = true;
        d->next.bytes.failed |= word.failed;
        if (!word.failed && part->cleanup)
            good = clean_up(d, word.bytes, word.length, &d->next.bytes);
        else if (!word.failed)
            text_add(&d->next.bytes, word.bytes, word.length);
        text_clear(&word);
        if (!good || !end_text(d, &d->next)) return false;
    }
    return true;
}

/* U+2581 becomes a space; in the first token it goes. */
static bool decode_metaspace(decoding *d, const decoder *part)
{
    for (size_t i = 0; i < d->now.count; i++) {
        size_t length, size;
        const char *text = text_at(&d->now, i, &length);
        for (size_t at = 0; at < length; at += size) {
            if (utf8_get(text + at, &size) != part->character)
                text_add(&d->next.bytes, text + at, size);
            else if (i || part->keeps_first)
                text_putc(&d->next.bytes, ' ');
        }
        if (!end_text(d, &d->next)) return false;
    }
    return true;
}

static bool decode_replace(decoding *d, const decoder *part)
{
    for (size_t i = 0; i < d->now.count; i++) {
        size_t length, done = 0, start, end;
        const char *text = text_at(&d->now, i, &length);
        regex_walk walk = {0};
        for (;;) {
            if (part->pattern.expression) {
                int found = length ? regex_next(d->context, part->pattern.expression, &d->regex, text, length, &walk,
                                                &start, &end)
                                   : 0;
                if (found < 0) return false;
                if (!found) break;
            } else {
                const char *found =
                    memmem(text + done, length - done, part->pattern.text.bytes, part->pattern.text.length);
                if (!found) break;
                start = (size_t)(found - text);
                end = start + part->pattern.text.length;
            }
            text_add(&d->next.bytes, text + done, start - done);
            text_add(&d->next.bytes, part->text.bytes, part->text.length);
            done = end;
        }
        if (!add_text(d, &d->next, text + done, length - done)) return false;
    }
    return true;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    char low = (char)(c | 32);
    return low >= 'a' && low <= 'f' ? low - 'a' + 10 : -1;
}

/* The byte that "<0xHH>" stands for, -1 for other tokens. */
static int fallback_byte(const char *text, size_t length)
{
    if (length != 6 || memcmp(text, "<0x", 3) || text[5] != '>' || hex_digit(text[4]) < 0) return -1;
    if (text[3] == '+') return hex_digit(text[4]);
    return hex_digit(text[3]) < 0 ? -1 : hex_digit(text[3]) * 16 + hex_digit(text[4]);
}

/* A run of byte tokens: its text when it is valid UTF-8, else a U+FFFD for each byte. */
static bool end_bytes(decoding *d, text_buffer *run)
{
    bool good = true;
    if (run->length && utf8_valid_length(run->bytes, run->length) == run->length) {
        good = add_text(d, &d->next, run->bytes, run->length);
    } else {
        for (size_t i = 0; good && i < run->length; i++) good = add_text(d, &d->next, "\xEF\xBF\xBD", 3);
    }
    run->length = 0;
    return good;
}

static bool decode_byte_fallback(decoding *d, const decoder *part)
{
    (void)part;
    text_buffer run = {0};
    bool good = true;
    for (size_t i = 0; good && i < d->now.count; i++) {
        size_t length;
        const char *text = text_at(&d->now, i, &length);
        int byte = fallback_byte(text, length);
        if (byte >= 0)
            text_putc(&run, (char)byte);
        else
            good = end_bytes(d, &run) && add_text(d, &d->next, text, length);
    }
    good = good && end_bytes(d, &run);
    if (run.failed) {
        crank_fail(d->context, CRANK_FAILED, "out of memory: decoded text");
        good = false;
    }
    text_clear(&run);
    return good;
}

static bool decode_fuse(decoding *d, const decoder *part)
{
    (void)part;
    return add_text(d, &d->next, d->now.bytes.bytes ? d->now.bytes.bytes : "", d->now.bytes.length);
}

/* Takes up to `start` and `stop` of a character off both ends of each token. */
static bool decode_strip(decoding *d, const decoder *part)
{
    for (size_t i = 0; i < d->now.count; i++) {
        size_t length, size;
        uint32_t c;
        const char *text = text_at(&d->now, i, &length);
        for (size_t n = 0; n < part->start && length && utf8_get(text, &size) == part->character; n++) {
            text += size;
            length -= size;
        }
        for (size_t n = 0; n < part->stop && length; n++) {
            size = utf8_last(text, length, &c);
            if (c != part->character) break;
            length -= size;
        }
        if (!add_text(d, &d->next, text, length)) return false;
    }
    return true;
}

static void add_replaced(text_buffer *out, const char *text, size_t length, const text_string *old, const char *new)
{
    size_t done = 0;
    const char *found;
    while (old->length && (found = memmem(text + done, length - done, old->bytes, old->length))) {
        text_add(out, text + done, (size_t)(found - text) - done);
        text_puts(out, new);
        done = (size_t)(found - text) + old->length;
    }
    text_add(out, text + done, length - done);
}

/* The suffix that ends words becomes a space, none at the end of the text. */
static bool decode_bpe(decoding *d, const decoder *part)
{
    for (size_t i = 0; i < d->now.count; i++) {
        size_t length;
        const char *text = text_at(&d->now, i, &length);
        add_replaced(&d->next.bytes, text, length, &part->text, i + 1 < d->now.count ? " " : "");
        if (!end_text(d, &d->next)) return false;
    }
    return true;
}

/* Connectionist temporal classification: repeated tokens count once, the pad token is silence. */
static bool decode_ctc(decoding *d, const decoder *part)
{
    const char *before = NULL;
    size_t before_length = 0, length;
    for (size_t i = 0; i < d->now.count; i++, before_length = length) {
        const char *text = text_at(&d->now, i, &length);
        bool repeated = before && before_length == length && !memcmp(before, text, length);
        before = text;
        if (repeated) continue;
        text_buffer word = {0}, cleaned = {0};
        size_t start = d->next.bytes.length;
        add_replaced(&word, text, length, &part->pad, "");
        bool good = !word.failed;
        if (good && part->cleanup) {
            good = clean_up(d, word.bytes, word.length, &cleaned);
            if (good) add_replaced(&d->next.bytes, cleaned.bytes, cleaned.length, &part->text, " ");
        } else if (good) {
            text_add(&d->next.bytes, word.bytes, word.length);
        } else {
            crank_fail(d->context, CRANK_FAILED, "out of memory: decoded text");
        }
        text_clear(&word);
        text_clear(&cleaned);
        if (!good || (d->next.bytes.length > start && !end_text(d, &d->next))) return false;
    }
    return true;
}

static bool run_decoder(decoding *d, const decoder *part)
{
    static bool (*const run[])(decoding *, const decoder *) = {
        decode_byte_level, decode_wordpiece, decode_metaspace, decode_replace, decode_byte_fallback,
        decode_fuse,       decode_strip,     decode_bpe,       decode_ctc};
    d->next.bytes.length = d->next.count = 0;
    if (!run[part->type](d, part)) return false;
    text_list swap = d->now;
    d->now = d->next;
    d->next = swap;
    return true;
}

/* Texts of the ids, special ones left out when asked. An id without a text gives none: models may have more outputs
 * than their tokenizer has tokens. */
static bool collect(decoding *d, const crank_tokenizer *tokenizer, const int32_t *ids, size_t count, bool skip_special)
{
    for (size_t i = 0; i < count; i++) {
        const added_token *added = added_find(tokenizer, ids[i]);
        if (added && added->special && skip_special) continue;
        size_t length = 0;
        const char *text = vocabulary_text(&tokenizer->words, ids[i], &length);
        if (text && skip_special && !added) { /* a vocabulary may hold the text of a special token twice */
            const added_token *same = added_find(tokenizer, vocabulary_find(&tokenizer->words, text, length));
            if (same && same->special) continue;
        }
        if (added) { /* decoders undo what normalisers did, so they get the normalised form */
            const text_string *form = added->normalized_content.bytes ? &added->normalized_content : &added->content;
            text = form->bytes;
            length = form->length;
        }
        if (text && !add_text(d, &d->now, text, length)) return false;
    }
    return true;
}

char *crank_decode(crank_context *context, const crank_tokenizer *tokenizer, const int32_t *ids, size_t count,
                   bool skip_special, size_t *length)
{
    decoding d = {.context = context};
    text_buffer out = {0};
    bool good = collect(&d, tokenizer, ids, count, skip_special);
    for (size_t i = 0; good && i < tokenizer->decoder_count; i++) good = run_decoder(&d, &tokenizer->decoders[i]);
    for (size_t i = 0; good && i < d.now.count; i++) {
        size_t size;
        const char *text = text_at(&d.now, i, &size);
        if (i && !tokenizer->has_decoder) text_putc(&out, ' ');
        text_add(&out, text, size);
    }
    size_t total = out.length;
    char *text = good ? text_take(context, &out, "decoded text") : NULL;
    if (!text) text_clear(&out);
    if (text && length) *length = total;
    text_clear(&d.now.bytes);
    text_clear(&d.next.bytes);
    crank_free(d.now.ends);
    crank_free(d.next.ends);
    regex_scratch_clear(&d.regex);
    return text;
}

void decoder_clear(decoder *part)
{
    text_string_clear(&part->text);
    text_string_clear(&part->pad);
    text_pattern_clear(&part->pattern);
    *part = (decoder){0};
}

static crank_status load_strip(crank_context *context, decoder *part, const json_t *object)
{
    int64_t start, stop;
    crank_status status = json_need_character(context, object, "content", &part->character);
    if (!status) status = json_need_int(context, object, "start", 0, INT32_MAX, &start, "Strip");
    if (!status) status = json_need_int(context, object, "stop", 0, INT32_MAX, &stop, "Strip");
    if (status) return status;
    part->start = (size_t)start;
    part->stop = (size_t)stop;
    return CRANK_OK;
}

static crank_status load_metaspace(crank_context *context, decoder *part, const json_t *object)
{
    bool prefix;
    crank_status status = json_need_character(context, object, "replacement", &part->character);
    if (!status) status = json_get_bool(context, object, "add_prefix_space", true, &prefix, "Metaspace");
    if (status) return status;
    const char *scheme = json_get_string(context, object, "prepend_scheme", "Metaspace", &status);
    part->keeps_first = !prefix || (scheme && !strcmp(scheme, "never"));
    return status;
}

static crank_status load_ctc(crank_context *context, decoder *part, const json_t *object)
{
    crank_status status = json_need_text(context, object, "pad_token", &part->pad);
    if (!status) status = json_need_text(context, object, "word_delimiter_token", &part->text);
    return status ? status : json_need_bool(context, object, "cleanup", &part->cleanup);
}

static crank_status load_decoder(crank_context *context, crank_tokenizer *tokenizer, const json_t *object,
                                 const char *type)
{
    static const char *const types[] = {"ByteLevel", "WordPiece", "Metaspace",  "Replace", "ByteFallback",
                                        "Fuse",      "Strip",     "BPEDecoder", "CTC"};
    size_t i = 0, count = sizeof types / sizeof types[0];
    while (i < count && strcmp(type, types[i])) i++;
    if (i == count) return crank_fail(context, CRANK_BAD_DATA, "this type of decoder is not known");
    size_t capacity = tokenizer->decoder_count;
    if (!array_reserve(context, (void **)&tokenizer->decoders, &capacity, capacity + 1, sizeof(decoder), "decoders"))
        return CRANK_FAILED;
    decoder *part = &tokenizer->decoders[tokenizer->decoder_count++];
    *part = (decoder){.type = (decoder_type)i};
    crank_status status;
    switch (part->type) {
    case DECODER_WORDPIECE:
        status = json_need_text(context, object, "prefix", &part->text);
        return status ? status : json_need_bool(context, object, "cleanup", &part->cleanup);
    case DECODER_REPLACE:
        status = json_need_pattern(context, object, "pattern", &part->pattern);
        return status ? status : json_need_text(context, object, "content", &part->text);
    case DECODER_METASPACE:
        return load_metaspace(context, part, object);
    case DECODER_STRIP:
        return load_strip(context, part, object);
    case DECODER_BPE:
        return json_need_text(context, object, "suffix", &part->text);
    case DECODER_CTC:
        return load_ctc(context, part, object);
    default:
        return CRANK_OK;
    }
}

crank_status decoders_load(crank_context *context, crank_tokenizer *tokenizer, const json_t *value)
{
    tokenizer->has_decoder = value && !json_is_null(value);
    return components_load(context, tokenizer, value, "decoders", "decoder", load_decoder);
}
