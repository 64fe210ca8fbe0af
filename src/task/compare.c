/* compare.c - runs the trials of a comparison, and takes those that have ended as they are. */
#include "task/compare.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/number.h"

enum { DIVERGED_SKIPS = 10 };

/* ---- methods ---- */

static crank_status add_word(crank_context *context, compare_method *m, const char *section, const char *key, size_t length, const char *value)
{
    if (m->word_count == COMPARE_WORDS) return crank_fail(context, CRANK_USAGE, "%s: at most %d options", m->spec, COMPARE_WORDS - 2);
    bool whole = memchr(key, '.', length) != NULL;
    m->words[m->word_count] = whole ? crank_format(context, "%.*s=%s", (int)length, key, value) : crank_format(context, "%s.%.*s=%s", section, (int)length, key, value);
    return m->words[m->word_count++] ? CRANK_OK : CRANK_FAILED;
}

static crank_status unknown(crank_context *context, const char *name)
{
    const char *names[512];
    size_t      count = 0;
    for (size_t i = 0; crank_map_at(i) && count < 512; i++) names[count++] = crank_map_at(i)->name;
    for (size_t i = 0; crank_optimizer_at(i) && count < 512; i++) names[count++] = crank_optimizer_at(i)->name;
    const char *closest = crank_closest(name, names, count);
    return crank_fail(context, CRANK_USAGE, "`%s` is no low-rank method, no optimiser and not `none`%s%s%s", name, closest ? "; did you mean `" : "", closest ? closest : "", closest ? "`?" : "");
}

/* "NAME" or "NAME:key=value,key=value"; a key with a section stands as it is. */
static crank_status read_spec(crank_context *context, const char *spec, compare_method *m)
{
    char         name[64];
    size_t       length = strcspn(spec, ":");
    const char  *at = spec[length] ? spec + length + 1 : "", *section = "lowrank";
    crank_status status = CRANK_OK;
    m->spec = spec;
    snprintf(name, sizeof name, "%.*s", (int)length, spec);
    bool map = crank_map_find(name) != NULL, optimizer = crank_optimizer_find(name) != NULL;
    if (!map && !optimizer && strcmp(name, "none")) return unknown(context, name);
    if (map || !strcmp(name, "none")) status = add_word(context, m, "lowrank", "method", 6, name);
    else {
        section = "optim";
        status = add_word(context, m, "lowrank", "method", 6, "none");
        if (status == CRANK_OK) status = add_word(context, m, "optim", "method", 6, name);
    }
    while (status == CRANK_OK && *at) {
        char   value[256];
        size_t key = strcspn(at, "=,"), end = strcspn(at, ",");
        if (at[key] != '=') return crank_fail(context, CRANK_USAGE, "%s: `%.*s` is not key=value", spec, (int)end, at);
        snprintf(value, sizeof value, "%.*s", (int)(end - key - 1), at + key + 1);
        status = add_word(context, m, section, at, key, value);
        at += end + (at[end] == ',');
    }
    return status;
}

crank_status compare_open(crank_context *context, const char *const *specs, int count, comparison *out)
{
    crank_status status = CRANK_OK;
    *out = (comparison){.count = 0};
    if (count < 2 || count > COMPARE_METHODS) return crank_fail(context, CRANK_USAGE, "2 to %d methods are compared, not %d", COMPARE_METHODS, count);
    for (int i = 0; status == CRANK_OK && i < count; i++) {
        for (int k = 0; k < i && status == CRANK_OK; k++)
            if (!strcmp(specs[i], specs[k])) status = crank_fail(context, CRANK_USAGE, "`%s` is named twice", specs[i]);
        if (status == CRANK_OK) status = read_spec(context, specs[i], &out->methods[out->count++]);
    }
    if (status != CRANK_OK) compare_free(out);
    return status;
}

void compare_free(comparison *c)
{
    for (int i = 0; i < c->count; i++)
        for (int k = 0; k < c->methods[i].word_count; k++) crank_free(c->methods[i].words[k]);
    c->count = 0;
}

/* ---- one trial ---- */

typedef struct recipe_words {
    const char *list[256];
    char        own[6][512];
    int         count, owned;
} recipe_words;

static void add_own(recipe_words *w, const char *key, const char *value)
{
    snprintf(w->own[w->owned], sizeof w->own[0], "%s=%s", key, value);
    w->list[w->count++] = w->own[w->owned++];
}

