/* adapter.c - crank adapter: merge adds the changes of adapters to the weights of their base model; convert writes an adapter in another
 * layout; truncate cuts it to a lower rank. */
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "cli/adapter.h"
#include "data/hub.h"

typedef adapter_options options;

static const crank_option option_table[] = {
    CRANK_CHOICE(options, dtype, "auto", "auto|f32|bf16|f16", "type of the written weights; auto: f32"),
    CRANK_BOOL(options, unsafe, false, "write even when a merged weight is not finite"),
    CRANK_BOOL(options, strict, false, "recover: of a sparse model: write the large model with the change of the kept weights alone, merged, instead of an adapter"),
    CRANK_CHOICE(options, to, "peft", "lora|peft|own", "convert: plain LoRA pairs, the layout of PEFT where it knows the method, or crank's own"),
    CRANK_INT(options, rank, 0, 0, 65536, "truncate: rank to keep"),
    CRANK_MAP(options, rank_pattern, NULL, "truncate: regex=rank for linears that keep another rank"),
    CRANK_BOOL(options, svd, false, "truncate: by the singular values of each linear's product, for methods that do not order their ranks"),
    CRANK_LIST(options, lambda, NULL, "repair: factors of the intruders' singular values; 0 takes them out, 1 changes nothing"),
    CRANK_CHOICE(options, which, "top", "top|all", "repair: the highest intruder of each linear, or all of them"),
    CRANK_CHOICE(options, control, "intruders", "intruders|neighbours|random|shrink", "repair: what is scaled; the others are controls"),
    CRANK_BOOL(options, controls, false, "repair: measure the controls beside each factor, and the uniform shrink that costs the task as much"),
    CRANK_CHOICE(options, form, "exact", "exact|truncate|merged", "repair of an adapter: a rank more for every intruder, cut back to its rank, or merged weights"),
    CRANK_INT(options, top, 10, 1, 100000, "repair: how many leading singular vectors are looked at"),
    CRANK_FLOAT(options, epsilon, 0.5, 0, 1, "repair: a vector whose largest cosine with those before lies below it is an intruder"),
    CRANK_LIST(options, targets, "all-linear", "repair: linears to look at"),
    CRANK_STRING(options, text, NULL, "repair, recover: plain text of the task, held out"),
    CRANK_STRING(options, data, NULL, "repair: rows of the task, held out"),
    CRANK_STRING(options, forget, NULL, "repair: text like that of pre-training"),
    CRANK_STRING(options, gguf, NULL, "merge, convert: file to write as GGUF instead of a folder"),
    CRANK_STRING(options, index, NULL, "recover: folder with pruned.safetensors, where SMALL was trained further elsewhere"),
    CRANK_STRING(options, out, NULL, "folder to write (convert, truncate, repair, recover)"),
    CRANK_STRING(options, model, NULL, "convert, truncate: base model, where the adapter does not name it or it lies elsewhere"),
    CRANK_END
};

/* Words first .. last - 1 as lines; crank_free. */
static char *join_words(cli_call *cli, int first, int last)
{
    text_buffer text = {0};
    for (int i = first; i < last; i++) text_printf(&text, "%s%s", i > first ? "\n" : "", cli->words[i]);
    return text_take(cli->context, &text, "names of adapters");
}

static crank_status write_merged(cli_call *cli, const loaded *l, const char *out, crank_dtype dtype)
{
    const options *o = cli->options;
    char          *left_out = NULL;
    crank_status   status;
    if (!o->gguf) {
        status = crank_model_save(cli->context, l->model, out, dtype);
        return status == CRANK_OK ? crank_tokenizer_save(cli->context, l->tokenizer, out) : status;
    }
    status = crank_model_save_gguf(cli->context, l->model, l->tokenizer, out, dtype, &left_out);
    if (left_out) crank_log(cli->context, CRANK_WARNING, "not in the GGUF file:\n%s", left_out);
    crank_free(left_out);
    return status;
}

