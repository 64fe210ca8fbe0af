/* fuse.h - several runs become one. */
#ifndef CRANK_METRIC_FUSE_H
#define CRANK_METRIC_FUSE_H

#include "metric/metric.h"

typedef enum fuse_rule { FUSE_RRF, FUSE_COMBSUM, FUSE_COMBMNZ, FUSE_INTERPOLATE } fuse_rule;
typedef enum fuse_norm { FUSE_MINMAX, FUSE_ZSCORE, FUSE_NONE } fuse_norm;

typedef struct fuse_options {
    fuse_rule     rule;
    fuse_norm     norm;
    double        k;       /* of rrf */
    const double *weights; /* [runs], or NULL: 1 each, for interpolate 1 / runs */
    int64_t       depth;   /* documents of a topic that are written */
    const char   *tag;
} fuse_options;

/* Writes the fused run to `path` ("-": the text is returned in *text, malloc'd, instead). Topics by name; documents by score, then name
 * descending, so that trec_eval reads the order in which they stand. */
crank_status fuse_runs(crank_context *context, const trec_file *runs, int64_t count, const fuse_options *options, const char *path, char **text);
#endif
