/* LoRA-XS, LoRA-SB and SVFit: frozen factors, their starts, gradients of what is trained between them. */
#include "lowrank/observe.h"
#include "crank/linalg.h"

enum { R = 3, ROWS = 40, SMALL = 6 };

static crank_linear *open(world *w, crank_dtype type, bool bias)
{
    *w = world_open(type);
    return world_linear(w, "proj", CRANK_LINEAR_DENSE, IN, OUT, bias);
}

/* LoRA-SB on ROWS drawn rows; D [OUT, IN] is minus the sign of their gradient. */
static crank_linear *open_sb(world *w, crank_dtype type, const char *settings, crank_attachment **attachment, double *D)
{
    crank_linear *linear = open(w, type, false);
    float        *rows = observe_data(ROWS, IN, 0.7, 31), *dys = observe_data(ROWS, OUT, 0.6, 32);
    for (int i = 0; D && i < OUT * IN; i++) {
        double g = 0;
        for (int n = 0; n < ROWS; n++) g += (double)dys[n * OUT + i / IN] * rows[n * IN + i % IN];
        D[i] = g > 0 ? -1 : 1;
    }
    *attachment = observe_start(w, "lora-sb", settings, &(crank_attach_options){ .targets = "proj" });
    observe_rows(w, *attachment, linear, rows, dys, ROWS, 16);
    assert_ok(w->context, crank_attachment_finish(w->context, *attachment));
    free(rows), free(dys);
    return linear;
}

/* The best rank-R approximation of a [OUT, IN]. */
static void truncate_to_rank(const double *a, double *out)
{
    crank_context *context = crank_context_new();
    double         u[OUT * R], s[SMALL], vt[R * IN];
    assert_ok(context, crank_svd(context, crank_matrix_f64(a, OUT, IN), CRANK_INSIDE_F64, crank_matrix_f64(u, OUT, R), s, crank_matrix_f64(vt, R, IN)));
    for (int i = 0; i < OUT * R; i++) u[i] *= s[i % R];
    product(u, false, vt, false, OUT, R, IN, out);
    crank_context_free(context);
}

static void xs_starts_as_the_base_between_the_weights_directions(void **state)
{
    (void)state;
    world         w;
    crank_linear *linear = open(&w, CRANK_F32, false);
    double       *base = outputs(&w, linear, x, CRANK_F32, false), W[OUT * IN], best[OUT * IN], BA[OUT * IN], *values = world_values(&w, "proj.weight");
    memcpy(W, values, sizeof W);
    crank_attachment *a = world_attach(&w, "lora-xs", "rank=3", "proj");
    double           *start = outputs(&w, linear, x, CRANK_F32, false), *A = world_values(&w, "proj.lora-xs.A"), *B = world_values(&w, "proj.lora-xs.B"), BtB[R * R];
    assert_near(start, base, N * OUT, 1e-4);
    product(B, true, B, false, R, OUT, R, BtB);
    for (int i = 0; i < R * R; i++) assert_true(fabs(BtB[i] - (i % (R + 1) == 0)) < 1e-5);
    truncate_to_rank(W, best);
    product(B, false, A, false, OUT, R, IN, BA);
    assert_near(BA, best, OUT * IN, 1e-5);
    assert_false(world_param(&w, "proj.lora-xs.A")->trainable);
    assert_true(world_param(&w, "proj.lora-xs.R")->trainable);
    world_randomise(&w, "proj.lora-xs.R", 0.5);
    check_off(&w, linear, a, base);
    check_merge(&w, linear);
    check_unmerge(&w, linear);
    check_export(&w, linear, crank_map_find("lora-xs"), a, R);
    free(base), free(values), free(start), free(A), free(B);
    world_close(&w);
}

static void sb_starts_one_projected_step_behind_the_base_whatever_the_scale(void **state)
{
    (void)state;
    static const char *const settings[] = { "rank=3 step=0.01", "rank=3 step=0.01 alpha=6", "rank=3 step=0.01 alpha=24" };
    for (int c = 0; c < 3; c++) {
        world             w;
        crank_attachment *a;
        double            D[OUT * IN], best[OUT * IN], y[N * OUT];
        crank_linear     *linear = open_sb(&w, CRANK_F64, settings[c], &a, D);
        truncate_to_rank(D, best);
        double *W = world_values(&w, "proj.weight"), *start = outputs(&w, linear, x, CRANK_F64, false);
        for (int i = 0; i < OUT * IN; i++) best[i] = W[i] + 0.01 * best[i];
        product(x, false, best, true, N, IN, OUT, y);
        assert_near(start, y, N * OUT, 1e-6);
        free(W), free(start);
        world_close(&w);
    }
}

