/* operations.c - the signature of every operation of crank/operations.h, and the check of a call against it.
 *
 * A signature names each operand as TYPE[DIMS]FLAGS, outputs after "->":
 *
 *     TYPE  f g     any float type, the same at every place of the letter
 *           p       f's type or f32, the same at every place
 *           s       f32, or f64 where f is f64: statistics
 *           F i l u f32, i32, i64, u8
 *           q       nf4 or f8e4m3, contiguous
 *           o       f8e4m3, contiguous
 *           e       f32 or u8
 *           *       any type with whole-byte elements that needs no scale
 *     DIMS  letter  a size, the same at every place of the letter
 *           digit   that size
 *           .       a whole shape, the same at every place
 *           ~       any shape; the operation's own check knows more
 *     FLAGS ?       optional (absent: rank -1)
 *           /       any strides; without it the last axis has stride 1
 *           +       one or more operands of this kind */
#include "device/operations.h"

#include <stdio.h>
#include <string.h>

typedef bool extra_check(const crank_call *call);

typedef struct signature {
    const char  *name;
    const char  *operands;
    bool         attributes; /* has an attribute struct */
    extra_check *check;
} signature;

bool crank_unary_needs_x(crank_unary_kind kind)
{
    return kind != CRANK_NEG && kind != CRANK_SIGN && !crank_unary_needs_y(kind);
}

bool crank_unary_needs_y(crank_unary_kind kind)
{
    return kind == CRANK_EXP || kind == CRANK_SQRT || kind == CRANK_RSQRT || kind == CRANK_RECIPROCAL ||
           kind == CRANK_TANH || kind == CRANK_SIGMOID || kind == CRANK_RELU;
}

/* `from` spreads over `to` as in NumPy: axes aligned at the last, each equal or 1. */
static bool broadcasts(const crank_view *from, const crank_view *to)
{
    if (from->rank > to->rank) return false;
    for (int axis = 0; axis < from->rank; axis++) {
        int64_t dim = from->dims[axis];
        if (dim != 1 && dim != to->dims[axis + to->rank - from->rank]) return false;
    }
    return true;
}

static bool check_broadcast(const crank_call *call)
{
    for (int k = 0; k < call->inputs; k++)
        if (!broadcasts(&call->in[k], &call->out[0])) return false;
    return true;
}

static bool check_unary_backward(const crank_call *call)
{
    crank_unary_kind kind = ((const crank_unary_attributes *)call->attributes)->kind;
    return (!crank_unary_needs_x(kind) || view_present(&call->in[0])) &&
           (!crank_unary_needs_y(kind) || view_present(&call->in[1]));
}

static bool check_reduce(const crank_call *call)
{
    unsigned          axes = ((const crank_reduce_attributes *)call->attributes)->axes;
    const crank_view *x = &call->in[0], *y = &call->out[0];
    if (x->rank != y->rank || axes >> x->rank) return false;
    for (int axis = 0; axis < x->rank; axis++)
        if (y->dims[axis] != (axes >> axis & 1 ? 1 : x->dims[axis])) return false;
    return true;
}

/* All dims of x but `axis` are y's. */
static bool equal_but(const crank_view *x, const crank_view *y, int axis)
{
    if (x->rank != y->rank || axis < 0 || axis >= y->rank) return false;
    for (int k = 0; k < y->rank; k++)
        if (k != axis && x->dims[k] != y->dims[k]) return false;
    return true;
}

static bool check_concat(const crank_call *call)
{
    int     axis = ((const crank_concat_attributes *)call->attributes)->axis;
    int64_t sum = 0;
    for (int k = 0; k < call->inputs; k++) {
        if (!equal_but(&call->in[k], &call->out[0], axis)) return false;
        sum += call->in[k].dims[axis];
    }
    return sum == call->out[0].dims[axis];
}

static bool check_sparse(const crank_call *call)
{
    const crank_sparse_attributes *a = call->attributes;
    int64_t                        in = a->transpose ? a->rows : a->cols, out = a->transpose ? a->cols : a->rows;
    return a->rows >= 1 && a->cols >= 1 && a->rows <= INT32_MAX / a->cols && call->in[0].dims[1] == in && call->out[0].dims[1] == out;
}

