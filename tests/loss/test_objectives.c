/* List objectives against NumPy transcriptions, the values of the literature's conformance query, differences, and invariants. */
#include "crank/loss.h"
#include "crank/random.h"
#include "testing.h"

enum { ITEMS = 16, LISTS = 4 };
static const int32_t offsets[LISTS + 1] = { 0, 4, 5, 11, 16 };
static const float   base[ITEMS] = { 2, 1, 0, -1, 0.5f, 0.25f, -0.75f, 1.5f, 0.125f, -2, 3, 0.625f, 0.375f, -0.5f, 2.25f, -1.25f };
static const float   labels[ITEMS] = { 0, 2, 1, 0, 3, 0, 1, 4, 1, 0, 2, 1, 0, 1, 3, 2 };
static const float   weights[ITEMS] = { 1, 1, 1, 1, 2, 0.5f, 1, 2, 1, 1, 1.5f, 1, 1, 3, 0.25f, 1 };

static crank_status run(crank_context *context, const char *name, const char *text, const crank_lists *lists, crank_list_result *result)
{
    const crank_list_objective *objective = crank_list_objective_find(name);
    assert_non_null(objective);
    void *options = crank_options_new(context, objective->options, objective->options_size);
    char  copy[256], *cursor = copy;
    snprintf(copy, sizeof copy, "%s", strcmp(text, "-") ? text : "");
    for (char *word = strtok_r(cursor, ",", &cursor); word; word = strtok_r(NULL, ",", &cursor)) {
        char *equals = strchr(word, '=');
        *equals = 0;
        assert_ok(context, crank_options_set(context, objective->options, options, word, equals + 1, "test"));
    }
    crank_status status = objective->run(context, lists, options, result);
    crank_options_free(options);
    return status;
}

static bool near(double a, double b, double tolerance) { return fabs(a - b) <= tolerance * fmax(1, fabs(b)); }

/* One line of the golden file: equal to NumPy, and d2 equal to the differences of d1 where d1 does not jump. */
static void check_case(crank_context *context, char *line)
{
    char       *cursor = line, *name = strtok_r(cursor, " ", &cursor), *options = strtok_r(NULL, " ", &cursor);
    double      wanted[ITEMS + 2];
    float       scores[ITEMS], d1[ITEMS], d2[ITEMS], up[ITEMS], down[ITEMS];
    bool        curved = strcmp(name, "neural_ndcg") != 0;
    crank_lists lists = { LISTS, 1, offsets, scores, labels, weights };
    crank_list_result result = { .d1 = d1, .d2 = curved ? d2 : NULL }, high = { .d1 = up }, low = { .d1 = down };
    for (int i = 0; i < ITEMS + 2; i++) wanted[i] = strtod(cursor, &cursor);
    memcpy(scores, base, sizeof scores);
    assert_ok(context, run(context, name, options, &lists, &result));
    if (!near(result.numerator, wanted[0], 1e-9)) fail_msg("%s %s: numerator %.12g, not %.12g", name, options, result.numerator, wanted[0]);
    if (!near(result.denominator, wanted[1], 1e-12)) fail_msg("%s %s: denominator %.12g, not %.12g", name, options, result.denominator, wanted[1]);
    for (int i = 0; i < ITEMS; i++)
        if (!near((double)d1[i], wanted[i + 2], 2e-6)) fail_msg("%s %s: d1[%d] %.9g, not %.9g", name, options, i, (double)d1[i], wanted[i + 2]);
    bool frozen = !strcmp(name, "lambdarank") && !strstr(options, "normalize=false"); /* its factors depend on the scores */
    for (int i = 0; i < ITEMS && curved && !frozen; i++) {
        const float h = 1.0f / 512;
        scores[i] = base[i] + h;
        assert_ok(context, run(context, name, options, &lists, &high));
        scores[i] = base[i] - h;
        assert_ok(context, run(context, name, options, &lists, &low));
        scores[i] = base[i];
        double difference = fmax(((double)up[i] - (double)down[i]) / (2 * (double)h), 0);
        if (!near((double)d2[i], difference, 1e-3)) fail_msg("%s %s: d2[%d] %.9g, not %.9g", name, options, i, (double)d2[i], difference);
    }
}

static void objectives_equal_their_numpy_transcriptions(void **state)
{
    FILE *file = fopen(golden("loss/list_objectives.txt"), "r");
    char  line[4096];
    int   cases = 0;
    assert_non_null(file);
    while (fgets(line, sizeof line, file)) check_case(*state, line), cases++;
    fclose(file);
    assert_int_equal(cases, 24);
}

