/* The trainer's hooks: accumulate, active units, observe, methods that move their own parameters, zeroth order, list objectives. */
#include "task/tiny.h"

#define Q0 "model.layers.0.self_attn.q_proj.weight"
#define Q1 "model.layers.1.self_attn.q_proj.weight"

/* w -= rate * (g * CLIP) with base operations; a unit that is skipped stays. */
static void descend(crank_graph *graph, crank_param *param, crank_tensor *gradient)
{
    crank_tensor *w = crank_use(graph, param), *size = crank_mul(crank_step_scalar(graph, CRANK_SCALAR_RATE), crank_step_scalar(graph, CRANK_SCALAR_CLIP));
    crank_tensor *step = crank_mul(gradient, size);
    crank_assign(w, crank_where(crank_step_scalar(graph, CRANK_SCALAR_SKIP), w, crank_sub(w, step)), false);
}

/* ---- accumulate: matrices keep the sum of their rows ---- */

static crank_tensor *column_sums(crank_graph *graph, crank_unit *unit, crank_tensor *gradient)
{
    (void)graph;
    return unit->param->view.rank == 2 ? crank_reduce(CRANK_SUM, gradient, 1u, true) : NULL;
}

static void descend_sums(crank_graph *graph, crank_unit *unit, crank_tensor *gradient)
{
    const crank_view *view = &unit->param->view;
    descend(graph, unit->param, view->rank == 2 ? crank_broadcast(gradient, 2, view->dims) : gradient);
}

static const crank_optimizer sums = { .name = "test_sums", .accumulate = column_sums, .update = descend_sums };

static void windows_keep_what_accumulate_yields(void **state)
{
    (void)state;
    tiny *t = tiny_open("test_sums", "cross_entropy", 2);
    tiny_train_all(t), tiny_start(t);
    crank_param *buffer = tiny_param(t, Q0 ".gradient");
    assert_int_equal(buffer->view.rank, 2);
    assert_int_equal(buffer->view.dims[0], 1);
    assert_int_equal(buffer->view.dims[1], 8);
    float *before = tiny_values(t, tiny_param(t, Q0));
    tiny_step(t, 1, 2);
    float *after = tiny_values(t, tiny_param(t, Q0));
    /* every row moves by the same vector: the sum of the rows of the whole window's gradient */
    for (int i = 1; i < 8; i++)
        for (int j = 0; j < 8; j++) assert_true(fabs((after[8 * i + j] - before[8 * i + j]) - (after[j] - before[j])) < 1e-6);
    free(before), free(after);
    tiny_close(t);
}

static void two_micro_batches_sum_in_the_kept_space(void **state)
{
    (void)state;
    tiny *one = tiny_open("test_sums", "cross_entropy", 1), *two = tiny_open("test_sums", "cross_entropy", 2);
    tiny_train_all(one), tiny_start(one);
    tiny_train_all(two), tiny_start(two);
    tiny_batch        same[2];
    const data_batch *window[2] = { &same[0].batch, &same[1].batch };
    trainer_result    result;
    for (int i = 0; i < 2; i++) tiny_fill(&same[i], 3, true);
    assert_ok(one->context, trainer_step(one->context, one->trainer, 1, window, 1, &result));
    assert_ok(two->context, trainer_step(two->context, two->trainer, 1, window, 2, &result));
    assert_true(tiny_distance(one, two, Q0) < 1e-6); /* twice the same batch: the same mean */
    tiny_close(one), tiny_close(two);
}

/* ---- active units and the heaviest set ---- */

typedef struct {
    int64_t planned;
} sleeping_state;

static crank_status only_block_of_step(crank_context *context, crank_unit *units, int count, void *model, int64_t step, bool *changed)
{
    (void)context;
    sleeping_state *st = model;
    if (step == 0) st->planned++;
    for (int i = 0; i < count; i++) {
        bool active = units[i].block < 0 || units[i].block == step % 2;
        *changed |= active != units[i].active;
        units[i].active = active;
        assert_ptr_equal(units[i].model, model);
    }
    return CRANK_OK;
}

