/* run.c - runs an experiment: every method at every seed, rows, judgement; and tune: every rate of the grid. */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "lab/lab.h"

/* ---- rows ---- */

static bool grow(crank_context *context, void *array, size_t count, size_t *room, size_t size, const char *what)
{
    if (count < *room) return true;
    size_t wider = *room ? 2 * *room : 16;
    void **place = array, *made = crank_alloc(context, wider, size, what);
    if (!made) return false;
    if (*place) memcpy(made, *place, count * size);
    crank_free(*place);
    *place = made;
    *room = wider;
    return true;
}

static lab_row *find_row(const lab *run, const char *method, const char *metric)
{
    for (size_t i = 0; i < run->row_count; i++)
        if (!strcmp(run->rows[i].method, method) && !strcmp(run->rows[i].metric, metric)) return &run->rows[i];
    return NULL;
}

crank_status lab_measure_as(lab_trial *trial, const char *method, const char *metric, double value)
{
    lab     *run = trial->run;
    lab_row *row = find_row(run, method, metric);
    if (!row) {
        if (!grow(trial->context, &run->rows, run->row_count, &run->row_room, sizeof *run->rows, "rows of an experiment")) return CRANK_FAILED;
        row = &run->rows[run->row_count];
        *row = (lab_row){.method = method, .values = crank_alloc(trial->context, (size_t)run->seeds, sizeof *row->values, "values of a row")};
        if (!row->values) return CRANK_FAILED;
        snprintf(row->metric, sizeof row->metric, "%s", metric);
        run->row_count++;
    }
    if (row->count == run->seeds) return crank_fail(trial->context, CRANK_USAGE, "%s: %s is measured more than once", method, metric);
    row->values[row->count++] = value;
    row->seconds += trial->seconds > 0 ? trial->seconds : clock_seconds() - trial->begun;
    if (trial->bytes > row->bytes) row->bytes = trial->bytes;
    row->trained = trial->trained;
    return CRANK_OK;
}

crank_status lab_measure(lab_trial *trial, const char *metric, double value) { return lab_measure_as(trial, trial->method->name, metric, value); }

static void finish_rows(lab *run)
{
    for (size_t i = 0; i < run->row_count; i++) {
        lab_row *row = &run->rows[i];
        double   sum = 0, squares = 0;
        for (int s = 0; s < row->count; s++) sum += row->values[s];
        row->mean = sum / row->count;
        for (int s = 0; s < row->count; s++) squares += (row->values[s] - row->mean) * (row->values[s] - row->mean);
        row->spread = row->count > 1 ? sqrt(squares / (row->count - 1)) : 0;
        row->seconds /= row->count;
    }
}

/* ---- judging ---- */

static const lab_row *need_row(lab *run, const char *method, const char *metric)
{
    const lab_row *row = find_row(run, method, metric);
    if (!row) run->status = crank_fail(run->context, CRANK_USAGE, "experiment %s: there is no row `%s`, `%s`", run->experiment->name, method, metric);
    return row;
}

double lab_mean(lab *run, const char *method, const char *metric)
{
    const lab_row *row = need_row(run, method, metric);
    return row ? row->mean : NAN;
}

double lab_value(lab *run, const char *method, const char *metric, int seed)
{
    const lab_row *row = need_row(run, method, metric);
    return row && seed >= 0 && seed < row->count ? row->values[seed] : NAN;
}

int lab_seeds(const lab *run) { return run->seeds; }

bool lab_expect(lab *run, const char *what, double value, lab_relation relation, double bound)
{
    bool holds = relation == LAB_AT_LEAST ? value >= bound : value <= bound; /* false for NaN */
    run->shown &= holds;
    char *copy = crank_strdup(run->context, what);
    if (!copy || !grow(run->context, &run->checks, run->check_count, &run->check_room, sizeof *run->checks, "checks of an experiment")) {
        crank_free(copy);
        run->status = CRANK_FAILED;
        return false;
    }
    run->checks[run->check_count++] = (lab_check){copy, value, bound, relation, holds};
    return holds;
}

static void claim(lab *run, lab_claim found, const char *why)
{
    run->claim = found;
    crank_free(run->why);
    run->why = crank_strdup(run->context, why);
}

void lab_paper(lab *run, bool reproduced, const char *seen, const char *otherwise)
{
    claim(run, reproduced ? LAB_REPRODUCED : LAB_NOT_REPRODUCED, reproduced ? seen : otherwise);
}

void lab_untestable(lab *run, const char *why) { claim(run, LAB_NOT_TESTABLE, why); }

