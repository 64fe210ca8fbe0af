/* tokenizer_postprocessor.c - special tokens around sequences, and offsets without white space.
 *
 *     BERT        [CLS] A [SEP]   (B [SEP])            RoBERTa   <s> A </s>   (</s> B </s>)
 *     Template    any order of A, B and special tokens  ByteLevel  offsets only */
#include <string.h>

#include "base/json.h"
#include "data/tokenizer_parts.h"

#define TEMPLATE_LIMIT 4096

/* What stands in the result: a sequence, or special ids. */
typedef struct segment {
    const int32_t *ids;
    const sequence_tokens *tokens; /* NULL: special */
    size_t count;
} segment;

typedef struct segment_list {
    segment *items;
    size_t count, capacity;
} segment_list;

static bool add_segment(crank_context *context, segment_list *list, segment item)
{
    if (!array_reserve(context, (void **)&list->items, &list->capacity, list->count + 1, sizeof item,
                       "a post-processor"))
        return false;
    list->items[list->count++] = item;
    return true;
}

/* White space at both ends of a token leaves its span; the space that the pre-tokenizer itself put in front stays. */
static void trim_span(const sequence_tokens *tokens, size_t i, bool add_prefix_space)
{
    source_span *span = &tokens->spans[i];
    size_t leading = tokens->trims[i].leading, trailing = tokens->trims[i].trailing, start = span->start,
           end = span->end;
    uint32_t c;
    if (leading == 1 && add_prefix_space && (i == 0 || start == 0)) leading = 0;
    for (; leading && start < end; leading--) start += utf8_size((unsigned char)tokens->source[start]);
    for (; trailing && end > start; trailing--) end -= utf8_last(tokens->source + start, end - start, &c);
    span->start = (uint32_t)start;
    span->end = (uint32_t)end;
}

static void trim_segments(const segment_list *list, const postprocessor *part)
{
    if (!part->trim_offsets) return;
    for (size_t s = 0; s < list->count; s++)
        for (size_t i = 0; list->items[s].tokens && list->items[s].tokens->spans && i < list->items[s].count; i++)
            trim_span(list->items[s].tokens, i, part->add_prefix_space);
}

static bool run_template(crank_context *context, const postprocessor *part, const segment_list *in, bool special,
                         segment_list *out)
{
    const template_piece *pieces = in->count > 1 ? part->pair : part->single;
    size_t count = in->count > 1 ? part->pair_count : part->single_count;
    for (size_t i = 0; i < count; i++) {
        if (pieces[i].sequence >= 0) {
            if (!add_segment(context, out, in->items[pieces[i].sequence])) return false;
        } else if (special && !add_segment(context, out, (segment){pieces[i].ids, NULL, pieces[i].count})) {
            return false;
        }
    }
    return true;
}

/* The first segment stands between CLS and SEP; RoBERTa puts a SEP on both sides of the others, BERT only behind them.
 */
static bool run_classic(crank_context *context, const postprocessor *part, const segment_list *in, segment_list *out)
{
    segment cls = {&part->cls, NULL, 1}, sep = {&part->sep, NULL, 1};
    for (size_t i = 0; i < in->count; i++) {
        if (i == 0 ? !add_segment(context, out, cls) : part->type == POST_ROBERTA && !add_segment(context, out, sep))
            return false;
        if (!add_segment(context, out, in->items[i]) || !add_segment(context, out, sep)) return false;
    }
    return true;
}

static bool run_one(crank_context *context, const postprocessor *part, bool special, segment_list *list)
{
    segment_list next = {0};
    bool good = true;
    if (part->type == POST_BYTE_LEVEL || part->type == POST_ROBERTA) trim_segments(list, part);
    if (part->type == POST_BYTE_LEVEL || (part->type != POST_TEMPLATE && !special)) return true;
    if (part->type == POST_TEMPLATE)
        good = run_template(context, part, list, special, &next);
    else
        good = run_classic(context, part, list, &next);
    crank_free(list->items);
    *list = next;
    return good;
}

