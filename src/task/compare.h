/* compare.h - several methods on one recipe, each at its own best rate out of as many trials.
 *
 *     1  match     ranks are chosen so that all train as many values, or plan as much memory, as the first method (or steps, so that all
 *                  take as long)
 *     2  tune      every method is trained at every rate of a geometric grid around the recipe's, with the recipe's seed
 *     3  seeds     every method is trained at its best rate with further seeds, the same for all: differences from the first are paired
 *
 * Each trial has a folder of its own, FOLDER/METHOD/rate-R or seed-S, with outcome.json when it has ended. A comparison that is started
 * again takes those as they are, and goes on with the trial that was stopped from its checkpoint. */
#ifndef CRANK_TASK_COMPARE_H
#define CRANK_TASK_COMPARE_H

#include "base/json.h"
#include "task/train.h"

enum { COMPARE_METHODS = 16, COMPARE_TRIALS = 32, COMPARE_WORDS = 24 };

typedef enum compare_match { MATCH_NONE, MATCH_PARAMS, MATCH_MEMORY, MATCH_TIME } compare_match;

typedef struct compare_trial {
    double  rate;
    int64_t seed;
    bool    diverged;
    double  loss, accuracy, seconds; /* held-out; accuracy NAN outside of classification */
    int64_t steps, trainable, planned, measured, state;
} compare_trial;

typedef struct compare_method {
    const char   *spec;                 /* as given: "lora:rank=8,alpha=16" */
    char         *words[COMPARE_WORDS]; /* of the recipe */
    int           word_count;
    int64_t       rank, steps;          /* as matched; 0: the recipe's own */
    compare_trial tune[COMPARE_TRIALS], seeds[COMPARE_TRIALS];
    int           tuned, seeded, best; /* best: of tune; -1: every rate diverged */
    bool          edge;                /* the best rate is the first or last of the grid */
} compare_method;

typedef struct compare_how {
    const char        *recipe, *folder;
    const char *const *words; /* of the recipe, for all methods */
    int                word_count, tune, seeds, progress;
    compare_match      match;
    void (*told)(void *user, const char *line); /* may be NULL */
    void *user;
} compare_how;

typedef struct comparison {
    compare_method methods[COMPARE_METHODS];
    int            count;
    bool           classified; /* quality is accuracy, higher is better; else loss */
    double         base_rate;
} comparison;

/* Reads the specs. A name is a low-rank method, an optimiser (of full training) or `none`. */
crank_status compare_open(crank_context *context, const char *const *specs, int count, comparison *out);
/* CRANK_STOPPED: the same call goes on later. */
crank_status compare_run(crank_context *context, const compare_how *how, comparison *out);
void         compare_free(comparison *comparison);

/* Trains the recipe in the folder (its output.path), or takes the trial that has ended there with the same recipe. What it needs no longer goes:
 * its checkpoint, and with `tune` its weights. */
crank_status compare_trial_run(crank_context *context, const task_recipe *recipe, const char *folder, int progress, bool tune, compare_trial *t);
/* The folder holds a trial that has ended. */
bool         compare_trial_ended(crank_context *context, const char *folder);

/* Mean quality over seeds, and of method i less method 0: mean and half-width of the 95 % interval of paired differences (NAN: fewer than
 * two seeds). */
double compare_quality(const comparison *c, const compare_trial *trial);
double compare_mean(const comparison *c, int i);
void   compare_difference(const comparison *c, int i, double *mean, double *half);
json_t *compare_json(const comparison *c);                               /* new reference */
char   *compare_page(crank_context *context, const comparison *c);        /* HTML; crank_free */
#endif
