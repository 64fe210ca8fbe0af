/* lab.h - the proof that a method does what its paper says: one experiment a file, all else here.
 *
 * An *experiment* (NAME.c, listed in registry.c) names a claim, a *world* with its settings, the *methods* to compare, a threshold with
 * its reason, and `judge`, which turns rows into checks. A *world* makes data and a base model from a seed and knows how a method is
 * tried on them. The harness does the rest: seeds, rates, statistics, time, memory, verdict, tables, pages.
 *
 *     for each seed:  world.prepare          data, base model
 *                     for each method:  trial      attach, train at the method's rate, measure: lab_measure(trial, metric, value)
 *     judge:          lab_expect(lab, what, value, LAB_AT_LEAST, bound) ...; lab_paper(lab, LAB_REPRODUCED)
 *
 * A *row* is one method and one metric over all seeds. The verdict is "shown" when all checks hold. Thresholds stand before the first
 * run and are never bent. Rates come from `crank lab tune` (recipes/lab/NAME.json) and stand in the table of methods. */
#ifndef CRANK_LAB_LAB_H
#define CRANK_LAB_LAB_H

#include "crank/linear.h"
#include "crank/optim.h"

/* ---- what an experiment states ---- */

/* What is compared. A row of the table of methods; the table ends with name == NULL. */
typedef struct lab_method {
    const char *name;                          /* of the row: "LoRA r=4" */
    const char *map, *map_options;             /* a low-rank method by its registered name, "rank=4 alpha=8"; NULL: every weight is trained */
    const char *targets;                       /* linears that it stands on (PEFT's rule); NULL: the world's */
    const char *optimizer, *optimizer_options; /* NULL: adamw as the world has it */
    double      decay;                         /* weight decay */
    const char *words;                         /* of a recipe, for worlds that train by recipes */
    double      rate;                          /* as tuned; 0: nothing is trained (zero-shot) */
    double      large_rate;                    /* of the larger setting; 0: the same */
    bool        fixed;                         /* the rate is part of the claim ("at equal rates"): tune leaves it alone */
    int64_t     number;                        /* of the experiment's own trial */
} lab_method;

typedef struct lab        lab;        /* a run of one experiment */
typedef struct lab_trial  lab_trial;  /* one method at one seed */
typedef struct lab_world  lab_world;

typedef struct lab_experiment {
    const char       *name, *paper;
    const char       *claim;     /* what the paper says, as it is tested here; one sentence */
    const char       *setup;     /* what is done; one or two sentences */
    const char       *threshold; /* what `judge` asks for, in words */
    const char       *reason;    /* why this threshold */
    const char       *analysis;  /* where the threshold does not hold: the cause, what was tried, tables (Markdown). May be NULL */
    const lab_world  *world;
    const void       *settings;  /* of the world */
    const lab_method *methods;
    const double     *grid;      /* rates that tune tries, rising, ends with 0 */
    const char       *metric;    /* that tune looks at */
    bool              lower;     /* lower is better */
    int               seeds;     /* of a run that is not told how many; 0: 3 */
    crank_status    (*trial)(lab_trial *trial); /* NULL: the world's */
    void            (*judge)(lab *run);
} lab_experiment;

/* A room of experiments. `prepare` makes data and base model of a seed in `world` (size bytes, zeroed). */
struct lab_world {
    const char *name;
    size_t      size;
    bool        large; /* trial->large makes it larger; without it --scale gpu is refused */
    bool        keeps; /* trials that end are kept in trial->folder and taken from there: a run may come in parts, by method */
    crank_status (*prepare)(lab_trial *trial); /* trial->method is NULL */
    crank_status (*trial)(lab_trial *trial);
    void (*release)(void *world);
};

