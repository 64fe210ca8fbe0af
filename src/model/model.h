/* model.h - what the room shares: the model itself, a family's descriptor, and the functions that families build with.
 *
 * A family is one `const model_family` at the end of its own file. Its `configure` reads config.json into the model's
 * numbers, its `build` declares every tensor of the checkpoint under the name it has there; the rest (finding tensors
 * in files, random starts, saving, planning without weights) is the same for all. */
#ifndef CRANK_MODEL_MODEL_H
#define CRANK_MODEL_MODEL_H

#include <math.h>

#include "base/json.h"
#include "base/text.h"
#include "crank/model.h"
#include "nn/nn.h"

typedef enum model_task {
    TASK_BODY,    /* hidden states only: "BertModel" */
    TASK_LM,      /* a causal language model: "LlamaForCausalLM" */
    TASK_MASKED,  /* a masked language model: "BertForMaskedLM" */
    TASK_CLASSIFY /* "BertForSequenceClassification" */
} model_task;

typedef enum model_pooling { POOL_MEAN, POOL_CLS, POOL_LAST, POOL_POOLER } model_pooling;

typedef enum weight_start { START_NORMAL, START_ZERO, START_ONE } weight_start;

/* One tensor of the checkpoint. */
typedef struct model_weight {
    char *name; /* as in the file that save writes */
    crank_param *param;
    crank_linear *linear; /* whose weight it is, or NULL */
    weight_start start;
    double spread;     /* of a normal start */
    bool transposed;   /* stored [in, out] in files */
    bool fresh;        /* not in the file: begins with `start` */
    crank_quantized *quantized; /* held so; param is its codes; owned by the linear */
    struct packed_weight *packed; /* quantised in the file; owned */
    crank_view source; /* in the file, to be copied; data NULL: none */
    const char *source_name;
} model_weight;

/* Everything behind the body. NULL or without weight where the architecture has none. */
typedef struct model_heads {
    crank_linear *vocabulary; /* [vocab, hidden] */
    crank_linear *transform;  /* before it: act, then norm (masked language models) */
    crank_unary_kind transform_activation;
    nn_norm transform_norm;
    crank_linear *pooler; /* tanh(W x_first + b) */
    crank_linear *dense;  /* before the classifier: act */
    crank_unary_kind dense_activation;
    crank_linear *classifier;
} model_heads;

typedef struct model_family model_family;

/* A name of the file that is loaded, in order. */
typedef struct file_name {
    const char *name;
    bool taken;
} file_name;

struct crank_model {
    const model_family *family;
    crank_context *context;
    crank_device *device;
    crank_model_config config;
    crank_model_options options;
    crank_dtype held; /* type of weights that are not quantised */
    model_task task;
    model_pooling pooling;
    bool pooling_stated; /* by the caller or the folder, not by the architecture */
    char pooling_name[16];
    char *where;   /* of config.json, for messages */
    json_t *json;  /* config.json as read */
    double spread; /* initializer_range */
    crank_params *params;
    crank_linears *linears;

    nn_transformer body;
    model_heads heads;

    /* the builder's */
    crank_status status; /* sticky: declarations behind the first error do nothing */
    model_weight *list;
    size_t count, capacity;
    char **texts; /* names */
    size_t text_count, text_capacity;
    crank_weights *weights; /* of a loaded folder; open while parameters are mapped from it */
    file_name *names;       /* all names of `weights`, sorted */
    size_t name_count;
    text_buffer problems; /* the table of missing, misshapen and unknown tensors */
    int problem_count;
    int reads; /* groups of linears that read the same x */

    char fingerprint[65];
};

typedef struct model_class {
    const char *model_type; /* in config.json */
    const char *name;       /* architectures are name + "ForCausalLM", "Model", ... */
} model_class;

struct model_family {
    const char *name, *summary;
    const model_class *classes; /* ends with {NULL, NULL} */
    const char *prefix;         /* of the body's names where a head stands beside it: "model.", "bert." */
    const char *layer;          /* of the names of layers, below the prefix: "layers", "encoder.layer" */
    const char *const *heads;   /* starts of names that belong to heads of some task; NULL-terminated */
    bool decoder;
    crank_status (*configure)(crank_model *model);
    void (*build)(crank_model *model);
};

extern const model_family family_llama, family_gpt2, family_bert, family_roberta, family_distilbert;
const model_family *family_at(size_t i); /* NULL past the end */

/* ---- config.c ---- */

/* Reads what all families share (family, architecture, task, labels, pooling), then the family's own numbers. `folder`
 * may be NULL: config.json came as text. */
crank_status model_configure(crank_context *context, crank_model *model, const char *folder);
const char  *model_pooling_label(const crank_model *model); /* "mean", "cls", "last", "pooler" */

/* Largest sizes that a config may state: products of two of them stay far below 2^63. */
enum {
    SIZE_VOCAB = 1 << 26,
    SIZE_HIDDEN = 1 << 20,
    SIZE_LAYERS = 1 << 12,
    SIZE_HEADS = 1 << 14,
    SIZE_INNER = 1 << 24,
    SIZE_CONTEXT = 1 << 27,
    SIZE_LABELS = 1 << 20
};

