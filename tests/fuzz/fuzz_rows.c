/* fuzz_rows.c - libFuzzer: any bytes as a data file (the first byte chooses format and fields); nothing may crash or leak.
 *
 *     clang -g -O1 -fsanitize=fuzzer,address,undefined -D_GNU_SOURCE -DCRANK_VERSION='"0"' -Iinclude -Isrc \
 *         tests/fuzz/fuzz_rows.c src/data/rows.c src/data/csv.c src/data/dataset_options.c src/base/context.c \
 *         src/base/file*.c src/base/json*.c src/base/number.c src/base/text.c src/base/option*.c \
 *         -ljansson -lz -lm -fopenmp -o fuzz_rows
 *     ./fuzz_rows -max_len=2000 corpus */
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "data/rows.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const formats[] = {"text", "jsonl", "tsv", "csv"};
    static const char *const documents[] = {"file", "paragraph", "line"};
    char                     path[64];
    raw_rows                 rows;
    int                      file = size ? memfd_create("rows", 0) : -1;
    if (file < 0 || write(file, data + 1, size - 1) != (ssize_t)(size - 1)) return 0;
    snprintf(path, sizeof path, "/proc/self/fd/%d", file);
    crank_context   *context = crank_context_new();
    dataset_options *options = crank_options_new(context, dataset_option_table, sizeof *options);
    crank_options_set(context, dataset_option_table, options, "format", formats[data[0] & 3], "fuzz");
    crank_options_set(context, dataset_option_table, options, "document", documents[data[0] % 3], "fuzz");
    if (data[0] & 16) crank_options_set(context, dataset_option_table, options, "text_field", "1", "fuzz");
    if (data[0] & 16) crank_options_set(context, dataset_option_table, options, "label_field", "0", "fuzz");
    if (data[0] & 32) crank_options_set(context, dataset_option_table, options, "pair_field", "pair", "fuzz");
    if (data[0] & 64) crank_options_set(context, dataset_option_table, options, "labels", "a,b", "fuzz");
    if (rows_read(context, options, path, data[0] & 8 ? DATASET_LABELS : DATASET_TARGETS, &rows) == CRANK_OK) rows_free(&rows);
    crank_options_free(options);
    crank_context_free(context);
    close(file);
    return 0;
}
