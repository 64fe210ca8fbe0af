/* encode.c - graphs by shape of a pack, and the loop over packs.
 *
 * VECTORS   mean_i h_i, h_first, h_last, or tanh(W h_first + b); with `normalize` divided by max(|v|, 1e-12)
 * OUTPUTS   the classification head's outputs
 * ANSWERS   log softmax of the logits z_a = w_a . h_last: z_a - log sum_b e^(z_b) over the answers b, or over all tokens b */
#include "task/encode.h"

#include <math.h>
#include <string.h>

#include "base/text.h"
#include "task/packs.h"

enum { GRAPHS = 96 };

/* What was written last into an input, so that equal values are not copied to the device again. */
typedef struct feed {
    crank_tensor *input;
    int32_t      *values; /* [capacity] */
    int64_t       count;
    bool          written;
} feed;

/* A forward graph for packs of one shape. */
typedef struct shape {
    pack_shape    size;
    bool          types;
    crank_graph  *graph;
    feed          ids, positions, segments, token_types, rows, singles, answers, targets;
    crank_tensor *result; /* [sequences, columns] */
    crank_tensor *total;  /* ANSWERS over the vocabulary: log sum e^z [sequences] */
    double        flops;
} shape;

struct encoder {
    crank_context *context;
    crank_model   *model;
    encode_options options;
    int32_t       *answers;
    const char        *pooling;
    crank_segment_kind pool_kind;
    int64_t        width, tokens;
    crank_pool    *pool;
    shape         *shapes[GRAPHS]; /* the last used first */
    int            shape_count;
    bool           profiled;
    encode_counts  counts;
    /* Room for one pack, grown to the largest. */
    int32_t *values;
    void    *result;
    float   *totals; /* [sequences] */
    size_t   values_capacity, result_capacity, totals_capacity; /* bytes */
};

/* ---- opening ---- */

static const struct {
    const char        *name;
    crank_segment_kind kind;
} poolings[] = {{"mean", CRANK_SEGMENT_MEAN}, {"cls", CRANK_SEGMENT_FIRST}, {"last", CRANK_SEGMENT_LAST}, {"pooler", CRANK_SEGMENT_FIRST}};

static crank_status choose_pooling(encoder *e)
{
    const char *told = e->options.pooling;
    if (e->options.kind != ENCODE_VECTORS) told = e->options.kind == ENCODE_ANSWERS ? "last" : crank_model_pooling(e->model);
    else if (!told) told = crank_model_config_of(e->model)->decoder ? "last" : "mean";
    for (size_t i = 0; i < sizeof poolings / sizeof poolings[0]; i++)
        if (!strcmp(told, poolings[i].name)) {
            e->pooling = poolings[i].name;
            e->pool_kind = poolings[i].kind;
            return CRANK_OK;
        }
    return crank_fail(e->context, CRANK_USAGE, "pooling `%.40s` is not one of mean, cls, last, pooler", told);
}

static crank_status check_head(encoder *e)
{
    const crank_model_config *config = crank_model_config_of(e->model);
    if (e->options.kind == ENCODE_OUTPUTS && !config->labels)
        return crank_fail(e->context, CRANK_USAGE, "%s has no classification head", config->architecture);
    if (e->options.kind != ENCODE_ANSWERS) return CRANK_OK;
    if (!config->causal) return crank_fail(e->context, CRANK_USAGE, "answers are judged by a language model, and %s is none", config->architecture);
    if (e->options.answer_count < 1) return crank_fail(e->context, CRANK_USAGE, "there is no answer to judge");
    if (!e->options.vocabulary && e->options.answer_count < 2)
        return crank_fail(e->context, CRANK_USAGE, "one answer alone is always certain: name two, or judge it among all tokens");
    for (int i = 0; i < e->options.answer_count; i++)
        if (e->options.answers[i] < 0 || e->options.answers[i] >= config->vocab)
            return crank_fail(e->context, CRANK_USAGE, "answer %d is token %d; the model's vocabulary has %lld", i + 1, e->options.answers[i], (long long)config->vocab);
    return CRANK_OK;
}

