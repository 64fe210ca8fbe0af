/* The LETOR reader: what it reads, what it refuses and how, and that neither threads nor the binary form change anything. */
#include <zlib.h>

#include "testing.h"

#include "data/letor.h"
#include "data/letor_parts.h"

typedef struct world {
    crank_context *context;
    letor_options *options;
    char           path[128];
} world;

static int setup(void **state)
{
    world *w = calloc(1, sizeof *w);
    w->context = crank_context_new();
    w->options = crank_options_new(w->context, letor_option_table, sizeof *w->options);
    snprintf(w->path, sizeof w->path, "/tmp/crank_letor_%ld", (long)getpid());
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    world *w = *state;
    unlink(w->path);
    crank_options_free(w->options);
    crank_context_free(w->context);
    free(w);
    return 0;
}

static void put_bytes(const char *path, const void *bytes, size_t length)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, length, file), length);
    fclose(file);
}

static letor_set *read_bytes(world *w, const void *bytes, size_t length)
{
    put_bytes(w->path, bytes, length);
    crank_clear(w->context);
    return letor_read(w->context, w->path, w->options);
}
static letor_set *read_text(world *w, const char *text) { return read_bytes(w, text, strlen(text)); }

static void set_option(world *w, const char *key, const char *value) { assert_ok(w->context, crank_options_set(w->context, letor_option_table, w->options, key, value, NULL)); }

static void numbers_are_rounded_as_strtof_rounds_them(void **state)
{
    (void)state;
    static const char *const texts[] = {"0", "-0", "1", "3.14159", "1e-3", "16777217", "16777219", "0.1", "1e38", "3.5e38", "1e-45", "1.17549435e-38", "123456789012345678901234567890",
                                        "0.000000000000000000000000000000000001", "5e-324", "1.00000005960464477539", "1.000000059604644775390625", "1.0000000596046447753906251",
                                        "9007199254740993", "2.5e-7", "1e22", "1e27", "4.35e27", "1e400", "1e-400", "00000001.5", "1.e2", ".5", "+7", "-1.5E+3"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        float value, expected = strtof(texts[i], NULL);
        assert_true(letor_number(texts[i], texts[i] + strlen(texts[i]), &value));
        assert_memory_equal(&value, &expected, sizeof value);
    }
    srand(1);
    for (int i = 0; i < 200000; i++) {
        char     text[64];
        uint32_t bits = (uint32_t)rand() << 16 ^ (uint32_t)rand();
        float    source, value, expected;
        memcpy(&source, &bits, sizeof source);
        if (!isfinite(source)) continue;
        if (i % 3 == 0) snprintf(text, sizeof text, "%.*g", 1 + rand() % 20, (double)source);
        else if (i % 3 == 1) snprintf(text, sizeof text, "%.*f", rand() % 10, (double)rand() / (1 + rand() % 10000));
        else snprintf(text, sizeof text, "%.17g", ((double)source + (double)nextafterf(source, 1e30f)) / 2); /* half way: ties */
        expected = strtof(text, NULL);
        assert_true(letor_number(text, text + strlen(text), &value));
        if (memcmp(&value, &expected, sizeof value)) fail_msg("%s: %.9g, not %.9g", text, (double)value, (double)expected);
    }
    static const char *const wrong[] = {"", "-", ".", "e5", "1e", "1e+", "1x", "0x10", "1 ", "--1", "1.2.3", "1,5"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        float value;
        assert_false(letor_number(wrong[i], wrong[i] + strlen(wrong[i]), &value));
    }
}

static void svmlight_lines_give_labels_queries_values_and_document_names(void **state)
{
    world     *w = *state;
    letor_set *set = read_text(w, "# header comment\r\n2 qid:a 1:0.5 3:-1e-2 # docid = GX1 inc = 0\r\n\r\n0 qid:a 2:7#docid = GX2\r\n1.5\tqid:b\t3:nan 1:4 \n");
    if (!set) fail_msg("%s", crank_message(w->context));
    assert_int_equal(set->rows, 3);
    assert_int_equal(set->columns, 4);
    assert_int_equal(set->queries, 2);
    assert_int_equal(set->offsets[1], 2);
    assert_string_equal(set->query_names[1], "b");
    assert_string_equal(set->document_names[1], "GX2");
    assert_string_equal(set->document_names[2], "");
    float row[4];
    letor_row(set, 0, row);
    assert_true(row[0] == 0 && row[1] == 0.5f && row[2] == 0 && row[3] == -0.01f);
    letor_row(set, 2, row);
    assert_true(row[1] == 4 && isnan(row[3]) && set->labels[2] == 1.5f);
    letor_free(set);
}

