/* binary_file.c - crank's own model file (NAME.trees): nothing to parse, every number with all its bits. Little-endian:
 *
 *     "CRNKTREE"  u32 version (1)  u32 CRC-32C of all bytes behind byte 16
 *     u64 bytes of the file, columns, outputs, trees, leaves of all trees, sets of all, words of sets of all, bytes of text
 *     f64 sigmoid, best validation measure;  u64 flags: 1 average, 2 names, 4 ranges of columns
 *     arrays, each padded to 8 bytes: i32 leaves [trees], i32 sets [trees], f64 shrinkage [trees], f64 base [outputs],
 *         f64 low, high [columns] (flag 4), then field by field an array a tree, nodes = leaves - 1:
 *         i32 feature, left, right [nodes]; u8 kind [nodes]; f64 threshold, gain, internal value, internal weight [nodes]; i64 internal
 *         count [nodes]; f64 leaf value, leaf weight [leaves]; i64 leaf count [leaves]; i32 set start [sets + 1]; u32 bits [words]
 *     text: the objective, then the names of all columns (flag 2), each ended by a zero byte
 *
 * Arrays stand where their length says, so the file can be mapped. Everything is checked when it is read. */
#include <stdlib.h>

#include "base/crc32c.h"
#include "base/file.h"
#include "base/text.h"
#include "tree/tree.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "model files are little-endian"
#endif

static const char magic[8] = {'C', 'R', 'N', 'K', 'T', 'R', 'E', 'E'};
enum { VERSION = 1, AVERAGE = 1, NAMES = 2, RANGES = 4, SUMMED_FROM = 16, MOST_LEAVES = 1 << 24 };

typedef struct head {
    char     magic[8];
    uint32_t version, sum;
    uint64_t bytes, columns, outputs, trees, leaves, sets, words, text;
    double   sigmoid, best;
    uint64_t flags;
} head;

/* ---- one walk over all arrays, for writing and for reading ---- */

typedef struct mover {
    text_buffer   *out;          /* writing; NULL: reading */
    const uint8_t *at, *end;     /* reading */
    bool           failed;       /* the file is too short */
} mover;

static void move(mover *m, void *array, int64_t count, size_t size)
{
    size_t bytes = (size_t)count * size, padded = (bytes + 7) & ~(size_t)7;
    if (m->out) {
        text_add(m->out, array, bytes);
        text_add(m->out, "\0\0\0\0\0\0\0", padded - bytes);
    } else if (m->failed || (size_t)(m->end - m->at) < padded)
        m->failed = true;
    else {
        if (bytes) memcpy(array, m->at, bytes);
        m->at += padded;
    }
}

#define MOVE_ALL(field, each)                                                                                                                 \
    for (int64_t i = 0; i < trees->count; i++) {                                                                                               \
        tree *t = &trees->trees[i];                                                                                                            \
        move(m, t->field, each, sizeof *t->field);                                                                                            \
    }

static void move_trees(mover *m, const crank_trees *trees)
{
    MOVE_ALL(feature, t->leaves - 1)
    MOVE_ALL(left, t->leaves - 1)
    MOVE_ALL(right, t->leaves - 1)
    MOVE_ALL(kind, t->leaves - 1)
    MOVE_ALL(threshold, t->leaves - 1)
    MOVE_ALL(gain, t->leaves - 1)
    MOVE_ALL(internal_value, t->leaves - 1)
    MOVE_ALL(internal_weight, t->leaves - 1)
    MOVE_ALL(internal_count, t->leaves - 1)
    MOVE_ALL(leaf_value, t->leaves)
    MOVE_ALL(leaf_weight, t->leaves)
    MOVE_ALL(leaf_count, t->leaves)
    MOVE_ALL(set_start, t->sets + 1)
}

/* Words of sets come last: their number is known once set_start is. */
static void move_bits(mover *m, const crank_trees *trees) { MOVE_ALL(set_bits, t->set_start[t->sets]) }

/* ---- writing ---- */

static bool has_any_name(const crank_trees *trees)
{
    for (int64_t j = 0; trees->names && j < trees->columns; j++)
        if (trees->names[j]) return true;
    return false;
}

static void put_shape(text_buffer *out, crank_context *context, const crank_trees *trees)
{
    size_t   n = (size_t)trees->count;
    mover    m = {.out = out};
    int32_t *leaves = crank_alloc(context, n + 1, sizeof *leaves, "a model file"), *sets = crank_alloc(context, n + 1, sizeof *sets, "a model file");
    double  *shrinkage = crank_alloc(context, n + 1, sizeof *shrinkage, "a model file");
    out->failed |= !leaves || !sets || !shrinkage;
    for (size_t i = 0; !out->failed && i < n; i++) leaves[i] = trees->trees[i].leaves, sets[i] = trees->trees[i].sets, shrinkage[i] = trees->trees[i].shrinkage;
    if (!out->failed) {
        move(&m, leaves, trees->count, sizeof *leaves);
        move(&m, sets, trees->count, sizeof *sets);
        move(&m, shrinkage, trees->count, sizeof *shrinkage);
    }
    crank_free(leaves);
    crank_free(sets);
    crank_free(shrinkage);
}

