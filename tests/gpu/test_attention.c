/* GPU attention equals the plain one: packed segments, empty ones, tokens outside of all, masks, windows, grouped heads, odd head sizes,
 * slices of one buffer, caches; every float type. */
#include "gpu_check.h"

static pair p;

/* Relative norm: a probability or a score's derivative is rounded to 16 bits between the products. */
static double tolerance(crank_dtype type) { return type == CRANK_F64 ? 1e-11 : type == CRANK_F32 ? 1e-5 : type == CRANK_F16 ? 2e-3 : 1.2e-2; }

typedef struct shape {
    int64_t         n, hq, hk, d, gap; /* gap: elements between the rows of q, k and v beyond what they need; -1: slices of one buffer */
    crank_mask_kind mask;
    int64_t         window;
    int             lengths[8]; /* of the segments after `skip` tokens; -1 ends */
    int64_t         skip;
    double          range;
    int             many, most; /* instead of `lengths`: so many segments of 0 to `most` tokens */
} shape;

enum { MANY = 512 };

static int length_of(const shape *s, int i)
{
    if (s->many) return i < s->many ? (i * 37 + 11) % (s->most + 1) : -1;
    return i < 8 ? s->lengths[i] : -1;
}

static crank_view segments_of(const shape *s)
{
    double  first[MANY + 1];
    int64_t count = 0, token = s->skip;
    first[count++] = (double)token;
    for (int i = 0; length_of(s, i) >= 0; i++) first[count++] = (double)(token += length_of(s, i));
    return given(&p.b, CRANK_I32, first, DIMS(count));
}

static int64_t longest_of(const shape *s)
{
    int64_t longest = 0;
    for (int i = 0; length_of(s, i) >= 0; i++) longest = length_of(s, i) > longest ? length_of(s, i) : longest;
    return longest;
}

/* q, k, v, and views of the same layout for their gradients when asked: slices of [n, hq + 2 hk, d], or rows with gaps. */
static void operands(const shape *s, crank_dtype type, crank_view qkv[3])
{
    int64_t h[3] = {s->hq, s->hk, s->hk};
    if (s->gap < 0) {
        crank_view whole = draw_into(&p.b, fresh(&p.b, type, DIMS(s->n, s->hq + 2 * s->hk, s->d)), -s->range, s->range);
        for (int k = 0, head = 0; k < 3; head += (int)h[k++]) {
            qkv[k] = whole;
            qkv[k].dims[1] = h[k];
            qkv[k].data = (char *)whole.data + (size_t)(head * s->d) * crank_dtype_bits(type) / 8;
        }
        return;
    }
    for (int k = 0; k < 3; k++) qkv[k] = drawn_rows(&p, type, s->gap, -s->range, s->range, DIMS(s->n, h[k], s->d));
}

/* `longest` of the attributes: 0, or what the caller knows (bodies may differ). */
static void compare_both(const shape *s, crank_dtype type, int64_t longest, bool backward)
{
    crank_attention_attributes a = {.mask = s->mask, .window = s->window, .scale = 1 / sqrt((double)s->d), .longest = longest};
    crank_view qkv[3], segments = segments_of(s), o = fresh_rows(&p.b, type, s->gap > 0 ? s->gap : 0, DIMS(s->n, s->hq, s->d));
    crank_view lse = fresh_rows(&p.b, type == CRANK_F64 ? CRANK_F64 : CRANK_F32, s->gap > 0 ? 3 : 0, DIMS(s->hq, s->n));
    operands(s, type, qkv);
    compare(&p, "attention", VIEWS(qkv[0], qkv[1], qkv[2], segments), VIEWS(o, lse), &a, tolerance(type));
    if (!backward) return;
    crank_view dout = drawn_rows(&p, type, s->gap > 0 ? s->gap : 0, -1, 1, DIMS(s->n, s->hq, s->d)), grads[3];
    for (int k = 0; k < 3; k++) grads[k] = fresh_rows(&p.b, type, s->gap > 0 ? s->gap : 0, DIMS(s->n, qkv[k].dims[1], s->d));
    compare(&p, "attention_backward", VIEWS(dout, qkv[0], qkv[1], qkv[2], o, lse, segments), VIEWS(grads[0], grads[1], grads[2]), &a,
            tolerance(type));
}

