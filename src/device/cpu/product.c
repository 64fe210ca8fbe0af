/* product.c - matrix products through oneDNN's C interface (version 2: matmul primitives, scratchpads of the caller).
 */
#include "device/cpu/product.h"

#include <omp.h>
#include <oneapi/dnnl/dnnl.h>
#include <string.h>

enum { A, B, BIAS, C0, C, SCRATCH, ARGUMENTS };

struct product {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    dnnl_primitive_t primitive;
    size_t scratch;
    int threads, lanes;
    int names[ARGUMENTS];  /* oneDNN's names of the arguments */
    dnnl_memory_t *memory; /* [lanes][ARGUMENTS] */
};

static bool has(dnnl_cpu_isa_t isa)
{
    return (dnnl_get_effective_cpu_isa() & isa) == isa;
}
bool product_has_bf16(void)
{
    return has(dnnl_cpu_isa_avx512_core_bf16);
}
bool product_has_avx512(void)
{
    return has(dnnl_cpu_isa_avx512_core);
}

void product_limit(cpu_level level)
{
    static const dnnl_cpu_isa_t isa[] = {dnnl_cpu_isa_sse41, dnnl_cpu_isa_avx2, dnnl_cpu_isa_avx512_core,
                                         dnnl_cpu_isa_avx512_core_bf16, dnnl_cpu_isa_all};
    if (level < cpu_best_level()) dnnl_set_max_cpu_isa(isa[level]); /* refused when it is too late: harmless */
}

/* oneDNN takes the number of threads from the calling thread's OpenMP setting. Returns the old one. */
static int set_threads(int threads)
{
    int old = omp_get_max_threads();
    if (old != threads) omp_set_num_threads(threads);
    return old;
}

/* A dim of 1 has no stride of its own; oneDNN knows a layout by its strides, so it gets the one of a dense matrix. */
static dnnl_memory_desc_t layout(const product_matrix *matrix, int rank)
{
    int64_t column = matrix->column_stride, row = matrix->row_stride;
    if (matrix->columns == 1) column = row == 1 ? matrix->rows : 1;
    if (matrix->rows == 1) row = column == 1 ? matrix->columns : 1;
    dnnl_dims_t dims = {matrix->batch, matrix->rows, matrix->columns};
    int64_t dense = matrix->rows * row > matrix->columns * column ? matrix->rows * row : matrix->columns * column;
    dnnl_dims_t strides = {matrix->batch > 1 ? matrix->batch_stride : dense, row, column};
    dnnl_dims_t last_dims = {dims[1], dims[2]}, last_strides = {row, column};
    dnnl_memory_desc_t md;
    dnnl_data_type_t type = matrix->type == CRANK_BF16 ? dnnl_bf16 : dnnl_f32;
    memset(&md, 0, sizeof md);
    dnnl_memory_desc_init_by_strides(&md, rank, rank == 3 ? dims : last_dims, type, rank == 3 ? strides : last_strides);
    return md;
}

typedef struct layouts {
    int rank;
    dnnl_memory_desc_t a, b, bias, c0, c;
} layouts;

static layouts layouts_of(const product_spec *spec)
{
    layouts l = {.rank = spec->a.batch > 1 || spec->b.batch > 1 || spec->c.batch > 1 ? 3 : 2};
    product_matrix bias = {.type = spec->c.type, .batch = 1, .rows = 1, .columns = spec->c.columns, .column_stride = 1};
    bias.row_stride = bias.batch_stride = bias.columns;
    l.a = layout(&spec->a, l.rank);
    l.b = layout(&spec->b, l.rank);
    l.c = layout(&spec->c, l.rank);
    l.bias = layout(&bias, l.rank);
    if (spec->start == PRODUCT_ADD) l.c0 = layout(&spec->c0, l.rank);
    return l;
}

/* oneDNN scales the sum of product and bias: a bias that must not be scaled is added behind, as is c0. */
static bool bias_behind(const product_spec *spec)
{
    return spec->bias && spec->alpha != 1;
}

