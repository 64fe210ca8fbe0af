/* plain_update.c - plain bodies of the operations that change parameters and step scalars: adamw, adamw8bit, sgd, lion,
 * assign, clip_scale, check_finite. Equations stand in operations.h.
 *
 * A bf16 parameter is rounded stochastically: the low 16 bits of the f32 pattern carry up with the probability of what
 * they are worth; values that are not finite are rounded to nearest. */
#include "device/cpu/plain.h"
#include "device/cpu/update_step.h"
#include "tensor/dynamic_map.h"

/* w[offset], element i of the parameter, becomes `value`. */
static void put_weight(const crank_view *w, int64_t offset, double value, const update_step *s, uint64_t i)
{
    if (w->dtype != CRANK_BF16 || !isfinite((float)value)) {
        put(w, offset, value);
        return;
    }
    float    narrow = (float)value;
    uint32_t bits;
    memcpy(&bits, &narrow, sizeof bits);
    bits += crank_draw_bits(s->rounding, s->first_draw + i) >> 16;
    ((uint16_t *)w->data)[offset] = (uint16_t)(bits >> 16);
}

crank_status plain_adamw(crank_context *context, const crank_call *call)
{
    (void)context;
    const crank_adam_attributes *a = call->attributes;
    const crank_view            *w = &call->in[0], *g = &call->in[1], *m = &call->in[2], *v = &call->in[3];
    update_step                  s = update_step_of(&call->in[4], a->rate_factor, a->seed, a->index);
    double                       correct1 = 1 - pow(a->beta1, s.count), correct2 = 1 - pow(a->beta2, s.count);
    uint64_t                     i = 0;
    if (s.skip) return CRANK_OK;
    WALK (at, w, w->rank, w, g, m, v) {
        double weight = get(w, at.offset[0]), gradient = s.clip * get(g, at.offset[1]);
        if (a->l2) gradient += a->decay * weight;
        else weight -= s.rate * a->decay * weight;
        double first = a->beta1 * get(m, at.offset[2]) + (1 - a->beta1) * gradient;
        double second = a->beta2 * get(v, at.offset[3]) + (1 - a->beta2) * gradient * gradient;
        put(m, at.offset[2], first);
        put(v, at.offset[3], second);
        weight -= s.rate * (first / correct1) / (sqrt(second / correct2) + a->epsilon);
        put_weight(w, at.offset[0], weight, &s, i++);
    }
    return CRANK_OK;
}

/* One block of 8-bit Adam: elements first .. first + count - 1; codes of m and v under maps[0] and maps[1]. */
static void adam_block(const crank_call *call, const update_step *s, float maps[2][256], int64_t first, int64_t count)
{
    const crank_adam_attributes *a = call->attributes;
    const crank_view            *w = &call->in[0], *g = &call->in[1];
    uint8_t          *codes_m = (uint8_t *)call->in[2].data + first, *codes_v = (uint8_t *)call->in[3].data + first;
    const crank_view *amax_m = &call->in[4], *amax_v = &call->in[5];
    int64_t           block = first / DYNAMIC_BLOCK;
    double            m[DYNAMIC_BLOCK], v[DYNAMIC_BLOCK], most_m = 0, most_v = 0;
    double            old_m = get(amax_m, at1(amax_m, block)), old_v = get(amax_v, at1(amax_v, block));
    double            correct1 = 1 - pow(a->beta1, s->count), correct2 = 1 - pow(a->beta2, s->count);
    for (int64_t i = 0; i < count; i++) {
        double weight = get(w, first + i), gradient = s->clip * get(g, first + i);
        m[i] = v[i] = 0;
        if (!isfinite((float)gradient)) continue; /* this element forgets and stays where it is */
        if (a->l2) gradient += a->decay * weight;
        m[i] = a->beta1 * maps[0][codes_m[i]] * old_m + (1 - a->beta1) * gradient;
        v[i] = a->beta2 * maps[1][codes_v[i]] * old_v + (1 - a->beta2) * gradient * gradient;
        weight -= s->rate * (m[i] / correct1) / (sqrt(v[i] / correct2) + a->epsilon);
        if (!a->l2) weight *= 1 - s->rate * a->decay;
        put_weight(w, first + i, weight, s, (uint64_t)(first + i));
        most_m = fmax(most_m, fabs(m[i]));
        most_v = fmax(most_v, v[i]);
    }
    put(amax_m, at1(amax_m, block), most_m);
    put(amax_v, at1(amax_v, block), most_v);
    for (int64_t i = 0; i < count; i++) { /* a block of zeros has the codes of 0 */
        codes_m[i] = most_m > 0 ? dynamic_nearest_signed(maps[0], (float)(m[i] / most_m)) : 127;
        codes_v[i] = most_v > 0 ? dynamic_nearest(maps[1], (float)(v[i] / most_v)) : 0;
    }
}

