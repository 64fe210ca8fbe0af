/* click.h - what users clicked: logs of sessions, simulated users, and click models.
 *
 * A *session* shows items of one query at places and tells which were clicked. A log stands alone (its queries and documents are numbered
 * as they come), or is joined with a set of feature vectors by the names of queries and documents.
 *
 *     TSV     query <tab> document <tab> position <tab> click [<tab> session]           position from 1, click 0 or 1
 *             a session is a run of lines of one query with rising positions, and of one session field where there is one; lines that
 *             start with # and a first line that starts with "query" are skipped
 *     JSONL   {"query": "q1", "documents": ["a", "b"], "clicks": [0, 1], "positions": [1, 2], "context": 0}
 *             positions are 1, 2, .. unless given; context is a number of a group with an examination curve of its own */
#ifndef CRANK_CLICK_CLICK_H
#define CRANK_CLICK_CLICK_H

#include "crank/random.h"
#include "data/letor.h"

enum { CLICK_MOST_PLACES = 1000, CLICK_MOST_CONTEXTS = 64 };

/* ---- logs ---- */

typedef struct click_log {
    int64_t  sessions, shown;
    int64_t *starts;    /* [sessions + 1] */
    int32_t *query;     /* [sessions] */
    int32_t *context;   /* [sessions] */
    int32_t *item;      /* [shown]: row of the set, or number of the (query, document) pair */
    int32_t *place;     /* [shown]: from 0, rising in a session */
    uint8_t *click;     /* [shown] */
    int64_t  queries, items, places, contexts; /* numbers are below these */
    int64_t  session_room, shown_room;
} click_log;

/* set NULL: the log stands alone. A query or document that the set lacks is refused with file and line. NULL: message set. */
click_log   *click_log_read(crank_context *context, const char *path, const letor_set *set);
/* As TSV; the names are those of the set, or d1, d2, .. and 1, 2, .. */
crank_status click_log_write(crank_context *context, const char *path, const click_log *log, const letor_set *set);
click_log   *click_log_new(crank_context *context, int64_t queries, int64_t items);
/* The sessions of some queries of a set, renumbered as rank_take does: query l is lists[l], its rows follow those of lists[l - 1]. */
click_log   *click_log_take(crank_context *context, const click_log *log, const letor_set *set, const int64_t *lists, int64_t count);
/* One more session: items, places and clicks [n]. */
crank_status click_log_add(crank_context *context, click_log *log, int64_t query, int64_t group, const int32_t *items, const int32_t *places, const uint8_t *clicks, int64_t n);
void         click_log_free(click_log *log);

/* ---- simulated users ---- */

typedef enum click_user { CLICK_PBM, CLICK_CASCADE, CLICK_DCM, CLICK_UBM, CLICK_TRUST } click_user;

/* P(r = 1 | y) = noise + (1 - noise) (2^y - 1) / (2^top - 1).
 *   pbm      P(c) = rho_i^eta P(r),  rho = .68 .61 .48 .34 .28 .20 .11 .10 .08 .06, and .06 below
 *   cascade  looks at one item after the other, clicks with P(r), and is done with the first click
 *   dcm      the same, but goes on after a click with probability `go_on`
 *   ubm      examination depends on the place and on the distance to the click before (table of the ULTRA toolbox), to the power of eta
 *   trust    P(c) = rho_i^eta (e+_i P(r) + e-_i (1 - P(r))),  e+_i = 1 - (min(i,20) + 1)/100, e-_i = .65 / min(i,10), i from 1 */
typedef struct click_simulator {
    const char *user;
    double      eta, noise, go_on;
    int64_t     top, depth; /* highest grade; items that are shown at most */
    int64_t     seed;
} click_simulator;
extern const crank_option click_simulator_table[];

/* Clicks of one session on items with these grades in the order in which they are shown: [n]. Draws are those of the session's number.
 * A grade that is no whole number in [0, top] is refused. */
crank_status click_simulate(crank_context *context, const click_simulator *simulator, uint64_t session, const float *grades, int64_t n, uint8_t *clicks);
/* P(o = 1) of pbm and trust users at place i (from 0). */
double click_examination(double eta, int64_t place);
double click_relevance(const click_simulator *simulator, double grade);

/* ---- click models ---- */

