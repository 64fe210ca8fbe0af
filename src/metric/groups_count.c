/* groups_count.c - the preferences of one group, counted.
 *
 * A group of one subgroup orders all its documents by level: classes. With several, the order is partial: a matrix of bits, closed under
 * transitivity (Warshall, a row of 64 at a time). The measures named Rnonrel keep of the nonrelevant documents (level 0) as many as there
 * are relevant ones, the first in rank; in the form with classes trec_eval also counts pairs inside the nonrelevant class, and so does this. */
#include <math.h>
#include <string.h>

#include "metric/groups.h"

typedef struct group { /* what a walk over preferences needs */
    const group_line *lines;
    int64_t           n, judged, retrieved;
    uint32_t         *pairs;
} group;

/* ---- classes ---- */

typedef struct level_class { int64_t first, end; } level_class;

/* The class that starts at a line; behind the last line an empty one. */
static level_class class_from(const group *g, int64_t first)
{
    level_class c = {first, first};
    while (c.end < g->n && g->lines[c.end].level == g->lines[first].level) c.end++;
    return c;
}

static void count_pair(const group *g, int64_t a, int64_t b, group_counts *c)
{
    g->pairs[a * g->judged + b]++;
    bool first = a < g->retrieved, second = b < g->retrieved;
    if (!first && !second) c->none++;
    else if (first && second) c->possible_ret++, c->fulfilled_ret += a < b;
    else c->possible_imp++, c->fulfilled_imp += first;
}

typedef struct tally { int64_t fulfilled, failed; } tally;

/* Document a against lines [first, end) of one class, sorted by rank; ret: those that are retrieved. */
static void against(const group *g, int64_t a, int64_t first, int64_t end, bool ret, tally *t)
{
    for (int64_t j = first; j < end; j++) {
        int64_t b = g->lines[j].rank;
        if (ret && b >= g->retrieved) return;
        bool good = a < b && a < g->retrieved;
        t->fulfilled += good, t->failed += !good;
    }
}

/* Of the last class the first `kept` documents count. */
static double fewer_nonrelevant(const group *g, int64_t kept, bool ret)
{
    tally   t = {0};
    int64_t last = g->n;
    while (last > 0 && g->lines[last - 1].level == g->lines[g->n - 1].level) last--;
    for (level_class own = class_from(g, 0); own.first < g->n; own = class_from(g, own.end))
        for (int64_t i = own.first; i < own.end && (!ret || g->lines[i].rank < g->retrieved); i++) {
            for (level_class other = class_from(g, own.end); other.end <= last && other.first < last; other = class_from(g, other.end))
                against(g, g->lines[i].rank, other.first, other.end, ret, &t);
            against(g, g->lines[i].rank, last, last + kept, ret, &t);
        }
    return (double)t.fulfilled / (double)(t.fulfilled + t.failed);
}

static void count_classes(const group *g, group_counts *c)
{
    for (level_class own = class_from(g, 0); own.first < g->n; own = class_from(g, own.end))
        for (int64_t i = own.first; i < own.end; i++) {
            bool found = g->lines[i].rank < g->retrieved, rel = g->lines[i].level > 0;
            c->rel += rel, c->rel_ret += rel && found, c->nonrel += !rel, c->nonrel_ret += !rel && found;
            for (int64_t j = own.end; j < g->n; j++) count_pair(g, g->lines[i].rank, g->lines[j].rank, c);
        }
}

/* ---- a matrix ---- */

static bool bit(const uint64_t *bits, int64_t words, int64_t a, int64_t b) { return bits[a * words + b / 64] >> (b % 64) & 1; }

static void close_transitively(uint64_t *bits, int64_t words, int64_t n)
{
    for (int64_t k = 0; k < n; k++)
        for (int64_t i = 0; i < n; i++)
            for (int64_t w = 0; i != k && bit(bits, words, i, k) && w < words; w++) bits[i * words + w] |= bits[k * words + w];
}

