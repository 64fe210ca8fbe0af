/* rules.h - which parts of a recipe exclude each other: one table, read by the code that refuses and by `crank help matrix`.
 *
 * Base weights, method, optimiser, objective, family and precision combine freely. What does not is a rule here: the equation or the
 * value that forbids it, and what to choose instead. */
#ifndef CRANK_TASK_RULES_H
#define CRANK_TASK_RULES_H

#include "task/recipe.h"

#include "crank/model.h"

/* What is known when a rule is asked; config is NULL until the model is open. */
typedef struct rule_case {
    const task_recipe        *recipe;
    const crank_model_config *config;
} rule_case;

typedef struct combination_rule {
    const char *name;
    const char *pair;    /* the two parts: "objective, family" */
    const char *because; /* the equation or value that forbids it */
    const char *instead;
    bool (*forbids)(const rule_case *about);
} combination_rule;

const combination_rule *rules_at(size_t i); /* NULL behind the last */
/* Asks every rule. CRANK_USAGE: the message names the parts of the recipe, the reason, what to choose, and the rule. */
crank_status rules_check(crank_context *context, const rule_case *about);
#endif
