/* c_source.c - a model as one C file without dependencies: the trees as tables, and a function that walks them.
 *
 *     void crank_model_score(const float *row, double *out)      raw scores [CRANK_MODEL_OUTPUTS] of row [CRANK_MODEL_COLUMNS], NaN: missing
 *     void crank_model_predict(const float *row, double *out)    the same through the objective's link
 *
 * Numbers are written with all their digits, and leaves are added in the order of trees: scores are the same bits as
 * crank's. */
#include "base/number.h"
#include "base/text.h"
#include "tree/tree.h"

#define TABLE(type, name, format, each, expression)                                             \
    do {                                                                                         \
        text_puts(out, "static const " type " " name "[] = {");                                 \
        for (int64_t i = 0, at = 0; i < trees->count; i++) {                                      \
            const tree *t = &trees->trees[i];                                                    \
            for (int32_t n = 0; n < (each); n++)                                                 \
                text_printf(out, "%s" format ",", at++ % 12 ? " " : "\n    ", expression);       \
        }                                                                                        \
        text_puts(out, "\n    0};\n");                                                          \
    } while (0)

/* The shortest text that C reads back as the same number, with a point whatever the locale. */
static void put_real(text_buffer *out, double x, const char *suffix)
{
    char number[NUMBER_SIZE];
    if (isinf(x)) {
        text_puts(out, x > 0 ? "HUGE_VALF" : "-HUGE_VALF");
        return;
    }
    number_print(x, number);
    text_puts(out, number);
    if (!strpbrk(number, ".e")) text_puts(out, ".0");
    text_puts(out, suffix);
}

static void put_cuts(text_buffer *out, const crank_trees *trees)
{
    text_puts(out, "static const float cut[] = {");
    for (int64_t i = 0, k = 0; i < trees->count; i++)
        for (int32_t n = 0; n < trees->trees[i].leaves - 1; n++) {
            text_puts(out, k++ % 8 ? " " : "\n    ");
            put_real(out, (double)trees->trees[i].cut[n], "f");
            text_putc(out, ',');
        }
    text_puts(out, "\n    0};\n");
}

static void put_leaves(text_buffer *out, const crank_trees *trees)
{
    text_puts(out, "static const double leaf[] = {");
    for (int64_t i = 0, k = 0; i < trees->count; i++)
        for (int32_t n = 0; n < trees->trees[i].leaves; n++) {
            text_puts(out, k++ % 6 ? " " : "\n    ");
            put_real(out, trees->trees[i].leaf_value[n], "");
            text_putc(out, ',');
        }
    text_puts(out, "\n    0};\n");
}

/* Where each tree's nodes, leaves and sets begin. */
static void put_starts(text_buffer *out, const crank_trees *trees)
{
    int64_t nodes = 0, leaves = 0, sets = 0;
    text_puts(out, "static const struct {\n    int nodes, leaves, sets;\n} first[] = {");
    for (int64_t i = 0; i < trees->count; i++) {
        const tree *t = &trees->trees[i];
        text_printf(out, "%s{%lld, %lld, %lld},", i % 6 ? " " : "\n    ", (long long)nodes, (long long)leaves, (long long)sets);
        nodes += t->leaves - 1;
        leaves += t->leaves;
        sets += t->sets;
    }
    text_printf(out, "\n    {%lld, %lld, %lld}};\n", (long long)nodes, (long long)leaves, (long long)sets);
}

static const char walk_source[] =
    "\n/* 1: left */\n"
    "static int decides(int at, int sets, float x)\n"
    "{\n"
    "    int k = kind[at];\n"
    "    if (k & 1) {\n"
    "        if (x != x) return (k & 2) != 0;\n"
    "        if (!(x > -1.0f && x < 2147483648.0f)) return 0;\n"
    "        int category = (int)x, set = sets + set_of[at];\n"
    "        return category / 32 < set_first[set + 1] - set_first[set] && (set_bits[set_first[set] + category / 32] >> category % 32 & 1);\n"
    "    }\n"
    "    if (x != x && !(k & 8)) x = 0;\n"
    "    if (x != x || ((k & 4) && fabsf(x) <= 1e-35f)) return (k & 2) != 0;\n"
    "    return x <= cut[at];\n"
    "}\n"
    "\n"
    "void crank_model_score(const float *row, double *out)\n"
    "{\n"
    "    for (int k = 0; k < CRANK_MODEL_OUTPUTS; k++) out[k] = 0;\n"
    "    for (int t = 0; t < CRANK_MODEL_TREES; t++) {\n"
    "        int node = first[t + 1].leaves - first[t].leaves > 1 ? 0 : ~0;\n"
    "        while (node >= 0) {\n"
    "            int at = first[t].nodes + node;\n"
    "            node = decides(at, first[t].sets, row[column[at]]) ? left[at] : right[at];\n"
    "        }\n"
    "        out[t % CRANK_MODEL_OUTPUTS] += leaf[first[t].leaves + ~node];\n"
    "    }\n";

