/* adapter_repair.c - crank adapter repair BASE TUNED: intruder dimensions scaled by lambda.
 *
 * Several factors, or a file to measure on, give a table: for each factor what the task and what was known before lose, beside the controls
 * that a repair must beat. One factor and -o write the result: weights for a tuned model; for an adapter a pair that is longer by a rank for
 * every intruder (exact), or cut back to its rank (truncate), or the merged weights. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/number.h"
#include "cli/adapter.h"
#include "cli/measure.h"
#include "lowrank/pair_cut.h"
#include "model/adapter.h"
#include "task/intruders.h"

enum { FACTORS = 32, HALVINGS = 14 };

typedef struct repair {
    cli_call              *cli;
    const adapter_options *o;
    bool                   adapter;
    loaded                 base, tuned; /* tuned: with the adapter merged */
    intruder_report        report;
    float                **kept; /* [report.count]: tuned weights that something changes */
    double                 lambdas[FACTORS];
    int                    count;
    json_t                *rows;
} repair;

/* ---- weights in memory ---- */

static crank_linear *tuned_linear(const repair *r, size_t i) { return crank_linears_find(crank_model_linears(r->tuned.model), r->report.linears[i].name); }

static crank_status write_weight(const repair *r, size_t i, const float *values)
{
    crank_param *weight = tuned_linear(r, i)->weight;
    crank_status status = crank_param_own(r->cli->context, weight);
    return status == CRANK_OK ? crank_param_write(r->cli->context, weight, values, CRANK_F32) : status;
}

/* The tuned weights again. */
static crank_status put_back(repair *r)
{
    crank_status status = CRANK_OK;
    for (size_t i = 0; status == CRANK_OK && i < r->report.count; i++)
        if (r->kept[i]) status = write_weight(r, i, r->kept[i]);
    return status;
}

static crank_status apply_one(repair *r, size_t i, const repair_how *how)
{
    const intruder_linear *l = &r->report.linears[i];
    crank_context         *context = r->cli->context;
    size_t                 n = (size_t)(l->change.m * l->change.n);
    bool                   changed = false;
    float *before = crank_alloc(context, n, sizeof *before, l->name), *after = crank_alloc(context, n, sizeof *after, l->name);
    crank_status status = before && after ? CRANK_OK : CRANK_FAILED;
    if (status == CRANK_OK) status = crank_linear_rows(context, crank_linears_find(crank_model_linears(r->base.model), l->name), 0, l->change.m, before);
    if (status == CRANK_OK && r->kept[i]) memcpy(after, r->kept[i], n * sizeof *after);
    else if (status == CRANK_OK) status = crank_linear_rows(context, tuned_linear(r, i), 0, l->change.m, after);
    if (status == CRANK_OK && !r->kept[i]) {
        if ((r->kept[i] = crank_alloc(context, n, sizeof *after, l->name))) memcpy(r->kept[i], after, n * sizeof *after);
        else status = CRANK_FAILED;
    }
    if (status == CRANK_OK) status = repair_weight(context, &l->change, how, before, after, &changed);
    if (status == CRANK_OK && changed) status = write_weight(r, i, after);
    crank_free(before), crank_free(after);
    return status;
}

/* The tuned model holds what `how` makes of it. */
static crank_status apply(repair *r, const repair_how *how)
{
    crank_status status = put_back(r);
    for (size_t i = 0; status == CRANK_OK && i < r->report.count; i++) status = apply_one(r, i, how);
    return status;
}

/* ---- measuring ---- */

static crank_status loss_of(const repair *r, const char *text, const char *data, double *loss)
{
    evaluation      e = {0};
    measure_request request = {.text = text, .data = data, .objective = "auto"};
    crank_status    status = measure_set(r->cli, &r->tuned, r->cli->words[2], &request, &e);
    *loss = e.loss;
    return status;
}

static bool has_task(const repair *r) { return r->o->text || r->o->data; }

static crank_status measure(const repair *r, double *task, double *forgotten)
{
    *task = *forgotten = NAN;
    crank_status status = has_task(r) ? loss_of(r, r->o->text, r->o->data, task) : CRANK_OK;
    return status == CRANK_OK && r->o->forget ? loss_of(r, r->o->forget, NULL, forgotten) : status;
}

