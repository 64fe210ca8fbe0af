/* Clicks: simulated users against their probabilities, click models against hand counts and their fixed point, logs in and out. */
#include "testing.h"

#include "click/click.h"

static int setup(void **state)
{
    *state = crank_context_new();
    return 0;
}
static int teardown(void **state)
{
    crank_context_free(*state);
    return 0;
}

static click_simulator *users(crank_context *context, const char *user)
{
    click_simulator *s = crank_options_new(context, click_simulator_table, sizeof *s);
    assert_ok(context, crank_options_set(context, click_simulator_table, s, "user", user, "test"));
    return s;
}

/* ---- users ---- */

static void position_biased_users_click_by_their_table(void **state)
{
    enum { SESSIONS = 40000 };
    static const double rho[] = {.68, .61, .48, .34, .28, .20, .11, .10, .08, .06}, relevance[] = {.1, .16, .28, .52, 1};
    crank_context      *context = *state;
    click_simulator    *s = users(context, "pbm");
    float               grades[10];
    uint8_t             clicks[10];
    double              count[10] = {0};
    for (int i = 0; i < 10; i++) grades[i] = (float)(i % 5);
    for (int g = 0; g < 5; g++) assert_true(fabs(click_relevance(s, g) - relevance[g]) < 1e-9);
    for (int k = 0; k < SESSIONS; k++) {
        assert_ok(context, click_simulate(context, s, (uint64_t)k, grades, 10, clicks));
        for (int i = 0; i < 10; i++) count[i] += clicks[i];
    }
    for (int i = 0; i < 10; i++) {
        double p = rho[i] * relevance[i % 5], sigma = sqrt(p * (1 - p) / SESSIONS);
        if (fabs(count[i] / SESSIONS - p) > 4 * sigma) fail_msg("place %d: %g clicks, not %g", i, count[i] / SESSIONS, p);
    }
    crank_options_free(s);
}

static void cascade_users_click_once_and_grades_are_whole(void **state)
{
    crank_context   *context = *state;
    click_simulator *s = users(context, "cascade");
    float            grades[] = {1, 4, 4, 2};
    uint8_t          clicks[4];
    for (int k = 0; k < 500; k++) {
        assert_ok(context, click_simulate(context, s, (uint64_t)k, grades, 4, clicks));
        assert_true(clicks[0] + clicks[1] + clicks[2] + clicks[3] == 1 && !clicks[2] && !clicks[3]); /* grade 4 is always relevant */
    }
    grades[2] = 0.5f;
    assert_int_equal(click_simulate(context, s, 0, grades, 4, clicks), CRANK_BAD_DATA);
    grades[2] = 5;
    assert_int_equal(click_simulate(context, s, 0, grades, 4, clicks), CRANK_BAD_DATA);
    crank_options_free(s);
}

static void ubm_users_look_by_the_distance_to_the_last_click(void **state)
{
    enum { SESSIONS = 40000 };
    crank_context   *context = *state;
    click_simulator *s = users(context, "ubm");
    float            grades[] = {4, 0, 4};
    uint8_t          clicks[3];
    double           third = 0, after_second = 0, second = 0;
    for (int k = 0; k < SESSIONS; k++) {
        assert_ok(context, click_simulate(context, s, (uint64_t)k, grades, 3, clicks));
        assert_true(clicks[0]); /* place 1 is always examined */
        second += clicks[1];
        if (clicks[1]) after_second += clicks[2];
        else third += clicks[2];
    }
    assert_true(fabs(second / SESSIONS - .98 * .1) < .008);       /* distance 1 at place 2: .98 */
    assert_true(fabs(third / (SESSIONS - second) - .62) < .012);  /* distance 2 at place 3 */
    assert_true(fabs(after_second / second - 1) < 1e-9);          /* distance 1 at place 3: 1 */
    crank_options_free(s);
}

/* ---- models ---- */

static click_log *small_log(crank_context *context)
{
    /* one query, items 0..2 at places 0..2 */
    static const uint8_t sessions[4][3] = {{1, 0, 1}, {0, 1, 0}, {0, 0, 0}, {1, 0, 0}};
    static const int32_t items[] = {0, 1, 2};
    click_log           *log = click_log_new(context, 1, 3);
    for (int s = 0; s < 4; s++) assert_ok(context, click_log_add(context, log, 0, 0, items, items, sessions[s], 3));
    return log;
}

