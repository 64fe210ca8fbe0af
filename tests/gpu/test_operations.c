/* Every operation of the table gives on the GPU what the plain C body gives on the CPU: every float type, odd sizes, gaps between rows,
 * broadcast and turned operands, optional operands left out. */
#include "gpu/gpu_check.h"

static pair p;

static const int64_t row_sizes[] = {1, 3, 8, 64, 129, 1000, 2056};
enum { ROW_SIZES = sizeof row_sizes / sizeof *row_sizes };

#define EACH_TYPE(type) for (int type##_i = 0; type##_i < FLOAT_TYPES; type##_i++)
#define TYPE(type)      float_types[type##_i]

static void copies_cast_and_turn(void **state)
{
    (void)state;
    static const crank_dtype all[] = {CRANK_F32, CRANK_BF16, CRANK_F16, CRANK_F64, CRANK_I32, CRANK_I64, CRANK_U8};
    for (int a = 0; a < 7; a++)
        for (int b = 0; b < 7; b++)
            for (int s = 0; s < 4; s++) {
                int        mark = p.b.count;
                int64_t    rows = s == 0 ? 1 : 37, columns = s == 3 ? 128 : row_sizes[2 + s];
                crank_view x = drawn_rows(&p, all[a], s == 1 ? 3 : 0, 0, 100, DIMS(rows, columns)), y = fresh_rows(&p.b, all[b], s == 2 ? 5 : 0, DIMS(rows, columns));
                compare(&p, "copy", &x, 1, &y, 1, NULL, close_to(all[b]));
                if (s) { /* x^T */
                    crank_view turned = x;
                    turned.dims[0] = columns, turned.dims[1] = rows, turned.strides[0] = x.strides[1], turned.strides[1] = x.strides[0];
                    crank_view z = fresh(&p.b, all[b], DIMS(columns, rows));
                    compare(&p, "copy", &turned, 1, &z, 1, NULL, close_to(all[b]));
                }
                pair_forget(&p, mark);
            }
}

static void elementwise_operations_broadcast(void **state)
{
    (void)state;
    EACH_TYPE(t)
        for (int s = 0; s < ROW_SIZES; s++) {
            int        mark = p.b.count;
            int64_t    c = row_sizes[s];
            crank_dtype t = TYPE(t);
            crank_view a = drawn_rows(&p, t, s % 3, 0.5, 2, DIMS(5, 3, c)), row = drawn(&p.b, t, 0.5, 2, DIMS(c)), column = drawn(&p.b, t, 0.5, 2, DIMS(3, 1)),
                       one = drawn(&p.b, t, 0.5, 2, SCALAR), y = fresh_rows(&p.b, t, (s + 1) % 3, DIMS(5, 3, c)), flags = drawn_rows(&p, t, 0, 0, 2, DIMS(5, 3, c));
            for (int kind = CRANK_ADD; kind <= CRANK_EQ; kind++) {
                crank_binary_attributes attributes = {(crank_binary_kind)kind};
                compare(&p, "binary", VIEWS(a, row), &y, 1, &attributes, close_to(t));
                compare(&p, "binary", VIEWS(column, a), &y, 1, &attributes, close_to(t));
                compare(&p, "binary", VIEWS(a, one), &y, 1, &attributes, close_to(t));
                compare(&p, "binary", VIEWS(a, a), &y, 1, &attributes, close_to(t));
            }
            crank_view mask = drawn(&p.b, t, 0, 2, DIMS(5, 3, c));
            for (int64_t i = 0; i < crank_view_count(&mask); i++) set(&mask, i, value(&mask, i) > 1);
            compare(&p, "where", VIEWS(mask, a, row), &y, 1, NULL, close_to(t));
            compare(&p, "where", VIEWS(mask, one, flags), &y, 1, NULL, close_to(t));
            crank_affine_attributes affine = {-1.5, 0.25};
            compare(&p, "affine", &a, 1, &y, 1, &affine, close_to(t));
            crank_fill_attributes fill = {s % 2 ? 0 : 3.25};
            compare(&p, "fill", NULL, 0, &y, 1, &fill, 0);
            pair_forget(&p, mark);
        }
}

