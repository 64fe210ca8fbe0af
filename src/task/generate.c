/* generate.c - autoregressive generation: greedy, temperature, top-k, top-p. */
#include "task/generate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "crank/random.h"

/* ---- choosing ---- */

static int32_t most_likely(const float *logits, int64_t vocab)
{
    int64_t best = 0;
    for (int64_t i = 1; i < vocab; i++)
        if (logits[i] > logits[best]) best = i;
    return (int32_t)best;
}

/* Moves the `count` largest logits to the front of `order`, largest first; equal ones by the smaller id. A heap of `count`. */
static bool before(const float *logits, int32_t a, int32_t b) { return logits[a] != logits[b] ? logits[a] > logits[b] : a < b; }

static void sift_down(const float *logits, int32_t *heap, int64_t n, int64_t i)
{
    for (;;) { /* the root is the last of those kept */
        int64_t child = 2 * i + 1;
        if (child >= n) return;
        if (child + 1 < n && before(logits, heap[child], heap[child + 1])) child++;
        if (!before(logits, heap[i], heap[child])) return;
        int32_t swap = heap[i];
        heap[i] = heap[child];
        heap[child] = swap;
        i = child;
    }
}

static void largest(const float *logits, int64_t vocab, int64_t count, int32_t *order)
{
    for (int64_t i = 0; i < count; i++) order[i] = (int32_t)i;
    for (int64_t i = count / 2 - 1; i >= 0; i--) sift_down(logits, order, count, i);
    for (int64_t i = count; i < vocab; i++)
        if (before(logits, (int32_t)i, order[0])) {
            order[0] = (int32_t)i;
            sift_down(logits, order, count, 0);
        }
    for (int64_t n = count; n > 1; n--) {
        int32_t swap = order[0];
        order[0] = order[n - 1];
        order[n - 1] = swap;
        sift_down(logits, order, n - 1, 0);
    }
}

int32_t generate_choose(const generate_options *options, const float *logits, int64_t vocab, float uniform, int32_t *order)
{
    if (options->temperature <= 0) return most_likely(logits, vocab);
    int64_t count = options->top_k > 0 && options->top_k < vocab ? options->top_k : vocab;
    largest(logits, vocab, count, order);
    double top = logits[order[0]], mass = 0, cut = 0;
    for (int64_t i = 0; i < count; i++) mass += exp((logits[order[i]] - top) / options->temperature);
    int64_t kept = 0;
    while (kept < count && (kept == 0 || cut < options->top_p * mass)) cut += exp((logits[order[kept++]] - top) / options->temperature);
    double target = uniform * cut;
    for (int64_t i = 0; i < kept; i++) {
        target -= exp((logits[order[i]] - top) / options->temperature);
        if (target < 0) return order[i];
    }
    return order[kept - 1];
}

/* ---- running ---- */

typedef struct decoder {
    crank_graph       *graph;
    crank_model_inputs inputs;
    crank_tensor      *logits; /* [1, vocab] of the last token */
    int64_t            tokens;
} decoder;

static crank_status decoder_open(crank_context *context, crank_model *model, crank_model_cache *cache, crank_pool *pool, int64_t tokens, decoder *out)
{
    int64_t      one = 1;
    crank_graph *graph = crank_graph_new(context, crank_model_device(model));
    if (!graph) return CRANK_FAILED;
    *out = (decoder){.graph = graph, .tokens = tokens};
    crank_graph_set_training(graph, false);
    crank_graph_set_compute(graph, crank_model_options_of(model)->compute);
    crank_graph_set_pool(graph, pool);
    out->inputs = (crank_model_inputs){.ids = crank_input(graph, "ids", CRANK_I32, 1, &tokens),
                                       .positions = crank_input(graph, "positions", CRANK_I32, 1, &tokens),
                                       .position = crank_input(graph, "position", CRANK_I32, 1, &one),
                                       .cache = cache};
    crank_tensor *features = crank_model_features(graph, model, &out->inputs);
    crank_tensor *logits = crank_model_logits(graph, model, crank_slice(features, 0, tokens - 1, 1));
    out->logits = crank_keep(crank_cast(logits, CRANK_F32));
    return crank_plan(graph, NULL, NULL);
}

