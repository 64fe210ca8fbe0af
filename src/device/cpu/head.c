/* head.c - planning of head_logprob, head_logprob_backward and head_cross_entropy: sizes, products, memory. */
#include <string.h>

#include "device/cpu/head_plan.h"
#include "device/operations.h"

enum {
    BLOCK_BYTES = 640 << 10, /* of W that should stay in a core's cache between two products */
    CHUNK_BYTES = 58 << 20,  /* of all that grows with the rows of a chunk */
    MOST_ROWS = 512,
    LEAST_ROWS = 16,
    MOST_COLUMNS = 512,
    LEAST_COLUMNS = 256 /* fewer would read and write the sums of u too often */
};

static const crank_view *present(const crank_view *view)
{
    return view_present(view) ? view : NULL;
}

/* Which operand stands where. */
bool head_plan_read(const char *operation, const crank_call *call, head_plan *p)
{
    const crank_view *in = call->in, *out = call->out;
    bool backward = strcmp(operation, "head_logprob_backward") == 0;
    if (strcmp(operation, "head_logprob") == 0) {
        p->kind = HEAD_LOGPROB;
        p->logp = &out[0], p->lse = &out[1], p->dx = present(&out[2]);
    } else if (strcmp(operation, "head_cross_entropy") == 0) {
        p->kind = HEAD_CROSS_ENTROPY;
        p->factors = &in[4];
        p->numerator = &out[0], p->logp = &out[1], p->dx = present(&out[2]), p->dw = present(&out[3]),
        p->dbias = present(&out[4]);
    } else if (backward) {
        p->kind = HEAD_BACKWARD;
        p->factors = &in[0], p->lse_in = &in[5];
        p->dx = present(&out[0]), p->dw = present(&out[1]), p->dbias = present(&out[2]);
    } else
        return false;
    in += backward;
    p->x = &in[0], p->w = &in[1], p->bias = present(&in[2]), p->targets = &in[3];
    p->n = p->x->dims[0], p->d = p->x->dims[1], p->vocabulary = p->w->dims[0], p->type = p->x->dtype;
    return p->type != CRANK_F64 && p->n > 0 && p->d > 0 && p->vocabulary > 0;
}

static product_matrix matrix(crank_dtype type, int64_t rows, int64_t columns, int64_t row_stride)
{
    return (product_matrix){
        .type = type, .batch = 1, .rows = rows, .columns = columns, .row_stride = row_stride, .column_stride = 1};
}

static product_matrix transposed(product_matrix m)
{
    product_matrix t = m;
    t.rows = m.columns, t.columns = m.rows, t.row_stride = m.column_stride, t.column_stride = m.row_stride;
    return t;
}

/* `last`: the last block of the vocabulary, which may be narrower. */
product_spec head_product_spec(const head_plan *p, head_product kind, int size, bool last)
{
    int64_t rows = p->rows[size], columns = last ? p->vocabulary - (p->blocks - 1) * p->columns : p->columns;
    product_matrix x = matrix(p->work, rows, p->d, p->d), e = matrix(p->work, rows, columns, p->columns);
    product_matrix z = matrix(CRANK_F32, rows, columns, p->columns), u = matrix(CRANK_F32, rows, p->d, p->d);
    product_matrix w = matrix(p->work, columns, p->d, p->widened ? p->d : p->w->strides[0]);
    product_matrix dw = matrix(CRANK_F32, columns, p->d, p->dw && p->dw->dtype == CRANK_F32 ? p->dw->strides[0] : p->d);
    product_spec s = {.alpha = 1, .threads = 1, .lanes = p->threads};
    if (kind == HEAD_LOGITS)
        s.a = x, s.b = transposed(w), s.c = z;
    else if (kind == HEAD_UNIT)
        s.a = e, s.b = w, s.c = u, s.start = PRODUCT_SUM;
    else
        s.a = transposed(e), s.b = x, s.c = dw, s.start = kind == HEAD_WEIGHT_ADD ? PRODUCT_SUM : PRODUCT_SET;
    return s;
}

static bool products_serve(head_plan *p)
{
    for (int kind = 0; kind < HEAD_PRODUCTS; kind++)
        for (int size = 0; size < p->sizes; size++)
            for (int last = 0; last < 2; last++) {
                size_t scratch = 0;
                product_spec spec = head_product_spec(p, (head_product)kind, size, last);
                if (kind == HEAD_UNIT ? !p->dx : kind != HEAD_LOGITS && !p->dw) continue;
                if (!product_serves(&spec, &scratch)) return false;
                if (scratch > p->scratch) p->scratch = scratch;
            }
    return true;
}

/* Bytes that one row of a chunk takes: its e, and in each thread its logits, its sums and its scaled x. */
static int64_t row_bytes(const head_plan *p)
{
    int64_t bytes = p->work == CRANK_F32 ? 4 : 2, block = p->columns * (p->work == CRANK_F32 ? 4 : 6);
    int64_t thread = block + (p->dx ? p->d * 4 : 0) + (p->stored ? p->d * bytes : 0);
    return (p->stored ? p->blocks * p->columns * bytes : 0) + p->threads * thread + 2 * p->d * bytes;
}

