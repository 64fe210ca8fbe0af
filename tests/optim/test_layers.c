/* LISA, BAdam and OwLore: who is awake, what sleeps, where state lives, and outlier scores. */
#include "optim/layers.h"
#include "optim/outlier.h"
#include "task/accounts.h"
#include "task/tiny.h"

static void option(tiny *t, const char *key, const char *value)
{
    assert_ok(t->context, crank_options_set(t->context, t->recipe.optimizer->options, t->recipe.optimizer_options, key, value, "test"));
}

/* "key=value key=value" */
static tiny *open_with(const char *method, const char *settings, double decay)
{
    char  text[256], *rest = text, *item;
    tiny *t = tiny_open(method, "cross_entropy", 1);
    snprintf(text, sizeof text, "%s", settings);
    while ((item = strtok_r(rest, " ", &rest))) {
        char *mark = strchr(item, '=');
        *mark = 0;
        option(t, item, mark + 1);
    }
    t->optim.decay = decay;
    tiny_train_all(t), tiny_start(t);
    return t;
}

static void assert_same_weights(const tiny *a, const tiny *b)
{
    const crank_params *params = crank_model_params(a->model);
    for (size_t i = 0; i < crank_params_count(params); i++) {
        const crank_param *param = crank_params_at(params, i);
        if (param->role != CRANK_ROLE_WEIGHT) continue;
        float *x = tiny_values(a, param), *y = tiny_values(b, tiny_param(b, param->name));
        if (memcmp(x, y, (size_t)crank_view_count(&param->view) * sizeof *x) != 0) fail_msg("%s differs", param->name);
        free(x), free(y);
    }
}

static void all_layers_awake_are_the_inner_optimiser(void **state)
{
    (void)state;
    static const char *const pairs[][4] = {
        { "lisa", "layers=2 interval=2", "adamw", "" },
        { "lisa", "layers=9 interval=2 state=keep inner=lion", "lion", "" },
        { "owlore", "layers=2 interval=3 sampling=uniform rank=3 gap=2 scale=0.25", "galore", "rank=3 gap=2 scale=0.25" },
    };
    for (int k = 0; k < 3; k++) {
        tiny *a = open_with(pairs[k][0], pairs[k][1], 0.1), *b = open_with(pairs[k][2], pairs[k][3], 0.1);
        for (int step = 1; step <= 5; step++) tiny_step(a, step, 1), tiny_step(b, step, 1);
        assert_same_weights(a, b);
        tiny_close(a), tiny_close(b);
    }
}

/* Bits of the layers that moved (bit 2: what stands outside); nothing of the others may change. */
static unsigned step_and_see(tiny *t, int step)
{
    enum { MOST = 64 };
    float   *before[MOST];
    unsigned moved = 0, stayed = 0;
    int      n = t->trainer->unit_count;
    for (int i = 0; i < n; i++) before[i] = tiny_values(t, t->trainer->units[i].param);
    tiny_step(t, step, 1);
    for (int i = 0; i < n; i++) {
        const crank_unit *unit = &t->trainer->units[i];
        float            *after = tiny_values(t, unit->param);
        unsigned          bit = unit->block < 0 ? 4 : 1u << unit->block;
        if (memcmp(before[i], after, (size_t)crank_view_count(&unit->param->view) * sizeof *after) != 0)
            moved |= bit;
        else
            stayed |= bit;
        free(after), free(before[i]);
    }
    assert_int_equal(moved & stayed, 0);
    return moved;
}

static void sleeping_layers_keep_every_bit_for_a_period(void **state)
{
    (void)state;
    static const char *const keeps[] = { "layers=1 interval=3", "layers=1 interval=3 state=keep", "layers=1 interval=3 embeddings=false" };
    for (int k = 0; k < 3; k++) {
        tiny    *t = open_with("lisa", keeps[k], 0.1);
        unsigned seen = 0, moved = 0;
        for (int step = 1; step <= 24; step++) {
            unsigned now = step_and_see(t, step);
            assert_int_equal(now & 4, k == 2 ? 0 : 4);
            assert_true((now & 3) == 1 || (now & 3) == 2); /* one of two layers */
            if ((step - 1) % 3) assert_int_equal(now, moved);
            moved = now, seen |= now;
        }
        assert_int_equal(seen & 3, 3);
        tiny_close(t);
    }
}

static void no_layer_awake_trains_what_stands_outside(void **state)
{
    (void)state;
    tiny *t = open_with("lisa", "layers=0", 0);
    for (int step = 1; step <= 3; step++) assert_int_equal(step_and_see(t, step), 4);
    tiny_close(t);
}

