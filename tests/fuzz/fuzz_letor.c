/* Any bytes as a file of feature vectors, in each format: refused with a message, or every row can be read and the binary form of
 * the set reads back. */
#include <string.h>

#include "data/letor.h"
#include "memory_file.h"

static volatile float sum;

static void read_all(const letor_set *set)
{
    float *row = malloc(((size_t)set->columns + 1) * sizeof *row);
    for (int64_t i = 0; i < set->rows && i < 64; i++) {
        letor_row(set, i, row);
        for (int64_t j = 0; j < set->columns; j++) sum += row[j];
    }
    free(row);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const formats[] = {"auto", "svmlight", "csv", "tsv"};
    if (size < 1) return 0;
    crank_context *context = crank_context_new();
    crank_set_threads(context, 1 + data[0] / 4 % 3);
    letor_options *options = crank_options_new(context, letor_option_table, sizeof *options);
    crank_options_set(context, letor_option_table, options, "format", formats[data[0] % 4], NULL);
    crank_options_set(context, letor_option_table, options, "columns", "100000", NULL);
    memory_file input = memory_file_open(data + 1, size - 1);
    letor_set  *set = letor_read(context, input.path, options);
    if (set) read_all(set);
    else if (!*crank_message(context) || crank_last_status(context) == CRANK_OK) abort();
    letor_free(set);
    memory_file_close(&input);
    crank_options_free(options);
    crank_context_free(context);
    return 0;
}