static dnnl_status_t attributes_of(const product_spec *spec, const layouts *l, dnnl_primitive_attr_t *attributes)
{
    dnnl_post_ops_t behind = NULL;
    float alpha = (float)spec->alpha;
    dnnl_status_t status = dnnl_primitive_attr_create(attributes);
    if (status == dnnl_success)
        status = dnnl_primitive_attr_set_scratchpad_mode(*attributes, dnnl_scratchpad_mode_user);
    if (status == dnnl_success && spec->alpha != 1)
        status = dnnl_primitive_attr_set_output_scales(*attributes, 1, 0, &alpha);
    if (status == dnnl_success) status = dnnl_post_ops_create(&behind);
    if (status == dnnl_success && spec->start == PRODUCT_SUM) status = dnnl_post_ops_append_sum(behind, 1);
    if (status == dnnl_success && spec->start == PRODUCT_ADD)
        status = dnnl_post_ops_append_binary(behind, dnnl_binary_add, &l->c0);
    if (status == dnnl_success && bias_behind(spec))
        status = dnnl_post_ops_append_binary(behind, dnnl_binary_add, &l->bias);
    if (status == dnnl_success) status = dnnl_primitive_attr_set_post_ops(*attributes, behind);
    if (behind) dnnl_post_ops_destroy(behind);
    return status;
}

/* NULL when oneDNN has no implementation or only its reference loops. */
static dnnl_primitive_desc_t describe(const product_spec *spec, const layouts *l, dnnl_engine_t engine)
{
    dnnl_matmul_desc_t operation;
    dnnl_primitive_attr_t attributes = NULL;
    dnnl_primitive_desc_t description = NULL;
    bool bias = spec->bias && !bias_behind(spec);
    const char *implementation = NULL;
    if (dnnl_matmul_desc_init(&operation, &l->a, &l->b, bias ? &l->bias : NULL, &l->c) == dnnl_success &&
        attributes_of(spec, l, &attributes) == dnnl_success)
        dnnl_primitive_desc_create(&description, &operation, attributes, engine, NULL);
    if (attributes) dnnl_primitive_attr_destroy(attributes);
    if (description &&
        (dnnl_primitive_desc_query(description, dnnl_query_impl_info_str, 0, &implementation) != dnnl_success ||
         strncmp(implementation, "ref", 3) == 0)) {
        dnnl_primitive_desc_destroy(description);
        return NULL;
    }
    return description;
}

static size_t scratch_of(const_dnnl_primitive_desc_t description)
{
    const dnnl_memory_desc_t *md = dnnl_primitive_desc_query_md(description, dnnl_query_scratchpad_md, 0);
    return md ? (dnnl_memory_desc_get_size(md) + 63) / 64 * 64 : 0;
}

bool product_serves(const product_spec *spec, size_t *scratch)
{
    dnnl_engine_t engine;
    if (spec->a.type == CRANK_BF16 && !product_has_bf16()) return false;
    if (dnnl_engine_create(&engine, dnnl_cpu, 0) != dnnl_success) return false;
    int old = set_threads(spec->threads);
    layouts l = layouts_of(spec);
    dnnl_primitive_desc_t description = describe(spec, &l, engine);
    if (description) {
        *scratch = scratch_of(description);
        dnnl_primitive_desc_destroy(description);
    }
    dnnl_engine_destroy(engine);
    set_threads(old);
    return description != NULL;
}

/* Memory objects without memory: each run hands them its pointers. */
static dnnl_status_t make_memory(product *p, const product_spec *spec, const layouts *l,
                                 const dnnl_memory_desc_t *scratch)
{
    const bool used[ARGUMENTS] = {true, true, spec->bias, spec->start == PRODUCT_ADD, true, p->scratch > 0};
    const dnnl_memory_desc_t *md[ARGUMENTS] = {&l->a, &l->b, &l->bias, &l->c0, &l->c, scratch};
    for (int i = 0; i < p->lanes * ARGUMENTS; i++) {
        if (!used[i % ARGUMENTS]) continue;
        dnnl_status_t status = dnnl_memory_create(&p->memory[i], md[i % ARGUMENTS], p->engine, DNNL_MEMORY_NONE);
        if (status != dnnl_success) return status;
    }
    return dnnl_success;
}

