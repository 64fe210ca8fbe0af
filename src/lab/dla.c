/* dla.c - experiment: examination and relevance learnt together from biased clicks (arXiv:1804.05938). */
#include <math.h>
#include <string.h>

#include "lab/world_clicks.h"

typedef struct world {
    clicks_room made_up, yandex;
} world;

static crank_status prepare(lab_trial *trial)
{
    world       *w = trial->world;
    crank_status status = clicks_made_up(trial->context, trial->seed, &w->made_up);
    return status == CRANK_OK ? clicks_yandex(trial->context, trial->seed, &w->yandex) : status;
}

static void release(void *room)
{
    world *w = room;
    clicks_room_free(&w->made_up), clicks_room_free(&w->yandex);
}

enum { FIRST_RANKER, TRAINED, KNOWN, RANDOMISED };

/* Examination that ipw weighs by: the truth, or clicks by place in 50 rounds of sessions in random order. */
static click_curve *known_curve(lab_trial *trial, const clicks_room *room, const click_simulator *users)
{
    if (trial->method->number == KNOWN) {
        click_curve *curve = click_curve_new(trial->context, 1, users->depth);
        for (int64_t i = 0; curve && i < users->depth; i++) curve->value[i] = click_examination(users->eta, i) / click_examination(users->eta, 0);
        return curve;
    }
    click_log   *log = unbiased_simulate(trial->context, room->train, users, NULL, true, UINT64_C(1) << 40, 50);
    click_curve *curve = log ? click_curve_of_random(trial->context, log) : NULL;
    click_log_free(log);
    return curve;
}

/* The largest error of the ratios to place 1 at the first 8 places. */
static double curve_error(const click_curve *curve, const click_simulator *users)
{
    double worst = 0;
    for (int64_t i = 0; i < 8; i++) worst = fmax(worst, fabs(click_curve_at(curve, 0, i) / click_curve_at(curve, 0, 0) - click_examination(users->eta, i) / click_examination(users->eta, 0)));
    return worst;
}

/* 2,000 steps of 64 sessions or about so; early stopping where data are held out. */
static crank_status learn(lab_trial *trial, const clicks_room *room, const char *metric, const char *error)
{
    crank_context    *context = trial->context;
    const lab_method *method = trial->method;
    int64_t           batches = (room->train->queries + 63) / 64;
    rank_options     *ranker = clicks_ranker(context, trial->seed, trial->rate, 2000 / batches, 64);
    click_simulator  *users = crank_options_new(context, click_simulator_table, sizeof *users);
    unbiased_options *how = crank_options_new(context, unbiased_option_table, sizeof *how);
    click_curve      *known = NULL, *found = NULL;
    rank_net         *net = NULL;
    double            value = 0;
    crank_status      status = ranker && users && how ? crank_options_set(context, unbiased_option_table, how, "method", method->optimizer_options, "experiment") : CRANK_FAILED;
    if (status == CRANK_OK) users->seed = (int64_t)trial->seed, ranker->patience = ranker->epochs, ranker->schedule = "cosine"; /* the best epoch of all */
    if (status == CRANK_OK) how->propensity_rate = 2e-2; /* it falls along the cosine too: the card's 1e-2 in the mean */
    if (status == CRANK_OK && method->number >= KNOWN && !(known = known_curve(trial, room, users))) status = crank_last_status(context);
    rank_fit fit = {.options = ranker};
    if (status == CRANK_OK) net = unbiased_fit_simulated(context, &fit, how, room->train, users, room->order, known, room->valid, &found);
    if (net) trial->trained = (int64_t)rank_net_size(net);
    if (status == CRANK_OK) status = net ? clicks_measure(net, room->test, &value) : crank_last_status(context);
    if (status == CRANK_OK) status = lab_measure(trial, metric, value);
    bool learns = !strcmp(method->optimizer_options, "dla") || !strcmp(method->optimizer_options, "regression-em");
    if (status == CRANK_OK && (learns || known)) status = lab_measure(trial, error, curve_error(learns ? found : known, users));
    rank_net_free(net);
    click_curve_free(known), click_curve_free(found);
    crank_options_free(ranker), crank_options_free(users), crank_options_free(how);
    return status;
}

static crank_status try_method(lab_trial *trial)
{
    world       *w = trial->world;
    crank_status status;
    if (trial->method->number == FIRST_RANKER) {
        status = lab_measure(trial, "ndcg@10", w->made_up.first);
        return status == CRANK_OK ? lab_measure(trial, "Yandex ndcg@10", w->yandex.first) : status;
    }
    status = learn(trial, &w->made_up, "ndcg@10", "ratio error");
    return status == CRANK_OK ? learn(trial, &w->yandex, "Yandex ndcg@10", "Yandex ratio error") : status;
}

