/* adapter_load.c - reads adapter folders: PEFT's adapter_config.json, or crank.json for crank's own methods, and
 * adapter_model.safetensors.
 *
 * Every tensor of the attachment must be in the file with its shape, and every tensor of the file must belong to the attachment:
 * an adapter that does not fit is refused with a table, never loaded in part. Tensors may be f32, f16, bf16 or f64. */
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/text.h"
#include "linear/stack.h"
#include "model/adapter.h"
#include "model/model.h"

#define PEFT_PREFIX "base_model.model."

/* ---- configs ---- */

/* What a folder says: the method, its options and where it stands. Strings of `where` are owned. */
typedef struct plan {
    const crank_map     *map;
    void                *options;
    crank_attach_options where;
    bool                 peft;
    char                *base; /* fingerprint, or NULL */
} plan;

static void plan_free(plan *p)
{
    const char *const texts[] = { p->where.targets,      p->where.exclude,       p->where.layers,
                                  p->where.rank_pattern, p->where.alpha_pattern, p->where.modules };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) crank_free((void *)(uintptr_t)texts[i]);
    crank_options_free(p->options);
    crank_free(p->base);
}

static crank_status wrong(crank_context *context, const char *where, const char *key, const char *must)
{
    return crank_fail(context, CRANK_BAD_DATA, "%s: `%s` must be %s", where, key, must);
}

/* A list of texts or whole numbers (or one number) as lines; *out NULL when absent, null or empty. */
static crank_status read_lines(crank_context *context, const json_t *config, const char *key, const char *where, const char **out)
{
    const json_t *value = json_object_get(config, key);
    text_buffer   lines = { 0 };
    *out = NULL;
    if (!value || json_is_null(value) || (json_is_array(value) && json_array_size(value) == 0)) return CRANK_OK;
    size_t count = json_is_array(value) ? json_array_size(value) : 1;
    for (size_t i = 0; i < count; i++) {
        const json_t *item = json_is_array(value) ? json_array_get(value, i) : value;
        const char   *text = json_string_value(item);
        if (lines.length) text_putc(&lines, '\n');
        if (text && *text && !strchr(text, '\n')) text_puts(&lines, text);
        else if (json_is_integer(item)) text_printf(&lines, "%lld", (long long)json_integer_value(item));
        else {
            text_clear(&lines);
            return wrong(context, where, key, "a list of texts or whole numbers");
        }
    }
    *out = text_take(context, &lines, key);
    return *out ? CRANK_OK : CRANK_FAILED;
}

/* A list of suffixes, or one text: a regex on the whole path, whatever characters it has. */
static crank_status read_rule(crank_context *context, const json_t *config, const char *key, const char *where, const char **out)
{
    const char *text = json_string_value(json_object_get(config, key));
    if (!text) return read_lines(context, config, key, where, out);
    if (strchr(text, '\n')) return wrong(context, where, key, "one line");
    *out = strcmp(text, "all-linear") == 0 ? crank_strdup(context, text) : crank_format(context, "(?:%s)", text);
    return *out ? CRANK_OK : CRANK_FAILED;
}

/* {"pattern": number} as "pattern=number" lines. */
static crank_status read_pattern(crank_context *context, json_t *config, const char *key, const char *where, const char **out)
{
    json_t     *value = json_object_get(config, key), *item;
    const char *pattern;
    text_buffer lines = { 0 };
    *out = NULL;
    if (!value || json_is_null(value) || (json_is_object(value) && json_object_size(value) == 0)) return CRANK_OK;
    if (!json_is_object(value)) return wrong(context, where, key, "a mapping of patterns to numbers");
    json_object_foreach(value, pattern, item)
    {
        if (!*pattern || strchr(pattern, '\n') || !json_is_number(item)) {
            text_clear(&lines);
            return wrong(context, where, key, "a mapping of patterns to numbers");
        }
        text_printf(&lines, "%s%s=%.17g", lines.length ? "\n" : "", pattern, json_number_value(item));
    }
    *out = text_take(context, &lines, key);
    return *out ? CRANK_OK : CRANK_FAILED;
}