static bool check_pad(const crank_call *call)
{
    const crank_pad_attributes *a = call->attributes;
    const crank_view           *x = &call->in[0], *y = &call->out[0];
    return equal_but(x, y, a->axis) && a->start >= 0 && a->start <= y->dims[a->axis] &&
           x->dims[a->axis] <= y->dims[a->axis] - a->start;
}

/* [.., m, n] with at most one batch dimension that is 1 or `batch`. */
static bool is_matrix(const crank_view *view, int64_t batch, int64_t m, int64_t n)
{
    return (view->rank == 2 || (view->rank == 3 && (view->dims[0] == 1 || view->dims[0] == batch))) &&
           view->dims[view->rank - 2] == m && view->dims[view->rank - 1] == n;
}

static bool check_matmul(const crank_call *call)
{
    const crank_matmul_attributes *attributes = call->attributes;
    const crank_view *a = &call->in[0], *b = &call->in[1], *bias = &call->in[2], *c0 = &call->in[3], *c = &call->out[0];
    if (c->rank != 2 && c->rank != 3) return false;
    if (a->rank != 2 && a->rank != 3) return false;
    int64_t batch = c->rank == 3 ? c->dims[0] : 1, m = c->dims[c->rank - 2], n = c->dims[c->rank - 1];
    int64_t k = a->dims[a->rank - (attributes->trans_a ? 2 : 1)];
    return is_matrix(a, batch, attributes->trans_a ? k : m, attributes->trans_a ? m : k) &&
           is_matrix(b, batch, attributes->trans_b ? n : k, attributes->trans_b ? k : n) &&
           (!view_present(bias) || (bias->rank == 1 && bias->dims[0] == n)) &&
           (!view_present(c0) || is_matrix(c0, batch, m, n));
}

static bool check_augmented(const crank_call *call)
{
    bool              turned = ((const crank_augmented_attributes *)call->attributes)->trans_b;
    const crank_view *a = &call->in[0], *b = &call->in[1], *t = &call->in[2], *s = &call->in[3];
    int64_t           m = call->out[0].dims[1];
    return is_matrix(b, 1, turned ? m : a->dims[1], turned ? a->dims[1] : m) && is_matrix(s, 1, turned ? m : t->dims[1], turned ? t->dims[1] : m);
}

/* One row a segment: segments have one bound more. */
static bool check_segment_pool(const crank_call *call) { return call->in[1].dims[0] - 1 == call->out[0].dims[0]; }
static bool check_segment_pool_backward(const crank_call *call)
{
    return call->in[1].dims[0] - 1 == call->in[0].dims[0];
}

static bool check_rope(const crank_call *call)
{
    int64_t r = call->in[2].dims[1];
    return r % 2 == 0 && r <= call->in[0].dims[2];
}

/* Query heads are a multiple of key heads; q and k are inputs `q` and `q + 1`. */
static bool heads_divide(const crank_call *call, int q)
{
    int64_t hq = call->in[q].dims[1], hk = call->in[q + 1].dims[1];
    return hk > 0 ? hq % hk == 0 : hq == 0;
}
static bool check_attention(const crank_call *call) { return heads_divide(call, 0) && call->in[3].dims[0] >= 1; }
static bool check_attention_backward(const crank_call *call)
{
    return heads_divide(call, 1) && call->in[6].dims[0] >= 1;
}
static bool check_attention_cached(const crank_call *call) { return heads_divide(call, 0); }

static bool check_glu(const crank_call *call)
{
    crank_unary_kind kind = ((const crank_glu_attributes *)call->attributes)->activation;
    return kind == CRANK_SILU || kind == CRANK_GELU || kind == CRANK_GELU_TANH;
}

static bool check_adamw8bit(const crank_call *call)
{
    int64_t blocks = crank_view_count(&call->in[0]) / 256 + (crank_view_count(&call->in[0]) % 256 != 0);
    for (int k = 0; k < 4; k++)
        if (!crank_view_is_contiguous(&call->in[k])) return false;
    return call->in[4].dims[0] == blocks && call->in[5].dims[0] == blocks;
}

