/* attach.c - puts a method on a set of linears: choice of targets, copies of options with rank and alpha patterns,
 * calibration, creation of parameters, the switches, and removal.
 *
 * A site enters the stack of its linear only when crank_attachment_finish has made its parameters: until then the model is the
 * one below. */
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "linear/stack.h"

/* ---- copies of options ---- */

static bool is_text(const crank_option *option) { return option->type >= CRANK_OPTION_STRING; }
static const char **text_field(const crank_option *option, void *options)
{
    return (const char **)(void *)((char *)options + option->offset);
}

/* The struct and the strings of its table in one block; crank_free. */
static void *copy_options(crank_context *context, const crank_map *map, const void *options)
{
    size_t bytes = (map->options_size + 7) & ~(size_t)7, strings = bytes;
    for (const crank_option *option = map->options; option && option->type != CRANK_OPTION_END; option++) {
        const char *text = is_text(option) ? *text_field(option, (void *)(uintptr_t)options) : NULL;
        if (text) bytes += strlen(text) + 1;
    }
    char *copy = crank_alloc(context, 1, bytes ? bytes : 1, "options of a method");
    if (!copy) return NULL;
    if (map->options_size) memcpy(copy, options, map->options_size);
    for (const crank_option *option = map->options; option && option->type != CRANK_OPTION_END; option++) {
        const char **field = is_text(option) ? text_field(option, copy) : NULL;
        if (!field || !*field) continue;
        size_t length = strlen(*field) + 1;
        *field = memcpy(copy + strings, *field, length);
        strings += length;
    }
    return copy;
}

/* Sets option `name` of the method to a pattern's value, checked against the option's range. */
static crank_status set_number(crank_context *context, const crank_map *map, void *options, const char *name, double value,
                               const char *path)
{
    const crank_option *option = map->options;
    while (option && option->type != CRANK_OPTION_END && strcmp(option->name, name) != 0) option++;
    if (!option || (option->type != CRANK_OPTION_INT && option->type != CRANK_OPTION_FLOAT))
        return crank_fail(context, CRANK_USAGE, "the method %s has no `%s` that a pattern could set", map->name, name);
    if (!(value >= option->low && value <= option->high) ||
        (option->type == CRANK_OPTION_INT && value != (double)(int64_t)value))
        return crank_fail(context, CRANK_USAGE, "%s: the pattern's %s %g must be a %snumber from %g to %g", path, name, value,
                          option->type == CRANK_OPTION_INT ? "whole " : "", option->low, option->high);
    void *field = (char *)options + option->offset;
    if (option->type == CRANK_OPTION_INT) *(int64_t *)field = (int64_t)value;
    else *(double *)field = value;
    return CRANK_OK;
}

/* Options of one site: the attachment's, or a copy of its own where a pattern hits. */
static crank_status site_options(crank_context *context, crank_attachment *attachment, int i)
{
    const char *path = attachment->sites[i].linear->name;
    bool        rank_found, alpha_found;
    double      rank = 0, alpha = 0;
    attachment->sites[i].options = attachment->options;
    if (target_pattern(context, attachment->where.rank_pattern, path, "rank_pattern", &rank_found, &rank) ||
        target_pattern(context, attachment->where.alpha_pattern, path, "alpha_pattern", &alpha_found, &alpha))
        return crank_last_status(context);
    if (!rank_found && !alpha_found) return CRANK_OK;
    void *own = attachment->site_options[i] = copy_options(context, attachment->map, attachment->options);
    if (!own) return CRANK_FAILED;
    attachment->sites[i].options = own;
    if (rank_found && set_number(context, attachment->map, own, "rank", rank, path)) return crank_last_status(context);
    if (alpha_found && set_number(context, attachment->map, own, "alpha", alpha, path)) return crank_last_status(context);
    return CRANK_OK;
}

static crank_status copy_where(crank_context *context, crank_attach_options *to, const crank_attach_options *from)
{
    const char *const in[] = { from->name ? from->name : "default",
                               from->targets ? from->targets : "all-linear",
                               from->exclude,
                               from->layers,
                               from->rank_pattern,
                               from->alpha_pattern,
                               from->modules };
    const char **const out[] = { &to->name,         &to->targets,       &to->exclude, &to->layers,
                                 &to->rank_pattern, &to->alpha_pattern, &to->modules };
    for (size_t i = 0; i < sizeof in / sizeof *in; i++)
        if (in[i] && !(*out[i] = crank_strdup(context, in[i]))) return CRANK_FAILED;
    return CRANK_OK;
}

