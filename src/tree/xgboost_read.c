/* xgboost_read.c - XGBoost's JSON model -> a model.
 *
 * A row goes left at a node when x < condition (float32), right when its category is in the node's set, and by default_left when x is
 * missing. Here a row goes left when x <= threshold or its category is in the set: thresholds become the next smaller float, and
 * nodes with sets change their children. base_score stands in the space of predictions, so it goes through the inverse link. A tree
 * with vectors in its leaves becomes a tree for each output. Hessians stand for the rows of nodes, which the format does not count. */
#include <stdlib.h>

#include "base/json.h"
#include "base/number.h"
#include "tree/tree.h"

enum { MOST_NODES = 1 << 25, MOST_WORDS = 1 << 26, MOST_CATEGORY = 1 << 20 };

typedef struct reader {
    crank_context *context;
    const char    *path;
    int64_t        columns, outputs;
    int64_t        tree;          /* that is read now */
    tree          *made;          /* [room]: as they stand in the file */
    int32_t       *output;        /* beside made */
    int64_t        count, room;
    int64_t        words;         /* of all sets */
} reader;

static crank_status broken(const reader *r, const char *what)
{
    if (r->tree >= 0) return crank_fail(r->context, CRANK_BAD_DATA, "%s: tree %lld: %s", r->path, (long long)r->tree, what);
    return crank_fail(r->context, CRANK_BAD_DATA, "%s: %s", r->path, what);
}

/* "12" or 12 */
static bool whole(const json_t *object, const char *key, int64_t low, int64_t high, int64_t initial, int64_t *out)
{
    const json_t *v = json_object_get(object, key);
    *out = initial;
    if (v && json_is_string(v) && !number_parse_int(json_string_value(v), out)) return false;
    if (v && json_is_integer(v)) *out = json_integer_value(v);
    return (!v || json_is_string(v) || json_is_integer(v)) && *out >= low && *out <= high;
}

/* ---- one tree ---- */

typedef struct arrays {
    int64_t  nodes, vector;
    int32_t *left, *right, *column, *by_default, *type;
    double  *condition, *gain, *hessian, *weight, *vectors;
    int32_t *set_of;                     /* [nodes]: segment of its categories, -1: none */
    json_t  *categories, *segments, *sizes;
    int32_t *number, *stack;             /* [nodes]: of the nodes and leaves as they are numbered here; work */
} arrays;

static void arrays_free(arrays *a)
{
    void *all[] = {a->left, a->right, a->column, a->by_default, a->type, a->condition, a->gain, a->hessian, a->weight, a->vectors, a->set_of, a->number, a->stack};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) crank_free(all[i]);
}

static crank_status wrong_array(const reader *r, const char *key) { return crank_fail(r->context, CRANK_BAD_DATA, "%s: tree %lld: %s is missing, or not as long or as large as the tree says", r->path, (long long)r->tree, key); }

static crank_status take_ints(const reader *r, const json_t *from, const char *key, int64_t count, int32_t **out)
{
    const json_t *list = json_object_get(from, key);
    if (!json_is_array(list) || (int64_t)json_array_size(list) != count) return wrong_array(r, key);
    if (!(*out = crank_alloc(r->context, (size_t)count + 1, sizeof **out, "a tree"))) return CRANK_FAILED;
    for (int64_t i = 0; i < count; i++) {
        const json_t *v = json_array_get(list, (size_t)i);
        int64_t       x = json_is_boolean(v) ? json_is_true(v) : json_integer_value(v);
        if ((!json_is_integer(v) && !json_is_boolean(v)) || x < INT32_MIN || x > INT32_MAX) return wrong_array(r, key);
        (*out)[i] = (int32_t)x;
    }
    return CRANK_OK;
}

static crank_status take_reals(const reader *r, const json_t *from, const char *key, int64_t count, bool optional, double **out)
{
    const json_t *list = json_object_get(from, key);
    if (!(*out = crank_alloc(r->context, (size_t)count + 1, sizeof **out, "a tree"))) return CRANK_FAILED;
    if (optional && (!json_is_array(list) || (int64_t)json_array_size(list) != count)) return CRANK_OK;
    if (!json_is_array(list) || (int64_t)json_array_size(list) != count) return wrong_array(r, key);
    for (int64_t i = 0; i < count; i++) {
        const json_t *v = json_array_get(list, (size_t)i);
        if (!json_is_number(v)) return wrong_array(r, key);
        (*out)[i] = json_number_value(v);
    }
    return CRANK_OK;
}

