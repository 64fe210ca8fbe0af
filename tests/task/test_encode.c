/* test_encode.c - vectors, outputs and answers of packed rows against what transformers computes for each row alone (tests/oracle/models.py),
 * and packed rows against the same rows one by one. */
#include "testing.h"

#include "crank/random.h"
#include "crank/tensor.h"
#include "task/encode_all.h"
#include "task/packs.h"
#include "test_device.h"

typedef struct world {
    crank_context     *context;
    crank_device      *device;
    crank_model       *model;
    crank_safetensors *file;
    id_rows            rows;
    uint8_t           *second;
} world;

static const void *find(world *w, const char *name, int64_t *count)
{
    crank_view view;
    if (!crank_safetensors_find(w->file, name, &view)) fail_msg("no tensor %s", name);
    if (count) *count = crank_view_count(&view);
    return view.data;
}

static world world_open(const char *name, const char *pooling, bool body)
{
    world w = {.context = crank_context_new()};
    char  folder[256], path[4200];
    snprintf(folder, sizeof folder, "models/%s", name);
    w.device = test_device(w.context, NULL);
    crank_model_options options = {.compute = CRANK_F32, .weights = CRANK_F32, .pooling = pooling, .body = body};
    w.model = crank_model_load(w.context, w.device, golden(folder), &options);
    if (!w.model) fail_msg("%s", crank_message(w.context));
    snprintf(path, sizeof path, "%s/golden.safetensors", golden(folder));
    w.file = crank_safetensors_open(w.context, path);
    if (!w.file) fail_msg("%s", crank_message(w.context));
    int64_t        tokens, borders;
    const int32_t *segments = find(&w, "segments", &borders);
    w.rows.ids = (int32_t *)(uintptr_t)find(&w, "ids", &tokens);
    w.rows.count = borders - 1;
    w.rows.starts = calloc((size_t)borders, sizeof *w.rows.starts);
    for (int64_t i = 0; i < borders; i++) w.rows.starts[i] = segments[i];
    if (crank_model_config_of(w.model)->types > 1) {
        const int32_t *types = find(&w, "types", NULL);
        w.second = calloc((size_t)tokens, 1);
        for (int64_t i = 0; i < tokens; i++) w.second[i] = (uint8_t)types[i];
        w.rows.second = w.second;
    }
    return w;
}

static void world_close(world *w)
{
    free(w->rows.starts), free(w->second);
    crank_safetensors_close(w->file);
    crank_model_free(w->model);
    w->device->close(w->device);
    crank_context_free(w->context);
}

static float *encoded(world *w, const encode_options *options, const id_rows *rows)
{
    encoder *e = encoder_open(w->context, w->model, options);
    if (!e) fail_msg("%s", crank_message(w->context));
    float *out = calloc((size_t)(rows->count * encoder_width(e)) + 1, sizeof *out);
    assert_ok(w->context, encoder_run(w->context, e, rows, out));
    encoder_close(e);
    return out;
}

static void assert_near(const float *a, const float *b, int64_t n, double bound, const char *what)
{
    for (int64_t i = 0; i < n; i++)
        if (!(fabs((double)a[i] - b[i]) <= bound * fmax(1, fabs((double)b[i])))) fail_msg("%s: place %d is %.8g, wanted %.8g", what, (int)i, (double)a[i], (double)b[i]);
}

/* What the hidden states of each row, made without padding, pool to. */
static void pool_by_hand(world *w, const char *pooling, float *out)
{
    int64_t      hidden = crank_model_config_of(w->model)->hidden;
    const float *h = find(w, "features", NULL);
    for (int64_t r = 0; r < w->rows.count; r++)
        for (int64_t k = 0; k < hidden; k++) {
            int64_t first = w->rows.starts[r], end = w->rows.starts[r + 1];
            double  sum = 0;
            for (int64_t i = first; i < end; i++) sum += h[i * hidden + k];
            out[r * hidden + k] = !strcmp(pooling, "mean") ? (float)(sum / (double)(end - first)) : h[(!strcmp(pooling, "cls") ? first : end - 1) * hidden + k];
        }
}

static void vectors_are_what_transformers_gives(void **state)
{
    (void)state;
    static const char *const models[] = {"bert", "minilm", "roberta", "roberta_mlm", "distilbert", "llama", "qwen3", "gpt2", "bert_classify"};
    static const char *const poolings[] = {"mean", "cls", "last"};
    for (size_t m = 0; m < sizeof models / sizeof models[0]; m++) {
        world   w = world_open(models[m], NULL, true);
        int64_t hidden = crank_model_config_of(w.model)->hidden;
        float  *wanted = calloc((size_t)(w.rows.count * hidden), sizeof *wanted);
        for (size_t p = 0; p < 3; p++) {
            float *got = encoded(&w, &(encode_options){.pooling = poolings[p]}, &w.rows);
            pool_by_hand(&w, poolings[p], wanted);
            assert_near(got, wanted, w.rows.count * hidden, 2e-5, models[m]);
            free(got);
        }
        free(wanted);
        world_close(&w);
    }
}