struct lab_trial {
    lab                  *run;
    crank_context        *context;
    const lab_experiment *experiment;
    const lab_method     *method;
    void                 *world;
    uint64_t              seed; /* 1, 2, .. */
    double                rate; /* of this trial: the method's, or the one that tune tries */
    bool                  large; /* --scale gpu: the larger setting */
    const char           *folder; /* of results; NULL: none is kept */
    bool                  kept;   /* only a trial that is kept counts: one that is not gives CRANK_STOPPED */
    double                begun;   /* the clock when the trial began */
    double                seconds; /* of training; lab_adapt adds to both. 0: a row takes the trial's time up to its measure */
    int64_t               bytes;   /* weights, method, optimiser state and step memory; 0: not counted */
    int64_t               state;   /* of these: optimiser state */
    int64_t               trained; /* parameters that the optimiser or method moves */
};

/* A value of the trial's row `metric`; lab_measure_as names a row of another method's name (separate ranks of one run). */
crank_status lab_measure(lab_trial *trial, const char *metric, double value);
crank_status lab_measure_as(lab_trial *trial, const char *method, const char *metric, double value);

/* ---- judging ---- */

typedef enum lab_relation { LAB_AT_LEAST, LAB_AT_MOST } lab_relation;
typedef enum lab_claim { LAB_NOT_TESTABLE, LAB_REPRODUCED, LAB_NOT_REPRODUCED } lab_claim;

double lab_mean(lab *run, const char *method, const char *metric); /* over seeds; an unknown row fails the run */
/* Of the method's row at one seed (0-based): paired comparisons. */
double lab_value(lab *run, const char *method, const char *metric, int seed);
int    lab_seeds(const lab *run);
/* A check of the threshold. A value that is not a number does not hold. Returns whether it holds. */
bool lab_expect(lab *run, const char *what, double value, lab_relation relation, double bound);
/* Whether the paper's own effect is seen, and the sentence that says so, or what is seen instead; or why it cannot be tested here. */
void lab_paper(lab *run, bool reproduced, const char *seen, const char *otherwise);
void lab_untestable(lab *run, const char *why);

/* ---- small networks on graphs ---- */

typedef enum lab_loss { LAB_SQUARES, LAB_CROSS_ENTROPY } lab_loss; /* mean over outputs; classes */

/* Samples on the host. Sample i has x or ids at i * stride, and y or label i. */
typedef struct lab_data {
    int64_t  n, width, stride;
    float   *x;      /* [n, width], or */
    int32_t *ids;    /* [n, width]; stride 1: overlapping windows of one text */
    float   *y;      /* [n, outputs], or */
    int32_t *labels; /* [n] */
} lab_data;
void lab_data_free(lab_data *data);

/* A model of crank_linears. `forward` takes x [b, width] (ids i32 [b * width]) and gives [b, outputs]; it passes every linear by
 * lab_linear, which is crank_linear_forward and lets calibration see what the linear reads. */
typedef struct lab_net lab_net;
struct lab_net {
    crank_context *context;
    crank_device  *device;
    crank_params  *params;
    crank_linears *linears;
    crank_tensor *(*forward)(crank_graph *graph, lab_net *net, crank_tensor *x);
    lab_loss       loss;
    int64_t        outputs;
    int            activation; /* crank_unary_kind between the layers of an mlp; -1: none */
    void          *own;        /* of the maker; crank_free */
    struct lab_watch *watch;   /* internal: while calibration looks */
};
lab_net     *lab_net_new(crank_context *context, uint64_t seed); /* empty: no linears, no forward */
void         lab_net_free(lab_net *net);
crank_linear *lab_net_linear(lab_net *net, const char *name, int64_t in, int64_t out, bool bias); /* weights zero */
crank_tensor *lab_linear(crank_graph *graph, lab_net *net, crank_linear *linear, crank_tensor *x);
/* "layers.0", "layers.1", ..: sizes[0] -> .. -> sizes[count - 1], activation between. Weights N(0, gain^2 / in), biases 0. */
lab_net     *lab_mlp(crank_context *context, const int64_t *sizes, int count, crank_unary_kind activation, bool bias, double gain,
                     lab_loss loss, uint64_t seed);
