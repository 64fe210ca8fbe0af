/* world.h - a few random linear maps, methods attached to them, and one forward and reverse pass: for tests of linear/ and
 * lowrank/. Everything crosses this page in f64. */
#ifndef CRANK_TESTS_WORLD_H
#define CRANK_TESTS_WORLD_H

#include "crank/linear.h"
#include "testing.h"
#include "test_device.h"

typedef struct world {
    crank_context *context;
    crank_device  *device;
    crank_params  *params;
    crank_linears *linears;
    crank_dtype    type; /* of weights */
} world;

static inline double world_normal(uint32_t index, uint64_t i)
{
    return crank_draw_normal(crank_stream_make(7, CRANK_RANDOM_TEST, index), i);
}

static inline void world_fill(double *out, size_t n, uint32_t index, double deviation)
{
    for (size_t i = 0; i < n; i++) out[i] = deviation * world_normal(index, i);
}

static inline world world_open(crank_dtype type)
{
    world w = { .type = type };
    w.context = crank_context_new();
    assert_non_null(w.context);
    w.device = test_device(w.context, NULL);
    if (!w.device) fail_msg("%s", crank_message(w.context));
    w.params = crank_params_new(w.context, w.device);
    w.linears = crank_linears_new(w.context, w.params, 11);
    return w;
}

static inline void world_close(world *w)
{
    crank_linears_free(w->linears);
    crank_params_free(w->params);
    w->device->close(w->device);
    crank_context_free(w->context);
}

/* A linear with a random weight (deviation 1/sqrt(in)) and, when asked, a random bias. */
static inline crank_linear *world_linear(world *w, const char *name, crank_linear_kind kind, int64_t in, int64_t out, bool bias)
{
    bool    table = kind == CRANK_LINEAR_EMBEDDING;
    int64_t dims[2] = { table ? in : out, table ? out : in };
    char    text[256];
    snprintf(text, sizeof text, "%s.weight", name);
    crank_param *weight = crank_params_add(w->params, text, CRANK_ROLE_WEIGHT, w->type, 2, dims), *b = NULL;
    if (!weight) fail_msg("%s", crank_message(w->context));
    double *values = calloc((size_t)(in * out), sizeof *values);
    world_fill(values, (size_t)(in * out), crank_hash_name(text), 1 / sqrt((double)(table ? 1 : in)));
    assert_ok(w->context, crank_param_write(w->context, weight, values, CRANK_F64));
    free(values);
    if (bias) {
        snprintf(text, sizeof text, "%s.bias", name);
        b = crank_params_add(w->params, text, CRANK_ROLE_WEIGHT, w->type, 1, &out);
        values = calloc((size_t)out, sizeof *values);
        world_fill(values, (size_t)out, crank_hash_name(text), 1);
        assert_ok(w->context, crank_param_write(w->context, b, values, CRANK_F64));
        free(values);
    }
    crank_linear *linear = crank_linear_add(w->linears, name, kind, in, out, weight, b);
    if (!linear) fail_msg("%s", crank_message(w->context));
    return linear;
}

/* Attaches `method` with "key=value key=value" options; NULL on error (message in the context). */
static inline crank_attachment *world_try(world *w, const char *method, const char *settings, const crank_attach_options *where)
{
    const crank_map *map = crank_map_find(method);
    assert_non_null(map);
    void *options = crank_options_new(w->context, map->options, map->options_size);
    char  text[1024];
    snprintf(text, sizeof text, "%s", settings);
    for (char *rest = text, *item; (item = strtok_r(rest, " ", &rest));) {
        char *mark = strchr(item, '=');
        assert_non_null(mark);
        *mark = 0;
        if (crank_options_set(w->context, map->options, options, item, mark + 1, "test")) fail_msg("%s", crank_message(w->context));
    }
    crank_attachment *attachment = crank_attachment_new(w->context, w->linears, map, options, where);
    if (attachment && crank_attachment_finish(w->context, attachment)) {
        crank_attachment_remove(attachment);
        attachment = NULL;
    }
    crank_options_free(options);
    return attachment;
}

static inline crank_attachment *world_attach(world *w, const char *method, const char *settings, const char *targets)
{
    crank_attachment *attachment = world_try(w, method, settings, &(crank_attach_options){ .targets = targets });
    if (!attachment) fail_msg("%s", crank_message(w->context));
    return attachment;
}

static inline crank_param *world_param(world *w, const char *name)
{
    crank_param *param = crank_params_find(w->params, name);
    if (!param) fail_msg("no parameter named %s", name);
    return param;
}

static inline size_t world_count(const crank_param *param) { return (size_t)crank_view_count(&param->view); }

/* A parameter's values; free. */
static inline double *world_values(world *w, const char *name)
{
    crank_param *param = world_param(w, name);
    double      *values = calloc(world_count(param), sizeof *values);
    assert_ok(w->context, crank_param_read(w->context, param, values, CRANK_F64));
    return values;
}

