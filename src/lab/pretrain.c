/* pretrain.c - experiment: a Llama trained from scratch by every method of the family, through the training program itself.
 *
 * Text of WikiText-2's held-out parts, tiny Shakespeare and GSM8K as bytes; a tenth of each file is held out. Each trial is one recipe in a
 * folder of its own, so that a run may be stopped, go on, and come in parts:
 *
 *     crank lab run pretrain --scale gpu --results DIR --method GaLore    one method; without --method the rest, the table and the verdict
 *
 * The larger setting has 10.6 million parameters and sees 66 million bytes, some nine times the text: held-out loss is the best of its run. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/number.h"
#include "lab/lab.h"
#include "lab/corpus.h"
#include "task/compare.h"

typedef struct size {
    int     hidden, inner, layers, heads, context, batch, steps, rank, gap, iteration;
    size_t  held; /* bytes of held-out text */
    double  spread; /* of initial weights: 1 / sqrt(width) */
    const char *precision;
} size;

static const size small = {64, 176, 2, 4, 64, 16, 300, 16, 50, 25, 32768, 0.125, "f32"}, large = {384, 1024, 6, 6, 512, 64, 2000, 96, 200, 100, 524288, 0.051, "auto"};

typedef struct world {
    char *folder, *config, *tokenizer, *train, *eval; /* folder: of this run's trials */
    bool  passing;                                    /* a temporary folder, which goes */
} world;

static const size *size_of(const lab_trial *trial) { return trial->large ? &large : &small; }

/* ---- the world: text, tokenizer and shape as files ---- */

static const struct {
    const char *name;
    bool        questions;
} files[] = {{"text/wikitext2-test.txt.gz", false}, {"text/wikitext2-valid.txt.gz", false}, {"text/tinyshakespeare.txt.gz", false}, {"text/gsm8k-train.jsonl.gz", true}, {"text/gsm8k-test.jsonl.gz", true}};

enum { FILES = sizeof files / sizeof *files };

static crank_status write_bytes(crank_context *context, const char *path, const lab_corpus *t)
{
    file_writer *writer = file_writer_open(context, path);
    if (!writer) return CRANK_FAILED;
    crank_status status = file_writer_write(context, writer, t->bytes, t->length);
    if (status == CRANK_OK) return file_writer_commit(context, writer);
    file_writer_abort(writer);
    return status;
}

/* The last tenth of a file is held out, and of it an equal share of what is evaluated. */
static crank_status split(crank_context *context, const lab_corpus *t, size_t held, lab_corpus *train, lab_corpus *eval)
{
    size_t border = t->length / 10 * 9, rest = t->length - border;
    while (border < t->length && ((unsigned char)t->bytes[border] & 0xc0) == 0x80) border++, rest--; /* not inside of a character */
    size_t shown = held / FILES < rest ? held / FILES : rest;
    while (shown < rest && ((unsigned char)t->bytes[border + shown] & 0xc0) == 0x80) shown++;
    crank_status status = lab_corpus_append(context, train, t->bytes, border);
    return status == CRANK_OK ? lab_corpus_append(context, eval, t->bytes + border, shown) : status;
}

static crank_status write_texts(crank_context *context, const world *w, size_t held)
{
    lab_corpus   train = {0}, eval = {0};
    crank_status status = CRANK_OK;
    for (int i = 0; status == CRANK_OK && i < FILES; i++) {
        lab_corpus t = {0};
        status = lab_corpus_read(context, files[i].name, files[i].questions, SIZE_MAX, &t);
        if (status == CRANK_OK) status = split(context, &t, held, &train, &eval);
        crank_free(t.bytes);
    }
    if (status == CRANK_OK) status = write_bytes(context, w->train, &train);
    if (status == CRANK_OK) status = write_bytes(context, w->eval, &eval);
    crank_free(train.bytes), crank_free(eval.bytes);
    return status;
}