static crank_status fill_matrix(crank_context *context, const char *path, const group *g, uint64_t *bits, int64_t words, double *level)
{
    for (int64_t i = 0; i < g->judged; i++) level[i] = -1;
    memset(bits, 0, (size_t)(g->judged * words) * sizeof *bits);
    for (int64_t i = 0; i < g->n; i++) {
        const group_line *line = g->lines + i;
        double           *known = level + line->rank;
        if ((*known > 0 && line->level == 0) || (*known == 0 && line->level > 0))
            return crank_fail(context, CRANK_BAD_DATA, "%s:%lld: document `%.*s` is level 0 in one subgroup and above 0 in another of its group", path, (long long)line->line,
                              (int)(line->doc.length < 200 ? line->doc.length : 200), line->doc.at);
        *known = line->level;
        for (int64_t j = i + 1; j < g->n && !group_name_compare(line->sub, g->lines[j].sub); j++)
            if (g->lines[j].level < line->level && g->lines[j].rank != line->rank) bits[line->rank * words + g->lines[j].rank / 64] |= UINT64_C(1) << (g->lines[j].rank % 64);
    }
    close_transitively(bits, words, g->judged);
    for (int64_t i = 0; i < g->n; i++)
        if (bit(bits, words, g->lines[i].rank, g->lines[i].rank))
            return crank_fail(context, CRANK_BAD_DATA, "%s:%lld: the group contradicts itself: document `%.*s` is preferred to itself by way of others", path, (long long)g->lines[i].line,
                              (int)(g->lines[i].doc.length < 200 ? g->lines[i].doc.length : 200), g->lines[i].doc.at);
    return CRANK_OK;
}

/* Nonrelevant documents from the (kept + 1)-th on are left out. */
static double fewer_in_matrix(const group *g, const uint64_t *bits, int64_t words, const double *level, int64_t kept, bool ret)
{
    int64_t n = ret ? g->retrieved : g->judged, cut = 0, seen = 0, fulfilled = 0, possible = 0;
    for (; cut < n; cut++)
        if (level[cut] == 0 && ++seen == kept + 1) break;
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < n; j++) {
            if ((i >= cut && level[i] == 0) || (j >= cut && level[j] == 0) || !bit(bits, words, i, j)) continue;
            possible++;
            fulfilled += i < g->retrieved && (j > i || j >= g->retrieved);
        }
    return (double)fulfilled / (double)possible;
}

static void count_matrix(const group *g, const uint64_t *bits, int64_t words, const double *level, group_counts *c)
{
    for (int64_t i = 0; i < g->judged; i++) {
        bool found = i < g->retrieved;
        c->rel += level[i] > 0, c->rel_ret += level[i] > 0 && found, c->nonrel += level[i] == 0, c->nonrel_ret += level[i] == 0 && found;
        for (int64_t j = 0; j < g->judged; j++)
            if (bit(bits, words, i, j)) count_pair(g, i, j, c);
    }
}

/* ---- both ---- */

/* With R >= N, R - N fulfilled preferences are added for each relevant document; else some nonrelevant ones are left out. */
static void even_nonrelevant(const group *g, bool classes, const uint64_t *bits, int64_t words, const double *level, group_counts *c)
{
    int64_t extra = c->rel - c->nonrel, extra_ret = c->rel_ret - c->nonrel_ret;
    if (extra >= 0)
        c->rnonrel = (double)(c->fulfilled_ret + c->fulfilled_imp + c->rel_ret * extra) / (double)(c->possible_ret + c->possible_imp + c->none + c->rel * extra);
    else
        c->rnonrel = classes ? fewer_nonrelevant(g, c->rel, false) : fewer_in_matrix(g, bits, words, level, c->rel, false);
    if (extra_ret >= 0)
        c->rnonrel_ret = (double)(c->fulfilled_ret + c->rel_ret * extra_ret) / (double)(c->possible_ret + c->rel * extra_ret);
    else
        c->rnonrel_ret = classes ? fewer_nonrelevant(g, c->rel_ret, true) : fewer_in_matrix(g, bits, words, level, c->rel, true);
}

crank_status groups_count(crank_context *context, const char *path, const group_line *lines, int64_t n, int64_t judged, int64_t retrieved, const group_space *space, group_counts *out)
{
    group        g = {lines, n, judged, retrieved, space->pairs};
    int64_t      words = (judged + 63) / 64;
    bool         classes = !group_name_compare(lines[0].sub, lines[n - 1].sub);
    crank_status status = classes ? CRANK_OK : fill_matrix(context, path, &g, space->bits, words, space->level);
    if (status != CRANK_OK) return status;
    if (classes) count_classes(&g, out);
    else count_matrix(&g, space->bits, words, space->level, out);
    even_nonrelevant(&g, classes, space->bits, words, space->level, out);
    return CRANK_OK;
}