static const lab_world clicks = {.name = "clicks", .size = sizeof(world), .prepare = prepare, .trial = try_method, .release = release};

static const double grid[] = {5e-4, 1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2, 3.2e-2, 0};

/* optimizer_options: the method of unbiased.h. */
#define METHOD(title, kind, how, tuned) {.name = title, .optimizer_options = kind, .number = how, .rate = tuned}
static const lab_method methods[] = {
    {.name = "first ranker", .optimizer_options = "", .number = FIRST_RANKER},
    METHOD("naive", "naive", TRAINED, 0.004),
    METHOD("IPW, known", "ipw", KNOWN, 0.008),
    METHOD("IPW, randomised", "ipw", RANDOMISED, 0.008),
    METHOD("regression-EM", "regression-em", TRAINED, 0.004),
    METHOD("PairDebias", "pair-debias", TRAINED, 0.016),
    METHOD("DLA", "dla", TRAINED, 0.008),
    METHOD("labels", "labels", TRAINED, 0.032),
    {0},
};

/* Whether DLA is above IPW with randomised propensities by more than two standard errors of the seeds' differences. */
static bool beats_randomised(lab *run, const char *metric)
{
    enum { SEEDS = 64 };
    double difference[SEEDS], mean = 0, squares = 0;
    int    n = run->seeds < SEEDS ? run->seeds : SEEDS;
    for (int i = 0; i < n; i++) {
        difference[i] = lab_value(run, "DLA", metric, i) - lab_value(run, "IPW, randomised", metric, i);
        mean += difference[i] / n;
    }
    for (int i = 0; i < n; i++) squares += (difference[i] - mean) * (difference[i] - mean);
    return n > 1 && mean > 2 * sqrt(squares / (n - 1) / n);
}

static void judge(lab *run)
{
    double dla = lab_mean(run, "DLA", "ndcg@10"), naive = lab_mean(run, "naive", "ndcg@10"), oracle = lab_mean(run, "labels", "ndcg@10");
    double real = lab_mean(run, "DLA", "Yandex ndcg@10");
    lab_expect(run, "DLA less naive (NDCG@10)", dla - naive, LAB_AT_LEAST, 0.012);
    lab_expect(run, "DLA less labels", dla - oracle, LAB_AT_MOST, 0.005);
    lab_expect(run, "IPW with the known curve less labels", lab_mean(run, "IPW, known", "ndcg@10") - oracle, LAB_AT_MOST, 0.005);
    lab_expect(run, "largest error of DLA's ratios at the first 8 places", lab_mean(run, "DLA", "ratio error"), LAB_AT_MOST, 0.1);
    lab_expect(run, "Yandex: DLA less naive", real - lab_mean(run, "naive", "Yandex ndcg@10"), LAB_AT_LEAST, 0.012);
    lab_expect(run, "Yandex: largest error of DLA's ratios", lab_mean(run, "DLA", "Yandex ratio error"), LAB_AT_MOST, 0.1);
    lab_paper(run, beats_randomised(run, "ndcg@10") && beats_randomised(run, "Yandex ndcg@10"), "above IPW with randomised propensities by more than two standard errors",
              "DLA is not above IPW with randomised propensities by more than two standard errors in both data sets; the paper's sets and click models are larger");
}

const lab_experiment lab_dla = {
    .name = "dla",
    .paper = "arXiv:1804.05938",
    .claim = "a ranker and the examination of places learnt together from clicks beat naive clicks, and need no randomised sessions",
    .setup = "clicks of position-biased users on the order of a weak first ranker: 2,000 made-up lists of 10, and Yandex's features; MLP of 32, 2,000 steps of "
             "64 sessions, cosine; NDCG@10 on the true labels of test lists",
    .threshold = "DLA >= naive + 0.012; DLA and IPW <= labels + 0.005; DLA's ratios within 0.1 of the truth at the first 8 places; the first and the last on Yandex too",
    .reason = "the card's, measured there with 2 seeds: naive .911/.928, DLA .933/.942, IPW .936/.941, labels .948/.944, ratios within 0.1; Yandex is held to the same",
    .world = &clicks,
    .seeds = 5,
    .methods = methods,
    .grid = grid,
    .metric = "ndcg@10",
    .judge = judge,
};
