/* Accounts: what is told for a model without memory is what a trainer takes, and follows the methods' formulas. */
#include "task/accounts.h"
#include "task/tiny.h"

static const struct {
    account     way;
    const char *key, *value; /* one option, as tiny's trainer takes it */
} ways[] = {
    { { "AdamW", NULL, NULL, "adamw", NULL }, NULL, NULL },       { { "GaLore", NULL, NULL, "galore", "rank=3" }, "rank", "3" },
    { { "Fira", NULL, NULL, "fira", "rank=3" }, "rank", "3" },    { { "FRUGAL", NULL, NULL, "frugal", "density=0.5" }, "density", "0.5" },
    { { "LISA", NULL, NULL, "lisa", "layers=1" }, "layers", "1" }, { { "BAdam", NULL, NULL, "badam", "interval=3" }, "interval", "3" },
};

static void accounts_are_those_of_a_trainer(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        tiny         *t = tiny_open(ways[i].way.optimizer, "cross_entropy", 2);
        account_bytes told;
        int64_t       taken = 0, buffers = 0, weights = 0;
        const crank_params *params = crank_model_params(t->model);
        if (ways[i].key) assert_ok(t->context, crank_options_set(t->context, t->recipe.optimizer->options, t->recipe.optimizer_options, ways[i].key, ways[i].value, "test"));
        tiny_train_all(t), tiny_start(t);
        for (size_t k = 0; k < crank_params_count(params); k++) {
            const crank_param *param = crank_params_at(params, k);
            int64_t            bytes = (int64_t)crank_view_bytes(&param->view);
            bool               buffer = strlen(param->name) > 9 && !strcmp(param->name + strlen(param->name) - 9, ".gradient");
            bool               table = param->role == CRANK_ROLE_CACHE && !buffer && strncmp(param->name, "optim.", 6) != 0 && !strstr(param->name, ".clock") && !strstr(param->name, ".energy");
            if (table) continue; /* of the model: rotations */
            *(param->role == CRANK_ROLE_WEIGHT ? &weights : buffer ? &buffers : &taken) += bytes;
        }
        assert_ok(t->context, accounts_measure(t->context, t->device, tiny_config, CRANK_F32, &ways[i].way, &told));
        assert_int_equal(told.weights, weights);
        assert_int_equal(told.gradients, buffers); /* of a window of two micro-batches */
        if (told.state != taken) fail_msg("%s: %lld bytes of state told, %lld taken", ways[i].way.name, (long long)told.state, (long long)taken);
        tiny_close(t);
    }
}

/* The 60M LLaMA at rank 128: 58,073,600 parameters, seven matrices in each of eight layers. */
static void the_60m_model_follows_the_formulas(void **state)
{
    (void)state;
    crank_context *context = crank_context_new();
    crank_device  *device = crank_device_cpu(context, NULL);
    int64_t        rank, d = 512, f = 1376, L = 8, all = 58073600, r = 128;
    char          *config = accounts_config(context, "60m", &rank);
    account_bytes  b;
    account        adamw = { "AdamW", NULL, NULL, "adamw", NULL }, galore = { "GaLore", NULL, NULL, "galore", "rank=128" };
    assert_non_null(config);
    assert_int_equal(rank, 128);
    assert_ok(context, accounts_measure(context, device, config, CRANK_BF16, &adamw, &b));
    assert_int_equal(b.weights, 2 * all);
    assert_int_equal(b.state, 8 * all);
    assert_int_equal(b.gradients, 4 * all);
    assert_int_equal(b.largest, 4 * 32000 * d);
    assert_ok(context, accounts_measure(context, device, config, CRANK_BF16, &galore, &b));
    int64_t in_layers = L * (4 * d * d + 3 * d * f), small = L * (4 * (r * d) + 3 * (r * f)); /* gradients r x longer side */
    int64_t bases = L * (7 * d * r), deltas = r * d + 2 * r * f;                                /* one delta a shape: [512,128], [1376,128], [128,1376] */
    assert_int_equal(b.gradients, 4 * (all - in_layers + small));
    assert_int_equal(b.state, 8 * (all - in_layers) + 8 * small + 2 * bases + 4 * deltas + 4 * 7 * L); /* the last: what each basis holds, for the log */
    assert_null(accounts_config(context, "61m", &rank));
    crank_free(config);
    device->close(device);
    crank_context_free(context);
}