/* A scale for each row, or each block with what codes of scales stand for. */
static bool check_dequantize(const crank_call *call)
{
    const crank_view *w = &call->in[0], *scales = &call->in[1], *second = &call->in[3];
    bool              coded = scales->dtype == CRANK_U8;
    int64_t           block = ((const crank_dequantize_attributes *)call->attributes)->block, count = crank_view_count(w);
    for (int k = 2; k < 5; k++)
        if (view_present(&call->in[k]) != coded) return false;
    if (w->dtype == CRANK_F8E4M3) return !coded && scales->dims[0] == w->dims[0];
    if (block < 2 || block % 2 || scales->dims[0] != count / block + (count % block != 0)) return false;
    return !coded || (call->in[2].dims[0] == 256 && second->dims[0] == (scales->dims[0] + 255) / 256);
}

static bool same_dims(const crank_view *a, const crank_view *b)
{
    return a->rank == b->rank && memcmp(a->dims, b->dims, (size_t)a->rank * sizeof *a->dims) == 0;
}

/* k pairs of equal type and dims (an output may be missing), then orders. */
static bool check_group(const crank_call *call)
{
    int k = call->outputs - 1;
    if (k < 0 || k > CRANK_GROUP_MOST || call->inputs <= k) return false;
    for (int i = 0; i < k; i++) {
        const crank_view *x = &call->in[i], *y = &call->out[i];
        if (view_present(y) && (x->dtype != y->dtype || !same_dims(x, y) || !crank_view_is_contiguous(y))) return false;
        if (!crank_view_is_contiguous(x)) return false;
    }
    return true;
}

static bool check_group_sum(const crank_call *call)
{
    for (int i = 0; i < call->outputs - 1 && i < call->inputs; i++)
        if (!crank_dtype_is_float(call->in[i].dtype) || crank_dtype_bits(call->in[i].dtype) < 16) return false;
    return check_group(call);
}

