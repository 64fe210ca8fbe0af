/* Sparse spectral training: 50 steps against a float64 transcription, and the exact properties of its card. */
#include "linear/world.h"

#include "crank/linalg.h"

enum { STEPS = 50, MOST = 81 };

static crank_safetensors *file;

static int open_golden(void **state)
{
    *state = crank_context_new();
    file = crank_safetensors_open(*state, golden("optim/sst.safetensors"));
    return !file;
}

static int close_golden(void **state)
{
    crank_safetensors_close(file);
    crank_context_free(*state);
    return 0;
}

static crank_view tensor(const char *shape, const char *what)
{
    char       name[64];
    crank_view view;
    snprintf(name, sizeof name, "%s.%s", shape, what);
    if (!crank_safetensors_find(file, name, &view)) fail_msg("no tensor %s", name);
    return view;
}

/* One linear under the method, stepped with given gradients of its weight. */
typedef struct runner {
    world             w;
    crank_linear     *linear;
    crank_attachment *attachment;
    crank_graph      *graph;
    crank_tensor     *G;
} runner;

static runner runner_open(crank_dtype type, int64_t out, int64_t in, const float *start, const char *settings)
{
    runner r = { .w = world_open(type) };
    r.linear = world_linear(&r.w, "proj", CRANK_LINEAR_DENSE, in, out, false);
    assert_ok(r.w.context, crank_param_write(r.w.context, r.linear->weight, start, CRANK_F32));
    r.attachment = world_attach(&r.w, "sst", settings, "proj");
    int         count;
    crank_site *site = crank_attachment_sites(r.attachment, &count);
    crank_dtype wide = type == CRANK_F64 ? CRANK_F64 : CRANK_F32;
    r.graph = crank_graph_new(r.w.context, r.w.device);
    crank_graph_set_compute(r.graph, wide);
    r.G = crank_input(r.graph, "G", wide, 2, (const int64_t[]){ out, in });
    crank_gradient_set(r.graph, r.linear->weight, r.G);
    crank_map_find("sst")->update(r.graph, site);
    crank_map_find("sst")->after_step(r.graph, site);
    assert_ok(r.w.context, crank_plan(r.graph, NULL, NULL));
    return r;
}

static void runner_step(runner *r, const float *g, double rate, int step)
{
    bool   changed = false;
    size_t n = (size_t)(r->linear->in * r->linear->out);
    double wide[MOST];
    float  scalars[CRANK_SCALARS] = { (float)rate, (float)step, 1, 0, 1 };
    assert_ok(r->w.context, crank_linears_period(r->w.context, r->w.linears, step, &changed));
    assert_false(changed);
    crank_convert(wide, CRANK_F64, g, CRANK_F32, n);
    assert_ok(r->w.context, crank_write(r->G, r->G->dtype == CRANK_F64 ? (const void *)wide : g));
    assert_ok(r->w.context, crank_write(crank_step_scalars(r->graph), scalars));
    assert_ok(r->w.context, crank_run(r->graph));
}

static void runner_close(runner *r)
{
    crank_graph_free(r->graph);
    world_close(&r->w);
}

static void fifty_steps_equal_their_transcription(void **state)
{
    (void)state;
    static const char *const shapes[] = { "wide", "tall", "square" };
    for (int s = 0; s < 3; s++)
        for (int plain = 0; plain < 2; plain++)
            for (int wide = 0; wide < 2; wide++) {
                crank_view w0 = tensor(shapes[s], "w0"), g = tensor(shapes[s], "g"), golden_w = tensor(shapes[s], plain ? "sst_plain" : "sst");
                int64_t    n = crank_view_count(&w0);
                runner     r = runner_open(wide ? CRANK_F64 : CRANK_F32, w0.dims[0], w0.dims[1], w0.data,
                                           plain ? "rank=2 steps=6 warmup=3 enhanced=false decay=0.1" : "rank=2 steps=6 warmup=3");
                for (int t = 1; t <= STEPS; t++) runner_step(&r, (const float *)g.data + (t - 1) * n, 0.02 * (0.5 + 0.5 * cos((double)t / STEPS)), t);
                double *w = world_values(&r.w, "proj.weight"), error = distance(w, golden_w.data, (size_t)n);
                if (!(error < (wide ? 1e-6 : 1e-5))) fail_msg("%s, %s, %s: relative distance %g", shapes[s], plain ? "plain" : "enhanced", wide ? "f64" : "f32", error);
                free(w);
                runner_close(&r);
            }
}