crank_status plain_adamw8bit(crank_context *context, const crank_call *call)
{
    (void)context;
    const crank_adam_attributes *a = call->attributes;
    update_step                  s = update_step_of(&call->in[6], a->rate_factor, a->seed, a->index);
    float                        maps[2][256];
    int64_t                      n = crank_view_count(&call->in[0]);
    if (s.skip) return CRANK_OK;
    dynamic_map(true, maps[0]);
    dynamic_map(false, maps[1]);
    for (int64_t first = 0; first < n; first += DYNAMIC_BLOCK)
        adam_block(call, &s, maps, first, n - first < DYNAMIC_BLOCK ? n - first : DYNAMIC_BLOCK);
    return CRANK_OK;
}

/* torch's: the first step sets the buffer to the gradient, whatever the dampening. */
crank_status plain_sgd(crank_context *context, const crank_call *call)
{
    (void)context;
    const crank_sgd_attributes *a = call->attributes;
    const crank_view           *w = &call->in[0], *g = &call->in[1], *buffer = &call->in[2];
    bool                        buffered = view_present(buffer);
    update_step                 s = update_step_of(&call->in[3], a->rate_factor, a->seed, a->index);
    uint64_t                    i = 0;
    if (s.skip) return CRANK_OK;
    WALK (at, w, w->rank, w, g, buffered ? buffer : w) {
        double weight = get(w, at.offset[0]), move = s.clip * get(g, at.offset[1]) + a->decay * weight;
        if (buffered) {
            double kept = s.count <= 1 ? move : a->momentum * get(buffer, at.offset[2]) + (1 - a->dampening) * move;
            put(buffer, at.offset[2], kept);
            move = a->nesterov ? move + a->momentum * kept : kept;
        }
        put_weight(w, at.offset[0], weight - s.rate * move, &s, i++);
    }
    return CRANK_OK;
}

/* c = b1 m + (1-b1) g;  w -= rate (decay w + sign c);  m = b2 m + (1-b2) g   (Chen et al. 2023, arXiv:2302.06675) */
crank_status plain_lion(crank_context *context, const crank_call *call)
{
    (void)context;
    const crank_lion_attributes *a = call->attributes;
    const crank_view            *w = &call->in[0], *g = &call->in[1], *m = &call->in[2];
    update_step                  s = update_step_of(&call->in[3], a->rate_factor, a->seed, a->index);
    uint64_t                     i = 0;
    if (s.skip) return CRANK_OK;
    WALK (at, w, w->rank, w, g, m) {
        double weight = get(w, at.offset[0]), gradient = s.clip * get(g, at.offset[1]), moment = get(m, at.offset[2]);
        double c = a->beta1 * moment + (1 - a->beta1) * gradient;
        put(m, at.offset[2], a->beta2 * moment + (1 - a->beta2) * gradient);
        weight -= s.rate * (a->decay * weight + plain_activation(CRANK_SIGN, c));
        put_weight(w, at.offset[0], weight, &s, i++);
    }
    return CRANK_OK;
}

crank_status plain_assign(crank_context *context, const crank_call *call)
{
    (void)context;
    bool              add = ((const crank_assign_attributes *)call->attributes)->add;
    const crank_view *x = &call->in[0], *old = &call->in[1], *target = &call->out[0];
    WALK (w, target, target->rank, x, old, target)
        put(target, w.offset[2], get(x, w.offset[0]) + (add ? get(old, w.offset[1]) : 0));
    return CRANK_OK;
}

crank_status plain_clip_scale(crank_context *context, const crank_call *call)
{
    (void)context;
    double            limit = ((const crank_clip_attributes *)call->attributes)->limit, sum = 0;
    const crank_view *squares = &call->in[0], *norm = &call->out[1];
    const float      *scalars = call->in[1].data;
    float            *out = call->out[0].data;
    for (int64_t i = 0; i < squares->dims[0]; i++) sum += get(squares, at1(squares, i));
    double denominator = (double)scalars[CRANK_SCALAR_DENOMINATOR], size = sqrt(sum) / denominator;
    if (out != scalars) memcpy(out, scalars, CRANK_SCALARS * sizeof *out);
    if (!isfinite(size)) out[CRANK_SCALAR_SKIP] = 1;
    out[CRANK_SCALAR_CLIP] = (float)((limit > 0 && size > limit ? limit / size : 1) / denominator);
    put(norm, 0, size);
    return CRANK_OK;
}

crank_status plain_check_finite(crank_context *context, const crank_call *call)
{
    (void)context;
    const float *scalars = call->in[1].data;
    float       *out = call->out[0].data;
    if (out != scalars) memcpy(out, scalars, CRANK_SCALARS * sizeof *out);
    if (!isfinite(get(&call->in[0], 0))) out[CRANK_SCALAR_SKIP] = 1;
    return CRANK_OK;
}
