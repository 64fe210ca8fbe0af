/* file.c - a ranker's file: safetensors of weights and scales, with the options in the metadata.
 *
 *     metadata   "crank.ranker": json of the options (rank_option_table) and "columns", "logged"
 *     tensors    the parameters by name, "features.low", "features.shift", "features.scale" [columns] */
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "base/number.h"
#include "rank/net.h"

static json_t *options_json(const rank_net *net)
{
    json_t *root = json_pack("{s:I, s:b}", "columns", (json_int_t)net->scaler.columns, "logged", net->scaler.logged);
    for (const crank_option *o = rank_option_table; root && o->name; o++) {
        const char *field = (const char *)net->options + o->offset;
        if (o->type == CRANK_OPTION_INT) json_object_set_new(root, o->name, json_integer((json_int_t) * (const int64_t *)(const void *)field));
        else if (o->type == CRANK_OPTION_FLOAT) json_object_set_new(root, o->name, json_real(*(const double *)(const void *)field));
        else json_object_set_new(root, o->name, json_string(*(const char *const *)(const void *)field));
    }
    return root;
}

crank_status rank_net_save(crank_context *context, const rank_net *net, const char *path)
{
    size_t            count = 0, params = crank_params_count(net->params);
    crank_named_view *views = crank_alloc(context, params + 3, sizeof *views, "tensors");
    json_t           *root = options_json(net);
    char             *text = root ? json_text(context, root, 0) : NULL;
    json_decref(root);
    for (size_t i = 0; views && i < params; i++) {
        const crank_param *param = crank_params_at(net->params, i);
        if (param->role == CRANK_ROLE_WEIGHT || strstr(param->name, ".running_")) views[count++] = (crank_named_view){param->name, param->view};
    }
    static const char *const names[] = {"features.low", "features.shift", "features.scale"};
    for (int i = 0; views && i < 3; i++) views[count++] = (crank_named_view){names[i], crank_view_make(net->scaler.low + i * net->scaler.columns, CRANK_F32, 1, &net->scaler.columns)};
    const char  *metadata[] = {"crank.ranker", text};
    crank_status status = views && text ? crank_safetensors_write(context, path, views, count, metadata, 1) : CRANK_FAILED;
    crank_free(text);
    crank_free(views);
    return status;
}

bool rank_net_is(const char *path)
{
    unsigned char head[9] = {0};
    FILE         *file = fopen(path, "rb");
    size_t        n = file ? fread(head, 1, sizeof head, file) : 0;
    if (file) fclose(file);
    return n == sizeof head && !head[7] && head[8] == '{';
}

static crank_status read_options(crank_context *context, const char *path, const json_t *root, rank_options *options)
{
    char         number[NUMBER_SIZE];
    crank_status status = CRANK_OK;
    for (const crank_option *o = rank_option_table; status == CRANK_OK && o->name; o++) {
        const json_t *value = json_object_get(root, o->name);
        const char   *text = json_string_value(value);
        if (!value) continue;
        if (!text) {
            if (!json_is_number(value)) return crank_fail(context, CRANK_BAD_DATA, "%s: `%s` is neither text nor number", path, o->name);
            number_print(json_number_value(value), number);
            text = number;
        }
        status = crank_options_set(context, rank_option_table, options, o->name, text, path);
    }
    return status == CRANK_OK ? status : crank_fail(context, CRANK_BAD_DATA, "%s is no ranker that this program can read: %s", path, crank_message(context));
}

static crank_status read_tensor(crank_context *context, const crank_safetensors *file, const char *path, const char *name, const crank_view *wanted, crank_view *view)
{
    if (!crank_safetensors_find(file, name, view)) return crank_fail(context, CRANK_BAD_DATA, "%s: tensor %s is missing", path, name);
    bool same = view->dtype == CRANK_F32 && view->rank == wanted->rank;
    for (int d = 0; same && d < view->rank; d++) same = view->dims[d] == wanted->dims[d];
    return same ? CRANK_OK : crank_fail(context, CRANK_BAD_DATA, "%s: tensor %s has not the type and shape that the ranker's options give it", path, name);
}

static crank_status read_weights(crank_context *context, const crank_safetensors *file, const char *path, rank_net *net)
{
    crank_status status = CRANK_OK;
    crank_view   view;
    for (size_t i = 0; status == CRANK_OK && i < crank_params_count(net->params); i++) {
        crank_param *param = crank_params_at(net->params, i);
        status = read_tensor(context, file, path, param->name, &param->view, &view);
        if (status == CRANK_OK) status = crank_param_write(context, param, view.data, CRANK_F32);
    }
    return status;
}

static crank_status read_scaler(crank_context *context, const crank_safetensors *file, const char *path, const json_t *root, rank_scaler *scaler)
{
    static const char *const names[] = {"features.low", "features.shift", "features.scale"};
    int64_t                  columns = 0;
    crank_status             status = json_need_int(context, root, "columns", 1, 100000000, &columns, path);
    if (status != CRANK_OK) return status;
    crank_view wanted = crank_view_make(NULL, CRANK_F32, 1, &columns), views[3];
    for (int i = 0; status == CRANK_OK && i < 3; i++) status = read_tensor(context, file, path, names[i], &wanted, views + i);
    if (status != CRANK_OK) return status;
    *scaler = (rank_scaler){.columns = columns, .logged = json_is_true(json_object_get(root, "logged"))};
    scaler->low = crank_alloc(context, (size_t)columns * 3, sizeof(float), "scales of columns");
    if (!scaler->low) return CRANK_FAILED;
    scaler->shift = scaler->low + columns;
    scaler->scale = scaler->shift + columns;
    for (int i = 0; i < 3; i++) memcpy(scaler->low + i * columns, views[i].data, (size_t)columns * sizeof(float));
    return CRANK_OK;
}

rank_net *rank_net_load(crank_context *context, const char *path)
{
    crank_safetensors *file = crank_safetensors_open(context, path);
    if (!file) return NULL;
    const char   *text = crank_safetensors_metadata(file, "crank.ranker");
    rank_options *options = crank_options_new(context, rank_option_table, sizeof *options);
    rank_scaler   scaler = {0};
    rank_net     *net = NULL;
    json_t       *root = text && options ? json_parse(context, text, strlen(text), path) : NULL;
    crank_status  status = root ? read_options(context, path, root, options)
                           : text ? crank_last_status(context) : crank_fail(context, CRANK_BAD_DATA, "%s is no ranker: it lacks the metadata crank.ranker", path);
    if (status == CRANK_OK) status = read_scaler(context, file, path, root, &scaler);
    if (status == CRANK_OK) net = rank_net_new(context, options, &scaler);
    if (net && read_weights(context, file, path, net) != CRANK_OK) {
        rank_net_free(net);
        net = NULL;
    }
    json_decref(root);
    rank_scaler_free(&scaler);
    crank_options_free(options);
    crank_safetensors_close(file);
    return net;
}
