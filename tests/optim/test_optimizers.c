/* Optimisers: 50 steps against torch, float64 references of what torch lacks, and what every one of them promises. */
#include "optim/run.h"

enum { ROWS = 4, COLUMNS = 6, COUNT = ROWS * COLUMNS, STEPS = 50 };

static const int64_t dims[2] = { ROWS, COLUMNS };
static float         w0[COUNT], g[STEPS][COUNT];

static crank_safetensors *file;

static const float *tensor(const char *name)
{
    crank_view view;
    if (!crank_safetensors_find(file, name, &view)) fail_msg("no tensor %s", name);
    return view.data;
}

static int open_golden(void **state)
{
    crank_context *context = crank_context_new();
    *state = context;
    file = crank_safetensors_open(context, golden("optim/torch.safetensors"));
    if (!file) return 1;
    memcpy(w0, tensor("w0"), sizeof w0);
    memcpy(g, tensor("g"), sizeof g);
    return 0;
}

static int close_golden(void **state)
{
    crank_safetensors_close(file);
    crank_context_free(*state);
    return 0;
}

static double rate_of(double rate, int t) { return rate * (0.5 + 0.5 * cos((double)t / STEPS)); }

static void fifty_steps_equal_torch(void **state)
{
    (void)state;
    static const struct {
        const char *name, *method, *settings;
        double      rate, decay;
    } cases[] = {
        { "adamw", "adamw", "", 1e-2, 0.01 },
        { "adamw_other", "adamw", "beta1=0.8 beta2=0.95 epsilon=1e-6", 3e-2, 0.1 },
        { "adam_l2", "adamw", "l2=true", 1e-2, 0.1 },
        { "sgd", "sgd", "momentum=0", 1e-2, 0 },
        { "sgd_momentum", "sgd", "dampening=0.1", 1e-2, 0.05 },
        { "sgd_nesterov", "sgd", "nesterov=true", 1e-2, 0 },
    };
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        float  w[COUNT];
        runner r = runner_open(cases[c].method, cases[c].settings, CRANK_F32, 2, dims, w0, cases[c].decay);
        for (int t = 1; t <= STEPS; t++) runner_step(&r, g[t - 1], rate_of(cases[c].rate, t), t, 1, false);
        runner_read(&r, "w", w, CRANK_F32);
        double error = relative_error(w, tensor(cases[c].name), COUNT);
        if (error > 1e-6) fail_msg("%s: relative error %g", cases[c].name, error);
        runner_close(&r);
    }
}

static void lion_equals_its_reference(void **state)
{
    (void)state;
    double w[COUNT], m[COUNT] = { 0 };
    float  result[COUNT];
    for (int i = 0; i < COUNT; i++) w[i] = w0[i];
    runner r = runner_open("lion", "", CRANK_F32, 2, dims, w0, 0.1);
    for (int t = 1; t <= STEPS; t++) {
        for (int i = 0; i < COUNT; i++) {
            double c = 0.9 * m[i] + 0.1 * g[t - 1][i];
            w[i] *= 1 - 0.0078125 * 0.1;
            w[i] -= 0.0078125 * ((c > 0) - (c < 0));
            m[i] = 0.99 * m[i] + 0.01 * g[t - 1][i];
        }
        runner_step(&r, g[t - 1], 0.0078125, t, 1, false);
    }
    runner_read(&r, "w", result, CRANK_F32);
    for (int i = 0; i < COUNT; i++) assert_true(fabs(result[i] - w[i]) < 2e-6);
    runner_close(&r);
}

/* epsilon outside of the correction, decay after the step */
static void the_hf_placement_equals_its_reference(void **state)
{
    (void)state;
    for (int wide = 0; wide < 2; wide++) {
        double w[COUNT], m[COUNT] = { 0 }, v[COUNT] = { 0 }, result[COUNT], gradient[COUNT], rate = 0.0078125, decay = 0.25;
        for (int i = 0; i < COUNT; i++) w[i] = w0[i];
        runner r = runner_open("adamw", "placement=hf epsilon=1e-2", wide ? CRANK_F64 : CRANK_F32, 2, dims, w0, decay);
        r.unit.rate_factor = 2;
        for (int t = 1; t <= STEPS; t++) {
            for (int i = 0; i < COUNT; i++) {
                gradient[i] = 0.5 * g[t - 1][i];
                m[i] = 0.9 * m[i] + 0.1 * gradient[i];
                v[i] = 0.999 * v[i] + 0.001 * gradient[i] * gradient[i];
                w[i] -= 2 * rate * sqrt(1 - pow(0.999, t)) / (1 - pow(0.9, t)) * m[i] / (sqrt(v[i]) + 1e-2);
                w[i] *= 1 - 2 * rate * decay;
                gradient[i] = g[t - 1][i];
            }
            runner_step(&r, wide ? (const void *)gradient : g[t - 1], rate, t, 0.5, false);
        }
        runner_read(&r, "w", result, CRANK_F64);
        for (int i = 0; i < COUNT; i++) assert_true(fabs(result[i] - w[i]) < (wide ? 1e-12 : 3e-6));
        runner_close(&r);
    }
}

