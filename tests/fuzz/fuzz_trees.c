/* Any bytes as a model of trees in any format that is read: refused with a message, or it scores rows, by its fast way as by a walk, and
 * can be written in the formats that hold it. */
#include <string.h>

#include "memory_file.h"
#include "tree/tree.h"

static void use(crank_context *context, crank_trees *trees)
{
    enum { ROWS = 20, MOST = 64 };
    static float row[ROWS * MOST];
    int64_t      outputs = crank_trees_outputs(trees);
    for (int i = 0; i < ROWS * MOST; i++) row[i] = i % 7 ? (float)(i % 11) - 4 : NAN;
    double         *scores = malloc((size_t)(ROWS * outputs) * sizeof *scores);
    crank_tree_data data = {.rows = ROWS, .columns = MOST, .dense = row};
    if (crank_trees_predict(context, trees, &data, false, scores) != CRANK_OK) abort();
    crank_trees_importance(trees, NULL, NULL);
    char *(*const writers[])(crank_context *, const crank_trees *) = {trees_write_lightgbm, trees_write_xgboost, trees_write_c};
    for (int i = 0; i < 3; i++) {
        char *text = writers[i](context, trees);
        if (!text && !*crank_message(context)) abort();
        crank_free(text);
    }
    free(scores);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    crank_context *context = crank_context_new();
    crank_set_threads(context, 1);
    memory_file  input = memory_file_open(data, size);
    crank_trees *trees = crank_trees_load(context, input.path);
    if (trees && crank_trees_outputs(trees) <= 1024 && crank_trees_columns(trees) <= 1 << 16) use(context, trees);
    else if (!trees && (!*crank_message(context) || crank_last_status(context) == CRANK_OK)) abort();
    crank_trees_free(trees);
    memory_file_close(&input);
    crank_context_free(context);
    return 0;
}
