/* fuzz_clicks.c - libFuzzer: any bytes as a click log (alone, or joined with a few rows) or as an examination curve, by the first byte: refused
 * with a message, or click models, rates and counterfactual sums can be made of it and it is written and read back. */
#include <string.h>

#include "click/click.h"
#include "memory_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void use_log(crank_context *context, const click_log *log, const letor_set *set, int flags)
{
    static const char *const kinds[] = {"pbm", "ubm", "cascade", "dcm", "sdbn", "trust"};
    click_model              model;
    float                   *relevance = calloc((size_t)log->items + 1, sizeof *relevance);
    click_earned            *earned = calloc((size_t)log->queries + 1, sizeof *earned);
    click_curve             *curve = click_curve_of_random(context, log);
    click_estimate_options   how = {.most = 10, .at = flags >> 4, .whole = set && flags & 8};
    if (!curve || click_rates(context, log, curve, 5, relevance) != CRANK_OK) abort();
    if (log->places < 200 && click_model_fit(context, log, kinds[(flags >> 2) % 6], 2, &model) == CRANK_OK) click_model_free(&model);
    if (click_earn(context, log, set, relevance, curve, &how, earned) != CRANK_OK) abort();
    click_estimate e = click_estimate_of(earned, NULL, log->queries);
    if (!(e.snips >= 0 && e.snips <= 1 + 1e-9) || !(e.effective <= e.clicks + 1e-6)) abort();
    free(relevance), free(earned);
    click_curve_free(curve);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char rows[] = "1 qid:q 1:2 # docid = a\n0 qid:q 1:3 # docid = b\n2 qid:r 1:4\n";
    if (size < 1) return 0;
    int            flags = data[0];
    crank_context *context = crank_context_new();
    letor_options *options = crank_options_new(context, letor_option_table, sizeof *options);
    memory_file    input = memory_file_open(data + 1, size - 1), features = memory_file_open((const uint8_t *)rows, strlen(rows));
    crank_set_threads(context, 1);
    if ((flags & 3) == 3) {
        click_curve *curve = click_curve_read(context, input.path);
        if (!curve && !*crank_message(context)) abort();
        if (curve && !(click_curve_at(curve, 70, 2000) >= 1e-6)) abort();
        click_curve_free(curve);
    } else {
        letor_set *set = flags & 1 ? letor_read(context, features.path, options) : NULL;
        click_log *log = click_log_read(context, input.path, set);
        if (log) use_log(context, log, set, flags);
        else if (!*crank_message(context)) abort();
        click_log_free(log);
        letor_free(set);
    }
    memory_file_close(&input), memory_file_close(&features);
    crank_options_free(options);
    crank_context_free(context);
    return 0;
}
