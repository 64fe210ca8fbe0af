/* crank adapter truncate: a DyLoRA adapter becomes plain LoRA of any rank that it trained; others are cut by their singular values; ranks
 * that cannot be are told. */
#include "adapters.h"

static child_result cut(const char *adapter, const char *out, const char *more)
{
    run_words w = {.count = 0};
    words_add(&w, "truncate");
    words_add(&w, "%s", adapter);
    words_add(&w, "--json");
    words_add(&w, "-o");
    words_add(&w, "%s", out);
    words_split(&w, more);
    runs_remove(out);
    return child_run("adapter", &w, 0);
}

static double cut_loss(const char *base, const char *adapter, const char *more, double *lost)
{
    child_result r = cut(adapter, runs_path("cut"), more);
    if (r.code) fail_msg("%s: %s", more, r.err);
    if (lost) *lost = json_number_of(r.out, "lost");
    child_free(&r);
    return loss_with(base, runs_path("cut"));
}

static void a_dylora_adapter_becomes_lora_of_every_trained_rank(void **state)
{
    (void)state;
    const char *base = base_model();
    train_on(base, "dylora", "lowrank.rank=4 lowrank.rank_min=2", "run");
    for (int rank = 2; rank <= 4; rank++) {
        char more[64];
        snprintf(more, sizeof more, "--rank %d", rank);
        double loss = cut_loss(base, runs_path("run/adapter"), more, NULL);
        /* the same cut, by the option that the method evaluates at */
        size_t length;
        char  *text = runs_read(runs_path("run/adapter/crank.json"), &length), *at = strstr(text, "\"evaluate_rank\": ");
        assert_non_null(at);
        at[strlen("\"evaluate_rank\": ")] = (char)('0' + rank);
        runs_write("run/adapter/crank.json", text);
        free(text);
        double at_rank = loss_with(base, runs_path("run/adapter"));
        if (!(fabs(loss - at_rank) < 1e-6 * loss)) fail_msg("rank %d: loss %.8f, the method's own %.8f", rank, loss, at_rank);
    }
}

static void the_singular_values_of_the_product_decide_what_is_cut(void **state)
{
    (void)state;
    const char *base = base_model();
    train_on(base, "lora", "lowrank.rank=4", "run");
    double whole = loss_with(base, runs_path("run/adapter")), lost[4];
    for (int rank = 1; rank <= 3; rank++) {
        char more[64];
        snprintf(more, sizeof more, "--svd --rank %d", rank);
        cut_loss(base, runs_path("run/adapter"), more, &lost[rank]);
    }
    assert_true(lost[1] > lost[2] && lost[2] > lost[3] && lost[1] < 1 && lost[3] > 0);
    double same = cut_loss(base, runs_path("run/adapter"), "--svd --rank 4", &lost[0]);
    assert_true(lost[0] == 0 && fabs(same - whole) < 1e-6 * whole);
    cut_loss(base, runs_path("run/adapter"), "--svd --rank 4 --rank-pattern v_proj=1", NULL);
    char *config = runs_read(runs_path("cut/adapter_config.json"), NULL);
    assert_non_null(strstr(config, "\"model.layers.0.self_attn.v_proj\": 1"));
    free(config);
}

static void ranks_that_cannot_be_are_told(void **state)
{
    (void)state;
    const char *base = base_model();
    static const struct {
        const char *method, *options, *cut, *says;
    } cases[] = {
        {"dylora", "lowrank.rank=4 lowrank.rank_min=2", "--rank 1", "2 to 4"},
        {"dylora", "lowrank.rank=4 lowrank.rank_min=2", "--rank 5", "2 to 4"},
        {"dylora", "lowrank.rank=4 lowrank.unit=2", "--rank 3", "units of 2"},
        {"lora", "lowrank.rank=4", "--rank 2", "--svd"},
        {"lora", "lowrank.rank=4", "--svd --rank 5", "up to 4"},
        {"lora", "lowrank.rank=4", "--svd --rank 0", "usage"},
        {"smora", "lowrank.rank=8", "--svd --rank 2", "bounded rank"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (!i || strcmp(cases[i].options, cases[i - 1].options)) train_on(base, cases[i].method, cases[i].options, "run");
        child_result r = cut(runs_path("run/adapter"), runs_path("never"), cases[i].cut);
        if (r.code != 2 || !strstr(r.err, cases[i].says)) fail_msg("%s %s: %d %s", cases[i].method, cases[i].cut, r.code, r.err);
        child_free(&r);
        assert_int_not_equal(access(runs_path("never"), F_OK), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_dylora_adapter_becomes_lora_of_every_trained_rank),
        cmocka_unit_test(the_singular_values_of_the_product_decide_what_is_cut),
        cmocka_unit_test(ranks_that_cannot_be_are_told),
    };
    return cmocka_run_group_tests(tests, runs_setup, runs_teardown);
}