static int64_t int_at(const json_t *list, int64_t i)
{
    const json_t *v = json_array_get(list, (size_t)i);
    return json_is_integer(v) ? json_integer_value(v) : -1;
}

/* Which segment of `categories` each node has. */
static crank_status take_sets(const reader *r, const json_t *from, arrays *a)
{
    const json_t *nodes = json_object_get(from, "categories_nodes");
    a->categories = json_object_get(from, "categories");
    a->segments = json_object_get(from, "categories_segments");
    a->sizes = json_object_get(from, "categories_sizes");
    if (!(a->set_of = crank_alloc(r->context, (size_t)a->nodes + 1, sizeof *a->set_of, "a tree"))) return CRANK_FAILED;
    for (int64_t i = 0; i < a->nodes; i++) a->set_of[i] = -1;
    size_t sets = json_array_size(nodes);
    if (json_array_size(a->segments) != sets || json_array_size(a->sizes) != sets || sets > INT32_MAX) return wrong_array(r, "categories_segments");
    for (size_t k = 0; k < sets; k++) {
        int64_t node = int_at(nodes, (int64_t)k), first = int_at(a->segments, (int64_t)k), count = int_at(a->sizes, (int64_t)k), all = (int64_t)json_array_size(a->categories);
        if (node < 0 || node >= a->nodes || a->set_of[node] >= 0 || first < 0 || count < 0 || count > all || first > all - count) return wrong_array(r, "categories_nodes");
        a->set_of[node] = (int32_t)k;
    }
    return CRANK_OK;
}

static crank_status take_arrays(reader *r, const json_t *from, arrays *a)
{
    const json_t *param = json_object_get(from, "tree_param");
    if (!whole(param, "num_nodes", 1, MOST_NODES, -1, &a->nodes) || !whole(param, "size_leaf_vector", 0, 1 << 20, 1, &a->vector)) return broken(r, "tree_param has no num_nodes, or a wrong size_leaf_vector");
    if (a->vector > 1 && a->vector != r->outputs) return broken(r, "its leaves have more or fewer values than the model has outputs");
    crank_status status = take_ints(r, from, "left_children", a->nodes, &a->left);
    if (status == CRANK_OK) status = take_ints(r, from, "right_children", a->nodes, &a->right);
    if (status == CRANK_OK) status = take_ints(r, from, "split_indices", a->nodes, &a->column);
    if (status == CRANK_OK) status = take_ints(r, from, "default_left", a->nodes, &a->by_default);
    if (status == CRANK_OK && json_object_get(from, "split_type")) status = take_ints(r, from, "split_type", a->nodes, &a->type);
    if (status == CRANK_OK) status = take_reals(r, from, "split_conditions", a->nodes, false, &a->condition);
    if (status == CRANK_OK) status = take_reals(r, from, "loss_changes", a->nodes, true, &a->gain);
    if (status == CRANK_OK) status = take_reals(r, from, "sum_hessian", a->nodes, true, &a->hessian);
    if (status == CRANK_OK) status = take_reals(r, from, "base_weights", a->nodes, true, &a->weight);
    if (status == CRANK_OK && a->vector > 1) {
        int64_t leaves = (int64_t)json_array_size(json_object_get(from, "leaf_weights")) / a->vector;
        if (leaves < 1 || leaves > a->nodes) return wrong_array(r, "leaf_weights");
        status = take_reals(r, from, "leaf_weights", leaves * a->vector, false, &a->vectors);
        for (int64_t i = 0; status == CRANK_OK && i < a->nodes; i++)
            if (a->left[i] == -1 && a->nodes > 1 && (a->right[i] < 0 || a->right[i] >= leaves)) status = wrong_array(r, "leaf_weights");
    }
    return status == CRANK_OK ? take_sets(r, from, a) : status;
}

static bool is_leaf(const arrays *a, int32_t n) { return a->left[n] == -1; }

