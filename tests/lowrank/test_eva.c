/* EVA: principal components in batches, the start, ranks by explained variance, errors. */
#include "lowrank/observe.h"
#include "lowrank/pca.h"

enum { ROWS = 200 };

/* ---- components ---- */

static void components(int64_t n, int64_t keep, pca_way way, int64_t batch, const float *rows, float *V, double *variance, double *total)
{
    crank_context *context = crank_context_new();
    pca           *p = pca_new(context, n, keep, way);
    assert_non_null(p);
    for (int64_t at = 0; at < ROWS; at += batch) assert_ok(context, pca_add(context, p, rows + at * n, ROWS - at < batch ? ROWS - at : batch));
    assert_int_equal(pca_rows(p), ROWS);
    assert_ok(context, pca_components(context, p, false, V, variance, total));
    pca_free(p);
    crank_context_free(context);
}

static void both_ways_give_the_components_of_all_rows_whatever_the_batches(void **state)
{
    (void)state;
    enum { SIZE = 6 };
    float  *rows = observe_data(ROWS, SIZE, 0.7, 31), V[3][SIZE * SIZE];
    double  variance[3][SIZE], total[3];
    components(SIZE, SIZE, PCA_COVARIANCE, ROWS, rows, V[0], variance[0], &total[0]);
    components(SIZE, SIZE, PCA_COVARIANCE, 7, rows, V[1], variance[1], &total[1]);
    components(SIZE, SIZE, PCA_INCREMENTAL, 7, rows, V[2], variance[2], &total[2]);
    for (int k = 1; k < 3; k++) {
        for (int i = 0; i < SIZE * SIZE; i++)
            if (!(fabs(V[0][i] - V[k][i]) < 1e-6)) fail_msg("way %d, entry %d: %g, %g", k, i, V[k][i], V[0][i]);
        assert_near(variance[k], variance[0], SIZE, 1e-10);
        assert_true(fabs(total[k] - total[0]) < 1e-9 * total[0]);
    }
    double mean[SIZE] = { 0 }, square = 0, sum = 0;
    for (int i = 0; i < ROWS * SIZE; i++) mean[i % SIZE] += rows[i] / ROWS;
    for (int i = 0; i < ROWS * SIZE; i++) square += (rows[i] - mean[i % SIZE]) * (rows[i] - mean[i % SIZE]);
    for (int i = 0; i < SIZE; i++) sum += variance[0][i];
    assert_true(fabs(sum - square) < 1e-6 * square && fabs(total[0] - square) < 1e-6 * square);
    free(rows);
}

static void components_are_orthonormal_and_hold_most_of_the_variance(void **state)
{
    (void)state;
    enum { SIZE = 12, KEEP = 4 };
    float *rows = observe_data(ROWS, SIZE, 0.8, 33), V[KEEP * SIZE];
    double variance[KEEP], total, held = 0;
    components(SIZE, KEEP, PCA_AUTO, 50, rows, V, variance, &total);
    for (int a = 0; a < KEEP; a++)
        for (int b = 0; b < KEEP; b++) {
            double dot = 0;
            for (int j = 0; j < SIZE; j++) dot += V[a * SIZE + j] * V[b * SIZE + j];
            assert_true(fabs(dot - (a == b)) < 1e-6);
        }
    for (int a = 0; a < KEEP; a++) held += variance[a];
    double mean[SIZE] = { 0 };
    for (int i = 0; i < ROWS * SIZE; i++) mean[i % SIZE] += rows[i] / ROWS;
    for (int trial = 0; trial < 100; trial++) { /* no random orthonormal basis holds more */
        double Q[KEEP * SIZE], other = 0;
        world_fill(Q, KEEP * SIZE, (uint32_t)(500 + trial), 1);
        for (int a = 0; a < KEEP; a++) {
            for (int b = 0; b < a; b++) {
                double dot = 0;
                for (int j = 0; j < SIZE; j++) dot += Q[a * SIZE + j] * Q[b * SIZE + j];
                for (int j = 0; j < SIZE; j++) Q[a * SIZE + j] -= dot * Q[b * SIZE + j];
            }
            double norm = 0;
            for (int j = 0; j < SIZE; j++) norm += Q[a * SIZE + j] * Q[a * SIZE + j];
            for (int j = 0; j < SIZE; j++) Q[a * SIZE + j] /= sqrt(norm);
            for (int i = 0; i < ROWS; i++) {
                double along = 0;
                for (int j = 0; j < SIZE; j++) along += (rows[i * SIZE + j] - mean[j]) * Q[a * SIZE + j];
                other += along * along;
            }
        }
        assert_true(other <= held);
    }
    free(rows);
}

