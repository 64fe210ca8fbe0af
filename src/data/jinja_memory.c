/* jinja_memory.c - what one parse or rendering stands on: its arena, growing text, limits and the way out on errors. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/jinja_value.h"

#define CHUNK_SIZE ((size_t)16 << 10)

struct jinja_chunk {
    jinja_chunk *next;
    size_t       used, size;
    _Alignas(16) char data[];
};

void jinja_fail(jinja_state *state, const char *format, ...)
{
    char    text[2048];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    crank_fail(state->context, CRANK_BAD_DATA, "%s:%d: %s", state->name, state->line, text);
    longjmp(state->exit, 1);
}

void jinja_work(jinja_state *state, size_t steps)
{
    state->steps += steps;
    if (state->steps > JINJA_MAX_STEPS)
        jinja_fail(state, "the template runs more than %u steps", JINJA_MAX_STEPS);
}

void jinja_enter(jinja_state *state)
{
    if (++state->depth > JINJA_MAX_DEPTH) jinja_fail(state, "nested deeper than %d levels", JINJA_MAX_DEPTH);
}

void jinja_leave(jinja_state *state) { state->depth--; }

void *jinja_alloc(jinja_state *state, size_t count, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes) || bytes + 15 < bytes || bytes + 15 > JINJA_MAX_MEMORY - state->memory)
        jinja_fail(state, "the template needs more than %zu MiB of memory", JINJA_MAX_MEMORY >> 20);
    bytes = (bytes + 15) & ~(size_t)15;
    state->memory += bytes;
    jinja_chunk *chunk = state->chunks;
    if (!chunk || chunk->size - chunk->used < bytes) {
        size_t room = bytes > CHUNK_SIZE / 4 ? bytes : CHUNK_SIZE;
        chunk = malloc(sizeof *chunk + room);
        if (!chunk) {
            crank_fail(state->context, CRANK_FAILED, "%s:%d: out of memory: %zu bytes", state->name, state->line, room);
            longjmp(state->exit, 1);
        }
        chunk->used = 0;
        chunk->size = room;
        /* a large block goes behind the current chunk, whose rest stays in use */
        if (state->chunks && room != CHUNK_SIZE) {
            chunk->next = state->chunks->next;
            state->chunks->next = chunk;
        } else {
            chunk->next = state->chunks;
            state->chunks = chunk;
        }
    }
    void *memory = chunk->data + chunk->used;
    chunk->used += bytes;
    return memset(memory, 0, bytes);
}

void jinja_arena_free(jinja_chunk *chunks)
{
    while (chunks) {
        jinja_chunk *next = chunks->next;
        free(chunks);
        chunks = next;
    }
}

static void reserve(jinja_state *state, jinja_buffer *buffer, size_t more)
{
    if (more <= buffer->capacity - buffer->length) return;
    if (more > JINJA_MAX_MEMORY || buffer->length > JINJA_MAX_MEMORY) jinja_alloc(state, JINJA_MAX_MEMORY, 2); /* fails */
    size_t capacity = buffer->capacity ? buffer->capacity * 2 : 64;
    if (capacity < buffer->length + more) capacity = buffer->length + more;
    char *text = jinja_alloc(state, capacity, 1);
    if (buffer->length) memcpy(text, buffer->text, buffer->length);
    buffer->text = text;
    buffer->capacity = capacity;
}

void jinja_append(jinja_state *state, jinja_buffer *buffer, const char *text, size_t length)
{
    if (!length) return;
    jinja_work(state, length / 64);
    reserve(state, buffer, length);
    memcpy(buffer->text + buffer->length, text, length);
    buffer->length += length;
}

void jinja_append_text(jinja_state *state, jinja_buffer *buffer, const char *text)
{
    jinja_append(state, buffer, text, strlen(text));
}

void jinja_append_code(jinja_state *state, jinja_buffer *buffer, uint32_t code)
{
    char   bytes[4];
    size_t n = 0;
    if (code < 0x80) {
        bytes[n++] = (char)code;
    } else if (code < 0x800) {
        bytes[n++] = (char)(0xC0 | code >> 6);
        bytes[n++] = (char)(0x80 | (code & 63));
    } else if (code < 0x10000) {
        bytes[n++] = (char)(0xE0 | code >> 12);
        bytes[n++] = (char)(0x80 | (code >> 6 & 63));
        bytes[n++] = (char)(0x80 | (code & 63));
    } else {
        bytes[n++] = (char)(0xF0 | code >> 18);
        bytes[n++] = (char)(0x80 | (code >> 12 & 63));
        bytes[n++] = (char)(0x80 | (code >> 6 & 63));
        bytes[n++] = (char)(0x80 | (code & 63));
    }
    jinja_append(state, buffer, bytes, n);
}

void jinja_append_format(jinja_state *state, jinja_buffer *buffer, const char *format, ...)
{
    va_list arguments, again;
    va_start(arguments, format);
    va_copy(again, arguments);
    int length = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    if (length > 0) {
        reserve(state, buffer, (size_t)length + 1);
        vsnprintf(buffer->text + buffer->length, (size_t)length + 1, format, again);
        buffer->length += (size_t)length;
    }
    va_end(again);
}

jinja_value jinja_finish(const jinja_buffer *buffer)
{
    return jinja_string(buffer->text ? buffer->text : "", buffer->length);
}
