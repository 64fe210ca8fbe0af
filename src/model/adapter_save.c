/* adapter_save.c - writes adapter folders.
 *
 *   adapter_config.json         PEFT's config, keys sorted, indent 2 (methods that PEFT knows)
 *   crank.json                  method, options and targets (crank's own methods)
 *   adapter_model.safetensors   metadata format = pt, crank_base = fingerprint of the base weights, and with a classification head
 *                               crank_pooling = how sequences were pooled
 *   README.md                   a model card
 *
 * The folder is written beside the old one and renamed. The frozen table of an adapted embedding is not written: readers have it
 * from the base model. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/text.h"
#include "linear/stack.h"
#include "model/adapter.h"
#include "model/model.h"

/* What is written; `lora`: as plain pairs, whatever the method. */
typedef struct saving {
    crank_model      *model;
    crank_attachment *attachment;
    const char       *base;
    bool              peft, lora;
    adapter_tensors   list;
    crank_named_view *views;
    size_t            count;
    void            **own;   /* host copies of views */
    char            **names; /* of plain pairs */
    json_t           *ranks, *alphas; /* patterns of plain pairs */
    int64_t           rank;           /* of the first pair that is written; 0: none so far */
    double            alpha;
    bool             *gone;           /* [sites]: pairs of rank 0, which files do not hold */
    adapter_edit     *edit;           /* of plain pairs, or NULL */
    void             *user;
} saving;

/* ---- json ---- */

static json_t *number(double value)
{
    return fabs(value) < 1e15 && value == (double)(int64_t)value ? json_integer((json_int_t)value) : json_real(value);
}

/* Lines as a list; NULL text: null. */
static json_t *lines(const char *text)
{
    if (!text || !*text) return json_null();
    json_t *list = json_array();
    for (const char *line = text; *line;) {
        size_t length = strcspn(line, "\n");
        if (length) json_array_append_new(list, json_stringn(line, length));
        line += length + (line[length] == '\n');
    }
    return list;
}

/* "pattern=value" lines as a mapping. */
static json_t *pattern(const char *text)
{
    json_t *map = json_object();
    for (const char *line = text; line && *line;) {
        size_t      length = strcspn(line, "\n");
        const char *mark = memrchr(line, '=', length);
        if (mark) json_object_setn_new(map, line, (size_t)(mark - line), number(strtod(mark + 1, NULL)));
        line += length + (line[length] == '\n');
    }
    return map;
}

/* Ranks that calibration chose stand before the recipe's patterns; linears without a rank are no targets. */
static json_t *ranks_of(const crank_attachment *attachment)
{
    json_t     *map = pattern(attachment->ranks), *given = pattern(attachment->where.rank_pattern), *value;
    const char *key;
    void       *next;
    json_object_foreach_safe(map, next, key, value)
    {
        if (json_number_value(value) == 0) json_object_del(map, key);
    }
    json_object_update_missing(map, given);
    json_decref(given);
    return map;
}

static int by_name(const void *a, const void *b) { return strcmp(*(const char *const *)a, *(const char *const *)b); }

/* The same object with its keys in order; takes the reference. NULL: out of memory. */
static json_t *sorted(json_t *object)
{
    size_t       count = json_object_size(object), i = 0;
    const char **keys = calloc(count + 1, sizeof *keys), *key;
    json_t      *result = json_object(), *value;
    if (keys && result) {
        json_object_foreach(object, key, value) keys[i++] = key;
        qsort(keys, count, sizeof *keys, by_name);
        for (i = 0; i < count; i++) json_object_set(result, keys[i], json_object_get(object, keys[i]));
    } else {
        json_decref(result);
        result = NULL;
    }
    free(keys);
    json_decref(object);
    return result;
}

/* ---- targets ---- */

static const char *last_part(const char *path) { return strrchr(path, '.') ? strrchr(path, '.') + 1 : path; }

static bool written(const saving *s, int site) { return !s->gone || !s->gone[site]; }