/* ---- choice ---- */

typedef struct chooser {
    target_rule *targets, *exclude, *modules; /* the last two may be NULL */
    const char  *layers;
} chooser;

/* "layers" holds numbers, one a line. */
static crank_status check_layers(crank_context *context, const char *layers)
{
    for (const char *line = layers; line && *line;) {
        char *end;
        long  number = strtol(line, &end, 10);
        if (end == line || (*end && *end != '\n') || number < 0)
            return crank_fail(context, CRANK_USAGE, "layers: `%.*s` is not the number of a layer", (int)strcspn(line, "\n"),
                              line);
        line = *end ? end + 1 : end;
    }
    return CRANK_OK;
}

static bool layer_listed(const char *layers, int block)
{
    for (const char *line = layers; line && *line;) {
        char *end;
        if (strtol(line, &end, 10) == block) return true;
        line = *end ? end + 1 : end;
    }
    return false;
}

static crank_status chooser_open(crank_context *context, const crank_attach_options *where, chooser *choose)
{
    *choose = (chooser){ .layers = where->layers && *where->layers ? where->layers : NULL };
    if (!(choose->targets = target_rule_new(context, where->targets, "targets"))) return crank_last_status(context);
    if (where->exclude && *where->exclude && !(choose->exclude = target_rule_new(context, where->exclude, "exclude")))
        return crank_last_status(context);
    if (where->modules && *where->modules && !(choose->modules = target_rule_new(context, where->modules, "modules")))
        return crank_last_status(context);
    if (choose->layers && target_rule_is_regex(choose->targets))
        return crank_fail(context, CRANK_USAGE, "layers cannot be given beside a regex of targets: put the numbers into the "
                                                "regex, or give targets as a list");
    return check_layers(context, choose->layers);
}

static void chooser_close(chooser *choose)
{
    target_rule_free(choose->targets);
    target_rule_free(choose->exclude);
    target_rule_free(choose->modules);
}

static bool chosen(const chooser *choose, const crank_linear *linear)
{
    if (!target_rule_hits_linear(choose->targets, linear)) return false;
    if (choose->exclude && target_rule_hits_linear(choose->exclude, linear)) return false;
    if (choose->modules && target_rule_hits_module(choose->modules, linear->name)) return false; /* trained in full instead */
    return !choose->layers || layer_listed(choose->layers, linear->block);
}

static crank_status check_linear(crank_context *context, const crank_map *map, const crank_linear *linear)
{
    if (linear->kind == CRANK_LINEAR_EMBEDDING && !map->embeddings)
        return crank_fail(context, CRANK_USAGE, "%s is an embedding, and the method %s cannot stand on one: take it out of the "
                                                "targets, or add it to exclude",
                          linear->name, map->name);
    if (map->needs_base && strcmp(map->needs_base, "dense") == 0 && !linear->weight)
        return crank_fail(context, CRANK_USAGE, "%s: the method %s reads or changes the base weight itself and needs it dense%s", linear->name, map->name,
                          linear->quantized ? "; here it is held quantised: set model.weights to f32 or bf16, or take a method that leaves the base alone (lora)" : "");
    return CRANK_OK;
}

/* Makes the sites of the chosen linears, in the order of the model. */
static crank_status choose_sites(crank_context *context, crank_attachment *attachment, const chooser *choose)
{
    crank_linears *linears = attachment->linears;
    int            count = 0;
    for (size_t i = 0; i < linears->count; i++) count += chosen(choose, linears->items[i]);
    if (!count)
        return target_nothing(context, linears, attachment->where.targets,
                              choose->exclude || choose->layers ? " once `exclude` and `layers` are applied" : "");
    attachment->sites = crank_alloc(context, (size_t)count, sizeof *attachment->sites, "sites of a method");
    attachment->site_options = crank_alloc(context, (size_t)count, sizeof *attachment->site_options, "sites of a method");
    attachment->ended = crank_alloc(context, (size_t)count, sizeof *attachment->ended, "sites of a method");
    if (!attachment->sites || !attachment->site_options || !attachment->ended) return CRANK_FAILED;
    size_t state_size = attachment->map->state_size;
    for (size_t i = 0; i < linears->count; i++) {
        if (!chosen(choose, linears->items[i])) continue;
        crank_status status = check_linear(context, attachment->map, linears->items[i]);
        if (status) return status;
        crank_site *site = &attachment->sites[attachment->count];
        *site = (crank_site){ .linear = linears->items[i],
                              .model = attachment->model_state,
                              .index = attachment->count,
                              .count = count,
                              .seed = linears->seed };
        if (state_size && !(site->state = crank_alloc(context, 1, state_size, "state of a method"))) return CRANK_FAILED;
        attachment->count++;
        if ((status = site_options(context, attachment, site->index))) return status;
    }
    return CRANK_OK;
}

