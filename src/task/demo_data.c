/* demo_data.c - reads the licences, drops near-duplicates from the held-out part.
 *
 * A paragraph's words (letters and digits, lower case) give the set of its runs of five words, as 64-bit hashes. A held-out paragraph
 * goes when at least half of its runs occur in the training text; one of fewer than five words goes when it occurs there whole. */
#include "task/demo_data.h"

#include <ctype.h>
#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/text.h"

enum { RUN = 5 };

static const char *const held_families[] = {"MPL", "Artistic"};

static bool is_held(const char *name)
{
    for (size_t i = 0; i < sizeof held_families / sizeof held_families[0]; i++)
        if (!strncmp(name, held_families[i], strlen(held_families[i]))) return true;
    return false;
}

/* ---- a set of hashes ---- */

typedef struct hash_set {
    uint64_t *slots; /* 0: empty */
    size_t    size, count;
} hash_set;

static bool set_has(const hash_set *set, uint64_t hash)
{
    if (!set->size) return false;
    for (size_t i = hash & (set->size - 1); set->slots[i]; i = (i + 1) & (set->size - 1))
        if (set->slots[i] == hash) return true;
    return false;
}

static bool set_add(hash_set *set, uint64_t hash)
{
    if (2 * (set->count + 1) > set->size) {
        hash_set bigger = {.size = set->size ? 2 * set->size : 4096};
        bigger.slots = calloc(bigger.size, sizeof *bigger.slots);
        if (!bigger.slots) return false;
        for (size_t i = 0; i < set->size; i++)
            if (set->slots[i]) set_add(&bigger, set->slots[i]);
        free(set->slots);
        *set = bigger;
    }
    if (set_has(set, hash)) return true;
    size_t i = hash & (set->size - 1);
    while (set->slots[i]) i = (i + 1) & (set->size - 1);
    set->slots[i] = hash;
    set->count++;
    return true;
}

/* ---- runs of words ---- */

typedef bool run_visitor(void *user, uint64_t hash);

/* Calls `visit` with the hash of every run of RUN words, or of all words when there are fewer. False: the visitor said so. */
static bool each_run(const char *text, size_t length, run_visitor *visit, void *user)
{
    uint64_t words[RUN];
    size_t   count = 0;
    for (size_t i = 0; i < length;) {
        uint64_t word = 0xcbf29ce484222325u;
        while (i < length && !isalnum((unsigned char)text[i])) i++;
        if (i == length) break;
        for (; i < length && isalnum((unsigned char)text[i]); i++) word = (word ^ (uint64_t)tolower((unsigned char)text[i])) * 0x100000001b3u;
        words[count++ % RUN] = word;
        if (count < RUN) continue;
        uint64_t run = 1;
        for (size_t k = 0; k < RUN; k++) run = (run ^ words[(count + k) % RUN]) * 0x9e3779b97f4a7c15u;
        if (!visit(user, run | 1)) return false;
    }
    if (count == 0 || count >= RUN) return true;
    uint64_t run = 2;
    for (size_t k = 0; k < count; k++) run = (run ^ words[k]) * 0x9e3779b97f4a7c15u;
    return visit(user, run | 1);
}

static bool add_run(void *user, uint64_t hash) { return set_add(user, hash); }

typedef struct overlap {
    const hash_set *set;
    size_t          all, shared;
} overlap;

static bool count_run(void *user, uint64_t hash)
{
    overlap *o = user;
    o->all++;
    o->shared += set_has(o->set, hash);
    return true;
}

/* ---- files ---- */

/* The next paragraph at or after *at: text up to an empty line. False at the end. */
static bool next_paragraph(const char *text, size_t length, size_t *at, const char **start, size_t *count)
{
    while (*at < length && (text[*at] == '\n' || text[*at] == '\f' || text[*at] == '\r')) ++*at;
    if (*at >= length) return false;
    *start = text + *at;
    while (*at < length) {
        const char *end = memchr(text + *at, '\n', length - *at);
        *at = end ? (size_t)(end - text) + 1 : length;
        size_t next = *at;
        while (next < length && (text[next] == ' ' || text[next] == '\t' || text[next] == '\r')) next++;
        if (next >= length || text[next] == '\n' || text[next] == '\f') break;
    }
    *count = (size_t)(text + *at - *start);
    return true;
}

