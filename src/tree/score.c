/* score.c - rows through the layout of score.h: tiles of 64 as masks, or one row through eight trees abreast. */
#include "tree/score.h"

#include "tree/bins.h"

enum { ABREAST = 8, BLOCK = 16, MOST_TILES = 8, TILE_MEMORY = 1 << 18 };

static score_masks *best_body(void)
{
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq"))
        return score_masks_avx512;
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? score_masks_avx2 : score_masks_plain;
}

/* ---- inputs ---- */

static inline float prepared(float x, score_missing missing)
{
    switch (missing) {
    case MISSING_AS_ZERO: return isnan(x) ? 0 : x;
    case NAN_LEFT: return isnan(x) ? -INFINITY : x;
    case ZERO_LEFT: return !(fabsf(x) > ZERO_THRESHOLD) ? -INFINITY : x;
    case ZERO_RIGHT: return !(fabsf(x) > ZERO_THRESHOLD) ? NAN : x;
    default: return x;
    }
}

/* Rows first .. first + n (at most 64) -> value [inputs, 64] */
static void fill_values(const scorer *s, const crank_tree_data *data, int64_t first, int n, float *value)
{
    float absent = data->dense || data->absent_missing ? NAN : 0;
    for (int32_t k = 0; k < s->inputs; k++) {
        float       *v = value + (int64_t)k * SCORE_TILE;
        int32_t      column = s->input[k].column;
        const float *x = data->dense && column < data->columns ? data->dense + first * data->columns + column : NULL;
        for (int i = 0; i < n; i++) v[i] = x ? x[i * data->columns] : absent;
        for (int i = n; i < SCORE_TILE; i++) v[i] = 0;
    }
    for (int i = 0; !data->dense && i < n; i++)
        for (int64_t k = data->starts[first + i]; k < data->starts[first + i + 1]; k++)
            for (int32_t in = data->indices[k] < s->columns && data->indices[k] < data->columns ? s->of_column[data->indices[k]] : -1; in >= 0; in = s->input[in].next)
                value[(int64_t)in * SCORE_TILE + i] = data->values[k];
    for (int32_t k = 0; k < s->inputs; k++) {
        score_missing missing = s->input[k].missing;
        float        *v = value + (int64_t)k * SCORE_TILE;
        if (missing != NAN_RIGHT && missing != CATEGORY)
            for (int i = 0; i < SCORE_TILE; i++) v[i] = prepared(v[i], missing);
    }
}

static void fill_bytes(const scorer *s, bins_search *search, const float *value, uint8_t *bytes)
{
    for (int32_t p = 0; p < s->planes; p++) {
        const score_plane *plane = &s->plane[p];
        search(value + (int64_t)plane->input * SCORE_TILE, 1, SCORE_TILE, plane->cut, plane->cuts + 1, 255, bytes + (int64_t)p * SCORE_TILE);
    }
}

/* ---- walking ---- */

typedef struct lane {
    const walk_node *root;
    const float     *value;
    int32_t          inner;  /* nodes that are no leaves */
} lane;

/* All lanes from their roots to leaves -> at: leaves - 1 + number of the leaf. stride: between inputs */
static inline __attribute__((always_inline)) void walk(const scorer *s, const lane *lanes, int64_t stride, int32_t depth, const bool sets, int32_t *at)
{
    for (int l = 0; l < ABREAST; l++) at[l] = 0;
    for (int32_t d = 0; d < depth; d++) {
        int inner = 0;
        for (int l = 0; l < ABREAST; l++) {
            const walk_node *node = &lanes[l].root[at[l]];
            if (sets && node->input <= NODE_IS_SET) {
                const score_set *set = &s->set[NODE_IS_SET - node->input];
                at[l] = set_has(s, set, lanes[l].value[set->input * stride]) ? node->left : node->right;
            } else
                at[l] = lanes[l].value[node->input * stride] <= node->cut ? node->left : node->right;
            inner += at[l] < lanes[l].inner;
        }
        if (inner == 0) break;
    }
}

static void walk_lanes(const scorer *s, const lane *lanes, int64_t stride, int32_t depth, bool sets, int32_t *at)
{
    if (sets) walk(s, lanes, stride, depth, true, at);
    else walk(s, lanes, stride, depth, false, at);
}

void score_one(const scorer *s, const float *row, float *value, double *out)
{
    for (int32_t k = 0; k < s->inputs; k++) value[k] = prepared(row[s->input[k].column], s->input[k].missing);
    for (int64_t k = 0; k < s->outputs; k++) out[k] = 0;
    for (int64_t i = 0; i < s->count; i += ABREAST) {
        lane    lanes[ABREAST];
        int32_t at[ABREAST], depth = 0;
        bool    sets = false;
        int     n = (int)(s->count - i < ABREAST ? s->count - i : ABREAST);
        for (int l = 0; l < ABREAST; l++) {
            const score_tree *t = &s->tree[i + (l < n ? l : 0)];
            lanes[l] = (lane){s->walk + t->walk, value, t->leaves - 1};
            if (t->depth > depth) depth = t->depth;
            sets |= t->by_sets;
        }
        walk_lanes(s, lanes, 1, depth, sets, at);
        for (int l = 0; l < n; l++) out[(i + l) % s->outputs] += s->value[s->tree[i + l].value + at[l] - lanes[l].inner];
    }
}

