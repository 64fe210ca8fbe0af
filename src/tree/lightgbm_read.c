/* lightgbm_read.c - LightGBM's text format -> a model. Lines are "key=value"; unknown keys are passed over; every count, child and set
 * is checked. Trees with linear leaves are refused. */
#include <stdlib.h>

#include "base/number.h"
#include "tree/tree.h"

enum { MOST_LEAVES = 1 << 24 };

typedef struct reader {
    crank_context *context;
    const char    *path;
    char          *at, *end;
    int64_t        line;
} reader;

static crank_status broken(reader *r, const char *what) { return crank_fail(r->context, CRANK_BAD_DATA, "%s:%lld: %s", r->path, (long long)r->line, what); }

/* The next line, cut at its end; *value behind the "=" (NULL: there is none). NULL: the end. */
static char *next_line(reader *r, char **value)
{
    if (r->at >= r->end) return NULL;
    char *line = r->at, *stop = memchr(line, '\n', (size_t)(r->end - line));
    if (!stop) stop = r->end;
    r->at = stop < r->end ? stop + 1 : r->end;
    *stop = 0;
    if (stop > line && stop[-1] == '\r') stop[-1] = 0;
    r->line++;
    *value = strchr(line, '=');
    if (*value) *(*value)++ = 0;
    return line;
}

static bool next_word(char **text, char **word)
{
    *text += strspn(*text, " \t");
    if (!**text) return false;
    *word = *text;
    *text += strcspn(*text, " \t");
    if (**text) *(*text)++ = 0;
    return true;
}

enum { REALS, INTS, COUNTS, BYTES, WORDS };

/* Exactly `count` numbers of one kind. */
static crank_status take(reader *r, char *text, const char *key, int kind, void *out, int64_t count)
{
    char  *word;
    double number;
    for (int64_t i = 0; i < count; i++) {
        bool good = next_word(&text, &word) && number_parse(word, &number) && !isnan(number);
        if (good && kind != REALS) good = number == floor(number) && number >= (kind == INTS ? INT32_MIN : kind == COUNTS ? -0x1p53 : 0) && number <= (kind == INTS ? INT32_MAX : kind == COUNTS ? 0x1p53 : kind == BYTES ? 15 : 4294967295.0);
        if (!good) return crank_fail(r->context, CRANK_BAD_DATA, "%s:%lld: %s: value %lld of %lld is missing or wrong", r->path, (long long)r->line, key, (long long)i + 1, (long long)count);
        if (kind == REALS) ((double *)out)[i] = number;
        else if (kind == INTS) ((int32_t *)out)[i] = (int32_t)number;
        else if (kind == COUNTS) ((int64_t *)out)[i] = (int64_t)number;
        else if (kind == BYTES) ((uint8_t *)out)[i] = (uint8_t)number;
        else ((uint32_t *)out)[i] = (uint32_t)number;
    }
    return next_word(&text, &word) ? crank_fail(r->context, CRANK_BAD_DATA, "%s:%lld: %s: more than %lld values", r->path, (long long)r->line, key, (long long)count) : CRANK_OK;
}

static bool take_count(const char *text, int64_t low, int64_t high, int64_t *out) { return text && number_parse_int(text, out) && *out >= low && *out <= high; }

static int64_t words_in(const char *text)
{
    int64_t count = 0;
    while (*(text += strspn(text, " \t"))) count++, text += strcspn(text, " \t");
    return count;
}

/* Room for the tree once num_leaves and num_cat are known and, with categories, cat_threshold has been counted. */
static crank_status open_tree(reader *r, tree *t, int64_t leaves, int64_t sets)
{
    int64_t words = 0;
    for (const char *p = r->at; sets > 0 && p < r->end && *p != 0;) { /* look ahead within this block */
        const char *stop = memchr(p, '\n', (size_t)(r->end - p));
        size_t      length = (size_t)((stop ? stop : r->end) - p);
        if (length == 0 || (length == 1 && *p == '\r')) break;
        if (length > 14 && strncmp(p, "cat_threshold=", 14) == 0)
            for (const char *c = p + 14; c < p + length; c++) words += *c != ' ' && (c[-1] == ' ' || c[-1] == '=');
        if (!stop) break;
        p = stop + 1;
    }
    int64_t left = r->end - r->at; /* each leaf takes two bytes at least */
    if (leaves > left / 2 + 2 || sets > left || words > INT32_MAX) return broken(r, "the tree has more leaves than the file has room for");
    return tree_alloc(r->context, t, (int32_t)leaves, (int32_t)sets, (int32_t)words) ? (t->set_start[sets] = 0, CRANK_OK) : CRANK_FAILED;
}

