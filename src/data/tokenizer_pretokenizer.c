/* tokenizer_pretokenizer.c - what cuts the normalised text into words. */
#include <string.h>

#include "base/json.h"
#include "data/tokenizer_parts.h"

const char gpt2_pattern[] = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

bool cut_at_pattern(encoder *e, const piece *old, const text_pattern *pattern, bool invert, split_behavior behavior)
{
    const char *text = e->text + old->start;
    size_t length = old->end - old->start, done = 0, start, end;
    splitter s = {.behavior = behavior};
    regex_walk walk = {0};
    for (;;) {
        if (pattern->expression) {
            int found = regex_next(e->context, pattern->expression, &e->regex, text, length, &walk, &start, &end);
            if (found < 0) return false;
            if (!found) break;
        } else {
            const char *found = memmem(text + done, length - done, pattern->text.bytes, pattern->text.length);
            if (!found) break;
            start = (size_t)(found - text);
            end = start + pattern->text.length;
        }
        if (start > done && !splitter_take(e, &s, old->start + done, old->start + start, invert)) return false;
        if (!splitter_take(e, &s, old->start + start, old->start + end, !invert)) return false;
        done = end;
    }
    if (done < length && !splitter_take(e, &s, old->start + done, old->end, invert)) return false;
    return splitter_finish(e, &s);
}

/* Each character that a predicate picks is a delimiter of its own. */
typedef bool pick_character(const pretokenizer *part, uint32_t c);

static bool cut_at_characters(encoder *e, const pretokenizer *part, const piece *old, pick_character *pick,
                              split_behavior behavior)
{
    splitter s = {.behavior = behavior};
    size_t done = old->start, size;
    for (size_t at = old->start; at < old->end; at += size) {
        if (!pick(part, utf8_get(e->text + at, &size))) continue;
        if (at > done && !splitter_take(e, &s, done, at, false)) return false;
        if (!splitter_take(e, &s, at, at + size, true)) return false;
        done = at + size;
    }
    if (done < old->end && !splitter_take(e, &s, done, old->end, false)) return false;
    return splitter_finish(e, &s);
}

static bool pick_space(const pretokenizer *part, uint32_t c)
{
    (void)part;
    return unicode_is_whitespace(c);
}

static bool pick_punctuation(const pretokenizer *part, uint32_t c)
{
    (void)part;
    return unicode_is_punctuation(c);
}

static bool pick_digit(const pretokenizer *part, uint32_t c)
{
    (void)part;
    return unicode_is_numeric(c);
}

static bool pick_given(const pretokenizer *part, uint32_t c)
{
    return c == part->character;
}

static bool cut_whitespace_split(encoder *e, const void *part, const piece *old)
{
    return cut_at_characters(e, part, old, pick_space, SPLIT_REMOVED);
}

static bool cut_punctuation(encoder *e, const void *part, const piece *old)
{
    return cut_at_characters(e, part, old, pick_punctuation, ((const pretokenizer *)part)->behavior);
}

static bool cut_digits(encoder *e, const void *part, const piece *old)
{
    const pretokenizer *p = part;
    return cut_at_characters(e, p, old, pick_digit, p->individual ? SPLIT_ISOLATED : SPLIT_CONTIGUOUS);
}

static bool cut_delimiter(encoder *e, const void *part, const piece *old)
{
    return cut_at_characters(e, part, old, pick_given, SPLIT_REMOVED);
}

/* White space goes, punctuation stands alone. */
static bool cut_bert(encoder *e, const void *part, const piece *old)
{
    (void)part;
    size_t done = old->start, size;
    for (size_t at = old->start; at < old->end; at += size) {
        uint32_t c = utf8_get(e->text + at, &size);
        bool space = unicode_is_whitespace(c);
        if (!space && !unicode_is_punctuation(c)) continue;
        if (!work_add_piece(e, done, at, -1) || (!space && !work_add_piece(e, at, at + size, -1))) return false;
        done = at + size;
    }
    return work_add_piece(e, done, old->end, -1);
}

/* The words of \w+|[^\w\s]+ */
static bool cut_whitespace(encoder *e, const void *part, const piece *old)
{
    (void)part;
    size_t done = old->start, size;
    int before = 0; /* 0 space, 1 word, 2 other */
    for (size_t at = old->start; at < old->end; at += size) {
        uint32_t c = utf8_get(e->text + at, &size);
        int kind = unicode_is_word(c) ? 1 : unicode_is_whitespace(c) ? 0 : 2;
        if (kind == before) continue;
        if (before && !work_add_piece(e, done, at, -1)) return false;
        done = at;
        before = kind;
    }
    return !before || work_add_piece(e, done, old->end, -1);
}