static bool stands_on(const saving *s, const crank_linear *linear)
{
    for (int i = 0; i < s->attachment->count; i++)
        if (s->attachment->sites[i].linear == linear) return written(s, i);
    return false;
}

/* True when the last parts of the paths name exactly the linears that the attachment stands on. */
static bool suffixes_suffice(const saving *s)
{
    const crank_attachment *attachment = s->attachment;
    const crank_linears    *linears = attachment->linears;
    for (size_t i = 0; i < linears->count; i++) {
        bool named = false;
        for (int j = 0; j < attachment->count && !named; j++)
            named = written(s, j) && strcmp(last_part(attachment->sites[j].linear->name), last_part(linears->items[i]->name)) == 0;
        if (named != stands_on(s, linears->items[i])) return false;
    }
    return true;
}

/* PEFT's target_modules: the shortest list that any reader resolves to the same linears. */
static json_t *targets(const saving *s)
{
    const crank_attachment *attachment = s->attachment;
    json_t                 *list = json_array();
    bool                    suffixes = suffixes_suffice(s);
    for (int i = 0; i < attachment->count; i++) {
        if (!written(s, i)) continue;
        const char *name = attachment->sites[i].linear->name;
        if (suffixes) name = last_part(name);
        bool known = false;
        for (size_t j = 0; j < json_array_size(list) && !known; j++)
            known = strcmp(json_string_value(json_array_get(list, j)), name) == 0;
        if (!known) json_array_append_new(list, json_string(name));
    }
    return list;
}

/* modules_to_save: those that were asked for, and modules with weights that were trained beside the attachment. */
static json_t *modules(const saving *s)
{
    json_t *list = lines(s->attachment->where.modules);
    if (json_is_null(list) && s->list.module_count) list = json_array();
    for (size_t i = 0; i < s->list.module_count; i++) json_array_append_new(list, json_string(s->list.modules[i]));
    return list;
}

/* ---- adapter_config.json ---- */

static const char *task_type(const crank_model *model)
{
    return model->config.labels > 0 ? "SEQ_CLS" : model->config.causal ? "CAUSAL_LM" : "FEATURE_EXTRACTION";
}

static bool any_transposed(const crank_attachment *attachment)
{
    for (int i = 0; i < attachment->count; i++)
        if (attachment->sites[i].linear->transposed_file) return true;
    return false;
}

static bool is_lora_type(const saving *s) { return s->lora || strcmp(s->attachment->map->peft_type, "LORA") == 0; }

/* What only configs of the type LORA have. */
static void add_lora_keys(const saving *s, json_t *config)
{
    static const char *const absent[] = { "exclude_modules", "layer_replication", "megatron_config" };
    const crank_attachment  *a = s->attachment;
    json_object_set_new(config, "rank_pattern", s->lora ? json_incref(s->ranks) : pattern(a->where.rank_pattern));
    json_object_set_new(config, "alpha_pattern", s->lora ? json_incref(s->alphas) : pattern(a->where.alpha_pattern));
    for (size_t i = 0; i < sizeof absent / sizeof *absent; i++) json_object_set_new(config, absent[i], json_null());
    json_object_set_new(config, "megatron_core", json_string("megatron.core"));
    json_object_set_new(config, "loftq_config", json_object());
}

/* Keys that every PEFT config has. */
static json_t *common_config(const saving *s)
{
    const crank_attachment *a = s->attachment;
    json_t                 *config = json_pack(
        "{s:n, s:o, s:s, s:o, s:b, s:o, s:n, s:s, s:n, s:n}", "auto_mapping", "base_model_name_or_path",
        s->base ? json_string(s->base) : json_null(), "peft_type", s->lora ? "LORA" : a->map->peft_type, "target_modules", targets(s),
        "inference_mode", 1, "modules_to_save", modules(s), "revision", "task_type", task_type(s->model), "layers_to_transform", "layers_pattern");
    if (!config) return NULL;
    bool transposed = any_transposed(a);
    if (transposed || is_lora_type(s)) json_object_set_new(config, "fan_in_fan_out", json_boolean(transposed));
    if (is_lora_type(s)) add_lora_keys(s, config);
    return config;
}