static dnnl_status_t prepare(product *p, const product_spec *spec)
{
    layouts l = layouts_of(spec);
    dnnl_status_t status = dnnl_engine_create(&p->engine, dnnl_cpu, 0);
    if (status == dnnl_success) status = dnnl_stream_create(&p->stream, p->engine, dnnl_stream_default_flags);
    if (status != dnnl_success) return status;
    dnnl_primitive_desc_t description = describe(spec, &l, p->engine);
    if (!description) return dnnl_unimplemented;
    status = dnnl_primitive_create(&p->primitive, description);
    p->scratch = scratch_of(description);
    int behind = spec->start != PRODUCT_SET; /* place of the bias among the post-operations */
    memcpy(p->names,
           (int[ARGUMENTS]){DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_BIAS,
                            DNNL_ARG_ATTR_MULTIPLE_POST_OP(0) | DNNL_ARG_SRC_1, DNNL_ARG_DST, DNNL_ARG_SCRATCHPAD},
           sizeof p->names);
    if (bias_behind(spec)) p->names[BIAS] = DNNL_ARG_ATTR_MULTIPLE_POST_OP(behind) | DNNL_ARG_SRC_1;
    if (status == dnnl_success)
        status = make_memory(p, spec, &l, dnnl_primitive_desc_query_md(description, dnnl_query_scratchpad_md, 0));
    dnnl_primitive_desc_destroy(description);
    return status;
}

product *product_new(crank_context *context, const product_spec *spec)
{
    product *p = crank_alloc(context, 1, sizeof *p, "a matrix product");
    if (!p) return NULL;
    p->threads = spec->threads;
    p->lanes = spec->lanes;
    p->memory = crank_alloc(context, (size_t)p->lanes * ARGUMENTS, sizeof *p->memory, "a matrix product");
    if (p->memory) {
        int old = set_threads(spec->threads);
        dnnl_status_t status = prepare(p, spec);
        set_threads(old);
        if (status == dnnl_success) return p;
        crank_fail(context, CRANK_FAILED,
                   "oneDNN cannot prepare the product of [%lld,%lld] and [%lld,%lld] (its status %d)",
                   (long long)spec->a.rows, (long long)spec->a.columns, (long long)spec->b.rows,
                   (long long)spec->b.columns, (int)status);
    }
    product_free(p);
    return NULL;
}

void product_free(product *p)
{
    if (!p) return;
    for (int i = 0; p->memory && i < p->lanes * ARGUMENTS; i++)
        if (p->memory[i]) dnnl_memory_destroy(p->memory[i]);
    if (p->primitive) dnnl_primitive_destroy(p->primitive);
    if (p->stream) dnnl_stream_destroy(p->stream);
    if (p->engine) dnnl_engine_destroy(p->engine);
    crank_free(p->memory);
    crank_free(p);
}

size_t product_scratch(const product *p)
{
    return p->scratch;
}

bool product_run(product *p, int lane, const void *a, const void *b, const void *bias, const void *c0, void *c,
                 void *scratch)
{
    const void *data[ARGUMENTS] = {a, b, bias, c0, c, scratch};
    dnnl_memory_t *memory = p->memory + lane * ARGUMENTS;
    dnnl_exec_arg_t arguments[ARGUMENTS];
    int count = 0, old = set_threads(p->threads);
    dnnl_status_t status = dnnl_success;
    for (int i = 0; i < ARGUMENTS && status == dnnl_success; i++) {
        if (!memory[i]) continue;
        status = dnnl_memory_set_data_handle(memory[i], (void *)(uintptr_t)data[i]);
        arguments[count++] = (dnnl_exec_arg_t){p->names[i], memory[i]};
    }
    if (status == dnnl_success) status = dnnl_primitive_execute(p->primitive, p->stream, count, arguments);
    set_threads(old);
    return status == dnnl_success;
}