enum { M = 6, N = 9, K = 6, R = 2 };
static float w0[M * N], g[M * N];

static void draw(float *out, uint32_t index) { crank_fill_normal(crank_stream_make(5, CRANK_RANDOM_TEST, index), 0, 0, 0.3f, out, M * N); }

static void it_starts_as_the_weight(void **state)
{
    (void)state;
    draw(w0, 1);
    runner  r = runner_open(CRANK_F64, M, N, w0, "rank=2 steps=5");
    double *U = world_values(&r.w, "proj.sst.U"), *S = world_values(&r.w, "proj.sst.S"), *V = world_values(&r.w, "proj.sst.V");
    double  W[M * N] = { 0 }, expected[M * N];
    for (int k = 0; k < K; k++)
        for (int i = 0; i < M; i++)
            for (int j = 0; j < N; j++) W[i * N + j] += S[k] * U[k * M + i] * V[k * N + j];
    for (int i = 0; i < M * N; i++) expected[i] = w0[i];
    assert_near(W, expected, M * N, 1e-12);
    free(U), free(S), free(V);
    runner_close(&r);
}

static void sleeping_pairs_keep_their_bits_and_drawn_ones_their_length(void **state)
{
    (void)state;
    draw(w0, 1);
    runner r = runner_open(CRANK_F32, M, N, w0, "rank=2 steps=5 warmup=2");
    for (int t = 1; t <= 15; t++) {
        double *before = world_values(&r.w, "proj.sst.U"), *bv = world_values(&r.w, "proj.sst.V");
        draw(g, 1 + (uint32_t)t);
        runner_step(&r, g, 0.3, t);
        double *U = world_values(&r.w, "proj.sst.U"), *V = world_values(&r.w, "proj.sst.V"), *UA = world_values(&r.w, "proj.sst.UA"),
               *VA = world_values(&r.w, "proj.sst.VA"), *S = world_values(&r.w, "proj.sst.S"), *SA = world_values(&r.w, "proj.sst.SA");
        if ((t - 1) % 5) {
            assert_memory_equal(before, U, sizeof(double) * K * M);
            assert_memory_equal(bv, V, sizeof(double) * K * N);
        }
        for (int k = 0; k < R; k++) {
            double u = 0, v = 0;
            for (int i = 0; i < M; i++) u += UA[k * M + i] * UA[k * M + i];
            for (int j = 0; j < N; j++) v += VA[k * N + j] * VA[k * N + j];
            assert_true(fabs(sqrt(u) - 1) < 1e-6 && fabs(sqrt(v) - 1) < 1e-6 && SA[k] >= 0);
        }
        for (int k = 0; k < K; k++) assert_true(S[k] >= 0);
        free(before), free(bv), free(U), free(V), free(UA), free(VA), free(S), free(SA);
    }
    runner_close(&r);
}

/* A step of rate 0 across a round's end: the decomposition leaves W. */
static void decomposing_again_leaves_the_weight_and_orthonormal_pairs(void **state)
{
    (void)state;
    draw(w0, 1);
    runner r = runner_open(CRANK_F64, M, N, w0, "rank=2 steps=3");
    int    t = 1;
    for (; t <= 9; t++) draw(g, 1 + (uint32_t)t), runner_step(&r, g, 0.1, t); /* three iterations: all six pairs once */
    double *before = world_values(&r.w, "proj.weight");
    runner_step(&r, g, 0, t);
    double *after = world_values(&r.w, "proj.weight"), *U = world_values(&r.w, "proj.sst.U");
    assert_near(after, before, M * N, 1e-10);
    for (int a = 0; a < K; a++)
        for (int b = 0; b < K; b++) {
            double dot = 0;
            for (int i = 0; i < M; i++) dot += U[a * M + i] * U[b * M + i];
            assert_true(fabs(dot - (a == b)) < 1e-9);
        }
    free(before), free(after), free(U);
    runner_close(&r);
}

