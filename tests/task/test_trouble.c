/* What goes wrong outside of the maths: a full disk, folders that cannot be written, too little memory, numbers that are not finite.
 * Each is told with what, where and what to do, and the last good state stays. */
#include "runs.h"

#include <sys/mount.h>

static const char small[] = "train.steps=6 train.save_every=2 train.batch=2 lowrank.rank=4 model.compute=f32 ";

/* ---- disks ---- */

/* A file may not grow past the limit: what a full disk does, on one file. */
static void a_checkpoint_that_does_not_fit_leaves_the_old_one(void **state)
{
    (void)state;
    run_words w = words_of("llama", "text.txt", "full", small);
    run_words more = words_of("llama", "text.txt", "full", "train.steps=12 train.save_every=2 train.batch=2 lowrank.rank=4 model.compute=f32");
    runs_finish(&w);
    size_t before = 0, after = 0;
    char  *old = runs_read(runs_path("full/checkpoint/state.safetensors"), &before), *json = runs_read(runs_path("full/checkpoint/checkpoint.json"), NULL);
    assert_non_null(old);
    child_result r = child_run("train", &more, 20000); /* logs fit, the state does not */
    if (r.code != 1 || !strstr(r.err, "full/checkpoint.new/state.safetensors") || !strstr(r.err, "cannot be written"))
        fail_msg("code %d: %s", r.code, r.err);
    child_free(&r);
    char *now = runs_read(runs_path("full/checkpoint/state.safetensors"), &after), *json_now = runs_read(runs_path("full/checkpoint/checkpoint.json"), NULL);
    assert_true(before == after && !memcmp(old, now, before));
    assert_string_equal(json, json_now);
    assert_int_not_equal(access(runs_path("full/checkpoint.new"), F_OK), 0);
    run_result second = runs_train(&more, 0);
    if (second.status != CRANK_OK) fail_msg("%s", second.message);
    assert_non_null(strstr(second.log, "resumed from"));
    runs_check_metrics("full", 12);
    free(old), free(now), free(json), free(json_now), free(second.log);
}

static void a_run_goes_on_when_a_full_disk_has_room_again(void **state)
{
    (void)state;
    run_words w = words_of("llama", "text.txt", "disk/run", "train.steps=12 train.save_every=4 train.batch=2 lowrank.rank=32 model.compute=f32");
    mkdir(runs_path("disk"), 0777);
    if (mount("none", runs_path("disk"), "tmpfs", 0, "size=512k")) {
        print_message("no tmpfs can be mounted here\n");
        skip();
    }
    child_result r = child_run("train", &w, 0);
    int          code = r.code;
    char        *told = strdup(r.err);
    child_free(&r);
    bool grown = !mount("none", runs_path("disk"), "tmpfs", MS_REMOUNT, "size=16m");
    r = child_run("train", &w, 0);
    int   second = r.code;
    char *then = strdup(r.err);
    child_free(&r);
    bool saved = !access(runs_path("disk/run/adapter/adapter_model.safetensors"), R_OK);
    umount2(runs_path("disk"), MNT_DETACH);
    if (code != 1 || !strstr(told, "disk/run") || !strstr(told, "No space left")) fail_msg("code %d: %s", code, told);
    if (!grown || second || !saved) fail_msg("code %d: %s", second, then);
    free(told), free(then);
}

static void an_output_that_is_a_file_is_told(void **state)
{
    (void)state;
    run_words w = words_of("llama", "text.txt", "a-file", small);
    runs_write("a-file", "text\n");
    run_result r = runs_train(&w, 0);
    assert_int_equal(r.status, CRANK_FAILED);
    if (!strstr(r.message, "a-file")) fail_msg("%s", r.message);
    free(r.log);
    char *text = runs_read(runs_path("a-file"), NULL);
    assert_string_equal(text, "text\n");
    free(text);
}

/* root writes anywhere: a file system without the right to write is needed. */
static void a_read_only_folder_is_told(void **state)
{
    (void)state;
    run_words w = words_of("llama", "text.txt", "locked/run", small);
    mkdir(runs_path("locked"), 0777);
    bool mounted = !mount("none", runs_path("locked"), "tmpfs", MS_RDONLY, "size=64k");
    if (!mounted) chmod(runs_path("locked"), 0555);
    if (!mounted && !access(runs_path("locked"), W_OK)) skip();
    run_result r = runs_train(&w, 0);
    if (mounted) umount2(runs_path("locked"), MNT_DETACH);
    chmod(runs_path("locked"), 0777);
    if (r.status != CRANK_FAILED || !strstr(r.message, "locked/run")) fail_msg("status %d: %s", r.status, r.message);
    free(r.log);
}

/* ---- memory ---- */

static double log_number(const char *log, const char *before)
{
    const char *at = strstr(log, before);
    return at ? strtod(at + strlen(before), NULL) : NAN;
}

