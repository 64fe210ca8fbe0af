/* sentence_folder.c - reading the files of sentence-transformers. */
#include "model/sentence_folder.h"

#include <string.h>

#include "base/file.h"

/* folder/name as JSON; NULL with *status CRANK_OK where there is no such file. */
static json_t *read_json(crank_context *context, const char *folder, const char *name, char **path, crank_status *status)
{
    json_t *json = NULL;
    *path = *status == CRANK_OK ? file_join(context, folder, name) : NULL;
    if (*status == CRANK_OK && !*path) *status = CRANK_FAILED;
    if (*path && file_exists(*path) && !(json = json_read(context, *path))) *status = crank_last_status(context);
    return json;
}

/* Flags "pooling_mode_mean_tokens": true, or a name "pooling_mode": "mean". */
static const char *read_mode(const json_t *json, int *on)
{
    static const char *const flags[][2] = {{"pooling_mode_mean_tokens", "mean"}, {"pooling_mode_cls_token", "cls"}, {"pooling_mode_lasttoken", "last"}};
    static const char *const names[][2] = {{"mean", "mean"}, {"cls", "cls"}, {"lasttoken", "last"}};
    const json_t *named = json_object_get(json, "pooling_mode"), *value;
    const char   *found = NULL, *key;
    *on = named != NULL;
    if (!named) json_object_foreach((json_t *)(uintptr_t)json, key, value) *on += !strncmp(key, "pooling_mode_", 13) && json_is_true(value);
    for (size_t i = 0; i < 3; i++)
        if (named ? json_is_string(named) && !strcmp(json_string_value(named), names[i][0]) : json_is_true(json_object_get(json, flags[i][0]))) found = flags[i][1];
    return found;
}

crank_status sentence_pooling_read(crank_context *context, const char *folder, bool *found, char pooling[8], bool *without_prompt)
{
    crank_status status = CRANK_OK;
    char        *path;
    json_t      *json = read_json(context, folder, "config.json", &path, &status);
    int          on = 0;
    bool         included = true;
    const char  *mode = json ? read_mode(json, &on) : NULL;
    *found = json != NULL;
    if (json) status = json_get_bool(context, json, "include_prompt", true, &included, path);
    *without_prompt = !included;
    strcpy(pooling, on == 1 && mode ? mode : "");
    json_decref(json);
    crank_free(path);
    return status;
}

static crank_status read_pooling(crank_context *context, const char *folder, sentence_folder *out)
{
    bool         found;
    crank_status status = sentence_pooling_read(context, folder, &found, out->pooling, &out->without_prompt);
    out->other_pooling = !*out->pooling;
    return status != CRANK_OK || found ? status : crank_fail(context, CRANK_BAD_DATA, "%s/config.json is missing: modules.json names it", folder);
}

/* "sentence_transformers.models.Pooling" -> "Pooling" */
static const char *last_name(const char *type)
{
    const char *dot = strrchr(type, '.');
    return dot ? dot + 1 : type;
}

static crank_status read_module(crank_context *context, const char *folder, const json_t *module, const char *where, sentence_folder *out)
{
    crank_status status = CRANK_OK;
    const char  *type = json_get_string(context, module, "type", where, &status);
    const char  *path = status == CRANK_OK ? json_get_string(context, module, "path", where, &status) : NULL;
    if (status != CRANK_OK) return status;
    if (!type) return crank_fail(context, CRANK_BAD_DATA, "%s: a module has no `type`", where);
    const char *name = last_name(type);
    bool        inside = path && *path;
    if (inside && (*path == '/' || strstr(path, ".."))) return crank_fail(context, CRANK_BAD_DATA, "%s: path `%.100s` leaves the folder", where, path);
    char *place = inside ? file_join(context, folder, path) : crank_strdup(context, folder);
    if (!place) return CRANK_FAILED;
    if (!strcmp(name, "Transformer")) {
        crank_free(out->model);
        out->model = place;
        return CRANK_OK;
    }
    if (!strcmp(name, "Pooling")) status = read_pooling(context, place, out);
    else if (!strcmp(name, "Normalize")) out->normalize = true;
    else status = crank_fail(context, CRANK_BAD_DATA, "%s: module `%.100s` is not one of crank's: Transformer, Pooling, Normalize", where, type);
    crank_free(place);
    return status;
}

