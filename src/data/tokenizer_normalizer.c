/* tokenizer_normalizer.c - what changes the text before it is cut into words. */
#include <string.h>

#include "base/json.h"
#include "data/tokenizer_parts.h"

/* Characters that a filter takes out; what stays is mapped to one character. */
typedef uint32_t map_character(const void *part, uint32_t c); /* REMOVED: it goes */
#define REMOVED UINT32_MAX

static bool change_filter(encoder *e, const void *part, const piece *old, map_character *map)
{
    work_editor editor = {old->start, old->start};
    size_t size;
    while (editor.at < old->end) {
        uint32_t c = utf8_get(e->text + editor.at, &size), mapped = map(part, c);
        if (mapped == REMOVED)
            editor.at += size;
        else if (!work_put(e, &editor, (unicode_edit){mapped, 0}))
            return false;
    }
    return true;
}

static bool reserve_edits(encoder *e, size_t count)
{
    return array_reserve(e->context, (void **)&e->edits, &e->edits_capacity, count, sizeof *e->edits,
                         "a normal form") &&
           array_reserve(e->context, (void **)&e->sorted, &e->sorted_capacity, count, sizeof *e->sorted,
                         "a normal form");
}

/* One stretch of characters that may combine: [start, end) of the old text. */
static bool change_form_stretch(encoder *e, size_t start, size_t end, size_t piece_start, bool compose,
                                bool compatibility)
{
    size_t count = 0, size;
    for (size_t at = start; at < end; at += size) {
        uint32_t out[UNICODE_EXPANSION];
        size_t expanded = unicode_decompose(utf8_get(e->text + at, &size), compatibility, out);
        if (count + expanded > e->edits_capacity && !reserve_edits(e, count + expanded)) return false;
        for (size_t i = 0; i < expanded; i++) e->edits[count++] = (unicode_edit){out[i], i > 0};
    }
    unicode_reorder(e->edits, count, e->sorted);
    if (compose) count = unicode_recompose(e->edits, count);
    work_editor editor = {start, piece_start};
    for (size_t i = 0; i < count; i++)
        if (!work_put(e, &editor, e->edits[i])) return false;
    return true;
}

bool change_form(encoder *e, const piece *old, bool compose, bool compatibility)
{
    size_t at = old->start, size;
    while (at < old->end) {
        /* inert characters are copied, but for the last before others: it may take a combining character */
        size_t start = at;
        while (at < old->end && unicode_is_inert(utf8_get(e->text + at, &size))) at += size;
        size_t end = at;
        while (end < old->end && !unicode_is_inert(utf8_get(e->text + end, &size))) end += size;
        if (at > start && end > at) {
            uint32_t c;
            at -= utf8_last(e->text + start, at - start, &c);
        }
        if (!work_copy(e, start, at - start)) return false;
        if (end > at && !change_form_stretch(e, at, end, old->start, compose, compatibility)) return false;
        at = end;
    }
    return true;
}

static bool change_form_part(encoder *e, const void *part, const piece *old)
{
    const normalizer *n = part;
    return change_form(e, old, n->compose, n->compatibility);
}

static bool change_lower(encoder *e, const void *part, const piece *old)
{
    (void)part;
    work_editor editor = {old->start, old->start};
    size_t size;
    while (editor.at < old->end) {
        uint32_t out[2];
        size_t count = unicode_lower(utf8_get(e->text + editor.at, &size), out);
        for (size_t i = 0; i < count; i++)
            if (!work_put(e, &editor, (unicode_edit){out[i], i > 0})) return false;
    }
    return true;
}

/* ---- BERT: clean, put spaces around ideographs, strip accents, lower */
static uint32_t bert_clean(const void *part, uint32_t c)
{
    (void)part;
    if (c == '\t' || c == '\n' || c == '\r') return ' ';
    if (unicode_is_other(c)) return REMOVED;
    return unicode_is_whitespace(c) ? ' ' : c;
}

static bool change_clean(encoder *e, const void *part, const piece *old)
{
    return change_filter(e, part, old, bert_clean);
}