static void tables_are_read_by_the_names_of_their_columns(void **state)
{
    world *w = *state;
    set_option(w, "format", "csv");
    set_option(w, "label", "clicked");
    set_option(w, "query", "query");
    set_option(w, "weight", "w");
    set_option(w, "document", "item");
    set_option(w, "ignore", "url");
    set_option(w, "categorical", "kind");
    letor_set *set = read_text(w, "query,item,\"a,1\",clicked,url,w,kind\nq1,d1,0.5,1,http://x,2,3\nq1,\"d\"\"2\",,0,\"a,b\",1,0\n");
    if (!set) fail_msg("%s", crank_message(w->context));
    assert_int_equal(set->columns, 2);
    assert_string_equal(set->names[0], "a,1");
    assert_string_equal(set->names[1], "kind");
    assert_true(set->categorical[1] && !set->categorical[0]);
    assert_true(set->weights[0] == 2 && set->labels[0] == 1 && isnan(set->dense[2]) && set->dense[3] == 0);
    assert_int_equal(set->queries, 1);
    letor_free(set);
}

static void far_columns_cost_what_they_hold(void **state)
{
    world     *w = *state;
    char       text[4096];
    size_t     length = 0;
    for (int i = 0; i < 100; i++) length += (size_t)snprintf(text + length, sizeof text - length, "1 1:2 10000000:%d\n", i + 1);
    letor_set *set = read_text(w, text);
    if (!set) fail_msg("%s", crank_message(w->context));
    assert_null(set->dense);
    assert_int_equal(set->columns, 10000001);
    assert_int_equal(set->starts[100], 200);
    letor_free(set);
}

static void rows_of_one_query_are_brought_together_when_asked(void **state)
{
    world *w = *state;
    static const char *const text = "1 qid:a 1:1 # docid = A\n2 qid:b 1:2 # docid = B\n3 qid:a 1:3 # docid = C\n4 qid:c 1:4\n5 qid:b 1:5 9:9\n";
    assert_null(read_text(w, text));
    set_option(w, "regroup", "true");
    letor_set *set = read_text(w, text);
    if (!set) fail_msg("%s", crank_message(w->context));
    static const float labels[] = {1, 3, 2, 5, 4};
    float row[10];
    assert_memory_equal(set->labels, labels, sizeof labels);
    assert_true(set->queries == 3 && set->offsets[1] == 2 && set->offsets[2] == 4 && set->offsets[3] == 5);
    letor_row(set, 3, row);
    assert_true(row[1] == 5 && row[9] == 9);
    assert_string_equal(set->document_names[1], "C");
    letor_free(set);
}

static char *random_file(unsigned seed, int rows, size_t *length)
{
    char *text = malloc((size_t)rows * 400);
    *length = 0;
    srand(seed);
    for (int i = 0; i < rows; i++) {
        *length += (size_t)sprintf(text + *length, "%d qid:%d", rand() % 5, i / 17);
        for (int j = 1; j < 20; j++)
            if (rand() % 3) *length += (size_t)sprintf(text + *length, " %d:%.6g", j, (rand() - RAND_MAX / 2) / 1e7);
        *length += (size_t)sprintf(text + *length, i % 7 ? "\n" : " # docid = D%d\n", i);
    }
    return text;
}

static void assert_equal_sets(const letor_set *a, const letor_set *b)
{
    assert_int_equal(a->rows, b->rows);
    assert_int_equal(a->columns, b->columns);
    assert_int_equal(a->queries, b->queries);
    assert_memory_equal(a->labels, b->labels, (size_t)a->rows * 4);
    assert_memory_equal(a->offsets, b->offsets, (size_t)(a->queries + 1) * 4);
    float x[64], y[64];
    for (int64_t i = 0; i < a->rows; i++) {
        letor_row(a, i, x);
        letor_row(b, i, y);
        assert_memory_equal(x, y, (size_t)a->columns * 4);
        assert_string_equal(a->document_names[i], b->document_names[i]);
    }
    for (int64_t q = 0; q < a->queries; q++) assert_string_equal(a->query_names[q], b->query_names[q]);
}

static void threads_gzip_and_the_binary_form_change_nothing(void **state)
{
    world     *w = *state;
    size_t     length;
    char      *text = random_file(3, 3000, &length);
    crank_set_threads(w->context, 1);
    letor_set *one = read_bytes(w, text, length);
    assert_non_null(one);
    for (int threads = 2; threads < 8; threads++) {
        crank_set_threads(w->context, threads);
        letor_set *many = read_bytes(w, text, length);
        assert_equal_sets(one, many);
        letor_free(many);
    }
    gzFile packed = gzopen(w->path, "wb");
    assert_int_equal(gzwrite(packed, text, (unsigned)length), length);
    gzclose(packed);
    letor_set *unpacked = letor_read(w->context, w->path, w->options);
    if (!unpacked) fail_msg("%s", crank_message(w->context));
    assert_equal_sets(one, unpacked);
    assert_ok(w->context, letor_save(w->context, unpacked, w->path));
    letor_set *again = letor_read(w->context, w->path, w->options);
    if (!again) fail_msg("%s", crank_message(w->context));
    assert_equal_sets(one, again);
    letor_free(one);
    letor_free(unpacked);
    letor_free(again);
    free(text);
}

