/* Products with frozen weights of four and eight bits: the gradient of x is that of the weights the codes stand for, dense copies are not
 * kept for the reverse pass, and in eight bits the reverse is the same product on the quantised dy. */
#include "testing.h"

#include "crank/ops.h"
#include "graph/graph.h"
#include "tensor/fp8.h"
#include "tensor/nf4.h"
#include "test_device.h"

enum { N = 6, IN = 32, OUT = 24 };

typedef struct world {
    crank_context *context;
    crank_device  *device;
    crank_params  *params;
    crank_param   *x, *four, *absmax, *eight, *scale, *turned, *turned_scale;
    float          w[OUT * IN], dense[OUT * IN], wt[IN * OUT];
} world;

static float draw(int i) { return (float)((i * 7919 + i * i % 613) % 2003 - 1001) / 1024.0f; }

static crank_param *add(world *w, const char *name, crank_dtype type, int rank, const int64_t *dims, const void *values)
{
    crank_param *param = crank_params_add(w->params, name, CRANK_ROLE_WEIGHT, type, rank, dims);
    assert_non_null(param);
    memcpy(param->view.data, values, crank_view_bytes(&param->view));
    return param;
}

static world *open_world(void)
{
    world  *w = calloc(1, sizeof *w);
    float   x[N * IN], absmax[OUT * IN / 64], scale[OUT], turned_scale[IN];
    uint8_t four[OUT * IN / 2], eight[OUT * IN], turned[OUT * IN];
    w->context = crank_context_new();
    w->device = test_device(w->context, NULL);
    w->params = crank_params_new(w->context, w->device);
    for (int i = 0; i < N * IN; i++) x[i] = draw(i + 5000);
    for (int i = 0; i < OUT * IN; i++) w->w[i] = draw(i), w->wt[i % IN * OUT + i / IN] = draw(i);
    nf4_quantize(w->w, OUT * IN, NF4_BLOCK, 1, four, absmax);
    nf4_dequantize(four, &(nf4_scales){.plain = absmax}, NF4_BLOCK, 0, OUT * IN, w->dense);
    fp8_quantize_rows(w->w, OUT, IN, IN, 1, eight, scale);
    fp8_quantize_rows(w->wt, IN, OUT, OUT, 1, turned, turned_scale);
    w->x = add(w, "x", CRANK_F32, 2, (int64_t[]){N, IN}, x);
    w->x->trainable = true;
    w->four = add(w, "four", CRANK_NF4, 2, (int64_t[]){OUT, IN}, four);
    w->absmax = add(w, "absmax", CRANK_F32, 1, (int64_t[]){OUT * IN / 64}, absmax);
    w->eight = add(w, "eight", CRANK_F8E4M3, 2, (int64_t[]){OUT, IN}, eight);
    w->scale = add(w, "scale", CRANK_F32, 1, (int64_t[]){OUT}, scale);
    w->turned = add(w, "turned", CRANK_F8E4M3, 2, (int64_t[]){IN, OUT}, turned);
    w->turned_scale = add(w, "turned_scale", CRANK_F32, 1, (int64_t[]){IN}, turned_scale);
    return w;
}

static void close_world(world *w)
{
    crank_params_free(w->params);
    w->device->close(w->device);
    crank_context_free(w->context);
    free(w);
}

/* y, and dx of the sum of sin y. kind 0: the dense weight, 1: four bits, 2: eight. *nodes: of dequantize in the plan. */
static void run(world *w, int kind, float *y_out, float *dx_out, int *made)
{
    crank_graph  *graph = crank_graph_new(w->context, w->device);
    crank_tensor *x = crank_use(graph, w->x), *y, *dx = NULL, *dense = NULL, *scale;
    if (kind == 0) dense = crank_input(graph, "w", CRANK_F32, 2, (int64_t[]){OUT, IN});
    if (kind == 1) dense = crank_dequantize(crank_use(graph, w->four), crank_use(graph, w->absmax), NULL, NULL, NULL, NF4_BLOCK, CRANK_F32);
    if (kind < 2) y = crank_matmul(x, false, dense, true);
    else {
        crank_tensor *q = crank_quantize_rows(x, &scale);
        y = crank_scaled_matmul(q, scale, crank_use(graph, w->eight), crank_use(graph, w->scale), crank_use(graph, w->turned), crank_use(graph, w->turned_scale), NULL, CRANK_F32);
    }
    crank_tensor *loss = crank_sum(crank_unary(CRANK_SIN, y));
    assert_ok(w->context, crank_gradients(graph, &loss, NULL, 1, &x, 1, &dx));
    crank_keep(y), crank_keep(dx);
    assert_ok(w->context, crank_plan(graph, NULL, NULL));
    if (kind == 0) assert_ok(w->context, crank_write(dense, w->dense));
    assert_ok(w->context, crank_run(graph));
    assert_ok(w->context, crank_read(y, y_out));
    assert_ok(w->context, crank_read(dx, dx_out));
    *made = 0;
    for (int i = 0; i < graph->node_count; i++) *made += !strcmp(graph->nodes[i]->op->name, "dequantize");
    crank_graph_free(graph);
}