static crank_status write_ids(crank_context *context, const segment_list *list, unsigned flags, crank_ids *out)
{
    size_t count = 0;
    for (size_t s = 0; s < list->count; s++) count += list->items[s].count;
    out->ids = crank_alloc(context, count, sizeof *out->ids, "ids of a text");
    if (flags & CRANK_ENCODE_OFFSETS)
        out->offsets = crank_alloc(context, count, 2 * sizeof *out->offsets, "offsets of a text");
    if (!out->ids || (flags & CRANK_ENCODE_OFFSETS && !out->offsets)) return crank_last_status(context);
    out->capacity = count;
    for (size_t s = 0; s < list->count; s++) {
        const segment *item = &list->items[s];
        if (item->count) memcpy(out->ids + out->count, item->ids, item->count * sizeof *out->ids);
        for (size_t i = 0; out->offsets && item->tokens && i < item->count; i++) {
            source_span span = item->tokens->spans[i];
            const uint32_t *origin = item->tokens->origin;
            out->offsets[2 * (out->count + i)] = origin ? origin[span.start] : span.start;
            out->offsets[2 * (out->count + i) + 1] = origin ? origin[span.end] : span.end;
        }
        out->count += item->count;
    }
    return CRANK_OK;
}

crank_status postprocess(crank_context *context, const crank_tokenizer *tokenizer, sequence_tokens *sequences,
                         size_t count, unsigned flags, crank_ids *out)
{
    segment_list list = {0};
    bool good = true;
    for (size_t i = 0; good && i < count; i++)
        good = add_segment(context, &list, (segment){sequences[i].ids, &sequences[i], sequences[i].count});
    for (size_t i = 0; good && i < tokenizer->postprocessor_count; i++)
        good = run_one(context, &tokenizer->postprocessors[i], flags & CRANK_ENCODE_SPECIAL, &list);
    crank_status status = good ? write_ids(context, &list, flags, out) : crank_last_status(context);
    crank_free(list.items);
    return status;
}

static void clear_template(template_piece *pieces, size_t count)
{
    for (size_t i = 0; i < count; i++) crank_free(pieces[i].ids);
    crank_free(pieces);
}

void postprocessor_clear(postprocessor *part)
{
    clear_template(part->single, part->single_count);
    clear_template(part->pair, part->pair_count);
    *part = (postprocessor){0};
}

/* ["text", id] */
static crank_status load_pair(crank_context *context, const json_t *object, const char *key, int32_t *id)
{
    const json_t *pair = json_object_get(object, key), *number = json_array_get(pair, 1);
    if (json_array_size(pair) != 2 || !json_is_string(json_array_get(pair, 0)) || !json_is_integer(number) ||
        json_integer_value(number) < 0 || json_integer_value(number) > INT32_MAX)
        return crank_fail(context, CRANK_BAD_DATA, "`%s` must be [text, id]", key);
    *id = (int32_t)json_integer_value(number);
    return CRANK_OK;
}

/* The ids of {"SpecialToken": {"id": name}} from the table `special_tokens`. */
static crank_status load_special(crank_context *context, const json_t *table, const char *name, template_piece *part)
{
    const json_t *ids = json_object_get(json_object_get(table, name), "ids");
    size_t count = json_array_size(ids);
    if (!json_is_array(ids) || count > TEMPLATE_LIMIT)
        return crank_fail(context, CRANK_BAD_DATA, "`special_tokens` has no list of ids for `%.80s`", name);
    part->ids = crank_alloc(context, count, sizeof *part->ids, "a template");
    if (!part->ids) return CRANK_FAILED;
    part->count = count;
    for (size_t i = 0; i < count; i++) {
        const json_t *id = json_array_get(ids, i);
        if (!json_is_integer(id) || json_integer_value(id) < 0 || json_integer_value(id) > INT32_MAX)
            return crank_fail(context, CRANK_BAD_DATA,
                              "`special_tokens`: an id of `%.80s` is not a whole number from 0", name);
        part->ids[i] = (int32_t)json_integer_value(id);
    }
    return CRANK_OK;
}

