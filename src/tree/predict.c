/* predict.c - scores of rows, and through the objective's link. */
#include "tree/score.h"

enum { FEW = 16, MOST_INPUTS = 4096 }; /* FEW rows are not worth a tile */

/* Sums of leaves -> raw scores */
static void finish(const crank_trees *trees, double *out)
{
    for (int64_t k = 0; k < trees->outputs; k++) {
        if (trees->average && trees->count > 0) out[k] /= (double)(trees->count / trees->outputs);
        out[k] += trees->base[k];
    }
}

void crank_trees_score(const crank_trees *trees, const float *row, double *out)
{
    float value[MOST_INPUTS];
    if (trees->scorer && trees->scorer->inputs <= MOST_INPUTS) score_one(trees->scorer, row, value, out);
    else {
        for (int64_t k = 0; k < trees->outputs; k++) out[k] = 0;
        for (int64_t i = 0; i < trees->count; i++) out[i % trees->outputs] += trees->trees[i].leaf_value[tree_leaf(&trees->trees[i], row)];
    }
    finish(trees, out);
}

static bool is(const crank_trees *trees, const char *name) { return strcmp(trees->objective, name) == 0; }

void trees_link(const crank_trees *trees, double *scores, int64_t rows)
{
    int64_t n = trees->outputs;
    bool    logistic = is(trees, "binary") || is(trees, "cross_entropy") || is(trees, "multiclassova");
    bool    exponent = is(trees, "poisson") || is(trees, "gamma") || is(trees, "tweedie");
    for (int64_t i = 0; (logistic || exponent) && i < rows * n; i++) scores[i] = logistic ? 1 / (1 + exp(-trees->sigmoid * scores[i])) : exp(scores[i]);
    if (!is(trees, "multiclass")) return;
    for (double *s = scores; s < scores + rows * n; s += n) {
        double top = s[0], sum = 0;
        for (int64_t k = 1; k < n; k++) top = fmax(top, s[k]);
        for (int64_t k = 0; k < n; k++) sum += s[k] = exp(s[k] - top);
        for (int64_t k = 0; k < n; k++) s[k] /= sum;
    }
}

static crank_status score_few(crank_context *context, const crank_trees *trees, const crank_tree_data *data, double *out)
{
    float *row = crank_alloc(context, (size_t)trees->columns + 1, sizeof *row, "a row to score");
    for (int64_t i = 0; row && i < data->rows; i++) {
        data_row(data, i, trees->columns, row);
        crank_trees_score(trees, row, out + i * trees->outputs);
    }
    crank_free(row);
    return row ? CRANK_OK : CRANK_FAILED;
}

crank_status crank_trees_predict(crank_context *context, const crank_trees *trees, const crank_tree_data *data, bool raw, double *out)
{
    crank_status status = data_check(context, data, false);
    if (status != CRANK_OK) return status;
    if (data->rows <= FEW) status = score_few(context, trees, data, out);
    else {
        scorer *made = trees->scorer ? NULL : scorer_make(context, trees); /* of a model still growing */
        if (!trees->scorer && !made) return CRANK_FAILED;
        status = score_rows(context, made ? made : trees->scorer, data, NULL, out) ? CRANK_OK : CRANK_FAILED;
        scorer_free(made);
        for (int64_t i = 0; status == CRANK_OK && i < data->rows; i++) finish(trees, out + i * trees->outputs);
    }
    if (status == CRANK_OK && !raw) trees_link(trees, out, data->rows);
    return status;
}
