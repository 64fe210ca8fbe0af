/* world_chars.h - a language model over characters, small enough for a core: world of the methods that pre-train.
 *
 * 16 characters of context, each embedded in 16 dimensions, are 256 features; BLOCKS residual blocks h += down(silu(up(rmsnorm(h)))) of
 * 256 -> 512 -> 256; rmsnorm and a head over 96 symbols. Text: questions and answers of GSM8K's test set (0.7 MB, last tenth held out);
 * to adapt to: the first half megabyte of tiny Shakespeare. Metric: loss, nats a character on 8,000 held-out places. */
#ifndef CRANK_LAB_WORLD_CHARS_H
#define CRANK_LAB_WORLD_CHARS_H

#include "lab/lab.h"

typedef struct lab_chars_settings {
    int64_t steps;    /* of a trial [800] */
    bool    adapt;    /* trials start from a model that was pre-trained on the first text, and learn the second */
} lab_chars_settings;

/* lab_method.number of trials with a low-rank method on the blocks; embedding, head and gains train as well. */
enum { LAB_CHARS_ON_RANDOM = 0, /* on the weights as they are */
       LAB_CHARS_ALONE = 1      /* W = B A: the weights are zero, and B is random */ };

typedef struct lab_chars {
    lab_data train, test, other_train, other_test;
    lab_net *base; /* with `adapt` */
} lab_chars;

extern const lab_world lab_world_chars;

lab_net     *lab_chars_net(lab_trial *trial); /* as trials start; the caller frees */
lab_training lab_chars_training(const lab_trial *trial);
/* A trial on a net of the caller's: attach, train, measure loss; the net stays open for further measures. */
crank_status lab_chars_run(lab_trial *trial, lab_net *net);
#endif
