/* dataset.c - batches from a token table: the order of rows, what goes into which batch, and the thread that prepares the next. */
#include "data/dataset.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "crank/random.h"
#include "data/tokens.h"

/* A batch's memory: as large as the largest batch. */
typedef struct slot {
    data_batch batch;
    int64_t    number; /* which batch it holds; -1: none */
} slot;

struct data_set {
    token_table table;
    row_schema  schema;
    bool        packing, shuffle, types, eval;
    unsigned    fields;
    int64_t     capacity, batch, context; /* tokens and rows a batch */
    uint64_t    seed;
    int64_t     largest_tokens, largest_sequences, per_epoch;

    /* Where batches begin in the endless stream of rows (epoch after epoch), found as far as anyone asked. */
    int64_t    *starts;
    int64_t     start_count, start_capacity;
    int64_t    *order; /* of the rows of epoch `order_epoch` */
    int64_t     order_epoch;

    slot           *slots; /* `slot_count` for the caller, one more that the thread fills */
    int64_t         slot_count;
    pthread_t       thread;
    bool            threaded, stop;
    int64_t         wanted; /* batch that the thread shall prepare; -1: none */
    pthread_mutex_t lock;
    pthread_cond_t  changed;
    bool            failed; /* the thread ran out of memory for `starts` */
};

bool dataset_has_eval(const dataset_options *options) { return options->eval || (options->train && options->eval_share > 0); }

/* ---- the order of rows ---- */

/* Row at place p of the endless stream. */
static int64_t row_at(data_set *set, int64_t p)
{
    int64_t rows = set->table.row_count, epoch = p / rows;
    if (!set->shuffle) return p % rows;
    if (set->order_epoch != epoch) {
        crank_permutation(crank_stream_make(set->seed, CRANK_RANDOM_SHUFFLE, (uint32_t)epoch), set->order, rows);
        set->order_epoch = epoch;
    }
    return set->order[p % rows];
}

/* Place behind the last row of a batch that begins at p. An eval batch ends with its epoch. */
static int64_t batch_end(data_set *set, int64_t p)
{
    int64_t rows = set->table.row_count, border = (p / rows + 1) * rows, tokens = 0, count = 0;
    while (set->packing ? true : count < set->batch) {
        if (p == border && (set->eval || !set->packing)) break; /* rows of two epochs share only packed batches */
        int64_t length = set->table.rows[row_at(set, p)].count;
        if (set->packing && count && tokens + length > set->capacity) break;
        tokens += length;
        count++;
        p++;
    }
    return p;
}

static bool find_start(data_set *set, int64_t k)
{
    while (set->start_count <= k + 1) {
        if (set->start_count == set->start_capacity) {
            int64_t  capacity = set->start_capacity ? 2 * set->start_capacity : 1024;
            int64_t *starts = realloc(set->starts, (size_t)capacity * sizeof *starts);
            if (!starts) return false;
            set->starts = starts;
            set->start_capacity = capacity;
        }
        set->starts[set->start_count] = set->start_count ? batch_end(set, set->starts[set->start_count - 1]) : 0;
        set->start_count++;
    }
    return true;
}

/* ---- batches ---- */

static void copy_row(const data_set *set, int64_t row, data_batch *batch)
{
    const token_row *r = &set->table.rows[row];
    int64_t          at = batch->tokens;
    memcpy(batch->ids + at, set->table.ids + r->first, (size_t)r->count * sizeof *batch->ids);
    for (int64_t i = 0; i < r->count; i++) {
        bool counts = i + 1 < r->count && set->table.mask[r->first + i + 1];
        batch->positions[at + i] = (int32_t)i;
        batch->targets[at + i] = counts ? set->table.ids[r->first + i + 1] : -1;
        batch->weights[at + i] = counts ? 1 : 0;
        if (batch->types) batch->types[at + i] = set->table.second[r->first + i];
        if (set->fields & DATASET_TARGETS) batch->trained += counts;
    }
    if (batch->labels) batch->labels[batch->sequences] = isnan(r->label) ? -1 : (int32_t)r->label;
    if (batch->values) batch->values[batch->sequences] = r->label;
    if (!(set->fields & DATASET_TARGETS)) batch->trained += !isnan(r->label);
    batch->tokens += r->count;
    batch->segments[++batch->sequences] = (int32_t)batch->tokens;
}