static void descend_unit(crank_graph *graph, crank_unit *unit, crank_tensor *gradient) { descend(graph, unit->param, gradient); }

static int released;
static void count_release(crank_unit *unit) { released += unit->param ? 1 : 100; }

static const crank_optimizer sleeping = { .name = "test_sleeping", .model_state_size = sizeof(sleeping_state), .update = descend_unit,
                                          .period = only_block_of_step, .release = count_release };

static void norms_belong_to_their_layer(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        int         block;
    } expected[] = { { "model.embed_tokens.weight", -1 }, { "model.norm.weight", -1 }, { "lm_head.weight", -1 },
                     { "model.layers.1.input_layernorm.weight", 1 }, { Q0, 0 } };
    tiny *t = tiny_open("sgd", "cross_entropy", 1);
    tiny_train_all(t), tiny_start(t);
    for (size_t k = 0; k < sizeof expected / sizeof *expected; k++) {
        int found = -2;
        for (int i = 0; i < t->trainer->unit_count; i++)
            if (!strcmp(t->trainer->units[i].param->name, expected[k].name)) found = t->trainer->units[i].block;
        if (found != expected[k].block) fail_msg("%s is in block %d", expected[k].name, found);
    }
    tiny_close(t);
}

static void sleeping_units_stay_and_have_no_buffers(void **state)
{
    (void)state;
    tiny *t = tiny_open("test_sleeping", "cross_entropy", 2);
    tiny_train_all(t), tiny_start(t);
    assert_int_equal(((sleeping_state *)t->trainer->model_state)->planned, 1);
    for (int step = 1; step <= 4; step++) {
        const char *asleep = step % 2 ? Q0 : Q1, *awake = step % 2 ? Q1 : Q0;
        float      *a = tiny_values(t, tiny_param(t, asleep)), *b = tiny_values(t, tiny_param(t, awake));
        tiny_step(t, step, 2);
        float *a2 = tiny_values(t, tiny_param(t, asleep)), *b2 = tiny_values(t, tiny_param(t, awake));
        assert_memory_equal(a, a2, 64 * sizeof *a);
        assert_memory_not_equal(b, b2, 64 * sizeof *b);
        assert_null(crank_params_find(crank_model_params(t->model), step % 2 ? Q0 ".gradient" : Q1 ".gradient"));
        assert_non_null(crank_params_find(crank_model_params(t->model), step % 2 ? Q1 ".gradient" : Q0 ".gradient"));
        free(a), free(b), free(a2), free(b2);
    }
    int units = (int)trainer_units(t->trainer);
    released = 0;
    tiny_close(t);
    assert_int_equal(released, units + 100);
}

/* ---- observe ---- */

static float seen[64];
static int   observed;

static crank_status probe_second(crank_context *context, crank_unit *units, int count, void *model, int64_t step, bool *changed)
{
    (void)context, (void)model, (void)changed;
    for (int i = 0; i < count; i++) units[i].probe = step == 2 && !strcmp(units[i].param->name, Q0);
    return CRANK_OK;
}

static crank_status keep_gradient(crank_context *context, crank_unit *unit, const float *gradient)
{
    (void)context;
    assert_string_equal(unit->param->name, Q0);
    memcpy(seen, gradient, sizeof seen);
    observed++;
    return CRANK_OK;
}

static const crank_optimizer probing = { .name = "test_probing", .update = descend_unit, .period = probe_second, .observe = keep_gradient };

static void observe_sees_the_gradient_of_the_coming_step(void **state)
{
    (void)state;
    tiny *t = tiny_open("test_probing", "cross_entropy", 1);
    tiny_train_all(t), tiny_start(t);
    observed = 0;
    tiny_step(t, 1, 1);
    assert_int_equal(observed, 0);
    float         *before = tiny_values(t, tiny_param(t, Q0));
    trainer_result result = tiny_step(t, 2, 1);
    float         *after = tiny_values(t, tiny_param(t, Q0)), *moved = calloc(64, sizeof *moved);
    assert_int_equal(observed, 1);
    for (int i = 0; i < 64; i++) {
        moved[i] = before[i] - after[i];
        seen[i] *= (float)(result.rate / result.denominator);
    }
    assert_true(relative_error(moved, seen, 64) < 1e-4);
    free(before), free(after), free(moved);
    tiny_close(t);
}

