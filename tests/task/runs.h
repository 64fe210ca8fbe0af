/* runs.h - whole training runs for tests: a folder of their own with tiny model configs and data, runs in this process that can be
 * stopped at a step, runs of the program as a child, and comparisons of what they leave.
 *
 * Data are drawn by a counter, so that every machine trains on the same bytes. */
#ifndef CRANK_TESTS_TASK_RUNS_H
#define CRANK_TESTS_TASK_RUNS_H

#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include "task/train.h"
#include "testing.h"

enum { RUN_WORDS = 48 };

/* ---- a folder ---- */

static inline int runs_remove_one(const char *path, const struct stat *about, int kind, struct FTW *walk)
{
    (void)about, (void)kind, (void)walk;
    return remove(path);
}

static inline void runs_remove(const char *path) { nftw(path, runs_remove_one, 16, FTW_DEPTH | FTW_PHYS); }

static char runs_folder[256];

/* "FOLDER/name" in one of eight static buffers. */
static inline const char *runs_path(const char *name)
{
    static char     paths[8][512];
    static unsigned next;
    char           *path = paths[next++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s", runs_folder, name);
    return path;
}

static inline void runs_write(const char *name, const char *text)
{
    FILE *file = fopen(runs_path(name), "wb");
    if (!file || fputs(text, file) < 0 || fclose(file)) fail_msg("%s cannot be written", name);
}

/* The whole file, NUL behind it; free. NULL where there is none. */
static inline char *runs_read(const char *path, size_t *length)
{
    FILE *file = fopen(path, "rb");
    if (!file) return NULL;
    size_t room = 1 << 16, have = 0, got;
    char  *bytes = malloc(room + 1);
    while ((got = fread(bytes + have, 1, room - have, file)) > 0)
        if ((have += got) == room) bytes = realloc(bytes, (room *= 2) + 1);
    fclose(file);
    bytes[have] = 0;
    if (length) *length = have;
    return bytes;
}

static inline bool runs_same_file(const char *a, const char *b)
{
    size_t n = 0, m = 0;
    char  *x = runs_read(a, &n), *y = runs_read(b, &m);
    bool   same = x && y && n == m && !memcmp(x, y, n);
    free(x), free(y);
    return same;
}

/* ---- models and data ---- */

/* One sentence of `words` drawn words. */
static inline void runs_sentence(FILE *file, unsigned *draw, int words)
{
    static const char *const list[] = {"the", "rank", "of", "a", "matrix", "is", "small", "and", "learns", "fast", "when", "data", "are", "few",
                                       "so", "train", "it", "again", "with", "care", "or", "not", "at", "all"};
    for (int i = 0; i < words; i++) {
        *draw = *draw * 1664525u + 1013904223u;
        fprintf(file, "%s%s", i ? " " : "", list[(*draw >> 16) % (sizeof list / sizeof list[0])]);
    }
}

/* text.txt: lines of 3 to 18 words; labels.tsv: `label<TAB>sentence` of three classes; values.tsv: real-valued labels. */
static inline void runs_write_data(int rows)
{
    FILE    *text = fopen(runs_path("text.txt"), "w"), *labels = fopen(runs_path("labels.tsv"), "w"), *values = fopen(runs_path("values.tsv"), "w");
    unsigned draw = 7;
    if (!text || !labels || !values) fail_msg("no data can be written");
    fputs("label\ttext\n", labels), fputs("label\ttext\n", values);
    for (int i = 0; i < rows; i++) {
        int words = 3 + (int)((unsigned)i * 2654435761u >> 16) % 16;
        runs_sentence(text, &draw, words);
        fprintf(labels, "%d\t", i % 3);
        runs_sentence(labels, &draw, words);
        fprintf(values, "%.2f\t", (double)(i % 7) / 4);
        runs_sentence(values, &draw, words);
        fputs("\n", text), fputs("\n", labels), fputs("\n", values);
    }
    fclose(text), fclose(labels), fclose(values);
}

/* config.json of a family under NAME.json: hidden h (heads of 16 or more), l layers, v tokens of vocabulary, context c. */
static inline void runs_write_model(const char *name, const char *family, int h, int l, int v, int c)
{
    char text[2048];
    int  heads = h <= 64 ? 4 : h / 64;
    if (!strcmp(family, "gpt2"))
        snprintf(text, sizeof text,
                 "{\"architectures\":[\"GPT2LMHeadModel\"],\"model_type\":\"gpt2\",\"vocab_size\":%d,\"n_embd\":%d,\"n_layer\":%d,\"n_head\":%d,"
                 "\"n_positions\":%d,\"n_inner\":null,\"activation_function\":\"gelu_new\",\"layer_norm_epsilon\":1e-5,\"initializer_range\":0.1}",
                 v, h, l, heads, c);
    else if (!strcmp(family, "bert") || !strcmp(family, "roberta"))
        snprintf(text, sizeof text,
                 "{\"architectures\":[\"%s\"],\"model_type\":\"%s\",\"vocab_size\":%d,\"hidden_size\":%d,\"num_hidden_layers\":%d,"
                 "\"num_attention_heads\":%d,\"intermediate_size\":%d,\"max_position_embeddings\":%d,\"type_vocab_size\":2,\"pad_token_id\":0,"
                 "\"hidden_act\":\"gelu\",\"layer_norm_eps\":1e-12,\"initializer_range\":0.1}",
                 *family == 'b' ? "BertModel" : "RobertaModel", family, v, h, l, heads, 2 * h, c);
    else
        snprintf(text, sizeof text,
                 "{\"architectures\":[\"%s\"],\"model_type\":\"%s\",\"vocab_size\":%d,\"hidden_size\":%d,\"num_hidden_layers\":%d,"
                 "\"num_attention_heads\":%d,\"num_key_value_heads\":%d,\"intermediate_size\":%d,\"max_position_embeddings\":%d,"
                 "\"rms_norm_eps\":1e-5,\"hidden_act\":\"silu\",\"tie_word_embeddings\":%s,\"initializer_range\":0.1}",
                 !strcmp(family, "qwen2") ? "Qwen2ForCausalLM" : "LlamaForCausalLM", family, v, h, l, heads, heads / 2 ? heads / 2 : 1, 2 * h, c,
                 !strcmp(family, "qwen2") ? "true" : "false");
    char file[128];
    snprintf(file, sizeof file, "%s.json", name);
    runs_write(file, text);
}

/* The folder with llama.json, gpt2.json, bert.json... of hidden 32 and two layers, and data of 96 rows. cmocka group setup. */
static inline int runs_setup(void **state)
{
    static const char *const families[] = {"llama", "gpt2", "bert", "roberta", "qwen2"};
    (void)state;
    snprintf(runs_folder, sizeof runs_folder, "%s/runs.XXXXXX", CRANK_BINARY_DIR);
    if (!mkdtemp(runs_folder)) return 1;
    for (size_t i = 0; i < sizeof families / sizeof families[0]; i++) runs_write_model(families[i], families[i], 32, 2, 1280, 128);
    runs_write_data(96);
    return 0;
}

static inline int runs_teardown(void **state)
{
    (void)state;
    if (!getenv("CRANK_KEEP")) runs_remove(runs_folder);
    return 0;
}

/* ---- recipes as lists of words ---- */

typedef struct run_words {
    char text[RUN_WORDS][320];
    int  count;
} run_words;

static inline void words_add(run_words *w, const char *format, ...) CRANK_PRINTF(2, 3);
static inline void words_add(run_words *w, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    if (w->count == RUN_WORDS) fail_msg("too many words");
    vsnprintf(w->text[w->count++], sizeof w->text[0], format, list);
    va_end(list);
}

/* Words parted by spaces. */
static inline void words_split(run_words *w, const char *line)
{
    for (const char *at = line; *at; at += strspn(at, " ")) {
        size_t n = strcspn(at, " ");
        words_add(w, "%.*s", (int)n, at);
        at += n;
    }
}

/* A recipe on a family of the folder: its tokenizer, data and output folder, and `more` words. */
static inline run_words words_of(const char *model, const char *data, const char *out, const char *more)
{
    run_words w = {.count = 0};
    bool      encoder = strstr(model, "bert");
    words_add(&w, "model.config=%s/%s.json", runs_folder, model);
    words_add(&w, "data.tokenizer=%s", golden(encoder ? "tokenizers/bert.json" : "tokenizers/gpt2.json"));
    words_add(&w, "data.train=%s/%s", runs_folder, data);
    words_add(&w, "output.path=%s/%s", runs_folder, out);
    words_split(&w, "data.context=48 data.document=line output.tensorboard=false output.report=false");
    words_split(&w, more);
    return w;
}

/* ---- runs in this process ---- */

typedef struct run_watch {
    int64_t stop_at; /* stop when the evaluation of this step is told; 0: never */
    crank_context *context;
    char           log[1 << 16]; /* all lines */
} run_watch;

static inline void runs_log(void *user, crank_level level, const char *line)
{
    run_watch *watch = user;
    size_t     have = strlen(watch->log);
    char       wanted[64];
    snprintf(watch->log + have, sizeof watch->log - have, "%s%s\n", level == CRANK_WARNING ? "warning: " : "", line);
    snprintf(wanted, sizeof wanted, "step %lld: held-out", (long long)watch->stop_at);
    if (watch->stop_at && !strncmp(line, wanted, strlen(wanted))) crank_request_stop(watch->context);
}

typedef struct run_result {
    crank_status  status;
    train_outcome outcome;
    char          message[1024];
    char         *log; /* free */
} run_result;

static inline run_result runs_train(const run_words *w, int64_t stop_at)
{
    run_result  r = {.status = CRANK_FAILED};
    run_watch  *watch = calloc(1, sizeof *watch);
    const char *words[RUN_WORDS];
    train_how   how = {.progress = -1};
    watch->stop_at = stop_at;
    watch->context = crank_context_new();
    for (int i = 0; i < w->count; i++) words[i] = w->text[i];
    crank_set_log(watch->context, runs_log, watch);
    task_recipe *recipe = task_recipe_load(watch->context, NULL, words, (size_t)w->count);
    r.status = recipe ? train_run(watch->context, recipe, &how, &r.outcome) : crank_last_status(watch->context);
    snprintf(r.message, sizeof r.message, "%s", crank_message(watch->context));
    train_outcome_free(&r.outcome);
    task_recipe_free(recipe);
    crank_context_free(watch->context);
    r.log = strdup(watch->log);
    free(watch);
    return r;
}

static inline void runs_finish(const run_words *w)
{
    run_result r = runs_train(w, 0);
    if (r.status != CRANK_OK) fail_msg("%s\n%s", r.message, r.log);
    free(r.log);
}

/* ---- runs of the program ---- */

typedef struct child_result {
    int     code; /* exit code, or 128 + signal */
    int64_t peak; /* largest resident set, bytes */
    char   *out, *err;
} child_result;

/* Starts `crank train` (or another verb); stdout and stderr go to files. */
static inline pid_t child_start(const char *verb, const run_words *w, const char *out, const char *err, rlim_t file_size)
{
    char  program[512];
    char *arguments[RUN_WORDS + 3] = {program, (char *)verb};
    snprintf(program, sizeof program, "%s/crank", CRANK_BINARY_DIR);
    for (int i = 0; w && i < w->count; i++) arguments[2 + i] = (char *)w->text[i];
    pid_t child = fork();
    if (child) return child;
    int to = open(out, O_WRONLY | O_CREAT | O_TRUNC, 0666), errors = open(err, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    dup2(to, 1), dup2(errors, 2);
    if (file_size) {
        signal(SIGXFSZ, SIG_IGN);
        setrlimit(RLIMIT_FSIZE, &(struct rlimit){file_size, file_size});
    }
    execv(program, arguments);
    _exit(127);
}

static inline child_result child_wait(pid_t child, const char *out, const char *err)
{
    int           status;
    struct rusage usage;
    child_result  r = {.code = -1};
    while (wait4(child, &status, 0, &usage) != child) continue;
    r.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    r.peak = (int64_t)usage.ru_maxrss * 1024;
    r.out = runs_read(out, NULL);
    r.err = runs_read(err, NULL);
    return r;
}

static inline child_result child_run(const char *verb, const run_words *w, rlim_t file_size)
{
    char out[512], err[512];
    snprintf(out, sizeof out, "%s", runs_path("child.out"));
    snprintf(err, sizeof err, "%s", runs_path("child.err"));
    return child_wait(child_start(verb, w, out, err, file_size), out, err);
}

static inline void child_free(child_result *r) { free(r->out), free(r->err); }

static inline bool runs_long(void) { return getenv("CRANK_LONG") != NULL; }

static inline void runs_sleep(double seconds)
{
    nanosleep(&(struct timespec){(time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9)}, NULL);
}

/* The number behind "key": in a text of JSON; NAN where it is missing or null. */
static inline double json_number_of(const char *text, const char *key)
{
    char wanted[64];
    snprintf(wanted, sizeof wanted, "\"%s\":", key);
    const char *at = strstr(text, wanted);
    char       *end;
    double      value = at ? strtod(at + strlen(wanted), &end) : NAN;
    return at && end != at + strlen(wanted) ? value : NAN;
}

/* metrics.jsonl holds the training loss of every step from 1 to `steps` exactly once, in order. */
static inline void runs_check_metrics(const char *out, int64_t steps)
{
    char name[128];
    snprintf(name, sizeof name, "%s/metrics.jsonl", out);
    char   *text = runs_read(runs_path(name), NULL);
    int64_t expected = 1;
    if (!text) fail_msg("no %s", name);
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
        if (!strstr(line, "\"train/loss\":")) continue;
        if ((int64_t)json_number_of(line, "step") != expected) fail_msg("%s: step %lld expected, got %s", name, (long long)expected, line);
        expected++;
    }
    if (expected != steps + 1) fail_msg("%s ends with step %lld of %lld", name, (long long)expected - 1, (long long)steps);
    free(text);
}
#endif
