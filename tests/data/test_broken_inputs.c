/* Broken input files of ranking, format by format: each is refused as bad data, and the message names the file, the line where there is one,
 * and what is wrong. At least 150 distinct ones; beside them every file is cut, torn and spoilt at every place without a crash. */
#include <zlib.h>

#include "testing.h"

#include "click/click.h"
#include "metric/groups.h"

typedef struct world { crank_context *context; char folder[64], path[256], side[300]; } world;

static int setup(void **state)
{
    world *w = calloc(1, sizeof *w);
    w->context = crank_context_new();
    crank_set_threads(w->context, 1);
    snprintf(w->folder, sizeof w->folder, "/tmp/crank-broken-XXXXXX");
    if (!mkdtemp(w->folder)) return -1;
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    world *w = *state;
    char   command[128];
    snprintf(command, sizeof command, "rm -r %s", w->folder);
    int status = system(command);
    crank_context_free(w->context);
    free(w);
    return status;
}

static void put(const char *path, const void *bytes, size_t length)
{
    FILE *file = fopen(path, "wb");
    if (!file || fwrite(bytes, 1, length, file) != length || fclose(file)) fail_msg("%s cannot be written", path);
}

typedef enum form { SVMLIGHT, CSV, TSV, QUERY, WEIGHT, INIT, POSITION, QRELS, RUN, RUN_10, JG, PREFS, QRELS_PREFS, ZSCORES, CLICKS, JOINED, CURVE } form;
static const char *const endings[] = {"data.svm", "data.csv", "data.tsv", "data.svm", "data.svm", "data.svm", "data.svm", "qrels", "run", "run", "qrels", "prefs", "prefs", "z", "log.tsv", "log.tsv", "curve.json"};
static const char four_rows[] = "1 qid:1 1:2\n0 qid:1 1:3\n2 qid:2 1:4\n0 qid:2 1:5\n";

/* Reads a file of the form; true: accepted. */
static bool accepts(world *w, form f, const void *bytes, size_t length)
{
    static const char *const sides[] = {[QUERY] = "query", [WEIGHT] = "weight", [INIT] = "init", [POSITION] = "position"};
    crank_context           *context = w->context;
    bool                     good = false, side = f >= QUERY && f <= POSITION, data = f <= POSITION;
    snprintf(w->path, sizeof w->path, "%s/%s", w->folder, endings[f]);
    if (side) {
        const char *rows = f == QUERY ? "1 1:2\n0 1:3\n2 1:4\n0 1:5\n" : four_rows;
        put(w->path, rows, strlen(rows));
        snprintf(w->side, sizeof w->side, "%s.%s", w->path, sides[f]);
        put(w->side, bytes, length);
    } else
        put(w->path, bytes, length);
    if (data) {
        letor_options *o = crank_options_new(context, letor_option_table, sizeof *o);
        letor_set     *set = letor_read(context, w->path, o);
        good = set != NULL;
        letor_free(set);
        crank_options_free(o);
    } else if (f <= QRELS_PREFS) {
        static const trec_kind kinds[] = {[QRELS] = TREC_QRELS, [RUN] = TREC_RUN, [RUN_10] = TREC_RUN, [JG] = TREC_QRELS_JG, [PREFS] = TREC_PREFS, [QRELS_PREFS] = TREC_QRELS_PREFS};
        trec_file              file;
        good = trec_file_read(context, w->path, kinds[f], f == RUN_10, &file) == CRANK_OK;
        if (good) trec_file_free(&file);
    } else if (f == ZSCORES) {
        zscores z;
        good = zscores_read(context, w->path, &z) == CRANK_OK;
        if (good) zscores_free(&z);
    } else if (f == CURVE) {
        click_curve *curve = click_curve_read(context, w->path);
        good = curve != NULL;
        click_curve_free(curve);
    } else {
        char           rows[300];
        letor_options *o = crank_options_new(context, letor_option_table, sizeof *o);
        snprintf(rows, sizeof rows, "%s/joined.svm", w->folder);
        put(rows, four_rows, strlen(four_rows));
        letor_set *set = f == JOINED ? letor_read(context, rows, o) : NULL;
        click_log *log = click_log_read(context, w->path, set);
        good = log != NULL;
        click_log_free(log);
        letor_free(set);
        crank_options_free(o);
    }
    if (side) remove(w->side);
    return good;
}

