/* rows.c - rows in, vectors or scores out. */
#include "cli/rows.h"

#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "data/hub.h"
#include "data/vectors.h"
#include "task/machine.h"

crank_status rows_read_folder(cli_call *cli, const char *model, rows_run *run)
{
    char        *place = hub_resolve(cli->context, model);
    crank_status status = place ? CRANK_OK : crank_last_status(cli->context);
    if (status == CRANK_OK && file_is_folder(place)) status = sentence_folder_read(cli->context, place, &run->folder);
    crank_free(place);
    return status;
}

/* ---- rows in ---- */

static crank_status read_texts(cli_call *cli, const rows_options *o, rows_run *run)
{
    dataset_options options = {.format = o->format, .text_field = o->text_field, .pair_field = o->pairs ? o->pair_field : NULL, .label_field = "label", .document = "line",
                               .prompt_field = "prompt", .completion_field = "completion"};
    crank_status    status = rows_read(cli->context, &options, o->pairs ? o->pairs : o->texts, DATASET_BARE, &run->raw);
    if (status == CRANK_OK && o->pairs && !run->raw.rows[0].second)
        status = crank_fail(cli->context, CRANK_BAD_DATA, "%s: lines of plain text are no pairs: use jsonl, TSV or CSV rows", o->pairs);
    run->job.texts = &run->raw;
    run->job.tokenizer = run->l.tokenizer;
    return status;
}

static int64_t row_limit(cli_call *cli, const rows_options *o, const rows_run *run)
{
    int64_t context = crank_model_config_of(run->l.model)->context, stated = o->max_length ? o->max_length : run->folder.max_length;
    if (stated > context) crank_log(cli->context, CRANK_WARNING, "at most %lld tokens a row: the model takes no more (%lld were asked for)", (long long)context, (long long)stated);
    return stated && stated < context ? stated : context;
}

crank_status rows_open(cli_call *cli, const rows_options *o, const crank_model_options *how, rows_run *run)
{
    if ((o->texts != NULL) + (o->pairs != NULL) + (o->ids != NULL) != 1)
        return crank_fail(cli->context, CRANK_USAGE, "crank %s takes one file of rows: --texts FILE%s or --ids FILE", strcmp(o->name, "score") ? "encode" : "score",
                          strcmp(o->name, "score") ? "" : ", --pairs FILE");
    const char  *folder = run->folder.model ? run->folder.model : cli->words[0];
    crank_status status = load_model_as(cli, folder, o->adapter, o->compute, !o->ids, how, &run->l);
    if (status != CRANK_OK) return status;
    const crank_model_config *config = crank_model_config_of(run->l.model);
    run->job.format.limit = row_limit(cli, o, run);
    run->job.repeat = o->repeat;
    run->job.ahead = !run->l.device->host; /* on the CPU tokens and products would only share its cores */
    run->job.progress = cli->common.quiet ? -1 : 2;
    if (!o->ids) return read_texts(cli, o, run);
    run->job.ids = &run->ids;
    return id_rows_read(cli->context, o->ids, config->vocab, config->context, &run->ids);
}

void rows_close(rows_run *run)
{
    encoder_close(run->e);
    rows_free(&run->raw);
    id_rows_free(&run->ids);
    load_free(&run->l);
    sentence_folder_free(&run->folder);
}

/* ---- results out ---- */

typedef struct sink {
    crank_context *context;
    vectors_file  *file; /* NULL: standard output, or nowhere */
    bool           print;
    int64_t        width;
    rows_after    *after;
    void          *user;
} sink;

static crank_status take(void *user, const float *values, int64_t rows)
{
    sink *s = user;
    if (s->after) s->after(s->user, (float *)(uintptr_t)values, rows, s->width);
    if (s->file) return vectors_write(s->context, s->file, values, rows);
    for (int64_t r = 0; r < rows && s->print; r++)
        for (int64_t i = 0; i < s->width; i++) printf("%.9g%c", (double)values[r * s->width + i], i + 1 < s->width ? '\t' : '\n');
    return CRANK_OK;
}

