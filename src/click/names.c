/* names.c - an open table of (scope, text). */
#include "click/names.h"

#include <stdlib.h>
#include <string.h>

static uint64_t hash_of(int32_t scope, const char *text, size_t length)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325) ^ (uint32_t)scope * UINT64_C(0x9e3779b97f4a7c15);
    for (size_t i = 0; i < length; i++) hash = (hash ^ (uint8_t)text[i]) * UINT64_C(0x100000001b3);
    return hash ^ hash >> 29;
}

static int32_t *slot_of(const names *t, int32_t scope, const char *text, size_t length)
{
    uint64_t mask = (uint64_t)t->capacity - 1, at = hash_of(scope, text, length) & mask;
    for (;; at = (at + 1) & mask) {
        int32_t i = t->slots[at] - 1;
        if (i < 0 || (t->scope[i] == scope && t->length[i] == length && !memcmp(t->text.bytes + t->at[i], text, length))) return t->slots + at;
    }
}

int64_t names_find(const names *t, int32_t scope, const char *text, size_t length) { return t->capacity ? *slot_of(t, scope, text, length) - 1 : -1; }

static bool grow(names *t)
{
    int64_t room = t->room ? 2 * t->room : 1024;
    if (room > (INT32_MAX >> 1)) return false;
    int64_t  *at = realloc(t->at, (size_t)room * sizeof *at);
    if (at) t->at = at;
    int32_t  *scope = realloc(t->scope, (size_t)room * sizeof *scope);
    if (scope) t->scope = scope;
    uint32_t *length = realloc(t->length, (size_t)room * sizeof *length);
    if (length) t->length = length;
    int32_t  *slots = calloc((size_t)room * 2, sizeof *slots);
    if (!at || !scope || !length || !slots) return free(slots), false;
    free(t->slots);
    t->slots = slots;
    t->room = room;
    t->capacity = 2 * room;
    for (int32_t i = 0; i < t->count; i++) *slot_of(t, t->scope[i], t->text.bytes + t->at[i], t->length[i]) = i + 1;
    return true;
}

int64_t names_add(names *t, int32_t scope, const char *text, size_t length)
{
    int64_t found = names_find(t, scope, text, length);
    if (found >= 0) return found;
    if (length > UINT32_MAX || (t->count == t->room && !grow(t))) return -1;
    t->at[t->count] = (int64_t)t->text.length;
    t->scope[t->count] = scope;
    t->length[t->count] = (uint32_t)length;
    text_add(&t->text, text, length);
    text_putc(&t->text, 0); /* an end, also for an empty text */
    if (t->text.failed) return -1;
    *slot_of(t, scope, text, length) = (int32_t)t->count + 1;
    return t->count++;
}

void names_free(names *t)
{
    text_clear(&t->text);
    free(t->at), free(t->scope), free(t->length), free(t->slots);
    *t = (names){0};
}
