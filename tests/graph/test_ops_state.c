/* State operations in a graph: updates change their parameters and state, also through views; the clip and the finite
 * check reach the updates through the step scalars; attention over a cache equals attention over the whole sequence. */
#include "graph/gradcheck.h"
#include "graph/ops/op.h"
#include "test_device.h"

typedef struct session {
    crank_context *context;
    crank_device *device;
    crank_params *params;
    crank_graph *graph;
} session;

static session open_session(void)
{
    session s = {.context = crank_context_new()};
    s.device = test_device(s.context, "plain");
    s.params = crank_params_new(s.context, s.device);
    s.graph = crank_graph_new(s.context, s.device);
    return s;
}

static void close_session(session *s)
{
    crank_graph_free(s->graph);
    crank_params_free(s->params);
    s->device->close(s->device);
    crank_context_free(s->context);
}

static crank_param *add(session *s, const char *name, crank_dtype dtype, const float *values, int rank,
                        const int64_t *dims)
{
    crank_param *param = crank_params_add(s->params, name, CRANK_ROLE_WEIGHT, dtype, rank, dims);
    assert_non_null(param);
    if (values) assert_ok(s->context, crank_param_write(s->context, param, values, CRANK_F32));
    return param;
}

/* Plans, writes `given` and the scalars (rate 0.1, step 1, no clip), runs once. */
static void step(session *s, crank_tensor *given, const float *values)
{
    const float scalars[CRANK_SCALARS] = {
        [CRANK_SCALAR_RATE] = 0.1f, [CRANK_SCALAR_STEP] = 1, [CRANK_SCALAR_CLIP] = 1, [CRANK_SCALAR_DENOMINATOR] = 2};
    if (crank_plan(s->graph, NULL, NULL) != CRANK_OK) fail_msg("%s", crank_message(s->context));
    assert_ok(s->context, crank_write(crank_step_scalars(s->graph), scalars));
    if (given) assert_ok(s->context, crank_write(given, values));
    assert_ok(s->context, crank_run(s->graph));
}

static void expect(session *s, const crank_param *param, const double *wanted, int n)
{
    float values[64];
    assert_ok(s->context, crank_param_read(s->context, param, values, CRANK_F32));
    for (int i = 0; i < n; i++)
        if (!(fabs(values[i] - wanted[i]) <= 1e-6 * fmax(1, fabs(wanted[i]))))
            fail_msg("%s[%d] is %.9g, not %.9g", param->name, i, (double)values[i], wanted[i]);
}

static const float W[3] = {1, -2, 3}, G[3] = {0.5f, 1, -0.25f};

static void adamw_takes_one_step(void **state)
{
    (void)state;
    session s = open_session();
    crank_param *w = add(&s, "w", CRANK_F32, W, DIMS(3)), *m = add(&s, "m", CRANK_F32, NULL, DIMS(3)),
                *v = add(&s, "v", CRANK_F32, NULL, DIMS(3));
    crank_tensor *g = crank_input(s.graph, "g", CRANK_F32, DIMS(3));
    crank_adamw(crank_use(s.graph, w), g, crank_use(s.graph, m), crank_use(s.graph, v), crank_step_scalars(s.graph),
                &(crank_adam_attributes){.beta1 = 0.9, .beta2 = 0.99, .epsilon = 1e-8, .decay = 0.5, .rate_factor = 1});
    step(&s, g, G);
    double wanted[3], wanted_m[3];
    for (int i = 0; i < 3; i++) {
        wanted_m[i] = 0.1 * G[i];
        wanted[i] = W[i] * (1 - 0.1 * 0.5) - 0.1 * (G[i] > 0 ? 1 : -1);
    }
    expect(&s, w, wanted, 3);
    expect(&s, m, wanted_m, 3);
    close_session(&s);
}

static void adamw8bit_takes_one_step(void **state)
{
    (void)state;
    session s = open_session();
    crank_param *w = add(&s, "w", CRANK_F32, W, DIMS(3)), *p[4];
    crank_tensor *g = crank_input(s.graph, "g", CRANK_F32, DIMS(3)), *t[4];
    for (int i = 0; i < 4; i++) {
        const char *names[] = {"codes m", "codes v", "amax m", "amax v"};
        p[i] = i < 2 ? add(&s, names[i], CRANK_U8, NULL, DIMS(3)) : add(&s, names[i], CRANK_F32, NULL, DIMS(1));
        t[i] = crank_use(s.graph, p[i]);
    }
    crank_adamw8bit(crank_use(s.graph, w), g, t[0], t[1], t[2], t[3], crank_step_scalars(s.graph),
                    &(crank_adam_attributes){.beta1 = 0.9, .beta2 = 0.99, .epsilon = 1e-8, .rate_factor = 1});
    step(&s, g, G);
    const double wanted[3] = {0.9, -2.1, 3.1}, amax[1] = {0.1}; /* a first step is rate * sign(g) */
    expect(&s, w, wanted, 3);
    expect(&s, p[2], amax, 1);
    close_session(&s);
}