crank_status lab_net_copy(lab_net *to, const lab_net *from); /* values of the weights, by name */

/* ---- training ---- */

typedef struct lab_training {
    const lab_data     *data;
    int64_t             steps, batch;
    double              rate, clip;
    crank_schedule_kind schedule;
    int64_t             warmup;
    double              floor;
    int64_t             total;  /* steps of the schedule; 0: as many as are run */
    uint64_t            seed;   /* order of samples: permutations of the data, one an epoch */
    double             *curve;  /* NULL, or [steps]: the loss of every step */
} lab_training;

/* The method (NULL: every weight becomes trainable) on the net's linears, calibrated on `data` (4 batches of 128) where it observes. */
crank_status lab_attach(lab_net *net, const lab_method *method, const char *targets, const lab_data *data, crank_attachment **out);
/* Trains what is trainable with the method's optimiser; adds seconds, bytes and trained parameters to the trial (may be NULL). */
crank_status lab_train(lab_net *net, const lab_method *method, const lab_training *how, lab_trial *trial);
/* Mean loss and, for classes, accuracy (either may be NULL). */
crank_status lab_evaluate(lab_net *net, const lab_data *data, double *loss, double *accuracy);
/* G = d loss / d W' [out, in] of a linear as it now computes, over the first 512 samples of the data (4 batches of 128); crank_free. */
float *lab_gradient(lab_net *net, const char *linear, const lab_data *data);
/* attach + train at the trial's rate: what most trials are. A rate of 0 leaves the net alone. */
crank_status lab_adapt(lab_trial *trial, lab_net *net, const char *targets, const lab_training *how);
/* The net's outputs on the data: f32 [n, outputs]; crank_free. */
float       *lab_outputs(lab_net *net, const lab_data *data);
float       *lab_weight(lab_net *net, const char *linear);               /* a linear's base weight [out, in]; crank_free */
crank_status lab_weight_set(lab_net *net, const char *linear, const float *values);

/* ---- worlds ---- */

/* Classification by a 32-128-128-10 ReLU network with biases, pre-trained on one teacher and adapted to a perturbed one with 4,000
 * samples: world of most method cards. Metric: accuracy on 10,000 fresh samples.
 * Methods stand on both hidden layers ("layers.0", "layers.1"). */
typedef struct lab_transfer_settings {
    int64_t steps, batch;         /* 0: 2,000 of 64 */
    crank_schedule_kind schedule; /* constant unless said */
} lab_transfer_settings;
extern const lab_world lab_world_transfer;
/* Its data and a copy of its base model, for an experiment's own trial. */
typedef struct lab_transfer {
    lab_net *base;
    lab_data train, test;
} lab_transfer;
lab_net     *lab_transfer_net(lab_trial *trial); /* the caller frees */
lab_training lab_transfer_training(const lab_trial *trial);
/* Adapts both hidden layers of net (NULL: what made it has failed) with the trial's method and measures "accuracy". */
crank_status lab_transfer_adapt(lab_trial *trial, lab_net *net, const lab_training *how);

/* Regression by a 64-128-128-16 ReLU network without biases whose weights have singular values i^-0.6, adapted to a teacher that
 * differs by a product of rank `task_rank` scaled to `strength` times each weight's norm. 300 steps of 64 fresh samples, cosine with 10
 * steps of warm-up. Metric: loss (mean squares on 2,048 samples). Methods stand on all layers.
 *
 * A row whose number is LAB_SECOND learns the settings' second task, from the same base; with LAB_STOP(n) its run ends behind step n of the 300. */