static crank_status add_method_keys(crank_context *context, const saving *s, json_t *config)
{
    if (s->lora) {
        json_t *keys = json_pack("{s:I, s:o, s:f, s:b, s:b, s:b, s:s, s:b}", "r", (json_int_t)s->rank, "lora_alpha", number(s->alpha),
                                 "lora_dropout", 0.0, "use_rslora", 0, "use_dora", 0, "lora_bias", 0, "bias", "none",
                                 "init_lora_weights", 1);
        json_object_update(config, keys);
        json_decref(keys);
        return CRANK_OK;
    }
    if (!s->attachment->map->peft_config) return CRANK_OK;
    crank_site whole = s->attachment->sites[0];
    whole.options = s->attachment->options; /* not those of a site that a pattern changed */
    char   *text = s->attachment->map->peft_config(context, &whole);
    json_t *keys = text ? json_parse(context, text, strlen(text), "adapter_config.json") : NULL;
    crank_free(text);
    if (!keys) return crank_last_status(context);
    json_object_update(config, keys);
    json_decref(keys);
    return CRANK_OK;
}

static crank_status write_peft_config(crank_context *context, const saving *s, const char *path)
{
    json_t *config = common_config(s);
    if (!config) return crank_fail(context, CRANK_FAILED, "out of memory: %s", path);
    crank_status status = add_method_keys(context, s, config);
    config = sorted(config);
    if (status == CRANK_OK)
        status = config ? json_write(context, path, config) : crank_fail(context, CRANK_FAILED, "out of memory: %s", path);
    json_decref(config);
    return status;
}

/* ---- crank.json ---- */

static json_t *option_value(const crank_option *option, const void *options)
{
    const void *field = (const char *)options + option->offset;
    switch (option->type) {
    case CRANK_OPTION_INT: return json_integer((json_int_t) * (const int64_t *)field);
    case CRANK_OPTION_FLOAT: return json_real(*(const double *)field);
    case CRANK_OPTION_BOOL: return json_boolean(*(const bool *)field);
    default: {
        const char *text = *(const char *const *)field;
        return text ? json_string(text) : json_null();
    }
    }
}

static crank_status write_own_config(crank_context *context, const saving *s, const char *base, const char *path)
{
    const crank_attachment *a = s->attachment;
    json_t                 *options = json_object();
    for (const crank_option *option = a->map->options; option && option->type != CRANK_OPTION_END; option++)
        json_object_set_new(options, option->name, option_value(option, a->options));
    json_t *config = json_pack("{s:i, s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "format", 1, "method", a->map->name, "version",
                               crank_version(), "options", options, "target_modules", targets(s), "rank_pattern",
                               ranks_of(a), "alpha_pattern", pattern(a->where.alpha_pattern), "modules_to_save",
                               modules(s), "base_model_name_or_path", s->base ? json_string(s->base) : json_null(), "base",
                               *base ? json_string(base) : json_null());
    crank_status status = config ? json_write(context, path, config) : crank_fail(context, CRANK_FAILED, "out of memory: %s", path);
    json_decref(config);
    return status;
}

/* ---- README.md ---- */