const char *lab_claim_name(lab_claim claim)
{
    return claim == LAB_REPRODUCED ? "reproduced" : claim == LAB_NOT_REPRODUCED ? "not reproduced" : "not testable at this scale";
}

/* ---- running ---- */

crank_status lab_try(lab_trial *trial)
{
    const lab_experiment *experiment = trial->experiment;
    trial->seconds = 0;
    trial->bytes = trial->state = trial->trained = 0;
    trial->begun = clock_seconds();
    crank_status status = experiment->trial ? experiment->trial(trial) : experiment->world->trial(trial);
    return status == CRANK_OK || status == CRANK_STOPPED ? status : crank_fail_in(trial->context, "experiment %s, %s, seed %d", experiment->name, trial->method->name, (int)trial->seed);
}

static void tell(const lab_how *how, const char *format, ...) CRANK_PRINTF(2, 3);
static void tell(const lab_how *how, const char *format, ...)
{
    char    line[256];
    va_list list;
    if (!how->progress) return;
    va_start(list, format);
    vsnprintf(line, sizeof line, format, list);
    va_end(list);
    how->progress(how->user, line);
}

static crank_status open_world(lab_trial *trial, uint64_t seed)
{
    const lab_world *world = trial->experiment->world;
    trial->seed = seed;
    trial->world = crank_alloc(trial->context, 1, world->size + 1, "a world");
    if (!trial->world) return CRANK_FAILED;
    crank_status status = world->prepare(trial);
    return status == CRANK_OK ? status : crank_fail_in(trial->context, "experiment %s, seed %d", trial->experiment->name, (int)seed);
}

static void close_world(lab_trial *trial)
{
    if (trial->world && trial->experiment->world->release) trial->experiment->world->release(trial->world);
    crank_free(trial->world);
    trial->world = NULL;
}

static crank_status run_seed(lab *run, lab_trial *trial, int s, const lab_how *how)
{
    crank_status status = open_world(trial, (uint64_t)s + 1);
    for (const lab_method *method = run->experiment->methods; status == CRANK_OK && method->name; method++) {
        trial->method = method;
        trial->rate = run->large && method->large_rate > 0 ? method->large_rate : method->rate;
        trial->kept = how->only && !strstr(method->name, how->only);
        if (!trial->kept) tell(how, "%s  seed %d/%d  %s", run->experiment->name, s + 1, run->seeds, method->name);
        status = lab_try(trial);
        if (!trial->kept || status != CRANK_STOPPED) continue;
        run->missing++;
        status = CRANK_OK;
    }
    close_world(trial);
    trial->method = NULL;
    return status;
}

static lab start(crank_context *context, const lab_experiment *experiment, const lab_how *how)
{
    return (lab){.context = context, .experiment = experiment, .seeds = how->seeds > 0 ? how->seeds : experiment->seeds ? experiment->seeds : 3, .large = how->large, .shown = true};
}

static crank_status check_scale(crank_context *context, const lab_experiment *experiment, const lab_how *how)
{
    if (how->only && !(how->folder && experiment->world->keeps))
        return crank_fail(context, CRANK_USAGE, "experiment %s runs whole: --method needs one that keeps its trials, and --results for them", experiment->name);
    if (!how->large || experiment->world->large) return CRANK_OK;
    return crank_fail(context, CRANK_USAGE, "experiment %s has one setting, --scale cpu", experiment->name);
}

crank_status lab_run(crank_context *context, const lab_experiment *experiment, const lab_how *how, lab *out)
{
    *out = start(context, experiment, how);
    lab_trial    trial = {.run = out, .context = context, .experiment = experiment, .large = how->large, .folder = how->folder};
    double       begin = clock_seconds();
    crank_status status = check_scale(context, experiment, how);
    for (int s = 0; status == CRANK_OK && s < out->seeds; s++) status = run_seed(out, &trial, s, how);
    if (status == CRANK_OK) {
        finish_rows(out);
        if (!out->missing) experiment->judge(out);
        if (!out->check_count) out->shown = false; /* nothing was asked */
        status = out->status;
        out->seconds = clock_seconds() - begin;
    }
    if (status != CRANK_OK) lab_free(out);
    return status;
}

void lab_free(lab *run)
{
    for (size_t i = 0; i < run->row_count; i++) crank_free(run->rows[i].values);
    for (size_t i = 0; i < run->check_count; i++) crank_free(run->checks[i].what);
    crank_free(run->rows), crank_free(run->checks), crank_free(run->why);
    run->rows = NULL, run->checks = NULL, run->why = NULL;
    run->row_count = run->check_count = 0;
}

