/* Products with a low-rank term in the room of their weights: the plan makes one product of two, and no result changes but by rounding. */
#include "testing.h"

#include "crank/ops.h"
#include "crank/random.h"
#include "test_device.h"

enum { WIDTH = 64, INNER = 128, TOKENS = 40, RANK = 6, ROOM = 16, LINEARS = 4, VOCAB = 24 };

typedef struct world {
    crank_context *context;
    crank_device  *device;
    crank_params  *params;
    crank_param   *weight[LINEARS], *A[LINEARS], *B[LINEARS], *norm, *head;
} world;

static const int64_t sizes[LINEARS][2] = {{WIDTH, WIDTH}, {INNER, WIDTH}, {INNER, WIDTH}, {WIDTH, INNER}}; /* out, in */

static crank_param *matrix(world *w, char kind, int i, int64_t rows, int64_t columns, bool trainable)
{
    char name[8];
    snprintf(name, sizeof name, "%c%d", kind, i);
    crank_param *param = crank_params_add(w->params, name, CRANK_ROLE_WEIGHT, CRANK_F32, 2, (int64_t[]){rows, columns});
    float       *values = calloc((size_t)(rows * columns), sizeof *values);
    crank_fill_normal(crank_stream_make(3, CRANK_RANDOM_INIT, crank_hash_name(name)), 0, 0, 0.2f, values, (size_t)(rows * columns));
    assert_ok(w->context, crank_param_write(w->context, param, values, CRANK_F32));
    free(values);
    param->trainable = trainable;
    return param;
}

static world world_new(int64_t room)
{
    world w = {.context = crank_context_new()};
    w.device = test_device(w.context, NULL);
    if (!w.device) fail_msg("%s", crank_message(w.context));
    w.device->room = room;
    w.params = crank_params_new(w.context, w.device);
    for (int i = 0; i < LINEARS; i++) {
        w.weight[i] = matrix(&w, 'w', i, sizes[i][0], sizes[i][1], false);
        w.A[i] = matrix(&w, 'a', i, RANK, sizes[i][1], true);
        w.B[i] = matrix(&w, 'b', i, sizes[i][0], RANK, true);
        if (room) assert_ok(w.context, crank_param_make_room(w.context, w.weight[i], room));
    }
    float ones[WIDTH];
    for (int i = 0; i < WIDTH; i++) ones[i] = 1;
    w.norm = crank_params_add(w.params, "norm", CRANK_ROLE_WEIGHT, CRANK_F32, 1, (int64_t[]){WIDTH});
    assert_ok(w.context, crank_param_write(w.context, w.norm, ones, CRANK_F32));
    w.head = matrix(&w, 'h', 0, VOCAB, WIDTH, false);
    return w;
}

static void world_free(world *w)
{
    crank_params_free(w->params);
    w->device->close(w->device);
    crank_context_free(w->context);
}

static crank_tensor *linear(crank_graph *graph, world *w, int i, crank_tensor *x)
{
    crank_tensor *y = crank_matmul(x, false, crank_use(graph, w->weight[i]), true), *t = crank_matmul(x, false, crank_use(graph, w->A[i]), true);
    return crank_add(y, crank_matmul_full(t, false, crank_use(graph, w->B[i]), true, 1.5, NULL, NULL, CRANK_DTYPES));
}

