"""Writes src/data/unicode_tables.c: the character classes that the `tokenizers` library uses, asked of it one by one."""
import pathlib
from tokenizers import normalizers, pre_tokenizers

bert = dict(clean_text=False, handle_chinese_chars=False, strip_accents=False, lowercase=False)
clean = normalizers.BertNormalizer(**{**bert, "clean_text": True})
accents = normalizers.BertNormalizer(**{**bert, "strip_accents": True})
strip = normalizers.StripAccents()
punctuation = pre_tokenizers.Punctuation()


def removed(normalizer):
    return lambda c: normalizer.normalize_str("a" + chr(c) + "a") == "aa"


classes = [
    ("punctuation", lambda c: len(punctuation.pre_tokenize_str("a" + chr(c) + "a")) == 3),
    ("other", removed(clean)),
    ("nonspacing", removed(accents)),
    ("mark", removed(strip)),
]

head = """/* unicode_tables.c - character classes frozen as the `tokenizers` library has them.
 *
 * BERT's normaliser and the punctuation splitter of that library rest on fixed, older versions of the Unicode character
 * database. Ids must not change with the version of a system library, so the ranges stand here (sorted, inclusive).
 * Made by tests/oracle/unicode_tables.py. */
#include "data/unicode.h"
"""
lines, sizes = [head], []
for name, member in classes:
    ranges = []
    for c in range(0x110000):
        if 0xD800 <= c < 0xE000 or not member(c):
            continue
        if ranges and ranges[-1][1] == c - 1:
            ranges[-1][1] = c
        else:
            ranges.append([c, c])
    sizes.append(len(ranges))
    lines.append(f"const unicode_range unicode_table_{name}[] = {{")
    row = "   "
    for low, high in ranges:
        item = f" {{0x{low:X}, 0x{high:X}}},"
        if len(row) + len(item) > 120:
            lines.append(row)
            row = "   "
        row += item
    lines += [row, "};", ""]
lines.append("const size_t unicode_table_sizes[4] = {" + ", ".join(map(str, sizes)) + "};")
target = pathlib.Path(__file__).resolve().parents[2] / "src/data/unicode_tables.c"
target.write_text("\n".join(lines) + "\n")