static bool change_ideographs(encoder *e, const void *part, const piece *old)
{
    (void)part;
    work_editor editor = {old->start, old->start};
    size_t size;
    while (editor.at < old->end) {
        uint32_t c = utf8_get(e->text + editor.at, &size);
        if (unicode_is_ideograph(c)) { /* the space replaces the character, which then belongs to it */
            if (!work_put(e, &editor, (unicode_edit){' ', 0}) || !work_put(e, &editor, (unicode_edit){c, 1}) ||
                !work_put(e, &editor, (unicode_edit){' ', 1}))
                return false;
        } else if (!work_put(e, &editor, (unicode_edit){c, 0})) {
            return false;
        }
    }
    return true;
}

static uint32_t without_nonspacing(const void *part, uint32_t c)
{
    (void)part;
    return unicode_is_nonspacing(c) ? REMOVED : c;
}

static uint32_t without_marks(const void *part, uint32_t c)
{
    (void)part;
    return unicode_is_mark(c) ? REMOVED : c;
}

static bool change_strip_nonspacing(encoder *e, const void *part, const piece *old)
{
    return change_filter(e, part, old, without_nonspacing);
}

static bool change_strip_marks(encoder *e, const void *part, const piece *old)
{
    return change_filter(e, part, old, without_marks);
}

static bool change_nfd(encoder *e, const void *part, const piece *old)
{
    (void)part;
    return change_form(e, old, false, false);
}

/* ---- the four steps of BERT in one pass, for texts whose origin nobody asks for */
static bool add_edit(encoder *e, size_t *count, uint32_t c)
{
    if (*count == e->edits_capacity && !reserve_edits(e, *count + 1)) return false;
    e->edits[(*count)++] = (unicode_edit){c, 0};
    return true;
}

static bool bert_ascii(encoder *e, const normalizer *n, size_t start, size_t end)
{
    char line[512];
    source_span none = {0, 0};
    while (start < end) {
        size_t used = 0;
        for (; start < end && used < sizeof line; start++) {
            char c = e->text[start];
            if (n->clean_text && (c == '\t' || c == '\n' || c == '\r')) c = ' ';
            if (n->clean_text && (c < ' ' || c == 0x7F)) continue;
            if (n->lowercase && c >= 'A' && c <= 'Z') c = (char)(c + 32);
            line[used++] = c;
        }
        if (!work_append(e, line, used, none)) return false;
    }
    return true;
}

/* Decomposition and reordering never look past an ASCII character, so a stretch without any stands alone. */
static bool bert_other(encoder *e, const normalizer *n, size_t start, size_t end)
{
    size_t count = 0, size;
    source_span none = {0, 0};
    for (size_t at = start; at < end; at += size) {
        uint32_t c = utf8_get(e->text + at, &size), out[UNICODE_EXPANSION];
        if (n->clean_text && (c = bert_clean(n, c)) == REMOVED) continue;
        bool apart = n->ideographs && unicode_is_ideograph(c);
        size_t expanded = n->strip_accents ? unicode_decompose(c, false, out) : (out[0] = c, 1);
        if (apart && !add_edit(e, &count, ' ')) return false;
        for (size_t i = 0; i < expanded; i++)
            if (!add_edit(e, &count, out[i])) return false;
        if (apart && !add_edit(e, &count, ' ')) return false;
    }
    if (n->strip_accents) unicode_reorder(e->edits, count, e->sorted);
    for (size_t i = 0; i < count; i++) {
        uint32_t lower[2] = {e->edits[i].character};
        char bytes[8];
        if (n->strip_accents && unicode_is_nonspacing(lower[0])) continue;
        size_t letters = n->lowercase ? unicode_lower(lower[0], lower) : 1, length = utf8_put(lower[0], bytes);
        if (letters == 2) length += utf8_put(lower[1], bytes + length);
        if (!work_append(e, bytes, length, none)) return false;
    }
    return true;
}

static bool change_bert(encoder *e, const void *part, const piece *old)
{
    for (size_t at = old->start; at < old->end;) {
        size_t start = at;
        while (at < old->end && (unsigned char)e->text[at] < 0x80) at++;
        if (!bert_ascii(e, part, start, at)) return false;
        start = at;
        while (at < old->end && (unsigned char)e->text[at] >= 0x80) at++;
        if (!bert_other(e, part, start, at)) return false;
    }
    return true;
}

static bool is_ascii(const char *text, size_t length)
{
    unsigned char seen = 0;
    for (size_t i = 0; i < length; i++) seen |= (unsigned char)text[i];
    return seen < 0x80;
}

