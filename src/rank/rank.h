/* rank.h - rankers of feature vectors: linear models, multi-layer perceptrons, self-attention over the list, and coordinate ascent.
 *
 *     linear              s = w x + b
 *     mlp                 x -> [norm] linear act [dropout] ... -> [norm] linear -> s            (norm: none, layer, batch)
 *     attention           x -> linear -> blocks (h += attention(norm h); h += mlp(norm h)) -> norm -> linear -> s; items of one list
 *                         see each other, without positions (allRank, Pobrotyn et al. 2020, arXiv:2005.10084)
 *     coordinate-ascent   s = w x, w moved along one axis at a time for the measure itself (Metzler & Croft 2007)
 *
 * Networks are trained by any list objective (crank/loss.h), or by gradients of scores that the caller makes: a step is a graph of two
 * segments, scores, and from the gradient of the scores the reverse pass and the updates. A run is fixed by its seed. */
#ifndef CRANK_RANK_RANK_H
#define CRANK_RANK_RANK_H

#include "crank/linear.h"
#include "crank/loss.h"
#include "crank/optim.h"
#include "data/letor.h"

typedef struct rank_options {
    const char *model, *features;
    const char *hidden, *activation, *norm;
    double      dropout;
    int64_t     width, blocks, heads, feed;
    int64_t     epochs, batch;
    double      rate, decay, clip;
    const char *schedule;
    int64_t     warmup;
    const char *measure;
    int64_t     patience;
    double      held_out;
    int64_t     seed;
    int64_t     restarts, trials;
    double      step, tolerance;
} rank_options;
extern const crank_option rank_option_table[];

/* ---- features ---- */

/* x -> (x' - shift) scale, x' = x or log10(1 + x - low); a missing value becomes 0. Values beyond what fitting saw are not cut. */
typedef struct rank_scaler {
    int64_t columns;
    bool    logged;
    float  *low, *shift, *scale; /* [columns] each, one block at `low` */
} rank_scaler;
/* kind: none, minmax (to [-1,1]), zscore, log (log10, then minmax). A column of one value gets scale 0. */
crank_status rank_scaler_fit(crank_context *context, const letor_set *set, const char *kind, rank_scaler *scaler);
void         rank_scaler_free(rank_scaler *scaler);
/* Row of the set, scaled: out [scaler->columns]. Columns that the set lacks are absent; more than the scaler knows are left out. */
void rank_row(const rank_scaler *scaler, const letor_set *set, int64_t row, float *spare, float *out);

/* ---- networks ---- */

typedef struct rank_net rank_net;
typedef struct rank_batch {
    int64_t        rows, lists;
    const int32_t *offsets; /* [lists + 1] */
    const float   *x;       /* [rows, columns], scaled */
} rank_batch;

/* A net with fresh weights; the scaler is taken over. NULL: message set. */
rank_net *rank_net_new(crank_context *context, const rank_options *options, rank_scaler *scaler);
void      rank_net_free(rank_net *net);
const rank_options *rank_net_options(const rank_net *net);
const rank_scaler  *rank_net_scaler(const rank_net *net);
crank_params       *rank_net_params(const rank_net *net);
crank_context      *rank_net_context(const rank_net *net);
/* Scores of a batch, or of all rows of a set: [rows] */
crank_status rank_net_forward(rank_net *net, const rank_batch *batch, float *scores);
crank_status rank_net_scores(rank_net *net, const letor_set *set, float *scores);
/* Weights (and running averages) as one block, to keep the best and come back to it. */
size_t       rank_net_size(const rank_net *net); /* floats */
crank_status rank_net_get(rank_net *net, float *values);
crank_status rank_net_set(rank_net *net, const float *values);

/* Steps: forward gives scores, backward takes their gradient (of the numerator), divides it by the denominator, clips and updates. */
typedef struct rank_trainer rank_trainer;
rank_trainer *rank_trainer_new(rank_net *net, const char *optimizer, const void *optimizer_options);
void          rank_trainer_free(rank_trainer *trainer);
crank_status  rank_trainer_forward(rank_trainer *trainer, const rank_batch *batch, float *scores);
crank_status  rank_trainer_backward(rank_trainer *trainer, const float *d1, double denominator, double rate);

/* ---- batches of lists ---- */

/* Distinct lists of a set by number, as a batch; memory is the feeder's. labels and weights are gathered too. */
typedef struct rank_feeder {
    const letor_set *set;
    const rank_scaler *scaler;
    float   *x, *labels, *weights, *spare;
    int32_t *offsets;
    int64_t *rows;      /* [rows]: row of the set of each item */
    int64_t  row_room, list_room;
} rank_feeder;
crank_status rank_feeder_open(crank_context *context, const letor_set *set, const rank_scaler *scaler, int64_t most_lists, rank_feeder *feeder);
void         rank_feeder_close(rank_feeder *feeder);
rank_batch   rank_feed(rank_feeder *feeder, const int64_t *lists, int64_t count);
/* A copy of some lists (NULL: the first `count`), of their rows those with keep[row] (NULL: all): values, labels, weights. letor_free. */
letor_set   *rank_take(crank_context *context, const letor_set *set, const int64_t *lists, int64_t count, const bool *keep);

/* ---- fitting ---- */

/* After each epoch (or sweep): the loss, and the measure on validation data (NaN: none). */
typedef void rank_progress(void *user, int64_t epoch, double loss, double measure);
typedef struct rank_fit {
    const rank_options         *options;
    const crank_list_objective *objective;
    const void                 *objective_options;
    const char                 *optimizer; /* NULL: adamw */
    const void                 *optimizer_options;
    rank_progress              *progress; /* may be NULL */
    void                       *user;
    crank_status              (*judge)(void *user, const float *scores, double *value); /* NULL: options->measure of validation labels */
    void                       *judge_user;
    double                      best;      /* out: the measure on validation data of the weights that are kept; NaN: none */
    int64_t                     epochs;    /* out: epochs that made them */
} rank_fit;
/* valid may be NULL: options->held_out of the queries, drawn by the seed, are then held out (0: none). */
rank_net *rank_net_fit(crank_context *context, rank_fit *how, const letor_set *train, const letor_set *valid);

/* ---- files ---- */

/* One safetensors file with the options as metadata. */
crank_status rank_net_save(crank_context *context, const rank_net *net, const char *path);
rank_net    *rank_net_load(crank_context *context, const char *path);
bool         rank_net_is(const char *path); /* whether the file may be one: it is no text */
#endif