static task_recipe *load(crank_context *context, const compare_how *how, const compare_method *m, const compare_trial *t, const char *folder)
{
    recipe_words w = {.count = 0};
    char         number[NUMBER_SIZE];
    if (how->word_count + COMPARE_WORDS > 240) {
        crank_fail(context, CRANK_USAGE, "too many words on the command line");
        return NULL;
    }
    for (int i = 0; i < how->word_count; i++) w.list[w.count++] = how->words[i];
    for (int i = 0; i < m->word_count; i++) w.list[w.count++] = m->words[i];
    if (m->rank) snprintf(number, sizeof number, "%lld", (long long)m->rank), add_own(&w, "lowrank.rank", number);
    if (m->steps) snprintf(number, sizeof number, "%lld", (long long)m->steps), add_own(&w, "train.steps", number);
    if (t) {
        number_print(t->rate, number), add_own(&w, "train.lr", number);
        snprintf(number, sizeof number, "%lld", (long long)t->seed), add_own(&w, "train.seed", number);
        add_own(&w, "output.path", folder);
    }
    w.list[w.count++] = "output.report=false";
    w.list[w.count++] = "output.tensorboard=false";
    return task_recipe_load(context, how->recipe, w.list, (size_t)w.count);
}

static double real_of(const json_t *root, const char *key)
{
    const json_t *value = json_object_get(root, key);
    return json_is_number(value) ? json_number_value(value) : NAN;
}

static json_t *number(double value) { return isfinite(value) ? json_real(value) : json_null(); }

/* The outcome that stands in the folder; *found false: none. One of another recipe is an error. */
static crank_status read_outcome(crank_context *context, const char *folder, const char *recipe, compare_trial *t, bool *found)
{
    char        *path = file_join(context, folder, "outcome.json");
    crank_status status = path ? CRANK_OK : CRANK_FAILED;
    *found = path && file_exists(path);
    if (*found) {
        json_t     *root = json_read(context, path);
        const char *told = root ? json_string_value(json_object_get(root, "recipe")) : NULL;
        if (!root) status = crank_last_status(context);
        else if (!told || strcmp(told, recipe))
            status = crank_fail(context, CRANK_USAGE, "%s: the trial that ended there had another recipe; choose another folder (-o), or remove it", folder);
        t->diverged = json_is_true(json_object_get(root, "diverged"));
        t->loss = real_of(root, "loss"), t->accuracy = real_of(root, "accuracy"), t->seconds = real_of(root, "seconds");
        t->steps = json_integer_value(json_object_get(root, "steps")), t->trainable = json_integer_value(json_object_get(root, "trainable"));
        t->planned = json_integer_value(json_object_get(root, "planned")), t->measured = json_integer_value(json_object_get(root, "measured"));
        t->state = json_integer_value(json_object_get(root, "state"));
        json_decref(root);
    }
    crank_free(path);
    return status;
}

static crank_status write_outcome(crank_context *context, const char *folder, const char *recipe, const compare_trial *t)
{
    char   *path = file_join(context, folder, "outcome.json");
    json_t *root = json_pack("{s:s, s:b, s:o, s:o, s:o, s:I, s:I, s:I, s:I, s:I}", "recipe", recipe, "diverged", t->diverged, "loss", number(t->loss), "accuracy", number(t->accuracy), "seconds",
                             number(t->seconds), "steps", (json_int_t)t->steps, "trainable", (json_int_t)t->trainable, "planned", (json_int_t)t->planned, "measured", (json_int_t)t->measured, "state", (json_int_t)t->state);
    crank_status status = !path || !root ? crank_fail(context, CRANK_FAILED, "out of memory: %s", folder) : json_write(context, path, root);
    json_decref(root);
    crank_free(path);
    return status;
}

/* What an ended trial needs no longer: its checkpoint, and, while rates are searched, its weights. */
static crank_status tidy(crank_context *context, const char *folder, bool weights)
{
    static const char *const names[] = {"checkpoint", "adapter", "model"};
    crank_status             status = CRANK_OK;
    for (int i = 0; status == CRANK_OK && i < (weights ? 3 : 1); i++) {
        char *path = file_join(context, folder, names[i]);
        status = path ? file_folder_remove(context, path) : CRANK_FAILED;
        crank_free(path);
    }
    return status;
}