static void losses_of(const char *out, double *losses, int count)
{
    char name[64];
    snprintf(name, sizeof name, "%s/metrics.jsonl", out);
    char *text = runs_read(runs_path(name), NULL);
    int   have = 0;
    for (char *line = text ? strtok(text, "\n") : NULL; line; line = strtok(NULL, "\n"))
        if (strstr(line, "train/loss") && have < count) losses[have++] = json_number_of(line, "train/loss");
    free(text);
    assert_int_equal(have, count);
}

static void memory_limits_recompute_or_refuse(void **state)
{
    (void)state;
    if (SANITIZED) skip();
    const char *recipe = "train.steps=6 train.batch=8 lowrank.rank=4 model.compute=f32 lowrank.dropout=0.1 ";
    char        more[512];
    double      free_losses[6], tight_losses[6];
    runs_write_model("deep", "llama", 128, 8, 1280, 128);
    run_words  w = words_of("deep", "text.txt", "wide", recipe);
    run_result r = runs_train(&w, 0);
    if (r.status != CRANK_OK) fail_msg("%s", r.message);
    double activations = log_number(r.log, "activations "), peak = log_number(r.log, "; peak ");
    assert_null(strstr(r.log, "computed again"));
    free(r.log);

    snprintf(more, sizeof more, "%s memory.limit=%.2f", recipe, peak - 0.5 * activations);
    w = words_of("deep", "text.txt", "tight", more);
    r = runs_train(&w, 0);
    if (r.status != CRANK_OK) fail_msg("%s", r.message);
    if (!strstr(r.log, "computed again")) fail_msg("nothing is computed again: %s", r.log);
    assert_true(log_number(r.log, "; peak ") <= peak - 0.5 * activations);
    free(r.log);
    losses_of("wide", free_losses, 6), losses_of("tight", tight_losses, 6);
    for (int i = 0; i < 6; i++) assert_true(free_losses[i] == tight_losses[i]);
    assert_true(runs_same_file(runs_path("wide/adapter/adapter_model.safetensors"), runs_path("tight/adapter/adapter_model.safetensors")));

    for (int i = 0; i < 2; i++) { /* no room for activations, and none for the weights */
        snprintf(more, sizeof more, "%s memory.limit=%.2f", recipe, i ? 1.0 : peak - activations + 0.1);
        w = words_of("deep", "text.txt", "none", more);
        r = runs_train(&w, 0);
        if (r.status != CRANK_FAILED || !strstr(r.message, "MiB") || !strstr(r.message, "memory.limit") || !strstr(r.message, "train.batch") ||
            !strstr(r.message, "data.context"))
            fail_msg("status %d: %s", r.status, r.message);
        assert_int_not_equal(access(runs_path("none"), F_OK), 0); /* before anything is written */
        free(r.log);
    }
}

/* ---- numbers that are not finite ---- */

static int count_of(const char *text, const char *part)
{
    int n = 0;
    for (const char *at = strstr(text, part); at; at = strstr(at + 1, part)) n++;
    return n;
}

/* Puts a NaN into the first element of the tensor whose name holds `part`. */
static void poison(const char *path, const char *part)
{
    size_t   n = 0;
    uint64_t header;
    char    *bytes = runs_read(path, &n);
    assert_non_null(bytes);
    memcpy(&header, bytes, 8);
    char *name = memmem(bytes + 8, header, part, strlen(part)), *offsets = name ? memmem(name, 400, "\"data_offsets\":[", 16) : NULL;
    assert_non_null(offsets);
    float bad = NAN;
    memcpy(bytes + 8 + header + strtoull(offsets + 16, NULL, 10), &bad, sizeof bad);
    FILE *file = fopen(path, "wb");
    fwrite(bytes, 1, n, file), fclose(file), free(bytes);
}

static void a_nan_in_a_weight_skips_ten_steps_and_stops(void **state)
{
    (void)state;
    run_words w = words_of("llama", "text.txt", "base", "lowrank.method=none train.steps=1 train.batch=2 model.compute=f32 train.lr=0");
    runs_finish(&w);
    poison(runs_path("base/model/model.safetensors"), "mlp.down_proj.weight");
    w = words_of("llama", "text.txt", "nan", "train.steps=30 train.save_every=5 train.batch=2 model.compute=f32 lowrank.rank=4");
    snprintf(w.text[0], sizeof w.text[0], "model.path=%s", runs_path("base/model"));
    run_result r = runs_train(&w, 0);
    assert_int_equal(r.status, CRANK_FAILED);
    assert_non_null(strstr(r.message, "10 steps in a row"));
    assert_int_equal(count_of(r.log, "nothing was changed"), 10);
    size_t n = 0;
    char  *saved = runs_read(runs_path("nan/checkpoint/state.safetensors"), &n);
    assert_non_null(saved);
    for (size_t i = 8 + (size_t)*(uint64_t *)(void *)saved; i + 4 <= n; i += 4) assert_true(isfinite(*(float *)(void *)(saved + i))); /* B is still 0, A as drawn */
    free(saved), free(r.log);
}

