/* Every method on a bf16 base: in bf16 it computes what it computes in f32, outputs and gradients of x, to the rounding of bf16. */
#define CHECKS_IN 8
#define CHECKS_OUT 12
#include "lowrank/observe.h"

typedef struct subject {
    const char *method, *settings;
} subject;

static const subject subjects[] = {
    { "lora", "rank=4" },          { "dora", "rank=4" },                  { "bone", "rank=4" },         { "bone", "rank=4 mode=row" },
    { "bone", "rank=4 side=out" }, { "miss", "rank=3" },                  { "randlora", "rank=2 alpha=2" }, { "nola", "rank=4 alpha=4 basis=8" },
    { "dylora", "rank=4" },        { "hydra", "rank=2 sequential=2" },    { "sora", "rank=4" },         { "allora", "rank=4" },
    { "asf-lora", "rank=4" },      { "lora-xs", "rank=4" },               { "lora-sb", "rank=4" },      { "svfit", "rank=0" },
    { "svfit", "rank=3 form=exp" }, { "lamda", "rank=4" },                { "lora-pro", "rank=4" },     { "smora", "rank=8 active=4" },
    { "eva", "rank=4 rho=1" },     { "lora-ga", "rank=2" },               { "relora", "rank=4" },
};

/* Small changes of every trained parameter, the same for each world. */
static void move(world *w)
{
    for (size_t i = 0; i < crank_params_count(w->params); i++) {
        crank_param *param = crank_params_at(w->params, i);
        if (param->role != CRANK_ROLE_METHOD || !param->trainable) continue;
        double *values = world_values(w, param->name);
        for (size_t k = 0; k < world_count(param); k++) values[k] += 0.1 * world_normal(77, k);
        world_write(w, param->name, values);
        free(values);
    }
}

static pass passed(const subject *s, crank_dtype type)
{
    world             w = world_open(CRANK_BF16);
    crank_linear     *linear = world_linear(&w, "proj", CRANK_LINEAR_DENSE, IN, OUT, true);
    crank_attachment *attachment = observe_start(&w, s->method, s->settings, &(crank_attach_options){ .targets = "proj" });
    float            *rows = observe_data(64, IN, 0.8, 1), *dys = observe_data(64, OUT, 0.8, 2);
    if (crank_attachment_map(attachment)->observes) observe_rows(&w, attachment, linear, rows, dys, 64, 16);
    if (crank_attachment_finish(w.context, attachment)) fail_msg("%s %s: %s", s->method, s->settings, crank_message(w.context));
    move(&w);
    pass p = { .n = N, .x = x, .dy = dy, .compute = type, .training = false };
    world_run(&w, linear, &p);
    free(rows), free(dys);
    world_close(&w);
    return p;
}

static bool all_finite(const double *values, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!isfinite(values[i])) return false;
    return true;
}

static void every_method_computes_in_bf16_what_it_computes_in_f32(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof subjects / sizeof *subjects; i++) {
        pass   narrow = passed(&subjects[i], CRANK_BF16), wide = passed(&subjects[i], CRANK_F32);
        double output = distance(narrow.y, wide.y, N * OUT), input = distance(narrow.dx, wide.dx, N * IN);
        if (!all_finite(narrow.y, N * OUT) || !(output < 0.03)) fail_msg("%s %s: outputs are off by %g", subjects[i].method, subjects[i].settings, output);
        if (!all_finite(narrow.dx, N * IN) || !(input < 0.03)) fail_msg("%s %s: dx is off by %g", subjects[i].method, subjects[i].settings, input);
        pass_free(&narrow), pass_free(&wide);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(every_method_computes_in_bf16_what_it_computes_in_f32) };
    return cmocka_run_group_tests(tests, checks_fill, NULL);
}
