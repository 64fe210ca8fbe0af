/* features.c - scaling of columns, and lists of a set gathered into batches. */
#include <math.h>
#include <string.h>

#include "rank/rank.h"

static crank_status allocate(crank_context *context, int64_t columns, rank_scaler *scaler)
{
    *scaler = (rank_scaler){.columns = columns, .low = crank_alloc(context, (size_t)columns * 3 + 1, sizeof(float), "scales of columns")};
    if (!scaler->low) return CRANK_FAILED;
    scaler->shift = scaler->low + columns;
    scaler->scale = scaler->shift + columns;
    return CRANK_OK;
}

void rank_scaler_free(rank_scaler *scaler)
{
    crank_free(scaler->low);
    *scaler = (rank_scaler){0};
}

typedef struct column { double low, high, sum, squares; int64_t count; } column;

/* Extremes, sum and sum of squares around the first value of every column; missing values do not count. */
static crank_status survey(crank_context *context, const letor_set *set, column *columns)
{
    size_t n = (size_t)set->columns;
    float *row = crank_alloc(context, 2 * n + 1, sizeof *row, "a row"), *first = row ? row + n : NULL;
    if (!row) return CRANK_FAILED;
    for (size_t j = 0; j < n; j++) columns[j] = (column){.low = INFINITY, .high = -INFINITY};
    for (int64_t i = 0; i < set->rows; i++) {
        letor_row(set, i, row);
        for (size_t j = 0; j < n; j++) {
            column *c = columns + j;
            double  v = (double)row[j];
            if (!isfinite(v)) continue;
            if (!c->count++) first[j] = row[j];
            c->low = fmin(c->low, v);
            c->high = fmax(c->high, v);
            c->sum += v - (double)first[j];
            c->squares += (v - (double)first[j]) * (v - (double)first[j]);
        }
    }
    for (size_t j = 0; j < n; j++)
        if (columns[j].count) {
            double mean = columns[j].sum / (double)columns[j].count;
            columns[j].squares = fmax(columns[j].squares / (double)columns[j].count - mean * mean, 0);
            columns[j].sum = mean + (double)first[j];
        }
    crank_free(row);
    return CRANK_OK;
}

crank_status rank_scaler_fit(crank_context *context, const letor_set *set, const char *kind, rank_scaler *scaler)
{
    column      *columns = crank_alloc(context, (size_t)set->columns + 1, sizeof *columns, "columns");
    crank_status status = columns ? allocate(context, set->columns, scaler) : CRANK_FAILED;
    if (status == CRANK_OK) status = survey(context, set, columns);
    scaler->logged = !strcmp(kind, "log");
    for (int64_t j = 0; status == CRANK_OK && j < set->columns; j++) {
        const column *c = columns + j;
        double        shift = 0, scale = 1;
        if (strcmp(kind, "none")) {
            double low = scaler->logged ? 0 : c->low, high = scaler->logged ? log10(1 + c->high - c->low) : c->high;
            bool   flat = !c->count || !(c->high > c->low);
            shift = !strcmp(kind, "zscore") ? c->sum : (low + high) / 2;
            scale = !strcmp(kind, "zscore") ? 1 / sqrt(c->squares) : 2 / (high - low);
            if (flat || !isfinite(scale)) shift = scale = 0;
        }
        scaler->low[j] = c->count ? (float)c->low : 0;
        scaler->shift[j] = (float)shift;
        scaler->scale[j] = (float)scale;
    }
    crank_free(columns);
    if (status != CRANK_OK) rank_scaler_free(scaler);
    return status;
}

void rank_row(const rank_scaler *scaler, const letor_set *set, int64_t row, float *spare, float *out)
{
    int64_t known = set->columns < scaler->columns ? set->columns : scaler->columns;
    letor_row(set, row, spare);
    for (int64_t j = known; j < scaler->columns; j++) spare[j] = set->absent_missing ? NAN : 0;
    for (int64_t j = 0; j < scaler->columns; j++) {
        float v = spare[j];
        if (scaler->logged) v = log10f(1 + fmaxf(v - scaler->low[j], 0));
        v = (v - scaler->shift[j]) * scaler->scale[j];
        out[j] = isfinite(spare[j]) && isfinite(v) ? v : 0;
    }
}

/* ---- batches ---- */

crank_status rank_feeder_open(crank_context *context, const letor_set *set, const rank_scaler *scaler, int64_t most_lists, rank_feeder *feeder)
{
    int64_t longest = 1, columns = set->columns > scaler->columns ? set->columns : scaler->columns;
    *feeder = (rank_feeder){.set = set, .scaler = scaler, .list_room = most_lists};
    if (!set->offsets || set->queries < 1) return crank_fail(context, CRANK_BAD_DATA, "the data have no queries: qid:, a column (data.query) or a .query file name them");
    for (int64_t q = 0; q < set->queries; q++)
        if (set->offsets[q + 1] - set->offsets[q] > longest) longest = set->offsets[q + 1] - set->offsets[q];
    feeder->row_room = longest * most_lists < set->rows ? longest * most_lists : set->rows;
    size_t rows = (size_t)feeder->row_room + 1;
    feeder->x = crank_alloc(context, rows, (size_t)scaler->columns * sizeof *feeder->x, "a batch");
    feeder->labels = crank_alloc(context, rows, sizeof *feeder->labels, "a batch");
    feeder->weights = crank_alloc(context, rows, sizeof *feeder->weights, "a batch");
    feeder->rows = crank_alloc(context, rows, sizeof *feeder->rows, "a batch");
    feeder->spare = crank_alloc(context, (size_t)columns + 1, sizeof *feeder->spare, "a row");
    feeder->offsets = crank_alloc(context, (size_t)most_lists + 1, sizeof *feeder->offsets, "a batch");
    if (feeder->x && feeder->labels && feeder->weights && feeder->rows && feeder->spare && feeder->offsets) return CRANK_OK;
    rank_feeder_close(feeder);
    return CRANK_FAILED;
}

void rank_feeder_close(rank_feeder *feeder)
{
    crank_free(feeder->x), crank_free(feeder->labels), crank_free(feeder->weights), crank_free(feeder->rows), crank_free(feeder->spare), crank_free(feeder->offsets);
    *feeder = (rank_feeder){0};
}

rank_batch rank_feed(rank_feeder *feeder, const int64_t *lists, int64_t count)
{
    const letor_set *set = feeder->set;
    int64_t          n = 0;
    for (int64_t l = 0; l < count; l++) {
        feeder->offsets[l] = (int32_t)n;
        for (int64_t i = set->offsets[lists[l]]; i < set->offsets[lists[l] + 1]; i++, n++) {
            rank_row(feeder->scaler, set, i, feeder->spare, feeder->x + n * feeder->scaler->columns);
            feeder->labels[n] = set->labels ? set->labels[i] : 0;
            feeder->weights[n] = set->weights ? set->weights[i] : 1;
            feeder->rows[n] = i;
        }
    }
    feeder->offsets[count] = (int32_t)n;
    return (rank_batch){.rows = n, .lists = count, .offsets = feeder->offsets, .x = feeder->x};
}