static void blocks_take_turns(void **state)
{
    (void)state;
    static const char *const orders[] = { "ascending", "descending", "shuffle" };
    for (int k = 0; k < 3; k++) {
        char settings[64];
        snprintf(settings, sizeof settings, "interval=2 sampling=%s", orders[k]);
        tiny *t = open_with("badam", settings, 0.1);
        for (int round = 0; round < 3; round++) {
            unsigned first = step_and_see(t, 4 * round + 1), again = step_and_see(t, 4 * round + 2), second = step_and_see(t, 4 * round + 3);
            step_and_see(t, 4 * round + 4);
            assert_int_equal(first, again);
            assert_int_equal(first | second, 3);
            if (k < 2) assert_int_equal(first, k ? 2 : 1);
        }
        tiny_close(t);
    }
}

static int64_t elements(const tiny *t, crank_role role, int block)
{
    int64_t sum = 0;
    if (role == CRANK_ROLE_STATE) {
        const crank_params *params = crank_model_params(t->model);
        for (size_t i = 0; i < crank_params_count(params); i++)
            if (crank_params_at(params, i)->role == role) sum += crank_view_count(&crank_params_at(params, i)->view);
        return sum;
    }
    for (int i = 0; i < t->trainer->unit_count; i++)
        if (t->trainer->units[i].block == block) sum += crank_view_count(&t->trainer->units[i].param->view);
    return sum;
}

static void state_is_that_of_the_awake_layers(void **state)
{
    (void)state;
    tiny   *drop = open_with("lisa", "layers=1", 0), *keep = open_with("lisa", "layers=1 state=keep", 0), *badam = open_with("badam", "", 0);
    int64_t layer = elements(drop, CRANK_ROLE_WEIGHT, 0), outside = elements(drop, CRANK_ROLE_WEIGHT, -1);
    assert_int_equal(elements(drop, CRANK_ROLE_STATE, 0), 2 * (layer + outside));
    assert_int_equal(elements(keep, CRANK_ROLE_STATE, 0), 2 * (2 * layer + outside));
    assert_int_equal(elements(badam, CRANK_ROLE_STATE, 0), 2 * layer);
    tiny_close(drop), tiny_close(keep), tiny_close(badam);
}

/* Adam's first step moves every element by the rate: a layer that wakes under `drop` starts anew, under `keep` it goes on. */
static void a_waking_layer_starts_anew_where_state_is_dropped(void **state)
{
    (void)state;
    static const char q[] = "model.layers.0.self_attn.q_proj.weight";
    for (int keep = 0; keep < 2; keep++) {
        tiny *t = open_with("badam", "interval=2 sampling=ascending", 0); /* layer 0 in steps 1, 2, 5, 6 */
        if (keep) tiny_close(t), t = open_with("lisa", "layers=1 interval=2 state=keep", 0);
        int wakes = 0, was_awake = 0;
        for (int step = 1; step <= 16; step++) {
            float *before = tiny_values(t, tiny_param(t, q));
            int    awake = step_and_see(t, step) & 1, signs = 1;
            float *after = tiny_values(t, tiny_param(t, q));
            for (int i = 0; i < 64; i++) signs &= fabs(fabs(after[i] - before[i]) - 0.05) < 1e-3;
            if (awake && !was_awake) {
                assert_int_equal(signs, !keep || !wakes);
                wakes++;
            }
            was_awake = awake;
            free(before), free(after);
        }
        assert_true(wakes > 1);
        tiny_close(t);
    }
}

static size_t state_bytes(const tiny *t, bool parked)
{
    const crank_params *params = crank_model_params(t->model);
    size_t              bytes = 0;
    for (size_t i = 0; i < crank_params_count(params); i++) {
        const crank_param *param = crank_params_at(params, i);
        if (param->role == CRANK_ROLE_STATE && param->parked == parked) bytes += crank_view_bytes(&param->view);
    }
    return bytes;
}

/* `offload` is `keep` bit by bit in the memory of `drop`: what is asleep takes none of the device's. */
static void state_that_is_put_away_comes_back_as_it_was(void **state)
{
    (void)state;
    static const char *const settings[][2] = { { "lisa", "layers=1 interval=2" }, { "lisa", "layers=1 interval=1 inner=adamw8bit" },
                                               { "owlore", "layers=1 interval=2 sampling=decrease rank=3 gap=3" }, { "owlore", "layers=2 interval=1 sampling=uniform rank=3 gap=2 on_wake=refresh" } };
    for (size_t k = 0; k < sizeof settings / sizeof *settings; k++) {
        char text[2][128];
        snprintf(text[0], sizeof text[0], "%s state=keep", settings[k][1]), snprintf(text[1], sizeof text[1], "%s state=offload", settings[k][1]);
        tiny *kept = open_with(settings[k][0], text[0], 0.1), *away = open_with(settings[k][0], text[1], 0.1);
        for (int step = 1; step <= 13; step++) tiny_step(kept, step, 1), tiny_step(away, step, 1);
        assert_same_weights(kept, away);
        snprintf(text[0], sizeof text[0], "%s state=drop", settings[k][1]);
        tiny *drop = open_with(settings[k][0], text[0], 0);
        assert_int_equal(state_bytes(away, false), state_bytes(drop, false));
        assert_true(state_bytes(away, true) > 0);
        assert_int_equal(state_bytes(kept, true), 0);
        tiny_close(kept), tiny_close(away), tiny_close(drop);
    }
}

