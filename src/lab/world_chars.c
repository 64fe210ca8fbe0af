/* world_chars.c - a language model over characters: text, network, trials. */
#include "lab/world_chars.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lab/corpus.h"

enum { SYMBOLS = 96, CONTEXT = 16, EMBEDDING = 16, WIDTH = CONTEXT * EMBEDDING, HIDDEN = 512, BLOCKS = 4, BATCH = 128, STEPS = 800, TEST = 8000 };
enum { OTHER_BYTES = 500000 };

/* ---- text ---- */

/* Printable ASCII is 0..94, all else 95. */
static int32_t symbol(char byte) { return byte >= 32 && byte < 127 ? byte - 32 : SYMBOLS - 1; }

/* Places first, first + step, ..: windows of CONTEXT symbols and the symbol behind them. */
static crank_status cut(crank_context *context, const lab_corpus *t, size_t first, size_t last, int64_t most, lab_data *data)
{
    int64_t places = (int64_t)(last - first) - CONTEXT;
    if (places < BATCH) return crank_fail(context, CRANK_BAD_DATA, "a text of %lld characters is too short for the experiment", (long long)places);
    int64_t n = most && most < places ? most : places, stride = places / n;
    *data = (lab_data){.n = n, .width = CONTEXT, .stride = stride};
    data->ids = crank_alloc(context, (size_t)(n * stride + CONTEXT), sizeof *data->ids, "a text");
    data->labels = crank_alloc(context, (size_t)n, sizeof *data->labels, "a text");
    if (!data->ids || !data->labels) return CRANK_FAILED;
    for (int64_t i = 0; i < n * stride + CONTEXT && first + (size_t)i < last; i++) data->ids[i] = symbol(t->bytes[first + (size_t)i]);
    for (int64_t i = 0; i < n; i++) data->labels[i] = symbol(t->bytes[first + (size_t)(i * stride) + CONTEXT]);
    return CRANK_OK;
}

static crank_status read_world(crank_context *context, const char *name, bool questions, size_t limit, lab_data *train, lab_data *test)
{
    lab_corpus   t = {0};
    crank_status status = lab_corpus_read(context, name, questions, limit, &t);
    size_t       border = t.length / 10 * 9;
    if (status == CRANK_OK) status = cut(context, &t, 0, border, 0, train);
    if (status == CRANK_OK) status = cut(context, &t, border, t.length, TEST, test);
    crank_free(t.bytes);
    return status;
}

/* ---- network ---- */

typedef struct block {
    crank_param  *gain;
    crank_linear *up, *down;
} block;

typedef struct own {
    crank_linear *embed, *head;
    block         blocks[BLOCKS];
    crank_param  *gain;
} own;

static crank_tensor *forward(crank_graph *graph, lab_net *net, crank_tensor *x)
{
    const own    *o = net->own;
    int64_t       dims[2] = {-1, WIDTH};
    crank_tensor *h = crank_reshape(crank_contiguous(lab_linear(graph, net, o->embed, x)), 2, dims);
    for (int i = 0; i < BLOCKS; i++) {
        crank_tensor *u = lab_linear(graph, net, o->blocks[i].up, crank_rmsnorm(h, crank_use(graph, o->blocks[i].gain), 1e-6));
        h = crank_add(h, lab_linear(graph, net, o->blocks[i].down, crank_unary(CRANK_SILU, u)));
    }
    return lab_linear(graph, net, o->head, crank_rmsnorm(h, crank_use(graph, o->gain), 1e-6));
}

static crank_status fill(lab_net *net, crank_param *param, double mean, double deviation, uint64_t seed)
{
    size_t n = (size_t)crank_view_count(&param->view);
    float *values = crank_alloc(net->context, n, sizeof *values, "initial weights");
    if (!values) return CRANK_FAILED;
    crank_fill_normal(crank_stream_make(seed, CRANK_RANDOM_INIT, crank_hash_name(param->name)), 0, (float)mean, (float)deviation, values, n);
    crank_status status = crank_param_write(net->context, param, values, CRANK_F32);
    crank_free(values);
    return status;
}

