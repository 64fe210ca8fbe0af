/* gradient.c - the gradient of a network's loss by the weight in effect at one linear, for experiments that measure how much of it a
 * method's update holds. A map that adds nothing stands on the linear while calibration shows it the gradient. */
#include "lab/net.h"
#include "lowrank/spectrum.h"

typedef struct {
    float *G; /* [out, in], sum over batches */
    int    batches;
} state;

static crank_status calibrate(crank_context *context, crank_site *site, const crank_observation *batch)
{
    state *st = site->state;
    if (!batch) return CRANK_OK;
    st->batches++;
    return gradient_add(context, site->linear, batch, &st->G);
}

static crank_status attach(crank_context *context, crank_site *site)
{
    (void)context, (void)site;
    return CRANK_OK;
}

static crank_tensor *forward(crank_graph *graph, crank_site *site, crank_tensor *x, crank_tensor *y0)
{
    (void)graph, (void)site, (void)x;
    return y0;
}

static const crank_map probe = {
    .name = "probe", .summary = "sees the gradient of its linear", .state_size = sizeof(state), .observes = CRANK_OBSERVE_GRADIENT,
    .calibrate = calibrate, .attach = attach, .forward = forward,
};

float *lab_gradient(lab_net *net, const char *linear, const lab_data *data)
{
    crank_attachment *attachment = crank_attachment_new(net->context, net->linears, &probe, NULL, &(crank_attach_options){.name = "probe", .targets = linear});
    if (!attachment) return NULL;
    int          count;
    state       *st = crank_attachment_sites(attachment, &count)[0].state;
    crank_status status = lab_calibrate(net, attachment, data);
    crank_linear *at = crank_linears_find(net->linears, linear);
    for (int64_t i = 0; status == CRANK_OK && i < at->in * at->out; i++) st->G[i] /= (float)st->batches;
    float *G = st->G;
    crank_attachment_remove(attachment);
    if (status == CRANK_OK) return G;
    crank_free(G);
    return NULL;
}
