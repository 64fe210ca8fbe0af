/* linear.h - a linear map and the low-rank methods that stand on it.
 *
 * A `crank_linear` y = x W^T + b (dense, or an embedding: a table whose rows are gathered) is a stack of *maps* of one type. The
 * base gives y0 = x W^T; every map above it takes (x, y0) and gives y. The bias is added last. A model is made of linears and
 * does not know which methods are on them; a method is one `const crank_map` at the end of its own file. */
#ifndef CRANK_LINEAR_H
#define CRANK_LINEAR_H

#include "crank/graph.h"
#include "crank/ops.h"
#include "crank/option.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct crank_linear  crank_linear;
typedef struct crank_linears crank_linears; /* all linears of a model, in the order of its forward pass */
typedef struct crank_map     crank_map;

typedef enum crank_linear_kind {
    CRANK_LINEAR_DENSE,    /* weight [out, in] */
    CRANK_LINEAR_EMBEDDING /* table [in = V rows, out = d]: seen as a map, W = table^T; x is ids i32 [n] */
} crank_linear_kind;

/* ---- a method ---- */

/* What a method sees of one linear it stands on. `model` is shared by all linears of the same attachment. */
typedef struct crank_site {
    crank_linear *linear;
    const void   *options;
    void         *state; /* state_size bytes, zeroed, of this linear */
    void         *model; /* model_state_size bytes, zeroed, of the attachment */
    int           index; /* of this linear among the attachment's */
    int           count; /* linears of the attachment */
    uint64_t      seed;
} crank_site;

/* Streamed calibration data of one linear: rows of host f32. Any may be NULL when the method did not ask for it. */
typedef struct crank_observation {
    const float *x, *y0, *dy; /* [n, in], [n, out], [n, out]; dy: of the batch's loss, numerator over denominator */
    const float *g;           /* [out, in]: dy^T x, the gradient of the weight that the linear acts with */
    const float *second, *sum; /* [in, in]: x^T x; [in]: sums of x; over the n rows */
    int64_t      n;
} crank_observation;

/* GRADIENT and SECOND (second, sum) are made where the model runs: who needs dy^T x or x^T x alone asks for it, and no rows cross to the host.
 * X and SECOND together: X where the model runs on the host, SECOND elsewhere. */
enum { CRANK_OBSERVE_X = 1, CRANK_OBSERVE_Y0 = 2, CRANK_OBSERVE_DY = 4, CRANK_OBSERVE_GRADIENT = 8, CRANK_OBSERVE_SECOND = 16 };

struct crank_map {
    const char *name, *paper, *summary;
    const crank_option *options;
    size_t options_size, state_size, model_state_size;
    bool affine;        /* y is affine in x: merged by running it on unit rows */
    bool embeddings;    /* also stands on embeddings */
    unsigned observes;  /* CRANK_OBSERVE_*: what calibrate wants; 0: no calibration pass */
    const char *needs_base; /* NULL: any base; else "dense" */

