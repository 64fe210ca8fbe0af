/* train.c - the loop: steps, evaluations, checkpoints, early stopping, and what is left at the end. */
#include "task/train.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/signals.h"
#include "crank/adapter.h"
#include "task/checkpoint.h"
#include "task/evaluate.h"
#include "task/machine.h"
#include "task/report.h"
#include "task/session.h"
#include "task/spectra_watch.h"

enum { SKIPS_IN_A_ROW = 10, LOST = 64, TIMES = 512, WARM_STEPS = 3 };

typedef struct run {
    crank_context      *context;
    const task_recipe  *recipe;
    const train_how    *how;
    session             session;
    checkpoint          state;
    checkpoint_origin   origin;
    char               *recipe_text, *checkpoint_folder, *best_path, *ranks;
    metrics_log        *metrics;
    event_log          *events;
    progress           *line;
    int64_t             eval_every, save_every;
    evaluation          before, last;
    const data_batch  **window;
    double              times[TIMES]; /* of the last steps of this process, behind the first WARM_STEPS */
    int64_t             timed;
    int64_t             lost[LOST]; /* steps behind the last checkpoint that are left out, rising */
    int                 lost_count;
    spectra_watch      *spectra; /* output.intruders, or NULL */
} run;

/* Of the processes that share a run the first writes what it leaves. */
static bool writes(const run *r) { return r->recipe->group.rank == 0; }

static char *in_output(run *r, const char *name) { return file_join(r->context, r->recipe->output->path, name); }

/* ---- opening ---- */

/* Temporary files of a run that was killed. */
static crank_status sweep(run *r)
{
    char        *model = in_output(r, "model");
    crank_status status = model ? file_folder_sweep(r->context, r->recipe->output->path) : CRANK_FAILED;
    if (status == CRANK_OK) status = file_folder_sweep(r->context, model);
    crank_free(model);
    return status;
}

static crank_status open_logs(run *r)
{
    if (!writes(r)) return CRANK_OK;
    char        *metrics = in_output(r, "metrics.jsonl"), *events = in_output(r, "events");
    int64_t      resume = r->state.step > 0 ? r->state.step : -1;
    crank_status status = metrics && events ? CRANK_OK : CRANK_FAILED;
    if (status == CRANK_OK && !(r->metrics = metrics_log_open(r->context, metrics, resume))) status = crank_last_status(r->context);
    if (status == CRANK_OK && r->recipe->output->tensorboard && !(r->events = event_log_open(r->context, events, resume)))
        status = crank_last_status(r->context);
    crank_free(metrics), crank_free(events);
    return status;
}

static void close_logs(run *r)
{
    if (r->metrics) metrics_log_close(r->metrics);
    if (r->events) event_log_close(r->events);
    r->metrics = NULL;
    r->events = NULL;
}

static crank_status resume(run *r)
{
    r->state = (checkpoint){.best = INFINITY};
    if (!r->recipe->train->resume || !checkpoint_exists(r->context, r->checkpoint_folder)) return CRANK_OK;
    crank_status status = checkpoint_read(r->context, r->checkpoint_folder, r->session.trainer, crank_model_params(r->session.model), &r->state, &r->origin);
    if (status == CRANK_OK)
        crank_log(r->context, CRANK_INFO, "resumed from %s at step %lld of %lld", r->checkpoint_folder, (long long)r->state.step, (long long)r->session.total);
    return status;
}

/* All processes stand at the same step: they read one checkpoint. */
static crank_status agree(run *r)
{
    const dist_group *group = &r->recipe->group;
    int64_t           step = r->state.step;
    crank_status      status = dist_broadcast(r->context, group, &step, sizeof step);
    if (status != CRANK_OK || step == r->state.step) return status;
    return crank_fail(r->context, CRANK_BAD_DATA, "process %d stands at step %lld and process 0 at step %lld: all must see the same %s, on a file system that they share",
                      group->rank, (long long)r->state.step, (long long)step, r->checkpoint_folder);
}