/* x^T x and sums in f32 in place of the rows; many inputs are decomposed by a range finder. */
static void second_moments_give_the_components_of_the_rows(void **state)
{
    (void)state;
    static const int64_t sizes[] = {12, 1100};
    enum { KEEP = 3 };
    for (int k = 0; k < 2; k++) {
        int64_t        n = sizes[k];
        crank_context *context = crank_context_new();
        float         *rows = observe_data(ROWS, n, k ? 0.5 : 0.8, 35), *second = calloc((size_t)(n * n), sizeof *second), *sum = calloc((size_t)n, sizeof *sum);
        float         *V = calloc((size_t)(2 * ROWS * n), sizeof *V), *of_rows = V + ROWS * n;
        double         variance[ROWS], expected[ROWS], total, whole;
        int64_t        all = n < ROWS ? n : ROWS - 1;
        pca           *p = pca_new(context, n, KEEP, PCA_COVARIANCE);
        for (int64_t i = 0; i < ROWS; i++)
            for (int64_t a = 0; a < n; a++) {
                sum[a] += rows[i * n + a];
                for (int64_t b = 0; b < n; b++) second[a * n + b] += rows[i * n + a] * rows[i * n + b];
            }
        assert_ok(context, pca_add_second(context, p, second, sum, ROWS));
        assert_int_equal(pca_rows(p), ROWS);
        assert_ok(context, pca_components(context, p, false, V, variance, &total));
        components(n, all, PCA_INCREMENTAL, ROWS, rows, of_rows, expected, &whole);
        assert_true(fabs(total - whole) < 1e-4 * whole);
        for (int i = 0; i < KEEP; i++) {
            assert_true(fabs(variance[i] - expected[i]) < 1e-4 * expected[0]);
            double dot = 0;
            for (int64_t j = 0; j < n; j++) dot += (double)V[i * n + j] * (double)of_rows[i * n + j];
            if (!(fabs(dot) > 0.999)) fail_msg("%d inputs, component %d: cosine %g", (int)n, i, dot);
        }
        pca_free(p);
        free(rows), free(second), free(sum), free(V);
        crank_context_free(context);
    }
}

/* ---- the method ---- */

static void it_starts_as_the_base_in_the_inputs_components(void **state)
{
    (void)state;
    world         w = world_open(CRANK_F32);
    crank_linear *linear = world_linear(&w, "proj", CRANK_LINEAR_DENSE, IN, OUT, false);
    double       *base = outputs(&w, linear, x, CRANK_F32, false);
    float        *rows = observe_data(ROWS, IN, 0.7, 31), V[3 * IN];
    double        variance[3], total;
    components(IN, 3, PCA_AUTO, ROWS, rows, V, variance, &total);
    crank_attachment *a = observe_start(&w, "eva", "rank=3 rho=1 alpha=6", &(crank_attach_options){ .targets = "proj" });
    observe_rows(&w, a, linear, rows, NULL, ROWS, 64);
    assert_ok(w.context, crank_attachment_finish(w.context, a));
    double *A = world_values(&w, "proj.eva.A"), *start = outputs(&w, linear, x, CRANK_F32, false);
    for (int i = 0; i < 3 * IN; i++) assert_true(A[i] == (double)V[i]);
    assert_memory_equal(start, base, sizeof(double) * N * OUT);
    world_randomise(&w, "proj.eva.B", 0.5);
    check_off(&w, linear, a, base);
    check_merge(&w, linear);
    check_unmerge(&w, linear);
    check_export(&w, linear, crank_map_find("eva"), a, 3);
    free(A), free(start), free(base), free(rows);
    world_close(&w);
}