encoder *encoder_open(crank_context *context, crank_model *model, const encode_options *options)
{
    const crank_model_config *config = crank_model_config_of(model);
    encoder                  *e = crank_alloc(context, 1, sizeof *e, "an encoder");
    if (!e) return NULL;
    *e = (encoder){.context = context, .model = model, .options = *options};
    const crank_device *device = crank_model_device(model);
    e->tokens = options->tokens ? options->tokens : device->host ? 2048 : config->decoder ? 16384 : 65536;
    e->width = options->kind == ENCODE_VECTORS ? config->hidden : options->kind == ENCODE_OUTPUTS ? config->labels : options->answer_count;
    e->pool = crank_pool_new(context, crank_model_device(model));
    e->answers = crank_alloc(context, (size_t)options->answer_count + 1, sizeof *e->answers, "answers");
    bool good = e->pool && e->answers && choose_pooling(e) == CRANK_OK && check_head(e) == CRANK_OK;
    if (good && options->answer_count) memcpy(e->answers, options->answers, (size_t)options->answer_count * sizeof *e->answers);
    if (good) return e;
    encoder_close(e);
    return NULL;
}

/* ---- graphs ---- */

static void shape_free(shape *s)
{
    if (!s) return;
    feed *const feeds[] = {&s->ids, &s->positions, &s->segments, &s->token_types, &s->rows, &s->singles, &s->answers, &s->targets};
    for (size_t i = 0; i < sizeof feeds / sizeof feeds[0]; i++) crank_free(feeds[i]->values);
    crank_graph_free(s->graph);
    crank_free(s);
}

void encoder_close(encoder *e)
{
    if (!e) return;
    for (int i = 0; i < e->shape_count; i++) shape_free(e->shapes[i]);
    crank_pool_free(e->pool);
    crank_free(e->answers), crank_free(e->values), crank_free(e->result), crank_free(e->totals);
    crank_free(e);
}

static crank_tensor *feed_input(encoder *e, crank_graph *graph, const char *name, int64_t count, feed *f)
{
    f->count = count;
    f->values = crank_alloc(e->context, (size_t)count + 1, sizeof *f->values, "inputs of a pack");
    f->input = crank_input(graph, name, CRANK_I32, 1, &count);
    return f->values ? f->input : crank_graph_error(graph, CRANK_FAILED, "%s", crank_message(e->context));
}

static void record_answers(encoder *e, shape *s, crank_tensor *rows)
{
    crank_tensor *ids = feed_input(e, s->graph, "answers", e->options.answer_count, &s->answers);
    s->result = crank_keep(crank_model_answers(s->graph, e->model, rows, ids));
    if (!e->options.vocabulary) return;
    crank_model_logprob(s->graph, e->model, rows, feed_input(e, s->graph, "targets", s->size.sequences, &s->targets), &s->total);
    s->total = crank_keep(crank_cast(s->total, CRANK_F32));
}

/* Where one token of a sequence is read, its row is the sequence: segments of one row each. */
static crank_status record(encoder *e, shape *s)
{
    int64_t       borders = s->size.sequences + 1;
    crank_graph  *graph = s->graph;
    crank_graph_set_training(graph, false);
    crank_graph_set_compute(graph, crank_model_options_of(e->model)->compute);
    crank_graph_set_pool(graph, e->pool);
    bool               mean = e->pool_kind == CRANK_SEGMENT_MEAN, vectors = e->options.kind == ENCODE_VECTORS;
    crank_model_inputs inputs = {.ids = feed_input(e, graph, "ids", s->size.tokens, &s->ids),
                                 .positions = feed_input(e, graph, "positions", s->size.tokens, &s->positions),
                                 .segments = feed_input(e, graph, "segments", borders, &s->segments),
                                 .types = s->types ? feed_input(e, graph, "types", s->size.tokens, &s->token_types) : NULL,
                                 .rows = mean ? NULL : feed_input(e, graph, "rows", s->size.sequences, &s->rows),
                                 .longest = s->size.longest};
    crank_tensor *features = crank_model_features(graph, e->model, &inputs), *segments = inputs.segments;
    if (!mean && (e->options.kind == ENCODE_OUTPUTS || !strcmp(e->pooling, "pooler"))) segments = feed_input(e, graph, "singles", borders, &s->singles);
    if (e->options.kind == ENCODE_ANSWERS) record_answers(e, s, features);
    else if (e->options.kind == ENCODE_OUTPUTS) s->result = crank_model_classify(graph, e->model, features, segments);
    else if (s->singles.input) s->result = crank_model_pool(graph, e->model, features, segments);
    else s->result = mean && vectors ? crank_segment_pool(features, segments, CRANK_SEGMENT_MEAN) : features;
    crank_keep(s->result);
    crank_plan_summary plan;
    crank_status       status = crank_plan(graph, NULL, &plan);
    s->flops = plan.flops;
    crank_graph_profile(graph, e->profiled);
    return status;
}

