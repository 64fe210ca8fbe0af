/* chat_spans.h - internal to chat*.c: the template object, and where assistant turns stand in a rendered conversation. */
#ifndef CRANK_DATA_CHAT_SPANS_H
#define CRANK_DATA_CHAT_SPANS_H

#include "data/chat.h"

typedef struct chat_special {
    char *name, *text; /* "bos_token", "<s>" */
} chat_special;

struct chat_template {
    const crank_tokenizer *tokenizer;
    jinja_template        *jinja;
    chat_special          *specials;
    size_t                 special_count;
};

/* A conversation under work. */
typedef struct chat_job {
    crank_context       *context;
    const chat_template *chat;
    const json_t        *messages, *extra;
    int64_t              now;
    char                *full; /* the whole conversation */
    size_t               length;
} chat_job;

typedef struct chat_span {
    size_t start, end; /* bytes of the rendered text */
} chat_span;

bool chat_is_assistant(const json_t *message);
/* Renders `messages` as chat_render does; `spans` may be NULL. */
char *chat_render_spans(crank_context *context, const chat_template *chat, const json_t *messages, const json_t *extra,
                        bool add_generation_prompt, int64_t now, jinja_spans *spans, size_t *length);
/* Where assistant message `index` stands in job->full; end == start: it has no text of its own. */
crank_status chat_find_turn(const chat_job *job, size_t index, chat_span *out);
#endif