/* Members of config.json; each does nothing when *status is an error already. Sizes are whole numbers in 1..high. */
void config_size(crank_model *model, crank_status *status, const char *key, int64_t high, int64_t *out);
void config_size_or(crank_model *model, crank_status *status, const char *key, int64_t high, int64_t initial,
                    int64_t *out);
void config_number(crank_model *model, crank_status *status, const char *key, double low, double high, double initial,
                   double *out);
void config_bool(crank_model *model, crank_status *status, const char *key, bool initial, bool *out);
void config_activation(crank_model *model, crank_status *status, const char *key, const char *initial,
                       crank_unary_kind *out);
/* rope_parameters, or rope_theta with rope_scaling. */
void config_rope(crank_model *model, crank_status *status, nn_rope *rope);
/* heads, kv_heads, head_dim and hidden fit each other; kv_heads and head_dim that are 0 follow from the others. */
void config_check_heads(crank_model *model, crank_status *status);
/* Sizes of one layer: those of `crank_layers` {"kv_heads": [..], "intermediate": [..]} in config.json, which pruning leaves where layers
 * differ; else the model's own. Query heads keep their number for each head of keys and values. Sets the sticky error for bad ones. */
typedef struct layer_sizes {
    int64_t heads, kv_heads, intermediate;
} layer_sizes;
layer_sizes config_layer_sizes(crank_model *model, int64_t layer);
/* A switch of the architecture that crank lacks: it must be off or absent. */
void config_must_be_off(crank_model *model, crank_status *status, const char *key);
/* Dropout rates do not act: those that are not 0 are told in the log. NULL-terminated. */
void config_note_dropout(crank_model *model, const char *const *keys);

/* ---- build.c: declarations. On the model's sticky error they do nothing and give NULL. ---- */

enum {
    WEIGHT_NO_BIAS = 1,
    WEIGHT_TRANSPOSED = 2, /* [in, out] in files */
    WEIGHT_FRESH = 4       /* may be missing or misshapen in the file, and is then made */
};

/* Names, owned by the model. A name of the body stands below the family's prefix where a head stands beside it. */
const char *model_name(crank_model *model, const char *format, ...) CRANK_PRINTF(2, 3);
const char *model_body_name(crank_model *model, const char *format, ...) CRANK_PRINTF(2, 3);

crank_param *model_param(crank_model *model, const char *name, int rank, const int64_t *dims, weight_start start,
                         unsigned flags);
/* In layer i of the body, below "PREFIX<family's layer>.i.": reads NEW_READS makes a group of its own. */
enum { NEW_READS = -1 };
crank_linear *model_layer_dense(crank_model *model, int i, const char *name, int64_t in, int64_t out, int reads,
                                unsigned flags);
nn_norm model_layer_norm(crank_model *model, int i, const char *name, int64_t width, bool centred);

/* A dense linear with name.weight [out, in] and, unless NO_BIAS, name.bias [out]. `reads`: see model_next_reads. */
crank_linear *model_dense(crank_model *model, const char *name, int64_t in, int64_t out, int block, int reads,
                          unsigned flags);
crank_linear *model_embedding(crank_model *model, const char *name, int64_t rows, int64_t width);
nn_norm model_norm(crank_model *model, const char *name, int64_t width, bool centred);
/* The output head: the token embedding when tied, else name.weight. Its bias (or NULL) is a parameter made before. */
void model_vocabulary(crank_model *model, const char *name, crank_param *bias);
void model_classifier(crank_model *model, const char *name, unsigned flags); /* hidden -> labels */
/* Zeroed layers of the body, freed with the model. */
nn_block *model_blocks(crank_model *model);
/* The number of a new group of linears that read the same x. */
int model_next_reads(crank_model *model);
/* False only when a file is loaded and has no tensor of this name. */
bool model_file_has(crank_model *model, const char *name);

/* ---- weights.c ---- */

crank_status weights_open(crank_context *context, crank_model *model, const char *folder);
/* The tensor of the file for a name: as written, with the family's prefix added or left out, or with the norms' old
 * names (gamma, beta). Marks it taken. Gives the file's name; NULL: none. */
const char *weights_lookup(crank_model *model, const char *name, crank_view *view);
/* One line of the table of problems. */
void weights_problem(crank_model *model, const char *format, ...) CRANK_PRINTF(2, 3);
/* After build: fails with the table when it is not empty; takes memory; reads or makes values. */
crank_status weights_fill(crank_context *context, crank_model *model);

/* from [columns, rows] -> to [rows, columns], elements of `size` bytes; in tiles that stay in cache. */
void weights_transpose(void *to, const void *from, int64_t rows, int64_t columns, size_t size);

/* Keys and values of one sequence live in a set of their own. */
struct crank_model_cache {
    crank_params *params;
    nn_cache cache;
};
#endif
