/* intruders.h - what training changed in the spectra of a model's linears, and the repair of it. */
#ifndef CRANK_TASK_INTRUDERS_H
#define CRANK_TASK_INTRUDERS_H

#include "crank/linalg.h"
#include "crank/model.h"

typedef struct intruder_linear {
    char                 *name; /* the linear's */
    crank_spectral_change change;
} intruder_linear;

typedef struct intruder_report {
    intruder_linear *linears;
    size_t           count;
    int64_t          top; /* k */
    bool             same; /* no weight differs */
} intruder_report;

/* Compares every dense linear that `targets` names (the rule of lowrank.targets) by its `top` leading vectors. `tuned` is another model of
 * the same shapes, or `base` itself with adapters on: the weight that acts. CRANK_BAD_DATA: a linear that is missing or of another shape, or a
 * value that is not finite. */
crank_status intruders_compare(crank_context *context, crank_model *base, crank_model *tuned, const char *targets, int64_t top, bool fast,
                               intruder_report *out);
void         intruder_report_free(intruder_report *report);

/* ---- repair: W_l = W + (l - 1) s_j y_j q_j^T for intruders j ---- */

typedef enum repair_kind {
    REPAIR_INTRUDERS,
    REPAIR_NEIGHBOURS, /* control: the nearest vectors that are no intruders, scaled alike */
    REPAIR_RANDOM,     /* control: as much taken away along random directions */
    REPAIR_SHRINK      /* control: W0 + c (W - W0), c by the same distance in Frobenius norm, or given */
} repair_kind;

typedef struct repair_how {
    repair_kind kind;
    double      lambda; /* 1: nothing is changed, 0: the intruders go */
    bool        all;    /* every intruder among the k, else the highest */
    int64_t     k;
    double      epsilon;
    double      shrink; /* REPAIR_SHRINK: c; below 0: by the distance of the repair */
} repair_how;

/* Changes of rank 1: sum_t weight_t left_t right_t^T. */
typedef struct repair_terms {
    size_t  count;
    double *weights;
    float  *left, *right; /* [count, m], [count, n] */
} repair_terms;
/* `change` has one vector more than k where there is one, so that the last has a neighbour. Freed with repair_terms_free. */
crank_status repair_terms_of(crank_context *context, const crank_spectral_change *change, const repair_how *how, repair_terms *out);
void         repair_terms_free(repair_terms *terms);
/* c of REPAIR_SHRINK. */
double       repair_shrink_of(const crank_spectral_change *change, const repair_how *how);
/* after [m, n] becomes W_l (for REPAIR_SHRINK `before` is W0, else it may be NULL). *changed: whether anything was done. lambda 1 does nothing. */
crank_status repair_weight(crank_context *context, const crank_spectral_change *change, const repair_how *how, const float *before, float *after,
                           bool *changed);
const char  *repair_name(repair_kind kind); /* "intruders", .. */
#endif