enum { SPLIT_FEATURE = 1, THRESHOLD = 2, KIND = 4, LEFT = 8, RIGHT = 16, LEAF_VALUE = 32, SETS = 64, SET_BITS = 128 };

static crank_status tree_line(reader *r, tree *t, const char *key, char *value, unsigned *have)
{
    int64_t nodes = t->leaves - 1, flag;
    const struct {
        const char *key;
        int         kind;
        void       *out;
        int64_t     count;
        unsigned    bit;
    } fields[] = {
        {"split_feature", INTS, t->feature, nodes, SPLIT_FEATURE}, {"split_gain", REALS, t->gain, nodes, 0}, {"threshold", REALS, t->threshold, nodes, THRESHOLD},
        {"decision_type", BYTES, t->kind, nodes, KIND}, {"left_child", INTS, t->left, nodes, LEFT}, {"right_child", INTS, t->right, nodes, RIGHT},
        {"leaf_value", REALS, t->leaf_value, t->leaves, LEAF_VALUE}, {"leaf_weight", REALS, t->leaf_weight, t->leaves, 0}, {"leaf_count", COUNTS, t->leaf_count, t->leaves, 0},
        {"internal_value", REALS, t->internal_value, nodes, 0}, {"internal_weight", REALS, t->internal_weight, nodes, 0}, {"internal_count", COUNTS, t->internal_count, nodes, 0},
        {"cat_boundaries", INTS, t->set_start, t->sets + 1, SETS}, {"shrinkage", REALS, &t->shrinkage, 1, 0},
    };
    if (!value) return CRANK_OK;
    if (strcmp(key, "is_linear") == 0 && (!take_count(value, 0, 0, &flag))) return broken(r, "trees with linear leaves are not read: train without linear_tree");
    if (strcmp(key, "cat_threshold") == 0 && t->sets > 0) {
        if (!(*have & SETS) || t->set_start[0] != 0 || t->set_start[t->sets] != words_in(value)) return broken(r, "cat_threshold does not have what cat_boundaries promises");
        *have |= SET_BITS;
        return take(r, value, key, WORDS, t->set_bits, t->set_start[t->sets]);
    }
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        if (strcmp(fields[i].key, key) == 0 && (fields[i].count > 0 && (fields[i].bit != SETS || t->sets > 0))) {
            if (fields[i].bit & *have) return broken(r, "a key stands twice in the tree");
            *have |= fields[i].bit;
            if (t->leaves == 1 && (fields[i].out == t->leaf_weight || (void *)fields[i].out == (void *)t->leaf_count) && !words_in(value)) return CRANK_OK;
            return take(r, value, key, fields[i].kind, fields[i].out, fields[i].count);
        }
    return CRANK_OK;
}

static crank_status read_tree(reader *r, crank_trees *trees)
{
    char    *key, *value;
    int64_t  leaves = 0, sets = 0;
    unsigned have = 0, need = LEAF_VALUE;
    tree    *t = trees_add(r->context, trees);
    if (!t) return CRANK_FAILED;
    if (!(key = next_line(r, &value)) || strcmp(key, "num_leaves") || !take_count(value, 1, MOST_LEAVES, &leaves)) return broken(r, "num_leaves must follow, a whole number from 1");
    if (!(key = next_line(r, &value)) || strcmp(key, "num_cat") || !take_count(value, 0, MOST_LEAVES, &sets)) return broken(r, "num_cat must follow, a whole number from 0");
    crank_status status = open_tree(r, t, leaves, sets);
    if (status != CRANK_OK) return status;
    trees->count++;
    while (status == CRANK_OK && (key = next_line(r, &value)) && *key) status = tree_line(r, t, key, value, &have);
    if (leaves > 1) need |= SPLIT_FEATURE | THRESHOLD | KIND | LEFT | RIGHT;
    if (sets > 0) need |= SETS | SET_BITS;
    if (status == CRANK_OK && (have & need) != need) return broken(r, "the tree lacks one of split_feature, threshold, decision_type, left_child, right_child, leaf_value, cat_boundaries, cat_threshold");
    return status == CRANK_OK ? tree_check(r->context, t, trees->columns, r->path, trees->count - 1) : status;
}

