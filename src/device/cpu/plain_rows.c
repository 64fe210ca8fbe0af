/* plain_rows.c - plain bodies that work on rows: softmax, log-softmax, RMS norm, layer norm, rotary positions, and
 * reverses. */
#include "device/cpu/plain.h"

crank_status plain_softmax(crank_context *context, const crank_call *call)
{
    (void)context;
    bool              log_form = ((const crank_softmax_attributes *)call->attributes)->log;
    const crank_view *x = &call->in[0], *y = &call->out[0];
    int64_t           c = last_dim(x), sx = last_stride(x), sy = last_stride(y);
    WALK_ROWS (w, x, x, y) {
        double max = -INFINITY, sum = 0;
        for (int64_t j = 0; j < c; j++) max = fmax(max, get(x, w.offset[0] + j * sx));
        for (int64_t j = 0; j < c; j++) sum += exp(get(x, w.offset[0] + j * sx) - max);
        for (int64_t j = 0; j < c; j++) {
            double z = get(x, w.offset[0] + j * sx) - max;
            put(y, w.offset[1] + j * sy, log_form ? z - log(sum) : exp(z) / sum);
        }
    }
    return CRANK_OK;
}

/* softmax: dx = y (dy - sum dy y);  log-softmax: dx = dy - e^y sum dy */
crank_status plain_softmax_backward(crank_context *context, const crank_call *call)
{
    (void)context;
    bool              log_form = ((const crank_softmax_attributes *)call->attributes)->log;
    const crank_view *y = &call->in[0], *dy = &call->in[1], *dx = &call->out[0];
    int64_t           c = last_dim(y), sy = last_stride(y), sd = last_stride(dy), sx = last_stride(dx);
    WALK_ROWS (w, y, y, dy, dx) {
        double sum = 0;
        for (int64_t j = 0; j < c; j++)
            sum += get(dy, w.offset[1] + j * sd) * (log_form ? 1 : get(y, w.offset[0] + j * sy));
        for (int64_t j = 0; j < c; j++) {
            double out = get(y, w.offset[0] + j * sy), d = get(dy, w.offset[1] + j * sd);
            put(dx, w.offset[2] + j * sx, log_form ? d - exp(out) * sum : out * (d - sum));
        }
    }
    return CRANK_OK;
}

/* z = x + residual as it is stored in `sum`: the reverse pass reads the stored value, so both see the same. */
static double residual_sum(const crank_view *x, const crank_view *residual, int64_t i, int64_t j)
{
    double z = get(x, at2(x, i, j));
    return view_present(residual) ? element_rounded(x->dtype, z + get(residual, at2(residual, i, j))) : z;
}

crank_status plain_rmsnorm(crank_context *context, const crank_call *call)
{
    (void)context;
    const crank_view *x = &call->in[0], *w = &call->in[1], *residual = &call->in[2];
    const crank_view *y = &call->out[0], *rstd = &call->out[1], *sum = &call->out[2];
    double            epsilon = ((const crank_norm_attributes *)call->attributes)->epsilon;
    int64_t           n = x->dims[0], d = x->dims[1];
    for (int64_t i = 0; i < n; i++) {
        double squares = 0;
        for (int64_t j = 0; j < d; j++) {
            double z = residual_sum(x, residual, i, j);
            squares += z * z;
        }
        double r = 1 / sqrt(squares / (double)d + epsilon);
        for (int64_t j = 0; j < d; j++) {
            double z = residual_sum(x, residual, i, j);
            if (view_present(sum)) put(sum, at2(sum, i, j), z);
            put(y, at2(y, i, j), z * r * get(w, at1(w, j)));
        }
        put(rstd, at1(rstd, i), r);
    }
    return CRANK_OK;
}

crank_status plain_rmsnorm_backward(crank_context *context, const crank_call *call)
{
    (void)context;
    const crank_view *dy = &call->in[0], *z = &call->in[1], *w = &call->in[2], *rstd = &call->in[3],
                     *dres = &call->in[4];
    const crank_view *dx = &call->out[0], *dw = &call->out[1];
    int64_t           n = z->dims[0], d = z->dims[1];
    for (int64_t j = 0; j < d && view_present(dw); j++) {
        double sum = 0;
        for (int64_t i = 0; i < n; i++) sum += get(dy, at2(dy, i, j)) * get(z, at2(z, i, j)) * get(rstd, at1(rstd, i));
        put(dw, at1(dw, j), sum);
    }
    for (int64_t i = 0; i < n; i++) {
        double r = get(rstd, at1(rstd, i)), mean = 0;
        for (int64_t j = 0; j < d; j++) mean += get(w, at1(w, j)) * get(dy, at2(dy, i, j)) * get(z, at2(z, i, j));
        mean /= (double)d;
        for (int64_t j = 0; j < d; j++) {
            double value = r * (get(w, at1(w, j)) * get(dy, at2(dy, i, j)) - get(z, at2(z, i, j)) * r * r * mean);
            put(dx, at2(dx, i, j), value + (view_present(dres) ? get(dres, at2(dres, i, j)) : 0));
        }
    }
    return CRANK_OK;
}

