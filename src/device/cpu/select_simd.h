/* select_simd.h - top_k of dense f32 rows: the k-th largest value of a row is found by maxima, or bit by bit by counts over the row, which the
 * compiler puts into vectors. Rows go to threads whole. */
#include <stdint.h>

#include "device/cpu/fast.h"

enum { SELECT_WIDEST = 4096, SELECT_ROUNDS = 12 };

/* Whole numbers in the order of the values: NaN first of all, -0 equal to 0. */
ALWAYS_INLINE int32_t key_of(float value)
{
    float   plus = value + 0.0f;
    int32_t bits;
    memcpy(&bits, &plus, sizeof bits);
    int32_t key = bits ^ (int32_t)((uint32_t)(bits >> 31) >> 1); /* negative ones: all but the sign turned */
    return plus != plus ? INT32_MIN : key;
}

static int32_t largest_of(const int32_t *keys, int64_t n)
{
    int32_t best = INT32_MIN;
#pragma omp simd reduction(max : best)
    for (int64_t j = 0; j < n; j++) best = keys[j] > best ? keys[j] : best;
    return best;
}

static int32_t count_from(const int32_t *keys, int64_t n, int32_t least)
{
    int32_t count = 0;
#pragma omp simd reduction(+ : count)
    for (int64_t j = 0; j < n; j++) count += keys[j] >= least;
    return count;
}

/* The k-th largest key: few rounds of "largest below the last" where k is small and nothing repeats, else bit by bit. */
static int32_t kth_largest(const int32_t *keys, int64_t n, int64_t k)
{
    int32_t least = INT32_MIN;
    if (k <= SELECT_ROUNDS) {
        int32_t below = largest_of(keys, n);
        for (int64_t round = 1; round < k && below > INT32_MIN; round++) {
            int32_t best = INT32_MIN;
#pragma omp simd reduction(max : best)
            for (int64_t j = 0; j < n; j++) {
                int32_t key = keys[j] < below ? keys[j] : INT32_MIN;
                best = key > best ? key : best;
            }
            below = best;
        }
        if (count_from(keys, n, below) == k) return below;
    }
    for (int b = 31; b >= 0; b--) {
        int32_t next = (int32_t)((uint32_t)least + (1u << b));
        if (count_from(keys, n, next) >= k) least = next;
    }
    return least;
}

static void select_row(const float *c, int64_t n, int64_t k, int32_t *keys, float *mask)
{
    int32_t above = 0;
#pragma omp simd
    for (int64_t j = 0; j < n; j++) keys[j] = key_of(c[j]);
    int32_t least = kth_largest(keys, n, k);
#pragma omp simd reduction(+ : above)
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