typedef struct broken { form f; const char *text, *told; } broken; /* told: "LINE: what", or what where no line is meant */
static const broken cases[] = {
    /* SVMlight and LETOR */
    {SVMLIGHT, "", "no rows"}, {SVMLIGHT, "\n\n", "no rows"}, {SVMLIGHT, "# only a comment\n", "no rows"}, {SVMLIGHT, "qid:1 1:2\n", "1: the line begins with"},
    {SVMLIGHT, "1:2 2:3\n", "1: the line begins with"}, {SVMLIGHT, "x qid:1 1:2\n", "1: the line begins with"}, {SVMLIGHT, "1 qid:1 1:2\nlabel qid:1 1:2\n", "2: the line begins with"},
    {SVMLIGHT, "nan qid:1 1:2\n", "1: the label is"}, {SVMLIGHT, "inf qid:1 1:2\n", "1: the label is"}, {SVMLIGHT, "-inf 1:2\n", "1: the label is"}, {SVMLIGHT, "1e99 1:2\n", "1: the label is"},
    {SVMLIGHT, "1 qid: 1:2\n", "1: qid: is empty"}, {SVMLIGHT, "1 1:2 qid:1\n", "1: qid: must stand once"}, {SVMLIGHT, "1 qid:1 qid:1 1:2\n", "1: qid: must stand once"},
    {SVMLIGHT, "1 qid:1 1:2\n1 1:2\n", "2: the row has"}, {SVMLIGHT, "1 1:2\n1 qid:1 1:2\n", "2: the row has"}, {SVMLIGHT, "1 qid:1 1:2\n1 qid:2 1:2\n1 qid:1 1:2\n", "3: query `1` comes back"},
    {SVMLIGHT, "1 qid:1 1:2 1:3\n", "1: feature 1 stands twice"}, {SVMLIGHT, "1 qid:1 2:2 1:1 2:3\n", "1: feature 2 stands twice"}, {SVMLIGHT, "1 0:1 0:1\n", "1: feature 0 stands twice"},
    {SVMLIGHT, "1 -1:2\n", "1: `-1` is no feature number"}, {SVMLIGHT, "1 a:2\n", "1: `a` is no feature number"}, {SVMLIGHT, "1 :2\n", "no feature number"}, {SVMLIGHT, "1 1.5:2\n", "1: `1.5` is no feature number"},
    {SVMLIGHT, "1 +1:2\n", "no feature number"}, {SVMLIGHT, "1 0x1:2\n", "no feature number"}, {SVMLIGHT, "1 99999999999999999999:2\n", "feature"}, {SVMLIGHT, "1 2147483648:2\n", "1: feature 2147483648 is out of range"},
    {SVMLIGHT, "1 10000000:1 20000000:1\n", "1: feature 20000000 is out of range"}, {SVMLIGHT, "1 1:\n", "1: `1:`: the value is no number"}, {SVMLIGHT, "1 1:x\n", "1: `1:x`: the value is no number"},
    {SVMLIGHT, "1 1:2:3\n", "the value is no number"}, {SVMLIGHT, "1 1:0x1p3\n", "the value is no number"}, {SVMLIGHT, "1 1:1,5\n", "the value is no number"}, {SVMLIGHT, "1 1:--2\n", "the value is no number"},
    {SVMLIGHT, "1 1:inf\n", "1: `1:inf`: the value is infinite"}, {SVMLIGHT, "1 1:-inf\n", "the value is infinite"}, {SVMLIGHT, "1 1:1e39\n", "the value is infinite"}, {SVMLIGHT, "1 1:2\n1 1:1e400\n", "2: `1:1e400`"},
    {SVMLIGHT, "1 word\n", "1: `word` is no feature"}, {SVMLIGHT, "1 1=2\n", "1: `1=2` is no feature"}, {SVMLIGHT, "1 1:2\r\n1 1:2 oops\r\n", "2: `oops` is no feature"}, {SVMLIGHT, "1 1:2\n\n# c\n1 1:y\n", "4: `1:y`"},
    /* tables */
    {CSV, "a,b\n", "no rows"}, {CSV, "a,b\n1,2\n1\n", "3: the line has 1 fields"}, {CSV, "a,b\n1,2\n1,2,3\n", "3: the line has 3 fields"}, {CSV, "a,b\n1,x\n", "2: field"}, {CSV, "a,b\n,1\n", "2: field"},
    {CSV, "a,b\nnan,1\n", "2: field"}, {CSV, "a,b\ninf,1\n", "2: field"}, {CSV, "a,b\n1,inf\n", "2: field"}, {CSV, "a,b\n1,1e77\n", "2: field"}, {CSV, "a,b\n1,\"2\n", "2: field"}, {CSV, "a,b\n1,\"2\"x\n", "2: field"},
    {CSV, "a,\"b\n1,2\n", "1: field"}, {CSV, "a,b\r\n1,2\r\n1,2;\r\n", "3: field"}, {CSV, "1,2\n3\n", "2: the line has 1 fields"}, {CSV, "a,b\n1,2\n\"\",2\n", "3: field"}, {CSV, "a,b\n1,1 2\n", "2: field"},
    {TSV, "a\tb\n1\t2\n1\t2\t3\n", "3: the line has 3 fields"}, {TSV, "a\tb\n1\tx\n", "2: field"}, {TSV, "a\tb\nx\t1\n", "2: field"}, {TSV, "a\tb\n1\t\"2\n", "2: field"}, {TSV, "a\tb\n\n1\t2\n1\n", "4: the line has 1 fields"},
    /* side files */
    {QUERY, "2\n3\n", "do not sum"}, {QUERY, "2\n1\n", "do not sum"}, {QUERY, "1.5\n2.5\n", "must be a whole number"}, {QUERY, "-1\n5\n", "must be a whole number"}, {QUERY, "2\nx\n", "2: `x` is no finite number"},
    {QUERY, "2\nnan\n", "2: `nan` is no finite number"}, {WEIGHT, "1\n1\n1\n", "3 weights for 4 rows"}, {WEIGHT, "1\n1\n1\n-1\n", "weight 4 is -1"}, {WEIGHT, "1\n1\n1\n1e31\n", "weight 4"}, {WEIGHT, "1\ntwo\n1\n1\n", "2: `two` is no finite number"},
    {WEIGHT, "1\n1\ninf\n1\n", "3: `inf` is no finite number"}, {INIT, "1\n1\n1\n", "3 lines for 4 rows"}, {INIT, "1\n1 2\n1\n1\n", "2: 2 numbers"}, {INIT, "1\n1\n1\nx\n", "4: `x` is no finite number"},
    {INIT, "1\n1\n1\n1\n1\n", "5 lines for 4 rows"}, {POSITION, "0\n1\n0\n", "3 positions for 4 rows"}, {POSITION, "0\n1\n0\n-1\n", "position 4 is -1"}, {POSITION, "0\n1\n0\n0.5\n", "position 4 is 0.5"},
    {POSITION, "0\n1\n0\n2000000\n", "position 4"}, {POSITION, "0\nfirst\n0\n1\n", "2: `first` is no finite number"},
    /* TREC */
    {QRELS, "", "no lines of judgments"}, {QRELS, "\n \n", "no lines of judgments"}, {QRELS, "1\n", "1: no iteration field"}, {QRELS, "1 0\n", "1: no document"}, {QRELS, "1 0 a\n", "1: no relevance"},
    {QRELS, "1 0 a 1\n1 0 b\n", "2: no relevance"}, {QRELS, "1 0 a x\n", "1: the relevance is not a whole number"}, {QRELS, "1 0 a 1.5\n", "1: the relevance is not a whole number"},
    {QRELS, "1 0 a nan\n", "1: the relevance is not a whole number"}, {QRELS, "1 0 a -\n", "1: the relevance is not a whole number"}, {QRELS, "1 0 a 99999999\n", "1: the relevance is above 1000000"},
    {QRELS, "1 0 a 9999999999999999999\n", "1: the relevance is not a whole number"}, {QRELS, "1 0 a 1 1\n", "1: more than four fields"}, {QRELS, "# c\n", "1: no document"},
    {RUN, "", "no lines of a run"}, {RUN, "1\n", "1: no Q0 field"}, {RUN, "1 Q0\n", "1: no document"}, {RUN, "1 Q0 a\n", "1: no rank"}, {RUN, "1 Q0 a 1\n", "1: no score"}, {RUN, "1 Q0 a 1 1\n", "1: no tag"},
    {RUN, "1 Q0 a 1 x t\n", "1: the score is not a number"}, {RUN, "1 Q0 a 1 1x t\n", "1: the score is not a number"}, {RUN, "1 Q0 a 1 nan t\n", "1: the score is NaN"}, {RUN, "1 Q0 a 1 1 t\n\n1 Q0 b 2 nan t\n", "3: the score is NaN"},
    {RUN, "1 Q0 a 1 1.2.3 t\n", "1: the score is not a number"}, {RUN, "1 Q0 a 1 1,5 t\n", "1: the score is not a number"}, {RUN, "1 Q0 a 1 12.34/678 t and more to come\n", "1: the score is not a number"},
    {RUN, "# c\n1 Q0 a 1 1 t\n", "1: no"}, {RUN_10, "# c\n1 Q0 a 1 t\n", "2: the score is not a number"}, {RUN_10, "# c\n", "no lines of a run"}, {RUN, "1 Q0 a 1 1 t\r\n1 Q0 b 2\r\n", "2: no score"},
    {JG, "1 u a\n", "1: no level"}, {JG, "1 u a 1\n1 u\n", "2: no document"}, {JG, "1 u a 1.5\n", "1: the relevance is not a whole number"}, {JG, "1 u a 1\n1 u a 1\n", "2: document `a` stands twice"},
    {JG, "1 u a 2000000\n", "1: the relevance is above"}, {JG, "", "no lines of judgments"}, {QRELS_PREFS, "1 u a 1 5\n", "1: more than four fields"}, {QRELS_PREFS, "1 u a -2\n", "1: the level is below 0"},
    {QRELS_PREFS, "1 u a inf\n", "1: the level is not a number"}, {PREFS, "1 u s a 1\n1 u s b\n", "2: no level"}, {PREFS, "1 u s\n", "1: no document"}, {PREFS, "1 u\n", "1: no subgroup"}, {PREFS, "1\n", "1: no group"},
    {PREFS, "1 u s a 1 2\n", "1: more than five fields"}, {PREFS, "1 u s a one\n", "1: the level is not a number"}, {PREFS, "1 u s a 1\n1 u s a 2\n", "2: document `a` stands twice"},
    {ZSCORES, "1 map .5\n", "1: no deviation"}, {ZSCORES, "1 map .5 .1\n1 P_5\n", "2: no mean"}, {ZSCORES, "1\n", "1: no measure"}, {ZSCORES, "1 map x .1\n", "1: the mean"}, {ZSCORES, "1 map .5 -1\n", "1: the deviation"},
    {ZSCORES, "1 map .5 .1 2\n", "1: more than four"}, {ZSCORES, "\n", "no lines of means"},
    /* clicks */
    {CLICKS, "", "no session"}, {CLICKS, "# c\n", "no session"}, {CLICKS, "q\n", "1: 1 fields"}, {CLICKS, "q\ta\n", "1: 2 fields"}, {CLICKS, "q\ta\t1\n", "1: 3 fields"}, {CLICKS, "q\ta\t1\t0\t1\t2\n", "1: more than five fields"},
    {CLICKS, "q\ta\t1\t2\n", "1: a click is 0 or 1"}, {CLICKS, "q\ta\t1\t-1\n", "1: `-1` is no click"}, {CLICKS, "q\ta\t1\tyes\n", "1: `yes` is no click"}, {CLICKS, "q\ta\tx\t1\n", "1: `x` is no position"}, {CLICKS, "q\ta\t1.5\t1\n", "1: `1.5` is no position"},
    {CLICKS, "q\ta\t\t1\n", "1: `` is no position"}, {CLICKS, "q\ta\t0\t1\n", "1: position 0"}, {CLICKS, "q\ta\t99999\t0\n", "1: position 99999"}, {CLICKS, "q\ta\t1\t0\nq\ta\t2\t0\n", "2: document `a` is shown twice"},
    {CLICKS, "q\ta\t1\t0\nq\tb\t0\t1\n", "2: position 0"}, {CLICKS, "q a 1 0\n", "1: 1 fields"}, {CLICKS, "{\n", "1"}, {CLICKS, "{}\n", "1: a line has \"query\""}, {CLICKS, "{\"query\":1}\n", "1: a line has"},
    {CLICKS, "{\"query\":\"q\",\"documents\":[\"a\"]}\n", "1: a line has"}, {CLICKS, "{\"query\":\"q\",\"documents\":\"a\",\"clicks\":[0]}\n", "1: a line has"}, {CLICKS, "{\"query\":\"q\",\"documents\":[\"a\"],\"clicks\":[0,1]}\n", "1: 1 documents, 2 clicks"},
    {CLICKS, "{\"query\":\"q\",\"documents\":[\"a\"],\"clicks\":[2]}\n", "1: a click is 0 or 1"}, {CLICKS, "{\"query\":\"q\",\"documents\":[1],\"clicks\":[0]}\n", "1: item 1"}, {CLICKS, "{\"query\":\"q\",\"documents\":[\"a\"],\"clicks\":[0.5]}\n", "1: item 1"},
    {CLICKS, "{\"query\":\"q\",\"documents\":[\"a\"],\"clicks\":[0],\"context\":64}\n", "1: \"context\""}, {CLICKS, "{\"query\":\"q\",\"documents\":[\"a\"],\"clicks\":[0],\"context\":\"x\"}\n", "1: \"context\""},
    {CLICKS, "{\"query\":\"q\",\"documents\":[\"a\",\"b\"],\"clicks\":[0,1],\"positions\":[2,2]}\n", "1: item 2: positions rise"}, {CLICKS, "{\"query\":\"q\",\"documents\":[\"a\"],\"clicks\":[0],\"positions\":[1,2]}\n", "1: 1 documents"},
    {CLICKS, "{\"query\":\"q\",\"documents\":[\"a\"],\"clicks\":[0],\"positions\":[\"1\"]}\n", "1: item 1"}, {CLICKS, "q\ta\t1\t0\n{\"query\":\"q\",\"documents\":[\"a\"],\"clicks\":[3]}\n", "2: a click is 0 or 1"},
    {JOINED, "9\td1\t1\t0\n", "1: the feature vectors have no query `9`"}, {JOINED, "1\td1\t1\t0\n1\td9\t2\t0\n", "2: the feature vectors have no document `d9`"}, {JOINED, "2\td3\t1\t1\n", "1: the feature vectors have no document `d3`"},
    {CURVE, "", "curve.json"}, {CURVE, "{", "curve.json"}, {CURVE, "[1]", "\"propensity\" is a list"}, {CURVE, "{\"propensity\":[]}", "\"propensity\" is a list"}, {CURVE, "{\"propensity\":[1,0]}", "place 2"}, {CURVE, "{\"propensity\":[1,-1]}", "place 2"},
    {CURVE, "{\"propensity\":[1,\"x\"]}", "place 2"}, {CURVE, "{\"propensity\":[[1,0.5],[1]]}", "curve 2"}, {CURVE, "{\"propensity\":1}", "\"propensity\" is a list"}, {CURVE, "{\"propensity\":[1,1e999]}", "curve.json"},
};
enum { CASES = sizeof cases / sizeof *cases };