static crank_status write_card(crank_context *context, const saving *s, const char *path)
{
    const crank_attachment *a = s->attachment;
    text_buffer             text = { 0 };
    int64_t                 values = 0;
    int                     sites = 0;
    for (int i = 0; i < a->count; i++) sites += written(s, i);
    for (size_t i = 0; i < s->count; i++) values += crank_view_count(&s->views[i].view);
    json_t *base = json_string(s->base ? s->base : ""), *names = targets(s);
    char   *quoted = base ? json_dumps(base, JSON_ENCODE_ANY) : NULL;
    text_puts(&text, "---\n");
    if (s->base && quoted) text_printf(&text, "base_model: %s\n", quoted);
    text_printf(&text, "library_name: %s\ntags:\n- %s\n- crank\n---\n\n", s->peft ? "peft" : "crank", s->lora ? "lora" : a->map->name);
    text_printf(&text, "# %s adapter\n\n%s%s%s.\n\n", a->map->name, a->map->summary, a->map->paper ? ", " : "",
                a->map->paper ? a->map->paper : "");
    if (s->base) text_printf(&text, "- base model: %s\n", s->base);
    text_printf(&text, "- %d linear maps:", sites);
    for (size_t i = 0; i < json_array_size(names) && i < 24; i++)
        text_printf(&text, "%s `%s`", i ? "," : "", json_string_value(json_array_get(names, i)));
    text_printf(&text, "%s\n- %zu tensors, %lld values\n\nMade with crank %s.\n", json_array_size(names) > 24 ? ", ..." : "", s->count,
                (long long)values, crank_version());
    json_decref(base);
    json_decref(names);
    crank_free(quoted);
    char        *whole = text_take(context, &text, "a model card");
    crank_status status = whole ? file_write_text(context, path, whole) : CRANK_FAILED;
    crank_free(whole);
    return status;
}

/* ---- tensors ---- */

/* Host values of a parameter in its own type. */
static crank_status add_view(crank_context *context, saving *s, const adapter_tensor *tensor)
{
    const crank_view *view = &tensor->param->view;
    void             *host = crank_alloc(context, 1, crank_view_bytes(view), tensor->key);
    if (!host) return CRANK_FAILED;
    s->own[s->count] = host;
    crank_named_view *named = &s->views[s->count++];
    *named = (crank_named_view){ tensor->key, crank_view_make(host, view->dtype, view->rank, view->dims) };
    crank_status status = crank_param_read(context, tensor->param, host, view->dtype);
    if (status || !tensor->transposed || view->rank != 2) return status;
    void *turned = crank_alloc(context, 1, crank_view_bytes(view), tensor->key);
    if (!turned) return CRANK_FAILED;
    weights_transpose(turned, host, view->dims[1], view->dims[0], crank_dtype_bits(view->dtype) / 8);
    crank_free(host);
    s->own[s->count - 1] = turned;
    named->view = crank_view_make(turned, view->dtype, 2, (const int64_t[]){ view->dims[1], view->dims[0] });
    return CRANK_OK;
}

/* The pair of one site under PEFT's names; rank and alpha that differ from the first site's go into the patterns. */
static crank_status add_pair(crank_context *context, saving *s, int i)
{
    crank_site         *site = &s->attachment->sites[i];
    const crank_linear *linear = site->linear;
    int64_t             rank;
    double              scale;
    float              *factors[2];
    crank_status        status = s->attachment->map->as_lora(context, site, &rank, &scale, &factors[0], &factors[1]);
    if (status) return status;
    if (rank && s->edit && (status = s->edit(context, linear, s->user, &rank, &scale, &factors[0], &factors[1])) != CRANK_OK) {
        crank_free(factors[0]);
        crank_free(factors[1]);
        return status;
    }
    if (rank == 0) {
        s->gone[i] = true;
        crank_free(factors[0]);
        crank_free(factors[1]);
        return CRANK_OK;
    }
    double alpha = scale * (double)rank;
    if (!s->rank) {
        s->rank = rank;
        s->alpha = alpha;
    }
    if (rank != s->rank) json_object_set_new(s->ranks, linear->name, json_integer((json_int_t)rank));
    if (alpha != s->alpha) json_object_set_new(s->alphas, linear->name, number(alpha));
    bool table = linear->kind == CRANK_LINEAR_EMBEDDING;
    for (int k = 0; k < 2; k++) {
        const int64_t dims[2] = { k ? linear->out : rank, k ? rank : linear->in };
        char *name = crank_format(context, "base_model.model.%s.lora_%s%c%s", linear->name, table ? "embedding_" : "", "AB"[k],
                                  table ? "" : ".weight");
        s->own[s->count] = factors[k];
        s->names[s->count] = name;
        s->views[s->count++] = (crank_named_view){ name, crank_view_make(factors[k], CRANK_F32, 2, dims) };
        if (!name) status = CRANK_FAILED;
    }
    return status;
}