static void the_pooler_reads_the_first_token(void **state)
{
    (void)state;
    world  w = world_open("bert", "pooler", false);
    float *got = encoded(&w, &(encode_options){.pooling = "pooler"}, &w.rows);
    assert_near(got, find(&w, "pooled", NULL), w.rows.count * crank_model_config_of(w.model)->hidden, 2e-5, "pooled");
    free(got);
    world_close(&w);
}

static void vectors_are_brought_to_length_one(void **state)
{
    (void)state;
    world   w = world_open("minilm", NULL, true);
    int64_t hidden = crank_model_config_of(w.model)->hidden;
    float  *plain = encoded(&w, &(encode_options){0}, &w.rows), *unit = encoded(&w, &(encode_options){.normalize = true}, &w.rows);
    for (int64_t r = 0; r < w.rows.count; r++) {
        double length = 0;
        for (int64_t k = 0; k < hidden; k++) length += (double)plain[r * hidden + k] * plain[r * hidden + k];
        for (int64_t k = 0; k < hidden; k++) plain[r * hidden + k] /= (float)sqrt(length);
    }
    assert_near(unit, plain, w.rows.count * hidden, 1e-6, "unit vectors");
    free(plain), free(unit);
    world_close(&w);
}

static void outputs_are_those_of_the_classification_head(void **state)
{
    (void)state;
    static const char *const models[] = {"bert_classify", "roberta_classify", "distilbert_classify", "llama_classify", "gpt2_classify"};
    for (size_t m = 0; m < sizeof models / sizeof models[0]; m++) {
        world  w = world_open(models[m], NULL, false);
        float *got = encoded(&w, &(encode_options){.kind = ENCODE_OUTPUTS}, &w.rows);
        assert_near(got, find(&w, "outputs", NULL), w.rows.count * crank_model_config_of(w.model)->labels, 2e-5, models[m]);
        free(got);
        world_close(&w);
    }
}

static void answers_have_the_log_probabilities_of_the_last_logits(void **state)
{
    (void)state;
    static const char *const models[] = {"llama", "qwen2", "gpt2"};
    static const int32_t     answers[3] = {17, 5, 90};
    for (size_t m = 0; m < sizeof models / sizeof models[0]; m++)
        for (int vocabulary = 0; vocabulary < 2; vocabulary++) {
            world        w = world_open(models[m], NULL, false);
            int64_t      vocab = crank_model_config_of(w.model)->vocab;
            const float *logits = find(&w, "logits", NULL);
            float       *got = encoded(&w, &(encode_options){.kind = ENCODE_ANSWERS, .answers = answers, .answer_count = 3, .vocabulary = vocabulary}, &w.rows), wanted[64];
            for (int64_t r = 0; r < w.rows.count; r++) {
                const float *z = logits + (w.rows.starts[r + 1] - 1) * vocab;
                double       sum = 0;
                for (int64_t k = 0; k < (vocabulary ? vocab : 3); k++) sum += exp((double)z[vocabulary ? k : answers[k]]);
                for (int64_t k = 0; k < 3; k++) wanted[3 * r + k] = (float)((double)z[answers[k]] - log(sum));
            }
            assert_near(got, wanted, 3 * w.rows.count, 2e-5, models[m]);
            free(got);
            world_close(&w);
        }
}

/* Rows of lengths 1..context, more than a pack holds. */
static id_rows drawn_rows(int64_t count, int64_t longest, int64_t vocab)
{
    crank_stream stream = crank_stream_make(11, CRANK_RANDOM_SAMPLE, 0);
    id_rows      rows = {.count = count, .starts = calloc((size_t)count + 1, sizeof *rows.starts), .ids = calloc((size_t)(count * longest), sizeof *rows.ids)};
    for (int64_t r = 0; r < count; r++) {
        int64_t n = 1 + (int64_t)(crank_draw_uniform(stream, (uint64_t)r) * (float)longest);
        rows.starts[r + 1] = rows.starts[r] + (n > longest ? longest : n);
    }
    for (int64_t i = 0; i < rows.starts[count]; i++) rows.ids[i] = (int32_t)(crank_draw_uniform(stream, (uint64_t)(count + i)) * (float)vocab) % (int32_t)vocab;
    return rows;
}

