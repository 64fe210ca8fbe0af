/* Learning from clicks: the exact identities of dual learning, and that every method learns from simulated users. */
#include "testing.h"

#include "lab/world_clicks.h"
#include "rank/net.h"

static int setup(void **state)
{
    *state = crank_context_new();
    crank_set_threads(*state, 1);
    return 0;
}
static int teardown(void **state)
{
    crank_context_free(*state);
    return 0;
}

enum { LISTS = 6, ITEMS = 4, COLUMNS = 3 };

typedef struct small {
    letor_set  set;
    float      x[LISTS * ITEMS * COLUMNS], labels[LISTS * ITEMS];
    int32_t    offsets[LISTS + 1];
    click_log *log;
} small;

static void open_small(crank_context *context, small *s)
{
    static const int32_t places[] = {0, 1, 2, 3};
    *s = (small){0};
    crank_fill_normal(crank_stream_make(1, CRANK_RANDOM_TEST, 0), 0, 0, 1, s->x, LISTS * ITEMS * COLUMNS);
    for (int l = 0; l <= LISTS; l++) s->offsets[l] = l * ITEMS;
    s->set = (letor_set){.rows = LISTS * ITEMS, .columns = COLUMNS, .queries = LISTS, .dense = s->x, .labels = s->labels, .offsets = s->offsets};
    s->log = click_log_new(context, LISTS, s->set.rows);
    for (int l = 0; l < LISTS; l++) {
        int32_t items[ITEMS];
        uint8_t clicks[ITEMS];
        for (int i = 0; i < ITEMS; i++) items[i] = l * ITEMS + i, clicks[i] = l == LISTS - 1 ? 0 : (l * 5 + i * 3) % 4 == 0 || i == l % ITEMS, s->labels[l * ITEMS + i] = clicks[i];
        assert_ok(context, click_log_add(context, s->log, l, 0, items, places, clicks, ITEMS));
    }
}

/* Weights of a linear ranker after steps of a method (plain gradient steps), and the curve. */
static void after_steps(crank_context *context, const small *s, const char *method, const char *loss, int steps, float *w, double *curve, double propensity_rate)
{
    rank_options     *o = crank_options_new(context, rank_option_table, sizeof *o);
    unbiased_options *u = crank_options_new(context, unbiased_option_table, sizeof *u);
    rank_scaler       scaler;
    int64_t           sessions[] = {0, 1, 2, 3, 4, 5};
    double            value;
    assert_ok(context, crank_options_set(context, rank_option_table, o, "model", "linear", "test"));
    assert_ok(context, crank_options_set(context, unbiased_option_table, u, "method", method, "test"));
    assert_ok(context, crank_options_set(context, unbiased_option_table, u, "loss", loss, "test"));
    u->propensity_rate = propensity_rate, o->rate = 0.5;
    assert_ok(context, rank_scaler_fit(context, &s->set, "none", &scaler));
    rank_net *net = rank_net_new(context, o, &scaler);
    unbiased *learner = unbiased_new(net, u, "sgd", NULL, NULL, 1, ITEMS);
    if (!learner) fail_msg("%s", crank_message(context));
    for (int k = 0; k < steps; k++) assert_ok(context, unbiased_step(learner, &s->set, s->log, sessions, LISTS, 0.5, &value));
    assert_ok(context, crank_param_read(context, crank_params_find(net->params, "layers.0.weight"), w, CRANK_F32));
    click_curve *found = unbiased_curve(learner, context);
    for (int i = 0; i < ITEMS; i++) curve[i] = found->value[i];
    click_curve_free(found);
    unbiased_free(learner);
    rank_net_free(net);
    rank_scaler_free(&scaler);
    crank_options_free(o), crank_options_free(u);
}

static void with_a_flat_curve_dual_learning_moves_as_naive_clicks(void **state)
{
    static const char *const losses[] = {"softmax", "pairwise", "pointwise"};
    small                    s;
    float                    naive[COLUMNS], dla[COLUMNS];
    double                   curve[ITEMS];
    open_small(*state, &s);
    for (int l = 0; l < 3; l++) {
        after_steps(*state, &s, "naive", losses[l], 3, naive, curve, 0);
        after_steps(*state, &s, "dla", losses[l], 3, dla, curve, 0); /* p stays flat at rate 0 */
        assert_memory_equal(naive, dla, sizeof naive);
        assert_true(naive[0] != 0);
    }
    click_log_free(s.log);
}

/* From w = 0 every score is 0, so the first dual step is that of clicks without weights: Adam moves p_i by its rate towards - sign of
 * sum over lists of (clicks / 4 - c_i). */
static void the_dual_step_is_the_primal_one_with_roles_swapped(void **state)
{
    small  s;
    float  w[COLUMNS];
    double curve[ITEMS], g[ITEMS] = {0};
    open_small(*state, &s);
    after_steps(*state, &s, "dla", "softmax", 1, w, curve, 0.01);
    for (int l = 0; l < LISTS; l++) {
        double clicks = 0;
        for (int i = 0; i < ITEMS; i++) clicks += s.log->click[l * ITEMS + i];
        for (int i = 0; i < ITEMS; i++) g[i] += clicks / ITEMS - s.log->click[l * ITEMS + i];
    }
    for (int i = 0; i < ITEMS; i++) {
        double moved = -0.01 * ((g[i] > 1e-9) - (g[i] < -1e-9)), first = -0.01 * ((g[0] > 1e-9) - (g[0] < -1e-9));
        assert_true(fabs(curve[i] - exp(moved - first)) < 1e-6);
    }
    click_log_free(s.log);
}