static void counted_models_equal_counts_by_hand(void **state)
{
    crank_context *context = *state;
    click_log     *log = small_log(context);
    click_model    model;
    assert_ok(context, click_model_fit(context, log, "cascade", 0, &model));
    /* item 0: 2 clicks of 4; item 1: before it no click in 2 sessions, 1 click; item 2: 1 session, none. each with 1 of 2 more */
    assert_true(fabs(model.relevance[0] - 3. / 6) < 1e-12 && fabs(model.relevance[1] - 2. / 4) < 1e-12 && fabs(model.relevance[2] - 1. / 3) < 1e-12);
    click_model_free(&model);
    assert_ok(context, click_model_fit(context, log, "dcm", 0, &model));
    /* at or before the last click, all where there is none: item 0: 4 shows, 2 clicks; item 1: 3, 1; item 2: 2, 1 */
    assert_true(fabs(model.relevance[0] - 3. / 6) < 1e-12 && fabs(model.relevance[1] - 2. / 5) < 1e-12 && fabs(model.relevance[2] - 2. / 4) < 1e-12);
    assert_true(fabs(model.curve[0] - 2. / 4) < 1e-12); /* of 2 clicks at place 1 one is not the last */
    click_model_free(&model);
    assert_ok(context, click_model_fit(context, log, "sdbn", 0, &model));
    assert_true(fabs(model.relevance[0] - 3. / 6 * (2. / 4)) < 1e-12 && fabs(model.relevance[2] - 2. / 4 * (2. / 3)) < 1e-12);
    click_model_free(&model);
    assert_int_equal(click_model_fit(context, log, "magic", 0, &model), CRANK_USAGE);
    click_log_free(log);
}

/* Items at random places, clicks by a known curve: EM finds the curve's ratios and the items' order. */
static void em_finds_the_curve_of_position_biased_users(void **state)
{
    enum { ITEMS = 10, SESSIONS = 30000 };
    crank_context   *context = *state;
    click_simulator *s = users(context, "pbm");
    click_log       *log = click_log_new(context, 1, ITEMS);
    for (int k = 0; k < SESSIONS; k++) {
        int64_t order[ITEMS];
        int32_t items[ITEMS], places[ITEMS];
        float   grades[ITEMS];
        uint8_t clicks[ITEMS];
        crank_permutation(crank_stream_make(1, CRANK_RANDOM_TEST, (uint32_t)k), order, ITEMS);
        for (int i = 0; i < ITEMS; i++) items[i] = (int32_t)order[i], places[i] = i, grades[i] = (float)(order[i] % 5);
        assert_ok(context, click_simulate(context, s, (uint64_t)k, grades, ITEMS, clicks));
        assert_ok(context, click_log_add(context, log, 0, 0, items, places, clicks, ITEMS));
    }
    click_model model;
    assert_ok(context, click_model_fit(context, log, "pbm", 100, &model));
    click_curve *random = click_curve_of_random(context, log);
    for (int i = 0; i < 10; i++) {
        double truth = click_examination(1, i) / click_examination(1, 0);
        if (fabs(model.curve[i] / model.curve[0] - truth) > 0.04) fail_msg("pbm, place %d: %g, not %g", i, model.curve[i] / model.curve[0], truth);
        if (fabs(random->value[i] - truth) > 0.04) fail_msg("randomised, place %d: %g, not %g", i, random->value[i], truth);
    }
    for (int i = 1; i < 5; i++) assert_true(model.relevance[i] > model.relevance[i - 1]);
    double likelihood = model.likelihood;
    click_model_free(&model);
    assert_ok(context, click_model_fit(context, log, "cascade", 0, &model));
    assert_true(model.likelihood < likelihood); /* the users' own model explains them better */
    click_model_free(&model);
    click_curve_free(random);
    click_log_free(log);
    crank_options_free(s);
}

