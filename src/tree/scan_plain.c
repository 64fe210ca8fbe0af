/* scan_plain.c - the scan for splits, for any processor. */
#include "tree/scan_body.h"

void scan_numbers_plain(const packed *hist, int32_t bins, bool has_missing, const scan_leaf *leaf, double parent, split *best)
{
    scan_body(hist, bins, has_missing, leaf, parent, best);
}
