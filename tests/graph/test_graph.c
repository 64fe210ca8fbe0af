/* The graph's promises: reverse passes, planning that changes no number, updates that free gradients, no allocation while running. */
#include "testing.h"

#include "crank/ops.h"
#include "crank/random.h"
#include "test_device.h"

/* ---- allocations of the whole process, counted while a flag is set ---- */
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define COUNTS_ALLOCATIONS 1
extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t), *__libc_memalign(size_t, size_t);
static volatile bool counting;
static volatile long allocations;
void *malloc(size_t n) { allocations += counting; return __libc_malloc(n); }
void *calloc(size_t n, size_t m) { allocations += counting; return __libc_calloc(n, m); }
void *realloc(void *p, size_t n) { allocations += counting; return __libc_realloc(p, n); }
void *aligned_alloc(size_t a, size_t n) { allocations += counting; return __libc_memalign(a, n); }
#endif

enum { WIDTH = 16, LAYERS = 3, VOCAB = 40, MANY = 96, FEW = 4 };

typedef struct world {
    crank_context *context;
    crank_device  *device;
    crank_params  *params;
    crank_param   *weights[LAYERS][3], *norms[LAYERS], *head;
} world;

static crank_param *matrix(world *w, const char *name, int64_t rows, int64_t columns, float scale)
{
    int64_t dims[2] = {rows, columns};
    crank_param *param = crank_params_add(w->params, name, CRANK_ROLE_WEIGHT, CRANK_F32, 2, dims);
    float *values = calloc((size_t)(rows * columns), sizeof *values);
    crank_fill_normal(crank_stream_make(7, CRANK_RANDOM_INIT, crank_hash_name(name)), 0, 0, scale, values, (size_t)(rows * columns));
    assert_ok(w->context, crank_param_write(w->context, param, values, CRANK_F32));
    free(values);
    param->trainable = true;
    return param;
}

static world world_new(void)
{
    world w = {.context = crank_context_new()};
    w.device = test_device(w.context, NULL);
    if (!w.device) fail_msg("%s", crank_message(w.context));
    w.params = crank_params_new(w.context, w.device);
    for (int l = 0; l < LAYERS; l++) {
        char name[32];
        for (int k = 0; k < 3; k++) {
            snprintf(name, sizeof name, "w%d.%d", l, k);
            w.weights[l][k] = matrix(&w, name, k < 2 ? 2 * WIDTH : WIDTH, k < 2 ? WIDTH : 2 * WIDTH, 0.3f);
        }
        snprintf(name, sizeof name, "norm%d", l);
        int64_t width = WIDTH;
        float   ones[WIDTH];
        for (int i = 0; i < WIDTH; i++) ones[i] = 1;
        w.norms[l] = crank_params_add(w.params, name, CRANK_ROLE_WEIGHT, CRANK_F32, 1, &width);
        assert_ok(w.context, crank_param_write(w.context, w.norms[l], ones, CRANK_F32));
    }
    w.head = matrix(&w, "head", VOCAB, WIDTH, 0.3f);
    return w;
}

static void world_free(world *w)
{
    crank_params_free(w->params);
    w->device->close(w->device);
    crank_context_free(w->context);
}

typedef struct recorded {
    crank_graph  *graph;
    crank_tensor *loss, *gradients[LAYERS * 3 + 1], *x, *targets, *weights;
    crank_param  *params[LAYERS * 3 + 1];
} recorded;

/* A small residual network with a cross-entropy head; `update` adds plain gradient descent. */
static recorded record(world *w, int64_t tokens, bool keep, bool update)
{
    recorded r = {.graph = crank_graph_new(w->context, w->device)};
    int64_t  dims[2] = {tokens, WIDTH}, n = tokens;
    r.x = crank_input(r.graph, "x", CRANK_F32, 2, dims);
    r.targets = crank_input(r.graph, "targets", CRANK_I32, 1, &n);
    r.weights = crank_input(r.graph, "weights", CRANK_F32, 1, &n);
    crank_tensor *h = r.x, *leaves[LAYERS * 3 + 1];
    int           count = 0;
    for (int l = 0; l < LAYERS; l++) {
        crank_block_begin(r.graph);
        crank_tensor *y = crank_rmsnorm(h, crank_use(r.graph, w->norms[l]), 1e-6);
        crank_tensor *g = crank_matmul(y, false, leaves[count] = crank_use(r.graph, w->weights[l][0]), true);
        r.params[count++] = w->weights[l][0];
        crank_tensor *u = crank_matmul(y, false, leaves[count] = crank_use(r.graph, w->weights[l][1]), true);
        r.params[count++] = w->weights[l][1];
        crank_tensor *d = crank_matmul(crank_glu(g, u, CRANK_SILU), false, leaves[count] = crank_use(r.graph, w->weights[l][2]), true);
        r.params[count++] = w->weights[l][2];
        h = crank_add(h, d);
        crank_block_end(r.graph);
    }
    leaves[count] = crank_use(r.graph, w->head);
    r.params[count++] = w->head;
    r.loss = crank_keep(crank_head_cross_entropy(h, leaves[count - 1], NULL, r.targets, r.weights, NULL));
    assert_ok(w->context, crank_gradients(r.graph, &r.loss, NULL, 1, leaves, count, r.gradients));
    for (int i = 0; i < count; i++) {
        assert_non_null(r.gradients[i]);
        if (keep) crank_keep(r.gradients[i]);
        if (update) crank_assign(leaves[i], crank_scale(r.gradients[i], -0.01), true);
    }
    return r;
}

