/* attention_find_simd.h - which attention operations a level's family serves. */

static bool attention_find(const char *operation, const crank_call *call, int threads, crank_body *body)
{
    bool cached = strcmp(operation, "attention_cached") == 0, backward = strcmp(operation, "attention_backward") == 0;
#if !defined(PAIRS)
    if (strcmp(operation, "cache_write") == 0 && call->in[0].dtype != CRANK_F64) {
        *body = (crank_body){.name = LEVEL_NAME, .run = run_cache_write};
        return true;
    }
#endif
    if (!cached && !backward && strcmp(operation, "attention") != 0) return false;
    attention a = attention_of(call, backward);
    if (!attention_serves(&a, ((const crank_attention_attributes *)call->attributes)->scale)) return false;
    *body = (crank_body){.name = LEVEL_NAME, .run = run_attention};
    if (backward) {
        body->run = run_backward;
        body->workspace = backward_workspace(call, &a, threads);
    } else if (cached && a.q->dims[0] > 1) {
        body->run = run_cached;
        body->workspace = (size_t)threads * forward_room_bytes(&a);
    } else if (cached) {
#if defined(PAIRS)
        return false; /* bound by reading the cache: the family below widens as it reads */
#else
        body->run = run_decode;
        body->workspace = decode_workspace(&a, threads);
#endif
    } else
        body->workspace = attention_workspace(call, &a, threads);
    return true;
}
