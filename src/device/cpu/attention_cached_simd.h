/* attention_cached_simd.h - several new tokens over a cache of keys and values (one alone: attention_decode_simd.h). */
#include "device/cpu/attention_forward_simd.h"

/* The first cache row of this call's n tokens, or -1 with a message when they do not fit. */
static int64_t cache_position(crank_context *context, const crank_view *position, int64_t n, int64_t capacity)
{
    int64_t first = ((const int32_t *)position->data)[0];
    if (first >= 0 && first <= capacity - n) return first;
    crank_fail(context, CRANK_USAGE, "attention cache: %lld tokens at position %lld, the cache holds %lld",
               (long long)n, (long long)first, (long long)capacity);
    return -1;
}

static attention cached_attention_of(const crank_call *call)
{
    attention a = attention_of(call, 0);
    a.causal = true; /* the rows behind the present token are not written yet */
    return a;
}

static crank_status run_cached(crank_context *context, const crank_call *call)
{
    attention a = cached_attention_of(call);
    int64_t n = a.q->dims[0], origin = cache_position(context, &call->in[3], n, a.k->dims[0]);
    int64_t tasks = (n + a.queries - 1) / a.queries * a.hk;
    int threads = cpu_threads(call);
    size_t room = forward_room_bytes(&a);
    if (origin < 0) return CRANK_USAGE;
#pragma omp parallel for num_threads(threads) schedule(dynamic)
    for (int64_t task = tasks - 1; task >= 0; task--) {
        int64_t first = task / a.hk * a.queries, count = n - first < a.queries ? n - first : a.queries;
        meeting m = {first, count, origin + first, 0, origin + n};
        forward_room r = forward_room_at(&a, (char *)call->workspace + (size_t)omp_get_thread_num() * room);
        tiles_begin();
        forward_block(&a, &r, &m, task % a.hk, &call->out[0], NULL);
        tiles_end();
    }
    return CRANK_OK;
}