static crank_status open_run(run *r)
{
    crank_context       *context = r->context;
    const train_section *train = r->recipe->train;
    bool                 resumes = train->resume && !r->how->dry;
    r->checkpoint_folder = in_output(r, "checkpoint");
    crank_status status = r->checkpoint_folder ? session_open(context, r->recipe, resumes ? r->checkpoint_folder : NULL, &r->session) : CRANK_FAILED;
    if (status != CRANK_OK) return status;
    if (r->recipe->output->intruders && !r->how->dry && writes(r) && !(r->spectra = spectra_watch_open(context, r->session.model, r->recipe->output->intruders)))
        return crank_last_status(context);
    r->eval_every = train->eval_every ? train->eval_every : (r->session.total + 9) / 10;
    r->save_every = train->save_every ? train->save_every : r->eval_every;
    r->recipe_text = crank_recipe_text(context, r->recipe->file);
    r->ranks = r->session.attachment ? crank_attachment_ranks(context, r->session.attachment) : NULL;
    r->best_path = in_output(r, "best.safetensors");
    r->window = crank_alloc(context, (size_t)train->accumulate, sizeof *r->window, "a window of batches");
    if (!r->recipe_text || !r->checkpoint_folder || !r->best_path || !r->window) return CRANK_FAILED;
    r->origin = (checkpoint_origin){.recipe_text = r->recipe_text, .base = crank_model_fingerprint(context, r->session.model),
                                    .level = r->session.device->level, .threads = crank_threads(context), .ranks = r->ranks};
    if (!r->origin.base) return crank_last_status(context);
    if (r->how->dry) return CRANK_OK;
    if (writes(r)) status = file_make_folder(context, r->recipe->output->path);
    if (status == CRANK_OK && writes(r)) status = sweep(r);
    if (status == CRANK_OK) status = resume(r);
    if (status == CRANK_OK) status = agree(r);
    if (status == CRANK_OK) status = open_logs(r);
    char *copy = in_output(r, "recipe.yaml");
    if (status == CRANK_OK && writes(r)) status = copy ? file_write_text(context, copy, r->recipe_text) : CRANK_FAILED;
    crank_free(copy);
    progress_options options = {.descriptor = r->how->progress, .silent = r->how->progress < 0 || !writes(r), .label = "train", .unit = "tokens",
                                .first = r->state.step, .last = r->session.total};
    if (status == CRANK_OK && !(r->line = progress_open(context, &options))) status = crank_last_status(context);
    return status;
}

static void close_run(run *r)
{
    spectra_watch_close(r->spectra);
    if (r->line) progress_close(r->line);
    close_logs(r);
    session_close(&r->session);
    crank_free(r->recipe_text), crank_free(r->ranks), crank_free(r->checkpoint_folder), crank_free(r->best_path), crank_free(r->window);
}

static crank_status log_metrics(run *r, int64_t step, const metric *metrics, size_t count)
{
    if (!writes(r)) return CRANK_OK;
    crank_status status = metrics_log_write(r->context, r->metrics, step, metrics, count);
    if (status == CRANK_OK && r->events) status = event_log_write(r->context, r->events, step, metrics, count);
    return status;
}

/* ---- the pieces of the loop ---- */

static crank_status save_checkpoint(run *r)
{
    crank_status status = trainer_check_replicas(r->context, r->session.trainer);
    if (status == CRANK_OK) status = trainer_collect(r->context, r->session.trainer);
    if (status == CRANK_OK && writes(r)) status = checkpoint_write(r->context, r->checkpoint_folder, r->session.trainer, crank_model_params(r->session.model), &r->state, &r->origin);
    trainer_collect_release(r->session.trainer);
    return status;
}

static crank_status log_spectra(run *r)
{
    spectra_seen seen;
    crank_status status = spectra_watch_measure(r->context, r->spectra, &seen);
    if (status != CRANK_OK) return status;
    const metric metrics[] = {{"spectra/intruders", seen.intruders}, {"spectra/cosine", seen.cosine}, {"spectra/energy", seen.energy}, {"spectra/change", seen.change}};
    crank_log(r->context, CRANK_INFO, "step %lld: %.0f intruder dimensions, mean cosine %.3f, weights changed by %.2g of their norm", (long long)r->state.step, seen.intruders, seen.cosine,
              seen.change);
    return log_metrics(r, r->state.step, metrics, 4);
}

/* The first process evaluates, and all go on from its figures. */
static crank_status evaluate_now(run *r, evaluation *out)
{
    crank_status status = writes(r) ? evaluate_set(r->context, r->session.trainer, r->session.eval, out) : CRANK_OK;
    if (status == CRANK_OK) status = dist_broadcast(r->context, &r->recipe->group, out, sizeof *out);
    if (status != CRANK_OK) return status;
    metric metrics[] = {{"eval/loss", out->loss}, {"eval/perplexity", exp(out->loss)}, {"eval/accuracy", out->accuracy}};
    size_t count = out->classified ? 3 : 2;
    if (out->classified) metrics[1] = metrics[2], count = 2;
    status = log_metrics(r, r->state.step, metrics, count);
    return status == CRANK_OK && r->spectra ? log_spectra(r) : status;
}