    /* Before attach, when `observes`: once for each batch of calibration rows, then once with batch == NULL, where what was gathered
     * is turned into start values and freed: linears are shown group by group, so that memory stays bounded. A site that was shown
     * nothing (its values come from a file) gets the last call alone and takes plain start values. */
    crank_status (*calibrate)(crank_context *context, crank_site *site, const crank_observation *batch);
    /* For the memory plan: bytes that a site gathers until its last call; *last: what that call takes beside. May be NULL. */
    size_t (*calibrate_bytes)(const crank_site *site, size_t *last);
    /* Once a model, before the first attach and after calibration: budgets over linears (crank_site_rank). May be NULL. */
    crank_status (*allot)(crank_context *context, crank_site *sites, int count);
    /* Creates parameters (crank_site_param) and sets their initial values. Required. Also called while memory is deferred
     * (planning, checks before an adapter is loaded): parameters have no data then, and no values are set. */
    crank_status (*attach)(crank_context *context, crank_site *site);
    /* Records parameters -> tensors that forward reads (crank_site_put). Recorded at the head of every graph that uses the linear. */
    void (*derive)(crank_graph *graph, crank_site *site);
    /* x [n,in] (ids [n] for an embedding), y0 [n,out] from below -> y [n,out]. Required. x may only be used through
     * crank_linear_down and crank_linear_below when the method says `embeddings`. */
    crank_tensor *(*forward)(crank_graph *graph, crank_site *site, crank_tensor *x, crank_tensor *y0);
    /* A scalar added to the loss numerator times the denominator, once a model; may be NULL. */
    crank_tensor *(*penalty)(crank_graph *graph, crank_site *sites, int count);
    /* Recorded once a step: before_step reads and may replace the gradient of each of its parameters (crank_gradient_of /
     * crank_gradient_set), after_step may change parameters. */
    void (*before_step)(crank_graph *graph, crank_site *site);
    void (*after_step)(crank_graph *graph, crank_site *site);
    /* The method moves its own trainable parameters: recorded behind the clip, with crank_gradient_of (accumulated, unscaled: times
     * the step scalar CLIP) and crank_step_scalars; where SKIP is not 0 nothing may change. The run's optimiser leaves these
     * parameters alone, and so it does with a parameter of the model that the method trains (crank_site_train) and marks `moved`:
     * a method that keeps W as the product of its factors reads W's gradient and assigns W. May be NULL. */
    void (*update)(crank_graph *graph, crank_site *site);
    /* Between runs, before every step (1-based): host code that may read values, resize, fold. *changed is set when graphs must be
     * recorded again. Step 0 comes once, before memory is planned: the heaviest state that the run can reach. */
    crank_status (*period)(crank_context *context, crank_site *sites, int count, int64_t step, bool *changed);
    /* What a plain LoRA export writes: factors with W' = W + s B A. NULL: not bounded rank. */
    crank_status (*as_lora)(crank_context *context, crank_site *site, int64_t *rank, double *scale, float **A, float **B);
    /* The way back from a merge whose original was not kept: W [out, in] and bias [out] (NULL: none) as merged become what they were
     * below the map. NULL: W less the pair of as_lora, which then must not depend on the weight; without either no way back. */
    crank_status (*unmerge)(crank_context *context, crank_site *site, double *W, double *bias);
    /* PEFT's layout; peft_type NULL: only our own. peft_config gives json text of the keys of adapter_config.json that differ
     * from PEFT's defaults; peft_name the file's suffix of a parameter ("A" -> "lora_A.weight"; NULL: a parameter that files do
     * not hold), where the hook is absent the parameter's own name. */
    const char *peft_type;
    /* False: with these options the parameters have no place in PEFT's files, and the adapter is written in our own layout. NULL: they
     * always have one. A peft_name that starts with "base_model." is a whole key: of what all linears share. */
    bool (*peft_holds)(const crank_site *site);
    char *(*peft_config)(crank_context *context, const crank_site *site);
    /* Sets options from the json text of an adapter_config.json and refuses what the method cannot do. */
    crank_status (*peft_options)(crank_context *context, const char *config, void *options);
    const char *(*peft_name)(const crank_site *site, const char *name);
    /* Frees what the site's state points to; parameters are not its business. May be NULL. */
    void (*release)(crank_site *site);
};

/* Parameters of a site: named "<linear>.<method>.<name>" in the params set ("<linear>.<method>.<adapter>.<name>" when the
 * attachment's name is not "default"), role METHOD. They go with the attachment. */
CRANK_API crank_param *crank_site_param(crank_context *context, crank_site *site, const char *name, crank_dtype dtype, int rank,
                                        const int64_t *dims, bool trainable);
CRANK_API crank_param *crank_site_find(const crank_site *site, const char *name);
/* The same for what only checkpoints hold (moments, counters, drawn sets): role STATE, or CACHE for what period writes before each
 * step anyway; never trainable and never part of an adapter's files. */
CRANK_API crank_param *crank_site_state(crank_context *context, crank_site *site, const char *name, crank_role role, crank_dtype dtype,
                                        int rank, const int64_t *dims);
/* In calibrate and allot: the option `rank` of this site alone, also 0: the site then goes before attach, with no map on its linear. */
CRANK_API crank_status crank_site_rank(crank_context *context, crank_site *site, int64_t rank);
/* Makes a parameter of the model (a bias, a head) trainable while the attachment lives; it is saved with the adapter. */
CRANK_API crank_status crank_site_train(crank_context *context, crank_site *site, crank_param *param);
/* Tensors that derive made, kept by name for forward in the same graph. */
CRANK_API void          crank_site_put(crank_graph *graph, const crank_site *site, const char *name, crank_tensor *tensor);
CRANK_API crank_tensor *crank_site_get(crank_graph *graph, const crank_site *site, const char *name);
/* The gradient of a parameter in before_step, and its replacement. The task that records a step sets every gradient before the
 * hooks run and reads it back after. NULL: none. */
CRANK_API crank_tensor *crank_gradient_of(crank_graph *graph, crank_param *param);
CRANK_API void          crank_gradient_set(crank_graph *graph, crank_param *param, crank_tensor *gradient);

/* ---- a linear ---- */

typedef struct crank_quantized crank_quantized; /* a base in four or eight bits; internal */

