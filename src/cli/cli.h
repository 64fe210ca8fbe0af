/* cli.h - what the verbs share. One file a verb; each ends in one descriptor, and verbs.c is nothing but their list.
 *
 * stdout carries results only; progress, logs and errors go to stderr. Exit codes: 0 done, 1 failed, 2 wrong usage, 3 bad input
 * data, 4 ran but the claim or gate does not hold, 130 stopped with a checkpoint. */
#ifndef CRANK_CLI_CLI_H
#define CRANK_CLI_CLI_H

#include "crank/base.h"
#include "crank/option.h"

/* Flags that every verb knows. */
typedef struct cli_common {
    bool        json, quiet, verbose, help;
    int64_t     threads;
    const char *plugin;
    const char *device; /* NULL: auto */
} cli_common;

typedef struct cli_call {
    crank_context *context;
    cli_common     common;
    char         **words; /* positional arguments */
    int            word_count;
    void          *options; /* the verb's struct */
} cli_call;

typedef struct cli_verb {
    const char         *name, *usage, *summary;
    const char         *details; /* paragraphs for help and man page; may be NULL */
    const char         *letters; /* "a=adapter p=prompt": one-letter forms of options */
    const crank_option *options; /* may be NULL */
    size_t              options_size;
    int                 words_low, words_high; /* positional arguments; high -1: any number */
    bool                brief; /* done in about the time that a program needs to start: see limit_spinning in main.c */
    crank_status (*run)(cli_call *cli);
} cli_verb;

extern const cli_verb *const cli_verbs[]; /* ends with NULL */
extern const crank_option   cli_common_options[];

const cli_verb *cli_find(const char *name);
/* Help of a verb as text; crank_free. */
char *cli_verb_help(crank_context *context, const cli_verb *verb);
#endif
