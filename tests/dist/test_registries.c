/* Every optimiser and every low-rank method by name: a run that was stopped and resumed leaves the same bits, and two processes that share
 * each step have the losses of one to 1e-5 of their value. What cannot be shared is refused, and the refusal says why.
 *
 * The two processes are two threads of this one, joined by collectives on memory. */
#include <pthread.h>

#include "../task/runs.h"
#include "dist/dist.h"

/* ---- two threads as processes: each has a table of its own, since collectives may come from any of its threads ---- */

static pthread_barrier_t gate;
static void             *given[2];

static int meet(void)
{
    pthread_barrier_wait(&gate);
    return 0;
}

/* Process 0 adds, and both take its sum, so that they hold the same bits. */
static int sum_of(int rank, void *values, size_t count, bool wide, int root)
{
    given[rank] = values;
    meet();
    for (size_t i = 0; rank == 0 && i < count; i++)
        if (wide) ((double *)given[0])[i] += ((double *)given[1])[i];
        else ((float *)given[0])[i] += ((float *)given[1])[i];
    meet();
    if (rank == 1 && root != 0) memcpy(values, given[0], count * (wide ? sizeof(double) : sizeof(float)));
    return meet();
}

static int broadcast_of(int rank, void *bytes, size_t count, int root)
{
    given[rank] = bytes;
    meet();
    if (rank != root) memcpy(bytes, given[root], count);
    return meet();
}

static int sum_0(void *values, size_t count, bool wide, int root) { return sum_of(0, values, count, wide, root); }
static int sum_1(void *values, size_t count, bool wide, int root) { return sum_of(1, values, count, wide, root); }
static int broadcast_0(void *bytes, size_t count, int root) { return broadcast_of(0, bytes, count, root); }
static int broadcast_1(void *bytes, size_t count, int root) { return broadcast_of(1, bytes, count, root); }

static const dist_table tables[2] = {{.version = DIST_VERSION, .sum = sum_0, .broadcast = broadcast_0, .barrier = meet},
                                     {.version = DIST_VERSION, .sum = sum_1, .broadcast = broadcast_1, .barrier = meet}};

typedef struct process {
    const run_words *words;
    int              rank;
    crank_status     status;
    char             message[1024];
} process;

static void *run_process(void *data)
{
    process       *p = data;
    train_outcome  outcome;
    const char    *words[RUN_WORDS];
    crank_context *context = crank_context_new();
    for (int i = 0; i < p->words->count; i++) words[i] = p->words->text[i];
    task_recipe *recipe = task_recipe_load(context, NULL, words, (size_t)p->words->count);
    p->status = recipe ? CRANK_OK : crank_last_status(context);
    if (recipe) {
        recipe->group = (dist_group){.rank = p->rank, .size = 2, .local_rank = p->rank, .local_size = 2, .table = &tables[p->rank]};
        recipe->train->accumulate *= 2;
        p->status = train_run(context, recipe, &(train_how){.progress = -1}, &outcome);
        train_outcome_free(&outcome);
    }
    snprintf(p->message, sizeof p->message, "%s", crank_message(context));
    task_recipe_free(recipe);
    crank_context_free(context);
    return NULL;
}

/* Both processes fail alike, or both end. */
static process run_two(const run_words *words)
{
    process   p[2] = {{.words = words, .rank = 0}, {.words = words, .rank = 1}};
    pthread_t threads[2];
    pthread_barrier_init(&gate, NULL, 2);
    for (int i = 0; i < 2; i++) pthread_create(&threads[i], NULL, run_process, &p[i]);
    for (int i = 0; i < 2; i++) pthread_join(threads[i], NULL);
    pthread_barrier_destroy(&gate);
    if (p[0].status != p[1].status) fail_msg("process 0: %d, %s; process 1: %d, %s", p[0].status, p[0].message, p[1].status, p[1].message);
    return p[0];
}

/* ---- what is run ---- */

/* More words for a name, so that four steps hold a refresh, a switch or a fold. */
static const struct {
    const char *name, *words;
} more[] = {
    {"galore", "optim.rank=3 optim.gap=2"}, {"fira", "optim.rank=3 optim.gap=2"}, {"frugal", "optim.gap=2"}, {"lisa", "optim.layers=1 optim.interval=2"},
    {"gradnorm", "optim.rank=3 optim.gap=2"}, {"badam", "optim.interval=2"}, {"owlore", "optim.layers=1 optim.interval=2 optim.sampling=uniform optim.rank=3 optim.gap=2"}, {"adamw8bit", "optim.min_size=16"},
    {"sgd", "optim.momentum=0.9"}, {"sltrain", "lowrank.rank=4 lowrank.density=0.2"}, {"sst", "lowrank.rank=4 lowrank.steps=2"}, {"relora", "lowrank.rank=4 lowrank.every=2 lowrank.restart=1"},
    {"smora", "lowrank.rank=8 lowrank.active=2"},
};

static const char *words_for(const char *name)
{
    for (size_t i = 0; i < sizeof more / sizeof *more; i++)
        if (!strcmp(more[i].name, name)) return more[i].words;
    return "";
}