static crank_status add_gain(lab_net *net, const char *name, crank_param **out)
{
    int64_t width = WIDTH;
    *out = crank_params_add(net->params, name, CRANK_ROLE_WEIGHT, CRANK_F32, 1, &width);
    return *out ? fill(net, *out, 1, 0, 0) : crank_last_status(net->context);
}

static crank_status add_linear(lab_net *net, const char *name, int64_t in, int64_t to, int number, uint64_t seed, crank_linear **out)
{
    *out = lab_net_linear(net, name, in, to, false);
    if (!*out) return crank_last_status(net->context);
    (*out)->block = number;
    return fill(net, (*out)->weight, 0, 1 / sqrt((double)in), seed);
}

static crank_status add_block(lab_net *net, int i, uint64_t seed, block *b)
{
    char names[3][40];
    snprintf(names[0], sizeof names[0], "layers.%d.norm.weight", i);
    snprintf(names[1], sizeof names[1], "layers.%d.up", i);
    snprintf(names[2], sizeof names[2], "layers.%d.down", i);
    crank_status status = add_gain(net, names[0], &b->gain);
    if (status == CRANK_OK) status = add_linear(net, names[1], WIDTH, HIDDEN, i, seed, &b->up);
    return status == CRANK_OK ? add_linear(net, names[2], HIDDEN, WIDTH, i, seed, &b->down) : status;
}

static crank_status add_embedding(lab_net *net, uint64_t seed, own *o)
{
    crank_param *table = crank_params_add(net->params, "embed.weight", CRANK_ROLE_WEIGHT, CRANK_F32, 2, (const int64_t[]){SYMBOLS, EMBEDDING});
    if (!table) return crank_last_status(net->context);
    o->embed = crank_linear_add(net->linears, "embed", CRANK_LINEAR_EMBEDDING, SYMBOLS, EMBEDDING, table, NULL);
    if (!o->embed) return crank_last_status(net->context);
    o->embed->block = -1;
    return fill(net, table, 0, 1, seed);
}

static lab_net *new_net(crank_context *context, uint64_t seed)
{
    lab_net     *net = lab_net_new(context, seed);
    own         *o = net ? crank_alloc(context, 1, sizeof *o, "a network") : NULL;
    crank_status status = o ? CRANK_OK : CRANK_FAILED;
    if (net) net->own = o;
    if (status == CRANK_OK) status = add_embedding(net, seed, o);
    for (int i = 0; status == CRANK_OK && i < BLOCKS; i++) status = add_block(net, i, seed, &o->blocks[i]);
    if (status == CRANK_OK) status = add_gain(net, "norm.weight", &o->gain);
    if (status == CRANK_OK) status = add_linear(net, "head", WIDTH, SYMBOLS, -1, seed, &o->head);
    if (status != CRANK_OK) {
        lab_net_free(net);
        return NULL;
    }
    o->head->is_head = true;
    net->forward = forward;
    net->loss = LAB_CROSS_ENTROPY;
    net->outputs = SYMBOLS;
    return net;
}

/* ---- trials ---- */

lab_training lab_chars_training(const lab_trial *trial)
{
    const lab_chars_settings *settings = trial->experiment->settings;
    const lab_chars          *world = trial->world;
    int64_t                   steps = settings && settings->steps ? settings->steps : STEPS;
    if (trial->large) steps *= 3;
    return (lab_training){.data = settings && settings->adapt ? &world->other_train : &world->train, .steps = steps, .batch = BATCH, .rate = trial->rate,
                          .schedule = CRANK_SCHEDULE_COSINE, .warmup = steps / 10, .floor = 0.1, .seed = trial->seed};
}

