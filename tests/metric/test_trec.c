/* TREC measures: the digits of pytrec_eval on 2,400 generated cases, version 10's differences, and what is refused. */
#include <math.h>
#include <string.h>

#include "base/file.h"
#include "metric/metric.h"
#include "testing.h"
#include "trec_cases.h"

static char *path_of(const char *name)
{
    static char paths[4][256];
    static int  turn;
    char       *path = paths[turn++ % 4];
    snprintf(path, 256, "%s/metric_%s_%d", CRANK_BINARY_DIR, name, (int)getpid());
    return path;
}

static void write_text(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static uint64_t fnv(const char *text)
{
    uint64_t hash = UINT64_C(0xCBF29CE484222325);
    for (; *text; text++) hash = (hash ^ (uint8_t)*text) * UINT64_C(0x100000001B3);
    return hash;
}

static bool of_pytrec_eval(const char *name)
{
    static const char *const others[] = { "dcg", "ideal_dcg", "ndcg_p", "yaap", "rbp", "rbp_resid", "unj", "ndcg_exp", "ndcg_exp_cut", "err", "mrr_cut", "judged", "num_q", "runid", "relstring" };
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (!strcmp(name, others[i])) return false;
    return true;
}

static uint64_t digest(const metric_plan *plan, const metric_table *table)
{
    uint64_t sum = 0;
    for (int64_t row = 0; row < table->rows; row++)
        for (int64_t k = 0; k < plan->count; k++)
            for (int64_t i = 0; i < plan->requests[k].values; i++) {
                char   name[128], line[512];
                double value = table->values[row * plan->values + plan->requests[k].first + i];
                if (!of_pytrec_eval(plan->requests[k].measure->name)) continue;
                metric_value_name(plan->requests + k, i, name, sizeof name);
                snprintf(line, sizeof line, plan->requests[k].measure->mean == MEASURE_SUM ? "%s\t%.*s\t%.0f\n" : "%s\t%.*s\t%6.4f\n", name, (int)table->topics[row]->length,
                         table->topics[row]->name, value);
                sum += fnv(line);
            }
    return sum;
}

static uint64_t digest_of_case(crank_context *context, const metric_plan *plan, uint64_t number)
{
    char          *qrels_path = path_of("qrels"), *run_path = path_of("run");
    FILE          *qrels_out = fopen(qrels_path, "w"), *run_out = fopen(run_path, "w");
    metric_options options = { .level = make_case(number, qrels_out, run_out), .version = 9, .max_grade = 4 };
    bool           empty = !ftell(qrels_out) || !ftell(run_out);
    uint64_t       sum = 0;
    trec_file      qrels, run;
    metric_table   table;
    fclose(qrels_out);
    fclose(run_out);
    if (!empty) {
        assert_ok(context, trec_file_read(context, qrels_path, TREC_QRELS, false, &qrels));
        assert_ok(context, trec_file_read(context, run_path, TREC_RUN, false, &run));
        if (metric_evaluate(context, &qrels, &run, plan, &options, &table) == CRANK_OK) {
            sum = digest(plan, &table);
            metric_table_free(&table);
        } else
            assert_non_null(strstr(crank_message(context), "no topic in common"));
        trec_file_free(&qrels);
        trec_file_free(&run);
    }
    remove(qrels_path);
    remove(run_path);
    return sum;
}

static void printed_digits_equal_pytrec_eval(void **state)
{
    crank_context *context = *state;
    metric_plan    plan;
    size_t         length;
    uint64_t      *wanted = (uint64_t *)(void *)file_read(context, CRANK_SOURCE_DIR "/tests/golden/metric/trec_digests.bin", &length);
    assert_non_null(wanted);
    assert_ok(context, metric_plan_make(context, "all", 9, &plan));
    crank_set_threads(context, 1); /* many small cases */
    for (size_t k = 0; k < length / 8; k++) {
        uint64_t got = digest_of_case(context, &plan, k);
        if (got != wanted[k]) fail_msg("case %zu: %016lx, not %016lx", k, (unsigned long)got, (unsigned long)wanted[k]);
    }
    metric_plan_free(&plan);
    crank_free(wanted);
    crank_set_threads(context, 0);
}

/* One value of a small pair of texts. */
static crank_status evaluate_text(crank_context *context, const char *qrels_text, const char *run_text, const char *measures, metric_options options, double *means, int64_t count)
{
    char        *qrels_path = path_of("qrels"), *run_path = path_of("run");
    trec_file    qrels = { 0 }, run = { 0 };
    metric_plan  plan = { 0 };
    metric_table table = { 0 };
    write_text(qrels_path, qrels_text);
    write_text(run_path, run_text);
    crank_status status = metric_plan_make(context, measures, options.version, &plan);
    if (status == CRANK_OK) status = trec_file_read(context, qrels_path, TREC_QRELS, options.version == 10, &qrels);
    if (status == CRANK_OK) status = trec_file_read(context, run_path, TREC_RUN, options.version == 10, &run);
    if (status == CRANK_OK) status = metric_evaluate(context, &qrels, &run, &plan, &options, &table);
    for (int64_t i = 0; status == CRANK_OK && i < count; i++) means[i] = table.means[i];
    metric_table_free(&table);
    trec_file_free(&qrels);
    trec_file_free(&run);
    metric_plan_free(&plan);
    remove(qrels_path);
    remove(run_path);
    return status;
}

static const metric_options nine = { .level = 1, .version = 9, .max_grade = 4 }, ten = { .level = 1, .version = 10, .max_grade = 4 };

static void scores_are_floats_in_nine_and_doubles_in_ten(void **state)
{
    const char *qrels = "1 0 a 1\n1 0 b 0\n", *run = "1 Q0 a 1 1.000000001 t\n1 Q0 b 2 1.0 t\n";
    double      mean;
    assert_ok(*state, evaluate_text(*state, qrels, run, "recip_rank", nine, &mean, 1));
    assert_true(mean == 0.5); /* a tie: b before a */
    assert_ok(*state, evaluate_text(*state, qrels, run, "recip_rank", ten, &mean, 1));
    assert_true(mean == 1);
}

static void missing_topics_follow_the_version(void **state)
{
    const char    *qrels = "1 0 a 1\n2 0 b 1\n", *run = "1 Q0 a 1 1 t\n";
    metric_options whole = nine;
    double         mean[2];
    assert_ok(*state, evaluate_text(*state, qrels, run, "map", nine, mean, 1));
    assert_true(mean[0] == 1);
    whole.complete = true;
    assert_ok(*state, evaluate_text(*state, qrels, run, "map\ngm_map", whole, mean, 2));
    assert_true(mean[0] == 0.5 && fabs(mean[1] - sqrt(1e-5)) < 1e-12);
    assert_int_equal(evaluate_text(*state, qrels, run, "map", ten, mean, 1), CRANK_BAD_DATA);
    whole.version = 10;
    assert_ok(*state, evaluate_text(*state, qrels, run, "map\ngm_map", whole, mean, 2));
    assert_true(mean[0] == 0.5 && fabs(mean[1] - sqrt(1e-5)) < 1e-12);
}

static void measures_beyond_trec_eval_have_their_closed_forms(void **state)
{
    /* grades by rank 0 2 1 0: the query of the conformance table */
    const char *qrels = "1 0 d1 0\n1 0 d2 2\n1 0 d3 1\n1 0 d4 0\n", *run = "1 Q0 d1 1 2 t\n1 Q0 d2 2 1 t\n1 Q0 d3 3 0 t\n1 Q0 d4 4 -1 t\n";
    double      mean[7];
    assert_ok(*state, evaluate_text(*state, qrels, run, "rbp.p=0.5\nndcg_exp\nndcg_exp_cut.1,2\nerr.4\nmrr_cut.1\njudged.10", nine, mean, 7));
    assert_true(fabs(mean[0] - 0.5 * (0.5 + 0.5 * 0.25)) < 1e-15);
    assert_true(fabs(mean[1] - 0.659002) < 1e-6 && mean[2] == 0 && fabs(mean[3] - 3 / log2(3) / (3 + 1 / log2(3))) < 1e-12);
    assert_true(fabs(mean[4] - 0.110677) < 1e-6 && mean[5] == 0 && mean[6] == 0.4);
}

static void bad_lines_are_named(void **state)
{
    static const struct { const char *qrels, *run, *says; } bad[] = {
        { "1 0 a 1\n1 0 b\n", "1 Q0 a 1 1 t\n", ":2: no relevance" },
        { "1 0 a x\n", "1 Q0 a 1 1 t\n", ":1: the relevance is not a whole number" },
        { "1 0 a 99999999\n", "1 Q0 a 1 1 t\n", "above 1000000" },
        { "1 0 a 1 1\n", "1 Q0 a 1 1 t\n", "more than four fields" },
        { "1 0 a 1\n1 0 a 1\n", "1 Q0 a 1 1 t\n", ":2: document `a` stands twice" },
        { "1 0 a 1\n", "1 Q0 a 1 1 t\n\n1 Q0 b 2 nan t\n", ":3: the score is NaN" },
        { "1 0 a 1\n", "1 Q0 a 1 1x t\n", ":1: the score is not a number" },
        { "1 0 a 1\n", "1 Q0 a 1 1\n", ":1: no tag" },
        { "1 0 a 1\n", "1 Q0 c 1 1 t\n1 Q0 c 2 1 t\n", "stands twice" },
        { "1 0 a 1\n", "", "no lines of a run" },
        { "1 0 a 1\n", "2 Q0 a 1 1 t\n", "no topic in common" },
    };
    double mean;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(evaluate_text(*state, bad[i].qrels, bad[i].run, "map", nine, &mean, 1), CRANK_BAD_DATA);
        if (!strstr(crank_message(*state), bad[i].says)) fail_msg("%zu: %s", i, crank_message(*state));
    }
}

