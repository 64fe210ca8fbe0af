/* checkpoint.c - writing and reading checkpoints and snapshots. */
#include "task/checkpoint.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"

#include "data/safetensors.h"

#include "crank/plugin.h"
#include "crank/tensor.h"

static bool wanted(const task_trainer *trainer, const crank_param *param, bool with_state)
{
    return trainer_saves(trainer, param) && (with_state || param->role != CRANK_ROLE_STATE);
}

/* The parameters to save, and the values of one at a time: those that are not in the host's memory are copied when they are written. */
typedef struct saving {
    crank_named_view   *views;
    const crank_param **params;
    size_t              count;
    const task_trainer *trainer;
    void               *copy; /* of the last one that was fetched */
} saving;

static crank_status fetch(crank_context *context, void *user, size_t i, crank_view *values)
{
    saving            *from = user;
    const crank_param *param = from->params[i];
    crank_free(from->copy);
    from->copy = NULL;
    *values = param->view;
    if (param->away) {
        values->data = (void *)trainer_collected(from->trainer, param);
        return values->data ? CRANK_OK : crank_fail(context, CRANK_FAILED, "%s: another process holds it, and it was not collected", param->name);
    }
    if (crank_params_device(param->owner)->host && !param->parked) return CRANK_OK;
    from->copy = crank_alloc(context, crank_view_bytes(&param->view) + 1, 1, param->name);
    *values = crank_view_make(from->copy, param->view.dtype, param->view.rank, param->view.dims);
    return values->data ? crank_param_read(context, param, values->data, param->view.dtype) : CRANK_FAILED;
}

static crank_status write_tensors(crank_context *context, const char *path, const task_trainer *trainer, crank_params *params, bool with_state)
{
    size_t       all = crank_params_count(params);
    saving       from = {.trainer = trainer, .views = crank_alloc(context, all + 1, sizeof *from.views, "a checkpoint"), .params = crank_alloc(context, all + 1, sizeof *from.params, "a checkpoint")};
    crank_status status = from.views && from.params ? CRANK_OK : CRANK_FAILED;
    for (size_t i = 0; status == CRANK_OK && i < all; i++) {
        const crank_param *param = crank_params_at(params, i);
        if (!wanted(trainer, param, with_state)) continue;
        from.params[from.count] = param;
        from.views[from.count++] = (crank_named_view){param->name, param->view};
    }
    if (status == CRANK_OK) status = safetensors_write_from(context, path, from.views, from.count, NULL, 0, fetch, &from, 0);
    crank_free(from.copy), crank_free(from.views), crank_free(from.params);
    return status;
}

static bool same_shape(const crank_view *a, const crank_view *b)
{
    return a->dtype == b->dtype && a->rank == b->rank && !memcmp(a->dims, b->dims, (size_t)a->rank * sizeof *a->dims);
}

static crank_status read_tensors(crank_context *context, const char *path, const task_trainer *trainer, crank_params *params, bool with_state)
{
    crank_safetensors *file = crank_safetensors_open(context, path);
    if (!file) return crank_last_status(context);
    size_t       found = 0;
    crank_status status = CRANK_OK;
    for (size_t i = 0; i < crank_params_count(params) && status == CRANK_OK; i++) {
        crank_param *param = crank_params_at(params, i);
        crank_view   view;
        if (!wanted(trainer, param, with_state)) continue;
        if (!crank_safetensors_find(file, param->name, &view))
            status = crank_fail(context, CRANK_BAD_DATA, "%s: tensor `%s` is missing; it was made by another recipe", path, param->name);
        else if (!same_shape(&view, &param->view))
            status = crank_fail(context, CRANK_BAD_DATA, "%s: tensor `%s` has another type or shape; it was made by another recipe", path, param->name);
        else if (!param->away)
            status = crank_param_write(context, param, view.data, view.dtype);
        if (status == CRANK_OK) crank_safetensors_release(file, &view); /* the plan has no room for the file's pages beside the values */
        found++;
    }
    if (status == CRANK_OK && found != crank_safetensors_count(file))
        status = crank_fail(context, CRANK_BAD_DATA, "%s holds %zu tensors and this run has %zu; it was made by another recipe", path,
                            crank_safetensors_count(file), found);
    crank_safetensors_close(file);
    return status;
}

