/* Evaluation by clicks alone: estimates against what true labels say in simulation, intervals, and early stopping without labels. */
#include "testing.h"

#include "crank/metric.h"
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

enum { ITEMS = 10, ROUNDS = 8 };

typedef struct scene {
    clicks_room      room;
    click_simulator *users;
    click_log       *log;
    click_curve     *truth, *flat;
    float           *better; /* [rows]: the first ranker's scores with a part of the labels */
    click_earned    *a, *b;
} scene;

static void open_scene(crank_context *context, scene *s, int64_t depth, uint64_t first)
{
    assert_ok(context, clicks_made_up(context, 3, &s->room));
    const letor_set *set = s->room.train;
    s->users = crank_options_new(context, click_simulator_table, sizeof *s->users);
    s->users->depth = depth;
    s->log = unbiased_simulate(context, set, s->users, s->room.order, false, first, ROUNDS);
    assert_non_null(s->log);
    s->truth = click_curve_new(context, 1, ITEMS), s->flat = click_curve_new(context, 1, 1);
    for (int i = 0; i < ITEMS; i++) s->truth->value[i] = click_examination(1, i) / click_examination(1, 0);
    s->flat->value[0] = 1;
    s->better = malloc((size_t)set->rows * sizeof *s->better);
    for (int64_t i = 0; i < set->rows; i++) s->better[i] = s->room.order[i] + 0.8f * set->labels[i];
    s->a = malloc((size_t)set->queries * sizeof *s->a), s->b = malloc((size_t)set->queries * sizeof *s->b);
}

static void close_scene(scene *s)
{
    click_log_free(s->log);
    click_curve_free(s->truth), click_curve_free(s->flat);
    crank_options_free(s->users);
    clicks_room_free(&s->room);
    free(s->better), free(s->a), free(s->b);
}

/* Expected clicks at examination of place 1 times the discount of the rank: what IPS estimates, and its share of all relevance (SNIPS). */
static void by_labels(const scene *s, const float *scores, int64_t at, double *dcg, double *share)
{
    const letor_set *set = s->room.train;
    double           sum = 0, all = 0;
    for (int64_t q = 0; q < set->queries; q++) {
        int64_t first = set->offsets[q], n = set->offsets[q + 1] - first;
        int32_t order[2 * ITEMS];
        crank_rank_order(scores + first, order, order + n, n);
        for (int64_t r = 0; r < n; r++) {
            double p = click_examination(1, 0) * click_relevance(s->users, (double)set->labels[first + order[r]]);
            all += p;
            sum += at && r >= at ? 0 : p / log2((double)r + 2);
        }
    }
    *dcg = sum / (double)set->queries, *share = sum / all;
}

static void estimates_hold_what_true_labels_say(void **state)
{
    crank_context *context = *state;
    scene          s;
    open_scene(context, &s, ITEMS, 0);
    for (int k = 0; k < 4; k++) { /* DCG@5 and of all; ranks of the session and of the query are the same: all items are shown */
        click_estimate_options how = {.at = k & 1 ? 5 : 0, .whole = k & 2};
        click_intervals        in;
        double                 dcg, share, first_dcg, first_share;
        assert_ok(context, click_earn(context, s.log, s.room.train, s.better, s.truth, &how, s.a));
        assert_ok(context, click_earn(context, s.log, s.room.train, NULL, s.truth, &how, s.b));
        assert_ok(context, click_bootstrap(context, s.a, s.b, s.log->queries, 400, 1, &in));
        click_estimate a = click_estimate_of(s.a, NULL, s.log->queries), b = click_estimate_of(s.b, NULL, s.log->queries);
        by_labels(&s, s.better, how.at, &dcg, &share);
        by_labels(&s, s.room.order, how.at, &first_dcg, &first_share);
        /* 2 half intervals are about four standard errors */
        if (fabs(a.ips - dcg) > in.ips.high - in.ips.low) fail_msg("IPS %g, labels %g, interval %g %g", a.ips, dcg, in.ips.low, in.ips.high);
        if (fabs(a.snips - share) > in.snips.high - in.snips.low) fail_msg("SNIPS %g, labels %g", a.snips, share);
        if (fabs(a.ips - b.ips - (dcg - first_dcg)) > in.ips_less.high - in.ips_less.low) fail_msg("difference %g, labels %g", a.ips - b.ips, dcg - first_dcg);
        if (fabs(a.snips - b.snips - (share - first_share)) > in.snips_less.high - in.snips_less.low) fail_msg("difference %g, labels %g", a.snips - b.snips, share - first_share);
        assert_true(in.ips_less.low > 0 && in.snips_less.low > 0); /* the better ranker is found to be better */
        assert_true(a.effective > 0 && a.effective < a.clicks);
        if (how.at) continue;
        /* plain clicks praise the order shown: far above the truth */
        assert_ok(context, click_earn(context, s.log, s.room.train, NULL, s.flat, &how, s.b));
        assert_true(click_estimate_of(s.b, NULL, s.log->queries).snips > first_share + 10 * (in.snips.high - in.snips.low));
    }
    close_scene(&s);
}

