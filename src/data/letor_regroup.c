/* letor_regroup.c - rows of one query that stand apart are brought together: a stable counting sort by query. */
#include <stdlib.h>

#include "data/letor_parts.h"

/* rows of `width` bytes in the new order */
static void *moved(const void *array, const int32_t *order, int64_t rows, size_t width)
{
    char *out = malloc((size_t)rows * width + 1);
    for (int64_t i = 0; out && i < rows; i++) memcpy(out + (size_t)i * width, (const char *)array + (size_t)order[i] * width, width);
    return out;
}

static bool move_rows(letor_set *set, const int32_t *order)
{
    const struct {
        void  *field;
        size_t width;
    } arrays[] = {{&set->labels, sizeof(float)}, {&set->weights, sizeof(float)}, {&set->dense, (size_t)set->columns * sizeof(float)}, {&set->document_names, sizeof(char *)}};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++) {
        void *old;
        memcpy(&old, arrays[i].field, sizeof old);
        if (!old) continue;
        void *made = moved(old, order, set->rows, arrays[i].width);
        if (!made) return false;
        free(old);
        memcpy(arrays[i].field, &made, sizeof made);
    }
    return true;
}

static bool move_compressed(letor_set *set, const int32_t *order)
{
    int64_t  count = set->starts[set->rows], at = 0;
    int64_t *starts = malloc(((size_t)set->rows + 1) * sizeof *starts);
    int32_t *indices = malloc(((size_t)count + 1) * sizeof *indices);
    float   *values = malloc(((size_t)count + 1) * sizeof *values);
    bool     good = starts && indices && values;
    for (int64_t i = 0; good && i < set->rows; i++) {
        int64_t from = set->starts[order[i]], n = set->starts[order[i] + 1] - from;
        starts[i] = at;
        for (int64_t k = 0; k < n; k++, at++) {
            indices[at] = set->indices[from + k];
            values[at] = set->values[from + k];
        }
    }
    if (good) {
        starts[set->rows] = at;
        free(set->starts);
        free(set->indices);
        free(set->values);
        set->starts = starts;
        set->indices = indices;
        set->values = values;
        return true;
    }
    free(starts);
    free(indices);
    free(values);
    return false;
}

crank_status letor_regroup(crank_context *context, letor_set *set, const int32_t *query_of)
{
    int32_t *order = malloc((size_t)set->rows * sizeof *order), *next = calloc((size_t)set->queries + 1, sizeof *next);
    bool     good = order && next;
    for (int64_t i = 0; good && i < set->rows; i++) next[query_of[i] + 1]++;
    for (int64_t q = 0; good && q < set->queries; q++) next[q + 1] += next[q];
    if (good) memcpy(set->offsets, next, ((size_t)set->queries + 1) * sizeof *next);
    for (int64_t i = 0; good && i < set->rows; i++) order[next[query_of[i]]++] = (int32_t)i;
    good = good && move_rows(set, order) && (set->dense || move_compressed(set, order));
    free(order);
    free(next);
    return good ? CRANK_OK : crank_fail(context, CRANK_FAILED, "out of memory to bring the rows of %lld queries together", (long long)set->queries);
}