static void packed_rows_equal_rows_one_by_one(void **state)
{
    (void)state;
    static const char *const models[] = {"minilm", "llama", "mistral"};
    for (size_t m = 0; m < sizeof models / sizeof models[0]; m++) {
        world          w = world_open(models[m], NULL, true);
        int64_t        hidden = crank_model_config_of(w.model)->hidden;
        id_rows        rows = drawn_rows(75, 30, crank_model_config_of(w.model)->vocab);
        encode_options options = {.tokens = 100};
        float         *together = encoded(&w, &options, &rows);
        encoder       *e = encoder_open(w.context, w.model, &(encode_options){.tokens = 1});
        for (int64_t r = 0; r < rows.count; r++) {
            float   alone[64];
            id_rows one = {.ids = rows.ids, .starts = rows.starts + r, .count = 1};
            assert_ok(w.context, encoder_run(w.context, e, &one, alone));
            assert_near(together + r * hidden, alone, hidden, 1e-5, models[m]);
        }
        encoder_close(e);
        free(together), free(rows.ids), free(rows.starts);
        world_close(&w);
    }
}

/* ---- windows ---- */

typedef struct taken {
    float  *values;
    int64_t rows, width;
} taken;

static crank_status take(void *user, const float *values, int64_t rows)
{
    taken *t = user;
    memcpy(t->values + t->rows * t->width, values, (size_t)(rows * t->width) * sizeof *values);
    t->rows += rows;
    return CRANK_OK;
}

static crank_status encode_texts(world *w, const crank_tokenizer *tokenizer, raw_rows *texts, bool ahead, taken *t, encode_result *result)
{
    encoder *e = encoder_open(w->context, w->model, &(encode_options){0});
    if (!e) fail_msg("%s", crank_message(w->context));
    encode_job job = {.texts = texts, .tokenizer = tokenizer, .format = {.limit = 24}, .ahead = ahead, .progress = -1};
    t->rows = 0;
    crank_status status = encode_all(w->context, e, &job, take, t, result);
    encoder_close(e);
    return status;
}

static void windows_tokenised_ahead_give_the_same_vectors(void **state)
{
    (void)state;
    enum { ROWS = 9000 }; /* more than a window */
    static char      files[] = "texts", *file_names[] = {files};
    world            w = {.context = crank_context_new()};
    w.device = test_device(w.context, NULL);
    w.model = crank_model_load(w.context, w.device, golden("encoders/bi"), &(crank_model_options){.compute = CRANK_F32, .weights = CRANK_F32, .pooling = "mean"});
    crank_tokenizer *tokenizer = w.model ? crank_tokenizer_load(w.context, golden("encoders/bi")) : NULL;
    if (!tokenizer) fail_msg("%s", crank_message(w.context));
    static const char *const texts[] = {"dog", "the lazy fox", "where the wind goes", "over the hills and the sea", "no"};
    raw_row                 *rows = calloc(ROWS, sizeof *rows);
    for (int i = 0; i < ROWS; i++) rows[i] = (raw_row){.text = (char *)(uintptr_t)texts[(i * 7 + i / 11) % 5], .line = (size_t)i + 1};
    raw_rows      all = {.rows = rows, .count = ROWS, .files = file_names, .file_count = 1};
    taken         one = {.width = 32, .values = calloc(ROWS * 32, sizeof(float))}, other = {.width = 32, .values = calloc(ROWS * 32, sizeof(float))};
    encode_result result;
    assert_ok(w.context, encode_texts(&w, tokenizer, &all, false, &one, &result));
    assert_int_equal(result.rows, ROWS);
    assert_ok(w.context, encode_texts(&w, tokenizer, &all, true, &other, &result));
    assert_true(one.rows == ROWS && other.rows == ROWS);
    assert_near(other.values, one.values, ROWS * 32, 1e-5, "vectors");
    /* A row of the second window whose prompt cannot be cut: its first text alone is too long. */
    encode_job job = {.texts = &all, .tokenizer = tokenizer, .format = {.limit = 8, .form = "{text} {pair}"}, .ahead = true, .progress = -1};
    rows[8900].text = (char *)(uintptr_t)"the wind goes over the hills and the sea and the dog said nothing";
    rows[8900].second = (char *)(uintptr_t)"no";
    encoder *e = encoder_open(w.context, w.model, &(encode_options){0});
    other.rows = 0;
    assert_int_equal(encode_all(w.context, e, &job, take, &other, &result), CRANK_BAD_DATA);
    assert_non_null(strstr(crank_message(w.context), "texts:8901: the prompt has"));
    encoder_close(e);
    free(one.values), free(other.values), free(rows);
    crank_tokenizer_free(tokenizer);
    crank_model_free(w.model);
    w.device->close(w.device);
    crank_context_free(w.context);
}

