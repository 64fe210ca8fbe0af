/* compress.c - crank compress MODEL -o SMALL: a smaller base model to train adapters on (LoRAM, arXiv:2502.13533), or factors in the place of
 * its weights (compress_welore.c). */
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "cli/compress.h"
#include "model/model.h"
#include "model/prune.h"
#include "task/outliers.h"
#include "task/taylor.h"

typedef struct options {
    const char *out, *rule, *text, *dtype, *pattern, *measure, *choice;
    double      ratio, gate;
    int64_t     first, last, round_to, seed, tokens, seq;
} options;

static const crank_option option_table[] = {
    CRANK_STRING(options, out, NULL, "folder to write"),
    CRANK_FLOAT(options, ratio, 0.5, 0, 0.999, "share of the heads and of the neurons of each layer that go; welore: of the ranks"),
    CRANK_CHOICE(options, rule, "magnitude", "random|magnitude|taylor|wanda|welore", "which units stay: drawn, by norms in times norms out, by |w dL/dw| on --text; of a sparse model which weights: drawn, by |w|, by |w| |x| on --text (wanda); welore: weights become factors"),
    CRANK_STRING(options, pattern, NULL, "a sparse model of the same shapes instead: 4:8, 2:4 or any N:M of the inputs of a row, or `unstructured` (by --ratio)"),
    CRANK_FLOAT(options, gate, 0.4999, 0, 1, "welore: a matrix is factored where it loses more than this share of its rank"),
    CRANK_CHOICE(options, measure, "ranks", "ranks|parameters", "welore: what --ratio is the reduction of"),
    CRANK_CHOICE(options, choice, "adaptive", "adaptive|uniform", "welore: one threshold for all matrices, or the same share of each"),
    CRANK_INT(options, first, 0, 0, 4096, "first layers that stay whole"),
    CRANK_INT(options, last, 0, 0, 4096, "last layers that stay whole"),
    CRANK_INT(options, round_to, 1, 1, 4096, "neurons that are kept come in multiples of this"),
    CRANK_INT(options, seed, 0, 0, 9007199254740991, "seed of random"),
    CRANK_STRING(options, text, NULL, "taylor, wanda: text to take gradients or inputs on"),
    CRANK_INT(options, tokens, 8192, 2, 1e9, "taylor, wanda: tokens to read at most"),
    CRANK_INT(options, seq, 256, 1, 1000000, "taylor: tokens a sequence"),
    CRANK_CHOICE(options, dtype, "auto", "auto|f32|bf16|f16", "type of the written weights; auto: f32"),
    CRANK_END
};

static void free_scores(double **scores, int64_t layers)
{
    for (int64_t i = 0; scores && i < layers; i++) crank_free(scores[i]);
    crank_free(scores);
}

static double **new_scores(crank_context *context, const crank_model *model, bool neurons)
{
    int64_t  layers = model->body.count;
    double **scores = crank_alloc(context, (size_t)layers, sizeof *scores, "scores of units");
    for (int64_t i = 0; scores && i < layers; i++) {
        const nn_block *b = &model->body.blocks[i];
        scores[i] = crank_alloc(context, (size_t)(neurons ? b->mlp.up->out : b->attention.kv_heads), sizeof **scores, "scores of units");
        if (scores[i]) continue;
        free_scores(scores, layers);
        return NULL;
    }
    return scores;
}

static crank_status score(cli_call *cli, const options *o, const loaded *l, prune_how *how)
{
    size_t    length;
    crank_ids ids = {0};
    how->heads = new_scores(cli->context, l->model, false);
    how->neurons = new_scores(cli->context, l->model, true);
    char        *text = file_read(cli->context, o->text, &length);
    crank_status status = how->heads && how->neurons && text ? crank_encode(cli->context, l->tokenizer, text, length, NULL, 0, 0, &ids) : crank_last_status(cli->context);
    int64_t      count = (int64_t)ids.count < o->tokens ? (int64_t)ids.count : o->tokens;
    if (status == CRANK_OK) status = taylor_scores(cli->context, l->model, ids.ids, count, o->seq, how->heads, how->neurons);
    crank_ids_free(&ids);
    crank_free(text);
    return status;
}

