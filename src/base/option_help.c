/* option_help.c - a table as help text, the closest valid name, and the elements of LIST and MAP values. */
#include <stdio.h>
#include <string.h>

#include "base/number.h"
#include "base/option_value.h"
#include "base/text.h"
#include "crank/option.h"

enum { LONGEST_NAME = 128 };

static size_t least(size_t a, size_t b) { return a < b ? a : b; }

/* Edit distance with transpositions of neighbours (optimal string alignment), three rows of the table at a time. Both
 * names are shorter than LONGEST_NAME. */
static size_t edit_distance(const char *a, const char *b)
{
    size_t rows[3][LONGEST_NAME], length = strlen(b);
    for (size_t j = 0; j <= length; j++) rows[0][j] = j;
    for (size_t i = 1; a[i - 1]; i++) {
        size_t *now = rows[i % 3], *last = rows[(i + 2) % 3], *before = rows[(i + 1) % 3];
        now[0] = i;
        for (size_t j = 1; j <= length; j++) {
            now[j] = least(least(last[j], now[j - 1]) + 1, last[j - 1] + (a[i - 1] != b[j - 1]));
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) now[j] = least(now[j], before[j - 2] + 1);
        }
    }
    return rows[strlen(a) % 3][length];
}

const char *crank_closest(const char *name, const char *const *names, size_t count)
{
    size_t      length = strlen(name), best_distance = length / 3 + 2;
    const char *best = NULL;
    if (length >= LONGEST_NAME) return NULL;
    for (size_t i = 0; i < count; i++) {
        if (strlen(names[i]) >= LONGEST_NAME) continue;
        size_t distance = edit_distance(name, names[i]);
        if (distance < best_distance && distance < length + (length == 0)) {
            best_distance = distance;
            best = names[i];
        }
    }
    return best;
}

void option_default_text(const crank_option *option, char *out, size_t size)
{
    char number[NUMBER_SIZE];
    switch (option->type) {
    case CRANK_OPTION_INT:
        snprintf(out, size, "%lld", (long long)option->initial);
        break;
    case CRANK_OPTION_FLOAT:
        number_print(option->initial, number);
        snprintf(out, size, "%s", number);
        break;
    case CRANK_OPTION_BOOL: snprintf(out, size, "%s", option->initial != 0 ? "true" : "false"); break;
    default:
        snprintf(out, size, "%s", option->text ? option->text : "-");
        for (char *c = out; *c; c++)
            if (*c == '\n') *c = ',';
        break;
    }
}

void option_range_text(const crank_option *option, char *out, size_t size)
{
    char low[NUMBER_SIZE], high[NUMBER_SIZE];
    switch (option->type) {
    case CRANK_OPTION_INT:
    case CRANK_OPTION_FLOAT:
        number_print(option->low, low);
        number_print(option->high, high);
        snprintf(out, size, "%s to %s", low, high);
        break;
    case CRANK_OPTION_BOOL: snprintf(out, size, "true|false"); break;
    case CRANK_OPTION_CHOICE: snprintf(out, size, "%s", option->choices); break;
    case CRANK_OPTION_LIST: snprintf(out, size, "list"); break;
    case CRANK_OPTION_MAP: snprintf(out, size, "mapping"); break;
    default: snprintf(out, size, "text"); break;
    }
}

/* A column is as wide as its widest cell, up to `limit`; wider cells push their row. */
static void widen(int *width, const char *cell, int limit)
{
    int length = (int)strlen(cell);
    if (length > *width && length <= limit) *width = length;
}

char *crank_options_help(crank_context *context, const crank_option *table)
{
    int         name_width = 4, default_width = 4, range_width = 4;
    char        initial[1024], range[1024];
    text_buffer help = {0};
    for (const crank_option *option = table; option->type != CRANK_OPTION_END; option++) {
        option_default_text(option, initial, sizeof initial);
        option_range_text(option, range, sizeof range);
        widen(&name_width, option->name, 32);
        widen(&default_width, initial, 24);
        widen(&range_width, range, 40);
    }
    for (const crank_option *option = table; option->type != CRANK_OPTION_END; option++) {
        option_default_text(option, initial, sizeof initial);
        option_range_text(option, range, sizeof range);
        text_printf(&help, "  %-*s  %-*s  %-*s  %s\n", name_width, option->name, default_width, initial, range_width, range,
                    option->help);
    }
    return text_take(context, &help, "help text");
}

static void cut(char *out, size_t size, const char *from, size_t length)
{
    if (!out || size == 0) return;
    length = length < size - 1 ? length : size - 1;
    memcpy(out, from, length);
    out[length] = 0;
}

bool crank_list_next(const char **cursor, char *key, size_t key_size, char *value, size_t value_size)
{
    if (!*cursor || !**cursor) return false;
    const char *line = *cursor, *end = strchrnul(line, '\n'), *mark = value ? memchr(line, '=', (size_t)(end - line)) : NULL;
    cut(key, key_size, line, (size_t)((mark ? mark : end) - line));
    if (value) cut(value, value_size, mark ? mark + 1 : "", mark ? (size_t)(end - mark - 1) : 0);
    *cursor = *end ? end + 1 : end;
    return true;
}