static void bad_rows_are_told(void **state)
{
    (void)state;
    world    w = world_open("minilm", NULL, true);
    encoder *e = encoder_open(w.context, w.model, &(encode_options){0});
    int32_t  ids[50] = {[3] = 96};
    int64_t  long_row[2] = {0, 50}, foreign[3] = {0, 2, 5}, empty[3] = {0, 2, 2};
    float    out[256];
    assert_int_equal(encoder_run(w.context, e, &(id_rows){.ids = ids, .starts = long_row, .count = 1}, out), CRANK_BAD_DATA);
    assert_non_null(strstr(crank_message(w.context), "50 tokens"));
    assert_int_equal(encoder_run(w.context, e, &(id_rows){.ids = ids, .starts = foreign, .count = 2}, out), CRANK_BAD_DATA);
    assert_non_null(strstr(crank_message(w.context), "row 2"));
    assert_int_not_equal(encoder_run(w.context, e, &(id_rows){.ids = ids, .starts = empty, .count = 2}, out), CRANK_OK);
    encoder_close(e);
    assert_null(encoder_open(w.context, w.model, &(encode_options){.kind = ENCODE_ANSWERS, .answers = ids, .answer_count = 2}));
    assert_null(encoder_open(w.context, w.model, &(encode_options){.kind = ENCODE_OUTPUTS}));
    assert_null(encoder_open(w.context, w.model, &(encode_options){.pooling = "max"}));
    world_close(&w);
}

static void packs_hold_every_row_once_and_are_nearly_full(void **state)
{
    (void)state;
    enum { ROWS = 3000, TOKENS = 2048 };
    crank_context *context = crank_context_new();
    crank_stream   stream = crank_stream_make(3, CRANK_RANDOM_SAMPLE, 0);
    int64_t        lengths[ROWS], all = 0, shapes = 0;
    pack_shape     seen[64];
    for (int i = 0; i < ROWS; i++) all += lengths[i] = 1 + (int64_t)exp(3.6 + 3 * (double)crank_draw_uniform(stream, (uint64_t)i)); /* 37 to 735 */
    pack_list list;
    bool      there[ROWS] = {false};
    assert_ok(context, packs_make(context, lengths, ROWS, TOKENS, &list));
    for (int64_t p = 0; p < list.count; p++) {
        const pack *one = &list.packs[p];
        int64_t     tokens = 0, longest = 0;
        for (int64_t k = 0; k < one->rows; k++) {
            int64_t row = list.order[one->first + k];
            assert_false(there[row]);
            there[row] = true;
            tokens += lengths[row];
            if (lengths[row] > longest) longest = lengths[row];
        }
        assert_true(tokens == one->tokens && longest == one->longest && tokens <= TOKENS);
        pack_shape shape = packs_shape(one, TOKENS);
        assert_true(shape.tokens >= tokens && shape.longest >= longest && shape.sequences >= one->rows + (shape.tokens - tokens + shape.longest - 1) / shape.longest);
        int64_t s = 0;
        while (s < shapes && memcmp(&seen[s], &shape, sizeof shape)) s++;
        if (s == shapes && shapes < 64) seen[shapes++] = shape;
    }
    for (int i = 0; i < ROWS; i++) assert_true(there[i]);
    assert_true((double)all / (double)(list.count * TOKENS) > 0.97);
    assert_true(shapes < 40);
    packs_free(&list);
    lengths[5] = 5000; /* longer than a pack: alone */
    assert_ok(context, packs_make(context, lengths, ROWS, TOKENS, &list));
    assert_true(list.packs[0].rows == 1 && list.packs[0].tokens == 5000 && list.order[0] == 5);
    packs_free(&list);
    crank_context_free(context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vectors_are_what_transformers_gives),
        cmocka_unit_test(the_pooler_reads_the_first_token),
        cmocka_unit_test(vectors_are_brought_to_length_one),
        cmocka_unit_test(outputs_are_those_of_the_classification_head),
        cmocka_unit_test(answers_have_the_log_probabilities_of_the_last_logits),
        cmocka_unit_test(packed_rows_equal_rows_one_by_one),
        cmocka_unit_test(windows_tokenised_ahead_give_the_same_vectors),
        cmocka_unit_test(bad_rows_are_told),
        cmocka_unit_test(packs_hold_every_row_once_and_are_nearly_full),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