static crank_status train(crank_context *context, int progress, const task_recipe *recipe, const char *folder, compare_trial *t)
{
    train_how     way = {.progress = progress};
    train_outcome o;
    crank_status  status = file_make_folder(context, folder);
    if (status != CRANK_OK) return status;
    status = train_run(context, recipe, &way, &o);
    t->diverged = status == CRANK_FAILED && o.skipped >= DIVERGED_SKIPS;
    if (t->diverged) status = CRANK_OK;
    t->loss = t->diverged ? NAN : o.loss_after, t->accuracy = t->diverged ? NAN : o.accuracy_after, t->seconds = o.seconds;
    t->steps = o.steps, t->trainable = o.trainable, t->planned = (int64_t)o.planned, t->measured = (int64_t)o.measured, t->state = (int64_t)o.state;
    train_outcome_free(&o);
    if (status == CRANK_OK && !t->diverged && !isfinite(t->loss))
        status = crank_fail(context, CRANK_USAGE, "methods are compared on held-out data: name them with data.eval, or data.eval_share");
    return status;
}

crank_status compare_trial_run(crank_context *context, const task_recipe *recipe, const char *folder, int progress, bool tune, compare_trial *t)
{
    bool         found = false;
    char        *text = crank_recipe_text(context, recipe->file);
    crank_status status = text ? read_outcome(context, folder, text, t, &found) : CRANK_FAILED;
    if (status == CRANK_OK && !found) {
        status = train(context, progress, recipe, folder, t);
        if (status == CRANK_OK) status = write_outcome(context, folder, text, t);
        if (status == CRANK_OK) status = tidy(context, folder, tune);
    }
    crank_free(text);
    return status;
}

bool compare_trial_ended(crank_context *context, const char *folder)
{
    char *path = file_join(context, folder, "outcome.json");
    bool  ended = path && file_exists(path);
    crank_free(path);
    return ended;
}

static crank_status run_trial(crank_context *context, const compare_how *how, const compare_method *m, const char *name, bool tune, compare_trial *t)
{
    char folder[1024], safe[128];
    snprintf(safe, sizeof safe, "%s", m->spec);
    for (char *at = safe; *at; at++)
        if (strchr("/:,= ", *at)) *at = '_';
    snprintf(folder, sizeof folder, "%s/%s/%s", how->folder, safe, name);
    if (how->told) {
        char line[512];
        snprintf(line, sizeof line, "%s %s", m->spec, name);
        how->told(how->user, line);
    }
    task_recipe *recipe = load(context, how, m, t, folder);
    crank_status status = recipe ? compare_trial_run(context, recipe, folder, how->progress, tune, t) : crank_fail_in(context, "%s", m->spec);
    if (recipe && status != CRANK_OK && status != CRANK_STOPPED) status = crank_fail_in(context, "%s, %s", m->spec, name);
    task_recipe_free(recipe);
    return status;
}

/* ---- matching ---- */

static bool has_rank(const compare_method *m)
{
    const char      *name = strchr(m->words[0], '=') + 1;
    const crank_map *map = crank_map_find(name);
    for (const crank_option *o = map ? map->options : NULL; o && o->type != CRANK_OPTION_END; o++)
        if (!strcmp(o->name, "rank") && o->type == CRANK_OPTION_INT) return true;
    return false;
}

/* Trained values, or planned bytes, without training. */
static crank_status size_of(crank_context *context, const compare_how *how, const compare_method *m, int64_t *size)
{
    train_how     way = {.progress = -1, .dry = true};
    train_outcome o;
    compare_trial t = {.rate = 1e-4};
    char          folder[1024];
    snprintf(folder, sizeof folder, "%s/plan", how->folder);
    task_recipe  *recipe = load(context, how, m, &t, folder);
    crank_status  status = recipe ? train_run(context, recipe, &way, &o) : crank_last_status(context);
    if (status == CRANK_OK) {
        *size = how->match == MATCH_PARAMS ? o.trainable : (int64_t)o.planned;
        train_outcome_free(&o);
    }
    task_recipe_free(recipe);
    return status == CRANK_OK ? status : crank_fail_in(context, "%s", m->spec);
}

/* The largest rank whose size is at most the target's, or the one above it where that lies nearer. */
static crank_status match_rank(crank_context *context, const compare_how *how, compare_method *m, int64_t target)
{
    int64_t      low = 1, high = 1, size = 0, below, above;
    crank_status status = CRANK_OK;
    if (!has_rank(m)) {
        crank_log(context, CRANK_WARNING, "%s has no rank that could be matched: it stays as it is", m->spec);
        return CRANK_OK;
    }
    for (; status == CRANK_OK && high <= 4096; high *= 2) { /* the first power of two that is too large, or too large for the method */
        m->rank = high;
        status = size_of(context, how, m, &size);
        if (status == CRANK_OK && size >= target) break;
        if (status == CRANK_OK) low = high;
    }
    if (status != CRANK_OK && high > 1) status = CRANK_OK; /* a rank that does not fit: the one below is the largest */
    while (status == CRANK_OK && high - low > 1) {
        m->rank = (low + high) / 2;
        if (size_of(context, how, m, &size) == CRANK_OK && size <= target) low = m->rank;
        else high = m->rank;
    }
    m->rank = low;
    if (status == CRANK_OK) status = size_of(context, how, m, &below);
    m->rank = high;
    if (status == CRANK_OK && (size_of(context, how, m, &above) != CRANK_OK || llabs(target - below) <= llabs(above - target))) m->rank = low;
    return status;
}

