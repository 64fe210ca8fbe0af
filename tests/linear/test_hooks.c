/* Hooks of methods: their order, what they see, and what a step records of them. */
#include "linear/world.h"

enum { N = 4, SIZE = 6 };

/* A method that uses every hook: y = y0 + shift * gain, gain drawn from calibration, shift trained. */
typedef struct {
    double weight; /* of the penalty */
} options;

typedef struct {
    crank_param *shift;
    double       sum; /* of the observed x */
    int64_t      rows;
    double      *heap;
} state;

typedef struct {
    int calibrated, allotted, attached, released;
} shared;

static const crank_option option_table[] = { CRANK_FLOAT(options, weight, 2, 0, 100, "of the penalty"), CRANK_END };

static char trace[512];
static void note(const char *what, const crank_site *site) { snprintf(trace + strlen(trace), sizeof trace - strlen(trace), "%s%d ", what, site->index); }

static crank_status calibrate(crank_context *context, crank_site *site, const crank_observation *batch)
{
    state *st = site->state;
    (void)context;
    note(batch ? "see" : "end", site);
    for (int64_t i = 0; batch && i < batch->n * site->linear->in; i++) st->sum += batch->x[i];
    if (batch) st->rows += batch->n;
    ((shared *)site->model)->calibrated += batch == NULL;
    return CRANK_OK;
}

static crank_status allot(crank_context *context, crank_site *sites, int count)
{
    shared *all = sites[0].model;
    note("allot", &sites[0]);
    if (all->calibrated != count) return crank_fail(context, CRANK_FAILED, "allot before calibration ended");
    all->allotted = count;
    return CRANK_OK;
}

static crank_status attach(crank_context *context, crank_site *site)
{
    state *st = site->state;
    note("attach", site);
    ((shared *)site->model)->attached++;
    st->heap = malloc(8);
    st->shift = crank_site_param(context, site, "shift", CRANK_F32, 1, &site->linear->out, true);
    assert_ptr_equal(crank_site_find(site, "shift"), st->shift);
    return st->shift ? CRANK_OK : CRANK_FAILED;
}

static void derive(crank_graph *graph, crank_site *site)
{
    const state *st = site->state;
    note("derive", site);
    crank_site_put(graph, site, "gained", crank_scale(crank_use(graph, st->shift), st->rows ? st->sum / (double)st->rows : 1));
}

static crank_tensor *forward(crank_graph *graph, crank_site *site, crank_tensor *x, crank_tensor *y0)
{
    (void)x;
    return crank_add(y0, crank_cast(crank_site_get(graph, site, "gained"), y0->dtype));
}

static crank_tensor *penalty(crank_graph *graph, crank_site *sites, int count)
{
    crank_tensor *sum = NULL;
    for (int i = 0; i < count; i++) {
        crank_tensor *each = crank_sum(crank_unary(CRANK_SQUARE, crank_use(graph, ((state *)sites[i].state)->shift)));
        sum = sum ? crank_add(sum, each) : each;
    }
    return crank_scale(sum, ((const options *)sites[0].options)->weight);
}

static void before_step(crank_graph *graph, crank_site *site)
{
    const state  *st = site->state;
    crank_tensor *gradient = crank_gradient_of(graph, st->shift);
    if (gradient) crank_gradient_set(graph, st->shift, crank_scale(gradient, 10));
}

static void after_step(crank_graph *graph, crank_site *site)
{
    const state *st = site->state;
    crank_assign(crank_use(graph, st->shift), crank_fill(graph, CRANK_F32, 1, &site->linear->out, 1), true);
}

static crank_status period(crank_context *context, crank_site *sites, int count, int64_t step, bool *changed)
{
    (void)context, (void)sites, (void)count;
    *changed = step == 3;
    return CRANK_OK;
}

static void release(crank_site *site)
{
    note("release", site);
    free(((state *)site->state)->heap);
}

static const crank_map method = {
    .name = "traced", .options = option_table, .options_size = sizeof(options), .state_size = sizeof(state),
    .model_state_size = sizeof(shared), .affine = true, .observes = CRANK_OBSERVE_X, .calibrate = calibrate, .allot = allot,
    .attach = attach, .derive = derive, .forward = forward, .penalty = penalty, .before_step = before_step, .after_step = after_step,
    .period = period, .release = release,
};

