/* frugal.h - what frugal.c and frugal_select.c share: which part of a matrix has state. */
#ifndef CRANK_OPTIM_FRUGAL_H
#define CRANK_OPTIM_FRUGAL_H

#include "optim/inner.h"
#include "optim/slots.h"
#include "optim/subspace.h"

typedef struct frugal_options {
    double      density, rate_scale, free_scale;
    int64_t     gap;
    const char *select, *order, *rule, *targets, *inner, *inner_options;
    bool        reset;
} frugal_options;

typedef enum frugal_kind {
    FRUGAL_REGULAR,  /* the inner optimiser has the unit as it is */
    FRUGAL_FREE,     /* no part has state: density 0 */
    FRUGAL_BLOCK,    /* all of it has state while the unit is chosen, else nothing */
    FRUGAL_INDEX,    /* the columns, rows or entries of an index list */
    FRUGAL_SUBSPACE  /* a projection */
} frugal_kind;

typedef struct frugal_state {
    frugal_kind  kind;
    crank_unit   inner;
    subspace     space;         /* FRUGAL_SUBSPACE */
    crank_param *index, *clock; /* i32 [c], ascending; f32 [3]: steps since the choice */
    int64_t      from;          /* the index list chooses c of `from` */
    int64_t      offset;        /* FRUGAL_BLOCK: of its moments in the pools, -1 while it is not chosen */
    bool         probing;       /* a basis comes with the coming step */
} frugal_state;

typedef struct frugal_model {
    inner_choice   inner;
    double         beta1, beta2, epsilon; /* of AdamW on blocks */
    slots          pools;
    crank_param   *clock; /* f32 [3] of all chosen blocks */
    int64_t        chosen; /* 1 + number of the period whose blocks are chosen; 0: none */
    int64_t        step;
    subspace_tally tally;
} frugal_model;

/* Draws the indices of the period that begins at `step`; with `reset` off the moments of indices that stay go with them. */
crank_status frugal_draw(crank_context *context, crank_unit *unit, int64_t step);
/* The blocks of the period that holds `step` (0: the heaviest), their moments' places, and *changed when they are others than before. */
crank_status frugal_blocks(crank_context *context, crank_unit *units, int count, frugal_model *model, int64_t step, bool *changed);
/* R of G by the index list, [c, ..]; and back, zero elsewhere, with the dims of the unit. */
crank_tensor *frugal_gather(crank_graph *graph, const crank_unit *unit, crank_tensor *G);
crank_tensor *frugal_scatter(crank_graph *graph, const crank_unit *unit, crank_tensor *R);
/* 1 where an element has no state: broadcasts over the unit. */
crank_tensor *frugal_rest(crank_graph *graph, const crank_unit *unit);
#endif