typedef struct click_model {
    double *relevance;  /* [items]: attractiveness; times satisfaction under sdbn */
    double *curve;      /* [contexts, places]: examination (pbm, trust), continuation behind a click (dcm); NULL under cascade and sdbn */
    double *trust;      /* trust: [contexts, places, 2]: P(c) = trust[0] relevance + trust[1]; else NULL */
    int64_t items, places, contexts;
    double  likelihood; /* log likelihood of a session's clicks, mean over sessions */
} click_model;

/* kind: pbm, ubm, trust (EM), cascade, dcm, sdbn (counts). Parameters start as 1/2 (one success in two trials), probabilities are at most
 * 1 - 1e-6. Sums are taken in the order of the log. */
crank_status click_model_fit(crank_context *context, const click_log *log, const char *kind, int64_t iterations, click_model *model);
void         click_model_free(click_model *model);

/* ---- examination curves ---- */

/* P(o = 1) at each place relative to the first, one curve a context; {"propensity": [[1, 0.9, ..], ..]} or one list in a file. */
typedef struct click_curve {
    int64_t contexts, places;
    double *value; /* [contexts, places], > 0 */
} click_curve;
click_curve *click_curve_new(crank_context *context, int64_t contexts, int64_t places);
click_curve *click_curve_read(crank_context *context, const char *path);
crank_status click_curve_write(crank_context *context, const char *path, const click_curve *curve);
char        *click_curve_text(crank_context *context, const click_curve *curve); /* json; crank_free */
void         click_curve_free(click_curve *curve);
/* At a place, the last one where the curve ends before; at least 1e-6. */
double       click_curve_at(const click_curve *curve, int64_t group, int64_t place);
/* Clicks by place over sessions whose order was random: C_i / C_1. */
click_curve *click_curve_of_random(crank_context *context, const click_log *log);

/* ---- what a ranker is worth, by clicks alone ---- */

/* A click at place k weighs w = min(1 / e_k, most), e the examination relative to place 1; D(r) = 1 / log2(1 + r) up to rank `at`, r the
 * rank that the ranker gives the item among those of the session, or among all of its query. Over sessions s and clicked items i:
 *
 *     IPS     sum_s sum_i w D(r) / sessions        expected DCG in clicks of items that are examined as place 1 is
 *     SNIPS   sum_s sum_i w D(r) / sum_s sum_i w   mean discount of what is relevant, in [0, 1]
 *
 * Without `most` IPS is unbiased where users follow the examination model and every relevant item was shown; SNIPS has less variance.
 * Items that were never shown earn nothing. */
typedef struct click_estimate_options {
    double  most;      /* largest weight; 0: any */
    int64_t at;        /* 0: all ranks */
    bool    whole;     /* ranks among all items of the query (of the set's offsets) */
} click_estimate_options;

typedef struct click_earned { double sessions, gain, weight, squares, clicks; } click_earned; /* sums of one query: 1, w D, w, w^2, 1 */
typedef struct click_estimate {
    double ips, snips;
    double effective; /* sample size of the clicks: (sum w)^2 / sum w^2 */
    double sessions, clicks;
} click_estimate;

/* scores [log->items] by item, equal ones in the order shown; NULL: the order shown itself. out [log->queries] */
crank_status   click_earn(crank_context *context, const click_log *log, const letor_set *set, const float *scores, const click_curve *curve,
                          const click_estimate_options *how, click_earned *out);
/* drawn (may be NULL, all once) [queries]: how often each query counts. Without a click SNIPS is 0. */
click_estimate click_estimate_of(const click_earned *earned, const int32_t *drawn, int64_t queries);

/* Intervals that hold 95 % of `resamples` draws of the queries with replacement (percentiles): of a's values, and of a less b. */
typedef struct click_interval { double low, high; } click_interval;
typedef struct click_intervals { click_interval ips, snips, ips_less, snips_less; } click_intervals;
crank_status click_bootstrap(crank_context *context, const click_earned *a, const click_earned *b, int64_t queries, int64_t resamples, uint64_t seed, click_intervals *out);

/* ---- relevance from clicks ---- */

/* Estimated relevance of each item of a log: sum over sessions of c / curve, over the sessions that showed it (curve NULL: plain click
 * rate). Items that were never shown get 0. [log->items] */
crank_status click_rates(crank_context *context, const click_log *log, const click_curve *curve, double most, float *relevance);
#endif