/* An evaluation that is due: keeps the best values; *stop is set when patience is over. */
static crank_status due_evaluation(run *r, bool *stop)
{
    crank_status status = evaluate_now(r, &r->last);
    if (status != CRANK_OK) return status;
    progress_clear(r->line);
    if (r->last.classified)
        crank_log(r->context, CRANK_INFO, "step %lld: held-out loss %.4f, accuracy %.2f %%", (long long)r->state.step, r->last.loss, 100 * r->last.accuracy);
    else
        crank_log(r->context, CRANK_INFO, "step %lld: held-out loss %.4f nats a token", (long long)r->state.step, r->last.loss);
    if (r->last.loss < r->state.best) {
        r->state.best = r->last.loss;
        r->state.best_step = r->state.step;
        r->state.waited = 0;
        if (writes(r) && !strcmp(r->recipe->train->keep, "best"))
            return snapshot_write(r->context, r->best_path, r->session.trainer, crank_model_params(r->session.model));
        return CRANK_OK;
    }
    r->state.waited++;
    if (r->recipe->train->patience && r->state.waited >= r->recipe->train->patience) {
        crank_log(r->context, CRANK_INFO, "step %lld: no better evaluation for %lld, stopping early (the best was step %lld)", (long long)r->state.step,
                  (long long)r->state.waited, (long long)r->state.best_step);
        *stop = true;
    }
    return CRANK_OK;
}

/* Updates inside the backward pass cannot be taken back: the run returns to its last checkpoint and leaves the step out when it comes
 * to it again, since the same bits would fail again. Logs are cut back too. */
static crank_status go_back(run *r)
{
    checkpoint counts = r->state;
    crank_status status = checkpoint_read(r->context, r->checkpoint_folder, r->session.trainer, crank_model_params(r->session.model), &r->state, &r->origin);
    if (status != CRANK_OK) return status;
    int kept = 0;
    for (int i = 0; i < r->lost_count; i++)
        if (r->lost[i] > r->state.step) r->lost[kept++] = r->lost[i];
    if (kept == LOST) return crank_fail(r->context, CRANK_FAILED, "%d steps behind the checkpoint of step %lld could not be taken back: lower train.lr", LOST, (long long)r->state.step);
    r->lost[kept++] = counts.step;
    r->lost_count = kept;
    crank_log(r->context, CRANK_WARNING, "went back to the checkpoint of step %lld", (long long)r->state.step);
    r->state.skipped_run = counts.skipped_run;
    r->state.skipped = counts.skipped;
    close_logs(r);
    return open_logs(r);
}

static bool is_lost(const run *r, int64_t step)
{
    for (int i = 0; i < r->lost_count; i++)
        if (r->lost[i] == step) return true;
    return false;
}

/* A step that changed nothing, or that a later one must not build on. */
static crank_status note_skip(run *r, const trainer_result *result)
{
    bool half_done = r->recipe->train->inside && isfinite(result->loss); /* some updates may have run before the gradient was seen */
    r->state.skipped++;
    r->state.skipped_run++;
    crank_log(r->context, CRANK_WARNING, "step %lld: the %s is not finite%s", (long long)r->state.step, isfinite(result->loss) ? "gradient" : "loss",
              half_done ? "" : "; nothing was changed");
    if (r->state.skipped_run >= SKIPS_IN_A_ROW)
        return crank_fail(r->context, CRANK_FAILED, "%d steps in a row had a non-finite loss or gradient: lower train.lr, or check the data", SKIPS_IN_A_ROW);
    return half_done ? go_back(r) : CRANK_OK;
}

static crank_status one_step(run *r, trainer_result *result)
{
    int64_t      accumulate = r->recipe->train->accumulate, step = r->state.step + 1;
    crank_status status = trainer_period(r->context, r->session.trainer, step);
    for (int64_t i = 0; i < accumulate && status == CRANK_OK; i++)
        status = dataset_batch(r->context, r->session.train, (step - 1) * accumulate + i, (int)i, &r->window[i]);
    if (status == CRANK_OK && is_lost(r, step)) { /* counted when it was lost */
        *result = (trainer_result){.loss = NAN, .norm = NAN, .skipped = true};
        r->state.step = step;
        r->state.batches = step * accumulate;
        return CRANK_OK;
    }
    double start = clock_seconds();
    if (status == CRANK_OK) status = trainer_step(r->context, r->session.trainer, step, r->window, (int)accumulate, result);
    if (status != CRANK_OK) return status;
    double took = clock_seconds() - start;
    if (r->timed >= WARM_STEPS) r->times[(r->timed - WARM_STEPS) % TIMES] = took;
    r->timed++;
    r->state.seconds += took;
    r->state.step = step;
    r->state.batches = step * accumulate;
    r->state.tokens += result->tokens;
    if (result->skipped) return note_skip(r, result);
    if (!r->lost_count || step > r->lost[r->lost_count - 1]) r->state.skipped_run = 0; /* steps done again are no new ones */
    return CRANK_OK;
}

