/* Online learners: pdgd's gradient against its definition, its expectation over all orders and clicks, team drafts, and that both learn. */
#include "testing.h"

#include "lab/world_clicks.h"
#include "rank/net.h"
#include "rank/online.h"

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

enum { MOST = 6 };

/* P(R) of an order as the product of its draws; all items count, the first `depth` are drawn. */
static double probability(const float *scores, double tau, const int32_t *order, int n, int depth)
{
    double p = 1;
    for (int i = 0; i < depth; i++) {
        double rest = 0;
        for (int j = i; j < n; j++) rest += exp(tau * (double)scores[order[j]]);
        p *= exp(tau * (double)scores[order[i]]) / rest;
    }
    return p;
}

static void brute_force(const float *scores, double tau, int n, const int32_t *order, int depth, const uint8_t *clicks, double *d1)
{
    for (int i = 0; i < n; i++) d1[i] = 0;
    for (int l = 0; l < depth; l++)
        for (int k = 0; k < depth && k <= l + 1; k++) {
            if (!clicks[l] || clicks[k]) continue;
            int32_t swapped[MOST];
            memcpy(swapped, order, (size_t)n * sizeof *order);
            swapped[l] = order[k], swapped[k] = order[l];
            double here = probability(scores, tau, order, n, depth), there = probability(scores, tau, swapped, n, depth);
            double a = exp((double)scores[order[l]]), b = exp((double)scores[order[k]]), slope = there / (here + there) * a * b / ((a + b) * (a + b));
            d1[order[l]] -= slope, d1[order[k]] += slope;
        }
}

static void pdgd_weights_equal_their_definition(void **state)
{
    (void)state;
    for (uint32_t trial = 0; trial < 200; trial++) {
        crank_stream stream = crank_stream_make(5, CRANK_RANDOM_TEST, trial);
        int          n = 2 + (int)(trial % 5), depth = 1 + (int)crank_draw_below(stream, 50, (uint64_t)n);
        double       tau = trial % 3 ? 1 : 0.5 + trial % 4, spare[MOST], want[MOST];
        float        scores[MOST], d1[MOST] = {0};
        int64_t      permutation[MOST];
        int32_t      order[MOST];
        uint8_t      clicks[MOST];
        crank_fill_normal(stream, 0, 0, trial % 7 ? 1 : 8, scores, (size_t)n);
        crank_permutation(crank_stream_make(6, CRANK_RANDOM_TEST, trial), permutation, n);
        for (int i = 0; i < n; i++) order[i] = (int32_t)permutation[i], clicks[i] = crank_draw_uniform(stream, 30 + (uint64_t)i) < 0.5f;
        online_pairs(scores, tau, n, order, depth, clicks, spare, d1);
        brute_force(scores, tau, n, order, depth, clicks, want);
        for (int i = 0; i < n; i++)
            if (!(fabs((double)d1[i] - want[i]) <= 1e-6 * fmax(1, fabs(want[i])))) fail_msg("trial %u, item %d: %g, not %g", trial, i, (double)d1[i], want[i]);
    }
}

/* Scores far apart: weights stay finite, and the swap that is all but impossible weighs nothing. */
static void pdgd_bears_scores_far_apart(void **state)
{
    (void)state;
    float   scores[] = {2000, -2000, 0}, d1[3] = {0};
    int32_t order[] = {0, 2, 1};
    uint8_t clicks[] = {0, 0, 1};
    double  spare[3], loss = online_pairs(scores, 1, 3, order, 3, clicks, spare, d1);
    assert_true(isfinite(loss));
    for (int i = 0; i < 3; i++) assert_true(isfinite((double)d1[i]) && fabs((double)d1[i]) < 1e-6);
}

