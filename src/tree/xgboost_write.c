/* xgboost_write.c - a model as XGBoost's JSON (the format of its version 3; every version since 1.6 reads it).
 *
 * Numbers become float32, as XGBoost holds them. A threshold t becomes the next larger float, for x < condition; a set goes right
 * there, so its node's children change places. Where NaN counts as 0, it follows 0. The constant goes into the first tree of each
 * output, an average into all leaves, the slope of a logistic link too, so that base_score is the link of 0. */
#include <stdlib.h>

#include "base/number.h"
#include "base/text.h"
#include "tree/tree.h"

typedef struct writer {
    crank_context     *context;
    const crank_trees *trees;
    const tree        *t;
    int64_t            number;        /* of the tree */
    double             scale, shift;  /* of leaf values */
    int32_t           *order;         /* [2 leaves - 1]: node, or ~leaf, by the number that it has in the file */
    int32_t           *left, *parent; /* by number in the file: the right child stands behind the left one */
    int32_t            nodes;
    text_buffer        out;
} writer;

static void put_real(text_buffer *out, double value)
{
    char number[NUMBER_SIZE];
    number_print((double)(float)value, number);
    text_puts(out, number);
    if (!strpbrk(number, ".e")) text_puts(out, "E0"); /* readers tell whole numbers from others by their text */
}

/* "key":[v,v,...], each from the node with that number */
#define PUT(key, format, expression)                       \
    do {                                                   \
        text_puts(&w->out, ",\"" key "\":[");              \
        for (int32_t i = 0; i < w->nodes; i++) {           \
            int32_t n = w->order[i];                       \
            (void)n;                                       \
            if (i) text_putc(&w->out, ',');                \
            text_printf(&w->out, format, expression);      \
        }                                                  \
        text_putc(&w->out, ']');                           \
    } while (0)
#define PUT_REALS(key, expression)                \
    do {                                          \
        text_puts(&w->out, ",\"" key "\":[");     \
        for (int32_t i = 0; i < w->nodes; i++) {  \
            int32_t n = w->order[i];              \
            if (i) text_putc(&w->out, ',');       \
            put_real(&w->out, expression);        \
        }                                         \
        text_putc(&w->out, ']');                  \
    } while (0)

static bool is_set(const writer *w, int32_t n) { return n >= 0 && w->t->kind[n] & NODE_CATEGORICAL; }

/* Children as they stand in the file: the sides of sets change. */
static int32_t file_left(const writer *w, int32_t n) { return is_set(w, n) ? w->t->right[n] : w->t->left[n]; }
static int32_t file_right(const writer *w, int32_t n) { return is_set(w, n) ? w->t->left[n] : w->t->right[n]; }

static bool zero_left(const tree *t, int32_t n) { return 0 <= t->cut[n]; }

static bool default_left(const writer *w, int32_t n)
{
    const tree *t = w->t;
    if (n < 0) return false;
    if (is_set(w, n)) return !(t->kind[n] & NODE_DEFAULT_LEFT);
    return t->kind[n] & (NODE_MISSING_NAN | NODE_MISSING_ZERO) ? (t->kind[n] & NODE_DEFAULT_LEFT) != 0 : zero_left(t, n);
}

static double condition(const writer *w, int32_t n)
{
    if (n < 0) return w->t->leaf_value[~n] * w->scale + w->shift;
    if (is_set(w, n)) return 0;
    float next = nextafterf(w->t->cut[n], INFINITY);
    return isinf(next) ? copysign(3.4028234663852886e38, (double)next) : (double)next;
}

/* Numbers nodes level by level; both children of a node stand side by side. */
static void order_nodes(writer *w)
{
    const tree *t = w->t;
    w->nodes = 0;
    w->order[w->nodes] = t->leaves > 1 ? 0 : ~0;
    w->parent[w->nodes++] = INT32_MAX;
    for (int32_t i = 0; i < w->nodes; i++) {
        int32_t n = w->order[i];
        w->left[i] = n >= 0 ? w->nodes : -1;
        for (int side = 0; n >= 0 && side < 2; side++) {
            w->parent[w->nodes] = i;
            w->order[w->nodes++] = side ? file_right(w, n) : file_left(w, n);
        }
    }
}

static void put_sets(writer *w)
{
    const tree *t = w->t;
    text_buffer nodes = {0}, first = {0}, sizes = {0};
    int64_t     written = 0, sets = 0;
    text_puts(&w->out, ",\"categories\":[");
    for (int32_t i = 0; i < w->nodes; i++) {
        int32_t n = w->order[i];
        if (!is_set(w, n)) continue;
        int32_t k = (int32_t)t->threshold[n];
        int64_t before = written;
        for (int32_t c = 0; c < 32 * (t->set_start[k + 1] - t->set_start[k]); c++)
            if (t->set_bits[t->set_start[k] + c / 32] >> c % 32 & 1) text_printf(&w->out, written++ ? ",%d" : "%d", c);
        text_printf(&nodes, sets ? ",%d" : "%d", i);
        text_printf(&first, sets ? ",%lld" : "%lld", (long long)before);
        text_printf(&sizes, sets++ ? ",%lld" : "%lld", (long long)(written - before));
    }
    text_printf(&w->out, "],\"categories_nodes\":[%s],\"categories_segments\":[%s],\"categories_sizes\":[%s]", nodes.bytes ? nodes.bytes : "", first.bytes ? first.bytes : "",
                sizes.bytes ? sizes.bytes : "");
    w->out.failed |= nodes.failed || first.failed || sizes.failed;
    text_clear(&nodes);
    text_clear(&first);
    text_clear(&sizes);
}

