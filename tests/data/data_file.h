/* data_file.h - data files that tests write, and options for them. */
#ifndef CRANK_TESTS_DATA_FILE_H
#define CRANK_TESTS_DATA_FILE_H

#include "chat_model.h"

#include "data/dataset.h"

/* A file of the test with `text` in it; the path is static. */
static inline const char *write_file(const char *name, const char *text, size_t length)
{
    static char path[512];
    snprintf(path, sizeof path, "%s/dataset_test_%d_%s", CRANK_BINARY_DIR, (int)getpid(), name);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, length, file), length);
    fclose(file);
    return path;
}

static inline dataset_options *options_with(crank_context *context, const char *path, const char *const *pairs)
{
    dataset_options *options = crank_options_new(context, dataset_option_table, sizeof *options);
    assert_ok(context, crank_options_set(context, dataset_option_table, options, "train", path, "test"));
    for (; pairs && pairs[0]; pairs += 2) assert_ok(context, crank_options_set(context, dataset_option_table, options, pairs[0], pairs[1], "test"));
    return options;
}
#endif