static world two_linears(void)
{
    world w = world_open(CRANK_F32);
    world_linear(&w, "a", CRANK_LINEAR_DENSE, SIZE, SIZE, false);
    world_linear(&w, "b", CRANK_LINEAR_DENSE, SIZE, SIZE, false);
    trace[0] = 0;
    return w;
}

static crank_attachment *begin(world *w)
{
    static const options given = { .weight = 2 };
    crank_attachment    *attachment = crank_attachment_new(w->context, w->linears, &method, &given, &(crank_attach_options){ 0 });
    if (!attachment) fail_msg("%s", crank_message(w->context));
    return attachment;
}

static void hooks_come_in_their_order(void **unused)
{
    (void)unused;
    world             w = two_linears();
    crank_attachment *attachment = begin(&w);
    float             rows[2 * SIZE] = { 1, 2, 3 };
    crank_observation batch = { .x = rows, .n = 2 };
    assert_false(crank_linear_has_maps(crank_linears_at(w.linears, 0)));
    for (size_t i = 0; i < 2; i++)
        assert_ok(w.context, crank_attachment_observe(w.context, attachment, crank_linears_at(w.linears, i), &batch));
    assert_ok(w.context, crank_attachment_finish(w.context, attachment));
    assert_true(crank_linear_has_maps(crank_linears_at(w.linears, 0)));
    crank_graph  *graph = crank_graph_new(w.context, w.device);
    crank_tensor *x = crank_input(graph, "x", CRANK_F32, 2, (const int64_t[]){ N, SIZE });
    for (int twice = 0; twice < 2; twice++) crank_linear_forward(graph, crank_linears_at(w.linears, 0), x); /* derived once */
    assert_ok(w.context, crank_graph_status(graph));
    crank_graph_free(graph);
    crank_attachment_remove(attachment);
    assert_string_equal(trace, "see0 see1 end0 end1 allot0 attach0 attach1 derive0 release0 release1 ");
    world_close(&w);
}

static void a_step_sees_penalties_and_changed_gradients(void **unused)
{
    (void)unused;
    world             w = two_linears();
    crank_attachment *attachment = begin(&w);
    assert_ok(w.context, crank_attachment_finish(w.context, attachment));
    crank_param *shift = world_param(&w, "a.traced.shift");
    float        values[SIZE] = { 0.5f, 1, 0, 0, 0, -1 }, g[SIZE], after[SIZE];
    assert_ok(w.context, crank_param_write(w.context, shift, values, CRANK_F32));

    crank_graph  *graph = crank_graph_new(w.context, w.device);
    crank_tensor *loss = crank_linears_penalty(graph, w.linears), *use = crank_use(graph, shift), *gradient;
    assert_non_null(loss);
    crank_keep(loss);
    assert_ok(w.context, crank_gradients(graph, &loss, NULL, 1, &use, 1, &gradient));
    assert_null(crank_gradient_of(graph, shift));
    crank_gradient_set(graph, shift, gradient);
    crank_linears_before_step(graph, w.linears);
    crank_tensor *changed = crank_keep(crank_gradient_of(graph, shift));
    crank_linears_after_step(graph, w.linears);
    assert_ok(w.context, crank_plan(graph, NULL, NULL));
    assert_ok(w.context, crank_run(graph));
    assert_true(fabs(crank_read_scalar(loss) - 2 * 2.25) < 1e-6);
    assert_ok(w.context, crank_read(changed, g));
    assert_ok(w.context, crank_param_read(w.context, shift, after, CRANK_F32));
    for (int i = 0; i < SIZE; i++) {
        assert_true(fabsf(g[i] - 10 * 4 * values[i]) < 1e-5f);
        assert_true(after[i] == values[i] + 1);
    }
    crank_graph_free(graph);

    bool again;
    assert_ok(w.context, crank_linears_period(w.context, w.linears, 2, &again));
    assert_false(again);
    assert_ok(w.context, crank_linears_period(w.context, w.linears, 3, &again));
    assert_true(again);
    crank_attachment_set(attachment, false, 1); /* off: no hook takes part */
    graph = crank_graph_new(w.context, w.device);
    assert_null(crank_linears_penalty(graph, w.linears));
    crank_graph_free(graph);
    assert_ok(w.context, crank_linears_period(w.context, w.linears, 3, &again));
    assert_false(again);
    world_close(&w);
}

