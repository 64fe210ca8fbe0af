/* inspect.h - parts of crank inspect. */
#ifndef CRANK_CLI_INSPECT_H
#define CRANK_CLI_INSPECT_H

#include "cli/cli.h"
#include "task/accounts.h"

enum { INSPECT_WAYS = 13 };
/* The ways of training that the tables show, at a rank; `text` holds their options. */
void inspect_ways(int64_t rank, account ways[INSPECT_WAYS], char text[4][64]);
/* Four and eight bits are for methods that leave the base alone. */
bool inspect_fits(const account *way, crank_dtype type);
/* config.json text of a folder, a file, a name of the hub or a size, which sets the rank; NULL: message set. */
char *inspect_config(cli_call *cli, const char *model, int64_t *rank);

/* The table of bytes under many ways of training; rank 0: the size's own, or 128. */
crank_status inspect_plan(cli_call *cli, const char *model, const char *weights, int64_t rank);
typedef struct inspect_step_options {
    const char *step, *way; /* BxT; text in the names of the ways to show, or NULL */
    double      largest;    /* GiB; 0: of MODEL */
    bool        inside;
} inspect_step_options;
/* Bytes of a whole step, or with `largest` the largest LLaMA-like shape whose step fits. */
crank_status inspect_step(cli_call *cli, const char *model, const char *weights, int64_t rank, const inspect_step_options *how);
/* Shares of outliers, one a layer, over the first `tokens` tokens of a text. */
crank_status inspect_outliers(cli_call *cli, const char *model, const char *path, double threshold, int64_t tokens);

typedef struct inspect_intruder_options {
    const char *top, *epsilon; /* lines */
    const char *side;          /* left, right, both */
    const char *targets, *text, *choices, *csv, *html;
    bool        fast;
} inspect_intruder_options;
/* crank inspect intruder BASE TUNED: what training changed in the spectra. */
crank_status inspect_intruder(cli_call *cli, const inspect_intruder_options *how);
#endif
