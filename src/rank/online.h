/* online.h - rankers that learn while users use them: each step shows an order of its own making and learns from the clicks on it.
 *
 *   pdgd   pairwise differentiable gradient descent (Oosterhuis & de Rijke 2018, arXiv:1809.00656). The order R is drawn without replacement
 *          from softmax(tau s). A clicked item l is preferred to every unclicked k that stands at most one place below it:
 *              loss = - sum w e^{s_l} / (e^{s_l} + e^{s_k}),   w = P(R*) / (P(R) + P(R*)),   R*: R with l and k swapped
 *          w takes out that items are examined by their place: pairs of equally relevant items cancel
 *   dbgd   dueling bandits (Yue & Joachims 2009), with several candidates multileaving (Schuth et al. 2016): candidates w + delta u, u drawn
 *          on the unit sphere; a team draft of all rankers' orders is shown, an item's click is its team's. w moves by the rate along the mean
 *          u of the candidates with more clicks than w itself has */
#ifndef CRANK_RANK_ONLINE_H
#define CRANK_RANK_ONLINE_H

#include "rank/unbiased.h"

enum { ONLINE_MOST_RANKERS = 33 };

bool online_is(const char *method); /* one of the above */

/* order [n]: all items, the first `depth` of which are shown. Draws 0 .. n-1 of the stream. keys [n] is overwritten. */
void   online_draw_order(crank_stream stream, const float *scores, double tau, int64_t n, float *keys, int32_t *order, int32_t *spare);
/* Gradient of pdgd's loss by the scores: adds to d1 [n]. clicks [depth] are of order[0 .. depth-1]; spare [n]. Returns the loss. */
double online_pairs(const float *scores, double tau, int64_t n, const int32_t *order, int64_t depth, const uint8_t *clicks, double *spare, float *d1);
/* Team draft: in each round the rankers, in drawn order, add their best item that is not yet there. orders [rankers, n] -> list, team
 * [depth]. taken [n]. Draws 0 .. depth + rankers - 1 of the stream. */
void   online_team_draft(crank_stream stream, const int32_t *orders, int64_t rankers, int64_t n, int64_t depth, bool *taken, int32_t *list, int32_t *team);

/* Learns from simulated users; a session of each list an epoch. */
rank_net *online_fit(crank_context *context, rank_fit *how, const unbiased_options *options, const letor_set *set, const click_simulator *users, const letor_set *valid);
#endif
