/* narrow_amx.c - products of bf16 with one narrow side on tile registers: shrink_amx.h, rows_product_amx.h. */
#include <immintrin.h>
#include <string.h>

#include "device/cpu/rows_product_amx.h"
#include "device/cpu/shrink_amx.h"

static crank_status run_shrink(crank_context *context, const crank_call *call)
{
    (void)context;
    return shrink_run(call, cpu_threads(call));
}

static crank_status run_rows(crank_context *context, const crank_call *call)
{
    (void)context;
    return rows_run(call, cpu_threads(call));
}

bool narrow_amx_find(const char *operation, const crank_call *call, int threads, crank_body *body)
{
    shrink       s;
    rows_product p;
    (void)threads;
    if (strcmp(operation, "matmul") != 0) return false;
    if (shrink_describe(call, &s)) {
        *body = (crank_body){.name = "shrink amx", .run = run_shrink, .workspace = shrink_bytes(&s)};
        return true;
    }
    if (!rows_describe(call, &p)) return false;
    *body = (crank_body){.name = "tall amx", .run = run_rows, .workspace = rows_bytes(&p)};
    return true;
}
