/* Two contexts in two threads: options, recipes, JSON, numbers and random draws at once give each thread what one alone
 * gets. No OpenMP here, so that ThreadSanitizer can follow everything (-DCRANK_TSAN=ON). */
#include "testing.h"

#include <pthread.h>

#include "base/file.h"
#include "base/json.h"
#include "base/number.h"
#include "crank/random.h"
#include "crank/recipe.h"
#include "crank/tensor.h"

typedef struct {
    int64_t     rank;
    double      alpha;
    const char *targets;
} options;

static const crank_option table[] = { /* shared, as methods' tables are */
    CRANK_INT(options, rank, 16, 1, 65536, "rank"),
    CRANK_FLOAT(options, alpha, 32, 0, 1e9, "scale"),
    CRANK_LIST(options, targets, NULL, "linears"),
    CRANK_END,
};

enum { ROUNDS = 60 };

typedef struct {
    char     path[64];
    int      rank;
    uint32_t sum; /* over all that the thread made */
    bool     good;
} work;

static void add(work *own, const char *text)
{
    own->sum = own->sum * 31 + crank_hash_name(text);
}

static bool use_recipe(crank_context *context, work *own, int round)
{
    char value[64];
    snprintf(value, sizeof value, "lowrank.rank=%d", own->rank + round);
    const char *const override = value;
    options          *opt = crank_options_new(context, table, sizeof *opt);
    crank_recipe     *recipe = crank_recipe_load(context, own->path, &override, 1);
    bool              good = recipe && crank_recipe_read(context, recipe, "lowrank", table, opt) == CRANK_OK &&
                crank_recipe_finish(context, recipe) == CRANK_OK && opt->rank == own->rank + round;
    char *text = recipe ? crank_recipe_text(context, recipe) : NULL;
    add(own, text ? text : "");
    good = good && crank_options_set(context, table, opt, "rnak", "1", own->path) == CRANK_USAGE;
    add(own, strrchr(crank_message(context), ':')); /* the context's own message */
    crank_free(text);
    crank_recipe_free(recipe);
    crank_options_free(opt);
    return good;
}

static bool use_json(crank_context *context, work *own, int round)
{
    char text[128], number[NUMBER_SIZE];
    number_print(own->rank / (3.0 + round), number);
    snprintf(text, sizeof text, "{\"a\":%s,\"b\":[1,2,%d]}", number, own->rank);
    json_t *value = json_parse(context, text, strlen(text), own->path);
    char   *again = value ? json_text(context, value, 0) : NULL;
    bool    good = again && strcmp(again, text) == 0 && !json_parse(context, "{\"a\":1,\"a\":2}", 13, own->path);
    add(own, again ? again : "");
    crank_free(again);
    json_decref(value);
    return good;
}

static bool use_random(work *own, int round)
{
    float    values[1000];
    uint16_t halves[1000];
    char     text[32];
    crank_fill_normal(crank_stream_make((uint64_t)own->rank, CRANK_RANDOM_TEST, (uint32_t)round), 0, 0, 1, values, 1000);
    crank_convert(halves, CRANK_BF16, values, CRANK_F32, 1000);
    for (int i = 0; i < 1000; i++) own->sum = own->sum * 31 + halves[i];
    snprintf(text, sizeof text, "%u", crank_draw_bits(crank_stream_make(1, CRANK_RANDOM_TEST, 2), (uint64_t)round));
    add(own, text);
    return true;
}

static void *run(void *argument)
{
    work          *own = argument;
    crank_context *context = crank_context_new();
    own->sum = 0;
    own->good = true;
    for (int round = 0; round < ROUNDS; round++)
        own->good = own->good && use_recipe(context, own, round) && use_json(context, own, round) && use_random(own, round);
    crank_context_free(context);
    return NULL;
}

static void two_contexts_in_two_threads_do_not_meet(void **state)
{
    (void)state;
    crank_context *context = crank_context_new();
    work           together[2], alone[2];
    pthread_t      threads[2];
    for (int i = 0; i < 2; i++) {
        snprintf(together[i].path, sizeof together[i].path, "/tmp/crank_threads_%d_XXXXXX", i);
        close(mkstemp(together[i].path));
        assert_ok(context, file_write_text(context, together[i].path, "lowrank:\n  alpha: 0.5\n  targets: [a, b]\n"));
        together[i].rank = 100 * (i + 1);
        alone[i] = together[i];
        run(&alone[i]);
        assert_true(alone[i].good);
    }
    for (int i = 0; i < 2; i++) assert_int_equal(pthread_create(&threads[i], NULL, run, &together[i]), 0);
    for (int i = 0; i < 2; i++) pthread_join(threads[i], NULL);
    for (int i = 0; i < 2; i++) {
        unlink(together[i].path);
        assert_true(together[i].good);
        assert_int_equal(together[i].sum, alone[i].sum);
    }
    assert_int_not_equal(alone[0].sum, alone[1].sum);
    crank_context_free(context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(two_contexts_in_two_threads_do_not_meet)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