struct crank_linear {
    const char       *name; /* module path as in the model's checkpoint: "model.layers.0.self_attn.q_proj" */
    crank_linear_kind kind;
    int64_t           in, out;
    crank_param      *weight; /* [out, in], or the table [V, d] of an embedding; NULL when the base is not dense */
    crank_quantized  *quantized; /* the frozen base where weight is NULL, or NULL; owned */
    crank_param      *bias;   /* [out] or NULL */
    bool              transposed_file; /* GPT-2 Conv1D: [in, out] in checkpoints, transposed on load and save */
    bool              is_head;         /* output head or classifier: `all-linear` leaves it out */
    int               block;           /* number of the transformer layer, -1 outside */
    int               reads;           /* linears with the same number read the same x (q, k, v; gate, up) */
    crank_linears    *owner;
    int               index;
    void             *stack; /* of maps; internal */
};

CRANK_API crank_linears *crank_linears_new(crank_context *context, crank_params *params, uint64_t seed);
CRANK_API void           crank_linears_free(crank_linears *linears); /* before its params are freed */
CRANK_API size_t         crank_linears_count(const crank_linears *linears);
CRANK_API crank_linear  *crank_linears_at(const crank_linears *linears, size_t i);
CRANK_API crank_linear  *crank_linears_find(const crank_linears *linears, const char *name);
CRANK_API crank_params  *crank_linears_params(const crank_linears *linears);
/* Adds a linear over parameters that the model made. */
CRANK_API crank_linear *crank_linear_add(crank_linears *linears, const char *name, crank_linear_kind kind, int64_t in, int64_t out,
                                         crank_param *weight, crank_param *bias);

/* y = maps(x) + bias, [.., in] -> [.., out] in the compute type (ids i32 [n] -> [n, out] for an embedding). */
CRANK_API crank_tensor *crank_linear_forward(crank_graph *graph, crank_linear *linear, crank_tensor *x);
/* The base weight in the compute type: what a head's log-probabilities take. Only for a linear without maps. */
CRANK_API crank_tensor *crank_linear_weight(crank_graph *graph, crank_linear *linear);
CRANK_API bool          crank_linear_has_maps(const crank_linear *linear);
/* For maps that add a term of this rank to the product with the base weight: where the device makes one product of both, and the weight is
 * one that it does so for, the weight gets the room for it (crank_param_make_room). Before graphs are recorded. */
CRANK_API crank_status crank_linear_make_room(crank_context *context, crank_linear *linear, int64_t rank);
/* For methods. x A^T in the linear's geometry (a gather for an embedding): A [r, in] -> [n, r]. */
CRANK_API crank_tensor *crank_linear_down(crank_graph *graph, crank_linear *linear, crank_tensor *x, crank_tensor *A);
/* What stands below map `site`, applied to another input. */
CRANK_API crank_tensor *crank_linear_below(crank_graph *graph, const crank_site *site, crank_tensor *x);
/* W P [out, r] of the base weight, P [in, r], in f32 (f64 in an f64 graph). */
CRANK_API crank_tensor *crank_linear_times(crank_graph *graph, crank_linear *linear, crank_tensor *P);
/* Rows first..first+count-1 of the base weight on the host, f32 [count, in]. */
CRANK_API crank_status crank_linear_rows(crank_context *context, const crank_linear *linear, int64_t first, int64_t count, float *rows);

/* All rows of the weight that the linear acts with, f32 [out, in]: base and maps that are on (affine ones). Dense linears. */
CRANK_API crank_status crank_linear_effective(crank_context *context, crank_linear *linear, float *rows);

/* ---- attachments: a method on a set of linears ---- */

typedef struct crank_attachment crank_attachment;
typedef struct crank_attach_options {
    const char *name;     /* of the adapter: "default" */
    const char *targets;  /* PEFT's rules: "all-linear", a list of suffixes (lines), or one regex on the whole path */
    const char *exclude;  /* the same rule; may be NULL */
    const char *layers;   /* layer numbers (lines); may be NULL */
    const char *rank_pattern, *alpha_pattern; /* "regex=value" lines; first hit wins; set on the method's options `rank`, `alpha` */
    const char *modules;  /* PEFT's modules_to_save: modules (lines, the rule of targets) that are trained in full and saved with
                             the adapter: a classification head. May be NULL */
} crank_attach_options;

/* Chooses the linears, makes their sites (state zeroed, options copied, patterns applied). Fails when nothing matches, naming
 * the suffixes that would. The order of a caller: attach_new, [calibration: crank_attachment_observe ...], attach_finish. */
CRANK_API crank_attachment *crank_attachment_new(crank_context *context, crank_linears *linears, const crank_map *map,
                                                 const void *options, const crank_attach_options *where);
