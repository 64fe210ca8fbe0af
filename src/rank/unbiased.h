/* unbiased.h - learning to rank from biased clicks: dual learning and its field.
 *
 * s: scores of the items shown, in the order in which they were shown; c: clicks; p: logits of examination by place (and context).
 *
 *   naive          sum over clicks of -log softmax(s)_i
 *   ipw            the same, each click times e^{p_1} / e^{p_i} with p known (or measured on randomised sessions)
 *   dla            Ai et al. 2018 (arXiv:1804.05938): ipw with p learnt in the same step from the dual loss, clicks times e^{s_1} / e^{s_i}
 *                  times -log softmax(p)_i; neither gradient reaches into the other's weights
 *   regression-em  Wang et al. 2018: g = sigmoid(s); no click: P(r) = (1-e) g / (1 - e g), P(o) = e (1-g) / (1 - e g); a click: both 1.
 *                  Logistic loss of s on P(r); e <- (1 - tau) e + tau mean P(o) at the place
 *   pair-debias    Hu et al. 2019: sum over clicked i, others j of L_ij / (t+_i t-_j), L = log(1 + e^{-(s_i - s_j)});
 *                  t+_i <- (1 - tau) t+_i + tau [sum_j L_ij / t-_j relative to place 1]^{1 / (power + 1)}, t- the same way round
 *   labels         -sum (2^y - 1) log softmax(s)_i of the true labels: the oracle
 *
 * Each batch's loss is divided by the sum of its weights. The losses of naive, ipw and dla may be pairwise or pointwise instead of softmax. */
#ifndef CRANK_RANK_UNBIASED_H
#define CRANK_RANK_UNBIASED_H

#include "click/click.h"
#include "rank/rank.h"

typedef struct unbiased_options {
    const char *method, *loss, *logits;
    double      propensity_rate, most, tau, power, temperature, delta;
    bool        online;
    int64_t     refresh, candidates;
} unbiased_options;
extern const crank_option unbiased_option_table[];

typedef struct unbiased unbiased;
/* curve: what ipw weighs by, what dla starts from (NULL: all places alike). places: of a session at most. */
unbiased    *unbiased_new(rank_net *net, const unbiased_options *options, const char *optimizer, const void *optimizer_options, const click_curve *curve,
                          int64_t contexts, int64_t places);
void         unbiased_free(unbiased *learner);
/* One step on some sessions of a log over the set. Sessions without a click teach nothing and are left out, but for regression-em.
 * rate: of this step; that of the examination stands to its option as rate to the ranker's. */
crank_status unbiased_step(unbiased *learner, const letor_set *set, const click_log *log, const int64_t *sessions, int64_t count, double rate, double *loss);
/* The examination curve as it stands; click_curve_free. */
click_curve *unbiased_curve(const unbiased *learner, crank_context *context);

/* Learns from a log; how->options as for any network, an epoch is a pass over the sessions. *curve (may be NULL): what was learnt. Without
 * `valid`, sessions of options->held_out of the queries judge the epochs by SNIPS of DCG, cut where the measure is (how->best). */
rank_net *unbiased_fit(crank_context *context, rank_fit *how, const unbiased_options *options, const letor_set *set, const click_log *log, const click_curve *known,
                       const letor_set *valid, click_curve **curve);
/* The same from users who are simulated on the fly: a session of each list an epoch, on the order of `order` [rows] (scores), or, online, of
 * the ranker itself, taken anew every `refresh` epochs. pdgd and dbgd (online.h) learn from such users alone. */
rank_net *unbiased_fit_simulated(crank_context *context, rank_fit *how, const unbiased_options *options, const letor_set *set, const click_simulator *users,
                                 const float *order, const click_curve *known, const letor_set *valid, click_curve **curve);
/* Sessions of simulated users, `rounds` a list, on the order of scores (NULL: file order); random: in random order instead. */
click_log *unbiased_simulate(crank_context *context, const letor_set *set, const click_simulator *users, const float *order, bool random, uint64_t first, int64_t rounds);
#endif
