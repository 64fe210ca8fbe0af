/* inspect.c - crank inspect MODEL: what a model folder holds. */
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "cli/inspect.h"
#include "cli/load.h"

typedef struct options {
    bool        linears, plan;
    const char *weights, *outliers;
    double      threshold;
    int64_t     rank, tokens;
    inspect_step_options     step;
    inspect_intruder_options intruder;
} options;

/* Options of `inspect intruder` under their own names. */
#define IN_INTRUDER(type, field, initial, help) {#field, type, offsetof(options, intruder.field), 0, 0, 1, initial, NULL, "intruder: " help}

static const crank_option option_table[] = {
    CRANK_BOOL(options, linears, false, "list every linear: what lowrank.targets can name"),
    CRANK_BOOL(options, plan, false, "bytes of weights, gradients and state under many ways of training; MODEL may be 60m, 130m, 350m, 1b or 7b"),
    CRANK_STRING(options, outliers, NULL, "text file: print the share of outliers of each layer (optim.scores of owlore), over its first tokens"),
    CRANK_FLOAT(options, threshold, 13, 0, 1e9, "outliers: an entry of |W| times its input's norm counts above this multiple of the mean"),
    CRANK_INT(options, tokens, 262144, 1, 1e12, "outliers: tokens to read at most"),
    CRANK_CHOICE(options, weights, "bf16", "bf16|f32|nf4|fp8", "plan: how weights are held"),
    CRANK_INT(options, rank, 0, 0, 65536, "plan: rank of low-rank ways; 0: that of the GaLore paper, or 128"),
    {"step", CRANK_OPTION_STRING, offsetof(options, step.step), 0, 0, 1, NULL, NULL, "plan: BxT, sequences and tokens of each: bytes of a whole step, from the plan of its graphs"},
    {"way", CRANK_OPTION_STRING, offsetof(options, step.way), 0, 0, 1, NULL, NULL, "plan --step: ways whose name holds this text"},
    {"inside", CRANK_OPTION_BOOL, offsetof(options, step.inside), 1, 0, 1, NULL, NULL, "plan --step: updates inside the backward pass"},
    {"largest", CRANK_OPTION_FLOAT, offsetof(options, step.largest), 0, 0, 1e6, NULL, NULL, "plan --step: instead of MODEL's, the largest LLaMA-like shape whose step fits so many GiB"},
    IN_INTRUDER(CRANK_OPTION_LIST, top, "10", "how many leading singular vectors are looked at; several: all in one pass"),
    IN_INTRUDER(CRANK_OPTION_LIST, epsilon, "0.5", "a vector whose largest cosine with those before lies below it is an intruder; several: all in one pass"),
    {"side", CRANK_OPTION_CHOICE, offsetof(options, intruder.side), 0, 0, 0, "left", "left|right|both", "intruder: which singular vectors"},
    IN_INTRUDER(CRANK_OPTION_LIST, targets, "all-linear", "linears to look at (the rule of lowrank.targets)"),
    IN_INTRUDER(CRANK_OPTION_BOOL, fast, NULL, "leading vectors by subspace iteration instead of a full decomposition"),
    IN_INTRUDER(CRANK_OPTION_STRING, text, NULL, "text like that of pre-training: the loss before and after is what was forgotten"),
    IN_INTRUDER(CRANK_OPTION_STRING, choices, NULL, "rows of prompt, choices and answer: accuracy before and after"),
    IN_INTRUDER(CRANK_OPTION_STRING, csv, NULL, "file for a row of every linear, side, top and epsilon"),
    IN_INTRUDER(CRANK_OPTION_STRING, html, NULL, "file for a page with the cosines of every linear as a picture"),
    CRANK_END
};

static void print_config(const crank_model_config *c, int64_t parameters)
{
    printf("architecture   %s (%s)\n", c->architecture, c->causal ? "language model" : "encoder");
    printf("parameters     %lld\n", (long long)parameters);
    printf("layers         %lld of width %lld, %lld heads of %lld (%lld for keys and values), mlp %lld\n", (long long)c->layers, (long long)c->hidden,
           (long long)c->heads, (long long)c->head_dim, (long long)c->kv_heads, (long long)c->intermediate);
    printf("vocabulary     %lld%s\n", (long long)c->vocab, c->tied ? ", tied head" : "");
    printf("context        %lld tokens", (long long)c->context);
    if (c->window) printf(", window %lld", (long long)c->window);
    printf("\n");
    if (c->labels) printf("labels         %lld\n", (long long)c->labels);
}

