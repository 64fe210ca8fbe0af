/* packs.c - first fit of sorted rows, and the sizes of recorded shapes. */
#include "task/packs.h"

#include <string.h>

/* The largest length <= n of which a row is left, 0: none. below[n] is n itself while rows of that length are left; else a smaller
 * length, and paths are cut short as they are walked. */
static int64_t left_at_most(int64_t *below, int64_t n)
{
    int64_t root = n;
    while (below[root] != root) root = below[root];
    while (below[n] != root) {
        int64_t next = below[n];
        below[n] = root;
        n = next;
    }
    return root;
}

/* Rows by falling length, equal ones by number; at[length + 1] is where the rows of `length` end, at[length] where they begin in
 * rising order of length. */
static void count_lengths(const int64_t *lengths, int64_t rows, int64_t longest, int64_t *at)
{
    memset(at, 0, (size_t)(longest + 2) * sizeof *at);
    for (int64_t i = 0; i < rows; i++) at[lengths[i] + 1]++;
    for (int64_t n = 0; n <= longest; n++) at[n + 1] += at[n];
}

typedef struct shelf {
    int64_t *sorted;     /* rows by rising length */
    int64_t *next, *end; /* [longest + 1] places in `sorted` of the rows of a length that are left */
    int64_t *below;
} shelf;

static void fill(const shelf *s, int64_t longest, int64_t rows, int64_t tokens, pack_list *out)
{
    int64_t placed = 0;
    while (placed < rows) {
        int64_t most = left_at_most(s->below, longest);
        pack   *p = &out->packs[out->count++];
        *p = (pack){.first = placed, .longest = most};
        int64_t room = tokens > most ? tokens : most;
        for (int64_t n = most; n > 0; n = left_at_most(s->below, n < room - p->tokens ? n : room - p->tokens)) {
            out->order[placed++] = s->sorted[s->next[n]++];
            p->tokens += n;
            p->rows++;
            if (s->next[n] == s->end[n]) s->below[n] = n - 1;
        }
    }
}

crank_status packs_make(crank_context *context, const int64_t *lengths, int64_t rows, int64_t tokens, pack_list *out)
{
    int64_t longest = 0;
    *out = (pack_list){0};
    for (int64_t i = 0; i < rows; i++) {
        if (lengths[i] < 1) return crank_fail(context, CRANK_USAGE, "row %lld has no token", (long long)i + 1);
        if (lengths[i] > longest) longest = lengths[i];
    }
    size_t   sizes = (size_t)longest + 2;
    int64_t *room = crank_alloc(context, 4 * sizes + (size_t)rows, sizeof *room, "packs of rows");
    out->order = crank_alloc(context, (size_t)rows + 1, sizeof *out->order, "packs of rows");
    out->packs = crank_alloc(context, (size_t)rows + 1, sizeof *out->packs, "packs of rows");
    if (!room || !out->order || !out->packs) {
        crank_free(room);
        packs_free(out);
        return CRANK_FAILED;
    }
    shelf    s = {.next = room, .end = room + sizes, .below = room + 2 * sizes, .sorted = room + 4 * sizes};
    int64_t *at = room + 3 * sizes;
    count_lengths(lengths, rows, longest, at);
    memcpy(s.next, at, sizes * sizeof *at);
    for (int64_t i = 0; i < rows; i++) s.sorted[s.next[lengths[i]]++] = i;
    for (int64_t n = 0; n <= longest; n++) {
        s.next[n] = at[n];
        s.end[n] = at[n + 1];
        s.below[n] = n && s.next[n] == s.end[n] ? n - 1 : n;
    }
    fill(&s, longest, rows, tokens, out);
    crank_free(room);
    return CRANK_OK;
}

void packs_free(pack_list *list)
{
    crank_free(list->order), crank_free(list->packs);
    *list = (pack_list){0};
}

/* ---- shapes ---- */

static int64_t rounded_up(int64_t n, int64_t step) { return (n + step - 1) / step * step; }

/* The next number of at most `bits` + 1 leading binary digits: at most 1 / 2^bits more. */
static int64_t few_digits(int64_t n, int bits)
{
    int64_t step = 1;
    while (n >> bits > 2 * step - 1) step *= 2;
    return rounded_up(n, step);
}

pack_shape packs_shape(const pack *one, int64_t tokens)
{
    enum { GRAIN = 64, STEPS = 32 }; /* a full list's packs have at most STEPS sizes */
    int64_t    step = rounded_up((tokens + STEPS - 1) / STEPS, GRAIN);
    pack_shape shape = {.tokens = one->tokens == tokens ? tokens : rounded_up(one->tokens, step), .longest = few_digits(one->longest, 2)};
    if (shape.longest < 32) shape.longest = 32;
    int64_t empty = shape.tokens - one->tokens;
    shape.sequences = few_digits(one->rows + rounded_up(empty, shape.longest) / shape.longest, 2);
    return shape;
}
