/* outliers.c - the share of outliers in each layer of a model.
 *
 * A map that changes nothing stands on every linear and adds the squares of what the linear reads to a vector; afterwards the weights are
 * read once, layer after layer. */
#include "task/outliers.h"

#include <math.h>

#include "crank/linear.h"
#include "optim/outlier.h"

enum { SEQUENCE = 512 };

typedef struct seen {
    crank_param *squares; /* [in] */
} seen;

static crank_status attach(crank_context *context, crank_site *site)
{
    seen *s = site->state;
    s->squares = crank_site_state(context, site, "squares", CRANK_ROLE_CACHE, CRANK_F32, 1, &site->linear->in);
    return s->squares ? CRANK_OK : crank_last_status(context);
}

static crank_tensor *forward(crank_graph *graph, crank_site *site, crank_tensor *x, crank_tensor *y0)
{
    const seen   *s = site->state;
    crank_tensor *squares = crank_reduce(CRANK_SUM_SQUARES, crank_cast(x, s->squares->view.dtype), 1u, false);
    crank_assign(crank_use(graph, s->squares), squares, true);
    return y0;
}

static const crank_option no_options[] = {CRANK_END};
static const crank_map    looker = {.name = "outlier_inputs", .options = no_options, .options_size = 1, .state_size = sizeof(seen), .attach = attach, .forward = forward};

/* ---- the pass ---- */

static crank_status run_all(crank_context *context, crank_graph *graph, const crank_model_inputs *inputs, const int32_t *ids, int64_t count, int64_t length)
{
    int32_t     *positions = crank_alloc(context, (size_t)length, sizeof *positions, "positions");
    crank_status status = positions ? CRANK_OK : CRANK_FAILED;
    int32_t      segments[2] = {0, (int32_t)length};
    for (int64_t i = 0; positions && i < length; i++) positions[i] = (int32_t)i;
    if (status == CRANK_OK) status = crank_write(inputs->positions, positions);
    if (status == CRANK_OK) status = crank_write(inputs->segments, segments);
    for (int64_t at = 0; status == CRANK_OK && at + length <= count; at += length) {
        status = crank_write(inputs->ids, ids + at);
        if (status == CRANK_OK) status = crank_run(graph);
        if (status == CRANK_OK && crank_stop_requested(context)) status = crank_fail(context, CRANK_STOPPED, "stopped");
    }
    crank_free(positions);
    return status;
}

static crank_status look(crank_context *context, crank_model *model, const int32_t *ids, int64_t count)
{
    int64_t      limit = crank_model_config_of(model)->context, length = limit > 0 && limit < SEQUENCE ? limit : SEQUENCE, two = 2;
    crank_graph *graph = crank_graph_new(context, crank_model_device(model));
    if (!graph) return CRANK_FAILED;
    if (length > count) length = count;
    crank_graph_set_compute(graph, crank_model_options_of(model)->compute); /* for training: sums are state, and nothing is dropped */
    crank_model_inputs inputs = {.ids = crank_input(graph, "ids", CRANK_I32, 1, &length), .positions = crank_input(graph, "positions", CRANK_I32, 1, &length),
                                 .segments = crank_input(graph, "segments", CRANK_I32, 1, &two)};
    crank_keep(crank_model_features(graph, model, &inputs));
    crank_status status = crank_plan(graph, NULL, NULL);
    if (status == CRANK_OK) status = run_all(context, graph, &inputs, ids, count, length);
    crank_graph_free(graph);
    return status;
}

/* ---- the shares ---- */

typedef struct layer {
    outlier_matrix *matrices;
    int             count;
} layer;

static void layer_free(layer *l)
{
    for (int k = 0; l->matrices && k < l->count; k++) {
        crank_free((void *)(uintptr_t)l->matrices[k].weight);
        crank_free((void *)(uintptr_t)l->matrices[k].squares);
    }
    crank_free(l->matrices);
}