/* A step of the primal loss by hand: d1 = W softmax(s) - w over the clicked lists, at w = 0. */
static void a_naive_step_is_its_gradient_by_hand(void **state)
{
    small  s;
    float  w[COLUMNS];
    double curve[ITEMS], want[COLUMNS] = {0}, all = 0;
    open_small(*state, &s);
    after_steps(*state, &s, "naive", "softmax", 1, w, curve, 0);
    for (int l = 0; l < LISTS; l++) {
        double clicks = 0, sum = 0;
        for (int i = 0; i < ITEMS; i++) clicks += s.log->click[l * ITEMS + i];
        for (int i = 0; i < ITEMS; i++) {
            double d1 = clicks / ITEMS - s.log->click[l * ITEMS + i];
            sum += d1;
            for (int j = 0; j < COLUMNS; j++) want[j] += d1 * (double)s.x[(l * ITEMS + i) * COLUMNS + j];
        }
        all += clicks;
        assert_true(fabs(sum) < 1e-12);
    }
    for (int j = 0; j < COLUMNS; j++) assert_true(fabs((double)w[j] + 0.5 * want[j] / all) < 1e-6);
    click_log_free(s.log);
}

static void labels_equal_naive_where_clicks_are_the_labels(void **state)
{
    small  s;
    float  naive[COLUMNS], labels[COLUMNS];
    double curve[ITEMS];
    open_small(*state, &s);
    after_steps(*state, &s, "naive", "softmax", 4, naive, curve, 0);
    after_steps(*state, &s, "labels", "softmax", 4, labels, curve, 0);
    assert_memory_equal(naive, labels, sizeof naive);
    click_log_free(s.log);
}

static void every_method_learns_from_a_log(void **state)
{
    static const char *const methods[] = {"naive", "ipw", "dla", "regression-em", "pair-debias"};
    crank_context           *context = *state;
    clicks_room              room;
    assert_ok(context, clicks_made_up(context, 3, &room));
    click_simulator *users = crank_options_new(context, click_simulator_table, sizeof *users);
    click_log       *log = unbiased_simulate(context, room.train, users, room.order, false, 0, 12);
    click_curve     *truth = click_curve_new(context, 1, 10);
    for (int i = 0; i < 10; i++) truth->value[i] = click_examination(1, i);
    assert_non_null(log);
    for (size_t m = 0; m < sizeof methods / sizeof *methods; m++) {
        rank_options     *o = clicks_ranker(context, 1, 5e-3, 3, 64);
        unbiased_options *u = crank_options_new(context, unbiased_option_table, sizeof *u);
        rank_fit          how = {.options = o};
        click_curve      *found = NULL;
        double            value;
        assert_ok(context, crank_options_set(context, unbiased_option_table, u, "method", methods[m], "test"));
        rank_net *net = unbiased_fit(context, &how, u, room.train, log, truth, NULL, &found);
        if (!net) fail_msg("%s: %s", methods[m], crank_message(context));
        assert_ok(context, clicks_measure(net, room.test, &value));
        if (!(value > room.first + 0.02)) fail_msg("%s: ndcg@10 %g, first ranker %g", methods[m], value, room.first);
        rank_net_free(net);
        click_curve_free(found);
        crank_options_free(o), crank_options_free(u);
    }
    click_curve_free(truth);
    click_log_free(log);
    crank_options_free(users);
    clicks_room_free(&room);
}

static void what_cannot_be_learnt_is_refused(void **state)
{
    crank_context    *context = *state;
    small             s;
    rank_options     *o = clicks_ranker(context, 1, 1e-3, 1, 8);
    unbiased_options *u = crank_options_new(context, unbiased_option_table, sizeof *u);
    rank_fit          how = {.options = o};
    open_small(context, &s);
    assert_ok(context, crank_options_set(context, unbiased_option_table, u, "method", "ipw", "test"));
    assert_null(unbiased_fit(context, &how, u, &s.set, s.log, NULL, NULL, NULL));
    assert_non_null(strstr(crank_message(context), "propensity"));
    memset(s.log->click, 0, (size_t)s.log->shown);
    assert_ok(context, crank_options_set(context, unbiased_option_table, u, "method", "dla", "test"));
    assert_null(unbiased_fit(context, &how, u, &s.set, s.log, NULL, NULL, NULL));
    assert_non_null(strstr(crank_message(context), "no click"));
    click_log_free(s.log);
    crank_options_free(o), crank_options_free(u);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(with_a_flat_curve_dual_learning_moves_as_naive_clicks),
        cmocka_unit_test(the_dual_step_is_the_primal_one_with_roles_swapped),
        cmocka_unit_test(a_naive_step_is_its_gradient_by_hand),
        cmocka_unit_test(labels_equal_naive_where_clicks_are_the_labels),
        cmocka_unit_test(every_method_learns_from_a_log),
        cmocka_unit_test(what_cannot_be_learnt_is_refused),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