crank_status snapshot_write(crank_context *context, const char *path, const task_trainer *trainer, crank_params *params)
{
    return write_tensors(context, path, trainer, params, false);
}

crank_status snapshot_read(crank_context *context, const char *path, const task_trainer *trainer, crank_params *params)
{
    return read_tensors(context, path, trainer, params, false);
}

/* ---- checkpoint.json ---- */

static json_t *plugins_json(void)
{
    json_t     *list = json_array();
    const char *name;
    uint64_t    hash;
    for (size_t i = 0; crank_plugin_at(i, &name, &hash); i++) {
        char text[32];
        snprintf(text, sizeof text, "%016llx", (unsigned long long)hash);
        json_array_append_new(list, json_pack("{s:s, s:s}", "name", name, "hash", text));
    }
    return list;
}

/* Doubles that must come back exactly are stored as their bits. */
static void put_double(json_t *object, const char *key, double value)
{
    uint64_t bits;
    char     text[32];
    memcpy(&bits, &value, sizeof bits);
    snprintf(text, sizeof text, "0x%016llx", (unsigned long long)bits);
    json_object_set_new(object, key, json_string(text));
}

static crank_status get_double(crank_context *context, const json_t *object, const char *key, double *value, const char *where)
{
    crank_status status = CRANK_OK;
    const char  *text = json_get_string(context, object, key, where, &status);
    char        *end;
    if (status != CRANK_OK) return status;
    if (!text || strncmp(text, "0x", 2)) return crank_fail(context, CRANK_BAD_DATA, "%s: `%s` is missing or is not the bits of a number", where, key);
    uint64_t bits = strtoull(text, &end, 16);
    if (*end) return crank_fail(context, CRANK_BAD_DATA, "%s: `%s` is not the bits of a number", where, key);
    memcpy(value, &bits, sizeof *value);
    return CRANK_OK;
}

static crank_status write_json(crank_context *context, const char *path, const checkpoint *state, const checkpoint_origin *origin)
{
    json_t *root = json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:s, s:s, s:s, s:i, s:o}", "version", crank_version(), "step",
                             (json_int_t)state->step, "batches", (json_int_t)state->batches, "best_step", (json_int_t)state->best_step,
                             "waited", (json_int_t)state->waited, "skipped", (json_int_t)state->skipped, "skipped_run",
                             (json_int_t)state->skipped_run, "tokens", (json_int_t)state->tokens, "base", origin->base, "level",
                             origin->level, "recipe", origin->recipe_text, "threads", origin->threads, "plugins", plugins_json());
    if (!root) return crank_fail(context, CRANK_FAILED, "out of memory: a checkpoint");
    put_double(root, "best", state->best);
    put_double(root, "seconds", state->seconds);
    if (origin->ranks) json_object_set_new(root, "ranks", json_string(origin->ranks));
    crank_status status = json_write(context, path, root);
    json_decref(root);
    return status;
}

static crank_status check_origin(crank_context *context, const json_t *root, const checkpoint_origin *origin, const char *where)
{
    crank_status status = CRANK_OK;
    const char  *base = json_get_string(context, root, "base", where, &status);
    const char  *level = json_get_string(context, root, "level", where, &status);
    const char  *recipe = json_get_string(context, root, "recipe", where, &status);
    int64_t      threads = 0;
    if (status == CRANK_OK) status = json_need_int(context, root, "threads", 1, 1 << 20, &threads, where);
    if (status != CRANK_OK) return status;
    if (base && strcmp(base, origin->base))
        return crank_fail(context, CRANK_BAD_DATA, "%s was made with another base model; choose another output.path or set train.resume to false", where);
    if (!level || strcmp(level, origin->level) || threads != origin->threads)
        crank_log(context, CRANK_WARNING, "the checkpoint was made with %s kernels on %lld threads, this run has %s on %d: the result is not bit-equal",
                  level ? level : "unknown", (long long)threads, origin->level, origin->threads);
    if (!recipe || strcmp(recipe, origin->recipe_text))
        crank_log(context, CRANK_WARNING, "the recipe differs from the checkpoint's; the run goes on with the new one");
    json_t *plugins = plugins_json();
    if (!json_equal(json_object_get(root, "plugins"), plugins))
        crank_log(context, CRANK_WARNING, "the plugins differ from the checkpoint's: the result may differ");
    json_decref(plugins);
    return CRANK_OK;
}

