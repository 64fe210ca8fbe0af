/* fuzz_tokenizer.c - tokenizer.json from anywhere: it is refused with a message, or encodes and decodes any text.
 *
 * Input: the file's text, a zero byte, then the text to encode (without a zero byte: a fixed text). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/tokenizer_parts.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void encode_and_decode(crank_context *context, const crank_tokenizer *tokenizer, const char *text, size_t length,
                              unsigned flags)
{
    crank_ids ids;
    if (crank_encode(context, tokenizer, text, length, text, length / 2, flags, &ids)) {
        if (!*crank_message(context)) abort();
        return;
    }
    size_t size;
    char *decoded = crank_decode(context, tokenizer, ids.ids, ids.count, true, &size);
    if (!decoded && !*crank_message(context)) abort();
    for (size_t i = 0; ids.offsets && i < ids.count; i++)
        if (ids.offsets[2 * i] < 0 || ids.offsets[2 * i] > ids.offsets[2 * i + 1] ||
            ids.offsets[2 * i + 1] > (int64_t)length)
            abort();
    crank_free(decoded);
    crank_ids_free(&ids);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char fixed[] = "Hello, w\xC3\xB6rld! <s> \xE2\x96\x81 123\n\n  don't \xE4\xBD\xA0\xE5\xA5\xBD \xFF "
                                "e\xCC\x81\xCC\xA3 \xF0\x9F\xA4\x97";
    const uint8_t *zero = size ? memchr(data, 0, size) : NULL;
    size_t length = zero ? (size_t)(zero - data) : size;
    const char *text = zero ? (const char *)zero + 1 : fixed;
    size_t text_length = zero ? size - length - 1 : sizeof fixed - 1;
    crank_context *context = crank_context_new();
    if (!context) return 0;
    crank_tokenizer *tokenizer = tokenizer_parse(context, (const char *)data, length, "fuzz.json");
    if (tokenizer) {
        encode_and_decode(context, tokenizer, text, text_length, CRANK_ENCODE_SPECIAL | CRANK_ENCODE_OFFSETS);
        encode_and_decode(context, tokenizer, text, text_length, CRANK_ENCODE_PLAIN);
    } else if (!*crank_message(context)) {
        abort();
    }
    crank_tokenizer_free(tokenizer);
    crank_context_free(context);
    return 0;
}
