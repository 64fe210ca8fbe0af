/* registry.c - the list of experiments, by name. */
#include <string.h>

#include "lab/lab.h"

extern const lab_experiment lab_lora;
extern const lab_experiment lab_bone, lab_randlora, lab_nola, lab_dylora;
extern const lab_experiment lab_galore, lab_fira, lab_optimizers, lab_sltrain, lab_welore, lab_frugal, lab_lisa, lab_sst,
    lab_owlore, lab_gradnormlorp, lab_gradnorm, lab_pretrain;
/* adapters */
extern const lab_experiment lab_hydra, lab_sora, lab_allora;
extern const lab_experiment lab_eva, lab_lora_ga, lab_lora_sb, lab_svfit;
extern const lab_experiment lab_lamda, lab_lora_pro, lab_smora;
extern const lab_experiment lab_lora_vs_full, lab_loram;

extern const lab_experiment lab_dla, lab_lr_perceptron; /* learning to rank */

static const lab_experiment *const experiments[] = {
    &lab_lora,
    &lab_bone, &lab_randlora, &lab_nola, &lab_dylora,
    &lab_galore, &lab_fira, &lab_optimizers, &lab_sltrain, &lab_welore, &lab_frugal, &lab_lisa, &lab_sst, &lab_owlore,
    &lab_gradnormlorp, &lab_gradnorm, &lab_pretrain,
    /* adapters */
    &lab_hydra, &lab_sora, &lab_allora,
    &lab_eva, &lab_lora_ga, &lab_lora_sb, &lab_svfit,
    &lab_lamda, &lab_lora_pro, &lab_smora,
    &lab_lora_vs_full, &lab_loram,
    &lab_dla, &lab_lr_perceptron,
};

const lab_experiment *lab_at(size_t i) { return i < sizeof experiments / sizeof *experiments ? experiments[i] : NULL; }

const lab_experiment *lab_find(const char *name)
{
    for (size_t i = 0; lab_at(i); i++)
        if (!strcmp(lab_at(i)->name, name)) return lab_at(i);
    return NULL;
}