/* ---- tuning ---- */

enum { TUNE_SEED = 101 };

/* Adds the metric of one (method, rate, seed) to *sum. */
static crank_status try_rate(lab_trial *trial, const lab_method *method, double rate, double *sum)
{
    lab scratch = {.context = trial->context, .experiment = trial->experiment, .seeds = 1};
    trial->run = &scratch;
    trial->method = method;
    trial->rate = rate;
    crank_status   status = lab_try(trial);
    const lab_row *row = status == CRANK_OK ? find_row(&scratch, method->name, trial->experiment->metric) : NULL;
    if (status == CRANK_OK && !row) status = crank_fail(trial->context, CRANK_USAGE, "%s does not measure %s", method->name, trial->experiment->metric);
    if (row) *sum += row->values[0];
    lab_free(&scratch);
    return status;
}

static bool tuned(const lab_method *method, const char *only) { return method->rate != 0 && !method->fixed && (!only || strstr(method->name, only)); }

static json_t *tune_text(const lab_experiment *experiment, const double *sums, size_t rates, int seeds, const char *only)
{
    json_t *root = json_object(), *grid = json_array(), *methods = json_object();
    for (size_t r = 0; r < rates; r++) json_array_append_new(grid, json_real(experiment->grid[r]));
    for (size_t m = 0; experiment->methods[m].name; m++) {
        if (!tuned(&experiment->methods[m], only)) continue;
        json_t *values = json_array();
        size_t  best = 0;
        for (size_t r = 0; r < rates; r++) {
            double value = sums[m * rates + r] / seeds, top = sums[m * rates + best] / seeds;
            json_array_append_new(values, isfinite(value) ? json_real(value) : json_null());
            if (isfinite(value) && (!isfinite(top) || (experiment->lower ? value < top : value > top))) best = r;
        }
        json_object_set_new(methods, experiment->methods[m].name, json_pack("{s:f, s:o}", "rate", experiment->grid[best], "values", values));
    }
    json_object_set_new(root, "experiment", json_string(experiment->name));
    json_object_set_new(root, "metric", json_string(experiment->metric));
    json_object_set_new(root, "seeds", json_integer(seeds));
    json_object_set_new(root, "grid", grid);
    json_object_set_new(root, "methods", methods);
    return root;
}

char *lab_tune(crank_context *context, const lab_experiment *experiment, const char *only, const lab_how *how)
{
    size_t rates = 0, methods = 0;
    int    seeds = how->seeds > 0 ? how->seeds : 1;
    while (experiment->grid && experiment->grid[rates] != 0) rates++;
    while (experiment->methods[methods].name) methods++;
    if (!rates) {
        crank_fail(context, CRANK_USAGE, "experiment %s has no rates to search", experiment->name);
        return NULL;
    }
    if (check_scale(context, experiment, how) != CRANK_OK) return NULL;
    size_t chosen = 0;
    for (size_t m = 0; m < methods; m++) chosen += tuned(&experiment->methods[m], only);
    if (!chosen) {
        crank_fail(context, CRANK_USAGE, "no method of %s with a rate to search holds `%s`: crank lab run %s lists them", experiment->name, only ? only : "", experiment->name);
        return NULL;
    }
    double      *sums = crank_alloc(context, methods * rates, sizeof *sums, "a search of rates");
    lab_trial    trial = {.context = context, .experiment = experiment, .large = how->large};
    crank_status status = sums ? CRANK_OK : CRANK_FAILED;
    for (int s = 0; status == CRANK_OK && s < seeds; s++) {
        status = open_world(&trial, (uint64_t)(TUNE_SEED + s));
        for (size_t m = 0; status == CRANK_OK && m < methods; m++)
            for (size_t r = 0; status == CRANK_OK && r < rates && tuned(&experiment->methods[m], only); r++) {
                tell(how, "%s  seed %d/%d  %s  rate %g", experiment->name, s + 1, seeds, experiment->methods[m].name, experiment->grid[r]);
                status = try_rate(&trial, &experiment->methods[m], experiment->grid[r], &sums[m * rates + r]);
            }
        close_world(&trial);
    }
    json_t *root = status == CRANK_OK ? tune_text(experiment, sums, rates, seeds, only) : NULL;
    char   *text = root ? json_text(context, root, 1) : NULL;
    json_decref(root);
    crank_free(sums);
    return text;
}