static inline void world_write(world *w, const char *name, const double *values)
{
    assert_ok(w->context, crank_param_write(w->context, world_param(w, name), values, CRANK_F64));
}

/* Random values of deviation `deviation` in a parameter. */
static inline void world_randomise(world *w, const char *name, double deviation)
{
    crank_param *param = world_param(w, name);
    double      *values = calloc(world_count(param), sizeof *values);
    world_fill(values, world_count(param), crank_hash_name(name) + 1, deviation);
    world_write(w, name, values);
    free(values);
}

/* One pass: y = linear(x); with dy also the gradients of `wrt` parameters, and dx. */
typedef struct pass {
    int64_t            n;
    const double      *x;   /* [n, in], or ids */
    const double      *dy;  /* [n, out] or NULL */
    crank_dtype        compute;
    bool               training;
    int64_t            step; /* of dropout */
    const char *const *wrt; /* names of parameters, NULL-terminated, or NULL */
    double            *grads[8];
    double            *dx;
    double            *y;
} pass;

static inline void world_to_input(crank_context *context, crank_tensor *tensor, const double *values, size_t n)
{
    void *host = calloc(n, 8);
    if (tensor->dtype == CRANK_I32)
        for (size_t i = 0; i < n; i++) ((int32_t *)host)[i] = (int32_t)values[i];
    else crank_convert(host, tensor->dtype, values, CRANK_F64, n);
    assert_ok(context, crank_write(tensor, host));
    free(host);
}

static inline double *world_from(crank_context *context, const crank_tensor *tensor)
{
    size_t n = 1;
    for (int i = 0; i < tensor->rank; i++) n *= (size_t)tensor->dims[i];
    void   *host = calloc(n, 8);
    double *values = calloc(n, sizeof *values);
    assert_ok(context, crank_read(tensor, host));
    crank_convert(values, CRANK_F64, host, tensor->dtype, n);
    free(host);
    return values;
}

static inline void world_run(world *w, crank_linear *linear, pass *p)
{
    crank_graph  *graph = crank_graph_new(w->context, w->device);
    bool          ids = linear->kind == CRANK_LINEAR_EMBEDDING;
    crank_tensor *wrt[9], *grads[9] = { NULL }, *x, *dy = NULL;
    int           count = 0;
    crank_graph_set_compute(graph, p->compute);
    crank_graph_set_training(graph, p->training);
    crank_graph_set_seed(graph, 5);
    x = ids ? crank_input(graph, "x", CRANK_I32, 1, &p->n)
            : crank_input(graph, "x", p->compute, 2, (const int64_t[]){ p->n, linear->in });
    if (p->dy && !ids) crank_mark_gradient(x);
    crank_tensor *y = crank_keep(crank_linear_forward(graph, linear, x));
    if (crank_graph_status(graph)) fail_msg("%s", crank_message(w->context));
    if (p->dy) {
        dy = crank_input(graph, "dy", y->dtype, 2, (const int64_t[]){ p->n, linear->out });
        for (; p->wrt && p->wrt[count]; count++) wrt[count] = crank_use(graph, world_param(w, p->wrt[count]));
        int all = count;
        if (!ids) wrt[all++] = x;
        assert_ok(w->context, crank_gradients(graph, &y, &dy, 1, wrt, all, grads));
        for (int i = 0; i < all; i++)
            if (grads[i]) grads[i] = crank_keep(crank_contiguous(grads[i]));
    }
    assert_ok(w->context, crank_plan(graph, NULL, NULL));
    size_t x_count = (size_t)p->n * (ids ? 1 : (size_t)linear->in);
    world_to_input(w->context, x, p->x, x_count);
    if (dy) world_to_input(w->context, dy, p->dy, (size_t)(p->n * linear->out));
    assert_ok(w->context, crank_write(crank_step_counter(graph), &p->step));
    assert_ok(w->context, crank_run(graph));
    p->y = world_from(w->context, y);
    for (int i = 0; i < count; i++) p->grads[i] = grads[i] ? world_from(w->context, grads[i]) : NULL;
    p->dx = dy && !ids && grads[count] ? world_from(w->context, grads[count]) : NULL;
    crank_graph_free(graph);
}

static inline void pass_free(pass *p)
{
    for (size_t i = 0; i < 8; i++) free(p->grads[i]);
    free(p->dx);
    free(p->y);
}

/* |a - b| / |b| */
static inline double distance(const double *a, const double *b, size_t n)
{
    double difference = 0, norm = 0;
    for (size_t i = 0; i < n; i++) {
        difference += (a[i] - b[i]) * (a[i] - b[i]);
        norm += b[i] * b[i];
    }
    return sqrt(difference) / fmax(sqrt(norm), 1e-300);
}

#define assert_near(a, b, n, bound)                                                                                    \
    do {                                                                                                               \
        double far = distance(a, b, n);                                                                                \
        if (!(far <= (bound))) fail_msg("relative distance %g > %g", far, (double)(bound));                            \
    } while (0)
#endif