static crank_status read_modules(crank_context *context, const char *folder, sentence_folder *out)
{
    crank_status status = CRANK_OK;
    char        *path;
    json_t      *json = read_json(context, folder, "modules.json", &path, &status);
    if (json && !json_is_array(json)) status = crank_fail(context, CRANK_BAD_DATA, "%s: must be a list of modules", path);
    out->found = json != NULL;
    for (size_t i = 0; json && status == CRANK_OK && i < json_array_size(json); i++) status = read_module(context, folder, json_array_get(json, i), path, out);
    json_decref(json);
    crank_free(path);
    return status;
}

static crank_status read_length(crank_context *context, sentence_folder *out)
{
    crank_status status = CRANK_OK;
    char        *path;
    bool         lower = false;
    json_t      *json = read_json(context, out->model, "sentence_bert_config.json", &path, &status);
    if (json) status = json_get_int(context, json, "max_seq_length", 1, 1 << 27, 0, &out->max_length, path);
    if (json && status == CRANK_OK) status = json_get_bool(context, json, "do_lower_case", false, &lower, path);
    if (status == CRANK_OK && lower)
        status = crank_fail(context, CRANK_BAD_DATA, "%s: `do_lower_case` is true; crank leaves case to the tokenizer: set it to false and give texts in lower case", path);
    json_decref(json);
    crank_free(path);
    json = read_json(context, out->model, "tokenizer_config.json", &path, &status);
    const json_t *most = json_object_get(json, "model_max_length"); /* some files state 1e30 */
    if (!out->max_length && json_is_integer(most) && json_integer_value(most) > 0 && json_integer_value(most) <= 1 << 27) out->max_length = json_integer_value(most);
    json_decref(json);
    crank_free(path);
    return status;
}

static crank_status read_prompts(crank_context *context, const char *folder, sentence_folder *out)
{
    crank_status status = CRANK_OK;
    char        *path;
    json_t      *json = read_json(context, folder, "config_sentence_transformers.json", &path, &status);
    if (json) {
        out->prompt_name = json_get_string(context, json, "default_prompt_name", path, &status);
        json_t *prompts = json_object_get(json, "prompts");
        if (json_is_object(prompts)) out->prompts = json_incref(prompts);
        if (status == CRANK_OK && out->prompt_name && !sentence_folder_prompt(out, out->prompt_name))
            status = crank_fail(context, CRANK_BAD_DATA, "%s: `default_prompt_name` is \"%.100s\", and `prompts` has none of that name", path, out->prompt_name);
    }
    out->config = json;
    crank_free(path);
    return status;
}

/* "torch.nn.modules.activation.Sigmoid": in config_sentence_transformers.json, or in the layouts of earlier releases. */
static crank_status read_activation(crank_context *context, sentence_folder *out)
{
    crank_status status = CRANK_OK;
    char        *path;
    json_t      *json = read_json(context, out->model, "config.json", &path, &status), *of = json_object_get(json, "sentence_transformers");
    const char  *name = json_is_object(of) ? json_get_string(context, of, "activation_fn", path, &status) : NULL;
    if (status == CRANK_OK && !name && json) name = json_get_string(context, json, "sbert_ce_default_activation_function", path, &status);
    if (status == CRANK_OK && !name && out->config) name = json_get_string(context, out->config, "activation_fn", path, &status);
    if (status == CRANK_OK && name) {
        name = last_name(name);
        if (!strcmp(name, "Identity")) out->activation = SENTENCE_IDENTITY;
        else if (!strcmp(name, "Sigmoid")) out->activation = SENTENCE_SIGMOID;
        else status = crank_fail(context, CRANK_BAD_DATA, "%s: the scores' activation `%.100s` is not one of crank's: Identity, Sigmoid", path, name);
    }
    json_decref(json);
    crank_free(path);
    return status;
}

crank_status sentence_folder_read(crank_context *context, const char *folder, sentence_folder *out)
{
    *out = (sentence_folder){.model = crank_strdup(context, folder)};
    crank_status status = out->model ? read_modules(context, folder, out) : CRANK_FAILED;
    if (status == CRANK_OK) status = read_length(context, out);
    if (status == CRANK_OK) status = read_prompts(context, folder, out);
    if (status == CRANK_OK) status = read_activation(context, out);
    if (status != CRANK_OK) sentence_folder_free(out);
    return status;
}

void sentence_folder_free(sentence_folder *s)
{
    crank_free(s->model);
    json_decref(s->prompts);
    json_decref(s->config);
    *s = (sentence_folder){0};
}

const char *sentence_folder_prompt(const sentence_folder *s, const char *name) { return json_string_value(json_object_get(s->prompts, name)); }
