/* net.h - the inside of a ranker: its layers, and the graphs that run them. */
#ifndef CRANK_RANK_NET_H
#define CRANK_RANK_NET_H

#include "nn/nn.h"
#include "rank/rank.h"

typedef enum rank_model { RANK_LINEAR, RANK_MLP, RANK_ATTENTION, RANK_ASCENT } rank_model;

/* One layer of an mlp with the norm in front of it. */
typedef struct rank_layer {
    nn_norm       norm;              /* layer norm; weight NULL: none */
    crank_param  *weight, *bias, *mean, *variance; /* batch norm [in]; NULL: none */
    crank_linear *linear;
} rank_layer;

/* A forward pass recorded for a number of rows and lists, both rounded up; what is beyond a batch is zeros in a list of its own. */
typedef struct rank_graph {
    crank_graph  *graph;
    int64_t       rows, lists;
    crank_tensor *x, *segments, *valid, *counts; /* inputs; segments for attention, valid and counts for batch norm */
    crank_tensor *scores;  /* [rows], kept */
    crank_tensor *d1;      /* input of the second segment, or NULL */
} rank_graph;

typedef struct rank_graphs {
    rank_graph *items;
    size_t      count, room;
    crank_pool *pool;
    float      *x, *one;   /* host side of inputs */
    int32_t    *segments;
    size_t      x_room, one_room, segment_room;
} rank_graphs;

struct rank_net {
    crank_context *context;
    rank_options  *options;
    rank_model     model;
    rank_scaler    scaler;
    crank_device  *device;
    crank_params  *params;
    crank_linears *linears;
    rank_layer    *layers;   /* of an mlp; a linear model is one layer */
    int            layer_count;
    crank_linear  *input;    /* attention */
    nn_block      *blocks;
    nn_norm        last_norm;
    rank_graphs    graphs;   /* for scoring */
};

/* x [rows, columns] -> scores [rows] */
crank_tensor *rank_net_record(rank_net *net, rank_graph *graph);
/* A graph that holds the batch, made or found; `record` adds to a new one (may be NULL). NULL: message set. */
rank_graph   *rank_graphs_get(rank_net *net, rank_graphs *graphs, const rank_batch *batch, bool training, crank_status (*record)(void *user, rank_graph *graph),
                              void *user);
crank_status  rank_graphs_write(rank_net *net, rank_graphs *graphs, rank_graph *graph, const rank_batch *batch);
/* Scores of the batch's rows after the run. */
crank_status  rank_graphs_read(rank_graphs *graphs, const rank_graph *graph, const rank_batch *batch, float *scores);
void          rank_graphs_free(rank_graphs *graphs);

/* ---- what fits share ---- */

typedef struct rank_keeper {
    rank_net        *net;
    rank_fit        *how;
    const letor_set *valid;
    float           *scores, *best;
    bool             keeps;
} rank_keeper;
crank_status rank_keeper_open(rank_keeper *keeper, rank_net *net, rank_fit *how, const letor_set *valid);
crank_status rank_keeper_judge(rank_keeper *keeper, int64_t epoch, double loss, bool *stop); /* after an epoch */
crank_status rank_keeper_end(rank_keeper *keeper);                                           /* the best weights come back */
void         rank_keeper_close(rank_keeper *keeper);
double       rank_rate(const rank_options *options, int64_t step, int64_t steps);

rank_net *rank_ascent_fit(crank_context *context, rank_fit *how, const letor_set *train, const letor_set *valid);
/* The mean of the options' measure over the lists of a set; scores [rows]. */
crank_status rank_measure(crank_context *context, const char *measure, const letor_set *set, const float *scores, double *value);
#endif
