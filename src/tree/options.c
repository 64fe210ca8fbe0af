/* options.c - the options of boosted trees, and the other names by which LightGBM and XGBoost know them. */
#include <string.h>

#include "crank/tree.h"

typedef crank_tree_options options;

static const crank_option option_table[] = {
    CRANK_STRING(options, objective, "lambdarank", "lambdarank, regression, binary, multiclass, multiclassova, or the name of a list objective"),
    CRANK_INT(options, num_class, 1, 1, 100000, "classes of multiclass and multiclassova: labels are 0 .. num_class - 1"),
    CRANK_CHOICE(options, multi_strategy, "one_output_per_tree", "one_output_per_tree|multi_output_tree", "several outputs: a tree for each, or one whose leaves hold a vector"),
    CRANK_INT(options, num_iterations, 100, 1, 1000000, "rounds of boosting: each adds a tree (of several outputs one an output)"),
    CRANK_FLOAT(options, learning_rate, 0, 0, 10, "each tree counts that much; 0: 0.1, or 10 / num_iterations where that is less"),
    CRANK_INT(options, num_leaves, 31, 2, 65535, "leaves of a tree at most"),
    CRANK_INT(options, max_depth, -1, -1, 64, "depth of a tree at most; 0 or less: no limit"),
    CRANK_CHOICE(options, grow_policy, "lossguide", "lossguide|depthwise|oblivious", "split the leaf of largest gain, level by level, or all leaves of a level by one split"),
    CRANK_INT(options, max_bin, 255, 2, 255, "bins of a feature"),
    CRANK_INT(options, min_data_in_bin, 3, 1, 1000000, "rows of a bin at least"),
    CRANK_INT(options, bin_construct_sample_cnt, 200000, 1000, 100000000, "rows from which bins are found"),
    CRANK_INT(options, seed, 1, 0, 4294967295.0, "of all sampling"),
    CRANK_INT(options, min_data_in_leaf, -1, -1, 1e9, "rows of a leaf at least; -1: 1 with lambdarank, else 20"),
    CRANK_CHOICE(options, count, "exact", "exact|estimate", "min_data_in_leaf is kept exactly, or estimated from hessians as LightGBM does"),
    CRANK_FLOAT(options, min_sum_hessian_in_leaf, 1e-3, 0, 1e30, "hessian of a leaf at least"),
    CRANK_FLOAT(options, lambda_l1, 0, 0, 1e30, "L1 penalty of leaf values"),
    CRANK_FLOAT(options, lambda_l2, -1, -1, 1e30, "L2 penalty of leaf values; -1: 1 with lambdarank, else 0"),
    CRANK_FLOAT(options, min_gain_to_split, 0, 0, 1e30, "gain of a split at least"),
    CRANK_FLOAT(options, max_delta_step, 0, 0, 1e30, "leaf values are clipped to this before the learning rate; 0: they are not"),
    CRANK_FLOAT(options, path_smooth, 0, 0, 1e30, "leaf values are drawn to their parent's as if it had that many rows"),
    CRANK_FLOAT(options, feature_fraction, 1, 1e-6, 1, "part of the features that a tree may use"),
    CRANK_FLOAT(options, bagging_fraction, 1, 1e-6, 1, "part of the rows that a tree learns from"),
    CRANK_INT(options, bagging_freq, 0, 0, 1000000, "a new sample of rows every so many trees; 0: no bagging"),
    CRANK_BOOL(options, bagging_by_query, false, "whole queries are sampled"),
    CRANK_CHOICE(options, data_sample_strategy, "bagging", "bagging|goss", "goss: rows with large gradients, and a sample of the others that counts more"),
    CRANK_FLOAT(options, top_rate, 0.2, 0, 1, "goss: part of the rows with the largest gradients"),
    CRANK_FLOAT(options, other_rate, 0.1, 0, 1, "goss: part of all rows that is sampled from the others"),
    CRANK_INT(options, max_cat_to_onehot, 4, 1, 255, "features with at most that many categories are split one against the rest"),
    CRANK_INT(options, max_cat_threshold, 32, 1, 255, "categories on the smaller side of a split at most"),
    CRANK_INT(options, min_data_per_group, 100, 1, 1e9, "rows between two candidate splits of sorted categories"),
    CRANK_FLOAT(options, cat_l2, 10, 0, 1e30, "L2 penalty added in splits of sorted categories"),
    CRANK_FLOAT(options, cat_smooth, 10, 0, 1e30, "categories are sorted by gradient / (hessian + this); rarer ones are left out"),
    CRANK_LIST(options, monotone_constraints, NULL, "one of -1, 0, 1 for each column: how the score may move with it"),
    CRANK_BOOL(options, use_missing, true, "missing values have a side of their own; else they count as 0"),
    CRANK_BOOL(options, boost_from_average, true, "scores start from the labels' mean (regression, binary)"),
    CRANK_INT(options, lambdarank_truncation_level, 30, 1, 1000000, "pairs have one item at least among the first so many"),
    CRANK_BOOL(options, lambdarank_norm, true, "gradients of a query are scaled so that long lists do not outweigh short ones"),
    CRANK_FLOAT(options, sigmoid, 1, 1e-6, 1e6, "slope of the logistic function"),
    CRANK_LIST(options, label_gain, NULL, "gain of label 0, 1, ...; default 2^label - 1"),
    CRANK_INT(options, eval_at, 10, 1, 1000000, "validation measures NDCG at this rank"),
    CRANK_INT(options, early_stopping_round, 0, 0, 1000000, "stop when validation has not improved for so many trees; 0: never"),
    CRANK_INT(options, metric_freq, 1, 1, 1000000, "validation is measured every so many trees"),
    CRANK_INT(options, histogram_pool_size, 1024, 1, 1e9, "MiB that histograms may take"),
    CRANK_BOOL(options, use_quantized_grad, false, "gradients are rounded to few levels"),
    CRANK_INT(options, num_grad_quant_bins, 4, 2, 65536, "use_quantized_grad: levels that a typical gradient spans"),
    CRANK_BOOL(options, stochastic_rounding, true, "use_quantized_grad: up or down by chance, so that sums are right on average"),
    CRANK_BOOL(options, quant_train_renew_leaf, true, "use_quantized_grad: leaf values come from the gradients before rounding"),
    CRANK_END
};

