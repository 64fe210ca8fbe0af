/* families.c - the list of model families. */
#include "model/model.h"

static const model_family *const families[] = {&family_llama, &family_gpt2, &family_bert, &family_roberta,
                                               &family_distilbert};

const model_family *family_at(size_t i)
{
    return i < sizeof families / sizeof *families ? families[i] : NULL;
}
const char *crank_family_name(size_t i)
{
    return family_at(i) ? family_at(i)->name : NULL;
}
const char *crank_family_summary(size_t i)
{
    return family_at(i) ? family_at(i)->summary : NULL;
}
