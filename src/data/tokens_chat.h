/* tokens_chat.h - rows that are conversations as tokens with a loss mask. */
#ifndef CRANK_DATA_TOKENS_CHAT_H
#define CRANK_DATA_TOKENS_CHAT_H

#include "data/chat.h"
#include "data/dataset.h"

/* `text` is the JSON object of a row: {"messages": [...]}, or a list of messages under each of the prompt's and the
 * completion's key. `tools` (a list, or JSON text of one), `documents` and the members of `chat_template_kwargs` go to the
 * template. Assistant turns are trained: all of them, or those of the completion. crank_ids_free, crank_free. */
crank_status tokens_of_chat(crank_context *context, const chat_template *chat, const dataset_options *options, const char *text,
                            crank_ids *ids, uint8_t **mask);
#endif