/* ---- methods that move their own parameters ---- */

typedef struct {
    crank_param *D, *count;
} difference;

/* W + D with a dense D, and a counter that only checkpoints hold. */
static crank_status attach(crank_context *context, crank_site *site)
{
    difference   *st = site->state;
    const int64_t dims[] = { site->linear->out, site->linear->in }, one = 1;
    st->D = crank_site_param(context, site, "D", CRANK_F32, 2, dims, true);
    st->count = crank_site_state(context, site, "count", CRANK_ROLE_STATE, CRANK_F32, 1, &one);
    return st->D && st->count ? CRANK_OK : crank_last_status(context);
}

static crank_tensor *forward(crank_graph *graph, crank_site *site, crank_tensor *x, crank_tensor *y0)
{
    const difference *st = site->state;
    return crank_add(y0, crank_linear_down(graph, site->linear, x, crank_use(graph, st->D)));
}

static void move(crank_graph *graph, crank_site *site)
{
    const difference *st = site->state;
    const int64_t     one = 1;
    descend(graph, st->D, crank_gradient_of(graph, st->D));
    crank_assign(crank_use(graph, st->count), crank_fill(graph, CRANK_F32, 1, &one, 1), true);
}

static const crank_map moved = { .name = "test_moved", .state_size = sizeof(difference), .affine = true, .attach = attach, .forward = forward, .update = move };
static const crank_map plain = { .name = "test_plain", .state_size = sizeof(difference), .affine = true, .attach = attach, .forward = forward };
static const crank_optimizer descent = { .name = "test_descent", .update = descend_unit };

static void attach_map(tiny *t, const crank_map *map)
{
    crank_attachment *attachment = crank_attachment_new(t->context, crank_model_linears(t->model), map, NULL, &(crank_attach_options){ .targets = "q_proj" });
    if (!attachment || crank_attachment_finish(t->context, attachment)) fail_msg("%s", crank_message(t->context));
    t->recipe.map = map;
}

static void methods_may_move_their_own_parameters(void **state)
{
    (void)state;
    tiny *own = tiny_open("adamw", "cross_entropy", 2), *other = tiny_open("test_descent", "cross_entropy", 2);
    attach_map(own, &moved), tiny_start(own);
    attach_map(other, &plain), tiny_start(other);
    assert_int_equal(own->trainer->optimizer_units, 0);
    for (int step = 1; step <= 3; step++) {
        tiny_step(own, step, 2);
        tiny_step(other, step, 2);
    }
    float *a = tiny_values(own, tiny_param(own, "model.layers.0.self_attn.q_proj.test_moved.D"));
    float *b = tiny_values(other, tiny_param(other, "model.layers.0.self_attn.q_proj.test_plain.D"));
    float *count = tiny_values(own, tiny_param(own, "model.layers.0.self_attn.q_proj.test_moved.count"));
    assert_memory_equal(a, b, 64 * sizeof *a);
    assert_true(count[0] == 3 && a[0] != 0);
    assert_true(trainer_saves(own->trainer, tiny_param(own, "model.layers.0.self_attn.q_proj.test_moved.count")));
    assert_null(crank_params_find(crank_model_params(own->model), "model.layers.0.self_attn.q_proj.test_moved.D.adamw.m"));
    free(a), free(b), free(count);
    tiny_close(own), tiny_close(other);
}

/* D whose rows sleep by the method's clock. */
static crank_status attach_clocked(crank_context *context, crank_site *site)
{
    difference   *st = site->state;
    const int64_t rows[] = { site->linear->out, 3 };
    if (attach(context, site)) return CRANK_FAILED;
    st->D->clock = crank_site_state(context, site, "clock", CRANK_ROLE_CACHE, CRANK_F32, 2, rows);
    return st->D->clock ? CRANK_OK : crank_last_status(context);
}