static void gradients_equal_finite_differences(void **state)
{
    (void)state;
    world         w = world_open(CRANK_F64);
    crank_linear *linear = world_linear(&w, "proj", CRANK_LINEAR_DENSE, IN, OUT, true);
    float        *rows = observe_data(ROWS, IN, 0.7, 31);
    crank_attachment *a = observe_start(&w, "eva", "rank=3 rho=1 dropout=0.3", &(crank_attach_options){ .targets = "proj" });
    observe_rows(&w, a, linear, rows, NULL, ROWS, 64);
    assert_ok(w.context, crank_attachment_finish(w.context, a));
    world_randomise(&w, "proj.eva.B", 0.5);
    check_differences(&w, linear, x, (const char *const[]){ "proj.eva.A", "proj.eva.B", NULL });
    free(rows);
    world_close(&w);
}

static int64_t rank_of(world *w, const char *name)
{
    crank_param *param = crank_params_find(w->params, name);
    return param ? param->view.dims[0] : 0;
}

/* Layer `a` reads two directions, `b` many: a ends with at most 2 ranks, and b takes what is left of the budget. */
static void ranks_follow_the_explained_variance(void **state)
{
    (void)state;
    world         w = world_open(CRANK_F32);
    crank_linear *a = world_linear(&w, "a", CRANK_LINEAR_DENSE, 12, OUT, false), *b = world_linear(&w, "b", CRANK_LINEAR_DENSE, 12, OUT, false);
    float        *narrow = observe_data(ROWS, 12, 1, 41), *wide = observe_data(ROWS, 12, 1, 42);
    for (int i = 0; i < ROWS * 12; i++)
        if (i % 12 > 1) narrow[i] = 1;
    crank_attachment *attachment = observe_start(&w, "eva", "rank=4 rho=2 alpha=8", &(crank_attach_options){ .targets = "a\nb" });
    observe_rows(&w, attachment, a, narrow, NULL, ROWS, 64);
    observe_rows(&w, attachment, b, wide, NULL, ROWS, 64);
    assert_ok(w.context, crank_attachment_finish(w.context, attachment));
    assert_int_equal(rank_of(&w, "a.eva.A"), 2);
    assert_int_equal(rank_of(&w, "b.eva.A"), 6);
    int         count;
    int64_t     rank;
    double      scale;
    float      *A, *B;
    crank_site *sites = crank_attachment_sites(attachment, &count);
    for (int i = 0; i < count; i++) { /* alpha_l / rank_l = alpha / rank */
        assert_ok(w.context, crank_map_find("eva")->as_lora(w.context, &sites[i], &rank, &scale, &A, &B));
        assert_true(fabs(scale - 2) < 1e-12);
        crank_free(A), crank_free(B);
    }
    char *lines = crank_attachment_ranks(w.context, attachment);
    assert_string_equal(lines, "a=2\nb=6");
    crank_free(lines);
    free(narrow), free(wide);
    world_close(&w);
}