static void unary_functions_and_gates(void **state)
{
    (void)state;
    static const crank_unary_kind gates[] = {CRANK_SILU, CRANK_GELU, CRANK_GELU_TANH};
    EACH_TYPE(t)
        for (int s = 0; s < ROW_SIZES; s++) {
            int         mark = p.b.count;
            int64_t     c = row_sizes[s];
            crank_dtype t = TYPE(t);
            crank_view  y = fresh_rows(&p.b, t, s % 2, DIMS(9, c)), z = fresh(&p.b, t, DIMS(9, c)), dy = drawn_rows(&p, t, s % 3, -1, 1, DIMS(9, c));
            for (int kind = CRANK_NEG; kind <= CRANK_COS; kind++) {
                bool                   positive = kind == CRANK_LOG || kind == CRANK_SQRT || kind == CRANK_RSQRT || kind == CRANK_RECIPROCAL;
                crank_unary_attributes attributes = {(crank_unary_kind)kind};
                crank_view             x = drawn_rows(&p, t, (s + 1) % 2, positive ? 0.1 : -4, 4, DIMS(9, c));
                /* a tail of gelu is a difference of nearly equal numbers in f32 */
                double tolerance = kind == CRANK_GELU || kind == CRANK_GELU_TANH ? 2 * close_to(t) : close_to(t);
                compare(&p, "unary", &x, 1, &y, 1, &attributes, tolerance);
                compare(&p, "unary_backward", VIEWS(crank_unary_needs_x((crank_unary_kind)kind) ? x : ABSENT, crank_unary_needs_y((crank_unary_kind)kind) ? y : ABSENT, dy),
                        &z, 1, &attributes, 2 * tolerance);
            }
            for (int k = 0; k < 3; k++) {
                crank_glu_attributes attributes = {gates[k]};
                crank_view           gate = drawn_rows(&p, t, 1, -3, 3, DIMS(9, c)), up = drawn_rows(&p, t, 0, -2, 2, DIMS(9, c)), dup = fresh(&p.b, t, DIMS(9, c));
                compare(&p, "glu", VIEWS(gate, up), &y, 1, &attributes, 2 * close_to(t));
                compare(&p, "glu_backward", VIEWS(dy, gate, up), VIEWS(z, dup), &attributes, 2 * close_to(t));
            }
            pair_forget(&p, mark);
        }
}

/* Codes of every kind with their scales; counts are even, so that codes fill bytes. */
static void quantised_weights_become_dense(void **state)
{
    (void)state;
    static const int64_t shapes[][2] = {{1, 2}, {3, 30}, {16, 64}, {5, 200}, {130, 4096}, {257, 48}};
    EACH_TYPE(t)
        for (int s = 0; s < 6; s++)
            for (int kind = 0; kind < 5; kind++) { /* f8e4m3; nf4 with plain, coded and wide scales; gaps between rows */
                int                         mark = p.b.count;
                int64_t                     rows = shapes[s][0], columns = shapes[s][1], block = kind == 3 ? 96 : 64, blocks = (rows * columns + block - 1) / block;
                crank_dequantize_attributes attributes = {block};
                crank_view                  w = crank_view_make(NULL, kind ? CRANK_NF4 : CRANK_F8E4M3, DIMS(rows, columns)), in[5];
                crank_view y = fresh_rows(&p.b, TYPE(t), kind == 4 ? 8 : 0, DIMS(rows, columns));
                w.data = bench_memory(&p.b, crank_view_bytes(&w));
                for (size_t i = 0; i < crank_view_bytes(&w); i++) ((uint8_t *)w.data)[i] = (uint8_t)chosen(&p, 0, kind ? 255 : 0x7e);
                for (int k = 0; k < 5; k++) in[k] = ABSENT;
                in[0] = w;
                in[1] = drawn(&p.b, CRANK_F32, 0.1, 2, DIMS(kind ? blocks : rows));
                if (kind >= 2) {
                    in[1] = crank_view_make(bench_memory(&p.b, (size_t)blocks), CRANK_U8, DIMS(blocks));
                    for (int64_t i = 0; i < blocks; i++) ((uint8_t *)in[1].data)[i] = (uint8_t)chosen(&p, 0, 255);
                    in[2] = drawn(&p.b, CRANK_F32, -1, 1, DIMS(256)), in[3] = drawn(&p.b, CRANK_F32, 0.1, 2, DIMS((blocks + 255) / 256));
                    in[4] = drawn(&p.b, CRANK_F32, 0.5, 2, DIMS(1));
                }
                compare(&p, "dequantize", in, 5, &y, 1, &attributes, 0);
                pair_forget(&p, mark);
            }
}

/* The scaled operands come from quantize_rows itself; sizes that cuBLASLt serves in eight bits, and others. */
static void products_in_eight_bits(void **state)
{
    (void)state;
    static const int64_t shapes[][3] = {{16, 64, 32}, {48, 256, 112}, {128, 4096, 512}, {7, 33, 5}, {1, 16, 16}};
    EACH_TYPE(t)
        for (int s = 0; s < 5; s++)
            for (int with_bias = 0; with_bias < 2; with_bias++) {
                int        mark = p.b.count;
                int64_t    n = shapes[s][0], k = shapes[s][1], m = shapes[s][2];
                crank_view from[3] = {drawn_rows(&p, TYPE(t), with_bias ? 16 : 0, -3, 3, DIMS(n, k)), drawn(&p.b, TYPE(t), -1, 1, DIMS(m, k)), drawn(&p.b, TYPE(t), -1, 1, DIMS(k, m))};
                crank_view in[7], y = fresh_rows(&p.b, TYPE(t), with_bias ? 16 : 0, DIMS(n, m));
                for (int i = 0; i < 3; i++) {
                    in[2 * i] = fresh(&p.b, CRANK_F8E4M3, from[i].rank, from[i].dims), in[2 * i + 1] = fresh(&p.b, CRANK_F32, DIMS(from[i].dims[0]));
                    compare(&p, "quantize_rows", &from[i], 1, &in[2 * i], 2, NULL, 0);
                }
                in[6] = with_bias ? drawn(&p.b, TYPE(t), -1, 1, DIMS(m)) : ABSENT;
                compare(&p, "scaled_matmul", in, 7, &y, 1, NULL, TYPE(t) == CRANK_F16 || TYPE(t) == CRANK_BF16 ? 6e-3 : 5e-3); /* sums of eight-bit products are kept in fewer bits */
                pair_forget(&p, mark);
            }
}

