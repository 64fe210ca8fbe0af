/* tokenizer_golden.h - reading tests/golden/tokenizers: lines, hashes, the mixed text. */
#ifndef CRANK_TESTS_TOKENIZER_GOLDEN_H
#define CRANK_TESTS_TOKENIZER_GOLDEN_H

#include "testing.h"

#include "base/file.h"
#include "crank/tokenizer.h"

#define FNV_START UINT64_C(0xCBF29CE484222325)

static inline uint64_t fnv(const void *data, size_t length, uint64_t hash)
{
    const unsigned char *bytes = data;
    for (size_t i = 0; i < length; i++) hash = (hash ^ bytes[i]) * UINT64_C(0x100000001B3);
    return hash;
}

/* A file's text; fails the test where it cannot be read. */
static inline char *read_text(crank_context *context, const char *path, size_t *length)
{
    char *text = file_read(context, path, length);
    if (!text) fail_msg("%s", crank_message(context));
    return text;
}

static inline char *golden_text(crank_context *context, const char *name, const char *ending, size_t *length)
{
    char path[512];
    snprintf(path, sizeof path, "tokenizers/%s%s", name, ending);
    return read_text(context, golden(path), length);
}

static inline crank_tokenizer *golden_tokenizer(crank_context *context, const char *name)
{
    char path[512];
    snprintf(path, sizeof path, "tokenizers/%s.json", name);
    crank_tokenizer *tokenizer = crank_tokenizer_load(context, golden(path));
    if (!tokenizer) fail_msg("%s", crank_message(context));
    return tokenizer;
}

/* The next line of *cursor, which moves behind it; NULL at the end. */
static inline char *next_line(char **cursor, size_t *length)
{
    char *line = *cursor, *end = strchr(line, '\n');
    if (!*line) return NULL;
    *length = end ? (size_t)(end - line) : strlen(line);
    *cursor = line + *length + (end != NULL);
    return line;
}

/* Undoes \xHH in place; returns the new length. */
static inline size_t unescape(char *text, size_t length)
{
    size_t out = 0;
    for (size_t i = 0; i < length; i++) {
        unsigned byte;
        if (text[i] == '\\' && sscanf(text + i + 1, "x%2X", &byte) == 1) {
            text[out++] = (char)byte;
            i += 3;
        } else {
            text[out++] = text[i];
        }
    }
    return out;
}

typedef struct mixed_text {
    char *text;
    char *lines[400];
    size_t lengths[400];
    size_t count;
} mixed_text;

static inline mixed_text read_mixed(crank_context *context)
{
    mixed_text mixed = {0};
    size_t length;
    mixed.text = golden_text(context, "mixed", ".txt", &length);
    char *cursor = mixed.text;
    for (char *line; (line = next_line(&cursor, &length)); mixed.count++) {
        assert_true(mixed.count < 400);
        mixed.lines[mixed.count] = line;
        mixed.lengths[mixed.count] = unescape(line, length);
    }
    return mixed;
}

static const char *const tokenizer_kinds[] = {"gpt2",
                                              "llama3",
                                              "qwen2",
                                              "gpt4o",
                                              "deepseek",
                                              "bloom",
                                              "falcon",
                                              "roberta",
                                              "bytes_normalized",
                                              "clip",
                                              "llama2",
                                              "llama2_new",
                                              "sentencepiece_unknown",
                                              "bert",
                                              "bert_cased",
                                              "t5",
                                              "unigram_bytes",
                                              "precompiled",
                                              "word_level",
                                              "splits"};
#define KIND_COUNT (sizeof tokenizer_kinds / sizeof tokenizer_kinds[0])

static inline crank_ids encode(crank_context *context, const crank_tokenizer *tokenizer, const char *text,
                               size_t length, unsigned flags)
{
    crank_ids ids;
    assert_ok(context, crank_encode(context, tokenizer, text, length, NULL, 0, flags, &ids));
    return ids;
}
#endif