static void a_linear_without_a_rank_loses_its_adapter_and_told_ranks_come_back(void **state)
{
    (void)state;
    float *narrow = observe_data(ROWS, 12, 1, 41), *wide = observe_data(ROWS, 12, 1, 42);
    for (int i = 0; i < ROWS * 12; i++) narrow[i] = i % 12 ? 1 : (float)(1 + 1e-9 * world_normal(1, (uint64_t)i)); /* constant in f32 */
    for (int resumed = 0; resumed < 2; resumed++) {
        world         w = world_open(CRANK_F32);
        crank_linear *a = world_linear(&w, "a", CRANK_LINEAR_DENSE, 12, OUT, false), *b = world_linear(&w, "b", CRANK_LINEAR_DENSE, 12, OUT, false);
        crank_attachment *attachment = observe_start(&w, "eva", "rank=4 rho=2", &(crank_attach_options){ .targets = "a\nb" });
        if (resumed) {
            assert_ok(w.context, crank_attachment_set_ranks(w.context, attachment, "a=0\nb=8"));
        } else {
            observe_rows(&w, attachment, a, narrow, NULL, ROWS, 64);
            observe_rows(&w, attachment, b, wide, NULL, ROWS, 64);
        }
        assert_ok(w.context, crank_attachment_finish(w.context, attachment));
        int count;
        crank_attachment_sites(attachment, &count);
        assert_int_equal(count, 1);
        assert_int_equal(rank_of(&w, "a.eva.A"), 0);
        assert_int_equal(rank_of(&w, "b.eva.A"), 8);
        assert_false(crank_linear_has_maps(a));
        assert_true(crank_linear_has_maps(b));
        world_close(&w);
    }
    free(narrow), free(wide);
}

static void linears_that_read_the_same_share_components(void **state)
{
    (void)state;
    world         w = world_open(CRANK_F32);
    crank_linear *q = world_linear(&w, "q", CRANK_LINEAR_DENSE, 12, OUT, false), *k = world_linear(&w, "k", CRANK_LINEAR_DENSE, 12, 4, false);
    float        *rows = observe_data(ROWS, 12, 0.8, 42);
    q->reads = k->reads = 5;
    crank_attachment *attachment = observe_start(&w, "eva", "rank=3 rho=2", &(crank_attach_options){ .targets = "q\nk" });
    observe_rows(&w, attachment, q, rows, NULL, ROWS, 64);
    observe_rows(&w, attachment, k, rows, NULL, ROWS, 64);
    assert_ok(w.context, crank_attachment_observe(w.context, attachment, q, NULL));
    assert_ok(w.context, crank_attachment_observe(w.context, attachment, k, NULL));
    assert_ok(w.context, crank_attachment_finish(w.context, attachment));
    assert_int_equal(rank_of(&w, "q.eva.A") + rank_of(&w, "k.eva.A"), 6);
    double *Aq = world_values(&w, "q.eva.A"), *Ak = world_values(&w, "k.eva.A");
    int64_t shared = rank_of(&w, "q.eva.A") < rank_of(&w, "k.eva.A") ? rank_of(&w, "q.eva.A") : rank_of(&w, "k.eva.A");
    assert_memory_equal(Aq, Ak, sizeof(double) * 12 * (size_t)shared);
    free(Aq), free(Ak), free(rows);
    world_close(&w);
}

static void whitening_divides_by_the_root_of_the_singular_value(void **state)
{
    (void)state;
    float *rows = observe_data(ROWS, IN, 0.7, 31), V[3 * IN];
    double variance[3], total;
    components(IN, 3, PCA_AUTO, ROWS, rows, V, variance, &total);
    world         w = world_open(CRANK_F64);
    crank_linear *linear = world_linear(&w, "proj", CRANK_LINEAR_DENSE, IN, OUT, false);
    crank_attachment *a = observe_start(&w, "eva", "rank=3 rho=1 whiten=true", &(crank_attach_options){ .targets = "proj" });
    observe_rows(&w, a, linear, rows, NULL, ROWS, ROWS);
    assert_ok(w.context, crank_attachment_finish(w.context, a));
    double *A = world_values(&w, "proj.eva.A");
    for (int i = 0; i < 3 * IN; i++) assert_true(fabs(A[i] - V[i] / sqrt(sqrt(variance[i / IN]))) < 1e-6);
    free(A), free(rows);
    world_close(&w);
}