static const shape shapes[] = {
    {1, 1, 1, 8, 0, CRANK_MASK_CAUSAL, 0, {1, -1}, 0, 1, 0, 0},
    {203, 2, 2, 64, 0, CRANK_MASK_CAUSAL, 0, {65, 1, 0, 7, 130, -1}, 0, 1, 0, 0},
    {128, 2, 1, 48, 0, CRANK_MASK_NONE, 0, {63, 63, 2, -1}, 0, 1, 0, 0},
    {285, 6, 2, 32, 8, CRANK_MASK_CAUSAL, 0, {257, 20, -1}, 3, 2, 0, 0},
    {300, 4, 1, 64, -1, CRANK_MASK_CAUSAL, 0, {0, 300, 0, -1}, 0, 1, 0, 0},
    {260, 4, 2, 128, -1, CRANK_MASK_CAUSAL, 0, {131, 129, -1}, 0, 1, 0, 0},
    {200, 2, 2, 128, -1, CRANK_MASK_NONE, 0, {200, -1}, 0, 1, 0, 0},
    {161, 3, 1, 96, -1, CRANK_MASK_NONE, 0, {150, 11, -1}, 0, 2, 0, 0},
    {98, 4, 4, 63, 1, CRANK_MASK_NONE, 0, {33, 0, 0, 65, -1}, 0, 1, 0, 0},
    {161, 3, 1, 65, 2, CRANK_MASK_CAUSAL, 9, {150, 11, -1}, 0, 1, 0, 0},
    {205, 2, 2, 16, 0, CRANK_MASK_NONE, 40, {200, 5, -1}, 0, 1, 0, 0},
    {290, 2, 2, 64, 0, CRANK_MASK_CAUSAL, 100, {280, 10, -1}, 0, 1, 0, 0},
    {290, 2, 1, 128, 0, CRANK_MASK_NONE, 70, {280, 10, -1}, 0, 1, 0, 0},
    {60, 2, 2, 80, 0, CRANK_MASK_CAUSAL, 1, {30, 30, -1}, 0, 1, 0, 0},
    {40, 1, 1, 1, 0, CRANK_MASK_CAUSAL, 0, {40, -1}, 0, 1, 0, 0},
    {37, 2, 1, 7, 3, CRANK_MASK_NONE, 0, {20, 9, -1}, 1, 1, 0, 0},
    {270, 1, 1, 128, 0, CRANK_MASK_CAUSAL, 0, {270, -1}, 0, 4, 0, 0},
    {65, 2, 2, 257, 0, CRANK_MASK_CAUSAL, 0, {65, -1}, 0, 1, 0, 0},
    {130, 2, 1, 256, 0, CRANK_MASK_CAUSAL, 0, {100, 20, -1}, 4, 1, 0, 0},
    {280, 8, 1, 24, 0, CRANK_MASK_CAUSAL, 110, {280, -1}, 0, 1, 0, 0},
    {37, 100, 1, 8, 0, CRANK_MASK_CAUSAL, 0, {7, 30, -1}, 0, 1, 0, 0},
    {5, 2, 2, 96, 0, CRANK_MASK_CAUSAL, 0, {-1}, 0, 1, 0, 0},
    {70, 2, 2, 40, 0, CRANK_MASK_NONE, 0, {0, 30, 0, 0, -1}, 20, 1, 0, 0},
};
enum { SHAPES = sizeof shapes / sizeof *shapes };

enum { LONG = 260 }; /* as a bound of the segments it makes the bodies for long ones serve */

/* One token that sees itself alone has gradients of zero, which no relative norm can hold: the forward pass alone. */
static bool degenerate(const shape *s) { return s->n <= 5 || s->window == 1; }

static void attention_of_chosen_shapes(void **state)
{
    (void)state;
    for (int i = 0; i < SHAPES; i++)
        for (int t = 0; t < FLOAT_TYPES; t++) {
            int mark = p.b.count;
            print_message("shape %d %s\n", i, crank_dtype_name(float_types[t]));
            compare_both(&shapes[i], float_types[t], 0, !degenerate(&shapes[i]));
            pair_forget(&p, mark);
            for (int more = 0; more <= LONG && float_types[t] == CRANK_BF16; more += LONG) {
                compare_both(&shapes[i], CRANK_BF16, longest_of(&shapes[i]) + more, !degenerate(&shapes[i]));
                pair_forget(&p, mark);
            }
        }
}

