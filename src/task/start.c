/* start.c - the values before step 1 and the batches of a run, as files. */
#include "task/start.h"

#include "base/file.h"
#include "base/text.h"
#include "crank/adapter.h"
#include "task/session.h"

/* "name": [[..], [..]] over the sequences: token ids, or 1 where the loss counts the prediction of a token. */
static void put_rows(text_buffer *line, const char *name, const data_batch *batch, bool trained)
{
    text_printf(line, ", \"%s\": [", name);
    for (int64_t s = 0; s < batch->sequences; s++) {
        text_puts(line, s ? ", [" : "[");
        for (int32_t first = batch->segments[s], i = first; i < batch->segments[s + 1]; i++) {
            /* targets stand one place before the token that they name */
            int32_t value = !trained ? batch->ids[i] : i > first && batch->targets[i - 1] >= 0;
            text_printf(line, "%s%d", i > first ? "," : "", (int)value);
        }
        text_putc(line, ']');
    }
    text_putc(line, ']');
}

static void put_labels(text_buffer *line, const data_batch *batch)
{
    text_puts(line, ", \"labels\": [");
    for (int64_t s = 0; s < batch->sequences; s++) {
        if (s) text_puts(line, ", ");
        if (batch->labels[s] < 0) text_puts(line, "null");
        else text_printf(line, "%d", (int)batch->labels[s]);
    }
    text_putc(line, ']');
}

static void put_values(text_buffer *line, const data_batch *batch)
{
    text_puts(line, ", \"values\": [");
    for (int64_t s = 0; s < batch->sequences; s++) {
        if (s) text_puts(line, ", ");
        if (batch->values[s] == batch->values[s]) text_printf(line, "%.9g", (double)batch->values[s]);
        else text_puts(line, "null");
    }
    text_putc(line, ']');
}

static crank_status write_batches(crank_context *context, file_writer *file, data_set *set, const char *part, int64_t count, unsigned fields)
{
    crank_status status = CRANK_OK;
    for (int64_t k = 0; k < count && status == CRANK_OK; k++) {
        const data_batch *batch;
        text_buffer       line = {0};
        status = dataset_batch(context, set, k, 0, &batch);
        if (status != CRANK_OK) return status;
        text_printf(&line, "{\"part\": \"%s\", \"batch\": %lld", part, (long long)k);
        put_rows(&line, "rows", batch, false);
        if (fields & CRANK_FIELD_TARGETS) put_rows(&line, "trained", batch, true);
        if (batch->labels) put_labels(&line, batch);
        if (batch->values) put_values(&line, batch);
        text_puts(&line, "}\n");
        size_t length = line.length;
        char  *text = text_take(context, &line, "a batch");
        status = text ? file_writer_write(context, file, text, length) : CRANK_FAILED;
        crank_free(text);
    }
    return status;
}

static crank_status all_batches(crank_context *context, const task_recipe *recipe, session *s, const char *path)
{
    file_writer *file = file_writer_open(context, path);
    if (!file) return crank_last_status(context);
    unsigned     fields = recipe->objective->fields;
    crank_status status = write_batches(context, file, s->train, "train", s->total * recipe->train->accumulate, fields);
    if (status == CRANK_OK && s->eval) status = write_batches(context, file, s->eval, "eval", dataset_batches_per_epoch(s->eval), fields);
    if (status == CRANK_OK) return file_writer_commit(context, file);
    file_writer_abort(file);
    return status;
}

crank_status start_write(crank_context *context, const task_recipe *recipe, const char *folder)
{
    session      s;
    crank_status status = session_open(context, recipe, NULL, &s);
    if (status != CRANK_OK) return status;
    char *values = file_join(context, folder, s.attachment ? "adapter" : "model"), *batches = file_join(context, folder, "batches.jsonl");
    status = values && batches ? file_make_folder(context, folder) : CRANK_FAILED;
    if (status == CRANK_OK)
        status = s.attachment ? crank_adapter_save(context, s.model, s.attachment, values, session_base(recipe))
                              : crank_model_save(context, s.model, values, CRANK_F32);
    if (status == CRANK_OK && !s.attachment) status = crank_tokenizer_save(context, s.tokenizer, values);
    if (status == CRANK_OK) status = all_batches(context, recipe, &s, batches);
    crank_free(values), crank_free(batches);
    session_close(&s);
    return status;
}