static crank_status merge(cli_call *cli)
{
    const options *o = cli->options;
    crank_dtype    dtype = CRANK_F32;
    loaded         l;
    int            end = o->gguf ? cli->word_count : cli->word_count - 1;
    if (end < (o->gguf ? 2 : 3)) return crank_fail(cli->context, CRANK_USAGE, "usage: crank adapter merge MODEL ADAPTER[:WEIGHT] ... OUT, or with --gguf FILE instead of OUT");
    if (strcmp(o->dtype, "auto")) crank_dtype_parse(o->dtype, &dtype);
    const char  *out = o->gguf ? o->gguf : cli->words[end];
    char        *adapters = join_words(cli, 2, end);
    crank_status status = adapters ? load_model(cli, cli->words[1], end > 2 ? adapters : NULL, "f32", true, &l) : CRANK_FAILED;
    crank_free(adapters);
    if (status != CRANK_OK) return status;
    if (end > 2) status = crank_linears_merge(cli->context, crank_model_linears(l.model), !o->unsafe, false);
    if (status == CRANK_OK) status = write_merged(cli, &l, out, dtype);
    if (status == CRANK_OK && cli->common.json) printf("{\"result\": \"%s\"}\n", out);
    else if (status == CRANK_OK) printf("merged model: %s (%s)\n", out, crank_dtype_name(dtype));
    load_free(&l);
    return status;
}

/* The base model's folder: --model, else what the adapter names; crank_free. */
static char *base_of(cli_call *cli, const char *adapter)
{
    const options *o = cli->options;
    char          *base = NULL, *folder;
    if (o->model) return crank_strdup(cli->context, o->model);
    if (!(folder = hub_resolve(cli->context, adapter))) return NULL;
    if (crank_adapter_base(cli->context, folder, &base) == CRANK_OK && !base)
        crank_fail(cli->context, CRANK_USAGE, "%s names no base model: give it with --model", adapter);
    crank_free(folder);
    return base;
}

static crank_status write_as(cli_call *cli, const loaded *l, const char *base)
{
    const options    *o = cli->options;
    crank_attachment *attachment = crank_linears_attachment(crank_model_linears(l->model), 0);
    const crank_map  *map = crank_attachment_map(attachment);
    if (o->gguf) return crank_adapter_save_gguf(cli->context, l->model, attachment, o->gguf);
    if (!strcmp(o->to, "own")) return crank_adapter_save_own(cli->context, l->model, attachment, o->out, base);
    if (!strcmp(o->to, "lora") || !map->peft_type) return crank_adapter_save_lora(cli->context, l->model, attachment, o->out, base);
    return crank_adapter_save(cli->context, l->model, attachment, o->out, base);
}

static crank_status convert(cli_call *cli)
{
    const options *o = cli->options;
    loaded         l;
    if (cli->word_count != 2 || !o->out == !o->gguf)
        return crank_fail(cli->context, CRANK_USAGE, "usage: crank adapter convert ADAPTER --to lora|peft|own -o DIR [--model MODEL], or --gguf FILE instead of -o");
    char        *base = base_of(cli, cli->words[1]);
    crank_status status = base ? load_model(cli, base, cli->words[1], "f32", false, &l) : crank_last_status(cli->context);
    if (status == CRANK_OK) {
        status = write_as(cli, &l, base);
        load_free(&l);
    }
    if (status == CRANK_OK && cli->common.json) printf("{\"result\": \"%s\"}\n", o->gguf ? o->gguf : o->out);
    else if (status == CRANK_OK) printf("adapter: %s (%s)\n", o->gguf ? o->gguf : o->out, o->gguf ? "gguf" : o->to);
    crank_free(base);
    return status;
}