static crank_status layer_load(crank_context *context, const crank_site *sites, int count, int block, layer *out)
{
    crank_status status = CRANK_OK;
    *out = (layer){.matrices = crank_alloc(context, (size_t)count, sizeof *out->matrices, "matrices of a layer")};
    if (!out->matrices) return CRANK_FAILED;
    for (int i = 0; status == CRANK_OK && i < count; i++) {
        const crank_linear *linear = sites[i].linear;
        if (linear->block != block) continue;
        float  *W = crank_alloc(context, (size_t)(linear->in * linear->out), sizeof *W, linear->name);
        double *squares = crank_alloc(context, (size_t)linear->in, sizeof *squares, linear->name);
        out->matrices[out->count++] = (outlier_matrix){W, squares, linear->out, linear->in};
        status = W && squares ? crank_linear_rows(context, linear, 0, linear->out, W) : CRANK_FAILED;
        if (status == CRANK_OK) status = crank_param_read(context, ((const seen *)sites[i].state)->squares, squares, CRANK_F64);
    }
    return status;
}

static crank_status share_all(crank_context *context, const crank_site *sites, int count, double M, double *shares, int layers)
{
    crank_status status = CRANK_OK;
    for (int b = 0; status == CRANK_OK && b < layers; b++) {
        layer l;
        status = layer_load(context, sites, count, b, &l);
        if (status == CRANK_OK) status = outlier_share(context, l.matrices, l.count, M, &shares[b]);
        layer_free(&l);
    }
    return status;
}

double *outliers_measure(crank_context *context, crank_model *model, const int32_t *ids, int64_t count, double M, int *layers)
{
    crank_linears *linears = crank_model_linears(model);
    *layers = 0;
    for (size_t i = 0; i < crank_linears_count(linears); i++)
        if (crank_linears_at(linears, i)->block >= *layers) *layers = crank_linears_at(linears, i)->block + 1;
    if (!*layers || count < 1) {
        crank_fail(context, CRANK_USAGE, *layers ? "there is no token to run the model on" : "the model has no layers");
        return NULL;
    }
    void             *options = crank_options_new(context, no_options, 1);
    crank_attachment *watching = options ? crank_attachment_new(context, linears, &looker, options, &(crank_attach_options){.targets = "all-linear"}) : NULL;
    double           *shares = crank_alloc(context, (size_t)*layers, sizeof *shares, "shares of layers");
    int               sites_count = 0;
    crank_status      status = watching && shares ? crank_attachment_finish(context, watching) : CRANK_FAILED;
    if (status == CRANK_OK) status = look(context, model, ids, count);
    if (status == CRANK_OK) {
        const crank_site *sites = crank_attachment_sites(watching, &sites_count);
        status = share_all(context, sites, sites_count, M, shares, *layers);
    }
    if (watching) crank_attachment_remove(watching);
    crank_options_free(options);
    if (status == CRANK_OK) return shares;
    crank_free(shares);
    return NULL;
}

crank_status outliers_norms(crank_context *context, crank_model *model, const int32_t *ids, int64_t count, double **out)
{
    if (count < 1) return crank_fail(context, CRANK_USAGE, "there is no token to run the model on");
    void             *options = crank_options_new(context, no_options, 1);
    crank_attachment *watching = options ? crank_attachment_new(context, crank_model_linears(model), &looker, options, &(crank_attach_options){.targets = "all-linear"}) : NULL;
    int               sites_count = 0;
    crank_status      status = watching ? crank_attachment_finish(context, watching) : CRANK_FAILED;
    if (status == CRANK_OK) status = look(context, model, ids, count);
    const crank_site *sites = watching ? crank_attachment_sites(watching, &sites_count) : NULL;
    for (int i = 0; status == CRANK_OK && i < sites_count; i++) {
        double *norms = out[sites[i].linear->index] = crank_alloc(context, (size_t)sites[i].linear->in, sizeof *norms, sites[i].linear->name);
        status = norms ? crank_param_read(context, ((const seen *)sites[i].state)->squares, norms, CRANK_F64) : CRANK_FAILED;
        for (int64_t j = 0; status == CRANK_OK && j < sites[i].linear->in; j++) norms[j] = sqrt(norms[j]);
    }
    if (watching) crank_attachment_remove(watching);
    crank_options_free(options);
    return status;
}