static const char *link_source(const char *objective)
{
    static const char *const logistic[] = {"binary", "cross_entropy", "multiclassova"}, *const exponential[] = {"poisson", "gamma", "tweedie"};
    for (int i = 0; i < 3; i++) {
        if (strcmp(objective, logistic[i]) == 0) return "    for (int k = 0; k < CRANK_MODEL_OUTPUTS; k++) out[k] = 1 / (1 + exp(-sigmoid * out[k]));\n";
        if (strcmp(objective, exponential[i]) == 0) return "    for (int k = 0; k < CRANK_MODEL_OUTPUTS; k++) out[k] = exp(out[k]);\n";
    }
    if (strcmp(objective, "multiclass")) return "";
    return "    double top = out[0], sum = 0;\n"
           "    for (int k = 1; k < CRANK_MODEL_OUTPUTS; k++) top = fmax(top, out[k]);\n"
           "    for (int k = 0; k < CRANK_MODEL_OUTPUTS; k++) sum += out[k] = exp(out[k] - top);\n"
           "    for (int k = 0; k < CRANK_MODEL_OUTPUTS; k++) out[k] /= sum;\n";
}

/* A set's place among all sets is first[tree].sets + set_of[node]; its words begin at set_first. */
static void put_sets(text_buffer *out, const crank_trees *trees)
{
    int64_t words = 0, k = 0;
    text_puts(out, "static const int set_first[] = {");
    for (int64_t i = 0; i < trees->count; words += trees->trees[i].set_start[trees->trees[i].sets], i++)
        for (int32_t n = 0; n < trees->trees[i].sets; n++) text_printf(out, "%s%lld,", k++ % 12 ? " " : "\n    ", (long long)(words + trees->trees[i].set_start[n]));
    text_printf(out, "\n    %lld};\n", (long long)words);
    TABLE("unsigned", "set_bits", "0x%xu", t->set_start[t->sets], t->set_bits[n]);
}

char *trees_write_c(crank_context *context, const crank_trees *trees)
{
    text_buffer buffer = {0}, *out = &buffer;
    text_printf(out, "/* A model of %lld boosted trees (%s), written by crank. crank_model_score: raw scores of a row of CRANK_MODEL_COLUMNS values, NaN: missing;\n"
                     " * crank_model_predict: through the objective's link. */\n#include <math.h>\n\n"
                     "enum { CRANK_MODEL_COLUMNS = %lld, CRANK_MODEL_OUTPUTS = %lld, CRANK_MODEL_TREES = %lld };\n"
                     "void crank_model_score(const float *row, double *out);\nvoid crank_model_predict(const float *row, double *out);\n\n",
                (long long)trees->count, trees->objective, (long long)trees->columns, (long long)trees->outputs, (long long)trees->count);
    put_starts(out, trees);
    TABLE("int", "column", "%d", t->leaves - 1, t->feature[n]);
    put_cuts(out, trees);
    TABLE("unsigned char", "kind", "%d", t->leaves - 1, t->kind[n]);
    TABLE("int", "set_of", "%d", t->leaves - 1, t->kind[n] & NODE_CATEGORICAL ? (int)t->threshold[n] : 0);
    TABLE("int", "left", "%d", t->leaves - 1, t->left[n]);
    TABLE("int", "right", "%d", t->leaves - 1, t->right[n]);
    put_leaves(out, trees);
    put_sets(out, trees);
    text_puts(out, "static const double base[] = {");
    for (int64_t k = 0; k < trees->outputs; k++) {
        if (k) text_puts(out, ", ");
        put_real(out, trees->base[k], "");
    }
    text_puts(out, "};\n");
    text_puts(out, walk_source);
    if (trees->average && trees->count > 0) text_printf(out, "    for (int k = 0; k < CRANK_MODEL_OUTPUTS; k++) out[k] /= %lld;\n", (long long)(trees->count / trees->outputs));
    text_puts(out, "    for (int k = 0; k < CRANK_MODEL_OUTPUTS; k++) out[k] += base[k];\n}\n\nvoid crank_model_predict(const float *row, double *out)\n{\n");
    if (strstr(link_source(trees->objective), "sigmoid")) {
        text_puts(out, "    const double sigmoid = ");
        put_real(out, trees->sigmoid, ";\n");
    }
    text_printf(out, "    crank_model_score(row, out);\n%s}\n", link_source(trees->objective));
    return text_take(context, out, "a model as C source");
}