static void dropout_drops_the_same_elements(void **state)
{
    (void)state;
    EACH_TYPE(t)
        for (int s = 0; s < ROW_SIZES; s++) {
            int                      mark = p.b.count;
            crank_view               x = drawn_rows(&p, TYPE(t), s % 2, 1, 2, DIMS(6, row_sizes[s])), y = fresh(&p.b, TYPE(t), DIMS(6, row_sizes[s])), step = fresh(&p.b, CRANK_I64, DIMS(1));
            crank_dropout_attributes attributes = {.p = 0.3, .seed = 0x123456789abcull + (uint64_t)s, .index = 7};
            *(int64_t *)step.data = 5 + s;
            compare(&p, "dropout", VIEWS(x, step), &y, 1, &attributes, close_to(TYPE(t)));
            pair_forget(&p, mark);
        }
}

static void reductions_over_any_axes(void **state)
{
    (void)state;
    static const int64_t shapes[][3] = {{1, 1, 1}, {3, 5, 7}, {2, 70, 33}, {4, 1, 4096}, {1, 3000, 40}, {300, 2, 64}};
    EACH_TYPE(t)
        for (int s = 0; s < 6; s++)
            for (unsigned axes = 1; axes < 8; axes++)
                for (int kind = CRANK_SUM; kind <= CRANK_SUM_SQUARES; kind++) {
                    int                     mark = p.b.count;
                    crank_reduce_attributes attributes = {(crank_reduce_kind)kind, axes};
                    crank_view              x = drawn_rows(&p, TYPE(t), s == 2 ? 3 : 0, 0, 1, DIMS(shapes[s][0], shapes[s][1], shapes[s][2]));
                    crank_dtype             out = axes & 1 && TYPE(t) != CRANK_F64 ? CRANK_F32 : TYPE(t);
                    crank_view y = fresh(&p.b, out, DIMS(axes & 1 ? 1 : x.dims[0], axes & 2 ? 1 : x.dims[1], axes & 4 ? 1 : x.dims[2]));
                    compare(&p, "reduce", &x, 1, &y, 1, &attributes, close_to(out));
                    pair_forget(&p, mark);
                }
}

static void elements_are_placed(void **state)
{
    (void)state;
    EACH_TYPE(t)
        for (int s = 0; s < ROW_SIZES; s++) {
            int         mark = p.b.count;
            int64_t     c = row_sizes[s];
            crank_dtype t = TYPE(t), wide = t == CRANK_F64 ? CRANK_F64 : CRANK_F32;
            crank_view  a = drawn_rows(&p, t, s % 3, -1, 1, DIMS(4, c)), b = drawn(&p.b, t, -1, 1, DIMS(4, c + 5)), d = drawn(&p.b, t, -1, 1, DIMS(7, c));
            crank_concat_attributes last = {1}, first = {0};
            crank_view              y = fresh(&p.b, t, DIMS(4, 2 * c + 5)), z = fresh_rows(&p.b, t, 2, DIMS(11, c)), padded = fresh(&p.b, t, DIMS(4, c + 11));
            crank_pad_attributes    pad = {1, 6};
            compare(&p, "concat", VIEWS(a, b), &y, 1, &last, 0);
            compare(&p, "concat", VIEWS(a, d), &z, 1, &first, 0);
            compare(&p, "pad", &a, 1, &padded, 1, &pad, 0);
            crank_view ids = drawn_ids(&p, -1, 7, DIMS(300)), rows = fresh(&p.b, t, DIMS(300, c)), dy = drawn_rows(&p, t, 1, -1, 1, DIMS(300, c));
            crank_view table = fresh(&p.b, s % 2 ? wide : t, DIMS(7, c));
            compare(&p, "gather_rows", VIEWS(d, ids), &rows, 1, NULL, 0);
            compare(&p, "scatter_rows", VIEWS(dy, ids), &table, 1, NULL, close_to(table.dtype));
            crank_view at = drawn_ids(&p, -1, c, DIMS(4, 6)), picked = fresh(&p.b, t, DIMS(4, 6)), dpicked = drawn(&p.b, t, -1, 1, DIMS(4, 6)), back = fresh_rows(&p.b, t, 1, DIMS(4, c));
            compare(&p, "pick", VIEWS(a, at), &picked, 1, NULL, 0);
            compare(&p, "unpick", VIEWS(dpicked, at), &back, 1, NULL, close_to(t));
            static const int32_t bounds[] = {0, 3, 3, 4, 7};
            crank_view           segments = fresh(&p.b, CRANK_I32, DIMS(5)), pooled = fresh(&p.b, t, DIMS(4, c)), dpooled = drawn(&p.b, t, -1, 1, DIMS(4, c)), dx = fresh(&p.b, t, DIMS(7, c));
            memcpy(segments.data, bounds, sizeof bounds);
            for (int kind = CRANK_SEGMENT_MEAN; kind <= CRANK_SEGMENT_LAST; kind++) {
                crank_segment_attributes attributes = {(crank_segment_kind)kind};
                compare(&p, "segment_pool", VIEWS(d, segments), &pooled, 1, &attributes, close_to(t));
                compare(&p, "segment_pool_backward", VIEWS(dpooled, segments), &dx, 1, &attributes, close_to(t));
            }
            pair_forget(&p, mark);
        }
}