/* Numbers the nodes that the root reaches: splits from 0 in the order of a walk, leaves from ~0. *leaves: their number */
static crank_status number_nodes(const reader *r, arrays *a, int32_t *leaves)
{
    int32_t depth = 0, splits = 0;
    a->number = crank_alloc(r->context, (size_t)a->nodes + 1, sizeof *a->number, "a tree");
    a->stack = crank_alloc(r->context, (size_t)a->nodes + 1, sizeof *a->stack, "a tree");
    if (!a->number || !a->stack) return CRANK_FAILED;
    for (int64_t i = 0; i < a->nodes; i++) a->number[i] = INT32_MAX;
    *leaves = 0;
    a->stack[depth++] = 0;
    while (depth > 0) {
        int32_t n = a->stack[--depth];
        if (a->number[n] != INT32_MAX) return broken(r, "its children do not make a tree");
        if (is_leaf(a, n)) {
            a->number[n] = ~(*leaves)++;
            continue;
        }
        a->number[n] = splits++;
        for (int side = 0; side < 2; side++) {
            int32_t child = side ? a->left[n] : a->right[n];
            if (child <= 0 || child >= a->nodes || depth >= a->nodes) return broken(r, "its children do not make a tree");
            a->stack[depth++] = child;
        }
    }
    return splits == *leaves - 1 ? CRANK_OK : broken(r, "its children do not make a tree");
}

static bool has_set(const arrays *a, int32_t n) { return a->type && a->type[n] == 1; }

/* Sets and their words -> how many; each category is checked. */
static crank_status measure_sets(const reader *r, const arrays *a, int32_t *sets, int64_t *words)
{
    *sets = 0;
    *words = 0;
    for (int32_t n = 0; n < a->nodes; n++) {
        if (a->number[n] == INT32_MAX || is_leaf(a, n) || !has_set(a, n)) continue;
        int64_t largest = 0, k = a->set_of[n];
        for (int64_t i = 0; k >= 0 && i < int_at(a->sizes, k); i++) {
            int64_t c = int_at(a->categories, int_at(a->segments, k) + i);
            if (c < 0 || c >= MOST_CATEGORY) return broken(r, "a category is no whole number from 0 to 1048575");
            if (c > largest) largest = c;
        }
        ++*sets;
        *words += largest / 32 + 1;
        if (r->words + *words > MOST_WORDS) return broken(r, "the sets of categories take too much memory: number categories from 0");
    }
    return CRANK_OK;
}

static void put_set(const arrays *a, int32_t n, tree *t)
{
    int64_t   k = a->set_of[n], largest = 0;
    uint32_t *bits = t->set_bits + t->set_start[t->sets];
    for (int64_t i = 0; k >= 0 && i < int_at(a->sizes, k); i++) {
        int64_t c = int_at(a->categories, int_at(a->segments, k) + i);
        bits[c / 32] |= 1u << c % 32;
        if (c > largest) largest = c;
    }
    t->set_start[t->sets + 1] = t->set_start[t->sets] + (int32_t)(largest / 32 + 1);
    t->sets++;
}

static void put_split(const arrays *a, int32_t n, tree *t)
{
    int32_t i = a->number[n];
    bool    set = has_set(a, n), missing_left = (a->by_default[n] != 0) != set; /* a set goes left here */
    t->feature[i] = a->column[n];
    t->left[i] = a->number[set ? a->right[n] : a->left[n]];
    t->right[i] = a->number[set ? a->left[n] : a->right[n]];
    t->kind[i] = (uint8_t)((missing_left ? NODE_DEFAULT_LEFT : 0) | (set ? NODE_CATEGORICAL : NODE_MISSING_NAN));
    t->threshold[i] = set ? t->sets : (double)nextafterf((float)a->condition[n], -INFINITY);
    if (set) put_set(a, n, t);
    t->gain[i] = a->gain[n];
    t->internal_value[i] = a->vector > 1 ? 0 : a->weight[n];
    t->internal_weight[i] = a->hessian[n];
}

static bool make_room(reader *r)
{
    if (r->count < r->room) return true;
    int64_t  room = 2 * r->room + 64;
    tree    *made = realloc(r->made, (size_t)room * sizeof *made);
    int32_t *output = made ? realloc(r->output, (size_t)room * sizeof *output) : NULL;
    if (made) r->made = made;
    if (output) r->output = output, r->room = room;
    return output || (crank_fail(r->context, CRANK_FAILED, "%s: out of memory for %lld trees", r->path, (long long)room), false);
}

