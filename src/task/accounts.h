/* accounts.h - what an optimiser or a low-rank method holds for a model, from the code that would hold it: no memory is taken. */
#ifndef CRANK_TASK_ACCOUNTS_H
#define CRANK_TASK_ACCOUNTS_H

#include "crank/model.h"

/* A way of training: a low-rank method (NULL: every weight is trained) and an optimiser, with "key=value key=value" options. */
typedef struct account {
    const char *name;
    const char *map, *map_options;
    const char *optimizer, *optimizer_options;
} account;

typedef struct account_bytes {
    int64_t weights;   /* of the model, in the type asked for, trained ones in f32 where the method keeps them so */
    int64_t method;    /* parameters of the low-rank method */
    int64_t gradients; /* f32, all at once, as kept over a window (projected ones in their shape) */
    int64_t largest;   /* the largest of them: with updates inside the backward pass */
    int64_t state;     /* of the optimiser and the method */
    int64_t trained;   /* parameters that move in the heaviest step */
} account_bytes;

/* The accounts of one way of training a model of this config.json text. */
crank_status accounts_measure(crank_context *context, crank_device *device, const char *config, crank_dtype weights, const account *way, account_bytes *out);
/* A whole step over `sequences` sequences of `tokens`; inside: updates inside the backward pass. */
typedef struct account_step {
    int64_t tokens, sequences;
    bool    inside;
} account_step;
/* Its bytes: the plan of the graphs that would run, refreshes included. */
typedef struct account_plan {
    int64_t weights, state, step; /* with low-rank parameters; with sums and what updates work in; arena, workspace, inputs */
    int64_t peak, parameters;
} account_plan;
crank_status accounts_plan(crank_context *context, crank_device *device, const char *config, crank_dtype weights, const account *way, const account_step *step, account_plan *out);
/* The largest k whose plan for accounts_llama(k) is at most `limit` bytes, and its plan. */
crank_status accounts_largest(crank_context *context, crank_device *device, crank_dtype weights, const account *way, const account_step *step, int64_t limit, int64_t *k, account_plan *out);
char        *accounts_llama(crank_context *context, int64_t k); /* config.json text of LLaMA's proportions, width 128 k; crank_free */

/* The LLaMA sizes of the GaLore family's benchmark: "60m", "130m", "350m", "1b", "7b" -> config.json text (crank_free) and rank; NULL: none. */
char *accounts_config(crank_context *context, const char *size, int64_t *rank);
#endif