static void rows_are_normalised(void **state)
{
    (void)state;
    static const int64_t widths[] = {1, 5, 64, 300, 2048, 9001};
    EACH_TYPE(t)
        for (int s = 0; s < 6; s++)
            for (int with = 0; with < 4; with++) {
                int                   mark = p.b.count;
                int64_t               n = s == 5 ? 3 : 70, d = widths[s];
                crank_dtype           t = TYPE(t), stat = t == CRANK_F64 ? CRANK_F64 : CRANK_F32, wt = with & 1 ? stat : t;
                crank_norm_attributes attributes = {d > 1 ? 1e-5 : 0.5}; /* of one column a small epsilon leaves the rounding of two equal terms */
                double                near = 3 * close_to(t);
                crank_view x = drawn_rows(&p, t, with == 3 ? 8 : with == 1 ? 3 : 0, -2, 2, DIMS(n, d)), w = drawn(&p.b, wt, 0.5, 1.5, DIMS(d)), b = drawn(&p.b, wt, -0.5, 0.5, DIMS(d));
                crank_view residual = with & 2 ? drawn_rows(&p, t, 0, -2, 2, DIMS(n, d)) : ABSENT, sum = with & 2 ? fresh(&p.b, t, DIMS(n, d)) : ABSENT;
                crank_view y = fresh(&p.b, t, DIMS(n, d)), rstd = fresh(&p.b, stat, DIMS(n)), mean = fresh(&p.b, stat, DIMS(n)), dx = fresh(&p.b, t, DIMS(n, d));
                crank_view dw = fresh(&p.b, wt, DIMS(d)), db = fresh(&p.b, wt, DIMS(d)), dy = drawn(&p.b, t, -1, 1, DIMS(n, d));
                compare(&p, "rmsnorm", VIEWS(x, w, residual), VIEWS(y, rstd, sum), &attributes, near);
                compare(&p, "rmsnorm_backward", VIEWS(dy, with & 2 ? sum : x, w, rstd, residual), VIEWS(dx, with ? dw : ABSENT), &attributes, 2 * near);
                if (d > 1) { /* one column has no variance */
                    bool bare = with == 2;
                    compare(&p, "layernorm", VIEWS(x, bare ? ABSENT : w, bare ? ABSENT : b, residual), VIEWS(y, mean, rstd, sum), &attributes, near);
                    compare(&p, "layernorm_backward", VIEWS(dy, with & 2 ? sum : x, bare ? ABSENT : w, mean, rstd, residual),
                            VIEWS(dx, bare || !with ? ABSENT : dw, bare || !with ? ABSENT : db), &attributes, 4 * near);
                }
                pair_forget(&p, mark);
            }
}

static void softmax_and_rope(void **state)
{
    (void)state;
    EACH_TYPE(t)
        for (int s = 0; s < ROW_SIZES; s++) {
            int         mark = p.b.count;
            int64_t     c = row_sizes[s];
            crank_dtype t = TYPE(t), stat = t == CRANK_F64 ? CRANK_F64 : CRANK_F32;
            crank_view  x = drawn_rows(&p, t, s % 3, -5, 5, DIMS(3, 11, c)), y = fresh(&p.b, t, DIMS(3, 11, c)), dy = drawn_rows(&p, t, 1, -1, 1, DIMS(3, 11, c)), dx = fresh(&p.b, t, DIMS(3, 11, c));
            for (int log_form = 0; log_form < 2; log_form++) {
                crank_softmax_attributes attributes = {log_form};
                compare(&p, "softmax", &x, 1, &y, 1, &attributes, 2 * close_to(t));
                compare(&p, "softmax_backward", VIEWS(y, dy), &dx, 1, &attributes, c == 1 ? 1 : 4 * close_to(t));
            }
            static const int64_t heads[] = {64, 32, 10, 128, 80, 6, 64}, turned[] = {64, 32, 6, 128, 32, 6, 32};
            crank_view           z = drawn_rows(&p, t, s % 2 ? 0 : 16, -1, 1, DIMS(29, 3, heads[s])), out = fresh(&p.b, t, DIMS(29, 3, heads[s]));
            crank_view           table = drawn(&p.b, stat, -1, 1, DIMS(50, turned[s])), positions = drawn_ids(&p, 0, 49, DIMS(29));
            for (int k = 0; k < 4; k++) {
                crank_rope_attributes attributes = {.interleaved = k & 1, .inverse = k & 2};
                compare(&p, "rope", VIEWS(z, positions, table), &out, 1, &attributes, close_to(t));
            }
            pair_forget(&p, mark);
        }
}