/* s = (2, 1, 0, -1), y = (0, 2, 1, 0) */
static void conformance_query_gives_the_published_values(void **state)
{
    static const struct { const char *name, *options; double numerator; float d1[4], d2[4]; } rows[] = {
        { "lambdarank", "normalize=false", NAN, { 0.344219f, -0.262047f, -0.107030f, 0.024858f }, { 0.074413f, 0.091506f, 0.032392f, 0.021126f } },
        { "lambdarank", "-", NAN, { 0.314433f, -0.279386f, -0.051712f, 0.016665f }, { 0.074456f, 0.091783f, 0.027911f, 0.013827f } },
        { "pair_logistic", "-", 4.193641, { 1.611856f, -1.119203f, -0.880797f, 0.388144f }, { NAN } },
        { "listnet", "-", 1.747299, { NAN }, { NAN } },
        { "listnet", "target=gain", 1.690190, { NAN }, { NAN } },
        { "listmle", "-", 3.658623, { NAN }, { NAN } },
        { "approx_ndcg", "-", 0.355782, { NAN }, { NAN } },
        { "neural_ndcg", "rounds=0", 1 - 0.757853, { NAN }, { NAN } },
        { "neural_ndcg", "-", 1 - 0.711684, { NAN }, { NAN } },
    };
    const int32_t one[] = { 0, 4 };
    for (size_t k = 0; k < sizeof rows / sizeof *rows; k++) {
        float             d1[4], d2[4];
        crank_list_result result = { .d1 = d1, .d2 = strcmp(rows[k].name, "neural_ndcg") ? d2 : NULL };
        crank_lists       lists = { 1, 1, one, base, labels, NULL };
        assert_ok(*state, run(*state, rows[k].name, rows[k].options, &lists, &result));
        if (!isnan(rows[k].numerator) && fabs(result.numerator - rows[k].numerator) > 2e-6) fail_msg("%s %s: %.7f", rows[k].name, rows[k].options, result.numerator);
        for (int i = 0; i < 4; i++) {
            if (!isnan(rows[k].d1[0]) && fabsf(d1[i] - rows[k].d1[i]) > 2e-6f) fail_msg("%s %s: d1[%d] = %.7f", rows[k].name, rows[k].options, i, (double)d1[i]);
            if (!isnan(rows[k].d2[0]) && fabsf(d2[i] - rows[k].d2[i]) > 2e-6f) fail_msg("%s %s: d2[%d] = %.7f", rows[k].name, rows[k].options, i, (double)d2[i]);
        }
    }
}

static void equal_scores_give_the_closed_forms(void **state)
{
    static const struct { const char *name, *options; double numerator; } rows[] = {
        { "pair_logistic", "-", 6 * 0.69314718055994531 }, { "pair_hinge", "-", 6 }, { "listmle", "-", 3.1780538303479458 }, { "listnet", "-", 1.3862943611198906 },
    };
    const int32_t one[] = { 0, 4 };
    const float   zero[4] = { 0 }, distinct[4] = { 3, 1, 0, 2 };
    for (size_t k = 0; k < sizeof rows / sizeof *rows; k++) {
        float             d1[4];
        crank_list_result result = { .d1 = d1 };
        crank_lists       lists = { 1, 1, one, zero, distinct, NULL };
        assert_ok(*state, run(*state, rows[k].name, rows[k].options, &lists, &result));
        if (fabs(result.numerator - rows[k].numerator) > 1e-12) fail_msg("%s: %.15g", rows[k].name, result.numerator);
        assert_true(fabsf(d1[0] + d1[1] + d1[2] + d1[3]) < 1e-6f);
    }
}

static void two_items_make_list_mle_the_pair_loss(void **state)
{
    const int32_t     one[] = { 0, 2 };
    const float       order[2] = { 0, 1 };
    float             a[2], b[2], c[2];
    crank_list_result first = { .d1 = a }, second = { .d1 = b }, third = { .d1 = c };
    crank_lists       lists = { 1, 1, one, base, order, NULL };
    assert_ok(*state, run(*state, "pair_logistic", "-", &lists, &first));
    assert_ok(*state, run(*state, "listmle", "-", &lists, &second));
    assert_ok(*state, run(*state, "lipo_lambda", "-", &lists, &third));
    double factor = fabs(1 / log(2) - 1 / log(3));
    assert_true(near(second.numerator, first.numerator, 1e-12) && near((double)b[0], (double)a[0], 1e-6));
    assert_true(near(third.numerator, factor * first.numerator, 1e-12));
}