static void feed(recorded *r)
{
    float   x[MANY * WIDTH], weights[MANY];
    int32_t targets[MANY];
    crank_fill_normal(crank_stream_make(9, CRANK_RANDOM_TEST, 0), 0, 0, 1, x, MANY * WIDTH);
    for (int i = 0; i < MANY; i++) {
        targets[i] = (i * 7) % VOCAB;
        weights[i] = i % 5 ? 1 : 0;
    }
    crank_context *context = crank_graph_context(r->graph);
    assert_ok(context, crank_write(r->x, x));
    assert_ok(context, crank_write(r->targets, targets));
    assert_ok(context, crank_write(r->weights, weights));
}

/* All kept gradients of one run, one after the other; returns their number. */
static size_t run_gradients(world *w, const crank_plan_options *options, float *out, crank_plan_summary *summary)
{
    recorded r = record(w, MANY, true, false);
    size_t   count = 0;
    assert_ok(w->context, crank_plan(r.graph, options, summary));
    feed(&r);
    assert_ok(w->context, crank_run(r.graph));
    out[count++] = (float)crank_read_scalar(r.loss);
    for (int i = 0; i < LAYERS * 3 + 1; i++) {
        assert_ok(w->context, crank_read(r.gradients[i], out + count));
        count += (size_t)crank_view_count(&r.params[i]->view);
    }
    crank_graph_free(r.graph);
    return count;
}

static float plain[1 << 14], other[1 << 14];

/* All weights after one step of gradient descent from the same start. */
static size_t run_update(const crank_plan_options *options, float *out, crank_plan_summary *summary)
{
    world    w = world_new();
    recorded r = record(&w, MANY, false, true);
    size_t   count = 0;
    assert_ok(w.context, crank_plan(r.graph, options, summary));
    feed(&r);
    assert_ok(w.context, crank_run(r.graph));
    for (int i = 0; i < LAYERS * 3 + 1; i++) {
        assert_ok(w.context, crank_param_read(w.context, r.params[i], out + count, CRANK_F32));
        count += (size_t)crank_view_count(&r.params[i]->view);
    }
    crank_graph_free(r.graph);
    world_free(&w);
    return count;
}

static void recomputation_changes_no_bit_and_saves_memory(void **state)
{
    (void)state;
    crank_plan_options off = {.no_recompute = true}, on = {0};
    crank_plan_summary all, cheap, blocks;
    size_t             count = run_update(&off, plain, &all);
    run_update(&on, other, &cheap);
    assert_memory_equal(plain, other, count * sizeof *plain);
    assert_true(cheap.arena < all.arena && cheap.recomputed_nodes > 0 && cheap.recomputed_blocks == 0);
    on.memory_limit = cheap.arena - 1;
    run_update(&on, other, &blocks);
    assert_memory_equal(plain, other, count * sizeof *plain);
    assert_true(blocks.arena < cheap.arena && blocks.recomputed_blocks > 0);
}

static void fusion_changes_only_rounding(void **state)
{
    (void)state;
    world              w = world_new();
    crank_plan_options off = {.no_fusion = true}, on = {0};
    crank_plan_summary summary;
    size_t             count = run_gradients(&w, &off, plain, NULL);
    run_gradients(&w, &on, other, &summary);
    assert_true(summary.fused > 0);
    assert_true(relative_error(other, plain, count) < 1e-6);
    world_free(&w);
}

static void a_limit_that_nothing_meets_is_refused_with_numbers(void **state)
{
    (void)state;
    world              w = world_new();
    recorded           r = record(&w, FEW, false, false);
    crank_plan_options tiny = {.memory_limit = 64};
    assert_int_equal(crank_plan(r.graph, &tiny, NULL), CRANK_FAILED);
    assert_non_null(strstr(crank_message(w.context), "MiB"));
    crank_graph_free(r.graph);
    world_free(&w);
}

static void updates_free_gradients_inside_the_reverse_pass(void **state)
{
    (void)state;
    world              w = world_new();
    crank_plan_summary kept, freed;
    crank_plan_options options = {.no_recompute = true};
    recorded           r = record(&w, FEW, true, false); /* every gradient lives until the end */
    assert_ok(w.context, crank_plan(r.graph, &options, &kept));
    crank_graph_free(r.graph);
    r = record(&w, FEW, false, true);
    assert_ok(w.context, crank_plan(r.graph, &options, &freed));
    size_t gradients = 0;
    for (int i = 0; i < LAYERS * 3 + 1; i++) gradients += crank_view_bytes(&r.params[i]->view);
    assert_true(freed.arena + gradients / 3 < kept.arena);
    crank_graph_free(r.graph);
    world_free(&w);
}