/* Fills a slot with batch k; the caller holds the lock, or is the only user of the set. */
static bool fill(data_set *set, int64_t k, slot *to)
{
    if (!find_start(set, k)) return false;
    to->batch.tokens = to->batch.sequences = to->batch.trained = 0;
    to->batch.segments[0] = 0;
    for (int64_t p = set->starts[k]; p < set->starts[k + 1]; p++) copy_row(set, row_at(set, p), &to->batch);
    to->number = k;
    return true;
}

static void *prepare(void *user)
{
    data_set *set = user;
    pthread_mutex_lock(&set->lock);
    while (!set->stop) {
        slot *spare = &set->slots[set->slot_count];
        if (set->wanted >= 0 && spare->number != set->wanted) {
            if (!fill(set, set->wanted, spare)) set->failed = true;
            set->wanted = -1;
            pthread_cond_broadcast(&set->changed);
        } else {
            pthread_cond_wait(&set->changed, &set->lock);
        }
    }
    pthread_mutex_unlock(&set->lock);
    return NULL;
}

crank_status dataset_batch(crank_context *context, data_set *set, int64_t k, int to, const data_batch **out)
{
    if (k < 0 || to < 0 || to >= set->slot_count) return crank_fail(context, CRANK_USAGE, "batch %lld into slot %d of %lld", (long long)k, to, (long long)set->slot_count);
    pthread_mutex_lock(&set->lock);
    slot *mine = &set->slots[to], *spare = &set->slots[set->slot_count];
    bool  good = true;
    if (spare->number == k) {
        slot swap = *mine;
        *mine = *spare;
        *spare = swap;
        spare->number = -1;
    } else if (mine->number != k) {
        good = fill(set, k, mine);
    }
    set->wanted = k + 1;
    pthread_cond_broadcast(&set->changed);
    good = good && !set->failed;
    pthread_mutex_unlock(&set->lock);
    *out = &mine->batch;
    return good ? CRANK_OK : crank_fail(context, CRANK_FAILED, "out of memory: the places of batches");
}

/* ---- opening ---- */

static crank_status make_slots(crank_context *context, data_set *set)
{
    size_t n = (size_t)set->largest_tokens, s = (size_t)set->largest_sequences;
    set->slots = crank_alloc(context, (size_t)set->slot_count + 1, sizeof *set->slots, "batches");
    if (!set->slots) return CRANK_FAILED;
    for (int64_t i = 0; i <= set->slot_count; i++) {
        data_batch *b = &set->slots[i].batch;
        set->slots[i].number = -1;
        b->ids = crank_alloc(context, n, 4, "a batch");
        b->positions = crank_alloc(context, n, 4, "a batch");
        b->targets = crank_alloc(context, n, 4, "a batch");
        b->weights = crank_alloc(context, n, 4, "a batch");
        b->segments = crank_alloc(context, s + 1, 4, "a batch");
        if (set->types) b->types = crank_alloc(context, n, 4, "a batch");
        if (set->fields & DATASET_LABELS) b->labels = crank_alloc(context, s, 4, "a batch");
        if (set->fields & DATASET_VALUES) b->values = crank_alloc(context, s, 4, "a batch");
        if (!b->ids || !b->positions || !b->targets || !b->weights || !b->segments || (set->types && !b->types) ||
            ((set->fields & DATASET_LABELS) && !b->labels) || ((set->fields & DATASET_VALUES) && !b->values))
            return CRANK_FAILED;
    }
    return CRANK_OK;
}

/* Bounds of any batch in any order of rows. */
static void find_largest(data_set *set)
{
    int64_t longest = 1, shortest = INT64_MAX, rows = set->table.row_count;
    for (int64_t i = 0; i < rows; i++) {
        if (set->table.rows[i].count > longest) longest = set->table.rows[i].count;
        if (set->table.rows[i].count < shortest) shortest = set->table.rows[i].count;
    }
    if (set->packing) {
        set->largest_tokens = set->table.count < set->capacity && set->eval ? set->table.count : set->capacity;
        set->largest_sequences = set->capacity / (shortest > 0 ? shortest : 1) + 1;
        if (set->eval && set->largest_sequences > rows) set->largest_sequences = rows;
    } else {
        set->largest_sequences = set->batch < rows ? set->batch : rows;
        set->largest_tokens = set->largest_sequences * longest;
    }
}