static void attention_of_drawn_shapes(void **state)
{
    (void)state;
    for (int i = 0; i < 48; i++) {
        static const int64_t head_sizes[] = {8, 16, 32, 40, 64, 64, 72, 96, 128, 128, 17, 100};
        static const int64_t gaps[] = {-1, -1, 0, 8, 8, 3};
        shape                s = {.hk = chosen(&p, 1, 3), .d = head_sizes[chosen(&p, 0, 11)], .gap = gaps[chosen(&p, 0, 5)], .range = 1};
        int                  mark = p.b.count, count = (int)chosen(&p, 1, 5), longest = 0;
        s.hq = s.hk * chosen(&p, 1, s.hk == 1 ? 8 : 3);
        s.mask = chosen(&p, 0, 2) ? CRANK_MASK_CAUSAL : CRANK_MASK_NONE;
        s.window = chosen(&p, 0, 3) ? 0 : chosen(&p, 2, 200);
        s.skip = chosen(&p, 0, 3) ? 0 : chosen(&p, 1, 20);
        s.n = s.skip + (chosen(&p, 0, 3) ? 0 : chosen(&p, 1, 20));
        for (int k = 0; k < 8; k++) s.lengths[k] = -1;
        for (int k = 0; k < count; k++) {
            int length = chosen(&p, 0, 4) ? (int)chosen(&p, 1, 110) : k ? 0 : (int)chosen(&p, 100, 200);
            s.n += s.lengths[k] = length;
            if (length > longest) longest = length;
        }
        crank_dtype type = float_types[chosen(&p, 0, 6) % 4]; /* more of the 16-bit types */
        print_message("drawn %d: n %d heads %d:%d d %d gap %d mask %d window %d segments %d skip %d %s\n", i, (int)s.n, (int)s.hq, (int)s.hk, (int)s.d,
                      (int)s.gap, (int)s.mask, (int)s.window, count, (int)s.skip, crank_dtype_name(type));
        compare_both(&s, type, i % 4 ? longest + LONG : 0, longest > 8);
        pair_forget(&p, mark);
    }
}

/* ---- longer rows: 16-bit kernels against the f64 kernel on the same card ---- */

typedef struct on_card {
    mirror list[MIRRORS];
    int    count;
} on_card;

static crank_view sent(on_card *card, const crank_view *view) { return mirrored(&p, card->list, &card->count, view); }

static crank_view received(const crank_view *view)
{
    crank_view here = *view;
    here.data = bench_memory(&p.b, bytes_of(view));
    assert_ok(p.b.context, p.gpu->download(p.b.context, p.gpu, here.data, view->data, bytes_of(view)));
    return here;
}

static void card_run(const char *operation, const crank_view *in, int inputs, const crank_view *out, int outputs, const void *attributes)
{
    if (crank_run_once(p.b.context, p.gpu, operation, in, inputs, out, outputs, attributes) != CRANK_OK)
        fail_msg("%s: %s", operation, crank_message(p.b.context));
}

enum { BEHIND = 320 }; /* rows of NaN behind the last token */

/* q, k, v of `from` (or memory for their gradients when it is NULL) with rows of NaN behind them: slices of one buffer when s->gap < 0. */
static void three_on_card(on_card *card, const shape *s, crank_dtype type, const crank_view *from, crank_view three[3], crank_view *whole)
{
    int64_t h[3] = {s->hq, s->hk, s->hk}, all = s->hq + 2 * s->hk, width = (int64_t)crank_dtype_bits(type) / 8;
    for (int k = 0, head = 0; k < 3; head += (int)h[k++]) {
        if (s->gap >= 0 || k == 0) whole[k] = fresh(&p.b, type, DIMS(s->n + BEHIND, s->gap < 0 ? all : h[k], s->d));
        three[k] = whole[s->gap < 0 ? 0 : k];
        three[k].dims[0] = s->n, three[k].dims[1] = h[k];
        if (s->gap < 0) three[k].data = (char *)three[k].data + head * s->d * width;
        for (int64_t i = 0; from && i < crank_view_count(&from[k]); i++) set(&three[k], i, value(&from[k], i));
    }
    for (int k = 0; k < (s->gap < 0 ? 1 : 3); k++) {
        crank_view there = sent(card, &whole[k]);
        for (int j = 0, head = 0; j < 3; head += (int)h[j++]) {
            if (s->gap >= 0 && j != k) continue;
            three[j].data = (char *)there.data + (s->gap < 0 ? head * s->d * width : 0);
        }
        whole[k] = there;
    }
}

