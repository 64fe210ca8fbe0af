/* SLTrain: what it starts as, its places, its gradients, its reach, and merging. */
#include "linear/world.h"

#include "crank/linalg.h"

enum { N = 5, IN = 7, OUT = 6, R = 2, PLACES = 12 }; /* density .3 of 42 */

static double x[N * IN], dy[N * OUT];

static int fill(void **state)
{
    (void)state;
    world_fill(x, N * IN, 1, 1);
    world_fill(dy, N * OUT, 2, 1);
    return 0;
}

static void read_index(world *w, const char *name, int32_t *out)
{
    assert_ok(w->context, crank_param_read(w->context, world_param(w, name), out, CRANK_I32));
}

/* s B A + S [OUT, IN] */
static void dense(world *w, double s, double *W)
{
    double *A = world_values(w, "proj.sltrain.A"), *B = world_values(w, "proj.sltrain.B"), *v = world_values(w, "proj.sltrain.v");
    int32_t index[PLACES];
    read_index(w, "proj.sltrain.index", index);
    for (int o = 0; o < OUT; o++)
        for (int i = 0; i < IN; i++) {
            W[o * IN + i] = 0;
            for (int k = 0; k < R; k++) W[o * IN + i] += s * B[o * R + k] * A[k * IN + i];
        }
    for (int k = 0; k < PLACES; k++) W[index[k]] += v[k];
    free(A), free(B), free(v);
}

static void product(const double *W, double *y)
{
    for (int n = 0; n < N; n++)
        for (int o = 0; o < OUT; o++) {
            y[n * OUT + o] = 0;
            for (int i = 0; i < IN; i++) y[n * OUT + o] += x[n * IN + i] * W[o * IN + i];
        }
}

static void it_starts_as_its_sparse_part(void **state)
{
    (void)state;
    world         w = world_open(CRANK_F64);
    crank_linear *linear = world_linear(&w, "proj", CRANK_LINEAR_DENSE, IN, OUT, false);
    world_attach(&w, "sltrain", "rank=2 alpha=4 density=0.3", "proj");
    double W[OUT * IN], y[N * OUT];
    double *B = world_values(&w, "proj.sltrain.B"), *v = world_values(&w, "proj.sltrain.v");
    for (int k = 0; k < OUT * R; k++) assert_true(B[k] == 0);
    for (int k = 0; k < PLACES; k++) assert_true(fabs(v[k]) <= 1 / sqrt(IN) && v[k] != 0);
    dense(&w, 2, W);
    product(W, y);
    pass p = { .n = N, .x = x, .compute = CRANK_F64 };
    world_run(&w, linear, &p);
    assert_near(p.y, y, N * OUT, 1e-12);
    free(B), free(v);
    pass_free(&p);
    world_close(&w);
}

static void places_are_distinct_ascending_and_uniform(void **state)
{
    (void)state;
    enum { SIZE = 40, COUNT = 160 }; /* density .1 of 1600 */
    int    rows[SIZE] = { 0 }, cols[SIZE] = { 0 }, worlds = 60;
    double chi[2] = { 0 };
    for (int s = 0; s < worlds; s++) {
        world w = world_open(CRANK_F32);
        char  name[32];
        snprintf(name, sizeof name, "proj%d", s);
        world_linear(&w, name, CRANK_LINEAR_DENSE, SIZE, SIZE, false);
        world_attach(&w, "sltrain", "rank=1 density=0.1", name);
        int32_t index[COUNT];
        snprintf(name, sizeof name, "proj%d.sltrain.index", s);
        assert_int_equal(world_count(world_param(&w, name)), COUNT);
        read_index(&w, name, index);
        for (int k = 0; k < COUNT; k++) {
            assert_true(index[k] >= 0 && index[k] < SIZE * SIZE && (k == 0 || index[k] > index[k - 1]));
            rows[index[k] / SIZE]++, cols[index[k] % SIZE]++;
        }
        world_close(&w);
    }
    double expected = (double)worlds * COUNT / SIZE;
    for (int i = 0; i < SIZE; i++) {
        chi[0] += (rows[i] - expected) * (rows[i] - expected) / expected;
        chi[1] += (cols[i] - expected) * (cols[i] - expected) / expected;
    }
    assert_true(chi[0] < 72 && chi[1] < 72); /* 39 degrees of freedom, p = 0.001 */
}

static void gradients_are_those_of_the_dense_weight(void **state)
{
    (void)state;
    static const crank_dtype computes[] = { CRANK_F64, CRANK_F32 };
    for (int c = 0; c < 2; c++) {
        world         w = world_open(CRANK_F64);
        crank_linear *linear = world_linear(&w, "proj", CRANK_LINEAR_DENSE, IN, OUT, true);
        world_attach(&w, "sltrain", "rank=2 alpha=4 density=0.3", "proj");
        world_randomise(&w, "proj.sltrain.B", 0.5);
        double  W[OUT * IN], G[OUT * IN], gA[R * IN] = { 0 }, gB[OUT * R] = { 0 }, gv[PLACES], gx[N * IN] = { 0 };
        double *A = world_values(&w, "proj.sltrain.A"), *B = world_values(&w, "proj.sltrain.B");
        int32_t index[PLACES];
        read_index(&w, "proj.sltrain.index", index);
        dense(&w, 2, W);
        for (int o = 0; o < OUT; o++)
            for (int i = 0; i < IN; i++) {
                G[o * IN + i] = 0;
                for (int n = 0; n < N; n++) {
                    G[o * IN + i] += dy[n * OUT + o] * x[n * IN + i];
                    gx[n * IN + i] += dy[n * OUT + o] * W[o * IN + i];
                }
                for (int k = 0; k < R; k++) gA[k * IN + i] += 2 * B[o * R + k] * G[o * IN + i], gB[o * R + k] += 2 * G[o * IN + i] * A[k * IN + i];
            }
        for (int k = 0; k < PLACES; k++) gv[k] = G[index[k]];
        static const char *const wrt[] = { "proj.sltrain.A", "proj.sltrain.B", "proj.sltrain.v", NULL };
        pass                     p = { .n = N, .x = x, .dy = dy, .compute = computes[c], .training = true, .wrt = wrt };
        double                   tolerance = c ? 1e-5 : 1e-12;
        world_run(&w, linear, &p);
        assert_near(p.grads[0], gA, R * IN, tolerance);
        assert_near(p.grads[1], gB, OUT * R, tolerance);
        assert_near(p.grads[2], gv, PLACES, tolerance);
        assert_near(p.dx, gx, N * IN, tolerance);
        free(A), free(B);
        pass_free(&p);
        world_close(&w);
    }
}