/* batch NULL: the linear's calibration ends here (finish ends those that are left). */
CRANK_API crank_status crank_attachment_observe(crank_context *context, crank_attachment *attachment, crank_linear *linear,
                                                const crank_observation *batch);
/* "path=rank" lines of the sites whose rank calibration chose (NULL: none did; crank_free), and their return before finish: a resumed run
 * calibrates nothing. Sites of rank 0 stand in the lines too. */
CRANK_API char        *crank_attachment_ranks(crank_context *context, const crank_attachment *attachment);
CRANK_API crank_status crank_attachment_set_ranks(crank_context *context, crank_attachment *attachment, const char *lines);
CRANK_API crank_status crank_attachment_finish(crank_context *context, crank_attachment *attachment);
CRANK_API void         crank_attachment_remove(crank_attachment *attachment); /* with its parameters */
CRANK_API size_t       crank_linears_attachments(const crank_linears *linears);
CRANK_API crank_attachment *crank_linears_attachment(const crank_linears *linears, size_t i);
CRANK_API const crank_map  *crank_attachment_map(const crank_attachment *attachment);
CRANK_API const char       *crank_attachment_name(const crank_attachment *attachment);
CRANK_API const void       *crank_attachment_options(const crank_attachment *attachment);
CRANK_API const crank_attach_options *crank_attachment_where(const crank_attachment *attachment);
CRANK_API crank_site *crank_attachment_sites(crank_attachment *attachment, int *count);
/* Run-time switches: off (the model below, bit for bit) and scale; graphs recorded afterwards see them. */
CRANK_API void crank_attachment_set(crank_attachment *attachment, bool on, double scale);
/* Chosen for each row: while set, graphs recorded act by it on some rows of the batch alone, so that a batch may mix adapters. The rows that it
 * takes are an input of the graph, f32 [rows of the linears' x], 1 where it acts and 0 (the start) where what stands below stays, bit for
 * bit. crank_attachment_rows gives that input; NULL: the graph has no linear that it stands on. Such a map is not merged. */
CRANK_API void          crank_attachment_by_row(crank_attachment *attachment, bool by_row);
CRANK_API crank_tensor *crank_attachment_rows(crank_graph *graph, const crank_attachment *attachment);
/* Switches and mixes adapters without loading the base again: the named ones act, all others are off.
 *     W' = W + sum_k weight_k (f_k(W) - W)
 * Each change is that of the base weight, so the order does not matter. One adapter of weight 1 is the adapter alone, none is the base,
 * bit for bit. CRANK_USAGE: an unknown name, one named twice, a merged adapter, or one that also brings trained weights of the
 * model itself (a head, biases) and would not act whole. Graphs recorded afterwards see it. */
CRANK_API crank_status crank_linears_mix(crank_context *context, crank_linears *linears, const char *const *names, const double *weights,
                                         size_t count);
/* The attachment of this name, or NULL. */
CRANK_API crank_attachment *crank_linears_adapter(const crank_linears *linears, const char *name);

/* While bare, graphs are recorded as if no method stood on the model: the reference policy of preference objectives. */
CRANK_API void crank_linears_bare(crank_linears *linears, bool bare);

/* Hooks over all attachments of a model: what a training task records and calls. */
CRANK_API crank_tensor *crank_linears_penalty(crank_graph *graph, crank_linears *linears); /* NULL: none */
CRANK_API void          crank_linears_before_step(crank_graph *graph, crank_linears *linears);
CRANK_API void          crank_linears_update(crank_graph *graph, crank_linears *linears); /* of methods that move their parameters */
CRANK_API void          crank_linears_after_step(crank_graph *graph, crank_linears *linears);
CRANK_API crank_status  crank_linears_period(crank_context *context, crank_linears *linears, int64_t step, bool *changed);

/* Merging: adds what all attachments change to the base weight: affine maps are run on unit rows, in f32, block by block
 * (W'^T = f(I) - f(0), bias += f(0)), rounded once to the weight's type. `safe` refuses non-finite results and changes
 * nothing. The maps stay attached but are off; `crank_linears_unmerge` restores the weights that were kept (keep_original), else it
 * solves for them, method by method, in f64 and rounds once: exact but for the merge's own rounding. */
CRANK_API crank_status crank_linears_merge(crank_context *context, crank_linears *linears, bool safe, bool keep_original);
CRANK_API crank_status crank_linears_unmerge(crank_context *context, crank_linears *linears);

/* Registry of methods. */
CRANK_API const crank_map *crank_map_find(const char *name);
CRANK_API const crank_map *crank_map_at(size_t i); /* NULL past the end */
CRANK_API crank_status     crank_register_map(crank_context *context, const crank_map *map);

#ifdef __cplusplus
}
#endif
#endif
