/* objective.h - what trees learn: gradients and hessians of the rows from their scores, and a measure of rows held out.
 *
 *     regression   g = w (s - y), h = w
 *     binary       p = 1 / (1 + e^-as): g = a w (p - [y > 0]), h = a^2 w p (1 - p)
 *     multiclass   p = softmax(s) of K classes: g_k = w (p_k - [y = k]), h_k = w K/(K-1) p_k (1 - p_k)   (Friedman 2001; LightGBM)
 *     multiclassova  K binary ones: class k against the others
 *     lambdarank   see lambda.h
 *     NAME         a list objective of crank's registry (crank/loss.h), with its default options
 *
 * Scores, gradients and hessians of K outputs stand output by output: [outputs, rows]. */
#ifndef CRANK_TREE_OBJECTIVE_H
#define CRANK_TREE_OBJECTIVE_H

#include "crank/loss.h"
#include "tree/lambda.h"

typedef enum objective_kind {
    OBJECTIVE_REGRESSION, OBJECTIVE_BINARY, OBJECTIVE_LAMBDARANK, OBJECTIVE_MULTICLASS, OBJECTIVE_MULTICLASSOVA, OBJECTIVE_LIST,
    OBJECTIVE_GIVEN /* by the caller of a learner: no labels, no measure */
} objective_kind;

typedef struct objective {
    crank_context               *context;
    const crank_tree_options    *options;
    const crank_tree_data       *data;
    objective_kind               kind;
    int64_t                      outputs;
    const crank_list_objective  *list;
    void                        *list_options;
    float                       *scores;      /* [rows] of a list objective */
    int32_t                      one[2];      /* offsets where the data have no queries */
    const int32_t               *offsets;
    int64_t                      queries;
    lambda_data                  lambda;
} objective;

bool         objective_open(crank_context *context, const crank_tree_options *options, const crank_tree_data *data, objective *o);
void         objective_close(objective *o);
crank_status objective_gradient(objective *o, const double *scores, float *g, float *h);
double       objective_base(const objective *o, int64_t output); /* the constant score to start from */
/* The objective that a name stands for, aliases too. list: of OBJECTIVE_LIST. False: message set. */
bool         objective_kind_of(crank_context *context, const char *name, objective_kind *kind, const crank_list_objective **list);
bool         objective_has_classes(const char *name); /* multiclass or multiclassova */
/* Options left at -1 or 0 get the objective's value: lambdarank wants small leaves with a penalty and steps as small as its trees are many
 * (docs/trees.md tells why). */
void         objective_defaults(crank_tree_options *options);
const char  *objective_name(const objective *o); /* as models hold it */
/* num_class, checked against the objective; 0: message set */
int64_t      objective_outputs(crank_context *context, const crank_tree_options *options, objective_kind kind);

/* Gains of labels [rows]; a label without gain is told by its row. NULL: message set. */
float *label_gains(crank_context *context, const crank_tree_options *options, const crank_tree_data *data);

/* The measure of validation data: NDCG@eval_at of metric/ (more is better), or the mean loss. */
typedef struct measure {
    crank_context            *context;
    const crank_tree_options *options;
    const crank_tree_data    *data;
    objective_kind            kind;
    int64_t                   outputs;
    bool                      more_is_better;
    float                    *gain, *scores;  /* [rows], NDCG */
    char                      name[32];       /* ndcg@K */
} measure;
bool   measure_open(crank_context *context, const crank_tree_options *options, const crank_tree_data *data, measure *m);
void   measure_close(measure *m);
double measure_of(measure *m, const double *scores); /* scores [outputs, rows]; NaN: no query has an item with gain, or a message is set */
#endif
