/* Units with a clock of their own: step count, factor of the rate, sleep; for the whole unit and row by row. */
#include "optim/run.h"

enum { ROWS = 3, COLUMNS = 4, N = ROWS * COLUMNS };

static const int64_t dims[] = { ROWS, COLUMNS };

static void draw(float *out, size_t n, uint32_t index)
{
    crank_fill_normal(crank_stream_make(5, CRANK_RANDOM_TEST, index), 0, 0, 1, out, n);
}

static void set_clock(runner *r, int rank, const float *clock)
{
    const int64_t shape[] = { ROWS, 3 };
    if (!r->unit.clock) r->unit.clock = crank_params_add(r->params, "clock", CRANK_ROLE_STATE, CRANK_F32, rank, rank == 1 ? shape + 1 : shape);
    assert_ok(r->context, crank_param_write(r->context, r->unit.clock, clock, CRANK_F32));
}

static const struct {
    const char *method, *settings, *state;
} methods[] = { { "adamw", "", "w.adamw.m" }, { "adamw", "placement=hf", "w.adamw.v" }, { "sgd", "", "w.sgd.buffer" }, { "lion", "", "w.lion.m" } };
enum { METHODS = sizeof methods / sizeof *methods };

static void a_clock_counts_steps_and_scales_the_rate(void **state)
{
    (void)state;
    for (int k = 0; k < METHODS; k++) {
        float w[N], g[N], a[N], b[N];
        draw(w, N, 1);
        runner own = runner_open(methods[k].method, methods[k].settings, CRANK_F32, 2, dims, w, 0.1);
        runner run = runner_open(methods[k].method, methods[k].settings, CRANK_F32, 2, dims, w, 0.1);
        for (int step = 1; step <= 3; step++) {
            draw(g, N, 1 + (uint32_t)step);
            set_clock(&own, 1, (float[]){ (float)step, 0.5f, 0 });
            runner_step(&own, g, 0.02, 100 + step, 1, false);
            runner_step(&run, g, 0.01, step, 1, false);
        }
        runner_read(&own, "w", a, CRANK_F32), runner_read(&run, "w", b, CRANK_F32);
        assert_memory_equal(a, b, sizeof a);
        runner_close(&own), runner_close(&run);
    }
}

static void rows_that_sleep_stay_and_the_others_move_as_alone(void **state)
{
    (void)state;
    for (int k = 0; k < METHODS; k++) {
        float   w[N], g[N], now[N], moment[N], moment2[N], alone[COLUMNS];
        int64_t one[] = { 1, COLUMNS };
        draw(w, N, 1);
        runner rows = runner_open(methods[k].method, methods[k].settings, CRANK_F32, 2, dims, w, 0.1);
        runner last = runner_open(methods[k].method, methods[k].settings, CRANK_F32, 2, one, w + 2 * COLUMNS, 0.1);
        const float awake[] = { 1, 1, 0, 1, 1, 0, 1, 1, 0 }, asleep[] = { 2, 1, 1, 2, 0, 0, 5, 2, 0 };
        draw(g, N, 2);
        set_clock(&rows, 2, awake);
        runner_step(&rows, g, 0.01, 7, 1, false);
        runner_step(&last, g + 2 * COLUMNS, 0.01, 1, 1, false);
        runner_read(&rows, "w", w, CRANK_F32), runner_read(&rows, methods[k].state, moment, CRANK_F32);
        draw(g, N, 3);
        set_clock(&rows, 2, asleep);
        runner_step(&rows, g, 0.01, 8, 1, false);
        runner_step(&last, g + 2 * COLUMNS, 0.02, 5, 1, false);
        runner_read(&rows, "w", now, CRANK_F32), runner_read(&rows, methods[k].state, moment2, CRANK_F32);
        runner_read(&last, "w", alone, CRANK_F32);
        assert_memory_equal(now, w, COLUMNS * sizeof *w);                                  /* row 0 sleeps */
        assert_memory_equal(moment, moment2, COLUMNS * sizeof *moment);
        assert_memory_equal(now + COLUMNS, w + COLUMNS, COLUMNS * sizeof *w);              /* row 1 has no rate */
        assert_memory_not_equal(moment + COLUMNS, moment2 + COLUMNS, COLUMNS * sizeof *w); /* but its moments go on */
        assert_memory_equal(now + 2 * COLUMNS, alone, sizeof alone);                       /* row 2: as a tensor of its own */
        runner_close(&rows), runner_close(&last);
    }
}

static void a_skipped_step_changes_no_row(void **state)
{
    (void)state;
    float w[N], g[N], now[N];
    draw(w, N, 1), draw(g, N, 2);
    runner r = runner_open("adamw", "", CRANK_F32, 2, dims, w, 0.1);
    set_clock(&r, 2, (float[]){ 1, 1, 0, 1, 1, 0, 1, 1, 1 });
    runner_step(&r, g, 0.01, 1, 1, true);
    runner_read(&r, "w", now, CRANK_F32);
    assert_memory_equal(now, w, sizeof w);
    runner_close(&r);
}

static void a_clock_of_another_shape_is_refused(void **state)
{
    (void)state;
    float         w[N] = { 0 };
    const int64_t shape[] = { ROWS + 1, 3 };
    runner        r = runner_open("adamw", "", CRANK_F32, 2, dims, w, 0);
    crank_graph  *graph = crank_graph_new(r.context, r.device);
    r.unit.clock = crank_params_add(r.params, "clock", CRANK_ROLE_STATE, CRANK_F32, 2, shape);
    r.unit.optimizer->update(graph, &r.unit, crank_input(graph, "g", CRANK_F32, 2, dims));
    assert_int_equal(crank_graph_status(graph), CRANK_USAGE);
    crank_graph_free(graph);
    runner_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_clock_counts_steps_and_scales_the_rate),
        cmocka_unit_test(rows_that_sleep_stay_and_the_others_move_as_alone),
        cmocka_unit_test(a_skipped_step_changes_no_row),
        cmocka_unit_test(a_clock_of_another_shape_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