/* The plan counts the slots and what always trains; what sleeps is told beside it, and only awake layers have gradients. */
static void the_plan_counts_awake_layers(void **state)
{
    (void)state;
    crank_context     *context = crank_context_new();
    crank_device      *device = crank_device_cpu(context, NULL);
    int64_t            rank;
    char              *config = accounts_config(context, "60m", &rank);
    account_bytes      adamw, lisa, owlore, galore;
    account            ways[] = { { "AdamW", NULL, NULL, "adamw", NULL }, { "LISA", NULL, NULL, "lisa", "layers=2 state=offload" }, { "OwLore", NULL, NULL, "owlore", "layers=2 sampling=uniform rank=128" },
                                  { "GaLore", NULL, NULL, "galore", "rank=128" } };
    account_bytes     *out[] = { &adamw, &lisa, &owlore, &galore };
    for (int i = 0; i < 4; i++) assert_ok(context, accounts_measure(context, device, config, CRANK_F32, &ways[i], out[i]));
    int64_t layer = 4 * 512 * 512 + 3 * 512 * 1376 + 2 * 512, outside = 2 * 32000 * 512 + 512;
    assert_int_equal(lisa.state, 8 * (outside + 2 * layer) + 2 * 3 * 4); /* the last: a clock for each slot */
    assert_int_equal(lisa.gradients, 4 * (outside + 2 * layer));
    assert_int_equal(adamw.state, 8 * (outside + 8 * layer));
    int64_t projected = galore.state - 8 * outside, deltas = 4 * (128 * 512 + 2 * 128 * 1376);
    assert_true(owlore.state <= 8 * outside + (projected - deltas) / 4 + deltas + 2 * 3 * 4);
    crank_free(config);
    device->close(device);
    crank_context_free(context);
}

static void draws_follow_their_weights(void **state)
{
    (void)state;
    enum { LAYERS = 8, DRAWS = 8000 };
    static const char *const kinds[] = { "uniform", "decrease", "increase" };
    crank_context           *context = crank_context_new();
    for (int k = 0; k < 3; k++) {
        layers_options options = { .layers = 3, .sampling = kinds[k] };
        crank_status   status;
        double        *weights = layers_weights(context, &options, "lisa", LAYERS, &status), sum = 0, chi = 0;
        int            first[LAYERS] = { 0 }, awake[LAYERS];
        assert_non_null(weights);
        for (int l = 0; l < LAYERS; l++) sum += weights[l];
        for (int d = 0; d < DRAWS; d++) {
            assert_int_equal(layers_awake(&options, weights, LAYERS, 7, d, awake), 3);
            assert_true(awake[0] != awake[1] && awake[0] != awake[2] && awake[1] != awake[2]);
            first[awake[0]]++;
        }
        for (int l = 0; l < LAYERS; l++) {
            double expected = DRAWS * weights[l] / sum;
            chi += (first[l] - expected) * (first[l] - expected) / expected;
        }
        assert_true(chi < 24.3); /* 7 degrees of freedom, p = 0.001 */
        crank_free(weights);
    }
    crank_context_free(context);
}

static void scores_are_read_checked_and_have_a_fallback(void **state)
{
    (void)state;
    static const struct {
        const char  *text;
        crank_status status;
        double       second;
    } files[] = { { "# scores\n0.5\n\n0.25 # last\n", CRANK_OK, 0.25 }, { "1\n", CRANK_BAD_DATA, 0 }, { "1\n2\n3\n", CRANK_BAD_DATA, 0 },
                  { "1\n-2\n", CRANK_BAD_DATA, 0 }, { "1\nx\n", CRANK_BAD_DATA, 0 }, { "1\nnan\n", CRANK_BAD_DATA, 0 }, { "0\n0\n", CRANK_OK, 1 } };
    crank_context *context = crank_context_new();
    char           path[256];
    snprintf(path, sizeof path, "%s/layer-scores-%d.txt", CRANK_BINARY_DIR, (int)getpid());
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        FILE          *file = fopen(path, "w");
        layers_options options = { .layers = 1, .sampling = "scores", .scores = path };
        crank_status   status;
        fputs(files[i].text, file), fclose(file);
        double *weights = layers_weights(context, &options, "owlore", 2, &status);
        assert_int_equal(status, files[i].status);
        if (weights) assert_true(weights[1] == files[i].second);
        crank_free(weights);
    }
    unlink(path);
    layers_options none = { .layers = 1, .sampling = "scores" };
    crank_status   status;
    assert_null(layers_weights(context, &none, "owlore", 2, &status));
    assert_int_equal(status, CRANK_USAGE);
    crank_context_free(context);
}