static head head_of(const crank_trees *trees)
{
    head h = {.version = VERSION, .columns = (uint64_t)trees->columns, .outputs = (uint64_t)trees->outputs, .trees = (uint64_t)trees->count, .sigmoid = trees->sigmoid, .best = trees->best,
              .flags = (trees->average ? AVERAGE : 0u) | (has_any_name(trees) ? NAMES : 0u) | (trees->low ? RANGES : 0u)};
    memcpy(h.magic, magic, sizeof magic);
    for (int64_t i = 0; i < trees->count; i++) {
        h.leaves += (uint64_t)trees->trees[i].leaves;
        h.sets += (uint64_t)trees->trees[i].sets;
        h.words += (uint64_t)trees->trees[i].set_start[trees->trees[i].sets];
    }
    return h;
}

crank_status trees_write_binary(crank_context *context, const crank_trees *trees, const char *path)
{
    text_buffer out = {0};
    mover       m = {.out = &out};
    head        h = head_of(trees);
    text_add(&out, (const char *)&h, sizeof h);
    put_shape(&out, context, trees);
    move(&m, trees->base, trees->outputs, sizeof *trees->base);
    if (trees->low) move(&m, trees->low, trees->columns, sizeof *trees->low), move(&m, trees->high, trees->columns, sizeof *trees->high);
    move_trees(&m, trees);
    move_bits(&m, trees);
    size_t before = out.length;
    text_add(&out, trees->objective, strlen(trees->objective) + 1);
    for (int64_t j = 0; h.flags & NAMES && j < trees->columns; j++) {
        const char *name = trees->names[j] ? trees->names[j] : "";
        text_add(&out, name, strlen(name) + 1);
    }
    h.text = out.length - before;
    h.bytes = out.length;
    size_t       length = out.length;
    char        *bytes = text_take(context, &out, "a model file");
    file_writer *writer = bytes ? file_writer_open(context, path) : NULL;
    crank_status status = writer ? CRANK_OK : CRANK_FAILED;
    if (writer) {
        memcpy(bytes, &h, sizeof h);
        h.sum = crc32c(bytes + SUMMED_FROM, length - SUMMED_FROM);
        memcpy(bytes, &h, sizeof h);
        status = file_writer_write(context, writer, bytes, length);
        if (status == CRANK_OK) status = file_writer_commit(context, writer);
        else file_writer_abort(writer);
    }
    crank_free(bytes);
    return status;
}

/* ---- reading ---- */

static crank_status broken(crank_context *context, const char *path, const char *what) { return crank_fail(context, CRANK_BAD_DATA, "%s: %s", path, what); }

static crank_status check_head(crank_context *context, const char *path, const head *h, size_t length, const uint8_t *bytes)
{
    if (h->version != VERSION) return crank_fail(context, CRANK_BAD_DATA, "%s: a model file of version %u; this program reads version %d", path, h->version, VERSION);
    if (h->bytes != length) return broken(context, path, "the file is cut, or has more bytes than it says");
    if (h->sum != crc32c(bytes + SUMMED_FROM, length - SUMMED_FROM)) return broken(context, path, "the checksum does not hold: the file is damaged");
    if (h->columns >= INT32_MAX || h->outputs < 1 || h->outputs > length / 8 || h->trees > length / 8 || h->trees % h->outputs || h->leaves > length / 8 || h->sets > length / 4 ||
        h->words > length / 4 || h->text < 1 || h->text > length || (h->flags & RANGES && h->columns > length / 16) || (h->flags & NAMES && h->columns > h->text))
        return broken(context, path, "a count is larger than the file");
    if (!(h->sigmoid > 0) || !isfinite(h->sigmoid)) return broken(context, path, "the slope of the link is no positive number");
    return CRANK_OK;
}

/* Trees with room for their arrays. */
static crank_status make_trees(crank_context *context, const char *path, const head *h, mover *m, crank_trees *trees)
{
    size_t       n = (size_t)h->trees;
    int32_t     *leaves = crank_alloc(context, n + 1, sizeof *leaves, "a model file"), *sets = crank_alloc(context, n + 1, sizeof *sets, "a model file");
    double      *shrinkage = crank_alloc(context, n + 1, sizeof *shrinkage, "a model file");
    uint64_t     all_leaves = 0, all_sets = 0;
    crank_status status = leaves && sets && shrinkage ? CRANK_OK : CRANK_FAILED;
    if (status == CRANK_OK) {
        move(m, leaves, (int64_t)n, sizeof *leaves);
        move(m, sets, (int64_t)n, sizeof *sets);
        move(m, shrinkage, (int64_t)n, sizeof *shrinkage);
        if (m->failed) status = broken(context, path, "the file is too short");
    }
    for (size_t i = 0; status == CRANK_OK && i < n; i++) {
        tree *t = trees_add(context, trees);
        if (leaves[i] < 1 || leaves[i] > MOST_LEAVES || sets[i] < 0 || (all_leaves += (uint64_t)leaves[i]) > h->leaves || (all_sets += (uint64_t)sets[i]) > h->sets)
            status = broken(context, path, "a tree has more leaves or sets than the file says");
        else if (!t || !tree_alloc(context, t, leaves[i], sets[i], 0)) status = CRANK_FAILED;
        else t->shrinkage = shrinkage[i], trees->count++;
    }
    crank_free(leaves);
    crank_free(sets);
    crank_free(shrinkage);
    return status;
}