static void the_base_is_replaced_or_added_to(void **state)
{
    (void)state;
    for (int keep = 0; keep < 2; keep++) {
        world         w = world_open(CRANK_F64);
        crank_linear *linear = world_linear(&w, "proj", CRANK_LINEAR_DENSE, IN, OUT, false);
        world_attach(&w, "sltrain", keep ? "rank=2 alpha=4 density=0.3 base=keep" : "rank=2 alpha=4 density=0.3", "proj");
        world_randomise(&w, "proj.sltrain.B", 0.5);
        double W[OUT * IN], y[N * OUT], *base = world_values(&w, "proj.weight");
        dense(&w, 2, W);
        for (int i = 0; keep && i < OUT * IN; i++) W[i] += base[i];
        product(W, y);
        pass before = { .n = N, .x = x, .compute = CRANK_F64 }, after = before;
        world_run(&w, linear, &before);
        assert_near(before.y, y, N * OUT, 1e-12);
        assert_ok(w.context, crank_linears_merge(w.context, w.linears, true, false));
        world_run(&w, linear, &after);
        assert_near(after.y, y, N * OUT, 1e-12);
        double *merged = world_values(&w, "proj.weight");
        assert_near(merged, W, OUT * IN, 1e-12);
        free(base), free(merged);
        pass_free(&before), pass_free(&after);
        world_close(&w);
    }
}

static void either_part_may_be_missing_and_both_may_not(void **state)
{
    (void)state;
    static const char *const settings[] = { "rank=0 density=0.3", "rank=2 density=0" };
    for (int k = 0; k < 2; k++) {
        world         w = world_open(CRANK_F32);
        crank_linear *linear = world_linear(&w, "proj", CRANK_LINEAR_DENSE, IN, OUT, false);
        world_attach(&w, "sltrain", settings[k], "proj");
        pass p = { .n = N, .x = x, .dy = dy, .compute = CRANK_F32, .training = true };
        world_run(&w, linear, &p);
        pass_free(&p);
        world_close(&w);
    }
    world w = world_open(CRANK_F32);
    world_linear(&w, "proj", CRANK_LINEAR_DENSE, IN, OUT, false);
    assert_null(world_try(&w, "sltrain", "rank=0 density=0", &(crank_attach_options){ .targets = "proj" }));
    assert_int_equal(crank_last_status(w.context), CRANK_USAGE);
    world_close(&w);
}

/* rank(s B A) <= r, and with a sparse part of enough places W has full rank. */
static void the_sparse_part_lifts_the_rank(void **state)
{
    (void)state;
    enum { SIZE = 32 };
    world w = world_open(CRANK_F32);
    world_linear(&w, "proj", CRANK_LINEAR_DENSE, SIZE, SIZE, false);
    world_attach(&w, "sltrain", "rank=2 density=0.3", "proj");
    assert_ok(w.context, crank_linears_merge(w.context, w.linears, true, false));
    double *W = world_values(&w, "proj.weight"), s[SIZE];
    assert_ok(w.context, crank_svd(w.context, crank_matrix_f64(W, SIZE, SIZE), CRANK_INSIDE_F64, crank_matrix_none(), s, crank_matrix_none()));
    assert_int_equal(crank_numerical_rank(s, SIZE, 1e-6), SIZE);
    free(W);
    world_close(&w);
}

static void a_trained_scale_starts_at_tanh_one(void **state)
{
    (void)state;
    world         w = world_open(CRANK_F64);
    crank_linear *linear = world_linear(&w, "proj", CRANK_LINEAR_DENSE, IN, OUT, false);
    world_attach(&w, "sltrain", "rank=2 density=0.3 train_scale=true", "proj");
    world_randomise(&w, "proj.sltrain.B", 0.5);
    double W[OUT * IN], y[N * OUT];
    dense(&w, tanh(1), W);
    product(W, y);
    static const char *const wrt[] = { "proj.sltrain.theta", NULL };
    pass p = { .n = N, .x = x, .dy = dy, .compute = CRANK_F64, .training = true, .wrt = wrt };
    world_run(&w, linear, &p);
    assert_near(p.y, y, N * OUT, 1e-12);
    assert_true(p.grads[0][0] != 0);
    pass_free(&p);
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_starts_as_its_sparse_part),
        cmocka_unit_test(places_are_distinct_ascending_and_uniform),
        cmocka_unit_test(gradients_are_those_of_the_dense_weight),
        cmocka_unit_test(the_base_is_replaced_or_added_to),
        cmocka_unit_test(either_part_may_be_missing_and_both_may_not),
        cmocka_unit_test(the_sparse_part_lifts_the_rank),
        cmocka_unit_test(a_trained_scale_starts_at_tanh_one),
    };
    return cmocka_run_group_tests(tests, fill, NULL);
}