/* The rows behind the last token are as they were. */
static void assert_nothing_behind(const shape *s, const crank_view *whole)
{
    crank_view here = received(whole);
    size_t     row = (size_t)whole->strides[0] * crank_dtype_bits(whole->dtype) / 8;
    for (size_t i = (size_t)s->n * row; i < (size_t)(s->n + BEHIND) * row; i++)
        if (((unsigned char *)here.data)[i] != 0xff) fail_msg("row %zu of %d was written", i / row, (int)s->n);
}

/* q, k, v and do of `from` cast to a type -> o, lse, dq, dk, dv, by way of the card. */
static void whole_pass(const shape *s, crank_dtype type, const crank_view from[4], const crank_attention_attributes *a, crank_view got[5])
{
    on_card    card = {.count = 0};
    crank_view in[3], grads[3], whole[8], segments = segments_of(s), there = sent(&card, &segments);
    three_on_card(&card, s, type, from, in, whole);
    three_on_card(&card, s, type, NULL, grads, whole + 3);
    crank_view dout = fresh(&p.b, type, DIMS(s->n + BEHIND, s->hq, s->d)), o = fresh(&p.b, type, DIMS(s->n + BEHIND, s->hq, s->d));
    crank_view lse = fresh(&p.b, type == CRANK_F64 ? CRANK_F64 : CRANK_F32, DIMS(s->hq, s->n)), lse_there = sent(&card, &lse);
    crank_convert(dout.data, type, from[3].data, from[3].dtype, (size_t)crank_view_count(&from[3]));
    dout = sent(&card, &dout), whole[6] = o = sent(&card, &o);
    dout.dims[0] = o.dims[0] = s->n;
    card_run("attention", VIEWS(in[0], in[1], in[2], there), VIEWS(o, lse_there), a);
    card_run("attention_backward", VIEWS(dout, in[0], in[1], in[2], o, lse_there, there), VIEWS(grads[0], grads[1], grads[2]), a);
    got[0] = received(&o), got[1] = received(&lse_there);
    for (int k = 0; k < 3; k++) got[2 + k] = received(&grads[k]);
    for (int k = 3; k < 7; k++)
        if (k < 4 || k == 6 || s->gap >= 0) assert_nothing_behind(s, &whole[k]);
    for (int i = 0; i < card.count; i++) p.gpu->free(p.gpu, card.list[i].device);
}

static bool same_values(const crank_view *a, const crank_view *b)
{
    for (int64_t i = 0; i < crank_view_count(a); i++)
        if (value(a, i) != value(b, i)) return false;
    return true;
}

/* 16-bit kernels against the f64 kernel on the same card */
static void compare_on_card(const shape *s, crank_dtype type, int64_t longest, const char *what, int number)
{
    static const char *const names[5] = {"o", "lse", "dq", "dk", "dv"};
    int        mark = p.b.count;
    int64_t    h[4] = {s->hq, s->hk, s->hk, s->hq};
    crank_view drawn16[4], want[5], got[5], again[5];
    char       line[256] = "";
    for (int k = 0; k < 4; k++) drawn16[k] = drawn(&p.b, type, -s->range, s->range, DIMS(s->n, h[k], s->d));
    crank_attention_attributes a = {.mask = s->mask, .window = s->window, .scale = 1 / sqrt((double)s->d), .longest = longest};
    whole_pass(s, CRANK_F64, drawn16, &a, want);
    whole_pass(s, type, drawn16, &a, got);
    whole_pass(s, type, drawn16, &a, again);
    for (int k = 0; k < 5; k++) { /* a star: other bits the second time */
        double error = distance(&got[k], &want[k]);
        snprintf(line + strlen(line), sizeof line - strlen(line), "  %s %.2e%s", names[k], error, same_values(&got[k], &again[k]) ? "" : "*");
        if (!(error <= (k == 1 ? 1e-5 : tolerance(type)))) fail_msg("%s %d %s: %s is off by %g", what, number, crank_dtype_name(type), names[k], error);
    }
    print_message("%s %d %s:%s\n", what, number, crank_dtype_name(type), line);
    pair_forget(&p, mark);
}

