/* miss_peft.h - MiSS and Bat in the terms of PEFT's adapter_config.json (peft_type MISS; BONE in files of older releases). */
#ifndef CRANK_LOWRANK_MISS_PEFT_H
#define CRANK_LOWRANK_MISS_PEFT_H

#include "crank/linear.h"

/* The json text of the config's keys; init NULL: true, else "mini" or "bat". */
char *miss_peft_config(crank_context *context, int64_t rank, double dropout, const char *init, int64_t mini);
/* Sets rank, and dropout and mini where the table has them. */
crank_status miss_peft_options(crank_context *context, const char *config, const crank_option *table, void *options);
#endif
