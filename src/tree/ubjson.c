/* ubjson.c - a reader of Universal Binary JSON. Numbers are big-endian; a value is a one-byte marker and its payload:
 *
 *     Z null   T true   F false   i int8   U uint8   I int16   l int32   L int64   d float32   D float64   C a character
 *     S length bytes              H length digits            [ values ]            { length key, value ... }
 *     [ $ type # count payloads   [ # count values           { likewise            N nothing, between values */
#include "tree/ubjson.h"

#include <math.h>
#include <string.h>

enum { MOST_DEPTH = 64 };

typedef struct reader {
    crank_context *context;
    const uint8_t *bytes;
    size_t         length, at;
    const char    *where;
} reader;

static json_t *broken(reader *r, const char *what)
{
    crank_fail(r->context, CRANK_BAD_DATA, "%s: byte %zu: %s", r->where, r->at, what);
    return NULL;
}

static int peek(const reader *r) { return r->at < r->length ? r->bytes[r->at] : -1; }

/* Bytes of a number's payload; 0: no number. */
static size_t size_of(int marker)
{
    switch (marker) {
    case 'i': case 'U': return 1;
    case 'I': return 2;
    case 'l': case 'd': return 4;
    case 'L': case 'D': return 8;
    default: return 0;
    }
}

static bool take_bits(reader *r, size_t size, uint64_t *bits)
{
    if (r->length - r->at < size) return broken(r, "the file is cut"), false;
    *bits = 0;
    for (size_t i = 0; i < size; i++) *bits = *bits << 8 | r->bytes[r->at++];
    return true;
}

static int64_t whole(int marker, uint64_t bits)
{
    switch (marker) {
    case 'i': return (int8_t)bits;
    case 'I': return (int16_t)bits;
    case 'l': return (int32_t)bits;
    default: return (int64_t)bits;
    }
}

static json_t *number(reader *r, int marker)
{
    uint64_t bits;
    double   value;
    float    single;
    uint32_t half;
    if (!take_bits(r, size_of(marker), &bits)) return NULL;
    if (marker != 'd' && marker != 'D') return json_integer(whole(marker, bits));
    half = (uint32_t)bits;
    memcpy(&single, &half, sizeof single);
    memcpy(&value, &bits, sizeof value);
    if (marker == 'd') value = (double)single;
    return isfinite(value) ? json_real(value) : json_null(); /* JSON has no such numbers */
}

/* A length: a whole number that the rest of the file has room for, at `least` bytes each. */
static bool take_length(reader *r, size_t least, size_t *out)
{
    int      marker = peek(r);
    uint64_t bits;
    if (!size_of(marker) || marker == 'd' || marker == 'D') return broken(r, "a length was expected"), false;
    r->at++;
    if (!take_bits(r, size_of(marker), &bits)) return false;
    int64_t length = whole(marker, bits);
    if (length < 0 || (uint64_t)length > (r->length - r->at) / least) return broken(r, "a length is larger than the file"), false;
    *out = (size_t)length;
    return true;
}

static json_t *string(reader *r)
{
    size_t length;
    if (!take_length(r, 1, &length)) return NULL;
    json_t *value = json_stringn((const char *)r->bytes + r->at, length);
    if (!value) return broken(r, "a text is not UTF-8");
    r->at += length;
    return value;
}

static json_t *value_of(reader *r, int marker, int depth);

/* What stands behind [ or {: `$ type` and `# count`. *type 0: elements have markers of their own; *counted: the end has none. */
static bool take_head(reader *r, bool object, int *type, bool *counted, size_t *count)
{
    *type = 0;
    *counted = false;
    if (peek(r) == '$') {
        r->at++;
        *type = peek(r);
        if (!size_of(*type) && *type != 'S' && *type != 'C' && *type != '[' && *type != '{') return broken(r, "elements of that type are not read"), false;
        r->at++;
        if (peek(r) != '#') return broken(r, "a typed container must say its count"), false;
    }
    if (peek(r) != '#') return true;
    r->at++;
    *counted = true;
    return take_length(r, object ? 2 : *type && size_of(*type) ? size_of(*type) : 1, count);
}

static int next_marker(reader *r)
{
    while (peek(r) == 'N') r->at++;
    int marker = peek(r);
    if (marker >= 0) r->at++;
    return marker;
}

static json_t *container(reader *r, bool object, int depth)
{
    int     type, end = object ? '}' : ']';
    bool    counted;
    size_t  count = 0;
    json_t *out = object ? json_object() : json_array();
    if (depth > MOST_DEPTH) broken(r, "the values are nested too deeply");
    if (!out || depth > MOST_DEPTH || !take_head(r, object, &type, &counted, &count)) return json_decref(out), NULL;
    for (size_t i = 0; !counted || i < count; i++) {
        size_t      length = 0;
        const char *key = NULL;
        if (!counted) {
            while (peek(r) == 'N') r->at++;
            if (peek(r) == end) return r->at++, out;
        }
        if (object) {
            if (!take_length(r, 1, &length)) return json_decref(out), NULL;
            key = (const char *)r->bytes + r->at;
            r->at += length;
            if (memchr(key, 0, length)) return json_decref(out), broken(r, "a key holds a zero byte");
        }
        json_t *value = value_of(r, type ? type : next_marker(r), depth + 1);
        if (!value) return json_decref(out), NULL;
        if (object ? json_object_setn_new(out, key, length, value) : json_array_append_new(out, value)) return json_decref(out), broken(r, "a key is not UTF-8, or memory is out");
    }
    return out;
}

static json_t *value_of(reader *r, int marker, int depth)
{
    char character[2] = {0};
    switch (marker) {
    case 'Z': return json_null();
    case 'T': return json_true();
    case 'F': return json_false();
    case 'S': case 'H': return string(r);
    case '[': return container(r, false, depth);
    case '{': return container(r, true, depth);
    case 'C':
        if (r->at >= r->length || r->bytes[r->at] > 127) return broken(r, "a character is not ASCII");
        character[0] = (char)r->bytes[r->at++];
        return json_string(character);
    default: break;
    }
    if (size_of(marker)) return number(r, marker);
    return broken(r, marker < 0 ? "the file is cut" : "an unknown marker");
}

json_t *ubjson_parse(crank_context *context, const void *bytes, size_t length, const char *where)
{
    reader  r = {.context = context, .bytes = bytes, .length = length, .where = where};
    json_t *value = value_of(&r, next_marker(&r), 0);
    if (!value && crank_last_status(context) == CRANK_OK) crank_fail(context, CRANK_FAILED, "%s: out of memory", where);
    return value;
}
