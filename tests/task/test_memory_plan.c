/* The memory plan against what the system reports: for random recipes the peak resident set of the program, less what it takes when
 * idle, is the planned peak within 3 % or 64 MiB. CRANK_LONG=1 tries thirty recipes instead of six. */
#include "runs.h"

static unsigned draw_state = 20240607;

static int draw(int n)
{
    draw_state = draw_state * 1664525u + 1013904223u;
    return (int)(((uint64_t)draw_state * (unsigned)n) >> 32);
}

/* Memory of the program before it does anything, from `crank doctor --json`. */
static double idle_memory(void)
{
    run_words    w = {.count = 0};
    words_add(&w, "--json");
    child_result r = child_run("doctor", &w, 0);
    double       own = r.code == 0 ? json_number_of(r.out, "own_memory") : NAN;
    child_free(&r);
    if (!isfinite(own)) fail_msg("crank doctor does not tell its memory");
    return own;
}

static bool has_bf16(void)
{
    run_words    w = {.count = 0};
    words_add(&w, "--json");
    child_result r = child_run("doctor", &w, 0);
    bool         native = json_number_of(r.out, "bf16_flops") > 0;
    child_free(&r);
    return native;
}

static const char *pick(const char *const *list, int count) { return list[draw(count)]; }

/* A recipe drawn by its number; `told` describes it. */
static run_words random_recipe(int number, bool bf16, char told[512])
{
    static const char *const families[] = {"llama", "gpt2", "bert"};
    static const char *const methods[] = {"lora", "dora", "none"};
    static const char *const optimizers[] = {"adamw", "adamw8bit"};
    static const char *const computes[] = {"f32", "bf16"};
    static const int         widths[] = {256, 512, 768, 1024}, ranks[] = {4, 16, 64}, batches[] = {2, 4, 8}, contexts[] = {64, 128, 256};
    const char *family = families[number % 3], *method = pick(methods, 3), *optimizer = pick(optimizers, 2), *compute = bf16 ? pick(computes, 2) : "f32";
    int width = widths[draw(4)], layers = 2 + draw(3), rank = ranks[draw(3)], batch = batches[draw(3)], context = contexts[draw(3)], accumulate = 1 + draw(3);
    bool classify = !strcmp(family, "bert");
    char name[64], more[400];
    snprintf(name, sizeof name, "%s%d", family, number);
    runs_write_model(name, family, width, layers, 8192, 256);
    snprintf(more, sizeof more, "lowrank.method=%s%s model.compute=%s optim.method=%s train.batch=%d train.accumulate=%d train.steps=3 train.threads=2%s", method,
             "", compute, optimizer, batch, accumulate, classify ? " loss.objective=classification model.labels=3" : "");
    if (strcmp(method, "none")) snprintf(more + strlen(more), sizeof more - strlen(more), " lowrank.rank=%d", rank);
    if (number % 4 == 1) snprintf(more + strlen(more), sizeof more - strlen(more), " data.eval_share=0.2");
    run_words w = words_of(name, classify ? "labels.tsv" : "text.txt", "memory", more);
    for (int i = 0; i < w.count; i++)
        if (!strncmp(w.text[i], "data.context=", 13)) snprintf(w.text[i], sizeof w.text[i], "data.context=%d", context);
    words_add(&w, "--json");
    snprintf(told, 512, "%-5s %4d x %d, %s r%d, %s, %s, batch %d x %d, accumulate %d%s", family, width, layers, method, rank, optimizer, compute, batch, context,
             accumulate, number % 4 == 1 ? ", eval" : "");
    return w;
}

typedef struct measured {
    double planned, peak;
} measured;

static measured run_one(const run_words *w, double idle, const char *told)
{
    runs_remove(runs_path("memory"));
    child_result r = child_run("train", w, 0);
    if (r.code) fail_msg("%s: %s", told, r.err);
    measured m = {json_number_of(r.out, "planned_bytes"), (double)r.peak - idle};
    child_free(&r);
    return m;
}

static bool close_enough(const char *told, measured m)
{
    double off = m.peak - m.planned, allowed = fmax(0.03 * m.planned, 64.0 * 1048576);
    print_message("%-80s planned %7.1f MiB, peak %7.1f, off %+6.1f (%+.1f %%)\n", told, m.planned / 1048576, m.peak / 1048576, off / 1048576, 100 * off / m.planned);
    return fabs(off) <= allowed;
}

static void planned_peaks_are_what_the_system_reports(void **state)
{
    (void)state;
    if (SANITIZED) skip();
    bool   bf16 = has_bf16();
    double idle = idle_memory(), largest = 0;
    int    count = runs_long() ? 30 : 6, wrong = 0;
    for (int i = 0; i < count; i++) {
        char      told[512], limited[600];
        run_words w = random_recipe(i, bf16, told);
        measured  m = run_one(&w, idle, told);
        wrong += !close_enough(told, m);
        largest = fmax(largest, m.planned);
        if (i % 5 != 4) continue;
        snprintf(limited, sizeof limited, "  the same with memory.limit");
        words_add(&w, "memory.limit=%.1f", m.planned / 1048576 * 0.9);
        child_result r = child_run("train", &w, 0); /* refused where activations are small */
        if (r.code == 0) child_free(&r), runs_remove(runs_path("memory")), wrong += !close_enough(limited, run_one(&w, idle, limited));
        else if (!strstr(r.err, "memory.limit")) fail_msg("%s: %s", told, r.err);
        else child_free(&r);
    }
    assert_true(largest >= 150.0 * 1048576);
    assert_int_equal(wrong, 0);
}

/* Rows, raw text and tokens at once: the peak of loading is planned too. */
static void large_data_are_planned(void **state)
{
    (void)state;
    if (SANITIZED) skip();
    char  line[64];
    FILE *file = fopen(runs_path("large.txt"), "w");
    for (int i = 0; i < 600000; i++) snprintf(line, sizeof line, "the rank of a matrix %d\n", i), fputs(line, file);
    fclose(file);
    run_words w = words_of("llama", "large.txt", "memory", "train.steps=2 train.batch=2 model.compute=f32 --json");
    measured  m = run_one(&w, idle_memory(), "large data");
    remove(runs_path("large.txt"));
    assert_true(close_enough("large data", m));
}

/* State is read from its file without holding the file's pages. */
static void resumed_runs_keep_to_the_plan(void **state)
{
    (void)state;
    if (SANITIZED) skip();
    double idle = idle_memory();
    runs_write_model("resumed", "llama", 768, 2, 4096, 128);
    for (int steps = 2; steps <= 3; steps++) {
        char more[256];
        snprintf(more, sizeof more, "lowrank.method=none train.steps=%d train.batch=2 model.compute=f32 --json", steps);
        run_words    w = words_of("resumed", "text.txt", "again", more);
        child_result r = child_run("train", &w, 0);
        if (r.code) fail_msg("%s", r.err);
        measured m = {json_number_of(r.out, "planned_bytes"), (double)r.peak - idle};
        assert_true(m.planned >= 200.0 * 1048576);
        assert_true(close_enough(steps == 2 ? "full training" : "  resumed", m));
        child_free(&r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(planned_peaks_are_what_the_system_reports),
        cmocka_unit_test(large_data_are_planned),
        cmocka_unit_test(resumed_runs_keep_to_the_plan),
    };
    return cmocka_run_group_tests(tests, runs_setup, runs_teardown);
}