/* Byte-level BPE without merges: the 256 bytes in their usual stand-ins, and an end. */
static crank_status write_tokenizer(crank_context *context, const char *path)
{
    json_t *vocab = json_object(), *root;
    int     moved = 0;
    for (int byte = 0; byte < 256; byte++) {
        bool plain = (byte > 32 && byte < 127) || (byte > 160 && byte != 173);
        int  code = plain ? byte : 256 + moved++;
        char text[3] = {(char)code, 0, 0};
        if (code > 127) text[0] = (char)(0xc0 | code >> 6), text[1] = (char)(0x80 | (code & 63));
        json_object_set_new(vocab, text, json_integer(byte + 1));
    }
    json_object_set_new(vocab, "<|end|>", json_integer(0));
    root = json_pack("{s:s, s:n, s:n, s:[{s:i, s:s, s:b, s:b, s:b, s:b, s:b}], s:n, s:{s:s, s:b, s:b, s:b}, s:n, s:{s:s, s:b, s:b, s:b}, s:{s:s, s:n, s:n, s:n, s:n, s:b, s:b, s:b, s:o, s:[]}}", "version",
                     "1.0", "truncation", "padding", "added_tokens", "id", 0, "content", "<|end|>", "single_word", 0, "lstrip", 0, "rstrip", 0, "normalized", 0, "special", 1, "normalizer",
                     "pre_tokenizer", "type", "ByteLevel", "add_prefix_space", 0, "trim_offsets", 1, "use_regex", 1, "post_processor", "decoder", "type", "ByteLevel", "add_prefix_space", 1,
                     "trim_offsets", 1, "use_regex", 1, "model", "type", "BPE", "dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk", 0, "byte_fallback", 0,
                     "ignore_merges", 0, "vocab", vocab, "merges");
    crank_status status = root ? json_write(context, path, root) : crank_fail(context, CRANK_FAILED, "out of memory: a tokenizer");
    json_decref(root);
    return status;
}

static char *config_text(crank_context *context, const size *s)
{
    return crank_format(context,
                        "{\"architectures\":[\"LlamaForCausalLM\"],\"model_type\":\"llama\",\"vocab_size\":257,\"hidden_size\":%d,\"num_hidden_layers\":%d,"
                        "\"num_attention_heads\":%d,\"num_key_value_heads\":%d,\"intermediate_size\":%d,\"max_position_embeddings\":1024,\"rms_norm_eps\":1e-6,"
                        "\"initializer_range\":%g,\"hidden_act\":\"silu\",\"tie_word_embeddings\":false}",
                        s->hidden, s->layers, s->heads, s->heads, s->inner, s->spread);
}

static crank_status open_folder(crank_context *context, const lab_trial *trial, world *w)
{
    const char *base = getenv("TMPDIR");
    w->passing = !trial->folder;
    w->folder = w->passing ? crank_format(context, "%s/crank-pretrain-XXXXXX", base && *base ? base : "/tmp")
                           : crank_format(context, "%s/trials/pretrain-%s", trial->folder, trial->large ? "gpu" : "cpu");
    if (!w->folder) return CRANK_FAILED;
    if (w->passing && !mkdtemp(w->folder)) {
        w->passing = false;
        return crank_fail(context, CRANK_FAILED, "%s: no folder can be made there; set TMPDIR, or --results", w->folder);
    }
    return file_make_folder(context, w->folder);
}

static crank_status prepare(lab_trial *trial)
{
    crank_context *context = trial->context;
    world         *w = trial->world;
    crank_status   status = open_folder(context, trial, w);
    if (status != CRANK_OK) return status;
    w->config = file_join(context, w->folder, "config.json");
    w->tokenizer = file_join(context, w->folder, "tokenizer.json");
    w->train = file_join(context, w->folder, "train.txt");
    w->eval = file_join(context, w->folder, "eval.txt");
    char *config = config_text(context, size_of(trial));
    status = w->config && w->tokenizer && w->train && w->eval && config ? file_write_text(context, w->config, config) : CRANK_FAILED;
    if (status == CRANK_OK) status = write_tokenizer(context, w->tokenizer);
    if (status == CRANK_OK) status = write_texts(context, w, size_of(trial)->held);
    crank_free(config);
    return status;
}

static void release(void *own)
{
    world *w = own;
    if (w->passing) {
        crank_context *context = crank_context_new(); /* what is left behind is no failure of the experiment */
        if (context) file_folder_remove(context, w->folder);
        crank_context_free(context);
    }
    crank_free(w->folder), crank_free(w->config), crank_free(w->tokenizer), crank_free(w->train), crank_free(w->eval);
}

/* ---- a trial ---- */

enum { WORDS = 48 };

typedef struct recipe_words {
    char *list[WORDS];
    int   count;
} recipe_words;

static void add(crank_context *context, recipe_words *words, const char *format, ...) CRANK_PRINTF(3, 4);
static void add(crank_context *context, recipe_words *words, const char *format, ...)
{
    char    text[2048];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    if (words->count < WORDS) words->list[words->count++] = crank_strdup(context, text);
}