/* The graph of a shape, recorded at its first use; the one that was not used for the longest time goes when there are too many. */
static crank_status shape_for(encoder *e, const pack_shape *size, bool types, shape **out)
{
    for (int i = 0; i < e->shape_count; i++) {
        shape *s = e->shapes[i];
        if (s->types != types || s->size.tokens != size->tokens || s->size.sequences != size->sequences || s->size.longest != size->longest) continue;
        memmove(&e->shapes[1], &e->shapes[0], (size_t)i * sizeof e->shapes[0]);
        *out = e->shapes[0] = s;
        return CRANK_OK;
    }
    shape *s = *out = crank_alloc(e->context, 1, sizeof *s, "a graph");
    if (!s) return CRANK_FAILED;
    if (e->shape_count == GRAPHS) shape_free(e->shapes[--e->shape_count]);
    memmove(&e->shapes[1], &e->shapes[0], (size_t)e->shape_count++ * sizeof e->shapes[0]);
    e->shapes[0] = s;
    *s = (shape){.size = *size, .types = types, .graph = crank_graph_new(e->context, crank_model_device(e->model))};
    e->counts.graphs++;
    return s->graph ? record(e, s) : CRANK_FAILED;
}

/* ---- one pack ---- */

static crank_status feed_write(feed *f, const int32_t *values)
{
    size_t bytes = (size_t)f->count * sizeof *values;
    if (f->written && !memcmp(f->values, values, bytes)) return CRANK_OK;
    memcpy(f->values, values, bytes);
    f->written = true;
    return crank_write(f->input, values);
}

/* *room holds at least `bytes`; what it held is gone when it grows. */
static crank_status grow(crank_context *context, void **room, size_t *capacity, size_t bytes, const char *what)
{
    if (bytes <= *capacity) return CRANK_OK;
    crank_free(*room);
    *room = crank_alloc(context, bytes, 1, what);
    *capacity = *room ? bytes : 0;
    return *room ? CRANK_OK : CRANK_FAILED;
}

static crank_status reserve(encoder *e, const shape *s)
{
    size_t sequences = (size_t)s->size.sequences, values = (size_t)s->size.tokens + sequences + 1;
    size_t result = sequences * (size_t)e->width * crank_dtype_bits(s->result->dtype) / 8;
    if (grow(e->context, (void **)&e->values, &e->values_capacity, values * sizeof *e->values, "inputs of a pack")) return CRANK_FAILED;
    if (s->total && grow(e->context, (void **)&e->totals, &e->totals_capacity, sequences * sizeof *e->totals, "results of a pack")) return CRANK_FAILED;
    return grow(e->context, &e->result, &e->result_capacity, result, "results of a pack");
}

/* Ids, positions and types of the rows, then of the fillers. */
static crank_status write_tokens(encoder *e, shape *s, const id_rows *rows, const int64_t *order, const pack *p)
{
    int32_t     *v = e->values;
    crank_status status = CRANK_OK;
    for (int what = 0; what < 3 && status == CRANK_OK; what++) {
        feed   *f = what == 0 ? &s->ids : what == 1 ? &s->positions : &s->token_types;
        int64_t at = 0;
        if (!f->input) continue;
        for (int64_t k = 0; k < p->rows; k++) {
            int64_t start = rows->starts[order[k]], n = rows->starts[order[k] + 1] - start;
            for (int64_t i = 0; i < n; i++) v[at + i] = what == 0 ? rows->ids[start + i] : what == 1 ? (int32_t)i : rows->second[start + i];
            at += n;
        }
        for (int64_t i = 0; at + i < s->size.tokens; i++) v[at + i] = what == 1 ? (int32_t)(i % s->size.longest) : 0;
        status = feed_write(f, v);
    }
    return status;
}