static void many_short_rows_in_sixteen_bits(void **state)
{
    (void)state;
    static const struct { int64_t hq, hk, d; crank_mask_kind mask; int64_t window; int many, most; } cases[] = {
        {12, 12, 32, CRANK_MASK_NONE, 0, 100, 128}, {6, 3, 64, CRANK_MASK_CAUSAL, 0, 100, 128}, {4, 4, 64, CRANK_MASK_NONE, 0, 70, 256},
        {4, 4, 24, CRANK_MASK_CAUSAL, 0, 70, 256},  {2, 2, 96, CRANK_MASK_CAUSAL, 50, 90, 128}, {4, 2, 128, CRANK_MASK_NONE, 30, 90, 128},
        {4, 4, 32, CRANK_MASK_NONE, 0, 300, 30},    {9, 3, 56, CRANK_MASK_CAUSAL, 0, 60, 200},  {3, 3, 80, CRANK_MASK_NONE, 0, 50, 100},
    };
    for (int i = 0; i < (int)(sizeof cases / sizeof *cases); i++) {
        shape s = {.hq = cases[i].hq, .hk = cases[i].hk, .d = cases[i].d, .mask = cases[i].mask, .window = cases[i].window, .skip = 5, .range = 1,
                   .many = cases[i].many, .most = cases[i].most, .n = 5 + 3};
        for (int k = 0; k < s.many; k++) s.n += length_of(&s, k);
        compare_on_card(&s, CRANK_BF16, longest_of(&s), "many", i);
        compare_on_card(&s, CRANK_F16, longest_of(&s), "many", i);
    }
}

static void long_rows_in_sixteen_bits(void **state)
{
    (void)state;
    static const shape long_shapes[] = {
        {2000, 8, 2, 64, 0, CRANK_MASK_CAUSAL, 0, {700, 1300, -1}, 0, 1, 0, 0},  {2000, 4, 4, 64, 0, CRANK_MASK_NONE, 0, {700, 1300, -1}, 0, 1, 0, 0},
        {2100, 8, 2, 128, 0, CRANK_MASK_CAUSAL, 0, {1, 2050, 49, -1}, 0, 1, 0, 0}, {1100, 4, 2, 128, 0, CRANK_MASK_NONE, 0, {1100, -1}, 0, 1, 0, 0},
        {1500, 4, 2, 96, 0, CRANK_MASK_CAUSAL, 0, {1500, -1}, 0, 1, 0, 0},       {1500, 12, 12, 32, 0, CRANK_MASK_NONE, 0, {128, 128, 300, 944, -1}, 0, 1, 0, 0},
        {1500, 4, 2, 80, 0, CRANK_MASK_CAUSAL, 300, {1500, -1}, 0, 1, 0, 0},     {1400, 4, 1, 64, 0, CRANK_MASK_NONE, 130, {100, 1300, -1}, 0, 3, 0, 0},
        {1024, 4, 1, 128, 0, CRANK_MASK_CAUSAL, 0, {512, 512, -1}, 0, 4, 0, 0},    {1600, 6, 2, 64, 0, CRANK_MASK_CAUSAL, 0, {900, 0, 600, -1}, 70, 2, 0, 0},
    };
    for (int i = 0; i < (int)(sizeof long_shapes / sizeof *long_shapes); i++) {
        compare_on_card(&long_shapes[i], CRANK_BF16, longest_of(&long_shapes[i]), "long", i);
        compare_on_card(&long_shapes[i], CRANK_F16, longest_of(&long_shapes[i]), "long", i);
    }
}

