/* scan_plain.c - the scan for splits, for any processor. */
#include "tree/scan_body.h"

void scan_numbers_plain(const packed *hist, int32_t bins, bool has_missing, const scan_leaf *leaf, double parent, split *best)
{
    scan_body(hist, bins, has_missing, leaf, parent, best);
}

void scan_output_plain(const packed *left, int m, packed both, double g_unit, double h_unit, double l1, double l2, double most, scan_wide *out)
{
    scan_output_body(left, m, both, g_unit, h_unit, l1, l2, most, out);
}