/* The steps themselves must be those of updates that wait for the whole reverse pass. */
static void hoisted_updates_give_the_same_weights(void **state)
{
    (void)state;
    world    w = world_new();
    recorded r = record(&w, FEW, true, false);
    float    expected[2 * WIDTH * WIDTH], gradient[2 * WIDTH * WIDTH], got[2 * WIDTH * WIDTH];
    assert_ok(w.context, crank_plan(r.graph, NULL, NULL));
    feed(&r);
    assert_ok(w.context, crank_run(r.graph));
    assert_ok(w.context, crank_read(r.gradients[0], gradient));
    assert_ok(w.context, crank_param_read(w.context, r.params[0], expected, CRANK_F32));
    for (int i = 0; i < 2 * WIDTH * WIDTH; i++) expected[i] += -0.01f * gradient[i];
    crank_graph_free(r.graph);
    r = record(&w, FEW, false, true);
    assert_ok(w.context, crank_plan(r.graph, NULL, NULL));
    feed(&r);
    assert_ok(w.context, crank_run(r.graph));
    assert_ok(w.context, crank_param_read(w.context, r.params[0], got, CRANK_F32));
    assert_true(relative_error(got, expected, 2 * WIDTH * WIDTH) < 1e-7);
    crank_graph_free(r.graph);
    world_free(&w);
}

static void nothing_is_allocated_after_the_first_run(void **state)
{
    (void)state;
#ifdef COUNTS_ALLOCATIONS
    world    w = world_new();
    recorded r = record(&w, FEW, false, true);
    assert_ok(w.context, crank_plan(r.graph, NULL, NULL));
    feed(&r);
    assert_ok(w.context, crank_run(r.graph));
    allocations = 0;
    counting = true;
    crank_status status = crank_run(r.graph);
    counting = false;
    assert_ok(w.context, status);
    assert_int_equal(allocations, 0);
    crank_graph_free(r.graph);
    world_free(&w);
#else
    skip();
#endif
}

static void a_failed_graph_keeps_its_first_error(void **state)
{
    (void)state;
    world         w = world_new();
    crank_graph  *graph = crank_graph_new(w.context, w.device);
    int64_t       dims[2] = {3, 4};
    crank_tensor *a = crank_input(graph, "a", CRANK_F32, 2, dims), *b = crank_input(graph, "b", CRANK_F32, 2, dims);
    crank_tensor *c = crank_matmul(a, false, b, false); /* 4 against 3 */
    crank_add(crank_scale(c, 2), crank_sum(c));
    assert_int_equal(crank_graph_status(graph), CRANK_USAGE);
    char first[512];
    snprintf(first, sizeof first, "%s", crank_message(w.context));
    crank_matmul(b, true, crank_reshape(c, 1, dims), false);
    assert_int_equal(crank_plan(graph, NULL, NULL), CRANK_USAGE);
    assert_string_equal(crank_message(w.context), first);
    assert_non_null(strstr(first, "matmul"));
    crank_graph_free(graph);
    world_free(&w);
}

static void a_dry_plan_takes_no_memory(void **state)
{
    (void)state;
    world              w = world_new();
    crank_params      *params = crank_params_new(w.context, w.device);
    int64_t            dims[2] = {1 << 22, 1 << 20}; /* 16 TiB */
    crank_params_defer(params, true);
    crank_param       *huge = crank_params_add(params, "huge", CRANK_ROLE_WEIGHT, CRANK_F32, 2, dims);
    crank_graph       *graph = crank_graph_new(w.context, w.device);
    int64_t            x[2] = {8, 1 << 20};
    crank_tensor      *y = crank_keep(crank_matmul(crank_input(graph, "x", CRANK_F32, 2, x), false, crank_use(graph, huge), true));
    crank_plan_options dry = {.dry = true};
    crank_plan_summary summary;
    assert_ok(w.context, crank_plan(graph, &dry, &summary));
    assert_true(summary.arena >= (size_t)8 * (1 << 22) * 4);
    assert_int_equal(y->dims[1], 1 << 22);
    assert_int_equal(crank_run(graph), CRANK_USAGE);
    crank_graph_free(graph);
    crank_params_free(params);
    world_free(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(recomputation_changes_no_bit_and_saves_memory),
        cmocka_unit_test(fusion_changes_only_rounding),
        cmocka_unit_test(a_limit_that_nothing_meets_is_refused_with_numbers),
        cmocka_unit_test(updates_free_gradients_inside_the_reverse_pass),
        cmocka_unit_test(hoisted_updates_give_the_same_weights),
        cmocka_unit_test(nothing_is_allocated_after_the_first_run),
        cmocka_unit_test(a_failed_graph_keeps_its_first_error),
        cmocka_unit_test(a_dry_plan_takes_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