static bool has_rank(const crank_option *option)
{
    for (; option && option->type != CRANK_OPTION_END; option++)
        if (!strcmp(option->name, "rank") && option->type == CRANK_OPTION_INT) return true;
    return false;
}

static run_words words_with(const char *out, const char *name, const crank_map *map, int accumulate)
{
    run_words w = words_of("llama", "text.txt", out, "train.steps=4 train.eval_every=2 data.eval_share=0.2 train.batch=2 train.threads=1 model.compute=f32 train.keep=last train.lr=0.003 train.log_every=1");
    words_add(&w, "train.accumulate=%d", accumulate);
    if (map) words_add(&w, "lowrank.method=%s", name);
    else words_split(&w, "lowrank.method=none"), words_add(&w, "optim.method=%s", name);
    const char *own = words_for(name);
    words_split(&w, own);
    if (map && has_rank(map->options) && !strstr(own, "lowrank.rank=")) words_split(&w, "lowrank.rank=4");
    return w;
}

/* Training losses by step. */
static int losses_of(const char *out, double losses[8])
{
    char name[128];
    int  count = 0;
    snprintf(name, sizeof name, "%s/metrics.jsonl", out);
    char *text = runs_read(runs_path(name), NULL);
    if (!text) fail_msg("no %s", name);
    for (char *line = strtok(text, "\n"); line && count < 8; line = strtok(NULL, "\n"))
        if (strstr(line, "\"train/loss\":")) losses[count++] = json_number_of(line, "train/loss");
    free(text);
    return count;
}

static void resumes(const char *name, const crank_map *map)
{
    const char *result = map ? "adapter/adapter_model.safetensors" : "model/model.safetensors";
    char        whole[128], parted[128];
    run_words   a = words_with("whole", name, map, 1), b = words_with("parted", name, map, 1);
    runs_finish(&a);
    run_result first = runs_train(&b, 2);
    if (first.status != CRANK_STOPPED) fail_msg("%s: not stopped: %s\n%s", name, first.message, first.log);
    run_result second = runs_train(&b, 0);
    if (second.status != CRANK_OK) fail_msg("%s: %s\n%s", name, second.message, second.log);
    snprintf(whole, sizeof whole, "whole/%s", result), snprintf(parted, sizeof parted, "parted/%s", result);
    if (!runs_same_file(runs_path(whole), runs_path(parted))) fail_msg("%s: resumed behind step 2, the result differs", name);
    free(first.log), free(second.log);
    runs_remove(runs_path("whole")), runs_remove(runs_path("parted"));
}

/* `reason`: a word of the refusal, or NULL. */
static void shares(const char *name, const crank_map *map, const char *reason)
{
    double    one[8], two[8];
    run_words a = words_with("one", name, map, 2), b = words_with("two", name, map, 1);
    process   p = run_two(&b);
    if (reason) {
        if (p.status != CRANK_USAGE || !strstr(p.message, reason)) fail_msg("%s in two processes: wanted a refusal that says `%s`; status %d, %s", name, reason, p.status, p.message);
        runs_remove(runs_path("two"));
        return;
    }
    if (p.status != CRANK_OK) fail_msg("%s in two processes: %s", name, p.message);
    runs_finish(&a);
    int count = losses_of("one", one);
    assert_int_equal(count, 4);
    assert_int_equal(losses_of("two", two), count);
    for (int i = 0; i < count; i++)
        if (!(fabs(one[i] - two[i]) <= 1e-5 * fabs(one[i]))) fail_msg("%s: the loss of step %d is %.9g in one process and %.9g in two", name, i + 1, one[i], two[i]);
    runs_remove(runs_path("one")), runs_remove(runs_path("two"));
}

static void every_optimiser_resumes_with_the_same_bits(void **state)
{
    (void)state;
    for (size_t i = 0; crank_optimizer_at(i); i++) resumes(crank_optimizer_at(i)->name, NULL);
}

static void every_low_rank_method_resumes_with_the_same_bits(void **state)
{
    (void)state;
    for (size_t i = 0; crank_map_at(i); i++) resumes(crank_map_at(i)->name, crank_map_at(i));
}

static void every_optimiser_is_shared_by_two_processes(void **state)
{
    (void)state;
    for (size_t i = 0; crank_optimizer_at(i); i++) shares(crank_optimizer_at(i)->name, NULL, crank_optimizer_at(i)->propose ? "without gradients" : NULL);
}

static void every_low_rank_method_is_shared_by_two_processes(void **state)
{
    (void)state;
    for (size_t i = 0; crank_map_at(i); i++) shares(crank_map_at(i)->name, crank_map_at(i), NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_optimiser_resumes_with_the_same_bits),
        cmocka_unit_test(every_low_rank_method_resumes_with_the_same_bits),
        cmocka_unit_test(every_optimiser_is_shared_by_two_processes),
        cmocka_unit_test(every_low_rank_method_is_shared_by_two_processes),
    };
    return cmocka_run_group_tests(tests, runs_setup, runs_teardown);
}