static bool cut_fixed(encoder *e, const void *part, const piece *old)
{
    const pretokenizer *p = part;
    size_t start = old->start, characters = 0;
    for (size_t at = old->start; at < old->end;) {
        at += utf8_size((unsigned char)e->text[at]);
        if (++characters < p->length && at < old->end) continue;
        if (!work_add_piece(e, start, at, -1)) return false;
        start = at;
        characters = 0;
    }
    return true;
}

static bool cut_split(encoder *e, const void *part, const piece *old)
{
    const pretokenizer *p = part;
    return cut_at_pattern(e, old, &p->pattern, p->invert, p->behavior);
}

/* ---- ByteLevel: a space in front, GPT-2's words, the byte-level alphabet */
static bool change_prefix_space(encoder *e, const void *part, const piece *old)
{
    (void)part;
    source_span span = e->keeps_spans ? e->spans[old->start] : (source_span){0, 0};
    if (e->text[old->start] != ' ' && !work_append(e, " ", 1, span)) return false;
    return work_copy(e, old->start, old->end - old->start);
}

static bool cut_byte_level(encoder *e, const void *part, const piece *old)
{
    return cut_at_pattern(e, old, &((const pretokenizer *)part)->pattern, false, SPLIT_ISOLATED);
}

static bool run_byte_level(encoder *e, const pretokenizer *p)
{
    return (!p->add_prefix_space || work_edit(e, change_prefix_space, p)) &&
           (!p->use_regex || work_split(e, cut_byte_level, p)) &&
           (p->deferred || work_edit(e, change_to_byte_level, p));
}

/* ---- Metaspace: spaces become U+2581, one may be put in front, words begin with it */
static bool change_metaspace(encoder *e, const void *part, const piece *old)
{
    const pretokenizer *p = part;
    char mark[4];
    size_t mark_length = utf8_put(p->character, mark), size;
    bool first = e->keeps_spans ? e->spans[old->start].start == 0 : old->start == 0;
    if (p->scheme == PREPEND_ALWAYS || (p->scheme == PREPEND_FIRST && first)) {
        uint32_t c = utf8_get(e->text + old->start, &size);
        source_span span = e->keeps_spans ? e->spans[old->start] : (source_span){0, 0};
        if (c != ' ' && c != p->character && !work_append(e, mark, mark_length, span)) return false;
    }
    size_t done = old->start;
    while (done < old->end) {
        const char *space = memchr(e->text + done, ' ', old->end - done);
        size_t at = space ? (size_t)(space - e->text) : old->end;
        if (!work_copy(e, done, at - done)) return false;
        if (space && !work_append(e, mark, mark_length, e->keeps_spans ? e->spans[at] : (source_span){0, 0}))
            return false;
        done = at + 1;
    }
    return true;
}

static bool cut_metaspace(encoder *e, const void *part, const piece *old)
{
    return cut_at_characters(e, part, old, pick_given, SPLIT_NEXT);
}

bool pretokenizer_run(encoder *e, const pretokenizer *p)
{
    if (!e->pieces.count) return true;
    switch (p->type) {
    case PRETOKENIZER_BYTE_LEVEL:
        return run_byte_level(e, p);
    case PRETOKENIZER_SPLIT:
        return work_split(e, cut_split, p);
    case PRETOKENIZER_METASPACE:
        return work_edit(e, change_metaspace, p) && (!p->split || work_split(e, cut_metaspace, p));
    case PRETOKENIZER_BERT:
        return work_split(e, cut_bert, p);
    case PRETOKENIZER_WHITESPACE:
        return work_split(e, cut_whitespace, p);
    case PRETOKENIZER_WHITESPACE_SPLIT:
        return work_split(e, cut_whitespace_split, p);
    case PRETOKENIZER_PUNCTUATION:
        return work_split(e, cut_punctuation, p);
    case PRETOKENIZER_DIGITS:
        return work_split(e, cut_digits, p);
    case PRETOKENIZER_DELIMITER:
        return work_split(e, cut_delimiter, p);
    case PRETOKENIZER_FIXED:
        return work_split(e, cut_fixed, p);
    }
    return false;
}

void pretokenizer_clear(pretokenizer *p)
{
    text_pattern_clear(&p->pattern);
    *p = (pretokenizer){0};
}