static json_t *number(double value) { return isfinite(value) ? json_real(value) : json_null(); }

static crank_status add_row(repair *r, const char *what, double factor, double task, double forgotten)
{
    json_t *row = json_pack("{s:s, s:f, s:o, s:o}", "change", what, "factor", factor, "task", number(task), "forgetting", number(forgotten));
    if (json_array_append_new(r->rows, row) != 0) return crank_fail(r->cli->context, CRANK_FAILED, "out of memory: rows of a repair");
    return CRANK_OK;
}

static crank_status try_one(repair *r, const repair_how *how, double factor, double *task)
{
    double       forgotten;
    crank_status status = apply(r, how);
    if (status == CRANK_OK) status = measure(r, task, &forgotten);
    return status == CRANK_OK ? add_row(r, repair_name(how->kind), factor, *task, forgotten) : status;
}

/* The uniform shrink that costs the task as much as the repair: halving between the tuned weights and the base. */
static crank_status match_task(repair *r, repair_how how, double target)
{
    double       low = 0, high = 1, task = NAN, forgotten;
    crank_status status = CRANK_OK;
    how.kind = REPAIR_SHRINK;
    for (int i = 0; status == CRANK_OK && i < HALVINGS; i++) {
        how.shrink = (low + high) / 2;
        status = apply(r, &how);
        if (status == CRANK_OK) status = loss_of(r, r->o->text, r->o->data, &task);
        if (task > target) low = how.shrink;
        else high = how.shrink;
    }
    if (status == CRANK_OK) status = measure(r, &task, &forgotten);
    return status == CRANK_OK ? add_row(r, "shrink, same task loss", how.shrink, task, forgotten) : status;
}

static repair_how how_of(const repair *r, double lambda)
{
    static const char *const names[] = {"intruders", "neighbours", "random", "shrink"};
    repair_how               how = {.lambda = lambda, .all = !strcmp(r->o->which, "all"), .k = r->o->top, .epsilon = r->o->epsilon, .shrink = -1};
    for (int k = 0; k < 4; k++)
        if (!strcmp(r->o->control, names[k])) how.kind = (repair_kind)k;
    return how;
}

static crank_status sweep(repair *r)
{
    double       task, forgotten;
    crank_status status = measure(r, &task, &forgotten);
    if (status == CRANK_OK) status = add_row(r, "tuned", 1, task, forgotten);
    for (int i = 0; status == CRANK_OK && i < r->count; i++) {
        repair_how how = how_of(r, r->lambdas[i]);
        status = try_one(r, &how, how.lambda, &task);
        for (int k = 0; status == CRANK_OK && r->o->controls && k < 4; k++) {
            repair_how control = how;
            double     other;
            if ((control.kind = (repair_kind)k) != how.kind) status = try_one(r, &control, how.lambda, &other);
        }
        if (status == CRANK_OK && r->o->controls && has_task(r)) status = match_task(r, how, task);
    }
    return status;
}

/* ---- writing ---- */

typedef struct edit_user {
    const repair *r;
    repair_how    how;
} edit_user;

/* A' = [A; q_j^T], B' = [B, (lambda - 1) s_j / s y_j]: W0 + s B' A' = W_lambda exactly. */
static crank_status lengthen(crank_context *context, const crank_spectral_change *c, const repair_terms *terms, int64_t *rank, double scale, float **A, float **B)
{
    int64_t r = *rank, more = (int64_t)terms->count, in = c->n, out = c->m;
    float  *a = crank_alloc(context, (size_t)((r + more) * in), sizeof *a, "a factor"), *b = crank_alloc(context, (size_t)(out * (r + more)), sizeof *b, "a factor");
    if (!a || !b) {
        crank_free(a), crank_free(b);
        return CRANK_FAILED;
    }
    memcpy(a, *A, (size_t)(r * in) * sizeof *a);
    memcpy(a + r * in, terms->right, (size_t)(more * in) * sizeof *a);
    for (int64_t i = 0; i < out; i++) {
        memcpy(b + i * (r + more), *B + i * r, (size_t)r * sizeof *b);
        for (int64_t t = 0; t < more; t++) b[i * (r + more) + r + t] = (float)(terms->weights[t] / scale * (double)terms->left[t * out + i]);
    }
    crank_free(*A), crank_free(*B);
    *A = a, *B = b, *rank = r + more;
    return CRANK_OK;
}

