/* demo_data.h - real English text that every Debian system carries, split so that the held-out part is new to the model.
 *
 * Training text: the licences under /usr/share/common-licenses, symbolic links dropped. Held out: whole licence families (MPL,
 * Artistic), less every paragraph that nearly stands in the training text. */
#ifndef CRANK_TASK_DEMO_DATA_H
#define CRANK_TASK_DEMO_DATA_H

#include "crank/base.h"

typedef struct demo_text {
    size_t files, held_files, paragraphs, held_paragraphs, near_duplicates;
} demo_text;

/* Writes train.txt and held-out.txt into `folder` (which exists). `source` is the folder of texts. */
crank_status demo_data_write(crank_context *context, const char *source, const char *folder, demo_text *told);
#endif
