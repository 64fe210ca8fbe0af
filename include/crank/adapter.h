/* adapter.h - PEFT adapter folders in and out: adapter_config.json and adapter_model.safetensors. */
#ifndef CRANK_ADAPTER_H
#define CRANK_ADAPTER_H

#include "crank/model.h"
#include "crank/tokenizer.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Loads an adapter folder onto a model (method, ranks, patterns, targets from its config; crank's own methods from crank.json).
 * Every tensor must match: a missing, unexpected or misshapen one is CRANK_BAD_DATA with a table. `name`: of the attachment. */
CRANK_API crank_attachment *crank_adapter_load(crank_context *context, crank_model *model, const char *folder, const char *name);
/* What the folder tells of the classification head that was trained with it, for crank_model_options: its outputs (0: none) and how
 * sequences were pooled ("": not told). */
CRANK_API crank_status crank_adapter_head(crank_context *context, const char *folder, int64_t *labels, char pooling[16]);
/* Writes the attachment: PEFT's own layout where PEFT knows the method, else crank.json + safetensors. `base`: what
 * base_model_name_or_path says. Written beside and renamed. */
CRANK_API crank_status crank_adapter_save(crank_context *context, crank_model *model, crank_attachment *attachment,
                                          const char *folder, const char *base);
/* As plain LoRA in PEFT's layout (methods of bounded rank). */
CRANK_API crank_status crank_adapter_save_lora(crank_context *context, crank_model *model, crank_attachment *attachment,
                                               const char *folder, const char *base);

/* As plain LoRA of a lower rank. */
typedef struct crank_cut {
    int64_t     rank;     /* 0: only linears that `patterns` hit are cut */
    const char *patterns; /* "regex=rank" lines: the first that hits a linear's path stands before `rank`; may be NULL */
    bool        svd;      /* by singular values of the product (the nearest change of that rank); else the first ranks of a method that
                             orders them as it trains (dylora) */
    double      lost;     /* told: the largest |change - cut| / |change| of a linear, with svd */
} crank_cut;
/* CRANK_USAGE: a rank that was not trained, or above every linear's; a method without order or without bounded rank. */
CRANK_API crank_status crank_adapter_save_cut(crank_context *context, crank_model *model, crank_attachment *attachment,
                                              const char *folder, const char *base, crank_cut *cut);

/* In crank's own layout (crank.json), whatever the method. */
CRANK_API crank_status crank_adapter_save_own(crank_context *context, crank_model *model, crank_attachment *attachment,
                                              const char *folder, const char *base);
/* The same as one GGUF file, as llama.cpp reads adapters. CRANK_USAGE lists what such a file cannot carry: embeddings, weights of the model itself,
 * methods without bounded rank. */
CRANK_API crank_status crank_adapter_save_gguf(crank_context *context, crank_model *model, crank_attachment *attachment, const char *path);
/* The model (adapters merged before) as one GGUF file in f32, f16 or bf16, with the tokenizer (may be NULL). *left_out (or NULL): lines about what
 * the format has no place for; NULL: nothing. crank_free. */
CRANK_API crank_status crank_model_save_gguf(crank_context *context, const crank_model *model, const crank_tokenizer *tokenizer, const char *path,
                                             crank_dtype dtype, char **left_out);
/* base_model_name_or_path of the folder; crank_free. *base NULL where it tells none. */
CRANK_API crank_status crank_adapter_base(crank_context *context, const char *folder, char **base);

#ifdef __cplusplus
}
#endif
#endif