static void weighted_click_rates_divide_by_examination(void **state)
{
    crank_context *context = *state;
    click_log     *log = small_log(context);
    click_curve   *curve = click_curve_new(context, 1, 3);
    float          rates[3];
    curve->value[0] = 1, curve->value[1] = 0.5, curve->value[2] = 0.1;
    assert_ok(context, click_rates(context, log, curve, 0, rates));
    assert_true(fabsf(rates[0] - 0.5f) < 1e-6f && fabsf(rates[1] - 0.5f) < 1e-6f && fabsf(rates[2] - 2.5f) < 1e-6f);
    assert_ok(context, click_rates(context, log, curve, 4, rates));
    assert_true(fabsf(rates[2] - 1) < 1e-6f);
    click_curve_free(curve);
    click_log_free(log);
}

/* ---- files ---- */

static const char *temporary(const char *name)
{
    static char path[512];
    snprintf(path, sizeof path, "%s/click-%d-%s", CRANK_BINARY_DIR, (int)getpid(), name);
    return path;
}

static click_log *read_text(crank_context *context, const char *text)
{
    const char *path = temporary("log");
    FILE       *file = fopen(path, "w");
    fputs(text, file);
    fclose(file);
    click_log *log = click_log_read(context, path, NULL);
    unlink(path);
    return log;
}

static void logs_of_both_formats_give_the_same_sessions(void **state)
{
    crank_context *context = *state;
    click_log     *a = read_text(context, "query\tdocument\tposition\tclick\n# c\nq1\ta\t1\t0\nq1\tb\t2\t1\nq1\tb\t1\t1\nq1\ta\t3\t0\nq2\ta\t1\t0\n");
    click_log     *b = read_text(context, "{\"query\":\"q1\",\"documents\":[\"a\",\"b\"],\"clicks\":[0,1]}\n{\"query\":\"q1\",\"documents\":[\"b\",\"a\"],\"clicks\":[true,0],\"positions\":[1,3]}\n"
                                          "{\"query\":\"q2\",\"documents\":[\"a\"],\"clicks\":[0]}\n");
    if (!a || !b) fail_msg("%s", crank_message(context));
    assert_int_equal(a->sessions, 3);
    assert_int_equal(b->sessions, 3);
    assert_int_equal(a->shown, 5);
    assert_int_equal(a->items, 3); /* a of q1 and a of q2 are two */
    assert_int_equal(a->places, 3);
    assert_memory_equal(a->item, b->item, 5 * sizeof *a->item);
    assert_memory_equal(a->place, b->place, 5 * sizeof *a->place);
    assert_memory_equal(a->click, b->click, 5);
    click_log_free(a), click_log_free(b);
}

/* Sessions of users of a kind on items of grades i mod 5, in orders that are drawn anew; `last` stands at the end where it is not -1. */
static click_log *recovery_log(crank_context *context, click_simulator *s, int items, int last, int sessions)
{
    click_log *log = click_log_new(context, 1, items);
    for (int k = 0; k < sessions; k++) {
        int64_t order[10];
        int32_t shown[10], places[10];
        float   grades[10];
        uint8_t clicks[10];
        crank_permutation(crank_stream_make(3, CRANK_RANDOM_TEST, (uint32_t)k), order, items);
        for (int i = 0; last >= 0 && i < items; i++)
            if (order[i] == last) order[i] = order[items - 1], order[items - 1] = last;
        for (int i = 0; i < items; i++) shown[i] = (int32_t)order[i], places[i] = i, grades[i] = (float)(order[i] % 5);
        assert_ok(context, click_simulate(context, s, (uint64_t)k, grades, items, clicks));
        assert_ok(context, click_log_add(context, log, 0, 0, shown, places, clicks, items));
    }
    return log;
}