static crank_status check_tree(const writer *w)
{
    const tree *t = w->t;
    for (int32_t n = 0; n < t->leaves - 1; n++)
        if (!(t->kind[n] & NODE_CATEGORICAL) && t->kind[n] & NODE_MISSING_ZERO && zero_left(t, n) != ((t->kind[n] & NODE_DEFAULT_LEFT) != 0))
            return crank_fail(w->context, CRANK_USAGE, "tree %lld takes zeros as missing, which XGBoost's trees cannot do: write LightGBM text, or train without zero_as_missing", (long long)w->number);
    for (int32_t k = 0; k < t->leaves; k++)
        if (!isfinite((float)(t->leaf_value[k] * w->scale + w->shift))) return crank_fail(w->context, CRANK_USAGE, "tree %lld: a leaf does not fit XGBoost's float32: write LightGBM text", (long long)w->number);
    return CRANK_OK;
}

static crank_status put_tree(writer *w)
{
    const tree  *t = w->t;
    crank_status status = check_tree(w);
    if (status != CRANK_OK) return status;
    size_t room = 2 * (size_t)t->leaves;
    w->order = crank_alloc(w->context, room, sizeof *w->order, "nodes of a tree");
    w->left = crank_alloc(w->context, room, sizeof *w->left, "nodes of a tree");
    w->parent = crank_alloc(w->context, room, sizeof *w->parent, "nodes of a tree");
    if (w->order && w->left && w->parent) {
        order_nodes(w);
        text_printf(&w->out, "{\"id\":%lld,\"tree_param\":{\"num_deleted\":\"0\",\"num_feature\":\"%lld\",\"num_nodes\":\"%d\",\"size_leaf_vector\":\"1\"}", (long long)w->number,
                    (long long)w->trees->columns, w->nodes);
        PUT("left_children", "%d", w->left[i]);
        PUT("right_children", "%d", n >= 0 ? w->left[i] + 1 : -1);
        PUT("parents", "%d", w->parent[i]);
        PUT("split_indices", "%d", n >= 0 ? t->feature[n] : 0);
        PUT("default_left", "%d", default_left(w, n));
        PUT("split_type", "%d", is_set(w, n));
        PUT_REALS("split_conditions", condition(w, n));
        PUT_REALS("base_weights", n >= 0 ? t->internal_value[n] * w->scale : condition(w, n));
        PUT_REALS("loss_changes", n >= 0 && isfinite((float)t->gain[n]) ? t->gain[n] : 0);
        PUT_REALS("sum_hessian", n >= 0 ? t->internal_weight[n] : t->leaf_weight[~n]);
        put_sets(w);
        text_putc(&w->out, '}');
    } else
        status = CRANK_FAILED;
    crank_free(w->order);
    crank_free(w->left);
    crank_free(w->parent);
    return status;
}

/* ---- the model ---- */

static const struct {
    const char *here, *there, *parameters, *base;
} objectives[] = {
    {"lambdarank", "rank:ndcg", "\"lambdarank_param\":{\"lambdarank_num_pair_per_sample\":\"32\",\"lambdarank_pair_method\":\"topk\"}", "0E0"},
    {"binary", "binary:logistic", "\"reg_loss_param\":{\"scale_pos_weight\":\"1\"}", "5E-1"},
    {"cross_entropy", "reg:logistic", "\"reg_loss_param\":{\"scale_pos_weight\":\"1\"}", "5E-1"},
    {"multiclass", "multi:softprob", NULL, "0E0"},
    {"poisson", "count:poisson", "\"poisson_regression_param\":{\"max_delta_step\":\"0.7\"}", "1E0"},
    {"gamma", "reg:gamma", "\"reg_loss_param\":{}", "1E0"},
    {"tweedie", "reg:tweedie", "\"tweedie_regression_param\":{\"tweedie_variance_power\":\"1.5\"}", "1E0"},
};

static void put_text(text_buffer *out, const char *text)
{
    text_putc(out, '"');
    for (; *text; text++)
        if (*text == '"' || *text == '\\') text_printf(out, "\\%c", *text);
        else if ((unsigned char)*text < 32) text_printf(out, "\\u%04x", *text);
        else text_putc(out, *text);
    text_putc(out, '"');
}

