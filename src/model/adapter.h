/* adapter.h - what reading and writing adapter folders share: the tensors of an attachment and their names in files. */
#ifndef CRANK_MODEL_ADAPTER_H
#define CRANK_MODEL_ADAPTER_H

#include "crank/adapter.h"
#include "base/json.h"

/* One tensor of an adapter file. */
typedef struct adapter_tensor {
    crank_param *param;
    char        *key;        /* as it is written */
    char        *other;      /* a second name under which it is accepted, or NULL */
    bool         transposed; /* stored [in, out] (GPT-2's Conv1D) */
} adapter_tensor;

typedef struct adapter_tensors {
    adapter_tensor *items;
    size_t          count, capacity;
    char          **modules; /* paths of modules that are trained in full, each once */
    size_t          module_count, module_capacity;
} adapter_tensors; /* starts as {0} */

/* The tensors of the attachment: what the method made, and what it trains of the model. `peft`: named as PEFT names them,
 * else by crank's own names. With `others`, weights of the model that somebody else made trainable (a new head) come too. */
crank_status adapter_list(crank_context *context, crank_attachment *attachment, bool peft, bool others,
                          adapter_tensors *out);
void         adapter_list_free(adapter_tensors *tensors);

/* SHA-256 over the base weights that the attachment stands on: each linear's name and sizes, first and last row rounded to bf16,
 * so that a model held in another type is the same base. Hex, 65 bytes. */
crank_status adapter_base(crank_context *context, crank_attachment *attachment, char out[65]);

/* Changes the pair of one site before it is written: factors f32 [rank, in] and [out, rank] (crank_free), W' = W + scale B A. */
typedef crank_status adapter_edit(crank_context *context, const crank_linear *linear, void *user, int64_t *rank, double *scale, float **A, float **B);
/* crank_adapter_save_lora with a change on the way (NULL: none). */
crank_status adapter_save_pairs(crank_context *context, crank_model *model, crank_attachment *attachment, const char *folder, const char *base,
                                adapter_edit *edit, void *user);

/* The method of an adapter_config.json: "lora", "dora", or the method whose peft_type it is. NULL: message set. */
const crank_map *adapter_peft_map(crank_context *context, const json_t *config, const char *where);
#endif