/* The tree as one of output `output`. */
static crank_status put_tree(reader *r, const arrays *a, int32_t leaves, int64_t output)
{
    int32_t      sets;
    int64_t      words;
    crank_status status = measure_sets(r, a, &sets, &words);
    if (status != CRANK_OK || !make_room(r)) return crank_last_status(r->context);
    tree *t = &r->made[r->count];
    if (!tree_alloc(r->context, t, leaves, sets, (int32_t)words)) return CRANK_FAILED;
    r->words += words;
    r->output[r->count++] = (int32_t)output;
    t->sets = 0;
    for (int32_t n = 0; n < a->nodes; n++) {
        if (a->number[n] == INT32_MAX) continue;
        if (!is_leaf(a, n)) {
            put_split(a, n, t);
            continue;
        }
        int64_t at = a->nodes == 1 ? 0 : a->right[n];
        t->leaf_value[~a->number[n]] = a->vector > 1 ? a->vectors[at * a->vector + output] : (double)(float)a->condition[n];
        t->leaf_weight[~a->number[n]] = a->hessian[n];
    }
    return tree_check(r->context, t, r->columns, r->path, r->tree);
}

static crank_status read_tree(reader *r, const json_t *from, int64_t output)
{
    arrays       a = {0};
    int32_t      leaves = 0;
    crank_status status = take_arrays(r, from, &a);
    if (status == CRANK_OK) status = number_nodes(r, &a, &leaves);
    for (int64_t k = 0; status == CRANK_OK && k < (a.vector > 1 ? a.vector : 1); k++) status = put_tree(r, &a, leaves, a.vector > 1 ? k : output);
    arrays_free(&a);
    return status;
}

/* ---- the model ---- */

typedef enum link { IDENTITY, LOGIT, LOG } link;

static const struct objective {
    const char *name, *here;
    link        link;
} objectives[] = {
    {"rank:ndcg", "lambdarank", IDENTITY}, {"rank:pairwise", "lambdarank", IDENTITY}, {"rank:map", "lambdarank", IDENTITY}, {"binary:logistic", "binary", LOGIT},
    {"reg:logistic", "binary", LOGIT}, {"binary:logitraw", "regression", LOGIT}, {"multi:softprob", "multiclass", IDENTITY}, {"multi:softmax", "multiclass", IDENTITY},
    {"count:poisson", "poisson", LOG}, {"reg:gamma", "gamma", LOG}, {"reg:tweedie", "tweedie", LOG}, {"reg:squarederror", "regression", IDENTITY},
    {"reg:linear", "regression", IDENTITY}, {"reg:absoluteerror", "regression", IDENTITY}, {"reg:quantileerror", "regression", IDENTITY}, {"reg:pseudohubererror", "regression", IDENTITY},
};

static const struct objective *objective_of(const reader *r, const json_t *learner)
{
    const char *name = json_string_value(json_object_get(json_object_get(learner, "objective"), "name"));
    for (size_t i = 0; name && i < sizeof objectives / sizeof *objectives; i++)
        if (strcmp(objectives[i].name, name) == 0) return &objectives[i];
    crank_fail(r->context, CRANK_BAD_DATA, "%s: XGBoost's objective %s is not read; rank:ndcg, rank:pairwise, rank:map, binary:logistic, multi:softprob and regressions are", r->path, name ? name : "(none)");
    return NULL;
}

static double margin(link l, double x) { return l == LOGIT ? log(x / (1 - x)) : l == LOG ? log(x) : x; }

/* "5E-1", or "[1E-1,2E-1]" one an output */
static crank_status read_base(const reader *r, const json_t *param, link l, crank_trees *trees)
{
    const json_t *v = json_object_get(param, "base_score");
    const char   *text = json_is_string(v) ? json_string_value(v) : "0.5";
    char          word[64];
    int64_t       count = 0;
    double        x = 0;
    for (text += strspn(text, "[ "); *text && *text != ']'; text += strspn(text, ", ")) {
        size_t length = strcspn(text, ", ]");
        if (count == r->outputs || length == 0 || length >= sizeof word) return broken(r, "base_score is not one number an output");
        memcpy(word, text, length);
        word[length] = 0;
        if (!number_parse(word, &x)) return broken(r, "base_score is no number");
        trees->base[count++] = margin(l, x);
        text += length;
    }
    if (json_is_number(v)) trees->base[0] = margin(l, json_number_value(v)), count = 1;
    for (int64_t k = count; count == 1 && k < r->outputs; k++) trees->base[k] = trees->base[0];
    if (count != 1 && count != r->outputs) return broken(r, "base_score is not one number an output");
    for (int64_t k = 0; k < r->outputs; k++)
        if (!isfinite(trees->base[k])) return broken(r, "base_score is outside the range of the objective");
    return CRANK_OK;
}

