/* observe.h - methods that look at data before they attach: batches of rows shown by hand. */
#ifndef CRANK_TESTS_LOWRANK_OBSERVE_H
#define CRANK_TESTS_LOWRANK_OBSERVE_H

#include "lowrank/checks.h"

/* Options "key=value .." of a method; crank_options_free. */
static inline void *observe_options(world *w, const crank_map *map, const char *settings)
{
    void *options = crank_options_new(w->context, map->options, map->options_size);
    char  text[1024];
    snprintf(text, sizeof text, "%s", settings);
    for (char *rest = text, *item; (item = strtok_r(rest, " ", &rest));) {
        char *mark = strchr(item, '=');
        *mark = 0;
        if (crank_options_set(w->context, map->options, options, item, mark + 1, "test")) fail_msg("%s", crank_message(w->context));
    }
    return options;
}

/* An attachment that is not finished yet. */
static inline crank_attachment *observe_start(world *w, const char *method, const char *settings, const crank_attach_options *where)
{
    const crank_map  *map = crank_map_find(method);
    void             *options = observe_options(w, map, settings);
    crank_attachment *attachment = crank_attachment_new(w->context, w->linears, map, options, where);
    crank_options_free(options);
    if (!attachment) fail_msg("%s", crank_message(w->context));
    return attachment;
}

/* Shows n rows in batches of `size`. dy may be NULL. */
static inline void observe_rows(world *w, crank_attachment *attachment, crank_linear *linear, const float *rows, const float *dys, int64_t n, int64_t size)
{
    for (int64_t at = 0; at < n; at += size) {
        crank_observation batch = { .x = rows + at * linear->in, .dy = dys ? dys + at * linear->out : NULL, .n = n - at < size ? n - at : size };
        assert_ok(w->context, crank_attachment_observe(w->context, attachment, linear, &batch));
    }
}

/* Normal rows whose column j has the deviation spread^j, around a mean of 1. */
static inline float *observe_data(int64_t n, int64_t width, double spread, uint32_t index)
{
    float *rows = calloc((size_t)(n * width), sizeof *rows);
    for (int64_t i = 0; i < n * width; i++) rows[i] = (float)(1 + pow(spread, (double)(i % width)) * world_normal(index, (uint64_t)i));
    return rows;
}
#endif
