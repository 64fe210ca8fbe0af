/* completion.c - crank help --completion bash|zsh|fish: a completion script made from the tables that drive the program.
 *
 * All three complete verbs, options and their choices, `section.key=` of verbs that take recipe keys, the values of those keys, and
 * the names that `crank help` knows; everything else completes to files. */
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "cli/help.h"

/* Calls for everything that has a closed set of values: `who` is the verb, or NULL for a recipe key; values are separated by '|'. */
typedef void choice_visit(text_buffer *out, const char *who, const char *key, const char *values);

static void visit_table(text_buffer *out, choice_visit *visit, const char *who, const char *prefix, const crank_option *table)
{
    char key[192], name[128];
    for (const crank_option *o = table; o && o->name; o++) {
        const char *values = o->type == CRANK_OPTION_CHOICE ? o->choices : o->type == CRANK_OPTION_BOOL && !who ? "true|false" : NULL;
        if (!values) continue;
        snprintf(key, sizeof key, "%s%s", prefix, who ? help_flag(o->name, name, sizeof name) : o->name);
        visit(out, who, key, values);
    }
}

/* The section of "lowrank.method", with the dot. */
static void section_of(const char *recipe, char *out, size_t size)
{
    snprintf(out, size, "%.*s", (int)(strchr(recipe, '.') + 1 - recipe), recipe);
}

static void visit_recipe(text_buffer *out, choice_visit *visit)
{
    char       prefix[64];
    help_entry e;
    for (const help_section *section = help_sections; section->name; section++) {
        snprintf(prefix, sizeof prefix, "%s.", section->name);
        visit_table(out, visit, NULL, prefix, section->options);
    }
    for (const help_kind *kind = help_kinds; kind->name; kind++) {
        text_buffer names = {0};
        if (!kind->recipe) continue;
        for (size_t i = 0; kind->at(i, &e); i++) text_printf(&names, "%s%s", i ? "|" : "", e.name);
        if (names.bytes) visit(out, NULL, kind->recipe, names.bytes);
        text_clear(&names);
        section_of(kind->recipe, prefix, sizeof prefix);
        for (size_t i = 0; kind->at(i, &e); i++) visit_table(out, visit, NULL, prefix, e.options);
    }
}

/* Recipe keys, each once, separated by spaces, with `end` behind each. */
static void put_keys(text_buffer *out, const char *end)
{
    text_buffer seen = {0}; /* " key key " */
    char        key[192], prefix[64];
    help_entry  e;
    text_putc(&seen, ' ');
    for (const help_section *section = help_sections; section->name; section++)
        for (const crank_option *o = section->options; o && o->name; o++) text_printf(&seen, "%s.%s ", section->name, o->name);
    for (const help_kind *kind = help_kinds; kind->name; kind++) {
        if (!kind->recipe) continue;
        section_of(kind->recipe, prefix, sizeof prefix);
        snprintf(key, sizeof key, " %s ", kind->recipe);
        if (seen.bytes && !strstr(seen.bytes, key)) text_puts(&seen, key + 1);
        for (size_t i = 0; kind->at(i, &e); i++)
            for (const crank_option *o = e.options; o && o->name; o++) {
                snprintf(key, sizeof key, " %s%s ", prefix, o->name);
                if (seen.bytes && !strstr(seen.bytes, key)) text_puts(&seen, key + 1);
            }
    }
    for (const char *c = seen.bytes ? seen.bytes + 1 : ""; *c; c++) {
        if (*c == ' ') text_puts(out, end);
        if (*c != ' ' || c[1]) text_putc(out, *c);
    }
    out->failed |= seen.failed;
    text_clear(&seen);
}

static void put_names(text_buffer *out)
{
    help_entry e;
    for (size_t i = 0; cli_verbs[i]; i++) text_printf(out, "%s ", cli_verbs[i]->name);
    for (const help_section *section = help_sections; section->name; section++) text_printf(out, "%s ", section->name);
    for (const help_kind *kind = help_kinds; kind->name; kind++) {
        text_printf(out, "%s%s", kind == help_kinds ? "" : " ", kind->name);
        for (size_t i = 0; kind->at(i, &e); i++) text_printf(out, " %s", e.name);
    }
}

static bool takes_keys(const cli_verb *verb) { return strstr(verb->usage, "section.key=") != NULL; }

static void put_spaced(text_buffer *out, const char *values)
{
    for (; *values; values++) text_putc(out, *values == '|' ? ' ' : *values);
}