static void each_is_told_with_file_and_line(void **state)
{
    world *w = *state;
    assert_true(CASES >= 150);
    for (size_t i = 0; i < CASES; i++) {
        const broken *b = cases + i;
        char          told[600];
        bool          good = accepts(w, b->f, b->text, strlen(b->text)), line = b->told[0] >= '0' && b->told[0] <= '9' && strchr("0123456789:", b->told[1]);
        bool          side = b->f >= QUERY && b->f <= POSITION;
        if (line) snprintf(told, sizeof told, "%s:%s", side ? w->side : w->path, b->told);
        else snprintf(told, sizeof told, "%s", b->told);
        if (good || !strstr(crank_message(w->context), told)) fail_msg("case %zu `%s`: %s; wanted `%s`", i, b->text, good ? "accepted" : crank_message(w->context), told);
        if (!strstr(crank_message(w->context), side ? w->side : w->path)) fail_msg("case %zu `%s` does not name its file: %s", i, b->text, crank_message(w->context));
        assert_int_equal(crank_last_status(w->context), CRANK_BAD_DATA);
    }
}

static const char *const whole[] = {
    [SVMLIGHT] = "1 qid:1 1:0.5 3:2 # docid = a\n0 qid:1 2:1e-3\n2 qid:22 1:7 # docid = b\n", [CSV] = "label,query,x\n1,1,2\n0,1,\"3\"\n1,2,\n", [TSV] = "a\tb\n1\t2\n3\t4\n",
    [QUERY] = "2\n2\n", [WEIGHT] = "1\n0.5\n1\n2\n", [INIT] = "0\n1\n2\n3\n", [POSITION] = "0\n1\n0\n1\n", [QRELS] = "1 0 doc-a 1\n1 0 doc-b -1\n22 0 doc-c 3\n",
    [RUN] = "1 Q0 clueweb-000001 1 12.345678 tag\n1 Q0 clueweb-000002 2 -0.5 tag\n2 Q0 b 1 1e-3 tag\n3 Q0 c 1 7 tag-of-a-run-that-is-long\n", [RUN_10] = "# c\n1 Q0 a 1 2.5 t\n",
    [JG] = "1 u a 1\n1 v a 0\n", [PREFS] = "1 u s a 2\n1 u s b 1.5\n1 u r b 2\n1 u r c 0\n", [QRELS_PREFS] = "1 u a 1\n1 u b 0\n", [ZSCORES] = "1 map 0.5 0.1\n1 P_5 0.2 0\n",
    [CLICKS] = "q\ta\t1\t0\ts1\nq\tb\t2\t1\ts1\n{\"query\":\"q\",\"documents\":[\"a\",\"b\"],\"clicks\":[0,1],\"positions\":[1,3],\"context\":1}\n", [JOINED] = "1\td1\t1\t0\n1\td2\t2\t1\n",
    [CURVE] = "{\"propensity\":[[1,0.5],[1,0.25]]}",
};