static void products_of_every_form(void **state)
{
    (void)state;
    static const int64_t shapes[][3] = {{1, 1, 1}, {3, 5, 7}, {64, 64, 64}, {33, 65, 17}, {128, 16, 256}, {16, 256, 100}, {77, 130, 200}};
    EACH_TYPE(t)
        for (int s = 0; s < 7; s++)
            for (int form = 0; form < 32; form++) {
                int                     mark = p.b.count;
                crank_dtype             t = TYPE(t), out = form & 16 && t != CRANK_F64 ? CRANK_F32 : t;
                crank_matmul_attributes attributes = {.trans_a = form & 1, .trans_b = form & 2, .alpha = form & 4 ? 0.5 : 1};
                int64_t                 m = shapes[s][0], n = shapes[s][1], k = shapes[s][2], gap = form & 8 ? 8 : form & 1 ? 3 : 0;
                crank_view a = drawn_rows(&p, t, gap, -1, 1, 2, (int64_t[]){form & 1 ? k : m, form & 1 ? m : k}), b = drawn_rows(&p, t, gap, -1, 1, 2, (int64_t[]){form & 2 ? n : k, form & 2 ? k : n});
                crank_view bias = form & 4 ? drawn(&p.b, out, -1, 1, DIMS(n)) : ABSENT, c0 = form & 8 ? drawn_rows(&p, out, gap, -1, 1, DIMS(m, n)) : ABSENT, c = fresh_rows(&p.b, out, gap, DIMS(m, n));
                compare(&p, "matmul", VIEWS(a, b, bias, c0), &c, 1, &attributes, 2 * close_to(out));
                crank_view ab = drawn(&p.b, t, -1, 1, 3, (int64_t[]){4, form & 1 ? k : m, form & 1 ? m : k}), bb = drawn(&p.b, t, -1, 1, 3, (int64_t[]){form & 8 ? 1 : 4, form & 2 ? n : k, form & 2 ? k : n});
                crank_view cb = fresh(&p.b, out, DIMS(4, m, n)), c0b = form & 8 ? drawn(&p.b, out, -1, 1, DIMS(4, m, n)) : ABSENT;
                compare(&p, "matmul", VIEWS(ab, bb, bias, c0b), &cb, 1, &attributes, 2 * close_to(out));
                pair_forget(&p, mark);
            }
}

static void products_with_a_low_rank_term(void **state)
{
    (void)state;
    static const int64_t shapes[][4] = {{1, 1, 8, 1}, {5, 7, 16, 3}, {64, 128, 64, 16}, {33, 65, 24, 8}, {77, 200, 128, 40}, {130, 96, 256, 64}};
    for (int which = 0; which < 2; which++)
        for (int s = 0; s < 6; s++)
            for (int form = 0; form < 8; form++) {
                int                        mark = p.b.count, turned = form & 1;
                crank_dtype                t = which ? CRANK_F16 : CRANK_BF16;
                crank_augmented_attributes attributes = {.trans_b = turned, .scale = form & 4 ? 2 : 0.75};
                int64_t                    n = shapes[s][0], m = shapes[s][1], k = shapes[s][2], r = shapes[s][3];
                crank_view a = drawn_rows(&p, t, 64, -1, 1, DIMS(n, k)), b = drawn_rows(&p, t, 64, -1, 1, 2, (int64_t[]){turned ? m : k, turned ? k : m});
                crank_view low = drawn(&p.b, t, -1, 1, DIMS(n, r)), factor = drawn(&p.b, t, -1, 1, 2, (int64_t[]){turned ? m : r, turned ? r : m});
                crank_view c0 = form & 2 ? drawn(&p.b, t, -1, 1, DIMS(n, m)) : ABSENT, c = fresh(&p.b, t, DIMS(n, m));
                compare(&p, "matmul_augmented", VIEWS(a, b, low, factor, c0), &c, 1, &attributes, 3 * close_to(t));
                pair_forget(&p, mark);
            }
}

