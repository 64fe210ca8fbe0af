/* net.h - what the files of the harness share about networks: the graph of one batch, and how data get into it. */
#ifndef CRANK_LAB_NET_H
#define CRANK_LAB_NET_H

#include "lab/lab.h"

/* One batch recorded: forward pass and loss. */
typedef struct lab_batch {
    crank_graph  *graph;
    crank_tensor *x, *target; /* inputs; no target, no numerator for data without y and labels */
    crank_tensor *outputs;    /* [b, outputs] */
    crank_tensor *numerator;  /* sum over samples; kept */
    int64_t       size;
} lab_batch;

/* Records forward pass and loss for `size` samples of data's layout. The graph is made even on failure and freed by the caller. */
crank_status lab_batch_record(lab_net *net, const lab_data *data, int64_t size, bool training, lab_batch *out);
/* Samples order[0..size-1] (NULL: first..) into the inputs. */
crank_status lab_batch_write(lab_net *net, const lab_batch *batch, const lab_data *data, const int64_t *order, int64_t first);

/* What a calibration pass keeps of one linear. */
typedef struct lab_watched {
    crank_linear *linear;
    crank_tensor *x, *y;
} lab_watched;
typedef struct lab_watch {
    lab_watched *items;
    size_t       count, room;
} lab_watch;

/* Shows `data` to a method that observes, between crank_attachment_new and _finish. */
crank_status lab_calibrate(lab_net *net, crank_attachment *attachment, const lab_data *data);
#endif