/* Weights and state of the GaLore paper's table 2 (GiB, all in 16 bits): the paper's estimates within a tenth. */
static void weights_and_state_are_those_of_the_papers_table(void **state)
{
    (void)state;
    static const struct {
        const char *size;
        double      full, galore;
    } paper[] = { { "60m", 0.36, 0.24 }, { "130m", 0.76, 0.52 }, { "350m", 2.06, 1.22 }, { "1b", 7.80, 4.38 } };
    crank_context *context = crank_context_new();
    crank_device  *device = crank_device_cpu(context, NULL);
    for (size_t i = 0; i < sizeof paper / sizeof *paper; i++)
        for (int k = 0; k < 2; k++) {
            int64_t       rank;
            char         *config = accounts_config(context, paper[i].size, &rank), options[32];
            account_bytes b;
            snprintf(options, sizeof options, "rank=%d", (int)rank);
            account way = { "way", NULL, NULL, k ? "galore" : "adamw", k ? options : NULL };
            assert_ok(context, accounts_measure(context, device, config, CRANK_F32, &way, &b));
            double ours = (double)(b.weights + b.state) / 2 / 1073741824, theirs = k ? paper[i].galore : paper[i].full;
            if (fabs(ours / theirs - 1) > 0.12) fail_msg("%s, %s: %.3f GiB, and the paper has %.2f", paper[i].size, way.optimizer, ours, theirs);
            crank_free(config);
        }
    device->close(device);
    crank_context_free(context);
}

/* The paper's headline: 7 billion parameters, 8-bit GaLore with updates inside the backward pass, 256 tokens: 22.0 GB there. */
static void eight_bit_galore_trains_7b_in_22_gb(void **state)
{
    (void)state;
    crank_context *context = crank_context_new();
    crank_device  *device = crank_device_cpu(context, NULL);
    int64_t        rank;
    char          *config = accounts_config(context, "7b", &rank);
    account        way = { "GaLore, 8 bits", NULL, NULL, "galore", "rank=1024 inner=adamw8bit" };
    account_plan   plan;
    account_bytes  b;
    assert_ok(context, accounts_plan(context, device, config, CRANK_BF16, &way, &(account_step){ 256, 1, true }, &plan));
    if (plan.peak > 22000000000) fail_msg("%.2f GB are planned", (double)plan.peak / 1e9);
    assert_int_equal(plan.parameters, 6738415616);
    assert_ok(context, accounts_measure(context, device, config, CRANK_BF16, &way, &b)); /* the paper's table 3: 18 G of weights and state */
    assert_true(fabs((double)(b.weights + b.state) / 1073741824 / 18 - 1) < 0.02);
    crank_free(config);
    device->close(device);
    crank_context_free(context);
}

static void the_largest_shape_fits_and_the_next_does_not(void **state)
{
    (void)state;
    crank_context     *context = crank_context_new();
    crank_device      *device = crank_device_cpu(context, NULL);
    account            way = { "AdamW, 8 bits", NULL, NULL, "adamw8bit", NULL };
    const account_step step = { 64, 2, true };
    account_plan       plan, next;
    int64_t            k, limit = 500000000;
    assert_ok(context, accounts_largest(context, device, CRANK_BF16, &way, &step, limit, &k, &plan));
    assert_true(k > 1 && plan.peak <= limit);
    char *config = accounts_llama(context, k + 1);
    assert_ok(context, accounts_plan(context, device, config, CRANK_BF16, &way, &step, &next));
    assert_true(next.peak > limit);
    assert_int_equal(accounts_largest(context, device, CRANK_BF16, &way, &step, 1000, &k, &plan), CRANK_USAGE);
    crank_free(config);
    config = accounts_llama(context, 32);
    assert_non_null(strstr(config, "\"hidden_size\":4096"));
    assert_non_null(strstr(config, "\"intermediate_size\":11008"));
    crank_free(config);
    device->close(device);
    crank_context_free(context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(accounts_are_those_of_a_trainer),
        cmocka_unit_test(the_60m_model_follows_the_formulas),
        cmocka_unit_test(weights_and_state_are_those_of_the_papers_table),
        cmocka_unit_test(eight_bit_galore_trains_7b_in_22_gb),
        cmocka_unit_test(the_largest_shape_fits_and_the_next_does_not),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