/* Loss and the gradients of all factors of a residual block of four linears, in `out`; returns their number. */
static size_t run(world *w, const crank_plan_options *options, float *out, crank_plan_summary *summary)
{
    crank_graph  *graph = crank_graph_new(w->context, w->device);
    crank_tensor *x = crank_input(graph, "x", CRANK_F32, 2, (int64_t[]){TOKENS, WIDTH}), *leaves[2 * LINEARS], *gradients[2 * LINEARS];
    crank_tensor *targets = crank_input(graph, "targets", CRANK_I32, 1, (int64_t[]){TOKENS}), *weights = crank_input(graph, "weights", CRANK_F32, 1, (int64_t[]){TOKENS});
    crank_block_begin(graph);
    crank_tensor *h = crank_rmsnorm(x, crank_use(graph, w->norm), 1e-6);
    h = crank_add(x, linear(graph, w, 0, h));
    crank_tensor *n = crank_rmsnorm(h, crank_use(graph, w->norm), 1e-6);
    h = crank_add(h, linear(graph, w, 3, crank_glu(linear(graph, w, 1, n), linear(graph, w, 2, n), CRANK_SILU)));
    crank_block_end(graph);
    crank_tensor *last = crank_rmsnorm(h, crank_use(graph, w->norm), 1e-6);
    crank_tensor *loss = crank_keep(crank_head_cross_entropy(last, crank_use(graph, w->head), NULL, targets, weights, NULL));
    for (int i = 0; i < LINEARS; i++) leaves[2 * i] = crank_use(graph, w->A[i]), leaves[2 * i + 1] = crank_use(graph, w->B[i]);
    assert_ok(w->context, crank_gradients(graph, &loss, NULL, 1, leaves, 2 * LINEARS, gradients));
    for (int i = 0; i < 2 * LINEARS; i++) crank_keep(gradients[i]);
    assert_ok(w->context, crank_plan(graph, options, summary));
    float   values[TOKENS * WIDTH], ones[TOKENS];
    int32_t ids[TOKENS];
    crank_fill_normal(crank_stream_make(5, CRANK_RANDOM_TEST, 0), 0, 0, 1, values, TOKENS * WIDTH);
    for (int i = 0; i < TOKENS; i++) ids[i] = (i * 5) % VOCAB, ones[i] = 1;
    assert_ok(w->context, crank_write(x, values));
    assert_ok(w->context, crank_write(targets, ids));
    assert_ok(w->context, crank_write(weights, ones));
    size_t count = 0;
    for (int repeat = 0; repeat < 2; repeat++) { /* the second finds what the first left in the room */
        assert_ok(w->context, crank_run(graph));
        count = 0;
        out[count++] = (float)crank_read_scalar(loss);
        for (int i = 0; i < 2 * LINEARS; i++) {
            assert_ok(w->context, crank_read(gradients[i], out + count));
            count += (size_t)(gradients[i]->dims[0] * gradients[i]->dims[1]);
        }
    }
    crank_graph_free(graph);
    return count;
}

static float plain[8192], augmented[8192];

static void one_product_gives_what_two_gave(void **state)
{
    (void)state;
    world              bare = world_new(0), roomy = world_new(ROOM);
    crank_plan_options options[3] = {{0}, {.no_recompute = true}, {.no_fusion = true}};
    for (int k = 0; k < 3; k++) {
        crank_plan_summary two, one;
        size_t             count = run(&bare, &options[k], plain, &two);
        assert_int_equal(run(&roomy, &options[k], augmented, &one), count);
        assert_true(relative_error(augmented, plain, count) < 2e-6);
        /* the four products of the forward pass, and in the reverse pass those whose gradient is a residual stream's */
        if (roomy.device->host && k < 2) assert_true(one.fused >= two.fused + 4);
        else if (k == 2) assert_int_equal(one.fused, two.fused);
    }
    world_free(&bare), world_free(&roomy);
}

static void a_weight_with_room_reads_and_writes_as_one_without(void **state)
{
    (void)state;
    world  w = world_new(ROOM);
    float  values[WIDTH * WIDTH], back[WIDTH * WIDTH];
    double wide[WIDTH * WIDTH];
    crank_param *param = w.weight[0];
    assert_int_equal(param->view.strides[0], WIDTH + ROOM);
    assert_int_equal(crank_param_bytes(param), (WIDTH + ROOM) * (WIDTH + ROOM) * sizeof(float));
    assert_ok(w.context, crank_param_read(w.context, param, back, CRANK_F32)); /* what stood there before it got room */
    crank_fill_normal(crank_stream_make(3, CRANK_RANDOM_INIT, crank_hash_name("w0")), 0, 0, 0.2f, values, WIDTH * WIDTH);
    assert_memory_equal(back, values, sizeof values);
    for (int i = 0; i < WIDTH * WIDTH; i++) wide[i] = i;
    assert_ok(w.context, crank_param_write(w.context, param, wide, CRANK_F64));
    assert_ok(w.context, crank_param_read(w.context, param, back, CRANK_F32));
    for (int i = 0; i < WIDTH * WIDTH; i++) assert_true(back[i] == (float)i);
    assert_int_not_equal(crank_param_make_room(w.context, w.norm, ROOM), CRANK_OK); /* no matrix */
    world_free(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_product_gives_what_two_gave),
        cmocka_unit_test(a_weight_with_room_reads_and_writes_as_one_without),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
