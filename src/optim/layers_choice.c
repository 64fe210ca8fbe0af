/* layers_choice.c - which layers are awake in a period: draws without replacement by weights, or layers in turn.
 *
 * Draws are those of (seed, METHOD, number of the period), rounds' orders those of (seed, METHOD, number of the round): a resumed run
 * and every rank choose the same. A draw without replacement: u in [0, sum of the rest's weights), the first layer in index order whose
 * cumulative weight exceeds it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/number.h"
#include "optim/layers.h"

static bool is(const char *choice, const char *name) { return choice && strcmp(choice, name) == 0; }

/* One number >= 0 a line; empty lines and what stands behind '#' are left out. */
static crank_status read_scores(crank_context *context, const char *path, int layers, double *out)
{
    file_lines  *lines = file_lines_open(context, path);
    crank_status status = lines ? CRANK_OK : crank_last_status(context);
    const char  *text;
    size_t       length;
    int          count = 0, more = 1;
    while (status == CRANK_OK && (more = file_lines_next(context, lines, &text, &length)) > 0) {
        char   line[128];
        size_t n = strcspn(text, "#");
        n = n < length ? n : length;
        while (n && strchr(" \t,", text[n - 1])) n--;
        while (n && strchr(" \t", *text)) text++, n--;
        if (!n) continue;
        snprintf(line, sizeof line, "%.*s", (int)(n < 100 ? n : 100), text);
        double value;
        if (!number_parse(line, &value) || !(value >= 0 && value <= 1e300))
            status = crank_fail(context, CRANK_BAD_DATA, "%s:%zu: `%s` is no score: wanted a number of at least 0", path, file_lines_number(lines), line);
        else if (count == layers)
            status = crank_fail(context, CRANK_BAD_DATA, "%s:%zu: more scores than the model's %d layers", path, file_lines_number(lines), layers);
        else
            out[count++] = value;
    }
    if (more < 0) status = crank_last_status(context);
    if (status == CRANK_OK && count < layers) status = crank_fail(context, CRANK_BAD_DATA, "%s holds %d scores, and the model has %d layers", path, count, layers);
    if (lines) file_lines_close(lines);
    return status;
}

static crank_status by_scores(crank_context *context, const layers_options *options, const char *optimizer, int layers, double *weights)
{
    double largest = 0, sum = 0;
    if (!options->scores)
        return crank_fail(context, CRANK_USAGE, "optimiser `%s`: sampling: %s reads a weight for each layer: set optim.scores to a file of one number a line (crank inspect MODEL --outliers TEXT prints them), or choose uniform",
                          optimizer, options->sampling);
    crank_status status = read_scores(context, options->scores, layers, weights);
    for (int l = 0; status == CRANK_OK && l < layers; l++) largest = weights[l] > largest ? weights[l] : largest;
    for (int l = 0; status == CRANK_OK && l < layers; l++) {
        if (is(options->sampling, "reverse")) weights[l] = largest - weights[l];
        sum += weights[l];
    }
    if (status != CRANK_OK || sum > 0) return status;
    crank_log(context, CRANK_WARNING, "%s: all scores in %s are equal to 0: layers are drawn uniformly", optimizer, options->scores);
    for (int l = 0; l < layers; l++) weights[l] = 1;
    return CRANK_OK;
}

double *layers_weights(crank_context *context, const layers_options *options, const char *optimizer, int layers, crank_status *status)
{
    *status = CRANK_OK;
    if (is(options->sampling, "shuffle") || is(options->sampling, "ascending") || is(options->sampling, "descending")) return NULL;
    double *weights = crank_alloc(context, (size_t)layers, sizeof *weights, "weights of layers");
    if (!weights) {
        *status = CRANK_FAILED;
        return NULL;
    }
    for (int l = 0; l < layers; l++) weights[l] = is(options->sampling, "decrease") ? layers - l : is(options->sampling, "increase") ? l + 1 : 1;
    if (is(options->sampling, "scores") || is(options->sampling, "reverse")) *status = by_scores(context, options, optimizer, layers, weights);
    if (*status == CRANK_OK) return weights;
    crank_free(weights);
    return NULL;
}

static int drawn(const double *weights, int layers, int wanted, crank_stream stream, int *awake)
{
    int n = 0;
    while (n < wanted) {
        double sum = 0, passed = 0;
        int    chosen = -1;
        for (int l = 0; l < layers; l++) {
            bool taken = false;
            for (int k = 0; k < n; k++) taken |= awake[k] == l;
            if (!taken) sum += weights[l];
        }
        double u = (double)crank_draw_uniform(stream, (uint64_t)n) * sum;
        for (int l = 0; l < layers && sum > 0; l++) {
            bool taken = false;
            for (int k = 0; k < n; k++) taken |= awake[k] == l;
            if (taken || weights[l] == 0) continue;
            chosen = l; /* the last one stands for what rounding leaves over */
            passed += weights[l];
            if (passed > u) break;
        }
        if (chosen < 0) break; /* only layers of weight 0 are left */
        awake[n++] = chosen;
    }
    return n;
}

int layers_awake(const layers_options *options, const double *weights, int layers, uint64_t seed, int64_t number, int *awake)
{
    int wanted = (int)(options->layers < layers ? options->layers : layers);
    if (weights) return drawn(weights, layers, wanted, crank_stream_make(seed, CRANK_RANDOM_METHOD, (uint32_t)number), awake);
    for (int k = 0; k < wanted; k++) {
        int64_t place = number * wanted + k, round = place / layers, at = place % layers;
        if (is(options->sampling, "shuffle")) { /* entry `at` of the round's permutation */
            int64_t *order = malloc((size_t)layers * sizeof *order);
            if (order) crank_permutation(crank_stream_make(seed, CRANK_RANDOM_METHOD, (uint32_t)round), order, layers);
            at = order ? order[at] : at;
            free(order);
        }
        awake[k] = (int)(is(options->sampling, "descending") ? layers - 1 - at : at);
    }
    return wanted;
}