/* Borders of the rows, of the fillers, and of the empty sequences behind them; which token of each is read. */
static crank_status write_borders(encoder *e, shape *s, const id_rows *rows, const int64_t *order, const pack *p)
{
    int32_t *v = e->values, at = 0;
    int64_t  tokens = s->size.tokens, count = s->size.sequences;
    v[0] = 0;
    for (int64_t k = 0; k < count; k++) {
        int64_t n = k < p->rows ? rows->starts[order[k] + 1] - rows->starts[order[k]] : tokens - at < s->size.longest ? tokens - at : s->size.longest;
        v[k + 1] = at += (int32_t)n;
    }
    crank_status status = feed_write(&s->segments, v);
    if (!s->rows.input || status != CRANK_OK) return status;
    for (int64_t k = 0; k < count; k++) v[k] = k >= p->rows ? 0 : e->pool_kind == CRANK_SEGMENT_FIRST ? v[k] : v[k + 1] - 1;
    return feed_write(&s->rows, v);
}

/* What never changes. */
static crank_status write_rest(encoder *e, shape *s)
{
    int32_t     *v = e->values;
    crank_status status = CRANK_OK;
    if (s->answers.input && !s->answers.written) status = feed_write(&s->answers, e->answers);
    if (s->targets.input && !s->targets.written && status == CRANK_OK) {
        memset(v, 0, (size_t)s->targets.count * sizeof *v);
        status = feed_write(&s->targets, v);
    }
    if (s->singles.input && !s->singles.written && status == CRANK_OK) {
        for (int64_t k = 0; k < s->singles.count; k++) v[k] = (int32_t)k;
        status = feed_write(&s->singles, v);
    }
    return status;
}

/* ---- results ---- */

static void normalize(float *v, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += (double)v[i] * (double)v[i];
    double length = sqrt(sum) > 1e-12 ? sqrt(sum) : 1e-12;
    for (int64_t i = 0; i < n; i++) v[i] = (float)((double)v[i] / length);
}

static void among_answers(float *z, int64_t n)
{
    double most = -INFINITY, sum = 0;
    for (int64_t i = 0; i < n; i++) most = fmax(most, (double)z[i]);
    for (int64_t i = 0; i < n; i++) sum += exp((double)z[i] - most);
    for (int64_t i = 0; i < n; i++) z[i] = (float)((double)z[i] - most - log(sum));
}

/* A pack between its inputs and its results. */
typedef struct work {
    shape         *s;
    const int64_t *order;
    const pack    *p;
} work;

/* Inputs to the device; the graph of the shape is recorded at its first use. `tokens`: what the list of packs was made with. */
static crank_status feed_pack(encoder *e, const id_rows *rows, int64_t tokens, work *w)
{
    pack_shape   size = packs_shape(w->p, tokens);
    bool         types = rows->second && crank_model_config_of(e->model)->types > 1;
    crank_status status = shape_for(e, &size, types, &w->s);
    if (status == CRANK_OK) status = reserve(e, w->s);
    if (status == CRANK_OK) status = write_tokens(e, w->s, rows, w->order, w->p);
    if (status == CRANK_OK) status = write_borders(e, w->s, rows, w->order, w->p);
    return status == CRANK_OK ? write_rest(e, w->s) : status;
}

/* Results to the host: waits for the device. */
static crank_status read_pack(encoder *e, const work *w)
{
    crank_status status = crank_read(w->s->result, e->result);
    if (status == CRANK_OK && w->s->total) status = crank_read(w->s->total, e->totals);
    e->counts.packs++;
    e->counts.tokens += w->p->tokens;
    e->counts.filled += w->s->size.tokens;
    e->counts.flops += w->s->flops;
    return status;
}

/* Results to their rows' places. */
static void place_results(const encoder *e, const work *w, float *out)
{
    crank_dtype type = w->s->result->dtype;
    size_t      row = (size_t)e->width * crank_dtype_bits(type) / 8;
    for (int64_t k = 0; k < w->p->rows; k++) {
        float *v = out + w->order[k] * e->width;
        crank_convert(v, CRANK_F32, (const char *)e->result + (size_t)k * row, type, e->width);
        if (e->options.kind == ENCODE_VECTORS && e->options.normalize) normalize(v, e->width);
        if (e->options.kind == ENCODE_ANSWERS && !w->s->total) among_answers(v, e->width);
        for (int64_t i = 0; w->s->total && i < e->width; i++) v[i] -= e->totals[k];
    }
}