static crank_status collect(crank_context *context, saving *s)
{
    crank_status status = adapter_list(context, s->attachment, s->peft, true, &s->list);
    size_t       most = s->list.count + 2 * (size_t)s->attachment->count + 1;
    if (status) return status;
    s->views = crank_alloc(context, most, sizeof *s->views, "tensors of an adapter");
    s->own = crank_alloc(context, most, sizeof *s->own, "tensors of an adapter");
    s->names = crank_alloc(context, most, sizeof *s->names, "tensors of an adapter");
    s->gone = crank_alloc(context, (size_t)s->attachment->count + 1, sizeof *s->gone, "sites of an adapter");
    s->ranks = json_object();
    s->alphas = json_object();
    if (!s->gone || !s->views || !s->own || !s->names || !s->ranks || !s->alphas) return CRANK_FAILED;
    for (int i = 0; status == CRANK_OK && s->lora && i < s->attachment->count; i++) status = add_pair(context, s, i);
    if (status == CRANK_OK && s->lora && !s->rank)
        status = crank_fail(context, CRANK_USAGE, "the adapter has rank 0 on every linear: the model is the base model, and nothing can be written");
    for (size_t i = 0; status == CRANK_OK && i < s->list.count; i++)
        if (!s->lora || s->list.items[i].param->role != CRANK_ROLE_METHOD) status = add_view(context, s, &s->list.items[i]);
    return status;
}

static void saving_free(saving *s)
{
    for (size_t i = 0; i < s->count; i++) {
        crank_free(s->own[i]);
        crank_free(s->names[i]);
    }
    crank_free(s->own);
    crank_free(s->names);
    crank_free(s->views);
    crank_free(s->gone);
    json_decref(s->ranks);
    json_decref(s->alphas);
    adapter_list_free(&s->list);
}

/* ---- the folder ---- */

static crank_status write_in(crank_context *context, const saving *s, const char *folder)
{
    char         base[65] = "";
    const char  *metadata[6] = { "format", "pt" };
    size_t       pairs = 1;
    char        *config = file_join(context, folder, s->peft ? "adapter_config.json" : "crank.json");
    char        *tensors = file_join(context, folder, "adapter_model.safetensors"), *card = file_join(context, folder, "README.md");
    crank_status status = config && tensors && card ? CRANK_OK : CRANK_FAILED;
    /* Merged weights are no base that anybody else has. */
    if (status == CRANK_OK && !s->attachment->merged) status = adapter_base(context, s->attachment, base);
    if (*base) metadata[2] = "crank_base", metadata[3] = base, pairs = 2;
    if (s->model->config.labels > 0) metadata[2 * pairs] = "crank_pooling", metadata[2 * pairs + 1] = model_pooling_label(s->model), pairs++;
    if (status == CRANK_OK) status = crank_safetensors_write(context, tensors, s->views, s->count, metadata, pairs);
    if (status == CRANK_OK) status = s->peft ? write_peft_config(context, s, config) : write_own_config(context, s, base, config);
    if (status == CRANK_OK) status = write_card(context, s, card);
    crank_free(config);
    crank_free(tensors);
    crank_free(card);
    return status;
}

/* A folder that holds something else than an adapter is not replaced. */
static crank_status check_target(crank_context *context, const char *folder)
{
    static const char *const marks[] = { "adapter_config.json", "crank.json" };
    bool                     ours = !file_is_folder(folder);
    for (size_t i = 0; i < 2 && !ours; i++) {
        char *path = file_join(context, folder, marks[i]);
        ours = path && file_exists(path);
        crank_free(path);
    }
    if (ours || rmdir(folder) == 0) return CRANK_OK; /* an empty folder may go */
    return crank_fail(context, CRANK_USAGE, "%s: the folder exists and holds no adapter; choose another", folder);
}

