/* spectra_watch.c - keeps the decomposition of each watched weight, W0 = X S Z^T, and counts intruders of the weight that acts now. */
#include "task/spectra_watch.h"

#include <string.h>

static const double EPSILON = 0.5;

typedef struct watched {
    crank_linear  *linear;
    crank_spectrum before;
    float         *weight; /* W0 where training changes it; NULL: the linear's own is still W0 */
} watched;

struct spectra_watch {
    watched *items;
    size_t   count;
    int64_t  top;
};

static crank_status keep(crank_context *context, crank_linear *linear, watched *out)
{
    size_t n = (size_t)(linear->out * linear->in);
    float *w = crank_alloc(context, n, sizeof *w, linear->name);
    *out = (watched){.linear = linear};
    crank_status status = w ? crank_linear_rows(context, linear, 0, linear->out, w) : CRANK_FAILED;
    if (status == CRANK_OK) status = crank_spectrum_of(context, crank_matrix_f32(w, linear->out, linear->in), &out->before);
    if (status == CRANK_OK && linear->weight->trainable) out->weight = w;
    else crank_free(w);
    return status;
}

spectra_watch *spectra_watch_open(crank_context *context, crank_model *model, int64_t top)
{
    crank_linears *linears = crank_model_linears(model);
    spectra_watch *watch = crank_alloc(context, 1, sizeof *watch, "spectra");
    if (watch) watch->items = crank_alloc(context, crank_linears_count(linears) + 1, sizeof *watch->items, "spectra");
    crank_status status = watch && watch->items ? CRANK_OK : CRANK_FAILED;
    if (status == CRANK_OK) watch->top = top;
    for (size_t i = 0; status == CRANK_OK && i < crank_linears_count(linears); i++) {
        crank_linear *linear = crank_linears_at(linears, i);
        if (linear->kind != CRANK_LINEAR_DENSE || linear->block < 0 || !linear->weight || !(linear->weight->trainable || crank_linear_has_maps(linear))) continue;
        status = keep(context, linear, &watch->items[watch->count++]);
    }
    if (status == CRANK_OK && !watch->count) status = crank_fail(context, CRANK_USAGE, "output.intruders: no weight of a layer is trained or adapted");
    if (status == CRANK_OK) return watch;
    spectra_watch_close(watch);
    return NULL;
}

void spectra_watch_close(spectra_watch *watch)
{
    if (!watch) return;
    for (size_t i = 0; i < watch->count; i++) {
        crank_spectrum_free(&watch->items[i].before);
        crank_free(watch->items[i].weight);
    }
    crank_free(watch->items);
    crank_free(watch);
}

static crank_status measure_one(crank_context *context, const watched *w, int64_t top, crank_intruders *found, double *change)
{
    int64_t               m = w->linear->out, n = w->linear->in;
    crank_spectral_change c;
    float *before = w->weight, *own = NULL, *now = crank_alloc(context, (size_t)(m * n), sizeof *now, w->linear->name);
    crank_status status = now ? crank_linear_effective(context, w->linear, now) : CRANK_FAILED;
    if (status == CRANK_OK && !before) {
        before = own = crank_alloc(context, (size_t)(m * n), sizeof *own, w->linear->name);
        status = own ? crank_linear_rows(context, w->linear, 0, m, own) : CRANK_FAILED;
    }
    if (top > w->before.q) top = w->before.q;
    if (status == CRANK_OK)
        status = crank_spectral_change_of(context, &w->before, crank_matrix_f32(before, m, n), crank_matrix_f32(now, m, n), top, true, &c);
    if (status == CRANK_OK) {
        *found = crank_intruders_of(&c, CRANK_LEFT, top, EPSILON);
        *change = c.change;
        crank_spectral_change_free(&c);
    }
    crank_free(own), crank_free(now);
    return status;
}

crank_status spectra_watch_measure(crank_context *context, spectra_watch *watch, spectra_seen *out)
{
    crank_status status = CRANK_OK;
    double       share = 1 / (double)watch->count;
    *out = (spectra_seen){0};
    for (size_t i = 0; status == CRANK_OK && i < watch->count; i++) {
        crank_intruders found;
        double          change;
        status = measure_one(context, &watch->items[i], watch->top, &found, &change);
        if (status != CRANK_OK) break;
        out->intruders += (double)found.count;
        out->cosine += share * found.mean, out->energy += share * found.energy, out->change += share * change;
    }
    return status;
}
