/* manual.c - crank help --man: the page crank(1) in roff with the man macros, made from the tables that drive the program. */
#include <stdio.h>
#include <string.h>

#include "base/option_value.h"
#include "base/text.h"
#include "cli/help.h"

/* Text as roff shows it: no request at the start of a line, no escape, minus signs that can be copied. */
static void put(text_buffer *out, const char *text)
{
    bool start = true;
    for (; *text; text++) {
        if (start && (*text == '.' || *text == '\'')) text_puts(out, "\\&");
        if (*text == '\\') text_puts(out, "\\e");
        else if (*text == '-') text_puts(out, "\\-");
        else text_putc(out, *text);
        start = *text == '\n';
    }
}

static void put_heading(text_buffer *out, const char *macro, const char *title)
{
    text_printf(out, ".%s \"", macro);
    put(out, title);
    text_puts(out, "\"\n");
}

/* flags: "--max-new" instead of "max_new". */
static void put_options(text_buffer *out, const crank_option *table, bool flags)
{
    char name[128], initial[256], range[512];
    for (const crank_option *o = table; o && o->name; o++) {
        option_default_text(o, initial, sizeof initial);
        option_range_text(o, range, sizeof range);
        text_puts(out, ".TP\n\\fB");
        if (flags) put(out, "--");
        put(out, flags ? help_flag(o->name, name, sizeof name) : o->name);
        text_puts(out, "\\fR");
        if (!flags || o->type != CRANK_OPTION_BOOL) {
            text_puts(out, " \\fI");
            put(out, range);
            text_puts(out, "\\fR");
        }
        if (strcmp(initial, "-") && !(flags && o->type == CRANK_OPTION_BOOL)) {
            text_puts(out, " (default ");
            put(out, initial);
            text_puts(out, ")");
        }
        text_putc(out, '\n');
        put(out, o->help);
        text_putc(out, '\n');
    }
}

static void put_verbs(text_buffer *out)
{
    put_heading(out, "SH", "VERBS");
    for (size_t i = 0; cli_verbs[i]; i++) {
        const cli_verb *verb = cli_verbs[i];
        put_heading(out, "SS", verb->name);
        text_puts(out, "\\fBcrank ");
        put(out, verb->name);
        text_puts(out, "\\fR ");
        put(out, verb->usage);
        text_puts(out, "\n.PP\n");
        put(out, verb->summary);
        text_puts(out, ".\n");
        if (verb->details) {
            text_puts(out, ".PP\n");
            put(out, verb->details);
            text_putc(out, '\n');
        }
        put_options(out, verb->options, true);
    }
    put_heading(out, "SH", "OPTIONS OF EVERY VERB");
    put_options(out, cli_common_options, true);
}

static void put_recipe(text_buffer *out)
{
    put_heading(out, "SH", "RECIPES");
    put(out, "A recipe is a YAML file of sections; on the command line a key is written section.key=value and wins over the file. An unknown key or a "
             "value out of range is an error that names the key and its range.\n");
    for (const help_section *section = help_sections; section->name; section++) {
        text_puts(out, ".SS \"Section ");
        put(out, section->name);
        text_puts(out, "\"\n");
        put(out, section->summary);
        text_puts(out, ".\n");
        put_options(out, section->options, false);
    }
}

static void put_kind(text_buffer *out, const help_kind *kind)
{
    help_entry e;
    char       title[64];
    size_t     i = 0;
    for (; kind->summary[i] && i + 1 < sizeof title; i++) title[i] = kind->summary[i] >= 'a' && kind->summary[i] <= 'z' ? (char)(kind->summary[i] - 32) : kind->summary[i];
    title[i] = 0;
    put_heading(out, "SH", title);
    if (kind->recipe) {
        text_puts(out, "Chosen by \\fB");
        put(out, kind->recipe);
        text_puts(out, "\\fR; the options stand in the same section.\n");
    }
    for (i = 0; kind->at(i, &e); i++) {
        put_heading(out, "SS", e.name);
        put(out, e.summary);
        if (e.paper) {
            text_puts(out, " (");
            put(out, e.paper);
            text_putc(out, ')');
        }
        text_puts(out, ".\n");
        put_options(out, e.options, false);
    }
}

static void put_pairs(text_buffer *out, const char *title, const char *const (*pairs)[2])
{
    put_heading(out, "SH", title);
    for (; (*pairs)[0]; pairs++) {
        text_puts(out, ".TP\n\\fB");
        put(out, (*pairs)[0]);
        text_puts(out, "\\fR\n");
        put(out, (*pairs)[1]);
        text_putc(out, '\n');
    }
}

static const char *const exits[][2] = {
    {"0", "done"},
    {"1", "failed: memory, disk, device"},
    {"2", "wrong usage: the message names the option or key, its range, and the closest valid one"},
    {"3", "bad input data: the message names file, line or byte"},
    {"4", "it ran, but the claim or gate does not hold"},
    {"130", "stopped on request, with a checkpoint"},
    {NULL, NULL},
};

static const char *const variables[][2] = {
    {"OMP_NUM_THREADS", "threads where --threads is not given"},
    {"CRANK_ASSETS", "folder of the files that come with the program, instead of the one beside it"},
    {"CRANK_BODIES", "highest instruction set that kernels may use: plain, avx2, avx512, avx512bf16, amx"},
    {"HF_HUB_CACHE, HF_HOME, XDG_CACHE_HOME", "where fetched models are kept: the first that is set (HF_HOME/hub, XDG_CACHE_HOME/huggingface/hub), else ~/.cache/huggingface/hub"},
    {"HF_ENDPOINT, HF_TOKEN", "the hub that crank pull asks, and what it shows for private and gated models"},
    {"HF_HUB_OFFLINE", "1, ON, YES or TRUE: only the cache is looked at"},
    {"https_proxy, http_proxy, all_proxy, no_proxy", "as libcurl reads them"},
    {NULL, NULL},
};

char *help_man(crank_context *context)
{
    text_buffer out = {0};
    text_printf(&out, ".TH CRANK 1 \"\" \"crank %s\" \"User Commands\"\n", crank_version());
    put_heading(&out, "SH", "NAME");
    text_puts(&out, "crank \\- low\\-rank training of neural networks, and learning to rank\n");
    put_heading(&out, "SH", "SYNOPSIS");
    text_puts(&out, "\\fBcrank\\fR \\fIVERB\\fR [\\fIoptions\\fR] [\\fIwords\\fR]\n.br\n\\fBcrank \\-\\-version\\fR\n");
    put_heading(&out, "SH", "DESCRIPTION");
    put(&out, "Results go to standard output; progress, log lines and errors go to standard error. A long run shows one progress line on a terminal "
              "and none in a pipe. Ctrl-C stops it with a checkpoint, and the same command goes on from there.\n");
    put_verbs(&out);
    put_recipe(&out);
    for (const help_kind *kind = help_kinds; kind->name; kind++) put_kind(&out, kind);
    put_pairs(&out, "EXIT STATUS", exits);
    put_pairs(&out, "ENVIRONMENT", variables);
    return text_take(context, &out, "the man page");
}