static void sb_can_start_as_the_base(void **state)
{
    (void)state;
    world             w, plain;
    crank_attachment *a;
    crank_linear     *bare = open(&plain, CRANK_F32, false);
    double           *base = outputs(&plain, bare, x, CRANK_F32, false);
    crank_linear     *linear = open_sb(&w, CRANK_F32, "rank=3 step=0.01 keep=true start=raw", &a, NULL);
    double           *start = outputs(&w, linear, x, CRANK_F32, false);
    assert_memory_equal(start, base, sizeof(double) * N * OUT);
    world_randomise(&w, "proj.lora-sb.R", 0.5);
    check_off(&w, linear, a, base);
    check_merge(&w, linear);
    check_unmerge(&w, linear);
    check_export(&w, linear, crank_map_find("lora-sb"), a, R);
    free(base), free(start);
    world_close(&w), world_close(&plain);
}

/* gR = s B^T G A^T, and with s = 1 and orthonormal factors B gR A is the projection of G: nothing else of its form is nearer. */
static void the_gradient_of_the_core_is_the_projection_of_the_full_one(void **state)
{
    (void)state;
    world             w;
    crank_attachment *a;
    crank_linear     *linear = open_sb(&w, CRANK_F64, "rank=3 step=0.01", &a, NULL);
    static const char *const wrt[] = { "proj.lora-sb.R", NULL };
    pass p = { .n = N, .x = x, .dy = dy, .compute = CRANK_F64, .training = true, .wrt = wrt };
    world_run(&w, linear, &p);
    double *A = world_values(&w, "proj.lora-sb.A"), *B = world_values(&w, "proj.lora-sb.B"), G[OUT * IN], BG[R * IN], gR[R * R], lifted[OUT * R], P[OUT * IN];
    product(dy, true, x, false, OUT, N, IN, G);
    product(B, true, G, false, R, OUT, IN, BG);
    product(BG, false, A, true, R, IN, R, gR);
    assert_near(p.grads[0], gR, R * R, 1e-12);
    product(B, false, p.grads[0], false, OUT, R, R, lifted);
    product(lifted, false, A, false, OUT, R, IN, P);
    double inner_product = 0, square = 0;
    for (int i = 0; i < OUT * IN; i++) inner_product += (G[i] - P[i]) * P[i], square += P[i] * P[i];
    assert_true(fabs(inner_product) < 1e-5 * square);
    free(A), free(B);
    pass_free(&p);
    check_differences(&w, linear, x, wrt);
    world_close(&w);
}

static void cores_refuse_what_the_weight_has_not(void **state)
{
    (void)state;
    world w;
    open(&w, CRANK_F32, false);
    static const char *const methods[] = { "lora-xs", "lora-sb", "svfit" };
    for (int i = 0; i < 3; i++) {
        assert_null(world_try(&w, methods[i], "rank=7", &(crank_attach_options){ .targets = "proj" }));
        assert_non_null(strstr(crank_message(w.context), "lower lowrank.rank"));
    }
    world_linear(&w, "emb", CRANK_LINEAR_EMBEDDING, 9, OUT, false);
    assert_null(world_try(&w, "lora-xs", "rank=2", &(crank_attach_options){ .targets = "emb" }));
    assert_non_null(strstr(crank_message(w.context), "embedding"));
    world_close(&w);
}

/* ---- SVFit ---- */

static void svfit_starts_bit_exact_merges_and_exports(void **state)
{
    (void)state;
    static const char *const settings[] = { "rank=0", "rank=3 form=relative", "rank=4 form=exp" };
    static const int64_t     ranks[] = { SMALL, 3, 4 };
    for (int i = 0; i < 3; i++) {
        world         w;
        crank_linear *linear = open(&w, CRANK_F32, false);
        double       *base = outputs(&w, linear, x, CRANK_F32, false);
        crank_attachment *a = world_attach(&w, "svfit", settings[i], "proj");
        double       *start = outputs(&w, linear, x, CRANK_F32, false);
        assert_memory_equal(start, base, sizeof(double) * N * OUT);
        world_randomise(&w, "proj.svfit.t", 0.5);
        check_off(&w, linear, a, base);
        check_merge(&w, linear);
        check_unmerge(&w, linear);
        check_export(&w, linear, crank_map_find("svfit"), a, ranks[i]);
        free(base), free(start);
        world_close(&w);
    }
}