/* A text between single quotes: `escape` is what stands for a quote inside ("'\\''" in POSIX shells, "\\'" in fish). */
static void put_quoted(text_buffer *out, const char *text, const char *escape)
{
    text_putc(out, '\'');
    for (; *text; text++) {
        if (*text == '\'') text_puts(out, escape);
        else text_putc(out, *text);
    }
    text_putc(out, '\'');
}

/* ---- bash and zsh: the same three functions of words; the ends differ ---- */

static void shell_case(text_buffer *out, const char *who, const char *key, const char *values)
{
    text_printf(out, "    \"%s%s%s\") echo '", who ? who : "", who ? " --" : "", key);
    put_spaced(out, values);
    text_puts(out, "' ;;\n");
}

static void put_flags(text_buffer *out, const crank_option *table)
{
    char name[128];
    for (const crank_option *o = table; o && o->name; o++)
        text_printf(out, " --%s%s", help_flag(o->name, name, sizeof name), o->type == CRANK_OPTION_BOOL ? "" : "=");
}

static void put_tables(text_buffer *out)
{
    text_puts(out, "_crank_options() {\n    case $1 in\n");
    for (size_t i = 0; cli_verbs[i]; i++) {
        text_printf(out, "    %s) echo '", cli_verbs[i]->name);
        put_flags(out, cli_verbs[i]->options);
        text_puts(out, "' ;;\n");
    }
    text_puts(out, "    esac\n    echo '");
    put_flags(out, cli_common_options);
    text_puts(out, "'\n}\n\n_crank_values() {\n    case $1 in\n");
    for (size_t i = 0; cli_verbs[i]; i++) visit_table(out, shell_case, cli_verbs[i]->name, "", cli_verbs[i]->options);
    visit_recipe(out, shell_case);
    text_puts(out, "    esac\n}\n\n_crank_words() {\n    case $1 in\n    help) echo '");
    put_names(out);
    text_puts(out, "' ;;\n    ");
    size_t verbs = 0;
    for (size_t i = 0; cli_verbs[i]; i++)
        if (takes_keys(cli_verbs[i])) text_printf(out, "%s%s", verbs++ ? "|" : "", cli_verbs[i]->name);
    text_puts(out, verbs ? ") echo '" : "-) echo '");
    put_keys(out, "=");
    text_puts(out, "' ;;\n    esac\n}\n\n");
}

static const char bash_end[] =
    "_crank() {\n"
    "    local line=${COMP_LINE:0:COMP_POINT} verb=${COMP_WORDS[1]} word before= words= prefix=\n"
    "    word=${line##*[[:space:]]}\n"
    "    if [ \"$COMP_CWORD\" -gt 1 ]; then\n"
    "        before=${line%\"$word\"}; before=${before%\"${before##*[![:space:]]}\"}; before=${before##*[[:space:]]}\n"
    "    fi\n"
    "    COMPREPLY=()\n"
    "    if [ \"$COMP_CWORD\" -le 1 ]; then words=$_crank_verbs\n"
    "    elif [[ $word == *=* ]]; then\n"
    "        prefix=${word%%=*}=\n"
    "        words=$(_crank_values \"${prefix%=}\")$(_crank_values \"$verb ${prefix%=}\")\n"
    "        word=${word#*=}\n"
    "        [[ $COMP_WORDBREAKS == *=* ]] && prefix=\n"
    "    elif [[ $before == --* && -n $(_crank_values \"$verb $before\") ]]; then words=$(_crank_values \"$verb $before\")\n"
    "    elif [[ $word == -* ]]; then words=$(_crank_options \"$verb\")\n"
    "    else words=$(_crank_words \"$verb\")\n"
    "    fi\n"
    "    COMPREPLY=($(compgen -P \"$prefix\" -W \"$words\" -- \"$word\"))\n"
    "    [[ ${#COMPREPLY[@]} -eq 1 && $COMPREPLY == *= ]] && compopt -o nospace\n"
    "    return 0\n"
    "}\n"
    "complete -o bashdefault -o default -F _crank crank\n";