static const signature table[] = {
    {"copy", "*[.]/ -> *[.]/", false, NULL},
    {"fill", "-> *[.]/", true, NULL},
    {"binary", "f[~]/ f[~]/ -> f[~]", true, check_broadcast},
    {"where", "f[~]/ f[~]/ f[~]/ -> f[~]", false, check_broadcast},
    {"affine", "f[.] -> f[.]", true, NULL},
    {"unary", "f[.] -> f[.]", true, NULL},
    {"unary_backward", "f[.]? f[.]? f[.] -> f[.]", true, check_unary_backward},
    {"reduce", "f[~]/ -> p[~]/", true, check_reduce},
    {"concat", "f[~]+ -> f[~]", true, check_concat},
    {"pad", "f[~] -> f[~]", true, check_pad},
    {"gather_rows", "g[v,d] i[n] -> f[n,d]", false, NULL},
    {"scatter_rows", "f[n,d] i[n] -> p[v,d]", false, NULL},
    {"pick", "f[n,c] i[n,k] -> f[n,k]", false, NULL},
    {"top_k", "f[n,c] -> f[n,c]", true, NULL},
    {"eigh", "f[r,r] -> f[r] f[r,r]", false, NULL},
    {"unpick", "f[n,k] i[n,k] -> f[n,c]", false, NULL},
    {"sparse_matmul", "f[n,a] f[k] i[k] -> f[n,b]", true, check_sparse},
    {"sparse_sample", "f[n,r] f[n,c] i[k] -> p[k]", false, NULL},
    {"segment_pool", "f[n,d] i[t] -> f[s,d]", true, check_segment_pool},
    {"segment_pool_backward", "f[s,d] i[t] -> f[n,d]", true, check_segment_pool_backward},
    {"softmax", "f[.] -> f[.]", true, NULL},
    {"softmax_backward", "f[.] f[.] -> f[.]", true, NULL},
    {"matmul", "f[~] f[~] p[~]? p[~]? -> p[~]", true, check_matmul},
    {"matmul_augmented", "f[n,k] f[~] f[n,r] f[~] f[n,m]? -> f[n,m]", true, check_augmented},
    {"dequantize", "q[m,k] e[b] F[x]? F[g]? F[1]? -> f[m,k]", true, check_dequantize},
    {"quantize_rows", "f[n,k] -> o[n,k] F[n]", false, NULL},
    {"scaled_matmul", "o[n,k] F[n] o[m,k] F[m] o[k,m] F[k] f[m]? -> f[n,m]", false, NULL},
    {"rmsnorm", "f[n,d] p[d] f[n,d]? -> f[n,d] s[n] f[n,d]?", true, NULL},
    {"rmsnorm_backward", "f[n,d] f[n,d] p[d] s[n] f[n,d]? -> f[n,d] p[d]?", true, NULL},
    {"layernorm", "f[n,d] p[d]? p[d]? f[n,d]? -> f[n,d] s[n] s[n] f[n,d]?", true, NULL},
    {"layernorm_backward", "f[n,d] f[n,d] p[d]? s[n] s[n] f[n,d]? -> f[n,d] p[d]? p[d]?", true, NULL},
    {"rope", "f[n,h,d] i[n] s[p,r] -> f[n,h,d]", true, check_rope},
    {"attention", "f[n,h,d] f[n,k,d] f[n,k,d] i[s] -> f[n,h,d] s[h,n]", true, check_attention},
    {"attention_backward", "f[n,h,d] f[n,h,d] f[n,k,d] f[n,k,d] f[n,h,d] s[h,n] i[s] -> f[n,h,d] f[n,k,d] f[n,k,d]",
     true, check_attention_backward},
    {"cache_write", "f[n,h,d] i[1] f[p,h,d] -> f[p,h,d]", false, NULL},
    {"attention_cached", "f[n,h,d] f[p,k,d] f[p,k,d] i[1] -> f[n,h,d]", true, check_attention_cached},
    {"glu", "f[.] f[.] -> f[.]", true, check_glu},
    {"glu_backward", "f[.] f[.] f[.] -> f[.] f[.]", true, check_glu},
    {"glu_scaled", "f[n,d] p[d] f[n,d] p[d] -> f[n,d]", true, check_glu},
    {"glu_scaled_backward", "f[n,d] f[n,d] p[d] f[n,d] p[d] -> f[n,d] f[n,d] s[d]? s[d]?", true, check_glu},
    {"scale_columns", "f[n,d] p[d] -> f[n,d]", false, NULL},
    {"scale_columns_backward", "f[n,d] f[n,d] p[d] -> f[n,d] s[d]?", false, NULL},
    {"head_logprob", "f[n,d] f[v,d] p[v]? i[n] -> s[n] s[n] f[n,d]?", true, NULL},
    {"head_logprob_backward", "s[n] f[n,d] f[v,d] g[v]? i[n] s[n] -> f[n,d]? p[v,d]? g[v]?", true, NULL},
    {"head_cross_entropy", "f[n,d] f[v,d] g[v]? i[n] s[n] -> s[] s[n] f[n,d]? p[v,d]? g[v]?", true, NULL},
    {"dropout", "f[.] l[1] -> f[.]", true, NULL},
    {"adamw", "f[.] p[.] s[.] s[.] F[8] -> f[.] s[.] s[.]", true, NULL},
    {"adamw8bit", "f[.] p[.] u[.] u[.] s[b] s[b] F[8] -> f[.] u[.] u[.] s[b] s[b]", true, check_adamw8bit},
    {"sgd", "f[.] p[.] s[.]? F[8] -> f[.] s[.]?", true, NULL},
    {"lion", "f[.] p[.] s[.] F[8] -> f[.] s[.]", true, NULL},
    {"assign", "f[.] g[.] -> g[.]", true, NULL},
    {"clip_scale", "f[k] F[8] -> F[8] f[]", true, NULL},
    {"check_finite", "f[] F[8] -> F[8]", false, NULL},
    {"group_sum", "*[~]+ -> *[~]+?", true, check_group_sum},
    {"group_broadcast", "*[~]+ -> *[~]+?", true, check_group},
    {"group_wait", "*[~]+ -> *[~]+?", true, check_group},
    {"group_settle", "*[~]+ -> *[~]+?", true, check_group},
};

const char *operation_name(int i) { return i >= 0 && i < (int)(sizeof table / sizeof *table) ? table[i].name : NULL; }

/* What the letters of one call stand for. */
typedef struct binding {
    crank_dtype       types[128];
    bool              typed[128];
    int64_t           dims[128];
    bool              sized[128];
    const crank_view *shape;
} binding;