static crank_status log_step(run *r, const trainer_result *result)
{
    metric metrics[] = {{"train/loss", result->loss}, {"train/rate", result->rate}, {"train/tokens", (double)r->state.tokens}, {"train/norm", result->norm}};
    return log_metrics(r, r->state.step, metrics, isnan(result->norm) ? 3 : 4);
}

static crank_status loop(run *r, train_outcome *outcome)
{
    crank_status status = CRANK_OK;
    bool         stop = r->recipe->train->patience && r->state.waited >= r->recipe->train->patience; /* it stopped early before */
    double       units = 0;
    while (r->state.step < r->session.total && !stop && status == CRANK_OK) {
        trainer_result result;
        int64_t        step = r->state.step + 1;
        status = one_step(r, &result);
        if (status != CRANK_OK) break;
        if (r->state.step != step) continue; /* went back */
        if (r->timed == 1) status = trainer_check_replicas(r->context, r->session.trainer);
        if (status != CRANK_OK) break;
        units += (double)result.tokens;
        outcome->train_loss = result.loss;
        progress_update(r->line, r->state.step, units, result.loss);
        bool last = r->state.step == r->session.total;
        if (r->state.step % r->recipe->train->log_every == 0 || last) status = log_step(r, &result);
        bool evaluates = r->session.eval && (r->state.step % r->eval_every == 0 || last);
        if (status == CRANK_OK && evaluates) status = due_evaluation(r, &stop);
        double asked[2] = {crank_stop_requested(r->context), signals_take_checkpoint()}; /* of any process */
        if (status == CRANK_OK) status = dist_sum_f64(r->context, &r->recipe->group, asked, 2);
        bool wanted = asked[0] > 0, now = asked[1] > 0;
        if (status == CRANK_OK && (r->state.step % r->save_every == 0 || last || stop || wanted || now)) status = save_checkpoint(r);
        if (status == CRANK_OK && wanted && !last) {
            outcome->stopped = true;
            return crank_fail(r->context, CRANK_STOPPED, "stopped at step %lld of %lld with a checkpoint; the same command goes on from it",
                              (long long)r->state.step, (long long)r->session.total);
        }
    }
    return status;
}

/* ---- the end ---- */

/* The best values, when the recipe keeps them, as an adapter folder or a model folder beside the run. */
static crank_status save_result(run *r, train_outcome *outcome)
{
    crank_context *context = r->context;
    crank_model   *model = r->session.model;
    crank_status   status = CRANK_OK;
    if (r->session.eval && !strcmp(r->recipe->train->keep, "best") && r->state.best_step != r->state.step && file_exists(r->best_path))
        status = snapshot_read(context, r->best_path, r->session.trainer, crank_model_params(model));
    if (status != CRANK_OK) return status;
    outcome->result = in_output(r, r->session.attachment ? "adapter" : "model");
    if (!outcome->result) return CRANK_FAILED;
    trainer_release(r->session.trainer); /* writing turns and converts weights: that takes the place of gradients and activations */
    if (r->session.attachment) return crank_adapter_save(context, model, r->session.attachment, outcome->result, session_base(r->recipe));
    crank_dtype dtype = CRANK_F32;
    crank_dtype_parse(r->recipe->output->dtype, &dtype);
    status = crank_model_save(context, model, outcome->result, dtype);
    return status == CRANK_OK ? crank_tokenizer_save(context, r->session.tokenizer, outcome->result) : status;
}

static int by_value(const void *a, const void *b) { return (*(const double *)a > *(const double *)b) - (*(const double *)a < *(const double *)b); }

static double median_step(const run *r)
{
    double  sorted[TIMES];
    int64_t count = r->timed - WARM_STEPS < TIMES ? r->timed - WARM_STEPS : TIMES;
    if (count < 1) return NAN;
    memcpy(sorted, r->times, (size_t)count * sizeof *sorted);
    qsort(sorted, (size_t)count, sizeof *sorted, by_value);
    return sorted[count / 2];
}