static crank_status read_json(crank_context *context, const char *path, checkpoint *state, const checkpoint_origin *origin)
{
    json_t *root = json_read(context, path);
    if (!root) return crank_last_status(context);
    const struct {
        const char *key;
        int64_t    *place;
    } counts[] = {{"step", &state->step},       {"batches", &state->batches},         {"best_step", &state->best_step}, {"waited", &state->waited},
                  {"skipped", &state->skipped}, {"skipped_run", &state->skipped_run}, {"tokens", &state->tokens}};
    crank_status status = CRANK_OK;
    for (size_t i = 0; i < sizeof counts / sizeof counts[0] && status == CRANK_OK; i++)
        status = json_need_int(context, root, counts[i].key, 0, INT64_MAX, counts[i].place, path);
    if (status == CRANK_OK) status = get_double(context, root, "best", &state->best, path);
    if (status == CRANK_OK) status = get_double(context, root, "seconds", &state->seconds, path);
    if (status == CRANK_OK) status = check_origin(context, root, origin, path);
    json_decref(root);
    return status;
}

/* ---- whole checkpoints ---- */

bool checkpoint_exists(crank_context *context, const char *folder)
{
    if (file_folder_recover(context, folder) != CRANK_OK) return false;
    char *path = file_join(context, folder, "checkpoint.json");
    bool  there = path && file_exists(path);
    crank_free(path);
    return there;
}

crank_status checkpoint_write(crank_context *context, const char *folder, const task_trainer *trainer, crank_params *params,
                              const checkpoint *state, const checkpoint_origin *origin)
{
    char *beside = crank_format(context, "%s.new", folder);
    char *tensors = beside ? file_join(context, beside, "state.safetensors") : NULL;
    char *json = beside ? file_join(context, beside, "checkpoint.json") : NULL;
    crank_status status = tensors && json ? file_folder_remove(context, beside) : CRANK_FAILED; /* what a kill left */
    if (status == CRANK_OK) status = file_make_folder(context, beside);
    if (status == CRANK_OK) status = write_tensors(context, tensors, trainer, params, true);
    if (status == CRANK_OK) status = write_json(context, json, state, origin);
    if (status == CRANK_OK) status = file_folder_replace(context, beside, folder);
    if (status != CRANK_OK) {
        crank_fail_in(context, "writing the checkpoint");
        char *message = crank_strdup(context, crank_message(context));
        if (beside) file_folder_remove(context, beside); /* a full disk needs its space */
        if (message) crank_fail(context, status, "%s", message);
        crank_free(message);
    }
    crank_free(beside), crank_free(tensors), crank_free(json);
    return status;
}

crank_status checkpoint_ranks(crank_context *context, const char *folder, char **ranks)
{
    char        *path = file_join(context, folder, "checkpoint.json");
    json_t      *root = path ? json_read(context, path) : NULL;
    crank_status status = root ? CRANK_OK : crank_last_status(context);
    const char  *text = root ? json_get_string(context, root, "ranks", path, &status) : NULL;
    *ranks = NULL;
    if (status == CRANK_OK && text && !(*ranks = crank_strdup(context, text))) status = CRANK_FAILED;
    json_decref(root);
    crank_free(path);
    return status;
}

crank_status checkpoint_read(crank_context *context, const char *folder, const task_trainer *trainer, crank_params *params,
                             checkpoint *state, const checkpoint_origin *origin)
{
    char        *tensors = file_join(context, folder, "state.safetensors");
    char        *json = file_join(context, folder, "checkpoint.json");
    crank_status status = tensors && json ? read_json(context, json, state, origin) : CRANK_FAILED;
    if (status == CRANK_OK) status = read_tensors(context, tensors, trainer, params, true);
    crank_free(tensors), crank_free(json);
    return status;
}
