/* select_simd.h - top_k of dense f32 rows: the k-th largest value of a row is built bit by bit, each bit by one count over the row, which
 * the compiler puts into vectors. Rows go to threads whole. */
#include <math.h>
#include <stdint.h>

#include "device/cpu/fast.h"

enum { SELECT_WIDEST = 4096 };

/* Whole numbers in the order of the values: NaN first of all, -0 equal to 0. */
static int32_t key_of(float value)
{
    float   plus = value + 0.0f;
    int32_t bits;
    memcpy(&bits, &plus, sizeof bits);
    return isnan(value) ? INT32_MIN : bits >= 0 ? bits : (int32_t)((uint32_t)bits ^ 0x7fffffffu);
}

static int32_t count_from(const int32_t *keys, int64_t n, int32_t least)
{
    int32_t count = 0;
    for (int64_t j = 0; j < n; j++) count += keys[j] >= least;
    return count;
}

static void select_row(const float *c, int64_t n, int64_t k, int32_t *keys, float *mask)
{
    int32_t least = INT32_MIN, above = 0;
    for (int64_t j = 0; j < n; j++) keys[j] = key_of(c[j]);
    for (int b = 31; b >= 0; b--) {
        int32_t next = (int32_t)((uint32_t)least + (1u << b));
        if (count_from(keys, n, next) >= k) least = next;
    }
    for (int64_t j = 0; j < n; j++) {
        above += keys[j] > least;
        mask[j] = keys[j] > least ? 1 : 0;
    }
    for (int64_t j = 0; above < k && j < n; j++) /* ties: the lowest index */
        if (keys[j] == least) mask[j] = 1, above++;
}

static crank_status select_run(crank_context *context, const crank_call *call)
{
    const crank_view *c = &call->in[0], *mask = &call->out[0];
    int64_t           n = c->dims[0], width = c->dims[1], k = ((const crank_top_k_attributes *)call->attributes)->k;
    (void)context;
#pragma omp parallel for schedule(static) num_threads(worth_threads(n *width * 8, cpu_threads(call)))
    for (int64_t i = 0; i < n; i++) {
        int32_t keys[SELECT_WIDEST];
        select_row((const float *)c->data + i * c->strides[0], width, k, keys, (float *)mask->data + i * mask->strides[0]);
    }
    return CRANK_OK;
}

static bool serves(const crank_call *call)
{
    const crank_view *c = &call->in[0], *mask = &call->out[0];
    return c->dtype == CRANK_F32 && mask->dtype == CRANK_F32 && c->rank == 2 && c->strides[1] == 1 && mask->strides[1] == 1 && c->dims[1] <= SELECT_WIDEST;
}

bool FINDER(select)(const char *operation, const crank_call *call, int threads, crank_body *body)
{
    static const fast_entry entries[] = {{"top_k", select_run, serves, NULL}};
    return fast_find(LEVEL_NAME, entries, sizeof entries / sizeof *entries, operation, call, threads, body);
}