static void cascade_and_dcm_recover_their_parameters(void **state)
{
    static const char *const kinds[] = {"cascade", "dcm"};
    crank_context           *context = *state;
    for (int m = 0; m < 2; m++) {
        click_simulator *s = users(context, kinds[m]);
        click_log       *log = recovery_log(context, s, 10, m ? 4 : -1, 40000); /* dcm: the last item is always clicked, so that whoever goes on clicks again */
        click_model      model;
        assert_ok(context, click_model_fit(context, log, kinds[m], 0, &model));
        for (int i = 0; i < 10; i++)
            if (fabs(model.relevance[i] - click_relevance(s, i % 5)) > 0.02) fail_msg("%s, item %d: %g, not %g", kinds[m], i, model.relevance[i], click_relevance(s, i % 5));
        for (int k = 0; m == 1 && k < 6; k++)
            if (fabs(model.curve[k] - s->go_on) > 0.04) fail_msg("continuation at place %d: %g", k, model.curve[k]);
        click_model_free(&model);
        click_log_free(log);
        crank_options_free(s);
    }
}

static void ubm_recovers_examination_before_any_click(void **state)
{
    static const double before[] = {1, 1, .95, .82, .69, .54, .47, .43, .41, .43}; /* last entries of the rows of the table */
    crank_context      *context = *state;
    click_simulator    *s = users(context, "ubm");
    click_log          *log = recovery_log(context, s, 10, -1, 25000);
    click_model         model, pbm;
    assert_ok(context, click_model_fit(context, log, "ubm", 60, &model));
    for (int i = 0; i < 10; i++)
        if (fabs(model.curve[i] / model.curve[0] - before[i]) > 0.06) fail_msg("place %d: %g, not %g", i, model.curve[i] / model.curve[0], before[i]);
    for (int i = 1; i < 5; i++) assert_true(model.relevance[i] > model.relevance[i - 1]);
    assert_ok(context, click_model_fit(context, log, "pbm", 30, &pbm));
    assert_true(model.likelihood > pbm.likelihood);
    click_model_free(&model), click_model_free(&pbm);
    click_log_free(log);
    crank_options_free(s);
}

/* What the log tells: P(c) of each item at each place, and the order of items; plain examination does not explain it as well. */
static void trust_recovers_click_probabilities(void **state)
{
    crank_context   *context = *state;
    click_simulator *s = users(context, "trust");
    click_log       *log = recovery_log(context, s, 10, -1, 30000);
    click_model      model, pbm;
    assert_ok(context, click_model_fit(context, log, "trust", 120, &model));
    for (int k = 0; k < 10; k++)
        for (int i = 0; i < 5; i++) {
            double rank = k + 1, right = 1 - (rank + 1) / 100, wrong = .65 / rank, r = click_relevance(s, i);
            double truth = click_examination(1, k) * (right * r + wrong * (1 - r)), found = model.trust[2 * k] * model.relevance[i] + model.trust[2 * k + 1];
            if (fabs(found - truth) > 0.02) fail_msg("place %d, grade %d: %g, not %g", k, i, found, truth);
        }
    for (int i = 1; i < 5; i++) assert_true(model.relevance[i] > model.relevance[i - 1] && fabs(model.relevance[i] - model.relevance[i + 5]) < 0.05);
    assert_ok(context, click_model_fit(context, log, "pbm", 60, &pbm));
    assert_true(model.likelihood > pbm.likelihood + 0.005);
    click_model_free(&model), click_model_free(&pbm);
    click_log_free(log);
    crank_options_free(s);
}

static void broken_logs_are_refused_with_their_line(void **state)
{
    static const char *const texts[][2] = {{"q\ta\t1\n", ":1: "}, {"q\ta\t1\t0\nq\tb\t0\t1\n", ":2: "}, {"q\ta\t1\t2\n", ":1: "}, {"q\ta\tx\t1\n", ":1: "}, {"q\ta\t1\t0\t1\t2\n", ":1: "},
                                           {"q\ta\t1\t0\nq\ta\t2\t0\n", ":2: "}, {"q\ta\t99999\t0\n", ":1: "}, {"{\"query\":1}\n", ":1: "}, {"{\n", ":1"}, {"", "no session"},
                                           {"{\"query\":\"q\",\"documents\":[\"a\"],\"clicks\":[0,1]}\n", ":1: "}, {"{\"query\":\"q\",\"documents\":[\"a\"],\"clicks\":[0],\"context\":64}\n", ":1: "},
                                           {"{\"query\":\"q\",\"documents\":[\"a\",\"b\"],\"clicks\":[0,1],\"positions\":[2,2]}\n", ":1: "}};
    crank_context           *context = *state;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        assert_null(read_text(context, texts[i][0]));
        assert_int_equal(crank_last_status(context), CRANK_BAD_DATA);
        if (!strstr(crank_message(context), texts[i][1])) fail_msg("`%s` does not name `%s`", crank_message(context), texts[i][1]);
    }
}

