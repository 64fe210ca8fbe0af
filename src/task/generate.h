/* generate.h - text from a language model: one prompt pass, then a token at a time over a cache of keys and values. */
#ifndef CRANK_TASK_GENERATE_H
#define CRANK_TASK_GENERATE_H

#include "crank/model.h"
#include "crank/tokenizer.h"

typedef struct generate_options {
    int64_t max_new, top_k, seed; /* top_k 0: all */
    double  temperature, top_p;   /* temperature 0: greedy; top_p 1: all */
} generate_options;

/* Called with each new token; false stops. */
typedef bool generate_token(void *user, int32_t token);

/* Appends at most max_new tokens to `ids` (the prompt, at least one token), stopping behind one of the `stops`, or when the model's
 * context is full. Draw i of the stream (seed, SAMPLE) chooses token i. */
crank_status generate(crank_context *context, crank_model *model, const generate_options *options, const int32_t *stops, int stop_count,
                      crank_ids *ids, generate_token *each, void *user);

/* The choice of one token from logits [vocab]: softmax(logits / temperature), cut to the top_k most likely and then to the smallest
 * set whose mass reaches top_p; `uniform` in [0,1) chooses within it. `order` is scratch [vocab]. */
int32_t generate_choose(const generate_options *options, const float *logits, int64_t vocab, float uniform, int32_t *order);
#endif