/* The rows of the wanted part when one file serves both: the tail of a text, a drawn share of other rows. */
static void keep_part(data_set *set, double share, bool eval)
{
    token_table *table = &set->table;
    int64_t      kept = 0, border = (int64_t)((double)table->row_count * (1 - share));
    for (int64_t i = 0; i < table->row_count; i++) {
        bool held = set->schema == ROWS_TEXT ? i >= border : crank_draw_uniform(crank_stream_make(0, CRANK_RANDOM_SHUFFLE, 0xffffffffu), (uint64_t)i) < share;
        if (held == eval) table->rows[kept++] = table->rows[i];
    }
    table->row_count = kept;
    table->trained = 0;
    for (int64_t r = 0; r < kept; r++)
        for (int64_t i = 1; i < table->rows[r].count; i++) table->trained += table->mask[table->rows[r].first + i];
}

static crank_status check_rows(crank_context *context, const data_set *set, const dataset_request *request, const char *first_file)
{
    int64_t labelled = 0;
    if (!set->table.row_count) return crank_fail(context, CRANK_BAD_DATA, "%s: no row is left for %s", first_file, set->eval ? "evaluation" : "training");
    if ((set->fields & DATASET_TARGETS) && set->table.trained < 1)
        return crank_fail(context, CRANK_BAD_DATA, "%s: no token counts for the loss (empty completions, or rows of one token): `crank data show` prints the masks", first_file);
    for (int64_t i = 0; i < set->table.row_count && (set->fields & DATASET_LABELS); i++) {
        float label = set->table.rows[i].label;
        if (isnan(label)) continue;
        labelled++;
        if (label < 0 || label != floorf(label) || label > 1e9f)
            return crank_fail(context, CRANK_BAD_DATA, "%s: row %lld has label %g, which is no number of a class", first_file, (long long)i + 1, (double)label);
        if (request->labels && label >= (float)request->labels)
            return crank_fail(context, CRANK_BAD_DATA, "%s: row %lld has label %g; the head has classes 0 to %lld (model.labels)", first_file, (long long)i + 1,
                              (double)label, (long long)request->labels - 1);
    }
    if ((set->fields & DATASET_LABELS) && !labelled) return crank_fail(context, CRANK_BAD_DATA, "%s: no row has a label", first_file);
    return CRANK_OK;
}

static crank_status load(crank_context *context, const crank_tokenizer *tokenizer, const dataset_options *options, const dataset_request *request, data_set *set)
{
    bool         shared = set->eval && !options->eval;
    const char  *paths = set->eval && options->eval ? options->eval : options->train;
    raw_rows     rows;
    crank_status status;
    if (!paths) return crank_fail(context, CRANK_USAGE, "the recipe names no %s data: set data.%s", set->eval ? "held-out" : "training", set->eval ? "eval" : "train");
    if (options->context > request->context)
        return crank_fail(context, CRANK_USAGE, "data.context is %lld and the model takes %lld tokens", (long long)options->context, (long long)request->context);
    status = rows_read(context, options, paths, request->fields, &rows);
    if (status != CRANK_OK) return status;
    size_t count = options->rows && (!set->eval || shared) && (size_t)options->rows < rows.count ? (size_t)options->rows : rows.count;
    set->schema = rows.schema;
    status = tokens_make(context, tokenizer, options, &rows, 0, count, options->context, &set->table);
    if (status == CRANK_OK && !options->eval && options->eval_share > 0) keep_part(set, options->eval_share, shared);
    if (status == CRANK_OK) status = check_rows(context, set, request, rows.files[0]);
    for (size_t i = 0; i < rows.count && status == CRANK_OK; i++) set->types |= rows.rows[i].second && rows.schema == ROWS_LABELLED;
    rows_free(&rows);
    return status;
}

