/* subset.c - some lists of a set, or some rows of them, as a set of its own. */
#include <string.h>

#include "rank/rank.h"

static bool allocate(crank_context *context, const letor_set *set, letor_set *part, int64_t values)
{
    size_t rows = (size_t)part->rows + 1;
    part->offsets = crank_alloc(context, (size_t)part->queries + 1, sizeof *part->offsets, "a part of the data");
    part->labels = crank_alloc(context, rows, sizeof *part->labels, "a part of the data");
    if (set->weights) part->weights = crank_alloc(context, rows, sizeof *part->weights, "a part of the data");
    if (!part->offsets || !part->labels || (set->weights && !part->weights)) return false;
    if (set->dense) return (part->dense = crank_alloc(context, rows, (size_t)set->columns * sizeof *part->dense, "a part of the data")) != NULL;
    part->starts = crank_alloc(context, rows, sizeof *part->starts, "a part of the data");
    part->indices = crank_alloc(context, (size_t)values + 1, sizeof *part->indices, "a part of the data");
    part->values = crank_alloc(context, (size_t)values + 1, sizeof *part->values, "a part of the data");
    return part->starts && part->indices && part->values;
}

static void copy_row(const letor_set *set, int64_t i, letor_set *part, int64_t n)
{
    part->labels[n] = set->labels ? set->labels[i] : 0;
    if (set->weights) part->weights[n] = set->weights[i];
    if (set->dense) {
        memcpy(part->dense + n * set->columns, set->dense + i * set->columns, (size_t)set->columns * sizeof *part->dense);
        return;
    }
    int64_t count = set->starts[i + 1] - set->starts[i], to = part->starts[n];
    memcpy(part->indices + to, set->indices + set->starts[i], (size_t)count * sizeof *part->indices);
    memcpy(part->values + to, set->values + set->starts[i], (size_t)count * sizeof *part->values);
    part->starts[n + 1] = to + count;
}

letor_set *rank_take(crank_context *context, const letor_set *set, const int64_t *lists, int64_t count, const bool *keep)
{
    letor_set *part = crank_alloc(context, 1, sizeof *part, "a part of the data");
    int64_t    values = 0, n = 0;
    if (!part) return NULL;
    for (int64_t l = 0; l < count; l++)
        for (int64_t q = lists ? lists[l] : l, i = set->offsets[q]; i < set->offsets[q + 1]; i++) {
            if (keep && !keep[i]) continue;
            part->rows++;
            if (set->starts) values += set->starts[i + 1] - set->starts[i];
        }
    part->columns = set->columns, part->queries = count, part->absent_missing = set->absent_missing;
    if (!allocate(context, set, part, values)) {
        letor_free(part);
        return NULL;
    }
    for (int64_t l = 0; l < count; l++) {
        for (int64_t q = lists ? lists[l] : l, i = set->offsets[q]; i < set->offsets[q + 1]; i++)
            if (!keep || keep[i]) copy_row(set, i, part, n++);
        part->offsets[l + 1] = (int32_t)n;
    }
    return part;
}
