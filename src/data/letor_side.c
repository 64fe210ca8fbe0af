/* letor_side.c - files beside the data: NAME.query (or .group) with the size of each query, NAME.weight with one number a row (or a
 * query), NAME.init with scores to start from (several columns: several outputs), NAME.position with the place where a row was shown.
 * NAME is the data file's, or it without ".gz". */
#include <math.h>
#include <stdlib.h>

#include "base/file.h"
#include "base/number.h"
#include "data/letor_parts.h"

/* All numbers of a side file. */
typedef struct numbers {
    char   *path;
    double *values;
    int64_t count, capacity, lines, width; /* width: numbers of each line */
} numbers;

static crank_status add_number(crank_context *context, numbers *n, const char *text, int64_t line)
{
    if (n->count == n->capacity) {
        int64_t capacity = n->capacity ? 2 * n->capacity : 1024;
        double *grown = realloc(n->values, (size_t)capacity * sizeof *grown);
        if (!grown) return crank_fail(context, CRANK_FAILED, "%s: out of memory for %lld numbers", n->path, (long long)capacity);
        n->values = grown;
        n->capacity = capacity;
    }
    double value;
    if (!number_parse(text, &value) || !isfinite(value))
        return crank_fail(context, CRANK_BAD_DATA, "%s:%lld: `%.60s` is no finite number", n->path, (long long)line, text);
    n->values[n->count++] = value;
    return CRANK_OK;
}

static crank_status read_numbers(crank_context *context, numbers *n)
{
    file_lines *lines = file_lines_open(context, n->path);
    const char *text;
    size_t      length;
    int         more = -1;
    while (lines && (more = file_lines_next(context, lines, &text, &length)) > 0) {
        char    word[64];
        int64_t line = (int64_t)file_lines_number(lines), before = n->count;
        while (*(text += strspn(text, " \t,")) && *text != '#') {
            size_t size = strcspn(text, " \t,");
            memcpy(word, text, size < sizeof word ? size : sizeof word - 1);
            word[size < sizeof word ? size : sizeof word - 1] = 0;
            if (add_number(context, n, word, line) != CRANK_OK) break;
            text += size;
        }
        if (*text && *text != '#') break; /* refused */
        if (n->count == before) continue;
        if (n->lines++ == 0) n->width = n->count;
        if (n->count - before == n->width) continue;
        crank_fail(context, CRANK_BAD_DATA, "%s:%lld: %lld numbers; the first line has %lld", n->path, (long long)line, (long long)(n->count - before), (long long)n->width);
        break;
    }
    if (lines) file_lines_close(lines);
    return more == 0 ? CRANK_OK : crank_last_status(context);
}

/* The side file with that ending: n->path is NULL when there is none. */
static crank_status find(crank_context *context, const char *path, const char *ending, numbers *n)
{
    size_t length = strlen(path), bare = length > 3 && strcmp(path + length - 3, ".gz") == 0 ? length - 3 : length;
    *n = (numbers){0};
    for (int i = 0; i < 2; i++) {
        n->path = crank_format(context, "%.*s%s", (int)(i ? bare : length), path, ending);
        if (!n->path) return CRANK_FAILED;
        if (file_exists(n->path)) return read_numbers(context, n);
        crank_free(n->path);
        n->path = NULL;
    }
    return CRANK_OK;
}

static void done(numbers *n)
{
    crank_free(n->path);
    free(n->values);
}