static void an_f64_parameter_is_updated_in_f64(void **state)
{
    (void)state;
    double w[COUNT], m[COUNT] = { 0 }, v[COUNT] = { 0 }, result[COUNT], gradient[COUNT], rate = 0.0078125;
    for (int i = 0; i < COUNT; i++) w[i] = w0[i];
    runner r = runner_open("adamw", "", CRANK_F64, 2, dims, w0, 0.5);
    for (int t = 1; t <= STEPS; t++) {
        for (int i = 0; i < COUNT; i++) {
            gradient[i] = g[t - 1][i];
            m[i] = 0.9 * m[i] + 0.1 * gradient[i];
            v[i] = 0.999 * v[i] + 0.001 * gradient[i] * gradient[i];
            w[i] *= 1 - rate * 0.5;
            w[i] -= rate * (m[i] / (1 - pow(0.9, t))) / (sqrt(v[i] / (1 - pow(0.999, t))) + 1e-8);
        }
        runner_step(&r, gradient, rate, t, 1, false);
    }
    runner_read(&r, "w", result, CRANK_F64);
    for (int i = 0; i < COUNT; i++) assert_true(fabs(result[i] - w[i]) < 1e-12);
    runner_close(&r);
}

static const struct {
    const char *method, *settings;
} all[] = {
    { "adamw", "" }, { "adamw", "placement=hf" }, { "adamw8bit", "min_size=0" }, { "adamw8bit", "" }, { "sgd", "" },
    { "sgd", "momentum=0" }, { "lion", "" }, { "adafactor", "" }, { "signsgd", "" }, { "signsgd", "momentum=0.9" },
    { "muon", "" }, { "galore", "rank=2 gap=2" }, { "fira", "rank=2 gap=2" }, { "frugal", "density=1" }, { "frugal", "select=columns gap=2" }, { "galore", "rank=2 gap=2 inner=adamw8bit inner_options=min_size=0" },
};
enum { ALL = sizeof all / sizeof *all };

/* All parameters of the set that live from step to step, one after the other. */
static size_t snapshot(const runner *r, uint8_t *out)
{
    size_t used = 0;
    for (size_t i = 0; i < crank_params_count(r->params); i++) {
        crank_param *param = crank_params_at(r->params, i);
        if (param->role == CRANK_ROLE_CACHE) continue;
        assert_ok(r->context, crank_param_read(r->context, param, out + used, param->view.dtype));
        used += crank_view_bytes(&param->view);
    }
    return used;
}

static void a_skipped_step_changes_no_bit(void **state)
{
    (void)state;
    for (int c = 0; c < ALL; c++) {
        static uint8_t before[4096], after[4096];
        float          broken[COUNT];
        runner         r = runner_open(all[c].method, all[c].settings, CRANK_F32, 2, dims, w0, 0.1);
        for (int i = 0; i < COUNT; i++) broken[i] = i % 2 ? NAN : INFINITY;
        runner_step(&r, g[0], 1e-2, 1, 1, false);
        size_t size = snapshot(&r, before);
        runner_step(&r, broken, 1e-2, 2, 1, true);
        snapshot(&r, after);
        assert_memory_equal(before, after, size);
        runner_close(&r);
    }
}

static void zero_gradients_and_single_elements_stay_finite(void **state)
{
    (void)state;
    for (int c = 0; c < ALL; c++) {
        int64_t one = 1;
        float   start = 2, w, zero = 0, huge = 1e30f;
        runner  r = runner_open(all[c].method, all[c].settings, CRANK_F32, 1, &one, &start, 0);
        for (int t = 1; t <= 3; t++) runner_step(&r, &zero, 1e-2, t, 1, false);
        runner_read(&r, "w", &w, CRANK_F32);
        assert_true(w == 2);
        if (strcmp(all[c].method, "sgd") != 0 && strcmp(all[c].settings, "placement=hf") != 0) {
            runner_step(&r, &huge, 1e-2, 4, 1e-25, false); /* the clip brings it back to range */
            runner_read(&r, "w", &w, CRANK_F32);
            assert_true(isfinite(w) && w < 2);
        }
        runner_close(&r);
    }
}