static void an_absurd_rate_stops_with_finite_weights(void **state)
{
    (void)state;
    run_words  w = words_of("llama", "text.txt", "rate", "lowrank.method=none train.steps=40 train.save_every=1 train.batch=2 model.compute=f32 train.lr=1e6 train.clip=0 optim.method=sgd");
    run_result r = runs_train(&w, 0);
    if (r.status != CRANK_FAILED || !strstr(r.message, "10 steps in a row")) fail_msg("status %d: %s", r.status, r.message);
    size_t n = 0;
    char  *saved = runs_read(runs_path("rate/checkpoint/state.safetensors"), &n);
    assert_non_null(saved);
    for (size_t i = 8 + (size_t)*(uint64_t *)(void *)saved; i + 4 <= n; i += 4) assert_false(isnan(*(float *)(void *)(saved + i)));
    free(saved), free(r.log);
}

/* sum_s w_s sqrt((v_s - 1.5)^2 output_s^2): finite everywhere; the gradient is 0 * infinity where a label is 1.5. */
static crank_tensor *record_cliff(crank_graph *graph, const crank_scores *scores, const void *options)
{
    (void)graph, (void)options;
    crank_tensor *output = crank_reshape(scores->outputs, 1, scores->values->dims), *from = crank_affine(scores->values, 1, -1.5);
    crank_tensor *squares = crank_mul(crank_unary(CRANK_SQUARE, from), crank_unary(CRANK_SQUARE, output));
    crank_tensor *empty = crank_affine(scores->sequence_weights, -1, 1); /* places without a sequence stay off the cliff */
    return crank_sum(crank_mul(crank_unary(CRANK_SQRT, crank_add(squares, empty)), scores->sequence_weights));
}

static const crank_objective cliff = {.name = "test_cliff", .scores = CRANK_SCORES_OUTPUTS, .fields = CRANK_FIELD_VALUES, .record = record_cliff};

/* Both leave out the steps with a row of label 1.5, and no other. */
static void updates_inside_go_back_and_leave_the_bad_steps_out(void **state)
{
    (void)state;
    const char *more = "loss.objective=test_cliff model.labels=1 lowrank.method=none train.steps=24 train.save_every=3 train.batch=2 model.compute=f32 "
                       "train.clip=0 train.keep=last";
    char        words[512];
    runs_write_model("bertcliff", "bert", 32, 2, 1280, 128);
    run_words  apart = words_of("bertcliff", "values.tsv", "apart", more);
    run_result a = runs_train(&apart, 0);
    if (a.status != CRANK_OK) fail_msg("%s\n%s", a.message, a.log);
    snprintf(words, sizeof words, "%s train.inside=true", more);
    run_words  inside = words_of("bertcliff", "values.tsv", "inside", words);
    run_result b = runs_train(&inside, 0);
    if (b.status != CRANK_OK) fail_msg("%s\n%s", b.message, b.log);
    assert_true(a.outcome.skipped > 1 && a.outcome.skipped == b.outcome.skipped);
    assert_int_equal(count_of(b.log, "went back to the checkpoint"), b.outcome.skipped);
    assert_int_equal(count_of(a.log, "the gradient is not finite; nothing was changed"), a.outcome.skipped);
    runs_check_metrics("apart", 24), runs_check_metrics("inside", 24);
    assert_true(runs_same_file(runs_path("apart/model/model.safetensors"), runs_path("inside/model/model.safetensors")));
    free(a.log), free(b.log);
}

static void updates_inside_stop_after_ten_bad_steps(void **state)
{
    (void)state;
    runs_write("bad.tsv", "label\ttext\n1.5\tthe rank\n1.5\ta matrix\n1.5\tof data\n");
    run_words  w = words_of("bertcliff", "bad.tsv", "ten", "loss.objective=test_cliff model.labels=1 lowrank.method=none train.steps=24 train.batch=2 "
                                                            "model.compute=f32 train.clip=0 train.inside=true");
    run_result r = runs_train(&w, 0);
    if (r.status != CRANK_FAILED || !strstr(r.message, "10 steps in a row")) fail_msg("status %d: %s\n%s", r.status, r.message, r.log);
    free(r.log);
}

static int setup(void **state)
{
    crank_context *context = crank_context_new();
    crank_status   status = crank_register_objective(context, &cliff);
    crank_context_free(context);
    return status == CRANK_OK ? runs_setup(state) : 1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_checkpoint_that_does_not_fit_leaves_the_old_one),
        cmocka_unit_test(a_run_goes_on_when_a_full_disk_has_room_again),
        cmocka_unit_test(an_output_that_is_a_file_is_told),
        cmocka_unit_test(a_read_only_folder_is_told),
        cmocka_unit_test(memory_limits_recompute_or_refuse),
        cmocka_unit_test(a_nan_in_a_weight_skips_ten_steps_and_stops),
        cmocka_unit_test(an_absurd_rate_stops_with_finite_weights),
        cmocka_unit_test(updates_inside_go_back_and_leave_the_bad_steps_out),
        cmocka_unit_test(updates_inside_stop_after_ten_bad_steps),
    };
    return cmocka_run_group_tests(tests, setup, runs_teardown);
}