static void four_bits_give_the_product_and_gradient_of_their_values(void **state)
{
    (void)state;
    world *w = open_world();
    float  y[2][N * OUT], dx[2][N * IN];
    int    made;
    for (int kind = 0; kind < 2; kind++) run(w, kind, y[kind], dx[kind], &made);
    assert_memory_equal(y[0], y[1], sizeof y[0]);
    assert_memory_equal(dx[0], dx[1], sizeof dx[0]);
    assert_int_equal(made, 2); /* once in each direction */
    close_world(w);
}

/* Differences of the loss in x through the values of four bits. */
static void the_gradient_is_the_difference_of_the_loss(void **state)
{
    (void)state;
    world *w = open_world();
    float  y[N * OUT], dx[N * IN], *x = w->x->view.data;
    int    made;
    run(w, 1, y, dx, &made);
    for (int i = 0; i < N * IN; i += 17) {
        double sides[2] = {0, 0}, at = x[i];
        for (int side = 0; side < 2; side++)
            for (int o = 0; o < OUT; o++) {
                double sum = 0;
                for (int k = 0; k < IN; k++) sum += (double)w->dense[o * IN + k] * (i % IN == k ? at + (side ? -1e-4 : 1e-4) : (double)x[i / IN * IN + k]);
                sides[side] += sin(sum);
            }
        assert_true(fabs((sides[0] - sides[1]) / 2e-4 - (double)dx[i]) < 1e-4 * fmax(1, fabs((double)dx[i])));
    }
    close_world(w);
}

static void eight_bits_multiply_what_their_codes_say_in_both_directions(void **state)
{
    (void)state;
    world  *w = open_world();
    float   y[N * OUT], dx[N * IN], dy[N * OUT], scale[N];
    uint8_t q[N * OUT > N * IN ? N * OUT : N * IN];
    int     made;
    run(w, 2, y, dx, &made);
    fp8_quantize_rows(w->x->view.data, N, IN, IN, 1, q, scale);
    for (int i = 0; i < N * OUT; i++) {
        double         sum = 0;
        const uint8_t *row = (const uint8_t *)w->eight->view.data + i % OUT * IN;
        for (int k = 0; k < IN; k++) sum += (double)fp8_to_float(q[i / OUT * IN + k]) * (double)fp8_to_float(row[k]);
        sum *= (double)scale[i / OUT] * (double)((const float *)w->scale->view.data)[i % OUT];
        assert_true(fabs(sum - (double)y[i]) < 1e-5 * fmax(1, fabs(sum)));
        dy[i] = cosf(y[i]);
    }
    fp8_quantize_rows(dy, N, OUT, OUT, 1, q, scale);
    double error = 0, norm = 0;
    for (int i = 0; i < N * IN; i++) {
        double         sum = 0, exact = 0;
        const uint8_t *row = (const uint8_t *)w->turned->view.data + i % IN * OUT;
        for (int k = 0; k < OUT; k++) {
            sum += (double)fp8_to_float(q[i / IN * OUT + k]) * (double)fp8_to_float(row[k]);
            exact += (double)dy[i / IN * OUT + k] * (double)w->w[k * IN + i % IN];
        }
        sum *= (double)scale[i / IN] * (double)((const float *)w->turned_scale->view.data)[i % IN];
        if (fabs(sum - (double)dx[i]) > 0.02 * fmax(1, fabs(sum))) fail_msg("dx %d is %g, not %g", i, (double)dx[i], sum); /* a value of dy on a border may fall to either side */
        error += ((double)dx[i] - exact) * ((double)dx[i] - exact), norm += exact * exact;
    }
    assert_true(sqrt(error / norm) < 0.06); /* two roundings of 2^-4 at most, 0.026 each in the mean */
    assert_int_equal(made, 0);
    close_world(w);
}

static void weights_that_do_not_fit_are_refused(void **state)
{
    (void)state;
    world        *w = open_world();
    crank_graph  *graph = crank_graph_new(w->context, w->device);
    crank_tensor *scale, *q = crank_quantize_rows(crank_use(graph, w->x), &scale);
    crank_scaled_matmul(q, scale, crank_use(graph, w->turned), crank_use(graph, w->turned_scale), crank_use(graph, w->eight), crank_use(graph, w->scale), NULL, CRANK_F32);
    assert_int_equal(crank_graph_status(graph), CRANK_USAGE);
    crank_graph_free(graph);
    graph = crank_graph_new(w->context, w->device);
    crank_dequantize(crank_use(graph, w->four), crank_use(graph, w->scale), NULL, NULL, NULL, NF4_BLOCK, CRANK_F32);
    assert_int_equal(crank_graph_status(graph), CRANK_USAGE);
    crank_graph_free(graph);
    close_world(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(four_bits_give_the_product_and_gradient_of_their_values), cmocka_unit_test(the_gradient_is_the_difference_of_the_loss),
        cmocka_unit_test(eight_bits_multiply_what_their_codes_say_in_both_directions), cmocka_unit_test(weights_that_do_not_fit_are_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
