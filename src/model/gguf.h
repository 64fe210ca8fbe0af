/* gguf.h - parts of writing models and adapters as GGUF. */
#ifndef CRANK_MODEL_GGUF_H
#define CRANK_MODEL_GGUF_H

#include "crank/adapter.h"
#include "data/gguf.h"
#include "model/model.h"

/* "llama", "qwen2", "qwen3", "gpt2", "bert"; NULL with a message: the format's readers know no such model. */
const char *gguf_architecture(crank_context *context, const crank_model *model);
/* The name of a tensor of the checkpoint ("..weight", "..bias") or, without an end, of its module: false where GGUF has none. */
bool gguf_name(const crank_model *model, const char *name, char out[64]);
/* Rows of q and k as Llama's readers want them, for rotation of neighbouring pairs: of `rows` with heads of `dim`, row i of the result is row
 * gguf_row(i, dim) of crank's. Only where gguf_permutes says so. */
bool    gguf_permutes(const crank_model *model, const crank_linear *linear);
int64_t gguf_row(int64_t row, int64_t dim);
/* Values [rows, cols] in that order, in place of `from`. */
void gguf_permute(const float *from, int64_t rows, int64_t cols, int64_t dim, float *to);

/* Vocabulary, merges, scores, kinds and special tokens; what could not be told is added to `left_out` as lines. */
crank_status gguf_tokens(crank_context *context, gguf_writer *w, const crank_model *model, const crank_tokenizer *tokenizer, text_buffer *left_out);
#endif
