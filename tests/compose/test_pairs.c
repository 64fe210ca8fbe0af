/* Every pair of base weights, method, optimiser, objective, family and precision occurs in one recipe: two steps, a stop with a
 * checkpoint, a resumed run to the end. A recipe works, or a rule of the table that `crank help matrix` prints refuses it. */
#include "../task/runs.h"
#include "task/rules.h"

enum { FACTORS = 6, MOST = 12, RECIPES = 120 };

typedef struct factor {
    const char *key;
    int         count;
    const char *values[MOST];
} factor;

static const factor factors[FACTORS] = {
    {"model.weights", 5, {"f32", "bf16", "f64", "nf4", "fp8"}},
    {"lowrank.method", 3, {"lora", "dora", "none"}},
    {"optim.method", 10, {"adamw", "adamw8bit", "sgd", "lion", "adafactor", "signsgd", "muon", "galore", "fira", "frugal"}},
    {"loss.objective", 3, {"cross_entropy", "classification", "regression"}},
    {"family", 5, {"llama", "gpt2", "bert", "roberta", "qwen2"}},
    {"model.compute", 3, {"f32", "f64", "bf16"}},
};
enum { WEIGHTS, METHOD, OPTIMIZER, OBJECTIVE, FAMILY, COMPUTE };

typedef struct choice {
    int of[FACTORS];
} choice;

static bool covered[FACTORS][MOST][FACTORS][MOST];

static int fresh_pairs(const choice *c, int known)
{
    int n = 0;
    for (int i = 0; i < known; i++) n += !covered[i][c->of[i]][known][c->of[known]];
    return n;
}

/* Next tokens of an encoder; base weights of four or eight bits that are trained, or read by DoRA. */
static bool forbidden(const choice *c)
{
    return (c->of[OBJECTIVE] == 0 && strstr(factors[FAMILY].values[c->of[FAMILY]], "bert")) || (c->of[WEIGHTS] >= 3 && c->of[METHOD] > 0);
}

static void cover(const choice *c)
{
    for (int i = 0; i < FACTORS; i++)
        for (int j = 0; j < FACTORS; j++) covered[i][c->of[i]][j][c->of[j]] = true;
}

static int open_pairs(const choice *c)
{
    int n = 0;
    for (int j = 1; j < FACTORS; j++) n += fresh_pairs(c, j);
    return n;
}

/* The next recipe: of many drawn ones, the one with most new pairs. Those that no encoder can learn come once each, at the end. */
static bool next_choice(choice *best, int computes, bool allow)
{
    static unsigned draw = 99;
    int             most = 0;
    for (int trial = 0; trial < 4000; trial++) {
        choice c;
        for (int i = 0; i < FACTORS; i++) {
            draw = draw * 1664525u + 1013904223u;
            c.of[i] = (int)((draw >> 12) % (unsigned)(i == COMPUTE ? computes : factors[i].count));
        }
        if (!allow && forbidden(&c)) continue;
        int fresh = open_pairs(&c);
        if (fresh > most) most = fresh, *best = c;
    }
    return most > 0;
}

static void words_of_choice(const choice *c, run_words *w, char told[256])
{
    const char *family = factors[FAMILY].values[c->of[FAMILY]], *objective = factors[OBJECTIVE].values[c->of[OBJECTIVE]];
    char        more[512];
    int         labels = c->of[OBJECTIVE] == 1 ? 3 : c->of[OBJECTIVE] == 2 ? 1 : 0;
    snprintf(more, sizeof more, "train.steps=4 train.eval_every=2 data.eval_share=0.2 train.batch=2 train.accumulate=2 train.keep=last model.labels=%d", labels);
    *w = words_of(family, labels == 3 ? "labels.tsv" : labels == 1 ? "values.tsv" : "text.txt", "pair", more);
    told[0] = 0;
    for (int i = 0; i < FACTORS; i++) {
        if (i != FAMILY) words_add(w, "%s=%s", factors[i].key, factors[i].values[c->of[i]]);
        snprintf(told + strlen(told), 256 - strlen(told), "%s%s", i ? ", " : "", factors[i].values[c->of[i]]);
    }
    (void)objective;
}

