/* fuzz_trec.c - libFuzzer: any bytes as judgments and as a run (split at the first NUL; the first byte chooses version and flags): refused with a
 * message, or every measure of every topic can be taken and the run can be fused with itself; nothing may crash, leak or hang. */
#include <stdlib.h>
#include <string.h>

#include "memory_file.h"
#include "metric/fuse.h"
#include "metric/metric.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void measure_all(crank_context *context, const trec_file *qrels, const trec_file *run, int flags)
{
    metric_options options = { .level = flags & 7, .max_docs = flags >> 3 & 3, .version = flags & 32 ? 10 : 9, .max_grade = 4, .judged_only = flags & 64, .complete = flags & 128 };
    metric_plan    plan;
    metric_table   table;
    if (metric_plan_make(context, "all", options.version, &plan) != CRANK_OK) abort();
    if (metric_evaluate(context, qrels, run, &plan, &options, &table) == CRANK_OK) metric_table_free(&table);
    else if (!*crank_message(context)) abort();
    metric_plan_free(&plan);
}

static void fuse_twice(crank_context *context, const trec_file *run, int flags)
{
    trec_file    both[2] = { *run, *run };
    fuse_options options = { .rule = (fuse_rule)(flags & 3), .norm = (fuse_norm)((flags >> 2) % 3), .k = 60, .depth = 10, .tag = "t" };
    char        *text = NULL;
    if (fuse_runs(context, both, 2, &options, "-", &text) != CRANK_OK && !*crank_message(context)) abort();
    crank_free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2) return 0;
    int            flags = data[0];
    const uint8_t *nul = memchr(data + 1, 0, size - 1);
    size_t         first = nul ? (size_t)(nul - data - 1) : size - 1, second = nul ? size - first - 2 : 0;
    crank_context *context = crank_context_new();
    memory_file    judged = memory_file_open(data + 1, first), ranked = memory_file_open(nul ? nul + 1 : data, second);
    trec_file      qrels, run;
    crank_set_threads(context, 1);
    if (trec_file_read(context, judged.path, TREC_QRELS, flags & 32, &qrels) == CRANK_OK) {
        if (trec_file_read(context, ranked.path, TREC_RUN, flags & 32, &run) == CRANK_OK) {
            measure_all(context, &qrels, &run, flags);
            fuse_twice(context, &run, flags);
            trec_file_free(&run);
        }
        trec_file_free(&qrels);
    }
    memory_file_close(&judged);
    memory_file_close(&ranked);
    crank_context_free(context);
    return 0;
}
