/* logits.h - the logits of given token ids as a file, so that anyone can compare with another implementation. */
#ifndef CRANK_TASK_LOGITS_H
#define CRANK_TASK_LOGITS_H

#include "crank/model.h"

/* `ids_path`: JSON, a list of token ids or a list of such lists (one a sequence). Writes f32 tensors "logits" [n, vocab] for one
 * sequence, "logits.0", "logits.1", ... for several; for an encoder "hidden" [n, hidden], and "outputs" [labels] where it has a
 * head. Logits exist a chunk of rows at a time. */
crank_status logits_write(crank_context *context, crank_model *model, const char *ids_path, const char *out_path);
#endif