/* A in the components, then DoRA's rule on it. */
static void with_dora_it_is_dora_from_another_start(void **state)
{
    (void)state;
    double *y[2], *A = NULL;
    for (int k = 0; k < 2; k++) {
        world         w = world_open(CRANK_F32);
        crank_linear *linear = world_linear(&w, "proj", CRANK_LINEAR_DENSE, IN, OUT, true);
        double       *base = outputs(&w, linear, x, CRANK_F32, false);
        if (k) world_attach(&w, "dora", "rank=3 alpha=6", "proj");
        else {
            crank_attachment *attachment = observe_start(&w, "eva", "rank=3 alpha=6 rho=1 dora=true", &(crank_attach_options){ .targets = "proj" });
            float            *rows = observe_data(40, IN, 0.8, 1);
            observe_rows(&w, attachment, linear, rows, NULL, 40, 8);
            assert_ok(w.context, crank_attachment_finish(w.context, attachment));
            free(rows);
            double *start = outputs(&w, linear, x, CRANK_F32, true);
            assert_near(start, base, N * OUT, 1e-6);
            free(start);
            A = world_values(&w, "proj.eva.A");
        }
        if (k) world_write(&w, "proj.dora.A", A);
        double B[OUT * 3], mu[OUT];
        for (int i = 0; i < OUT * 3; i++) B[i] = 0.3 * world_normal(5, (uint64_t)i);
        for (int i = 0; i < OUT; i++) mu[i] = 1 + 0.1 * i;
        world_write(&w, k ? "proj.dora.B" : "proj.eva.B", B);
        world_write(&w, k ? "proj.dora.magnitude" : "proj.eva.magnitude", mu);
        y[k] = outputs(&w, linear, x, CRANK_F32, false);
        free(base);
        world_close(&w);
    }
    assert_memory_equal(y[0], y[1], sizeof(double) * N * OUT);
    free(y[0]), free(y[1]), free(A);
}

static void too_little_data_and_impossible_ranks_are_told(void **state)
{
    (void)state;
    world         w = world_open(CRANK_F32);
    crank_linear *linear = world_linear(&w, "proj", CRANK_LINEAR_DENSE, IN, OUT, false);
    float        *rows = observe_data(ROWS, IN, 0.7, 31);
    crank_attachment *a = observe_start(&w, "eva", "rank=3 rho=2", &(crank_attach_options){ .targets = "proj" });
    observe_rows(&w, a, linear, rows, NULL, 5, 5);
    assert_int_equal(crank_attachment_finish(w.context, a), CRANK_BAD_DATA);
    assert_non_null(strstr(crank_message(w.context), "lowrank.calibration.batches"));
    crank_attachment_remove(a);
    a = observe_start(&w, "eva", "rank=9 rho=1", &(crank_attach_options){ .targets = "proj" });
    observe_rows(&w, a, linear, rows, NULL, ROWS, 64);
    assert_int_equal(crank_attachment_finish(w.context, a), CRANK_USAGE);
    assert_non_null(strstr(crank_message(w.context), "lowrank.rank"));
    assert_int_equal(crank_attachment_set_ranks(w.context, a, "nobody=3"), CRANK_BAD_DATA);
    assert_int_equal(crank_attachment_set_ranks(w.context, a, "proj=x"), CRANK_BAD_DATA);
    assert_int_equal(crank_attachment_set_ranks(w.context, a, "proj"), CRANK_BAD_DATA);
    free(rows);
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_ways_give_the_components_of_all_rows_whatever_the_batches),
        cmocka_unit_test(components_are_orthonormal_and_hold_most_of_the_variance),
        cmocka_unit_test(second_moments_give_the_components_of_the_rows),
        cmocka_unit_test(it_starts_as_the_base_in_the_inputs_components),
        cmocka_unit_test(gradients_equal_finite_differences),
        cmocka_unit_test(ranks_follow_the_explained_variance),
        cmocka_unit_test(a_linear_without_a_rank_loses_its_adapter_and_told_ranks_come_back),
        cmocka_unit_test(linears_that_read_the_same_share_components),
        cmocka_unit_test(whitening_divides_by_the_root_of_the_singular_value),
        cmocka_unit_test(with_dora_it_is_dora_from_another_start),
        cmocka_unit_test(too_little_data_and_impossible_ranks_are_told),
    };
    return cmocka_run_group_tests(tests, checks_fill, NULL);
}