static crank_status edit(crank_context *context, const crank_linear *linear, void *user, int64_t *rank, double *scale, float **A, float **B)
{
    const edit_user             *e = user;
    const crank_spectral_change *c = NULL;
    repair_terms                 terms;
    int64_t                      before = *rank;
    for (size_t i = 0; i < e->r->report.count; i++)
        if (!strcmp(e->r->report.linears[i].name, linear->name)) c = &e->r->report.linears[i].change;
    if (!c) return CRANK_OK;
    if (e->how.kind == REPAIR_SHRINK) {
        double factor = repair_shrink_of(c, &e->how);
        for (int64_t i = 0; i < linear->out * *rank; i++) (*B)[i] = (float)(factor * (double)(*B)[i]);
        return CRANK_OK;
    }
    crank_status status = repair_terms_of(context, c, &e->how, &terms);
    if (status == CRANK_OK && terms.count && *scale != 0) status = lengthen(context, c, &terms, rank, *scale, A, B);
    if (status == CRANK_OK && *rank > before && !strcmp(e->r->o->form, "truncate")) status = pair_cut(context, linear->in, linear->out, before, rank, A, B, NULL);
    repair_terms_free(&terms);
    return status;
}

static crank_status write_adapter(const repair *r, const repair_how *how)
{
    loaded       l;
    edit_user    user = {r, *how};
    crank_status status = load_model(r->cli, r->cli->words[1], r->cli->words[2], "f32", false, &l);
    if (status != CRANK_OK) return status;
    crank_attachment *attachment = crank_linears_attachment(crank_model_linears(l.model), 0);
    if (!crank_attachment_map(attachment)->as_lora)
        status = crank_fail(r->cli->context, CRANK_USAGE, "the change that %s makes has no bounded rank: write the repaired weights with --form merged",
                            crank_attachment_map(attachment)->name);
    else status = adapter_save_pairs(r->cli->context, l.model, attachment, r->o->out, r->cli->words[1], edit, &user);
    load_free(&l);
    return status;
}

static crank_status write_result(repair *r)
{
    repair_how  how = how_of(r, r->lambdas[0]);
    crank_dtype dtype = CRANK_F32;
    if (r->adapter && strcmp(r->o->form, "merged")) return write_adapter(r, &how);
    if (strcmp(r->o->dtype, "auto")) crank_dtype_parse(r->o->dtype, &dtype);
    crank_status status = apply(r, &how);
    if (status == CRANK_OK) status = crank_model_save(r->cli->context, r->tuned.model, r->o->out, dtype);
    return status == CRANK_OK ? crank_tokenizer_save(r->cli->context, r->tuned.tokenizer, r->o->out) : status;
}

/* ---- the verb's action ---- */

static crank_status read_factors(repair *r)
{
    const char *cursor = r->o->lambda;
    char        word[64];
    while (cursor && crank_list_next(&cursor, word, sizeof word, NULL, 0)) {
        if (r->count == FACTORS || !number_parse(word, &r->lambdas[r->count]) || !(r->lambdas[r->count] >= 0 && r->lambdas[r->count] <= 10))
            return crank_fail(r->cli->context, CRANK_USAGE, "--lambda is %s; it must be numbers from 0 to 10, at most %d of them", word, FACTORS);
        r->count++;
    }
    if (!r->count || r->cli->word_count != 3)
        return crank_fail(r->cli->context, CRANK_USAGE, "usage: crank adapter repair BASE TUNED --lambda L[,L ...] [--text TASK] [--forget TEXT] [-o OUT]");
    if (!r->o->out && !has_task(r) && !r->o->forget)
        return crank_fail(r->cli->context, CRANK_USAGE, "repair writes (-o OUT) or measures (--text or --data for the task, --forget for what was known before): name one");
    if (r->o->out && r->count != 1) return crank_fail(r->cli->context, CRANK_USAGE, "one --lambda is written; measure several, then write the one that you choose");
    if (r->o->text && r->o->data) return crank_fail(r->cli->context, CRANK_USAGE, "the task is --text or --data, not both");
    return CRANK_OK;
}

