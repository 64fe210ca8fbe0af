/* corpus.c - texts of the data folder, for experiments that train language models. */
#include "lab/corpus.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"

crank_status lab_corpus_append(crank_context *context, lab_corpus *t, const char *bytes, size_t n)
{
    if (t->length + n > t->room) {
        size_t wider = 2 * (t->length + n);
        char  *made = crank_alloc(context, wider, 1, "a text");
        if (!made) return CRANK_FAILED;
        if (t->length) memcpy(made, t->bytes, t->length);
        crank_free(t->bytes);
        t->bytes = made, t->room = wider;
    }
    if (n) memcpy(t->bytes + t->length, bytes, n);
    t->length += n;
    return CRANK_OK;
}

static crank_status append_question(crank_context *context, lab_corpus *t, const char *line, size_t length, const char *where)
{
    json_t      *row = json_parse(context, line, length, where);
    const char  *parts[] = {json_string_value(json_object_get(row, "question")), "\n", json_string_value(json_object_get(row, "answer")), "\n\n"};
    crank_status status = row ? CRANK_OK : crank_last_status(context);
    for (int k = 0; status == CRANK_OK && k < 4; k++)
        status = parts[k] ? lab_corpus_append(context, t, parts[k], strlen(parts[k])) : crank_fail(context, CRANK_BAD_DATA, "%s: a question and an answer were expected", where);
    json_decref(row);
    return status;
}

crank_status lab_corpus_read(crank_context *context, const char *name, bool questions, size_t limit, lab_corpus *t)
{
    const char *folder = getenv("CRANK_DATA"), *line;
    char       *path = file_join(context, folder && *folder ? folder : "../shared/data", name), where[4200];
    if (!path) return CRANK_FAILED;
    crank_status status = file_exists(path) ? CRANK_OK
                                            : crank_fail(context, CRANK_FAILED, "the experiment reads %s: set CRANK_DATA to a folder that holds it (text/gsm8k-*: openai/grade-school-math, text/tinyshakespeare*: karpathy/char-rnn, "
                                                         "text/wikitext2-*: WikiText-2)", path);
    file_lines *lines = status == CRANK_OK ? file_lines_open(context, path) : NULL;
    size_t      length;
    int         more = 1;
    if (status == CRANK_OK && !lines) status = crank_last_status(context);
    while (status == CRANK_OK && t->length < limit && (more = file_lines_next(context, lines, &line, &length)) > 0) {
        snprintf(where, sizeof where, "%s:%zu", path, file_lines_number(lines));
        if (questions) status = append_question(context, t, line, length, where);
        else status = lab_corpus_append(context, t, line, length);
        if (status == CRANK_OK && !questions) status = lab_corpus_append(context, t, "\n", 1);
    }
    if (more < 0) status = crank_last_status(context);
    if (lines) file_lines_close(lines);
    crank_free(path);
    return status;
}