data_set *dataset_open(crank_context *context, const crank_tokenizer *tokenizer, const dataset_options *options, const dataset_request *request,
                       dataset_part part)
{
    data_set *set = crank_alloc(context, 1, sizeof *set, "a data set");
    if (!set) return NULL;
    *set = (data_set){.eval = part == DATASET_EVAL, .fields = request->fields, .batch = request->batch, .context = options->context,
                      .capacity = request->batch * options->context, .seed = request->seed, .slot_count = request->slots > 0 ? request->slots : 1,
                      .order_epoch = -1, .wanted = -1};
    set->packing = options->packing && (request->fields & DATASET_TARGETS);
    set->shuffle = options->shuffle && !set->eval;
    pthread_mutex_init(&set->lock, NULL);
    pthread_cond_init(&set->changed, NULL);
    bool good = load(context, tokenizer, options, request, set) == CRANK_OK;
    if (good) {
        find_largest(set);
        set->order = crank_alloc(context, (size_t)set->table.row_count, sizeof *set->order, "the order of rows");
        good = set->order && make_slots(context, set) == CRANK_OK;
    }
    while (good && (good = find_start(set, set->per_epoch)) && set->starts[set->per_epoch] < set->table.row_count) set->per_epoch++;
    if (good) good = set->threaded = pthread_create(&set->thread, NULL, prepare, set) == 0;
    if (good) return set;
    if (crank_last_status(context) == CRANK_OK) crank_fail(context, CRANK_FAILED, "out of memory: a data set");
    dataset_close(set);
    return NULL;
}

void dataset_close(data_set *set)
{
    if (!set) return;
    if (set->threaded) {
        pthread_mutex_lock(&set->lock);
        set->stop = true;
        pthread_cond_broadcast(&set->changed);
        pthread_mutex_unlock(&set->lock);
        pthread_join(set->thread, NULL);
    }
    for (int64_t i = 0; set->slots && i <= set->slot_count; i++) {
        data_batch *b = &set->slots[i].batch;
        void *const rooms[] = {b->ids, b->positions, b->targets, b->weights, b->types, b->segments, b->labels, b->values};
        for (size_t r = 0; r < sizeof rooms / sizeof rooms[0]; r++) crank_free(rooms[r]);
    }
    crank_free(set->slots), crank_free(set->order);
    free(set->starts);
    tokens_free(&set->table);
    pthread_mutex_destroy(&set->lock);
    pthread_cond_destroy(&set->changed);
    crank_free(set);
}

/* ---- what it tells ---- */

int64_t dataset_batches_per_epoch(const data_set *set) { return set->per_epoch; }
int64_t dataset_largest_tokens(const data_set *set) { return set->largest_tokens; }
int64_t dataset_longest(const data_set *set) { return set->context; }
int64_t dataset_largest_sequences(const data_set *set) { return set->largest_sequences; }
bool    dataset_has_types(const data_set *set) { return set->types; }
int64_t dataset_rows(const data_set *set) { return set->table.row_count; }

size_t dataset_bytes(const data_set *set)
{
    size_t batch = (size_t)set->largest_tokens * (set->types ? 20 : 16) + (size_t)set->largest_sequences * 12;
    return (size_t)set->table.capacity * 6 + (size_t)set->table.row_capacity * sizeof *set->table.rows + (size_t)set->table.row_count * 8 +
           (size_t)(set->slot_count + 1) * batch;
}

void dataset_row(const data_set *set, int64_t i, const int32_t **ids, const uint8_t **mask, int64_t *count, int32_t *label)
{
    const token_row *row = &set->table.rows[i];
    *ids = set->table.ids + row->first;
    *mask = set->table.mask + row->first;
    *count = row->count;
    *label = row->label >= 0 && row->label <= 1e9f ? (int32_t)row->label : -1; /* a real-valued label is not one */
}

char *dataset_report(crank_context *context, const data_set *set)
{
    const token_table *t = &set->table;
    int64_t            tokens = 0;
    char               overflow[160] = "", trained[64] = "", empty[64] = "";
    for (int64_t i = 0; i < t->row_count; i++) tokens += t->rows[i].count;
    if (set->fields & DATASET_TARGETS)
        snprintf(trained, sizeof trained, ", %lld of them trained (%.3g %%)", (long long)t->trained, 100.0 * (double)t->trained / (double)(tokens ? tokens : 1));
    if (t->cut || t->dropped || t->split)
        snprintf(overflow, sizeof overflow, "; %lld rows were longer than %lld tokens (the longest %lld) and were %s", (long long)(t->cut + t->dropped + t->split),
                 (long long)set->context, (long long)t->longest, t->cut ? "cut" : t->dropped ? "left out" : "split");
    if (t->empty) snprintf(empty, sizeof empty, "; %lld rows without a token were left out", (long long)t->empty);
    return crank_format(context, "%s: %lld rows of %s, %lld tokens%s%s%s", set->eval ? "held-out data" : "training data", (long long)t->row_count,
                        rows_schema_name(set->schema), (long long)tokens, trained, overflow, empty);
}