static void side_files_bring_queries_weights_scores_and_positions(void **state)
{
    world *w = *state;
    char   side[5][160];
    static const char *const endings[] = {".query", ".weight", ".init", ".position"}, *const texts[] = {"2\n1\n", "0.5\n1\n2\n", "0.25\n-1\n0\n", "0\n1\n0\n"};
    for (int i = 0; i < 4; i++) {
        snprintf(side[i], sizeof side[i], "%s%s", w->path, endings[i]);
        put_bytes(side[i], texts[i], strlen(texts[i]));
    }
    letor_set *set = read_text(w, "1 1:1\n0 1:2\n2 1:3\n");
    const char *message = crank_message(w->context);
    put_bytes(side[0], "2\n2\n", 4);
    letor_set *wrong = set ? letor_read(w->context, w->path, w->options) : NULL;
    for (int i = 0; i < 4; i++) unlink(side[i]);
    if (!set) fail_msg("%s", message);
    assert_null(wrong);
    assert_non_null(strstr(crank_message(w->context), "sum"));
    assert_true(set->queries == 2 && set->offsets[1] == 2 && set->weights[0] == 0.5f && set->init[1] == -1 && set->positions[1] == 1);
    letor_free(set);
}

/* what is refused: text, a part of the message */
static void broken_lines_are_told_with_file_and_line(void **state)
{
    world *w = *state;
    static const char *const broken[][2] = {
        {"qid:1 1:2", "no label"}, {"1:2 2:3", "no label"}, {"x qid:1 1:2", "no label"}, {"nan qid:1 1:2", "label"}, {"inf qid:1 1:2", "label"}, {"1e99 qid:1 1:2", "label"},
        {"1 qid: 1:2", "qid"}, {"1 1:2 qid:1", "qid"}, {"1 qid:1 qid:1 1:2", "qid"}, {"1 qid:1 1:2 1:3", "twice"}, {"1 qid:1 2:2 1:1 2:3", "twice"}, {"1 qid:1 -1:2", "feature number"},
        {"1 qid:1 a:2", "feature number"}, {"1 qid:1 :2", "feature number"}, {"1 qid:1 1.5:2", "feature number"}, {"1 qid:1 99999999999999999999:2", "feature"},
        {"1 qid:1 2147483648:2", "out of range"}, {"1 qid:1 16777216:2", "out of range"}, {"1 qid:1 1:", "no number"}, {"1 qid:1 1:x", "no number"}, {"1 qid:1 1:2:3", "no number"},
        {"1 qid:1 1:inf", "infinite"}, {"1 qid:1 1:-inf", "infinite"}, {"1 qid:1 1:1e39", "infinite"}, {"1 qid:1 1:0x1p3", "no number"}, {"1 qid:1 word", "no feature"}, {"1 qid:1 1=2", "no feature"},
        {"1 1:2", "all rows or none"}, {"1 qid:0 1:2", "comes back"},
    };
    int generated = 0;
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++)
        for (int form = 0; form < 6; form++) { /* after 2 rows or 300, LF or CR LF, one thread or three */
            char  *text = malloc(300 * 32 + 256);
            size_t length = 0;
            int    before = form < 3 ? 2 : 300;
            crank_set_threads(w->context, form % 2 ? 3 : 1);
            const char *line_end = form % 3 ? "\n" : "\r\n";
            for (int k = 0; k < before; k++) length += (size_t)sprintf(text + length, "%d qid:%d 1:%d 5:0.5%s", k % 3, k < before / 2 ? 0 : 1, k, line_end);
            sprintf(text + length, "%s%s1 qid:2 1:1%s", broken[i][0], line_end, line_end);
            letor_set *set = read_text(w, text);
            char       where[192];
            snprintf(where, sizeof where, "%s:%d: ", w->path, before + 1);
            if (set || !strstr(crank_message(w->context), broken[i][1]) || !strstr(crank_message(w->context), where))
                fail_msg("`%s` (form %d): %s", broken[i][0], form, set ? "accepted" : crank_message(w->context));
            assert_int_equal(crank_last_status(w->context), CRANK_BAD_DATA);
            free(text);
            generated++;
        }
    assert_true(generated >= 150);
}

