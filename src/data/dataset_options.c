/* dataset_options.c - the recipe's section `data`. */
#include "data/dataset.h"

const crank_option dataset_option_table[] = {
    CRANK_LIST(dataset_options, train, NULL, "training files: plain text, .jsonl, .tsv or .csv, gzip or not"),
    CRANK_LIST(dataset_options, eval, NULL, "held-out files"),
    CRANK_FLOAT(dataset_options, eval_share, 0, 0, 0.9, "share of the training rows that is held out when eval names no file"),
    CRANK_STRING(dataset_options, tokenizer, NULL, "tokenizer.json or model folder, instead of the model's own"),
    CRANK_CHOICE(dataset_options, format, "auto", "auto|text|jsonl|tsv|csv", "of the files; auto: by their names"),
    CRANK_CHOICE(dataset_options, document, "file", "file|paragraph|line", "what is one row of a plain text file"),
    CRANK_INT(dataset_options, context, 512, 2, 100000000, "longest row in tokens"),
    CRANK_CHOICE(dataset_options, overflow, "auto", "auto|error|drop|left|right|split",
                 "rows longer than context: refuse, leave out, cut on the left or right, or split; auto: split text, refuse others"),
    CRANK_BOOL(dataset_options, packing, true, "fill a batch with as many rows as fit into batch * context tokens (rows never see each other)"),
    CRANK_BOOL(dataset_options, eos, true, "end every text and completion with the end token"),
    CRANK_BOOL(dataset_options, shuffle, true, "a new order of rows every epoch"),
    CRANK_INT(dataset_options, rows, 0, 0, 1000000000000, "use at most this many rows of the training files; 0: all"),
    CRANK_STRING(dataset_options, prompt_field, "prompt", "key of the prompt in jsonl rows"),
    CRANK_STRING(dataset_options, completion_field, "completion", "key of the completion in jsonl rows"),
    CRANK_STRING(dataset_options, separator, NULL, "text between prompt and completion"),
    CRANK_STRING(dataset_options, text_field, "text", "key (jsonl) or column (TSV, CSV: name or number from 0) of the text"),
    CRANK_STRING(dataset_options, pair_field, NULL, "key or column of the second text of a pair"),
    CRANK_STRING(dataset_options, label_field, "label", "key or column of the label"),
    CRANK_LIST(dataset_options, labels, NULL, "class names in the order of the head's outputs; empty: labels are numbers"),
    CRANK_END
};