static void tell(cli_call *cli, const prune_plan *plan)
{
    const options *o = cli->options;
    int64_t        heads = 0, neurons = 0, all_heads = 0, all_neurons = 0;
    for (int64_t i = 0; i < plan->count; i++) {
        heads += plan->layers[i].kept_heads, all_heads += plan->layers[i].kv_heads;
        neurons += plan->layers[i].kept_neurons, all_neurons += plan->layers[i].inner;
    }
    if (cli->common.json)
        printf("{\"result\": \"%s\", \"heads\": %lld, \"heads_before\": %lld, \"neurons\": %lld, \"neurons_before\": %lld}\n", o->out, (long long)heads, (long long)all_heads, (long long)neurons,
               (long long)all_neurons);
    else
        printf("small model: %s\n%lld of %lld heads of keys and values, %lld of %lld neurons in %lld layers; pruned.safetensors tells which\n", o->out, (long long)heads, (long long)all_heads,
               (long long)neurons, (long long)all_neurons, (long long)plan->count);
}

/* ---- sparse models ---- */

static crank_status read_pattern(cli_call *cli, prune_mask *mask)
{
    const options *o = cli->options;
    char           rest;
    long long      keep, of;
    if (!strcmp(o->pattern, "unstructured")) return CRANK_OK;
    if (sscanf(o->pattern, "%lld:%lld%c", &keep, &of, &rest) != 2 || keep < 1 || of < keep || of > 4096)
        return crank_fail(cli->context, CRANK_USAGE, "`%s` is no pattern: N:M keeps N of M inputs (4:8), `unstructured` goes by --ratio", o->pattern);
    mask->keep = keep, mask->of = of;
    return CRANK_OK;
}

static crank_status measure_norms(cli_call *cli, const options *o, const loaded *l, double **norms)
{
    size_t       length;
    crank_ids    ids = {0};
    char        *text = file_read(cli->context, o->text, &length);
    crank_status status = text ? crank_encode(cli->context, l->tokenizer, text, length, NULL, 0, 0, &ids) : crank_last_status(cli->context);
    if (status == CRANK_OK) status = outliers_norms(cli->context, l->model, ids.ids, (int64_t)ids.count < o->tokens ? (int64_t)ids.count : o->tokens, norms);
    crank_ids_free(&ids);
    crank_free(text);
    return status;
}

/* The shapes stay: the index keeps everything, and zeros tell what went. */
static crank_status write_sparse(cli_call *cli, const options *o, loaded *l, crank_dtype dtype, int64_t *zeros, int64_t *all)
{
    bool         wanda = !strcmp(o->rule, "wanda");
    size_t       linears = crank_linears_count(crank_model_linears(l->model));
    double     **norms = crank_alloc(cli->context, linears + 1, sizeof *norms, "norms of inputs");
    prune_mask   mask = {.ratio = o->ratio, .by_row = wanda, .first = o->first, .last = o->last, .seed = (uint64_t)o->seed, .rule = strcmp(o->rule, "random") ? PRUNE_MAGNITUDE : PRUNE_RANDOM};
    prune_plan   plan = {0};
    crank_status status = norms ? read_pattern(cli, &mask) : CRANK_FAILED;
    if (status == CRANK_OK && wanda) status = measure_norms(cli, o, l, norms);
    if (wanda) mask.norms = norms;
    if (status == CRANK_OK) status = prune_sparse(cli->context, l->model, &mask, zeros, all);
    if (status == CRANK_OK) status = prune_plan_make(cli->context, l->model, &(prune_how){.round_to = 1}, &plan);
    if (status == CRANK_OK) status = prune_write(cli->context, l->model, &plan, o->out, dtype);
    if (status == CRANK_OK) status = crank_tokenizer_save(cli->context, l->tokenizer, o->out);
    for (size_t i = 0; norms && i < linears; i++) crank_free(norms[i]);
    crank_free(norms);
    prune_plan_free(&plan);
    return status;
}

