/* train.c - crank train RECIPE.yaml [section.key=value ...]: fine-tuning or pretraining from a recipe. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "cli/cli.h"
#include "task/start.h"
#include "task/train.h"

typedef struct options {
    bool        profile, dry_run, print_recipe;
    const char *start;
} options;

static const crank_option option_table[] = {
    CRANK_BOOL(options, profile, false, "print the roofline table of the training step at the end"),
    CRANK_BOOL(options, dry_run, false, "print the memory plan and stop"),
    CRANK_BOOL(options, print_recipe, false, "print the effective recipe and stop"),
    CRANK_STRING(options, start, NULL, "write the values before step 1 and all batches (batches.jsonl) into this folder and stop"),
    CRANK_END
};

static void put_number(json_t *object, const char *key, double value)
{
    json_object_set_new(object, key, isfinite(value) ? json_real(value) : json_null());
}

static crank_status print_json(cli_call *cli, const train_outcome *o)
{
    json_t *root = json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:s?, s:b}", "steps", (json_int_t)o->steps, "best_step", (json_int_t)o->best_step,
                             "tokens", (json_int_t)o->tokens, "skipped", (json_int_t)o->skipped, "trainable", (json_int_t)o->trainable, "parameters",
                             (json_int_t)o->parameters, "planned_bytes", (json_int_t)o->planned, "peak_bytes", (json_int_t)o->measured, "result",
                             o->result, "stopped", o->stopped);
    if (!root) return crank_fail(cli->context, CRANK_FAILED, "out of memory: the result");
    put_number(root, "loss_before", o->loss_before);
    put_number(root, "loss_after", o->loss_after);
    put_number(root, "accuracy_before", o->accuracy_before);
    put_number(root, "accuracy_after", o->accuracy_after);
    put_number(root, "train_loss", o->train_loss);
    put_number(root, "best_loss", o->best);
    put_number(root, "seconds", o->seconds);
    put_number(root, "tokens_per_second", o->tokens_per_second);
    put_number(root, "median_step_seconds", o->median_step);
    if (o->table) json_object_set_new(root, "profile", json_string(o->table));
    char *text = json_text(cli->context, root, 0);
    json_decref(root);
    if (!text) return CRANK_FAILED;
    puts(text);
    crank_free(text);
    return CRANK_OK;
}

static double mib(size_t bytes) { return (double)bytes / 1048576.0; }

static void print_text(const train_outcome *o)
{
    printf("%lld steps, %lld tokens in %.1f s: %.0f tokens/s\n", (long long)o->steps, (long long)o->tokens, o->seconds, o->tokens_per_second);
    printf("trained %lld of %lld parameters (%.3f %%)\n", (long long)o->trainable, (long long)o->parameters,
           o->parameters ? 100.0 * (double)o->trainable / (double)o->parameters : 0);
    if (isfinite(o->accuracy_after)) {
        if (isfinite(o->accuracy_before)) printf("held-out accuracy  %6.2f %% before, %6.2f %% after\n", 100 * o->accuracy_before, 100 * o->accuracy_after);
        else printf("held-out accuracy  %6.2f %%\n", 100 * o->accuracy_after);
        printf("held-out loss      %8.4f before, %8.4f after\n", o->loss_before, o->loss_after);
    } else if (isfinite(o->loss_after)) {
        printf("held-out loss       %8.4f before, %8.4f after (nats a token)\n", o->loss_before, o->loss_after);
        printf("held-out perplexity %8.2f before, %8.2f after\n", exp(o->loss_before), exp(o->loss_after));
    }
    printf("peak memory: %.0f MiB planned, %.0f MiB measured\n", mib(o->planned), mib(o->measured));
    if (o->skipped) printf("%lld steps were skipped for a non-finite loss or gradient\n", (long long)o->skipped);
    if (o->result) printf("result: %s\n", o->result);
    if (o->table) printf("\n%s", o->table);
}

static crank_status print_recipe(cli_call *cli, const task_recipe *recipe)
{
    char *text = crank_recipe_text(cli->context, recipe->file);
    if (!text) return CRANK_FAILED;
    fputs(text, stdout);
    crank_free(text);
    return CRANK_OK;
}

static crank_status run(cli_call *cli)
{
    const options *o = cli->options;
    const char    *path = strchr(cli->words[0], '=') ? NULL : cli->words[0];
    int            first = path ? 1 : 0;
    task_recipe   *recipe = task_recipe_load(cli->context, path, (const char *const *)cli->words + first, (size_t)(cli->word_count - first));
    if (!recipe) return crank_last_status(cli->context);
    if (cli->common.threads && !recipe->train->threads) recipe->train->threads = cli->common.threads;
    if (cli->common.device) recipe->model->device = cli->common.device;
    if (o->print_recipe || o->start) {
        crank_status status = o->start ? start_write(cli->context, recipe, o->start) : print_recipe(cli, recipe);
        task_recipe_free(recipe);
        return status;
    }
    if (!o->dry_run && train_join(cli->context, recipe) != CRANK_OK) {
        task_recipe_free(recipe);
        return crank_last_status(cli->context);
    }
    bool first_process = recipe->group.rank == 0;
    if (!first_process) crank_set_log(cli->context, NULL, NULL);
    train_how     how = {.progress = cli->common.quiet ? -1 : 2, .profile = o->profile, .dry = o->dry_run};
    train_outcome outcome;
    crank_status  status = train_run(cli->context, recipe, &how, &outcome);
    if (status == CRANK_OK) status = dist_close(cli->context, &recipe->group);
    if (status == CRANK_OK && !o->dry_run && first_process) {
        if (cli->common.json) status = print_json(cli, &outcome);
        else print_text(&outcome);
    } else if (status == CRANK_OK && first_process && cli->common.json) {
        status = print_json(cli, &outcome);
    }
    train_outcome_free(&outcome);
    task_recipe_free(recipe);
    return status;
}

const cli_verb verb_train = {
    .name = "train",
    .usage = "[RECIPE.yaml] [section.key=value ...]",
    .summary = "fine-tune or pretrain a model from a recipe",
    .details = "The recipe's sections are model, data, lowrank, optim, loss, train, memory and output; `crank help SECTION` lists the keys.\n"
               "A run writes checkpoints into output.path; after Ctrl-C, a kill or a crash the same command goes on where it stopped.",
    .options = option_table,
    .options_size = sizeof(options),
    .words_low = 1,
    .words_high = -1,
    .run = run,
};