static crank_status load_template_piece(crank_context *context, const json_t *table, const json_t *value,
                                        template_piece *part)
{
    const json_t *sequence = json_object_get(value, "Sequence"), *special = json_object_get(value, "SpecialToken");
    const json_t *name = json_object_get(sequence ? sequence : special, "id");
    if (json_object_size(value) != 1 || !json_is_string(name))
        return crank_fail(context, CRANK_BAD_DATA,
                          "a piece of a template must be {\"Sequence\": ...} or {\"SpecialToken\": ...} with an `id`");
    part->sequence = -1;
    if (special) return load_special(context, table, json_string_value(name), part);
    if (!strcmp(json_string_value(name), "A")) part->sequence = 0;
    if (!strcmp(json_string_value(name), "B")) part->sequence = 1;
    return part->sequence >= 0 ? CRANK_OK : crank_fail(context, CRANK_BAD_DATA, "a template's sequence must be A or B");
}

static crank_status load_template(crank_context *context, const json_t *object, const char *key, int sequences,
                                  template_piece **pieces, size_t *count)
{
    const json_t *list = json_object_get(object, key), *table = json_object_get(object, "special_tokens");
    size_t length = json_array_size(list);
    if (!json_is_array(list) || length > TEMPLATE_LIMIT)
        return crank_fail(context, CRANK_BAD_DATA, "`%s` must be an array of at most %d pieces", key, TEMPLATE_LIMIT);
    *pieces = crank_alloc(context, length, sizeof **pieces, "a template");
    if (!*pieces) return CRANK_FAILED;
    for (*count = 0; *count < length;) {
        template_piece *part = &(*pieces)[(*count)++];
        crank_status status = load_template_piece(context, table, json_array_get(list, *count - 1), part);
        if (!status && part->sequence >= sequences)
            status = crank_fail(context, CRANK_BAD_DATA, "a template for one sequence names B");
        if (status) return crank_fail_in(context, "`%s`, piece %zu", key, *count);
    }
    return CRANK_OK;
}

static crank_status load_postprocessor(crank_context *context, crank_tokenizer *tokenizer, const json_t *object,
                                       const char *type)
{
    static const char *const types[] = {"TemplateProcessing", "BertProcessing", "RobertaProcessing", "ByteLevel"};
    size_t i = 0;
    while (i < 4 && strcmp(type, types[i])) i++;
    if (i == 4) return crank_fail(context, CRANK_BAD_DATA, "this type of post-processor is not known");
    for (size_t k = 0; i != POST_BYTE_LEVEL && k < tokenizer->postprocessor_count; k++)
        if (tokenizer->postprocessors[k].type != POST_BYTE_LEVEL)
            return crank_fail(context, CRANK_BAD_DATA, "a second post-processor that adds special tokens");
    size_t capacity = tokenizer->postprocessor_count;
    if (!array_reserve(context, (void **)&tokenizer->postprocessors, &capacity, capacity + 1, sizeof(postprocessor),
                       "post-processors"))
        return CRANK_FAILED;
    postprocessor *part = &tokenizer->postprocessors[tokenizer->postprocessor_count++];
    *part = (postprocessor){.type = (postprocessor_type)i};
    crank_status status = CRANK_OK;
    if (part->type == POST_TEMPLATE) {
        status = load_template(context, object, "single", 1, &part->single, &part->single_count);
        return status ? status : load_template(context, object, "pair", 2, &part->pair, &part->pair_count);
    }
    if (part->type != POST_BYTE_LEVEL) status = load_pair(context, object, "cls", &part->cls);
    if (!status && part->type != POST_BYTE_LEVEL) status = load_pair(context, object, "sep", &part->sep);
    if (status || part->type == POST_BERT) return status;
    status = json_need_bool(context, object, "trim_offsets", &part->trim_offsets);
    if (part->trim_offsets) tokenizer->trims_offsets = true;
    return status ? status : json_need_bool(context, object, "add_prefix_space", &part->add_prefix_space);
}

crank_status postprocessors_load(crank_context *context, crank_tokenizer *tokenizer, const json_t *value)
{
    return components_load(context, tokenizer, value, "processors", "post_processor", load_postprocessor);
}
