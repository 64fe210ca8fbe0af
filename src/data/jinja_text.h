/* jinja_text.h - Python's str on UTF-8: code points, white space, case, searching and splitting. */
#ifndef CRANK_DATA_JINJA_TEXT_H
#define CRANK_DATA_JINJA_TEXT_H

#include "data/jinja_value.h"

/* Length in bytes of the valid UTF-8 that `text` starts with: `length` when all of it is. */
size_t jinja_valid_utf8(const char *text, size_t length);
/* The code point at byte *at of valid text; moves *at behind it. */
uint32_t jinja_next_code(const char *text, size_t length, size_t *at);
uint32_t jinja_previous_code(const char *text, size_t *at); /* the one that ends at *at > 0; moves *at to its start */
size_t   jinja_code_count(const char *text, size_t length);
size_t   jinja_code_offset(const char *text, size_t length, size_t index); /* byte of code point `index` */

bool jinja_is_space(uint32_t code);
bool jinja_is_line_end(uint32_t code);
bool jinja_is_word(uint32_t code);      /* letter, number or _ */
bool jinja_is_letter(uint32_t code);
bool jinja_is_printable(uint32_t code);

typedef enum jinja_case { JINJA_UPPER, JINJA_LOWER, JINJA_TITLE, JINJA_CAPITALIZE, JINJA_SWAPCASE, JINJA_CASEFOLD } jinja_case;
jinja_value jinja_change_case(jinja_state *state, jinja_value text, jinja_case which);
typedef enum jinja_class {
    JINJA_ALPHA, JINJA_ALNUM, JINJA_DECIMAL, JINJA_DIGIT, JINJA_NUMERIC, JINJA_SPACE, JINJA_ISLOWER, JINJA_ISUPPER,
    JINJA_ISTITLE, JINJA_ASCII, JINJA_PRINTABLE, JINJA_IDENTIFIER
} jinja_class;
bool jinja_all(jinja_value text, jinja_class which); /* str.isalpha() and its family */

/* chars NULL: white space. left, right: which ends. */
jinja_value jinja_strip(jinja_state *state, jinja_value text, const jinja_value *chars, bool left, bool right);
/* Byte of the first (last) occurrence, -1: none. */
int64_t jinja_find(const jinja_value *text, const jinja_value *part, size_t from);
int64_t jinja_find_last(jinja_state *state, const jinja_value *text, const jinja_value *part);
/* Not overlapping; an empty part counts as Python counts it: code points + 1. */
int64_t     jinja_count(jinja_state *state, const jinja_value *text, const jinja_value *part);
jinja_value jinja_replace(jinja_state *state, jinja_value text, jinja_value from, jinja_value to, int64_t limit);
/* separator NULL: runs of white space. limit < 0: no limit. from_right: rsplit. */
jinja_list *jinja_split(jinja_state *state, jinja_value text, const jinja_value *separator, int64_t limit, bool from_right);
jinja_list *jinja_split_lines(jinja_state *state, jinja_value text, bool keep_ends);
jinja_value jinja_slice_text(jinja_state *state, jinja_value text, int64_t start, int64_t step, int64_t count);
jinja_value jinja_concat(jinja_state *state, jinja_value a, jinja_value b);
jinja_value jinja_escape(jinja_state *state, jinja_value text); /* & < > " ' for HTML; safe text stays */
jinja_value jinja_pad(jinja_state *state, jinja_value text, int64_t width, uint32_t fill, int align); /* <0 left >0 right 0 centre */
#endif