const crank_option *crank_trees_options(void) { return option_table; }

const char *crank_trees_option(const char *name)
{
    static const char *const aliases[][2] = {
        {"application", "objective"}, {"app", "objective"}, {"loss", "objective"}, {"objective_type", "objective"},
        {"num_classes", "num_class"}, {"growth", "grow_policy"},
        {"trees", "num_iterations"}, {"num_iteration", "num_iterations"}, {"n_iter", "num_iterations"}, {"num_tree", "num_iterations"}, {"num_trees", "num_iterations"},
        {"num_round", "num_iterations"}, {"num_rounds", "num_iterations"}, {"nrounds", "num_iterations"}, {"num_boost_round", "num_iterations"},
        {"n_estimators", "num_iterations"}, {"max_iter", "num_iterations"}, {"shrinkage_rate", "learning_rate"}, {"eta", "learning_rate"},
        {"num_leaf", "num_leaves"}, {"max_leaves", "num_leaves"}, {"max_leaf", "num_leaves"}, {"max_leaf_nodes", "num_leaves"}, {"leaves", "num_leaves"},
        {"max_bins", "max_bin"}, {"subsample_for_bin", "bin_construct_sample_cnt"}, {"random_seed", "seed"}, {"random_state", "seed"},
        {"min_data_per_leaf", "min_data_in_leaf"}, {"min_data", "min_data_in_leaf"}, {"min_child_samples", "min_data_in_leaf"}, {"min_samples_leaf", "min_data_in_leaf"},
        {"min_sum_hessian_per_leaf", "min_sum_hessian_in_leaf"}, {"min_sum_hessian", "min_sum_hessian_in_leaf"}, {"min_hessian", "min_sum_hessian_in_leaf"},
        {"min_child_weight", "min_sum_hessian_in_leaf"}, {"reg_alpha", "lambda_l1"}, {"l1_regularization", "lambda_l1"}, {"alpha", "lambda_l1"},
        {"reg_lambda", "lambda_l2"}, {"lambda", "lambda_l2"}, {"l2_regularization", "lambda_l2"}, {"min_split_gain", "min_gain_to_split"}, {"gamma", "min_gain_to_split"},
        {"min_split_loss", "min_gain_to_split"}, {"max_tree_output", "max_delta_step"}, {"max_leaf_output", "max_delta_step"},
        {"sub_feature", "feature_fraction"}, {"colsample_bytree", "feature_fraction"}, {"sub_row", "bagging_fraction"}, {"subsample", "bagging_fraction"}, {"bagging", "bagging_fraction"},
        {"subsample_freq", "bagging_freq"}, {"mc", "monotone_constraints"}, {"monotone_constraint", "monotone_constraints"},
        {"lambdarank_num_pair_per_sample", "lambdarank_truncation_level"}, {"ndcg_eval_at", "eval_at"}, {"ndcg_at", "eval_at"}, {"eval_freq", "metric_freq"}, {"output_freq", "metric_freq"},
        {"early_stopping_rounds", "early_stopping_round"}, {"early_stopping", "early_stopping_round"}, {"n_iter_no_change", "early_stopping_round"}, {"hist_pool_size", "histogram_pool_size"},
    };
    for (size_t i = 0; i < sizeof aliases / sizeof *aliases; i++)
        if (strcmp(aliases[i][0], name) == 0) return aliases[i][1];
    return name;
}