/* Modules that are trained in full: every parameter of the model that stands in one. */
static crank_status train_modules(crank_context *context, crank_attachment *attachment, const chooser *choose)
{
    crank_params *params = attachment->linears->params;
    size_t        found = 0;
    for (size_t i = 0; choose->modules && i < crank_params_count(params); i++) {
        crank_param *param = crank_params_at(params, i);
        if (param->role != CRANK_ROLE_WEIGHT || !target_rule_hits_module(choose->modules, param->name)) continue;
        found++;
        if (crank_site_train(context, &attachment->sites[0], param)) return CRANK_FAILED;
    }
    if (choose->modules && !found)
        return crank_fail(context, CRANK_USAGE, "modules: no parameter of the model stands in `%s`", attachment->where.modules);
    return CRANK_OK;
}

/* ---- the attachment ---- */

static crank_status check_name(crank_context *context, const crank_linears *linears, const crank_map *map, const char *name)
{
    if (!*name || strpbrk(name, "./\n"))
        return crank_fail(context, CRANK_USAGE, "`%s` cannot name an adapter: it must not be empty or hold '.' or '/'", name);
    for (size_t i = 0; i < linears->attachment_count; i++)
        if (strcmp(linears->attachments[i]->where.name, name) == 0)
            return crank_fail(context, CRANK_USAGE, "an adapter named `%s` (%s) is attached already: give %s another name",
                              name, linears->attachments[i]->map->name, map->name);
    return CRANK_OK;
}

static crank_status fill(crank_context *context, crank_attachment *attachment, const void *options,
                         const crank_attach_options *where)
{
    const crank_map *map = attachment->map;
    crank_status     status = copy_where(context, &attachment->where, where);
    if (status) return status;
    if (!(attachment->options = copy_options(context, map, options))) return CRANK_FAILED;
    if (map->model_state_size && !(attachment->model_state = crank_alloc(context, 1, map->model_state_size, map->name)))
        return CRANK_FAILED;
    chooser choose;
    status = chooser_open(context, &attachment->where, &choose);
    if (status == CRANK_OK) status = choose_sites(context, attachment, &choose);
    if (status == CRANK_OK) status = train_modules(context, attachment, &choose);
    chooser_close(&choose);
    return status;
}

crank_attachment *crank_attachment_new(crank_context *context, crank_linears *linears, const crank_map *map,
                                       const void *options, const crank_attach_options *where)
{
    if (check_name(context, linears, map, where->name ? where->name : "default")) return NULL;
    if (!stack_grow(context, &linears->attachments, linears->attachment_count, &linears->attachment_capacity,
                    sizeof *linears->attachments, "adapters"))
        return NULL;
    crank_attachment *attachment = crank_alloc(context, 1, sizeof *attachment, "an adapter");
    if (!attachment) return NULL;
    attachment->linears = linears;
    attachment->map = map;
    attachment->on = true;
    attachment->scale = 1;
    linears->attachments[linears->attachment_count++] = attachment;
    if (fill(context, attachment, options, where) == CRANK_OK) return attachment;
    crank_attachment_remove(attachment);
    return NULL;
}

/* ---- calibration ---- */

crank_status crank_attachment_observe(crank_context *context, crank_attachment *attachment, crank_linear *linear,
                                      const crank_observation *batch)
{
    if (!attachment->map->calibrate) return CRANK_OK;
    for (int i = 0; i < attachment->count; i++)
        if (attachment->sites[i].linear == linear && !attachment->ended[i]) {
            attachment->ended[i] = !batch;
            return attachment->map->calibrate(context, &attachment->sites[i], batch);
        }
    return CRANK_OK;
}

