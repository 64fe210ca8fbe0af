/* miss_peft.c - r, miss_dropout (bone: none), mini_r, init_weights (true, "mini", "bat", false) <-> options. */
#include "lowrank/miss_peft.h"

#include <stdio.h>
#include <string.h>

#include "base/json.h"

char *miss_peft_config(crank_context *context, int64_t rank, double dropout, const char *init, int64_t mini)
{
    json_t *config = json_pack("{s:I, s:f, s:I, s:s, s:o}", "r", (json_int_t)rank, "miss_dropout", dropout, "mini_r", (json_int_t)mini, "bias", "none",
                               "init_weights", init ? json_string(init) : json_true());
    char   *text = config ? json_dumps(config, JSON_COMPACT) : NULL;
    json_decref(config);
    if (!text) crank_fail(context, CRANK_FAILED, "out of memory: the config of an adapter");
    return text;
}

static crank_status set_int(crank_context *context, const crank_option *table, void *options, const char *key, int64_t value)
{
    char text[32];
    snprintf(text, sizeof text, "%lld", (long long)value);
    return crank_options_set(context, table, options, key, text, "adapter_config.json");
}

static bool has_option(const crank_option *table, const char *name)
{
    for (; table->type != CRANK_OPTION_END; table++)
        if (strcmp(table->name, name) == 0) return true;
    return false;
}

static crank_status read_keys(crank_context *context, const json_t *config, const crank_option *table, void *options)
{
    static const char where[] = "adapter_config.json";
    int64_t           rank, mini;
    double            dropout;
    crank_status      status = json_get_int(context, config, "r", 1, 65536, 64, &rank, where);
    if (status == CRANK_OK) status = json_get_int(context, config, "mini_r", 1, 1000000000, 1, &mini, where);
    if (status == CRANK_OK) status = json_get_number(context, config, "miss_dropout", 0, &dropout, where);
    if (status != CRANK_OK) return status;
    const char *bias = json_string_value(json_object_get(config, "bias")), *init = json_string_value(json_object_get(config, "init_weights"));
    if (bias && strcmp(bias, "none") != 0) return crank_fail(context, CRANK_BAD_DATA, "%s: `bias` is `%s`: trained biases are not read", where, bias);
    status = set_int(context, table, options, "rank", rank);
    if (status == CRANK_OK && init && strcmp(init, "mini") == 0 && has_option(table, "mini")) status = set_int(context, table, options, "mini", mini);
    if (status != CRANK_OK || dropout == 0) return status;
    if (!has_option(table, "dropout")) return CRANK_OK; /* Bat reads the weight itself: PEFT drops nothing there */
    char text[40];
    snprintf(text, sizeof text, "%.17g", dropout);
    return crank_options_set(context, table, options, "dropout", text, where);
}

crank_status miss_peft_options(crank_context *context, const char *text, const crank_option *table, void *options)
{
    json_t *config = json_parse(context, text, strlen(text), "adapter_config.json");
    if (!config) return crank_last_status(context);
    crank_status status = read_keys(context, config, table, options);
    json_decref(config);
    return status;
}