typedef struct collector {
    crank_context *context;
    hash_set       seen; /* runs of the training text */
    text_buffer    train, held;
    demo_text     *told;
} collector;

static crank_status add_file(collector *c, const char *path, bool held)
{
    size_t       length, at = 0, count;
    const char  *start;
    char        *text = file_read(c->context, path, &length);
    crank_status status = text ? CRANK_OK : crank_last_status(c->context);
    while (status == CRANK_OK && next_paragraph(text, length, &at, &start, &count)) {
        overlap o = {.set = &c->seen};
        if (held) each_run(start, count, count_run, &o);
        else if (!each_run(start, count, add_run, &c->seen)) status = crank_fail(c->context, CRANK_FAILED, "out of memory: %s", path);
        if (held && (!o.all || 2 * o.shared >= o.all)) {
            c->told->near_duplicates++;
            continue;
        }
        text_buffer *out = held ? &c->held : &c->train;
        text_add(out, start, count);
        text_add(out, "\n", 1);
        *(held ? &c->told->held_paragraphs : &c->told->paragraphs) += 1;
    }
    *(held ? &c->told->held_files : &c->told->files) += status == CRANK_OK;
    crank_free(text);
    return status;
}

static int by_name(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

/* Names of the regular files of a folder, sorted: the order of a folder is not the same everywhere. */
static crank_status list_files(crank_context *context, const char *source, char ***names, size_t *count)
{
    DIR           *folder = opendir(source);
    struct dirent *entry;
    crank_status   status = CRANK_OK;
    *names = NULL;
    *count = 0;
    if (!folder) return crank_fail(context, CRANK_BAD_DATA, "%s cannot be opened: it is part of Debian's base-files; give another folder of texts", source);
    while (status == CRANK_OK && (entry = readdir(folder))) {
        struct stat about;
        char       *path = file_join(context, source, entry->d_name);
        if (!path) status = CRANK_FAILED;
        else if (lstat(path, &about) == 0 && S_ISREG(about.st_mode)) {
            char **bigger = realloc(*names, (*count + 1) * sizeof **names);
            if (bigger) *names = bigger;
            if (!bigger || !((*names)[*count] = strdup(entry->d_name))) status = crank_fail(context, CRANK_FAILED, "out of memory: %s", source);
            else ++*count;
        }
        crank_free(path);
    }
    closedir(folder);
    if (*count) qsort(*names, *count, sizeof **names, by_name);
    return status;
}

static crank_status write_part(crank_context *context, const char *folder, const char *name, const text_buffer *text)
{
    char        *path = file_join(context, folder, name);
    crank_status status = CRANK_FAILED;
    if (path && text->failed) status = crank_fail(context, CRANK_FAILED, "out of memory: %s", path);
    else if (path && !text->length) status = crank_fail(context, CRANK_BAD_DATA, "%s would be empty: the source folder lacks such texts", path);
    else if (path) status = file_write_text(context, path, text->bytes);
    crank_free(path);
    return status;
}

crank_status demo_data_write(crank_context *context, const char *source, const char *folder, demo_text *told)
{
    collector    c = {.context = context, .told = told};
    char       **names;
    size_t       count;
    *told = (demo_text){0};
    crank_status status = list_files(context, source, &names, &count);
    for (int held = 0; held < 2; held++)
        for (size_t i = 0; i < count && status == CRANK_OK; i++) {
            if (is_held(names[i]) != (held == 1)) continue;
            char *path = file_join(context, source, names[i]);
            status = path ? add_file(&c, path, held) : CRANK_FAILED;
            crank_free(path);
        }
    if (status == CRANK_OK) status = write_part(context, folder, "train.txt", &c.train);
    if (status == CRANK_OK) status = write_part(context, folder, "held-out.txt", &c.held);
    for (size_t i = 0; i < count; i++) free(names[i]);
    free(names);
    free(c.seen.slots);
    text_clear(&c.train), text_clear(&c.held);
    return status;
}