/* The method's words with the setting's numbers: RANK, GAP (between refreshes, draws and folds) and ITERATION (of SST). */
static void add_method(crank_context *context, recipe_words *words, const lab_method *method, const size *s)
{
    static const char *const names[] = {"RANK", "GAP", "ITERATION"};
    const int                values[] = {s->rank, s->gap, s->iteration};
    for (const char *at = method->words; *at; at += strspn(at, " ")) {
        char   word[256];
        size_t length = strcspn(at, " "), key = strcspn(at, "=") + 1;
        snprintf(word, sizeof word, "%.*s", (int)length, at);
        for (int i = 0; i < 3; i++)
            if (key < length && !strcmp(word + key, names[i])) snprintf(word + key, sizeof word - key, "%d", values[i]);
        add(context, words, "%s", word);
        at += length;
    }
}

static task_recipe *recipe_of(const lab_trial *trial, const char *folder)
{
    const world   *w = trial->world;
    const size    *s = size_of(trial);
    crank_context *context = trial->context;
    recipe_words   words = {.count = 0};
    char           rate[NUMBER_SIZE];
    number_print(trial->rate, rate);
    add(context, &words, "model.config=%s", w->config);
    add(context, &words, "model.device=%s", trial->large ? "auto" : "cpu");
    add(context, &words, "model.compute=%s", s->precision);
    add(context, &words, "model.weights=f32");
    add(context, &words, "data.tokenizer=%s", w->tokenizer);
    add(context, &words, "data.train=%s", w->train);
    add(context, &words, "data.eval=%s", w->eval);
    add(context, &words, "data.document=file");
    add(context, &words, "data.context=%d", s->context);
    add(context, &words, "data.overflow=split");
    add(context, &words, "train.batch=%d", s->batch);
    add(context, &words, "train.steps=%d", s->steps);
    add(context, &words, "train.lr=%s", rate);
    add(context, &words, "train.warmup_share=0.1");
    add(context, &words, "train.floor=0.1");
    add(context, &words, "train.seed=%" PRIu64, trial->seed);
    add(context, &words, "train.log_every=10");
    add(context, &words, "output.path=%s", folder);
    add(context, &words, "output.report=false");
    add(context, &words, "output.tensorboard=false");
    add_method(context, &words, trial->method, s);
    bool whole = words.count < WORDS;
    for (int i = 0; i < words.count; i++) whole &= words.list[i] != NULL;
    task_recipe *recipe = whole ? task_recipe_load(context, NULL, (const char *const *)words.list, (size_t)words.count) : NULL;
    for (int i = 0; i < words.count; i++) crank_free(words.list[i]);
    return recipe;
}

static crank_status measure(lab_trial *trial, const compare_trial *done)
{
    const size *s = size_of(trial);
    trial->seconds = done->seconds;
    trial->bytes = done->planned;
    trial->state = done->state;
    trial->trained = done->trainable;
    crank_status status = lab_measure(trial, "loss", done->loss);
    if (status == CRANK_OK) status = lab_measure(trial, "tokens/s", (double)(done->steps * s->batch * s->context) / done->seconds);
    if (status == CRANK_OK) status = lab_measure(trial, "peak MiB", (double)done->measured / 1048576);
    return status == CRANK_OK ? lab_measure(trial, "state MiB", (double)done->state / 1048576) : status;
}

static crank_status try(lab_trial *trial)
{
    const world  *w = trial->world;
    compare_trial done = {.rate = trial->rate, .seed = (int64_t)trial->seed};
    char          name[64], rate[NUMBER_SIZE];
    number_print_digits(trial->rate, 3, rate);
    snprintf(name, sizeof name, "%s", trial->method->name);
    for (char *at = name; *at; at++)
        if (*at == ' ' || *at == '/') *at = '-';
    char        *folder = crank_format(trial->context, "%s/%s/seed-%" PRIu64 "-rate-%s", w->folder, name, trial->seed, rate);
    crank_status status = folder ? CRANK_OK : CRANK_FAILED;
    if (status == CRANK_OK && trial->kept && !compare_trial_ended(trial->context, folder)) status = CRANK_STOPPED;
    task_recipe *recipe = status == CRANK_OK ? recipe_of(trial, folder) : NULL;
    if (status == CRANK_OK) status = recipe ? compare_trial_run(trial->context, recipe, folder, -1, true, &done) : crank_last_status(trial->context);
    if (status == CRANK_OK) status = measure(trial, &done);
    task_recipe_free(recipe);
    crank_free(folder);
    return status;
}

static const lab_world world_pretrain = {.name = "pretrain", .size = sizeof(world), .large = true, .keeps = true, .prepare = prepare, .trial = try, .release = release};

/* ---- the experiment ---- */

#define FULL    "lowrank.method=none "
#define REST    " lowrank.modules=embed_tokens,lm_head,norm,input_layernorm,post_attention_layernorm lowrank.targets=all-linear"
#define ADAPTER(name) "lowrank.method=" name " lowrank.rank=RANK" REST

