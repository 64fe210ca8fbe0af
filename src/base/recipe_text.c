/* recipe_text.c - a recipe as YAML text that loads to the same entries. */
#include <string.h>

#include "base/recipe_entries.h"
#include "base/text.h"
#include "base/utf8.h"

static bool is_alphanumeric(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'); }

/* True when the text means itself without quotes, in block and flow style. */
static bool is_bare(const char *text, size_t length)
{
    if (length == 0 || !(is_alphanumeric(text[0]) || strchr("_./+-", text[0]))) return false;
    if (!is_alphanumeric(text[0]) && length == 1 && text[0] != '_') return false;
    if (text[0] == '-' && !is_alphanumeric(text[1]) && text[1] != '.') return false;
    for (size_t i = 1; i < length; i++)
        if (!is_alphanumeric(text[i]) && !(text[i] && strchr("_./+-*@%", text[i]))) return false;
    if (length == 3 && strncmp(text, "...", 3) == 0) return false;
    return !(length == 4 && (strncmp(text, "null", 4) == 0 || strncmp(text, "Null", 4) == 0 || strncmp(text, "NULL", 4) == 0));
}

/* Code points that YAML readers refuse or fold when they stand bare between quotes */
static bool needs_escape(uint32_t code)
{
    return code < 0x20 || (code >= 0x7f && code < 0xa0) || code == 0x2028 || code == 0x2029 || code == 0xfeff ||
           (code & 0xfffe) == 0xfffe;
}

static void put_scalar(text_buffer *out, const char *text, size_t length)
{
    uint32_t code;
    if (is_bare(text, length)) {
        text_add(out, text, length);
        return;
    }
    text_putc(out, '"');
    for (size_t i = 0, size; i < length && (size = utf8_next(text + i, length - i, &code)); i += size) {
        if (code == '"' || code == '\\') text_printf(out, "\\%c", (int)code);
        else if (code == '\n') text_puts(out, "\\n");
        else if (code == '\t') text_puts(out, "\\t");
        else if (needs_escape(code)) text_printf(out, code > 0xffff ? "\\U%08x" : "\\u%04x", (unsigned)code);
        else text_add(out, text + i, size);
    }
    text_putc(out, '"');
}

/* "[a, b]" or "{k: v}" from lines */
static void put_lines(text_buffer *out, const char *lines, bool pairs)
{
    text_putc(out, pairs ? '{' : '[');
    for (const char *line = lines; *line;) {
        const char *end = strchrnul(line, '\n'), *mark = pairs ? memchr(line, '=', (size_t)(end - line)) : NULL;
        if (line != lines) text_puts(out, ", ");
        put_scalar(out, line, (size_t)((mark ? mark : end) - line));
        if (mark) {
            text_puts(out, ": ");
            put_scalar(out, mark + 1, (size_t)(end - mark - 1));
        }
        line = *end ? end + 1 : end;
    }
    text_putc(out, pairs ? '}' : ']');
}

static void put_entry(text_buffer *out, const recipe_entry *entry)
{
    text_puts(out, "  ");
    put_scalar(out, entry->key, strlen(entry->key));
    text_puts(out, ": ");
    switch (entry->shape) {
    case OPTION_NULL: text_puts(out, "null"); break;
    case OPTION_TEXT: put_scalar(out, entry->value, strlen(entry->value)); break;
    case OPTION_ITEMS: put_lines(out, entry->value, false); break;
    case OPTION_PAIRS: put_lines(out, entry->value, true); break;
    }
    text_putc(out, '\n');
}

char *crank_recipe_text(crank_context *context, const crank_recipe *recipe)
{
    text_buffer out = {0};
    for (size_t i = 0; i < recipe->section_count; i++) {
        put_scalar(&out, recipe->sections[i].name, strlen(recipe->sections[i].name));
        text_puts(&out, ":\n");
        for (size_t j = 0; j < recipe->entry_count; j++)
            if (recipe->entries[j].section == i) put_entry(&out, &recipe->entries[j]);
    }
    return text_take(context, &out, "a recipe's text");
}