static void columns_with_factors(void **state)
{
    (void)state;
    static const int64_t shapes[][2] = {{1, 1}, {7, 3}, {33, 64}, {300, 256}, {129, 520}, {5, 2049}, {0, 16}};
    EACH_TYPE(t)
        for (int s = 0; s < 7; s++)
            for (int form = 0; form < 6; form++) {
                int                  mark = p.b.count;
                crank_dtype          t = TYPE(t), wide = t == CRANK_F64 ? CRANK_F64 : CRANK_F32;
                int64_t              n = shapes[s][0], d = shapes[s][1], gap = form & 1 ? 8 : 0;
                crank_glu_attributes attributes = {(crank_unary_kind[]){CRANK_SILU, CRANK_GELU, CRANK_GELU_TANH}[form / 2]};
                double               close = 3 * close_to(t);
                crank_view x = drawn_rows(&p, t, gap, -2, 2, DIMS(n, d)), z = drawn_rows(&p, t, gap, -2, 2, DIMS(n, d)), dy = drawn_rows(&p, t, gap, 0.2, 1, DIMS(n, d));
                crank_view k = drawn(&p.b, form & 2 ? t : wide, 0.5, 2, DIMS(d)), l = drawn(&p.b, form & 2 ? t : wide, -2, -0.5, DIMS(d));
                crank_view y = fresh_rows(&p.b, t, gap, DIMS(n, d)), second = fresh_rows(&p.b, t, gap, DIMS(n, d)), dk = fresh(&p.b, wide, DIMS(d)), dl = fresh(&p.b, wide, DIMS(d));
                compare(&p, "scale_columns", VIEWS(x, k), &y, 1, NULL, close);
                compare(&p, "scale_columns_backward", VIEWS(dy, x, k), (crank_view[]){y, dk}, 2, NULL, close);
                compare(&p, "scale_columns_backward", VIEWS(dy, x, k), (crank_view[]){y, ABSENT}, 2, NULL, close);
                compare(&p, "glu_scaled", VIEWS(x, k, z, l), &y, 1, &attributes, close);
                compare(&p, "glu_scaled_backward", VIEWS(dy, x, k, z, l), (crank_view[]){y, second, dk, dl}, 4, &attributes, 2 * close);
                pair_forget(&p, mark);
            }
}

static void heads_over_a_vocabulary(void **state)
{
    (void)state;
    static const int64_t vocabularies[] = {2, 33, 512, 1031};
    EACH_TYPE(t)
        for (int s = 0; s < 4; s++)
            for (int with = 0; with < 4; with++) {
                int         mark = p.b.count;
                int64_t     n = 37, d = s == 1 ? 19 : 64, V = vocabularies[s];
                crank_dtype t = TYPE(t), stat = t == CRANK_F64 ? CRANK_F64 : CRANK_F32, wide = with & 2 ? stat : t;
                double      near = t == CRANK_BF16 ? 2e-2 : t == CRANK_F16 ? 4e-3 : 4 * close_to(t);
                crank_head_attributes attributes = {.chunk = with ? 16 : 0};
                crank_view x = drawn_rows(&p, t, s == 2 ? 8 : 0, -1, 1, DIMS(n, d)), w = drawn(&p.b, t, -0.3, 0.3, DIMS(V, d)), bias = with & 1 ? drawn(&p.b, wide, -1, 1, DIMS(V)) : ABSENT;
                /* of two words, both of them targets, dbias would be the rounding of terms of both signs */
                crank_view targets = drawn_ids(&p, -1, V == 2 ? 0 : V, DIMS(n)), weights = drawn(&p.b, stat, 0, 1, DIMS(n)), logp = fresh(&p.b, stat, DIMS(n)), lse = fresh(&p.b, stat, DIMS(n));
                crank_view unit = fresh(&p.b, t, DIMS(n, d)), dw = fresh(&p.b, wide, DIMS(V, d)), dbias = with & 1 ? fresh(&p.b, wide, DIMS(V)) : ABSENT, numerator = fresh(&p.b, stat, SCALAR);
                crank_view same_bias = with & 1 && (with & 2 || t == wide) ? bias : ABSENT;
                compare(&p, "head_logprob", VIEWS(x, w, bias, targets), VIEWS(logp, lse, with & 2 ? ABSENT : unit), &attributes, near);
                compare(&p, "head_logprob_backward", VIEWS(weights, x, w, bias, targets, lse), VIEWS(unit, dw, dbias), &attributes, 2 * near);
                compare(&p, "head_cross_entropy", VIEWS(x, w, same_bias, targets, weights), VIEWS(numerator, logp, unit, dw, same_bias.rank < 0 ? ABSENT : dbias), &attributes, 2 * near);
                compare(&p, "head_cross_entropy", VIEWS(x, w, same_bias, targets, weights), VIEWS(numerator, logp, ABSENT, ABSENT, ABSENT), &attributes, near);
                pair_forget(&p, mark);
            }
}

static crank_view scalars_of(int step, bool skip)
{
    crank_view s = fresh(&p.b, CRANK_F32, DIMS(CRANK_SCALARS));
    memcpy(s.data, (float[CRANK_SCALARS]){[CRANK_SCALAR_RATE] = 0.01f, [CRANK_SCALAR_STEP] = (float)step, [CRANK_SCALAR_CLIP] = 0.5f, [CRANK_SCALAR_SKIP] = skip, [CRANK_SCALAR_DENOMINATOR] = 3},
           CRANK_SCALARS * sizeof(float));
    return s;
}