crank_status crank_site_rank(crank_context *context, crank_site *site, int64_t rank)
{
    crank_attachment   *attachment = site_attachment(site);
    const crank_option *option = attachment->map->options;
    int                 i = (int)(site - attachment->sites);
    while (option && option->type != CRANK_OPTION_END && strcmp(option->name, "rank") != 0) option++;
    if (!option || option->type != CRANK_OPTION_INT)
        return crank_fail(context, CRANK_USAGE, "the method %s has no `rank` that a site could have of its own", attachment->map->name);
    if (rank < 0 || (double)rank > option->high)
        return crank_fail(context, CRANK_USAGE, "%s: the rank %lld must lie between 0 and %g", site->linear->name, (long long)rank, option->high);
    char *lines = crank_format(context, "%s%s%s=%lld", attachment->ranks ? attachment->ranks : "", attachment->ranks ? "\n" : "", site->linear->name,
                               (long long)rank);
    if (!lines) return CRANK_FAILED;
    crank_free(attachment->ranks);
    attachment->ranks = lines;
    if (!attachment->site_options[i]) {
        attachment->site_options[i] = copy_options(context, attachment->map, site->options);
        if (!attachment->site_options[i]) return CRANK_FAILED;
        site->options = attachment->site_options[i];
    }
    *(int64_t *)(void *)((char *)attachment->site_options[i] + option->offset) = rank;
    return CRANK_OK;
}

char *crank_attachment_ranks(crank_context *context, const crank_attachment *attachment)
{
    return attachment->ranks ? crank_strdup(context, attachment->ranks) : NULL;
}

crank_status crank_attachment_set_ranks(crank_context *context, crank_attachment *attachment, const char *lines)
{
    for (const char *line = lines; line && *line;) {
        size_t      length = strcspn(line, "\n");
        const char *mark = memrchr(line, '=', length);
        char       *end;
        long long   rank = mark ? strtoll(mark + 1, &end, 10) : -1;
        int         i = 0;
        if (rank < 0 || end != line + length) return crank_fail(context, CRANK_BAD_DATA, "`%.*s` is not the rank of a linear", (int)length, line);
        while (i < attachment->count && (strlen(attachment->sites[i].linear->name) != (size_t)(mark - line) ||
                                         memcmp(attachment->sites[i].linear->name, line, (size_t)(mark - line)) != 0))
            i++;
        if (i == attachment->count)
            return crank_fail(context, CRANK_BAD_DATA, "the rank of %.*s is told, and the method does not stand on it", (int)(mark - line), line);
        if (crank_site_rank(context, &attachment->sites[i], rank)) return crank_last_status(context);
        line += length + (line[length] == '\n');
    }
    return CRANK_OK;
}

/* Sites of rank 0 go; the others keep their order. Nothing points at a site yet. */
static crank_status drop_empty(crank_context *context, crank_attachment *attachment)
{
    const crank_option *option = attachment->map->options;
    int                 kept = 0;
    while (option && option->type != CRANK_OPTION_END && strcmp(option->name, "rank") != 0) option++;
    if (!attachment->ranks || !option || option->type != CRANK_OPTION_INT) return CRANK_OK;
    for (int i = 0; i < attachment->count; i++) {
        crank_site *site = &attachment->sites[i];
        bool        empty = attachment->site_options[i] && *(const int64_t *)(const void *)((const char *)site->options + option->offset) == 0;
        if (empty) {
            if (attachment->map->release) attachment->map->release(site);
            crank_free(site->state);
            crank_free(attachment->site_options[i]);
            continue;
        }
        attachment->sites[kept] = *site;
        attachment->sites[kept].index = kept;
        attachment->site_options[kept++] = attachment->site_options[i];
    }
    for (int i = kept; i < attachment->count; i++) attachment->site_options[i] = NULL;
    attachment->count = kept;
    for (int i = 0; i < kept; i++) attachment->sites[i].count = kept;
    return kept ? CRANK_OK : crank_fail(context, CRANK_USAGE, "the method %s has rank 0 on every linear", attachment->map->name);
}

static crank_status push(crank_context *context, crank_attachment *attachment, crank_site *site)
{
    linear_stack *stack = stack_of(site->linear);
    if (stack->count == stack->capacity) {
        int   capacity = stack->capacity ? 2 * stack->capacity : 2;
        void *sites = realloc(stack->sites, (size_t)capacity * sizeof *stack->sites);
        if (sites) stack->sites = sites;
        void *attachments = realloc(stack->attachments, (size_t)capacity * sizeof *stack->attachments);
        if (attachments) stack->attachments = attachments;
        if (!sites || !attachments) return crank_fail(context, CRANK_FAILED, "out of memory: maps of %s", site->linear->name);
        stack->capacity = capacity;
    }
    stack->sites[stack->count] = site;
    stack->attachments[stack->count++] = attachment;
    return CRANK_OK;
}