static crank_status read_names(const reader *r, const json_t *learner, crank_trees *trees)
{
    const json_t *names = json_object_get(learner, "feature_names");
    if (json_array_size(names) == 0) return CRANK_OK;
    if ((int64_t)json_array_size(names) != r->columns) return broken(r, "feature_names does not have num_feature names");
    if (!(trees->names = crank_alloc(r->context, (size_t)r->columns + 1, sizeof *trees->names, "names of columns"))) return CRANK_FAILED;
    for (int64_t j = 0; j < r->columns; j++) {
        const char *name = json_string_value(json_array_get(names, (size_t)j));
        if (!name) return broken(r, "a name of a column is no text");
        if (!(trees->names[j] = crank_strdup(r->context, name))) return CRANK_FAILED;
    }
    return CRANK_OK;
}

/* Tree i of the model belongs to output i % outputs: trees are put in that order. */
static crank_status place_trees(reader *r, crank_trees *trees)
{
    if (r->count % r->outputs) return broken(r, "the outputs do not have the same number of trees");
    int64_t *seen = crank_alloc(r->context, (size_t)r->outputs, sizeof *seen, "trees"), each = r->count / r->outputs;
    bool     good = seen != NULL;
    for (int64_t i = 0; good && i < r->count; i++) good = trees_add(r->context, trees) && ++trees->count;
    for (int64_t i = 0; good && i < r->count; i++) {
        if (seen[r->output[i]] == each) {
            broken(r, "the outputs do not have the same number of trees");
            good = false;
            break;
        }
        trees->trees[seen[r->output[i]]++ * r->outputs + r->output[i]] = r->made[i];
        r->made[i] = (tree){0};
    }
    crank_free(seen);
    return good ? CRANK_OK : crank_last_status(r->context);
}

static crank_status read_trees(reader *r, const json_t *model, crank_trees *trees)
{
    const json_t *list = json_object_get(model, "trees"), *info = json_object_get(model, "tree_info");
    int64_t       count = (int64_t)json_array_size(list);
    if (!json_is_array(list) || (int64_t)json_array_size(info) != count) return broken(r, "trees and tree_info are missing, or not of the same length");
    crank_status status = CRANK_OK;
    for (r->tree = 0; status == CRANK_OK && r->tree < count; r->tree++) {
        int64_t output = int_at(info, r->tree);
        if (output < 0 || output >= r->outputs) status = broken(r, "tree_info names an output that the model does not have");
        else status = read_tree(r, json_array_get(list, (size_t)r->tree), output);
    }
    r->tree = -1;
    if (status == CRANK_OK) status = place_trees(r, trees);
    for (int64_t i = 0; i < r->count; i++) tree_free(&r->made[i]);
    free(r->made);
    free(r->output);
    return status;
}

crank_trees *trees_read_xgboost(crank_context *context, const char *path, const json_t *root)
{
    reader        r = {.context = context, .path = path, .tree = -1};
    const json_t *learner = json_object_get(root, "learner"), *param = json_object_get(learner, "learner_model_param"), *booster = json_object_get(learner, "gradient_booster");
    const char   *kind = json_string_value(json_object_get(booster, "name"));
    int64_t       classes, targets;
    crank_clear(context);
    if (!learner || !kind) {
        broken(&r, "no model of XGBoost: learner.gradient_booster is missing");
        return NULL;
    }
    if (strcmp(kind, "gbtree")) {
        crank_fail(context, CRANK_BAD_DATA, "%s: boosters of kind %s are not read: train with booster=gbtree%s", path, kind, strcmp(kind, "dart") == 0 ? " (dart's dropped trees have weights of their own)" : "");
        return NULL;
    }
    const struct objective *objective = objective_of(&r, learner);
    if (!objective) return NULL;
    if (!whole(param, "num_feature", 0, INT32_MAX - 2, -1, &r.columns) || !whole(param, "num_class", 0, 1 << 20, 0, &classes) || !whole(param, "num_target", 0, 1 << 20, 1, &targets)) {
        broken(&r, "learner_model_param has no num_feature, or a wrong num_class or num_target");
        return NULL;
    }
    r.outputs = classes > 1 ? classes : targets > 1 ? targets : 1;
    crank_trees *trees = trees_new(context, r.columns, r.outputs, objective->here);
    if (!trees) return NULL;
    crank_status status = read_base(&r, param, objective->link, trees);
    if (status == CRANK_OK) status = read_names(&r, learner, trees);
    if (status == CRANK_OK) status = read_trees(&r, json_object_get(booster, "model"), trees);
    if (status == CRANK_OK) return trees;
    crank_trees_free(trees);
    return NULL;
}