/* Columns of a block and rows of a chunk. Each thread gets the same number of blocks, as far as it goes. */
static void choose_sizes(head_plan *p, int64_t chunk)
{
    int64_t bytes = p->work == CRANK_F32 ? 4 : 2, columns = BLOCK_BYTES / (p->d * bytes) / 16 * 16;
    columns = columns > MOST_COLUMNS ? MOST_COLUMNS : columns < LEAST_COLUMNS ? LEAST_COLUMNS : columns;
    int64_t share = (p->vocabulary + p->threads - 1) / p->threads, pieces = (share + columns - 1) / columns;
    p->columns = ((share + pieces - 1) / pieces + 15) / 16 * 16;
    p->blocks = (p->vocabulary + p->columns - 1) / p->columns;

    int64_t rows = CHUNK_BYTES / row_bytes(p) / LEAST_ROWS * LEAST_ROWS;
    rows = rows > MOST_ROWS ? MOST_ROWS : rows < LEAST_ROWS ? LEAST_ROWS : rows;
    int64_t chunks = (p->n + rows - 1) / rows; /* equal ones where all rows take part */
    rows = ((p->n + chunks - 1) / chunks + LEAST_ROWS - 1) / LEAST_ROWS * LEAST_ROWS;
    if (chunk > 0) rows = chunk < p->n ? chunk : p->n;
    for (p->sizes = 0; p->sizes < HEAD_SIZES && (p->sizes == 0 || rows >= LEAST_ROWS); rows = (rows + 1) / 2)
        p->rows[p->sizes++] = rows;
}

static size_t place(size_t *bytes, size_t count, size_t size)
{
    size_t at = *bytes;
    *bytes += (count * size + 63) / 64 * 64;
    return at;
}

static void place_all(head_plan *p)
{
    size_t rows = (size_t)p->rows[0], columns = (size_t)p->columns, d = (size_t)p->d, V = (size_t)p->vocabulary,
           n = (size_t)p->n;
    size_t work = p->work == CRANK_F32 ? 4 : 2, in = 0;
    bool weights = p->dw || p->dbias;
    p->bytes = 0;
    p->at_list = place(&p->bytes, n, 8);
    p->at_lse = place(&p->bytes, rows, 4);
    p->at_logp = place(&p->bytes, n, 4);
    p->at_target = place(&p->bytes, rows, 4);
    p->at_factor = place(&p->bytes, rows, 4);
    p->at_x = place(&p->bytes, rows * d, work);
    p->at_scaled = place(&p->bytes, p->dw && !p->stored ? rows * d : 0, work);
    p->at_e = place(&p->bytes, p->stored ? (size_t)p->blocks * rows * columns : 0, work);
    p->at_max = place(&p->bytes, p->stored ? (size_t)p->blocks * rows : 0, 4);
    p->at_bias = place(&p->bytes, p->bias ? V : 0, 4);
    p->at_dbias = place(&p->bytes, p->dbias ? V : 0, 4);
    p->at_dw = place(&p->bytes, p->dw && p->dw->dtype != CRANK_F32 ? V * d : 0, 4);
    p->thread = p->bytes;
    p->in_z = place(&in, rows * columns, 4);
    p->in_e = place(&in, p->work == CRANK_BF16 ? rows * columns : 0, 2);
    p->in_w = place(&in, p->widened ? columns * d : 0, 4);
    p->in_u = place(&in, p->dx ? rows * d : 0, 4);
    p->in_scaled = place(&in, weights && p->stored ? rows * d : 0, work);
    p->in_max = place(&in, rows, 4);
    p->in_sum = place(&in, rows, 4);
    p->in_keep = place(&in, rows, 4);
    p->in_scratch = place(&in, p->scratch, 1);
    p->thread_bytes = (in + 4095) / 4096 * 4096 + 64; /* threads begin on different sets of the cache */
    p->bytes += (size_t)p->threads * p->thread_bytes;
}

bool head_plan_make(const char *operation, const crank_call *call, int threads, head_plan *p)
{
    *p = (head_plan){.threads = threads};
    if (!head_plan_read(operation, call, p)) return false;
    const crank_head_attributes *attributes = call->attributes;
    p->work = p->type == CRANK_BF16 && product_has_bf16() ? CRANK_BF16 : CRANK_F32;
    p->widened = p->type != p->work;
    p->stored = p->kind == HEAD_CROSS_ENTROPY && (p->dw || p->dbias);
    choose_sizes(p, attributes ? attributes->chunk : 0);
    if (!products_serve(p)) return false;
    place_all(p);
    return true;
}

bool head_find(const char *operation, const crank_call *call, int threads, const head_kernels *kernels,
               crank_kernel *run, crank_body *body)
{
    head_plan p;
    if (strncmp(operation, "head_", 5) != 0 || !head_plan_make(operation, call, threads, &p)) return false;
    *body = (crank_body){.name = kernels->level, .run = run, .workspace = p.bytes};
    return true;
}