static void svfit_gradients_equal_finite_differences_and_u_G_v(void **state)
{
    (void)state;
    static const char *const settings[] = { "rank=3", "rank=3 form=relative", "rank=0 form=exp" };
    static const char *const wrt[] = { "proj.svfit.t", NULL };
    for (int i = 0; i < 3; i++) {
        world         w;
        crank_linear *linear = open(&w, CRANK_F64, true);
        world_attach(&w, "svfit", settings[i], "proj");
        world_randomise(&w, "proj.svfit.t", 0.3);
        check_differences(&w, linear, x, wrt);
        if (i == 0) {
            pass p = { .n = N, .x = x, .dy = dy, .compute = CRANK_F64, .training = true, .wrt = wrt };
            world_run(&w, linear, &p);
            double *U = world_values(&w, "proj.svfit.U"), *V = world_values(&w, "proj.svfit.V"), G[OUT * IN], GV[OUT * R];
            product(dy, true, x, false, OUT, N, IN, G);
            product(G, false, V, true, OUT, IN, R, GV);
            for (int k = 0; k < R; k++) {
                double sum = 0;
                for (int o = 0; o < OUT; o++) sum += U[o * R + k] * GV[o * R + k];
                assert_true(fabs(p.grads[0][k] - sum) < 1e-11);
            }
            free(U), free(V);
            pass_free(&p);
        }
        world_close(&w);
    }
}

/* |W' - W|_F = |d|, and with all singular values those of W' are |sigma + d| sorted. */
static void svfit_moves_singular_values_alone(void **state)
{
    (void)state;
    world         w;
    crank_linear *linear = open(&w, CRANK_F64, false);
    double       *before = world_values(&w, "proj.weight"), difference = 0, length = 0, s[SMALL], expected[SMALL];
    (void)linear;
    world_attach(&w, "svfit", "rank=0", "proj");
    world_randomise(&w, "proj.svfit.t", 0.5);
    double *t = world_values(&w, "proj.svfit.t"), *sigma = world_values(&w, "proj.svfit.sigma");
    assert_ok(w.context, crank_linears_merge(w.context, w.linears, true, true));
    double *after = world_values(&w, "proj.weight");
    for (int i = 0; i < OUT * IN; i++) difference += (after[i] - before[i]) * (after[i] - before[i]);
    for (int i = 0; i < SMALL; i++) length += t[i] * t[i], expected[i] = fabs(sigma[i] + t[i]);
    assert_true(fabs(sqrt(difference) - sqrt(length)) < 1e-6 * sqrt(length));
    assert_ok(w.context, crank_svd(w.context, crank_matrix_f64(after, OUT, IN), CRANK_INSIDE_F64, crank_matrix_none(), s, crank_matrix_none()));
    for (int i = 0; i < SMALL; i++)
        for (int j = i + 1; j < SMALL; j++)
            if (expected[j] > expected[i]) {
                double swap = expected[i];
                expected[i] = expected[j];
                expected[j] = swap;
            }
    assert_near(s, expected, SMALL, 1e-6);
    free(before), free(after), free(t), free(sigma);
    world_close(&w);
}

static void svfit_in_one_dense_product_is_svfit_in_two(void **state)
{
    (void)state;
    static const char *const settings[] = { "rank=4 schedule=factored", "rank=4 schedule=dense" }, *const wrt[] = { "proj.svfit.t", NULL };
    pass passes[2];
    for (int k = 0; k < 2; k++) {
        world         w = world_open(CRANK_F64);
        crank_linear *linear = world_linear(&w, "proj", CRANK_LINEAR_DENSE, IN, OUT, true);
        world_attach(&w, "svfit", settings[k], "proj");
        world_randomise(&w, "proj.svfit.t", 0.3);
        passes[k] = (pass){ .n = N, .x = x, .dy = dy, .compute = CRANK_F64, .training = true, .wrt = wrt };
        world_run(&w, linear, &passes[k]);
        world_close(&w);
    }
    assert_near(passes[1].y, passes[0].y, N * OUT, 1e-12);
    assert_near(passes[1].dx, passes[0].dx, N * IN, 1e-12);
    assert_near(passes[1].grads[0], passes[0].grads[0], 4, 1e-12);
    pass_free(&passes[0]), pass_free(&passes[1]);
}