static crank_status one_row_a_step(crank_context *context, crank_site *sites, int count, int64_t step, bool *changed)
{
    crank_status status = CRANK_OK;
    (void)changed;
    for (int i = 0; i < count && status == CRANK_OK; i++) {
        const difference *st = sites[i].state;
        float             clock[8][3];
        for (int row = 0; row < 8; row++) clock[row][0] = 1, clock[row][1] = 1, clock[row][2] = row != step;
        status = crank_param_write(context, st->D->clock, clock, CRANK_F32);
    }
    return status;
}

static const crank_map clocked = { .name = "test_clocked", .state_size = sizeof(difference), .affine = true, .attach = attach_clocked,
                                   .forward = forward, .period = one_row_a_step };

static void rows_live_by_the_clock_of_their_method(void **state)
{
    (void)state;
    tiny *t = tiny_open("adamw", "cross_entropy", 2);
    t->recipe.optim->decay = 0.1;
    attach_map(t, &clocked), tiny_start(t);
    tiny_step(t, 2, 2);
    float *D = tiny_values(t, tiny_param(t, "model.layers.0.self_attn.q_proj.test_clocked.D"));
    float *m = tiny_values(t, tiny_param(t, "model.layers.0.self_attn.q_proj.test_clocked.D.adamw.m"));
    for (int i = 0; i < 64; i++) assert_true((i / 8 == 2) == (D[i] != 0) && (i / 8 == 2) == (m[i] != 0));
    free(D), free(m);
    tiny_close(t);
}

/* y = x W^T with W moved through its own gradient by the method: W is what the method assigns. */
static crank_status attach_weight(crank_context *context, crank_site *site)
{
    crank_param *W = site->linear->weight;
    if (crank_site_train(context, site, W)) return CRANK_FAILED;
    W->moved = true;
    return CRANK_OK;
}

static crank_tensor *pass_through(crank_graph *graph, crank_site *site, crank_tensor *x, crank_tensor *y0)
{
    (void)graph, (void)site, (void)x;
    return y0;
}

static void move_weight(crank_graph *graph, crank_site *site)
{
    descend(graph, site->linear->weight, crank_gradient_of(graph, site->linear->weight));
}

static const crank_map weight_map = { .name = "test_weight", .affine = true, .attach = attach_weight, .forward = pass_through, .update = move_weight };

static void methods_may_move_the_weight_itself(void **state)
{
    (void)state;
    tiny *own = tiny_open("adamw", "cross_entropy", 1), *other = tiny_open("test_descent", "cross_entropy", 1);
    attach_map(own, &weight_map), tiny_start(own);
    tiny_param(other, Q0)->trainable = tiny_param(other, Q1)->trainable = true;
    tiny_start(other);
    for (int step = 1; step <= 2; step++) tiny_step(own, step, 1), tiny_step(other, step, 1);
    assert_true(tiny_distance(own, other, Q0) == 0 && tiny_distance(own, other, Q1) == 0);
    crank_attachment_remove(crank_linears_attachment(crank_model_linears(own->model), 0));
    assert_false(tiny_param(own, Q0)->moved || tiny_param(own, Q0)->trainable);
    tiny_close(own), tiny_close(other);
}

static void an_optimiser_that_would_move_nothing_is_refused(void **state)
{
    (void)state;
    tiny *t = tiny_open("adamw", "cross_entropy", 1);
    char  path[4200];
    snprintf(path, sizeof path, "%s/trainer_hooks_recipe.yaml", CRANK_BINARY_DIR);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs("optim:\n  method: adamw\n", file);
    fclose(file);
    t->recipe.file = crank_recipe_load(t->context, path, NULL, 0);
    assert_non_null(t->recipe.file);
    attach_map(t, &moved);
    assert_null(trainer_new(t->context, t->model, &t->recipe, 10));
    assert_non_null(strstr(crank_message(t->context), "adamw would move nothing"));
    crank_recipe_free(t->recipe.file);
    tiny_close(t);
    remove(path);
}

/* ---- zeroth order: the best of the point and three draws, then of half the step ---- */

typedef struct {
    float *centre[64], *draw[64];
    int    winner;
    double best;
} search;

