/* learner.c - boosting with gradients of the caller's: one round a call (crank/tree.h). */
#include "tree/boost.h"
#include "tree/score.h"

struct crank_trees_learner {
    booster            booster;
    crank_tree_data    data;
    int64_t            rounds;
};

crank_trees_learner *crank_trees_learner_new(crank_context *context, const crank_tree_options *options, const crank_tree_data *data, int64_t outputs, const crank_trees *init)
{
    if (outputs < 1 || outputs > 1 << 16 || (data->rows > 0 && outputs > INT64_MAX / 64 / data->rows)) {
        crank_fail(context, CRANK_USAGE, "a learner of %lld outputs: there may be 1 to 65536", (long long)outputs);
        return NULL;
    }
    crank_trees_learner *l = crank_alloc(context, 1, sizeof *l, "a learner of trees");
    if (!l) return NULL;
    l->data = *data;
    l->booster = (booster){.context = context, .options = options, .train = &l->data, .outputs = outputs, .given = true, .best = NAN};
    if (booster_open(&l->booster, init)) return l;
    crank_trees_learner_free(l);
    return NULL;
}

void crank_trees_learner_free(crank_trees_learner *l)
{
    if (!l) return;
    booster_close(&l->booster);
    crank_trees_free(l->booster.trees);
    crank_free(l);
}

void crank_trees_learner_scores(const crank_trees_learner *l, double *out)
{
    int64_t n = l->data.rows, K = l->booster.outputs;
    for (int64_t k = 0; k < K; k++)
        for (int64_t i = 0; i < n; i++) out[i * K + k] = l->booster.scores[k * n + i];
}

crank_status crank_trees_learner_step(crank_trees_learner *l, const float *gradient, const float *hessian, bool *grew)
{
    booster *b = &l->booster;
    int64_t  n = l->data.rows, K = b->outputs;
    bool     more;
    for (int64_t i = 0; i < n; i++)
        for (int64_t k = 0; k < K; k++) {
            float g = gradient[i * K + k], h = hessian ? hessian[i * K + k] : 1;
            if (!isfinite(g) || !isfinite(h) || h < 0)
                return crank_fail(b->context, CRANK_BAD_DATA, "row %lld, output %lld: gradient %g, second derivative %g: both must be finite, the second not negative", (long long)i + 1, (long long)k, (double)g, (double)h);
            b->g[k * n + i] = g;
            b->h[k * n + i] = h;
        }
    if (!booster_round(b, l->rounds, &more)) return crank_last_status(b->context);
    l->rounds++;
    if (grew) *grew = more;
    return CRANK_OK;
}

crank_trees *crank_trees_learner_finish(crank_trees_learner *l)
{
    crank_trees *trees = l->booster.trees;
    if ((trees->scorer = scorer_make(l->booster.context, trees))) l->booster.trees = NULL;
    else trees = NULL;
    crank_trees_learner_free(l);
    return trees;
}
