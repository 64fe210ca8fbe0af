/* help.h - everything that has a name and an option table, as help, the man page and completions list it. */
#ifndef CRANK_CLI_HELP_H
#define CRANK_CLI_HELP_H

#include "cli/cli.h"

/* A section of a recipe. */
typedef struct help_section {
    const char         *name, *summary;
    const crank_option *options;
} help_section;

extern const help_section help_sections[]; /* ends with a NULL name */

typedef struct help_entry {
    const char         *name, *paper, *summary; /* paper may be NULL */
    const crank_option *options;                /* may be NULL */
} help_entry;

/* A registry. */
typedef struct help_kind {
    const char *name, *one; /* "methods", "method" */
    const char *summary;
    const char *recipe; /* the key that takes the name, "lowrank.method"; NULL: none */
    bool (*at)(size_t i, help_entry *entry); /* false past the end */
} help_kind;

extern const help_kind help_kinds[]; /* ends with a NULL name */

/* The man page crank(1) in roff, and the completion script of "bash", "zsh" or "fish". NULL: message set. crank_free. */
char *help_man(crank_context *context);
char *help_completion(crank_context *context, const char *shell);

/* "max_new" is --max-new on the command line. Gives out. */
const char *help_flag(const char *name, char *out, size_t size);
#endif