static const double grid[] = {2e-3, 4e-3, 8e-3, 1.6e-2, 3.2e-2, 6.4e-2, 1.28e-1, 0};

static const lab_method methods[] = {
    {.name = "full", .words = FULL "optim.method=adamw", .rate = 8e-3, .large_rate = 1e-3},
    {.name = "GaLore", .words = FULL "optim.method=galore optim.rank=RANK optim.gap=GAP optim.scale=0.25", .rate = 6.4e-2, .large_rate = 1e-2},
    {.name = "Fira", .words = FULL "optim.method=fira optim.rank=RANK optim.gap=GAP optim.scale=0.25", .rate = 3.2e-2, .large_rate = 1e-2},
    {.name = "FRUGAL 1/4", .words = FULL "optim.method=frugal optim.density=0.25 optim.gap=GAP", .rate = 8e-3, .large_rate = 1e-3},
    {.name = "SLTrain .03", .words = ADAPTER("sltrain") " lowrank.alpha=RANK lowrank.density=0.03", .rate = 1.6e-2, .large_rate = 3e-3},
    {.name = "SST", .words = ADAPTER("sst") " lowrank.steps=ITERATION", .rate = 3.2e-2, .large_rate = 2e-3},
    {.name = "LoRA", .words = ADAPTER("lora") " lowrank.alpha=RANK", .rate = 8e-3, .large_rate = 3e-3},
    {.name = "ReLoRA", .words = ADAPTER("relora") " lowrank.alpha=RANK lowrank.every=GAP lowrank.restart=10", .rate = 1.6e-2, .large_rate = 3e-3},
    {0},
};

static double less(lab *run, const char *a, const char *b) { return lab_mean(run, a, "loss") - lab_mean(run, b, "loss"); }

static void judge(lab *run)
{
    static const char *const pairs[][2] = {{"full", "Fira"}, {"full", "GaLore"}, {"full", "FRUGAL 1/4"}, {"full", "SLTrain .03"}, {"Fira", "GaLore"}, {"SLTrain .03", "LoRA"}, {"SST", "ReLoRA"}};
    double state = lab_mean(run, "full", "state MiB"), close = less(run, "GaLore", "full");
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        char what[96];
        snprintf(what, sizeof what, "%s less %s (nats a byte)", pairs[i][0], pairs[i][1]);
        lab_expect(run, what, less(run, pairs[i][0], pairs[i][1]), LAB_AT_MOST, 0.02);
    }
    lab_expect(run, "GaLore's state over full's", lab_mean(run, "GaLore", "state MiB") / state, LAB_AT_MOST, 0.65);
    lab_expect(run, "FRUGAL's state over full's", lab_mean(run, "FRUGAL 1/4", "state MiB") / state, LAB_AT_MOST, 0.65);
    bool order = less(run, "GaLore", "LoRA") < 0 && less(run, "GaLore", "ReLoRA") < 0 && less(run, "Fira", "GaLore") < 0 && less(run, "SLTrain .03", "LoRA") < 0 && less(run, "SST", "LoRA") < 0;
    lab_paper(run, order && close <= log(1.04), "the papers' order: GaLore within 4 % of full training's perplexity, Fira below it, SLTrain and SST below LoRA, LoRA and ReLoRA behind GaLore",
              "not all of the papers' order: GaLore within 4 % of full training's perplexity, Fira below it, SLTrain and SST below LoRA, LoRA and ReLoRA behind GaLore; a small text is read several times");
}

const lab_experiment lab_pretrain = {
    .name = "pretrain",
    .paper = "arXiv:2403.03507, 2410.01623, 2411.07837, 2406.02214, 2405.15481",
    .claim = "methods of low-rank memory train a language model from scratch nearly as well as full training, and better than LoRA and ReLoRA on random weights",
    .setup = "a Llama over bytes of real text through the training program, every method's rank a quarter of the width, embeddings, norms and head trained by all; best held-out loss, "
             "speed, the system's peak and the optimiser's state; --scale gpu: 10.6 million parameters, 2,000 steps of 32,768 bytes",
    .threshold = "at most 0.02 nats above: full over Fira, GaLore, FRUGAL and SLTrain; Fira over GaLore; SLTrain over LoRA; SST over ReLoRA; state of GaLore and of FRUGAL at most 0.65 of full's",
    .reason = "the orders that the cards' own runs on small models show (Adam 1.866, Fira 1.873, FRUGAL 1.906, GaLore 1.974, SLTrain 2.007, LoRA 2.043, SST 2.046, ReLoRA 2.110); seeds differ by 0.02",
    .world = &world_pretrain,
    .methods = methods,
    .grid = grid,
    .metric = "loss",
    .lower = true,
    .judge = judge,
};