/* Cut at every byte, every byte replaced by others, every line doubled: accepted or refused with a message. */
static void damage_never_crashes(void **state)
{
    static const char spoilt[] = {0, '\n', '\t', '-', '9', '\xff'};
    world            *w = *state;
    for (form f = SVMLIGHT; f <= CURVE; f++) {
        size_t n = strlen(whole[f]);
        char   copy[512];
        if (!accepts(w, f, whole[f], n)) fail_msg("%s: %s", whole[f], crank_message(w->context));
        for (size_t i = 0; i < n; i++) {
            if (!accepts(w, f, whole[f], i)) assert_true(*crank_message(w->context));
            memcpy(copy, whole[f], n);
            for (size_t k = 0; k < sizeof spoilt; k++) {
                copy[i] = spoilt[k];
                if (!accepts(w, f, copy, n)) assert_true(*crank_message(w->context));
            }
        }
    }
}

static void cut_gzip_files_are_refused(void **state)
{
    static const form packed[] = {SVMLIGHT, CSV, QRELS, RUN, JG, PREFS, CLICKS};
    world            *w = *state;
    for (size_t p = 0; p < sizeof packed / sizeof *packed; p++) {
        form  f = packed[p];
        Bytef bytes[1024];
        assert_true(accepts(w, f, whole[f], strlen(whole[f])));
        gzFile file = gzopen(w->path, "wb");
        gzwrite(file, whole[f], (unsigned)strlen(whole[f]));
        gzclose(file);
        FILE  *in = fopen(w->path, "rb");
        size_t size = fread(bytes, 1, sizeof bytes, in);
        fclose(in);
        if (!accepts(w, f, bytes, size)) fail_msg("gzip form %d: %s", f, crank_message(w->context));
        for (size_t cut = 2; cut < size; cut++)
            if (accepts(w, f, bytes, cut)) fail_msg("form %d cut at %zu of %zu bytes was accepted", f, cut, size);
    }
}

static void rows_of_ten_million_columns_are_read_or_refused(void **state)
{
    world *w = *state;
    char  *text = malloc(1 << 20);
    size_t n = (size_t)sprintf(text, "1 qid:1");
    for (int i = 0; i < 10000; i++) n += (size_t)sprintf(text + n, " %d:1", 1000 * i + 999);
    n += (size_t)sprintf(text + n, "\n0 qid:1 9999999:1\n");
    assert_true(accepts(w, SVMLIGHT, text, n));
    n += (size_t)sprintf(text + n, "0 qid:1 99999999:1\n");
    assert_false(accepts(w, SVMLIGHT, text, n));
    assert_non_null(strstr(crank_message(w->context), ":3: feature 99999999 is out of range"));
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(each_is_told_with_file_and_line, setup, teardown),
        cmocka_unit_test_setup_teardown(damage_never_crashes, setup, teardown),
        cmocka_unit_test_setup_teardown(cut_gzip_files_are_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(rows_of_ten_million_columns_are_read_or_refused, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