static int three_trials(const crank_unit *units, int count, void *model, int round)
{
    (void)units, (void)count, (void)model;
    return round == 0 ? 4 : 1;
}

static crank_status search_write(crank_context *context, crank_unit *units, int count, search *s, int64_t step, int j, float size)
{
    for (int u = 0; u < count; u++) {
        size_t n = (size_t)crank_view_count(&units[u].param->view);
        if (!s->centre[u]) s->centre[u] = calloc(n, sizeof(float)), s->draw[u] = calloc(n, sizeof(float));
        crank_fill_normal(crank_stream_make(units[u].seed, CRANK_RANDOM_TEST, (uint32_t)(step * 8 + j)), (uint64_t)u << 32, 0, j ? size : 0, s->draw[u], n);
        for (size_t i = 0; i < n; i++) s->draw[u][i] += s->centre[u][i];
        crank_status status = crank_param_write(context, units[u].param, s->draw[u], CRANK_F32);
        if (status != CRANK_OK) return status;
    }
    return CRANK_OK;
}

static crank_status propose(crank_context *context, crank_unit *units, int count, void *model, int64_t step, int round, int j)
{
    search *s = model;
    if (!s->centre[0])
        for (int u = 0; u < count; u++) {
            size_t n = (size_t)crank_view_count(&units[u].param->view);
            s->centre[u] = calloc(n, sizeof(float)), s->draw[u] = calloc(n, sizeof(float));
            crank_param_read(context, units[u].param, s->centre[u], CRANK_F32);
        }
    return search_write(context, units, count, s, step, round ? s->winner : j, round ? 0.01f : 0.02f);
}

static crank_status absorb(crank_context *context, crank_unit *units, int count, void *model, int64_t step, int round, const double *losses,
                           double rate, bool *more)
{
    (void)rate;
    search *s = model;
    if (round == 0) {
        s->winner = 0;
        for (int j = 1; j < 4; j++)
            if (losses[j] < losses[s->winner]) s->winner = j;
        s->best = losses[s->winner];
        *more = s->winner > 0;
        if (*more) return CRANK_OK;
    }
    float size = round && losses[0] < s->best ? 0.01f : 0.02f;
    crank_status status = search_write(context, units, count, s, step, s->winner, size);
    for (int u = 0; u < count; u++) memcpy(s->centre[u], s->draw[u], (size_t)crank_view_count(&units[u].param->view) * sizeof(float));
    return status;
}

static void search_release(crank_unit *unit)
{
    search *s = unit->model;
    for (int u = 0; !unit->param && u < 64; u++) free(s->centre[u]), free(s->draw[u]);
}

static const crank_optimizer random_search = { .name = "test_search", .model_state_size = sizeof(search), .trials = three_trials,
                                               .propose = propose, .absorb = absorb, .release = search_release };

static void zeroth_order_never_records_a_reverse_pass_and_descends(void **state)
{
    (void)state;
    tiny *t = tiny_open("test_search", "cross_entropy", 1);
    tiny_train_all(t), tiny_start(t);
    tiny_batch        same;
    const data_batch *window[1] = { &same.batch };
    trainer_result    result;
    double            first = 0, last = 0;
    tiny_fill(&same, 1, true);
    for (int step = 1; step <= 40; step++) {
        assert_ok(t->context, trainer_step(t->context, t->trainer, step, window, 1, &result));
        if (step == 1) first = result.loss;
        assert_true(step == 1 || result.loss <= last + 1e-6); /* the point itself is among the trials */
        last = result.loss;
    }
    assert_true(last < first - 0.02);
    for (const shaped *shape = t->trainer->graphs; shape; shape = shape->next) assert_int_equal(shape->kind, VARIANT_EVALUATE);
    tiny_close(t);
}

/* ---- list objectives: the same loss as a graph ---- */

