/* choices.c - log-probabilities of every choice of a row in one packed pass. */
#include "task/choices.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"

enum { MAX_CHOICES = 64, GRAPHS = 32 };

/* A forward graph for up to `tokens` tokens in `sequences` sequences. */
typedef struct scorer {
    int64_t            tokens, sequences;
    crank_graph       *graph;
    crank_model_inputs inputs;
    crank_tensor      *targets, *logp;
} scorer;

typedef struct evaluator {
    crank_context         *context;
    crank_model           *model;
    const crank_tokenizer *tokenizer;
    crank_pool            *pool;
    scorer                 scorers[GRAPHS];
    int                    scorer_count;
    /* The row under work. */
    int32_t *ids, *positions, *targets, segments[MAX_CHOICES + 2];
    float   *logp;
    int64_t  count, capacity;
    int64_t  lengths[MAX_CHOICES]; /* tokens of each choice that count */
} evaluator;

static crank_status reserve(evaluator *e, int64_t tokens)
{
    if (tokens <= e->capacity) return CRANK_OK;
    int64_t  capacity = 2 * tokens;
    void   **rooms[] = {(void **)&e->ids, (void **)&e->positions, (void **)&e->targets, (void **)&e->logp};
    for (size_t i = 0; i < 4; i++) {
        void *bigger = realloc(*rooms[i], (size_t)capacity * 4);
        if (!bigger) return crank_fail(e->context, CRANK_FAILED, "out of memory: a row of %lld tokens", (long long)tokens);
        *rooms[i] = bigger;
    }
    e->capacity = capacity;
    return CRANK_OK;
}

static crank_status scorer_open(evaluator *e, int64_t tokens, int64_t sequences, scorer *s)
{
    int64_t borders = sequences + 1;
    *s = (scorer){.tokens = tokens, .sequences = sequences, .graph = crank_graph_new(e->context, crank_model_device(e->model))};
    if (!s->graph) return CRANK_FAILED;
    crank_graph_set_training(s->graph, false);
    crank_graph_set_compute(s->graph, crank_model_options_of(e->model)->compute);
    crank_graph_set_pool(s->graph, e->pool);
    s->inputs = (crank_model_inputs){.ids = crank_input(s->graph, "ids", CRANK_I32, 1, &tokens), .positions = crank_input(s->graph, "positions", CRANK_I32, 1, &tokens),
                                     .segments = crank_input(s->graph, "segments", CRANK_I32, 1, &borders)};
    s->targets = crank_input(s->graph, "targets", CRANK_I32, 1, &tokens);
    crank_tensor *features = crank_model_features(s->graph, e->model, &s->inputs);
    s->logp = crank_keep(crank_cast(crank_model_logprob(s->graph, e->model, features, s->targets, NULL), CRANK_F32));
    return crank_plan(s->graph, NULL, NULL);
}

/* The graph of a size, made at its first use; the oldest goes when there are too many. */
static scorer *scorer_for(evaluator *e, int64_t tokens, int64_t sequences)
{
    for (int i = 0; i < e->scorer_count; i++)
        if (e->scorers[i].tokens == tokens && e->scorers[i].sequences == sequences) return &e->scorers[i];
    if (e->scorer_count == GRAPHS) {
        crank_graph_free(e->scorers[0].graph);
        memmove(&e->scorers[0], &e->scorers[1], (GRAPHS - 1) * sizeof e->scorers[0]);
        e->scorer_count--;
    }
    scorer *s = &e->scorers[e->scorer_count];
    if (scorer_open(e, tokens, sequences, s) != CRANK_OK) {
        crank_graph_free(s->graph);
        return NULL;
    }
    e->scorer_count++;
    return s;
}

/* Appends prompt + choice number k as a sequence. */
static crank_status add_choice(evaluator *e, const crank_ids *prompt, const char *choice, int k, const char *where)
{
    crank_ids    ids = {0};
    int64_t      limit = crank_model_config_of(e->model)->context;
    crank_status status = crank_encode(e->context, e->tokenizer, choice, strlen(choice), NULL, 0, 0, &ids);
    int64_t      n = (int64_t)(prompt->count + ids.count);
    if (status == CRANK_OK && (!ids.count || !prompt->count)) status = crank_fail(e->context, CRANK_BAD_DATA, "%s: the prompt or choice %d has no token", where, k);
    if (status == CRANK_OK && n > limit)
        status = crank_fail(e->context, CRANK_BAD_DATA, "%s: prompt and choice %d have %lld tokens and the model's context is %lld", where, k, (long long)n, (long long)limit);
    if (status == CRANK_OK) status = reserve(e, e->count + n + 64);
    for (int64_t i = 0; status == CRANK_OK && i < n; i++) {
        bool in_choice = i + 1 >= (int64_t)prompt->count && i + 1 < n;
        e->ids[e->count + i] = i < (int64_t)prompt->count ? prompt->ids[i] : ids.ids[i - (int64_t)prompt->count];
        e->positions[e->count + i] = (int32_t)i;
        e->targets[e->count + i] = in_choice ? ids.ids[i + 1 - (int64_t)prompt->count] : -1;
    }
    e->lengths[k] = (int64_t)ids.count;
    e->count += n;
    e->segments[k + 1] = (int32_t)e->count;
    crank_ids_free(&ids);
    return status;
}

