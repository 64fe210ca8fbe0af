/* report.h - a run as one HTML page that needs nothing else: numbers, curves, the recipe. */
#ifndef CRANK_TASK_REPORT_H
#define CRANK_TASK_REPORT_H

#include "task/train.h"

/* Reads metrics.jsonl of the run's folder and writes report.html there. */
crank_status report_write(crank_context *context, const task_recipe *recipe, const train_outcome *outcome);
/* Loss and accuracy of the evaluation at step 0, from metrics.jsonl (NAN where there was none): a resumed run has it from before. */
crank_status report_first_evaluation(crank_context *context, const char *folder, double *loss, double *accuracy);
#endif
