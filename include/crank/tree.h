/* tree.h - gradient-boosted regression trees for ranking, regression and classification: fit, predict, importance, load, save.
 *
 * Options are named as LightGBM names them; its aliases and XGBoost's names are accepted by crank_trees_option. Models are read and
 * written as LightGBM and XGBoost do. A fitted model is the same, bit for bit, for any number of threads. */
#ifndef CRANK_TREE_H
#define CRANK_TREE_H

#include "crank/option.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Rows to learn from or to score; the arrays stay the caller's. Either `dense` or the compressed rows hold the values. */
typedef struct crank_tree_data {
    int64_t        rows, columns;
    const float   *dense;          /* [rows, columns], NaN: missing */
    const int64_t *starts;         /* [rows + 1] */
    const int32_t *indices;        /* ascending in a row */
    const float   *values;
    bool           absent_missing; /* what is not in a compressed row: missing (true) or 0 */
    const float   *labels;         /* [rows]; NULL for scoring */
    const float   *weights;        /* [rows], or NULL: all 1 */
    const double  *init;           /* [rows, init_outputs]: scores to start from, or NULL */
    int64_t        init_outputs;   /* 0: 1; else as many as the model's outputs */
    int64_t        queries;
    const int32_t *offsets;        /* [queries + 1], or NULL: the rows are one list */
    const char *const *names;      /* [columns], or NULL */
    const bool    *categorical;    /* [columns], or NULL: none */
} crank_tree_data;

typedef struct crank_tree_options {
    const char *objective;
    int64_t num_class;
    const char *multi_strategy;
    int64_t num_iterations, num_leaves, max_depth, max_bin, min_data_in_bin, bin_construct_sample_cnt, seed;
    double  learning_rate;
    const char *grow_policy;
    int64_t min_data_in_leaf;
    const char *count;
    double  min_sum_hessian_in_leaf, lambda_l1, lambda_l2, min_gain_to_split, max_delta_step, path_smooth;
    double  feature_fraction, bagging_fraction;
    int64_t bagging_freq;
    bool    bagging_by_query;
    const char *data_sample_strategy;
    double  top_rate, other_rate;
    int64_t max_cat_to_onehot, max_cat_threshold, min_data_per_group;
    double  cat_l2, cat_smooth;
    const char *monotone_constraints;
    bool    use_missing, boost_from_average;
    int64_t lambdarank_truncation_level;
    bool    lambdarank_norm;
    double  sigmoid;
    const char *label_gain;
    int64_t eval_at, early_stopping_round, metric_freq;
    int64_t histogram_pool_size;
    bool    use_quantized_grad;
    int64_t num_grad_quant_bins;
    bool    stochastic_rounding, quant_train_renew_leaf;
} crank_tree_options;

/* The table of crank_tree_options. */
CRANK_API const crank_option *crank_trees_options(void);
/* The table's name for a name of LightGBM's or XGBoost's ("eta" -> "learning_rate"); `name` itself where it is none. */
CRANK_API const char *crank_trees_option(const char *name);

typedef struct crank_trees crank_trees;

/* After each tree: validation measure of that iteration (NaN: none). */
typedef void crank_trees_progress(void *user, int64_t iteration, double measure);

/* Learns. valid (may be NULL) is measured by NDCG@eval_at, or by the loss where no lists or graded labels are known, and stops early.
 * init (may be NULL): the trees of that model come first, and learning goes on from its scores. NULL: message set. */
CRANK_API crank_trees *crank_trees_fit(crank_context *context, const crank_tree_options *options, const crank_tree_data *train,
                                       const crank_tree_data *valid, const crank_trees *init, crank_trees_progress *progress, void *user);
CRANK_API void crank_trees_free(crank_trees *trees);

/* Learning round by round from gradients of the caller's: losses of several outputs, policies, anything with derivatives. `options` give
 * everything but the objective; with several outputs and multi_strategy multi_output_tree the leaves of a round's tree hold a vector (a
 * model keeps it as a tree an output with the same splits, and scores those splits once). labels and queries of the data are not needed,
 * but data and the strings of the options must live as long as the learner. init as in crank_trees_fit. NULL: message set. */
typedef struct crank_trees_learner crank_trees_learner;
CRANK_API crank_trees_learner *crank_trees_learner_new(crank_context *context, const crank_tree_options *options, const crank_tree_data *data, int64_t outputs, const crank_trees *init);
/* Scores of the data so far -> out [rows, outputs] */
CRANK_API void         crank_trees_learner_scores(const crank_trees_learner *learner, double *out);
/* One more round down the gradient. gradient, hessian (NULL: all 1) [rows, outputs]: first and second derivatives of a loss by the scores.
 * grew (may be NULL): false where no split gains, and nothing was added. */
CRANK_API crank_status crank_trees_learner_step(crank_trees_learner *learner, const float *gradient, const float *hessian, bool *grew);
/* Ends the learner -> its model; NULL: message set. */
CRANK_API crank_trees *crank_trees_learner_finish(crank_trees_learner *learner);
CRANK_API void         crank_trees_learner_free(crank_trees_learner *learner);

/* Scores of the rows. raw: sums of leaves; else through the objective's link (sigmoid for binary, softmax for several classes).
 * out [rows, outputs] */
CRANK_API crank_status crank_trees_predict(crank_context *context, const crank_trees *trees, const crank_tree_data *data, bool raw, double *out);
/* Raw score of one dense row [columns] -> out [outputs] */
CRANK_API void crank_trees_score(const crank_trees *trees, const float *row, double *out);

/* Shapley values (path-dependent TreeSHAP): what each column adds to the raw score of a row, and last the expected score. They sum to
 * the raw score. out [rows, outputs, columns + 1] */
CRANK_API crank_status crank_trees_contributions(crank_context *context, const crank_trees *trees, const crank_tree_data *data, double *out);

/* Cross-validation: queries (rows where there are none) are dealt to folds by options->seed; each is held out once. out [folds] */
typedef struct crank_tree_fold {
    int64_t rows, queries, trees; /* held out; trees kept */
    double  measure;              /* of the rows held out: NDCG@eval_at, or the loss */
} crank_tree_fold;
CRANK_API crank_status crank_trees_cv(crank_context *context, const crank_tree_options *options, const crank_tree_data *data, int64_t folds, crank_tree_fold *out);

/* Gain and number of splits of each column: [columns] each; either may be NULL. */
CRANK_API void crank_trees_importance(const crank_trees *trees, double *gain, double *splits);

CRANK_API int64_t     crank_trees_count(const crank_trees *trees);
CRANK_API int64_t     crank_trees_outputs(const crank_trees *trees);
CRANK_API int64_t     crank_trees_columns(const crank_trees *trees);
CRANK_API const char *crank_trees_column(const crank_trees *trees, int64_t column); /* its name, or NULL */
CRANK_API const char *crank_trees_objective(const crank_trees *trees);
CRANK_API double      crank_trees_best(const crank_trees *trees); /* the validation measure at the end; NaN: none */

/* Reads LightGBM's text (version 3 or 4), XGBoost's JSON or UBJSON, and crank's own file, told apart by their first bytes. Writes what
 * the name ends in: .json XGBoost's JSON (numbers become float32), .trees the own file (all bits), .c a C file that scores without crank
 * (all bits), anything else LightGBM's text of version 4 (all digits; the constant goes into the first trees). */
CRANK_API crank_trees *crank_trees_load(crank_context *context, const char *path);
CRANK_API crank_status crank_trees_save(crank_context *context, const crank_trees *trees, const char *path);

#ifdef __cplusplus
}
#endif
#endif