/* One large tree over a tile. */
static void walk_tile(const scorer *s, const score_tree *t, const float *value, double *sum)
{
    for (int first = 0; first < SCORE_TILE; first += ABREAST) {
        lane    lanes[ABREAST];
        int32_t at[ABREAST];
        for (int l = 0; l < ABREAST; l++) lanes[l] = (lane){s->walk + t->walk, value + first + l, t->leaves - 1};
        walk_lanes(s, lanes, SCORE_TILE, t->depth, t->by_sets, at);
        for (int l = 0; l < ABREAST; l++) sum[first + l] += s->value[t->value + at[l] - (t->leaves - 1)];
    }
}

/* ---- tiles ---- */

/* reuse: the room holds the leaves of the same nodes already. */
static void score_tree_tile(const scorer *s, const score_tree *t, score_masks *body, const float *value, const uint8_t *bytes, score_room *room, bool reuse, double *sum)
{
    if (t->leaves > MOST_MASKED && !t->levels) {
        walk_tile(s, t, value, sum);
        return;
    }
    const double  *leaf = s->value + t->value;
    const uint8_t *low = room->low, *high = room->high;
    if (!reuse) body(s, t, value, bytes, room->mask, room->low, room->high);
    if (t->leaves <= 256)
        for (int i = 0; i < SCORE_TILE; i++) sum[i] += leaf[low[i]];
    else
        for (int i = 0; i < SCORE_TILE; i++) sum[i] += leaf[low[i] | high[i] << 8];
}

/* A few tiles at once: a block of trees stays in the cache while they go through it. */
static void score_tiles(const scorer *s, const crank_tree_data *data, bins_search *search, score_masks *body, int64_t first, int n, int tiles, score_room *room, double *out)
{
    int64_t values = (int64_t)s->inputs * SCORE_TILE, bytes = (int64_t)s->planes * SCORE_TILE;
    for (int k = 0; k < tiles; k++) {
        int left = n - k * SCORE_TILE;
        fill_values(s, data, first + k * SCORE_TILE, left < SCORE_TILE ? left : SCORE_TILE, room->value + k * values);
        fill_bytes(s, search, room->value + k * values, room->bytes + k * bytes);
    }
    memset(room->sum, 0, (size_t)(tiles * s->outputs * SCORE_TILE) * sizeof *room->sum);
    for (int64_t i = 0; i < s->count; i += BLOCK)
        for (int k = 0; k < tiles; k++)
            for (int64_t j = i; j < i + BLOCK && j < s->count; j++)
                score_tree_tile(s, &s->tree[j], body, room->value + k * values, room->bytes + k * bytes, room, s->tree[j].same && j > i, room->sum + (k * s->outputs + j % s->outputs) * SCORE_TILE);
    for (int i = 0; i < n; i++)
        for (int64_t k = 0; k < s->outputs; k++) out[i * s->outputs + k] = room->sum[(i / SCORE_TILE * s->outputs + k) * SCORE_TILE + i % SCORE_TILE];
}

static bool room_open(crank_context *context, const scorer *s, int tiles, score_room *room)
{
    size_t t = (size_t)tiles * SCORE_TILE;
    room->value = crank_alloc(context, t, ((size_t)s->inputs + 1) * sizeof *room->value, "rows to score");
    room->bytes = crank_alloc(context, t, (size_t)s->planes + 1, "rows to score");
    room->mask = crank_alloc(context, 1, SCORE_MASK_BYTES(s->most_leaves), "rows to score");
    room->sum = crank_alloc(context, t, (size_t)s->outputs * sizeof *room->sum, "rows to score");
    return room->value && room->bytes && room->mask && room->sum;
}

static void room_close(score_room *room)
{
    crank_free(room->value);
    crank_free(room->bytes);
    crank_free(room->mask);
    crank_free(room->sum);
}

bool score_rows(crank_context *context, const scorer *s, const crank_tree_data *data, score_masks *body, double *out)
{
    int64_t per_tile = ((int64_t)s->inputs * (int64_t)sizeof(float) + s->planes) * SCORE_TILE + 1, fits = TILE_MEMORY / per_tile;
    int     tiles = (int)(fits < 1 ? 1 : fits > MOST_TILES ? MOST_TILES : fits), threads = crank_threads(context);
    int64_t most = (int64_t)tiles * SCORE_TILE, turns = (data->rows + most - 1) / most;
    if (threads > turns) threads = turns > 0 ? (int)turns : 1;
    score_room  *rooms = crank_alloc(context, (size_t)threads, sizeof *rooms, "rows to score");
    bins_search *search = bins_search_best();
    bool         good = rooms != NULL;
    for (int t = 0; good && t < threads; t++) good = room_open(context, s, tiles, &rooms[t]);
    if (good)
#pragma omp parallel for num_threads(threads) schedule(static, 1)
        for (int t = 0; t < threads; t++)
            for (int64_t k = turns * t / threads; k < turns * (t + 1) / threads; k++) {
                int64_t first = k * most, left = data->rows - first;
                int     n = (int)(left < most ? left : most);
                score_tiles(s, data, search, body ? body : best_body(), first, n, (n + SCORE_TILE - 1) / SCORE_TILE, &rooms[t], out + first * s->outputs);
            }
    for (int t = 0; rooms && t < threads; t++) room_close(&rooms[t]);
    crank_free(rooms);
    return good;
}