static crank_status match_sizes(crank_context *context, const compare_how *how, comparison *c)
{
    int64_t      target = 0;
    crank_status status = size_of(context, how, &c->methods[0], &target);
    for (int i = 1; status == CRANK_OK && i < c->count; i++) status = match_rank(context, how, &c->methods[i], target);
    return status;
}

/* Steps of the seeds so that every method takes as long as the first did at its best rate. */
static void match_time(comparison *c)
{
    const compare_method *first = &c->methods[0];
    if (first->best < 0) return;
    const compare_trial *a = &first->tune[first->best];
    for (int i = 1; i < c->count; i++) {
        compare_method      *m = &c->methods[i];
        const compare_trial *b = m->best < 0 ? NULL : &m->tune[m->best];
        if (!b || b->steps < 1 || !(b->seconds > 0)) continue;
        m->steps = (int64_t)(a->seconds / (b->seconds / (double)b->steps) + 0.5);
        if (m->steps < 1) m->steps = 1;
    }
}

/* ---- the whole ---- */

static bool better(const comparison *c, const compare_trial *a, const compare_trial *b)
{
    double x = compare_quality(c, a), y = compare_quality(c, b);
    if (!isfinite(x) || !isfinite(y)) return isfinite(x) && !isfinite(y);
    return c->classified ? x > y : x < y;
}

static crank_status tune_method(crank_context *context, const compare_how *how, comparison *c, compare_method *m, int64_t seed)
{
    crank_status status = CRANK_OK;
    m->best = -1;
    for (int i = 0; status == CRANK_OK && i < how->tune; i++) {
        char           name[64], number_text[NUMBER_SIZE];
        compare_trial *t = &m->tune[i];
        *t = (compare_trial){.rate = c->base_rate * pow(10, (i - (how->tune - 1) / 2) * 0.5), .seed = seed};
        number_print_digits(t->rate, 3, number_text);
        number_parse(number_text, &t->rate);
        snprintf(name, sizeof name, "rate-%s", number_text);
        status = run_trial(context, how, m, name, true, t);
        m->tuned = i + 1;
        c->classified |= isfinite(t->accuracy);
        if (status == CRANK_OK && !t->diverged && (m->best < 0 || better(c, t, &m->tune[m->best]))) m->best = i;
    }
    m->edge = how->tune > 2 && (m->best == 0 || m->best == how->tune - 1);
    return status;
}

static crank_status seed_method(crank_context *context, const compare_how *how, compare_method *m, int64_t seed)
{
    crank_status status = CRANK_OK;
    for (int i = 0; status == CRANK_OK && m->best >= 0 && i < how->seeds; i++) {
        char name[64];
        m->seeds[i] = (compare_trial){.rate = m->tune[m->best].rate, .seed = seed + 1 + i};
        snprintf(name, sizeof name, "seed-%lld", (long long)m->seeds[i].seed);
        status = run_trial(context, how, m, name, false, &m->seeds[i]);
        m->seeded = i + 1;
    }
    return status;
}

crank_status compare_run(crank_context *context, const compare_how *how, comparison *c)
{
    task_recipe *recipe = load(context, how, &c->methods[0], NULL, NULL);
    if (!recipe) return crank_fail_in(context, "%s", c->methods[0].spec);
    int64_t seed = recipe->train->seed;
    c->base_rate = recipe->train->lr;
    task_recipe_free(recipe);
    crank_status status = c->base_rate > 0 ? file_make_folder(context, how->folder) : crank_fail(context, CRANK_USAGE, "train.lr must be above 0: rates are searched around it");
    if (status == CRANK_OK && (how->match == MATCH_PARAMS || how->match == MATCH_MEMORY)) status = match_sizes(context, how, c);
    for (int i = 0; status == CRANK_OK && i < c->count; i++) status = tune_method(context, how, c, &c->methods[i], seed);
    if (status == CRANK_OK && how->match == MATCH_TIME) match_time(c);
    for (int i = 0; status == CRANK_OK && i < c->count; i++) status = seed_method(context, how, &c->methods[i], seed);
    return status;
}
