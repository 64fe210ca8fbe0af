/* fuzz_groups.c - libFuzzer: any bytes as judgments by groups, preferences or Z scores, and as a run (split at the first NUL; the first byte
 * chooses the format and flags): refused with a message, or all measures of the format can be taken. */
#include <stdlib.h>
#include <string.h>

#include "memory_file.h"
#include "metric/groups.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void measure_all(crank_context *context, const trec_file *judgments, const trec_file *run, int flags)
{
    metric_options options = {.level = flags >> 4 & 1, .max_docs = flags >> 5 & 3, .version = flags & 4 ? 10 : 9, .max_grade = 4, .judged_only = flags & 8, .complete = flags & 128};
    metric_plan    plan;
    metric_table   table;
    if (metric_plan_make(context, judgments->kind == TREC_QRELS_JG ? "qrels_jg" : "all_prefs", options.version, &plan) != CRANK_OK) abort();
    if (metric_evaluate(context, judgments, run, &plan, &options, &table) == CRANK_OK) metric_table_free(&table);
    else if (!*crank_message(context)) abort();
    metric_plan_free(&plan);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const trec_kind kinds[] = {TREC_QRELS_JG, TREC_QRELS_PREFS, TREC_PREFS};
    if (size < 2) return 0;
    int            flags = data[0];
    const uint8_t *nul = memchr(data + 1, 0, size - 1);
    size_t         first = nul ? (size_t)(nul - data - 1) : size - 1, second = nul ? size - first - 2 : 0;
    crank_context *context = crank_context_new();
    memory_file    judged = memory_file_open(data + 1, first), ranked = memory_file_open(nul ? nul + 1 : data, second);
    trec_file      judgments, run;
    zscores        z;
    crank_set_threads(context, 1);
    if ((flags & 3) == 3) {
        if (zscores_read(context, judged.path, &z) == CRANK_OK) zscores_free(&z);
        else if (!*crank_message(context)) abort();
    } else if (trec_file_read(context, judged.path, kinds[flags & 3], flags & 4, &judgments) == CRANK_OK) {
        if (trec_file_read(context, ranked.path, TREC_RUN, flags & 4, &run) == CRANK_OK) {
            measure_all(context, &judgments, &run, flags);
            trec_file_free(&run);
        }
        trec_file_free(&judgments);
    } else if (!*crank_message(context))
        abort();
    memory_file_close(&judged);
    memory_file_close(&ranked);
    crank_context_free(context);
    return 0;
}