static void broken_tables_are_told_with_file_and_line(void **state)
{
    world *w = *state;
    set_option(w, "format", "csv");
    static const char *const broken[][2] = {{"a,b\n1,2\n1\n", ":3: "}, {"a,b\n1,2\n1,2,3\n", ":3: "}, {"a,b\n1,x\n", ":2: "}, {"a,b\n,1\n", ":2: "}, {"a,b\nnan,1\n", ":2: "}, {"a,b\n1,\"2\n", ":2: "},
                                            {"a,b\n1,\"2\"x\n", ":2: "}, {"a,b\n1,inf\n", ":2: "}, {"a,\"b\n", ":1: "}, {"a,b\n", "no rows"}, {"", "no rows"}, {"a,b\n1,1e77\n", ":2: "}};
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
        letor_set *set = read_text(w, broken[i][0]);
        if (set || !strstr(crank_message(w->context), broken[i][1])) fail_msg("`%s`: %s", broken[i][0], set ? "accepted" : crank_message(w->context));
    }
    set_option(w, "label", "lable");
    assert_null(read_text(w, "label,b\n1,2\n"));
    assert_non_null(strstr(crank_message(w->context), "did you mean label"));
}

static void cut_and_damaged_files_are_refused(void **state)
{
    world *w = *state;
    size_t length;
    char  *text = random_file(5, 400, &length), *bytes = malloc(1 << 20);
    gzFile packed = gzopen(w->path, "wb");
    gzwrite(packed, text, (unsigned)length);
    gzclose(packed);
    FILE  *file = fopen(w->path, "rb");
    size_t size = fread(bytes, 1, 1 << 20, file);
    fclose(file);
    for (int i = 1; i < 40; i++) {
        letor_set *set = read_bytes(w, bytes, size * (size_t)i / 40);
        if (set) fail_msg("a gzip file cut at %d/40 was accepted", i);
    }
    letor_set *set = read_bytes(w, text, length);
    assert_ok(w->context, letor_save(w->context, set, w->path));
    letor_free(set);
    file = fopen(w->path, "rb");
    size = fread(bytes, 1, 1 << 20, file);
    fclose(file);
    for (int i = 0; i < 200; i++) { /* any byte that changes is seen, header or body */
        size_t at = i < 128 ? (size_t)i : 128 + (size_t)(i - 128) * (size - 128) / 72;
        bytes[at] ^= 0x41;
        letor_set *damaged = read_bytes(w, bytes, size);
        bytes[at] ^= 0x41;
        if (damaged && at >= 8) fail_msg("byte %zu changed and was accepted", at);
        letor_free(damaged);
    }
    for (int i = 1; i < 30; i++) assert_null(read_bytes(w, bytes, size * (size_t)i / 30));
    free(text);
    free(bytes);
}

static void the_real_sets_are_read(void **state)
{
    world      *w = *state;
    const char *path = real_data("ltr/lightgbm-rank.train.gz");
    if (!path) skip();
    letor_set *set = letor_read(w->context, path, w->options);
    if (!set) fail_msg("%s", crank_message(w->context));
    assert_int_equal(set->rows, 3005);
    assert_int_equal(set->queries, 201);
    assert_int_equal(set->columns, 301);
    letor_free(set);
    set_option(w, "label", "1");
    set_option(w, "query", "0");
    set_option(w, "ignore", "2,3");
    set_option(w, "regroup", "true");
    set = letor_read(w->context, real_data("ltr/yandex-features-train.tsv.gz"), w->options);
    if (!set) fail_msg("%s", crank_message(w->context));
    assert_int_equal(set->rows, 12465);
    assert_int_equal(set->queries, 666);
    assert_int_equal(set->columns, 50);
    letor_free(set);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(numbers_are_rounded_as_strtof_rounds_them, setup, teardown),
        cmocka_unit_test_setup_teardown(svmlight_lines_give_labels_queries_values_and_document_names, setup, teardown),
        cmocka_unit_test_setup_teardown(tables_are_read_by_the_names_of_their_columns, setup, teardown),
        cmocka_unit_test_setup_teardown(far_columns_cost_what_they_hold, setup, teardown),
        cmocka_unit_test_setup_teardown(rows_of_one_query_are_brought_together_when_asked, setup, teardown),
        cmocka_unit_test_setup_teardown(threads_gzip_and_the_binary_form_change_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(side_files_bring_queries_weights_scores_and_positions, setup, teardown),
        cmocka_unit_test_setup_teardown(broken_lines_are_told_with_file_and_line, setup, teardown),
        cmocka_unit_test_setup_teardown(broken_tables_are_told_with_file_and_line, setup, teardown),
        cmocka_unit_test_setup_teardown(cut_and_damaged_files_are_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(the_real_sets_are_read, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