static void bad_requests_are_refused(void **state)
{
    static const char *const bad[] = { "mapp", "P.0", "P.5,5", "P.", "map.3", "ndcg.1", "P.x", "official.5", "utility.1" };
    metric_plan              plan;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) assert_int_equal(metric_plan_make(*state, bad[i], 9, &plan), CRANK_USAGE);
}

static void values_do_not_depend_on_threads(void **state)
{
    crank_context *context = *state;
    metric_plan    plan;
    assert_ok(context, metric_plan_make(context, "all", 9, &plan));
    for (uint64_t k = 0; k < 48; k += 16) {
        crank_set_threads(context, 1);
        uint64_t one = digest_of_case(context, &plan, k);
        crank_set_threads(context, 4);
        assert_true(one == digest_of_case(context, &plan, k));
    }
    crank_set_threads(context, 0);
    metric_plan_free(&plan);
}

static int open_context(void **state) { return (*state = crank_context_new()) ? 0 : 1; }
static int close_context(void **state)
{
    crank_context_free(*state);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(printed_digits_equal_pytrec_eval),
        cmocka_unit_test(scores_are_floats_in_nine_and_doubles_in_ten),
        cmocka_unit_test(missing_topics_follow_the_version),
        cmocka_unit_test(measures_beyond_trec_eval_have_their_closed_forms),
        cmocka_unit_test(bad_lines_are_named),
        cmocka_unit_test(bad_requests_are_refused),
        cmocka_unit_test(values_do_not_depend_on_threads),
    };
    return cmocka_run_group_tests(tests, open_context, close_context);
}