/* ---- all packs ---- */

static crank_status check_rows(encoder *e, const id_rows *rows)
{
    const crank_model_config *config = crank_model_config_of(e->model);
    for (int64_t r = 0; r < rows->count; r++) {
        int64_t n = rows->starts[r + 1] - rows->starts[r];
        if (n > config->context)
            return crank_fail(e->context, CRANK_BAD_DATA, "row %lld has %lld tokens and the model's context is %lld", (long long)r + 1, (long long)n, (long long)config->context);
        for (int64_t i = rows->starts[r]; i < rows->starts[r + 1]; i++)
            if (rows->ids[i] < 0 || rows->ids[i] >= config->vocab)
                return crank_fail(e->context, CRANK_BAD_DATA, "row %lld holds token %d; the model's vocabulary has %lld: the tokenizer is another model's", (long long)r + 1,
                                  rows->ids[i], (long long)config->vocab);
    }
    return CRANK_OK;
}

/* While the device computes a pack, the host places the results of the one before it and brings the inputs of the one behind it. */
static crank_status run_packs(encoder *e, const id_rows *rows, int64_t tokens, const pack_list *list, float *out)
{
    work         now = {0}, before = {0};
    crank_status status = CRANK_OK;
    for (int64_t i = 0; i <= list->count && status == CRANK_OK; i++) {
        work next = {0};
        if (i < list->count) next = (work){.order = list->order + list->packs[i].first, .p = &list->packs[i]};
        if (crank_stop_requested(e->context)) return crank_fail(e->context, CRANK_STOPPED, "stopped before the last row");
        if (now.p) status = crank_run(now.s->graph);
        if (before.p && status == CRANK_OK) place_results(e, &before, out);
        if (next.p && status == CRANK_OK) status = feed_pack(e, rows, tokens, &next);
        if (now.p && status == CRANK_OK) status = read_pack(e, &now);
        before = now;
        now = next;
    }
    if (before.p && status == CRANK_OK) place_results(e, &before, out);
    return status;
}

crank_status encoder_run(crank_context *context, encoder *e, const id_rows *rows, float *out)
{
    pack_list    list = {0};
    crank_status status = check_rows(e, rows);
    int64_t      all = rows->starts[rows->count] - rows->starts[0], tokens = all < e->tokens ? all : e->tokens;
    int64_t     *lengths = status == CRANK_OK ? crank_alloc(context, (size_t)rows->count + 1, sizeof *lengths, "lengths of rows") : NULL;
    for (int64_t r = 0; lengths && r < rows->count; r++) lengths[r] = rows->starts[r + 1] - rows->starts[r];
    if (status == CRANK_OK) status = lengths ? packs_make(context, lengths, rows->count, tokens, &list) : CRANK_FAILED;
    if (status == CRANK_OK) status = run_packs(e, rows, tokens, &list, out);
    packs_free(&list);
    crank_free(lengths);
    return status;
}

/* ---- what it tells ---- */

int64_t       encoder_width(const encoder *e) { return e->width; }
int64_t       encoder_tokens(const encoder *e) { return e->tokens; }
const char   *encoder_pooling(const encoder *e) { return e->pooling; }
encode_counts encoder_counts(const encoder *e) { return e->counts; }

void encoder_profile(encoder *e)
{
    e->profiled = true;
    for (int i = 0; i < e->shape_count; i++) crank_graph_profile(e->shapes[i]->graph, true);
}

char *encoder_table(crank_context *context, encoder *e, double flop_rate, double byte_rate)
{
    text_buffer text = {0};
    for (int i = 0; i < e->shape_count; i++) {
        const pack_shape *size = &e->shapes[i]->size;
        char             *table = crank_graph_table(e->shapes[i]->graph, flop_rate, byte_rate);
        text_printf(&text, "%s%lld tokens in %lld sequences of at most %lld\n%s", i ? "\n" : "", (long long)size->tokens, (long long)size->sequences,
                    (long long)size->longest, table ? table : "");
        crank_free(table);
    }
    return text_take(context, &text, "a profile");
}
