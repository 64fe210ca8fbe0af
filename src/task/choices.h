/* choices.h - multiple choice by likelihood: the answer is the choice that the model finds most likely behind the prompt. */
#ifndef CRANK_TASK_CHOICES_H
#define CRANK_TASK_CHOICES_H

#include "crank/model.h"
#include "crank/tokenizer.h"

typedef struct choices_result {
    int64_t rows, right, right_per_token; /* by the sum of log-probabilities, and by their mean */
} choices_result;

/* `path`: jsonl rows {"prompt": text, "choices": [texts], "answer": index from 0} (gzip by its magic). Prompt and choice are encoded
 * apart; only tokens of the choice count. Rows longer than the model's context are errors. */
crank_status choices_evaluate(crank_context *context, crank_model *model, const crank_tokenizer *tokenizer, const char *path, choices_result *out);
#endif