static bool run_bert(encoder *e, const normalizer *n)
{
    if (!e->keeps_spans) return work_edit(e, change_bert, n);
    return (!n->clean_text || work_edit(e, change_clean, n)) &&
           (!n->ideographs || work_edit(e, change_ideographs, n)) &&
           (!n->strip_accents || (work_edit(e, change_nfd, n) && work_edit(e, change_strip_nonspacing, n))) &&
           (!n->lowercase || work_edit(e, change_lower, n));
}

/* ---- the rest */
static bool change_strip(encoder *e, const void *part, const piece *old)
{
    const normalizer *n = part;
    size_t start = old->start, end = old->end, size;
    uint32_t c;
    while (n->left && start < end && unicode_is_whitespace(utf8_get(e->text + start, &size))) start += size;
    while (n->right && end > start && (size = utf8_last(e->text + start, end - start, &c), unicode_is_whitespace(c)))
        end -= size;
    return work_copy(e, start, end - start);
}

static uint32_t nmt(const void *part, uint32_t c)
{
    (void)part;
    if ((c >= 1 && c <= 8) || c == 0xB || (c >= 0xE && c <= 0x1F) || c == 0x7F || c == 0x8F || c == 0x9F)
        return REMOVED;
    if (c == 9 || c == 10 || c == 12 || c == 13 || c == 0x1680 || (c >= 0x200B && c <= 0x200F) || c == 0x2028 ||
        c == 0x2029 || c == 0x2581 || c == 0xFEFF || c == 0xFFFD)
        return ' ';
    return c;
}

static bool change_nmt(encoder *e, const void *part, const piece *old)
{
    return change_filter(e, part, old, nmt);
}

/* The content belongs to the last character that it replaces, or to the one before an empty match. */
static source_span replaced_span(const encoder *e, const piece *old, size_t end)
{
    if (!e->keeps_spans) return (source_span){0, 0};
    if (end > old->start) return e->spans[end - 1];
    return (source_span){e->spans[old->start].start, e->spans[old->start].start};
}

static bool change_replace(encoder *e, const void *part, const piece *old)
{
    const normalizer *n = part;
    const char *text = e->text + old->start;
    size_t length = old->end - old->start, done = 0;
    regex_walk walk = {0};
    for (;;) {
        size_t start, end;
        if (n->pattern.expression) {
            int found = regex_next(e->context, n->pattern.expression, &e->regex, text, length, &walk, &start, &end);
            if (found < 0) return false;
            if (!found) break;
        } else {
            const char *found = memmem(text + done, length - done, n->pattern.text.bytes, n->pattern.text.length);
            if (!found) break;
            start = (size_t)(found - text);
            end = start + n->pattern.text.length;
        }
        if (!work_copy(e, old->start + done, start - done) ||
            !work_append(e, n->content.bytes, n->content.length, replaced_span(e, old, old->start + end)))
            return false;
        done = end;
    }
    return work_copy(e, old->start + done, length - done);
}

static bool change_prepend(encoder *e, const void *part, const piece *old)
{
    const normalizer *n = part;
    source_span span = e->keeps_spans ? e->spans[old->start] : (source_span){0, 0};
    return work_append(e, n->content.bytes, n->content.length, span) && work_copy(e, old->start, old->end - old->start);
}

static bool change_precompiled(encoder *e, const void *part, const piece *old)
{
    return charsmap_change(e, ((const normalizer *)part)->map, old);
}

bool normalizer_run(encoder *e, const normalizer *n)
{
    if (!e->pieces.count) return true;
    switch (n->type) {
    case NORMALIZER_BERT:
        return run_bert(e, n);
    case NORMALIZER_FORM:
        return is_ascii(e->text, e->text_length) || work_edit(e, change_form_part, n);
    case NORMALIZER_LOWERCASE:
        return work_edit(e, change_lower, n);
    case NORMALIZER_STRIP:
        return work_edit(e, change_strip, n);
    case NORMALIZER_STRIP_ACCENTS:
        return is_ascii(e->text, e->text_length) || work_edit(e, change_strip_marks, n);
    case NORMALIZER_REPLACE:
        return work_edit(e, change_replace, n);
    case NORMALIZER_PREPEND:
        return work_edit(e, change_prepend, n);
    case NORMALIZER_NMT:
        return work_edit(e, change_nmt, n);
    case NORMALIZER_BYTE_LEVEL:
        return work_edit(e, change_to_byte_level, n);
    case NORMALIZER_PRECOMPILED:
        return work_edit(e, change_precompiled, n);
    }
    return false;
}

