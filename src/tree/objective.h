/* objective.h - what trees learn: gradients and hessians of the rows from their scores, and a measure of rows held out.
 *
 *     regression   g = w (s - y), h = w
 *     binary       p = 1 / (1 + e^-as): g = a w (p - [y > 0]), h = a^2 w p (1 - p)
 *     lambdarank   see lambda.h
 *     NAME         a list objective of crank's registry (crank/loss.h), with its default options */
#ifndef CRANK_TREE_OBJECTIVE_H
#define CRANK_TREE_OBJECTIVE_H

#include "crank/loss.h"
#include "tree/lambda.h"

typedef enum objective_kind { OBJECTIVE_REGRESSION, OBJECTIVE_BINARY, OBJECTIVE_LAMBDARANK, OBJECTIVE_LIST } objective_kind;

typedef struct objective {
    crank_context               *context;
    const crank_tree_options    *options;
    const crank_tree_data       *data;
    objective_kind               kind;
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
double       objective_base(const objective *o); /* the constant score to start from */

/* Gains of labels [rows]; a label without gain is told by its row. NULL: message set. */
float *label_gains(crank_context *context, const crank_tree_options *options, const crank_tree_data *data);

/* The measure of validation data: NDCG (more is better) or the mean loss. */
typedef struct measure {
    crank_context            *context;
    const crank_tree_options *options;
    const crank_tree_data    *data;
    objective_kind            kind;
    bool                      more_is_better;
    float                    *gain;           /* NDCG */
    double                   *ideal, *value;  /* [queries] */
    int32_t                   one[2];
    const int32_t            *offsets;
    int64_t                   queries;
} measure;
bool   measure_open(crank_context *context, const crank_tree_options *options, const crank_tree_data *data, measure *m);
void   measure_close(measure *m);
double measure_of(measure *m, const double *scores);
#endif