static void the_rate_factor_multiplies_the_rate(void **state)
{
    (void)state;
    for (int c = 0; c < ALL; c++) {
        float  w[2][COUNT];
        for (int k = 0; k < 2; k++) {
            runner r = runner_open(all[c].method, all[c].settings, CRANK_F32, 2, dims, w0, 0.1);
            r.unit.rate_factor = k ? 16 : 1;
            for (int t = 1; t <= 3; t++) runner_step(&r, g[t - 1], k ? 0x1p-10 : 0x1p-6, t, 1, false);
            runner_read(&r, "w", w[k], CRANK_F32);
            runner_close(&r);
        }
        assert_true(relative_error(w[1], w[0], COUNT) < 1e-7);
    }
}

/* Steps far below a bf16 digit: stochastic rounding moves the mean by the right amount, nearest would not move at all. */
static void bf16_weights_drift_without_bias(void **state)
{
    (void)state;
    enum { MANY = 20000 };
    static const char *const methods[] = { "adamw", "lion", "sgd", "adamw8bit" };
    static float start[MANY], gradient[MANY], w[MANY];
    int64_t      many = MANY;
    for (int i = 0; i < MANY; i++) start[i] = gradient[i] = 1;
    for (int c = 0; c < 4; c++) {
        runner r = runner_open(methods[c], c == 2 ? "momentum=0" : "", CRANK_BF16, 1, &many, start, 0);
        for (int t = 1; t <= 8; t++) runner_step(&r, gradient, 0x1p-12, t, 1, false);
        runner_read(&r, "w", w, CRANK_F32);
        double mean = 0;
        for (int i = 0; i < MANY; i++) mean += w[i];
        mean = 1 - mean / MANY;
        if (!(fabs(mean - 0x1p-9) < 0.05 * 0x1p-9)) fail_msg("%s: moved by %g instead of %g", methods[c], mean, 0x1p-9);
        runner_close(&r);
    }
}

static void schedules_follow_their_formulas(void **state)
{
    (void)state;
    crank_schedule constant = { CRANK_SCHEDULE_CONSTANT, 100, 10, 0 };
    crank_schedule linear = { CRANK_SCHEDULE_LINEAR, 100, 10, 0.1 };
    crank_schedule cosine = { CRANK_SCHEDULE_COSINE, 300, 0, 0 };
    assert_true(crank_schedule_factor(&constant, 1) == 0.1);
    assert_true(crank_schedule_factor(&constant, 10) == 1);
    assert_true(crank_schedule_factor(&constant, 1000) == 1);
    assert_true(crank_schedule_factor(&linear, 10) == 1);
    assert_true(crank_schedule_factor(&linear, 11) == 1);
    assert_true(fabs(crank_schedule_factor(&linear, 56) - (0.1 + 0.9 * 0.5)) < 1e-12);
    assert_true(crank_schedule_factor(&linear, 100) > 0.1 && crank_schedule_factor(&linear, 100) < 0.12);
    assert_true(crank_schedule_factor(&linear, 101) == 0.1);
    for (int t = 0; t < 300; t++)
        assert_true(fabs(crank_schedule_factor(&cosine, t + 1) - 0.5 * (1 + cos(3.14159265358979 * t / 300))) < 1e-12);
}

static void update_nothing(crank_graph *graph, crank_unit *unit, crank_tensor *gradient)
{
    (void)graph, (void)unit, (void)gradient;
}

static void optimisers_are_registered_by_name_once(void **state)
{
    crank_context               *context = *state;
    static const crank_optimizer own = { .name = "mine", .update = update_nothing }, lacking = { .name = "lacking" };
    size_t                       count = 0;
    while (crank_optimizer_at(count)) {
        assert_ptr_equal(crank_optimizer_find(crank_optimizer_at(count)->name), crank_optimizer_at(count));
        count++;
    }
    assert_null(crank_optimizer_find("mine"));
    assert_ok(context, crank_register_optimizer(context, &own));
    assert_ptr_equal(crank_optimizer_at(count), &own);
    assert_ptr_equal(crank_optimizer_find("mine"), &own);
    assert_int_equal(crank_register_optimizer(context, &own), CRANK_USAGE);
    assert_int_equal(crank_register_optimizer(context, &lacking), CRANK_USAGE);
    assert_null(crank_optimizer_at(count + 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fifty_steps_equal_torch),
        cmocka_unit_test(lion_equals_its_reference),
        cmocka_unit_test(the_hf_placement_equals_its_reference),
        cmocka_unit_test(an_f64_parameter_is_updated_in_f64),
        cmocka_unit_test(a_skipped_step_changes_no_bit),
        cmocka_unit_test(zero_gradients_and_single_elements_stay_finite),
        cmocka_unit_test(the_rate_factor_multiplies_the_rate),
        cmocka_unit_test(bf16_weights_drift_without_bias),
        cmocka_unit_test(schedules_follow_their_formulas),
        cmocka_unit_test(optimisers_are_registered_by_name_once),
    };
    return cmocka_run_group_tests(tests, open_golden, close_golden);
}