typedef struct lab_regression_settings {
    int64_t task_rank;
    double  strength;
    double  rescale; /* not 0: the teacher differs by singular values alone, each times e^(rescale z) */
    const struct lab_regression_settings *second;
    int64_t first, count; /* coordinates that samples are supported on; count 0: all */
    double  gain, uneven; /* gain not 0: every hidden unit's weights times gain e^(uneven z): units of different importance */
} lab_regression_settings;
enum { LAB_SECOND = 1 };
#define LAB_STOP(n) (2 * (int64_t)(n))
extern const lab_world lab_world_regression;
/* The world on its own, for an experiment that has several of them or more data. */
typedef struct lab_regression {
    lab_net *base;
    lab_data train[2], test[2]; /* of the settings' task and of the second */
} lab_regression;
crank_status lab_regression_make(crank_context *context, uint64_t seed, const lab_regression_settings *settings, lab_regression *out);
void         lab_regression_free(lab_regression *world);
lab_net     *lab_regression_copy(const lab_regression *world, uint64_t seed); /* of the base; lab_net_free */
/* n further samples with the teacher's outputs, supported on coordinates first .. first + count - 1 (count 0: all). */
crank_status lab_regression_draw(lab_net *teacher, int64_t n, uint64_t seed, uint32_t index, int64_t first, int64_t count, lab_data *data);
/* Its parts for an experiment's own trial: a copy of the base (the caller frees), the row's training and the data that measure it. */
lab_net        *lab_regression_net(lab_trial *trial);
lab_training    lab_regression_training(const lab_trial *trial);
const lab_data *lab_regression_test(const lab_trial *trial);
crank_status    lab_regression_loss(lab_trial *trial, lab_net *net); /* measures "loss" */

/* A linear map of `size` x `size` from zero to a target matrix: the rows of the identity are the samples, all in each step. Metric:
 * residual (share of the target's squared norm that is left). lab_method.number is the target. */
typedef enum lab_target { LAB_ORTHOGONAL, LAB_GAUSSIAN, LAB_LOW_RANK } lab_target; /* low rank: 4 */
typedef struct lab_fit_settings {
    int64_t size, steps;
} lab_fit_settings;
extern const lab_world lab_world_fit;

/* ---- running ---- */

typedef struct lab_row {
    const char *method;
    char        metric[32];
    double     *values; /* [seeds] */
    int         count;
    double      mean, spread; /* sample standard deviation */
    double      seconds;      /* mean of a trial */
    int64_t     bytes, trained;
} lab_row;

typedef struct lab_check {
    char        *what;
    double       value, bound;
    lab_relation relation;
    bool         holds;
} lab_check;

struct lab {
    crank_context        *context;
    const lab_experiment *experiment;
    int                   seeds;
    bool                  large;
    lab_row              *rows;
    size_t                row_count, row_room;
    lab_check            *checks;
    size_t                check_count, check_room;
    int                   missing; /* trials of other parts of the run: rows are not whole, and nothing is judged */
    crank_status          status; /* of judging: a row that does not exist */
    bool                  shown;
    lab_claim             claim;
    char                 *why;
    double                seconds;
};

typedef void lab_progress(void *user, const char *text); /* one line a trial */
typedef struct lab_how {
    int           seeds; /* 0: the experiment's */
    bool          large;
    const char   *folder, *only; /* of results, and text in the names of methods to run: the others as they are kept. NULL: none, all */
    lab_progress *progress; /* may be NULL */
    void         *user;
} lab_how;

const lab_experiment *lab_find(const char *name);
const lab_experiment *lab_at(size_t i); /* NULL past the end */
crank_status lab_run(crank_context *context, const lab_experiment *experiment, const lab_how *how, lab *out);
void         lab_free(lab *run);
const char  *lab_claim_name(lab_claim claim); /* "reproduced", .. */
char        *lab_text(const lab *run);  /* the table; crank_free */
char        *lab_json(const lab *run);  /* one object; crank_free */

/* Tries the grid's rates for every method that is trained and not fixed, on seeds 101, 102, .. (not those of `run`), and tells the best
 * of each: json text {"grid": [..], "methods": {NAME: {"rate": best, "values": [..]}}}; crank_free. NULL: message set. */
char *lab_tune(crank_context *context, const lab_experiment *experiment, const char *only, const lab_how *how);

/* One trial, for run and tune: prepares nothing. */
crank_status lab_try(lab_trial *trial);
#endif
