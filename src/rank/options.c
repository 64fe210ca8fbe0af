/* options.c - the table of a ranker's options. */
#include "rank/rank.h"

const crank_option rank_option_table[] = {
    CRANK_CHOICE(rank_options, model, "mlp", "linear|mlp|attention|coordinate-ascent", "the ranker"),
    CRANK_CHOICE(rank_options, features, "zscore", "none|minmax|zscore|log", "how columns are scaled: as they are, to [-1,1], to mean 0 and deviation 1, log10(1 + x - min) to [-1,1]"),
    CRANK_LIST(rank_options, hidden, "64\n32", "mlp: outputs of the hidden layers"),
    CRANK_CHOICE(rank_options, activation, "elu", "relu|elu|tanh|sigmoid|gelu|silu", "mlp: between layers"),
    CRANK_CHOICE(rank_options, norm, "none", "none|layer|batch", "mlp: in front of every layer"),
    CRANK_FLOAT(rank_options, dropout, 0, 0, 0.95, "share of hidden values set to 0 in training"),
    CRANK_INT(rank_options, width, 64, 1, 8192, "attention: width of the blocks"),
    CRANK_INT(rank_options, blocks, 2, 1, 64, "attention: number of blocks"),
    CRANK_INT(rank_options, heads, 2, 1, 64, "attention: heads; they divide the width"),
    CRANK_INT(rank_options, feed, 128, 1, 65536, "attention: hidden width of a block's feed-forward part"),
    CRANK_INT(rank_options, epochs, 50, 1, 1000000, "passes over the lists at most"),
    CRANK_INT(rank_options, batch, 32, 1, 1000000, "lists a step"),
    CRANK_FLOAT(rank_options, rate, 2e-3, 0, 1e6, "learning rate"),
    CRANK_FLOAT(rank_options, decay, 0, 0, 1e3, "weight decay"),
    CRANK_FLOAT(rank_options, clip, 5, 0, 1e9, "largest norm of a step's gradient; 0: any"),
    CRANK_CHOICE(rank_options, schedule, "constant", "constant|linear|cosine", "how the rate falls over all epochs"),
    CRANK_INT(rank_options, warmup, 0, 0, 1000000000, "steps in which the rate rises"),
    CRANK_STRING(rank_options, measure, "ndcg@10", "of validation data, and what coordinate ascent climbs: ndcg@K, dcg, map, mrr, err, p, recall"),
    CRANK_INT(rank_options, patience, 10, 0, 1000000, "epochs without a better validation measure before the run ends; 0: no end, the last weights are kept"),
    CRANK_FLOAT(rank_options, held_out, 0, 0, 0.9, "share of the queries held out for validation where no data are given"),
    CRANK_INT(rank_options, seed, 1, 0, 9e15, "of weights, order of lists, dropout, starting points"),
    CRANK_INT(rank_options, restarts, 5, 1, 10000, "coordinate-ascent: starting points, the first is equal weights"),
    CRANK_INT(rank_options, trials, 25, 1, 60, "coordinate-ascent: steps along one axis, each twice the one before"),
    CRANK_FLOAT(rank_options, step, 0.001, 1e-12, 1e6, "coordinate-ascent: the first step"),
    CRANK_FLOAT(rank_options, tolerance, 0.001, 0, 1, "coordinate-ascent: a sweep that gains less ends the climb"),
    CRANK_END
};