/* Lengths, heads and layouts drawn; the bodies for long segments serve all of them. */
static void drawn_rows_in_sixteen_bits(void **state)
{
    (void)state;
    for (int i = 0; i < 40; i++) {
        static const int64_t head_sizes[] = {16, 32, 48, 64, 64, 64, 96, 128, 128, 80};
        shape s = {.hk = chosen(&p, 1, 4), .d = head_sizes[chosen(&p, 0, 9)], .gap = chosen(&p, 0, 1) - 1, .range = chosen(&p, 0, 3) ? 1 : 3};
        int   count = (int)chosen(&p, 1, 6);
        s.hq = s.hk * chosen(&p, 1, 8);
        s.mask = chosen(&p, 0, 1) ? CRANK_MASK_CAUSAL : CRANK_MASK_NONE;
        s.skip = chosen(&p, 0, 2) ? 0 : chosen(&p, 1, 40);
        s.n = s.skip + (chosen(&p, 0, 2) ? 0 : chosen(&p, 1, 40));
        for (int k = 0; k < 8; k++) s.lengths[k] = -1;
        for (int k = 0; k < count; k++) s.n += s.lengths[k] = chosen(&p, 0, 3) ? (int)chosen(&p, 2, 300) : k ? 0 : (int)chosen(&p, 300, 700);
        print_message("rows %d: n %d heads %d:%d d %d gap %d mask %d segments %d skip %d longest %d\n", i, (int)s.n, (int)s.hq, (int)s.hk, (int)s.d,
                      (int)s.gap, (int)s.mask, count, (int)s.skip, (int)longest_of(&s));
        compare_on_card(&s, i % 3 ? CRANK_BF16 : CRANK_F16, longest_of(&s) + LONG, "rows", i);
    }
}

static void bits_repeat_in_deterministic_mode(void **state)
{
    (void)state;
    pair kept = p;
    p = pair_open(true);
    static const shape s = {1800, 8, 2, 64, 0, CRANK_MASK_CAUSAL, 0, {500, 1300, -1}, 0, 1, 0, 0};
    crank_attention_attributes a = {.mask = s.mask, .scale = 0.125, .longest = 1300};
    crank_view                 drawn16[4], once[5], again[5];
    int64_t                    h[4] = {s.hq, s.hk, s.hk, s.hq};
    for (int k = 0; k < 4; k++) drawn16[k] = drawn(&p.b, CRANK_BF16, -1, 1, DIMS(s.n, h[k], s.d));
    whole_pass(&s, CRANK_BF16, drawn16, &a, once);
    for (int run = 0; run < 5; run++) {
        int mark = p.b.count;
        whole_pass(&s, CRANK_BF16, drawn16, &a, again);
        for (int k = 0; k < 5; k++) assert_memory_equal(once[k].data, again[k].data, bytes_of(&once[k]));
        pair_forget(&p, mark);
    }
    pair_close(&p);
    p = kept;
}

/* Runs `operation` as a graph does: at once, then inside a capture. Its workspace is freed by the caller after the launches. */
static void *queued(const char *operation, const crank_view *in, int inputs, const crank_view *out, int outputs, const void *attributes)
{
    void *slot = NULL;
    void (*slot_free)(void *) = NULL;
    crank_call call = {.device = p.gpu, .in = in, .inputs = inputs, .out = out, .outputs = outputs, .attributes = attributes, .slot = &slot,
                       .slot_free = &slot_free};
    crank_body body;
    assert_true(p.gpu->find(p.gpu, operation, &call, &body));
    call.workspace = p.gpu->alloc(p.b.context, p.gpu, body.workspace ? body.workspace : 1, operation);
    assert_non_null(call.workspace);
    assert_ok(p.b.context, body.run(p.b.context, &call));
    assert_ok(p.b.context, p.gpu->synchronize(p.b.context, p.gpu));
    assert_ok(p.b.context, p.gpu->capture_begin(p.b.context, p.gpu));
    assert_ok(p.b.context, body.run(p.b.context, &call));
    assert_null(slot_free);
    return call.workspace;
}

