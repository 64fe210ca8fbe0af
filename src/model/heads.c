/* heads.c - what stands behind the body: the vocabulary's log-probabilities, one vector a sequence, classification.
 *
 * The vocabulary's logits exist chunk by chunk inside head operations; only where a method stands on the head itself do
 * they go through the linear as a whole:  logp_i = z_i[t] - lse_i,  lse_i = m_i + log sum_v e^(z_iv - m_i),  m_i =
 * max_v z_iv. */
#include "model/model.h"

static bool has_vocabulary(crank_graph *graph, const crank_model *model)
{
    if (crank_graph_status(graph) != CRANK_OK) return false;
    if (model->heads.vocabulary) return true;
    crank_graph_error(graph, CRANK_USAGE, "%s has no head over the vocabulary", model->config.architecture);
    return false;
}

/* What the vocabulary's linear reads: the features, or the transform of a masked language model. */
static crank_tensor *head_input(crank_graph *graph, const crank_model *model, crank_tensor *features)
{
    const model_heads *heads = &model->heads;
    if (!heads->transform) return features;
    crank_tensor *x = crank_unary(heads->transform_activation, crank_linear_forward(graph, heads->transform, features));
    return nn_norm_forward(graph, &heads->transform_norm, x);
}

static crank_tensor *wide(crank_tensor *x)
{
    return x->dtype == CRANK_F64 ? x : crank_cast(x, CRANK_F32);
}

static crank_tensor *head_bias(crank_graph *graph, const crank_linear *head)
{
    return head->bias ? crank_cast(crank_use(graph, head->bias), crank_graph_compute(graph)) : NULL;
}

/* Through the maps on the head: logits in f32 (or f64) [n, vocab] -> log-probabilities of the targets [n]. */
static crank_tensor *whole_logprob(crank_tensor *logits, crank_tensor *targets, crank_tensor **lse)
{
    int64_t n = targets->dims[0];
    if (lse) {
        crank_tensor *most = crank_stop_gradient(crank_reduce(CRANK_AMAX, logits, 2, true));
        crank_tensor *sum = crank_reduce(CRANK_SUM, crank_unary(CRANK_EXP, crank_sub(logits, most)), 2, true);
        *lse = crank_reshape(crank_add(crank_unary(CRANK_LOG, sum), most), 1, &n);
    }
    crank_tensor *picked = crank_pick(crank_softmax(logits, true), crank_reshape(targets, 2, (int64_t[]){n, 1}));
    return crank_reshape(picked, 1, &n);
}

crank_tensor *crank_model_logits(crank_graph *graph, crank_model *model, crank_tensor *features)
{
    if (!has_vocabulary(graph, model)) return features;
    return crank_linear_forward(graph, model->heads.vocabulary, head_input(graph, model, features));
}

crank_tensor *crank_model_logprob(crank_graph *graph, crank_model *model, crank_tensor *features, crank_tensor *targets,
                                  crank_tensor **lse)
{
    if (!has_vocabulary(graph, model)) return features;
    crank_linear *head = model->heads.vocabulary;
    if (crank_linear_has_maps(head))
        return whole_logprob(wide(crank_model_logits(graph, model, features)), targets, lse);
    return crank_head_logprob(head_input(graph, model, features), crank_linear_weight(graph, head),
                              head_bias(graph, head), targets, lse);
}

crank_tensor *crank_model_cross_entropy(crank_graph *graph, crank_model *model, crank_tensor *features,
                                        crank_tensor *targets, crank_tensor *weights, crank_tensor **logp)
{
    if (!has_vocabulary(graph, model)) return features;
    crank_linear *head = model->heads.vocabulary;
    if (!crank_linear_has_maps(head))
        return crank_head_cross_entropy(head_input(graph, model, features), crank_linear_weight(graph, head),
                                        head_bias(graph, head), targets, weights, logp);
    crank_tensor *rows = whole_logprob(wide(crank_model_logits(graph, model, features)), targets, NULL);
    if (logp) *logp = crank_stop_gradient(rows);
    return crank_scale(crank_sum(crank_mul(rows, crank_cast(weights, rows->dtype))), -1);
}

/* Columns of a product that was computed whole: logits [n, vocab], ids [k] -> [n, k]. */
static crank_tensor *columns_of(crank_tensor *logits, crank_tensor *ids)
{
    crank_tensor *turned = crank_contiguous(crank_transpose(logits, 0, 1));
    return crank_contiguous(crank_transpose(crank_gather_rows(turned, ids), 0, 1));
}

crank_tensor *crank_model_answers(crank_graph *graph, crank_model *model, crank_tensor *features, crank_tensor *ids)
{
    if (!has_vocabulary(graph, model)) return features;
    crank_linear *head = model->heads.vocabulary;
    if (crank_linear_has_maps(head)) return columns_of(crank_model_logits(graph, model, features), ids);
    crank_dtype   compute = crank_graph_compute(graph);
    crank_tensor *x = head_input(graph, model, features);
    crank_tensor *rows = crank_gather_rows_as(crank_use(graph, head->weight), ids, compute), *bias = NULL;
    if (head->bias) {
        crank_tensor *column = crank_reshape(crank_use(graph, head->bias), 2, (const int64_t[]){-1, 1});
        bias = crank_reshape(crank_gather_rows_as(column, ids, compute), 1, ids->dims);
    }
    return crank_matmul_full(x, false, rows, true, 1, bias, NULL, compute == CRANK_F64 ? CRANK_F64 : CRANK_F32);
}

crank_tensor *crank_model_pool(crank_graph *graph, crank_model *model, crank_tensor *features, crank_tensor *segments)
{
    static const crank_segment_kind kinds[] = {[POOL_MEAN] = CRANK_SEGMENT_MEAN,
                                               [POOL_CLS] = CRANK_SEGMENT_FIRST,
                                               [POOL_LAST] = CRANK_SEGMENT_LAST,
                                               [POOL_POOLER] = CRANK_SEGMENT_FIRST};
    crank_tensor *rows = crank_segment_pool(features, segments, kinds[model->pooling]);
    if (model->pooling != POOL_POOLER) return rows;
    if (!model->heads.pooler)
        return crank_graph_error(graph, CRANK_USAGE, "%s has no pooler; choose pooling mean, cls or last",
                                 model->config.architecture);
    return crank_unary(CRANK_TANH, crank_linear_forward(graph, model->heads.pooler, rows));
}

crank_tensor *crank_model_classify(crank_graph *graph, crank_model *model, crank_tensor *features,
                                   crank_tensor *segments)
{
    const model_heads *heads = &model->heads;
    if (!heads->classifier)
        return crank_graph_error(graph, CRANK_USAGE, "%s has no classification head; load it with labels > 0",
                                 model->config.architecture);
    crank_tensor *x = crank_model_pool(graph, model, features, segments);
    if (heads->dense) x = crank_unary(heads->dense_activation, crank_linear_forward(graph, heads->dense, x));
    return crank_linear_forward(graph, heads->classifier, x);
}