static const char zsh_end[] =
    "_crank() {\n"
    "    local verb=$words[2] word=$PREFIX before=$words[CURRENT-1] values\n"
    "    if (( CURRENT == 2 )); then _describe verb _crank_verbs; return; fi\n"
    "    if [[ $word == *=* ]]; then\n"
    "        values=\"$(_crank_values ${word%%=*})$(_crank_values \"$verb ${word%%=*}\")\"\n"
    "        compset -P '*='\n"
    "        if [[ -n $values ]]; then compadd -- ${=values}; else _files; fi\n"
    "    elif [[ $before == --* && -n $(_crank_values \"$verb $before\") ]]; then compadd -- ${=$(_crank_values \"$verb $before\")}\n"
    "    else\n"
    "        local -a all open closed\n"
    "        if [[ $word == -* ]]; then all=(${=$(_crank_options $verb)}); else all=(${=$(_crank_words $verb)}); fi\n"
    "        open=(${(M)all:#*=}) closed=(${all:#*=})\n"
    "        compadd -S '' -- $open\n"
    "        compadd -- $closed\n"
    "        [[ $word == -* ]] || _files\n"
    "    fi\n"
    "}\n"
    "if [[ $funcstack[1] == _crank ]]; then _crank \"$@\"; else compdef _crank crank; fi\n";

static void put_bash(text_buffer *out)
{
    text_puts(out, "# bash completion of crank, printed by `crank help --completion bash`\n_crank_verbs='");
    for (size_t i = 0; cli_verbs[i]; i++) text_printf(out, "%s%s", i ? " " : "", cli_verbs[i]->name);
    text_puts(out, "'\n\n");
    put_tables(out);
    text_puts(out, bash_end);
}

static void put_zsh(text_buffer *out)
{
    text_puts(out, "#compdef crank\n# zsh completion of crank, printed by `crank help --completion zsh`\n_crank_verbs=(\n");
    for (size_t i = 0; cli_verbs[i]; i++) {
        text_buffer line = {0};
        text_printf(&line, "%s:%s", cli_verbs[i]->name, cli_verbs[i]->summary);
        text_puts(out, "    ");
        if (line.bytes) put_quoted(out, line.bytes, "'\\''");
        text_putc(out, '\n');
        out->failed |= line.failed;
        text_clear(&line);
    }
    text_puts(out, ")\n\n");
    put_tables(out);
    text_puts(out, zsh_end);
}

/* ---- fish: one line for each word ---- */

static void fish_flags(text_buffer *out, const char *condition, const crank_option *table)
{
    char name[128];
    for (const crank_option *o = table; o && o->name; o++) {
        text_printf(out, "complete -c crank -n '%s' -l %s", condition, help_flag(o->name, name, sizeof name));
        if (o->type == CRANK_OPTION_CHOICE) {
            text_puts(out, " -x -a '");
            put_spaced(out, o->choices);
            text_putc(out, '\'');
        } else if (o->type != CRANK_OPTION_BOOL) {
            text_puts(out, " -r");
        }
        text_puts(out, " -d ");
        put_quoted(out, o->help, "\\'");
        text_putc(out, '\n');
    }
}

static void fish_values(text_buffer *out, const char *who, const char *key, const char *values)
{
    if (who) return;
    for (const char *at = values; *at;) {
        size_t length = strcspn(at, "|");
        text_printf(out, " %s=%.*s", key, (int)length, at);
        at += length + (at[length] == '|');
    }
}

static void put_fish(text_buffer *out)
{
    char condition[128];
    text_puts(out, "# fish completion of crank, printed by `crank help --completion fish`\n");
    for (size_t i = 0; cli_verbs[i]; i++) {
        const cli_verb *verb = cli_verbs[i];
        text_printf(out, "complete -c crank -f -n __fish_use_subcommand -a %s -d ", verb->name);
        put_quoted(out, verb->summary, "\\'");
        text_putc(out, '\n');
        snprintf(condition, sizeof condition, "__fish_seen_subcommand_from %s", verb->name);
        fish_flags(out, condition, verb->options);
        if (takes_keys(verb)) {
            text_printf(out, "complete -c crank -n '%s' -a '", condition);
            put_keys(out, "=");
            visit_recipe(out, fish_values);
            text_puts(out, "'\n");
        }
    }
    text_puts(out, "complete -c crank -f -n '__fish_seen_subcommand_from help' -a '");
    put_names(out);
    text_puts(out, "'\n");
    fish_flags(out, "not __fish_use_subcommand", cli_common_options);
}

char *help_completion(crank_context *context, const char *shell)
{
    text_buffer out = {0};
    if (!strcmp(shell, "bash")) put_bash(&out);
    else if (!strcmp(shell, "zsh")) put_zsh(&out);
    else put_fish(&out);
    return text_take(context, &out, "a completion script");
}