static bool names_a_rule(const char *message)
{
    char wanted[128];
    for (size_t i = 0; rules_at(i); i++) {
        snprintf(wanted, sizeof wanted, "(rule `%s`", rules_at(i)->name);
        if (strstr(message, wanted)) return true;
    }
    return false;
}

/* 1: works, 0: refused by a rule, -1: neither. */
static int try_choice(const choice *c)
{
    run_words w;
    char      told[256];
    words_of_choice(c, &w, told);
    runs_remove(runs_path("pair"));
    run_result first = runs_train(&w, 2);
    free(first.log);
    if (first.status == CRANK_USAGE && names_a_rule(first.message)) {
        bool must = c->of[METHOD] < 2 && c->of[OPTIMIZER] == 0 && c->of[WEIGHTS] == 0 && c->of[COMPUTE] == 0 && !forbidden(c);
        print_message("refused  %s: %s\n", told, first.message);
        return must ? -1 : 0;
    }
    if (first.status != CRANK_STOPPED) {
        print_message("FAILS    %s: status %d, %s\n", told, first.status, first.message);
        return -1;
    }
    run_result second = runs_train(&w, 0);
    bool       good = second.status == CRANK_OK && strstr(second.log, "resumed from") && isfinite(second.outcome.train_loss) && !second.outcome.skipped;
    print_message("%s %s%s%s\n", good ? "works   " : "FAILS   ", told, good ? "" : ": ", good ? "" : second.message);
    free(second.log);
    return good ? 1 : -1;
}

static void every_pair_works_or_a_rule_refuses_it(void **state)
{
    (void)state;
    crank_context *context = crank_context_new();
    crank_device  *device = crank_device_cpu(context, NULL);
    int            computes = device && device->bf16 ? 3 : 2, count[3] = {0};
    if (device) device->close(device);
    crank_context_free(context);
    for (int allow = 0; allow < 2; allow++) {
        choice c;
        for (int i = 0; i < RECIPES && next_choice(&c, computes, allow); i++) {
            cover(&c);
            count[1 + try_choice(&c)]++;
        }
    }
    print_message("%d recipes work, %d are refused, %d fail\n", count[2], count[1], count[0]);
    assert_int_equal(count[0], 0);
    assert_true(count[1] * 10 <= count[1] + count[2]);
}

static bool has_rank(const crank_map *map)
{
    for (const crank_option *option = map->options; option && option->type != CRANK_OPTION_END; option++)
        if (!strcmp(option->name, "rank")) return true;
    return false;
}

/* No low-rank method with AdamW on Llama or BERT in f32 is refused. */
static void low_rank_methods_with_adamw_are_never_refused(void **state)
{
    (void)state;
    for (size_t m = 0; crank_map_at(m); m++)
        for (int family = 0; family < 2; family++) {
            run_words w = words_of(family ? "bert" : "llama", family ? "labels.tsv" : "text.txt", "method", family ? "loss.objective=classification model.labels=3" : "");
            words_split(&w, "train.steps=2 train.batch=2 model.compute=f32");
            if (!crank_map_at(m)->update) words_split(&w, "optim.method=adamw"); /* others move their parameters themselves */
            words_add(&w, "lowrank.method=%s", crank_map_at(m)->name);
            if (has_rank(crank_map_at(m))) words_split(&w, "lowrank.rank=4"); /* the tiny models have sides of 16 */
            runs_remove(runs_path("method"));
            runs_finish(&w);
        }
}

static void help_prints_every_rule(void **state)
{
    (void)state;
    run_words w = {.count = 0};
    words_add(&w, "matrix");
    child_result r = child_run("help", &w, 0);
    assert_int_equal(r.code, 0);
    for (size_t i = 0; rules_at(i); i++)
        if (!strstr(r.out, rules_at(i)->name) || !strstr(r.out, rules_at(i)->because)) fail_msg("no rule `%s` in %s", rules_at(i)->name, r.out);
    child_free(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_pair_works_or_a_rule_refuses_it),
        cmocka_unit_test(low_rank_methods_with_adamw_are_never_refused),
        cmocka_unit_test(help_prints_every_rule),
    };
    return cmocka_run_group_tests(tests, runs_setup, runs_teardown);
}
