/* tiny.h - a Llama of two layers (with a head of one output for objectives of sequences), its batches, and a trainer on it without recipe file: for tests of task/. */
#ifndef CRANK_TESTS_TASK_TINY_H
#define CRANK_TESTS_TASK_TINY_H

#include "task/trainer_graph.h"
#include "testing.h"
#include "test_device.h"

static const char tiny_config[] =
    "{\"architectures\":[\"LlamaForCausalLM\"],\"model_type\":\"llama\",\"vocab_size\":23,\"hidden_size\":8,\"num_hidden_layers\":2,"
    "\"num_attention_heads\":2,\"num_key_value_heads\":2,\"intermediate_size\":12,\"max_position_embeddings\":64,"
    "\"rms_norm_eps\":1e-5,\"initializer_range\":0.3,\"hidden_act\":\"silu\",\"tie_word_embeddings\":false}";

typedef struct tiny {
    crank_context *context;
    crank_device  *device;
    crank_model   *model;
    task_recipe    recipe;
    train_section  train;
    optim_section  optim;
    task_trainer  *trainer;
} tiny;

enum { TINY_TOKENS = 12, TINY_SEQUENCES = 4 };

typedef struct tiny_batch {
    data_batch batch;
    int32_t    ids[TINY_TOKENS], positions[TINY_TOKENS], targets[TINY_TOKENS], segments[TINY_SEQUENCES + 1];
    float      weights[TINY_TOKENS], values[TINY_SEQUENCES];
} tiny_batch;

/* Four sequences of three tokens with real-valued labels; `seed` chooses the tokens. */
static inline void tiny_fill(tiny_batch *b, int seed, bool language)
{
    for (int i = 0; i < TINY_TOKENS; i++) {
        b->ids[i] = (7 * i + 5 * seed + i * i) % 23;
        b->positions[i] = i % 3;
        b->targets[i] = i % 3 < 2 ? (7 * (i + 1) + 5 * seed + (i + 1) * (i + 1)) % 23 : -1;
        b->weights[i] = i % 3 < 2;
    }
    for (int i = 0; i <= TINY_SEQUENCES; i++) b->segments[i] = 3 * i;
    for (int i = 0; i < TINY_SEQUENCES; i++) b->values[i] = (float)((i * 3 + seed) % 4);
    b->batch = (data_batch){ .tokens = TINY_TOKENS, .sequences = TINY_SEQUENCES, .ids = b->ids, .positions = b->positions,
                             .targets = b->targets, .weights = b->weights, .segments = b->segments, .values = b->values,
                             .trained = language ? 8 : TINY_SEQUENCES };
}

/* The model with every weight trainable; the caller attaches methods and then calls tiny_start. */
static inline tiny *tiny_open(const char *optimizer, const char *objective, int64_t accumulate)
{
    tiny *t = calloc(1, sizeof *t);
    t->context = crank_context_new();
    t->device = test_device(t->context, NULL);
    if (!t->device) fail_msg("%s", crank_message(t->context));
    t->train = (train_section){ .accumulate = accumulate, .lr = 0.05, .schedule = "constant", .seed = 4 };
    t->recipe = (task_recipe){ .train = &t->train, .optim = &t->optim, .optimizer = crank_optimizer_find(optimizer),
                               .objective = crank_objective_find(objective) };
    if (!t->recipe.optimizer || !t->recipe.objective) fail_msg("no %s or %s", optimizer, objective);
    bool                sequences = t->recipe.objective->scores & CRANK_SCORES_OUTPUTS;
    crank_model_options options = { .compute = CRANK_F32, .weights = CRANK_F32, .labels = sequences, .seed = 1 };
    t->model = crank_model_new(t->context, t->device, tiny_config, &options);
    if (!t->model) fail_msg("%s", crank_message(t->context));
    const crank_option *optimizer_table = t->recipe.optimizer->options, *objective_table = t->recipe.objective->options;
    if (optimizer_table) t->recipe.optimizer_options = crank_options_new(t->context, optimizer_table, t->recipe.optimizer->options_size);
    if (objective_table) t->recipe.objective_options = crank_options_new(t->context, objective_table, t->recipe.objective->options_size);
    return t;
}

static inline void tiny_train_all(tiny *t)
{
    crank_params *params = crank_model_params(t->model);
    for (size_t i = 0; i < crank_params_count(params); i++) {
        crank_param *param = crank_params_at(params, i);
        if (param->role == CRANK_ROLE_WEIGHT && crank_dtype_is_float(param->view.dtype)) param->trainable = true;
    }
}

static inline void tiny_start(tiny *t)
{
    trainer_memory memory;
    t->trainer = trainer_new(t->context, t->model, &t->recipe, 100);
    if (!t->trainer) fail_msg("%s", crank_message(t->context));
    assert_ok(t->context, trainer_plan(t->context, t->trainer, TINY_TOKENS, TINY_SEQUENCES, false, 0, &memory));
}

/* One step over `count` micro-batches with tokens of their own. */
static inline trainer_result tiny_step(tiny *t, int64_t step, int count)
{
    static tiny_batch batches[4];
    const data_batch *window[4];
    trainer_result    result;
    for (int i = 0; i < count; i++) {
        tiny_fill(&batches[i], (int)step * 4 + i, t->recipe.objective->fields & CRANK_FIELD_TARGETS);
        window[i] = &batches[i].batch;
    }
    assert_ok(t->context, trainer_period(t->context, t->trainer, step));
    assert_ok(t->context, trainer_step(t->context, t->trainer, step, window, count, &result));
    return result;
}

static inline float *tiny_values(const tiny *t, const crank_param *param)
{
    float *values = calloc((size_t)crank_view_count(&param->view) + 1, sizeof *values);
    assert_ok(t->context, crank_param_read(t->context, param, values, CRANK_F32));
    return values;
}

static inline crank_param *tiny_param(const tiny *t, const char *name)
{
    crank_param *param = crank_params_find(crank_model_params(t->model), name);
    if (!param) fail_msg("no parameter named %s", name);
    return param;
}

/* Relative distance of a parameter in two worlds. */
static inline double tiny_distance(const tiny *a, const tiny *b, const char *name)
{
    float *x = tiny_values(a, tiny_param(a, name)), *y = tiny_values(b, tiny_param(b, name));
    double error = relative_error(x, y, (size_t)crank_view_count(&tiny_param(a, name)->view));
    free(x), free(y);
    return error;
}

static inline void tiny_close(tiny *t)
{
    trainer_free(t->trainer);
    crank_model_free(t->model);
    crank_options_free(t->recipe.optimizer_options);
    crank_options_free(t->recipe.objective_options);
    t->device->close(t->device);
    crank_context_free(t->context);
    free(t);
}
#endif