static crank_status run_sparse(cli_call *cli, crank_dtype dtype)
{
    const options *o = cli->options;
    loaded         l;
    int64_t        zeros, all;
    if (!strcmp(o->rule, "taylor")) return crank_fail(cli->context, CRANK_USAGE, "--rule taylor chooses heads and neurons; a sparse model goes by random, magnitude or wanda");
    crank_status status = load_model(cli, cli->words[0], NULL, "f32", true, &l);
    if (status != CRANK_OK) return status;
    status = write_sparse(cli, o, &l, dtype, &zeros, &all);
    if (status == CRANK_OK && cli->common.json) printf("{\"result\": \"%s\", \"zeros\": %lld, \"weights\": %lld}\n", o->out, (long long)zeros, (long long)all);
    else if (status == CRANK_OK) printf("sparse model: %s\n%lld of %lld weights of the layers are zero; lowrank.method=loram trains on the others\n", o->out, (long long)zeros, (long long)all);
    load_free(&l);
    return status;
}

static crank_status run(cli_call *cli)
{
    const options *o = cli->options;
    crank_dtype    dtype = CRANK_F32;
    loaded         l;
    prune_plan     plan = {0};
    bool           taylor = !strcmp(o->rule, "taylor"), wanda = !strcmp(o->rule, "wanda");
    if (!o->out) return crank_fail(cli->context, CRANK_USAGE, "crank compress needs a folder to write: -o DIR");
    if ((taylor || wanda) != (o->text != NULL)) return crank_fail(cli->context, CRANK_USAGE, "--rule taylor or wanda and --text FILE go together");
    if (strcmp(o->dtype, "auto")) crank_dtype_parse(o->dtype, &dtype);
    bool welore = !strcmp(o->rule, "welore");
    if (welore && o->pattern) return crank_fail(cli->context, CRANK_USAGE, "--rule welore makes factors, and --pattern a sparse model: choose one");
    if (welore) return compress_welore(cli, o->out, dtype, &(compress_welore_options){o->ratio, o->gate, o->measure, o->choice});
    if (o->pattern) return run_sparse(cli, dtype);
    if (wanda) return crank_fail(cli->context, CRANK_USAGE, "--rule wanda chooses weights of a sparse model: give --pattern 4:8 or unstructured");
    prune_how    how = {.ratio = o->ratio, .first = o->first, .last = o->last, .round_to = o->round_to, .seed = (uint64_t)o->seed,
                        .rule = taylor ? PRUNE_GIVEN : strcmp(o->rule, "random") ? PRUNE_MAGNITUDE : PRUNE_RANDOM};
    crank_status status = load_model(cli, cli->words[0], NULL, "f32", true, &l);
    if (status != CRANK_OK) return status;
    int64_t layers = l.model->body.count;
    if (taylor) status = score(cli, o, &l, &how);
    if (status == CRANK_OK) status = prune_plan_make(cli->context, l.model, &how, &plan);
    if (status == CRANK_OK) status = prune_write(cli->context, l.model, &plan, o->out, dtype);
    if (status == CRANK_OK) status = crank_tokenizer_save(cli->context, l.tokenizer, o->out);
    if (status == CRANK_OK) tell(cli, &plan);
    free_scores(how.heads, layers), free_scores(how.neurons, layers);
    prune_plan_free(&plan);
    load_free(&l);
    return status;
}

const cli_verb verb_compress = {
    .name = "compress",
    .usage = "MODEL -o SMALL [--ratio R] [--rule random|magnitude|taylor|wanda|welore] [--pattern 4:8|unstructured] [--first N] [--last N]",
    .summary = "a smaller model: heads and neurons pruned, weights made sparse, or factors of low rank",
    .details = "The small model is a folder as any other. Train it on general text first where pruning hurts (alignment: crank train with lowrank.method=none or any adapter), then "
               "train an adapter on it; `crank adapter recover LARGE SMALL ADAPTER -o OUT` makes it an adapter of the large model (LoRAM, arXiv:2502.13533). --rule welore writes a plain "
               "model and its factors beside it (WeLore, arXiv:2407.11239): `crank train model.path=SMALL lowrank.method=welore lowrank.adapter=SMALL/factors` trains them alone.",
    .letters = "o=out s=seed",
    .options = option_table,
    .options_size = sizeof(options),
    .words_low = 1,
    .words_high = 1,
    .run = run,
};