static bool next_permutation(int32_t *order, int n)
{
    int i = n - 2, j = n - 1;
    while (i >= 0 && order[i] > order[i + 1]) i--;
    if (i < 0) return false;
    while (order[j] < order[i]) j--;
    int32_t t = order[i];
    order[i] = order[j], order[j] = t;
    for (int a = i + 1, b = n - 1; a < b; a++, b--) t = order[a], order[a] = order[b], order[b] = t;
    return true;
}

/* E[d1] over every order and every pattern of clicks of users who examine by place. */
static void expected(const float *scores, const double *relevance, int n, double *mean)
{
    int32_t order[MOST];
    double  spare[MOST];
    for (int i = 0; i < n; i++) order[i] = i, mean[i] = 0;
    do {
        double p = probability(scores, 1, order, n, n);
        for (int pattern = 0; pattern < 1 << n; pattern++) {
            uint8_t clicks[MOST];
            float   d1[MOST] = {0};
            double  here = p;
            for (int i = 0; i < n; i++) {
                double c = click_examination(1, i) * relevance[order[i]];
                clicks[i] = pattern >> i & 1;
                here *= clicks[i] ? c : 1 - c;
            }
            online_pairs(scores, 1, n, order, n, clicks, spare, d1);
            for (int i = 0; i < n; i++) mean[i] += here * (double)d1[i];
        }
    } while (next_permutation(order, n));
}

/* The theorem of the paper: items of one relevance are not moved against each other by where they stand, and others move the right way. */
static void the_bias_of_the_place_cancels_in_expectation(void **state)
{
    (void)state;
    static const float  scores[] = {1.5f, -0.5f, 0.2f, 0.9f};
    static const double same[] = {.5, .5, .5, .5}, pair[] = {.2, .9};
    double              mean[MOST];
    expected(scores, same, 4, mean);
    for (int i = 0; i < 4; i++)
        if (fabs(mean[i]) > 1e-7) fail_msg("item %d: %g", i, mean[i]);
    expected(scores, pair, 2, mean);
    assert_true(mean[0] > 1e-3 && mean[1] < -1e-3); /* descending: the second gains, though the first stands above it */
}

