/* verbs.c - the list of verbs. */
#include "cli/cli.h"

extern const cli_verb verb_adapter, verb_compare, verb_compress, verb_continual, verb_data, verb_demo, verb_doctor, verb_encode, verb_eval, verb_generate, verb_help, verb_inspect, verb_metrics, verb_lab, verb_pull, verb_rank, verb_score, verb_tokenizer, verb_train;

const cli_verb *const cli_verbs[] = {
    &verb_train,
    &verb_eval,
    &verb_generate,
    &verb_encode,
    &verb_score,
    &verb_adapter,
    &verb_compare,
    &verb_compress,
    &verb_continual,
    &verb_inspect,
    &verb_metrics,
    &verb_rank,
    &verb_pull,
    &verb_data,
    &verb_tokenizer,
    &verb_lab,
    &verb_demo,
    &verb_doctor,
    &verb_help,
    NULL,
};
