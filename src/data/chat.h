/* chat.h - conversations through a model's chat template: text, tokens, and the tokens that assistant turns are made of.
 *
 * A chat_template is parsed once and read-only afterwards: any number of threads may render and encode with one at the same
 * time, each with its own context. */
#ifndef CRANK_DATA_CHAT_H
#define CRANK_DATA_CHAT_H

#include <jansson.h>

#include "crank/tokenizer.h"
#include "data/jinja.h"

typedef struct chat_template chat_template;

/* The template of a tokenizer, which must outlive it. NULL: message set (CRANK_BAD_DATA when the model has none). */
chat_template *chat_template_new(crank_context *context, const crank_tokenizer *tokenizer);
void           chat_template_free(chat_template *chat);

/* Renders `messages` (a JSON array of objects). The template sees messages, tools, documents (null unless given), the
 * tokenizer's special tokens (bos_token, eos_token, ...), add_generation_prompt, and the members of `extra` (a JSON object or
 * NULL), which win. As transformers does, members of a message that are null are left out, and reasoning is offered under
 * `reasoning_content` and `thinking`, whichever of these or `reasoning` it came under. `now` is the time of strftime_now,
 * -1 the present. crank_free. */
char *chat_render(crank_context *context, const chat_template *chat, const json_t *messages, const json_t *extra,
                  bool add_generation_prompt, int64_t now, size_t *length);

/* Tokens of a whole conversation, encoded as one text whose special tokens are the template's own, and a mask, 1 where the
 * loss counts: the assistant turns among messages[first..]. crank_ids_free, crank_free.
 *
 * Turns are found by {% generation %} where the template has it: then what these blocks wrote is trained. Else a turn is
 * what the template adds to a rendering of the messages before it with the generation prompt, up to its end token; where
 * renderings of a part are no beginnings of the whole (reasoning left out of earlier turns, an end-of-text behind the last
 * one) the turn is found by writing a mark in place of its content. A turn that neither finds is CRANK_BAD_DATA. */
crank_status chat_encode(crank_context *context, const chat_template *chat, const json_t *messages, const json_t *extra,
                         size_t first, crank_ids *out, uint8_t **mask);
#endif