static void updates_move_parameters(void **state)
{
    (void)state;
    static const int64_t counts[] = {1, 4, 255, 1024, 1001};
    EACH_TYPE(t)
        for (int s = 0; s < 5; s++)
            for (int with = 0; with < 8; with++) {
                int         mark = p.b.count;
                int64_t     n = counts[s], blocks = (n + 255) / 256;
                crank_dtype t = TYPE(t), stat = t == CRANK_F64 ? CRANK_F64 : CRANK_F32, gt = with & 1 && t != CRANK_F64 ? CRANK_F32 : t;
                crank_view  scalars = scalars_of(with & 2 ? 1 : 7, with == 7), g = drawn(&p.b, gt, -1, 1, DIMS(n));
                /* a bf16 weight that is rounded by a draw may fall to the other neighbour where f32 and f64 sums differ in the last bit */
                double near = close_to(t);
                crank_view w = drawn(&p.b, t, -1, 1, DIMS(n)), m = drawn(&p.b, stat, -1, 1, DIMS(n)), v = drawn(&p.b, stat, 0, 1, DIMS(n)), w2 = copied(&p.b, &w, t), m2 = copied(&p.b, &m, stat), w3 = copied(&p.b, &w, t), w4 = copied(&p.b, &w, t), m3 = copied(&p.b, &m, stat);
                crank_adam_attributes adam = {.beta1 = 0.9, .beta2 = 0.99, .epsilon = 1e-8, .decay = 0.1, .rate_factor = 2, .l2 = with & 4, .seed = 99, .index = 3};
                crank_sgd_attributes  sgd = {.momentum = 0.9, .dampening = 0.1, .decay = 0.01, .rate_factor = 1, .nesterov = with & 4, .seed = 99, .index = 4};
                crank_lion_attributes lion = {.beta1 = 0.9, .beta2 = 0.99, .decay = 0.1, .rate_factor = 1, .seed = 98, .index = 5};
                compare(&p, "adamw", VIEWS(w, g, m, v, scalars), VIEWS(w, m, v), &adam, near);
                bool buffered = with & 1;
                compare(&p, "sgd", VIEWS(w2, g, buffered ? m2 : ABSENT, scalars), VIEWS(w2, buffered ? m2 : ABSENT), &sgd, near);
                compare(&p, "lion", VIEWS(w3, g, m3, scalars), VIEWS(w3, m3), &lion, near);
                crank_view cm = fresh(&p.b, CRANK_U8, DIMS(n)), cv = fresh(&p.b, CRANK_U8, DIMS(n)), am = drawn(&p.b, stat, 0, 1, DIMS(blocks)), av = drawn(&p.b, stat, 0, 1, DIMS(blocks));
                for (int64_t i = 0; i < n; i++) ((uint8_t *)cm.data)[i] = (uint8_t)chosen(&p, 0, 254), ((uint8_t *)cv.data)[i] = (uint8_t)chosen(&p, 0, 255);
                compare(&p, "adamw8bit", VIEWS(w4, g, cm, cv, am, av, scalars), VIEWS(w4, cm, cv, am, av), &adam, near > 1e-3 ? near : 1e-3);
                pair_forget(&p, mark);
            }
}

static void scalars_and_assignments(void **state)
{
    (void)state;
    EACH_TYPE(t)
        for (int with = 0; with < 4; with++) {
            int                     mark = p.b.count;
            crank_dtype             t = TYPE(t), stat = t == CRANK_F64 ? CRANK_F64 : CRANK_F32;
            crank_view              squares = drawn(&p.b, stat, 0, 2, DIMS(300)), scalars = scalars_of(3, false), norm = fresh(&p.b, stat, SCALAR), x = drawn(&p.b, t, -1, 1, SCALAR), checked = scalars_of(3, false);
            crank_clip_attributes   clip = {with & 1 ? 1.0 : 0};
            crank_assign_attributes assign = {.add = with & 1};
            if (with == 2) set(&squares, 17, NAN), set(&x, 0, INFINITY);
            compare(&p, "clip_scale", VIEWS(squares, scalars), VIEWS(scalars, norm), &clip, 1e-6);
            compare(&p, "check_finite", VIEWS(x, checked), &checked, 1, NULL, 0);
            EACH_TYPE(u) {
                crank_view from = drawn_rows(&p, t, with, -1, 1, DIMS(9, 31)), to = drawn(&p.b, TYPE(u), -1, 1, DIMS(9, 31));
                compare(&p, "assign", VIEWS(from, to), &to, 1, &assign, close_to(TYPE(u)));
            }
            pair_forget(&p, mark);
        }
}