/* Of 60 logs of other sessions, the 95 % interval of the difference holds the truth in at least 51 (p < .001 for fewer by chance). */
static void intervals_cover_the_truth(void **state)
{
    enum { LOGS = 60 };
    crank_context         *context = *state;
    click_estimate_options how = {.at = 10};
    scene                  s;
    int                    held = 0;
    double                 dcg, share, first_dcg, first_share;
    open_scene(context, &s, ITEMS, 0);
    by_labels(&s, s.better, how.at, &dcg, &share);
    by_labels(&s, s.room.order, how.at, &first_dcg, &first_share);
    for (int k = 0; k < LOGS; k++) {
        click_intervals in;
        click_log_free(s.log);
        s.log = unbiased_simulate(context, s.room.train, s.users, s.room.order, false, (uint64_t)(1 + k) << 24, 1);
        assert_ok(context, click_earn(context, s.log, s.room.train, s.better, s.truth, &how, s.a));
        assert_ok(context, click_earn(context, s.log, s.room.train, NULL, s.truth, &how, s.b));
        assert_ok(context, click_bootstrap(context, s.a, s.b, s.log->queries, 100, (uint64_t)k, &in));
        held += in.snips_less.low <= share - first_share && share - first_share <= in.snips_less.high;
    }
    if (held < 51) fail_msg("%d of %d", held, LOGS);
    close_scene(&s);
}

static void weights_are_cut_and_counted_by_hand(void **state)
{
    crank_context       *context = *state;
    static const int32_t items[] = {0, 1, 2}, places[] = {0, 2, 4};
    static const uint8_t clicks[] = {1, 0, 1};
    float                scores[] = {0, 1, 2}; /* item 2 first, then 1, then 0 */
    click_log           *log = click_log_new(context, 1, 3);
    click_curve         *curve = click_curve_new(context, 1, 5);
    click_earned         earned;
    for (int i = 0; i < 5; i++) curve->value[i] = 0.8 / (1 << i); /* weights 1, 2, 4, 8, 16 */
    assert_ok(context, click_log_add(context, log, 0, 0, items, places, clicks, 3));
    click_estimate_options how = {.most = 10, .at = 2};
    assert_ok(context, click_earn(context, log, NULL, scores, curve, &how, &earned));
    assert_true(earned.sessions == 1 && earned.clicks == 2 && earned.weight == 11 && earned.squares == 101 && earned.gain == 10); /* item 0 is at rank 3 */
    how = (click_estimate_options){0};
    assert_ok(context, click_earn(context, log, NULL, NULL, curve, &how, &earned));
    assert_true(fabs(earned.gain - (1 + 16 / log2(4))) < 1e-12); /* shown third */
    click_estimate e = click_estimate_of(&earned, NULL, 1);
    assert_true(fabs(e.effective - 17. * 17 / 257) < 1e-12 && fabs(e.snips - 9. / 17) < 1e-12 && fabs(e.ips - 9) < 1e-12);
    scores[1] = NAN;
    assert_int_equal(click_earn(context, log, NULL, scores, curve, &how, &earned), CRANK_BAD_DATA);
    click_curve_free(curve);
    click_log_free(log);
}

/* Overfitting clicks of few queries: the epoch that clicks of queries held out choose is nearly as good by labels as the best one. */
static void clicks_held_out_stop_the_learning(void **state)
{
    crank_context *context = *state;
    scene          s;
    open_scene(context, &s, ITEMS, 0);
    int64_t lists[240];
    for (int i = 0; i < 240; i++) lists[i] = i;
    letor_set *few = rank_take(context, s.room.train, lists, 240, NULL);
    click_log *log = click_log_take(context, s.log, s.room.train, lists, 240);
    assert_non_null(few);
    assert_non_null(log);
    static const char *const methods[] = {"ipw", "dla", "naive"};
    double                   stopped[3], last[3];
    for (int k = 0; k < 6; k++) {
        rank_options     *o = clicks_ranker(context, 1, 2e-2, 60, 16);
        unbiased_options *u = crank_options_new(context, unbiased_option_table, sizeof *u);
        rank_fit          how = {.options = o};
        assert_ok(context, crank_options_set(context, unbiased_option_table, u, "method", methods[k / 2], "test"));
        o->held_out = k % 2 ? 0 : 0.3, o->patience = 5;
        rank_net *net = unbiased_fit(context, &how, u, few, log, k / 2 ? NULL : s.truth, NULL, NULL);
        if (!net) fail_msg("%s", crank_message(context));
        assert_true(k % 2 ? isnan(how.best) : how.best > 0.3 && how.best < 1 && how.epochs < 60);
        assert_ok(context, clicks_measure(net, s.room.test, k % 2 ? last + k / 2 : stopped + k / 2));
        rank_net_free(net);
        crank_options_free(o), crank_options_free(u);
    }
    for (int m = 0; m < 2; m++) /* on 168 queries the stopped run beats the last epoch of one that has all 240 */
        if (!(stopped[m] > last[m])) fail_msg("%s: stopped %g, last epoch %g", methods[m], stopped[m], last[m]);
    click_log_free(log);
    letor_free(few);
    close_scene(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(estimates_hold_what_true_labels_say),
        cmocka_unit_test(intervals_cover_the_truth),
        cmocka_unit_test(weights_are_cut_and_counted_by_hand),
        cmocka_unit_test(clicks_held_out_stop_the_learning),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