static void a_log_joins_its_feature_vectors_by_name(void **state)
{
    crank_context *context = *state;
    int32_t        offsets[] = {0, 2, 3};
    char          *queries[] = {"x", "y"}, *documents[] = {"a", "b", "a"};
    letor_set      set = {.rows = 3, .columns = 1, .queries = 2, .offsets = offsets, .query_names = queries, .document_names = documents};
    click_log     *log = click_log_new(context, 2, 3);
    int32_t        items[] = {1, 0}, places[] = {0, 1}, other[] = {2};
    uint8_t        clicks[] = {1, 0};
    const char    *path = temporary("joined");
    assert_ok(context, click_log_add(context, log, 0, 0, items, places, clicks, 2));
    assert_ok(context, click_log_add(context, log, 1, 0, other, places, clicks, 1));
    assert_ok(context, click_log_write(context, path, log, &set));
    click_log *back = click_log_read(context, path, &set);
    if (!back) fail_msg("%s", crank_message(context));
    assert_int_equal(back->sessions, 2);
    assert_memory_equal(back->item, log->item, 3 * sizeof *log->item);
    assert_memory_equal(back->query, log->query, 2 * sizeof *log->query);
    documents[1] = "c";
    assert_null(click_log_read(context, path, &set));
    assert_non_null(strstr(crank_message(context), "no document `b`"));
    documents[1] = "a";
    assert_null(click_log_read(context, path, &set));
    assert_non_null(strstr(crank_message(context), "stands twice"));
    unlink(path);
    click_log_free(log), click_log_free(back);
}

static void curves_keep_their_digits_and_broken_ones_are_refused(void **state)
{
    static const char *const texts[] = {"{}", "{\"propensity\":[]}", "{\"propensity\":[1,0]}", "{\"propensity\":[[1,2],[1]]}", "{\"propensity\":\"x\"}", "[1]"};
    crank_context           *context = *state;
    const char              *path = temporary("curve");
    click_curve             *curve = click_curve_new(context, 2, 3);
    for (int i = 0; i < 6; i++) curve->value[i] = 1 / (i + 1.0);
    assert_ok(context, click_curve_write(context, path, curve));
    click_curve *back = click_curve_read(context, path);
    assert_non_null(back);
    assert_memory_equal(back->value, curve->value, 6 * sizeof(double));
    assert_true(click_curve_at(back, 1, 99) == curve->value[5] && click_curve_at(back, 7, 0) == curve->value[0]);
    for (int i = 0; i < 6; i++) {
        FILE *file = fopen(path, "w");
        fputs(texts[i], file);
        fclose(file);
        assert_null(click_curve_read(context, path));
    }
    unlink(path);
    click_curve_free(curve), click_curve_free(back);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(position_biased_users_click_by_their_table),
        cmocka_unit_test(cascade_users_click_once_and_grades_are_whole),
        cmocka_unit_test(ubm_users_look_by_the_distance_to_the_last_click),
        cmocka_unit_test(counted_models_equal_counts_by_hand),
        cmocka_unit_test(em_finds_the_curve_of_position_biased_users),
        cmocka_unit_test(weighted_click_rates_divide_by_examination),
        cmocka_unit_test(logs_of_both_formats_give_the_same_sessions),
        cmocka_unit_test(cascade_and_dcm_recover_their_parameters),
        cmocka_unit_test(ubm_recovers_examination_before_any_click),
        cmocka_unit_test(trust_recovers_click_probabilities),
        cmocka_unit_test(broken_logs_are_refused_with_their_line),
        cmocka_unit_test(a_log_joins_its_feature_vectors_by_name),
        cmocka_unit_test(curves_keep_their_digits_and_broken_ones_are_refused),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