static void orders_are_drawn_by_their_probability(void **state)
{
    (void)state;
    enum { DRAWS = 20000 };
    static const float scores[] = {1, 0, -0.5f};
    static const int   orders[6][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
    int                counts[6] = {0};
    for (uint32_t k = 0; k < DRAWS; k++) {
        float   keys[3];
        int32_t order[3], spare[3];
        online_draw_order(crank_stream_make(1, CRANK_RANDOM_TEST, k), scores, 2, 3, keys, order, spare);
        for (int o = 0; o < 6; o++) counts[o] += order[0] == orders[o][0] && order[1] == orders[o][1];
    }
    for (int o = 0; o < 6; o++) {
        int32_t order[] = {orders[o][0], orders[o][1], orders[o][2]};
        double  p = probability(scores, 2, order, 3, 3);
        assert_true(fabs((double)counts[o] / DRAWS - p) < 4 * sqrt(p * (1 - p) / DRAWS));
    }
}

static void a_team_draft_gives_each_ranker_its_turn(void **state)
{
    (void)state;
    static const int32_t orders[3 * 5] = {0, 1, 2, 3, 4, 4, 3, 2, 1, 0, 0, 1, 2, 3, 4};
    int                  first[3] = {0};
    for (uint32_t k = 0; k < 3000; k++) {
        bool    taken[5];
        int32_t list[5], team[5], seen = 0;
        online_team_draft(crank_stream_make(2, CRANK_RANDOM_TEST, k), orders, 3, 5, 5, taken, list, team);
        for (int i = 0; i < 5; i++) seen |= 1 << list[i];
        assert_int_equal(seen, 31);
        assert_int_equal((1 << team[0]) | (1 << team[1]) | (1 << team[2]), 7);
        assert_true(team[3] != team[4]);
        assert_int_equal(list[0], team[0] == 1 ? 4 : 0);
        first[team[0]]++;
    }
    for (int r = 0; r < 3; r++) assert_true(abs(first[r] - 1000) < 110); /* 4 standard deviations */
}

/* One session of a linear ranker: w stays, or moves by the rate. */
static void dbgd_moves_by_its_rate_or_not_at_all(void **state)
{
    crank_context *context = *state;
    int            moved = 0;
    clicks_room    room;
    assert_ok(context, clicks_made_up(context, 3, &room));
    for (int64_t k = 0; k < 20; k++) {
        letor_set        *one = rank_take(context, room.train, &k, 1, NULL);
        rank_options     *o = clicks_ranker(context, (uint64_t)k, 0.3, 1, 1);
        unbiased_options *u = crank_options_new(context, unbiased_option_table, sizeof *u);
        click_simulator  *users = crank_options_new(context, click_simulator_table, sizeof *users);
        rank_fit          how = {.options = o};
        float             norm = 0;
        assert_ok(context, crank_options_set(context, rank_option_table, o, "model", "linear", "test"));
        assert_ok(context, crank_options_set(context, unbiased_option_table, u, "method", "dbgd", "test"));
        rank_net *net = unbiased_fit_simulated(context, &how, u, one, users, NULL, NULL, NULL, NULL);
        if (!net) fail_msg("%s", crank_message(context));
        float all[21];
        assert_int_equal(rank_net_size(net), 21);
        assert_ok(context, rank_net_get(net, all));
        for (int i = 0; i < 21; i++) norm += all[i] * all[i];
        assert_true(norm == 0 || fabsf(sqrtf(norm) - 0.3f) < 1e-5f);
        moved += norm > 0;
        rank_net_free(net);
        letor_free(one);
        crank_options_free(o), crank_options_free(u), crank_options_free(users);
    }
    assert_true(moved > 0 && moved < 20);
    clicks_room_free(&room);
}

static void both_learn_from_users(void **state)
{
    static const struct { const char *method, *model; int64_t candidates; double rate, least; } ways[] = {{"pdgd", "mlp", 1, 1e-2, .86}, {"pdgd", "linear", 1, 1e-2, .8}, {"dbgd", "linear", 1, .01, .76}, {"dbgd", "linear", 5, .01, .82}};
    crank_context *context = *state;
    clicks_room    room;
    assert_ok(context, clicks_made_up(context, 3, &room));
    for (size_t k = 0; k < sizeof ways / sizeof *ways; k++) {
        rank_options     *o = clicks_ranker(context, 1, ways[k].rate, 5, 32);
        unbiased_options *u = crank_options_new(context, unbiased_option_table, sizeof *u);
        click_simulator  *users = crank_options_new(context, click_simulator_table, sizeof *users);
        rank_fit          how = {.options = o};
        double            value;
        u->candidates = ways[k].candidates;
        assert_ok(context, crank_options_set(context, rank_option_table, o, "model", ways[k].model, "test"));
        assert_ok(context, crank_options_set(context, unbiased_option_table, u, "method", ways[k].method, "test"));
        rank_net *net = unbiased_fit_simulated(context, &how, u, room.train, users, NULL, NULL, NULL, NULL);
        if (!net) fail_msg("%s", crank_message(context));
        assert_ok(context, clicks_measure(net, room.test, &value));
        if (!(value > ways[k].least)) fail_msg("%s, %s: ndcg@10 %g", ways[k].method, ways[k].model, value);
        rank_net_free(net);
        crank_options_free(o), crank_options_free(u), crank_options_free(users);
    }
    clicks_room_free(&room);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pdgd_weights_equal_their_definition),
        cmocka_unit_test(pdgd_bears_scores_far_apart),
        cmocka_unit_test(the_bias_of_the_place_cancels_in_expectation),
        cmocka_unit_test(orders_are_drawn_by_their_probability),
        cmocka_unit_test(a_team_draft_gives_each_ranker_its_turn),
        cmocka_unit_test(dbgd_moves_by_its_rate_or_not_at_all),
        cmocka_unit_test(both_learn_from_users),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
