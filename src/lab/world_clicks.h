/* world_clicks.h - lists with grades, a weak first ranker, and users who click on its order: the world of experiments on clicks. */
#ifndef CRANK_LAB_WORLD_CLICKS_H
#define CRANK_LAB_WORLD_CLICKS_H

#include "lab/lab.h"
#include "rank/unbiased.h"

/* One set of lists: what clicks are simulated on, in which order, and what is measured. */
typedef struct clicks_room {
    letor_set *train, *valid, *test; /* valid may be NULL */
    float     *order;                /* [train->rows]: scores of the first ranker */
    double     first;                /* NDCG@10 of the first ranker on test */
} clicks_room;
void clicks_room_free(clicks_room *room);

/* 2,000 and 1,000 lists of 10 items, 20 normal columns, grades by thresholds of w x + (v1 x)(v2 x) + .7 sin(2 v3 x) + .5 noise; the first
 * ranker is RankNet on 20 lists. */
crank_status clicks_made_up(crank_context *context, uint64_t seed, clicks_room *room);
/* Yandex's features (../shared/data, or $CRANK_DATA): labels as grades 0 to 4: 0, to .07, to .14, to .41, above; the first ranker is
 * RankNet on 3 % of the queries, a fifth is held out. */
crank_status clicks_yandex(crank_context *context, uint64_t seed, clicks_room *room);
/* NDCG@10 on test. */
crank_status clicks_measure(rank_net *net, const letor_set *test, double *value);
/* The ranker of these experiments: MLP 32 ELU, batch 64. crank_options_free. */
rank_options *clicks_ranker(crank_context *context, uint64_t seed, double rate, int64_t epochs, int64_t batch);
#endif