static crank_status print_json(cli_call *cli, const crank_model *model, int64_t parameters)
{
    const crank_model_config *c = crank_model_config_of(model);
    crank_linears            *linears = crank_model_linears(model);
    json_t                   *list = json_array();
    for (size_t i = 0; i < crank_linears_count(linears); i++) {
        const crank_linear *l = crank_linears_at(linears, i);
        json_array_append_new(list, json_pack("{s:s, s:I, s:I}", "name", l->name, "in", (json_int_t)l->in, "out", (json_int_t)l->out));
    }
    json_t *root = json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:b, s:o}", "architecture", c->architecture, "parameters", (json_int_t)parameters,
                             "layers", (json_int_t)c->layers, "hidden", (json_int_t)c->hidden, "heads", (json_int_t)c->heads, "kv_heads",
                             (json_int_t)c->kv_heads, "intermediate", (json_int_t)c->intermediate, "vocab", (json_int_t)c->vocab, "context",
                             (json_int_t)c->context, "tied", c->tied, "linears", list);
    char *text = root ? json_text(cli->context, root, 0) : NULL;
    json_decref(root);
    if (!text) return crank_fail(cli->context, CRANK_FAILED, "out of memory: the result");
    puts(text);
    crank_free(text);
    return CRANK_OK;
}

static crank_status run(cli_call *cli)
{
    const options *o = cli->options;
    loaded         l;
    bool intruder = !strcmp(cli->words[0], "intruder");
    if (intruder && cli->word_count == 3) return inspect_intruder(cli, &o->intruder);
    if (cli->word_count != 1 || intruder) return crank_fail(cli->context, CRANK_USAGE, "usage: crank inspect MODEL, or crank inspect intruder BASE TUNED");
    if (o->outliers) return inspect_outliers(cli, cli->words[0], o->outliers, o->threshold, o->tokens);
    if (o->step.step && !o->plan) return crank_fail(cli->context, CRANK_USAGE, "--step belongs to --plan");
    if (o->step.step) return inspect_step(cli, cli->words[0], o->weights, o->rank, &o->step);
    if (o->step.largest > 0) return crank_fail(cli->context, CRANK_USAGE, "--largest needs --plan --step BxT: what a step takes depends on its tokens");
    if (o->plan) return inspect_plan(cli, cli->words[0], o->weights, o->rank);
    crank_status   status = load_model(cli, cli->words[0], NULL, "f32", false, &l);
    if (status != CRANK_OK) return status;
    crank_params  *params = crank_model_params(l.model);
    crank_linears *linears = crank_model_linears(l.model);
    int64_t        parameters = 0;
    for (size_t i = 0; i < crank_params_count(params); i++)
        if (crank_params_at(params, i)->role == CRANK_ROLE_WEIGHT && !crank_params_at(params, i)->scales) parameters += crank_view_count(&crank_params_at(params, i)->view);
    if (cli->common.json) {
        status = print_json(cli, l.model, parameters);
    } else {
        print_config(crank_model_config_of(l.model), parameters);
        for (size_t i = 0; o->linears && i < crank_linears_count(linears); i++) {
            const crank_linear *linear = crank_linears_at(linears, i);
            printf("  %-60s %6lld -> %lld\n", linear->name, (long long)linear->in, (long long)linear->out);
        }
        if (!o->linears) printf("linears        %zu (--linears lists them)\n", crank_linears_count(linears));
    }
    load_free(&l);
    return status;
}

const cli_verb verb_inspect = {
    .name = "inspect",
    .usage = "MODEL [--linears] | MODEL --plan [--rank N] [--step BxT [--way TEXT] [--largest GIB]] | MODEL --outliers TEXT | intruder BASE TUNED [--top K] [--epsilon E] [--html FILE] [--text FILE]",
    .summary = "what a model folder holds: shapes, sizes, the linears that can be adapted",
    .details = "intruder: TUNED is a model folder of the same shapes, or an adapter of BASE. Leading singular vectors of every tuned weight are held against all of the base's: "
               "those that none resembles are intruder dimensions (arXiv:2410.21228). Cosines, energies, overlaps and the effective rank of the change do not depend on the "
               "threshold. `crank adapter repair` scales them down.",
    .options = option_table,
    .options_size = sizeof(options),
    .words_low = 1,
    .words_high = 3,
    .run = run,
};