/* The files hold t alone; U, V and sigma come from the weight again, bit for bit. */
static void svfit_without_saved_vectors_makes_them_again(void **state)
{
    (void)state;
    double *U[2];
    for (int k = 0; k < 2; k++) {
        world         w;
        crank_linear *linear = open(&w, CRANK_F32, false);
        (void)linear;
        world_attach(&w, "svfit", "rank=3 save_vectors=false", "proj");
        assert_int_equal(world_param(&w, "proj.svfit.U")->role, CRANK_ROLE_CACHE);
        assert_int_equal(world_param(&w, "proj.svfit.t")->role, CRANK_ROLE_METHOD);
        U[k] = world_values(&w, "proj.svfit.U");
        world_close(&w);
    }
    assert_memory_equal(U[0], U[1], OUT * 3 * sizeof(double));
    free(U[0]), free(U[1]);
}

static void svfit_energy_chooses_the_fewest_singular_values_and_more_energy_never_fewer(void **state)
{
    (void)state;
    static const double shares[] = { 0.3, 0.6, 0.9, 1 };
    int64_t             last = 0;
    for (int i = 0; i < 4; i++) {
        world w;
        char  settings[64];
        open(&w, CRANK_F64, false);
        snprintf(settings, sizeof settings, "energy=%g", shares[i]);
        world_attach(&w, "svfit", settings, "proj");
        double *W = world_values(&w, "proj.weight"), s[SMALL], sum = 0, held = 0;
        int64_t r = world_param(&w, "proj.svfit.t")->view.dims[0];
        assert_ok(w.context, crank_svd(w.context, crank_matrix_f64(W, OUT, IN), CRANK_INSIDE_F64, crank_matrix_none(), s, crank_matrix_none()));
        for (int k = 0; k < SMALL; k++) sum += s[k] * s[k];
        for (int k = 0; k < r; k++) held += s[k] * s[k];
        assert_true(held >= (shares[i] - 1e-9) * sum && held - s[r - 1] * s[r - 1] < shares[i] * sum);
        assert_true(r >= last);
        last = r;
        free(W);
        world_close(&w);
    }
}

static void svfit_keeps_singular_values_above_zero_where_asked(void **state)
{
    (void)state;
    world w;
    open(&w, CRANK_F32, false);
    world_attach(&w, "svfit", "rank=0 nonnegative=true", "proj");
    double low[SMALL];
    for (int i = 0; i < SMALL; i++) low[i] = -100;
    world_write(&w, "proj.svfit.t", low);
    crank_graph *graph = crank_graph_new(w.context, w.device);
    crank_linears_after_step(graph, w.linears);
    assert_ok(w.context, crank_plan(graph, NULL, NULL));
    assert_ok(w.context, crank_run(graph));
    crank_graph_free(graph);
    double *t = world_values(&w, "proj.svfit.t"), *sigma = world_values(&w, "proj.svfit.sigma");
    for (int i = 0; i < SMALL; i++) assert_true(t[i] == -sigma[i]);
    free(t), free(sigma);
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(xs_starts_as_the_base_between_the_weights_directions),
        cmocka_unit_test(sb_starts_one_projected_step_behind_the_base_whatever_the_scale),
        cmocka_unit_test(sb_can_start_as_the_base),
        cmocka_unit_test(the_gradient_of_the_core_is_the_projection_of_the_full_one),
        cmocka_unit_test(cores_refuse_what_the_weight_has_not),
        cmocka_unit_test(svfit_starts_bit_exact_merges_and_exports),
        cmocka_unit_test(svfit_gradients_equal_finite_differences_and_u_G_v),
        cmocka_unit_test(svfit_moves_singular_values_alone),
        cmocka_unit_test(svfit_in_one_dense_product_is_svfit_in_two),
        cmocka_unit_test(svfit_without_saved_vectors_makes_them_again),
        cmocka_unit_test(svfit_energy_chooses_the_fewest_singular_values_and_more_energy_never_fewer),
        cmocka_unit_test(svfit_keeps_singular_values_above_zero_where_asked),
    };
    return cmocka_run_group_tests(tests, checks_fill, NULL);
}