static double weight_at(const crank_view *w, int64_t j, double otherwise)
{
    return view_present(w) ? get(w, at1(w, j)) : otherwise;
}

crank_status plain_layernorm(crank_context *context, const crank_call *call)
{
    (void)context;
    const crank_view *x = &call->in[0], *w = &call->in[1], *b = &call->in[2], *residual = &call->in[3];
    const crank_view *y = &call->out[0], *mean = &call->out[1], *rstd = &call->out[2], *sum = &call->out[3];
    double            epsilon = ((const crank_norm_attributes *)call->attributes)->epsilon;
    int64_t           n = x->dims[0], d = x->dims[1];
    for (int64_t i = 0; i < n; i++) {
        double m = 0, variance = 0;
        for (int64_t j = 0; j < d; j++) m += residual_sum(x, residual, i, j);
        m /= (double)d;
        for (int64_t j = 0; j < d; j++) {
            double centred = residual_sum(x, residual, i, j) - m;
            variance += centred * centred;
        }
        double r = 1 / sqrt(variance / (double)d + epsilon);
        for (int64_t j = 0; j < d; j++) {
            double z = residual_sum(x, residual, i, j);
            if (view_present(sum)) put(sum, at2(sum, i, j), z);
            put(y, at2(y, i, j), (z - m) * r * weight_at(w, j, 1) + weight_at(b, j, 0));
        }
        put(mean, at1(mean, i), m);
        put(rstd, at1(rstd, i), r);
    }
    return CRANK_OK;
}

/* dx = dres + rstd (g - mean(g) - h mean(g h)),  g = w dy,  h = (z - mean) rstd;  dw = sum dy h;  db = sum dy */
crank_status plain_layernorm_backward(crank_context *context, const crank_call *call)
{
    (void)context;
    const crank_view *dy = &call->in[0], *z = &call->in[1], *w = &call->in[2], *mean = &call->in[3],
                     *rstd = &call->in[4];
    const crank_view *dres = &call->in[5], *dx = &call->out[0], *dw = &call->out[1], *db = &call->out[2];
    int64_t           n = z->dims[0], d = z->dims[1];
    for (int64_t j = 0; j < d; j++) {
        double sum_dy = 0, sum_dyh = 0;
        for (int64_t i = 0; i < n; i++) {
            double gradient = get(dy, at2(dy, i, j));
            sum_dy += gradient;
            sum_dyh += gradient * (get(z, at2(z, i, j)) - get(mean, at1(mean, i))) * get(rstd, at1(rstd, i));
        }
        if (view_present(dw)) put(dw, at1(dw, j), sum_dyh);
        if (view_present(db)) put(db, at1(db, j), sum_dy);
    }
    for (int64_t i = 0; i < n; i++) {
        double m = get(mean, at1(mean, i)), r = get(rstd, at1(rstd, i)), mean_g = 0, mean_gh = 0;
        for (int64_t j = 0; j < d; j++) {
            double g = weight_at(w, j, 1) * get(dy, at2(dy, i, j));
            mean_g += g / (double)d;
            mean_gh += g * (get(z, at2(z, i, j)) - m) * r / (double)d;
        }
        for (int64_t j = 0; j < d; j++) {
            double g = weight_at(w, j, 1) * get(dy, at2(dy, i, j)), h = (get(z, at2(z, i, j)) - m) * r;
            double value = r * (g - mean_g - h * mean_gh);
            put(dx, at2(dx, i, j), value + (view_present(dres) ? get(dres, at2(dres, i, j)) : 0));
        }
    }
    return CRANK_OK;
}

/* (a, b) -> (a cos - b sin, a sin + b cos) for each pair of a head, by the row of the table that the position names */
crank_status plain_rope(crank_context *context, const crank_call *call)
{
    const crank_rope_attributes *attributes = call->attributes;
    const crank_view            *x = &call->in[0], *positions = &call->in[1], *table = &call->in[2], *y = &call->out[0];
    int64_t                      n = x->dims[0], heads = x->dims[1], d = x->dims[2], half = table->dims[1] / 2;
    for (int64_t i = 0; i < n; i++) {
        int64_t position = id_at(positions, at1(positions, i));
        if (position < 0 || position >= table->dims[0])
            return crank_fail(context, CRANK_USAGE, "rope: token %lld has position %lld, the table ends at %lld",
                              (long long)i, (long long)position, (long long)table->dims[0]);
        for (int64_t h = 0; h < heads; h++) {
            for (int64_t k = 0; k < half; k++) {
                int64_t first = attributes->interleaved ? 2 * k : k,
                        second = attributes->interleaved ? first + 1 : k + half;
                double cosine = get(table, at2(table, position, k)), sine = get(table, at2(table, position, half + k));
                double a = get(x, at3(x, i, h, first)), b = get(x, at3(x, i, h, second));
                if (attributes->inverse) sine = -sine;
                put(y, at3(y, i, h, first), a * cosine - b * sine);
                put(y, at3(y, i, h, second), a * sine + b * cosine);
            }
            for (int64_t k = 2 * half; k < d; k++) put(y, at3(y, i, h, k), get(x, at3(x, i, h, k)));
        }
    }
    return CRANK_OK;
}
