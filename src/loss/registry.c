/* registry.c - the lists of objectives and of list objectives, and those that programs add. */
#include <pthread.h>
#include <string.h>

#include "base/registry.h"
#include "crank/loss.h"

extern const crank_objective objective_token_cross_entropy, objective_classification, objective_regression, objective_pair_logistic;
extern const crank_objective objective_lambdarank, objective_lambda_loss, objective_lipo_lambda, objective_pair_hinge, objective_listnet, objective_listmle, objective_approx_ndcg, objective_neural_ndcg, objective_point_mse, objective_point_logistic;
extern const crank_list_objective list_objective_pair_logistic, list_objective_lambdarank, list_objective_lambda_loss, list_objective_lipo_lambda, list_objective_pair_hinge, list_objective_listnet, list_objective_listmle, list_objective_approx_ndcg, list_objective_neural_ndcg, list_objective_point_mse, list_objective_point_logistic;

static const crank_objective *const built_in[] = {
    &objective_token_cross_entropy,
    &objective_classification,
    &objective_regression,
    &objective_pair_logistic,
    &objective_lambdarank,
    &objective_lambda_loss,
    &objective_lipo_lambda,
    &objective_pair_hinge,
    &objective_listnet,
    &objective_listmle,
    &objective_approx_ndcg,
    &objective_neural_ndcg,
    &objective_point_mse,
    &objective_point_logistic,
};

enum { BUILT_IN = sizeof built_in / sizeof built_in[0], MAX_ADDED = 256 };

/* Registration is process-wide, like the code that it names. */
static const crank_objective *added[MAX_ADDED];
static size_t                 added_count;
static pthread_mutex_t        lock = PTHREAD_MUTEX_INITIALIZER;

const crank_objective *crank_objective_at(size_t i)
{
    if (i < BUILT_IN) return built_in[i];
    pthread_mutex_lock(&lock);
    const crank_objective *objective = i - BUILT_IN < added_count ? added[i - BUILT_IN] : NULL;
    pthread_mutex_unlock(&lock);
    return objective;
}

const crank_objective *crank_objective_find(const char *name)
{
    const crank_objective *objective;
    for (size_t i = 0; (objective = crank_objective_at(i)); i++)
        if (!strcmp(objective->name, name)) return objective;
    return NULL;
}

crank_status crank_register_objective(crank_context *context, const crank_objective *objective)
{
    if (!objective->name || !objective->record) return crank_fail(context, CRANK_USAGE, "an objective needs a name and a record hook");
    if (crank_objective_find(objective->name)) return crank_fail(context, CRANK_USAGE, "objective `%s` exists already", objective->name);
    pthread_mutex_lock(&lock);
    crank_status status = CRANK_OK;
    if (added_count == MAX_ADDED)
        status = crank_fail(context, CRANK_FAILED, "no room for objective `%s`: %d were added", objective->name, MAX_ADDED);
    else
        added[added_count++] = objective;
    pthread_mutex_unlock(&lock);
    return status;
}

static const crank_list_objective *const built_in_lists[] = {
    &list_objective_pair_logistic,
    &list_objective_lambdarank,
    &list_objective_lambda_loss,
    &list_objective_lipo_lambda,
    &list_objective_pair_hinge,
    &list_objective_listnet,
    &list_objective_listmle,
    &list_objective_approx_ndcg,
    &list_objective_neural_ndcg,
    &list_objective_point_mse,
    &list_objective_point_logistic,
    NULL,
};
static registry                          list_objectives = REGISTRY("list objective", built_in_lists);

const crank_list_objective *crank_list_objective_find(const char *name) { return registry_find(&list_objectives, name); }
const crank_list_objective *crank_list_objective_at(size_t i) { return registry_at(&list_objectives, i); }

crank_status crank_register_list_objective(crank_context *context, const crank_list_objective *objective)
{
    if (!objective->run)
        return crank_fail(context, CRANK_USAGE, "the list objective %s lacks run", objective->name ? objective->name : "?");
    return registry_add(context, &list_objectives, objective);
}
