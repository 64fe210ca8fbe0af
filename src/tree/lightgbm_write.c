/* lightgbm_write.c - a model as LightGBM's text format, version 4.
 *
 *     tree, version=v4, num_class, num_tree_per_iteration, label_index, max_feature_idx, objective, feature_names, feature_infos,
 *     tree_sizes (bytes of each block), then a block a tree: "Tree=i", arrays as "key=v v v", a blank line; then "end of trees".
 *
 * The format has no constant of its own: it is added to the leaves of the first tree of each output. */
#include "base/number.h"
#include "base/text.h"
#include "tree/tree.h"

static void put_reals(text_buffer *out, const char *key, const double *values, int64_t count, double shift)
{
    char number[NUMBER_SIZE];
    text_printf(out, "%s=", key);
    for (int64_t i = 0; i < count; i++) {
        number_print(isinf(values[i]) ? copysign(1e300, values[i]) : values[i] + shift, number);
        if (i) text_putc(out, ' ');
        text_puts(out, number);
    }
    text_putc(out, '\n');
}

static void put_ints(text_buffer *out, const char *key, const int32_t *values, int64_t count)
{
    text_printf(out, "%s=", key);
    for (int64_t i = 0; i < count; i++) text_printf(out, i ? " %d" : "%d", values[i]);
    text_putc(out, '\n');
}

static void put_counts(text_buffer *out, const char *key, const int64_t *values, int64_t count)
{
    text_printf(out, "%s=", key);
    for (int64_t i = 0; i < count; i++) text_printf(out, i ? " %lld" : "%lld", (long long)values[i]);
    text_putc(out, '\n');
}

static void put_tree(text_buffer *out, const tree *t, int64_t number, double base)
{
    int64_t nodes = t->leaves - 1;
    text_printf(out, "Tree=%lld\nnum_leaves=%d\nnum_cat=%d\n", (long long)number, t->leaves, t->sets);
    if (nodes > 0) {
        put_ints(out, "split_feature", t->feature, nodes);
        put_reals(out, "split_gain", t->gain, nodes, 0);
        put_reals(out, "threshold", t->threshold, nodes, 0);
        text_puts(out, "decision_type=");
        for (int64_t i = 0; i < nodes; i++) text_printf(out, i ? " %d" : "%d", t->kind[i]);
        text_putc(out, '\n');
        put_ints(out, "left_child", t->left, nodes);
        put_ints(out, "right_child", t->right, nodes);
    }
    put_reals(out, "leaf_value", t->leaf_value, t->leaves, base);
    if (nodes > 0) {
        put_reals(out, "leaf_weight", t->leaf_weight, t->leaves, 0);
        put_counts(out, "leaf_count", t->leaf_count, t->leaves);
        put_reals(out, "internal_value", t->internal_value, nodes, base);
        put_reals(out, "internal_weight", t->internal_weight, nodes, 0);
        put_counts(out, "internal_count", t->internal_count, nodes);
        if (t->sets > 0) {
            put_ints(out, "cat_boundaries", t->set_start, t->sets + 1);
            text_puts(out, "cat_threshold=");
            for (int32_t i = 0; i < t->set_start[t->sets]; i++) text_printf(out, i ? " %u" : "%u", t->set_bits[i]);
            text_putc(out, '\n');
        }
    }
    char number_text[NUMBER_SIZE];
    number_print(t->shrinkage, number_text);
    text_printf(out, "is_linear=0\nshrinkage=%s\n\n\n", number_text);
}

/* Names may hold no spaces. */
static void put_name(text_buffer *out, const crank_trees *trees, int64_t column)
{
    const char *name = crank_trees_column(trees, column);
    if (!name) text_printf(out, "Column_%lld", (long long)column);
    for (; name && *name; name++) text_putc(out, *name == ' ' || *name == '\t' || *name == '\n' || *name == '\r' ? '_' : *name);
}

static void put_header(text_buffer *out, const crank_trees *t)
{
    char slope[NUMBER_SIZE], low[NUMBER_SIZE], high[NUMBER_SIZE];
    number_print(t->sigmoid, slope);
    text_printf(out, "tree\nversion=v4\nnum_class=%lld\nnum_tree_per_iteration=%lld\nlabel_index=0\nmax_feature_idx=%lld\nobjective=%s", (long long)t->outputs, (long long)t->outputs,
                (long long)t->columns - 1, t->objective);
    if (strcmp(t->objective, "binary") == 0 || strcmp(t->objective, "multiclassova") == 0) text_printf(out, " sigmoid:%s", slope);
    if (t->outputs > 1) text_printf(out, " num_class:%lld", (long long)t->outputs);
    text_puts(out, t->average ? "\naverage_output\nfeature_names=" : "\nfeature_names=");
    for (int64_t j = 0; j < t->columns; j++) {
        if (j) text_putc(out, ' ');
        put_name(out, t, j);
    }
    text_puts(out, "\nfeature_infos=");
    for (int64_t j = 0; j < t->columns; j++) {
        if (j) text_putc(out, ' ');
        if (!t->low || t->low[j] > t->high[j]) {
            text_puts(out, "none");
            continue;
        }
        number_print(t->low[j], low);
        number_print(t->high[j], high);
        text_printf(out, "[%s:%s]", low, high);
    }
    text_putc(out, '\n');
}

/* What the constant adds to the leaves of tree i. An average of n trees takes all of it in each. */
static double base_of(const crank_trees *t, int64_t i) { return t->average || i < t->outputs ? t->base[i % t->outputs] : 0; }

/* A model without trees is one of single leaves. */
static bool put_constant(crank_context *context, const crank_trees *t, text_buffer *out)
{
    tree leaf;
    if (!tree_alloc(context, &leaf, 1, 0, 0)) return false;
    for (int64_t k = 0; k < t->outputs; k++) put_tree(out, &leaf, k, t->base[k]);
    tree_free(&leaf);
    return true;
}

char *trees_write_lightgbm(crank_context *context, const crank_trees *t)
{
    text_buffer out = {0}, blocks = {0}, sizes = {0};
    put_header(&out, t);
    if (t->count == 0 && !put_constant(context, t, &blocks)) return NULL;
    for (int64_t i = 0; i < t->count; i++) {
        size_t before = blocks.length;
        put_tree(&blocks, &t->trees[i], i, base_of(t, i));
        text_printf(&sizes, i ? " %zu" : "%zu", blocks.length - before);
    }
    if (t->count > 0) text_printf(&out, "tree_sizes=%s\n", sizes.bytes ? sizes.bytes : "");
    text_putc(&out, '\n');
    text_add(&out, blocks.bytes ? blocks.bytes : "", blocks.length);
    text_puts(&out, "end of trees\n\nfeature_importances:\n\nparameters:\nend of parameters\n\npandas_categorical:null\n");
    out.failed |= blocks.failed || sizes.failed;
    text_clear(&blocks);
    text_clear(&sizes);
    return text_take(context, &out, "a model of trees");
}