static crank_tensor *forward_twice_below(crank_graph *graph, crank_site *site, crank_tensor *x, crank_tensor *y0)
{
    return crank_add(y0, crank_linear_below(graph, site, crank_scale(x, 2)));
}

static crank_tensor *forward_wrong_shape(crank_graph *graph, crank_site *site, crank_tensor *x, crank_tensor *y0)
{
    (void)graph, (void)site, (void)x;
    return crank_sum(y0);
}

static crank_status attach_nothing(crank_context *context, crank_site *site)
{
    (void)context, (void)site;
    return CRANK_OK;
}

static void below_is_what_stands_under_the_map(void **unused)
{
    (void)unused;
    static const crank_map over = { .name = "over", .affine = true, .attach = attach_nothing, .forward = forward_twice_below };
    static const crank_map wrong = { .name = "wrong", .attach = attach_nothing, .forward = forward_wrong_shape };
    world         w = two_linears();
    crank_linear *linear = crank_linears_at(w.linears, 0);
    double        x[N * SIZE], expected[N * SIZE];
    world_fill(x, N * SIZE, 1, 1);
    world_attach(&w, "lora", "rank=2", "a");
    world_randomise(&w, "a.lora.B", 0.5);
    pass lower = { .n = N, .x = x, .compute = CRANK_F32 }, upper = lower;
    world_run(&w, linear, &lower);
    crank_attachment *second = crank_attachment_new(w.context, w.linears, &over, "", &(crank_attach_options){ .name = "second", .targets = "a" });
    assert_non_null(second);
    assert_ok(w.context, crank_attachment_finish(w.context, second));
    world_run(&w, linear, &upper);
    for (int i = 0; i < N * SIZE; i++) expected[i] = 3 * lower.y[i];
    assert_near(upper.y, expected, N * SIZE, 1e-6);
    pass_free(&lower), pass_free(&upper);

    crank_attachment *third = crank_attachment_new(w.context, w.linears, &wrong, "", &(crank_attach_options){ .name = "third", .targets = "a" });
    assert_ok(w.context, crank_attachment_finish(w.context, third));
    crank_graph *graph = crank_graph_new(w.context, w.device);
    crank_linear_forward(graph, linear, crank_input(graph, "x", CRANK_F32, 2, (const int64_t[]){ N, SIZE }));
    assert_int_equal(crank_graph_status(graph), CRANK_FAILED);
    assert_non_null(strstr(crank_message(w.context), "the method wrong gave another type or shape"));
    crank_graph_free(graph);
    assert_int_equal(crank_linears_merge(w.context, w.linears, true, true), CRANK_USAGE);
    assert_non_null(strstr(crank_message(w.context), "not affine"));
    world_close(&w);
}

static void methods_are_registered_by_name_once(void **unused)
{
    (void)unused;
    crank_context         *context = crank_context_new();
    static const crank_map lacking = { .name = "lacking", .attach = attach_nothing };
    assert_null(crank_map_find("traced"));
    assert_ok(context, crank_register_map(context, &method));
    assert_ptr_equal(crank_map_find("traced"), &method);
    assert_int_equal(crank_register_map(context, &method), CRANK_USAGE);
    assert_int_equal(crank_register_map(context, &lacking), CRANK_USAGE);
    size_t count = 0;
    for (const crank_map *each; (each = crank_map_at(count)); count++) assert_ptr_equal(crank_map_find(each->name), each);
    assert_true(count >= 3);
    crank_context_free(context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hooks_come_in_their_order),
        cmocka_unit_test(a_step_sees_penalties_and_changed_gradients),
        cmocka_unit_test(below_is_what_stands_under_the_map),
        cmocka_unit_test(methods_are_registered_by_name_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
