/* rules.c - the table of combinations that are refused. */
#include "task/rules.h"

#include <string.h>

static bool encoder_without_next_token(const rule_case *about)
{
    return about->config && (about->recipe->objective->scores & (CRANK_SCORES_NLL | CRANK_SCORES_LOGPROB)) && !about->config->causal;
}

static bool no_head(const rule_case *about) { return about->config && (about->recipe->objective->scores & CRANK_SCORES_OUTPUTS) && about->config->labels < 1; }

static bool many_outputs(const rule_case *about)
{
    return about->config && about->recipe->objective == crank_objective_find("regression") && about->config->labels > 1;
}

static bool inside_with_clip(const rule_case *about) { return about->recipe->train->inside && about->recipe->train->clip > 0; }

static bool coupled_windows(const rule_case *about) { return about->recipe->objective->coupled && about->recipe->train->accumulate > 1; }

static bool zeroth_inside(const rule_case *about) { return about->recipe->train->inside && about->recipe->optimizer->propose; }

static bool quantized(const rule_case *about)
{
    const char *weights = about->recipe->model ? about->recipe->model->weights : NULL;
    return weights && (!strcmp(weights, "nf4") || !strcmp(weights, "fp8"));
}

static bool quantized_full(const rule_case *about) { return quantized(about) && !about->recipe->map; }

static bool quantized_needed_dense(const rule_case *about)
{
    const crank_map *map = about->recipe->map;
    return quantized(about) && map && map->needs_base && !strcmp(map->needs_base, "dense");
}

static bool shared_trials(const rule_case *about) { return about->recipe->group.size > 1 && about->recipe->optimizer->propose; }

static bool shards(const rule_case *about) { return !strcmp(about->recipe->train->shard, "optimizer"); }

static bool shard_of_all(const rule_case *about)
{
    const crank_optimizer *o = about->recipe->optimizer;
    return shards(about) && (o->accumulate || o->period || o->observe || o->refresh || o->propose);
}

static bool shard_before_step(const rule_case *about) { return shards(about) && about->recipe->map && about->recipe->map->before_step; }

static const combination_rule table[] = {
    {"next-token", "objective, family",
     "a loss over next tokens, L = -sum_t log p(x_t | x_<t), needs a causal model: an encoder sees x_t itself",
     "set loss.objective to classification or regression, or take a language model", encoder_without_next_token},
    {"outputs", "objective, head", "the loss is a function of a head's outputs, and the model has none",
     "set model.labels to the number of outputs (classes; 1 for regression)", no_head},
    {"one-output", "objective, head", "(output - value)^2 has one output a sequence", "set model.labels to 1", many_outputs},
    {"inside-clip", "train.inside, train.clip",
     "an update inside the backward pass runs before the global norm sqrt(sum |g|^2) of the later gradients is known", "set train.clip to 0", inside_with_clip},
    {"inside-trials", "train.inside, optimiser", "an optimiser without gradients has no backward pass", "set train.inside to false", zeroth_inside},
    {"quantized-full", "model.weights, lowrank.method", "a weight of four or eight bits takes no step: w - rate u rounds back to w",
     "set lowrank.method to a method that leaves the base alone (lora), or model.weights to f32 or bf16", quantized_full},
    {"quantized-base", "model.weights, lowrank.method",
     "the method takes its factors from the base weight, follows its norms or writes into it, and a weight of four or eight bits has neither its values nor room for a change",
     "set model.weights to f32 or bf16, or lowrank.method to one that reads only x and y (lora, lora-ga, eva, bone, hydra, randlora ...)", quantized_needed_dense},
    {"shared-trials", "several processes, optimiser", "processes sum gradients, and the optimiser works without them", "start one process", shared_trials},
    {"shard-state", "train.shard, optimiser",
     "each process holds the state of its own parameters, and the optimiser reads state in every process (it projects gradients before they are summed, or chooses from those of the whole model)",
     "set train.shard to none, or optim.method to one whose update sees one matrix and its own state (adamw, adamw8bit, lion, sgd, signsgd, adafactor, muon)", shard_of_all},
    {"shard-gradients", "train.shard, lowrank.method", "the method changes gradients before the step, and each process has the sums of its own parameters alone",
     "set train.shard to none", shard_before_step},
    {"coupled", "objective, train.accumulate", "the loss couples the rows of a batch: it is no sum over micro-batches", "set train.accumulate to 1, in one process: each further one adds micro-batches", coupled_windows},
};

const combination_rule *rules_at(size_t i) { return i < sizeof table / sizeof table[0] ? &table[i] : NULL; }

crank_status rules_check(crank_context *context, const rule_case *about)
{
    const task_recipe *recipe = about->recipe;
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        const combination_rule *rule = &table[i];
        if (!rule->forbids(about)) continue;
        return crank_fail(context, CRANK_USAGE, "objective `%s`, optimiser `%s`%s%s: %s: %s (rule `%s`; `crank help matrix`)", recipe->objective->name,
                          recipe->optimizer->name, about->config ? ", " : "", about->config ? about->config->architecture : "", rule->because, rule->instead,
                          rule->name);
    }
    return CRANK_OK;
}