static void outliers_are_counted_as_defined(void **state)
{
    (void)state;
    /* A = |W| sqrt(a): 1 2 2, 0 4 9 -> mean 3; above 1 * 3: 4, 9 */
    float          W[] = { 1, -1, 2, 0, 2, -9 }, scaled[6];
    double         a[] = { 1, 4, 1 }, wide[3], share, again;
    crank_context *context = crank_context_new();
    outlier_matrix matrix = { W, a, 2, 3 };
    assert_ok(context, outlier_share(context, &matrix, 1, 1, &share));
    assert_true(share == 2.0 / 6);
    for (int i = 0; i < 6; i++) scaled[i] = 8 * W[i];
    for (int j = 0; j < 3; j++) wide[j] = 16 * a[j];
    outlier_matrix large[] = { { scaled, wide, 2, 3 }, { scaled, wide, 2, 3 } };
    assert_ok(context, outlier_share(context, large, 2, 1, &again));
    assert_true(again == share);
    assert_ok(context, outlier_share(context, &matrix, 1, 0, &share));
    assert_true(share == 5.0 / 6); /* all that is not 0 */
    assert_ok(context, outlier_share(context, &matrix, 1, 1e9, &share));
    assert_true(share == 0);
    double squares[3] = { 1, 0, 0 };
    outlier_observe((const float[]){ 1, 2, 3, -1, 0, 2 }, 2, 3, squares);
    assert_true(squares[0] == 3 && squares[1] == 4 && squares[2] == 13);
    crank_context_free(context);
}

/* 1 % of the entries of one layer are multiplied by 20: it has the largest share, and is drawn first as often as p says. */
static void a_layer_with_planted_outliers_is_drawn_by_its_share(void **state)
{
    (void)state;
    enum { LAYERS = 4, ROWS = 64, COLS = 64, DRAWS = 4000 };
    static float   W[LAYERS][ROWS * COLS];
    double         a[COLS], D[LAYERS], sum = 0;
    int            first = 0, awake[LAYERS];
    crank_context *context = crank_context_new();
    for (int j = 0; j < COLS; j++) a[j] = 1;
    for (int l = 0; l < LAYERS; l++) {
        crank_fill_normal(crank_stream_make(9, CRANK_RANDOM_TEST, (uint32_t)l), 0, 0, 1, W[l], ROWS * COLS);
        for (int i = 0; l == 2 && i < ROWS * COLS; i += 100) W[l][i] *= 20;
        outlier_matrix matrix = { W[l], a, ROWS, COLS };
        assert_ok(context, outlier_share(context, &matrix, 1, 4, &D[l]));
        sum += D[l];
    }
    for (int l = 0; l < LAYERS; l++) assert_true(l == 2 || D[l] < D[2]);
    layers_options options = { .layers = 1 };
    for (int d = 0; d < DRAWS; d++) {
        layers_awake(&options, D, LAYERS, 11, d, awake);
        first += awake[0] == 2;
    }
    double p = D[2] / sum;
    assert_true(fabs(first - DRAWS * p) < 3 * sqrt(DRAWS * p * (1 - p)) + 1);
    crank_context_free(context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_layers_awake_are_the_inner_optimiser),
        cmocka_unit_test(sleeping_layers_keep_every_bit_for_a_period),
        cmocka_unit_test(no_layer_awake_trains_what_stands_outside),
        cmocka_unit_test(blocks_take_turns),
        cmocka_unit_test(state_is_that_of_the_awake_layers),
        cmocka_unit_test(a_waking_layer_starts_anew_where_state_is_dropped),
        cmocka_unit_test(state_that_is_put_away_comes_back_as_it_was),
        cmocka_unit_test(the_plan_counts_awake_layers),
        cmocka_unit_test(draws_follow_their_weights),
        cmocka_unit_test(scores_are_read_checked_and_have_a_fallback),
        cmocka_unit_test(outliers_are_counted_as_defined),
        cmocka_unit_test(a_layer_with_planted_outliers_is_drawn_by_its_share),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
