/* stack.h - what the files of linear/ know of each other: the stack of maps on a linear, attachments, tables of a graph. */
#ifndef CRANK_LINEAR_STACK_H
#define CRANK_LINEAR_STACK_H

#include "crank/linear.h"

/* The maps above the base weight, lowest first. */
typedef struct linear_stack {
    crank_site      **sites;
    crank_attachment **attachments; /* of each site */
    int               count, capacity;
} linear_stack;

/* A parameter of the model that an attachment trains, and whether it was trainable before. */
typedef struct trained_param {
    crank_param *param;
    bool         before;
} trained_param;

struct crank_attachment {
    crank_linears       *linears;
    const crank_map     *map;
    void                *options;      /* a copy, with its strings */
    void               **site_options; /* [count]: own copies where a pattern hit, else `options` */
    crank_attach_options where;        /* copied strings */
    crank_site          *sites;
    bool                *ended; /* [count]: calibration of the site is over */
    char                *ranks; /* "path=rank" lines that crank_site_rank wrote, or NULL */
    int                  count;
    void                *model_state;
    crank_param        **params; /* made by the method */
    size_t               param_count, param_capacity;
    trained_param       *trained;
    size_t               trained_count, trained_capacity;
    bool                 finished, on, merged, by_row;
    double               scale;
};

/* What a recording shows of linears: rows that go in, and what stands below the maps that come (no bias). */
typedef struct linear_seen {
    crank_linear *linear;
    crank_tensor *x, *y;
} linear_seen;

typedef struct linear_watch {
    const bool  *wanted; /* by index of the linear; embeddings are never shown */
    linear_seen *items;
    size_t       count, capacity;
} linear_watch;

/* A base parameter as it was before a merge: a host copy, or, for one that was mapped, its data in the file. */
typedef struct merge_backup {
    crank_param *param;
    void        *bytes;
    const void  *mapped;
} merge_backup;

struct crank_linears {
    crank_context     *context;
    crank_params      *params;
    uint64_t           seed;
    crank_linear     **items;
    size_t             count, capacity;
    crank_attachment **attachments;
    size_t             attachment_count, attachment_capacity;
    merge_backup      *backups;
    size_t             backup_count, backup_capacity;
    bool               bare;  /* graphs are recorded without maps */
    bool               mixed; /* each map changes the base weight alone, and the changes are added */
    bool               final; /* a merge was made without keeping the originals */
    linear_watch      *watch; /* of the recording that runs now, or NULL */
};

static inline linear_stack *stack_of(const crank_linear *linear) { return linear->stack; }

/* True when the attachment's maps act in graphs that are recorded now. */
static inline bool attachment_acts(const crank_attachment *attachment)
{
    return attachment->finished && attachment->on && !attachment->merged && attachment->scale != 0 && !attachment->linears->bare;
}

crank_attachment *site_attachment(const crank_site *site);
/* Room for one more element at the end of an array that doubles; false: out of memory (message set). */
bool stack_grow(crank_context *context, void *array, size_t count, size_t *capacity, size_t size, const char *what);

/* The first `count` maps of the stack on y0 [n, out] (what the base gives for x), without bias. */
crank_tensor *stack_forward(crank_graph *graph, crank_linear *linear, crank_tensor *x, crank_tensor *y0, int count);
/* True, once a graph, for a site whose `derive` was not recorded yet. */
bool site_derive_once(crank_graph *graph, const crank_site *site);
/* The parameter in the compute type, cast once a graph. */
crank_tensor *linear_use(crank_graph *graph, const crank_linear *linear, crank_param *param);
/* Rows of a batch of fixed size that stand behind the real ones: f32 [n], 1 for such filler, zeros unless the task writes
 * linear_filler_input. For methods that count rows. NULL where another number of rows was asked for first in this graph. */
crank_tensor *linear_filler(crank_graph *graph, int64_t n);
crank_tensor *linear_filler_input(crank_graph *graph); /* NULL: nobody asked */
/* Puts back the weights that a merge kept, from number `first` on, and forgets them. */
crank_status linears_put_back(crank_context *context, crank_linears *linears, size_t first);
/* The merge becomes permanent: copies of the weights before it are freed. */
void linears_forget_merge(crank_linears *linears);
/* The part of a parameter's name that its method chose. */
const char *site_param_name(const crank_site *site, const crank_param *param);

/* ---- targets.c: PEFT's rules for choosing modules ---- */

typedef struct target_rule target_rule;
/* "all-linear", a list of suffixes (lines), or one regex on the whole path. NULL: message set. */
target_rule *target_rule_new(crank_context *context, const char *text, const char *what);
void         target_rule_free(target_rule *rule);
bool         target_rule_is_regex(const target_rule *rule);
bool         target_rule_hits(const target_rule *rule, const char *path);
/* The path, or a module that it stands in. */
bool         target_rule_hits_module(const target_rule *rule, const char *path);
bool         target_rule_hits_linear(const target_rule *rule, const crank_linear *linear);

/* "regex=value" lines; the first whose `(.*\.)?(regex)$` matches the path. *found false: none. */
crank_status target_pattern(crank_context *context, const char *lines, const char *path, const char *what, bool *found,
                            double *value);
/* "suffixes that exist: q_proj, ...; did you mean `q_proj`?": sets the message. */
crank_status target_nothing(crank_context *context, const crank_linears *linears, const char *targets, const char *why);
#endif