static void sgd_and_lion_take_one_step(void **state)
{
    (void)state;
    session s = open_session();
    crank_param *w = add(&s, "w", CRANK_F32, W, DIMS(3)), *u = add(&s, "u", CRANK_F32, W, DIMS(3)),
                *z = add(&s, "z", CRANK_F32, W, DIMS(3));
    crank_param *m = add(&s, "m", CRANK_F32, NULL, DIMS(3)), *buffer = add(&s, "buffer", CRANK_F32, NULL, DIMS(3));
    crank_tensor *g = crank_input(s.graph, "g", CRANK_F32, DIMS(3)), *scalars = crank_step_scalars(s.graph);
    crank_sgd(crank_use(s.graph, w), g, NULL, scalars, &(crank_sgd_attributes){.rate_factor = 2});
    crank_sgd(crank_use(s.graph, z), g, crank_use(s.graph, buffer), scalars,
              &(crank_sgd_attributes){.rate_factor = 1, .momentum = 0.9, .nesterov = true});
    crank_lion(crank_use(s.graph, u), g, crank_use(s.graph, m), scalars,
               &(crank_lion_attributes){.beta1 = 0.9, .beta2 = 0.99, .rate_factor = 1});
    step(&s, g, G);
    double plain[3], nesterov[3], lion[3], buffered[3];
    for (int i = 0; i < 3; i++) {
        plain[i] = W[i] - 0.2 * G[i];
        buffered[i] = G[i];
        nesterov[i] = W[i] - 0.1 * (G[i] + 0.9 * G[i]);
        lion[i] = W[i] - 0.1 * (G[i] > 0 ? 1 : -1);
    }
    expect(&s, w, plain, 3);
    expect(&s, z, nesterov, 3);
    expect(&s, buffer, buffered, 3);
    expect(&s, u, lion, 3);
    close_session(&s);
}

static void an_update_reaches_a_slice_of_a_parameter_alone(void **state)
{
    (void)state;
    session s = open_session();
    const float values[12] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}, gradient[4] = {1, 2, 3, 4};
    crank_param *w = add(&s, "w", CRANK_F32, values, DIMS(3, 4)), *a = add(&s, "a", CRANK_F32, values, DIMS(3, 4));
    crank_tensor *g = crank_input(s.graph, "g", CRANK_F32, DIMS(2, 2));
    crank_tensor *part = crank_slice(crank_slice(crank_use(s.graph, w), 0, 1, 2), 1, 1, 2); /* [[5, 6], [9, 10]] */
    crank_sgd(part, g, NULL, crank_step_scalars(s.graph), &(crank_sgd_attributes){.rate_factor = 10});
    crank_assign(crank_slice(crank_use(s.graph, a), 1, 3, 1), crank_reshape(crank_slice(g, 0, 0, 1), DIMS(2, 1)), true);
    assert_int_equal(crank_graph_status(s.graph), CRANK_USAGE); /* [2, 1] does not go into [3, 1] */
    close_session(&s);

    s = open_session();
    w = add(&s, "w", CRANK_F32, values, DIMS(3, 4)), a = add(&s, "a", CRANK_F32, values, DIMS(3, 4));
    g = crank_input(s.graph, "g", CRANK_F32, DIMS(2, 2));
    part = crank_slice(crank_slice(crank_use(s.graph, w), 0, 1, 2), 1, 1, 2);
    crank_sgd(part, g, NULL, crank_step_scalars(s.graph), &(crank_sgd_attributes){.rate_factor = 10});
    crank_assign(crank_slice(crank_slice(crank_use(s.graph, a), 1, 2, 2), 0, 0, 2), crank_transpose(g, 0, 1), true);
    step(&s, g, gradient);
    const double wanted[12] = {0, 1, 2, 3, 4, 4, 4, 7, 8, 6, 6, 11},
                 assigned[12] = {0, 1, 3, 6, 4, 5, 8, 11, 8, 9, 10, 11};
    expect(&s, w, wanted, 12);
    expect(&s, a, assigned, 12);
    close_session(&s);
}

/* 30 gradients: more than a node has inputs. norm = sqrt(sum of squares) / denominator. */
static void the_clip_scales_the_update(void **state)
{
    (void)state;
    session s = open_session();
    crank_param *w = add(&s, "w", CRANK_F32, W, DIMS(3));
    crank_tensor *g = crank_input(s.graph, "g", CRANK_F32, DIMS(3)), *gradients[31];
    for (int i = 0; i < 30; i++) gradients[i] = crank_slice(g, 0, i % 3, 1);
    gradients[30] = NULL;
    crank_tensor *norm = crank_keep(crank_clip_scale(gradients, 31, 0.25, s.graph));
    crank_sgd(crank_use(s.graph, w), g, NULL, crank_step_scalars(s.graph), &(crank_sgd_attributes){.rate_factor = 1});
    step(&s, g, G);
    double length = sqrt(10 * (0.5 * 0.5 + 1 + 0.25 * 0.25)) / 2, wanted[3];
    assert_true(fabs(crank_read_scalar(norm) - length) < 1e-6);
    for (int i = 0; i < 3; i++) wanted[i] = W[i] - 0.1 * G[i] * (0.25 / length) / 2;
    expect(&s, w, wanted, 3);
    close_session(&s);
}