static crank_status decoder_run(crank_context *context, decoder *d, const int32_t *ids, int32_t start, int32_t *positions, float *logits)
{
    for (int64_t i = 0; i < d->tokens; i++) positions[i] = start + (int32_t)i;
    crank_status status = crank_write(d->inputs.ids, ids);
    (void)context;
    if (status == CRANK_OK) status = crank_write(d->inputs.positions, positions);
    if (status == CRANK_OK) status = crank_write(d->inputs.position, &start);
    if (status == CRANK_OK) status = crank_run(d->graph);
    if (status == CRANK_OK) status = crank_read(d->logits, logits);
    return status;
}

static crank_status append(crank_context *context, crank_ids *ids, int32_t token)
{
    if (ids->count == ids->capacity) {
        size_t   capacity = ids->capacity ? 2 * ids->capacity : 64;
        int32_t *bigger = realloc(ids->ids, capacity * sizeof *bigger);
        if (!bigger) return crank_fail(context, CRANK_FAILED, "out of memory: %zu tokens", capacity);
        ids->ids = bigger;
        ids->capacity = capacity;
    }
    ids->ids[ids->count++] = token;
    return CRANK_OK;
}

static bool is_stop(int32_t token, const int32_t *stops, int count)
{
    for (int i = 0; i < count; i++)
        if (stops[i] == token) return true;
    return false;
}

static crank_status check(crank_context *context, const crank_model_config *config, const crank_ids *ids)
{
    if (!config->causal) return crank_fail(context, CRANK_USAGE, "%s is an encoder and generates no text", config->architecture);
    if (ids->count < 1) return crank_fail(context, CRANK_USAGE, "the prompt has no token");
    if ((int64_t)ids->count > config->context)
        return crank_fail(context, CRANK_BAD_DATA, "the prompt has %zu tokens and the model's context is %lld", ids->count, (long long)config->context);
    for (size_t i = 0; i < ids->count; i++)
        if (ids->ids[i] < 0 || ids->ids[i] >= config->vocab)
            return crank_fail(context, CRANK_BAD_DATA, "token %d of the prompt is %d; the model's vocabulary has %lld", (int)i, ids->ids[i],
                              (long long)config->vocab);
    return CRANK_OK;
}

crank_status generate(crank_context *context, crank_model *model, const generate_options *options, const int32_t *stops, int stop_count,
                      crank_ids *ids, generate_token *each, void *user)
{
    const crank_model_config *config = crank_model_config_of(model);
    crank_status              status = check(context, config, ids);
    if (status != CRANK_OK) return status;
    int64_t prompt = (int64_t)ids->count, room = config->context - prompt;
    int64_t wanted = options->max_new < room ? options->max_new : room, longest = prompt > 1 ? prompt : 1;
    crank_stream       stream = crank_stream_make((uint64_t)options->seed, CRANK_RANDOM_SAMPLE, 0);
    crank_model_cache *cache = crank_model_cache_new(context, model, prompt + wanted);
    crank_pool        *pool = crank_pool_new(context, crank_model_device(model));
    float             *logits = crank_alloc(context, (size_t)config->vocab, sizeof *logits, "logits");
    int32_t           *order = crank_alloc(context, (size_t)config->vocab, sizeof *order, "logits");
    int32_t           *positions = crank_alloc(context, (size_t)longest, sizeof *positions, "positions");
    decoder            first = {0}, next = {0};
    if (!cache || !pool || !logits || !order || !positions) status = CRANK_FAILED;
    if (status == CRANK_OK) status = decoder_open(context, model, cache, pool, prompt, &first);
    if (status == CRANK_OK && wanted > 1) status = decoder_open(context, model, cache, pool, 1, &next);
    for (int64_t i = 0; status == CRANK_OK && i < wanted && !crank_stop_requested(context); i++) {
        decoder *d = i ? &next : &first;
        int64_t  start = i ? prompt + i - 1 : 0;
        status = decoder_run(context, d, ids->ids + start, (int32_t)start, positions, logits);
        if (status != CRANK_OK) break;
        int32_t token = generate_choose(options, logits, config->vocab, crank_draw_uniform(stream, (uint64_t)i), order);
        status = append(context, ids, token);
        if (status == CRANK_OK && ((each && !each(user, token)) || is_stop(token, stops, stop_count))) break;
    }
    crank_graph_free(first.graph);
    crank_graph_free(next.graph);
    crank_pool_free(pool);
    crank_model_cache_free(cache);
    crank_free(logits), crank_free(order), crank_free(positions);
    return status;
}
