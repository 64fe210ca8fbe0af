/* measures.h - what the files of measures share. */
#ifndef CRANK_METRIC_MEASURES_H
#define CRANK_METRIC_MEASURES_H

#include "crank/option.h"
#include "metric/metric.h"

enum { METRIC_MAX_PARAMS = 1024 }; /* parameters of one measure */
#endif