static void fill_outcome(run *r, train_outcome *outcome)
{
    crank_params *params = crank_model_params(r->session.model);
    outcome->steps = r->state.step;
    outcome->best = r->state.best;
    outcome->best_step = r->state.best_step;
    outcome->tokens = r->state.tokens;
    outcome->skipped = r->state.skipped;
    outcome->seconds = r->state.seconds;
    outcome->tokens_per_second = r->state.seconds > 0 ? (double)r->state.tokens / r->state.seconds : 0;
    outcome->median_step = median_step(r);
    outcome->planned = r->session.planned;
    outcome->measured = session_measured(r->context, &r->session);
    outcome->trainable = trainer_trainable(r->session.trainer);
    for (size_t i = 0; i < crank_params_count(params); i++) {
        const crank_param *param = crank_params_at(params, i);
        if (param->role == CRANK_ROLE_STATE && !param->parked) outcome->state += crank_view_bytes(&param->view);
        if (param->scales) continue;
        if (param->role == CRANK_ROLE_WEIGHT || param->role == CRANK_ROLE_METHOD) outcome->parameters += crank_view_count(&param->view);
    }
}

/* The roofline table, held against rates that are measured now. */
static crank_status profile_table(run *r, train_outcome *outcome)
{
    machine_rates rates;
    crank_status  status = machine_measure(r->context, r->session.device, &rates);
    if (status != CRANK_OK) return status;
    bool bf16 = crank_model_options_of(r->session.model)->compute == CRANK_BF16;
    outcome->table = trainer_table(r->session.trainer, bf16 ? rates.bf16 : rates.f32, rates.copy);
    return outcome->table ? CRANK_OK : CRANK_FAILED;
}

static crank_status whole_run(run *r, train_outcome *outcome)
{
    crank_status status = CRANK_OK;
    if (r->session.eval && r->state.step == 0) status = evaluate_now(r, &r->before);
    if (status == CRANK_OK && r->session.eval && r->state.step == 0 && !r->before.classified)
        crank_log(r->context, CRANK_INFO, "before: held-out loss %.4f nats a token", r->before.loss);
    /* The first step, too, needs a state to go back to. */
    if (status == CRANK_OK && r->recipe->train->inside && !checkpoint_exists(r->context, r->checkpoint_folder)) status = save_checkpoint(r);
    if (r->how->profile) trainer_profile(r->session.trainer, true);
    if (status == CRANK_OK) status = loop(r, outcome);
    fill_outcome(r, outcome);
    if (status != CRANK_OK) return status;
    if (r->how->profile && (status = profile_table(r, outcome)) != CRANK_OK) return status;
    if (!writes(r)) return CRANK_OK;
    status = save_result(r, outcome);
    if (status == CRANK_OK && r->session.eval) status = evaluate_set(r->context, r->session.trainer, r->session.eval, &r->last);
    if (status != CRANK_OK || !r->session.eval) return status;
    outcome->loss_after = r->last.loss;
    outcome->accuracy_after = r->last.classified ? r->last.accuracy : NAN;
    return CRANK_OK;
}

crank_status train_join(crank_context *context, task_recipe *recipe)
{
    crank_status status = dist_open(context, &recipe->group);
    if (status != CRANK_OK || recipe->group.size < 2) return status;
    if (recipe->train->accumulate > INT32_MAX / recipe->group.size)
        return crank_fail(context, CRANK_USAGE, "train.accumulate: %lld micro-batches in each of %d processes are too many", (long long)recipe->train->accumulate,
                          recipe->group.size);
    recipe->train->accumulate *= recipe->group.size;
    if (writes(&(run){.recipe = recipe}))
        crank_log(context, CRANK_INFO, "%d processes share each step of %lld micro-batches", recipe->group.size, (long long)recipe->train->accumulate);
    return CRANK_OK;
}

crank_status train_run(crank_context *context, const task_recipe *recipe, const train_how *how, train_outcome *outcome)
{
    run r = {.context = context, .recipe = recipe, .how = how, .before = {.loss = NAN, .accuracy = NAN}};
    *outcome = (train_outcome){.loss_before = NAN, .loss_after = NAN, .accuracy_before = NAN, .accuracy_after = NAN, .train_loss = NAN};
    crank_status status = open_run(&r);
    if (status == CRANK_OK && how->dry) {
        fill_outcome(&r, outcome);
    } else if (status == CRANK_OK) {
        status = whole_run(&r, outcome);
        if (status == CRANK_OK && writes(&r)) status = report_first_evaluation(context, recipe->output->path, &outcome->loss_before, &outcome->accuracy_before);
        if (status == CRANK_OK && writes(&r) && recipe->output->report) status = report_write(context, recipe, outcome);
    }
    close_run(&r);
    return status;
}

void train_outcome_free(train_outcome *outcome)
{
    crank_free(outcome->result);
    crank_free(outcome->table);
    outcome->result = outcome->table = NULL;
}
