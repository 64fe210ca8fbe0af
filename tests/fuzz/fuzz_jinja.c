/* fuzz_jinja.c - libFuzzer: any bytes as a template, rendered with a small conversation; nothing may crash, leak or hang.
 *
 *     clang -g -O1 -fsanitize=fuzzer,address,undefined -D_GNU_SOURCE -DCRANK_VERSION='"0"' -Iinclude -Isrc \
 *         tests/fuzz/fuzz_jinja.c src/data/jinja*.c src/base/context.c -ljansson -lutf8proc -lm -fopenmp -o fuzz_jinja
 *     ./fuzz_jinja -max_len=2000 -timeout=20 corpus tests/golden/jinja/templates */
#include <stddef.h>
#include <stdint.h>

#include "data/jinja.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char text[] = "{\"messages\": [{\"role\": \"system\", \"content\": \"a b\"}, {\"role\": \"user\", \"content\": \"\\u00e9\\nx\"},"
                               "{\"role\": \"assistant\", \"content\": null, \"tool_calls\": [{\"name\": \"f\", \"arguments\": {\"a\": 1.5}}]}],"
                               "\"bos_token\": \"<s>\", \"add_generation_prompt\": true, \"n\": -3, \"d\": {\"k\": [1, 2, 3]}}";
    crank_context  *context = crank_context_new();
    json_t         *variables = json_loads(text, 0, NULL);
    jinja_template *tmpl = jinja_parse(context, (const char *)data, size, "fuzz");
    jinja_spans     spans = {0};
    size_t          length;
    char           *out = tmpl ? jinja_render(context, tmpl, variables, 0, &spans, &length) : NULL;
    crank_free(out);
    crank_free(spans.ranges);
    jinja_free(tmpl);
    json_decref(variables);
    crank_context_free(context);
    return 0;
}