/* sum over i, j of [v_i > v_j] softplus(s_j - s_i), over the real sequences. */
static crank_tensor *record_pairs(crank_graph *graph, const crank_scores *scores, const void *options)
{
    (void)graph, (void)options;
    int64_t       s = scores->values->dims[0];
    crank_tensor *column = crank_reshape(scores->outputs, 2, (const int64_t[]){ s, 1 }), *row = crank_reshape(scores->outputs, 2, (const int64_t[]){ 1, s });
    crank_tensor *wins = crank_binary(CRANK_GT, crank_reshape(scores->values, 2, (const int64_t[]){ s, 1 }), crank_reshape(scores->values, 2, (const int64_t[]){ 1, s }));
    crank_tensor *w = crank_mul(crank_reshape(scores->sequence_weights, 2, (const int64_t[]){ s, 1 }), crank_reshape(scores->sequence_weights, 2, (const int64_t[]){ 1, s }));
    crank_tensor *loss = crank_unary(CRANK_SOFTPLUS, crank_sub(row, column));
    return crank_scale(crank_sum(crank_mul(loss, crank_mul(wins, w))), TINY_SEQUENCES); /* the trainer divides by the sequences */
}

static const crank_objective recorded_pairs = { .name = "test_pairs", .scores = CRANK_SCORES_OUTPUTS, .fields = CRANK_FIELD_VALUES,
                                                .coupled = true, .record = record_pairs };

static void a_list_objective_on_the_host_equals_the_recorded_one(void **state)
{
    (void)state;
    tiny *host = tiny_open("test_descent", "pair_logistic", 1), *graph = tiny_open("test_descent", "test_pairs", 1);
    host->train.clip = graph->train.clip = 0.5;
    tiny_train_all(host), tiny_start(host);
    tiny_train_all(graph), tiny_start(graph);
    for (int step = 1; step <= 3; step++) {
        trainer_result a = tiny_step(host, step, 1), b = tiny_step(graph, step, 1);
        assert_true(a.denominator == 1 && b.denominator == TINY_SEQUENCES);
        assert_true(fabs(a.loss - b.loss) < 1e-5 * fabs(b.loss));
        assert_true(fabs(a.norm - b.norm) < 1e-4 * b.norm);
    }
    assert_true(tiny_distance(host, graph, Q0) < 1e-5);
    tiny_batch batch;
    double     n1, d1, n2, d2;
    tiny_fill(&batch, 9, false);
    assert_ok(host->context, trainer_evaluate(host->context, host->trainer, &batch.batch, &n1, &d1, NULL));
    assert_ok(graph->context, trainer_evaluate(graph->context, graph->trainer, &batch.batch, &n2, &d2, NULL));
    assert_true(fabs(n1 / d1 - n2 / d2) < 1e-4 * fabs(n2 / d2));
    tiny_close(host), tiny_close(graph);
}

static void objectives_of_lists_need_lists(void **state)
{
    (void)state;
    static crank_objective listed;
    tiny *t = tiny_open("test_descent", "pair_logistic", 1);
    listed = *t->recipe.objective;
    listed.fields |= CRANK_FIELD_LISTS;
    t->recipe.objective = &listed;
    tiny_train_all(t), tiny_start(t);
    tiny_batch batch;
    double     n, d;
    int32_t    two[] = { 0, 2, 4 }, bad[] = { 0, 3, 9 };
    tiny_fill(&batch, 1, false); /* labels 1 0 3 2 */
    assert_int_equal(trainer_evaluate(t->context, t->trainer, &batch.batch, &n, &d, NULL), CRANK_BAD_DATA);
    batch.batch.lists = bad, batch.batch.list_count = 2;
    assert_int_equal(trainer_evaluate(t->context, t->trainer, &batch.batch, &n, &d, NULL), CRANK_BAD_DATA);
    batch.batch.lists = two;
    assert_ok(t->context, trainer_evaluate(t->context, t->trainer, &batch.batch, &n, &d, NULL));
    assert_true(d == 2);
    tiny_close(t);
}

/* ---- the reference policy ---- */

/* sum of w (log p - log p of the reference): 0 before the first step. */
static crank_tensor *record_gain(crank_graph *graph, const crank_scores *scores, const void *options)
{
    (void)graph, (void)options;
    return crank_sum(crank_mul(crank_sub(scores->logp, scores->reference), scores->weights));
}