static crank_status run_row(evaluator *e, int choices)
{
    int64_t tokens = (e->count + 63) / 64 * 64;
    scorer *s = scorer_for(e, tokens, choices + 1); /* the last sequence holds the filler */
    if (!s) return crank_last_status(e->context);
    for (int64_t i = e->count; i < tokens; i++) e->ids[i] = 0, e->positions[i] = (int32_t)(i - e->count), e->targets[i] = -1;
    e->segments[choices + 1] = (int32_t)tokens;
    crank_status status = crank_write(s->inputs.ids, e->ids);
    if (status == CRANK_OK) status = crank_write(s->inputs.positions, e->positions);
    if (status == CRANK_OK) status = crank_write(s->inputs.segments, e->segments);
    if (status == CRANK_OK) status = crank_write(s->targets, e->targets);
    if (status == CRANK_OK) status = crank_run(s->graph);
    return status == CRANK_OK ? crank_read(s->logp, e->logp) : status;
}

/* Choices with the largest sum and the largest mean; the first of equals. */
static void best_choices(const evaluator *e, int choices, int *by_sum, int *by_mean)
{
    double sum_of_best = -INFINITY, mean_of_best = -INFINITY;
    for (int k = 0; k < choices; k++) {
        double sum = 0;
        for (int32_t i = e->segments[k]; i < e->segments[k + 1]; i++)
            if (e->targets[i] >= 0) sum += (double)e->logp[i];
        double mean = sum / (double)e->lengths[k];
        if (sum > sum_of_best) sum_of_best = sum, *by_sum = k;
        if (mean > mean_of_best) mean_of_best = mean, *by_mean = k;
    }
}

static crank_status evaluate_row(evaluator *e, const json_t *row, const char *where, choices_result *out)
{
    const json_t *choices = json_object_get(row, "choices"), *prompt = json_object_get(row, "prompt");
    int64_t       answer;
    size_t        count = json_array_size(choices);
    if (!json_is_string(prompt) || !json_is_array(choices) || count < 2 || count > MAX_CHOICES)
        return crank_fail(e->context, CRANK_BAD_DATA, "%s: wanted a text `prompt`, a list `choices` of 2 to %d texts, and an index `answer`", where, MAX_CHOICES);
    crank_status status = json_need_int(e->context, row, "answer", 0, (int64_t)count - 1, &answer, where);
    crank_ids    ids = {0};
    if (status == CRANK_OK)
        status = crank_encode(e->context, e->tokenizer, json_string_value(prompt), json_string_length(prompt), NULL, 0, CRANK_ENCODE_SPECIAL, &ids);
    e->count = 0;
    e->segments[0] = 0;
    for (size_t k = 0; k < count && status == CRANK_OK; k++) {
        const char *text = json_string_value(json_array_get(choices, k));
        status = text ? add_choice(e, &ids, text, (int)k, where) : crank_fail(e->context, CRANK_BAD_DATA, "%s: choice %zu is no text", where, k);
    }
    crank_ids_free(&ids);
    if (status == CRANK_OK) status = run_row(e, (int)count);
    if (status != CRANK_OK) return status;
    int by_sum = 0, by_mean = 0;
    best_choices(e, (int)count, &by_sum, &by_mean);
    out->rows++;
    out->right += by_sum == answer;
    out->right_per_token += by_mean == answer;
    return CRANK_OK;
}

crank_status choices_evaluate(crank_context *context, crank_model *model, const crank_tokenizer *tokenizer, const char *path, choices_result *out)
{
    *out = (choices_result){0};
    if (!crank_model_config_of(model)->causal) return crank_fail(context, CRANK_USAGE, "choices are judged by a language model, and %s is an encoder", crank_model_config_of(model)->architecture);
    evaluator   *e = crank_alloc(context, 1, sizeof *e, "an evaluation");
    file_lines  *lines = e ? file_lines_open(context, path) : NULL;
    crank_status status = lines ? CRANK_OK : crank_last_status(context);
    const char  *text;
    size_t       length;
    int          more;
    if (e) *e = (evaluator){.context = context, .model = model, .tokenizer = tokenizer, .pool = crank_pool_new(context, crank_model_device(model))};
    if (e && !e->pool) status = CRANK_FAILED;
    while (status == CRANK_OK && (more = file_lines_next(context, lines, &text, &length)) != 0) {
        char where[4200];
        if (more < 0) status = crank_last_status(context);
        if (more < 0 || !length) continue;
        snprintf(where, sizeof where, "%s:%zu", path, file_lines_number(lines));
        json_t *row = json_parse(context, text, length, where);
        status = row ? evaluate_row(e, row, where, out) : crank_last_status(context);
        json_decref(row);
    }
    if (status == CRANK_OK && !out->rows) status = crank_fail(context, CRANK_BAD_DATA, "%s holds no row", path);
    if (lines) file_lines_close(lines);
    for (int i = 0; e && i < e->scorer_count; i++) crank_graph_free(e->scorers[i].graph);
    if (e) {
        crank_pool_free(e->pool);
        free(e->ids), free(e->positions), free(e->targets), free(e->logp);
    }
    crank_free(e);
    return status;
}