static crank_status take_queries(crank_context *context, const numbers *n, letor_set *set)
{
    int32_t *offsets = malloc(((size_t)n->count + 1) * sizeof *offsets);
    if (!offsets) return crank_fail(context, CRANK_FAILED, "%s: out of memory", n->path);
    double       sum = 0;
    crank_status status = CRANK_OK;
    for (int64_t q = 0; q < n->count && status == CRANK_OK; q++) {
        offsets[q] = (int32_t)sum;
        if (n->values[q] < 0 || n->values[q] != floor(n->values[q]))
            status = crank_fail(context, CRANK_BAD_DATA, "%s: query %lld has size %g; it must be a whole number", n->path, (long long)q + 1, n->values[q]);
        sum += n->values[q];
        if (status == CRANK_OK && sum > (double)set->rows) break;
    }
    if (status == CRANK_OK && (sum != (double)set->rows || n->width != 1))
        status = crank_fail(context, CRANK_BAD_DATA, "%s: the sizes of the queries do not sum to the %lld rows of the data", n->path, (long long)set->rows);
    if (status == CRANK_OK) {
        int64_t count = 0; /* without empty queries */
        offsets[n->count] = (int32_t)set->rows;
        for (int64_t q = 0; q < n->count; q++)
            if (offsets[q] < offsets[q + 1]) offsets[count++] = offsets[q];
        offsets[count] = (int32_t)set->rows;
        bool same = set->queries == count && memcmp(offsets, set->offsets, (size_t)count * sizeof *offsets) == 0;
        if (set->queries && !same) status = crank_fail(context, CRANK_BAD_DATA, "%s: the sizes of the queries are not those of the qid: in the data", n->path);
        if (!set->queries) {
            set->queries = count;
            set->offsets = offsets;
            return CRANK_OK;
        }
    }
    free(offsets);
    return status;
}

static crank_status take_weights(crank_context *context, const numbers *n, letor_set *set)
{
    bool by_query = n->count == set->queries && n->count != set->rows;
    if (n->width != 1 || (n->count != set->rows && !by_query))
        return crank_fail(context, CRANK_BAD_DATA, "%s: %lld weights for %lld rows and %lld queries", n->path, (long long)n->count, (long long)set->rows, (long long)set->queries);
    if (set->weights) return crank_fail(context, CRANK_BAD_DATA, "%s: the data have a column of weights already", n->path);
    if (!(set->weights = malloc((size_t)set->rows * sizeof *set->weights))) return crank_fail(context, CRANK_FAILED, "%s: out of memory", n->path);
    for (int64_t i = 0, q = 0; i < set->rows; i++) {
        if (by_query && i >= set->offsets[q + 1]) q++;
        double weight = n->values[by_query ? q : i];
        if (weight < 0 || weight > 1e30) return crank_fail(context, CRANK_BAD_DATA, "%s: weight %lld is %g; it must be from 0 to 1e30", n->path, (long long)(by_query ? q : i) + 1, weight);
        set->weights[i] = (float)weight;
    }
    return CRANK_OK;
}

static crank_status take_init(crank_context *context, numbers *n, letor_set *set)
{
    if (n->lines != set->rows || n->width < 1)
        return crank_fail(context, CRANK_BAD_DATA, "%s: %lld lines for %lld rows", n->path, (long long)n->lines, (long long)set->rows);
    set->init = n->values;
    set->init_outputs = n->width;
    n->values = NULL;
    return CRANK_OK;
}

static crank_status take_positions(crank_context *context, const numbers *n, letor_set *set)
{
    if (n->width != 1 || n->count != set->rows)
        return crank_fail(context, CRANK_BAD_DATA, "%s: %lld positions for %lld rows", n->path, (long long)n->count, (long long)set->rows);
    if (!(set->positions = malloc((size_t)set->rows * sizeof *set->positions))) return crank_fail(context, CRANK_FAILED, "%s: out of memory", n->path);
    for (int64_t i = 0; i < set->rows; i++) {
        if (n->values[i] < 0 || n->values[i] > 1e6 || n->values[i] != floor(n->values[i]))
            return crank_fail(context, CRANK_BAD_DATA, "%s: position %lld is %g; it must be a whole number from 0 to 1000000", n->path, (long long)i + 1, n->values[i]);
        set->positions[i] = (int32_t)n->values[i];
    }
    return CRANK_OK;
}

crank_status letor_side_files(crank_context *context, const char *path, letor_set *set)
{
    static const char *const endings[] = {".query", ".group", ".weight", ".init", ".position"};
    crank_status status = CRANK_OK;
    for (int i = 0; i < 5 && status == CRANK_OK; i++) {
        numbers n;
        status = find(context, path, endings[i], &n);
        if (status == CRANK_OK && n.path)
            status = i < 2 ? take_queries(context, &n, set) : i == 2 ? take_weights(context, &n, set) : i == 3 ? take_init(context, &n, set) : take_positions(context, &n, set);
        done(&n);
    }
    return status;
}