/* At the first step of an iteration Adam moves each singular value by the rate / warmup. */
static void an_iteration_begins_with_the_warm_up(void **state)
{
    (void)state;
    draw(w0, 1);
    runner r = runner_open(CRANK_F64, M, N, w0, "rank=2 steps=4 warmup=20");
    for (int t = 1; t <= 5; t++) {
        double *before = world_values(&r.w, "proj.sst.S");
        draw(g, 1 + (uint32_t)t);
        runner_step(&r, g, 0.2, t);
        double *after = world_values(&r.w, "proj.sst.S"), *mask = world_values(&r.w, "proj.sst.mask");
        for (int k = 0; t == 1 && k < K; k++)
            if (mask[k] != 0) assert_true(fabs(fabs(after[k] - before[k]) - 0.2 / 20) < 1e-6 || after[k] == 0);
        free(before), free(after), free(mask);
    }
    runner_close(&r);
}

static void pairs_are_drawn_as_often_as_told(void **state)
{
    (void)state;
    int first[K] = { 0 }, rounds = 0;
    draw(w0, 1);
    runner  r = runner_open(CRANK_F32, M, N, w0, "rank=1 steps=1 iterations=1000000");
    double *S = world_values(&r.w, "proj.sst.S"), sum = 0, chi = 0;
    for (int k = 0; k < K; k++) sum += S[k];
    for (int t = 1; t <= 3000; t++, rounds++) { /* the weight does not move: period alone */
        bool    changed;
        int32_t set[1];
        assert_ok(r.w.context, crank_linears_period(r.w.context, r.w.linears, t, &changed));
        assert_ok(r.w.context, crank_param_read(r.w.context, world_param(&r.w, "proj.sst.set"), set, CRANK_I32));
        first[set[0]]++;
    }
    for (int k = 0; k < K; k++) {
        double expected = rounds * 0.5 * (1.0 / K + S[k] / sum);
        chi += (first[k] - expected) * (first[k] - expected) / expected;
    }
    assert_true(chi < 20.5); /* 5 degrees of freedom, p = 0.001 */
    free(S);
    runner_close(&r);
}

static void one_round_reaches_every_pair_in_turn(void **state)
{
    (void)state;
    bool seen[K] = { 0 };
    draw(w0, 1);
    runner r = runner_open(CRANK_F32, M, N, w0, "rank=4 steps=1 sampler=sequential");
    for (int t = 1; t <= 2; t++) {
        bool    changed;
        int32_t set[4];
        assert_ok(r.w.context, crank_linears_period(r.w.context, r.w.linears, t, &changed));
        assert_ok(r.w.context, crank_param_read(r.w.context, world_param(&r.w, "proj.sst.set"), set, CRANK_I32));
        for (int k = 0; k < 4; k++) seen[set[k]] = true;
    }
    for (int k = 0; k < K; k++) assert_true(seen[k]);
    runner_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fifty_steps_equal_their_transcription),
        cmocka_unit_test(it_starts_as_the_weight),
        cmocka_unit_test(sleeping_pairs_keep_their_bits_and_drawn_ones_their_length),
        cmocka_unit_test(decomposing_again_leaves_the_weight_and_orthonormal_pairs),
        cmocka_unit_test(an_iteration_begins_with_the_warm_up),
        cmocka_unit_test(pairs_are_drawn_as_often_as_told),
        cmocka_unit_test(one_round_reaches_every_pair_in_turn),
    };
    return cmocka_run_group_tests(tests, open_golden, close_golden);
}