static void sparse_matrices(void **state)
{
    (void)state;
    static const int64_t shapes[][3] = {{5, 7, 3}, {64, 40, 33}, {300, 129, 70}, {3000, 2100, 9}};
    EACH_TYPE(t)
        for (int s = 0; s < 4; s++)
            for (int transpose = 0; transpose < 2; transpose++) {
                int                     mark = p.b.count;
                crank_dtype             t = TYPE(t), wide = t == CRANK_F64 || s % 2 ? t : CRANK_F32;
                int64_t                 rows = shapes[s][0], cols = shapes[s][1], n = shapes[s][2], k = 3 * (rows + cols);
                crank_sparse_attributes attributes = {rows, cols, transpose};
                crank_view x = drawn_rows(&p, t, 8, -1, 1, DIMS(n, transpose ? rows : cols)), y = fresh(&p.b, t, DIMS(n, transpose ? cols : rows)), v = drawn(&p.b, t, -1, 1, DIMS(k));
                crank_view index = drawn_ids(&p, -1, rows * cols, DIMS(k)), a = drawn(&p.b, t, -1, 1, DIMS(n, rows)), b = drawn(&p.b, t, -1, 1, DIMS(n, cols)), sample = fresh(&p.b, wide, DIMS(k));
                compare(&p, "sparse_matmul", VIEWS(x, v, index), &y, 1, &attributes, 2 * close_to(t));
                compare(&p, "sparse_sample", VIEWS(a, b, index), &sample, 1, NULL, 2 * close_to(t));
                pair_forget(&p, mark);
            }
}

static void choices_and_eigenvalues(void **state)
{
    (void)state;
    static const int64_t widths[] = {1, 8, 33, 64}, sizes_of[] = {1, 2, 7, 16, 33};
    EACH_TYPE(t) {
        for (int s = 0; s < 4; s++) {
            int                    mark = p.b.count;
            crank_top_k_attributes attributes = {1 + s * 2};
            crank_view             c = drawn_rows(&p, TYPE(t), s, -1, 1, DIMS(20, widths[s])), chosen_ones = fresh(&p.b, TYPE(t), DIMS(20, widths[s]));
            if (s == 2) set(&c, 5, NAN), set(&c, 40, value(&c, 41));
            compare(&p, "top_k", &c, 1, &chosen_ones, 1, &attributes, 0);
            pair_forget(&p, mark);
        }
        for (int s = 0; s < 5; s++) {
            int        mark = p.b.count;
            int64_t    r = sizes_of[s];
            crank_view a = drawn(&p.b, TYPE(t), -1, 1, DIMS(r, r)), values = fresh(&p.b, TYPE(t), DIMS(r)), vectors = fresh(&p.b, TYPE(t), DIMS(r, r));
            /* a symmetric matrix with well separated eigenvalues: its vectors are as exact as its entries */
            for (int64_t i = 0; i < r; i++)
                for (int64_t j = 0; j <= i; j++) {
                    double entry = i == j ? (double)(i + 1) : 0.05 * value(&a, i * r + j);
                    set(&a, i * r + j, entry), set(&a, j * r + i, entry);
                }
            compare(&p, "eigh", &a, 1, VIEWS(values, vectors), NULL, 4 * close_to(TYPE(t)));
            pair_forget(&p, mark);
        }
    }
}

static void unknown_calls_are_refused(void **state)
{
    (void)state;
    crank_body body;
    crank_view x = crank_view_make(NULL, CRANK_F32, DIMS(4)), y = crank_view_make(NULL, CRANK_F32, DIMS(5));
    crank_call call = {.device = p.gpu, .in = &x, .inputs = 1, .out = &y, .outputs = 1};
    assert_false(p.gpu->find(p.gpu, "copy", &call, &body));
    assert_false(p.gpu->find(p.gpu, "no such operation", &call, &body));
}

/* Attention has a program of its own. */
static void every_operation_of_the_table_was_compared(void **state)
{
    (void)state;
    for (int i = 0; operation_name(i); i++)
        if (!p.seen[i] && !strstr(operation_name(i), "attention") && strcmp(operation_name(i), "cache_write") && strncmp(operation_name(i), "group_", 6)) fail_msg("%s was not compared", operation_name(i));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(copies_cast_and_turn),
        cmocka_unit_test(elementwise_operations_broadcast),
        cmocka_unit_test(unary_functions_and_gates),
        cmocka_unit_test(quantised_weights_become_dense), cmocka_unit_test(products_in_eight_bits), cmocka_unit_test(dropout_drops_the_same_elements),
        cmocka_unit_test(reductions_over_any_axes),
        cmocka_unit_test(elements_are_placed),
        cmocka_unit_test(rows_are_normalised),
        cmocka_unit_test(softmax_and_rope),
        cmocka_unit_test(products_of_every_form), cmocka_unit_test(products_with_a_low_rank_term), cmocka_unit_test(columns_with_factors),
        cmocka_unit_test(heads_over_a_vocabulary),
        cmocka_unit_test(updates_move_parameters),
        cmocka_unit_test(scalars_and_assignments),
        cmocka_unit_test(sparse_matrices),
        cmocka_unit_test(choices_and_eigenvalues),
        cmocka_unit_test(unknown_calls_are_refused),
        cmocka_unit_test(every_operation_of_the_table_was_compared),
    };
    p = pair_open(false);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    pair_close(&p);
    return failed;
}