static void a_captured_run_gives_what_an_immediate_one_gives(void **state)
{
    (void)state;
    static const shape s = {700, 4, 2, 64, 0, CRANK_MASK_CAUSAL, 0, {300, 0, 400, -1}, 0, 1, 0, 0};
    for (int64_t longest = 0; longest <= 400; longest += 400) {
        crank_attention_attributes a = {.mask = s.mask, .scale = 0.125, .longest = longest};
        on_card    card = {.count = 0};
        crank_view from[3], x[3], whole[3], segments = segments_of(&s), at = sent(&card, &segments), lse = fresh(&p.b, CRANK_F32, DIMS(s.hq, s.n));
        operands(&s, CRANK_BF16, from);
        three_on_card(&card, &s, CRANK_BF16, from, x, whole);
        crank_view q = x[0], k = x[1], v = x[2], lse_first = sent(&card, &lse), host = fresh(&p.b, CRANK_BF16, DIMS(s.n + BEHIND, s.hq, s.d));
        crank_view first = sent(&card, &host), host2 = fresh(&p.b, CRANK_BF16, DIMS(s.n + BEHIND, s.hq, s.d)), second = sent(&card, &host2);
        first.dims[0] = second.dims[0] = s.n;
        void      *program = NULL;
        card_run("attention", VIEWS(q, k, v, at), VIEWS(first, lse_first), &a);
        void *workspace = queued("attention", VIEWS(q, k, v, at), VIEWS(second, lse_first), &a);
        assert_ok(p.b.context, p.gpu->capture_end(p.b.context, p.gpu, &program));
        for (int i = 0; i < 2; i++) assert_ok(p.b.context, p.gpu->launch(p.b.context, p.gpu, program));
        crank_view want = received(&first), got = received(&second);
        assert_memory_equal(want.data, got.data, bytes_of(&want));
        p.gpu->program_free(p.gpu, program);
        p.gpu->free(p.gpu, workspace);
        for (int i = 0; i < card.count; i++) p.gpu->free(p.gpu, card.list[i].device);
    }
}

static void attention_against_a_cache(void **state)
{
    (void)state;
    for (int i = 0; i < 60; i++) {
        static const int64_t head_sizes[] = {8, 64, 64, 128, 96, 17, 256, 40};
        static const int64_t queries[] = {1, 1, 1, 2, 5, 9, 70, 140};
        int64_t     d = head_sizes[chosen(&p, 0, 7)], n = queries[chosen(&p, 0, 7)], hk = chosen(&p, 1, 3), hq = hk * chosen(&p, 1, 9);
        int64_t     rows = n + chosen(&p, 0, 300), position = chosen(&p, 0, rows - n), gap = chosen(&p, 0, 2) ? 0 : chosen(&p, 0, 1) ? 8 : 5;
        crank_dtype type = float_types[i % FLOAT_TYPES];
        int         mark = p.b.count;
        crank_attention_attributes a = {.mask = CRANK_MASK_CAUSAL, .window = chosen(&p, 0, 3) ? 0 : chosen(&p, 1, 200), .scale = 1 / sqrt((double)d)};
        crank_view  q = drawn_rows(&p, type, gap, -1, 1, DIMS(n, hq, d)), k = drawn_rows(&p, type, gap, -1, 1, DIMS(rows, hk, d));
        crank_view  v = drawn_rows(&p, type, gap, -1, 1, DIMS(rows, hk, d)), o = fresh_rows(&p.b, type, gap, DIMS(n, hq, d));
        crank_view  at = given(&p.b, CRANK_I32, (const double[]){(double)position}, DIMS(1));
        print_message("cached %d: n %d heads %d:%d d %d position %d of %d window %d gap %d %s\n", i, (int)n, (int)hq, (int)hk, (int)d, (int)position,
                      (int)rows, (int)a.window, (int)gap, crank_dtype_name(type));
        compare(&p, "attention_cached", VIEWS(q, k, v, at), VIEWS(o), &a, tolerance(type));
        crank_view x = drawn_rows(&p, type, gap, -1, 1, DIMS(n, hk, d));
        compare(&p, "cache_write", VIEWS(x, at, k), VIEWS(k), NULL, 0);
        pair_forget(&p, mark);
    }
}

/* usage: test_gpu_attention [pattern of the tests to run] */
int main(int count, char **words)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(attention_of_chosen_shapes),
        cmocka_unit_test(attention_of_drawn_shapes),
        cmocka_unit_test(long_rows_in_sixteen_bits),
        cmocka_unit_test(drawn_rows_in_sixteen_bits),
        cmocka_unit_test(many_short_rows_in_sixteen_bits),
        cmocka_unit_test(bits_repeat_in_deterministic_mode),
        cmocka_unit_test(a_captured_run_gives_what_an_immediate_one_gives),
        cmocka_unit_test(attention_against_a_cache),
    };
    if (count > 1) cmocka_set_test_filter(words[1]);
    p = pair_open(false);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    pair_close(&p);
    return failed;
}