/* Names, and types where a column is split by sets. */
static void put_columns(writer *w, const bool *by_set, bool any)
{
    const crank_trees *t = w->trees;
    text_puts(&w->out, "\"feature_names\":[");
    for (int64_t j = 0; t->names && j < t->columns; j++) {
        char number[32];
        snprintf(number, sizeof number, "Column_%lld", (long long)j);
        if (j) text_putc(&w->out, ',');
        put_text(&w->out, t->names[j] ? t->names[j] : number);
    }
    text_puts(&w->out, "],\"feature_types\":[");
    for (int64_t j = 0; any && j < t->columns; j++) text_printf(&w->out, "%s\"%s\"", j ? "," : "", by_set[j] ? "c" : "float");
    text_puts(&w->out, "],");
}

static crank_status put_head(writer *w)
{
    const crank_trees *t = w->trees;
    bool              *by_set = crank_alloc(w->context, (size_t)t->columns + 1, sizeof *by_set, "columns"), any = false;
    if (!by_set) return CRANK_FAILED;
    for (int64_t i = 0; i < t->count; i++)
        for (int32_t n = 0; n < t->trees[i].leaves - 1; n++)
            if (t->trees[i].kind[n] & NODE_CATEGORICAL) by_set[t->trees[i].feature[n]] = any = true;
    text_puts(&w->out, "{\"version\":[3,0,0],\"learner\":{\"attributes\":{},");
    put_columns(w, by_set, any);
    crank_free(by_set);
    text_printf(&w->out, "\"gradient_booster\":{\"name\":\"gbtree\",\"model\":{\"gbtree_model_param\":{\"num_parallel_tree\":\"1\",\"num_trees\":\"%lld\"},\"iteration_indptr\":[", (long long)t->count);
    for (int64_t i = 0; i <= t->count; i += t->outputs) text_printf(&w->out, i ? ",%lld" : "%lld", (long long)i);
    text_puts(&w->out, "],\"tree_info\":[");
    for (int64_t i = 0; i < t->count; i++) text_printf(&w->out, i ? ",%lld" : "%lld", (long long)(i % t->outputs));
    text_puts(&w->out, "],\"trees\":[");
    return CRANK_OK;
}

static crank_status put_trees(writer *w)
{
    const crank_trees *t = w->trees;
    bool               logistic = strcmp(t->objective, "binary") == 0;
    double             each = t->average && t->count > 0 ? 1 / (double)(t->count / t->outputs) : 1, slope = logistic ? t->sigmoid : 1;
    crank_status       status = put_head(w);
    for (w->number = 0; status == CRANK_OK && w->number < t->count; w->number++) {
        if (w->number) text_putc(&w->out, ',');
        w->t = &t->trees[w->number];
        w->scale = each * slope;
        w->shift = w->number < t->outputs ? t->base[w->number % t->outputs] * slope : 0;
        status = put_tree(w);
    }
    return status;
}

/* A model without trees is one of single leaves. */
static crank_status put_constant(crank_context *context, const crank_trees *t, char **text)
{
    crank_trees whole = *t;
    whole.trees = NULL;
    whole.count = whole.capacity = 0;
    bool good = true;
    for (int64_t k = 0; good && k < t->outputs; k++) {
        tree *leaf = trees_add(context, &whole);
        good = leaf && tree_alloc(context, leaf, 1, 0, 0);
        whole.count += good;
    }
    *text = good ? trees_write_xgboost(context, &whole) : NULL;
    for (int64_t k = 0; k < whole.count; k++) tree_free(&whole.trees[k]);
    free(whole.trees);
    return *text ? CRANK_OK : CRANK_FAILED;
}

char *trees_write_xgboost(crank_context *context, const crank_trees *t)
{
    writer      w = {.context = context, .trees = t};
    const char *there = "reg:squarederror", *parameters = "\"reg_loss_param\":{\"scale_pos_weight\":\"1\"}", *base = "0E0";
    char       *text = NULL;
    for (size_t i = 0; i < sizeof objectives / sizeof *objectives; i++)
        if (strcmp(objectives[i].here, t->objective) == 0) there = objectives[i].there, parameters = objectives[i].parameters, base = objectives[i].base;
    if (strcmp(t->objective, "multiclassova") == 0) {
        crank_fail(context, CRANK_USAGE, "XGBoost has no objective like multiclassova, so it cannot hold this model: write LightGBM text");
        return NULL;
    }
    if (t->count == 0) {
        put_constant(context, t, &text);
        return text;
    }
    if (put_trees(&w) != CRANK_OK) {
        text_clear(&w.out);
        return NULL;
    }
    text_printf(&w.out, "]}},\"learner_model_param\":{\"base_score\":\"%s\",\"boost_from_average\":\"0\",\"num_class\":\"%lld\",\"num_feature\":\"%lld\",\"num_target\":\"%lld\"},\"objective\":{\"name\":\"%s\",",
                base, (long long)(strcmp(there, "multi:softprob") == 0 ? t->outputs : 0), (long long)t->columns, (long long)(t->outputs > 1 && strcmp(there, "multi:softprob") ? t->outputs : 1), there);
    if (strcmp(there, "multi:softprob") == 0) text_printf(&w.out, "\"softmax_multiclass_param\":{\"num_class\":\"%lld\"}}}}\n", (long long)t->outputs);
    else text_printf(&w.out, "%s}}}\n", parameters);
    return text_take(context, &w.out, "a model of trees");
}