/* Losses of differences do not change when all scores move; lists without a lesson give nothing; results do not depend on threads. */
static void every_objective_keeps_the_contract(void **state)
{
    crank_context *context = *state;
    const int32_t  lone[] = { 0, 1, 3 };
    const float    same[3] = { 0, 0, 0 };
    for (size_t k = 0; crank_list_objective_at(k); k++) {
        const char       *name = crank_list_objective_at(k)->name;
        bool              point = !strncmp(name, "point", 5), curved = strcmp(name, "neural_ndcg") != 0;
        const char       *options = !strcmp(name, "point_logistic") ? "binary=true" : "-";
        float             d1[ITEMS], again[ITEMS], d2[ITEMS], sum;
        crank_list_result result = { .d1 = d1, .d2 = curved ? d2 : NULL }, other = { .d1 = again };
        crank_lists       lists = { LISTS, 1, offsets, base, labels, weights }, empty = { 2, 1, lone, base, same, NULL };
        crank_set_threads(context, 1);
        assert_ok(context, run(context, name, options, &lists, &result));
        crank_set_threads(context, 3);
        assert_ok(context, run(context, name, options, &lists, &other));
        crank_set_threads(context, 0);
        assert_memory_equal(d1, again, sizeof d1);
        assert_true(result.numerator == other.numerator && (isfinite(result.numerator) || isnan(result.numerator)));
        for (int l = 0; l < LISTS && !point; l++) {
            sum = 0;
            for (int i = offsets[l]; i < offsets[l + 1]; i++) sum += d1[i];
            if (fabsf(sum) > 1e-4f) fail_msg("%s: list %d: gradients sum to %g", name, l, (double)sum);
        }
        for (int i = 0; i < ITEMS && curved; i++) assert_true(d2[i] >= 0);
        other.d1 = again;
        assert_ok(context, run(context, name, options, &empty, &other));
        if (!point && strcmp(name, "listmle") && strcmp(name, "listnet") && (other.numerator != 0 || other.denominator != 0 || again[1] != 0)) fail_msg("%s learns from ties", name);
    }
}

static void bad_items_are_refused(void **state)
{
    const int32_t two[] = { 0, 2 };
    for (size_t k = 0; crank_list_objective_at(k); k++) {
        const char       *name = crank_list_objective_at(k)->name;
        float             bad[2] = { NAN, 0 }, good[2] = { 1, 0 }, d1[2];
        crank_list_result result = { .d1 = d1 };
        crank_lists       lists = { 1, 1, two, bad, good, NULL };
        if (!strcmp(name, "pair_logistic")) continue; /* a pair is all that it reads */
        assert_int_equal(run(*state, name, "-", &lists, &result), CRANK_BAD_DATA);
    }
}

/* xendcg: d1 = softmax(s) - phi / sum phi, phi = 2^y - u with u of the list's stream; another seed draws other targets. */
static void xendcg_follows_its_drawn_targets(void **state)
{
    float             d1[ITEMS], other[ITEMS];
    crank_lists       lists = { LISTS, 1, offsets, base, labels, NULL };
    crank_list_result result = { .d1 = d1 }, again = { .d1 = other };
    assert_ok(*state, run(*state, "listnet", "target=xendcg,seed=7", &lists, &result));
    double loss = 0;
    for (int l = 0; l < LISTS; l++) {
        int          from = offsets[l], n = offsets[l + 1] - from;
        crank_stream stream = crank_stream_make(7, CRANK_RANDOM_DATA, (uint32_t)l);
        double       phi[ITEMS], all = 0, sum = 0;
        for (int i = 0; i < n; i++) all += phi[i] = exp2((double)labels[from + i]) - (double)crank_draw_uniform(stream, (uint64_t)i), sum += exp((double)base[from + i]);
        for (int i = 0; i < n && n > 1; i++) {
            double p = exp((double)base[from + i]) / sum;
            loss -= phi[i] / all * log(p);
            if (!near((double)d1[from + i], p - phi[i] / all, 1e-6)) fail_msg("item %d: %g, not %g", from + i, (double)d1[from + i], p - phi[i] / all);
        }
    }
    assert_true(near(result.numerator, loss, 1e-6));
    assert_ok(*state, run(*state, "listnet", "target=xendcg,seed=8", &lists, &again));
    assert_memory_not_equal(d1, other, sizeof d1);
}

static void hinge_sweeps_equal_pairs_on_long_lists(void **state)
{
    enum { N = 700 };
    static float  scores[N], grades[N], d1[N];
    const int32_t one[] = { 0, N };
    double        wanted[N] = { 0 }, sum = 0;
    for (int i = 0; i < N; i++) scores[i] = (float)((i * 7919) % 997) / 256, grades[i] = (float)((i * 31) % 5);
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) {
            double loss = 1 - ((double)scores[i] - (double)scores[j]);
            if (!(grades[i] > grades[j]) || loss <= 0) continue;
            sum += loss;
            wanted[i] -= 1;
            wanted[j] += 1;
        }
    crank_list_result result = { .d1 = d1 };
    crank_lists       lists = { 1, 1, one, scores, grades, NULL };
    assert_ok(*state, run(*state, "pair_hinge", "-", &lists, &result));
    assert_true(near(result.numerator, sum, 1e-12));
    for (int i = 0; i < N; i++) assert_true((double)d1[i] == wanted[i]);
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
        cmocka_unit_test(objectives_equal_their_numpy_transcriptions),
        cmocka_unit_test(conformance_query_gives_the_published_values),
        cmocka_unit_test(equal_scores_give_the_closed_forms),
        cmocka_unit_test(two_items_make_list_mle_the_pair_loss),
        cmocka_unit_test(every_objective_keeps_the_contract),
        cmocka_unit_test(bad_items_are_refused),
        cmocka_unit_test(xendcg_follows_its_drawn_targets),
        cmocka_unit_test(hinge_sweeps_equal_pairs_on_long_lists),
    };
    return cmocka_run_group_tests(tests, open_context, close_context);
}