static crank_status open_both(repair *r)
{
    cli_call    *cli = r->cli;
    r->adapter = load_is_adapter(cli, cli->words[2]);
    crank_status status = load_model(cli, cli->words[1], NULL, "f32", false, &r->base);
    if (status == CRANK_OK) status = load_model(cli, r->adapter ? cli->words[1] : cli->words[2], r->adapter ? cli->words[2] : NULL, "f32", true, &r->tuned);
    if (status == CRANK_OK && r->adapter) status = crank_linears_merge(cli->context, crank_model_linears(r->tuned.model), true, false);
    if (status == CRANK_OK) status = intruders_compare(cli->context, r->base.model, r->tuned.model, r->o->targets, r->o->top, false, &r->report);
    if (status == CRANK_OK && !(r->kept = crank_alloc(cli->context, r->report.count, sizeof *r->kept, "weights of a repair"))) status = CRANK_FAILED;
    return status;
}

static void print_rows(const repair *r, int64_t intruders)
{
    const json_t *row;
    size_t        i;
    printf("%lld intruders in %zu linears (k = %lld, epsilon = %g)\n", (long long)intruders, r->report.count, (long long)r->o->top, r->o->epsilon);
    if (json_array_size(r->rows)) printf("%-24s %8s %12s %12s\n", "change", "factor", "task loss", "forgetting");
    json_array_foreach((json_t *)(uintptr_t)r->rows, i, row)
    {
        const json_t *task = json_object_get(row, "task"), *forgotten = json_object_get(row, "forgetting");
        printf("%-24s %8.4f", json_string_value(json_object_get(row, "change")), json_number_value(json_object_get(row, "factor")));
        for (int k = 0; k < 2; k++) {
            const json_t *value = k ? forgotten : task;
            if (json_is_null(value)) printf(" %12s", "-");
            else printf(" %12.6f", json_number_value(value));
        }
        printf("\n");
    }
    if (r->o->out) printf("written: %s\n", r->o->out);
}

static crank_status print_result(const repair *r)
{
    int64_t intruders = 0;
    for (size_t i = 0; i < r->report.count; i++) intruders += crank_intruders_of(&r->report.linears[i].change, CRANK_LEFT, r->o->top, r->o->epsilon).count;
    if (!r->cli->common.json) {
        print_rows(r, intruders);
        return CRANK_OK;
    }
    json_t *root = json_pack("{s:I, s:O}", "intruders", (json_int_t)intruders, "rows", r->rows);
    if (root && r->o->out) json_object_set_new(root, "result", json_string(r->o->out));
    char *text = root ? json_text(r->cli->context, root, 0) : NULL;
    json_decref(root);
    if (!text) return crank_fail(r->cli->context, CRANK_FAILED, "out of memory: the result");
    puts(text);
    crank_free(text);
    return CRANK_OK;
}

crank_status adapter_repair(cli_call *cli)
{
    repair       r = {.cli = cli, .o = cli->options, .rows = json_array()};
    crank_status status = r.rows ? read_factors(&r) : CRANK_FAILED;
    if (status == CRANK_OK) status = open_both(&r);
    if (status == CRANK_OK && (has_task(&r) || r.o->forget)) status = sweep(&r);
    if (status == CRANK_OK && r.o->out) status = write_result(&r);
    if (status == CRANK_OK) status = print_result(&r);
    for (size_t i = 0; r.kept && i < r.report.count; i++) crank_free(r.kept[i]);
    crank_free(r.kept);
    intruder_report_free(&r.report);
    load_free(&r.base);
    load_free(&r.tuned);
    json_decref(r.rows);
    return status;
}
