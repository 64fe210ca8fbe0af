/* world_clicks.c - data, first ranker and measure of experiments on clicks. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "lab/world_clicks.h"
#include "rank/net.h"

enum { COLUMNS = 20, ITEMS = 10, FIRST = 20 };

void clicks_room_free(clicks_room *room)
{
    letor_free(room->train), letor_free(room->valid), letor_free(room->test);
    crank_free(room->order);
    *room = (clicks_room){0};
}

rank_options *clicks_ranker(crank_context *context, uint64_t seed, double rate, int64_t epochs, int64_t batch)
{
    rank_options *o = crank_options_new(context, rank_option_table, sizeof *o);
    if (!o || crank_options_set(context, rank_option_table, o, "hidden", "32", "experiment") != CRANK_OK) {
        crank_options_free(o);
        return NULL;
    }
    o->seed = (int64_t)seed, o->rate = rate, o->epochs = epochs, o->batch = batch;
    return o;
}

crank_status clicks_measure(rank_net *net, const letor_set *test, double *value)
{
    float       *scores = crank_alloc(rank_net_context(net), (size_t)test->rows + 1, sizeof *scores, "scores");
    crank_status status = scores ? rank_net_scores(net, test, scores) : CRANK_FAILED;
    if (status == CRANK_OK) status = rank_measure(rank_net_context(net), "ndcg@10", test, scores, value);
    crank_free(scores);
    return status;
}

/* RankNet on a few lists, 150 full batches of Adam at 3e-3; its scores order the training lists. */
static crank_status first_ranker(crank_context *context, uint64_t seed, const letor_set *few, clicks_room *room)
{
    const crank_list_objective *ranknet = crank_list_objective_find("pair_logistic");
    void                       *options = crank_options_new(context, ranknet->options, ranknet->options_size);
    rank_options               *o = clicks_ranker(context, seed + 500, 3e-3, 150, few->queries);
    rank_fit                    how = {.options = o, .objective = ranknet, .objective_options = options};
    rank_net                   *net = o && options ? rank_net_fit(context, &how, few, NULL) : NULL;
    room->order = net ? crank_alloc(context, (size_t)room->train->rows + 1, sizeof *room->order, "scores") : NULL;
    crank_status status = room->order ? rank_net_scores(net, room->train, room->order) : crank_last_status(context);
    if (status == CRANK_OK) status = clicks_measure(net, room->test, &room->first);
    rank_net_free(net);
    crank_options_free(o), crank_options_free(options);
    return status;
}

/* ---- made up ---- */

static letor_set *draw(crank_context *context, uint64_t seed, uint32_t index, int64_t lists, const float *directions)
{
    crank_stream stream = crank_stream_make(seed, CRANK_RANDOM_DATA, index), noise = crank_stream_make(seed, CRANK_RANDOM_DATA, index + 1);
    letor_set   *set = crank_alloc(context, 1, sizeof *set, "lists");
    if (!set) return NULL;
    set->rows = lists * ITEMS, set->columns = COLUMNS, set->queries = lists;
    set->dense = crank_alloc(context, (size_t)set->rows, COLUMNS * sizeof(float), "lists");
    set->labels = crank_alloc(context, (size_t)set->rows, sizeof(float), "lists");
    set->offsets = crank_alloc(context, (size_t)lists + 1, sizeof *set->offsets, "lists");
    if (!set->dense || !set->labels || !set->offsets) {
        letor_free(set);
        return NULL;
    }
    crank_fill_normal(stream, 0, 0, 1, set->dense, (size_t)(set->rows * COLUMNS));
    for (int64_t i = 0; i < set->rows; i++) {
        double dot[4] = {0};
        for (int d = 0; d < 4; d++)
            for (int j = 0; j < COLUMNS; j++) dot[d] += (double)directions[d * COLUMNS + j] * (double)set->dense[i * COLUMNS + j];
        double t = 1.2 * dot[0] + dot[1] * dot[2] + 0.7 * sin(2 * dot[3]) + 0.5 * (double)crank_draw_normal(noise, (uint64_t)i);
        set->labels[i] = (float)((t >= 0.3) + (t >= 1.0) + (t >= 1.8) + (t >= 2.8));
    }
    for (int64_t l = 0; l <= lists; l++) set->offsets[l] = (int32_t)(l * ITEMS);
    return set;
}

crank_status clicks_made_up(crank_context *context, uint64_t seed, clicks_room *room)
{
    float directions[4 * COLUMNS];
    crank_fill_normal(crank_stream_make(seed, CRANK_RANDOM_DATA, 1), 0, 0, (float)(1 / sqrt(COLUMNS)), directions, 4 * COLUMNS);
    *room = (clicks_room){.train = draw(context, seed, 10, 2000, directions), .test = draw(context, seed, 20, 1000, directions)};
    letor_set   *few = draw(context, seed, 30, FIRST, directions);
    crank_status status = room->train && room->test && few ? first_ranker(context, seed, few, room) : CRANK_FAILED;
    letor_free(few);
    return status;
}

/* ---- Yandex ---- */

static void to_grades(letor_set *set)
{
    for (int64_t i = 0; i < set->rows; i++) {
        float y = set->labels[i];
        set->labels[i] = (float)((y > 0) + (y > 0.0701f) + (y > 0.1401f) + (y > 0.4101f));
    }
}

static letor_set *read_yandex(crank_context *context, const char *name)
{
    static const char *const pairs[] = {"header", "no", "query", "0", "label", "1", "document", "2", "ignore", "3", "regroup", "true", "format", "tsv"};
    const char              *root = getenv("CRANK_DATA");
    char                     path[4096];
    snprintf(path, sizeof path, "%s/ltr/%s", root && *root ? root : "../shared/data", name);
    if (!file_exists(path)) return crank_fail(context, CRANK_FAILED, "the experiment reads %s: set CRANK_DATA to a folder that holds Yandex's features as ltr/%s", path, name), NULL;
    letor_options *o = crank_options_new(context, letor_option_table, sizeof *o);
    for (size_t i = 0; o && i < sizeof pairs / sizeof *pairs; i += 2)
        if (crank_options_set(context, letor_option_table, o, pairs[i], pairs[i + 1], "experiment") != CRANK_OK) return crank_options_free(o), NULL;
    letor_set *set = o ? letor_read(context, path, o) : NULL;
    if (set) to_grades(set);
    crank_options_free(o);
    return set;
}

crank_status clicks_yandex(crank_context *context, uint64_t seed, clicks_room *room)
{
    *room = (clicks_room){0};
    letor_set *all = read_yandex(context, "yandex-features-train.tsv.gz");
    room->test = all ? read_yandex(context, "yandex-features-test.tsv.gz") : NULL;
    int64_t *lists = room->test ? crank_alloc(context, (size_t)all->queries, sizeof *lists, "lists") : NULL;
    if (!lists) return letor_free(all), crank_last_status(context);
    int64_t few = all->queries * 3 / 100, held = all->queries / 5;
    crank_permutation(crank_stream_make(seed, CRANK_RANDOM_DATA, 40), lists, all->queries);
    letor_set *first = rank_take(context, all, lists, few, NULL);
    room->valid = rank_take(context, all, lists + few, held, NULL);
    room->train = rank_take(context, all, lists + few + held, all->queries - few - held, NULL);
    crank_status status = first && room->valid && room->train ? first_ranker(context, seed, first, room) : CRANK_FAILED;
    letor_free(first), letor_free(all);
    crank_free(lists);
    return status;
}