static crank_status save(crank_context *context, saving *s, const char *folder)
{
    size_t length = strlen(folder);
    while (length > 1 && folder[length - 1] == '/') length--;
    if (s->model->options.dry) return crank_fail(context, CRANK_USAGE, "an adapter without values cannot be saved");
    char        *beside = crank_format(context, "%.*s.tmp.%ld", (int)length, folder, (long)getpid());
    crank_status status = beside ? check_target(context, folder) : CRANK_FAILED;
    if (status == CRANK_OK) status = collect(context, s);
    if (status == CRANK_OK) status = file_folder_remove(context, beside);
    if (status == CRANK_OK) status = file_make_folder(context, beside);
    if (status == CRANK_OK) status = write_in(context, s, beside);
    if (status == CRANK_OK) status = file_folder_replace(context, beside, folder);
    if (status && beside) {
        char *message = crank_strdup(context, crank_message(context));
        file_folder_remove(context, beside);
        if (message) crank_fail(context, status, "%s", message);
        crank_free(message);
    }
    crank_free(beside);
    saving_free(s);
    return status;
}

crank_status crank_adapter_save(crank_context *context, crank_model *model, crank_attachment *attachment, const char *folder,
                                const char *base)
{
    const crank_map *map = attachment->map;
    /* A method of PEFT's type without names of its own there leaves plain pairs. */
    bool   pairs = map->peft_type && !map->peft_name && map->as_lora;
    bool   holds = map->peft_type && (!map->peft_holds || map->peft_holds(&attachment->sites[0]));
    /* Only configs of the type LORA have patterns. */
    pairs = pairs && holds;
    if (holds && strcmp(map->peft_type, "LORA") != 0) holds = !attachment->where.rank_pattern && !attachment->where.alpha_pattern;
    saving s = { .model = model, .attachment = attachment, .base = base, .peft = holds, .lora = pairs };
    return save(context, &s, folder);
}

crank_status adapter_save_pairs(crank_context *context, crank_model *model, crank_attachment *attachment, const char *folder, const char *base,
                                adapter_edit *edit, void *user)
{
    if (!attachment->map->as_lora)
        return crank_fail(context, CRANK_USAGE, "the change that %s makes has no bounded rank: it cannot be written as LoRA",
                          attachment->map->name);
    saving s = { .model = model, .attachment = attachment, .base = base, .peft = true, .lora = true, .edit = edit, .user = user };
    return save(context, &s, folder);
}

crank_status crank_adapter_save_lora(crank_context *context, crank_model *model, crank_attachment *attachment, const char *folder,
                                     const char *base)
{
    return adapter_save_pairs(context, model, attachment, folder, base, NULL, NULL);
}

crank_status crank_adapter_save_own(crank_context *context, crank_model *model, crank_attachment *attachment, const char *folder,
                                    const char *base)
{
    saving s = { .model = model, .attachment = attachment, .base = base };
    return save(context, &s, folder);
}

crank_status crank_adapter_base(crank_context *context, const char *folder, char **base)
{
    static const char *const files[] = { "adapter_config.json", "crank.json" };
    *base = NULL;
    for (int i = 0; i < 2; i++) {
        char        *path = file_join(context, folder, files[i]);
        json_t      *config = path && file_exists(path) ? json_read(context, path) : NULL;
        crank_status status = !path || (file_exists(path) && !config) ? CRANK_FAILED : CRANK_OK;
        const char  *text = config ? json_get_string(context, config, "base_model_name_or_path", path, &status) : NULL;
        if (status == CRANK_OK && text && !(*base = crank_strdup(context, text))) status = CRANK_FAILED;
        bool found = config != NULL;
        json_decref(config);
        crank_free(path);
        if (status || found) return status ? crank_last_status(context) : CRANK_OK;
    }
    if (!file_is_folder(folder)) return crank_fail(context, CRANK_USAGE, "%s: is no folder: an adapter is one", folder);
    return crank_fail(context, CRANK_BAD_DATA, "%s: is no adapter folder: it has neither adapter_config.json nor crank.json", folder);
}