static crank_status truncate_to(cli_call *cli)
{
    const options *o = cli->options;
    crank_cut      cut = {.rank = o->rank, .patterns = o->rank_pattern, .svd = o->svd};
    loaded         l;
    if (cli->word_count != 2 || !o->out || (!o->rank && !o->rank_pattern))
        return crank_fail(cli->context, CRANK_USAGE, "usage: crank adapter truncate ADAPTER --rank R -o DIR [--rank-pattern REGEX=RANK] [--svd] [--model MODEL]");
    char        *base = base_of(cli, cli->words[1]);
    crank_status status = base ? load_model(cli, base, cli->words[1], "f32", false, &l) : crank_last_status(cli->context);
    if (status == CRANK_OK) {
        status = crank_adapter_save_cut(cli->context, l.model, crank_linears_attachment(crank_model_linears(l.model), 0), o->out, base, &cut);
        load_free(&l);
    }
    if (status == CRANK_OK && cli->common.json) printf("{\"result\": \"%s\", \"lost\": %.9g}\n", o->out, cut.lost);
    else if (status == CRANK_OK && cut.svd) printf("adapter: %s; at most %.3g of a linear's change was cut off (Frobenius norm)\n", o->out, cut.lost);
    else if (status == CRANK_OK) printf("adapter: %s\n", o->out);
    crank_free(base);
    return status;
}

static crank_status run(cli_call *cli)
{
    static const char *const actions[] = {"merge", "convert", "truncate", "repair", "recover"};
    if (!strcmp(cli->words[0], "merge")) return merge(cli);
    if (!strcmp(cli->words[0], "convert")) return convert(cli);
    if (!strcmp(cli->words[0], "truncate")) return truncate_to(cli);
    if (!strcmp(cli->words[0], "repair")) return adapter_repair(cli);
    if (!strcmp(cli->words[0], "recover")) return adapter_recover(cli);
    const char *closest = crank_closest(cli->words[0], actions, sizeof actions / sizeof *actions);
    return crank_fail(cli->context, CRANK_USAGE, "crank adapter has no action `%s`%s%s%s: there are merge, convert, truncate, repair and recover", cli->words[0], closest ? "; did you mean `" : "",
                      closest ? closest : "", closest ? "`?" : "");
}

const cli_verb verb_adapter = {
    .name = "adapter",
    .usage = "merge MODEL ADAPTER[:WEIGHT] ... OUT|--gguf FILE [--dtype TYPE] | convert ADAPTER --to lora|peft|own -o DIR|--gguf FILE [--model MODEL] | "
             "truncate ADAPTER --rank R -o DIR [--svd] | repair BASE TUNED --lambda L[,L] [--text TASK] [--forget TEXT] [-o OUT] | "
             "recover LARGE SMALL ADAPTER -o OUT [--text FILE]",
    .summary = "merge adapters into their base model, write one in another layout, or cut it to a lower rank",
    .details = "convert: methods whose change has a bounded rank become plain LoRA pairs that PEFT loads, each linear with the rank that it has; those of rank 0 go. "
               "\ntruncate: a DyLoRA adapter is cut to any rank that it trained, without loss of its order; any other of bounded rank with --svd, to the nearest "
               "change of that rank. A linear of lower rank stays as it is. The result is plain LoRA. "
               "\nrepair: singular values of intruder dimensions (crank inspect intruder) are scaled by lambda; controls: neighbouring vectors, random directions, a "
               "uniform shrink of the whole change. Uniform shrinks often are the better deal: measure both. "
               "\nrecover: an adapter that was trained on a model of crank compress becomes one of the model that it was pruned from: the same change on the kept rows and "
               "columns, none elsewhere. --text tells the loss of both models with and without it. "
               "\n--gguf writes the file that llama.cpp's readers know (families llama, mistral, qwen2, qwen3, gpt2, bert, roberta), tokenizer included; merge --gguf also takes a "
               "model alone. What a GGUF adapter cannot carry is listed. "
               "\nmerge: several adapters are mixed, W + sum of weight times change (weight 1 where none is given). The change of every adapted linear is computed in f32 and rounded once. A result that is not finite is refused and nothing is written.",
    .letters = "o=out m=model",
    .options = option_table,
    .options_size = sizeof(options),
    .words_low = 1,
    .words_high = -1,
    .run = run,
};