crank_status crank_attachment_finish(crank_context *context, crank_attachment *attachment)
{
    const crank_map *map = attachment->map;
    crank_status     status = CRANK_OK;
    if (attachment->finished) return CRANK_OK;
    for (int i = 0; status == CRANK_OK && map->calibrate && map->observes && i < attachment->count; i++)
        if (!attachment->ended[i]) {
            attachment->ended[i] = true;
            status = map->calibrate(context, &attachment->sites[i], NULL);
        }
    if (status == CRANK_OK && map->allot) status = map->allot(context, attachment->sites, attachment->count);
    if (status == CRANK_OK) status = drop_empty(context, attachment);
    for (int i = 0; status == CRANK_OK && i < attachment->count; i++) status = map->attach(context, &attachment->sites[i]);
    for (int i = 0; status == CRANK_OK && i < attachment->count; i++)
        status = push(context, attachment, &attachment->sites[i]);
    attachment->finished = status == CRANK_OK;
    return status;
}

static void pop(crank_attachment *attachment, const crank_linear *linear)
{
    linear_stack *stack = stack_of(linear);
    int           kept = 0;
    for (int i = 0; i < stack->count; i++) {
        if (stack->attachments[i] == attachment) continue;
        stack->sites[kept] = stack->sites[i];
        stack->attachments[kept++] = stack->attachments[i];
    }
    stack->count = kept;
}

static void free_where(crank_attach_options *where)
{
    const char *const texts[] = { where->name,         where->targets,       where->exclude, where->layers,
                                  where->rank_pattern, where->alpha_pattern, where->modules };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) crank_free((void *)(uintptr_t)texts[i]);
}

void crank_attachment_remove(crank_attachment *attachment)
{
    crank_linears *linears = attachment->linears;
    for (int i = 0; i < attachment->count; i++) {
        pop(attachment, attachment->sites[i].linear);
        if (attachment->map->release) attachment->map->release(&attachment->sites[i]);
    }
    for (size_t i = attachment->trained_count; i-- > 0;) {
        attachment->trained[i].param->trainable = attachment->trained[i].before;
        attachment->trained[i].param->moved = false;
    }
    for (size_t i = 0; i < attachment->param_count; i++) crank_params_remove(linears->params, attachment->params[i]);
    for (int i = 0; i < attachment->count; i++) {
        crank_free(attachment->sites[i].state);
        crank_free(attachment->site_options[i]);
    }
    size_t at = 0;
    while (at < linears->attachment_count && linears->attachments[at] != attachment) at++;
    for (; at + 1 < linears->attachment_count; at++) linears->attachments[at] = linears->attachments[at + 1];
    linears->attachment_count--;
    bool merged = false;
    for (size_t i = 0; i < linears->attachment_count; i++) merged = merged || linears->attachments[i]->merged;
    if (attachment->merged && !merged) linears_forget_merge(linears);
    free_where(&attachment->where);
    free(attachment->params);
    free(attachment->trained);
    crank_free(attachment->sites);
    crank_free(attachment->ended);
    crank_free(attachment->ranks);
    crank_free(attachment->site_options);
    crank_free(attachment->options);
    crank_free(attachment->model_state);
    crank_free(attachment);
}

size_t crank_linears_attachments(const crank_linears *linears) { return linears->attachment_count; }
crank_attachment *crank_linears_attachment(const crank_linears *linears, size_t i)
{
    return i < linears->attachment_count ? linears->attachments[i] : NULL;
}
const crank_map *crank_attachment_map(const crank_attachment *attachment) { return attachment->map; }
const char      *crank_attachment_name(const crank_attachment *attachment) { return attachment->where.name; }
const void      *crank_attachment_options(const crank_attachment *attachment) { return attachment->options; }
const crank_attach_options *crank_attachment_where(const crank_attachment *attachment) { return &attachment->where; }

crank_site *crank_attachment_sites(crank_attachment *attachment, int *count)
{
    *count = attachment->count;
    return attachment->sites;
}

void crank_linears_bare(crank_linears *linears, bool bare) { linears->bare = bare; }

void crank_attachment_by_row(crank_attachment *attachment, bool by_row) { attachment->by_row = by_row; }

void crank_attachment_set(crank_attachment *attachment, bool on, double scale)
{
    attachment->on = on;
    attachment->scale = scale;
}