/* Where PEFT stands when target_modules is null. */
static const char *default_targets(const char *model_type)
{
    static const char *const table[][2] = {
        { "llama", "q_proj\nv_proj" },    { "mistral", "q_proj\nv_proj" },       { "qwen2", "q_proj\nv_proj" },
        { "qwen3", "q_proj\nv_proj" },    { "gemma", "q_proj\nv_proj" },         { "gemma2", "q_proj\nv_proj" },
        { "opt", "q_proj\nv_proj" },      { "gpt2", "c_attn" },                  { "bert", "query\nvalue" },
        { "roberta", "query\nvalue" },    { "xlm-roberta", "query\nvalue" },     { "electra", "query\nvalue" },
        { "t5", "q\nv" },                 { "mt5", "q\nv" },                     { "gpt_neox", "query_key_value" },
        { "bloom", "query_key_value" },   { "falcon", "query_key_value" },       { "phi", "q_proj\nv_proj\nfc1\nfc2" },
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (strcmp(table[i][0], model_type) == 0) return table[i][1];
    return NULL;
}

static crank_status read_where(crank_context *context, const crank_model *model, json_t *config, const char *where, plan *p)
{
    crank_status status = read_rule(context, config, "target_modules", where, &p->where.targets);
    if (status == CRANK_OK) status = read_rule(context, config, "exclude_modules", where, &p->where.exclude);
    if (status == CRANK_OK) status = read_lines(context, config, "layers_to_transform", where, &p->where.layers);
    if (status == CRANK_OK) status = read_lines(context, config, "modules_to_save", where, &p->where.modules);
    if (status == CRANK_OK) status = read_pattern(context, config, "rank_pattern", where, &p->where.rank_pattern);
    if (status == CRANK_OK) status = read_pattern(context, config, "alpha_pattern", where, &p->where.alpha_pattern);
    if (status || p->where.targets) return status;
    const char *targets = default_targets(model->config.model_type);
    if (!targets)
        return crank_fail(context, CRANK_BAD_DATA, "%s: `target_modules` is null, and there is no default for models of the type `%s`",
                          where, model->config.model_type);
    p->where.targets = crank_strdup(context, targets);
    return p->where.targets ? CRANK_OK : CRANK_FAILED;
}

static crank_safetensors *open_tensors(crank_context *context, const char *folder)
{
    char *path = file_join(context, folder, "adapter_model.safetensors"), *legacy = file_join(context, folder, "adapter_model.bin");
    crank_safetensors *file = NULL;
    if (path && legacy && !file_exists(path) && file_exists(legacy))
        crank_fail(context, CRANK_BAD_DATA, "%s: a pickle can run code and is not read; save the adapter as safetensors", legacy);
    else if (path && legacy) file = crank_safetensors_open(context, path);
    crank_free(path);
    crank_free(legacy);
    return file;
}

/* The authors of LoRA-XS and LoRA-SB save a LoRA with a core beside its factors: the config does not tell. */
static crank_status look_for_cores(crank_context *context, const char *folder, plan *p)
{
    static const char  suffix[] = "lora_latent_mapping.weight";
    crank_safetensors *file = open_tensors(context, folder);
    if (!file) return crank_last_status(context);
    for (size_t i = 0; i < crank_safetensors_count(file); i++) {
        const char *name = crank_safetensors_name(file, i);
        size_t      length = strlen(name);
        if (length > sizeof suffix && strcmp(name + length - (sizeof suffix - 1), suffix) == 0) p->map = crank_map_find("lora-xs");
    }
    crank_safetensors_close(file);
    return CRANK_OK;
}

static crank_status read_peft(crank_context *context, const crank_model *model, const char *folder, const char *path, plan *p)
{
    json_t *config = json_read(context, path);
    if (!config) return crank_last_status(context);
    p->peft = true;
    p->map = adapter_peft_map(context, config, path);
    crank_status status = p->map ? CRANK_OK : crank_last_status(context);
    if (status == CRANK_OK && strcmp(p->map->name, "lora") == 0) status = look_for_cores(context, folder, p);
    if (status == CRANK_OK) status = read_where(context, model, config, path, p);
    if (status == CRANK_OK && !(p->options = crank_options_new(context, p->map->options, p->map->options_size))) status = CRANK_FAILED;
    char *text = status == CRANK_OK ? json_dumps(config, JSON_COMPACT) : NULL;
    if (status == CRANK_OK && !text) status = crank_fail(context, CRANK_FAILED, "out of memory: %s", path);
    if (status == CRANK_OK && p->map->peft_options) status = p->map->peft_options(context, text, p->options);
    if (status == CRANK_USAGE) status = crank_fail(context, CRANK_BAD_DATA, "%s", crank_message(context)); /* the file is at fault */
    crank_free(text);
    json_decref(config);
    return status;
}

static crank_status read_option(crank_context *context, const char *key, const json_t *value, const char *path, plan *p)
{
    char        *text = json_is_string(value) ? crank_strdup(context, json_string_value(value))
                                              : json_dumps(value, JSON_ENCODE_ANY | JSON_REAL_PRECISION(17));
    crank_status status = text ? crank_options_set(context, p->map->options, p->options, key, text, path)
                               : crank_fail(context, CRANK_FAILED, "out of memory: %s", path);
    crank_free(text);
    return status;
}

/* {"format": 1, "method": .., "options": {..}, "target_modules": .., .., "base": ..} */
static crank_status read_own(crank_context *context, const crank_model *model, const char *path, plan *p)
{
    json_t *config = json_read(context, path);
    if (!config) return crank_last_status(context);
    int64_t      format;
    crank_status status = json_need_int(context, config, "format", 1, 1, &format, path);
    const char  *method = status == CRANK_OK ? json_get_string(context, config, "method", path, &status) : NULL;
    const char  *base = status == CRANK_OK ? json_get_string(context, config, "base", path, &status) : NULL;
    if (status == CRANK_OK && (!method || !(p->map = crank_map_find(method))))
        status = crank_fail(context, CRANK_BAD_DATA, "%s: there is no low-rank method `%s`", path, method ? method : "");
    if (status == CRANK_OK && base && !(p->base = crank_strdup(context, base))) status = CRANK_FAILED;
    if (status == CRANK_OK) status = read_where(context, model, config, path, p);
    if (status == CRANK_OK && !(p->options = crank_options_new(context, p->map->options, p->map->options_size))) status = CRANK_FAILED;
    json_t     *options = json_object_get(config, "options"), *value;
    const char *key;
    if (status == CRANK_OK && options && !json_is_object(options)) status = wrong(context, path, "options", "a mapping");
    json_object_foreach(options, key, value)
    {
        if (status == CRANK_OK && !json_is_null(value)) status = read_option(context, key, value, path, p);
    }
    if (status == CRANK_USAGE) status = crank_fail(context, CRANK_BAD_DATA, "%s", crank_message(context));
    json_decref(config);
    return status;
}

static crank_status read_config(crank_context *context, const crank_model *model, const char *folder, plan *p)
{
    if (!file_is_folder(folder)) return crank_fail(context, CRANK_USAGE, "%s: is no folder: an adapter is one", folder);
    char        *peft = file_join(context, folder, "adapter_config.json"), *own = file_join(context, folder, "crank.json");
    crank_status status = peft && own ? CRANK_OK : CRANK_FAILED;
    if (status == CRANK_OK && file_exists(peft)) status = read_peft(context, model, folder, peft, p);
    else if (status == CRANK_OK && file_exists(own)) status = read_own(context, model, own, p);
    else if (status == CRANK_OK)
        status = crank_fail(context, CRANK_BAD_DATA, "%s: is no adapter folder: it has neither adapter_config.json nor crank.json",
                            folder);
    crank_free(peft);
    crank_free(own);
    return status;
}

/* ---- tensors ---- */

/* A file and which of its tensors were read. */
typedef struct source {
    const crank_safetensors *file;
    bool                    *taken;
} source;

static bool take(const source *from, const char *key, crank_view *view)
{
    for (size_t i = 0; i < crank_safetensors_count(from->file); i++) {
        if (strcmp(crank_safetensors_name(from->file, i), key) != 0) continue;
        from->taken[i] = true;
        *view = crank_safetensors_view(from->file, i);
        return true;
    }
    return false;
}

/* The key as written, or with the family's prefix left out or added: an adapter of the body fits the model with a head. */
static bool take_key(crank_context *context, const crank_model *model, const source *from, const char *key, bool peft,
                     crank_view *view)
{
    if (!key) return false;
    if (take(from, key, view)) return true;
    const char *outer = peft ? PEFT_PREFIX : "", *prefix = model->family->prefix;
    const char *path = key + strlen(outer);
    if (!prefix || !*prefix) return false;
    bool  has = strncmp(path, prefix, strlen(prefix)) == 0;
    char *other = crank_format(context, "%s%s%s", outer, has ? "" : prefix, has ? path + strlen(prefix) : path);
    bool  found = other && take(from, other, view);
    crank_free(other);
    return found;
}

static void shape_text(char out[128], const crank_view *view, bool transposed)
{
    size_t used = 1;
    strcpy(out, "[");
    for (int i = 0; i < view->rank && used < 120; i++)
        used += (size_t)snprintf(out + used, 128 - used, "%s%lld", i ? ", " : "",
                                 (long long)view->dims[transposed ? view->rank - 1 - i : i]);
    snprintf(out + used, 128 - used, "]");
}

/* Does the file's tensor serve the parameter? Dims of 1 around a vector are passed over ([1, m, 1, 1] magnitudes). */
static bool fits(const adapter_tensor *tensor, const crank_view *view)
{
    const crank_view *own = &tensor->param->view;
    bool integers = own->dtype == CRANK_I32 && view->dtype == CRANK_I32; /* places: the operations leave out those that do not exist */
    if (!integers && (!crank_dtype_is_float(own->dtype) || !crank_dtype_is_float(view->dtype) || crank_dtype_bits(view->dtype) < 16)) return false;
    if (own->rank == 1 && view->rank > 1) return crank_view_count(view) == own->dims[0];
    if (own->rank != view->rank) return false;
    for (int i = 0; i < own->rank; i++)
        if (view->dims[i] != own->dims[tensor->transposed ? own->rank - 1 - i : i]) return false;
    return true;
}

static crank_status write_tensor(crank_context *context, const adapter_tensor *tensor, const crank_view *view)
{
    if (!tensor->transposed || view->rank != 2) return crank_param_write(context, tensor->param, view->data, view->dtype);
    void *turned = crank_alloc(context, 1, crank_view_bytes(view), tensor->key);
    if (!turned) return CRANK_FAILED;
    weights_transpose(turned, view->data, view->dims[1], view->dims[0], crank_dtype_bits(view->dtype) / 8);
    crank_status status = crank_param_write(context, tensor->param, turned, view->dtype);
    crank_free(turned);
    return status;
}

enum { PROBLEMS_SHOWN = 10 };

typedef struct problems {
    text_buffer table;
    int         count;
} problems;

static void problem(problems *list, const char *kind, const char *name, const char *more)
{
    if (list->count++ < PROBLEMS_SHOWN) text_printf(&list->table, "\n  %-10s %s%s", kind, name, more);
}

/* Row r of two [V, d] tensors, both rounded to bf16. */
static bool same_row(crank_context *context, const crank_param *param, const crank_view *view, int64_t r)
{
    int64_t     d = view->dims[1], first = r * d;
    uint16_t   *rows[2] = { crank_alloc(context, (size_t)d, 2, param->name), crank_alloc(context, (size_t)d, 2, param->name) };
    crank_param line = *param;
    bool        same = rows[0] && rows[1];
    line.view = crank_view_make((char *)param->view.data + (size_t)first * crank_dtype_bits(param->view.dtype) / 8,
                                param->view.dtype, 1, &d);
    if (same) same = crank_param_read(context, &line, rows[0], CRANK_BF16) == CRANK_OK;
    if (same) {
        crank_convert(rows[1], CRANK_BF16, (const char *)view->data + (size_t)first * crank_dtype_bits(view->dtype) / 8, view->dtype,
                      (size_t)d);
        same = memcmp(rows[0], rows[1], (size_t)d * 2) == 0;
    }
    crank_free(rows[0]);
    crank_free(rows[1]);
    return same;
}

/* PEFT stores the frozen table of an adapted embedding beside its factors: it must be the model's. */
static bool is_frozen_table(crank_context *context, const crank_attachment *attachment, const char *name, const crank_view *view,
                            problems *list)
{
    for (int i = 0; i < attachment->count; i++) {
        const crank_linear *linear = attachment->sites[i].linear;
        size_t              length = strlen(linear->name);
        const char         *at = strstr(name, linear->name);
        if (linear->kind != CRANK_LINEAR_EMBEDDING || !at || !linear->weight) continue;
        if (strcmp(at + length, ".base_layer.weight") != 0 && strcmp(at + length, ".weight") != 0) continue;
        const crank_view *own = &linear->weight->view;
        if (view->rank != 2 || view->dims[0] != own->dims[0] || view->dims[1] != own->dims[1] || !crank_dtype_is_float(view->dtype) ||
            crank_dtype_bits(view->dtype) < 16) {
            problem(list, "shape", name, ": another table than the model's; the vocabulary was resized");
            return true;
        }
        bool same = true;
        for (int64_t r = 0; same && r < own->dims[0]; r += own->dims[0] > 1 ? own->dims[0] - 1 : 1)
            same = same_row(context, linear->weight, view, r);
        if (!same) problem(list, "changed", name, ": other values than the model's table");
        return true;
    }
    return false;
}

/* PEFT may repeat beside each linear what all of them share (base_model.NAME): the copies must be the same. */
static bool is_shared_copy(const source *from, const char *name, const crank_view *view, problems *list)
{
    const char *last = strrchr(name, '.');
    if (!last || strncmp(name, PEFT_PREFIX, strlen(PEFT_PREFIX)) != 0) return false;
    for (size_t i = 0; i < crank_safetensors_count(from->file); i++) {
        const char *key = crank_safetensors_name(from->file, i);
        if (!from->taken[i] || strncmp(key, "base_model.", 11) != 0 || strcmp(key + 10, last) != 0) continue;
        crank_view shared = crank_safetensors_view(from->file, i);
        bool       same = shared.dtype == view->dtype && crank_view_bytes(&shared) == crank_view_bytes(view);
        if (!same || memcmp(shared.data, view->data, crank_view_bytes(view)) != 0)
            problem(list, "changed", name, ": other values than the tensor that all linears share");
        return true;
    }
    return false;
}

/* Compares the attachment's tensors with the file's, and then, when `write` and all fits, gives them their values. */
static crank_status fill(crank_context *context, crank_model *model, crank_attachment *attachment, bool peft,
                         const crank_safetensors *file, const char *path, bool write)
{
    adapter_tensors list = { 0 };
    problems        found = { 0 };
    size_t          in_file = crank_safetensors_count(file);
    source          from = { file, crank_alloc(context, in_file + 1, sizeof *from.taken, path) };
    crank_status    status = from.taken ? adapter_list(context, attachment, peft, false, &list) : CRANK_FAILED;
    for (size_t i = 0; status == CRANK_OK && i < list.count; i++) {
        crank_view view;
        char       has[128], wants[128], more[300];
        bool       there = take_key(context, model, &from, list.items[i].key, peft, &view) ||
                     take_key(context, model, &from, list.items[i].other, peft, &view);
        if (there && fits(&list.items[i], &view)) {
            if (write && !found.count) status = write_tensor(context, &list.items[i], &view);
        } else if (there) {
            shape_text(has, &view, false);
            shape_text(wants, &list.items[i].param->view, list.items[i].transposed);
            snprintf(more, sizeof more, ": the file has %s %s, the model takes %s", crank_dtype_name(view.dtype), has, wants);
            problem(&found, "shape", list.items[i].key, more);
        } else problem(&found, "missing", list.items[i].key, "");
    }
    for (size_t i = 0; status == CRANK_OK && i < in_file; i++) {
        const char *name = crank_safetensors_name(file, i);
        crank_view  view = crank_safetensors_view(file, i);
        if (from.taken[i] || (peft && is_shared_copy(&from, name, &view, &found))) continue;
        if (!is_frozen_table(context, attachment, name, &view, &found)) problem(&found, "unexpected", name, "");
    }
    if (status == CRANK_OK && found.count)
        status = crank_fail(context, CRANK_BAD_DATA, "%s: the adapter does not fit the model; %d tensor%s:%s%s", path, found.count,
                            found.count > 1 ? "s" : "", found.table.length ? found.table.bytes : "",
                            found.count > PROBLEMS_SHOWN ? "\n  ..." : "");
    text_clear(&found.table);
    adapter_list_free(&list);
    crank_free(from.taken);
    return status;
}

/* A folder that names the weights which it was trained on fits no other. */
static crank_status check_base(crank_context *context, crank_attachment *attachment, const char *stated, const char *folder)
{
    char own[65];
    if (!stated || !*stated) return CRANK_OK;
    crank_status status = adapter_base(context, attachment, own);
    if (status || strcmp(own, stated) == 0) return status;
    return crank_fail(context, CRANK_BAD_DATA, "%s: the adapter was trained on another base model: its weights have the fingerprint "
                                               "%.16s, this model's %.16s",
                      folder, stated, own);
}

/* ---- the folder ---- */

/* A model holds one set of values: two adapters cannot both bring a weight of the model itself. */
static crank_status check_trained(crank_context *context, const crank_attachment *attachment)
{
    const crank_linears *linears = attachment->linears;
    for (size_t i = 0; i < linears->attachment_count; i++) {
        const crank_attachment *other = linears->attachments[i];
        for (size_t a = 0; other != attachment && a < attachment->trained_count; a++)
            for (size_t b = 0; b < other->trained_count; b++)
                if (attachment->trained[a].param == other->trained[b].param)
                    return crank_fail(context, CRANK_USAGE, "%s was trained by this adapter and by `%s`: a model holds one of them, so load one of the two",
                                      attachment->trained[a].param->name, other->where.name);
    }
    return CRANK_OK;
}

static crank_attachment *attach(crank_context *context, crank_model *model, const plan *p, const char *folder)
{
    crank_attachment *attachment = crank_attachment_new(context, model->linears, p->map, p->options, &p->where);
    if (attachment && crank_attachment_finish(context, attachment) == CRANK_OK) return attachment;
    crank_status status = crank_fail_in(context, "%s", folder);
    if (status == CRANK_USAGE) crank_fail(context, CRANK_BAD_DATA, "%s", crank_message(context)); /* the file is at fault */
    if (attachment) crank_attachment_remove(attachment);
    return NULL;
}

/* Attaches without memory first: sizes that a config states are not believed before the file has shown tensors of these sizes. */
static crank_attachment *attach_checked(crank_context *context, crank_model *model, const plan *p, const crank_safetensors *file,
                                        const char *folder)
{
    const char *base = p->base ? p->base : crank_safetensors_metadata(file, "crank_base");
    crank_params_defer(model->params, true);
    crank_attachment *attachment = attach(context, model, p, folder);
    if (model->options.dry) return attachment;
    crank_status status = attachment ? check_trained(context, attachment) : crank_last_status(context);
    if (status == CRANK_OK) status = check_base(context, attachment, base, folder);
    if (status == CRANK_OK) status = fill(context, model, attachment, p->peft, file, folder, false);
    if (attachment) crank_attachment_remove(attachment);
    crank_params_defer(model->params, false);
    attachment = status == CRANK_OK ? attach(context, model, p, folder) : NULL;
    if (!attachment || fill(context, model, attachment, p->peft, file, folder, true) == CRANK_OK) return attachment;
    crank_attachment_remove(attachment);
    return NULL;
}

crank_attachment *crank_adapter_load(crank_context *context, crank_model *model, const char *folder, const char *name)
{
    plan               p = { 0 };
    crank_attachment  *attachment = NULL;
    crank_safetensors *file = NULL;
    crank_status       status = file_folder_recover(context, folder);
    if (status == CRANK_OK) status = read_config(context, model, folder, &p);
    if (status == CRANK_OK && (file = open_tensors(context, folder))) {
        p.where.name = name;
        attachment = attach_checked(context, model, &p, file, folder);
    }
    crank_safetensors_close(file);
    plan_free(&p);
    return attachment;
}
