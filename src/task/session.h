/* session.h - what a training run holds: device, model, tokenizer, data, method, trainer; and its memory plan. */
#ifndef CRANK_TASK_SESSION_H
#define CRANK_TASK_SESSION_H

#include "data/dataset.h"
#include "task/trainer.h"

#include "crank/model.h"
#include "crank/tokenizer.h"

typedef struct session {
    crank_device     *device;
    crank_group       group;        /* the processes of the run, as the device sees them */
    crank_model      *model;
    crank_tokenizer  *tokenizer;
    data_set         *train, *eval; /* eval may be NULL */
    dataset_options  *data;
    crank_attachment *attachment;   /* NULL in full training */
    task_trainer     *trainer;
    int64_t           total;        /* optimiser steps of the run */
    size_t            at_start;     /* resident bytes before anything was loaded */
    int64_t           peak_at_start; /* largest resident bytes before that: of earlier work of the process */
    size_t            planned;      /* peak of the plan, beyond that; on a GPU that of its own memory */
    size_t            calibration;  /* bytes that the method's calibration took beside weights and data, at most */
    size_t            card_at_start; /* GPU memory in use once context and libraries were loaded */
} session;

/* Loads and attaches everything, plans the heaviest step and refuses what cannot fit. `resume`: the folder of the checkpoint that the
 * caller will read, or NULL; with one there, nothing is calibrated: ranks and values are the checkpoint's. */
crank_status session_open(crank_context *context, const task_recipe *recipe, const char *resume, session *out);
void         session_close(session *s);
/* What the run has taken at most: resident memory beyond the start's, or on a GPU its memory that is in use beyond the start's. */
size_t session_measured(crank_context *context, const session *s);
/* The folder that tokenizer and config are copied from; NULL for a new model. */
const char *session_base(const task_recipe *recipe);
#endif
