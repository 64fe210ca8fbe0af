/* subspace.h - the subspace in which an optimiser sees the gradient of a matrix.
 *
 *     left   P [m,r], orthonormal columns:   R = P^T G [r,n]      back: P N
 *     right  P [r,n], orthonormal rows:      R = G P^T [m,r]      back: N P
 *     full   both:                           R = P^T G Q^T [r,r]  back: P N Q
 *
 * The bases are state of the unit ("left", "right"), in the type of moments or, where that is asked for, of the weight. R is in that of moments. */
#ifndef CRANK_OPTIM_SUBSPACE_H
#define CRANK_OPTIM_SUBSPACE_H

#include "optim/optim.h"

#include "crank/linalg.h"

typedef struct subspace {
    int64_t      m, n, r;
    crank_dtype  wide;         /* of R, and of what is computed with a basis */
    crank_param *left, *right; /* [m,r] and [r,n]; NULL: that side is not projected */
    crank_param *energy;       /* warm refreshes: [1], the share of the last gradient's squared norm that the basis holds */
    bool         asked;        /* warm refreshes: one comes with this step */
} subspace;

/* Which side: "std" projects the shorter one (right where m = n), "reverse" the longer one, "left", "right", "full" (both). */
#define SUBSPACE_SIDES "std|reverse|left|right|full"
/* How a basis is found: `warm` by subspace iteration from the basis at hand, turned to lie near to it, as operations of the step
 * (subspace_warm.c). The others on the host, from a gradient that is handed to `observe`: the leading singular vectors exactly; by the
 * eigenvectors of the Gram matrix; by a randomised sketch with one power iteration; and without looking at the gradient: a random
 * orthonormal basis, or random unit vectors. */
#define SUBSPACE_REFRESHES "warm|svd|gram|random|orthonormal|coordinates"

/* Makes the bases (zero until the first refresh) for a matrix unit; r is cut at min(m, n). `narrow`: those of a bf16 weight are bf16, which keeps
 * columns orthonormal to some 2^-8: for methods that do not subtract what lies in the subspace. */
crank_status subspace_attach(crank_context *context, crank_unit *unit, const char *side, int64_t rank, bool narrow, subspace *out);
/* Dims of R. */
void subspace_dims(const subspace *space, int64_t dims[2]);
/* Products with a basis are computed in the graph's type where that has 16 bits; what they give is in the type of the basis. */
crank_dtype subspace_product_type(const crank_graph *graph, const subspace *space);
/* R of G [m,n], and back: [m,n], times `scale`. Where G has just been made as a product dY^T X in that type, R comes from its
 * factors and G, if nobody else reads it, is never formed. */
crank_tensor *subspace_down(crank_graph *graph, const subspace *space, crank_tensor *G);
crank_tensor *subspace_down_formed(crank_graph *graph, const subspace *space, crank_tensor *G); /* for a G that somebody else reads too */
crank_tensor *subspace_up(crank_graph *graph, const subspace *space, crank_tensor *N, double scale);

/* What a refresh tells and gives beside the new basis. */
typedef struct subspace_news {
    bool    kept;          /* the gradient was not finite: the basis stays as it was */
    double  energy;        /* share of the gradient's squared norm that the new basis holds */
    double *left, *right;  /* P_new^T P_old [r,r] and P_new P_old^T [r,r] of each side, or NULL: ask by `overlap`; crank_free */
} subspace_news;
/* New bases from a gradient f32 [m,n], on the host; `stream` and `first` name the draws of the random ones. A gradient that is not finite
 * leaves the basis, or, at the first refresh, draws one. */
crank_status subspace_refresh(crank_context *context, const subspace *space, const char *refresh, const float *gradient, crank_stream stream,
                              uint64_t first, bool overlap, subspace_news *news);
/* Moments of the old subspace in the new one: M <- C M, V <- (C o C) V, with C from the left, the right or both (news). */
crank_status subspace_rotate(crank_context *context, const subspace *space, const subspace_news *news, crank_param *M, crank_param *V);

/* The step of the last refresh up to `step` >= 1: all units refresh at step 1, then each at its place in the gap: 0, or with `stagger` that of
 * its wave. Waves are few, since each has a graph of its own. */
enum { SUBSPACE_WAVES = 8 };
int64_t subspace_last_refresh(int64_t gap, bool stagger, int index, int64_t step);

/* ---- warm refreshes (crank_optimizer.refresh) ---- */

static inline bool subspace_is_warm(const char *refresh) { return refresh && refresh[0] == 'w'; }
/* Makes room for the energy that a refresh leaves. */
crank_status subspace_warm_attach(crank_context *context, crank_unit *unit, subspace *space);
/* In `period`: whether the coming step refreshes, and whether that is the first time. */
void subspace_warm_ask(crank_unit *unit, subspace *space, bool due, bool first);
/* Records the unit's new basis from the gradient [m,n], by `passes` passes of subspace iteration; the first refresh makes 3 at least. M and
 * V, or NULL: moments along the basis, which turn with it as subspace_rotate does. */
void subspace_warm(crank_graph *graph, const crank_unit *unit, const subspace *space, int64_t passes, crank_tensor *gradient, crank_param *M, crank_param *V);
struct subspace_tally;
/* In the next `period`: counts what the refresh left. */
crank_status subspace_warm_hear(crank_context *context, subspace *space, struct subspace_tally *tally);

/* Captured energy over the matrices of a refresh, for the log. */
typedef struct subspace_tally {
    int64_t step;
    int     count, kept;
    double  sum, least;
} subspace_tally;
void subspace_count(subspace_tally *tally, const subspace_news *news);
void subspace_tell(crank_context *context, const char *optimizer, subspace_tally *tally); /* logs what was counted and forgets it */

/* ---- what optimisers whose state begins with a subspace do in `period` and `observe` ---- */

/* First in `period`: counts what warm refreshes left, logs what was counted, and remembers the step. */
crank_status subspace_period(crank_context *context, const char *optimizer, crank_unit *units, int count, subspace_tally *tally, int64_t step);
/* Then for a unit with a subspace: asks for the refresh that falls due at `step`, on the host or in the step itself; true: one does. */
bool subspace_ask(crank_unit *unit, const char *refresh, int64_t gap, bool stagger, int64_t step);
/* In `observe`: subspace_refresh with draws of the step and the unit, counted. `overlap` as there; the news is then the caller's to free. */
crank_status subspace_observe(crank_context *context, const crank_unit *unit, const char *refresh, const float *gradient, bool overlap,
                              subspace_tally *tally, subspace_news *news);
#endif
