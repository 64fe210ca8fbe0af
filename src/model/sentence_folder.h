/* sentence_folder.h - what the sentence-transformers library keeps beside a model: how texts become vectors, or pairs become scores.
 *
 *   modules.json                        the parts in order: Transformer, Pooling, Normalize
 *   PATH/config.json of the Pooling     which tokens are pooled
 *   sentence_bert_config.json           max_seq_length; where it is not stated, model_max_length of tokenizer_config.json
 *   config_sentence_transformers.json   prompts by name, default_prompt_name; of a cross-encoder activation_fn
 *   config.json of a cross-encoder      the activation of its scores, as earlier releases keep it
 *
 * A part that crank lacks is refused by name. */
#ifndef CRANK_MODEL_SENTENCE_FOLDER_H
#define CRANK_MODEL_SENTENCE_FOLDER_H

#include "base/json.h"

typedef enum sentence_activation { SENTENCE_UNSTATED, SENTENCE_IDENTITY, SENTENCE_SIGMOID } sentence_activation;

typedef struct sentence_folder {
    bool        found;           /* modules.json is there */
    char       *model;           /* folder of the transformer */
    char        pooling[8];      /* "mean", "cls", "last"; "": not stated, or */
    bool        other_pooling;   /* one that crank lacks is */
    bool        normalize;
    bool        without_prompt;  /* the prompt's tokens are not pooled */
    int64_t     max_length;      /* 0: not stated */
    json_t     *prompts;         /* name -> text, or NULL */
    const char *prompt_name;     /* of the default prompt, or NULL */
    json_t     *config;          /* config_sentence_transformers.json, that prompt_name lives in */
    sentence_activation activation;
} sentence_folder;

crank_status sentence_folder_read(crank_context *context, const char *folder, sentence_folder *out);
/* config.json in the folder of a Pooling: `pooling` is "mean", "cls", "last", or "" for what crank lacks; *found false: there is no such
 * file. */
crank_status sentence_pooling_read(crank_context *context, const char *folder, bool *found, char pooling[8], bool *without_prompt);
void         sentence_folder_free(sentence_folder *s);
/* The text of a prompt by name; NULL: there is none. */
const char  *sentence_folder_prompt(const sentence_folder *s, const char *name);
#endif
