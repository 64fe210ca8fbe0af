/* pair_peft.c - LoRA and DoRA in the terms of PEFT's adapter_config.json (peft_type LORA).
 *
 *   r, lora_alpha, lora_dropout, use_rslora, use_dora, lora_bias, bias, init_lora_weights   <->   options
 *
 * Initialisations that change the base weight (PiSSA, OLoRA, CorDA, LoRA-GA, LoftQ) are refused when a folder says that its
 * tensors belong to such a changed weight: PEFT itself needs the changed base then. */
#include <string.h>

#include "base/json.h"
#include "lowrank/pair.h"

const char *pair_peft_name(const crank_site *site, const char *name)
{
    static const char *const dense[][2] = {
        { "A", "lora_A.weight" }, { "B", "lora_B.weight" }, { "bias", "lora_B.bias" }, { "magnitude", "lora_magnitude_vector" }
    };
    static const char *const embedding[][2] = {
        { "A", "lora_embedding_A" }, { "B", "lora_embedding_B" }, { "magnitude", "lora_magnitude_vector" }
    };
    bool   table = site->linear->kind == CRANK_LINEAR_EMBEDDING;
    size_t count = table ? sizeof embedding / sizeof *embedding : sizeof dense / sizeof *dense;
    for (size_t i = 0; i < count; i++)
        if (strcmp((table ? embedding : dense)[i][0], name) == 0) return (table ? embedding : dense)[i][1];
    return NULL;
}

char *pair_peft_config(crank_context *context, const pair_options *options, bool dora)
{
    json_t *init = strcmp(options->init, "kaiming") == 0 ? json_true() : json_string(options->init);
    json_t *alpha = options->alpha == (double)(int64_t)options->alpha ? json_integer((json_int_t)options->alpha)
                                                                     : json_real(options->alpha);
    json_t *config = json_pack("{s:I, s:o, s:f, s:b, s:b, s:b, s:s, s:o}", "r", (json_int_t)options->rank, "lora_alpha", alpha,
                               "lora_dropout", options->dropout, "use_rslora", options->rslora, "use_dora", dora, "lora_bias",
                               options->lora_bias, "bias", options->bias, "init_lora_weights", init);
    char   *text = config ? json_dumps(config, JSON_COMPACT) : NULL;
    json_decref(config);
    if (!text) crank_fail(context, CRANK_FAILED, "out of memory: the config of an adapter");
    return text;
}

/* ---- reading ---- */

static crank_status set(crank_context *context, const crank_option *table, void *options, const char *key, const char *value)
{
    return crank_options_set(context, table, options, key, value, "adapter_config.json");
}

/* An option from a number, boolean or text of the config; absent or null leaves the default. */
static crank_status carry(crank_context *context, const json_t *config, const char *from, const crank_option *table,
                          void *options, const char *to)
{
    json_t *value = json_object_get(config, from);
    if (!value || json_is_null(value)) return CRANK_OK;
    if (json_is_string(value)) return set(context, table, options, to, json_string_value(value));
    if (!json_is_number(value) && !json_is_boolean(value))
        return crank_fail(context, CRANK_BAD_DATA, "adapter_config.json: `%s` must be a number, true, false or a text", from);
    char        *text = json_dumps(value, JSON_ENCODE_ANY | JSON_REAL_PRECISION(17));
    crank_status status = text ? set(context, table, options, to, text)
                               : crank_fail(context, CRANK_FAILED, "out of memory: adapter_config.json");
    crank_free(text);
    return status;
}

/* What would make the tensors mean something else than a plain pair on the model's own weights. */
static crank_status refuse_unknown(crank_context *context, const json_t *config)
{
    static const char *const unsupported[] = { "target_parameters", "layer_replication", "trainable_token_indices",
                                               "alora_invocation_tokens", "arrow_config", "kasa_config", "monteclora_config",
                                               "use_bdlora", "use_qalora", "velora_config" };
    for (size_t i = 0; i < sizeof unsupported / sizeof *unsupported; i++) {
        const json_t *value = json_object_get(config, unsupported[i]);
        bool          empty = !value || json_is_null(value) || json_is_false(value) || (json_is_array(value) && json_array_size(value) == 0) ||
                     (json_is_object(value) && json_object_size(value) == 0);
        if (!empty)
            return crank_fail(context, CRANK_BAD_DATA, "adapter_config.json: `%s` is set, and such adapters are not read",
                              unsupported[i]);
    }
    const char *init = json_string_value(json_object_get(config, "init_lora_weights"));
    static const char *const mutated[] = { "pissa", "olora", "corda", "loftq", "lora_ga" };
    for (size_t i = 0; init && i < sizeof mutated / sizeof *mutated; i++)
        if (strncmp(init, mutated[i], strlen(mutated[i])) == 0)
            return crank_fail(context, CRANK_BAD_DATA, "adapter_config.json: init_lora_weights is `%s`: the adapter belongs to a "
                                                       "changed base; save it with PEFT's path_initial_model_for_weight_conversion",
                              init);
    return CRANK_OK;
}

crank_status pair_peft_options(crank_context *context, const char *text, const crank_option *table, void *options)
{
    json_t *config = json_parse(context, text, strlen(text), "adapter_config.json");
    if (!config) return crank_last_status(context);
    static const char *const keys[][2] = { { "r", "rank" },          { "lora_alpha", "alpha" }, { "lora_dropout", "dropout" },
                                           { "use_rslora", "rslora" }, { "bias", "bias" } };
    crank_status status = refuse_unknown(context, config);
    if (status == CRANK_OK) status = set(context, table, options, "rank", "8"); /* PEFT's defaults */
    if (status == CRANK_OK) status = set(context, table, options, "alpha", "8");
    for (size_t i = 0; status == CRANK_OK && i < sizeof keys / sizeof *keys; i++)
        status = carry(context, config, keys[i][0], table, options, keys[i][1]);
    const char *init = json_string_value(json_object_get(config, "init_lora_weights"));
    if (status == CRANK_OK && init && (strcmp(init, "gaussian") == 0 || strcmp(init, "orthogonal") == 0))
        status = set(context, table, options, "init", init);
    for (const crank_option *option = table; status == CRANK_OK && option->type != CRANK_OPTION_END; option++)
        if (strcmp(option->name, "lora_bias") == 0) status = carry(context, config, "lora_bias", table, options, "lora_bias");
    json_decref(config);
    return status;
}
