/* corpus.h - texts of the data folder (CRANK_DATA). */
#ifndef CRANK_LAB_CORPUS_H
#define CRANK_LAB_CORPUS_H

#include "crank/base.h"

typedef struct lab_corpus {
    char  *bytes; /* crank_free */
    size_t length, room;
} lab_corpus;

crank_status lab_corpus_append(crank_context *context, lab_corpus *t, const char *bytes, size_t n);
/* A file of the data folder behind what is there, until the text has `limit` bytes: rows of questions and answers, or plain lines. */
crank_status lab_corpus_read(crank_context *context, const char *name, bool questions, size_t limit, lab_corpus *t);
#endif