static void a_loss_that_is_not_finite_changes_nothing(void **state)
{
    (void)state;
    session s = open_session();
    crank_param *w = add(&s, "w", CRANK_F32, W, DIMS(3));
    crank_tensor *g = crank_input(s.graph, "g", CRANK_F32, DIMS(3));
    crank_check_finite(crank_sum(crank_unary(CRANK_LOG, g))); /* the log of a negative number */
    crank_sgd(crank_use(s.graph, w), g, NULL, crank_step_scalars(s.graph), &(crank_sgd_attributes){.rate_factor = 1});
    step(&s, g, G);
    const double wanted[3] = {1, -2, 3};
    expect(&s, w, wanted, 3);
    close_session(&s);
}

/* Tokens 0..2 and then 3..4 over a cache, against all five at once; with and without a window. */
static void attention_over_a_cache_equals_attention_over_the_sequence(void **state)
{
    (void)state;
    enum { N = 5, FIRST = 3, SIZE = N * 2 * 4 };
    float q[N * 4 * 4], k[SIZE], v[SIZE], whole[N * 4 * 4], cached[N * 4 * 4];
    crank_fill_normal(crank_stream_make(1, CRANK_RANDOM_TEST, 0), 0, 0, 1, q, N * 4 * 4);
    crank_fill_normal(crank_stream_make(1, CRANK_RANDOM_TEST, 1), 0, 0, 1, k, SIZE);
    crank_fill_normal(crank_stream_make(1, CRANK_RANDOM_TEST, 2), 0, 0, 1, v, SIZE);
    for (int window = 0; window < 4; window += 2) {
        crank_attention_attributes attributes = {CRANK_MASK_CAUSAL, window, 0.5, 0};
        session s = open_session();
        crank_param *caches[2] = {add(&s, "k", CRANK_F32, NULL, DIMS(8, 2, 4)),
                                  add(&s, "v", CRANK_F32, NULL, DIMS(8, 2, 4))};
        crank_tensor *in[3] = {crank_input(s.graph, "q", CRANK_F32, DIMS(N, 4, 4)),
                               crank_input(s.graph, "k", CRANK_F32, DIMS(N, 2, 4)),
                               crank_input(s.graph, "v", CRANK_F32, DIMS(N, 2, 4))};
        crank_tensor *segments = crank_input(s.graph, "segments", CRANK_I32, DIMS(2));
        crank_tensor *at = crank_input(s.graph, "positions", CRANK_I32, DIMS(2)), *o[3];
        crank_graph_set_training(s.graph, false); /* the cache is written in evaluation too */
        o[2] = crank_keep(crank_attention(in[0], in[1], in[2], segments, &attributes));
        for (int i = 0; i < 2; i++) {
            int64_t from = i ? FIRST : 0, count = i ? N - FIRST : FIRST;
            crank_tensor *position = crank_slice(at, 0, i, 1), *cache[2];
            for (int j = 0; j < 2; j++)
                cache[j] =
                    crank_cache_write(crank_slice(in[1 + j], 0, from, count), position, crank_use(s.graph, caches[j]));
            o[i] = crank_keep(
                crank_attention_cached(crank_slice(in[0], 0, from, count), cache[0], cache[1], position, &attributes));
        }
        if (crank_plan(s.graph, NULL, NULL) != CRANK_OK) fail_msg("%s", crank_message(s.context));
        assert_ok(s.context, crank_write(in[0], q));
        assert_ok(s.context, crank_write(in[1], k));
        assert_ok(s.context, crank_write(in[2], v));
        assert_ok(s.context, crank_write(segments, (int32_t[]){0, N}));
        assert_ok(s.context, crank_write(at, (int32_t[]){0, FIRST}));
        assert_ok(s.context, crank_run(s.graph));
        assert_ok(s.context, crank_read(o[0], cached));
        assert_ok(s.context, crank_read(o[1], cached + FIRST * 16));
        assert_ok(s.context, crank_read(o[2], whole));
        assert_true(relative_error(cached, whole, N * 16) < 1e-6);
        close_session(&s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(adamw_takes_one_step),
        cmocka_unit_test(adamw8bit_takes_one_step),
        cmocka_unit_test(sgd_and_lion_take_one_step),
        cmocka_unit_test(an_update_reaches_a_slice_of_a_parameter_alone),
        cmocka_unit_test(the_clip_scales_the_update),
        cmocka_unit_test(a_loss_that_is_not_finite_changes_nothing),
        cmocka_unit_test(attention_over_a_cache_equals_attention_over_the_sequence),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