static crank_status prepare(lab_trial *trial)
{
    const lab_chars_settings *settings = trial->experiment->settings;
    lab_chars                *world = trial->world;
    crank_context            *context = trial->context;
    crank_status status = read_world(context, "text/gsm8k-test.jsonl.gz", true, SIZE_MAX, &world->train, &world->test);
    if (status != CRANK_OK || !settings || !settings->adapt) return status;
    status = read_world(context, "text/tinyshakespeare.txt.gz", false, OTHER_BYTES, &world->other_train, &world->other_test);
    if (status != CRANK_OK) return status;
    lab_method   adam = {.name = "pre-training"};
    lab_training how = {.data = &world->train, .steps = STEPS, .batch = BATCH, .rate = 4e-3, .schedule = CRANK_SCHEDULE_COSINE, .warmup = STEPS / 10, .floor = 0.1,
                        .seed = trial->seed};
    world->base = new_net(context, trial->seed);
    status = world->base ? lab_attach(world->base, &adam, NULL, NULL, NULL) : crank_last_status(context);
    return status == CRANK_OK ? lab_train(world->base, &adam, &how, NULL) : status;
}

lab_net *lab_chars_net(lab_trial *trial)
{
    const lab_chars *world = trial->world;
    lab_net         *net = new_net(trial->context, trial->seed);
    if (!net || !world->base || lab_net_copy(net, world->base) == CRANK_OK) return net;
    lab_net_free(net);
    return NULL;
}

/* W = B A: weights of the blocks are zero, B is normal with deviation sqrt(3 / r), so that B A has the deviation of other weights. */
static crank_status stand_alone(lab_net *net, crank_attachment *attachment, uint64_t seed)
{
    int          count;
    crank_site  *sites = crank_attachment_sites(attachment, &count);
    crank_status status = CRANK_OK;
    for (int i = 0; status == CRANK_OK && i < count; i++) {
        crank_param *B = crank_site_find(&sites[i], "B");
        if (!B) return crank_fail(net->context, CRANK_USAGE, "the experiment needs a method with a factor B");
        status = fill(net, B, 0, sqrt(3.0 / (double)B->view.dims[1]), seed);
        if (status == CRANK_OK) status = fill(net, sites[i].linear->weight, 0, 0, 0);
    }
    return status;
}

crank_status lab_chars_run(lab_trial *trial, lab_net *net)
{
    static const char targets[] = "up\ndown";
    const lab_chars_settings *settings = trial->experiment->settings;
    const lab_chars  *world = trial->world;
    const own        *o = net->own;
    lab_training      how = lab_chars_training(trial);
    crank_attachment *attachment = NULL;
    double            loss = 0;
    crank_status      status = trial->rate > 0 ? lab_attach(net, trial->method, targets, how.data, &attachment) : CRANK_OK;
    if (status == CRANK_OK && attachment && trial->method->number == LAB_CHARS_ALONE) status = stand_alone(net, attachment, trial->seed);
    if (attachment) {
        o->embed->weight->trainable = o->head->weight->trainable = o->gain->trainable = true;
        for (int i = 0; i < BLOCKS; i++) o->blocks[i].gain->trainable = true;
    }
    if (status == CRANK_OK && trial->rate > 0) status = lab_train(net, trial->method, &how, trial);
    if (status == CRANK_OK) status = lab_evaluate(net, settings && settings->adapt ? &world->other_test : &world->test, &loss, NULL);
    return status == CRANK_OK ? lab_measure(trial, "loss", loss) : status;
}

static crank_status try_method(lab_trial *trial)
{
    lab_net     *net = lab_chars_net(trial);
    crank_status status = net ? lab_chars_run(trial, net) : crank_last_status(trial->context);
    lab_net_free(net);
    return status;
}

static void release(void *room)
{
    lab_chars *world = room;
    lab_data  *all[] = {&world->train, &world->test, &world->other_train, &world->other_test};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) lab_data_free(all[i]);
    lab_net_free(world->base);
}

const lab_world lab_world_chars = {.name = "chars", .size = sizeof(lab_chars), .large = true, .prepare = prepare, .trial = try_method, .release = release};