static crank_status make_bits(crank_context *context, const char *path, const head *h, crank_trees *trees)
{
    uint64_t words = 0;
    for (int64_t i = 0; i < trees->count; i++) {
        tree *t = &trees->trees[i];
        if (t->set_start[0] != 0) return broken(context, path, "sets of categories do not begin at 0");
        for (int32_t k = 0; k < t->sets; k++)
            if (t->set_start[k] > t->set_start[k + 1]) return broken(context, path, "sets of categories run backwards");
        if ((words += (uint64_t)t->set_start[t->sets]) > h->words) return broken(context, path, "there are more sets of categories than the file says");
        crank_free(t->set_bits);
        if (!(t->set_bits = crank_alloc(context, (size_t)t->set_start[t->sets] + 1, sizeof *t->set_bits, "sets of categories"))) return CRANK_FAILED;
    }
    return CRANK_OK;
}

static crank_status read_names(crank_context *context, const char *path, const head *h, const char *text, const char *end, crank_trees *trees)
{
    if (!(h->flags & NAMES)) return CRANK_OK;
    if (!(trees->names = crank_alloc(context, (size_t)h->columns + 1, sizeof *trees->names, "names of columns"))) return CRANK_FAILED;
    for (int64_t j = 0; j < trees->columns; j++, text += strlen(text) + 1) {
        if (text >= end) return broken(context, path, "names of columns are missing");
        if (*text && !(trees->names[j] = crank_strdup(context, text))) return CRANK_FAILED;
    }
    return CRANK_OK;
}

static crank_status read_model(crank_context *context, const char *path, const head *h, mover *m, crank_trees *trees)
{
    crank_status status = make_trees(context, path, h, m, trees);
    if (status != CRANK_OK) return status;
    move(m, trees->base, trees->outputs, sizeof *trees->base);
    if (h->flags & RANGES) {
        trees->low = crank_alloc(context, (size_t)h->columns + 1, sizeof *trees->low, "ranges of columns");
        trees->high = crank_alloc(context, (size_t)h->columns + 1, sizeof *trees->high, "ranges of columns");
        if (!trees->low || !trees->high) return CRANK_FAILED;
        move(m, trees->low, trees->columns, sizeof *trees->low);
        move(m, trees->high, trees->columns, sizeof *trees->high);
    }
    move_trees(m, trees);
    if (m->failed) return broken(context, path, "the file is too short");
    if ((status = make_bits(context, path, h, trees)) != CRANK_OK) return status;
    move_bits(m, trees);
    if (m->failed) return broken(context, path, "the file is too short");
    for (int64_t k = 0; k < trees->outputs; k++)
        if (!isfinite(trees->base[k])) return broken(context, path, "the constant is not finite");
    for (int64_t i = 0; status == CRANK_OK && i < trees->count; i++) status = tree_check(context, &trees->trees[i], trees->columns, path, i);
    return status;
}

bool trees_is_binary(const void *bytes, size_t length) { return length >= sizeof(head) && memcmp(bytes, magic, sizeof magic) == 0; }

crank_trees *trees_read_binary(crank_context *context, const char *path, const void *bytes, size_t length)
{
    head         h;
    const char  *end = (const char *)bytes + length;
    crank_status status;
    memcpy(&h, bytes, sizeof h);
    if ((status = check_head(context, path, &h, length, bytes)) != CRANK_OK) return NULL;
    const char *text = end - h.text;
    if (h.text > length - sizeof h || end[-1] != 0) {
        broken(context, path, "the objective's name is missing");
        return NULL;
    }
    crank_trees *trees = trees_new(context, (int64_t)h.columns, (int64_t)h.outputs, text);
    mover        m = {.at = (const uint8_t *)bytes + sizeof h, .end = (const uint8_t *)text};
    if (!trees) return NULL;
    trees->average = h.flags & AVERAGE;
    trees->sigmoid = h.sigmoid;
    trees->best = h.best;
    status = read_model(context, path, &h, &m, trees);
    if (status == CRANK_OK) status = read_names(context, path, &h, text + strlen(text) + 1, end, trees);
    if (status == CRANK_OK) return trees;
    crank_trees_free(trees);
    return NULL;
}