static bool type_fits(binding *b, char letter, crank_dtype dtype)
{
    bool wide = b->typed['f'] && b->types['f'] == CRANK_F64;
    switch (letter) {
    case 'F': return dtype == CRANK_F32;
    case 'i': return dtype == CRANK_I32;
    case 'l': return dtype == CRANK_I64;
    case 'u': return dtype == CRANK_U8;
    case 'q': return dtype == CRANK_NF4 || dtype == CRANK_F8E4M3;
    case 'o': return dtype == CRANK_F8E4M3;
    case 'e': return dtype == CRANK_U8 || dtype == CRANK_F32;
    case '*': return dtype >= CRANK_F32 && dtype <= CRANK_U8;
    case 's': /* before f is known (a gradient that comes first) either will do */
        return dtype == CRANK_F32 || (dtype == CRANK_F64 && (wide || !b->typed['f']));
    default: break;
    }
    if (dtype < CRANK_F32 || dtype > CRANK_F64 || (letter == 'p' && dtype != CRANK_F32 && dtype != b->types['f']))
        return false;
    if (b->typed[(int)letter]) return b->types[(int)letter] == dtype;
    b->types[(int)letter] = dtype;
    return b->typed[(int)letter] = true;
}

/* dims: the text between the brackets. */
static bool dims_fit(binding *b, const char *dims, const crank_view *view)
{
    if (*dims == '~') return true;
    if (*dims == '.') {
        if (!b->shape) b->shape = view;
        return same_dims(b->shape, view);
    }
    int axis = 0;
    for (; *dims != ']'; dims++) {
        if (*dims == ',') continue;
        if (axis >= view->rank) return false;
        int64_t dim = view->dims[axis++];
        if (*dims >= '0' && *dims <= '9') {
            if (dim != *dims - '0') return false;
        } else if (!b->sized[(int)*dims]) {
            b->dims[(int)*dims] = dim;
            b->sized[(int)*dims] = true;
        } else if (b->dims[(int)*dims] != dim) return false;
    }
    return axis == view->rank;
}

static bool sane(const crank_view *view)
{
    if (view->rank > CRANK_MAX_RANK) return false;
    for (int axis = 0; axis < view->rank; axis++)
        if (view->dims[axis] < 0) return false;
    return true;
}

static bool last_stride_is_one(const crank_view *view)
{
    return view->rank == 0 || view->dims[view->rank - 1] <= 1 || view->strides[view->rank - 1] == 1;
}

/* Matches `count` views to the operands from `text` to "->" or the end. Returns the index of the first misfit (`count`
 * when some are missing), or -1. */
static int match(binding *b, const char *text, const crank_view *views, int count)
{
    int i = 0;
    while (*text && *text != '-') {
        char        letter = text[0];
        const char *dims = text + 2, *flags = strchr(dims, ']') + 1;
        size_t      marks = strcspn(flags, " ");
        bool        optional = memchr(flags, '?', marks), strided = memchr(flags, '/', marks),
             many = memchr(flags, '+', marks);
        int least = i + 1;
        do {
            if (i >= count) return i;
            const crank_view *view = &views[i];
            bool              absent = !view_present(view);
            if (absent ? !optional
                       : !sane(view) || !type_fits(b, letter, view->dtype) || !dims_fit(b, dims, view) ||
                             !(strided || last_stride_is_one(view)) ||
                             ((letter == 'q' || letter == 'o') && !crank_view_is_contiguous(view)))
                return i;
            i++;
        } while (many && i < count);
        if (i < least) return i;
        text = flags + marks;
        while (*text == ' ') text++;
    }
    return i == count ? -1 : i;
}

bool operation_fits(const char *operation, const crank_call *call, char *why, size_t size)
{
    const signature *s = table, *end = table + sizeof table / sizeof *table;
    while (s < end && strcmp(s->name, operation) != 0) s++;
    if (s == end) {
        if (why) snprintf(why, size, "there is no operation \"%s\"", operation);
        return false;
    }
    binding     b = {0};
    const char *outputs = strstr(s->operands, "->") + 3;
    int         in = match(&b, s->operands, call->in, call->inputs);
    int         out = in < 0 ? match(&b, outputs, call->out, call->outputs) : -1;
    if (in >= 0 || out >= 0) {
        if (why)
            snprintf(why, size, "%s: %s %d does not fit \"%s\" in type, dims, stride or number", operation,
                     in >= 0 ? "input" : "output", in >= 0 ? in : out, s->operands);
        return false;
    }
    if (s->attributes && !call->attributes) {
        if (why) snprintf(why, size, "%s: its attributes are missing", operation);
        return false;
    }
    if (s->check && !s->check(call)) {
        if (why) snprintf(why, size, "%s: sizes or attributes do not agree with each other", operation);
        return false;
    }
    return true;
}