static const crank_objective gain = { .name = "test_gain", .scores = CRANK_SCORES_LOGPROB,
                                      .fields = CRANK_FIELD_TARGETS | CRANK_FIELD_REFERENCE, .record = record_gain };

static void the_reference_is_the_model_without_its_methods(void **state)
{
    (void)state;
    tiny      *t = tiny_open("sgd", "test_gain", 2);
    tiny_batch batch;
    double     n, d, own, now;
    float      stored[TINY_TOKENS];
    attach_map(t, &plain), tiny_start(t);
    t->train.lr = 0.5;
    tiny_fill(&batch, 50, true);
    assert_ok(t->context, trainer_evaluate(t->context, t->trainer, &batch.batch, &n, &d, NULL));
    assert_true(fabs(n) < 1e-5);
    for (int step = 1; step <= 3; step++) tiny_step(t, step, 2);
    assert_ok(t->context, trainer_evaluate(t->context, t->trainer, &batch.batch, &now, &d, NULL));
    assert_true(fabs(now) > 1e-3); /* the policy has moved, the reference has not */
    for (int i = 0; i < TINY_TOKENS; i++) stored[i] = -1;
    batch.batch.reference = stored;
    assert_ok(t->context, trainer_evaluate(t->context, t->trainer, &batch.batch, &own, &d, NULL));
    batch.batch.reference = NULL;
    for (int i = 0; i < TINY_TOKENS; i++) stored[i] = 0;
    crank_attachment_remove(crank_linears_attachment(crank_model_linears(t->model), 0));
    trainer_drop_graphs(t->trainer);
    batch.batch.reference = stored;
    assert_ok(t->context, trainer_evaluate(t->context, t->trainer, &batch.batch, &n, &d, NULL)); /* the bare model's log p itself */
    assert_true(fabs((own - 8) - (now + n)) < 1e-4);
    tiny_close(t);
}

static void a_trained_model_has_no_reference(void **state)
{
    (void)state;
    tiny             *t = tiny_open("sgd", "test_gain", 1);
    tiny_batch        batch;
    const data_batch *window[1] = { &batch.batch };
    float             stored[TINY_TOKENS] = { 0 };
    trainer_result    result;
    tiny_train_all(t), tiny_start(t);
    tiny_fill(&batch, 1, true);
    assert_int_equal(trainer_step(t->context, t->trainer, 1, window, 1, &result), CRANK_USAGE);
    batch.batch.reference = stored;
    assert_ok(t->context, trainer_step(t->context, t->trainer, 1, window, 1, &result));
    tiny_close(t);
}

static int setup(void **state)
{
    (void)state;
    crank_context         *context = crank_context_new();
    const crank_optimizer *optimizers[] = { &sums, &sleeping, &probing, &descent, &random_search };
    int                    failed = 0;
    for (size_t i = 0; i < sizeof optimizers / sizeof *optimizers; i++) failed |= crank_register_optimizer(context, optimizers[i]) != CRANK_OK;
    failed |= crank_register_objective(context, &recorded_pairs) != CRANK_OK || crank_register_objective(context, &gain) != CRANK_OK;
    crank_context_free(context);
    return failed;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(windows_keep_what_accumulate_yields),
        cmocka_unit_test(two_micro_batches_sum_in_the_kept_space),
        cmocka_unit_test(norms_belong_to_their_layer),
        cmocka_unit_test(sleeping_units_stay_and_have_no_buffers),
        cmocka_unit_test(observe_sees_the_gradient_of_the_coming_step),
        cmocka_unit_test(methods_may_move_their_own_parameters),
        cmocka_unit_test(rows_live_by_the_clock_of_their_method),
        cmocka_unit_test(methods_may_move_the_weight_itself),
        cmocka_unit_test(an_optimiser_that_would_move_nothing_is_refused),
        cmocka_unit_test(zeroth_order_never_records_a_reverse_pass_and_descends),
        cmocka_unit_test(a_list_objective_on_the_host_equals_the_recorded_one),
        cmocka_unit_test(objectives_of_lists_need_lists),
        cmocka_unit_test(the_reference_is_the_model_without_its_methods),
        cmocka_unit_test(a_trained_model_has_no_reference),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