typedef struct head {
    int64_t classes, per_iteration, largest;
    char   *objective, *names;
    bool    average;
} head;

static crank_status read_head(reader *r, head *h)
{
    char *key, *value;
    *h = (head){.classes = 1, .per_iteration = 1, .largest = -1};
    if (!(key = next_line(r, &value)) || strcmp(key, "tree")) return broken(r, "no model of LightGBM: the first line is not `tree`");
    while ((key = next_line(r, &value))) {
        if (strcmp(key, "Tree") == 0 || strcmp(key, "end of trees") == 0) break;
        if (strcmp(key, "average_output") == 0) h->average = true;
        if (!value) continue;
        if (strcmp(key, "num_class") == 0 && !take_count(value, 1, 1 << 20, &h->classes)) return broken(r, "num_class must be a whole number from 1");
        if (strcmp(key, "num_tree_per_iteration") == 0 && !take_count(value, 1, 1 << 20, &h->per_iteration)) return broken(r, "num_tree_per_iteration must be a whole number from 1");
        if (strcmp(key, "max_feature_idx") == 0 && !take_count(value, 0, INT32_MAX - 2, &h->largest)) return broken(r, "max_feature_idx must be a whole number from 0");
        if (strcmp(key, "objective") == 0) h->objective = value;
        if (strcmp(key, "feature_names") == 0) h->names = value;
    }
    if (h->largest < 0) return broken(r, "max_feature_idx is missing");
    if (!h->names || words_in(h->names) != h->largest + 1) return broken(r, "feature_names does not have max_feature_idx + 1 names");
    return CRANK_OK;
}

static crank_trees *start(reader *r, const head *h)
{
    char *rest = h->objective ? h->objective : (char[]){""}, *word, *names = h->names;
    const char  *objective = next_word(&rest, &word) ? word : "custom";
    crank_trees *trees = trees_new(r->context, h->largest + 1, h->per_iteration, objective);
    if (!trees) return NULL;
    trees->average = h->average;
    while (next_word(&rest, &word))
        if (strncmp(word, "sigmoid:", 8) == 0 && (!number_parse(word + 8, &trees->sigmoid) || !(trees->sigmoid > 0))) broken(r, "the objective's sigmoid is no positive number");
    trees->names = crank_alloc(r->context, (size_t)trees->columns + 1, sizeof *trees->names, "names of columns");
    for (int64_t j = 0; trees->names && j < trees->columns && next_word(&names, &word); j++) trees->names[j] = crank_strdup(r->context, word);
    if (trees->names && crank_last_status(r->context) == CRANK_OK) return trees;
    crank_trees_free(trees);
    return NULL;
}

crank_trees *trees_read_lightgbm(crank_context *context, const char *path, char *text, size_t length)
{
    reader r = {.context = context, .path = path, .at = text, .end = text + length};
    head   h;
    char  *key = "Tree", *value;
    crank_clear(context);
    crank_status status = read_head(&r, &h);
    bool         any = status == CRANK_OK && r.at < r.end;
    crank_trees *trees = status == CRANK_OK ? start(&r, &h) : NULL;
    if (!trees) return NULL;
    status = any ? read_tree(&r, trees) : broken(&r, "no tree");
    while (status == CRANK_OK && (key = next_line(&r, &value)) && strcmp(key, "end of trees"))
        if (strcmp(key, "Tree") == 0) status = read_tree(&r, trees);
    if (status == CRANK_OK && !key) status = broken(&r, "the file is cut: `end of trees` is missing");
    if (status == CRANK_OK && trees->count % trees->outputs) status = broken(&r, "the number of trees is no multiple of num_tree_per_iteration");
    if (status == CRANK_OK) return trees;
    crank_trees_free(trees);
    return NULL;
}
