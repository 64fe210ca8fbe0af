/* model.h - model families: build from a Hugging Face config.json, load and save folders, record the forward pass.
 *
 * Tokens of all sequences of a batch stand in one row without padding: ids [n], with `segments` (first token of each sequence,
 * i32 [s+1], last = n, repeated values are empty sequences) and positions [n]. */
#ifndef CRANK_MODEL_H
#define CRANK_MODEL_H

#include "crank/linear.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct crank_model crank_model;

typedef struct crank_model_config {
    char    architecture[64]; /* "LlamaForCausalLM", ...: as in config.json */
    char    model_type[32];   /* "llama", "mistral", "qwen2", "qwen3", "gpt2", "bert", "roberta", ... */
    bool    causal;           /* a language model (head over the vocabulary); else an encoder */
    bool    decoder;          /* a token sees only those before it, whatever head stands behind the body */
    int64_t vocab, hidden, layers, heads, kv_heads, head_dim, intermediate, context;
    int64_t types;            /* token types of an encoder; 0: none */
    int64_t labels;           /* outputs of a classification head; 0: none */
    int64_t window;           /* sliding window; 0: none */
    double  epsilon, rope_theta;
    bool    tied;             /* the output head is the embedding */
} crank_model_config;

typedef struct crank_model_options {
    crank_dtype compute;    /* type of activations and products: f32, bf16, f64 */
    crank_dtype weights;    /* type in which weights are held: f32, bf16, f64. A frozen f32 or bf16 file in this type is mapped, not copied.
                               nf4, f8e4m3: the dense linears of the layers are quantised and frozen, all else is held in `compute` */
    bool        double_quantized; /* nf4: the scales of blocks are quantised as well. A file's own codes and scales stay as they are */
    int64_t     labels;     /* > 0: a classification head of this many outputs: the file's where it has that many, else a new one
                               (zero bias, normal(0, 0.02) weight) */
    const char *pooling;    /* "mean", "cls" (first token), "last", "pooler" (cls + tanh dense). NULL: what 1_Pooling/config.json of a
                               sentence-transformers folder says, else what the architecture's classifier uses */
    uint64_t    seed;
    bool        dry;        /* shapes only: no weights are read or made (planning) */
    bool        body;       /* without the head that the architecture names: hidden states and pooling only; not with labels */
} crank_model_options;

/* Reads config.json and the weights. Names that the family does not know, missing tensors and wrong shapes are errors with a table
 * of at most ten names (a missing classification head is made when labels > 0; buffers such as rotary tables or position ids are
 * passed over). NULL on error. */
CRANK_API crank_model *crank_model_load(crank_context *context, crank_device *device, const char *folder,
                                        const crank_model_options *options);
/* Whether config.json says that bitsandbytes has quantised the folder's weights to four bits. */
CRANK_API bool crank_model_quantized(crank_context *context, const char *folder);
/* A model with random weights (normal(0, initializer_range), norms 1, biases 0) from config.json text. */
CRANK_API crank_model *crank_model_new(crank_context *context, crank_device *device, const char *config_json,
                                       const crank_model_options *options);
CRANK_API void crank_model_free(crank_model *model);
/* Writes config.json (unknown keys kept), model.safetensors (sharded above 5 GB) in `dtype`. Tied weights are written once. */
CRANK_API crank_status crank_model_save(crank_context *context, const crank_model *model, const char *folder, crank_dtype dtype);

CRANK_API const crank_model_config  *crank_model_config_of(const crank_model *model);
CRANK_API const crank_model_options *crank_model_options_of(const crank_model *model);
CRANK_API const char *crank_model_pooling(const crank_model *model); /* "mean", "cls", "last", "pooler": of crank_model_pool and the classifier */
CRANK_API crank_linears *crank_model_linears(const crank_model *model);
CRANK_API crank_params  *crank_model_params(const crank_model *model);
CRANK_API crank_device  *crank_model_device(const crank_model *model);
/* SHA-256 over names, shapes and bytes of the base weights' first and last rows: recognises the base of an adapter. Hex, static
 * in the model. */
CRANK_API const char *crank_model_fingerprint(crank_context *context, crank_model *model);

typedef struct crank_model_cache crank_model_cache; /* keys and values of one sequence */
CRANK_API crank_model_cache *crank_model_cache_new(crank_context *context, crank_model *model, int64_t capacity);
CRANK_API void crank_model_cache_free(crank_model_cache *cache);

typedef struct crank_model_inputs {
    crank_tensor *ids;       /* i32 [n] */
    crank_tensor *positions; /* i32 [n] */
    crank_tensor *segments;  /* i32 [s+1]; not with a cache */
    crank_tensor *types;     /* i32 [n] token types of encoders, or NULL: all 0 */
    crank_model_cache *cache; /* with position: generation of one sequence; tokens are appended to it */
    crank_tensor *position;  /* i32 [1]: tokens in the cache before this run */
    int64_t       longest;   /* no segment has more tokens; 0: not known */
    crank_tensor *rows;      /* i32 [r], or NULL: only these tokens' hidden states are wanted */
} crank_model_inputs;

/* Records the body: hidden states [n, hidden] after the last norm, or [r, hidden] where rows are named: what the last layer does behind
 * its attention is then done for them alone. */
CRANK_API crank_tensor *crank_model_features(crank_graph *graph, crank_model *model, const crank_model_inputs *inputs);
/* The language model's head: weighted cross-entropy (numerator; see crank_head_cross_entropy) and log-probabilities of targets.
 * Where maps stand on the head, logits go through the linear. */
CRANK_API crank_tensor *crank_model_cross_entropy(crank_graph *graph, crank_model *model, crank_tensor *features,
                                                  crank_tensor *targets, crank_tensor *weights, crank_tensor **logp);
CRANK_API crank_tensor *crank_model_logprob(crank_graph *graph, crank_model *model, crank_tensor *features, crank_tensor *targets,
                                            crank_tensor **lse);
CRANK_API crank_tensor *crank_model_logits(crank_graph *graph, crank_model *model, crank_tensor *features); /* [n, vocab]: few rows */
/* Logits of the named tokens alone: ids i32 [k] -> [n, k] in f32 (f64); no other column of the head is computed where no map stands on it. */
CRANK_API crank_tensor *crank_model_answers(crank_graph *graph, crank_model *model, crank_tensor *features, crank_tensor *ids);
/* Encoders: one vector a sequence [s, hidden] by `pooling`, and the classification head's outputs [s, labels]. */
CRANK_API crank_tensor *crank_model_pool(crank_graph *graph, crank_model *model, crank_tensor *features, crank_tensor *segments);
CRANK_API crank_tensor *crank_model_classify(crank_graph *graph, crank_model *model, crank_tensor *features, crank_tensor *segments);

/* Families: registry for help and tests. */
CRANK_API const char *crank_family_name(size_t i); /* NULL past the end */
CRANK_API const char *crank_family_summary(size_t i);

#ifdef __cplusplus
}
#endif
#endif