static crank_status load_behavior(crank_context *context, const json_t *object, split_behavior *behavior)
{
    const json_t *name = json_object_get(object, "behavior");
    if (json_is_string(name) && split_behavior_parse(json_string_value(name), behavior)) return CRANK_OK;
    return crank_fail(context, CRANK_BAD_DATA,
                      "`behavior` must be Removed, Isolated, MergedWithPrevious, MergedWithNext or Contiguous");
}

static crank_status load_byte_level(crank_context *context, pretokenizer *p, const json_t *object)
{
    crank_status status = json_need_bool(context, object, "add_prefix_space", &p->add_prefix_space);
    if (!status) status = json_get_bool(context, object, "use_regex", true, &p->use_regex, "ByteLevel");
    if (!status && p->use_regex) {
        p->pattern.expression = regex_new(context, gpt2_pattern, strlen(gpt2_pattern));
        if (!p->pattern.expression) status = crank_last_status(context);
    }
    return status;
}

/* Old files say add_prefix_space, new ones prepend_scheme; both must agree. */
static crank_status load_metaspace(crank_context *context, pretokenizer *p, const json_t *object)
{
    bool prefix;
    crank_status status = json_need_character(context, object, "replacement", &p->character);
    if (!status) status = json_get_bool(context, object, "add_prefix_space", true, &prefix, "Metaspace");
    if (!status) status = json_get_bool(context, object, "split", true, &p->split, "Metaspace");
    if (status) return status;
    const char *scheme = json_get_string(context, object, "prepend_scheme", "Metaspace", &status);
    if (status) return status;
    if (scheme && strcmp(scheme, "always") && strcmp(scheme, "first") && strcmp(scheme, "never"))
        return crank_fail(context, CRANK_BAD_DATA, "`prepend_scheme` must be always, first or never");
    p->scheme = !scheme || *scheme == 'a' ? PREPEND_ALWAYS : *scheme == 'f' ? PREPEND_FIRST : PREPEND_NEVER;
    if (!prefix && scheme && p->scheme != PREPEND_NEVER)
        return crank_fail(context, CRANK_BAD_DATA, "`add_prefix_space` is false but `prepend_scheme` is %s", scheme);
    if (!prefix) p->scheme = PREPEND_NEVER;
    return CRANK_OK;
}

static crank_status load_pretokenizer(crank_context *context, crank_tokenizer *tokenizer, const json_t *object,
                                      const char *type)
{
    static const char *const types[] = {"ByteLevel",          "Split",           "Metaspace",   "BertPreTokenizer",
                                        "Whitespace",         "WhitespaceSplit", "Punctuation", "Digits",
                                        "CharDelimiterSplit", "FixedLength"};
    size_t i = 0, count = sizeof types / sizeof types[0];
    while (i < count && strcmp(type, types[i])) i++;
    if (i == count) return crank_fail(context, CRANK_BAD_DATA, "this type of pre-tokenizer is not known");
    size_t capacity = tokenizer->pretokenizer_count;
    if (!array_reserve(context, (void **)&tokenizer->pretokenizers, &capacity, capacity + 1, sizeof(pretokenizer),
                       "pre-tokenizers"))
        return CRANK_FAILED;
    pretokenizer *p = &tokenizer->pretokenizers[tokenizer->pretokenizer_count++];
    *p = (pretokenizer){.type = (pretokenizer_type)i, .behavior = SPLIT_ISOLATED};
    crank_status status;
    int64_t length;
    switch (p->type) {
    case PRETOKENIZER_BYTE_LEVEL:
        return load_byte_level(context, p, object);
    case PRETOKENIZER_METASPACE:
        return load_metaspace(context, p, object);
    case PRETOKENIZER_DELIMITER:
        return json_need_character(context, object, "delimiter", &p->character);
    case PRETOKENIZER_DIGITS:
        return json_need_bool(context, object, "individual_digits", &p->individual);
    case PRETOKENIZER_PUNCTUATION:
        return json_object_get(object, "behavior") ? load_behavior(context, object, &p->behavior) : CRANK_OK;
    case PRETOKENIZER_FIXED:
        status = json_get_int(context, object, "length", 1, INT32_MAX, 5, &length, "FixedLength");
        p->length = status ? 1 : (size_t)length;
        return status;
    case PRETOKENIZER_SPLIT:
        status = json_need_pattern(context, object, "pattern", &p->pattern);
        if (!status) status = load_behavior(context, object, &p->behavior);
        return status ? status : json_need_bool(context, object, "invert", &p->invert);
    default:
        return CRANK_OK;
    }
}

crank_status pretokenizers_load(crank_context *context, crank_tokenizer *tokenizer, const json_t *value)
{
    return components_load(context, tokenizer, value, "pretokenizers", "pre_tokenizer", load_pretokenizer);
}