crank_status rows_go(cli_call *cli, const rows_options *o, rows_run *run, rows_after *after, void *user)
{
    int64_t width = encoder_width(run->e), rows = run->job.ids ? run->ids.count : (int64_t)run->raw.count;
    sink    s = {.context = cli->context, .width = width, .after = after, .user = user, .print = !o->output && !cli->common.json};
    if (o->profile) encoder_profile(run->e);
    if (o->output && !(s.file = vectors_open(cli->context, o->output, o->name, rows, width))) return crank_last_status(cli->context);
    crank_status status = encode_all(cli->context, run->e, &run->job, take, &s, &run->result);
    if (s.file && status == CRANK_OK) return vectors_commit(cli->context, s.file);
    vectors_abort(s.file);
    return status;
}

/* ---- figures ---- */

json_t *rows_figures(cli_call *cli, const rows_options *o, rows_run *run)
{
    const encode_result *r = &run->result;
    double               seconds = r->median_seconds > 0 ? r->median_seconds : r->seconds;
    json_t *root = json_pack("{s:I, s:I, s:I, s:f, s:f, s:f, s:I, s:I, s:I, s:f, s:s, s:I}", "rows", (json_int_t)r->rows, "tokens", (json_int_t)r->counts.tokens, "width",
                             (json_int_t)encoder_width(run->e), "seconds", r->seconds, "rows_per_second", (double)r->rows / seconds, "tokens_per_second",
                             (double)r->counts.tokens / seconds, "packs", (json_int_t)r->counts.packs, "graphs", (json_int_t)r->counts.graphs, "computed_tokens",
                             (json_int_t)r->counts.filled, "flops", r->counts.flops, "compute", crank_dtype_name(crank_model_options_of(run->l.model)->compute), "cut_rows",
                             (json_int_t)r->cut);
    if (root && r->median_seconds > 0) json_object_set_new(root, "median_seconds", json_real(r->median_seconds));
    if (root && run->job.texts) json_object_set_new(root, "max_length", json_integer(run->job.format.limit));
    machine_rates rates;
    if (root && o->profile && machine_measure(cli->context, run->l.device, &rates) == CRANK_OK) {
        bool  half = crank_model_options_of(run->l.model)->compute == CRANK_BF16;
        char *table = encoder_table(cli->context, run->e, half ? rates.bf16 : rates.f32, rates.copy);
        if (table) json_object_set_new(root, "profile", json_string(table));
        crank_free(table);
    }
    if (!root) crank_fail(cli->context, CRANK_FAILED, "out of memory: the result");
    return root;
}

crank_status rows_print_figures(cli_call *cli, const rows_options *o, rows_run *run, json_t *figures)
{
    if (!figures) return crank_last_status(cli->context);
    const encode_result *r = &run->result;
    const char          *table = json_string_value(json_object_get(figures, "profile"));
    if (cli->common.json) {
        char *text = json_text(cli->context, figures, 0);
        if (text) puts(text);
        crank_free(text);
    } else {
        if (r->cut) crank_log(cli->context, CRANK_INFO, "%lld rows were longer than %lld tokens and were cut", (long long)r->cut, (long long)run->job.format.limit);
        crank_log(cli->context, CRANK_INFO, "%lld rows, %lld tokens in %lld packs: %.0f rows/s, %.0f tokens/s%s%s", (long long)r->rows, (long long)r->counts.tokens,
                  (long long)r->counts.packs, json_real_value(json_object_get(figures, "rows_per_second")), json_real_value(json_object_get(figures, "tokens_per_second")),
                  o->output ? " -> " : "", o->output ? o->output : "");
        if (table) fprintf(stderr, "%s", table);
    }
    json_decref(figures);
    return CRANK_OK;
}