void normalizer_clear(normalizer *n)
{
    text_pattern_clear(&n->pattern);
    text_string_clear(&n->content);
    charsmap_free(n->map);
    *n = (normalizer){0};
}

static crank_status load_bert(crank_context *context, normalizer *n, const json_t *object)
{
    crank_status status = json_need_bool(context, object, "clean_text", &n->clean_text);
    if (!status) status = json_need_bool(context, object, "handle_chinese_chars", &n->ideographs);
    if (!status) status = json_need_bool(context, object, "lowercase", &n->lowercase);
    /* null: accents go when case goes */
    if (!status)
        status = json_get_bool(context, object, "strip_accents", n->lowercase, &n->strip_accents, "BertNormalizer");
    return status;
}

static crank_status load_precompiled(crank_context *context, normalizer *n, const json_t *object)
{
    const json_t *map = json_object_get(object, "precompiled_charsmap");
    if (!json_is_string(map)) return crank_fail(context, CRANK_BAD_DATA, "`precompiled_charsmap` must be a string");
    n->map = charsmap_new(context, json_string_value(map), json_string_length(map));
    return n->map ? CRANK_OK : crank_last_status(context);
}

static crank_status load_normalizer(crank_context *context, crank_tokenizer *tokenizer, const json_t *object,
                                    const char *type)
{
    static const struct {
        const char *name;
        normalizer_type type;
        bool compose, compatibility;
    } types[] = {{"BertNormalizer", NORMALIZER_BERT, 0, 0},
                 {"NFC", NORMALIZER_FORM, 1, 0},
                 {"NFD", NORMALIZER_FORM, 0, 0},
                 {"NFKC", NORMALIZER_FORM, 1, 1},
                 {"NFKD", NORMALIZER_FORM, 0, 1},
                 {"Lowercase", NORMALIZER_LOWERCASE, 0, 0},
                 {"Strip", NORMALIZER_STRIP, 0, 0},
                 {"StripAccents", NORMALIZER_STRIP_ACCENTS, 0, 0},
                 {"Replace", NORMALIZER_REPLACE, 0, 0},
                 {"Prepend", NORMALIZER_PREPEND, 0, 0},
                 {"Nmt", NORMALIZER_NMT, 0, 0},
                 {"ByteLevel", NORMALIZER_BYTE_LEVEL, 0, 0},
                 {"Precompiled", NORMALIZER_PRECOMPILED, 0, 0}};
    size_t i = 0, count = sizeof types / sizeof types[0];
    while (i < count && strcmp(type, types[i].name)) i++;
    if (i == count) return crank_fail(context, CRANK_BAD_DATA, "this type of normaliser is not known");
    size_t capacity = tokenizer->normalizer_count;
    if (!array_reserve(context, (void **)&tokenizer->normalizers, &capacity, capacity + 1, sizeof(normalizer),
                       "normalisers"))
        return CRANK_FAILED;
    normalizer *n = &tokenizer->normalizers[tokenizer->normalizer_count++];
    *n = (normalizer){.type = types[i].type, .compose = types[i].compose, .compatibility = types[i].compatibility};
    crank_status status = CRANK_OK;
    switch (n->type) {
    case NORMALIZER_BERT:
        return load_bert(context, n, object);
    case NORMALIZER_STRIP:
        status = json_need_bool(context, object, "strip_left", &n->left);
        return status ? status : json_need_bool(context, object, "strip_right", &n->right);
    case NORMALIZER_REPLACE:
        status = json_need_pattern(context, object, "pattern", &n->pattern);
        return status ? status : json_need_text(context, object, "content", &n->content);
    case NORMALIZER_PREPEND:
        return json_need_text(context, object, "prepend", &n->content);
    case NORMALIZER_PRECOMPILED:
        return load_precompiled(context, n, object);
    default:
        return CRANK_OK;
    }
}

crank_status normalizers_load(crank_context *context, crank_tokenizer *tokenizer, const json_t *value)
{
    return components_load(context, tokenizer, value, "normalizers", "normalizer", load_normalizer);
}
